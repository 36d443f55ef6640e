/* The warden's files against a host that lies: replies that are random, extreme, replayed from earlier requests, almost
 * right, or changed while they are read. The files must answer within their contracts (file.h) and touch nothing but
 * what they were given; the sanitised build of this test is what proves the latter. DONJON_LIES: how many replies
 * (default 60,000). */
#define _GNU_SOURCE
#include "gate/host.h"
#include "warden/gatecall.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* xorshift64*: the same run every time */
struct dice {
    uint64_t s;
};
static uint64_t roll(struct dice *d) {
    d->s ^= d->s >> 12;
    d->s ^= d->s << 25;
    d->s ^= d->s >> 27;
    return d->s * UINT64_C(2685821657736338717);
}
static uint64_t below(struct dice *d, uint64_t n) {
    return roll(d) % n;
}

static const uint64_t extremes[] = {0,
                                    1,
                                    2,
                                    7,
                                    24,
                                    32,
                                    63,
                                    64,
                                    65,
                                    255,
                                    256,
                                    4095,
                                    4096,
                                    65535,
                                    65536,
                                    65537,
                                    INT32_MAX,
                                    UINT32_MAX,
                                    1ull << 32,
                                    INT64_MAX,
                                    1ull << 63,
                                    UINT64_MAX,
                                    UINT64_MAX - 1};
static uint64_t extreme(struct dice *d) {
    return extremes[below(d, sizeof extremes / sizeof extremes[0])];
}

static struct {
    struct gate_block *block;
    struct gate_host host;
    struct gate gate;
    struct gate_files files;
    _Atomic bool done;
    uint64_t lies;
} t;

/* ---- the liar ---- */

static void random_bytes(struct dice *d, uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i += 8) {
        uint64_t v = roll(d);
        memcpy(p + i, &v, n - i < 8 ? n - i : 8);
    }
}

/* Directory entries, most of them well formed. */
static uint32_t entries(struct dice *d, uint8_t *p, uint32_t room) {
    uint32_t at = 0;
    for (int i = 0; i < 20 && at + 320 < room; i++) {
        struct gate_dirent e = {.next = 1 + below(d, 1000),
                                .ino = roll(d),
                                .type = (uint32_t)below(d, GATE_TYPES),
                                .name_len = (uint32_t)below(d, 40) + 1};
        if (below(d, 30) == 0) e.name_len = (uint32_t)extreme(d);
        if (below(d, 30) == 0) e.type = (uint32_t)roll(d);
        memcpy(p + at, &e, sizeof e);
        memset(p + at + sizeof e, 'n', 64);
        at += (uint32_t)sizeof e + (e.name_len + 7) / 8 * 8 % 300;
    }
    return at;
}

/* What an honest host might say, with contents that need not be true. */
static void plausible(struct dice *d, const struct gate_request *q, struct gate_reply *r) {
    uint8_t *data = t.block->data;
    uint32_t room = q->room <= GATE_DATA_SIZE ? q->room : 0;
    switch (q->op) {
    case GATE_READDIR: r->len = below(d, 3) ? entries(d, data, room) : 0; break;
    case GATE_STAT:
    case GATE_OPEN:
    case GATE_PATH_STAT: {
        struct gate_stat s = {.type = (uint32_t)below(d, GATE_TYPES + 1), .size = roll(d) >> below(d, 3)};
        memcpy(data, &s, sizeof s);
        r->len = room;
        break;
    }
    case GATE_POLL:
        r->len = room;
        for (uint32_t i = 0; i + 24 <= room; i += 24)
            data[i + 8] = (uint8_t)below(d, 9);
        break;
    case GATE_POLL_RECV:
        r->len = q->len + (room > q->len ? (uint32_t)below(d, room - q->len + 1) : 0);
        for (uint32_t i = 0; i + 24 <= q->len && i + 24 <= room; i += 24) {
            uint64_t n = below(d, 3) ? below(d, 100) : extreme(d);
            data[i + 8] = (uint8_t)below(d, 17);
            memcpy(data + i + 16, &n, sizeof n);
        }
        break;
    case GATE_SEND_MANY:
        r->len = room;
        for (uint32_t i = 0; i + 16 <= room; i += 16) {
            uint32_t n = (uint32_t)(below(d, 3) ? below(d, 60) : extreme(d));
            memcpy(data + i + 8, &n, sizeof n);
        }
        break;
    case GATE_WRITE:
    case GATE_PWRITE:
    case GATE_SEND: r->values[0] = below(d, q->len + 1); break;
    case GATE_LISTEN: r->values[0] = below(d, 65537); break;
    case GATE_EVIDENCE:
        r->len = (uint32_t)below(d, room + 1);
        r->values[0] = below(d, r->len + 2);
        break;
    case GATE_ANSWER:
        r->len = (uint32_t)below(d, room + 1);
        r->values[0] = 95 + below(d, 510);
        break;
    default: r->len = room ? (uint32_t)below(d, room + 1) : 0;
    }
}

