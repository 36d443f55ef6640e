/* Five-point stencil, back and forth between two grids. */
#include "bench.h"
enum { N = 500, STEPS = 140 };
static double a[N][N], b[N][N];
NOINLINE static void sweep(double to[N][N], double from[N][N]) {
    for (int i = 1; i < N - 1; i++)
        for (int j = 1; j < N - 1; j++)
            to[i][j] = 0.2 * (from[i][j] + from[i][j - 1] + from[i][j + 1] + from[i + 1][j] + from[i - 1][j]);
}
static uint64_t kernel(void) {
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            a[i][j] = ((double)i * (j + 2) + 2) / N;
            b[i][j] = ((double)i * (j + 3) + 3) / N;
        }
    for (int t = 0; t < STEPS; t++) {
        sweep(b, a);
        sweep(a, b);
    }
    uint64_t h = 0;
    for (int i = 0; i < N; i += 7)
        for (int j = 0; j < N; j++)
            h = mix_double(h, a[i][j]);
    return h;
}
BENCH("jacobi-2d")
