/* Limits, link errors, exceptions and everything else that donjon/wasm.h adds. */
#include <donjon/wasm.h>
#include "modules/modules.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

static wasm_engine_t *engine;

static int group_setup(void **state) {
    (void)state;
    engine = wasm_engine_new();
    return engine ? 0 : -1;
}

static int group_teardown(void **state) {
    (void)state;
    wasm_engine_delete(engine);
    return 0;
}

static wasm_module_t *load(wasm_store_t *s, const uint8_t *bytes, size_t size) {
    struct donjon_module_error err;
    wasm_module_t *m = donjon_module_new(s, bytes, size, &err);
    if (!m) print_error("%s at %zu\n", err.message, err.offset);
    assert_non_null(m);
    return m;
}

static wasm_instance_t *start_with(wasm_store_t *s, donjon_linker_t *l, const uint8_t *bytes, size_t size) {
    wasm_module_t *m = load(s, bytes, size);
    wasm_trap_t *trap;
    wasm_instance_t *i = donjon_linker_instantiate(l, m, &trap);
    assert_null(trap);
    assert_non_null(i);
    wasm_module_delete(m);
    return i;
}

static wasm_instance_t *start(wasm_store_t *s, const uint8_t *bytes, size_t size) {
    donjon_linker_t *l = donjon_linker_new(s);
    wasm_instance_t *i = start_with(s, l, bytes, size);
    donjon_linker_delete(l);
    return i;
}
#define START(s, name) start(s, name##_wasm, sizeof name##_wasm)

static wasm_func_t *func(const wasm_instance_t *i, const char *name) {
    wasm_func_t *f = wasm_extern_as_func(donjon_instance_export(i, name));
    assert_non_null(f);
    return f;
}

/* Calls an export with integer arguments; the trap is the caller's. */
static wasm_trap_t *call(const wasm_instance_t *i, const char *name, donjon_slot_t slots[]) {
    wasm_func_t *f = func(i, name);
    wasm_trap_t *trap = donjon_func_call(f, slots);
    wasm_func_delete(f);
    return trap;
}

static int32_t call_i32(const wasm_instance_t *i, const char *name, int32_t a, int32_t b, int32_t c) {
    donjon_slot_t slots[3] = {{.i32 = a}, {.i32 = b}, {.i32 = c}};
    assert_null(call(i, name, slots));
    return slots[0].i32;
}

static void expect_trap(wasm_trap_t *trap, enum donjon_trap_kind kind, const char *text) {
    assert_non_null(trap);
    wasm_message_t message;
    wasm_trap_message(trap, &message);
    assert_string_equal(message.data, text);
    assert_int_equal(donjon_trap_kind(trap), kind);
    wasm_byte_vec_delete(&message);
    wasm_trap_delete(trap);
}

static void expect_call_traps(const wasm_instance_t *i, const char *name, int32_t a, enum donjon_trap_kind kind,
                              const char *text) {
    donjon_slot_t slots[4] = {{.i32 = a}, {.i32 = 0}, {.i32 = 0}};
    expect_trap(call(i, name, slots), kind, text);
}

/* ---- modules and linking ---- */

static void module_errors(void **state) {
    (void)state;
    wasm_store_t *s = wasm_store_new(engine);
    struct donjon_module_error err = {0};
    assert_null(donjon_module_new(s, "\0asm\2\0\0\0", 8, &err));
    assert_true(err.malformed);
    assert_true(err.offset <= 4);
    assert_non_null(strstr(err.message, "version"));
    /* A body that leaves no result: not valid. */
    static const uint8_t bad[] = "\0asm\1\0\0\0\1\5\1\x60\0\1\x7f\3\2\1\0\xa\4\1\2\0\xb";
    assert_null(donjon_module_new(s, bad, sizeof bad - 1, &err));
    assert_false(err.malformed);
    assert_int_equal(err.func, 0);
    assert_true(err.offset >= 23 && err.offset <= 25);
    wasm_store_delete(s);
}