static void lie(struct dice *d, const struct gate_request *q, struct gate_reply *r) {
    static struct gate_reply earlier[64];
    memset(r, 0, sizeof *r);
    switch (below(d, 8)) {
    case 0: random_bytes(d, (uint8_t *)r, sizeof *r); break;
    case 1:
        r->error = below(d, 2) ? 0 : (uint32_t)extreme(d);
        r->len = (uint32_t)extreme(d);
        for (int i = 0; i < GATE_VALUES; i++)
            r->values[i] = below(d, 2) ? extreme(d) : 0;
        break;
    case 2: *r = earlier[below(d, 64)]; break;
    case 3: r->error = (uint32_t)below(d, GATE_ERROR_MAX + 2); break;
    case 4:
        plausible(d, q, r);
        r->len += (uint32_t)below(d, 3) - 1;
        break;
    case 5: random_bytes(d, t.block->data, 512); /* fallthrough */
    default: plausible(d, q, r);
    }
    earlier[below(d, 64)] = *r;
}

static void *liar(void *arg) {
    (void)arg;
    struct dice d = {0x1234567};
    while (gate_host_wait(&t.host, UINT64_MAX) == GATE_ASKED) {
        struct gate_request q;
        struct gate_reply r;
        if (!gate_host_take(&t.host, &q)) continue;
        assert_null(gate_request_check(&q)); /* and the warden's requests are always well formed */
        lie(&d, &q, &r);
        gate_host_answer(&t.host, &r);
        t.lies++;
    }
    return NULL;
}

/* Changes the reply and the data while they are read. */
static void *scribbler(void *arg) {
    (void)arg;
    struct dice d = {0x7654321};
    while (!t.done) {
        for (int i = 0; i < 200; i++) {
            volatile uint32_t *len = &t.block->reply.len, *error = &t.block->reply.error;
            if (below(&d, 2)) *len = (uint32_t)extreme(&d);
            if (below(&d, 8) == 0) *error = (uint32_t)extreme(&d);
            volatile uint64_t *value = &t.block->reply.values[below(&d, 2)];
            if (below(&d, 4) == 0) *value = extreme(&d);
            volatile uint32_t *word = (volatile uint32_t *)(t.block->data + below(&d, 1024) * 4);
            *word = (uint32_t)extreme(&d);
        }
        usleep(50);
    }
    return NULL;
}

/* ---- the program's side ---- */

static struct wasi_file *open_files[32];
static uint32_t n_open;

static void check_errno(wasi_errno e) {
    assert_true(e <= WASI_ENOTCAPABLE);
}

/* An I/O vector over exactly sized blocks: one byte too far is a fault. */
struct vector {
    struct wasi_iov iov[4];
    uint32_t n;
    size_t size;
};
static struct vector vector_new(struct dice *d) {
    struct vector v = {.n = 1 + (uint32_t)below(d, 4)};
    for (uint32_t i = 0; i < v.n; i++) {
        size_t len = 1 + (size_t)(below(d, 20) == 0 ? below(d, 100000) : below(d, 300));
        v.iov[i] = (struct wasi_iov){malloc(len), len};
        memset(v.iov[i].buf, 'w', len);
        v.size += len;
    }
    return v;
}
static void vector_free(struct vector *v) {
    for (uint32_t i = 0; i < v->n; i++)
        free(v->iov[i].buf);
}

