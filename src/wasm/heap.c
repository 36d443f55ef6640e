/* The collected heap. One reservation of address space is cut into blocks; a block holds cells of one size and kind, so
 * that any address can be tested for being an object's by arithmetic alone: what conservative roots need. */
#include "heap.h"
#include "interp.h"
#include "native/native.h"
#include "objects.h"

#include <string.h>

enum {
    BLOCK_SIZE = 32 << 10,
    CELL_MIN = 32,
    BLOCK_WORDS = BLOCK_SIZE / CELL_MIN / 64, /* of a bitmap with a bit a cell */
    COMMIT_BLOCKS = 8,                        /* made accessible at a time */
    COLLECT_MIN = 1 << 20                     /* bytes to allocate before a collection is worth while */
};

enum cell_kind { CELL_EXN, CELL_HOST, CELL_KINDS };

struct cell {
    uint32_t pins;
    uint32_t next_gray; /* marking: cell number + 1 of the next one whose references have to be followed */
    uint64_t object[];
};

struct host_object {
    void (*finalize)(void *);
    uint64_t body[];
};

struct block {
    uint32_t cell_size; /* 0: the block is free */
    uint32_t n_cells;
    enum cell_kind kind;
    uint32_t hint;      /* no free cell in words of `live` before this one */
    struct block *next; /* of its list */
    uint64_t live[BLOCK_WORDS], marked[BLOCK_WORDS];
    _Alignas(16) uint8_t cells[];
};

/* Cell sizes: CELL_MIN times 1, 1.5, 2, 3, 4, 6, ... The biggest exception has MAX_PARAMS v128s, 16 KiB. */
enum { SIZE_CLASSES = 20, CELL_MAX = CELL_MIN / 2 * 3 << (SIZE_CLASSES / 2 - 1) };
_Static_assert(CELL_MAX <= BLOCK_SIZE - sizeof(struct block), "a block has a cell");
_Static_assert(sizeof(struct cell) + sizeof(struct exn) + MAX_PARAMS * 16 <= CELL_MAX,
               "a cell has room for an exception");

static uint32_t class_size(unsigned class) {
    return (class & 1 ? (uint32_t)CELL_MIN / 2 * 3 : (uint32_t)CELL_MIN) << (class / 2);
}

struct heap {
    struct store *store;
    uint8_t *base;
    uint64_t reserved;
    uint32_t n_blocks, max_blocks; /* accessible, in the reservation */
    struct block *free;
    struct block *lists[CELL_KINDS][SIZE_CLASSES];  /* all blocks of a kind and class */
    struct block *cursor[CELL_KINDS][SIZE_CLASSES]; /* blocks before this one are full */
    uint64_t bytes, collect_at;
    uint32_t gray; /* head of the list of cells to be followed, cell number + 1 */
};

struct heap *heap_new(struct store *s) {
    struct heap *h = engine_realloc(s->engine, NULL, sizeof *h);
    if (h) *h = (struct heap){.store = s, .collect_at = COLLECT_MIN};
    return h;
}

/* ---- cells and blocks ---- */

static struct block *block_at(const struct heap *h, uint32_t n) {
    return (struct block *)(h->base + (uint64_t)n * BLOCK_SIZE);
}
static struct cell *cell_at(struct block *b, uint32_t n) {
    return (struct cell *)(b->cells + n * b->cell_size);
}

/* Unique over the heap, and small: cells start at multiples of 16. */
static uint32_t cell_number(const struct heap *h, const struct cell *c) {
    return (uint32_t)(((const uint8_t *)c - h->base) / 16);
}

static bool bit(const uint64_t *map, uint32_t n) {
    return map[n / 64] >> (n % 64) & 1;
}
static void set_bit(uint64_t *map, uint32_t n) {
    map[n / 64] |= 1ull << (n % 64);
}

/* The block and cell index of an object's address; false when there is no live object. */
static bool locate(const struct heap *h, uintptr_t address, struct block **block, uint32_t *index) {
    uint64_t at = address - (uintptr_t)h->base;
    if (at >= (uint64_t)h->n_blocks * BLOCK_SIZE) return false;
    struct block *b = block_at(h, (uint32_t)(at / BLOCK_SIZE));
    uint64_t in_block = at % BLOCK_SIZE, first = offsetof(struct block, cells) + offsetof(struct cell, object);
    if (!b->cell_size || in_block < first || (in_block - first) % b->cell_size) return false;
    *index = (uint32_t)((in_block - first) / b->cell_size);
    *block = b;
    return *index < b->n_cells && bit(b->live, *index);
}

/* Gray numbers are 32 bits of 16-byte units: 64 GiB. */
static bool heap_reserve(struct heap *h) {
    const struct donjon_platform *p = h->store->engine->platform;
    uint64_t size = h->store->limits.heap_bytes, most = 64ull << 30;
    if (size > most) size = most;
    size -= size % (COMMIT_BLOCKS * BLOCK_SIZE);
    if (!size) size = COMMIT_BLOCKS * BLOCK_SIZE;
    for (; size >= COMMIT_BLOCKS * BLOCK_SIZE; size = size / 2 - size / 2 % (COMMIT_BLOCKS * BLOCK_SIZE)) {
        h->base = p->reserve(p->ctx, size);
        if (!h->base) continue;
        h->reserved = size;
        h->max_blocks = (uint32_t)(size / BLOCK_SIZE);
        return true;
    }
    return false;
}

