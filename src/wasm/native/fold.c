/* What can be known while instructions are made: constants, identities, simpler forms, equal values. LLVM has already
 * done the rest; this catches what its lowering to wasm leaves (shift masks, compare chains, address arithmetic). */
#include "ir.h"

#include <string.h>

bool vec_reserve(struct fn *f, void *vec, size_t item, uint32_t more) {
    VEC(char) *v = vec;
    if (f->failed) return false;
    if (v->cap - v->n >= more) return true;
    uint64_t cap = v->cap ? v->cap : 64;
    while (cap - v->n < more)
        cap *= 2;
    uint64_t cost = (cap - v->cap) * item;
    if (cap > UINT32_MAX / 2 || cost > f->memory_left) {
        f->failed = f->over_budget = true;
        return false;
    }
    void *grown = f->platform->realloc(f->platform->ctx, v->v, cap * item);
    if (!grown) {
        f->failed = true;
        return false;
    }
    f->memory_left -= cost;
    v->v = grown;
    v->cap = (uint32_t)cap;
    return true;
}

bool ir_is_pure(uint16_t op) {
    if (op >= OPCODE_LIMIT) return op == IR_CONST || op == IR_CONST128 || op == IR_SELECT;
    switch (op) {
    case OP_I32_DIV_S:
    case OP_I32_DIV_U:
    case OP_I32_REM_S:
    case OP_I32_REM_U:
    case OP_I64_DIV_S:
    case OP_I64_DIV_U:
    case OP_I64_REM_S:
    case OP_I64_REM_U:
    case OP_I32_TRUNC_F32_S:
    case OP_I32_TRUNC_F32_U:
    case OP_I32_TRUNC_F64_S:
    case OP_I32_TRUNC_F64_U:
    case OP_I64_TRUNC_F32_S:
    case OP_I64_TRUNC_F32_U:
    case OP_I64_TRUNC_F64_S:
    case OP_I64_TRUNC_F64_U: return false; /* may trap */
    case OP_REF_FUNC: return true;
    default: break;
    }
    const struct opcode_info *o = &opcode_table[op];
    return o->text && o->sig != SIG_SPECIAL && sig_params(o->sig) && o->imm != IMM_MEMARG && o->imm != IMM_MEMARG_LANE;
}

static bool commutes(uint16_t op) {
    switch (op) {
    case OP_I32_ADD:
    case OP_I32_MUL:
    case OP_I32_AND:
    case OP_I32_OR:
    case OP_I32_XOR:
    case OP_I32_EQ:
    case OP_I32_NE:
    case OP_I64_ADD:
    case OP_I64_MUL:
    case OP_I64_AND:
    case OP_I64_OR:
    case OP_I64_XOR:
    case OP_I64_EQ:
    case OP_I64_NE: return true;
    default: return false;
    }
}

/* a < b is b > a: OP_I32_LT_S.. are in the order eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u. */
static uint16_t swapped_compare(uint16_t op) {
    static const uint8_t swap[10] = {0, 1, 4, 5, 2, 3, 8, 9, 6, 7};
    if (op >= OP_I32_EQ && op <= OP_I32_GE_U) return (uint16_t)(OP_I32_EQ + swap[op - OP_I32_EQ]);
    if (op >= OP_I64_EQ && op <= OP_I64_GE_U) return (uint16_t)(OP_I64_EQ + swap[op - OP_I64_EQ]);
    return 0;
}

/* The compare that is true when `op` is false; 0 where NaN stands in the way. */
static uint16_t inverted_compare(uint16_t op) {
    static const uint8_t invert[10] = {1, 0, 8, 9, 6, 7, 4, 5, 2, 3};
    if (op >= OP_I32_EQ && op <= OP_I32_GE_U) return (uint16_t)(OP_I32_EQ + invert[op - OP_I32_EQ]);
    if (op >= OP_I64_EQ && op <= OP_I64_GE_U) return (uint16_t)(OP_I64_EQ + invert[op - OP_I64_EQ]);
    switch (op) {
    case OP_F32_EQ: return OP_F32_NE;
    case OP_F32_NE: return OP_F32_EQ;
    case OP_F64_EQ: return OP_F64_NE;
    case OP_F64_NE: return OP_F64_EQ;
    default: return 0;
    }
}

