/* What the verbs share: options, help, messages, files. Each verb is one file with one `struct cli_verb`; that table is
 * the only source of its --help text and its man page. */
#ifndef DONJON_CLI_H
#define DONJON_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Exit codes, for every verb (docs/cli.md). A program that runs gives its own. */
enum cli_exit {
    CLI_YES = 0,
    CLI_NO = 1,        /* the verb worked, the answer is no: config check found errors, a backend is missing */
    CLI_TIMEOUT = 124, /* as timeout(1) */
    CLI_FAILED =
        125, /* donjon itself: wrong arguments, unreadable file, refused module, keep lost. As env(1) and docker(1) */
    CLI_TRAP = 134, /* as a shell shows a program that abort() ended */
};

struct cli_option {
    int id;            /* > 0; the verb's own */
    char letter;       /* 0: none */
    const char *name;  /* without dashes; NULL: only a letter */
    const char *value; /* what follows, as help shows it; NULL: nothing follows. "[=y|n]" and the like: may follow */
    const char *help;
};

/* Keys behind one letter: -W KEY[=VALUE][,KEY[=VALUE]...], as wasmtime has them. */
struct cli_group {
    char letter;
    const char *title;
    const struct cli_option *keys; /* `letter` unused; ends with an id of 0 */
};

struct cli_example {
    const char *command, *what;
};

struct cli_args;
struct cli_verb {
    const char *name;     /* "run", "config check" */
    const char *operands; /* as the synopsis shows them */
    const char *summary;  /* one line, no full stop */
    const char
        *text; /* paragraphs, separated by an empty line; lines that begin with a space stay as they are; `code` */
    const struct cli_option *options;   /* ends with an id of 0; NULL: none. --help is everybody's */
    const struct cli_group *groups;     /* ends with a letter of 0; NULL: none */
    const struct cli_example *examples; /* ends with a command of NULL */
    bool operand_ends_options;          /* what follows the first operand is not ours */
    int (*main)(struct cli_args *args);
};

extern const struct cli_verb verb_run, verb_compile, verb_config_init, verb_config_check, verb_platform_info,
    verb_inspect, verb_help, verb_version, verb_man;
extern const struct cli_verb *const cli_verbs[];                             /* in the order of help; ends with NULL */
const struct cli_verb *cli_find_verb(const char *first, const char *second); /* NULL: no such verb */
/* For a word that is no verb: says so, with the nearest, to stderr. Gives CLI_FAILED. */
int cli_unknown_verb(const char *first, const char *second);

/* The command line of one verb, read from left to right. */
struct cli_args {
    const struct cli_verb *verb;
    int argc, at;
    char **argv;
    int exit_code;
    /* private */
    const char *letters; /* the rest of -abc */
    char *keys;          /* the rest of a group's KEY,KEY */
    char *keys_copy;
    const struct cli_group *group;
    bool only_operands;
    char shown[128]; /* the option as typed, for messages */
};
enum { CLI_OPERAND = 0, CLI_END = -1, CLI_STOP = -2 };

/* The next option's id with its value (NULL when none was given), CLI_OPERAND with the operand, CLI_END, or CLI_STOP:
 * --help was asked for or something is wrong, everything has been said, leave with args->exit_code. */
int cli_next(struct cli_args *args, const char **value);
/* The arguments from here on, for what is not ours. */
char **cli_rest(struct cli_args *args);
/* For a verb whose work is in `program`, which stands beside donjon: starts that with the same arguments. Returns only
 * when that fails, with CLI_FAILED. */
int cli_exec(struct cli_args *args, const char *program);
/* main() of such a program: finds the verb in its cli_verbs and lets it have the rest. */
int cli_program_main(const char *program, int argc, char **argv);
/* "donjon: run: ..." about the arguments, ending with where help is; sets and gives CLI_FAILED. */
int cli_usage_error(struct cli_args *args, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* y, n, yes, no, true, false, on, off, or NULL (yes). */
bool cli_parse_bool(const char *value, bool *out);

/* Help as text, wrapped to the terminal when `f` is one, and as a man page. verb NULL: of donjon itself. */
void cli_help(FILE *f, const struct cli_verb *verb);
void cli_man(FILE *f, const struct cli_verb *verb);
void cli_usage_line(FILE *f, const struct cli_verb *verb);

/* One message line on standard error: "donjon VERB: ...". Control characters in it become '?'. cli_error gives
 * CLI_FAILED. */
enum { CLI_MESSAGE_MAX = 2048 };
int cli_error(const struct cli_verb *verb, const char *format, ...) __attribute__((format(printf, 2, 3)));
void cli_warning(const struct cli_verb *verb, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The text of the last cli_error, or "". */
const char *cli_last_error(void);
/* A text as JSON, printable as messages are. */
void cli_json_text(FILE *f, const char *text);
/* Instead of a verb's answer in JSON, on standard output: the last cli_error and the exit code. Gives `code`. */
int cli_json_failed(int code);
/* Whether colours may be used on `fd`: a terminal, NO_COLOR unset, TERM not dumb. */
bool cli_colours(int fd);
/* Copies `s` with control characters, which could drive a terminal, and what is not UTF-8 as '?'; newlines too unless
 * `lines`. Returns `buf`. */
const char *cli_printable(const char *s, char *buf, size_t size, bool lines);

/* A whole file in memory from malloc. False with errno: EFBIG for more than `most` bytes, EISDIR for a directory. "-":
 * standard input. `*bytes` always has a NUL behind its end. */
bool cli_read_file(const char *path, size_t most, char **bytes, size_t *size);

/* Makes a directory and those above it, for this user alone (0700). */
bool cli_make_directories(const char *path);
/* A file for this user alone (0600), whole or not at all: written beside, then renamed. */
bool cli_write_private(const char *path, const void *bytes, size_t size);

/* What a file that should be a wasm module looks like; NULL when it is a core module as far as its first bytes say,
 * else one line: what it is and what to do. */
const char *cli_not_a_module(const void *bytes, size_t size);

struct config;
/* Where the names in a configuration begin: the directory of its file, written to `dir`. */
const char *cli_directory_of(const char *path, char dir[4096 + 1 /* CONFIG_PATH_MAX */]);

/* Reads Donjon.toml or Enarx.toml into an initialised config and says on standard error what is wrong, each with its
 * place. With `strict`, things this release cannot run are errors. Relative mounts are taken from the file's directory.
 */
bool cli_load_config(const struct cli_verb *verb, const char *path, bool strict, struct config *c);
/* The same of a text (`name`: what messages call it) whose files are elsewhere; strict. Mounts stay as they are. */
struct config_source;
bool cli_take_config(const struct cli_verb *verb, const char *name, const char *text, size_t size,
                     const struct config_source *source, struct config *c);

#endif
