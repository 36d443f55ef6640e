#define _GNU_SOURCE
/* donjon-deploy: the tenant's verbs. `donjon deploy ...` starts it with its own arguments. */
#include "verbs.h"

#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

const struct cli_verb *const cli_verbs[] = {&verb_deploy, &verb_ps,       &verb_logs, &verb_attach,
                                            &verb_stop,   &verb_evidence, NULL};

int main(int argc, char **argv) {
    const struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none); /* secrets pass through here */
    prctl(PR_SET_DUMPABLE, 0);
    return cli_program_main("donjon-deploy", argc, argv);
}
