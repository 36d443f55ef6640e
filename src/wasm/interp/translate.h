/* The translator's inside, for its parts (translate.c; translate_simd.c for vector instructions).
 *
 * A body is read once. The operand stack exists only here: an entry says where its value is, and code is emitted when
 * an instruction needs it. Every entry has a home, the slot that belongs to its depth; at joins of control flow values
 * are in their homes. */
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
    uint32_t plus; /* IN_HOME, IN_LOCAL, i32 only: the value is what the slot has and this, modulo 2^32 */
    uint64_t bits;
};

/* What an accumulator holds: the value of a slot, made by the instruction at word `at`. */
struct accumulator {
    uint32_t slot; /* ACC_EMPTY: nothing known */
    uint32_t at;
    uint32_t op; /* its number while the store may still be dropped, else IOP_COUNT */
};
#define ACC_EMPTY UINT32_MAX

struct control {
    uint8_t kind;           /* enum control_kind */
    bool dead;              /* the rest of this block cannot be reached */
    bool own_type;          /* type is buf's */
    uint32_t depth, height; /* of the stack below the parameters */
    const struct functype *type;
    struct blocktype_buf buf;
    uint32_t assignments;   /* how many had been made at its begin */
    uint32_t start;         /* word where the body begins */
    uint32_t fixups;        /* chain of words that jump to the end: each has the next one's number for its distance */
    uint32_t else_fixups;   /* IF: the same to the else */
    uint32_t table, stub;   /* for br_table's use: first word of the last one that jumps here, and the jump for it */
    uint32_t try_end;       /* CATCH: word where the try's body ended */
    const uint8_t *clauses; /* TRY_TABLE: its catch clauses in the module's bytes */
};
enum control_kind {
    CONTROL_FUNC,
    CONTROL_BLOCK,
    CONTROL_LOOP,
    CONTROL_IF,
    CONTROL_ELSE,
    CONTROL_TRY,
    CONTROL_CATCH,
    CONTROL_TRY_TABLE
};
#define NO_WORD UINT32_MAX

struct translator {
    struct func *func;
    struct instance *instance;
    const struct module *module;
    const struct donjon_platform *platform;
    const uint8_t *p; /* next byte */
    uint32_t offset;  /* of the current instruction, in the module's bytes */

    word *code;
    uint32_t n, capacity; /* words */
    uint32_t last;        /* word of the latest instruction, NO_WORD after a label */
    uint32_t last_op;
    uint32_t prev, prev_op; /* the one before, NO_WORD if a label is between them */
    uint32_t result_at;     /* word of the instruction that made the topmost entry, if that has a destination */

    struct entry *stack;
    uint32_t depth, stack_capacity;
    uint32_t height; /* slots in use: locals and homes */
    uint32_t max_height;
    struct entry dummy;

    struct accumulator acc, facc, dacc;
    struct control *controls;
    uint32_t n_controls, controls_capacity;
    struct catch_entry *catches;
    uint32_t n_catches, catches_capacity;

    uint32_t n_locals, local_slots; /* slots that the locals take */
    uint32_t n_local_refs;          /* entries that are IN_LOCAL */
    uint32_t settled;               /* none of them is below this depth */
    struct local {
        uint16_t slot;
        uint8_t kind;
    } * locals;
    uint32_t *local_refs; /* entries IN_LOCAL, by slot */

    /* Which locals have surely been assigned on every way here; others that are read must start as zero. */
    bool *assigned;
    uint32_t *assignments; /* in order, to forget those that were made on one of several ways */
    uint32_t n_assignments, assignments_capacity;
    uint32_t zero_begin, zero_end; /* slots to be zeroed at the start */

    bool fuel;
    uint32_t fuel_at; /* word of the open basic block's fuel instruction, NO_WORD without */
    uint32_t *map;    /* when recording: word -> offset + 1 of the instruction that begins there */
    bool recording;
    enum trap_kind error;
    const char *message;
};

/* Notes a failure; the driver stops after this instruction. */
void fail(struct translator *t, enum trap_kind kind, const char *message);
/* Makes room for one more element; false after fail(). */
bool grow_array(struct translator *t, void **array, uint32_t used, uint32_t *capacity, size_t element);

/* ---- Emission (translate_stack.c) ---- */

