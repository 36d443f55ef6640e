/* wasm.h as its users know it: each test is a program in the manner of the wasm-c-api's own examples. */
#include <donjon/platform.h>
#include <wasm.h>
#include "modules/modules.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define own

struct fixture {
    wasm_engine_t *engine;
    wasm_store_t *store;
};

static int setup(void **state) {
    struct fixture *f = malloc(sizeof *f);
    f->engine = wasm_engine_new();
    f->store = wasm_store_new(f->engine);
    *state = f;
    return f->store ? 0 : -1;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    wasm_store_delete(f->store);
    wasm_engine_delete(f->engine);
    free(f);
    return 0;
}

static wasm_store_t *store_of(void **state) {
    assert_true(donjon_platform_posix_rearm()); /* cmocka takes the signals for itself before each test */
    return ((struct fixture *)*state)->store;
}

static own wasm_module_t *load(wasm_store_t *store, const uint8_t *bytes, size_t size) {
    wasm_byte_vec_t binary;
    wasm_byte_vec_new(&binary, size, (const char *)bytes);
    assert_true(wasm_module_validate(store, &binary));
    own wasm_module_t *module = wasm_module_new(store, &binary);
    assert_non_null(module);
    wasm_byte_vec_delete(&binary);
    return module;
}

static own wasm_instance_t *start(wasm_store_t *store, const uint8_t *bytes, size_t size,
                                  const wasm_extern_vec_t *imports) {
    own wasm_module_t *module = load(store, bytes, size);
    own wasm_trap_t *trap = NULL;
    own wasm_instance_t *instance = wasm_instance_new(store, module, imports, &trap);
    assert_null(trap);
    assert_non_null(instance);
    wasm_module_delete(module);
    return instance;
}
#define START(store, name, imports) start(store, name##_wasm, sizeof name##_wasm, imports)

static int32_t call_i32(const wasm_func_t *f, int32_t a, int32_t b, size_t n_args) {
    wasm_val_t args[] = {WASM_I32_VAL(a), WASM_I32_VAL(b)};
    wasm_val_t results[] = {WASM_INIT_VAL};
    wasm_val_vec_t args_vec = {n_args, args}, results_vec = WASM_ARRAY_VEC(results);
    assert_null(wasm_func_call(f, &args_vec, &results_vec));
    assert_int_equal(results[0].kind, WASM_I32);
    return results[0].of.i32;
}

static void expect_trap(own wasm_trap_t *trap, const char *text) {
    assert_non_null(trap);
    own wasm_message_t message;
    wasm_trap_message(trap, &message);
    assert_string_equal(message.data, text);
    assert_int_equal(message.data[message.size - 1], 0);
    wasm_byte_vec_delete(&message);
    wasm_trap_delete(trap);
}

/* ---- hello: a callback without arguments ---- */

static int greetings;
static own wasm_trap_t *hello_callback(const wasm_val_vec_t *args, wasm_val_vec_t *results) {
    assert_int_equal(args->size, 0);
    assert_int_equal(results->size, 0);
    greetings++;
    return NULL;
}

static void hello(void **state) {
    wasm_store_t *store = store_of(state);
    own wasm_functype_t *type = wasm_functype_new_0_0();
    own wasm_func_t *f = wasm_func_new(store, type, hello_callback);
    wasm_functype_delete(type);
    wasm_extern_t *externs[] = {wasm_func_as_extern(f)};
    wasm_extern_vec_t imports = WASM_ARRAY_VEC(externs);
    own wasm_instance_t *instance = START(store, hello, &imports);
    wasm_func_delete(f);

    own wasm_extern_vec_t exports;
    wasm_instance_exports(instance, &exports);
    assert_int_equal(exports.size, 1);
    const wasm_func_t *run = wasm_extern_as_func(exports.data[0]);
    wasm_instance_delete(instance);
    wasm_val_vec_t empty = WASM_EMPTY_VEC;
    assert_null(wasm_func_call(run, &empty, &empty));
    assert_int_equal(greetings, 1);
    wasm_extern_vec_delete(&exports);
}

/* ---- callback: arguments, results, an environment, and its finalizer ---- */

static int printed;
static own wasm_trap_t *print_callback(const wasm_val_vec_t *args, wasm_val_vec_t *results) {
    printed = args->data[0].of.i32;
    wasm_val_copy(&results->data[0], &args->data[0]);
    return NULL;
}

