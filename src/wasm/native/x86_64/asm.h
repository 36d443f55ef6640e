/* Encoding x86-64 instructions (Intel SDM volume 2, chapter 2). General registers are 0..15, vector registers 16..31 as
 * in target.h; encoders take either and use the low four bits. Vector instructions are VEX-encoded throughout. */
#ifndef DONJON_NATIVE_X86_64_ASM_H
#define DONJON_NATIVE_X86_64_ASM_H

#include "../target.h"
#include <string.h>

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15, XMM0, XMM14 = 30, XMM15 = 31 };
enum { REG_VM = R14, REG_MEM = R15 };

/* The r/m operand: a register, [base + index*scale + disp], or a constant of the pool by [rip + disp]. */
struct rm {
    enum { RM_REG, RM_MEM, RM_POOL } kind;
    uint8_t reg, base, index, scale; /* index RSP: none; scale is log2 */
    int32_t disp;
    uint32_t pool; /* RM_POOL: which constant */
};
static inline struct rm rm_reg(uint8_t r) {
    return (struct rm){.kind = RM_REG, .reg = r};
}
static inline struct rm rm_mem(uint8_t base, int32_t disp) {
    return (struct rm){.kind = RM_MEM, .base = base, .index = RSP, .disp = disp};
}
static inline struct rm rm_index(uint8_t base, uint8_t index, uint8_t scale, int32_t disp) {
    return (struct rm){.kind = RM_MEM, .base = base, .index = index, .scale = scale, .disp = disp};
}
static inline struct rm rm_pool(uint32_t k) {
    return (struct rm){.kind = RM_POOL, .pool = k};
}

struct fixup {
    uint32_t at, target; /* of a 4-byte displacement that ends its instruction or is followed by `after` bytes */
    uint32_t after;
    bool near; /* one byte, not four */
};

struct as { /* assembler */
    struct fn *f;
    VEC(uint8_t) buf;
    VEC(struct fixup) pool_fixups, block_fixups;
    VEC(uint8_t) pool; /* constants of 16 bytes */
};

/* Called before each instruction's encoding: room for the longest sequence between two calls. */
static inline bool as_room(struct as *a) {
    if (!vec_reserve(a->f, &a->buf, 1, 256)) {
        a->buf.n = 0; /* compilation has failed: go on writing over what is there */
        return a->buf.cap >= 256;
    }
    return true;
}
static inline void b1(struct as *a, uint8_t x) {
    a->buf.v[a->buf.n++] = x;
}
static inline void b4(struct as *a, uint32_t x) {
    memcpy(a->buf.v + a->buf.n, &x, 4);
    a->buf.n += 4;
}
static inline void b8(struct as *a, uint64_t x) {
    memcpy(a->buf.v + a->buf.n, &x, 8);
    a->buf.n += 8;
}

static inline uint8_t rm_x(const struct rm *m) {
    return m->kind == RM_MEM ? m->index >> 3 & 1 : 0;
}
static inline uint8_t rm_b(const struct rm *m) {
    return m->kind == RM_POOL ? 0 : (m->kind == RM_REG ? m->reg : m->base) >> 3 & 1;
}

/* ModRM, SIB, displacement. `after`: bytes of immediate that follow (pool addresses are relative to the end). */
static inline void modrm(struct as *a, uint8_t reg, const struct rm *m, uint32_t after) {
    uint8_t r = (uint8_t)((reg & 7) << 3);
    if (m->kind == RM_REG) {
        b1(a, (uint8_t)(0xC0 | r | (m->reg & 7)));
        return;
    }
    if (m->kind == RM_POOL) {
        b1(a, (uint8_t)(r | 5));
        vec_push(a->f, a->pool_fixups, ((struct fixup){a->buf.n, m->pool, after, false}));
        b4(a, 0);
        return;
    }
    bool sib = m->index != RSP || (m->base & 7) == RSP;
    uint8_t mod = m->disp == 0 && (m->base & 7) != RBP ? 0 : m->disp >= -128 && m->disp < 128 ? 0x40 : 0x80;
    b1(a, (uint8_t)(mod | r | (sib ? 4 : (m->base & 7))));
    if (sib) b1(a, (uint8_t)(m->scale << 6 | (m->index & 7) << 3 | (m->base & 7)));
    if (mod == 0x40)
        b1(a, (uint8_t)m->disp);
    else if (mod == 0x80)
        b4(a, (uint32_t)m->disp);
}

/* Legacy encodings: op is up to three bytes (0x0F.. as 0x0FAF), prefix 0 or 0x66/0xF2/0xF3, w: 64-bit. `byte`: register
 * operands of 8 bits need a REX prefix to be spl..dil. */
static inline void op_rm(struct as *a, uint8_t prefix, bool w, uint32_t op, uint8_t reg, struct rm m, uint32_t after,
                         bool byte) {
    if (prefix) b1(a, prefix);
    uint8_t rex = (uint8_t)((w ? 8 : 0) | (reg >> 3 & 1) << 2 | rm_x(&m) << 1 | rm_b(&m));
    if (rex || (byte && ((reg & 15) >= 4 || (m.kind == RM_REG && (m.reg & 15) >= 4)))) b1(a, 0x40 | rex);
    if (op > 0xffff) b1(a, (uint8_t)(op >> 16));
    if (op > 0xff) b1(a, (uint8_t)(op >> 8));
    b1(a, (uint8_t)op);
    modrm(a, reg, &m, after);
}
static inline void x_rm(struct as *a, bool w, uint32_t op, uint8_t reg, struct rm m) {
    op_rm(a, 0, w, op, reg, m, 0, false);
}
static inline void x_rr(struct as *a, bool w, uint32_t op, uint8_t reg, uint8_t rm) {
    op_rm(a, 0, w, op, reg, rm_reg(rm), 0, false);
}