static const char missing_all[] = "import \"env\" \"f\": function (i32) -> i32 is not provided\n"
                                  "import \"env\" \"g\": function (i64, f32) -> (i32, i32) is not provided\n"
                                  "import \"env\" \"m\": memory 1..2 is not provided\n"
                                  "import \"env\" \"t\": table 10.. (ref null func) is not provided\n"
                                  "import \"env\" \"v\": global mut i32 is not provided";

static void missing_imports_are_all_named(void **state) {
    (void)state;
    wasm_store_t *s = wasm_store_new(engine);
    wasm_module_t *m = load(s, imports_wasm, sizeof imports_wasm);
    donjon_linker_t *l = donjon_linker_new(s);
    wasm_trap_t *trap;
    assert_null(donjon_linker_instantiate(l, m, &trap));
    expect_trap(trap, DONJON_TRAP_LINK, missing_all);
    assert_null(wasm_instance_new(s, m, NULL, &trap));
    expect_trap(trap, DONJON_TRAP_LINK, missing_all);
    assert_null(wasm_instance_new(s, m, NULL, NULL));
    donjon_linker_delete(l);
    wasm_module_delete(m);
    wasm_store_delete(s);
}

static wasm_trap_t *no_op(void *env, donjon_caller_t *caller, donjon_slot_t *args) {
    (void)env, (void)caller, (void)args;
    return NULL;
}

static void imports_of_another_type(void **state) {
    (void)state;
    wasm_store_t *s = wasm_store_new(engine);
    wasm_module_t *m = load(s, just_f_wasm, sizeof just_f_wasm);
    donjon_linker_t *l = donjon_linker_new(s);
    assert_false(donjon_linker_define_func(l, "env", "f", "ii", no_op, NULL));
    assert_false(donjon_linker_define_func(l, "env", "f", "ix:i", no_op, NULL));
    assert_true(donjon_linker_define_func(l, "env", "f", "I:i", no_op, NULL));
    wasm_trap_t *trap;
    assert_null(donjon_linker_instantiate(l, m, &trap));
    expect_trap(
        trap, DONJON_TRAP_LINK,
        "import \"env\" \"f\": incompatible import type: needs function (i32) -> i32, given function (i64) -> i32");
    assert_true(donjon_linker_define_func(l, "env", "f", "i:i", no_op, NULL)); /* replaces */
    wasm_instance_t *i = donjon_linker_instantiate(l, m, &trap);
    assert_non_null(i);
    assert_int_equal(call_i32(i, "call", 0, 0, 0), 1);
    wasm_instance_delete(i);
    donjon_linker_delete(l);
    wasm_module_delete(m);
    wasm_store_delete(s);
}

static void unknown_imports_may_trap(void **state) {
    (void)state;
    wasm_store_t *s = wasm_store_new(engine);
    wasm_module_t *m = load(s, just_f_wasm, sizeof just_f_wasm);
    donjon_linker_t *l = donjon_linker_new(s);
    donjon_linker_set_unknown_imports_trap(l, true);
    wasm_trap_t *trap;
    wasm_instance_t *i = donjon_linker_instantiate(l, m, &trap);
    assert_non_null(i);
    expect_call_traps(i, "call", 0, DONJON_TRAP_UNKNOWN_IMPORT, "unknown import called: \"env\" \"f\"");
    wasm_instance_delete(i);
    wasm_module_delete(m);
    /* Other kinds of imports cannot be made up. */
    m = load(s, imports_wasm, sizeof imports_wasm);
    assert_null(donjon_linker_instantiate(l, m, &trap));
    expect_trap(trap, DONJON_TRAP_LINK, strstr(missing_all, "import \"env\" \"m\""));
    wasm_module_delete(m);
    donjon_linker_delete(l);
    wasm_store_delete(s);
}

static void linking_instances(void **state) {
    (void)state;
    wasm_store_t *s = wasm_store_new(engine);
    donjon_linker_t *l = donjon_linker_new(s);
    wasm_instance_t *provider = START(s, loops);
    assert_true(donjon_linker_define_instance(l, "loops", provider));
    wasm_func_t *down = func(provider, "down");
    assert_true(donjon_linker_define(l, "env", "f", wasm_func_as_extern(down)));
    wasm_func_delete(down);
    wasm_instance_delete(provider);
    wasm_instance_t *i = start_with(s, l, just_f_wasm, sizeof just_f_wasm);
    assert_int_equal(call_i32(i, "call", 0, 0, 0), 0);
    assert_null(donjon_instance_export(i, "cal"));
    assert_null(donjon_instance_export(i, ""));
    wasm_instance_delete(i);
    donjon_linker_delete(l);
    wasm_store_delete(s);
}

