/* What the files of `donjon run` share: one run, from the command line to its end. */
#ifndef DONJON_CLI_RUN_H
#define DONJON_CLI_RUN_H

#include "cli.h"
#include "config/config.h"
#include <pthread.h>

struct keep_result; /* loader/loader.h */

enum run_option {
    OPT_DIR = 1,
    OPT_ENV,
    OPT_CONFIG,
    OPT_ARGV0,
    OPT_TCPLISTEN,
    OPT_LIMIT,
    OPT_BACKEND,
    OPT_REQUIRE,
    OPT_JSON,
    OPT_DEBUG,
    OPT_PROFILE,
    OPT_GDB,
    OPT_NO_CACHE,
    KEY_UNKNOWN_TRAP,
    KEY_UNKNOWN_DEFAULT,
    KEY_INTERPRET,
    KEY_EXPLICIT_CHECKS,
    KEY_INHERIT_ENV,
    KEY_TCPLISTEN,
    OPT_OTHERS = 64, /* of verbs that share what follows (deploy/verbs.h) */
    KEY_LIMITS = 128 /* plus an enum config_limit */
};

struct run {
    const struct cli_verb *verb;
    const char *app;    /* as given */
    char *module;       /* path of the module: app, or app/main.wasm */
    const char *config; /* path or NULL */
    char *config_found; /* in a directory given as app */
    const char *argv0, *backend;
    int require; /* enum keep_strength */
    unsigned gdb_port;
    bool json, debug, profile, no_cache;
    bool deployed; /* it will not run on this machine */
    /* APP is no path: its configuration (text, or NULL) and the files that names are there instead. */
    const struct config_source *source;
    const char *config_text;
    struct config c;
    uint64_t started_ns, read_ns; /* when it began; how long reading the module took */
};

/* run_module.c: what is to be run, read and, where there is compiled code for it, with that. */
struct run_module {
    char *bytes;             /* the module, or all of a file that has it and its code */
    const void *wasm, *code; /* code NULL: none */
    size_t wasm_size, code_size;
    uint8_t *cached;    /* a cache entry with the code */
    uint8_t digest[32]; /* the module's, when there is code */
    uint8_t code_sha256[32];
    bool worth_caching;
};
int run_read_module(struct run *r, struct run_module *m); /* 0, or the exit code after everything has been said */
void run_free_module(struct run_module *m);

/* run_options.c: the command line is read twice, first for what must be known before a config is read, then for what
 * comes on top of it. 0, or the exit code after everything has been said. `c` is initialised before. */
int run_read_options(struct run *r, struct cli_args *first);
int run_build_config(struct run *r, struct cli_args *second);

/* run_report.c: how it ended. */
void run_print_json(const struct run *r, const struct keep_result *k, uint64_t end_ns);
void run_print_text(const struct run *r, const struct keep_result *k);

/* run_progress.c: a word to somebody who waits at a terminal while a large module loads. */
struct progress {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool started, over, shown;
    const char *what;
    size_t size;
};
void progress_start(struct progress *p, const char *what, size_t size);
void progress_end(void *progress); /* the program is about to run, or never will; may be called twice */

#endif
