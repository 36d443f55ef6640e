/* Vector instructions into slot code. Which handler belongs to which opcode and how its operands lie is the business of
 * oplist_simd.h; operand types come from opcodes.h. */
#include "translate.h"
#include <string.h>

static const uint16_t simd_ops[OPCODE_LIMIT - OP_BASE_FD] = {
#define ENTRY(X, op, n, ...) [OP_##op - OP_BASE_FD] = IOP_##n,
    SIMD_UNARY(ENTRY, ) SIMD_BINARY(ENTRY, ) SIMD_TERNARY(ENTRY, ) SIMD_SHIFT(ENTRY, ) SIMD_TEST(ENTRY, )
        SIMD_SPLAT(ENTRY, ) SIMD_EXTRACT(ENTRY, ) SIMD_REPLACE(ENTRY, ) SIMD_LOAD(ENTRY, ) SIMD_LOAD_LANE(ENTRY, )
            SIMD_STORE_LANE(ENTRY, )
#undef ENTRY
                [OP_I8X16_SHUFFLE - OP_BASE_FD] = IOP_i8x16_shuffle,
    [OP_V128_STORE - OP_BASE_FD] = IOP_v128_store,
};

static void translate_const(struct translator *t) {
    uint32_t at = emit(t, IOP_const128, 3);
    memcpy(&t->code[at + 2], t->p, 16);
    t->p += 16;
    push_result(t, at, IOP_const128, KIND_V128);
}

/* Whether a shuffle moves 32-bit lanes as a whole; then `from` has their numbers, 0 to 7. */
static bool moves_words(const uint8_t *lanes, uint8_t from[4]) {
    for (unsigned i = 0; i < 16; i++) {
        if (lanes[i] % 4 != i % 4 || lanes[i] / 4 != lanes[i & 12] / 4) return false;
        from[i / 4] = lanes[i] / 4;
    }
    return true;
}

static void shuffle_words(struct translator *t, uint16_t a, uint16_t b, const uint8_t from[4]) {
    uint32_t at = emit4(t, IOP_i32x4_shuffle, 0, a, b, 0, 3);
    for (unsigned i = 0; i < 4; i++)
        t->code[at + 2 + i / 2].u[i % 2] = (from[i] < 4 ? a : b) * (uint32_t)sizeof(slot) + from[i] % 4 * 4;
    push_result(t, at, IOP_i32x4_shuffle, KIND_V128);
}

#ifdef __x86_64__
static void shuffle_ssse3(struct translator *t, uint16_t a, uint16_t b, const uint8_t *lanes) {
    uint32_t at = emit4(t, IOP_i8x16_shuffle_ssse3, 0, a, b, 0, 5);
    uint8_t *of_a = (uint8_t *)&t->code[at + 2], *of_b = of_a + 16;
    for (unsigned i = 0; i < 16; i++) {
        of_a[i] = lanes[i] < 16 ? lanes[i] : 0x80;
        of_b[i] = lanes[i] < 16 ? 0x80 : lanes[i] - 16;
    }
    push_result(t, at, IOP_i8x16_shuffle_ssse3, KIND_V128);
}
#endif

static void translate_shuffle(struct translator *t) {
    const uint8_t *lanes = t->p;
    uint8_t from[4];
    t->p += 16;
    uint16_t b = pop_slot(t), a = pop_slot(t);
    if (moves_words(lanes, from)) {
        shuffle_words(t, a, b, from);
        return;
    }
#ifdef __x86_64__
    if (__builtin_cpu_supports("ssse3")) {
        shuffle_ssse3(t, a, b, lanes);
        return;
    }
#endif
    uint32_t at = emit4(t, IOP_i8x16_shuffle, 0, a, b, 0, 3);
    memcpy(&t->code[at + 2], lanes, 16);
    push_result(t, at, IOP_i8x16_shuffle, KIND_V128);
}

/* Everything that takes its operands from slots, with a lane perhaps: [d a b c] or [d a b lane]. */
static void translate_lanes(struct translator *t, uint32_t op, uint32_t iop) {
    const struct opcode_info *info = &opcode_table[op];
    uint16_t s[4] = {0};
    unsigned n = sig_params(info->sig);
    for (unsigned i = n; i > 0; i--)
        s[i] = pop_slot(t);
    if (info->imm == IMM_LANE) s[n + 1] = *t->p++;
    uint32_t at = emit4(t, iop, 0, s[1], s[2], s[3], 1);
    push_result(t, at, iop, (uint8_t)sig_result(info->sig));
}

static void translate_load(struct translator *t, uint32_t iop) {
    struct memarg m = read_memarg(t);
    uint16_t address = pop_slot(t);
    uint32_t at;
    if (m.near_) {
        at = emit4(t, iop, 0, address, 0, 0, 1);
        t->code[at + 1].u[1] = (uint32_t)m.offset;
    } else {
        at = emit4(t, ++iop, 0, address, m.is64, 0, 3);
        t->code[at + 2].memory = m.memory;
        t->code[at + 3].u64 = m.offset;
    }
    push_result(t, at, iop, KIND_V128);
}

static void translate_store(struct translator *t) {
    struct memarg m = read_memarg(t);
    uint16_t value = pop_slot(t), address = pop_slot(t);
    if (m.near_) {
        uint32_t at = emit4(t, IOP_v128_store, address, value, 0, 0, 1);
        t->code[at + 1].u[1] = (uint32_t)m.offset;
        return;
    }
    uint32_t at = emit4(t, IOP_v128_store_far, address, value, m.is64, 0, 3);
    t->code[at + 2].memory = m.memory;
    t->code[at + 3].u64 = m.offset;
}

/* Loads have a destination before the vector, stores have not. */
static void translate_lane_access(struct translator *t, uint32_t iop, bool load) {
    struct memarg m = read_memarg(t);
    uint16_t lane = *t->p++, value = pop_slot(t), address = pop_slot(t), is64 = m.is64 && !m.near_;
    iop += !m.near_;
    uint32_t at = load ? emit4(t, iop, 0, value, address, (uint16_t)(lane | is64 << 8), m.near_ ? 2 : 3)
                       : emit4(t, iop, value, address, lane, is64, m.near_ ? 2 : 3);
    if (!m.near_) t->code[at + 2].memory = m.memory;
    t->code[at + (m.near_ ? 2 : 3)].u64 = m.offset;
    if (load) push_result(t, at, iop, KIND_V128);
}

void translate_simd(struct translator *t, uint32_t op) {
    const struct opcode_info *info = &opcode_table[op];
    uint32_t iop = simd_ops[op - OP_BASE_FD];
#ifdef __x86_64__
    const bool swizzle = op == OP_I8X16_SWIZZLE || op == OP_I8X16_RELAXED_SWIZZLE;
    if (swizzle && __builtin_cpu_supports("ssse3")) iop = IOP_i8x16_swizzle_ssse3;
#endif
    if (op == OP_V128_CONST)
        translate_const(t);
    else if (op == OP_I8X16_SHUFFLE)
        translate_shuffle(t);
    else if (op == OP_V128_STORE)
        translate_store(t);
    else if (info->imm == IMM_MEMARG)
        translate_load(t, iop);
    else if (info->imm == IMM_MEMARG_LANE)
        translate_lane_access(t, iop, sig_result(info->sig) != 0);
    else
        translate_lanes(t, op, iop);
}
