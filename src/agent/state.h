/* The agent's state directory: small files written whole or not at all, and who the agent is. */
#ifndef DONJON_AGENT_STATE_H
#define DONJON_AGENT_STATE_H

#include "fingerprint.h"
#include <stdbool.h>
#include <stddef.h>

#include <openssl/ssl.h>

/* Of the directory, with its NUL: a unix socket's path, DIR/keeps/ID/control, has at most 107 bytes (unix(7)). */
enum { STATE_PATH_MAX = 108 - 7 - 32 - 8 };

struct state {
    char path[STATE_PATH_MAX];
    int dir, keeps, records; /* itself; keeps/ and records/ in it */
    int lock;                /* held while an agent runs on it */
};

/* Opens or makes it (0700). False, said: not ours, or another agent has it. */
bool state_open(struct state *, const char *path, char *error, size_t size);
void state_close(struct state *);

/* Files of at most 1 MiB in the directory `dir`. Written beside, synchronised, renamed. */
bool state_write(int dir, const char *name, const void *data, size_t size, unsigned mode);
char *state_read(int dir, const char *name, size_t *size); /* NUL behind its end; NULL with errno */
/* Removes directory `name` in `dir` and the plain files and sockets in it. */
bool state_remove(int dir, const char *name);

/* The agent's key and certificate (made at the first start: P-256, self-signed) as a TLS 1.3 server context, and
 * the digest tenants know it by: SHA-256 of the DER SubjectPublicKeyInfo, hex. */
SSL_CTX *state_tls(struct state *, char fingerprint[FINGERPRINT + 1], char *error, size_t size);

/* The software signer for backends without a TEE, made at the first start: dev-signer.pem, and dev-root.pem, the
 * development root that a tenant may trust for tests. Gives the root's PEM (free()). */
char *state_signer(struct state *, char *error, size_t size);

#endif
