/* Opening, unpacking, copying, signing. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "internal.h"

/* ---- Opening ---- */

/* Names in a package's configuration stay inside the package. */
static bool name_stays(void *context, const char *name, bool directory) {
    char *error = context;
    const char *from = !strncmp(name, "./", 2) ? name + 2 : name;
    if (plain_path(from) || (directory && !strcmp(name, "."))) return true;
    return package_fail(error, "the configuration names \"%.200s\", which is outside the package", name);
}

static bool read_layer(struct store *s, const struct layer *l, struct blob *out, char *error) {
    const uint8_t *key = s->options->key;
    bool sealed = !strcmp(l->media, MEDIA_WASM_GCM) || !strcmp(l->media, MEDIA_FILE_GCM);
    char id[17] = "";
    struct blob inner;
    if (sealed && !key) return package_fail(error, "the package is encrypted, and no key was given");
    if (sealed) seal_key_id(key, id);
    if (sealed && l->key_id && strcmp(l->key_id, id))
        return package_fail(error, "the package is encrypted with another key: expected %.64s, found %s", l->key_id,
                            id);
    if (!store_blob(s, l->digest, l->size, out, error)) return false;
    if (!sealed) return true;
    bool ok = unseal(key, l->media, l->title, out, &inner);
    blob_free(out);
    if (!ok)
        return package_fail(
            error, "%s: does not decrypt: the key is wrong, or the layer was made by somebody without it", l->digest);
    *out = inner;
    return true;
}

static bool read_files(struct store *s, const struct manifest *m, struct package *p, char *error) {
    p->files = calloc(m->layer_count, sizeof *p->files);
    for (size_t i = 1; p->files && i < m->layer_count; i++) {
        struct blob b;
        if (!read_layer(s, &m->layers[i], &b, error)) return false;
        struct package_file *f = &p->files[p->file_count++];
        *f = (struct package_file){strdup(m->layers[i].title), b.data, b.size};
        if (!f->path) return package_fail(error, "out of memory");
    }
    return p->files || package_fail(error, "out of memory");
}

static bool read_package(struct store *s, const struct manifest *m, struct package *p, char *error) {
    struct blob b;
    if (!manifest_is_package(m, error)) return false;
    if (m->config_toml && !config_names(m->config_toml, strlen(m->config_toml), name_stays, error, error)) return false;
    /* Nothing is taken from the config blob, but a package that lacks it is not whole. */
    if (!store_blob(s, m->config.digest, m->config.size, &b, error)) return false;
    blob_free(&b);
    store_say(s, "reading %zu layers", m->layer_count);
    p->encrypted = !strcmp(m->layers[0].media, MEDIA_WASM_GCM);
    if (!read_layer(s, &m->layers[0], &b, error)) return false;
    p->module = b.data;
    p->module_size = b.size;
    if (b.size < 8 || memcmp(b.data, "\0asm", 4))
        return package_fail(error, "its first layer is no WebAssembly module");
    if (m->config_toml && !(p->config = strdup(m->config_toml))) return package_fail(error, "out of memory");
    p->config_size = p->config ? strlen(p->config) : 0;
    return read_files(s, m, p, error);
}

/* The manifest behind the reference, its signature checked before it is parsed. */
static bool resolve(struct store *s, struct blob *text, char digest[PACKAGE_DIGEST], char signer[80], char *error) {
    bool missing;
    const char *target = reference_target(s->reference);
    if (!store_manifest(s, target, text, digest, &missing, error)) return false;
    if (!digest_valid(target)) store_say(s, "%s is %s", target, digest);
    *signer = 0;
    if (!s->options->verify_key_count) return true;
    if (signature_check(s, digest, s->options, signer, error)) {
        store_say(s, "signed by %s", signer);
        return true;
    }
    blob_free(text);
    return false;
}

struct package *package_open(const char *reference, const struct package_options *o, char error[PACKAGE_ERROR]) {
    struct package_reference r;
    struct store *s = package_reference_read(reference, &r, error) ? store_open(&r, o, false, error) : NULL;
    struct package *p = s ? calloc(1, sizeof *p) : NULL;
    struct manifest m = {0};
    struct blob text = {0};
    bool ok = p && resolve(s, &text, p->digest, p->signer, error) && manifest_read(&m, text.data, text.size, error) &&
              read_package(s, &m, p, error);
    if (ok) package_reference_pinned(&r, p->digest, p->pinned);
    manifest_free(&m);
    blob_free(&text);
    store_close(s);
    if (ok) return p;
    package_free(p);
    return NULL;
}

static void free_plain(uint8_t *data, size_t size) {
    if (data) OPENSSL_cleanse(data, size);
    free(data);
}

void package_free(struct package *p) {
    if (!p) return;
    for (size_t i = 0; i < p->file_count; i++) {
        free(p->files[i].path);
        p->encrypted ? free_plain(p->files[i].data, p->files[i].size) : free(p->files[i].data);
    }
    p->encrypted ? free_plain(p->module, p->module_size) : free(p->module);
    free(p->files);
    free(p->config);
    free(p);
}

/* ---- Unpacking ---- */

