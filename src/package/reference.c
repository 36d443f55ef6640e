/* References, digests, names. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "internal.h"

bool package_fail(char error[PACKAGE_ERROR], const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(error, PACKAGE_ERROR, format, args);
    va_end(args);
    return false;
}

void blob_free(struct blob *b) {
    free(b->data);
    *b = (struct blob){0};
}

bool blob_append(struct blob *b, size_t *capacity, const void *data, size_t size, uint64_t most) {
    if (size > most || b->size > most - size) return false;
    if (b->size + size > *capacity) {
        size_t wanted = (b->size + size) * 2;
        uint8_t *grown = realloc(b->data, wanted);
        if (!grown) return false;
        b->data = grown;
        *capacity = wanted;
    }
    if (size) memcpy(b->data + b->size, data, size);
    b->size += size;
    return true;
}

bool write_new(int dir, const char *name, const void *data, size_t size) {
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    bool ok = fd >= 0;
    for (size_t done = 0; ok && done < size;) {
        ssize_t put = write(fd, (const uint8_t *)data + done, size - done);
        ok = put > 0;
        if (ok) done += (size_t)put;
    }
    ok = ok && !fsync(fd);
    int why = errno;
    if (fd >= 0) close(fd);
    if (!ok && fd >= 0) unlinkat(dir, name, 0);
    errno = why;
    return ok;
}

bool digest_of(const void *data, size_t size, char digest[PACKAGE_DIGEST]) {
    uint8_t bytes[32];
    if (EVP_Digest(data, size, bytes, NULL, EVP_sha256(), NULL) != 1) return false;
    memcpy(digest, "sha256:", 7);
    for (int i = 0; i < 32; i++)
        snprintf(digest + 7 + 2 * i, 3, "%02x", bytes[i]);
    return true;
}

bool digest_valid(const char *text) {
    return !strncmp(text, "sha256:", 7) && strlen(text) == PACKAGE_DIGEST - 1 &&
           strspn(text + 7, "0123456789abcdef") == 64;
}

bool plain_path(const char *path) {
    size_t size = strlen(path);
    if (!size || size >= 1024 || path[0] == '/' || path[size - 1] == '/') return false;
    for (const char *part = path; part; part = strchr(part, '/'), part = part ? part + 1 : NULL) {
        size_t n = strcspn(part, "/");
        if (!n || n > PACKAGE_NAME_MAX || (n == 1 && part[0] == '.') || (n == 2 && part[0] == '.' && part[1] == '.'))
            return false;
        for (size_t i = 0; i < n; i++)
            if ((unsigned char)part[i] < 0x20 || part[i] == 0x7f || part[i] == '\\') return false;
    }
    return true;
}

/* OCI distribution: [a-zA-Z0-9_][a-zA-Z0-9._-]{0,127} */
bool reference_tag_valid(const char *tag) {
    size_t size = strlen(tag);
    if (!size || size > 128 || tag[0] == '.' || tag[0] == '-') return false;
    for (size_t i = 0; i < size; i++)
        if (!isalnum((unsigned char)tag[i]) && !strchr("._-", tag[i])) return false;
    return true;
}

/* Parts of lower-case letters and digits, joined by '.', '_', "__" or hyphens, between slashes. */
static bool name_valid(const char *name) {
    bool joint = true; /* a letter or digit must come */
    for (const char *c = name; *c; c++) {
        bool letter = (*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9');
        if (!letter && !strchr("._-/", *c)) return false;
        if (!letter && joint && !(c > name && c[-1] == *c && (*c == '-' || *c == '_'))) return false;
        joint = !letter;
    }
    return *name && !joint && strlen(name) <= PACKAGE_NAME_MAX;
}

/* A name with a dot or a port, or localhost: "shop/app" is nobody's registry. */
static bool host_valid(const char *host) {
    size_t size = strlen(host), name = strcspn(host, ":");
    bool bracket = host[0] == '[';
    if (!size || size > 255 || host[0] == '.' || host[0] == '-') return false;
    for (const char *c = host; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr(".-:[]", *c)) return false;
    return bracket || name < size || memchr(host, '.', name) || !strcmp(host, "localhost");
}

static bool is_layout(const char *path) {
    char inner[PACKAGE_PATH + 16];
    struct stat st;
    snprintf(inner, sizeof inner, "%s/oci-layout", path);
    return !stat(inner, &st) && S_ISREG(st.st_mode);
}

/* Cuts "@sha256:..." and ":TAG" off the end. A colon before a slash is a port's. */
static bool cut_end(char *text, struct package_reference *r, char error[PACKAGE_ERROR]) {
    char *at = strrchr(text, '@');
    if (at) {
        *at = 0;
        if (!digest_valid(at + 1))
            return package_fail(error, "expected @sha256: and 64 hexadecimal digits, found \"%.100s\"", at + 1);
        memcpy(r->digest, at + 1, PACKAGE_DIGEST);
    }
    char *colon = strrchr(text, ':');
    if (!colon || strchr(colon, '/')) return true;
    *colon = 0;
    if (!reference_tag_valid(colon + 1)) return package_fail(error, "\"%.140s\" is no tag", colon + 1);
    snprintf(r->tag, sizeof r->tag, "%s", colon + 1);
    return true;
}

bool package_reference_read(const char *text, struct package_reference *r, char error[PACKAGE_ERROR]) {
    char copy[PACKAGE_PATH];
    memset(r, 0, sizeof *r);
    bool named = !strncmp(text, "oci:", 4);
    if (strlen(text) >= sizeof copy) return package_fail(error, "the reference is too long");
    snprintf(copy, sizeof copy, "%s", text + (named ? 4 : 0));
    if (!named && is_layout(copy)) {
        snprintf(r->path, sizeof r->path, "%s", copy); /* a colon in it is its own */
        return true;
    }
    if (!cut_end(copy, r, error)) return false;
    if (named || is_layout(copy)) {
        if (!*copy) return package_fail(error, "oci: needs a directory");
        snprintf(r->path, sizeof r->path, "%s", copy);
        return true;
    }
    r->place = PACKAGE_REGISTRY;
    char *slash = strchr(copy, '/');
    if (slash) *slash = 0;
    if (!slash || !host_valid(copy))
        return package_fail(error,
                            "\"%.200s\": expected a layout directory (oci:DIR) or a registry's "
                            "HOST/NAME[:TAG][@sha256:...]; there is no default registry",
                            text);
    if (!name_valid(slash + 1)) return package_fail(error, "\"%.200s\" is no repository's name", slash + 1);
    snprintf(r->host, sizeof r->host, "%s", copy);
    snprintf(r->name, sizeof r->name, "%s", slash + 1);
    return true;
}

bool package_is_reference(const char *text) {
    struct package_reference r;
    char error[PACKAGE_ERROR];
    if (!strncmp(text, "oci:", 4) || is_layout(text)) return true;
    return access(text, F_OK) && package_reference_read(text, &r, error);
}

const char *package_reference_pinned(const struct package_reference *r, const char *digest, char out[PACKAGE_PATH]) {
    if (r->place == PACKAGE_LAYOUT)
        snprintf(out, PACKAGE_PATH, "oci:%.3000s@%s", r->path, digest);
    else
        snprintf(out, PACKAGE_PATH, "%s/%s@%s", r->host, r->name, digest);
    return out;
}

const char *reference_target(const struct package_reference *r) {
    return *r->digest ? r->digest : *r->tag ? r->tag : "latest";
}
