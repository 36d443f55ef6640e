/* Sockets from end to end: the warden's files over the gate, the loader's server behind it, TCP on the loopback. */
#define _GNU_SOURCE
#include "loader/serve.h"
#include "warden/gatefile.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LISTENER = 3, CONNECTED = 4 };

static struct {
    struct config config;
    struct server *server;
    struct gate_block *block;
    struct gate_host host;
    struct gate gate;
    struct gate_files files;
    int bells[2];
    pthread_t thread;
    int peer_listener; /* what CONNECTED is connected to */
} t;

static void *serve(void *arg) {
    (void)arg;
    while (gate_host_wait(&t.host, UINT64_MAX) == GATE_ASKED) {
        struct gate_request q;
        struct gate_reply r;
        if (!gate_host_take(&t.host, &q)) continue;
        server_request(t.server, &q, &r, t.block->data);
        gate_host_answer(&t.host, &r);
    }
    return NULL;
}

static uint16_t port_of(int fd) {
    struct sockaddr_storage a;
    socklen_t len = sizeof a;
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    return ntohs(a.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&a)->sin6_port
                                         : ((struct sockaddr_in *)&a)->sin_port);
}

static int dial(uint16_t port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

static int setup(void **state) {
    (void)state;
    struct config_error err;
    char error[512];
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    t.peer_listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(t.peer_listener, (struct sockaddr *)&any, sizeof any) != 0 || listen(t.peer_listener, 1) != 0) return -1;
    if (!config_init(&t.config)) return -1;
    struct config_file l = {.kind = CONFIG_LISTEN, .prot = CONFIG_TCP, .name = "in", .addr = "127.0.0.1"};
    struct config_file c = {.kind = CONFIG_CONNECT,
                            .prot = CONFIG_TCP,
                            .name = "out",
                            .host = "127.0.0.1",
                            .port = port_of(t.peer_listener)};
    if (!config_add_file(&t.config, &l, &err) || !config_add_file(&t.config, &c, &err)) return -1;
    int stdio[3] = {-1, -1, -1};
    t.server = server_new(&t.config, stdio, false, error, sizeof error);
    if (!t.server) return -1;
    t.block = aligned_alloc(GATE_HEAD_SIZE, GATE_BLOCK_SIZE);
    memset(t.block, 0, GATE_BLOCK_SIZE);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, t.bells) != 0) return -1;
    gate_host_init(&t.host, t.block, t.bells[0], GATE_SPIN_MOST_NS);
    t.server->gate = &t.host;
    if (!gate_init(&t.gate, t.block, t.bells[1], NULL)) return -1;
    gate_files_init(&t.files, &t.gate, 5);
    return pthread_create(&t.thread, NULL, serve, NULL);
}

static int teardown(void **state) {
    (void)state;
    close(t.bells[1]);
    pthread_join(t.thread, NULL);
    close(t.bells[0]);
    server_delete(t.server);
    config_free(&t.config);
    close(t.peer_listener);
    free(t.block);
    return 0;
}

static wasi_errno put(struct wasi_file *f, const char *text, size_t *done) {
    struct wasi_iov v = {(void *)(uintptr_t)text, strlen(text)};
    return f->ops->send(f, &v, 1, 0, done);
}

static wasi_errno get(struct wasi_file *f, char *buf, size_t size, uint16_t riflags, uint16_t fdflags, size_t *done) {
    struct wasi_iov v[2] = {{buf, size / 2}, {buf + size / 2, size - size / 2}};
    uint16_t roflags;
    return f->ops->recv(f, v, 2, riflags, fdflags, done, &roflags);
}

static void *late_writer(void *arg) {
    int fd = *(int *)arg;
    usleep(20000);
    if (write(fd, "late", 4) != 4) return NULL;
    usleep(20000);
    return write(fd, "r", 1) == 1 ? NULL : arg;
}

