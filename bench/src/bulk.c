/* memory.copy and memory.fill: short ones as programs do them all the time, and long ones. */
#include "bench.h"
enum { SIZE = 1 << 20 };
static uint8_t a[SIZE], b[SIZE];
static volatile uint32_t vary = 1;
static uint64_t kernel(void) {
    uint64_t s = 88172645463325252u, h = 0;
    for (int i = 0; i < SIZE; i++)
        a[i] = (uint8_t)(i * 7);
    for (int i = 0; i < 4000000; i++) {
        uint64_t r = next_random(&s);
        size_t n = (r & 63) * vary;
        memcpy(b + (r >> 8 & 0xffff), a + (r >> 24 & 0xffff), n);
    }
    for (int i = 0; i < 1200000; i++) {
        uint64_t r = next_random(&s);
        size_t n = (r & 255) * vary;
        memset(b + (r >> 8 & 0xfffff) % (SIZE - 256), (int)i, n);
    }
    for (int i = 0; i < 160; i++) {
        memcpy(b, a, SIZE / 2 * vary);
        memmove(b + 64 + i, b, SIZE / 2 * vary);
        memset(a + SIZE / 2, i, SIZE / 2 * vary);
    }
    for (int i = 0; i < SIZE; i += 61)
        h = mix(h, b[i]);
    return h;
}
BENCH("bulk")
