/* The interpreter's vector instructions; see oplist.h. F(X, opcode, function of simd.h and name here, ...): opcodes.h
 * and the handlers are tied together by these lists, in the order of the opcodes. */
#ifndef DONJON_WASM_INTERP_OPLIST_SIMD_H
#define DONJON_WASM_INTERP_OPLIST_SIMD_H

// clang-format off
/* v128 -> v128: [d a]. */
#define SIMD_UNARY(F, X) \
    F(X, V128_NOT, v128_not) F(X, F32X4_DEMOTE_F64X2_ZERO, f32x4_demote_f64x2_zero) \
    F(X, F64X2_PROMOTE_LOW_F32X4, f64x2_promote_low_f32x4) F(X, I8X16_ABS, i8x16_abs) F(X, I8X16_NEG, i8x16_neg) \
    F(X, I8X16_POPCNT, i8x16_popcnt) F(X, F32X4_CEIL, f32x4_ceil) F(X, F32X4_FLOOR, f32x4_floor) \
    F(X, F32X4_TRUNC, f32x4_trunc) F(X, F32X4_NEAREST, f32x4_nearest) F(X, F64X2_CEIL, f64x2_ceil) \
    F(X, F64X2_FLOOR, f64x2_floor) F(X, F64X2_TRUNC, f64x2_trunc) \
    F(X, I16X8_EXTADD_PAIRWISE_I8X16_S, i16x8_extadd_pairwise_i8x16_s) \
    F(X, I16X8_EXTADD_PAIRWISE_I8X16_U, i16x8_extadd_pairwise_i8x16_u) \
    F(X, I32X4_EXTADD_PAIRWISE_I16X8_S, i32x4_extadd_pairwise_i16x8_s) \
    F(X, I32X4_EXTADD_PAIRWISE_I16X8_U, i32x4_extadd_pairwise_i16x8_u) F(X, I16X8_ABS, i16x8_abs) \
    F(X, I16X8_NEG, i16x8_neg) F(X, I16X8_EXTEND_LOW_I8X16_S, i16x8_extend_low_i8x16_s) \
    F(X, I16X8_EXTEND_HIGH_I8X16_S, i16x8_extend_high_i8x16_s) \
    F(X, I16X8_EXTEND_LOW_I8X16_U, i16x8_extend_low_i8x16_u) \
    F(X, I16X8_EXTEND_HIGH_I8X16_U, i16x8_extend_high_i8x16_u) F(X, F64X2_NEAREST, f64x2_nearest) \
    F(X, I32X4_ABS, i32x4_abs) F(X, I32X4_NEG, i32x4_neg) F(X, I32X4_EXTEND_LOW_I16X8_S, i32x4_extend_low_i16x8_s) \
    F(X, I32X4_EXTEND_HIGH_I16X8_S, i32x4_extend_high_i16x8_s) \
    F(X, I32X4_EXTEND_LOW_I16X8_U, i32x4_extend_low_i16x8_u) \
    F(X, I32X4_EXTEND_HIGH_I16X8_U, i32x4_extend_high_i16x8_u) F(X, I64X2_ABS, i64x2_abs) F(X, I64X2_NEG, i64x2_neg) \
    F(X, I64X2_EXTEND_LOW_I32X4_S, i64x2_extend_low_i32x4_s) \
    F(X, I64X2_EXTEND_HIGH_I32X4_S, i64x2_extend_high_i32x4_s) \
    F(X, I64X2_EXTEND_LOW_I32X4_U, i64x2_extend_low_i32x4_u) \
    F(X, I64X2_EXTEND_HIGH_I32X4_U, i64x2_extend_high_i32x4_u) F(X, F32X4_ABS, f32x4_abs) F(X, F32X4_NEG, f32x4_neg) \
    F(X, F32X4_SQRT, f32x4_sqrt) F(X, F64X2_ABS, f64x2_abs) F(X, F64X2_NEG, f64x2_neg) F(X, F64X2_SQRT, f64x2_sqrt) \
    F(X, I32X4_TRUNC_SAT_F32X4_S, i32x4_trunc_sat_f32x4_s) F(X, I32X4_TRUNC_SAT_F32X4_U, i32x4_trunc_sat_f32x4_u) \
    F(X, F32X4_CONVERT_I32X4_S, f32x4_convert_i32x4_s) F(X, F32X4_CONVERT_I32X4_U, f32x4_convert_i32x4_u) \
    F(X, I32X4_TRUNC_SAT_F64X2_S_ZERO, i32x4_trunc_sat_f64x2_s_zero) \
    F(X, I32X4_TRUNC_SAT_F64X2_U_ZERO, i32x4_trunc_sat_f64x2_u_zero) \
    F(X, F64X2_CONVERT_LOW_I32X4_S, f64x2_convert_low_i32x4_s) \
    F(X, F64X2_CONVERT_LOW_I32X4_U, f64x2_convert_low_i32x4_u) \
    F(X, I32X4_RELAXED_TRUNC_F32X4_S, i32x4_relaxed_trunc_f32x4_s) \
    F(X, I32X4_RELAXED_TRUNC_F32X4_U, i32x4_relaxed_trunc_f32x4_u) \
    F(X, I32X4_RELAXED_TRUNC_F64X2_S_ZERO, i32x4_relaxed_trunc_f64x2_s_zero) \
    F(X, I32X4_RELAXED_TRUNC_F64X2_U_ZERO, i32x4_relaxed_trunc_f64x2_u_zero)

