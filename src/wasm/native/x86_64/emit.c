/* The last pass: allocated SSA to x86-64 bytes. Traps, and what indirect calls rarely do, stand after the function's
 * code. */
#include "x86_64.h"
#include "../../heap.h"

/* --- small helpers -------------------------------------------------------------------------------------------------
 */

static struct ins *ins_of(struct emitter *e, ref v) {
    return &e->f->ins.v[v];
}

void x86_trap_if(struct emitter *e, uint8_t cc, enum trap_kind kind) {
    uint32_t at = jcc_forward(&e->a, cc);
    vec_push(e->f, e->traps, ((struct trap_jump){at, (uint8_t)kind, e->ins}));
}

void x86_load_const(struct emitter *e, uint8_t to, const struct ins *c) {
    struct as *a = &e->a;
    if (c->op == IR_CONST && !type_is_vector(c->type) && to < REG_VECTOR) {
        if (c->imm == 0)
            x_rr(a, false, 0x31, to, to);
        else
            mov_imm(a, to, c->imm);
        return;
    }
    if (c->op == IR_CONST && !type_is_vector(c->type)) { /* an integer on its way to memory */
        v_rm(a, PP_F3, 1, 0x7E, to, 0, x86_pool_const(e, c));
        return;
    }
    bool zero = c->op == IR_CONST ? c->imm == 0 : !memcmp(e->f->vectors.v + 16 * c->imm, (uint8_t[16]){0}, 16);
    if (zero)
        v_rrr(a, PP_NONE, 1, 0x57, to, to, to); /* vxorps */
    else if (c->type == KIND_V128)
        v_rm(a, PP_NONE, 1, 0x10, to, 0, x86_pool_const(e, c)); /* vmovups */
    else
        v_rm(a, c->type == KIND_F64 ? PP_F2 : PP_F3, 1, 0x10, to, 0, x86_pool_const(e, c)); /* vmovsd, vmovss */
}

struct rm x86_pool_const(struct emitter *e, const struct ins *c) {
    if (c->op == IR_CONST128) return rm_pool(pool_add(&e->a, e->f->vectors.v + 16 * c->imm));
    return rm_pool(pool_u64(&e->a, c->imm, 0));
}

/* --- moves ---------------------------------------------------------------------------------------------------------
 */

/* Slot x of the store's overflow area. Uses r11: in a parallel move, nothing reads that area, so these moves come
 * before any cycle is broken with r11. */
static struct rm overflow_rm(struct emitter *e, uint32_t x) {
    x_rm(&e->a, true, 0x8B, R11, rm_mem(REG_VM, offsetof(struct vmctx, overflow)));
    return rm_mem(R11, (int32_t)(8 * x));
}

static struct rm loc_rm(struct emitter *e, uint32_t l) {
    uint32_t x = l & ~(LOC_KIND | LOC_WIDE);
    switch (l & LOC_KIND) {
    case LOC_REG: return rm_reg((uint8_t)x);
    case LOC_SLOT: return slot_rm(e, x);
    case LOC_OUT: return rm_mem(RSP, (int32_t)(8 * x));
    default: return overflow_rm(e, x);
    }
}

static void load(struct emitter *e, uint8_t to, struct rm from, bool v128) {
    if (to < REG_VECTOR)
        x_rm(&e->a, true, 0x8B, to, from);
    else if (from.kind == RM_REG || v128)
        v_rm(&e->a, PP_NONE, 1, from.kind == RM_REG ? 0x28 : 0x10, to, 0, from);
    else
        v_rm(&e->a, PP_F3, 1, 0x7E, to, 0, from); /* vmovq */
}

static void store(struct emitter *e, struct rm to, uint8_t from, bool v128) {
    if (from < REG_VECTOR)
        x_rm(&e->a, true, 0x89, from, to);
    else if (to.kind == RM_REG || v128)
        v_rm(&e->a, PP_NONE, 1, to.kind == RM_REG ? 0x29 : 0x11, from, 0, to);
    else
        v_rm(&e->a, PP_66, 1, 0xD6, from, 0, to); /* vmovq */
}

/* The type behind a move, to know 16-byte values in memory. */
static bool move_is_v128(struct emitter *e, const struct move *m) {
    uint32_t l = (m->from & LOC_KIND) == LOC_SLOT ? m->from : (m->to & LOC_KIND) == LOC_SLOT ? m->to : 0;
    if (l) return ins_of(e, l & ~LOC_KIND)->type == KIND_V128;
    return (m->to & LOC_WIDE) && (m->to & LOC_KIND) != LOC_REG;
}

static void move(struct emitter *e, const struct move *m) {
    if (!as_room(&e->a)) return;
    bool to_reg = (m->to & LOC_KIND) == LOC_REG;
    uint8_t reg = (uint8_t)(m->to & 0xff);
    if ((m->from & LOC_KIND) == LOC_CONST) {
        const struct ins *c = ins_of(e, m->from & ~LOC_KIND);
        if (to_reg) {
            x86_load_const(e, reg, c);
        } else if (c->op == IR_CONST && (int64_t)c->imm == (int32_t)c->imm) {
            op_rm(&e->a, 0, true, 0xC7, 0, loc_rm(e, m->to), 4, false);
            b4(&e->a, (uint32_t)c->imm);
        } else {
            x86_load_const(e, XMM15, c);
            store(e, loc_rm(e, m->to), XMM15, c->type == KIND_V128);
        }
        return;
    }
    bool v128 = move_is_v128(e, m);
    if (to_reg) {
        if ((m->from & LOC_KIND) == LOC_REG && reg < REG_VECTOR)
            mov_rr(&e->a, reg, (uint8_t)(m->from & 0xff));
        else
            load(e, reg, loc_rm(e, m->from), v128);
    } else if ((m->from & LOC_KIND) == LOC_REG) {
        store(e, loc_rm(e, m->to), (uint8_t)(m->from & 0xff), v128);
    } else {
        load(e, XMM15, loc_rm(e, m->from), v128);
        store(e, loc_rm(e, m->to), XMM15, v128);
    }
}

static void moves(struct emitter *e, uint32_t first, uint32_t n) {
    for (uint32_t k = 0; k < n; k++)
        move(e, &e->f->moves.v[first + k]);
}

/* --- memory --------------------------------------------------------------------------------------------------------
 */

static struct rm checked_address(struct emitter *e, const struct ins *i, uint32_t size) {
    struct as *a = &e->a;
    uint32_t memory = i->aux >> 8;
    uint8_t address = e->as->use[0], t = e->as->temp;
    uint64_t reach = i->imm + size;
    x_rm(a, true, 0x8B, t, rm_mem(REG_VM, (int32_t)vm_memory(e->f->module, memory)));
    if (reach <= INT32_MAX) {
        mov_rr(a, R11, address);
        alu_imm(a, true, ALU_ADD, rm_reg(R11), (int32_t)reach);
    } else {
        if (reach < size) { /* offset + size passes 2^64: no address is in bounds */
            x_rr(a, true, 0x39, RSP, RSP);
            x86_trap_if(e, CC_E, TRAP_MEMORY);
        }
        mov_imm(a, R11, reach);
        alu_rm(a, true, ALU_ADD, R11, rm_reg(address));
    }
    x86_trap_if(e, CC_B, TRAP_MEMORY);
    alu_rm(a, true, ALU_CMP, R11, rm_mem(t, offsetof(struct memory, size)));
    x86_trap_if(e, CC_A, TRAP_MEMORY);
    x_rm(a, true, 0x8B, t, rm_mem(t, offsetof(struct memory, base)));
    if (reach <= INT32_MAX) return rm_index(t, address, 0, (int32_t)i->imm);
    return rm_index(t, R11, 0, -(int32_t)size);
}

struct rm x86_address(struct emitter *e, const struct ins *i, uint32_t size) {
    struct as *a = &e->a;
    int32_t disp;
    if (x86_constant_address(e->f, i, &disp)) return rm_mem(REG_MEM, disp);
    if (x86_checked_access(e->f, i->aux >> 8)) return checked_address(e, i, size);
    uint8_t address = e->as->use[0];
    if (i->imm <= INT32_MAX) return rm_index(REG_MEM, address, 0, (int32_t)i->imm);
    mov_imm(a, R11, i->imm);
    alu_rm(a, true, ALU_ADD, R11, rm_reg(address));
    return rm_index(REG_MEM, R11, 0, 0);
}

/* Operand k where value v may be a fused load, whose address it then is. */
static struct rm operand_rm(struct emitter *e, ref v, unsigned k) {
    int32_t disp;
    const struct ins *i = ins_of(e, v);
    if (!x86_fused_load(e->f, v)) return use_rm(e, k);
    if (x86_constant_address(e->f, i, &disp)) return rm_mem(REG_MEM, disp);
    return rm_index(REG_MEM, e->as->use[k], 0, (int32_t)i->imm);
}
/* How many operands value v takes. */
static unsigned operand_count(const struct emitter *e, ref v) {
    int32_t disp;
    return !(x86_fused_load(e->f, v) && x86_constant_address(e->f, &e->f->ins.v[v], &disp));
}

static void memory_load(struct emitter *e, const struct ins *i) {
    struct as *a = &e->a;
    struct rm m = x86_address(e, i, 1u << opcode_table[i->op].aux);
    uint8_t d = e->as->def;
    switch (i->op) {
    case OP_I32_LOAD:
    case OP_I64_LOAD32_U: x_rm(a, false, 0x8B, d, m); return;
    case OP_I64_LOAD: x_rm(a, true, 0x8B, d, m); return;
    case OP_F32_LOAD: v_rm(a, PP_F3, 1, 0x10, d, 0, m); return;
    case OP_F64_LOAD: v_rm(a, PP_F2, 1, 0x10, d, 0, m); return;
    case OP_I32_LOAD8_S: x_rm(a, false, 0x0FBE, d, m); return;
    case OP_I32_LOAD8_U:
    case OP_I64_LOAD8_U: x_rm(a, false, 0x0FB6, d, m); return;
    case OP_I32_LOAD16_S: x_rm(a, false, 0x0FBF, d, m); return;
    case OP_I32_LOAD16_U:
    case OP_I64_LOAD16_U: x_rm(a, false, 0x0FB7, d, m); return;
    case OP_I64_LOAD8_S: x_rm(a, true, 0x0FBE, d, m); return;
    case OP_I64_LOAD16_S: x_rm(a, true, 0x0FBF, d, m); return;
    default: x_rm(a, true, 0x63, d, m); return; /* i64.load32_s */
    }
}

