#include "cli.h"

static int main_version(struct cli_args *a) {
    const char *value;
    bool json = false;
    for (int id; (id = cli_next(a, &value)) != CLI_END; json = true) {
        if (id == CLI_STOP) return a->exit_code;
        if (id == CLI_OPERAND) return cli_usage_error(a, "expected no arguments, found \"%s\"", value);
    }
    puts(json ? "{\"version\":\"" DONJON_VERSION "\"}" : "donjon " DONJON_VERSION);
    return CLI_YES;
}

static const struct cli_option options[] = {
    {1, 0, "json", NULL, "As JSON."},
    {0},
};

const struct cli_verb verb_version = {
    .name = "version",
    .operands = "",
    .summary = "Show donjon's version",
    .text = "Shows donjon's version.",
    .options = options,
    .main = main_version,
};
