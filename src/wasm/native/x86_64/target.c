/* x86-64: registers, calling convention, and what each instruction wants of the allocator. Needs the x86-64-v3 level
 * (AVX2, BMI, LZCNT, FMA not used); older CPUs run the interpreter. */
#include "x86_64.h"

#include <cpuid.h>

const regset target_general = 1u << RAX | 1u << RCX | 1u << RDX | 1u << RBX | 1u << RBP | 1u << RSI | 1u << RDI |
                              1u << R8 | 1u << R9 | 1u << R10 | 1u << R12 | 1u << R13;
const regset target_vector = 0x3fffu << REG_VECTOR; /* xmm14 and xmm15 are scratch */
static const uint8_t places[8] = {RAX, RCX, RDX, RBX, RSI, RDI, R8, R9};
const regset target_results =
    1u << RAX | 1u << RCX | 1u << RDX | 1u << RBX | 1u << RSI | 1u << RDI | 1u << R8 | 1u << R9 | 0xffu << REG_VECTOR;

uint8_t target_next_place(struct convention *c, uint8_t type, uint32_t *slot) {
    if (type_is_vector(type) && c->vector < 8) return (uint8_t)(REG_VECTOR + c->vector++);
    if (!type_is_vector(type) && c->general < 8) return places[c->general++];
    *slot = c->overflow;
    c->overflow += type == KIND_V128 ? 2 : 1;
    return REG_NONE;
}

/* --- operand forms -------------------------------------------------------------------------------------------------
 */

bool x86_imm(const struct fn *f, ref v, bool wide, int32_t *imm) {
    const struct ins *i = &f->ins.v[v];
    if (i->op != IR_CONST || type_is_vector(i->type)) return false;
    *imm = (int32_t)(uint32_t)i->imm;
    return !wide || (int64_t)i->imm == *imm;
}

bool x86_is_int_compare(uint16_t op) {
    return (op >= OP_I32_EQ && op <= OP_I32_GE_U) || (op >= OP_I64_EQ && op <= OP_I64_GE_U);
}
bool x86_is_float_compare(uint16_t op) {
    return op >= OP_F32_EQ && op <= OP_F64_GE;
}

static bool is_shl(const struct fn *f, const struct ins *i, uint16_t shl) {
    int32_t k;
    return i->op == shl && x86_imm(f, i->b, false, &k) && (k & 31) >= 1 && (k & 31) <= 3 &&
           (shl == OP_I32_SHL || (k & 63) <= 3);
}

struct lea x86_lea(const struct fn *f, ref v) {
    struct lea l = {0, 0, 0, 0};
    const struct ins *i = &f->ins.v[v];
    bool wide = i->op == OP_I64_ADD;
    if (x86_imm(f, i->b, wide, &l.disp)) {
        if (!(f->ins.v[i->a].flags & INS_FUSED)) {
            l.base = i->a;
            return l;
        }
        i = &f->ins.v[i->a];
    } else {
        l.disp = 0;
    }
    l.base = i->a;
    l.index = i->b;
    const struct ins *y = &f->ins.v[l.index], *x = &f->ins.v[l.base];
    if (!(y->flags & INS_FUSED) && (x->flags & INS_FUSED)) {
        l.base = i->b;
        l.index = i->a;
        y = x;
    }
    if (y->flags & INS_FUSED) {
        l.scale = (uint8_t)(f->ins.v[y->b].imm & 3);
        l.index = y->a;
    }
    return l;
}

/* --- fusion --------------------------------------------------------------------------------------------------------
 */

static bool only_user(const struct fn *f, const uint32_t *uses, ref v, ref block_first) {
    return uses[v] == 1 && v >= block_first && (f->ins.v[v].flags & INS_LIVE);
}

/* Loads as memory operands. A load moves down to its user, so nothing between may write, trap or call: `barrier` is the
 * latest such instruction of the block. */
static bool foldable_load(const struct fn *f, const uint32_t *uses, ref v, ref first, ref barrier, uint16_t load) {
    const struct ins *i = &f->ins.v[v];
    return i->op == load && v > barrier && only_user(f, uses, v, first) && !x86_checked_access(f, i->aux >> 8) &&
           i->imm <= INT32_MAX;
}

