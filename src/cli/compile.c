/* donjon compile: a module becomes machine code, in a file or in the cache; or is looked at on its way there. */
#define _GNU_SOURCE
#include "compile.h"
#include "code_cache.h"
#include "code_file.h"
#include "code_key.h"
#include "gate/gate.h"
#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { OPT_OUTPUT = 1, OPT_CACHE, OPT_BACKGROUND, OPT_THREADS, OPT_FUEL, OPT_CHECKS, OPT_DUMP, OPT_FUNC };

struct compile {
    const struct cli_verb *verb;
    const char *path, *output, *dump, *func;
    bool cache, background, fuel, explicit_checks;
    unsigned threads;
    char *bytes; /* the file; the module is it, or in it */
    const void *wasm;
    size_t wasm_size;
    uint8_t key[MAC_KEY];
};

/* ---- options and input ---- */

static unsigned cpus(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) ? 1 : (unsigned)CPU_COUNT(&set);
}

static int read_options(struct compile *c, struct cli_args *a) {
    const char *value;
    char *end;
    c->threads = cpus();
    for (int id; (id = cli_next(a, &value)) != CLI_END;) {
        switch (id) {
        case CLI_STOP: return -1;
        case OPT_OUTPUT: c->output = value; break;
        case OPT_CACHE: c->cache = true; break;
        case OPT_BACKGROUND: c->background = true; break;
        case OPT_FUEL: c->fuel = true; break;
        case OPT_CHECKS: c->explicit_checks = true; break;
        case OPT_DUMP: c->dump = value; break;
        case OPT_FUNC: c->func = value; break;
        case OPT_THREADS:
            c->threads = (unsigned)strtoul(value, &end, 10);
            if (*value >= '1' && *value <= '9' && !*end && c->threads <= 1024) break;
            return cli_usage_error(a, "--threads: expected a number from 1 to 1024, found \"%s\"", value);
        default:
            if (c->path) return cli_usage_error(a, "expected one module, found \"%s\" too", value);
            c->path = value;
        }
    }
    if (!c->path) return cli_usage_error(a, "which module? Expected the path of a WebAssembly module");
    if (!!c->output + c->cache + !!c->dump > 1) return cli_usage_error(a, "expected one of -o, --cache and --dump");
    if (c->cache && c->fuel) return cli_usage_error(a, "the cache is for programs without a fuel limit");
    if (c->cache && c->explicit_checks) return cli_usage_error(a, "the cache is for programs without explicit checks");
    return 0;
}

/* A module, or the one in a file that was compiled before, by whomever. */
static int read_input(struct compile *c) {
    size_t size;
    const uint8_t *module;
    if (!cli_read_file(c->path, BOOT_MAX_MODULE, &c->bytes, &size))
        return cli_error(c->verb, "cannot read %s: %s", c->path, strerror(errno));
    c->wasm = c->bytes;
    c->wasm_size = size;
    if (code_file_is(c->bytes, size)) {
        if (!code_file_module(c->bytes, size, &module, &c->wasm_size))
            return cli_error(c->verb, "%s was compiled by donjon, but its module is not in it", c->path);
        c->wasm = module;
    }
    const char *why = cli_not_a_module(c->wasm, c->wasm_size);
    return why ? cli_error(c->verb, "%s %s", c->path, why) : 0;
}

/* ---- compiling ---- */

struct shown {
    _Atomic unsigned percent;
    const char *what;
};

/* From any of the threads: whoever reaches a new percent says so. */
static void show_progress(void *ctx, uint32_t done, uint32_t all) {
    struct shown *s = ctx;
    unsigned now = (unsigned)(100ull * done / all), before = atomic_load(&s->percent);
    if (now > before && atomic_compare_exchange_strong(&s->percent, &before, now))
        fprintf(stderr, "\rcompiling %s ... %u %%", s->what, now);
}

static const char *output_path(struct compile *c, char *buf, size_t size) {
    if (c->output) return c->output;
    size_t n = strlen(c->path);
    bool wasm = n > 5 && !strcmp(c->path + n - 5, ".wasm"), same = n > 7 && !strcmp(c->path + n - 7, ".donjon");
    snprintf(buf, size, "%.*s.donjon", (int)(n - (wasm ? 5 : same ? 7 : 0)), c->path);
    return buf;
}

static int write_result(struct compile *c, const uint8_t digest[MAC_SIZE], const wasm_byte_vec_t *code) {
    char path[4200];
    if (c->cache) {
        if (code_cache_put(c->key, digest, c->wasm_size, code->data, code->size)) return CLI_YES;
        return cli_error(c->verb, "cannot write to the cache (DONJON_CODE_CACHE, $XDG_CACHE_HOME, ~/.cache): %s",
                         strerror(errno));
    }
    const char *to = output_path(c, path, sizeof path);
    if (code_file_write(to, c->key, digest, c->wasm, c->wasm_size, code->data, code->size)) return CLI_YES;
    return cli_error(c->verb, "cannot write %s: %s", to, strerror(errno));
}

