/* The verbs about evidence. Their tables (options, help) are in both programs; their work is in `donjon-attest`, so
 * that `donjon run` starts without OpenSSL and curl: there the main functions only start the other program. */
#ifndef DONJON_CLI_ATTEST_VERBS_H
#define DONJON_CLI_ATTEST_VERBS_H

#include "../cli.h"

extern const struct cli_verb verb_verify, verb_collateral_fetch, verb_measure;

int main_verify(struct cli_args *);
int main_collateral_fetch(struct cli_args *);
int main_measure(struct cli_args *);
/* Whether a file that `donjon inspect` was given is for it, and the handing over. Does not return when it worked. */
int attest_exec(struct cli_args *);

#endif
