/* TLS connections over sockets of this test's own, with its own clock: what a network does at its worst. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sockets.h"
#include "warden/tls_conn.h"

static struct {
    struct conns tls;
    SSL_CTX *server, *client;
} t;

/* ---- peers ---- */

/* Lets the peer of a socket take what has come and send what it has to say. */
static void move(struct sock *s) {
    BIO_write(SSL_get_rbio(s->ssl), s->out, (int)s->out_size);
    s->out_size = 0;
    if (!SSL_is_init_finished(s->ssl)) (void)SSL_do_handshake(s->ssl);
    ERR_clear_error();
    for (int n; (n = BIO_read(SSL_get_wbio(s->ssl), s->in + s->in_size, (int)(BUFFER - s->in_size))) > 0;)
        s->in_size += (size_t)n;
}

static size_t peer_reads(struct sock *s, uint8_t *to, size_t size) {
    size_t total = 0, done;
    move(s);
    while (total < size && SSL_read_ex(s->ssl, to + total, size - total, &done) == 1)
        total += done;
    ERR_clear_error();
    return total;
}

static void peer_writes(struct sock *s, const void *bytes, size_t n) {
    size_t done;
    assert_int_equal(SSL_write_ex(s->ssl, bytes, n, &done), 1);
    move(s);
}

static struct wasi_file *accepted(size_t i) {
    struct sock *s = net_socket(i);
    s->ssl = SSL_new(t.client);
    SSL_set_connect_state(s->ssl);
    SSL_set_bio(s->ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    BIO_set_mem_eof_return(SSL_get_rbio(s->ssl), -1);
    struct wasi_file *f = tls_server_connection_new(&t.tls, &s->file, t.server);
    assert_non_null(f);
    return f;
}

static void gone(size_t i) {
    SSL_free(net.socks[i].ssl);
    net_free(&net.socks[i]);
}

static void handshakes(struct wasi_file **files, size_t n) {
    bool ready[SOCKETS];
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < n; i++)
            move(&net.socks[i]);
        wait_all(&t.tls, files, n, ready, 0);
    }
    for (size_t i = 0; i < n; i++) {
        move(&net.socks[i]);
        assert_true(SSL_is_init_finished(net.socks[i].ssl));
        assert_false(ready[i]); /* the end of a handshake is nothing to read */
    }
}

static wasi_errno reads(struct wasi_file *f, void *buf, size_t size, size_t *done) {
    struct wasi_iov v = {buf, size};
    return f->ops->read(f, &v, 1, WASI_FDFLAG_NONBLOCK, done);
}

static wasi_errno writes(struct wasi_file *f, const void *bytes, size_t size, size_t *done) {
    struct wasi_iov v[3] = {{(void *)(uintptr_t)bytes, size / 3},
                            {(uint8_t *)(uintptr_t)bytes + size / 3, 1},
                            {(uint8_t *)(uintptr_t)bytes + size / 3 + 1, size - size / 3 - 1}};
    return f->ops->write(f, v, 3, WASI_FDFLAG_NONBLOCK, done);
}

static int set_up(void **state) {
    (void)state;
    net_init(&t.tls);
    t.server = tls_context_new();
    t.client = SSL_CTX_new(TLS_client_method());
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    X509_set_version(x, X509_VERSION_3);
    X509_gmtime_adj(X509_getm_notBefore(x), -100);
    X509_gmtime_adj(X509_getm_notAfter(x), 1000);
    X509_set_pubkey(x, key);
    X509_sign(x, key, EVP_sha256());
    int ok = SSL_CTX_use_cert_and_key(t.server, x, key, NULL, 1);
    X509_free(x);
    EVP_PKEY_free(key);
    return ok == 1 ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    SSL_CTX_free(t.server);
    SSL_CTX_free(t.client);
    free(t.tls.spare);
    return 0;
}

/* ---- tests ---- */

