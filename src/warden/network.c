/* Waiting for everything a program waits for, and its sockets: src/warden/conn.h over the gate. */
#include "warden.h"
#include <time.h>

#define FINISH_NS UINT64_C(5000000000) /* what a program wrote and left behind at its end must be gone by then */

_Static_assert((int)CONN_POLL == (int)GATE_MAX_POLL - (int)GATE_ATTEND_MAX, "what gate_poll_files takes");

static struct conns conns;

static wasi_errno env_poll(void *ctx, struct wasi_poll *items, size_t n, uint64_t timeout,
                           const struct gate_receiver *receiver) {
    struct warden *w = ctx;
    wasi_errno e = gate_poll_receive(&w->files, items, n, timeout, receiver);
    tls_waited(w);
    return e;
}

static wasi_errno env_send_many(void *ctx, struct gate_outgoing *sends, size_t n) {
    struct warden *w = ctx;
    return gate_send_many(&w->files, sends, n);
}

static uint8_t *env_stage(void *ctx, size_t *size) {
    struct warden *w = ctx;
    *size = GATE_DATA_SIZE;
    return gate_stage(&w->files);
}

static wasi_errno env_send_staged(void *ctx, struct wasi_file *socket, uint32_t len, uint32_t *taken) {
    (void)ctx;
    return gate_send_staged(socket, len, taken);
}

uint64_t network_now(void *ctx) {
    (void)ctx;
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

static void env_log(void *ctx, const char *line) {
    report_log(ctx, line);
}

static void before_wait(void *ctx) {
    (void)ctx;
    conns_send_held(&conns);
}

struct conns *network(void) {
    return &conns;
}

void network_start(struct warden *w) {
    const struct conns_env env = {.ctx = w,
                                  .poll = env_poll,
                                  .send_many = env_send_many,
                                  .stage = env_stage,
                                  .send_staged = env_send_staged,
                                  .now = network_now,
                                  .log = env_log};
    conns_init(&conns, &env);
    w->files.before_wait = before_wait;
}

struct wasi_file *network_file(struct warden *w, uint32_t handle, bool listening) {
    struct wasi_file *below = listening ? gate_listener(&w->files, handle) : gate_socket(&w->files, handle);
    if (!below) return NULL;
    return listening ? plain_listener_new(&conns, below) : plain_conn_new(&conns, below);
}

void network_finish(struct warden *w) {
    conns_flush(&conns, FINISH_NS);
    tls_finish(w);
}
