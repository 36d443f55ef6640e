/* The agent's one loop: descriptors (epoll, level-triggered) and deadlines. One thread; callbacks run one at a time. */
#ifndef DONJON_AGENT_LOOP_H
#define DONJON_AGENT_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

/* A descriptor somebody waits for; lives in its owner. `fd` stays the owner's. */
struct watch {
    int fd;
    uint32_t wanted; /* 0: not in epoll, so that a hang-up nobody can act on does not wake anybody */
    void (*ready)(struct watch *, uint32_t events);
};

/* A deadline; lives in its owner. It may be up to LOOP_TICK_MS late. */
struct deadline {
    struct deadline *next, **at; /* `at` NULL: not set */
    uint64_t when;
    void (*passed)(struct deadline *);
};

enum { LOOP_BATCH = 64, LOOP_TICK_MS = 250 };
struct loop {
    int epoll;
    bool stop;
    struct deadline *deadlines;
    uint64_t next_look;
    struct epoll_event batch[LOOP_BATCH];
    int n_batch;
};

#define OWNER_OF(pointer, type, member) ((type *)((char *)(pointer) - __builtin_offsetof(type, member)))

bool loop_open(struct loop *);
void loop_close(struct loop *);
/* Waits for `events` on w->fd from now on; 0: for nothing. False: out of memory or watches. */
bool loop_want(struct loop *, struct watch *, uint32_t events);
/* To be called before w->fd is closed or w's memory is freed; also inside callbacks. */
void loop_forget(struct loop *, struct watch *);
void loop_set(struct loop *, struct deadline *, uint64_t ms_from_now);
void loop_clear(struct deadline *);
void loop_run(struct loop *); /* until ->stop */
uint64_t loop_now_ms(void);   /* CLOCK_MONOTONIC */

#endif
