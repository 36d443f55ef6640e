/* A hostile peer of a TLS connection: the first byte says whether we are the server and how the bytes behind it arrive:
 * all at once, or in pieces of so many. */
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>
#include "warden/tls_conn.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
    const uint8_t *data;
    size_t left, piece;
} net;

static wasi_errno net_recv(struct wasi_file *f, const struct wasi_iov *iov, uint32_t n, uint16_t riflags,
                           uint16_t fdflags, size_t *done, uint16_t *roflags) {
    (void)f, (void)n, (void)riflags, (void)fdflags;
    *roflags = 0;
    *done = net.left < iov->len ? net.left : iov->len;
    if (*done > net.piece) *done = net.piece;
    memcpy(iov->buf, net.data, *done);
    net.data += *done;
    net.left -= *done;
    return WASI_SUCCESS; /* 0 at the end */
}

static wasi_errno net_send(struct wasi_file *f, const struct wasi_iov *iov, uint32_t n, uint16_t fdflags,
                           size_t *done) {
    (void)f, (void)n, (void)fdflags;
    *done = iov->len;
    return WASI_SUCCESS;
}

static wasi_errno net_poll(struct wasi_file *f, struct wasi_poll *out) {
    (void)f;
    out->token = 1;
    return WASI_SUCCESS;
}

static wasi_errno net_shutdown(struct wasi_file *f, uint8_t how) {
    (void)f, (void)how;
    return WASI_SUCCESS;
}

static void net_close(struct wasi_file *f) {
    free(f);
}

static const struct wasi_file_ops net_ops = {
    .close = net_close, .recv = net_recv, .send = net_send, .poll = net_poll, .shutdown = net_shutdown};

static wasi_errno env_poll(void *ctx, struct wasi_poll *items, size_t n, uint64_t timeout,
                           const struct gate_receiver *receiver) {
    (void)ctx, (void)timeout, (void)receiver;
    for (size_t i = 0; i < n; i++)
        items[i].ready = true;
    return WASI_SUCCESS;
}

static wasi_errno env_send_many(void *ctx, struct gate_outgoing *sends, size_t n) {
    (void)ctx;
    for (size_t i = 0; i < n; i++)
        sends[i].taken = sends[i].len, sends[i].error = WASI_SUCCESS;
    return WASI_SUCCESS;
}

static uint64_t env_now(void *ctx) {
    (void)ctx;
    return 1;
}

static void env_log(void *ctx, const char *line) {
    (void)ctx, (void)line;
}

static SSL_CTX *make_context(void) {
    SSL_CTX *ctx = tls_context_new();
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    X509_set_version(x, X509_VERSION_3);
    X509_gmtime_adj(X509_getm_notBefore(x), 0);
    X509_gmtime_adj(X509_getm_notAfter(x), 100000);
    X509_set_pubkey(x, key);
    if (!ctx || X509_sign(x, key, EVP_sha256()) <= 0 || SSL_CTX_use_cert_and_key(ctx, x, key, NULL, 1) != 1) abort();
    X509_free(x);
    EVP_PKEY_free(key);
    return ctx;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static SSL_CTX *ctx;
    static struct conns tls;
    const struct conns_env env = {.poll = env_poll, .send_many = env_send_many, .now = env_now, .log = env_log};
    if (size == 0) return 0;
    if (!ctx) {
        ctx = make_context();
        conns_init(&tls, &env);
    }
    net.data = data + 1;
    net.left = size - 1;
    net.piece = data[0] >> 1 ? data[0] >> 1 : size;
    struct wasi_file *below = calloc(1, sizeof *below);
    wasi_file_init(below, &net_ops, WASI_FILETYPE_SOCKET_STREAM);
    struct wasi_file *f = data[0] & 1 ? tls_server_connection_new(&tls, below, ctx)
                                      : tls_connection_new(&tls, below, ctx, "peer.example");
    if (!f) abort();
    char buf[256];
    struct wasi_iov v = {buf, sizeof buf};
    size_t done = 0;
    wasi_errno e;
    while ((e = f->ops->read(f, &v, 1, 0, &done)) == WASI_SUCCESS && done > 0) {
    }
    if (e == WASI_SUCCESS || e == WASI_EAGAIN) abort(); /* nobody without a key of ours gets through a handshake */
    if (f->ops->write(f, &v, 1, 0, &done) != e) abort();
    wasi_file_unref(f);
    return 0;
}
