/* Scalar numerics of WebAssembly (core specification, section 4.3) wherever C's own operators do not mean the same.
 * Shared by the interpreter and by whoever folds constants. */
#ifndef DONJON_WASM_NUMERIC_H
#define DONJON_WASM_NUMERIC_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

static inline uint32_t f32_bits(float v) {
    uint32_t b;
    __builtin_memcpy(&b, &v, sizeof b);
    return b;
}
static inline float f32_from_bits(uint32_t b) {
    float v;
    __builtin_memcpy(&v, &b, sizeof v);
    return v;
}
static inline uint64_t f64_bits(double v) {
    uint64_t b;
    __builtin_memcpy(&b, &v, sizeof b);
    return b;
}
static inline double f64_from_bits(uint64_t b) {
    double v;
    __builtin_memcpy(&v, &b, sizeof v);
    return v;
}

// clang-format off
/* Shifts and rotations take their count modulo the width; signed shifts are arithmetic on every compiler we support. */
static inline uint32_t i32_shl(uint32_t a, uint32_t n) { return a << (n & 31); }
static inline uint32_t i32_shr_u(uint32_t a, uint32_t n) { return a >> (n & 31); }
static inline uint32_t i32_shr_s(uint32_t a, uint32_t n) { return (uint32_t)((int32_t)a >> (n & 31)); }
static inline uint32_t i32_rotl(uint32_t a, uint32_t n) { return a << (n & 31) | a >> (-n & 31); }
static inline uint32_t i32_rotr(uint32_t a, uint32_t n) { return a >> (n & 31) | a << (-n & 31); }
static inline uint64_t i64_shl(uint64_t a, uint64_t n) { return a << (n & 63); }
static inline uint64_t i64_shr_u(uint64_t a, uint64_t n) { return a >> (n & 63); }
static inline uint64_t i64_shr_s(uint64_t a, uint64_t n) { return (uint64_t)((int64_t)a >> (n & 63)); }
static inline uint64_t i64_rotl(uint64_t a, uint64_t n) { return a << (n & 63) | a >> (-n & 63); }
static inline uint64_t i64_rotr(uint64_t a, uint64_t n) { return a >> (n & 63) | a << (-n & 63); }

static inline uint32_t i32_clz(uint32_t a) { return a ? (uint32_t)__builtin_clz(a) : 32; }
static inline uint32_t i32_ctz(uint32_t a) { return a ? (uint32_t)__builtin_ctz(a) : 32; }
static inline uint64_t i64_clz(uint64_t a) { return a ? (uint64_t)__builtin_clzll(a) : 64; }
static inline uint64_t i64_ctz(uint64_t a) { return a ? (uint64_t)__builtin_ctzll(a) : 64; }
static inline uint64_t i64_popcnt(uint64_t a) {
    a -= a >> 1 & 0x5555555555555555;
    a = (a & 0x3333333333333333) + (a >> 2 & 0x3333333333333333);
    a = (a + (a >> 4)) & 0x0f0f0f0f0f0f0f0f;
    return a * 0x0101010101010101 >> 56;
}
static inline uint32_t i32_popcnt(uint32_t a) { return (uint32_t)i64_popcnt(a); }

/* Floats. A NaN result is an arithmetic NaN: operations below that choose bits themselves set the quiet bit. abs, neg and
 * copysign work on bits alone (section 4.3.3, "fabs", "fneg", "fcopysign"). */
static inline float f32_abs(float a) { return f32_from_bits(f32_bits(a) & 0x7fffffff); }
static inline float f32_neg(float a) { return f32_from_bits(f32_bits(a) ^ 0x80000000); }
static inline float f32_copysign(float a, float b) {
    return f32_from_bits((f32_bits(a) & 0x7fffffff) | (f32_bits(b) & 0x80000000));
}
static inline double f64_abs(double a) { return f64_from_bits(f64_bits(a) & ~(1ull << 63)); }
static inline double f64_neg(double a) { return f64_from_bits(f64_bits(a) ^ 1ull << 63); }
static inline double f64_copysign(double a, double b) {
    return f64_from_bits((f64_bits(a) & ~(1ull << 63)) | (f64_bits(b) & 1ull << 63));
}

