/* What the files that implement store.h share. */
#ifndef DONJON_WASM_OBJECTS_H
#define DONJON_WASM_OBJECTS_H

#include "limits.h"
#include "store.h"
#include "donjon/platform.h"

enum {
    PAGE_SIZE = 1 << PAGE_SIZE_LOG2,
    STORE_MAX_NESTING = 256 /* calls from outside inside each other: each uses the C stack */
};

struct object_list { /* pointers of one kind, growing */
    void **items;
    size_t n, capacity;
};

struct store_objects {
    struct arena_chunk *chunks; /* small objects, freed all at once */
    struct object_list instances, memories, tables;
    struct object_list ref_globals; /* those whose type may refer to the collected heap */
    struct object_list host_funcs;  /* those with a finalizer */
    uint64_t memory_bytes;          /* sums over all memories and tables, against the store's limits */
    uint64_t table_elems;
};

/* Zeroed memory that goes with the store. NULL: out of memory. */
void *store_alloc(struct store *s, size_t size);
bool object_list_add(struct store *s, struct object_list *l, void *object);

static inline void *engine_realloc(const struct engine *e, void *block, size_t size) {
    return e->platform->realloc(e->platform->ctx, block, size);
}

void memory_free(struct store *s, struct memory *m);
void table_free(struct store *s, struct table *t);

/* May a value of this type be a pointer into the collected heap? */
bool type_may_be_collected(const struct engine *e, valtype t);

/* Evaluates a validated constant expression at *p, leaves *p behind its `end`. False: out of memory. */
bool constexpr_eval(struct instance *i, const uint8_t **p, slot out[2]);

/* table.init of a whole active segment: evaluated straight into the table, because nothing can ask for it again. */
enum trap_kind table_init_active(struct instance *i, uint32_t elem, struct table *t, uint64_t dst);

#endif