static own wasm_trap_t *closure_callback(void *env, const wasm_val_vec_t *args, wasm_val_vec_t *results) {
    (void)args;
    results->data[0] = (wasm_val_t)WASM_I32_VAL(*(int *)env);
    return NULL;
}

static int finalized;
static void count_finalized(void *env) {
    (void)env;
    finalized++;
}

static void callback(void **state) {
    (void)state;
    wasm_engine_t *engine = wasm_engine_new();
    wasm_store_t *store = wasm_store_new(engine);
    own wasm_functype_t *print_type = wasm_functype_new_1_1(wasm_valtype_new_i32(), wasm_valtype_new_i32());
    own wasm_func_t *print = wasm_func_new(store, print_type, print_callback);
    int i = 42;
    own wasm_functype_t *closure_type = wasm_functype_new_0_1(wasm_valtype_new_i32());
    own wasm_func_t *closure = wasm_func_new_with_env(store, closure_type, closure_callback, &i, count_finalized);
    wasm_functype_delete(print_type);
    wasm_functype_delete(closure_type);
    wasm_extern_t *externs[] = {wasm_func_as_extern(print), wasm_func_as_extern(closure)};
    wasm_extern_vec_t imports = WASM_ARRAY_VEC(externs);
    own wasm_instance_t *instance = START(store, callback, &imports);
    own wasm_extern_vec_t exports;
    wasm_instance_exports(instance, &exports);
    assert_int_equal(call_i32(wasm_extern_as_func(exports.data[0]), 3, 4, 2), 49);
    assert_int_equal(printed, 7);
    wasm_extern_vec_delete(&exports);
    wasm_instance_delete(instance);
    wasm_func_delete(print);
    wasm_func_delete(closure);
    finalized = 0;
    wasm_engine_delete(engine); /* before its store: it stays as long as that */
    wasm_store_delete(store);
    assert_int_equal(finalized, 1);
}

/* ---- trap: from the host, from wasm, with a backtrace ---- */

static own wasm_trap_t *fail_callback(void *env, const wasm_val_vec_t *args, wasm_val_vec_t *results) {
    (void)args, (void)results;
    own wasm_name_t message;
    wasm_name_new_from_string_nt(&message, "callback abort");
    own wasm_trap_t *trap = wasm_trap_new(env, &message);
    wasm_name_delete(&message);
    return trap;
}

static void traps(void **state) {
    wasm_store_t *store = store_of(state);
    own wasm_functype_t *type = wasm_functype_new_0_1(wasm_valtype_new_i32());
    own wasm_func_t *fail = wasm_func_new_with_env(store, type, fail_callback, store, NULL);
    wasm_functype_delete(type);
    wasm_extern_t *externs[] = {wasm_func_as_extern(fail)};
    wasm_extern_vec_t imports = WASM_ARRAY_VEC(externs);
    own wasm_instance_t *instance = START(store, trap, &imports);
    own wasm_extern_vec_t exports;
    wasm_instance_exports(instance, &exports);
    wasm_val_t results[] = {WASM_INIT_VAL}, zero[] = {WASM_I32_VAL(0)};
    wasm_val_vec_t none = WASM_EMPTY_VEC, one = WASM_ARRAY_VEC(zero), out = WASM_ARRAY_VEC(results);

    own wasm_trap_t *trap = wasm_func_call(wasm_extern_as_func(exports.data[0]), &one, &out);
    own wasm_frame_t *origin = wasm_trap_origin(trap);
    assert_non_null(origin);
    assert_int_equal(wasm_frame_func_index(origin), 1);
    assert_true(wasm_instance_same(wasm_frame_instance(origin), instance));
    assert_true(wasm_frame_func_offset(origin) > 0);
    assert_true(wasm_frame_module_offset(origin) > wasm_frame_func_offset(origin));
    wasm_frame_delete(origin);
    own wasm_frame_vec_t trace;
    wasm_trap_trace(trap, &trace);
    assert_int_equal(trace.size, 2);
    assert_int_equal(wasm_frame_func_index(trace.data[1]), 2);
    wasm_frame_vec_delete(&trace);
    expect_trap(trap, "integer divide by zero");

    trap = wasm_func_call(wasm_extern_as_func(exports.data[1]), &none, &out);
    wasm_trap_trace(trap, &trace);
    assert_int_equal(trace.size, 1); /* the wasm function that called the host */
    wasm_frame_vec_delete(&trace);
    expect_trap(trap, "callback abort");
    expect_trap(wasm_func_call(wasm_extern_as_func(exports.data[2]), &none, &out), "unreachable");
    expect_trap(wasm_func_call(wasm_extern_as_func(exports.data[3]), &one, &out), "call stack exhausted");

    /* The host function itself, and wrong arguments. */
    expect_trap(wasm_func_call(fail, &none, &out), "callback abort");
    expect_trap(wasm_func_call(wasm_extern_as_func(exports.data[0]), &none, &out),
                "wrong number of arguments or room for results");
    wasm_val_t wide[] = {WASM_I64_VAL(0)};
    wasm_val_vec_t wrong = WASM_ARRAY_VEC(wide);
    expect_trap(wasm_func_call(wasm_extern_as_func(exports.data[0]), &wrong, &out),
                "arguments are of other types than the function's parameters");
    wasm_extern_vec_delete(&exports);
    wasm_instance_delete(instance);
    wasm_func_delete(fail);
}

