/* Every fixed-width and relaxed SIMD instruction (core specification, section 4.3.5 and 4.3.6) as a function on values:
 * i8x16.add is i8x16_add(a, b). Lane immediates are ordinary arguments. Written in the compiler's generic vectors, so
 * every CPU gets its own SIMD unit and the same results; a tier that makes code has these to compare with.
 *
 * Relaxed instructions are deterministic: they do what the instruction they relax does, as in the specification's
 * deterministic profile (every R_ parameter 0). Floating-point code relies on -ffp-contract=off and round-to-nearest.
 * NaN results are the hardware's: quiet, and canonical when all NaN operands are. */
#ifndef DONJON_WASM_SIMD_H
#define DONJON_WASM_SIMD_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Lane 0 is at the lowest address and lanes are little-endian, in wasm's memory as in this union. A big-endian host
 * would have to swap here and nowhere else. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "v128 lanes are little-endian");

#define SIMD_VECTOR __attribute__((vector_size(16)))
typedef int8_t s8x16 SIMD_VECTOR;
typedef uint8_t u8x16 SIMD_VECTOR;
typedef int16_t s16x8 SIMD_VECTOR;
typedef uint16_t u16x8 SIMD_VECTOR;
typedef int32_t s32x4 SIMD_VECTOR;
typedef uint32_t u32x4 SIMD_VECTOR;
typedef int64_t s64x2 SIMD_VECTOR;
typedef uint64_t u64x2 SIMD_VECTOR;
typedef float f32x4 SIMD_VECTOR;
typedef double f64x2 SIMD_VECTOR;

typedef union v128 {
    s8x16 s8;
    u8x16 u8;
    s16x8 s16;
    u16x8 u16;
    s32x4 s32;
    u32x4 u32;
    s64x2 s64;
    u64x2 u64;
    f32x4 f32;
    f64x2 f64;
} v128;

// clang-format off
/* Most instructions are one line. */
#define SIMD(name) static inline __attribute__((always_inline)) v128 name
#define SIMD_TO(type, name) static inline __attribute__((always_inline)) type name

/* Where SSE2 has in one instruction what takes many in generic vectors, both are here: the generic one gets another name,
 * and tests compare the two. */
#ifdef __SSE2__
#include <emmintrin.h>
#define SIMD_GENERIC(name) SIMD(name##_generic)
#define SIMD_SSE2(name, intrinsic) \
    SIMD(name)(v128 a, v128 b) { return (v128){.s64 = (s64x2)intrinsic((__m128i)a.s64, (__m128i)b.s64)}; }
#else
#define SIMD_GENERIC(name) SIMD(name)
#define SIMD_SSE2(name, intrinsic)
#endif

/* Any address, any alignment. */
SIMD(v128_load)(const void *p) {
    v128 v;
    memcpy(&v, p, sizeof v);
    return v;
}
SIMD_TO(void, v128_store)(void *p, v128 v) { memcpy(p, &v, sizeof v); }

/* ---- v128: bitwise ---- */

SIMD(v128_not)(v128 a) { return (v128){.u64 = ~a.u64}; }
SIMD(v128_and)(v128 a, v128 b) { return (v128){.u64 = a.u64 & b.u64}; }
SIMD(v128_andnot)(v128 a, v128 b) { return (v128){.u64 = a.u64 & ~b.u64}; }
SIMD(v128_or)(v128 a, v128 b) { return (v128){.u64 = a.u64 | b.u64}; }
SIMD(v128_xor)(v128 a, v128 b) { return (v128){.u64 = a.u64 ^ b.u64}; }
SIMD(v128_bitselect)(v128 a, v128 b, v128 mask) { return (v128){.u64 = ((a.u64 ^ b.u64) & mask.u64) ^ b.u64}; }
SIMD_TO(uint32_t, v128_any_true)(v128 a) { return (a.u64[0] | a.u64[1]) != 0; }

/* ---- lanes: splat, extract_lane, replace_lane, shuffle ---- */

SIMD(i8x16_splat)(uint32_t x) { return (v128){.u8 = (uint8_t)x - (u8x16){0}}; }
SIMD(i16x8_splat)(uint32_t x) { return (v128){.u16 = (uint16_t)x - (u16x8){0}}; }
SIMD(i32x4_splat)(uint32_t x) { return (v128){.u32 = x - (u32x4){0}}; }
SIMD(i64x2_splat)(uint64_t x) { return (v128){.u64 = x - (u64x2){0}}; }

/* Through the bits: a signalling NaN must come out as it went in. */
SIMD(f32x4_splat)(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return i32x4_splat(bits);
}
SIMD(f64x2_splat)(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return i64x2_splat(bits);
}

