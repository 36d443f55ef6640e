#include "gc.h"
#include "heap.h"
#include "objects.h"
#include "opcodes.h"

#include <string.h>

/* ---- immediates and signatures ---- */

uint32_t gc_read_heaptype(const uint8_t **p) {
    static const uint8_t heaps[] = {/* from -23 on: section 5.3.3 */
                                    HEAP_EXN,    HEAP_ARRAY, HEAP_STRUCT, HEAP_I31,      HEAP_EQ,     HEAP_ANY,
                                    HEAP_EXTERN, HEAP_FUNC,  HEAP_NONE,   HEAP_NOEXTERN, HEAP_NOFUNC, HEAP_NOEXN};
    int64_t heap = leb_s64(p);
    return heap >= 0 ? HEAP_CONCRETE + (uint32_t)heap : heaps[heap + 23];
}

struct gc_branch gc_read_branch(const uint8_t **p) {
    enum { NULL_TO = 2 };
    const uint8_t flags = *(*p)++;
    struct gc_branch b = {.depth = leb_u32(p), .test = flags & NULL_TO ? OP_REF_TEST_NULL : OP_REF_TEST};
    gc_read_heaptype(p);
    b.heap = gc_read_heaptype(p);
    return b;
}

static valtype unpacked(valtype t) {
    return vt_kind(t) == KIND_PACKED ? VT_I32 : t;
}

static void fields_signature(struct gc_ins *g, const struct deftype *d) {
    g->n_params = d->agg.n_fields;
    for (uint32_t n = 0; n < d->agg.n_fields; n++)
        g->param_slots += vt_slots(d->agg.fields[n].type);
}

/* `value`: a field's or element's type; `d`: the first type immediate. */
static void signature(struct gc_ins *g, const struct deftype *d, valtype value) {
    enum { VALUE = 8 }; /* in `params`: one of the operands is a field's or element's value */
    static const uint8_t params[32] = {
        [OP_STRUCT_GET - OP_BASE_FB] = 1,         [OP_STRUCT_GET_S - OP_BASE_FB] = 1,
        [OP_STRUCT_GET_U - OP_BASE_FB] = 1,       [OP_STRUCT_SET - OP_BASE_FB] = VALUE | 2,
        [OP_ARRAY_NEW - OP_BASE_FB] = VALUE | 2,  [OP_ARRAY_NEW_DEFAULT - OP_BASE_FB] = 1,
        [OP_ARRAY_NEW_DATA - OP_BASE_FB] = 2,     [OP_ARRAY_NEW_ELEM - OP_BASE_FB] = 2,
        [OP_ARRAY_GET - OP_BASE_FB] = 2,          [OP_ARRAY_GET_S - OP_BASE_FB] = 2,
        [OP_ARRAY_GET_U - OP_BASE_FB] = 2,        [OP_ARRAY_SET - OP_BASE_FB] = VALUE | 3,
        [OP_ARRAY_LEN - OP_BASE_FB] = 1,          [OP_ARRAY_FILL - OP_BASE_FB] = VALUE | 4,
        [OP_ARRAY_COPY - OP_BASE_FB] = 5,         [OP_ARRAY_INIT_DATA - OP_BASE_FB] = 4,
        [OP_ARRAY_INIT_ELEM - OP_BASE_FB] = 4,    [OP_REF_TEST - OP_BASE_FB] = 1,
        [OP_REF_TEST_NULL - OP_BASE_FB] = 1,      [OP_REF_CAST - OP_BASE_FB] = 1,
        [OP_REF_CAST_NULL - OP_BASE_FB] = 1,      [OP_ANY_CONVERT_EXTERN - OP_BASE_FB] = 1,
        [OP_EXTERN_CONVERT_ANY - OP_BASE_FB] = 1, [OP_REF_I31 - OP_BASE_FB] = 1,
        [OP_I31_GET_S - OP_BASE_FB] = 1,          [OP_I31_GET_U - OP_BASE_FB] = 1,
    };
    const uint8_t n = params[g->op - OP_BASE_FB];
    g->n_params = n & (VALUE - 1);
    g->param_slots = g->n_params + (n & VALUE && vt_kind(value) == KIND_V128);
    if (g->op == OP_STRUCT_NEW) fields_signature(g, d);
    if (g->op == OP_ARRAY_NEW_FIXED) {
        g->n_params = g->y;
        g->param_slots = g->y * vt_slots(value);
    }
}

