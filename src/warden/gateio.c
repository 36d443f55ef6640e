/* Streams, and what all files of the gate share. */
#include "gatefile.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

_Static_assert((uint32_t)GATE_STOPPED == (uint32_t)WASI_INTERRUPTED, "gate_call's answers are WASI's");
_Static_assert((int)GATE_TYPES == (int)WASI_FILETYPE_SYMBOLIC_LINK + 1 &&
                   (int)GATE_ENOTCAPABLE == (int)WASI_ENOTCAPABLE,
               "the gate speaks witx's numbers");

/* ---- handles ---- */

void gate_files_init(struct gate_files *files, struct gate *gate, uint32_t n_fixed) {
    memset(files->used, 0, sizeof files->used);
    files->gate = gate;
    files->attend = NULL;
    files->n_fixed = n_fixed;
    for (uint32_t i = 0; i < n_fixed; i++)
        files->used[i / 64] |= UINT64_C(1) << i % 64;
}

bool gate_handle_take(struct gate_files *files, uint32_t *handle) {
    for (uint32_t i = 0; i < GATE_MAX_HANDLES / 64; i++) {
        if (files->used[i] == UINT64_MAX) continue;
        uint32_t bit = (uint32_t)__builtin_ctzll(~files->used[i]);
        files->used[i] |= UINT64_C(1) << bit;
        *handle = i * 64 + bit;
        return true;
    }
    return false;
}

void gate_handle_drop(struct gate_files *files, uint32_t handle) {
    if (handle >= files->n_fixed) files->used[handle / 64] &= ~(UINT64_C(1) << handle % 64);
}

void gate_handle_close(struct gate_files *files, uint32_t handle) {
    struct gate_request q = {.op = GATE_CLOSE, .handle = handle};
    struct gate_reply r;
    if (handle < files->n_fixed) return;  /* they stay open: their numbers could not be used again */
    (void)gate_call(files->gate, &q, &r); /* whatever it says: the handle is not ours any more */
    gate_handle_drop(files, handle);
}

struct wasi_file *gate_file_new(struct gate_files *files, uint32_t handle, const struct wasi_file_ops *ops,
                                enum wasi_filetype type) {
    struct gate_file *f = malloc(sizeof *f);
    if (!f) {
        gate_handle_close(files, handle);
        return NULL;
    }
    wasi_file_init(&f->file, ops, type);
    f->files = files;
    f->handle = handle;
    return &f->file;
}

void gate_file_close(struct wasi_file *f) {
    struct gate_file *g = gate_file_of(f);
    gate_handle_close(g->files, g->handle);
    free(g);
}

/* ---- data ---- */

size_t gate_iov_size(const struct wasi_iov *iov, uint32_t n) {
    size_t size = 0;
    for (uint32_t i = 0; i < n; i++)
        size += iov[i].len;
    return size;
}

/* Calls for each piece of the vector between `skip` and `skip` + `len`. */
static uint32_t for_pieces(const struct wasi_iov *iov, uint32_t n, size_t skip, uint32_t len, uint8_t *data,
                           bool into) {
    uint32_t done = 0;
    for (uint32_t i = 0; i < n && done < len; i++) {
        if (skip >= iov[i].len) {
            skip -= iov[i].len;
            continue;
        }
        size_t piece = iov[i].len - skip;
        if (piece > len - done) piece = len - done;
        uint8_t *guest = (uint8_t *)iov[i].buf + skip;
        if (into)
            memcpy(data + done, guest, piece);
        else
            memcpy(guest, data + done, piece);
        done += (uint32_t)piece;
        skip = 0;
    }
    return done;
}

uint32_t gate_gather(struct gate *g, const struct wasi_iov *iov, uint32_t n, size_t skip) {
    return for_pieces(iov, n, skip, GATE_DATA_SIZE, g->block->data, true);
}

void gate_scatter(struct gate *g, const struct wasi_iov *iov, uint32_t n, size_t skip, uint32_t len) {
    for_pieces(iov, n, skip, len, g->block->data, false);
}

/* ---- what every file has ---- */

