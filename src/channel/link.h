/* One end of a channel: TLS 1.3 and frames over it, without any input or output of its own. Whoever owns a link brings
 * the bytes that came from the other side and takes those that are to go there.
 *
 *     channel_link_input(l, bytes, n);
 *     while (channel_link_next(l, &message) == CHANNEL_MESSAGE) ...
 *     while ((n = channel_link_output(l, &bytes)) > 0) { sent = send(..., bytes, n); channel_link_sent(l, sent); }
 *
 * TLS 1.3 only; no tickets, no resumption, no early data; ALPN CHANNEL_ALPN. The keep's certificate is self-signed and
 * nobody looks at it but for its key: what the tenant believes is the evidence bound to that key and to this
 * connection (binding.h). */
#ifndef DONJON_CHANNEL_LINK_H
#define DONJON_CHANNEL_LINK_H

#include "channel.h"

/* The keep's key and certificate, or the tenant's settings: one for all links. NULL: OpenSSL has failed. */
struct channel_tls;
struct channel_tls *channel_tls_keep(void); /* a fresh P-256 key, from the process's random numbers */
struct channel_tls *channel_tls_tenant(void);
void channel_tls_free(struct channel_tls *t);
/* DER SubjectPublicKeyInfo of the keep's key: valid as long as `t`. */
struct channel_bytes channel_tls_spki(const struct channel_tls *t);

struct channel_link;
struct channel_link *channel_link_new(struct channel_tls *t); /* NULL: OpenSSL has failed, or no memory */
void channel_link_free(struct channel_link *l);               /* zeroes what it holds */

/* Bytes from the other side. False: no memory. */
bool channel_link_input(struct channel_link *l, const void *bytes, size_t n);
/* There will be no more: a link that has not been closed properly is then broken ("cut off"). */
void channel_link_end(struct channel_link *l);
/* What is to be sent: up to a link's end, also after CHANNEL_CLOSED and CHANNEL_BROKEN (alerts). */
size_t channel_link_output(struct channel_link *l, const uint8_t **bytes);
void channel_link_sent(struct channel_link *l, size_t n);

/* The next message, until the next call of this function; the bytes of the one before are zeroed. Goes on with the
 * handshake too. After CHANNEL_BROKEN channel_link_error says why. */
enum channel_step channel_link_next(struct channel_link *l, struct channel_message *m);
const char *channel_link_error(const struct channel_link *l);

/* The handshake is done. */
bool channel_link_ready(const struct channel_link *l);
/* One message more into the output. False: not ready, ended, or not a message that this side may send. */
bool channel_link_send(struct channel_link *l, const struct channel_message *m);
/* Nothing more will be sent: close_notify. What the other side says is still read. */
void channel_link_close(struct channel_link *l);

/* Of a ready link. */
bool channel_link_exporter(struct channel_link *l, uint8_t out[32]);
/* The keep's key as the tenant has seen it: DER, into `out`; gives its size, 0 when it does not fit. */
size_t channel_link_peer_spki(struct channel_link *l, uint8_t *out, size_t most);

#endif