static void test_echo(void **state) {
    (void)state;
    struct wasi_file *f = accepted(0);
    char buf[64];
    size_t done;
    bool ready;
    handshakes(&f, 1);
    assert_int_equal(reads(f, buf, sizeof buf, &done), WASI_EAGAIN);
    peer_writes(&net.socks[0], "hello", 5);
    wait_all(&t.tls, &f, 1, &ready, 0);
    assert_true(ready);
    assert_int_equal(reads(f, buf, 3, &done), WASI_SUCCESS);
    assert_int_equal(done, 3);
    wait_all(&t.tls, &f, 1, &ready, 0); /* the rest is here: no wait */
    assert_true(ready);
    assert_int_equal(reads(f, buf + 3, 9, &done), WASI_SUCCESS);
    assert_int_equal(done, 2);
    assert_memory_equal(buf, "hello", 5);
    assert_int_equal(writes(f, "world", 5, &done), WASI_SUCCESS);
    assert_int_equal(done, 5);
    assert_int_equal(peer_reads(&net.socks[0], (uint8_t *)buf, sizeof buf), 5);
    assert_memory_equal(buf, "world", 5);

    /* Half a record is nothing to read; with the other half, it is. */
    struct sock *s = &net.socks[0];
    peer_writes(s, "in halves", 9);
    size_t half = s->in_size / 2, rest = s->in_size - half;
    uint8_t kept[64];
    memcpy(kept, s->in + half, rest);
    s->in_size = half;
    wait_all(&t.tls, &f, 1, &ready, 0);
    assert_false(ready);
    memcpy(s->in, kept, rest);
    s->in_size = rest;
    wait_all(&t.tls, &f, 1, &ready, 0);
    assert_true(ready);
    assert_int_equal(reads(f, buf, sizeof buf, &done), WASI_SUCCESS);
    assert_int_equal(done, 9);

    /* close_notify: an end, also after a look at it; and ours, when the file goes. */
    SSL_shutdown(s->ssl);
    move(s);
    wait_all(&t.tls, &f, 1, &ready, 0);
    assert_true(ready);
    assert_int_equal(reads(f, buf, sizeof buf, &done), WASI_SUCCESS);
    assert_int_equal(done, 0);
    wasi_file_unref(f);
    move(s);
    assert_int_equal(SSL_read_ex(s->ssl, buf, 1, &done), 0);
    assert_int_equal(SSL_get_error(s->ssl, 0), SSL_ERROR_ZERO_RETURN);
    gone(0);
}

/* A socket that takes little, and at times nothing: EAGAIN, never more than one buffer, and every byte arrives. */
static void test_slow_socket(void **state) {
    (void)state;
    enum { MUCH = 300000 };
    struct wasi_file *f = accepted(0);
    struct sock *s = &net.socks[0];
    uint8_t *much = malloc(MUCH), *got = malloc(MUCH);
    size_t at = 0, read = 0, refused = 0, done;
    for (size_t i = 0; i < MUCH; i++)
        much[i] = (uint8_t)(i * 7 >> 3);
    handshakes(&f, 1);
    s->room = 5000;
    while (read < MUCH) {
        if (at < MUCH) {
            wasi_errno e = writes(f, much + at, MUCH - at, &done);
            assert_true(e == WASI_SUCCESS || e == WASI_EAGAIN);
            assert_true(done <= (net.with_stage ? sizeof net.area : (size_t)TLS_WRITE));
            refused += e == WASI_EAGAIN;
            at += done;
        }
        struct wasi_poll item = {.interest = WASI_POLL_READ}; /* waiting for something else sends, too */
        assert_int_equal(f->ops->poll(f, &item), WASI_SUCCESS);
        assert_int_equal(conns_poll(&t.tls, &item, 1, 0), WASI_SUCCESS);
        read += peer_reads(s, got + read, MUCH - read);
    }
    assert_true(refused > 10);
    assert_int_equal(net.stagings > 0, net.with_stage);
    assert_int_equal(t.tls.unsent_size, 0);
    assert_memory_equal(much, got, MUCH);
    wasi_file_unref(f);
    gone(0);
    free(much);
    free(got);
}