static int compile_module(struct compile *c, const wasm_module_t *module) {
    char clean[256], error[4600];
    struct shown shown = {.what = cli_printable(c->path, clean, sizeof clean, false)};
    bool terminal = isatty(STDERR_FILENO);
    struct donjon_compile_options o = {.fuel = c->fuel,
                                       .explicit_checks = c->explicit_checks,
                                       .threads = c->threads,
                                       .progress = terminal ? show_progress : NULL,
                                       .progress_ctx = &shown};
    if (c->dump) return compile_dump(c->verb, module, c->dump, c->func, &o);
    if (!donjon_cpu_id()) return cli_error(c->verb, "this CPU has no native code: programs are interpreted here");
    if (!code_key(true, c->key, error, sizeof error)) return cli_error(c->verb, "%s", error);
    if (!mac_sha256(c->wasm, c->wasm_size, o.digest)) return cli_error(c->verb, "libcrypto failed");
    if (c->background && !code_cache_claim(o.digest, c->wasm_size)) return CLI_YES; /* done, or being done */
    wasm_byte_vec_t code;
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    if (!donjon_module_compile(module, &o, &code))
        return cli_error(c->verb, "%s cannot be compiled: out of memory, or it uses instructions of garbage collection",
                         c->path);
    int result = write_result(c, o.digest, &code);
    clock_gettime(CLOCK_MONOTONIC, &b);
    struct donjon_module_counts n = donjon_module_counts(module);
    if (terminal && !result)
        fprintf(stderr, "\r\033[Kcompiled %s: %u functions, %.1f MiB of code, %.2f s\n", shown.what,
                n.funcs - n.imported_funcs, (double)code.size / (1 << 20),
                (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9);
    wasm_byte_vec_delete(&code);
    return result;
}

static int load_and_compile(struct compile *c) {
    struct donjon_module_error err = {.message = "out of memory"};
    wasm_engine_t *engine = donjon_engine_new(donjon_platform_posix_threads());
    wasm_store_t *store = engine ? donjon_store_new(engine, &(struct donjon_limits){.interpret = true}) : NULL;
    wasm_module_t *module = store ? donjon_module_new(store, c->wasm, c->wasm_size, &err) : NULL;
    int code;
    if (module)
        code = compile_module(c, module);
    else
        code = cli_error(c->verb, "%s: %s module, byte %zu: %s", c->path, err.malformed ? "malformed" : "invalid",
                         err.offset, err.message);
    if (module) wasm_module_delete(module);
    if (store) wasm_store_delete(store);
    if (engine) wasm_engine_delete(engine);
    return code;
}

/* What is done unasked takes only what nobody else wants. */
static void step_back(void) {
    struct sched_param none = {0};
    (void)sched_setscheduler(0, SCHED_IDLE, &none);
    (void)setpriority(PRIO_PROCESS, 0, 19);
}

static int main_compile(struct cli_args *a) {
    struct compile c = {.verb = a->verb};
    if (read_options(&c, a)) return a->exit_code;
    if (c.background) {
        step_back();
        c.threads = 1;
    }
    int code = read_input(&c);
    if (!code) code = load_and_compile(&c);
    explicit_bzero(c.key, sizeof c.key);
    free(c.bytes);
    return code;
}

static const struct cli_option options[] = {
    {OPT_OUTPUT, 'o', "output", "FILE", "Where to; otherwise beside the module: app.wasm becomes app.donjon."},
    {OPT_CACHE, 0, "cache", NULL, "Put the code into this user's cache, where `donjon run APP.wasm` finds it."},
    {OPT_THREADS, 0, "threads", "N", "At most so many threads; otherwise one for each CPU."},
    {OPT_FUEL, 0, "fuel", NULL, "For runs with a fuel limit, and only for those."},
    {OPT_CHECKS, 0, "explicit-checks", NULL, "For runs with `-W explicit-checks`, and only for those."},
    {OPT_DUMP, 0, "dump", "STAGES",
     "Write no file; show what the compiler makes of the functions: `ir` after selection, `ra` with registers, `asm`; "
     "several with commas."},
    {OPT_FUNC, 0, "func", "N|NAME", "With --dump: this function only, by its index or its name."},
    {OPT_BACKGROUND, 0, "background", NULL,
     "With --cache: at the lowest priority, one at a time, and not when it is there already. `donjon run` does this."},
    {0},
};
static const struct cli_example examples[] = {
    {"donjon compile app.wasm && donjon run app.donjon", "Compile now, start fast later"},
    {"donjon compile --cache app.wasm", "Have `donjon run app.wasm` start fast the first time, too"},
    {"donjon compile --dump ir,asm --func main app.wasm", "What does main become?"},
    {0},
};

const struct cli_verb verb_compile = {
    .name = "compile",
    .operands = "APP",
    .summary = "Compile a WebAssembly module ahead of time",
    .text =
        "Compiles all of APP to machine code. `donjon run` compiles functions as they are first called, which takes "
        "big "
        "programs a while; what this verb makes starts without.\n\n"
        "The file contains the module and its code, and belongs to this build of donjon, this kind of CPU and this "
        "user: it is authenticated with a key of the user's own, made when first needed in ~/.local/share/donjon/key. "
        "`donjon run` refuses a file that is anything else and says why. APP may be such a file: it is compiled "
        "anew, whatever is wrong with its code.\n\n"
        "The cache (~/.cache/donjon) holds code alone, in the same form. `donjon run` looks there for modules of 4 MiB "
        "and "
        "more, and when there was nothing, fills it in the background after the program has ended.",
    .options = options,
    .examples = examples,
    .main = main_compile,
};