static void trap_at_start(void **state) {
    wasm_store_t *store = store_of(state);
    own wasm_module_t *module = load(store, start_wasm, sizeof start_wasm);
    own wasm_trap_t *trap = NULL;
    wasm_extern_vec_t imports = WASM_EMPTY_VEC;
    assert_null(wasm_instance_new(store, module, &imports, &trap));
    own wasm_frame_t *origin = wasm_trap_origin(trap);
    assert_int_equal(wasm_frame_func_index(origin), 0);
    wasm_frame_delete(origin);
    expect_trap(trap, "unreachable");
    wasm_module_delete(module);
}

/* ---- reflect: types of imports, exports and externals ---- */

static void expect_kinds(const wasm_valtype_vec_t *types, size_t n, const wasm_valkind_t kinds[]) {
    assert_int_equal(types->size, n);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(wasm_valtype_kind(types->data[i]), kinds[i]);
}

static void reflect(void **state) {
    wasm_store_t *store = store_of(state);
    own wasm_module_t *module = load(store, reflect_wasm, sizeof reflect_wasm);
    own wasm_importtype_vec_t imports;
    wasm_module_imports(module, &imports);
    assert_int_equal(imports.size, 2);
    const wasm_name_t *name = wasm_importtype_module(imports.data[0]);
    assert_memory_equal(name->data, "env", name->size);
    const wasm_globaltype_t *g = wasm_externtype_as_globaltype_const(wasm_importtype_type(imports.data[0]));
    assert_int_equal(wasm_globaltype_mutability(g), WASM_CONST);
    assert_int_equal(wasm_valtype_kind(wasm_globaltype_content(g)), WASM_I64);
    const wasm_functype_t *f = wasm_externtype_as_functype_const(wasm_importtype_type(imports.data[1]));
    expect_kinds(wasm_functype_params(f), 2, (wasm_valkind_t[]){WASM_I32, WASM_I64});
    expect_kinds(wasm_functype_results(f), 2, (wasm_valkind_t[]){WASM_F32, WASM_F64});
    own wasm_importtype_vec_t copy;
    wasm_importtype_vec_copy(&copy, &imports);
    wasm_importtype_vec_delete(&imports);
    assert_int_equal(wasm_externtype_kind(wasm_importtype_type(copy.data[1])), WASM_EXTERN_FUNC);
    wasm_importtype_vec_delete(&copy);

    own wasm_exporttype_vec_t exports;
    wasm_module_exports(module, &exports);
    assert_int_equal(exports.size, 4);
    static const wasm_externkind_t kinds[] = {WASM_EXTERN_FUNC, WASM_EXTERN_GLOBAL, WASM_EXTERN_TABLE,
                                              WASM_EXTERN_MEMORY};
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(wasm_externtype_kind(wasm_exporttype_type(exports.data[i])), kinds[i]);
    assert_memory_equal(wasm_exporttype_name(exports.data[2])->data, "table", 5);
    const wasm_tabletype_t *t = wasm_externtype_as_tabletype_const(wasm_exporttype_type(exports.data[2]));
    assert_int_equal(wasm_tabletype_limits(t)->min, 0);
    assert_int_equal(wasm_tabletype_limits(t)->max, 50);
    const wasm_memorytype_t *m = wasm_externtype_as_memorytype_const(wasm_exporttype_type(exports.data[3]));
    assert_int_equal(wasm_memorytype_limits(m)->max, wasm_limits_max_default);
    assert_null(wasm_externtype_as_functype_const(wasm_exporttype_type(exports.data[3])));
    wasm_exporttype_vec_delete(&exports);
    wasm_module_delete(module);
}

