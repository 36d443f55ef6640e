/* Signatures where cosign puts them: tag sha256-DIGEST.sig, one layer a signature, the payload in the layer ("simple
 * signing"), the signature over it in an annotation. Ed25519 over the payload itself, ECDSA P-256 over its SHA-256. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#include "internal.h"

enum { PAYLOAD_MAX = 16 << 10, RAW_MAX = 256 };

void signature_tag(const char *digest, char tag[PACKAGE_DIGEST + 8]) {
    snprintf(tag, PACKAGE_DIGEST + 8, "sha256-%s.sig", digest + 7);
}

/* ---- Keys ---- */

static EVP_PKEY *read_key(const char *path, bool private, char *error) {
    FILE *f = fopen(path, "re");
    if (!f) return package_fail(error, "%.300s: %s", path, strerror(errno)), NULL;
    EVP_PKEY *key = private ? PEM_read_PrivateKey(f, NULL, NULL, (void *)"") : PEM_read_PUBKEY(f, NULL, NULL, NULL);
    fclose(f);
    ERR_clear_error();
    int kind = key ? EVP_PKEY_get_base_id(key) : 0;
    bool ok = kind == EVP_PKEY_ED25519 || (kind == EVP_PKEY_EC && EVP_PKEY_get_bits(key) == 256);
    if (ok) return key;
    package_fail(error, "%.300s: expected a %s key in PEM, Ed25519 or P-256", path, private ? "private" : "public");
    EVP_PKEY_free(key);
    return NULL;
}

static const EVP_MD *digest_for(const EVP_PKEY *key) {
    return EVP_PKEY_get_base_id(key) == EVP_PKEY_EC ? EVP_sha256() : NULL;
}

static bool verifies(EVP_PKEY *key, const struct blob *payload, const uint8_t *signature, size_t size) {
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && EVP_DigestVerifyInit(ctx, NULL, digest_for(key), NULL, key) == 1 &&
              EVP_DigestVerify(ctx, signature, size, payload->data, payload->size) == 1;
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    return ok;
}

static void key_name(const EVP_PKEY *key, char out[80]) {
    uint8_t *spki = NULL;
    int size = i2d_PUBKEY(key, &spki);
    if (size <= 0 || !digest_of(spki, (size_t)size, out)) *out = 0;
    OPENSSL_free(spki);
}

/* ---- Payload ---- */

bool signature_payload_names(const void *data, size_t size, const char *digest) {
    json_t *root = json_loadb(data, size, JSON_REJECT_DUPLICATES, NULL);
    const json_t *critical = json_object_get(root, "critical");
    const char *named =
                   json_string_value(json_object_get(json_object_get(critical, "image"), "docker-manifest-digest")),
               *type = json_string_value(json_object_get(critical, "type"));
    bool ok = named && type && !strcmp(named, digest) && !strcmp(type, "cosign container image signature");
    json_decref(root);
    return ok;
}

static char *payload_for(const struct package_reference *r, const char *digest) {
    char name[600];
    if (r->place == PACKAGE_REGISTRY)
        snprintf(name, sizeof name, "%s/%s", r->host, r->name);
    else
        *name = 0;
    json_t *root =
        json_pack("{s:{s:{s:s}, s:{s:s}, s:s}, s:n}", "critical", "identity", "docker-reference", name, "image",
                  "docker-manifest-digest", digest, "type", "cosign container image signature", "optional");
    char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    return text;
}

/* ---- Base64 ---- */

static bool decode(const char *text, uint8_t out[RAW_MAX], size_t *size) {
    size_t length = strlen(text), padding = 0;
    if (!length || length % 4 || length > RAW_MAX / 3 * 4) return false;
    while (padding < 2 && text[length - 1 - padding] == '=')
        padding++;
    int n = EVP_DecodeBlock(out, (const uint8_t *)text, (int)length);
    if (n < (int)padding) return false;
    *size = (size_t)n - padding;
    return true;
}

/* ---- Checking ---- */

static bool read_signatures(struct store *s, const char *digest, struct manifest *m, bool *missing, char *error) {
    char tag[PACKAGE_DIGEST + 8], found[PACKAGE_DIGEST];
    struct blob text;
    memset(m, 0, sizeof *m);
    signature_tag(digest, tag);
    if (!store_manifest(s, tag, &text, found, missing, error)) return false;
    bool ok = manifest_read(m, text.data, text.size, error);
    if (ok && m->layer_count > PACKAGE_SIGNATURES_MAX)
        ok = package_fail(error, "more than %d signatures", PACKAGE_SIGNATURES_MAX);
    blob_free(&text);
    return ok;
}