static valtype result(uint32_t op, valtype value) {
    switch (op) {
    case OP_STRUCT_SET:
    case OP_ARRAY_SET:
    case OP_ARRAY_FILL:
    case OP_ARRAY_COPY:
    case OP_ARRAY_INIT_DATA:
    case OP_ARRAY_INIT_ELEM: return VT_BOT;
    case OP_STRUCT_GET:
    case OP_STRUCT_GET_S:
    case OP_STRUCT_GET_U:
    case OP_ARRAY_GET:
    case OP_ARRAY_GET_S:
    case OP_ARRAY_GET_U: return unpacked(value);
    case OP_ARRAY_LEN:
    case OP_REF_TEST:
    case OP_REF_TEST_NULL:
    case OP_I31_GET_S:
    case OP_I31_GET_U: return VT_I32;
    default: return VT_REF(true, HEAP_ANY);
    }
}

struct gc_ins gc_read(const struct module *m, uint32_t op, const uint8_t **p) {
    struct gc_ins g = {.op = op};
    const struct deftype *d = NULL;
    valtype value = VT_BOT;
    switch (opcode_table[op].imm) {
    case IMM_HEAPTYPE: g.x = gc_read_heaptype(p); break;
    case IMM_TYPE: g.x = leb_u32(p); break;
    case IMM_NONE: break;
    default: g.x = leb_u32(p), g.y = leb_u32(p); break; /* two numbers, the first a type */
    }
    if (op <= OP_ARRAY_INIT_ELEM && op != OP_ARRAY_LEN) d = type_get(m->engine, m->type_ids[g.x]);
    if (d && op >= OP_STRUCT_GET) value = d->agg.fields[op <= OP_STRUCT_SET ? g.y : 0].type;
    signature(&g, d, value);
    g.result = result(op, value);
    return g;
}

/* ---- fields and elements ---- */

static const struct deftype *type_at(const struct instance *i, uint32_t x) {
    return type_get(i->store->engine, i->module->type_ids[x]);
}

static void field_store(valtype t, uint8_t *p, const slot *from) {
    memcpy(p, from, vt_size(t)); /* little-endian: a slot's first bytes are its low ones */
}

static void field_load(valtype t, const uint8_t *p, bool is_signed, slot *to) {
    switch (vt_size(t)) {
    case 1: to->i64 = is_signed ? (uint32_t)(int8_t)*p : *p; return;
    case 2: {
        uint16_t v;
        memcpy(&v, p, sizeof v);
        to->i64 = is_signed ? (uint32_t)(int16_t)v : v;
        return;
    }
    case 4: {
        uint32_t v;
        memcpy(&v, p, sizeof v);
        to->i64 = v;
        return;
    }
    default: memcpy(to, p, vt_size(t)); return;
    }
}

static void elems_fill(valtype t, uint8_t *p, const slot *value, uint64_t n) {
    uint8_t *const end = p + n * vt_size(t);
    switch (vt_size(t)) { /* sizes known to the compiler: it makes vectors of them */
    case 1: memset(p, (int)value->i32, n); return;
    case 2:
        for (; p < end; p += 2)
            memcpy(p, value, 2);
        return;
    case 4:
        for (; p < end; p += 4)
            memcpy(p, value, 4);
        return;
    case 8:
        for (; p < end; p += 8)
            memcpy(p, value, 8);
        return;
    default:
        for (; p < end; p += 16)
            memcpy(p, value, 16);
        return;
    }
}

/* ---- structures ---- */

#define GC(name)                                                                                                       \
    static enum trap_kind name(__attribute__((unused)) struct instance *i, __attribute__((unused)) uint32_t x,         \
                               __attribute__((unused)) uint32_t y, __attribute__((unused)) const slot *a,              \
                               __attribute__((unused)) slot *out, __attribute__((unused)) uint64_t *bytes)

static uint8_t *at_offset(struct object *o, uint32_t offset) {
    return (uint8_t *)o + offset;
}

GC(struct_new_default) {
    const struct deftype *d = type_at(i, x);
    struct object *o = heap_new_object(i->store->heap, d->id, d->agg.size);
    out->i64 = (uintptr_t)o;
    return o ? TRAP_NONE : TRAP_OUT_OF_MEMORY;
}

GC(struct_new) {
    const struct deftype *d = type_at(i, x);
    struct object *o = heap_new_object(i->store->heap, d->id, d->agg.size);
    if (!o) return TRAP_OUT_OF_MEMORY;
    for (uint32_t n = 0; n < d->agg.n_fields; n++) {
        const valtype t = d->agg.fields[n].type;
        field_store(t, at_offset(o, d->agg.offsets[n]), a);
        a += vt_slots(t);
    }
    out->i64 = (uintptr_t)o;
    return TRAP_NONE;
}

