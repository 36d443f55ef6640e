/* The keep's certificate: a key made here that never leaves, and what says whose it is. */
#ifndef DONJON_WARDEN_IDENTITY_H
#define DONJON_WARDEN_IDENTITY_H

#include "../config/config.h"
#include <openssl/ssl.h>

struct identity {
    EVP_PKEY *key; /* P-256 */
    X509 *certificate;
    STACK_OF(X509) * chain; /* what comes after it, or NULL */
    int64_t renew_at;       /* seconds since 1970: two thirds of its life are over */
};

/* A new key and a certificate that it signs itself, for c->tls_names (without any: localhost and the loopback's
 * addresses), of c->tls_lifetime from `now` on. What *id held is freed, but only after success. False with the reason.
 */
bool identity_make(struct identity *id, const struct config *c, int64_t now, char *error, size_t size);

/* Makes `ctx` show it from now on. */
bool identity_use(const struct identity *id, SSL_CTX *ctx);

/* Certificate and chain in PEM: malloc, *size bytes. NULL: out of memory. */
char *identity_pem(const struct identity *id, size_t *size);

void identity_free(struct identity *id);

#endif
