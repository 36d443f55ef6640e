/* Instantiation (specification, section 4.7.2): imports are checked completely, then everything is allocated, then
 * active segments and the start function run. */
#include "objects.h"
#include "interp.h"
#include "native/native.h"
#include "text.h"

#include <string.h>

enum {
    PROBLEMS_MAX = 100, /* lines of one link error */
    NAME_SHOWN_MAX = 200
};

/* ---- import matching (section 3.3.13 and following) ---- */

static bool limits_match(const struct limits *given, const struct limits *wanted) {
    if (given->is64 != wanted->is64 || given->shared != wanted->shared || given->min < wanted->min) return false;
    return !wanted->has_max || (given->has_max && given->max <= wanted->max);
}

static bool types_equal(const struct engine *e, valtype a, valtype b) {
    return type_matches(e, a, b) && type_matches(e, b, a);
}

static bool import_matches(const struct module *m, const struct import *import, const struct extern_ *x) {
    const struct engine *e = m->engine;
    if (x->kind != import->kind) return false;
    switch (import->kind) {
    case EXTERN_FUNC: return type_id_matches(e, x->func->type_id, m->func_types[import->index]);
    case EXTERN_MEMORY: return limits_match(&x->memory->type, &m->memories[import->index]);
    case EXTERN_TAG: return x->tag->type_id == m->tag_types[import->index];
    case EXTERN_TABLE: {
        const struct tabletype *t = &m->tables[import->index].type;
        return limits_match(&x->table->type.limits, &t->limits) && types_equal(e, x->table->type.elem, t->elem);
    }
    case EXTERN_GLOBAL: {
        const struct globaltype *t = &m->globals[import->index].type, *given = &x->global->type;
        if (given->mutable_ != t->mutable_) return false;
        return t->mutable_ ? types_equal(e, given->type, t->type) : type_matches(e, given->type, t->type);
    }
    }
    return false;
}

/* ---- what is wrong with imports, in words ---- */

static void describe_limits(struct text *t, const char *what, const struct limits *l) {
    text_format(t, "%s %s%llu..", what, l->is64 ? "i64 " : "", (unsigned long long)l->min);
    if (l->has_max) text_format(t, "%llu", (unsigned long long)l->max);
    if (l->shared) text_format(t, " shared");
}

static void describe_table(struct text *t, const struct tabletype *type) {
    char elem[32];
    vt_print(type->elem, elem);
    describe_limits(t, "table", &type->limits);
    text_format(t, " %s", elem);
}

static void describe_global(struct text *t, const struct globaltype *type) {
    char content[32];
    vt_print(type->type, content);
    text_format(t, "global %s%s", type->mutable_ ? "mut " : "", content);
}

static void describe_func(struct text *t, const char *what, const struct engine *e, uint32_t type_id) {
    text_format(t, "%s ", what);
    text_functype(t, type_func(e, type_id));
}

static void describe_wanted(struct text *t, const struct module *m, const struct import *import) {
    switch (import->kind) {
    case EXTERN_FUNC: describe_func(t, "function", m->engine, m->func_types[import->index]); break;
    case EXTERN_TAG: describe_func(t, "tag", m->engine, m->tag_types[import->index]); break;
    case EXTERN_TABLE: describe_table(t, &m->tables[import->index].type); break;
    case EXTERN_MEMORY: describe_limits(t, "memory", &m->memories[import->index]); break;
    case EXTERN_GLOBAL: describe_global(t, &m->globals[import->index].type); break;
    }
}

static void describe_given(struct text *t, const struct engine *e, const struct extern_ *x) {
    switch (x->kind) {
    case EXTERN_FUNC: describe_func(t, "function", e, x->func->type_id); break;
    case EXTERN_TAG: describe_func(t, "tag", e, x->tag->type_id); break;
    case EXTERN_TABLE: describe_table(t, &x->table->type); break;
    case EXTERN_MEMORY: describe_limits(t, "memory", &x->memory->type); break;
    case EXTERN_GLOBAL: describe_global(t, &x->global->type); break;
    }
}

static void describe_name(struct text *t, const struct import *import) {
    text_format(t, "\"");
    text_foreign(t, import->module.data, import->module.size, NAME_SHOWN_MAX);
    text_format(t, "\" \"");
    text_foreign(t, import->name.data, import->name.size, NAME_SHOWN_MAX);
    text_format(t, "\"");
}