static enum trap_kind struct_load(const struct instance *i, uint32_t x, uint32_t y, const slot *a, slot *out,
                                  bool is_signed) {
    const struct deftype *d = type_at(i, x);
    if (!a->ref) return TRAP_NULL_STRUCT;
    field_load(d->agg.fields[y].type, at_offset(a->ref, d->agg.offsets[y]), is_signed, out);
    return TRAP_NONE;
}
GC(struct_get) {
    return struct_load(i, x, y, a, out, false);
}
GC(struct_get_s) {
    return struct_load(i, x, y, a, out, true);
}
GC(struct_set) {
    const struct deftype *d = type_at(i, x);
    if (!a->ref) return TRAP_NULL_STRUCT;
    field_store(d->agg.fields[y].type, at_offset(a->ref, d->agg.offsets[y]), a + 1);
    return TRAP_NONE;
}

/* ---- arrays ---- */

static valtype elem_type(const struct deftype *d) {
    return d->agg.fields[0].type;
}

static struct object *array_alloc(struct instance *i, const struct deftype *d, uint32_t n, uint64_t *bytes) {
    const uint64_t size = (uint64_t)n * d->agg.size;
    struct object *o = heap_new_object(i->store->heap, d->id, OBJECT_ELEMS + size);
    if (o) o->length = n;
    *bytes += size;
    return o;
}

GC(array_new) {
    const struct deftype *d = type_at(i, x);
    const uint32_t n = a[vt_slots(elem_type(d))].i32;
    struct object *o = array_alloc(i, d, n, bytes);
    if (!o) return TRAP_OUT_OF_MEMORY;
    elems_fill(elem_type(d), o->elems, a, n);
    out->i64 = (uintptr_t)o;
    return TRAP_NONE;
}

GC(array_new_default) {
    struct object *o = array_alloc(i, type_at(i, x), a->i32, bytes);
    out->i64 = (uintptr_t)o;
    return o ? TRAP_NONE : TRAP_OUT_OF_MEMORY;
}

GC(array_new_fixed) {
    const struct deftype *d = type_at(i, x);
    const valtype t = elem_type(d);
    struct object *o = array_alloc(i, d, y, bytes);
    if (!o) return TRAP_OUT_OF_MEMORY;
    for (uint32_t n = 0; n < y; n++)
        field_store(t, o->elems + (size_t)n * d->agg.size, a + (size_t)n * vt_slots(t));
    out->i64 = (uintptr_t)o;
    return TRAP_NONE;
}

/* Is [at, at + n) inside of `size`? */
static bool inside(uint64_t at, uint64_t n, uint64_t size) {
    return n <= size && at <= size - n;
}

/* `n` elements from byte `at` of a data segment. NULL: out of bounds. */
static const uint8_t *data_at(const struct instance *i, uint32_t data, uint32_t at, uint64_t n, uint32_t elem_size) {
    const struct data_segment *d = &i->module->datas[data];
    const uint64_t size = i->data_dropped[data] ? 0 : d->size;
    return inside(at, n * elem_size, size) ? i->module->data + d->data + at : NULL;
}

GC(array_new_data) {
    const struct deftype *d = type_at(i, x);
    const uint32_t n = a[1].i32;
    const uint8_t *from = data_at(i, y, a[0].i32, n, d->agg.size);
    if (!from) return TRAP_MEMORY;
    struct object *o = array_alloc(i, d, n, bytes);
    if (!o) return TRAP_OUT_OF_MEMORY;
    memcpy(o->elems, from, (size_t)n * d->agg.size);
    out->i64 = (uintptr_t)o;
    return TRAP_NONE;
}

static enum trap_kind elems_at(struct instance *i, uint32_t elem, uint32_t at, uint32_t n, const slot **from) {
    const uint32_t size = i->elem_dropped[elem] ? 0 : i->module->elems[elem].n_items;
    *from = NULL;
    if (!inside(at, n, size)) return TRAP_TABLE;
    if (!n) return TRAP_NONE;
    const slot *values = elem_segment_values(i, elem);
    if (!values) return TRAP_OUT_OF_MEMORY;
    *from = values + at;
    return TRAP_NONE;
}

GC(array_new_elem) {
    const uint32_t n = a[1].i32;
    const slot *from;
    enum trap_kind kind = elems_at(i, y, a[0].i32, n, &from);
    if (kind) return kind;
    struct object *o = array_alloc(i, type_at(i, x), n, bytes);
    if (!o) return TRAP_OUT_OF_MEMORY;
    if (n) memcpy(o->elems, from, n * sizeof *from);
    out->i64 = (uintptr_t)o;
    return TRAP_NONE;
}

