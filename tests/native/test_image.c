/* Images: the same whatever the threads, whole round trips, and every reason to refuse one. */
#include <donjon/wasm.h>
#include "gen.h"
#include "modules/modules.h"
#include "native/image.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const uint8_t digest[DONJON_ID_SIZE] = "digest of a module in this test";

struct rig {
    wasm_engine_t *engine;
    wasm_store_t *store;
    wasm_module_t *module;
    wasm_byte_vec_t image;
};

static void rig_start(struct rig *r, const uint8_t *bytes, size_t size, const struct donjon_limits *limits) {
    r->engine = donjon_engine_new(donjon_platform_posix_threads());
    r->store = donjon_store_new(r->engine, limits);
    r->module = donjon_module_new(r->store, bytes, size, NULL);
    assert_non_null(r->module);
    struct donjon_compile_options o = {.threads = 1, .fuel = limits->fuel_enabled};
    memcpy(o.digest, digest, sizeof digest);
    assert_true(donjon_module_compile(r->module, &o, &r->image));
}

static void rig_stop(struct rig *r) {
    wasm_byte_vec_delete(&r->image);
    wasm_module_delete(r->module);
    wasm_store_delete(r->store);
    wasm_engine_delete(r->engine);
}

static const char *use(struct rig *r) {
    return donjon_store_use_image(r->store, r->module, digest, r->image.data, r->image.size);
}

/* ---- compiling ---- */

static void threads_make_no_difference(void **state) {
    (void)state;
    static uint8_t seed[3000], bytes[GEN_MODULE_MAX];
    for (unsigned number = 1; number <= 40; number++) {
        for (size_t k = 0; k < sizeof seed; k++)
            seed[k] = (uint8_t)((k + number) * (k ^ number) * 2654435761u >> 24);
        size_t size = gen_module(seed, sizeof seed, GEN_ALL, bytes);
        struct rig r;
        rig_start(&r, bytes, size, &(struct donjon_limits){0});
        for (unsigned threads = 2; threads <= 5; threads += 3) {
            struct donjon_compile_options o = {.threads = threads};
            memcpy(o.digest, digest, sizeof digest);
            wasm_byte_vec_t again;
            assert_true(donjon_module_compile(r.module, &o, &again));
            assert_int_equal(again.size, r.image.size);
            assert_memory_equal(again.data, r.image.data, again.size);
            wasm_byte_vec_delete(&again);
        }
        assert_null(use(&r));
        rig_stop(&r);
    }
}

static void count(void *ctx, uint32_t done, uint32_t all) {
    uint32_t *sum = ctx;
    assert_in_range(done, 1, all);
    sum[0]++, sum[1] = all;
}

static void progress_counts_functions(void **state) {
    (void)state;
    struct rig r;
    uint32_t sum[2] = {0};
    rig_start(&r, table_wasm, sizeof table_wasm, &(struct donjon_limits){0});
    struct donjon_compile_options o = {.progress = count, .progress_ctx = sum};
    wasm_byte_vec_t image;
    assert_true(donjon_module_compile(r.module, &o, &image));
    struct donjon_module_counts c = donjon_module_counts(r.module);
    assert_int_equal(sum[0], c.funcs - c.imported_funcs);
    assert_int_equal(sum[1], sum[0]);
    wasm_byte_vec_delete(&image);
    rig_stop(&r);
}

/* ---- using ---- */

struct seen {
    unsigned n;
    char names[8][32];
};

static void see(void *ctx, const struct donjon_code *c) {
    struct seen *s = ctx;
    assert_non_null(c->address);
    assert_true(c->size > 0);
    if (s->n < 8) snprintf(s->names[s->n], sizeof s->names[0], "%.*s", (int)c->name_size, c->name ? c->name : "");
    s->n++;
}

/* What the program below prints, as a backtrace: with code made by other means it must be the same. */
struct lines {
    char text[1024];
};
static void add_line(void *ctx, const char *line) {
    struct lines *l = ctx;
    size_t n = strlen(l->text);
    snprintf(l->text + n, sizeof l->text - n, "%s\n", line);
}

