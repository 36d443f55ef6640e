/* Runs conformance scripts (wast2json's JSON) against the engine's internal API.
 *
 *   spec_runner [--interpret | --explicit | --image] [--attend] [--skip FILE] [--counts FILE] DIR...
 *
 * A DIR is one unpacked archive: NAME.json per script, and the modules it names. Every script runs in a process of its
 * own, so a crash costs that script's remaining assertions and nothing else. Per DIR one line with its totals (checked
 * against --counts, a table of archive, script, assertions, ...); failures with script and line; at the end
 * "N passed, N failed, N skipped". Exit 0 when nothing failed, 77 when there is no DIR to run.
 *
 * The skip list has one `archive script line reason` a line. script may be `*`; line is a number, `*` for the whole
 * script, or `exec` for everything that would execute a module: modules are then still decoded and validated.
 *
 * Modules in text form assert that a text parser refuses them, and the engine has none: wabt's wat2wasm is asked
 * (without its validator). Where it makes a binary, the engine must refuse that. They are counted apart as well. */
#include "heap.h"
#include "disturb.h"
#include "native/image.h"
#include "native/native.h"
#include "store.h"
#include <dirent.h>
#include <donjon/platform.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    NAMES_MAX = 256,      /* names a script may give to modules or register */
    VALUES_MAX = 1024,    /* arguments or results of one call */
    SCRIPT_SECONDS = 300, /* a script that takes longer hangs */
    FAILURES_SHOWN = 10,  /* per script; the rest is counted */
    SPECTEST_MAX = 24
};

/* What a script's process reports; in memory shared with the parent. */
struct counts {
    long total, passed, failed, skipped;
    long commands, commands_failed; /* modules, registrations, actions: no assertions, but they must succeed */
    long text, text_parser;         /* assertions on text modules; those which the text parser refused */
    long line;                      /* where the script is */
};

struct skip {
    char *archive, *script, *line, *reason;
};
static bool interpret;       /* no native code */
static bool explicit_checks; /* native code without guard pages */
static bool ahead;           /* every module compiled whole, and used as an image */
static bool attended;        /* interrupted wherever that is possible, and gone on with */
static struct skip *skips;
static size_t n_skips;

struct named {
    const char *name;
    size_t len;
    struct instance *instance;
    struct module *module;
};

struct spectest {
    const char *name;
    struct extern_ ext;
};

struct script {
    const char *dir, *archive, *name;
    struct counts *counts;
    struct engine *engine;
    struct store *store;
    struct instance *current;
    struct named names[NAMES_MAX], registered[NAMES_MAX];
    size_t n_names, n_registered;
    struct spectest spectest[SPECTEST_MAX];
    size_t n_spectest;
    long shown;
};

/* ---- skip list ---- */

static void skips_read(const char *path) {
    FILE *f = fopen(path, "r");
    if (!f) {
        perror(path);
        exit(2);
    }
    char line[512];
    while (fgets(line, sizeof line, f)) {
        char a[64], s[64], l[32];
        int at = 0;
        if (line[0] == '#' || sscanf(line, "%63s %63s %31s %n", a, s, l, &at) < 3) continue;
        line[strcspn(line, "\n")] = 0;
        skips = realloc(skips, (n_skips + 1) * sizeof *skips);
        skips[n_skips++] = (struct skip){strdup(a), strdup(s), strdup(l), strdup(line + at)};
    }
    fclose(f);
}

static bool skip_hit(const struct script *s, const char *line) {
    for (size_t i = 0; i < n_skips; i++) {
        const struct skip *k = &skips[i];
        if (strcmp(k->archive, s->archive) != 0 || strcmp(k->line, line) != 0) continue;
        if (!strcmp(k->script, "*") || !strcmp(k->script, s->name)) return true;
    }
    return false;
}

static bool skip_line(const struct script *s, long line) {
    char text[32];
    snprintf(text, sizeof text, "%ld", line);
    return skip_hit(s, "*") || skip_hit(s, text);
}

/* ---- helpers ---- */

__attribute__((format(printf, 2, 3))) static bool fail(struct script *s, const char *fmt, ...) {
    if (s->shown++ >= FAILURES_SHOWN) return false;
    va_list ap;
    va_start(ap, fmt);
    printf("  %s/%s:%ld: ", s->archive, s->name, s->counts->line);
    vprintf(fmt, ap);
    printf("\n");
    va_end(ap);
    return false;
}

