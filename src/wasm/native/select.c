/* Which instructions are needed, and who uses what: roots are effects, everything else lives by being used. */
#include "target.h"

#include <string.h>

static bool is_root(const struct ins *i) {
    switch (i->op) {
    case IR_NOP:
    case IR_CONST:
    case IR_CONST128:
    case IR_PARAM:
    case IR_PHI:
    case IR_SLOT_GET:
    case IR_RESULT:
    case IR_PAYLOAD: return false;
    case OP_GLOBAL_GET:
    case OP_MEMORY_SIZE:
    case OP_TABLE_SIZE: return false;
    default: return !ir_is_pure(i->op);
    }
}

struct marker {
    struct fn *f;
    VEC(ref) work;
    uint32_t *uses;
};

static void use(struct marker *m, ref v) {
    if (!v) return;
    m->uses[v]++;
    struct ins *i = &m->f->ins.v[v];
    if (i->flags & INS_LIVE) return;
    i->flags |= INS_LIVE;
    vec_push(m->f, m->work, v);
}

static void use_operands(struct marker *m, ref v) {
    struct fn *f = m->f;
    struct ins i = f->ins.v[v];
    use(m, i.a);
    use(m, i.b);
    use(m, i.c);
    if (i.op == IR_PHI) {
        const struct block *b = &f->blocks.v[i.aux];
        for (uint32_t k = 0; k < b->n_preds; k++)
            use(m, f->args.v[f->edges.v[f->preds.v[b->preds + k]].args + (uint32_t)i.imm]);
    } else if (i.op == IR_CALL || i.op == IR_TAIL || i.op == IR_RETURN) {
        const struct call *c = &f->calls.v[i.imm];
        for (uint32_t k = 0; k < c->n_args; k++)
            use(m, f->args.v[c->args + k]);
    }
}

void ir_select(struct fn *f) {
    struct marker m = {.f = f, .uses = f->platform->realloc(f->platform->ctx, NULL, f->ins.n * sizeof(uint32_t))};
    if (!m.uses) {
        f->failed = true;
        return;
    }
    memset(m.uses, 0, f->ins.n * sizeof(uint32_t));
    for (uint32_t b = 0; b < f->blocks.n; b++)
        for (uint32_t k = 0; k < f->blocks.v[b].n_phis; k++)
            f->ins.v[f->blocks.v[b].first + k].aux = b;
    for (ref v = 1; v < f->ins.n && !f->failed; v++)
        if (is_root(&f->ins.v[v])) {
            f->ins.v[v].flags |= INS_LIVE;
            vec_push(f, m.work, v);
            while (m.work.n)
                use_operands(&m, m.work.v[--m.work.n]);
        }
    if (!f->failed) target_fuse(f, m.uses);
    f->platform->realloc(f->platform->ctx, m.uses, 0);
    f->platform->realloc(f->platform->ctx, m.work.v, 0);
}
