/* A generated module in our own engine. */
#include "gen.h"
#include "outcome.h"
#include "../wasm/disturb.h"
#include "native/ir.h"
#include "native/image.h"
#include "native/native.h"
#include "store.h"
#include <donjon/platform.h>
#include <stdio.h>
#include <string.h>

static enum trap_kind host_h0(void *env, struct store *s, struct instance *caller, slot *args) {
    (void)env, (void)s, (void)caller;
    args[0].i64 = gen_host_h0(args[0].i32);
    return TRAP_NONE;
}
static enum outcome_kind kind_of(enum trap_kind t) {
    switch (t) {
    case TRAP_NONE: return OUTCOME_VALUE;
    case TRAP_UNREACHABLE: return OUTCOME_UNREACHABLE;
    case TRAP_MEMORY: return OUTCOME_MEMORY;
    case TRAP_DIV_ZERO: return OUTCOME_DIV_ZERO;
    case TRAP_INT_OVERFLOW:
    case TRAP_INT_CONVERSION: return OUTCOME_OVERFLOW;
    case TRAP_TABLE:
    case TRAP_TABLE_ELEM: return OUTCOME_TABLE;
    case TRAP_NULL_ELEM:
    case TRAP_INDIRECT_TYPE: return OUTCOME_INDIRECT;
    case TRAP_NULL_REF:
    case TRAP_NULL_FUNC:
    case TRAP_NULL_EXN:
    case TRAP_NULL_STRUCT:
    case TRAP_NULL_ARRAY:
    case TRAP_NULL_I31: return OUTCOME_NULL;
    case TRAP_STACK: return OUTCOME_STACK;
    case TRAP_EXCEPTION: return OUTCOME_EXCEPTION;
    default: return OUTCOME_OTHER;
    }
}

static void add(struct outcome *o, enum outcome_kind kind, uint32_t index, uint64_t value) {
    if (o->n < RECORDS_MAX) o->records[o->n++] = (struct record){kind, index, value};
}

/* Functions and offsets of the frames: every tier has to name the same. */
static uint32_t where(const struct trap *t) {
    uint32_t h = 1;
    for (uint32_t k = 0; k < t->n_frames; k++)
        h = (h * 31 + t->frames[k].func) * 0x9E3779B1u + t->frames[k].offset;
    return h | 1;
}

static void call_export(struct outcome *o, struct instance *i, const char *name, uint32_t index) {
    slot args[2] = {{.i64 = 0}, {.i64 = 0}};
    struct extern_ f = instance_export(i, name, strlen(name));
    enum trap_kind t = func_call(f.func, args);
    if (kind_of(t) == OUTCOME_OTHER) snprintf(o->error, sizeof o->error, "%s: trap %s", name, trap_message(t));
    add(o, kind_of(t), index, t == TRAP_NONE ? args[0].i64 : 0);
    if (t != TRAP_NONE) o->where[o->n - 1] = where(&i->store->trap);
}

static void observe(struct outcome *o, struct instance *i) {
    const struct module *m = i->module;
    for (uint32_t k = 0; k < m->n_memories; k++) {
        add(o, OUTCOME_VALUE, k, i->memories[k]->size >> 16);
        add(o, OUTCOME_VALUE, k, outcome_hash(i->memories[k]->base, i->memories[k]->size));
    }
    for (uint32_t k = 0; k < m->n_tables; k++) {
        const struct table *t = i->tables[k];
        uint32_t nulls = 0;
        for (uint32_t e = 0; e < t->size && e < 32; e++)
            nulls |= (uint32_t)!t->elems[e].ref << e;
        add(o, OUTCOME_VALUE, k, t->size << 32 | nulls);
    }
}

static void run(struct outcome *o, struct engine *e, struct store *s, struct module *m) {
    uint32_t t0 = type_intern_func(e, (valtype[]){VT_I32}, 1, (valtype[]){VT_I32}, 1);
    struct module_error merr;
    struct module *helper = module_new(e, gen_helper, sizeof gen_helper, &merr);
    struct instantiate_error err = {0};
    struct instance *other = helper ? instantiate(s, helper, NULL, false, &err) : NULL;
    if (!other) __builtin_trap();
    module_unref(helper);
    const struct extern_ imports[] = {{.kind = EXTERN_FUNC, .func = func_new_host(s, t0, host_h0, NULL, NULL)},
                                      instance_export(other, "h1", 2)};
    struct instance *i = m->n_imports == 2 ? instantiate(s, m, imports, false, &err) : NULL;
    if (!i) {
        snprintf(o->error, sizeof o->error, "not instantiated: %s", err.message ? err.message : "");
        if (err.message) e->platform->realloc(e->platform->ctx, err.message, 0);
        add(o, OUTCOME_OTHER, 0, 0);
        return;
    }
    for (uint32_t k = 0; k < GEN_EXPORTS_MAX; k++) {
        char name[] = {'e', (char)('0' + k), 0};
        if (!instance_export(i, name, 2).any) break;
        call_export(o, i, name, k);
    }
    call_export(o, i, "g", 0);
    observe(o, i);
}

