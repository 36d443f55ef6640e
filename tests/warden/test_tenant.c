/* The warden's end of the channel against a host that carries bytes badly: in pieces, late, not at all, with bits
 * turned, with answers that make no sense. A tenant whose bytes get through is served; nothing else happens. Each run
 * is a process of its own, with dice of its own. DONJON_RUNS: how many (default 24). */
#define _GNU_SOURCE
#include "channel/binding.h"
#include "channel/link.h"
#include "config/config_wire.h"
#include "gate/host.h"
#include "warden/warden.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(what)                                                                                                    \
    do {                                                                                                               \
        if (what) break;                                                                                               \
        fprintf(stderr, "%s:%d: %s (seed %llu)\n", __FILE__, __LINE__, #what, (unsigned long long)seed);               \
        _exit(1);                                                                                                      \
    } while (0)

enum { OUTPUT = 400000, CLIENT_HANDLE_NONE = 0 };

static uint64_t seed, state;
static uint64_t below(uint64_t n) { /* xorshift64* */
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * UINT64_C(2685821657736338717) % n;
}

/* ---- the tenant, in the host's hands ---- */

static struct {
    struct channel_tls *tls;
    struct channel_link *link;
    uint32_t handle; /* the keep's number for it; 0: not accepted */
    bool hello, accepted, typed, over;
    uint8_t *wire;
    size_t wire_size;
    uint8_t digest[32];
    size_t received;
    unsigned deployments, connections;
    bool harm; /* this host also destroys */
} c;

static void client_turn(void);
static void begin_client(void) {
    channel_link_free(c.link);
    c.link = channel_link_new(c.tls);
    c.handle = CLIENT_HANDLE_NONE;
    c.hello = c.over = false;
    c.connections++;
    client_turn();
}

static void say(struct channel_message m) {
    CHECK(channel_link_send(c.link, &m));
}

static void deliver(void) {
    struct channel_message start = {.type = CHANNEL_START};
    memcpy(start.fixed, c.digest, 32);
    say((struct channel_message){.type = CHANNEL_CONFIG, .size = c.wire_size});
    say((struct channel_message){.type = CHANNEL_DATA, .first = {c.wire, c.wire_size}});
    say((struct channel_message){.type = CHANNEL_MODULE, .size = 6});
    say((struct channel_message){.type = CHANNEL_DATA, .first = {(const uint8_t *)"module", 6}});
    say((struct channel_message){
        .type = CHANNEL_SECRET, .first = {(const uint8_t *)"db", 2}, .second = {(const uint8_t *)"pass", 4}});
    say(start);
}

static void take(const struct channel_message *m) {
    switch (m->type) {
    case CHANNEL_EVIDENCE: say((struct channel_message){.type = CHANNEL_OPEN, .purpose = CHANNEL_DEPLOY}); break;
    case CHANNEL_OPENED: deliver(); break;
    case CHANNEL_ACCEPTED:
        CHECK(memcmp(m->fixed, c.digest, 32) == 0);
        c.accepted = true;
        c.deployments++;
        c.typed = false;
        break;
    case CHANNEL_CREDIT:
        if (c.typed) break;
        c.typed = true;
        say((struct channel_message){.type = CHANNEL_STDIN, .first = {(const uint8_t *)"typed", 5}});
        say((struct channel_message){.type = CHANNEL_STDIN_END});
        break;
    case CHANNEL_STDOUT:
        for (size_t i = 0; i < m->first.size; i++)
            CHECK(m->first.data[i] == (uint8_t)((c.received + i) / 1000));
        c.received += m->first.size;
        break;
    case CHANNEL_ERROR: CHECK(c.harm); break; /* an earlier tenant of ours may still be there */
    default: CHECK(m->type == CHANNEL_LOST || m->type == CHANNEL_PING);
    }
}

static void client_turn(void) {
    struct channel_message m;
    for (;;) {
        enum channel_step s = channel_link_next(c.link, &m);
        if (channel_link_ready(c.link) && !c.hello) {
            c.hello = true;
            say((struct channel_message){.type = CHANNEL_HELLO, .version = CHANNEL_VERSION});
        }
        if (s == CHANNEL_MESSAGE) {
            take(&m);
            continue;
        }
        if (s != CHANNEL_MORE) {
            CHECK(c.harm); /* a host that only delays breaks nothing */
            c.over = true;
        }
        return;
    }
}

/* ---- the host ---- */

static struct gate_block *block;
static struct gate_host host;

static uint32_t host_recv(const struct gate_request *q, struct gate_reply *r) {
    const uint8_t *bytes;
    size_t n = channel_link_output(c.link, &bytes);
    if (q->handle != c.handle || c.over) return below(4) ? GATE_EAGAIN : GATE_OK; /* late, or the end */
    if (n == 0 || below(5) == 0) return GATE_EAGAIN;
    size_t some = 1 + below(below(3) ? n : 40);
    if (some > n) some = n;
    if (some > q->room) some = q->room;
    memcpy(block->data, bytes, some);
    if (c.harm && below(400) == 0) block->data[below(some)] ^= (uint8_t)(1 << below(8));
    channel_link_sent(c.link, some);
    r->len = (uint32_t)some;
    return GATE_OK;
}

static uint32_t host_send(const struct gate_request *q, struct gate_reply *r) {
    if (below(6) == 0) return GATE_EAGAIN;
    size_t some = 1 + below(below(2) ? q->len : 100);
    if (some > q->len) some = q->len;
    r->values[0] = some;
    if (q->handle != c.handle || c.over) return GATE_OK;
    uint8_t *copy = malloc(some);
    memcpy(copy, block->data, some);
    if (c.harm && below(400) == 0) copy[below(some)] ^= 1;
    CHECK(channel_link_input(c.link, copy, some));
    free(copy);
    client_turn();
    return GATE_OK;
}

static uint32_t host_accept(const struct gate_request *q) {
    if (c.handle == CLIENT_HANDLE_NONE && !c.over) {
        c.handle = (uint32_t)q->args[0];
        return GATE_OK;
    }
    return c.harm && below(3) == 0 ? GATE_OK : GATE_EAGAIN; /* or a connection of nobody's */
}

static uint32_t host_poll(const struct gate_request *q, struct gate_reply *r) {
    size_t n = (size_t)q->args[1];
    for (size_t i = 0; i < n; i++) {
        struct gate_poll e;
        memcpy(&e, block->data + i * sizeof e, sizeof e);
        e.ready = (uint32_t)below(4) | (c.harm && below(50) == 0 ? GATE_HANGUP : 0);
        e.error = c.harm && below(200) == 0 ? (uint32_t)below(GATE_ERROR_MAX + 1) : 0;
        if (e.handle == 0) e.error = 0;
        memcpy(block->data + i * sizeof e, &e, sizeof e);
    }
    r->len = q->room;
    return GATE_OK;
}

static uint32_t host_evidence(const struct gate_request *q, struct gate_reply *r) {
    if (below(3) == 0) return GATE_ENOTSUP;
    r->len = (uint32_t)below(q->room + 1);
    r->values[0] = below(r->len + 1);
    return GATE_OK;
}

static uint32_t answer(const struct gate_request *q, struct gate_reply *r) {
    if (c.over) begin_client();
    if (c.harm && q->op != GATE_POLL && below(500) == 0) { /* nonsense */
        r->len = (uint32_t)below(UINT32_MAX);
        r->values[0] = below(UINT64_MAX);
        return (uint32_t)below(100);
    }
    switch (q->op) {
    case GATE_RECV: return host_recv(q, r);
    case GATE_SEND: return host_send(q, r);
    case GATE_ACCEPT: return host_accept(q);
    case GATE_POLL: return host_poll(q, r);
    case GATE_EVIDENCE: return host_evidence(q, r);
    case GATE_CLOSE:
        if (q->handle == c.handle) c.over = true;
        return GATE_OK;
    default: return GATE_OK;
    }
}

static void *serve(void *arg) {
    (void)arg;
    begin_client();
    while (gate_host_wait(&host, UINT64_MAX) == GATE_ASKED) {
        struct gate_request q;
        struct gate_reply r = {0};
        if (!gate_host_take(&host, &q)) continue;
        CHECK(gate_request_check(&q) == NULL);
        r.error = answer(&q, &r);
        if (r.error != GATE_OK && r.error <= GATE_ERROR_MAX && r.len == 0) r.values[0] = 0;
        gate_host_answer(&host, &r);
    }
    return NULL;
}

/* ---- what tenant.c finds of the warden ---- */

static struct warden w;
static jmp_buf failed;

void report_failure(struct warden *warden, enum gate_exit kind, const char *format, ...) {
    (void)warden, (void)kind, (void)format;
    longjmp(failed, 1);
}
void report_exit(struct warden *warden, enum gate_exit kind, uint32_t status, const struct report *r) {
    (void)warden, (void)kind, (void)status, (void)r;
    longjmp(failed, 1);
}
void tls_look(struct warden *warden) {
    (void)warden;
}

void tls_openssl(struct warden *warden) {
    (void)warden;
}
void timer_end(void) {}
wasi_errno put_file(struct wasi_file *root, const char *path, const void *content, size_t size) {
    (void)root, (void)path, (void)content, (void)size;
    return WASI_SUCCESS;
}

/* ---- runs ---- */

static void prepare(void) {
    struct config config;
    struct config_error err;
    c.tls = channel_tls_tenant();
    CHECK(c.tls && config_init(&config));
    CHECK(config_add_secret(&config, &(struct config_secret){"db", "DB", NULL}, &err));
    CHECK(config_encode(&config, &c.wire, &c.wire_size));
    config_free(&config);
    struct channel_workload *l = channel_workload_new();
    CHECK(channel_workload_config(l, (struct channel_bytes){c.wire, c.wire_size}));
    CHECK(channel_workload_module(l, (struct channel_bytes){(const uint8_t *)"module", 6}));
    CHECK(channel_workload_digest(l, c.digest));
    channel_workload_free(l);
}

/* As a program would: reads its input to the end, writes. */
static void program(void) {
    struct wasi_file *in = tenant_stream(&w, CONFIG_STDIN), *out = tenant_stream(&w, CONFIG_STDOUT);
    uint8_t bytes[1000];
    size_t n, typed = 0;
    if (!c.harm) {
        do {
            struct wasi_iov iov = {bytes, sizeof bytes};
            CHECK(in->ops->read(in, &iov, 1, 0, &n) == WASI_SUCCESS);
            typed += n;
        } while (n > 0);
        CHECK(typed == 5);
    }
    for (size_t i = 0; i < OUTPUT; i += sizeof bytes) {
        struct wasi_iov iov = {bytes, sizeof bytes};
        memset(bytes, (int)(i / 1000), sizeof bytes);
        CHECK(out->ops->write(out, &iov, 1, 0, &n) == WASI_SUCCESS && n == sizeof bytes);
        tenant_turn(&w);
    }
    wasi_file_unref(in);
    wasi_file_unref(out);
}

static void one_run(void) {
    int bells[2];
    pthread_t thread;
    state = seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
    c.harm = seed % 2;
    alarm(120);
    prepare();
    block = aligned_alloc(GATE_HEAD_SIZE, GATE_BLOCK_SIZE);
    memset(block, 0, GATE_BLOCK_SIZE);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, bells) == 0);
    gate_host_init(&host, block, bells[0], 0);
    CHECK(gate_init(&w.gate, block, bells[1], NULL));
    CHECK(pthread_create(&thread, NULL, serve, NULL) == 0);
    if (setjmp(failed)) {
        CHECK(c.harm); /* a host that does not serve the channel at all ends the keep */
        _exit(0);
    }
    tenant_receive(&w);
    CHECK(w.tenant && memcmp(w.workload, c.digest, 32) == 0 && w.boot.module_size == 6 && w.boot.config.n_secrets == 1);
    program();
    for (int i = 0; !c.harm && c.received < OUTPUT && i < 100000; i++)
        (void)gate_poll_files(&w.files, NULL, 0, 1000);
    CHECK(c.harm || (c.deployments == 1 && c.connections == 1 && c.received == OUTPUT));
    _exit(0);
}

#if DONJON_SANITIZED
/* Every run ends in the middle of things. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) {
    return "detect_leaks=0";
}
#endif

int main(void) {
    const char *runs = getenv("DONJON_RUNS");
    int n = runs ? atoi(runs) : 24, bad = 0;
    for (seed = 1; seed <= (uint64_t)n; seed++) {
        pid_t pid = fork();
        int status = 0;
        if (pid == 0) one_run();
        waitpid(pid, &status, 0);
        if (status) fprintf(stderr, "seed %llu: status 0x%x\n", (unsigned long long)seed, status);
        bad += status != 0;
    }
    printf("%d runs, %d bad\n", n, bad);
    return bad != 0;
}
