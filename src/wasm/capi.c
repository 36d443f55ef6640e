/* wasm.h: engines, stores, references and the objects behind them. */
#include "capi.h"
#include "heap.h"
#include "text.h"

#include <stdlib.h>

/* ---- engine and store
 * --------------------------------------------------------------------------------------------------- */

wasm_engine_t *donjon_engine_new(const struct donjon_platform *p) {
    wasm_engine_t *e = malloc(sizeof *e);
    if (!e) return NULL;
    e->engine = engine_new(p);
    atomic_init(&e->refs, 1);
    if (e->engine) return e;
    free(e);
    return NULL;
}

void wasm_engine_delete(wasm_engine_t *e) {
    if (!e || atomic_fetch_sub(&e->refs, 1) != 1) return;
    engine_delete(e->engine);
    free(e);
}

static wasm_engine_t *engine_retain(wasm_engine_t *e) {
    atomic_fetch_add(&e->refs, 1);
    return e;
}

wasm_store_t *donjon_store_new(wasm_engine_t *e, const struct donjon_limits *l) {
    struct store_limits limits = {
        .memory_bytes = l->memory_bytes,
        .table_elems = l->table_elems,
        .stack_bytes = l->stack_bytes,
        .call_depth = l->call_depth,
        .heap_bytes = l->heap_bytes,
        .fuel = l->fuel,
        .fuel_enabled = l->fuel_enabled,
        .wall_ns = l->wall_ns,
    };
    wasm_store_t *s = malloc(sizeof *s);
    if (!s) return NULL;
    *s = (wasm_store_t){.store = store_new(e->engine, &limits), .refs = 1};
    if (!s->store) {
        free(s);
        return NULL;
    }
    s->store->user = s;
    s->engine = engine_retain(e);
    s->out_of_memory =
        (wasm_ref_t){.kind = REF_TRAP, .escaped = true, .store = s, .trap = {.kind = DONJON_TRAP_OUT_OF_MEMORY}};
    return s;
}

wasm_store_t *wasm_store_new(wasm_engine_t *e) {
    return donjon_store_new(e, &(struct donjon_limits){0});
}

/* What a handle's object owns, and the handle's own host information. */
static void ref_finish(wasm_ref_t *r) {
    if (r->finalize) r->finalize(r->host_info);
    r->finalize = NULL;
    if (r->kind == REF_MODULE) module_unref(r->module);
    if (r->kind == REF_TRAP) trap_info_free(r);
    if (r->kind == REF_EXN) heap_unpin(r->store->store->heap, r->exn);
}

void store_release(wasm_store_t *s) {
    if (--s->refs) return;
    for (wasm_ref_t *r = s->handles, *next; r; r = next) {
        next = r->next;
        ref_finish(r);
        free(r);
    }
    store_delete(s->store);
    wasm_engine_delete(s->engine);
    free(s);
}

void wasm_store_delete(wasm_store_t *s) {
    if (s) store_release(s);
}

void donjon_store_interrupt(wasm_store_t *s) {
    store_interrupt(s->store);
}
uint64_t donjon_store_fuel(const wasm_store_t *s) {
    return s->store->fuel;
}
void donjon_store_set_fuel(wasm_store_t *s, uint64_t units) {
    s->store->fuel = units;
}
void donjon_store_set_wall_limit(wasm_store_t *s, uint64_t ns) {
    s->store->limits.wall_ns = ns;
}
uint64_t donjon_store_memory_bytes(const wasm_store_t *s) {
    return s->store->objects->memory_bytes;
}
uint64_t donjon_store_heap_bytes(const wasm_store_t *s) {
    return heap_bytes(s->store->heap);
}

/* ---- references
 * --------------------------------------------------------------------------------------------------------- */

static void ref_keep(wasm_ref_t *r) {
    r->escaped = true;
    r->next = r->store->handles;
    r->store->handles = r;
}

wasm_ref_t *ref_new(wasm_store_t *s, enum ref_kind kind, void *object) {
    wasm_ref_t *r = malloc(sizeof *r);
    if (!r) return NULL;
    *r = (wasm_ref_t){.kind = kind, .refs = 1, .store = s};
    r->any = object;
    s->refs++;
    return r;
}

wasm_ref_t *ref_of(wasm_store_t *s, enum ref_kind kind, void *object, void **user) {
    if (*user) return ref_retain(*user);
    wasm_ref_t *r = ref_new(s, kind, object);
    if (r) ref_keep(r);
    return *user = r;
}

wasm_ref_t *ref_retain(wasm_ref_t *r) {
    if (r->refs++) return r;
    r->store->refs++;
    if (r->kind == REF_FOREIGN) heap_pin(r->store->store->heap, r);
    return r;
}

void ref_release(wasm_ref_t *r) {
    if (!r || --r->refs) return;
    wasm_store_t *s = r->store;
    if (r->kind == REF_FOREIGN) {
        heap_unpin(s->store->heap, r);
    } else if (!r->escaped) {
        ref_finish(r);
        free(r);
    }
    store_release(s);
}

