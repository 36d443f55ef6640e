/* Making encrypted layers, and opening one that is in memory. Their format: sealed.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

bool seal_digest(const uint8_t key[PACKAGE_KEY], const char *title, const void *data, size_t size,
                 char note[SEALED_NOTE]) {
    uint8_t digest[32];
    struct blob b = {0};
    bool ok = EVP_Digest(data, size, digest, NULL, EVP_sha256(), NULL) == 1 &&
              seal(key, SEALED_DIGEST, title, digest, sizeof digest, &b);
    for (size_t i = 0; ok && i < b.size; i++)
        snprintf(note + 2 * i, 3, "%02x", b.data[i]);
    blob_free(&b);
    return ok;
}

bool unseal_digest(const uint8_t key[PACKAGE_KEY], const char *title, const char *note, uint8_t digest[32]) {
    uint8_t bytes[(SEALED_NOTE - 1) / 2];
    struct blob b;
    if (strlen(note) != SEALED_NOTE - 1 || strspn(note, "0123456789abcdef") != SEALED_NOTE - 1) return false;
    for (size_t i = 0; i < sizeof bytes; i++)
        sscanf(note + 2 * i, "%2hhx", &bytes[i]);
    if (!unseal(key, SEALED_DIGEST, title, &(struct blob){bytes, sizeof bytes}, &b)) return false;
    memcpy(digest, b.data, 32);
    blob_free(&b);
    return true;
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
