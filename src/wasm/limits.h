/* Implementation limits (core specification, appendix "Implementation Limitations"), in one place. Where nothing is
 * said the value is that of the WebAssembly JavaScript Interface, section "Limits", which real modules are made for. */
#ifndef DONJON_WASM_LIMITS_H
#define DONJON_WASM_LIMITS_H

enum wasm_limit {
    MAX_MODULE_SIZE = 1 << 30,
    MAX_TYPES = 1000000, /* also of one recursion group */
    MAX_SUBTYPE_DEPTH = 63,
    MAX_PARAMS = 1000,
    MAX_RESULTS = 1000,
    MAX_FIELDS = 10000,
    MAX_FUNCS = 1000000,
    MAX_IMPORTS = 1000000,
    MAX_EXPORTS = 1000000,
    MAX_GLOBALS = 1000000,
    MAX_TAGS = 1000000,
    MAX_TABLES = 100000,
    MAX_MEMORIES = 100,
    MAX_ELEMS = 1000000, /* ours; there ten times as many: a segment of three bytes becomes a structure */
    MAX_ELEM_ITEMS = 10000000,
    MAX_DATAS = 100000,
    MAX_CUSTOMS = 100000,     /* ours: the JavaScript Interface has none */
    MAX_BODY_SIZE = 64 << 20, /* ours; there 7,654,321 */
    MAX_LOCALS = 50000,       /* with parameters */
    MAX_BR_TABLE = 65520,
    MAX_NEW_FIXED = 10000, /* operands of array.new_fixed */
    MAX_OPERANDS = 65535,  /* ours: values on one function's stack; a frame's slots are counted in 16 bits */
    MAX_NESTING = 100000,  /* ours: blocks inside blocks */

    /* Section 3.2.16 and 3.2.17: what the specification itself allows. */
    PAGE_SIZE_LOG2 = 16,
    MAX_PAGES32 = 1 << 16
};
#define MAX_PAGES64 (1ull << 48)

/* What moves many bytes at once costs fuel, and time between looks at interrupts, by its size. */
enum { BULK_FREE = 4096, BULK_BYTES_PER_FUEL = 64, BULK_BYTES_PER_TICK = 4096 };

#endif