static void memory_store(struct emitter *e, const struct ins *i) {
    struct as *a = &e->a;
    uint32_t log2 = opcode_table[i->op].aux;
    struct rm m = x86_address(e, i, 1u << log2);
    int32_t imm;
    if (x86_imm(e->f, i->b, i->op == OP_I64_STORE, &imm)) {
        op_rm(a, log2 == 1 ? 0x66 : 0, log2 == 3, log2 ? 0xC7 : 0xC6, 0, m, log2 == 3 ? 4 : 1u << log2, false);
        if (log2 == 0)
            b1(a, (uint8_t)imm);
        else if (log2 == 1)
            b1(a, (uint8_t)imm), b1(a, (uint8_t)(imm >> 8));
        else
            b4(a, (uint32_t)imm);
        return;
    }
    uint8_t v = e->as->use[e->o->n - 1];
    switch (i->op) {
    case OP_F32_STORE: v_rm(a, PP_F3, 1, 0x11, v, 0, m); return;
    case OP_F64_STORE: v_rm(a, PP_F2, 1, 0x11, v, 0, m); return;
    default: op_rm(a, log2 == 1 ? 0x66 : 0, log2 == 3, log2 ? 0x89 : 0x88, v, m, 0, log2 == 0); return;
    }
}

static struct rm global_rm(struct emitter *e, uint32_t k) {
    const struct module *m = e->f->module;
    if (vm_global_inline(m, k)) return rm_mem(REG_VM, (int32_t)(vm_cell(m, k) + offsetof(struct global, value)));
    x_rm(&e->a, true, 0x8B, R11, rm_mem(REG_VM, (int32_t)vm_global(m, k)));
    return rm_mem(R11, offsetof(struct global, value));
}

static void variable(struct emitter *e, const struct ins *i) {
    struct as *a = &e->a;
    const struct module *m = e->f->module;
    uint8_t d = e->as->def;
    uint32_t k = (uint32_t)i->imm;
    struct rm value;
    switch (i->op) {
    case OP_GLOBAL_GET:
        value = global_rm(e, k);
        if (i->type == KIND_I32)
            x_rm(a, false, 0x8B, d, value);
        else
            load(e, d, value, i->type == KIND_V128);
        return;
    case OP_GLOBAL_SET:
        value = global_rm(e, k);
        store(e, value, e->as->use[0], i->type == KIND_V128);
        return;
    case OP_MEMORY_SIZE:
        x_rm(a, true, 0x8B, d, rm_mem(REG_VM, (int32_t)vm_memory(m, k)));
        x_rm(a, true, 0x8B, d, rm_mem(d, offsetof(struct memory, size)));
        op_rm(a, 0, true, 0xC1, 5, rm_reg(d), 1, false);
        b1(a, 16);
        return;
    case OP_TABLE_SIZE:
        x_rm(a, true, 0x8B, d, rm_mem(REG_VM, (int32_t)vm_table(m, k)));
        x_rm(a, true, 0x8B, d, rm_mem(d, offsetof(struct table, size)));
        return;
    default: x_rm(a, true, 0x8B, d, rm_mem(REG_VM, (int32_t)vm_func(m, k))); return; /* ref.func */
    }
}

/* --- integers ------------------------------------------------------------------------------------------------------
 */

static void tie(struct emitter *e) {
    uint8_t d = e->as->def;
    if (e->as->use[0] == USE_IN_SLOT)
        load(e, d, use_rm(e, 0), false);
    else if (d < REG_VECTOR)
        mov_rr(&e->a, d, e->as->use[0]);
    else if (d != e->as->use[0])
        v_rrr(&e->a, PP_NONE, 1, 0x28, d, 0, e->as->use[0]);
}

static void alu(struct emitter *e, const struct ins *i, uint8_t op, bool wide) {
    int32_t imm;
    struct as *a = &e->a;
    if (x86_special_and(e->f, i)) {
        if (e->o->n == 2) /* andn */
            vex_rm(a, PP_NONE, 2, wide, 0xF2, e->as->def, e->as->use[0], use_rm(e, 1), 0);
        else /* blsr */
            vex_rm(a, PP_NONE, 2, wide, 0xF3, 1, e->as->def, use_rm(e, 0), 0);
        return;
    }
    if (x86_imm(e->f, i->b, wide, &imm)) {
        if (op == ALU_AND && (uint32_t)imm == 0xff && !wide) {
            op_rm(a, 0, false, 0x0FB6, e->as->def, rm_reg(e->as->use[0]), 0, true);
            return;
        }
        if (op == ALU_AND && (uint32_t)imm == 0xffff && !wide) {
            x_rr(a, false, 0x0FB7, e->as->def, e->as->use[0]);
            return;
        }
        tie(e);
        alu_imm(a, wide, op, rm_reg(e->as->def), imm);
    } else {
        tie(e);
        alu_rm(a, wide, op, e->as->def, operand_rm(e, i->b, 1));
    }
}

static void add(struct emitter *e, const struct ins *i, bool wide) {
    struct as *a = &e->a;
    if (x86_fused_load(e->f, i->b) || (e->o->n == 2 && e->as->use[1] == USE_IN_SLOT)) {
        alu(e, i, ALU_ADD, wide);
        return;
    }
    struct lea l = x86_lea(e->f, e->ins);
    uint8_t d = e->as->def, x = e->as->use[0], y = l.index ? e->as->use[1] : RSP;
    if (!l.index && d == x) {
        alu_imm(a, wide, ALU_ADD, rm_reg(d), l.disp);
        return;
    }
    if (l.index && !l.disp && !l.scale && (d == x || d == y)) {
        alu_rm(a, wide, ALU_ADD, d, rm_reg(d == x ? y : x));
        return;
    }
    x_rm(a, wide, 0x8D, d, l.index ? rm_index(x, y, l.scale, l.disp) : rm_mem(x, l.disp));
}

static void multiply(struct emitter *e, const struct ins *i, bool wide) {
    struct as *a = &e->a;
    int32_t imm;
    if (!x86_imm(e->f, i->b, wide, &imm)) {
        tie(e);
        x_rm(a, wide, 0x0FAF, e->as->def, operand_rm(e, i->b, 1));
        return;
    }
    uint8_t d = e->as->def;
    if (imm > 0 && !(imm & (imm - 1))) { /* a power of two */
        if (e->as->use[0] == USE_IN_SLOT)
            load(e, d, use_rm(e, 0), false);
        else
            mov_rr(a, d, e->as->use[0]);
        op_rm(a, 0, wide, 0xC1, 4, rm_reg(d), 1, false);
        b1(a, (uint8_t)__builtin_ctz((uint32_t)imm));
        if (!wide && __builtin_ctz((uint32_t)imm) == 0) x_rr(a, false, 0x8B, d, d);
        return;
    }
    bool small = imm >= -128 && imm < 128;
    op_rm(a, 0, wide, small ? 0x6B : 0x69, d, use_rm(e, 0), small ? 1 : 4, false);
    if (small)
        b1(a, (uint8_t)imm);
    else
        b4(a, (uint32_t)imm);
}

/* shl, shr_s, shr_u, rotl, rotr in the order of the opcodes. */
static void shift(struct emitter *e, const struct ins *i, unsigned which, bool wide) {
    struct as *a = &e->a;
    uint8_t d = e->as->def;
    int32_t imm;
    static const uint8_t digit[5] = {4, 7, 5, 0, 1};
    if (x86_imm(e->f, i->b, false, &imm)) {
        uint8_t count = (uint8_t)(imm & (wide ? 63 : 31));
        if (which >= 3) { /* rorx */
            if (which == 3) count = (uint8_t)((wide ? 64 : 32) - count);
            vex_rm(a, PP_F2, 3, wide, 0xF0, d, 0, rm_reg(e->as->use[0]), 1);
            b1(a, count);
            return;
        }
        tie(e);
        if (which == 0 && count == 1) {
            x_rr(a, wide, 0x01, d, d);
            return;
        }
        op_rm(a, 0, wide, 0xC1, digit[which], rm_reg(d), 1, false);
        b1(a, count);
        return;
    }
    if (which >= 3) {
        tie(e);
        x_rm(a, wide, 0xD3, digit[which], rm_reg(d)); /* by cl */
        return;
    }
    static const uint8_t pp[3] = {PP_66, PP_F3, PP_F2}; /* shlx, sarx, shrx */
    vex_rm(a, pp[which], 2, wide, 0xF7, d, e->as->use[1], rm_reg(e->as->use[0]), 0);
}

static void divide(struct emitter *e, const struct ins *i, bool is_signed, bool remainder, bool wide) {
    struct as *a = &e->a;
    uint8_t y = e->as->use[1];
    const struct ins *by = ins_of(e, i->b);
    bool known = by->op == IR_CONST && (wide ? by->imm : (uint32_t)by->imm) != 0;
    bool minus_one = !known || (wide ? by->imm == ~0ull : (uint32_t)by->imm == UINT32_MAX);
    if (!known) {
        x_rr(a, wide, 0x85, y, y);
        x86_trap_if(e, CC_E, TRAP_DIV_ZERO);
    }
    if (!is_signed) {
        x_rr(a, false, 0x31, RDX, RDX);
        x_rm(a, wide, 0xF7, 6, rm_reg(y));
        return;
    }
    uint32_t skip = 0, done = 0;
    if (minus_one) {
        alu_imm(a, wide, ALU_CMP, rm_reg(y), -1);
        skip = jcc_short(a, CC_NE);
        if (remainder) {
            x_rr(a, false, 0x31, RDX, RDX);
            done = jmp_short(a);
        } else { /* x / -1 = -x, which overflows for the least x alone */
            x_rm(a, wide, 0xF7, 3, rm_reg(RAX));
            x86_trap_if(e, CC_O, TRAP_INT_OVERFLOW);
            done = jmp_short(a);
        }
        patch_short(a, skip);
    }
    if (wide) b1(a, 0x48);
    b1(a, 0x99); /* cdq, cqo */
    x_rm(a, wide, 0xF7, 7, rm_reg(y));
    if (minus_one) patch_short(a, done);
}

/* --- conditions ----------------------------------------------------------------------------------------------------
 */

static uint8_t int_condition(uint16_t op) {
    static const uint8_t cc[10] = {CC_E, CC_NE, CC_L, CC_B, CC_G, CC_A, CC_LE, CC_BE, CC_GE, CC_AE};
    return cc[op >= OP_I64_EQ ? op - OP_I64_EQ : op - OP_I32_EQ];
}

/* What the flags say after condition(): `cc`, and for float equality also the parity flag (set: a NaN). */
struct condition {
    uint8_t cc;
    enum { PARITY_NONE, PARITY_AND, PARITY_OR } parity; /* eq: cc and not parity; ne: cc or parity */
};

