/* The collected heap of a store: structures and arrays, exceptions, and the embedder's own references. Mark and sweep,
 * objects never move. Roots: the value stacks of both tiers (scanned conservatively: every slot that holds the address
 * of a live object keeps it), globals, tables and element segments whose type may hold such references, store->thrown,
 * references pinned by the embedder, and what heap_root names.
 *
 * Collection happens only inside heap_new_*. A reference that is nowhere but in a C variable is not seen: pin it, or
 * have it in a slot, before allocating.
 *
 * References in slots tell what they are by their lowest bits, null being 0:
 *   ..00  a structure or array (struct object *); in their own hierarchies functions and exceptions
 *   ...1  an i31: the number, shifted by one, its upper 32 bits zero
 *   ..10  the embedder's: externref, or anyref after any.convert_extern
 * so extern.convert_any and any.convert_extern change nothing, and a cast looks at no memory that is not an object. */
#ifndef DONJON_WASM_HEAP_H
#define DONJON_WASM_HEAP_H

#include "store.h"

struct exn {
    struct tag *tag;
    uint32_t n_slots;
    slot payload[]; /* the tag's parameters */
};

/* A structure or array. Its fields or elements lie where its type says (types.h: size, offsets). */
struct object {
    uint32_t type_id;
    uint32_t length; /* arrays; a structure may have its first field here */
    uint8_t elems[];
};

enum { REF_TAG_I31 = 1, REF_TAG_HOST = 2, REF_TAGS = 3 };
static inline bool ref_is_object(uint64_t ref) {
    return ref && !(ref & REF_TAGS);
}

struct heap *heap_new(struct store *s);
void heap_delete(struct heap *h); /* finalizes every host object */

/* A new exception, its payload zero; may collect first. NULL when store_limits.heap_bytes is used up by live objects.
 */
struct exn *heap_new_exn(struct heap *h, struct tag *tag);

/* A new structure or array of `size` bytes with its header, zero beyond the type; may collect first. NULL like above.
 */
struct object *heap_new_object(struct heap *h, uint32_t type_id, uint64_t size);

/* An object of the embedder that externref values may point at, zeroed; `size` at most HEAP_HOST_MAX. `finalize` is
 * called when it is found unreachable, and must not touch the store. Comes pinned once. */
#define HEAP_HOST_MAX 1024
void *heap_new_host(struct heap *h, size_t size, void (*finalize)(void *object));

/* Embedder references: counted. `object` must be live; the host's without their tag. */
void heap_pin(struct heap *h, void *object);
void heap_unpin(struct heap *h, void *object);

/* Slots that are roots from heap_root to heap_unroot, which come in pairs, the latest first. May change in between. */
struct heap_roots {
    const slot *begin;
    size_t n;
    struct heap_roots *outer;
};
void heap_root(struct heap *h, struct heap_roots *r);
void heap_unroot(struct heap *h, struct heap_roots *r);

uint64_t heap_bytes(const struct heap *h); /* of live objects and of those not collected yet */

#endif
