/* Plain connections over sockets of this test's own, with its own clock: what is received ahead and sent together must
 * look to a program as if nothing were. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "sockets.h"

static struct conns all;

static int set_up(void **state) {
    (void)state;
    memset(&net, 0, sizeof net);
    net_init(&all);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    assert_null(all.unsent);
    assert_int_equal(all.unsent_size, 0);
    assert_int_equal(all.held, 0);
    free(all.spare);
    return 0;
}

static struct wasi_file *made(size_t i) {
    struct wasi_file *f = plain_conn_new(&all, &net_socket(i)->file);
    assert_non_null(f);
    return f;
}

static void gone(struct wasi_file *f, size_t i) {
    wasi_file_unref(f);
    conns_flush(&all, 1000);
    net_free(&net.socks[i]);
}

static void says(size_t i, const char *text) {
    memcpy(net.socks[i].in + net.socks[i].in_size, text, strlen(text));
    net.socks[i].in_size += strlen(text);
}

/* What has arrived at the peer, and goes. */
static void heard(size_t i, const char *text) {
    assert_int_equal(net.socks[i].out_size, strlen(text));
    assert_memory_equal(net.socks[i].out, text, strlen(text));
    net.socks[i].out_size = 0;
}

static wasi_errno reads(struct wasi_file *f, char *to, size_t size) {
    struct wasi_iov v = {to, size - 1};
    size_t done;
    wasi_errno e = f->ops->read(f, &v, 1, WASI_FDFLAG_NONBLOCK, &done);
    to[done] = 0;
    return e;
}

static size_t writes(struct wasi_file *f, const char *text, wasi_errno expected) {
    size_t n = strlen(text), done;
    struct wasi_iov v[2] = {{(void *)(uintptr_t)text, n / 2}, {(char *)(uintptr_t)text + n / 2, n - n / 2}};
    assert_int_equal(f->ops->write(f, v, 2, WASI_FDFLAG_NONBLOCK, &done), expected);
    return done;
}

static bool waits(struct wasi_file *f, uint8_t interest) {
    struct wasi_poll item = {.interest = interest};
    assert_int_equal(f->ops->poll(f, &item), WASI_SUCCESS);
    if (!item.ready) assert_int_equal(conns_poll(&all, &item, 1, 0), WASI_SUCCESS);
    return item.ready;
}

/* Four connections at once: one call to wait and receive, one to send. */
static void test_together(void **state) {
    enum { N = 4 };
    struct wasi_file *files[N];
    bool ready[N];
    char buf[32];
    (void)state;
    for (size_t i = 0; i < N; i++)
        files[i] = made(i);
    for (int round = 0; round < 3; round++) {
        net.polls = net.batches = net.sends = net.recvs = net.receives = 0;
        for (size_t i = 0; i < N; i++)
            says(i, "question");
        wait_all(&all, files, N, ready, 0);
        for (size_t i = 0; i < N; i++) {
            assert_true(ready[i]);
            assert_int_equal(reads(files[i], buf, sizeof buf), WASI_SUCCESS);
            assert_string_equal(buf, "question");
            assert_int_equal(reads(files[i], buf, sizeof buf), WASI_EAGAIN); /* known without asking */
            assert_int_equal(writes(files[i], "ans", WASI_SUCCESS), 3);
            assert_int_equal(writes(files[i], "wer", WASI_SUCCESS), 3);
        }
        assert_int_equal(net.polls + net.receives + net.recvs + net.batches + net.sends, 1 + N);
        wait_all(&all, files, N, ready, 0);
        assert_int_equal(net.batches, 1);
        assert_int_equal(net.sends + net.recvs, 0);
        for (size_t i = 0; i < N; i++)
            heard(i, "answer");
    }
    for (size_t i = 0; i < N; i++)
        gone(files[i], i);
}

