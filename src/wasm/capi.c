/* wasm.h: engines, stores and references. */
#include "capi.h"
#include "heap.h"

#include <stdlib.h>

/* ---- engine and store ---- */

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

wasm_engine_t *engine_retain(wasm_engine_t *e) {
    atomic_fetch_add(&e->refs, 1);
    return e;
}

wasm_store_t *donjon_store_new(wasm_engine_t *e, const struct donjon_limits *l) {
    struct store_limits limits = {
        .memory_bytes = l->memory_bytes,
        .table_elems = l->table_elems,
        .stack_bytes = l->stack_bytes,
        .call_depth = l->call_depth,
        .interpret = l->interpret,
        .explicit_checks = l->explicit_checks,
        .helpers = l->helpers,
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
    if (r->kind == REF_EXN || r->kind == REF_OTHER) heap_unpin(r->store->store->heap, r->any);
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
void donjon_store_set_attend(wasm_store_t *s, donjon_attend_t attend, void *ctx) {
    s->store->attend = attend;
    s->store->attend_ctx = ctx;
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

/* ---- references ---- */

void ref_keep(wasm_ref_t *r) {
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
    return a == b || (a && b && a->kind == b->kind && (a->kind == REF_EXN || a->kind == REF_OTHER) && a->any == b->any);
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
