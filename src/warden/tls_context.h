/* What a TLS file of the configuration asks of its peers, as OpenSSL's context. */
#ifndef DONJON_WARDEN_TLS_CONTEXT_H
#define DONJON_WARDEN_TLS_CONTEXT_H

#include "../config/config.h"
#include "identity.h"

/* For a listen or connect file of `c`; `log` is told why a peer is refused by its peer-policy. The context lives as
 * long as the keep. NULL with the reason in `error`. */
SSL_CTX *tls_context_for(const struct config *c, const struct config_file *f, const struct identity *id,
                         void (*log)(void *, const char *), void *log_ctx, char *error, size_t size);

#endif
