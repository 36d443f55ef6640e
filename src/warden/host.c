/* Clocks, entropy, memory and waiting for src/wasi. */
#define _GNU_SOURCE
#include "warden.h"
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

static void *host_realloc(void *ctx, void *block, size_t size) {
    (void)ctx;
    if (size > 0) return realloc(block, size);
    free(block);
    return NULL;
}

static const clockid_t clocks[WASI_CLOCK_COUNT] = {[WASI_CLOCK_REALTIME] = CLOCK_REALTIME,
                                                   [WASI_CLOCK_MONOTONIC] = CLOCK_MONOTONIC,
                                                   [WASI_CLOCK_PROCESS_CPUTIME] = CLOCK_PROCESS_CPUTIME_ID,
                                                   [WASI_CLOCK_THREAD_CPUTIME] = CLOCK_THREAD_CPUTIME_ID};

static uint64_t nanoseconds(struct timespec t) {
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static wasi_errno host_clock_time(void *ctx, enum wasi_clock id, uint64_t *ns) {
    (void)ctx;
    struct timespec t;
    if ((unsigned)id >= WASI_CLOCK_COUNT || clock_gettime(clocks[id], &t) != 0) return WASI_EINVAL;
    *ns = nanoseconds(t);
    return WASI_SUCCESS;
}

static wasi_errno host_clock_resolution(void *ctx, enum wasi_clock id, uint64_t *ns) {
    (void)ctx;
    struct timespec t;
    if ((unsigned)id >= WASI_CLOCK_COUNT || clock_getres(clocks[id], &t) != 0) return WASI_EINVAL;
    *ns = nanoseconds(t) ? nanoseconds(t) : 1;
    return WASI_SUCCESS;
}

static wasi_errno host_random(void *ctx, void *buf, size_t len) {
    (void)ctx;
    uint8_t *p = buf;
    while (len > 0) {
        ssize_t n = getrandom(p, len, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return WASI_EIO;
        p += n;
        len -= (size_t)n;
    }
    return WASI_SUCCESS;
}

static wasi_errno host_poll(void *ctx, struct wasi_poll *items, size_t n, uint64_t timeout) {
    (void)ctx;
    return conns_poll(network(), items, n, timeout);
}

static wasi_errno host_yield(void *ctx) {
    struct warden *w = ctx;
    if (w->stop) return WASI_INTERRUPTED;
    sched_yield();
    return WASI_SUCCESS;
}

static void host_turn(void *ctx) {
    struct warden *w = ctx;
    if (w->tenant) tenant_turn(w);
    tls_turn(w);
}

static void host_trace(void *ctx, const char *line) {
    report_log(ctx, line);
}

struct wasi_host warden_host(struct warden *w) {
    return (struct wasi_host){.ctx = w,
                              .realloc = host_realloc,
                              .clock_time = host_clock_time,
                              .clock_resolution = host_clock_resolution,
                              .random = host_random,
                              .poll = host_poll,
                              .yield = host_yield,
                              .turn = w->tenant || config_uses_tls(&w->boot.config) ? host_turn : NULL,
                              .trace = w->boot.flags & BOOT_DEBUG ? host_trace : NULL};
}