static void data_operation(struct dice *d, struct wasi_file *f) {
    struct vector v = vector_new(d);
    uint16_t fdflags = (uint16_t)below(d, 8), roflags = 0;
    uint64_t offset = below(d, 8) ? below(d, 100000) : extreme(d);
    size_t done = 0;
    wasi_errno e = WASI_EBADF;
    switch (below(d, 6)) {
    case 0:
        if (f->ops->read) e = f->ops->read(f, v.iov, v.n, fdflags, &done);
        break;
    case 1:
        if (f->ops->write) e = f->ops->write(f, v.iov, v.n, fdflags, &done);
        break;
    case 2:
        if (f->ops->read_at) e = f->ops->read_at(f, v.iov, v.n, offset, &done);
        break;
    case 3:
        if (f->ops->write_at) e = f->ops->write_at(f, v.iov, v.n, &offset, fdflags, &done);
        break;
    case 4:
        if (f->ops->recv) e = f->ops->recv(f, v.iov, v.n, (uint16_t)below(d, 4), fdflags, &done, &roflags);
        break;
    default:
        if (f->ops->send) e = f->ops->send(f, v.iov, v.n, fdflags, &done);
    }
    check_errno(e);
    assert_true(done <= v.size);
    assert_true(roflags <= WASI_RO_DATA_TRUNCATED);
    vector_free(&v);
}

static void keep_open(struct wasi_file *f) {
    assert_non_null(f);
    assert_true((unsigned)f->filetype <= WASI_FILETYPE_SYMBOLIC_LINK);
    if (n_open == 32) wasi_file_unref(open_files[--n_open]);
    open_files[n_open++] = f;
}

struct sink {
    uint32_t left;
    char name[WASI_NAME_MAX];
};
static bool take_entry(void *ctx, const struct wasi_dirent *e) {
    struct sink *s = ctx;
    assert_true(e->name_len >= 1 && e->name_len <= WASI_NAME_MAX && e->next != 0);
    assert_true((unsigned)e->filetype <= WASI_FILETYPE_SYMBOLIC_LINK);
    memcpy(s->name, e->name, e->name_len);
    assert_null(memchr(s->name, '/', e->name_len));
    return s->left-- > 0;
}

static void check_stat(wasi_errno e, const struct wasi_filestat *s) {
    check_errno(e);
    if (e == WASI_SUCCESS) assert_true((unsigned)s->filetype <= WASI_FILETYPE_SYMBOLIC_LINK);
}

static void file_operation(struct dice *d, struct wasi_file *f) {
    struct wasi_filestat st;
    struct wasi_times times = {.flags = (uint16_t)below(d, 16), .atim = extreme(d), .mtim = extreme(d)};
    struct wasi_file *child = NULL;
    switch (below(d, 8)) {
    case 0:
        if (f->ops->sync) check_errno(f->ops->sync(f, below(d, 2)));
        break;
    case 1:
        if (f->ops->advise) check_errno(f->ops->advise(f, extreme(d), extreme(d), below(d, 6)));
        break;
    case 2:
        if (f->ops->allocate) check_errno(f->ops->allocate(f, extreme(d), extreme(d)));
        break;
    case 3:
        if (f->ops->set_size) check_errno(f->ops->set_size(f, extreme(d)));
        break;
    case 4:
        if (f->ops->set_times) check_errno(f->ops->set_times(f, &times));
        break;
    case 5:
        if (f->ops->shutdown) check_errno(f->ops->shutdown(f, 1 + (uint8_t)below(d, 3)));
        break;
    case 6: check_stat(f->ops->stat(f, &st), &st); break;
    default:
        if (!f->ops->accept) break;
        wasi_errno e = f->ops->accept(f, (uint16_t)below(d, 8), 0, &child);
        check_errno(e);
        if (e == WASI_SUCCESS) keep_open(child);
    }
}

