#include "cli.h"

static int main_version(struct cli_args *a) {
    const char *value;
    int id = cli_next(a, &value);
    if (id == CLI_STOP) return a->exit_code;
    if (id != CLI_END) return cli_usage_error(a, "expected no arguments, found \"%s\"", value);
    puts("donjon " DONJON_VERSION);
    return CLI_YES;
}

const struct cli_verb verb_version = {
    .name = "version",
    .operands = "",
    .summary = "Show donjon's version",
    .text = "Shows donjon's version.",
    .main = main_version,
};
