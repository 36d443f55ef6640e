/* What every program of the set shares: it runs its kernel some times and prints one line,
 *     BENCH name reps=N first_ns=T best_ns=T sum=CHECKSUM
 * Times are CPU time of the process where there is such a clock (other programs then disturb less), else monotonic.
 * The number of repetitions is argv[1], or BENCH_N in the environment; 0 measures start-up.
 *
 * A program includes this, defines `static uint64_t kernel(void)`, whose result depends on everything it computed and
 * is the same on every machine (no fused multiply-add, no -ffast-math), and ends in BENCH("name"). */
#ifndef DONJON_BENCH_H
#define DONJON_BENCH_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t bench_now(void) {
    struct timespec t;
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t) != 0) clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int bench_main(const char *name, uint64_t (*run)(void), int argc, char **argv) {
    const char *n = argc > 1 ? argv[1] : getenv("BENCH_N");
    int reps = n && *n ? atoi(n) : 5;
    uint64_t first = 0, best = 0, sum = 0;
    for (int i = 0; i < reps; i++) {
        uint64_t begin = bench_now();
        sum = run();
        uint64_t took = bench_now() - begin;
        if (!i) first = took;
        if (!i || took < best) best = took;
    }
    printf("BENCH %s reps=%d first_ns=%llu best_ns=%llu sum=%016llx\n", name, reps, (unsigned long long)first,
           (unsigned long long)best, (unsigned long long)sum);
    return 0;
}
#define BENCH(name)                                                                                                    \
    int main(int argc, char **argv) {                                                                                  \
        return bench_main(name, kernel, argc, argv);                                                                   \
    }

#define NOINLINE __attribute__((noinline))

static inline uint64_t mix(uint64_t h, uint64_t v) {
    h = (h ^ v) * 0x9E3779B97F4A7C15u;
    return h ^ h >> 32;
}
static inline uint64_t mix_double(uint64_t h, double d) {
    uint64_t bits;
    memcpy(&bits, &d, 8);
    return mix(h, bits);
}
static inline uint64_t next_random(uint64_t *state) { /* xorshift64 */
    uint64_t x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    return *state = x ^ x << 17;
}
#endif
