/* Validation of garbage collection's instructions (core specification, section 3.4.8 to 3.4.12). */
#include "validator.h"

/* ---- Garbage collection (section 3.4.8 to 3.4.12) ---- */

static valtype unpacked(valtype t) {
    return vt_kind(t) == KIND_PACKED ? VT_I32 : t;
}

static bool read_agg(struct validator *v, enum comptype_kind kind, valtype *ref, const struct deftype **out) {
    uint32_t id;
    if (!read_type_index(&v->r, &id)) return false;
    *out = type_get(v->engine, id);
    *ref = VT_REF(true, HEAP_CONCRETE + id);
    if ((*out)->kind == kind) return true;
    return invalid(&v->r, "%s expects %s type", here(v), kind == COMP_STRUCT ? "a structure" : "an array");
}

static bool all_defaultable(struct validator *v, const struct deftype *d) {
    if (d->defaultable) return true;
    for (uint32_t i = 0; i < d->agg.n_fields; i++)
        if (!vt_defaultable(d->agg.fields[i].type)) return invalid(&v->r, "%s: field %u has no default", here(v), i);
    return true;
}

static bool is_mutable(struct validator *v, struct fieldtype f) {
    return f.mutable_ || invalid(&v->r, "%s: the field is immutable", here(v));
}

/* Packed fields are read with a sign, others without. */
static bool check_packing(struct validator *v, struct fieldtype f, bool plain) {
    if ((vt_kind(f.type) == KIND_PACKED) != plain) return true;
    return invalid(&v->r, "%s: the field has type %s", here(v), type_text(&v->r, f.type).s);
}

static bool do_struct(struct validator *v, uint32_t op) {
    const struct deftype *d;
    valtype ref;
    uint32_t field;
    if (!read_agg(v, COMP_STRUCT, &ref, &d)) return false;
    switch (op) {
    case OP_STRUCT_NEW:
        for (uint32_t i = d->agg.n_fields; i--;) {
            if (v->sp == v->base && v->top->unreachable) break;
            if (!pop(v, unpacked(d->agg.fields[i].type))) return false;
        }
        push(v, VT_REF(false, vt_heap(ref)));
        return true;
    case OP_STRUCT_NEW_DEFAULT:
        if (!all_defaultable(v, d)) return false;
        push(v, VT_REF(false, vt_heap(ref)));
        return true;
    }
    if (!read_index(v, "field", d->agg.n_fields, &field)) return false;
    struct fieldtype f = d->agg.fields[field];
    if (op == OP_STRUCT_SET) return is_mutable(v, f) && pop(v, unpacked(f.type)) && pop(v, ref);
    if (!check_packing(v, f, op == OP_STRUCT_GET) || !pop(v, ref)) return false;
    push(v, unpacked(f.type));
    return true;
}

static bool do_array_new(struct validator *v, uint32_t op) {
    const struct deftype *d;
    valtype ref, elem;
    uint32_t n;
    if (!read_agg(v, COMP_ARRAY, &ref, &d)) return false;
    valtype t = d->agg.fields[0].type;
    switch (op) {
    case OP_ARRAY_NEW:
        if (!pop(v, VT_I32) || !pop(v, unpacked(t))) return false;
        break;
    case OP_ARRAY_NEW_DEFAULT:
        if (!all_defaultable(v, d) || !pop(v, VT_I32)) return false;
        break;
    case OP_ARRAY_NEW_FIXED:
        if (!read_u32(&v->r, &n)) return false;
        if (n > MAX_NEW_FIXED)
            return malformed(&v->r, "array.new_fixed of %u, the implementation limit is %u", n, MAX_NEW_FIXED);
        while (n-- && !(v->sp == v->base && v->top->unreachable))
            if (!pop(v, unpacked(t))) return false;
        break;
    case OP_ARRAY_NEW_DATA:
        if (!read_data(v)) return false;
        if (vt_is_ref(t)) return invalid(&v->r, "array.new_data expects an array of numbers or vectors");
        if (!pop(v, VT_I32) || !pop(v, VT_I32)) return false;
        break;
    default: /* array.new_elem */
        if (!read_elem(v, &elem)) return false;
        if (!matches(v, elem, t))
            return invalid(&v->r, "array.new_elem: the segment's type does not match the array's");
        if (!pop(v, VT_I32) || !pop(v, VT_I32)) return false;
    }
    push(v, VT_REF(false, vt_heap(ref)));
    return true;
}

static bool do_array_copy(struct validator *v) {
    const struct deftype *to, *from;
    valtype to_ref, from_ref;
    if (!read_agg(v, COMP_ARRAY, &to_ref, &to) || !read_agg(v, COMP_ARRAY, &from_ref, &from)) return false;
    if (!is_mutable(v, to->agg.fields[0])) return false;
    if (!matches(v, from->agg.fields[0].type, to->agg.fields[0].type))
        return invalid(&v->r, "array.copy: array types do not match");
    return pop(v, VT_I32) && pop(v, VT_I32) && pop(v, from_ref) && pop(v, VT_I32) && pop(v, to_ref);
}

