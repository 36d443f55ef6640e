/* Register allocation over the whole function, in one forward walk.
 *
 * At each point the walk knows which value each register holds. When registers run out, the value whose next use is
 * farthest goes to its stack slot. A value in SSA is made once, so it is stored once, right after it is made, and its
 * slot is good from then on: losing a register costs nothing, getting the value back is one load. Every register is
 * lost over a call (the convention has no callee-saved ones).
 *
 * A block begins with what its predecessors' ends agree on: a single predecessor's registers, or at a join those of the
 * last one. A loop's header is decided with the loop in view: its phis and the values the loop uses before its first
 * unconditional call, nearest use first. Edges whose ends differ get moves (a parallel move made sequential).
 *
 * Liveness needs no data-flow equations: control is reducible and instructions stand in order, so a value lives from
 * its definition to its last use, and a use inside a loop that does not contain the definition lengthens that to the
 * loop's end. */
#include "alloc.h"

#include <string.h>

struct use_node {
    uint32_t at, next;
};

struct state { /* registers at a block's boundary: pairs in the pool */
    uint32_t at, n;
};
struct pair {
    ref value;
    uint32_t reg;
};

struct alloc {
    struct fn *f;
    struct allocation *out;
    bool ok;
    uint32_t n;
    uint32_t *head;     /* by value: next use node; 0 none */
    uint32_t *end;      /* by value: last position where it lives */
    uint32_t *last_use; /* by value: latest use passed */
    uint8_t *reg;       /* by value: its register now, or REG_NONE */
    uint8_t *hint;      /* by value: register it would like */
    ref *phi_of;        /* by value: a phi it is an argument of */
    VEC(struct use_node) nodes;
    VEC(struct pair) pairs;
    VEC(uint32_t) barriers; /* positions of calls that run whenever their loop does */
    struct state *entry, *exit;
    ref held[REG_COUNT];
    regset busy;               /* registers that may not be given out while one instruction is dealt with */
    ref results_of;            /* the call whose results are being dealt with, */
    uint32_t results_seen;     /* how many of them have got their places, */
    struct convention results; /* and where the next one lies */
    uint32_t loop;             /* innermost loop of the current block */
    uint32_t block_end;        /* and where that ends */
    uint32_t pos;
};

static void *grab(struct alloc *a, size_t n, size_t size) {
    void *p = a->f->platform->realloc(a->f->platform->ctx, NULL, n * size + 1);
    if (!p)
        a->ok = false;
    else
        memset(p, 0, n * size);
    return p;
}

static struct ins *ins_of(struct alloc *a, ref v) {
    return &a->f->ins.v[v];
}
static bool is_const(struct alloc *a, ref v) {
    return ins_of(a, v)->op == IR_CONST || ins_of(a, v)->op == IR_CONST128;
}
static bool emitted(const struct ins *i) {
    return (i->flags & (INS_LIVE | INS_FUSED)) == INS_LIVE;
}

/* --- liveness ------------------------------------------------------------------------------------------------------
 */

static void add_use(struct alloc *a, ref v, uint32_t at, uint32_t loop) {
    vec_push(a->f, a->nodes, ((struct use_node){at, a->head[v]}));
    a->head[v] = a->nodes.n - 1;
    uint32_t end = at;
    for (uint32_t l = loop; l != NONE32 && v < a->f->loops.v[l].start && fn_work(a->f, 1); l = a->f->loops.v[l].parent)
        end = a->f->loops.v[l].end;
    if (end > a->end[v]) a->end[v] = end;
}

static void edge_uses(struct alloc *a, uint32_t e, uint32_t at, uint32_t loop) {
    struct fn *f = a->f;
    const struct block *to = &f->blocks.v[f->edges.v[e].to];
    for (uint32_t k = 0; k < to->n_phis; k++) {
        ref phi = to->first + k, arg = f->args.v[f->edges.v[e].args + k];
        if (!(f->ins.v[phi].flags & INS_LIVE)) continue;
        add_use(a, arg, at, loop);
        a->phi_of[arg] = phi;
    }
}

static void call_uses(struct alloc *a, const struct call *c, uint32_t at, uint32_t loop) {
    struct convention conv = {0};
    for (uint32_t k = 0; k < c->n_args; k++) {
        ref v = a->f->args.v[c->args + k];
        add_use(a, v, at, loop);
        if (c->kind == CALL_HELPER) continue;
        uint32_t slot;
        bool callee = k + 1 == c->n_args && (c->kind == CALL_INDIRECT || c->kind == CALL_REF);
        a->hint[v] = callee ? TARGET_CALLEE : target_next_place(&conv, ins_of(a, v)->type, &slot);
    }
}

/* Backwards over the code, so that each value's list of uses comes out in order. */
static void find_uses(struct alloc *a) {
    struct fn *f = a->f;
    vec_push(f, a->nodes, ((struct use_node){0, 0}));
    for (uint32_t b = f->blocks.n; b-- && !f->failed;) {
        const struct block *blk = &f->blocks.v[b];
        for (uint32_t k = 0; k < blk->n_edges; k++)
            edge_uses(a, blk->edges + k, blk->end - 1, blk->loop);
        for (uint32_t i = blk->end; i-- > blk->first;) {
            const struct ins *x = &f->ins.v[i];
            if (!emitted(x) || x->op == IR_PHI || is_const(a, i)) continue;
            if (x->op == IR_CALL || x->op == IR_TAIL || x->op == IR_RETURN) {
                call_uses(a, &f->calls.v[x->imm], i, blk->loop);
                continue;
            }
            struct operands o = {0};
            target_operands(f, i, &o);
            for (uint32_t k = 0; k < o.n; k++) {
                add_use(a, o.use[k].value, i, blk->loop);
                if (o.use[k].how == USE_FIXED) a->hint[o.use[k].value] = o.use[k].reg;
            }
        }
    }
    if (f->failed) a->ok = false;
}

static bool has_call(const struct fn *f, const struct block *b) {
    for (uint32_t i = b->first; i < b->end; i++)
        if (f->ins.v[i].op == IR_CALL) return true;
    return false;
}

/* Blocks that every turn of their loop passes. */
static void find_always(struct fn *f, uint8_t *always) {
    for (uint32_t l = 0; l < f->loops.n; l++) {
        uint32_t header = f->loops.v[l].header, common = NONE32;
        const struct block *h = &f->blocks.v[header];
        for (uint32_t k = 0; k < h->n_preds; k++) {
            uint32_t from = f->edges.v[f->preds.v[h->preds + k]].from;
            if (from < header) continue;
            common = common == NONE32 ? from : ir_common_dominator(f, common, from);
        }
        for (uint32_t x = common; x != NONE32 && x >= header && fn_work(f, 1); x = f->blocks.v[x].idom)
            always[x] = 1;
    }
}

