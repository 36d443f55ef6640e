/* Time is the CPU's time stamp counter, from where the host said it was at the start: after that the host has no hand
 * in it, other than through the counter itself. */
#include "internal.h"

#define SECOND UINT64_C(1000000000)
/* A counter outside of these is a host that lies. */
enum { KHZ_LEAST = 100000, KHZ_MOST = 10000000 };
/* Linux's clocks. */
enum { REALTIME, MONOTONIC, PROCESS_CPUTIME, THREAD_CPUTIME, CLOCKS = 12, TIMER_ABSTIME = 1 };
enum { ITIMER_REAL, ITIMER_PROF = 2 };

struct timespec {
    int64_t sec, nsec;
};
struct timeval_pair {
    int64_t interval_sec, interval_usec, value_sec, value_usec;
};

static uint64_t tsc_start, last_tsc, per_tick; /* nanoseconds per tick, 32.32 */
static uint64_t realtime_start, monotonic_start;
static uint64_t waited, waiting; /* by CPUs that do not wait any more, less the start of those that do; how many do */
/* at: of clock_monotonic(), 0: off. The one that counts computing only ends no waits: it is due at the first kick after
 * its time, and the waits before that are not taken off. */
static struct timer { uint64_t at, interval; } real, prof;

void clock_init(const struct shim_boot *b) {
    if (b->tsc_khz < KHZ_LEAST || b->tsc_khz > KHZ_MOST) crash(NULL, 0, "the host's clock frequency makes no sense");
    if (b->realtime_ns > UINT64_MAX / 2 || b->monotonic_ns > UINT64_MAX / 2)
        crash(NULL, 0, "the host's time makes no sense");
    tsc_start = last_tsc = rdtsc();
    per_tick = (UINT64_C(1000000) << 32) / b->tsc_khz;
    waiting = b->cpus - 1; /* since the start */
    realtime_start = b->realtime_ns;
    monotonic_start = b->monotonic_ns;
}

uint64_t clock_started(void) {
    uint64_t now = rdtsc();
    if (now > last_tsc) last_tsc = now; /* never backwards, whatever a migration does to the counter */
    return (uint64_t)((unsigned __int128)(last_tsc - tsc_start) * per_tick >> 32);
}

uint64_t clock_monotonic(void) {
    return monotonic_start + clock_started();
}

uint64_t clock_realtime(void) {
    return realtime_start + clock_started();
}

void clock_waits(bool begins) {
    uint64_t now = clock_started();
    waited += begins ? -now : now;
    waiting += begins ? 1 : UINT64_MAX;
}

/* Of all CPUs. */
static uint64_t cpu_time(uint64_t now) {
    return (cpus_wanted - waiting) * now - waited;
}

int64_t sys_clock_gettime(uint64_t clock, uint64_t to) {
    if (clock >= CLOCKS) return -EINVAL;
    if (!user_ok(to, sizeof(struct timespec), true)) return -EFAULT;
    bool of_cpu = clock == PROCESS_CPUTIME || clock == THREAD_CPUTIME, real = clock == REALTIME || clock == 5;
    uint64_t ns = of_cpu ? cpu_time(clock_started()) : real ? clock_realtime() : clock_monotonic();
    *(struct timespec *)to = (struct timespec){(int64_t)(ns / SECOND), (int64_t)(ns % SECOND)};
    return 0;
}

int64_t sys_time(uint64_t to) {
    int64_t now = (int64_t)(clock_realtime() / SECOND);
    if (to && !user_ok(to, sizeof now, true)) return -EFAULT;
    if (to) *(int64_t *)to = now;
    return now;
}

int64_t sys_clock_getres(uint64_t clock, uint64_t to) {
    if (clock >= CLOCKS) return -EINVAL;
    if (!to) return 0;
    if (!user_ok(to, sizeof(struct timespec), true)) return -EFAULT;
    *(struct timespec *)to = (struct timespec){0, 1};
    return 0;
}

