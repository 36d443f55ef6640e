/* The interpreter's vector instructions; see oplist.h. */
#ifndef DONJON_WASM_INTERP_OPLIST_SIMD_H
#define DONJON_WASM_INTERP_OPLIST_SIMD_H

#define INTERP_OPS_SIMD(X)

#endif
