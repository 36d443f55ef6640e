#include "tls_conn.h"
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tls_conn {
    struct wasi_file file;
    struct tls *tls;
    struct wasi_file *below;
    SSL *ssl;
    uint8_t *out; /* out_size bytes, or NULL: nothing is unsent */
    uint32_t out_at, out_end, out_size;
    uint8_t *stage; /* while a large write is encrypted: where it goes */
    uint32_t staged, stage_size;
    uint8_t *in; /* received ahead, or NULL */
    uint32_t in_at, in_end;
    bool in_ended, drained; /* the peer sends no more; nothing more had come when `in` did */
    bool held;              /* what is unsent waits for others: held_size bytes, and what OpenSSL adds */
    uint32_t held_size;
    bool receiving;                /* one item of the poll in progress receives for it */
    struct tls_conn *next, **link; /* in tls->unsent; link NULL: not there */
    uint64_t deadline;             /* of the handshake; after closing, of the sending */
    wasi_errno error;              /* from now on every operation's answer */
    bool server, shaken, ended /* the peer sends no more */, finished /* we send no more */;
    bool fin /* the socket is to be told so, too, once all is sent */, closing, wait;
};

struct tls_listener {
    struct wasi_file file;
    struct tls *tls;
    struct wasi_file *below;
    SSL_CTX *ctx;
    void (*fresh)(void *);
    void *fresh_ctx;
};

static struct tls_conn *conn_of(struct wasi_file *f) {
    return (struct tls_conn *)f;
}

static uint64_t now(const struct tls_conn *c) {
    return c->tls->env.now(c->tls->env.ctx);
}

void tls_init(struct tls *t, const struct tls_env *env) {
    memset(t, 0, sizeof *t);
    t->env = *env;
}

/* ---- what goes out ---- */

static void unlink_conn(struct tls_conn *c) {
    if (!c->link) return;
    *c->link = c->next;
    if (c->next) c->next->link = c->link;
    c->link = NULL;
}

static bool take_buffer(struct tls_conn *c, uint32_t size) {
    struct tls *t = c->tls;
    bool spare = t->spare && size == TLS_OUT;
    c->out = spare ? t->spare : malloc(size);
    if (spare) t->spare = NULL;
    c->out_at = c->out_end = 0;
    if (!c->out) return false;
    c->out_size = size;
    t->unsent_size += size;
    c->next = t->unsent;
    if (c->next) c->next->link = &c->next;
    c->link = &t->unsent;
    t->unsent = c;
    return true;
}

static void not_held(struct tls_conn *c) {
    if (!c->held) return;
    c->held = false;
    c->tls->held--;
    c->tls->held_bytes -= c->held_size;
}

/* Ciphertext only: nothing in it has to be wiped. */
static void drop_buffer(struct tls_conn *c) {
    not_held(c);
    unlink_conn(c);
    c->tls->unsent_size -= c->out_size;
    if (c->tls->spare || c->out_size != TLS_OUT)
        free(c->out);
    else
        c->tls->spare = c->out;
    c->out = NULL;
}

/* After a piece was sent, or could not be. WASI_EAGAIN: some is still here. */
static wasi_errno sent(struct tls_conn *c, uint32_t taken, wasi_errno e) {
    c->out_at += taken;
    if (e == WASI_INTERRUPTED) return e;
    if (e != WASI_SUCCESS && e != WASI_EAGAIN) c->error = e;
    if (!c->error && c->out_at < c->out_end) return WASI_EAGAIN;
    drop_buffer(c);
    if (c->fin && !c->error) {
        c->fin = false;
        (void)c->below->ops->shutdown(c->below, WASI_SHUT_WR);
    }
    return c->error;
}

/* Gives the socket what is unsent. WASI_EAGAIN: some of it is still here. */
static wasi_errno flush(struct tls_conn *c, bool wait) {
    not_held(c);
    while (c->out) {
        struct wasi_iov v = {c->out + c->out_at, c->out_end - c->out_at};
        size_t done = 0;
        wasi_errno e = c->below->ops->send(c->below, &v, 1, wait ? 0 : WASI_FDFLAG_NONBLOCK, &done);
        if (e == WASI_SUCCESS && done == 0) e = WASI_EIO;
        bool again = e == WASI_SUCCESS && done < v.len;
        e = sent(c, (uint32_t)done, e);
        if (!again || c->error) return e;
    }
    return c->error;
}