static bool ref_same(const wasm_ref_t *a, const wasm_ref_t *b) {
    return a == b || (a && b && a->kind == REF_EXN && b->kind == REF_EXN && a->exn == b->exn);
}

#define REF_BASE(name)                                                                                                 \
    void wasm_##name##_delete(wasm_##name##_t *r) {                                                                    \
        ref_release((wasm_ref_t *)r);                                                                                  \
    }                                                                                                                  \
    wasm_##name##_t *wasm_##name##_copy(const wasm_##name##_t *r) {                                                    \
        return r ? (wasm_##name##_t *)ref_retain((wasm_ref_t *)r) : NULL;                                              \
    }                                                                                                                  \
    bool wasm_##name##_same(const wasm_##name##_t *a, const wasm_##name##_t *b) {                                      \
        return ref_same((const wasm_ref_t *)a, (const wasm_ref_t *)b);                                                 \
    }                                                                                                                  \
    void *wasm_##name##_get_host_info(const wasm_##name##_t *r) {                                                      \
        return ((const wasm_ref_t *)r)->host_info;                                                                     \
    }                                                                                                                  \
    void wasm_##name##_set_host_info(wasm_##name##_t *r, void *info) {                                                 \
        wasm_##name##_set_host_info_with_finalizer(r, info, NULL);                                                     \
    }                                                                                                                  \
    void wasm_##name##_set_host_info_with_finalizer(wasm_##name##_t *r, void *info, void (*finalize)(void *)) {        \
        ((wasm_ref_t *)r)->host_info = info;                                                                           \
        ((wasm_ref_t *)r)->finalize = finalize;                                                                        \
    }

#define REF(name, condition)                                                                                           \
    REF_BASE(name)                                                                                                     \
    wasm_ref_t *wasm_##name##_as_ref(wasm_##name##_t *r) {                                                             \
        return (wasm_ref_t *)r;                                                                                        \
    }                                                                                                                  \
    const wasm_ref_t *wasm_##name##_as_ref_const(const wasm_##name##_t *r) {                                           \
        return (const wasm_ref_t *)r;                                                                                  \
    }                                                                                                                  \
    wasm_##name##_t *wasm_ref_as_##name(wasm_ref_t *r) {                                                               \
        return r && (condition) ? (wasm_##name##_t *)r : NULL;                                                         \
    }                                                                                                                  \
    const wasm_##name##_t *wasm_ref_as_##name##_const(const wasm_ref_t *r) {                                           \
        return r && (condition) ? (const wasm_##name##_t *)r : NULL;                                                   \
    }

REF_BASE(ref)
REF(trap, r->kind == REF_TRAP)
REF(foreign, r->kind == REF_FOREIGN)
REF(module, r->kind == REF_MODULE)
REF(func, r->kind == REF_FUNC)
REF(global, r->kind == REF_GLOBAL)
REF(table, r->kind == REF_TABLE)
REF(memory, r->kind == REF_MEMORY)
REF(extern, r->kind <= REF_TAG)
REF(instance, r->kind == REF_INSTANCE)

static void foreign_finalize(void *r) {
    ref_finish(r);
}

wasm_foreign_t *wasm_foreign_new(wasm_store_t *s) {
    wasm_ref_t *r = heap_new_host(s->store->heap, sizeof *r, foreign_finalize); /* comes pinned */
    if (!r) return NULL;
    *r = (wasm_ref_t){.kind = REF_FOREIGN, .refs = 1, .store = s};
    s->refs++;
    return (wasm_foreign_t *)r;
}

/* ---- values
 * --------------------------------------------------------------------------------------------------------------- */

/* As an externref a handle's own address is the value; wasm may then hold it longer than the embedder does. */
static slot slot_extern(wasm_ref_t *r) {
    if (r && !r->escaped && r->kind != REF_FOREIGN) ref_keep(r);
    return (slot){.ref = r};
}

slot slot_from_ref(wasm_ref_t *r) {
    if (r && r->kind == REF_FUNC) return (slot){.func = r->func};
    if (r && r->kind == REF_EXN) return (slot){.exn = r->exn};
    return slot_extern(r);
}

static wasm_ref_t *ref_exn(wasm_store_t *s, struct exn *x) {
    wasm_ref_t *r = ref_new(s, REF_EXN, x);
    if (r) heap_pin(s->store->heap, x);
    return r;
}

wasm_ref_t *ref_from_slot(wasm_store_t *s, wasm_valkind_t kind, slot v) {
    if (!v.ref) return NULL;
    switch (kind) {
    case WASM_FUNCREF: return ref_of(s, REF_FUNC, v.func, &v.func->user);
    case WASM_EXTERNREF: return ref_retain(v.ref);
    case DONJON_EXNREF: return ref_exn(s, v.exn);
    default: return NULL;
    }
}

