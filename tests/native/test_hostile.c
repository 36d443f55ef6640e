/* Modules that attack native code. Each of these once got somewhere. */
#include <donjon/wasm.h>
#include "builder.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

/* ---- modules: one function type per function, everything exported as "0", "1", ... ---- */

enum { I32 = 0x7f, I64 = 0x7e, F64 = 0x7c, V128 = 0x7b };
struct mod {
    uint32_t n_funcs, n_imports;
    struct buf types, imports, funcs, exports, code, extra[14]; /* extra: whole payloads of sections 4 (tables) .. 13 */
};

static void put_types(struct buf *b, const char *types) {
    put_leb(b, strlen(types));
    for (; *types; types++)
        put_byte(b, *types == 'i' ? I32 : *types == 'l' ? I64 : *types == 'd' ? F64 : V128);
}

static void add_type(struct mod *m, const char *params, const char *results) {
    put_byte(&m->types, 0x60);
    put_types(&m->types, params);
    put_types(&m->types, results);
}

/* An imported function env.f of the next type. Before all others. */
static void add_import(struct mod *m, const char *params, const char *results) {
    add_type(m, params, results);
    put_name(&m->imports, "env"), put_name(&m->imports, "f"), put_byte(&m->imports, 0);
    put_leb(&m->imports, m->n_imports++);
}

/* `body`: with its local declarations and its end; is freed. */
static void add_func(struct mod *m, const char *params, const char *results, struct buf *body) {
    char name[12];
    uint32_t index = m->n_imports + m->n_funcs;
    add_type(m, params, results);
    put_leb(&m->funcs, index);
    snprintf(name, sizeof name, "%u", m->n_funcs++);
    put_name(&m->exports, name), put_byte(&m->exports, 0), put_leb(&m->exports, index);
    put_sized(&m->code, body);
}
#define FUNC(m, params, results, ...)                                                                                  \
    do {                                                                                                               \
        struct buf body_ = {0};                                                                                        \
        PUT(&body_, __VA_ARGS__);                                                                                      \
        add_func(m, params, results, &body_);                                                                          \
    } while (0)

static void section(struct buf *out, uint8_t id, uint32_t count, struct buf *items) {
    struct buf all = {0};
    put_leb(&all, count);
    put_bytes(&all, items->data, items->size);
    free(items->data);
    *items = (struct buf){0};
    put_section(out, id, &all);
}

static struct buf finish(struct mod *m) {
    struct buf out = {0};
    put_header(&out);
    section(&out, 1, m->n_imports + m->n_funcs, &m->types);
    if (m->n_imports) section(&out, 2, m->n_imports, &m->imports);
    section(&out, 3, m->n_funcs, &m->funcs);
    for (uint8_t id = 4; id < 14; id++) {
        static const uint8_t order[10] = {4, 5, 13, 6, 7, 8, 9, 12, 10, 11};
        uint8_t s = order[id - 4];
        if (s == 7)
            section(&out, 7, m->n_funcs, &m->exports);
        else if (s == 10)
            section(&out, 10, m->n_funcs, &m->code);
        else if (m->extra[s].size)
            put_section(&out, s, &m->extra[s]);
    }
    return out;
}
#define SECTION(m, id, ...) PUT(&(m)->extra[id], __VA_ARGS__)

struct rig {
    wasm_engine_t *engine;
    wasm_store_t *store;
    wasm_module_t *module;
    wasm_instance_t *instance;
};

static struct rig rig_start(struct mod *m, const struct donjon_limits *limits, donjon_callback_t callback,
                            const char *signature) {
    struct rig r;
    struct buf bytes = finish(m);
    struct donjon_module_error err = {0};
    r.engine = wasm_engine_new();
    r.store = donjon_store_new(r.engine, limits);
    assert_true(donjon_platform_posix_rearm()); /* cmocka has its own signal handlers */
    r.module = donjon_module_new(r.store, bytes.data, bytes.size, &err);
    if (!r.module) print_error("%s at %zu\n", err.message, err.offset);
    assert_non_null(r.module);
    free(bytes.data);
    donjon_linker_t *l = donjon_linker_new(r.store);
    if (callback) donjon_linker_define_func(l, "env", "f", signature, callback, NULL);
    wasm_trap_t *trap = NULL;
    r.instance = donjon_linker_instantiate(l, r.module, &trap);
    assert_non_null(r.instance);
    donjon_linker_delete(l);
    return r;
}

