/* Every instruction of WebAssembly 3.0 (core specification, section 5.4 and appendix "Index of Instructions") and of
 * the legacy exception handling, in one table: validator, translators, dumps and messages all read this one.
 *
 * X(NAME, text, PREFIX, code, IMMEDIATE, aux, SIGNATURE)
 *   NAME       OP_NAME is the instruction's opcode
 *   text       name as the text format has it
 *   PREFIX     PLAIN (one byte), FB (GC), FC, FD (SIMD): the byte before the LEB128 code
 *   IMMEDIATE  IMM_*: what follows the opcode
 *   aux        memory accesses: log2 of the bytes; lane instructions: how many lanes there are
 *   SIGNATURE  SIG_params_result, one letter a value (i32 i, i64 l, f32 f, f64 d, v128 v, a: address of the memory);
 *              SPECIAL where types depend on the immediates or the stack */
#ifndef DONJON_WASM_OPCODES_H
#define DONJON_WASM_OPCODES_H

#include "types.h"

// clang-format off
#define OPCODES(X) \
    /* Control (section 5.4.1); legacy exceptions: try, catch, rethrow, delegate, catch_all */ \
    X(UNREACHABLE, "unreachable", PLAIN, 0x00, NONE, 0, SPECIAL) \
    X(NOP, "nop", PLAIN, 0x01, NONE, 0, NONE) \
    X(BLOCK, "block", PLAIN, 0x02, BLOCK, 0, SPECIAL) \
    X(LOOP, "loop", PLAIN, 0x03, BLOCK, 0, SPECIAL) \
    X(IF, "if", PLAIN, 0x04, BLOCK, 0, SPECIAL) \
    X(ELSE, "else", PLAIN, 0x05, NONE, 0, SPECIAL) \
    X(TRY, "try", PLAIN, 0x06, BLOCK, 0, SPECIAL) \
    X(CATCH, "catch", PLAIN, 0x07, TAG, 0, SPECIAL) \
    X(THROW, "throw", PLAIN, 0x08, TAG, 0, SPECIAL) \
    X(RETHROW, "rethrow", PLAIN, 0x09, LABEL, 0, SPECIAL) \
    X(THROW_REF, "throw_ref", PLAIN, 0x0A, NONE, 0, SPECIAL) \
    X(END, "end", PLAIN, 0x0B, NONE, 0, SPECIAL) \
    X(BR, "br", PLAIN, 0x0C, LABEL, 0, SPECIAL) \
    X(BR_IF, "br_if", PLAIN, 0x0D, LABEL, 0, SPECIAL) \
    X(BR_TABLE, "br_table", PLAIN, 0x0E, BR_TABLE, 0, SPECIAL) \
    X(RETURN, "return", PLAIN, 0x0F, NONE, 0, SPECIAL) \
    X(CALL, "call", PLAIN, 0x10, FUNC, 0, SPECIAL) \
    X(CALL_INDIRECT, "call_indirect", PLAIN, 0x11, TYPE_TABLE, 0, SPECIAL) \
    X(RETURN_CALL, "return_call", PLAIN, 0x12, FUNC, 0, SPECIAL) \
    X(RETURN_CALL_INDIRECT, "return_call_indirect", PLAIN, 0x13, TYPE_TABLE, 0, SPECIAL) \
    X(CALL_REF, "call_ref", PLAIN, 0x14, TYPE, 0, SPECIAL) \
    X(RETURN_CALL_REF, "return_call_ref", PLAIN, 0x15, TYPE, 0, SPECIAL) \
    X(DELEGATE, "delegate", PLAIN, 0x18, LABEL, 0, SPECIAL) \
    X(CATCH_ALL, "catch_all", PLAIN, 0x19, NONE, 0, SPECIAL) \
    /* Parametric, variables, tables */ \
    X(DROP, "drop", PLAIN, 0x1A, NONE, 0, SPECIAL) \
    X(SELECT, "select", PLAIN, 0x1B, NONE, 0, SPECIAL) \
    X(SELECT_T, "select", PLAIN, 0x1C, TYPES, 0, SPECIAL) \
    X(TRY_TABLE, "try_table", PLAIN, 0x1F, TRY_TABLE, 0, SPECIAL) \
    X(LOCAL_GET, "local.get", PLAIN, 0x20, LOCAL, 0, SPECIAL) \
    X(LOCAL_SET, "local.set", PLAIN, 0x21, LOCAL, 0, SPECIAL) \
    X(LOCAL_TEE, "local.tee", PLAIN, 0x22, LOCAL, 0, SPECIAL) \
    X(GLOBAL_GET, "global.get", PLAIN, 0x23, GLOBAL, 0, SPECIAL) \
    X(GLOBAL_SET, "global.set", PLAIN, 0x24, GLOBAL, 0, SPECIAL) \
    X(TABLE_GET, "table.get", PLAIN, 0x25, TABLE, 0, SPECIAL) \
    X(TABLE_SET, "table.set", PLAIN, 0x26, TABLE, 0, SPECIAL) \
    /* Memory: aux is log2 of the bytes accessed, the natural alignment */ \
    X(I32_LOAD, "i32.load", PLAIN, 0x28, MEMARG, 2, a_i) \
    X(I64_LOAD, "i64.load", PLAIN, 0x29, MEMARG, 3, a_l) \
    X(F32_LOAD, "f32.load", PLAIN, 0x2A, MEMARG, 2, a_f) \
    X(F64_LOAD, "f64.load", PLAIN, 0x2B, MEMARG, 3, a_d) \
    X(I32_LOAD8_S, "i32.load8_s", PLAIN, 0x2C, MEMARG, 0, a_i) \
    X(I32_LOAD8_U, "i32.load8_u", PLAIN, 0x2D, MEMARG, 0, a_i) \
    X(I32_LOAD16_S, "i32.load16_s", PLAIN, 0x2E, MEMARG, 1, a_i) \
    X(I32_LOAD16_U, "i32.load16_u", PLAIN, 0x2F, MEMARG, 1, a_i) \
    X(I64_LOAD8_S, "i64.load8_s", PLAIN, 0x30, MEMARG, 0, a_l) \
    X(I64_LOAD8_U, "i64.load8_u", PLAIN, 0x31, MEMARG, 0, a_l) \
    X(I64_LOAD16_S, "i64.load16_s", PLAIN, 0x32, MEMARG, 1, a_l) \
    X(I64_LOAD16_U, "i64.load16_u", PLAIN, 0x33, MEMARG, 1, a_l) \
    X(I64_LOAD32_S, "i64.load32_s", PLAIN, 0x34, MEMARG, 2, a_l) \
    X(I64_LOAD32_U, "i64.load32_u", PLAIN, 0x35, MEMARG, 2, a_l) \
    X(I32_STORE, "i32.store", PLAIN, 0x36, MEMARG, 2, ai_) \
    X(I64_STORE, "i64.store", PLAIN, 0x37, MEMARG, 3, al_) \
    X(F32_STORE, "f32.store", PLAIN, 0x38, MEMARG, 2, af_) \
    X(F64_STORE, "f64.store", PLAIN, 0x39, MEMARG, 3, ad_) \
    X(I32_STORE8, "i32.store8", PLAIN, 0x3A, MEMARG, 0, ai_) \
    X(I32_STORE16, "i32.store16", PLAIN, 0x3B, MEMARG, 1, ai_) \
    X(I64_STORE8, "i64.store8", PLAIN, 0x3C, MEMARG, 0, al_) \
    X(I64_STORE16, "i64.store16", PLAIN, 0x3D, MEMARG, 1, al_) \
    X(I64_STORE32, "i64.store32", PLAIN, 0x3E, MEMARG, 2, al_) \
    X(MEMORY_SIZE, "memory.size", PLAIN, 0x3F, MEMORY, 0, _a) \
    X(MEMORY_GROW, "memory.grow", PLAIN, 0x40, MEMORY, 0, a_a) \
    /* Numeric */ \
    X(I32_CONST, "i32.const", PLAIN, 0x41, I32, 0, _i) \
    X(I64_CONST, "i64.const", PLAIN, 0x42, I64, 0, _l) \
    X(F32_CONST, "f32.const", PLAIN, 0x43, F32, 0, _f) \
    X(F64_CONST, "f64.const", PLAIN, 0x44, F64, 0, _d) \
    X(I32_EQZ, "i32.eqz", PLAIN, 0x45, NONE, 0, i_i) \
    X(I32_EQ, "i32.eq", PLAIN, 0x46, NONE, 0, ii_i) \
    X(I32_NE, "i32.ne", PLAIN, 0x47, NONE, 0, ii_i) \
    X(I32_LT_S, "i32.lt_s", PLAIN, 0x48, NONE, 0, ii_i) \
    X(I32_LT_U, "i32.lt_u", PLAIN, 0x49, NONE, 0, ii_i) \
    X(I32_GT_S, "i32.gt_s", PLAIN, 0x4A, NONE, 0, ii_i) \
    X(I32_GT_U, "i32.gt_u", PLAIN, 0x4B, NONE, 0, ii_i) \
    X(I32_LE_S, "i32.le_s", PLAIN, 0x4C, NONE, 0, ii_i) \
    X(I32_LE_U, "i32.le_u", PLAIN, 0x4D, NONE, 0, ii_i) \
    X(I32_GE_S, "i32.ge_s", PLAIN, 0x4E, NONE, 0, ii_i) \
    X(I32_GE_U, "i32.ge_u", PLAIN, 0x4F, NONE, 0, ii_i) \
    X(I64_EQZ, "i64.eqz", PLAIN, 0x50, NONE, 0, l_i) \
    X(I64_EQ, "i64.eq", PLAIN, 0x51, NONE, 0, ll_i) \
    X(I64_NE, "i64.ne", PLAIN, 0x52, NONE, 0, ll_i) \
    X(I64_LT_S, "i64.lt_s", PLAIN, 0x53, NONE, 0, ll_i) \
    X(I64_LT_U, "i64.lt_u", PLAIN, 0x54, NONE, 0, ll_i) \
    X(I64_GT_S, "i64.gt_s", PLAIN, 0x55, NONE, 0, ll_i) \
    X(I64_GT_U, "i64.gt_u", PLAIN, 0x56, NONE, 0, ll_i) \
    X(I64_LE_S, "i64.le_s", PLAIN, 0x57, NONE, 0, ll_i) \
    X(I64_LE_U, "i64.le_u", PLAIN, 0x58, NONE, 0, ll_i) \
    X(I64_GE_S, "i64.ge_s", PLAIN, 0x59, NONE, 0, ll_i) \
    X(I64_GE_U, "i64.ge_u", PLAIN, 0x5A, NONE, 0, ll_i) \
    X(F32_EQ, "f32.eq", PLAIN, 0x5B, NONE, 0, ff_i) \
    X(F32_NE, "f32.ne", PLAIN, 0x5C, NONE, 0, ff_i) \
    X(F32_LT, "f32.lt", PLAIN, 0x5D, NONE, 0, ff_i) \
    X(F32_GT, "f32.gt", PLAIN, 0x5E, NONE, 0, ff_i) \
    X(F32_LE, "f32.le", PLAIN, 0x5F, NONE, 0, ff_i) \
    X(F32_GE, "f32.ge", PLAIN, 0x60, NONE, 0, ff_i) \
    X(F64_EQ, "f64.eq", PLAIN, 0x61, NONE, 0, dd_i) \
    X(F64_NE, "f64.ne", PLAIN, 0x62, NONE, 0, dd_i) \
    X(F64_LT, "f64.lt", PLAIN, 0x63, NONE, 0, dd_i) \
    X(F64_GT, "f64.gt", PLAIN, 0x64, NONE, 0, dd_i) \
    X(F64_LE, "f64.le", PLAIN, 0x65, NONE, 0, dd_i) \
    X(F64_GE, "f64.ge", PLAIN, 0x66, NONE, 0, dd_i) \
    X(I32_CLZ, "i32.clz", PLAIN, 0x67, NONE, 0, i_i) \
    X(I32_CTZ, "i32.ctz", PLAIN, 0x68, NONE, 0, i_i) \
    X(I32_POPCNT, "i32.popcnt", PLAIN, 0x69, NONE, 0, i_i) \
    X(I32_ADD, "i32.add", PLAIN, 0x6A, NONE, 0, ii_i) \
    X(I32_SUB, "i32.sub", PLAIN, 0x6B, NONE, 0, ii_i) \
    X(I32_MUL, "i32.mul", PLAIN, 0x6C, NONE, 0, ii_i) \
    X(I32_DIV_S, "i32.div_s", PLAIN, 0x6D, NONE, 0, ii_i) \
    X(I32_DIV_U, "i32.div_u", PLAIN, 0x6E, NONE, 0, ii_i) \
    X(I32_REM_S, "i32.rem_s", PLAIN, 0x6F, NONE, 0, ii_i) \
    X(I32_REM_U, "i32.rem_u", PLAIN, 0x70, NONE, 0, ii_i) \
    X(I32_AND, "i32.and", PLAIN, 0x71, NONE, 0, ii_i) \
    X(I32_OR, "i32.or", PLAIN, 0x72, NONE, 0, ii_i) \
    X(I32_XOR, "i32.xor", PLAIN, 0x73, NONE, 0, ii_i) \
    X(I32_SHL, "i32.shl", PLAIN, 0x74, NONE, 0, ii_i) \
    X(I32_SHR_S, "i32.shr_s", PLAIN, 0x75, NONE, 0, ii_i) \
    X(I32_SHR_U, "i32.shr_u", PLAIN, 0x76, NONE, 0, ii_i) \
    X(I32_ROTL, "i32.rotl", PLAIN, 0x77, NONE, 0, ii_i) \
    X(I32_ROTR, "i32.rotr", PLAIN, 0x78, NONE, 0, ii_i) \
    X(I64_CLZ, "i64.clz", PLAIN, 0x79, NONE, 0, l_l) \
    X(I64_CTZ, "i64.ctz", PLAIN, 0x7A, NONE, 0, l_l) \
    X(I64_POPCNT, "i64.popcnt", PLAIN, 0x7B, NONE, 0, l_l) \
    X(I64_ADD, "i64.add", PLAIN, 0x7C, NONE, 0, ll_l) \
    X(I64_SUB, "i64.sub", PLAIN, 0x7D, NONE, 0, ll_l) \
    X(I64_MUL, "i64.mul", PLAIN, 0x7E, NONE, 0, ll_l) \
    X(I64_DIV_S, "i64.div_s", PLAIN, 0x7F, NONE, 0, ll_l) \
    X(I64_DIV_U, "i64.div_u", PLAIN, 0x80, NONE, 0, ll_l) \
    X(I64_REM_S, "i64.rem_s", PLAIN, 0x81, NONE, 0, ll_l) \
    X(I64_REM_U, "i64.rem_u", PLAIN, 0x82, NONE, 0, ll_l) \
    X(I64_AND, "i64.and", PLAIN, 0x83, NONE, 0, ll_l) \
    X(I64_OR, "i64.or", PLAIN, 0x84, NONE, 0, ll_l) \
    X(I64_XOR, "i64.xor", PLAIN, 0x85, NONE, 0, ll_l) \
    X(I64_SHL, "i64.shl", PLAIN, 0x86, NONE, 0, ll_l) \
    X(I64_SHR_S, "i64.shr_s", PLAIN, 0x87, NONE, 0, ll_l) \
    X(I64_SHR_U, "i64.shr_u", PLAIN, 0x88, NONE, 0, ll_l) \
    X(I64_ROTL, "i64.rotl", PLAIN, 0x89, NONE, 0, ll_l) \
    X(I64_ROTR, "i64.rotr", PLAIN, 0x8A, NONE, 0, ll_l) \
    X(F32_ABS, "f32.abs", PLAIN, 0x8B, NONE, 0, f_f) \
    X(F32_NEG, "f32.neg", PLAIN, 0x8C, NONE, 0, f_f) \
    X(F32_CEIL, "f32.ceil", PLAIN, 0x8D, NONE, 0, f_f) \
    X(F32_FLOOR, "f32.floor", PLAIN, 0x8E, NONE, 0, f_f) \
    X(F32_TRUNC, "f32.trunc", PLAIN, 0x8F, NONE, 0, f_f) \
    X(F32_NEAREST, "f32.nearest", PLAIN, 0x90, NONE, 0, f_f) \
    X(F32_SQRT, "f32.sqrt", PLAIN, 0x91, NONE, 0, f_f) \
    X(F32_ADD, "f32.add", PLAIN, 0x92, NONE, 0, ff_f) \
    X(F32_SUB, "f32.sub", PLAIN, 0x93, NONE, 0, ff_f) \
    X(F32_MUL, "f32.mul", PLAIN, 0x94, NONE, 0, ff_f) \
    X(F32_DIV, "f32.div", PLAIN, 0x95, NONE, 0, ff_f) \
    X(F32_MIN, "f32.min", PLAIN, 0x96, NONE, 0, ff_f) \
    X(F32_MAX, "f32.max", PLAIN, 0x97, NONE, 0, ff_f) \
    X(F32_COPYSIGN, "f32.copysign", PLAIN, 0x98, NONE, 0, ff_f) \
    X(F64_ABS, "f64.abs", PLAIN, 0x99, NONE, 0, d_d) \
    X(F64_NEG, "f64.neg", PLAIN, 0x9A, NONE, 0, d_d) \
    X(F64_CEIL, "f64.ceil", PLAIN, 0x9B, NONE, 0, d_d) \
    X(F64_FLOOR, "f64.floor", PLAIN, 0x9C, NONE, 0, d_d) \
    X(F64_TRUNC, "f64.trunc", PLAIN, 0x9D, NONE, 0, d_d) \
    X(F64_NEAREST, "f64.nearest", PLAIN, 0x9E, NONE, 0, d_d) \
    X(F64_SQRT, "f64.sqrt", PLAIN, 0x9F, NONE, 0, d_d) \
    X(F64_ADD, "f64.add", PLAIN, 0xA0, NONE, 0, dd_d) \
    X(F64_SUB, "f64.sub", PLAIN, 0xA1, NONE, 0, dd_d) \
    X(F64_MUL, "f64.mul", PLAIN, 0xA2, NONE, 0, dd_d) \
    X(F64_DIV, "f64.div", PLAIN, 0xA3, NONE, 0, dd_d) \
    X(F64_MIN, "f64.min", PLAIN, 0xA4, NONE, 0, dd_d) \
    X(F64_MAX, "f64.max", PLAIN, 0xA5, NONE, 0, dd_d) \
    X(F64_COPYSIGN, "f64.copysign", PLAIN, 0xA6, NONE, 0, dd_d) \
    X(I32_WRAP_I64, "i32.wrap_i64", PLAIN, 0xA7, NONE, 0, l_i) \
    X(I32_TRUNC_F32_S, "i32.trunc_f32_s", PLAIN, 0xA8, NONE, 0, f_i) \
    X(I32_TRUNC_F32_U, "i32.trunc_f32_u", PLAIN, 0xA9, NONE, 0, f_i) \
    X(I32_TRUNC_F64_S, "i32.trunc_f64_s", PLAIN, 0xAA, NONE, 0, d_i) \
    X(I32_TRUNC_F64_U, "i32.trunc_f64_u", PLAIN, 0xAB, NONE, 0, d_i) \
    X(I64_EXTEND_I32_S, "i64.extend_i32_s", PLAIN, 0xAC, NONE, 0, i_l) \
    X(I64_EXTEND_I32_U, "i64.extend_i32_u", PLAIN, 0xAD, NONE, 0, i_l) \
    X(I64_TRUNC_F32_S, "i64.trunc_f32_s", PLAIN, 0xAE, NONE, 0, f_l) \
    X(I64_TRUNC_F32_U, "i64.trunc_f32_u", PLAIN, 0xAF, NONE, 0, f_l) \
    X(I64_TRUNC_F64_S, "i64.trunc_f64_s", PLAIN, 0xB0, NONE, 0, d_l) \
    X(I64_TRUNC_F64_U, "i64.trunc_f64_u", PLAIN, 0xB1, NONE, 0, d_l) \
    X(F32_CONVERT_I32_S, "f32.convert_i32_s", PLAIN, 0xB2, NONE, 0, i_f) \
    X(F32_CONVERT_I32_U, "f32.convert_i32_u", PLAIN, 0xB3, NONE, 0, i_f) \
    X(F32_CONVERT_I64_S, "f32.convert_i64_s", PLAIN, 0xB4, NONE, 0, l_f) \
    X(F32_CONVERT_I64_U, "f32.convert_i64_u", PLAIN, 0xB5, NONE, 0, l_f) \
    X(F32_DEMOTE_F64, "f32.demote_f64", PLAIN, 0xB6, NONE, 0, d_f) \
    X(F64_CONVERT_I32_S, "f64.convert_i32_s", PLAIN, 0xB7, NONE, 0, i_d) \
    X(F64_CONVERT_I32_U, "f64.convert_i32_u", PLAIN, 0xB8, NONE, 0, i_d) \
    X(F64_CONVERT_I64_S, "f64.convert_i64_s", PLAIN, 0xB9, NONE, 0, l_d) \
    X(F64_CONVERT_I64_U, "f64.convert_i64_u", PLAIN, 0xBA, NONE, 0, l_d) \
    X(F64_PROMOTE_F32, "f64.promote_f32", PLAIN, 0xBB, NONE, 0, f_d) \
    X(I32_REINTERPRET_F32, "i32.reinterpret_f32", PLAIN, 0xBC, NONE, 0, f_i) \
    X(I64_REINTERPRET_F64, "i64.reinterpret_f64", PLAIN, 0xBD, NONE, 0, d_l) \
    X(F32_REINTERPRET_I32, "f32.reinterpret_i32", PLAIN, 0xBE, NONE, 0, i_f) \
    X(F64_REINTERPRET_I64, "f64.reinterpret_i64", PLAIN, 0xBF, NONE, 0, l_d) \
    X(I32_EXTEND8_S, "i32.extend8_s", PLAIN, 0xC0, NONE, 0, i_i) \
    X(I32_EXTEND16_S, "i32.extend16_s", PLAIN, 0xC1, NONE, 0, i_i) \
    X(I64_EXTEND8_S, "i64.extend8_s", PLAIN, 0xC2, NONE, 0, l_l) \
    X(I64_EXTEND16_S, "i64.extend16_s", PLAIN, 0xC3, NONE, 0, l_l) \
    X(I64_EXTEND32_S, "i64.extend32_s", PLAIN, 0xC4, NONE, 0, l_l) \
    /* References */ \
    X(REF_NULL, "ref.null", PLAIN, 0xD0, HEAPTYPE, 0, SPECIAL) \
    X(REF_IS_NULL, "ref.is_null", PLAIN, 0xD1, NONE, 0, SPECIAL) \
    X(REF_FUNC, "ref.func", PLAIN, 0xD2, FUNC, 0, SPECIAL) \
    X(REF_EQ, "ref.eq", PLAIN, 0xD3, NONE, 0, SPECIAL) \
    X(REF_AS_NON_NULL, "ref.as_non_null", PLAIN, 0xD4, NONE, 0, SPECIAL) \
    X(BR_ON_NULL, "br_on_null", PLAIN, 0xD5, LABEL, 0, SPECIAL) \
    X(BR_ON_NON_NULL, "br_on_non_null", PLAIN, 0xD6, LABEL, 0, SPECIAL) \
    /* Garbage collection */ \
    X(STRUCT_NEW, "struct.new", FB, 0x00, TYPE, 0, SPECIAL) \
    X(STRUCT_NEW_DEFAULT, "struct.new_default", FB, 0x01, TYPE, 0, SPECIAL) \
    X(STRUCT_GET, "struct.get", FB, 0x02, TYPE_FIELD, 0, SPECIAL) \
    X(STRUCT_GET_S, "struct.get_s", FB, 0x03, TYPE_FIELD, 0, SPECIAL) \
    X(STRUCT_GET_U, "struct.get_u", FB, 0x04, TYPE_FIELD, 0, SPECIAL) \
    X(STRUCT_SET, "struct.set", FB, 0x05, TYPE_FIELD, 0, SPECIAL) \
    X(ARRAY_NEW, "array.new", FB, 0x06, TYPE, 0, SPECIAL) \
    X(ARRAY_NEW_DEFAULT, "array.new_default", FB, 0x07, TYPE, 0, SPECIAL) \
    X(ARRAY_NEW_FIXED, "array.new_fixed", FB, 0x08, TYPE_COUNT, 0, SPECIAL) \
    X(ARRAY_NEW_DATA, "array.new_data", FB, 0x09, TYPE_DATA, 0, SPECIAL) \
    X(ARRAY_NEW_ELEM, "array.new_elem", FB, 0x0A, TYPE_ELEM, 0, SPECIAL) \
    X(ARRAY_GET, "array.get", FB, 0x0B, TYPE, 0, SPECIAL) \
    X(ARRAY_GET_S, "array.get_s", FB, 0x0C, TYPE, 0, SPECIAL) \
    X(ARRAY_GET_U, "array.get_u", FB, 0x0D, TYPE, 0, SPECIAL) \
    X(ARRAY_SET, "array.set", FB, 0x0E, TYPE, 0, SPECIAL) \
    X(ARRAY_LEN, "array.len", FB, 0x0F, NONE, 0, SPECIAL) \
    X(ARRAY_FILL, "array.fill", FB, 0x10, TYPE, 0, SPECIAL) \
    X(ARRAY_COPY, "array.copy", FB, 0x11, TYPE_TYPE, 0, SPECIAL) \
    X(ARRAY_INIT_DATA, "array.init_data", FB, 0x12, TYPE_DATA, 0, SPECIAL) \
    X(ARRAY_INIT_ELEM, "array.init_elem", FB, 0x13, TYPE_ELEM, 0, SPECIAL) \
    X(REF_TEST, "ref.test", FB, 0x14, HEAPTYPE, 0, SPECIAL) \
    X(REF_TEST_NULL, "ref.test null", FB, 0x15, HEAPTYPE, 0, SPECIAL) \
    X(REF_CAST, "ref.cast", FB, 0x16, HEAPTYPE, 0, SPECIAL) \
    X(REF_CAST_NULL, "ref.cast null", FB, 0x17, HEAPTYPE, 0, SPECIAL) \
    X(BR_ON_CAST, "br_on_cast", FB, 0x18, BR_CAST, 0, SPECIAL) \
    X(BR_ON_CAST_FAIL, "br_on_cast_fail", FB, 0x19, BR_CAST, 0, SPECIAL) \
    X(ANY_CONVERT_EXTERN, "any.convert_extern", FB, 0x1A, NONE, 0, SPECIAL) \
    X(EXTERN_CONVERT_ANY, "extern.convert_any", FB, 0x1B, NONE, 0, SPECIAL) \
    X(REF_I31, "ref.i31", FB, 0x1C, NONE, 0, SPECIAL) \
    X(I31_GET_S, "i31.get_s", FB, 0x1D, NONE, 0, SPECIAL) \
    X(I31_GET_U, "i31.get_u", FB, 0x1E, NONE, 0, SPECIAL) \
    /* Saturating conversions, bulk memory and tables */ \
    X(I32_TRUNC_SAT_F32_S, "i32.trunc_sat_f32_s", FC, 0x00, NONE, 0, f_i) \
    X(I32_TRUNC_SAT_F32_U, "i32.trunc_sat_f32_u", FC, 0x01, NONE, 0, f_i) \
    X(I32_TRUNC_SAT_F64_S, "i32.trunc_sat_f64_s", FC, 0x02, NONE, 0, d_i) \
    X(I32_TRUNC_SAT_F64_U, "i32.trunc_sat_f64_u", FC, 0x03, NONE, 0, d_i) \
    X(I64_TRUNC_SAT_F32_S, "i64.trunc_sat_f32_s", FC, 0x04, NONE, 0, f_l) \
    X(I64_TRUNC_SAT_F32_U, "i64.trunc_sat_f32_u", FC, 0x05, NONE, 0, f_l) \
    X(I64_TRUNC_SAT_F64_S, "i64.trunc_sat_f64_s", FC, 0x06, NONE, 0, d_l) \
    X(I64_TRUNC_SAT_F64_U, "i64.trunc_sat_f64_u", FC, 0x07, NONE, 0, d_l) \
    X(MEMORY_INIT, "memory.init", FC, 0x08, DATA_MEMORY, 0, aii_) \
    X(DATA_DROP, "data.drop", FC, 0x09, DATA, 0, NONE) \
    X(MEMORY_COPY, "memory.copy", FC, 0x0A, MEMORY_MEMORY, 0, SPECIAL) \
    X(MEMORY_FILL, "memory.fill", FC, 0x0B, MEMORY, 0, aia_) \
    X(TABLE_INIT, "table.init", FC, 0x0C, ELEM_TABLE, 0, SPECIAL) \
    X(ELEM_DROP, "elem.drop", FC, 0x0D, ELEM, 0, NONE) \
    X(TABLE_COPY, "table.copy", FC, 0x0E, TABLE_TABLE, 0, SPECIAL) \
    X(TABLE_GROW, "table.grow", FC, 0x0F, TABLE, 0, SPECIAL) \
    X(TABLE_SIZE, "table.size", FC, 0x10, TABLE, 0, SPECIAL) \
    X(TABLE_FILL, "table.fill", FC, 0x11, TABLE, 0, SPECIAL) \
    /* SIMD: aux is log2 of the bytes accessed for memory, the number of lanes for lane instructions */ \
    X(V128_LOAD, "v128.load", FD, 0x00, MEMARG, 4, a_v) \
    X(V128_LOAD8X8_S, "v128.load8x8_s", FD, 0x01, MEMARG, 3, a_v) \
    X(V128_LOAD8X8_U, "v128.load8x8_u", FD, 0x02, MEMARG, 3, a_v) \
    X(V128_LOAD16X4_S, "v128.load16x4_s", FD, 0x03, MEMARG, 3, a_v) \
    X(V128_LOAD16X4_U, "v128.load16x4_u", FD, 0x04, MEMARG, 3, a_v) \
    X(V128_LOAD32X2_S, "v128.load32x2_s", FD, 0x05, MEMARG, 3, a_v) \
    X(V128_LOAD32X2_U, "v128.load32x2_u", FD, 0x06, MEMARG, 3, a_v) \
    X(V128_LOAD8_SPLAT, "v128.load8_splat", FD, 0x07, MEMARG, 0, a_v) \
    X(V128_LOAD16_SPLAT, "v128.load16_splat", FD, 0x08, MEMARG, 1, a_v) \
    X(V128_LOAD32_SPLAT, "v128.load32_splat", FD, 0x09, MEMARG, 2, a_v) \
    X(V128_LOAD64_SPLAT, "v128.load64_splat", FD, 0x0A, MEMARG, 3, a_v) \
    X(V128_STORE, "v128.store", FD, 0x0B, MEMARG, 4, av_) \
    X(V128_CONST, "v128.const", FD, 0x0C, V128, 0, _v) \
    X(I8X16_SHUFFLE, "i8x16.shuffle", FD, 0x0D, SHUFFLE, 32, vv_v) \
    X(I8X16_SWIZZLE, "i8x16.swizzle", FD, 0x0E, NONE, 0, vv_v) \
    X(I8X16_SPLAT, "i8x16.splat", FD, 0x0F, NONE, 0, i_v) \
    X(I16X8_SPLAT, "i16x8.splat", FD, 0x10, NONE, 0, i_v) \
    X(I32X4_SPLAT, "i32x4.splat", FD, 0x11, NONE, 0, i_v) \
    X(I64X2_SPLAT, "i64x2.splat", FD, 0x12, NONE, 0, l_v) \
    X(F32X4_SPLAT, "f32x4.splat", FD, 0x13, NONE, 0, f_v) \
    X(F64X2_SPLAT, "f64x2.splat", FD, 0x14, NONE, 0, d_v) \
    X(I8X16_EXTRACT_LANE_S, "i8x16.extract_lane_s", FD, 0x15, LANE, 16, v_i) \
    X(I8X16_EXTRACT_LANE_U, "i8x16.extract_lane_u", FD, 0x16, LANE, 16, v_i) \
    X(I8X16_REPLACE_LANE, "i8x16.replace_lane", FD, 0x17, LANE, 16, vi_v) \
    X(I16X8_EXTRACT_LANE_S, "i16x8.extract_lane_s", FD, 0x18, LANE, 8, v_i) \
    X(I16X8_EXTRACT_LANE_U, "i16x8.extract_lane_u", FD, 0x19, LANE, 8, v_i) \
    X(I16X8_REPLACE_LANE, "i16x8.replace_lane", FD, 0x1A, LANE, 8, vi_v) \
    X(I32X4_EXTRACT_LANE, "i32x4.extract_lane", FD, 0x1B, LANE, 4, v_i) \
    X(I32X4_REPLACE_LANE, "i32x4.replace_lane", FD, 0x1C, LANE, 4, vi_v) \
    X(I64X2_EXTRACT_LANE, "i64x2.extract_lane", FD, 0x1D, LANE, 2, v_l) \
    X(I64X2_REPLACE_LANE, "i64x2.replace_lane", FD, 0x1E, LANE, 2, vl_v) \
    X(F32X4_EXTRACT_LANE, "f32x4.extract_lane", FD, 0x1F, LANE, 4, v_f) \
    X(F32X4_REPLACE_LANE, "f32x4.replace_lane", FD, 0x20, LANE, 4, vf_v) \
    X(F64X2_EXTRACT_LANE, "f64x2.extract_lane", FD, 0x21, LANE, 2, v_d) \
    X(F64X2_REPLACE_LANE, "f64x2.replace_lane", FD, 0x22, LANE, 2, vd_v) \
    X(I8X16_EQ, "i8x16.eq", FD, 0x23, NONE, 0, vv_v) \
    X(I8X16_NE, "i8x16.ne", FD, 0x24, NONE, 0, vv_v) \
    X(I8X16_LT_S, "i8x16.lt_s", FD, 0x25, NONE, 0, vv_v) \
    X(I8X16_LT_U, "i8x16.lt_u", FD, 0x26, NONE, 0, vv_v) \
    X(I8X16_GT_S, "i8x16.gt_s", FD, 0x27, NONE, 0, vv_v) \
    X(I8X16_GT_U, "i8x16.gt_u", FD, 0x28, NONE, 0, vv_v) \
    X(I8X16_LE_S, "i8x16.le_s", FD, 0x29, NONE, 0, vv_v) \
    X(I8X16_LE_U, "i8x16.le_u", FD, 0x2A, NONE, 0, vv_v) \
    X(I8X16_GE_S, "i8x16.ge_s", FD, 0x2B, NONE, 0, vv_v) \
    X(I8X16_GE_U, "i8x16.ge_u", FD, 0x2C, NONE, 0, vv_v) \
    X(I16X8_EQ, "i16x8.eq", FD, 0x2D, NONE, 0, vv_v) \
    X(I16X8_NE, "i16x8.ne", FD, 0x2E, NONE, 0, vv_v) \
    X(I16X8_LT_S, "i16x8.lt_s", FD, 0x2F, NONE, 0, vv_v) \
    X(I16X8_LT_U, "i16x8.lt_u", FD, 0x30, NONE, 0, vv_v) \
    X(I16X8_GT_S, "i16x8.gt_s", FD, 0x31, NONE, 0, vv_v) \
    X(I16X8_GT_U, "i16x8.gt_u", FD, 0x32, NONE, 0, vv_v) \
    X(I16X8_LE_S, "i16x8.le_s", FD, 0x33, NONE, 0, vv_v) \
    X(I16X8_LE_U, "i16x8.le_u", FD, 0x34, NONE, 0, vv_v) \
    X(I16X8_GE_S, "i16x8.ge_s", FD, 0x35, NONE, 0, vv_v) \
    X(I16X8_GE_U, "i16x8.ge_u", FD, 0x36, NONE, 0, vv_v) \
    X(I32X4_EQ, "i32x4.eq", FD, 0x37, NONE, 0, vv_v) \
    X(I32X4_NE, "i32x4.ne", FD, 0x38, NONE, 0, vv_v) \
    X(I32X4_LT_S, "i32x4.lt_s", FD, 0x39, NONE, 0, vv_v) \
    X(I32X4_LT_U, "i32x4.lt_u", FD, 0x3A, NONE, 0, vv_v) \
    X(I32X4_GT_S, "i32x4.gt_s", FD, 0x3B, NONE, 0, vv_v) \
    X(I32X4_GT_U, "i32x4.gt_u", FD, 0x3C, NONE, 0, vv_v) \
    X(I32X4_LE_S, "i32x4.le_s", FD, 0x3D, NONE, 0, vv_v) \
    X(I32X4_LE_U, "i32x4.le_u", FD, 0x3E, NONE, 0, vv_v) \
    X(I32X4_GE_S, "i32x4.ge_s", FD, 0x3F, NONE, 0, vv_v) \
    X(I32X4_GE_U, "i32x4.ge_u", FD, 0x40, NONE, 0, vv_v) \
    X(F32X4_EQ, "f32x4.eq", FD, 0x41, NONE, 0, vv_v) \
    X(F32X4_NE, "f32x4.ne", FD, 0x42, NONE, 0, vv_v) \
    X(F32X4_LT, "f32x4.lt", FD, 0x43, NONE, 0, vv_v) \
    X(F32X4_GT, "f32x4.gt", FD, 0x44, NONE, 0, vv_v) \
    X(F32X4_LE, "f32x4.le", FD, 0x45, NONE, 0, vv_v) \
    X(F32X4_GE, "f32x4.ge", FD, 0x46, NONE, 0, vv_v) \
    X(F64X2_EQ, "f64x2.eq", FD, 0x47, NONE, 0, vv_v) \
    X(F64X2_NE, "f64x2.ne", FD, 0x48, NONE, 0, vv_v) \
    X(F64X2_LT, "f64x2.lt", FD, 0x49, NONE, 0, vv_v) \
    X(F64X2_GT, "f64x2.gt", FD, 0x4A, NONE, 0, vv_v) \
    X(F64X2_LE, "f64x2.le", FD, 0x4B, NONE, 0, vv_v) \
    X(F64X2_GE, "f64x2.ge", FD, 0x4C, NONE, 0, vv_v) \
    X(V128_NOT, "v128.not", FD, 0x4D, NONE, 0, v_v) \
    X(V128_AND, "v128.and", FD, 0x4E, NONE, 0, vv_v) \
    X(V128_ANDNOT, "v128.andnot", FD, 0x4F, NONE, 0, vv_v) \
    X(V128_OR, "v128.or", FD, 0x50, NONE, 0, vv_v) \
    X(V128_XOR, "v128.xor", FD, 0x51, NONE, 0, vv_v) \
    X(V128_BITSELECT, "v128.bitselect", FD, 0x52, NONE, 0, vvv_v) \
    X(V128_ANY_TRUE, "v128.any_true", FD, 0x53, NONE, 0, v_i) \
    X(V128_LOAD8_LANE, "v128.load8_lane", FD, 0x54, MEMARG_LANE, 0, av_v) \
    X(V128_LOAD16_LANE, "v128.load16_lane", FD, 0x55, MEMARG_LANE, 1, av_v) \
    X(V128_LOAD32_LANE, "v128.load32_lane", FD, 0x56, MEMARG_LANE, 2, av_v) \
    X(V128_LOAD64_LANE, "v128.load64_lane", FD, 0x57, MEMARG_LANE, 3, av_v) \
    X(V128_STORE8_LANE, "v128.store8_lane", FD, 0x58, MEMARG_LANE, 0, av_) \
    X(V128_STORE16_LANE, "v128.store16_lane", FD, 0x59, MEMARG_LANE, 1, av_) \
    X(V128_STORE32_LANE, "v128.store32_lane", FD, 0x5A, MEMARG_LANE, 2, av_) \
    X(V128_STORE64_LANE, "v128.store64_lane", FD, 0x5B, MEMARG_LANE, 3, av_) \
    X(V128_LOAD32_ZERO, "v128.load32_zero", FD, 0x5C, MEMARG, 2, a_v) \
    X(V128_LOAD64_ZERO, "v128.load64_zero", FD, 0x5D, MEMARG, 3, a_v) \
    X(F32X4_DEMOTE_F64X2_ZERO, "f32x4.demote_f64x2_zero", FD, 0x5E, NONE, 0, v_v) \
    X(F64X2_PROMOTE_LOW_F32X4, "f64x2.promote_low_f32x4", FD, 0x5F, NONE, 0, v_v) \
    X(I8X16_ABS, "i8x16.abs", FD, 0x60, NONE, 0, v_v) \
    X(I8X16_NEG, "i8x16.neg", FD, 0x61, NONE, 0, v_v) \
    X(I8X16_POPCNT, "i8x16.popcnt", FD, 0x62, NONE, 0, v_v) \
    X(I8X16_ALL_TRUE, "i8x16.all_true", FD, 0x63, NONE, 0, v_i) \
    X(I8X16_BITMASK, "i8x16.bitmask", FD, 0x64, NONE, 0, v_i) \
    X(I8X16_NARROW_I16X8_S, "i8x16.narrow_i16x8_s", FD, 0x65, NONE, 0, vv_v) \
    X(I8X16_NARROW_I16X8_U, "i8x16.narrow_i16x8_u", FD, 0x66, NONE, 0, vv_v) \
    X(F32X4_CEIL, "f32x4.ceil", FD, 0x67, NONE, 0, v_v) \
    X(F32X4_FLOOR, "f32x4.floor", FD, 0x68, NONE, 0, v_v) \
    X(F32X4_TRUNC, "f32x4.trunc", FD, 0x69, NONE, 0, v_v) \
    X(F32X4_NEAREST, "f32x4.nearest", FD, 0x6A, NONE, 0, v_v) \
    X(I8X16_SHL, "i8x16.shl", FD, 0x6B, NONE, 0, vi_v) \
    X(I8X16_SHR_S, "i8x16.shr_s", FD, 0x6C, NONE, 0, vi_v) \
    X(I8X16_SHR_U, "i8x16.shr_u", FD, 0x6D, NONE, 0, vi_v) \
    X(I8X16_ADD, "i8x16.add", FD, 0x6E, NONE, 0, vv_v) \
    X(I8X16_ADD_SAT_S, "i8x16.add_sat_s", FD, 0x6F, NONE, 0, vv_v) \
    X(I8X16_ADD_SAT_U, "i8x16.add_sat_u", FD, 0x70, NONE, 0, vv_v) \
    X(I8X16_SUB, "i8x16.sub", FD, 0x71, NONE, 0, vv_v) \
    X(I8X16_SUB_SAT_S, "i8x16.sub_sat_s", FD, 0x72, NONE, 0, vv_v) \
    X(I8X16_SUB_SAT_U, "i8x16.sub_sat_u", FD, 0x73, NONE, 0, vv_v) \
    X(F64X2_CEIL, "f64x2.ceil", FD, 0x74, NONE, 0, v_v) \
    X(F64X2_FLOOR, "f64x2.floor", FD, 0x75, NONE, 0, v_v) \
    X(I8X16_MIN_S, "i8x16.min_s", FD, 0x76, NONE, 0, vv_v) \
    X(I8X16_MIN_U, "i8x16.min_u", FD, 0x77, NONE, 0, vv_v) \
    X(I8X16_MAX_S, "i8x16.max_s", FD, 0x78, NONE, 0, vv_v) \
    X(I8X16_MAX_U, "i8x16.max_u", FD, 0x79, NONE, 0, vv_v) \
    X(F64X2_TRUNC, "f64x2.trunc", FD, 0x7A, NONE, 0, v_v) \
    X(I8X16_AVGR_U, "i8x16.avgr_u", FD, 0x7B, NONE, 0, vv_v) \
    X(I16X8_EXTADD_PAIRWISE_I8X16_S, "i16x8.extadd_pairwise_i8x16_s", FD, 0x7C, NONE, 0, v_v) \
    X(I16X8_EXTADD_PAIRWISE_I8X16_U, "i16x8.extadd_pairwise_i8x16_u", FD, 0x7D, NONE, 0, v_v) \
    X(I32X4_EXTADD_PAIRWISE_I16X8_S, "i32x4.extadd_pairwise_i16x8_s", FD, 0x7E, NONE, 0, v_v) \
    X(I32X4_EXTADD_PAIRWISE_I16X8_U, "i32x4.extadd_pairwise_i16x8_u", FD, 0x7F, NONE, 0, v_v) \
    X(I16X8_ABS, "i16x8.abs", FD, 0x80, NONE, 0, v_v) \
    X(I16X8_NEG, "i16x8.neg", FD, 0x81, NONE, 0, v_v) \
    X(I16X8_Q15MULR_SAT_S, "i16x8.q15mulr_sat_s", FD, 0x82, NONE, 0, vv_v) \
    X(I16X8_ALL_TRUE, "i16x8.all_true", FD, 0x83, NONE, 0, v_i) \
    X(I16X8_BITMASK, "i16x8.bitmask", FD, 0x84, NONE, 0, v_i) \
    X(I16X8_NARROW_I32X4_S, "i16x8.narrow_i32x4_s", FD, 0x85, NONE, 0, vv_v) \
    X(I16X8_NARROW_I32X4_U, "i16x8.narrow_i32x4_u", FD, 0x86, NONE, 0, vv_v) \
    X(I16X8_EXTEND_LOW_I8X16_S, "i16x8.extend_low_i8x16_s", FD, 0x87, NONE, 0, v_v) \
    X(I16X8_EXTEND_HIGH_I8X16_S, "i16x8.extend_high_i8x16_s", FD, 0x88, NONE, 0, v_v) \
    X(I16X8_EXTEND_LOW_I8X16_U, "i16x8.extend_low_i8x16_u", FD, 0x89, NONE, 0, v_v) \
    X(I16X8_EXTEND_HIGH_I8X16_U, "i16x8.extend_high_i8x16_u", FD, 0x8A, NONE, 0, v_v) \
    X(I16X8_SHL, "i16x8.shl", FD, 0x8B, NONE, 0, vi_v) \
    X(I16X8_SHR_S, "i16x8.shr_s", FD, 0x8C, NONE, 0, vi_v) \
    X(I16X8_SHR_U, "i16x8.shr_u", FD, 0x8D, NONE, 0, vi_v) \
    X(I16X8_ADD, "i16x8.add", FD, 0x8E, NONE, 0, vv_v) \
    X(I16X8_ADD_SAT_S, "i16x8.add_sat_s", FD, 0x8F, NONE, 0, vv_v) \
    X(I16X8_ADD_SAT_U, "i16x8.add_sat_u", FD, 0x90, NONE, 0, vv_v) \
    X(I16X8_SUB, "i16x8.sub", FD, 0x91, NONE, 0, vv_v) \
    X(I16X8_SUB_SAT_S, "i16x8.sub_sat_s", FD, 0x92, NONE, 0, vv_v) \
    X(I16X8_SUB_SAT_U, "i16x8.sub_sat_u", FD, 0x93, NONE, 0, vv_v) \
    X(F64X2_NEAREST, "f64x2.nearest", FD, 0x94, NONE, 0, v_v) \
    X(I16X8_MUL, "i16x8.mul", FD, 0x95, NONE, 0, vv_v) \
    X(I16X8_MIN_S, "i16x8.min_s", FD, 0x96, NONE, 0, vv_v) \
    X(I16X8_MIN_U, "i16x8.min_u", FD, 0x97, NONE, 0, vv_v) \
    X(I16X8_MAX_S, "i16x8.max_s", FD, 0x98, NONE, 0, vv_v) \
    X(I16X8_MAX_U, "i16x8.max_u", FD, 0x99, NONE, 0, vv_v) \
    X(I16X8_AVGR_U, "i16x8.avgr_u", FD, 0x9B, NONE, 0, vv_v) \
    X(I16X8_EXTMUL_LOW_I8X16_S, "i16x8.extmul_low_i8x16_s", FD, 0x9C, NONE, 0, vv_v) \
    X(I16X8_EXTMUL_HIGH_I8X16_S, "i16x8.extmul_high_i8x16_s", FD, 0x9D, NONE, 0, vv_v) \
    X(I16X8_EXTMUL_LOW_I8X16_U, "i16x8.extmul_low_i8x16_u", FD, 0x9E, NONE, 0, vv_v) \
    X(I16X8_EXTMUL_HIGH_I8X16_U, "i16x8.extmul_high_i8x16_u", FD, 0x9F, NONE, 0, vv_v) \
    X(I32X4_ABS, "i32x4.abs", FD, 0xA0, NONE, 0, v_v) \
    X(I32X4_NEG, "i32x4.neg", FD, 0xA1, NONE, 0, v_v) \
    X(I32X4_ALL_TRUE, "i32x4.all_true", FD, 0xA3, NONE, 0, v_i) \
    X(I32X4_BITMASK, "i32x4.bitmask", FD, 0xA4, NONE, 0, v_i) \
    X(I32X4_EXTEND_LOW_I16X8_S, "i32x4.extend_low_i16x8_s", FD, 0xA7, NONE, 0, v_v) \
    X(I32X4_EXTEND_HIGH_I16X8_S, "i32x4.extend_high_i16x8_s", FD, 0xA8, NONE, 0, v_v) \
    X(I32X4_EXTEND_LOW_I16X8_U, "i32x4.extend_low_i16x8_u", FD, 0xA9, NONE, 0, v_v) \
    X(I32X4_EXTEND_HIGH_I16X8_U, "i32x4.extend_high_i16x8_u", FD, 0xAA, NONE, 0, v_v) \
    X(I32X4_SHL, "i32x4.shl", FD, 0xAB, NONE, 0, vi_v) \
    X(I32X4_SHR_S, "i32x4.shr_s", FD, 0xAC, NONE, 0, vi_v) \
    X(I32X4_SHR_U, "i32x4.shr_u", FD, 0xAD, NONE, 0, vi_v) \
    X(I32X4_ADD, "i32x4.add", FD, 0xAE, NONE, 0, vv_v) \
    X(I32X4_SUB, "i32x4.sub", FD, 0xB1, NONE, 0, vv_v) \
    X(I32X4_MUL, "i32x4.mul", FD, 0xB5, NONE, 0, vv_v) \
    X(I32X4_MIN_S, "i32x4.min_s", FD, 0xB6, NONE, 0, vv_v) \
    X(I32X4_MIN_U, "i32x4.min_u", FD, 0xB7, NONE, 0, vv_v) \
    X(I32X4_MAX_S, "i32x4.max_s", FD, 0xB8, NONE, 0, vv_v) \
    X(I32X4_MAX_U, "i32x4.max_u", FD, 0xB9, NONE, 0, vv_v) \
    X(I32X4_DOT_I16X8_S, "i32x4.dot_i16x8_s", FD, 0xBA, NONE, 0, vv_v) \
    X(I32X4_EXTMUL_LOW_I16X8_S, "i32x4.extmul_low_i16x8_s", FD, 0xBC, NONE, 0, vv_v) \
    X(I32X4_EXTMUL_HIGH_I16X8_S, "i32x4.extmul_high_i16x8_s", FD, 0xBD, NONE, 0, vv_v) \
    X(I32X4_EXTMUL_LOW_I16X8_U, "i32x4.extmul_low_i16x8_u", FD, 0xBE, NONE, 0, vv_v) \
    X(I32X4_EXTMUL_HIGH_I16X8_U, "i32x4.extmul_high_i16x8_u", FD, 0xBF, NONE, 0, vv_v) \
    X(I64X2_ABS, "i64x2.abs", FD, 0xC0, NONE, 0, v_v) \
    X(I64X2_NEG, "i64x2.neg", FD, 0xC1, NONE, 0, v_v) \
    X(I64X2_ALL_TRUE, "i64x2.all_true", FD, 0xC3, NONE, 0, v_i) \
    X(I64X2_BITMASK, "i64x2.bitmask", FD, 0xC4, NONE, 0, v_i) \
    X(I64X2_EXTEND_LOW_I32X4_S, "i64x2.extend_low_i32x4_s", FD, 0xC7, NONE, 0, v_v) \
    X(I64X2_EXTEND_HIGH_I32X4_S, "i64x2.extend_high_i32x4_s", FD, 0xC8, NONE, 0, v_v) \
    X(I64X2_EXTEND_LOW_I32X4_U, "i64x2.extend_low_i32x4_u", FD, 0xC9, NONE, 0, v_v) \
    X(I64X2_EXTEND_HIGH_I32X4_U, "i64x2.extend_high_i32x4_u", FD, 0xCA, NONE, 0, v_v) \
    X(I64X2_SHL, "i64x2.shl", FD, 0xCB, NONE, 0, vi_v) \
    X(I64X2_SHR_S, "i64x2.shr_s", FD, 0xCC, NONE, 0, vi_v) \
    X(I64X2_SHR_U, "i64x2.shr_u", FD, 0xCD, NONE, 0, vi_v) \
    X(I64X2_ADD, "i64x2.add", FD, 0xCE, NONE, 0, vv_v) \
    X(I64X2_SUB, "i64x2.sub", FD, 0xD1, NONE, 0, vv_v) \
    X(I64X2_MUL, "i64x2.mul", FD, 0xD5, NONE, 0, vv_v) \
    X(I64X2_EQ, "i64x2.eq", FD, 0xD6, NONE, 0, vv_v) \
    X(I64X2_NE, "i64x2.ne", FD, 0xD7, NONE, 0, vv_v) \
    X(I64X2_LT_S, "i64x2.lt_s", FD, 0xD8, NONE, 0, vv_v) \
    X(I64X2_GT_S, "i64x2.gt_s", FD, 0xD9, NONE, 0, vv_v) \
    X(I64X2_LE_S, "i64x2.le_s", FD, 0xDA, NONE, 0, vv_v) \
    X(I64X2_GE_S, "i64x2.ge_s", FD, 0xDB, NONE, 0, vv_v) \
    X(I64X2_EXTMUL_LOW_I32X4_S, "i64x2.extmul_low_i32x4_s", FD, 0xDC, NONE, 0, vv_v) \
    X(I64X2_EXTMUL_HIGH_I32X4_S, "i64x2.extmul_high_i32x4_s", FD, 0xDD, NONE, 0, vv_v) \
    X(I64X2_EXTMUL_LOW_I32X4_U, "i64x2.extmul_low_i32x4_u", FD, 0xDE, NONE, 0, vv_v) \
    X(I64X2_EXTMUL_HIGH_I32X4_U, "i64x2.extmul_high_i32x4_u", FD, 0xDF, NONE, 0, vv_v) \
    X(F32X4_ABS, "f32x4.abs", FD, 0xE0, NONE, 0, v_v) \
    X(F32X4_NEG, "f32x4.neg", FD, 0xE1, NONE, 0, v_v) \
    X(F32X4_SQRT, "f32x4.sqrt", FD, 0xE3, NONE, 0, v_v) \
    X(F32X4_ADD, "f32x4.add", FD, 0xE4, NONE, 0, vv_v) \
    X(F32X4_SUB, "f32x4.sub", FD, 0xE5, NONE, 0, vv_v) \
    X(F32X4_MUL, "f32x4.mul", FD, 0xE6, NONE, 0, vv_v) \
    X(F32X4_DIV, "f32x4.div", FD, 0xE7, NONE, 0, vv_v) \
    X(F32X4_MIN, "f32x4.min", FD, 0xE8, NONE, 0, vv_v) \
    X(F32X4_MAX, "f32x4.max", FD, 0xE9, NONE, 0, vv_v) \
    X(F32X4_PMIN, "f32x4.pmin", FD, 0xEA, NONE, 0, vv_v) \
    X(F32X4_PMAX, "f32x4.pmax", FD, 0xEB, NONE, 0, vv_v) \
    X(F64X2_ABS, "f64x2.abs", FD, 0xEC, NONE, 0, v_v) \
    X(F64X2_NEG, "f64x2.neg", FD, 0xED, NONE, 0, v_v) \
    X(F64X2_SQRT, "f64x2.sqrt", FD, 0xEF, NONE, 0, v_v) \
    X(F64X2_ADD, "f64x2.add", FD, 0xF0, NONE, 0, vv_v) \
    X(F64X2_SUB, "f64x2.sub", FD, 0xF1, NONE, 0, vv_v) \
    X(F64X2_MUL, "f64x2.mul", FD, 0xF2, NONE, 0, vv_v) \
    X(F64X2_DIV, "f64x2.div", FD, 0xF3, NONE, 0, vv_v) \
    X(F64X2_MIN, "f64x2.min", FD, 0xF4, NONE, 0, vv_v) \
    X(F64X2_MAX, "f64x2.max", FD, 0xF5, NONE, 0, vv_v) \
    X(F64X2_PMIN, "f64x2.pmin", FD, 0xF6, NONE, 0, vv_v) \
    X(F64X2_PMAX, "f64x2.pmax", FD, 0xF7, NONE, 0, vv_v) \
    X(I32X4_TRUNC_SAT_F32X4_S, "i32x4.trunc_sat_f32x4_s", FD, 0xF8, NONE, 0, v_v) \
    X(I32X4_TRUNC_SAT_F32X4_U, "i32x4.trunc_sat_f32x4_u", FD, 0xF9, NONE, 0, v_v) \
    X(F32X4_CONVERT_I32X4_S, "f32x4.convert_i32x4_s", FD, 0xFA, NONE, 0, v_v) \
    X(F32X4_CONVERT_I32X4_U, "f32x4.convert_i32x4_u", FD, 0xFB, NONE, 0, v_v) \
    X(I32X4_TRUNC_SAT_F64X2_S_ZERO, "i32x4.trunc_sat_f64x2_s_zero", FD, 0xFC, NONE, 0, v_v) \
    X(I32X4_TRUNC_SAT_F64X2_U_ZERO, "i32x4.trunc_sat_f64x2_u_zero", FD, 0xFD, NONE, 0, v_v) \
    X(F64X2_CONVERT_LOW_I32X4_S, "f64x2.convert_low_i32x4_s", FD, 0xFE, NONE, 0, v_v) \
    X(F64X2_CONVERT_LOW_I32X4_U, "f64x2.convert_low_i32x4_u", FD, 0xFF, NONE, 0, v_v) \
    /* Relaxed SIMD */ \
    X(I8X16_RELAXED_SWIZZLE, "i8x16.relaxed_swizzle", FD, 0x100, NONE, 0, vv_v) \
    X(I32X4_RELAXED_TRUNC_F32X4_S, "i32x4.relaxed_trunc_f32x4_s", FD, 0x101, NONE, 0, v_v) \
    X(I32X4_RELAXED_TRUNC_F32X4_U, "i32x4.relaxed_trunc_f32x4_u", FD, 0x102, NONE, 0, v_v) \
    X(I32X4_RELAXED_TRUNC_F64X2_S_ZERO, "i32x4.relaxed_trunc_f64x2_s_zero", FD, 0x103, NONE, 0, v_v) \
    X(I32X4_RELAXED_TRUNC_F64X2_U_ZERO, "i32x4.relaxed_trunc_f64x2_u_zero", FD, 0x104, NONE, 0, v_v) \
    X(F32X4_RELAXED_MADD, "f32x4.relaxed_madd", FD, 0x105, NONE, 0, vvv_v) \
    X(F32X4_RELAXED_NMADD, "f32x4.relaxed_nmadd", FD, 0x106, NONE, 0, vvv_v) \
    X(F64X2_RELAXED_MADD, "f64x2.relaxed_madd", FD, 0x107, NONE, 0, vvv_v) \
    X(F64X2_RELAXED_NMADD, "f64x2.relaxed_nmadd", FD, 0x108, NONE, 0, vvv_v) \
    X(I8X16_RELAXED_LANESELECT, "i8x16.relaxed_laneselect", FD, 0x109, NONE, 0, vvv_v) \
    X(I16X8_RELAXED_LANESELECT, "i16x8.relaxed_laneselect", FD, 0x10A, NONE, 0, vvv_v) \
    X(I32X4_RELAXED_LANESELECT, "i32x4.relaxed_laneselect", FD, 0x10B, NONE, 0, vvv_v) \
    X(I64X2_RELAXED_LANESELECT, "i64x2.relaxed_laneselect", FD, 0x10C, NONE, 0, vvv_v) \
    X(F32X4_RELAXED_MIN, "f32x4.relaxed_min", FD, 0x10D, NONE, 0, vv_v) \
    X(F32X4_RELAXED_MAX, "f32x4.relaxed_max", FD, 0x10E, NONE, 0, vv_v) \
    X(F64X2_RELAXED_MIN, "f64x2.relaxed_min", FD, 0x10F, NONE, 0, vv_v) \
    X(F64X2_RELAXED_MAX, "f64x2.relaxed_max", FD, 0x110, NONE, 0, vv_v) \
    X(I16X8_RELAXED_Q15MULR_S, "i16x8.relaxed_q15mulr_s", FD, 0x111, NONE, 0, vv_v) \
    X(I16X8_RELAXED_DOT_I8X16_I7X16_S, "i16x8.relaxed_dot_i8x16_i7x16_s", FD, 0x112, NONE, 0, vv_v) \
    X(I32X4_RELAXED_DOT_I8X16_I7X16_ADD_S, "i32x4.relaxed_dot_i8x16_i7x16_add_s", FD, 0x113, NONE, 0, vvv_v)
