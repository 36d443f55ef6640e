/* poll_oneoff: waits for clocks and descriptors. */
#include "context.h"

enum { EVENT_CLOCK, EVENT_FD_READ, EVENT_FD_WRITE, EVENT_TYPES };
enum { SUBCLOCK_ABSTIME = 1 };
enum { EVENT_HANGUP = 1 };
enum { EVENT_SIZE = 32 };
#define SUBSCRIPTIONS_MAX 65536u
/* Preview 0's subscription has 8 bytes more: an identifier of the clock, which nobody used. */
#define SUBSCRIPTION_SIZE(abi) ((abi) == WASI_ABI_UNSTABLE ? 56u : 48u)

struct subscription {
    uint64_t userdata;
    uint8_t type;
    bool done; /* an event is to be written for it */
    /* clock */
    uint32_t clock;
    uint64_t deadline; /* by that clock */
    /* descriptor */
    struct wasi_file *file;
    uint64_t file_left;    /* bytes behind the position, of a regular file */
    struct wasi_poll poll; /* also: error and nbytes of the event, whatever its type */
};

static wasi_errno clock_now(struct wasi *w, uint32_t id, uint64_t *now) {
    return w->host.clock_time(w->host.ctx, (enum wasi_clock)id, now);
}

static void fail(struct subscription *s, wasi_errno e) {
    s->poll.error = e;
    s->done = true;
}

/* A clock subscription's content at `p`. Its faults are its event's error, not the call's. */
static void parse_clock(struct call *c, const uint8_t *p, struct subscription *s) {
    uint32_t id = load32(p);
    uint64_t timeout = load64(p + 8), now;
    uint16_t flags = load16(p + 24);
    s->clock = id;
    if (id >= WASI_CLOCK_COUNT || flags & ~SUBCLOCK_ABSTIME) {
        fail(s, WASI_EINVAL);
        return;
    }
    if (id != WASI_CLOCK_REALTIME && id != WASI_CLOCK_MONOTONIC) { /* they stand still while one waits */
        fail(s, WASI_ENOTSUP);
        return;
    }
    wasi_errno e = clock_now(c->w, id, &now);
    if (e) {
        fail(s, e);
        return;
    }
    if (flags & SUBCLOCK_ABSTIME)
        s->deadline = timeout;
    else if (__builtin_add_overflow(now, timeout, &s->deadline))
        s->deadline = UINT64_MAX;
}

static void parse_fd(struct call *c, const uint8_t *p, struct subscription *s) {
    bool read = s->type == EVENT_FD_READ;
    struct descriptor *d;
    wasi_errno e = fd_get(c->w, load32(p), WASI_RIGHT_POLL_FD_READWRITE, &d);
    if (e) {
        fail(s, e);
        return;
    }
    /* Reading includes accepting. */
    if (!(d->rights & (read ? WASI_RIGHT_FD_READ | WASI_RIGHT_SOCK_ACCEPT : WASI_RIGHT_FD_WRITE))) {
        fail(s, WASI_ENOTCAPABLE);
        return;
    }
    s->file = d->file;
    s->poll.interest = read ? WASI_POLL_READ : WASI_POLL_WRITE;
    struct wasi_filestat st;
    if (read && d->file->filetype == WASI_FILETYPE_REGULAR_FILE && is_seekable(d->file) && d->file->ops->stat &&
        !d->file->ops->stat(d->file, &st))
        s->file_left = st.size > d->offset ? st.size - d->offset : 0;
}

static wasi_errno parse(struct call *c, const uint8_t *p, struct subscription *s) {
    *s = (struct subscription){.userdata = load64(p), .type = p[8]};
    if (s->type >= EVENT_TYPES) return WASI_EINVAL;
    if (s->type != EVENT_CLOCK)
        parse_fd(c, p + 16, s);
    else
        parse_clock(c, p + (c->abi == WASI_ABI_UNSTABLE ? 24 : 16), s);
    return WASI_SUCCESS;
}

/* Asks a file. Leaves a token in s->poll if it must be waited for. */
static void ask_file(struct subscription *s) {
    if (!s->file->ops->poll) {
        s->poll.nbytes = s->poll.interest == WASI_POLL_READ ? s->file_left : 1;
        s->done = true;
        return;
    }
    s->poll = (struct wasi_poll){.interest = s->poll.interest};
    wasi_errno e = s->file->ops->poll(s->file, &s->poll);
    if (e)
        fail(s, e);
    else if (s->poll.ready || !s->poll.token)
        s->done = true;
}