/* Where registers are lost, or might as well be: calls that run whenever their loop does, and switches of loops that
 * call somewhere. What such a loop needs behind the switch is needed in some of many cases, and calls in others want
 * it in its slot anyway: kept in a register it would be stored and loaded in every turn. */
enum { SWITCH_MANY = 8 };
static void find_barriers(struct alloc *a) {
    struct fn *f = a->f;
    uint8_t *always = grab(a, f->blocks.n, 1), *calls = grab(a, f->loops.n, 1);
    if (a->ok) {
        find_always(f, always);
        for (uint32_t b = 0; b < f->blocks.n; b++)
            if (f->blocks.v[b].loop != NONE32 && !calls[f->blocks.v[b].loop] && has_call(f, &f->blocks.v[b]))
                for (uint32_t l = f->blocks.v[b].loop; l != NONE32 && !calls[l]; l = f->loops.v[l].parent)
                    calls[l] = 1;
    }
    for (uint32_t b = 0; b < f->blocks.n && a->ok; b++) {
        uint32_t loop = f->blocks.v[b].loop;
        if (!always[b] && loop != NONE32) continue;
        for (uint32_t i = f->blocks.v[b].first; i < f->blocks.v[b].end && a->ok; i++) {
            const struct ins *x = &f->ins.v[i];
            bool many = x->op == IR_SWITCH && x->aux >= SWITCH_MANY && loop != NONE32 && calls[loop];
            if (x->op == IR_CALL || many) a->ok = vec_push(f, a->barriers, i);
        }
    }
    f->platform->realloc(f->platform->ctx, always, 0);
    f->platform->realloc(f->platform->ctx, calls, 0);
}

static uint32_t next_barrier(const struct alloc *a, uint32_t pos) {
    uint32_t lo = 0, hi = a->barriers.n;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        if (a->barriers.v[mid] < pos)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < a->barriers.n ? a->barriers.v[lo] : NONE32;
}

/* Position of the value's next use at or after `pos`. A use at a loop's top counts as one at the loop's end. */
static uint32_t next_use(struct alloc *a, ref v, uint32_t pos, uint32_t loop) {
    while (a->head[v] && a->nodes.v[a->head[v]].at < pos) {
        a->last_use[v] = a->nodes.v[a->head[v]].at;
        a->head[v] = a->nodes.v[a->head[v]].next;
    }
    uint32_t next = a->head[v] ? a->nodes.v[a->head[v]].at : NONE32;
    for (uint32_t l = loop; l != NONE32 && fn_work(a->f, 1); l = a->f->loops.v[l].parent) {
        const struct loop *x = &a->f->loops.v[l];
        if (next < x->end) return next;
        if (v < x->start && a->last_use[v] >= x->start) return x->end;
    }
    return next;
}

/* --- registers -----------------------------------------------------------------------------------------------------
 */

static void spill(struct alloc *a, ref v) {
    if (!is_const(a, v)) ins_of(a, v)->flags |= INS_SPILL;
}

static void drop(struct alloc *a, uint8_t r) {
    a->reg[a->held[r]] = REG_NONE;
    a->held[r] = 0;
}

static void hold(struct alloc *a, uint8_t r, ref v) {
    a->held[r] = v;
    a->reg[v] = r;
}

static void emit_move(struct alloc *a, uint32_t to, uint32_t from, ref value) {
    if (!vec_push(a->f, a->f->moves, ((struct move){to, from, value}))) a->ok = false;
}

static uint32_t memory_loc(struct alloc *a, ref v) {
    if (is_const(a, v)) return LOC_CONST | v;
    spill(a, v);
    return LOC_SLOT | v;
}
static uint32_t loc(struct alloc *a, ref v) {
    return a->reg[v] != REG_NONE ? LOC_REG | a->reg[v] : memory_loc(a, v);
}

/* Is there a call in this block before the value is used again? Then it costs nothing to lose it now. */
static bool lost_before_use(struct alloc *a, ref v) {
    uint32_t barrier = next_barrier(a, a->pos + 1);
    return barrier < a->block_end && ins_of(a, barrier)->op == IR_CALL && !is_const(a, v) &&
           next_use(a, v, a->pos + 1, a->loop) > barrier;
}

/* A free register of the class, or the one whose value is needed last (that value goes to its slot). */
static uint8_t take(struct alloc *a, regset class, uint8_t hint, regset avoid) {
    regset allowed = class & ~a->busy & ~avoid;
    if (hint != REG_NONE && (allowed >> hint & 1)) {
        if (a->held[hint] && lost_before_use(a, a->held[hint])) {
            memory_loc(a, a->held[hint]);
            drop(a, hint);
        }
        if (!a->held[hint]) return hint;
    }
    uint8_t best = REG_NONE;
    uint32_t farthest = 0;
    for (regset s = allowed; s; s &= s - 1) {
        uint8_t r = (uint8_t)__builtin_ctz(s);
        ref v = a->held[r];
        if (!v) return r;
        uint32_t next = next_use(a, v, a->pos, a->loop);
        if (is_const(a, v))
            next = next > a->pos + 8 ? NONE32 : next; /* made again for nothing */
        else if (next != NONE32 && (ins_of(a, v)->flags & INS_SPILL))
            next += 4; /* stored already */
        if (best == REG_NONE || next > farthest) best = r, farthest = next;
    }
    if (best == REG_NONE) {
        a->ok = false; /* more operands than registers: does not happen with the targets' tables */
        return (uint8_t)__builtin_ctz(class);
    }
    memory_loc(a, a->held[best]);
    drop(a, best);
    return best;
}

static uint8_t wish(struct alloc *a, ref v) {
    ref phi = a->phi_of[v];
    if (phi && a->hint[phi] != REG_NONE && (target_class(ins_of(a, v)->type) >> a->hint[phi] & 1)) return a->hint[phi];
    if (a->hint[v] != REG_NONE && (target_class(ins_of(a, v)->type) >> a->hint[v] & 1)) return a->hint[v];
    return REG_NONE;
}

static bool dies(struct alloc *a, ref v, uint32_t pos) {
    return a->end[v] <= pos;
}

/* --- one instruction -----------------------------------------------------------------------------------------------
 */

