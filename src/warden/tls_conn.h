/* TLS over the gate's sockets, as WASI files: a connection reads and writes plaintext, a listener accepts connections,
 * and the program knows nothing of it. Knows OpenSSL and WASI's files, not the warden (conn.h).
 *
 * The handshake is made by whatever comes first: reading, writing, or waiting. poll_oneoff says that a connection is
 * readable when there is plaintext, an end, or an error, not when some bytes have come; it is writable when ciphertext
 * of earlier writes is gone. So a peer that sends half a record keeps nobody from anything.
 *
 * Large writes are encrypted into the gate's data area and sent from there; only what the socket does not take is
 * copied.
 *
 * Memory of a connection: OpenSSL's own state, one record's buffer while a record is incomplete, and what the socket
 * did not take of the last piece written: CONN_OUT bytes, or as much as the gate's data area while all connections
 * together have less than CONN_UNSENT. Never more: a write that does not fit is EAGAIN, or waits. */
#ifndef DONJON_WARDEN_TLS_CONN_H
#define DONJON_WARDEN_TLS_CONN_H

#include "conn.h"
#include <openssl/ssl.h>

enum {
    TLS_RECORD_MORE = 22, /* a TLS 1.3 record beyond its plaintext: header 5, type 1, tag 16 */
    TLS_OUT_SPARE = 1024, /* left for what OpenSSL has to say by itself: key updates, close_notify */
    TLS_WRITE = CONN_OUT - TLS_OUT_SPARE - 4 * TLS_RECORD_MORE, /* plaintext at once: three records and a part of one */
    TLS_STAGE = 16 * 1024 /* plaintext in one write from which on it is encrypted in the gate itself */
};
#define TLS_HANDSHAKE_NS UINT64_C(10000000000) /* a peer that takes longer is dropped */

/* Files over `below`, whose reference is taken over, also on failure; NULL: out of memory. `ctx` stays the caller's and
 * must outlive the file. `fresh` (or NULL) is called before each accepted connection begins: the moment to renew a
 * certificate. `peer` is what a server's certificate must be for: a DNS name or an address. */
struct wasi_file *tls_listener_new(struct conns *all, struct wasi_file *below, SSL_CTX *ctx, void (*fresh)(void *),
                                   void *fresh_ctx);
struct wasi_file *tls_server_connection_new(struct conns *all, struct wasi_file *below, SSL_CTX *ctx);
struct wasi_file *tls_connection_new(struct conns *all, struct wasi_file *below, SSL_CTX *ctx, const char *peer);

/* What every context of ours has: TLS 1.3 only, no renegotiation, no compression, no early data, small buffers. NULL:
 * out of memory. */
SSL_CTX *tls_context_new(void);

#endif
