/* The translator's inside, for its parts (translate.c; translate_simd.c for vector instructions).
 *
 * A body is read once. The operand stack exists only here: an entry says where its value is, and code is emitted when an
 * instruction needs it. Every entry has a home, the slot that belongs to its depth; at joins of control flow values are
 * in their homes. */
#ifndef DONJON_WASM_INTERP_TRANSLATE_H
#define DONJON_WASM_INTERP_TRANSLATE_H

#include "../opcodes.h"
#include "state.h"

enum where {
    IN_HOME,  /* in its own slot */
    IN_LOCAL, /* the value that the local in `slot` has */
    IN_CONST, /* `bits`, not yet in any slot */
};
struct entry {
    uint8_t where;
    uint8_t kind;  /* enum valkind */
    uint16_t slot; /* IN_HOME, IN_LOCAL */
    uint16_t home;
    uint64_t bits;
};

/* What an accumulator holds: the value of a slot, made by the instruction at word `at`. */
struct accumulator {
    uint32_t slot; /* ACC_EMPTY: nothing known */
    uint32_t at;
    uint32_t op;
};
#define ACC_EMPTY UINT32_MAX

struct translator {
    struct func *func;
    struct instance *instance;
    const struct module *module;
    const uint8_t *p; /* next instruction */
    uint32_t offset;  /* of the current instruction, in the module's bytes */

    word *code;
    uint32_t n, capacity; /* words */
    uint32_t last;        /* word of the latest instruction, UINT32_MAX after a label */
    uint32_t last_op;

    struct entry *stack;
    uint32_t depth, stack_capacity;
    uint32_t height;     /* slots in use: locals and homes */
    uint32_t max_height;

    struct accumulator acc, facc, dacc;
    struct control *controls;
    uint32_t n_controls, controls_capacity;
    struct catch_entry *catches;
    uint32_t n_catches, catches_capacity;

    const uint16_t *local_slots; /* local index -> slot */
    const uint8_t *local_kinds;
    uint32_t n_locals, local_height;
    uint32_t *local_refs; /* entries IN_LOCAL, by slot */

    uint32_t fuel_at;    /* word of the open basic block's fuel instruction, UINT32_MAX without */
    uint32_t *map;       /* recording: word -> offset + 1 */
    enum trap_kind error;
    const char *message;
};

/* Emission. Words are zero beyond what is given. */
uint32_t emit(struct translator *t, uint32_t op, uint32_t operand_words);
static inline uint32_t emit4(struct translator *t, uint32_t op, uint16_t a, uint16_t b, uint16_t c, uint16_t d, uint32_t words) {
    uint32_t at = emit(t, op, words);
    t->code[at + 1].s[0] = a, t->code[at + 1].s[1] = b, t->code[at + 1].s[2] = c, t->code[at + 1].s[3] = d;
    return at;
}

/* Operands, from the top of the stack down. */
struct entry pop(struct translator *t);
uint16_t pop_slot(struct translator *t);                  /* in some slot (v128: the first of two), wherever it was */
struct entry *push(struct translator *t, uint8_t kind);   /* a value that the next instruction puts into its home */

/* Pushes a result of the instruction at `at` (operand s[0] is its destination, in an OPF_TWIN instruction also the
 * accumulator of its kind). */
void push_result(struct translator *t, uint32_t at, uint32_t op, uint8_t kind);

/* The accumulators' contents are lost. */
void forget(struct translator *t);

/* A memory access' immediates. */
struct memarg {
    struct memory *memory;
    uint64_t offset;
    bool near_; /* memory 0 of the instance with 32-bit addresses: MEM32 will do, if offset < 2^32 (always so) */
    bool is64;
};
struct memarg read_memarg(struct translator *t);

/* Translates one instruction of the FD space; `op` is OP_*. */
void translate_simd(struct translator *t, uint32_t op);

#endif