bool x86_fused_load(const struct fn *f, ref v) {
    const struct ins *i = &f->ins.v[v];
    return (i->flags & INS_FUSED) && i->op >= OP_I32_LOAD && i->op <= OP_I64_LOAD32_U;
}

static bool is_barrier(uint16_t op) {
    if (ir_is_pure(op) || (op >= OP_I32_LOAD && op <= OP_I64_LOAD32_U)) return false;
    switch (op) {
    case IR_NOP:
    case IR_PARAM:
    case IR_PHI:
    case IR_SLOT_GET:
    case IR_RESULT:
    case IR_PAYLOAD:
    case OP_GLOBAL_GET:
    case OP_MEMORY_SIZE:
    case OP_TABLE_SIZE: return false;
    default: return true;
    }
}

/* x op load: the right operand from memory; where operands may change places, the left one too. */
static void fuse_binary(struct fn *f, const uint32_t *uses, struct ins *i, ref first, ref barrier, uint16_t load,
                        bool commutes) {
    if (f->ins.v[i->b].op == IR_CONST || i->a == i->b) return;
    if (commutes && !foldable_load(f, uses, i->b, first, barrier, load) &&
        foldable_load(f, uses, i->a, first, barrier, load)) {
        ref t = i->a;
        i->a = i->b;
        i->b = t;
    }
    if (foldable_load(f, uses, i->b, first, barrier, load)) f->ins.v[i->b].flags |= INS_FUSED;
}

static bool is_not(const struct fn *f, const struct ins *i) {
    const struct ins *y = &f->ins.v[i->b];
    if (i->op == OP_I32_XOR) return y->op == IR_CONST && (uint32_t)y->imm == UINT32_MAX;
    return i->op == OP_I64_XOR && y->op == IR_CONST && y->imm == UINT64_MAX;
}

/* x - 1, where `other` is x. */
static bool is_minus_one(const struct fn *f, const struct ins *i, ref other) {
    const struct ins *y = &f->ins.v[i->b];
    if (i->a != other || y->op != IR_CONST) return false;
    return i->op == OP_I32_ADD ? (uint32_t)y->imm == UINT32_MAX : i->op == OP_I64_ADD && y->imm == UINT64_MAX;
}

bool x86_special_and(const struct fn *f, const struct ins *i) {
    return (i->op == OP_I32_AND || i->op == OP_I64_AND) && (f->ins.v[i->a].flags & INS_FUSED);
}

static void fuse_and(struct fn *f, const uint32_t *uses, struct ins *i, ref first) {
    if (f->ins.v[i->b].op == IR_CONST) return;
    for (unsigned way = 0; way < 2; way++) {
        const ref a = i->a;
        struct ins *x = &f->ins.v[a];
        if (only_user(f, uses, a, first) && (is_not(f, x) || is_minus_one(f, x, i->b))) {
            x->flags |= INS_FUSED;
            return;
        }
        i->a = i->b;
        i->b = a;
    }
}

static void fuse_loads(struct fn *f, const uint32_t *uses, ref v, ref first, ref barrier) {
    struct ins *i = &f->ins.v[v];
    switch (i->op) {
    case OP_I32_ADD:
    case OP_I64_ADD:
        if ((f->ins.v[i->a].flags | f->ins.v[i->b].flags) & INS_FUSED) return; /* a lea already */
        fuse_binary(f, uses, i, first, barrier, i->op == OP_I32_ADD ? OP_I32_LOAD : OP_I64_LOAD, true);
        return;
    case OP_I32_AND:
    case OP_I64_AND:
        fuse_and(f, uses, i, first);
        if (x86_special_and(f, i)) return;
        fuse_binary(f, uses, i, first, barrier, i->op == OP_I32_AND ? OP_I32_LOAD : OP_I64_LOAD, true);
        return;
    case OP_I32_MUL:
    case OP_I32_OR:
    case OP_I32_XOR: fuse_binary(f, uses, i, first, barrier, OP_I32_LOAD, true); return;
    case OP_I64_MUL:
    case OP_I64_OR:
    case OP_I64_XOR: fuse_binary(f, uses, i, first, barrier, OP_I64_LOAD, true); return;
    case OP_I32_SUB: fuse_binary(f, uses, i, first, barrier, OP_I32_LOAD, false); return;
    case OP_I64_SUB: fuse_binary(f, uses, i, first, barrier, OP_I64_LOAD, false); return;
    case OP_F32_ADD:
    case OP_F32_MUL: fuse_binary(f, uses, i, first, barrier, OP_F32_LOAD, true); return;
    case OP_F32_SUB:
    case OP_F32_DIV: fuse_binary(f, uses, i, first, barrier, OP_F32_LOAD, false); return;
    case OP_F64_ADD:
    case OP_F64_MUL: fuse_binary(f, uses, i, first, barrier, OP_F64_LOAD, true); return;
    case OP_F64_SUB:
    case OP_F64_DIV: fuse_binary(f, uses, i, first, barrier, OP_F64_LOAD, false); return;
    default: return;
    }
}