/* ---- globals ---- */

static own wasm_global_t *new_global(wasm_store_t *store, wasm_valkind_t kind, wasm_mutability_t mut, wasm_val_t v) {
    own wasm_globaltype_t *type = wasm_globaltype_new(wasm_valtype_new(kind), mut);
    own wasm_global_t *g = wasm_global_new(store, type, &v);
    wasm_globaltype_delete(type);
    return g;
}

static wasm_val_t call_0_1(const wasm_extern_t *f) {
    wasm_val_t results[] = {WASM_INIT_VAL};
    wasm_val_vec_t none = WASM_EMPTY_VEC, out = WASM_ARRAY_VEC(results);
    assert_null(wasm_func_call(wasm_extern_as_func_const(f), &none, &out));
    return results[0];
}

static void call_1_0(const wasm_extern_t *f, wasm_val_t v) {
    wasm_val_t args[] = {v};
    wasm_val_vec_t in = WASM_ARRAY_VEC(args), none = WASM_EMPTY_VEC;
    assert_null(wasm_func_call(wasm_extern_as_func_const(f), &in, &none));
}

static void globals(void **state) {
    wasm_store_t *store = store_of(state);
    own wasm_global_t *f32 = new_global(store, WASM_F32, WASM_CONST, (wasm_val_t)WASM_F32_VAL(1));
    own wasm_global_t *i64 = new_global(store, WASM_I64, WASM_VAR, (wasm_val_t)WASM_I64_VAL(4));
    assert_null(new_global(store, WASM_I64, WASM_VAR, (wasm_val_t)WASM_I32_VAL(4)));
    wasm_extern_t *externs[] = {wasm_global_as_extern(f32), wasm_global_as_extern(i64)};
    wasm_extern_vec_t imports = WASM_ARRAY_VEC(externs);
    own wasm_instance_t *instance = START(store, global, &imports);
    own wasm_extern_vec_t x;
    wasm_instance_exports(instance, &x);

    assert_true(call_0_1(x.data[2]).of.f32 == 1);
    assert_int_equal(call_0_1(x.data[3]).of.i64, 4);
    call_1_0(x.data[5], (wasm_val_t)WASM_I64_VAL(37));
    wasm_val_t v;
    wasm_global_get(i64, &v);
    assert_int_equal(v.of.i64, 37);
    v.of.i64 = -5;
    wasm_global_set(i64, &v);
    assert_int_equal(call_0_1(x.data[3]).of.i64, -5);
    call_1_0(x.data[6], (wasm_val_t)WASM_I64_VAL(38));
    wasm_global_get(wasm_extern_as_global(x.data[1]), &v);
    assert_int_equal(v.of.i64, 38);
    wasm_global_get(wasm_extern_as_global(x.data[0]), &v);
    assert_int_equal(v.of.i32, 5);
    wasm_global_set(wasm_extern_as_global(x.data[0]), &(wasm_val_t)WASM_I32_VAL(6)); /* constant: no effect */
    wasm_global_get(wasm_extern_as_global(x.data[0]), &v);
    assert_int_equal(v.of.i32, 5);
    wasm_extern_vec_delete(&x);
    wasm_instance_delete(instance);
    wasm_global_delete(f32);
    wasm_global_delete(i64);
}

/* ---- tables ---- */

static own wasm_trap_t *neg_callback(const wasm_val_vec_t *args, wasm_val_vec_t *results) {
    results->data[0] = (wasm_val_t)WASM_I32_VAL(-args->data[0].of.i32);
    return NULL;
}

static void expect_call_traps(const wasm_func_t *f, int32_t a, int32_t b, const char *text) {
    wasm_val_t args[] = {WASM_I32_VAL(a), WASM_I32_VAL(b)}, results[] = {WASM_INIT_VAL};
    wasm_val_vec_t in = WASM_ARRAY_VEC(args), out = WASM_ARRAY_VEC(results);
    expect_trap(wasm_func_call(f, &in, &out), text);
}

