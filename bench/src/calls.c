/* Direct calls: deep and shallow recursion with several arguments, nothing to inline. */
#include "bench.h"
NOINLINE static uint32_t ackermann(uint32_t m, uint32_t n) {
    if (!m) return n + 1;
    if (!n) return ackermann(m - 1, 1);
    return ackermann(m - 1, ackermann(m, n - 1));
}
NOINLINE static int tak(int x, int y, int z) {
    if (y >= x) return z;
    return tak(tak(x - 1, y, z), tak(y - 1, z, x), tak(z - 1, x, y));
}
NOINLINE static uint32_t hanoi(uint32_t n, uint32_t from, uint32_t to, uint32_t by, uint32_t h) {
    if (!n) return h;
    h = hanoi(n - 1, from, by, to, h);
    h = h * 31 + (from << 4 | to);
    return hanoi(n - 1, by, to, from, h);
}
static double horner(double x, int n) {
    return n ? x * horner(x, n - 1) + n : 1;
}
NOINLINE static double series(int n) {
    double s = 0;
    for (int i = 0; i < n; i++)
        s += horner((double)i / n, 12);
    return s;
}
static uint64_t kernel(void) {
    uint64_t h = mix(0, ackermann(2, 4000));
    h = mix(h, (uint64_t)tak(24, 16, 8));
    h = mix(h, hanoi(21, 1, 2, 3, 7));
    return mix_double(h, series(400000));
}
BENCH("calls")