static const char *str(const json_t *o, const char *key) {
    const char *v = json_string_value(json_object_get(o, key));
    return v ? v : "";
}

static uint8_t *file_read(const char *dir, const char *name, size_t *size) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "rb");
    if (!f) {
        perror(path);
        exit(2);
    }
    uint8_t *data = NULL;
    size_t n = 0, room = 0, got;
    do {
        if (n == room) data = realloc(data, room = room ? room * 2 : 65536);
        got = fread(data + n, 1, room - n, f);
        n += got;
    } while (got);
    fclose(f);
    *size = n;
    return data;
}

static struct named *named_find(struct named *list, size_t n, const char *name, size_t len) {
    for (size_t i = n; i-- > 0;)
        if (list[i].len == len && !memcmp(list[i].name, name, len)) return &list[i];
    return NULL;
}

static void named_add(struct named *list, size_t *n, struct named item) {
    if (*n == NAMES_MAX) {
        fprintf(stderr, "more than %d names in one script\n", NAMES_MAX);
        exit(2);
    }
    list[(*n)++] = item;
}

static struct instance *instance_of(struct script *s, const json_t *o, const char *key) {
    const char *name = json_string_value(json_object_get(o, key));
    if (!name) return s->current;
    struct named *n = named_find(s->names, s->n_names, name, strlen(name));
    return n ? n->instance : NULL;
}

/* ---- the host module `spectest` ---- */

static enum trap_kind print_nothing(void *env, struct store *st, struct instance *caller, slot *args) {
    (void)env, (void)st, (void)caller, (void)args;
    return TRAP_NONE;
}

static void spectest_add(struct script *s, const char *name, enum externkind kind, void *object) {
    if (!object || s->n_spectest == SPECTEST_MAX) {
        fprintf(stderr, "spectest: cannot make %s\n", name);
        exit(2);
    }
    s->spectest[s->n_spectest++] = (struct spectest){name, {.kind = kind, .any = object}};
}

static void spectest_func(struct script *s, const char *name, uint32_t n, valtype a, valtype b) {
    uint32_t id = type_intern_func(s->engine, (valtype[]){a, b}, n, NULL, 0);
    spectest_add(s, name, EXTERN_FUNC, func_new_host(s->store, id, print_nothing, NULL, NULL));
}

static void spectest_global(struct script *s, const char *name, valtype t, slot v) {
    struct globaltype gt = {.type = t};
    spectest_add(s, name, EXTERN_GLOBAL, global_new(s->store, &gt, (slot[2]){v, {.i64 = 0}}));
}

static void spectest_make(struct script *s) {
    spectest_func(s, "print", 0, 0, 0);
    spectest_func(s, "print_i32", 1, VT_I32, 0);
    spectest_func(s, "print_i64", 1, VT_I64, 0);
    spectest_func(s, "print_f32", 1, VT_F32, 0);
    spectest_func(s, "print_f64", 1, VT_F64, 0);
    spectest_func(s, "print_i32_f32", 2, VT_I32, VT_F32);
    spectest_func(s, "print_f64_f64", 2, VT_F64, VT_F64);
    spectest_global(s, "global_i32", VT_I32, (slot){.i32 = 666});
    spectest_global(s, "global_i64", VT_I64, (slot){.i64 = 666});
    spectest_global(s, "global_f32", VT_F32, (slot){.f32 = 666.6f});
    spectest_global(s, "global_f64", VT_F64, (slot){.f64 = 666.6});
    struct tabletype tt = {.elem = VT_FUNCREF, .limits = {.min = 10, .max = 20, .has_max = true}};
    spectest_add(s, "table", EXTERN_TABLE, table_new(s->store, &tt, (slot){.ref = NULL}));
    tt.limits.is64 = true;
    spectest_add(s, "table64", EXTERN_TABLE, table_new(s->store, &tt, (slot){.ref = NULL}));
    struct limits mt = {.min = 1, .max = 2, .has_max = true};
    spectest_add(s, "memory", EXTERN_MEMORY, memory_new(s->store, &mt));
}

