/* The collected heap: exceptions and the embedder's own references now, GC's structs and arrays later. Mark and sweep,
 * objects never move. Roots: the interpreter's value stack (scanned conservatively: every slot that holds the address
 * of a live object keeps it), globals, tables and element segments whose type may hold such references, store->thrown,
 * and references pinned by the embedder.
 *
 * Collection happens only inside heap_new_exn and heap_new_host. A reference that is nowhere but in a C variable is not
 * seen: pin it, or have it in a slot, before allocating. */
#ifndef DONJON_WASM_HEAP_H
#define DONJON_WASM_HEAP_H

#include "store.h"

struct exn {
    struct tag *tag;
    uint32_t n_slots;
    slot payload[]; /* the tag's parameters */
};

struct heap *heap_new(struct store *s);
void heap_delete(struct heap *h); /* finalizes every host object */

/* A new exception, its payload zero; may collect first. NULL when store_limits.heap_bytes is used up by live objects.
 */
struct exn *heap_new_exn(struct heap *h, struct tag *tag);

/* An object of the embedder that externref values may point at, zeroed; `size` at most HEAP_HOST_MAX. `finalize` is
 * called when it is found unreachable, and must not touch the store. Comes pinned once. */
#define HEAP_HOST_MAX 1024
void *heap_new_host(struct heap *h, size_t size, void (*finalize)(void *object));

/* Embedder references: counted. `object` must be live. */
void heap_pin(struct heap *h, void *object);
void heap_unpin(struct heap *h, void *object);

uint64_t heap_bytes(const struct heap *h); /* of live objects and of those not collected yet */

#endif
