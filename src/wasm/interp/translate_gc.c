/* Garbage collection's instructions into slot code: see ops_gc.c. */
#include "translate.h"
#include "../gc.h"

/* Out of line: operands to consecutive slots, the result where the first was. */
static void call_gc(struct translator *t, const struct gc_ins *g) {
    settle_top(t, g->n_params);
    const uint32_t args = g->n_params && t->depth >= g->n_params ? t->stack[t->depth - g->n_params].home : t->height;
    const uint32_t at = emit4(t, IOP_gc, args, g->param_slots, 0, 0, 4);
    t->code[at + 2].gc = gc_functions[g->op - OP_BASE_FB];
    t->code[at + 3].u[0] = g->x;
    t->code[at + 3].u[1] = g->y;
    t->code[at + 4].instance = t->instance;
    for (uint32_t n = 0; n < g->n_params; n++)
        pop(t);
    t->result_at = NO_WORD;
    forget(t);
    if (g->result != VT_BOT) push_home(t, (uint8_t)vt_kind(g->result));
}

/* ---- Fields and elements ---- */

enum size_op { SIZE_8, SIZE_16, SIZE_32, SIZE_64, SIZE_NONE };
static enum size_op size_of(valtype t) {
    switch (vt_size(t)) {
    case 1: return SIZE_8;
    case 2: return SIZE_16;
    case 4: return SIZE_32;
    case 8: return SIZE_64;
    default: return SIZE_NONE;
    }
}

/* The member of a family of loads: 8_s 8_u 16_s 16_u 32 64 f32 f64, each with UNARY_S, UNARY_A and twins. */
static uint32_t load_op(uint32_t family, valtype type, bool is_signed) {
    enum { MEMBERS = 4 };
    uint32_t n = 0;
    switch (size_of(type)) {
    case SIZE_8: n = is_signed ? 0 : 1; break;
    case SIZE_16: n = is_signed ? 2 : 3; break;
    case SIZE_32: n = type == VT_F32 ? 6 : 4; break;
    default: n = type == VT_F64 ? 7 : 5; break;
    }
    return family + n * MEMBERS;
}

/* One reference operand, from a slot or the accumulator. */
static void unary(struct translator *t, uint32_t op, uint32_t imm, uint32_t words, word more, uint8_t kind) {
    struct entry e = pop(t);
    const uint16_t slot = to_slot(t, e);
    if (e.where != IN_CONST && !e.plus && in_accumulator(t, e)) {
        op += 2 * UNARY_A;
        take_accumulator(t, e);
    }
    const uint32_t at = emit_imm(t, op, 0, slot, (int32_t)imm, words);
    if (words > 1) t->code[at + 2] = more;
    push_result(t, at, op, kind);
}

static void struct_op(struct translator *t, const struct gc_ins *g) {
    const struct deftype *d = type_get(t->instance->store->engine, t->module->type_ids[g->x]);
    const valtype type = d->agg.fields[g->y].type;
    const uint32_t offset = d->agg.offsets[g->y];
    static const uint16_t stores[] = {IOP_struct_set_8, IOP_struct_set_16, IOP_struct_set_32, IOP_struct_set_64};
    if (size_of(type) == SIZE_NONE) {
        call_gc(t, g);
    } else if (g->op == OP_STRUCT_SET) {
        const uint16_t value = pop_slot(t), ref = pop_slot(t);
        emit_imm(t, stores[size_of(type)], ref, value, (int32_t)offset, 1);
    } else {
        unary(t, load_op(IOP_struct_get_8_s_s, type, g->op == OP_STRUCT_GET_S), offset, 1, (word){0},
              (uint8_t)vt_kind(g->result));
    }
}

static void array_op(struct translator *t, const struct gc_ins *g) {
    const struct deftype *d = type_get(t->instance->store->engine, t->module->type_ids[g->x]);
    const valtype type = d->agg.fields[0].type;
    static const uint16_t stores[] = {IOP_array_set_8, IOP_array_set_16, IOP_array_set_32, IOP_array_set_64};
    if (size_of(type) == SIZE_NONE) {
        call_gc(t, g);
        return;
    }
    if (g->op == OP_ARRAY_SET) {
        const uint16_t value = pop_slot(t), index = pop_slot(t), ref = pop_slot(t);
        emit4(t, stores[size_of(type)], ref, index, value, 0, 1);
        return;
    }
    struct entry index = pop(t), ref = pop(t);
    if (index.where != IN_CONST) index = operand(t, index);
    const uint16_t ref_slot = to_slot(t, ref), index_slot = to_slot(t, index);
    uint32_t op = load_op(IOP_array_get_8_s_s, type, g->op == OP_ARRAY_GET_S);
    if (index.where != IN_CONST && in_accumulator(t, index)) {
        op += 2 * UNARY_A;
        take_accumulator(t, index);
    }
    push_result(t, emit4(t, op, 0, ref_slot, index_slot, 0, 1), op, (uint8_t)vt_kind(g->result));
}

/* ---- Casts ---- */

void translate_cast(struct translator *t, uint32_t op, uint32_t heap) {
    static const uint16_t ops[] = {IOP_ref_test_s, IOP_ref_test_null_s, IOP_ref_cast_s, IOP_ref_cast_null_s};
    const struct engine *e = t->instance->store->engine;
    const bool test = op == OP_REF_TEST || op == OP_REF_TEST_NULL;
    word type = {.u = {heap, TYPE_NONE}};
    if (heap >= HEAP_CONCRETE) {
        const uint32_t id = t->module->type_ids[heap - HEAP_CONCRETE];
        type.u[0] = HEAP_CONCRETE + id;
        if (type_get(e, id)->kind != COMP_FUNC) type.u[1] = id;
    }
    unary(t, ops[op - OP_REF_TEST], 0, 2, type, test ? KIND_I32 : KIND_REF);
}

void translate_gc(struct translator *t, uint32_t op) {
    const struct gc_ins g = gc_read(t->module, op, &t->p);
    switch (op) {
    case OP_STRUCT_GET:
    case OP_STRUCT_GET_S:
    case OP_STRUCT_GET_U:
    case OP_STRUCT_SET: struct_op(t, &g); break;
    case OP_ARRAY_GET:
    case OP_ARRAY_GET_S:
    case OP_ARRAY_GET_U:
    case OP_ARRAY_SET: array_op(t, &g); break;
    case OP_ARRAY_LEN: unary(t, IOP_array_len_s, 0, 1, (word){0}, KIND_I32); break;
    case OP_REF_TEST:
    case OP_REF_TEST_NULL:
    case OP_REF_CAST:
    case OP_REF_CAST_NULL: translate_cast(t, op, g.x); break;
    case OP_REF_I31: unary(t, IOP_ref_i31_s, 0, 1, (word){0}, KIND_REF); break;
    case OP_I31_GET_S: unary(t, IOP_i31_get_s_s, 0, 1, (word){0}, KIND_I32); break;
    case OP_I31_GET_U: unary(t, IOP_i31_get_u_s, 0, 1, (word){0}, KIND_I32); break;
    case OP_ANY_CONVERT_EXTERN:
    case OP_EXTERN_CONVERT_ANY: break; /* heap.h */
    default: call_gc(t, &g);
    }
}