static donjon_linker_t *linker_with_base(wasm_store_t *s, int32_t base) {
    donjon_linker_t *l = donjon_linker_new(s);
    wasm_globaltype_t *type = wasm_globaltype_new(wasm_valtype_new_i32(), WASM_CONST);
    wasm_global_t *g = wasm_global_new(s, type, &(wasm_val_t)WASM_I32_VAL(base));
    assert_true(donjon_linker_define(l, "env", "base", wasm_global_as_extern(g)));
    wasm_globaltype_delete(type);
    wasm_global_delete(g);
    return l;
}

static void segments(void **state) {
    (void)state;
    wasm_store_t *s = wasm_store_new(engine);
    donjon_linker_t *l = linker_with_base(s, 2);
    wasm_instance_t *i = start_with(s, l, constants_wasm, sizeof constants_wasm);
    wasm_memory_t *memory = wasm_extern_as_memory(donjon_instance_export(i, "memory"));
    assert_memory_equal(wasm_memory_data(memory), "\0\0here\0", 7);
    expect_call_traps(i, "call", 1, DONJON_TRAP_NULL_ELEM, "uninitialized element");
    assert_int_equal(call_i32(i, "call", 2, 0, 0), 11);
    assert_int_equal(call_i32(i, "call", 3, 0, 0), 22);
    call_i32(i, "init", 0, 0, 3);
    assert_int_equal(call_i32(i, "call", 0, 0, 0), 22);
    expect_call_traps(i, "call", 1, DONJON_TRAP_NULL_ELEM, "uninitialized element");
    call_i32(i, "bytes", 100, 1, 3);
    assert_memory_equal(wasm_memory_data(memory) + 99, "\0ate\0", 5);
    call_i32(i, "drop", 0, 0, 0);
    donjon_slot_t slots[3] = {{.i32 = 0}, {.i32 = 0}, {.i32 = 1}};
    expect_trap(call(i, "init", slots), DONJON_TRAP_TABLE, "out of bounds table access");
    slots[0].i32 = 0, slots[1].i32 = 0, slots[2].i32 = 1;
    expect_trap(call(i, "bytes", slots), DONJON_TRAP_MEMORY, "out of bounds memory access");
    call_i32(i, "init", 4, 0, 0); /* nothing, at the very end */
    wasm_memory_delete(memory);
    wasm_instance_delete(i);
    donjon_linker_delete(l);

    /* Active segments that do not fit trap, after the earlier ones took effect. */
    l = linker_with_base(s, 3);
    wasm_module_t *m = load(s, constants_wasm, sizeof constants_wasm);
    wasm_trap_t *trap;
    assert_null(donjon_linker_instantiate(l, m, &trap));
    expect_trap(trap, DONJON_TRAP_TABLE, "out of bounds table access");
    wasm_module_delete(m);
    m = load(s, oob_wasm, sizeof oob_wasm);
    wasm_memorytype_t *type = wasm_memorytype_new(&(wasm_limits_t){1, 1});
    memory = wasm_memory_new(s, type);
    assert_true(donjon_linker_define(l, "env", "m", wasm_memory_as_extern(memory)));
    assert_null(donjon_linker_instantiate(l, m, &trap));
    expect_trap(trap, DONJON_TRAP_MEMORY, "out of bounds memory access");
    assert_memory_equal(wasm_memory_data(memory), "first", 5);
    assert_int_equal(wasm_memory_data(memory)[65535], 0);
    wasm_memory_delete(memory);
    wasm_memorytype_delete(type);
    wasm_module_delete(m);
    donjon_linker_delete(l);
    wasm_store_delete(s);
}

/* ---- limits ---- */

enum { PAGE = 65536 };

