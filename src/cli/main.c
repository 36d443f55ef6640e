/* donjon: finds the verb and lets it have the rest. */
#include "agent/verb.h"
#include "attest/verbs.h"
#include "cli.h"
#include "config/nearest.h"
#include "deploy/verbs.h"
#include "package/verbs.h"
#include "steward/verbs.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>

/* clang-format off */
const struct cli_verb *const cli_verbs[] = {
    &verb_run, &verb_compile, &verb_config_init, &verb_config_check, &verb_platform_info, &verb_inspect,
    &verb_verify, &verb_collateral_fetch, &verb_measure,
    &verb_deploy, &verb_ps, &verb_logs, &verb_attach, &verb_stop, &verb_evidence, &verb_agent,
    &verb_pack, &verb_push, &verb_pull, &verb_sign,
    &verb_steward_init, &verb_steward_audit, &verb_steward,
    &verb_version, &verb_help, &verb_man,
    NULL,
};
/* clang-format on */

/* Whether `name`, one or two words, is `first` or `first second`. */
static bool is_named(const char *name, const char *first, const char *second) {
    size_t n = strcspn(name, " ");
    if (strlen(first) != n || memcmp(name, first, n)) return false;
    return !name[n] || (second && !strcmp(name + n + 1, second));
}

const struct cli_verb *cli_find_verb(const char *first, const char *second) {
    for (const struct cli_verb *const *v = cli_verbs; *v; v++)
        if (is_named((*v)->name, first, second)) return *v;
    return NULL;
}

/* The second words that `first` knows; how many. */
static size_t second_words(const char *first, const char **words) {
    size_t n = 0, len = strlen(first);
    for (const struct cli_verb *const *v = cli_verbs; *v; v++)
        if (!strncmp((*v)->name, first, len) && (*v)->name[len] == ' ') words[n++] = (*v)->name + len + 1;
    return n;
}

int cli_unknown_verb(const char *first, const char *second) {
    const char *words[sizeof cli_verbs / sizeof *cli_verbs];
    size_t n = second_words(first, words);
    if (n) {
        const char *near = second ? nearest_word(second, strlen(second), words, n) : NULL;
        char all[128] = "";
        for (size_t i = 0; i < n; i++)
            snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", i ? " or " : "", words[i]);
        if (!second)
            cli_error(NULL, "%s: expected %s; see `donjon %s --help`", first, all, first);
        else if (near)
            cli_error(NULL, "%s: unknown verb \"%s\", did you mean `donjon %s %s`?", first, second, first, near);
        else
            cli_error(NULL, "%s: unknown verb \"%s\", expected %s; see `donjon %s --help`", first, second, all, first);
        return CLI_FAILED;
    }
    for (const struct cli_verb *const *v = cli_verbs; *v; v++)
        words[n++] = (*v)->name;
    char first_words[sizeof cli_verbs / sizeof *cli_verbs][32];
    for (size_t i = 0; i < n; i++) {
        snprintf(first_words[i], sizeof first_words[i], "%.*s", (int)strcspn(words[i], " "), words[i]);
        words[i] = first_words[i];
    }
    const char *near = nearest_word(first, strlen(first), words, n);
    if (near)
        cli_error(NULL, "unknown verb \"%s\", did you mean `donjon %s`?", first, near);
    else if (!access(first, F_OK))
        cli_error(NULL, "unknown verb \"%s\"; to run it: `donjon run %s`", first, first);
    else
        cli_error(NULL, "unknown %s \"%s\"; see `donjon help`", *first == '-' ? "option" : "verb", first);
    return CLI_FAILED;
}

/* Output that could not be written is a failure, except when its reader has gone on purpose. */
static int finish(int code) {
    if (!fflush(stdout) || code != CLI_YES) return code;
    cli_error(NULL, "cannot write to standard output: %s", strerror(errno));
    return CLI_FAILED;
}

int main(int argc, char **argv) {
    const char *first = argc > 1 ? argv[1] : NULL, *second = argc > 2 ? argv[2] : NULL;
    if (!first) {
        cli_help(stderr, NULL);
        return CLI_FAILED;
    }
    if (!strcmp(first, "--help") || !strcmp(first, "-h")) {
        cli_help(stdout, NULL);
        return finish(CLI_YES);
    }
    if (!strcmp(first, "--version") || !strcmp(first, "-V")) first = "version";
    const struct cli_verb *verb = cli_find_verb(first, second);
    if (!verb) {
        /* `donjon config --help` */
        const char *words[sizeof cli_verbs / sizeof *cli_verbs];
        size_t n = second_words(first, words);
        if (!n || !second || (strcmp(second, "--help") && strcmp(second, "-h"))) return cli_unknown_verb(first, second);
        for (const struct cli_verb *const *v = cli_verbs; *v; v++) {
            if (strncmp((*v)->name, first, strlen(first))) continue;
            cli_help(stdout, *v);
            if (--n) putchar('\n');
        }
        return finish(CLI_YES);
    }
    struct cli_args args = {.verb = verb, .argc = argc, .argv = argv, .at = strchr(verb->name, ' ') ? 3 : 2};
    return finish(verb->main(&args));
}
