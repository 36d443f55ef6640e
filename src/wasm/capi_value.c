/* wasm.h: values between the API and the engine's slots. */
#include "capi.h"
#include "gc.h"
#include "heap.h"

/* As an externref a handle's own address is the value; wasm may then hold it longer than the embedder does. */
static slot slot_extern(wasm_ref_t *r) {
    if (r && r->kind == REF_OTHER) return (slot){.ref = r->any};
    if (r && !r->escaped && r->kind != REF_FOREIGN) ref_keep(r);
    return (slot){.i64 = r ? (uintptr_t)r | REF_TAG_HOST : 0};
}

static slot slot_from_ref(wasm_ref_t *r) {
    if (r && r->kind == REF_FUNC) return (slot){.func = r->func};
    if (r && r->kind == REF_EXN) return (slot){.exn = r->exn};
    return slot_extern(r);
}

static wasm_ref_t *ref_pinned(wasm_store_t *s, enum ref_kind kind, void *object) {
    wasm_ref_t *r = ref_new(s, kind, object);
    if (r) heap_pin(s->store->heap, object); /* of an i31 nothing */
    return r;
}

/* The embedder's own handle, or what any.convert_extern and its opposite have let through. */
static wasm_ref_t *ref_other(wasm_store_t *s, slot v) {
    if ((v.i64 & REF_TAGS) == REF_TAG_HOST) return ref_retain((wasm_ref_t *)(uintptr_t)(v.i64 - REF_TAG_HOST));
    return ref_pinned(s, REF_OTHER, v.ref);
}

wasm_ref_t *ref_from_slot(wasm_store_t *s, wasm_valkind_t kind, slot v) {
    if (!v.ref) return NULL;
    switch (kind) {
    case WASM_FUNCREF: return ref_of(s, REF_FUNC, v.func, &v.func->user);
    case DONJON_EXNREF: return ref_pinned(s, REF_EXN, v.exn);
    default: return ref_other(s, v);
    }
}

static bool other_fits(wasm_store_t *s, uint32_t heap, const wasm_ref_t *r) {
    return r->kind == REF_OTHER && gc_ref_is(s->engine->engine, (slot){.ref = r->any}, heap);
}

bool ref_fits(wasm_store_t *s, valtype t, wasm_ref_t *r, slot *out) {
    *out = (slot){0};
    if (!r) return vt_nullable(t);
    if (r->store != s) return false;
    if (vt_concrete(t) && type_get(s->engine->engine, vt_type_id(t))->kind == COMP_FUNC) {
        *out = slot_from_ref(r);
        return r->kind == REF_FUNC && type_id_matches(s->engine->engine, r->func->type_id, vt_type_id(t));
    }
    switch (vt_heap(t)) {
    case HEAP_FUNC: *out = slot_from_ref(r); return r->kind == REF_FUNC;
    case HEAP_EXN: *out = slot_from_ref(r); return r->kind == REF_EXN;
    case HEAP_ANY:
    case HEAP_EXTERN: *out = slot_extern(r); return r->kind != REF_EXN;
    case HEAP_NOFUNC:
    case HEAP_NOEXN:
    case HEAP_NOEXTERN: return false;
    default: *out = slot_extern(r); return other_fits(s, vt_heap(t), r);
    }
}

bool slot_from_val(wasm_store_t *s, valtype t, const wasm_val_t *v, slot *out) {
    if (vt_is_ref(t)) return wasm_valkind_is_ref(v->kind) && ref_fits(s, t, v->of.ref, out);
    *out = (slot){0};
    if (v->kind != valkind_of(s->engine->engine, t) || v->kind == DONJON_V128) return false;
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
