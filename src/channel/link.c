#include "link.h"
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SPKI_MOST = 512 };

struct channel_tls {
    SSL_CTX *ctx;
    bool keep;
    size_t spki_size;
    uint8_t spki[SPKI_MOST];
};

struct channel_link {
    SSL *ssl;
    BIO *in, *out; /* the SSL's: network bytes */
    bool keep, ended, closing, failed;
    char error[160];
    struct channel_parser parser;
};

static const uint8_t alpn[] = {
    sizeof CHANNEL_ALPN - 1, 'd', 'o', 'n', 'j', 'o', 'n', '-', 'c', 'h', 'a', 'n', 'n', 'e', 'l', '/', '1'};
_Static_assert(sizeof alpn == sizeof CHANNEL_ALPN, "one protocol");

/* ---- settings ---- */

static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *size, const unsigned char *in,
                       unsigned int n, void *arg) {
    (void)ssl, (void)arg;
    unsigned char *found;
    if (SSL_select_next_proto(&found, size, alpn, sizeof alpn, in, n) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = found;
    return SSL_TLSEXT_ERR_OK;
}

static struct channel_tls *tls_new(const SSL_METHOD *method, bool keep) {
    struct channel_tls *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    t->keep = keep;
    t->ctx = SSL_CTX_new(method);
    if (t->ctx && SSL_CTX_set_min_proto_version(t->ctx, TLS1_3_VERSION) == 1 &&
        SSL_CTX_set_max_proto_version(t->ctx, TLS1_3_VERSION) == 1 &&
        SSL_CTX_set_ciphersuites(t->ctx, "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256") == 1 &&
        SSL_CTX_set1_groups_list(t->ctx, "X25519:P-256") == 1 && SSL_CTX_set_num_tickets(t->ctx, 0) == 1) {
        SSL_CTX_set_session_cache_mode(t->ctx, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_options(t->ctx, SSL_OP_NO_TICKET | SSL_OP_CLEANSE_PLAINTEXT | SSL_OP_NO_RENEGOTIATION);
        SSL_CTX_set_mode(t->ctx, SSL_MODE_RELEASE_BUFFERS);
        return t;
    }
    channel_tls_free(t);
    return NULL;
}

/* Nobody checks its times and names. */
static X509 *make_certificate(EVP_PKEY *key) {
    static const uint8_t name[] = "donjon keep";
    X509 *x = X509_new();
    X509_NAME *n = x ? X509_get_subject_name(x) : NULL;
    if (n && X509_set_version(x, X509_VERSION_3) == 1 && ASN1_INTEGER_set(X509_get_serialNumber(x), 1) == 1 &&
        ASN1_TIME_set_string_X509(X509_getm_notBefore(x), "20200101000000Z") == 1 &&
        ASN1_TIME_set_string_X509(X509_getm_notAfter(x), "99991231235959Z") == 1 &&
        X509_NAME_add_entry_by_txt(n, "CN", MBSTRING_ASC, name, -1, -1, 0) == 1 && X509_set_issuer_name(x, n) == 1 &&
        X509_set_pubkey(x, key) == 1 && X509_sign(x, key, EVP_sha256()) > 0)
        return x;
    X509_free(x);
    return NULL;
}

static size_t encode_spki(EVP_PKEY *key, uint8_t *out, size_t most) {
    unsigned char *der = NULL;
    int n = i2d_PUBKEY(key, &der);
    size_t size = n > 0 && (size_t)n <= most ? (size_t)n : 0;
    if (size) memcpy(out, der, size);
    OPENSSL_free(der);
    return size;
}

struct channel_tls *channel_tls_keep(void) {
    struct channel_tls *t = tls_new(TLS_server_method(), true);
    if (!t) return NULL;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = key ? make_certificate(key) : NULL;
    bool ok = x && SSL_CTX_use_certificate(t->ctx, x) == 1 && SSL_CTX_use_PrivateKey(t->ctx, key) == 1;
    if (ok) t->spki_size = encode_spki(key, t->spki, sizeof t->spki);
    X509_free(x);
    EVP_PKEY_free(key);
    SSL_CTX_set_alpn_select_cb(t->ctx, choose_alpn, NULL);
    if (t->spki_size) return t;
    channel_tls_free(t);
    return NULL;
}

/* What the key is worth is told by evidence, and asked before anything is sent: client.h. */
struct channel_tls *channel_tls_tenant(void) {
    struct channel_tls *t = tls_new(TLS_client_method(), false);
    if (!t) return NULL;
    SSL_CTX_set_verify(t->ctx, SSL_VERIFY_NONE, NULL);
    if (SSL_CTX_set_alpn_protos(t->ctx, alpn, sizeof alpn) == 0) return t; /* 0 is its success */
    channel_tls_free(t);
    return NULL;
}

void channel_tls_free(struct channel_tls *t) {
    if (!t) return;
    SSL_CTX_free(t->ctx);
    free(t);
}

struct channel_bytes channel_tls_spki(const struct channel_tls *t) {
    return (struct channel_bytes){t->spki, t->spki_size};
}

/* ---- links ---- */

struct channel_link *channel_link_new(struct channel_tls *t) {
    struct channel_link *l = malloc(sizeof *l); /* the parser's buffer need not be zero */
    if (!l) return NULL;
    memset(l, 0, offsetof(struct channel_link, parser));
    channel_parser_init(&l->parser, t->keep ? CHANNEL_TENANT : CHANNEL_KEEP);
    l->keep = t->keep;
    l->ssl = SSL_new(t->ctx);
    l->in = BIO_new(BIO_s_mem());
    l->out = BIO_new(BIO_s_mem());
    if (!l->ssl || !l->in || !l->out) {
        BIO_free(l->in);
        BIO_free(l->out);
        SSL_free(l->ssl);
        free(l);
        return NULL;
    }
    BIO_set_mem_eof_return(l->in, -1); /* an empty one is "not yet", never the end */
    BIO_set_mem_eof_return(l->out, -1);
    SSL_set_bio(l->ssl, l->in, l->out);
    if (t->keep)
        SSL_set_accept_state(l->ssl);
    else
        SSL_set_connect_state(l->ssl);
    return l;
}

void channel_link_free(struct channel_link *l) {
    if (!l) return;
    SSL_free(l->ssl); /* and the BIOs */
    OPENSSL_cleanse(l, sizeof *l);
    free(l);
}

bool channel_link_input(struct channel_link *l, const void *bytes, size_t n) {
    if (l->failed) return true; /* of no interest any more */
    return n <= INT32_MAX && (n == 0 || BIO_write(l->in, bytes, (int)n) == (int)n);
}

void channel_link_end(struct channel_link *l) {
    l->ended = true;
}

size_t channel_link_output(struct channel_link *l, const uint8_t **bytes) {
    char *data = NULL;
    long n = BIO_get_mem_data(l->out, &data);
    *bytes = (const uint8_t *)data;
    return n > 0 ? (size_t)n : 0;
}

void channel_link_sent(struct channel_link *l, size_t n) {
    uint8_t scratch[4096];
    while (n > 0) {
        int got = BIO_read(l->out, scratch, n < sizeof scratch ? (int)n : (int)sizeof scratch);
        if (got <= 0) return;
        n -= (size_t)got;
    }
}

bool channel_link_ready(const struct channel_link *l) {
    return !l->failed && SSL_is_init_finished(l->ssl);
}

const char *channel_link_error(const struct channel_link *l) {
    return l->error;
}

static enum channel_step broken(struct channel_link *l, const char *why) {
    if (!l->failed) snprintf(l->error, sizeof l->error, "%s", why);
    l->failed = true;
    ERR_clear_error();
    return CHANNEL_BROKEN;
}

/* What OpenSSL's answer `rc` means. */
static enum channel_step stopped(struct channel_link *l, int rc) {
    char text[160];
    switch (SSL_get_error(l->ssl, rc)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE: return l->ended ? broken(l, "the connection was cut off") : CHANNEL_MORE;
    case SSL_ERROR_ZERO_RETURN:
        if (l->parser.have > l->parser.done) return broken(l, "closed in the middle of a message");
        return CHANNEL_CLOSED;
    default: break;
    }
    unsigned long e = ERR_peek_last_error();
    const char *reason = e ? ERR_reason_error_string(e) : NULL;
    snprintf(text, sizeof text, "TLS: %s", reason ? reason : "failed");
    return broken(l, text);
}

enum channel_step channel_link_next(struct channel_link *l, struct channel_message *m) {
    memset(m, 0, sizeof *m);
    if (l->failed) return CHANNEL_BROKEN;
    ERR_clear_error();
    if (!SSL_is_init_finished(l->ssl)) {
        int rc = SSL_do_handshake(l->ssl);
        if (rc != 1) return stopped(l, rc);
    }
    for (;;) {
        enum channel_step step = channel_parser_next(&l->parser, m);
        if (step == CHANNEL_BROKEN) return broken(l, l->parser.error);
        if (step == CHANNEL_MESSAGE) return step;
        size_t most, n = 0;
        uint8_t *room = channel_parser_room(&l->parser, &most);
        int rc = SSL_read_ex(l->ssl, room, most, &n);
        if (rc != 1) return stopped(l, rc);
        channel_parser_add(&l->parser, n);
    }
}

bool channel_link_send(struct channel_link *l, const struct channel_message *m) {
    static _Thread_local uint8_t frame[CHANNEL_FRAME_MAX];
    if (!channel_link_ready(l) || l->closing) return false;
    size_t n = channel_encode(l->keep ? CHANNEL_KEEP : CHANNEL_TENANT, m, frame), done = 0;
    ERR_clear_error();
    bool ok = n > 0 && SSL_write_ex(l->ssl, frame, n, &done) == 1 && done == n;
    OPENSSL_cleanse(frame, n);
    return ok;
}

void channel_link_close(struct channel_link *l) {
    if (!channel_link_ready(l) || l->closing) return;
    l->closing = true;
    ERR_clear_error();
    SSL_shutdown(l->ssl);
}

bool channel_link_exporter(struct channel_link *l, uint8_t out[32]) {
    return channel_link_ready(l) &&
           SSL_export_keying_material(l->ssl, out, 32, CHANNEL_EXPORTER, sizeof CHANNEL_EXPORTER - 1, NULL, 0, 0) == 1;
}

size_t channel_link_peer_spki(struct channel_link *l, uint8_t *out, size_t most) {
    X509 *x = SSL_get1_peer_certificate(l->ssl);
    EVP_PKEY *key = x ? X509_get0_pubkey(x) : NULL;
    size_t n = key ? encode_spki(key, out, most) : 0;
    X509_free(x);
    return n;
}
