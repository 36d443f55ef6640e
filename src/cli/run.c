/* donjon run: the command line and a config become one struct config; the loader does the rest; how it ended becomes
 * our exit. */
#include "run.h"
#include "code_cache.h"
#include "loader/loader.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Ends as the program would have ended, so that a shell sees the signal; without a core of ours. */
static void die_by(int signal_number) {
    prctl(PR_SET_DUMPABLE, 0);
    signal(signal_number, SIG_DFL);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal_number);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    raise(signal_number);
}

/* The keep has its own copy by now; ours would only lie about for as long as the program runs. */
struct loading {
    struct progress progress;
    struct run_module *module;
    const struct run *run;
};

static void loaded(void *ctx) {
    struct loading *l = ctx;
    progress_end(&l->progress);
    run_free_module(l->module);
}

/* A big module whose program has run will be run again: compiled in the background, it then starts at once. */
static void fill_cache(int prepared, enum keep_outcome outcome) {
    code_cache_fill(prepared, outcome != KEEP_REFUSED && outcome != KEEP_FAILED);
}

/* Somebody at a terminal who did not choose is told what was chosen; so is who asked for details. */
static void chosen(void *ctx, const char *backend, const char *protects) {
    const struct loading *l = ctx;
    bool told = l->run->backend && !l->run->debug;
    if (told || l->run->json || !(l->run->debug || isatty(STDERR_FILENO))) return;
    bool colours = cli_colours(STDERR_FILENO);
    fprintf(stderr, "%skeep: %s, protects %s%s\n", colours ? "\033[2m" : "", backend, protects,
            colours ? "\033[0m" : "");
}

static int run_keep(struct run *r, struct run_module *m) {
    struct loading loading = {.run = r, .module = m};
    struct keep_options options = {
        .config = &r->c,
        .wasm = m->wasm,
        .wasm_size = m->wasm_size,
        .code = m->code,
        .code_size = m->code_size,
        .code_digest = m->digest,
        .code_sha256 = m->code_sha256,
        .stdio = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO},
        .backend = r->backend,
        .profile = r->profile,
        .gdb_port = r->gdb_port,
        .require = (enum keep_strength)r->require,
        .chosen = chosen,
        .debug = r->debug,
        .lock = true,
        .ready = loaded,
        .ready_ctx = &loading,
    };
    struct keep_result result = {0};
    int prepared = m->worth_caching ? code_cache_prepare(r->module) : -1; /* a locked loader makes no process */
    progress_start(&loading.progress, r->module, m->wasm_size);
    keep_run(&options, &result);
    loaded(&loading);
    if (r->json)
        run_print_json(r, &result, now_ns());
    else if (result.text)
        run_print_text(r, &result);
    fill_cache(prepared, result.outcome);
    int code = result.exit_code, by = result.outcome == KEEP_SIGNALLED ? result.signal : 0;
    keep_result_free(&result);
    if (by) die_by(by);
    return code;
}

/* With --json, what went wrong before there was a keep is reported like the rest. */
static int before_keep(struct run *r, int code) {
    char text[CLI_MESSAGE_MAX];
    if (code != CLI_FAILED || !r->json) return code;
    snprintf(text, sizeof text, "%s", cli_last_error());
    struct keep_result k = {.outcome = KEEP_FAILED, .exit_code = code, .text = text};
    run_print_json(r, &k, now_ns());
    return code;
}

static int run(struct run *r, struct cli_args *first) {
    struct cli_args second = *first;
    struct run_module module = {0};
    int code = run_read_options(r, first);
    if (code || !r->app) return before_keep(r, code);
    code = config_init(&r->c) ? run_build_config(r, &second) : cli_error(r->verb, "out of memory");
    free(second.keys_copy);
    uint64_t before = now_ns();
    if (!code) code = run_read_module(r, &module);
    if (code) return before_keep(r, code);
    r->read_ns = now_ns() - before;
    return run_keep(r, &module);
}

static int main_run(struct cli_args *a) {
    struct run r = {.verb = a->verb, .started_ns = now_ns()};
    int code = run(&r, a);
    config_free(&r.c);
    free(r.module);
    free(r.config_found);
    free(a->keys_copy);
    return code;
}

