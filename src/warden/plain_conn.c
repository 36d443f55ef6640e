/* Plain connections: bytes are the socket's own. */
#include "conn.h"
#include <stdlib.h>
#include <string.h>

enum { HOLD_MOST = 16 * 1024 }; /* larger writes are worth a call of their own */

static struct conn *conn_of(struct wasi_file *f) {
    return (struct conn *)f;
}

/* ---- reading ---- */

/* What is here, into the vector; *at and *in: where it has come to. */
static size_t take_ahead(struct conn *c, const struct wasi_iov *iov, uint32_t n, bool peek, uint32_t *at, size_t *in) {
    size_t total = 0, got;
    for (*at = 0, *in = 0; *at < n; ++*at, *in = 0) {
        if (iov[*at].len == 0) continue;
        if (peek && total > 0) break; /* a second look would see the same bytes */
        if (!conn_read_ahead(c, iov[*at].buf, iov[*at].len, peek, &got)) break;
        total += got;
        *in = got;
        if (got < iov[*at].len) break;
    }
    return total;
}

/* WASI_RI_WAITALL: the rest of the vector, from the socket. */
static size_t take_rest(struct conn *c, const struct wasi_iov *iov, uint32_t n, uint16_t fdflags, uint32_t at,
                        size_t in) {
    size_t total = 0, got = 0;
    uint16_t flags;
    for (; at < n; at++, in = 0) {
        struct wasi_iov v = {(uint8_t *)iov[at].buf + in, iov[at].len - in};
        if (v.len == 0) continue;
        if (c->below->ops->recv(c->below, &v, 1, WASI_RI_WAITALL, fdflags, &got, &flags) != WASI_SUCCESS) break;
        total += got;
        if (got < v.len) break;
    }
    return total;
}

static wasi_errno plain_recv(struct wasi_file *f, const struct wasi_iov *iov, uint32_t n, uint16_t riflags,
                             uint16_t fdflags, size_t *done, uint16_t *roflags) {
    struct conn *c = conn_of(f);
    bool wait = !(fdflags & WASI_FDFLAG_NONBLOCK), peek = riflags & WASI_RI_PEEK;
    bool all = riflags & WASI_RI_WAITALL && !peek;
    *done = 0;
    *roflags = 0;
    if (c->out && !c->held) (void)conn_flush(c, false);
    if (wait && c->all->unsent && !c->in && !c->in_ended) { /* not in the gate while there is something to send */
        wasi_errno e = conn_wait(c, WASI_POLL_READ);
        if (e == WASI_INTERRUPTED) return e;
    }
    if (c->in) {
        uint32_t at;
        size_t in;
        *done = take_ahead(c, iov, n, peek, &at, &in);
        if (all && !c->in && !c->in_ended && at < n) *done += take_rest(c, iov, n, fdflags, at, in);
        return WASI_SUCCESS;
    }
    if (c->in_ended) return WASI_SUCCESS;
    if (c->error == WASI_ENOMEM) return c->error; /* it may be that something received was lost */
    bool nothing = c->drained && !wait;           /* known without asking, once */
    c->drained = false;
    return nothing ? (wasi_errno)WASI_EAGAIN : c->below->ops->recv(c->below, iov, n, riflags, fdflags, done, roflags);
}

static wasi_errno plain_read(struct wasi_file *f, const struct wasi_iov *iov, uint32_t n, uint16_t fdflags,
                             size_t *done) {
    uint16_t roflags;
    return plain_recv(f, iov, n, 0, fdflags, done, &roflags);
}

/* ---- writing ---- */

/* Behind what is held, or as the first of it. False: this one does not wait for others. */
static bool hold(struct conn *c, const struct wasi_iov *iov, uint32_t n, size_t size) {
    if (size > HOLD_MOST || (c->out && (!c->held || size > c->out_size - c->out_end))) return false;
    conn_not_held(c); /* counted anew */
    uint32_t before = c->out ? c->out_end - c->out_at : 0;
    if (!conn_may_hold(c, before + (uint32_t)size) || (!c->out && !conn_take_buffer(c, CONN_OUT))) return false;
    for (uint32_t i = 0; i < n; i++) {
        memcpy(c->out + c->out_end, iov[i].buf, iov[i].len);
        c->out_end += (uint32_t)iov[i].len;
    }
    conn_hold(c);
    return true;
}

