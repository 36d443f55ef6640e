/* Image manifests (OCI image spec 1.1), read strictly and written in one form. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "internal.h"

/* ---- Reading ---- */

static bool read_text(const json_t *o, const char *key, char *out, size_t size) {
    const json_t *value = json_object_get(o, key);
    const char *text = json_string_value(value);
    if (!text || json_string_length(value) >= size || strlen(text) != json_string_length(value)) return false;
    memcpy(out, text, strlen(text) + 1);
    return true;
}

/* An annotation: null where there is none. False: it is there and no text. */
static bool read_note(const json_t *o, const char *key, size_t most, char **out) {
    const json_t *value = json_object_get(json_object_get(o, "annotations"), key);
    if (!value) return true;
    const char *text = json_string_value(value);
    if (!text || json_string_length(value) > most || strlen(text) != json_string_length(value)) return false;
    return (*out = strdup(text)) != NULL;
}

static bool read_layer(const json_t *o, struct layer *l) {
    const json_t *size = json_object_get(o, "size");
    if (!read_text(o, "mediaType", l->media, sizeof l->media) || !read_text(o, "digest", l->digest, sizeof l->digest) ||
        !digest_valid(l->digest) || !json_is_integer(size) || json_integer_value(size) < 0 ||
        (uint64_t)json_integer_value(size) > PACKAGE_BLOB_MAX)
        return false;
    l->size = (uint64_t)json_integer_value(size);
    return read_note(o, NOTE_TITLE, 1023, &l->title) && read_note(o, NOTE_KEY_ID, 64, &l->key_id) &&
           read_note(o, NOTE_DIGEST, SEALED_NOTE, &l->sealed_digest) &&
           read_note(o, NOTE_SIGNATURE, 4096, &l->signature);
}

static bool read_layers(struct manifest *m, const json_t *list, char *error) {
    size_t count = json_array_size(list);
    uint64_t sum = m->config.size;
    if (!json_is_array(list) || count > PACKAGE_FILES_MAX + 1)
        return package_fail(error, "manifest: expected at most %d layers", PACKAGE_FILES_MAX + 1);
    m->layers = calloc(count + 1, sizeof *m->layers);
    for (; m->layers && m->layer_count < count; m->layer_count++) {
        struct layer *l = &m->layers[m->layer_count];
        bool ok = read_layer(json_array_get(list, m->layer_count), l);
        sum += l->size;
        if (ok && sum <= PACKAGE_SIZE_MAX) continue;
        m->layer_count++; /* it may own texts */
        return package_fail(error, "manifest: layer %zu: malformed, no sha256 digest, or more than %llu bytes",
                            m->layer_count - 1, (unsigned long long)PACKAGE_BLOB_MAX);
    }
    return m->layers || package_fail(error, "out of memory");
}

static bool read_root(struct manifest *m, const json_t *root, char *error) {
    char media[128] = MEDIA_MANIFEST;
    if (json_integer_value(json_object_get(root, "schemaVersion")) != 2)
        return package_fail(error, "manifest: expected schemaVersion 2");
    if (json_object_get(root, "mediaType") && !read_text(root, "mediaType", media, sizeof media))
        return package_fail(error, "manifest: mediaType is no text");
    if (strcmp(media, MEDIA_MANIFEST) || json_object_get(root, "manifests"))
        return package_fail(error, "manifest: expected %s, found %s", MEDIA_MANIFEST, media);
    if (!read_layer(json_object_get(root, "config"), &m->config))
        return package_fail(error, "manifest: config is malformed");
    memcpy(m->media, m->config.media, sizeof m->media);
    if (!read_note(root, NOTE_CONFIG, PACKAGE_CONFIG_MAX, &m->config_toml))
        return package_fail(error, "manifest: %s: expected text of at most %d bytes", NOTE_CONFIG, PACKAGE_CONFIG_MAX);
    if (!read_note(root, NOTE_PACKAGE, SEALED_NOTE, &m->sealed_package))
        return package_fail(error, "manifest: %s: expected text of at most %d bytes", NOTE_PACKAGE, SEALED_NOTE);
    return read_layers(m, json_object_get(root, "layers"), error);
}

bool manifest_read(struct manifest *m, const void *data, size_t size, char *error) {
    json_error_t why;
    memset(m, 0, sizeof *m);
    if (size > PACKAGE_MANIFEST_MAX) return package_fail(error, "manifest: more than %d bytes", PACKAGE_MANIFEST_MAX);
    json_t *root = json_loadb(data, size, JSON_REJECT_DUPLICATES, &why);
    if (!json_is_object(root)) {
        json_decref(root);
        return package_fail(error, "manifest: not a JSON object");
    }
    bool ok = read_root(m, root, error);
    json_decref(root);
    return ok;
}