/* What the import's two names mean in this script, or {0, NULL}. */
static struct extern_ import_resolve(struct script *s, const struct import *im) {
    const char *field = (const char *)im->name.data;
    struct named *r = named_find(s->registered, s->n_registered, (const char *)im->module.data, im->module.size);
    if (r) return instance_export(r->instance, field, im->name.size);
    if (im->module.size != 8 || memcmp(im->module.data, "spectest", 8) != 0) return (struct extern_){0};
    for (size_t i = 0; i < s->n_spectest; i++)
        if (strlen(s->spectest[i].name) == im->name.size && !memcmp(s->spectest[i].name, field, im->name.size))
            return s->spectest[i].ext;
    return (struct extern_){0};
}

/* ---- values ---- */

static unsigned lane_bits(const char *t) {
    if (!strcmp(t, "i8")) return 8;
    if (!strcmp(t, "i16")) return 16;
    if (!strcmp(t, "i32") || !strcmp(t, "f32")) return 32;
    return 64;
}

/* A reference in the scripts is null or a host number, which gets a host reference's tag (heap.h). */
static slot host_ref(const char *v) {
    return (slot){.i64 = !strcmp(v, "null") ? 0 : strtoull(v, NULL, 10) << 2 | REF_TAG_HOST};
}

/* Writes an argument; how many slots it took. */
static unsigned value_read(const json_t *v, slot *out) {
    const char *type = str(v, "type");
    if (!strcmp(type, "v128")) {
        unsigned bits = lane_bits(str(v, "lane_type"));
        const json_t *lanes = json_object_get(v, "value");
        out[0].i64 = out[1].i64 = 0;
        for (unsigned i = 0; i < 128 / bits; i++) {
            uint64_t lane = strtoull(json_string_value(json_array_get(lanes, i)), NULL, 10);
            if (bits < 64) lane &= (1ull << bits) - 1;
            out[i * bits / 64].i64 |= lane << (i * bits % 64);
        }
        return 2;
    }
    if (strstr(type, "ref"))
        *out = host_ref(str(v, "value"));
    else if (!strcmp(type, "i64") || !strcmp(type, "f64"))
        out->i64 = strtoull(str(v, "value"), NULL, 10);
    else
        out->i64 = (uint32_t)strtoull(str(v, "value"), NULL, 10) | 0xdeadbeef00000000u; /* high half: undefined */
    return 1;
}

/* One number or lane of `bits` against its text; NaN patterns as in the specification's appendix of the test suite. */
static bool number_matches(const char *type, const char *want, uint64_t got, unsigned bits) {
    if (bits < 64) got &= (1ull << bits) - 1;
    if (strncmp(want, "nan:", 4) == 0) {
        uint64_t quiet = !strcmp(type, "f32") ? 0x7fc00000u : 0x7ff8000000000000u;
        uint64_t sign = 1ull << (bits - 1);
        return !strcmp(want, "nan:canonical") ? (got & ~sign) == quiet : (got & quiet) == quiet;
    }
    uint64_t w = strtoull(want, NULL, 10);
    if (bits < 64) w &= (1ull << bits) - 1;
    return w == got;
}

static bool ref_matches(const json_t *want, slot got) {
    const char *type = str(want, "type");
    const char *v = json_string_value(json_object_get(want, "value"));
    if (!v) return !strcmp(type, "refnull") ? !got.ref : got.ref != NULL;
    return got.i64 == host_ref(v).i64;
}

static bool value_matches(const json_t *want, const slot *got) {
    const char *type = str(want, "type");
    if (strstr(type, "ref")) return ref_matches(want, *got);
    if (strcmp(type, "v128") != 0) {
        bool wide = !strcmp(type, "i64") || !strcmp(type, "f64");
        return number_matches(type, str(want, "value"), got->i64, wide ? 64 : 32);
    }
    const char *lane = str(want, "lane_type");
    unsigned bits = lane_bits(lane);
    const json_t *lanes = json_object_get(want, "value");
    for (unsigned i = 0; i < 128 / bits; i++) {
        const char *text = json_string_value(json_array_get(lanes, i));
        if (!number_matches(lane, text, got[i * bits / 64].i64 >> (i * bits % 64), bits)) return false;
    }
    return true;
}

