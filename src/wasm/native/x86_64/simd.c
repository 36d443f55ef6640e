/* SIMD and relaxed SIMD instructions in AVX2. A table says for each what it is: one machine instruction, or one of the
 * sequences that make up the first part of this file. The results are those of ../../simd.h to the last bit, NaN
 * payloads excepted.
 *
 * In a sequence, d is the register of the result, x and y those of the operands. d may be one of an operand which ends
 * here (DEF_REG), so it is written only when no operand is needed any more; xmm14 and xmm15 hold what comes before. */
#include "vector.h"

enum row_form {
    BINARY = 1, /* code result, a, b */
    UNARY,      /* code result, a */
    CONSTANT,   /* code result, a, constants[imm] */
    EXTREME,    /* a <= b where the lesser (greater) of both is a; imm: log2 of a lane's bytes */
    LOAD,       /* code result, memory */
    ONE,        /* sequences: see their types below */
    ONE_BY,
    TWO,
    TWO_BY,
    WHOLE,
    FORM = 15,
    COMMUTES = 16, /* a constant a may change places with b */
    REVERSED = 32, /* operands in the order b, a */
    IMMEDIATE = 64,
    NEGATED = 128, /* the result's complement */
};
struct row {
    uint16_t code;
    uint8_t form, imm;
    union { /* by form; every operand in a register, but for WHOLE, whose operands whole_operands() knows */
        void (*one)(struct emitter *e, uint8_t d, uint8_t x);
        void (*one_by)(struct emitter *e, uint8_t d, uint8_t x, enum vector_code code);
        void (*two)(struct emitter *e, uint8_t d, uint8_t x, uint8_t y);
        void (*two_by)(struct emitter *e, uint8_t d, uint8_t x, uint8_t y, enum vector_code code);
        void (*whole)(struct emitter *e, const struct ins *i);
    };
};
static const struct row *row_of(const struct ins *i);

static const enum vector_code equals[3] = {VPCMPEQB, VPCMPEQW, VPCMPEQD};

enum constant { ONES8, ONES16, SIGN32, SIGN64, BELOW_SIGN32, BELOW_SIGN64 };
static const uint64_t constants[] = {
    [ONES8] = 0x0101010101010101,  [ONES16] = 0x0001000100010001,       [SIGN32] = 0x8000000080000000,
    [SIGN64] = 0x8000000000000000, [BELOW_SIGN32] = 0x7fffffff7fffffff, [BELOW_SIGN64] = 0x7fffffffffffffff,
};

/* ---- bits ---- */

static void set_zero(struct emitter *e, uint8_t d) {
    vr(e, VPXOR, d, d, d);
}
static void set_ones(struct emitter *e, uint8_t d) {
    vr(e, VPCMPEQD, d, d, d);
}

static void from_register(struct emitter *e, uint8_t d, uint8_t x, enum vector_code code) {
    vr(e, code, d, 0, x);
}

static void complement(struct emitter *e, uint8_t d, uint8_t x) {
    set_ones(e, XMM15);
    vr(e, VPXOR, d, x, XMM15);
}

/* Is every bit of a lane alike, for every shape? Then a byte-wise blend selects by it. */
static bool is_mask(const struct fn *f, ref v, unsigned depth) {
    const struct ins *i = &f->ins.v[v];
    if ((i->op >= OP_I8X16_EQ && i->op <= OP_F64X2_GE) || (i->op >= OP_I64X2_EQ && i->op <= OP_I64X2_GE_S)) return true;
    if (depth == 0) return false;
    switch (i->op) {
    case OP_V128_NOT: return is_mask(f, i->a, depth - 1);
    case OP_V128_AND:
    case OP_V128_OR:
    case OP_V128_XOR:
    case OP_V128_ANDNOT: return is_mask(f, i->a, depth - 1) && is_mask(f, i->b, depth - 1);
    default: return false;
    }
}
enum { MASK_DEPTH = 3 };

static void bitselect(struct emitter *e, const struct ins *i) {
    uint8_t d = e->as->def, x = e->as->use[0], y = e->as->use[1];
    const struct ins *mask = &e->f->ins.v[i->c];
    if (mask->op == IR_CONST128) {
        uint64_t m[2], rest[2];
        memcpy(m, e->f->vectors.v + 16 * mask->imm, 16);
        rest[0] = ~m[0], rest[1] = ~m[1];
        vm(e, VPAND, XMM15, x, rm_pool(pool_add(&e->a, m)));
        vm(e, VPAND, d, y, rm_pool(pool_add(&e->a, rest)));
        vr(e, VPOR, d, d, XMM15);
        return;
    }
    uint8_t m = e->as->use[2];
    if (is_mask(e->f, i->c, MASK_DEPTH)) {
        vblend(e, VPBLENDVB, d, y, rm_reg(x), m);
        return;
    }
    vr(e, VPAND, XMM15, m, x);
    vr(e, VPANDN, d, m, y);
    vr(e, VPOR, d, d, XMM15);
}

/* any_true, and all_true, whose row has the compare with zero. */
uint8_t x86_simd_test(struct emitter *e, const struct ins *i, uint8_t x) {
    enum vector_code equal = row_of(i)->code;
    if (!equal) {
        vr(e, VPTEST, x, 0, x);
        return CC_NE;
    }
    set_zero(e, XMM15);
    vr(e, equal, XMM15, XMM15, x);
    vr(e, VPTEST, XMM15, 0, XMM15);
    return CC_E;
}

static void test(struct emitter *e, const struct ins *i) {
    uint8_t d = e->as->def;
    x_rr(&e->a, false, 0x31, d, d);
    uint8_t cc = x86_simd_test(e, i, e->as->use[0]);
    op_rm(&e->a, 0, false, 0x0F90u | cc, 0, rm_reg(d), 0, true);
}

static void bitmask16(struct emitter *e, uint8_t d, uint8_t x) {
    vr(e, VPACKSSWB, XMM15, x, x);
    vr(e, VPMOVMSKB, d, 0, XMM15);
    op_rm(&e->a, 0, false, 0x0FB6, d, rm_reg(d), 0, true);
}

/* ---- shifts ---- */

/* Lanes of 16 (log2 4), 32 and 64 bits. */
static void shift_imm(struct emitter *e, unsigned log2, unsigned digit, uint8_t d, uint8_t x, unsigned n) {
    vri(e, log2 == 4 ? VPSHIFT_W : log2 == 5 ? VPSHIFT_D : VPSHIFT_Q, (uint8_t)digit, d, x, n);
}

static void shift_bytes_imm(struct emitter *e, unsigned digit, uint8_t d, uint8_t x, unsigned n) {
    if (digit == SHIFT_LEFT) {
        shift_imm(e, 4, SHIFT_LEFT, d, x, n);
        vm(e, VPAND, d, d, pool8(e, (uint8_t)(0xffu << n)));
        return;
    }
    if (digit == SHIFT_SIGNED && n == 7) {
        set_zero(e, XMM15);
        vr(e, VPCMPGTB, d, XMM15, x);
        return;
    }
    shift_imm(e, 4, SHIFT_RIGHT, d, x, n);
    vm(e, VPAND, d, d, pool8(e, (uint8_t)(0xffu >> n)));
    if (digit == SHIFT_RIGHT) return;
    struct rm sign = pool8(e, (uint8_t)(0x80u >> n)); /* extended: (x ^ sign) - sign */
    vm(e, VPXOR, d, d, sign);
    vm(e, VPSUBB, d, d, sign);
}

