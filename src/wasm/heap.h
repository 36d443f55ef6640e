/* The collected heap: exceptions now, GC's structs and arrays later. Mark and sweep, objects never move. Roots: the
 * interpreter's value stack (scanned conservatively: every slot that holds the address of a live object keeps it), globals
 * and tables whose type may hold such references, store->thrown, and references pinned by the embedder. */
#ifndef DONJON_WASM_HEAP_H
#define DONJON_WASM_HEAP_H

#include "store.h"

struct exn {
    struct tag *tag;
    uint32_t n_slots;
    slot payload[]; /* the tag's parameters */
};

struct heap *heap_new(struct store *s);
void heap_delete(struct heap *h);

/* A new exception, its payload zero; may collect first. NULL when store_limits.heap_bytes is used up by live objects. */
struct exn *heap_new_exn(struct heap *h, struct tag *tag);

/* Embedder references: counted. */
void heap_pin(struct heap *h, void *object);
void heap_unpin(struct heap *h, void *object);

#endif
