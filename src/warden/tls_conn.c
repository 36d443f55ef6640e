#include "tls_conn.h"
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* TLS over struct conn. */
struct tls_conn {
    struct conn conn;
    SSL *ssl;
    uint8_t *stage; /* while a large write is encrypted: where it goes */
    uint32_t staged, stage_size;
    bool server, shaken, ended /* the peer sends no more */, finished /* we send no more */, wait;
};

static struct tls_conn *conn_of(struct wasi_file *f) {
    return (struct tls_conn *)f;
}

static struct tls_conn *tls_of(struct conn *c) {
    return (struct tls_conn *)c;
}

/* ---- OpenSSL's view of the socket ---- */

static int bio_write(BIO *b, const char *data, size_t size, size_t *done) {
    struct tls_conn *c = BIO_get_data(b);
    BIO_clear_retry_flags(b);
    *done = 0;
    if (!c->stage && !c->conn.out && !conn_take_buffer(&c->conn, CONN_OUT)) return 0;
    uint8_t *to = c->stage ? c->stage : c->conn.out;
    uint32_t *end = c->stage ? &c->staged : &c->conn.out_end, all = c->stage ? c->stage_size : c->conn.out_size;
    size_t room = all - *end;
    if (room == 0) {
        BIO_set_retry_write(b);
        return 0;
    }
    *done = size < room ? size : room;
    memcpy(to + *end, data, *done);
    *end += (uint32_t)*done;
    return 1;
}

static int bio_read(BIO *b, char *data, size_t size, size_t *done) {
    struct tls_conn *c = BIO_get_data(b);
    struct wasi_iov v = {data, size};
    uint16_t flags;
    BIO_clear_retry_flags(b);
    *done = 0;
    if (conn_read_ahead(&c->conn, data, size, false, done)) return 1;
    if (c->conn.in_ended) {
        BIO_set_flags(b, BIO_FLAGS_IN_EOF);
        return 0;
    }
    if (c->conn.drained && !c->wait) { /* known without asking, once */
        c->conn.drained = false;
        BIO_set_retry_read(b);
        return 0;
    }
    wasi_errno e = c->conn.below->ops->recv(c->conn.below, &v, 1, 0, c->wait ? 0 : WASI_FDFLAG_NONBLOCK, done, &flags);
    if (e == WASI_SUCCESS && *done > 0) return 1;
    if (e == WASI_EAGAIN || e == WASI_INTERRUPTED) BIO_set_retry_read(b);
    if (e == WASI_SUCCESS) BIO_set_flags(b, BIO_FLAGS_IN_EOF);
    if (e != WASI_SUCCESS && e != WASI_EAGAIN) c->conn.error = e; /* WASI_INTERRUPTED, too: the keep is at its end */
    return 0;
}

static long bio_ctrl(BIO *b, int what, long number, void *pointer) {
    (void)number, (void)pointer;
    if (what == BIO_CTRL_EOF) return BIO_test_flags(b, BIO_FLAGS_IN_EOF) != 0;
    return what == BIO_CTRL_FLUSH || what == BIO_CTRL_DUP;
}

static const BIO_METHOD *bio_method(void) {
    static BIO_METHOD *m;
    if (m) return m;
    m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "gate");
    if (m && BIO_meth_set_write_ex(m, bio_write) && BIO_meth_set_read_ex(m, bio_read) && BIO_meth_set_ctrl(m, bio_ctrl))
        return m;
    BIO_meth_free(m);
    return m = NULL;
}

/* ---- errors ---- */

static void log_failure(struct tls_conn *c, const char *what) {
    char line[400], reason[200] = "";
    unsigned long code = ERR_peek_last_error();
    long verify = SSL_get_verify_result(c->ssl);
    if (code) ERR_error_string_n(code, reason, sizeof reason);
    snprintf(line, sizeof line, "TLS %s: %s%s%s%s%s", c->server ? "server" : "client", what, *reason ? ": " : "",
             reason, verify != X509_V_OK ? ": " : "", verify != X509_V_OK ? X509_verify_cert_error_string(verify) : "");
    c->conn.all->env.log(c->conn.all->env.ctx, line);
}

