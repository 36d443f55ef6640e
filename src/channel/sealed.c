#include "sealed.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

bool sealed_start(EVP_CIPHER_CTX *ctx, bool encrypt, const uint8_t key[SEALED_KEY], const uint8_t nonce[SEALED_NONCE],
                  const char *media, const uint8_t *title, size_t title_size) {
    int n;
    return ctx && title_size <= SEALED_TITLE_MAX &&
           EVP_CipherInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, nonce, encrypt) == 1 &&
           EVP_CipherUpdate(ctx, NULL, &n, (const uint8_t *)media, (int)strlen(media) + 1) == 1 && /* with its NUL */
           (!title_size || EVP_CipherUpdate(ctx, NULL, &n, title, (int)title_size) == 1);
}

/* Its nonce comes first, so the key waits for that: until then it is here. */
struct sealed_reader {
    EVP_CIPHER_CTX *ctx;
    uint8_t key[SEALED_KEY], nonce[SEALED_NONCE], tag[SEALED_TAG], title[SEALED_TITLE_MAX];
    const char *media;
    size_t title_size;
    uint64_t content, have; /* bytes; of the whole layer */
    uint8_t *out;
    bool failed;
};

struct sealed_reader *sealed_reader_new(const uint8_t key[SEALED_KEY], const char *media, const uint8_t *title,
                                        size_t title_size, uint64_t size, uint8_t *out) {
    if (size < SEALED_MORE || size - SEALED_MORE > SEALED_CONTENT_MAX || title_size > SEALED_TITLE_MAX) return NULL;
    struct sealed_reader *r = calloc(1, sizeof *r);
    if (!r) return NULL;
    r->ctx = EVP_CIPHER_CTX_new();
    memcpy(r->key, key, sizeof r->key);
    if (title_size) memcpy(r->title, title, title_size);
    r->title_size = title_size;
    r->media = media;
    r->content = size - SEALED_MORE;
    r->out = out;
    if (r->ctx) return r;
    sealed_reader_free(r);
    return NULL;
}

void sealed_reader_free(struct sealed_reader *r) {
    if (!r) return;
    EVP_CIPHER_CTX_free(r->ctx);
    OPENSSL_cleanse(r, sizeof *r);
    free(r);
}

/* Takes from the piece what belongs to to[0..size), which begins at byte `from` of the layer. */
static void fill(struct sealed_reader *r, uint8_t *to, uint64_t from, size_t size, const uint8_t **bytes, size_t *n) {
    if (r->have < from || r->have >= from + size) return;
    size_t room = (size_t)(from + size - r->have), take = *n < room ? *n : room;
    memcpy(to + (r->have - from), *bytes, take);
    r->have += take;
    *bytes += take;
    *n -= take;
}

static void decrypt(struct sealed_reader *r, const uint8_t **bytes, size_t *n) {
    uint64_t at = r->have - SEALED_NONCE;
    if (r->have < SEALED_NONCE || at >= r->content) return;
    size_t take = r->content - at < *n ? (size_t)(r->content - at) : *n;
    for (size_t done = 0, piece; done < take; done += piece) { /* OpenSSL counts in int */
        int out = 0;
        piece = take - done < INT_MAX / 2 ? take - done : INT_MAX / 2;
        if (EVP_CipherUpdate(r->ctx, r->out + at + done, &out, *bytes + done, (int)piece) != 1 || (size_t)out != piece)
            r->failed = true;
    }
    r->have += take;
    *bytes += take;
    *n -= take;
}

bool sealed_reader_take(struct sealed_reader *r, const uint8_t *bytes, size_t n) {
    if (n > r->content + SEALED_MORE - r->have) return false;
    bool begun = r->have >= SEALED_NONCE;
    fill(r, r->nonce, 0, SEALED_NONCE, &bytes, &n);
    if (!begun && r->have >= SEALED_NONCE) {
        r->failed |= !sealed_start(r->ctx, false, r->key, r->nonce, r->media, r->title, r->title_size);
        OPENSSL_cleanse(r->key, sizeof r->key);
    }
    if (!r->failed) decrypt(r, &bytes, &n);
    if (r->failed)
        r->have += n; /* nothing is wrong with the count */
    else
        fill(r, r->tag, SEALED_NONCE + r->content, SEALED_TAG, &bytes, &n);
    return true;
}

bool sealed_reader_full(const struct sealed_reader *r) {
    return r->have == r->content + SEALED_MORE;
}

bool sealed_reader_end(struct sealed_reader *r) {
    uint8_t none[SEALED_TAG];
    int n = 0;
    return sealed_reader_full(r) && !r->failed &&
           EVP_CIPHER_CTX_ctrl(r->ctx, EVP_CTRL_AEAD_SET_TAG, SEALED_TAG, r->tag) == 1 &&
           EVP_CipherFinal_ex(r->ctx, none, &n) == 1 && n == 0;
}
