/* Requests that the keep's own thread serves when it comes for their answers (server_direct): which, and that none is
 * lost, served twice or mixed up between it and the thread of server_loop. */
#define _GNU_SOURCE
#include "loader/serve.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

static struct {
    struct config config;
    struct server *server;
    struct gate_block *block;
    struct gate_host gate;
    int in[2], out[2], bells[2]; /* the program's stdin and stdout; the doorbell */
    uint32_t asked;
    pthread_t loop;
    bool reported;
} t;

static int setup(void **state) {
    (void)state;
    char error[512];
    memset(&t, 0, sizeof t);
    if (!config_init(&t.config) || pipe(t.in) != 0 || pipe(t.out) != 0) return -1;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, t.bells) != 0) return -1;
    int stdio[3] = {t.in[0], t.out[1], -1};
    t.server = server_new(&t.config, stdio, false, error, sizeof error);
    t.block = aligned_alloc(GATE_HEAD_SIZE, GATE_BLOCK_SIZE);
    memset(t.block, 0, GATE_BLOCK_SIZE);
    gate_host_init(&t.gate, t.block, t.bells[0], 50000);
    t.gate.rings = eventfd(0, EFD_CLOEXEC);
    t.gate.may_direct = true;
    return t.server ? 0 : -1;
}

static void *loop(void *arg) {
    (void)arg;
    t.reported = server_loop(t.server, &t.gate);
    return NULL;
}

static int teardown(void **state) {
    (void)state;
    server_delete(t.server);
    config_free(&t.config);
    int fds[] = {t.in[0], t.in[1], t.out[0], t.out[1], t.bells[0], t.bells[1], t.gate.rings};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        close(fds[i]);
    free(t.block);
    return 0;
}

static void put(struct gate_request q) {
    assert_null(gate_request_check(&q));
    t.block->request = q;
    atomic_store(&t.block->asked, ++t.asked);
}

static bool answered(void) {
    return atomic_load(&t.block->answered) == t.asked;
}

static struct gate_reply answer(void) {
    struct gate_reply r = t.block->reply;
    assert_null(gate_reply_check(&t.block->request, &r));
    return r;
}

/* As gate_call waits, with server_direct in the place of a virtual machine's exit. */
static struct gate_reply call(struct gate_request q, uint64_t *direct) {
    const uint64_t one = 1;
    put(q);
    if (!atomic_load(&t.block->direct) && atomic_exchange(&t.block->host_sleeps, 0) != 0)
        assert_int_equal(write(t.gate.rings, &one, sizeof one), sizeof one);
    for (int i = 0; i < 200 && !answered(); i++)
        __builtin_ia32_pause();
    while (!answered()) {
        atomic_store(&t.block->keep_sleeps, 1);
        if (answered()) break;
        if (server_direct(t.server)) {
            assert_true(answered());
            ++*direct;
            break;
        }
        uint8_t byte;
        struct pollfd p = {.fd = t.bells[1], .events = POLLIN};
        assert_int_equal(poll(&p, 1, 10000), 1); /* nothing is forgotten */
        assert_int_equal(read(t.bells[1], &byte, 1), 1);
    }
    return answer();
}

static struct gate_request write_request(const char *text) {
    memcpy(t.block->data, text, strlen(text));
    return (struct gate_request){.op = GATE_WRITE, .handle = 1, .len = (uint32_t)strlen(text), .args = {GATE_FOREVER}};
}

static void got(const char *text) {
    char found[64];
    size_t n = strlen(text);
    assert_int_equal(read(t.out[0], found, n), n);
    assert_memory_equal(found, text, n);
}

static const struct gate_request exit_request = {.op = GATE_EXIT, .args = {GATE_EXIT_PROGRAM, 7}};

