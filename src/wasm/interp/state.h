/* What the interpreter keeps while wasm runs: the value stack, the frame records, and code of translated functions. */
#ifndef DONJON_WASM_INTERP_STATE_H
#define DONJON_WASM_INTERP_STATE_H

#include "../heap.h"
#include "../interp.h"
#include "donjon/platform.h"
#include "ops.h"

/* One running function: where its caller goes on, and who it is. A record whose func is NULL is the lower half of a
 * call into another instance: returning through it (op_restore) gives the caller its memory back. */
struct frame {
    const word *pc; /* return address, in the caller */
    slot *fp;       /* the caller's */
    struct func *func;
};

enum {
    INTERP_MAX_SLOTS = 65535,   /* of one frame: slot numbers are u16 */
    INTERP_MAX_WORDS = 1 << 26, /* of one function's code: bounds what hostile code can blow up to */
    INTERP_TICKS = 4096,        /* loops and calls between two looks at interrupts and the clock */
};

struct interp {
    struct frame *top;         /* record of the running function */
    struct frame *frame_limit; /* last record there is */
    slot *stack_limit;         /* highest fp a call may have: a whole frame of the largest size fits above it */
    int32_t ticks;
    struct store *store;
    struct frame *base; /* record of the function that the innermost interp_call called */
    slot *sp;           /* end of what is in use; right while host functions run and at collections */
    const word *trap_pc;
    bool inner_trap; /* a trap that came up through a host function already has frames in its backtrace */
    slot *stack;
    struct frame *frames;
    size_t stack_size, frames_size; /* bytes reserved */
};

/* On a backward jump or call, when pc is already the target. */
#define TICK(ctx)                                                                                                      \
    do {                                                                                                               \
        if (UNLIKELY(--(ctx)->ticks < 0)) TAIL op_tick(ARGS);                                                          \
    } while (0)
handler op_tick, op_unwind, op_trap_stack;
/* TRAP_INTERRUPT, TRAP_WALL or TRAP_NONE, now. */
enum trap_kind interp_interrupted(struct interp *ctx);

/* Charges an instruction that moved many bytes, at least BULK_FREE: it costs fuel and ticks by the size, and is
 * followed by a look at interrupts, so that code which is nothing but such instructions can be stopped, too. */
enum trap_kind interp_charge(struct interp *ctx, uint64_t bytes);

/* Where exceptions thrown in code words [start, end) go. Innermost first. */
struct catch_entry {
    uint32_t start, end;
    uint32_t target;       /* word; unused for delegates */
    struct tag *tag;       /* NULL: every exception */
    uint32_t level;        /* control depth of the block, to tell what is outside of a delegate's target */
    uint32_t delegate;     /* level + 1 of the innermost block that may catch, 0: not a delegate */
    uint16_t payload_slot; /* tag's parameters go here */
    uint16_t exn_slot;     /* and the exception itself here, unless NO_SLOT */
};
#define NO_SLOT UINT16_MAX

struct func_code {
    uint32_t n_words, n_catches;
    struct catch_entry *catches;
    word code[];
};
static inline struct func_code *code_of(const struct func *f) {
    return (struct func_code *)((char *)f->wasm.code - offsetof(struct func_code, code));
}

/* Translates f's body: f->wasm.code and frame_slots. On failure the trap kind, store->trap.message filled. */
enum trap_kind translate(struct func *f);

/* The wasm offset (in the module's bytes) that word number `at` of f's code was made from, by translating again. */
uint32_t translate_offset(struct func *f, uint32_t at);

#endif