static bool ref_fits(const struct engine *e, valtype t, wasm_ref_t *r, slot *out) {
    *out = (slot){0};
    if (!r) return vt_nullable(t);
    if (vt_concrete(t)) {
        *out = slot_from_ref(r);
        return r->kind == REF_FUNC && type_id_matches(e, r->func->type_id, vt_type_id(t));
    }
    switch (vt_heap(t)) {
    case HEAP_FUNC: *out = slot_from_ref(r); return r->kind == REF_FUNC;
    case HEAP_EXN: *out = slot_from_ref(r); return r->kind == REF_EXN;
    case HEAP_EXTERN: *out = slot_extern(r); return r->kind != REF_EXN;
    default: return false;
    }
}

bool slot_from_val(const struct engine *e, valtype t, const wasm_val_t *v, slot *out) {
    if (vt_is_ref(t)) return wasm_valkind_is_ref(v->kind) && ref_fits(e, t, v->of.ref, out);
    *out = (slot){0};
    if (v->kind != valkind_of(e, t) || v->kind == DONJON_V128) return false;
    memcpy(out, &v->of, v->kind == WASM_I32 || v->kind == WASM_F32 ? 4 : 8);
    return true;
}

void val_from_slot(wasm_store_t *s, valtype t, const slot *v, wasm_val_t *out) {
    wasm_valkind_t kind = valkind_of(s->store->engine, t);
    *out = (wasm_val_t){.kind = kind};
    if (vt_is_ref(t))
        out->of.ref = ref_from_slot(s, kind, *v);
    else if (kind == WASM_I32 || kind == WASM_F32)
        out->of.i32 = (int32_t)v->i32;
    else
        out->of.i64 = (int64_t)v->i64; /* of a v128 the low half */
}

void wasm_val_delete(wasm_val_t *v) {
    if (v && wasm_valkind_is_ref(v->kind)) ref_release(v->of.ref);
}

void wasm_val_copy(wasm_val_t *out, const wasm_val_t *v) {
    *out = *v;
    if (wasm_valkind_is_ref(v->kind) && v->of.ref) ref_retain(v->of.ref);
}

wasm_ref_t *donjon_slot_ref(wasm_store_t *s, wasm_valkind_t kind, donjon_slot_t v) {
    return ref_from_slot(s, kind, (slot){.ref = v.ref});
}

donjon_slot_t donjon_ref_slot(wasm_ref_t *r) {
    return (donjon_slot_t){.ref = slot_from_ref(r).ref};
}

/* ---- functions
 * ---------------------------------------------------------------------------------------------------------- */

/* A host function of the API: which of the three callbacks it is decides the adaptor. */
struct host_func {
    wasm_store_t *store;
    const struct functype *type;
    wasm_func_callback_t callback;
    wasm_func_callback_with_env_t callback_with_env;
    donjon_callback_t fast;
    void *env;
    void (*finalize)(void *);
};

static void host_func_finalize(void *env) {
    struct host_func *f = env;
    if (f->finalize) f->finalize(f->env);
    free(f);
}

struct donjon_caller {
    wasm_store_t *store;
    struct instance *instance; /* NULL: called by the embedder */
};

static enum trap_kind call_fast(void *env, struct store *s, struct instance *caller, slot *args) {
    struct host_func *f = env;
    struct donjon_caller c = {f->store, caller};
    wasm_trap_t *trap = f->fast(f->env, &c, (donjon_slot_t *)args);
    return trap ? trap_raise(s, trap) : TRAP_NONE;
}

static wasm_trap_t *trap_text(wasm_store_t *s, const char *message) {
    return trap_make(s, DONJON_TRAP_HOST, message, strlen(message));
}

static void vals_from_slots(wasm_store_t *s, const valtype *types, uint32_t n, const slot *slots, wasm_val_vec_t *out) {
    for (uint32_t i = 0; i < n; slots += vt_slots(types[i]), i++)
        val_from_slot(s, types[i], slots, &out->data[i]);
}

static bool slots_from_vals(const struct engine *e, const valtype *types, uint32_t n, const wasm_val_vec_t *v,
                            slot *slots) {
    for (uint32_t i = 0; i < n; slots += vt_slots(types[i]), i++)
        if (!slot_from_val(e, types[i], &v->data[i], slots)) return false;
    return true;
}

static wasm_trap_t *call_with_vals(struct host_func *f, const wasm_val_vec_t *params, wasm_val_vec_t *results,
                                   slot *args) {
    const struct functype *t = f->type;
    vals_from_slots(f->store, t->params, t->n_params, args, (wasm_val_vec_t *)params);
    wasm_trap_t *trap = f->callback ? f->callback(params, results) : f->callback_with_env(f->env, params, results);
    if (trap) return trap;
    if (results->size != t->n_results ||
        !slots_from_vals(f->store->store->engine, t->results, t->n_results, results, args))
        return trap_text(f->store, "host function gave results of another type than its own");
    return NULL;
}

