#define _GNU_SOURCE
#include "attention.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct attention {
    int epoll, end;
    pthread_t thread;
    pthread_mutex_t lock; /* `block` is written to, or taken away */
    struct gate_block *block;
};

static void raise_word(struct attention *a) {
    pthread_mutex_lock(&a->lock);
    if (a->block) atomic_store(&a->block->attention, 1);
    pthread_mutex_unlock(&a->lock);
}

/* Edges only: what stays readable is the keep's business once it knows. */
static void *watch(void *arg) {
    struct attention *a = arg;
    for (;;) {
        struct epoll_event events[16];
        int n = epoll_wait(a->epoll, events, 16, -1);
        if (n < 0 && errno != EINTR) return NULL;
        for (int i = 0; i < n; i++)
            if (events[i].data.fd == a->end) return NULL;
        if (n > 0) raise_word(a);
    }
}

bool attention_add(struct attention *a, int fd) {
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.fd = fd};
    return epoll_ctl(a->epoll, EPOLL_CTL_ADD, fd, &e) == 0;
}

void attention_block(struct attention *a, struct gate_block *block) {
    pthread_mutex_lock(&a->lock);
    a->block = block;
    pthread_mutex_unlock(&a->lock);
    raise_word(a); /* for what came before */
}

/* No signal handler of this process runs in it. */
static bool start(struct attention *a) {
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int error = pthread_create(&a->thread, NULL, watch, a);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return error == 0;
}

struct attention *attention_new(void) {
    struct attention *a = calloc(1, sizeof *a);
    if (!a) return NULL;
    pthread_mutex_init(&a->lock, NULL);
    a->epoll = epoll_create1(EPOLL_CLOEXEC);
    a->end = eventfd(0, EFD_CLOEXEC);
    struct epoll_event e = {.events = EPOLLIN, .data.fd = a->end};
    if (a->epoll >= 0 && a->end >= 0 && epoll_ctl(a->epoll, EPOLL_CTL_ADD, a->end, &e) == 0 && start(a)) return a;
    if (a->epoll >= 0) close(a->epoll);
    if (a->end >= 0) close(a->end);
    free(a);
    return NULL;
}

void attention_delete(struct attention *a) {
    if (!a) return;
    (void)!write(a->end, &(uint64_t){1}, sizeof(uint64_t));
    pthread_join(a->thread, NULL);
    close(a->epoll);
    close(a->end);
    pthread_mutex_destroy(&a->lock);
    free(a);
}