static bool value_has_type(const json_t *v, valtype t) {
    const char *type = str(v, "type");
    static const struct {
        const char *name;
        valtype type;
    } numbers[] = {{"i32", VT_I32}, {"i64", VT_I64}, {"f32", VT_F32}, {"f64", VT_F64}, {"v128", VT_V128}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!strcmp(type, numbers[i].name)) return t == numbers[i].type;
    return vt_is_ref(t);
}

static bool values_have_types(const json_t *values, const valtype *types, uint32_t n) {
    if (json_array_size(values) != n) return false;
    for (uint32_t i = 0; i < n; i++)
        if (!value_has_type(json_array_get(values, i), types[i])) return false;
    return true;
}

/* ---- modules and calls ---- */

static struct module *module_load(struct script *s, const char *filename, struct module_error *err) {
    size_t size;
    uint8_t *data = file_read(s->dir, filename, &size);
    struct module *m = module_new(s->engine, data, size, err);
    free(data);
    return m;
}

/* --image: the module's code comes from bytes that another process might have made. */
static void *use_image(struct script *s, struct module *m) {
    static const uint8_t digest[IMAGE_ID] = "spec";
    struct image_options o = {.digest = digest};
    size_t size;
    void *image = s->store->native ? image_compile(m, &o, &size) : NULL;
    const char *wrong = image ? native_use_image(s->store->native, m, digest, image, size) : NULL;
    if (!wrong) return image;
    fprintf(stderr, "image refused: %s\n", wrong);
    exit(2);
}

static struct instance *module_instantiate(struct script *s, struct module *m, struct instantiate_error *err) {
    struct extern_ *imports = calloc(m->n_imports + 1, sizeof *imports);
    for (uint32_t i = 0; i < m->n_imports; i++)
        imports[i] = import_resolve(s, &m->imports[i]);
    memset(err, 0, sizeof *err);
    void *image = ahead ? use_image(s, m) : NULL;
    struct instance *inst = instantiate(s->store, m, imports, false, err);
    if (image) native_use_image(s->store->native, m, NULL, NULL, 0);
    free(image);
    free(imports);
    return inst;
}

static void instantiate_error_free(struct script *s, struct instantiate_error *err) {
    const struct donjon_platform *p = s->engine->platform;
    if (err->message) p->realloc(p->ctx, err->message, 0);
}

struct outcome {
    bool ran; /* otherwise the action itself was wrong, and was reported */
    enum trap_kind trap;
    const struct functype *type; /* of an invoked function */
    valtype get_type;            /* of a global that was read */
    slot values[2 * VALUES_MAX];
};

static bool action_invoke(struct script *s, const json_t *action, struct extern_ ext, struct outcome *o) {
    const json_t *args = json_object_get(action, "args");
    if (ext.kind != EXTERN_FUNC || !ext.func) return fail(s, "no function \"%s\"", str(action, "field"));
    o->type = type_func(s->engine, ext.func->type_id);
    if (o->type->param_slots > VALUES_MAX || o->type->result_slots > VALUES_MAX) return fail(s, "too many values");
    if (!values_have_types(args, o->type->params, o->type->n_params))
        return fail(s, "arguments do not fit \"%s\"", str(action, "field"));
    unsigned at = 0;
    for (uint32_t i = 0; i < o->type->n_params; i++)
        at += value_read(json_array_get(args, i), &o->values[at]);
    o->trap = func_call(ext.func, o->values);
    o->ran = true;
    return true;
}

static bool action_get(struct script *s, const json_t *action, struct extern_ ext, struct outcome *o) {
    if (ext.kind != EXTERN_GLOBAL || !ext.global) return fail(s, "no global \"%s\"", str(action, "field"));
    memcpy(o->values, ext.global->value, sizeof ext.global->value);
    o->get_type = ext.global->type.type;
    o->ran = true;
    return true;
}

static bool action_run(struct script *s, const json_t *action, struct outcome *o) {
    memset(o, 0, sizeof *o);
    struct instance *i = instance_of(s, action, "module");
    if (!i) return fail(s, "no instance to act on");
    const json_t *field = json_object_get(action, "field");
    struct extern_ ext = instance_export(i, json_string_value(field), json_string_length(field));
    if (!strcmp(str(action, "type"), "get")) return action_get(s, action, ext, o);
    return action_invoke(s, action, ext, o);
}

static const char *outcome_text(const struct outcome *o) {
    if (o->trap == TRAP_NONE) return "returned";
    return o->trap == TRAP_EXCEPTION ? "threw an exception" : trap_message(o->trap);
}

