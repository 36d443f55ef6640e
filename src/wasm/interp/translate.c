/* From a validated body to slot code, in one pass: control flow, calls, exceptions and the driver. See translate.h. */
#include "translate.h"
#include "../gc.h"

#include <string.h>

/* ---- Blocks ---- */

static const struct functype *type_of(const struct control *c) {
    return c->own_type ? &c->buf.type : c->type;
}

/* Values that a jump to the block takes along. */
static uint32_t label_arity(const struct control *c) {
    return c->kind == CONTROL_LOOP ? type_of(c)->n_params : type_of(c)->n_results;
}

static struct control *label(struct translator *t, uint32_t depth) {
    return &t->controls[t->n_controls - 1 - depth];
}

static void push_values(struct translator *t, const valtype *types, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        push_home(t, (uint8_t)vt_kind(types[i]));
}

/* Drops entries down to `depth`, where slots in use are `height`. */
static void cut_stack(struct translator *t, uint32_t depth, uint32_t height) {
    while (t->depth > depth)
        pop(t);
    t->height = height;
    t->result_at = NO_WORD;
}

/* Begins a block whose parameters are on the stack. */
static struct control *begin(struct translator *t, enum control_kind kind) {
    static struct control none;
    if (!grow_array(t, (void **)&t->controls, t->n_controls, &t->controls_capacity, sizeof *t->controls)) return &none;
    struct control *c = &t->controls[t->n_controls++];
    *c = (struct control){.kind = kind, .fixups = NO_WORD, .else_fixups = NO_WORD, .assignments = t->n_assignments};
    c->type = module_read_blocktype(t->module, &t->p, &c->buf);
    c->own_type = c->type == &c->buf.type; /* the array of controls may move: see type_of */
    const uint32_t n = type_of(c)->n_params;
    c->depth = t->depth - n;
    c->height = n ? t->stack[c->depth].home : t->height;
    /* Inside, a local may change before the entries below that mean its old value are used. */
    settle_locals(t, c->depth);
    pin(t);
    t->fuel_at = NO_WORD;
    return c;
}

static const valtype *results_of(const struct control *c) {
    return c->own_type ? &c->buf.result : c->type->results;
}

/* ---- Jumps ---- */

/* Are the topmost `n` values where the label expects them, or nothing to move? */
static bool in_place(const struct translator *t, const struct control *to, uint32_t n) {
    return n == 0 || t->stack[t->depth - n].home == to->height;
}

/* Copies the topmost `n` values to consecutive slots from `slot` on, which are not above their homes: in ascending
 * order none is overwritten before it was read. */
static void move_values(struct translator *t, uint32_t n, uint32_t slot) {
    for (uint32_t i = t->depth - n; i < t->depth; i++) {
        move_to(t, t->stack[i], (uint16_t)slot);
        slot += t->stack[i].kind == KIND_V128 ? 2 : 1;
    }
}

/* Gives the jump whose distance is missing in word `w` its target. */
static void aim(struct translator *t, struct control *to, uint32_t w) {
    if (to->kind == CONTROL_LOOP) {
        t->code[w].i[1] = (int32_t)(to->start - w);
        return;
    }
    t->code[w].u[1] = to->fixups;
    to->fixups = w;
}

/* Several results, or a vector: they go where locals are, so values of locals move out of the way first. */
static void return_values(struct translator *t, uint32_t n) {
    for (uint32_t i = t->depth - n; i < t->depth; i++)
        if (t->stack[i].where == IN_LOCAL) move_to(t, t->stack[i], t->stack[i].home);
    uint32_t slot = 0;
    for (uint32_t i = t->depth - n; i < t->depth; i++) {
        struct entry e = t->stack[i];
        if (e.where == IN_LOCAL) {
            e.where = IN_HOME;
            e.slot = e.home;
            e.plus = 0;
        }
        move_to(t, e, (uint16_t)slot);
        slot += e.kind == KIND_V128 ? 2 : 1;
    }
    emit(t, IOP_return, 0);
}