// clang-format on

/* An opcode is its prefix's base plus its code, so decoding needs no look-up. Numbers between are holes. */
enum opcode_base {
    OP_BASE_PLAIN = 0,
    OP_BASE_FB = 0x100,
    OP_BASE_FC = 0x140,
    OP_BASE_FE = 0x180, /* atomics of the threads proposal: their place, no entries yet */
    OP_BASE_FD = 0x200,
    OPCODE_LIMIT = 0x340
};

enum opcode {
#define X(name, text, prefix, code, imm, aux, sig) OP_##name = OP_BASE_##prefix + code,
    OPCODES(X)
#undef X
};

enum opcode_immediate {
    IMM_NONE,
    IMM_BLOCK,     /* block type */
    IMM_LABEL,     /* u32 */
    IMM_BR_TABLE,  /* vector of labels, default label */
    IMM_TRY_TABLE, /* block type, vector of catch clauses */
    IMM_FUNC,      /* u32 index, as the following */
    IMM_TYPE,
    IMM_TYPE_TABLE, /* type, then table */
    IMM_TAG,
    IMM_LOCAL,
    IMM_GLOBAL,
    IMM_TABLE,
    IMM_TABLE_TABLE, /* destination, source */
    IMM_ELEM,
    IMM_ELEM_TABLE, /* segment, then table */
    IMM_MEMORY,
    IMM_MEMORY_MEMORY, /* destination, source */
    IMM_DATA,
    IMM_DATA_MEMORY, /* segment, then memory */
    IMM_MEMARG,      /* u32 alignment (bit 6: a memory index follows), [u32 memory], u64 offset */
    IMM_MEMARG_LANE, /* memarg, then a lane byte */
    IMM_TYPES,       /* vector of value types (select) */
    IMM_HEAPTYPE,
    IMM_TYPE_FIELD, /* type, then field */
    IMM_TYPE_COUNT, /* type, then number of operands */
    IMM_TYPE_TYPE,
    IMM_TYPE_DATA,
    IMM_TYPE_ELEM,
    IMM_BR_CAST, /* flags byte, label, heap type, heap type */
    IMM_I32,     /* s32 */
    IMM_I64,     /* s64 */
    IMM_F32,     /* 4 bytes */
    IMM_F64,     /* 8 bytes */
    IMM_V128,    /* 16 bytes */
    IMM_SHUFFLE, /* 16 lane bytes */
    IMM_LANE     /* a lane byte */
};