static void compare_int(struct emitter *e, const struct ins *i, unsigned k, bool wide) {
    int32_t imm;
    struct as *a = &e->a;
    bool has_imm = x86_imm(e->f, i->b, wide, &imm);
    if (x86_fused_load(e->f, i->a)) {
        struct rm x = operand_rm(e, i->a, k);
        if (has_imm)
            alu_imm(a, wide, ALU_CMP, x, imm);
        else
            x_rm(a, wide, 0x39, e->as->use[k + operand_count(e, i->a)], x);
        return;
    }
    if (!has_imm)
        alu_rm(a, wide, ALU_CMP, e->as->use[k], operand_rm(e, i->b, k + 1));
    else if (imm == 0)
        x_rr(a, wide, 0x85, e->as->use[k], e->as->use[k]);
    else
        alu_imm(a, wide, ALU_CMP, rm_reg(e->as->use[k]), imm);
}

static struct condition compare_float(struct emitter *e, const struct ins *i, unsigned k) {
    struct as *a = &e->a;
    bool f64 = i->op >= OP_F64_EQ;
    uint8_t pp = f64 ? PP_66 : PP_NONE;
    unsigned which = f64 ? i->op - OP_F64_EQ : i->op - OP_F32_EQ; /* eq ne lt gt le ge */
    bool constant = ins_of(e, i->b)->op == IR_CONST;
    if (x86_float_compare_swaps(i->op))
        v_rm(a, pp, 1, 0x2E, e->as->use[k + 1], 0, rm_reg(e->as->use[k]));
    else
        v_rm(a, pp, 1, 0x2E, e->as->use[k], 0, constant ? x86_pool_const(e, ins_of(e, i->b)) : use_rm(e, k + 1));
    static const struct condition c[6] = {{CC_E, PARITY_AND}, {CC_NE, PARITY_OR}, {CC_A, 0},
                                          {CC_A, 0},          {CC_AE, 0},         {CC_AE, 0}};
    return c[which];
}

static void test_and(struct emitter *e, const struct ins *i, unsigned k, bool wide) {
    int32_t imm;
    struct as *a = &e->a;
    uint8_t x = e->as->use[k];
    if (!x86_imm(e->f, i->b, wide, &imm)) {
        struct rm y = use_rm(e, k + 1);
        x_rm(a, wide, 0x85, x, y);
        return;
    }
    if (imm >= 0 && imm < 128) {
        op_rm(a, 0, false, 0xF6, 0, rm_reg(x), 1, true);
        b1(a, (uint8_t)imm);
        return;
    }
    op_rm(a, 0, wide, 0xF7, 0, rm_reg(x), 4, false);
    b4(a, (uint32_t)imm);
}

/* Sets the flags for "c is not zero"; c's operands begin at k. */
static struct condition condition(struct emitter *e, ref c, unsigned k) {
    const struct ins *i = ins_of(e, c);
    struct as *a = &e->a;
    if (!(i->flags & INS_FUSED)) {
        x_rr(a, false, 0x85, e->as->use[k], e->as->use[k]);
        return (struct condition){CC_NE, 0};
    }
    if (i->op == OP_I32_EQZ || i->op == OP_I64_EQZ) {
        const struct ins *x = ins_of(e, i->a);
        if ((x->flags & INS_FUSED) && x86_simd_is_test(x->op))
            return (struct condition){x86_simd_test(e, x, e->as->use[k]) ^ 1, 0};
        if (x86_fused_load(e->f, i->a)) {
            struct rm m = operand_rm(e, i->a, k);
            if (opcode_table[x->op].aux) {
                alu_imm(a, i->op == OP_I64_EQZ, ALU_CMP, m, 0);
            } else { /* cmp byte [..], 0 */
                op_rm(a, 0, false, 0x80, ALU_CMP, m, 1, false);
                b1(a, 0);
            }
        } else if (x->flags & INS_FUSED)
            test_and(e, x, k, x->op == OP_I64_AND);
        else
            x_rr(a, i->op == OP_I64_EQZ, 0x85, e->as->use[k], e->as->use[k]);
        return (struct condition){CC_E, 0};
    }
    if (i->op == OP_I32_AND) {
        test_and(e, i, k, false);
        return (struct condition){CC_NE, 0};
    }
    if (x86_is_float_compare(i->op)) return compare_float(e, i, k);
    if (x86_simd_is_test(i->op)) return (struct condition){x86_simd_test(e, i, e->as->use[k]), 0};
    compare_int(e, i, k, i->op >= OP_I64_EQ);
    return (struct condition){int_condition(i->op), 0};
}

static void set_if(struct emitter *e, struct condition c) {
    struct as *a = &e->a;
    uint8_t d = e->as->def;
    op_rm(a, 0, false, 0x0F90u | c.cc, 0, rm_reg(d), 0, true);
    if (c.parity) {
        op_rm(a, 0, false, 0x0F90u | (c.parity == PARITY_AND ? CC_NP : CC_P), 0, rm_reg(R11), 0, true);
        op_rm(a, 0, false, c.parity == PARITY_AND ? 0x20 : 0x08, R11, rm_reg(d), 0, true);
    }
    op_rm(a, 0, false, 0x0FB6, d, rm_reg(d), 0, true);
}

static void compare(struct emitter *e, const struct ins *i) {
    struct condition c;
    if (x86_is_float_compare(i->op)) {
        c = compare_float(e, i, 0);
    } else if (i->op == OP_I32_EQZ || i->op == OP_I64_EQZ) {
        x_rr(&e->a, i->op == OP_I64_EQZ, 0x85, e->as->use[0], e->as->use[0]);
        c = (struct condition){CC_E, 0};
    } else {
        compare_int(e, i, 0, i->op >= OP_I64_EQ);
        c = (struct condition){int_condition(i->op), 0};
    }
    set_if(e, c);
}

static void select_(struct emitter *e, const struct ins *i) {
    struct as *a = &e->a;
    struct condition c = condition(e, i->c, 2);
    uint8_t d = e->as->def;
    if (!type_is_vector(i->type)) { /* moves keep the flags */
        mov_rr(a, d, e->as->use[0]);
        if (c.parity == PARITY_AND) { /* b when not equal or unordered */
            x_rm(a, true, 0x0F40u | (c.cc ^ 1), d, use_rm(e, 1));
            x_rm(a, true, 0x0F40u | CC_P, d, use_rm(e, 1));
        } else if (c.parity == PARITY_OR) { /* b when equal and ordered */
            uint32_t skip = jcc_short(a, CC_P);
            x_rm(a, true, 0x0F40u | (c.cc ^ 1), d, use_rm(e, 1));
            patch_short(a, skip);
        } else {
            x_rm(a, true, 0x0F40u | (c.cc ^ 1), d, use_rm(e, 1));
        }
        return;
    }
    if (d != e->as->use[0]) v_rrr(a, PP_NONE, 1, 0x28, d, 0, e->as->use[0]);
    uint32_t parity = c.parity == PARITY_OR ? jcc_short(a, CC_P) : 0, other = 0;
    if (c.parity == PARITY_AND) other = jcc_short(a, CC_P);
    uint32_t skip = jcc_short(a, c.cc);
    if (other) patch_short(a, other);
    v_rrr(a, PP_NONE, 1, 0x28, d, 0, e->as->use[1]);
    patch_short(a, skip);
    if (parity) patch_short(a, parity);
}

/* --- floats --------------------------------------------------------------------------------------------------------
 */

static void float_binary(struct emitter *e, const struct ins *i, uint8_t op, bool f64) {
    const struct ins *y = ins_of(e, i->b);
    struct rm m = y->op == IR_CONST ? x86_pool_const(e, y) : operand_rm(e, i->b, 1);
    v_rm(&e->a, f64 ? PP_F2 : PP_F3, 1, op, e->as->def, e->as->use[0], m);
}

/* min and max: equal operands may be zeros of different sign, NaNs have to come out as NaNs. */
static void float_minmax(struct emitter *e, bool max, bool f64) {
    struct as *a = &e->a;
    uint8_t d = e->as->def, x = e->as->use[0], y = e->as->use[1], pp = f64 ? PP_66 : PP_NONE, s = f64 ? PP_F2 : PP_F3;
    v_rrr(a, pp, 1, 0x2E, x, 0, y);
    uint32_t nan = jcc_short(a, CC_P), differ = jcc_short(a, CC_NE);
    v_rrr(a, PP_NONE, 1, max ? 0x54 : 0x56, d, x, y); /* andps, orps: of the signs */
    uint32_t done1 = jmp_short(a);
    patch_short(a, nan);
    v_rrr(a, s, 1, 0x58, d, x, y);
    uint32_t done2 = jmp_short(a);
    patch_short(a, differ);
    v_rrr(a, s, 1, max ? 0x5F : 0x5D, d, x, y);
    patch_short(a, done1);
    patch_short(a, done2);
}

static void float_sign(struct emitter *e, const struct ins *i) {
    struct as *a = &e->a;
    bool f64 = i->type == KIND_F64;
    uint64_t sign = f64 ? 1ull << 63 : 0x8000000080000000ull;
    uint8_t d = e->as->def, x = e->as->use[0];
    switch (i->op) {
    case OP_F32_NEG:
    case OP_F64_NEG: v_rm(a, PP_NONE, 1, 0x57, d, x, rm_pool(pool_u64(a, sign, 0))); return;
    case OP_F32_ABS:
    case OP_F64_ABS: v_rm(a, PP_NONE, 1, 0x54, d, x, rm_pool(pool_u64(a, ~sign, 0))); return;
    default: /* copysign */
        v_rm(a, PP_NONE, 1, 0x54, XMM15, e->as->use[1], rm_pool(pool_u64(a, sign, 0)));
        v_rm(a, PP_NONE, 1, 0x54, d, x, rm_pool(pool_u64(a, ~sign, 0)));
        v_rrr(a, PP_NONE, 1, 0x56, d, d, XMM15);
        return;
    }
}

static void float_round(struct emitter *e, const struct ins *i) {
    uint8_t mode;
    switch (i->op) {
    case OP_F32_NEAREST:
    case OP_F64_NEAREST: mode = 8; break;
    case OP_F32_FLOOR:
    case OP_F64_FLOOR: mode = 9; break;
    case OP_F32_CEIL:
    case OP_F64_CEIL: mode = 10; break;
    default: mode = 11;
    }
    uint8_t x = e->as->use[0];
    v_imm(&e->a, PP_66, 3, i->type == KIND_F64 ? 0x0B : 0x0A, e->as->def, x, rm_reg(x), mode);
}

