#include "validator.h"
#include "donjon/platform.h"

#include <string.h>

struct validator *validator_new(struct module *m) {
    const struct donjon_platform *p = m->engine->platform;
    struct validator *v = p->realloc(p->ctx, NULL, sizeof *v);
    if (!v) return NULL;
    memset(v, 0, sizeof *v);
    v->module = m;
    v->engine = m->engine;
    v->platform = p;
    v->n_datas = UINT32_MAX;
    return v;
}

void validator_delete(struct validator *v) {
    if (!v) return;
    void *parts[] = {v->stack, v->blocks, v->locals, v->runs, v->uninit, v->init_stack, v->refs, v};
    const struct donjon_platform *p = v->platform;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (parts[i]) p->realloc(p->ctx, parts[i], 0);
}

static void *take(struct validator *v, size_t size) {
    return v->platform->realloc(v->platform->ctx, NULL, size);
}

static bool make_ready(struct validator *v) {
    v->stack = take(v, (MAX_OPERANDS + SPARE) * sizeof *v->stack);
    v->locals = take(v, FAST_LOCALS * sizeof *v->locals);
    if (!v->stack || !v->locals) return out_of_memory(&v->r);
    v->limit = v->stack + MAX_OPERANDS;
    v->ready = true;
    return true;
}

void validator_data_count(struct validator *v, uint32_t n) {
    v->n_datas = n;
}

bool validator_declare_ref(struct validator *v, struct reader *r, uint32_t func) {
    if (!v->refs) {
        size_t size = v->module->n_funcs / 8 + 1;
        v->refs = take(v, size);
        if (!v->refs) return out_of_memory(r);
        memset(v->refs, 0, size);
    }
    v->refs[func / 8] |= (uint8_t)(1u << func % 8);
    return true;
}

/* ---- Operands ---- */

bool pop_unequal(struct validator *v, valtype t) {
    if (v->sp == v->base) {
        if (v->top->unreachable) return true;
        return invalid(&v->r, "%s expects %s, found an empty stack", here(v), type_text(&v->r, t).s);
    }
    if (!matches(v, v->sp[-1], t))
        return invalid(&v->r, "%s expects %s, found %s", here(v), type_text(&v->r, t).s, type_text(&v->r, v->sp[-1]).s);
    v->sp--;
    return true;
}

bool pop_ref(struct validator *v, valtype *t) {
    if (!pop_any(v, t)) return false;
    if (*t == VT_BOT) *t = VT_REF(false, HEAP_BOT);
    return vt_is_ref(*t) || invalid(&v->r, "%s expects a reference, found %s", here(v), type_text(&v->r, *t).s);
}

bool pop_types(struct validator *v, const valtype *types, uint32_t n) {
    enum { MANY = 8 };
    if (unlikely(n >= MANY) && v->sp - v->base >= (ptrdiff_t)n && !memcmp(v->sp - n, types, n * sizeof *types)) {
        v->sp -= n;
        return true;
    }
    while (n--) {
        if (v->sp == v->base && v->top->unreachable) return true; /* whatever is missing has the right type */
        if (!pop(v, types[n])) return false;
    }
    return true;
}

bool push_types(struct validator *v, const valtype *types, uint32_t n) {
    if ((ptrdiff_t)n > v->limit + SPARE / 2 - v->sp)
        return invalid(&v->r, "more than %u values on the stack", MAX_OPERANDS);
    if (n) memcpy(v->sp, types, n * sizeof *types);
    v->sp += n;
    return true;
}

/* The top of the stack has these types; it stays. */
static bool peek_types(struct validator *v, const valtype *types, uint32_t n) {
    valtype *sp = v->sp;
    bool ok = pop_types(v, types, n);
    v->sp = sp;
    return ok;
}

static void set_unreachable(struct validator *v) {
    v->sp = v->base;
    v->top->unreachable = true;
}

/* ---- Blocks ---- */

static const valtype *block_results(const struct block *b) {
    return b->n_results == 1 ? &b->result : b->results;
}

const valtype *label_types(const struct block *b, uint32_t *n) {
    *n = b->op == OP_LOOP ? b->n_params : b->n_results;
    return b->op == OP_LOOP ? b->params : block_results(b);
}

/* Pushes an entry whose parameters have been popped. */
static bool enter(struct validator *v, uint32_t op, const struct functype *type) {
    if (v->n_blocks == v->blocks_cap) {
        if (v->n_blocks >= MAX_NESTING) return malformed(&v->r, "blocks nested deeper than the limit, %u", MAX_NESTING);
        uint32_t cap = v->blocks_cap ? 2 * v->blocks_cap : 64;
        if (cap > MAX_NESTING) cap = MAX_NESTING;
        struct block *blocks = v->platform->realloc(v->platform->ctx, v->blocks, cap * sizeof *blocks);
        if (!blocks) return out_of_memory(&v->r);
        v->blocks = blocks;
        v->blocks_cap = cap;
    }
    v->top = &v->blocks[v->n_blocks++];
    *v->top = (struct block){.op = op,
                             .height = (uint32_t)(v->sp - v->stack),
                             .init_height = v->n_init,
                             .n_params = type->n_params,
                             .n_results = type->n_results,
                             .params = type->params,
                             .results = type->results};
    if (type->n_results == 1) v->top->result = type->results[0];
    v->base = v->sp;
    return true;
}