static void describe_problem(struct text *t, const struct module *m, const struct import *import,
                             const struct extern_ *x) {
    text_format(t, t->used ? "\nimport " : "import ");
    describe_name(t, import);
    text_format(t, x->any ? ": incompatible import type: needs " : ": ");
    describe_wanted(t, m, import);
    text_format(t, x->any ? ", given " : " is not provided");
    if (x->any) describe_given(t, m->engine, x);
}

static const struct functype *import_functype(const struct module *m, const struct import *import) {
    return type_func(m->engine, m->func_types[import->index]);
}

static bool has_defaults(const struct functype *t) {
    for (uint32_t n = 0; n < t->n_results; n++)
        if (!vt_defaultable(t->results[n])) return false;
    return true;
}

static bool may_be_unknown(const struct module *m, const struct import *import, enum unknown_import unknown) {
    if (import->kind != EXTERN_FUNC) return false;
    return unknown == UNKNOWN_TRAPS || (unknown == UNKNOWN_RETURNS && has_defaults(import_functype(m, import)));
}

/* Every import looked at; true when all fit, else each that does not is a line of `t`. */
static bool check_imports(const struct module *m, const struct extern_ *imports, enum unknown_import unknown,
                          struct text *t) {
    uint32_t problems = 0;
    for (uint32_t n = 0; n < m->n_imports; n++) {
        const struct import *import = &m->imports[n];
        const struct extern_ *x = &imports[n];
        if (x->any ? import_matches(m, import, x) : may_be_unknown(m, import, unknown)) continue;
        if (problems++ < PROBLEMS_MAX) describe_problem(t, m, import, x);
    }
    if (problems > PROBLEMS_MAX) text_format(t, "\nand %u more imports", problems - PROBLEMS_MAX);
    return !problems;
}

/* ---- errors ---- */

/* One instantiation under way. */
struct job {
    struct store *s;
    struct instance *i;
    const struct extern_ *imports;
    enum unknown_import unknown;
    struct instantiate_error *err;
    struct text message;
};

static bool fail(struct job *j, enum instantiate_failure what, enum trap_kind trap) {
    j->err->what = what;
    j->err->trap = trap;
    return false;
}

static bool out_of_memory(struct job *j) {
    text_format(&j->message, "out of memory while instantiating");
    return fail(j, INSTANTIATE_MEMORY, TRAP_OUT_OF_MEMORY);
}

static bool beyond_limit(struct job *j, const char *what, uint32_t index, uint64_t wanted, const char *unit,
                         uint64_t limit) {
    text_format(&j->message, "%s %u: cannot have %llu %s: the limit for all of them together is %llu", what, index,
                (unsigned long long)wanted, unit, (unsigned long long)limit);
    return fail(j, INSTANTIATE_MEMORY, TRAP_OUT_OF_MEMORY);
}

static bool trapped(struct job *j, enum trap_kind trap) {
    text_format(&j->message, "%s", trap_message(trap));
    return fail(j, INSTANTIATE_TRAP, trap);
}

/* ---- allocation ---- */

static enum trap_kind unknown_traps(void *env, struct store *s, struct instance *caller, slot *args) {
    const struct import *import = env;
    (void)caller, (void)args;
    struct text t = {.out = s->trap.message, .size = sizeof s->trap.message};
    text_format(&t, "unknown import called: ");
    describe_name(&t, import);
    return TRAP_UNKNOWN_IMPORT;
}

static enum trap_kind unknown_returns(void *env, struct store *s, struct instance *caller, slot *args) {
    const struct functype *type = env;
    (void)s, (void)caller;
    memset(args, 0, type->result_slots * sizeof *args);
    return TRAP_NONE;
}

static struct func *unknown_func(struct job *j, const struct import *import) {
    const struct module *m = j->i->module;
    const bool returns = j->unknown == UNKNOWN_RETURNS;
    return func_new_host(j->s, m->func_types[import->index], returns ? unknown_returns : unknown_traps,
                         returns ? (void *)import_functype(m, import) : (void *)import, NULL);
}