static void fuse_lea(struct fn *f, const uint32_t *uses, struct ins *i, ref first) {
    uint16_t add = i->op, shl = add == OP_I32_ADD ? OP_I32_SHL : OP_I64_SHL;
    struct ins *x = &f->ins.v[i->a], *y = &f->ins.v[i->b];
    int32_t imm;
    if (y->op == IR_CONST) {
        if (!x86_imm(f, i->b, add == OP_I64_ADD, &imm)) return;
        /* add(add(x, y), constant): one lea, where the inner sum has no constant of its own */
        if (x->op == add && only_user(f, uses, i->a, first) && f->ins.v[x->b].op != IR_CONST &&
            !x86_fused_load(f, x->b))
            x->flags |= INS_FUSED;
        return;
    }
    if (is_shl(f, y, shl) && only_user(f, uses, i->b, first))
        y->flags |= INS_FUSED;
    else if (is_shl(f, x, shl) && only_user(f, uses, i->a, first))
        x->flags |= INS_FUSED;
}

/* Compares of a loaded value with another: cmp with memory on either side. With a constant, or zero: cmp [..], imm. */
static void fuse_compared_load(struct fn *f, const uint32_t *uses, struct ins *i, ref first, ref barrier) {
    bool wide = i->op >= OP_I64_EQZ;
    uint16_t load = wide ? OP_I64_LOAD : OP_I32_LOAD;
    int32_t imm;
    if (i->op == OP_I32_EQZ || i->op == OP_I64_EQZ) {
        uint16_t byte = wide ? OP_I64_LOAD8_U : OP_I32_LOAD8_U;
        if (foldable_load(f, uses, i->a, first, barrier, load) || foldable_load(f, uses, i->a, first, barrier, byte))
            f->ins.v[i->a].flags |= INS_FUSED;
        return;
    }
    if (i->a == i->b) return;
    if (foldable_load(f, uses, i->a, first, barrier, load) &&
        (f->ins.v[i->b].op != IR_CONST || x86_imm(f, i->b, wide, &imm)))
        f->ins.v[i->a].flags |= INS_FUSED;
    else if (foldable_load(f, uses, i->b, first, barrier, load))
        f->ins.v[i->b].flags |= INS_FUSED;
}

/* A condition that only a branch or select looks at is computed there, in the flags. */
static void fuse_condition(struct fn *f, const uint32_t *uses, ref c, ref first, ref barrier) {
    struct ins *i = &f->ins.v[c];
    if (!only_user(f, uses, c, first)) return;
    if (x86_is_int_compare(i->op) || x86_is_float_compare(i->op) || x86_simd_is_test(i->op) || i->op == OP_I32_AND) {
        /* computed where its load may be; a special one is no test */
        if (i->op == OP_I32_AND && (x86_fused_load(f, i->b) || x86_special_and(f, i))) return;
        i->flags |= INS_FUSED;
        if (x86_is_int_compare(i->op)) fuse_compared_load(f, uses, i, first, barrier);
        return;
    }
    if (i->op != OP_I32_EQZ && i->op != OP_I64_EQZ) return;
    i->flags |= INS_FUSED;
    struct ins *x = &f->ins.v[i->a];
    if (x->op == OP_I32_AND || x->op == OP_I64_AND || x86_simd_is_test(x->op)) {
        if (only_user(f, uses, i->a, first) &&
            !(!x86_simd_is_test(x->op) && (x86_fused_load(f, x->b) || x86_special_and(f, x))))
            x->flags |= INS_FUSED;
        return;
    }
    fuse_compared_load(f, uses, i, first, barrier);
}