static void int_to_float(struct emitter *e, const struct ins *i) {
    struct as *a = &e->a;
    uint8_t d = e->as->def, x = e->as->use[0], pp = i->type == KIND_F64 ? PP_F2 : PP_F3;
    bool wide = true, big = false;
    switch (i->op) {
    case OP_F32_CONVERT_I32_S:
    case OP_F64_CONVERT_I32_S: wide = false; break;
    case OP_F32_CONVERT_I64_U:
    case OP_F64_CONVERT_I64_U: big = true; break;
    default: break; /* an i32's upper half is zero: unsigned is signed 64 */
    }
    v_rrr(a, PP_NONE, 1, 0x57, d, d, d); /* no dependence on what was there */
    if (!big) {
        vex_rm(a, pp, 1, wide, 0x2A, d, d, rm_reg(x), 0);
        return;
    }
    x_rr(a, true, 0x85, x, x);
    uint32_t negative = jcc_short(a, CC_S);
    vex_rm(a, pp, 1, true, 0x2A, d, d, rm_reg(x), 0);
    uint32_t done = jmp_short(a);
    patch_short(a, negative); /* halve, keeping the lowest bit for rounding, convert, double */
    mov_rr(a, R11, x);
    op_rm(a, 0, true, 0xD1, 5, rm_reg(R11), 0, false);
    uint32_t even;
    op_rm(a, 0, false, 0xF6, 0, rm_reg(x), 1, true);
    b1(a, 1);
    even = jcc_short(a, CC_E);
    alu_imm(a, true, ALU_OR, rm_reg(R11), 1);
    patch_short(a, even);
    vex_rm(a, pp, 1, true, 0x2A, d, d, rm_reg(R11), 0);
    v_rrr(a, pp, 1, 0x58, d, d, d);
    patch_short(a, done);
}

/* Truncation. cvttsd2si gives the least integer for everything it cannot convert; only then do we look closer. */
struct trunc {
    bool f64, to64, is_signed, saturating;
};
static struct trunc trunc_of(uint16_t op) {
    switch (op) {
    case OP_I32_TRUNC_F32_S: return (struct trunc){0, 0, 1, 0};
    case OP_I32_TRUNC_F32_U: return (struct trunc){0, 0, 0, 0};
    case OP_I32_TRUNC_F64_S: return (struct trunc){1, 0, 1, 0};
    case OP_I32_TRUNC_F64_U: return (struct trunc){1, 0, 0, 0};
    case OP_I64_TRUNC_F32_S: return (struct trunc){0, 1, 1, 0};
    case OP_I64_TRUNC_F32_U: return (struct trunc){0, 1, 0, 0};
    case OP_I64_TRUNC_F64_S: return (struct trunc){1, 1, 1, 0};
    case OP_I64_TRUNC_F64_U: return (struct trunc){1, 1, 0, 0};
    case OP_I32_TRUNC_SAT_F32_S: return (struct trunc){0, 0, 1, 1};
    case OP_I32_TRUNC_SAT_F32_U: return (struct trunc){0, 0, 0, 1};
    case OP_I32_TRUNC_SAT_F64_S: return (struct trunc){1, 0, 1, 1};
    case OP_I32_TRUNC_SAT_F64_U: return (struct trunc){1, 0, 0, 1};
    case OP_I64_TRUNC_SAT_F32_S: return (struct trunc){0, 1, 1, 1};
    case OP_I64_TRUNC_SAT_F32_U: return (struct trunc){0, 1, 0, 1};
    case OP_I64_TRUNC_SAT_F64_S: return (struct trunc){1, 1, 1, 1};
    default: return (struct trunc){1, 1, 0, 1};
    }
}

static void cvtt(struct emitter *e, struct trunc t, bool wide, uint8_t to, uint8_t from) {
    vex_rm(&e->a, t.f64 ? PP_F2 : PP_F3, 1, wide, 0x2C, to, 0, rm_reg(from), 0);
}
static void ucomi(struct emitter *e, struct trunc t, uint8_t x, struct rm y) {
    v_rm(&e->a, t.f64 ? PP_66 : PP_NONE, 1, 0x2E, x, 0, y);
}
static struct rm float_const(struct emitter *e, struct trunc t, double v) {
    float single = (float)v;
    uint64_t bits = 0;
    if (t.f64)
        memcpy(&bits, &v, 8);
    else
        memcpy(&bits, &single, 4);
    return rm_pool(pool_u64(&e->a, bits, 0));
}

static void trunc_signed(struct emitter *e, struct trunc t) {
    struct as *a = &e->a;
    uint8_t d = e->as->def, x = e->as->use[0];
    cvtt(e, t, t.to64, d, x);
    alu_imm(a, t.to64, ALU_CMP, rm_reg(d), 1); /* overflows for the least integer alone */
    uint32_t done = jcc_short(a, CC_NO), done2 = 0;
    ucomi(e, t, x, rm_reg(x));
    if (!t.saturating) {
        x86_trap_if(e, CC_P, TRAP_INT_CONVERSION);
        /* The least integer itself, or for i32 from f64 what truncates to it. */
        bool fraction = t.f64 && !t.to64;
        ucomi(e, t, x, float_const(e, t, t.to64 ? -0x1p63 : fraction ? -2147483649.0 : -0x1p31));
        x86_trap_if(e, fraction ? CC_BE : CC_B, TRAP_INT_OVERFLOW);
        ucomi(e, t, x, float_const(e, t, 0));
        x86_trap_if(e, CC_A, TRAP_INT_OVERFLOW);
        patch_short(a, done);
        return;
    }
    uint32_t number = jcc_short(a, CC_NP);
    x_rr(a, false, 0x31, d, d);
    done2 = jmp_short(a);
    patch_short(a, number);
    ucomi(e, t, x, float_const(e, t, 0));
    uint32_t negative = jcc_short(a, CC_B); /* the least integer is right */
    mov_imm(a, d, t.to64 ? INT64_MAX : INT32_MAX);
    patch_short(a, negative);
    patch_short(a, done2);
    patch_short(a, done);
}

static void trunc_u32(struct emitter *e, struct trunc t) {
    struct as *a = &e->a;
    uint8_t d = e->as->def, x = e->as->use[0];
    cvtt(e, t, true, d, x); /* every u32 is an i64 */
    mov_rr(a, R11, d);
    op_rm(a, 0, true, 0xC1, 5, rm_reg(R11), 1, false);
    b1(a, 32);
    uint32_t done = jcc_short(a, CC_E);
    if (!t.saturating) {
        ucomi(e, t, x, rm_reg(x));
        x86_trap_if(e, CC_P, TRAP_INT_CONVERSION);
        x_rr(a, true, 0x39, RSP, RSP);
        x86_trap_if(e, CC_E, TRAP_INT_OVERFLOW);
        patch_short(a, done);
        return;
    }
    x_rr(a, false, 0x31, d, d);
    ucomi(e, t, x, float_const(e, t, 0));
    uint32_t low = jcc_short(a, CC_BE); /* also unordered */
    mov_imm(a, d, UINT32_MAX);
    patch_short(a, low);
    patch_short(a, done);
}

static void trunc_u64(struct emitter *e, struct trunc t) {
    struct as *a = &e->a;
    uint8_t d = e->as->def, x = e->as->use[0];
    struct rm two63 = float_const(e, t, 0x1p63);
    ucomi(e, t, x, two63);
    uint32_t high = jcc_short(a, CC_AE);
    cvtt(e, t, true, d, x);
    x_rr(a, true, 0x85, d, d);
    uint32_t done = jcc_short(a, CC_NS);
    uint32_t done2 = 0;
    if (t.saturating) {
        x_rr(a, false, 0x31, d, d);
        done2 = jmp_short(a);
    } else {
        ucomi(e, t, x, rm_reg(x));
        x86_trap_if(e, CC_P, TRAP_INT_CONVERSION);
        x_rr(a, true, 0x39, RSP, RSP);
        x86_trap_if(e, CC_E, TRAP_INT_OVERFLOW);
    }
    patch_short(a, high);
    v_rm(a, t.f64 ? PP_F2 : PP_F3, 1, 0x5C, XMM15, x, two63);
    cvtt(e, t, true, d, XMM15);
    x_rr(a, true, 0x85, d, d);
    if (t.saturating) {
        uint32_t fits = jcc_short(a, CC_NS), done3;
        mov_imm(a, d, ~0ull);
        done3 = jmp_short(a);
        patch_short(a, fits);
        op_rm(a, 0, true, 0x0FBA, 7, rm_reg(d), 1, false); /* btc 63 */
        b1(a, 63);
        patch_short(a, done3);
        patch_short(a, done2);
    } else {
        x86_trap_if(e, CC_S, TRAP_INT_OVERFLOW);
        op_rm(a, 0, true, 0x0FBA, 7, rm_reg(d), 1, false);
        b1(a, 63);
    }
    patch_short(a, done);
}

static void conversion(struct emitter *e, const struct ins *i) {
    struct as *a = &e->a;
    uint8_t d = e->as->def, x = e->as->use[0];
    switch (i->op) {
    case OP_I32_WRAP_I64: x_rr(a, false, 0x8B, d, x); return;
    case OP_I64_EXTEND_I32_S:
    case OP_I64_EXTEND32_S: x_rr(a, true, 0x63, d, x); return;
    case OP_I32_EXTEND8_S: op_rm(a, 0, false, 0x0FBE, d, rm_reg(x), 0, true); return;
    case OP_I32_EXTEND16_S: x_rr(a, false, 0x0FBF, d, x); return;
    case OP_I64_EXTEND8_S: op_rm(a, 0, true, 0x0FBE, d, rm_reg(x), 0, true); return;
    case OP_I64_EXTEND16_S: x_rr(a, true, 0x0FBF, d, x); return;
    case OP_F32_DEMOTE_F64: v_rrr(a, PP_F2, 1, 0x5A, d, x, x); return;
    case OP_F64_PROMOTE_F32: v_rrr(a, PP_F3, 1, 0x5A, d, x, x); return;
    case OP_I32_REINTERPRET_F32: v_rrr(a, PP_66, 1, 0x7E, x, 0, d); return;
    case OP_I64_REINTERPRET_F64: vex_rm(a, PP_66, 1, true, 0x7E, x, 0, rm_reg(d), 0); return;
    case OP_F32_REINTERPRET_I32: v_rrr(a, PP_66, 1, 0x6E, d, 0, x); return;
    case OP_F64_REINTERPRET_I64: vex_rm(a, PP_66, 1, true, 0x6E, d, 0, rm_reg(x), 0); return;
    case OP_F32_CONVERT_I32_S:
    case OP_F32_CONVERT_I32_U:
    case OP_F32_CONVERT_I64_S:
    case OP_F32_CONVERT_I64_U:
    case OP_F64_CONVERT_I32_S:
    case OP_F64_CONVERT_I32_U:
    case OP_F64_CONVERT_I64_S:
    case OP_F64_CONVERT_I64_U: int_to_float(e, i); return;
    default: {
        struct trunc t = trunc_of(i->op);
        if (t.is_signed)
            trunc_signed(e, t);
        else if (t.to64)
            trunc_u64(e, t);
        else
            trunc_u32(e, t);
    }
    }
}

