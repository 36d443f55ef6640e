/* Vector instructions by name, for simd.c and shuffle.c (Intel SDM volume 2; all VEX.128). A code packs prefix, opcode
 * map, opcode and VEX.W. In three-operand forms the order is the manual's: result, first source, second source or
 * memory. */
#ifndef DONJON_NATIVE_X86_64_VECTOR_H
#define DONJON_NATIVE_X86_64_VECTOR_H

#include "x86_64.h"

#define V(pp, map, op) (PP_##pp | (map) << 2 | (op) << 4)
enum { V_WIDE = 1 << 12 };

// clang-format off
enum vector_code {
    /* Moves. Stores and moves to general registers have the vector in the place of the result. */
    VMOVUPS = V(NONE, 1, 0x10), VMOVUPS_STORE = V(NONE, 1, 0x11), VMOVAPS = V(NONE, 1, 0x28), VMOVSS_LOAD = V(F3, 1, 0x10),
    VMOVSS_STORE = V(F3, 1, 0x11), VMOVQ_LOAD = V(F3, 1, 0x7E), VMOVQ_STORE = V(66, 1, 0xD6), VMOVD = V(66, 1, 0x6E),
    VMOVQ = V(66, 1, 0x6E) | V_WIDE, VMOVD_OUT = V(66, 1, 0x7E), VMOVQ_OUT = V(66, 1, 0x7E) | V_WIDE,
    VMOVLPS = V(NONE, 1, 0x12), VMOVHPS = V(NONE, 1, 0x16), VMOVHPS_STORE = V(NONE, 1, 0x17), VMOVLHPS = V(NONE, 1, 0x16),
    VMOVDDUP = V(F2, 1, 0x12), VMOVSHDUP = V(F3, 1, 0x16),
    VPINSRB = V(66, 3, 0x20), VPINSRW = V(66, 1, 0xC4), VPINSRD = V(66, 3, 0x22), VPINSRQ = V(66, 3, 0x22) | V_WIDE,
    VPEXTRB = V(66, 3, 0x14), VPEXTRW = V(66, 3, 0x15), VPEXTRD = V(66, 3, 0x16), VPEXTRQ = V(66, 3, 0x16) | V_WIDE,
    VINSERTPS = V(66, 3, 0x21), VPBROADCASTB = V(66, 2, 0x78), VPBROADCASTW = V(66, 2, 0x79), VPBROADCASTD = V(66, 2, 0x58),
    VPBROADCASTQ = V(66, 2, 0x59), VBROADCASTSS = V(66, 2, 0x18),
    VPMOVMSKB = V(66, 1, 0xD7), VMOVMSKPS = V(NONE, 1, 0x50), VMOVMSKPD = V(66, 1, 0x50), VPTEST = V(66, 2, 0x17),

    /* Lanes. */
    VPSHUFB = V(66, 2, 0x00), VPSHUFD = V(66, 1, 0x70), VPSHUFHW = V(F3, 1, 0x70), VPSHUFLW = V(F2, 1, 0x70),
    VPALIGNR = V(66, 3, 0x0F), VSHUFPS = V(NONE, 1, 0xC6), VPBLENDW = V(66, 3, 0x0E), VPBLENDD = V(66, 3, 0x02),
    VPBLENDVB = V(66, 3, 0x4C), VBLENDVPS = V(66, 3, 0x4A), VBLENDVPD = V(66, 3, 0x4B), VBLENDPS = V(66, 3, 0x0C),
    VBLENDPD = V(66, 3, 0x0D), VUNPCKHPD = V(66, 1, 0x15), VUNPCKHPS = V(NONE, 1, 0x15),
    VPUNPCKLBW = V(66, 1, 0x60), VPUNPCKLWD = V(66, 1, 0x61), VPUNPCKLDQ = V(66, 1, 0x62), VPUNPCKLQDQ = V(66, 1, 0x6C),
    VPUNPCKHBW = V(66, 1, 0x68), VPUNPCKHWD = V(66, 1, 0x69), VPUNPCKHDQ = V(66, 1, 0x6A), VPUNPCKHQDQ = V(66, 1, 0x6D),
    VPACKSSWB = V(66, 1, 0x63), VPACKSSDW = V(66, 1, 0x6B), VPACKUSWB = V(66, 1, 0x67), VPACKUSDW = V(66, 2, 0x2B),
    VPMOVSXBW = V(66, 2, 0x20), VPMOVSXWD = V(66, 2, 0x23), VPMOVSXDQ = V(66, 2, 0x25), VPMOVZXBW = V(66, 2, 0x30),
    VPMOVZXBD = V(66, 2, 0x31), VPMOVZXBQ = V(66, 2, 0x32), VPMOVZXWD = V(66, 2, 0x33), VPMOVZXWQ = V(66, 2, 0x34),
    VPMOVZXDQ = V(66, 2, 0x35),

