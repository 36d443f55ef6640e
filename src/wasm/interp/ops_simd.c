/* Vector instructions: operands out of slots, simd.h's function, result into slots. A v128 has two slots and no
 * accumulator. Every handler reads all operands before it writes: destination and operands may overlap. */
#include "../simd.h"
#ifdef __x86_64__
#include <tmmintrin.h>
#endif
#include "state.h"

#define SV(n)        v128_load(&fp[pc[1].s[n]])
#define SET_V(value) v128_store(&fp[pc[1].s[0]], (value))

/* Numbers by their letter in the lists. */
#define GET_i(n) S32(n)
#define GET_l(n) S64(n)
#define GET_f(n) SF32(n)
#define GET_d(n) SF64(n)

#define UNARY(X, op, n)                                                                                                \
    OP(n) {                                                                                                            \
        SET_V(n(SV(1)));                                                                                               \
        NEXT(2);                                                                                                       \
    }
#define BINARY(X, op, n)                                                                                               \
    OP(n) {                                                                                                            \
        SET_V(n(SV(1), SV(2)));                                                                                        \
        NEXT(2);                                                                                                       \
    }
#define TERNARY(X, op, n)                                                                                              \
    OP(n) {                                                                                                            \
        SET_V(n(SV(1), SV(2), SV(3)));                                                                                 \
        NEXT(2);                                                                                                       \
    }
#define SHIFT(X, op, n)                                                                                                \
    OP(n) {                                                                                                            \
        SET_V(n(SV(1), S32(2)));                                                                                       \
        NEXT(2);                                                                                                       \
    }