/* What a failure means for the program. A peer that is not let in, or speaks no TLS, is for a server a connection that
 * has come to nothing; a client learns whether it was the certificate. */
static wasi_errno failure(const struct tls_conn *c, bool ended) {
    if (!c->shaken && c->server) return WASI_ECONNABORTED;
    if (!c->shaken && SSL_get_verify_result(c->ssl) != X509_V_OK) return WASI_EACCES;
    return ended ? WASI_ECONNRESET : WASI_EPROTO;
}

/* After a call of OpenSSL that did not succeed: WASI_EAGAIN, or WASI_SUCCESS at the peer's end, or c->conn.error for
 * good.
 */
static wasi_errno not_done(struct tls_conn *c, int result) {
    int why = SSL_get_error(c->ssl, result);
    if (c->conn.error) return c->conn.error;
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) return WASI_EAGAIN;
    if (why == SSL_ERROR_ZERO_RETURN) {
        c->ended = true;
        return WASI_SUCCESS;
    }
    bool cut = BIO_eof(SSL_get_rbio(c->ssl));
    log_failure(c, c->shaken ? cut ? "the connection was cut" : "broken" : "no handshake");
    ERR_clear_error();
    wasi_errno error = failure(c, cut);
    (void)conn_flush(&c->conn, false); /* the alert, if there is one */
    return c->conn.error = error;
}

/* ---- the handshake ---- */

/* One step, without waiting. WASI_EAGAIN: the peer's turn. */
static wasi_errno shake(struct tls_conn *c) {
    if (c->conn.error || c->shaken) return c->conn.error;
    ERR_clear_error();
    for (;;) {
        int r = SSL_do_handshake(c->ssl);
        if (r == 1) {
            c->shaken = true;
            c->conn.deadline = 0;
        }
        wasi_errno e = r == 1 ? (wasi_errno)WASI_SUCCESS : not_done(c, r);
        if (e == WASI_SUCCESS && r != 1) e = c->conn.error = failure(c, true); /* closed instead */
        bool full = e == WASI_EAGAIN && SSL_want_write(c->ssl);                /* more to say than the buffer holds */
        wasi_errno sent = c->conn.error ? c->conn.error
                          : full        ? conn_flush(&c->conn, false)
                                        : conn_flush_or_hold(&c->conn);
        if (e == WASI_SUCCESS && sent != WASI_EAGAIN) return sent;
        if (!full || sent != WASI_SUCCESS) return e;
    }
}

/* Before anything is read or written: the handshake is over. */
static wasi_errno get_ready(struct tls_conn *c, bool wait) {
    if (c->conn.error || c->shaken) return c->conn.error;
    wasi_errno e = shake(c);
    return e == WASI_EAGAIN && wait ? conn_wait(&c->conn, WASI_POLL_WRITE) : e;
}

/* ---- reading ---- */

/* May a read wait in the gate itself? Not while other connections have something to send. */
static bool may_block(const struct tls_conn *c) {
    return !c->conn.all->unsent;
}

static wasi_errno read_some(struct tls_conn *c, void *buf, size_t size, bool peek, bool wait, size_t *done) {
    for (;;) {
        *done = 0;
        if (c->ended) return WASI_SUCCESS;
        ERR_clear_error();
        c->wait = wait && may_block(c);
        int r = peek ? SSL_peek_ex(c->ssl, buf, size, done) : SSL_read_ex(c->ssl, buf, size, done);
        c->wait = false;
        if (c->conn.out && !c->conn.held) (void)conn_flush(&c->conn, false); /* an answer to the peer's key update */
        if (r == 1) return WASI_SUCCESS;
        wasi_errno e = not_done(c, r);
        if (e != WASI_EAGAIN || !wait) return e;
        e = conn_wait(&c->conn, WASI_POLL_READ);
        if (e != WASI_SUCCESS) return e;
    }
}

