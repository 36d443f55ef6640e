/* Making encrypted layers, and opening one that is in memory. Their format: sealed.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include "internal.h"

/* OpenSSL counts in int; a layer's content has at most 2^30 bytes. */
static bool run(EVP_CIPHER_CTX *ctx, const uint8_t *in, size_t size, uint8_t *out) {
    int n = 0;
    return size <= SEALED_CONTENT_MAX && (!size || EVP_CipherUpdate(ctx, out, &n, in, (int)size) == 1) &&
           (size_t)n == size;
}

bool seal(const uint8_t key[PACKAGE_KEY], const char *media, const char *title, const void *data, size_t size,
          struct blob *out) {
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    const uint8_t *name = (const uint8_t *)(title ? title : "");
    int n;
    *out = (struct blob){malloc(SEALED_MORE + size), SEALED_MORE + size};
    uint8_t *text = out->data ? out->data + SEALED_NONCE : NULL;
    bool ok = text && RAND_bytes(out->data, SEALED_NONCE) == 1 &&
              sealed_start(ctx, true, key, out->data, media, name, strlen((const char *)name)) &&
              run(ctx, data, size, text) && EVP_CipherFinal_ex(ctx, text + size, &n) == 1 &&
              EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, SEALED_TAG, text + size) == 1;
    EVP_CIPHER_CTX_free(ctx);
    if (!ok) blob_free(out);
    return ok;
}

bool unseal(const uint8_t key[PACKAGE_KEY], const char *media, const char *title, const struct blob *in,
            struct blob *out) {
    if (in->size < SEALED_MORE) return false;
    const uint8_t *name = (const uint8_t *)(title ? title : "");
    size_t size = in->size - SEALED_MORE;
    *out = (struct blob){malloc(size + 1), size};
    struct sealed_reader *r =
        out->data ? sealed_reader_new(key, media, name, strlen((const char *)name), in->size, out->data) : NULL;
    bool ok = r && sealed_reader_take(r, in->data, in->size) && sealed_reader_end(r);
    sealed_reader_free(r);
    if (ok) return true;
    if (out->data) OPENSSL_cleanse(out->data, size);
    blob_free(out);
    return false;
}

/* ---- The content's digest, for those who have the key and not the content ---- */

static bool seal_note(const uint8_t key[PACKAGE_KEY], const char *media, const char *title, const uint8_t digest[32],
                      char note[SEALED_NOTE]) {
    struct blob b = {0};
    bool ok = seal(key, media, title, digest, 32, &b);
    for (size_t i = 0; ok && i < b.size; i++)
        snprintf(note + 2 * i, 3, "%02x", b.data[i]);
    blob_free(&b);
    return ok;
}

static bool unseal_note(const uint8_t key[PACKAGE_KEY], const char *media, const char *title, const char *note,
                        uint8_t digest[32]) {
    uint8_t bytes[(SEALED_NOTE - 1) / 2];
    struct blob b;
    if (strlen(note) != SEALED_NOTE - 1 || strspn(note, "0123456789abcdef") != SEALED_NOTE - 1) return false;
    for (size_t i = 0; i < sizeof bytes; i++)
        sscanf(note + 2 * i, "%2hhx", &bytes[i]);
    if (!unseal(key, media, title, &(struct blob){bytes, sizeof bytes}, &b)) return false;
    memcpy(digest, b.data, 32);
    blob_free(&b);
    return true;
}

bool seal_digest(const uint8_t key[PACKAGE_KEY], const char *title, const void *data, size_t size,
                 char note[SEALED_NOTE]) {
    uint8_t digest[32];
    return EVP_Digest(data, size, digest, NULL, EVP_sha256(), NULL) == 1 &&
           seal_note(key, SEALED_DIGEST, title, digest, note);
}

bool unseal_digest(const uint8_t key[PACKAGE_KEY], const char *title, const char *note, uint8_t digest[32]) {
    return unseal_note(key, SEALED_DIGEST, title, note, digest);
}

/* ---- What belongs together ---- */

/* Each with a byte that says whether it is there, and with its NUL. */
static bool add_text(EVP_MD_CTX *md, const char *text) {
    uint8_t there = text != NULL;
    return EVP_DigestUpdate(md, &there, 1) == 1 && (!text || EVP_DigestUpdate(md, text, strlen(text) + 1) == 1);
}

/* A sealed layer's note stands for its content, a plain one's digest for itself. */
static bool digest_package(const struct manifest *m, uint8_t digest[32]) {
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool ok = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 && add_text(md, m->config_toml);
    for (size_t i = 0; ok && i < m->layer_count; i++) {
        const struct layer *l = &m->layers[i];
        ok = add_text(md, l->media) && add_text(md, l->title) && add_text(md, l->sealed_digest) &&
             add_text(md, l->sealed_digest ? NULL : l->digest);
    }
    ok = ok && EVP_DigestFinal_ex(md, digest, NULL) == 1;
    EVP_MD_CTX_free(md);
    return ok;
}

bool seal_package(const uint8_t key[PACKAGE_KEY], const struct manifest *m, char note[SEALED_NOTE]) {
    uint8_t digest[32];
    return digest_package(m, digest) && seal_note(key, SEALED_PACKAGE, NULL, digest, note);
}

bool unseal_package(const uint8_t key[PACKAGE_KEY], const struct manifest *m) {
    uint8_t wanted[32], found[32];
    return m->sealed_package && digest_package(m, found) &&
           unseal_note(key, SEALED_PACKAGE, NULL, m->sealed_package, wanted) &&
           CRYPTO_memcmp(wanted, found, sizeof found) == 0;
}

/* Tells keys apart, tells nothing of them. */
void seal_key_id(const uint8_t key[PACKAGE_KEY], char id[17]) {
    static const char label[] = "donjon package key v1";
    uint8_t text[sizeof label + PACKAGE_KEY], digest[32];
    memcpy(text, label, sizeof label);
    memcpy(text + sizeof label, key, PACKAGE_KEY);
    if (EVP_Digest(text, sizeof text, digest, NULL, EVP_sha256(), NULL) != 1) memset(digest, 0, sizeof digest);
    OPENSSL_cleanse(text, sizeof text);
    for (int i = 0; i < 8; i++)
        snprintf(id + 2 * i, 3, "%02x", digest[i]);
}
