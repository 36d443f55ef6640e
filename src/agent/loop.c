#include "loop.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

uint64_t loop_now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

bool loop_open(struct loop *l) {
    *l = (struct loop){.epoll = epoll_create1(EPOLL_CLOEXEC)};
    return l->epoll >= 0;
}

void loop_close(struct loop *l) {
    if (l->epoll >= 0) close(l->epoll);
    l->epoll = -1;
}

bool loop_want(struct loop *l, struct watch *w, uint32_t events) {
    if (events == w->wanted) return true;
    struct epoll_event e = {.events = events, .data.ptr = w};
    int op = !events ? EPOLL_CTL_DEL : w->wanted ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (epoll_ctl(l->epoll, op, w->fd, &e)) return false;
    w->wanted = events;
    return true;
}

void loop_forget(struct loop *l, struct watch *w) {
    loop_want(l, w, 0);
    for (int i = 0; i < l->n_batch; i++)
        if (l->batch[i].data.ptr == w) l->batch[i].data.ptr = NULL;
}

void loop_set(struct loop *l, struct deadline *d, uint64_t ms) {
    loop_clear(d);
    d->when = loop_now_ms() + ms;
    d->next = l->deadlines;
    if (d->next) d->next->at = &d->next;
    d->at = &l->deadlines;
    l->deadlines = d;
    if (!l->next_look || d->when < l->next_look) l->next_look = d->when;
}

void loop_clear(struct deadline *d) {
    if (!d->at) return;
    *d->at = d->next;
    if (d->next) d->next->at = d->at;
    d->at = NULL;
}

/* One deadline that has passed; NULL: none has. The list is searched anew each time: a callback may change all of it.
 */
static struct deadline *passed(struct loop *l, uint64_t now, uint64_t *earliest) {
    *earliest = UINT64_MAX;
    for (struct deadline *d = l->deadlines; d; d = d->next) {
        if (d->when <= now) return d;
        if (d->when < *earliest) *earliest = d->when;
    }
    return NULL;
}

/* Looks at the deadlines at most once a tick, so that thousands of them cost nothing while bytes move. */
static int look(struct loop *l) {
    if (!l->deadlines) {
        l->next_look = 0;
        return -1;
    }
    uint64_t now = loop_now_ms(), earliest;
    if (now < l->next_look) return (int)(l->next_look - now);
    for (struct deadline *d; (d = passed(l, now, &earliest));) {
        loop_clear(d);
        d->passed(d);
    }
    if (!l->deadlines) return -1;
    l->next_look = earliest > now + LOOP_TICK_MS ? earliest : now + LOOP_TICK_MS;
    uint64_t wait = l->next_look - now;
    return wait > 60000 ? 60000 : (int)wait;
}

void loop_run(struct loop *l) {
    while (!l->stop) {
        int wait = look(l);
        if (l->stop) break;
        int n = epoll_wait(l->epoll, l->batch, LOOP_BATCH, wait);
        if (n < 0 && errno != EINTR) break;
        l->n_batch = n > 0 ? n : 0;
        for (int i = 0; i < l->n_batch; i++) {
            struct watch *w = l->batch[i].data.ptr;
            if (w) w->ready(w, l->batch[i].events);
        }
        l->n_batch = 0;
    }
}