void target_fuse(struct fn *f, const uint32_t *uses) {
    for (uint32_t b = 0; b < f->blocks.n; b++) {
        ref first = f->blocks.v[b].first, barrier = 0;
        for (ref v = first; v < f->blocks.v[b].end; v++) {
            struct ins *i = &f->ins.v[v];
            if (!(i->flags & INS_LIVE)) continue;
            if (!ir_is_terminator(i->op) && is_barrier(i->op)) barrier = v;
            if (i->op == OP_I32_ADD || i->op == OP_I64_ADD)
                fuse_lea(f, uses, i, first);
            else if (i->op == IR_BRANCH)
                fuse_condition(f, uses, i->a, first, barrier);
            else if (i->op == IR_SELECT)
                fuse_condition(f, uses, i->c, first, barrier);
            else if (i->op >= OP_BASE_FD && i->op < OPCODE_LIMIT)
                x86_simd_fuse(f, uses, v, first);
            fuse_loads(f, uses, v, first, barrier);
        }
    }
}

/* --- operands ------------------------------------------------------------------------------------------------------
 */

static void add_use(struct operands *o, ref v, uint8_t how, uint8_t reg) {
    o->use[o->n].value = v;
    o->use[o->n].how = how;
    o->use[o->n].reg = reg;
    o->n++;
}

/* A fused load stands for its address. */
static void load_use(const struct fn *f, ref v, struct operands *o) {
    int32_t disp;
    if (!x86_constant_address(f, &f->ins.v[v], &disp)) add_use(o, f->ins.v[v].a, USE_REG, 0);
}
static void use_or_load(const struct fn *f, ref v, struct operands *o, uint8_t how) {
    if (x86_fused_load(f, v))
        load_use(f, v, o);
    else
        add_use(o, v, how, 0);
}

static void condition_operands(const struct fn *f, ref c, struct operands *o) {
    const struct ins *i = &f->ins.v[c];
    int32_t imm;
    if (!(i->flags & INS_FUSED)) {
        add_use(o, c, USE_REG, 0);
        return;
    }
    if (i->op == OP_I32_EQZ || i->op == OP_I64_EQZ) {
        if (!(f->ins.v[i->a].flags & INS_FUSED)) {
            add_use(o, i->a, USE_REG, 0);
            return;
        }
        if (x86_fused_load(f, i->a)) {
            load_use(f, i->a, o);
            return;
        }
        i = &f->ins.v[i->a];
    }
    use_or_load(f, i->a, o, USE_REG);
    if (x86_simd_is_test(i->op)) return;
    bool wide = i->op == OP_I64_AND || (i->op >= OP_I64_EQ && i->op <= OP_I64_GE_U);
    if (x86_is_float_compare(i->op)) {
        if (f->ins.v[i->b].op != IR_CONST)
            add_use(o, i->b, x86_float_compare_swaps(i->op) ? USE_REG : USE_ANY, 0);
        else if (x86_float_compare_swaps(i->op))
            add_use(o, i->b, USE_REG, 0);
        return;
    }
    if (!x86_imm(f, i->b, wide, &imm)) use_or_load(f, i->b, o, x86_fused_load(f, i->a) ? USE_REG : USE_ANY);
}

/* ucomis sets the flags for "above" in the right way for gt and ge; lt and le are those with the operands swapped. */
bool x86_float_compare_swaps(uint16_t op) {
    return op == OP_F32_LT || op == OP_F32_LE || op == OP_F64_LT || op == OP_F64_LE;
}

/* Does an access need the checked form? Memory 0 with 32-bit addresses is covered by guard pages. */
bool x86_checked_access(const struct fn *f, uint32_t memory) {
    return f->bounds_checks || memory || f->module->memories[memory].is64;
}

bool x86_constant_address(const struct fn *f, const struct ins *i, int32_t *disp) {
    const struct ins *a = &f->ins.v[i->a];
    uint64_t at = (uint32_t)a->imm + i->imm;
    if (a->op != IR_CONST || x86_checked_access(f, i->aux >> 8) || at > INT32_MAX) return false;
    *disp = (int32_t)at;
    return true;
}