static void bring(struct alloc *a, ref v, regset avoid) {
    if (a->reg[v] != REG_NONE && !(avoid >> a->reg[v] & 1)) return;
    uint8_t old = a->reg[v];
    if (old != REG_NONE) a->busy |= 1u << old;
    uint8_t r = take(a, target_class(ins_of(a, v)->type), wish(a, v), avoid);
    emit_move(a, LOC_REG | r, old != REG_NONE ? LOC_REG | (uint32_t)old : memory_loc(a, v), v);
    if (old != REG_NONE) {
        drop(a, old);
        a->busy &= ~(1u << old);
    }
    hold(a, r, v);
}

/* Frees register r for the instruction's own use, keeping what it holds if that lives on. */
static void vacate(struct alloc *a, uint8_t r, regset avoid) {
    ref v = a->held[r];
    if (!v) return;
    if (dies(a, v, a->pos)) return; /* read by this instruction for the last time */
    regset class = target_class(ins_of(a, v)->type);
    for (regset s = class & ~a->busy & ~avoid; s; s &= s - 1) {
        uint8_t free = (uint8_t)__builtin_ctz(s);
        if (a->held[free]) continue;
        emit_move(a, LOC_REG | free, LOC_REG | (uint32_t)r, v);
        drop(a, r);
        hold(a, free, v);
        return;
    }
    memory_loc(a, v);
    drop(a, r);
}

static bool worth_loading(struct alloc *a, ref v) {
    uint32_t next = next_use(a, v, a->pos + 1, a->loop);
    return next != NONE32 && next - a->pos < 64 && next_barrier(a, a->pos) > next;
}

static void allocate_operands(struct alloc *a, struct operands *o, struct assign *as) {
    if (o->def == DEF_FIXED) o->clobbers |= 1u << o->def_reg;
    regset fixed = o->clobbers;
    for (uint32_t k = 0; k < o->n; k++)
        if (o->use[k].how == USE_FIXED) fixed |= 1u << o->use[k].reg;
    if (o->commutes && o->n > 1 && o->def == DEF_TIED && o->use[0].how == USE_REG) {
        ref x = o->use[0].value, y = o->use[1].value;
        bool x_dies = dies(a, x, a->pos) && a->reg[x] != REG_NONE, y_dies = dies(a, y, a->pos) && a->reg[y] != REG_NONE;
        if (!x_dies && y_dies && x != y) {
            o->use[0].value = y;
            o->use[1].value = x;
            as->swapped = true;
        }
    }
    /* Registers already in place first, so that bringing one operand does not push out another. */
    for (uint32_t k = 0; k < o->n; k++) {
        ref v = o->use[k].value;
        if (o->use[k].how != USE_FIXED && a->reg[v] != REG_NONE && !(fixed >> a->reg[v] & 1))
            a->busy |= 1u << a->reg[v];
    }
    for (uint32_t k = 0; k < o->n; k++) {
        ref v = o->use[k].value;
        if (o->use[k].how == USE_FIXED) continue;
        if (o->use[k].how == USE_ANY && a->reg[v] == REG_NONE && !is_const(a, v) && !worth_loading(a, v)) {
            spill(a, v);
            as->use[k] = USE_IN_SLOT;
            continue;
        }
        bring(a, v, fixed);
        as->use[k] = a->reg[v];
        a->busy |= 1u << a->reg[v];
    }
    for (uint32_t k = 0; k < o->n; k++) {
        if (o->use[k].how != USE_FIXED) continue;
        uint8_t r = o->use[k].reg;
        ref v = o->use[k].value;
        if (a->held[r] && a->held[r] != v) {
            ref w = a->held[r];
            vacate(a, r, fixed);
            if (a->held[r] == w) drop(a, r); /* it was dying here, as another fixed operand: read before */
        }
        if (a->held[r] == v) vacate(a, r, fixed); /* the instruction may destroy it */
        if (a->reg[v] != r) emit_move(a, LOC_REG | r, loc(a, v), v);
        as->use[k] = r;
        a->busy |= 1u << r;
    }
    for (regset s = o->clobbers & ~a->busy; s; s &= s - 1)
        vacate(a, (uint8_t)__builtin_ctz(s), fixed);
}

static void allocate_result(struct alloc *a, ref i, const struct operands *o, struct assign *as) {
    const struct ins *x = ins_of(a, i);
    regset class = target_class(x->type), uses = 0;
    for (uint32_t k = 0; k < o->n; k++)
        if (as->use[k] != USE_IN_SLOT) uses |= 1u << as->use[k];
    if (o->temp) {
        as->temp = take(a, target_general, REG_NONE, uses | o->clobbers);
        a->busy |= 1u << as->temp;
    }
    /* Operands used for the last time give their registers back; a terminator's may still be arguments of its edges. */
    for (uint32_t k = 0; k < o->n && !ir_is_terminator(x->op); k++) {
        ref v = o->use[k].value;
        if (dies(a, v, a->pos) && a->reg[v] != REG_NONE) drop(a, a->reg[v]);
    }
    a->busy &= as->temp == REG_NONE ? 0 : 1u << as->temp;
    if (o->def == DEF_NONE) return;
    switch (o->def) {
    case DEF_FIXED: as->def = o->def_reg; break; /* vacated with the clobbers */
    case DEF_TIED: {
        regset others = 0;
        const uint32_t read_late = x->op == IR_SELECT ? 2 : o->n; /* its condition comes first */
        for (uint32_t k = 1; k < read_late; k++)
            if (as->use[k] != USE_IN_SLOT) others |= 1u << as->use[k];
        uint8_t first = as->use[0];
        bool same = first != USE_IN_SLOT && !a->held[first] && !(others >> first & 1) && (class >> first & 1);
        as->def = same ? first : take(a, class, wish(a, i), others);
        break;
    }
    case DEF_EARLY: as->def = take(a, class, wish(a, i), uses); break;
    default: {
        uint8_t hint = wish(a, i);
        if (hint == REG_NONE && o->n && as->use[0] != USE_IN_SLOT && !a->held[as->use[0]]) hint = as->use[0];
        as->def = take(a, class, hint, 0);
    }
    }
    if (as->def < REG_COUNT && a->held[as->def]) drop(a, as->def);
    if (a->end[i] > i) hold(a, as->def, i);
    if (a->phi_of[i] && a->hint[a->phi_of[i]] == REG_NONE) a->hint[a->phi_of[i]] = as->def;
}

/* --- calls ---------------------------------------------------------------------------------------------------------
 */