static void emit_return(struct translator *t) {
    const struct functype *f = type_func(t->instance->store->engine, t->func->type_id);
    if (f->n_results != 1 || vt_kind(f->results[0]) == KIND_V128) {
        return_values(t, f->n_results);
        return;
    }
    struct entry e = t->stack[t->depth - 1];
    if (e.where != IN_CONST) e = operand(t, e);
    const bool floats = e.kind == KIND_F32 || e.kind == KIND_F64, acc = in_accumulator(t, e);
    if (!floats && e.where == IN_CONST && (int64_t)e.bits == (int32_t)e.bits) {
        emit_imm(t, IOP_return_i, 0, 0, (int32_t)e.bits, 1);
        return;
    }
    if (acc) take_accumulator(t, e); /* where others still need it, it is pinned */
    const uint16_t slot = to_slot(t, e);
    const uint32_t op = e.kind == KIND_F32 ? IOP_f32_return_s : e.kind == KIND_F64 ? IOP_f64_return_s : IOP_return_s;
    emit4(t, acc ? op + 1 : op, slot, 0, 0, 0, 1);
}

/* An unconditional jump; the stack stays for who comes here another way. */
static void emit_jump(struct translator *t, struct control *to) {
    if (to->kind == CONTROL_FUNC) {
        emit_return(t);
        return;
    }
    move_values(t, label_arity(to), to->height);
    const bool back = to->kind == CONTROL_LOOP;
    const uint32_t op = t->last == NO_WORD             ? 0
                        : t->last_op == IOP_copy64     ? IOP_copy64_jump
                        : t->last_op == IOP_i32_add_si ? IOP_i32_add_si_jump
                        : t->last_op == IOP_i64_add_si ? IOP_i64_add_si_jump
                                                       : 0;
    if (op) {
        const word o = t->code[t->last + 1];
        take_back_last(t);
        const uint32_t at = emit(t, op + back, 2);
        t->code[at + 1] = o;
        aim(t, to, at + 2);
        return;
    }
    aim(t, to, emit(t, back ? IOP_loop : IOP_jump, 1) + 1);
}

/* A jump when the topmost value is true (or `when` false: not), which is popped. */
static void emit_jump_if(struct translator *t, struct control *to, bool when) {
    const uint32_t n = label_arity(to);
    if (n && t->depth > n) {
        const uint32_t at = t->result_at;
        const struct entry condition = pop(t);
        const bool placed = in_place(t, to, n) && to->kind != CONTROL_FUNC;
        if (placed) settle_top(t, n);
        push_entry(t, condition);
        t->result_at = at;
        pin(t);
        if (placed) {
            aim(t, to, emit_branch_if(t, when, to->kind == CONTROL_LOOP));
            return;
        }
    } else if (to->kind != CONTROL_FUNC) {
        aim(t, to, emit_branch_if(t, when, to->kind == CONTROL_LOOP));
        return;
    }
    const uint32_t skip = emit_branch_if(t, !when, false);
    t->code[skip].u[1] = NO_WORD;
    const struct accumulator acc = t->acc, facc = t->facc, dacc = t->dacc;
    emit_jump(t, to);
    resolve(t, skip);
    t->acc = acc, t->facc = facc,
    t->dacc = dacc; /* the jump not taken changed nothing; stores above are not dropped any more */
    pin(t);
}

static void br_table(struct translator *t) {
    const uint32_t n = leb_u32(&t->p);
    struct entry index = pop(t);
    const uint32_t plus = index.plus;
    index.plus = 0;
    index = operand(t, index);
    const bool acc = in_accumulator(t, index);
    if (acc) take_accumulator(t, index);
    pin(t);
    const uint32_t op = acc ? (plus ? IOP_br_table_ap : IOP_br_table_a) : (plus ? IOP_br_table_sp : IOP_br_table_s);
    const uint32_t at = emit_imm(t, op, index.slot, 0, (int32_t)n, plus ? 2 : 1);
    if (plus) t->code[at + 2].u64 = plus;
    const uint32_t first = t->n;
    for (uint32_t i = 0; i <= n; i++)
        emit(t, IOP_jump, 0); /* room for the distances */
    /* Jumps that do more than to jump forward go through an instruction behind the table; one for all with that target.
     */
    for (uint32_t i = 0; i <= n && !t->error; i++) {
        struct control *to = label(t, leb_u32(&t->p));
        const uint32_t w = first + i;
        t->code[w].u64 = 0;
        if (to->kind != CONTROL_FUNC && to->kind != CONTROL_LOOP && label_arity(to) == 0) {
            aim(t, to, w);
            continue;
        }
        if (to->table != first) {
            to->table = first;
            to->stub = t->n;
            label_here(t);
            emit_jump(t, to);
        }
        t->code[w].i[1] = (int32_t)(to->stub - w);
    }
}