/* One signature by one of the keys over a payload that names this manifest. */
static bool check_layer(struct store *s, const struct layer *l, const char *digest, EVP_PKEY *const *keys, size_t count,
                        char signer[80], char *error) {
    uint8_t raw[RAW_MAX];
    size_t size;
    struct blob payload;
    if (strcmp(l->media, MEDIA_SIGNATURE) || !l->signature || l->size > PAYLOAD_MAX ||
        !decode(l->signature, raw, &size) || !store_blob(s, l->digest, l->size, &payload, error))
        return false;
    bool found = false;
    for (size_t i = 0; !found && i < count; i++) {
        found = verifies(keys[i], &payload, raw, size) && signature_payload_names(payload.data, payload.size, digest);
        if (found) key_name(keys[i], signer);
    }
    blob_free(&payload);
    return found;
}

bool signature_check(struct store *s, const char *digest, const struct package_options *o, char signer[80],
                     char *error) {
    EVP_PKEY *keys[PACKAGE_KEYS_MAX];
    size_t count = 0;
    struct manifest m = {0};
    bool missing = false, found = false, ok = o->verify_key_count <= PACKAGE_KEYS_MAX;
    if (!ok) package_fail(error, "more than %d keys", PACKAGE_KEYS_MAX);
    while (ok && count < o->verify_key_count) {
        keys[count] = read_key(o->verify_keys[count], false, error);
        ok = keys[count] != NULL;
        count += ok;
    }
    ok = ok && read_signatures(s, digest, &m, &missing, error);
    char why[PACKAGE_ERROR] = "";
    for (size_t i = 0; ok && !found && i < m.layer_count; i++)
        found = check_layer(s, &m.layers[i], digest, keys, count, signer, why);
    if (missing)
        package_fail(error, "%s is not signed, and a signature is required", digest);
    else if (ok && !found)
        package_fail(error, "none of its signatures (%zu) is by a key you trust (--verify-key)%s%s", m.layer_count,
                     *why ? ": " : "", why);
    manifest_free(&m);
    while (count)
        EVP_PKEY_free(keys[--count]);
    return found;
}

/* ---- Signing ---- */

static char *sign_payload(EVP_PKEY *key, const char *payload) {
    uint8_t raw[RAW_MAX];
    size_t size = sizeof raw;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && EVP_DigestSignInit(ctx, NULL, digest_for(key), NULL, key) == 1 &&
              EVP_DigestSign(ctx, raw, &size, (const uint8_t *)payload, strlen(payload)) == 1;
    EVP_MD_CTX_free(ctx);
    char *text = ok ? malloc(size / 3 * 4 + 8) : NULL;
    if (text) EVP_EncodeBlock((uint8_t *)text, raw, (int)size);
    return text;
}

/* The image config that cosign writes: nothing but the payloads' digests. */
static char *image_config(const struct manifest *m) {
    json_t *ids = json_array();
    for (size_t i = 0; i < m->layer_count; i++)
        json_array_append_new(ids, json_string(m->layers[i].digest));
    json_t *root = json_pack("{s:s, s:s, s:s, s:{}, s:{s:s, s:o}}", "architecture", "", "created",
                             "0001-01-01T00:00:00Z", "os", "", "config", "rootfs", "type", "layers", "diff_ids", ids);
    char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    return text;
}

static bool put_signatures(struct store *s, struct manifest *m, const char *digest, char *error) {
    char tag[PACKAGE_DIGEST + 8], own[PACKAGE_DIGEST], *config = image_config(m);
    bool ok = config && digest_of(config, strlen(config), m->config.digest);
    snprintf(m->config.media, sizeof m->config.media, "%s", MEDIA_IMAGE);
    m->config.size = config ? strlen(config) : 0;
    char *text = ok ? manifest_write(m) : NULL;
    signature_tag(digest, tag);
    if (!text || !digest_of(text, strlen(text), own)) ok = package_fail(error, "out of memory");
    ok = ok && s->ops->put_blob(s, m->config.digest, config, strlen(config), error) &&
         s->ops->put_manifest(s, tag, own, text, strlen(text), error);
    free(config);
    free(text);
    return ok;
}

bool signature_add(struct store *s, const char *digest, const char *key_file, char *error) {
    struct manifest m;
    bool missing;
    EVP_PKEY *key = read_key(key_file, true, error);
    if (!key) return false;
    bool ok = read_signatures(s, digest, &m, &missing, error) || missing; /* others' signatures stay */
    if (ok && m.layer_count == PACKAGE_SIGNATURES_MAX)
        ok = package_fail(error, "more than %d signatures", PACKAGE_SIGNATURES_MAX);
    char *payload = ok ? payload_for(s->reference, digest) : NULL,
         *signature = payload ? sign_payload(key, payload) : NULL;
    if (ok && (!signature || !manifest_add(&m, MEDIA_SIGNATURE, payload, strlen(payload), NULL, NULL, NULL))) {
        ok = package_fail(error, "the signature could not be made");
        free(signature);
    } else if (ok) {
        m.layers[m.layer_count - 1].signature = signature;
        ok = s->ops->put_blob(s, m.layers[m.layer_count - 1].digest, payload, strlen(payload), error) &&
             put_signatures(s, &m, digest, error);
    }
    free(payload);
    manifest_free(&m);
    EVP_PKEY_free(key);
    return ok;
}