enum how { VALIDATE, INTERPRET, LAZY, AHEAD, CHECKED, MIXED, ATTENDED, ATTENDED_CHECKED };
enum { DISTURBANCES = 300 };

/* The module's code as an image, to be freed behind the store. */
static void *image_for(struct store *s, const struct module *m) {
    static const uint8_t digest[IMAGE_ID];
    struct image_options options = {.digest = digest};
    size_t size;
    void *image = s->native ? image_compile(m, &options, &size) : NULL;
    if (image && native_use_image(s->native, m, digest, image, size)) __builtin_trap();
    return image;
}

/* So little address space that 32-bit memories have no guard: code checks bounds itself. */
static void *reserve_little(void *ctx, size_t size) {
    return size > 64 << 20 ? NULL : donjon_platform_posix()->reserve(ctx, size);
}
/* No room for functions of more than 512 instructions: they are interpreted, and call and are called by compiled ones.
 */
static void *realloc_no_big_function(void *ctx, void *block, size_t size) {
    size_t n = size / sizeof(struct ins);
    if (size % sizeof(struct ins) == 0 && n >= 1024 && (n & (n - 1)) == 0) return NULL;
    return donjon_platform_posix()->realloc(ctx, block, size);
}

static void interrupt(void *store) {
    store_interrupt(store);
}

static void load(const uint8_t *module, size_t size, enum how how, struct outcome *o) {
    struct donjon_platform platform = *donjon_platform_posix();
    if (how == CHECKED) platform.reserve = reserve_little;
    if (how == MIXED) platform.realloc = realloc_no_big_function;
    struct module_error err = {0};
    void *image = NULL;
    struct store_limits limits = {.interpret = how == VALIDATE || how == INTERPRET,
                                  .explicit_checks = how == ATTENDED_CHECKED};
    struct engine *e = engine_new(&platform);
    struct store *s = e ? store_new(e, &limits) : NULL;
    memset(o, 0, sizeof *o);
    if (!s) __builtin_trap();
    struct disturb disturb = {.interrupt = interrupt, .store = s, .left = DISTURBANCES};
    if (how == ATTENDED || how == ATTENDED_CHECKED) {
        s->attend = disturb_attend;
        s->attend_ctx = &disturb;
        store_interrupt(s);
    }
    struct module *m = module_new(e, module, size, &err);
    if (m) {
        if (how == AHEAD) image = image_for(s, m);
        if (how != VALIDATE)
            run(o, e, s, m);
        else
            add(o, OUTCOME_VALUE, 0, 0);
        module_unref(m);
    } else {
        snprintf(o->error, sizeof o->error, "byte %u: %s", err.offset, err.message);
        add(o, OUTCOME_INVALID, 0, 0);
    }
    store_delete(s);
    e->platform->realloc(e->platform->ctx, image, 0);
    engine_delete(e);
}

void outcome_here(const uint8_t *module, size_t size, struct outcome *o) {
    load(module, size, LAZY, o);
}
void outcome_interpreted(const uint8_t *module, size_t size, struct outcome *o) {
    load(module, size, INTERPRET, o);
}
void outcome_ahead(const uint8_t *module, size_t size, struct outcome *o) {
    load(module, size, AHEAD, o);
}
void outcome_checked(const uint8_t *module, size_t size, struct outcome *o) {
    load(module, size, CHECKED, o);
}
void outcome_mixed(const uint8_t *module, size_t size, struct outcome *o) {
    load(module, size, MIXED, o);
}
void outcome_attended(const uint8_t *module, size_t size, struct outcome *o) {
    load(module, size, ATTENDED, o);
}
void outcome_attended_checked(const uint8_t *module, size_t size, struct outcome *o) {
    load(module, size, ATTENDED_CHECKED, o);
}
void outcome_here_valid(const uint8_t *module, size_t size, struct outcome *o) {
    load(module, size, VALIDATE, o);
}

bool outcome_compare(const struct outcome *a, const struct outcome *b, char *text, size_t size) {
    for (uint32_t i = 0; i < a->n && i < b->n; i++) {
        const struct record *x = &a->records[i], *y = &b->records[i];
        if (x->kind == OUTCOME_STACK || y->kind == OUTCOME_STACK) return true;
        bool elsewhere = a->where[i] && b->where[i] && a->where[i] != b->where[i];
        if (x->kind == y->kind && x->index == y->index && x->value == y->value && !elsewhere) continue;
        snprintf(text, size, "record %u (%u)%s: kind %u value %llx%s%s; second: kind %u value %llx%s%s", i, x->index,
                 elsewhere ? " elsewhere" : "", x->kind, (unsigned long long)x->value, *a->error ? " " : "", a->error,
                 y->kind, (unsigned long long)y->value, *b->error ? " " : "", b->error);
        return false;
    }
    if (a->n == b->n) return true;
    snprintf(text, size, "%u and %u records", a->n, b->n);
    return false;
}