/* Locals set inside a block count as set only to its end (section 3.4.13: the block's own instruction type lists them
 * not), so code after it sees them as before. */
static void forget_inits(struct validator *v, uint32_t height) {
    while (v->n_init > height) {
        uint32_t local = v->init_stack[--v->n_init];
        v->uninit[local / 8] |= (uint8_t)(1u << local % 8);
    }
}

/* At the end of a block or of one of its arms: the results and nothing else. Leaves them popped. */
static bool leave_arm(struct validator *v) {
    const struct block *b = v->top;
    if (b->n_results && !pop_types(v, block_results(b), b->n_results)) return false;
    if (v->sp != v->base)
        return invalid(&v->r, "%s expects %u values in the block, found %u more", here(v), b->n_results,
                       (unsigned)(v->sp - v->base));
    forget_inits(v, b->init_height);
    return true;
}

/* The next arm of the same block: else, catch, catch_all. */
static void next_arm(struct validator *v, uint32_t op) {
    v->top->op = op;
    v->top->unreachable = false;
}

static void leave(struct validator *v) {
    v->n_blocks--;
    if (!v->n_blocks) return;
    v->top = &v->blocks[v->n_blocks - 1];
    v->base = v->stack + v->top->height;
}

static bool find_label(struct validator *v, uint32_t depth, struct block **out) {
    if (depth >= v->n_blocks) return invalid(&v->r, "%s: unknown label %u, there are %u", here(v), depth, v->n_blocks);
    *out = &v->blocks[v->n_blocks - 1 - depth];
    return true;
}

bool read_label(struct validator *v, struct block **out) {
    uint32_t depth;
    return read_u32(&v->r, &depth) && find_label(v, depth, out);
}

/* ---- Immediates ---- */

static bool read_func_type(struct validator *v, uint32_t *id, const struct functype **out) {
    if (!read_type_index(&v->r, id)) return false;
    const struct deftype *d = type_get(v->engine, *id);
    if (d->kind != COMP_FUNC) return invalid(&v->r, "%s expects a function type", here(v));
    *out = &d->func;
    return true;
}

static valtype addr_type(bool is64) {
    return is64 ? VT_I64 : VT_I32;
}

static bool read_table(struct validator *v, const struct tabletype **out) {
    uint32_t index;
    if (!read_index(v, "table", v->module->n_tables, &index)) return false;
    *out = &v->module->tables[index].type;
    return true;
}

static bool read_memory(struct validator *v, valtype *addr) {
    uint32_t index;
    if (!read_index(v, "memory", v->module->n_memories, &index)) return false;
    *addr = addr_type(v->module->memories[index].is64);
    return true;
}

bool read_data(struct validator *v) {
    uint32_t index;
    if (v->n_datas == UINT32_MAX) return malformed(&v->r, "%s: data count section required", here(v));
    return read_index(v, "data segment", v->n_datas, &index);
}

bool read_elem(struct validator *v, valtype *type) {
    uint32_t index;
    if (!read_index(v, "element segment", v->module->n_elems, &index)) return false;
    *type = v->module->elems[index].type;
    return true;
}

/* Section 5.4.6. Bits 0..5 of the flags are the alignment's exponent, bit 6 says that a memory index follows. */
static inline bool read_memarg(struct validator *v, unsigned natural, valtype *addr) {
    enum { HAS_MEMORY = 0x40, MAX_FLAGS = 0x7f };
    uint32_t flags, memory = 0;
    uint64_t offset;
    if (!read_u32(&v->r, &flags)) return false;
    if (unlikely(flags >= HAS_MEMORY)) {
        if (flags > MAX_FLAGS) return malformed(&v->r, "%s: malformed memory access flags 0x%x", here(v), flags);
        flags &= ~(uint32_t)HAS_MEMORY;
        if (!read_u32(&v->r, &memory)) return false;
    }
    if (!read_u64(&v->r, &offset) || !check_index(v, "memory", memory, v->module->n_memories)) return false;
    bool is64 = v->module->memories[memory].is64;
    if (unlikely(flags > natural))
        return invalid(&v->r, "%s: alignment 2^%u is larger than natural, 2^%u", here(v), flags, natural);
    if (unlikely(offset > UINT32_MAX && !is64))
        return invalid(&v->r, "%s: offset %llu is out of range for a 32-bit memory", here(v),
                       (unsigned long long)offset);
    *addr = addr_type(is64);
    return true;
}

static bool read_lane(struct validator *v, unsigned lanes) {
    uint8_t lane;
    if (!read_byte(&v->r, &lane)) return false;
    return lane < lanes || invalid(&v->r, "%s: invalid lane index %u, there are %u", here(v), lane, lanes);
}