static void test_accepted(void **state) {
    (void)state;
    struct wasi_file *l = gate_listener(&t.files, LISTENER), *s = NULL;
    char buf[16];
    size_t done;
    assert_int_equal(l->ops->accept(l, WASI_FDFLAG_NONBLOCK, 0, &s), WASI_EAGAIN);
    int peer = dial(port_of(t.server->handles[LISTENER].fd));
    assert_int_equal(l->ops->accept(l, 0, 0, &s), WASI_SUCCESS);
    assert_int_equal(s->filetype, WASI_FILETYPE_SOCKET_STREAM);

    assert_int_equal(put(s, "hello", &done), WASI_SUCCESS);
    assert_int_equal(done, 5);
    assert_int_equal(read(peer, buf, sizeof buf), 5);
    assert_int_equal(get(s, buf, 8, 0, WASI_FDFLAG_NONBLOCK, &done), WASI_EAGAIN);
    assert_int_equal(write(peer, "abcdef", 6), 6);
    assert_int_equal(get(s, buf, 4, WASI_RI_PEEK, 0, &done), WASI_SUCCESS);
    assert_int_equal(done, 4);
    assert_int_equal(get(s, buf, 8, 0, 0, &done), WASI_SUCCESS);
    assert_int_equal(done, 6);
    assert_memory_equal(buf, "abcdef", 6);

    pthread_t writer;
    pthread_create(&writer, NULL, late_writer, &peer);
    assert_int_equal(get(s, buf, 5, WASI_RI_WAITALL, 0, &done), WASI_SUCCESS);
    assert_int_equal(done, 5);
    assert_memory_equal(buf, "later", 5);
    pthread_join(writer, NULL);

    struct wasi_poll p[2] = {{.interest = WASI_POLL_READ}, {.interest = WASI_POLL_WRITE}};
    for (int i = 0; i < 2; i++)
        assert_int_equal(s->ops->poll(s, &p[i]), WASI_SUCCESS);
    assert_int_equal(gate_poll_files(&t.files, p, 2, WASI_FOREVER), WASI_SUCCESS);
    assert_true(!p[0].ready && p[1].ready);
    assert_int_equal(gate_poll_files(&t.files, p, 1, 1000000), WASI_SUCCESS);
    assert_false(p[0].ready);

    assert_int_equal(s->ops->shutdown(s, WASI_SHUT_WR), WASI_SUCCESS);
    assert_int_equal(read(peer, buf, sizeof buf), 0);
    assert_int_equal(put(s, "x", &done), WASI_EPIPE);
    close(peer);
    assert_int_equal(get(s, buf, 8, 0, 0, &done), WASI_SUCCESS);
    assert_int_equal(done, 0);
    wasi_file_unref(s);
    wasi_file_unref(l);
    assert_int_equal(t.files.used[0], 31); /* the accepted one's number is free again */
}

/* Waiting and receiving in one call, for those who want it; sending for many in one. */
enum { MANY = 3, MOST = 8 };
static struct {
    size_t n[MANY];
    char bytes[MANY][MOST];
    bool wanted[MANY], took[MANY];
} many;

static bool many_wanted(void *ctx, size_t i) {
    (void)ctx;
    return many.wanted[i];
}

static void many_take(void *ctx, size_t i, const uint8_t *bytes, size_t n) {
    (void)ctx;
    assert_true(i < MANY && n <= MOST && many.wanted[i]);
    memcpy(many.bytes[i], bytes, n);
    many.n[i] = n;
    many.took[i] = true;
}

