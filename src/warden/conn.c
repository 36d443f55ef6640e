#include "conn.h"
#include <stdlib.h>
#include <string.h>

void conns_init(struct conns *all, const struct conns_env *env) {
    memset(all, 0, sizeof *all);
    all->env = *env;
}

uint64_t conn_now(const struct conn *c) {
    return c->all->env.now(c->all->env.ctx);
}

/* ---- what goes out ---- */

static void unlink_conn(struct conn *c) {
    if (!c->link) return;
    *c->link = c->next;
    if (c->next) c->next->link = c->link;
    c->link = NULL;
}

bool conn_take_buffer(struct conn *c, uint32_t size) {
    struct conns *all = c->all;
    bool spare = all->spare && size == CONN_OUT;
    c->out = spare ? all->spare : malloc(size);
    if (spare) all->spare = NULL;
    c->out_at = c->out_end = 0;
    if (!c->out) return false;
    c->out_size = size;
    all->unsent_size += size;
    c->next = all->unsent;
    if (c->next) c->next->link = &c->next;
    c->link = &all->unsent;
    all->unsent = c;
    return true;
}

void conn_not_held(struct conn *c) {
    if (!c->held) return;
    c->held = false;
    c->all->held--;
    c->all->held_bytes -= c->held_size;
}

/* What the network sees: nothing in it has to be wiped. */
static void drop_buffer(struct conn *c) {
    conn_not_held(c);
    unlink_conn(c);
    c->all->unsent_size -= c->out_size;
    if (c->all->spare || c->out_size != CONN_OUT)
        free(c->out);
    else
        c->all->spare = c->out;
    c->out = NULL;
}

/* After a piece was sent, or could not be. WASI_EAGAIN: some is still here. */
static wasi_errno sent(struct conn *c, uint32_t taken, wasi_errno e) {
    c->out_at += taken;
    if (e == WASI_INTERRUPTED) return e;
    if (e != WASI_SUCCESS && e != WASI_EAGAIN) c->error = e;
    if (!c->error && c->out_at < c->out_end) return WASI_EAGAIN;
    drop_buffer(c);
    if (c->fin && !c->error) {
        c->fin = false;
        (void)c->below->ops->shutdown(c->below, WASI_SHUT_WR);
    }
    return c->error;
}

wasi_errno conn_flush(struct conn *c, bool wait) {
    conn_not_held(c);
    while (c->out) {
        struct wasi_iov v = {c->out + c->out_at, c->out_end - c->out_at};
        size_t done = 0;
        wasi_errno e = c->below->ops->send(c->below, &v, 1, wait ? 0 : WASI_FDFLAG_NONBLOCK, &done);
        if (e == WASI_SUCCESS && done == 0) e = WASI_EIO;
        bool again = e == WASI_SUCCESS && done < v.len;
        e = sent(c, (uint32_t)done, e);
        if (!again || c->error) return e;
    }
    return c->error;
}

wasi_errno conn_keep_rest(struct conn *c, const uint8_t *rest, uint32_t size, uint32_t spare) {
    if (!conn_take_buffer(c, size + spare)) return c->error = WASI_ENOMEM;
    memcpy(c->out, rest, size);
    c->out_end = size;
    return WASI_EAGAIN;
}

/* ---- what goes out together ---- */

static bool has_room(const struct conns *all, uint32_t size) {
    return all->held < CONN_BATCH && all->held_bytes + size <= GATE_SENDS_ROOM;
}

/* A program that serves many will soon come back to wait; but not if it takes its time for each. */
static bool is_quick(struct conns *all) {
    uint64_t at = all->env.now(all->env.ctx), before = all->pace_at;
    all->pace_at = at;
    return all->looking || (all->ready > 1 && at - before < CONN_BATCH_NS);
}

bool conn_may_hold(struct conn *c, uint32_t size) {
    struct conns *all = c->all;
    bool quick = is_quick(all);
    if (!quick || !has_room(all, size)) conns_send_held(all);
    return quick && has_room(all, size);
}

void conn_hold(struct conn *c) {
    c->held = true;
    c->held_size = c->out_end - c->out_at;
    c->all->held++;
    c->all->held_bytes += c->held_size;
}

