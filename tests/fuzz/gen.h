/* A generator of valid WebAssembly modules: any byte string becomes one, and small changes of the string make small
 * changes of the module, so a fuzzer that knows coverage can steer it.
 *
 * What a generated module looks like, so that two engines can be compared exactly:
 *   - imports env.h0 (i32)->(i32), a pure function of the host, gen_host_h0() below, and env.h1 (i32,i64)->(i64), the
 * export h1 of an instance of gen_helper: calls between instances, with a memory of its own;
 *   - exports e0, e1, ... ()->(i64), to be called in this order: each runs an inner function with constant arguments
 * and folds its results into one number; and g ()->(i64), which folds all globals; memories m0, m1, ...; tables t0,
 * ...;
 *   - every loop and every function call burns fuel, and `unreachable` when it is gone: programs end, never deeply
 *     nested (GEN_FUEL calls at most);
 *   - NaN results of arithmetic are made canonical, so no engine's choice shows. Relaxed SIMD is an option because it
 *     lets engines differ. */
#ifndef DONJON_FUZZ_GEN_H
#define DONJON_FUZZ_GEN_H

#include <stddef.h>
#include <stdint.h>

enum gen_feature {
    GEN_SIMD = 1,
    GEN_RELAXED_SIMD = 2,
    GEN_TAIL_CALLS = 4,
    GEN_EXCEPTIONS = 8, /* try_table, throw_ref, exnref */
    GEN_LEGACY_EXCEPTIONS = 16,
    GEN_MULTI_MEMORY = 32,
    GEN_MEMORY64 = 64,
    GEN_TYPED_REFS = 128, /* call_ref, br_on_null, ref.as_non_null, ... */
    GEN_ALL = 255
};

enum { GEN_FUEL = 500, GEN_EXPORTS_MAX = 8, GEN_MODULE_MAX = 1 << 18 };

/* A module from `n` bytes at `seed`, into `out` (GEN_MODULE_MAX bytes). Its size; 0 when it did not fit. */
size_t gen_module(const uint8_t *seed, size_t n, unsigned features, uint8_t *out);

static inline uint32_t gen_host_h0(uint32_t x) {
    return x * 31 + 7;
}

/* (memory 1) (func (export "h1") (param i32 i64) (result i64)
 *   (i64.store (i32.and (local.get 0) (i32.const 255)) (local.get 1))
 *   (i64.add (i64.xor (i64.load (i32.and (local.get 0) (i32.const 255))) (i64.extend_i32_u (local.get 0))) (i64.const
 * 2654435769))) */
extern const uint8_t gen_helper[71];

#endif
