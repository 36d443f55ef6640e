/* D = alpha A B C + beta D by dot products: columns are walked with a stride. */
#include "bench.h"
enum { N = 330 };
static double a[N][N], b[N][N], c[N][N], d[N][N], t[N][N];
NOINLINE static void two_products(double alpha, double beta) {
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            t[i][j] = 0;
            for (int k = 0; k < N; k++)
                t[i][j] += alpha * a[i][k] * b[k][j];
        }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            d[i][j] *= beta;
            for (int k = 0; k < N; k++)
                d[i][j] += t[i][k] * c[k][j];
        }
}
static uint64_t kernel(void) {
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            a[i][j] = (double)((i * j + 1) % N) / N;
            b[i][j] = (double)(i * (j + 1) % N) / N;
            c[i][j] = (double)((i * (j + 3) + 1) % N) / N;
            d[i][j] = (double)(i * (j + 2) % N) / N;
        }
    two_products(1.5, 1.2);
    uint64_t h = 0;
    for (int i = 0; i < N; i += 7)
        for (int j = 0; j < N; j++)
            h = mix_double(h, d[i][j]);
    return h;
}
BENCH("2mm")
