/* The verbs whose work is in programs of their own, so that `donjon run` links no more than it needs. */
#include "agent/verb.h"
#include "attest/verbs.h"
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
int main_verify(struct cli_args *a) {
    return attest_exec(a);
}
int main_collateral_fetch(struct cli_args *a) {
    return attest_exec(a);
}
int main_measure(struct cli_args *a) {
    return attest_exec(a);
}
int main_agent(struct cli_args *a) {
    return cli_exec(a, "donjon-agent");
}
int main_steward(struct cli_args *a) {
    return cli_exec(a, "donjon-steward");
}
int main_steward_init(struct cli_args *a) {
    return cli_exec(a, "donjon-steward");
}
int main_steward_audit(struct cli_args *a) {
    return cli_exec(a, "donjon-steward");
}
int main_pack(struct cli_args *a) {
    return cli_exec(a, "donjon-package");
}
int main_push(struct cli_args *a) {
    return cli_exec(a, "donjon-package");
}
int main_pull(struct cli_args *a) {
    return cli_exec(a, "donjon-package");
}
int main_sign(struct cli_args *a) {
    return cli_exec(a, "donjon-package");
}
