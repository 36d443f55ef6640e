/* C = alpha A B + beta C, doubles. */
#include "bench.h"
enum { N = 640 };
static double a[N][N], b[N][N], c[N][N];
NOINLINE static void gemm(double alpha, double beta) {
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < N; j++)
            c[i][j] *= beta;
        for (int k = 0; k < N; k++)
            for (int j = 0; j < N; j++)
                c[i][j] += alpha * a[i][k] * b[k][j];
    }
}
static uint64_t kernel(void) {
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            a[i][j] = (double)(i * (j + 1) % N) / N;
            b[i][j] = (double)(i * (j + 2) % N) / N;
            c[i][j] = (double)(i * j % N) / N;
        }
    gemm(1.5, 1.2);
    uint64_t h = 0;
    for (int i = 0; i < N; i += 7)
        for (int j = 0; j < N; j++)
            h = mix_double(h, c[i][j]);
    return h;
}
BENCH("gemm")