/* There is no arithmetic shift of 64 bits: the upper halves come from shifts of 32, or the sign does. */
static void shift_signed64_imm(struct emitter *e, uint8_t d, uint8_t x, unsigned n) {
    enum { UPPER = 0xA, BOTH_UPPER = 0xF5 };
    if (n == 63) {
        set_zero(e, XMM15);
        vr(e, VPCMPGTQ, d, XMM15, x);
        return;
    }
    shift_imm(e, 5, SHIFT_SIGNED, XMM15, x, n < 32 ? n : 31);
    if (n < 32) {
        shift_imm(e, 6, SHIFT_RIGHT, d, x, n);
    } else {
        if (n > 32) shift_imm(e, 5, SHIFT_SIGNED, d, x, n - 32);
        vri(e, VPSHUFD, d, 0, n > 32 ? d : x, BOTH_UPPER);
    }
    vri(e, VPBLENDD, d, d, XMM15, UPPER);
}

/* The count, modulo the lane's width, to xmm15. */
static void shift_count(struct emitter *e, unsigned log2, unsigned more) {
    x_rm(&e->a, false, 0x8B, R11, use_rm(e, 1));
    alu_imm(&e->a, false, ALU_AND, rm_reg(R11), (1 << log2) - 1);
    if (more) alu_imm(&e->a, false, ALU_ADD, rm_reg(R11), (int32_t)more);
    vr(e, VMOVD, XMM15, 0, R11);
}

static void shift_bytes(struct emitter *e, unsigned digit, uint8_t d, uint8_t x) {
    if (digit == SHIFT_SIGNED) { /* as the upper halves of words */
        shift_count(e, 3, 8);
        vr(e, VPUNPCKLBW, XMM14, x, x);
        vr(e, VPUNPCKHBW, d, x, x);
        vr(e, VPSRAW, XMM14, XMM14, XMM15);
        vr(e, VPSRAW, d, d, XMM15);
        vr(e, VPACKSSWB, d, XMM14, d);
        return;
    }
    shift_count(e, 3, 0);
    set_ones(e, XMM14); /* 0xff >> n in every byte: what stays within the bytes */
    shift_imm(e, 4, SHIFT_RIGHT, XMM14, XMM14, 8);
    vr(e, VPSRLW, XMM14, XMM14, XMM15);
    vr(e, VPACKUSWB, XMM14, XMM14, XMM14);
    if (digit == SHIFT_LEFT) {
        vr(e, VPAND, XMM14, XMM14, x);
        vr(e, VPSLLW, d, XMM14, XMM15);
    } else {
        vr(e, VPSRLW, d, x, XMM15);
        vr(e, VPAND, d, d, XMM14);
    }
}

static void shift(struct emitter *e, const struct ins *i) {
    static const uint8_t digits[3] = {SHIFT_LEFT, SHIFT_SIGNED, SHIFT_RIGHT};
    static const uint16_t base[7] = {0, 0, 0, OP_I8X16_SHL, OP_I16X8_SHL, OP_I32X4_SHL, OP_I64X2_SHL};
    static const enum vector_code adds[7] = {0, 0, 0, VPADDB, VPADDW, VPADDD, VPADDQ};
    static const enum vector_code codes[3][3] = {
        {VPSLLW, VPSLLD, VPSLLQ}, {VPSRAW, VPSRAD, 0}, {VPSRLW, VPSRLD, VPSRLQ}};
    unsigned log2 = row_of(i)->imm, which = i->op - base[log2];
    uint8_t d = e->as->def, x = e->as->use[0], digit = digits[which];
    int32_t imm;
    if (x86_imm(e->f, i->b, false, &imm)) {
        unsigned n = (unsigned)imm & ((1u << log2) - 1);
        if (n == 0)
            vmove(e, d, x);
        else if (n == 1 && digit == SHIFT_LEFT)
            vr(e, adds[log2], d, x, x);
        else if (log2 == 3)
            shift_bytes_imm(e, digit, d, x, n);
        else if (log2 == 6 && digit == SHIFT_SIGNED)
            shift_signed64_imm(e, d, x, n);
        else
            shift_imm(e, log2, digit, d, x, n);
        return;
    }
    if (log2 == 3) {
        shift_bytes(e, digit, d, x);
        return;
    }
    shift_count(e, log2, 0);
    if (log2 < 6 || digit != SHIFT_SIGNED) {
        vr(e, codes[which][log2 - 4], d, x, XMM15);
        return;
    }
    vm(e, VMOVUPS, XMM14, 0, pool64(e, 1ull << 63));
    vr(e, VPSRLQ, XMM14, XMM14, XMM15);
    vr(e, VPSRLQ, d, x, XMM15);
    vr(e, VPXOR, d, d, XMM14);
    vr(e, VPSUBQ, d, d, XMM14);
}

/* ---- lanes ---- */

static void splat(struct emitter *e, const struct ins *i) {
    const struct ins *value = &e->f->ins.v[i->a];
    uint8_t d = e->as->def;
    if (value->op == IR_CONST) {
        uint64_t v = value->imm;
        struct rm m = i->op == OP_I8X16_SPLAT                              ? pool8(e, (uint8_t)v)
                      : i->op == OP_I16X8_SPLAT                            ? pool16(e, (uint16_t)v)
                      : i->op == OP_I32X4_SPLAT || i->op == OP_F32X4_SPLAT ? pool32(e, (uint32_t)v)
                                                                           : pool64(e, v);
        vm(e, VMOVUPS, d, 0, m);
        return;
    }
    struct rm m;
    if (value->flags & INS_FUSED) { /* the load's place, should it trap */
        uint32_t here = e->ins;
        e->ins = i->a;
        vec_push(e->f, e->positions, ((struct position){e->a.buf.n, here, i->a}));
        m = x86_address(e, value, 1u << opcode_table[value->op].aux);
        e->ins = here;
    } else {
        m = use_rm(e, 0);
    }
    bool vector = m.kind != RM_REG || m.reg >= REG_VECTOR;
    if (!vector) {
        vm(e, i->op == OP_I64X2_SPLAT ? VMOVQ : VMOVD, d, 0, m);
        m = rm_reg(d);
    }
    switch (i->op) {
    case OP_I8X16_SPLAT: vm(e, VPBROADCASTB, d, 0, m); return;
    case OP_I16X8_SPLAT: vm(e, VPBROADCASTW, d, 0, m); return;
    case OP_I32X4_SPLAT: vm(e, VPBROADCASTD, d, 0, m); return;
    case OP_F32X4_SPLAT: vm(e, VBROADCASTSS, d, 0, m); return;
    case OP_I64X2_SPLAT: vm(e, VPBROADCASTQ, d, 0, m); return;
    default: vm(e, VMOVDDUP, d, 0, m); return;
    }
}

static void extract_from_memory(struct emitter *e, const struct ins *i, struct rm m) {
    struct as *a = &e->a;
    uint8_t d = e->as->def;
    switch (i->op) {
    case OP_I8X16_EXTRACT_LANE_S: x_rm(a, false, 0x0FBE, d, m); return;
    case OP_I8X16_EXTRACT_LANE_U: x_rm(a, false, 0x0FB6, d, m); return;
    case OP_I16X8_EXTRACT_LANE_S: x_rm(a, false, 0x0FBF, d, m); return;
    case OP_I16X8_EXTRACT_LANE_U: x_rm(a, false, 0x0FB7, d, m); return;
    case OP_I32X4_EXTRACT_LANE: x_rm(a, false, 0x8B, d, m); return;
    case OP_I64X2_EXTRACT_LANE: x_rm(a, true, 0x8B, d, m); return;
    case OP_F32X4_EXTRACT_LANE: vm(e, VMOVSS_LOAD, d, 0, m); return;
    default: vm(e, VMOVQ_LOAD, d, 0, m); return;
    }
}