/* --- calls ---------------------------------------------------------------------------------------------------------
 */

/* Remembers where exceptions that come back through this call land. Called right after the call instruction. */
static void call_site(struct emitter *e, const struct call *c) {
    struct fn *f = e->f;
    struct compiled *out = e->out;
    for (uint32_t r = c->try_region; r != NONE32 && fn_work(f, 1); r = f->tries.v[r].outer)
        for (uint32_t k = f->tries.v[r].first; k != NONE32 && fn_work(f, sizeof(struct landing));
             k = f->clauses.v[k].next) {
            struct landing l = {e->a.buf.n, f->clauses.v[k].tag, f->clauses.v[k].block};
            if (out->n_landings >= 16 ? !(out->n_landings & (out->n_landings - 1)) : !out->n_landings) {
                uint32_t cap = out->n_landings ? out->n_landings * 2 : 16;
                struct landing *grown = f->platform->realloc(f->platform->ctx, out->landings, cap * sizeof l);
                if (!grown) {
                    f->failed = true;
                    return;
                }
                out->landings = grown;
            }
            out->landings[out->n_landings++] = l;
        }
}

/* An immediate that becomes the engine's id of one of the module's types when the code is installed. */
static void type_id4(struct emitter *e, uint32_t type) {
    vec_push(e->f, e->relocations, ((struct relocation){e->a.buf.n, type}));
    b4(&e->a, 0);
}

/* r11 = the function that r10 (index or reference) names, its type checked. */
static void find_callee(struct emitter *e, const struct call *c) {
    struct as *a = &e->a;
    const struct module *m = e->f->module;
    if (c->kind == CALL_REF) { /* the type is the validator's business; null is ours */
        x_rr(a, true, 0x85, R10, R10);
        x86_trap_if(e, CC_E, TRAP_NULL_FUNC);
        mov_rr(a, R11, R10);
        return;
    }
    x_rm(a, true, 0x8B, R11, rm_mem(REG_VM, (int32_t)vm_table(m, c->index)));
    alu_rm(a, true, ALU_CMP, R10, rm_mem(R11, offsetof(struct table, size)));
    x86_trap_if(e, CC_AE, TRAP_TABLE_ELEM);
    x_rm(a, true, 0x8B, R11, rm_mem(R11, offsetof(struct table, elems)));
    x_rm(a, true, 0x8B, R11, rm_index(R11, R10, 3, 0));
    x_rr(a, true, 0x85, R11, R11);
    x86_trap_if(e, CC_E, TRAP_NULL_ELEM);
    op_rm(a, 0, false, 0x81, ALU_CMP, rm_mem(R11, offsetof(struct func, type_id)), 4, false);
    type_id4(e, c->type);
    if (type_get(m->engine, m->type_ids[c->type])->final) {
        x86_trap_if(e, CC_NE, TRAP_INDIRECT_TYPE);
        return;
    }
    uint32_t at = jcc_forward(a, CC_NE);
    vec_push(e->f, e->detours, ((struct detour){DETOUR_SUBTYPE, at, a->buf.n, c->type, e->ins}));
}

static void call_memory(struct emitter *e, uint8_t base, int32_t disp) {
    x_rm(&e->a, false, 0xFF, 2, rm_mem(base, disp));
}

static void call_function(struct emitter *e, const struct call *c) {
    struct as *a = &e->a;
    const struct module *m = e->f->module;
    if (c->kind == CALL_DIRECT && c->index >= m->n_func_imports) {
        call_memory(e, REG_VM, (int32_t)vm_code(c->index));
        call_site(e, c);
        return;
    }
    if (c->kind == CALL_DIRECT) {
        x_rm(a, true, 0x8B, R11, rm_mem(REG_VM, (int32_t)vm_func(m, c->index)));
        call_memory(e, REG_VM, offsetof(struct vmctx, cross_stub));
        call_site(e, c);
        return;
    }
    find_callee(e, c);
    alu_rm(a, true, ALU_CMP, REG_VM, rm_mem(R11, offsetof(struct func, vm)));
    uint32_t at = jcc_forward(a, CC_NE);
    call_memory(e, R11, offsetof(struct func, native));
    call_site(e, c);
    vec_push(e->f, e->detours, ((struct detour){DETOUR_CROSS, at, a->buf.n, 0, e->ins}));
}

static void call_helper(struct emitter *e, const struct call *c) {
    struct as *a = &e->a;
    mov_rr(a, RDI, REG_VM);
    mov_rr(a, RSI, RSP);
    call_memory(e, REG_VM, (int32_t)(offsetof(struct vmctx, helpers) + 8 * c->index));
    call_site(e, c);
    x_rr(a, false, 0x85, RAX, RAX);
    x86_trap_if(e, CC_NE, TRAP_NONE);
}

static void leave_frame(struct emitter *e) {
    if (e->frame) alu_imm(&e->a, true, ALU_ADD, rm_reg(RSP), (int32_t)e->frame);
}

static void tail_call(struct emitter *e, const struct call *c) {
    struct as *a = &e->a;
    const struct module *m = e->f->module;
    if (c->kind == CALL_DIRECT) {
        x_rm(a, true, 0x8B, R11, rm_mem(REG_VM, (int32_t)vm_func(m, c->index)));
        if (c->index >= m->n_func_imports) {
            leave_frame(e);
            x_rm(a, false, 0xFF, 4, rm_mem(R11, offsetof(struct func, native)));
            return;
        }
    } else {
        find_callee(e, c);
    }
    /* To another instance: call and return, so that our own context comes back. */
    alu_rm(a, true, ALU_CMP, REG_VM, rm_mem(R11, offsetof(struct func, vm)));
    uint32_t other = jcc_short(a, CC_NE);
    leave_frame(e);
    x_rm(a, false, 0xFF, 4, rm_mem(R11, offsetof(struct func, native)));
    patch_short(a, other);
    call_memory(e, REG_VM, offsetof(struct vmctx, cross_stub));
    leave_frame(e);
    b1(a, 0xC3);
}

static void call_result(struct emitter *e, const struct ins *i) {
    const struct call *c = &e->f->calls.v[ins_of(e, i->a)->imm];
    if (e->as->use[0] != REG_NONE) return;
    struct rm from = rm_mem(RSP, 0);
    if (c->kind != CALL_HELPER) {
        uint32_t slot = 0;
        if (e->results_of != i->a) e->results_of = i->a, e->results_seen = 0, e->results = (struct convention){0};
        while (e->results_seen <= i->imm) /* results stand in order behind their call */
            target_next_place(&e->results, ins_of(e, e->f->args.v[c->results + e->results_seen++])->type, &slot);
        from = overflow_rm(e, slot);
    }
    if (i->type == KIND_I32)
        x_rm(&e->a, false, 0x8B, e->as->def, from);
    else
        load(e, e->as->def, from, i->type == KIND_V128);
}

static void parameter(struct emitter *e, const struct ins *i) {
    if (e->as->use[0] != REG_NONE) return;
    struct convention conv = {0};
    uint32_t slot = 0;
    const struct functype *t = e->f->type;
    for (uint32_t k = 0; k <= i->imm; k++)
        target_next_place(&conv, vt_is_ref(t->params[k]) ? KIND_I64 : (uint8_t)vt_kind(t->params[k]), &slot);
    load(e, e->as->def, overflow_rm(e, slot), i->type == KIND_V128);
}

/* --- control -------------------------------------------------------------------------------------------------------
 */

/* Code is emitted twice: all jumps long at first, then those short whose distance in the first emission allows it. The
 * second emission makes no distance longer. */
enum { NEAR = 120 };
static bool near(struct emitter *e, uint32_t block) {
    uint32_t k = e->jumps.n;
    vec_push(e->f, e->jumps, e->a.buf.n);
    if (!e->first_jumps) return false;
    int64_t distance = (int64_t)e->first_block_at[block] - e->first_jumps[k];
    return distance > -NEAR && distance < NEAR;
}

static void jump(struct emitter *e, uint32_t block) {
    bool short_ = near(e, block);
    b1(&e->a, short_ ? 0xEB : 0xE9);
    vec_push(e->f, e->a.block_fixups, ((struct fixup){e->a.buf.n, block, 0, short_}));
    if (short_)
        b1(&e->a, 0);
    else
        b4(&e->a, 0);
}

static void jump_if(struct emitter *e, uint8_t cc, uint32_t block) {
    bool short_ = near(e, block);
    uint32_t at = short_ ? jcc_short(&e->a, cc) : jcc_forward(&e->a, cc);
    vec_push(e->f, e->a.block_fixups, ((struct fixup){at, block, 0, short_}));
}

/* Moves of an edge stand at its target's start when no other edge leads there. */
static bool moves_at_target(const struct fn *f, const struct edge *g) {
    return f->blocks.v[g->to].n_preds == 1;
}

static void branch(struct emitter *e, const struct ins *i, uint32_t block) {
    struct fn *f = e->f;
    struct as *a = &e->a;
    const struct edge *g = &f->edges.v[f->blocks.v[block].edges], taken = g[0], other = g[1];
    struct condition c = condition(e, i->a, 0);
    bool taken_moves = taken.n_moves && !moves_at_target(f, &taken),
         other_moves = other.n_moves && !moves_at_target(f, &other);
    bool taken_next = taken.to == block + 1 && !taken_moves, other_next = other.to == block + 1;
    if (taken_next && !other_moves && !c.parity) { /* if: jump over the arm */
        jump_if(e, c.cc ^ 1, other.to);
        return;
    }
    if (!taken_moves) {
        if (c.parity == PARITY_AND) {
            uint32_t nan = jcc_short(a, CC_P);
            jump_if(e, c.cc, taken.to);
            patch_short(a, nan);
        } else {
            if (c.parity == PARITY_OR) jump_if(e, CC_P, taken.to);
            jump_if(e, c.cc, taken.to);
        }
    } else {
        uint32_t skip, nan = 0, yes = 0;
        if (c.parity == PARITY_AND) nan = jcc_forward(a, CC_P);
        if (c.parity == PARITY_OR) yes = jcc_short(a, CC_P);
        skip = jcc_forward(a, c.cc ^ 1);
        if (yes) patch_short(a, yes);
        moves(e, taken.moves, taken.n_moves);
        if (as_room(a)) jump(e, taken.to);
        patch4(a, skip, a->buf.n);
        if (nan) patch4(a, nan, a->buf.n);
    }
    if (other_moves) moves(e, other.moves, other.n_moves);
    if (!other_next && as_room(a)) jump(e, other.to);
}

