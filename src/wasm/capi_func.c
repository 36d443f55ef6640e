/* wasm.h and donjon/wasm.h: functions, both ways: host functions that wasm calls, and calls from outside. */
#include "capi.h"

#include <stdlib.h>

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

static void vals_from_slots(wasm_store_t *s, const valtype *types, uint32_t n, const slot *slots, wasm_val_vec_t *out) {
    for (uint32_t i = 0; i < n; slots += vt_slots(types[i]), i++)
        val_from_slot(s, types[i], slots, &out->data[i]);
}

static bool slots_from_vals(wasm_store_t *s, const valtype *types, uint32_t n, const wasm_val_vec_t *v, slot *slots) {
    for (uint32_t i = 0; i < n; slots += vt_slots(types[i]), i++)
        if (!slot_from_val(s, types[i], &v->data[i], slots)) return false;
    return true;
}

static wasm_trap_t *call_with_vals(struct host_func *f, wasm_val_t *vals, slot *args) {
    const struct functype *t = f->type;
    wasm_val_vec_t params = {t->n_params, vals}, results = {t->n_results, vals + t->n_params};
    vals_from_slots(f->store, t->params, t->n_params, args, &params);
    for (size_t i = 0; i < results.size; i++)
        results.data[i] = (wasm_val_t)WASM_INIT_VAL;
    wasm_trap_t *trap = f->callback ? f->callback(&params, &results) : f->callback_with_env(f->env, &params, &results);
    if (!trap && !slots_from_vals(f->store, t->results, t->n_results, &results, args))
        trap = trap_text(f->store, "host function gave results of another type than its own");
    for (size_t i = 0; i < t->n_params + t->n_results; i++)
        wasm_val_delete(&vals[i]);
    return trap;
}

static enum trap_kind call_vals(void *env, struct store *s, struct instance *caller, slot *args) {
    (void)caller;
    struct host_func *f = env;
    wasm_val_t small[16];
    size_t n = f->type->n_params + f->type->n_results;
    wasm_val_t *vals = n <= sizeof small / sizeof *small ? small : malloc(n * sizeof *vals);
    wasm_trap_t *trap = vals ? call_with_vals(f, vals, args) : trap_make(f->store, DONJON_TRAP_OUT_OF_MEMORY, NULL, 0);
    if (vals != small) free(vals);
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
    if (!slots_from_vals(s, t->params, t->n_params, args, slots))
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