static void call_moves(struct alloc *a, const struct call *c) {
    struct fn *f = a->f;
    uint32_t out = 0;
    struct convention conv = {0};
    for (uint32_t k = 0; k < c->n_args; k++) {
        ref v = f->args.v[c->args + k];
        uint8_t type = ins_of(a, v)->type;
        uint32_t to, slot = 0;
        if (c->kind == CALL_HELPER) {
            to = LOC_OUT | out | (type == KIND_V128 ? LOC_WIDE : 0);
            out += type == KIND_V128 ? 2 : 1;
        } else if (k + 1 == c->n_args && (c->kind == CALL_INDIRECT || c->kind == CALL_REF)) {
            to = LOC_REG | TARGET_CALLEE;
        } else {
            uint8_t r = target_next_place(&conv, type, &slot);
            to = r == REG_NONE ? LOC_OVERFLOW | slot | (type == KIND_V128 ? LOC_WIDE : 0) : LOC_REG | (uint32_t)r;
        }
        if (to != loc(a, v)) emit_move(a, to, loc(a, v), v);
    }
    if (c->kind == CALL_HELPER) {
        if (out < 2) out = 2;
        if (out * 8 > a->out->out_bytes) a->out->out_bytes = out * 8;
    }
}

/* --- block boundaries ----------------------------------------------------------------------------------------------
 */

static struct state save_state(struct alloc *a) {
    struct state s = {a->pairs.n, 0};
    for (uint32_t r = 0; r < REG_COUNT; r++)
        if (a->held[r]) {
            if (!vec_push(a->f, a->pairs, ((struct pair){a->held[r], r}))) a->ok = false;
            s.n++;
        }
    return s;
}

static void clear_state(struct alloc *a) {
    for (uint32_t r = 0; r < REG_COUNT; r++)
        if (a->held[r]) drop(a, (uint8_t)r);
}

static void resolve_edge(struct alloc *a, uint32_t e) {
    struct fn *f = a->f;
    struct edge *edge = &f->edges.v[e];
    const struct block *to = &f->blocks.v[edge->to];
    struct state from = a->exit[edge->from], entry = a->entry[edge->to];
    uint32_t first = f->moves.n;
    /* reg[] is free for use here: make it tell where values are at the edge's start. */
    uint8_t saved[REG_COUNT];
    ref saved_value[REG_COUNT];
    for (uint32_t k = 0; k < REG_COUNT; k++)
        saved_value[k] = a->held[k];
    for (uint32_t k = 0; k < REG_COUNT; k++)
        saved[k] = (uint8_t)k;
    for (uint32_t k = 0; k < REG_COUNT; k++)
        if (saved_value[k]) a->reg[saved_value[k]] = REG_NONE;
    for (uint32_t k = 0; k < from.n; k++)
        a->reg[a->pairs.v[from.at + k].value] = (uint8_t)a->pairs.v[from.at + k].reg;
    for (uint32_t k = 0; k < entry.n; k++) {
        struct pair p = a->pairs.v[entry.at + k];
        if (ins_of(a, p.value)->op == IR_PHI && p.value >= to->first && p.value < to->first + to->n_phis) continue;
        if (a->reg[p.value] != p.reg) emit_move(a, LOC_REG | p.reg, loc(a, p.value), p.value);
    }
    for (uint32_t k = 0; k < to->n_phis; k++) {
        ref phi = to->first + k, arg = f->args.v[edge->args + k];
        if (!(f->ins.v[phi].flags & INS_LIVE)) continue;
        uint8_t r = a->out->at[phi].def;
        uint32_t dest = r == REG_NONE ? LOC_SLOT | phi : LOC_REG | (uint32_t)r, source = loc(a, arg);
        /* From slot to slot: mostly they will be the same one; what is left is found when slots are known. */
        if (r == REG_NONE && (source & LOC_KIND) == LOC_SLOT) continue;
        if (dest != source) emit_move(a, dest, source, arg);
    }
    for (uint32_t k = 0; k < from.n; k++)
        a->reg[a->pairs.v[from.at + k].value] = REG_NONE;
    for (uint32_t k = 0; k < REG_COUNT; k++)
        if (saved_value[k]) a->reg[saved_value[k]] = saved[k];
    edge = &f->edges.v[e];
    edge->moves = first;
    edge->n_moves = f->moves.n - first;
}

/* May the value be wanted in this block or later? It has to come from a block that dominates this one. */
static bool lives_into(struct alloc *a, ref v, const struct block *b) {
    return v < b->first && a->end[v] >= b->first && (b->idom == NONE32 || v < a->f->blocks.v[b->idom].end);
}

enum { NEAR = 8 }; /* instructions: a value used so soon is worth a register */

/* A phi in a register, or in its slot for good. */
static void place_phi(struct alloc *a, ref phi, uint8_t r) {
    struct assign *as = &a->out->at[phi];
    as->def = r;
    if (r == REG_NONE) {
        spill(a, phi);
        return;
    }
    hold(a, r, phi);
    if (a->hint[phi] == REG_NONE) a->hint[phi] = r;
}

static uint8_t free_register(struct alloc *a, regset class, uint8_t hint) {
    if (hint != REG_NONE && (class >> hint & 1) && !a->held[hint]) return hint;
    for (regset s = class; s; s &= s - 1)
        if (!a->held[__builtin_ctz(s)]) return (uint8_t)__builtin_ctz(s);
    return REG_NONE;
}

/* Is a register no use to a join's phi? It would be lost before it is used, or the phi is on its way to another that
 * stays in its slot. */
static bool phi_in_slot(struct alloc *a, ref phi) {
    uint32_t next = next_use(a, phi, a->pos, a->loop), barrier = next_barrier(a, a->pos);
    if (next > barrier) return true;
    ref to = a->phi_of[phi];
    return to && to < phi && a->out->at[to].def == REG_NONE && next - a->pos > NEAR;
}

static void enter_join(struct alloc *a, const struct block *b) {
    struct fn *f = a->f;
    struct state base = a->exit[f->edges.v[f->preds.v[b->preds + b->n_preds - 1]].from];
    for (uint32_t k = 0; k < base.n; k++) {
        struct pair p = a->pairs.v[base.at + k];
        if (lives_into(a, p.value, b) && !is_const(a, p.value)) hold(a, (uint8_t)p.reg, p.value);
    }
    for (uint32_t k = 0; k < b->n_phis; k++) {
        ref phi = b->first + k;
        if (!(f->ins.v[phi].flags & INS_LIVE)) continue;
        if (phi_in_slot(a, phi)) {
            place_phi(a, phi, REG_NONE);
            continue;
        }
        regset class = target_class(f->ins.v[phi].type);
        uint8_t hint = wish(a, phi), r;
        if (hint == REG_NONE) hint = a->hint[phi];
        r = free_register(a, class, hint);
        if (r == REG_NONE) {
            /* Full: a value that is used later than the phi makes room. */
            uint32_t mine = next_use(a, phi, a->pos, b->loop), farthest = mine;
            for (regset s = class; s; s &= s - 1) {
                uint8_t x = (uint8_t)__builtin_ctz(s);
                if (a->held[x] >= b->first) continue; /* another phi */
                uint32_t next = next_use(a, a->held[x], a->pos, b->loop);
                if (next > farthest) r = x, farthest = next;
            }
            if (r != REG_NONE) {
                memory_loc(a, a->held[r]);
                drop(a, r);
            }
        }
        place_phi(a, phi, r);
    }
}

