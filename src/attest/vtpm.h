/* Quotes of the vTPM in Azure's confidential machines. */
#ifndef DONJON_ATTEST_VTPM_H
#define DONJON_ATTEST_VTPM_H

#include "evidence.h"

enum { VTPM_PCRS = 24, VTPM_PCR_SIZE = 32, VTPM_NONCE_MAX = 64 };

struct vtpm_quote {
    struct attest_bytes nonce, digest;
    uint32_t selected; /* bit n: PCR n of the SHA-256 bank */
};
/* TPMS_ATTEST; null, or what is wrong. */
const char *vtpm_quote_parse(struct attest_bytes message, struct vtpm_quote *);
/* Records vtpm.signature, vtpm.pcrs and the policy's vTPM rules. */
void vtpm_check(struct attest_result *, const struct attest_evidence *, const struct attest_policy *);
/* Facts: nonce and quoted PCRs. */
void vtpm_describe(struct attest_result *, const struct attest_evidence *);
/* What the tenant chose, out of the runtime data of an HCL report. */
void hcl_read_runtime(struct attest_evidence *);

#endif