wasi_errno gate_stat_call(struct gate *g, const struct gate_request *q, struct gate_stat *out) {
    struct gate_reply r;
    uint32_t error = gate_call(g, q, &r);
    if (error != GATE_OK) return error;
    memcpy(out, g->block->data, sizeof *out);
    __asm__ volatile("" : "+m"(*out)); /* one copy: see gate_call */
    return gate_stat_check(out) ? WASI_SUCCESS : WASI_EIO;
}

void gate_stat_to_wasi(const struct gate_stat *s, struct wasi_filestat *out) {
    *out = (struct wasi_filestat){.dev = s->dev,
                                  .ino = s->ino,
                                  .filetype = (enum wasi_filetype)s->type,
                                  .nlink = s->nlink,
                                  .size = s->size,
                                  .atim = s->atim,
                                  .mtim = s->mtim,
                                  .ctim = s->ctim};
}

wasi_errno gate_file_stat(struct wasi_file *f, struct wasi_filestat *out) {
    struct gate_file *g = gate_file_of(f);
    struct gate_request q = {.op = GATE_STAT, .handle = g->handle, .room = sizeof(struct gate_stat)};
    struct gate_stat s;
    wasi_errno error = gate_stat_call(g->files->gate, &q, &s);
    if (error != WASI_SUCCESS) return error;
    gate_stat_to_wasi(&s, out);
    out->filetype = f->filetype; /* fixed while open, whatever the host says now */
    return WASI_SUCCESS;
}

wasi_errno gate_file_simple(struct wasi_file *f, struct gate_request q) {
    struct gate_reply r;
    q.handle = gate_file_of(f)->handle;
    return gate_call(gate_file_of(f)->files->gate, &q, &r);
}

/* ---- readiness ---- */

wasi_errno gate_file_poll(struct wasi_file *f, struct wasi_poll *out) {
    out->token = (uint64_t)gate_file_of(f)->handle + 1;
    return WASI_SUCCESS;
}

static wasi_errno sleep_for(struct gate *g, uint64_t timeout) {
    const uint64_t most = UINT64_C(3600000000000); /* an hour: coming back early is allowed */
    if (timeout > most) timeout = most;
    struct timespec t = {.tv_sec = (time_t)(timeout / 1000000000u), .tv_nsec = (long)(timeout % 1000000000u)};
    if (g->stop && *g->stop) return WASI_INTERRUPTED;
    clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
    return g->stop && *g->stop ? WASI_INTERRUPTED : WASI_SUCCESS;
}

static void take_poll(const struct gate_poll *e, struct wasi_poll *item) {
    item->ready = e->ready != 0 || e->error != GATE_OK;
    item->hangup = (e->ready & GATE_HANGUP) != 0;
    item->error = e->error;
    item->nbytes = e->bytes;
}

/* The entries of one poll: the program's, then those to attend to. */
static struct gate_poll asked_for(const struct wasi_poll *item, size_t i, const struct gate_receiver *receiver) {
    struct gate_poll e = {.handle = (uint32_t)(item->token - 1), .events = item->interest};
    if (receiver && receiver->wanted(receiver->ctx, i)) e.events |= GATE_RECEIVE;
    return e;
}

static size_t put_items(uint8_t *data, const struct wasi_poll *items, size_t n, const struct gate_receiver *receiver) {
    size_t put = 0;
    for (size_t i = 0; i < n; i++) {
        if (items[i].token == GATE_TOKEN_ATTEND) continue;
        struct gate_poll e = asked_for(&items[i], i, receiver);
        memcpy(data + put++ * sizeof e, &e, sizeof e);
    }
    return put;
}

/* One copy of an answered entry: see gate_call. */
static bool take_entry(const uint8_t *data, size_t i, const struct gate_poll *asked, struct gate_poll *e) {
    memcpy(e, data + i * sizeof *e, sizeof *e);
    __asm__ volatile("" : "+m"(*e));
    return gate_poll_check(asked, e);
}

/* What is attended to, of one poll. */
struct besides {
    struct gate_poll entries[GATE_ATTEND_MAX];
    size_t n, of[GATE_ATTENDS];
};