    /* Bits and shifts. By an immediate: the /digit is in the place of the result, that in the place of the first
     * source. */
    VPAND = V(66, 1, 0xDB), VPANDN = V(66, 1, 0xDF), VPOR = V(66, 1, 0xEB), VPXOR = V(66, 1, 0xEF),
    VPSLLW = V(66, 1, 0xF1), VPSLLD = V(66, 1, 0xF2), VPSLLQ = V(66, 1, 0xF3), VPSRLW = V(66, 1, 0xD1),
    VPSRLD = V(66, 1, 0xD2), VPSRLQ = V(66, 1, 0xD3), VPSRAW = V(66, 1, 0xE1), VPSRAD = V(66, 1, 0xE2),
    VPSHIFT_W = V(66, 1, 0x71), VPSHIFT_D = V(66, 1, 0x72), VPSHIFT_Q = V(66, 1, 0x73),

    /* Integers. */
    VPADDB = V(66, 1, 0xFC), VPADDW = V(66, 1, 0xFD), VPADDD = V(66, 1, 0xFE), VPADDQ = V(66, 1, 0xD4),
    VPSUBB = V(66, 1, 0xF8), VPSUBW = V(66, 1, 0xF9), VPSUBD = V(66, 1, 0xFA), VPSUBQ = V(66, 1, 0xFB),
    VPADDSB = V(66, 1, 0xEC), VPADDSW = V(66, 1, 0xED), VPADDUSB = V(66, 1, 0xDC), VPADDUSW = V(66, 1, 0xDD),
    VPSUBSB = V(66, 1, 0xE8), VPSUBSW = V(66, 1, 0xE9), VPSUBUSB = V(66, 1, 0xD8), VPSUBUSW = V(66, 1, 0xD9),
    VPAVGB = V(66, 1, 0xE0), VPAVGW = V(66, 1, 0xE3), VPABSB = V(66, 2, 0x1C), VPABSW = V(66, 2, 0x1D), VPABSD = V(66, 2, 0x1E),
    VPMINSB = V(66, 2, 0x38), VPMINSW = V(66, 1, 0xEA), VPMINSD = V(66, 2, 0x39), VPMINUB = V(66, 1, 0xDA),
    VPMINUW = V(66, 2, 0x3A), VPMINUD = V(66, 2, 0x3B), VPMAXSB = V(66, 2, 0x3C), VPMAXSW = V(66, 1, 0xEE),
    VPMAXSD = V(66, 2, 0x3D), VPMAXUB = V(66, 1, 0xDE), VPMAXUW = V(66, 2, 0x3E), VPMAXUD = V(66, 2, 0x3F),
    VPMULLW = V(66, 1, 0xD5), VPMULLD = V(66, 2, 0x40), VPMULHW = V(66, 1, 0xE5), VPMULHUW = V(66, 1, 0xE4),
    VPMULUDQ = V(66, 1, 0xF4), VPMULDQ = V(66, 2, 0x28), VPMADDWD = V(66, 1, 0xF5), VPMADDUBSW = V(66, 2, 0x04),
    VPMULHRSW = V(66, 2, 0x0B), VPCMPEQB = V(66, 1, 0x74), VPCMPEQW = V(66, 1, 0x75), VPCMPEQD = V(66, 1, 0x76),
    VPCMPEQQ = V(66, 2, 0x29), VPCMPGTB = V(66, 1, 0x64), VPCMPGTW = V(66, 1, 0x65), VPCMPGTD = V(66, 1, 0x66),
    VPCMPGTQ = V(66, 2, 0x37),

    /* Floats. */
    VADDPS = V(NONE, 1, 0x58), VADDPD = V(66, 1, 0x58), VSUBPS = V(NONE, 1, 0x5C), VSUBPD = V(66, 1, 0x5C),
    VMULPS = V(NONE, 1, 0x59), VMULPD = V(66, 1, 0x59), VDIVPS = V(NONE, 1, 0x5E), VDIVPD = V(66, 1, 0x5E),
    VMINPS = V(NONE, 1, 0x5D), VMINPD = V(66, 1, 0x5D), VMAXPS = V(NONE, 1, 0x5F), VMAXPD = V(66, 1, 0x5F),
    VSQRTPS = V(NONE, 1, 0x51), VSQRTPD = V(66, 1, 0x51), VCMPPS = V(NONE, 1, 0xC2), VCMPPD = V(66, 1, 0xC2),
    VANDPS = V(NONE, 1, 0x54), VORPS = V(NONE, 1, 0x56), VXORPS = V(NONE, 1, 0x57), VROUNDPS = V(66, 3, 0x08),
    VROUNDPD = V(66, 3, 0x09), VCVTDQ2PS = V(NONE, 1, 0x5B), VCVTTPS2DQ = V(F3, 1, 0x5B), VCVTDQ2PD = V(F3, 1, 0xE6),
    VCVTTPD2DQ = V(66, 1, 0xE6), VCVTPD2PS = V(66, 1, 0x5A), VCVTPS2PD = V(NONE, 1, 0x5A),
};
// clang-format on

