/* A decoded and validated module: immutable, shareable between instances, stores and threads.
 *
 * Decoding and validation happen in one pass over the binary, complete before anything else: a `struct module` that
 * exists is valid. It keeps the bytes and points into them: function bodies stay in the binary's own form, and each
 * execution tier (interpreter, native code) translates a body when it needs it, trusting it because it was validated.
 */
#ifndef DONJON_WASM_MODULE_H
#define DONJON_WASM_MODULE_H

#include "types.h"

struct engine;

struct bytes {
    const uint8_t *data;
    uint32_t size;
};

enum externkind { EXTERN_FUNC, EXTERN_TABLE, EXTERN_MEMORY, EXTERN_GLOBAL, EXTERN_TAG };

struct limits {
    uint64_t min, max; /* max is UINT64_MAX when absent */
    bool has_max;
    bool is64;   /* 64-bit addresses */
    bool shared; /* threads proposal: decoded, refused until threads come */
};

struct tabletype {
    valtype elem;
    struct limits limits;
};

struct globaltype {
    valtype type;
    bool mutable_;
};

/* A constant expression, validated, as a piece of the module's bytes including its `end`. size 0: absent. */
struct constexpr_ {
    uint32_t offset, size;
};

struct import {
    struct bytes module, name;
    enum externkind kind;
    uint32_t index; /* in the index space of its kind */
};

struct export {
    struct bytes name;
    enum externkind kind;
    uint32_t index;
};

struct func_body {
    uint32_t offset, size; /* in module bytes: from the locals' count to the final `end` */
};

struct table_def {
    struct tabletype type;
    struct constexpr_ init; /* absent: null */
};

struct global_def {
    struct globaltype type;
    struct constexpr_ init; /* absent for imports */
};

enum segment_mode { SEGMENT_ACTIVE, SEGMENT_PASSIVE, SEGMENT_DECLARATIVE };

struct elem_segment {
    enum segment_mode mode;
    valtype type;
    uint32_t table;
    struct constexpr_ offset; /* active only */
    bool as_exprs;            /* items are constant expressions, else function indices (LEB u32) */
    uint32_t n_items;
    uint32_t items, items_size; /* piece of the module's bytes */
};

struct data_segment {
    enum segment_mode mode; /* active or passive */
    uint32_t memory;
    struct constexpr_ offset; /* active only */
    uint32_t data, size;      /* piece of the module's bytes */
};

struct custom_section {
    struct bytes name, payload;
};

struct module {
    struct engine *engine;
    uint8_t *data; /* the module's own copy of the binary */
    uint32_t size; /* MODULE_MAX_SIZE at most */
    uint32_t refs; /* shared by instances; changed only by module_ref/module_unref */

    uint32_t n_types;
    uint32_t *type_ids; /* module type index -> canonical id */

    /* Index spaces: imports first, as the specification has them. */
    uint32_t n_imports;
    struct import *imports;
    uint32_t n_funcs, n_func_imports;
    uint32_t *func_types;     /* canonical ids, n_funcs */
    struct func_body *bodies; /* n_funcs - n_func_imports */
    uint32_t n_tables, n_table_imports;
    struct table_def *tables;
    uint32_t n_memories, n_memory_imports;
    struct limits *memories;
    uint32_t n_globals, n_global_imports;
    struct global_def *globals;
    uint32_t n_tags, n_tag_imports;
    uint32_t *tag_types; /* canonical ids of function types without results */

    uint32_t n_exports;
    struct export *exports;
    uint32_t start; /* function index, or UINT32_MAX */
    uint32_t n_elems;
    struct elem_segment *elems;
    uint32_t n_datas;
    struct data_segment *datas;
    uint32_t n_customs;
    struct custom_section *customs;
    uint32_t code_offset, code_size; /* the code section's payload: DWARF addresses count from here */
};

/* Why a module was refused. `offset` is the byte in the binary; `func` the function index, or UINT32_MAX. */
struct module_error {
    uint32_t offset, func;
    bool malformed; /* decoding failed; otherwise validation */
    char message[192];
};

/* Decodes and validates a module. Copies `data` (once, before reading it). NULL on error with `err` filled.
 * The result has one reference. */
struct module *module_new(struct engine *e, const uint8_t *data, size_t size, struct module_error *err);
void module_ref(struct module *m);
void module_unref(struct module *m);

/* The function's name from the name section, or {NULL,0}. Linear in the section: for messages only. */
struct bytes module_func_name(const struct module *m, uint32_t func);
/* All of them: names[n_funcs], of which those that have a name are set. */
void module_func_names(const struct module *m, struct bytes *names);

/* Reader helpers for validated bodies (execution tiers): no bounds checks, the validator has made them. */
static inline uint32_t leb_u32(const uint8_t **p) {
    uint32_t b = *(*p)++, v = b & 0x7f;
    for (unsigned shift = 7; b & 0x80; shift += 7) {
        b = *(*p)++;
        v |= (b & 0x7f) << shift;
    }
    return v;
}
static inline uint64_t leb_u64(const uint8_t **p) {
    uint64_t b = *(*p)++, v = b & 0x7f;
    for (unsigned shift = 7; b & 0x80; shift += 7) {
        b = *(*p)++;
        v |= (b & 0x7f) << shift;
    }
    return v;
}
static inline int64_t leb_s64(const uint8_t **p) {
    uint64_t v = 0, b;
    unsigned shift = 0;
    do {
        b = *(*p)++;
        v |= (b & 0x7f) << shift;
        shift += 7;
    } while (b & 0x80);
    if (shift < 64 && (b & 0x40)) v |= ~0ull << shift;
    return (int64_t)v;
}
static inline int32_t leb_s32(const uint8_t **p) {
    return (int32_t)leb_s64(p);
}

/* One value type of a validated body (a local's type, select's annotation, a block type): canonical. */
valtype module_read_valtype(const struct module *m, const uint8_t **p);

/* A block type of a validated body: its function type. Single-result and empty forms point into `buf`. */
struct blocktype_buf {
    struct functype type;
    valtype result;
};
const struct functype *module_read_blocktype(const struct module *m, const uint8_t **p, struct blocktype_buf *buf);

#endif
