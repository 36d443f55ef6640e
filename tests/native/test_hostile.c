/* Modules that attack native code. Each of these once got somewhere. */
#include <donjon/wasm.h>
#include "builder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
__attribute__((unused)) static void add_import(struct mod *m, const char *params, const char *results) {
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrapped_joins_have_no_upper_half),
    };
    return cmocka_run_group_tests_name("hostile", tests, NULL, NULL);
}