static void extract(struct emitter *e, const struct ins *i) {
    struct as *a = &e->a;
    uint8_t d = e->as->def, lane = (uint8_t)i->imm;
    unsigned bytes = 16u / opcode_table[i->op].aux;
    if (is_constant(e->f, i->a)) {
        uint8_t of[16] = {0};
        memcpy(of, e->f->vectors.v + 16 * e->f->ins.v[i->a].imm + lane * bytes, bytes);
        extract_from_memory(e, i, rm_pool(pool_add(a, of)));
        return;
    }
    if (e->as->use[0] == USE_IN_SLOT) {
        struct rm m = use_rm(e, 0);
        m.disp += (int32_t)(lane * bytes);
        extract_from_memory(e, i, m);
        return;
    }
    uint8_t x = e->as->use[0];
    switch (i->op) {
    case OP_I8X16_EXTRACT_LANE_S:
    case OP_I8X16_EXTRACT_LANE_U:
        vri(e, VPEXTRB, x, 0, d, lane);
        if (i->op == OP_I8X16_EXTRACT_LANE_S) op_rm(a, 0, false, 0x0FBE, d, rm_reg(d), 0, true);
        return;
    case OP_I16X8_EXTRACT_LANE_S:
    case OP_I16X8_EXTRACT_LANE_U:
        vri(e, VPEXTRW, x, 0, d, lane);
        if (i->op == OP_I16X8_EXTRACT_LANE_S) x_rr(a, false, 0x0FBF, d, d);
        return;
    case OP_I32X4_EXTRACT_LANE:
        if (lane)
            vri(e, VPEXTRD, x, 0, d, lane);
        else
            vr(e, VMOVD_OUT, x, 0, d);
        return;
    case OP_I64X2_EXTRACT_LANE:
        if (lane)
            vri(e, VPEXTRQ, x, 0, d, lane);
        else
            vr(e, VMOVQ_OUT, x, 0, d);
        return;
    case OP_F32X4_EXTRACT_LANE:
        if (lane == 0)
            vmove(e, d, x);
        else if (lane == 1)
            vr(e, VMOVSHDUP, d, 0, x);
        else if (lane == 2)
            vr(e, VUNPCKHPS, d, x, x);
        else
            vri(e, VSHUFPS, d, x, x, 0xff);
        return;
    default:
        if (lane)
            vr(e, VUNPCKHPD, d, x, x);
        else
            vmove(e, d, x);
    }
}

static void replace(struct emitter *e, const struct ins *i) {
    uint8_t d = e->as->def, x = e->as->use[0], lane = (uint8_t)i->imm;
    struct rm y = right_rm(e, i->b, 1);
    switch (i->op) {
    case OP_I8X16_REPLACE_LANE: vmi(e, VPINSRB, d, x, y, lane); return;
    case OP_I16X8_REPLACE_LANE: vmi(e, VPINSRW, d, x, y, lane); return;
    case OP_I32X4_REPLACE_LANE: vmi(e, VPINSRD, d, x, y, lane); return;
    case OP_I64X2_REPLACE_LANE: vmi(e, VPINSRQ, d, x, y, lane); return;
    case OP_F32X4_REPLACE_LANE:
        if (lane == 0 && y.kind == RM_REG)
            vmi(e, VBLENDPS, d, x, y, 1);
        else
            vmi(e, VINSERTPS, d, x, y, lane * 16u);
        return;
    default:
        if (y.kind != RM_REG)
            vm(e, lane ? VMOVHPS : VMOVLPS, d, x, y);
        else if (lane)
            vm(e, VMOVLHPS, d, x, y);
        else
            vmi(e, VBLENDPD, d, x, y, 1);
    }
}

/* Beyond 15 to beyond 127, which vpshufb takes for zero. */
static void swizzle(struct emitter *e, uint8_t d, uint8_t x, uint8_t y) {
    vm(e, VPADDUSB, XMM15, y, pool8(e, 0x70));
    vr(e, VPSHUFB, d, x, XMM15);
}

/* ---- memory ---- */

static void memory_lane(struct emitter *e, const struct ins *i) {
    struct rm m = x86_address(e, i, 1u << opcode_table[i->op].aux);
    uint8_t d = e->as->def, x = e->as->use[e->o->n - 1], lane = (uint8_t)i->aux;
    switch (i->op) {
    case OP_V128_STORE: vm(e, VMOVUPS_STORE, x, 0, m); return;
    case OP_V128_LOAD8_LANE: vmi(e, VPINSRB, d, x, m, lane); return;
    case OP_V128_LOAD16_LANE: vmi(e, VPINSRW, d, x, m, lane); return;
    case OP_V128_LOAD32_LANE: vmi(e, VPINSRD, d, x, m, lane); return;
    case OP_V128_LOAD64_LANE: vm(e, lane ? VMOVHPS : VMOVLPS, d, x, m); return;
    case OP_V128_STORE8_LANE: vmi(e, VPEXTRB, x, 0, m, lane); return;
    case OP_V128_STORE16_LANE: vmi(e, VPEXTRW, x, 0, m, lane); return;
    case OP_V128_STORE32_LANE:
        if (lane)
            vmi(e, VPEXTRD, x, 0, m, lane);
        else
            vm(e, VMOVSS_STORE, x, 0, m);
        return;
    default: vm(e, lane ? VMOVHPS_STORE : VMOVQ_STORE, x, 0, m); return;
    }
}

/* ---- integers ---- */

/* An operand with the sign bits of its lanes flipped, which makes signed order of unsigned. */
static struct rm flipped(struct emitter *e, ref v, uint64_t sign, uint8_t to) {
    const struct ins *c = &e->f->ins.v[v];
    if (c->op == IR_CONST128) {
        uint64_t bits[2];
        memcpy(bits, e->f->vectors.v + 16 * c->imm, 16);
        return rm_pool(pool_u64(&e->a, bits[0] ^ sign, bits[1] ^ sign));
    }
    vm(e, VPXOR, to, e->as->use[e->o->use[0].value == v ? 0 : 1], pool64(e, sign));
    return rm_reg(to);
}

/* The constant's lanes less or plus one, where none wraps: x < c is x <= c - 1. */
static bool next_to(const struct fn *f, ref v, unsigned bytes, bool up, uint64_t to[2]) {
    const struct ins *c = &f->ins.v[v];
    if (c->op != IR_CONST128) return false;
    uint8_t of[16];
    memcpy(of, f->vectors.v + 16 * c->imm, 16);
    for (unsigned k = 0; k < 16; k += bytes) {
        uint32_t lane = 0, edge = up ? UINT32_MAX >> (32 - 8 * bytes) : 0;
        memcpy(&lane, of + k, bytes);
        if (lane == edge) return false;
        lane += up ? 1 : UINT32_MAX;
        memcpy(of + k, &lane, bytes);
    }
    memcpy(to, of, 16);
    return true;
}

/* x > y. With a constant, by the extreme of x and its neighbour; else by signed order. */
static void greater_unsigned(struct emitter *e, const struct ins *i) {
    static const enum vector_code least[3] = {VPMINUB, VPMINUW, VPMINUD}, most[3] = {VPMAXUB, VPMAXUW, VPMAXUD};
    static const enum vector_code more[3] = {VPCMPGTB, VPCMPGTW, VPCMPGTD};
    static const uint64_t signs[3] = {0x8080808080808080, 0x8000800080008000, 0x8000000080000000};
    unsigned log2 = row_of(i)->imm;
    bool reversed = row_of(i)->form & REVERSED;
    ref x = reversed ? i->b : i->a, y = reversed ? i->a : i->b;
    uint64_t sign = signs[log2], limit[2];
    bool right_constant = next_to(e->f, y, 1u << log2, true, limit);
    if (e->o->n == 1 && (right_constant || next_to(e->f, x, 1u << log2, false, limit))) {
        uint8_t v = e->as->use[0];
        vm(e, right_constant ? most[log2] : least[log2], XMM15, v, rm_pool(pool_add(&e->a, limit)));
        vr(e, equals[log2], e->as->def, XMM15, v);
        return;
    }
    struct rm left = flipped(e, x, sign, XMM15), right = flipped(e, y, sign, XMM14);
    if (left.kind != RM_REG) vm(e, VMOVUPS, XMM15, 0, left);
    vm(e, more[log2], e->as->def, XMM15, right);
}

