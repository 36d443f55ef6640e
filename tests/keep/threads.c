/* A program with threads in the warden's place, as glibc makes them: creation and joining, mutexes, condition
 * variables, semaphores, barriers, thread-local variables, vector registers across switches, signals to a thread,
 * sleeping, many threads, and threads that only compute (they must not keep the others from running). Prints "threads:
 * all holds". */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { N = 8, ROUNDS = 2000 };

#define NEED(x)                                                                                                        \
    do {                                                                                                               \
        if (!(x)) {                                                                                                    \
            dprintf(2, "threads: line %d: %s\n", __LINE__, #x);                                                        \
            _exit(1);                                                                                                  \
        }                                                                                                              \
    } while (0)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static _Atomic unsigned atomic_sum;
static unsigned sum, turn;
static __thread unsigned own;

static pthread_t start(void *(*f)(void *), void *arg) {
    pthread_t t;
    NEED(pthread_create(&t, NULL, f, arg) == 0);
    return t;
}

static void *join(pthread_t t) {
    void *result;
    NEED(pthread_join(t, &result) == 0);
    return result;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- counting under a lock, with thread-local variables beside ---- */

static void *count(void *arg) {
    for (unsigned i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&lock);
        unsigned before = sum;
        if (i % 64 == 0) sched_yield(); /* with the lock held: the others wait */
        sum = before + 1;
        pthread_mutex_unlock(&lock);
        atomic_sum++;
        own += (unsigned)(uintptr_t)arg;
    }
    return (void *)(uintptr_t)own;
}

static void counting(void) {
    pthread_t t[N];
    for (uintptr_t i = 0; i < N; i++)
        t[i] = start(count, (void *)i);
    for (uintptr_t i = 0; i < N; i++)
        NEED((uintptr_t)join(t[i]) == i * ROUNDS);
    NEED(sum == N * ROUNDS && atomic_sum == N * ROUNDS && own == 0);
}

/* ---- taking turns ---- */

static void *ping(void *arg) {
    unsigned mine = (unsigned)(uintptr_t)arg;
    for (unsigned i = 0; i < 200; i++) {
        pthread_mutex_lock(&lock);
        while (turn % 3 != mine)
            pthread_cond_wait(&changed, &lock);
        turn++;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

static void turns(void) {
    pthread_t t[3];
    for (uintptr_t i = 0; i < 3; i++)
        t[i] = start(ping, (void *)i);
    for (int i = 0; i < 3; i++)
        join(t[i]);
    NEED(turn == 600);
}

/* ---- vector registers ---- */

static void *spin_vectors(void *arg) {
    uint64_t a[4], b[4];
    for (int i = 0; i < 4; i++)
        a[i] = (uint64_t)(uintptr_t)arg * 0x0101010101010101 + (uint64_t)i;
    uint32_t mxcsr = 0x1f80 | ((uint32_t)(uintptr_t)arg & 3) << 13, back; /* the rounding mode is the thread's, too */
    __asm__ volatile("ldmxcsr %0" ::"m"(mxcsr));
    double end = now() + 0.15;
    do {
        __asm__ volatile("vmovdqu %1, %%ymm7\n mov $2000, %%ecx\n 1: dec %%ecx\n jnz 1b\n vmovdqu %%ymm7, %0"
                         : "=m"(b)
                         : "m"(a)
                         : "ecx", "xmm7", "memory");
        NEED(memcmp(a, b, sizeof a) == 0);
        __asm__ volatile("stmxcsr %0" : "=m"(back));
        NEED((back & 0xffc0) == (mxcsr & 0xffc0));
    } while (now() < end);
    return NULL;
}

static void vectors(void) {
    pthread_t t[4];
    for (uintptr_t i = 0; i < 4; i++)
        t[i] = start(spin_vectors, (void *)(i + 1));
    for (int i = 0; i < 4; i++)
        join(t[i]);
}

/* ---- a thread that never makes a call does not stop the others ---- */

static _Atomic bool stop;
static void *spin(void *arg) {
    (void)arg;
    while (!stop) {
    }
    return NULL;
}

static void *sleeper(void *arg) {
    (void)arg;
    struct timespec t = {0, 20000000};
    for (int i = 0; i < 3; i++)
        NEED(nanosleep(&t, NULL) == 0);
    stop = true;
    return NULL;
}

static void preemption(void) {
    double began = now();
    pthread_t a = start(spin, NULL), b = start(spin, NULL), c = start(sleeper, NULL);
    join(c);
    join(a);
    join(b);
    double took = now() - began;
    NEED(took >= 0.06 && took < 20);
}

/* ---- waiting with an end ---- */

static void timeouts(void) {
    struct timespec t;
    sem_t s;
    NEED(sem_init(&s, 0, 0) == 0);
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_nsec += 30000000;
    if (t.tv_nsec >= 1000000000) t.tv_sec++, t.tv_nsec -= 1000000000;
    double began = now();
    NEED(sem_timedwait(&s, &t) == -1 && errno == ETIMEDOUT);
    NEED(now() - began > 0.02);
    NEED(sem_post(&s) == 0 && sem_timedwait(&s, &t) == 0);
    pthread_mutex_lock(&lock);
    NEED(pthread_cond_timedwait(&changed, &lock, &t) == ETIMEDOUT);
    pthread_mutex_unlock(&lock);
}

/* ---- signals ---- */

static _Atomic pthread_t hit;
static void on_signal(int s) {
    (void)s;
    hit = pthread_self();
}

static void *wait_for_signal(void *arg) {
    struct timespec t = {10, 0}, left = {0, 0};
    sem_post(arg);
    NEED(nanosleep(&t, &left) == -1 && errno == EINTR);
    NEED(left.tv_sec >= 1 && left.tv_sec < 10);
    return NULL;
}

static void signals(void) {
    struct sigaction a = {.sa_handler = on_signal};
    sem_t there;
    sem_init(&there, 0, 0);
    sigaction(SIGUSR1, &a, NULL);
    pthread_t t = start(wait_for_signal, &there);
    sem_wait(&there);
    struct timespec little = {0, 5000000};
    nanosleep(&little, NULL);
    NEED(pthread_kill(t, SIGUSR1) == 0);
    join(t);
    NEED(pthread_equal(hit, t));
    NEED(pthread_kill(pthread_self(), SIGUSR1) == 0 && pthread_equal(hit, pthread_self()));
}

/* ---- many ---- */

static void *meet(void *arg) {
    pthread_barrier_wait(&barrier);
    return arg;
}

static void many(void) {
    enum { MANY = 50 };
    pthread_t t[MANY];
    pthread_attr_t small;
    NEED(pthread_attr_init(&small) == 0 && pthread_attr_setstacksize(&small, 64 << 10) == 0);
    for (int round = 0; round < 3; round++) {
        NEED(pthread_barrier_init(&barrier, NULL, MANY) == 0);
        for (uintptr_t i = 0; i < MANY; i++)
            NEED(pthread_create(&t[i], &small, meet, (void *)i) == 0);
        for (uintptr_t i = 0; i < MANY; i++)
            NEED((uintptr_t)join(t[i]) == i);
    }
}

int main(void) {
    static const struct {
        const char *name;
        void (*run)(void);
    } tests[] = {{"counting", counting}, {"turns", turns},     {"vectors", vectors}, {"preemption", preemption},
                 {"timeouts", timeouts}, {"signals", signals}, {"many", many}};
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {
        double began = now();
        tests[i].run();
        dprintf(2, "threads: %s %.0f ms\n", tests[i].name, (now() - began) * 1000);
    }
    dprintf(2, "threads: all holds\n");
    return 0;
}
