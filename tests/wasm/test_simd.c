/* simd.h's vectors against one lane at a time in plain C, over extreme and random values. The conformance suites check
 * the same instructions through the engine; this finds what differs between compilers and CPUs, quickly. */
#include "simd.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum { ROUNDS = 4000 };

static uint64_t random_state = 88172645463325252u;
static uint64_t random64(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state * 0x2545f4914f6cdd1du;
}

static const float some32[] = {0.0f,
                               -0.0f,
                               0.5f,
                               -0.5f,
                               1.5f,
                               2.5f,
                               -1.0f,
                               0x1p31f,
                               -0x1p31f,
                               0x1p32f,
                               0x1.fffffep30f,
                               0x1p23f,
                               8388607.5f,
                               1e-40f,
                               3e38f,
                               __builtin_inff(),
                               -__builtin_inff(),
                               4194304.5f,
                               -3.7f,
                               0.49999997f};
static const double some64[] = {0.0,
                                -0.0,
                                0.5,
                                -0.5,
                                1.5,
                                2.5,
                                -1.0,
                                0x1p31,
                                -0x1p31,
                                0x1p32,
                                2147483647.5,
                                0x1p52,
                                4503599627370495.5,
                                1e-310,
                                1e308,
                                __builtin_inf(),
                                -__builtin_inf(),
                                4294967295.9,
                                -3.7,
                                0.49999999999999994};

/* Integers with extremes, floats with extremes and NaN, or bits. */
static v128 random_vector(void) {
    static const uint8_t edges[] = {0, 1, 0x7f, 0x80, 0x81, 0xff, 0xfe, 0x40};
    v128 v;
    unsigned how = random64() % 6;
    for (unsigned i = 0; i < 16; i++)
        v.u8[i] = how == 0 ? edges[random64() % 8] : (uint8_t)random64();
    if (how == 1)
        for (unsigned i = 0; i < 8; i++)
            v.u16[i] = (uint16_t)(edges[random64() % 8] << 8) - (uint16_t)(random64() % 3);
    if (how == 2)
        for (unsigned i = 0; i < 4; i++)
            v.u32[i] = ((uint32_t)edges[random64() % 8] << 24) - (uint32_t)(random64() % 3);
    if (how == 3)
        for (unsigned i = 0; i < 4; i++)
            v.f32[i] = random64() % 8 ? some32[random64() % 20] : (float)__builtin_nan("");
    if (how == 4)
        for (unsigned i = 0; i < 2; i++)
            v.f64[i] = random64() % 8 ? some64[random64() % 20] : __builtin_nan("");
    return v;
}

static void differ(const char *what, unsigned lane, v128 a, v128 b, v128 got) {
    fail_msg("%s lane %u: a %016llx%016llx b %016llx%016llx gives %016llx%016llx", what, lane,
             (unsigned long long)a.u64[1], (unsigned long long)a.u64[0], (unsigned long long)b.u64[1],
             (unsigned long long)b.u64[0], (unsigned long long)got.u64[1], (unsigned long long)got.u64[0]);
}

