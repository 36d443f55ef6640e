/* What the interpreter's translator makes of typical code, its limits, and the wasm offsets it finds for fused code. */
#include "interp.h"
#include "builder.h"

#include <donjon/platform.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

enum { I32 = 0x7f, I64 = 0x7e, F64 = 0x7c, V128 = 0x7b, VOID = 0x40 };

/* One function, exported as nothing, with a memory of a page and a mutable global i32. */
struct sample {
    const char *name;
    const char *params, *results, *locals; /* a letter each: i l d v */
    const char *body;                      /* without `end` */
    size_t size;
    const char *code; /* names of the slot code's instructions */
};
#define BODY(...) .body = (const char[]){__VA_ARGS__}, .size = sizeof((const char[]){__VA_ARGS__})

static uint8_t type_byte(char letter) {
    return letter == 'i' ? I32 : letter == 'l' ? I64 : letter == 'd' ? F64 : V128;
}

static void put_types(struct buf *b, const char *letters) {
    letters = letters ? letters : "";
    put_leb(b, strlen(letters));
    for (; *letters; letters++)
        put_byte(b, type_byte(*letters));
}

static void build(struct buf *m, const struct sample *s, uint32_t repeat_locals) {
    struct buf section = {0}, body = {0};
    put_header(m);
    PUT(&section, 1, 0x60);
    put_types(&section, s->params);
    put_types(&section, s->results);
    put_section(m, 1, &section);
    PUT(&section, 1, 0);
    put_section(m, 3, &section);
    PUT(&section, 1, 0, 1);
    put_section(m, 5, &section);
    PUT(&section, 1, I32, 1, 0x41, 0, 0x0b);
    put_section(m, 6, &section);
    const char *locals = s->locals ? s->locals : "";
    put_leb(&body, strlen(locals));
    for (; *locals; locals++) {
        put_leb(&body, repeat_locals);
        put_byte(&body, type_byte(*locals));
    }
    put_bytes(&body, s->body, s->size);
    put_byte(&body, 0x0b);
    PUT(&section, 1);
    put_sized(&section, &body);
    put_section(m, 10, &section);
}

struct run {
    struct engine *engine;
    struct store *store;
    struct module *module;
    struct func *func;
    uint32_t code_offset; /* of the body's first instruction */
};

static struct run start(const struct sample *s, uint32_t repeat_locals) {
    struct run r = {.engine = engine_new(donjon_platform_posix())};
    struct module_error err;
    struct instantiate_error why;
    struct buf bytes = {0};
    build(&bytes, s, repeat_locals);
    r.module = module_new(r.engine, bytes.data, bytes.size, &err);
    free(bytes.data);
    if (!r.module) fail_msg("%s: %s at %u", s->name, err.message, err.offset);
    r.store = store_new(r.engine, &(struct store_limits){.interpret = true});
    struct instance *i = instantiate(r.store, r.module, NULL, false, &why);
    assert_non_null(i);
    r.func = i->funcs[0];
    r.code_offset = r.module->bodies[0].offset + r.module->bodies[0].size - (uint32_t)s->size - 1;
    return r;
}

static void stop(struct run *r) {
    store_delete(r->store);
    module_unref(r->module);
    engine_delete(r->engine);
}

/* ---- Shapes ---- */

/* Lines are "number name operands...": the names are what is compared. */
static void add_name(void *ctx, const char *line) {
    char *text = ctx;
    const char *name = strchr(line, ' ') + 1;
    size_t used = strlen(text);
    snprintf(text + used, 1024 - used, "%s%.*s", used ? " " : "", (int)strcspn(name, " "), name);
}

#define GET(n)   0x20, n
#define SET(n)   0x21, n
#define TEE(n)   0x22, n
#define CONST(n) 0x41, (n)&0x7f
#define LOAD(o)  0x28, 2, o
#define LOAD8(o) 0x2d, 0, o
#define STORE(o) 0x36, 2, o
#define BLOCK    0x02, VOID
#define LOOP     0x03, VOID
#define END      0x0b
#define BR(n)    0x0c, n
#define BR_IF(n) 0x0d, n