/* ---- assertions ---- */

static bool results_match(struct script *s, const json_t *want, const struct outcome *o) {
    const valtype *types = o->type ? o->type->results : &o->get_type;
    uint32_t n = o->type ? o->type->n_results : 1;
    if (!values_have_types(want, types, n)) return fail(s, "%u results, expected %zu", n, json_array_size(want));
    unsigned at = 0;
    for (uint32_t i = 0; i < n; i++) {
        const json_t *w = json_array_get(want, i);
        if (!value_matches(w, &o->values[at])) {
            char *text = json_dumps(w, JSON_ENCODE_ANY);
            fail(s, "result %u is %016llx %016llx, expected %s", i, (unsigned long long)o->values[at].i64,
                 (unsigned long long)(vt_slots(types[i]) == 2 ? o->values[at + 1].i64 : 0), text);
            free(text);
            return false;
        }
        at += vt_slots(types[i]);
    }
    return true;
}

static bool assert_return(struct script *s, const json_t *c) {
    static struct outcome o;
    const json_t *action = json_object_get(c, "action");
    if (!action_run(s, action, &o)) return false;
    if (o.trap != TRAP_NONE) return fail(s, "\"%s\": %s", str(action, "field"), outcome_text(&o));
    const json_t *either = json_object_get(c, "either");
    if (!either) return results_match(s, json_object_get(c, "expected"), &o);
    size_t i;
    const json_t *want;
    json_array_foreach(either, i, want) {
        if (value_matches(want, o.values)) return true;
    }
    return fail(s, "\"%s\": result %016llx %016llx is none of the allowed", str(action, "field"),
                (unsigned long long)o.values[0].i64, (unsigned long long)o.values[1].i64);
}

/* The scripts' wording may say more than ours ("uninitialized element 2"). */
static bool message_fits(const char *want, const char *got) {
    size_t n = strlen(got) < strlen(want) ? strlen(got) : strlen(want);
    return n > 0 && strncmp(want, got, n) == 0;
}

static bool assert_trap(struct script *s, const json_t *c) {
    static struct outcome o;
    if (!action_run(s, json_object_get(c, "action"), &o)) return false;
    bool trapped = o.trap != TRAP_NONE && o.trap != TRAP_EXCEPTION;
    if (trapped && message_fits(str(c, "text"), trap_message(o.trap))) return true;
    return fail(s, "%s, expected trap \"%s\"", outcome_text(&o), str(c, "text"));
}

static bool assert_exhaustion(struct script *s, const json_t *c) {
    static struct outcome o;
    if (!action_run(s, json_object_get(c, "action"), &o)) return false;
    return o.trap == TRAP_STACK ? true : fail(s, "%s, expected exhaustion", outcome_text(&o));
}

static bool assert_exception(struct script *s, const json_t *c) {
    static struct outcome o;
    if (!action_run(s, json_object_get(c, "action"), &o)) return false;
    return o.trap == TRAP_EXCEPTION ? true : fail(s, "%s, expected an exception", outcome_text(&o));
}

enum wat { WAT_BINARY, WAT_REFUSED, WAT_UNABLE };

/* wat2wasm on `filename`, its output into `out`. It hangs on some texts, hence timeout(1). */
static enum wat wat2wasm(struct script *s, const char *filename, const char *out) {
    extern char **environ;
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", s->dir, filename);
    char *argv[] = {"timeout", "5", "wat2wasm", "--enable-all", "--no-check", path, "-o", (char *)out, NULL};
    posix_spawn_file_actions_t fa;
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_addopen(&fa, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&fa, 2, "/dev/null", O_WRONLY, 0);
    pid_t pid;
    int status = -1, e = posix_spawnp(&pid, argv[0], &fa, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&fa);
    if (e) {
        fprintf(stderr, "timeout: %s\n", strerror(e));
        exit(2);
    }
    waitpid(pid, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) > 1) return WAT_UNABLE;
    return WEXITSTATUS(status) == 0 ? WAT_BINARY : WAT_REFUSED;
}

static bool binary_refused(struct script *s, const char *path) {
    struct module_error err;
    size_t size;
    uint8_t *data = file_read("", path, &size);
    struct module *m = module_new(s->engine, data, size, &err);
    free(data);
    if (m) module_unref(m);
    return !m;
}

