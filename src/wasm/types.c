#include "types.h"
#include "donjon/platform.h"
#include "limits.h"
#include "store.h"
#include "text.h"

#include <stdatomic.h>
#include <string.h>

/* Types live in chunks of doubling size that never move, so that type_get needs no lock: chunk c holds the
 * FIRST_CHUNK << c types from FIRST_CHUNK * (2^c - 1) on. Their arrays lie in arena blocks. Groups are found by an open
 * hash table over their form with references into the group itself written as TYPE_REC | i. */
enum { FIRST_CHUNK_LOG2 = 6, CHUNKS = 21, ARENA_BLOCK = 1 << 14, FIRST_BUCKETS = 64 };

struct arena_block {
    struct arena_block *next;
    size_t used, size;
    _Alignas(8) uint8_t data[];
};

struct bucket {
    uint32_t hash;
    uint32_t first; /* id of the group's first type */
    uint32_t n;     /* types of the group; 0: free */
};

struct type_registry {
    atomic_flag lock;
    uint32_t n_types;
    struct deftype *chunks[CHUNKS];
    struct arena_block *arena;
    uint32_t n_groups, n_buckets; /* n_buckets is a power of two */
    struct bucket *buckets;
};

static struct deftype *slot_of(const struct type_registry *r, uint32_t id) {
    uint32_t k = (id >> FIRST_CHUNK_LOG2) + 1;
    unsigned c = 31 - (unsigned)__builtin_clz(k);
    return &r->chunks[c][id - (((1u << c) - 1) << FIRST_CHUNK_LOG2)];
}

const struct deftype *type_get(const struct engine *e, uint32_t id) {
    return slot_of(e->types, id);
}

struct type_registry *type_registry_new(const struct donjon_platform *p) {
    struct type_registry *r = p->realloc(p->ctx, NULL, sizeof *r);
    if (!r) return NULL;
    memset(r, 0, sizeof *r);
    atomic_flag_clear(&r->lock);
    r->n_buckets = FIRST_BUCKETS;
    r->buckets = p->realloc(p->ctx, NULL, FIRST_BUCKETS * sizeof *r->buckets);
    if (!r->buckets) {
        p->realloc(p->ctx, r, 0);
        return NULL;
    }
    memset(r->buckets, 0, FIRST_BUCKETS * sizeof *r->buckets);
    return r;
}

void type_registry_delete(const struct donjon_platform *p, struct type_registry *r) {
    if (!r) return;
    for (unsigned c = 0; c < CHUNKS; c++)
        if (r->chunks[c]) p->realloc(p->ctx, r->chunks[c], 0);
    for (struct arena_block *b = r->arena, *next; b; b = next) {
        next = b->next;
        p->realloc(p->ctx, b, 0);
    }
    p->realloc(p->ctx, r->buckets, 0);
    p->realloc(p->ctx, r, 0);
}

/* ---- Subtyping (section 3.3) ---- */

#define BIT(h) (1u << (h))
enum {
    BELOW_I31 = BIT(HEAP_NONE) | BIT(HEAP_BOT),
    BELOW_EQ = BELOW_I31 | BIT(HEAP_I31) | BIT(HEAP_STRUCT) | BIT(HEAP_ARRAY)
};

/* For an abstract heap type, the abstract ones below it (itself not counted). */
static const uint16_t below[HEAP_CONCRETE] = {
    [HEAP_FUNC] = BIT(HEAP_NOFUNC) | BIT(HEAP_BOT),
    [HEAP_NOFUNC] = BIT(HEAP_BOT),
    [HEAP_EXTERN] = BIT(HEAP_NOEXTERN) | BIT(HEAP_BOT),
    [HEAP_NOEXTERN] = BIT(HEAP_BOT),
    [HEAP_ANY] = BELOW_EQ | BIT(HEAP_EQ),
    [HEAP_EQ] = BELOW_EQ,
    [HEAP_I31] = BELOW_I31,
    [HEAP_STRUCT] = BELOW_I31,
    [HEAP_ARRAY] = BELOW_I31,
    [HEAP_NONE] = BIT(HEAP_BOT),
    [HEAP_EXN] = BIT(HEAP_NOEXN) | BIT(HEAP_BOT),
    [HEAP_NOEXN] = BIT(HEAP_BOT),
};