static const struct sample samples[] = {
    {"operands are read where they are", "ii", "i", NULL, BODY(GET(0), GET(1), 0x6a), "i32_add_ss_n return_a"},
    {"a result is used from the accumulator", "ii", "i", NULL, BODY(GET(0), GET(1), 0x6c, GET(1), 0x6b),
     "i32_mul_ss_n i32_sub_as_n return_a"},
    {"immediates", "i", "i", NULL, BODY(GET(0), CONST(7), 0x71), "i32_and_si_n return_a"},
    {"a subtracted constant is an added one", "i", "i", NULL, BODY(GET(0), CONST(7), 0x6b), "i32_add_si_n return_a"},
    {"a result goes to its local at once", "ii", NULL, NULL, BODY(GET(0), GET(1), 0x6c, SET(0)), "i32_mul_ss return"},
    {"a local that changes is kept for who has read it", "ii", "i", NULL, BODY(GET(0), GET(1), SET(0), GET(0), 0x6c),
     "copy64_2 i32_mul_ss_n return_a"},
    {"locals that are set first are not zeroed", NULL, "i", "i", BODY(CONST(1), SET(0), GET(0)), "put return_s"},
    {"locals that are read first are", NULL, "i", "i", BODY(GET(0)), "enter return_s"},
    {"on one of two ways is not surely", "i", "i", "i", BODY(BLOCK, GET(0), BR_IF(0), CONST(1), SET(1), END, GET(1)),
     "enter br_i32_ne_si put return_s"},
    {"compare and branch", "ii", NULL, NULL, BODY(BLOCK, GET(0), GET(1), 0x48, BR_IF(0), 0x01, END),
     "br_i32_lt_s_ss return"},
    {"not and branch", "ii", NULL, NULL, BODY(BLOCK, GET(0), GET(1), 0x48, 0x45, BR_IF(0), END),
     "br_i32_ge_s_ss return"},
    {"bit test and branch", "i", NULL, NULL, BODY(BLOCK, GET(0), CONST(1), 0x71, 0x45, BR_IF(0), END),
     "br_i32_ntst_si return"},
    {"a loop's end", "i", NULL, NULL, BODY(LOOP, GET(0), CONST(1), 0x6a, TEE(0), CONST(10), 0x47, BR_IF(0), END),
     "add_loop_i32_ne_i return"},
    {"a range check", "i", NULL, NULL, BODY(BLOCK, GET(0), CONST(-3), 0x6a, CONST(5), 0x49, BR_IF(0), END),
     "range_br_i32_lt_u_s return"},
    {"a byte is looked at", "i", NULL, NULL, BODY(BLOCK, GET(0), LOAD8(3), BR_IF(0), END),
     "i32_load8_u_br_ne_s_n return"},
    {"an element of an array", "ii", "i", NULL, BODY(GET(0), GET(1), CONST(2), 0x74, 0x6a, LOAD(8)),
     "i32_load_sls_n return_a"},
    {"an address that may wrap", "i", "i", NULL, BODY(GET(0), CONST(-4), 0x6a, LOAD(0)), "i32_load_sp_n return_a"},
    {"a constant address", NULL, "i", NULL, BODY(CONST(16), LOAD(4)), "i32_load_k_n return_a"},
    {"store of a sum to a sum", "ii", NULL, NULL, BODY(GET(0), CONST(-4), 0x6a, GET(1), CONST(1), 0x6a, STORE(0)),
     "i32_add_si_n store32_pa return"},
    {"a counter in memory", "i", NULL, NULL, BODY(GET(0), GET(0), LOAD(4), CONST(1), 0x6a, STORE(4)),
     "i32_mem_add return"},
    {"not at two places", "i", NULL, NULL, BODY(GET(0), GET(0), LOAD(4), CONST(1), 0x6a, STORE(8)),
     "i32_load_s_n i32_add_ai_n store32_sa return"},
    {"two loads", "iii", NULL, NULL, BODY(GET(0), LOAD(0), SET(1), GET(0), LOAD(4), SET(2)), "i32_load_2 return"},
    {"a shifted operand", "ii", "i", NULL, BODY(GET(0), GET(1), CONST(7), 0x78, 0x73), "i32_xor_rotl_s_n return_a"},
    {"a bit field", "i", "i", NULL, BODY(GET(0), CONST(4), 0x76, CONST(15), 0x71), "i32_shr_u_and_s_n return_a"},
    {"multiply and add", "ddd", "d", NULL, BODY(GET(0), GET(1), GET(2), (char)0xa2, (char)0xa0),
     "f64_add_mul_s_n f64_return_a"},
    {"a switch", "i", NULL, NULL, BODY(BLOCK, BLOCK, GET(0), CONST(-1), 0x6a, 0x0e, 1, 0, 1, END, END),
     "br_table_sp return"},
    {"a wrapped 64-bit test looks at 32 bits", "l", NULL, NULL,
     BODY(BLOCK, GET(0), 0x42, 1, (char)0x83, (char)0xa7, BR_IF(0), END), "i64_and_si_n br_i32_ne_ai return"},
    {"a block's value", "i", "i", NULL, BODY(0x02, I32, CONST(1), GET(0), BR_IF(0), 0x1a, CONST(2), END),
     "put br_i32_ne_si put return_s"},
};