static void rig_stop(struct rig *r) {
    wasm_instance_delete(r->instance);
    wasm_module_delete(r->module);
    wasm_store_delete(r->store);
    wasm_engine_delete(r->engine);
}

/* The kind of trap a call ends with; 0: none. */
static int call(struct rig *r, const char *name, donjon_slot_t *slots) {
    wasm_func_t *f = wasm_extern_as_func(donjon_instance_export(r->instance, name));
    assert_non_null(f);
    wasm_trap_t *trap = donjon_func_call(f, slots);
    wasm_func_delete(f);
    if (!trap) return 0;
    int kind = (int)donjon_trap_kind(trap);
    wasm_trap_delete(trap);
    return kind;
}

/* ---- addresses ---- */

/* An i64 that is known to fit 32 bits meets one that does not: wrapping what comes out must not be left out, or the
 * upper half of an address is the attacker's. */
static void wrapped_joins_have_no_upper_half(void **state) {
    (void)state;
    struct mod m = {0};
    SECTION(&m, 5, 1, 0, 1);
    /* select (extend a) b c; wrap; load */
    FUNC(&m, "ili", "i", 0, 0x20, 0, 0xad, 0x20, 1, 0x20, 2, 0x1b, 0xa7, 0x28, 2, 0, 0x0b);
    /* block (result i64) b; br_if 0 c; drop; extend a; end; wrap; load */
    FUNC(&m, "ili", "i", 0, 0x02, I64, 0x20, 1, 0x20, 2, 0x0d, 0, 0x1a, 0x20, 0, 0xad, 0x0b, 0xa7, 0x28, 2, 0, 0x0b);
    FUNC(&m, "ili", "i", 0, 0x02, I64, 0x20, 0, 0xad, 0x20, 2, 0x45, 0x0d, 0, 0x1a, 0x20, 1, 0x0b, 0xa7, 0x28, 2, 0,
         0x0b);
    /* if c (result i64) b else extend a */
    FUNC(&m, "ili", "i", 0, 0x20, 2, 0x04, I64, 0x20, 1, 0x05, 0x20, 0, 0xad, 0x0b, 0xa7, 0x28, 2, 0, 0x0b);
    FUNC(&m, "ili", "i", 0, 0x20, 2, 0x45, 0x04, I64, 0x20, 0, 0xad, 0x05, 0x20, 1, 0x0b, 0xa7, 0x28, 2, 0, 0x0b);
    /* extend a; loop (param i64): once more with b; wrap; load. Type 5 is the loop's. */
    FUNC(&m, "l", "l", 0, 0x20, 0, 0x0b);
    FUNC(&m, "ili", "i", 1, 1, I32, 0x20, 0, 0xad, 0x03, 5, 0x20, 3, 0x45, 0x04, 5, 0x1a, 0x41, 1, 0x21, 3, 0x20, 1,
         0x0c, 1, 0x0b, 0x0b, 0xa7, 0x28, 2, 0, 0x0b);
    struct rig r = rig_start(&m, &(struct donjon_limits){0}, NULL, NULL);
    static const char *const names[] = {"0", "1", "2", "3", "4", "6"};
    for (unsigned k = 0; k < 6; k++)
        for (int32_t c = 0; c < 2; c++) {
            donjon_slot_t slots[3] = {{.i32 = 4}, {.u64 = 0x123456789000000c}, {.i32 = c}};
            assert_int_equal(call(&r, names[k], slots), k == 5 || c == (k != 0) ? DONJON_TRAP_MEMORY : 0);
            /* The same with a low half that is in bounds: no trap, whatever the upper half. */
            donjon_slot_t near[3] = {{.i32 = 4}, {.u64 = 0x123456780000000c}, {.i32 = c}};
            assert_int_equal(call(&r, names[k], near), 0);
            assert_int_equal(near[0].i32, 0);
        }
    rig_stop(&r);
}

