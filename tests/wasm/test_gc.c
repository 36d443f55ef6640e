/* Garbage collection from both sides: programs under memory pressure in each tier, and references in the embedder's
 * hands. */
#include "heap.h"
#include "objects.h"
#include "modules/gc.h"

#include <donjon/wasm.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { HEAP = 8 << 20 };

struct world {
    struct engine *engine;
    struct store *store;
    struct instance *instance;
};

static int open(void **state, bool interpret, bool fuel) {
    static struct world w;
    struct module_error err;
    struct instantiate_error ierr;
    struct store_limits limits = {.heap_bytes = HEAP, .interpret = interpret, .fuel_enabled = fuel, .fuel = 100000};
    w.engine = engine_new(donjon_platform_posix());
    w.store = store_new(w.engine, &limits);
    struct module *m = module_new(w.engine, gc_wasm, sizeof gc_wasm, &err);
    w.instance = m ? instantiate(w.store, m, NULL, false, &ierr) : NULL;
    module_unref(m);
    *state = &w;
    return w.instance ? 0 : -1;
}
static int native(void **state) {
    return open(state, false, false);
}
static int interpreted(void **state) {
    return open(state, true, false);
}
static int native_fuel(void **state) {
    return open(state, false, true);
}
static int interpreted_fuel(void **state) {
    return open(state, true, true);
}

static int teardown(void **state) {
    struct world *w = *state;
    store_delete(w->store);
    engine_delete(w->engine);
    return 0;
}

static enum trap_kind run(void **state, const char *name, slot *value) {
    struct world *w = *state;
    assert_true(donjon_platform_posix_rearm());
    return func_call(instance_export(w->instance, name, strlen(name)).func, value);
}

static uint32_t call(void **state, const char *name, uint32_t n) {
    slot value[2] = {{.i32 = n}};
    assert_int_equal(run(state, name, value), TRAP_NONE);
    return value[0].i32;
}

/* Each makes many times what the heap holds. */
static void pressure(void **state) {
    struct world *w = *state;
    assert_int_equal(call(state, "trees", 300), 300 * 2047 + 32767);
    assert_int_equal(call(state, "queue", 1000000), 1783792163u);
    assert_int_equal(call(state, "arrays", 20000), 65671);
    assert_true(heap_bytes(w->store->heap) <= HEAP);
}

static void values(void **state) {
    assert_int_equal(call(state, "constant", 0), 4);
    slot value[2] = {{.i32 = 0}};
    assert_int_equal(run(state, "mixed", value), TRAP_NONE);
    assert_true(value[0].f64 == 4 + 1.5 + 2.5 - 1 + 200 - 2 + 5);
}

/* Who wants more than there is gets a trap, and the next one finds everything free. */
static void exhaustion(void **state) {
    for (int i = 0; i < 3; i++) {
        slot value[2] = {{.i32 = 0}};
        assert_int_equal(run(state, "hoard", value), TRAP_OUT_OF_MEMORY);
        value[0].i32 = UINT32_MAX;
        assert_int_equal(run(state, "huge", value), TRAP_OUT_OF_MEMORY);
        assert_int_equal(call(state, "huge", 1000000), 1000000);
        assert_int_equal(call(state, "trees", 10), 10 * 2047 + 32767);
    }
}

/* A structure behind an externref is one still. */
static void hidden(void **state) {
    call(state, "hide", 4711);
    call(state, "arrays", 5000);
    call(state, "trees", 100);
    assert_int_equal(call(state, "seek", 0), 4711);
}

/* Instructions on many elements cost by the size. */
static void fuel(void **state) {
    slot value[2] = {{.i32 = 1000}};
    assert_int_equal(run(state, "fill", value), TRAP_FUEL);
}

