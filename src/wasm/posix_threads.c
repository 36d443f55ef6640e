/* The ordinary platform with threads for compiling. Its own object file: who runs programs only links no thread. */
#include "donjon/platform.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

struct share {
    pthread_t thread;
    unsigned k;
    void (*fn)(void *arg, unsigned k);
    void *arg;
};

static void *thread_main(void *arg) {
    struct share *s = arg;
    s->fn(s->arg, s->k);
    return NULL;
}

/* Signals are for the program's own threads. What gets no thread runs on this one. */
static void parallel(void *ctx, unsigned n, void (*fn)(void *arg, unsigned k), void *arg) {
    (void)ctx;
    unsigned started = 1;
    struct share *shares = calloc(n, sizeof *shares);
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    for (; shares && started < n; started++) {
        shares[started] = (struct share){.k = started, .fn = fn, .arg = arg};
        if (pthread_create(&shares[started].thread, NULL, thread_main, &shares[started])) break;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    fn(arg, 0);
    for (unsigned k = started; k < n; k++)
        fn(arg, k);
    for (unsigned k = 1; k < started; k++)
        pthread_join(shares[k].thread, NULL);
    free(shares);
}

struct spawned {
    pthread_t thread;
    void (*fn)(void *arg);
    void *arg;
};

static void *spawned_main(void *arg) {
    struct spawned *s = arg;
    s->fn(s->arg);
    return NULL;
}

static void *spawn(void *ctx, void (*fn)(void *arg), void *arg) {
    (void)ctx;
    struct spawned *s = malloc(sizeof *s);
    sigset_t all, old;
    if (!s) return NULL;
    *s = (struct spawned){.fn = fn, .arg = arg};
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    int rc = pthread_create(&s->thread, NULL, spawned_main, s);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc == 0) return s;
    free(s);
    return NULL;
}

static void join(void *ctx, void *thread) {
    (void)ctx;
    struct spawned *s = thread;
    pthread_join(s->thread, NULL);
    free(s);
}

static struct donjon_platform threads;

static void fill(void) {
    threads = *donjon_platform_posix();
    threads.parallel = parallel;
    threads.spawn = spawn;
    threads.join = join;
}

const struct donjon_platform *donjon_platform_posix_threads(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, fill);
    return &threads;
}