SIMD_TO(uint32_t, i8x16_extract_lane_s)(v128 a, unsigned lane) { return (uint32_t)(int32_t)a.s8[lane]; }
SIMD_TO(uint32_t, i8x16_extract_lane_u)(v128 a, unsigned lane) { return a.u8[lane]; }
SIMD_TO(uint32_t, i16x8_extract_lane_s)(v128 a, unsigned lane) { return (uint32_t)(int32_t)a.s16[lane]; }
SIMD_TO(uint32_t, i16x8_extract_lane_u)(v128 a, unsigned lane) { return a.u16[lane]; }
SIMD_TO(uint32_t, i32x4_extract_lane)(v128 a, unsigned lane) { return a.u32[lane]; }
SIMD_TO(uint64_t, i64x2_extract_lane)(v128 a, unsigned lane) { return a.u64[lane]; }
SIMD_TO(float, f32x4_extract_lane)(v128 a, unsigned lane) { return a.f32[lane]; }
SIMD_TO(double, f64x2_extract_lane)(v128 a, unsigned lane) { return a.f64[lane]; }

SIMD(i8x16_replace_lane)(v128 a, unsigned lane, uint32_t x) {
    a.u8[lane] = (uint8_t)x;
    return a;
}
SIMD(i16x8_replace_lane)(v128 a, unsigned lane, uint32_t x) {
    a.u16[lane] = (uint16_t)x;
    return a;
}
SIMD(i32x4_replace_lane)(v128 a, unsigned lane, uint32_t x) {
    a.u32[lane] = x;
    return a;
}
SIMD(i64x2_replace_lane)(v128 a, unsigned lane, uint64_t x) {
    a.u64[lane] = x;
    return a;
}
SIMD(f32x4_replace_lane)(v128 a, unsigned lane, float x) {
    a.f32[lane] = x;
    return a;
}
SIMD(f64x2_replace_lane)(v128 a, unsigned lane, double x) {
    a.f64[lane] = x;
    return a;
}

/* lanes: 16 bytes below 32, as the instruction has them. */
SIMD(i8x16_shuffle)(v128 a, v128 b, const uint8_t *lanes) {
    uint8_t from[32], to[16];
    memcpy(from, &a, 16);
    memcpy(from + 16, &b, 16);
    for (unsigned i = 0; i < 16; i++) to[i] = from[lanes[i]];
    return v128_load(to);
}

SIMD(i8x16_swizzle)(v128 a, v128 select) {
    uint8_t from[16], at[16], to[16];
    memcpy(from, &a, 16);
    memcpy(at, &select, 16);
    for (unsigned i = 0; i < 16; i++) to[i] = at[i] < 16 ? from[at[i]] : 0;
    return v128_load(to);
}
SIMD(i8x16_relaxed_swizzle)(v128 a, v128 select) { return i8x16_swizzle(a, select); }

/* ---- building blocks: lanes of two vectors interleaved, every second lane of two vectors ---- */

SIMD(simd_zip_low8)(v128 a, v128 b) {
    return (v128){.u8 = __builtin_shufflevector(a.u8, b.u8, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)};
}
SIMD(simd_zip_high8)(v128 a, v128 b) {
    return (v128){
        .u8 = __builtin_shufflevector(a.u8, b.u8, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)};
}
SIMD(simd_zip_low16)(v128 a, v128 b) {
    return (v128){.u16 = __builtin_shufflevector(a.u16, b.u16, 0, 8, 1, 9, 2, 10, 3, 11)};
}
SIMD(simd_zip_high16)(v128 a, v128 b) {
    return (v128){.u16 = __builtin_shufflevector(a.u16, b.u16, 4, 12, 5, 13, 6, 14, 7, 15)};
}
SIMD(simd_zip_low32)(v128 a, v128 b) { return (v128){.u32 = __builtin_shufflevector(a.u32, b.u32, 0, 4, 1, 5)}; }
SIMD(simd_zip_high32)(v128 a, v128 b) { return (v128){.u32 = __builtin_shufflevector(a.u32, b.u32, 2, 6, 3, 7)}; }
SIMD(simd_even8)(v128 a, v128 b) {
    return (v128){
        .u8 = __builtin_shufflevector(a.u8, b.u8, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30)};
}
SIMD(simd_even16)(v128 a, v128 b) {
    return (v128){.u16 = __builtin_shufflevector(a.u16, b.u16, 0, 2, 4, 6, 8, 10, 12, 14)};
}

/* ---- integers: what is alike for several lane widths ---- */

