/* Readable forms of what the passes leave: `donjon compile --dump ir,ra`. */
#include "alloc.h"
#include "compile.h"

#include <stdarg.h>
#include <stdio.h>

static const char *const names[IR_LIMIT - OPCODE_LIMIT] = {
    [IR_NOP - OPCODE_LIMIT] = "nop",
    [IR_CONST - OPCODE_LIMIT] = "const",
    [IR_CONST128 - OPCODE_LIMIT] = "const128",
    [IR_PARAM - OPCODE_LIMIT] = "param",
    [IR_PHI - OPCODE_LIMIT] = "phi",
    [IR_EXN - OPCODE_LIMIT] = "exn",
    [IR_PAYLOAD - OPCODE_LIMIT] = "payload",
    [IR_SLOT_GET - OPCODE_LIMIT] = "slot.get",
    [IR_SLOT_SET - OPCODE_LIMIT] = "slot.set",
    [IR_SELECT - OPCODE_LIMIT] = "select",
    [IR_CALL - OPCODE_LIMIT] = "call",
    [IR_RESULT - OPCODE_LIMIT] = "result",
    [IR_NULL_CHECK - OPCODE_LIMIT] = "null_check",
    [IR_FIELD_GET - OPCODE_LIMIT] = "field.get",
    [IR_FIELD_SET - OPCODE_LIMIT] = "field.set",
    [IR_ELEM_GET - OPCODE_LIMIT] = "elem.get",
    [IR_ELEM_SET - OPCODE_LIMIT] = "elem.set",
    [IR_IS_EXACT - OPCODE_LIMIT] = "is_exact",
    [IR_SET_TYPE - OPCODE_LIMIT] = "set_type",
    [IR_CHECK - OPCODE_LIMIT] = "check",
    [IR_FUEL - OPCODE_LIMIT] = "fuel",
    [IR_JUMP - OPCODE_LIMIT] = "jump",
    [IR_BRANCH - OPCODE_LIMIT] = "branch",
    [IR_SWITCH - OPCODE_LIMIT] = "switch",
    [IR_RETURN - OPCODE_LIMIT] = "return",
    [IR_TAIL - OPCODE_LIMIT] = "tail",
    [IR_TRAP - OPCODE_LIMIT] = "trap",
};

struct text {
    char line[512];
    int n;
};