static void switch_(struct emitter *e, const struct ins *i, uint32_t block) {
    struct fn *f = e->f;
    struct as *a = &e->a;
    const struct block *b = &f->blocks.v[block];
    uint8_t index = e->as->use[0], t = e->as->temp;
    uint32_t n = i->aux, cases = (uint32_t)i->imm;
    /* Edges with moves get a stub, after the table. */
    alu_imm(a, false, ALU_CMP, rm_reg(index), (int32_t)n);
    uint32_t beyond = jcc_forward(a, CC_AE);
    b1(a, 0x4C); /* lea r11, [rip + table] */
    b1(a, 0x8D);
    b1(a, 0x1D);
    b4(a, 0);
    uint32_t lea_at = a->buf.n - 4;
    x_rm(a, true, 0x63, t, rm_index(R11, index, 2, 0));
    x_rr(a, true, 0x01, R11, t);
    x_rm(a, false, 0xFF, 4, rm_reg(t));
    uint32_t table = a->buf.n;
    patch4(a, lea_at, table);
    if (!vec_reserve(f, &a->buf, 1, 4 * n + 256)) return;
    for (uint32_t k = 0; k < n; k++)
        b4(a, 0);
    e->edge_stubs.n = 0;
    for (uint32_t k = 0; k < b->n_edges && !f->failed; k++) {
        const struct edge *g = &f->edges.v[b->edges + k];
        bool stub = g->n_moves && !moves_at_target(f, g);
        vec_push(f, e->edge_stubs, stub ? a->buf.n : 0);
        if (!stub) continue;
        moves(e, g->moves, g->n_moves);
        if (as_room(a)) jump(e, g->to);
    }
    for (uint32_t c = 0; c <= n && !f->failed; c++) {
        uint32_t k = f->args.v[cases + c], stub = e->edge_stubs.v[k], to = f->edges.v[b->edges + k].to;
        if (c == n && stub)
            patch4(a, beyond, stub);
        else if (c == n)
            vec_push(f, a->block_fixups, ((struct fixup){beyond, to, 0, false}));
        else if (stub) {
            uint32_t d = stub - table;
            memcpy(a->buf.v + table + 4 * c, &d, 4);
        } else {
            vec_push(f, a->block_fixups, ((struct fixup){table + 4 * c, to, table, false}));
        }
    }
}

static void terminator(struct emitter *e, const struct ins *i, uint32_t block) {
    struct fn *f = e->f;
    struct as *a = &e->a;
    switch (i->op) {
    case IR_JUMP: {
        const struct edge *g = &f->edges.v[f->blocks.v[block].edges];
        if (!moves_at_target(f, g)) moves(e, g->moves, g->n_moves);
        if (g->to != block + 1 && as_room(a)) jump(e, g->to);
        return;
    }
    case IR_BRANCH: branch(e, i, block); return;
    case IR_SWITCH: switch_(e, i, block); return;
    case IR_RETURN:
        leave_frame(e);
        b1(a, 0xC3);
        return;
    case IR_TAIL: tail_call(e, &f->calls.v[i->imm]); return;
    default:
        mov_imm(a, RAX, i->imm);
        call_memory(e, REG_VM, offsetof(struct vmctx, exit_stub));
        return;
    }
}

/* --- objects -------------------------------------------------------------------------------------------------------
 */

static void object_load(struct emitter *e, const struct ins *i, struct rm m) {
    struct as *a = &e->a;
    const uint8_t d = e->as->def;
    switch ((enum access)(i->aux & 0xff)) {
    case ACCESS_8_S: x_rm(a, false, 0x0FBE, d, m); return;
    case ACCESS_8_U: x_rm(a, false, 0x0FB6, d, m); return;
    case ACCESS_16_S: x_rm(a, false, 0x0FBF, d, m); return;
    case ACCESS_16_U: x_rm(a, false, 0x0FB7, d, m); return;
    case ACCESS_32: x_rm(a, false, 0x8B, d, m); return;
    case ACCESS_64: x_rm(a, true, 0x8B, d, m); return;
    case ACCESS_F32: v_rm(a, PP_F3, 1, 0x10, d, 0, m); return;
    case ACCESS_F64: v_rm(a, PP_F2, 1, 0x10, d, 0, m); return;
    case ACCESS_V128: v_rm(a, PP_NONE, 1, 0x10, d, 0, m); return;
    }
}

static void object_store(struct emitter *e, const struct ins *i, struct rm m, uint8_t v) {
    struct as *a = &e->a;
    switch ((enum access)(i->aux & 0xff)) {
    case ACCESS_8_S:
    case ACCESS_8_U: op_rm(a, 0, false, 0x88, v, m, 0, true); return;
    case ACCESS_16_S:
    case ACCESS_16_U: op_rm(a, 0x66, false, 0x89, v, m, 0, false); return;
    case ACCESS_32: x_rm(a, false, 0x89, v, m); return;
    case ACCESS_64: x_rm(a, true, 0x89, v, m); return;
    case ACCESS_F32: v_rm(a, PP_F3, 1, 0x11, v, 0, m); return;
    case ACCESS_F64: v_rm(a, PP_F2, 1, 0x11, v, 0, m); return;
    case ACCESS_V128: v_rm(a, PP_NONE, 1, 0x11, v, 0, m); return;
    }
}

static void null_check(struct emitter *e, const struct ins *i) {
    if (!(i->aux >> 8)) return;
    x_rr(&e->a, true, 0x85, e->as->use[0], e->as->use[0]);
    x86_trap_if(e, CC_E, (enum trap_kind)(i->aux >> 8));
}

/* An element's place, after the checks. */
static struct rm element_rm(struct emitter *e, const struct ins *i) {
    static const uint8_t scales[] = {
        [ACCESS_8_S] = 0, [ACCESS_8_U] = 0, [ACCESS_16_S] = 1, [ACCESS_16_U] = 1, [ACCESS_32] = 2,
        [ACCESS_64] = 3,  [ACCESS_F32] = 2, [ACCESS_F64] = 3,  [ACCESS_V128] = 4};
    struct as *a = &e->a;
    const uint8_t array = e->as->use[0], index = e->as->use[1], scale = scales[i->aux & 0xff];
    null_check(e, i);
    alu_rm(a, false, ALU_CMP, index, rm_mem(array, offsetof(struct object, length)));
    x86_trap_if(e, CC_AE, TRAP_ARRAY);
    if (scale < 4) return rm_index(array, index, scale, OBJECT_ELEMS);
    mov_rr(a, R11, index);
    x_rr(a, true, 0x01, R11, R11);
    return rm_index(array, R11, 3, OBJECT_ELEMS);
}

static void is_exact(struct emitter *e, const struct ins *i) {
    struct as *a = &e->a;
    const uint8_t d = e->as->def, r = e->as->use[0];
    if (i->aux)
        mov_imm(a, d, 1);
    else
        x_rr(a, false, 0x31, d, d);
    x_rr(a, true, 0x85, r, r);
    uint32_t null = jcc_short(a, CC_E);
    if (i->aux) x_rr(a, false, 0x31, d, d);
    op_rm(a, 0, false, 0xF6, 0, rm_reg(r), 1, true);
    b1(a, REF_TAGS);
    uint32_t other = jcc_short(a, CC_NE);
    op_rm(a, 0, false, 0x81, ALU_CMP, rm_mem(r, offsetof(struct object, type_id)), 4, false);
    type_id4(e, (uint32_t)i->imm);
    op_rm(a, 0, false, 0x0F94, 0, rm_reg(d), 0, true);
    patch_short(a, other);
    patch_short(a, null);
}

static void object(struct emitter *e, const struct ins *i) {
    switch (i->op) {
    case IR_FIELD_GET:
        null_check(e, i);
        object_load(e, i, rm_mem(e->as->use[0], (int32_t)i->imm));
        return;
    case IR_FIELD_SET:
        null_check(e, i);
        object_store(e, i, rm_mem(e->as->use[0], (int32_t)i->imm), e->as->use[1]);
        return;
    case IR_ELEM_GET: object_load(e, i, element_rm(e, i)); return;
    case IR_ELEM_SET: object_store(e, i, element_rm(e, i), e->as->use[2]); return;
    case IR_IS_EXACT: is_exact(e, i); return;
    case IR_SET_TYPE:
        op_rm(&e->a, 0, false, 0xC7, 0, rm_mem(e->as->use[0], offsetof(struct object, type_id)), 4, false);
        type_id4(e, (uint32_t)i->imm);
        return;
    default: /* IR_CHECK */
        x_rr(&e->a, false, 0x85, e->as->use[0], e->as->use[0]);
        x86_trap_if(e, CC_E, (enum trap_kind)i->imm);
        return;
    }
}

/* --- one instruction -----------------------------------------------------------------------------------------------
 */

static void ir_instruction(struct emitter *e, const struct ins *i) {
    struct as *a = &e->a;
    uint8_t d = e->as->def;
    switch (i->op) {
    case IR_SELECT: select_(e, i); return;
    case IR_CALL: {
        const struct call *c = &e->f->calls.v[i->imm];
        if (c->kind == CALL_HELPER)
            call_helper(e, c);
        else
            call_function(e, c);
        return;
    }
    case IR_RESULT: call_result(e, i); return;
    case IR_PARAM: parameter(e, i); return;
    case IR_PAYLOAD: {
        struct rm from = rm_mem(e->as->use[0], (int32_t)(offsetof(struct exn, payload) + 8 * i->imm));
        if (i->type == KIND_I32)
            x_rm(a, false, 0x8B, d, from);
        else
            load(e, d, from, i->type == KIND_V128);
        return;
    }
    case IR_SLOT_GET: load(e, d, rm_mem(RSP, (int32_t)(e->locals + 8 * i->imm)), i->type == KIND_V128); return;
    case IR_SLOT_SET:
        store(e, rm_mem(RSP, (int32_t)(e->locals + 8 * i->imm)), e->as->use[0], i->type == KIND_V128);
        return;
    case IR_FUEL:
        x_rm(a, true, 0x8B, R11, rm_mem(REG_VM, offsetof(struct vmctx, store)));
        alu_imm(a, true, ALU_SUB, rm_mem(R11, offsetof(struct store, fuel)), (int32_t)i->imm);
        x86_trap_if(e, CC_B, TRAP_FUEL);
        return;
    case IR_NULL_CHECK:
        tie(e);
        x_rr(a, true, 0x85, d, d);
        x86_trap_if(e, CC_E, (enum trap_kind)i->imm);
        return;
    case IR_FIELD_GET:
    case IR_FIELD_SET:
    case IR_ELEM_GET:
    case IR_ELEM_SET:
    case IR_IS_EXACT:
    case IR_SET_TYPE:
    case IR_CHECK: object(e, i); return;
    default: return; /* phis, the exception in its register */
    }
}

