/* Tables (specification, section 4.2.7) and element segments. */
#include "objects.h"

#include <string.h>

static void fill(slot *at, slot value, uint64_t n) {
    for (uint64_t i = 0; i < n; i++)
        at[i] = value;
}

static uint64_t table_max_elems(const struct store *s, const struct limits *t) {
    uint64_t max = s->limits.table_elems;
    return t->has_max && t->max < max ? t->max : max;
}

struct table *table_new(struct store *s, const struct tabletype *t, slot init) {
    struct table *table = store_alloc(s, sizeof *table);
    if (!table) return NULL;
    table->type = *t;
    table->max = table_max_elems(s, &t->limits);
    table->type.limits.min = 0;
    if (table_grow(s, table, t->limits.min, init) != UINT64_MAX && object_list_add(s, &s->objects->tables, table))
        return table;
    table_free(s, table);
    return NULL;
}

void table_free(struct store *s, struct table *t) {
    engine_realloc(s->engine, t->elems, 0);
    s->objects->table_elems -= t->size;
    *t = (struct table){0};
}

static bool table_room(struct store *s, struct table *t, uint64_t size) {
    if (size <= t->capacity) return true;
    uint64_t capacity = t->capacity > t->max / 2 ? t->max : 2 * t->capacity;
    if (capacity < size) capacity = size;
    if (capacity > SIZE_MAX / sizeof *t->elems) return false;
    slot *elems = engine_realloc(s->engine, t->elems, capacity * sizeof *elems);
    if (!elems) return false;
    t->elems = elems;
    t->capacity = capacity;
    return true;
}

uint64_t table_grow(struct store *s, struct table *t, uint64_t delta, slot init) {
    uint64_t size = t->size;
    if (size > t->max || delta > t->max - size) return UINT64_MAX;
    if (delta > s->limits.table_elems - s->objects->table_elems) return UINT64_MAX;
    if (!table_room(s, t, size + delta)) return UINT64_MAX;
    fill(t->elems + size, init, delta);
    t->size += delta;
    t->type.limits.min = t->size;
    s->objects->table_elems += delta;
    return size;
}

static bool evaluate_items(struct instance *i, const struct elem_segment *e, slot *to) {
    const uint8_t *p = i->module->data + e->items;
    for (uint32_t n = 0; n < e->n_items; n++) {
        slot value[2];
        if (!e->as_exprs)
            value[0].func = i->funcs[leb_u32(&p)];
        else if (!constexpr_eval(i, &p, value))
            return false;
        to[n] = value[0];
    }
    return true;
}

const slot *elem_segment_values(struct instance *i, uint32_t elem) {
    if (i->elem_values[elem]) return i->elem_values[elem];
    const struct elem_segment *e = &i->module->elems[elem];
    slot *values = store_alloc(i->store, (size_t)e->n_items * sizeof *values);
    if (!values) return NULL;
    i->elem_values[elem] = values; /* before its items are there: a collection while they are made looks at it */
    if (evaluate_items(i, e, values)) return values;
    return i->elem_values[elem] = NULL;
}

enum trap_kind table_init_active(struct instance *i, uint32_t elem, struct table *t, uint64_t dst) {
    const struct elem_segment *e = &i->module->elems[elem];
    if (e->n_items > t->size || dst > t->size - e->n_items) return TRAP_TABLE;
    return evaluate_items(i, e, t->elems + dst) ? TRAP_NONE : TRAP_OUT_OF_MEMORY;
}

enum trap_kind table_init(struct instance *i, uint32_t elem, struct table *t, uint64_t dst, uint64_t src, uint64_t n) {
    uint64_t size = i->elem_dropped[elem] ? 0 : i->module->elems[elem].n_items;
    if (n > size || src > size - n || n > t->size || dst > t->size - n) return TRAP_TABLE;
    if (!n) return TRAP_NONE;
    const slot *values = elem_segment_values(i, elem);
    if (!values) return TRAP_OUT_OF_MEMORY;
    memcpy(t->elems + dst, values + src, n * sizeof *values);
    return TRAP_NONE;
}

enum trap_kind table_copy(struct table *dst, struct table *src, uint64_t d, uint64_t s, uint64_t n) {
    if (n > src->size || s > src->size - n || n > dst->size || d > dst->size - n) return TRAP_TABLE;
    if (n) memmove(dst->elems + d, src->elems + s, n * sizeof *dst->elems);
    return TRAP_NONE;
}

enum trap_kind table_fill(struct table *t, uint64_t at, slot value, uint64_t n) {
    if (n > t->size || at > t->size - n) return TRAP_TABLE;
    fill(t->elems + at, value, n);
    return TRAP_NONE;
}