static void tables(void **state) {
    wasm_store_t *store = store_of(state);
    wasm_extern_vec_t imports = WASM_EMPTY_VEC;
    own wasm_instance_t *instance = START(store, table, &imports);
    own wasm_extern_vec_t x;
    wasm_instance_exports(instance, &x);
    wasm_table_t *table = wasm_extern_as_table(x.data[0]);
    wasm_func_t *call = wasm_extern_as_func(x.data[1]), *f = wasm_extern_as_func(x.data[2]),
                *g = wasm_extern_as_func(x.data[3]);
    own wasm_functype_t *type = wasm_functype_new_1_1(wasm_valtype_new_i32(), wasm_valtype_new_i32());
    own wasm_func_t *h = wasm_func_new(store, type, neg_callback);
    wasm_functype_delete(type);

    assert_int_equal(wasm_table_size(table), 2);
    assert_null(wasm_table_get(table, 0));
    own wasm_ref_t *one = wasm_table_get(table, 1);
    assert_true(wasm_ref_same(one, wasm_func_as_ref(f)));
    wasm_ref_delete(one);
    expect_call_traps(call, 0, 0, "uninitialized element");
    assert_int_equal(call_i32(call, 7, 1, 2), 7);
    expect_call_traps(call, 0, 2, "undefined element");
    assert_true(wasm_table_set(table, 0, wasm_func_as_ref(g)));
    assert_true(wasm_table_set(table, 1, NULL));
    assert_false(wasm_table_set(table, 2, wasm_func_as_ref(f)));
    assert_false(wasm_table_set(table, 0, wasm_instance_as_ref(instance)));
    assert_int_equal(call_i32(call, 7, 0, 2), 666);
    expect_call_traps(call, 0, 1, "uninitialized element");
    assert_true(wasm_table_grow(table, 3, NULL));
    assert_int_equal(wasm_table_size(table), 5);
    assert_true(wasm_table_set(table, 2, wasm_func_as_ref(h)));
    assert_int_equal(call_i32(call, 9, 2, 2), -9);
    assert_true(wasm_table_grow(table, 2, wasm_func_as_ref(f)));
    assert_int_equal(call_i32(call, 5, 6, 2), 5);
    assert_false(wasm_table_grow(table, 4, NULL)); /* maximum 10 */

    const wasm_limits_t limits = {5, 5};
    own wasm_tabletype_t *table_type = wasm_tabletype_new(wasm_valtype_new(WASM_FUNCREF), &limits);
    own wasm_table_t *other = wasm_table_new(store, table_type, NULL);
    wasm_tabletype_delete(table_type);
    assert_int_equal(wasm_table_size(other), 5);
    assert_false(wasm_table_grow(other, 1, NULL));
    assert_true(wasm_table_grow(other, 0, NULL));
    wasm_table_delete(other);
    wasm_func_delete(h);
    wasm_extern_vec_delete(&x);
    wasm_instance_delete(instance);
}

/* ---- memories ---- */

static void memories(void **state) {
    wasm_store_t *store = store_of(state);
    wasm_extern_vec_t imports = WASM_EMPTY_VEC;
    own wasm_instance_t *instance = START(store, memory, &imports);
    own wasm_extern_vec_t x;
    wasm_instance_exports(instance, &x);
    wasm_memory_t *memory = wasm_extern_as_memory(x.data[0]);
    wasm_func_t *size = wasm_extern_as_func(x.data[1]), *load_ = wasm_extern_as_func(x.data[2]),
                *store_ = wasm_extern_as_func(x.data[3]);

    assert_int_equal(wasm_memory_size(memory), 2);
    assert_int_equal(wasm_memory_data_size(memory), 2 * MEMORY_PAGE_SIZE);
    byte_t *data = wasm_memory_data(memory);
    assert_int_equal(data[0], 0);
    assert_int_equal(data[0x1000], 1);
    assert_int_equal(call_i32(size, 0, 0, 0), 2);
    assert_int_equal(call_i32(load_, 0x1003, 0, 1), 4);
    assert_int_equal(call_i32(load_, 0x1ffff, 0, 1), 0);
    wasm_val_t args[] = {WASM_I32_VAL(0x1002), WASM_I32_VAL(6)};
    wasm_val_vec_t in = WASM_ARRAY_VEC(args), none = WASM_EMPTY_VEC;
    assert_null(wasm_func_call(store_, &in, &none));
    assert_int_equal(data[0x1002], 6);
    args[0].of.i32 = 0x20000;
    expect_trap(wasm_func_call(store_, &in, &none), "out of bounds memory access");

    assert_true(wasm_memory_grow(memory, 1));
    assert_int_equal(wasm_memory_size(memory), 3);
    assert_ptr_equal(wasm_memory_data(memory), data);
    assert_int_equal(call_i32(load_, 0x20000, 0, 1), 0);
    assert_false(wasm_memory_grow(memory, 1));
    assert_true(wasm_memory_grow(memory, 0));

    const wasm_limits_t limits = {5, 5};
    own wasm_memorytype_t *type = wasm_memorytype_new(&limits);
    own wasm_memory_t *other = wasm_memory_new(store, type);
    wasm_memorytype_delete(type);
    assert_int_equal(wasm_memory_size(other), 5);
    assert_false(wasm_memory_grow(other, 1));
    wasm_memory_delete(other);
    wasm_extern_vec_delete(&x);
    wasm_instance_delete(instance);
}

