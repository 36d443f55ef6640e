/* What a tenant asks of a keep before it gets anything: policy, reference values, roots, collateral. */
#ifndef DONJON_CLI_DEPLOY_TRUST_H
#define DONJON_CLI_DEPLOY_TRUST_H

#include "../cli.h"

#include "channel/client.h"

#include <donjon/attest.h>
#include <jansson.h>

enum { TRUST_COLLATERAL_MAX = 32 };
struct trust {
    char *policy;     /* TOML text; NULL: genuine, with `measurement` */
    char *root;       /* development root, PEM; NULL: the agent's word is taken for it (allow_no_tee only) */
    char *agent_root; /* what the agent says the development root is */
    char *collateral[TRUST_COLLATERAL_MAX]; /* paths */
    size_t n_collateral;
    bool allow_no_tee;
    char measurement[2 * ATTEST_SNP_DIGEST + 1]; /* of the release this tenant has, hex; empty: not to be checked */
};
void trust_free(struct trust *);
json_t *trust_to_json(const struct trust *);
bool trust_from_json(struct trust *, const json_t *);

/* The measurement that a keep of the shim and warden in `dir` has (NULL: beside this program). False, said. */
bool trust_measure(const struct cli_verb *, struct trust *, const char *dir);

/* Appraises what the keep has answered. False: rejected (`result` says why where there is something to say), or nothing
 * to appraise, and then said. */
bool trust_appraise(const struct cli_verb *, const struct trust *, struct channel_client *, struct attest_result *);

#endif