static bool id_matches(const struct type_registry *r, uint32_t sub, uint32_t super) {
    if (sub == super) return true;
    const struct deftype *s = slot_of(r, sub), *t = slot_of(r, super);
    if (s->depth <= t->depth) return false;
    for (uint32_t d = s->depth - t->depth; d; d--)
        s = slot_of(r, s->super);
    return s->id == super;
}

static bool heap_matches(const struct type_registry *r, uint32_t sub, uint32_t super) {
    if (sub == super) return true;
    if (sub < HEAP_CONCRETE && super < HEAP_CONCRETE) return (below[super] >> sub & 1) != 0;
    if (sub >= HEAP_CONCRETE && super >= HEAP_CONCRETE)
        return id_matches(r, sub - HEAP_CONCRETE, super - HEAP_CONCRETE);
    enum comptype_kind kind = slot_of(r, (sub >= HEAP_CONCRETE ? sub : super) - HEAP_CONCRETE)->kind;
    if (super >= HEAP_CONCRETE)
        return sub == HEAP_BOT || sub == (kind == COMP_FUNC ? (uint32_t)HEAP_NOFUNC : (uint32_t)HEAP_NONE);
    switch (kind) {
    case COMP_FUNC: return super == HEAP_FUNC;
    case COMP_STRUCT: return super == HEAP_STRUCT || super == HEAP_EQ || super == HEAP_ANY;
    case COMP_ARRAY: return super == HEAP_ARRAY || super == HEAP_EQ || super == HEAP_ANY;
    }
    return false;
}

static bool value_matches(const struct type_registry *r, valtype sub, valtype super) {
    if (sub == super || sub == VT_BOT) return true;
    if (!vt_is_ref(sub) || !vt_is_ref(super)) return false;
    if (vt_nullable(sub) && !vt_nullable(super)) return false;
    return heap_matches(r, vt_heap(sub), vt_heap(super));
}

bool type_matches(const struct engine *e, valtype sub, valtype super) {
    return value_matches(e->types, sub, super);
}
bool type_id_matches(const struct engine *e, uint32_t sub, uint32_t super) {
    return id_matches(e->types, sub, super);
}

static bool func_matches(const struct type_registry *r, const struct functype *sub, const struct functype *super) {
    if (sub->n_params != super->n_params || sub->n_results != super->n_results) return false;
    for (uint32_t i = 0; i < sub->n_params; i++)
        if (!value_matches(r, super->params[i], sub->params[i])) return false;
    for (uint32_t i = 0; i < sub->n_results; i++)
        if (!value_matches(r, sub->results[i], super->results[i])) return false;
    return true;
}

static bool field_matches(const struct type_registry *r, struct fieldtype sub, struct fieldtype super) {
    if (sub.mutable_ != super.mutable_) return false;
    return sub.mutable_ ? sub.type == super.type : value_matches(r, sub.type, super.type);
}

/* Whether a type may declare `super` as its supertype (section 3.3.8). */
static bool comptype_matches(const struct type_registry *r, const struct deftype *sub, const struct deftype *super) {
    if (sub->kind != super->kind) return false;
    if (sub->kind == COMP_FUNC) return func_matches(r, &sub->func, &super->func);
    if (sub->agg.n_fields < super->agg.n_fields) return false;
    for (uint32_t i = 0; i < super->agg.n_fields; i++)
        if (!field_matches(r, sub->agg.fields[i], super->agg.fields[i])) return false;
    return true;
}

/* ---- Interning ---- */

/* 2^64 / golden ratio; folding the 128-bit product lets every bit of a word reach every bit of the state. */
static uint64_t mix(uint64_t h, uint32_t x) {
    unsigned __int128 wide = (unsigned __int128)(h ^ x) * 0x9E3779B97F4A7C15u;
    return (uint64_t)wide ^ (uint64_t)(wide >> 64);
}

/* Starts from the registry's own address, so that a hostile module cannot aim at one bucket. */
static uint32_t hash_group(const struct type_registry *r, const struct rectype *types, uint32_t n) {
    uint64_t h = mix((uintptr_t)r, n);
    for (const struct rectype *t = types; t < types + n; t++) {
        h = mix(mix(h, (uint32_t)t->kind << 1 | t->final), t->super);
        if (t->kind == COMP_FUNC) {
            h = mix(mix(h, t->func.n_params), t->func.n_results);
            for (uint32_t i = 0; i < t->func.n_params; i++)
                h = mix(h, t->func.params[i]);
            for (uint32_t i = 0; i < t->func.n_results; i++)
                h = mix(h, t->func.results[i]);
            continue;
        }
        h = mix(h, t->agg.n_fields);
        for (uint32_t i = 0; i < t->agg.n_fields; i++)
            h = mix(h, t->agg.fields[i].type << 1 ^ t->agg.fields[i].mutable_);
    }
    return (uint32_t)(h ^ h >> 32);
}