/* A signature packed into 20 bits: result in bits 0..3, parameters (first is deepest) in bits 4..15, their number in
 * bits 16..17. Types are KIND_* or SIG_ADDR; 0 is no result. */
enum { SIG_ADDR = 6, SIG_SPECIAL = 1 << 20, SIG_NONE = 0 };
#define SIG(n, p0, p1, p2, r) ((n) << 16 | (p0) << 4 | (p1) << 8 | (p2) << 12 | (r))
enum opcode_signature {
    SIG__a = SIG(0, 0, 0, 0, SIG_ADDR),
    SIG__d = SIG(0, 0, 0, 0, KIND_F64),
    SIG__f = SIG(0, 0, 0, 0, KIND_F32),
    SIG__i = SIG(0, 0, 0, 0, KIND_I32),
    SIG__l = SIG(0, 0, 0, 0, KIND_I64),
    SIG__v = SIG(0, 0, 0, 0, KIND_V128),
    SIG_a_a = SIG(1, SIG_ADDR, 0, 0, SIG_ADDR),
    SIG_a_d = SIG(1, SIG_ADDR, 0, 0, KIND_F64),
    SIG_a_f = SIG(1, SIG_ADDR, 0, 0, KIND_F32),
    SIG_a_i = SIG(1, SIG_ADDR, 0, 0, KIND_I32),
    SIG_a_l = SIG(1, SIG_ADDR, 0, 0, KIND_I64),
    SIG_a_v = SIG(1, SIG_ADDR, 0, 0, KIND_V128),
    SIG_ad_ = SIG(2, SIG_ADDR, KIND_F64, 0, 0),
    SIG_af_ = SIG(2, SIG_ADDR, KIND_F32, 0, 0),
    SIG_ai_ = SIG(2, SIG_ADDR, KIND_I32, 0, 0),
    SIG_aia_ = SIG(3, SIG_ADDR, KIND_I32, SIG_ADDR, 0),
    SIG_aii_ = SIG(3, SIG_ADDR, KIND_I32, KIND_I32, 0),
    SIG_al_ = SIG(2, SIG_ADDR, KIND_I64, 0, 0),
    SIG_av_ = SIG(2, SIG_ADDR, KIND_V128, 0, 0),
    SIG_av_v = SIG(2, SIG_ADDR, KIND_V128, 0, KIND_V128),
    SIG_d_d = SIG(1, KIND_F64, 0, 0, KIND_F64),
    SIG_d_f = SIG(1, KIND_F64, 0, 0, KIND_F32),
    SIG_d_i = SIG(1, KIND_F64, 0, 0, KIND_I32),
    SIG_d_l = SIG(1, KIND_F64, 0, 0, KIND_I64),
    SIG_d_v = SIG(1, KIND_F64, 0, 0, KIND_V128),
    SIG_dd_d = SIG(2, KIND_F64, KIND_F64, 0, KIND_F64),
    SIG_dd_i = SIG(2, KIND_F64, KIND_F64, 0, KIND_I32),
    SIG_f_d = SIG(1, KIND_F32, 0, 0, KIND_F64),
    SIG_f_f = SIG(1, KIND_F32, 0, 0, KIND_F32),
    SIG_f_i = SIG(1, KIND_F32, 0, 0, KIND_I32),
    SIG_f_l = SIG(1, KIND_F32, 0, 0, KIND_I64),
    SIG_f_v = SIG(1, KIND_F32, 0, 0, KIND_V128),
    SIG_ff_f = SIG(2, KIND_F32, KIND_F32, 0, KIND_F32),
    SIG_ff_i = SIG(2, KIND_F32, KIND_F32, 0, KIND_I32),
    SIG_i_d = SIG(1, KIND_I32, 0, 0, KIND_F64),
    SIG_i_f = SIG(1, KIND_I32, 0, 0, KIND_F32),
    SIG_i_i = SIG(1, KIND_I32, 0, 0, KIND_I32),
    SIG_i_l = SIG(1, KIND_I32, 0, 0, KIND_I64),
    SIG_i_v = SIG(1, KIND_I32, 0, 0, KIND_V128),
    SIG_ii_i = SIG(2, KIND_I32, KIND_I32, 0, KIND_I32),
    SIG_l_d = SIG(1, KIND_I64, 0, 0, KIND_F64),
    SIG_l_f = SIG(1, KIND_I64, 0, 0, KIND_F32),
    SIG_l_i = SIG(1, KIND_I64, 0, 0, KIND_I32),
    SIG_l_l = SIG(1, KIND_I64, 0, 0, KIND_I64),
    SIG_l_v = SIG(1, KIND_I64, 0, 0, KIND_V128),
    SIG_ll_i = SIG(2, KIND_I64, KIND_I64, 0, KIND_I32),
    SIG_ll_l = SIG(2, KIND_I64, KIND_I64, 0, KIND_I64),
    SIG_v_d = SIG(1, KIND_V128, 0, 0, KIND_F64),
    SIG_v_f = SIG(1, KIND_V128, 0, 0, KIND_F32),
    SIG_v_i = SIG(1, KIND_V128, 0, 0, KIND_I32),
    SIG_v_l = SIG(1, KIND_V128, 0, 0, KIND_I64),
    SIG_v_v = SIG(1, KIND_V128, 0, 0, KIND_V128),
    SIG_vd_v = SIG(2, KIND_V128, KIND_F64, 0, KIND_V128),
    SIG_vf_v = SIG(2, KIND_V128, KIND_F32, 0, KIND_V128),
    SIG_vi_v = SIG(2, KIND_V128, KIND_I32, 0, KIND_V128),
    SIG_vl_v = SIG(2, KIND_V128, KIND_I64, 0, KIND_V128),
    SIG_vv_v = SIG(2, KIND_V128, KIND_V128, 0, KIND_V128),
    SIG_vvv_v = SIG(3, KIND_V128, KIND_V128, KIND_V128, KIND_V128),
};
static inline unsigned sig_params(uint32_t sig) {
    return sig >> 16 & 3;
}
static inline unsigned sig_param(uint32_t sig, unsigned i) {
    return sig >> (4 + 4 * i) & 15;
}
static inline unsigned sig_result(uint32_t sig) {
    return sig & 15;
}

struct opcode_info {
    const char *text; /* NULL: no such instruction */
    uint32_t sig;
    uint8_t imm; /* enum opcode_immediate */
    uint8_t aux;
};
extern const struct opcode_info opcode_table[OPCODE_LIMIT];

/* GC's instructions. */
static inline bool opcode_is_gc(uint32_t op) {
    return op >= OP_BASE_FB && op < OP_BASE_FC;
}

/* The opcode at *p of a validated body, which moves past it. */
static inline uint32_t opcode_read(const uint8_t **p) {
    uint32_t op = *(*p)++;
    if (__builtin_expect(op < 0xFB, 1)) return op;
    uint32_t base = op == 0xFB ? OP_BASE_FB : op == 0xFC ? OP_BASE_FC : op == 0xFD ? OP_BASE_FD : OP_BASE_FE;
    uint32_t b = *(*p)++, code = b & 0x7f;
    for (unsigned shift = 7; b & 0x80; shift += 7) {
        b = *(*p)++;
        code |= (b & 0x7f) << shift;
    }
    return base + code;
}

#endif