/* ---- hostref: host objects as externref ---- */

static own wasm_trap_t *identity(const wasm_val_vec_t *args, wasm_val_vec_t *results) {
    wasm_val_copy(&results->data[0], &args->data[0]);
    return NULL;
}

static own wasm_ref_t *call_ref(const wasm_extern_t *f, wasm_val_t a, wasm_val_t b, size_t n) {
    wasm_val_t args[] = {a, b}, results[] = {WASM_INIT_VAL};
    wasm_val_vec_t in = {n, args}, out = WASM_ARRAY_VEC(results);
    assert_null(wasm_func_call(wasm_extern_as_func_const(f), &in, &out));
    assert_int_equal(results[0].kind, WASM_EXTERNREF);
    return results[0].of.ref;
}

static void hostref(void **state) {
    wasm_store_t *store = store_of(state);
    own wasm_functype_t *type = wasm_functype_new_1_1(wasm_valtype_new_externref(), wasm_valtype_new_externref());
    own wasm_func_t *f = wasm_func_new(store, type, identity);
    wasm_functype_delete(type);
    wasm_extern_t *externs[] = {wasm_func_as_extern(f)};
    wasm_extern_vec_t imports = WASM_ARRAY_VEC(externs);
    own wasm_instance_t *instance = START(store, hostref, &imports);
    own wasm_extern_vec_t x;
    wasm_instance_exports(instance, &x);

    own wasm_foreign_t *one = wasm_foreign_new(store), *two = wasm_foreign_new(store);
    wasm_foreign_set_host_info(one, (void *)1);
    wasm_foreign_set_host_info(two, (void *)2);
    assert_false(wasm_foreign_same(one, two));
    assert_null(wasm_foreign_as_ref(NULL));

    wasm_val_t r1 = WASM_REF_VAL(wasm_foreign_as_ref(one)), null = WASM_REF_VAL(NULL);
    call_1_0(x.data[2], r1); /* global.set */
    own wasm_ref_t *got = call_0_1(x.data[3]).of.ref;
    assert_true(wasm_ref_same(got, wasm_foreign_as_ref(one)));
    assert_ptr_equal(wasm_ref_get_host_info(got), (void *)1);
    wasm_ref_delete(got);
    call_1_0(x.data[2], null);
    assert_null(call_0_1(x.data[3]).of.ref);

    wasm_val_t args[] = {WASM_I32_VAL(3), WASM_REF_VAL(wasm_foreign_as_ref(two))};
    wasm_val_vec_t in = WASM_ARRAY_VEC(args), none = WASM_EMPTY_VEC;
    assert_null(wasm_func_call(wasm_extern_as_func(x.data[4]), &in, &none)); /* table.set */
    wasm_foreign_delete(two);                                                /* the table keeps it */
    got = call_ref(x.data[5], (wasm_val_t)WASM_I32_VAL(3), null, 1);
    assert_ptr_equal(wasm_ref_get_host_info(got), (void *)2);
    assert_non_null(wasm_ref_as_foreign(got));
    assert_null(wasm_ref_as_func(got));
    wasm_ref_delete(got);
    got = wasm_table_get(wasm_extern_as_table(x.data[1]), 3);
    assert_ptr_equal(wasm_ref_get_host_info(got), (void *)2);
    wasm_ref_delete(got);

    got = call_ref(x.data[6], r1, null, 1); /* through the host and back */
    assert_true(wasm_ref_same(got, wasm_foreign_as_ref(one)));
    wasm_ref_delete(got);
    /* A function is a host value like any other here. */
    wasm_val_t as_extern = WASM_REF_VAL(wasm_func_as_ref(f));
    got = call_ref(x.data[6], as_extern, null, 1);
    assert_true(wasm_ref_same(got, wasm_func_as_ref(f)));
    wasm_ref_delete(got);
    wasm_foreign_delete(one);
    wasm_extern_vec_delete(&x);
    wasm_instance_delete(instance);
    wasm_func_delete(f);
}

