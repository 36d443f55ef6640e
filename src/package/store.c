/* Stores, checked: nothing leaves here whose size and digest are not what they should be. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"

struct store *store_open(const struct package_reference *r, const struct package_options *o, bool write, char *error) {
    return r->place == PACKAGE_LAYOUT ? layout_open(r, o, write, error) : registry_open(r, o, write, error);
}

void store_close(struct store *s) {
    if (s) s->ops->close(s);
}

bool store_manifest(struct store *s, const char *target, struct blob *out, char digest[PACKAGE_DIGEST], bool *missing,
                    char *error) {
    *missing = false;
    *out = (struct blob){0};
    if (!s->ops->get_manifest(s, target, out, missing, error)) return false;
    bool ok = digest_of(out->data, out->size, digest);
    if (ok && digest_valid(target) && strcmp(target, digest))
        ok = package_fail(error, "the manifest is not the one asked for: expected %s, found %s", target, digest);
    if (!ok) blob_free(out);
    return ok;
}

bool store_blob(struct store *s, const char *digest, uint64_t size, struct blob *out, char *error) {
    char found[PACKAGE_DIGEST];
    *out = (struct blob){0};
    if (!s->ops->get_blob(s, digest, size, out, error)) return false;
    bool ok = true;
    if (out->size != size)
        ok = package_fail(error, "%s: truncated or replaced: expected %llu bytes, found %zu", digest,
                          (unsigned long long)size, out->size);
    else if (!digest_of(out->data, out->size, found) || strcmp(found, digest))
        ok = package_fail(error, "other bytes than the manifest names: expected %s, found %s", digest, found);
    if (!ok) blob_free(out);
    return ok;
}

void store_say(const struct store *s, const char *format, ...) {
    char line[PACKAGE_ERROR];
    va_list args;
    if (!s->options->say) return;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    s->options->say(s->options->context, line);
}
