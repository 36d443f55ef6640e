/* WASI as a real module sees it: imports, memory, the end of the program, refusals. */
#include "guest.h"
#include "wasi/link.h"

struct bytes {
    uint8_t p[1024];
    size_t n;
};

static void add(struct bytes *b, const void *p, size_t n) {
    assert_true(b->n + n <= sizeof b->p);
    memcpy(b->p + b->n, p, n);
    b->n += n;
}
static void byte(struct bytes *b, uint8_t v) {
    add(b, &v, 1);
}
static void name(struct bytes *b, const char *s) {
    byte(b, (uint8_t)strlen(s));
    add(b, s, strlen(s));
}
static void section(struct bytes *b, uint8_t id, const struct bytes *body) {
    assert_true(body->n < 128);
    byte(b, id);
    byte(b, (uint8_t)body->n);
    add(b, body->p, body->n);
}
#define RAW(b, ...) add(b, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

enum { I32 = 0x7f, I64 = 0x7e };

/* A program that imports one function of type (params of `type`) -> result or none, and whose _start is `code`. */
static struct bytes module(const char *from, const char *what, const struct bytes *type, uint8_t memory_flags,
                           const struct bytes *code) {
    struct bytes m = {.n = 0}, s;
    RAW(&m, 0, 'a', 's', 'm', 1, 0, 0, 0);
    s.n = 0, byte(&s, 2), add(&s, type->p, type->n), RAW(&s, 0x60, 0, 0), section(&m, 1, &s);
    s.n = 0, byte(&s, 1), name(&s, from), name(&s, what), RAW(&s, 0, 0), section(&m, 2, &s);
    s.n = 0, RAW(&s, 1, 1), section(&m, 3, &s);
    s.n = 0, RAW(&s, 1, memory_flags, 1), section(&m, 5, &s);
    s.n = 0, byte(&s, 2), name(&s, "memory"), RAW(&s, 2, 0), name(&s, "_start"), RAW(&s, 0, 1), section(&m, 7, &s);
    s.n = 0, RAW(&s, 1, (uint8_t)(code->n + 2), 0), add(&s, code->p, code->n), byte(&s, 0x0b), section(&m, 10, &s);
    return m;
}

struct engine_side {
    wasm_engine_t *engine;
    wasm_store_t *store;
    wasm_module_t *module;
    donjon_linker_t *linker;
};

static struct engine_side load(const struct bytes *m) {
    struct engine_side e = {.engine = wasm_engine_new()};
    e.store = wasm_store_new(e.engine);
    struct donjon_module_error err;
    e.module = donjon_module_new(e.store, m->p, m->n, &err);
    if (!e.module) fail_msg("at 0x%zx: %s", err.offset, err.message);
    e.linker = donjon_linker_new(e.store);
    return e;
}

static void unload(struct engine_side *e) {
    donjon_linker_delete(e->linker);
    wasm_module_delete(e->module);
    wasm_store_delete(e->store);
    wasm_engine_delete(e->engine);
}

/* Links and runs _start; the trap, if there is one. */
static wasm_trap_t *run(struct guest *g, struct engine_side *e) {
    char err[128];
    assert_true(wasi_link(g->w, e->linker, e->module, err, sizeof err));
    wasm_trap_t *trap = NULL;
    wasm_instance_t *i = donjon_linker_instantiate(e->linker, e->module, &trap);
    if (!i) return trap;
    wasm_extern_t *start = donjon_instance_export(i, "_start");
    donjon_slot_t slots[1] = {{0}};
    trap = donjon_func_call(wasm_extern_as_func(start), slots);
    wasm_extern_delete(start);
    wasm_instance_delete(i);
    return trap;
}

static void exits(void **state) {
    (void)state;
    struct bytes type = {.n = 0}, code = {.n = 0};
    RAW(&type, 0x60, 1, I32, 0);
    RAW(&code, 0x41, 7, 0x10, 0, 0x00); /* proc_exit(7); unreachable */
    static const char *const abis[] = {"wasi_unstable", "wasi_snapshot_preview1"};
    for (int k = 0; k < 2; k++) {
        struct guest *g = guest_new(NULL);
        struct bytes m = module(abis[k], "proc_exit", &type, 0, &code);
        struct engine_side e = load(&m);
        wasm_trap_t *trap = run(g, &e);
        assert_non_null(trap);
        int32_t status;
        uint32_t exit_code;
        assert_int_equal(donjon_trap_kind(trap), DONJON_TRAP_EXIT);
        assert_true(donjon_trap_exit_status(trap, &status));
        assert_int_equal(status, 7);
        assert_true(wasi_exited(g->w, &exit_code));
        assert_int_equal(exit_code, 7);
        wasm_trap_delete(trap);
        unload(&e);
        guest_delete(g);
    }
}

