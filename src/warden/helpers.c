#define _GNU_SOURCE
#include "helpers.h"
#include "../shim/shim.h"

#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <unistd.h>

enum { KEPT = 32 << 20, TOP_PAD = 1 << 20 };

struct helper {
    pthread_t thread;
    void (*fn)(void *arg); /* NULL: it has nothing to do */
    void *arg;
};

static struct helper helpers[HELPERS_MOST];
static unsigned count, ready;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

_Noreturn static void *helper_main(void *arg) {
    struct helper *h = arg;
    pthread_mutex_lock(&lock);
    ready++;
    for (;;) {
        pthread_cond_broadcast(&changed);
        while (!h->fn)
            pthread_cond_wait(&changed, &lock);
        pthread_mutex_unlock(&lock);
        h->fn(h->arg);
        pthread_mutex_lock(&lock);
        h->fn = NULL;
    }
}

/* Each has an arena of malloc's for itself: one that they would have to count processors for is a call too many. */
void helpers_start(unsigned n) {
    sigset_t all, old;
    if (n > HELPERS_MOST) n = HELPERS_MOST;
    if (count > 0 || n == 0) return;
    mallopt(M_ARENA_MAX, (int)n + 1);
    /* Memory that is taken away has to be forgotten by every processor: compilers get to keep theirs. */
    mallopt(M_MMAP_THRESHOLD, KEPT);
    mallopt(M_TRIM_THRESHOLD, 2 * KEPT);
    mallopt(M_TOP_PAD, TOP_PAD);
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    while (count < n && pthread_create(&helpers[count].thread, NULL, helper_main, &helpers[count]) == 0)
        count++;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_mutex_lock(&lock);
    while (ready < count) /* what a thread does at its start is behind it */
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

unsigned helpers_count(void) {
    return count;
}

static void *spawn(void *ctx, void (*fn)(void *arg), void *arg) {
    struct helper *free = NULL;
    (void)ctx;
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < count && !free; i++)
        if (!helpers[i].fn) free = &helpers[i];
    if (free) {
        free->arg = arg;
        free->fn = fn;
        pthread_cond_broadcast(&changed);
    }
    pthread_mutex_unlock(&lock);
    return free;
}

static void join(void *ctx, void *thread) {
    const struct helper *h = thread;
    (void)ctx;
    pthread_mutex_lock(&lock);
    while (h->fn)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

static bool put_code(void *ctx, void *at, const void *code, size_t size) {
    (void)ctx;
    return syscall(SHIM_NR_CODE, at, code, size) == 0;
}

const struct donjon_platform *helpers_platform(bool shim) {
    static struct donjon_platform platform;
    platform = *donjon_platform_posix();
    if (count > 0) platform.spawn = spawn;
    platform.join = join;
    if (shim) platform.put_code = put_code;
    return &platform;
}
