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
#include "warden/tls_conn.h"

/* ---- sockets in memory ---- */

enum { SOCKETS = 8, BUFFER = 1 << 20 };

struct sock { /* the warden's end; the peer's end is `ssl`, an OpenSSL client */
    struct wasi_file file;
    uint8_t *in, *out;              /* what the peer has sent, and what it has not fetched */
    size_t in_size, out_size, room; /* room: how much `out` takes at all */
    bool peer_ended, ended, broken, closed;
    SSL *ssl;
};

static struct {
    struct tls tls;
    SSL_CTX *server, *client;
    struct sock socks[SOCKETS];
    uint64_t now;
    unsigned polls, batches, batched, receives, stagings;
    bool with_stage, staging;
    uint8_t area[GATE_DATA_SIZE]; /* the gate's */
    char log[400];
} t;

static struct sock *sock_of(struct wasi_file *f) {
    return (struct sock *)f;
}

static wasi_errno sock_recv(struct wasi_file *f, const struct wasi_iov *iov, uint32_t n, uint16_t riflags,
                            uint16_t fdflags, size_t *done, uint16_t *roflags) {
    struct sock *s = sock_of(f);
    assert_true(n == 1 && riflags == 0);
    *roflags = 0;
    *done = s->in_size < iov->len ? s->in_size : iov->len;
    if (s->broken) return WASI_ECONNRESET;
    if (*done == 0 && !s->peer_ended) {
        assert_true(fdflags & WASI_FDFLAG_NONBLOCK); /* this network has nobody who could go on meanwhile */
        return WASI_EAGAIN;
    }
    memcpy(iov->buf, s->in, *done);
    memmove(s->in, s->in + *done, s->in_size - *done);
    s->in_size -= *done;
    return WASI_SUCCESS;
}

static uint32_t put(struct sock *s, const uint8_t *bytes, size_t n) {
    size_t fits = s->out_size < s->room ? s->room - s->out_size : 0;
    if (n > fits) n = fits;
    memcpy(s->out + s->out_size, bytes, n);
    s->out_size += n;
    return (uint32_t)n;
}

static wasi_errno sock_send(struct wasi_file *f, const struct wasi_iov *iov, uint32_t n, uint16_t fdflags,
                            size_t *done) {
    struct sock *s = sock_of(f);
    (void)fdflags;
    assert_false(t.staging);
    assert_true(n == 1 && iov->len > 0 && !s->ended && !s->closed);
    *done = 0;
    if (s->broken) return WASI_EPIPE;
    *done = put(s, iov->buf, iov->len);
    return *done ? WASI_SUCCESS : WASI_EAGAIN;
}

static wasi_errno sock_poll(struct wasi_file *f, struct wasi_poll *out) {
    out->token = (uint64_t)(sock_of(f) - t.socks) + 1;
    return WASI_SUCCESS;
}

static wasi_errno sock_shutdown(struct wasi_file *f, uint8_t how) {
    if (how & WASI_SHUT_WR) sock_of(f)->ended = true;
    return WASI_SUCCESS;
}

static void sock_close(struct wasi_file *f) {
    assert_false(sock_of(f)->closed);
    sock_of(f)->closed = true;
}

static const struct wasi_file_ops sock_ops = {
    .close = sock_close, .recv = sock_recv, .send = sock_send, .poll = sock_poll, .shutdown = sock_shutdown};

/* ---- what the connections ask of the warden ---- */

static wasi_errno env_poll(void *ctx, struct wasi_poll *items, size_t n, uint64_t timeout,
                           const struct gate_receiver *receiver) {
    size_t ready = 0;
    (void)ctx;
    assert_false(t.staging);
    t.polls++;
    for (size_t i = 0; i < n; i++) {
        struct sock *s = &t.socks[items[i].token - 1];
        bool reads = items[i].interest & WASI_POLL_READ && (s->in_size > 0 || s->peer_ended || s->broken);
        items[i].ready = reads || (items[i].interest & WASI_POLL_WRITE && (s->out_size < s->room || s->broken));
        ready += items[i].ready;
        if (!reads || s->broken || !receiver || !receiver->wanted(receiver->ctx, i)) continue;
        size_t size = s->in_size < receiver->most ? s->in_size : receiver->most;
        t.receives++;
        receiver->take(receiver->ctx, i, s->in, size);
        memmove(s->in, s->in + size, s->in_size - size);
        s->in_size -= size;
    }
    if (ready == 0) {
        assert_true(timeout != WASI_FOREVER); /* it would hang */
        t.now += timeout;
    }
    return WASI_SUCCESS;
}

