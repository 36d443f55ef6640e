#include "cli.h"

static int main_help(struct cli_args *a) {
    const char *first, *second, *rest;
    int id = cli_next(a, &first);
    if (id == CLI_STOP) return a->exit_code;
    if (id == CLI_END) {
        cli_help(stdout, NULL);
        return CLI_YES;
    }
    id = cli_next(a, &second);
    if (id == CLI_STOP) return a->exit_code;
    if (id == CLI_OPERAND && cli_next(a, &rest) != CLI_END) return cli_usage_error(a, "expected one verb");
    const struct cli_verb *verb = cli_find_verb(first, second);
    if (!verb) return cli_unknown_verb(first, second);
    cli_help(stdout, verb);
    return CLI_YES;
}

const struct cli_verb verb_help = {
    .name = "help",
    .operands = "[VERB]",
    .summary = "Show help, about everything or about one verb",
    .text = "Shows what donjon can do, or all about one verb.",
    .main = main_help,
};
