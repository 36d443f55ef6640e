/* Jumps, calls, returns, exceptions and traps.
 *
 * Calls: arguments are in consecutive slots of the caller's frame; the callee's frame starts at the first of them, and
 * results come back in the same place. Operand word pc[1]: s[0] is that slot. */
#include "state.h"

/* ---- Jumps ---- */

OP(jump) {
    JUMP(pc + 1);
}

OP(loop) { /* a jump backwards */
    pc = pc + 1 + pc[1].i[1];
    TICK(ctx);
    TAIL pc->h(ARGS);
}

/* Something first, [d a imm32], then a jump, [- - distance32]. */
#define THEN_JUMP(name, FIRST)                                                                                         \
    OP(name##_jump) {                                                                                                  \
        FIRST;                                                                                                         \
        JUMP(pc + 2);                                                                                                  \
    }                                                                                                                  \
    OP(name##_loop) {                                                                                                  \
        FIRST;                                                                                                         \
        pc = pc + 2 + pc[2].i[1];                                                                                      \
        TICK(ctx);                                                                                                     \
        TAIL pc->h(ARGS);                                                                                              \
    }
THEN_JUMP(copy64, SET(0, S64(1)))
THEN_JUMP(i32_add_si, acc = S32(1) + pc[1].u[1]; SET(0, acc))
THEN_JUMP(i64_add_si, acc = S64(1) + (uint64_t)(int64_t)pc[1].i[1]; SET(0, acc))

/* [index - n32] (sp, ap: [plus]), then n + 1 words with distances, the last for every other index. Targets are forward.
 */
#define BR_TABLE(name, LEN, INDEX)                                                                                     \
    OP(name) {                                                                                                         \
        const uint32_t index = (uint32_t)(INDEX), n = pc[1].u[1];                                                      \
        pc += (LEN) + (index < n ? index : n);                                                                         \
        pc += pc->i[1];                                                                                                \
        TAIL pc->h(ARGS);                                                                                              \
    }
BR_TABLE(br_table_s, 2, S32(0))
BR_TABLE(br_table_a, 2, acc)
BR_TABLE(br_table_sp, 3, S32(0) + pc[2].u[0])
BR_TABLE(br_table_ap, 3, acc + pc[2].u[0])

OP(unreachable) {
    TRAP(unreachable);
}

OP(fuel) {
    struct store *s = ctx->store;
    const uint64_t cost = pc[1].u64;
    if (UNLIKELY(s->fuel < cost)) {
        s->fuel = 0;
        TRAP(fuel);
    }
    s->fuel -= cost;
    NEXT(2);
}

/* ---- Calls ---- */

/* Pushes a record and starts `callee`, whose frame is at `frame`; continues at `resume` on return. */
#define ENTER(callee, base, resume)                                                                                    \
    do {                                                                                                               \
        struct frame *record = ctx->top;                                                                               \
        slot *new_fp = (base);                                                                                         \
        if (UNLIKELY(record >= ctx->frame_limit || new_fp > ctx->stack_limit)) TAIL op_trap_stack(ARGS);               \
        record++;                                                                                                      \
        record->pc = (resume);                                                                                         \
        record->fp = fp;                                                                                               \
        record->func = (callee);                                                                                       \
        ctx->top = record;                                                                                             \
        fp = new_fp;                                                                                                   \
        pc = (callee)->wasm.code;                                                                                      \
        TICK(ctx);                                                                                                     \
        TAIL pc->h(ARGS);                                                                                              \
    } while (0)

OP(call) { /* [args][func], a wasm function of this instance */
    struct func *callee = pc[2].func;
    ENTER(callee, fp + pc[1].s[0], pc + 3);
}

/* Calls whose callee may be anything go on, off the fast path, in op_call_any, with the callee in acc. Their operand
 * words: [args operand length tail-slots][instance]..., where `length` is the instruction's in words. */
static handler op_call_any, op_return_call_any;
#define CALL_FUNC(callee)                                                                                              \
    do {                                                                                                               \
        if (LIKELY((callee)->kind == FUNC_WASM && (callee)->wasm.instance == pc[2].instance))                          \
            ENTER(callee, fp + pc[1].s[0], pc + pc[1].s[2]);                                                           \
        acc = (uint64_t)(uintptr_t)(callee);                                                                           \
        TAIL op_call_any(ARGS);                                                                                        \
    } while (0)
/* Replaces the running function: its record stays. Arguments move to the frame's start. */
#define TAIL_CALL_FUNC(callee)                                                                                         \
    do {                                                                                                               \
        acc = (uint64_t)(uintptr_t)(callee);                                                                           \
        TAIL op_return_call_any(ARGS);                                                                                 \
    } while (0)

