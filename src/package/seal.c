/* Encrypted layers: AES-256-GCM under the package's key. Media type and file name are authenticated with the content,
 * so that layers cannot take each other's places. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/rand.h>

#include "internal.h"

enum { NONCE = 12, TAG = 16 };

static bool start(EVP_CIPHER_CTX *ctx, bool encrypt, const uint8_t *key, const uint8_t *nonce, const char *media,
                  const char *title) {
    int n;
    return ctx && EVP_CipherInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, nonce, encrypt) == 1 &&
           EVP_CipherUpdate(ctx, NULL, &n, (const uint8_t *)media, (int)strlen(media) + 1) == 1 && /* with its NUL */
           (!*title || EVP_CipherUpdate(ctx, NULL, &n, (const uint8_t *)title, (int)strlen(title)) == 1);
}

/* OpenSSL counts in int; a blob has at most 2^30 bytes. */
static bool run(EVP_CIPHER_CTX *ctx, const uint8_t *in, size_t size, uint8_t *out) {
    int n = 0;
    return size <= PACKAGE_BLOB_MAX && (!size || EVP_CipherUpdate(ctx, out, &n, in, (int)size) == 1) &&
           (size_t)n == size;
}

bool seal(const uint8_t key[PACKAGE_KEY], const char *media, const char *title, const void *data, size_t size,
          struct blob *out) {
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int n;
    *out = (struct blob){malloc(NONCE + size + TAG), NONCE + size + TAG};
    bool ok = out->data && RAND_bytes(out->data, NONCE) == 1 &&
              start(ctx, true, key, out->data, media, title ? title : "") && run(ctx, data, size, out->data + NONCE) &&
              EVP_CipherFinal_ex(ctx, out->data + NONCE + size, &n) == 1 &&
              EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, TAG, out->data + NONCE + size) == 1;
    EVP_CIPHER_CTX_free(ctx);
    if (!ok) blob_free(out);
    return ok;
}

bool unseal(const uint8_t key[PACKAGE_KEY], const char *media, const char *title, const struct blob *in,
            struct blob *out) {
    if (in->size < NONCE + TAG) return false;
    size_t size = in->size - NONCE - TAG;
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int n;
    *out = (struct blob){malloc(size + 1), size};
    bool ok = out->data && start(ctx, false, key, in->data, media, title ? title : "") &&
              run(ctx, in->data + NONCE, size, out->data) &&
              EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, TAG, in->data + NONCE + size) == 1 &&
              EVP_CipherFinal_ex(ctx, out->data + size, &n) == 1;
    EVP_CIPHER_CTX_free(ctx);
    if (ok) return true;
    if (out->data) OPENSSL_cleanse(out->data, size);
    blob_free(out);
    return false;
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