/* Section 5.4.1: nothing, one value type, or the index of a function type. `result` is where a single type lives. */
static bool read_blocktype(struct validator *v, struct functype *type, valtype *result) {
    struct reader *r = &v->r;
    *type = (struct functype){.n_params = 0};
    if (unlikely(r->p >= r->end)) return malformed(r, "unexpected end, expected a block type");
    if (*r->p == 0x40) {
        r->p++;
        return true;
    }
    if ((*r->p & 0xc0) == 0x40) { /* a negative s33 of one byte is a value type */
        if (!read_valtype(r, result)) return false;
        type->n_results = 1;
        type->results = result;
        return true;
    }
    uint64_t index;
    if (!read_leb(r, 33, true, &index)) return false;
    if ((int64_t)index < 0) return malformed(r, "%s: malformed block type", here(v));
    if (index >= v->module->n_types)
        return invalid(r, "%s: unknown type %u, there are %u", here(v), (unsigned)index, v->module->n_types);
    const struct deftype *d = type_get(v->engine, v->module->type_ids[index]);
    if (d->kind != COMP_FUNC) return invalid(r, "%s expects a function type, type %u is not", here(v), (unsigned)index);
    *type = d->func;
    return true;
}

/* ---- Control instructions (section 3.4.1 to 3.4.4) ---- */

static bool do_block(struct validator *v, uint32_t op) {
    struct functype type;
    valtype result;
    if (!read_blocktype(v, &type, &result)) return false;
    if (op == OP_IF && !pop(v, VT_I32)) return false;
    if (!pop_types(v, type.params, type.n_params)) return false;
    return enter(v, op, &type) && push_types(v, type.params, type.n_params);
}

static bool do_else(struct validator *v) {
    if (v->top->op != OP_IF) return malformed(&v->r, "else without an if");
    if (!leave_arm(v)) return false;
    next_arm(v, OP_ELSE);
    return push_types(v, v->top->params, v->top->n_params);
}

static bool do_end(struct validator *v) {
    const struct block *b = v->top;
    if (!leave_arm(v)) return false;
    if (b->op == OP_IF) { /* the missing else gives the parameters as they are */
        bool same = b->n_params == b->n_results;
        for (uint32_t i = 0; same && i < b->n_params; i++)
            same = matches(v, b->params[i], block_results(b)[i]);
        if (!same) return invalid(&v->r, "if without else: its results are not its parameters");
    }
    leave(v); /* the entry's memory stays as it is until the next block */
    return !b->n_results || push_types(v, block_results(b), b->n_results);
}

static bool do_br(struct validator *v) {
    struct block *b;
    uint32_t n;
    if (!read_label(v, &b)) return false;
    const valtype *types = label_types(b, &n);
    if (!pop_types(v, types, n)) return false;
    set_unreachable(v);
    return true;
}

/* The operands take the label's types, also where they go on. */
static bool retype(struct validator *v, const struct block *b) {
    uint32_t n;
    const valtype *types = label_types(b, &n);
    return !n || (pop_types(v, types, n) && push_types(v, types, n));
}

static bool do_br_if(struct validator *v) {
    struct block *b;
    return read_label(v, &b) && pop(v, VT_I32) && retype(v, b);
}

static bool do_br_table(struct validator *v) {
    struct reader *r = &v->r;
    const uint8_t *at = r->at;
    uint32_t n, arity, first_arity = 0, offset = (uint32_t)(at - v->module->data);
    const valtype *types = NULL;
    if (!read_count(r, MAX_BR_TABLE, 1, "labels", &n)) return false;
    r->at = at;
    if (!pop(v, VT_I32)) return false;
    for (uint32_t i = 0; i <= n; i++) {
        struct block *b;
        if (!read_label(v, &b)) return false;
        types = label_types(b, &arity);
        if (i == 0) first_arity = arity;
        if (arity != first_arity)
            return invalid(r, "br_table: label %u takes %u values, the first takes %u", i, arity, first_arity);
        if (b->br_table == offset) continue; /* a label is checked once, however often it is in the table */
        b->br_table = offset;
        if (!peek_types(v, types, arity)) return false;
    }
    set_unreachable(v);
    return true;
}

static bool do_return(struct validator *v) {
    const struct block *b = &v->blocks[0];
    if (!pop_types(v, block_results(b), b->n_results)) return false;
    set_unreachable(v);
    return true;
}

static bool call(struct validator *v, const struct functype *type) {
    return pop_types(v, type->params, type->n_params) && push_types(v, type->results, type->n_results);
}

static bool tail_call(struct validator *v, const struct functype *type) {
    const struct block *f = &v->blocks[0];
    bool same = type->n_results == f->n_results;
    for (uint32_t i = 0; same && i < type->n_results; i++)
        same = matches(v, type->results[i], block_results(f)[i]);
    if (!same) return invalid(&v->r, "%s: the callee's results are not the function's", here(v));
    if (!pop_types(v, type->params, type->n_params)) return false;
    set_unreachable(v);
    return true;
}

static bool read_callee(struct validator *v, const struct functype **type) {
    uint32_t index;
    if (!read_index(v, "function", v->module->n_funcs, &index)) return false;
    *type = type_func(v->engine, v->module->func_types[index]);
    return true;
}

