/* The compiler's intermediate form: one function in SSA, made straight from structured control.
 *
 * Instructions stand in one array in the order in which code is emitted; a value is the index of the instruction that
 * makes it (`ref`, 0: none). A block is a range of that array. Values cross blocks by dominance; where paths join, a
 * block has phis, and each edge into it lists one argument a phi. Numeric instructions keep their wasm opcode; what
 * wasm has no opcode for is numbered from OPCODE_LIMIT on.
 *
 * Conventions that save work: an i32 in a register or slot always has its upper half zero, so i64.extend_i32_u is no
 * instruction; a reference is an i64. Types are KIND_I32.. (types.h); KIND_REF does not appear. */
#ifndef DONJON_NATIVE_IR_H
#define DONJON_NATIVE_IR_H

#include "../opcodes.h"
#include "../store.h"
#include "donjon/platform.h"

typedef uint32_t ref;

enum ir_op {
    IR_NOP = OPCODE_LIMIT,
    IR_CONST,      /* imm: the bits, zero-extended */
    IR_CONST128,   /* imm: index in fn->vectors */
    IR_PARAM,      /* imm: which parameter */
    IR_PHI,        /* imm: its place in the block's edge arguments */
    IR_EXN,        /* first of a landing pad: the exception caught */
    IR_PAYLOAD,    /* a: exception, imm: slot of its payload */
    IR_SLOT_GET,   /* imm: which memory-held local (functions with handlers keep locals there) */
    IR_SLOT_SET,   /* a: value, imm */
    IR_SELECT,     /* a if c is not zero, else b */
    IR_CALL,       /* imm: index in fn->calls */
    IR_RESULT,     /* a: call, imm: which result */
    IR_FUEL,       /* imm: units this block costs, charged as it begins */
    IR_NULL_CHECK, /* a: reference, imm: trap kind; the result is a */
    /* Objects (heap.h). Accesses have aux: enum access, and << 8 the trap for null, TRAP_NONE where that cannot be. */
    IR_FIELD_GET, /* a: object, imm: offset */
    IR_FIELD_SET, /* a: object, b: value, imm: offset */
    IR_ELEM_GET,  /* a: array, b: index */
    IR_ELEM_SET,  /* a: array, b: index, c: value */
    IR_IS_EXACT,  /* a: reference, imm: module's type index; i32: is it an object of that type itself? aux: 1 if null is
                   */
    IR_SET_TYPE,  /* a: new object, imm: module's type index */
    IR_CHECK,     /* a: condition, imm: trap kind if it is zero */
    /* Terminators: exactly one, the last of each block. */
    IR_JUMP,   /* edge: block's first */
    IR_BRANCH, /* a: condition; edges: taken, not taken */
    IR_SWITCH, /* a: index; args[imm..imm+aux]: which edge for each of aux cases, then for the default */
    IR_RETURN, /* imm: index in fn->calls: its args are the results */
    IR_TAIL,   /* imm: index in fn->calls: a tail call */
    IR_TRAP,   /* imm: trap kind */
    IR_LIMIT
};

enum access {
    ACCESS_8_S,
    ACCESS_8_U,
    ACCESS_16_S,
    ACCESS_16_U,
    ACCESS_32,
    ACCESS_64,
    ACCESS_F32,
    ACCESS_F64,
    ACCESS_V128
};

enum ins_flags {
    INS_LIVE = 1,   /* reached from an effect */
    INS_FUSED = 2,  /* emitted as part of its only user */
    INS_REMAT = 4,  /* cheaper to make again than to keep (constants) */
    INS_SPILL = 8,  /* has a slot: stored right after it is made */
    INS_TAKEN = 16, /* branch: emitted inverted */
};

struct ins {
    uint16_t op;
    uint8_t type; /* KIND_*, KIND_BOT for none */
    uint8_t flags;
    ref a, b, c;
    uint64_t imm; /* memory accesses: offset */
    uint32_t aux; /* memory accesses: memory index << 8 | lane */
    uint32_t at;  /* offset in the module's bytes; of a function that was inlined: AT_INLINED | index in fn->marks */
};

/* A call that was replaced by the function it calls, and an instruction of such a function. */
struct inlined {
    uint32_t func;
    uint32_t at; /* of the call, as in struct ins */
};
struct mark {
    uint32_t at;
    uint32_t inlined; /* index in fn->inlined */
};
#define AT_INLINED (1u << 31)
enum { INLINE_DEPTH = 4 }; /* inside each other */

/* A control-flow edge. Its arguments, one a phi of `to`, stand in fn->args. */
struct edge {
    uint32_t from, to;
    uint32_t args;
    uint32_t moves, n_moves; /* after allocation: in fn->moves */
};

struct block {
    ref first, end; /* instructions; phis are first */
    uint32_t n_phis;
    uint32_t edges, n_edges; /* outgoing: in fn->edges */
    uint32_t preds, n_preds; /* incoming: indices of edges, in fn->preds (after build) */
    uint32_t idom, depth;    /* dominator tree; */
    uint32_t jump;           /* a farther dominator, so that any is a few steps away */
    uint32_t loop;           /* innermost loop, NONE32 outside */
    bool landing;            /* entered by an exception only */
    bool cold;               /* ends in a trap or throw */
};
#define NONE32 UINT32_MAX

struct loop {
    uint32_t header, parent;
    ref start, end; /* instructions [start, end) */
};

enum callee { CALL_DIRECT, CALL_INDIRECT, CALL_REF, CALL_HELPER, CALL_RETURN };

