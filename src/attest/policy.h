/* How policies are consulted. */
#ifndef DONJON_ATTEST_POLICY_CHECKS_H
#define DONJON_ATTEST_POLICY_CHECKS_H

#include "result.h"

bool set_has(const struct attest_set *, const void *bytes, size_t size);
bool words_have(const struct attest_words *, const char *);

/* A set rule: unconstrained sets leave a note; otherwise the value must be one of the set. `key` is the policy's. */
bool check_set(struct attest_result *, enum attest_rule, const char *key, const struct attest_set *, const void *found,
               size_t size);
bool check_words(struct attest_result *, enum attest_rule, const char *key, const struct attest_words *,
                 const char *found);
/* `on` is a property the policy may refuse: "off" is expected. */
bool check_off(struct attest_result *, enum attest_rule, bool on, bool allowed);

/* Rules that do not depend on the TEE. */
void policy_common(struct attest_result *, const struct attest_policy *, enum attest_tee, bool debug);
/* Report data (64 bytes) against report_data and nonce. */
void policy_report_data(struct attest_result *, const struct attest_policy *, const uint8_t report_data[64]);
/* The policy's nonce, then zeros. */
void policy_nonce(struct attest_result *, const struct attest_policy *, const uint8_t field[64]);
/* A workload digest in a field of `size` bytes: digest, then zeros. */
void policy_workload(struct attest_result *, const struct attest_policy *, const uint8_t *field, size_t size);

/* Called by the TOML reader before the values of a key: they replace what the strict policy starts with. */
void attest_policy_reset(struct attest_policy *, const char *key);
/* The n-th key that a policy may have, for its "did you mean"; null after the last. */
const char *attest_policy_key(size_t n);

extern const char *const tcb_status_names[]; /* by bit number of ATTEST_TCB_* */
const char *statuses_text(struct attest_result *, uint32_t statuses);

#endif
