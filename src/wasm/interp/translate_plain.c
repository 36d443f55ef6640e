/* Numeric, memory, variable, table and reference instructions into slot code: everything that is not control flow. */
#include "translate.h"
#include "../limits.h"

#include <string.h>

/* ---- The table: which family of handlers an instruction belongs to, and the family's first member ---- */

enum family { NO_FAMILY, COMMUTATIVE, BINARY, COMPARE, FCOMPARE, UNARY, LOAD, STORE };
struct numeric_op {
    uint16_t iop;
    uint8_t family;
    uint8_t size; /* of memory accesses, in bytes */
};

// clang-format off
#define COMM_(OP, n)    [OP_##OP] = {IOP_##n##_ss, COMMUTATIVE, 0},
#define BIN_(OP, n)     [OP_##OP] = {IOP_##n##_ss, BINARY, 0},
#define CMP_(OP, n)     [OP_##OP] = {IOP_##n##_ss, COMPARE, 0},
#define FCMP_(OP, n)    [OP_##OP] = {IOP_##n##_ss, FCOMPARE, 0},
#define UN_(OP, n)      [OP_##OP] = {IOP_##n##_s, UNARY, 0},
#define LD_(OP, n, sz)  [OP_##OP] = {IOP_##n##_s, LOAD, sz},
#define ST_(OP, n, sz)  [OP_##OP] = {IOP_##n##_ss, STORE, sz},
#define INT_(I, i) \
    COMM_(I##_ADD, i##_add) COMM_(I##_MUL, i##_mul) COMM_(I##_AND, i##_and) COMM_(I##_OR, i##_or) COMM_(I##_XOR, i##_xor) \
    BIN_(I##_SUB, i##_sub) BIN_(I##_SHL, i##_shl) BIN_(I##_SHR_S, i##_shr_s) BIN_(I##_SHR_U, i##_shr_u) \
    BIN_(I##_ROTL, i##_rotl) BIN_(I##_ROTR, i##_rotr) BIN_(I##_DIV_S, i##_div_s) BIN_(I##_DIV_U, i##_div_u) \
    BIN_(I##_REM_S, i##_rem_s) BIN_(I##_REM_U, i##_rem_u) \
    CMP_(I##_EQ, i##_eq) CMP_(I##_NE, i##_ne) CMP_(I##_LT_S, i##_lt_s) CMP_(I##_LT_U, i##_lt_u) CMP_(I##_GT_S, i##_gt_s) \
    CMP_(I##_GT_U, i##_gt_u) CMP_(I##_LE_S, i##_le_s) CMP_(I##_LE_U, i##_le_u) CMP_(I##_GE_S, i##_ge_s) CMP_(I##_GE_U, i##_ge_u) \
    UN_(I##_CLZ, i##_clz) UN_(I##_CTZ, i##_ctz) UN_(I##_POPCNT, i##_popcnt) \
    UN_(I##_EXTEND8_S, i##_extend8_s) UN_(I##_EXTEND16_S, i##_extend16_s) \
    UN_(I##_TRUNC_F32_S, i##_trunc_f32_s) UN_(I##_TRUNC_F32_U, i##_trunc_f32_u) \
    UN_(I##_TRUNC_F64_S, i##_trunc_f64_s) UN_(I##_TRUNC_F64_U, i##_trunc_f64_u) \
    UN_(I##_TRUNC_SAT_F32_S, i##_trunc_sat_f32_s) UN_(I##_TRUNC_SAT_F32_U, i##_trunc_sat_f32_u) \
    UN_(I##_TRUNC_SAT_F64_S, i##_trunc_sat_f64_s) UN_(I##_TRUNC_SAT_F64_U, i##_trunc_sat_f64_u)
#define FLOAT_(F, f) \
    BIN_(F##_ADD, f##_add) BIN_(F##_SUB, f##_sub) BIN_(F##_MUL, f##_mul) BIN_(F##_DIV, f##_div) \
    BIN_(F##_MIN, f##_min) BIN_(F##_MAX, f##_max) BIN_(F##_COPYSIGN, f##_copysign) \
    FCMP_(F##_EQ, f##_eq) FCMP_(F##_NE, f##_ne) FCMP_(F##_LT, f##_lt) FCMP_(F##_GT, f##_gt) FCMP_(F##_LE, f##_le) FCMP_(F##_GE, f##_ge) \
    UN_(F##_ABS, f##_abs) UN_(F##_NEG, f##_neg) UN_(F##_CEIL, f##_ceil) UN_(F##_FLOOR, f##_floor) UN_(F##_TRUNC, f##_trunc) \
    UN_(F##_NEAREST, f##_nearest) UN_(F##_SQRT, f##_sqrt) \
    UN_(F##_CONVERT_I32_S, f##_convert_i32_s) UN_(F##_CONVERT_I32_U, f##_convert_i32_u) \
    UN_(F##_CONVERT_I64_S, f##_convert_i64_s) UN_(F##_CONVERT_I64_U, f##_convert_i64_u)
static const struct numeric_op numeric_ops[OP_BASE_FD] = {
    INT_(I32, i32) INT_(I64, i64) FLOAT_(F32, f32) FLOAT_(F64, f64)
    CMP_(REF_EQ, i64_eq)
    UN_(I64_EXTEND_I32_S, i64_extend32_s) UN_(I64_EXTEND32_S, i64_extend32_s) UN_(I64_EXTEND_I32_U, i64_extend_i32_u)
    UN_(F32_DEMOTE_F64, f32_demote_f64) UN_(F64_PROMOTE_F32, f64_promote_f32)
    UN_(I32_REINTERPRET_F32, i32_reinterpret_f32) UN_(I64_REINTERPRET_F64, i64_reinterpret_f64)
    UN_(F32_REINTERPRET_I32, f32_reinterpret_i32) UN_(F64_REINTERPRET_I64, f64_reinterpret_i64)
    LD_(I32_LOAD, i32_load, 4) LD_(I64_LOAD, i64_load, 8) LD_(F32_LOAD, f32_load, 4) LD_(F64_LOAD, f64_load, 8)
    LD_(I32_LOAD8_S, i32_load8_s, 1) LD_(I32_LOAD8_U, i32_load8_u, 1) LD_(I32_LOAD16_S, i32_load16_s, 2) LD_(I32_LOAD16_U, i32_load16_u, 2)
    LD_(I64_LOAD8_S, i64_load8_s, 1) LD_(I64_LOAD8_U, i32_load8_u, 1) LD_(I64_LOAD16_S, i64_load16_s, 2)
    LD_(I64_LOAD16_U, i32_load16_u, 2) LD_(I64_LOAD32_S, i64_load32_s, 4) LD_(I64_LOAD32_U, i32_load, 4)
    ST_(I32_STORE, store32, 4) ST_(I64_STORE, store64, 8) ST_(F32_STORE, store32, 4) ST_(F64_STORE, store64, 8)
    ST_(I32_STORE8, store8, 1) ST_(I32_STORE16, store16, 2) ST_(I64_STORE8, store8, 1) ST_(I64_STORE16, store16, 2) ST_(I64_STORE32, store32, 4)
};
// clang-format on

/* ---- Operands ---- */

/* Sorts two operands into one of the shapes that the family has and fills a, b and imm with what goes into the words.
 */
struct operands {
    enum shape shape;
    uint16_t a, b;
    uint64_t imm;
};
static struct operands choose(struct translator *t, struct entry a, struct entry b, bool commutative) {
    if (!immediate(b)) b = operand(t, b);
    if (!immediate(a) || immediate(b)) a = operand(t, a);
    if (commutative && (immediate(a) || (in_accumulator(t, b) && !in_accumulator(t, a) && !immediate(b)))) {
        struct entry swap = a;
        a = b;
        b = swap;
    }
    struct operands o = {.a = a.slot, .b = b.slot, .imm = immediate(b) ? b.bits : a.bits};
    const bool a_acc = in_accumulator(t, a), b_acc = in_accumulator(t, b);
    if (immediate(b))
        o.shape = a_acc ? SHAPE_AI : SHAPE_SI;
    else if (immediate(a))
        o.shape = b_acc ? SHAPE_IA : SHAPE_IS;
    else
        o.shape = a_acc ? SHAPE_AS : b_acc ? SHAPE_SA : SHAPE_SS;
    if (o.shape == SHAPE_AI || o.shape == SHAPE_AS) take_accumulator(t, a);
    if (o.shape == SHAPE_IA || o.shape == SHAPE_SA) take_accumulator(t, b);
    return o;
}

/* ---- Arithmetic and comparisons ---- */

static void push_binary(struct translator *t, uint32_t op, struct operands o, uint8_t operand_kind, uint8_t kind) {
    uint32_t at;
    const bool imm = o.shape == SHAPE_SI || o.shape == SHAPE_AI || o.shape == SHAPE_IS || o.shape == SHAPE_IA;
    const uint16_t slot = o.shape == SHAPE_IS || o.shape == SHAPE_IA ? o.b : o.a;
    if (imm && (operand_kind == KIND_F32 || operand_kind == KIND_F64)) {
        at = emit4(t, op, 0, slot, 0, 0, 2);
        t->code[at + 2].u64 = o.imm;
    } else if (imm) {
        at = emit_imm(t, op, 0, slot, (int64_t)o.imm, 1);
    } else {
        at = emit4(t, op, 0, o.a, o.b, 0, 1);
    }
    push_result(t, at, op, kind);
}

/* Has the latest instruction made this popped entry, for nobody else? Then the two may become one. (Its `plus` apart.)
 */
static bool made_by_last(struct translator *t, struct entry e) {
    const struct accumulator *a = accumulator_of(t, e.kind);
    return a && t->last != NO_WORD && e.where == IN_HOME && a->slot == e.slot && a->at == t->last &&
           a->op == t->last_op && (interp_flags[t->last_op] & OPF_TWIN);
}
static bool is_plain(struct entry e) {
    return e.where != IN_CONST && !e.plus;
}
/* Is `op` member `shape` or `shape2` of the family that begins with `first`? */
static bool is_shape(uint32_t op, uint32_t first, enum shape shape, enum shape shape2) {
    return op == first + 2u * shape || op == first + 2u * shape2;
}

/* A constant of 64 bits. */
static bool with_wide(struct translator *t, uint32_t iop, struct entry a, struct entry b, uint8_t kind) {
    static const uint16_t ops[][2] = {{IOP_i64_add_ss, IOP_i64_add_wide_s},
                                      {IOP_i64_mul_ss, IOP_i64_mul_wide_s},
                                      {IOP_i64_and_ss, IOP_i64_and_wide_s},
                                      {IOP_i64_or_ss, IOP_i64_or_wide_s},
                                      {IOP_i64_xor_ss, IOP_i64_xor_wide_s}};
    uint32_t op = 0;
    for (unsigned i = 0; i < sizeof ops / sizeof *ops; i++)
        if (ops[i][0] == iop) op = ops[i][1];
    if (a.where == IN_CONST) {
        const struct entry swap = a;
        a = b;
        b = swap;
    }
    if (!op || a.where == IN_CONST || b.where != IN_CONST || immediate(b)) return false;
    if (in_accumulator(t, a)) {
        op += 2 * WIDE_A;
        take_accumulator(t, a);
    }
    const uint32_t at = emit4(t, op, 0, a.slot, 0, 0, 2);
    t->code[at + 2].u64 = b.bits;
    push_result(t, at, op, kind);
    return true;
}

/* a ? (b shifted by a constant). */
static bool with_shifted(struct translator *t, uint32_t iop, struct entry a, struct entry b, uint8_t kind) {
    static const uint16_t ops[][2] = {{IOP_i32_add_ss, IOP_i32_add_shl_s}, {IOP_i32_sub_ss, IOP_i32_sub_shl_s},
                                      {IOP_i32_or_ss, IOP_i32_or_shl_s},   {IOP_i32_xor_ss, IOP_i32_xor_shl_s},
                                      {IOP_i64_add_ss, IOP_i64_add_shl_s}, {IOP_i64_sub_ss, IOP_i64_sub_shl_s},
                                      {IOP_i64_or_ss, IOP_i64_or_shl_s},   {IOP_i64_xor_ss, IOP_i64_xor_shl_s}};
    static const uint16_t shifts[2][3] = {{IOP_i32_shl_ss, IOP_i32_shr_u_ss, IOP_i32_rotl_ss},
                                          {IOP_i64_shl_ss, IOP_i64_shr_u_ss, IOP_i64_rotl_ss}};
    enum { MEMBERS = 4 }; /* of one shift */
    uint32_t op = 0;
    for (unsigned i = 0; i < sizeof ops / sizeof *ops; i++)
        if (ops[i][0] == iop) op = ops[i][1];
    if (!op) return false;
    if (!made_by_last(t, b) && iop != IOP_i32_sub_ss && iop != IOP_i64_sub_ss) {
        const struct entry swap = a;
        a = b;
        b = swap;
    }
    if (!made_by_last(t, b) || !is_plain(a) || b.plus) return false;
    for (unsigned i = 0; i < 3; i++, op += MEMBERS) {
        const uint32_t shift = shifts[kind == KIND_I64][i];
        if (!is_shape(t->last_op, shift, SHAPE_SI, SHAPE_AI)) continue;
        const word o = t->code[t->last + 1];
        if (t->last_op == shift + 2 * SHAPE_AI) op += 2 * SHIFTED_A;
        take_back_last(t);
        push_result(t, emit4(t, op, 0, a.slot, o.s[1], o.u[1] & (kind == KIND_I64 ? 63 : 31), 1), op, kind);
        return true;
    }
    return false;
}

/* c + a * b, c - a * b, a * b - c. */
static bool with_product(struct translator *t, uint32_t iop, struct entry a, struct entry b, uint8_t kind) {
    const bool wide = kind == KIND_F64;
    const uint32_t add = wide ? IOP_f64_add_ss : IOP_f32_add_ss, sub = wide ? IOP_f64_sub_ss : IOP_f32_sub_ss;
    const uint32_t mul = wide ? IOP_f64_mul_ss : IOP_f32_mul_ss;
    if ((iop != add && iop != sub) || a.where == IN_CONST || b.where == IN_CONST) return false;
    const bool first = made_by_last(t, a);
    if (!(first || made_by_last(t, b)) || !is_shape(t->last_op, mul, SHAPE_SS, SHAPE_AS)) return false;
    const uint32_t add_mul = wide ? IOP_f64_add_mul_s : IOP_f32_add_mul_s, members = 4;
    uint32_t op = iop == add ? add_mul : first ? add_mul + 2 * members : add_mul + members;
    if (t->last_op == mul + 2 * SHAPE_AS) op += 2 * UNARY_A;
    const word o = t->code[t->last + 1];
    take_back_last(t);
    push_result(t, emit4(t, op, 0, first ? b.slot : a.slot, o.s[1], o.s[2], 1), op, kind);
    return true;
}

/* An operation with a constant on what the latest instruction made: rotations of sums and xors, bit fields. */
static bool of_result(struct translator *t, uint32_t iop, struct entry a, struct entry b, uint8_t kind) {
    if (!immediate(b) || !made_by_last(t, a) || a.plus) return false;
    const bool wide = kind == KIND_I64;
    const word o = t->code[t->last + 1];
    const uint32_t bits = wide ? 63 : 31, last = t->last_op;
    if (iop == (wide ? IOP_i64_rotl_ss : IOP_i32_rotl_ss)) {
        const uint32_t add_op = wide ? IOP_i64_add_ss : IOP_i32_add_ss, xor_op = wide ? IOP_i64_xor_ss : IOP_i32_xor_ss;
        const bool sum = is_shape(last, add_op, SHAPE_SS, SHAPE_AS);
        if (!sum && !is_shape(last, xor_op, SHAPE_SS, SHAPE_AS)) return false;
        uint32_t op = wide ? (sum ? IOP_i64_add_rotl_ss : IOP_i64_xor_rotl_ss)
                           : (sum ? IOP_i32_add_rotl_ss : IOP_i32_xor_rotl_ss);
        if (last == (sum ? add_op : xor_op) + 2 * SHAPE_AS) op += 2 * UNARY_A;
        take_back_last(t);
        push_result(t, emit4(t, op, 0, o.s[1], o.s[2], (uint32_t)b.bits & bits, 1), op, kind);
        return true;
    }
    const uint32_t mask_op = wide ? IOP_i64_and_ss : IOP_i32_and_ss, shl_op = wide ? IOP_i64_shl_ss : IOP_i32_shl_ss;
    const uint32_t shr_op = wide ? IOP_i64_shr_u_ss : IOP_i32_shr_u_ss;
    const bool field = iop == mask_op && is_shape(last, shr_op, SHAPE_SI, SHAPE_AI);
    if (!field && !(iop == shl_op && is_shape(last, mask_op, SHAPE_SI, SHAPE_AI))) return false;
    uint32_t op =
        wide ? (field ? IOP_i64_shr_u_and_s : IOP_i64_and_shl_s) : (field ? IOP_i32_shr_u_and_s : IOP_i32_and_shl_s);
    if (last == (field ? shr_op : mask_op) + 2 * SHAPE_AI) op += 2 * UNARY_A;
    take_back_last(t);
    const uint64_t imm = (uint64_t)(int64_t)o.i[1];
    const uint32_t at = emit4(t, op, 0, o.s[1], (uint32_t)(field ? imm : b.bits) & bits, 0, 2);
    t->code[at + 2].u64 = field ? b.bits : imm;
    push_result(t, at, op, kind);
    return true;
}

static void binary(struct translator *t, const struct numeric_op *n, uint8_t kind) {
    struct entry b = pop(t), a = pop(t);
    uint32_t iop = n->iop;
    bool commutative = n->family == COMMUTATIVE;
    if ((iop == IOP_i32_rotr_ss || iop == IOP_i64_rotr_ss) && immediate(b)) {
        b.bits = -b.bits & (kind == KIND_I64 ? 63 : 31);
        iop = iop == IOP_i32_rotr_ss ? IOP_i32_rotl_ss : IOP_i64_rotl_ss;
    }
    if ((iop == IOP_i32_sub_ss || iop == IOP_i64_sub_ss) && immediate(b) && (int32_t)b.bits != INT32_MIN) {
        b.bits = -b.bits; /* adding is commutative, and joins other instructions more often */
        iop = iop == IOP_i32_sub_ss ? IOP_i32_add_ss : IOP_i64_add_ss;
        commutative = true;
    }
    if (iop == IOP_i32_add_ss && immediate(a)) {
        const struct entry swap = a;
        a = b;
        b = swap;
    }
    if (iop == IOP_i32_add_ss && immediate(b) && (a.where == IN_LOCAL || (a.where == IN_HOME && a.home == t->height))) {
        /* Computed by whoever needs it: memory accesses do it themselves. */
        a.home = (uint16_t)t->height;
        a.plus += (uint32_t)b.bits;
        push_entry(t, a);
        return;
    }
    uint32_t plus = 0; /* of sums of sums the same */
    if (iop == IOP_i32_add_ss || iop == IOP_i32_sub_ss) {
        plus = iop == IOP_i32_add_ss ? a.plus + b.plus : a.plus - b.plus;
        a.plus = b.plus = 0;
    }
    if (!with_wide(t, iop, a, b, kind) && !with_shifted(t, iop, a, b, kind) && !with_product(t, iop, a, b, kind) &&
        !of_result(t, iop, a, b, kind)) {
        struct operands o = choose(t, a, b, commutative);
        push_binary(t, iop + 2u * o.shape, o, kind, kind);
    }
    if (plus) t->stack[t->depth - 1].plus = plus;
}

enum { CMP_MEMBERS = 8, FCMP_MEMBERS = 4 }; /* shapes and twins of one comparison */
/* b ? a for a ? b, by place in the family. */
// clang-format off
static const uint8_t swapped_cmp[] = {0, 1, 6, 7, 8, 9, 2, 3, 4, 5, 10, 11};
static const uint8_t swapped_fcmp[] = {0, 1, 4, 5, 2, 3, 8, 9, 6, 7};
// clang-format on

static void compare_entries(struct translator *t, uint32_t iop, struct entry a, struct entry b) {
    const uint32_t first = iop < IOP_i64_eq_ss ? IOP_i32_eq_ss : IOP_i64_eq_ss;
    uint32_t which = (iop - first) / CMP_MEMBERS;
    struct operands o = choose(t, a, b, false);
    if (o.shape == SHAPE_SA || o.shape == SHAPE_IS || o.shape == SHAPE_IA) {
        which = swapped_cmp[which];
        o.a = o.b;
        if (o.shape == SHAPE_SA) o.b = a.slot;
        o.shape = o.shape == SHAPE_SA ? SHAPE_AS : o.shape == SHAPE_IS ? SHAPE_SI : SHAPE_AI;
    }
    push_binary(t, first + which * CMP_MEMBERS + 2u * o.shape, o, a.kind, KIND_I32);
}

static void compare_floats(struct translator *t, uint32_t iop) {
    const uint32_t first = iop < IOP_f64_eq_ss ? IOP_f32_eq_ss : IOP_f64_eq_ss;
    uint32_t which = (iop - first) / FCMP_MEMBERS;
    struct entry b = operand(t, pop(t)), a = operand(t, pop(t));
    if (in_accumulator(t, b) && !in_accumulator(t, a)) {
        struct entry swap = a;
        a = b;
        b = swap;
        which = swapped_fcmp[which];
    }
    const uint32_t shape = in_accumulator(t, a) ? FCMP_AS : FCMP_SS;
    if (shape == FCMP_AS) take_accumulator(t, a);
    const uint32_t op = first + which * FCMP_MEMBERS + 2 * shape;
    push_result(t, emit4(t, op, 0, a.slot, b.slot, 0, 1), op, KIND_I32);
}

/* Is the topmost entry what the latest instruction left, for nobody else? Then that instruction may be changed. */
static bool top_is_last(const struct translator *t) {
    return t->depth && t->result_at != NO_WORD && t->result_at == t->last && t->stack[t->depth - 1].where == IN_HOME &&
           !t->stack[t->depth - 1].plus && t->code[t->last + 1].s[0] == t->stack[t->depth - 1].home &&
           (interp_flags[t->last_op] & OPF_TWIN);
}
static bool is_compare(uint32_t op) {
    return op >= IOP_i32_eq_ss && op < IOP_f32_eq_ss;
}
static bool is_fcompare(uint32_t op) {
    return op >= IOP_f32_eq_ss && op <= IOP_f64_nge_as_n;
}
/* (A wrapped i64.and is on the stack as i32, but its instruction looks at 64 bits.) */
static bool top_is_and(const struct translator *t) {
    if (!top_is_last(t)) return false;
    const bool wide = t->stack[t->depth - 1].kind == KIND_I64;
    return wide ? t->last_op >= IOP_i64_and_ss && t->last_op <= IOP_i64_and_ai
                : t->last_op >= IOP_i32_and_ss && t->last_op <= IOP_i32_and_ai;
}
static uint32_t test_of_and(uint32_t op, bool when) {
    return op < IOP_i64_and_ss ? op - IOP_i32_and_ss + (when ? IOP_i32_tst_ss : IOP_i32_ntst_ss)
                               : op - IOP_i64_and_ss + (when ? IOP_i64_tst_ss : IOP_i64_ntst_ss);
}

static void opposite_of_last(struct translator *t) {
    const bool ints = is_compare(t->last_op);
    const uint32_t first = ints ? IOP_i32_eq_ss : IOP_f32_eq_ss, members = ints ? CMP_MEMBERS : FCMP_MEMBERS;
    const uint32_t which = (t->last_op - first) / members, member = (t->last_op - first) % members;
    replace_last(t, first + (which ^ 1) * members + member);
}

/* eqz of a comparison is the opposite comparison; of an `and`, a test. */
static void eqz(struct translator *t, uint32_t iop) {
    if (top_is_last(t)) {
        if (iop == IOP_i32_eq_ss && (is_compare(t->last_op) || is_fcompare(t->last_op))) {
            opposite_of_last(t);
            return;
        }
        if (top_is_and(t)) {
            replace_last(t, test_of_and(t->last_op, false));
            t->stack[t->depth - 1].kind = KIND_I32;
            return;
        }
    }
    struct entry a = pop(t), zero = {.where = IN_CONST, .kind = a.kind};
    zero.home = (uint16_t)(a.home + 1);
    compare_entries(t, iop, operand(t, a), zero);
}

/* The comparison that was the latest instruction has been taken back; it compared `o.s[1]`, then in the accumulator,
 * with an immediate or a slot. If the instruction before has just computed that, it joins the branch. 0: it does not.
 */
static uint32_t join_branch(struct translator *t, uint32_t which, uint32_t shape, word o, bool loop) {
    if (t->last == NO_WORD || (shape != SHAPE_AI && shape != SHAPE_AS)) return 0;
    const uint32_t before = t->last_op, offset = t->recording ? t->map[t->last] : 0;
    const word w = t->code[t->last + 1];
    const bool imm = shape == SHAPE_AI;
    const uint16_t b = imm ? (uint16_t)o.i[1] : o.s[2];
    if (w.s[0] != o.s[1]) return 0;
    uint32_t op = 0;
    if (before == IOP_i32_add_si && which < 10) {
        op = IOP_add_br_i32_eq_s + which * 4 + imm + (loop ? ADD_BR_LOOP : 0);
    } else if ((before == IOP_i32_add_si_n || before == IOP_i32_add_ai_n) && imm && !loop) {
        const uint32_t ranges[] = {[4] = IOP_range_br_i32_lt_u_s,
                                   [5] = IOP_range_br_i32_ge_u_s,
                                   [8] = IOP_range_br_i32_gt_u_s,
                                   [9] = IOP_range_br_i32_le_u_s,
                                   [11] = 0};
        op = ranges[which];
        if (op && before == IOP_i32_add_ai_n) op++;
    } else if (imm && (which < 2 || which >= 10)) {
        const uint32_t n = before == IOP_i32_load_s_n || before == IOP_i32_load8_u_s_n;
        const uint32_t cond = which < 2 ? which : which - 8; /* eq ne tst ntst */
        if (before - n == IOP_i32_load_s) op = IOP_i32_load_br_eq_s + cond * 4 + n + (loop ? LOAD_BR_LOOP : 0);
        if (before - n == IOP_i32_load8_u_s) op = IOP_i32_load8_u_br_eq_s + cond * 4 + n + (loop ? LOAD_BR_LOOP : 0);
        if (op) {
            take_back_last(t);
            const uint32_t at = emit4(t, op, 0, 0, 0, 0, 2);
            t->code[at + 1] = w;
            t->code[at + 2].s[1] = b;
            if (t->recording) t->map[at] = offset; /* it is the load that may trap */
            return at + 2;
        }
    }
    if (!op) return 0;
    take_back_last(t);
    const uint32_t at = emit4(t, op, 0, 0, 0, 0, 2);
    t->code[at + 1] = w;
    t->code[at + 2].s[0] = b;
    return at + 2;
}

uint32_t emit_branch_if(struct translator *t, bool when, bool loop) {
    if (top_is_and(t)) replace_last(t, test_of_and(t->last_op, true));
    const bool ints = is_compare(t->last_op);
    if (top_is_last(t) && (ints || is_fcompare(t->last_op))) {
        const word o = t->code[t->last + 1];
        const uint32_t first = ints ? IOP_i32_eq_ss : IOP_f32_eq_ss, members = ints ? CMP_MEMBERS : FCMP_MEMBERS;
        const uint32_t which = ((t->last_op - first) / members) ^ !when, shape = (t->last_op - first) % members / 2;
        const bool imm = ints && (shape == SHAPE_SI || shape == SHAPE_AI);
        if (!imm || o.i[1] == (int16_t)o.i[1]) {
            pop(t);
            take_back_last(t);
            const uint32_t joined = ints && which < 12 ? join_branch(t, which, shape, o, loop) : 0;
            if (joined) return joined;
            const uint32_t op = ints ? IOP_br_i32_eq_ss + which * 8 + shape + (loop ? BR_LOOP : 0)
                                     : IOP_br_f32_eq_ss + which * 4 + shape + (loop ? FBR_LOOP : 0);
            return emit4(t, op, o.s[1], imm ? (uint16_t)o.i[1] : o.s[2], 0, 0, 1) + 1;
        }
    }
    struct entry c = operand(t, pop(t));
    uint32_t shape = SHAPE_SI;
    if (in_accumulator(t, c)) {
        shape = SHAPE_AI;
        take_accumulator(t, c);
        const uint32_t joined = join_branch(t, when, SHAPE_AI, (word){.s = {0, c.slot}}, loop);
        if (joined) return joined;
    }
    const uint32_t first = when ? IOP_br_i32_ne_ss : IOP_br_i32_eq_ss;
    return emit4(t, first + shape + (loop ? BR_LOOP : 0), c.slot, 0, 0, 0, 1) + 1;
}

static void unary(struct translator *t, const struct numeric_op *n, uint8_t kind) {
    struct entry a = operand(t, pop(t));
    const uint32_t op = n->iop + 2u * (in_accumulator(t, a) ? UNARY_A : UNARY_S);
    if (op != n->iop) take_accumulator(t, a);
    push_result(t, emit4(t, op, 0, a.slot, 0, 0, 1), op, kind);
}

/* ---- Memory ---- */

struct memarg read_memarg(struct translator *t) {
    const uint32_t align = leb_u32(&t->p);
    const uint32_t index = align & 0x40 ? leb_u32(&t->p) : 0;
    struct memarg m = {.memory = t->instance->memories[index]};
    m.offset = leb_u64(&t->p);
    m.is64 = t->module->memories[index].is64;
    m.least = t->module->memories[index].min << PAGE_SIZE_LOG2;
    m.near_ = m.memory == t->instance->memory0 && !m.is64;
    return m;
}

/* A constant address inside of the memory's declared minimum: memories never shrink, so no check is needed. What it has
 * now would be more, but a function translated again, for a backtrace, must give the same code. */
static bool fixed_address(const struct memarg *m, struct entry address, uint32_t size, uint32_t *at) {
    if (address.where != IN_CONST || !m->near_) return false;
    const uint64_t ea = (uint64_t)(uint32_t)address.bits + m->offset;
    if (ea > UINT32_MAX || ea + size > m->least) return false;
    *at = (uint32_t)ea;
    return true;
}

/* An address that the latest instruction has added up is added up by the load instead. */
static bool load_from_sum(struct translator *t, const struct numeric_op *n, const struct memarg *m,
                          struct entry address, uint8_t kind) {
    static const struct {
        uint16_t op, mode;
    } modes[] = {{IOP_i32_add_ss, LOAD_SS},     {IOP_i32_add_as, LOAD_AS}, {IOP_i32_add_shl_s, LOAD_SLS},
                 {IOP_i32_add_shl_a, LOAD_SLA}, {IOP_i32_shl_si, LOAD_LS}, {IOP_i32_shl_ai, LOAD_LA}};
    if (!made_by_last(t, address)) return false;
    for (unsigned i = 0; i < sizeof modes / sizeof *modes; i++) {
        if (modes[i].op != t->last_op) continue;
        const uint32_t mode = modes[i].mode, op = n->iop + 2 * mode;
        word o = t->code[t->last + 1];
        if (mode == LOAD_LS || mode == LOAD_LA) o = (word){.s = {0, 0, o.s[1], o.u[1] & 31}};
        if (mode == LOAD_AS) o.s[1] = o.s[2];
        take_back_last(t);
        const uint32_t at = emit4(t, op, 0, o.s[1], o.s[2], o.s[3], 2);
        t->code[at + 2] = (word){.u = {address.plus, (uint32_t)m->offset}};
        push_result(t, at, op, kind);
        return true;
    }
    return false;
}

static void load(struct translator *t, const struct numeric_op *n, uint8_t kind) {
    const struct memarg m = read_memarg(t);
    struct entry address = pop(t);
    if (m.near_ && load_from_sum(t, n, &m, address, kind)) return;
    uint32_t at, fixed;
    uint32_t op = n->iop;
    if (!m.near_) {
        op += 2 * LOAD_FAR;
        at = emit4(t, op, 0, to_slot(t, address), m.is64, 0, 3);
        t->code[at + 2].memory = m.memory;
        t->code[at + 3].u64 = m.offset;
    } else if (fixed_address(&m, address, n->size, &fixed)) {
        op += 2 * LOAD_K;
        at = emit_imm(t, op, 0, 0, (int32_t)fixed, 1);
    } else {
        const uint32_t plus = address.plus;
        address.plus = 0;
        address = operand(t, address);
        if (plus) op += 2 * LOAD_SP;
        if (in_accumulator(t, address)) {
            op += 2 * LOAD_A;
            take_accumulator(t, address);
        }
        at = emit_imm(t, op, 0, address.slot, (int32_t)(uint32_t)m.offset, plus ? 2 : 1);
        if (plus) t->code[at + 2].u64 = plus;
    }
    push_result(t, at, op, kind);
}

static void store_far(struct translator *t, const struct numeric_op *n, const struct memarg *m) {
    uint16_t value = pop_slot(t), address = pop_slot(t);
    uint32_t at = emit4(t, n->iop + STORE_FAR, value, address, m->is64, 0, 3);
    t->code[at + 2].memory = m->memory;
    t->code[at + 3].u64 = m->offset;
}

/* What the latest instruction has loaded from the same place, and a constant more? */
static bool store_sum(struct translator *t, const struct memarg *m, struct entry address, struct entry value) {
    if (!value.plus || address.where != IN_LOCAL || address.plus || !made_by_last(t, value) ||
        t->last_op != IOP_i32_load_s)
        return false;
    const word o = t->code[t->last + 1];
    if (o.s[1] != address.slot || o.u[1] != (uint32_t)m->offset) return false;
    const uint32_t offset = t->recording ? t->map[t->last] : 0;
    take_back_last(t);
    const uint32_t at = emit_imm(t, IOP_i32_mem_add, 0, o.s[1], o.i[1], 2);
    t->code[at + 2].u64 = value.plus;
    if (t->recording) t->map[at] = offset; /* the load comes first */
    return true;
}

static void store(struct translator *t, const struct numeric_op *n) {
    const struct memarg m = read_memarg(t);
    if (!m.near_) {
        store_far(t, n, &m);
        return;
    }
    struct entry value = pop(t), address = pop(t);
    if (n->iop == IOP_store32_ss && store_sum(t, &m, address, value)) return;
    uint32_t imm = (uint32_t)m.offset;
    const bool fixed = fixed_address(&m, address, n->size, &imm), constant = value.where == IN_CONST;
    const uint32_t plus = address.plus;
    address.plus = 0;
    if (!constant) value = operand(t, value);
    if (!fixed) address = operand(t, address);
    const bool value_acc = in_accumulator(t, value), address_acc = !fixed && !plus && in_accumulator(t, address);
    uint32_t shape;
    if (constant)
        shape = fixed ? STORE_KI : plus ? STORE_PI : address_acc ? STORE_AI : STORE_SI;
    else if (value_acc)
        shape = fixed ? STORE_KA : plus ? STORE_PA : STORE_SA;
    else
        shape = fixed ? STORE_KS : plus ? STORE_PS : address_acc ? STORE_AS : STORE_SS;
    if (shape == STORE_AI || shape == STORE_AS) take_accumulator(t, address);
    if (shape == STORE_SA || shape == STORE_KA || shape == STORE_PA) take_accumulator(t, value);
    uint32_t op = n->iop + shape;
    const uint32_t floats = value.kind == KIND_F32 ? IOP_f32_store_sa : value.kind == KIND_F64 ? IOP_f64_store_sa : 0;
    if (floats && value_acc && !constant) op = floats + (shape == STORE_KA ? 1 : shape == STORE_PA ? 2 : 0);
    const uint32_t at = emit_imm(t, op, address.slot, value.slot, (int32_t)imm, 1 + (plus != 0) + constant);
    if (plus) t->code[at + 2].u64 = plus;
    if (constant) t->code[at + 2 + (plus != 0)].u64 = value.bits;
}

/* Instructions of ops_bulk.c: operands in slots, which of them are 64 bits wide in s[3]; with or without a result,
 * which then is operand 0. */
static uint32_t bulk(struct translator *t, uint32_t op, unsigned operands, bool result, uint8_t kind, unsigned wide,
                     uint32_t words) {
    uint16_t s[3] = {0};
    for (unsigned i = operands; i > 0; i--)
        s[i - 1 + result] = pop_slot(t);
    uint32_t at = emit4(t, op, s[0], s[1], s[2], wide, words);
    if (result) push_result(t, at, op, kind);
    return at;
}

static void memory_op(struct translator *t, uint32_t op) {
    const struct module *m = t->module;
    uint32_t segment = op == OP_MEMORY_INIT ? leb_u32(&t->p) : 0;
    const uint32_t to = leb_u32(&t->p), from = op == OP_MEMORY_COPY ? leb_u32(&t->p) : 0;
    const unsigned wide = m->memories[to].is64, wide2 = m->memories[from].is64;
    const uint8_t kind = wide ? KIND_I64 : KIND_I32;
    uint32_t at;
    switch (op) {
    case OP_MEMORY_SIZE: at = bulk(t, IOP_memory_size, 0, true, kind, 0, 2); break;
    case OP_MEMORY_GROW:
        at = bulk(t, IOP_memory_grow, 1, true, kind, wide << 1, 3);
        t->code[at + 3].u64 = t->instance->memories[to] == t->instance->memory0;
        break;
    case OP_MEMORY_FILL: at = bulk(t, IOP_memory_fill, 3, false, 0, wide | wide << 2, 2); break;
    case OP_MEMORY_COPY:
        at = bulk(t, IOP_memory_copy, 3, false, 0, wide | wide2 << 1 | (wide & wide2) << 2, 3);
        t->code[at + 3].memory = t->instance->memories[from];
        break;
    default:
        at = bulk(t, IOP_memory_init, 3, false, 0, wide, 4);
        t->code[at + 3].instance = t->instance;
        t->code[at + 4].u[0] = segment;
    }
    t->code[at + 2].memory = t->instance->memories[to];
}

/* ---- Tables ---- */

static void table_op(struct translator *t, uint32_t op) {
    const struct module *m = t->module;
    uint32_t segment = op == OP_TABLE_INIT ? leb_u32(&t->p) : 0;
    const uint32_t to = leb_u32(&t->p), from = op == OP_TABLE_COPY ? leb_u32(&t->p) : 0;
    const unsigned wide = m->tables[to].type.limits.is64, wide2 = m->tables[from].type.limits.is64;
    const uint8_t kind = wide ? KIND_I64 : KIND_I32;
    uint32_t at;
    switch (op) {
    case OP_TABLE_GET: at = bulk(t, IOP_table_get, 1, true, KIND_REF, wide << 1, 2); break;
    case OP_TABLE_SET: at = bulk(t, IOP_table_set, 2, false, 0, wide, 2); break;
    case OP_TABLE_SIZE: at = bulk(t, IOP_table_size, 0, true, kind, 0, 2); break;
    case OP_TABLE_GROW: at = bulk(t, IOP_table_grow, 2, true, kind, wide << 2, 2); break;
    case OP_TABLE_FILL: at = bulk(t, IOP_table_fill, 3, false, 0, wide | wide << 2, 2); break;
    case OP_TABLE_COPY:
        at = bulk(t, IOP_table_copy, 3, false, 0, wide | wide2 << 1 | (wide & wide2) << 2, 3);
        t->code[at + 3].table = t->instance->tables[from];
        break;
    default:
        at = bulk(t, IOP_table_init, 3, false, 0, wide, 4);
        t->code[at + 3].instance = t->instance;
        t->code[at + 4].u[0] = segment;
    }
    t->code[at + 2].table = t->instance->tables[to];
}

static void drop_segment(struct translator *t, uint32_t op) {
    uint32_t at = emit(t, op, 2);
    t->code[at + 1].u[0] = leb_u32(&t->p);
    t->code[at + 2].instance = t->instance;
}

/* ---- Variables ---- */

static void set_local(struct translator *t, uint32_t index, bool tee) {
    const struct local l = t->locals[index];
    if (t->depth == 0) return;
    struct entry e = t->stack[t->depth - 1];
    const bool itself = e.where == IN_LOCAL && e.slot == l.slot && !e.plus;
    local_assigned(t, index);
    if (itself) {
        if (!tee) pop(t);
        return;
    }
    const uint32_t at = t->result_at;
    pop(t);
    settle_refs_to(t, l.slot);
    if (e.where == IN_HOME && !e.plus && at != NO_WORD && at == t->last && t->code[at + 1].s[0] == e.home) {
        /* The latest instruction made it: let it write to the local. */
        struct accumulator *a = accumulator_of(t, e.kind);
        const bool made = a && a->at == at && a->slot == e.home;
        t->code[at + 1].s[0] = l.slot;
        overwritten(t, l.slot);
        if (e.kind == KIND_V128) overwritten(t, l.slot + 1u);
        if (made) *a = (struct accumulator){l.slot, at, IOP_COUNT};
        t->result_at = NO_WORD;
        if (tee) push_local(t, index);
        return;
    }
    const bool sum = e.plus, moved_from_acc = !sum && e.where == IN_HOME && in_accumulator(t, e) &&
                                              accumulator_of(t, e.kind) == &t->acc;
    if (moved_from_acc) take_accumulator(t, e);
    move_to(t, e, l.slot);
    if (moved_from_acc)
        t->acc.slot = l.slot;
    else if (tee && !sum && in_accumulator(t, e))
        pin(t); /* the copy has read e's slot: it must go on being written */
    if (tee && (sum || moved_from_acc))
        push_local(t, index);
    else if (tee)
        push_entry(t, e);
}

static void get_global(struct translator *t, uint32_t index) {
    static const uint16_t ops[] = {
        [KIND_F32] = IOP_f32_global_get, [KIND_F64] = IOP_f64_global_get, [KIND_V128] = IOP_v128_global_get};
    const struct global *g = t->instance->globals[index];
    const uint8_t kind = (uint8_t)vt_kind(g->type.type);
    if (!g->type.mutable_ && kind != KIND_V128) {
        const bool narrow = kind == KIND_I32 || kind == KIND_F32;
        push_const(t, kind, narrow ? (uint64_t)(int32_t)g->value[0].i32 : g->value[0].i64);
        return;
    }
    const uint32_t op = kind == KIND_F32 || kind == KIND_F64 || kind == KIND_V128 ? ops[kind] : IOP_global_get;
    uint32_t at = emit(t, op, 2);
    t->code[at + 2].p = g->value;
    push_result(t, at, op, kind);
}

static void set_global(struct translator *t, uint32_t index) {
    struct entry e = pop(t);
    const bool ints = e.kind != KIND_F32 && e.kind != KIND_F64 && e.kind != KIND_V128;
    uint32_t op = e.kind == KIND_F32    ? IOP_f32_global_set_s
                  : e.kind == KIND_V128 ? IOP_v128_global_set_s
                                        : IOP_global_set_s;
    if (ints)
        e = operand(t, e);
    else
        to_slot(t, e);
    if (ints && in_accumulator(t, e)) {
        op = IOP_global_set_a;
        take_accumulator(t, e);
    }
    uint32_t at = emit4(t, op, e.where == IN_CONST ? e.home : e.slot, 0, 0, 0, 2);
    t->code[at + 2].p = t->instance->globals[index]->value;
}

/* ---- Parametric, references ---- */

static void select(struct translator *t) {
    struct entry c = pop(t), b = pop(t), a = pop(t);
    const uint16_t a_slot = to_slot(t, a), b_slot = to_slot(t, b);
    static const uint16_t ops[] = {
        [KIND_F32] = IOP_f32_select_s, [KIND_F64] = IOP_f64_select_s, [KIND_V128] = IOP_v128_select_s};
    uint32_t op = a.kind == KIND_F32 || a.kind == KIND_F64 || a.kind == KIND_V128 ? ops[a.kind] : IOP_select_s;
    if (c.where != IN_CONST) c = operand(t, c);
    const uint16_t c_slot = to_slot(t, c);
    if (in_accumulator(t, c) && a.kind != KIND_V128) {
        op += 2 * UNARY_A;
        take_accumulator(t, c);
    }
    push_result(t, emit4(t, op, 0, a_slot, b_slot, c_slot, 1), op, a.kind);
}

static void ref_as_non_null(struct translator *t) {
    struct entry e = pop(t);
    const uint16_t slot = to_slot(t, e);
    uint32_t op = IOP_ref_as_non_null_s;
    if (in_accumulator(t, e)) {
        op = IOP_ref_as_non_null_a;
        take_accumulator(t, e);
    }
    push_result(t, emit4(t, op, 0, slot, 0, 0, 1), op, e.kind);
}

/* i32.wrap_i64 costs nothing: who reads an i32 reads the low half of a slot. */
static void wrap(struct translator *t) {
    const uint32_t at = t->result_at;
    struct entry e = pop(t);
    e.kind = KIND_I32;
    if (e.where == IN_CONST) e.bits = (uint64_t)(int32_t)e.bits;
    push_entry(t, e);
    t->result_at = at;
}

static uint64_t read_fixed(struct translator *t, unsigned bytes) {
    uint64_t v = 0;
    memcpy(&v, t->p, bytes);
    t->p += bytes;
    return v;
}

static void numeric(struct translator *t, uint32_t op) {
    const struct numeric_op *n = &numeric_ops[op];
    const uint32_t sig = opcode_table[op].sig;
    const uint8_t result = (uint8_t)sig_result(sig);
    switch (n->family) {
    case COMMUTATIVE:
    case BINARY: binary(t, n, result); break;
    case COMPARE: {
        struct entry b = pop(t), a = pop(t);
        compare_entries(t, n->iop, a, b);
        break;
    }
    case FCOMPARE: compare_floats(t, n->iop); break;
    case UNARY: unary(t, n, result); break;
    case LOAD: load(t, n, result); break;
    case STORE: store(t, n); break;
    default: fail(t, TRAP_HOST, "an instruction that the interpreter does not know");
    }
}

void translate_plain(struct translator *t, uint32_t op) {
    switch (op) {
    case OP_NOP: break;
    case OP_DROP: pop(t); break;
    case OP_SELECT_T:
        for (uint32_t n = leb_u32(&t->p); n; n--)
            module_read_valtype(t->module, &t->p);
        select(t);
        break;
    case OP_SELECT: select(t); break;
    case OP_LOCAL_GET: push_local(t, leb_u32(&t->p)); break;
    case OP_LOCAL_SET: set_local(t, leb_u32(&t->p), false); break;
    case OP_LOCAL_TEE: set_local(t, leb_u32(&t->p), true); break;
    case OP_GLOBAL_GET: get_global(t, leb_u32(&t->p)); break;
    case OP_GLOBAL_SET: set_global(t, leb_u32(&t->p)); break;
    case OP_I32_CONST: push_const(t, KIND_I32, (uint64_t)(int64_t)leb_s32(&t->p)); break;
    case OP_I64_CONST: push_const(t, KIND_I64, (uint64_t)leb_s64(&t->p)); break;
    case OP_F32_CONST: push_const(t, KIND_F32, (uint64_t)(int32_t)read_fixed(t, 4)); break;
    case OP_F64_CONST: push_const(t, KIND_F64, read_fixed(t, 8)); break;
    case OP_I32_EQZ: eqz(t, IOP_i32_eq_ss); break;
    case OP_I64_EQZ:
    case OP_REF_IS_NULL: eqz(t, IOP_i64_eq_ss); break;
    case OP_I32_WRAP_I64: wrap(t); break;
    case OP_REF_NULL:
        leb_s64(&t->p);
        push_const(t, KIND_REF, 0);
        break;
    case OP_REF_FUNC: push_const(t, KIND_REF, (uint64_t)(uintptr_t)t->instance->funcs[leb_u32(&t->p)]); break;
    case OP_REF_AS_NON_NULL: ref_as_non_null(t); break;
    case OP_MEMORY_SIZE:
    case OP_MEMORY_GROW:
    case OP_MEMORY_FILL:
    case OP_MEMORY_COPY:
    case OP_MEMORY_INIT: memory_op(t, op); break;
    case OP_DATA_DROP: drop_segment(t, IOP_data_drop); break;
    case OP_TABLE_GET:
    case OP_TABLE_SET:
    case OP_TABLE_SIZE:
    case OP_TABLE_GROW:
    case OP_TABLE_FILL:
    case OP_TABLE_COPY:
    case OP_TABLE_INIT: table_op(t, op); break;
    case OP_ELEM_DROP: drop_segment(t, IOP_elem_drop); break;
    default:
        if (op >= OP_BASE_FD)
            translate_simd(t, op);
        else if (opcode_is_gc(op))
            translate_gc(t, op);
        else
            numeric(t, op);
    }
}