/* Predicates of vcmpps; all quiet. Digits of immediate shifts. Modes of vroundps, without the inexact exception. */
enum {
    CMP_EQ = 0,
    CMP_UNORD = 3,
    CMP_NEQ = 4,
    CMP_ORD = 7,
    CMP_LT = 0x11,
    CMP_LE = 0x12,
    CMP_GE = 0x1D,
    CMP_GT = 0x1E
};
enum { SHIFT_RIGHT = 2, SHIFT_BYTES_RIGHT = 3, SHIFT_SIGNED = 4, SHIFT_LEFT = 6, SHIFT_BYTES_LEFT = 7 };
enum { ROUND_NEAREST = 8, ROUND_DOWN = 9, ROUND_UP = 10, ROUND_ZERO = 11 };

static inline void vm(struct emitter *e, enum vector_code c, uint8_t d, uint8_t x, struct rm y) {
    vex_rm(&e->a, c & 3, c >> 2 & 3, c & V_WIDE, (uint8_t)(c >> 4), d, x, y, 0);
}
static inline void vr(struct emitter *e, enum vector_code c, uint8_t d, uint8_t x, uint8_t y) {
    vm(e, c, d, x, rm_reg(y));
}
static inline void vmi(struct emitter *e, enum vector_code c, uint8_t d, uint8_t x, struct rm y, unsigned imm) {
    vex_rm(&e->a, c & 3, c >> 2 & 3, c & V_WIDE, (uint8_t)(c >> 4), d, x, y, 1);
    b1(&e->a, (uint8_t)imm);
}
static inline void vri(struct emitter *e, enum vector_code c, uint8_t d, uint8_t x, uint8_t y, unsigned imm) {
    vmi(e, c, d, x, rm_reg(y), imm);
}
/* Blends: y where the top bit of the mask's lane is set. */
static inline void vblend(struct emitter *e, enum vector_code c, uint8_t d, uint8_t x, struct rm y, uint8_t mask) {
    vmi(e, c, d, x, y, (unsigned)(mask & 15) << 4);
}
static inline void vmove(struct emitter *e, uint8_t d, uint8_t x) {
    if (d != x) vr(e, VMOVAPS, d, 0, x);
}

/* Constants from the pool: both halves alike. */
static inline struct rm pool64(struct emitter *e, uint64_t half) {
    return rm_pool(pool_u64(&e->a, half, half));
}
static inline struct rm pool32(struct emitter *e, uint32_t lane) {
    return pool64(e, lane * 0x100000001ull);
}
static inline struct rm pool16(struct emitter *e, uint16_t lane) {
    return pool32(e, lane * 0x10001u);
}
static inline struct rm pool8(struct emitter *e, uint8_t lane) {
    return pool16(e, (uint16_t)(lane * 0x101u));
}

static inline bool is_constant(const struct fn *f, ref v) {
    return f->ins.v[v].op == IR_CONST || f->ins.v[v].op == IR_CONST128;
}
static inline void use_of(struct operands *o, ref v, uint8_t how) {
    o->use[o->n++].value = v, o->use[o->n - 1].how = how;
}

/* An operand that may come from memory: a constant from the pool, so the allocator does not see it. */
static inline void use_right(const struct fn *f, struct operands *o, ref v) {
    if (!is_constant(f, v)) use_of(o, v, USE_ANY);
}
static inline struct rm right_rm(struct emitter *e, ref v, unsigned k) {
    return is_constant(e->f, v) ? x86_pool_const(e, &e->f->ins.v[v]) : use_rm(e, k);
}

/* shuffle.c: permutations of bytes known beforehand. False when `i` is not one. */
bool x86_is_shuffle(const struct fn *f, const struct ins *i);
void x86_shuffle_operands(const struct fn *f, const struct ins *i, struct operands *o);
void x86_shuffle(struct emitter *e, const struct ins *i);
/* or(shl(x, n), shr_u(x, width - n)), n whole bytes: x, and the lanes. 0: not a rotation. */
ref x86_byte_rotation(const struct fn *f, const struct ins *i, uint8_t lanes[16]);

#endif
