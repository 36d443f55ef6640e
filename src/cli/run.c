/* donjon run: options and a config become one struct config; the loader does the rest; how it ended becomes our exit.
 */
#define _GNU_SOURCE
#include "cli.h"
#include "config/config.h"
#include "gate/gate.h"
#include "loader/loader.h"
#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum run_option {
    OPT_DIR = 1,
    OPT_ENV,
    OPT_CONFIG,
    OPT_ARGV0,
    OPT_TCPLISTEN,
    OPT_LIMIT,
    OPT_BACKEND,
    OPT_JSON,
    OPT_DEBUG,
    KEY_UNKNOWN_IMPORTS,
    KEY_INHERIT_ENV,
    KEY_TCPLISTEN,
    KEY_LIMITS /* plus an enum config_limit */
};

struct run {
    const struct cli_verb *verb;
    const char *app;    /* as given */
    char *module;       /* path of the module: app, or app/main.wasm */
    const char *config; /* path or NULL */
    char *config_found; /* in a directory given as app */
    const char *argv0, *backend;
    bool json, debug;
    struct config c;
    uint64_t started_ns, read_ns;
};

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* --dir HOST[::GUEST][:ro|:rw]; the guest's name is the host's when none is given, as wasmtime does it. */
static bool option_dir(struct run *r, struct cli_args *a, const char *value) {
    char spec[2 * CONFIG_PATH_MAX + 8];
    if (snprintf(spec, sizeof spec, "%s", value) >= (int)sizeof spec)
        return cli_usage_error(a, "--dir: too long"), false;
    bool writable = true;
    size_t len = strlen(spec);
    if (len > 3 && (!strcmp(spec + len - 3, ":ro") || !strcmp(spec + len - 3, ":rw"))) {
        writable = spec[len - 1] == 'w';
        spec[len - 3] = 0;
    }
    char *sep = strstr(spec, "::");
    if (sep) *sep = 0;
    struct config_mount m = {.host = spec, .guest = sep ? sep + 2 : spec, .writable = writable};
    struct stat st;
    struct config_error err;
    if (!*m.host) return cli_usage_error(a, "--dir %s: expected HOST[::GUEST][:ro]", value), false;
    if (stat(m.host, &st))
        return cli_error(r->verb, "--dir %s: cannot open the directory %s: %s", value, m.host, strerror(errno)), false;
    if (!S_ISDIR(st.st_mode)) return cli_error(r->verb, "--dir %s: %s is not a directory", value, m.host), false;
    if (strstr(
            m.guest,
            "..")) { /* "--dir ../data": the program could not name it; only then is the guest's name ours to choose */
        if (!sep)
            return cli_usage_error(a, "--dir %s: say where the program finds it, --dir %s::/GUEST", value, value),
                   false;
    }
    if (!config_add_mount(&r->c, &m, &err)) return cli_error(r->verb, "--dir %s: %s", value, err.message), false;
    return true;
}

/* --env KEY=VALUE, or KEY alone: the value it has here. */
static bool option_env(struct run *r, struct cli_args *a, const char *value) {
    struct config_error err;
    const char *equal = strchr(value, '=');
    size_t len = equal ? (size_t)(equal - value) : strlen(value);
    const char *v = equal ? equal + 1 : getenv(value);
    if (!v) return cli_usage_error(a, "--env %s: no such variable here; expected KEY=VALUE", value), false;
    if (config_set_env(&r->c, value, len, v, strlen(v), &err)) return true;
    return cli_error(r->verb, "--env %s: %s", value, err.message), false;
}

static bool inherit_env(struct run *r) {
    struct config_error err;
    for (char **e = environ; *e; e++) {
        const char *equal = strchr(*e, '=');
        if (!equal || equal == *e) continue;
        if (config_set_env(&r->c, *e, (size_t)(equal - *e), equal + 1, strlen(equal + 1), &err)) continue;
        return cli_error(r->verb, "-S inherit-env: %s", err.message), false;
    }
    return true;
}

