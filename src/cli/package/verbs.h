/* The verbs about packages: their tables are in `donjon` too; their work is in donjon-package. */
#ifndef DONJON_CLI_PACKAGE_VERBS_H
#define DONJON_CLI_PACKAGE_VERBS_H

#include "../cli.h"

extern const struct cli_verb verb_pack, verb_push, verb_pull, verb_sign;

enum {
    PACKAGE_OPT_OUTPUT = 1,
    PACKAGE_OPT_TAG,
    PACKAGE_OPT_KEY,
    PACKAGE_OPT_NEW_KEY,
    PACKAGE_OPT_ENCRYPT,
    PACKAGE_OPT_DECRYPT,
    PACKAGE_OPT_VERIFY,
    PACKAGE_OPT_UNPACK,
    PACKAGE_OPT_PLAIN,
    PACKAGE_OPT_CA,
    PACKAGE_OPT_USER,
    PACKAGE_OPT_QUIET,
    PACKAGE_OPT_JSON,
};

int main_pack(struct cli_args *);
int main_push(struct cli_args *);
int main_pull(struct cli_args *);
int main_sign(struct cli_args *);

#endif