static wasi_errno tls_recv(struct wasi_file *f, const struct wasi_iov *iov, uint32_t n, uint16_t riflags,
                           uint16_t fdflags, size_t *done, uint16_t *roflags) {
    struct tls_conn *c = conn_of(f);
    bool wait = !(fdflags & WASI_FDFLAG_NONBLOCK), peek = riflags & WASI_RI_PEEK, all = riflags & WASI_RI_WAITALL;
    *done = 0;
    *roflags = 0;
    wasi_errno e = get_ready(c, wait);
    if (e != WASI_SUCCESS) return e;
    if (c->conn.out && !c->conn.held) (void)conn_flush(&c->conn, false);
    for (uint32_t i = 0; i < n; i++) {
        for (size_t at = 0; at < iov[i].len;) {
            size_t got = 0;
            bool more = *done == 0 || (all && !peek);
            if (!more && SSL_pending(c->ssl) == 0) return WASI_SUCCESS;
            e = read_some(c, (uint8_t *)iov[i].buf + at, iov[i].len - at, peek, wait && more, &got);
            if (e != WASI_SUCCESS || got == 0) return *done ? (wasi_errno)WASI_SUCCESS : e;
            *done += got;
            at += got;
            if (peek) return WASI_SUCCESS; /* a second look would see the same bytes */
        }
    }
    return WASI_SUCCESS;
}

static wasi_errno tls_read(struct wasi_file *f, const struct wasi_iov *iov, uint32_t n, uint16_t fdflags,
                           size_t *done) {
    uint16_t roflags;
    return tls_recv(f, iov, n, 0, fdflags, done, &roflags);
}

/* ---- writing ---- */

/* The vector's next bytes, `most` at most: where they are if one entry has them, else gathered in `record`. */
struct cursor {
    const struct wasi_iov *iov;
    uint32_t n, at;
    size_t skip; /* in iov[at] */
};
static uint8_t record[SSL3_RT_MAX_PLAIN_LENGTH];

static void advance(struct cursor *v, size_t size) {
    v->skip += size;
    while (v->at < v->n && v->skip >= v->iov[v->at].len)
        v->skip -= v->iov[v->at++].len;
}

static const uint8_t *next_piece(struct cursor *v, size_t most, size_t *size) {
    size_t here = v->iov[v->at].len - v->skip;
    const uint8_t *from = (const uint8_t *)v->iov[v->at].buf + v->skip;
    if (here >= most || v->at + 1 == v->n) {
        *size = here < most ? here : most;
        advance(v, *size);
        return from;
    }
    for (*size = 0; v->at < v->n && *size < most;) {
        size_t piece = v->iov[v->at].len - v->skip;
        if (piece > most - *size) piece = most - *size;
        memcpy(record + *size, (const uint8_t *)v->iov[v->at].buf + v->skip, piece);
        *size += piece;
        advance(v, piece);
    }
    return record;
}

/* As much of the vector behind `skip` as there is, and `most`; *taken: how much that was. */
static wasi_errno encrypt(struct tls_conn *c, const struct wasi_iov *iov, uint32_t n, size_t skip, size_t most,
                          size_t *taken) {
    struct cursor v = {.iov = iov, .n = n};
    *taken = 0;
    advance(&v, skip);
    while (v.at < n && *taken < most) {
        size_t left = most - *taken, size, done = 0;
        const uint8_t *from = next_piece(&v, left < sizeof record ? left : sizeof record, &size);
        ERR_clear_error();
        int r = SSL_write_ex(c->ssl, from, size, &done);
        if (r != 1) return not_done(c, r);
        *taken += done;
        if (done < size) break;
    }
    return WASI_SUCCESS;
}