/* ---- the stack ---- */

static wasm_trap_t *nothing(void *env, donjon_caller_t *caller, donjon_slot_t *args) {
    (void)env, (void)caller, (void)args;
    return NULL;
}

/* Recursion that does something at the bottom which needs C's help: at every depth near the end of the stack it is
 * that, or the stack is exhausted; nothing else. Actions are functions of no parameters, called at the bottom. */
static void deep_ends_are_traps(void **state) {
    (void)state;
    static const uint8_t actions[][12] = {
        {0, 0x00, 0x0b},                            /* unreachable */
        {0, 0x10, 0, 0x0b},                         /* the host */
        {0, 0x41, 0, 0x40, 0, 0x1a, 0x0b},          /* memory.grow 0 */
        {0, 0x08, 0, 0x0b},                         /* throw */
        {0, 0x06, 0x40, 0x08, 0, 0x19, 0x0b, 0x0b}, /* throw, caught here */
        {0, 0x41, 0x7f, 0x28, 2, 0, 0x1a, 0x0b},    /* a load out of bounds */
        {0, 0x41, 0, 0x11, 0, 0, 0x0b},             /* the host through a table */
        {0, 0x41, 1, 0x11, 0, 0, 0x0b},             /* a null element */
    };
    enum { ACTIONS = sizeof actions / sizeof *actions };
    static const int ends[ACTIONS] = {DONJON_TRAP_UNREACHABLE, 0, 0, DONJON_TRAP_EXCEPTION, 0, DONJON_TRAP_MEMORY, 0,
                                      DONJON_TRAP_NULL_ELEM};
    for (unsigned action = 0; action < ACTIONS; action++)
        for (unsigned fresh = 0; fresh < 2; fresh++) { /* everything compiled before; or at the bottom */
            struct mod m = {0};
            add_import(&m, "", "");
            SECTION(&m, 4, 1, 0x70, 0, 2);
            SECTION(&m, 5, 1, 0, 1);
            SECTION(&m, 13, 1, 0, 0);
            SECTION(&m, 9, 1, 0, 0x41, 0, 0x0b, 1, 0);
            struct buf body = {0};
            size_t n = sizeof actions[action];
            while (actions[action][n - 1] != 0x0b)
                n--;
            put_bytes(&body, actions[action], n);
            add_func(&m, "", "", &body);
            /* 1: down(n): n ? down(n - 1) : action() */
            FUNC(&m, "i", "", 0, 0x20, 0, 0x04, 0x40, 0x20, 0, 0x41, 1, 0x6b, 0x10, 2, 0x05, 0x10, 1, 0x0b, 0x0b);
            struct donjon_limits limits = {.stack_bytes = 16 << 10};
            struct rig r = rig_start(&m, &limits, nothing, ":");
            donjon_slot_t slots[1] = {{.i32 = 0}};
            if (!fresh) assert_int_equal(call(&r, "0", slots), ends[action]);
            int32_t good = 0, bad = 1 << 20;
            while (bad - good > 1) {
                slots[0].i32 = good + (bad - good) / 2;
                if (call(&r, "1", slots) == ends[action])
                    good += (bad - good) / 2;
                else
                    bad = good + (bad - good) / 2;
            }
            for (int32_t depth = good < 200 ? 0 : good - 200; depth < good + 20000;
                 depth += 1 + (depth > good + 300) * 7) {
                slots[0].i32 = depth;
                int kind = call(&r, "1", slots);
                if (kind != ends[action]) assert_int_equal(kind, DONJON_TRAP_STACK);
            }
            rig_stop(&r);
        }
}

