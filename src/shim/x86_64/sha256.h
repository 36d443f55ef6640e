/* SHA-256 (FIPS 180-4, 6.2.2) in plain C, whole or as a stream: docs/threat-model.md says why it is our own, and
 * tests/shim compares it with a library's. Included where it is needed: the shim has it once for
 * its random numbers, and once in the code that runs in the warden's ring, for CPUs without the SHA instructions. */
#ifndef DONJON_SHIM_SHA256_H
#define DONJON_SHIM_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_INITIAL                                                                                                 \
    { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 }

static const uint32_t sha256_k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static inline uint32_t sha256_rotate(uint32_t x, int n) {
    return x >> n | x << (32 - n);
}

/* One round; the names of the eight words move on instead of the words. */
#define SHA256_ROUND(a, b, c, d, e, f, g, h, i)                                                                        \
    do {                                                                                                               \
        uint32_t t = h + (sha256_rotate(e, 6) ^ sha256_rotate(e, 11) ^ sha256_rotate(e, 25)) + ((e & f) ^ (~e & g)) +  \
                     sha256_k[i] + w[i];                                                                               \
        d += t;                                                                                                        \
        h = t + (sha256_rotate(a, 2) ^ sha256_rotate(a, 13) ^ sha256_rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));   \
    } while (0)

__attribute__((noinline, unused)) static void sha256_blocks_plain(uint32_t state[8], const uint8_t *p,
                                                                  uint64_t blocks) {
    for (; blocks; blocks--, p += 64) {
        uint32_t w[64];
        for (int i = 0; i < 16; i++)
            w[i] = __builtin_bswap32(((const uint32_t *)(const void *)p)[i]);
        for (int i = 16; i < 64; i++) {
            uint32_t x = w[i - 15], y = w[i - 2];
            w[i] = w[i - 16] + (sha256_rotate(x, 7) ^ sha256_rotate(x, 18) ^ x >> 3) + w[i - 7] +
                   (sha256_rotate(y, 17) ^ sha256_rotate(y, 19) ^ y >> 10);
        }
        uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
        uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
        for (int i = 0; i < 64; i += 8) {
            SHA256_ROUND(a, b, c, d, e, f, g, h, i);
            SHA256_ROUND(h, a, b, c, d, e, f, g, i + 1);
            SHA256_ROUND(g, h, a, b, c, d, e, f, i + 2);
            SHA256_ROUND(f, g, h, a, b, c, d, e, i + 3);
            SHA256_ROUND(e, f, g, h, a, b, c, d, i + 4);
            SHA256_ROUND(d, e, f, g, h, a, b, c, i + 5);
            SHA256_ROUND(c, d, e, f, g, h, a, b, i + 6);
            SHA256_ROUND(b, c, d, e, f, g, h, a, i + 7);
        }
        const uint32_t add[8] = {a, b, c, d, e, f, g, h};
        for (int i = 0; i < 8; i++)
            state[i] += add[i];
    }
}
#undef SHA256_ROUND

/* The last bytes of a message of `total` bytes (fewer than 64 of them are left at p), and the digest. */
static inline void sha256_end(uint32_t state[8], const uint8_t *p, uint64_t total, uint8_t digest[32]) {
    uint8_t block[128] = {0};
    unsigned left = (unsigned)(total % 64), size = left < 56 ? 64 : 128;
    for (unsigned i = 0; i < left; i++)
        block[i] = p[i];
    block[left] = 0x80;
    for (unsigned i = 0; i < 8; i++)
        block[size - 1 - i] = (uint8_t)(total * 8 >> 8 * i);
    sha256_blocks_plain(state, block, size / 64);
    for (unsigned i = 0; i < 32; i++)
        digest[i] = (uint8_t)(state[i / 4] >> (24 - 8 * (i % 4)));
}

/* ---- as a stream ---- */

enum { SHA256_SIZE = 32, SHA256_BLOCK = 64 };
struct sha256 {
    uint32_t h[8];
    uint64_t total;
    uint8_t buffer[SHA256_BLOCK];
};

static inline void sha256_start(struct sha256 *s) {
    *s = (struct sha256){.h = SHA256_INITIAL};
}

static inline void sha256_add(struct sha256 *s, const void *data, size_t n) {
    const uint8_t *p = data;
    while (n > 0) {
        size_t at = s->total % SHA256_BLOCK, piece = n < SHA256_BLOCK - at ? n : SHA256_BLOCK - at;
        __builtin_memcpy(s->buffer + at, p, piece);
        s->total += piece;
        if (at + piece == SHA256_BLOCK) sha256_blocks_plain(s->h, s->buffer, 1);
        p += piece;
        n -= piece;
    }
}

static inline void sha256_finish(struct sha256 *s, uint8_t digest[SHA256_SIZE]) {
    sha256_end(s->h, s->buffer, s->total, digest);
}

#endif
