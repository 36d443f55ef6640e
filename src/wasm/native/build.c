/* wasm -> SSA, in one pass over a validated body.
 *
 * Control is structured, so joins are known: a forward label collects one pending edge for each branch to it, with the
 * values that differ from those at the label's opening (locals are compared through a log of assignments, not one by
 * one); when the label is bound, what differs between its edges becomes a phi. A loop's header gets phis for the locals
 * that a pre-scan found assigned inside. Locals that are not read any more get none.
 *
 * Functions with exception handlers keep their locals in memory (IR_SLOT_GET/SET): a call may leave in the middle of a
 * block, and the handler must find the locals of that moment. So do those that would have too many phis. */
#include "ir.h"
#include "../gc.h"
#include "../heap.h"

#include <string.h>

enum label_kind {
    LABEL_FUNC,
    LABEL_INLINE,
    LABEL_BLOCK,
    LABEL_LOOP,
    LABEL_IF,
    LABEL_ELSE,
    LABEL_TRY,
    LABEL_CATCH,
    LABEL_TRY_TABLE
};

struct label {
    enum label_kind kind;
    uint32_t n_params, n_results;
    uint32_t height;  /* operands below the label's own */
    uint32_t log;     /* log height at the opening */
    uint32_t pending; /* list of edges waiting for the label; NONE32 */
    uint32_t n_pending;
    uint32_t entry;     /* block in which it opened */
    uint32_t else_edge; /* LABEL_IF: the edge not taken */
    uint32_t params;    /* LABEL_IF: copies of the parameters, in pool */
    uint32_t header;    /* LABEL_LOOP: block, and its phis' locals in pool */
    uint32_t phi_locals, n_phi_locals;
    uint32_t loop, outer_loop; /* indices in fn->loops */
    uint32_t at;               /* byte offset of the opening */
    uint32_t outer_try, region;
    ref exn;                /* LABEL_CATCH */
    const uint8_t *clauses; /* LABEL_TRY_TABLE: immediates of the catch clauses */
};

struct pending {
    uint32_t next, edge;
    uint32_t results;        /* in pool */
    uint32_t delta, n_delta; /* pairs (local, value) in pool */
};

struct log_entry {
    uint32_t local;
    ref old;
    uint32_t logged, newer; /* its struct history before this */
};

/* The locals that were assigned form a list, latest first, so that those assigned since any moment are its beginning.
 */
struct history {
    uint32_t logged; /* log height after the latest assignment, 0: none */
    uint32_t newer, older;
};

/* What the pre-scan finds. */
struct scan_loop {
    uint32_t first, n; /* assigned locals, in scan_locals */
    uint32_t end;      /* byte offset of its end */
};

/* A function in the making: the one that is compiled, or one that is inlined into it. */
struct level {
    uint32_t func;
    uint32_t first_local;
    uint32_t label;             /* index of its label */
    uint32_t inlined;           /* index in fn->inlined */
    uint32_t outermost_loop_at; /* byte offset of the outermost open loop, NONE32 */
    /* Of the function around: where it goes on, its instruction, its next loop. */
    const uint8_t *resume;
    uint32_t at, mark, next_loop;
};
enum {
    INLINE_MOST = 48,        /* bytes of a function's body; */
    INLINE_MOST_ITSELF = 96, /* of one that calls itself */
    INLINE_RECURSIONS = 2,   /* of a function in itself */
    INLINE_LOCALS = 32,
};

struct builder {
    struct fn *f;
    const struct module *m;
    const uint8_t *p, *start;
    uint32_t at, mark; /* the instruction: byte offset, and as in struct ins */
    struct level levels[INLINE_DEPTH + 1];
    uint32_t level;
    uint32_t inline_left;    /* bytes that may still be inlined; */
    uint32_t recursion_left; /* of functions in themselves */
    uint32_t known_locals;   /* how many have had their arrays' entries initialised */

    bool dead;     /* code here is not reached */
    ref fuel;      /* the current block's charge; 0 before its first instruction */
    uint32_t skip; /* constructs opened in dead code */
    bool memory_locals;
    uint32_t block; /* current */
    uint32_t loop;  /* innermost open loop, NONE32 */
    uint32_t try_region;

    uint32_t n_locals;
    VEC(valtype) types;
    VEC(ref) local;      /* current values */
    VEC(uint32_t) stamp; /* marks for sets of locals */
    VEC(uint32_t) place;
    VEC(uint32_t) last_read; /* byte offset of the last local.get, widened to the end of the loops around it */
    VEC(uint32_t) slot;
    VEC(struct history) history;
    uint32_t newest; /* of the history */
    uint32_t epoch;

    VEC(ref) stack;
    VEC(struct label) labels;
    VEC(struct pending) pending;
    VEC(struct log_entry) log;
    VEC(uint32_t) pool;
    VEC(ref) matrix;
    VEC(struct scan_loop) scan_loops;
    VEC(uint32_t) scan_locals;
    uint32_t next_loop;
    VEC(uint32_t) checked; /* by value: block in which it was found not to be null, + 1 */
    VEC(uint32_t) dom;     /* dominator chain of the current block, by depth */
    struct values values;
};

/* --- pre-scan ------------------------------------------------------------------------------------------------------
 */

static void skip_leb(const uint8_t **p) {
    while (*(*p)++ & 0x80) {
    }
}

static void skip_immediate(const struct module *m, enum opcode_immediate imm, const uint8_t **p) {
    switch (imm) {
    case IMM_NONE: return;
    case IMM_BLOCK: skip_leb(p); return; /* a value type of several bytes is a reference: see below */
    case IMM_LABEL:
    case IMM_FUNC:
    case IMM_TYPE:
    case IMM_TAG:
    case IMM_LOCAL:
    case IMM_GLOBAL:
    case IMM_TABLE:
    case IMM_ELEM:
    case IMM_MEMORY:
    case IMM_DATA:
    case IMM_I32:
    case IMM_I64:
    case IMM_HEAPTYPE: skip_leb(p); return;
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
        skip_leb(p);
        skip_leb(p);
        return;
    case IMM_BR_TABLE:
        for (uint32_t n = leb_u32(p) + 1; n; n--)
            skip_leb(p);
        return;
    case IMM_TRY_TABLE:
        for (uint32_t n = leb_u32(p); n; n--) {
            uint8_t kind = *(*p)++;
            if (kind < 2) skip_leb(p);
            skip_leb(p);
        }
        return;
    case IMM_MEMARG:
    case IMM_MEMARG_LANE:
        if (leb_u32(p) & 0x40) skip_leb(p);
        skip_leb(p);
        if (imm == IMM_MEMARG_LANE) (*p)++;
        return;
    case IMM_TYPES:
        for (uint32_t n = leb_u32(p); n; n--)
            module_read_valtype(m, p);
        return;
    case IMM_F32: *p += 4; return;
    case IMM_F64: *p += 8; return;
    case IMM_V128:
    case IMM_SHUFFLE: *p += 16; return;
    case IMM_LANE: (*p)++; return;
    case IMM_BR_CAST:
        (*p)++;
        skip_leb(p);
        skip_leb(p);
        skip_leb(p);
        return;
    }
}

/* Finds which locals each loop assigns, where each local is last read, and whether there are handlers. */
static void scan(struct builder *b, const uint8_t *p, const uint8_t *end) {
    struct fn *f = b->f;
    VEC(uint32_t) opened = {0}; /* open constructs: index in scan_loops, or NONE32 */
    uint32_t loop = NONE32;     /* innermost open loop */
    const uint32_t first_local = b->levels[b->level].first_local;
    VEC(uint32_t) outer = {0};
    while (p < end && !f->failed) {
        uint32_t at = (uint32_t)(p - b->start), op = opcode_read(&p);
        switch (op) {
        case OP_BLOCK:
        case OP_LOOP:
        case OP_IF:
        case OP_TRY:
        case OP_TRY_TABLE: {
            struct blocktype_buf buf;
            module_read_blocktype(b->m, &p, &buf);
            if (op == OP_TRY_TABLE) skip_immediate(b->m, IMM_TRY_TABLE, &p);
            if (op == OP_TRY || op == OP_TRY_TABLE) b->memory_locals = true;
            if (op != OP_LOOP) {
                vec_push(f, opened, NONE32);
                break;
            }
            vec_push(f, outer, loop);
            loop = b->scan_loops.n;
            vec_push(f, opened, loop);
            vec_push(f, b->scan_loops, ((struct scan_loop){b->scan_locals.n, 0, 0}));
            break;
        }
        case OP_DELEGATE:
            skip_leb(&p);
            if (opened.n) opened.n--;
            break;
        case OP_END:
            if (!opened.n) break;
            if (opened.v[--opened.n] != NONE32) {
                struct scan_loop *l = &b->scan_loops.v[loop];
                l->end = at;
                l->n = b->scan_locals.n - l->first;
                loop = outer.v[--outer.n];
            }
            break;
        case OP_LOCAL_GET: {
            uint32_t x = first_local + leb_u32(&p);
            b->last_read.v[x] = at;
            break;
        }
        case OP_LOCAL_SET:
        case OP_LOCAL_TEE: {
            uint32_t x = first_local + leb_u32(&p);
            /* A loop's list is [first, end of everything listed inside it]: inner loops' entries count for outer ones.
             */
            if (loop != NONE32 && b->stamp.v[x] != loop + 1) {
                b->stamp.v[x] = loop + 1;
                vec_push(f, b->scan_locals, x);
            }
            break;
        }
        default: skip_immediate(b->m, (enum opcode_immediate)opcode_table[op].imm, &p);
        }
    }
    f->platform->realloc(f->platform->ctx, opened.v, 0);
    f->platform->realloc(f->platform->ctx, outer.v, 0);
}