static bool const32(uint16_t op, uint32_t x, uint32_t y, uint32_t *r) {
    int32_t sx = (int32_t)x, sy = (int32_t)y;
    switch (op) {
    case OP_I32_ADD: *r = x + y; return true;
    case OP_I32_SUB: *r = x - y; return true;
    case OP_I32_MUL: *r = x * y; return true;
    case OP_I32_AND: *r = x & y; return true;
    case OP_I32_OR: *r = x | y; return true;
    case OP_I32_XOR: *r = x ^ y; return true;
    case OP_I32_SHL: *r = x << (y & 31); return true;
    case OP_I32_SHR_U: *r = x >> (y & 31); return true;
    case OP_I32_SHR_S: *r = (uint32_t)(sx >> (y & 31)); return true;
    case OP_I32_EQ: *r = x == y; return true;
    case OP_I32_NE: *r = x != y; return true;
    case OP_I32_LT_S: *r = sx < sy; return true;
    case OP_I32_LT_U: *r = x < y; return true;
    case OP_I32_GT_S: *r = sx > sy; return true;
    case OP_I32_GT_U: *r = x > y; return true;
    case OP_I32_LE_S: *r = sx <= sy; return true;
    case OP_I32_LE_U: *r = x <= y; return true;
    case OP_I32_GE_S: *r = sx >= sy; return true;
    case OP_I32_GE_U: *r = x >= y; return true;
    default: return false;
    }
}

static bool const64(uint16_t op, uint64_t x, uint64_t y, uint64_t *r) {
    int64_t sx = (int64_t)x, sy = (int64_t)y;
    switch (op) {
    case OP_I64_ADD: *r = x + y; return true;
    case OP_I64_SUB: *r = x - y; return true;
    case OP_I64_MUL: *r = x * y; return true;
    case OP_I64_AND: *r = x & y; return true;
    case OP_I64_OR: *r = x | y; return true;
    case OP_I64_XOR: *r = x ^ y; return true;
    case OP_I64_SHL: *r = x << (y & 63); return true;
    case OP_I64_SHR_U: *r = x >> (y & 63); return true;
    case OP_I64_SHR_S: *r = (uint64_t)(sx >> (y & 63)); return true;
    case OP_I64_EQ: *r = x == y; return true;
    case OP_I64_NE: *r = x != y; return true;
    case OP_I64_LT_S: *r = sx < sy; return true;
    case OP_I64_LT_U: *r = x < y; return true;
    case OP_I64_GT_S: *r = sx > sy; return true;
    case OP_I64_GT_U: *r = x > y; return true;
    case OP_I64_LE_S: *r = sx <= sy; return true;
    case OP_I64_LE_U: *r = x <= y; return true;
    case OP_I64_GE_S: *r = sx >= sy; return true;
    case OP_I64_GE_U: *r = x >= y; return true;
    default: return false;
    }
}

static void become_const(struct ins *i, uint64_t bits) {
    i->op = IR_CONST;
    i->a = i->b = i->c = 0;
    i->imm = bits;
}

static ref fold_unary(const struct fn *f, struct ins *i, const struct ins *x) {
    bool constant = x->op == IR_CONST;
    switch (i->op) {
    case OP_I64_EXTEND_I32_U: return i->a; /* the upper half of an i32 is zero everywhere */
    case OP_I32_WRAP_I64:
        if (x->type == KIND_I32 && !constant) return i->a;
        if (constant) become_const(i, (uint32_t)x->imm);
        return 0;
    case OP_I64_EXTEND_I32_S:
        if (constant) become_const(i, (uint64_t)(int64_t)(int32_t)x->imm);
        return 0;
    case OP_I32_EQZ:
    case OP_I64_EQZ:
        if (constant) {
            become_const(i, (i->op == OP_I32_EQZ ? (uint32_t)x->imm : x->imm) == 0);
        } else if (i->op == OP_I32_EQZ && inverted_compare(x->op)) {
            i->op = inverted_compare(x->op);
            i->a = x->a;
            i->b = x->b;
        }
        return 0;
    default: return 0;
    }
    (void)f;
}

/* x op constant. */
static ref fold_right(const struct fn *f, struct ins *i, uint64_t y) {
    bool wide = i->type == KIND_I64;
    const struct ins *x = &f->ins.v[i->a];
    switch (i->op) {
    case OP_I32_ADD:
    case OP_I64_ADD:
    case OP_I32_OR:
    case OP_I64_OR:
    case OP_I32_XOR:
    case OP_I64_XOR:
    case OP_I32_SUB:
    case OP_I64_SUB:
        if (y == 0) return i->a;
        return 0;
    case OP_I32_SHL:
    case OP_I32_SHR_S:
    case OP_I32_SHR_U:
    case OP_I32_ROTL:
    case OP_I32_ROTR: return (y & 31) == 0 ? i->a : 0;
    case OP_I64_SHL:
    case OP_I64_SHR_S:
    case OP_I64_SHR_U:
    case OP_I64_ROTL:
    case OP_I64_ROTR: return (y & 63) == 0 ? i->a : 0;
    case OP_I32_MUL:
    case OP_I64_MUL:
        if (y == 1) return i->a;
        return 0;
    case OP_I32_AND:
    case OP_I64_AND:
        if (y == 0)
            become_const(i, 0);
        else if (wide && y == UINT32_MAX)
            *i = (struct ins){.op = OP_I32_WRAP_I64, .type = KIND_I32, .a = i->a, .at = i->at, .aux = i->aux};
        else if (y == (wide ? ~0ull : UINT32_MAX))
            return i->a;
        else if (y == 0xff && (x->op == OP_I32_LOAD8_U || x->op == OP_I64_LOAD8_U))
            return i->a;
        else if (y == 0xffff && (x->op == OP_I32_LOAD16_U || x->op == OP_I64_LOAD16_U))
            return i->a;
        return 0;
    case OP_I32_NE: /* a compare's result is not zero: the compare */
        if (y == 0 && x->type == KIND_I32 && (swapped_compare(x->op) || inverted_compare(x->op))) return i->a;
        return 0;
    default: return 0;
    }
}