/* ---- Calls ---- */

/* Arguments of a call are the topmost entries: puts them in order and gives the slot of the first. */
static uint32_t place_arguments(struct translator *t, const struct functype *f) {
    settle_top(t, f->n_params);
    return f->n_params && t->depth >= f->n_params ? t->stack[t->depth - f->n_params].home : t->height;
}

static void push_call_results(struct translator *t, const struct functype *f, uint32_t args) {
    cut_stack(t, t->depth - f->n_params, args);
    forget(t);
    push_values(t, f->results, f->n_results);
    t->fuel_at = NO_WORD;
    if (t->max_height < args + f->param_slots) t->max_height = args + f->param_slots;
    if (f->n_results == 1 && vt_kind(f->results[0]) != KIND_V128)
        *accumulator_of(t, (uint8_t)vt_kind(f->results[0])) = (struct accumulator){args, NO_WORD, IOP_COUNT};
}

enum callee { CALLEE_KNOWN, CALLEE_INDIRECT, CALLEE_REF };

/* [args operand length tail-slots][instance]..., see ops_control.c. */
static void emit_call(struct translator *t, enum callee how, const struct functype *f, bool tail, uint64_t word3,
                      uint64_t word4) {
    static const uint16_t ops[][2] = {{IOP_call_import, IOP_return_call_import},
                                      {IOP_call_indirect, IOP_return_call_indirect},
                                      {IOP_call_ref, IOP_return_call_ref}};
    const uint32_t words = how == CALLEE_KNOWN ? 3 : how == CALLEE_INDIRECT ? 4 : 2;
    const uint32_t operand = how == CALLEE_KNOWN ? 0 : pop_slot(t);
    const uint32_t args = place_arguments(t, f);
    uint32_t at = emit4(t, ops[how][tail], args, operand, words + 1, f->param_slots, words);
    t->code[at + 2].instance = t->instance;
    if (words > 2) t->code[at + 3].u64 = word3;
    if (words > 3) t->code[at + 4].u64 = word4;
    if (t->max_height < f->param_slots) t->max_height = f->param_slots; /* a tail call's, in this frame */
    if (tail)
        t->controls[t->n_controls - 1].dead = true;
    else
        push_call_results(t, f, args);
}

static void call_known(struct translator *t, bool tail) {
    struct func *callee = t->instance->funcs[leb_u32(&t->p)];
    const struct functype *f = type_func(t->instance->store->engine, callee->type_id);
    if (tail || callee->kind != FUNC_WASM || callee->wasm.instance != t->instance) {
        emit_call(t, CALLEE_KNOWN, f, tail, (uint64_t)(uintptr_t)callee, 0);
        return;
    }
    const uint32_t args = place_arguments(t, f);
    uint32_t at = emit4(t, IOP_call, args, 0, 0, 0, 2);
    t->code[at + 2].func = callee;
    push_call_results(t, f, args);
}

static void call_indirect(struct translator *t, bool tail) {
    const uint32_t type = t->module->type_ids[leb_u32(&t->p)], table = leb_u32(&t->p);
    const uint64_t wide = t->module->tables[table].type.limits.is64;
    emit_call(t, CALLEE_INDIRECT, type_func(t->instance->store->engine, type), tail,
              (uint64_t)(uintptr_t)t->instance->tables[table], type | wide << 32);
}

static void call_ref(struct translator *t, bool tail) {
    const uint32_t type = t->module->type_ids[leb_u32(&t->p)];
    emit_call(t, CALLEE_REF, type_func(t->instance->store->engine, type), tail, 0, 0);
}

/* ---- References and branches ---- */

static void compare_null(struct translator *t, struct entry e) {
    push_entry(t, e);
    translate_plain(t, OP_REF_IS_NULL);
}

/* The reference stays when it is not null, so it must be in a slot, and more than once on the stack for a moment. */
static struct entry settled_reference(struct translator *t) {
    if (t->stack[t->depth - 1].where == IN_CONST) settle(t, t->depth - 1);
    pin(t);
    return pop(t);
}

