/* Threads of the warden's. Any virtual CPU runs any of them: a thread gives way when it waits, when it ends, and, where
 * there are more than CPUs, to an interrupt after its slice of time. Its vector registers are saved and restored by
 * user.S in the warden's ring (where that works in both modes), into an area of its own: a switch takes two system
 * calls, "parked" and "resumed", that nobody else may make. */
#include "internal.h"
#include "user.h"

enum { THREADS = 64, RUNS = 1, WAITS = 2 /* 0: free */ };
#define NEVER    (~UINT64_C(0))
#define SLICE_NS UINT64_C(10000000)

/* linux/futex.h, linux/sched.h */
enum { FUTEX_WAIT = 0, FUTEX_WAKE = 1, FUTEX_WAIT_BITSET = 9, FUTEX_WAKE_BITSET = 10, FUTEX_PRIVATE = 0x80 };
enum { FUTEX_CLOCK_REALTIME = 0x100, MASK_ALL = -1 };
enum { CLONE_PARENT_SETTID = 0x100000, CLONE_CHILD_CLEARTID = 0x200000, CLONE_CHILD_SETTID = 0x1000000 };
enum { CLONE_SETTLS = 0x80000, CLONE_DETACHED = 0x400000, CLONE_NEEDED = 0x10f00 /* VM FS FILES SIGHAND THREAD */ };
enum { CLONE_SYSVSEM = 0x40000 };
/* MXCSR in an XSAVE area, and what it is at a thread's start (Intel SDM 1, 10.5.1.2, 11.6.4). */
enum { XSAVE_MXCSR = 24, MXCSR_START = 0x1f80, RFLAGS_START = 0x202 };

static struct thread threads[THREADS];
static struct thread nobody; /* runs on a CPU that has no thread */
unsigned n_threads = 1;
static unsigned used = 1 /* of the array */, last;
static uint32_t next_tid = 2;
static uint64_t area_size, park_at, resume_at;

PERCPU struct thread *current;
static PERCPU bool give_way;
static PERCPU uint64_t slice_end, armed; /* NEVER: nobody else wants this CPU; the host is not asked for an interrupt */

void threads_init(uint64_t xsave_size, uint64_t park, uint64_t resume) {
    area_size = ROUND(xsave_size, PAGE);
    park_at = park;
    resume_at = resume;
    current = threads;
    *current = (struct thread){.state = RUNS, .tid = 1, .on = 1, .signals = SIGNALS_START, .deadline = NEVER};
    nobody.signals.blocked = NEVER;
    slice_end = armed = NEVER;
}

static uint64_t area_of(const struct thread *t) {
    return USER_VECTORS + (uint64_t)(t - threads) * area_size;
}

/* With all registers as they are at a program's start. */
static bool make_area(const struct thread *t) {
    uint64_t at = area_of(t);
    if (!area_at(at)) {
        if (!areas_set(at, at + area_size, PROT_READ | PROT_WRITE, AREA_SHIM)) return false;
        if (!tables_commit(at, at + area_size, PROT_READ | PROT_WRITE, NULL)) return false;
    }
    memset((void *)at, 0, area_size);
    *(uint32_t *)(at + XSAVE_MXCSR) = MXCSR_START;
    return true;
}

/* ---- who waits, and who may run ---- */

static void wake(struct thread *t, int64_t result) {
    if (t->left && result == -EINTR) clock_left(t->left, t->deadline);
    if (t->futex == 0 && result == -ETIMEDOUT) result = 0; /* slept as long as it wanted to */
    t->regs.rax = (uint64_t)result;
    t->state = RUNS;
    t->futex = t->left = 0;
    t->deadline = NEVER;
}

bool threads_others(void) {
    for (unsigned i = 0; n_threads > 1 && i < used; i++)
        if (threads[i].state == RUNS && !threads[i].on) return true;
    return false;
}

/* Wakes whose time is up and who has a signal to take; the time until the next one's is. */
uint64_t threads_look(void) {
    uint64_t now = clock_monotonic(), next = NEVER;
    for (unsigned i = 0; i < used; i++) {
        struct thread *t = &threads[i];
        if (t->state != WAITS) continue;
        if (signal_due_to(t))
            wake(t, -EINTR);
        else if (t->deadline <= now)
            wake(t, -ETIMEDOUT);
        else if (t->deadline != NEVER && t->deadline - now < next)
            next = t->deadline - now;
    }
    return next;
}

