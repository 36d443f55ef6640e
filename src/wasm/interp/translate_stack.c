/* Emission, the operand stack and the accumulators: see translate.h. */
#include "translate.h"

#include <string.h>

void fail(struct translator *t, enum trap_kind kind, const char *message) {
    if (t->error) return;
    t->error = kind;
    t->message = message;
}

bool grow_array(struct translator *t, void **array, uint32_t used, uint32_t *capacity, size_t element) {
    if (used < *capacity) return true;
    uint32_t wanted = *capacity ? 2 * *capacity : 16;
    void *bigger = t->platform->realloc(t->platform->ctx, *array, wanted * element);
    if (!bigger) {
        fail(t, TRAP_OUT_OF_MEMORY, "no memory to translate a function");
        return false;
    }
    *array = bigger;
    *capacity = wanted;
    return true;
}

/* ---- Emission ---- */

/* After a failure code is still written, over what is there: words up to n + 64 always exist. */
static void reserve_words(struct translator *t, uint32_t words) {
    if (t->n + words + 64 <= t->capacity) return;
    const uint32_t wanted = 2 * t->capacity;
    void *code = NULL, *map = NULL;
    if (t->n + words > INTERP_MAX_WORDS) {
        fail(t, TRAP_HOST, "function too large for the interpreter: more than 67,108,864 words of code");
        t->n = 0;
        return;
    }
    code = t->platform->realloc(t->platform->ctx, t->code, wanted * sizeof(word));
    if (code) t->code = code;
    if (code && t->recording) map = t->platform->realloc(t->platform->ctx, t->map, wanted * sizeof *t->map);
    if (map) t->map = map;
    if (!code || (t->recording && !map)) {
        fail(t, TRAP_OUT_OF_MEMORY, "no memory to translate a function");
        t->n = 0;
        return;
    }
    t->capacity = wanted;
}

/* Four moves in one instruction, or three: the last of them is made twice then. */
static bool merge_copies(struct translator *t) {
    if (t->prev_op != IOP_copy64_2 || (t->last_op != IOP_copy64_2 && t->last_op != IOP_copy64)) return false;
    word more = t->code[t->last + 1];
    if (t->last_op == IOP_copy64) more.s[2] = more.s[0], more.s[3] = more.s[1];
    t->code[t->prev].h = interp_handlers[IOP_copy64_4];
    t->code[t->prev + 2] = more;
    t->n = t->prev + 3;
    t->last = t->prev;
    t->last_op = IOP_copy64_4;
    t->prev = t->result_at = NO_WORD;
    return true;
}

/* Two like instructions in a row, both final, become one: [d a imm] and [d2 a2 imm2] make [d a d2 a2][imm imm2]. */
static void merge_pair(struct translator *t) {
    if (t->prev == NO_WORD || t->last == NO_WORD || merge_copies(t) || t->prev_op != t->last_op) return;
    const uint32_t op = t->last_op == IOP_i32_add_si   ? IOP_i32_add_2
                        : t->last_op == IOP_i32_load_s ? IOP_i32_load_2
                                                       : 0;
    if (!op) return;
    word *first = &t->code[t->prev], *second = &t->code[t->last];
    const word a = first[1], b = second[1];
    *first = (word){.h = interp_handlers[op]};
    first[1] = (word){.s = {a.s[0], a.s[1], b.s[0], b.s[1]}};
    first[2] = (word){.u = {a.u[1], b.u[1]}};
    if (t->recording) t->map[t->prev + 1] = t->map[t->last]; /* see op_i32_load_2 */
    pin(t);
    t->n = t->prev + 3;
    t->last = t->prev;
    t->last_op = op;
    t->prev = t->result_at = NO_WORD;
}

uint32_t emit(struct translator *t, uint32_t op, uint32_t operand_words) {
    merge_pair(t);
    reserve_words(t, 1 + operand_words);
    uint32_t at = t->n;
    t->code[at].h = interp_handlers[op];
    memset(&t->code[at + 1], 0, operand_words * sizeof(word));
    if (t->recording) {
        memset(&t->map[at], 0, (1 + operand_words) * sizeof *t->map);
        t->map[at] = t->offset + 1;
    }
    t->n = at + 1 + operand_words;
    t->prev = t->last;
    t->prev_op = t->last_op;
    t->last = at;
    t->last_op = op;
    return at;
}

void replace_last(struct translator *t, uint32_t op) {
    t->code[t->last].h = interp_handlers[op];
    if (t->acc.at == t->last && t->acc.op == t->last_op) t->acc.op = op;
    t->last_op = op;
}

void take_back_last(struct translator *t) {
    t->n = t->last;
    struct accumulator *a[3] = {&t->acc, &t->facc, &t->dacc};
    for (int i = 0; i < 3; i++)
        if (a[i]->at == t->last) a[i]->slot = ACC_EMPTY;
    t->last = t->prev;
    t->last_op = t->prev_op;
    t->prev = NO_WORD;
}