static bool assert_text_refused(struct script *s, const json_t *c) {
    char out[64] = "/tmp/donjon-wat-XXXXXX";
    int fd = mkstemp(out);
    if (fd < 0) exit(2);
    close(fd);
    s->counts->text++;
    enum wat w = wat2wasm(s, str(c, "filename"), out);
    s->counts->text_parser += w == WAT_REFUSED;
    bool refused = w == WAT_REFUSED || (w == WAT_BINARY && binary_refused(s, out));
    unlink(out);
    if (w == WAT_UNABLE) return fail(s, "wat2wasm neither accepts nor refuses (\"%s\")", str(c, "text"));
    return refused ? true : fail(s, "accepted as text and as binary, expected \"%s\"", str(c, "text"));
}

/* A specification 3.0 decoder may find a malformed module invalid first and the other way round, so either will do. */
static bool assert_refused(struct script *s, const json_t *c) {
    if (!strcmp(str(c, "module_type"), "text")) return assert_text_refused(s, c);
    struct module_error err = {0};
    struct module *m = module_load(s, str(c, "filename"), &err);
    if (!m) return err.message[0] ? true : fail(s, "refused without a message");
    module_unref(m);
    return fail(s, "accepted, expected \"%s\"", str(c, "text"));
}

static bool assert_instantiation_fails(struct script *s, const json_t *c, enum instantiate_failure what) {
    struct module_error merr = {0};
    struct module *m = module_load(s, str(c, "filename"), &merr);
    if (!m) return fail(s, "module refused: %s", merr.message);
    struct instantiate_error err;
    struct instance *i = module_instantiate(s, m, &err);
    module_unref(m);
    if (i) return fail(s, "instantiated, expected \"%s\"", str(c, "text"));
    bool ok = err.what == what;
    if (ok && what == INSTANTIATE_TRAP) ok = message_fits(str(c, "text"), trap_message(err.trap));
    if (!ok) fail(s, "%s, expected \"%s\"", err.message ? err.message : trap_message(err.trap), str(c, "text"));
    instantiate_error_free(s, &err);
    return ok;
}

/* ---- commands that are no assertions ---- */

static bool module_start(struct script *s, struct module *m, const char *name) {
    struct instantiate_error err;
    s->current = NULL;
    struct instance *i = module_instantiate(s, m, &err);
    if (!i) {
        fail(s, "not instantiated: %s", err.message ? err.message : trap_message(err.trap));
        instantiate_error_free(s, &err);
        return false;
    }
    s->current = i;
    if (name) named_add(s->names, &s->n_names, (struct named){name, strlen(name), i, m});
    return true;
}

static bool command_module(struct script *s, const json_t *c, bool define_only) {
    struct module_error err = {0};
    const char *name = json_string_value(json_object_get(c, "name"));
    struct module *m = module_load(s, str(c, "filename"), &err);
    if (!m) {
        if (!define_only) s->current = NULL;
        return fail(s, "module refused: %s (byte %u)", err.message, err.offset);
    }
    bool ok = true;
    if (!define_only)
        ok = module_start(s, m, name);
    else if (name) {
        module_ref(m); /* kept for module_instance */
        named_add(s->names, &s->n_names, (struct named){name, strlen(name), NULL, m});
    }
    module_unref(m); /* its instances keep it */
    return ok;
}

static bool command_instance(struct script *s, const json_t *c) {
    const char *name = str(c, "module");
    struct named *n = named_find(s->names, s->n_names, name, strlen(name));
    if (!n) return fail(s, "no module %s", name);
    return module_start(s, n->module, json_string_value(json_object_get(c, "instance")));
}

static bool command_register(struct script *s, const json_t *c) {
    struct instance *i = instance_of(s, c, "name");
    if (!i) return fail(s, "nothing to register as \"%s\"", str(c, "as"));
    const json_t *as = json_object_get(c, "as");
    named_add(s->registered, &s->n_registered,
              (struct named){json_string_value(as), json_string_length(as), i, i->module});
    return true;
}

static bool command_action(struct script *s, const json_t *c) {
    static struct outcome o;
    if (!action_run(s, json_object_get(c, "action"), &o)) return false;
    return o.trap == TRAP_NONE ? true : fail(s, "action: %s", outcome_text(&o));
}