/* VEX: map 1 0F, 2 0F38, 3 0F3A; pp 0 none, 1 66, 2 F3, 3 F2; v: the second source (0 with none). */
enum { PP_NONE, PP_66, PP_F3, PP_F2 };
static inline void vex_rm(struct as *a, uint8_t pp, uint8_t map, bool w, uint8_t op, uint8_t reg, uint8_t v,
                          struct rm m, uint32_t after) {
    uint8_t r = reg >> 3 & 1, x = rm_x(&m), b = rm_b(&m);
    if (!x && !b && !w && map == 1) {
        b1(a, 0xC5);
        b1(a, (uint8_t)((r ? 0 : 0x80) | (~v & 15) << 3 | pp));
    } else {
        b1(a, 0xC4);
        b1(a, (uint8_t)((r ? 0 : 0x80) | (x ? 0 : 0x40) | (b ? 0 : 0x20) | map));
        b1(a, (uint8_t)((w ? 0x80 : 0) | (~v & 15) << 3 | pp));
    }
    b1(a, op);
    modrm(a, reg, &m, after);
}
static inline void v_rm(struct as *a, uint8_t pp, uint8_t map, uint8_t op, uint8_t reg, uint8_t v, struct rm m) {
    vex_rm(a, pp, map, false, op, reg, v, m, 0);
}
static inline void v_rrr(struct as *a, uint8_t pp, uint8_t map, uint8_t op, uint8_t reg, uint8_t v, uint8_t rm) {
    vex_rm(a, pp, map, false, op, reg, v, rm_reg(rm), 0);
}
static inline void v_imm(struct as *a, uint8_t pp, uint8_t map, uint8_t op, uint8_t reg, uint8_t v, struct rm m,
                         uint8_t imm) {
    vex_rm(a, pp, map, false, op, reg, v, m, 1);
    b1(a, imm);
}

/* ALU operations by their /digit: add 0, or 1, and 4, sub 5, xor 6, cmp 7. */
enum { ALU_ADD = 0, ALU_OR = 1, ALU_AND = 4, ALU_SUB = 5, ALU_XOR = 6, ALU_CMP = 7 };
static inline void alu_rm(struct as *a, bool w, uint8_t alu, uint8_t reg, struct rm m) {
    x_rm(a, w, (uint32_t)(alu << 3 | 3), reg, m);
}
static inline void alu_imm(struct as *a, bool w, uint8_t alu, struct rm m, int32_t imm) {
    bool small = imm >= -128 && imm < 128;
    op_rm(a, 0, w, small ? 0x83 : 0x81, alu, m, small ? 1 : 4, false);
    if (small)
        b1(a, (uint8_t)imm);
    else
        b4(a, (uint32_t)imm);
}
static inline void mov_rr(struct as *a, uint8_t to, uint8_t from) {
    if (to != from) x_rr(a, true, 0x8B, to, from);
}
static inline void mov_imm(struct as *a, uint8_t to, uint64_t bits) {
    if (bits <= UINT32_MAX) {
        if (to >> 3 & 1) b1(a, 0x41);
        b1(a, (uint8_t)(0xB8 | (to & 7)));
        b4(a, (uint32_t)bits);
    } else if ((int64_t)bits >= INT32_MIN && (int64_t)bits < 0) {
        op_rm(a, 0, true, 0xC7, 0, rm_reg(to), 4, false);
        b4(a, (uint32_t)bits);
    } else {
        b1(a, (uint8_t)(0x48 | (to >> 3 & 1)));
        b1(a, (uint8_t)(0xB8 | (to & 7)));
        b8(a, bits);
    }
}

/* Condition codes. */
enum { CC_O, CC_NO, CC_B, CC_AE, CC_E, CC_NE, CC_BE, CC_A, CC_S, CC_NS, CC_P, CC_NP, CC_L, CC_GE, CC_LE, CC_G };

/* Jumps within what is being emitted: the displacement's position, to be patched. */
static inline uint32_t jcc_forward(struct as *a, uint8_t cc) {
    b1(a, 0x0F);
    b1(a, 0x80 | cc);
    b4(a, 0);
    return a->buf.n - 4;
}
static inline uint32_t jcc_short(struct as *a, uint8_t cc) {
    b1(a, 0x70 | cc);
    b1(a, 0);
    return a->buf.n - 1;
}
static inline uint32_t jmp_short(struct as *a) {
    b1(a, 0xEB);
    b1(a, 0);
    return a->buf.n - 1;
}
static inline void patch_short(struct as *a, uint32_t at) {
    a->buf.v[at] = (uint8_t)(a->buf.n - at - 1);
}
static inline void patch4(struct as *a, uint32_t at, uint32_t target) {
    uint32_t d = target - (at + 4);
    memcpy(a->buf.v + at, &d, 4);
}

/* Index of a constant in the pool, shared with an equal one among the latest. */
static inline uint32_t pool_add(struct as *a, const void *bytes) {
    uint32_t n = a->pool.n / 16;
    for (uint32_t k = n; k-- > (n > 32 ? n - 32 : 0);)
        if (!memcmp(a->pool.v + 16 * k, bytes, 16)) return k;
    if (!vec_reserve(a->f, &a->pool, 1, 16)) return 0;
    memcpy(a->pool.v + a->pool.n, bytes, 16);
    a->pool.n += 16;
    return n;
}
static inline uint32_t pool_u64(struct as *a, uint64_t lo, uint64_t hi) {
    uint64_t v[2] = {lo, hi};
    return pool_add(a, v);
}

#endif
