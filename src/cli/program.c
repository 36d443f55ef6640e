/* What the programs beside donjon share: `donjon VERB ...` starts them with its own arguments. */
#include "cli.h"

#include <errno.h>
#include <string.h>

/* help.c knows these two by name; here nobody can call them. */
const struct cli_verb verb_help = {.name = "help", .operands = "", .summary = "", .text = ""},
                      verb_man = {.name = "man", .operands = "", .summary = "", .text = ""};

int cli_program_main(const char *program, int argc, char **argv) {
    for (const struct cli_verb *const *v = cli_verbs; *v && argc > 1; v++) {
        const char *space = strchr((*v)->name, ' ');
        size_t first = space ? (size_t)(space - (*v)->name) : strlen((*v)->name);
        bool named = strlen(argv[1]) == first && !memcmp(argv[1], (*v)->name, first) &&
                     (!space || (argc > 2 && !strcmp(argv[2], space + 1)));
        if (!named) continue;
        struct cli_args args = {.verb = *v, .argc = argc, .argv = argv, .at = space ? 3 : 2};
        int code = (*v)->main(&args);
        if (!fflush(stdout) || code != CLI_YES) return code;
        return cli_error(*v, "cannot write to standard output: %s", strerror(errno));
    }
    cli_error(NULL, "%s is started by donjon: see `donjon help`", program);
    return CLI_FAILED;
}