static bool read_callee_indirect(struct validator *v, const struct functype **type) {
    const struct tabletype *table;
    uint32_t id;
    if (!read_func_type(v, &id, type) || !read_table(v, &table)) return false;
    if (!matches(v, table->elem, VT_FUNCREF))
        return invalid(&v->r, "%s expects a table of functions, found %s", here(v), type_text(&v->r, table->elem).s);
    return pop(v, addr_type(table->limits.is64));
}

static bool read_callee_ref(struct validator *v, const struct functype **type) {
    uint32_t id;
    return read_func_type(v, &id, type) && pop(v, VT_REF(true, HEAP_CONCRETE + id));
}

/* ---- Exceptions (section 3.4.5), and their legacy form ---- */

static bool read_tag(struct validator *v, const struct functype **type) {
    uint32_t index;
    if (!read_index(v, "tag", v->module->n_tags, &index)) return false;
    *type = type_func(v->engine, v->module->tag_types[index]);
    return true;
}

static bool do_throw(struct validator *v) {
    const struct functype *type;
    if (!read_tag(v, &type) || !pop_types(v, type->params, type->n_params)) return false;
    set_unreachable(v);
    return true;
}

/* One catch clause: the label takes the tag's parameters, then the exception itself for the _ref kinds. */
static bool catch_clause(struct validator *v) {
    enum { CATCH, CATCH_REF, CATCH_ALL, CATCH_ALL_REF };
    static const struct functype nothing;
    const struct functype *tag = &nothing;
    struct block *b;
    uint8_t kind;
    uint32_t n;
    if (!read_byte(&v->r, &kind)) return false;
    if (kind > CATCH_ALL_REF) return malformed(&v->r, "malformed catch clause 0x%x", kind);
    if (kind <= CATCH_REF && !read_tag(v, &tag)) return false;
    if (!read_label(v, &b)) return false;
    const valtype *types = label_types(b, &n);
    uint32_t with_ref = kind == CATCH_REF || kind == CATCH_ALL_REF;
    bool same = n == tag->n_params + with_ref;
    for (uint32_t i = 0; same && i < tag->n_params; i++)
        same = matches(v, tag->params[i], types[i]);
    if (same && with_ref) same = matches(v, VT_REF(false, HEAP_EXN), types[n - 1]);
    return same || invalid(&v->r, "catch clause: what it catches does not match its label's types");
}

static bool do_try_table(struct validator *v) {
    const uint8_t *at = v->r.at;
    struct functype type;
    valtype result;
    uint32_t n;
    if (!read_blocktype(v, &type, &result)) return false;
    if (!read_count(&v->r, MAX_BR_TABLE, 2, "catch clauses", &n)) return false;
    v->r.at = at;
    while (n--)
        if (!catch_clause(v)) return false;
    if (!pop_types(v, type.params, type.n_params)) return false;
    return enter(v, OP_TRY_TABLE, &type) && push_types(v, type.params, type.n_params);
}

static bool do_catch(struct validator *v, uint32_t op) {
    static const struct functype nothing;
    const struct functype *tag = &nothing;
    if (v->top->op != OP_TRY && v->top->op != OP_CATCH) return malformed(&v->r, "%s without a try", here(v));
    if (op == OP_CATCH && !read_tag(v, &tag)) return false;
    if (!leave_arm(v)) return false;
    next_arm(v, op);
    return push_types(v, tag->params, tag->n_params);
}

static bool do_delegate(struct validator *v) {
    struct block *b;
    if (v->top->op != OP_TRY) return malformed(&v->r, "delegate without a try");
    return do_end(v) && read_label(v, &b);
}

static bool do_rethrow(struct validator *v) {
    struct block *b;
    if (!read_label(v, &b)) return false;
    if (b->op != OP_CATCH && b->op != OP_CATCH_ALL) return invalid(&v->r, "rethrow: invalid label, not of a catch");
    set_unreachable(v);
    return true;
}

/* ---- Parametric, variables ---- */

static bool do_select(struct validator *v) {
    valtype a, b;
    if (!pop(v, VT_I32) || !pop_any(v, &b) || !pop_any(v, &a)) return false;
    if (vt_is_ref(a) || vt_is_ref(b)) return invalid(&v->r, "select without a type expects numbers or vectors");
    if (a != b && a != VT_BOT && b != VT_BOT)
        return invalid(&v->r, "select expects two values of one type, found %s and %s", type_text(&v->r, a).s,
                       type_text(&v->r, b).s);
    push(v, a == VT_BOT ? b : a);
    return true;
}

static bool do_select_typed(struct validator *v) {
    uint32_t n;
    valtype t;
    if (!read_u32(&v->r, &n)) return false;
    if (n != 1) return invalid(&v->r, "select: invalid result arity %u, expected 1", n);
    if (!read_valtype(&v->r, &t) || !pop(v, VT_I32) || !pop(v, t) || !pop(v, t)) return false;
    push(v, t);
    return true;
}