static void negate(struct emitter *e, uint8_t d, uint8_t x, enum vector_code subtract) {
    set_zero(e, XMM15);
    vr(e, subtract, d, XMM15, x);
}

static void abs64(struct emitter *e, uint8_t d, uint8_t x) {
    negate(e, XMM15, x, VPSUBQ);
    vblend(e, VBLENDVPD, d, x, rm_reg(XMM15), x);
}

/* The lower halves' product, and the cross products to its upper half. */
static void multiply64(struct emitter *e, uint8_t d, uint8_t x, uint8_t y) {
    shift_imm(e, 6, SHIFT_RIGHT, XMM15, x, 32);
    shift_imm(e, 6, SHIFT_RIGHT, XMM14, y, 32);
    vr(e, VPMULUDQ, XMM15, XMM15, y);
    vr(e, VPMULUDQ, XMM14, XMM14, x);
    vr(e, VPADDQ, XMM15, XMM15, XMM14);
    shift_imm(e, 6, SHIFT_LEFT, XMM15, XMM15, 32);
    vr(e, VPMULUDQ, d, x, y);
    vr(e, VPADDQ, d, d, XMM15);
}

/* Each nibble's count out of a table. */
static void popcnt(struct emitter *e, uint8_t d, uint8_t x) {
    vm(e, VMOVUPS, XMM14, 0, pool8(e, 0x0f));
    vr(e, VPAND, XMM15, x, XMM14);
    shift_imm(e, 4, SHIFT_RIGHT, d, x, 4);
    vr(e, VPAND, d, d, XMM14);
    vm(e, VMOVUPS, XMM14, 0, rm_pool(pool_u64(&e->a, 0x0302020102010100, 0x0403030203020201)));
    vr(e, VPSHUFB, XMM15, XMM14, XMM15);
    vr(e, VPSHUFB, d, XMM14, d);
    vr(e, VPADDB, d, d, XMM15);
}

static void extend_high(struct emitter *e, uint8_t d, uint8_t x, enum vector_code extend) {
    vri(e, VPSHUFD, d, 0, x, 0xEE);
    vr(e, extend, d, 0, d);
}

static void extend_high_unsigned(struct emitter *e, uint8_t d, uint8_t x, enum vector_code interleave) {
    set_zero(e, XMM15);
    vr(e, interleave, d, x, XMM15);
}

/* There is no unsigned vpmaddwd: 2^15 is taken off every lane, and twice that given back to the sum. */
static void add_pairs_u16(struct emitter *e, uint8_t d, uint8_t x) {
    vm(e, VPXOR, d, x, pool16(e, 0x8000));
    vm(e, VPMADDWD, d, d, pool16(e, 1));
    vm(e, VPADDD, d, d, pool32(e, 0x10000));
}

static void add_pairs_s8(struct emitter *e, uint8_t d, uint8_t x) {
    vm(e, VMOVUPS, XMM15, 0, pool8(e, 1)); /* the first operand is the unsigned one */
    vr(e, VPMADDUBSW, d, XMM15, x);
}

static void multiply8(struct emitter *e, uint8_t d, uint8_t x, uint8_t y, enum vector_code extend) {
    vr(e, extend, XMM15, 0, x);
    vr(e, extend, XMM14, 0, y);
    vr(e, VPMULLW, d, XMM15, XMM14);
}

static void multiply8_high_signed(struct emitter *e, uint8_t d, uint8_t x, uint8_t y) {
    vr(e, VPUNPCKHBW, XMM15, x, x);
    vr(e, VPUNPCKHBW, XMM14, y, y);
    shift_imm(e, 4, SHIFT_SIGNED, XMM15, XMM15, 8);
    shift_imm(e, 4, SHIFT_SIGNED, XMM14, XMM14, 8);
    vr(e, VPMULLW, d, XMM15, XMM14);
}

static void multiply8_high_unsigned(struct emitter *e, uint8_t d, uint8_t x, uint8_t y) {
    set_zero(e, XMM14);
    vr(e, VPUNPCKHBW, XMM15, x, XMM14);
    vr(e, VPUNPCKHBW, XMM14, y, XMM14);
    vr(e, VPMULLW, d, XMM15, XMM14);
}

static void multiply16_signed(struct emitter *e, uint8_t d, uint8_t x, uint8_t y, enum vector_code interleave) {
    vr(e, VPMULLW, XMM15, x, y);
    vr(e, VPMULHW, XMM14, x, y);
    vr(e, interleave, d, XMM15, XMM14);
}

static void multiply16_unsigned(struct emitter *e, uint8_t d, uint8_t x, uint8_t y, enum vector_code interleave) {
    vr(e, VPMULLW, XMM15, x, y);
    vr(e, VPMULHUW, XMM14, x, y);
    vr(e, interleave, d, XMM15, XMM14);
}

static void multiply32_signed(struct emitter *e, uint8_t d, uint8_t x, uint8_t y, enum vector_code interleave) {
    vr(e, interleave, XMM15, x, x);
    vr(e, interleave, XMM14, y, y);
    vr(e, VPMULDQ, d, XMM15, XMM14);
}

static void multiply32_unsigned(struct emitter *e, uint8_t d, uint8_t x, uint8_t y, enum vector_code interleave) {
    vr(e, interleave, XMM15, x, x);
    vr(e, interleave, XMM14, y, y);
    vr(e, VPMULUDQ, d, XMM15, XMM14);
}

/* vpmulhrsw is q15mulr but for -1 * -1, where it gives 0x8000 as nothing else does. */
static void multiply_q15(struct emitter *e, uint8_t d, uint8_t x, uint8_t y) {
    vr(e, VPMULHRSW, d, x, y);
    vm(e, VPCMPEQW, XMM15, d, pool16(e, 0x8000));
    vr(e, VPXOR, d, d, XMM15);
}

/* Products of signed bytes, even ones as upper halves of words: ((x << 8) * (y << 8)) >> 16. */
static void dot8(struct emitter *e, uint8_t d, uint8_t x, uint8_t y) {
    shift_imm(e, 4, SHIFT_SIGNED, XMM15, x, 8);
    shift_imm(e, 4, SHIFT_SIGNED, XMM14, y, 8);
    vr(e, VPMULLW, XMM15, XMM15, XMM14);
    shift_imm(e, 4, SHIFT_LEFT, XMM14, x, 8);
    shift_imm(e, 4, SHIFT_LEFT, d, y, 8);
    vr(e, VPMULHW, d, d, XMM14);
    vr(e, VPADDW, d, d, XMM15);
}

static void dot8_add(struct emitter *e, const struct ins *i) {
    uint8_t d = e->as->def;
    (void)i;
    dot8(e, d, e->as->use[0], e->as->use[1]);
    vm(e, VPMADDWD, d, d, pool16(e, 1));
    vr(e, VPADDD, d, d, e->as->use[2]);
}

/* ---- floats ---- */

/* Is the minimum (maximum) with this constant right when the CPU's is, the constant being its first operand? Which then
 * gives x, with zeros of both signs too: they must be x as well. NaNs stay signalling, for which `quiet` is to be done:
 * nothing may be subtracted, or be added where no result is negative (and -0 has to become +0). */
enum quiet { NOT_RIGHT, SUBTRACT_ZERO, ADD_ZERO };
static enum quiet extreme_by(const struct fn *f, ref v, bool max, bool f64) {
    const struct ins *c = &f->ins.v[v];
    if (c->op != IR_CONST128) return NOT_RIGHT;
    bool subtract = true, add = max;
    for (unsigned k = 0, bytes = f64 ? 8 : 4; k < 16; k += bytes) {
        uint64_t lane = 0, infinity = f64 ? 0x7ff0000000000000 : 0x7f800000, sign = f64 ? 1ull << 63 : 0x80000000;
        memcpy(&lane, f->vectors.v + 16 * c->imm + k, bytes);
        if ((lane & ~sign) > infinity) return NOT_RIGHT;
        if (lane == (max ? 0 : sign)) subtract = false;
        if (lane & sign) add = false;
    }
    return subtract ? SUBTRACT_ZERO : add ? ADD_ZERO : NOT_RIGHT;
}

