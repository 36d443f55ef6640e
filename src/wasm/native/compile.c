/* The passes, one after the other, and their dumps. */
#include "compile.h"
#include "alloc.h"

#include <stdio.h>
#include <string.h>

static void release(struct fn *f) {
    const struct donjon_platform *p = f->platform;
    void *all[] = {f->ins.v,   f->blocks.v,  f->edges.v,   f->args.v,  f->preds.v,   f->loops.v, f->calls.v,
                   f->tries.v, f->clauses.v, f->vectors.v, f->moves.v, f->inlined.v, f->marks.v};
    for (size_t k = 0; k < sizeof all / sizeof *all; k++)
        p->realloc(p->ctx, all[k], 0);
}

/* Gives back what a big array has too much: from here on it does not grow. */
static void trim(struct fn *f, void *vec, size_t item) {
    VEC(char) *v = vec;
    if ((v->cap - v->n) * item < 64 << 10) return;
    void *less = f->platform->realloc(f->platform->ctx, v->v, (v->n + 1) * item);
    if (!less) return;
    f->memory_left += (v->cap - v->n - 1) * item;
    v->v = less;
    v->cap = v->n + 1;
}

static void trim_all(struct fn *f) {
    trim(f, &f->ins, sizeof *f->ins.v);
    trim(f, &f->blocks, sizeof *f->blocks.v);
    trim(f, &f->edges, sizeof *f->edges.v);
    trim(f, &f->args, sizeof *f->args.v);
    trim(f, &f->preds, sizeof *f->preds.v);
    trim(f, &f->calls, sizeof *f->calls.v);
}

/* Budgets (ir.h). Compiled programs take some 100 bytes and 20 counted steps a byte of code. */
enum { MEMORY_LEAST = 64 << 20, MEMORY_A_BYTE = 512, MEMORY_MOST = 1 << 30, WORK_LEAST = 32 << 20, WORK_A_BYTE = 1024 };

static bool within(uint64_t memory, uint64_t work, struct fn *f, struct compile_options *opt, struct compiled *out) {
    struct allocation al = {0};
    f->memory_left = memory;
    f->work_left = work;
    bool ok = ir_build(f);
    if (ok) trim_all(f);
    for (uint32_t k = 0; ok && opt->called && k < f->calls.n; k++)
        if (f->calls.v[k].kind == CALL_DIRECT) opt->called(opt->called_ctx, f->calls.v[k].index);
    if (ok) ir_select(f);
    if (ok && opt->dump) ir_dump(f, opt);
    ok = ok && !f->failed && allocate(f, &al);
    if (ok && opt->dump) allocation_dump(f, &al, opt);
    ok = ok && target_emit(f, &al, opt, out);
    if (!ok) compiled_free(f->platform, out);
    opt->work += work - f->work_left + f->ins.n;
    allocation_free(f->platform, &al);
    release(f);
    return ok;
}

bool compile_function(const struct module *m, uint32_t func, struct compile_options *opt, struct compiled *out) {
    const uint64_t size = m->bodies[func - m->n_func_imports].size, work = WORK_LEAST + WORK_A_BYTE * size,
                   wanted = MEMORY_LEAST + MEMORY_A_BYTE * size, memory = wanted < MEMORY_MOST ? wanted : MEMORY_MOST;
    const struct fn fresh = {.platform = m->engine->platform,
                             .module = m,
                             .index = func,
                             .bounds_checks = opt->bounds_checks || opt->no_faults,
                             .no_faults = opt->no_faults,
                             .fuel = opt->fuel};
    struct fn f = fresh;
    memset(out, 0, sizeof *out);
    opt->work = 0;
    if (within(memory, work, &f, opt, out)) return true;
    if (!f.over_budget) return false;
    /* Its paths meet too often with too many locals: those in memory need no phis. */
    f = fresh;
    f.memory_locals = true;
    return within(memory, work, &f, opt, out);
}

void compiled_free(const struct donjon_platform *p, struct compiled *c) {
    p->realloc(p->ctx, c->code, 0);
    p->realloc(p->ctx, c->landings, 0);
    p->realloc(p->ctx, c->relocations, 0);
    memset(c, 0, sizeof *c);
}