/* --tcplisten ADDRESS:PORT, [V6]:PORT or PORT: one more descriptor, a listening socket. */
static bool option_tcplisten(struct run *r, struct cli_args *a, const char *value) {
    char addr[CONFIG_NAME_MAX + 1] = "::", name[CONFIG_NAME_MAX + 1];
    const char *colon = strrchr(value, ':'), *digits = colon ? colon + 1 : value;
    char *end;
    errno = 0;
    unsigned long port = strtoul(digits, &end, 10);
    bool ok = *digits >= '0' && *digits <= '9' && !*end && !errno && port <= 65535;
    if (ok && colon) {
        bool v6 = *value == '[' && colon > value + 1 && colon[-1] == ']';
        size_t len = (size_t)(colon - value) - (v6 ? 2 : 0);
        ok = len > 0 && len < sizeof addr && (v6 || !memchr(value, ':', len));
        if (ok) snprintf(addr, sizeof addr, "%.*s", (int)len, value + v6);
    }
    if (!ok) return cli_usage_error(a, "--tcplisten %s: expected ADDRESS:PORT or PORT", value), false;
    struct config_error err;
    snprintf(name, sizeof name, "tcp%lu", port);
    struct config_file f = {
        .kind = CONFIG_LISTEN, .prot = CONFIG_TCP, .port = (uint16_t)port, .name = name, .addr = addr};
    if (config_add_file(&r->c, &f, &err)) return true;
    return cli_error(r->verb, "--tcplisten %s: %s", value, err.message), false;
}

static bool set_limit(struct run *r, struct cli_args *a, const char *shown, enum config_limit which,
                      const char *value) {
    static const char *const what[] = {"a size such as 64MiB", "a number", "a time such as 30s"};
    const struct config_limit_info *l = &config_limit_table[which];
    struct config_error err;
    uint64_t n;
    if (!config_parse_quantity(value, strlen(value), l->unit, &n))
        return cli_usage_error(a, "%s: expected %s, found \"%s\"", shown, what[l->unit], value), false;
    if (config_set_limit(&r->c, which, n, &err)) return true;
    return cli_error(r->verb, "%s=%s: %s", shown, value, err.message), false;
}

/* --limit KEY=VALUE with the keys of [limits]. */
static bool option_limit(struct run *r, struct cli_args *a, const char *value) {
    const char *equal = strchr(value, '=');
    size_t len = equal ? (size_t)(equal - value) : 0;
    char all[256] = "";
    for (int i = 0; i < CONFIG_LIMIT_COUNT; i++) {
        const char *key = config_limit_table[i].key;
        char shown[64];
        snprintf(shown, sizeof shown, "--limit %s", key);
        if (equal && strlen(key) == len && !memcmp(key, value, len)) return set_limit(r, a, shown, i, equal + 1);
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", i ? ", " : "", key);
    }
    return cli_usage_error(a, "--limit %s: expected KEY=VALUE with a key of %s", value, all), false;
}

static bool option_bool(struct cli_args *a, const char *value, bool *out) {
    if (cli_parse_bool(value, out)) return true;
    return cli_usage_error(a, "%s: expected y or n, found \"%s\"", a->shown, value), false;
}

/* The second reading of the command line: everything that adds to or changes the config. */
static bool apply_option(struct run *r, struct cli_args *a, int id, const char *value) {
    bool on = false;
    switch (id) {
    case OPT_DIR: return option_dir(r, a, value);
    case OPT_ENV: return option_env(r, a, value);
    case OPT_TCPLISTEN:
    case KEY_TCPLISTEN: return option_tcplisten(r, a, value);
    case OPT_LIMIT: return option_limit(r, a, value);
    case KEY_UNKNOWN_IMPORTS: return option_bool(a, value, &r->c.unknown_imports_trap);
    case KEY_INHERIT_ENV: return option_bool(a, value, &on) && (!on || inherit_env(r));
    default: return id < KEY_LIMITS || set_limit(r, a, a->shown, (enum config_limit)(id - KEY_LIMITS), value);
    }
}

