/* WebAssembly 3.0's types (core specification, section 2.3) and the registry that makes them canonical.
 *
 * A recursion group is interned once per engine: two structurally equal groups, from whatever module, get the same type
 * ids. From then on type equality is integer equality and a function's type can be compared across modules by its id.
 */
#ifndef DONJON_WASM_TYPES_H
#define DONJON_WASM_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct engine;

/* A value type in 32 bits:
 *   bits 0..2   kind
 *   bit  3      nullable (references only)
 *   bits 4..31  heap type (references only): an abstract heap type below HEAP_CONCRETE, else HEAP_CONCRETE + type id
 * Storage types of fields may be packed (KIND_I8, KIND_I16 exist only there). */
typedef uint32_t valtype;

enum valkind { KIND_BOT, KIND_I32, KIND_I64, KIND_F32, KIND_F64, KIND_V128, KIND_REF, KIND_PACKED };

enum heaptype {
    HEAP_FUNC,
    HEAP_NOFUNC,
    HEAP_EXTERN,
    HEAP_NOEXTERN,
    HEAP_ANY,
    HEAP_EQ,
    HEAP_I31,
    HEAP_STRUCT,
    HEAP_ARRAY,
    HEAP_NONE,
    HEAP_EXN,
    HEAP_NOEXN,
    HEAP_BOT, /* of an unreachable stack: below every heap type */
    HEAP_CONCRETE = 16
};

#define VT_BOT  ((valtype)KIND_BOT)
#define VT_I32  ((valtype)KIND_I32)
#define VT_I64  ((valtype)KIND_I64)
#define VT_F32  ((valtype)KIND_F32)
#define VT_F64  ((valtype)KIND_F64)
#define VT_V128 ((valtype)KIND_V128)
#define VT_I8   ((valtype)KIND_PACKED)
#define VT_I16  ((valtype)(KIND_PACKED | 8))

#define VT_REF(null, heap) ((valtype)(KIND_REF | ((null) ? 8u : 0u) | ((uint32_t)(heap) << 4)))
#define VT_FUNCREF         VT_REF(true, HEAP_FUNC)
#define VT_EXTERNREF       VT_REF(true, HEAP_EXTERN)
#define VT_EXNREF          VT_REF(true, HEAP_EXN)

static inline enum valkind vt_kind(valtype t) {
    return (enum valkind)(t & 7);
}
static inline bool vt_is_ref(valtype t) {
    return vt_kind(t) == KIND_REF;
}
static inline bool vt_nullable(valtype t) {
    return (t & 8) != 0;
}
static inline uint32_t vt_heap(valtype t) {
    return t >> 4;
}
static inline bool vt_concrete(valtype t) {
    return vt_is_ref(t) && vt_heap(t) >= HEAP_CONCRETE;
}
static inline uint32_t vt_type_id(valtype t) {
    return vt_heap(t) - HEAP_CONCRETE;
} /* vt_concrete only */
static inline bool vt_defaultable(valtype t) {
    return !vt_is_ref(t) || vt_nullable(t);
}

/* Slots of 8 bytes that a value takes in frames, globals and argument arrays: v128 two, everything else one. */
static inline uint32_t vt_slots(valtype t) {
    return vt_kind(t) == KIND_V128 ? 2 : 1;
}

enum comptype_kind { COMP_FUNC, COMP_STRUCT, COMP_ARRAY };

struct fieldtype {
    valtype type; /* may be packed */
    bool mutable_;
};

struct functype {
    uint32_t n_params, n_results;
    uint32_t param_slots, result_slots; /* sums of vt_slots */
    const valtype *params, *results;    /* one array: results follow params */
};

/* One canonical defined type. Lives as long as its engine. */
struct deftype {
    uint32_t id;    /* index in the registry */
    uint32_t group; /* id of the recursion group's first type: two types of one group share it */
    uint32_t super; /* type id, or TYPE_NONE */
    uint32_t depth; /* length of the supertype chain: makes subtyping a walk of known length */
    bool final;
    bool defaultable; /* structures and arrays: every field has a default value */
    enum comptype_kind kind;
    union {
        struct functype func;
        struct {
            uint32_t n_fields; /* 1 for arrays */
            const struct fieldtype *fields;
            /* Their objects (heap.h), in bytes. A subtype's object begins as its supertype's does. */
            uint32_t size;           /* a structure's with its header, or an array's element's */
            const uint32_t *offsets; /* structures: of each field */
            uint32_t n_refs;         /* references among the fields, or whether elements are ones */
            const uint32_t *refs;    /* structures: their offsets */
        } agg;
    };
};
enum { OBJECT_FIELDS = 4, OBJECT_ELEMS = 8 }; /* where the first field, the first element may begin */

/* Bytes of a field, also its alignment if at most 8. */
static inline uint32_t vt_size(valtype t) {
    switch (vt_kind(t)) {
    case KIND_PACKED: return t == VT_I8 ? 1 : 2;
    case KIND_I32:
    case KIND_F32: return 4;
    case KIND_V128: return 16;
    default: return 8;
    }
}

#define TYPE_NONE UINT32_MAX

/* The canonical type of an id; `id` must have come from the registry. */
const struct deftype *type_get(const struct engine *e, uint32_t id);
static inline const struct functype *type_func(const struct engine *e, uint32_t id) {
    return &type_get(e, id)->func;
}

/* Subtyping (section 3.3): value types, and defined types by id. */
bool type_matches(const struct engine *e, valtype sub, valtype super);
bool type_id_matches(const struct engine *e, uint32_t sub, uint32_t super);

/* The id of a plain final function type in a group of its own (host functions, block types). TYPE_NONE when out of
 * memory. */
uint32_t type_intern_func(struct engine *e, const valtype *params, uint32_t n_params, const valtype *results,
                          uint32_t n_results);

/* A type of a recursion group on its way into the registry. Inside a group, heap type HEAP_CONCRETE + (TYPE_REC | i)
 * and supertype TYPE_REC | i mean the group's own type i; all other ids are canonical already. */
#define TYPE_REC (1u << 26)
struct rectype {
    enum comptype_kind kind;
    bool final;
    uint32_t super; /* TYPE_NONE, TYPE_REC | i with i below the type's own number, or a canonical id */
    union {
        struct {
            uint32_t n_params, n_results;
            const valtype *params, *results;
        } func;
        struct {
            uint32_t n_fields;
            const struct fieldtype *fields;
        } agg;
    };
};

enum intern_status {
    INTERN_OK,
    INTERN_MEMORY, /* out of memory */
    INTERN_FULL,   /* the registry holds TYPE_REC types */
    INTERN_FINAL,  /* type `*bad` extends a final type */
    INTERN_SUPER,  /* type `*bad` does not match its declared supertype (section 3.2.6) */
    INTERN_DEPTH   /* type `*bad` is deeper than MAX_SUBTYPE_DEPTH */
};

/* The canonical id of the group's first type in `*first`, those of the others follow it. A group that is not valid
 * leaves nothing behind. Copies what it keeps. */
enum intern_status type_intern_group(struct engine *e, const struct rectype *types, uint32_t n, uint32_t *first,
                                     uint32_t *bad);

/* An engine has one registry (engine.c). Interning locks it; reading needs no lock, since types never move or change.
 */
struct donjon_platform;
struct type_registry *type_registry_new(const struct donjon_platform *p); /* NULL: out of memory */
void type_registry_delete(const struct donjon_platform *p, struct type_registry *r);

/* Text form as in the specification ("i32", "(ref null func)", "(ref 12)"), NUL-terminated, at most 32 bytes. */
void vt_print(valtype t, char out[32]);

#endif