/* n lanes of type R in member `to`, from members `from`: equal bits, or both NaN. */
#define CHECK(name, call, n, R, to, T, from, expr)                                                                     \
    for (int round = 0; round < ROUNDS; round++) {                                                                     \
        v128 va = random_vector(), vb = random_vector(), r = call;                                                     \
        for (unsigned i = 0; i < (n); i++) {                                                                           \
            T a = va.from[i % (sizeof(v128) / sizeof(T))], b = vb.from[i % (sizeof(v128) / sizeof(T))];                \
            R want = (R)(expr), got = r.to[i];                                                                         \
            (void)a, (void)b;                                                                                          \
            if (want != want && got != got) continue;                                                                  \
            if (memcmp(&want, &got, sizeof want)) differ(#name, i, va, vb, r);                                         \
        }                                                                                                              \
    }
#define V2(name, n, m, T, expr)     CHECK(name, name(va, vb), n, T, m, T, m, expr)
#define V1(name, n, m, T, expr)     CHECK(name, name(va), n, T, m, T, m, expr)
#define VC(name, n, u, R, m, T, op) CHECK(name, name(va, vb), n, R, u, T, m, a op b ? -1 : 0)
#define VS(name, n, m, T, bits, op) CHECK(name, name(va, vb.u32[0]), n, T, m, T, m, (T)(a op(vb.u32[0] & (bits - 1))))

static int64_t clamp(int64_t x, int64_t low, int64_t high) {
    return x < low ? low : x > high ? high : x;
}

#define COMPARES(shape, n, s, S, u, U)                                                                                 \
    VC(shape##_eq, n, u, U, u, U, ==)                                                                                  \
    VC(shape##_ne, n, u, U, u, U, !=)                                                                                  \
    VC(shape##_lt_s, n, u, U, s, S, <)                                                                                 \
    VC(shape##_gt_s, n, u, U, s, S, >)                                                                                 \
    VC(shape##_le_s, n, u, U, s, S, <=)                                                                                \
    VC(shape##_ge_s, n, u, U, s, S, >=)                                                                                \
    V2(shape##_add, n, u, U, a + b)                                                                                    \
    V2(shape##_sub, n, u, U, a - b)                                                                                    \
    V1(shape##_neg, n, u, U, (U)0 - a)                                                                                 \
    V1(shape##_abs, n, s, S, a < 0 ? (S)((U)0 - (U)a) : a)                                                             \
    VS(shape##_shl, n, u, U, sizeof(U) * 8, <<)                                                                        \
    VS(shape##_shr_u, n, u, U, sizeof(U) * 8, >>)                                                                      \
    VS(shape##_shr_s, n, s, S, sizeof(U) * 8, >>)
#define COMPARES_U(shape, n, s, S, u, U)                                                                               \
    VC(shape##_lt_u, n, u, U, u, U, <)                                                                                 \
    VC(shape##_gt_u, n, u, U, u, U, >)                                                                                 \
    VC(shape##_le_u, n, u, U, u, U, <=)                                                                                \
    VC(shape##_ge_u, n, u, U, u, U, >=)                                                                                \
    V2(shape##_min_s, n, s, S, a < b ? a : b)                                                                          \
    V2(shape##_max_s, n, s, S, a > b ? a : b)                                                                          \
    V2(shape##_min_u, n, u, U, a < b ? a : b)                                                                          \
    V2(shape##_max_u, n, u, U, a > b ? a : b)
#define SATURATING(shape, n, s, S, u, U, min, max, umax)                                                               \
    V2(shape##_add_sat_s, n, s, S, clamp((int64_t)a + b, min, max))                                                    \
    V2(shape##_sub_sat_s, n, s, S, clamp((int64_t)a - b, min, max))                                                    \
    V2(shape##_add_sat_u, n, u, U, clamp((int64_t)a + b, 0, umax))                                                     \
    V2(shape##_sub_sat_u, n, u, U, clamp((int64_t)a - b, 0, umax))                                                     \
    V2(shape##_avgr_u, n, u, U, (a + b + 1) / 2)

static void integers(void **state) {
    (void)state;
    COMPARES(i8x16, 16, s8, int8_t, u8, uint8_t)
    COMPARES(i16x8, 8, s16, int16_t, u16, uint16_t)
    COMPARES(i32x4, 4, s32, int32_t, u32, uint32_t)
    COMPARES(i64x2, 2, s64, int64_t, u64, uint64_t)
    COMPARES_U(i8x16, 16, s8, int8_t, u8, uint8_t)
    COMPARES_U(i16x8, 8, s16, int16_t, u16, uint16_t)
    COMPARES_U(i32x4, 4, s32, int32_t, u32, uint32_t)
    SATURATING(i8x16, 16, s8, int8_t, u8, uint8_t, -128, 127, 255)
    SATURATING(i16x8, 8, s16, int16_t, u16, uint16_t, -32768, 32767, 65535)
    V2(i16x8_mul, 8, u16, uint16_t, (uint32_t)a * b)
    V2(i32x4_mul, 4, u32, uint32_t, a * b)
    V2(i64x2_mul, 2, u64, uint64_t, a * b)
    V1(i8x16_popcnt, 16, u8, uint8_t, __builtin_popcount(a))
    V2(i16x8_q15mulr_sat_s, 8, s16, int16_t, clamp(((int64_t)a * b + 0x4000) >> 15, -32768, 32767))
}

/* Lane i of one operand, whatever is under test. */
#define A(m, i) ((int64_t)va.m[i])
#define B(m, i) ((int64_t)vb.m[i])

static void widths(void **state) {
    (void)state;
#define NARROW(name, n, to, R, from, low, high)                                                                        \
    CHECK(name, name(va, vb), n, R, to, uint8_t, u8, clamp(i < n / 2 ? A(from, i) : B(from, i - n / 2), low, high))
    NARROW(i8x16_narrow_i16x8_s, 16, s8, int8_t, s16, -128, 127)
    NARROW(i8x16_narrow_i16x8_u, 16, u8, uint8_t, s16, 0, 255)
    NARROW(i16x8_narrow_i32x4_s, 8, s16, int16_t, s32, -32768, 32767)
    NARROW(i16x8_narrow_i32x4_u, 8, u16, uint16_t, s32, 0, 65535)
#define WIDEN(wide, narrow, n, u, U, sign, from)                                                                       \
    CHECK(wide##_extend_low_##narrow, wide##_extend_low_##narrow##_##sign(va), n, U, u, uint8_t, u8, A(from, i))       \
    CHECK(wide##_extend_high_##narrow, wide##_extend_high_##narrow##_##sign(va), n, U, u, uint8_t, u8, A(from, i + n)) \
    CHECK(wide##_extmul_low_##narrow, wide##_extmul_low_##narrow##_##sign(va, vb), n, U, u, uint8_t, u8,               \
          (uint64_t)A(from, i) * (uint64_t)B(from, i))                                                                 \
    CHECK(wide##_extmul_high_##narrow, wide##_extmul_high_##narrow##_##sign(va, vb), n, U, u, uint8_t, u8,             \
          (uint64_t)A(from, i + n) * (uint64_t)B(from, i + n))
    WIDEN(i16x8, i8x16, 8, u16, uint16_t, s, s8)
    WIDEN(i16x8, i8x16, 8, u16, uint16_t, u, u8)
    WIDEN(i32x4, i16x8, 4, u32, uint32_t, s, s16)
    WIDEN(i32x4, i16x8, 4, u32, uint32_t, u, u16)
    WIDEN(i64x2, i32x4, 2, u64, uint64_t, s, s32)
    WIDEN(i64x2, i32x4, 2, u64, uint64_t, u, u32)
#define PAIRWISE(name, n, u, U, from) CHECK(name, name(va), n, U, u, uint8_t, u8, A(from, 2 * i) + A(from, 2 * i + 1))
    PAIRWISE(i16x8_extadd_pairwise_i8x16_s, 8, u16, uint16_t, s8)
    PAIRWISE(i16x8_extadd_pairwise_i8x16_u, 8, u16, uint16_t, u8)
    PAIRWISE(i32x4_extadd_pairwise_i16x8_s, 4, u32, uint32_t, s16)
    PAIRWISE(i32x4_extadd_pairwise_i16x8_u, 4, u32, uint32_t, u16)
    CHECK(i32x4_dot_i16x8_s, i32x4_dot_i16x8_s(va, vb), 4, uint32_t, u32, uint8_t, u8,
          A(s16, 2 * i) * B(s16, 2 * i) + A(s16, 2 * i + 1) * B(s16, 2 * i + 1))
    CHECK(i16x8_relaxed_dot_i8x16_i7x16_s, i16x8_relaxed_dot_i8x16_i7x16_s(va, vb), 8, uint16_t, u16, uint8_t, u8,
          A(s8, 2 * i) * B(s8, 2 * i) + A(s8, 2 * i + 1) * B(s8, 2 * i + 1))
}

static uint64_t mask_of(v128 v, unsigned bits) {
    uint64_t m = 0;
    for (unsigned i = 0; i < 128 / bits; i++)
        m |= (uint64_t)(v.u8[(i + 1) * bits / 8 - 1] >> 7) << i;
    return m;
}
static bool all_true(v128 v, unsigned bytes) {
    for (unsigned i = 0; i < 16; i += bytes) {
        unsigned any = 0;
        for (unsigned k = 0; k < bytes; k++)
            any |= v.u8[i + k];
        if (!any) return false;
    }
    return true;
}

static void lanes(void **state) {
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        v128 a = random_vector(), b = random_vector();
        if (round % 4 == 0) a = v128_and(a, b);
        assert_int_equal(i8x16_bitmask(a), mask_of(a, 8));
        assert_int_equal(i16x8_bitmask(a), mask_of(a, 16));
        assert_int_equal(i32x4_bitmask(a), mask_of(a, 32));
        assert_int_equal(i64x2_bitmask(a), mask_of(a, 64));
        assert_int_equal(i8x16_all_true(a), all_true(a, 1));
        assert_int_equal(i16x8_all_true(a), all_true(a, 2));
        assert_int_equal(i32x4_all_true(a), all_true(a, 4));
        assert_int_equal(i64x2_all_true(a), all_true(a, 8));
        v128 sel = v128_bitselect(a, b, i8x16_eq(a, b));
        assert_memory_equal(&sel, &b, 16);
        uint8_t pick[16];
        for (unsigned i = 0; i < 16; i++)
            pick[i] = (uint8_t)(random64() % 32);
        v128 sh = i8x16_shuffle(a, b, pick), sw = i8x16_swizzle(a, b);
        for (unsigned i = 0; i < 16; i++) {
            assert_int_equal(sh.u8[i], pick[i] < 16 ? a.u8[pick[i]] : b.u8[pick[i] - 16]);
            assert_int_equal(sw.u8[i], b.u8[i] < 16 ? a.u8[b.u8[i]] : 0);
        }
    }
}

#define FLOATS(shape, n, f, F, u, U, suffix)                                                                           \
    VC(shape##_eq, n, u, U, f, F, ==)                                                                                  \
    VC(shape##_ne, n, u, U, f, F, !=)                                                                                  \
    VC(shape##_lt, n, u, U, f, F, <)                                                                                   \
    VC(shape##_gt, n, u, U, f, F, >)                                                                                   \
    VC(shape##_le, n, u, U, f, F, <=)                                                                                  \
    VC(shape##_ge, n, u, U, f, F, >=)                                                                                  \
    V2(shape##_add, n, f, F, a + b)                                                                                    \
    V2(shape##_sub, n, f, F, a - b)                                                                                    \
    V2(shape##_mul, n, f, F, a *b)                                                                                     \
    V2(shape##_div, n, f, F, a / b)                                                                                    \
    V2(shape##_min, n, f, F, MIN(a, b))                                                                                \
    V2(shape##_max, n, f, F, MAX(a, b))                                                                                \
    V2(shape##_pmin, n, f, F, b < a ? b : a)                                                                           \
    V2(shape##_pmax, n, f, F, a < b ? b : a)                                                                           \
    V1(shape##_abs, n, f, F, fabs##suffix(a))                                                                          \
    V1(shape##_neg, n, f, F, -a)                                                                                       \
    V1(shape##_sqrt, n, f, F, sqrt##suffix(a))                                                                         \
    V1(shape##_ceil, n, f, F, ceil##suffix(a))                                                                         \
    V1(shape##_floor, n, f, F, floor##suffix(a))                                                                       \
    V1(shape##_trunc, n, f, F, trunc##suffix(a))                                                                       \
    V1(shape##_nearest, n, f, F, nearbyint##suffix(a))
#define MIN(a, b) (a != a || b != b ? a + b : a == b ? (signbit(a) ? a : b) : a < b ? a : b)
#define MAX(a, b) (a != a || b != b ? a + b : a == b ? (signbit(a) ? b : a) : a > b ? a : b)

static double trunc_sat(double x, double low, double high) {
    return x != x ? 0 : x < low ? low : x > high ? high : trunc(x);
}

/* The generic form of what SSE2 does above. */
static void generic(void **state) {
    (void)state;
#ifdef __SSE2__
    for (int round = 0; round < ROUNDS; round++) {
        v128 a = random_vector(), b = random_vector();
#define SAME(name)                                                                                                     \
    do {                                                                                                               \
        v128 one = name(a, b), other = name##_generic(a, b);                                                           \
        if (memcmp(&one, &other, 16)) differ(#name " generic", 0, a, b, other);                                        \
    } while (0)
        SAME(i8x16_add_sat_s);
        SAME(i8x16_add_sat_u);
        SAME(i8x16_sub_sat_s);
        SAME(i8x16_sub_sat_u);
        SAME(i8x16_avgr_u);
        SAME(i16x8_add_sat_s);
        SAME(i16x8_add_sat_u);
        SAME(i16x8_sub_sat_s);
        SAME(i16x8_sub_sat_u);
        SAME(i16x8_avgr_u);
        SAME(i8x16_narrow_i16x8_s);
        SAME(i8x16_narrow_i16x8_u);
        SAME(i16x8_narrow_i32x4_s);
        SAME(i32x4_dot_i16x8_s);
    }
#endif
}

static void floats(void **state) {
    (void)state;
    FLOATS(f32x4, 4, f32, float, u32, uint32_t, f)
    FLOATS(f64x2, 2, f64, double, u64, uint64_t, )
    CHECK(trunc_s, i32x4_trunc_sat_f32x4_s(va), 4, int32_t, s32, float, f32, trunc_sat(a, INT32_MIN, INT32_MAX))
    CHECK(trunc_u, i32x4_trunc_sat_f32x4_u(va), 4, uint32_t, u32, float, f32, trunc_sat(a, 0, UINT32_MAX))
    CHECK(trunc_s_zero, i32x4_trunc_sat_f64x2_s_zero(va), 4, int32_t, s32, double, f64,
          i < 2 ? trunc_sat(a, INT32_MIN, INT32_MAX) : 0)
    CHECK(trunc_u_zero, i32x4_trunc_sat_f64x2_u_zero(va), 4, uint32_t, u32, double, f64,
          i < 2 ? trunc_sat(a, 0, UINT32_MAX) : 0)
    CHECK(convert_s, f32x4_convert_i32x4_s(va), 4, float, f32, int32_t, s32, a)
    CHECK(convert_u, f32x4_convert_i32x4_u(va), 4, float, f32, uint32_t, u32, a)
    CHECK(convert_low_s, f64x2_convert_low_i32x4_s(va), 2, double, f64, int32_t, s32, a)
    CHECK(convert_low_u, f64x2_convert_low_i32x4_u(va), 2, double, f64, uint32_t, u32, a)
    CHECK(promote, f64x2_promote_low_f32x4(va), 2, double, f64, float, f32, a)
    CHECK(demote, f32x4_demote_f64x2_zero(va), 4, float, f32, double, f64, i < 2 ? (float)a : 0)
}

/* NaN payloads: what arithmetic makes is quiet, what moves keeps its bits. */
static void nans(void **state) {
    (void)state;
    v128 s = i32x4_splat(0x7fa00001), one = f32x4_splat(1.0f),
         r[] = {f32x4_add(s, one), f32x4_min(one, s), f32x4_max(s, one),
                f32x4_floor(s),    f32x4_nearest(s),  f32x4_sqrt(s)};
    for (unsigned i = 0; i < sizeof r / sizeof *r; i++)
        assert_true((r[i].u32[0] & 0x7fc00000) == 0x7fc00000);
    assert_int_equal(f32x4_pmin(s, one).u32[3], 0x7fa00001);
    assert_int_equal(f32x4_neg(s).u32[3], 0xffa00001);
    assert_int_equal(f32x4_abs(f32x4_neg(s)).u32[3], 0x7fa00001);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(integers), cmocka_unit_test(widths), cmocka_unit_test(lanes),
                                       cmocka_unit_test(generic),  cmocka_unit_test(floats), cmocka_unit_test(nans)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