/* Both orders of the CPU's minimum together get zeros' signs right; where a NaN is, the sum is one. */
static void extreme(struct emitter *e, const struct ins *i) {
    enum vector_code code = row_of(i)->code;
    bool max = code == VMAXPS || code == VMAXPD, f64 = code == VMINPD || code == VMAXPD;
    uint8_t d = e->as->def, x = e->as->use[0], y = e->as->use[1];
    for (unsigned k = 0; k < 2; k++) {
        enum quiet quiet = extreme_by(e->f, k ? i->a : i->b, max, f64);
        if (!quiet) continue;
        vr(e, code, d, k ? x : y, k ? y : x);
        if (quiet == ADD_ZERO)
            vm(e, f64 ? VADDPD : VADDPS, d, d, pool32(e, 0));
        else
            vm(e, f64 ? VSUBPD : VSUBPS, d, d, pool32(e, 0));
        return;
    }
    vr(e, code, XMM14, x, y);
    vr(e, code, XMM15, y, x);
    vr(e, max ? VANDPS : VORPS, XMM14, XMM14, XMM15);
    vr(e, f64 ? VADDPD : VADDPS, XMM15, x, y);
    vri(e, f64 ? VCMPPD : VCMPPS, d, x, y, CMP_UNORD);
    vblend(e, f64 ? VBLENDVPD : VBLENDVPS, d, XMM14, rm_reg(XMM15), d);
}

/* Two roundings, as the interpreter's; a negative product is subtracted. */
static void multiply_add(struct emitter *e, const struct ins *i) {
    uint8_t d = e->as->def, x = e->as->use[0], y = e->as->use[1], z = e->as->use[2];
    enum vector_code code = row_of(i)->code;
    vr(e, code == VADDPD || code == VSUBPD ? VMULPD : VMULPS, XMM15, x, y);
    vr(e, code, d, z, XMM15);
}

/* ---- conversions ---- */

enum { F32_2P23 = 0x4B000000, F32_2P31 = 0x4F000000, F32_2P39 = 0x53000000, F32_2P39_2P23 = 0x53000080 };
static const uint64_t f64_2p52 = 0x4330000000000000, f64_int32_max = 0x41DFFFFFFFC00000,
                      f64_uint32_max = 0x41EFFFFFFFE00000;

/* vcvttps2dq gives 0x80000000 for what does not fit: right below, complemented above, and nothing for NaN. */
static void trunc_f32_s(struct emitter *e, uint8_t d, uint8_t x) {
    vmi(e, VCMPPS, XMM15, x, pool32(e, F32_2P31), CMP_GE);
    vr(e, VCVTTPS2DQ, XMM14, 0, x);
    vr(e, VPXOR, XMM14, XMM14, XMM15);
    vri(e, VCMPPS, XMM15, x, x, CMP_ORD);
    vr(e, VPAND, d, XMM14, XMM15);
}

/* The part below 2^31 and the part above are converted apart: x gives 0x80000000 from 2^31 on, x - 2^31 the rest, which
 * is cut off at 0 and 0x7fffffff. */
static void trunc_f32_u(struct emitter *e, uint8_t d, uint8_t x) {
    vm(e, VMAXPS, XMM14, x, pool32(e, 0)); /* 0 for NaN */
    vm(e, VSUBPS, d, XMM14, pool32(e, F32_2P31));
    vmi(e, VCMPPS, XMM15, d, pool32(e, F32_2P31), CMP_GE);
    vr(e, VCVTTPS2DQ, d, 0, d);
    vr(e, VPXOR, d, d, XMM15);
    vm(e, VPMAXSD, d, d, pool32(e, 0));
    vr(e, VCVTTPS2DQ, XMM14, 0, XMM14);
    vr(e, VPADDD, d, d, XMM14);
}

static void trunc_f64_s(struct emitter *e, uint8_t d, uint8_t x) {
    vri(e, VCMPPD, XMM15, x, x, CMP_ORD);
    vm(e, VPAND, XMM15, XMM15, pool64(e, f64_int32_max));
    vr(e, VMINPD, XMM15, x, XMM15); /* the second operand, now 0, for NaN */
    vr(e, VCVTTPD2DQ, d, 0, XMM15);
}

/* Added to 2^52, an integer stands in the lower bits. */
static void trunc_f64_u(struct emitter *e, uint8_t d, uint8_t x) {
    vm(e, VMAXPD, d, x, pool32(e, 0));
    vm(e, VMINPD, d, d, pool64(e, f64_uint32_max));
    vri(e, VROUNDPD, d, 0, d, ROUND_ZERO);
    vm(e, VADDPD, d, d, pool64(e, f64_2p52));
    vmi(e, VSHUFPS, d, d, pool32(e, 0), 0x88);
}

/* Halves of 16 bits put into 2^23 + low and 2^39 + high * 2^16; only the last addition rounds. */
static void convert_f32_u(struct emitter *e, uint8_t d, uint8_t x) {
    vmi(e, VPBLENDW, XMM15, x, pool32(e, F32_2P23), 0xAA);
    shift_imm(e, 5, SHIFT_RIGHT, d, x, 16);
    vmi(e, VPBLENDW, d, d, pool32(e, F32_2P39), 0xAA);
    vm(e, VSUBPS, d, d, pool32(e, F32_2P39_2P23));
    vr(e, VADDPS, d, XMM15, d);
}

static void convert_f64_u(struct emitter *e, uint8_t d, uint8_t x) {
    vm(e, VPUNPCKLDQ, d, x, pool32(e, (uint32_t)(f64_2p52 >> 32)));
    vm(e, VSUBPD, d, d, pool64(e, f64_2p52));
}

/* ---- the table ---- */

#define OP(name) [OP_##name - OP_BASE_FD]
enum { N_ROWS = OP_I32X4_RELAXED_DOT_I8X16_I7X16_ADD_S - OP_BASE_FD + 1 };