/* Frames of every size, down to where they do not fit. */
static void big_frames_are_bounded(void **state) {
    (void)state;
    for (uint32_t locals = 16; locals < 49000; locals += locals / 2) {
        struct mod m = {0};
        add_import(&m, "", "");
        struct buf body = {0};
        /* v128 locals, each set to something else, alive over a call. */
        put_leb(&body, 1), put_leb(&body, locals), put_byte(&body, V128);
        for (uint32_t k = 0; k < locals; k++) {
            PUT(&body, 0x20, 0, 0xfd, 0x11, 0x21); /* i32x4.splat (local 0) */
            put_leb(&body, k + 1);
            PUT(&body, 0x20, 0, 0x41, 3, 0x6a, 0x21, 0);
        }
        PUT(&body, 0x10, 0);                /* the host */
        PUT(&body, 0x20, 0, 0x10, 1, 0x1a); /* itself */
        for (uint32_t k = 0; k < locals; k++) {
            PUT(&body, 0x20);
            put_leb(&body, k + 1);
            PUT(&body, 0xfd, 0x1b, 0, 0x20, 0, 0x6a, 0x21, 0);
        }
        PUT(&body, 0x20, 0, 0x0b);
        add_func(&m, "i", "i", &body);
        for (uint64_t stack = 1; stack < 1 << 20; stack *= 16) {
            struct donjon_limits limits = {.stack_bytes = stack};
            struct buf keep[5] = {{0}};
            struct buf *all[5] = {&m.types, &m.imports, &m.funcs, &m.exports, &m.code};
            for (int k = 0; k < 5; k++)
                put_bytes(&keep[k], all[k]->data, all[k]->size);
            struct rig r = rig_start(&m, &limits, nothing, ":");
            donjon_slot_t slots[1] = {{.i32 = 1}};
            assert_int_equal(call(&r, "0", slots), DONJON_TRAP_STACK);
            rig_stop(&r);
            for (int k = 0; k < 5; k++)
                *all[k] = keep[k];
        }
        free(m.types.data), free(m.imports.data), free(m.funcs.data), free(m.exports.data), free(m.code.data);
    }
}

/* ---- what compiling costs ---- */

static void op_leb(struct buf *b, uint8_t op, uint64_t n) {
    put_byte(b, op);
    put_leb(b, n);
}
static void locals(struct buf *b, uint32_t n) {
    if (!n) {
        put_byte(b, 0);
        return;
    }
    put_leb(b, 1), put_leb(b, n), put_byte(b, I32);
}
static void set_all(struct buf *b, uint32_t n) {
    for (uint32_t k = 1; k <= n; k++)
        PUT(b, 0x20, 0), op_leb(b, 0x21, k);
}
static void add_up(struct buf *b, uint32_t n) {
    PUT(b, 0x20, 0);
    for (uint32_t k = 1; k <= n; k++)
        op_leb(b, 0x20, k), PUT(b, 0x6a);
}