/* Several ready at once: received with the poll, answered in one call; by a slow program at once. */
static void test_batch(void **state) {
    (void)state;
    enum { N = 6 };
    struct wasi_file *f[N];
    bool ready[N];
    char buf[64];
    size_t done;
    for (size_t i = 0; i < N; i++)
        f[i] = accepted(i);
    net.batches = net.batched = 0;
    handshakes(f, N);
    assert_true(net.batches > 0 && net.batched >= N && net.batches < N); /* their flights went together */
    for (size_t i = 0; i < N; i++)
        peer_writes(&net.socks[i], &i, sizeof i);
    net.batches = net.batched = net.receives = 0;
    wait_all(&t.tls, f, N, ready, 0);
    assert_int_equal(net.receives, N);
    for (size_t i = 0; i < N; i++) {
        size_t number;
        assert_true(ready[i]);
        assert_int_equal(reads(f[i], &number, sizeof number, &done), WASI_SUCCESS);
        assert_int_equal(number, i);
        assert_int_equal(writes(f[i], "head", 4, &done), WASI_SUCCESS);
        assert_int_equal(writes(f[i], "body", 4, &done), WASI_SUCCESS); /* behind what is held */
        assert_int_equal(net.socks[i].out_size, 0);
    }
    wait_all(&t.tls, f, N, ready, 0);
    assert_int_equal(net.batches, 1);
    assert_int_equal(net.batched, N);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(peer_reads(&net.socks[i], (uint8_t *)buf, sizeof buf), 8);
        assert_memory_equal(buf, "headbody", 8);
        peer_writes(&net.socks[i], "x", 1);
    }
    wait_all(&t.tls, f, N, ready, 0);
    assert_int_equal(writes(f[0], "a", 1, &done), WASI_SUCCESS);
    assert_int_equal(net.socks[0].out_size, 0);
    net.now += 2 * CONN_BATCH_NS;
    assert_int_equal(writes(f[1], "b", 1, &done), WASI_SUCCESS);
    assert_true(net.socks[0].out_size > 0 && net.socks[1].out_size > 0);
    assert_int_equal(writes(f[2], "c", 1, &done), WASI_SUCCESS);
    conns_send_held(&t.tls); /* as before a wait for something else */
    assert_true(net.socks[2].out_size > 0);

    /* Closed while held: close_notify goes along, and the file's memory with it. A socket that fails fails alone. */
    wait_all(&t.tls, f, N, ready, 0);
    assert_int_equal(writes(f[3], "d", 1, &done), WASI_SUCCESS);
    assert_int_equal(writes(f[4], "e", 1, &done), WASI_SUCCESS);
    net.socks[4].broken = true;
    wasi_file_unref(f[3]);
    conns_send_held(&t.tls);
    assert_true(net.socks[3].closed);
    assert_int_equal(peer_reads(&net.socks[3], (uint8_t *)buf, sizeof buf), 1);
    assert_int_equal(writes(f[4], "e", 1, &done), WASI_EPIPE);
    for (size_t i = 0; i < N; i++)
        if (i != 3) wasi_file_unref(f[i]);
    conns_flush(&t.tls, 0);
    conns_send_held(&t.tls);
    for (size_t i = 0; i < N; i++)
        gone(i);
}

/* What was written is sent after closing; not for ever. */
static void test_lingering(void **state) {
    (void)state;
    static uint8_t bytes[50000], got[60000];
    struct wasi_file *f[2] = {accepted(0), accepted(1)};
    size_t done, read = 0;
    handshakes(f, 2);
    net.socks[0].room = net.socks[1].room = 1000;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(writes(f[i], bytes, sizeof bytes, &done), WASI_SUCCESS);
        assert_int_equal(done, sizeof bytes);
        wasi_file_unref(f[i]);
        assert_false(net.socks[i].closed);
    }
    while (!net.socks[0].closed) {
        read += peer_reads(&net.socks[0], got + read, sizeof got - read);
        assert_int_equal(conns_poll(&t.tls, NULL, 0, 0), WASI_SUCCESS);
    }
    read += peer_reads(&net.socks[0], got + read, sizeof got - read);
    assert_int_equal(read, sizeof bytes);
    assert_false(net.socks[1].closed); /* its peer takes nothing */
    net.now += CONN_LINGER_NS;
    assert_int_equal(conns_poll(&t.tls, NULL, 0, 0), WASI_SUCCESS);
    assert_true(net.socks[1].closed);
    assert_int_equal(t.tls.lingering, 0);
    gone(0);
    gone(1);
}

