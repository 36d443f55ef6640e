/* The certificate of a TLS server. Who it is, the evidence says, not a certificate authority: the chain is not verified
 * here, but the handshake proves that the peer holds the certificate's key. */
#include "attest.h"

#include <stdlib.h>
#include <string.h>

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

bool attest_fetch_certificate(const struct cli_verb *verb, const char *url, struct attest_bytes *out) {
    char host[256], address[300];
    if (!split_url(url, host, sizeof host, address, sizeof address)) {
        cli_error(verb, "%s: expected https://HOST[:PORT]", url);
        return false;
    }
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    BIO *bio = ctx ? BIO_new_ssl_connect(ctx) : NULL, *pem = BIO_new(BIO_s_mem());
    SSL *ssl = NULL;
    X509 *x = NULL;
    bool ok = bio && pem && SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) &&
              BIO_set_conn_hostname(bio, address) == 1 && BIO_get_ssl(bio, &ssl) == 1 && ssl &&
              SSL_set_tlsext_host_name(ssl, host) == 1 && BIO_do_connect(bio) == 1 && BIO_do_handshake(bio) == 1 &&
              (x = SSL_get1_peer_certificate(ssl));
    if (ok) {
        ok = PEM_write_bio_X509(pem, x) == 1;
        STACK_OF(X509) *chain = SSL_get_peer_cert_chain(ssl);
        for (int i = 1; ok && i < sk_X509_num(chain); i++)
            ok = PEM_write_bio_X509(pem, sk_X509_value(chain, i)) == 1;
    }
    char *text;
    long size = ok ? BIO_get_mem_data(pem, &text) : 0;
    uint8_t *copy = size > 0 ? malloc((size_t)size) : NULL;
    if (copy)
        memcpy(copy, text, (size_t)size);
    else {
        const char *reason = ERR_reason_error_string(ERR_peek_error());
        cli_error(verb, "%s: cannot get a certificate: %s", url, reason ? reason : "no connection");
    }
    *out = (struct attest_bytes){copy, copy ? (size_t)size : 0};
    X509_free(x);
    BIO_free(pem);
    BIO_free_all(bio);
    SSL_CTX_free(ctx);
    return copy;
}