static bool take_import(struct job *j, const struct import *import, const struct extern_ *x) {
    struct instance *i = j->i;
    switch (import->kind) {
    case EXTERN_FUNC:
        i->funcs[import->index] = x->any ? x->func : unknown_func(j, import);
        return i->funcs[import->index] != NULL;
    case EXTERN_TABLE: i->tables[import->index] = x->table; break;
    case EXTERN_MEMORY: i->memories[import->index] = x->memory; break;
    case EXTERN_GLOBAL: i->globals[import->index] = x->global; break;
    case EXTERN_TAG: i->tags[import->index] = x->tag; break;
    }
    return true;
}

static void make_funcs(struct instance *i, struct func *funcs) {
    const struct module *m = i->module;
    for (uint32_t n = m->n_func_imports; n < m->n_funcs; n++, funcs++) {
        *funcs = (struct func){.kind = FUNC_WASM, .type_id = m->func_types[n], .store = i->store};
        funcs->wasm.instance = i;
        funcs->wasm.index = n;
        funcs->wasm.code = interp_lazy_entry();
        i->funcs[n] = funcs;
    }
}

static bool make_arrays(struct job *j) {
    struct instance *i = j->i;
    const struct module *m = i->module;
    i->funcs = store_alloc(j->s, m->n_funcs * sizeof *i->funcs);
    i->tables = store_alloc(j->s, m->n_tables * sizeof *i->tables);
    i->memories = store_alloc(j->s, m->n_memories * sizeof *i->memories);
    i->globals = store_alloc(j->s, m->n_globals * sizeof *i->globals);
    i->tags = store_alloc(j->s, m->n_tags * sizeof *i->tags);
    i->elem_dropped = store_alloc(j->s, m->n_elems * sizeof *i->elem_dropped);
    i->data_dropped = store_alloc(j->s, m->n_datas * sizeof *i->data_dropped);
    i->elem_values = store_alloc(j->s, m->n_elems * sizeof *i->elem_values);
    struct func *funcs = store_alloc(j->s, (size_t)(m->n_funcs - m->n_func_imports) * sizeof *funcs);
    if (!i->funcs || !i->tables || !i->memories || !i->globals || !i->tags || !i->elem_dropped || !i->data_dropped ||
        !i->elem_values || !funcs)
        return out_of_memory(j);
    make_funcs(i, funcs);
    for (uint32_t n = 0; n < m->n_imports; n++)
        if (!take_import(j, &m->imports[n], &j->imports[n])) return out_of_memory(j);
    return true;
}

static bool make_memories(struct job *j) {
    const struct module *m = j->i->module;
    for (uint32_t n = m->n_memory_imports; n < m->n_memories; n++) {
        j->i->memories[n] = memory_new(j->s, &m->memories[n]);
        if (!j->i->memories[n])
            return beyond_limit(j, "memory", n, m->memories[n].min, "pages of 64 KiB",
                                j->s->limits.memory_bytes / PAGE_SIZE);
    }
    j->i->memory0 = m->n_memories ? j->i->memories[0] : NULL;
    return true;
}

static bool evaluate(struct job *j, const struct constexpr_ *x, slot out[2]) {
    const uint8_t *p = j->i->module->data + x->offset;
    return constexpr_eval(j->i, &p, out) || out_of_memory(j);
}

static bool make_globals(struct job *j) {
    const struct module *m = j->i->module;
    for (uint32_t n = m->n_global_imports; n < m->n_globals; n++) {
        slot value[2];
        if (!evaluate(j, &m->globals[n].init, value)) return false;
        j->i->globals[n] = global_new(j->s, &m->globals[n].type, value);
        if (!j->i->globals[n]) return out_of_memory(j);
    }
    return true;
}

static bool make_tables(struct job *j) {
    const struct module *m = j->i->module;
    for (uint32_t n = m->n_table_imports; n < m->n_tables; n++) {
        const struct table_def *d = &m->tables[n];
        slot init[2] = {{0}};
        if (d->init.size && !evaluate(j, &d->init, init)) return false;
        j->i->tables[n] = table_new(j->s, &d->type, init[0]);
        if (!j->i->tables[n])
            return beyond_limit(j, "table", n, d->type.limits.min, "elements", j->s->limits.table_elems);
    }
    return true;
}

