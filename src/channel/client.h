/* A tenant's end of the channel: from the first byte to a running workload and its output.
 *
 *     struct channel_client *c = channel_client_new(&io);
 *     channel_client_handshake(c, nonce)                               TLS, HELLO, EVIDENCE
 *     channel_client_appraise(c, verifier, policy, now, &result)      is it a keep, the right one, and ours alone?
 *     channel_client_open(c, CHANNEL_DEPLOY, 0, owner)
 *     channel_client_deliver(c, &delivery)                            configuration, module, files, secrets
 *     channel_client_start(c, 0)                                      ACCEPTED
 *     while (channel_client_wait(c, &event) && event.kind != ...)     output, exit
 *     channel_client_free(c);
 *
 * Nothing that matters leaves before channel_client_appraise was satisfied: channel_client_open refuses until then.
 * Each function gives false with a sentence in channel_client_error; the client is then of no further use. */
#ifndef DONJON_CHANNEL_CLIENT_H
#define DONJON_CHANNEL_CLIENT_H

#include "binding.h"
#include <sys/types.h>

/* How bytes travel: an agent's relay, a socket. Both may block as long as they like. */
struct channel_io {
    void *ctx;
    bool (*send)(void *ctx, const void *bytes, size_t n); /* all of them; false: the connection is gone */
    ssize_t (*recv)(void *ctx, void *bytes, size_t most); /* 0: the end; -1: the connection is gone */
};

struct channel_client;
struct channel_client *channel_client_new(const struct channel_io *io); /* `io` is copied. NULL: no memory */
void channel_client_free(struct channel_client *c);
const char *channel_client_error(const struct channel_client *c); /* one sentence; "" when nothing has gone wrong */

/* TLS handshake, HELLO with a nonce that was never used before (NULL: a random one), EVIDENCE. */
bool channel_client_handshake(struct channel_client *c, const uint8_t *nonce);

/* What the keep has answered; valid until the client is freed. */
struct channel_bytes channel_client_evidence(const struct channel_client *c); /* attest_evidence_open takes it */
struct channel_bytes channel_client_endorsements(const struct channel_client *c);
const uint8_t *channel_client_report_data(const struct channel_client *c); /* the 64 bytes the evidence must be over */
const uint8_t *channel_client_nonce(const struct channel_client *c);
enum channel_state channel_client_state(const struct channel_client *c);
const uint8_t *channel_client_digest(const struct channel_client *c); /* of its workload; zeros: it has none */

/* Appraises the evidence, with the policy's report data replaced by the only right one. A policy that names workloads
 * is held against the digest of the workload that runs (one that is still to come is checked by channel_client_start).
 * `result` is filled whenever evidence could be read. True: accepted; deliveries are possible now.
 * In appraise.c: programs that do not call it do not link the Verifier. */
struct attest_verifier;
struct attest_policy;
struct attest_result;
bool channel_client_appraise(struct channel_client *c, struct attest_verifier *verifier,
                             const struct attest_policy *policy, int64_t now, struct attest_result *result);
/* Instead of the above, for callers that have appraised the evidence by other means. */
void channel_client_accept(struct channel_client *c);

/* OPEN, and the keep's OPENED. flags: enum channel_open_flags. */
bool channel_client_open(struct channel_client *c, enum channel_purpose purpose, uint8_t flags,
                         const uint8_t owner[CHANNEL_OWNER]);

/* A workload, in memory. Files must be in the order of channel_path_compare, none twice (channel_files_sort).
 *
 * Content may be a layer of an encrypted package as it is (sealed.h): the keep opens it with `key`, which is
 * sent to it alone. What it will then hold is known by its SHA-256. */
struct channel_sealed {
    struct channel_bytes title;     /* under which it was sealed; of the module: none */
    uint8_t digest[CHANNEL_DIGEST]; /* SHA-256 of the content */
};
struct channel_file {
    struct channel_bytes path, content;
    const struct channel_sealed *sealed; /* NULL: plain */
};
struct channel_secret {
    const char *name;
    struct channel_bytes value;
};
struct channel_delivery {
    struct channel_bytes config, module; /* wire form; wasm */
    const struct channel_sealed *sealed; /* of the module; NULL: plain */
    const uint8_t *key;                  /* SEALED_KEY bytes; NULL: nothing is sealed */
    const struct channel_file *files;
    size_t n_files;
    const struct channel_secret *secrets;
    size_t n_secrets;
    void (*progress)(void *ctx, uint64_t done, uint64_t all); /* bytes; NULL: nobody wants to know */
    void *progress_ctx;
};
/* False: two have the same path. */
bool channel_files_sort(struct channel_file *files, size_t n);
/* The digest that the keep will compute. False: files out of order, bad paths. */
bool channel_delivery_digest(const struct channel_delivery *d, uint8_t out[CHANNEL_DIGEST]);
bool channel_client_deliver(struct channel_client *c, const struct channel_delivery *d);
/* START with the digest of what was delivered, and ACCEPTED. flags: enum channel_start_flags. */
bool channel_client_start(struct channel_client *c, uint8_t flags);

/* ---- while it runs ---- */

enum channel_event_kind {
    CHANNEL_EVENT_NONE,    /* nothing is there yet */
    CHANNEL_EVENT_STDOUT,  /* bytes */
    CHANNEL_EVENT_STDERR,  /* bytes */
    CHANNEL_EVENT_LOST,    /* size: bytes of output that are gone */
    CHANNEL_EVENT_STARTED, /* detached: the program runs; CLOSED follows */
    CHANNEL_EVENT_EXIT,    /* exit_kind, status, bytes: its last words (may have control characters) */
    CHANNEL_EVENT_CLOSED,  /* the keep has closed properly: there is nothing more */
    CHANNEL_EVENT_FAILED,  /* channel_client_error */
};
struct channel_event {
    enum channel_event_kind kind;
    struct channel_bytes bytes; /* until the next event */
    uint64_t size;
    uint8_t exit_kind; /* enum gate_exit */
    uint32_t status;
};
/* For loops of poll(2): gives bytes that the caller has received (n = 0: there are no more), then takes events until
 * CHANNEL_EVENT_NONE. Never blocks, never calls io->recv. */
void channel_client_input(struct channel_client *c, const void *bytes, size_t n);
enum channel_event_kind channel_client_next(struct channel_client *c, struct channel_event *e);
/* The next event, received with io->recv. */
enum channel_event_kind channel_client_wait(struct channel_client *c, struct channel_event *e);

/* What is said when the keep has gone already is lost without a word: how it ended is an event. */
bool channel_client_stdin(struct channel_client *c, const void *bytes, size_t n);
/* Bytes of input that the keep takes now: channel_client_stdin fails for more. What is 0 may be more after events. */
size_t channel_client_credit(const struct channel_client *c);
bool channel_client_stdin_end(struct channel_client *c);
bool channel_client_detach(struct channel_client *c); /* the keep closes; the program goes on */
bool channel_client_stop(struct channel_client *c);   /* the program ends: CHANNEL_EVENT_EXIT follows */
bool channel_client_ping(struct channel_client *c);

#endif