/* [args - length n][instance][func] */
OP(call_import) {
    struct func *callee = pc[3].func;
    CALL_FUNC(callee);
}
OP(return_call_import) {
    TAIL_CALL_FUNC(pc[3].func);
}
OP(return_call) {
    TAIL_CALL_FUNC(pc[3].func);
}

/* Why an indirect call cannot be made, in the order of the specification (section 4.4.8, "call_indirect"). */
static __attribute__((cold, noinline)) OP(trap_indirect) {
    ctx->trap_pc = pc;
    const struct table *table = pc[3].table;
    const uint64_t index = pc[4].u[1] ? S64(1) : S32(1);
    if (index >= table->size) return TRAP_TABLE_ELEM;
    if (!table->elems[index].func) return TRAP_NULL_ELEM;
    return TRAP_INDIRECT_TYPE;
}

/* Supertypes are rare: the exact type was compared already. */
static __attribute__((noinline)) bool type_fits(const struct interp *ctx, uint32_t have, uint32_t want) {
    return type_id_matches(ctx->store->engine, have, want);
}
static __attribute__((noinline)) OP(call_indirect_subtype) {
    struct func *callee = (struct func *)(uintptr_t)acc;
    if (!type_fits(ctx, callee->type_id, pc[4].u[0])) TAIL op_trap_indirect(ARGS);
    CALL_FUNC(callee);
}
static __attribute__((noinline)) OP(return_call_indirect_subtype) {
    struct func *callee = (struct func *)(uintptr_t)acc;
    if (!type_fits(ctx, callee->type_id, pc[4].u[0])) TAIL op_trap_indirect(ARGS);
    TAIL_CALL_FUNC(callee);
}

/* [args index length n][instance][table][type | index is 64 bits wide << 32] */
#define INDIRECT(callee, subtype)                                                                                      \
    const struct table *table = pc[3].table;                                                                           \
    const uint64_t index = pc[4].u[1] ? S64(1) : S32(1);                                                               \
    if (UNLIKELY(index >= table->size)) TAIL op_trap_indirect(ARGS);                                                   \
    struct func *callee = table->elems[index].func;                                                                    \
    if (UNLIKELY(!callee)) TAIL op_trap_indirect(ARGS);                                                                \
    if (UNLIKELY(callee->type_id != pc[4].u[0])) {                                                                     \
        acc = (uint64_t)(uintptr_t)callee;                                                                             \
        TAIL subtype(ARGS);                                                                                            \
    }
OP(call_indirect) {
    INDIRECT(callee, op_call_indirect_subtype)
    CALL_FUNC(callee);
}
OP(return_call_indirect) {
    INDIRECT(callee, op_return_call_indirect_subtype)
    TAIL_CALL_FUNC(callee);
}

/* [args ref length n][instance] */
static __attribute__((cold, noinline)) OP(trap_null_func) {
    ctx->trap_pc = pc;
    return TRAP_NULL_FUNC;
}
OP(call_ref) {
    struct func *callee = fp[pc[1].s[1]].func;
    if (UNLIKELY(!callee)) TAIL op_trap_null_func(ARGS);
    CALL_FUNC(callee);
}
OP(return_call_ref) {
    struct func *callee = fp[pc[1].s[1]].func;
    if (UNLIKELY(!callee)) TAIL op_trap_null_func(ARGS);
    TAIL_CALL_FUNC(callee);
}

#define USE_INSTANCE(i)                                                                                                \
    do {                                                                                                               \
        const struct memory *memory0 = (i)->memory0;                                                                   \
        mem = memory0 ? memory0->base : NULL;                                                                          \
        mem_size = memory0 ? memory0->size : 0;                                                                        \
    } while (0)

static const word restore_code[] = {{.h = op_restore}};

/* Back in the caller of a function of another instance. The result's accumulators are as the callee left them. */
OP(restore) {
    struct frame *record = ctx->top--;
    pc = record->pc;
    fp = record->fp;
    if (record != ctx->base) USE_INSTANCE(ctx->top->func->wasm.instance);
    TAIL pc->h(ARGS);
}

/* A host function. It may call back into wasm, which then uses the stack from ctx->sp on. */
static __attribute__((noinline)) enum trap_kind call_host(struct interp *ctx, struct func *f, struct instance *caller,
                                                          slot *args) {
    const struct functype *t = type_func(ctx->store->engine, f->type_id);
    ctx->sp = args + (t->param_slots > t->result_slots ? t->param_slots : t->result_slots);
    ctx->inner_trap = false;
    return f->host.callback(f->host.env, ctx->store, caller, args);
}