static void memory_limit(void **state) {
    (void)state;
    wasm_store_t *s = donjon_store_new(engine, &(struct donjon_limits){.memory_bytes = 10 * PAGE + 1});
    wasm_instance_t *i = START(s, grow);
    assert_int_equal(donjon_store_memory_bytes(s), 2 * PAGE);
    assert_int_equal(call_i32(i, "memory.grow", 10, 0, 0), -1);
    assert_int_equal(call_i32(i, "memory.grow", -1, 0, 0), -1);
    assert_int_equal(call_i32(i, "memory.grow", 5, 0, 0), 1);
    assert_int_equal(call_i32(i, "second.grow", 4, 0, 0), -1); /* both together */
    assert_int_equal(call_i32(i, "second.grow", 3, 0, 0), 1);
    assert_int_equal(call_i32(i, "memory.grow", 1, 0, 0), -1);
    assert_int_equal(call_i32(i, "memory.grow", 0, 0, 0), 6);
    assert_int_equal(donjon_store_memory_bytes(s), 10 * PAGE);
    wasm_module_t *m = load(s, memory_wasm, sizeof memory_wasm);
    wasm_trap_t *trap;
    assert_null(wasm_instance_new(s, m, NULL, &trap));
    expect_trap(trap, DONJON_TRAP_OUT_OF_MEMORY,
                "memory 0: cannot have 2 pages of 64 KiB: the limit for all of them together is 10");
    wasm_module_delete(m);
    wasm_instance_delete(i);
    wasm_store_delete(s);
}

static void table_limit(void **state) {
    (void)state;
    wasm_store_t *s = donjon_store_new(engine, &(struct donjon_limits){.table_elems = 100});
    wasm_instance_t *i = START(s, grow);
    assert_int_equal(call_i32(i, "table.grow", 100, 0, 0), -1);
    assert_int_equal(call_i32(i, "table.grow", -1, 0, 0), -1);
    assert_int_equal(call_i32(i, "table.grow", 90, 0, 0), 1);
    wasm_instance_t *other = START(s, grow);
    assert_int_equal(call_i32(other, "table.grow", 9, 0, 0), -1);
    assert_int_equal(call_i32(other, "table.grow", 8, 0, 0), 1);
    wasm_module_t *m = load(s, table_wasm, sizeof table_wasm);
    wasm_trap_t *trap;
    assert_null(wasm_instance_new(s, m, NULL, &trap));
    expect_trap(trap, DONJON_TRAP_OUT_OF_MEMORY,
                "table 0: cannot have 2 elements: the limit for all of them together is 100");
    wasm_module_delete(m);
    wasm_instance_delete(other);
    wasm_instance_delete(i);
    wasm_store_delete(s);
}

static void memory64(void **state) {
    (void)state;
    wasm_store_t *s = donjon_store_new(engine, &(struct donjon_limits){.memory_bytes = 100 * PAGE});
    wasm_instance_t *i = START(s, memory64);
    donjon_slot_t slots[2] = {{.i64 = 1ll << 32}, {.i32 = 0}};
    expect_trap(call(i, "load", slots), DONJON_TRAP_MEMORY, "out of bounds memory access");
    slots[0].i64 = -1;
    expect_trap(call(i, "load", slots), DONJON_TRAP_MEMORY, "out of bounds memory access");
    slots[0].i64 = 1ll << 47;
    assert_null(call(i, "grow", slots));
    assert_int_equal(slots[0].i64, -1);
    slots[0].i64 = 99;
    assert_null(call(i, "grow", slots));
    assert_int_equal(slots[0].i64, 1);
    slots[0].i64 = 100 * PAGE - 4, slots[1].i32 = 77;
    assert_null(call(i, "store", slots));
    slots[0].i64 = 100 * PAGE - 4;
    assert_null(call(i, "load", slots));
    assert_int_equal(slots[0].i32, 77);
    wasm_memory_t *m = wasm_extern_as_memory(donjon_instance_export(i, "memory"));
    assert_int_equal(donjon_memory_size(m), 100);
    wasm_memorytype_t *type = wasm_memory_type(m);
    struct donjon_limits64 l = donjon_memorytype_limits(type);
    assert_true(l.is64 && l.min == 100 && l.max == UINT64_MAX);
    wasm_memorytype_delete(type);
    wasm_memory_delete(m);
    wasm_instance_delete(i);
    l.min = 2, l.max = 1;
    type = donjon_memorytype_new(&l);
    assert_null(wasm_memory_new(s, type));
    wasm_memorytype_delete(type);
    wasm_store_delete(s);
}