struct candidate {
    ref value;
    uint32_t next;
    uint8_t reg;
};

static void sort_candidates(struct fn *f, struct candidate *c, uint32_t n) {
    for (uint32_t gap = n / 2; gap; gap /= 2)
        for (uint32_t i = gap; i < n && !f->failed; i++) {
            struct candidate t = c[i];
            uint32_t j = i;
            for (; j >= gap && (c[j - gap].next > t.next || (c[j - gap].next == t.next && c[j - gap].value > t.value));
                 j -= gap)
                c[j] = c[j - gap];
            fn_work(f, (i - j) / gap);
            c[j] = t;
        }
}

/* A loop's header: what the loop needs soonest gets the registers. */
static void enter_loop(struct alloc *a, const struct block *b, struct state before) {
    struct fn *f = a->f;
    const struct loop *l = &f->loops.v[b->loop];
    uint32_t barrier = next_barrier(a, l->start), n = 0, unused = 0;
    VEC(struct candidate) list = {0};
    if (!vec_reserve(f, &list, sizeof *list.v, before.n * 2 + b->n_phis + 1)) {
        a->ok = false;
        return;
    }
    for (uint32_t k = 0; k < b->n_phis; k++) {
        ref phi = b->first + k;
        if (!(f->ins.v[phi].flags & INS_LIVE)) continue;
        uint32_t next = next_use(a, phi, l->start, NONE32);
        if (next > l->end) next = l->end;
        list.v[n++] = (struct candidate){phi, next, wish(a, phi)};
    }
    for (uint32_t k = 0; k < before.n; k++) {
        struct pair p = a->pairs.v[before.at + k];
        if (!lives_into(a, p.value, b)) continue;
        uint32_t next = next_use(a, p.value, l->start, NONE32);
        if (is_const(a, p.value) && next >= l->end) continue;
        if (next < l->end)
            list.v[n++] = (struct candidate){p.value, next, (uint8_t)p.reg};
        else
            list.v[list.cap - ++unused] = (struct candidate){p.value, next, (uint8_t)p.reg};
    }
    sort_candidates(f, list.v, n);
    uint32_t given[2] = {0, 0},
             room[2] = {(uint32_t)__builtin_popcount(target_general), (uint32_t)__builtin_popcount(target_vector)};
    for (uint32_t round = 0; round < 2; round++) /* those that can keep their register first */
        for (uint32_t k = 0; k < n; k++) {
            struct candidate *c = &list.v[k];
            if (!c->value) continue;
            bool phi = c->value >= b->first;
            regset class = target_class(f->ins.v[c->value].type);
            uint32_t which = class == target_vector;
            if (c->next > barrier || given[which] >= room[which]) {
                if (phi)
                    place_phi(a, c->value, REG_NONE);
                else if (!is_const(a, c->value))
                    spill(a, c->value);
                c->value = 0;
                continue;
            }
            bool kept = c->reg != REG_NONE && (class >> c->reg & 1) && !a->held[c->reg];
            if (!kept && round == 0) continue;
            uint8_t r = free_register(a, class, c->reg);
            if (phi)
                place_phi(a, c->value, r);
            else
                hold(a, r, c->value);
            given[which]++;
            c->value = 0;
        }
    /* Values that only pass through stay if that leaves the loop some room. */
    for (uint32_t k = 0; k < unused; k++) {
        const struct candidate *c = &list.v[list.cap - 1 - k];
        uint32_t which = target_class(f->ins.v[c->value].type) == target_vector;
        if (barrier > l->end && given[which] + 4 <= room[which] && !a->held[c->reg]) {
            hold(a, c->reg, c->value);
            given[which]++;
        } else {
            spill(a, c->value);
        }
    }
    f->platform->realloc(f->platform->ctx, list.v, 0);
}

/* Parameters arrive in registers (or in the overflow area, from where IR_PARAM loads). */
static void enter_function(struct alloc *a) {
    struct fn *f = a->f;
    struct convention conv = {0};
    for (ref i = 1; i < f->ins.n && f->ins.v[i].op != IR_JUMP; i++) {
        if (f->ins.v[i].op != IR_PARAM) continue;
        uint32_t slot;
        uint8_t r = target_next_place(&conv, f->ins.v[i].type, &slot);
        a->out->at[i].def = r;
        if (r != REG_NONE && (f->ins.v[i].flags & INS_LIVE)) hold(a, r, i);
        if (f->ins.v[i].imm + 1 == f->type->n_params) break;
    }
}

static void enter_block(struct alloc *a, uint32_t index) {
    struct fn *f = a->f;
    const struct block *b = &f->blocks.v[index];
    clear_state(a);
    a->loop = b->loop;
    a->block_end = b->end;
    a->pos = b->first;
    a->busy = 0;
    bool header = b->loop != NONE32 && f->loops.v[b->loop].header == index;
    if (index == 0)
        enter_function(a);
    else if (header)
        enter_loop(a, b, a->exit[f->edges.v[f->preds.v[b->preds]].from]);
    else if (b->n_preds)
        enter_join(a, b);
    a->entry[index] = save_state(a);
    for (uint32_t k = 0; k < b->n_preds && a->ok; k++)
        if (f->edges.v[f->preds.v[b->preds + k]].from < index) resolve_edge(a, f->preds.v[b->preds + k]);
}

static void leave_block(struct alloc *a, uint32_t index) {
    struct fn *f = a->f;
    const struct block *b = &f->blocks.v[index];
    a->exit[index] = save_state(a);
    for (uint32_t k = 0; k < b->n_edges && a->ok; k++)
        if (f->edges.v[b->edges + k].to <= index) resolve_edge(a, b->edges + k);
}

/* --- the walk ------------------------------------------------------------------------------------------------------
 */

static void lose_all(struct alloc *a) {
    for (uint32_t r = 0; r < REG_COUNT; r++) {
        if (!a->held[r]) continue;
        if (!dies(a, a->held[r], a->pos)) memory_loc(a, a->held[r]);
        drop(a, (uint8_t)r);
    }
}