/* --- blocks and edges ----------------------------------------------------------------------------------------------
 */

static ref append(struct builder *b, uint16_t op, uint8_t type, ref x, ref y, ref z, uint64_t imm) {
    struct fn *f = b->f;
    struct ins i = {.op = op, .type = type, .a = x, .b = y, .c = z, .imm = imm, .at = b->mark};
    return vec_push(f, f->ins, i) ? f->ins.n - 1 : 0;
}

/* Jumps go from depth to depth in the same way on every path (the skew-binary numbers), so blocks of equal depth jump
 * together. */
uint32_t ir_common_dominator(struct fn *f, uint32_t x, uint32_t y) {
    const struct block *v = f->blocks.v;
    if (v[x].depth < v[y].depth) {
        uint32_t t = x;
        x = y;
        y = t;
    }
    while (v[x].depth > v[y].depth && fn_work(f, 1))
        x = v[v[x].jump].depth >= v[y].depth ? v[x].jump : v[x].idom;
    while (x != y && fn_work(f, 1)) {
        bool far = v[x].jump != v[y].jump;
        x = far ? v[x].jump : v[x].idom;
        y = far ? v[y].jump : v[y].idom;
    }
    return x;
}

/* Links a new block below `idom` into the dominator tree. */
static void dominated_by(struct fn *f, struct block *b, uint32_t idom) {
    b->idom = idom;
    if (idom == NONE32) return; /* the first: its own jump */
    const struct block *v = f->blocks.v, *up = &v[idom];
    b->depth = up->depth + 1;
    b->jump = up->depth - v[up->jump].depth == v[up->jump].depth - v[v[up->jump].jump].depth ? v[up->jump].jump : idom;
}

static void start_block(struct builder *b, uint32_t idom) {
    struct fn *f = b->f;
    struct block blk = {.first = f->ins.n, .loop = b->loop};
    dominated_by(f, &blk, idom);
    b->block = f->blocks.n;
    if (!vec_push(f, f->blocks, blk)) return;
    /* The dominator chain, repaired from its first difference down. */
    if (!vec_reserve(f, &b->dom, sizeof *b->dom.v, blk.depth + 1 > b->dom.n ? blk.depth + 1 - b->dom.n : 0)) return;
    b->dom.v[blk.depth] = b->block;
    uint32_t old = b->dom.n;
    b->dom.n = blk.depth + 1;
    for (uint32_t x = idom, d = blk.depth; d--; x = f->blocks.v[x].idom) {
        if ((d < old && b->dom.v[d] == x) || !fn_work(f, 1)) break;
        b->dom.v[d] = x;
    }
    b->dead = false;
    b->fuel = 0;
}

static bool dominates(const struct builder *b, uint32_t block) {
    uint32_t d = b->f->blocks.v[block].depth;
    return d < b->dom.n && b->dom.v[d] == block;
}

/* Ends the current block. Its edges' targets are filled in by the caller. Gives the first edge. */
static uint32_t end_block(struct builder *b, uint16_t op, ref x, uint64_t imm, uint32_t aux, uint32_t n_edges) {
    struct fn *f = b->f;
    ref t = append(b, op, KIND_BOT, x, 0, 0, imm);
    f->ins.v[t].aux = aux;
    struct block *blk = &f->blocks.v[b->block];
    blk->end = f->ins.n;
    blk->edges = f->edges.n;
    blk->n_edges = n_edges;
    for (uint32_t k = 0; k < n_edges; k++)
        vec_push(f, f->edges, ((struct edge){.from = b->block, .to = NONE32}));
    b->dead = true;
    return f->failed ? 0 : blk->edges;
}

/* --- values --------------------------------------------------------------------------------------------------------
 */

static uint8_t kind_of(valtype t) {
    return vt_is_ref(t) ? KIND_I64 : (uint8_t)vt_kind(t);
}

static void push(struct builder *b, ref v) {
    vec_push(b->f, b->stack, v);
}
static ref pop(struct builder *b) {
    return b->stack.n ? b->stack.v[--b->stack.n] : 0;
}

static ref make_vector(struct builder *b, const uint8_t *bytes) {
    struct fn *f = b->f;
    if (!vec_reserve(f, &f->vectors, 1, 16)) return 0;
    memcpy(f->vectors.v + f->vectors.n, bytes, 16);
    f->vectors.n += 16;
    return append(b, IR_CONST128, KIND_V128, 0, 0, 0, f->vectors.n / 16 - 1);
}

/* A pure instruction: folded, or an equal one that dominates, or new. */
static ref make(struct builder *b, uint16_t op, uint8_t type, ref x, ref y, ref z, uint64_t imm) {
    struct fn *f = b->f;
    struct ins i = {.op = op, .type = type, .a = x, .b = y, .c = z, .imm = imm, .at = b->mark, .aux = b->block};
    ref folded = ir_fold(f, &i);
    if (folded) return folded;
    if (!values_reserve(f, &b->values)) return 0;
    ref *place = values_find(f, &b->values, &i);
    if (*place && dominates(b, f->ins.v[*place].aux)) return *place;
    if (!*place) b->values.used++;
    if (!vec_push(f, f->ins, i)) return 0;
    *place = f->ins.n - 1;
    return f->ins.n - 1;
}

static ref make_const(struct builder *b, uint8_t type, uint64_t bits) {
    return make(b, IR_CONST, type, 0, 0, 0, bits);
}

static bool local_is_dead(const struct builder *b, uint32_t x) {
    if (x >= b->n_locals) return true; /* of a function that was inlined */
    uint32_t level = b->level, at = b->at;
    for (; x < b->levels[level].first_local; level--)
        at = b->levels[level].at;
    if (b->last_read.v[x] > at) return false;
    /* Read earlier only: still wanted if a loop around here begins at or before that read. */
    return b->last_read.v[x] < b->levels[level].outermost_loop_at;
}

/* Takes local x out of the history. */
static void history_leave(struct builder *b, uint32_t x) {
    struct history *h = b->history.v;
    if (h[x].newer == NONE32)
        b->newest = h[x].older;
    else
        h[h[x].newer].older = h[x].older;
    if (h[x].older != NONE32) h[h[x].older].newer = h[x].newer;
}

/* Puts it in behind `newer`, NONE32: first. */
static void history_enter(struct builder *b, uint32_t x, uint32_t newer, uint32_t logged) {
    struct history *h = b->history.v;
    h[x] = (struct history){logged, newer, newer == NONE32 ? b->newest : h[newer].older};
    if (newer == NONE32)
        b->newest = x;
    else
        h[newer].older = x;
    if (h[x].older != NONE32) h[h[x].older].newer = x;
}

static void set_local(struct builder *b, uint32_t x, ref v) {
    if (b->local.v[x] == v) return;
    const struct history h = b->history.v[x];
    vec_push(b->f, b->log, ((struct log_entry){x, b->local.v[x], h.logged, h.newer}));
    if (h.logged) history_leave(b, x);
    history_enter(b, x, NONE32, b->log.n);
    b->local.v[x] = v;
}

static void rollback(struct builder *b, uint32_t to) {
    while (b->log.n > to) {
        struct log_entry e = b->log.v[--b->log.n];
        b->local.v[e.local] = e.old;
        history_leave(b, e.local);
        b->history.v[e.local].logged = 0;
        if (e.logged) history_enter(b, e.local, e.newer, e.logged);
    }
}

/* Memory-held locals: the value is known (has the epoch's stamp) until the block ends. */
static void forget_locals(struct builder *b) {
    if (b->memory_locals) b->epoch++;
}

static void know_local(struct builder *b, uint32_t x, ref v) {
    b->local.v[x] = v;
    b->stamp.v[x] = b->epoch;
}

static ref get_local(struct builder *b, uint32_t x) {
    if (b->memory_locals && b->stamp.v[x] != b->epoch)
        know_local(b, x, append(b, IR_SLOT_GET, kind_of(b->types.v[x]), 0, 0, 0, b->slot.v[x]));
    return b->local.v[x];
}

static void put_local(struct builder *b, uint32_t x, ref v) {
    if (!b->memory_locals) {
        set_local(b, x, v);
        return;
    }
    append(b, IR_SLOT_SET, kind_of(b->types.v[x]), v, 0, 0, b->slot.v[x]);
    know_local(b, x, v);
}

/* --- labels --------------------------------------------------------------------------------------------------------
 */