/* v128 v128 -> v128: [d a b]. */
#define SIMD_BINARY(F, X) \
    F(X, I8X16_SWIZZLE, i8x16_swizzle) F(X, I8X16_EQ, i8x16_eq) F(X, I8X16_NE, i8x16_ne) F(X, I8X16_LT_S, i8x16_lt_s) \
    F(X, I8X16_LT_U, i8x16_lt_u) F(X, I8X16_GT_S, i8x16_gt_s) F(X, I8X16_GT_U, i8x16_gt_u) \
    F(X, I8X16_LE_S, i8x16_le_s) F(X, I8X16_LE_U, i8x16_le_u) F(X, I8X16_GE_S, i8x16_ge_s) \
    F(X, I8X16_GE_U, i8x16_ge_u) F(X, I16X8_EQ, i16x8_eq) F(X, I16X8_NE, i16x8_ne) F(X, I16X8_LT_S, i16x8_lt_s) \
    F(X, I16X8_LT_U, i16x8_lt_u) F(X, I16X8_GT_S, i16x8_gt_s) F(X, I16X8_GT_U, i16x8_gt_u) \
    F(X, I16X8_LE_S, i16x8_le_s) F(X, I16X8_LE_U, i16x8_le_u) F(X, I16X8_GE_S, i16x8_ge_s) \
    F(X, I16X8_GE_U, i16x8_ge_u) F(X, I32X4_EQ, i32x4_eq) F(X, I32X4_NE, i32x4_ne) F(X, I32X4_LT_S, i32x4_lt_s) \
    F(X, I32X4_LT_U, i32x4_lt_u) F(X, I32X4_GT_S, i32x4_gt_s) F(X, I32X4_GT_U, i32x4_gt_u) \
    F(X, I32X4_LE_S, i32x4_le_s) F(X, I32X4_LE_U, i32x4_le_u) F(X, I32X4_GE_S, i32x4_ge_s) \
    F(X, I32X4_GE_U, i32x4_ge_u) F(X, F32X4_EQ, f32x4_eq) F(X, F32X4_NE, f32x4_ne) F(X, F32X4_LT, f32x4_lt) \
    F(X, F32X4_GT, f32x4_gt) F(X, F32X4_LE, f32x4_le) F(X, F32X4_GE, f32x4_ge) F(X, F64X2_EQ, f64x2_eq) \
    F(X, F64X2_NE, f64x2_ne) F(X, F64X2_LT, f64x2_lt) F(X, F64X2_GT, f64x2_gt) F(X, F64X2_LE, f64x2_le) \
    F(X, F64X2_GE, f64x2_ge) F(X, V128_AND, v128_and) F(X, V128_ANDNOT, v128_andnot) F(X, V128_OR, v128_or) \
    F(X, V128_XOR, v128_xor) F(X, I8X16_NARROW_I16X8_S, i8x16_narrow_i16x8_s) \
    F(X, I8X16_NARROW_I16X8_U, i8x16_narrow_i16x8_u) F(X, I8X16_ADD, i8x16_add) F(X, I8X16_ADD_SAT_S, i8x16_add_sat_s) \
    F(X, I8X16_ADD_SAT_U, i8x16_add_sat_u) F(X, I8X16_SUB, i8x16_sub) F(X, I8X16_SUB_SAT_S, i8x16_sub_sat_s) \
    F(X, I8X16_SUB_SAT_U, i8x16_sub_sat_u) F(X, I8X16_MIN_S, i8x16_min_s) F(X, I8X16_MIN_U, i8x16_min_u) \
    F(X, I8X16_MAX_S, i8x16_max_s) F(X, I8X16_MAX_U, i8x16_max_u) F(X, I8X16_AVGR_U, i8x16_avgr_u) \
    F(X, I16X8_Q15MULR_SAT_S, i16x8_q15mulr_sat_s) F(X, I16X8_NARROW_I32X4_S, i16x8_narrow_i32x4_s) \
    F(X, I16X8_NARROW_I32X4_U, i16x8_narrow_i32x4_u) F(X, I16X8_ADD, i16x8_add) F(X, I16X8_ADD_SAT_S, i16x8_add_sat_s) \
    F(X, I16X8_ADD_SAT_U, i16x8_add_sat_u) F(X, I16X8_SUB, i16x8_sub) F(X, I16X8_SUB_SAT_S, i16x8_sub_sat_s) \
    F(X, I16X8_SUB_SAT_U, i16x8_sub_sat_u) F(X, I16X8_MUL, i16x8_mul) F(X, I16X8_MIN_S, i16x8_min_s) \
    F(X, I16X8_MIN_U, i16x8_min_u) F(X, I16X8_MAX_S, i16x8_max_s) F(X, I16X8_MAX_U, i16x8_max_u) \
    F(X, I16X8_AVGR_U, i16x8_avgr_u) F(X, I16X8_EXTMUL_LOW_I8X16_S, i16x8_extmul_low_i8x16_s) \
    F(X, I16X8_EXTMUL_HIGH_I8X16_S, i16x8_extmul_high_i8x16_s) \
    F(X, I16X8_EXTMUL_LOW_I8X16_U, i16x8_extmul_low_i8x16_u) \
    F(X, I16X8_EXTMUL_HIGH_I8X16_U, i16x8_extmul_high_i8x16_u) F(X, I32X4_ADD, i32x4_add) F(X, I32X4_SUB, i32x4_sub) \
    F(X, I32X4_MUL, i32x4_mul) F(X, I32X4_MIN_S, i32x4_min_s) F(X, I32X4_MIN_U, i32x4_min_u) \
    F(X, I32X4_MAX_S, i32x4_max_s) F(X, I32X4_MAX_U, i32x4_max_u) F(X, I32X4_DOT_I16X8_S, i32x4_dot_i16x8_s) \
    F(X, I32X4_EXTMUL_LOW_I16X8_S, i32x4_extmul_low_i16x8_s) \
    F(X, I32X4_EXTMUL_HIGH_I16X8_S, i32x4_extmul_high_i16x8_s) \
    F(X, I32X4_EXTMUL_LOW_I16X8_U, i32x4_extmul_low_i16x8_u) \
    F(X, I32X4_EXTMUL_HIGH_I16X8_U, i32x4_extmul_high_i16x8_u) F(X, I64X2_ADD, i64x2_add) F(X, I64X2_SUB, i64x2_sub) \
    F(X, I64X2_MUL, i64x2_mul) F(X, I64X2_EQ, i64x2_eq) F(X, I64X2_NE, i64x2_ne) F(X, I64X2_LT_S, i64x2_lt_s) \
    F(X, I64X2_GT_S, i64x2_gt_s) F(X, I64X2_LE_S, i64x2_le_s) F(X, I64X2_GE_S, i64x2_ge_s) \
    F(X, I64X2_EXTMUL_LOW_I32X4_S, i64x2_extmul_low_i32x4_s) \
    F(X, I64X2_EXTMUL_HIGH_I32X4_S, i64x2_extmul_high_i32x4_s) \
    F(X, I64X2_EXTMUL_LOW_I32X4_U, i64x2_extmul_low_i32x4_u) \
    F(X, I64X2_EXTMUL_HIGH_I32X4_U, i64x2_extmul_high_i32x4_u) F(X, F32X4_ADD, f32x4_add) F(X, F32X4_SUB, f32x4_sub) \
    F(X, F32X4_MUL, f32x4_mul) F(X, F32X4_DIV, f32x4_div) F(X, F32X4_MIN, f32x4_min) F(X, F32X4_MAX, f32x4_max) \
    F(X, F32X4_PMIN, f32x4_pmin) F(X, F32X4_PMAX, f32x4_pmax) F(X, F64X2_ADD, f64x2_add) F(X, F64X2_SUB, f64x2_sub) \
    F(X, F64X2_MUL, f64x2_mul) F(X, F64X2_DIV, f64x2_div) F(X, F64X2_MIN, f64x2_min) F(X, F64X2_MAX, f64x2_max) \
    F(X, F64X2_PMIN, f64x2_pmin) F(X, F64X2_PMAX, f64x2_pmax) F(X, I8X16_RELAXED_SWIZZLE, i8x16_relaxed_swizzle) \
    F(X, F32X4_RELAXED_MIN, f32x4_relaxed_min) F(X, F32X4_RELAXED_MAX, f32x4_relaxed_max) \
    F(X, F64X2_RELAXED_MIN, f64x2_relaxed_min) F(X, F64X2_RELAXED_MAX, f64x2_relaxed_max) \
    F(X, I16X8_RELAXED_Q15MULR_S, i16x8_relaxed_q15mulr_s) \
    F(X, I16X8_RELAXED_DOT_I8X16_I7X16_S, i16x8_relaxed_dot_i8x16_i7x16_s)