/* What compiled code asks the run-time for: C functions of native.c. Arguments and the result lie in slots. */
enum helper {
    HELPER_MEMORY_GROW, /* memory, delta -> old */
    HELPER_MEMORY_INIT, /* segment, memory, dst, src, n */
    HELPER_MEMORY_COPY, /* memory, memory, dst, src, n */
    HELPER_MEMORY_FILL, /* memory, dst, value, n */
    HELPER_DATA_DROP,   /* segment */
    HELPER_TABLE_GET,   /* table, index -> value */
    HELPER_TABLE_SET,   /* table, index, value */
    HELPER_TABLE_GROW,  /* table, value, delta -> old */
    HELPER_TABLE_FILL,  /* table, at, value, n */
    HELPER_TABLE_INIT,  /* segment, table, dst, src, n */
    HELPER_TABLE_COPY,  /* table, table, dst, src, n */
    HELPER_ELEM_DROP,   /* segment */
    HELPER_THROW,       /* tag, payload.. */
    HELPER_THROW_REF,   /* exception */
    HELPER_NEW,         /* size -> structure, all zero and without its type */
    HELPER_GC,          /* op - OP_BASE_FB and first immediate << 5, second immediate, operands.. -> result */
    HELPER_COUNT
};

struct call {
    enum callee kind;
    uint32_t index;              /* function; table (CALL_INDIRECT); helper */
    uint32_t type;               /* CALL_INDIRECT, CALL_REF: index in the module */
    uint32_t args, n_args;       /* in fn->args; CALL_INDIRECT and CALL_REF: the index or reference is the last */
    uint32_t results, n_results; /* refs of the IR_RESULTs, in fn->args */
    uint32_t try_region;         /* innermost, NONE32 */
};

/* A region whose calls may land in handlers: one entry per catch clause, tried in order, then `outer`. */
struct try_region {
    uint32_t outer;
    uint32_t first, last; /* list of clauses, NONE32 when empty */
};
struct clause {
    uint32_t tag;   /* index, NONE32: any */
    uint32_t block; /* landing block */
    uint32_t next;
};

struct move { /* loc to loc, in order; see alloc.h */
    uint32_t to, from;
    ref value; /* what is moved, where it is known */
};

/* Growing arrays: n in use, cap allocated. */
#define VEC(type)                                                                                                      \
    struct {                                                                                                           \
        type *v;                                                                                                       \
        uint32_t n, cap;                                                                                               \
    }

/* Everything one function's compilation owns. Reused from function to function: nothing is freed in between. */
struct fn {
    const struct donjon_platform *platform;
    const struct module *module;
    uint32_t index;
    const struct functype *type;
    bool failed; /* out of memory: everything else is then undefined, compilation is given up */
    /* What compiling this function may still cost: both are in proportion to its size, so that no function costs more
     * than a multiple of its bytes. */
    uint64_t memory_left, work_left;
    bool over_budget;   /* they did not suffice, that is why it failed */
    bool memory_locals; /* to be built without phis for locals, because of that */
    bool bounds_checks; /* of memory 0, explicit: no guard pages behind it */
    bool no_faults;     /* faults do not reach us: explicit looks at interrupts and the stack, too */
    bool fuel;

    VEC(struct ins) ins;
    VEC(struct block) blocks;
    VEC(struct edge) edges;
    VEC(uint32_t) args;
    VEC(uint32_t) preds;
    VEC(struct loop) loops;
    VEC(struct call) calls;
    VEC(struct try_region) tries;
    VEC(struct clause) clauses;
    VEC(uint8_t) vectors; /* 16 bytes each */
    VEC(struct inlined) inlined;
    VEC(struct mark) marks;
    VEC(struct move) moves;
    uint32_t n_slots; /* memory-held locals (IR_SLOT_*), in units of 8 bytes */
};

/* Counts steps of loops that may be long for few bytes of code. False when there have been too many. */
static inline bool fn_work(struct fn *f, uint64_t steps) {
    if (steps > f->work_left) f->failed = f->over_budget = true;
    f->work_left -= f->failed ? 0 : steps;
    return !f->failed;
}

/* Makes room for `more` entries; on failure sets fn->failed and leaves the array usable but unchanged. */
bool vec_reserve(struct fn *f, void *vec, size_t item, uint32_t more);
#define vec_push(f, vec, item)                                                                                         \
    (vec_reserve((f), &(vec), sizeof *(vec).v, 1) ? ((vec).v[(vec).n++] = (item), true) : false)

/* The last block on all ways to both (build.c). */
uint32_t ir_common_dominator(struct fn *f, uint32_t x, uint32_t y);
static inline bool ir_is_terminator(uint16_t op) {
    return op >= IR_JUMP && op < IR_LIMIT;
}
/* No effect, no trap, result depends on operands only: may be shared, moved, dropped. */
bool ir_is_pure(uint16_t op);

/* wasm -> SSA (build.c, fold.c). False when out of memory. */
bool ir_build(struct fn *f);

/* Constant folding and strength reduction (fold.c): gives a value that already is the result, or 0; may rewrite `i`
 * into something simpler with the same result. */
ref ir_fold(const struct fn *f, struct ins *i);

/* Value numbering (fold.c): pure instructions, shared while their block (kept in aux) dominates. */
struct values {
    ref *table; /* open addressing, power of two */
    uint32_t mask, used;
};
bool values_reserve(struct fn *f, struct values *v);
/* Where an equal instruction is or would be. */
ref *values_find(struct fn *f, const struct values *v, const struct ins *i);

/* Marks live instructions, fuses, and drops the rest (select.c). */
void ir_select(struct fn *f);

#endif