/* A reference of a group that is being interned, as it reads when the group's first type has the id `first`. */
static uint32_t resolve_id(uint32_t id, uint32_t first) {
    return id != TYPE_NONE && (id & TYPE_REC) ? first + (id & ~TYPE_REC) : id;
}
static valtype resolve(valtype t, uint32_t first) {
    if (!vt_concrete(t)) return t;
    return VT_REF(vt_nullable(t), HEAP_CONCRETE + resolve_id(vt_type_id(t), first));
}

/* Equal to what a canonical group of n types from `first` on says? An outer reference to one of that group's types does
 * not equal the group's reference to itself: those are different types, though resolved they look alike. */
static bool same_id(uint32_t id, uint32_t canon, uint32_t first, uint32_t n) {
    if (id == TYPE_NONE || canon == TYPE_NONE) return id == canon;
    if (!(id & TYPE_REC) && id >= first && id - first < n) return false;
    return resolve_id(id, first) == canon;
}
static bool same_value(valtype t, valtype canon, uint32_t first, uint32_t n) {
    if (!vt_concrete(t) || !vt_concrete(canon)) return t == canon;
    return vt_nullable(t) == vt_nullable(canon) && same_id(vt_type_id(t), vt_type_id(canon), first, n);
}

static bool same_type(const struct rectype *t, const struct deftype *d, uint32_t first, uint32_t n) {
    if (t->kind != d->kind || t->final != d->final || !same_id(t->super, d->super, first, n)) return false;
    if (t->kind == COMP_FUNC) {
        if (t->func.n_params != d->func.n_params || t->func.n_results != d->func.n_results) return false;
        for (uint32_t i = 0; i < t->func.n_params; i++)
            if (!same_value(t->func.params[i], d->func.params[i], first, n)) return false;
        for (uint32_t i = 0; i < t->func.n_results; i++)
            if (!same_value(t->func.results[i], d->func.results[i], first, n)) return false;
        return true;
    }
    if (t->agg.n_fields != d->agg.n_fields) return false;
    for (uint32_t i = 0; i < t->agg.n_fields; i++) {
        struct fieldtype a = t->agg.fields[i], b = d->agg.fields[i];
        if (a.mutable_ != b.mutable_ || !same_value(a.type, b.type, first, n)) return false;
    }
    return true;
}

static struct bucket *find_group(struct type_registry *r, uint32_t hash, const struct rectype *types, uint32_t n) {
    for (uint32_t i = hash & (r->n_buckets - 1);; i = (i + 1) & (r->n_buckets - 1)) {
        struct bucket *b = &r->buckets[i];
        if (!b->n) return b;
        if (b->hash != hash || b->n != n) continue;
        uint32_t k = 0;
        while (k < n && same_type(&types[k], slot_of(r, b->first + k), b->first, n))
            k++;
        if (k == n) return b;
    }
}

/* Keeps the table at most half full: find_group always meets a free bucket. */
static bool grow_buckets(const struct donjon_platform *p, struct type_registry *r) {
    if (2 * (r->n_groups + 1) <= r->n_buckets) return true;
    uint32_t n = 2 * r->n_buckets;
    struct bucket *fresh = p->realloc(p->ctx, NULL, n * sizeof *fresh);
    if (!fresh) return false;
    memset(fresh, 0, n * sizeof *fresh);
    for (uint32_t k = 0; k < r->n_buckets; k++) {
        if (!r->buckets[k].n) continue;
        uint32_t i = r->buckets[k].hash & (n - 1);
        while (fresh[i].n)
            i = (i + 1) & (n - 1);
        fresh[i] = r->buckets[k];
    }
    p->realloc(p->ctx, r->buckets, 0);
    r->buckets = fresh;
    r->n_buckets = n;
    return true;
}

static bool grow_chunks(const struct donjon_platform *p, struct type_registry *r, uint32_t n_types) {
    for (unsigned c = 0; c < CHUNKS && ((1u << c) - 1) << FIRST_CHUNK_LOG2 < n_types; c++) {
        if (r->chunks[c]) continue;
        r->chunks[c] = p->realloc(p->ctx, NULL, ((size_t)1 << (c + FIRST_CHUNK_LOG2)) * sizeof(struct deftype));
        if (!r->chunks[c]) return false;
    }
    return true;
}