static __attribute__((noinline)) OP(call_any) {
    struct func *callee = (struct func *)(uintptr_t)acc;
    slot *args = fp + pc[1].s[0];
    struct instance *here = pc[2].instance;
    if (callee->kind == FUNC_WASM) {
        struct frame *record = ctx->top;
        if (record + 1 >= ctx->frame_limit || args > ctx->stack_limit) TAIL op_trap_stack(ARGS);
        *++record = (struct frame){pc + pc[1].s[2], fp, NULL};
        ctx->top = record;
        USE_INSTANCE(callee->wasm.instance);
        ENTER(callee, args, restore_code);
    }
    if (args > ctx->stack_limit) TAIL op_trap_stack(ARGS);
    enum trap_kind kind = call_host(ctx, callee, here, args);
    ctx->trap_pc = pc;
    if (UNLIKELY(kind == TRAP_EXCEPTION)) TAIL op_unwind(ARGS);
    if (UNLIKELY(kind != TRAP_NONE)) return kind;
    USE_INSTANCE(here);
    acc = args->i64;
    facc = args->f32;
    dacc = args->f64;
    NEXT(pc[1].s[2]);
}

/* s[3]: slots of the arguments. */
static __attribute__((noinline)) OP(return_call_any) {
    struct func *callee = (struct func *)(uintptr_t)acc;
    struct instance *here = pc[2].instance;
    __builtin_memmove(fp, fp + pc[1].s[0], pc[1].s[3] * sizeof(slot));
    if (callee->kind == FUNC_HOST) {
        enum trap_kind kind = call_host(ctx, callee, here, fp);
        ctx->trap_pc = pc;
        if (UNLIKELY(kind == TRAP_EXCEPTION)) {
            const struct func_code *code = code_of(ctx->top->func);
            pc = code->code + code->n_words; /* this frame is gone: its handlers do not count */
            TAIL op_unwind(ARGS);
        }
        if (UNLIKELY(kind != TRAP_NONE)) return kind;
        USE_INSTANCE(here);
        acc = fp->i64;
        facc = fp->f32;
        dacc = fp->f64;
        TAIL op_return(ARGS);
    }
    struct frame *record = ctx->top;
    if (callee->wasm.instance != here) {
        /* Our caller expects our instance's memory back: its record is followed by a restoring one, unless there is
         * one. */
        if (record == ctx->base || record->pc != restore_code) {
            if (record >= ctx->frame_limit) TAIL op_trap_stack(ARGS);
            record->func = NULL;
            *++record = (struct frame){restore_code, fp, NULL};
            ctx->top = record;
        }
        USE_INSTANCE(callee->wasm.instance);
    }
    record->func = callee;
    pc = callee->wasm.code;
    TICK(ctx);
    TAIL pc->h(ARGS);
}

/* Zeroes a frame's locals beyond the parameters, four at a time (what is above has no value yet): [first groups]. */
OP(enter) {
    slot *s = fp + pc[1].s[0], *end = s + 4 * pc[1].u[1];
    do {
        s[0].i64 = s[1].i64 = s[2].i64 = s[3].i64 = 0;
        s += 4;
    } while (s < end);
    NEXT(2);
}

/* ---- Returns ---- */

#define LEAVE                                                                                                          \
    do {                                                                                                               \
        struct frame *record = ctx->top;                                                                               \
        pc = record->pc;                                                                                               \
        fp = record->fp;                                                                                               \
        ctx->top = record - 1;                                                                                         \
        TAIL pc->h(ARGS);                                                                                              \
    } while (0)

OP(return ) {
    LEAVE;
} /* no result, or all in place */
OP(return_s) {
    acc = fp->i64 = S64(0);
    LEAVE;
}
OP(return_a) {
    fp->i64 = acc;
    LEAVE;
}
OP(return_i) {
    acc = fp->i64 = (uint64_t)(int64_t)pc[1].i[1];
    LEAVE;
}
OP(f32_return_s) {
    facc = fp->f32 = SF32(0);
    LEAVE;
}
OP(f32_return_a) {
    fp->f32 = facc;
    LEAVE;
}
OP(f64_return_s) {
    dacc = fp->f64 = SF64(0);
    LEAVE;
}
OP(f64_return_a) {
    fp->f64 = dacc;
    LEAVE;
}

/* The outermost function has returned. */
OP(exit) {
    return TRAP_NONE;
}

/* ---- First calls ---- */