#define SIMD_COMPARE(shape, name, in, out, op) \
    SIMD(shape##_##name)(v128 a, v128 b) { return (v128){.out = (__typeof__(a.out))(a.in op b.in)}; }

#define SIMD_INT_ALL(shape, s, u) \
    SIMD_COMPARE(shape, eq, u, u, ==) \
    SIMD_COMPARE(shape, ne, u, u, !=) \
    SIMD_COMPARE(shape, lt_s, s, u, <) \
    SIMD_COMPARE(shape, gt_s, s, u, >) \
    SIMD_COMPARE(shape, le_s, s, u, <=) \
    SIMD_COMPARE(shape, ge_s, s, u, >=) \
    SIMD(shape##_add)(v128 a, v128 b) { return (v128){.u = a.u + b.u}; } \
    SIMD(shape##_sub)(v128 a, v128 b) { return (v128){.u = a.u - b.u}; } \
    SIMD(shape##_neg)(v128 a) { return (v128){.u = -a.u}; } \
    SIMD(shape##_abs)(v128 a) { \
        v128 negative = {.u = (__typeof__(a.u))(a.s < 0)}; \
        return (v128){.u = (a.u ^ negative.u) - negative.u}; \
    } \
    SIMD_TO(uint32_t, shape##_all_true)(v128 a) { \
        return !v128_any_true((v128){.u = (__typeof__(a.u))(a.u == 0)}); \
    } \
    SIMD(shape##_relaxed_laneselect)(v128 a, v128 b, v128 mask) { return v128_bitselect(a, b, mask); }

#define SIMD_INT_NARROW(shape, s, u) /* widths that have them */ \
    SIMD_COMPARE(shape, lt_u, u, u, <) \
    SIMD_COMPARE(shape, gt_u, u, u, >) \
    SIMD_COMPARE(shape, le_u, u, u, <=) \
    SIMD_COMPARE(shape, ge_u, u, u, >=) \
    SIMD(shape##_min_s)(v128 a, v128 b) { return v128_bitselect(a, b, shape##_lt_s(a, b)); } \
    SIMD(shape##_max_s)(v128 a, v128 b) { return v128_bitselect(a, b, shape##_gt_s(a, b)); } \
    SIMD(shape##_min_u)(v128 a, v128 b) { return v128_bitselect(a, b, shape##_lt_u(a, b)); } \
    SIMD(shape##_max_u)(v128 a, v128 b) { return v128_bitselect(a, b, shape##_gt_u(a, b)); }

SIMD_INT_ALL(i8x16, s8, u8)
SIMD_INT_ALL(i16x8, s16, u16)
SIMD_INT_ALL(i32x4, s32, u32)
SIMD_INT_ALL(i64x2, s64, u64)
SIMD_INT_NARROW(i8x16, s8, u8)
SIMD_INT_NARROW(i16x8, s16, u16)
SIMD_INT_NARROW(i32x4, s32, u32)

SIMD(i16x8_mul)(v128 a, v128 b) { return (v128){.u16 = a.u16 * b.u16}; }
SIMD(i32x4_mul)(v128 a, v128 b) { return (v128){.u32 = a.u32 * b.u32}; }
SIMD(i64x2_mul)(v128 a, v128 b) { return (v128){.u64 = a.u64 * b.u64}; }

/* Shift counts are taken modulo the lane width. No CPU shifts bytes, and arithmetic shifts of 64 bits are rare: those
 * are made of logical shifts of wider lanes, and ((x >> n) ^ sign) - sign extends the sign. */
SIMD(i8x16_shl)(v128 a, uint32_t n) {
    n &= 7;
    return v128_and((v128){.u16 = a.u16 << (uint16_t)n}, i8x16_splat(0xffu << n));
}
SIMD(i8x16_shr_u)(v128 a, uint32_t n) {
    n &= 7;
    return v128_and((v128){.u16 = a.u16 >> (uint16_t)n}, i8x16_splat(0xffu >> n));
}
SIMD(i8x16_shr_s)(v128 a, uint32_t n) {
    v128 sign = i8x16_splat(0x80u >> (n & 7));
    return i8x16_sub(v128_xor(i8x16_shr_u(a, n), sign), sign);
}
SIMD(i16x8_shl)(v128 a, uint32_t n) { return (v128){.u16 = a.u16 << (uint16_t)(n & 15)}; }
SIMD(i16x8_shr_u)(v128 a, uint32_t n) { return (v128){.u16 = a.u16 >> (uint16_t)(n & 15)}; }
SIMD(i16x8_shr_s)(v128 a, uint32_t n) { return (v128){.s16 = a.s16 >> (int16_t)(n & 15)}; }
SIMD(i32x4_shl)(v128 a, uint32_t n) { return (v128){.u32 = a.u32 << (n & 31)}; }
SIMD(i32x4_shr_u)(v128 a, uint32_t n) { return (v128){.u32 = a.u32 >> (n & 31)}; }
SIMD(i32x4_shr_s)(v128 a, uint32_t n) { return (v128){.s32 = a.s32 >> (int32_t)(n & 31)}; }
SIMD(i64x2_shl)(v128 a, uint32_t n) { return (v128){.u64 = a.u64 << (uint64_t)(n & 63)}; }
SIMD(i64x2_shr_u)(v128 a, uint32_t n) { return (v128){.u64 = a.u64 >> (uint64_t)(n & 63)}; }
SIMD(i64x2_shr_s)(v128 a, uint32_t n) {
    v128 sign = i64x2_splat(1ull << 63 >> (n & 63));
    return i64x2_sub(v128_xor(i64x2_shr_u(a, n), sign), sign);
}

/* The top bit of every lane, lane 0 lowest. */
SIMD_TO(uint32_t, i8x16_bitmask)(v128 a) {
#ifdef __SSE2__
    return (uint32_t)_mm_movemask_epi8((__m128i)a.s64);
#else
    /* The multiplication gathers bits 0, 8, ... 56 into bits 56 to 63. */
    u64x2 bits = (a.u64 >> 7 & 0x0101010101010101u) * 0x0102040810204080u >> 56;
    return (uint32_t)(bits[0] | bits[1] << 8);
#endif
}
SIMD_TO(uint32_t, i16x8_bitmask)(v128 a) {
    v128 top = {.u16 = a.u16 >> 8};
    return i8x16_bitmask(simd_even8(top, (v128){.u64 = {0}}));
}
SIMD_TO(uint32_t, i32x4_bitmask)(v128 a) {
#ifdef __SSE2__
    return (uint32_t)_mm_movemask_ps((__m128)a.f32);
#else
    return a.u32[0] >> 31 | a.u32[1] >> 31 << 1 | a.u32[2] >> 31 << 2 | a.u32[3] >> 31 << 3;
#endif
}
SIMD_TO(uint32_t, i64x2_bitmask)(v128 a) { return (uint32_t)(a.u64[0] >> 63 | a.u64[1] >> 63 << 1); }

SIMD(i8x16_popcnt)(v128 a) {
    u8x16 x = a.u8;
    x -= i8x16_shr_u(a, 1).u8 & 0x55;
    x = (x & 0x33) + (i8x16_shr_u((v128){.u8 = x}, 2).u8 & 0x33);
    return (v128){.u8 = (x + i8x16_shr_u((v128){.u8 = x}, 4).u8) & 0x0f};
}

/* ---- integers: saturating and rounding ---- */

/* Unsigned: a sum that wrapped is below its operands; a difference saturates at zero where a < b. Signed: on overflow the
 * result is the extreme on the side of the first operand's sign. */
#define SIMD_SATURATING(shape, s, u, top) \
    SIMD_GENERIC(shape##_add_sat_u)(v128 a, v128 b) { \
        v128 sum = shape##_add(a, b); \
        return v128_or(sum, shape##_lt_u(sum, a)); \
    } \
    SIMD_GENERIC(shape##_sub_sat_u)(v128 a, v128 b) { return v128_andnot(shape##_sub(a, b), shape##_lt_u(a, b)); } \
    SIMD(shape##_saturate)(v128 result, v128 overflow, v128 a) { \
        v128 extreme = {.u = (__typeof__(a.u))(a.s < 0) ^ (top)}; \
        v128 mask = {.u = (__typeof__(a.u))(overflow.s < 0)}; \
        return v128_bitselect(extreme, result, mask); \
    } \
    SIMD_GENERIC(shape##_add_sat_s)(v128 a, v128 b) { \
        v128 sum = shape##_add(a, b); \
        return shape##_saturate(sum, v128_and(v128_xor(sum, a), v128_xor(sum, b)), a); \
    } \
    SIMD_GENERIC(shape##_sub_sat_s)(v128 a, v128 b) { \
        v128 diff = shape##_sub(a, b); \
        return shape##_saturate(diff, v128_and(v128_xor(a, b), v128_xor(diff, a)), a); \
    } \
    SIMD_GENERIC(shape##_avgr_u)(v128 a, v128 b) { /* (a + b + 1) / 2 without the carry */ \
        return shape##_sub(v128_or(a, b), shape##_shr_u(v128_xor(a, b), 1)); \
    }

SIMD_SATURATING(i8x16, s8, u8, 0x7f)
SIMD_SATURATING(i16x8, s16, u16, 0x7fff)
SIMD_SSE2(i8x16_add_sat_s, _mm_adds_epi8)
SIMD_SSE2(i8x16_add_sat_u, _mm_adds_epu8)
SIMD_SSE2(i8x16_sub_sat_s, _mm_subs_epi8)
SIMD_SSE2(i8x16_sub_sat_u, _mm_subs_epu8)
SIMD_SSE2(i8x16_avgr_u, _mm_avg_epu8)
SIMD_SSE2(i16x8_add_sat_s, _mm_adds_epi16)
SIMD_SSE2(i16x8_add_sat_u, _mm_adds_epu16)
SIMD_SSE2(i16x8_sub_sat_s, _mm_subs_epi16)
SIMD_SSE2(i16x8_sub_sat_u, _mm_subs_epu16)
SIMD_SSE2(i16x8_avgr_u, _mm_avg_epu16)

SIMD_GENERIC(i8x16_narrow_i16x8_s)(v128 a, v128 b) {
    v128 low = i16x8_splat(0xff80), high = i16x8_splat(0x7f);
    return simd_even8(i16x8_min_s(i16x8_max_s(a, low), high), i16x8_min_s(i16x8_max_s(b, low), high));
}
SIMD_GENERIC(i8x16_narrow_i16x8_u)(v128 a, v128 b) {
    v128 low = i16x8_splat(0), high = i16x8_splat(0xff);
    return simd_even8(i16x8_min_s(i16x8_max_s(a, low), high), i16x8_min_s(i16x8_max_s(b, low), high));
}
SIMD_GENERIC(i16x8_narrow_i32x4_s)(v128 a, v128 b) {
    v128 low = i32x4_splat(0xffff8000), high = i32x4_splat(0x7fff);
    return simd_even16(i32x4_min_s(i32x4_max_s(a, low), high), i32x4_min_s(i32x4_max_s(b, low), high));
}
SIMD_SSE2(i8x16_narrow_i16x8_s, _mm_packs_epi16)
SIMD_SSE2(i8x16_narrow_i16x8_u, _mm_packus_epi16)
SIMD_SSE2(i16x8_narrow_i32x4_s, _mm_packs_epi32)
SIMD(i16x8_narrow_i32x4_u)(v128 a, v128 b) {
    v128 low = i32x4_splat(0), high = i32x4_splat(0xffff);
    return simd_even16(i32x4_min_s(i32x4_max_s(a, low), high), i32x4_min_s(i32x4_max_s(b, low), high));
}

/* ---- integers: widening ---- */

/* Extension interleaves the lanes with their signs, or with zero. */
#define SIMD_EXTEND(wide, narrow, bits) \
    SIMD(wide##_extend_low_##narrow##_s)(v128 a) { \
        return simd_zip_low##bits(a, narrow##_lt_s(a, (v128){.u64 = {0}})); \
    } \
    SIMD(wide##_extend_high_##narrow##_s)(v128 a) { \
        return simd_zip_high##bits(a, narrow##_lt_s(a, (v128){.u64 = {0}})); \
    } \
    SIMD(wide##_extend_low_##narrow##_u)(v128 a) { return simd_zip_low##bits(a, (v128){.u64 = {0}}); } \
    SIMD(wide##_extend_high_##narrow##_u)(v128 a) { return simd_zip_high##bits(a, (v128){.u64 = {0}}); } \
    SIMD_EXTMUL(wide, narrow, low, s) \
    SIMD_EXTMUL(wide, narrow, high, s) \
    SIMD_EXTMUL(wide, narrow, low, u) \
    SIMD_EXTMUL(wide, narrow, high, u)

#define SIMD_EXTMUL(wide, narrow, half, sign) \
    SIMD(wide##_extmul_##half##_##narrow##_##sign)(v128 a, v128 b) { \
        return wide##_mul(wide##_extend_##half##_##narrow##_##sign(a), wide##_extend_##half##_##narrow##_##sign(b)); \
    }

SIMD_EXTEND(i16x8, i8x16, 8)
SIMD_EXTEND(i32x4, i16x8, 16)
SIMD_EXTEND(i64x2, i32x4, 32)

SIMD(i16x8_extadd_pairwise_i8x16_s)(v128 a) {
    return (v128){.u16 = (u16x8)((s16x8)(a.u16 << 8) >> 8) + (u16x8)(a.s16 >> 8)};
}
SIMD(i16x8_extadd_pairwise_i8x16_u)(v128 a) { return (v128){.u16 = (a.u16 & 0xff) + (a.u16 >> 8)}; }
SIMD(i32x4_extadd_pairwise_i16x8_s)(v128 a) {
    return (v128){.u32 = (u32x4)((s32x4)(a.u32 << 16) >> 16) + (u32x4)(a.s32 >> 16)};
}
SIMD(i32x4_extadd_pairwise_i16x8_u)(v128 a) { return (v128){.u32 = (a.u32 & 0xffff) + (a.u32 >> 16)}; }

SIMD_GENERIC(i32x4_dot_i16x8_s)(v128 a, v128 b) {
    u32x4 even = (u32x4)((s32x4)(a.u32 << 16) >> 16) * (u32x4)((s32x4)(b.u32 << 16) >> 16);
    return (v128){.u32 = even + (u32x4)(a.s32 >> 16) * (u32x4)(b.s32 >> 16)};
}
SIMD_SSE2(i32x4_dot_i16x8_s, _mm_madd_epi16)

/* Only -1 * -1 leaves the range of Q15. */
SIMD(i16x8_q15mulr_sat_s)(v128 a, v128 b) {
    v128 low = i32x4_extmul_low_i16x8_s(a, b), high = i32x4_extmul_high_i16x8_s(a, b);
    low.s32 = (s32x4)(low.u32 + 0x4000) >> 15;
    high.s32 = (s32x4)(high.u32 + 0x4000) >> 15;
    return i16x8_narrow_i32x4_s(low, high);
}
SIMD(i16x8_relaxed_q15mulr_s)(v128 a, v128 b) { return i16x8_q15mulr_sat_s(a, b); }

/* b's lanes are 7 bits: both as signed, the sum of two products wraps. */
SIMD(i16x8_relaxed_dot_i8x16_i7x16_s)(v128 a, v128 b) {
    u16x8 even = (u16x8)((s16x8)(a.u16 << 8) >> 8) * (u16x8)((s16x8)(b.u16 << 8) >> 8);
    return (v128){.u16 = even + (u16x8)(a.s16 >> 8) * (u16x8)(b.s16 >> 8)};
}
SIMD(i32x4_relaxed_dot_i8x16_i7x16_add_s)(v128 a, v128 b, v128 c) {
    return i32x4_add(i32x4_extadd_pairwise_i16x8_s(i16x8_relaxed_dot_i8x16_i7x16_s(a, b)), c);
}

/* ---- floats ---- */

/* Minimum and maximum: operands that compare equal differ at most in the sign of zero, so or gives the smaller, and the
 * larger; a NaN operand makes the sum NaN. pmin and pmax are what C's comparison gives and keep bits.
 *
 * Rounding: adding and subtracting 2^(mantissa bits) rounds |x| to an integer, ties to even. Larger values are integers
 * already; + 0 quiets a NaN among them. The sign is put back because -0.4 rounds to -0. */
#define SIMD_FLOAT(shape, f, u, type, uint, sign_bit, integral) \
    SIMD_COMPARE(shape, eq, f, u, ==) \
    SIMD_COMPARE(shape, ne, f, u, !=) \
    SIMD_COMPARE(shape, lt, f, u, <) \
    SIMD_COMPARE(shape, gt, f, u, >) \
    SIMD_COMPARE(shape, le, f, u, <=) \
    SIMD_COMPARE(shape, ge, f, u, >=) \
    SIMD(shape##_abs)(v128 a) { return (v128){.u = a.u & ~(uint)(sign_bit)}; } \
    SIMD(shape##_neg)(v128 a) { return (v128){.u = a.u ^ (uint)(sign_bit)}; } \
    SIMD(shape##_add)(v128 a, v128 b) { return (v128){.f = a.f + b.f}; } \
    SIMD(shape##_sub)(v128 a, v128 b) { return (v128){.f = a.f - b.f}; } \
    SIMD(shape##_mul)(v128 a, v128 b) { return (v128){.f = a.f * b.f}; } \
    SIMD(shape##_div)(v128 a, v128 b) { return (v128){.f = a.f / b.f}; } \
    SIMD(shape##_nan_or)(v128 result, v128 a, v128 b) { \
        v128 unordered = v128_or(shape##_ne(a, a), shape##_ne(b, b)); \
        return v128_bitselect(shape##_add(a, b), result, unordered); \
    } \
    SIMD(shape##_min)(v128 a, v128 b) { \
        v128 m = v128_bitselect(b, v128_or(a, b), shape##_gt(a, b)); \
        return shape##_nan_or(v128_bitselect(a, m, shape##_lt(a, b)), a, b); \
    } \
    SIMD(shape##_max)(v128 a, v128 b) { \
        v128 m = v128_bitselect(b, v128_and(a, b), shape##_lt(a, b)); \
        return shape##_nan_or(v128_bitselect(a, m, shape##_gt(a, b)), a, b); \
    } \
    SIMD(shape##_pmin)(v128 a, v128 b) { return v128_bitselect(b, a, shape##_lt(b, a)); } \
    SIMD(shape##_pmax)(v128 a, v128 b) { return v128_bitselect(b, a, shape##_lt(a, b)); } \
    SIMD(shape##_relaxed_min)(v128 a, v128 b) { return shape##_min(a, b); } \
    SIMD(shape##_relaxed_max)(v128 a, v128 b) { return shape##_max(a, b); } \
    SIMD(shape##_relaxed_madd)(v128 a, v128 b, v128 c) { return shape##_add(shape##_mul(a, b), c); } \
    SIMD(shape##_relaxed_nmadd)(v128 a, v128 b, v128 c) { return shape##_add(shape##_neg(shape##_mul(a, b)), c); } \
    SIMD(shape##_with_sign)(v128 magnitude, v128 a) { \
        return (v128){.u = (magnitude.u & ~(uint)(sign_bit)) | (a.u & (uint)(sign_bit))}; \
    } \
    SIMD(shape##_small)(v128 a) { /* where rounding has something to do */ \
        return (v128){.u = (__typeof__(a.u))(shape##_abs(a).f < (type)(integral))}; \
    } \
    SIMD(shape##_round)(v128 a) { \
        v128 r = {.f = shape##_abs(a).f + (type)(integral) - (type)(integral)}; \
        return shape##_with_sign(r, a); \
    } \
    SIMD(shape##_nearest)(v128 a) { \
        return v128_bitselect(shape##_round(a), (v128){.f = a.f + (type)0}, shape##_small(a)); \
    } \
    SIMD(shape##_step)(v128 a, v128 rounded, v128 where, type step) { \
        v128 r = {.f = rounded.f + v128_and(where, shape##_splat(step)).f}; \
        return v128_bitselect(shape##_with_sign(r, a), (v128){.f = a.f + (type)0}, shape##_small(a)); \
    } \
    SIMD(shape##_floor)(v128 a) { \
        v128 r = shape##_round(a); \
        return shape##_step(a, r, shape##_gt(r, a), (type)-1); \
    } \
    SIMD(shape##_ceil)(v128 a) { \
        v128 r = shape##_round(a); \
        return shape##_step(a, r, shape##_lt(r, a), (type)1); \
    } \
    SIMD(shape##_trunc)(v128 a) { \
        v128 m = shape##_abs(a), r = shape##_round(m); \
        return shape##_step(a, r, shape##_gt(r, m), (type)-1); \
    }

SIMD_FLOAT(f32x4, f32, u32, float, uint32_t, 1u << 31, 0x1p23)
SIMD_FLOAT(f64x2, f64, u64, double, uint64_t, 1ull << 63, 0x1p52)

SIMD(f32x4_sqrt)(v128 a) {
#ifdef __SSE2__
    return (v128){.f32 = (f32x4)_mm_sqrt_ps((__m128)a.f32)};
#else
    for (unsigned i = 0; i < 4; i++) a.f32[i] = sqrtf(a.f32[i]);
    return a;
#endif
}
SIMD(f64x2_sqrt)(v128 a) {
#ifdef __SSE2__
    return (v128){.f64 = (f64x2)_mm_sqrt_pd((__m128d)a.f64)};
#else
    for (unsigned i = 0; i < 2; i++) a.f64[i] = sqrt(a.f64[i]);
    return a;
#endif
}

/* ---- conversions ---- */

/* A lane is converted only where C defines it; what is outside is masked to zero before and set after. */
SIMD(i32x4_trunc_sat_f32x4_s)(v128 a) {
    s32x4 high = a.f32 >= 0x1p31f, low = a.f32 < -0x1p31f;
    v128 inside = {.s32 = (a.f32 == a.f32) & ~high & ~low};
    s32x4 r = __builtin_convertvector(v128_and(a, inside).f32, s32x4);
    return (v128){.s32 = r | (high & INT32_MAX) | (low & INT32_MIN)};
}
SIMD(i32x4_trunc_sat_f32x4_u)(v128 a) {
    s32x4 high = a.f32 >= 0x1p32f, upper = (a.f32 >= 0x1p31f) & ~high;
    v128 inside = {.s32 = (a.f32 > 0.0f) & ~high};
    v128 x = v128_and(a, inside);
    x.f32 -= v128_and((v128){.s32 = upper}, f32x4_splat(0x1p31f)).f32; /* exact: half to all of it */
    s32x4 r = __builtin_convertvector(x.f32, s32x4);
    return (v128){.s32 = (r ^ (upper & INT32_MIN)) | high};
}
SIMD_TO(uint32_t, simd_trunc_sat_s)(double x) {
    if (x != x) return 0;
    if (x <= -0x1p31) return (uint32_t)INT32_MIN;
    return x >= 0x1p31 ? INT32_MAX : (uint32_t)(int32_t)x;
}
SIMD_TO(uint32_t, simd_trunc_sat_u)(double x) {
    if (!(x > 0)) return 0;
    return x >= 0x1p32 ? UINT32_MAX : (uint32_t)x;
}
SIMD(i32x4_trunc_sat_f64x2_s_zero)(v128 a) {
    return (v128){.u32 = {simd_trunc_sat_s(a.f64[0]), simd_trunc_sat_s(a.f64[1]), 0, 0}};
}
SIMD(i32x4_trunc_sat_f64x2_u_zero)(v128 a) {
    return (v128){.u32 = {simd_trunc_sat_u(a.f64[0]), simd_trunc_sat_u(a.f64[1]), 0, 0}};
}
SIMD(i32x4_relaxed_trunc_f32x4_s)(v128 a) { return i32x4_trunc_sat_f32x4_s(a); }
SIMD(i32x4_relaxed_trunc_f32x4_u)(v128 a) { return i32x4_trunc_sat_f32x4_u(a); }
SIMD(i32x4_relaxed_trunc_f64x2_s_zero)(v128 a) { return i32x4_trunc_sat_f64x2_s_zero(a); }
SIMD(i32x4_relaxed_trunc_f64x2_u_zero)(v128 a) { return i32x4_trunc_sat_f64x2_u_zero(a); }

SIMD(f32x4_convert_i32x4_s)(v128 a) { return (v128){.f32 = __builtin_convertvector(a.s32, f32x4)}; }
SIMD(f32x4_convert_i32x4_u)(v128 a) { return (v128){.f32 = __builtin_convertvector(a.u32, f32x4)}; }
SIMD(f64x2_convert_low_i32x4_s)(v128 a) { return (v128){.f64 = {a.s32[0], a.s32[1]}}; }
SIMD(f64x2_convert_low_i32x4_u)(v128 a) { return (v128){.f64 = {a.u32[0], a.u32[1]}}; }
SIMD(f32x4_demote_f64x2_zero)(v128 a) { return (v128){.f32 = {(float)a.f64[0], (float)a.f64[1], 0, 0}}; }
SIMD(f64x2_promote_low_f32x4)(v128 a) { return (v128){.f64 = {a.f32[0], a.f32[1]}}; }

/* ---- memory: p is checked and may be unaligned ---- */

#define SIMD_LOAD_EXTEND(wide, narrow, name) \
    SIMD(v128_load##name##_s)(const void *p) { return wide##_extend_low_##narrow##_s(v128_load64_zero(p)); } \
    SIMD(v128_load##name##_u)(const void *p) { return wide##_extend_low_##narrow##_u(v128_load64_zero(p)); }

SIMD(v128_load32_zero)(const void *p) {
    uint32_t x;
    memcpy(&x, p, sizeof x);
    return (v128){.u32 = {x, 0, 0, 0}};
}
SIMD(v128_load64_zero)(const void *p) {
    uint64_t x;
    memcpy(&x, p, sizeof x);
    return (v128){.u64 = {x, 0}};
}
SIMD_LOAD_EXTEND(i16x8, i8x16, 8x8)
SIMD_LOAD_EXTEND(i32x4, i16x8, 16x4)
SIMD_LOAD_EXTEND(i64x2, i32x4, 32x2)

#define SIMD_LOAD_LANES(bits, shape, type) \
    SIMD(v128_load##bits##_splat)(const void *p) { \
        type x; \
        memcpy(&x, p, sizeof x); \
        return shape##_splat(x); \
    } \
    SIMD(v128_load##bits##_lane)(const void *p, v128 a, unsigned lane) { \
        type x; \
        memcpy(&x, p, sizeof x); \
        return shape##_replace_lane(a, lane, x); \
    } \
    SIMD_TO(void, v128_store##bits##_lane)(void *p, v128 a, unsigned lane) { \
        memcpy(p, (const uint8_t *)&a + lane * sizeof(type), sizeof(type)); \
    }

SIMD_LOAD_LANES(8, i8x16, uint8_t)
SIMD_LOAD_LANES(16, i16x8, uint16_t)
SIMD_LOAD_LANES(32, i32x4, uint32_t)
SIMD_LOAD_LANES(64, i64x2, uint64_t)

#endif