static void allocate_call(struct alloc *a, const struct ins *x) {
    call_moves(a, &a->f->calls.v[x->imm]);
    if (x->op == IR_CALL)
        lose_all(a);
    else
        clear_state(a); /* what comes later in the code does not come after a return */
}

/* A call's result number imm: in its register, or to be loaded from where the callee left it. */
static void allocate_call_result(struct alloc *a, ref i, struct assign *as) {
    struct fn *f = a->f;
    const struct call *c = &f->calls.v[f->ins.v[f->ins.v[i].a].imm];
    uint8_t r = REG_NONE;
    if (c->kind != CALL_HELPER) {
        uint32_t slot;
        ref call = f->ins.v[i].a;
        if (a->results_of != call) a->results_of = call, a->results_seen = 0, a->results = (struct convention){0};
        while (a->results_seen <= f->ins.v[i].imm) /* results stand in order behind their call */
            r = target_next_place(&a->results, f->ins.v[f->args.v[c->results + a->results_seen++]].type, &slot);
        /* Registers of results still to come must not be given out to this one: they are fixed, and none is held. */
    }
    as->use[0] = r;
    as->def = r != REG_NONE
                  ? r
                  : take(a, target_class(f->ins.v[i].type), wish(a, i), c->kind == CALL_HELPER ? 0 : target_results);
    if (a->end[i] > i) hold(a, as->def, i);
}

static void allocate_instruction(struct alloc *a, ref i) {
    struct fn *f = a->f;
    struct ins *x = &f->ins.v[i];
    struct assign *as = &a->out->at[i];
    a->pos = i;
    a->busy = 0;
    switch (x->op) {
    case IR_PHI: return; /* placed at the block's start */
    case IR_PARAM:
        if (as->def == REG_NONE) {
            as->use[0] = REG_NONE;
            as->def = take(a, target_class(x->type), wish(a, i), 0);
            hold(a, as->def, i);
        } else {
            as->use[0] = as->def;
        }
        return;
    case IR_CALL:
    case IR_TAIL:
    case IR_RETURN: allocate_call(a, x); return;
    case IR_RESULT: allocate_call_result(a, i, as); return;
    default: break;
    }
    struct operands o = {0};
    target_operands(f, i, &o);
    allocate_operands(a, &o, as);
    allocate_result(a, i, &o, as);
}

static void walk(struct alloc *a) {
    struct fn *f = a->f;
    for (uint32_t b = 0; b < f->blocks.n && a->ok; b++) {
        enter_block(a, b);
        /* Edge moves came first in fn->moves: they are found by their edges, instruction moves by position. */
        for (ref i = f->blocks.v[b].first; i < f->blocks.v[b].end && a->ok; i++) {
            a->out->moves_at[i * 2] = f->moves.n;
            if (emitted(&f->ins.v[i]) && !is_const(a, i)) allocate_instruction(a, i);
            a->out->moves_at[i * 2 + 1] = f->moves.n;
        }
        leave_block(a, b);
    }
    if (f->failed) a->ok = false;
}

/* --- slots ---------------------------------------------------------------------------------------------------------
 */

/* A phi that stays in its slot and the arguments that are stored anyway want to share one slot: then the edge has
 * nothing to copy. They may as long as no two of them are wanted at the same time. Classes of such values are lists in
 * order of definition; a class leases one slot from its first definition (for phis: the first edge that writes it) to
 * its last use.
 *
 * Lifetimes are intervals, and what is written at an edge into a block is out of every interval's way that does not
 * reach into that block: so two values are in each other's way if one is made before the other ends, and members of a
 * class end in the order in which they begin. */
struct coalescer {
    uint64_t work; /* steps that may still be made for this: it only saves moves */
    struct alloc *a;
    ref *class;       /* by value: towards its class's first member */
    ref *next, *prev; /* by value: its neighbours, in order of definition */
    ref *last;        /* by first member: the last one */
};

static bool spilled(struct alloc *a, ref v) {
    return ins_of(a, v)->flags & INS_SPILL;
}

static ref class_of(struct coalescer *c, ref v) {
    for (; c->class[v] != v; v = c->class[v])
        c->class[v] = c->class[c->class[v]];
    return v;
}

enum { MERGE_STEPS = 48 }; /* that one merge may cost */

/* The member of class x behind which class y begins, mostly its last; 0 where they are in each other's way. */
static ref place_in_class(struct coalescer *c, ref x, ref y) {
    const uint32_t *end = c->a->end;
    uint32_t left = c->work < MERGE_STEPS ? (uint32_t)c->work : MERGE_STEPS, most = left;
    ref before = c->last[x];
    for (; before > y && left; left--)
        before = c->prev[before];
    bool fits = left && end[before] <= y;
    for (ref i = c->next[before], j = y; i && j && fits; fits = fits && --left) {
        ref first = i < j ? i : j, second = i < j ? j : i;
        fits = end[first] <= second;
        i = i < j ? c->next[i] : i;
        j = first == j ? c->next[j] : j;
    }
    c->work -= most - left;
    return fits ? before : 0;
}

static void merge(struct coalescer *c, ref v, ref w) {
    struct alloc *a = c->a;
    ref x = class_of(c, v), y = class_of(c, w);
    if (x == y || (ins_of(a, v)->type == KIND_V128) != (ins_of(a, w)->type == KIND_V128)) return;
    if (x > y) {
        ref t = x;
        x = y;
        y = t;
    }
    const ref before = place_in_class(c, x, y);
    if (!before) return;
    if (c->last[y] > c->last[x]) c->last[x] = c->last[y];
    c->class[y] = x;
    ref i = c->next[before], j = y, tail = before;
    while (i && j) {
        ref *from = i < j ? &i : &j, member = *from;
        *from = c->next[member];
        c->next[tail] = member;
        c->prev[member] = tail;
        tail = member;
    }
    c->next[tail] = i ? i : j;
    c->prev[i ? i : j] = tail;
}

static void coalesce(struct coalescer *c) {
    struct alloc *a = c->a;
    struct fn *f = a->f;
    for (ref v = 1; v < a->n; v++)
        c->class[v] = c->last[v] = v;
    for (uint32_t b = 0; b < f->blocks.n; b++) {
        const struct block *blk = &f->blocks.v[b];
        for (uint32_t k = 0; k < blk->n_phis; k++) {
            ref phi = blk->first + k, tried = 0;
            if (!spilled(a, phi)) continue;
            for (uint32_t p = 0; p < blk->n_preds; p++) {
                ref arg = f->args.v[f->edges.v[f->preds.v[blk->preds + p]].args + k];
                if (arg != tried && spilled(a, arg)) merge(c, phi, arg);
                tried = arg;
            }
        }
    }
}