void threads_arm(void) {
    uint64_t next = threads_look(), timer = timer_next(), now = clock_monotonic();
    uint64_t left = next < timer ? next : timer, at = left < NEVER - now ? now + left : NEVER;
    if (!threads_others() || cpu_call())
        slice_end = NEVER;
    else if (slice_end == NEVER)
        slice_end = now + SLICE_NS;
    if (slice_end < at) at = slice_end;
    if (at >= armed && armed > now) return;
    armed = at;
    if (at != NEVER) host_call(SHIM_TIMER, at > now ? at - now : 0, 0);
}

void threads_kick(void) {
    armed = NEVER;
    timer_check();
    timer_kick();
    if (slice_end <= clock_monotonic()) {
        give_way = threads_others();
        slice_end = NEVER;
    }
    threads_arm();
}

void threads_signal(void) {
    uint64_t mask = 0;
    for (unsigned i = 0; i < used; i++)
        if (threads[i].on && signal_due_to(&threads[i])) mask |= UINT64_C(1) << (threads[i].on - 1);
    cpus_kick(mask);
}

void thread_yield(void) {
    give_way = threads_others();
}

/* Sleeps until somebody can run, and says who: each in turn. */
static struct thread *choose(void) {
    for (;;) {
        timer_check();
        uint64_t next = threads_look(), timer = timer_left();
        for (unsigned i = 1; i <= used; i++) {
            struct thread *t = &threads[(last + i) % used];
            if (t->state != RUNS || (t->on && t != current)) continue;
            last = (unsigned)(t - threads);
            return t;
        }
        cpu_wait(SHIM_SLEEP, next < timer ? next : timer);
    }
}

/* ---- switching ---- */

static uint64_t fs_base(void) {
    uint64_t base;
    __asm__ volatile("rdfsbase %0" : "=r"(base));
    return base;
}

static uint64_t gs_base(void) {
    uint64_t base;
    __asm__ volatile("rdgsbase %0" : "=r"(base));
    return base;
}

static void enter(struct shim_regs *r, struct thread *t) {
    current = t;
    t->on = cpu + 1;
    slice_end = NEVER;
    __asm__ volatile("wrfsbase %0" ::"r"(t->fs));
    __asm__ volatile("wrgsbase %0" ::"r"(t->gs));
    t->phase = THREAD_RESUMES;
    *r = (struct shim_regs){.rip = resume_at,
                            .rsp = t->regs.rsp,
                            .r8 = area_of(t),
                            .rflags = RFLAGS_START,
                            .cs = SHIM_USER_CS,
                            .ss = SHIM_USER_SS};
    threads_arm();
}

/* The current one, if there still is one, runs here no more; whose turn it is does. */
static void next_thread(struct shim_regs *r) {
    current->on = 0;
    current = &nobody;
    enter(r, choose());
}

void threads_cpu(void) {
    struct shim_regs r;
    current = &nobody;
    give_way = false;
    slice_end = armed = NEVER;
    shim_lock();
    if (cpu >= cpus_up) crash(NULL, 0, "the host started a virtual CPU and said that it did not");
    clock_waits(false); /* as it has, from the start on */
    next_thread(&r);
    shim_unlock(true);
    user_run(&r);
    __builtin_unreachable();
}

/* The current thread's registers are kept; user.S keeps the rest, and says so. */
static bool park(struct shim_regs *r) {
    current->regs = *r;
    current->phase = THREAD_PARKS;
    r->rip = park_at;
    r->r8 = area_of(current);
    return true;
}

bool threads_after(struct shim_regs *r) {
    if (current->state == WAITS && signal_due()) { /* it need not even begin to wait */
        wake(current, -EINTR);
        r->rax = current->regs.rax;
    }
    if (signal_deliver(r)) return true;
    bool way = give_way;
    if (current->phase != THREAD_PLAIN) return false;
    give_way = false;
    if (current->state == RUNS) return way && park(r);
    if (n_threads > 1) return park(r);
    (void)choose(); /* alone: it waits here */
    r->rax = current->regs.rax;
    return signal_deliver(r);
}

bool threads_call(struct shim_regs *r) {
    if (r->rax == USER_PARKED && current->phase == THREAD_PARKS) {
        current->fs = fs_base();
        current->gs = gs_base();
        next_thread(r);
        return true;
    }
    if (r->rax != USER_RESUMED || current->phase != THREAD_RESUMES) return false;
    current->phase = THREAD_PLAIN;
    *r = current->regs;
    signal_deliver(r);
    return true;
}

/* ---- calls ---- */