static void br_on_null(struct translator *t) {
    struct control *to = label(t, leb_u32(&t->p));
    const struct entry e = settled_reference(t);
    compare_null(t, e);
    emit_jump_if(t, to, true);
    push_entry(t, e);
}

static void br_on_non_null(struct translator *t) {
    struct control *to = label(t, leb_u32(&t->p));
    const struct entry e = settled_reference(t);
    compare_null(t, e);
    const uint32_t skip = emit_branch_if(t, true, false);
    t->code[skip].u[1] = NO_WORD;
    push_entry(t, e);
    emit_jump(t, to);
    resolve(t, skip);
    pop(t);
}

/* The test gets a copy, at a home of its own, and the reference stays for both ways. */
static void br_on_cast(struct translator *t, bool when) {
    const struct gc_branch b = gc_read_branch(&t->p);
    const struct entry e = settled_reference(t);
    push_entry(t, e);
    push_home(t, KIND_REF);
    move_to(t, e, t->stack[t->depth - 1].home);
    translate_cast(t, b.test, b.heap);
    emit_jump_if(t, label(t, b.depth), when);
}

/* ---- Exceptions ---- */

static void add_catch(struct translator *t, struct catch_entry c) {
    if (!grow_array(t, (void **)&t->catches, t->n_catches, &t->catches_capacity, sizeof *t->catches)) return;
    t->catches[t->n_catches++] = c;
}

static const struct functype *tag_type(const struct translator *t, const struct tag *tag) {
    return type_func(t->instance->store->engine, tag->type_id);
}

static void throw(struct translator * t) {
    struct tag *tag = t->instance->tags[leb_u32(&t->p)];
    const uint32_t payload = place_arguments(t, tag_type(t, tag));
    uint32_t at = emit4(t, IOP_throw, payload, 0, 0, 0, 2);
    t->code[at + 2].tag = tag;
    t->controls[t->n_controls - 1].dead = true;
}

static void throw_ref(struct translator *t, uint16_t slot) {
    emit4(t, IOP_throw_ref, slot, 0, 0, 0, 1);
    t->controls[t->n_controls - 1].dead = true;
}

enum catch_kind { CATCH, CATCH_REF, CATCH_ALL, CATCH_ALL_REF };

static void skip_clauses(const uint8_t **p) {
    for (uint32_t n = leb_u32(p); n; n--) {
        const uint8_t kind = *(*p)++;
        if (kind < CATCH_ALL) leb_u32(p);
        leb_u32(p);
    }
}

static void try_table(struct translator *t) {
    struct control *c = begin(t, CONTROL_TRY_TABLE);
    c->clauses = t->p;
    c->start = t->n;
    t->last = t->prev = NO_WORD;
    skip_clauses(&t->p);
}

/* At the end of a try_table, which has been popped: a landing for every clause, which goes on to the clause's label. */
static void end_try_table(struct translator *t, const struct control *c) {
    const uint8_t *p = c->clauses;
    const uint32_t end = t->n;
    for (uint32_t n = leb_u32(&p); n && !t->error; n--) {
        const uint8_t kind = *p++;
        struct tag *tag = kind < CATCH_ALL ? t->instance->tags[leb_u32(&p)] : NULL;
        struct control *to = label(t, leb_u32(&p));
        const bool ref = kind == CATCH_REF || kind == CATCH_ALL_REF;
        label_here(t);
        cut_stack(t, c->depth, c->height);
        if (tag) push_values(t, tag_type(t, tag)->params, tag_type(t, tag)->n_params);
        const uint32_t exn = t->height;
        if (ref) push_home(t, KIND_REF);
        add_catch(t, (struct catch_entry){.start = c->start,
                                          .end = end,
                                          .target = t->n,
                                          .tag = tag,
                                          .level = t->n_controls,
                                          .payload_slot = (uint16_t)c->height,
                                          .exn_slot = ref ? (uint16_t)exn : NO_SLOT});
        emit_jump(t, to);
    }
}

