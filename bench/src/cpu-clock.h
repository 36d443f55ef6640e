/* Given to programs of other sets with -include: their monotonic clock becomes CPU time of the process where there is
 * such a clock, as in bench.h. */
#ifndef DONJON_BENCH_CPU_CLOCK_H
#define DONJON_BENCH_CPU_CLOCK_H

#include <time.h>

static inline int bench_clock_gettime(clockid_t clock, struct timespec *t) {
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, t) == 0) return 0;
    return clock_gettime(clock, t);
}
#define clock_gettime bench_clock_gettime
#endif