/* A graph of structures and arrays of any size under a table, which changes at random, and what it should be. */
static void random_graph(void **state) {
    struct world *w = *state;
    struct heap *h = w->store->heap;
    enum { ROOTS = 64, STEPS = 8000 };
    struct fieldtype field = {VT_REF(true, HEAP_ANY), true};
    struct rectype type = {.kind = COMP_ARRAY, .final = true, .super = TYPE_NONE, .agg = {1, &field}};
    uint32_t id, bad, random = 7;
    assert_int_equal(type_intern_group(w->engine, &type, 1, &id, &bad), INTERN_OK);
    struct tabletype tt = {VT_REF(true, HEAP_ANY), {.min = ROOTS, .max = UINT64_MAX}};
    struct table *t = table_new(w->store, &tt, (slot){0});
    static uint32_t lengths[ROOTS];
    for (int step = 0; step < STEPS; step++) {
        random = random * 1664525 + 1013904223;
        uint32_t root = (random >> 8) % ROOTS, n = 1u << (random >> 28), other = (random >> 16) % ROOTS;
        if (n > 16384) n = 16384;
        struct object *o = heap_new_object(h, id, OBJECT_ELEMS + 8 * (uint64_t)n);
        if (!o) { /* drop half */
            for (uint32_t k = 0; k < ROOTS; k += 2)
                t->elems[k].i64 = lengths[k] = 0;
            continue;
        }
        o->length = n;
        for (uint32_t k = 0; k < n; k++)
            assert_int_equal(((slot *)o->elems)[k].i64, 0);
        for (uint32_t k = 0; k < n; k++)
            ((slot *)o->elems)[k].i64 = k << 1 | REF_TAG_I31;
        if (step % 16 && other != root) ((slot *)o->elems)[n - 1] = t->elems[other];
        t->elems[root].ref = o;
        lengths[root] = n;
        const struct object *check = t->elems[other].ref;
        if (!check) continue;
        assert_int_equal(check->type_id, id);
        assert_int_equal(check->length, lengths[other]);
        for (uint32_t k = 0; k + 1 < check->length; k++)
            assert_int_equal(((const slot *)check->elems)[k].i64, k << 1 | REF_TAG_I31);
    }
}

/* ---- the C API ---- */

struct fixture {
    wasm_engine_t *engine;
    wasm_store_t *store;
    wasm_instance_t *instance;
};

static int api_setup(void **state) {
    static struct fixture f;
    f.engine = wasm_engine_new();
    f.store = donjon_store_new(f.engine, &(struct donjon_limits){.heap_bytes = HEAP});
    struct donjon_module_error err;
    wasm_module_t *m = donjon_module_new(f.store, gc_wasm, sizeof gc_wasm, &err);
    wasm_trap_t *trap = NULL;
    wasm_extern_vec_t none = WASM_EMPTY_VEC;
    f.instance = m ? wasm_instance_new(f.store, m, &none, &trap) : NULL;
    wasm_module_delete(m);
    *state = &f;
    return f.instance ? 0 : -1;
}

static int api_teardown(void **state) {
    struct fixture *f = *state;
    wasm_instance_delete(f->instance);
    wasm_store_delete(f->store);
    wasm_engine_delete(f->engine);
    return 0;
}

/* NULL, or the trap. */
static wasm_trap_t *api_call(void **state, const char *name, wasm_val_t in, wasm_val_t *out) {
    struct fixture *f = *state;
    assert_true(donjon_platform_posix_rearm());
    wasm_val_vec_t args = {1, &in}, results = {1, out};
    wasm_extern_t *x = donjon_instance_export(f->instance, name);
    wasm_trap_t *trap = wasm_func_call(wasm_extern_as_func(x), &args, &results);
    wasm_extern_delete(x);
    return trap;
}

static wasm_val_t i32(int32_t v) {
    return (wasm_val_t){.kind = WASM_I32, .of.i32 = v};
}
static wasm_val_t reference(wasm_valkind_t kind, wasm_ref_t *r) {
    return (wasm_val_t){.kind = kind, .of.ref = r};
}

static int32_t number(void **state, const char *name, wasm_val_t in) {
    wasm_val_t out;
    assert_null(api_call(state, name, in, &out));
    assert_int_equal(out.kind, WASM_I32);
    return out.of.i32;
}

static wasm_ref_t *made(void **state, const char *name, wasm_val_t in, wasm_valkind_t kind) {
    wasm_val_t out;
    assert_null(api_call(state, name, in, &out));
    assert_int_equal(out.kind, kind);
    return out.of.ref;
}