static valtype __attribute__((noinline)) search_local(const struct validator *v, uint32_t index) {
    uint32_t low = 0, high = v->n_runs - 1;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (index < v->runs[middle].end)
            high = middle;
        else
            low = middle + 1;
    }
    return v->runs[low].type;
}

static inline bool read_local(struct validator *v, uint32_t *index, valtype *t) {
    if (!read_index(v, "local", v->n_locals, index)) return false;
    *t = likely(*index < v->n_fast) ? v->locals[*index] : search_local(v, *index);
    return true;
}

static bool is_uninit(const struct validator *v, uint32_t local) {
    return v->has_uninit && (v->uninit[local / 8] >> local % 8 & 1);
}

static inline void mark_init(struct validator *v, uint32_t local, valtype t) {
    if (likely(vt_defaultable(t)) || !is_uninit(v, local)) return;
    v->uninit[local / 8] &= (uint8_t) ~(1u << local % 8);
    v->init_stack[v->n_init++] = local;
}

static inline bool do_local_get(struct validator *v) {
    uint32_t index;
    valtype t;
    if (!read_local(v, &index, &t)) return false;
    if (unlikely(!vt_defaultable(t)) && is_uninit(v, index))
        return invalid(&v->r, "local.get: uninitialized local %u of type %s", index, type_text(&v->r, t).s);
    push(v, t);
    return true;
}

static inline __attribute__((always_inline)) bool do_local_set(struct validator *v, bool tee) {
    uint32_t index;
    valtype t;
    if (!read_local(v, &index, &t) || !pop(v, t)) return false;
    mark_init(v, index, t);
    if (tee) push(v, t);
    return true;
}

static bool do_global_get(struct validator *v) {
    uint32_t index;
    if (!read_index(v, "global", v->module->n_globals, &index)) return false;
    const struct globaltype *g = &v->module->globals[index].type;
    if (v->constant && g->mutable_) return invalid(&v->r, "constant expression required: global %u is mutable", index);
    push(v, g->type);
    return true;
}

static bool do_global_set(struct validator *v) {
    uint32_t index;
    if (!read_index(v, "global", v->module->n_globals, &index)) return false;
    const struct globaltype *g = &v->module->globals[index].type;
    if (!g->mutable_) return invalid(&v->r, "global.set: global %u is immutable", index);
    return pop(v, g->type);
}

/* ---- Tables and memories ---- */

static bool do_table(struct validator *v, uint32_t op) {
    const struct tabletype *table;
    if (!read_table(v, &table)) return false;
    valtype addr = addr_type(table->limits.is64), elem = table->elem;
    switch (op) {
    case OP_TABLE_GET:
        if (!pop(v, addr)) return false;
        push(v, elem);
        return true;
    case OP_TABLE_SET: return pop(v, elem) && pop(v, addr);
    case OP_TABLE_SIZE: push(v, addr); return true;
    case OP_TABLE_GROW:
        if (!pop(v, addr) || !pop(v, elem)) return false;
        push(v, addr);
        return true;
    default: return pop(v, addr) && pop(v, elem) && pop(v, addr); /* table.fill */
    }
}

static bool do_table_init(struct validator *v) {
    const struct tabletype *table;
    valtype elem;
    if (!read_elem(v, &elem) || !read_table(v, &table)) return false;
    if (!matches(v, elem, table->elem))
        return invalid(&v->r, "table.init expects elements %s, found %s", type_text(&v->r, table->elem).s,
                       type_text(&v->r, elem).s);
    return pop(v, VT_I32) && pop(v, VT_I32) && pop(v, addr_type(table->limits.is64));
}

static bool do_table_copy(struct validator *v) {
    const struct tabletype *to, *from;
    if (!read_table(v, &to) || !read_table(v, &from)) return false;
    if (!matches(v, from->elem, to->elem))
        return invalid(&v->r, "table.copy expects elements %s, found %s", type_text(&v->r, to->elem).s,
                       type_text(&v->r, from->elem).s);
    bool both64 = to->limits.is64 && from->limits.is64;
    return pop(v, addr_type(both64)) && pop(v, addr_type(from->limits.is64)) && pop(v, addr_type(to->limits.is64));
}

static bool do_memory_copy(struct validator *v) {
    valtype to, from;
    if (!read_memory(v, &to) || !read_memory(v, &from)) return false;
    valtype length = to == VT_I64 && from == VT_I64 ? VT_I64 : VT_I32;
    return pop(v, length) && pop(v, from) && pop(v, to);
}

/* ---- References (section 3.4.7 to 3.4.10) ---- */

static bool do_ref_func(struct validator *v) {
    uint32_t index;
    if (!read_index(v, "function", v->module->n_funcs, &index)) return false;
    if (v->constant) {
        if (!validator_declare_ref(v, &v->r, index)) return false;
    } else if (!v->refs || !(v->refs[index / 8] >> index % 8 & 1)) {
        return invalid(&v->r, "ref.func: undeclared function reference %u", index);
    }
    push(v, VT_REF(false, HEAP_CONCRETE + v->module->func_types[index]));
    return true;
}

static bool do_br_on_null(struct validator *v) {
    struct block *b;
    valtype t;
    if (!read_label(v, &b) || !pop_ref(v, &t) || !retype(v, b)) return false;
    push(v, VT_REF(false, vt_heap(t)));
    return true;
}

