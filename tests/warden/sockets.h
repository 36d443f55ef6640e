/* Sockets in memory with a clock of their own, in the place of the gate's: for tests of connections (conn.h). */
#ifndef DONJON_TESTS_WARDEN_SOCKETS_H
#define DONJON_TESTS_WARDEN_SOCKETS_H

#include "warden/conn.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SOCKETS = 8, BUFFER = 1 << 20 };

struct sock { /* the warden's end; the peer's end is `ssl`, an OpenSSL client, or the test */
    struct wasi_file file;
    uint8_t *in, *out;              /* what the peer has sent, and what it has not fetched */
    size_t in_size, out_size, room; /* room: how much `out` takes at all */
    bool peer_ended, ended, broken, closed;
    void *ssl;
};

static struct {
    struct sock socks[SOCKETS];
    uint64_t now;
    unsigned polls, batches, batched, receives, stagings, sends, recvs;
    bool with_stage, staging;
    uint8_t area[GATE_DATA_SIZE]; /* the gate's */
    char log[400];
} net;

static struct sock *sock_of(struct wasi_file *f) {
    return (struct sock *)f;
}

static wasi_errno sock_recv(struct wasi_file *f, const struct wasi_iov *iov, uint32_t n, uint16_t riflags,
                            uint16_t fdflags, size_t *done, uint16_t *roflags) {
    struct sock *s = sock_of(f);
    size_t want = gate_iov_size(iov, n), at = 0;
    assert_false(net.staging);
    net.recvs++;
    *roflags = 0;
    *done = s->in_size < want ? s->in_size : want;
    if (s->broken) return WASI_ECONNRESET;
    if (*done == 0 && !s->peer_ended) {
        assert_true(fdflags & WASI_FDFLAG_NONBLOCK); /* this network has nobody who could go on meanwhile */
        return WASI_EAGAIN;
    }
    for (uint32_t i = 0; i < n && at < *done; i++) {
        size_t piece = iov[i].len < *done - at ? iov[i].len : *done - at;
        memcpy(iov[i].buf, s->in + at, piece);
        at += piece;
    }
    if (riflags & WASI_RI_PEEK) return WASI_SUCCESS;
    memmove(s->in, s->in + *done, s->in_size - *done);
    s->in_size -= *done;
    return WASI_SUCCESS;
}

static uint32_t put(struct sock *s, const uint8_t *bytes, size_t n) {
    size_t fits = s->out_size < s->room ? s->room - s->out_size : 0;
    if (n > fits) n = fits;
    memcpy(s->out + s->out_size, bytes, n);
    s->out_size += n;
    return (uint32_t)n;
}

static wasi_errno sock_send(struct wasi_file *f, const struct wasi_iov *iov, uint32_t n, uint16_t fdflags,
                            size_t *done) {
    struct sock *s = sock_of(f);
    (void)fdflags;
    assert_false(net.staging);
    assert_true(gate_iov_size(iov, n) > 0 && !s->ended && !s->closed);
    net.sends++;
    *done = 0;
    if (s->broken) return WASI_EPIPE;
    for (uint32_t i = 0; i < n; i++)
        *done += put(s, iov[i].buf, iov[i].len);
    return *done ? WASI_SUCCESS : WASI_EAGAIN;
}

static wasi_errno sock_poll(struct wasi_file *f, struct wasi_poll *out) {
    out->token = (uint64_t)(sock_of(f) - net.socks) + 1;
    return WASI_SUCCESS;
}

static wasi_errno sock_shutdown(struct wasi_file *f, uint8_t how) {
    if (how & WASI_SHUT_WR) sock_of(f)->ended = true;
    return WASI_SUCCESS;
}

static void sock_close(struct wasi_file *f) {
    assert_false(sock_of(f)->closed);
    sock_of(f)->closed = true;
}

static const struct wasi_file_ops sock_ops = {
    .close = sock_close, .recv = sock_recv, .send = sock_send, .poll = sock_poll, .shutdown = sock_shutdown};

/* ---- what the connections ask of the warden ---- */