static void numeric(struct emitter *e, const struct ins *i) {
    struct as *a = &e->a;
    uint8_t d = e->as->def;
    switch (i->op) {
    case OP_I32_ADD: add(e, i, false); return;
    case OP_I64_ADD: add(e, i, true); return;
    case OP_I32_SUB: alu(e, i, ALU_SUB, false); return;
    case OP_I64_SUB: alu(e, i, ALU_SUB, true); return;
    case OP_I32_AND: alu(e, i, ALU_AND, false); return;
    case OP_I64_AND: alu(e, i, ALU_AND, true); return;
    case OP_I32_OR: alu(e, i, ALU_OR, false); return;
    case OP_I64_OR: alu(e, i, ALU_OR, true); return;
    case OP_I32_XOR: alu(e, i, ALU_XOR, false); return;
    case OP_I64_XOR: alu(e, i, ALU_XOR, true); return;
    case OP_I32_MUL: multiply(e, i, false); return;
    case OP_I64_MUL: multiply(e, i, true); return;
    case OP_I32_SHL:
    case OP_I32_SHR_S:
    case OP_I32_SHR_U:
    case OP_I32_ROTL:
    case OP_I32_ROTR: shift(e, i, i->op - OP_I32_SHL, false); return;
    case OP_I64_SHL:
    case OP_I64_SHR_S:
    case OP_I64_SHR_U:
    case OP_I64_ROTL:
    case OP_I64_ROTR: shift(e, i, i->op - OP_I64_SHL, true); return;
    case OP_I32_DIV_S: divide(e, i, true, false, false); return;
    case OP_I32_DIV_U: divide(e, i, false, false, false); return;
    case OP_I32_REM_S: divide(e, i, true, true, false); return;
    case OP_I32_REM_U: divide(e, i, false, true, false); return;
    case OP_I64_DIV_S: divide(e, i, true, false, true); return;
    case OP_I64_DIV_U: divide(e, i, false, false, true); return;
    case OP_I64_REM_S: divide(e, i, true, true, true); return;
    case OP_I64_REM_U: divide(e, i, false, true, true); return;
    case OP_I32_CLZ: op_rm(a, 0xF3, false, 0x0FBD, d, use_rm(e, 0), 0, false); return;
    case OP_I32_CTZ: op_rm(a, 0xF3, false, 0x0FBC, d, use_rm(e, 0), 0, false); return;
    case OP_I32_POPCNT: op_rm(a, 0xF3, false, 0x0FB8, d, use_rm(e, 0), 0, false); return;
    case OP_I64_CLZ: op_rm(a, 0xF3, true, 0x0FBD, d, use_rm(e, 0), 0, false); return;
    case OP_I64_CTZ: op_rm(a, 0xF3, true, 0x0FBC, d, use_rm(e, 0), 0, false); return;
    case OP_I64_POPCNT: op_rm(a, 0xF3, true, 0x0FB8, d, use_rm(e, 0), 0, false); return;
    case OP_F32_ADD: float_binary(e, i, 0x58, false); return;
    case OP_F32_SUB: float_binary(e, i, 0x5C, false); return;
    case OP_F32_MUL: float_binary(e, i, 0x59, false); return;
    case OP_F32_DIV: float_binary(e, i, 0x5E, false); return;
    case OP_F64_ADD: float_binary(e, i, 0x58, true); return;
    case OP_F64_SUB: float_binary(e, i, 0x5C, true); return;
    case OP_F64_MUL: float_binary(e, i, 0x59, true); return;
    case OP_F64_DIV: float_binary(e, i, 0x5E, true); return;
    case OP_F32_MIN: float_minmax(e, false, false); return;
    case OP_F32_MAX: float_minmax(e, true, false); return;
    case OP_F64_MIN: float_minmax(e, false, true); return;
    case OP_F64_MAX: float_minmax(e, true, true); return;
    case OP_F32_SQRT: v_rrr(a, PP_F3, 1, 0x51, d, e->as->use[0], e->as->use[0]); return;
    case OP_F64_SQRT: v_rrr(a, PP_F2, 1, 0x51, d, e->as->use[0], e->as->use[0]); return;
    case OP_F32_ABS:
    case OP_F32_NEG:
    case OP_F32_COPYSIGN:
    case OP_F64_ABS:
    case OP_F64_NEG:
    case OP_F64_COPYSIGN: float_sign(e, i); return;
    case OP_F32_CEIL:
    case OP_F32_FLOOR:
    case OP_F32_TRUNC:
    case OP_F32_NEAREST:
    case OP_F64_CEIL:
    case OP_F64_FLOOR:
    case OP_F64_TRUNC:
    case OP_F64_NEAREST: float_round(e, i); return;
    default: conversion(e, i); return;
    }
}

static void instruction(struct emitter *e, const struct ins *i) {
    if (i->op >= OPCODE_LIMIT) {
        ir_instruction(e, i);
    } else if (i->op >= OP_BASE_FD) {
        x86_simd(e, i);
    } else if (i->op >= OP_I32_LOAD && i->op <= OP_I64_LOAD32_U) {
        memory_load(e, i);
    } else if (i->op >= OP_I32_STORE && i->op <= OP_I64_STORE32) {
        memory_store(e, i);
    } else if (i->op == OP_GLOBAL_GET || i->op == OP_GLOBAL_SET || i->op == OP_MEMORY_SIZE || i->op == OP_TABLE_SIZE ||
               i->op == OP_REF_FUNC) {
        variable(e, i);
    } else if (x86_is_int_compare(i->op) || x86_is_float_compare(i->op) || i->op == OP_I32_EQZ || i->op == OP_I64_EQZ) {
        compare(e, i);
    } else {
        numeric(e, i);
    }
}

/* The load that is made as part of this instruction, and may trap; 0: none. */
static ref fused_load(const struct fn *f, ref v) {
    const struct ins *i = &f->ins.v[v];
    const ref operands[3] = {i->a, i->b, i->c};
    for (unsigned k = 0; k < 3; k++) {
        const struct ins *x = &f->ins.v[operands[k]];
        if (!(x->flags & INS_FUSED)) continue;
        ref load =
            x->op < OPCODE_LIMIT && opcode_table[x->op].imm == IMM_MEMARG ? operands[k] : fused_load(f, operands[k]);
        if (load) return load;
    }
    return 0;
}

static void emit_instruction(struct emitter *e, ref v, uint32_t block) {
    struct fn *f = e->f;
    const struct ins *i = &f->ins.v[v];
    if ((i->flags & (INS_LIVE | INS_FUSED)) != INS_LIVE || i->op == IR_CONST || i->op == IR_CONST128) return;
    e->ins = v;
    e->as = &e->al->at[v];
    const ref load = fused_load(f, v);
    vec_push(f, e->positions, ((struct position){e->a.buf.n, v, load ? load : v}));
    uint32_t first = e->al->moves_at[2 * v], n = e->al->moves_at[2 * v + 1] - first;
    moves(e, first, n);
    struct operands o = {0};
    if (i->op != IR_CALL && i->op != IR_TAIL && i->op != IR_RETURN && i->op != IR_RESULT && i->op != IR_PARAM &&
        i->op != IR_PHI) {
        target_operands(f, v, &o);
        if (e->as->swapped) {
            ref t = o.use[0].value;
            o.use[0].value = o.use[1].value;
            o.use[1].value = t;
        }
    }
    e->o = &o;
    if (!as_room(&e->a)) return;
    if (ir_is_terminator(i->op))
        terminator(e, i, block);
    else
        instruction(e, i);
    if ((i->flags & INS_SPILL) && e->as->def != REG_NONE && as_room(&e->a))
        store(e, slot_rm(e, v), e->as->def, i->type == KIND_V128);
}

/* --- the function --------------------------------------------------------------------------------------------------
 */

/* Functions that call anything make sure that C code has room below them: helpers, hosts, the unwinder, a signal
 * handler without a stack of its own. Others may reach PROBE bytes into that room. */
enum { PROBE = 4096 };

static void prologue(struct emitter *e) {
    struct as *a = &e->a;
    if (e->frame > PROBE || !e->leaf) {
        uint8_t lowest = e->frame > PROBE ? R11 : RSP;
        if (e->frame > PROBE) x_rm(a, true, 0x8D, R11, rm_mem(RSP, -(int32_t)e->frame));
        alu_rm(a, true, ALU_CMP, lowest, rm_mem(REG_VM, offsetof(struct vmctx, stack_limit)));
        x86_trap_if(e, CC_B, TRAP_STACK);
    }
    if (e->frame) alu_imm(a, true, ALU_SUB, rm_reg(RSP), (int32_t)e->frame);
}

/* Reads the page before the context: no access there means an interrupt is pending. One load, no branch. */
static void loop_check(struct emitter *e) {
    if (e->f->no_faults) {
        alu_imm(&e->a, false, ALU_CMP, rm_mem(REG_VM, offsetof(struct vmctx, interrupt)), 0);
        x86_trap_if(e, CC_NE, TRAP_INTERRUPT);
        return;
    }
    x_rm(&e->a, false, 0x85, RAX, rm_mem(REG_VM, -VM_POLL_PAGE)); /* POLL_SIZE bytes: the load is passed over then */
}

/* Innermost loops begin at a multiple of LOOP_ALIGN. The first emission pads as much as could ever be necessary, so
 * that the second makes no distance longer. */