/* ---- what goes out together ---- */

static void destroy(struct tls_conn *c);

static bool has_room(const struct tls *t, const struct tls_conn *c) {
    return t->held < TLS_BATCH && t->held_bytes + (c->out_end - c->out_at) <= GATE_SENDS_ROOM;
}

/* A program that serves many will soon come back to wait; but not if it takes its time for each. */
static bool is_quick(struct tls *t) {
    uint64_t at = t->env.now(t->env.ctx), before = t->pace_at;
    t->pace_at = at;
    return t->looking || (t->ready > 1 && at - before < TLS_BATCH_NS);
}

/* Sends now or, among others, soon. */
static wasi_errno flush_or_hold(struct tls_conn *c) {
    struct tls *t = c->tls;
    if (!c->out || c->held) return c->error;
    bool quick = is_quick(t);
    if (!quick || !has_room(t, c)) tls_send_held(t);
    if (!quick || !has_room(t, c)) return flush(c, false);
    c->held = true;
    c->held_size = c->out_end - c->out_at;
    t->held++;
    t->held_bytes += c->held_size;
    return WASI_SUCCESS;
}

/* One call's worth of what is held. */
static void send_some_held(struct tls *t) {
    struct gate_outgoing sends[TLS_BATCH];
    struct tls_conn *conns[TLS_BATCH];
    uint32_t bytes = 0;
    size_t n = 0;
    for (struct tls_conn *c = t->unsent; c && n < TLS_BATCH; c = c->next) {
        uint32_t size = c->out_end - c->out_at;
        if (!c->held || size > GATE_SENDS_ROOM - bytes) continue;
        sends[n] = (struct gate_outgoing){.socket = c->below, .bytes = c->out + c->out_at, .len = size};
        conns[n++] = c;
        bytes += size;
    }
    wasi_errno e = n ? t->env.send_many(t->env.ctx, sends, n) : (wasi_errno)WASI_EIO;
    for (size_t i = 0; i < n; i++) {
        not_held(conns[i]);
        (void)sent(conns[i], e == WASI_SUCCESS ? sends[i].taken : 0, e == WASI_SUCCESS ? sends[i].error : e);
        if (conns[i]->closing && !conns[i]->out) destroy(conns[i]);
    }
    for (struct tls_conn *c = n ? NULL : t->unsent; c; c = c->next) /* larger than a call: each by itself, later */
        not_held(c);
}

void tls_send_held(struct tls *t) {
    while (t->held > 0)
        send_some_held(t);
}

/* ---- OpenSSL's view of the socket ---- */

static int bio_write(BIO *b, const char *data, size_t size, size_t *done) {
    struct tls_conn *c = BIO_get_data(b);
    BIO_clear_retry_flags(b);
    *done = 0;
    if (!c->stage && !c->out && !take_buffer(c, TLS_OUT)) return 0;
    uint8_t *to = c->stage ? c->stage : c->out;
    uint32_t *end = c->stage ? &c->staged : &c->out_end, all = c->stage ? c->stage_size : c->out_size;
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

/* What was received ahead. False: there is nothing of it. */
static bool read_ahead(struct tls_conn *c, char *data, size_t size, size_t *done) {
    if (!c->in) return false;
    *done = c->in_end - c->in_at < size ? c->in_end - c->in_at : size;
    memcpy(data, c->in + c->in_at, *done);
    c->in_at += (uint32_t)*done;
    if (c->in_at < c->in_end) return true;
    free(c->in);
    c->in = NULL;
    return true;
}

static int bio_read(BIO *b, char *data, size_t size, size_t *done) {
    struct tls_conn *c = BIO_get_data(b);
    struct wasi_iov v = {data, size};
    uint16_t flags;
    BIO_clear_retry_flags(b);
    *done = 0;
    if (read_ahead(c, data, size, done)) return 1;
    if (c->in_ended) {
        BIO_set_flags(b, BIO_FLAGS_IN_EOF);
        return 0;
    }
    if (c->drained && !c->wait) { /* known without asking, once */
        c->drained = false;
        BIO_set_retry_read(b);
        return 0;
    }
    wasi_errno e = c->below->ops->recv(c->below, &v, 1, 0, c->wait ? 0 : WASI_FDFLAG_NONBLOCK, done, &flags);
    if (e == WASI_SUCCESS && *done > 0) return 1;
    if (e == WASI_EAGAIN || e == WASI_INTERRUPTED) BIO_set_retry_read(b);
    if (e == WASI_SUCCESS) BIO_set_flags(b, BIO_FLAGS_IN_EOF);
    if (e != WASI_SUCCESS && e != WASI_EAGAIN) c->error = e; /* WASI_INTERRUPTED, too: the keep is at its end */
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
    c->tls->env.log(c->tls->env.ctx, line);
}

/* What a failure means for the program. A peer that is not let in, or speaks no TLS, is for a server a connection that
 * has come to nothing; a client learns whether it was the certificate. */
static wasi_errno failure(const struct tls_conn *c, bool ended) {
    if (!c->shaken && c->server) return WASI_ECONNABORTED;
    if (!c->shaken && SSL_get_verify_result(c->ssl) != X509_V_OK) return WASI_EACCES;
    return ended ? WASI_ECONNRESET : WASI_EPROTO;
}

/* After a call of OpenSSL that did not succeed: WASI_EAGAIN, or WASI_SUCCESS at the peer's end, or c->error for good.
 */
static wasi_errno not_done(struct tls_conn *c, int result) {
    int why = SSL_get_error(c->ssl, result);
    if (c->error) return c->error;
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) return WASI_EAGAIN;
    if (why == SSL_ERROR_ZERO_RETURN) {
        c->ended = true;
        return WASI_SUCCESS;
    }
    bool cut = BIO_eof(SSL_get_rbio(c->ssl));
    log_failure(c, c->shaken ? cut ? "the connection was cut" : "broken" : "no handshake");
    ERR_clear_error();
    wasi_errno error = failure(c, cut);
    (void)flush(c, false); /* the alert, if there is one */
    return c->error = error;
}

