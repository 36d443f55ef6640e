/* What running a generated module (gen.h) shows, in a form that two engines can be compared by. */
#ifndef DONJON_FUZZ_OUTCOME_H
#define DONJON_FUZZ_OUTCOME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How a call ended. Traps that engines do not tell apart are one kind. */
enum outcome_kind {
    OUTCOME_VALUE, /* returned: value */
    OUTCOME_UNREACHABLE,
    OUTCOME_MEMORY, /* out of bounds */
    OUTCOME_DIV_ZERO,
    OUTCOME_OVERFLOW, /* also invalid conversion */
    OUTCOME_TABLE,    /* out of bounds, undefined element */
    OUTCOME_INDIRECT, /* null or wrong type */
    OUTCOME_NULL,     /* null reference */
    OUTCOME_STACK,    /* an engine's own limit: equal to everything, and nothing after it counts */
    OUTCOME_EXCEPTION,
    OUTCOME_INVALID, /* the module was refused */
    OUTCOME_OTHER
};

struct record {
    uint32_t kind, index; /* index: which export, memory, table */
    uint64_t value;
};

/* Records: every e export in order, g, then for every memory its pages and its hash, for every table size << 32 | which
 * of the first 32 elements are null. A refused module has one record. */
enum { RECORDS_MAX = 32 };
struct outcome {
    uint32_t n;
    struct record records[RECORDS_MAX];
    uint32_t where[RECORDS_MAX]; /* hashes of traps' backtraces; 0 where none is known */
    char error[256];             /* OUTCOME_INVALID, OUTCOME_OTHER */
};

/* Runs it in this process, as native code where the CPU has it or in the interpreter; or only says whether it is valid:
 * one record, OUTCOME_VALUE or OUTCOME_INVALID. */
void outcome_here(const uint8_t *module, size_t size, struct outcome *o);
void outcome_ahead(const uint8_t *module, size_t size, struct outcome *o); /* native, all compiled before it runs */
void outcome_interpreted(const uint8_t *module, size_t size, struct outcome *o);
void outcome_checked(const uint8_t *module, size_t size, struct outcome *o); /* native, without guard pages */
void outcome_mixed(const uint8_t *module, size_t size, struct outcome *o);   /* big functions interpreted */
/* Native, lazily and without guard pages: interrupted wherever that is possible, attended to and gone on with. */
void outcome_attended(const uint8_t *module, size_t size, struct outcome *o);
void outcome_attended_checked(const uint8_t *module, size_t size, struct outcome *o);
void outcome_here_valid(const uint8_t *module, size_t size, struct outcome *o);

/* The second engine: a Node process ($DONJON_NODE, else `node`), started on first use. False when there is none. */
bool node_start(unsigned *features); /* which of gen.h's it has */
bool outcome_node(const uint8_t *module, size_t size, struct outcome *o);
bool outcome_node_valid(const uint8_t *module, size_t size, struct outcome *o);

/* True when they agree; otherwise `text` says where they do not. */
bool outcome_compare(const struct outcome *a, const struct outcome *b, char *text, size_t size);

/* Words of 32 bits, little-endian: what both sides compute over a memory. */
static inline uint32_t outcome_hash(const uint8_t *p, size_t n) {
    uint32_t h = 0x811c9dc5u, w;
    for (size_t i = 0; i + 4 <= n; i += 4) {
        __builtin_memcpy(&w, p + i, 4);
        h = (h ^ w) * 0x01000193u;
        h ^= h >> 15;
    }
    return h;
}

#endif