static const struct cli_option options[] = {
    {OPT_DIR, 0, "dir", "HOST[::GUEST][:ro]",
     "Let the program use the directory HOST under the name GUEST (the same name if none is given), read-write, or "
     "read-only "
     "with `:ro`. Can be given many times."},
    {OPT_ENV, 0, "env", "KEY[=VALUE]",
     "Set an environment variable; KEY alone passes on the value it has here. The program inherits none by itself."},
    {OPT_CONFIG, 0, "config", "FILE",
     "Read a Donjon.toml or Enarx.toml. Options on the command line come on top of it."},
    {OPT_ARGV0, 0, "argv0", "NAME", "What the program sees as its own name; otherwise the module's file name."},
    {OPT_TCPLISTEN, 0, "tcplisten", "[ADDRESS:]PORT",
     "Give the program one more descriptor, after stdio: a listening TCP socket."},
    {OPT_LIMIT, 0, "limit", "KEY=VALUE",
     "Set a limit by its name in the config's [limits], for example `filesystem=64MiB`."},
    {OPT_BACKEND, 0, "backend", "NAME",
     "How to build the keep; otherwise the strongest that works here. See `donjon platform info`."},
    {OPT_REQUIRE, 0, "require", "vm|tee",
     "Refuse to run in anything weaker: `tee` asks for hardware that keeps this machine's owner out."},
    {OPT_JSON, 0, "json", NULL,
     "Report how it ended as one line of JSON, the last of standard error, instead of as text."},
    {OPT_NO_CACHE, 0, "no-cache", NULL,
     "Use no compiled code from the cache, and put none there. See `donjon compile`."},
    {OPT_PROFILE, 0, "profile", NULL,
     "Write /tmp/perf-PID.map for the keep, so that perf(1) shows the names of the program's functions."},
    {OPT_GDB, 0, "gdb", "PORT",
     "Start the keep's runtime stopped, and wait for gdb on this port of 127.0.0.1; implies `--debug`. For the kvm "
     "backend."},
    {OPT_DEBUG, 0, "debug", NULL, "Show what the keep's runtime logs about itself."},
    {0},
};

static const struct cli_option wasm_keys[] = {
    {KEY_LIMITS + CONFIG_LIMIT_fuel, 0, "fuel", "N", "Stop the program with a trap after about N instructions."},
    {KEY_LIMITS + CONFIG_LIMIT_time, 0, "timeout", "TIME",
     "Stop the program after this much wall time: `30s`, `500ms`, `2m`. Exit code 124."},
    {KEY_LIMITS + CONFIG_LIMIT_memory, 0, "max-memory-size", "SIZE",
     "Linear memory the program may have: `64MiB`. Default 4 GiB."},
    {KEY_LIMITS + CONFIG_LIMIT_tables, 0, "max-table-elements", "N", "Table elements it may have. Default 10 million."},
    {KEY_LIMITS + CONFIG_LIMIT_stack, 0, "max-wasm-stack", "SIZE", "Its value stack. Default 16 MiB."},
    {KEY_UNKNOWN_TRAP, 0, "unknown-imports-trap", "[=y|n]",
     "Functions that the module imports and nobody provides trap when they are called, instead of being refused at "
     "once."},
    {KEY_UNKNOWN_DEFAULT, 0, "unknown-imports-default", "[=y|n]",
     "Or they return zeros: for programs whose imports matter to others only, as a benchmark's start and stop marks."},
    {KEY_INTERPRET, 0, "interpret", "[=y|n]", "Run in the reference interpreter; no code is made executable."},
    {KEY_EXPLICIT_CHECKS, 0, "explicit-checks", "[=y|n]",
     "Compare every address with the memory's size, instead of letting guard pages catch what is outside: slower, and "
     "nothing depends on page faults."},
    {0},
};
static const struct cli_option wasi_keys[] = {
    {KEY_INHERIT_ENV, 0, "inherit-env", "[=y|n]", "Pass on the whole environment."},
    {KEY_TCPLISTEN, 0, "tcplisten", "[ADDRESS:]PORT", "As `--tcplisten`."},
    {0},
};
static const struct cli_group groups[] = {
    {'W', "WebAssembly, -W KEY[=VALUE],...", wasm_keys},
    {'S', "WASI, -S KEY[=VALUE],...", wasi_keys},
    {0},
};
static const struct cli_example examples[] = {
    {"donjon run hello.wasm", "Run a program that needs nothing"},
    {"donjon run --dir photos::/in:ro --dir out app.wasm /in out", "One directory to read, one to write"},
    {"donjon run -W timeout=10s,max-memory-size=256MiB app.wasm -- --fast x", "With limits, and arguments of its own"},
    {"donjon run --config Donjon.toml server.wasm", "A server; the config names its sockets"},
    {0},
};

const struct cli_verb verb_run = {
    .name = "run",
    .operands = "APP [--] [ARGS...]",
    .summary = "Run a WebAssembly program in a keep",
    .text = "Runs APP, a WebAssembly module for WASI preview 1 (`wasm32-wasip1`), in a keep of its own. APP is a file "
            "(also one that `donjon compile` made), `-` for standard "
            "input, or a directory that has a main.wasm and, if it wants one, a Donjon.toml or Enarx.toml. No other "
            "file is "
            "looked for.\n\n"
            "What follows APP is the program's, whatever it looks like; one `--` directly after APP is dropped. "
            "Without any, the "
            "config's `args` are used.\n\n"
            "The program sees its standard input, output and error, an empty writable file system in memory, and what "
            "--dir, "
            "--env, --tcplisten and the config give it; nothing else of this machine.\n\n"
            "Its exit code becomes donjon's. A trap gives 134 and a backtrace, the time limit 124, a failure of donjon "
            "itself 125.",
    .options = options,
    .groups = groups,
    .examples = examples,
    .operand_ends_options = true,
    .main = main_run,
};