void manifest_free(struct manifest *m) {
    for (size_t i = 0; i <= m->layer_count; i++) {
        struct layer *l = i ? &m->layers[i - 1] : &m->config;
        free(l->title);
        free(l->key_id);
        free(l->sealed_digest);
        free(l->signature);
    }
    free(m->layers);
    free(m->config_toml);
    free(m->sealed_package);
    memset(m, 0, sizeof *m);
}

bool manifest_is_package(const struct manifest *m, char *error) {
    if (strcmp(m->media, MEDIA_CONFIG))
        return package_fail(error, "not a WebAssembly package: its config is %.100s, expected %s", m->media,
                            MEDIA_CONFIG);
    const char *first = m->layer_count ? m->layers[0].media : "";
    bool sealed = !strcmp(first, SEALED_MODULE);
    if (!sealed && strcmp(first, MEDIA_WASM))
        return package_fail(error, "its first layer is \"%.100s\", expected %s", first, MEDIA_WASM);
    for (size_t i = 1; i < m->layer_count; i++) {
        const struct layer *l = &m->layers[i];
        /* Which files of an encrypted package may be plain, its configuration says (package.c). */
        if (strcmp(l->media, MEDIA_FILE) && (!sealed || strcmp(l->media, SEALED_FILE)))
            return package_fail(error, "layer %zu is %.100s, expected %s", i, l->media,
                                sealed ? SEALED_FILE : MEDIA_FILE);
        if (!l->title || !plain_path(l->title))
            return package_fail(error, "layer %zu: %s: expected a relative path of plain parts", i, NOTE_TITLE);
        for (size_t j = 1; j < i; j++)
            if (!strcmp(m->layers[j].title, l->title)) return package_fail(error, "%.200s is there twice", l->title);
    }
    return true;
}

/* ---- Writing ---- */

bool manifest_add(struct manifest *m, const char *media, const void *data, size_t size, const char *title,
                  const char *key_id, const char *sealed_digest) {
    struct layer *grown = realloc(m->layers, (m->layer_count + 1) * sizeof *grown);
    if (!grown) return false;
    m->layers = grown;
    struct layer *l = &grown[m->layer_count];
    *l = (struct layer){.size = size};
    snprintf(l->media, sizeof l->media, "%s", media);
    m->layer_count++;
    return digest_of(data, size, l->digest) && (!title || (l->title = strdup(title))) &&
           (!key_id || (l->key_id = strdup(key_id))) && (!sealed_digest || (l->sealed_digest = strdup(sealed_digest)));
}

static json_t *layer_json(const struct layer *l) {
    json_t *o = json_pack("{s:s, s:s, s:I}", "mediaType", l->media, "digest", l->digest, "size", (json_int_t)l->size);
    json_t *notes = json_object();
    if (l->title) json_object_set_new(notes, NOTE_TITLE, json_string(l->title));
    if (l->key_id) json_object_set_new(notes, NOTE_KEY_ID, json_string(l->key_id));
    if (l->sealed_digest) json_object_set_new(notes, NOTE_DIGEST, json_string(l->sealed_digest));
    if (l->signature) json_object_set_new(notes, NOTE_SIGNATURE, json_string(l->signature));
    if (json_object_size(notes))
        json_object_set_new(o, "annotations", notes);
    else
        json_decref(notes);
    return o;
}

char *manifest_write(const struct manifest *m) {
    json_t *layers = json_array();
    for (size_t i = 0; i < m->layer_count; i++)
        json_array_append_new(layers, layer_json(&m->layers[i]));
    json_t *root = json_pack("{s:i, s:s, s:o, s:o}", "schemaVersion", 2, "mediaType", MEDIA_MANIFEST, "config",
                             layer_json(&m->config), "layers", layers);
    json_t *notes = m->config_toml || m->sealed_package ? json_object() : NULL;
    if (m->config_toml) json_object_set_new(notes, NOTE_CONFIG, json_string(m->config_toml));
    if (m->sealed_package) json_object_set_new(notes, NOTE_PACKAGE, json_string(m->sealed_package));
    if (notes) json_object_set_new(root, "annotations", notes);
    char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    return text;
}

char *manifest_wasm_config(const struct manifest *m) {
    json_t *digests = json_array();
    for (size_t i = 0; i < m->layer_count; i++)
        json_array_append_new(digests, json_string(m->layers[i].digest));
    json_t *root = json_pack("{s:s, s:s, s:o}", "architecture", "wasm", "os", "wasip1", "layerDigests", digests);
    char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    return text;
}
