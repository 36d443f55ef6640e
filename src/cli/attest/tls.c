/* The certificate of a TLS server. Who it is, the evidence says, not a certificate authority: the chain is not verified
 * here, but the handshake proves that the peer holds the certificate's key. */
#include "attest.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

/* https://host[:port][/...] */
static bool split_url(const char *url, char *host, size_t host_size, char *address, size_t address_size) {
    if (strncmp(url, "https://", 8) != 0) return false;
    const char *at = url + 8, *end = at + strcspn(at, "/?#"), *port = NULL;
    bool literal = *at == '['; /* IPv6 */
    const char *host_end = literal ? memchr(at, ']', (size_t)(end - at)) : memchr(at, ':', (size_t)(end - at));
    if (literal && !host_end) return false;
    if (!host_end) host_end = end;
    const char *colon = literal ? host_end + 1 : host_end;
    if (colon < end && *colon == ':') port = colon + 1;
    int n = snprintf(host, host_size, "%.*s", (int)(host_end - at - literal), at + literal);
    int m = snprintf(address, address_size, "%.*s:%.*s", (int)((literal ? host_end + 1 : host_end) - at), at,
                     port ? (int)(end - port) : 3, port ? port : "443");
    return n > 0 && (size_t)n < host_size && m > 0 && (size_t)m < address_size;
}

enum { PATIENCE = 20 /* seconds, for the connection and for each answer */ };

/* Waits for the connection, but not for ever; what is refused is not tried again. */
static bool connected(BIO *tcp) {
    time_t end = time(NULL) + PATIENCE;
    BIO_set_nbio(tcp, 1);
    while (BIO_do_connect(tcp) <= 0)
        if (!BIO_should_retry(tcp) || BIO_wait(tcp, end, 0) <= 0) return false;
    return true;
}

static BIO *connect_to(const char *address) {
    BIO *tcp = BIO_new_connect(address);
    int fd = -1;
    struct timeval patience = {.tv_sec = PATIENCE};
    if (tcp && connected(tcp) && BIO_get_fd(tcp, &fd) >= 0 && BIO_socket_nbio(fd, 0) == 1 &&
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0 &&
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) == 0)
        return tcp;
    BIO_free(tcp);
    return NULL;
}

/* The server's certificates, its own first, in PEM. */
static bool write_chain(BIO *pem, SSL *ssl) {
    X509 *x = SSL_get1_peer_certificate(ssl);
    bool ok = x && PEM_write_bio_X509(pem, x) == 1;
    STACK_OF(X509) *chain = SSL_get_peer_cert_chain(ssl);
    for (int i = 1; ok && i < sk_X509_num(chain); i++)
        ok = PEM_write_bio_X509(pem, sk_X509_value(chain, i)) == 1;
    X509_free(x);
    return ok;
}

/* ": why", as far as OpenSSL knows; of a failed connection the resolver's or the system's words. */
static const char *last_reason(char *out, size_t size) {
    const char *data = NULL;
    int flags = 0;
    unsigned long first = ERR_peek_error(); /* the system's word, before what OpenSSL's layers made of it */
    if (ERR_SYSTEM_ERROR(first)) {
        snprintf(out, size, ": %s", strerror(ERR_GET_REASON(first)));
        return out;
    }
    unsigned long code = ERR_peek_last_error_all(NULL, NULL, NULL, &data, &flags);
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    bool said = data && *data && flags & ERR_TXT_STRING;
    snprintf(out, size, "%s%s%s%s", reason || said ? ": " : "", reason ? reason : "", reason && said ? ": " : "",
             said ? data : "");
    return out;
}

bool attest_fetch_certificate(const struct cli_verb *verb, const char *url, struct attest_bytes *out) {
    char host[256], address[300], why[256];
    if (!split_url(url, host, sizeof host, address, sizeof address)) {
        cli_error(verb, "%s: expected https://HOST[:PORT]", url);
        return false;
    }
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = ctx && SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) ? SSL_new(ctx) : NULL;
    BIO *tcp = ssl ? connect_to(address) : NULL, *pem = BIO_new(BIO_s_mem());
    const char *step = tcp ? "the TLS handshake failed" : "no connection";
    if (tcp) SSL_set_bio(ssl, tcp, tcp);
    bool ok = tcp && pem && SSL_set_tlsext_host_name(ssl, host) == 1 && SSL_connect(ssl) == 1 && write_chain(pem, ssl);
    char *text;
    long size = ok ? BIO_get_mem_data(pem, &text) : 0;
    uint8_t *copy = size > 0 ? malloc((size_t)size) : NULL;
    if (copy)
        memcpy(copy, text, (size_t)size);
    else {
        cli_error(verb, "%s: cannot get a certificate: %s%s", url, step, last_reason(why, sizeof why));
    }
    *out = (struct attest_bytes){copy, copy ? (size_t)size : 0};
    BIO_free(pem);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    return copy;
}