static struct label *label_at(struct builder *b, uint32_t depth) {
    return &b->labels.v[b->labels.n - 1 - depth];
}
static uint32_t label_arity(const struct label *l) {
    return l->kind == LABEL_LOOP ? l->n_params : l->n_results;
}

/* Lets `edge` lead to the label, carrying the top operands and the locals as they are now. */
static void branch_edge(struct builder *b, struct label *l, uint32_t edge) {
    struct fn *f = b->f;
    uint32_t arity = label_arity(l);
    if (f->failed) return;
    const ref *operands = arity ? b->stack.v + b->stack.n - arity : NULL;
    if (l->kind == LABEL_LOOP) {
        if (!vec_reserve(f, &f->args, sizeof *f->args.v, arity + l->n_phi_locals)) return;
        f->edges.v[edge].to = l->header;
        f->edges.v[edge].args = f->args.n;
        for (uint32_t k = 0; k < arity; k++)
            f->args.v[f->args.n++] = operands[k];
        for (uint32_t k = 0; k < l->n_phi_locals; k++)
            f->args.v[f->args.n++] = b->local.v[b->pool.v[l->phi_locals + k]];
        return;
    }
    struct pending pe = {.next = l->pending, .edge = edge, .results = b->pool.n};
    if (!vec_reserve(f, &b->pool, sizeof *b->pool.v, arity)) return;
    for (uint32_t k = 0; k < arity; k++)
        b->pool.v[b->pool.n++] = operands[k];
    pe.delta = b->pool.n;
    if (l->kind != LABEL_FUNC && !b->memory_locals) {
        for (uint32_t x = b->newest; x != NONE32 && b->history.v[x].logged > l->log; x = b->history.v[x].older) {
            if (!fn_work(f, 1) || !vec_reserve(f, &b->pool, sizeof *b->pool.v, 2)) return;
            b->pool.v[b->pool.n++] = x;
            b->pool.v[b->pool.n++] = b->local.v[x];
            pe.n_delta++;
        }
    }
    l->pending = b->pending.n;
    l->n_pending++;
    vec_push(f, b->pending, pe);
}

/* An i64 whose upper half is known to be zero has the type of an i32 (fold.c); meeting one of which that is not known,
 * it has to be an i64 again. */
static uint8_t joined_type(uint8_t x, uint8_t y) {
    return x == y ? x : KIND_I64;
}

/* A phi of the current block unless all `n` values at matrix[0], matrix[stride].. agree. */
static ref join(struct builder *b, const ref *values, uint32_t n, uint32_t stride, uint8_t type, uint32_t *phi) {
    for (uint32_t k = 1; k < n; k++)
        if (values[k * stride] != values[0]) {
            *phi = b->f->blocks.v[b->block].n_phis++;
            return append(b, IR_PHI, type, 0, 0, 0, *phi);
        }
    *phi = NONE32;
    return values[0];
}

/* Binds a forward label: its pending edges meet in a new block. Operands: height + results. */
static void bind(struct builder *b, struct label *l) {
    struct fn *f = b->f;
    uint32_t n_results = l->n_results;
    rollback(b, l->log);
    b->stack.n = l->height;
    if (!l->n_pending || f->failed) {
        b->dead = true;
        return;
    }
    uint32_t idom = NONE32, n = l->n_pending, columns = n_results;
    b->epoch++;
    uint32_t changed = b->pool.n; /* list of the locals that differ somewhere */
    for (uint32_t q = l->pending; q != NONE32; q = b->pending.v[q].next) {
        const struct pending pe = b->pending.v[q];
        uint32_t from = f->edges.v[pe.edge].from;
        idom = idom == NONE32 ? from : ir_common_dominator(f, idom, from);
        for (uint32_t k = 0; k < pe.n_delta; k++) {
            uint32_t x = b->pool.v[pe.delta + 2 * k];
            if (b->stamp.v[x] == b->epoch || local_is_dead(b, x)) continue;
            b->stamp.v[x] = b->epoch;
            b->place.v[x] = columns++;
            vec_push(f, b->pool, x);
        }
    }
    b->matrix.n = 0;
    if (f->failed || (uint64_t)n * columns > UINT32_MAX / 8 || !fn_work(f, (uint64_t)n * columns)) {
        f->failed = true;
        return;
    }
    if (!vec_reserve(f, &b->matrix, sizeof(ref), n * columns + columns) ||
        !vec_reserve(f, &f->args, sizeof(ref), n * columns))
        return;
    ref *m = b->matrix.v;
    uint32_t row = 0;
    for (uint32_t q = l->pending; q != NONE32; q = b->pending.v[q].next, row++) {
        const struct pending *pe = &b->pending.v[q];
        for (uint32_t k = 0; k < n_results; k++)
            m[row * columns + k] = b->pool.v[pe->results + k];
        for (uint32_t k = n_results; k < columns; k++)
            m[row * columns + k] = b->local.v[b->pool.v[changed + k - n_results]];
        for (uint32_t k = 0; k < pe->n_delta; k++) {
            uint32_t x = b->pool.v[pe->delta + 2 * k];
            if (b->stamp.v[x] == b->epoch && b->place.v[x] >= n_results)
                m[row * columns + b->place.v[x]] = b->pool.v[pe->delta + 2 * k + 1];
        }
    }
    start_block(b, idom);
    if (f->failed) return;
    uint32_t *phis = m + n * columns;
    for (uint32_t k = 0; k < columns; k++) {
        uint32_t x = k < n_results ? NONE32 : b->pool.v[changed + k - n_results];
        uint8_t type = k < n_results ? f->ins.v[m[k]].type : kind_of(b->types.v[x]);
        for (uint32_t other = 1; k < n_results && other < n; other++)
            type = joined_type(type, f->ins.v[m[other * columns + k]].type);
        ref v = join(b, m + k, n, columns, type, &phis[k]);
        if (x == NONE32)
            push(b, v);
        else
            set_local(b, x, v);
    }
    row = 0;
    for (uint32_t q = l->pending; q != NONE32; q = b->pending.v[q].next, row++) {
        struct edge *e = &f->edges.v[b->pending.v[q].edge];
        e->to = b->block;
        e->args = f->args.n;
        for (uint32_t k = 0; k < columns; k++)
            if (phis[k] != NONE32) f->args.v[f->args.n++] = m[row * columns + k];
    }
    forget_locals(b);
}

static void open_label(struct builder *b, enum label_kind kind, const struct functype *t) {
    struct label l = {.kind = kind,
                      .n_params = t->n_params,
                      .n_results = t->n_results,
                      .pending = NONE32,
                      .log = b->log.n,
                      .entry = b->block,
                      .else_edge = NONE32,
                      .outer_try = b->try_region,
                      .region = NONE32,
                      .outer_loop = b->loop,
                      .at = b->at};
    l.height = b->stack.n - t->n_params;
    vec_push(b->f, b->labels, l);
}

static void open_loop(struct builder *b, const struct functype *t) {
    struct fn *f = b->f;
    const struct scan_loop *s = &b->scan_loops.v[b->next_loop++];
    uint32_t edge = end_block(b, IR_JUMP, 0, 0, 0, 1), entry = b->block;
    open_label(b, LABEL_LOOP, t);
    struct label *l = &b->labels.v[b->labels.n - 1];
    if (b->levels[b->level].outermost_loop_at == NONE32) b->levels[b->level].outermost_loop_at = l->at;
    l->loop = f->loops.n;
    vec_push(f, f->loops, ((struct loop){.parent = b->loop, .header = f->blocks.n}));
    b->loop = l->loop;
    start_block(b, entry);
    if (f->failed) return;
    l->header = b->block;
    l->phi_locals = b->pool.n;
    struct edge *e = &f->edges.v[edge];
    e->to = b->block;
    e->args = f->args.n;
    f->loops.v[l->loop].start = f->ins.n;
    for (uint32_t k = 0; k < t->n_params; k++) {
        ref *operand = &b->stack.v[l->height + k];
        vec_push(f, f->args, *operand);
        *operand = append(b, IR_PHI, kind_of(t->params[k]), 0, 0, 0, f->blocks.v[b->block].n_phis++);
    }
    b->epoch++;
    if (!fn_work(f, s->n)) return;
    for (uint32_t k = 0; k < s->n && !b->memory_locals && !f->failed; k++) {
        uint32_t x = b->scan_locals.v[s->first + k];
        if (b->stamp.v[x] == b->epoch || local_is_dead(b, x)) continue;
        b->stamp.v[x] = b->epoch;
        vec_push(f, b->pool, x);
        l->n_phi_locals++;
        vec_push(f, f->args, b->local.v[x]);
        set_local(b, x, append(b, IR_PHI, kind_of(b->types.v[x]), 0, 0, 0, f->blocks.v[b->block].n_phis++));
    }
    forget_locals(b);
}

/* Ends the current path at a label: falls into it. */
static void fall_into(struct builder *b, struct label *l) {
    if (b->dead) return;
    uint32_t edge = end_block(b, IR_JUMP, 0, 0, 0, 1);
    branch_edge(b, l, edge);
}