void x86_memory_operands(const struct fn *f, const struct ins *i, struct operands *o) {
    int32_t disp;
    if (!x86_constant_address(f, i, &disp)) add_use(o, i->a, USE_REG, 0);
    o->temp = x86_checked_access(f, i->aux >> 8);
}

static void binary(const struct fn *f, const struct ins *i, struct operands *o, bool wide) {
    int32_t imm;
    if (x86_special_and(f, i)) {
        if (is_not(f, &f->ins.v[i->a])) add_use(o, f->ins.v[i->a].a, USE_REG, 0);
        add_use(o, i->b, USE_ANY, 0);
        o->def = DEF_REG;
        return;
    }
    add_use(o, i->a, USE_REG, 0);
    bool has_imm = x86_imm(f, i->b, wide, &imm);
    if (!has_imm) use_or_load(f, i->b, o, USE_ANY);
    o->def = DEF_TIED;
    o->commutes = !has_imm && !x86_fused_load(f, i->b) && i->op != OP_I32_SUB && i->op != OP_I64_SUB;
}

static void rotate(const struct fn *f, const struct ins *i, struct operands *o, bool wide, bool shift) {
    int32_t imm;
    (void)wide;
    bool constant = x86_imm(f, i->b, false, &imm);
    add_use(o, i->a, USE_REG, 0);
    if (constant) {
        o->def = shift ? DEF_TIED : DEF_REG;
    } else if (shift) {
        add_use(o, i->b, USE_REG, 0);
        o->def = DEF_REG;
    } else {
        add_use(o, i->b, USE_FIXED, RCX);
        o->def = DEF_TIED;
        o->clobbers = 1u << RCX;
    }
}

static void divide(const struct ins *i, struct operands *o, bool remainder) {
    add_use(o, i->a, USE_FIXED, RAX);
    add_use(o, i->b, USE_REG, 0);
    o->def = DEF_FIXED;
    o->def_reg = remainder ? RDX : RAX;
    o->clobbers = 1u << RAX | 1u << RDX;
}

static void lea_operands(const struct fn *f, ref v, struct operands *o) {
    struct lea l = x86_lea(f, v);
    add_use(o, l.base, USE_REG, 0);
    if (l.index) add_use(o, l.index, USE_REG, 0);
    o->def = DEF_REG;
}

static void float_binary(const struct fn *f, const struct ins *i, struct operands *o) {
    add_use(o, i->a, USE_REG, 0);
    if (f->ins.v[i->b].op != IR_CONST) use_or_load(f, i->b, o, USE_ANY);
    o->def = DEF_REG;
}

static void unary(const struct ins *i, struct operands *o, uint8_t how, uint8_t def) {
    add_use(o, i->a, how, 0);
    o->def = def;
}

static void compare(const struct fn *f, const struct ins *i, struct operands *o, bool wide) {
    int32_t imm;
    add_use(o, i->a, USE_REG, 0);
    if (x86_is_float_compare(i->op)) {
        if (f->ins.v[i->b].op != IR_CONST || x86_float_compare_swaps(i->op)) add_use(o, i->b, USE_REG, 0);
    } else if (!x86_imm(f, i->b, wide, &imm)) {
        add_use(o, i->b, USE_ANY, 0);
    }
    o->def = DEF_REG;
}