static wasi_errno env_send_many(void *ctx, struct gate_outgoing *sends, size_t n) {
    (void)ctx;
    assert_false(t.staging);
    t.batches++;
    t.batched += (unsigned)n;
    for (size_t i = 0; i < n; i++) {
        struct sock *s = sock_of(sends[i].socket);
        assert_false(s->closed || s->ended);
        sends[i].taken = s->broken ? 0 : put(s, sends[i].bytes, sends[i].len);
        sends[i].error = s->broken ? WASI_EPIPE : sends[i].taken ? (uint32_t)WASI_SUCCESS : (uint32_t)WASI_EAGAIN;
    }
    return WASI_SUCCESS;
}

static uint8_t *env_stage(void *ctx, size_t *size) {
    (void)ctx;
    assert_false(t.staging);
    t.staging = true;
    *size = sizeof t.area;
    return t.area;
}

static wasi_errno env_send_staged(void *ctx, struct wasi_file *socket, uint32_t len, uint32_t *taken) {
    struct sock *s = sock_of(socket);
    (void)ctx;
    assert_true(t.staging && len > 0 && len <= sizeof t.area && !s->ended && !s->closed);
    t.staging = false;
    t.stagings++;
    *taken = s->broken ? 0 : put(s, t.area, len);
    return s->broken ? (wasi_errno)WASI_EPIPE : *taken ? (wasi_errno)WASI_SUCCESS : (wasi_errno)WASI_EAGAIN;
}

static uint64_t env_now(void *ctx) {
    (void)ctx;
    return t.now;
}

static void env_log(void *ctx, const char *line) {
    (void)ctx;
    snprintf(t.log, sizeof t.log, "%s", line);
}

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
    struct sock *s = &t.socks[i];
    *s = (struct sock){.in = malloc(BUFFER), .out = malloc(BUFFER), .room = BUFFER, .ssl = SSL_new(t.client)};
    wasi_file_init(&s->file, &sock_ops, WASI_FILETYPE_SOCKET_STREAM);
    SSL_set_connect_state(s->ssl);
    SSL_set_bio(s->ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    BIO_set_mem_eof_return(SSL_get_rbio(s->ssl), -1);
    struct wasi_file *f = tls_server_connection_new(&t.tls, &s->file, t.server);
    assert_non_null(f);
    return f;
}

static void gone(size_t i) {
    struct sock *s = &t.socks[i];
    assert_true(s->closed);
    SSL_free(s->ssl);
    free(s->in);
    free(s->out);
}

/* One wait of a program's, for reading; `ready` gets which are. */
static void wait_all(struct wasi_file **files, size_t n, bool *ready, uint64_t timeout) {
    struct wasi_poll items[SOCKETS];
    size_t waiting[SOCKETS], k = 0;
    bool any = false;
    for (size_t i = 0; i < n; i++) {
        items[k] = (struct wasi_poll){.interest = WASI_POLL_READ};
        assert_int_equal(files[i]->ops->poll(files[i], &items[k]), WASI_SUCCESS);
        ready[i] = items[k].ready;
        any |= ready[i];
        if (!ready[i]) waiting[k++] = i;
    }
    assert_int_equal(tls_poll(&t.tls, items, k, any ? 0 : timeout), WASI_SUCCESS);
    for (size_t j = 0; j < k; j++)
        ready[waiting[j]] = items[j].ready;
}