/* Without a thread in server_loop: what is done here and now, and what is left. */
static void test_which(void **state) {
    (void)state;
    struct gate_request read_ = {.op = GATE_READ, .room = 16, .args = {GATE_FOREVER}};
    assert_false(server_direct(t.server)); /* nobody serves so far */
    t.server->gate = &t.gate;
    assert_false(server_direct(t.server)); /* nothing is asked */
    put(write_request("now"));
    assert_true(server_direct(t.server));
    assert_true(answered());
    assert_int_equal(answer().values[0], 3);
    got("now");
    assert_false(server_direct(t.server)); /* once */

    put(read_); /* would have to wait */
    assert_false(server_direct(t.server));
    assert_false(answered());
    assert_int_equal(write(t.in[1], "later", 5), 5);
    assert_true(server_direct(t.server));
    assert_int_equal(answer().len, 5);
    read_.args[0] = 0;
    put(read_); /* would not */
    assert_true(server_direct(t.server));
    assert_int_equal(answer().error, GATE_EAGAIN);
    assert_int_equal(t.server->calls, 3);

    t.block->request = (struct gate_request){.op = GATE_WRITE, .handle = 1, .len = GATE_DATA_SIZE + 1};
    atomic_store(&t.block->asked, ++t.asked);
    assert_true(server_direct(t.server)); /* refused like everywhere */
    assert_int_equal(t.block->reply.error, GATE_EINVAL);

    memcpy(t.block->data, "x", 1); /* paths, the end, reports: not here */
    put((struct gate_request){.op = GATE_UNLINK, .handle = 3, .len = 1});
    assert_false(server_direct(t.server));
    put(exit_request);
    assert_false(server_direct(t.server));
    t.server->lock = true; /* nor anything before the locks are closed */
    put(write_request("no"));
    assert_false(server_direct(t.server));
    t.server->lock = false;
    t.server->gate = NULL;
}

/* Both threads, and a keep that asks quickly, slowly, and for what has to wait. */
static void test_both(void **state) {
    (void)state;
    uint64_t direct = 0, n = 20000;
    pthread_create(&t.loop, NULL, loop, NULL);
    for (uint64_t i = 0; i < n; i++) {
        char text[32];
        snprintf(text, sizeof text, "%llu;", (unsigned long long)i);
        assert_int_equal(call(write_request(text), &direct).values[0], strlen(text));
        got(text);
        if (i % 3 == 0) assert_int_equal(write(t.in[1], text, strlen(text)), strlen(text));
        if (i % 3 == 0) {
            struct gate_request q = {.op = GATE_READ, .room = 16, .args = {GATE_FOREVER}};
            assert_int_equal(call(q, &direct).len, strlen(text));
            assert_memory_equal(t.block->data, text, strlen(text));
        }
        if (i % 500 == 0) {
            struct gate_request q = {.op = GATE_READ, .room = 16, .args = {1000000}};
            assert_int_equal(call(q, &direct).error, GATE_EAGAIN);
        }
        if (i % 100 == 0) usleep(400); /* server_loop goes to sleep */
    }
    assert_true(direct > 0);
    (void)call(exit_request, &direct);
    pthread_join(t.loop, NULL);
    assert_true(t.reported);
    assert_int_equal(t.server->status, 7);
    print_message("%llu of %llu requests were served directly\n", (unsigned long long)direct,
                  (unsigned long long)t.server->calls);
}

/* The reader of its output has gone: the keep ends, whoever finds it. */
static void test_broken_pipe(void **state) {
    (void)state;
    uint64_t direct = 0;
    pthread_create(&t.loop, NULL, loop, NULL);
    (void)call(write_request("x"), &direct);
    usleep(2000);
    close(t.out[0]);
    t.out[0] = -1;
    assert_int_equal(call(write_request("y"), &direct).error, GATE_EPIPE);
    pthread_join(t.loop, NULL);
    assert_false(t.reported);
    assert_true(t.server->broken_pipe);
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_which, setup, teardown),
        cmocka_unit_test_setup_teardown(test_both, setup, teardown),
        cmocka_unit_test_setup_teardown(test_broken_pipe, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