// clang-format off
#define CODE(code, form, imm) {code, form, imm, {NULL}}
#define INTEGERS(shape, S, log2) /* what i8x16, i16x8 and i32x4 share; S: b, w, d */ \
    OP(shape##_EQ) = CODE(VPCMPEQ##S, BINARY | COMMUTES, 0), OP(shape##_NE) = CODE(VPCMPEQ##S, BINARY | COMMUTES | NEGATED, 0), \
    OP(shape##_LT_S) = CODE(VPCMPGT##S, BINARY | REVERSED, 0), OP(shape##_GT_S) = CODE(VPCMPGT##S, BINARY, 0), \
    OP(shape##_LE_S) = CODE(VPMINS##S, EXTREME, log2), OP(shape##_LE_U) = CODE(VPMINU##S, EXTREME, log2), \
    OP(shape##_GE_S) = CODE(VPMAXS##S, EXTREME, log2), OP(shape##_GE_U) = CODE(VPMAXU##S, EXTREME, log2), \
    OP(shape##_GT_U) = {0, WHOLE, log2, .whole = greater_unsigned}, OP(shape##_LT_U) = {0, WHOLE | REVERSED, log2, .whole = greater_unsigned}, \
    OP(shape##_ABS) = CODE(VPABS##S, UNARY, 0), OP(shape##_NEG) = {VPSUB##S, ONE_BY, 0, .one_by = negate}, \
    OP(shape##_ALL_TRUE) = {VPCMPEQ##S, WHOLE, 0, .whole = test}, \
    OP(shape##_ADD) = CODE(VPADD##S, BINARY | COMMUTES, 0), OP(shape##_SUB) = CODE(VPSUB##S, BINARY, 0), \
    OP(shape##_MIN_S) = CODE(VPMINS##S, BINARY | COMMUTES, 0), OP(shape##_MIN_U) = CODE(VPMINU##S, BINARY | COMMUTES, 0), \
    OP(shape##_MAX_S) = CODE(VPMAXS##S, BINARY | COMMUTES, 0), OP(shape##_MAX_U) = CODE(VPMAXU##S, BINARY | COMMUTES, 0)
#define SHIFTS(shape, log2) \
    OP(shape##_SHL) = {0, WHOLE, log2, .whole = shift}, OP(shape##_SHR_S) = {0, WHOLE, log2, .whole = shift}, \
    OP(shape##_SHR_U) = {0, WHOLE, log2, .whole = shift}
#define SATURATING(shape, S) \
    OP(shape##_ADD_SAT_S) = CODE(VPADDS##S, BINARY | COMMUTES, 0), OP(shape##_ADD_SAT_U) = CODE(VPADDUS##S, BINARY | COMMUTES, 0), \
    OP(shape##_SUB_SAT_S) = CODE(VPSUBS##S, BINARY, 0), OP(shape##_SUB_SAT_U) = CODE(VPSUBUS##S, BINARY, 0), \
    OP(shape##_AVGR_U) = CODE(VPAVG##S, BINARY | COMMUTES, 0)
#define EXTENDING(wide, narrow, UP, HIGH) /* UP: bw, wd, dq */ \
    OP(wide##_EXTEND_LOW_##narrow##_S) = CODE(VPMOVSX##UP, UNARY, 0), OP(wide##_EXTEND_LOW_##narrow##_U) = CODE(VPMOVZX##UP, UNARY, 0), \
    OP(wide##_EXTEND_HIGH_##narrow##_S) = {VPMOVSX##UP, ONE_BY, 0, .one_by = extend_high}, \
    OP(wide##_EXTEND_HIGH_##narrow##_U) = {HIGH, ONE_BY, 0, .one_by = extend_high_unsigned}
#define MULTIPLYING(wide, narrow, function, LOW, HIGH) \
    OP(wide##_EXTMUL_LOW_##narrow##_S) = {LOW, TWO_BY, 0, .two_by = function##_signed}, \
    OP(wide##_EXTMUL_LOW_##narrow##_U) = {LOW, TWO_BY, 0, .two_by = function##_unsigned}, \
    OP(wide##_EXTMUL_HIGH_##narrow##_S) = {HIGH, TWO_BY, 0, .two_by = function##_signed}, \
    OP(wide##_EXTMUL_HIGH_##narrow##_U) = {HIGH, TWO_BY, 0, .two_by = function##_unsigned}
#define LANES(shape) OP(shape##_SPLAT) = {0, WHOLE, 0, .whole = splat}, OP(shape##_REPLACE_LANE) = {0, WHOLE, 0, .whole = replace}
#define FLOATS(shape, S) \
    OP(shape##_EQ) = CODE(VCMP##S, BINARY | COMMUTES | IMMEDIATE, CMP_EQ), OP(shape##_NE) = CODE(VCMP##S, BINARY | COMMUTES | IMMEDIATE, CMP_NEQ), \
    OP(shape##_LT) = CODE(VCMP##S, BINARY | IMMEDIATE, CMP_LT), OP(shape##_GT) = CODE(VCMP##S, BINARY | IMMEDIATE, CMP_GT), \
    OP(shape##_LE) = CODE(VCMP##S, BINARY | IMMEDIATE, CMP_LE), OP(shape##_GE) = CODE(VCMP##S, BINARY | IMMEDIATE, CMP_GE), \
    OP(shape##_CEIL) = CODE(VROUND##S, UNARY | IMMEDIATE, ROUND_UP), OP(shape##_FLOOR) = CODE(VROUND##S, UNARY | IMMEDIATE, ROUND_DOWN), \
    OP(shape##_TRUNC) = CODE(VROUND##S, UNARY | IMMEDIATE, ROUND_ZERO), OP(shape##_NEAREST) = CODE(VROUND##S, UNARY | IMMEDIATE, ROUND_NEAREST), \
    OP(shape##_SQRT) = CODE(VSQRT##S, UNARY, 0), OP(shape##_ADD) = CODE(VADD##S, BINARY | COMMUTES, 0), \
    OP(shape##_SUB) = CODE(VSUB##S, BINARY, 0), OP(shape##_MUL) = CODE(VMUL##S, BINARY | COMMUTES, 0), \
    OP(shape##_DIV) = CODE(VDIV##S, BINARY, 0), \
    /* the CPU's minimum is its second operand unless the first is less */ \
    OP(shape##_PMIN) = CODE(VMIN##S, BINARY | REVERSED, 0), OP(shape##_PMAX) = CODE(VMAX##S, BINARY | REVERSED, 0), \
    OP(shape##_MIN) = {VMIN##S, WHOLE, 0, .whole = extreme}, OP(shape##_MAX) = {VMAX##S, WHOLE, 0, .whole = extreme}, \
    OP(shape##_RELAXED_MIN) = {VMIN##S, WHOLE, 0, .whole = extreme}, OP(shape##_RELAXED_MAX) = {VMAX##S, WHOLE, 0, .whole = extreme}, \
    OP(shape##_RELAXED_MADD) = {VADD##S, WHOLE, 0, .whole = multiply_add}, OP(shape##_RELAXED_NMADD) = {VSUB##S, WHOLE, 0, .whole = multiply_add}

static const struct row rows[N_ROWS] = {
    OP(V128_LOAD) = CODE(VMOVUPS, LOAD, 0),
    OP(V128_LOAD8X8_S) = CODE(VPMOVSXBW, LOAD, 0), OP(V128_LOAD8X8_U) = CODE(VPMOVZXBW, LOAD, 0),
    OP(V128_LOAD16X4_S) = CODE(VPMOVSXWD, LOAD, 0), OP(V128_LOAD16X4_U) = CODE(VPMOVZXWD, LOAD, 0),
    OP(V128_LOAD32X2_S) = CODE(VPMOVSXDQ, LOAD, 0), OP(V128_LOAD32X2_U) = CODE(VPMOVZXDQ, LOAD, 0),
    OP(V128_LOAD8_SPLAT) = CODE(VPBROADCASTB, LOAD, 0), OP(V128_LOAD16_SPLAT) = CODE(VPBROADCASTW, LOAD, 0),
    OP(V128_LOAD32_SPLAT) = CODE(VBROADCASTSS, LOAD, 0), OP(V128_LOAD64_SPLAT) = CODE(VMOVDDUP, LOAD, 0),
    OP(V128_LOAD32_ZERO) = CODE(VMOVSS_LOAD, LOAD, 0), OP(V128_LOAD64_ZERO) = CODE(VMOVQ_LOAD, LOAD, 0),

    OP(V128_STORE) = {0, WHOLE, 0, .whole = memory_lane},
    OP(V128_LOAD8_LANE) = {0, WHOLE, 0, .whole = memory_lane}, OP(V128_LOAD16_LANE) = {0, WHOLE, 0, .whole = memory_lane},
    OP(V128_LOAD32_LANE) = {0, WHOLE, 0, .whole = memory_lane}, OP(V128_LOAD64_LANE) = {0, WHOLE, 0, .whole = memory_lane},
    OP(V128_STORE8_LANE) = {0, WHOLE, 0, .whole = memory_lane}, OP(V128_STORE16_LANE) = {0, WHOLE, 0, .whole = memory_lane},
    OP(V128_STORE32_LANE) = {0, WHOLE, 0, .whole = memory_lane}, OP(V128_STORE64_LANE) = {0, WHOLE, 0, .whole = memory_lane},

    LANES(I8X16), LANES(I16X8), LANES(I32X4), LANES(I64X2), LANES(F32X4), LANES(F64X2),
    OP(I8X16_EXTRACT_LANE_S) = {0, WHOLE, 0, .whole = extract}, OP(I8X16_EXTRACT_LANE_U) = {0, WHOLE, 0, .whole = extract},
    OP(I16X8_EXTRACT_LANE_S) = {0, WHOLE, 0, .whole = extract}, OP(I16X8_EXTRACT_LANE_U) = {0, WHOLE, 0, .whole = extract},
    OP(I32X4_EXTRACT_LANE) = {0, WHOLE, 0, .whole = extract}, OP(I64X2_EXTRACT_LANE) = {0, WHOLE, 0, .whole = extract},
    OP(F32X4_EXTRACT_LANE) = {0, WHOLE, 0, .whole = extract}, OP(F64X2_EXTRACT_LANE) = {0, WHOLE, 0, .whole = extract},
    OP(I8X16_SWIZZLE) = {0, TWO, 0, .two = swizzle}, OP(I8X16_RELAXED_SWIZZLE) = {0, TWO, 0, .two = swizzle},

    OP(V128_NOT) = {0, ONE, 0, .one = complement}, OP(V128_BITSELECT) = {0, WHOLE, 0, .whole = bitselect},
    OP(I8X16_RELAXED_LANESELECT) = {0, WHOLE, 0, .whole = bitselect}, OP(I16X8_RELAXED_LANESELECT) = {0, WHOLE, 0, .whole = bitselect},
    OP(I32X4_RELAXED_LANESELECT) = {0, WHOLE, 0, .whole = bitselect}, OP(I64X2_RELAXED_LANESELECT) = {0, WHOLE, 0, .whole = bitselect},
    OP(V128_ANY_TRUE) = {0, WHOLE, 0, .whole = test}, OP(I64X2_ALL_TRUE) = {VPCMPEQQ, WHOLE, 0, .whole = test},
    OP(I8X16_BITMASK) = {VPMOVMSKB, ONE_BY, 0, .one_by = from_register}, OP(I16X8_BITMASK) = {0, ONE, 0, .one = bitmask16},
    OP(I32X4_BITMASK) = {VMOVMSKPS, ONE_BY, 0, .one_by = from_register}, OP(I64X2_BITMASK) = {VMOVMSKPD, ONE_BY, 0, .one_by = from_register},
    OP(V128_AND) = CODE(VPAND, BINARY | COMMUTES, 0), OP(V128_OR) = CODE(VPOR, BINARY | COMMUTES, 0),
    OP(V128_XOR) = CODE(VPXOR, BINARY | COMMUTES, 0), OP(V128_ANDNOT) = CODE(VPANDN, BINARY | REVERSED, 0),

    INTEGERS(I8X16, B, 0), INTEGERS(I16X8, W, 1), INTEGERS(I32X4, D, 2),
    SHIFTS(I8X16, 3), SHIFTS(I16X8, 4), SHIFTS(I32X4, 5), SHIFTS(I64X2, 6),
    SATURATING(I8X16, B), SATURATING(I16X8, W),
    OP(I64X2_EQ) = CODE(VPCMPEQQ, BINARY | COMMUTES, 0), OP(I64X2_NE) = CODE(VPCMPEQQ, BINARY | COMMUTES | NEGATED, 0),
    OP(I64X2_GT_S) = CODE(VPCMPGTQ, BINARY, 0), OP(I64X2_LE_S) = CODE(VPCMPGTQ, BINARY | NEGATED, 0),
    OP(I64X2_LT_S) = CODE(VPCMPGTQ, BINARY | REVERSED, 0), OP(I64X2_GE_S) = CODE(VPCMPGTQ, BINARY | REVERSED | NEGATED, 0),
    OP(I64X2_ADD) = CODE(VPADDQ, BINARY | COMMUTES, 0), OP(I64X2_SUB) = CODE(VPSUBQ, BINARY, 0),
    OP(I16X8_MUL) = CODE(VPMULLW, BINARY | COMMUTES, 0), OP(I32X4_MUL) = CODE(VPMULLD, BINARY | COMMUTES, 0),
    OP(I32X4_DOT_I16X8_S) = CODE(VPMADDWD, BINARY | COMMUTES, 0),
    OP(I8X16_NARROW_I16X8_S) = CODE(VPACKSSWB, BINARY, 0), OP(I8X16_NARROW_I16X8_U) = CODE(VPACKUSWB, BINARY, 0),
    OP(I16X8_NARROW_I32X4_S) = CODE(VPACKSSDW, BINARY, 0), OP(I16X8_NARROW_I32X4_U) = CODE(VPACKUSDW, BINARY, 0),
    EXTENDING(I16X8, I8X16, BW, VPUNPCKHBW), EXTENDING(I32X4, I16X8, WD, VPUNPCKHWD), EXTENDING(I64X2, I32X4, DQ, VPUNPCKHDQ),
    OP(I16X8_EXTMUL_LOW_I8X16_S) = {VPMOVSXBW, TWO_BY, 0, .two_by = multiply8},
    OP(I16X8_EXTMUL_LOW_I8X16_U) = {VPMOVZXBW, TWO_BY, 0, .two_by = multiply8},
    OP(I16X8_EXTMUL_HIGH_I8X16_S) = {0, TWO, 0, .two = multiply8_high_signed},
    OP(I16X8_EXTMUL_HIGH_I8X16_U) = {0, TWO, 0, .two = multiply8_high_unsigned},
    MULTIPLYING(I32X4, I16X8, multiply16, VPUNPCKLWD, VPUNPCKHWD), MULTIPLYING(I64X2, I32X4, multiply32, VPUNPCKLDQ, VPUNPCKHDQ),
    OP(I16X8_EXTADD_PAIRWISE_I8X16_S) = {0, ONE, 0, .one = add_pairs_s8},
    OP(I16X8_EXTADD_PAIRWISE_I8X16_U) = CODE(VPMADDUBSW, CONSTANT, ONES8),
    OP(I32X4_EXTADD_PAIRWISE_I16X8_S) = CODE(VPMADDWD, CONSTANT, ONES16),
    OP(I32X4_EXTADD_PAIRWISE_I16X8_U) = {0, ONE, 0, .one = add_pairs_u16},
    OP(I64X2_NEG) = {VPSUBQ, ONE_BY, 0, .one_by = negate}, OP(I64X2_ABS) = {0, ONE, 0, .one = abs64},
    OP(I64X2_MUL) = {0, TWO, 0, .two = multiply64}, OP(I8X16_POPCNT) = {0, ONE, 0, .one = popcnt},
    OP(I16X8_Q15MULR_SAT_S) = {0, TWO, 0, .two = multiply_q15}, OP(I16X8_RELAXED_Q15MULR_S) = {0, TWO, 0, .two = multiply_q15},
    OP(I16X8_RELAXED_DOT_I8X16_I7X16_S) = {0, TWO, 0, .two = dot8},
    OP(I32X4_RELAXED_DOT_I8X16_I7X16_ADD_S) = {0, WHOLE, 0, .whole = dot8_add},

    FLOATS(F32X4, PS), FLOATS(F64X2, PD),
    OP(F32X4_CONVERT_I32X4_S) = CODE(VCVTDQ2PS, UNARY, 0), OP(F64X2_CONVERT_LOW_I32X4_S) = CODE(VCVTDQ2PD, UNARY, 0),
    OP(F32X4_DEMOTE_F64X2_ZERO) = CODE(VCVTPD2PS, UNARY, 0), OP(F64X2_PROMOTE_LOW_F32X4) = CODE(VCVTPS2PD, UNARY, 0),
    OP(F32X4_ABS) = CODE(VPAND, CONSTANT, BELOW_SIGN32), OP(F64X2_ABS) = CODE(VPAND, CONSTANT, BELOW_SIGN64),
    OP(F32X4_NEG) = CODE(VPXOR, CONSTANT, SIGN32), OP(F64X2_NEG) = CODE(VPXOR, CONSTANT, SIGN64),
    OP(I32X4_TRUNC_SAT_F32X4_S) = {0, ONE, 0, .one = trunc_f32_s}, OP(I32X4_RELAXED_TRUNC_F32X4_S) = {0, ONE, 0, .one = trunc_f32_s},
    OP(I32X4_TRUNC_SAT_F32X4_U) = {0, ONE, 0, .one = trunc_f32_u}, OP(I32X4_RELAXED_TRUNC_F32X4_U) = {0, ONE, 0, .one = trunc_f32_u},
    OP(I32X4_TRUNC_SAT_F64X2_S_ZERO) = {0, ONE, 0, .one = trunc_f64_s}, OP(I32X4_RELAXED_TRUNC_F64X2_S_ZERO) = {0, ONE, 0, .one = trunc_f64_s},
    OP(I32X4_TRUNC_SAT_F64X2_U_ZERO) = {0, ONE, 0, .one = trunc_f64_u}, OP(I32X4_RELAXED_TRUNC_F64X2_U_ZERO) = {0, ONE, 0, .one = trunc_f64_u},
    OP(F32X4_CONVERT_I32X4_U) = {0, ONE, 0, .one = convert_f32_u}, OP(F64X2_CONVERT_LOW_I32X4_U) = {0, ONE, 0, .one = convert_f64_u},
};
// clang-format on

static const struct row *row_of(const struct ins *i) {
    return &rows[i->op - OP_BASE_FD];
}

bool x86_simd_is_test(uint16_t op) {
    return op >= OP_BASE_FD && op < OP_BASE_FD + N_ROWS && rows[op - OP_BASE_FD].form == WHOLE &&
           rows[op - OP_BASE_FD].whole == test;
}

/* ---- operands ---- */

/* The operands of a BINARY row in the order of the machine instruction: the second may come from memory. */
struct pair {
    ref left, right;
};
static struct pair ordered(const struct fn *f, const struct ins *i) {
    const struct row *r = row_of(i);
    bool exchange = r->form & REVERSED;
    if ((r->form & COMMUTES) && is_constant(f, i->a) && !is_constant(f, i->b)) exchange = true;
    return exchange ? (struct pair){i->b, i->a} : (struct pair){i->a, i->b};
}

static void all_in_registers(const struct ins *i, struct operands *o) {
    use_of(o, i->a, USE_REG);
    if (i->b) use_of(o, i->b, USE_REG);
    if (i->c) use_of(o, i->c, USE_REG);
}

static void whole_operands(const struct fn *f, const struct ins *i, const struct row *r, struct operands *o) {
    int32_t count;
    if (r->whole == memory_lane) {
        x86_memory_operands(f, i, o);
        use_of(o, i->b, USE_REG);
        if (i->type == KIND_BOT) o->def = DEF_NONE;
    } else if (r->whole == splat && (f->ins.v[i->a].flags & INS_FUSED)) {
        x86_memory_operands(f, &f->ins.v[i->a], o);
    } else if (r->whole == splat || r->whole == extract) {
        use_right(f, o, i->a);
    } else if (r->whole == replace) {
        use_of(o, i->a, USE_REG);
        use_right(f, o, i->b);
    } else if (r->whole == shift) {
        use_of(o, i->a, USE_REG);
        if (!x86_imm(f, i->b, false, &count)) use_of(o, i->b, USE_ANY);
    } else if (r->whole == greater_unsigned) {
        if (!is_constant(f, i->a)) use_of(o, i->a, USE_REG);
        if (!is_constant(f, i->b)) use_of(o, i->b, USE_REG);
    } else if (r->whole == bitselect && is_constant(f, i->c)) {
        use_of(o, i->a, USE_REG);
        use_of(o, i->b, USE_REG);
    } else {
        all_in_registers(i, o);
        if (r->whole == dot8_add) o->def = DEF_EARLY;
    }
}

void x86_simd_operands(const struct fn *f, const struct ins *i, struct operands *o) {
    if (x86_is_shuffle(f, i)) {
        x86_shuffle_operands(f, i, o);
        return;
    }
    const struct row *r = row_of(i);
    o->def = DEF_REG;
    switch (r->form & FORM) {
    case BINARY:
    case EXTREME:
        use_of(o, ordered(f, i).left, USE_REG);
        use_right(f, o, ordered(f, i).right);
        return;
    case UNARY: use_right(f, o, i->a); return;
    case LOAD: x86_memory_operands(f, i, o); return;
    case WHOLE: whole_operands(f, i, r, o); return;
    default: all_in_registers(i, o); return;
    }
}

/* The load that a splat can do by itself: nothing else uses it, and nothing happens in between. */
static bool is_splat_load(const struct fn *f, const uint32_t *uses, ref v, ref first) {
    const struct ins *i = &f->ins.v[v];
    if (i->a < first || uses[i->a] != 1 || v - i->a > 16) return false;
    for (ref k = i->a + 1; k < v; k++)
        if (!ir_is_pure(f->ins.v[k].op)) return false;
    switch (f->ins.v[i->a].op) {
    case OP_I32_LOAD: return i->op == OP_I32X4_SPLAT;
    case OP_I64_LOAD: return i->op == OP_I64X2_SPLAT;
    case OP_F32_LOAD: return i->op == OP_F32X4_SPLAT;
    case OP_F64_LOAD: return i->op == OP_F64X2_SPLAT;
    default: return false;
    }
}

/* A rotation by whole bytes takes the place of its two shifts, a splat that of the load before it. */
void x86_simd_fuse(struct fn *f, const uint32_t *uses, ref v, ref first) {
    const struct ins *i = &f->ins.v[v];
    uint8_t lanes[16];
    if (i->op == OP_V128_OR && x86_byte_rotation(f, i, lanes)) {
        if (uses[i->a] == 1 && i->a >= first) f->ins.v[i->a].flags |= INS_FUSED;
        if (uses[i->b] == 1 && i->b >= first) f->ins.v[i->b].flags |= INS_FUSED;
    } else if (i->op >= OP_I32X4_SPLAT && i->op <= OP_F64X2_SPLAT && is_splat_load(f, uses, v, first)) {
        f->ins.v[i->a].flags |= INS_FUSED;
    }
}

/* ---- emission ---- */

void x86_simd(struct emitter *e, const struct ins *i) {
    if (x86_is_shuffle(e->f, i)) {
        x86_shuffle(e, i);
        return;
    }
    const struct row *r = row_of(i);
    uint8_t d = e->as->def, x = e->as->use[0], y = e->as->use[1];
    struct rm right;
    switch (r->form & FORM) {
    case BINARY: right = right_rm(e, ordered(e->f, i).right, 1); break;
    case CONSTANT: right = pool64(e, constants[r->imm]); break;
    case UNARY:
        x = 0;
        right = right_rm(e, i->a, 0);
        break;
    case EXTREME:
        vm(e, r->code, XMM15, x, right_rm(e, i->b, 1));
        vr(e, equals[r->imm], d, XMM15, x);
        return;
    case LOAD: vm(e, r->code, d, 0, x86_address(e, i, 1u << opcode_table[i->op].aux)); return;
    case ONE: r->one(e, d, x); return;
    case ONE_BY: r->one_by(e, d, x, r->code); return;
    case TWO: r->two(e, d, x, y); return;
    case TWO_BY: r->two_by(e, d, x, y, r->code); return;
    default: r->whole(e, i); return;
    }
    if (r->form & IMMEDIATE)
        vmi(e, r->code, d, x, right, r->imm);
    else
        vm(e, r->code, d, x, right);
    if (r->form & NEGATED) complement(e, d, d);
}