static void handshakes(struct wasi_file **files, size_t n) {
    bool ready[SOCKETS];
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < n; i++)
            move(&t.socks[i]);
        wait_all(files, n, ready, 0);
    }
    for (size_t i = 0; i < n; i++) {
        move(&t.socks[i]);
        assert_true(SSL_is_init_finished(t.socks[i].ssl));
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
    const struct tls_env env = {.poll = env_poll,
                                .send_many = env_send_many,
                                .stage = t.with_stage ? env_stage : NULL,
                                .send_staged = env_send_staged,
                                .now = env_now,
                                .log = env_log};
    t.now = 1000;
    tls_init(&t.tls, &env);
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
    peer_writes(&t.socks[0], "hello", 5);
    wait_all(&f, 1, &ready, 0);
    assert_true(ready);
    assert_int_equal(reads(f, buf, 3, &done), WASI_SUCCESS);
    assert_int_equal(done, 3);
    wait_all(&f, 1, &ready, 0); /* the rest is here: no wait */
    assert_true(ready);
    assert_int_equal(reads(f, buf + 3, 9, &done), WASI_SUCCESS);
    assert_int_equal(done, 2);
    assert_memory_equal(buf, "hello", 5);
    assert_int_equal(writes(f, "world", 5, &done), WASI_SUCCESS);
    assert_int_equal(done, 5);
    assert_int_equal(peer_reads(&t.socks[0], (uint8_t *)buf, sizeof buf), 5);
    assert_memory_equal(buf, "world", 5);

    /* Half a record is nothing to read; with the other half, it is. */
    struct sock *s = &t.socks[0];
    peer_writes(s, "in halves", 9);
    size_t half = s->in_size / 2, rest = s->in_size - half;
    uint8_t kept[64];
    memcpy(kept, s->in + half, rest);
    s->in_size = half;
    wait_all(&f, 1, &ready, 0);
    assert_false(ready);
    memcpy(s->in, kept, rest);
    s->in_size = rest;
    wait_all(&f, 1, &ready, 0);
    assert_true(ready);
    assert_int_equal(reads(f, buf, sizeof buf, &done), WASI_SUCCESS);
    assert_int_equal(done, 9);

    /* close_notify: an end, also after a look at it; and ours, when the file goes. */
    SSL_shutdown(s->ssl);
    move(s);
    wait_all(&f, 1, &ready, 0);
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
    struct sock *s = &t.socks[0];
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
            assert_true(done <= (t.with_stage ? sizeof t.area : (size_t)TLS_WRITE));
            refused += e == WASI_EAGAIN;
            at += done;
        }
        struct wasi_poll item = {.interest = WASI_POLL_READ}; /* waiting for something else sends, too */
        assert_int_equal(f->ops->poll(f, &item), WASI_SUCCESS);
        assert_int_equal(tls_poll(&t.tls, &item, 1, 0), WASI_SUCCESS);
        read += peer_reads(s, got + read, MUCH - read);
    }
    assert_true(refused > 10);
    assert_int_equal(t.stagings > 0, t.with_stage);
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
    t.batches = t.batched = 0;
    handshakes(f, N);
    assert_true(t.batches > 0 && t.batched >= N && t.batches < N); /* their flights went together */
    for (size_t i = 0; i < N; i++)
        peer_writes(&t.socks[i], &i, sizeof i);
    t.batches = t.batched = t.receives = 0;
    wait_all(f, N, ready, 0);
    assert_int_equal(t.receives, N);
    for (size_t i = 0; i < N; i++) {
        size_t number;
        assert_true(ready[i]);
        assert_int_equal(reads(f[i], &number, sizeof number, &done), WASI_SUCCESS);
        assert_int_equal(number, i);
        assert_int_equal(writes(f[i], "head", 4, &done), WASI_SUCCESS);
        assert_int_equal(writes(f[i], "body", 4, &done), WASI_SUCCESS); /* behind what is held */
        assert_int_equal(t.socks[i].out_size, 0);
    }
    wait_all(f, N, ready, 0);
    assert_int_equal(t.batches, 1);
    assert_int_equal(t.batched, N);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(peer_reads(&t.socks[i], (uint8_t *)buf, sizeof buf), 8);
        assert_memory_equal(buf, "headbody", 8);
        peer_writes(&t.socks[i], "x", 1);
    }
    wait_all(f, N, ready, 0);
    assert_int_equal(writes(f[0], "a", 1, &done), WASI_SUCCESS);
    assert_int_equal(t.socks[0].out_size, 0);
    t.now += 2 * TLS_BATCH_NS;
    assert_int_equal(writes(f[1], "b", 1, &done), WASI_SUCCESS);
    assert_true(t.socks[0].out_size > 0 && t.socks[1].out_size > 0);
    assert_int_equal(writes(f[2], "c", 1, &done), WASI_SUCCESS);
    tls_send_held(&t.tls); /* as before a wait for something else */
    assert_true(t.socks[2].out_size > 0);

    /* Closed while held: close_notify goes along, and the file's memory with it. A socket that fails fails alone. */
    wait_all(f, N, ready, 0);
    assert_int_equal(writes(f[3], "d", 1, &done), WASI_SUCCESS);
    assert_int_equal(writes(f[4], "e", 1, &done), WASI_SUCCESS);
    t.socks[4].broken = true;
    wasi_file_unref(f[3]);
    tls_send_held(&t.tls);
    assert_true(t.socks[3].closed);
    assert_int_equal(peer_reads(&t.socks[3], (uint8_t *)buf, sizeof buf), 1);
    assert_int_equal(writes(f[4], "e", 1, &done), WASI_EPIPE);
    for (size_t i = 0; i < N; i++)
        if (i != 3) wasi_file_unref(f[i]);
    tls_flush_all(&t.tls, 0);
    tls_send_held(&t.tls);
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
    t.socks[0].room = t.socks[1].room = 1000;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(writes(f[i], bytes, sizeof bytes, &done), WASI_SUCCESS);
        assert_int_equal(done, sizeof bytes);
        wasi_file_unref(f[i]);
        assert_false(t.socks[i].closed);
    }
    while (!t.socks[0].closed) {
        read += peer_reads(&t.socks[0], got + read, sizeof got - read);
        assert_int_equal(tls_poll(&t.tls, NULL, 0, 0), WASI_SUCCESS);
    }
    read += peer_reads(&t.socks[0], got + read, sizeof got - read);
    assert_int_equal(read, sizeof bytes);
    assert_false(t.socks[1].closed); /* its peer takes nothing */
    t.now += TLS_LINGER_NS;
    assert_int_equal(tls_poll(&t.tls, NULL, 0, 0), WASI_SUCCESS);
    assert_true(t.socks[1].closed);
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
    peer_writes(&t.socks[0], "abc", 3);
    t.socks[0].peer_ended = true;
    wait_all(&f, 1, &ready, 0);
    assert_int_equal(reads(f, buf, 8, &done), WASI_SUCCESS);
    assert_int_equal(done, 3);
    wait_all(&f, 1, &ready, 0);
    assert_true(ready);
    assert_int_equal(reads(f, buf, 8, &done), WASI_ECONNRESET);
    assert_int_equal(reads(f, buf, 8, &done), WASI_ECONNRESET); /* for good */
    assert_int_equal(writes(f, "x", 1, &done), WASI_ECONNRESET);
    assert_non_null(strstr(t.log, "the connection was cut"));
    wasi_file_unref(f);
    gone(0);

    /* Changed on the way. */
    f = accepted(0);
    handshakes(&f, 1);
    peer_writes(&t.socks[0], "abc", 3);
    t.socks[0].in[t.socks[0].in_size - 1] ^= 1;
    assert_int_equal(reads(f, buf, 8, &done), WASI_EPROTO);
    wasi_file_unref(f);
    gone(0);

    /* No greeting within its time; something that is none. */
    struct wasi_file *two[2] = {accepted(0), accepted(1)};
    bool are[2];
    memcpy(t.socks[1].in, "GET / HTTP/1.1\r\n\r\n", t.socks[1].in_size = 18);
    wait_all(two, 2, are, WASI_FOREVER);
    assert_true(!are[0] && are[1]);
    assert_int_equal(reads(two[1], buf, 8, &done), WASI_ECONNABORTED);
    wait_all(two, 1, are, WASI_FOREVER); /* the clock moves to the deadline */
    assert_true(are[0]);
    assert_int_equal(reads(two[0], buf, 8, &done), WASI_ECONNABORTED);
    assert_non_null(strstr(t.log, "in time"));
    for (int i = 0; i < 2; i++) {
        wasi_file_unref(two[i]);
        gone((size_t)i);
    }

    /* Half-closed: writing ends when all is sent, reading goes on. */
    static uint8_t bytes[20000];
    f = accepted(0);
    handshakes(&f, 1);
    t.socks[0].room = 1000;
    assert_int_equal(writes(f, bytes, sizeof bytes, &done), WASI_SUCCESS);
    assert_int_equal(f->ops->shutdown(f, WASI_SHUT_WR), WASI_SUCCESS);
    assert_false(t.socks[0].ended);
    assert_int_equal(writes(f, "x", 1, &done), WASI_EPIPE);
    size_t got = 0;
    while (!t.socks[0].ended) {
        got += peer_reads(&t.socks[0], bytes, sizeof bytes);
        assert_int_equal(tls_poll(&t.tls, NULL, 0, 0), WASI_SUCCESS);
    }
    got += peer_reads(&t.socks[0], bytes, sizeof bytes);
    assert_int_equal(got, sizeof bytes);
    peer_writes(&t.socks[0], "still", 5);
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
    t.with_stage = true; /* large writes by way of the gate's data area */
    return failed + cmocka_run_group_tests_name("staged", tests, set_up, tear_down);
}