/* The first reading: what must be known before a config is read. False: leave with a->exit_code. */
static bool read_options(struct run *r, struct cli_args *a) {
    const char *value;
    for (int id; (id = cli_next(a, &value)) != CLI_OPERAND;) {
        if (id == CLI_STOP) return false;
        if (id == CLI_END) return cli_usage_error(a, "which program? Expected the path of a WebAssembly module"), false;
        if (id == OPT_CONFIG) r->config = value;
        if (id == OPT_ARGV0) r->argv0 = value;
        if (id == OPT_BACKEND) r->backend = value;
        if (id == OPT_JSON) r->json = true;
        if (id == OPT_DEBUG) r->debug = true;
    }
    r->app = value;
    return true;
}

/* A directory stands for main.wasm and Donjon.toml (or Enarx.toml) in it. */
static bool find_module(struct run *r) {
    struct stat st;
    if (!strcmp(r->app, "-") || stat(r->app, &st) || !S_ISDIR(st.st_mode)) {
        r->module = strdup(r->app);
        return r->module;
    }
    static const char *const configs[] = {"Donjon.toml", "Enarx.toml"};
    if (asprintf(&r->module, "%s/main.wasm", r->app) < 0) return r->module = NULL, false;
    if (access(r->module, F_OK))
        return cli_error(r->verb, "%s is a directory without a main.wasm; expected a WebAssembly module", r->app),
               false;
    for (size_t i = 0; i < 2 && !r->config; i++) {
        free(r->config_found);
        if (asprintf(&r->config_found, "%s/%s", r->app, configs[i]) < 0) return r->config_found = NULL, false;
        if (!access(r->config_found, F_OK)) r->config = r->config_found;
    }
    return true;
}

static bool set_program(struct run *r) {
    const char *slash = strrchr(r->module, '/'), *name = r->argv0 ? r->argv0 : slash ? slash + 1 : r->module;
    struct config_error err;
    if (config_set_program(&r->c, name, strlen(name), &err)) return true;
    return cli_error(r->verb, "%s", err.message), false;
}

/* What follows the program on the command line, less one "--"; replaces the config's args when there is any. */
static bool set_args(struct run *r, char **args, int n) {
    struct config_error err;
    bool dashes = n > 0 && !strcmp(args[0], "--");
    if (n > 0) config_clear_args(&r->c);
    for (int i = dashes; i < n; i++)
        if (!config_add_arg(&r->c, args[i], strlen(args[i]), &err)) return cli_error(r->verb, "%s", err.message), false;
    return true;
}

static bool build_config(struct run *r, struct cli_args *second) {
    struct config_error err;
    const char *value;
    if (r->config && !cli_load_config(r->verb, r->config, true, &r->c)) return false;
    for (int id; (id = cli_next(second, &value)) != CLI_OPERAND;)
        if (id <= CLI_OPERAND || !apply_option(r, second, id, value)) return false;
    if (!set_program(r) || !set_args(r, cli_rest(second), second->argc - second->at)) return false;
    if (config_supported(&r->c, &err)) return true;
    return cli_error(r->verb, "%s", err.message), false;
}

static bool read_module(struct run *r, char **bytes, size_t *size) {
    const char *shown = strcmp(r->module, "-") ? r->module : "standard input";
    if (!cli_read_file(r->module, BOOT_MAX_MODULE, bytes, size)) {
        if (errno == EFBIG)
            cli_error(r->verb, "%s: more than the %u MiB a module may have", shown, BOOT_MAX_MODULE >> 20);
        else
            cli_error(r->verb, "cannot read %s: %s", shown, strerror(errno));
        return false;
    }
    const char *why = cli_not_a_module(*bytes, *size);
    if (!why) return true;
    free(*bytes);
    cli_error(r->verb, "%s %s", shown, why);
    return false;
}

/* ---- how it ended ---- */