static bool do_array(struct validator *v, uint32_t op) {
    const struct deftype *d;
    valtype ref, elem;
    if (!read_agg(v, COMP_ARRAY, &ref, &d)) return false;
    struct fieldtype f = d->agg.fields[0];
    valtype t = unpacked(f.type);
    switch (op) {
    case OP_ARRAY_GET:
    case OP_ARRAY_GET_S:
    case OP_ARRAY_GET_U:
        if (!check_packing(v, f, op == OP_ARRAY_GET) || !pop(v, VT_I32) || !pop(v, ref)) return false;
        push(v, t);
        return true;
    case OP_ARRAY_SET: return is_mutable(v, f) && pop(v, t) && pop(v, VT_I32) && pop(v, ref);
    case OP_ARRAY_FILL: return is_mutable(v, f) && pop(v, VT_I32) && pop(v, t) && pop(v, VT_I32) && pop(v, ref);
    case OP_ARRAY_INIT_DATA:
        if (!read_data(v) || !is_mutable(v, f)) return false;
        if (vt_is_ref(t)) return invalid(&v->r, "array.init_data expects an array of numbers or vectors");
        break;
    default: /* array.init_elem */
        if (!read_elem(v, &elem) || !is_mutable(v, f)) return false;
        if (!matches(v, elem, f.type)) return invalid(&v->r, "array.init_elem: the segment's type does not match");
    }
    return pop(v, VT_I32) && pop(v, VT_I32) && pop(v, VT_I32) && pop(v, ref);
}

/* The top of a heap type's hierarchy. */
static uint32_t top_of(const struct validator *v, uint32_t heap) {
    switch (heap) {
    case HEAP_FUNC:
    case HEAP_NOFUNC: return HEAP_FUNC;
    case HEAP_EXTERN:
    case HEAP_NOEXTERN: return HEAP_EXTERN;
    case HEAP_EXN:
    case HEAP_NOEXN: return HEAP_EXN;
    }
    if (heap < HEAP_CONCRETE) return HEAP_ANY;
    return type_get(v->engine, heap - HEAP_CONCRETE)->kind == COMP_FUNC ? HEAP_FUNC : HEAP_ANY;
}

static bool do_cast(struct validator *v, uint32_t op) {
    uint32_t heap;
    if (!read_heaptype(&v->r, &heap) || !pop(v, VT_REF(true, top_of(v, heap)))) return false;
    if (op == OP_REF_TEST || op == OP_REF_TEST_NULL)
        push(v, VT_I32);
    else
        push(v, VT_REF(op == OP_REF_CAST_NULL, heap));
    return true;
}

static bool do_br_on_cast(struct validator *v, uint32_t op) {
    enum { NULL_FROM = 1, NULL_TO = 2 };
    uint8_t flags;
    struct block *b;
    uint32_t heap_from, heap_to, n;
    if (!read_byte(&v->r, &flags)) return false;
    if (flags > (NULL_FROM | NULL_TO)) return malformed(&v->r, "%s: malformed cast flags 0x%x", here(v), flags);
    if (!read_label(v, &b) || !read_heaptype(&v->r, &heap_from) || !read_heaptype(&v->r, &heap_to)) return false;
    valtype from = VT_REF(flags & NULL_FROM, heap_from), to = VT_REF(flags & NULL_TO, heap_to);
    if (!matches(v, to, from))
        return invalid(&v->r, "%s: %s is not a subtype of %s", here(v), type_text(&v->r, to).s,
                       type_text(&v->r, from).s);
    /* What is left when the cast fails: null only if the cast does not take it. */
    valtype rest = flags & NULL_TO ? VT_REF(false, heap_from) : from;
    valtype taken = op == OP_BR_ON_CAST ? to : rest, stays = op == OP_BR_ON_CAST ? rest : to;
    const valtype *types = label_types(b, &n);
    if (!n || !matches(v, taken, types[n - 1]))
        return invalid(&v->r, "%s: %s does not match the label", here(v), type_text(&v->r, taken).s);
    if (!pop(v, from) || !pop_types(v, types, n - 1) || !push_types(v, types, n - 1)) return false;
    push(v, stays);
    return true;
}

static bool do_convert(struct validator *v, uint32_t op) {
    uint32_t from = op == OP_ANY_CONVERT_EXTERN ? HEAP_EXTERN : HEAP_ANY;
    uint32_t to = op == OP_ANY_CONVERT_EXTERN ? HEAP_ANY : HEAP_EXTERN;
    valtype t;
    if (!pop_ref(v, &t)) return false;
    if (!matches(v, t, VT_REF(true, from)))
        return invalid(&v->r, "%s expects %s, found %s", here(v), type_text(&v->r, VT_REF(true, from)).s,
                       type_text(&v->r, t).s);
    push(v, VT_REF(vt_nullable(t), to));
    return true;
}

bool validate_gc(struct validator *v, uint32_t op) {
    if (op <= OP_STRUCT_SET) return do_struct(v, op);
    if (op <= OP_ARRAY_NEW_ELEM) return do_array_new(v, op);
    switch (op) {
    case OP_ARRAY_LEN:
        if (!pop(v, VT_REF(true, HEAP_ARRAY))) return false;
        push(v, VT_I32);
        return true;
    case OP_ARRAY_COPY: return do_array_copy(v);
    case OP_REF_TEST:
    case OP_REF_TEST_NULL:
    case OP_REF_CAST:
    case OP_REF_CAST_NULL: return do_cast(v, op);
    case OP_BR_ON_CAST:
    case OP_BR_ON_CAST_FAIL: return do_br_on_cast(v, op);
    case OP_ANY_CONVERT_EXTERN:
    case OP_EXTERN_CONVERT_ANY: return do_convert(v, op);
    case OP_REF_I31:
        if (!pop(v, VT_I32)) return false;
        push(v, VT_REF(false, HEAP_I31));
        return true;
    case OP_I31_GET_S:
    case OP_I31_GET_U:
        if (!pop(v, VT_REF(true, HEAP_I31))) return false;
        push(v, VT_I32);
        return true;
    default: return do_array(v, op);
    }
}