/* Only a handle holds it. */
static void handles_pin(void **state) {
    wasm_ref_t *x = made(state, "node", i32(99), DONJON_OTHERREF);
    number(state, "trees", i32(200));
    assert_int_equal(number(state, "value", reference(DONJON_OTHERREF, x)), 99);
    wasm_ref_t *again = made(state, "same", reference(DONJON_OTHERREF, x), DONJON_OTHERREF);
    assert_true(wasm_ref_same(x, again));
    wasm_ref_delete(x);
    wasm_ref_delete(again);
}

static void i31s(void **state) {
    wasm_ref_t *x = made(state, "i31", i32(5), DONJON_OTHERREF), *y = made(state, "i31", i32(5), DONJON_OTHERREF);
    assert_true(wasm_ref_same(x, y));
    assert_int_equal(number(state, "what", reference(DONJON_OTHERREF, x)), 1 | 8);
    wasm_ref_t *e = made(state, "to_extern", reference(DONJON_OTHERREF, x), WASM_EXTERNREF);
    assert_true(wasm_ref_same(x, e));
    wasm_ref_t *back = made(state, "to_any", reference(WASM_EXTERNREF, e), DONJON_OTHERREF);
    assert_true(wasm_ref_same(x, back));
    wasm_ref_delete(x), wasm_ref_delete(y), wasm_ref_delete(e), wasm_ref_delete(back);
}

/* The embedder's own references go through any and come back as they were; to casts they are nothing. */
static void host_as_any(void **state) {
    struct fixture *f = *state;
    wasm_ref_t *foreign = wasm_foreign_as_ref(wasm_foreign_new(f->store));
    wasm_ref_t *any = made(state, "to_any", reference(WASM_EXTERNREF, foreign), DONJON_OTHERREF);
    assert_ptr_equal(any, foreign);
    assert_int_equal(number(state, "what", reference(DONJON_OTHERREF, any)), 0);
    wasm_ref_t *e = made(state, "to_extern", reference(DONJON_OTHERREF, any), WASM_EXTERNREF);
    assert_ptr_equal(e, foreign);
    wasm_ref_delete(any), wasm_ref_delete(e), wasm_ref_delete(foreign);
}

/* What is not of the parameter's type is refused before anything runs. */
static void types_are_checked(void **state) {
    struct fixture *f = *state;
    wasm_ref_t *foreign = wasm_foreign_as_ref(wasm_foreign_new(f->store)),
               *x = made(state, "i31", i32(1), DONJON_OTHERREF);
    wasm_val_t out;
    wasm_trap_t *trap = api_call(state, "value", reference(DONJON_OTHERREF, foreign), &out);
    assert_non_null(trap);
    wasm_trap_delete(trap);
    trap = api_call(state, "value", reference(DONJON_OTHERREF, x), &out);
    assert_non_null(trap);
    wasm_trap_delete(trap);
    trap = api_call(state, "value", reference(DONJON_OTHERREF, NULL), &out);
    assert_non_null(trap);
    assert_int_equal(donjon_trap_kind(trap), DONJON_TRAP_NULL_STRUCT);
    wasm_trap_delete(trap);
    wasm_ref_delete(x), wasm_ref_delete(foreign);
}

int main(void) {
#define BOTH(f)                                                                                                        \
    cmocka_unit_test_setup_teardown(f, native, teardown), cmocka_unit_test_setup_teardown(f, interpreted, teardown)
#define API(f) cmocka_unit_test_setup_teardown(f, api_setup, api_teardown)
    const struct CMUnitTest tests[] = {
        BOTH(pressure),
        BOTH(values),
        BOTH(exhaustion),
        BOTH(hidden),
        BOTH(random_graph),
        cmocka_unit_test_setup_teardown(fuel, native_fuel, teardown),
        cmocka_unit_test_setup_teardown(fuel, interpreted_fuel, teardown),
        API(handles_pin),
        API(i31s),
        API(host_as_any),
        API(types_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