static bool command_run(struct script *s, const json_t *c, const char *type) {
    if (!strcmp(type, "module")) return command_module(s, c, false);
    if (!strcmp(type, "module_definition")) return command_module(s, c, true);
    if (!strcmp(type, "module_instance")) return command_instance(s, c);
    if (!strcmp(type, "register")) return command_register(s, c);
    if (!strcmp(type, "action")) return command_action(s, c);
    if (!strcmp(type, "assert_return")) return assert_return(s, c);
    if (!strcmp(type, "assert_trap")) return assert_trap(s, c);
    if (!strcmp(type, "assert_exhaustion")) return assert_exhaustion(s, c);
    if (!strcmp(type, "assert_exception")) return assert_exception(s, c);
    if (!strcmp(type, "assert_invalid") || !strcmp(type, "assert_malformed")) return assert_refused(s, c);
    if (!strcmp(type, "assert_unlinkable")) return assert_instantiation_fails(s, c, INSTANTIATE_LINK);
    if (!strcmp(type, "assert_uninstantiable")) return assert_instantiation_fails(s, c, INSTANTIATE_TRAP);
    return fail(s, "unknown command \"%s\"", type);
}

/* ---- a script, an archive ---- */

static bool is_assertion(const char *type) {
    return strncmp(type, "assert_", 7) == 0;
}

static void command_step(struct script *s, const json_t *c) {
    const char *type = str(c, "type");
    struct counts *n = s->counts;
    n->line = (long)json_integer_value(json_object_get(c, "line"));
    bool assertion = is_assertion(type),
         checks_binary = !strcmp(type, "assert_invalid") || !strcmp(type, "assert_malformed");
    bool no_exec = skip_hit(s, "exec") && !checks_binary;
    if (no_exec && (!strcmp(type, "module") || !strcmp(type, "module_definition")))
        type = "module_definition";
    else if (no_exec || skip_line(s, n->line)) {
        if (assertion)
            n->skipped++;
        else if (!strcmp(type, "module"))
            s->current = NULL;
        return;
    }
    bool ok = command_run(s, c, type);
    if (assertion)
        ok ? n->passed++ : n->failed++;
    else
        ok ? n->commands++ : n->commands_failed++;
}

/* For each script; what comes after them costs as always. */
enum { DISTURBANCES = 5000 };

static void interrupt_store(void *store) {
    store_interrupt(store);
}

static void script_run(const char *dir, const char *archive, const char *name, struct counts *n) {
    static struct script s;
    char path[1024];
    snprintf(path, sizeof path, "%s/%s.json", dir, name);
    json_error_t jerr;
    json_t *root = json_load_file(path, JSON_ALLOW_NUL, &jerr);
    if (!root) {
        fprintf(stderr, "%s:%d: %s\n", path, jerr.line, jerr.text);
        exit(2);
    }
    const json_t *c, *commands = json_object_get(root, "commands");
    size_t i;
    json_array_foreach(commands, i, c) n->total += is_assertion(str(c, "type"));
    s = (struct script){.dir = dir, .archive = archive, .name = name, .counts = n};
    struct store_limits limits = {.explicit_checks = explicit_checks, .interpret = interpret};
    s.engine = engine_new(donjon_platform_posix());
    s.store = s.engine ? store_new(s.engine, &limits) : NULL;
    if (!s.store) {
        fprintf(stderr, "no store\n");
        exit(2);
    }
    struct disturb disturb = {.interrupt = interrupt_store, .store = s.store, .left = DISTURBANCES};
    if (attended) {
        s.store->attend = disturb_attend;
        s.store->attend_ctx = &disturb;
        store_interrupt(s.store);
    }
    spectest_make(&s);
    json_array_foreach(commands, i, c) command_step(&s, c);
    if (s.shown > FAILURES_SHOWN) printf("  %s/%s: %ld more failures\n", archive, name, s.shown - FAILURES_SHOWN);
    store_delete(s.store);
    for (i = 0; i < s.n_names; i++)
        if (!s.names[i].instance) module_unref(s.names[i].module);
    engine_delete(s.engine);
    json_decref(root);
}