/* ---- the handshake ---- */

/* One step, without waiting. WASI_EAGAIN: the peer's turn. */
static wasi_errno shake(struct tls_conn *c) {
    if (c->error || c->shaken) return c->error;
    ERR_clear_error();
    for (;;) {
        int r = SSL_do_handshake(c->ssl);
        if (r == 1) c->shaken = true;
        wasi_errno e = r == 1 ? (wasi_errno)WASI_SUCCESS : not_done(c, r);
        if (e == WASI_SUCCESS && r != 1) e = c->error = failure(c, true); /* closed instead */
        bool full = e == WASI_EAGAIN && SSL_want_write(c->ssl);           /* more to say than the buffer holds */
        wasi_errno sent = c->error ? c->error : full ? flush(c, false) : flush_or_hold(c);
        if (e == WASI_SUCCESS && sent != WASI_EAGAIN) return sent;
        if (!full || sent != WASI_SUCCESS) return e;
    }
}

static wasi_errno wait_for(struct tls_conn *c, uint8_t interest) {
    struct wasi_poll item = {.token = (uint64_t)(uintptr_t)c, .interest = interest};
    while (!item.ready) {
        wasi_errno e = tls_poll(c->tls, &item, 1, WASI_FOREVER);
        if (e != WASI_SUCCESS) return e;
    }
    return c->error;
}

/* Before anything is read or written: the handshake is over. */
static wasi_errno get_ready(struct tls_conn *c, bool wait) {
    if (c->error || c->shaken) return c->error;
    wasi_errno e = shake(c);
    return e == WASI_EAGAIN && wait ? wait_for(c, WASI_POLL_WRITE) : e;
}

/* ---- reading ---- */

/* May a read wait in the gate itself? Not while other connections have something to send. */
static bool may_block(const struct tls_conn *c) {
    return !c->tls->unsent;
}

static wasi_errno read_some(struct tls_conn *c, void *buf, size_t size, bool peek, bool wait, size_t *done) {
    for (;;) {
        *done = 0;
        if (c->ended) return WASI_SUCCESS;
        ERR_clear_error();
        c->wait = wait && may_block(c);
        int r = peek ? SSL_peek_ex(c->ssl, buf, size, done) : SSL_read_ex(c->ssl, buf, size, done);
        c->wait = false;
        if (c->out && !c->held) (void)flush(c, false); /* an answer to the peer's key update */
        if (r == 1) return WASI_SUCCESS;
        wasi_errno e = not_done(c, r);
        if (e != WASI_EAGAIN || !wait) return e;
        e = wait_for(c, WASI_POLL_READ);
        if (e != WASI_SUCCESS) return e;
    }
}

