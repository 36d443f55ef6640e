#include "tls_context.h"
#include "peer.h"
#include "tls_conn.h"
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <string.h>

/* Every certificate of the text; for a listener also their names, which clients choose theirs by. */
static bool add_trust(SSL_CTX *ctx, const struct config_file *f) {
    BIO *bio = BIO_new_mem_buf(f->trust, -1);
    X509_STORE *store = SSL_CTX_get_cert_store(ctx);
    size_t count = 0;
    bool ok = bio;
    for (X509 *x; ok && (x = PEM_read_bio_X509(bio, NULL, NULL, NULL)); count++) {
        ok = X509_STORE_add_cert(store, x) == 1;
        if (f->kind == CONFIG_LISTEN) ok = ok && SSL_CTX_add_client_CA(ctx, x) == 1;
        X509_free(x);
    }
    BIO_free(bio);
    if (ok && ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) ok = false; /* not the text's end */
    ERR_clear_error();
    return ok && count > 0;
}

static bool set_policy(SSL_CTX *ctx, const struct config_file *f, void (*log)(void *, const char *), void *log_ctx,
                       char *error, size_t size) {
    char why[256];
    struct peer_policy *p = peer_policy_new(f->peer_policy, why, sizeof why); /* stays for good, as the context does */
    if (p)
        peer_policy_use(p, ctx, *f->trust, log, log_ctx);
    else
        snprintf(error, size, "file \"%s\": peer-policy: %s", f->name, why);
    return p;
}

static bool set_peers(SSL_CTX *ctx, const struct config_file *f, char *error, size_t size) {
    if (*f->trust && !add_trust(ctx, f)) {
        snprintf(error, size, "file \"%s\": trust: a certificate in it cannot be read", f->name);
        return false;
    }
    if (f->kind == CONFIG_CONNECT) SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    if (f->client_auth == CONFIG_CLIENT_AUTH_REQUIRE) {
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
        /* Whoever comes back is looked at again. */
        SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
        SSL_CTX_set_num_tickets(ctx, 0);
    }
    return true;
}

SSL_CTX *tls_context_for(const struct config *c, const struct config_file *f, const struct identity *id,
                         void (*log)(void *, const char *), void *log_ctx, char *error, size_t size) {
    SSL_CTX *ctx = tls_context_new();
    if (ctx && identity_use(id, ctx)) {
        enum { HOUR = 3600 }; /* tickets: whoever comes back later, or after the certificate's life, looks at it anew */
        uint64_t life = c->tls_lifetime / CONFIG_SECOND;
        SSL_CTX_set_timeout(ctx, life < HOUR ? (long)life : HOUR);
        if (set_peers(ctx, f, error, size) && (!*f->peer_policy || set_policy(ctx, f, log, log_ctx, error, size)))
            return ctx;
    } else {
        const char *reason = ERR_reason_error_string(ERR_peek_error());
        snprintf(error, size, "file \"%s\": %s", f->name, reason ? reason : "out of memory");
    }
    ERR_clear_error();
    SSL_CTX_free(ctx);
    return NULL;
}