/* How long until the first clock strikes; those that have struck are done. */
static wasi_errno look_at_clocks(struct wasi *w, struct subscription *subs, uint32_t n, uint64_t *timeout) {
    *timeout = WASI_FOREVER;
    for (uint32_t i = 0; i < n; i++) {
        struct subscription *s = &subs[i];
        if (s->type != EVENT_CLOCK || s->done) continue;
        uint64_t now;
        wasi_errno e = clock_now(w, s->clock, &now);
        if (e) return e;
        if (now >= s->deadline)
            s->done = true;
        else if (s->deadline - now < *timeout)
            *timeout = s->deadline - now;
    }
    return WASI_SUCCESS;
}

static uint32_t count_done(const struct subscription *subs, uint32_t n) {
    uint32_t done = 0;
    for (uint32_t i = 0; i < n; i++)
        done += subs[i].done;
    return done;
}

/* One round: looks at everything, then waits unless something is there already. */
static wasi_errno wait_once(struct wasi *w, struct subscription *subs, uint32_t n, struct wasi_poll *items) {
    uint64_t timeout;
    wasi_errno e = look_at_clocks(w, subs, n, &timeout);
    if (e) return e;
    uint32_t waiting = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct subscription *s = &subs[i];
        if (!s->file || s->done) continue;
        ask_file(s);
        if (!s->done) items[waiting++] = s->poll;
    }
    if (count_done(subs, n)) timeout = 0;
    if (timeout == 0 && waiting == 0) return WASI_SUCCESS;
    e = w->host.poll(w->host.ctx, items, waiting, timeout);
    if (e) return e;
    for (uint32_t i = 0, at = 0; i < n && at < waiting; i++) {
        struct subscription *s = &subs[i];
        if (!s->file || s->done) continue;
        if (items[at].ready) {
            s->poll = items[at];
            s->done = true;
        }
        at++;
    }
    return look_at_clocks(w, subs, n, &timeout);
}

static void store_event(uint8_t *p, const struct subscription *s) {
    memset(p, 0, EVENT_SIZE);
    store64(p, s->userdata);
    store16(p + 8, s->poll.error < WASI_ERRNO_COUNT ? (uint16_t)s->poll.error : WASI_EIO);
    p[10] = s->type;
    if (s->type == EVENT_CLOCK || s->poll.error) return;
    store64(p + 16, s->poll.nbytes);
    store16(p + 24, s->poll.hangup ? EVENT_HANGUP : 0);
}

static wasi_errno poll(struct call *c, const uint8_t *in, uint8_t *out, uint8_t *result, uint32_t n,
                       struct subscription *subs, struct wasi_poll *items) {
    for (uint32_t i = 0; i < n; i++) {
        wasi_errno e = parse(c, in + (uint64_t)i * SUBSCRIPTION_SIZE(c->abi), &subs[i]);
        if (e) return e;
    }
    do {
        wasi_errno e = wait_once(c->w, subs, n, items);
        if (e) return e;
    } while (!count_done(subs, n));
    uint32_t events = 0;
    for (uint32_t i = 0; i < n; i++)
        if (subs[i].done) store_event(out + (uint64_t)events++ * EVENT_SIZE, &subs[i]);
    store32(result, events);
    return WASI_SUCCESS;
}

wasi_errno call_poll_oneoff(struct call *c) {
    struct wasi *w = c->w;
    uint32_t n = arg32(c, 2);
    const uint8_t *in = guest(c, arg32(c, 0), (uint64_t)n * SUBSCRIPTION_SIZE(c->abi));
    uint8_t *out = guest(c, arg32(c, 1), (uint64_t)n * EVENT_SIZE), *result = guest(c, arg32(c, 3), 4);
    if (!in || !out || !result) return WASI_EFAULT;
    if (n == 0 || n > SUBSCRIPTIONS_MAX) return WASI_EINVAL;

    /* The usual few need no allocation. */
    enum { FEW = 8 };
    struct subscription few_subs[FEW], *subs = few_subs;
    struct wasi_poll few_items[FEW], *items = few_items;
    void *block = NULL;
    if (n > FEW) {
        block = w->host.realloc(w->host.ctx, NULL, n * (sizeof *subs + sizeof *items));
        if (!block) return WASI_ENOMEM;
        subs = block;
        items = (struct wasi_poll *)(subs + n);
    }
    wasi_errno e = poll(c, in, out, result, n, subs, items);
    if (block) w->host.realloc(w->host.ctx, block, 0);
    return e;
}