static void return_values(struct builder *b) {
    struct fn *f = b->f;
    uint32_t n = f->type->n_results;
    struct call c = {.kind = CALL_RETURN, .args = f->args.n, .n_args = n, .try_region = NONE32};
    if (!vec_reserve(f, &f->args, sizeof(ref), n) || !vec_push(f, f->calls, c)) return;
    for (uint32_t k = 0; k < n; k++)
        f->args.v[f->args.n++] = b->stack.v[b->stack.n - n + k];
    end_block(b, IR_RETURN, 0, f->calls.n - 1, 0, 0);
}

/* br: to any label, ending the block. */
static void branch(struct builder *b, uint32_t depth) {
    struct label *l = label_at(b, depth);
    if (l->kind == LABEL_FUNC) {
        return_values(b);
        return;
    }
    uint32_t edge = end_block(b, IR_JUMP, 0, 0, 0, 1);
    branch_edge(b, l, edge);
}

/* br_if and its kind: `taken` when condition is not zero. The operands stay for the path not taken. */
static void branch_if(struct builder *b, ref condition, uint32_t depth) {
    struct fn *f = b->f;
    uint32_t edge = end_block(b, IR_BRANCH, condition, 0, 0, 2), from = b->block;
    branch_edge(b, label_at(b, depth), edge);
    start_block(b, from);
    if (!f->failed) f->edges.v[edge + 1].to = b->block;
}

/* --- calls ---------------------------------------------------------------------------------------------------------
 */

/* The call takes `n_args` operands off the stack and leaves its results. */
static ref call(struct builder *b, struct call c, const struct functype *t, uint32_t n_args, bool tail) {
    struct fn *f = b->f;
    c.args = f->args.n;
    c.n_args = n_args;
    c.try_region = b->try_region;
    if (!vec_reserve(f, &f->args, sizeof(ref), n_args)) return 0;
    b->stack.n -= n_args;
    for (uint32_t k = 0; k < n_args; k++)
        f->args.v[f->args.n++] = b->stack.v[b->stack.n + k];
    c.results = f->args.n;
    c.n_results = tail ? 0 : t->n_results;
    if (!vec_reserve(f, &f->args, sizeof(ref), c.n_results) || !vec_push(f, f->calls, c)) return 0;
    f->args.n += c.n_results;
    if (tail) {
        end_block(b, IR_TAIL, 0, f->calls.n - 1, 0, 0);
        return 0;
    }
    ref made = append(b, IR_CALL, KIND_BOT, 0, 0, 0, f->calls.n - 1);
    for (uint32_t k = 0; k < c.n_results; k++) {
        ref r = append(b, IR_RESULT, kind_of(t->results[k]), made, 0, 0, k);
        f->args.v[c.results + k] = r;
        push(b, r);
    }
    return made;
}

/* A helper call: immediates first, then `n` operands; result type KIND_BOT for none. */
static void helper(struct builder *b, enum helper h, const uint32_t *immediates, uint32_t n_immediates, uint32_t n,
                   uint8_t result) {
    struct fn *f = b->f;
    uint32_t base = b->stack.n - n;
    if (!vec_reserve(f, &b->stack, sizeof(ref), n_immediates)) return;
    memmove(b->stack.v + base + n_immediates, b->stack.v + base, n * sizeof(ref));
    b->stack.n += n_immediates;
    for (uint32_t k = 0; k < n_immediates; k++)
        b->stack.v[base + k] = make_const(b, KIND_I32, immediates[k]);
    static const valtype types[] = {[KIND_BOT] = VT_BOT, [KIND_I32] = VT_I32, [KIND_I64] = VT_I64,
                                    [KIND_F32] = VT_F32, [KIND_F64] = VT_F64, [KIND_V128] = VT_V128};
    valtype vt = types[result];
    struct functype t = {.n_results = result != KIND_BOT, .results = &vt};
    call(b, (struct call){.kind = CALL_HELPER, .index = h}, &t, n + n_immediates, false);
}

static void throw_(struct builder *b, enum helper h, uint32_t tag, uint32_t n) {
    helper(b, h, &tag, h == HELPER_THROW, n, KIND_BOT);
    end_block(b, IR_TRAP, 0, TRAP_UNREACHABLE, 0, 0); /* the helper does not come back */
}

/* --- exceptions ----------------------------------------------------------------------------------------------------
 */

static uint32_t open_try(struct builder *b) {
    vec_push(b->f, b->f->tries, ((struct try_region){b->try_region, NONE32, NONE32}));
    return b->f->tries.n - 1;
}

/* Starts the landing block of one clause of `region`, entered with the exception. */
static ref land(struct builder *b, uint32_t region, uint32_t tag, uint32_t idom) {
    struct fn *f = b->f;
    start_block(b, idom);
    if (f->failed) return 0;
    f->blocks.v[b->block].landing = true;
    forget_locals(b);
    if (!vec_push(f, f->clauses, ((struct clause){tag, b->block, NONE32}))) return 0;
    struct try_region *r = &f->tries.v[region];
    if (r->first == NONE32)
        r->first = f->clauses.n - 1;
    else
        f->clauses.v[r->last].next = f->clauses.n - 1;
    r->last = f->clauses.n - 1;
    return append(b, IR_EXN, KIND_I64, 0, 0, 0, 0);
}

static void push_payload(struct builder *b, ref exn, uint32_t tag) {
    const struct functype *t = type_func(b->m->engine, b->m->tag_types[tag]);
    uint32_t at = 0;
    for (uint32_t k = 0; k < t->n_params; k++) {
        push(b, append(b, IR_PAYLOAD, kind_of(t->params[k]), exn, 0, 0, at));
        at += vt_slots(t->params[k]);
    }
}

/* The clauses of a try_table whose body has just ended; labels count from outside of it. */
static void land_clauses(struct builder *b, const struct label *l) {
    const uint8_t *p = l->clauses;
    for (uint32_t n = leb_u32(&p); n && !b->f->failed; n--) {
        uint8_t kind = *p++; /* 0 catch, 1 catch_ref, 2 catch_all, 3 catch_all_ref */
        uint32_t tag = kind < 2 ? leb_u32(&p) : NONE32, depth = leb_u32(&p);
        ref exn = land(b, l->region, tag, l->entry);
        b->stack.n = l->height;
        if (tag != NONE32) push_payload(b, exn, tag);
        if (kind & 1) push(b, exn);
        branch(b, depth);
    }
}

/* The region a delegate to `depth` hands its exceptions to: that of the first try at or around the label. */
static uint32_t delegate_region(struct builder *b, uint32_t depth) {
    for (uint32_t l = b->labels.n - 1 - depth + 1; l-- && fn_work(b->f, 1);) {
        const struct label *x = &b->labels.v[l];
        if (x->kind == LABEL_TRY || x->kind == LABEL_TRY_TABLE) return x->region;
    }
    return NONE32;
}

static void next_catch(struct builder *b, uint32_t tag) {
    struct label *l = label_at(b, 0);
    fall_into(b, l);
    rollback(b, l->log);
    l->kind = LABEL_CATCH;
    b->try_region = l->outer_try;
    b->stack.n = l->height;
    l->exn = land(b, l->region, tag, l->entry);
    if (tag != NONE32) push_payload(b, l->exn, tag);
}

/* --- instructions --------------------------------------------------------------------------------------------------
 */

static void memory_access(struct builder *b, uint32_t op, bool lane) {
    struct fn *f = b->f;
    uint32_t align = leb_u32(&b->p), mem = align & 0x40 ? leb_u32(&b->p) : 0, sig = opcode_table[op].sig;
    uint64_t offset = leb_u64(&b->p);
    uint8_t which = lane ? *b->p++ : 0;
    ref value = sig_params(sig) == 2 ? pop(b) : 0, address = pop(b);
    uint8_t result = (uint8_t)sig_result(sig);
    ref r = append(b, (uint16_t)op, result, address, value, 0, offset);
    f->ins.v[r].aux = mem << 8 | which;
    if (result) push(b, r);
}

static void numeric(struct builder *b, uint32_t op, uint64_t imm) {
    uint32_t sig = opcode_table[op].sig, n = sig_params(sig);
    ref z = n > 2 ? pop(b) : 0, y = n > 1 ? pop(b) : 0, x = n ? pop(b) : 0;
    uint8_t type = (uint8_t)sig_result(sig);
    push(b, ir_is_pure((uint16_t)op) ? make(b, (uint16_t)op, type, x, y, z, imm)
                                     : append(b, (uint16_t)op, type, x, y, z, imm));
}

static void select_(struct builder *b) {
    ref c = pop(b), y = pop(b), x = pop(b);
    const struct ins *ins = b->f->ins.v;
    push(b, make(b, IR_SELECT, joined_type(ins[x].type, ins[y].type), x, y, c, 0));
}