/* The same, sent at once, in whole records. WASI_EAGAIN: some of the ciphertext is still here. */
static wasi_errno encrypt_staged(struct tls_conn *c, const struct wasi_iov *iov, uint32_t n, size_t skip,
                                 size_t *taken) {
    const struct conns_env *env = &c->conn.all->env;
    const size_t whole = SSL3_RT_MAX_PLAIN_LENGTH;
    size_t size;
    uint8_t *stage = env->stage(env->ctx, &size);
    if (c->conn.all->unsent_size > CONN_UNSENT && size > CONN_OUT) size = CONN_OUT;
    c->stage = stage;
    c->staged = 0;
    c->stage_size = (uint32_t)size;
    wasi_errno e = encrypt(c, iov, n, skip, (size - TLS_OUT_SPARE) / (whole + TLS_RECORD_MORE) * whole, taken);
    c->stage = NULL;
    if (c->staged == 0 || e == WASI_INTERRUPTED) return e;
    uint32_t sent = 0;
    wasi_errno s = env->send_staged(env->ctx, c->conn.below, c->staged, &sent);
    if (s == WASI_INTERRUPTED) return s;
    if (s != WASI_SUCCESS && s != WASI_EAGAIN) c->conn.error = s;
    if (c->conn.error) return c->conn.error;
    return sent < c->staged ? conn_keep_rest(&c->conn, stage + sent, c->staged - sent, TLS_OUT_SPARE) : e;
}

/* Plaintext that is sure to fit behind what is unsent. */
static size_t room_behind(const struct tls_conn *c) {
    return c->conn.out_size == CONN_OUT && c->conn.out_end < TLS_WRITE ? TLS_WRITE - c->conn.out_end : 0;
}

static bool worth_staging(const struct tls_conn *c, size_t size) {
    return !c->conn.out && size >= TLS_STAGE && c->conn.all->env.stage;
}

static wasi_errno tls_send(struct wasi_file *f, const struct wasi_iov *iov, uint32_t n, uint16_t fdflags,
                           size_t *done) {
    struct tls_conn *c = conn_of(f);
    bool wait = !(fdflags & WASI_FDFLAG_NONBLOCK);
    size_t want = 0;
    *done = 0;
    for (uint32_t i = 0; i < n; i++)
        want += iov[i].len;
    wasi_errno e = get_ready(c, wait);
    if (e == WASI_SUCCESS && c->finished) e = WASI_EPIPE;
    while (e == WASI_SUCCESS && *done < want) {
        size_t taken = 0;
        if (!wait && c->conn.held && want - *done <= room_behind(c))
            conn_not_held(&c->conn); /* goes with what is there */
        else
            e = conn_flush(&c->conn, wait);
        bool staged = e == WASI_SUCCESS && worth_staging(c, want - *done);
        if (staged)
            e = encrypt_staged(c, iov, n, *done, &taken);
        else if (e == WASI_SUCCESS)
            e = encrypt(c, iov, n, *done, TLS_WRITE, &taken);
        *done += taken;
        if (staged && e == WASI_EAGAIN && wait) e = conn_flush(&c->conn, true);
        if (e == WASI_SUCCESS && c->conn.out)
            e = wait || *done < want ? conn_flush(&c->conn, wait) : conn_flush_or_hold(&c->conn);
        if (e == WASI_EAGAIN && taken > 0) break;
    }
    return *done && e != WASI_INTERRUPTED ? (wasi_errno)WASI_SUCCESS : e;
}

/* ---- the end ---- */

static void finish(struct tls_conn *c) {
    if (c->finished || c->conn.error) return;
    c->finished = true;
    if (!c->shaken) return;
    ERR_clear_error();
    bool clear = c->conn.held || !c->conn.out; /* nothing that the socket would not take */
    conn_not_held(&c->conn);
    (void)SSL_shutdown(c->ssl); /* close_notify, into the buffer */
    (void)(clear ? conn_flush_or_hold(&c->conn) : conn_flush(&c->conn, false));
}