static wasi_errno env_poll(void *ctx, struct wasi_poll *items, size_t n, uint64_t timeout,
                           const struct gate_receiver *receiver) {
    size_t ready = 0;
    (void)ctx;
    assert_false(net.staging);
    net.polls++;
    for (size_t i = 0; i < n; i++) {
        struct sock *s = &net.socks[items[i].token - 1];
        bool reads = items[i].interest & WASI_POLL_READ && (s->in_size > 0 || s->peer_ended || s->broken);
        items[i].ready = reads || (items[i].interest & WASI_POLL_WRITE && (s->out_size < s->room || s->broken));
        ready += items[i].ready;
        if (!reads || s->broken || !receiver || !receiver->wanted(receiver->ctx, i)) continue;
        size_t size = s->in_size < receiver->most ? s->in_size : receiver->most;
        net.receives++;
        receiver->take(receiver->ctx, i, s->in, size);
        memmove(s->in, s->in + size, s->in_size - size);
        s->in_size -= size;
    }
    if (ready == 0) {
        assert_true(timeout != WASI_FOREVER); /* it would hang */
        net.now += timeout;
    }
    return WASI_SUCCESS;
}

static wasi_errno env_send_many(void *ctx, struct gate_outgoing *sends, size_t n) {
    (void)ctx;
    assert_false(net.staging);
    net.batches++;
    net.batched += (unsigned)n;
    for (size_t i = 0; i < n; i++) {
        struct sock *s = sock_of(sends[i].socket);
        assert_false(s->closed || s->ended);
        sends[i].taken = s->broken ? 0 : put(s, sends[i].bytes, sends[i].len);
        sends[i].error = s->broken ? WASI_EPIPE : sends[i].taken ? (uint32_t)WASI_SUCCESS : (uint32_t)WASI_EAGAIN;
    }
    return WASI_SUCCESS;
}

static uint8_t *env_stage(void *ctx, size_t *size) {
    (void)ctx;
    assert_false(net.staging);
    net.staging = true;
    *size = sizeof net.area;
    return net.area;
}

static wasi_errno env_send_staged(void *ctx, struct wasi_file *socket, uint32_t len, uint32_t *taken) {
    struct sock *s = sock_of(socket);
    (void)ctx;
    assert_true(net.staging && len > 0 && len <= sizeof net.area && !s->ended && !s->closed);
    net.staging = false;
    net.stagings++;
    *taken = s->broken ? 0 : put(s, net.area, len);
    return s->broken ? (wasi_errno)WASI_EPIPE : *taken ? (wasi_errno)WASI_SUCCESS : (wasi_errno)WASI_EAGAIN;
}

static uint64_t env_now(void *ctx) {
    (void)ctx;
    return net.now;
}

static void env_log(void *ctx, const char *line) {
    (void)ctx;
    snprintf(net.log, sizeof net.log, "%s", line);
}

static void net_init(struct conns *all) {
    const struct conns_env env = {.poll = env_poll,
                                  .send_many = env_send_many,
                                  .stage = net.with_stage ? env_stage : NULL,
                                  .send_staged = env_send_staged,
                                  .now = env_now,
                                  .log = env_log};
    net.now = 1000;
    conns_init(all, &env);
}

static struct sock *net_socket(size_t i) {
    struct sock *s = &net.socks[i];
    *s = (struct sock){.in = malloc(BUFFER), .out = malloc(BUFFER), .room = BUFFER};
    wasi_file_init(&s->file, &sock_ops, WASI_FILETYPE_SOCKET_STREAM);
    return s;
}

static void net_free(struct sock *s) {
    assert_true(s->closed);
    free(s->in);
    free(s->out);
}

/* One wait of a program's, for reading; `ready` gets which are. */
static void wait_all(struct conns *all, struct wasi_file **files, size_t n, bool *ready, uint64_t timeout) {
    struct wasi_poll items[SOCKETS];
    size_t waiting[SOCKETS], k = 0;
    bool any = false;
    for (size_t i = 0; i < n; i++) {
        items[k] = (struct wasi_poll){.interest = WASI_POLL_READ};
        assert_int_equal(files[i]->ops->poll(files[i], &items[k]), WASI_SUCCESS);
        ready[i] = items[k].ready;
        any |= ready[i];
        if (!ready[i]) waiting[k++] = i;
    }
    assert_int_equal(conns_poll(all, items, k, any ? 0 : timeout), WASI_SUCCESS);
    for (size_t j = 0; j < k; j++)
        ready[waiting[j]] = items[j].ready;
}

#endif