/* ---- finalize: host information goes with its object ---- */

static void finalize(void **state) {
    (void)state;
    enum { N = 10 };
    finalized = 0;
    wasm_engine_t *engine = wasm_engine_new();
    wasm_store_t *store = wasm_store_new(engine);
    own wasm_functype_t *type = wasm_functype_new_0_0();
    own wasm_func_t *f = wasm_func_new(store, type, hello_callback);
    wasm_functype_delete(type);
    wasm_extern_t *externs[] = {wasm_func_as_extern(f)};
    wasm_extern_vec_t imports = WASM_ARRAY_VEC(externs);
    for (int i = 0; i < N; i++) {
        own wasm_instance_t *instance = START(store, hello, &imports);
        wasm_instance_set_host_info_with_finalizer(instance, &finalized, count_finalized);
        assert_ptr_equal(wasm_instance_get_host_info(instance), &finalized);
        wasm_instance_delete(instance);
    }
    wasm_foreign_t *foreign = wasm_foreign_new(store);
    wasm_foreign_set_host_info_with_finalizer(foreign, NULL, count_finalized);
    wasm_foreign_delete(foreign);
    wasm_func_delete(f);
    wasm_store_delete(store);
    assert_int_equal(finalized, N + 1);
    wasm_engine_delete(engine);
}

/* ---- multi: several results ---- */

static own wasm_trap_t *reverse(const wasm_val_vec_t *args, wasm_val_vec_t *results) {
    for (size_t i = 0; i < 4; i++)
        wasm_val_copy(&results->data[i], &args->data[3 - i]);
    return NULL;
}

static void multi(void **state) {
    wasm_store_t *store = store_of(state);
    wasm_valtype_t *types[] = {wasm_valtype_new_i32(), wasm_valtype_new_i64(), wasm_valtype_new_i64(),
                               wasm_valtype_new_i32()};
    own wasm_valtype_vec_t params, results;
    wasm_valtype_vec_new(&params, 4, types);
    wasm_valtype_vec_copy(&results, &params);
    own wasm_functype_t *type = wasm_functype_new(&params, &results);
    own wasm_func_t *f = wasm_func_new(store, type, reverse);
    wasm_functype_delete(type);
    assert_int_equal(wasm_func_param_arity(f), 4);
    assert_int_equal(wasm_func_result_arity(f), 4);
    wasm_extern_t *externs[] = {wasm_func_as_extern(f)};
    wasm_extern_vec_t imports = WASM_ARRAY_VEC(externs);
    own wasm_instance_t *instance = START(store, multi, &imports);
    own wasm_extern_vec_t x;
    wasm_instance_exports(instance, &x);
    wasm_val_t vals[] = {WASM_I32_VAL(1), WASM_I64_VAL(2), WASM_I64_VAL(3), WASM_I32_VAL(4)};
    wasm_val_t res[] = {WASM_INIT_VAL, WASM_INIT_VAL, WASM_INIT_VAL, WASM_INIT_VAL};
    wasm_val_vec_t in = WASM_ARRAY_VEC(vals), out = WASM_ARRAY_VEC(res);
    assert_null(wasm_func_call(wasm_extern_as_func(x.data[0]), &in, &out));
    assert_int_equal(res[0].of.i32, 4);
    assert_int_equal(res[1].of.i64, 2);
    assert_int_equal(res[2].of.i64, 3);
    assert_int_equal(res[3].of.i32, 1);
    wasm_extern_vec_delete(&x);
    wasm_instance_delete(instance);
    wasm_func_delete(f);
}