static wasi_errno plain_send(struct wasi_file *f, const struct wasi_iov *iov, uint32_t n, uint16_t fdflags,
                             size_t *done) {
    struct conn *c = conn_of(f);
    bool wait = !(fdflags & WASI_FDFLAG_NONBLOCK);
    size_t want = gate_iov_size(iov, n);
    *done = 0;
    if (c->error) return c->error; /* of bytes that were taken before */
    if (c->fin) return WASI_EPIPE;
    if (!wait && want > 0 && hold(c, iov, n, want)) {
        *done = want;
        return WASI_SUCCESS;
    }
    wasi_errno e = conn_flush(c, wait);
    return e == WASI_SUCCESS ? c->below->ops->send(c->below, iov, n, fdflags, done) : e;
}

/* ---- the end ---- */

static wasi_errno plain_shutdown(struct wasi_file *f, uint8_t how) {
    struct conn *c = conn_of(f);
    if (how & WASI_SHUT_WR && c->out) {
        c->fin = true;
        how &= (uint8_t)~WASI_SHUT_WR;
        if (!c->held) (void)conn_flush(c, false);
    }
    return how ? c->below->ops->shutdown(c->below, how) : (wasi_errno)WASI_SUCCESS;
}

static void plain_close(struct wasi_file *f) {
    conn_close(conn_of(f));
}

static wasi_errno plain_stat(struct wasi_file *f, struct wasi_filestat *out) {
    struct conn *c = conn_of(f);
    return c->below->ops->stat(c->below, out);
}

/* ---- waiting ---- */

static void ready_to_read(const struct conn *c, struct wasi_poll *item) {
    item->ready = true;
    item->nbytes = c->in ? c->in_end - c->in_at : 0;
}

static bool something_there(struct conn *c) {
    uint8_t byte;
    struct wasi_iov v = {&byte, 1};
    size_t done;
    uint16_t flags;
    return c->below->ops->recv(c->below, &v, 1, WASI_RI_PEEK, WASI_FDFLAG_NONBLOCK, &done, &flags) != WASI_EAGAIN;
}

static void plain_look(struct conn *c, struct wasi_poll *item, uint8_t asked) {
    if (c->out && !c->held) (void)conn_flush(c, false);
    if (c->error == WASI_INTERRUPTED) item->ready = false;
    if (item->interest & WASI_POLL_READ) {
        bool other = asked != item->interest; /* it may be for what is unsent that the socket is ready */
        if (c->in || c->in_ended)
            ready_to_read(c, item);
        else if (item->ready && other && !item->hangup)
            item->ready = something_there(c);
        if (!c->in) c->drained = false;
        return;
    }
    if (c->out) item->ready = false;
    if (!c->error) return;
    item->ready = item->hangup = true;
    item->nbytes = 0;
}

static wasi_errno plain_poll(struct wasi_file *f, struct wasi_poll *out) {
    struct conn *c = conn_of(f);
    conns_send_held(c->all); /* a round is over, also where nothing will have to be waited for */
    if (out->interest & WASI_POLL_READ && (c->in || c->in_ended)) ready_to_read(c, out);
    if (out->interest & WASI_POLL_WRITE && c->error) out->ready = out->hangup = true;
    if (!out->ready) out->token = (uint64_t)(uintptr_t)c; /* never as small as the gate's */
    return WASI_SUCCESS;
}

static const struct wasi_file_ops plain_ops = {
    .name = "connection",
    .close = plain_close,
    .read = plain_read,
    .write = plain_send,
    .stat = plain_stat,
    .poll = plain_poll,
    .recv = plain_recv,
    .send = plain_send,
    .shutdown = plain_shutdown,
};

static const struct conn_kind plain_kind = {.look = plain_look};

struct wasi_file *plain_conn_new(struct conns *all, struct wasi_file *below) {
    struct conn *c = calloc(1, sizeof *c);
    if (!c) {
        wasi_file_unref(below);
        return NULL;
    }
    conn_init(c, &plain_kind, &plain_ops, all, below);
    return &c->file;
}

static struct wasi_file *made(void *ctx, struct wasi_file *below) {
    return plain_conn_new(ctx, below);
}

struct wasi_file *plain_listener_new(struct conns *all, struct wasi_file *below) {
    return conn_listener_new(all, below, made, all, NULL);
}