static void fuel(void **state) {
    (void)state;
    wasm_store_t *s = donjon_store_new(engine, &(struct donjon_limits){.fuel_enabled = true, .fuel = 10000});
    wasm_instance_t *i = START(s, loops);
    assert_int_equal(call_i32(i, "count", 100, 0, 0), 100);
    uint64_t left = donjon_store_fuel(s);
    assert_true(left < 10000 - 100 && left > 1000);
    expect_call_traps(i, "spin", 0, DONJON_TRAP_FUEL, "all fuel consumed");
    expect_call_traps(i, "count", 100, DONJON_TRAP_FUEL, "all fuel consumed");
    donjon_store_set_fuel(s, 1000);
    assert_int_equal(call_i32(i, "count", 10, 0, 0), 10);
    expect_call_traps(i, "down", 100000, DONJON_TRAP_FUEL, "all fuel consumed");
    wasm_instance_delete(i);
    wasm_store_delete(s);
}

static void wall_time(void **state) {
    (void)state;
    const struct donjon_platform *p = donjon_platform_posix();
    wasm_store_t *s = donjon_store_new(engine, &(struct donjon_limits){.wall_ns = 50000000});
    wasm_instance_t *i = START(s, loops);
    uint64_t begin = p->now(p->ctx);
    expect_call_traps(i, "spin", 0, DONJON_TRAP_WALL, "wall time limit reached");
    uint64_t took = p->now(p->ctx) - begin;
    assert_true(took >= 50000000 && took < 5000000000);
    assert_int_equal(call_i32(i, "count", 1000, 0, 0), 1000); /* the limit is per call */
    donjon_store_set_wall_limit(s, 0);
    assert_int_equal(call_i32(i, "count", 1000, 0, 0), 1000);
    wasm_instance_delete(i);
    wasm_store_delete(s);
}

static void *interrupt_soon(void *store) {
    usleep(30000);
    donjon_store_interrupt(store);
    return NULL;
}

static void interrupt(void **state) {
    (void)state;
    wasm_store_t *s = wasm_store_new(engine);
    wasm_instance_t *i = START(s, loops);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, interrupt_soon, s), 0);
    expect_call_traps(i, "spin", 0, DONJON_TRAP_INTERRUPT, "interrupted");
    pthread_join(thread, NULL);
    assert_int_equal(call_i32(i, "count", 1000, 0, 0), 1000); /* spent */
    donjon_store_interrupt(s);
    expect_call_traps(i, "spin", 0, DONJON_TRAP_INTERRUPT, "interrupted"); /* the next call */
    wasm_instance_delete(i);
    wasm_store_delete(s);
}

static void call_depth(void **state) {
    (void)state;
    wasm_store_t *s = donjon_store_new(engine, &(struct donjon_limits){.call_depth = 1000, .interpret = true});
    wasm_instance_t *i = START(s, loops);
    assert_int_equal(call_i32(i, "down", 900, 0, 0), 0);
    donjon_slot_t slots[1] = {{.i32 = 1100}};
    wasm_trap_t *trap = call(i, "down", slots);
    size_t total, n = donjon_trap_frames(trap, &total);
    assert_int_equal(n, 64);
    assert_true(total >= 990 && total <= 1001);
    expect_trap(trap, DONJON_TRAP_STACK, "call stack exhausted");
    assert_int_equal(call_i32(i, "down", 900, 0, 0), 0);
    wasm_instance_delete(i);
    wasm_store_delete(s);

    s = donjon_store_new(engine, &(struct donjon_limits){.stack_bytes = 64 << 10, .call_depth = 1000000});
    i = START(s, loops);
    expect_call_traps(i, "down", 1000000, DONJON_TRAP_STACK, "call stack exhausted");
    wasm_instance_delete(i);
    wasm_store_delete(s);
}