/* Legacy: the exception caught is kept in the first slot of the catching block, for rethrow; the payload follows it. */
static void catch_legacy(struct translator *t, struct tag *tag) {
    struct control *c = &t->controls[t->n_controls - 1];
    if (!c->dead) emit_jump(t, c);
    if (c->kind == CONTROL_TRY) c->try_end = t->n;
    c->kind = CONTROL_CATCH;
    c->dead = false;
    label_here(t);
    forget_assignments(t, c->assignments);
    cut_stack(t, c->depth, c->height);
    add_catch(t, (struct catch_entry){.start = c->start,
                                      .end = c->try_end,
                                      .target = t->n,
                                      .tag = tag,
                                      .level = t->n_controls - 1,
                                      .payload_slot = (uint16_t)(c->height + 1),
                                      .exn_slot = (uint16_t)c->height});
    push_home(t, KIND_REF);
    if (tag) push_values(t, tag_type(t, tag)->params, tag_type(t, tag)->n_params);
}

/* ---- Ends ---- */

/* The current block is over and may be fallen through. */
static void end_block(struct translator *t) {
    struct control *at_end = &t->controls[t->n_controls - 1];
    const struct functype *f = type_of(at_end);
    if (at_end->kind == CONTROL_FUNC) {
        if (!at_end->dead) emit_return(t);
        t->n_controls--;
        return;
    }
    if (!at_end->dead && at_end->kind == CONTROL_CATCH) move_values(t, f->n_results, at_end->height);
    const bool clauses = at_end->kind == CONTROL_TRY_TABLE && *at_end->clauses != 0;
    if (clauses && !at_end->dead) emit_jump(t, at_end);
    struct control c = *at_end;
    f = type_of(&c);
    t->n_controls--;
    const bool no_else = c.kind == CONTROL_IF;
    const bool joins = c.fixups != NO_WORD || no_else;
    if (clauses) end_try_table(t, &c);
    if (!joins && c.dead) { /* nobody comes here */
        cut_stack(t, c.depth, c.height);
        t->controls[t->n_controls - 1].dead = true;
        return;
    }
    if (!joins && c.kind != CONTROL_CATCH) return; /* fallen into only: the stack is as it should be */
    if (!c.dead && !clauses && c.kind != CONTROL_CATCH) settle_top(t, f->n_results);
    cut_stack(t, c.depth, c.height);
    push_values(t, results_of(&c), f->n_results);
    forget_assignments(t, c.assignments);
    resolve(t, c.else_fixups);
    resolve(t, c.fixups);
    label_here(t);
}

static void delegate(struct translator *t) {
    const struct control *c = &t->controls[t->n_controls - 1];
    const uint32_t level = t->n_controls - 1, target = leb_u32(&t->p);
    t->last = t->prev = NO_WORD;
    add_catch(t, (struct catch_entry){
                     .start = c->start, .end = t->n, .level = level, .delegate = level - target, .exn_slot = NO_SLOT});
    end_block(t);
}

static void if_(struct translator *t) {
    /* Parameters first, so that both arms find them at home; the condition stays the latest instruction if it can. */
    const uint8_t *p = t->p;
    struct blocktype_buf buf;
    const uint32_t n = module_read_blocktype(t->module, &p, &buf)->n_params;
    if (n || t->n_local_refs) {
        const uint32_t at = t->result_at;
        const struct entry condition = pop(t);
        settle_top(t, n);
        settle_locals(t, t->depth);
        push_entry(t, condition);
        t->result_at = at;
        if (n) pin(t);
    }
    uint32_t branch = emit_branch_if(t, false, false);
    t->code[branch].u[1] = NO_WORD;
    begin(t, CONTROL_IF)->else_fixups = branch;
}

static void else_(struct translator *t) {
    struct control *c = &t->controls[t->n_controls - 1];
    if (!c->dead) emit_jump(t, c);
    c->kind = CONTROL_ELSE;
    c->dead = false;
    resolve(t, c->else_fixups);
    forget_assignments(t, c->assignments);
    c->else_fixups = NO_WORD;
    cut_stack(t, c->depth, c->height);
    push_values(t, type_of(c)->params, type_of(c)->n_params);
}

static void loop(struct translator *t) {
    struct control *c = begin(t, CONTROL_LOOP);
    settle_top(t, type_of(c)->n_params);
    label_here(t);
    c->start = t->n;
}

/* ---- The driver ---- */