/* Many locals changed, then many branches to where it matters. */
static void many_branches(struct mod *m, struct buf *b) {
    (void)m;
    locals(b, 40000);
    PUT(b, 0x02, 0x40);
    set_all(b, 40000);
    for (uint32_t k = 0; k < 40000; k++)
        PUT(b, 0x20, 0, 0x0d, 0);
    PUT(b, 0x0b);
    add_up(b, 40000);
}
/* Every branch changes another local: edges times locals passes 2^32. */
static void wide_join(struct mod *m, struct buf *b) {
    (void)m;
    locals(b, 49000);
    PUT(b, 0x02, 0x40);
    for (uint32_t k = 0; k < 88000; k++)
        PUT(b, 0x20, 0, 0x04, 0x40, 0x20, 0), op_leb(b, 0x21, 1 + k % 49000), PUT(b, 0x0c, 1, 0x0b);
    PUT(b, 0x0b);
    add_up(b, 49000);
}
static void nested_loops(struct mod *m, struct buf *b) {
    (void)m;
    locals(b, 20000);
    for (uint32_t k = 0; k < 40000; k++)
        PUT(b, 0x03, 0x40);
    set_all(b, 20000);
    for (uint32_t k = 0; k < 40000; k++)
        PUT(b, 0x20, 0, 0x0d, 0, 0x0b);
    add_up(b, 20000);
}
static void deep_uses(struct mod *m, struct buf *b) {
    (void)m;
    locals(b, 1);
    PUT(b, 0x20, 0, 0x45, 0x21, 1);
    for (uint32_t k = 0; k < 30000; k++)
        PUT(b, 0x03, 0x40);
    for (uint32_t k = 0; k < 60000; k++)
        PUT(b, 0x20, 1, 0x20, 0, 0x6a, 0x24, 0);
    for (uint32_t k = 0; k < 30000; k++)
        PUT(b, 0x0b);
    add_up(b, 1);
}
static void br_table(struct buf *b, uint32_t n, uint32_t step) {
    op_leb(b, 0x0e, n - 1);
    for (uint32_t k = 0; k < n; k++)
        put_leb(b, k * step);
}
static void full_table(struct mod *m, struct buf *b) {
    (void)m;
    locals(b, 0);
    for (uint32_t k = 0; k < 65520; k++)
        PUT(b, 0x02, 0x40);
    for (uint32_t k = 0; k < 65520; k++)
        PUT(b, 0x20, 0), op_leb(b, 0x0d, k);
    for (uint32_t k = 0; k < 30000; k++)
        PUT(b, 0x20, 0), op_leb(b, 0x0d, 65519);
    PUT(b, 0x20, 0);
    br_table(b, 65520, 1);
    for (uint32_t k = 0; k < 65520; k++)
        PUT(b, 0x20, 0, 0x24, 0, 0x0b);
    add_up(b, 0);
}
static void small_tables(struct mod *m, struct buf *b) {
    (void)m;
    locals(b, 0);
    for (uint32_t k = 0; k < 90000; k++)
        PUT(b, 0x02, 0x40);
    for (uint32_t k = 0; k < 60000; k++)
        PUT(b, 0x02, 0x40, 0x20, 0, 0x0e, 0, 0, 0x0b);
    put_repeat(b, 0x0b, 90000);
    add_up(b, 0);
}
static void big_calls(struct mod *m, struct buf *b) {
    char many[1001];
    memset(many, 'i', 1000);
    many[1000] = 0;
    struct buf source = {0}, sink = {0};
    put_byte(&source, 0);
    for (uint32_t k = 0; k < 1000; k++)
        PUT(&source, 0x41, 1);
    PUT(&source, 0x0b);
    PUT(&sink, 0, 0x0b);
    add_func(m, "", many, &source);
    add_func(m, many, "", &sink);
    locals(b, 0);
    for (uint32_t k = 0; k < 5000; k++)
        PUT(b, 0x10, 0, 0x10, 1);
    add_up(b, 0);
}
static void many_phis(struct mod *m, struct buf *b) {
    (void)m;
    locals(b, 100);
    PUT(b, 0x02, 0x40);
    for (uint32_t k = 0; k < 10000; k++)
        for (uint32_t x = 0; x < 4; x++) {
            PUT(b, 0x23, 0), op_leb(b, 0x21, 1 + (k * 4 + x) % 100);
            if (x == 3) PUT(b, 0x23, 0, 0x0d, 0);
        }
    PUT(b, 0x0b);
    add_up(b, 100);
}
static void tries(struct mod *m, struct buf *b) {
    (void)m;
    locals(b, 5000);
    for (uint32_t k = 0; k < 3000; k++)
        PUT(b, 0x06, 0x40);
    for (uint32_t k = 0; k < 20000; k++)
        PUT(b, 0x41, 0, 0x40, 0, 0x1a, 0x02, 0x40, 0x20, 0, 0x0d, 0, 0x0b);
    for (uint32_t k = 0; k < 3000; k++)
        PUT(b, 0x07, 0, 0x0b);
    add_up(b, 5000);
}
static void long_chain(struct mod *m, struct buf *b) {
    (void)m;
    locals(b, 0);
    for (uint32_t k = 0; k < 1000000; k++)
        PUT(b, 0x23, 0, 0x41, (uint8_t)(k % 64), 0x6a, 0x24, 0);
    add_up(b, 0);
}
static void alive(struct mod *m, struct buf *b) {
    (void)m;
    locals(b, 0);
    for (uint32_t k = 0; k < 60000; k++)
        PUT(b, 0x23, 0);
    for (uint32_t k = 0; k < 60000; k++)
        PUT(b, 0x24, 0);
    add_up(b, 0);
}