static void test_ends(void **state) {
    (void)state;
    char buf[8];
    size_t done;
    bool ready;
    /* Cut in the middle: an error, after what came before. */
    struct wasi_file *f = accepted(0);
    handshakes(&f, 1);
    peer_writes(&net.socks[0], "abc", 3);
    net.socks[0].peer_ended = true;
    wait_all(&t.tls, &f, 1, &ready, 0);
    assert_int_equal(reads(f, buf, 8, &done), WASI_SUCCESS);
    assert_int_equal(done, 3);
    wait_all(&t.tls, &f, 1, &ready, 0);
    assert_true(ready);
    assert_int_equal(reads(f, buf, 8, &done), WASI_ECONNRESET);
    assert_int_equal(reads(f, buf, 8, &done), WASI_ECONNRESET); /* for good */
    assert_int_equal(writes(f, "x", 1, &done), WASI_ECONNRESET);
    assert_non_null(strstr(net.log, "the connection was cut"));
    wasi_file_unref(f);
    gone(0);

    /* Changed on the way. */
    f = accepted(0);
    handshakes(&f, 1);
    peer_writes(&net.socks[0], "abc", 3);
    net.socks[0].in[net.socks[0].in_size - 1] ^= 1;
    assert_int_equal(reads(f, buf, 8, &done), WASI_EPROTO);
    wasi_file_unref(f);
    gone(0);

    /* No greeting within its time; something that is none. */
    struct wasi_file *two[2] = {accepted(0), accepted(1)};
    bool are[2];
    memcpy(net.socks[1].in, "GET / HTTP/1.1\r\n\r\n", net.socks[1].in_size = 18);
    wait_all(&t.tls, two, 2, are, WASI_FOREVER);
    assert_true(!are[0] && are[1]);
    assert_int_equal(reads(two[1], buf, 8, &done), WASI_ECONNABORTED);
    wait_all(&t.tls, two, 1, are, WASI_FOREVER); /* the clock moves to the deadline */
    assert_true(are[0]);
    assert_int_equal(reads(two[0], buf, 8, &done), WASI_ECONNABORTED);
    assert_non_null(strstr(net.log, "in time"));
    for (int i = 0; i < 2; i++) {
        wasi_file_unref(two[i]);
        gone((size_t)i);
    }

    /* Half-closed: writing ends when all is sent, reading goes on. */
    static uint8_t bytes[20000];
    f = accepted(0);
    handshakes(&f, 1);
    net.socks[0].room = 1000;
    assert_int_equal(writes(f, bytes, sizeof bytes, &done), WASI_SUCCESS);
    assert_int_equal(f->ops->shutdown(f, WASI_SHUT_WR), WASI_SUCCESS);
    assert_false(net.socks[0].ended);
    assert_int_equal(writes(f, "x", 1, &done), WASI_EPIPE);
    size_t got = 0;
    while (!net.socks[0].ended) {
        got += peer_reads(&net.socks[0], bytes, sizeof bytes);
        assert_int_equal(conns_poll(&t.tls, NULL, 0, 0), WASI_SUCCESS);
    }
    got += peer_reads(&net.socks[0], bytes, sizeof bytes);
    assert_int_equal(got, sizeof bytes);
    peer_writes(&net.socks[0], "still", 5);
    assert_int_equal(reads(f, buf, 8, &done), WASI_SUCCESS);
    assert_int_equal(done, 5);
    wasi_file_unref(f);
    gone(0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_echo), cmocka_unit_test(test_slow_socket),
                                       cmocka_unit_test(test_batch), cmocka_unit_test(test_lingering),
                                       cmocka_unit_test(test_ends)};
    int failed = cmocka_run_group_tests_name("plain", tests, set_up, tear_down);
    net.with_stage = true; /* large writes by way of the gate's data area */
    return failed + cmocka_run_group_tests_name("staged", tests, set_up, tear_down);
}