/* Passes over immediates of an instruction that is not translated. */
static void skip_immediate(struct translator *t, uint32_t op) {
    const uint8_t **p = &t->p;
    struct blocktype_buf buf;
    switch (opcode_table[op].imm) {
    case IMM_NONE: break;
    case IMM_BLOCK: module_read_blocktype(t->module, p, &buf); break;
    case IMM_BR_TABLE:
        for (uint32_t n = leb_u32(p); n; n--)
            leb_u32(p);
        leb_u32(p);
        break;
    case IMM_TRY_TABLE:
        module_read_blocktype(t->module, p, &buf);
        skip_clauses(p);
        break;
    case IMM_TYPES:
        for (uint32_t n = leb_u32(p); n; n--)
            module_read_valtype(t->module, p);
        break;
    case IMM_TYPE_TABLE:
    case IMM_TABLE_TABLE:
    case IMM_ELEM_TABLE:
    case IMM_MEMORY_MEMORY:
    case IMM_DATA_MEMORY:
    case IMM_TYPE_FIELD:
    case IMM_TYPE_COUNT:
    case IMM_TYPE_TYPE:
    case IMM_TYPE_DATA:
    case IMM_TYPE_ELEM:
        leb_u32(p);
        leb_u32(p);
        break;
    case IMM_MEMARG: read_memarg(t); break;
    case IMM_MEMARG_LANE:
        read_memarg(t);
        ++*p;
        break;
    case IMM_BR_CAST:
        ++*p;
        leb_u32(p);
        leb_s64(p);
        leb_s64(p);
        break;
    case IMM_F32: *p += 4; break;
    case IMM_F64: *p += 8; break;
    case IMM_V128:
    case IMM_SHUFFLE: *p += 16; break;
    case IMM_LANE: ++*p; break;
    default: leb_s64(p); break; /* one number */
    }
}

/* Unreachable code is passed over up to what ends it: end, else, catch, catch_all or delegate of the current block. */
static void skip_dead(struct translator *t) {
    for (uint32_t nested = 0;;) {
        const uint8_t *at = t->p;
        const uint32_t op = opcode_read(&t->p);
        const bool ends = op == OP_END || op == OP_DELEGATE,
                   splits = op == OP_ELSE || op == OP_CATCH || op == OP_CATCH_ALL;
        if (nested == 0 && (ends || splits)) {
            t->p = at;
            return;
        }
        skip_immediate(t, op);
        if (ends) nested--;
        if (op == OP_BLOCK || op == OP_LOOP || op == OP_IF || op == OP_TRY || op == OP_TRY_TABLE) nested++;
    }
}

static void translate_one(struct translator *t, uint32_t op) {
    bool *const dead = &t->controls[t->n_controls - 1].dead;
    switch (op) {
    case OP_UNREACHABLE:
        emit(t, IOP_unreachable, 0);
        *dead = true;
        break;
    case OP_BLOCK: begin(t, CONTROL_BLOCK); break;
    case OP_LOOP: loop(t); break;
    case OP_IF: if_(t); break;
    case OP_ELSE: else_(t); break;
    case OP_END: end_block(t); break;
    case OP_BR:
        emit_jump(t, label(t, leb_u32(&t->p)));
        *dead = true;
        break;
    case OP_BR_IF:
        emit_jump_if(t, label(t, leb_u32(&t->p)), true);
        t->fuel_at = NO_WORD;
        break;
    case OP_BR_TABLE:
        br_table(t);
        *dead = true;
        break;
    case OP_RETURN:
        emit_return(t);
        *dead = true;
        break;
    case OP_CALL: call_known(t, false); break;
    case OP_RETURN_CALL: call_known(t, true); break;
    case OP_CALL_INDIRECT: call_indirect(t, false); break;
    case OP_RETURN_CALL_INDIRECT: call_indirect(t, true); break;
    case OP_CALL_REF: call_ref(t, false); break;
    case OP_RETURN_CALL_REF: call_ref(t, true); break;
    case OP_BR_ON_NULL:
        br_on_null(t);
        t->fuel_at = NO_WORD;
        break;
    case OP_BR_ON_NON_NULL:
        br_on_non_null(t);
        t->fuel_at = NO_WORD;
        break;
    case OP_BR_ON_CAST:
    case OP_BR_ON_CAST_FAIL:
        br_on_cast(t, op == OP_BR_ON_CAST);
        t->fuel_at = NO_WORD;
        break;
    case OP_THROW: throw(t); break;
    case OP_THROW_REF: throw_ref(t, pop_slot(t)); break;
    case OP_RETHROW: throw_ref(t, (uint16_t)label(t, leb_u32(&t->p))->height); break;
    case OP_TRY_TABLE: try_table(t); break;
    case OP_TRY:
        begin(t, CONTROL_TRY)->start = t->n;
        t->last = t->prev = NO_WORD;
        break;
    case OP_CATCH: catch_legacy(t, t->instance->tags[leb_u32(&t->p)]); break;
    case OP_CATCH_ALL: catch_legacy(t, NULL); break;
    case OP_DELEGATE: delegate(t); break;
    default: translate_plain(t, op);
    }
}