static bool read_time(uint64_t from, uint64_t *ns) {
    if (!user_ok(from, sizeof(struct timespec), false)) return false;
    struct timespec t = *(const struct timespec *)from;
    ONE_COPY(t);
    if (t.sec < 0 || t.nsec < 0 || (uint64_t)t.nsec >= SECOND) return false;
    bool large = (uint64_t)t.sec >= UINT64_MAX / 4 / SECOND;
    *ns = large ? UINT64_MAX / 4 : (uint64_t)t.sec * SECOND + (uint64_t)t.nsec;
    return true;
}

static void write_time(uint64_t to, uint64_t ns) {
    *(struct timespec *)to = (struct timespec){(int64_t)(ns / SECOND), (int64_t)(ns % SECOND)};
}

void clock_left(uint64_t to, uint64_t deadline) {
    uint64_t now = clock_monotonic();
    if (user_ok(to, sizeof(struct timespec), true)) write_time(to, deadline > now ? deadline - now : 0);
}

bool clock_deadline(uint64_t timespec, bool absolute, bool realtime, uint64_t *deadline) {
    uint64_t ns, now = clock_monotonic();
    if (!read_time(timespec, &ns)) return false;
    if (absolute) {
        uint64_t from = realtime ? clock_realtime() : now;
        ns = ns > from ? ns - from : 0;
    }
    *deadline = now + ns;
    return true;
}

int64_t sys_nanosleep(uint64_t clock, uint64_t flags, uint64_t want, uint64_t left) {
    uint64_t deadline;
    bool absolute = flags & TIMER_ABSTIME;
    if (clock >= CLOCKS || !clock_deadline(want, absolute, clock == REALTIME, &deadline)) return -EINVAL;
    thread_sleep(deadline, absolute ? 0 : left);
    return 0;
}

/* ---- the timer ---- */

static uint64_t left_of(const struct timer *t) {
    if (!t->at) return ~UINT64_C(0);
    uint64_t now = clock_monotonic();
    return t->at > now ? t->at - now : 0;
}

static bool expired(struct timer *t) {
    if (left_of(t) != 0) return false;
    t->at = t->interval ? clock_monotonic() + t->interval : 0;
    return true;
}

uint64_t timer_left(void) {
    return left_of(&real);
}

uint64_t timer_next(void) {
    uint64_t timer = timer_left(), computing = left_of(&prof);
    return computing < timer ? computing : timer;
}

void timer_check(void) {
    if (!expired(&real)) return;
    signal_raise(SIGALRM);
    if (!signal_due_to(current)) threads_signal();
    threads_arm();
}

void timer_kick(void) {
    if (!expired(&prof)) return;
    signal_raise(SIGPROF);
    if (!signal_due_to(current)) threads_signal();
}

static bool to_ns(int64_t sec, int64_t usec, uint64_t *ns) {
    if (sec < 0 || usec < 0 || usec >= 1000000) return false;
    bool large = (uint64_t)sec >= UINT64_MAX / 4 / SECOND;
    *ns = large ? UINT64_MAX / 4 : (uint64_t)sec * SECOND + (uint64_t)usec * 1000;
    return true;
}

int64_t sys_setitimer(uint64_t which, uint64_t new, uint64_t old) {
    struct timeval_pair t;
    struct timer *timer = which == ITIMER_PROF ? &prof : &real;
    uint64_t value, interval, left = left_of(timer);
    if (which != ITIMER_REAL && which != ITIMER_PROF) return -EINVAL;
    if (!user_ok(new, sizeof t, false) || (old && !user_ok(old, sizeof t, true))) return -EFAULT;
    t = *(const struct timeval_pair *)new;
    ONE_COPY(t);
    if (!to_ns(t.value_sec, t.value_usec, &value) || !to_ns(t.interval_sec, t.interval_usec, &interval)) return -EINVAL;
    if (left == ~UINT64_C(0)) left = 0;
    if (old)
        *(struct timeval_pair *)old =
            (struct timeval_pair){(int64_t)(timer->interval / SECOND), (int64_t)(timer->interval % SECOND / 1000),
                                  (int64_t)(left / SECOND), (int64_t)(left % SECOND / 1000)};
    *timer = (struct timer){value ? clock_monotonic() + value : 0, interval};
    threads_arm();
    return 0;
}
