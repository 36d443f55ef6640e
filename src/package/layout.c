/* OCI image layout directories: oci-layout, index.json, blobs/sha256/. Read without following links, written file by
 * file under another name first. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "internal.h"

enum { INDEX_MAX = 4 << 20 };

struct layout {
    struct store store;
    int dir, blobs; /* blobs/sha256 */
};

/* A regular file below `dir`, by a name without slashes. */
static bool read_at(int dir, const char *name, uint64_t most, struct blob *out, bool *missing, char *error) {
    struct stat st;
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    *missing = fd < 0 && errno == ENOENT;
    *out = (struct blob){0};
    if (fd < 0) return package_fail(error, "%s: %s", name, strerror(errno));
    bool ok = !fstat(fd, &st) && S_ISREG(st.st_mode) && (uint64_t)st.st_size <= most;
    if (!ok) package_fail(error, "%s: expected a file of at most %llu bytes", name, (unsigned long long)most);
    out->data = ok ? malloc((size_t)st.st_size + 1) : NULL;
    for (ssize_t got = 1; out->data && got > 0 && out->size<(size_t)st.st_size; out->size += got> 0 ? (size_t)got : 0) {
        got = read(fd, out->data + out->size, (size_t)st.st_size - out->size);
        if (got < 0) ok = package_fail(error, "%s: %s", name, strerror(errno));
    }
    close(fd);
    if (ok && out->data) return true;
    if (ok) package_fail(error, "out of memory");
    blob_free(out);
    return false;
}

static bool write_at(int dir, const char *name, const void *data, size_t size, char *error) {
    char part[128];
    snprintf(part, sizeof part, ".%.80s.%ld", name, (long)getpid());
    bool made = write_new(dir, part, data, size);
    if (made && !renameat(dir, part, dir, name)) return true;
    package_fail(error, "%s: %s", name, strerror(errno));
    if (made) unlinkat(dir, part, 0);
    return false;
}

/* ---- The index ---- */

static json_t *read_index(struct layout *l, char *error) {
    struct blob text;
    bool missing;
    if (!read_at(l->dir, "index.json", INDEX_MAX, &text, &missing, error))
        return missing ? json_pack("{s:i, s:s, s:[]}", "schemaVersion", 2, "mediaType", MEDIA_INDEX, "manifests")
                       : NULL;
    json_t *index = json_loadb((const char *)text.data, text.size, JSON_REJECT_DUPLICATES, NULL);
    blob_free(&text);
    if (json_is_array(json_object_get(index, "manifests"))) return index;
    package_fail(error, "index.json: not an OCI image index");
    json_decref(index);
    return NULL;
}

static const char *tag_of(const json_t *entry) {
    return json_string_value(json_object_get(json_object_get(entry, "annotations"), NOTE_REF));
}

/* The entries with this tag, or, without one, all that are no signatures; the last one's digest. */
static size_t count_tagged(const json_t *list, const char *tag, char digest[PACKAGE_DIGEST]) {
    size_t count = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *entry = json_array_get(list, i);
        const char *name = tag_of(entry), *d = json_string_value(json_object_get(entry, "digest"));
        bool wanted = tag ? name && !strcmp(name, tag) : !name || strncmp(name, "sha256-", 7) != 0;
        if (!wanted || !d || !digest_valid(d)) continue;
        memcpy(digest, d, PACKAGE_DIGEST);
        count++;
    }
    return count;
}

/* What is there instead, for whoever has named something that is not: " it has 1.0 (sha256:...), ...". */
static const char *contents(struct layout *l, char out[320]) {
    enum { SHOWN = 3 };
    char ignored[PACKAGE_ERROR];
    json_t *index = read_index(l, ignored), *list = json_object_get(index, "manifests");
    size_t shown = 0, more = 0, at = 0;
    *out = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *entry = json_array_get(list, i);
        const char *name = tag_of(entry), *digest = json_string_value(json_object_get(entry, "digest"));
        if (!digest || !digest_valid(digest) || (name && !strncmp(name, "sha256-", 7))) continue;
        if (shown == SHOWN && ++more) continue;
        at += (size_t)snprintf(out + at, 320 - at, "%s%.20s%s%s%s", shown++ ? ", " : "it has ", name ? name : "",
                               name ? " (" : "", digest, name ? ")" : "");
    }
    if (more) snprintf(out + at, 320 - at, " and %zu more", more);
    if (!shown) snprintf(out, 320, "%s", index ? "it has no packages" : "its index.json cannot be read");
    json_decref(index);
    return out;
}

/* The digest behind a tag; where the reference has none, the only package there is will do. */
static bool find_tag(struct layout *l, const char *tag, char digest[PACKAGE_DIGEST], bool *missing, char *error) {
    json_t *index = read_index(l, error), *list = json_object_get(index, "manifests");
    if (!index) return false;
    size_t count = count_tagged(list, tag, digest);
    if (!count && !*l->store.reference->tag && !strcmp(tag, "latest")) count = count_tagged(list, NULL, digest);
    json_decref(index);
    *missing = !count;
    if (count == 1) return true;
    char has[320], many[48] = "no package has";
    if (count) snprintf(many, sizeof many, "%zu packages have", count);
    return package_fail(error, "%.150s: %s the tag %s; %s", l->store.reference->path, many, tag, contents(l, has));
}