static void *arena_take(const struct donjon_platform *p, struct type_registry *r, size_t size) {
    size = (size + 7) & ~(size_t)7;
    if (!r->arena || r->arena->size - r->arena->used < size) {
        size_t room = size > ARENA_BLOCK ? size : ARENA_BLOCK;
        struct arena_block *b = p->realloc(p->ctx, NULL, sizeof *b + room);
        if (!b) return NULL;
        *b = (struct arena_block){.next = r->arena, .size = room};
        r->arena = b;
    }
    void *at = r->arena->data + r->arena->used;
    r->arena->used += size;
    return at;
}

static bool copy_func(const struct donjon_platform *p, struct type_registry *r, const struct rectype *t, uint32_t first,
                      struct functype *f) {
    valtype *types = arena_take(p, r, ((size_t)t->func.n_params + t->func.n_results) * sizeof *types);
    if (!types) return false;
    *f = (struct functype){.n_params = t->func.n_params, .n_results = t->func.n_results};
    f->params = types;
    f->results = types + f->n_params;
    for (uint32_t i = 0; i < f->n_params; i++) {
        types[i] = resolve(t->func.params[i], first);
        f->param_slots += vt_slots(types[i]);
    }
    for (uint32_t i = 0; i < f->n_results; i++) {
        types[f->n_params + i] = resolve(t->func.results[i], first);
        f->result_slots += vt_slots(types[f->n_params + i]);
    }
    return true;
}

/* Fields in their order, each at the next multiple of its size: so a subtype's layout extends its supertype's. */
static bool lay_out(const struct donjon_platform *p, struct type_registry *r, struct deftype *d) {
    const uint32_t n = d->agg.n_fields;
    if (d->kind == COMP_ARRAY) {
        d->agg.size = vt_size(d->agg.fields[0].type);
        d->agg.n_refs = vt_is_ref(d->agg.fields[0].type);
        return true;
    }
    uint32_t *offsets = arena_take(p, r, 2 * (size_t)n * sizeof *offsets), *refs = offsets + n, at = OBJECT_FIELDS;
    if (!offsets) return false;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t size = vt_size(d->agg.fields[i].type), align = size < 8 ? size : 8;
        at = (at + align - 1) & ~(align - 1);
        offsets[i] = at;
        if (vt_is_ref(d->agg.fields[i].type)) refs[d->agg.n_refs++] = at;
        at += size;
    }
    d->agg.size = at < OBJECT_ELEMS ? OBJECT_ELEMS : at;
    d->agg.offsets = offsets;
    d->agg.refs = refs;
    return true;
}

static bool copy_type(const struct donjon_platform *p, struct type_registry *r, const struct rectype *t, uint32_t first,
                      struct deftype *d) {
    d->super = resolve_id(t->super, first);
    d->final = t->final;
    d->kind = t->kind;
    if (t->kind == COMP_FUNC) return copy_func(p, r, t, first, &d->func);
    struct fieldtype *fields = arena_take(p, r, t->agg.n_fields * sizeof *fields);
    if (!fields) return false;
    d->defaultable = true;
    for (uint32_t i = 0; i < t->agg.n_fields; i++) {
        fields[i] = (struct fieldtype){resolve(t->agg.fields[i].type, first), t->agg.fields[i].mutable_};
        d->defaultable &= vt_defaultable(fields[i].type);
    }
    d->agg.n_fields = t->agg.n_fields;
    d->agg.fields = fields;
    return lay_out(p, r, d);
}

/* Declared supertypes come earlier, so a chain is complete when its end is looked at. */
static enum intern_status check_supertypes(struct type_registry *r, uint32_t first, uint32_t n, uint32_t *bad) {
    for (uint32_t i = 0; i < n; i++) {
        struct deftype *d = slot_of(r, first + i);
        d->depth = 0;
        if (d->super == TYPE_NONE) continue;
        *bad = i;
        d->depth = slot_of(r, d->super)->depth + 1;
        if (d->depth > MAX_SUBTYPE_DEPTH) return INTERN_DEPTH;
    }
    for (uint32_t i = 0; i < n; i++) {
        struct deftype *d = slot_of(r, first + i);
        if (d->super == TYPE_NONE) continue;
        *bad = i;
        if (slot_of(r, d->super)->final) return INTERN_FINAL;
        if (!comptype_matches(r, d, slot_of(r, d->super))) return INTERN_SUPER;
    }
    return INTERN_OK;
}