static void switch_(struct builder *b) {
    struct fn *f = b->f;
    uint32_t n = leb_u32(&b->p);
    ref index = pop(b);
    const uint8_t *targets = b->p;
    uint32_t cases = f->args.n, n_edges = 0;
    if (!vec_reserve(f, &f->args, sizeof(ref), n + 1) || !vec_reserve(f, &b->matrix, sizeof(ref), b->labels.n)) return;
    ref *edge_of = b->matrix.v; /* by label depth: its edge + 1 */
    if (!fn_work(f, b->labels.n / 4)) return;
    memset(edge_of, 0, b->labels.n * sizeof(ref));
    for (uint32_t k = 0; k <= n; k++) {
        uint32_t depth = leb_u32(&b->p);
        if (!edge_of[depth]) edge_of[depth] = ++n_edges;
        f->args.v[f->args.n++] = edge_of[depth] - 1;
    }
    uint32_t edge = end_block(b, IR_SWITCH, index, cases, n, n_edges), made = 0;
    for (uint32_t k = 0; k <= n && !f->failed; k++) {
        uint32_t depth = leb_u32(&targets);
        if (f->args.v[cases + k] != made) continue; /* an edge made already */
        branch_edge(b, label_at(b, depth), edge + made++);
    }
}

static void address_const(struct builder *b, uint32_t op) {
    uint32_t t1 = leb_u32(&b->p);
    uint8_t type;
    switch (op) {
    case OP_MEMORY_SIZE:
        type = b->m->memories[t1].is64 ? KIND_I64 : KIND_I32;
        push(b, append(b, OP_MEMORY_SIZE, type, 0, 0, 0, t1));
        return;
    case OP_MEMORY_GROW:
        helper(b, HELPER_MEMORY_GROW, &t1, 1, 1, b->m->memories[t1].is64 ? KIND_I64 : KIND_I32);
        return;
    case OP_TABLE_SIZE:
        type = b->m->tables[t1].type.limits.is64 ? KIND_I64 : KIND_I32;
        push(b, append(b, OP_TABLE_SIZE, type, 0, 0, 0, t1));
        return;
    default: helper(b, HELPER_TABLE_GROW, &t1, 1, 2, b->m->tables[t1].type.limits.is64 ? KIND_I64 : KIND_I32); return;
    }
}

static void bulk(struct builder *b, uint32_t op) {
    uint32_t i[2] = {leb_u32(&b->p), 0};
    switch (op) {
    case OP_MEMORY_INIT:
    case OP_MEMORY_COPY:
    case OP_TABLE_INIT:
    case OP_TABLE_COPY: i[1] = leb_u32(&b->p); break;
    default: break;
    }
    switch (op) {
    case OP_MEMORY_INIT: helper(b, HELPER_MEMORY_INIT, i, 2, 3, KIND_BOT); break;
    case OP_MEMORY_COPY: helper(b, HELPER_MEMORY_COPY, i, 2, 3, KIND_BOT); break;
    case OP_MEMORY_FILL: helper(b, HELPER_MEMORY_FILL, i, 1, 3, KIND_BOT); break;
    case OP_DATA_DROP: helper(b, HELPER_DATA_DROP, i, 1, 0, KIND_BOT); break;
    case OP_TABLE_INIT: helper(b, HELPER_TABLE_INIT, i, 2, 3, KIND_BOT); break;
    case OP_TABLE_COPY: helper(b, HELPER_TABLE_COPY, i, 2, 3, KIND_BOT); break;
    case OP_TABLE_FILL: helper(b, HELPER_TABLE_FILL, i, 1, 3, KIND_BOT); break;
    default: helper(b, HELPER_ELEM_DROP, i, 1, 0, KIND_BOT); break;
    }
}

/* --- structures and arrays ----------------------------------------------------------------------------------------
 */

static void call_gc(struct builder *b, const struct gc_ins *g) {
    uint32_t immediates[2] = {(g->op - OP_BASE_FB) | g->x << 5, g->y}; /* there are at most MAX_TYPES types */
    helper(b, HELPER_GC, immediates, 2, g->n_params, g->result == VT_BOT ? KIND_BOT : kind_of(g->result));
}

/* The trap if `r` is null, TRAP_NONE if it was looked at on the way here. */
static uint32_t null_trap(struct builder *b, ref r, enum trap_kind kind) {
    struct fn *f = b->f;
    if (r < b->checked.n && b->checked.v[r] && dominates(b, b->checked.v[r] - 1)) return TRAP_NONE;
    uint32_t more = r < b->checked.n ? 0 : r + 1 - b->checked.n;
    if (!vec_reserve(f, &b->checked, sizeof *b->checked.v, more)) return kind;
    if (more) memset(b->checked.v + b->checked.n, 0, more * sizeof *b->checked.v);
    b->checked.n += more;
    b->checked.v[r] = b->block + 1;
    return kind;
}

static enum access access_of(valtype t, bool is_signed) {
    switch (vt_kind(t)) {
    case KIND_PACKED: return (t == VT_I8 ? ACCESS_8_U : ACCESS_16_U) - is_signed;
    case KIND_I32: return ACCESS_32;
    case KIND_F32: return ACCESS_F32;
    case KIND_F64: return ACCESS_F64;
    case KIND_V128: return ACCESS_V128;
    default: return ACCESS_64;
    }
}

static ref access(struct builder *b, uint16_t op, valtype t, bool is_signed, enum trap_kind null, ref x, ref y, ref z,
                  uint64_t imm) {
    uint32_t aux = access_of(t, is_signed) | null_trap(b, x, null) << 8;
    uint8_t type = vt_kind(t) == KIND_PACKED ? KIND_I32 : kind_of(t);
    ref r = append(b, op, op == IR_FIELD_GET || op == IR_ELEM_GET ? type : KIND_BOT, x, y, z, imm);
    b->f->ins.v[r].aux = aux;
    return r;
}

static const struct deftype *agg_type(const struct builder *b, const struct gc_ins *g) {
    return type_get(b->m->engine, b->m->type_ids[g->x]);
}

static void field(struct builder *b, const struct gc_ins *g) {
    const struct deftype *d = agg_type(b, g);
    const valtype t = d->agg.fields[g->y].type;
    const uint32_t offset = d->agg.offsets[g->y];
    if (g->op == OP_STRUCT_SET) {
        ref value = pop(b), object = pop(b);
        access(b, IR_FIELD_SET, t, false, TRAP_NULL_STRUCT, object, value, 0, offset);
    } else {
        push(b, access(b, IR_FIELD_GET, t, g->op == OP_STRUCT_GET_S, TRAP_NULL_STRUCT, pop(b), 0, 0, offset));
    }
}

static void element(struct builder *b, const struct gc_ins *g) {
    const valtype t = agg_type(b, g)->agg.fields[0].type;
    ref value = g->op == OP_ARRAY_SET ? pop(b) : 0, index = pop(b), array = pop(b);
    if (value)
        access(b, IR_ELEM_SET, t, false, TRAP_NULL_ARRAY, array, index, value, 0);
    else
        push(b, access(b, IR_ELEM_GET, t, g->op == OP_ARRAY_GET_S, TRAP_NULL_ARRAY, array, index, 0, 0));
}

/* Only the cell comes from a helper; the type and fields that have a value are set here. */
static void struct_new(struct builder *b, const struct gc_ins *g) {
    enum { FIELDS_HERE = 16 }; /* at most: beyond, one call with all of them is shorter */
    const struct deftype *d = agg_type(b, g);
    const uint32_t n = g->op == OP_STRUCT_NEW ? d->agg.n_fields : 0;
    if (n > FIELDS_HERE) {
        call_gc(b, g);
        return;
    }
    helper(b, HELPER_NEW, &d->agg.size, 1, 0, KIND_I64);
    ref object = pop(b);
    append(b, IR_SET_TYPE, KIND_BOT, object, 0, 0, g->x);
    null_trap(b, object, TRAP_NONE);
    for (uint32_t k = n; k--;) {
        ref value = pop(b);
        access(b, IR_FIELD_SET, d->agg.fields[k].type, false, TRAP_NONE, object, value, 0, d->agg.offsets[k]);
    }
    push(b, object);
}

/* Is the reference an object of type `x` itself? With `null`: or null. */
static ref is_exact(struct builder *b, ref r, uint32_t x, bool null) {
    ref is = append(b, IR_IS_EXACT, KIND_I32, r, 0, 0, x);
    b->f->ins.v[is].aux = null;
    return is;
}

static void close_label(struct builder *b);

/* Types of objects: most casts meet the type itself, and final ones have no other. */
static void cast(struct builder *b, const struct gc_ins *g) {
    const uint32_t x = g->x - HEAP_CONCRETE;
    const struct deftype *d = g->x < HEAP_CONCRETE ? NULL : type_get(b->m->engine, b->m->type_ids[x]);
    const bool null = g->op == OP_REF_TEST_NULL || g->op == OP_REF_CAST_NULL;
    const bool test = g->op == OP_REF_TEST || g->op == OP_REF_TEST_NULL;
    if (!d || d->kind == COMP_FUNC) {
        call_gc(b, g);
        return;
    }
    ref r = pop(b), is = is_exact(b, r, x, null);
    if (d->final) {
        if (!test) append(b, IR_CHECK, KIND_BOT, is, 0, 0, TRAP_CAST);
        push(b, test ? is : r);
        return;
    }
    const valtype i32 = VT_I32;
    const struct functype type = {.n_results = test, .results = &i32};
    open_label(b, LABEL_BLOCK, &type);
    if (test) push(b, make_const(b, KIND_I32, 1));
    branch_if(b, is, 0);
    if (test) pop(b);
    push(b, r);
    call_gc(b, g);
    if (!test) pop(b);
    close_label(b);
    if (!test) push(b, r);
}