/* Makes the directories above and the file, following no link. */
static bool write_below(int root, const char *path, const void *data, size_t size, char *error) {
    char part[PACKAGE_NAME_MAX + 1];
    int dir = dup(root);
    for (const char *slash; dir >= 0 && (slash = strchr(path, '/')); path = slash + 1) {
        snprintf(part, sizeof part, "%.*s", (int)(slash - path), path);
        int inner = mkdirat(dir, part, 0755) && errno != EEXIST
                        ? -1
                        : openat(dir, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        close(dir);
        dir = inner;
    }
    bool ok = dir >= 0 && write_new(dir, path, data, size);
    if (!ok) package_fail(error, "%s: %s", path, strerror(errno));
    if (dir >= 0) close(dir);
    return ok;
}

bool package_unpack(const struct package *p, const char *directory, char error[PACKAGE_ERROR]) {
    if (!package_directory_is_new(directory, error)) return false;
    if (mkdir(directory, 0755) && errno != EEXIST) return package_fail(error, "%.300s: %s", directory, strerror(errno));
    int root = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0) return package_fail(error, "%.300s: %s", directory, strerror(errno));
    /* Whatever comes into it meanwhile is left alone: every file is new or the end. */
    bool ok = write_below(root, "main.wasm", p->module, p->module_size, error) &&
              (!p->config || write_below(root, "Donjon.toml", p->config, p->config_size, error));
    for (size_t i = 0; ok && i < p->file_count; i++)
        ok = write_below(root, p->files[i].path, p->files[i].data, p->files[i].size, error);
    close(root);
    return ok;
}

bool package_unpack_temporary(const struct package *p, char directory[PACKAGE_PATH], char error[PACKAGE_ERROR]) {
    const char *run = getenv("XDG_RUNTIME_DIR"), *tmp = getenv("TMPDIR");
    if (!run || *run != '/' || access(run, W_OK)) run = tmp && *tmp == '/' ? tmp : "/tmp";
    int n = snprintf(directory, PACKAGE_PATH, "%s/donjon-package-XXXXXX", run);
    if (n >= PACKAGE_PATH || !mkdtemp(directory)) return package_fail(error, "%.300s: %s", run, strerror(errno));
    if (package_unpack(p, directory, error)) return true;
    package_remove(directory);
    return false;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at) {
    (void)st, (void)kind, (void)at;
    return remove(path), 0;
}

void package_remove(const char *directory) {
    enum { DESCRIPTORS = 16 };
    nftw(directory, remove_one, DESCRIPTORS, FTW_DEPTH | FTW_PHYS);
}

/* ---- Copying ---- */

static bool copy_blob(struct store *from, struct store *to, const struct layer *l, char *error) {
    struct blob b;
    if (!store_blob(from, l->digest, l->size, &b, error)) return false;
    bool ok = to->ops->put_blob(to, l->digest, b.data, b.size, error);
    blob_free(&b);
    return ok;
}

/* A manifest and all it names, under `tag`. */
static bool copy_all(struct store *from, struct store *to, const struct blob *text, const char *digest, const char *tag,
                     char *error) {
    struct manifest m;
    bool ok = manifest_read(&m, text->data, text->size, error) && copy_blob(from, to, &m.config, error);
    for (size_t i = 0; ok && i < m.layer_count; i++) {
        store_say(to, "layer %zu of %zu: %llu bytes", i + 1, m.layer_count, (unsigned long long)m.layers[i].size);
        ok = copy_blob(from, to, &m.layers[i], error);
    }
    manifest_free(&m);
    return ok && to->ops->put_manifest(to, tag, digest, text->data, text->size, error);
}

static bool copy_signatures(struct store *from, struct store *to, const char *digest, char *error) {
    char tag[PACKAGE_DIGEST + 8], own[PACKAGE_DIGEST];
    struct blob text;
    bool missing;
    signature_tag(digest, tag);
    if (!store_manifest(from, tag, &text, own, &missing, error)) return missing;
    bool ok = copy_all(from, to, &text, own, tag, error);
    blob_free(&text);
    return ok;
}

bool package_copy(const struct package_reference *from, const struct package_reference *to,
                  const struct package_options *o, char digest[PACKAGE_DIGEST], char error[PACKAGE_ERROR]) {
    char signer[80];
    struct blob text = {0};
    struct manifest m = {0};
    struct store *a = store_open(from, o, false, error), *b = a ? store_open(to, o, true, error) : NULL;
    bool ok = b && resolve(a, &text, digest, signer, error);
    if (ok && *to->digest && strcmp(to->digest, digest))
        ok = package_fail(error, "the package is %s, not the digest it should go to", digest);
    ok = ok && manifest_read(&m, text.data, text.size, error) && manifest_is_package(&m, error) &&
         copy_all(a, b, &text, digest,
                  *to->tag     ? to->tag
                  : *from->tag ? from->tag
                               : "latest",
                  error) &&
         copy_signatures(a, b, digest, error);
    manifest_free(&m);
    blob_free(&text);
    store_close(a);
    store_close(b);
    return ok;
}

bool package_sign(const struct package_reference *r, const char *key_file, const struct package_options *o,
                  char digest[PACKAGE_DIGEST], char error[PACKAGE_ERROR]) {
    struct blob text = {0};
    bool missing;
    struct store *s = store_open(r, o, true, error);
    bool ok = s && store_manifest(s, reference_target(r), &text, digest, &missing, error);
    if (ok && !*r->digest) store_say(s, "%s is %s", reference_target(r), digest);
    blob_free(&text);
    ok = ok && signature_add(s, digest, key_file, error);
    store_close(s);
    return ok;
}