static void shapes(void **state) {
    (void)state;
    for (size_t n = 0; n < sizeof samples / sizeof *samples; n++) {
        char text[1024] = "";
        struct run r = start(&samples[n], 1);
        interp_dump(r.func, add_name, text);
        if (strcmp(text, samples[n].code))
            fail_msg("%s:\n  is       %s\n  expected %s", samples[n].name, text, samples[n].code);
        stop(&r);
    }
}

/* ---- Limits ---- */

static void too_many_slots(void **state) {
    (void)state;
    const struct sample s = {.name = "slots", .locals = "v", BODY(0x01)};
    struct run r = start(&s, 40000);
    slot args[1];
    assert_int_equal(func_call(r.func, args), TRAP_HOST);
    assert_non_null(strstr(r.store->trap.message, "65,535 slots"));
    assert_int_equal(r.store->trap.n_frames, 1);
    stop(&r);
    r = start(&s, 32767);
    assert_int_equal(func_call(r.func, args), TRAP_NONE);
    stop(&r);
}

/* Much on the operand stack, and a local that changes while its old value is on top of that: must not look at all of it
 * each time. (With 10^10 steps this test would be noticed.) */
static void deep_stacks(void **state) {
    (void)state;
    enum { DEPTH = 60000, TIMES = 200000 };
    struct buf body = {0};
    for (int i = 0; i < DEPTH; i++)
        PUT(&body, CONST(1));
    for (int i = 0; i < TIMES; i++)
        PUT(&body, GET(0), CONST(1), SET(0), 0x1a, GET(0), BLOCK, END, 0x1a);
    put_repeat(&body, 0x1a, DEPTH);
    struct sample s = {.name = "deep", .params = "i", .body = (const char *)body.data, .size = body.size};
    struct run r = start(&s, 1);
    slot args[1] = {{.i32 = 1}};
    assert_int_equal(func_call(r.func, args), TRAP_NONE);
    stop(&r);
    free(body.data);
}

/* A branch of two bytes that moves a thousand values, many times: code has a bound. */
static void code_that_blows_up(void **state) {
    (void)state;
    enum { VALUES = 1000, TIMES = 100000 };
    char results[VALUES + 1];
    memset(results, 'i', VALUES);
    results[VALUES] = 0;
    struct buf body = {0};
    for (int i = 0; i < VALUES; i++)
        PUT(&body, CONST(1));
    for (int i = 0; i < TIMES; i++)
        PUT(&body, GET(0), BR_IF(0));
    struct sample s = {
        .name = "blow-up", .params = "i", .results = results, .body = (const char *)body.data, .size = body.size};
    struct run r = start(&s, 1);
    slot args[VALUES] = {{.i32 = 1}};
    assert_int_equal(func_call(r.func, args), TRAP_HOST);
    assert_non_null(strstr(r.store->trap.message, "too large"));
    stop(&r);
    free(body.data);
}