static wasi_errno conn_recv(struct wasi_file *f, const struct wasi_iov *iov, uint32_t n, uint16_t riflags,
                            uint16_t fdflags, size_t *done, uint16_t *roflags) {
    struct tls_conn *c = conn_of(f);
    bool wait = !(fdflags & WASI_FDFLAG_NONBLOCK), peek = riflags & WASI_RI_PEEK, all = riflags & WASI_RI_WAITALL;
    *done = 0;
    *roflags = 0;
    wasi_errno e = get_ready(c, wait);
    if (e != WASI_SUCCESS) return e;
    if (c->out && !c->held) (void)flush(c, false);
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

static wasi_errno conn_read(struct wasi_file *f, const struct wasi_iov *iov, uint32_t n, uint16_t fdflags,
                            size_t *done) {
    uint16_t roflags;
    return conn_recv(f, iov, n, 0, fdflags, done, &roflags);
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

/* What a staged piece has been left with. */
static wasi_errno keep_rest(struct tls_conn *c, const uint8_t *rest, uint32_t size) {
    if (!take_buffer(c, size + TLS_OUT_SPARE)) return c->error = WASI_ENOMEM;
    memcpy(c->out, rest, size);
    c->out_end = size;
    return WASI_EAGAIN;
}

/* The same, sent at once, in whole records. WASI_EAGAIN: some of the ciphertext is still here. */
static wasi_errno encrypt_staged(struct tls_conn *c, const struct wasi_iov *iov, uint32_t n, size_t skip,
                                 size_t *taken) {
    const struct tls_env *env = &c->tls->env;
    const size_t whole = SSL3_RT_MAX_PLAIN_LENGTH;
    size_t size;
    uint8_t *stage = env->stage(env->ctx, &size);
    if (c->tls->unsent_size > TLS_UNSENT && size > TLS_OUT) size = TLS_OUT;
    c->stage = stage;
    c->staged = 0;
    c->stage_size = (uint32_t)size;
    wasi_errno e = encrypt(c, iov, n, skip, (size - TLS_OUT_SPARE) / (whole + TLS_RECORD_MORE) * whole, taken);
    c->stage = NULL;
    if (c->staged == 0 || e == WASI_INTERRUPTED) return e;
    uint32_t sent = 0;
    wasi_errno s = env->send_staged(env->ctx, c->below, c->staged, &sent);
    if (s == WASI_INTERRUPTED) return s;
    if (s != WASI_SUCCESS && s != WASI_EAGAIN) c->error = s;
    if (c->error) return c->error;
    return sent < c->staged ? keep_rest(c, stage + sent, c->staged - sent) : e;
}

/* Plaintext that is sure to fit behind what is unsent. */
static size_t room_behind(const struct tls_conn *c) {
    return c->out_size == TLS_OUT && c->out_end < TLS_WRITE ? TLS_WRITE - c->out_end : 0;
}

static bool worth_staging(const struct tls_conn *c, size_t size) {
    return !c->out && size >= TLS_STAGE && c->tls->env.stage;
}

static wasi_errno conn_send(struct wasi_file *f, const struct wasi_iov *iov, uint32_t n, uint16_t fdflags,
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
        if (!wait && c->held && want - *done <= room_behind(c))
            not_held(c); /* goes with what is there */
        else
            e = flush(c, wait);
        bool staged = e == WASI_SUCCESS && worth_staging(c, want - *done);
        if (staged)
            e = encrypt_staged(c, iov, n, *done, &taken);
        else if (e == WASI_SUCCESS)
            e = encrypt(c, iov, n, *done, TLS_WRITE, &taken);
        *done += taken;
        if (staged && e == WASI_EAGAIN && wait) e = flush(c, true);
        if (e == WASI_SUCCESS && c->out) e = wait || *done < want ? flush(c, wait) : flush_or_hold(c);
        if (e == WASI_EAGAIN && taken > 0) break;
    }
    return *done && e != WASI_INTERRUPTED ? (wasi_errno)WASI_SUCCESS : e;
}

/* ---- the end ---- */

static void finish(struct tls_conn *c) {
    if (c->finished || c->error) return;
    c->finished = true;
    if (!c->shaken) return;
    ERR_clear_error();
    bool clear = c->held || !c->out; /* nothing that the socket would not take */
    not_held(c);
    (void)SSL_shutdown(c->ssl); /* close_notify, into the buffer */
    (void)(clear ? flush_or_hold(c) : flush(c, false));
}

static wasi_errno conn_shutdown(struct wasi_file *f, uint8_t how) {
    struct tls_conn *c = conn_of(f);
    if (c->error) return c->error;
    if (how & WASI_SHUT_RD) c->ended = true;
    if (how & WASI_SHUT_WR) finish(c);
    c->fin = c->out && how & WASI_SHUT_WR;
    if (c->fin) how &= (uint8_t)~WASI_SHUT_WR;
    return c->error || how == 0 ? c->error : c->below->ops->shutdown(c->below, how);
}

static void destroy(struct tls_conn *c) {
    if (c->closing) c->tls->lingering--;
    if (c->out) drop_buffer(c);
    free(c->in);
    SSL_free(c->ssl);
    wasi_file_unref(c->below);
    free(c);
}

/* What was written is sent, close_notify last, although nobody has the file any more. */
static void conn_close(struct wasi_file *f) {
    struct tls_conn *c = conn_of(f);
    finish(c);
    if (c->error || !c->out || c->tls->lingering == TLS_LINGERING) {
        destroy(c);
        return;
    }
    c->closing = true;
    c->tls->lingering++;
    c->deadline = now(c) + TLS_LINGER_NS;
}

static wasi_errno conn_stat(struct wasi_file *f, struct wasi_filestat *out) {
    struct tls_conn *c = conn_of(f);
    return c->below->ops->stat(c->below, out);
}

/* ---- waiting ---- */

/* Is it ready, as far as can be told without waiting? */
static void look(struct tls_conn *c, struct wasi_poll *item) {
    uint8_t byte;
    size_t got = 0;
    bool reading = item->interest & WASI_POLL_READ;
    if (!c->shaken) (void)shake(c);
    if (c->out && !c->held && !c->error) (void)flush(c, false);
    if (reading && c->shaken && !c->error && !c->ended && SSL_pending(c->ssl) == 0)
        (void)read_some(c, &byte, 1, true, false, &got);
    item->hangup = c->error || (reading && c->ended);
    item->ready = item->hangup || (c->shaken && (reading ? SSL_pending(c->ssl) > 0 : !c->out));
    item->nbytes = reading && c->shaken && SSL_pending(c->ssl) > 0 ? (uint64_t)SSL_pending(c->ssl) : item->ready;
    if (c->error == WASI_INTERRUPTED) item->ready = false;
}

static wasi_errno conn_poll(struct wasi_file *f, struct wasi_poll *out) {
    struct tls_conn *c = conn_of(f);
    tls_send_held(c->tls); /* a round is over, also where nothing will have to be waited for */
    bool something = c->error || c->ended || (c->shaken && (c->in || c->in_ended || SSL_has_pending(c->ssl)));
    if (something && (out->interest & WASI_POLL_READ || c->error)) look(c, out);
    if (!out->ready) out->token = (uint64_t)(uintptr_t)c; /* never as small as the gate's */
    return WASI_SUCCESS;
}

static struct tls_conn *conn_of_token(uint64_t token) {
    const uint64_t least = 1 << 16, most = UINT64_C(1) << 56; /* what is no address is a token of the files below */
    return token >= least && token < most ? (struct tls_conn *)(uintptr_t)token : NULL;
}

static wasi_errno ask_below(struct tls_conn *c, struct wasi_poll *item, uint8_t interest) {
    *item = (struct wasi_poll){.interest = interest};
    return c->below->ops->poll(c->below, item);
}

/* What must happen on the socket before something can happen above it. */
static uint8_t below_interest(const struct tls_conn *c, uint8_t interest) {
    if (!c->shaken) interest = WASI_POLL_READ;
    return c->out ? interest | WASI_POLL_WRITE : interest;
}

static void sooner(uint64_t *timeout, uint64_t deadline, uint64_t at) {
    uint64_t left = deadline > at ? deadline - at : 0;
    if (left < *timeout) *timeout = left;
}

/* Sends what can be sent; frees the connections that only waited for that. */
static void send_unsent(struct tls *t) {
    uint64_t at = t->env.now(t->env.ctx);
    for (struct tls_conn *c = t->unsent, *next; c; c = next) {
        next = c->next;
        (void)flush(c, false);
        if (c->closing && (!c->out || at >= c->deadline)) destroy(c);
    }
}

/* struct gate_receiver: whoever waits to read and has nothing so far, once. */
static bool receive_wanted(void *ctx, size_t i) {
    const struct tls *t = ctx;
    return t->receives[i];
}

static bool receives(struct tls_conn *c, uint8_t interest) {
    bool yes = !c->receiving && !c->in && !c->in_ended && !c->error && interest & WASI_POLL_READ;
    if (yes) c->receiving = true;
    return yes;
}

static void receive(void *ctx, size_t i, const uint8_t *bytes, size_t n) {
    struct tls *t = ctx;
    struct tls_conn *c = conn_of_token(t->items[i].token);
    c->in_ended = n == 0;
    if (n == 0) return;
    c->in = malloc(n);
    if (!c->in) {
        c->error = WASI_ENOMEM;
        return;
    }
    memcpy(c->in, bytes, n);
    c->in_at = 0;
    c->in_end = (uint32_t)n;
    c->drained = n < TLS_IN;
}

/* One wait; the items' answers. */
wasi_errno tls_poll(struct tls *t, struct wasi_poll *items, size_t n, uint64_t timeout) {
    size_t ours = 0, all = n;
    if (n > TLS_POLL) return WASI_ENOTSUP;
    tls_send_held(t);
    uint64_t at = t->env.now(t->env.ctx);
    for (size_t i = 0; i < n; i++) {
        struct tls_conn *c = conn_of_token(items[i].token);
        t->work[i] = items[i];
        t->receives[i] = false;
        if (!c) continue;
        ours++;
        if (!c->shaken && c->deadline == 0) { /* a client's first words */
            c->deadline = at + TLS_HANDSHAKE_NS;
            (void)shake(c);
        }
        uint8_t interest = below_interest(c, items[i].interest);
        wasi_errno e = ask_below(c, &t->work[i], interest);
        if (e != WASI_SUCCESS) return e;
        t->receives[i] = receives(c, interest);
        if (c->error) timeout = 0;
        if (!c->shaken) sooner(&timeout, c->deadline, at);
    }
    tls_send_held(t);
    if (ours == 0 && !t->unsent) return t->env.poll(t->env.ctx, items, n, timeout, NULL);
    for (struct tls_conn *c = t->unsent; c && all < TLS_POLL; c = c->next) {
        t->receives[all] = false;
        if (ask_below(c, &t->work[all], WASI_POLL_WRITE) == WASI_SUCCESS) all++;
        if (c->closing) sooner(&timeout, c->deadline, at);
    }
    const struct gate_receiver receiver = {.ctx = t, .most = TLS_IN, .wanted = receive_wanted, .take = receive};
    t->items = items;
    wasi_errno e = t->env.poll(t->env.ctx, t->work, all, timeout, &receiver);
    for (size_t i = 0; i < n; i++)
        if (t->receives[i]) conn_of_token(items[i].token)->receiving = false;
    if (e != WASI_SUCCESS) return e;
    at = t->env.now(t->env.ctx);
    t->ready = 0;
    t->pace_at = at;
    t->looking = ours > 1; /* what handshakes have to say goes together */
    for (size_t i = 0; i < n; i++) {
        struct tls_conn *c = conn_of_token(items[i].token);
        uint64_t token = items[i].token;
        uint8_t interest = items[i].interest;
        items[i] = t->work[i];
        items[i].token = token;
        items[i].interest = interest;
        if (!c) continue;
        if (!c->shaken && !c->error && !t->work[i].ready && at >= c->deadline) {
            log_failure(c, "no handshake in time");
            c->error = c->server ? WASI_ECONNABORTED : WASI_ETIMEDOUT;
        }
        if (t->work[i].ready || c->error) {
            items[i] = (struct wasi_poll){.token = token, .interest = interest};
            look(c, &items[i]);
            if (c->error == WASI_INTERRUPTED) e = WASI_INTERRUPTED;
            t->ready += items[i].ready;
        }
    }
    t->looking = false;
    tls_send_held(t);
    if (t->unsent) send_unsent(t);
    return e;
}

void tls_flush_all(struct tls *t, uint64_t timeout) {
    uint64_t end = t->env.now(t->env.ctx) + timeout, at;
    while (t->unsent && (at = t->env.now(t->env.ctx)) < end)
        if (tls_poll(t, NULL, 0, end - at) != WASI_SUCCESS) return;
}

/* ---- files ---- */

static const struct wasi_file_ops conn_ops = {
    .name = "TLS connection",
    .close = conn_close,
    .read = conn_read,
    .write = conn_send,
    .stat = conn_stat,
    .poll = conn_poll,
    .recv = conn_recv,
    .send = conn_send,
    .shutdown = conn_shutdown,
};

static struct tls_conn *conn_new(struct tls *t, struct wasi_file *below, SSL_CTX *ctx, bool server) {
    struct tls_conn *c = calloc(1, sizeof *c);
    SSL *ssl = c ? SSL_new(ctx) : NULL;
    BIO *bio = ssl && bio_method() ? BIO_new(bio_method()) : NULL;
    if (!bio) {
        SSL_free(ssl);
        free(c);
        wasi_file_unref(below);
        return NULL;
    }
    wasi_file_init(&c->file, &conn_ops, WASI_FILETYPE_SOCKET_STREAM);
    c->file.rights = below->rights;
    c->tls = t;
    c->below = below;
    c->ssl = ssl;
    c->server = server;
    BIO_set_data(bio, c);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    if (server) {
        SSL_set_accept_state(ssl);
        c->deadline = now(c) + TLS_HANDSHAKE_NS;
    } else {
        SSL_set_connect_state(ssl);
    }
    return c;
}

struct wasi_file *tls_server_connection_new(struct tls *t, struct wasi_file *below, SSL_CTX *ctx) {
    struct tls_conn *c = conn_new(t, below, ctx, true);
    return c ? &c->file : NULL;
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

struct wasi_file *tls_connection_new(struct tls *t, struct wasi_file *below, SSL_CTX *ctx, const char *peer) {
    struct tls_conn *c = conn_new(t, below, ctx, false);
    if (!c) return NULL;
    if (expect_peer(c->ssl, peer)) return &c->file;
    destroy(c);
    return NULL;
}

/* Waits for a connection; not in the gate itself while others have something to send. */
static wasi_errno wait_accept(struct tls_listener *l) {
    struct wasi_poll item = {.interest = WASI_POLL_READ};
    wasi_errno e = l->below->ops->poll(l->below, &item);
    while (e == WASI_SUCCESS && !item.ready && l->tls->unsent)
        e = tls_poll(l->tls, &item, 1, WASI_FOREVER);
    return e;
}

static wasi_errno listener_accept(struct wasi_file *f, uint16_t fdflags, uint16_t child_fdflags,
                                  struct wasi_file **out) {
    struct tls_listener *l = (struct tls_listener *)f;
    struct wasi_file *below;
    wasi_errno e = l->tls->unsent && !(fdflags & WASI_FDFLAG_NONBLOCK) ? wait_accept(l) : (wasi_errno)WASI_SUCCESS;
    if (e == WASI_SUCCESS) e = l->below->ops->accept(l->below, fdflags, child_fdflags, &below);
    if (e != WASI_SUCCESS) return e;
    if (l->fresh) l->fresh(l->fresh_ctx);
    *out = tls_server_connection_new(l->tls, below, l->ctx);
    return *out ? WASI_SUCCESS : WASI_ENOMEM;
}

static void listener_close(struct wasi_file *f) {
    struct tls_listener *l = (struct tls_listener *)f;
    wasi_file_unref(l->below);
    free(l);
}

static wasi_errno listener_stat(struct wasi_file *f, struct wasi_filestat *out) {
    struct tls_listener *l = (struct tls_listener *)f;
    return l->below->ops->stat(l->below, out);
}

static wasi_errno listener_poll(struct wasi_file *f, struct wasi_poll *out) {
    struct tls_listener *l = (struct tls_listener *)f;
    return l->below->ops->poll(l->below, out);
}

static const struct wasi_file_ops listener_ops = {
    .name = "TLS listener",
    .close = listener_close,
    .stat = listener_stat,
    .poll = listener_poll,
    .accept = listener_accept,
};

struct wasi_file *tls_listener_new(struct tls *t, struct wasi_file *below, SSL_CTX *ctx, void (*fresh)(void *),
                                   void *fresh_ctx) {
    struct tls_listener *l = calloc(1, sizeof *l);
    if (!l) {
        wasi_file_unref(below);
        return NULL;
    }
    wasi_file_init(&l->file, &listener_ops, WASI_FILETYPE_SOCKET_STREAM);
    l->file.rights = below->rights;
    l->tls = t;
    l->below = below;
    l->ctx = ctx;
    l->fresh = fresh;
    l->fresh_ctx = fresh_ctx;
    return &l->file;
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