static bool do_br_on_non_null(struct validator *v) {
    struct block *b;
    valtype t;
    uint32_t n;
    if (!read_label(v, &b) || !pop_ref(v, &t)) return false;
    const valtype *types = label_types(b, &n);
    if (!n) return invalid(&v->r, "br_on_non_null: the label takes no value");
    push(v, VT_REF(false, vt_heap(t)));
    return pop_types(v, types, n) && push_types(v, types, n - 1);
}

static bool do_reference(struct validator *v, uint32_t op) {
    uint32_t heap;
    valtype t;
    switch (op) {
    case OP_REF_NULL:
        if (!read_heaptype(&v->r, &heap)) return false;
        push(v, VT_REF(true, heap));
        return true;
    case OP_REF_IS_NULL:
        if (!pop_ref(v, &t)) return false;
        push(v, VT_I32);
        return true;
    case OP_REF_FUNC: return do_ref_func(v);
    case OP_REF_EQ:
        if (!pop(v, VT_REF(true, HEAP_EQ)) || !pop(v, VT_REF(true, HEAP_EQ))) return false;
        push(v, VT_I32);
        return true;
    case OP_REF_AS_NON_NULL:
        if (!pop_ref(v, &t)) return false;
        push(v, VT_REF(false, vt_heap(t)));
        return true;
    case OP_BR_ON_NULL: return do_br_on_null(v);
    default: return do_br_on_non_null(v);
    }
}

/* ---- Instructions whose types are in the table ---- */

/* What validation needs of opcode_table, in 8 bytes an instruction. */
struct compact {
    uint32_t sig;
    uint8_t imm, aux;
    bool known;
};
static const struct compact compact_table[OPCODE_LIMIT] = {
#define X(name, text, prefix, code, imm, aux, sig) [OP_##name] = {SIG_##sig, IMM_##imm, aux, true},
    OPCODES(X)
#undef X
};

static inline bool apply(struct validator *v, uint32_t sig, valtype addr) {
    for (unsigned i = sig_params(sig); i--;) {
        unsigned t = sig_param(sig, i);
        if (!pop(v, t == SIG_ADDR ? addr : t)) return false;
    }
    unsigned t = sig_result(sig);
    if (t) push(v, t == SIG_ADDR ? addr : t);
    return true;
}

/* Without immediates; the usual numeric ones. */
static inline bool apply_plain(struct validator *v, uint32_t sig) {
    valtype *sp = v->sp;
    if (sig_params(sig) == 2 && sp - v->base >= 2 && sp[-1] == sig_param(sig, 1) && sp[-2] == sig_param(sig, 0) &&
        sig_result(sig)) {
        sp[-2] = sig_result(sig);
        v->sp = sp - 1;
        return true;
    }
    return apply(v, sig, VT_I32);
}

static bool apply_memory(struct validator *v, const struct compact *c) {
    valtype addr;
    return read_memarg(v, c->aux, &addr) && apply(v, c->sig, addr);
}

static bool apply_lane(struct validator *v, const struct compact *c) {
    enum { V128_BYTES = 16 };
    valtype addr = VT_I32;
    if (c->imm == IMM_MEMARG_LANE) {
        if (!read_memarg(v, c->aux, &addr) || !read_lane(v, V128_BYTES >> c->aux)) return false;
        return apply(v, c->sig, addr);
    }
    for (unsigned n = c->imm == IMM_SHUFFLE ? V128_BYTES : 1; n--;)
        if (!read_lane(v, c->aux)) return false;
    return apply(v, c->sig, addr);
}

/* Everything that has a signature, by its immediates. */
static bool do_table_driven(struct validator *v, uint32_t op) {
    const struct compact *c = &compact_table[op];
    struct reader *r = &v->r;
    valtype addr = VT_I32;
    switch (c->imm) {
    case IMM_NONE: return apply_plain(v, c->sig);
    case IMM_MEMARG: return apply_memory(v, c);
    case IMM_MEMARG_LANE:
    case IMM_SHUFFLE:
    case IMM_LANE: return apply_lane(v, c);
    case IMM_I32: return skip_signed(r, 32) && apply(v, c->sig, addr);
    case IMM_I64: return skip_signed(r, 64) && apply(v, c->sig, addr);
    case IMM_F32: return skip_bytes(r, 4) && apply(v, c->sig, addr);
    case IMM_F64: return skip_bytes(r, 8) && apply(v, c->sig, addr);
    case IMM_V128: return skip_bytes(r, 16) && apply(v, c->sig, addr);
    case IMM_MEMORY: return read_memory(v, &addr) && apply(v, c->sig, addr);
    case IMM_DATA: return read_data(v);
    case IMM_DATA_MEMORY: return read_data(v) && read_memory(v, &addr) && apply(v, c->sig, addr);
    default: { /* IMM_ELEM */ valtype elem; return read_elem(v, &elem);
    }
    }
}

/* ---- Expressions ---- */

