/* What a tenant remembers of a deployment: enough to find the keep again, to appraise it as the first time, and to
 * prove to it who its owner is. One file each, $XDG_STATE_HOME/donjon/deployments/ID.json (0600): the owner's secret is
 * in it. */
#ifndef DONJON_CLI_DEPLOY_DEPLOYMENT_H
#define DONJON_CLI_DEPLOY_DEPLOYMENT_H

#include "agent/request.h"
#include "link.h"
#include "trust.h"

#include "../cli.h"

struct deployment {
    char id[KEEP_ID + 1], name[KEEP_NAME_MAX + 1], app[256], backend[16];
    struct target target; /* with the agent's key as it was seen */
    uint8_t owner[CHANNEL_OWNER], digest[CHANNEL_DIGEST];
    int64_t created;
    struct trust trust;
};

void deployment_free(struct deployment *); /* zeroes the owner's secret */
/* Writes or replaces the file; false, said. */
bool deployment_save(const struct cli_verb *, const struct deployment *);
void deployment_forget(const char *id);
/* By id, the beginning of one (4 digits or more), or name. False, said: none, or several. */
bool deployment_find(const struct cli_verb *, const char *what, struct deployment *);
/* Every deployment, oldest first; the caller frees each and the array. */
struct deployment *deployment_all(size_t *n);

/* Reconnects to the deployment's keep and appraises it; says what is wrong. `nonce` NULL: random. A false after
 * `*judged` means that there is evidence, and that it was rejected. */
bool deployment_reach(const struct cli_verb *, const struct deployment *, const uint8_t *nonce, struct link *,
                      struct channel_client **, struct attest_result *, bool *judged);

#endif
