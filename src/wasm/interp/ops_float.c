/* Float arithmetic, comparisons, compare-and-branch, unary operations and conversions to floats. */
#include "state.h"
#include "../numeric.h"

#define FACC32    facc
#define FACC64    dacc
#define FIMM32    pc[2].f
#define FIMM64    pc[2].d
#define FSET32(v) (SF32(0) = (v))
#define FSET64(v) (SF64(0) = (v))
#define F32       float
#define F64       double

#define DEFINE(name, W, A, B, LEN, EXPR)                                                                               \
    OP(name) {                                                                                                         \
        const F##W a = (A), b = (B);                                                                                   \
        FACC##W = (EXPR);                                                                                              \
        FSET##W(FACC##W);                                                                                              \
        NEXT(LEN);                                                                                                     \
    }                                                                                                                  \
    OP(name##_n) {                                                                                                     \
        const F##W a = (A), b = (B);                                                                                   \
        FACC##W = (EXPR);                                                                                              \
        NEXT(LEN);                                                                                                     \
    }
#define BINARY(name, W, EXPR)                                                                                          \
    DEFINE(name##_ss, W, SF##W(1), SF##W(2), 2, EXPR)                                                                  \
    DEFINE(name##_si, W, SF##W(1), FIMM##W, 3, EXPR)                                                                   \
    DEFINE(name##_as, W, FACC##W, SF##W(2), 2, EXPR)                                                                   \
    DEFINE(name##_ai, W, FACC##W, FIMM##W, 3, EXPR)                                                                    \
    DEFINE(name##_sa, W, SF##W(1), FACC##W, 2, EXPR)                                                                   \
    DEFINE(name##_is, W, FIMM##W, SF##W(1), 3, EXPR)                                                                   \
    DEFINE(name##_ia, W, FIMM##W, FACC##W, 3, EXPR)

#define DEFINE_UN(name, W, T, A, EXPR)                                                                                 \
    OP(name) {                                                                                                         \
        const T a = (A);                                                                                               \
        FACC##W = (EXPR);                                                                                              \
        FSET##W(FACC##W);                                                                                              \
        NEXT(2);                                                                                                       \
    }                                                                                                                  \
    OP(name##_n) {                                                                                                     \
        const T a = (A);                                                                                               \
        FACC##W = (EXPR);                                                                                              \
        NEXT(2);                                                                                                       \
    }
#define UNARY(name, W, EXPR)                                                                                           \
    DEFINE_UN(name##_s, W, F##W, SF##W(1), EXPR)                                                                       \
    DEFINE_UN(name##_a, W, F##W, FACC##W, EXPR)

#define DEFINE_CMP(name, W, A, B, EXPR)                                                                                \
    OP(name) {                                                                                                         \
        const F##W a = (A), b = (B);                                                                                   \
        acc = (EXPR);                                                                                                  \
        SET(0, acc);                                                                                                   \
        NEXT(2);                                                                                                       \
    }                                                                                                                  \
    OP(name##_n) {                                                                                                     \
        const F##W a = (A), b = (B);                                                                                   \
        acc = (EXPR);                                                                                                  \
        NEXT(2);                                                                                                       \
    }
#define DEFINE_BR(br, name, W, A, B, EXPR)                                                                             \
    OP(br##_##name) {                                                                                                  \
        const F##W a = (A), b = (B);                                                                                   \
        if (EXPR) JUMP(pc + 1);                                                                                        \
        NEXT(2);                                                                                                       \
    }
#define DEFINE_LOOP(br, name, W, A, B, EXPR)                                                                           \
    OP(br##_##name) {                                                                                                  \
        const F##W a = (A), b = (B);                                                                                   \
        if (EXPR) {                                                                                                    \
            pc = pc + 1 + pc[1].i[1];                                                                                  \
            TICK(ctx);                                                                                                 \
            TAIL pc->h(ARGS);                                                                                          \
        }                                                                                                              \
        NEXT(2);                                                                                                       \
    }
#define COMPARE(name, W, EXPR)                                                                                         \
    DEFINE_CMP(name##_ss, W, SF##W(1), SF##W(2), EXPR)                                                                 \
    DEFINE_CMP(name##_as, W, FACC##W, SF##W(2), EXPR)                                                                  \
    DEFINE_BR(br, name##_ss, W, SF##W(0), SF##W(1), EXPR)                                                              \
    DEFINE_BR(br, name##_as, W, FACC##W, SF##W(1), EXPR)                                                               \
    DEFINE_LOOP(loop, name##_ss, W, SF##W(0), SF##W(1), EXPR)                                                          \
    DEFINE_LOOP(loop, name##_as, W, FACC##W, SF##W(1), EXPR)

#define FLOATS(W)                                                                                                      \
    BINARY(f##W##_add, W, a + b)                                                                                       \
    BINARY(f##W##_sub, W, a - b)                                                                                       \
    BINARY(f##W##_mul, W, a *b)                                                                                        \
    BINARY(f##W##_div, W, a / b)                                                                                       \
    BINARY(f##W##_min, W, f##W##_min(a, b))                                                                            \
    BINARY(f##W##_max, W, f##W##_max(a, b))                                                                            \
    BINARY(f##W##_copysign, W, f##W##_copysign(a, b))                                                                  \
    UNARY(f##W##_abs, W, f##W##_abs(a))                                                                                \
    UNARY(f##W##_neg, W, f##W##_neg(a))                                                                                \
    UNARY(f##W##_ceil, W, f##W##_ceil(a))                                                                              \
    UNARY(f##W##_floor, W, f##W##_floor(a))                                                                            \
    UNARY(f##W##_trunc, W, f##W##_trunc(a))                                                                            \
    UNARY(f##W##_nearest, W, f##W##_nearest(a))                                                                        \
    UNARY(f##W##_sqrt, W, f##W##_sqrt(a))                                                                              \
    COMPARE(f##W##_eq, W, a == b)                                                                                      \
    COMPARE(f##W##_ne, W, a != b)                                                                                      \
    COMPARE(f##W##_nlt, W, !(a < b))                                                                                   \
    COMPARE(f##W##_lt, W, a < b)                                                                                       \
    COMPARE(f##W##_ngt, W, !(a > b))                                                                                   \
    COMPARE(f##W##_gt, W, a > b)                                                                                       \
    COMPARE(f##W##_nle, W, !(a <= b))                                                                                  \
    COMPARE(f##W##_le, W, a <= b)                                                                                      \
    COMPARE(f##W##_nge, W, !(a >= b))                                                                                  \
    COMPARE(f##W##_ge, W, a >= b)
FLOATS(32)
FLOATS(64)

/* Two operations with two roundings: no fused multiply-add. */
#define DEFINE_MULADD(name, W, A, EXPR)                                                                                \
    OP(name) {                                                                                                         \
        const F##W a = (A), b = SF##W(3), c = SF##W(1);                                                                \
        FACC##W = (EXPR);                                                                                              \
        FSET##W(FACC##W);                                                                                              \
        NEXT(2);                                                                                                       \
    }                                                                                                                  \
    OP(name##_n) {                                                                                                     \
        const F##W a = (A), b = SF##W(3), c = SF##W(1);                                                                \
        FACC##W = (EXPR);                                                                                              \
        NEXT(2);                                                                                                       \
    }
#define MULADD(name, W, EXPR)                                                                                          \
    DEFINE_MULADD(name##_s, W, SF##W(2), EXPR)                                                                         \
    DEFINE_MULADD(name##_a, W, FACC##W, EXPR)
#define MULADDS(W)                                                                                                     \
    MULADD(f##W##_add_mul, W, c + a * b)                                                                               \
    MULADD(f##W##_sub_mul, W, c - a * b)                                                                               \
    MULADD(f##W##_mul_sub, W, a *b - c)
MULADDS(32)
MULADDS(64)

/* Conversions. */
#define CONVERT(name, W, T, S, A, EXPR)                                                                                \
    DEFINE_UN(name##_s, W, T, S, EXPR)                                                                                 \
    DEFINE_UN(name##_a, W, T, A, EXPR)
#define CONVERTS(W)                                                                                                    \
    CONVERT(f##W##_convert_i32_s, W, int32_t, (int32_t)S32(1), (int32_t)acc, (F##W)a)                                  \
    CONVERT(f##W##_convert_i32_u, W, uint32_t, S32(1), (uint32_t)acc, (F##W)a)                                         \
    CONVERT(f##W##_convert_i64_s, W, int64_t, (int64_t)S64(1), (int64_t)acc, (F##W)a)                                  \
    CONVERT(f##W##_convert_i64_u, W, uint64_t, S64(1), acc, (F##W)a)
CONVERTS(32)
CONVERTS(64)
CONVERT(f32_demote_f64, 32, double, SF64(1), dacc, (float)a)
CONVERT(f64_promote_f32, 64, float, SF32(1), facc, (double)a)
CONVERT(f32_reinterpret_i32, 32, uint32_t, S32(1), (uint32_t)acc, f32_from_bits(a))
CONVERT(f64_reinterpret_i64, 64, uint64_t, S64(1), acc, f64_from_bits(a))