static bool heap_commit(struct heap *h) {
    const struct donjon_platform *p = h->store->engine->platform;
    if (!h->base && !heap_reserve(h)) return false;
    if (h->n_blocks + COMMIT_BLOCKS > h->max_blocks) return false;
    if (!p->protect(p->ctx, block_at(h, h->n_blocks), (size_t)COMMIT_BLOCKS * BLOCK_SIZE,
                    DONJON_PROT_READ | DONJON_PROT_WRITE))
        return false;
    for (uint32_t n = COMMIT_BLOCKS; n--;) {
        struct block *b = block_at(h, h->n_blocks + n);
        b->next = h->free;
        h->free = b;
    }
    h->n_blocks += COMMIT_BLOCKS;
    return true;
}

static struct block *block_new(struct heap *h, enum cell_kind kind, unsigned class) {
    if (!h->free && !heap_commit(h)) return NULL;
    struct block *b = h->free;
    h->free = b->next;
    memset(b, 0, sizeof *b);
    b->cell_size = class_size(class);
    b->n_cells = (BLOCK_SIZE - (uint32_t)sizeof *b) / b->cell_size;
    b->kind = kind;
    /* Behind the cursor's block, which is full: the next one to be used. */
    struct block **list = h->cursor[kind][class] ? &h->cursor[kind][class]->next : &h->lists[kind][class];
    b->next = *list;
    *list = b;
    return b;
}

static struct cell *block_take(struct block *b) {
    for (; b->hint < BLOCK_WORDS; b->hint++) {
        uint64_t free = ~b->live[b->hint];
        if (!free) continue;
        uint32_t n = b->hint * 64 + (uint32_t)__builtin_ctzll(free);
        if (n >= b->n_cells) break;
        set_bit(b->live, n);
        return cell_at(b, n);
    }
    return NULL;
}

static struct cell *cell_take(struct heap *h, enum cell_kind kind, unsigned class) {
    struct block **cursor = &h->cursor[kind][class];
    if (!*cursor) *cursor = h->lists[kind][class];
    while (*cursor) {
        struct cell *c = block_take(*cursor);
        if (c) return c;
        if (!(*cursor)->next) break;
        *cursor = (*cursor)->next;
    }
    struct block *b = block_new(h, kind, class);
    if (!b) return NULL;
    *cursor = b;
    return block_take(b);
}

static void heap_collect(struct heap *h);

static void *heap_take(struct heap *h, enum cell_kind kind, size_t size) {
    unsigned class = 0;
    while (class_size(class) < sizeof(struct cell) + size)
        class ++;
    if (h->bytes >= h->collect_at) heap_collect(h);
    struct cell *c = cell_take(h, kind, class);
    if (!c) {
        heap_collect(h);
        c = cell_take(h, kind, class);
    }
    if (!c) return NULL;
    h->bytes += class_size(class);
    memset(c, 0, class_size(class));
    return c->object;
}

struct exn *heap_new_exn(struct heap *h, struct tag *tag) {
    uint32_t n_slots = type_func(h->store->engine, tag->type_id)->param_slots;
    struct exn *x = heap_take(h, CELL_EXN, sizeof *x + n_slots * sizeof *x->payload);
    if (!x) return NULL;
    x->tag = tag;
    x->n_slots = n_slots;
    return x;
}

void *heap_new_host(struct heap *h, size_t size, void (*finalize)(void *)) {
    if (size > HEAP_HOST_MAX) return NULL;
    struct host_object *o = heap_take(h, CELL_HOST, sizeof *o + size);
    if (!o) return NULL;
    o->finalize = finalize;
    heap_pin(h, o->body);
    return o->body;
}

/* Host objects are known by their body's address, exceptions by their own. */
static void *body_of(const struct block *b, struct cell *c) {
    return b->kind == CELL_HOST ? ((struct host_object *)c->object)->body : (void *)c->object;
}

static bool locate_body(const struct heap *h, const void *body, struct block **b, uint32_t *index) {
    uintptr_t at = (uintptr_t)body;
    if (locate(h, at, b, index)) return (*b)->kind == CELL_EXN;
    return locate(h, at - offsetof(struct host_object, body), b, index) && (*b)->kind == CELL_HOST;
}

static struct cell *find_cell(const struct heap *h, const void *body) {
    struct block *b;
    uint32_t n;
    return locate_body(h, body, &b, &n) ? cell_at(b, n) : NULL;
}

void heap_pin(struct heap *h, void *object) {
    find_cell(h, object)->pins++;
}
void heap_unpin(struct heap *h, void *object) {
    find_cell(h, object)->pins--;
}
uint64_t heap_bytes(const struct heap *h) {
    return h->bytes;
}

/* ---- marking ---- */

