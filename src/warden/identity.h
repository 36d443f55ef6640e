/* The keep's certificate: a key made here that never leaves, and what says whose it is. Either signed by that key
 * itself, with the keep's evidence inside, or issued by the workload's steward for a request that has the evidence
 * inside. */
#ifndef DONJON_WARDEN_IDENTITY_H
#define DONJON_WARDEN_IDENTITY_H

#include "../config/config.h"
#include <donjon/attest-identity.h>
#include <openssl/ssl.h>

enum identity_request { IDENTITY_NONCE, IDENTITY_CERTIFY };

/* What the host is asked for. Nothing that comes from it is believed. */
struct identity_host {
    void *ctx;
    /* Evidence over report data, and endorsements (PEM, may be empty); valid until the next call. False: none. */
    bool (*evidence)(void *ctx, const uint8_t report_data[64], struct attest_bytes *evidence,
                     struct attest_bytes *endorsements);
    /* A request to the steward at `url`: the answer's body, valid until the next call of either. False with the reason.
     */
    bool (*steward)(void *ctx, const char *url, enum identity_request which, struct attest_bytes body,
                    struct attest_bytes *answer, char *error, size_t size);
};

struct identity {
    EVP_PKEY *key; /* P-256 */
    X509 *certificate;
    STACK_OF(X509) * chain; /* what comes after it, or NULL */
    int64_t renew_at;       /* seconds since 1970: two thirds of its life are over */
    bool issued;            /* by the steward */
};

/* A new key and certificate for c->tls_names (without any: localhost and 127.0.0.1), of c->tls_lifetime
 * from `now` on. With c->steward and c->steward_ca it is the steward's, or nothing: never one that signs itself. What
 * *id held is freed, but only after success. False with the reason. */
bool identity_make(struct identity *id, const struct config *c, const uint8_t workload[ATTEST_WORKLOAD_DIGEST],
                   const struct identity_host *host, int64_t now, char *error, size_t size);

/* Makes `ctx` show it from now on. */
bool identity_use(const struct identity *id, SSL_CTX *ctx);

/* Certificate and chain in PEM: malloc, *size bytes. NULL: out of memory. */
char *identity_pem(const struct identity *id, size_t *size);

/* The evidence in it, in its wrapper (RFC 9999); empty when there is none. Lives in *id. */
struct attest_bytes identity_evidence(const struct identity *id);

void identity_free(struct identity *id);

#endif