static bool illegal(struct validator *v, uint32_t prefix, uint32_t code) {
    v->op = OP_NOP;
    if (prefix == 0xfe) return malformed(&v->r, "atomic instructions (threads proposal) are not supported yet");
    if (prefix) return malformed(&v->r, "illegal opcode 0x%x 0x%x", prefix, code);
    return malformed(&v->r, "illegal opcode 0x%x", code);
}

static bool __attribute__((noinline)) read_prefixed(struct validator *v, uint32_t prefix, uint32_t *op) {
    static const uint16_t bases[] = {OP_BASE_FB, OP_BASE_FC, OP_BASE_FD, OP_BASE_FE};
    static const uint16_t sizes[] = {OP_BASE_FC - OP_BASE_FB, OP_BASE_FE - OP_BASE_FC, OPCODE_LIMIT - OP_BASE_FD,
                                     OP_BASE_FD - OP_BASE_FE};
    uint32_t code, i = prefix - 0xfb;
    if (i > 3) return illegal(v, 0, prefix);
    if (!read_u32(&v->r, &code)) return false;
    if (code >= sizes[i] || !compact_table[bases[i] + code].known) return illegal(v, prefix, code);
    *op = bases[i] + code;
    return true;
}

/* Section 3.4.14. */
static bool is_constant(uint32_t op) {
    switch (op) {
    case OP_I32_CONST:
    case OP_I64_CONST:
    case OP_F32_CONST:
    case OP_F64_CONST:
    case OP_V128_CONST:
    case OP_I32_ADD:
    case OP_I32_SUB:
    case OP_I32_MUL:
    case OP_I64_ADD:
    case OP_I64_SUB:
    case OP_I64_MUL:
    case OP_GLOBAL_GET:
    case OP_REF_NULL:
    case OP_REF_FUNC:
    case OP_REF_I31:
    case OP_STRUCT_NEW:
    case OP_STRUCT_NEW_DEFAULT:
    case OP_ARRAY_NEW:
    case OP_ARRAY_NEW_DEFAULT:
    case OP_ARRAY_NEW_FIXED:
    case OP_ANY_CONVERT_EXTERN:
    case OP_EXTERN_CONVERT_ANY:
    case OP_END: return true;
    default: return false;
    }
}

static inline bool instruction(struct validator *v, uint32_t op) {
    const struct functype *type;
    switch (op) {
    case OP_UNREACHABLE: set_unreachable(v); return true;
    case OP_BLOCK:
    case OP_LOOP:
    case OP_IF:
    case OP_TRY: return do_block(v, op);
    case OP_ELSE: return do_else(v);
    case OP_END: return do_end(v);
    case OP_BR: return do_br(v);
    case OP_BR_IF: return do_br_if(v);
    case OP_BR_TABLE: return do_br_table(v);
    case OP_RETURN: return do_return(v);
    case OP_CALL: return read_callee(v, &type) && call(v, type);
    case OP_CALL_INDIRECT: return read_callee_indirect(v, &type) && call(v, type);
    case OP_CALL_REF: return read_callee_ref(v, &type) && call(v, type);
    case OP_RETURN_CALL: return read_callee(v, &type) && tail_call(v, type);
    case OP_RETURN_CALL_INDIRECT: return read_callee_indirect(v, &type) && tail_call(v, type);
    case OP_RETURN_CALL_REF: return read_callee_ref(v, &type) && tail_call(v, type);
    case OP_THROW: return do_throw(v);
    case OP_THROW_REF:
        if (!pop(v, VT_EXNREF)) return false;
        set_unreachable(v);
        return true;
    case OP_TRY_TABLE: return do_try_table(v);
    case OP_CATCH:
    case OP_CATCH_ALL: return do_catch(v, op);
    case OP_DELEGATE: return do_delegate(v);
    case OP_RETHROW: return do_rethrow(v);
    case OP_DROP: {
        valtype t;
        return pop_any(v, &t);
    }
    case OP_SELECT: return do_select(v);
    case OP_SELECT_T: return do_select_typed(v);
    case OP_LOCAL_GET: return do_local_get(v);
    case OP_LOCAL_SET: return do_local_set(v, false);
    case OP_LOCAL_TEE: return do_local_set(v, true);
    case OP_GLOBAL_GET: return do_global_get(v);
    case OP_GLOBAL_SET: return do_global_set(v);
    case OP_I32_CONST: push(v, VT_I32); return skip_signed(&v->r, 32);
    case OP_TABLE_GET:
    case OP_TABLE_SET:
    case OP_TABLE_GROW:
    case OP_TABLE_SIZE:
    case OP_TABLE_FILL: return do_table(v, op);
    case OP_TABLE_INIT: return do_table_init(v);
    case OP_TABLE_COPY: return do_table_copy(v);
    case OP_MEMORY_COPY: return do_memory_copy(v);
    case OP_REF_NULL:
    case OP_REF_IS_NULL:
    case OP_REF_FUNC:
    case OP_REF_EQ:
    case OP_REF_AS_NON_NULL:
    case OP_BR_ON_NULL:
    case OP_BR_ON_NON_NULL: return do_reference(v, op);
    }
    if (unlikely(opcode_is_gc(op))) return validate_gc(v, op);
    return do_table_driven(v, op);
}