static bool is_end(uint32_t op) {
    return op == OP_END || op == OP_ELSE || op == OP_CATCH || op == OP_CATCH_ALL || op == OP_DELEGATE;
}

/* One unit a wasm instruction, charged at the beginning of its basic block. */
static void charge(struct translator *t, uint32_t op) {
    if (is_end(op)) return;
    if (t->fuel_at == NO_WORD) t->fuel_at = emit(t, IOP_fuel, 1);
    t->code[t->fuel_at + 1].u64++;
}

static void translate_body(struct translator *t) {
    while (t->n_controls && !t->error) {
        if (t->controls[t->n_controls - 1].dead) skip_dead(t);
        t->offset = (uint32_t)(t->p - t->module->data);
        const uint32_t op = opcode_read(&t->p);
        if (t->fuel) charge(t, op);
        translate_one(t, op);
    }
}

enum { ENTER_WORDS = 2 };

/* Locals: parameters, then what the body declares. Code begins with op_enter, which zeroes those that need it; without
 * any it is left out when all is done. */
static void read_locals(struct translator *t) {
    const struct functype *f = type_func(t->instance->store->engine, t->func->type_id);
    const uint8_t *p = t->p;
    uint32_t n = f->n_params;
    const uint32_t groups = leb_u32(&p);
    for (uint32_t i = 0; i < groups; i++) {
        n += leb_u32(&p);
        module_read_valtype(t->module, &p);
    }
    t->locals = t->platform->realloc(t->platform->ctx, NULL, (n + 1) * sizeof *t->locals);
    if (!t->locals) {
        fail(t, TRAP_OUT_OF_MEMORY, "no memory to translate a function");
        return;
    }
    leb_u32(&t->p);
    uint32_t at = 0;
    for (uint32_t group = 0; group <= groups; group++) {
        /* group 0: the parameters, each a group of its own */
        uint32_t count = group ? leb_u32(&t->p) : f->n_params;
        const valtype type = group ? module_read_valtype(t->module, &t->p) : 0;
        for (uint32_t i = 0; i < count; i++) {
            const uint8_t kind = (uint8_t)vt_kind(group ? type : f->params[i]);
            t->locals[at++] = (struct local){(uint16_t)t->local_slots, kind};
            t->local_slots += kind == KIND_V128 ? 2 : 1;
        }
    }
    t->n_locals = n;
    if (t->local_slots > INTERP_MAX_SLOTS) {
        fail(t, TRAP_HOST, "function too large for the interpreter: more than 65,535 slots of locals and operands");
        return;
    }
    t->height = t->max_height = t->local_slots;
    t->local_refs = t->platform->realloc(t->platform->ctx, NULL, (t->local_slots + 2) * sizeof *t->local_refs);
    if (!t->local_refs) {
        fail(t, TRAP_OUT_OF_MEMORY, "no memory to translate a function");
        return;
    }
    memset(t->local_refs, 0, (t->local_slots + 2) * sizeof *t->local_refs);
    t->assigned = t->platform->realloc(t->platform->ctx, NULL, n + 1);
    if (!t->assigned) {
        fail(t, TRAP_OUT_OF_MEMORY, "no memory to translate a function");
        return;
    }
    for (uint32_t i = 0; i < n; i++)
        t->assigned[i] = i < f->n_params;
    t->zero_begin = t->local_slots;
    emit(t, IOP_enter, ENTER_WORDS - 1);
}