static void ask_besides(const struct gate_attend *attend, struct besides *b, uint64_t *timeout) {
    b->n = 0;
    for (size_t *of = b->of; attend; attend = attend->next) {
        *of = attend->wanted(attend->ctx, b->entries + b->n, GATE_ATTEND_MAX - b->n);
        b->n += *of++;
        uint64_t most = attend->patience ? attend->patience(attend->ctx) : GATE_FOREVER;
        if (most < *timeout) *timeout = most;
    }
}

static void serve_besides(const struct gate_attend *attend, const struct besides *b, bool in_time) {
    const struct gate_poll *entries = b->entries;
    for (const size_t *of = b->of; attend; attend = attend->next) {
        attend->serve(attend->ctx, entries, in_time ? *of : 0);
        entries += *of++;
    }
}

wasi_errno gate_poll_files(struct gate_files *files, struct wasi_poll *items, size_t n, uint64_t timeout) {
    return gate_poll_receive(files, items, n, timeout, NULL);
}

wasi_errno gate_poll_receive(struct gate_files *files, struct wasi_poll *items, size_t n, uint64_t timeout,
                             const struct gate_receiver *receiver) {
    struct gate *g = files->gate;
    const struct gate_attend *attend = files->attend;
    struct besides besides;
    if (n == 0 && !attend) return sleep_for(g, timeout);
    if (n > GATE_MAX_POLL - GATE_ATTEND_MAX) return WASI_ENOTSUP;
    ask_besides(attend, &besides, &timeout);
    size_t own = put_items(g->block->data, items, n, receiver), at = 0;
    memcpy(g->block->data + own * sizeof(struct gate_poll), besides.entries, besides.n * sizeof(struct gate_poll));
    struct gate_request q = {.op = GATE_POLL, .args = {timeout, own + besides.n}};
    q.len = q.room = (uint32_t)((own + besides.n) * sizeof(struct gate_poll));
    if (receiver) {
        q.op = GATE_POLL_RECV;
        q.args[2] = receiver->most;
        q.room = GATE_DATA_SIZE;
    }
    struct gate_reply r;
    uint32_t error = gate_call(g, &q, &r);
    if (error == GATE_ETIMEDOUT) serve_besides(attend, &besides, false);
    if (error == GATE_ETIMEDOUT) return WASI_SUCCESS;
    if (error != GATE_OK) return error;
    size_t received = q.len;
    for (size_t i = 0; i < n; i++) {
        if (items[i].token == GATE_TOKEN_ATTEND) continue;
        struct gate_poll asked = asked_for(&items[i], i, receiver), e;
        if (!take_entry(g->block->data, at++, &asked, &e)) return WASI_EIO;
        take_poll(&e, &items[i]);
        if (!(e.ready & GATE_RECEIVE)) continue;
        if (e.bytes > receiver->most || e.bytes > r.len - received) return WASI_EIO;
        receiver->take(receiver->ctx, i, g->block->data + received, (size_t)e.bytes); /* makes the one copy */
        received += (size_t)e.bytes;
    }
    for (size_t i = 0; i < besides.n; i++) {
        struct gate_poll asked = besides.entries[i];
        if (!take_entry(g->block->data, own + i, &asked, &besides.entries[i])) return WASI_EIO;
    }
    serve_besides(attend, &besides, true);
    return WASI_SUCCESS;
}

wasi_errno gate_send_many(struct gate_files *files, struct gate_outgoing *sends, size_t n) {
    uint8_t *data = files->gate->block->data;
    size_t at = n * sizeof(struct gate_send);
    for (size_t i = 0; i < n; i++) {
        struct gate_send e = {.handle = gate_file_of(sends[i].socket)->handle, .len = sends[i].len};
        memcpy(data + i * sizeof e, &e, sizeof e);
        memcpy(data + at, sends[i].bytes, sends[i].len);
        at += sends[i].len;
    }
    struct gate_request q = {
        .op = GATE_SEND_MANY, .len = (uint32_t)at, .room = (uint32_t)(n * sizeof(struct gate_send)), .args = {n}};
    struct gate_reply r;
    uint32_t error = gate_call(files->gate, &q, &r);
    if (error != GATE_OK) return error;
    for (size_t i = 0; i < n; i++) {
        struct gate_send asked = {.handle = gate_file_of(sends[i].socket)->handle, .len = sends[i].len}, e;
        memcpy(&e, data + i * sizeof e, sizeof e);
        __asm__ volatile("" : "+m"(e)); /* one copy: see gate_call */
        if (!gate_send_check(&asked, &e)) return WASI_EIO;
        sends[i].taken = e.taken;
        sends[i].error = e.error;
    }
    return WASI_SUCCESS;
}