/* Instructions up to the `end` of the outermost block. */
static bool validate_code(struct validator *v) {
    struct reader *r = &v->r;
    while (v->n_blocks) {
        reader_mark(r);
        if (unlikely(r->p >= r->end)) return malformed(r, "unexpected end, %u blocks are open", v->n_blocks);
        uint32_t op = *r->p++;
        if (unlikely(op >= 0xfb)) {
            if (!read_prefixed(v, op, &op)) return false;
        } else if (unlikely(!compact_table[op].known)) {
            return illegal(v, 0, op);
        }
        v->op = op;
        if (unlikely(v->constant) && !is_constant(op))
            return invalid(r, "constant expression required, found %s", here(v));
        if (unlikely(v->sp > v->limit)) return invalid(r, "more than %u values on the stack", MAX_OPERANDS);
        if (!instruction(v, op)) return false;
    }
    return true;
}

/* A new function or expression with these results. */
static bool start(struct validator *v, const struct functype *type) {
    if (!v->ready && !make_ready(v)) return false;
    v->op = OP_END;
    v->sp = v->base = v->stack;
    v->n_blocks = v->n_init = 0;
    struct functype results_only = *type;
    results_only.n_params = 0;
    return enter(v, OP_BLOCK, &results_only);
}

bool validate_constexpr(struct validator *v, struct reader *r, valtype expected, struct constexpr_ *out) {
    struct functype type = {.n_results = 1, .results = &expected};
    v->r = *r;
    v->constant = true;
    v->n_locals = 0;
    out->offset = reader_offset(r);
    bool ok = start(v, &type) && validate_code(v);
    *r = v->r;
    out->size = reader_offset(r) - out->offset;
    return ok;
}

static bool add_run(struct validator *v, uint32_t n, valtype t) {
    if (v->n_runs == v->runs_cap) {
        uint32_t cap = v->runs_cap ? 2 * v->runs_cap : 64;
        struct run *runs = v->platform->realloc(v->platform->ctx, v->runs, cap * sizeof *runs);
        if (!runs) return out_of_memory(&v->r);
        v->runs = runs;
        v->runs_cap = cap;
    }
    v->runs[v->n_runs++] = (struct run){v->n_locals + n, t};
    for (uint32_t i = v->n_locals; i < v->n_locals + n && i < FAST_LOCALS; i++)
        v->locals[i] = t;
    v->n_locals += n;
    return true;
}

/* Locals [first, n_locals) have no default and are not set. */
static bool add_uninit(struct validator *v, uint32_t first) {
    enum { BYTES = (MAX_LOCALS + 7) / 8 };
    if (!v->uninit) {
        v->uninit = take(v, BYTES);
        v->init_stack = take(v, MAX_LOCALS * sizeof *v->init_stack);
        if (!v->uninit || !v->init_stack) return out_of_memory(&v->r);
    }
    if (!v->has_uninit) memset(v->uninit, 0, BYTES);
    v->has_uninit = true;
    uint32_t i = first, end = v->n_locals;
    for (; i < end && i % 8; i++)
        v->uninit[i / 8] |= (uint8_t)(1u << i % 8);
    memset(v->uninit + i / 8, 0xff, (end - i) / 8);
    for (i += (end - i) / 8 * 8; i < end; i++)
        v->uninit[i / 8] |= (uint8_t)(1u << i % 8);
    return true;
}

/* Section 5.5.13: runs of locals after the parameters. */
static bool read_locals(struct validator *v, const struct functype *type) {
    struct reader *r = &v->r;
    uint32_t n_runs, n;
    valtype t;
    v->n_locals = v->n_runs = 0;
    v->has_uninit = false;
    for (uint32_t i = 0; i < type->n_params; i++)
        if (!add_run(v, 1, type->params[i])) return false;
    if (!read_count(r, UINT32_MAX, 2, "runs of locals", &n_runs)) return false;
    uint64_t total = v->n_locals;
    while (n_runs--) {
        reader_mark(r);
        if (!read_u32(r, &n) || !read_valtype(r, &t)) return false;
        total += n;
        if (total > MAX_LOCALS)
            return malformed(r, "too many locals: %llu, the implementation limit is %u", (unsigned long long)total,
                             MAX_LOCALS);
        uint32_t first = v->n_locals;
        if (!add_run(v, n, t)) return false;
        if (!vt_defaultable(t) && !add_uninit(v, first)) return false;
    }
    v->n_fast = v->n_locals < FAST_LOCALS ? v->n_locals : FAST_LOCALS;
    return true;
}

bool validate_body(struct validator *v, struct reader *r) {
    const struct functype *type = type_func(v->engine, v->module->func_types[r->func]);
    v->r = *r;
    v->constant = false;
    if (!start(v, type) || !read_locals(v, type) || !validate_code(v)) return false;
    reader_mark(&v->r);
    if (v->r.p != v->r.end) return malformed(&v->r, "%u bytes after the end of the function", reader_left(&v->r));
    return true;
}