/* `p` may be anything. Exceptions are put on the gray list, threaded through their cells: no stack to overflow. */
static void mark(struct heap *h, const void *p) {
    struct block *b;
    uint32_t n;
    if (!locate_body(h, p, &b, &n) || bit(b->marked, n)) return;
    set_bit(b->marked, n);
    if (b->kind != CELL_EXN) return;
    struct cell *c = cell_at(b, n);
    c->next_gray = h->gray;
    h->gray = cell_number(h, c) + 1;
}

static void mark_slots(struct heap *h, const slot *begin, const slot *end) {
    for (; begin < end; begin++)
        mark(h, begin->ref);
}

static void mark_payload(struct heap *h, const struct exn *x) {
    const struct engine *e = h->store->engine;
    const struct functype *f = type_func(e, x->tag->type_id);
    const slot *at = x->payload;
    for (uint32_t n = 0; n < f->n_params; at += vt_slots(f->params[n]), n++)
        if (type_may_be_collected(e, f->params[n])) mark(h, at->ref);
}

static void mark_gray(struct heap *h) {
    while (h->gray) {
        struct cell *c = (struct cell *)(h->base + (uint64_t)(h->gray - 1) * 16);
        h->gray = c->next_gray;
        mark_payload(h, (const struct exn *)c->object);
    }
}

static void mark_pinned(struct heap *h) {
    for (uint32_t i = 0; i < h->n_blocks; i++) {
        struct block *b = block_at(h, i);
        if (!b->cell_size) continue;
        for (uint32_t n = 0; n < b->n_cells; n++)
            if (bit(b->live, n) && cell_at(b, n)->pins) mark(h, body_of(b, cell_at(b, n)));
    }
}

static void mark_segments(struct heap *h, const struct instance *i) {
    const struct module *m = i->module;
    for (uint32_t n = 0; i->elem_values && n < m->n_elems; n++)
        if (i->elem_values[n] && type_may_be_collected(h->store->engine, m->elems[n].type))
            mark_slots(h, i->elem_values[n], i->elem_values[n] + m->elems[n].n_items);
}

static void mark_roots(struct heap *h) {
    const struct store *s = h->store;
    const struct store_objects *o = s->objects;
    const slot *begin, *end;
    interp_stack(s->interp, &begin, &end);
    mark_slots(h, begin, end);
    if (s->native) {
        native_stack(s->native, &begin, &end);
        mark_slots(h, begin, end);
    }
    mark(h, s->thrown);
    for (size_t n = 0; n < o->ref_globals.n; n++)
        mark(h, ((struct global *)o->ref_globals.items[n])->value[0].ref);
    for (size_t n = 0; n < o->tables.n; n++) {
        const struct table *t = o->tables.items[n];
        if (type_may_be_collected(s->engine, t->type.elem)) mark_slots(h, t->elems, t->elems + t->size);
    }
    for (size_t n = 0; n < o->instances.n; n++)
        mark_segments(h, o->instances.items[n]);
    mark_pinned(h);
}

/* ---- sweeping ---- */

static void finalize_dead(struct block *b) {
    for (uint32_t n = 0; n < b->n_cells; n++) {
        if (!bit(b->live, n) || bit(b->marked, n)) continue;
        struct host_object *o = (struct host_object *)cell_at(b, n)->object;
        if (o->finalize) o->finalize(o->body);
    }
}

/* Marked cells live on. Gives how many there are. */
static uint32_t sweep_block(struct block *b) {
    if (b->kind == CELL_HOST) finalize_dead(b);
    uint32_t live = 0;
    for (unsigned w = 0; w < BLOCK_WORDS; w++) {
        b->live[w] = b->marked[w];
        b->marked[w] = 0;
        live += (uint32_t)__builtin_popcountll(b->live[w]);
    }
    b->hint = 0;
    return live;
}

static void sweep_list(struct heap *h, struct block **list) {
    while (*list) {
        struct block *b = *list;
        uint32_t live = sweep_block(b);
        h->bytes += (uint64_t)live * b->cell_size;
        if (live) {
            list = &b->next;
            continue;
        }
        *list = b->next;
        b->cell_size = 0;
        b->next = h->free;
        h->free = b;
    }
}

static void sweep(struct heap *h) {
    h->bytes = 0;
    memset(h->cursor, 0, sizeof h->cursor);
    for (unsigned kind = 0; kind < CELL_KINDS; kind++)
        for (unsigned class = 0; class < SIZE_CLASSES; class ++)
            sweep_list(h, &h->lists[kind][class]);
    /* As much again as is live before the next one: the work of collecting stays proportional to that of allocating. */
    h->collect_at = h->bytes < COLLECT_MIN ? h->bytes + COLLECT_MIN : 2 * h->bytes;
}

static void heap_collect(struct heap *h) {
    if (!h->n_blocks) return;
    mark_roots(h);
    mark_gray(h);
    sweep(h);
}

void heap_delete(struct heap *h) {
    const struct donjon_platform *p = h->store->engine->platform;
    if (h->n_blocks) sweep(h); /* nothing is marked */
    if (h->base) p->release(p->ctx, h->base, h->reserved);
    engine_realloc(h->store->engine, h, 0);
}