/* v128 v128 v128 -> v128: [d a b c]. */
#define SIMD_TERNARY(F, X) \
    F(X, V128_BITSELECT, v128_bitselect) F(X, F32X4_RELAXED_MADD, f32x4_relaxed_madd) \
    F(X, F32X4_RELAXED_NMADD, f32x4_relaxed_nmadd) F(X, F64X2_RELAXED_MADD, f64x2_relaxed_madd) \
    F(X, F64X2_RELAXED_NMADD, f64x2_relaxed_nmadd) F(X, I8X16_RELAXED_LANESELECT, i8x16_relaxed_laneselect) \
    F(X, I16X8_RELAXED_LANESELECT, i16x8_relaxed_laneselect) F(X, I32X4_RELAXED_LANESELECT, i32x4_relaxed_laneselect) \
    F(X, I64X2_RELAXED_LANESELECT, i64x2_relaxed_laneselect) \
    F(X, I32X4_RELAXED_DOT_I8X16_I7X16_ADD_S, i32x4_relaxed_dot_i8x16_i7x16_add_s)

/* v128 i32 -> v128: [d a count]. */
#define SIMD_SHIFT(F, X) \
    F(X, I8X16_SHL, i8x16_shl) F(X, I8X16_SHR_S, i8x16_shr_s) F(X, I8X16_SHR_U, i8x16_shr_u) \
    F(X, I16X8_SHL, i16x8_shl) F(X, I16X8_SHR_S, i16x8_shr_s) F(X, I16X8_SHR_U, i16x8_shr_u) \
    F(X, I32X4_SHL, i32x4_shl) F(X, I32X4_SHR_S, i32x4_shr_s) F(X, I32X4_SHR_U, i32x4_shr_u) \
    F(X, I64X2_SHL, i64x2_shl) F(X, I64X2_SHR_S, i64x2_shr_s) F(X, I64X2_SHR_U, i64x2_shr_u)