static void ir_operands(const struct fn *f, const struct ins *i, struct operands *o) {
    int32_t imm;
    switch (i->op) {
    case IR_EXN:
        o->def = DEF_FIXED;
        o->def_reg = RAX;
        return;
    case IR_PAYLOAD: unary(i, o, USE_REG, DEF_REG); return;
    case IR_SLOT_GET: o->def = DEF_REG; return;
    case IR_SLOT_SET: add_use(o, i->a, USE_REG, 0); return;
    case IR_NULL_CHECK: unary(i, o, USE_REG, DEF_TIED); return;
    case IR_FIELD_GET: unary(i, o, USE_REG, DEF_REG); return;
    case IR_ELEM_GET:
        add_use(o, i->a, USE_REG, 0);
        add_use(o, i->b, USE_REG, 0);
        o->def = DEF_REG;
        return;
    case IR_FIELD_SET:
    case IR_ELEM_SET:
        add_use(o, i->a, USE_REG, 0);
        add_use(o, i->b, USE_REG, 0);
        if (i->op == IR_ELEM_SET) add_use(o, i->c, USE_REG, 0);
        return;
    case IR_IS_EXACT: unary(i, o, USE_REG, DEF_EARLY); return;
    case IR_SET_TYPE:
    case IR_CHECK: add_use(o, i->a, USE_REG, 0); return;
    case IR_SELECT:
        add_use(o, i->a, USE_REG, 0);
        add_use(o, i->b, type_is_vector(i->type) ? USE_REG : USE_ANY, 0);
        o->def = DEF_TIED;
        condition_operands(f, i->c, o);
        return;
    case IR_BRANCH: condition_operands(f, i->a, o); return;
    case IR_SWITCH:
        add_use(o, i->a, USE_REG, 0);
        o->temp = true;
        return;
    default: return;
    }
    (void)imm;
}

