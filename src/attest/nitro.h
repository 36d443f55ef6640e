/* AWS Nitro Enclaves attestation document (AWS, "Verifying the root of trust"): COSE_Sign1 over a CBOR map. */
#ifndef DONJON_ATTEST_NITRO_H
#define DONJON_ATTEST_NITRO_H

#include "verifier.h"

enum {
    NITRO_PCRS = 32,
    NITRO_PCR_SIZE = 48,
    NITRO_SIGNATURE = 96,
    NITRO_CERT_MAX = 1024,
    NITRO_BUNDLE_MAX = 8,
    NITRO_FIELD_MAX = 1024
};

struct nitro {
    struct attest_bytes protected_header, payload, signature;
    struct attest_bytes module_id, digest, certificate, public_key, user_data, nonce;
    uint64_t timestamp_ms;
    const uint8_t *pcr[NITRO_PCRS]; /* null: absent */
    struct attest_bytes bundle[NITRO_BUNDLE_MAX];
    size_t bundle_count;
};

/* Null, or what is wrong. */
const char *nitro_parse(struct attest_bytes, struct nitro *);
bool nitro_looks_like(struct attest_bytes);
void nitro_describe(struct attest_result *, const struct nitro *);
void nitro_verify(struct attest_verifier *, struct attest_bytes, const struct attest_policy *, int64_t now,
                  struct attest_result *);

#endif