enum { LOOP_ALIGN = 32 };
static void align_loop(struct emitter *e) {
    static const uint8_t nops[9][9] = {{0x90},
                                       {0x66, 0x90},
                                       {0x0F, 0x1F, 0x00},
                                       {0x0F, 0x1F, 0x40, 0x00},
                                       {0x0F, 0x1F, 0x44, 0x00, 0x00},
                                       {0x66, 0x0F, 0x1F, 0x44, 0x00, 0x00},
                                       {0x0F, 0x1F, 0x80, 0x00, 0x00, 0x00, 0x00},
                                       {0x0F, 0x1F, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00},
                                       {0x66, 0x0F, 0x1F, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00}};
    struct as *a = &e->a;
    uint32_t pad = e->first_jumps ? -a->buf.n % LOOP_ALIGN : LOOP_ALIGN - 1;
    if (!vec_reserve(e->f, &a->buf, 1, LOOP_ALIGN + 64)) return;
    for (uint32_t n; pad; pad -= n) {
        n = pad < 9 ? pad : 9;
        for (uint32_t k = 0; k < n; k++)
            b1(a, nops[n - 1][k]);
    }
}

/* Not those with calls: they are left again soon, or their calls cost more than where they begin. */
static bool is_innermost(const struct fn *f, const struct block *b, uint32_t index) {
    if (b->loop == NONE32 || f->loops.v[b->loop].header != index) return false;
    if (b->loop + 1 != f->loops.n && f->loops.v[b->loop + 1].parent == b->loop) return false;
    const struct loop *l = &f->loops.v[b->loop];
    for (ref v = l->start; v < l->end; v++)
        if (f->ins.v[v].op == IR_CALL) return false;
    return true;
}

static void emit_block(struct emitter *e, uint32_t index) {
    struct fn *f = e->f;
    const struct block *b = &f->blocks.v[index];
    e->ins = b->first;
    if (!as_room(&e->a)) return;
    if (is_innermost(f, b, index)) align_loop(e);
    e->block_at[index] = e->a.buf.n;
    vec_push(f, e->positions, ((struct position){e->a.buf.n, b->first, b->first}));
    if (b->loop != NONE32 && f->loops.v[b->loop].header == index) loop_check(e);
    if (b->n_preds == 1) {
        const struct edge *g = &f->edges.v[f->preds.v[b->preds]];
        moves(e, g->moves, g->n_moves);
        if (!as_room(&e->a)) return;
    }
    for (ref v = b->first; v < b->end && !f->failed; v++)
        emit_instruction(e, v, index);
}

static void emit_traps(struct emitter *e) {
    struct as *a = &e->a;
    for (uint32_t k = 0; k < e->traps.n && as_room(a); k++) {
        struct trap_jump t = e->traps.v[k];
        vec_push(e->f, e->positions, ((struct position){a->buf.n, t.ins, t.ins}));
        patch4(a, t.at, a->buf.n);
        if (t.kind == TRAP_INTERRUPT) { /* a loop: on with it, in the end */
            x_rm(a, false, 0xFF, 2, rm_mem(REG_VM, offsetof(struct vmctx, attend_stub)));
            b1(a, 0xE9);
            b4(a, 0);
            patch4(a, a->buf.n - 4, t.at + 4);
            continue;
        }
        if (t.kind != TRAP_NONE) mov_imm(a, RAX, t.kind);
        /* Out of stack before there is a frame: to the unwinder this comes from the caller. */
        x_rm(a, false, 0xFF, t.kind == TRAP_STACK ? 4 : 2, rm_mem(REG_VM, offsetof(struct vmctx, exit_stub)));
        /* A helper that threw: to the unwinder the exception comes from here. */
        if (t.kind == TRAP_NONE) call_site(e, &e->f->calls.v[e->f->ins.v[t.ins].imm]);
    }
}

static void emit_detours(struct emitter *e) {
    struct as *a = &e->a;
    for (uint32_t k = 0; k < e->detours.n && as_room(a); k++) {
        struct detour d = e->detours.v[k];
        e->ins = d.ins;
        vec_push(e->f, e->positions, ((struct position){a->buf.n, d.ins, d.ins}));
        patch4(a, d.at, a->buf.n);
        if (d.kind == DETOUR_CROSS) {
            x_rm(a, false, 0xFF, 2, rm_mem(REG_VM, offsetof(struct vmctx, cross_stub)));
            call_site(e, &e->f->calls.v[e->f->ins.v[d.ins].imm]);
        } else { /* r11 function, r10 the wanted type: back, or a trap */
            b1(a, 0x41), b1(a, 0xB8 | (R10 & 7));
            type_id4(e, d.type);
            x_rm(a, false, 0xFF, 2, rm_mem(REG_VM, offsetof(struct vmctx, subtype_stub)));
        }
        b1(a, 0xE9);
        b4(a, 0);
        patch4(a, a->buf.n - 4, d.back);
    }
}

/* Appends the pool and fills in every displacement. Gives the code's size without the pool. */
static uint32_t link(struct emitter *e) {
    struct as *a = &e->a;
    struct fn *f = e->f;
    uint32_t size = a->buf.n;
    if (f->failed) return 0;
    for (uint32_t k = 0; k < a->block_fixups.n; k++) {
        struct fixup x = a->block_fixups.v[k];
        uint32_t to = e->block_at[x.target];
        if (x.near)
            a->buf.v[x.at] = (uint8_t)(to - x.at - 1);
        else if (x.after)
            to -= x.after, memcpy(a->buf.v + x.at, &to, 4); /* switch table: relative to its start */
        else
            patch4(a, x.at, to);
    }
    if (!vec_reserve(f, &a->buf, 1, a->pool.n + 32)) return 0;
    while (a->buf.n % 16)
        b1(a, 0xCC);
    uint32_t pool = a->buf.n;
    if (a->pool.n) memcpy(a->buf.v + pool, a->pool.v, a->pool.n);
    a->buf.n += a->pool.n;
    for (uint32_t k = 0; k < a->pool_fixups.n; k++) {
        struct fixup x = a->pool_fixups.v[k];
        uint32_t d = pool + 16 * x.target - (x.at + 4 + x.after);
        memcpy(a->buf.v + x.at, &d, 4);
    }
    for (uint32_t k = 0; k < e->out->n_landings; k++)
        e->out->landings[k].code = e->block_at[e->out->landings[k].code];
    return size;
}

static void find_source(struct emitter *e, struct compile_options *opt) {
    if (opt->find_code >= e->a.buf.n) return;
    /* Positions are not in order of code only where detours and traps follow: take the latest that begins at or before.
     */
    uint32_t best = 0, at = 0;
    for (uint32_t k = 0; k < e->positions.n; k++)
        if (e->positions.v[k].code <= opt->find_code && e->positions.v[k].code >= best)
            best = e->positions.v[k].code, at = e->positions.v[k].source;
    const struct fn *f = e->f;
    uint32_t mark = f->ins.v[at].at;
    for (; mark & AT_INLINED; mark = f->inlined.v[f->marks.v[mark & ~AT_INLINED].inlined].at) {
        const struct mark *m = &f->marks.v[mark & ~AT_INLINED];
        opt->found[opt->n_found++] = (struct source){f->inlined.v[m->inlined].func, m->at};
    }
    opt->found[opt->n_found++] = (struct source){f->index, mark};
}

static void emit_all(struct emitter *e) {
    struct fn *f = e->f;
    if (!as_room(&e->a)) return;
    vec_push(f, e->positions, ((struct position){0, 1, 1}));
    prologue(e);
    for (uint32_t b = 0; b < f->blocks.n && !f->failed; b++)
        emit_block(e, b);
    if (!f->failed) emit_detours(e);
    if (!f->failed) emit_traps(e);
}

static void emit_again(struct emitter *e) {
    e->a.buf.n = e->a.pool.n = e->a.pool_fixups.n = e->a.block_fixups.n = 0;
    e->traps.n = e->detours.n = e->positions.n = e->jumps.n = e->relocations.n = e->out->n_landings = 0;
    e->results_of = 0;
    emit_all(e);
}

static void frame_layout(struct emitter *e) {
    const struct fn *f = e->f;
    e->locals = (e->al->out_bytes + 15) & ~15u;
    e->spills = (e->locals + 8 * f->n_slots + 15) & ~15u;
    e->frame = e->spills + e->al->slot_bytes;
    e->leaf = true;
    for (uint32_t k = 0; k < f->calls.n && e->leaf; k++)
        e->leaf = f->calls.v[k].kind == CALL_RETURN;
    if (!e->leaf) e->frame = ((e->frame + 15) & ~15u) + 8; /* 16-byte alignment at calls: the return address is 8 */
}

bool target_emit_host_jump(const struct donjon_platform *p, const struct module *m, uint32_t func,
                           struct compiled *out) {
    int32_t function = (int32_t)vm_func(m, func), stub = offsetof(struct vmctx, host_stub);
    uint8_t code[14] = {0x4D, 0x8B, 0x9E, 0, 0, 0, 0, 0x41, 0xFF, 0xA6}; /* mov r11, [r14 + d]; jmp [r14 + d] */
    memcpy(code + 3, &function, 4);
    memcpy(code + 10, &stub, 4);
    *out = (struct compiled){.code = p->realloc(p->ctx, NULL, sizeof code), .size = sizeof code};
    if (out->code) memcpy(out->code, code, sizeof code);
    return out->code;
}

bool target_emit(struct fn *f, struct allocation *al, struct compile_options *opt, struct compiled *out) {
    const struct donjon_platform *p = f->platform;
    struct emitter e = {.f = f, .al = al, .out = out};
    uint32_t *first_block_at = NULL, *first_jumps = NULL;
    e.a.f = f;
    frame_layout(&e);
    e.block_at = p->realloc(p->ctx, NULL, f->blocks.n * 4 + 4);
    if (!e.block_at) f->failed = true;
    if (!f->failed) emit_all(&e);
    if (!f->failed && e.jumps.n) {
        first_block_at = e.block_at;
        first_jumps = e.jumps.v;
        e.first_block_at = first_block_at;
        e.first_jumps = first_jumps;
        e.jumps.v = NULL;
        e.jumps.cap = 0;
        e.block_at = p->realloc(p->ctx, NULL, f->blocks.n * 4 + 4);
        if (!e.block_at)
            f->failed = true;
        else
            emit_again(&e);
    }
    uint32_t code_end = link(&e);
    if (!f->failed) find_source(&e, opt);
    out->code = e.a.buf.v;
    out->size = e.a.buf.n;
    out->frame = e.frame;
    out->relocations = e.relocations.v;
    out->n_relocations = e.relocations.n;
    if (!f->failed && opt->dump) code_dump(f, opt, e.positions.v, e.positions.n, out, code_end);
    void *all[] = {e.block_at,    e.a.pool_fixups.v, e.a.block_fixups.v, e.a.pool.v,  e.traps.v,     e.detours.v,
                   e.positions.v, e.jumps.v,         first_block_at,     first_jumps, e.edge_stubs.v};
    for (size_t k = 0; k < sizeof all / sizeof *all; k++)
        p->realloc(p->ctx, all[k], 0);
    return !f->failed;
}
