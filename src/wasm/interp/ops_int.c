/* Integer arithmetic, comparisons, compare-and-branch, unary operations and conversions. */
#include "state.h"
#include "../numeric.h"

typedef uint32_t u32;
typedef uint64_t u64;

/* One instruction and its twin: binds a and b, makes acc, and stores it or not. */
#define DEFINE(name, T, A, B, GUARD, EXPR)                                                                             \
    OP(name) {                                                                                                         \
        const T a = (T)(A), b = (T)(B);                                                                                \
        GUARD;                                                                                                         \
        acc = (T)(EXPR);                                                                                               \
        SET(0, acc);                                                                                                   \
        NEXT(2);                                                                                                       \
    }                                                                                                                  \
    OP(name##_n) {                                                                                                     \
        const T a = (T)(A), b = (T)(B);                                                                                \
        GUARD;                                                                                                         \
        acc = (T)(EXPR);                                                                                               \
        NEXT(2);                                                                                                       \
    }
#define IMM32 ((u32)pc[1].i[1])
#define IMM64 ((u64)(int64_t)pc[1].i[1])

#define COMM(name, W, GUARD, EXPR)                                                                                     \
    DEFINE(name##_ss, u##W, S##W(1), S##W(2), GUARD, EXPR)                                                             \
    DEFINE(name##_si, u##W, S##W(1), IMM##W, GUARD, EXPR)                                                              \
    DEFINE(name##_as, u##W, acc, S##W(2), GUARD, EXPR)                                                                 \
    DEFINE(name##_ai, u##W, acc, IMM##W, GUARD, EXPR)
#define BINARY(name, W, GUARD, EXPR)                                                                                   \
    COMM(name, W, GUARD, EXPR)                                                                                         \
    DEFINE(name##_sa, u##W, S##W(1), acc, GUARD, EXPR)                                                                 \
    DEFINE(name##_is, u##W, IMM##W, S##W(1), GUARD, EXPR)                                                              \
    DEFINE(name##_ia, u##W, IMM##W, acc, GUARD, EXPR)

#define ARITHMETIC(W)                                                                                                  \
    COMM(i##W##_add, W, , a + b)                                                                                       \
    COMM(i##W##_mul, W, , a *b)                                                                                        \
    COMM(i##W##_and, W, , a &b)                                                                                        \
    COMM(i##W##_or, W, , a | b)                                                                                        \
    COMM(i##W##_xor, W, , a ^ b)                                                                                       \
    BINARY(i##W##_sub, W, , a - b)                                                                                     \
    BINARY(i##W##_shl, W, , i##W##_shl(a, b))                                                                          \
    BINARY(i##W##_shr_s, W, , i##W##_shr_s(a, b))                                                                      \
    BINARY(i##W##_shr_u, W, , i##W##_shr_u(a, b))                                                                      \
    BINARY(i##W##_rotl, W, , i##W##_rotl(a, b))                                                                        \
    BINARY(i##W##_rotr, W, , i##W##_rotr(a, b))                                                                        \
    BINARY(i##W##_div_s, W, TRAP_IF(b == 0, div_zero);                                                                 \
           TRAP_IF(a == (u##W)INT##W##_MIN && b == (u##W) - 1, int_overflow), (u##W)((int##W##_t)a / (int##W##_t)b))   \
    BINARY(i##W##_div_u, W, TRAP_IF(b == 0, div_zero), a / b)                                                          \
    BINARY(i##W##_rem_s, W, TRAP_IF(b == 0, div_zero), b == (u##W) - 1 ? 0 : (u##W)((int##W##_t)a % (int##W##_t)b))    \
    BINARY(i##W##_rem_u, W, TRAP_IF(b == 0, div_zero), a % b)
ARITHMETIC(32)
ARITHMETIC(64)

#define DEFINE_WIDE(name, A, EXPR)                                                                                     \
    OP(name) {                                                                                                         \
        const u64 a = (A), b = pc[2].u64;                                                                              \
        acc = (EXPR);                                                                                                  \
        SET(0, acc);                                                                                                   \
        NEXT(3);                                                                                                       \
    }                                                                                                                  \
    OP(name##_n) {                                                                                                     \
        const u64 a = (A), b = pc[2].u64;                                                                              \
        acc = (EXPR);                                                                                                  \
        NEXT(3);                                                                                                       \
    }
#define WIDE(name, EXPR)                                                                                               \
    DEFINE_WIDE(name##_s, S64(1), EXPR)                                                                                \
    DEFINE_WIDE(name##_a, acc, EXPR)
WIDE(i64_add_wide, a + b)
WIDE(i64_mul_wide, (a * b))
WIDE(i64_and_wide, (a & b))
WIDE(i64_or_wide, a | b)
WIDE(i64_xor_wide, a ^ b)

/* Comparisons, as values and as branches. A branch's second immediate is 16 bits: s[1] of its operand word. */
#define DEFINE_BR(name, T, A, B, EXPR)                                                                                 \
    OP(br_##name) {                                                                                                    \
        const T a = (T)(A), b = (T)(B);                                                                                \
        if (EXPR) JUMP(pc + 1);                                                                                        \
        NEXT(2);                                                                                                       \
    }                                                                                                                  \
    OP(loop_##name) {                                                                                                  \
        const T a = (T)(A), b = (T)(B);                                                                                \
        if (EXPR) {                                                                                                    \
            pc = pc + 1 + pc[1].i[1];                                                                                  \
            TICK(ctx);                                                                                                 \
            TAIL pc->h(ARGS);                                                                                          \
        }                                                                                                              \
        NEXT(2);                                                                                                       \
    }
#define IMM16 ((int16_t)pc[1].s[1])
#define COMPARE(name, W, EXPR)                                                                                         \
    COMM(name, W, , (u32)(EXPR))                                                                                       \
    DEFINE_BR(name##_ss, u##W, S##W(0), S##W(1), EXPR)                                                                 \
    DEFINE_BR(name##_si, u##W, S##W(0), (int##W##_t)IMM16, EXPR)                                                       \
    DEFINE_BR(name##_as, u##W, acc, S##W(1), EXPR)                                                                     \
    DEFINE_BR(name##_ai, u##W, acc, (int##W##_t)IMM16, EXPR)
#define COMPARES(W)                                                                                                    \
    COMPARE(i##W##_eq, W, a == b)                                                                                      \
    COMPARE(i##W##_ne, W, a != b)                                                                                      \
    COMPARE(i##W##_lt_s, W, (int##W##_t)a < (int##W##_t)b)                                                             \
    COMPARE(i##W##_ge_s, W, (int##W##_t)a >= (int##W##_t)b)                                                            \
    COMPARE(i##W##_lt_u, W, a < b)                                                                                     \
    COMPARE(i##W##_ge_u, W, a >= b)                                                                                    \
    COMPARE(i##W##_gt_s, W, (int##W##_t)a > (int##W##_t)b)                                                             \
    COMPARE(i##W##_le_s, W, (int##W##_t)a <= (int##W##_t)b)                                                            \
    COMPARE(i##W##_gt_u, W, a > b)                                                                                     \
    COMPARE(i##W##_le_u, W, a <= b)                                                                                    \
    COMPARE(i##W##_tst, W, (a & b) != 0)                                                                               \
    COMPARE(i##W##_ntst, W, (a & b) == 0)
COMPARES(32)
COMPARES(64)

/* Fused: what compilers write for array indices, bit fields, hashes and ciphers. */
#define SHIFTED(name, W, EXPR)                                                                                         \
    SHIFTED_BY(name##_shl, W, shl, EXPR)                                                                               \
    SHIFTED_BY(name##_shr_u, W, shr_u, EXPR)                                                                           \
    SHIFTED_BY(name##_rotl, W, rotl, EXPR)
#define SHIFTED_BY(name, W, shift, EXPR)                                                                               \
    DEFINE(name##_s, u##W, S##W(1), i##W##_##shift(S##W(2), pc[1].s[3]), , EXPR)                                       \
    DEFINE(name##_a, u##W, S##W(1), i##W##_##shift((u##W)acc, pc[1].s[3]), , EXPR)
#define ROTATED(name, W, EXPR)                                                                                         \
    DEFINE(name##_rotl_ss, u##W, S##W(1), S##W(2), , i##W##_rotl(EXPR, pc[1].s[3]))                                    \
    DEFINE(name##_rotl_as, u##W, acc, S##W(2), , i##W##_rotl(EXPR, pc[1].s[3]))
#define DEFINE_FIELD(name, W, A, EXPR)                                                                                 \
    OP(name) {                                                                                                         \
        const u##W a = (u##W)(A), n = pc[1].s[2], mask = (u##W)pc[2].u64;                                              \
        acc = (u##W)(EXPR);                                                                                            \
        SET(0, acc);                                                                                                   \
        NEXT(3);                                                                                                       \
    }                                                                                                                  \
    OP(name##_n) {                                                                                                     \
        const u##W a = (u##W)(A), n = pc[1].s[2], mask = (u##W)pc[2].u64;                                              \
        acc = (u##W)(EXPR);                                                                                            \
        NEXT(3);                                                                                                       \
    }
#define BITS(W)                                                                                                        \
    SHIFTED(i##W##_add, W, a + b)                                                                                      \
    SHIFTED(i##W##_sub, W, a - b)                                                                                      \
    SHIFTED(i##W##_or, W, a | b)                                                                                       \
    SHIFTED(i##W##_xor, W, a ^ b)                                                                                      \
    ROTATED(i##W##_add, W, a + b)                                                                                      \
    ROTATED(i##W##_xor, W, a ^ b)                                                                                      \
    DEFINE_FIELD(i##W##_shr_u_and_s, W, S##W(1), i##W##_shr_u(a, n) & mask)                                            \
    DEFINE_FIELD(i##W##_shr_u_and_a, W, acc, i##W##_shr_u(a, n) & mask)                                                \
    DEFINE_FIELD(i##W##_and_shl_s, W, S##W(1), i##W##_shl((a & mask), n))                                              \
    DEFINE_FIELD(i##W##_and_shl_a, W, acc, i##W##_shl((a & mask), n))
BITS(32)
BITS(64)

#define DEFINE_ADD_BR(name, B, EXPR)                                                                                   \
    OP(add_br_##name) {                                                                                                \
        const u32 a = S32(1) + IMM32, b = (u32)(B);                                                                    \
        acc = a;                                                                                                       \
        SET(0, a);                                                                                                     \
        if (EXPR) JUMP(pc + 2);                                                                                        \
        NEXT(3);                                                                                                       \
    }                                                                                                                  \
    OP(add_loop_##name) {                                                                                              \
        const u32 a = S32(1) + IMM32, b = (u32)(B);                                                                    \
        acc = a;                                                                                                       \
        SET(0, a);                                                                                                     \
        if (EXPR) {                                                                                                    \
            pc = pc + 2 + pc[2].i[1];                                                                                  \
            TICK(ctx);                                                                                                 \
            TAIL pc->h(ARGS);                                                                                          \
        }                                                                                                              \
        NEXT(3);                                                                                                       \
    }
#define ADD_BR(name, EXPR)                                                                                             \
    DEFINE_ADD_BR(name##_s, fp[pc[2].s[0]].i32, EXPR)                                                                  \
    DEFINE_ADD_BR(name##_i, (int32_t)(int16_t)pc[2].s[0], EXPR)
ADD_BR(i32_eq, a == b)
ADD_BR(i32_ne, a != b)
ADD_BR(i32_lt_s, (int32_t)a < (int32_t)b)
ADD_BR(i32_ge_s, (int32_t)a >= (int32_t)b)
ADD_BR(i32_lt_u, a < b)
ADD_BR(i32_ge_u, a >= b)
ADD_BR(i32_gt_s, (int32_t)a > (int32_t)b)
ADD_BR(i32_le_s, (int32_t)a <= (int32_t)b)
ADD_BR(i32_gt_u, a > b)
ADD_BR(i32_le_u, a <= b)

#define DEFINE_RANGE(name, A, EXPR)                                                                                    \
    OP(range_br_##name) {                                                                                              \
        const u32 a = (u32)(A) + IMM32, b = (u32)(int32_t)(int16_t)pc[2].s[0];                                         \
        acc = a;                                                                                                       \
        if (EXPR) JUMP(pc + 2);                                                                                        \
        NEXT(3);                                                                                                       \
    }
#define RANGE(name, EXPR)                                                                                              \
    DEFINE_RANGE(name##_s, S32(1), EXPR)                                                                               \
    DEFINE_RANGE(name##_a, acc, EXPR)
RANGE(i32_lt_u, a < b)
RANGE(i32_ge_u, a >= b)
RANGE(i32_gt_u, a > b)
RANGE(i32_le_u, a <= b)

/* Two sums, each with its place: [d a d2 a2][imm imm2]. */
OP(i32_add_2) {
    SET(0, S32(1) + pc[2].u[0]);
    acc = S32(3) + pc[2].u[1];
    SET(2, acc);
    NEXT(3);
}

/* Unary operations with an integer result. */
#define DEFINE_UN(name, T, A, EXPR)                                                                                    \
    OP(name) {                                                                                                         \
        const T a = (T)(A);                                                                                            \
        acc = (EXPR);                                                                                                  \
        SET(0, acc);                                                                                                   \
        NEXT(2);                                                                                                       \
    }                                                                                                                  \
    OP(name##_n) {                                                                                                     \
        const T a = (T)(A);                                                                                            \
        acc = (EXPR);                                                                                                  \
        NEXT(2);                                                                                                       \
    }
#define UNARY(name, W, EXPR)                                                                                           \
    DEFINE_UN(name##_s, u##W, S##W(1), EXPR)                                                                           \
    DEFINE_UN(name##_a, u##W, acc, EXPR)
UNARY(i32_clz, 32, i32_clz(a))
UNARY(i32_ctz, 32, i32_ctz(a))
UNARY(i32_popcnt, 32, i32_popcnt(a))
UNARY(i32_extend8_s, 32, (u32)(int8_t)a)
UNARY(i32_extend16_s, 32, (u32)(int16_t)a)
UNARY(i64_clz, 64, i64_clz(a))
UNARY(i64_ctz, 64, i64_ctz(a))
UNARY(i64_popcnt, 64, i64_popcnt(a))
UNARY(i64_extend8_s, 32, (u64)(int8_t)a)
UNARY(i64_extend16_s, 32, (u64)(int16_t)a)
UNARY(i64_extend32_s, 32, (u64)(int32_t)a)
UNARY(i64_extend_i32_u, 32, a)

/* From floats. */
#define FROM_FLOAT(name, F, T, EXPR)                                                                                   \
    DEFINE_UN(name##_s, T, SF##F(1), EXPR)                                                                             \
    DEFINE_UN(name##_a, T, FACC##F, EXPR)
#define FACC32 facc
#define FACC64 dacc
FROM_FLOAT(i32_reinterpret_f32, 32, float, f32_bits(a))
FROM_FLOAT(i64_reinterpret_f64, 64, double, f64_bits(a))

/* NaN and out-of-range operands trap differently: sorted out here, from the operand. */
#define DEFINE_TRUNCS(I, S)                                                                                            \
    DEFINE_TRUNC_F(I, S, 32)                                                                                           \
    DEFINE_TRUNC_F(I, S, 64)
#define DEFINE_TRUNC_F(I, S, F)                                                                                        \
    TRUNC_SHAPE(I##_trunc_f##F##_##S##_s, SF##F(1), I##_trunc_##S)                                                     \
    TRUNC_SHAPE(I##_trunc_f##F##_##S##_a, FACC##F, I##_trunc_##S)                                                      \
    FROM_FLOAT(I##_trunc_sat_f##F##_##S, F, double, I##_trunc_##S##_sat(a))
#define TRUNC_SHAPE(name, A, TRUNC)                                                                                    \
    OP(name) {                                                                                                         \
        const double a = (A);                                                                                          \
        if (UNLIKELY(!TRUNC##_ok(a))) {                                                                                \
            if (a != a) TRAP(int_conversion);                                                                          \
            TRAP(int_overflow);                                                                                        \
        }                                                                                                              \
        acc = TRUNC(a);                                                                                                \
        SET(0, acc);                                                                                                   \
        NEXT(2);                                                                                                       \
    }                                                                                                                  \
    OP(name##_n) {                                                                                                     \
        const double a = (A);                                                                                          \
        if (UNLIKELY(!TRUNC##_ok(a))) {                                                                                \
            if (a != a) TRAP(int_conversion);                                                                          \
            TRAP(int_overflow);                                                                                        \
        }                                                                                                              \
        acc = TRUNC(a);                                                                                                \
        NEXT(2);                                                                                                       \
    }
DEFINE_TRUNCS(i32, s)
DEFINE_TRUNCS(i32, u)
DEFINE_TRUNCS(i64, s)
DEFINE_TRUNCS(i64, u)
