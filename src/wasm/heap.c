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

enum cell_kind { CELL_EXN, CELL_HOST, CELL_OBJECT, CELL_KINDS };

struct cell {
    uint32_t pins;
    uint32_t next_gray; /* marking: cell number + 1 of the next one whose references have to be followed */
    uint64_t object[];
};

struct host_object {
    void (*finalize)(void *);
    uint64_t body[];
};

/* What a block of the reservation is, kept apart from the blocks: what is in the middle of a big object may be
 * anything. */
enum block_state { BLOCK_FREE, BLOCK_CELLS, BLOCK_BIG, BLOCK_REST };

/* A block of cells; or, with the blocks that follow it, one big object, which is its only cell. */
struct block {
    uint32_t cell_size;  /* of a big object nothing */
    uint32_t reciprocal; /* 2^32 / cell_size, rounded up: (x * reciprocal) >> 32 is x / cell_size for x < BLOCK_SIZE */
    uint32_t n_cells;
    uint32_t n_blocks;
    enum cell_kind kind;
    uint32_t hint;      /* no free cell in words of `live` before this one */
    uint32_t n_pins;    /* in all cells */
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

static unsigned size_class(uint32_t size) {
    if (size <= CELL_MIN) return 0;
    unsigned log2 = 31 - (unsigned)__builtin_clz((size - 1) / CELL_MIN); /* size is above CELL_MIN << log2 */
    return 2 * log2 + (size <= (uint32_t)CELL_MIN / 2 * 3 << log2 ? 1 : 2);
}

/* Cells that are taken ahead, up to 64 of one word of a block's bitmap, where they count as live: so taking one is a
 * few instructions. A collection gives back what is left. */
struct run {
    uint64_t free; /* those still to be had */
    uint8_t *first;
    struct block *block;
    uint32_t word;
};

struct heap {
    struct store *store;
    uint8_t *base;
    uint8_t *states; /* enum block_state of each block */
    uint64_t reserved;
    uint32_t n_blocks, max_blocks;                  /* accessible, in the reservation */
    uint32_t first_free;                            /* blocks before this one are in use */
    struct block *lists[CELL_KINDS][SIZE_CLASSES];  /* all blocks of a kind and class */
    struct block *cursor[CELL_KINDS][SIZE_CLASSES]; /* blocks before this one are full */
    struct run runs[CELL_KINDS][SIZE_CLASSES];
    struct block *big;
    struct heap_roots *roots;
    uint64_t bytes, collect_at;
    uint64_t root_bytes; /* looked through by the collection under way */
    uint32_t gray;       /* head of the list of cells to be followed, cell number + 1 */
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
static uint32_t block_number(const struct heap *h, const struct block *b) {
    return (uint32_t)(((const uint8_t *)b - h->base) / BLOCK_SIZE);
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

/* Host objects are known by their body's address, all others by their own. */
static uint32_t body_offset(enum cell_kind kind) {
    return offsetof(struct cell, object) + (kind == CELL_HOST ? offsetof(struct host_object, body) : 0);
}

/* The block and cell index of what a word refers to; false when it is no live object's address. */
static bool locate(const struct heap *h, uintptr_t word, struct block **block, uint32_t *index) {
    uint64_t at = word - (uintptr_t)h->base;
    if (at >= (uint64_t)h->n_blocks * BLOCK_SIZE) return false;
    uint8_t state = h->states[at / BLOCK_SIZE];
    if (state != BLOCK_CELLS && state != BLOCK_BIG) return false;
    struct block *b = block_at(h, (uint32_t)(at / BLOCK_SIZE));
    uint32_t in_block = (uint32_t)(at % BLOCK_SIZE),
             first = (uint32_t)offsetof(struct block, cells) + body_offset(b->kind);
    if (in_block < first) return false;
    uint32_t n = (uint32_t)((uint64_t)(in_block - first) * b->reciprocal >> 32);
    if (in_block - first != n * b->cell_size) return false;
    *index = n;
    *block = b;
    return n < b->n_cells && bit(b->live, n);
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
        h->states = engine_realloc(h->store->engine, NULL, size / BLOCK_SIZE);
        if (h->states) {
            h->max_blocks = (uint32_t)(size / BLOCK_SIZE);
            return true;
        }
        p->release(p->ctx, h->base, size);
        h->base = NULL;
    }
    return false;
}

/* At least `n` blocks more. */
static bool heap_commit(struct heap *h, uint32_t n) {
    const struct donjon_platform *p = h->store->engine->platform;
    if (!h->base && !heap_reserve(h)) return false;
    if (n > h->max_blocks - h->n_blocks) return false;
    n = (n + COMMIT_BLOCKS - 1) / COMMIT_BLOCKS * COMMIT_BLOCKS; /* as are n_blocks and max_blocks */
    if (!p->protect(p->ctx, block_at(h, h->n_blocks), (size_t)n * BLOCK_SIZE, DONJON_PROT_READ | DONJON_PROT_WRITE))
        return false;
    memset(h->states + h->n_blocks, BLOCK_FREE, n);
    h->n_blocks += n;
    return true;
}

/* Takes `n` neighbouring blocks, whose first becomes `state`. NULL: there are none. */
static struct block *blocks_take(struct heap *h, uint32_t n, enum block_state state) {
    uint32_t run = 0, i = h->first_free;
    for (; i < h->n_blocks && run < n; i++)
        run = h->states[i] == BLOCK_FREE ? run + 1 : 0;
    if (run < n && !heap_commit(h, n - run)) return NULL;
    uint32_t first = i - run;
    if (n == 1 || first == h->first_free) h->first_free = first + n;
    memset(h->states + first, BLOCK_REST, n);
    h->states[first] = (uint8_t)state;
    struct block *b = memset(block_at(h, first), 0, sizeof *b);
    b->n_blocks = n;
    return b;
}

static void blocks_free(struct heap *h, const struct block *b) {
    uint32_t first = block_number(h, b);
    memset(h->states + first, BLOCK_FREE, b->n_blocks);
    if (first < h->first_free) h->first_free = first;
}

static struct block *block_new(struct heap *h, enum cell_kind kind, unsigned class) {
    struct block *b = blocks_take(h, 1, BLOCK_CELLS);
    if (!b) return NULL;
    b->cell_size = class_size(class);
    b->reciprocal = (uint32_t)(((1ull << 32) + b->cell_size - 1) / b->cell_size);
    b->n_cells = (BLOCK_SIZE - (uint32_t)sizeof *b) / b->cell_size;
    b->kind = kind;
    /* Behind the cursor's block, which is full: the next one to be used. */
    struct block **list = h->cursor[kind][class] ? &h->cursor[kind][class]->next : &h->lists[kind][class];
    b->next = *list;
    *list = b;
    return b;
}

static bool run_from(struct run *r, struct block *b) {
    for (; b->hint * 64 < b->n_cells; b->hint++) {
        const uint32_t rest = b->n_cells - b->hint * 64;
        const uint64_t free = ~b->live[b->hint] & (rest < 64 ? (1ull << rest) - 1 : ~0ull);
        if (!free) continue;
        *r = (struct run){free, (uint8_t *)cell_at(b, b->hint * 64), b, b->hint};
        b->live[b->hint++] |= free;
        return true;
    }
    return false;
}

static bool run_fill(struct heap *h, enum cell_kind kind, unsigned class) {
    struct run *r = &h->runs[kind][class];
    struct block **cursor = &h->cursor[kind][class];
    if (!*cursor) *cursor = h->lists[kind][class];
    bool found = false;
    while (*cursor && !(found = run_from(r, *cursor)) && (*cursor)->next)
        *cursor = (*cursor)->next;
    if (!found) {
        struct block *b = block_new(h, kind, class);
        if (!b) return false;
        *cursor = b;
        run_from(r, b);
    }
    h->bytes += (uint64_t)__builtin_popcountll(r->free) * class_size(class);
    return true;
}

static void runs_return(struct heap *h) {
    for (unsigned kind = 0; kind < CELL_KINDS; kind++)
        for (unsigned class = 0; class < SIZE_CLASSES; class ++) {
            struct run *r = &h->runs[kind][class];
            if (r->free) r->block->live[r->word] &= ~r->free;
            r->free = 0;
        }
}

static void heap_collect(struct heap *h);

/* A cell of the run that is known to have one, zero. */
static inline struct cell *run_take(struct run *r, unsigned class) {
    const uint32_t n = class_size(class);
    struct cell *c = (struct cell *)(r->first + (size_t)__builtin_ctzll(r->free) * n);
    r->free &= r->free - 1;
    uint64_t *p = (uint64_t *)c, *end = p + n / 8;
    for (; p < end; p += 2) /* a multiple of 16 */
        p[0] = p[1] = 0;
    return c;
}

static struct cell *big_take(struct heap *h, enum cell_kind kind, uint32_t n_blocks) {
    struct block *b = blocks_take(h, n_blocks, BLOCK_BIG);
    if (!b) return NULL;
    b->n_cells = 1;
    b->kind = kind;
    b->next = h->big;
    h->big = b;
    set_bit(b->live, 0);
    return cell_at(b, 0);
}

/* An object beyond CELL_MAX. */
static void *heap_take_big(struct heap *h, enum cell_kind kind, uint64_t size) {
    uint64_t whole = sizeof(struct block) + sizeof(struct cell) + size;
    if (size > h->store->limits.heap_bytes || whole > 64ull << 30) return NULL;
    uint32_t n = (uint32_t)((whole + BLOCK_SIZE - 1) / BLOCK_SIZE);
    if (h->bytes + whole > h->collect_at) heap_collect(h);
    struct cell *c = big_take(h, kind, n);
    if (!c) {
        heap_collect(h);
        c = big_take(h, kind, n);
    }
    if (!c) return NULL;
    h->bytes += (uint64_t)n * BLOCK_SIZE;
    memset(c, 0, sizeof *c + size);
    return c->object;
}

static __attribute__((noinline)) bool run_refill(struct heap *h, enum cell_kind kind, unsigned class) {
    if (h->bytes >= h->collect_at) heap_collect(h);
    if (run_fill(h, kind, class)) return true;
    heap_collect(h);
    return run_fill(h, kind, class);
}

static inline void *heap_take(struct heap *h, enum cell_kind kind, uint64_t size) {
    if (size > CELL_MAX - sizeof(struct cell)) return heap_take_big(h, kind, size);
    const unsigned class = size_class((uint32_t)(sizeof(struct cell) + size));
    struct run *r = &h->runs[kind][class];
    if (!r->free && !run_refill(h, kind, class)) return NULL;
    return run_take(r, class)->object;
}

struct exn *heap_new_exn(struct heap *h, struct tag *tag) {
    uint32_t n_slots = type_func(h->store->engine, tag->type_id)->param_slots;
    struct exn *x = heap_take(h, CELL_EXN, sizeof *x + n_slots * sizeof *x->payload);
    if (!x) return NULL;
    x->tag = tag;
    x->n_slots = n_slots;
    return x;
}

struct object *heap_new_object(struct heap *h, uint32_t type_id, uint64_t size) {
    struct object *o = heap_take(h, CELL_OBJECT, size);
    if (o) o->type_id = type_id;
    return o;
}

void *heap_new_host(struct heap *h, size_t size, void (*finalize)(void *)) {
    if (size > HEAP_HOST_MAX) return NULL;
    struct host_object *o = heap_take(h, CELL_HOST, sizeof *o + size);
    if (!o) return NULL;
    o->finalize = finalize;
    heap_pin(h, o->body);
    return o->body;
}

static void change_pins(struct heap *h, const void *body, uint32_t change) {
    struct block *b;
    uint32_t n;
    if (!locate(h, (uintptr_t)body, &b, &n)) return;
    cell_at(b, n)->pins += change;
    b->n_pins += change;
}

void heap_pin(struct heap *h, void *object) {
    change_pins(h, object, 1);
}
void heap_unpin(struct heap *h, void *object) {
    change_pins(h, object, UINT32_MAX);
}

void heap_root(struct heap *h, struct heap_roots *r) {
    r->outer = h->roots;
    h->roots = r;
}
void heap_unroot(struct heap *h, struct heap_roots *r) {
    h->roots = r->outer;
}

uint64_t heap_bytes(const struct heap *h) {
    return h->bytes;
}

/* ---- marking ---- */

/* A word that may be anything. What has references goes on the gray list, threaded through the cells: no stack to
 * overflow. */
static void mark_word(struct heap *h, uint64_t word) {
    struct block *b;
    uint32_t n;
    if (!locate(h, (uintptr_t)word & ~(uintptr_t)REF_TAG_HOST, &b, &n) || bit(b->marked, n)) return;
    set_bit(b->marked, n);
    if (b->kind == CELL_HOST) return;
    struct cell *c = cell_at(b, n);
    c->next_gray = h->gray;
    h->gray = cell_number(h, c) + 1;
}
static void mark(struct heap *h, const void *p) {
    mark_word(h, (uintptr_t)p);
}

static void mark_slots(struct heap *h, const slot *begin, const slot *end) {
    h->root_bytes += (uint64_t)(end - begin) * sizeof *begin;
    for (; begin < end; begin++)
        mark_word(h, begin->i64);
}

static void mark_at(struct heap *h, const uint8_t *p) {
    uint64_t word;
    memcpy(&word, p, sizeof word);
    mark_word(h, word);
}

static void mark_fields(struct heap *h, const struct object *o) {
    const struct deftype *d = type_get(h->store->engine, o->type_id);
    const uint8_t *p = (const uint8_t *)o;
    if (d->kind == COMP_STRUCT) {
        for (uint32_t n = 0; n < d->agg.n_refs; n++)
            mark_at(h, p + d->agg.refs[n]);
        return;
    }
    for (uint32_t n = 0; d->agg.n_refs && n < o->length; n++)
        mark_at(h, o->elems + 8 * (size_t)n);
}

static void mark_payload(struct heap *h, const struct exn *x) {
    const struct engine *e = h->store->engine;
    const struct functype *f = type_func(e, x->tag->type_id);
    const slot *at = x->payload;
    for (uint32_t n = 0; n < f->n_params; at += vt_slots(f->params[n]), n++)
        if (type_may_be_collected(e, f->params[n])) mark(h, at->ref);
}

static const struct block *block_of(const struct heap *h, const struct cell *c) {
    return block_at(h, (uint32_t)(((const uint8_t *)c - h->base) / BLOCK_SIZE));
}

static void mark_gray(struct heap *h) {
    while (h->gray) {
        struct cell *c = (struct cell *)(h->base + (uint64_t)(h->gray - 1) * 16);
        h->gray = c->next_gray;
        if (block_of(h, c)->kind == CELL_EXN)
            mark_payload(h, (const struct exn *)c->object);
        else
            mark_fields(h, (const struct object *)c->object);
    }
}

static void mark_pinned(struct heap *h) {
    for (uint32_t i = 0; i < h->n_blocks; i++) {
        if (h->states[i] != BLOCK_CELLS && h->states[i] != BLOCK_BIG) continue;
        struct block *b = block_at(h, i);
        for (uint32_t n = 0; b->n_pins && n < b->n_cells; n++)
            if (bit(b->live, n) && cell_at(b, n)->pins) mark(h, (uint8_t *)cell_at(b, n) + body_offset(b->kind));
    }
}

static void mark_segments(struct heap *h, const struct instance *i) {
    const struct module *m = i->module;
    for (uint32_t n = 0; i->elem_values && n < m->n_elems; n++)
        if (i->elem_values[n] && !i->elem_dropped[n] && type_may_be_collected(h->store->engine, m->elems[n].type))
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
    for (const struct heap_roots *r = h->roots; r; r = r->outer)
        mark_slots(h, r->begin, r->begin + r->n);
    h->root_bytes += o->ref_globals.n * sizeof(struct global);
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
        h->bytes += (uint64_t)live * (b->cell_size ? b->cell_size : (uint64_t)b->n_blocks * BLOCK_SIZE);
        if (live) {
            list = &b->next;
            continue;
        }
        *list = b->next;
        blocks_free(h, b);
    }
}

static void sweep(struct heap *h) {
    h->bytes = 0;
    memset(h->cursor, 0, sizeof h->cursor);
    for (unsigned kind = 0; kind < CELL_KINDS; kind++)
        for (unsigned class = 0; class < SIZE_CLASSES; class ++)
            sweep_list(h, &h->lists[kind][class]);
    sweep_list(h, &h->big);
    /* As much again as was looked at before the next one: the work of collecting stays proportional to that of
     * allocating. */
    uint64_t work = h->bytes + h->root_bytes;
    h->collect_at = h->bytes + (work < COLLECT_MIN ? COLLECT_MIN : work);
}

static void heap_collect(struct heap *h) {
    if (!h->n_blocks) return;
    h->root_bytes = 0;
    runs_return(h);
    mark_roots(h);
    mark_gray(h);
    sweep(h);
}

void heap_delete(struct heap *h) {
    const struct donjon_platform *p = h->store->engine->platform;
    runs_return(h);
    if (h->n_blocks) sweep(h); /* nothing is marked */
    if (h->base) p->release(p->ctx, h->base, h->reserved);
    engine_realloc(h->store->engine, h->states, 0);
    engine_realloc(h->store->engine, h, 0);
}