/* What is not a file: evidence, sockets of a deployed keep, the steward. */
static void host_operation(struct dice *d) {
    static uint8_t out[GATE_DATA_SIZE], report_data[GATE_REPORT_DATA];
    uint32_t n = 0, size = 0, handle = 0, e;
    uint16_t at = 0;
    switch (below(d, 4)) {
    case 0:
        e = gate_evidence(&t.gate, report_data, out, &n, &size);
        assert_true(n <= size && size <= sizeof out);
        break;
    case 1:
        e = gate_listen(&t.files, "::", (uint16_t)roll(d), &handle, &at);
        assert_true(e != GATE_OK || at != 0);
        if (e == GATE_OK) keep_open(gate_listener(&t.files, handle));
        break;
    case 2:
        e = gate_connect(&t.files, "example.org", (uint16_t)roll(d), &handle);
        if (e == GATE_OK) keep_open(gate_socket(&t.files, handle));
        break;
    default:
        e = gate_steward(&t.files, "https://x", below(d, GATE_STEWARDS), report_data, below(d, 64), &handle);
        if (e != GATE_OK) break;
        e = gate_answer(&t.gate, handle, out, &n, &size);
        assert_true(e != GATE_OK || (n >= 100 && n <= 599 && size <= sizeof out));
        gate_handle_close(&t.files, handle);
    }
    check_errno(e);
}

static void dir_operation(struct dice *d, struct wasi_file *f) {
    static char bytes[2][WASI_PATH_MAX];
    struct wasi_path a = {bytes[0], 1 + (uint32_t)below(d, 100)}, b = {bytes[1], 1 + (uint32_t)below(d, 100)};
    if (below(d, 50) == 0) a.len = b.len = WASI_PATH_MAX;
    memset(bytes, 'p', sizeof bytes);
    struct wasi_open how = {.follow = below(d, 2),
                            .oflags = (uint16_t)below(d, 16),
                            .fdflags = (uint16_t)below(d, 32),
                            .access = (uint8_t)below(d, 4)};
    struct wasi_filestat st;
    struct wasi_times times = {.flags = 5, .atim = extreme(d), .mtim = extreme(d)};
    struct wasi_file *child = NULL;
    struct sink sink = {.left = (uint32_t)below(d, 100)};
    size_t size = (size_t)below(d, 100), len = 0;
    char *small = malloc(size + 1);
    wasi_errno e;
    switch (below(d, 11)) {
    case 0: check_errno(f->ops->readdir(f, extreme(d), take_entry, &sink)); break;
    case 1: check_stat(f->ops->path_stat(f, a, below(d, 2), &st), &st); break;
    case 2: check_errno(f->ops->path_set_times(f, a, below(d, 2), &times)); break;
    case 3: check_errno(f->ops->create_directory(f, a)); break;
    case 4: check_errno(f->ops->remove_directory(f, a)); break;
    case 5: check_errno(f->ops->unlink(f, a)); break;
    case 6: check_errno(f->ops->link(f, a, below(d, 2), f, b)); break;
    case 7: check_errno(f->ops->rename(f, a, f, b)); break;
    case 8: check_errno(f->ops->symlink(f, a, b)); break;
    case 9:
        e = f->ops->readlink(f, a, small, size, &len);
        check_errno(e);
        assert_true(e != WASI_SUCCESS || len <= size);
        break;
    default:
        e = f->ops->open(f, a, &how, &child);
        check_errno(e);
        if (e == WASI_SUCCESS) keep_open(child);
        if (e == WASI_SUCCESS && how.oflags & WASI_OFLAG_DIRECTORY)
            assert_int_equal(child->filetype, WASI_FILETYPE_DIRECTORY);
    }
    free(small);
}

static bool receives(void *ctx, size_t i) {
    (void)ctx;
    return i % 2 == 0;
}

/* No more than was asked for, and all of it in the data area. */
static void taken(void *ctx, size_t i, const uint8_t *bytes, size_t n) {
    (void)ctx;
    assert_true(i % 2 == 0 && n <= 50);
    assert_true(bytes >= t.block->data && bytes + n <= t.block->data + GATE_DATA_SIZE);
}

static void send_many(struct dice *d, struct wasi_file *const *files, size_t count) {
    static const uint8_t bytes[64];
    struct gate_outgoing out[8];
    size_t n = 1 + below(d, 8);
    for (size_t i = 0; i < n; i++)
        out[i] =
            (struct gate_outgoing){.socket = files[below(d, count)], .bytes = bytes, .len = (uint32_t)below(d, 64)};
    out[0].len = 1;
    if (gate_send_many(&t.files, out, n) != WASI_SUCCESS) return;
    for (size_t i = 0; i < n; i++)
        assert_true(out[i].taken <= out[i].len && out[i].error <= GATE_ERROR_MAX && (!out[i].error || !out[i].taken));
}

