#include "cli.h"

static int main_man(struct cli_args *a) {
    const char *first, *second, *rest;
    int id = cli_next(a, &first);
    if (id == CLI_STOP) return a->exit_code;
    if (id == CLI_END) {
        cli_man(stdout, NULL);
        return CLI_YES;
    }
    id = cli_next(a, &second);
    if (id == CLI_STOP) return a->exit_code;
    if (id == CLI_OPERAND && cli_next(a, &rest) != CLI_END) return cli_usage_error(a, "expected one verb");
    const struct cli_verb *verb = cli_find_verb(first, second);
    if (!verb) return cli_unknown_verb(first, second);
    cli_man(stdout, verb);
    return CLI_YES;
}

static const struct cli_example examples[] = {
    {"donjon man run | man -l -", "Read a verb's page"},
    {"donjon man run > /usr/local/share/man/man1/donjon-run.1", "Install it"},
    {0},
};

const struct cli_verb verb_man = {
    .name = "man",
    .operands = "[VERB]",
    .summary = "Write a man page to standard output",
    .text =
        "Writes the man page of donjon, or of one verb, in man(7) format. The build leaves all of them in `build/man`.",
    .examples = examples,
    .main = main_man,
};