/* v128 -> i32: [d a]. */
#define SIMD_TEST(F, X) \
    F(X, V128_ANY_TRUE, v128_any_true) F(X, I8X16_ALL_TRUE, i8x16_all_true) F(X, I8X16_BITMASK, i8x16_bitmask) \
    F(X, I16X8_ALL_TRUE, i16x8_all_true) F(X, I16X8_BITMASK, i16x8_bitmask) F(X, I32X4_ALL_TRUE, i32x4_all_true) \
    F(X, I32X4_BITMASK, i32x4_bitmask) F(X, I64X2_ALL_TRUE, i64x2_all_true) F(X, I64X2_BITMASK, i64x2_bitmask)

/* number -> v128: [d x]. Numbers: i i32, l i64, f f32, d f64. */
#define SIMD_SPLAT(F, X) \
    F(X, I8X16_SPLAT, i8x16_splat, i) F(X, I16X8_SPLAT, i16x8_splat, i) F(X, I32X4_SPLAT, i32x4_splat, i) \
    F(X, I64X2_SPLAT, i64x2_splat, l) F(X, F32X4_SPLAT, f32x4_splat, f) F(X, F64X2_SPLAT, f64x2_splat, d)

/* v128 -> number: [d a lane]. */
#define SIMD_EXTRACT(F, X) \
    F(X, I8X16_EXTRACT_LANE_S, i8x16_extract_lane_s, i) F(X, I8X16_EXTRACT_LANE_U, i8x16_extract_lane_u, i) \
    F(X, I16X8_EXTRACT_LANE_S, i16x8_extract_lane_s, i) F(X, I16X8_EXTRACT_LANE_U, i16x8_extract_lane_u, i) \
    F(X, I32X4_EXTRACT_LANE, i32x4_extract_lane, i) F(X, I64X2_EXTRACT_LANE, i64x2_extract_lane, l) \
    F(X, F32X4_EXTRACT_LANE, f32x4_extract_lane, f) F(X, F64X2_EXTRACT_LANE, f64x2_extract_lane, d)