/* 64-bit parameters arrive whole, results go into memory: clock_time_get(1, 0, 8), then traps unless the time is there.
 */
static void memory_and_wide_parameters(void **state) {
    (void)state;
    struct guest *g = guest_new(NULL);
    g->now = UINT64_C(0x123456789abcdef);
    struct bytes type = {.n = 0}, code = {.n = 0};
    RAW(&type, 0x60, 3, I32, I64, I32, 1, I32);
    RAW(&code, 0x41, 1, 0x42, 0x7f, 0x41, 8, 0x10, 0, 0x04, 0x40, 0x00, 0x0b); /* if (call) unreachable */
    RAW(&code, 0x41, 8, 0x29, 3, 0, 0x50, 0x04, 0x40, 0x00, 0x0b);             /* if (!load64(8)) unreachable */
    struct bytes m = module("wasi_snapshot_preview1", "clock_time_get", &type, 0, &code);
    struct engine_side e = load(&m);
    assert_null(run(g, &e));
    assert_string_equal(g->traced, "clock_time_get(1, 18446744073709551615, 0x8) = 0");
    unload(&e);
    guest_delete(g);
}

static void refusals(void **state) {
    (void)state;
    struct guest *g = guest_new(NULL);
    struct bytes type = {.n = 0}, code = {.n = 0};
    RAW(&type, 0x60, 0, 1, I32);
    RAW(&code, 0x10, 0, 0x1a);
    char err[128];

    struct bytes m = module("wasi_snapshot_preview1", "sched_yield", &type, 4, &code); /* 64-bit memory */
    struct engine_side e = load(&m);
    assert_false(wasi_link(g->w, e.linker, e.module, err, sizeof err));
    assert_non_null(strstr(err, "64-bit"));
    unload(&e);

    /* Names that WASI, or this WASI, has not, and a type that does not fit: the linker's refusal. */
    static const char *const wrong[][2] = {
        {"wasi_snapshot_preview1", "fork"}, {"wasi_unstable", "sock_accept"}, {"wasi_snapshot_preview1", "proc_exit"}};
    for (int k = 0; k < 3; k++) {
        m = module(wrong[k][0], wrong[k][1], &type, 0, &code);
        e = load(&m);
        wasm_trap_t *trap = run(g, &e);
        assert_non_null(trap);
        assert_int_equal(donjon_trap_kind(trap), DONJON_TRAP_LINK);
        wasm_message_t text;
        wasm_trap_message(trap, &text);
        assert_non_null(strstr(text.data, wrong[k][1]));
        wasm_byte_vec_delete(&text);
        wasm_trap_delete(trap);
        unload(&e);
    }
    guest_delete(g);
}

/* poll_oneoff that waits for ever: only an interruption ends it, as a trap. */
static void interruption(void **state) {
    (void)state;
    struct guest *g = guest_new(NULL);
    g->now = 0;
    struct bytes type = {.n = 0}, code = {.n = 0};
    RAW(&type, 0x60, 4, I32, I32, I32, I32, 1, I32);
    RAW(&code, 0x41, 0, 0x41, 16, 0x42, 0x7f, 0x37, 3, 8, 0x1a); /* store64(16 + 8, -1): for ever */
    RAW(&code, 0x41, 0, 0x41, 0xc0, 0, 0x41, 1, 0x41, 0xe0, 0, 0x10, 0, 0x1a);
    struct bytes m = module("wasi_snapshot_preview1", "poll_oneoff", &type, 0, &code);
    struct engine_side e = load(&m);
    wasm_trap_t *trap = run(g, &e);
    assert_true(wasi_interrupted(g->w));
    assert_non_null(trap);
    assert_int_equal(donjon_trap_kind(trap), DONJON_TRAP_HOST);
    wasm_trap_delete(trap);
    unload(&e);
    guest_delete(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(exits), cmocka_unit_test(memory_and_wide_parameters),
                                       cmocka_unit_test(refusals), cmocka_unit_test(interruption)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
