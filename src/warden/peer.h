/* The other end of a connection, appraised: a Verifier in the keep, for connections from keep to keep. */
#ifndef DONJON_WARDEN_PEER_H
#define DONJON_WARDEN_PEER_H

#include <openssl/ssl.h>
#include <stdbool.h>

struct peer_policy;

/* From a configuration's lines (config.h: peer_policy): "key=value" as attest_policy_set takes them, on top of the
 * strict policy, and "development-root=BASE64", a certificate that software evidence may end in. NULL with the reason.
 */
struct peer_policy *peer_policy_new(const char *lines, char *error, size_t size);
void peer_policy_free(struct peer_policy *p);

/* Whether a certificate carries evidence for its own key (in the form of donjon/attest-identity.h) that the policy
 * accepts at `now`, and `now` is within its life. False with the reason. */
bool peer_policy_accepts(const struct peer_policy *p, X509 *certificate, int64_t now, char *reason, size_t size);

/* Makes all of a context's peers subject to it, and, with `chain_too`, to the context's trust anchors. `log` is told
 * why one is refused. The policy must outlive the context. */
void peer_policy_use(struct peer_policy *p, SSL_CTX *ctx, bool chain_too, void (*log)(void *, const char *),
                     void *log_ctx);

#endif