static int64_t wake_waiters(uint64_t at, uint64_t most, uint32_t mask) {
    int64_t n = 0;
    for (unsigned i = 0; i < used && (uint64_t)n < most; i++) {
        struct thread *t = &threads[i];
        if (t->state != WAITS || t->futex != at || !(t->mask & mask)) continue;
        wake(t, 0);
        n++;
    }
    if (n > 0) threads_arm();
    return n;
}

void thread_sleep(uint64_t deadline, uint64_t left) {
    current->state = WAITS;
    current->deadline = deadline;
    current->left = left;
}

static int64_t wait(uint64_t at, uint32_t value, uint64_t deadline, uint32_t mask) {
    if (*(const volatile uint32_t *)at != value) return -EAGAIN;
    if (deadline <= clock_monotonic()) return -ETIMEDOUT;
    thread_sleep(deadline, 0);
    current->futex = at;
    current->mask = mask;
    return 0;
}

int64_t sys_futex(uint64_t at, uint64_t op, uint64_t value, uint64_t time, uint64_t mask) {
    uint64_t deadline = NEVER, plain = op & ~(uint64_t)(FUTEX_PRIVATE | FUTEX_CLOCK_REALTIME);
    bool wants_mask = plain == FUTEX_WAIT_BITSET || plain == FUTEX_WAKE_BITSET;
    uint32_t bits = wants_mask ? (uint32_t)mask : (uint32_t)MASK_ALL;
    if (at % 4 || bits == 0) return -EINVAL;
    if (!user_ok(at, 4, false)) return -EFAULT;
    if (plain == FUTEX_WAKE || plain == FUTEX_WAKE_BITSET) return wake_waiters(at, value & INT32_MAX, bits);
    if (plain != FUTEX_WAIT && plain != FUTEX_WAIT_BITSET) return -ENOSYS;
    if (time && !clock_deadline(time, plain == FUTEX_WAIT_BITSET, op & FUTEX_CLOCK_REALTIME, &deadline)) return -EINVAL;
    return wait(at, (uint32_t)value, deadline, bits);
}

int64_t sys_clone(const struct shim_regs *r, uint64_t flags, uint64_t stack, uint64_t parent_tid, uint64_t child_tid,
                  uint64_t tls) {
    const uint64_t all = CLONE_NEEDED | CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID |
                         CLONE_CHILD_SETTID | CLONE_DETACHED;
    if ((flags & CLONE_NEEDED) != CLONE_NEEDED || (flags & ~all)) return -EINVAL; /* threads only */
    if (stack >= USER_END || tls >= USER_END) return -EINVAL;
    if ((flags & CLONE_PARENT_SETTID) && !user_ok(parent_tid, 4, true)) return -EFAULT;
    if ((flags & CLONE_CHILD_SETTID) && !user_ok(child_tid, 4, true)) return -EFAULT;
    struct thread *t = threads;
    while (t < threads + THREADS && t->state)
        t++;
    if (t == threads + THREADS) return -EAGAIN;
    if (!make_area(t) || (!area_at(area_of(current)) && !make_area(current))) return -ENOMEM;
    *t = (struct thread){.state = RUNS, .tid = next_tid++, .signals = SIGNALS_START, .deadline = NEVER, .regs = *r};
    t->signals.blocked = current->signals.blocked;
    t->regs.rax = 0;
    if (stack) t->regs.rsp = stack;
    t->fs = flags & CLONE_SETTLS ? tls : fs_base();
    t->gs = gs_base();
    if (flags & CLONE_CHILD_CLEARTID) t->clear_tid = child_tid;
    if (flags & CLONE_PARENT_SETTID) *(uint32_t *)parent_tid = t->tid;
    if (flags & CLONE_CHILD_SETTID) *(uint32_t *)child_tid = t->tid;
    n_threads++;
    if (t >= threads + used) used = (unsigned)(t - threads) + 1;
    cpus_start();
    threads_arm();
    return t->tid;
}

void sys_exit(struct shim_regs *r, uint32_t status) {
    if (n_threads == 1) host_exit(status);
    uint64_t at = current->clear_tid;
    current->state = 0;
    n_threads--;
    if (at && at % 4 == 0 && user_ok(at, 4, true)) {
        *(volatile uint32_t *)at = 0;
        wake_waiters(at, 1, (uint32_t)MASK_ALL);
    }
    next_thread(r);
}

struct thread *thread_of(uint64_t tid) {
    for (unsigned i = 0; i < used; i++)
        if (threads[i].state && threads[i].tid == tid) return &threads[i];
    return NULL;
}