static enum trap_kind array_load(const struct instance *i, uint32_t x, const slot *a, slot *out, bool is_signed) {
    const struct deftype *d = type_at(i, x);
    const struct object *o = a[0].ref;
    const uint32_t at = a[1].i32;
    if (!o) return TRAP_NULL_ARRAY;
    if (at >= o->length) return TRAP_ARRAY;
    field_load(elem_type(d), o->elems + (size_t)at * d->agg.size, is_signed, out);
    return TRAP_NONE;
}
GC(array_get) {
    return array_load(i, x, a, out, false);
}
GC(array_get_s) {
    return array_load(i, x, a, out, true);
}
GC(array_set) {
    const struct deftype *d = type_at(i, x);
    struct object *o = a[0].ref;
    const uint32_t at = a[1].i32;
    if (!o) return TRAP_NULL_ARRAY;
    if (at >= o->length) return TRAP_ARRAY;
    field_store(elem_type(d), o->elems + (size_t)at * d->agg.size, a + 2);
    return TRAP_NONE;
}
GC(array_len) {
    const struct object *o = a->ref;
    if (!o) return TRAP_NULL_ARRAY;
    out->i64 = o->length;
    return TRAP_NONE;
}

GC(array_fill) {
    const struct deftype *d = type_at(i, x);
    struct object *o = a[0].ref;
    const uint32_t at = a[1].i32, n = a[2 + vt_slots(elem_type(d))].i32;
    if (!o) return TRAP_NULL_ARRAY;
    if (!inside(at, n, o->length)) return TRAP_ARRAY;
    elems_fill(elem_type(d), o->elems + (size_t)at * d->agg.size, a + 2, n);
    *bytes += (uint64_t)n * d->agg.size;
    return TRAP_NONE;
}

GC(array_copy) {
    const uint32_t size = type_at(i, x)->agg.size;
    struct object *to = a[0].ref;
    const struct object *from = a[2].ref;
    const uint32_t d = a[1].i32, s = a[3].i32, n = a[4].i32;
    if (!to || !from) return TRAP_NULL_ARRAY;
    if (!inside(d, n, to->length) || !inside(s, n, from->length)) return TRAP_ARRAY;
    memmove(to->elems + (size_t)d * size, from->elems + (size_t)s * size, (size_t)n * size);
    *bytes += (uint64_t)n * size;
    return TRAP_NONE;
}

GC(array_init_data) {
    const uint32_t size = type_at(i, x)->agg.size;
    struct object *o = a[0].ref;
    const uint32_t d = a[1].i32, n = a[3].i32;
    if (!o) return TRAP_NULL_ARRAY;
    if (!inside(d, n, o->length)) return TRAP_ARRAY;
    const uint8_t *from = data_at(i, y, a[2].i32, n, size);
    if (!from) return TRAP_MEMORY;
    memcpy(o->elems + (size_t)d * size, from, (size_t)n * size);
    *bytes += (uint64_t)n * size;
    return TRAP_NONE;
}

GC(array_init_elem) {
    struct object *o = a[0].ref;
    const uint32_t d = a[1].i32, n = a[3].i32;
    const slot *from;
    if (!o) return TRAP_NULL_ARRAY;
    if (!inside(d, n, o->length)) return TRAP_ARRAY;
    enum trap_kind kind = elems_at(i, y, a[2].i32, n, &from);
    if (kind) return kind;
    if (n) memcpy(o->elems + (size_t)d * sizeof *from, from, n * sizeof *from);
    *bytes += (uint64_t)n * sizeof *from;
    return TRAP_NONE;
}

/* ---- casts ---- */

static bool concrete_is(const struct engine *e, slot ref, uint32_t id) {
    const struct object *o = ref.ref;
    if (ref.i64 & REF_TAGS) return false;
    /* Functions and objects are of different hierarchies: validation has seen to it that a type is asked of its own. */
    return type_get(e, id)->kind == COMP_FUNC ? type_id_matches(e, ref.func->type_id, id)
                                              : type_id_matches(e, o->type_id, id);
}