static enum trap_kind call_vals(void *env, struct store *s, struct instance *caller, slot *args) {
    (void)caller;
    struct host_func *f = env;
    wasm_val_vec_t params, results;
    wasm_val_vec_new_uninitialized(&params, f->type->n_params);
    wasm_val_vec_new_uninitialized(&results, f->type->n_results);
    for (size_t i = 0; i < results.size; i++)
        results.data[i] = (wasm_val_t)WASM_INIT_VAL;
    wasm_trap_t *trap;
    if (params.size != f->type->n_params || results.size != f->type->n_results)
        trap = trap_make(f->store, DONJON_TRAP_OUT_OF_MEMORY, NULL, 0);
    else
        trap = call_with_vals(f, &params, &results, args);
    wasm_val_vec_delete(&params);
    wasm_val_vec_delete(&results);
    return trap ? trap_raise(s, trap) : TRAP_NONE;
}

static wasm_func_t *func_make(wasm_store_t *s, const wasm_functype_t *type, struct host_func proto) {
    struct host_func *h = malloc(sizeof *h);
    uint32_t id = h ? functype_id(s->store->engine, type) : TYPE_NONE;
    if (id == TYPE_NONE) {
        free(h);
        return NULL;
    }
    *h = proto;
    h->store = s;
    h->type = type_func(s->store->engine, id);
    struct func *f = func_new_host(s->store, id, proto.fast ? call_fast : call_vals, h, host_func_finalize);
    if (f) return (wasm_func_t *)ref_of(s, REF_FUNC, f, &f->user);
    free(h);
    return NULL;
}

wasm_func_t *wasm_func_new(wasm_store_t *s, const wasm_functype_t *type, wasm_func_callback_t callback) {
    return func_make(s, type, (struct host_func){.callback = callback});
}

wasm_func_t *wasm_func_new_with_env(wasm_store_t *s, const wasm_functype_t *type,
                                    wasm_func_callback_with_env_t callback, void *env, void (*finalize)(void *)) {
    return func_make(s, type, (struct host_func){.callback_with_env = callback, .env = env, .finalize = finalize});
}

wasm_func_t *donjon_func_new(wasm_store_t *s, const wasm_functype_t *type, donjon_callback_t callback, void *env,
                             void (*finalize)(void *)) {
    return func_make(s, type, (struct host_func){.fast = callback, .env = env, .finalize = finalize});
}

static const wasm_ref_t *as_ref(const void *r) {
    return r;
}

static const struct functype *functype_of(const wasm_func_t *f) {
    const wasm_ref_t *r = as_ref(f);
    return type_func(r->store->store->engine, r->func->type_id);
}

wasm_functype_t *wasm_func_type(const wasm_func_t *f) {
    const wasm_ref_t *r = as_ref(f);
    return (wasm_functype_t *)externtype_func(r->store->store->engine, r->func->type_id, WASM_EXTERN_FUNC);
}
size_t wasm_func_param_arity(const wasm_func_t *f) {
    return functype_of(f)->n_params;
}
size_t wasm_func_result_arity(const wasm_func_t *f) {
    return functype_of(f)->n_results;
}

size_t donjon_func_slots(const wasm_func_t *f) {
    const struct functype *t = functype_of(f);
    return t->param_slots > t->result_slots ? t->param_slots : t->result_slots;
}

wasm_trap_t *donjon_func_call(const wasm_func_t *f, donjon_slot_t *slots) {
    const wasm_ref_t *r = as_ref(f);
    return trap_from_call(r->store, func_call(r->func, (slot *)slots));
}

static wasm_trap_t *call_in(const wasm_ref_t *r, const struct functype *t, const wasm_val_vec_t *args,
                            wasm_val_vec_t *results, slot *slots) {
    wasm_store_t *s = r->store;
    if (!slots_from_vals(s->store->engine, t->params, t->n_params, args, slots))
        return trap_text(s, "arguments are of other types than the function's parameters");
    wasm_trap_t *trap = trap_from_call(s, func_call(r->func, slots));
    if (!trap) vals_from_slots(s, t->results, t->n_results, slots, results);
    return trap;
}

wasm_trap_t *wasm_func_call(const wasm_func_t *f, const wasm_val_vec_t *args, wasm_val_vec_t *results) {
    const wasm_ref_t *r = as_ref(f);
    const struct functype *t = functype_of(f);
    size_t n_args = args ? args->size : 0, n_results = results ? results->size : 0;
    if (n_args != t->n_params || n_results < t->n_results)
        return trap_text(r->store, "wrong number of arguments or room for results");
    slot small[32];
    size_t n = donjon_func_slots(f);
    slot *slots = n <= sizeof small / sizeof *small ? small : malloc(n * sizeof *slots);
    if (!slots) return trap_make(r->store, DONJON_TRAP_OUT_OF_MEMORY, NULL, 0);
    wasm_trap_t *trap = call_in(r, t, args, results, slots);
    if (slots != small) free(slots);
    return trap;
}