/* Nothing waits where nobody will come for it soon. */
static void test_at_once(void **state) {
    struct wasi_file *files[2] = {made(0), made(1)};
    bool ready[2];
    char buf[32];
    (void)state;
    assert_int_equal(writes(files[0], "first", WASI_SUCCESS), 5); /* nothing was ready yet */
    heard(0, "first");
    says(0, "x");
    wait_all(&all, files, 2, ready, 0);
    assert_true(ready[0] && !ready[1]);
    assert_int_equal(writes(files[0], "alone", WASI_SUCCESS), 5);
    heard(0, "alone");
    assert_int_equal(reads(files[0], buf, sizeof buf), WASI_SUCCESS);

    says(0, "x"), says(1, "x");
    wait_all(&all, files, 2, ready, 0);
    assert_int_equal(writes(files[0], "held", WASI_SUCCESS), 4);
    assert_int_equal(net.socks[0].out_size, 0);
    net.now += 1000000; /* it computes for long */
    assert_int_equal(writes(files[1], "late", WASI_SUCCESS), 4);
    heard(0, "held");
    heard(1, "late");

    size_t done; /* blocking, large */
    struct wasi_iov v = {"block", 5}, large = {calloc(1, 100000), 100000};
    wait_all(&all, files, 2, ready, 0);
    assert_int_equal(writes(files[0], "behind ", WASI_SUCCESS), 7);
    assert_int_equal(files[0]->ops->write(files[0], &v, 1, 0, &done), WASI_SUCCESS);
    heard(0, "behind block");
    net.socks[1].room = 70000;
    assert_int_equal(files[1]->ops->write(files[1], &large, 1, WASI_FDFLAG_NONBLOCK, &done), WASI_SUCCESS);
    assert_int_equal(done, 70000); /* what the socket takes, neither more nor less */
    assert_int_equal(net.socks[1].out_size, 70000);
    assert_int_equal(files[1]->ops->write(files[1], &large, 1, WASI_FDFLAG_NONBLOCK, &done), WASI_EAGAIN);
    assert_null(all.unsent);
    net.socks[1].out_size = 0;
    free(large.buf);
    for (size_t i = 0; i < 2; i++)
        gone(files[i], i);
}

/* Both ready, their questions read. */
static void a_round(struct wasi_file **files) {
    bool ready[2];
    char buf[32];
    says(0, "x"), says(1, "x");
    wait_all(&all, files, 2, ready, 0);
    assert_int_equal(reads(files[0], buf, sizeof buf), WASI_SUCCESS);
    assert_int_equal(reads(files[1], buf, sizeof buf), WASI_SUCCESS);
}

/* A socket that takes a part of what was held: EAGAIN until it has all, in order, and the end after it. */
static void test_slow_socket(void **state) {
    struct wasi_file *files[2] = {made(0), made(1)};
    struct sock *s = &net.socks[0];
    char buf[32];
    (void)state;
    a_round(files);
    s->room = 4;
    assert_int_equal(writes(files[0], "12345678", WASI_SUCCESS), 8);
    assert_false(waits(files[0], WASI_POLL_READ)); /* sends; it is nothing to read that the socket takes some */
    heard(0, "1234");
    s->room = 0;
    writes(files[0], "9", WASI_EAGAIN);
    assert_false(waits(files[0], WASI_POLL_WRITE));
    says(0, "meanwhile"); /* reading goes on */
    assert_true(waits(files[0], WASI_POLL_READ));
    assert_int_equal(reads(files[0], buf, sizeof buf), WASI_SUCCESS);
    assert_string_equal(buf, "meanwhile");
    s->room = 3;
    assert_false(waits(files[1], WASI_POLL_READ)); /* waiting for others sends, too */
    heard(0, "567");
    assert_int_equal(files[0]->ops->shutdown(files[0], WASI_SHUT_WR), WASI_SUCCESS);
    heard(0, "8");
    assert_true(s->ended);
    s->ended = false;
    gone(files[0], 0);

    /* Two items of one connection: what makes the one ready is not taken for the other. */
    files[0] = made(0);
    s->peer_ended = false;
    a_round(files);
    s->room = 2;
    assert_int_equal(writes(files[0], "abcd", WASI_SUCCESS), 4);
    conns_send_held(&all);
    heard(0, "ab");
    struct wasi_poll two[2] = {{.interest = WASI_POLL_WRITE}, {.interest = WASI_POLL_READ}};
    for (int i = 0; i < 2; i++)
        assert_int_equal(files[0]->ops->poll(files[0], &two[i]), WASI_SUCCESS);
    assert_int_equal(conns_poll(&all, two, 2, 0), WASI_SUCCESS);
    assert_true(two[0].ready && !two[1].ready);
    heard(0, "cd");
    for (size_t i = 0; i < 2; i++)
        gone(files[i], i);
}