#define SPLAT(X, op, n, t)                                                                                             \
    OP(n) {                                                                                                            \
        SET_V(n(GET_##t(1)));                                                                                          \
        NEXT(2);                                                                                                       \
    }
#define REPLACE(X, op, n, t)                                                                                           \
    OP(n) {                                                                                                            \
        v128 v = SV(1);                                                                                                \
        __typeof__(GET_##t(2)) x = GET_##t(2);                                                                         \
        v128_store(&fp[pc[1].s[0]], v);                                                                                \
        memcpy((uint8_t *)&fp[pc[1].s[0]] + LANE_SIZE(n) * pc[1].s[3], &x, LANE_SIZE(n));                              \
        NEXT(2);                                                                                                       \
    }
/* i8x16_..., i16x8_..., f64x2_...: the lane's bytes, from the name. */
#define LANE_SIZE(n) (#n[1] == '8' ? 1u : #n[1] == '1' ? 2u : #n[1] == '3' ? 4u : 8u)

SIMD_UNARY(UNARY, )
SIMD_BINARY(BINARY, )
SIMD_TERNARY(TERNARY, )
SIMD_SHIFT(SHIFT, )
SIMD_SPLAT(SPLAT, )
SIMD_REPLACE(REPLACE, )

/* Results that are numbers: also in the accumulator of their type, as everywhere. */
#define PUT_i(value)                                                                                                   \
    acc = (uint32_t)(value);                                                                                           \
    SET(0, acc)
#define PUT_l(value)                                                                                                   \
    acc = (value);                                                                                                     \
    SET(0, acc)
#define PUT_f(value)                                                                                                   \
    facc = (value);                                                                                                    \
    SF32(0) = facc
#define PUT_d(value)                                                                                                   \
    dacc = (value);                                                                                                    \
    SF64(0) = dacc
#define ONLY_i(value) acc = (uint32_t)(value)
#define ONLY_l(value) acc = (value)
#define ONLY_f(value) facc = (value)
#define ONLY_d(value) dacc = (value)

#define TEST(X, op, n)                                                                                                 \
    OP(n) {                                                                                                            \
        PUT_i(n(SV(1)));                                                                                               \
        NEXT(2);                                                                                                       \
    }                                                                                                                  \
    OP(n##_n) {                                                                                                        \
        ONLY_i(n(SV(1)));                                                                                              \
        NEXT(2);                                                                                                       \
    }
SIMD_TEST(TEST, )

/* The lane straight out of the slots. */
#define LANE(type) (((const type *)&fp[pc[1].s[1]])[pc[1].s[2]])
#define EXTRACT(X, op, n, t)                                                                                           \
    OP(n) {                                                                                                            \
        PUT_##t(LANE_##n);                                                                                             \
        NEXT(2);                                                                                                       \
    }                                                                                                                  \
    OP(n##_n) {                                                                                                        \
        ONLY_##t(LANE_##n);                                                                                            \
        NEXT(2);                                                                                                       \
    }
#define LANE_i8x16_extract_lane_s (int32_t) LANE(int8_t)
#define LANE_i8x16_extract_lane_u LANE(uint8_t)
#define LANE_i16x8_extract_lane_s (int32_t) LANE(int16_t)
#define LANE_i16x8_extract_lane_u LANE(uint16_t)
#define LANE_i32x4_extract_lane   LANE(uint32_t)
#define LANE_i64x2_extract_lane   LANE(uint64_t)
#define LANE_f32x4_extract_lane   LANE(float)
#define LANE_f64x2_extract_lane   LANE(double)
SIMD_EXTRACT(EXTRACT, )

OP(i8x16_shuffle) {
    SET_V(i8x16_shuffle(SV(1), SV(2), (const uint8_t *)&pc[2]));
    NEXT(4);
}
/* A shuffle that moves whole 32-bit lanes: where they are, in bytes from fp. */
OP(i32x4_shuffle) {
    const uint8_t *frame = (const uint8_t *)fp;
    SET_V(((v128){.u32 = {load32(frame + pc[2].u[0]), load32(frame + pc[2].u[1]), load32(frame + pc[3].u[0]),
                          load32(frame + pc[3].u[1])}}));
    NEXT(4);
}

#ifdef __x86_64__
/* Bytes by index in one instruction, where the CPU has it; translate_simd.c knows. Indices with the top bit set give
 * zero. */
#define WITH_SSSE3 __attribute__((target("ssse3")))
WITH_SSSE3 static inline v128 shuffle_bytes(v128 v, v128 at) {
    return (v128){.s64 = (s64x2)_mm_shuffle_epi8((__m128i)v.s64, (__m128i)at.s64)};
}

WITH_SSSE3 OP(i8x16_swizzle_ssse3) {
    v128 at = i8x16_add_sat_u(SV(2), i8x16_splat(0x70)); /* from 16 on: 0x80 and more */
    SET_V(shuffle_bytes(SV(1), at));
    NEXT(2);
}
WITH_SSSE3 OP(i8x16_shuffle_ssse3) {
    SET_V(v128_or(shuffle_bytes(SV(1), v128_load(&pc[2])), shuffle_bytes(SV(2), v128_load(&pc[4]))));
    NEXT(6);
}
#endif

/* ---- memory ---- */

#define FAR_ADDRESS(n, is64) ((is64) ? S64(n) : S32(n))

#define LOAD(X, op, n, size)                                                                                           \
    OP(n) {                                                                                                            \
        MEM32(p, S32(1), pc[1].u[1], size);                                                                            \
        SET_V(n(p));                                                                                                   \
        NEXT(2);                                                                                                       \
    }                                                                                                                  \
    OP(n##_far) {                                                                                                      \
        MEM64(p, FAR_ADDRESS(1, pc[1].s[2]), pc + 2, size);                                                            \
        SET_V(n(p));                                                                                                   \
        NEXT(4);                                                                                                       \
    }
SIMD_LOAD(LOAD, )

OP(v128_store) {
    MEM32(p, S32(0), pc[1].u[1], 16);
    v128_store(p, SV(1));
    NEXT(2);
}
OP(v128_store_far) {
    MEM64(p, FAR_ADDRESS(0, pc[1].s[2]), pc + 2, 16);
    v128_store(p, SV(1));
    NEXT(4);
}

/* Lanes are written in place: an index that is no constant would send a vector through memory anyhow. */
#define LOAD_LANE(X, op, n, size)                                                                                      \
    OP(n) {                                                                                                            \
        MEM32(p, S32(2), pc[2].u64, size);                                                                             \
        v128 v = SV(1);                                                                                                \
        memcpy((uint8_t *)&v + pc[1].s[3] * (size), p, size);                                                          \
        SET_V(v);                                                                                                      \
        NEXT(3);                                                                                                       \
    }                                                                                                                  \
    OP(n##_far) {                                                                                                      \
        MEM64(p, FAR_ADDRESS(2, pc[1].s[3] >> 8), pc + 2, size);                                                       \
        v128 v = SV(1);                                                                                                \
        memcpy((uint8_t *)&v + (pc[1].s[3] & 0xff) * (size), p, size);                                                 \
        SET_V(v);                                                                                                      \
        NEXT(4);                                                                                                       \
    }
SIMD_LOAD_LANE(LOAD_LANE, )

#define STORE_LANE(X, op, n, size)                                                                                     \
    OP(n) {                                                                                                            \
        MEM32(p, S32(1), pc[2].u64, size);                                                                             \
        memcpy(p, (const uint8_t *)&fp[pc[1].s[0]] + pc[1].s[2] * (size), size);                                       \
        NEXT(3);                                                                                                       \
    }                                                                                                                  \
    OP(n##_far) {                                                                                                      \
        MEM64(p, FAR_ADDRESS(1, pc[1].s[3]), pc + 2, size);                                                            \
        memcpy(p, (const uint8_t *)&fp[pc[1].s[0]] + pc[1].s[2] * (size), size);                                       \
        NEXT(4);                                                                                                       \
    }
SIMD_STORE_LANE(STORE_LANE, )
