/* Backtraces with names and lines, and what malformed debug information does to them: nothing. */
#include <donjon/wasm.h>
#include "debug.h"
#include "modules/modules.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

struct lines {
    char text[8][256];
    int n;
};

static void add_line(void *ctx, const char *text) {
    struct lines *l = ctx;
    if (l->n < 8) snprintf(l->text[l->n++], sizeof l->text[0], "%s", text);
}

static wasm_trap_t *crash(wasm_store_t *s, const uint8_t *bytes, size_t size) {
    wasm_module_t *m = donjon_module_new(s, bytes, size, NULL);
    assert_non_null(m);
    wasm_trap_t *trap;
    wasm_instance_t *i = wasm_instance_new(s, m, NULL, &trap);
    assert_non_null(i);
    wasm_func_t *run = wasm_extern_as_func(donjon_instance_export(i, "run"));
    donjon_slot_t slots[1] = {{.i32 = 0}};
    trap = donjon_func_call(run, slots);
    assert_non_null(trap);
    wasm_func_delete(run);
    wasm_instance_delete(i);
    wasm_module_delete(m);
    return trap;
}

static void backtrace(const uint8_t *bytes, size_t size) {
    wasm_engine_t *engine = wasm_engine_new();
    wasm_store_t *s = wasm_store_new(engine);
    wasm_trap_t *trap = crash(s, bytes, size);
    struct donjon_frame_info f;
    assert_int_equal(donjon_trap_frames(trap, NULL), 2);
    assert_true(donjon_trap_frame(trap, 0, &f));
    assert_string_equal(f.name, "divide");
    assert_string_equal(f.file, "crash.c");
    assert_int_equal(f.line, 2);
    assert_true(donjon_trap_frame(trap, 1, &f));
    assert_string_equal(f.name, "run");
    assert_string_equal(f.file, "crash.c");
    assert_int_equal(f.line, 8);
    assert_false(donjon_trap_frame(trap, 2, &f));
    struct lines l = {0};
    donjon_trap_print(trap, add_line, &l);
    assert_int_equal(l.n, 3);
    assert_string_equal(l.text[0], "trap: integer divide by zero");
    char expected[256];
    snprintf(expected, sizeof expected, "  1: run (module+0x%zx) at crash.c:8", f.offset);
    assert_string_equal(l.text[2], expected);
    wasm_trap_delete(trap);
    wasm_store_delete(s);
    wasm_engine_delete(engine);
}

static void dwarf4(void **state) {
    (void)state;
    backtrace(crash_dwarf4_wasm, sizeof crash_dwarf4_wasm);
}

static void dwarf5(void **state) {
    (void)state;
    backtrace(crash_dwarf5_wasm, sizeof crash_dwarf5_wasm);
}

static void without_names_and_lines(void **state) {
    (void)state;
    /* The same module without its custom sections: everything up to the first one behind the code section. */
    size_t end = 8;
    for (size_t at = 8; at < sizeof crash_dwarf4_wasm && crash_dwarf4_wasm[at]; at = end) {
        size_t size = 0, shift = 0, p = at + 1;
        do
            size |= (size_t)(crash_dwarf4_wasm[p] & 0x7f) << shift, shift += 7;
        while (crash_dwarf4_wasm[p++] & 0x80);
        end = p + size;
    }
    wasm_engine_t *engine = wasm_engine_new();
    wasm_store_t *s = wasm_store_new(engine);
    wasm_trap_t *trap = crash(s, crash_dwarf4_wasm, end);
    struct donjon_frame_info f;
    assert_true(donjon_trap_frame(trap, 0, &f));
    assert_string_equal(f.name, "func[1]");
    assert_string_equal(f.file, "");
    assert_int_equal(f.line, 0);
    wasm_trap_delete(trap);
    wasm_store_delete(s);
    wasm_engine_delete(engine);
}

/* Bytes of the line tables changed at random, and cut short: any answer will do. */
static void hostile_dwarf(const uint8_t *bytes, size_t size) {
    enum { SECTIONS_AT = 64 }; /* behind the header: customs come last */
    uint8_t *copy = malloc(size);
    uint32_t x = 12345;
    for (int round = 0; round < 20000; round++) {
        memcpy(copy, bytes, size);
        struct custom_section sections[] = {{{0}, {0}}, {{0}, {0}}};
        size_t line = size - SECTIONS_AT;
        for (size_t at = 0; at + 11 < size; at++)
            if (!memcmp(copy + at, ".debug_line", 11)) line = at + 11;
        for (int k = 0; k < 4; k++) {
            x = x * 1664525 + 1013904223;
            copy[line + (x >> 8) % (size - line)] = (uint8_t)(x >> 24);
        }
        sections[0].name = (struct bytes){(const uint8_t *)".debug_line", 11};
        sections[0].payload = (struct bytes){copy + line, (uint32_t)((x >> 4) % (size - line + 1))};
        sections[1].name = (struct bytes){(const uint8_t *)".debug_line_str", 15};
        sections[1].payload = (struct bytes){copy + line, (uint32_t)(size - line)};
        struct module m = {.n_customs = 2, .customs = sections};
        char file[64];
        for (uint32_t offset = 0; offset < 100; offset += 7) {
            debug_line(&m, offset, file, sizeof file);
            assert_true(strlen(file) < sizeof file);
        }
    }
    free(copy);
}

static void hostile(void **state) {
    (void)state;
    hostile_dwarf(crash_dwarf4_wasm, sizeof crash_dwarf4_wasm);
    hostile_dwarf(crash_dwarf5_wasm, sizeof crash_dwarf5_wasm);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dwarf4),
        cmocka_unit_test(dwarf5),
        cmocka_unit_test(without_names_and_lines),
        cmocka_unit_test(hostile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
