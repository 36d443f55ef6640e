/* Packing: a directory with main.wasm and Donjon.toml, and the files that the configuration names, into a layout. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <dirent.h>
#include <unistd.h>

#include "internal.h"

enum { DEPTH_MAX = 32 };

struct packing {
    int app; /* its directory, or -1 */
    const struct package_options *options;
    struct store *store;
    struct manifest manifest;
    char *names[PACKAGE_FILES_MAX];
    bool plain[PACKAGE_FILES_MAX]; /* read with the configuration, and as little a secret as that: never encrypted */
    size_t name_count;
    char *error;
};

/* ---- Reading what is packed ---- */

static bool read_fd(int fd, const char *name, uint64_t most, struct blob *out, char *error) {
    struct stat st;
    size_t capacity = 0;
    static uint8_t part[1 << 16];
    *out = (struct blob){0};
    if (fstat(fd, &st) || !S_ISREG(st.st_mode)) return package_fail(error, "%.300s: expected a file", name);
    for (ssize_t got; (got = read(fd, part, sizeof part));) {
        if (got > 0 && blob_append(out, &capacity, part, (size_t)got, most)) continue;
        blob_free(out);
        return package_fail(error, "%.300s: %s", name, got < 0 ? strerror(errno) : "too large");
    }
    return true;
}

/* Files of the application are its owner's: links inside it are followed as everywhere. */
static bool read_name(int dir, const char *name, uint64_t most, struct blob *out, char *error) {
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) return package_fail(error, "%.300s: %s", name, strerror(errno));
    bool ok = read_fd(fd, name, most, out, error);
    close(fd);
    return ok;
}

/* ---- Which files ---- */

static bool add_name(struct packing *p, const char *name, bool plain) {
    size_t i = 0;
    while (i < p->name_count && strcmp(p->names[i], name))
        i++;
    if (i == PACKAGE_FILES_MAX) return package_fail(p->error, "more than %d files", PACKAGE_FILES_MAX);
    if (i == p->name_count) {
        if (!(p->names[i] = strdup(name))) return package_fail(p->error, "out of memory");
        p->plain[i] = false;
        p->name_count++;
    }
    p->plain[i] |= plain;
    return true;
}

static bool add_tree(struct packing *p, const char *name, int depth) {
    int fd = openat(p->app, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir && fd >= 0) close(fd);
    if (!dir || !depth) {
        if (dir) closedir(dir);
        return package_fail(p->error, "%.300s: %s", name, depth ? strerror(errno) : "directories too deep");
    }
    bool ok = true;
    for (struct dirent *e; ok && (e = readdir(dir));) {
        char inner[PACKAGE_PATH];
        struct stat st;
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        snprintf(inner, sizeof inner, "%s/%s", name, e->d_name);
        if (!plain_path(inner) || fstatat(p->app, inner, &st, AT_SYMLINK_NOFOLLOW))
            ok = package_fail(p->error, "%.300s: not a name a package can hold", inner);
        else if (S_ISDIR(st.st_mode))
            ok = add_tree(p, inner, depth - 1);
        else if (S_ISREG(st.st_mode))
            ok = add_name(p, inner, false);
        else
            ok = package_fail(p->error, "%.300s: packages hold files and directories only", inner);
    }
    closedir(dir);
    return ok;
}

static bool take_name(void *context, const char *name, bool directory) {
    struct packing *p = context;
    struct stat st;
    while (!strncmp(name, "./", 2))
        name += 2;
    if (!plain_path(name))
        return package_fail(
            p->error,
            "the configuration names \"%.200s\": a package holds only what is below its directory, so copy it there",
            name);
    if (fstatat(p->app, name, &st, 0))
        return package_fail(p->error, "the configuration names \"%.200s\": %s", name, strerror(errno));
    return directory && S_ISDIR(st.st_mode) ? add_tree(p, name, DEPTH_MAX) : add_name(p, name, !directory);
}

/* ---- Layers ---- */

/* `sealed_media` NULL: never encrypted. */
static bool put_layer(struct packing *p, const char *media, const char *sealed_media, struct blob *b,
                      const char *title) {
    const uint8_t *key = sealed_media ? p->options->key : NULL;
    struct blob sealed = {0};
    char id[17], digest[SEALED_NOTE];
    if (key) seal_key_id(key, id);
    if (key && (!seal(key, sealed_media, title, b->data, b->size, &sealed) ||
                !seal_digest(key, title, b->data, b->size, digest))) {
        blob_free(&sealed);
        return package_fail(p->error, "encryption failed");
    }
    const struct blob *out = key ? &sealed : b;
    bool ok = out->size <= PACKAGE_BLOB_MAX || package_fail(p->error, "%.300s: too large", title ? title : "main.wasm");
    if (ok && !manifest_add(&p->manifest, key ? sealed_media : media, out->data, out->size, title, key ? id : NULL,
                            key ? digest : NULL))
        ok = package_fail(p->error, "out of memory");
    ok = ok && p->store->ops->put_blob(p->store, p->manifest.layers[p->manifest.layer_count - 1].digest, out->data,
                                       out->size, p->error);
    blob_free(&sealed);
    return ok;
}