static void crash(bool ahead, bool interpret, struct lines *out, struct seen *seen) {
    struct rig r;
    rig_start(&r, crash_dwarf4_wasm, sizeof crash_dwarf4_wasm, &(struct donjon_limits){.interpret = interpret});
    donjon_store_on_code(r.store, see, seen);
    if (ahead) assert_null(use(&r));
    wasm_trap_t *trap;
    wasm_instance_t *i = wasm_instance_new(r.store, r.module, NULL, &trap);
    assert_non_null(i);
    if (ahead) assert_int_equal(seen->n, donjon_module_counts(r.module).funcs); /* there before anything runs */
    wasm_func_t *run = wasm_extern_as_func(donjon_instance_export(i, "run"));
    donjon_slot_t slots[1] = {{.i32 = 0}};
    trap = donjon_func_call(run, slots);
    assert_non_null(trap);
    donjon_trap_print(trap, add_line, out);
    wasm_trap_delete(trap);
    wasm_func_delete(run);
    wasm_instance_delete(i);
    rig_stop(&r);
}

static void backtraces_are_the_same(void **state) {
    (void)state;
    struct lines lazy = {{0}}, ahead = {{0}}, interpreted = {{0}};
    struct seen compiled = {0}, installed = {0}, none = {0};
    crash(false, false, &lazy, &compiled);
    crash(true, false, &ahead, &installed);
    crash(false, true, &interpreted, &none);
    assert_string_equal(lazy.text, ahead.text);
    assert_string_equal(lazy.text, interpreted.text);
    assert_non_null(strstr(lazy.text, "divide"));
    assert_int_equal(compiled.n, 1); /* "divide" is inlined */
    assert_string_equal(compiled.names[0], "run");
}

static void an_image_can_be_taken_back(void **state) {
    (void)state;
    struct rig r;
    struct seen seen = {0};
    rig_start(&r, crash_dwarf4_wasm, sizeof crash_dwarf4_wasm, &(struct donjon_limits){0});
    donjon_store_on_code(r.store, see, &seen);
    assert_null(use(&r));
    assert_null(donjon_store_use_image(r.store, r.module, digest, NULL, 0));
    wasm_trap_t *trap;
    wasm_instance_t *i = wasm_instance_new(r.store, r.module, NULL, &trap);
    assert_non_null(i);
    assert_int_equal(seen.n, 0);
    wasm_instance_delete(i);
    rig_stop(&r);
}

/* ---- refusing ---- */

static const char *with_u32(struct rig *r, size_t at, uint32_t value) {
    uint32_t old;
    memcpy(&old, r->image.data + at, 4);
    memcpy(r->image.data + at, &value, 4);
    const char *why = use(r);
    memcpy(r->image.data + at, &old, 4);
    assert_null(use(r));
    return why ? why : "nothing";
}
#define HEADER(field) offsetof(struct image_header, field)

static void headers_are_refused_with_their_reason(void **state) {
    (void)state;
    struct rig r;
    rig_start(&r, throw_wasm, sizeof throw_wasm, &(struct donjon_limits){0});
    assert_null(use(&r));
    assert_string_equal(with_u32(&r, HEADER(magic), 0), "not compiled code of this kind");
    assert_string_equal(with_u32(&r, HEADER(version), 99), "compiled code in another version's format");
    assert_string_equal(with_u32(&r, HEADER(flags), 8), "malformed: unknown flags");
    assert_string_equal(with_u32(&r, HEADER(zero), 1), "malformed: unknown flags");
    assert_string_equal(with_u32(&r, HEADER(engine), 1), "compiled by another build of the engine");
    assert_string_equal(with_u32(&r, HEADER(cpu), 1), "compiled for another kind of CPU");
    assert_string_equal(with_u32(&r, HEADER(digest), 1), "compiled from another module");
    assert_string_equal(with_u32(&r, HEADER(module_size), 1), "compiled from another module");
    assert_string_equal(with_u32(&r, HEADER(n_funcs), 1), "malformed: not as many functions as the module");
    assert_string_equal(with_u32(&r, HEADER(n_landings), UINT32_MAX), "malformed: its parts do not add up to its size");
    assert_string_equal(with_u32(&r, HEADER(code_size), UINT32_MAX), "malformed: its parts do not add up to its size");
    assert_string_equal(with_u32(&r, HEADER(flags), IMAGE_FUEL), "compiled for counting fuel");
    for (size_t size = 0; size < r.image.size; size += size < 200 ? 1 : 37)
        assert_non_null(donjon_store_use_image(r.store, r.module, digest, r.image.data, size));
    uint8_t other[DONJON_ID_SIZE] = {1};
    assert_string_equal(donjon_store_use_image(r.store, r.module, other, r.image.data, r.image.size),
                        "compiled from another module");
    rig_stop(&r);
}

