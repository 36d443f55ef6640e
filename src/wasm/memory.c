/* Linear memories (specification, section 4.2.8): a reservation of address space of which the front is accessible. */
#include "objects.h"

#include <string.h>

/* A 32-bit access reaches base + index + offset, both below 4 GiB, plus at most 16 bytes: with so much inaccessible
 * address space behind base, native code needs no bounds check. */
#define MEMORY32_RESERVE (8ull << 30)
#define MEMORY_GUARD     (64ull << 10)

static uint64_t memory_max_pages(const struct store *s, const struct limits *t) {
    uint64_t max = s->limits.memory_bytes / PAGE_SIZE;
    if (!t->is64 && max > MAX_PAGES32) max = MAX_PAGES32;
    return t->has_max && t->max < max ? t->max : max;
}

static bool reserve(struct store *s, struct memory *m, uint64_t size) {
    const struct donjon_platform *p = s->engine->platform;
    m->base = p->reserve(p->ctx, size + MEMORY_GUARD);
    m->reserved = m->base ? size + MEMORY_GUARD : 0;
    return m->base;
}

/* An address space that has no room for all that a memory might become may still have some for what it is. */
static bool memory_reserve(struct store *s, struct memory *m) {
    uint64_t least = m->type.min * PAGE_SIZE, most = m->max * PAGE_SIZE;
    if (!m->type.is64 && reserve(s, m, MEMORY32_RESERVE)) return true;
    for (uint64_t size = most; size > least; size /= 2)
        if (reserve(s, m, size)) return true;
    return reserve(s, m, least);
}

struct memory *memory_new(struct store *s, const struct limits *t) {
    struct memory *m = store_alloc(s, sizeof *m);
    if (!m) return NULL;
    m->type = *t;
    m->max = memory_max_pages(s, t);
    if (t->min > m->max || !memory_reserve(s, m)) return NULL;
    m->type.min = 0;
    if (memory_grow(s, m, t->min) != UINT64_MAX && object_list_add(s, &s->objects->memories, m)) return m;
    memory_free(s, m);
    return NULL;
}

void memory_free(struct store *s, struct memory *m) {
    const struct donjon_platform *p = s->engine->platform;
    if (m->base) p->release(p->ctx, m->base, m->reserved);
    s->objects->memory_bytes -= m->size;
    *m = (struct memory){0};
}

uint64_t memory_grow(struct store *s, struct memory *m, uint64_t delta_pages) {
    const struct donjon_platform *p = s->engine->platform;
    uint64_t pages = m->size / PAGE_SIZE;
    if (delta_pages > m->max - pages) return UINT64_MAX;
    if (!delta_pages) return pages;
    uint64_t delta = delta_pages * PAGE_SIZE;
    if (delta > s->limits.memory_bytes - s->objects->memory_bytes) return UINT64_MAX;
    if (m->size + delta + MEMORY_GUARD > m->reserved) return UINT64_MAX;
    if (!p->protect(p->ctx, m->base + m->size, delta, DONJON_PROT_READ | DONJON_PROT_WRITE)) return UINT64_MAX;
    m->size += delta;
    m->type.min = pages + delta_pages;
    s->objects->memory_bytes += delta;
    return pages;
}

enum trap_kind memory_init(struct instance *i, uint32_t data, struct memory *m, uint64_t dst, uint64_t src,
                           uint64_t n) {
    const struct data_segment *d = &i->module->datas[data];
    uint64_t size = i->data_dropped[data] ? 0 : d->size;
    if (n > size || src > size - n || n > m->size || dst > m->size - n) return TRAP_MEMORY;
    if (n) memcpy(m->base + dst, i->module->data + d->data + src, n);
    return TRAP_NONE;
}
