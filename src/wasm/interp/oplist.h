/* Every instruction of slot code, as families: X(name, flags). Included by ops.h, which explains names and operands.
 *
 * Members of a family are numbered in the order of the shape enumerations below; translate.c adds the shape to the
 * number of the family's first member. */
#ifndef DONJON_WASM_INTERP_OPLIST_H
#define DONJON_WASM_INTERP_OPLIST_H

#include "oplist_simd.h"

// clang-format off
#define OPS_TWIN(X, n) X(n, OPF_TWIN) X(n##_n, 0)

/* Two operands and a result. [d a b], [d a imm32]; i64 immediates are sign-extended; float immediates are a word of
 * their own. The commutative ones need no sa, is, ia. */
enum shape { SHAPE_SS, SHAPE_SI, SHAPE_AS, SHAPE_AI, SHAPE_SA, SHAPE_IS, SHAPE_IA };
#define OPS_COMM(X, n) OPS_TWIN(X, n##_ss) OPS_TWIN(X, n##_si) OPS_TWIN(X, n##_as) OPS_TWIN(X, n##_ai)
#define OPS_BIN(X, n) OPS_COMM(X, n) OPS_TWIN(X, n##_sa) OPS_TWIN(X, n##_is) OPS_TWIN(X, n##_ia)
#define OPS_INT(X, t) \
    OPS_COMM(X, t##_add) OPS_COMM(X, t##_mul) OPS_COMM(X, t##_and) OPS_COMM(X, t##_or) OPS_COMM(X, t##_xor) \
    OPS_BIN(X, t##_sub) OPS_BIN(X, t##_shl) OPS_BIN(X, t##_shr_s) OPS_BIN(X, t##_shr_u) \
    OPS_BIN(X, t##_rotl) OPS_BIN(X, t##_rotr) \
    OPS_BIN(X, t##_div_s) OPS_BIN(X, t##_div_u) OPS_BIN(X, t##_rem_s) OPS_BIN(X, t##_rem_u)
#define OPS_FLOAT(X, t) \
    OPS_BIN(X, t##_add) OPS_BIN(X, t##_sub) OPS_BIN(X, t##_mul) OPS_BIN(X, t##_div) \
    OPS_BIN(X, t##_min) OPS_BIN(X, t##_max) OPS_BIN(X, t##_copysign)

/* 64-bit immediates, [d a][imm64]. */
enum { WIDE_S, WIDE_A };
#define OPS_WIDE(X) \
    OPS_UN(X, i64_add_wide) OPS_UN(X, i64_mul_wide) OPS_UN(X, i64_and_wide) OPS_UN(X, i64_or_wide) OPS_UN(X, i64_xor_wide)

/* An operand shifted or rotated by a constant: [d a b n], a ? (b shifted by n); the letter says where b is. */
enum { SHIFTED_S, SHIFTED_A };
#define OPS_SHIFTED(X, n) OPS_UN(X, n##_shl) OPS_UN(X, n##_shr_u) OPS_UN(X, n##_rotl)
/* A result rotated by a constant: [d a b n]; bit fields: [d a n][mask], (a >> n) & mask and (a & mask) << n. */
#define OPS_ROTATED(X, n) OPS_TWIN(X, n##_rotl_ss) OPS_TWIN(X, n##_rotl_as)
#define OPS_BITS(X, t) \
    OPS_SHIFTED(X, t##_add) OPS_SHIFTED(X, t##_sub) OPS_SHIFTED(X, t##_or) OPS_SHIFTED(X, t##_xor) \
    OPS_ROTATED(X, t##_add) OPS_ROTATED(X, t##_xor) OPS_UN(X, t##_shr_u_and) OPS_UN(X, t##_and_shl)
/* Multiply, round, then add or subtract: [d c a b], c + a * b, c - a * b, a * b - c; the letter says where a is. */
#define OPS_MULADD(X, t) OPS_UN(X, t##_add_mul) OPS_UN(X, t##_sub_mul) OPS_UN(X, t##_mul_sub)

/* One operand and a result: [d a]. */
enum { UNARY_S, UNARY_A };
#define OPS_UN(X, n) OPS_TWIN(X, n##_s) OPS_TWIN(X, n##_a)
#define OPS_UNARY(X) \
    OPS_UN(X, i32_clz) OPS_UN(X, i32_ctz) OPS_UN(X, i32_popcnt) OPS_UN(X, i32_extend8_s) OPS_UN(X, i32_extend16_s) \
    OPS_UN(X, i64_clz) OPS_UN(X, i64_ctz) OPS_UN(X, i64_popcnt) OPS_UN(X, i64_extend8_s) OPS_UN(X, i64_extend16_s) \
    OPS_UN(X, i64_extend32_s) OPS_UN(X, i64_extend_i32_u) \
    OPS_UN(X, f32_abs) OPS_UN(X, f32_neg) OPS_UN(X, f32_ceil) OPS_UN(X, f32_floor) OPS_UN(X, f32_trunc) \
    OPS_UN(X, f32_nearest) OPS_UN(X, f32_sqrt) \
    OPS_UN(X, f64_abs) OPS_UN(X, f64_neg) OPS_UN(X, f64_ceil) OPS_UN(X, f64_floor) OPS_UN(X, f64_trunc) \
    OPS_UN(X, f64_nearest) OPS_UN(X, f64_sqrt) \
    OPS_UN(X, f32_convert_i32_s) OPS_UN(X, f32_convert_i32_u) OPS_UN(X, f32_convert_i64_s) OPS_UN(X, f32_convert_i64_u) \
    OPS_UN(X, f64_convert_i32_s) OPS_UN(X, f64_convert_i32_u) OPS_UN(X, f64_convert_i64_s) OPS_UN(X, f64_convert_i64_u) \
    OPS_UN(X, f32_demote_f64) OPS_UN(X, f64_promote_f32) \
    OPS_UN(X, i32_reinterpret_f32) OPS_UN(X, i64_reinterpret_f64) OPS_UN(X, f32_reinterpret_i32) OPS_UN(X, f64_reinterpret_i64) \
    OPS_UN(X, i32_trunc_f32_s) OPS_UN(X, i32_trunc_f32_u) OPS_UN(X, i32_trunc_f64_s) OPS_UN(X, i32_trunc_f64_u) \
    OPS_UN(X, i64_trunc_f32_s) OPS_UN(X, i64_trunc_f32_u) OPS_UN(X, i64_trunc_f64_s) OPS_UN(X, i64_trunc_f64_u) \
    OPS_UN(X, i32_trunc_sat_f32_s) OPS_UN(X, i32_trunc_sat_f32_u) OPS_UN(X, i32_trunc_sat_f64_s) OPS_UN(X, i32_trunc_sat_f64_u) \
    OPS_UN(X, i64_trunc_sat_f32_s) OPS_UN(X, i64_trunc_sat_f32_u) OPS_UN(X, i64_trunc_sat_f64_s) OPS_UN(X, i64_trunc_sat_f64_u)

/* Integer comparisons, in pairs of opposites; tst: (a & b) != 0, ntst: == 0. */
#define OPS_COMPARE(X) \
    OPS_COMM(X, i32_eq) OPS_COMM(X, i32_ne) OPS_COMM(X, i32_lt_s) OPS_COMM(X, i32_ge_s) OPS_COMM(X, i32_lt_u) OPS_COMM(X, i32_ge_u) \
    OPS_COMM(X, i32_gt_s) OPS_COMM(X, i32_le_s) OPS_COMM(X, i32_gt_u) OPS_COMM(X, i32_le_u) OPS_COMM(X, i32_tst) OPS_COMM(X, i32_ntst) \
    OPS_COMM(X, i64_eq) OPS_COMM(X, i64_ne) OPS_COMM(X, i64_lt_s) OPS_COMM(X, i64_ge_s) OPS_COMM(X, i64_lt_u) OPS_COMM(X, i64_ge_u) \
    OPS_COMM(X, i64_gt_s) OPS_COMM(X, i64_le_s) OPS_COMM(X, i64_gt_u) OPS_COMM(X, i64_le_u) OPS_COMM(X, i64_tst) OPS_COMM(X, i64_ntst)

/* Float comparisons, in pairs of opposites too: nlt is "not less", true for NaN. [d a b]; as: a in the accumulator. */
enum { FCMP_SS, FCMP_AS };
#define OPS_FCMP(X, n) OPS_TWIN(X, n##_ss) OPS_TWIN(X, n##_as)
#define OPS_FCOMPARE(X, t) \
    OPS_FCMP(X, t##_eq) OPS_FCMP(X, t##_ne) OPS_FCMP(X, t##_lt) OPS_FCMP(X, t##_nlt) OPS_FCMP(X, t##_gt) OPS_FCMP(X, t##_ngt) \
    OPS_FCMP(X, t##_le) OPS_FCMP(X, t##_nle) OPS_FCMP(X, t##_ge) OPS_FCMP(X, t##_nge)

/* Compare and branch: [a b|imm16 distance32]. loop_*: backwards, with the interruption check. */
enum { BR_FORWARD = 0, BR_LOOP = 4 };
#define OPS_BR(X, n) \
    X(br_##n##_ss, 0) X(br_##n##_si, 0) X(br_##n##_as, 0) X(br_##n##_ai, 0) \
    X(loop_##n##_ss, 0) X(loop_##n##_si, 0) X(loop_##n##_as, 0) X(loop_##n##_ai, 0)
#define OPS_BRANCH(X) \
    OPS_BR(X, i32_eq) OPS_BR(X, i32_ne) OPS_BR(X, i32_lt_s) OPS_BR(X, i32_ge_s) OPS_BR(X, i32_lt_u) OPS_BR(X, i32_ge_u) \
    OPS_BR(X, i32_gt_s) OPS_BR(X, i32_le_s) OPS_BR(X, i32_gt_u) OPS_BR(X, i32_le_u) OPS_BR(X, i32_tst) OPS_BR(X, i32_ntst) \
    OPS_BR(X, i64_eq) OPS_BR(X, i64_ne) OPS_BR(X, i64_lt_s) OPS_BR(X, i64_ge_s) OPS_BR(X, i64_lt_u) OPS_BR(X, i64_ge_u) \
    OPS_BR(X, i64_gt_s) OPS_BR(X, i64_le_s) OPS_BR(X, i64_gt_u) OPS_BR(X, i64_le_u) OPS_BR(X, i64_tst) OPS_BR(X, i64_ntst)

#define OPS_FBR(X, n) X(br_##n##_ss, 0) X(br_##n##_as, 0) X(loop_##n##_ss, 0) X(loop_##n##_as, 0)
enum { FBR_LOOP = 2 };
#define OPS_FBRANCH(X, t) \
    OPS_FBR(X, t##_eq) OPS_FBR(X, t##_ne) OPS_FBR(X, t##_lt) OPS_FBR(X, t##_nlt) OPS_FBR(X, t##_gt) OPS_FBR(X, t##_ngt) \
    OPS_FBR(X, t##_le) OPS_FBR(X, t##_nle) OPS_FBR(X, t##_ge) OPS_FBR(X, t##_nge)

/* Add and compare and branch, as loops end: [d a imm32][b|imm16 distance32], d = a + imm, compared with b. Range checks,
 * [- a imm32][imm16 distance32], keep the sum to themselves (and the accumulator). */
enum { ADD_BR_LOOP = 2 };
#define OPS_ADD_BR(X, n) X(add_br_##n##_s, 0) X(add_br_##n##_i, 0) X(add_loop_##n##_s, 0) X(add_loop_##n##_i, 0)
#define OPS_RANGE(X, n) X(range_br_##n##_s, 0) X(range_br_##n##_a, 0)
#define OPS_ADD_BRANCH(X) \
    OPS_ADD_BR(X, i32_eq) OPS_ADD_BR(X, i32_ne) OPS_ADD_BR(X, i32_lt_s) OPS_ADD_BR(X, i32_ge_s) OPS_ADD_BR(X, i32_lt_u) \
    OPS_ADD_BR(X, i32_ge_u) OPS_ADD_BR(X, i32_gt_s) OPS_ADD_BR(X, i32_le_s) OPS_ADD_BR(X, i32_gt_u) OPS_ADD_BR(X, i32_le_u) \
    OPS_RANGE(X, i32_lt_u) OPS_RANGE(X, i32_ge_u) OPS_RANGE(X, i32_gt_u) OPS_RANGE(X, i32_le_u)

/* Load and compare with a constant and branch: [d addr offset32][- imm16 distance32]. */
enum { LOAD_BR_LOOP = 2 };
#define OPS_LD_BR(X, n) X(n##_s, 0) X(n##_s_n, 0) X(n##_loop_s, 0) X(n##_loop_s_n, 0)
#define OPS_LOAD_BRANCH(X) \
    OPS_LD_BR(X, i32_load_br_eq) OPS_LD_BR(X, i32_load_br_ne) OPS_LD_BR(X, i32_load_br_tst) OPS_LD_BR(X, i32_load_br_ntst) \
    OPS_LD_BR(X, i32_load8_u_br_eq) OPS_LD_BR(X, i32_load8_u_br_ne) OPS_LD_BR(X, i32_load8_u_br_tst) OPS_LD_BR(X, i32_load8_u_br_ntst)

/* Memory 0 with 32-bit addresses: [d addr offset32]; k: [d - address32], known to be inside.
 * sp, ap: [d addr offset32][plus], the address is addr + plus modulo 2^32. The others are [d a b n][plus offset32]:
 * ss, as: a + b + plus; sls, sla: a + (b << n) + plus; ls, la: (b << n) + plus. far: any memory, [d addr is64][memory][offset]. */
enum { LOAD_S, LOAD_A, LOAD_SP, LOAD_AP, LOAD_SS, LOAD_AS, LOAD_SLS, LOAD_SLA, LOAD_LS, LOAD_LA, LOAD_K, LOAD_FAR };
#define OPS_LD(X, n) \
    OPS_TWIN(X, n##_s) OPS_TWIN(X, n##_a) OPS_TWIN(X, n##_sp) OPS_TWIN(X, n##_ap) OPS_TWIN(X, n##_ss) OPS_TWIN(X, n##_as) \
    OPS_TWIN(X, n##_sls) OPS_TWIN(X, n##_sla) OPS_TWIN(X, n##_ls) OPS_TWIN(X, n##_la) OPS_TWIN(X, n##_k) OPS_TWIN(X, n##_far)
#define OPS_LOAD(X) \
    OPS_LD(X, i32_load) OPS_LD(X, i64_load) OPS_LD(X, f32_load) OPS_LD(X, f64_load) \
    OPS_LD(X, i32_load8_s) OPS_LD(X, i32_load8_u) OPS_LD(X, i32_load16_s) OPS_LD(X, i32_load16_u) \
    OPS_LD(X, i64_load8_s) OPS_LD(X, i64_load16_s) OPS_LD(X, i64_load32_s)

/* [addr value offset32], i: immediate value in a word of its own; k as above; p: addr + plus, the next word; far: [value addr is64][memory][offset].
 * Floats in slots are stored by the integer instructions of their size. */
enum { STORE_SS, STORE_SI, STORE_SA, STORE_AS, STORE_AI, STORE_KS, STORE_KI, STORE_KA, STORE_PS, STORE_PI, STORE_PA, STORE_FAR };
#define OPS_ST(X, n) \
    X(n##_ss, 0) X(n##_si, 0) X(n##_sa, 0) X(n##_as, 0) X(n##_ai, 0) X(n##_ks, 0) X(n##_ki, 0) X(n##_ka, 0) \
    X(n##_ps, 0) X(n##_pi, 0) X(n##_pa, 0) X(n##_far, 0)
#define OPS_STORE(X) \
    OPS_ST(X, store8) OPS_ST(X, store16) OPS_ST(X, store32) OPS_ST(X, store64) \
    X(i32_mem_add, 0) \
    X(f32_store_sa, 0) X(f32_store_ka, 0) X(f32_store_pa, 0) X(f64_store_sa, 0) X(f64_store_ka, 0) X(f64_store_pa, 0)

/* Moves, constants. _2, _4: two, four of them at once, [d a d2 a2]... put: a constant into a slot, accumulators untouched;
 * const: into the accumulator too. select: [d a b condition]. Globals: [d][address of the value]. */
#define OPS_MOVE(X) \
    X(copy32, 0) X(copy64, 0) X(copy128, 0) X(copy64_2, 0) X(copy64_4, 0) X(i32_add_2, 0) X(i32_load_2, 0) \
    X(copy64_a, 0) X(put, 0) X(put64, 0) \
    OPS_TWIN(X, const) OPS_TWIN(X, const64) OPS_TWIN(X, f32_const) OPS_TWIN(X, f64_const) X(const128, 0) \
    OPS_UN(X, select) OPS_UN(X, f32_select) OPS_UN(X, f64_select) X(v128_select_s, 0) \
    OPS_TWIN(X, global_get) OPS_TWIN(X, f32_global_get) OPS_TWIN(X, f64_global_get) X(v128_global_get, 0) \
    X(global_set_s, 0) X(global_set_a, 0) X(f32_global_set_s, 0) X(v128_global_set_s, 0) \
    OPS_UN(X, ref_as_non_null)

/* Control. */
#define OPS_CONTROL(X) \
    X(enter, 0) X(jump, 0) X(loop, 0) X(copy64_jump, 0) X(copy64_loop, 0) X(i32_add_si_jump, 0) X(i32_add_si_loop, 0) \
    X(i64_add_si_jump, 0) X(i64_add_si_loop, 0) \
    X(br_table_s, 0) X(br_table_a, 0) X(br_table_sp, 0) X(br_table_ap, 0) X(unreachable, 0) X(fuel, 0) \
    X(call, 0) X(call_import, 0) X(call_indirect, 0) X(call_ref, 0) \
    X(return_call, 0) X(return_call_import, 0) X(return_call_indirect, 0) X(return_call_ref, 0) \
    X(return, 0) X(return_s, 0) X(return_a, 0) X(return_i, 0) X(f32_return_s, 0) X(f32_return_a, 0) X(f64_return_s, 0) X(f64_return_a, 0) \
    X(throw, 0) X(throw_ref, 0) \
    X(lazy, 0) X(exit, 0) X(restore, 0)

/* Structures and arrays: ops_gc.c. */
#define OPS_GC_LOADS(X, n) \
    OPS_UN(X, n##_8_s) OPS_UN(X, n##_8_u) OPS_UN(X, n##_16_s) OPS_UN(X, n##_16_u) OPS_UN(X, n##_32) OPS_UN(X, n##_64) \
    OPS_UN(X, n##_f32) OPS_UN(X, n##_f64)
#define OPS_GC_STORES(X, n) X(n##_8, 0) X(n##_16, 0) X(n##_32, 0) X(n##_64, 0)
#define OPS_GC(X) \
    X(gc, 0) OPS_GC_LOADS(X, struct_get) OPS_GC_LOADS(X, array_get) OPS_GC_STORES(X, struct_set) OPS_GC_STORES(X, array_set) \
    OPS_UN(X, array_len) OPS_UN(X, ref_i31) OPS_UN(X, i31_get_s) OPS_UN(X, i31_get_u) \
    OPS_UN(X, ref_test) OPS_UN(X, ref_test_null) OPS_UN(X, ref_cast) OPS_UN(X, ref_cast_null)

/* Everything that is rare enough to be called out of line. */
#define OPS_RARE(X) \
    X(memory_size, 0) X(memory_grow, 0) X(memory_fill, 0) X(memory_copy, 0) X(memory_init, 0) X(data_drop, 0) \
    X(table_get, 0) X(table_set, 0) X(table_size, 0) X(table_grow, 0) X(table_fill, 0) X(table_copy, 0) X(table_init, 0) \
    X(elem_drop, 0)

#define INTERP_OPS(X) \
    OPS_INT(X, i32) OPS_INT(X, i64) OPS_FLOAT(X, f32) OPS_FLOAT(X, f64) OPS_UNARY(X) \
    OPS_WIDE(X) OPS_BITS(X, i32) OPS_BITS(X, i64) OPS_MULADD(X, f32) OPS_MULADD(X, f64) \
    OPS_COMPARE(X) OPS_FCOMPARE(X, f32) OPS_FCOMPARE(X, f64) \
    OPS_BRANCH(X) OPS_ADD_BRANCH(X) OPS_LOAD_BRANCH(X) OPS_FBRANCH(X, f32) OPS_FBRANCH(X, f64) \
    OPS_LOAD(X) OPS_STORE(X) OPS_MOVE(X) OPS_CONTROL(X) OPS_RARE(X) OPS_GC(X) INTERP_OPS_SIMD(X)
// clang-format on

#endif