static void compiling_is_near_linear(void **state) {
    (void)state;
    static const struct {
        const char *name;
        void (*make)(struct mod *, struct buf *);
    } cases[] = {
        {"many branches", many_branches}, {"wide join", wide_join},   {"nested loops", nested_loops},
        {"deep uses", deep_uses},         {"full table", full_table}, {"small tables", small_tables},
        {"big calls", big_calls},         {"many phis", many_phis},   {"tries", tries},
        {"long chain", long_chain},       {"all alive", alive},
    };
    for (unsigned k = 0; k < sizeof cases / sizeof *cases; k++) {
        struct mod m = {0};
        struct buf body = {0};
        SECTION(&m, 5, 1, 0, 1);
        SECTION(&m, 6, 1, I32, 1, 0x41, 0, 0x0b);
        cases[k].make(&m, &body);
        put_byte(&body, 0x0b);
        size_t size = body.size;
        char name[12];
        snprintf(name, sizeof name, "%u", m.n_funcs);
        add_func(&m, "i", "i", &body);
        while (m.n_funcs < 3)
            FUNC(&m, "", "", 0, 0x0b);
        if (!strcmp(cases[k].name, "tries")) SECTION(&m, 13, 1, 0, 1);
        struct timespec from, to;
        struct rig r = rig_start(&m, &(struct donjon_limits){0}, NULL, NULL);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
        donjon_slot_t slots[1] = {{.i32 = 0}};
        int kind = call(&r, name, slots);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
        double seconds = (double)(to.tv_sec - from.tv_sec) + 1e-9 * (double)(to.tv_nsec - from.tv_nsec);
        print_message("%-14s %8zu bytes %6.2f s, trap %d\n", cases[k].name, size, seconds, kind);
        rig_stop(&r);
        assert_true(seconds < 60);
    }
}

/* ---- threads ---- */

static _Atomic bool hammering;
static _Atomic unsigned blows;
static void *hammer(void *store) {
    while (hammering) {
        donjon_store_interrupt(store);
        blows++;
        if (blows % 64 == 0) nanosleep(&(struct timespec){0, 200000}, NULL);
    }
    return NULL;
}

/* Interrupts at every moment, also while functions are compiled and instances made: none is lost, none does harm. */
static void interrupts_at_any_moment(void **state) {
    (void)state;
    for (unsigned round = 0; round < 30; round++) {
        struct mod m = {0};
        FUNC(&m, "i", "i", 0, 0x20, 0, 0x10, 1, 0x0b); /* 0 and 1 call each other for ever, by tail calls */
        FUNC(&m, "i", "i", 0, 0x20, 0, 0x12, 2, 0x0b);
        FUNC(&m, "i", "i", 0, 0x20, 0, 0x12, 1, 0x0b);
        FUNC(&m, "", "", 0, 0x03, 0x40, 0x0c, 0, 0x0b, 0x0b);
        for (unsigned k = 0; k < 200; k++) { /* a chain of functions to be compiled one after the other */
            struct buf body = {0};
            PUT(&body, 0, 0x20, 0, 0x41, 1, 0x6a);
            if (k < 199) put_byte(&body, 0x10), put_leb(&body, 5 + k);
            PUT(&body, 0x0b);
            add_func(&m, "i", "i", &body);
        }
        struct rig r = rig_start(&m, &(struct donjon_limits){0}, NULL, NULL);
        pthread_t thread;
        hammering = true;
        assert_int_equal(pthread_create(&thread, NULL, hammer, r.store), 0);
        donjon_slot_t slots[1] = {{.i32 = 0}};
        for (unsigned k = 0; k < 20; k++) {
            assert_int_equal(call(&r, "0", slots), DONJON_TRAP_INTERRUPT);
            assert_int_equal(call(&r, "3", slots), DONJON_TRAP_INTERRUPT);
            slots[0].i32 = 0;
            int kind = call(&r, "4", slots);
            if (kind)
                assert_int_equal(kind, DONJON_TRAP_INTERRUPT);
            else
                assert_int_equal(slots[0].i32, 200);
            wasm_trap_t *trap = NULL;
            donjon_linker_t *l = donjon_linker_new(r.store);
            wasm_instance_t *another = donjon_linker_instantiate(l, r.module, &trap);
            assert_non_null(another);
            wasm_instance_delete(another);
            donjon_linker_delete(l);
        }
        hammering = false;
        pthread_join(thread, NULL);
        (void)call(&r, "4", slots); /* spends the last one */
        slots[0].i32 = 0;
        assert_int_equal(call(&r, "4", slots), 0);
        assert_int_equal(slots[0].i32, 200);
        rig_stop(&r);
    }
}

