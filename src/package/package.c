/* Opening, unpacking, copying, signing. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "internal.h"

/* ---- Opening ---- */

/* Names in a package's configuration stay inside the package. */
struct naming {
    const struct manifest *manifest;
    bool *read; /* layers that are read with the configuration, before there is a keep */
    char *error;
};

static bool name_stays(void *context, const char *name, bool directory) {
    struct naming *n = context;
    const char *from = !strncmp(name, "./", 2) ? name + 2 : name;
    if (!plain_path(from) && !(directory && !strcmp(name, ".")))
        return package_fail(n->error, "the configuration names \"%.200s\", which is outside the package", name);
    for (size_t i = 1; !directory && i < n->manifest->layer_count; i++)
        if (!strcmp(n->manifest->layers[i].title, from)) n->read[i] = true;
    return true;
}

/* Beside encrypted layers only what is read with the configuration may be plain: nobody can put a file of his own among
 * those that only somebody with the key has made. */
static bool names_fine(const struct manifest *m, char *error) {
    bool sealed = !strcmp(m->layers[0].media, SEALED_MODULE), ok = true;
    struct naming n = {m, calloc(m->layer_count, sizeof *n.read), error};
    if (!n.read) return package_fail(error, "out of memory");
    if (m->config_toml) ok = config_names(m->config_toml, strlen(m->config_toml), name_stays, &n, error);
    for (size_t i = 1; ok && sealed && i < m->layer_count; i++)
        if (strcmp(m->layers[i].media, SEALED_FILE) && !n.read[i])
            ok = package_fail(error, "%.200s is not encrypted, as the rest of the package is", m->layers[i].title);
    free(n.read);
    return ok;
}

/* What the content of a sealed layer will be, without opening it. */
static bool read_digest(const struct layer *l, const uint8_t *key, struct package_file *f, char *error) {
    if (!l->sealed_digest)
        return package_fail(error, "%s: the package does not say (%s) what its encrypted layers hold: pack it again",
                            l->digest, NOTE_DIGEST);
    return unseal_digest(key, l->title, l->sealed_digest, f->digest) ||
           package_fail(error, "%s: its %s is not of this key, or not this layer's", l->digest, NOTE_DIGEST);
}

static bool key_fits(const struct layer *l, const uint8_t *key, char *error) {
    char id[17];
    seal_key_id(key, id);
    return !l->key_id || !strcmp(l->key_id, id) ||
           package_fail(error, "the package is encrypted with another key: expected %.64s, found %s", l->key_id, id);
}

static bool open_layer(const struct layer *l, const uint8_t *key, struct package_file *f, char *error) {
    struct blob b = {f->data, f->size}, inner = {0};
    bool ok = unseal(key, l->media, l->title, &b, &inner);
    blob_free(&b);
    f->data = inner.data;
    f->size = inner.size;
    return ok ||
           package_fail(error, "%s: does not decrypt: the key is wrong, or the layer was made by somebody without it",
                        l->digest);
}

static bool read_layer(struct store *s, const struct layer *l, struct package_file *f, char *error) {
    const uint8_t *key = s->options->key;
    bool sealed = !strcmp(l->media, SEALED_MODULE) || !strcmp(l->media, SEALED_FILE);
    struct blob b;
    if (sealed && !key && !s->options->keep_sealed)
        return package_fail(error, "the package is encrypted, and no key was given (--decrypt-key FILE)");
    if (sealed && key && !key_fits(l, key, error)) return false;
    if (sealed && l->size < SEALED_MORE) return package_fail(error, "%s: too short for an encrypted layer", l->digest);
    if (!store_blob(s, l->digest, l->size, &b, error)) return false;
    f->data = b.data;
    f->size = b.size;
    f->sealed = sealed && s->options->keep_sealed;
    if (!sealed || (f->sealed && !key)) return true;
    return f->sealed ? read_digest(l, key, f, error) : open_layer(l, key, f, error);
}

static bool read_files(struct store *s, const struct manifest *m, struct package *p, char *error) {
    p->files = calloc(m->layer_count, sizeof *p->files);
    for (size_t i = 1; p->files && i < m->layer_count; i++) {
        struct package_file *f = &p->files[p->file_count++];
        f->path = strdup(m->layers[i].title);
        if (!f->path) return package_fail(error, "out of memory");
        if (!read_layer(s, &m->layers[i], f, error)) return false;
    }
    return p->files || package_fail(error, "out of memory");
}

/* Configuration and list of layers are plain, so that whoever keeps them could change them. */
static bool belongs_together(const struct store *s, const struct manifest *m, const struct package *p, char *error) {
    if (!p->encrypted || !s->options->key) return true;
    if (!m->sealed_package)
        return package_fail(error, "the package does not say (%s) what belongs together in it: pack it again",
                            NOTE_PACKAGE);
    return unseal_package(s->options->key, m) ||
           package_fail(error, "its configuration or its list of files was changed by somebody without the key");
}

static bool read_package(struct store *s, const struct manifest *m, struct package *p, char *error) {
    struct blob b;
    if (!manifest_is_package(m, error) || !names_fine(m, error)) return false;
    /* Nothing is taken from the config blob, but a package that lacks it is not whole. */
    if (!store_blob(s, m->config.digest, m->config.size, &b, error)) return false;
    blob_free(&b);
    store_say(s, "reading %zu layer%s", m->layer_count, m->layer_count == 1 ? "" : "s");
    p->encrypted = !strcmp(m->layers[0].media, SEALED_MODULE);
    if (!p->encrypted && s->options->key)
        return package_fail(error, "the package is not encrypted, though a key is given for it: it is another one");
    p->module.path = strdup("main.wasm");
    if (!p->module.path) return package_fail(error, "out of memory");
    if (!read_layer(s, &m->layers[0], &p->module, error)) return false;
    if (!p->module.sealed && (p->module.size < 8 || memcmp(p->module.data, "\0asm", 4)))
        return package_fail(error, "its first layer is no WebAssembly module");
    if (m->config_toml && !(p->config = strdup(m->config_toml))) return package_fail(error, "out of memory");
    p->config_size = p->config ? strlen(p->config) : 0;
    return read_files(s, m, p, error) && belongs_together(s, m, p, error);
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

static void free_file(struct package_file *f, bool encrypted) {
    free(f->path);
    if (f->data && encrypted && !f->sealed) OPENSSL_cleanse(f->data, f->size);
    free(f->data);
}

void package_free(struct package *p) {
    if (!p) return;
    for (size_t i = 0; i < p->file_count; i++)
        free_file(&p->files[i], p->encrypted);
    free_file(&p->module, p->encrypted);
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
    bool ok = write_below(root, "main.wasm", p->module.data, p->module.size, error) &&
              (!p->config || write_below(root, "Donjon.toml", p->config, p->config_size, error));
    for (size_t i = 0; ok && i < p->file_count; i++)
        ok = write_below(root, p->files[i].path, p->files[i].data, p->files[i].size, error);
    close(root);
    return ok;
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