/* v128 number -> v128: [d a x lane]. */
#define SIMD_REPLACE(F, X) \
    F(X, I8X16_REPLACE_LANE, i8x16_replace_lane, i) F(X, I16X8_REPLACE_LANE, i16x8_replace_lane, i) \
    F(X, I32X4_REPLACE_LANE, i32x4_replace_lane, i) F(X, I64X2_REPLACE_LANE, i64x2_replace_lane, l) \
    F(X, F32X4_REPLACE_LANE, f32x4_replace_lane, f) F(X, F64X2_REPLACE_LANE, f64x2_replace_lane, d)

/* Memory 0 with 32-bit addresses: [d addr offset32]; far: any memory, [d addr is64][memory][offset]. The number is the bytes accessed. */
#define SIMD_LOAD(F, X) \
    F(X, V128_LOAD, v128_load, 16) F(X, V128_LOAD8X8_S, v128_load8x8_s, 8) F(X, V128_LOAD8X8_U, v128_load8x8_u, 8) \
    F(X, V128_LOAD16X4_S, v128_load16x4_s, 8) F(X, V128_LOAD16X4_U, v128_load16x4_u, 8) \
    F(X, V128_LOAD32X2_S, v128_load32x2_s, 8) F(X, V128_LOAD32X2_U, v128_load32x2_u, 8) \
    F(X, V128_LOAD8_SPLAT, v128_load8_splat, 1) F(X, V128_LOAD16_SPLAT, v128_load16_splat, 2) \
    F(X, V128_LOAD32_SPLAT, v128_load32_splat, 4) F(X, V128_LOAD64_SPLAT, v128_load64_splat, 8) \
    F(X, V128_LOAD32_ZERO, v128_load32_zero, 4) F(X, V128_LOAD64_ZERO, v128_load64_zero, 8)

/* [d v addr lane][offset]; far: [d v addr lane|is64 << 8][memory][offset]. */
#define SIMD_LOAD_LANE(F, X) \
    F(X, V128_LOAD8_LANE, v128_load8_lane, 1) F(X, V128_LOAD16_LANE, v128_load16_lane, 2) \
    F(X, V128_LOAD32_LANE, v128_load32_lane, 4) F(X, V128_LOAD64_LANE, v128_load64_lane, 8)

/* [v addr lane][offset]; far: [v addr lane is64][memory][offset]. */
#define SIMD_STORE_LANE(F, X) \
    F(X, V128_STORE8_LANE, v128_store8_lane, 1) F(X, V128_STORE16_LANE, v128_store16_lane, 2) \
    F(X, V128_STORE32_LANE, v128_store32_lane, 4) F(X, V128_STORE64_LANE, v128_store64_lane, 8)
#define SIMD_PLAIN(X, op, n, ...)  X(n, 0)
#define SIMD_TWIN(X, op, n, ...)   X(n, OPF_TWIN) X(n##_n, 0)
#define SIMD_MEMORY(X, op, n, ...) X(n, 0) X(n##_far, 0)

/* CPUs' own: shuffle_ssse3: [d a b][16 lanes of a, 0x80 for b's, two words][16 of b]. */
#ifdef __x86_64__
#define SIMD_CPU(X) X(i8x16_swizzle_ssse3, 0) X(i8x16_shuffle_ssse3, 0)
#else
#define SIMD_CPU(X)
#endif

/* shuffle: [d a b][16 lanes, two words], i32x4: [d][four places, two words]; v128_store: [addr v offset32], far: [addr v is64][memory][offset]. */
#define INTERP_OPS_SIMD(X) \
    SIMD_UNARY(SIMD_PLAIN, X) SIMD_BINARY(SIMD_PLAIN, X) SIMD_TERNARY(SIMD_PLAIN, X) SIMD_SHIFT(SIMD_PLAIN, X) \
    SIMD_TEST(SIMD_TWIN, X) SIMD_SPLAT(SIMD_PLAIN, X) SIMD_EXTRACT(SIMD_TWIN, X) SIMD_REPLACE(SIMD_PLAIN, X) \
    SIMD_LOAD(SIMD_MEMORY, X) SIMD_LOAD_LANE(SIMD_MEMORY, X) SIMD_STORE_LANE(SIMD_MEMORY, X) \
    SIMD_CPU(X) X(i8x16_shuffle, 0) X(i32x4_shuffle, 0) X(v128_store, 0) X(v128_store_far, 0)
// clang-format on

#endif