static void test_many(void **state) {
    (void)state;
    const struct gate_receiver receiver = {.most = MOST, .wanted = many_wanted, .take = many_take};
    struct wasi_file *l = gate_listener(&t.files, LISTENER), *s[MANY];
    struct wasi_poll p[MANY];
    struct gate_outgoing out[MANY];
    int peer[MANY];
    char buf[16];
    size_t done;
    for (int i = 0; i < MANY; i++) {
        peer[i] = dial(port_of(t.server->handles[LISTENER].fd));
        assert_int_equal(l->ops->accept(l, 0, 0, &s[i]), WASI_SUCCESS);
        many.wanted[i] = i != 1;
    }
    assert_int_equal(write(peer[0], "0123456789", 10), 10); /* more than MOST */
    assert_int_equal(write(peer[1], "unwanted", 8), 8);
    shutdown(peer[2], SHUT_WR);
    while (true) { /* until all three are known to be ready */
        for (int i = 0; i < MANY; i++) {
            p[i] = (struct wasi_poll){.interest = WASI_POLL_READ};
            assert_int_equal(s[i]->ops->poll(s[i], &p[i]), WASI_SUCCESS);
            many.wanted[i] = i != 1 && !many.took[i];
        }
        assert_int_equal(gate_poll_receive(&t.files, p, MANY, WASI_FOREVER, &receiver), WASI_SUCCESS);
        if (many.took[0] && many.took[2] && p[1].ready) break;
    }
    assert_true(many.n[0] == MOST && memcmp(many.bytes[0], "01234567", MOST) == 0);
    assert_true(!many.took[1] && many.took[2] && many.n[2] == 0);
    assert_int_equal(get(s[0], buf, 8, 0, 0, &done), WASI_SUCCESS);
    assert_int_equal(done, 2);
    assert_int_equal(get(s[1], buf, 8, 0, 0, &done), WASI_SUCCESS);
    assert_int_equal(done, 8);

    static const char *const texts[MANY] = {"to the first", "x", "to the third"};
    for (int i = 0; i < MANY; i++)
        out[i] = (struct gate_outgoing){s[i], (const uint8_t *)texts[i], (uint32_t)strlen(texts[i]), 99, 99};
    assert_int_equal(s[1]->ops->shutdown(s[1], WASI_SHUT_WR), WASI_SUCCESS); /* its part fails alone */
    assert_int_equal(gate_send_many(&t.files, out, MANY), WASI_SUCCESS);
    assert_int_equal(out[1].error, WASI_EPIPE);
    assert_int_equal(out[1].taken, 0);
    for (int i = 0; i < MANY; i += 2) {
        assert_int_equal(out[i].error, WASI_SUCCESS);
        assert_int_equal(out[i].taken, 12);
        assert_int_equal(read(peer[i], buf, sizeof buf), 12);
        assert_memory_equal(buf, texts[i], 12);
    }
    for (int i = 0; i < MANY; i++) {
        wasi_file_unref(s[i]);
        close(peer[i]);
    }
    wasi_file_unref(l);
}

/* More than any buffer holds, both sides at once. */
enum { MUCH = 8 << 20 };
static void *pump(void *arg) {
    int fd = *(int *)arg;
    char buf[4096];
    size_t total = 0;
    for (ssize_t n; total < MUCH && (n = read(fd, buf, sizeof buf)) > 0;)
        total += (size_t)n;
    return total == MUCH ? arg : NULL;
}

static void test_connected(void **state) {
    (void)state;
    struct wasi_file *s = gate_socket(&t.files, CONNECTED);
    int peer = accept(t.peer_listener, NULL, NULL);
    assert_true(peer >= 0);
    pthread_t reader;
    pthread_create(&reader, NULL, pump, &peer);
    char *much = calloc(1, MUCH);
    struct wasi_iov v = {much, MUCH};
    size_t done;
    assert_int_equal(s->ops->write(s, &v, 1, 0, &done), WASI_SUCCESS);
    assert_int_equal(done, MUCH);
    void *all = NULL;
    pthread_join(reader, &all);
    assert_non_null(all);
    free(much);
    close(peer);
    wasi_file_unref(s);
}

/* What cannot be opened is said, with its name. */
static void test_errors(void **state) {
    (void)state;
    struct config_error err;
    struct config c;
    char error[512];
    int stdio[3] = {-1, -1, -1};
    assert_true(config_init(&c));
    struct config_file f = {.kind = CONFIG_LISTEN,
                            .prot = CONFIG_TCP,
                            .name = "web",
                            .addr = "127.0.0.1",
                            .port = port_of(t.peer_listener)};
    assert_true(config_add_file(&c, &f, &err));
    assert_null(server_new(&c, stdio, false, error, sizeof error));
    assert_non_null(strstr(error, "\"web\""));
    assert_non_null(strstr(error, "in use"));
    config_free(&c);
    assert_true(config_init(&c));
    struct config_mount m = {.host = "/nonexistent/directory", .guest = "/d"};
    assert_true(config_add_mount(&c, &m, &err));
    assert_null(server_new(&c, stdio, false, error, sizeof error));
    assert_non_null(strstr(error, "/nonexistent/directory"));
    config_free(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_accepted), cmocka_unit_test(test_many),
                                       cmocka_unit_test(test_connected), cmocka_unit_test(test_errors)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