/* Slots in use, as a heap by the end of their lease; and free ones. */
struct lease {
    uint32_t end, offset;
};
struct slots {
    VEC(struct lease) heap;
    VEC(uint32_t) vacant;
};

static void end_leases(struct alloc *a, struct slots *s, uint32_t at) {
    while (s->heap.n && s->heap.v[0].end < at && a->ok) {
        struct lease gone = s->heap.v[0], last = s->heap.v[--s->heap.n];
        uint32_t k = 0;
        for (uint32_t c; (c = 2 * k + 1) < s->heap.n; k = c) {
            if (c + 1 < s->heap.n && s->heap.v[c + 1].end < s->heap.v[c].end) c++;
            if (s->heap.v[c].end >= last.end) break;
            s->heap.v[k] = s->heap.v[c];
        }
        if (s->heap.n) s->heap.v[k] = last;
        a->ok = vec_push(a->f, s->vacant, gone.offset);
    }
}

static void lease_slot(struct coalescer *c, struct slots *slots, ref v, uint32_t at) {
    struct alloc *a = c->a;
    struct fn *f = a->f;
    struct allocation *out = a->out;
    bool big = ins_of(a, v)->type == KIND_V128;
    struct slots *s = &slots[big];
    uint32_t offset, end = at;
    end_leases(a, s, at);
    if (!a->ok || !vec_reserve(f, &s->heap, sizeof *s->heap.v, 1)) {
        a->ok = false;
        return;
    }
    if (s->vacant.n) {
        offset = s->vacant.v[--s->vacant.n];
    } else {
        if (big) out->slot_bytes = (out->slot_bytes + 15) & ~15u;
        offset = out->slot_bytes;
        out->slot_bytes += big ? 16 : 8;
    }
    for (ref m = class_of(c, v); m; m = c->next[m]) {
        out->slot[m] = offset;
        if (a->end[m] > end) end = a->end[m];
        if (m > end) end = m;
        /* Back edges write a header's phi up to the end of the loop. */
        const struct block *b = ins_of(a, m)->op == IR_PHI ? &f->blocks.v[ins_of(a, m)->aux] : NULL;
        if (b && b->loop != NONE32 && f->loops.v[b->loop].header == ins_of(a, m)->aux && f->loops.v[b->loop].end > end)
            end = f->loops.v[b->loop].end;
    }
    uint32_t k = s->heap.n++;
    for (; k && s->heap.v[(k - 1) / 2].end > end; k = (k - 1) / 2)
        s->heap.v[k] = s->heap.v[(k - 1) / 2];
    s->heap.v[k] = (struct lease){end, offset};
}

static void assign_slots(struct alloc *a) {
    struct fn *f = a->f;
    struct slots slots[2] = {0}; /* 8-byte and 16-byte ones */
    struct coalescer c = {.work = (1u << 20) + 64 * (uint64_t)a->n, .a = a};
    c.class = grab(a, a->n, sizeof(ref));
    c.next = grab(a, a->n, sizeof(ref));
    c.prev = grab(a, a->n, sizeof(ref));
    c.last = grab(a, a->n, sizeof(ref));
    memset(a->out->slot, 0xff, a->n * sizeof *a->out->slot);
    const uint64_t work = c.work;
    if (a->ok) coalesce(&c);
    if (!fn_work(f, work - c.work)) a->ok = false;
    for (uint32_t b = 0; b < f->blocks.n && a->ok; b++) {
        const struct block *blk = &f->blocks.v[b];
        for (ref v = blk->first; v < blk->end && a->ok; v++)
            if (spilled(a, v) && a->out->slot[v] == NONE32) lease_slot(&c, slots, v, v);
        /* Phis that stay in their slots are written here, before their block. */
        for (uint32_t k = 0; k < blk->n_edges && a->ok; k++) {
            const struct block *to = &f->blocks.v[f->edges.v[blk->edges + k].to];
            for (uint32_t p = 0; p < to->n_phis && to->first >= blk->end && a->ok; p++)
                if (spilled(a, to->first + p) && a->out->slot[to->first + p] == NONE32)
                    lease_slot(&c, slots, to->first + p, blk->end - 1);
        }
    }
    void *all[] = {c.class,           c.next,          c.prev,           c.last, slots[0].heap.v,
                   slots[0].vacant.v, slots[1].heap.v, slots[1].vacant.v};
    for (size_t k = 0; k < sizeof all / sizeof *all; k++)
        f->platform->realloc(f->platform->ctx, all[k], 0);
}

/* --- parallel moves ------------------------------------------------------------------------------------------------
 */

/* An edge's and a call's moves all read before any writes. Now that slots are known they are put into an order that
 * keeps that meaning, and those that would copy a slot onto itself go. */
struct sequencer {
    struct alloc *a;
    VEC(struct move) in, out;
    uint32_t reg_readers[REG_COUNT], reg_writer[REG_COUNT];
    uint32_t *slot_readers, *slot_writer; /* by slot offset / 8 */
};

/* How many of the moves in hand read a location, and which one writes it (+ 1). Registers and slots alone can be both.
 */
static uint32_t *readers(struct sequencer *q, uint32_t l) {
    if ((l & LOC_KIND) == LOC_REG) return &q->reg_readers[l & ~LOC_KIND];
    return (l & LOC_KIND) == LOC_SLOT ? &q->slot_readers[q->a->out->slot[l & ~LOC_KIND] / 8] : NULL;
}
static uint32_t *writer(struct sequencer *q, uint32_t l) {
    if ((l & LOC_KIND) == LOC_REG) return &q->reg_writer[l & ~LOC_KIND];
    return (l & LOC_KIND) == LOC_SLOT ? &q->slot_writer[q->a->out->slot[l & ~LOC_KIND] / 8] : NULL;
}

static void append_move(struct sequencer *q, struct move m) {
    if (!vec_push(q->a->f, q->out, m)) q->a->ok = false;
}

/* Appends pending move k, whose destination nobody reads any more, and whatever becomes possible by that. */
static void flush(struct sequencer *q, uint32_t k) {
    for (;;) {
        struct move m = q->in.v[k];
        append_move(q, m);
        q->in.v[k].to = 0;
        if (writer(q, m.to)) *writer(q, m.to) = 0;
        uint32_t *r = readers(q, m.from);
        if (!r || --*r) return;
        uint32_t next = *writer(q, m.from);
        if (!next) return;
        k = next - 1;
    }
}