struct donjon_memory_view donjon_caller_memory(const donjon_caller_t *c) {
    const struct memory *m = c->instance ? c->instance->memory0 : NULL;
    return m ? (struct donjon_memory_view){m->base, m->size} : (struct donjon_memory_view){NULL, 0};
}

wasm_store_t *donjon_caller_store(const donjon_caller_t *c) {
    return c->store;
}

wasm_extern_t *donjon_caller_export(const donjon_caller_t *c, const char *name) {
    if (!c->instance) return NULL;
    return (wasm_extern_t *)ref_extern(c->store, instance_export(c->instance, name, strlen(name)));
}

/* ---- globals, tables, memories, tags
 * ---------------------------------------------------------------------------------------- */

wasm_global_t *wasm_global_new(wasm_store_t *s, const wasm_globaltype_t *type, const wasm_val_t *v) {
    valtype t = wasm_globaltype_content(type)->type;
    slot value[2] = {{0}};
    bool v128_zero = vt_kind(t) == KIND_V128; /* wasm_val_t cannot say its value */
    if (!v128_zero && !slot_from_val(s->store->engine, t, v, value)) return NULL;
    struct globaltype g = {t, wasm_globaltype_mutability(type) == WASM_VAR};
    struct global *global = global_new(s->store, &g, value);
    return global ? (wasm_global_t *)ref_of(s, REF_GLOBAL, global, &global->user) : NULL;
}

wasm_globaltype_t *wasm_global_type(const wasm_global_t *g) {
    const wasm_ref_t *r = as_ref(g);
    return (wasm_globaltype_t *)externtype_global(r->store->store->engine, &r->global->type);
}

void wasm_global_get(const wasm_global_t *g, wasm_val_t *out) {
    const wasm_ref_t *r = as_ref(g);
    val_from_slot(r->store, r->global->type.type, r->global->value, out);
}

void wasm_global_set(wasm_global_t *g, const wasm_val_t *v) {
    const wasm_ref_t *r = as_ref(g);
    slot value;
    if (!r->global->type.mutable_ || !slot_from_val(r->store->store->engine, r->global->type.type, v, &value)) return;
    r->global->value[0] = value;
}

wasm_table_t *wasm_table_new(wasm_store_t *s, const wasm_tabletype_t *type, wasm_ref_t *init) {
    struct donjon_limits64 l = donjon_tabletype_limits(type);
    struct tabletype t = {wasm_tabletype_element(type)->type, limits_from(&l)};
    slot value;
    if (!vt_is_ref(t.elem) || !ref_fits(s->store->engine, t.elem, init, &value)) return NULL;
    struct table *table = table_new(s->store, &t, value);
    return table ? (wasm_table_t *)ref_of(s, REF_TABLE, table, &table->user) : NULL;
}

wasm_tabletype_t *wasm_table_type(const wasm_table_t *t) {
    const wasm_ref_t *r = as_ref(t);
    return (wasm_tabletype_t *)externtype_table(r->store->store->engine, &r->table->type);
}

wasm_ref_t *wasm_table_get(const wasm_table_t *t, wasm_table_size_t index) {
    const wasm_ref_t *r = as_ref(t);
    if (index >= r->table->size) return NULL;
    wasm_valkind_t kind = valkind_of(r->store->store->engine, r->table->type.elem);
    return ref_from_slot(r->store, kind, r->table->elems[index]);
}

bool wasm_table_set(wasm_table_t *t, wasm_table_size_t index, wasm_ref_t *v) {
    const wasm_ref_t *r = as_ref(t);
    slot value;
    if (index >= r->table->size || !ref_fits(r->store->store->engine, r->table->type.elem, v, &value)) return false;
    r->table->elems[index] = value;
    return true;
}

wasm_table_size_t wasm_table_size(const wasm_table_t *t) {
    uint64_t size = as_ref(t)->table->size;
    return size > UINT32_MAX ? UINT32_MAX : (wasm_table_size_t)size;
}

bool wasm_table_grow(wasm_table_t *t, wasm_table_size_t delta, wasm_ref_t *init) {
    const wasm_ref_t *r = as_ref(t);
    slot value;
    if (!ref_fits(r->store->store->engine, r->table->type.elem, init, &value)) return false;
    return table_grow(r->store->store, r->table, delta, value) != UINT64_MAX;
}

wasm_memory_t *wasm_memory_new(wasm_store_t *s, const wasm_memorytype_t *type) {
    struct donjon_limits64 l = donjon_memorytype_limits(type);
    uint64_t most = l.is64 ? MAX_PAGES64 : MAX_PAGES32;
    if (l.min > l.max || l.min > most || (l.max != UINT64_MAX && l.max > most)) return NULL;
    struct limits limits = limits_from(&l);
    struct memory *m = memory_new(s->store, &limits);
    return m ? (wasm_memory_t *)ref_of(s, REF_MEMORY, m, &m->user) : NULL;
}