uint64_t gate_patience(const struct gate_files *files, uint16_t fdflags) {
    if (files->before_wait && !(fdflags & WASI_FDFLAG_NONBLOCK)) files->before_wait(files->before_wait_ctx);
    return fdflags & WASI_FDFLAG_NONBLOCK || files->attend ? 0 : GATE_FOREVER;
}

bool gate_again(struct gate_files *files, uint32_t handle, uint32_t events, uint16_t fdflags, uint32_t *error) {
    if (*error != GATE_EAGAIN || fdflags & WASI_FDFLAG_NONBLOCK || !files->attend) return false;
    struct wasi_poll item;
    do {
        item = (struct wasi_poll){.token = (uint64_t)handle + 1, .interest = (uint8_t)events};
        *error = gate_poll_files(files, &item, 1, GATE_FOREVER);
    } while (*error == GATE_OK && !item.ready);
    if (*error == GATE_OK) *error = item.error;
    return *error == GATE_OK;
}

/* ---- streams ---- */

static wasi_errno stream_read(struct wasi_file *f, const struct wasi_iov *iov, uint32_t n, uint16_t fdflags,
                              size_t *done) {
    struct gate_file *file = gate_file_of(f);
    size_t want = gate_iov_size(iov, n);
    struct gate_request q = {.op = GATE_READ,
                             .handle = file->handle,
                             .room = want < GATE_DATA_SIZE ? (uint32_t)want : GATE_DATA_SIZE,
                             .args = {gate_patience(file->files, fdflags)}};
    struct gate_reply r;
    *done = 0;
    if (want == 0) return WASI_SUCCESS;
    uint32_t error;
    do
        error = gate_call(file->files->gate, &q, &r);
    while (gate_again(file->files, file->handle, GATE_READABLE, fdflags, &error));
    if (error != GATE_OK) return error;
    gate_scatter(file->files->gate, iov, n, 0, r.len);
    *done = r.len;
    return WASI_SUCCESS;
}

static wasi_errno stream_write(struct wasi_file *f, const struct wasi_iov *iov, uint32_t n, uint16_t fdflags,
                               size_t *done) {
    struct gate_file *file = gate_file_of(f);
    size_t want = gate_iov_size(iov, n);
    *done = 0;
    while (*done < want) {
        struct gate_request q = {
            .op = GATE_WRITE, .handle = file->handle, .args = {gate_patience(file->files, fdflags)}};
        q.len = gate_gather(file->files->gate, iov, n, *done);
        struct gate_reply r;
        uint32_t error = gate_call(file->files->gate, &q, &r);
        if (gate_again(file->files, file->handle, GATE_WRITABLE, fdflags, &error)) continue;
        if (error != GATE_OK) return *done && error <= GATE_ERROR_MAX ? (uint32_t)WASI_SUCCESS : error;
        *done += r.values[0];
        if (r.values[0] == 0) return *done ? WASI_SUCCESS : WASI_EIO; /* an honest host takes some, or says why not */
        if (r.values[0] < q.len && (fdflags & WASI_FDFLAG_NONBLOCK)) break; /* else all of it, as write(2) does */
    }
    return WASI_SUCCESS;
}

const struct wasi_file_ops gate_stream_ops = {
    .name = "stream",
    .close = gate_file_close,
    .read = stream_read,
    .write = stream_write,
    .stat = gate_file_stat,
    .poll = gate_file_poll,
};

/* A redirected stdin is read like a pipe: it is a regular file to the host, not to the program. */
struct wasi_file *gate_stream(struct gate_files *files, uint32_t handle, bool terminal) {
    struct wasi_file *f = gate_file_new(files, handle, &gate_stream_ops,
                                        terminal ? WASI_FILETYPE_CHARACTER_DEVICE : WASI_FILETYPE_UNKNOWN);
    if (f) f->rights = WASI_RIGHTS_STREAM;
    return f;
}