/* Writing the destination would store what its slot has already. */
static bool stored_already(struct alloc *a, const struct move *m) {
    return (m->to & LOC_KIND) == LOC_SLOT && (ins_of(a, m->value)->flags & INS_SPILL) &&
           a->out->slot[m->value] == a->out->slot[m->to & ~LOC_KIND];
}

static void take_in(struct sequencer *q, struct move m) {
    if (stored_already(q->a, &m)) return;
    q->in.v[q->in.n++] = m;
    if (readers(q, m.from)) ++*readers(q, m.from);
    if (writer(q, m.to)) *writer(q, m.to) = q->in.n;
}

/* From slot to slot (resolve_edge): what no other move of the edge writes. */
static void take_in_slots(struct sequencer *q, const struct edge *e) {
    const struct fn *f = q->a->f;
    const struct block *to = &f->blocks.v[e->to];
    for (uint32_t k = 0; k < to->n_phis; k++) {
        const ref phi = to->first + k, arg = f->args.v[e->args + k];
        if (!(f->ins.v[phi].flags & INS_LIVE) || q->a->out->at[phi].def != REG_NONE || is_const(q->a, arg)) continue;
        if (!*writer(q, LOC_SLOT | phi) && (f->ins.v[arg].flags & INS_SPILL))
            take_in(q, (struct move){LOC_SLOT | phi, LOC_SLOT | arg, arg});
    }
}

/* Puts moves that are made at once in order; those of an edge, if it is one. */
static void sequence(struct sequencer *q, uint32_t first, uint32_t n, const struct edge *e) {
    struct alloc *a = q->a;
    q->in.n = 0;
    if (!vec_reserve(a->f, &q->in, sizeof(struct move), n + (e ? a->f->blocks.v[e->to].n_phis : 0))) a->ok = false;
    for (uint32_t k = 0; k < n && a->ok; k++)
        take_in(q, a->f->moves.v[first + k]);
    if (e && a->ok) take_in_slots(q, e);
    for (uint32_t k = 0; k < q->in.n && a->ok; k++)
        if (q->in.v[k].to && !(readers(q, q->in.v[k].to) && *readers(q, q->in.v[k].to))) flush(q, k);
    /* What is left are cycles, in which each location is read once: keep one source aside. */
    for (uint32_t k = 0; k < q->in.n && a->ok; k++) {
        struct move m = q->in.v[k];
        if (!m.to) continue;
        bool vector = type_is_vector(ins_of(a, m.value)->type);
        uint32_t aside = LOC_REG | (vector ? SCRATCH_CYCLE : SCRATCH_GENERAL), next = *writer(q, m.from);
        append_move(q, (struct move){aside, m.from, m.value});
        q->in.v[k].from = aside;
        ++*readers(q, aside);
        *readers(q, m.from) = 0;
        flush(q, next - 1);
    }
}

static bool moves_are_parallel(const struct ins *i) {
    return i->op == IR_CALL || i->op == IR_TAIL || i->op == IR_RETURN;
}

static void sequence_moves(struct alloc *a) {
    struct fn *f = a->f;
    struct sequencer q = {.a = a};
    q.slot_readers = grab(a, a->out->slot_bytes / 8 + 2, 4);
    q.slot_writer = grab(a, a->out->slot_bytes / 8 + 2, 4);
    for (uint32_t b = 0; b < f->blocks.n && a->ok; b++) {
        const struct block *blk = &f->blocks.v[b];
        for (ref i = blk->first; i < blk->end && a->ok; i++) {
            uint32_t first = a->out->moves_at[2 * i], n = a->out->moves_at[2 * i + 1] - first;
            a->out->moves_at[2 * i] = q.out.n;
            if (moves_are_parallel(&f->ins.v[i]))
                sequence(&q, first, n, NULL);
            else
                for (uint32_t k = 0; k < n; k++)
                    append_move(&q, f->moves.v[first + k]);
            a->out->moves_at[2 * i + 1] = q.out.n;
        }
        for (uint32_t k = 0; k < blk->n_edges && a->ok; k++) {
            struct edge *e = &f->edges.v[blk->edges + k];
            uint32_t first = e->moves;
            e->moves = q.out.n;
            sequence(&q, first, e->n_moves, e);
            e->n_moves = q.out.n - e->moves;
        }
    }
    void *all[] = {q.in.v, q.slot_readers, q.slot_writer, f->moves.v};
    for (size_t k = 0; k < sizeof all / sizeof *all; k++)
        f->platform->realloc(f->platform->ctx, all[k], 0);
    f->moves.v = q.out.v;
    f->moves.n = q.out.n;
    f->moves.cap = q.out.cap;
}

bool allocate(struct fn *f, struct allocation *out) {
    uint32_t n = f->ins.n;
    struct alloc a = {.f = f, .out = out, .ok = true, .n = n};
    memset(out, 0, sizeof *out);
    a.head = grab(&a, n, 4);
    a.end = grab(&a, n, 4);
    a.last_use = grab(&a, n, 4);
    a.phi_of = grab(&a, n, sizeof(ref));
    a.reg = grab(&a, n, 1);
    a.hint = grab(&a, n, 1);
    a.entry = grab(&a, f->blocks.n, sizeof *a.entry);
    a.exit = grab(&a, f->blocks.n, sizeof *a.exit);
    out->at = grab(&a, n, sizeof *out->at);
    out->moves_at = grab(&a, n * 2, 4);
    out->slot = grab(&a, n, 4);
    if (a.ok) {
        memset(a.reg, REG_NONE, n);
        memset(a.hint, REG_NONE, n);
        memset(out->at, REG_NONE, n * sizeof *out->at);
        for (uint32_t k = 0; k < n; k++)
            out->at[k].swapped = false;
        find_uses(&a);
        if (a.ok) find_barriers(&a);
        if (a.ok) walk(&a);
        if (a.ok) assign_slots(&a);
        if (a.ok) sequence_moves(&a);
    }
    const struct donjon_platform *p = f->platform;
    void *all[] = {a.head,  a.end,  a.last_use, a.phi_of,  a.reg,       a.hint,
                   a.entry, a.exit, a.nodes.v,  a.pairs.v, a.barriers.v};
    for (size_t k = 0; k < sizeof all / sizeof *all; k++)
        p->realloc(p->ctx, all[k], 0);
    if (!a.ok) f->failed = true;
    return a.ok;
}

void allocation_free(const struct donjon_platform *p, struct allocation *a) {
    p->realloc(p->ctx, a->at, 0);
    p->realloc(p->ctx, a->moves_at, 0);
    p->realloc(p->ctx, a->slot, 0);
}