/* In a process of its own; what it left unsaid (crash, hang) counts as failed. */
static struct counts script_fork(const char *dir, const char *archive, const char *name) {
    struct counts *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        alarm(SCRIPT_SECONDS);
        script_run(dir, archive, name, shared);
        exit(0);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    struct counts n = *shared;
    munmap(shared, sizeof *shared);
    if (status != 0) {
        const char *how = WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "exit";
        printf("  %s/%s:%ld: script ended early (%s)\n", archive, name, n.line, how);
        n.failed = n.total - n.passed - n.skipped;
        n.commands_failed++;
    }
    if (n.failed || n.commands_failed)
        printf("%s/%s: %ld passed, %ld failed, %ld skipped; %ld modules or actions failed\n", archive, name, n.passed,
               n.failed, n.skipped, n.commands_failed);
    return n;
}

static void counts_add(struct counts *sum, const struct counts *n) {
    sum->total += n->total;
    sum->passed += n->passed;
    sum->failed += n->failed;
    sum->skipped += n->skipped;
    sum->commands += n->commands;
    sum->commands_failed += n->commands_failed;
    sum->text += n->text;
    sum->text_parser += n->text_parser;
}

/* The number of assertions that the table has for this archive, or -1. */
static long counts_expected(const char *path, const char *archive) {
    FILE *f = path ? fopen(path, "r") : NULL;
    if (!f) return -1;
    char line[512], a[64], script[64];
    long sum = -1, n;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "%63s %63s %ld", a, script, &n) == 3 && !strcmp(a, archive)) sum = (sum < 0 ? 0 : sum) + n;
    fclose(f);
    return sum;
}

static int is_json(const struct dirent *d) {
    size_t n = strlen(d->d_name);
    return n > 5 && !strcmp(d->d_name + n - 5, ".json");
}

static struct counts archive_run(const char *dir, const char *counts_file) {
    struct counts sum = {0};
    struct dirent **list;
    const char *archive = strrchr(dir, '/') ? strrchr(dir, '/') + 1 : dir;
    int n = scandir(dir, &list, is_json, alphasort);
    if (n < 0) {
        perror(dir);
        exit(2);
    }
    for (int i = 0; i < n; i++) {
        list[i]->d_name[strlen(list[i]->d_name) - 5] = 0;
        struct counts c = script_fork(dir, archive, list[i]->d_name);
        counts_add(&sum, &c);
        free(list[i]);
    }
    free(list);
    printf("%s%s: %d scripts, %ld assertions: %ld passed, %ld failed, %ld skipped", archive,
           interpret  ? " interpreted"
           : ahead    ? " image"
           : attended ? " attended"
                      : "",
           n, sum.total, sum.passed, sum.failed, sum.skipped);
    if (sum.text)
        printf("; %ld of them on text modules (%ld refused by wat2wasm, the engine has no text parser)", sum.text,
               sum.text_parser);
    printf("; %ld modules and actions\n", sum.commands);
    long want = counts_expected(counts_file, archive);
    if (want >= 0 && want != sum.total) {
        printf("%s: the table says %ld assertions, found %ld\n", archive, want, sum.total);
        sum.failed++;
    }
    return sum;
}

int main(int argc, char **argv) {
    struct counts sum = {0};
    const char *counts_file = NULL;
    int at = 1, archives = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (; at < argc; at++) {
        if (!strcmp(argv[at], "--skip") && at + 1 < argc)
            skips_read(argv[++at]);
        else if (!strcmp(argv[at], "--counts") && at + 1 < argc)
            counts_file = argv[++at];
        else if (!strcmp(argv[at], "--interpret"))
            interpret = true;
        else if (!strcmp(argv[at], "--explicit"))
            explicit_checks = true;
        else if (!strcmp(argv[at], "--image"))
            ahead = true;
        else if (!strcmp(argv[at], "--attend"))
            attended = true;
        else {
            struct counts n = archive_run(argv[at], counts_file);
            counts_add(&sum, &n);
            archives++;
        }
    }
    if (!archives) {
        puts("SKIP: no archive to run");
        return 77;
    }
    if (sum.commands_failed) printf("%ld modules or actions failed\n", sum.commands_failed);
    printf("%ld passed, %ld failed, %ld skipped\n", sum.passed, sum.failed, sum.skipped);
    if (sum.failed || sum.commands_failed) return 1;
    if (sum.passed || !sum.skipped) return 0;
    puts("SKIP: all of it is on the skip list");
    return 77;
}
