#include "user.h"
#include "sha256.h"
#include <cpuid.h>
#include <immintrin.h>

enum { LEAF1_ECX_SSSE3 = 1 << 9, LEAF1_ECX_SSE41 = 1 << 19, LEAF1_ECX_RDRAND = 1 << 30 };
enum { LEAF7_EBX_RDSEED = 1 << 18, LEAF7_EBX_SHA = 1 << 29 };
enum { XSAVE_LEAST = 576 };

void user_cpu(struct user_work *w) {
    uint32_t a, b, c, d, max;
    __cpuid(0, max, b, c, d);
    __cpuid(1, a, b, c, d);
    uint32_t sse = (c & LEAF1_ECX_SSSE3) && (c & LEAF1_ECX_SSE41);
    w->rdrand = !!(c & LEAF1_ECX_RDRAND);
    w->sha = w->rdseed = 0;
    w->xsave_size = XSAVE_LEAST;
    if (max >= 7) {
        __cpuid_count(7, 0, a, b, c, d);
        w->sha = (b & LEAF7_EBX_SHA) && sse;
        w->rdseed = !!(b & LEAF7_EBX_RDSEED);
    }
    if (max >= 0xd) {
        __cpuid_count(0xd, 0, a, b, c, d);
        w->xsave_size = b;
    }
}

/* Four rounds with the words `m` (Intel SDM 2, SHA256RNDS2). */
#define ROUNDS(m, i)                                                                                                   \
    do {                                                                                                               \
        __m128i wk = _mm_add_epi32(m, _mm_loadu_si128((const __m128i *)(const void *)&sha256_k[4 * (i)]));             \
        cdgh = _mm_sha256rnds2_epu32(cdgh, abef, wk);                                                                  \
        abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(wk, 0x0e));                                         \
    } while (0)

__attribute__((target("sha,sse4.1,ssse3"))) static void blocks_sha(uint32_t state[8], const uint8_t *p, uint64_t n) {
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m128i low = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(void *)state), 0xb1);
    __m128i high = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(void *)(state + 4)), 0x1b);
    __m128i abef = _mm_alignr_epi8(low, high, 8), cdgh = _mm_blend_epi16(high, low, 0xf0);
    for (; n; n--, p += 64) {
        __m128i m[4], old_abef = abef, old_cdgh = cdgh;
        for (int i = 0; i < 4; i++)
            m[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)(p + 16 * i)), swap);
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            ROUNDS(m[i & 3], i);
            if (i >= 12) continue;
            __m128i next = _mm_sha256msg1_epu32(m[i & 3], m[(i + 1) & 3]);
            next = _mm_add_epi32(next, _mm_alignr_epi8(m[(i + 3) & 3], m[(i + 2) & 3], 4));
            m[i & 3] = _mm_sha256msg2_epu32(next, m[(i + 3) & 3]);
        }
        abef = _mm_add_epi32(abef, old_abef);
        cdgh = _mm_add_epi32(cdgh, old_cdgh);
    }
    low = _mm_shuffle_epi32(abef, 0x1b);
    high = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)(void *)state, _mm_blend_epi16(low, high, 0xf0));
    _mm_storeu_si128((__m128i *)(void *)(state + 4), _mm_alignr_epi8(high, low, 8));
}

void user_take(struct user_work *w) {
    uint8_t *to = (uint8_t *)w->to;
    const void *from = (const void *)USER_WINDOW;
    void *d = to;
    uint64_t n = w->size;
    __asm__ volatile("rep movsb" : "+D"(d), "+S"(from), "+c"(n)::"memory");
    if (w->sha)
        blocks_sha(w->state, to, w->size / 64);
    else
        sha256_blocks_plain(w->state, to, w->size / 64);
}
