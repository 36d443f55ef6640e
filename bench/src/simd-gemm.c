/* Matrix product of floats in registers of four, four rows at a time. */
#include "bench.h"
typedef float f32x4 __attribute__((vector_size(16)));
enum { N = 800 };
static f32x4 b[N][N / 4], c[N][N / 4];
static float a[N][N];
NOINLINE static void product(void) {
    for (int i = 0; i < N; i += 4)
        for (int j = 0; j < N / 4; j += 2) {
            f32x4 s[4][2] = {{{0}}};
            for (int k = 0; k < N; k++) {
                f32x4 b0 = b[k][j], b1 = b[k][j + 1];
                for (int r = 0; r < 4; r++) {
                    float x = a[i + r][k];
                    f32x4 v = {x, x, x, x};
                    s[r][0] += v * b0;
                    s[r][1] += v * b1;
                }
            }
            for (int r = 0; r < 4; r++) {
                c[i + r][j] = s[r][0];
                c[i + r][j + 1] = s[r][1];
            }
        }
}
static uint64_t kernel(void) {
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            a[i][j] = (float)(i * j % 17) / 17;
            b[i][j / 4][j % 4] = (float)(i * (j + 1) % 13) / 13;
        }
    product();
    uint64_t h = 0;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N / 4; j++)
            h = mix_double(h, (double)c[i][j][0] + c[i][j][3]);
    return h;
}
BENCH("simd-gemm")