void label_here(struct translator *t) {
    t->last = t->prev = NO_WORD;
    t->fuel_at = NO_WORD;
    forget(t);
}

void resolve(struct translator *t, uint32_t fixups) {
    if (fixups == NO_WORD) return;
    while (fixups != NO_WORD && !t->error) {
        word *w = &t->code[fixups];
        uint32_t next = w->u[1];
        w->i[1] = (int32_t)(t->n - fixups);
        fixups = next;
    }
    label_here(t);
}

/* ---- Accumulators ---- */

struct accumulator *accumulator_of(struct translator *t, uint8_t kind) {
    switch (kind) {
    case KIND_F32: return &t->facc;
    case KIND_F64: return &t->dacc;
    case KIND_V128: return NULL;
    default: return &t->acc;
    }
}

bool in_accumulator(struct translator *t, struct entry e) {
    const struct accumulator *a = accumulator_of(t, e.kind);
    return a && e.where != IN_CONST && a->slot == e.slot;
}

void take_accumulator(struct translator *t, struct entry e) {
    struct accumulator *a = accumulator_of(t, e.kind);
    if (e.where != IN_HOME || a->op == IOP_COUNT) return;
    t->code[a->at].h = interp_handlers[a->op + 1];
    if (t->last == a->at) t->last_op = a->op + 1;
    a->op = IOP_COUNT;
}

void pin(struct translator *t) {
    t->acc.op = t->facc.op = t->dacc.op = IOP_COUNT;
}

void forget(struct translator *t) {
    t->acc.slot = t->facc.slot = t->dacc.slot = ACC_EMPTY;
    pin(t);
}

void overwritten(struct translator *t, uint32_t slot) {
    if (t->acc.slot == slot) t->acc.slot = ACC_EMPTY;
    if (t->facc.slot == slot) t->facc.slot = ACC_EMPTY;
    if (t->dacc.slot == slot) t->dacc.slot = ACC_EMPTY;
}

/* ---- The operand stack ---- */

static struct entry *push(struct translator *t, uint8_t kind) {
    const uint32_t slots = kind == KIND_V128 ? 2 : 1;
    if (t->height + slots > INTERP_MAX_SLOTS) {
        fail(t, TRAP_HOST, "function too large for the interpreter: more than 65,535 slots of locals and operands");
        return &t->dummy;
    }
    if (!grow_array(t, (void **)&t->stack, t->depth, &t->stack_capacity, sizeof *t->stack)) return &t->dummy;
    struct entry *e = &t->stack[t->depth++];
    *e = (struct entry){.kind = kind, .home = (uint16_t)t->height, .slot = (uint16_t)t->height};
    t->height += slots;
    if (t->height > t->max_height) t->max_height = t->height;
    t->result_at = NO_WORD;
    return e;
}

struct entry pop(struct translator *t) {
    if (t->depth == 0) return t->dummy; /* only after a failure */
    struct entry e = t->stack[--t->depth];
    if (t->settled > t->depth) t->settled = t->depth;
    t->height = e.home;
    if (e.where == IN_LOCAL) {
        t->local_refs[e.slot]--;
        t->n_local_refs--;
    }
    return e;
}

void push_const(struct translator *t, uint8_t kind, uint64_t bits) {
    struct entry *e = push(t, kind);
    e->where = IN_CONST;
    e->bits = bits;
}

void push_local(struct translator *t, uint32_t local) {
    struct entry *e = push(t, t->locals[local].kind);
    if (e == &t->dummy) return;
    e->where = IN_LOCAL;
    e->slot = t->locals[local].slot;
    if (!t->assigned[local]) { /* its zero is read */
        if (e->slot < t->zero_begin) t->zero_begin = e->slot;
        if (e->slot + vt_slots(e->kind) > t->zero_end) t->zero_end = e->slot + vt_slots(e->kind);
    }
    t->local_refs[e->slot]++;
    t->n_local_refs++;
}

void push_home(struct translator *t, uint8_t kind) {
    push(t, kind);
}

void push_entry(struct translator *t, struct entry e) {
    struct entry *to = push(t, e.kind);
    if (to == &t->dummy) return;
    *to = e;
    if (e.where == IN_LOCAL) {
        t->local_refs[e.slot]++;
        t->n_local_refs++;
    }
}

void push_result(struct translator *t, uint32_t at, uint32_t op, uint8_t kind) {
    const uint16_t home = push(t, kind)->home;
    t->code[at + 1].s[0] = home;
    t->result_at = at;
    overwritten(t, home);
    if (kind == KIND_V128) overwritten(t, home + 1u);
    if (interp_flags[op] & OPF_TWIN) *accumulator_of(t, kind) = (struct accumulator){home, at, op};
}

static void put(struct translator *t, uint16_t slot, uint64_t bits) {
    overwritten(t, slot);
    if ((int64_t)bits == (int32_t)bits) {
        emit_imm(t, IOP_put, slot, 0, (int32_t)bits, 1);
        return;
    }
    uint32_t at = emit4(t, IOP_put64, slot, 0, 0, 0, 2);
    t->code[at + 2].u64 = bits;
}

