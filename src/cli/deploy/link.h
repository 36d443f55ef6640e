/* The tenant's connection to an agent: TLS 1.3, one line of request, one of reply, then bytes to and from a keep. The
 * agent is not trusted with anything but the token and its own good will to carry bytes; the keep is appraised apart.
 */
#ifndef DONJON_CLI_DEPLOY_LINK_H
#define DONJON_CLI_DEPLOY_LINK_H

#include "channel/client.h"

#include <jansson.h>
#include <openssl/ssl.h>

struct target {
    char host[256], port[8];
    char *key;        /* expected SHA-256 of the agent's public key, hex; NULL */
    char *ca;         /* path; NULL */
    char *token_file; /* path; NULL */
};
/* "HOST[:PORT]"; a key may begin with "sha256:". False with `error`. */
bool target_set(struct target *, const char *host, char *error, size_t size);
bool target_set_key(struct target *, const char *key, char *error, size_t size);
void target_free(struct target *);
struct cli_args;
/* The options that all verbs with a host have; 0, or an exit code after everything has been said. In deploy.c. */
int deploy_host_option(struct target *, struct cli_args *, int id, const char *value);

struct link {
    int fd;
    SSL_CTX *ctx;
    SSL *ssl;
    char key[65];  /* the agent's, as seen */
    bool loopback; /* it is on this machine */
    char error[800];
    /* Bytes that came while something was being sent. */
    unsigned char *stash;
    size_t stash_at, stash_end, stash_room;
};

/* Connects and checks who the agent is. False with ->error; to be closed in any case. */
bool link_open(struct link *, const struct target *);
void link_close(struct link *);
/* Sends {"op":...} with version and token and gives the reply, which has "ok": true; NULL with ->error. Takes the
 * reference to `request`. */
json_t *link_ask(struct link *, const struct target *, json_t *request);
/* One connection for one request that needs no relay. */
json_t *link_ask_once(const struct target *, json_t *request, char *error, size_t size);

struct channel_io link_io(struct link *);
/* What is there without waiting: bytes; 0 at the end, -1 when the connection broke, -2: nothing so far. */
ssize_t link_take(struct link *, void *bytes, size_t most);
/* Something may be there although poll(2) would not say so. */
bool link_pending(const struct link *);

#endif