wasi_errno conn_flush_or_hold(struct conn *c) {
    if (!c->out || c->held) return c->error;
    if (!conn_may_hold(c, c->out_end - c->out_at)) return conn_flush(c, false);
    conn_hold(c);
    return WASI_SUCCESS;
}

/* One call's worth of what is held. */
static void send_some_held(struct conns *all) {
    struct gate_outgoing sends[CONN_BATCH];
    struct conn *conns[CONN_BATCH];
    uint32_t bytes = 0;
    size_t n = 0;
    for (struct conn *c = all->unsent; c && n < CONN_BATCH; c = c->next) {
        uint32_t size = c->out_end - c->out_at;
        if (!c->held || size > GATE_SENDS_ROOM - bytes) continue;
        sends[n] = (struct gate_outgoing){.socket = c->below, .bytes = c->out + c->out_at, .len = size};
        conns[n++] = c;
        bytes += size;
    }
    wasi_errno e = n ? all->env.send_many(all->env.ctx, sends, n) : (wasi_errno)WASI_EIO;
    for (size_t i = 0; i < n; i++) {
        conn_not_held(conns[i]);
        (void)sent(conns[i], e == WASI_SUCCESS ? sends[i].taken : 0, e == WASI_SUCCESS ? sends[i].error : e);
        if (conns[i]->closing && !conns[i]->out) conn_destroy(conns[i]);
    }
    for (struct conn *c = n ? NULL : all->unsent; c; c = c->next) /* larger than a call: each by itself, later */
        conn_not_held(c);
}

void conns_send_held(struct conns *all) {
    while (all->held > 0)
        send_some_held(all);
}

/* ---- what has come ---- */

bool conn_read_ahead(struct conn *c, void *to, size_t size, bool peek, size_t *done) {
    if (!c->in) return false;
    *done = c->in_end - c->in_at < size ? c->in_end - c->in_at : size;
    memcpy(to, c->in + c->in_at, *done);
    if (peek) return true;
    c->in_at += (uint32_t)*done;
    if (c->in_at < c->in_end) return true;
    free(c->in);
    c->in = NULL;
    return true;
}

/* struct gate_receiver: whoever waits to read and has nothing so far, once. */
static bool receive_wanted(void *ctx, size_t i) {
    const struct conns *all = ctx;
    return all->receives[i];
}

static bool receives(struct conn *c, uint8_t interest) {
    bool yes = !c->receiving && !c->in && !c->in_ended && !c->error && interest & WASI_POLL_READ;
    if (yes) c->receiving = true;
    return yes;
}

static struct conn *conn_of_token(uint64_t token) {
    const uint64_t least = 1 << 16, most = UINT64_C(1) << 56; /* what is no address is a token of the files below */
    return token >= least && token < most ? (struct conn *)(uintptr_t)token : NULL;
}

static void receive(void *ctx, size_t i, const uint8_t *bytes, size_t n) {
    struct conns *all = ctx;
    struct conn *c = conn_of_token(all->items[i].token);
    c->in_ended = n == 0;
    if (n == 0) return;
    c->in = malloc(n);
    if (!c->in) {
        c->error = WASI_ENOMEM;
        return;
    }
    memcpy(c->in, bytes, n);
    c->in_at = 0;
    c->in_end = (uint32_t)n;
    c->drained = n < CONN_IN;
}

/* ---- waiting ---- */

static wasi_errno ask_below(struct conn *c, struct wasi_poll *item, uint8_t interest) {
    *item = (struct wasi_poll){.interest = interest};
    return c->below->ops->poll(c->below, item);
}

/* What must happen on the socket before something can happen above it. */
static uint8_t below_interest(const struct conn *c, uint8_t interest) {
    if (c->kind->interest) interest = c->kind->interest(c, interest);
    return c->out ? interest | WASI_POLL_WRITE : interest;
}

static void sooner(uint64_t *timeout, uint64_t deadline, uint64_t at) {
    uint64_t left = deadline > at ? deadline - at : 0;
    if (left < *timeout) *timeout = left;
}

/* Sends what can be sent; frees the connections that only waited for that. */
static void send_unsent(struct conns *all) {
    uint64_t at = all->env.now(all->env.ctx);
    for (struct conn *c = all->unsent, *next; c; c = next) {
        next = c->next;
        (void)conn_flush(c, false);
        if (c->closing && (!c->out || at >= c->deadline)) conn_destroy(c);
    }
}