/* A host function that calls back in without end: the C stack is a limit, too. */
static wasm_trap_t *call_back(void *env, donjon_caller_t *caller, donjon_slot_t *args) {
    (void)env;
    wasm_func_t *f = wasm_extern_as_func(donjon_caller_export(caller, "call"));
    wasm_trap_t *trap = donjon_func_call(f, args);
    wasm_func_delete(f);
    return trap;
}

static void nesting(void **state) {
    (void)state;
    wasm_store_t *s = wasm_store_new(engine);
    donjon_linker_t *l = donjon_linker_new(s);
    assert_true(donjon_linker_define_func(l, "env", "f", "i:i", call_back, NULL));
    wasm_instance_t *i = start_with(s, l, just_f_wasm, sizeof just_f_wasm);
    expect_call_traps(i, "call", 0, DONJON_TRAP_STACK, "call stack exhausted");
    wasm_instance_delete(i);
    donjon_linker_delete(l);
    wasm_store_delete(s);
}

/* ---- slots, callers, exits ---- */

static void tee_while_the_old_value_is_needed(void **state) {
    (void)state;
    wasm_store_t *s = wasm_store_new(engine);
    wasm_instance_t *i = START(s, tee);
    donjon_slot_t d[2] = {{.f64 = 1}, {.f64 = 2}}, f[2] = {{.f32 = 1}, {.f32 = 2}}, l[2] = {{.i64 = 1}, {.i64 = 2}};
    assert_null(call(i, "f64", d));
    assert_true(d[0].f64 == 9.5);
    assert_null(call(i, "f32", f));
    assert_true(f[0].f32 == 9.5f);
    assert_int_equal(call_i32(i, "i32", 1, 2, 0), 14);
    assert_null(call(i, "i64", l));
    assert_int_equal(l[0].i64, 14);
    wasm_instance_delete(i);
    wasm_store_delete(s);
}

static void v128(void **state) {
    (void)state;
    wasm_store_t *s = wasm_store_new(engine);
    wasm_instance_t *i = START(s, v128);
    wasm_func_t *f = func(i, "add");
    assert_int_equal(donjon_func_slots(f), 4);
    wasm_functype_t *type = wasm_func_type(f);
    char text[64];
    assert_string_equal(donjon_functype_print(type, text, sizeof text), "(v128, v128) -> (v128)");
    assert_int_equal(wasm_valtype_kind(wasm_functype_params(type)->data[0]), DONJON_V128);
    wasm_functype_delete(type);
    donjon_slot_t slots[4] = {{.u64 = 1ull << 32 | 2}, {.u64 = 3ull << 32 | 4}, {.u64 = 10ull << 32 | 20}, {.u64 = 30}};
    assert_null(donjon_func_call(f, slots));
    assert_int_equal(slots[0].u64, 11ull << 32 | 22);
    assert_int_equal(slots[1].u64, 3ull << 32 | 34);
    wasm_global_t *g = wasm_extern_as_global(donjon_instance_export(i, "g"));
    donjon_global_get(g, slots);
    assert_true(slots[0].u64 == 1 && slots[1].u64 == 2);
    slots[1].u64 = 3;
    assert_true(donjon_global_set(g, slots));
    slots[1].u64 = 0;
    donjon_global_get(g, slots);
    assert_int_equal(slots[1].u64, 3);
    wasm_global_delete(g);
    wasm_func_delete(f);
    wasm_instance_delete(i);
    wasm_store_delete(s);
}

static wasm_trap_t *sees_memory(void *env, donjon_caller_t *caller, donjon_slot_t *args) {
    struct donjon_memory_view m = donjon_caller_memory(caller);
    *(uint64_t *)env = m.data ? m.size : 0;
    args[0].i32++;
    return NULL;
}

static wasm_trap_t *exits(void *env, donjon_caller_t *caller, donjon_slot_t *args) {
    (void)env;
    return donjon_trap_new_exit(donjon_caller_store(caller), args[0].i32 + 41);
}