static bool set_tag(struct layout *l, const char *tag, const char *digest, size_t size, char *error) {
    json_t *index = read_index(l, error), *list = json_object_get(index, "manifests");
    if (!index) return false;
    for (size_t i = json_array_size(list); i-- > 0;) {
        const json_t *entry = json_array_get(list, i);
        const char *name = tag_of(entry);
        if (name && !strcmp(name, tag)) json_array_remove(list, i);
    }
    json_t *entry = json_pack("{s:s, s:s, s:I, s:{s:s}}", "mediaType", MEDIA_MANIFEST, "digest", digest, "size",
                              (json_int_t)size, "annotations", NOTE_REF, tag);
    char *text = !json_array_append_new(list, entry) ? json_dumps(index, JSON_INDENT(2)) : NULL;
    bool ok = text && write_at(l->dir, "index.json", text, strlen(text), error);
    free(text);
    json_decref(index);
    return ok;
}

/* ---- The store ---- */

static bool get_manifest(struct store *s, const char *target, struct blob *out, bool *missing, char *error) {
    struct layout *l = (struct layout *)s;
    char digest[PACKAGE_DIGEST];
    if (digest_valid(target))
        memcpy(digest, target, sizeof digest);
    else if (!find_tag(l, target, digest, missing, error))
        return false;
    if (!read_at(l->blobs, digest + 7, PACKAGE_MANIFEST_MAX, out, missing, error)) {
        char has[320];
        return *missing ? package_fail(error, "%.150s: no package %s in it; %s", s->reference->path, digest,
                                       contents(l, has))
                        : false;
    }
    char found[PACKAGE_DIGEST];
    if (digest_of(out->data, out->size, found) && !strcmp(found, digest)) return true;
    blob_free(out);
    return package_fail(error, "%s: the manifest has other bytes: %s", digest, found);
}

static bool get_blob(struct store *s, const char *digest, uint64_t size, struct blob *out, char *error) {
    bool missing;
    if (read_at(((struct layout *)s)->blobs, digest + 7, size, out, &missing, error)) return true;
    if (!missing) return false;
    return package_fail(error,
                        "%.200s: the layout is not whole: the manifest names %s, and there is no such file in "
                        "blobs/sha256; copy or pack it again",
                        s->reference->path, digest);
}

static bool put_blob(struct store *s, const char *digest, const void *data, size_t size, char *error) {
    return write_at(((struct layout *)s)->blobs, digest + 7, data, size, error);
}

static bool put_manifest(struct store *s, const char *tag, const char *digest, const void *data, size_t size,
                         char *error) {
    struct layout *l = (struct layout *)s;
    return put_blob(s, digest, data, size, error) && set_tag(l, tag, digest, size, error);
}

static void layout_close(struct store *s) {
    struct layout *l = (struct layout *)s;
    if (l->blobs >= 0) close(l->blobs);
    if (l->dir >= 0) close(l->dir);
    free(l);
}

static const struct store_ops ops = {get_manifest, get_blob, put_blob, put_manifest, layout_close};

static bool is_empty(const char *path) {
    DIR *dir = opendir(path);
    bool empty = dir;
    for (struct dirent *e; empty && (e = readdir(dir));)
        empty = !strcmp(e->d_name, ".") || !strcmp(e->d_name, "..");
    if (dir) closedir(dir);
    return empty;
}

bool package_directory_is_new(const char *path, char error[PACKAGE_ERROR]) {
    struct stat st;
    if (stat(path, &st)) return errno == ENOENT || package_fail(error, "%.300s: %s", path, strerror(errno));
    if (!S_ISDIR(st.st_mode)) return package_fail(error, "%.300s is there and is no directory: name a new one", path);
    return is_empty(path) ||
           package_fail(error,
                        "%.300s is there and not empty, and nothing in it is overwritten: name a new directory, "
                        "or empty it first",
                        path);
}

/* One writer at a time; a layout is made where there is none, in an empty or new directory. */
static bool prepare(struct layout *l, const char *path, char *error) {
    static const char mark[] = "{\"imageLayoutVersion\":\"1.0.0\"}";
    struct stat st;
    if (mkdir(path, 0755) && errno != EEXIST) return package_fail(error, "%s: %s", path, strerror(errno));
    l->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (l->dir < 0 || flock(l->dir, LOCK_EX)) return package_fail(error, "%s: %s", path, strerror(errno));
    if (!fstatat(l->dir, "main.wasm", &st, AT_SYMLINK_NOFOLLOW))
        return package_fail(error, "%s is an application's own directory: give the package another", path);
    bool fresh = fstatat(l->dir, "oci-layout", &st, AT_SYMLINK_NOFOLLOW);
    if (fresh && !is_empty(path))
        return package_fail(error, "%.300s is there, is no OCI image layout and not empty: name a new directory", path);
    if (fresh && !write_at(l->dir, "oci-layout", mark, sizeof mark - 1, error)) return false;
    if ((mkdirat(l->dir, "blobs", 0755) && errno != EEXIST) ||
        (mkdirat(l->dir, "blobs/sha256", 0755) && errno != EEXIST))
        return package_fail(error, "%s/blobs: %s", path, strerror(errno));
    return true;
}

struct store *layout_open(const struct package_reference *r, const struct package_options *o, bool write, char *error) {
    struct layout *l = calloc(1, sizeof *l);
    if (!l) return package_fail(error, "out of memory"), NULL;
    *l = (struct layout){.store = {&ops, r, o}, .dir = -1, .blobs = -1};
    bool ok = !write || prepare(l, r->path, error);
    if (ok && l->dir < 0) l->dir = open(r->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int blobs = ok && l->dir >= 0 ? openat(l->dir, "blobs", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    if (blobs >= 0) l->blobs = openat(blobs, "sha256", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (ok && l->blobs < 0) ok = package_fail(error, "%s: not an OCI image layout: %s", r->path, strerror(errno));
    if (blobs >= 0) close(blobs);
    if (ok) return &l->store;
    layout_close(&l->store);
    return NULL;
}