static void poll_operation(struct dice *d) {
    struct wasi_poll items[40];
    size_t n = 1 + (size_t)below(d, 40);
    for (size_t i = 0; i < n; i++)
        items[i] = (struct wasi_poll){.token = 1 + below(d, 5), .interest = 1 + (uint8_t)below(d, 2)};
    const struct gate_receiver receiver = {.ctx = items, .most = 50, .wanted = receives, .take = taken};
    check_errno(gate_poll_receive(&t.files, items, n, extreme(d), below(d, 2) ? &receiver : NULL));
    for (size_t i = 0; i < n; i++)
        check_errno(items[i].error);
}

/* Half of the time there is a channel to be looked after, too, and half of these times a renewal. */
static uint32_t number_of(const void *ctx) {
    return ctx ? 1 : 0;
}
static size_t wanted(void *ctx, struct gate_poll *entries, size_t most) {
    entries[0] = (struct gate_poll){.handle = number_of(ctx), .events = GATE_READABLE};
    return most > 0;
}
static void serve(void *ctx, const struct gate_poll *entries, size_t n) {
    assert_true(n <= 1); /* none: nothing came in time */
    if (n == 1) assert_true(entries[0].handle == number_of(ctx) && entries[0].error <= GATE_ERROR_MAX);
}
static uint64_t patience(void *ctx) {
    (void)ctx;
    return 1000;
}
static const struct gate_attend attends[] = {
    {.wanted = wanted, .serve = serve},
    {.ctx = &t, .wanted = wanted, .serve = serve, .patience = patience, .next = &attends[0]}};

static void test_lies(void **state) {
    (void)state;
    const char *count = getenv("DONJON_LIES");
    uint64_t want = count ? strtoull(count, NULL, 10) : 60000;
    int bells[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, bells), 0);
    t.block = aligned_alloc(GATE_HEAD_SIZE, GATE_BLOCK_SIZE);
    memset(t.block, 0, GATE_BLOCK_SIZE);
    gate_host_init(&t.host, t.block, bells[0], GATE_SPIN_MOST_NS);
    assert_true(gate_init(&t.gate, t.block, bells[1], NULL));
    gate_files_init(&t.files, &t.gate, 5);
    pthread_t host, scribble;
    pthread_create(&host, NULL, liar, NULL);
    pthread_create(&scribble, NULL, scribbler, NULL);

    struct wasi_file *fixed[] = {gate_stream(&t.files, 0, false), gate_stream(&t.files, 1, true),
                                 gate_listener(&t.files, 2), gate_socket(&t.files, 3), gate_directory(&t.files, 4)};
    struct dice d = {42};
    while (t.lies < want) {
        t.files.attend = below(&d, 2) ? &attends[below(&d, 2)] : NULL;
        struct wasi_file *f = below(&d, 2) && n_open ? open_files[below(&d, n_open)] : fixed[below(&d, 5)];
        switch (below(&d, 6)) {
        case 5: send_many(&d, fixed, sizeof fixed / sizeof *fixed); break;
        case 0: data_operation(&d, f); break;
        case 1: file_operation(&d, f); break;
        case 2: dir_operation(&d, f->ops->open ? f : fixed[4]); break;
        case 3: host_operation(&d); break;
        default:
            if (below(&d, 4) == 0) poll_operation(&d);
            if (below(&d, 4) == 0 && n_open) wasi_file_unref(open_files[--n_open]);
        }
    }
    while (n_open)
        wasi_file_unref(open_files[--n_open]);
    for (int i = 0; i < 5; i++)
        wasi_file_unref(fixed[i]);
    for (uint32_t i = 0; i < GATE_MAX_HANDLES; i++) /* no handle was lost */
        assert_int_equal(t.files.used[i / 64] >> i % 64 & 1, i < 5);
    print_message("%llu replies, %llu refused\n", (unsigned long long)t.lies, (unsigned long long)t.gate.refused);
    assert_true(t.gate.refused > want / 10);
    t.done = true;
    close(bells[1]);
    pthread_join(host, NULL);
    pthread_join(scribble, NULL);
    close(bells[0]);
    free(t.block);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_lies)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