wasm_memorytype_t *wasm_memory_type(const wasm_memory_t *m) {
    return (wasm_memorytype_t *)externtype_memory(&as_ref(m)->memory->type);
}

byte_t *wasm_memory_data(wasm_memory_t *m) {
    return (byte_t *)as_ref(m)->memory->base;
}
size_t wasm_memory_data_size(const wasm_memory_t *m) {
    return as_ref(m)->memory->size;
}
uint64_t donjon_memory_size(const wasm_memory_t *m) {
    return as_ref(m)->memory->size / PAGE_SIZE;
}

wasm_memory_pages_t wasm_memory_size(const wasm_memory_t *m) {
    uint64_t pages = donjon_memory_size(m);
    return pages > UINT32_MAX ? UINT32_MAX : (wasm_memory_pages_t)pages;
}

bool donjon_memory_grow(wasm_memory_t *m, uint64_t delta) {
    const wasm_ref_t *r = as_ref(m);
    return memory_grow(r->store->store, r->memory, delta) != UINT64_MAX;
}
bool wasm_memory_grow(wasm_memory_t *m, wasm_memory_pages_t delta) {
    return donjon_memory_grow(m, delta);
}

donjon_tag_t *donjon_tag_new(wasm_store_t *s, const wasm_functype_t *type) {
    uint32_t id = wasm_functype_results(type)->size ? TYPE_NONE : functype_id(s->store->engine, type);
    struct tag *t = id == TYPE_NONE ? NULL : tag_new(s->store, id);
    return t ? (donjon_tag_t *)ref_of(s, REF_TAG, t, &t->user) : NULL;
}

void donjon_tag_delete(donjon_tag_t *t) {
    ref_release((wasm_ref_t *)t);
}

wasm_functype_t *donjon_tag_type(const donjon_tag_t *t) {
    const wasm_ref_t *r = as_ref(t);
    return (wasm_functype_t *)externtype_func(r->store->store->engine, r->tag->type_id, WASM_EXTERN_FUNC);
}

/* ---- externals
 * ---------------------------------------------------------------------------------------------------------- */

wasm_ref_t *ref_extern(wasm_store_t *s, struct extern_ x) {
    if (!x.any) return NULL;
    switch (x.kind) {
    case EXTERN_FUNC: return ref_of(s, REF_FUNC, x.func, &x.func->user);
    case EXTERN_TABLE: return ref_of(s, REF_TABLE, x.table, &x.table->user);
    case EXTERN_MEMORY: return ref_of(s, REF_MEMORY, x.memory, &x.memory->user);
    case EXTERN_GLOBAL: return ref_of(s, REF_GLOBAL, x.global, &x.global->user);
    case EXTERN_TAG: return ref_of(s, REF_TAG, x.tag, &x.tag->user);
    }
    return NULL;
}

struct extern_ extern_from(const wasm_ref_t *r) {
    static const enum externkind kinds[] = {
        [REF_FUNC] = EXTERN_FUNC,     [REF_GLOBAL] = EXTERN_GLOBAL, [REF_TABLE] = EXTERN_TABLE,
        [REF_MEMORY] = EXTERN_MEMORY, [REF_TAG] = EXTERN_TAG,
    };
    return r ? (struct extern_){.kind = kinds[r->kind], .any = r->any} : (struct extern_){0};
}

wasm_externkind_t wasm_extern_kind(const wasm_extern_t *x) {
    static const wasm_externkind_t kinds[] = {
        [REF_FUNC] = WASM_EXTERN_FUNC,     [REF_GLOBAL] = WASM_EXTERN_GLOBAL, [REF_TABLE] = WASM_EXTERN_TABLE,
        [REF_MEMORY] = WASM_EXTERN_MEMORY, [REF_TAG] = DONJON_EXTERN_TAG,
    };
    return kinds[as_ref(x)->kind];
}

wasm_externtype_t *wasm_extern_type(const wasm_extern_t *x) {
    const wasm_ref_t *r = as_ref(x);
    const struct engine *e = r->store->store->engine;
    switch (r->kind) {
    case REF_FUNC: return externtype_func(e, r->func->type_id, WASM_EXTERN_FUNC);
    case REF_GLOBAL: return externtype_global(e, &r->global->type);
    case REF_TABLE: return externtype_table(e, &r->table->type);
    case REF_MEMORY: return externtype_memory(&r->memory->type);
    default: return externtype_func(e, r->tag->type_id, DONJON_EXTERN_TAG);
    }
}

