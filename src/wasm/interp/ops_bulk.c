/* Instructions on whole memories and tables: rare enough that their operands are always in slots.
 *
 * Operand word pc[1]: up to three slots, and in s[3] flags: bit n set when operand n is a 64-bit address or count. */
#include "state.h"
#include "../limits.h"

#define OPERAND(n) ((pc[1].s[3] >> (n)) & 1 ? S64(n) : (uint64_t)S32(n))

/* Is [at, at + n) inside of `size`? */
static inline bool inside(uint64_t at, uint64_t n, uint64_t size) {
    return n <= size && at <= size - n;
}

#define CHECK(kind)                                                                                                    \
    do {                                                                                                               \
        const enum trap_kind k = (kind);                                                                               \
        if (UNLIKELY(k != TRAP_NONE)) {                                                                                \
            ctx->trap_pc = pc;                                                                                         \
            return k;                                                                                                  \
        }                                                                                                              \
    } while (0)

__attribute__((noinline)) enum trap_kind interp_charge(struct interp *ctx, uint64_t bytes) {
    struct store *s = ctx->store;
    const uint64_t fuel = bytes / BULK_BYTES_PER_FUEL, ticks = bytes / BULK_BYTES_PER_TICK;
    if (s->limits.fuel_enabled && s->fuel < fuel) {
        s->fuel = 0;
        return TRAP_FUEL;
    }
    if (s->limits.fuel_enabled) s->fuel -= fuel;
    if ((uint64_t)ctx->ticks <= ticks) return interp_interrupted(ctx);
    ctx->ticks -= (int32_t)ticks;
    return TRAP_NONE;
}
#define CHARGE(bytes)                                                                                                  \
    do {                                                                                                               \
        const uint64_t b = (bytes);                                                                                    \
        if (b >= BULK_FREE) CHECK(interp_charge(ctx, b));                                                              \
    } while (0)

/* ---- Memories ---- */

OP(memory_size) { /* [to][memory] */
    SET(0, pc[2].memory->size >> 16);
    NEXT(3);
}

static __attribute__((noinline)) uint64_t grow_memory(struct interp *ctx, struct memory *m, uint64_t delta) {
    return memory_grow(ctx->store, m, delta);
}
OP(memory_grow) { /* [to delta - is64][memory][is memory 0] */
    struct memory *m = pc[2].memory;
    const bool is64 = pc[1].s[3] & 2;
    const uint64_t old = grow_memory(ctx, m, OPERAND(1));
    SET(0, is64 ? old : (uint32_t)old);
    if (pc[3].u64) {
        mem = m->base;
        mem_size = m->size;
    }
    NEXT(4);
}

static __attribute__((noinline)) enum trap_kind fill_memory(struct memory *m, uint64_t at, uint32_t value, uint64_t n) {
    if (!inside(at, n, m->size)) return TRAP_MEMORY;
    if (n) __builtin_memset(m->base + at, (uint8_t)value, n);
    return TRAP_NONE;
}
OP(memory_fill) { /* [at value n][memory] */
    CHECK(fill_memory(pc[2].memory, OPERAND(0), S32(1), OPERAND(2)));
    CHARGE(OPERAND(2));
    NEXT(3);
}

static __attribute__((noinline)) enum trap_kind copy_memory(struct memory *to, struct memory *from, uint64_t d,
                                                            uint64_t s, uint64_t n) {
    if (!inside(d, n, to->size) || !inside(s, n, from->size)) return TRAP_MEMORY;
    if (n) __builtin_memmove(to->base + d, from->base + s, n);
    return TRAP_NONE;
}
OP(memory_copy) { /* [to from n][to][from] */
    CHECK(copy_memory(pc[2].memory, pc[3].memory, OPERAND(0), OPERAND(1), OPERAND(2)));
    CHARGE(OPERAND(2));
    NEXT(4);
}

OP(memory_init) { /* [to from n][memory][instance][segment] */
    CHECK(memory_init(pc[3].instance, pc[4].u[0], pc[2].memory, OPERAND(0), S32(1), S32(2)));
    CHARGE(S32(2));
    NEXT(5);
}

OP(data_drop) { /* [segment][instance] */
    pc[2].instance->data_dropped[pc[1].u[0]] = true;
    NEXT(3);
}

/* ---- Tables ---- */

OP(table_get) { /* [to index][table] */
    const struct table *t = pc[2].table;
    const uint64_t index = OPERAND(1);
    TRAP_IF(index >= t->size, table);
    SET(0, t->elems[index].i64);
    NEXT(3);
}

OP(table_set) { /* [index value][table] */
    struct table *t = pc[2].table;
    const uint64_t index = OPERAND(0);
    TRAP_IF(index >= t->size, table);
    t->elems[index].i64 = S64(1);
    NEXT(3);
}

OP(table_size) { /* [to][table] */
    SET(0, pc[2].table->size);
    NEXT(3);
}

OP(table_grow) { /* [to value delta][table] */
    const bool is64 = pc[1].s[3] & 4;
    const uint64_t old = table_grow(ctx->store, pc[2].table, OPERAND(2), (slot){.i64 = S64(1)});
    if (old != UINT64_MAX) CHARGE(OPERAND(2) * sizeof(slot));
    SET(0, is64 ? old : (uint32_t)old);
    NEXT(3);
}

OP(table_fill) { /* [at value n][table] */
    CHECK(table_fill(pc[2].table, OPERAND(0), (slot){.i64 = S64(1)}, OPERAND(2)));
    CHARGE(OPERAND(2) * sizeof(slot));
    NEXT(3);
}

OP(table_copy) { /* [to from n][to][from] */
    CHECK(table_copy(pc[2].table, pc[3].table, OPERAND(0), OPERAND(1), OPERAND(2)));
    CHARGE(OPERAND(2) * sizeof(slot));
    NEXT(4);
}

OP(table_init) { /* [to from n][table][instance][segment] */
    CHECK(table_init(pc[3].instance, pc[4].u[0], pc[2].table, OPERAND(0), S32(1), S32(2)));
    CHARGE((uint64_t)S32(2) * sizeof(slot));
    NEXT(5);
}

OP(elem_drop) { /* [segment][instance] */
    pc[2].instance->elem_dropped[pc[1].u[0]] = true;
    NEXT(3);
}