/* ---- serialize, threads ---- */

static void serialize(void **state) {
    wasm_store_t *store = store_of(state);
    own wasm_module_t *module = load(store, memory_wasm, sizeof memory_wasm);
    own wasm_byte_vec_t bytes;
    wasm_module_serialize(module, &bytes);
    wasm_module_delete(module);
    module = wasm_module_deserialize(store, &bytes);
    assert_non_null(module);
    wasm_module_delete(module);
    bytes.data[0] = 1;
    assert_null(wasm_module_deserialize(store, &bytes));
    assert_false(wasm_module_validate(store, &bytes));
    wasm_byte_vec_delete(&bytes);
}

struct thread {
    pthread_t id;
    wasm_engine_t *engine;
    wasm_shared_module_t *shared;
    int result;
};

static own wasm_trap_t *thread_number(void *env, const wasm_val_vec_t *args, wasm_val_vec_t *results) {
    (void)args;
    results->data[0] = (wasm_val_t)WASM_I32_VAL(*(int *)env);
    return NULL;
}

/* No cmocka here: it is not for threads. */
static void *thread_run(void *arg) {
    struct thread *t = arg;
    wasm_store_t *store = wasm_store_new(t->engine);
    own wasm_module_t *module = wasm_module_obtain(store, t->shared);
    own wasm_functype_t *print_type = wasm_functype_new_1_1(wasm_valtype_new_i32(), wasm_valtype_new_i32());
    own wasm_functype_t *closure_type = wasm_functype_new_0_1(wasm_valtype_new_i32());
    int number = 1000;
    for (int i = 0; i < 50; i++) {
        own wasm_func_t *print = wasm_func_new(store, print_type, neg_callback);
        own wasm_func_t *closure = wasm_func_new_with_env(store, closure_type, thread_number, &number, NULL);
        wasm_extern_t *externs[] = {wasm_func_as_extern(print), wasm_func_as_extern(closure)};
        wasm_extern_vec_t imports = WASM_ARRAY_VEC(externs);
        own wasm_instance_t *instance = wasm_instance_new(store, module, &imports, NULL);
        own wasm_extern_vec_t x;
        wasm_instance_exports(instance, &x);
        wasm_val_t vals[] = {WASM_I32_VAL(i), WASM_I32_VAL(1)}, res[] = {WASM_INIT_VAL};
        wasm_val_vec_t in = WASM_ARRAY_VEC(vals), out = WASM_ARRAY_VEC(res);
        wasm_trap_t *trap = wasm_func_call(wasm_extern_as_func(x.data[0]), &in, &out);
        t->result += !trap && res[0].of.i32 == number - i - 1;
        wasm_extern_vec_delete(&x);
        wasm_instance_delete(instance);
        wasm_func_delete(print);
        wasm_func_delete(closure);
    }
    wasm_functype_delete(print_type);
    wasm_functype_delete(closure_type);
    wasm_module_delete(module);
    wasm_store_delete(store);
    return NULL;
}

static void threads(void **state) {
    struct fixture *f = *state;
    enum { N = 4 };
    struct thread t[N];
    own wasm_module_t *module = load(f->store, callback_wasm, sizeof callback_wasm);
    own wasm_shared_module_t *shared = wasm_module_share(module);
    wasm_module_delete(module);
    for (int i = 0; i < N; i++) {
        t[i] = (struct thread){.engine = f->engine, .shared = shared};
        assert_int_equal(pthread_create(&t[i].id, NULL, thread_run, &t[i]), 0);
    }
    for (int i = 0; i < N; i++) {
        pthread_join(t[i].id, NULL);
        assert_int_equal(t[i].result, 50);
    }
    wasm_engine_t *other = wasm_engine_new();
    wasm_store_t *elsewhere = wasm_store_new(other);
    assert_null(wasm_module_obtain(elsewhere, shared)); /* another engine's */
    wasm_store_delete(elsewhere);
    wasm_engine_delete(other);
    wasm_shared_module_delete(shared);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(hello),   TEST(callback),  TEST(traps),    TEST(trap_at_start), TEST(reflect),
        TEST(globals), TEST(tables),    TEST(memories), TEST(hostref),       TEST(finalize),
        TEST(multi),   TEST(serialize), TEST(threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