static wasi_errno tls_shutdown(struct wasi_file *f, uint8_t how) {
    struct tls_conn *c = conn_of(f);
    if (c->conn.error) return c->conn.error;
    if (how & WASI_SHUT_RD) c->ended = true;
    if (how & WASI_SHUT_WR) finish(c);
    c->conn.fin = c->conn.out && how & WASI_SHUT_WR;
    if (c->conn.fin) how &= (uint8_t)~WASI_SHUT_WR;
    return c->conn.error || how == 0 ? c->conn.error : c->conn.below->ops->shutdown(c->conn.below, how);
}

static void free_ssl(struct conn *c) {
    SSL_free(tls_of(c)->ssl);
}

/* What was written is sent, close_notify last, although nobody has the file any more. */
static void tls_close(struct wasi_file *f) {
    finish(conn_of(f));
    conn_close(&conn_of(f)->conn);
}

static wasi_errno tls_stat(struct wasi_file *f, struct wasi_filestat *out) {
    struct tls_conn *c = conn_of(f);
    return c->conn.below->ops->stat(c->conn.below, out);
}

/* ---- waiting ---- */

/* Is it ready, as far as can be told without waiting? */
static void look(struct tls_conn *c, struct wasi_poll *item) {
    uint8_t byte;
    size_t got = 0;
    bool reading = item->interest & WASI_POLL_READ;
    if (!c->shaken) (void)shake(c);
    if (c->conn.out && !c->conn.held && !c->conn.error) (void)conn_flush(&c->conn, false);
    if (reading && c->shaken && !c->conn.error && !c->ended && SSL_pending(c->ssl) == 0)
        (void)read_some(c, &byte, 1, true, false, &got);
    item->hangup = c->conn.error || (reading && c->ended);
    item->ready = item->hangup || (c->shaken && (reading ? SSL_pending(c->ssl) > 0 : !c->conn.out));
    item->nbytes = reading && c->shaken && SSL_pending(c->ssl) > 0 ? (uint64_t)SSL_pending(c->ssl) : item->ready;
    if (c->conn.error == WASI_INTERRUPTED) item->ready = false;
}

static wasi_errno tls_poll(struct wasi_file *f, struct wasi_poll *out) {
    struct tls_conn *c = conn_of(f);
    conns_send_held(c->conn.all); /* a round is over, also where nothing will have to be waited for */
    bool something =
        c->conn.error || c->ended || (c->shaken && (c->conn.in || c->conn.in_ended || SSL_has_pending(c->ssl)));
    if (something && (out->interest & WASI_POLL_READ || c->conn.error)) look(c, out);
    if (!out->ready) out->token = (uint64_t)(uintptr_t)c; /* never as small as the gate's */
    return WASI_SUCCESS;
}

/* What must happen on the socket before something can happen above it. */
static uint8_t interest_below(const struct conn *c, uint8_t interest) {
    return ((const struct tls_conn *)c)->shaken ? interest : WASI_POLL_READ;
}

/* A client's first words. */
static void begin(struct conn *c, uint64_t now) {
    if (tls_of(c)->shaken || c->deadline) return;
    c->deadline = now + TLS_HANDSHAKE_NS;
    (void)shake(tls_of(c));
}

static void late(struct conn *c) {
    log_failure(tls_of(c), "no handshake in time");
    c->error = tls_of(c)->server ? WASI_ECONNABORTED : WASI_ETIMEDOUT;
}

static void look_again(struct conn *c, struct wasi_poll *item, uint8_t asked) {
    (void)asked;
    *item = (struct wasi_poll){.token = item->token, .interest = item->interest};
    look(tls_of(c), item);
}

/* ---- files ---- */