/* min and max: NaN if either is; -0 is below +0. */
static inline float f32_min(float a, float b) {
    if (__builtin_expect(a < b, 1)) return a;
    if (a > b) return b;
    if (a == b) return f32_from_bits(f32_bits(a) | f32_bits(b));
    return a + b;
}
static inline float f32_max(float a, float b) {
    if (__builtin_expect(a > b, 1)) return a;
    if (a < b) return b;
    if (a == b) return f32_from_bits(f32_bits(a) & f32_bits(b));
    return a + b;
}
static inline double f64_min(double a, double b) {
    if (__builtin_expect(a < b, 1)) return a;
    if (a > b) return b;
    if (a == b) return f64_from_bits(f64_bits(a) | f64_bits(b));
    return a + b;
}
static inline double f64_max(double a, double b) {
    if (__builtin_expect(a > b, 1)) return a;
    if (a < b) return b;
    if (a == b) return f64_from_bits(f64_bits(a) & f64_bits(b));
    return a + b;
}

/* Rounding to integers without a libm call: values of 2^52 (2^23) and more have no fraction, all others fit an integer.
 * The sign of zero results is the operand's. x + 0 quietens a signalling NaN. */
static inline double f64_trunc(double a) {
    if (!(f64_abs(a) < 0x1p52)) return a + 0;
    return f64_copysign((double)(int64_t)a, a);
}
static inline double f64_floor(double a) {
    double t = f64_trunc(a);
    return t > a ? t - 1 : t;
}
static inline double f64_ceil(double a) {
    double t = f64_trunc(a);
    return t < a ? f64_copysign(t + 1, a) : t;
}
static inline double f64_nearest(double a) {
    if (!(f64_abs(a) < 0x1p52)) return a + 0;
    double t = f64_abs(a) + 0x1p52; /* rounds to nearest, ties to even */
    return f64_copysign(t - 0x1p52, a);
}
static inline float f32_trunc(float a) {
    if (!(f32_abs(a) < 0x1p23f)) return a + 0;
    return f32_copysign((float)(int32_t)a, a);
}
static inline float f32_floor(float a) {
    float t = f32_trunc(a);
    return t > a ? t - 1 : t;
}
static inline float f32_ceil(float a) {
    float t = f32_trunc(a);
    return t < a ? f32_copysign(t + 1, a) : t;
}
static inline float f32_nearest(float a) {
    if (!(f32_abs(a) < 0x1p23f)) return a + 0;
    float t = f32_abs(a) + 0x1p23f;
    return f32_copysign(t - 0x1p23f, a);
}
static inline float f32_sqrt(float a) { return __builtin_sqrtf(a); }
static inline double f64_sqrt(double a) { return __builtin_sqrt(a); }
// clang-format on

/* Float to integer. The range test compares with the first values outside, which floats represent exactly; f32 is
 * widened to f64, which loses nothing. NAME_ok says whether the value is inside, NAME converts it, NAME_sat saturates
 * (NaN: 0). */
#define NUMERIC_TRUNC(NAME, INT, BITS, BELOW, ABOVE, MIN, MAX)                                                         \
    static inline bool NAME##_ok(double a) {                                                                           \
        return a > (BELOW) && a < (ABOVE);                                                                             \
    }                                                                                                                  \
    static inline BITS NAME(double a) {                                                                                \
        return (BITS)(INT)a;                                                                                           \
    }                                                                                                                  \
    static inline BITS NAME##_sat(double a) {                                                                          \
        if (NAME##_ok(a)) return (BITS)(INT)a;                                                                         \
        return a != a ? 0 : a < 0 ? (BITS)(MIN) : (BITS)(MAX);                                                         \
    }
NUMERIC_TRUNC(i32_trunc_s, int32_t, uint32_t, -2147483649.0, 2147483648.0, INT32_MIN, INT32_MAX)
NUMERIC_TRUNC(i32_trunc_u, uint32_t, uint32_t, -1.0, 4294967296.0, 0, UINT32_MAX)
NUMERIC_TRUNC(i64_trunc_s, int64_t, uint64_t, -0x1.0000000000001p63, 0x1p63, INT64_MIN, INT64_MAX)
NUMERIC_TRUNC(i64_trunc_u, uint64_t, uint64_t, -1.0, 0x1p64, 0, UINT64_MAX)
#undef NUMERIC_TRUNC

#endif