bool gc_ref_is(const struct engine *e, slot ref, uint32_t heap) {
    const struct object *o = ref.ref;
    switch (heap) {
    case HEAP_FUNC:
    case HEAP_EXTERN:
    case HEAP_EXN:
    case HEAP_ANY: return true;
    case HEAP_EQ: return (ref.i64 & REF_TAGS) != REF_TAG_HOST;
    case HEAP_I31: return ref.i64 & REF_TAG_I31;
    case HEAP_STRUCT: return ref_is_object(ref.i64) && type_get(e, o->type_id)->kind == COMP_STRUCT;
    case HEAP_ARRAY: return ref_is_object(ref.i64) && type_get(e, o->type_id)->kind == COMP_ARRAY;
    default: break;
    }
    return heap >= HEAP_CONCRETE && concrete_is(e, ref, heap - HEAP_CONCRETE);
}

static bool ref_is(const struct instance *i, slot ref, uint32_t x) {
    const uint32_t heap = x < HEAP_CONCRETE ? x : HEAP_CONCRETE + i->module->type_ids[x - HEAP_CONCRETE];
    return gc_ref_is(i->store->engine, ref, heap);
}

GC(ref_test) {
    out->i64 = a->ref && ref_is(i, *a, x);
    return TRAP_NONE;
}
GC(ref_test_null) {
    out->i64 = !a->ref || ref_is(i, *a, x);
    return TRAP_NONE;
}
GC(ref_cast) {
    if (!a->ref || !ref_is(i, *a, x)) return TRAP_CAST;
    out->i64 = a->i64;
    return TRAP_NONE;
}
GC(ref_cast_null) {
    if (a->ref && !ref_is(i, *a, x)) return TRAP_CAST;
    out->i64 = a->i64;
    return TRAP_NONE;
}

GC(convert) { /* between any and extern: heap.h */
    out->i64 = a->i64;
    return TRAP_NONE;
}

/* ---- i31 ---- */

GC(ref_i31) {
    out->i64 = (uint32_t)(a->i32 << 1 | REF_TAG_I31);
    return TRAP_NONE;
}
GC(i31_get_s) {
    if (!a->ref) return TRAP_NULL_I31;
    out->i64 = (uint32_t)((int32_t)a->i32 >> 1);
    return TRAP_NONE;
}
GC(i31_get_u) {
    if (!a->ref) return TRAP_NULL_I31;
    out->i64 = a->i32 >> 1;
    return TRAP_NONE;
}

gc_function *const gc_functions[32] = {
    [OP_STRUCT_NEW - OP_BASE_FB] = struct_new,
    [OP_STRUCT_NEW_DEFAULT - OP_BASE_FB] = struct_new_default,
    [OP_STRUCT_GET - OP_BASE_FB] = struct_get,
    [OP_STRUCT_GET_S - OP_BASE_FB] = struct_get_s,
    [OP_STRUCT_GET_U - OP_BASE_FB] = struct_get,
    [OP_STRUCT_SET - OP_BASE_FB] = struct_set,
    [OP_ARRAY_NEW - OP_BASE_FB] = array_new,
    [OP_ARRAY_NEW_DEFAULT - OP_BASE_FB] = array_new_default,
    [OP_ARRAY_NEW_FIXED - OP_BASE_FB] = array_new_fixed,
    [OP_ARRAY_NEW_DATA - OP_BASE_FB] = array_new_data,
    [OP_ARRAY_NEW_ELEM - OP_BASE_FB] = array_new_elem,
    [OP_ARRAY_GET - OP_BASE_FB] = array_get,
    [OP_ARRAY_GET_S - OP_BASE_FB] = array_get_s,
    [OP_ARRAY_GET_U - OP_BASE_FB] = array_get,
    [OP_ARRAY_SET - OP_BASE_FB] = array_set,
    [OP_ARRAY_LEN - OP_BASE_FB] = array_len,
    [OP_ARRAY_FILL - OP_BASE_FB] = array_fill,
    [OP_ARRAY_COPY - OP_BASE_FB] = array_copy,
    [OP_ARRAY_INIT_DATA - OP_BASE_FB] = array_init_data,
    [OP_ARRAY_INIT_ELEM - OP_BASE_FB] = array_init_elem,
    [OP_REF_TEST - OP_BASE_FB] = ref_test,
    [OP_REF_TEST_NULL - OP_BASE_FB] = ref_test_null,
    [OP_REF_CAST - OP_BASE_FB] = ref_cast,
    [OP_REF_CAST_NULL - OP_BASE_FB] = ref_cast_null,
    [OP_ANY_CONVERT_EXTERN - OP_BASE_FB] = convert,
    [OP_EXTERN_CONVERT_ANY - OP_BASE_FB] = convert,
    [OP_REF_I31 - OP_BASE_FB] = ref_i31,
    [OP_I31_GET_S - OP_BASE_FB] = i31_get_s,
    [OP_I31_GET_U - OP_BASE_FB] = i31_get_u,
};