static void i31_get(struct builder *b, uint16_t shift) {
    ref r = pop(b);
    if (null_trap(b, r, TRAP_NULL_I31)) append(b, IR_NULL_CHECK, KIND_I64, r, 0, 0, TRAP_NULL_I31);
    push(b, make(b, shift, KIND_I32, make(b, OP_I32_WRAP_I64, KIND_I32, r, 0, 0, 0), make_const(b, KIND_I32, 1), 0, 0));
}

static void gc(struct builder *b, uint32_t op) {
    const struct gc_ins g = gc_read(b->m, op, &b->p);
    switch (op) {
    case OP_STRUCT_NEW:
    case OP_STRUCT_NEW_DEFAULT: struct_new(b, &g); return;
    case OP_STRUCT_GET:
    case OP_STRUCT_GET_S:
    case OP_STRUCT_GET_U:
    case OP_STRUCT_SET: field(b, &g); return;
    case OP_ARRAY_GET:
    case OP_ARRAY_GET_S:
    case OP_ARRAY_GET_U:
    case OP_ARRAY_SET: element(b, &g); return;
    case OP_ARRAY_LEN:
        push(b, access(b, IR_FIELD_GET, VT_I32, false, TRAP_NULL_ARRAY, pop(b), 0, 0, offsetof(struct object, length)));
        return;
    case OP_REF_TEST:
    case OP_REF_TEST_NULL:
    case OP_REF_CAST:
    case OP_REF_CAST_NULL: cast(b, &g); return;
    case OP_ANY_CONVERT_EXTERN:
    case OP_EXTERN_CONVERT_ANY: return; /* heap.h */
    case OP_REF_I31: {
        ref number = make(b, OP_I32_SHL, KIND_I32, pop(b), make_const(b, KIND_I32, 1), 0, 0);
        push(b, make(b, OP_I64_OR, KIND_I64, number, make_const(b, KIND_I64, REF_TAG_I31), 0, 0));
        return;
    }
    case OP_I31_GET_S: i31_get(b, OP_I32_SHR_S); return;
    case OP_I31_GET_U: i31_get(b, OP_I32_SHR_U); return;
    default: call_gc(b, &g); return;
    }
}

static void br_on_cast(struct builder *b, uint32_t op) {
    const struct gc_branch g = gc_read_branch(&b->p);
    const struct gc_ins test = {.op = g.test, .x = g.heap, .n_params = 1, .result = VT_I32};
    push(b, b->stack.v[b->stack.n - 1]);
    cast(b, &test);
    ref is = pop(b);
    branch_if(b, op == OP_BR_ON_CAST ? is : make(b, OP_I32_EQZ, KIND_I32, is, 0, 0, 0), g.depth);
}

static const struct functype *func_type_of(struct builder *b, uint32_t func) {
    return type_func(b->m->engine, b->m->func_types[func]);
}

/* --- inlining ------------------------------------------------------------------------------------------------------
 */

/* May the body be built in place of a call? Not with handlers, which want locals in memory, and not with tail calls,
 * which would leave the function around, too. */
static bool can_inline(const struct builder *b, const uint8_t *p, const uint8_t *end) {
    uint32_t locals = 0;
    for (uint32_t groups = leb_u32(&p); groups; groups--) {
        uint32_t n = leb_u32(&p);
        module_read_valtype(b->m, &p);
        if (n > INLINE_LOCALS - locals) return false;
        locals += n;
    }
    while (p < end) {
        uint32_t op = opcode_read(&p);
        struct blocktype_buf buf;
        switch (op) {
        case OP_TRY:
        case OP_TRY_TABLE:
        case OP_RETURN_CALL:
        case OP_RETURN_CALL_INDIRECT:
        case OP_RETURN_CALL_REF: return false;
        case OP_BLOCK:
        case OP_LOOP:
        case OP_IF: module_read_blocktype(b->m, &p, &buf); break;
        default: skip_immediate(b->m, (enum opcode_immediate)opcode_table[op].imm, &p);
        }
    }
    return true;
}

/* How often the function is being built already. */
static uint32_t recursions_of(const struct builder *b, uint32_t func) {
    uint32_t n = 0;
    for (uint32_t k = 0; k <= b->level; k++)
        n += b->levels[k].func == func;
    return n;
}

static bool wants_inlining(const struct builder *b, uint32_t func) {
    const struct module *m = b->m;
    if (b->f->fuel || b->memory_locals || func < m->n_func_imports || b->level == INLINE_DEPTH) return false;
    const struct func_body *body = &m->bodies[func - m->n_func_imports];
    const uint32_t recursions = recursions_of(b, func);
    if (body->size > (recursions ? INLINE_MOST_ITSELF : INLINE_MOST) || recursions > INLINE_RECURSIONS) return false;
    if (body->size > (recursions ? b->recursion_left : b->inline_left)) return false;
    const uint8_t *p = m->data + body->offset;
    return can_inline(b, p, p + body->size);
}

static bool read_locals(struct builder *b, const struct functype *t);

/* Goes on with the body of a function instead of a call of it. */
static void inline_call(struct builder *b, uint32_t func, const struct functype *t) {
    struct fn *f = b->f;
    const struct func_body *body = &b->m->bodies[func - b->m->n_func_imports];
    const uint32_t first = b->n_locals;
    const struct level l = {.func = func,
                            .first_local = first,
                            .label = b->labels.n,
                            .inlined = f->inlined.n,
                            .outermost_loop_at = NONE32,
                            .resume = b->p,
                            .at = b->at,
                            .mark = b->mark,
                            .next_loop = b->next_loop};
    b->p = b->m->data + body->offset;
    uint32_t *left = recursions_of(b, func) ? &b->recursion_left : &b->inline_left;
    *left -= body->size;
    if (!vec_push(f, f->inlined, ((struct inlined){func, b->mark})) || !read_locals(b, t)) return;
    b->levels[++b->level] = l;
    b->next_loop = b->scan_loops.n;
    scan(b, b->p, b->m->data + body->offset + body->size);
    if (f->failed) return;
    if (b->n_locals > first) memset(b->stamp.v + first, 0, (b->n_locals - first) * sizeof *b->stamp.v);
    b->stack.n -= t->n_params;
    static const uint8_t zero[16];
    for (uint32_t x = first; x < b->n_locals; x++) {
        uint8_t kind = kind_of(b->types.v[x]);
        ref v = x - first < t->n_params ? b->stack.v[b->stack.n + x - first]
                : kind == KIND_V128     ? make_vector(b, zero)
                                        : make_const(b, kind, 0);
        set_local(b, x, v);
    }
    struct functype results = *t;
    results.n_params = 0;
    open_label(b, LABEL_INLINE, &results);
}

/* Behind the end of an inlined function: back to the one around. */
static void leave_level(struct builder *b) {
    const struct level *l = &b->levels[b->level--];
    b->n_locals = b->types.n = l->first_local;
    b->p = l->resume;
    b->at = l->at;
    b->mark = l->mark;
    b->next_loop = l->next_loop;
}

static void calls(struct builder *b, uint32_t op) {
    bool tail = op == OP_RETURN_CALL || op == OP_RETURN_CALL_INDIRECT || op == OP_RETURN_CALL_REF;
    uint32_t x = leb_u32(&b->p);
    if (op == OP_CALL || op == OP_RETURN_CALL) {
        const struct functype *t = func_type_of(b, x);
        if (!tail && wants_inlining(b, x))
            inline_call(b, x, t);
        else
            call(b, (struct call){.kind = CALL_DIRECT, .index = x}, t, t->n_params, tail);
        return;
    }
    const struct functype *t = type_func(b->m->engine, b->m->type_ids[x]);
    struct call c = {.kind = CALL_REF, .type = x};
    if (op == OP_CALL_INDIRECT || op == OP_RETURN_CALL_INDIRECT)
        c = (struct call){.kind = CALL_INDIRECT, .index = leb_u32(&b->p), .type = x};
    call(b, c, t, t->n_params + 1, tail);
}

static void null_branches(struct builder *b, uint32_t op, uint32_t depth) {
    ref r = pop(b), null = make(b, OP_I64_EQZ, KIND_I32, r, 0, 0, 0);
    if (op == OP_BR_ON_NULL) {
        branch_if(b, null, depth);
        push(b, r);
        return;
    }
    push(b, r);
    branch_if(b, make(b, OP_I32_EQZ, KIND_I32, null, 0, 0, 0), depth);
    pop(b);
}

