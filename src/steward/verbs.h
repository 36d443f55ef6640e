/* The verbs of the steward: their tables are in `donjon` too, for help and man pages; their work is in donjon-steward.
 */
#ifndef DONJON_STEWARD_VERBS_H
#define DONJON_STEWARD_VERBS_H

#include "cli/cli.h"

extern const struct cli_verb verb_steward, verb_steward_init, verb_steward_audit;

enum {
    STEWARD_OPT_CONFIG = 1,
    STEWARD_OPT_CHECK,
    STEWARD_OPT_NAME,
    STEWARD_OPT_KEY,
    STEWARD_OPT_MODULE,
    STEWARD_OPT_DAYS,
    STEWARD_OPT_HEAD,
    STEWARD_OPT_QUIET,
};

int main_steward(struct cli_args *);
int main_steward_init(struct cli_args *);
int main_steward_audit(struct cli_args *);

#endif