/* Names for --json that stay, whatever a message says: the specification's messages, and the engine's own. */
static const struct {
    const char *message, *kind;
} trap_kinds[] = {
    {"unreachable", "unreachable"},
    {"out of bounds memory access", "memory-out-of-bounds"},
    {"out of bounds table access", "table-out-of-bounds"},
    {"undefined element", "undefined-element"},
    {"uninitialized element", "uninitialized-element"},
    {"indirect call type mismatch", "indirect-call-type"},
    {"integer divide by zero", "divide-by-zero"},
    {"integer overflow", "integer-overflow"},
    {"invalid conversion to integer", "invalid-conversion"},
    {"null function reference", "null-function"},
    {"null exception reference", "null-exception"},
    {"null reference", "null-reference"},
    {"call stack exhausted", "stack-exhausted"},
    {"all fuel consumed", "fuel-exhausted"},
    {"unknown import", "unknown-import"},
    {"uncaught exception", "exception"},
    {"wall time limit", "timeout"},
};

static const char *trap_kind(const char *message) {
    for (size_t i = 0; i < sizeof trap_kinds / sizeof *trap_kinds; i++)
        if (strstr(message, trap_kinds[i].message)) return trap_kinds[i].kind;
    return "other";
}

/* jansson takes UTF-8 only; anything else in a message becomes '?'. */
static json_t *json_text(const char *s, size_t n) {
    json_t *j = json_stringn(s, n);
    if (j) return j;
    char *copy = strndup(s, n);
    for (char *p = copy; p && *p; p++)
        if (*p & 0x80) *p = '?';
    j = copy ? json_string(copy) : NULL;
    free(copy);
    return j;
}

/* "trap: MESSAGE", then lines of "  0: NAME (module+0x1a2b) at FILE:LINE": donjon_trap_print's form. */
static json_t *json_trap(const char *text) {
    json_t *trap = json_object(), *frames = json_array();
    const char *line = text, *end = strchrnul(text, '\n');
    const char *message = !strncmp(line, "trap: ", 6) ? line + 6 : line;
    char head[512];
    snprintf(head, sizeof head, "%.*s", (int)(end - message), message);
    json_object_set_new(trap, "kind", json_string(trap_kind(head)));
    json_object_set_new(trap, "message", json_text(head, strlen(head)));
    while (*end) {
        line = end + 1;
        end = strchrnul(line, '\n');
        line += strspn(line, " ");
        if (line < end && *line >= '0' && *line <= '9') json_array_append_new(frames, json_text(line, (size_t)(end - line)));
    }
    json_object_set_new(trap, "frames", frames);
    return trap;
}

static json_t *json_ms(uint64_t ns) {
    return json_real((double)(ns / 1000) / 1000.0);
}

static void print_json(const struct run *r, const struct keep_result *k, uint64_t end_ns) {
    json_t *root = json_object(), *times = json_object();
    json_object_set_new(root, "outcome", json_string(keep_outcome_name(k->outcome)));
    json_object_set_new(root, "exit", json_integer(k->exit_code));
    json_object_set_new(root, "signal", k->outcome == KEEP_SIGNALLED ? json_integer(k->signal) : json_null());
    json_object_set_new(root, "module", json_text(r->module, strlen(r->module)));
    json_object_set_new(root, "backend", k->backend ? json_string(k->backend) : json_null());
    bool trap = k->outcome == KEEP_TRAPPED || k->outcome == KEEP_TIMEOUT;
    json_object_set_new(root, "trap", trap && k->text ? json_trap(k->text) : json_null());
    json_object_set_new(root, "error", !trap && k->text ? json_text(k->text, strlen(k->text)) : json_null());
    json_object_set_new(times, "read_ms", json_ms(r->read_ns));
    json_object_set_new(times, "ready_ms", k->ready_ns ? json_ms(k->ready_ns) : json_null());
    json_object_set_new(times, "total_ms", json_ms(end_ns - r->started_ns));
    json_object_set_new(root, "times", times);
    json_object_set_new(root, "host_calls", json_integer((json_int_t)k->host_calls));
    json_dumpf(root, stderr, JSON_COMPACT | JSON_REAL_PRECISION(9));
    fputc('\n', stderr);
    json_decref(root);
}

static void print_lines(const char *text) {
    size_t size = strlen(text) + 1;
    char *clean = malloc(size);
    if (clean) fprintf(stderr, "%s\n", cli_printable(text, clean, size, true));
    free(clean);
}

