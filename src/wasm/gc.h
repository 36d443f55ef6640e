/* Garbage collection's instructions (core specification, section 4.6.8 to 4.6.10), as functions that both tiers and
 * constant expressions use. Objects are heap.h's. */
#ifndef DONJON_WASM_GC_H
#define DONJON_WASM_GC_H

#include "store.h"

/* An instruction of a validated body: its immediates, and what it takes and gives. */
struct gc_ins {
    uint32_t op;          /* OP_STRUCT_NEW..., never a branch */
    uint32_t x, y;        /* immediates: type, then field, count, segment or second type; or a heap type, see below */
    uint32_t n_params;    /* operands */
    uint32_t param_slots; /* and their slots */
    valtype result;       /* VT_BOT: none */
};
/* *p is behind the opcode. */
struct gc_ins gc_read(const struct module *m, uint32_t op, const uint8_t **p);

/* A heap type as an immediate: an abstract one below HEAP_CONCRETE, else HEAP_CONCRETE + the module's type index. */
uint32_t gc_read_heaptype(const uint8_t **p);

/* br_on_cast and br_on_cast_fail: the test they make. */
struct gc_branch {
    uint32_t depth;
    uint32_t test; /* OP_REF_TEST or OP_REF_TEST_NULL */
    uint32_t heap; /* its immediate */
};
struct gc_branch gc_read_branch(const uint8_t **p);

/* Executes: operands in consecutive slots `a`, the result to `out`, which may be the same, all eight bytes of each
 * slot. Operands must be where the collector finds them. Adds to *bytes what bulk operations are charged by. */
typedef enum trap_kind gc_function(struct instance *i, uint32_t x, uint32_t y, const slot *a, slot *out,
                                   uint64_t *bytes);
extern gc_function *const gc_functions[32]; /* by op - OP_BASE_FB */

/* Is `ref`, not null and of the hierarchy of `heap`, a reference to that (canonical) heap type? */
bool gc_ref_is(const struct engine *e, slot ref, uint32_t heap);

#endif