static const struct wasi_file_ops tls_ops = {
    .name = "TLS connection",
    .close = tls_close,
    .read = tls_read,
    .write = tls_send,
    .stat = tls_stat,
    .poll = tls_poll,
    .recv = tls_recv,
    .send = tls_send,
    .shutdown = tls_shutdown,
};

static const struct conn_kind tls_kind = {.error_is_ready = true,
                                          .begin = begin,
                                          .interest = interest_below,
                                          .look = look_again,
                                          .late = late,
                                          .free = free_ssl};

static struct tls_conn *conn_new(struct conns *all, struct wasi_file *below, SSL_CTX *ctx, bool server) {
    struct tls_conn *c = calloc(1, sizeof *c);
    SSL *ssl = c ? SSL_new(ctx) : NULL;
    BIO *bio = ssl && bio_method() ? BIO_new(bio_method()) : NULL;
    if (!bio) {
        SSL_free(ssl);
        free(c);
        wasi_file_unref(below);
        return NULL;
    }
    conn_init(&c->conn, &tls_kind, &tls_ops, all, below);
    c->ssl = ssl;
    c->server = server;
    BIO_set_data(bio, c);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    if (server) {
        SSL_set_accept_state(ssl);
        c->conn.deadline = conn_now(&c->conn) + TLS_HANDSHAKE_NS;
    } else {
        SSL_set_connect_state(ssl);
    }
    return c;
}

struct wasi_file *tls_server_connection_new(struct conns *all, struct wasi_file *below, SSL_CTX *ctx) {
    struct tls_conn *c = conn_new(all, below, ctx, true);
    return c ? &c->conn.file : NULL;
}

/* A DNS name goes into the greeting (SNI), an address does not (RFC 6066, section 3). */
static bool expect_peer(SSL *ssl, const char *peer) {
    ASN1_OCTET_STRING *address = a2i_IPADDRESS(peer);
    ASN1_OCTET_STRING_free(address);
    ERR_clear_error();
    if (address) return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), peer) == 1;
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return SSL_set1_host(ssl, peer) == 1 && SSL_set_tlsext_host_name(ssl, peer) == 1;
}

struct wasi_file *tls_connection_new(struct conns *all, struct wasi_file *below, SSL_CTX *ctx, const char *peer) {
    struct tls_conn *c = conn_new(all, below, ctx, false);
    if (!c) return NULL;
    if (expect_peer(c->ssl, peer)) return &c->conn.file;
    conn_destroy(&c->conn);
    return NULL;
}

struct listening {
    struct conns *all;
    SSL_CTX *ctx;
    void (*fresh)(void *);
    void *fresh_ctx;
};

static struct wasi_file *accepted(void *ctx, struct wasi_file *below) {
    struct listening *l = ctx;
    if (l->fresh) l->fresh(l->fresh_ctx);
    return tls_server_connection_new(l->all, below, l->ctx);
}

struct wasi_file *tls_listener_new(struct conns *all, struct wasi_file *below, SSL_CTX *ctx, void (*fresh)(void *),
                                   void *fresh_ctx) {
    struct listening *l = malloc(sizeof *l);
    if (!l) {
        wasi_file_unref(below);
        return NULL;
    }
    *l = (struct listening){.all = all, .ctx = ctx, .fresh = fresh, .fresh_ctx = fresh_ctx};
    return conn_listener_new(all, below, accepted, l, free);
}

SSL_CTX *tls_context_new(void) {
    SSL_CTX *ctx = SSL_CTX_new(TLS_method());
    if (!ctx) return NULL;
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(ctx,
                     SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF); /* resumption by tickets, which cost no memory here */
    SSL_CTX_set_read_ahead(ctx, 1);                          /* a record's header and body in one call of the gate */
    if (SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) == 1 && SSL_CTX_set_num_tickets(ctx, 1) == 1) return ctx;
    SSL_CTX_free(ctx);
    return NULL;
}