void target_operands(const struct fn *f, ref v, struct operands *o) {
    const struct ins *i = &f->ins.v[v];
    int32_t imm;
    if (i->op >= OPCODE_LIMIT) {
        ir_operands(f, i, o);
        return;
    }
    if (i->op >= OP_BASE_FD) {
        x86_simd_operands(f, i, o);
        return;
    }
    switch (i->op) {
    case OP_I32_LOAD:
    case OP_I64_LOAD:
    case OP_F32_LOAD:
    case OP_F64_LOAD:
    case OP_I32_LOAD8_S:
    case OP_I32_LOAD8_U:
    case OP_I32_LOAD16_S:
    case OP_I32_LOAD16_U:
    case OP_I64_LOAD8_S:
    case OP_I64_LOAD8_U:
    case OP_I64_LOAD16_S:
    case OP_I64_LOAD16_U:
    case OP_I64_LOAD32_S:
    case OP_I64_LOAD32_U:
        x86_memory_operands(f, i, o);
        o->def = DEF_REG;
        return;
    case OP_I32_STORE:
    case OP_I64_STORE:
    case OP_F32_STORE:
    case OP_F64_STORE:
    case OP_I32_STORE8:
    case OP_I32_STORE16:
    case OP_I64_STORE8:
    case OP_I64_STORE16:
    case OP_I64_STORE32:
        x86_memory_operands(f, i, o);
        if (!x86_imm(f, i->b, i->op == OP_I64_STORE, &imm)) add_use(o, i->b, USE_REG, 0);
        return;
    case OP_GLOBAL_GET: o->def = DEF_REG; return;
    case OP_GLOBAL_SET: add_use(o, i->a, USE_REG, 0); return;
    case OP_MEMORY_SIZE:
    case OP_TABLE_SIZE:
    case OP_REF_FUNC: o->def = DEF_REG; return;
    case OP_I32_ADD:
    case OP_I64_ADD: {
        if (x86_fused_load(f, i->b)) {
            binary(f, i, o, i->op == OP_I64_ADD);
            return;
        }
        struct lea l = x86_lea(f, v);
        if (l.disp || l.scale || !l.index) {
            lea_operands(f, v, o);
            return;
        }
        if (x86_imm(f, i->b, i->op == OP_I64_ADD, &imm) || (f->ins.v[i->a].flags & INS_FUSED)) {
            lea_operands(f, v, o);
            return;
        }
        add_use(o, i->a, USE_REG, 0); /* lea where the result is elsewhere */
        add_use(o, i->b, USE_ANY, 0);
        o->def = DEF_REG;
        return;
    }
    case OP_I32_SUB:
    case OP_I32_AND:
    case OP_I32_OR:
    case OP_I32_XOR: binary(f, i, o, false); return;
    case OP_I64_SUB:
    case OP_I64_AND:
    case OP_I64_OR:
    case OP_I64_XOR: binary(f, i, o, true); return;
    case OP_I32_MUL:
    case OP_I64_MUL:
        binary(f, i, o, i->op == OP_I64_MUL);
        if (!o->commutes && !x86_fused_load(f, i->b)) {
            o->def = DEF_REG;
            o->use[0].how = USE_ANY;
        }
        return;
    case OP_I32_SHL:
    case OP_I32_SHR_S:
    case OP_I32_SHR_U: rotate(f, i, o, false, true); return;
    case OP_I64_SHL:
    case OP_I64_SHR_S:
    case OP_I64_SHR_U: rotate(f, i, o, true, true); return;
    case OP_I32_ROTL:
    case OP_I32_ROTR: rotate(f, i, o, false, false); return;
    case OP_I64_ROTL:
    case OP_I64_ROTR: rotate(f, i, o, true, false); return;
    case OP_I32_DIV_S:
    case OP_I32_DIV_U:
    case OP_I64_DIV_S:
    case OP_I64_DIV_U: divide(i, o, false); return;
    case OP_I32_REM_S:
    case OP_I32_REM_U:
    case OP_I64_REM_S:
    case OP_I64_REM_U: divide(i, o, true); return;
    case OP_I32_EQZ:
    case OP_I64_EQZ: unary(i, o, USE_REG, DEF_REG); return;
    case OP_F32_ADD:
    case OP_F32_SUB:
    case OP_F32_MUL:
    case OP_F32_DIV:
    case OP_F64_ADD:
    case OP_F64_SUB:
    case OP_F64_MUL:
    case OP_F64_DIV: float_binary(f, i, o); return;
    case OP_F32_MIN:
    case OP_F32_MAX:
    case OP_F32_COPYSIGN:
    case OP_F64_MIN:
    case OP_F64_MAX:
    case OP_F64_COPYSIGN:
        add_use(o, i->a, USE_REG, 0);
        add_use(o, i->b, USE_REG, 0);
        o->def = DEF_REG;
        return;
    case OP_I32_CLZ:
    case OP_I32_CTZ:
    case OP_I32_POPCNT:
    case OP_I64_CLZ:
    case OP_I64_CTZ:
    case OP_I64_POPCNT: unary(i, o, USE_ANY, DEF_REG); return;
    case OP_I32_TRUNC_F32_S:
    case OP_I32_TRUNC_F32_U:
    case OP_I32_TRUNC_F64_S:
    case OP_I32_TRUNC_F64_U:
    case OP_I64_TRUNC_F32_S:
    case OP_I64_TRUNC_F32_U:
    case OP_I64_TRUNC_F64_S:
    case OP_I64_TRUNC_F64_U:
    case OP_I32_TRUNC_SAT_F32_S:
    case OP_I32_TRUNC_SAT_F32_U:
    case OP_I32_TRUNC_SAT_F64_S:
    case OP_I32_TRUNC_SAT_F64_U:
    case OP_I64_TRUNC_SAT_F32_S:
    case OP_I64_TRUNC_SAT_F32_U:
    case OP_I64_TRUNC_SAT_F64_S:
    case OP_I64_TRUNC_SAT_F64_U: unary(i, o, USE_REG, DEF_REG); return;
    default: break;
    }
    if (x86_is_int_compare(i->op) || x86_is_float_compare(i->op)) {
        compare(f, i, o, i->op >= OP_I64_EQ && i->op <= OP_I64_GE_U);
        return;
    }
    unary(i, o, USE_REG, DEF_REG); /* conversions, extensions, float unaries */
}

/* --- the CPU -------------------------------------------------------------------------------------------------------
 */

/* "x86-64" and the level: SSE4.2, POPCNT, AVX, AVX2, BMI, BMI2, LZCNT. */
const uint64_t target_features = UINT64_C(0x0003003436303878);

bool target_supported(void) {
    unsigned a, b, c, d, xcr0_lo, xcr0_hi;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return false;
    unsigned need1 = bit_SSE4_2 | bit_POPCNT | bit_OSXSAVE | bit_AVX;
    if ((c & need1) != need1) return false;
    __asm__("xgetbv" : "=a"(xcr0_lo), "=d"(xcr0_hi) : "c"(0));
    if ((xcr0_lo & 6) != 6) return false; /* the system saves vector registers */
    unsigned need7 = bit_AVX2 | bit_BMI | bit_BMI2;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (b & need7) != need7) return false;
    return __get_cpuid(0x80000001, &a, &b, &c, &d) && (c & bit_LZCNT);
}