static enum intern_status intern_locked(const struct donjon_platform *p, struct type_registry *r,
                                        const struct rectype *types, uint32_t n, uint32_t *first, uint32_t *bad) {
    uint32_t hash = hash_group(r, types, n);
    struct bucket *b = find_group(r, hash, types, n);
    *first = b->first;
    if (b->n) return INTERN_OK;

    *first = r->n_types;
    if (n > TYPE_REC - r->n_types) return INTERN_FULL;
    if (!grow_buckets(p, r) || !grow_chunks(p, r, r->n_types + n)) return INTERN_MEMORY;
    struct arena_block *block = r->arena;
    size_t used = block ? block->used : 0;
    enum intern_status status = INTERN_OK;
    for (uint32_t i = 0; i < n && status == INTERN_OK; i++) {
        struct deftype *d = slot_of(r, *first + i);
        *d = (struct deftype){.id = *first + i, .group = *first};
        if (!copy_type(p, r, &types[i], *first, d)) status = INTERN_MEMORY;
    }
    if (status == INTERN_OK) status = check_supertypes(r, *first, n, bad);
    if (status != INTERN_OK) { /* nobody has seen these ids: take everything back */
        while (r->arena != block) {
            struct arena_block *next = r->arena->next;
            p->realloc(p->ctx, r->arena, 0);
            r->arena = next;
        }
        if (block) block->used = used;
        return status;
    }
    *find_group(r, hash, types, n) = (struct bucket){hash, *first, n};
    r->n_groups++;
    r->n_types += n;
    return INTERN_OK;
}

enum intern_status type_intern_group(struct engine *e, const struct rectype *types, uint32_t n, uint32_t *first,
                                     uint32_t *bad) {
    *first = TYPE_NONE;
    if (!n) return INTERN_OK;
    while (atomic_flag_test_and_set_explicit(&e->types->lock, memory_order_acquire)) {
    }
    enum intern_status status = intern_locked(e->platform, e->types, types, n, first, bad);
    atomic_flag_clear_explicit(&e->types->lock, memory_order_release);
    return status;
}

uint32_t type_intern_func(struct engine *e, const valtype *params, uint32_t n_params, const valtype *results,
                          uint32_t n_results) {
    struct rectype t = {.kind = COMP_FUNC, .final = true, .super = TYPE_NONE};
    t.func.n_params = n_params;
    t.func.n_results = n_results;
    t.func.params = params;
    t.func.results = results;
    uint32_t id, bad;
    return type_intern_group(e, &t, 1, &id, &bad) == INTERN_OK ? id : TYPE_NONE;
}

/* ---- Text ---- */

static const char *const heap_names[HEAP_CONCRETE] = {
    [HEAP_FUNC] = "func",   [HEAP_NOFUNC] = "nofunc", [HEAP_EXTERN] = "extern", [HEAP_NOEXTERN] = "noextern",
    [HEAP_ANY] = "any",     [HEAP_EQ] = "eq",         [HEAP_I31] = "i31",       [HEAP_STRUCT] = "struct",
    [HEAP_ARRAY] = "array", [HEAP_NONE] = "none",     [HEAP_EXN] = "exn",       [HEAP_NOEXN] = "noexn",
    [HEAP_BOT] = "bot",
};

void vt_print(valtype t, char out[32]) {
    static const char *const names[] = {[KIND_BOT] = "bot", [KIND_I32] = "i32", [KIND_I64] = "i64",
                                        [KIND_F32] = "f32", [KIND_F64] = "f64", [KIND_V128] = "v128"};
    struct text text = {.out = out, .size = 32};
    if (vt_kind(t) == KIND_PACKED) {
        text_format(&text, "%s", t == VT_I8 ? "i8" : "i16");
    } else if (!vt_is_ref(t)) {
        text_format(&text, "%s", names[vt_kind(t)]);
    } else if (vt_concrete(t)) {
        text_format(&text, vt_nullable(t) ? "(ref null %u)" : "(ref %u)", vt_type_id(t));
    } else {
        const char *heap = vt_heap(t) <= HEAP_BOT ? heap_names[vt_heap(t)] : "?";
        text_format(&text, vt_nullable(t) ? "(ref null %s)" : "(ref %s)", heap);
    }
}
