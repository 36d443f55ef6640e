/* RNA folding by dynamic programming: a triangle of maxima. */
#include "bench.h"
enum { N = 700 };
static int8_t seq[N];
static int table[N][N];
static int most(int x, int y) {
    return x >= y ? x : y;
}
NOINLINE static void nussinov(void) {
    for (int i = N - 1; i >= 0; i--)
        for (int j = i + 1; j < N; j++) {
            table[i][j] = most(table[i][j], table[i][j - 1]);
            if (i + 1 < N) table[i][j] = most(table[i][j], table[i + 1][j]);
            if (i + 1 < N) {
                int pair = i < j - 1 ? seq[i] + seq[j] == 3 : 0;
                table[i][j] = most(table[i][j], table[i + 1][j - 1] + pair);
            }
            for (int k = i + 1; k < j; k++)
                table[i][j] = most(table[i][j], table[i][k] + table[k + 1][j]);
        }
}
static uint64_t kernel(void) {
    for (int i = 0; i < N; i++)
        seq[i] = (int8_t)((i + 1) * (i + 3) % 4);
    memset(table, 0, sizeof table);
    nussinov();
    uint64_t h = 0;
    for (int i = 0; i < N; i++)
        for (int j = i; j < N; j++)
            h = mix(h, (uint32_t)table[i][j]);
    return h;
}
BENCH("nussinov")