static void translate_func(struct translator *t) {
    const struct functype *f = type_func(t->instance->store->engine, t->func->type_id);
    const struct func_body *body = &t->module->bodies[t->func->wasm.index - t->module->n_func_imports];
    t->p = t->module->data + body->offset;
    t->offset = body->offset;
    t->capacity = 256 + body->size;
    t->code = t->platform->realloc(t->platform->ctx, NULL, t->capacity * sizeof(word));
    if (t->recording) t->map = t->platform->realloc(t->platform->ctx, NULL, t->capacity * sizeof *t->map);
    if (!t->code || (t->recording && !t->map) ||
        !grow_array(t, (void **)&t->controls, 0, &t->controls_capacity, sizeof *t->controls)) {
        fail(t, TRAP_OUT_OF_MEMORY, "no memory to translate a function");
        return;
    }
    forget(t);
    read_locals(t);
    if (t->error) return;
    t->controls[t->n_controls++] = (struct control){
        .kind = CONTROL_FUNC, .type = f, .fixups = NO_WORD, .else_fixups = NO_WORD, .depth = 0, .height = t->height};
    translate_body(t);
    t->code[1].s[0] = (uint16_t)t->zero_begin;
    t->code[1].u[1] = t->zero_end ? (t->zero_end - t->zero_begin + 3) / 4 : 0;
    if (t->max_height < f->result_slots) t->max_height = f->result_slots;
    if (t->max_height > INTERP_MAX_SLOTS)
        fail(t, TRAP_HOST, "function too large for the interpreter: more than 65,535 slots of locals and operands");
}

/* Words to leave out at the beginning. */
static uint32_t unused_words(const struct translator *t) {
    return t->zero_end ? 0 : ENTER_WORDS;
}

static void free_scratch(struct translator *t) {
    void *blocks[] = {t->code,       t->stack,    t->controls,    t->catches, t->locals,
                      t->local_refs, t->assigned, t->assignments, t->map};
    for (unsigned i = 0; i < sizeof blocks / sizeof *blocks; i++)
        t->platform->realloc(t->platform->ctx, blocks[i], 0);
}

static struct translator translator_for(struct func *f, bool recording) {
    struct instance *i = f->wasm.instance;
    return (struct translator){.func = f,
                               .instance = i,
                               .module = i->module,
                               .platform = i->store->engine->platform,
                               .recording = recording,
                               .fuel = i->store->limits.fuel_enabled,
                               .fuel_at = NO_WORD,
                               .last = NO_WORD,
                               .prev = NO_WORD,
                               .result_at = NO_WORD};
}

enum trap_kind translate(struct func *f) {
    struct translator t = translator_for(f, false);
    translate_func(&t);
    const uint32_t skip = unused_words(&t), n = t.n - skip;
    struct func_code *code = NULL;
    if (!t.error) {
        code = t.platform->realloc(t.platform->ctx, NULL, sizeof *code + n * sizeof(word));
        if (!code) fail(&t, TRAP_OUT_OF_MEMORY, "no memory to translate a function");
    }
    if (code) {
        *code = (struct func_code){.n_words = n, .n_catches = t.n_catches, .catches = t.catches};
        memcpy(code->code, t.code + skip, n * sizeof(word));
        for (uint32_t i = 0; i < t.n_catches; i++)
            t.catches[i].start -= skip, t.catches[i].end -= skip, t.catches[i].target -= skip;
        t.catches = NULL;
        f->wasm.frame_slots = t.max_height;
        f->wasm.code = code->code;
    } else {
        struct trap *trap = &f->store->trap;
        const size_t n = strlen(t.message);
        memcpy(trap->message, t.message, n < sizeof trap->message ? n + 1 : sizeof trap->message);
        trap->message[sizeof trap->message - 1] = 0;
    }
    free_scratch(&t);
    return t.error;
}

uint32_t translate_offset(struct func *f, uint32_t at) {
    struct translator t = translator_for(f, true);
    translate_func(&t);
    at += unused_words(&t);
    uint32_t offset = t.module->bodies[f->wasm.index - t.module->n_func_imports].offset;
    if (!t.error && at < t.n) {
        while (at > 0 && !t.map[at])
            at--;
        if (t.map[at]) offset = t.map[at] - 1;
    }
    free_scratch(&t);
    return offset;
}