static void variables(struct builder *b, uint32_t op) {
    uint32_t x = leb_u32(&b->p);
    if (op == OP_LOCAL_GET || op == OP_LOCAL_SET || op == OP_LOCAL_TEE) x += b->levels[b->level].first_local;
    switch (op) {
    case OP_LOCAL_GET: push(b, get_local(b, x)); break;
    case OP_LOCAL_SET: put_local(b, x, pop(b)); break;
    case OP_LOCAL_TEE: put_local(b, x, b->stack.v[b->stack.n - 1]); break;
    case OP_GLOBAL_GET: push(b, append(b, OP_GLOBAL_GET, kind_of(b->m->globals[x].type.type), 0, 0, 0, x)); break;
    case OP_GLOBAL_SET: append(b, OP_GLOBAL_SET, kind_of(b->m->globals[x].type.type), pop(b), 0, 0, x); break;
    case OP_TABLE_GET: helper(b, HELPER_TABLE_GET, &x, 1, 1, KIND_I64); break;
    case OP_TABLE_SET: helper(b, HELPER_TABLE_SET, &x, 1, 2, KIND_BOT); break;
    }
}

static void constants(struct builder *b, uint32_t op) {
    uint64_t bits = 0;
    switch (op) {
    case OP_I32_CONST: push(b, make_const(b, KIND_I32, (uint32_t)leb_s32(&b->p))); break;
    case OP_I64_CONST: push(b, make_const(b, KIND_I64, (uint64_t)leb_s64(&b->p))); break;
    case OP_F32_CONST:
        memcpy(&bits, b->p, 4);
        b->p += 4;
        push(b, make_const(b, KIND_F32, bits));
        break;
    case OP_F64_CONST:
        memcpy(&bits, b->p, 8);
        b->p += 8;
        push(b, make_const(b, KIND_F64, bits));
        break;
    case OP_V128_CONST:
        push(b, make_vector(b, b->p));
        b->p += 16;
        break;
    }
}

static void shuffle(struct builder *b) {
    ref lanes = make_vector(b, b->p), y = pop(b), x = pop(b);
    b->p += 16;
    push(b, append(b, OP_I8X16_SHUFFLE, KIND_V128, x, y, 0, b->f->ins.v[lanes].imm));
}

/* Falling out of a loop's end: on in a block of its own, so that loops are whole blocks. */
static void close_loop(struct builder *b) {
    struct fn *f = b->f;
    struct label l = *label_at(b, 0);
    bool falls = !b->dead;
    uint32_t from = b->block, edge = falls ? end_block(b, IR_JUMP, 0, 0, 0, 1) : 0;
    f->loops.v[l.loop].end = f->ins.n;
    b->loop = l.outer_loop;
    if (l.at == b->levels[b->level].outermost_loop_at) b->levels[b->level].outermost_loop_at = NONE32;
    b->labels.n--;
    if (!falls || f->failed) return;
    start_block(b, from);
    f->edges.v[edge].to = b->block;
}

static void close_label(struct builder *b) {
    if (label_at(b, 0)->kind == LABEL_LOOP) {
        close_loop(b);
        return;
    }
    fall_into(b, label_at(b, 0));
    struct label l = *label_at(b, 0);
    b->labels.n--;
    b->try_region = l.outer_try;
    switch (l.kind) {
    case LABEL_INLINE:
        leave_level(b);
        bind(b, &l);
        return;
    case LABEL_IF: { /* without else: the path not taken carries the parameters */
        rollback(b, l.log);
        b->stack.n = l.height;
        for (uint32_t k = 0; k < l.n_params; k++)
            push(b, b->pool.v[l.params + k]);
        branch_edge(b, &l, l.else_edge);
        bind(b, &l);
        return;
    }
    case LABEL_TRY_TABLE:
        rollback(b, l.log);
        /* Its clauses may branch to labels around it, not to its own: pending edges stay apart. */
        land_clauses(b, &l);
        bind(b, &l);
        return;
    case LABEL_FUNC:
        bind(b, &l);
        if (!b->dead) return_values(b);
        return;
    default: bind(b, &l); return;
    }
}

static void open_construct(struct builder *b, uint32_t op) {
    struct blocktype_buf buf;
    const struct functype *t = module_read_blocktype(b->m, &b->p, &buf);
    struct fn *f = b->f;
    switch (op) {
    case OP_BLOCK: open_label(b, LABEL_BLOCK, t); return;
    case OP_LOOP: open_loop(b, t); return;
    case OP_IF: {
        ref c = pop(b);
        uint32_t edge = end_block(b, IR_BRANCH, c, 0, 0, 2), from = b->block;
        open_label(b, LABEL_IF, t);
        if (f->failed) return;
        struct label *l = label_at(b, 0);
        l->else_edge = edge + 1;
        l->params = b->pool.n;
        for (uint32_t k = 0; k < t->n_params; k++)
            vec_push(f, b->pool, b->stack.v[l->height + k]);
        start_block(b, from);
        if (!f->failed) f->edges.v[edge].to = b->block;
        return;
    }
    case OP_TRY:
    case OP_TRY_TABLE: {
        open_label(b, op == OP_TRY ? LABEL_TRY : LABEL_TRY_TABLE, t);
        /* The body has a block of its own: what it computes must not seem to dominate the handlers. */
        uint32_t edge = end_block(b, IR_JUMP, 0, 0, 0, 1);
        start_block(b, b->block);
        if (f->failed) return;
        f->edges.v[edge].to = b->block;
        struct label *l = label_at(b, 0);
        l->clauses = b->p;
        if (op == OP_TRY_TABLE) skip_immediate(b->m, IMM_TRY_TABLE, &b->p);
        l->region = b->try_region = open_try(b);
        return;
    }
    }
}

static void else_(struct builder *b) {
    struct label *l = label_at(b, 0);
    fall_into(b, l);
    rollback(b, l->log);
    b->stack.n = l->height;
    for (uint32_t k = 0; k < l->n_params; k++)
        push(b, b->pool.v[l->params + k]);
    l->kind = LABEL_ELSE;
    uint32_t edge = l->else_edge;
    start_block(b, l->entry);
    if (!b->f->failed) b->f->edges.v[edge].to = b->block;
    forget_locals(b);
}

static void delegate(struct builder *b) {
    uint32_t depth = leb_u32(&b->p);
    struct label *l = label_at(b, 0);
    if (l->region != NONE32) b->f->tries.v[l->region].outer = delegate_region(b, depth + 1);
    close_label(b);
}

/* One instruction in live code. */
static void instruction(struct builder *b, uint32_t op) {
    switch (op) {
    case OP_UNREACHABLE: end_block(b, IR_TRAP, 0, TRAP_UNREACHABLE, 0, 0); return;
    case OP_NOP: return;
    case OP_BLOCK:
    case OP_LOOP:
    case OP_IF:
    case OP_TRY:
    case OP_TRY_TABLE: open_construct(b, op); return;
    case OP_BR: branch(b, leb_u32(&b->p)); return;
    case OP_BR_IF: {
        uint32_t depth = leb_u32(&b->p);
        branch_if(b, pop(b), depth);
        return;
    }
    case OP_BR_TABLE: switch_(b); return;
    case OP_RETURN:
        if (b->level)
            branch(b, b->labels.n - 1 - b->levels[b->level].label);
        else
            return_values(b);
        return;
    case OP_CALL:
    case OP_CALL_INDIRECT:
    case OP_CALL_REF:
    case OP_RETURN_CALL:
    case OP_RETURN_CALL_INDIRECT:
    case OP_RETURN_CALL_REF: calls(b, op); return;
    case OP_DROP: pop(b); return;
    case OP_SELECT_T: skip_immediate(b->m, IMM_TYPES, &b->p); /* fallthrough */
    case OP_SELECT: select_(b); return;
    case OP_LOCAL_GET:
    case OP_LOCAL_SET:
    case OP_LOCAL_TEE:
    case OP_GLOBAL_GET:
    case OP_GLOBAL_SET:
    case OP_TABLE_GET:
    case OP_TABLE_SET: variables(b, op); return;
    case OP_MEMORY_SIZE:
    case OP_MEMORY_GROW:
    case OP_TABLE_SIZE:
    case OP_TABLE_GROW: address_const(b, op); return;
    case OP_MEMORY_INIT:
    case OP_MEMORY_COPY:
    case OP_MEMORY_FILL:
    case OP_DATA_DROP:
    case OP_TABLE_INIT:
    case OP_TABLE_COPY:
    case OP_TABLE_FILL:
    case OP_ELEM_DROP: bulk(b, op); return;
    case OP_I32_CONST:
    case OP_I64_CONST:
    case OP_F32_CONST:
    case OP_F64_CONST:
    case OP_V128_CONST: constants(b, op); return;
    case OP_I8X16_SHUFFLE: shuffle(b); return;
    case OP_REF_NULL:
        skip_leb(&b->p);
        push(b, make_const(b, KIND_I64, 0));
        return;
    case OP_REF_IS_NULL: push(b, make(b, OP_I64_EQZ, KIND_I32, pop(b), 0, 0, 0)); return;
    case OP_REF_FUNC: push(b, make(b, OP_REF_FUNC, KIND_I64, 0, 0, 0, leb_u32(&b->p))); return;
    case OP_REF_AS_NON_NULL: push(b, append(b, IR_NULL_CHECK, KIND_I64, pop(b), 0, 0, TRAP_NULL_REF)); return;
    case OP_REF_EQ: {
        ref y = pop(b), x = pop(b);
        push(b, make(b, OP_I64_EQ, KIND_I32, x, y, 0, 0));
        return;
    }
    case OP_BR_ON_NULL:
    case OP_BR_ON_NON_NULL: null_branches(b, op, leb_u32(&b->p)); return;
    case OP_BR_ON_CAST:
    case OP_BR_ON_CAST_FAIL: br_on_cast(b, op); return;
    case OP_THROW: {
        uint32_t tag = leb_u32(&b->p);
        throw_(b, HELPER_THROW, tag, type_func(b->m->engine, b->m->tag_types[tag])->n_params);
        return;
    }
    case OP_THROW_REF: throw_(b, HELPER_THROW_REF, 0, 1); return;
    case OP_RETHROW:
        push(b, label_at(b, leb_u32(&b->p))->exn);
        throw_(b, HELPER_THROW_REF, 0, 1);
        return;
    default: break;
    }
    if (opcode_is_gc(op)) {
        gc(b, op);
        return;
    }
    switch (opcode_table[op].imm) {
    case IMM_MEMARG: memory_access(b, op, false); return;
    case IMM_MEMARG_LANE: memory_access(b, op, true); return;
    case IMM_LANE: numeric(b, op, *b->p++); return;
    default: numeric(b, op, 0); return;
    }
}