/* slot = e, a sum; into the accumulator too. */
static void add_to(struct translator *t, struct entry e, uint16_t slot) {
    const uint32_t plus = e.plus;
    e.plus = 0;
    const bool acc = in_accumulator(t, e);
    if (acc) take_accumulator(t, e);
    const uint32_t op = acc ? IOP_i32_add_ai : IOP_i32_add_si;
    const uint32_t at = emit_imm(t, op, slot, e.slot, (int32_t)plus, 1);
    overwritten(t, slot);
    t->acc = (struct accumulator){slot, at, op};
}

bool immediate(struct entry e) {
    if (e.where != IN_CONST) return false;
    return e.kind == KIND_F64 || (int64_t)e.bits == (int32_t)e.bits;
}

struct entry operand(struct translator *t, struct entry e) {
    static const uint16_t ops[] = {[KIND_F32] = IOP_f32_const, [KIND_F64] = IOP_f64_const};
    if (e.where == IN_CONST) {
        const uint32_t op = e.kind == KIND_F32 || e.kind == KIND_F64 ? ops[e.kind]
                            : immediate(e)                           ? IOP_const
                                                                     : IOP_const64;
        const uint32_t at = emit_imm(t, op, e.home, 0, (int32_t)e.bits, op == IOP_const ? 1 : 2);
        if (op != IOP_const) t->code[at + 2].u64 = e.bits;
        overwritten(t, e.home);
        *accumulator_of(t, e.kind) = (struct accumulator){e.home, at, op};
    } else if (e.plus) {
        add_to(t, e, e.home);
    } else {
        return e;
    }
    e.where = IN_HOME;
    e.slot = e.home;
    e.plus = 0;
    return e;
}

uint16_t to_slot(struct translator *t, struct entry e) {
    if (e.plus) return operand(t, e).slot;
    if (e.where != IN_CONST) return e.slot;
    put(t, e.home, e.bits);
    return e.home;
}

/* Two moves in a row become one instruction. */
static void copy64(struct translator *t, uint16_t to, uint16_t from) {
    if (t->last != NO_WORD && t->last_op == IOP_copy64) {
        t->code[t->last + 1].s[2] = to;
        t->code[t->last + 1].s[3] = from;
        replace_last(t, IOP_copy64_2);
        return;
    }
    emit4(t, IOP_copy64, to, from, 0, 0, 1);
}

void move_to(struct translator *t, struct entry e, uint16_t slot) {
    if (e.where == IN_CONST) {
        put(t, slot, e.bits);
        return;
    }
    if (e.plus) {
        add_to(t, e, slot);
        t->acc.op = IOP_COUNT; /* the slot is what counts */
        return;
    }
    if (e.slot == slot) return;
    switch (e.kind) {
    case KIND_V128:
        emit4(t, IOP_copy128, slot, e.slot, 0, 0, 1);
        overwritten(t, slot + 1u);
        break;
    case KIND_F32: emit4(t, IOP_copy32, slot, e.slot, 0, 0, 1); break;
    case KIND_F64: copy64(t, slot, e.slot); break;
    default:
        if (in_accumulator(t, e))
            emit4(t, IOP_copy64_a, slot, 0, 0, 0, 1);
        else
            copy64(t, slot, e.slot);
    }
    overwritten(t, slot);
}

void settle(struct translator *t, uint32_t n) {
    struct entry *e = &t->stack[n];
    if (e->where == IN_HOME && !e->plus) return;
    move_to(t, *e, e->home);
    if (e->where == IN_LOCAL) {
        t->local_refs[e->slot]--;
        t->n_local_refs--;
    }
    e->where = IN_HOME;
    e->slot = e->home;
    e->plus = 0;
}

void settle_top(struct translator *t, uint32_t count) {
    for (uint32_t n = count > t->depth ? 0 : t->depth - count; n < t->depth; n++)
        settle(t, n);
}

void settle_locals(struct translator *t, uint32_t below) {
    for (uint32_t n = t->settled; t->n_local_refs && n < below; n++)
        if (t->stack[n].where == IN_LOCAL) settle(t, n);
    if (t->settled < below) t->settled = below;
}

void local_assigned(struct translator *t, uint32_t local) {
    if (t->assigned[local]) return;
    if (!grow_array(t, (void **)&t->assignments, t->n_assignments, &t->assignments_capacity, sizeof *t->assignments))
        return;
    t->assignments[t->n_assignments++] = local;
    t->assigned[local] = true;
}

void forget_assignments(struct translator *t, uint32_t n) {
    while (t->n_assignments > n)
        t->assigned[t->assignments[--t->n_assignments]] = false;
}

void settle_refs_to(struct translator *t, uint16_t slot) {
    /* From the top: who puts references deep down has pushed as much as is looked at here. */
    for (uint32_t n = t->depth; t->local_refs[slot] && n > 0; n--)
        if (t->stack[n - 1].where == IN_LOCAL && t->stack[n - 1].slot == slot) settle(t, n - 1);
}
