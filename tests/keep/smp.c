/* A program in the warden's place whose threads run on several virtual CPUs at once: what one CPU takes away (munmap,
 * mprotect, mremap) no other may use afterwards; memory is never two threads' at once; counters, futexes, signals and
 * timers hold; many threads come and go; and the program ends while others of its threads run. Prints "smp: all holds".
 * It holds on one CPU, too. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define PAGE  4096ul
#define LARGE (2ul << 20)
#define NEED(x)                                                                                                        \
    do {                                                                                                               \
        if (!(x)) {                                                                                                    \
            dprintf(2, "smp: line %d: %s\n", __LINE__, #x);                                                            \
            _exit(1);                                                                                                  \
        }                                                                                                              \
    } while (0)

#ifndef SCALE
#define SCALE 100
#endif
#define SOME(n) ((n)*SCALE / 100u) /* how much of everything: per cent */

static pthread_t start(void *(*f)(void *), void *arg) {
    pthread_t t;
    pthread_attr_t small;
    NEED(pthread_attr_init(&small) == 0 && pthread_attr_setstacksize(&small, 64 << 10) == 0);
    NEED(pthread_create(&t, &small, f, arg) == 0);
    return t;
}

static void join(pthread_t t) {
    NEED(pthread_join(t, NULL) == 0);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t *map(size_t size) {
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(p != MAP_FAILED);
    return p;
}

/* ---- counters ---- */

static _Atomic uint64_t sum;
static void *add(void *arg) {
    (void)arg;
    for (unsigned i = 0; i < SOME(200000); i++)
        sum++;
    return NULL;
}

static void counters(void) {
    pthread_t t[4];
    for (int i = 0; i < 4; i++)
        t[i] = start(add, NULL);
    for (int i = 0; i < 4; i++)
        join(t[i]);
    NEED(sum == SOME(800000));
}

/* ---- what is taken away: a reader (or writer) that never makes a call, until it faults ---- */

enum { OLD = 0x01d, NEW = 0xbad };
enum way { UNMAP, PROTECT, READ_ONLY, MOVE };
static struct {
    uint64_t *at;
    bool writes;
    _Atomic bool taken; /* the call has returned */
    _Atomic bool inside, wrong;
    _Atomic uint64_t rounds;
} seen;
static __thread sigjmp_buf jump;

static void on_fault(int s) {
    (void)s;
    siglongjmp(jump, 1);
}

static void *use(void *arg) {
    (void)arg;
    if (sigsetjmp(jump, 1)) return NULL; /* it faulted, as it should */
    for (;;) {
        bool taken = seen.taken;
        if (seen.writes)
            *(volatile uint64_t *)seen.at = OLD;
        else if (*(volatile uint64_t *)seen.at != OLD)
            seen.wrong = true;
        if (taken) seen.wrong = true;
        seen.inside = true;
        seen.rounds++;
        if (seen.wrong) return NULL;
    }
}

static void take_away(enum way way, size_t size) {
    uint64_t *p = map(size), *again = map(size), *moved = NULL;
    NEED(mprotect(again, size, PROT_NONE) == 0 && madvise(again, size, MADV_DONTNEED) == 0); /* a place, no memory */
    for (size_t i = 0; i < size / 8; i += PAGE / 8)
        p[i] = OLD;
    const size_t middle = size / 2 / PAGE * PAGE / 8;
    seen.at = p + middle;
    seen.writes = way == READ_ONLY;
    seen.taken = seen.inside = seen.wrong = false;
    pthread_t t = start(use, NULL);
    while (!seen.inside)
        sched_yield();
    switch (way) {
    case UNMAP: NEED(munmap(p, size) == 0); break;
    case READ_ONLY: NEED(mprotect(p, size, PROT_READ) == 0); break;
    case MOVE:
        moved = mremap(p, size, 2 * size, MREMAP_MAYMOVE);
        if (moved == p) { /* grown in place: nothing was taken */
            NEED(munmap(p, 2 * size) == 0);
            moved = NULL;
        }
        break;
    default: NEED(mprotect(p, size, PROT_NONE) == 0); break;
    }
    seen.taken = true;
    NEED(mprotect(again, size, PROT_READ | PROT_WRITE) == 0); /* perhaps the very frames */
    for (size_t i = 0; i < size / 8; i += PAGE / 8)
        again[i] = NEW;
    join(t);
    NEED(!seen.wrong);
    munmap(again, size);
    if (moved) NEED(moved[middle] == OLD && munmap(moved, 2 * size) == 0);
    if (way == PROTECT || way == READ_ONLY) munmap(p, size);
}

static void taken(void) {
    struct sigaction a = {.sa_handler = on_fault, .sa_flags = SA_NODEFER}, old;
    sigaction(SIGSEGV, &a, &old);
    const size_t sizes[] = {PAGE, 16 * PAGE, LARGE, 2 * LARGE + PAGE};
    for (unsigned i = 0; i < SOME(5) + 1; i++)
        for (int way = UNMAP; way <= MOVE; way++)
            for (int s = 0; s < 4; s++)
                take_away((enum way)way, sizes[s]);
    sigaction(SIGSEGV, &old, NULL);
}

/* ---- memory is one thread's at a time ---- */

static void *own_memory(void *arg) {
    uint64_t tag = (uint64_t)(uintptr_t)arg, seed = tag * 0x9e3779b97f4a7c15;
    for (unsigned i = 0; i < SOME(60); i++) {
        seed = seed * 6364136223846793005 + 1442695040888963407;
        size_t pages = (seed >> 33) % 700 + 1;
        uint64_t *p = map(pages * PAGE);
        for (size_t k = 0; k < pages; k++) {
            NEED(p[k * PAGE / 8] == 0);
            p[k * PAGE / 8] = tag << 32 | k;
        }
        if (i % 3 == 0) NEED(mprotect(p, pages * PAGE / 2 / PAGE * PAGE, PROT_READ) == 0);
        for (size_t k = 0; k < pages; k++)
            NEED(p[k * PAGE / 8] == (tag << 32 | k));
        NEED(munmap(p, pages * PAGE) == 0);
    }
    return NULL;
}

static void memory(void) {
    pthread_t t[4];
    for (uintptr_t i = 0; i < 4; i++)
        t[i] = start(own_memory, (void *)(i + 1));
    for (int i = 0; i < 4; i++)
        join(t[i]);
}

/* ---- futexes: to and fro, with and without threads that compute beside ---- */

static sem_t to, fro;
static void *answer(void *arg) {
    (void)arg;
    for (unsigned i = 0; i < SOME(500); i++) {
        NEED(sem_wait(&to) == 0);
        NEED(sem_post(&fro) == 0);
    }
    return NULL;
}

static void ping_pong(void) {
    NEED(sem_init(&to, 0, 0) == 0 && sem_init(&fro, 0, 0) == 0);
    pthread_t t = start(answer, NULL);
    for (unsigned i = 0; i < SOME(500); i++) {
        NEED(sem_post(&to) == 0);
        NEED(sem_wait(&fro) == 0);
    }
    join(t);
}

/* ---- signals to a thread that runs, on another CPU perhaps ---- */

static _Atomic unsigned handled;
static _Atomic bool ready, over;
static __thread bool target;
static void on_signal(int s) {
    (void)s;
    NEED(target);
    handled++;
}

static void *compute(void *arg) {
    target = arg != NULL;
    ready = true;
    while (!over) {
    }
    return NULL;
}

static void signals(void) {
    struct sigaction a = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &a, NULL);
    over = ready = false;
    pthread_t t = start(compute, &handled);
    while (!ready)
        sched_yield();
    for (unsigned i = 0; i < SOME(50); i++) {
        NEED(pthread_kill(t, SIGUSR1) == 0);
        while (handled <= i)
            sched_yield();
        NEED(handled == i + 1);
    }
    over = true;
    join(t);
}

