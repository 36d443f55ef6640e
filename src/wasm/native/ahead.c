#include "ahead.h"

#include <stdatomic.h>
#include <string.h>

enum { THREADS = 16, WAIT_NS = 1000000 };
enum { FREE, BUSY /* a thread compiles it */, DONE, REFUSED, TAKEN };

/* Functions in the order in which they were added, each once; any number of threads add and take. */
struct line {
    _Atomic bool *known;
    _Atomic uint32_t *funcs; /* plus one; 0: it is about to be there */
    _Atomic uint32_t begin, end;
};

struct ahead {
    const struct module *m;
    struct compile_options options;
    _Atomic bool stop;
    _Atomic uint32_t next;       /* in the module's order */
    struct line soon, reachable; /* called from what runs; from what was compiled here */
    struct line made;
    _Atomic uint8_t *states;
    struct compiled *code; /* in states DONE */
    void *memory;
    unsigned n_threads;
    void *threads[THREADS];
};

static const struct donjon_platform *platform_of(const struct ahead *a) {
    return a->m->engine->platform;
}

static void add(struct line *l, uint32_t func) {
    if (atomic_exchange(&l->known[func], true)) return;
    atomic_store(&l->funcs[atomic_fetch_add(&l->end, 1)], func + 1);
}

static bool take(struct line *l, uint32_t *func) {
    uint32_t at = atomic_load(&l->begin), f;
    do {
        if (at >= atomic_load(&l->end) || !(f = atomic_load(&l->funcs[at]))) return false;
    } while (!atomic_compare_exchange_weak(&l->begin, &at, at + 1));
    *func = f - 1;
    return true;
}

static bool own(const struct ahead *a, uint32_t func) {
    return func >= a->m->n_func_imports && func < a->m->n_funcs;
}

void ahead_hint(void *ctx, uint32_t func) {
    struct ahead *a = ctx;
    if (own(a, func)) add(&a->soon, func);
}

static void reached(void *ctx, uint32_t func) {
    struct ahead *a = ctx;
    if (own(a, func)) add(&a->reachable, func);
}

static bool move_state(struct ahead *a, uint32_t func, uint8_t from, uint8_t to) {
    return atomic_compare_exchange_strong(&a->states[func], &from, to);
}

/* ---- the threads ---- */

static void compile(struct ahead *a, uint32_t func) {
    struct compile_options o = a->options;
    struct compiled c;
    if (!move_state(a, func, FREE, BUSY)) return;
    o.called = reached;
    o.called_ctx = a;
    bool ok = compile_function(a->m, func, &o, &c);
    if (ok) a->code[func] = c; /* nobody looks at it in state BUSY */
    if (move_state(a, func, BUSY, ok ? DONE : REFUSED))
        add(&a->made, func);
    else
        compiled_free(platform_of(a), &c); /* its caller could not wait */
}

static void work(void *arg) {
    struct ahead *a = arg;
    uint32_t func;
    while (!atomic_load(&a->stop)) {
        if (take(&a->soon, &func) || take(&a->reachable, &func)) {
            compile(a, func);
            continue;
        }
        func = atomic_fetch_add(&a->next, 1);
        if (func >= a->m->n_funcs) return;
        compile(a, func);
    }
}

/* ---- the store's thread ---- */

enum ahead_result ahead_take(struct ahead *a, uint32_t func, struct compiled *c) {
    const struct donjon_platform *p = platform_of(a);
    for (uint64_t begin = 0;;) {
        uint8_t state = atomic_load(&a->states[func]);
        uint64_t now = state == BUSY && p->now ? p->now(p->ctx) : 0;
        if (begin == 0) begin = now;
        if (state == BUSY && now - begin < WAIT_NS && now) continue;
        if (!move_state(a, func, state, TAKEN)) continue;
        if (state == DONE) *c = a->code[func];
        return state == DONE ? AHEAD_MADE : state == REFUSED ? AHEAD_REFUSED : AHEAD_YOURS;
    }
}

bool ahead_next(struct ahead *a, uint32_t *func, struct compiled *c) {
    while (take(&a->made, func)) {
        if (!move_state(a, *func, DONE, TAKEN)) continue;
        *c = a->code[*func];
        return true;
    }
    return false;
}

/* ---- beginning and end ---- */

static struct line line_at(uint8_t **at, uint32_t n) {
    struct line l = {.funcs = (_Atomic uint32_t *)(void *)*at};
    *at += n * sizeof *l.funcs;
    return l;
}

static bool prepare(struct ahead *a) {
    const struct donjon_platform *p = platform_of(a);
    const uint32_t n = a->m->n_funcs;
    size_t size = n * (sizeof *a->code + 3 * (sizeof(uint32_t) + sizeof(bool)) + sizeof *a->states);
    uint8_t *at = a->memory = p->realloc(p->ctx, NULL, size);
    if (!at) return false;
    memset(at, 0, size);
    a->code = (struct compiled *)(void *)at;
    at += n * sizeof *a->code;
    struct line *lines[] = {&a->soon, &a->reachable, &a->made};
    for (int i = 0; i < 3; i++)
        *lines[i] = line_at(&at, n);
    for (int i = 0; i < 3; i++, at += n)
        lines[i]->known = (_Atomic bool *)(void *)at;
    a->states = (_Atomic uint8_t *)(void *)at;
    return true;
}

struct ahead *ahead_start(const struct module *m, const struct compile_options *o, unsigned threads) {
    const struct donjon_platform *p = m->engine->platform;
    struct ahead *a = p->spawn ? p->realloc(p->ctx, NULL, sizeof *a) : NULL;
    if (!a) return NULL;
    *a = (struct ahead){.m = m, .options = *o, .next = m->n_func_imports};
    bool ok = prepare(a);
    for (; ok && a->n_threads < threads && a->n_threads < THREADS; a->n_threads++)
        if (!(a->threads[a->n_threads] = p->spawn(p->ctx, work, a))) break;
    if (a->n_threads) return a;
    ahead_stop(a);
    return NULL;
}

void ahead_stop(struct ahead *a) {
    if (!a) return;
    const struct donjon_platform *p = platform_of(a);
    atomic_store(&a->stop, true);
    for (unsigned i = 0; i < a->n_threads; i++)
        p->join(p->ctx, a->threads[i]);
    for (uint32_t f = 0; a->memory && f < a->m->n_funcs; f++)
        if (atomic_load(&a->states[f]) == DONE) compiled_free(p, &a->code[f]);
    p->realloc(p->ctx, a->memory, 0);
    p->realloc(p->ctx, a, 0);
}