/* Shifts count modulo the width, and so does the machine: a mask of the count says nothing. */
static void drop_count_mask(const struct fn *f, struct ins *i) {
    uint64_t mask;
    uint16_t and_;
    switch (i->op) {
    case OP_I32_SHL:
    case OP_I32_SHR_S:
    case OP_I32_SHR_U:
    case OP_I32_ROTL:
    case OP_I32_ROTR: mask = 31, and_ = OP_I32_AND; break;
    case OP_I64_SHL:
    case OP_I64_SHR_S:
    case OP_I64_SHR_U:
    case OP_I64_ROTL:
    case OP_I64_ROTR: mask = 63, and_ = OP_I64_AND; break;
    default: return;
    }
    const struct ins *n = &f->ins.v[i->b];
    if (n->op == and_ && f->ins.v[n->b].op == IR_CONST && (f->ins.v[n->b].imm & mask) == mask) i->b = n->a;
}

ref ir_fold(const struct fn *f, struct ins *i) {
    if (!i->a) return 0;
    const struct ins *x = &f->ins.v[i->a];
    if (i->op == IR_SELECT) {
        const struct ins *c = &f->ins.v[i->c];
        if (i->a == i->b) return i->a;
        if (c->op == IR_CONST) return (uint32_t)c->imm ? i->a : i->b;
        return 0;
    }
    if (!i->b) return fold_unary(f, i, x);
    if (x->op == IR_CONST && f->ins.v[i->b].op != IR_CONST && (commutes(i->op) || swapped_compare(i->op))) {
        ref t = i->a;
        if (!commutes(i->op)) i->op = swapped_compare(i->op);
        i->a = i->b;
        i->b = t;
        x = &f->ins.v[i->a];
    }
    drop_count_mask(f, i);
    const struct ins *y = &f->ins.v[i->b];
    if (y->op != IR_CONST) return 0;
    if (x->op == IR_CONST) {
        uint32_t r32;
        uint64_t r64;
        if (const32(i->op, (uint32_t)x->imm, (uint32_t)y->imm, &r32))
            become_const(i, r32);
        else if (const64(i->op, x->imm, y->imm, &r64))
            become_const(i, r64);
        return 0;
    }
    return fold_right(f, i, y->imm);
}

/* --- value numbering -----------------------------------------------------------------------------------------------
 */

static uint32_t hash(const struct ins *i) {
    uint64_t h = i->op * 0x9E3779B97F4A7C15ull ^ ((uint64_t)i->a << 32 | i->b);
    h = (h ^ h >> 29) * 0xBF58476D1CE4E5B9ull + i->c;
    h = (h ^ i->imm ^ (uint64_t)i->type << 56) * 0x94D049BB133111EBull;
    return (uint32_t)(h >> 32);
}

static bool same(const struct ins *x, const struct ins *y) {
    return x->op == y->op && x->type == y->type && x->a == y->a && x->b == y->b && x->c == y->c && x->imm == y->imm;
}

ref *values_find(struct fn *f, const struct values *v, const struct ins *i) {
    for (uint32_t h = hash(i);; h++) {
        fn_work(f, 1); /* who chooses the constants can make them collide */
        ref *place = &v->table[h & v->mask];
        if (!*place || same(&f->ins.v[*place], i)) return place;
    }
}

bool values_reserve(struct fn *f, struct values *v) {
    if (v->table && v->used * 2 <= v->mask) return true;
    uint32_t size = v->table ? (v->mask + 1) * 2 : 256;
    struct values grown = {f->platform->realloc(f->platform->ctx, NULL, size * sizeof(ref)), size - 1, v->used};
    if (!grown.table) {
        f->failed = true;
        return false;
    }
    memset(grown.table, 0, size * sizeof(ref));
    for (uint32_t k = 0; v->table && k <= v->mask; k++)
        if (v->table[k]) *values_find(f, &grown, &f->ins.v[v->table[k]]) = v->table[k];
    f->platform->realloc(f->platform->ctx, v->table, 0);
    *v = grown;
    return true;
}