static void *trapper(void *arg) {
    (void)arg;
    for (unsigned k = 0; k < 60; k++) {
        struct mod m = {0};
        SECTION(&m, 5, 1, 0, 1);
        FUNC(&m, "i", "i", 0, 0x20, 0, 0x28, 2, 0, 0x0b);
        FUNC(&m, "i", "i", 0, 0x20, 0, 0x10, 0, 0x0b);
        struct buf bytes = finish(&m);
        wasm_engine_t *engine = wasm_engine_new();
        wasm_store_t *store = donjon_store_new(engine, &(struct donjon_limits){0});
        wasm_module_t *module = donjon_module_new(store, bytes.data, bytes.size, NULL);
        donjon_linker_t *l = donjon_linker_new(store);
        wasm_instance_t *i = donjon_linker_instantiate(l, module, NULL);
        for (unsigned n = 0; i && n < 20; n++) {
            wasm_func_t *f = wasm_extern_as_func(donjon_instance_export(i, n % 2 ? "0" : "1"));
            donjon_slot_t slots[1] = {{.i32 = -1}};
            wasm_trap_t *trap = donjon_func_call(f, slots);
            if (!trap || donjon_trap_kind(trap) != DONJON_TRAP_MEMORY) return "wrong";
            wasm_trap_delete(trap);
            wasm_func_delete(f);
        }
        if (!i) return "no instance";
        wasm_instance_delete(i);
        donjon_linker_delete(l);
        wasm_module_delete(module);
        wasm_store_delete(store);
        wasm_engine_delete(engine);
        free(bytes.data);
    }
    return NULL;
}

/* Stores come and go while other threads' stores take faults. */
static void faults_stay_in_their_thread(void **state) {
    (void)state;
    pthread_t threads[6];
    assert_true(donjon_platform_posix_rearm());
    for (unsigned k = 0; k < 6; k++)
        assert_int_equal(pthread_create(&threads[k], NULL, trapper, NULL), 0);
    for (unsigned k = 0; k < 6; k++) {
        void *wrong;
        pthread_join(threads[k], &wrong);
        assert_null(wrong);
    }
}

/* A thread that made no store of its own has no alternate stack: faults and overflows are traps there, too. */
static void *runs_elsewhere(void *rig) {
    donjon_slot_t slots[1] = {{.i32 = -1}};
    if (call(rig, "0", slots) != DONJON_TRAP_MEMORY) return "memory";
    if (call(rig, "1", slots) != DONJON_TRAP_STACK) return "stack";
    return NULL;
}
static void any_thread_may_run_a_store(void **state) {
    (void)state;
    struct mod m = {0};
    SECTION(&m, 5, 1, 0, 1);
    FUNC(&m, "i", "i", 0, 0x20, 0, 0x28, 2, 0, 0x0b);
    FUNC(&m, "i", "i", 0, 0x20, 0, 0x10, 1, 0x0b);
    struct rig r = rig_start(&m, &(struct donjon_limits){0}, NULL, NULL);
    pthread_t thread;
    void *wrong;
    assert_int_equal(pthread_create(&thread, NULL, runs_elsewhere, &r), 0);
    pthread_join(thread, &wrong);
    assert_null(wrong);
    rig_stop(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrapped_joins_have_no_upper_half), cmocka_unit_test(deep_ends_are_traps),
        cmocka_unit_test(big_frames_are_bounded),           cmocka_unit_test(compiling_is_near_linear),
        cmocka_unit_test(interrupts_at_any_moment),         cmocka_unit_test(faults_stay_in_their_thread),
        cmocka_unit_test(any_thread_may_run_a_store),
    };
    return cmocka_run_group_tests_name("hostile", tests, NULL, NULL);
}