/* ---- a timer's signal, and one that sleeps, while others compute ---- */

static _Atomic unsigned ticks;
static void on_tick(int s) {
    (void)s;
    ticks++;
}

static void timers(void) {
    struct sigaction a = {.sa_handler = on_tick};
    struct itimerval t = {{0, 5000}, {0, 5000}}, none = {{0, 0}, {0, 0}};
    pthread_t spin[4];
    over = false;
    sigaction(SIGALRM, &a, NULL);
    for (int i = 0; i < 4; i++)
        spin[i] = start(compute, NULL);
    NEED(setitimer(ITIMER_REAL, &t, NULL) == 0);
    struct timespec left = {0, 50000000};
    while (nanosleep(&left, &left) != 0) {
    }
    while (ticks < 5)
        sched_yield();
    NEED(setitimer(ITIMER_REAL, &none, NULL) == 0);
    over = true;
    for (int i = 0; i < 4; i++)
        join(spin[i]);
    /* one alone that computes does not keep another asleep */
    over = false;
    pthread_t one = start(compute, NULL);
    left = (struct timespec){0, 5000000};
    NEED(nanosleep(&left, NULL) == 0);
    over = true;
    join(one);
}

/* ---- many ---- */

static void *nothing(void *arg) {
    return arg;
}

static void *make_many(void *arg) {
    for (unsigned i = 0; i < SOME(100); i++) {
        pthread_t t[4];
        for (int k = 0; k < 4; k++)
            t[k] = start(nothing, NULL);
        for (int k = 0; k < 4; k++)
            join(t[k]);
    }
    return arg;
}

static void many(void) {
    pthread_t t[4];
    for (int i = 0; i < 4; i++)
        t[i] = start(make_many, NULL);
    for (int i = 0; i < 4; i++)
        join(t[i]);
}

/* ---- how fast two threads see each other's stores: they run at once, or they do not ---- */

static _Atomic unsigned turn;
static void *other_turns(void *arg) {
    for (unsigned i = 0; i < 20; i++) {
        while (turn != 2 * i + 1) {
        }
        turn = 2 * i + 2;
    }
    return arg;
}

static void turns(void) {
    turn = 0;
    pthread_t t = start(other_turns, NULL);
    double began = 0;
    for (unsigned i = 0; i < 20; i++) {
        turn = 2 * i + 1;
        while (turn != 2 * i + 2) {
        }
        if (i == 0) began = now();
    }
    dprintf(2, "smp: a turn takes %.1f us\n", (now() - began) * 1e6 / 19);
    join(t);
}

static void *forever(void *arg) {
    for (uint64_t i = 0;; i++)
        if (arg) munmap(map(PAGE * (1 + i % 8)), PAGE * (1 + i % 8));
    return NULL;
}

int main(void) {
    static const struct {
        const char *name;
        void (*run)(void);
    } tests[] = {{"counters", counters}, {"taken", taken},   {"memory", memory}, {"ping_pong", ping_pong},
                 {"signals", signals},   {"timers", timers}, {"many", many},     {"turns", turns}};
    cpu_set_t set;
    NEED(sched_getaffinity(0, sizeof set, &set) == 0);
    dprintf(2, "smp: %d CPUs\n", CPU_COUNT(&set));
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {
        double began = now();
        tests[i].run();
        dprintf(2, "smp: %s %.0f ms\n", tests[i].name, (now() - began) * 1000);
    }
    for (uintptr_t i = 0; i < 4; i++)
        start(forever, (void *)(i & 1));
    usleep(20000);
    dprintf(2, "smp: all holds\n");
    return 0; /* while they run */
}