OP(lazy) {
    struct func *f = ctx->top->func;
    enum trap_kind kind = f->wasm.code == interp_lazy_entry() ? translate(f) : TRAP_NONE;
    ctx->trap_pc = pc;
    if (UNLIKELY(kind != TRAP_NONE)) return kind;
    pc = f->wasm.code;
    TAIL pc->h(ARGS);
}

/* ---- Traps, interruptions ---- */

#define X(name, kind)                                                                                                  \
    __attribute__((cold)) OP(trap_##name) {                                                                            \
        ctx->trap_pc = pc;                                                                                             \
        return kind;                                                                                                   \
    }
TRAP_HANDLERS(X)
X(stack, TRAP_STACK)
#undef X

__attribute__((noinline)) enum trap_kind interp_interrupted(struct interp *ctx) {
    struct store *s = ctx->store;
    ctx->ticks = INTERP_TICKS;
    if (atomic_load_explicit(&s->interrupt, memory_order_relaxed)) {
        enum trap_kind kind = store_attend(s);
        if (kind != TRAP_NONE) return kind;
    }
    const struct donjon_platform *p = s->engine->platform;
    return s->deadline && p->now(p->ctx) >= s->deadline ? TRAP_WALL : TRAP_NONE;
}
OP(tick) {
    enum trap_kind kind = interp_interrupted(ctx);
    if (kind) {
        ctx->trap_pc = pc;
        return kind;
    }
    TAIL pc->h(ARGS);
}

/* ---- Exceptions ---- */

/* A new exception with the tag's parameters as payload. */
static __attribute__((noinline)) bool make_exception(struct interp *ctx, struct tag *tag, slot *fp,
                                                     const slot *payload) {
    ctx->sp = fp + ctx->top->func->wasm.frame_slots;
    struct exn *e = heap_new_exn(ctx->store->heap, tag);
    if (!e) return false;
    __builtin_memcpy(e->payload, payload, e->n_slots * sizeof(slot));
    ctx->store->thrown = e;
    return true;
}

OP(throw) { /* [payload][tag] */
    ctx->trap_pc = pc;
    if (!make_exception(ctx, pc[2].tag, fp, fp + pc[1].s[0])) return TRAP_OUT_OF_MEMORY;
    TAIL op_unwind(ARGS);
}

OP(throw_ref) { /* [exception] */
    ctx->trap_pc = pc;
    if (!fp[pc[1].s[0]].exn) return TRAP_NULL_EXN;
    ctx->store->thrown = fp[pc[1].s[0]].exn;
    TAIL op_unwind(ARGS);
}

/* The entry that catches `e` thrown at word `at` of f, or NULL. */
static const struct catch_entry *find_catch(const struct func *f, const word *pc, const struct exn *e) {
    const struct func_code *code = code_of(f);
    const uint32_t at = (uint32_t)(pc - code->code);
    uint32_t outside = UINT32_MAX; /* only blocks of a lower level count */
    for (uint32_t i = 0; i < code->n_catches; i++) {
        const struct catch_entry *c = &code->catches[i];
        if (at < c->start || at >= c->end || c->level >= outside) continue;
        if (c->delegate)
            outside = c->delegate;
        else if (!c->tag || c->tag == e->tag)
            return c;
    }
    return NULL;
}

struct landing {
    const word *pc;
    slot *fp;
};
/* Pops frames up to one that catches store->thrown; pc NULL and all frames still there if none does up to the innermost
 * interp_call. */
static __attribute__((noinline)) struct landing unwind(struct interp *ctx, const word *pc, slot *fp) {
    struct exn *e = ctx->store->thrown;
    for (struct frame *record = ctx->top;; record--) {
        const struct catch_entry *c = record->func ? find_catch(record->func, pc, e) : NULL;
        if (c) {
            if (c->tag) __builtin_memcpy(fp + c->payload_slot, e->payload, e->n_slots * sizeof(slot));
            if (c->exn_slot != NO_SLOT) fp[c->exn_slot].exn = e;
            ctx->store->thrown = NULL;
            ctx->top = record;
            return (struct landing){code_of(record->func)->code + c->target, fp};
        }
        if (record == ctx->base) return (struct landing){NULL, fp};
        pc = record->pc - 1; /* inside the call */
        fp = record->fp;
    }
}

/* store->thrown was thrown by the instruction at pc. */
OP(unwind) {
    struct landing l = unwind(ctx, pc, fp);
    if (!l.pc) return TRAP_EXCEPTION;
    pc = l.pc;
    fp = l.fp;
    USE_INSTANCE(ctx->top->func->wasm.instance);
    TAIL pc->h(ARGS);
}
