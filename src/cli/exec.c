/* The verbs whose work is in programs of their own, so that `donjon run` links no more than it needs. */
#include "agent/verb.h"
#include "attest/verbs.h"
#include "deploy/verbs.h"
#include "package/verbs.h"
#include "steward/verbs.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

int cli_exec(struct cli_args *a, const char *program) {
    char path[4096], beside[64];
    snprintf(beside, sizeof beside, "%s", program);
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - sizeof beside);
    if (n > 0) path[n] = 0;
    char *slash = n > 0 ? strrchr(path, '/') : NULL;
    if (slash) {
        strcpy(slash + 1, beside);
        execv(path, a->argv);
    }
    cli_error(a->verb, "cannot start %s: %s; it belongs beside donjon", slash ? path : beside, strerror(errno));
    return CLI_FAILED;
}

int attest_exec(struct cli_args *a) {
    return cli_exec(a, "donjon-attest");
}
#define STARTS(verb, program)                                                                                          \
    int main_##verb(struct cli_args *a) {                                                                              \
        return cli_exec(a, program);                                                                                   \
    }
STARTS(verify, "donjon-attest")
STARTS(collateral_fetch, "donjon-attest")
STARTS(measure, "donjon-attest")
STARTS(deploy, "donjon-deploy")
STARTS(ps, "donjon-deploy")
STARTS(logs, "donjon-deploy")
STARTS(attach, "donjon-deploy")
STARTS(stop, "donjon-deploy")
STARTS(evidence, "donjon-deploy")
STARTS(agent, "donjon-agent")
STARTS(steward, "donjon-steward")
STARTS(steward_init, "donjon-steward")
STARTS(steward_audit, "donjon-steward")
STARTS(pack, "donjon-package")
STARTS(push, "donjon-package")
STARTS(pull, "donjon-package")
STARTS(sign, "donjon-package")