/* Appends an instruction with `operand_words` zero words behind it; its word number. */
uint32_t emit(struct translator *t, uint32_t op, uint32_t operand_words);
static inline uint32_t emit4(struct translator *t, uint32_t op, uint32_t a, uint32_t b, uint32_t c, uint32_t d,
                             uint32_t words) {
    uint32_t at = emit(t, op, words);
    t->code[at + 1].s[0] = (uint16_t)a, t->code[at + 1].s[1] = (uint16_t)b;
    t->code[at + 1].s[2] = (uint16_t)c, t->code[at + 1].s[3] = (uint16_t)d;
    return at;
}
/* [a b imm32] */
static inline uint32_t emit_imm(struct translator *t, uint32_t op, uint32_t a, uint32_t b, int64_t imm,
                                uint32_t words) {
    uint32_t at = emit4(t, op, a, b, 0, 0, words);
    t->code[at + 1].i[1] = (int32_t)imm;
    return at;
}
/* The latest instruction becomes another one of the same layout. */
void replace_last(struct translator *t, uint32_t op);
/* Removes the latest instruction, whose result has been popped. */
void take_back_last(struct translator *t);
/* Here is a place that is jumped to: accumulators unknown. */
void label_here(struct translator *t);
void resolve(struct translator *t, uint32_t fixups); /* the chain's jumps go here; a label if there are any */

/* ---- The operand stack (translate_stack.c) ---- */

struct entry pop(struct translator *t);
/* The popped entry's slot (v128: first of two); constants and sums are put into their home. */
uint16_t to_slot(struct translator *t, struct entry e);
/* The popped entry as an operand that is in a slot and perhaps in an accumulator: constants and sums are computed. */
struct entry operand(struct translator *t, struct entry e);
/* Can the operand be an immediate of 32 bits? (Float operands have a word for theirs.) */
bool immediate(struct entry e);
static inline uint16_t pop_slot(struct translator *t) {
    return to_slot(t, pop(t));
}
void push_const(struct translator *t, uint8_t kind, uint64_t bits);
void push_local(struct translator *t, uint32_t local);
void push_home(struct translator *t, uint8_t kind);    /* a value that is or will be in its home */
void push_entry(struct translator *t, struct entry e); /* a popped entry again, at the same depth */

/* Pushes the result of the instruction at `at`, whose operand s[0] becomes its destination (which is filled in here).
 * An OPF_TWIN instruction leaves it in the accumulator of its kind too. */
void push_result(struct translator *t, uint32_t at, uint32_t op, uint8_t kind);

/* Value of the n-th entry (from the bottom) to its home. */
void settle(struct translator *t, uint32_t n);
void settle_top(struct translator *t, uint32_t count);
void settle_locals(struct translator *t, uint32_t below); /* those IN_LOCAL at depths < below */
void local_assigned(struct translator *t, uint32_t local);
void forget_assignments(struct translator *t, uint32_t n); /* but the first n */
void settle_refs_to(struct translator *t, uint16_t slot);  /* those IN_LOCAL there: the local is about to change */
/* Moves a value to any slot. */
void move_to(struct translator *t, struct entry e, uint16_t slot);

/* ---- Accumulators (translate_stack.c) ---- */

struct accumulator *accumulator_of(struct translator *t, uint8_t kind); /* NULL for v128 */
bool in_accumulator(struct translator *t, struct entry e);
/* A popped entry is about to be taken from its accumulator: its store is dropped if nothing else needs it. */
void take_accumulator(struct translator *t, struct entry e);
void pin(struct translator *t);    /* what is in accumulators now must stay in its slots too */
void forget(struct translator *t); /* accumulators' contents are lost */
void overwritten(struct translator *t, uint32_t slot);

/* ---- Instructions by group ---- */

/* A memory access' immediates. */
struct memarg {
    struct memory *memory;
    uint64_t offset;
    uint64_t least; /* bytes it has always */
    bool near_;     /* memory 0 with 32-bit addresses: MEM32 will do */
    bool is64;
};
struct memarg read_memarg(struct translator *t);

void translate_plain(struct translator *t, uint32_t op); /* all that is not control flow; translate_plain.c */
void translate_simd(struct translator *t, uint32_t op);  /* the FD space; translate_simd.c */
void translate_gc(struct translator *t, uint32_t op);    /* the FB space; translate_gc.c */
/* OP_REF_TEST, ...CAST_NULL of the topmost entry, with an immediate of gc_read_heaptype. */
void translate_cast(struct translator *t, uint32_t op, uint32_t heap);

/* Jumps when the topmost entry, which it pops, is true (or `when` false: not). The word that lacks the distance, in
 * i[1]. */
uint32_t emit_branch_if(struct translator *t, bool when, bool loop);

#endif