static void callers_and_exits(void **state) {
    (void)state;
    wasm_store_t *s = wasm_store_new(engine);
    donjon_linker_t *l = donjon_linker_new(s);
    uint64_t size = 1;
    assert_true(donjon_linker_define_func(l, "env", "f", "i:i", sees_memory, &size));
    wasm_instance_t *i = start_with(s, l, just_f_wasm, sizeof just_f_wasm);
    assert_int_equal(call_i32(i, "call", 0, 0, 0), 2);
    assert_int_equal(size, 0); /* has no memory */
    wasm_instance_delete(i);

    assert_true(donjon_linker_define_func(l, "env", "f", "i:i", exits, NULL));
    i = start_with(s, l, just_f_wasm, sizeof just_f_wasm);
    donjon_slot_t slots[1];
    wasm_trap_t *trap = call(i, "call", slots);
    int32_t status = 0;
    assert_true(donjon_trap_exit_status(trap, &status));
    assert_int_equal(status, 42);
    expect_trap(trap, DONJON_TRAP_EXIT, "exit");
    wasm_instance_delete(i);
    donjon_linker_delete(l);
    wasm_store_delete(s);
}

/* ---- exceptions and the collected heap ---- */

struct thrower {
    wasm_store_t *store;
    donjon_tag_t *tag;
    int32_t value;
};

static wasm_trap_t *throws(void *env, donjon_caller_t *caller, donjon_slot_t *args) {
    (void)caller, (void)args;
    struct thrower *t = env;
    wasm_val_t payload[] = {WASM_I32_VAL(t->value), WASM_I64_VAL(2)};
    wasm_val_vec_t vec = WASM_ARRAY_VEC(payload);
    return donjon_trap_new_exception(t->store, t->tag, &vec);
}

static wasm_instance_t *start_throw(wasm_store_t *s, struct thrower *t) {
    donjon_linker_t *l = donjon_linker_new(s);
    *t = (struct thrower){.store = s, .value = 33};
    assert_true(donjon_linker_define_func(l, "env", "host", ":", throws, t));
    wasm_instance_t *i = start_with(s, l, throw_wasm, sizeof throw_wasm);
    t->tag = donjon_extern_as_tag(donjon_instance_export(i, "tag"));
    assert_non_null(t->tag);
    donjon_linker_delete(l);
    return i;
}

static void exceptions(void **state) {
    (void)state;
    wasm_store_t *s = wasm_store_new(engine);
    struct thrower t;
    wasm_instance_t *i = start_throw(s, &t);
    donjon_slot_t slots[1] = {{.i32 = 5}};
    wasm_trap_t *trap = call(i, "raise", slots);
    donjon_tag_t *tag;
    wasm_val_vec_t payload;
    assert_true(donjon_trap_exception(trap, &tag, &payload));
    struct donjon_frame_info frame;
    assert_int_equal(donjon_trap_frames(trap, NULL), 1);
    assert_true(donjon_trap_frame(trap, 0, &frame));
    assert_string_equal(frame.name, "raise");
    assert_ptr_equal(tag, t.tag);
    assert_int_equal(payload.size, 2);
    assert_int_equal(payload.data[0].of.i32, 5);
    assert_int_equal(payload.data[1].of.i64, 7);
    wasm_val_vec_delete(&payload);
    donjon_tag_delete(tag);
    expect_trap(trap, DONJON_TRAP_EXCEPTION, "uncaught exception");

    assert_int_equal(call_i32(i, "catch_host", 0, 0, 0), 33);
    assert_int_equal(call_i32(i, "catch_outside", 0, 0, 0), 33); /* a tail call leaves the try behind */
    donjon_tag_delete(t.tag);
    wasm_functype_t *type = wasm_functype_new_2_0(wasm_valtype_new_i32(), wasm_valtype_new_i64());
    t.tag = donjon_tag_new(s, type); /* of the same type, but another tag */
    wasm_functype_delete(type);
    assert_int_equal(call_i32(i, "catch_host", 0, 0, 0), -2);
    donjon_tag_delete(t.tag);
    wasm_instance_delete(i);
    wasm_store_delete(s);
}

static void millions_of_exceptions(void **state) {
    (void)state;
    wasm_store_t *s = donjon_store_new(engine, &(struct donjon_limits){.heap_bytes = 4 << 20});
    struct thrower t;
    wasm_instance_t *i = start_throw(s, &t);
    donjon_slot_t slots[1] = {{.i32 = 3000000}};
    assert_null(call(i, "many", slots));
    assert_int_equal(slots[0].i64, 21000000);
    assert_true(donjon_store_heap_bytes(s) <= 4 << 20);
    donjon_tag_delete(t.tag);
    wasm_instance_delete(i);
    wasm_store_delete(s);
}