/* One instruction where nothing is reached: only the structure counts. */
static void dead_instruction(struct builder *b, uint32_t op) {
    struct blocktype_buf buf;
    switch (op) {
    case OP_BLOCK:
    case OP_LOOP:
    case OP_IF:
    case OP_TRY:
    case OP_TRY_TABLE:
        module_read_blocktype(b->m, &b->p, &buf);
        if (op == OP_TRY_TABLE) skip_immediate(b->m, IMM_TRY_TABLE, &b->p);
        if (op == OP_LOOP) b->next_loop++;
        b->skip++;
        return;
    default: skip_immediate(b->m, (enum opcode_immediate)opcode_table[op].imm, &b->p);
    }
}

/* One unit a wasm instruction, charged at the beginning of its block. */
static void charge(struct builder *b) {
    if (!b->fuel) b->fuel = append(b, IR_FUEL, KIND_BOT, 0, 0, 0, 0);
    b->f->ins.v[b->fuel].imm++;
}

static void step(struct builder *b) {
    b->mark = b->at = (uint32_t)(b->p - b->m->data);
    uint32_t op = opcode_read(&b->p);
    if (b->level && !b->dead) {
        b->mark = AT_INLINED | b->f->marks.n;
        vec_push(b->f, b->f->marks, ((struct mark){b->at, b->levels[b->level].inlined}));
    }
    bool skipped = b->skip > 0;
    switch (op) {
    case OP_ELSE:
        if (!skipped) else_(b);
        return;
    case OP_CATCH:
    case OP_CATCH_ALL: {
        uint32_t tag = op == OP_CATCH ? leb_u32(&b->p) : NONE32;
        if (!skipped) next_catch(b, tag);
        return;
    }
    case OP_DELEGATE:
        if (!skipped) {
            delegate(b);
            return;
        }
        skip_leb(&b->p);
        b->skip--;
        return;
    case OP_END:
        if (skipped)
            b->skip--;
        else
            close_label(b);
        return;
    default:
        if (b->dead) {
            dead_instruction(b, op);
            return;
        }
        if (b->f->fuel) charge(b);
        instruction(b, op);
    }
}

/* --- the function --------------------------------------------------------------------------------------------------
 */

/* Declares the parameters and the locals of a body, behind those there are. */
static bool read_locals(struct builder *b, const struct functype *t) {
    struct fn *f = b->f;
    for (uint32_t k = 0; k < t->n_params; k++)
        vec_push(f, b->types, t->params[k]);
    for (uint32_t groups = leb_u32(&b->p); groups && !f->failed; groups--) {
        uint32_t n = leb_u32(&b->p);
        valtype type = module_read_valtype(b->m, &b->p);
        if (!vec_reserve(f, &b->types, sizeof *b->types.v, n)) break;
        while (n--)
            b->types.v[b->types.n++] = type;
    }
    const uint32_t first = b->n_locals, known = b->known_locals;
    uint32_t n = b->n_locals = b->types.n;
    vec_reserve(f, &b->local, sizeof(ref), n);
    vec_reserve(f, &b->stamp, 4, n);
    vec_reserve(f, &b->place, 4, n);
    vec_reserve(f, &b->last_read, 4, n);
    vec_reserve(f, &b->slot, 4, n);
    vec_reserve(f, &b->history, sizeof *b->history.v, n);
    if (f->failed) return false;
    if (n > known) {
        memset(b->local.v + known, 0, (n - known) * sizeof(ref));
        memset(b->history.v + known, 0, (n - known) * sizeof *b->history.v);
        b->known_locals = n;
    }
    if (n > first) {
        memset(b->stamp.v + first, 0, (n - first) * 4);
        memset(b->last_read.v + first, 0, (n - first) * 4);
    }
    return true;
}

/* Parameters and zeroed locals. */
static void init_locals(struct builder *b) {
    struct fn *f = b->f;
    for (uint32_t x = 0; x < b->n_locals && !f->failed; x++) {
        valtype t = b->types.v[x];
        uint8_t kind = kind_of(t);
        static const uint8_t zero[16];
        ref v;
        if (x < f->type->n_params)
            v = append(b, IR_PARAM, kind, 0, 0, 0, x);
        else
            v = kind == KIND_V128 ? make_vector(b, zero) : make_const(b, kind, 0);
        know_local(b, x, v);
        if (!b->memory_locals) continue;
        b->slot.v[x] = f->n_slots;
        f->n_slots += vt_slots(t);
        append(b, IR_SLOT_SET, kind, v, 0, 0, b->slot.v[x]);
    }
}

/* Each block's incoming edges. */
static void link_preds(struct fn *f) {
    for (uint32_t e = 0; e < f->edges.n; e++)
        f->blocks.v[f->edges.v[e].to].n_preds++;
    uint32_t at = 0;
    if (!vec_reserve(f, &f->preds, 4, f->edges.n)) return;
    for (uint32_t k = 0; k < f->blocks.n; k++) {
        f->blocks.v[k].preds = at;
        at += f->blocks.v[k].n_preds;
        f->blocks.v[k].n_preds = 0;
    }
    f->preds.n = at;
    for (uint32_t e = 0; e < f->edges.n; e++) {
        struct block *to = &f->blocks.v[f->edges.v[e].to];
        f->preds.v[to->preds + to->n_preds++] = e;
    }
}

static void release(struct builder *b) {
    const struct donjon_platform *pl = b->f->platform;
    void *all[] = {b->types.v,      b->local.v,       b->stamp.v,   b->place.v,      b->last_read.v, b->slot.v,
                   b->stack.v,      b->labels.v,      b->pending.v, b->log.v,        b->pool.v,      b->matrix.v,
                   b->scan_loops.v, b->scan_locals.v, b->dom.v,     b->values.table, b->history.v,   b->checked.v};
    for (size_t k = 0; k < sizeof all / sizeof *all; k++)
        pl->realloc(pl->ctx, all[k], 0);
}

bool ir_build(struct fn *f) {
    const struct module *m = f->module;
    const struct func_body *body = &m->bodies[f->index - m->n_func_imports];
    struct builder b = {.f = f,
                        .m = m,
                        .p = m->data + body->offset,
                        .start = m->data,
                        .try_region = NONE32,
                        .loop = NONE32,
                        .newest = NONE32,
                        .memory_locals = f->memory_locals};
    const uint8_t *end = b.p + body->size;
    f->type = type_func(m->engine, m->func_types[f->index]);
    vec_push(f, f->ins, ((struct ins){.op = IR_NOP})); /* ref 0 is no value */
    /* Never NULL, also for functions that leave them empty. */
    vec_reserve(f, &b.stack, sizeof *b.stack.v, 1);
    vec_reserve(f, &b.matrix, sizeof *b.matrix.v, 1);
    b.levels[0] = (struct level){.func = f->index, .outermost_loop_at = NONE32};
    b.inline_left = INLINE_MOST + body->size / 3;
    b.recursion_left = 3 * INLINE_MOST_ITSELF;
    if (read_locals(&b, f->type)) {
        scan(&b, b.p, end);
        b.epoch = b.scan_loops.n + 1;
        b.mark = b.at = (uint32_t)(b.p - m->data);
        start_block(&b, NONE32);
        init_locals(&b);
        struct functype results = *f->type;
        results.n_params = 0;
        open_label(&b, LABEL_FUNC, &results);
        while (b.labels.n && !f->failed)
            step(&b);
        if (!f->failed) link_preds(f);
    }
    release(&b);
    return !f->failed;
}