#define EXTERN(name, KIND)                                                                                             \
    wasm_extern_t *wasm_##name##_as_extern(wasm_##name##_t *r) {                                                       \
        return (wasm_extern_t *)r;                                                                                     \
    }                                                                                                                  \
    const wasm_extern_t *wasm_##name##_as_extern_const(const wasm_##name##_t *r) {                                     \
        return (const wasm_extern_t *)r;                                                                               \
    }                                                                                                                  \
    wasm_##name##_t *wasm_extern_as_##name(wasm_extern_t *x) {                                                         \
        return x && as_ref(x)->kind == KIND ? (wasm_##name##_t *)x : NULL;                                             \
    }                                                                                                                  \
    const wasm_##name##_t *wasm_extern_as_##name##_const(const wasm_extern_t *x) {                                     \
        return x && as_ref(x)->kind == KIND ? (const wasm_##name##_t *)x : NULL;                                       \
    }
EXTERN(func, REF_FUNC)
EXTERN(global, REF_GLOBAL)
EXTERN(table, REF_TABLE)
EXTERN(memory, REF_MEMORY)

wasm_extern_t *donjon_tag_as_extern(donjon_tag_t *t) {
    return (wasm_extern_t *)t;
}
donjon_tag_t *donjon_extern_as_tag(wasm_extern_t *x) {
    return x && as_ref(x)->kind == REF_TAG ? (donjon_tag_t *)x : NULL;
}

/* ---- modules
 * ------------------------------------------------------------------------------------------------------------ */

static struct module *module_load(wasm_engine_t *e, const void *bytes, size_t size, struct donjon_module_error *err) {
    struct module_error why;
    struct module *m = module_new(e->engine, bytes, size, &why);
    if (!m && err) {
        *err = (struct donjon_module_error){.offset = why.offset, .func = why.func, .malformed = why.malformed};
        memcpy(err->message, why.message, sizeof err->message);
    }
    return m;
}
_Static_assert(sizeof((struct module_error *)0)->message == sizeof((struct donjon_module_error *)0)->message,
               "error messages are copied whole");

static wasm_module_t *module_handle(wasm_store_t *s, struct module *m) {
    wasm_ref_t *r = ref_new(s, REF_MODULE, m);
    if (!r) module_unref(m);
    return (wasm_module_t *)r;
}

wasm_module_t *donjon_module_new(wasm_store_t *s, const void *bytes, size_t size, struct donjon_module_error *err) {
    struct module *m = module_load(s->engine, bytes, size, err);
    return m ? module_handle(s, m) : NULL;
}

wasm_module_t *wasm_module_new(wasm_store_t *s, const wasm_byte_vec_t *binary) {
    return donjon_module_new(s, binary->data, binary->size, NULL);
}

bool wasm_module_validate(wasm_store_t *s, const wasm_byte_vec_t *binary) {
    struct module *m = module_load(s->engine, binary->data, binary->size, NULL);
    if (m) module_unref(m);
    return m;
}

void wasm_module_serialize(const wasm_module_t *module, wasm_byte_vec_t *out) {
    const struct module *m = as_ref(module)->module;
    wasm_byte_vec_new(out, m->size, (const char *)m->data);
}

wasm_module_t *wasm_module_deserialize(wasm_store_t *s, const wasm_byte_vec_t *bytes) {
    return wasm_module_new(s, bytes);
}

static wasm_externtype_t *module_externtype(const struct module *m, enum externkind kind, uint32_t index) {
    switch (kind) {
    case EXTERN_FUNC: return externtype_func(m->engine, m->func_types[index], WASM_EXTERN_FUNC);
    case EXTERN_TABLE: return externtype_table(m->engine, &m->tables[index].type);
    case EXTERN_MEMORY: return externtype_memory(&m->memories[index]);
    case EXTERN_GLOBAL: return externtype_global(m->engine, &m->globals[index].type);
    case EXTERN_TAG: return externtype_func(m->engine, m->tag_types[index], DONJON_EXTERN_TAG);
    }
    return NULL;
}

static wasm_name_t name_from(struct bytes b) {
    wasm_name_t name;
    wasm_byte_vec_new(&name, b.size, (const char *)b.data);
    return name;
}

void wasm_module_imports(const wasm_module_t *module, wasm_importtype_vec_t *out) {
    const struct module *m = as_ref(module)->module;
    wasm_importtype_vec_new_uninitialized(out, m->n_imports);
    for (size_t i = 0; i < out->size; i++) {
        const struct import *x = &m->imports[i];
        wasm_name_t from = name_from(x->module), name = name_from(x->name);
        out->data[i] = wasm_importtype_new(&from, &name, module_externtype(m, x->kind, x->index));
    }
}

void wasm_module_exports(const wasm_module_t *module, wasm_exporttype_vec_t *out) {
    const struct module *m = as_ref(module)->module;
    wasm_exporttype_vec_new_uninitialized(out, m->n_exports);
    for (size_t i = 0; i < out->size; i++) {
        const struct export *x = &m->exports[i];
        wasm_name_t name = name_from(x->name);
        out->data[i] = wasm_exporttype_new(&name, module_externtype(m, x->kind, x->index));
    }
}