static void tables_are_refused_with_their_reason(void **state) {
    (void)state;
    struct rig r;
    rig_start(&r, throw_wasm, sizeof throw_wasm, &(struct donjon_limits){0});
    struct image_header h;
    memcpy(&h, r.image.data, sizeof h);
    assert_true(h.n_landings > 0);
    size_t funcs = sizeof h, landings = funcs + h.n_funcs * sizeof(struct image_func);
    assert_string_equal(with_u32(&r, funcs, 64 << 20), "malformed: function out of bounds");
    assert_string_equal(with_u32(&r, funcs, 4), "malformed: function out of bounds");
    assert_string_equal(with_u32(&r, funcs + 4, UINT32_MAX), "malformed: function out of bounds");
    assert_string_equal(with_u32(&r, funcs + 8, 4), "malformed: frame of no possible size");
    assert_string_equal(with_u32(&r, funcs + 8, 0xfffffff8), "malformed: frame of no possible size");
    assert_string_equal(with_u32(&r, funcs + 12, UINT32_MAX), "malformed: more landings or relocations than there are");
    assert_string_equal(with_u32(&r, funcs + 16, UINT32_MAX), "malformed: more landings or relocations than there are");
    assert_string_equal(with_u32(&r, landings, UINT32_MAX), "malformed: landing out of bounds");
    assert_string_equal(with_u32(&r, landings + 4, 77), "malformed: landing without a tag");
    assert_string_equal(with_u32(&r, landings + 8, UINT32_MAX), "malformed: landing out of bounds");
    rig_stop(&r);
}

static void relocations_are_refused_with_their_reason(void **state) {
    (void)state;
    struct rig r;
    rig_start(&r, table_wasm, sizeof table_wasm, &(struct donjon_limits){0});
    struct image_header h;
    memcpy(&h, r.image.data, sizeof h);
    assert_true(h.n_relocations > 0);
    size_t at = sizeof h + h.n_funcs * sizeof(struct image_func) + h.n_landings * sizeof(struct landing);
    assert_string_equal(with_u32(&r, at, UINT32_MAX - 2), "malformed: relocation out of bounds");
    assert_string_equal(with_u32(&r, at + 4, 1000), "malformed: relocation without a type");
    rig_stop(&r);
}

static void fuel_must_match(void **state) {
    (void)state;
    struct rig r;
    rig_start(&r, table_wasm, sizeof table_wasm, &(struct donjon_limits){.fuel_enabled = true, .fuel = 1000});
    assert_null(use(&r));
    struct donjon_compile_options o = {0};
    memcpy(o.digest, digest, sizeof digest);
    wasm_byte_vec_delete(&r.image);
    assert_true(donjon_module_compile(r.module, &o, &r.image));
    assert_string_equal(use(&r), "compiled without counting fuel");
    rig_stop(&r);
}

static void checks_must_match(void **state) {
    (void)state;
    struct rig r;
    rig_start(&r, table_wasm, sizeof table_wasm, &(struct donjon_limits){.explicit_checks = true});
    assert_string_equal(use(&r), "compiled for where memory faults can be caught");
    struct donjon_compile_options o = {.explicit_checks = true};
    memcpy(o.digest, digest, sizeof digest);
    wasm_byte_vec_delete(&r.image);
    assert_true(donjon_module_compile(r.module, &o, &r.image));
    assert_null(use(&r));
    rig_stop(&r);
}

static void an_interpreting_store_takes_none(void **state) {
    (void)state;
    struct rig r;
    rig_start(&r, table_wasm, sizeof table_wasm, &(struct donjon_limits){.interpret = true});
    assert_string_equal(use(&r), "this store interprets");
    rig_stop(&r);
}

int main(void) {
    if (!donjon_cpu_id()) {
        puts("SKIP: no native code for this CPU");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_make_no_difference),
        cmocka_unit_test(progress_counts_functions),
        cmocka_unit_test(backtraces_are_the_same),
        cmocka_unit_test(an_image_can_be_taken_back),
        cmocka_unit_test(headers_are_refused_with_their_reason),
        cmocka_unit_test(tables_are_refused_with_their_reason),
        cmocka_unit_test(relocations_are_refused_with_their_reason),
        cmocka_unit_test(fuel_must_match),
        cmocka_unit_test(checks_must_match),
        cmocka_unit_test(an_interpreting_store_takes_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