static void put(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(struct text *t, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int room = (int)sizeof t->line - t->n, n = vsnprintf(t->line + t->n, (size_t)room, format, args);
    va_end(args);
    t->n = n < room ? t->n + n : (int)sizeof t->line - 1;
}

static void operand_list(struct text *t, const struct fn *f, const struct call *c) {
    for (uint32_t k = 0; k < c->n_args; k++)
        put(t, " v%u", f->args.v[c->args + k]);
}

static void describe(struct text *t, const struct fn *f, ref v) {
    static const char *const types[] = {"", "i32", "i64", "f32", "f64", "v128"};
    const struct ins *i = &f->ins.v[v];
    put(t, "  v%u%s%s = %s", v, i->type ? ":" : "", types[i->type],
        i->op < OPCODE_LIMIT ? opcode_table[i->op].text : names[i->op - OPCODE_LIMIT]);
    if (i->a) put(t, " v%u", i->a);
    if (i->b) put(t, " v%u", i->b);
    if (i->c) put(t, " v%u", i->c);
    if (i->imm || i->op == IR_CONST || i->op == IR_PARAM) put(t, " #%llx", (unsigned long long)i->imm);
    if (i->op == IR_CALL || i->op == IR_RETURN || i->op == IR_TAIL) operand_list(t, f, &f->calls.v[i->imm]);
    if (i->flags & INS_FUSED) put(t, " (fused)");
}

static void describe_edges(struct text *t, const struct fn *f, const struct block *b) {
    for (uint32_t k = 0; k < b->n_edges; k++) {
        const struct edge *e = &f->edges.v[b->edges + k];
        put(t, "%s b%u(", k ? ", " : " ->", e->to);
        for (uint32_t p = 0; p < f->blocks.v[e->to].n_phis; p++)
            put(t, "%sv%u", p ? " " : "", f->args.v[e->args + p]);
        put(t, ")");
    }
}

static void flush(struct text *t, struct compile_options *opt, const char *stage) {
    opt->dump(opt->dump_ctx, stage, t->line);
    t->n = 0;
}

static void block_line(struct text *t, const struct fn *f, uint32_t b) {
    const struct block *blk = &f->blocks.v[b];
    put(t, "b%u:", b);
    if (blk->loop != NONE32) put(t, " loop%u%s", blk->loop, f->loops.v[blk->loop].header == b ? " header" : "");
    if (blk->landing) put(t, " landing");
}

void ir_dump(const struct fn *f, struct compile_options *opt) {
    struct text t = {.n = 0};
    for (uint32_t b = 0; b < f->blocks.n; b++) {
        block_line(&t, f, b);
        flush(&t, opt, "ir");
        for (ref v = f->blocks.v[b].first; v < f->blocks.v[b].end; v++) {
            if (!(f->ins.v[v].flags & INS_LIVE)) continue;
            describe(&t, f, v);
            if (v + 1 == f->blocks.v[b].end) describe_edges(&t, f, &f->blocks.v[b]);
            flush(&t, opt, "ir");
        }
    }
}

static void bytes_lines(struct text *t, struct compile_options *opt, const uint8_t *code, uint32_t from, uint32_t to) {
    while (from < to) {
        put(t, "    %4x:", from);
        for (uint32_t end = to - from > 16 ? from + 16 : to; from < end; from++)
            put(t, " %02x", code[from]);
        flush(t, opt, "asm");
    }
}

static void location(struct text *t, uint32_t l) {
    uint32_t x = l & ~(LOC_KIND | LOC_WIDE);
    switch (l & LOC_KIND) {
    case LOC_REG: put(t, x < REG_VECTOR ? "r%u" : "x%u", x < REG_VECTOR ? x : x - REG_VECTOR); return;
    case LOC_SLOT: put(t, "[v%u]", x); return;
    case LOC_CONST: put(t, "const v%u", x); return;
    case LOC_OUT: put(t, "out%u", x); return;
    default: put(t, "overflow%u", x); return;
    }
}

static void describe_moves(struct text *t, const struct fn *f, uint32_t first, uint32_t n) {
    for (uint32_t k = 0; k < n; k++) {
        put(t, k ? ", " : "    ");
        location(t, f->moves.v[first + k].to);
        put(t, " <- ");
        location(t, f->moves.v[first + k].from);
    }
}

void allocation_dump(const struct fn *f, const struct allocation *al, struct compile_options *opt) {
    struct text t = {.n = 0};
    for (uint32_t b = 0; b < f->blocks.n; b++) {
        const struct block *blk = &f->blocks.v[b];
        block_line(&t, f, b);
        flush(&t, opt, "ra");
        for (ref v = blk->first; v < blk->end; v++) {
            const struct assign *as = &al->at[v];
            if ((f->ins.v[v].flags & (INS_LIVE | INS_FUSED)) != INS_LIVE || f->ins.v[v].op == IR_CONST) continue;
            uint32_t first = al->moves_at[2 * v], n = al->moves_at[2 * v + 1] - first;
            if (n) {
                describe_moves(&t, f, first, n);
                flush(&t, opt, "ra");
            }
            describe(&t, f, v);
            put(&t, " :");
            if (as->def != REG_NONE) put(&t, " def=%u", as->def);
            for (unsigned k = 0; k < MAX_USES && as->use[k] != REG_NONE; k++)
                put(&t, " use%u=%u", k, as->use[k]);
            if (f->ins.v[v].flags & INS_SPILL) put(&t, " spill@%u", al->slot[v]);
            flush(&t, opt, "ra");
        }
        for (uint32_t k = 0; k < blk->n_edges; k++) {
            const struct edge *e = &f->edges.v[blk->edges + k];
            put(&t, "  -> b%u", e->to);
            describe_moves(&t, f, e->moves, e->n_moves);
            flush(&t, opt, "ra");
        }
    }
}

void code_dump(const struct fn *f, struct compile_options *opt, const struct position *at, uint32_t n,
               const struct compiled *c, uint32_t pool) {
    struct text t = {.n = 0};
    for (uint32_t k = 0; k < n; k++) {
        uint32_t from = at[k].code, to = k + 1 < n ? at[k + 1].code : pool;
        if (from >= to) continue;
        describe(&t, f, at[k].ins);
        flush(&t, opt, "asm");
        bytes_lines(&t, opt, c->code, from, to);
    }
    if (pool >= c->size) return;
    put(&t, "  constants:");
    flush(&t, opt, "asm");
    bytes_lines(&t, opt, c->code, pool, c->size);
}