static bool make_tags(struct job *j) {
    const struct module *m = j->i->module;
    for (uint32_t n = m->n_tag_imports; n < m->n_tags; n++) {
        j->i->tags[n] = tag_new(j->s, m->tag_types[n]);
        if (!j->i->tags[n]) return out_of_memory(j);
    }
    return true;
}

/* ---- segments and start ---- */

static uint64_t address(const slot value[2], bool is64) {
    return is64 ? value[0].i64 : value[0].i32;
}

static bool run_elems(struct job *j) {
    const struct module *m = j->i->module;
    for (uint32_t n = 0; n < m->n_elems; n++) {
        const struct elem_segment *e = &m->elems[n];
        if (e->mode == SEGMENT_ACTIVE) {
            slot at[2];
            if (!evaluate(j, &e->offset, at)) return false;
            struct table *t = j->i->tables[e->table];
            enum trap_kind trap = table_init_active(j->i, n, t, address(at, t->type.limits.is64));
            if (trap) return trapped(j, trap);
        }
        j->i->elem_dropped[n] = e->mode != SEGMENT_PASSIVE;
    }
    return true;
}

static bool run_datas(struct job *j) {
    const struct module *m = j->i->module;
    for (uint32_t n = 0; n < m->n_datas; n++) {
        const struct data_segment *d = &m->datas[n];
        if (d->mode != SEGMENT_ACTIVE) continue;
        slot at[2];
        if (!evaluate(j, &d->offset, at)) return false;
        struct memory *mem = j->i->memories[d->memory];
        enum trap_kind trap = memory_init(j->i, n, mem, address(at, mem->type.is64), 0, d->size);
        if (trap) return trapped(j, trap);
        j->i->data_dropped[n] = true;
    }
    return true;
}

static bool make_native(struct job *j) {
    return !j->s->native || native_instance(j->s->native, j->i) || out_of_memory(j);
}

static bool run_start(struct job *j) {
    const struct module *m = j->i->module;
    if (m->start == UINT32_MAX) return true;
    slot none[1];
    enum trap_kind trap = func_call(j->i->funcs[m->start], none);
    return !trap || trapped(j, trap);
}

static bool run(struct job *j, struct module *m) {
    j->s->trap = (struct trap){0};
    if (!check_imports(m, j->imports, j->unknown, &j->message)) return fail(j, INSTANTIATE_LINK, TRAP_NONE);
    j->i = store_alloc(j->s, sizeof *j->i);
    if (!j->i || !object_list_add(j->s, &j->s->objects->instances, j->i)) return out_of_memory(j);
    j->i->store = j->s;
    j->i->module = m;
    module_ref(m);
    return make_arrays(j) && make_memories(j) && make_globals(j) && make_tables(j) && make_tags(j) && make_native(j) &&
           run_elems(j) && run_datas(j) && run_start(j);
}

struct instance *instantiate(struct store *s, struct module *m, const struct extern_ *imports,
                             enum unknown_import unknown, struct instantiate_error *err) {
    struct job j = {
        .s = s, .imports = imports, .unknown = unknown, .err = err, .message = {.grow = s->engine->platform}};
    *err = (struct instantiate_error){0};
    bool ok = run(&j, m);
    if (ok) return j.i;
    s->trap.kind = err->trap;
    err->message = j.message.out;
    return NULL;
}

struct extern_ instance_extern(const struct instance *i, enum externkind kind, uint32_t index) {
    struct extern_ x = {.kind = kind};
    switch (kind) {
    case EXTERN_FUNC: x.func = i->funcs[index]; break;
    case EXTERN_TABLE: x.table = i->tables[index]; break;
    case EXTERN_MEMORY: x.memory = i->memories[index]; break;
    case EXTERN_GLOBAL: x.global = i->globals[index]; break;
    case EXTERN_TAG: x.tag = i->tags[index]; break;
    }
    return x;
}

struct extern_ instance_export(const struct instance *i, const char *name, size_t len) {
    const struct module *m = i->module;
    for (uint32_t n = 0; n < m->n_exports; n++)
        if (m->exports[n].name.size == len && !memcmp(m->exports[n].name.data, name, len))
            return instance_extern(i, m->exports[n].kind, m->exports[n].index);
    return (struct extern_){0};
}