/* First line as a message of ours, the lines after it as they are. */
static void print_text(const struct run *r, const struct keep_result *k) {
    bool about_module = k->outcome != KEEP_FAILED && k->outcome != KEEP_SIGNALLED;
    size_t n = strcspn(k->text, "\n");
    cli_error(r->verb, "%s%s%.*s", about_module ? r->module : "", about_module ? ": " : "", (int)n, k->text);
    if (k->text[n]) print_lines(k->text + n + 1);
    if (k->outcome == KEEP_REFUSED && strstr(k->text, "is not provided"))
        fprintf(stderr, "  (with -W unknown-imports-trap it runs; a call of such a function is then a trap)\n");
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

/* ---- a word to somebody who waits at a terminal ---- */

enum { PROGRESS_MIN_SIZE = 4 << 20, PROGRESS_AFTER_MS = 500 }; /* below, nobody gets to read it */

struct progress {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool started, over, shown;
    const char *what;
    size_t size;
};

static void *progress_main(void *ctx) {
    struct progress *p = ctx;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += PROGRESS_AFTER_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&p->lock);
    while (!p->over && !pthread_cond_timedwait(&p->changed, &p->lock, &until))
        continue;
    if (!p->over) {
        char clean[256];
        fprintf(stderr, "loading %s (%zu MiB) ...", cli_printable(p->what, clean, sizeof clean, false), p->size >> 20);
        p->shown = true;
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static void progress_start(struct progress *p, const char *what, size_t size) {
    *p = (struct progress){
        .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, .what = what, .size = size};
    if (size < PROGRESS_MIN_SIZE || !isatty(STDERR_FILENO)) return;
    sigset_t all, old; /* signals are for the main thread, whose end is the keep's end */
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    p->started = !pthread_create(&p->thread, NULL, progress_main, p);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/* The program is about to run, or never will: takes the line away again. */
static void progress_end(void *ctx) {
    struct progress *p = ctx;
    if (!p->started) return;
    pthread_mutex_lock(&p->lock);
    p->over = true;
    pthread_cond_signal(&p->changed);
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->thread, NULL);
    p->started = false;
    if (p->shown) fputs("\r\033[K", stderr);
}

static int run_keep(struct run *r) {
    char *bytes;
    size_t size;
    uint64_t before = now_ns();
    if (!read_module(r, &bytes, &size)) return CLI_FAILED;
    r->read_ns = now_ns() - before;
    struct keep_options options = {
        .config = &r->c,
        .wasm = bytes,
        .wasm_size = size,
        .stdio = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO},
        .backend = r->backend,
        .debug = r->debug,
        .ready = progress_end,
    };
    struct keep_result result = {0};
    struct progress progress;
    progress_start(&progress, r->module, size);
    options.ready_ctx = &progress;
    keep_run(&options, &result);
    progress_end(&progress);
    free(bytes);
    if (r->json)
        print_json(r, &result, now_ns());
    else if (result.text)
        print_text(r, &result);
    int code = result.exit_code, by = result.outcome == KEEP_SIGNALLED ? result.signal : 0;
    keep_result_free(&result);
    if (by) die_by(by);
    return code;
}

static int main_run(struct cli_args *a) {
    struct run r = {.verb = a->verb, .started_ns = now_ns()};
    struct cli_args second = *a;
    int code = CLI_FAILED;
    if (!read_options(&r, a)) return a->exit_code;
    if (!config_init(&r.c))
        cli_error(r.verb, "out of memory");
    else if (find_module(&r) && build_config(&r, &second))
        code = run_keep(&r);
    config_free(&r.c);
    free(r.module);
    free(r.config_found);
    free(second.keys_copy);
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
    {OPT_JSON, 0, "json", NULL,
     "Report how it ended as one line of JSON, the last of standard error, instead of as text."},
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
    {KEY_UNKNOWN_IMPORTS, 0, "unknown-imports-trap", "[=y|n]",
     "Functions that the module imports and nobody provides trap when they are called, instead of being refused at "
     "once."},
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
    .text = "Runs APP, a WebAssembly module for WASI preview 1 (`wasm32-wasip1`), in a keep of its own. APP is a file, "
            "`-` for standard "
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