static bool put_module(struct packing *p, const char *app) {
    struct blob b;
    bool ok = p->app >= 0 ? read_name(p->app, "main.wasm", PACKAGE_BLOB_MAX, &b, p->error)
                          : read_name(AT_FDCWD, app, PACKAGE_BLOB_MAX, &b, p->error);
    if (!ok) return false;
    /* Version 1, layer 0: a core module. */
    if (b.size < 8 || memcmp(b.data, "\0asm\1\0\0\0", 8))
        ok = package_fail(p->error, "%.300s: expected a WebAssembly core module", p->app >= 0 ? "main.wasm" : app);
    /* A title is what tools like oras name a layer's file by; an encrypted module is sealed under none. */
    ok = ok && put_layer(p, MEDIA_WASM, SEALED_MODULE, &b, p->options->key ? NULL : "main.wasm");
    blob_free(&b);
    return ok;
}

static bool put_config(struct packing *p) {
    struct blob b;
    bool donjon = p->app >= 0 && !faccessat(p->app, "Donjon.toml", F_OK, 0),
         enarx = p->app >= 0 && !donjon && !faccessat(p->app, "Enarx.toml", F_OK, 0);
    if (!donjon && !enarx) return true;
    if (!read_name(p->app, donjon ? "Donjon.toml" : "Enarx.toml", PACKAGE_CONFIG_MAX, &b, p->error)) return false;
    bool ok = !b.size || !memchr(b.data, 0, b.size);
    if (!ok) package_fail(p->error, "the configuration: a NUL in it");
    ok = ok && config_names((const char *)b.data, b.size, take_name, p, p->error);
    p->manifest.config_toml = ok ? strndup(b.data ? (const char *)b.data : "", b.size) : NULL;
    blob_free(&b);
    return ok && p->manifest.config_toml;
}

static int by_name(const void *a, const void *b, void *context) {
    char **names = ((struct packing *)context)->names;
    return strcmp(names[*(const size_t *)a], names[*(const size_t *)b]);
}

static bool put_files(struct packing *p) {
    size_t order[PACKAGE_FILES_MAX];
    for (size_t i = 0; i < p->name_count; i++)
        order[i] = i;
    qsort_r(order, p->name_count, sizeof *order, by_name, p);
    for (size_t k = 0; k < p->name_count; k++) {
        size_t i = order[k];
        struct blob b;
        if (!read_name(p->app, p->names[i], PACKAGE_BLOB_MAX, &b, p->error)) return false;
        bool ok = put_layer(p, MEDIA_FILE, p->plain[i] ? NULL : SEALED_FILE, &b, p->names[i]);
        blob_free(&b);
        if (!ok) return false;
    }
    return true;
}

/* When all else is in the manifest. */
static bool put_package_note(struct packing *p) {
    char note[SEALED_NOTE];
    if (!p->options->key) return true;
    return (seal_package(p->options->key, &p->manifest, note) && (p->manifest.sealed_package = strdup(note))) ||
           package_fail(p->error, "encryption failed");
}

static bool put_manifest(struct packing *p, const struct package_reference *to, char digest[PACKAGE_DIGEST]) {
    struct manifest *m = &p->manifest;
    char *config = manifest_wasm_config(m);
    bool ok = config && digest_of(config, strlen(config), m->config.digest);
    snprintf(m->config.media, sizeof m->config.media, "%s", MEDIA_CONFIG);
    m->config.size = config ? strlen(config) : 0;
    char *text = ok ? manifest_write(m) : NULL;
    ok = text && digest_of(text, strlen(text), digest);
    if (!ok) package_fail(p->error, "the configuration is not UTF-8, or out of memory");
    struct manifest again = {0};
    ok = ok && manifest_read(&again, text, strlen(text), p->error) && /* what cannot be read is not written */
         p->store->ops->put_blob(p->store, m->config.digest, config, strlen(config), p->error) &&
         p->store->ops->put_manifest(p->store, *to->tag ? to->tag : "latest", digest, text, strlen(text), p->error);
    manifest_free(&again);
    free(config);
    free(text);
    return ok;
}

bool package_pack(const char *app, const struct package_reference *to, const struct package_options *o,
                  char digest[PACKAGE_DIGEST], char error[PACKAGE_ERROR]) {
    struct stat st;
    struct packing *p = calloc(1, sizeof *p);
    if (!p) return package_fail(error, "out of memory");
    *p = (struct packing){.app = -1, .options = o, .error = error};
    bool ok = !stat(app, &st) || package_fail(error, "%.300s: %s", app, strerror(errno));
    if (ok && S_ISDIR(st.st_mode)) p->app = open(app, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (ok && S_ISDIR(st.st_mode) && p->app < 0) ok = package_fail(error, "%.300s: %s", app, strerror(errno));
    ok = ok && (p->store = store_open(to, o, true, error)) && put_module(p, app) && put_config(p) && put_files(p) &&
         put_package_note(p) && put_manifest(p, to, digest);
    store_close(p->store);
    manifest_free(&p->manifest);
    while (p->name_count)
        free(p->names[--p->name_count]);
    if (p->app >= 0) close(p->app);
    free(p);
    return ok;
}
