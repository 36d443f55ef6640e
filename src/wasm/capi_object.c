/* wasm.h and donjon/wasm.h: globals, tables, memories and tags, and all of them as externals. */
#include "capi.h"

/* ---- globals, tables, memories, tags ---- */

wasm_global_t *wasm_global_new(wasm_store_t *s, const wasm_globaltype_t *type, const wasm_val_t *v) {
    valtype t = wasm_globaltype_content(type)->type;
    slot value[2] = {{0}};
    bool v128_zero = vt_kind(t) == KIND_V128; /* wasm_val_t cannot say its value */
    if (!v128_zero && !slot_from_val(s, t, v, value)) return NULL;
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
    if (!r->global->type.mutable_ || !slot_from_val(r->store, r->global->type.type, v, &value)) return;
    r->global->value[0] = value;
}

void donjon_global_get(const wasm_global_t *g, donjon_slot_t out[2]) {
    const struct global *global = as_ref(g)->global;
    memcpy(out, global->value, vt_slots(global->type.type) * sizeof *out);
}

bool donjon_global_set(wasm_global_t *g, const donjon_slot_t value[2]) {
    struct global *global = as_ref(g)->global;
    if (!global->type.mutable_ || vt_is_ref(global->type.type)) return false;
    memcpy(global->value, value, vt_slots(global->type.type) * sizeof *value);
    return true;
}

wasm_table_t *wasm_table_new(wasm_store_t *s, const wasm_tabletype_t *type, wasm_ref_t *init) {
    struct donjon_limits64 l = donjon_tabletype_limits(type);
    struct tabletype t = {wasm_tabletype_element(type)->type, limits_from(&l)};
    slot value;
    if (!vt_is_ref(t.elem) || !ref_fits(s, t.elem, init, &value)) return NULL;
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
    if (index >= r->table->size || !ref_fits(r->store, r->table->type.elem, v, &value)) return false;
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
    if (!ref_fits(r->store, r->table->type.elem, init, &value)) return false;
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

/* ---- externals ---- */

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
