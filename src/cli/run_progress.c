#include "run.h"
#include <signal.h>
#include <time.h>
#include <unistd.h>

enum { PROGRESS_MIN_SIZE = 4 << 20, PROGRESS_AFTER_MS = 500 }; /* below, nobody gets to read it */

static void *progress_main(void *ctx) {
    struct progress *p = ctx;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += PROGRESS_AFTER_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&p->lock);
    while (!p->over && !pthread_cond_timedwait(&p->changed, &p->lock, &until))
        continue;
    if (!p->over) {
        char clean[256];
        fprintf(stderr, "loading %s (%zu MiB) ...", cli_printable(p->what, clean, sizeof clean, false), p->size >> 20);
        p->shown = true;
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

void progress_start(struct progress *p, const char *what, size_t size) {
    *p = (struct progress){
        .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, .what = what, .size = size};
    if (size < PROGRESS_MIN_SIZE || !isatty(STDERR_FILENO)) return;
    sigset_t all, old; /* signals are for the main thread, whose end is the keep's end */
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    p->started = !pthread_create(&p->thread, NULL, progress_main, p);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void progress_end(void *ctx) {
    struct progress *p = ctx;
    if (!p->started) return;
    pthread_mutex_lock(&p->lock);
    p->over = true;
    pthread_cond_signal(&p->changed);
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->thread, NULL);
    p->started = false;
    if (p->shown) fputs("\r\033[K", stderr);
}
