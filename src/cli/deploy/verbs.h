/* The tenant's verbs. Their tables (options, help) are in `donjon` too; their work is in `donjon-deploy`. */
#ifndef DONJON_CLI_DEPLOY_VERBS_H
#define DONJON_CLI_DEPLOY_VERBS_H

#include "../cli.h"
#include "../run.h"

extern const struct cli_verb verb_deploy, verb_ps, verb_logs, verb_attach, verb_stop, verb_evidence;

int main_deploy(struct cli_args *);
int main_ps(struct cli_args *);
int main_logs(struct cli_args *);
int main_attach(struct cli_args *);
int main_stop(struct cli_args *);
int main_evidence(struct cli_args *);

/* What `deploy` shares with `run` (environment, limits, ...) has run's ids. */
enum deploy_option {
    DEPLOY_HOST = OPT_OTHERS,
    DEPLOY_AGENT_KEY,
    DEPLOY_AGENT_CA,
    DEPLOY_TOKEN_FILE,
    DEPLOY_BACKEND,
    DEPLOY_POLICY,
    DEPLOY_NO_TEE,
    DEPLOY_ROOT,
    DEPLOY_COLLATERAL,
    DEPLOY_REFERENCE,
    DEPLOY_SECRET,
    DEPLOY_FILE,
    DEPLOY_DETACH,
    DEPLOY_RESTART,
    DEPLOY_INTO,
    DEPLOY_NAME,
    DEPLOY_MEMORY,
    DEPLOY_JSON,
    DEPLOY_FOLLOW,
    DEPLOY_NONCE,
    DEPLOY_OUTPUT,
    DEPLOY_QUIET,
    DEPLOY_DRY,
    DEPLOY_VERIFY_KEY,
    DEPLOY_DECRYPT_KEY,
    DEPLOY_PLAIN_HTTP,
    DEPLOY_CA_FILE,
    DEPLOY_OPTIONS_END
};
_Static_assert((int)DEPLOY_OPTIONS_END < (int)KEY_LIMITS, "ids below those of limits");

#endif