static void endless_recursion(void **state) {
    (void)state;
    const struct sample s = {.name = "recursion", .params = "i", BODY(GET(0), 0x10, 0)};
    struct run r = start(&s, 1);
    slot args[1] = {{.i32 = 1}};
    assert_int_equal(func_call(r.func, args), TRAP_STACK);
    assert_int_equal(r.store->trap.n_frames, BACKTRACE_MAX);
    assert_true(r.store->trap.n_frames_total >= 99000);
    assert_int_equal(r.store->trap.frames[1].offset, r.code_offset + 2);
    stop(&r);
}

/* ---- Offsets of traps ---- */

static void expect_offset(const struct sample *s, uint32_t a, uint32_t b, enum trap_kind kind, uint32_t at) {
    struct run r = start(s, 1);
    slot args[3] = {{.i32 = a}, {.i32 = b}};
    enum trap_kind got = func_call(r.func, args);
    if (got != kind) fail_msg("%s: %s", s->name, trap_message(got));
    if (kind != TRAP_NONE && r.store->trap.frames[0].offset != r.code_offset + at)
        fail_msg("%s: at %u, expected %u", s->name, r.store->trap.frames[0].offset - r.code_offset, at);
    stop(&r);
}

static void offsets(void **state) {
    (void)state;
    const uint32_t end = 65536;
    const struct sample two = {"two loads", "ii", NULL, "ii", BODY(GET(0), LOAD(0), SET(2), GET(1), LOAD(4), SET(3)),
                               NULL};
    expect_offset(&two, 0, 0, TRAP_NONE, 0);
    expect_offset(&two, end - 4, end - 8, TRAP_NONE, 0);
    expect_offset(&two, end - 3, 0, TRAP_MEMORY, 2);
    expect_offset(&two, 0, end - 7, TRAP_MEMORY, 9);
    const struct sample branch = {
        "load and branch", "i", NULL, NULL, BODY(BLOCK, GET(0), LOAD8(1), 0x45, BR_IF(0), END), NULL};
    expect_offset(&branch, end - 2, 0, TRAP_NONE, 0);
    expect_offset(&branch, end - 1, 0, TRAP_MEMORY, 4);
    const struct sample element = {"element", "ii", "i", NULL, BODY(GET(0), GET(1), CONST(2), 0x74, 0x6a, LOAD(0)),
                                   NULL};
    expect_offset(&element, 4, end / 4 - 2, TRAP_NONE, 0);
    expect_offset(&element, 4, end / 4 - 1, TRAP_MEMORY, 8);
    expect_offset(&element, (uint32_t)-4, 1, TRAP_NONE, 0); /* wraps to 0 */
    const struct sample counter = {"counter", "i", NULL, NULL, BODY(GET(0), GET(0), LOAD(4), CONST(1), 0x6a, STORE(4)),
                                   NULL};
    expect_offset(&counter, end - 8, 0, TRAP_NONE, 0);
    expect_offset(&counter, end - 7, 0, TRAP_MEMORY, 4);
    const struct sample zeroed = {"after op_enter", "ii", "i", "i", BODY(GET(2), GET(0), 0x6a, GET(1), 0x6e), NULL};
    expect_offset(&zeroed, 1, 1, TRAP_NONE, 0);
    expect_offset(&zeroed, 1, 0, TRAP_DIV_ZERO, 7);
    const struct sample unzeroed = {"without", "ii", "i", NULL, BODY(GET(0), GET(1), 0x6e), NULL};
    expect_offset(&unzeroed, 1, 0, TRAP_DIV_ZERO, 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes),
        cmocka_unit_test(too_many_slots),
        cmocka_unit_test(deep_stacks),
        cmocka_unit_test(code_that_blows_up),
        cmocka_unit_test(endless_recursion),
        cmocka_unit_test(offsets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
