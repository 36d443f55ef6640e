/* The inside of the validator, shared by validate.c and validate_gc.c. */
#ifndef DONJON_WASM_VALIDATOR_H
#define DONJON_WASM_VALIDATOR_H

#include "limits.h"
#include "opcodes.h"
#include "store.h"
#include "validate.h"

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* A block being validated: an entry of the control stack. */
struct block {
    uint32_t op;          /* OP_BLOCK, OP_LOOP, OP_IF, OP_ELSE, OP_TRY_TABLE, OP_TRY, OP_CATCH, OP_CATCH_ALL */
    bool unreachable;     /* the rest of the block cannot be reached: missing operands have any type */
    uint32_t height;      /* of the operand stack below the block */
    uint32_t init_height; /* of the stack of initialised locals at its start */
    uint32_t br_table;    /* offset of the br_table that was last checked against this label */
    uint32_t n_params, n_results;
    const valtype *params, *results; /* with one result, `result` instead */
    valtype result;
};

/* Operands beyond the limit that there is room for: an instruction pushes some before the next one's start is checked.
 */
enum { SPARE = 16 };

/* Locals are declared in runs. The first ones are also expanded, the others searched: a body of twelve bytes may
 * declare 50,000 locals, and a module a million such bodies. */
enum { FAST_LOCALS = 2048 };
struct run {
    uint32_t end; /* number of the run's last local, plus one */
    valtype type;
};

struct validator {
    struct reader r;
    struct module *module;
    const struct engine *engine;
    const struct donjon_platform *platform;
    uint32_t op; /* the instruction being validated */
    bool constant;
    bool ready; /* the stacks are there */

    valtype *stack, *sp, *base, *limit; /* operands; base: of the innermost block */
    struct block *blocks, *top;
    uint32_t n_blocks, blocks_cap;

    uint32_t n_locals, n_fast;
    valtype *locals;
    struct run *runs;
    uint32_t n_runs, runs_cap;
    bool has_uninit;      /* some locals have no default: the next three fields are in use */
    uint8_t *uninit;      /* a bit a local: not yet set */
    uint32_t *init_stack; /* locals in the order they were set */
    uint32_t n_init;

    uint8_t *refs;    /* a bit a function: declared for ref.func */
    uint32_t n_datas; /* UINT32_MAX: no data count section */
};

/* The instruction at hand, for messages. */
static inline const char *here(const struct validator *v) {
    const char *text = opcode_table[v->op].text;
    return text ? text : "?";
}

static inline bool matches(const struct validator *v, valtype sub, valtype super) {
    return sub == super || type_matches(v->engine, sub, super);
}

/* Pops a value of type t. False, with the error filled, when there is none; so do all that follow. */
bool pop_unequal(struct validator *v, valtype t);
static inline bool pop(struct validator *v, valtype t) {
    if (likely(v->sp > v->base && v->sp[-1] == t)) {
        v->sp--;
        return true;
    }
    return pop_unequal(v, t);
}

/* VT_BOT from an unreachable stack. */
static inline bool pop_any(struct validator *v, valtype *t) {
    if (likely(v->sp > v->base)) {
        *t = *--v->sp;
        return true;
    }
    *t = VT_BOT;
    return v->top->unreachable || invalid(&v->r, "%s expects a value, found an empty stack", here(v));
}

/* A reference; (ref bot) from an unreachable stack. */
bool pop_ref(struct validator *v, valtype *t);
bool pop_types(struct validator *v, const valtype *types, uint32_t n);
bool push_types(struct validator *v, const valtype *types, uint32_t n);
static inline void push(struct validator *v, valtype t) {
    *v->sp++ = t;
}

/* The types that a branch to the block takes. */
const valtype *label_types(const struct block *b, uint32_t *n);

/* Immediates: an index below n, a label, a data segment, an element segment's type. */
static inline bool check_index(struct validator *v, const char *what, uint32_t index, uint32_t n) {
    return likely(index < n) || invalid(&v->r, "%s: unknown %s %u, there are %u", here(v), what, index, n);
}

static inline bool read_index(struct validator *v, const char *what, uint32_t n, uint32_t *out) {
    return read_u32(&v->r, out) && check_index(v, what, *out, n);
}

bool read_label(struct validator *v, struct block **out);
bool read_data(struct validator *v);
bool read_elem(struct validator *v, valtype *type);

/* One of GC's instructions, whose opcode has been read. */
bool validate_gc(struct validator *v, uint32_t op);

#endif