/* Held by the embedder, exceptions stay; when there is no room for more, that is a trap and not the end. */
static void heap_exhausted(void **state) {
    (void)state;
    enum { N = 30000 };
    wasm_store_t *s = donjon_store_new(engine, &(struct donjon_limits){.heap_bytes = 1 << 20});
    struct thrower t;
    wasm_instance_t *i = start_throw(s, &t);
    wasm_trap_t **held = calloc(N, sizeof *held);
    int n = 0;
    for (; n < N; n++) {
        donjon_slot_t slots[1] = {{.i32 = n}};
        held[n] = call(i, "raise", slots);
        if (donjon_trap_kind(held[n]) != DONJON_TRAP_EXCEPTION) break;
    }
    assert_true(n > 10000 && n < N);
    expect_trap(held[n], DONJON_TRAP_OUT_OF_MEMORY, "out of memory");
    for (int k = 0; k < n; k++) {
        wasm_val_vec_t payload;
        assert_true(donjon_trap_exception(held[k], NULL, &payload));
        assert_int_equal(payload.data[0].of.i32, k);
        wasm_val_vec_delete(&payload);
        wasm_trap_delete(held[k]);
    }
    free(held);
    donjon_slot_t slots[1] = {{.i32 = 100000}};
    assert_null(call(i, "many", slots));
    donjon_tag_delete(t.tag);
    wasm_instance_delete(i);
    wasm_store_delete(s);
}

static int foreign_gone;
static void foreign_finalize(void *info) {
    (void)info;
    foreign_gone++;
}

static void foreign_objects_are_collected(void **state) {
    (void)state;
    enum { N = 200000 };
    foreign_gone = 0;
    wasm_store_t *s = donjon_store_new(engine, &(struct donjon_limits){.heap_bytes = 4 << 20});
    wasm_tabletype_t *type = wasm_tabletype_new(wasm_valtype_new_externref(), &(wasm_limits_t){10, 10});
    wasm_table_t *table = wasm_table_new(s, type, NULL);
    wasm_tabletype_delete(type);
    for (int n = 0; n < N; n++) {
        wasm_foreign_t *f = wasm_foreign_new(s);
        assert_non_null(f);
        wasm_foreign_set_host_info_with_finalizer(f, (void *)(intptr_t)n, foreign_finalize);
        if (n < 10) assert_true(wasm_table_set(table, (uint32_t)n, wasm_foreign_as_ref(f)));
        wasm_foreign_delete(f);
    }
    assert_true(foreign_gone > N / 2);
    for (uint32_t n = 0; n < 10; n++) {
        wasm_ref_t *r = wasm_table_get(table, n);
        assert_int_equal((intptr_t)wasm_ref_get_host_info(r), n);
        wasm_ref_delete(r);
    }
    wasm_table_delete(table);
    wasm_store_delete(s);
    assert_int_equal(foreign_gone, N);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(module_errors),
        cmocka_unit_test(missing_imports_are_all_named),
        cmocka_unit_test(imports_of_another_type),
        cmocka_unit_test(unknown_imports_may_trap),
        cmocka_unit_test(linking_instances),
        cmocka_unit_test(segments),
        cmocka_unit_test(memory_limit),
        cmocka_unit_test(table_limit),
        cmocka_unit_test(memory64),
        cmocka_unit_test(fuel),
        cmocka_unit_test(wall_time),
        cmocka_unit_test(interrupt),
        cmocka_unit_test(call_depth),
        cmocka_unit_test(nesting),
        cmocka_unit_test(tee_while_the_old_value_is_needed),
        cmocka_unit_test(v128),
        cmocka_unit_test(callers_and_exits),
        cmocka_unit_test(exceptions),
        cmocka_unit_test(millions_of_exceptions),
        cmocka_unit_test(heap_exhausted),
        cmocka_unit_test(foreign_objects_are_collected),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