bool donjon_module_custom_section(const wasm_module_t *module, const char *name, const uint8_t **data, size_t *size) {
    const struct module *m = as_ref(module)->module;
    for (uint32_t i = 0; i < m->n_customs; i++) {
        const struct custom_section *c = &m->customs[i];
        if (c->name.size != strlen(name) || memcmp(c->name.data, name, c->name.size)) continue;
        *data = c->payload.data;
        *size = c->payload.size;
        return true;
    }
    return false;
}

/* Shared modules. */
struct wasm_shared_module_t {
    wasm_engine_t *engine;
    struct module *module;
};

static wasm_shared_module_t *shared_make(wasm_engine_t *e, struct module *m) {
    wasm_shared_module_t *shared = malloc(sizeof *shared);
    if (shared)
        *shared = (wasm_shared_module_t){engine_retain(e), m};
    else
        module_unref(m);
    return shared;
}

wasm_shared_module_t *donjon_shared_module_new(wasm_engine_t *e, const void *bytes, size_t size,
                                               struct donjon_module_error *err) {
    struct module *m = module_load(e, bytes, size, err);
    return m ? shared_make(e, m) : NULL;
}

wasm_shared_module_t *wasm_module_share(const wasm_module_t *module) {
    const wasm_ref_t *r = as_ref(module);
    module_ref(r->module);
    return shared_make(r->store->engine, r->module);
}

wasm_module_t *wasm_module_obtain(wasm_store_t *s, const wasm_shared_module_t *shared) {
    if (s->engine != shared->engine) return NULL;
    module_ref(shared->module);
    return module_handle(s, shared->module);
}

void wasm_shared_module_delete(wasm_shared_module_t *shared) {
    if (!shared) return;
    module_unref(shared->module);
    wasm_engine_delete(shared->engine);
    free(shared);
}

/* ---- instances
 * ---------------------------------------------------------------------------------------------------------- */

static wasm_trap_t *trap_from_instantiation(wasm_store_t *s, const struct instantiate_error *err) {
    if (err->what == INSTANTIATE_TRAP) return trap_from_call(s, err->trap);
    enum donjon_trap_kind kind = err->what == INSTANTIATE_LINK ? DONJON_TRAP_LINK : DONJON_TRAP_OUT_OF_MEMORY;
    const char *message = err->message ? err->message : "out of memory";
    return trap_make(s, kind, message, strlen(message));
}

wasm_instance_t *instance_make(wasm_store_t *s, struct module *m, const struct extern_ *imports, bool unknown_trap,
                               wasm_trap_t **trap) {
    struct instantiate_error err;
    if (trap) *trap = NULL;
    struct instance *i = instantiate(s->store, m, imports, unknown_trap, &err);
    if (i) return (wasm_instance_t *)ref_of(s, REF_INSTANCE, i, &i->user);
    wasm_trap_t *why = trap_from_instantiation(s, &err);
    engine_realloc(s->store->engine, err.message, 0);
    if (trap)
        *trap = why;
    else
        wasm_trap_delete(why);
    return NULL;
}

wasm_instance_t *wasm_instance_new(wasm_store_t *s, const wasm_module_t *module, const wasm_extern_vec_t *imports,
                                   wasm_trap_t **trap) {
    struct module *m = as_ref(module)->module;
    struct extern_ *externs = calloc(m->n_imports + 1, sizeof *externs);
    if (!externs) {
        if (trap) *trap = trap_make(s, DONJON_TRAP_OUT_OF_MEMORY, NULL, 0);
        return NULL;
    }
    for (size_t i = 0; imports && i < imports->size && i < m->n_imports; i++) {
        const wasm_ref_t *r = as_ref(imports->data[i]);
        if (r && r->store == s) externs[i] = extern_from(r); /* another store's object is none of ours */
    }
    wasm_instance_t *instance = instance_make(s, m, externs, false, trap);
    free(externs);
    return instance;
}

void wasm_instance_exports(const wasm_instance_t *instance, wasm_extern_vec_t *out) {
    const wasm_ref_t *r = as_ref(instance);
    const struct module *m = r->instance->module;
    wasm_extern_vec_new_uninitialized(out, m->n_exports);
    for (size_t i = 0; i < out->size; i++) {
        struct extern_ x = instance_extern(r->instance, m->exports[i].kind, m->exports[i].index);
        out->data[i] = (wasm_extern_t *)ref_extern(r->store, x);
    }
}

wasm_extern_t *donjon_instance_export(const wasm_instance_t *instance, const char *name) {
    const wasm_ref_t *r = as_ref(instance);
    return (wasm_extern_t *)ref_extern(r->store, instance_export(r->instance, name, strlen(name)));
}
