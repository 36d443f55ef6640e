/* HMAC_DRBG over SHA-256 (NIST SP 800-90A rev. 1, 10.1.2), without reseeding: every request brings something fresh as
 * additional input. tests/shim compares it with a library's. */
#ifndef DONJON_SHIM_DRBG_H
#define DONJON_SHIM_DRBG_H

#include "sha256.h"

enum { DRBG_MOST = 1 << 16 /* bytes of one request (table 2) */ };
union drbg_digest {
    uint8_t bytes[SHA256_SIZE];
    uint64_t words[SHA256_SIZE / 8];
};
struct drbg {
    union drbg_digest k, v;
};

static inline void drbg_pad(const struct drbg *d, uint8_t with, struct sha256 *s) {
    uint64_t pad[SHA256_BLOCK / 8];
    for (unsigned i = 0; i < SHA256_BLOCK / 8; i++)
        pad[i] = with * UINT64_C(0x0101010101010101);
    for (unsigned i = 0; i < SHA256_SIZE / 8; i++)
        pad[i] ^= d->k.words[i];
    sha256_start(s);
    sha256_add(s, pad, sizeof pad);
}

/* V = HMAC(K, V); or, with a round's number, K = HMAC(K, V || round || data). FIPS 198-1. */
__attribute__((noinline, unused)) static void drbg_hmac(const struct drbg *d, const uint8_t *round, const void *data,
                                                        size_t n, union drbg_digest *out) {
    enum { INNER = 0x36, OUTER = 0x5c };
    struct sha256 s;
    drbg_pad(d, INNER, &s);
    sha256_add(&s, d->v.bytes, SHA256_SIZE);
    if (round) sha256_add(&s, round, 1);
    if (round) sha256_add(&s, data, n);
    sha256_finish(&s, out->bytes);
    drbg_pad(d, OUTER, &s);
    sha256_add(&s, out->bytes, SHA256_SIZE);
    sha256_finish(&s, out->bytes);
}

static inline void drbg_next(struct drbg *d) {
    union drbg_digest next;
    drbg_hmac(d, NULL, NULL, 0, &next);
    d->v = next;
}

/* 10.1.2.2 */
__attribute__((noinline, unused)) static void drbg_update(struct drbg *d, const void *data, size_t n) {
    for (uint8_t round = 0; round < (n ? 2 : 1); round++) {
        union drbg_digest next;
        drbg_hmac(d, &round, data, n, &next);
        d->k = next;
        drbg_next(d);
    }
}

/* 10.1.2.3: entropy, nonce and personalisation in one. */
static inline void drbg_start(struct drbg *d, const void *seed, size_t n) {
    for (unsigned i = 0; i < SHA256_SIZE; i++) {
        d->k.bytes[i] = 0;
        d->v.bytes[i] = 1;
    }
    drbg_update(d, seed, n);
}

/* 10.1.2.5; DRBG_MOST bytes at most. */
static inline void drbg_generate(struct drbg *d, const void *more, size_t n, uint8_t *out, size_t size) {
    if (n) drbg_update(d, more, n);
    for (size_t at = 0; at < size; at++) {
        if (at % SHA256_SIZE == 0) drbg_next(d);
        out[at] = d->v.bytes[at % SHA256_SIZE];
    }
    drbg_update(d, more, n);
}

#endif