/* The program's items, as they are below; *ours: how many are connections. */
static wasi_errno ask_all(struct conns *all, const struct wasi_poll *items, size_t n, uint64_t *timeout, uint64_t at,
                          size_t *ours) {
    for (size_t i = 0; i < n; i++) {
        struct conn *c = conn_of_token(items[i].token);
        all->work[i] = items[i];
        all->receives[i] = false;
        if (!c) continue;
        ++*ours;
        if (c->kind->begin) c->kind->begin(c, at);
        uint8_t interest = below_interest(c, items[i].interest);
        wasi_errno e = ask_below(c, &all->work[i], interest);
        if (e != WASI_SUCCESS) return e;
        all->receives[i] = receives(c, interest);
        if (c->error && c->kind->error_is_ready) *timeout = 0;
        if (c->deadline) sooner(timeout, c->deadline, at);
    }
    return WASI_SUCCESS;
}

/* Those with something unsent, behind them; gives how many there are then. */
static size_t ask_unsent(struct conns *all, size_t n, uint64_t *timeout, uint64_t at) {
    for (struct conn *c = all->unsent; c && n < CONN_POLL; c = c->next) {
        all->receives[n] = false;
        if (ask_below(c, &all->work[n], WASI_POLL_WRITE) == WASI_SUCCESS) n++;
        if (c->closing) sooner(timeout, c->deadline, at);
    }
    return n;
}

static wasi_errno take_item(struct conns *all, struct wasi_poll *item, const struct wasi_poll *work, uint64_t at) {
    struct conn *c = conn_of_token(item->token);
    uint64_t token = item->token;
    uint8_t interest = item->interest;
    *item = *work;
    item->token = token;
    item->interest = interest;
    if (!c) return WASI_SUCCESS;
    if (c->deadline && !c->error && !work->ready && at >= c->deadline) c->kind->late(c);
    if (!work->ready && !c->error) return WASI_SUCCESS;
    c->kind->look(c, item, work->interest);
    all->ready += item->ready;
    return c->error == WASI_INTERRUPTED ? (wasi_errno)WASI_INTERRUPTED : (wasi_errno)WASI_SUCCESS;
}

wasi_errno conns_poll(struct conns *all, struct wasi_poll *items, size_t n, uint64_t timeout) {
    size_t ours = 0;
    if (n > CONN_POLL) return WASI_ENOTSUP;
    conns_send_held(all);
    uint64_t at = all->env.now(all->env.ctx);
    wasi_errno e = ask_all(all, items, n, &timeout, at, &ours);
    if (e == WASI_SUCCESS) conns_send_held(all);
    if (e == WASI_SUCCESS && ours == 0 && !all->unsent) return all->env.poll(all->env.ctx, items, n, timeout, NULL);
    const struct gate_receiver receiver = {.ctx = all, .most = CONN_IN, .wanted = receive_wanted, .take = receive};
    all->items = items;
    if (e == WASI_SUCCESS) {
        size_t work = ask_unsent(all, n, &timeout, at);
        e = all->env.poll(all->env.ctx, all->work, work, timeout, &receiver);
    }
    for (size_t i = 0; i < n; i++)
        if (all->receives[i]) conn_of_token(items[i].token)->receiving = false;
    if (e != WASI_SUCCESS) return e;
    at = all->env.now(all->env.ctx);
    all->ready = 0;
    all->pace_at = at;
    all->looking = ours > 1; /* what handshakes have to say goes together */
    for (size_t i = 0; i < n; i++) {
        wasi_errno one = take_item(all, &items[i], &all->work[i], at);
        if (one != WASI_SUCCESS) e = one;
    }
    all->looking = false;
    conns_send_held(all);
    if (all->unsent) send_unsent(all);
    return e;
}

wasi_errno conn_wait(struct conn *c, uint8_t interest) {
    struct wasi_poll item = {.token = (uint64_t)(uintptr_t)c, .interest = interest};
    while (!item.ready) {
        wasi_errno e = conns_poll(c->all, &item, 1, WASI_FOREVER);
        if (e != WASI_SUCCESS) return e;
    }
    return c->error;
}