static void test_reading(void **state) {
    struct wasi_file *f = made(0);
    struct sock *s = &net.socks[0];
    char a[4] = "", b[8] = "", buf[32];
    struct wasi_iov v[3] = {{a, 3}, {NULL, 0}, {b, 7}};
    size_t done;
    uint16_t flags;
    (void)state;
    says(0, "abcdefgh");
    struct wasi_poll item = {.interest = WASI_POLL_READ};
    assert_int_equal(f->ops->poll(f, &item), WASI_SUCCESS);
    assert_int_equal(conns_poll(&all, &item, 1, 0), WASI_SUCCESS);
    assert_int_equal(item.nbytes, 8);
    assert_int_equal(f->ops->recv(f, v, 3, WASI_RI_PEEK, 0, &done, &flags), WASI_SUCCESS);
    assert_int_equal(done, 3);
    assert_string_equal(a, "abc");
    says(0, "ij"); /* all that is asked for: what is here, and the rest from the socket */
    assert_int_equal(f->ops->recv(f, v, 3, WASI_RI_WAITALL, 0, &done, &flags), WASI_SUCCESS);
    assert_int_equal(done, 10);
    assert_string_equal(a, "abc");
    assert_string_equal(b, "defghij");

    says(0, "last");
    s->peer_ended = true;
    assert_true(waits(f, WASI_POLL_READ));
    assert_int_equal(reads(f, buf, 3), WASI_SUCCESS);
    assert_string_equal(buf, "la");
    assert_int_equal(f->ops->recv(f, v, 3, WASI_RI_WAITALL, 0, &done, &flags), WASI_SUCCESS); /* as much as there is */
    assert_int_equal(done, 2);
    for (int i = 0; i < 3; i++) {
        assert_true(waits(f, WASI_POLL_READ));
        assert_int_equal(reads(f, buf, sizeof buf), WASI_SUCCESS);
        assert_string_equal(buf, "");
    }
    assert_int_equal(writes(f, "still", WASI_SUCCESS), 5); /* half-closed */
    heard(0, "still");
    gone(f, 0);
}

static void test_ends(void **state) {
    struct wasi_file *files[2] = {made(0), made(1)};
    (void)state;
    a_round(files); /* closed with something held: sent, then closed */
    assert_int_equal(writes(files[0], "bye", WASI_SUCCESS), 3);
    assert_int_equal(writes(files[1], "bye", WASI_SUCCESS), 3);
    assert_int_equal(files[0]->ops->shutdown(files[0], WASI_SHUT_WR), WASI_SUCCESS);
    writes(files[0], "more", WASI_EPIPE);
    wasi_file_unref(files[0]);
    wasi_file_unref(files[1]);
    assert_false(net.socks[0].closed);
    assert_int_equal(all.lingering, 2);
    conns_send_held(&all);
    heard(0, "bye"), heard(1, "bye");
    assert_true(net.socks[0].ended && !net.socks[1].ended);
    assert_int_equal(all.lingering, 0);
    net_free(&net.socks[0]), net_free(&net.socks[1]);

    files[0] = made(0), files[1] = made(1); /* a peer that takes nothing any more is given up */
    a_round(files);
    net.socks[0].room = 0;
    assert_int_equal(writes(files[0], "bye", WASI_SUCCESS), 3);
    wasi_file_unref(files[0]);
    conns_flush(&all, 2 * CONN_LINGER_NS);
    assert_null(all.unsent);
    assert_true(net.now >= CONN_LINGER_NS);
    net_free(&net.socks[0]);

    files[0] = made(0); /* where everything can be sent, nothing is waited for */
    a_round(files);
    uint64_t before = net.now;
    assert_int_equal(writes(files[0], "bye", WASI_SUCCESS), 3);
    conns_flush(&all, 2 * CONN_LINGER_NS);
    heard(0, "bye");
    assert_int_equal(net.now, before);
    gone(files[0], 0);

    files[0] = made(0); /* a connection that breaks: whoever writes next is told */
    a_round(files);
    assert_int_equal(writes(files[0], "lost", WASI_SUCCESS), 4);
    net.socks[0].broken = true;
    conns_send_held(&all);
    writes(files[0], "x", WASI_EPIPE);
    assert_true(waits(files[0], WASI_POLL_WRITE));
    assert_true(waits(files[0], WASI_POLL_READ));
    char buf[8];
    struct wasi_iov v = {buf, sizeof buf};
    size_t done;
    assert_int_equal(files[0]->ops->read(files[0], &v, 1, WASI_FDFLAG_NONBLOCK, &done), WASI_ECONNRESET);
    gone(files[0], 0);
    gone(files[1], 1);
}

/* A read that waits, while another connection's bytes are not gone: they go meanwhile. */
static void test_blocking(void **state) {
    struct wasi_file *files[2] = {made(0), made(1)};
    char buf[8];
    struct wasi_iov v = {buf, sizeof buf};
    size_t done;
    (void)state;
    a_round(files);
    net.socks[0].room = 1;
    assert_int_equal(writes(files[0], "12", WASI_SUCCESS), 2);
    conns_send_held(&all);
    heard(0, "1");
    says(1, "data");
    assert_int_equal(files[1]->ops->read(files[1], &v, 1, 0, &done), WASI_SUCCESS);
    assert_int_equal(done, 4);
    heard(0, "2");
    for (size_t i = 0; i < 2; i++)
        gone(files[i], i);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_together, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_slow_socket, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_reading, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_blocking, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
