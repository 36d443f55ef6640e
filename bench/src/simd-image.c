/* Bytes and shorts in vectors: a 3x3 blur of a grey image, then a threshold, then a count of what is left. */
#include "bench.h"
typedef uint8_t u8x16 __attribute__((vector_size(16), aligned(1)));
typedef uint16_t u16x8 __attribute__((vector_size(16), aligned(1)));
typedef uint8_t u8x8 __attribute__((vector_size(8), aligned(1)));
enum { W = 1024, H = 768, ROUNDS = 120 };
static uint8_t image[H][W], blurred[H][W];
static u16x8 widen(const uint8_t *p) {
    return __builtin_convertvector(*(const u8x8 *)p, u16x8);
}
NOINLINE static void blur(void) {
    for (int y = 1; y < H - 1; y++)
        for (int x = 8; x < W - 8; x += 8) {
            u16x8 s = {0};
            for (int dy = -1; dy <= 1; dy++) {
                const uint8_t *p = &image[y + dy][x];
                u16x8 row = widen(p - 1) + widen(p) + widen(p) + widen(p + 1);
                s += dy ? row : row + row;
            }
            *(u8x8 *)&blurred[y][x] = __builtin_convertvector(s >> 4, u8x8);
        }
}
NOINLINE static uint64_t threshold(uint8_t at) {
    u8x16 limit = {0};
    limit += at;
    uint64_t count = 0;
    for (int y = 0; y < H; y++) {
        u8x16 n = {0};
        for (int x = 0; x < W; x += 16) {
            u8x16 v = *(u8x16 *)&blurred[y][x], over = (u8x16)(v > limit);
            *(u8x16 *)&image[y][x] = (v & ~over) | (over & (v ^ 0x55));
            n -= over;
        }
        for (int k = 0; k < 16; k++)
            count += n[k];
    }
    return count;
}
static uint64_t kernel(void) {
    uint64_t s = 88172645463325252u, h = 0;
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++)
            image[y][x] = (uint8_t)next_random(&s);
    for (int r = 0; r < ROUNDS; r++) {
        blur();
        h = mix(h, threshold((uint8_t)(100 + r)));
    }
    return h;
}
BENCH("simd-image")