void conns_flush(struct conns *all, uint64_t timeout) {
    uint64_t end = all->env.now(all->env.ctx) + timeout, at;
    conns_send_held(all); /* that may be all */
    while (all->unsent && (at = all->env.now(all->env.ctx)) < end)
        if (conns_poll(all, NULL, 0, end - at) != WASI_SUCCESS) return;
}

/* ---- beginning and end ---- */

void conn_init(struct conn *c, const struct conn_kind *kind, const struct wasi_file_ops *ops, struct conns *all,
               struct wasi_file *below) {
    wasi_file_init(&c->file, ops, WASI_FILETYPE_SOCKET_STREAM);
    c->file.rights = below->rights;
    c->kind = kind;
    c->all = all;
    c->below = below;
}

void conn_destroy(struct conn *c) {
    if (c->closing) c->all->lingering--;
    if (c->out) drop_buffer(c);
    free(c->in);
    wasi_file_unref(c->below);
    if (c->kind->free) c->kind->free(c);
    free(c);
}

void conn_close(struct conn *c) {
    if (c->error || !c->out || c->all->lingering == CONN_LINGERING) {
        conn_destroy(c);
        return;
    }
    c->closing = true;
    c->all->lingering++;
    c->deadline = conn_now(c) + CONN_LINGER_NS;
}

/* ---- listeners ---- */

struct listener {
    struct wasi_file file;
    struct conns *all;
    struct wasi_file *below;
    struct wasi_file *(*made)(void *ctx, struct wasi_file *below);
    void *ctx;
    void (*free_ctx)(void *ctx);
};

/* Waits for a connection; not in the gate itself while others have something to send. */
static wasi_errno wait_accept(struct listener *l) {
    struct wasi_poll item = {.interest = WASI_POLL_READ};
    wasi_errno e = l->below->ops->poll(l->below, &item);
    while (e == WASI_SUCCESS && !item.ready && l->all->unsent)
        e = conns_poll(l->all, &item, 1, WASI_FOREVER);
    return e;
}

static wasi_errno listener_accept(struct wasi_file *f, uint16_t fdflags, uint16_t child_fdflags,
                                  struct wasi_file **out) {
    struct listener *l = (struct listener *)f;
    struct wasi_file *below;
    wasi_errno e = l->all->unsent && !(fdflags & WASI_FDFLAG_NONBLOCK) ? wait_accept(l) : (wasi_errno)WASI_SUCCESS;
    if (e == WASI_SUCCESS) e = l->below->ops->accept(l->below, fdflags, child_fdflags, &below);
    if (e != WASI_SUCCESS) return e;
    *out = l->made(l->ctx, below);
    return *out ? WASI_SUCCESS : WASI_ENOMEM;
}

static void listener_close(struct wasi_file *f) {
    struct listener *l = (struct listener *)f;
    wasi_file_unref(l->below);
    if (l->free_ctx) l->free_ctx(l->ctx);
    free(l);
}

static wasi_errno listener_stat(struct wasi_file *f, struct wasi_filestat *out) {
    struct listener *l = (struct listener *)f;
    return l->below->ops->stat(l->below, out);
}

static wasi_errno listener_poll(struct wasi_file *f, struct wasi_poll *out) {
    struct listener *l = (struct listener *)f;
    return l->below->ops->poll(l->below, out);
}

static const struct wasi_file_ops listener_ops = {
    .name = "listener of connections",
    .close = listener_close,
    .stat = listener_stat,
    .poll = listener_poll,
    .accept = listener_accept,
};

struct wasi_file *conn_listener_new(struct conns *all, struct wasi_file *below,
                                    struct wasi_file *(*made)(void *ctx, struct wasi_file *below), void *ctx,
                                    void (*free_ctx)(void *ctx)) {
    struct listener *l = calloc(1, sizeof *l);
    if (!l) {
        wasi_file_unref(below);
        if (free_ctx) free_ctx(ctx);
        return NULL;
    }
    wasi_file_init(&l->file, &listener_ops, WASI_FILETYPE_SOCKET_STREAM);
    l->file.rights = below->rights;
    l->all = all;
    l->below = below;
    l->made = made;
    l->ctx = ctx;
    l->free_ctx = free_ctx;
    return &l->file;
}
