/* TLS over the gate's sockets, as WASI files: a connection reads and writes plaintext, a listener accepts connections,
 * and the program knows nothing of it. Knows OpenSSL and WASI's files, not the warden: everything else comes through
 * struct tls_env and the file below.
 *
 * The handshake is made by whatever comes first: reading, writing, or waiting. poll_oneoff says that a connection is
 * readable when there is plaintext, an end, or an error, not when some bytes have come; it is writable when ciphertext
 * of earlier writes is gone. So a peer that sends half a record keeps nobody from anything.
 *
 * Calls of the gate are what costs most in a virtual machine. So waiting brings along what has come (TLS_IN bytes for
 * each connection), and what a program writes while it has more than one ready connection before it is sent together
 * when it waits next. A program that has one ready connection, or that does not use O_NONBLOCK, or that takes longer
 * than TLS_BATCH_NS from one write to the next, sends at once.
 *
 * Large writes are encrypted into the gate's data area and sent from there; only what the socket does not take is
 * copied.
 *
 * Memory of a connection: OpenSSL's own state, one record's buffer while a record is incomplete, and what the socket
 * did not take of the last piece written: TLS_OUT bytes, or as much as the gate's data area while all connections
 * together have less than TLS_UNSENT. Never more: a write that does not fit is EAGAIN, or waits. */
#ifndef DONJON_WARDEN_TLS_CONN_H
#define DONJON_WARDEN_TLS_CONN_H

#include "gatefile.h"
#include <openssl/ssl.h>

enum {
    TLS_OUT = 64 * 1024,  /* ciphertext gathered before it is sent */
    TLS_RECORD_MORE = 22, /* a TLS 1.3 record beyond its plaintext: header 5, type 1, tag 16 */
    TLS_OUT_SPARE = 1024, /* left for what OpenSSL has to say by itself: key updates, close_notify */
    TLS_WRITE = TLS_OUT - TLS_OUT_SPARE - 4 * TLS_RECORD_MORE, /* plaintext at once: three records and a part of one */
    TLS_STAGE = 16 * 1024,        /* plaintext in one write from which on it is encrypted in the gate itself */
    TLS_UNSENT = 8 * 1024 * 1024, /* ciphertext that sockets have not taken, beyond which pieces are of TLS_OUT bytes */
    TLS_IN = 32 * 1024,           /* ciphertext received ahead */
    TLS_BATCH = 64,               /* connections whose writes are sent together */
    TLS_LINGERING = 256,          /* closed connections that still send, at most */
    TLS_POLL = 2048 - 32          /* things waited for at once: the gate's own limit */
};
#define TLS_HANDSHAKE_NS UINT64_C(10000000000) /* a peer that takes longer is dropped */
#define TLS_BATCH_NS     UINT64_C(200000)
#define TLS_LINGER_NS    UINT64_C(10000000000) /* what a closed connection still has to send must be gone by then */

struct tls_env {
    void *ctx;
    /* Waits over the tokens of the files below: struct wasi_host's `poll`, TLS_POLL items at most. What has come for
     * sockets goes to the receiver at once, unless it is NULL. */
    wasi_errno (*poll)(void *ctx, struct wasi_poll *items, size_t n, uint64_t timeout,
                       const struct gate_receiver *receiver);
    /* Sends for many of the files below, waiting for none: gate_send_many. */
    wasi_errno (*send_many)(void *ctx, struct gate_outgoing *sends, size_t n);
    /* A place to make bytes in that send_staged then sends, as far as the socket takes them without waiting
     * (WASI_EAGAIN: none); until then nothing else here may be called. NULL: there is none. */
    uint8_t *(*stage)(void *ctx, size_t *size);
    wasi_errno (*send_staged)(void *ctx, struct wasi_file *socket, uint32_t len, uint32_t *taken);
    uint64_t (*now)(void *ctx); /* nanoseconds of a clock that does not go backwards */
    void (*log)(void *ctx, const char *line);
};

/* What all connections share. */
struct tls {
    struct tls_env env;
    struct tls_conn *unsent; /* connections with ciphertext that their sockets have not taken */
    uint32_t lingering;      /* those of them that the program has closed */
    struct wasi_poll *items; /* of the poll that is in progress */
    bool looking;
    bool receives[TLS_POLL];
    uint32_t ready;            /* connections that the last poll found ready */
    uint64_t pace_at;          /* when it was, or when the program wrote last */
    uint32_t held, held_bytes; /* connections among `unsent` that have not been tried so far, and their bytes */
    size_t unsent_size;        /* of all buffers of connections among `unsent` */
    uint8_t *spare;            /* a buffer of TLS_OUT bytes that nobody uses, or NULL */
    struct wasi_poll work[TLS_POLL];
};

void tls_init(struct tls *t, const struct tls_env *env);

/* Files over `below`, whose reference is taken over, also on failure; NULL: out of memory. `ctx` stays the caller's and
 * must outlive the file. `fresh` (or NULL) is called before each accepted connection begins: the moment to renew a
 * certificate. `peer` is what a server's certificate must be for: a DNS name or an address. */
struct wasi_file *tls_listener_new(struct tls *t, struct wasi_file *below, SSL_CTX *ctx, void (*fresh)(void *),
                                   void *fresh_ctx);
struct wasi_file *tls_server_connection_new(struct tls *t, struct wasi_file *below, SSL_CTX *ctx);
struct wasi_file *tls_connection_new(struct tls *t, struct wasi_file *below, SSL_CTX *ctx, const char *peer);

/* struct wasi_host's `poll`, over these files' tokens and those of env.poll. */
wasi_errno tls_poll(struct tls *t, struct wasi_poll *items, size_t n, uint64_t timeout);

/* Sends what is held back. To be called before the program waits for anything else. */
void tls_send_held(struct tls *t);

/* Sends what is unsent, for `timeout` nanoseconds at most. */
void tls_flush_all(struct tls *t, uint64_t timeout);

/* What every context of ours has: TLS 1.3 only, no renegotiation, no compression, no early data, small buffers. NULL:
 * out of memory. */
SSL_CTX *tls_context_new(void);

#endif
