/* The interpreter's life cycle, entry and exit, backtraces and dumps. */
#include "state.h"

#include "../text.h"

#include <string.h>

handler *const interp_handlers[IOP_COUNT] = {
#define X(name, flags) op_##name,
    INTERP_OPS(X)
#undef X
};
const uint8_t interp_flags[IOP_COUNT] = {
#define X(name, flags) flags,
    INTERP_OPS(X)
#undef X
};
const char *const interp_names[IOP_COUNT] = {
#define X(name, flags) #name,
    INTERP_OPS(X)
#undef X
};

static const word exit_code[] = {{.h = op_exit}};
static const word lazy_code[] = {{.h = op_lazy}};

void *interp_lazy_entry(void) {
    return (void *)(uintptr_t)lazy_code;
}

/* ---- Life cycle ---- */

static size_t whole_pages(size_t n) {
    return (n + 65535) & ~(size_t)65535;
}

static void *reserve(const struct donjon_platform *p, size_t size) {
    void *m = p->reserve(p->ctx, size);
    if (m && !p->protect(p->ctx, m, size, DONJON_PROT_READ | DONJON_PROT_WRITE)) {
        p->release(p->ctx, m, size);
        return NULL;
    }
    return m;
}

struct interp *interp_new(struct store *s) {
    const struct donjon_platform *p = s->engine->platform;
    const size_t stack_bytes = s->limits.stack_bytes ? s->limits.stack_bytes : 16u << 20;
    const size_t depth = s->limits.call_depth ? s->limits.call_depth : 100000;
    struct interp *i = p->realloc(p->ctx, NULL, sizeof *i);
    if (!i) return NULL;
    *i = (struct interp){.store = s, .ticks = INTERP_TICKS};
    /* Above the limit a frame of the largest size fits, and the arguments it passes on, and what op_enter rounds up. */
    i->stack_size = whole_pages(stack_bytes + (2 * INTERP_MAX_SLOTS + 64) * sizeof(slot));
    i->frames_size = whole_pages((depth + 2) * sizeof(struct frame));
    i->stack = reserve(p, i->stack_size);
    i->frames = reserve(p, i->frames_size);
    if (!i->stack || !i->frames) {
        interp_delete(i);
        return NULL;
    }
    i->sp = i->stack;
    i->stack_limit = i->stack + stack_bytes / sizeof(slot);
    i->top = i->frames; /* nobody's record */
    i->frame_limit = i->frames + depth;
    return i;
}

void interp_delete(struct interp *i) {
    if (!i) return;
    const struct donjon_platform *p = i->store->engine->platform;
    if (i->stack) p->release(p->ctx, i->stack, i->stack_size);
    if (i->frames) p->release(p->ctx, i->frames, i->frames_size);
    p->realloc(p->ctx, i, 0);
}

void interp_stack(const struct interp *i, const slot **begin, const slot **end) {
    *begin = i->stack;
    *end = i->sp;
}

void interp_free_code(struct store *s, struct instance *i) {
    const struct donjon_platform *p = s->engine->platform;
    const struct module *m = i->module;
    for (uint32_t n = m->n_func_imports; i->funcs && n < m->n_funcs; n++) {
        struct func *f = i->funcs[n];
        if (!f || f->wasm.code == lazy_code || !f->wasm.code) continue;
        struct func_code *code = code_of(f);
        p->realloc(p->ctx, code->catches, 0);
        p->realloc(p->ctx, code, 0);
        f->wasm.code = interp_lazy_entry();
    }
}

/* ---- Backtraces ---- */

static void add_frame(struct trap *t, struct func *f, const word *pc, const word *inner_pc) {
    t->n_frames_total++;
    if (t->n_frames == BACKTRACE_MAX) return;
    if (pc == inner_pc && t->n_frames) { /* recursion: the same place again */
        t->frames[t->n_frames] = t->frames[t->n_frames - 1];
        t->n_frames++;
        return;
    }
    const struct func_code *code = f->wasm.code == lazy_code ? NULL : code_of(f);
    const uint32_t body = f->wasm.index - f->wasm.instance->module->n_func_imports;
    uint32_t offset = f->wasm.instance->module->bodies[body].offset;
    if (code && pc >= code->code && pc < code->code + code->n_words)
        offset = translate_offset(f, (uint32_t)(pc - code->code));
    t->frames[t->n_frames++] = (struct frame_info){f->wasm.instance, f->wasm.index, offset};
}

static void fill_trap(struct interp *i, enum trap_kind kind) {
    struct trap *t = &i->store->trap;
    if (!i->inner_trap) t->n_frames = t->n_frames_total = 0;
    if (kind != TRAP_HOST && kind != TRAP_UNKNOWN_IMPORT) t->message[0] = 0;
    t->kind = kind;
    const word *pc = i->trap_pc, *inner_pc = NULL;
    for (struct frame *record = i->top;; record--) {
        if (record->func) add_frame(t, record->func, pc, inner_pc);
        if (record == i->base) break;
        inner_pc = pc;
        pc = record->pc - 1; /* inside the call */
    }
    i->inner_trap = true;
}

/* ---- Entry ---- */

static enum trap_kind run(struct interp *i, struct func *f, slot *fp) {
    const struct memory *m = f->wasm.instance->memory0;
    const word *pc = f->wasm.code;
    return pc->h(pc, fp, m ? m->base : NULL, m ? m->size : 0, i, 0, 0, 0);
}

enum trap_kind interp_call(struct interp *i, struct func *f, slot *args) {
    const struct functype *t = type_func(i->store->engine, f->type_id);
    struct frame *const top = i->top, *const base = i->base;
    slot *const sp = i->sp;
    if (top >= i->frame_limit || sp > i->stack_limit) {
        i->store->trap = (struct trap){.kind = TRAP_STACK};
        return TRAP_STACK;
    }
    memcpy(sp, args, t->param_slots * sizeof(slot));
    i->base = i->top = top + 1;
    *i->top = (struct frame){exit_code, sp, f};
    i->inner_trap = false;
    enum trap_kind kind = run(i, f, sp);
    if (kind == TRAP_NONE)
        memcpy(args, sp, t->result_slots * sizeof(slot));
    else if (kind != TRAP_EXCEPTION || i->store->nesting == 1)
        fill_trap(i, kind); /* an exception may be caught yet */
    i->top = top;
    i->base = base;
    i->sp = sp;
    return kind;
}

/* ---- Dumps ---- */

static uint32_t op_number(handler *h) {
    for (uint32_t n = 0; n < IOP_COUNT; n++)
        if (interp_handlers[n] == h) return n;
    return IOP_COUNT;
}

void interp_dump(struct func *f, void (*line)(void *ctx, const char *text), void *ctx) {
    if (f->wasm.code == lazy_code && translate(f) != TRAP_NONE) {
        line(ctx, f->store->trap.message);
        return;
    }
    const struct func_code *code = code_of(f);
    char text[200];
    for (uint32_t n = 0; n < code->n_words;) {
        struct text t = {.out = text, .size = sizeof text};
        text_format(&t, "%u %s", n, interp_names[op_number(code->code[n].h)]);
        for (n++; n < code->n_words && op_number(code->code[n].h) == IOP_COUNT; n++) {
            const word o = code->code[n];
            text_format(&t, " [%u %u %u %u]", o.s[0], o.s[1], o.s[2], o.s[3]);
        }
        line(ctx, text);
    }
}
