/* The keep's certificate: a key made here that never leaves, and what says whose it is. Either signed by that key
 * itself, with the keep's evidence inside, or issued by the workload's steward for a request that has the evidence
 * inside. */
#ifndef DONJON_WARDEN_IDENTITY_H
#define DONJON_WARDEN_IDENTITY_H

#include "../config/config.h"
#include <donjon/attest-identity.h>
#include <openssl/ssl.h>

enum identity_request { IDENTITY_NONCE, IDENTITY_CERTIFY };
enum identity_state {
    IDENTITY_WAITS,  /* for the host */
    IDENTITY_READY,  /* it is there */
    IDENTITY_FAILED, /* the steward was not reached, or is not well: another time it may be */
    IDENTITY_REFUSED /* somebody said no, or something that cannot be believed */
};

/* What the host is asked for. Nothing that comes from it is believed. */
struct identity_host {
    void *ctx;
    /* Evidence over report data, and endorsements (PEM, may be empty); valid until the next call. False: none. */
    bool (*evidence)(void *ctx, const uint8_t report_data[64], struct attest_bytes *evidence,
                     struct attest_bytes *endorsements);
    /* Begins a request to the steward at `url`, one at a time: IDENTITY_WAITS, or why it cannot. */
    enum identity_state (*ask)(void *ctx, const char *url, enum identity_request which, struct attest_bytes body,
                               char *error, size_t size);
    /* What has come of it: the answer's body, valid until the next call of any of these; or why there is none. */
    enum identity_state (*answer)(void *ctx, struct attest_bytes *answer, char *error, size_t size);
    /* It is over, or nobody wants it any more. Also without a request. */
    void (*forget)(void *ctx);
};

struct identity {
    EVP_PKEY *key; /* P-256 */
    X509 *certificate;
    STACK_OF(X509) * chain; /* what comes after it, or NULL */
    int64_t renew_at, ends; /* seconds since 1970: two thirds of its life are over; all of it */
    bool issued;            /* by the steward */
};

/* One that is being made. Zeroed: none. */
struct identity_making {
    struct identity id;
    enum identity_request asked; /* with id.key: what the steward was asked last */
};

/* A new key and certificate for c->tls_names (without any: localhost and 127.0.0.1), of c->tls_lifetime
 * from `now` on. With c->steward and c->steward_ca it is the steward's, or nothing: never one that signs itself; that
 * takes two requests, each an IDENTITY_WAITS. Nothing here waits. IDENTITY_READY: in m->id, the caller's from now on.
 * IDENTITY_FAILED, IDENTITY_REFUSED: with the reason; *m is empty again. */
enum identity_state identity_begin(struct identity_making *m, const struct config *c,
                                   const uint8_t workload[ATTEST_WORKLOAD_DIGEST], const struct identity_host *host,
                                   int64_t now, char *error, size_t size);
/* Goes on with what the steward has answered, if it has. */
enum identity_state identity_go_on(struct identity_making *m, const struct config *c,
                                   const uint8_t workload[ATTEST_WORKLOAD_DIGEST], const struct identity_host *host,
                                   int64_t now, char *error, size_t size);
/* Lets it be. */
void identity_give_up(struct identity_making *m, const struct identity_host *host);

/* Makes `ctx` show it from now on. */
bool identity_use(const struct identity *id, SSL_CTX *ctx);

/* Certificate and chain in PEM: malloc, *size bytes. NULL: out of memory. */
char *identity_pem(const struct identity *id, size_t *size);

/* The evidence in it, in its wrapper (RFC 9999); empty when there is none. Lives in *id. */
struct attest_bytes identity_evidence(const struct identity *id);

void identity_free(struct identity *id);

#endif
