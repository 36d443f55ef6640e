/* Decoder and validator against modules made to hurt: whatever comes, the answer is a module or one line that says what
 * is wrong and where, in bounded memory and time, and everything taken is given back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <malloc.h>
#include <string.h>
#include <time.h>

#include "builder.h"
#include "donjon/platform.h"
#include "limits.h"
#include "store.h"

/* A platform that counts, and fails from the `fail_at`-th allocation on. */
static struct { size_t now, peak, calls, fail_at; } heap;

static void *failing_realloc(void *ctx, void *block, size_t size) {
    (void)ctx;
    if (size && ++heap.calls > heap.fail_at) return NULL;
    if (block) heap.now -= malloc_usable_size(block);
    void *fresh = size ? realloc(block, size) : (free(block), NULL);
    if (fresh) heap.now += malloc_usable_size(fresh);
    if (heap.now > heap.peak) heap.peak = heap.now;
    return fresh;
}
static const struct donjon_platform platform = {.realloc = failing_realloc};

static struct engine *e;
static struct module_error err;

static int start(void **state) {
    (void)state;
    memset(&heap, 0, sizeof heap);
    heap.fail_at = SIZE_MAX;
    e = engine_new(&platform);
    return !e;
}
static int stop(void **state) {
    (void)state;
    engine_delete(e);
    assert_int_equal(heap.now, 0);
    return 0;
}

/* Loads from a block of exactly the module's size, which a sanitiser watches; frees the buffer. */
static struct module *load(struct buf *b) {
    uint8_t *exact = malloc(b->size ? b->size : 1);
    assert_non_null(exact);
    if (b->size) memcpy(exact, b->data, b->size);
    memset(&err, 0x55, sizeof err);
    struct module *m = module_new(e, exact, b->size, &err);
    free(exact);
    free(b->data);
    *b = (struct buf){NULL, 0, 0};
    return m;
}
static void accept(struct buf *b) {
    struct module *m = load(b);
    if (!m) fail_msg("refused: %s", err.message);
    module_unref(m);
}
static void refuse(struct buf *b, bool malformed, const char *message) {
    struct module *m = load(b);
    if (m) fail_msg("accepted, expected: %s", message);
    if (!strstr(err.message, message)) fail_msg("expected \"%s\", found \"%s\"", message, err.message);
    assert_int_equal(err.malformed, malformed);
}

/* One function of type () -> () with this body after its locals. */
static void one_function(struct buf *b, struct buf *locals_and_code) {
    struct buf s = {NULL, 0, 0};
    put_header(b);
    PUT(&s, 1, 0x60, 0, 0);
    put_section(b, 1, &s);
    PUT(&s, 1, 0);
    put_section(b, 3, &s);
    put_leb(&s, 1);
    put_sized(&s, locals_and_code);
    put_section(b, 10, &s);
}

/* Something of every section, with a name section. */
static void rich_module(struct buf *b) {
    struct buf s = {NULL, 0, 0}, inner = {NULL, 0, 0};
    put_header(b);
    PUT(&s, 5, 0x60, 0, 0, 0x60, 2, 0x7f, 0x7e, 1, 0x7d, 0x60, 1, 0x7f, 0);
    PUT(&s, 0x4e, 2, 0x50, 0, 0x5f, 1, 0x63, 4, 1, 0x50, 1, 3, 0x5f, 2, 0x63, 4, 1, 0x77, 0, 0x5e, 0x78, 1);
    put_section(b, 1, &s);
    PUT(&s, 5, 1, 'm', 1, 'f', 0, 0, 1, 'm', 1, 't', 1, 0x70, 1, 1, 2, 1, 'm', 1, 'm', 2, 0, 1);
    PUT(&s, 1, 'm', 1, 'g', 3, 0x7f, 0, 1, 'm', 1, 'e', 4, 0, 2);
    put_section(b, 2, &s);
    PUT(&s, 2, 0, 1);
    put_section(b, 3, &s);
    PUT(&s, 2, 0x70, 0, 1, 0x40, 0, 0x64, 0x70, 0, 1, 0xd2, 1, 0x0b);
    put_section(b, 4, &s);
    PUT(&s, 1, 5, 1, 2);
    put_section(b, 5, &s);
    PUT(&s, 1, 0, 2);
    put_section(b, 13, &s);
    PUT(&s, 1, 0x7f, 1, 0x23, 0, 0x41, 3, 0x6a, 0x0b);
    put_section(b, 6, &s);
    PUT(&s, 1, 1, 'x', 0, 1);
    put_section(b, 7, &s);
    PUT(&s, 1);
    put_section(b, 8, &s);
    PUT(&s, 3, 0, 0x41, 0, 0x0b, 1, 1, 5, 0x70, 1, 0xd0, 0x70, 0x0b, 3, 0, 1, 2);
    put_section(b, 9, &s);
    PUT(&s, 2);
    put_section(b, 12, &s);
    PUT(&s, 2);
    PUT(&inner, 1, 2, 0x7f, 0x41, 0, 0x28, 2, 0, 0x1a, 0x02, 0x40, 0x0c, 0, 0x0b, 0x0b);
    put_sized(&s, &inner);
    PUT(&inner, 0, 0x43, 0, 0, 0, 0, 0x0b);
    put_sized(&s, &inner);
    put_section(b, 10, &s);
    PUT(&s, 2, 0, 0x41, 0, 0x0b, 2, 'h', 'i', 1, 1, '!');
    put_section(b, 11, &s);
    put_name(&s, "name");
    PUT(&s, 1, 7, 2, 0, 1, 'f', 1, 1, 'g');
    put_section(b, 0, &s);
}

static void rich_module_is_valid(void **state) {
    (void)state;
    struct buf b = {NULL, 0, 0};
    rich_module(&b);
    struct module *m = load(&b);
    if (!m) fail_msg("%s", err.message);
    assert_int_equal(m->n_types, 6);
    assert_int_equal(m->n_funcs, 3);
    assert_int_equal(m->n_tables, 3);
    assert_int_equal(m->n_memories, 2);
    assert_true(m->memories[1].is64 && m->memories[1].has_max);
    assert_int_equal(m->n_tags, 2);
    assert_int_equal(m->n_elems, 3);
    assert_int_equal(m->n_datas, 2);
    assert_int_equal(m->start, 1);
    assert_memory_equal(m->data + m->datas[0].data, "hi", 2);
    struct bytes name = module_func_name(m, 1);
    assert_int_equal(name.size, 1);
    assert_memory_equal(name.data, "g", 1);
    assert_null(module_func_name(m, 2).data);
    assert_int_equal(m->n_customs, 1);
    module_unref(m);
}

/* Every prefix, and every byte replaced by some others: no crash, nothing lost, and errors that point into the module.
 */
static void truncated_and_changed_anywhere(void **state) {
    (void)state;
    static const uint8_t changes[] = {0x00, 0x01, 0x7f, 0x80, 0xff, 0x40, 0x0b, 0xfb};
    struct buf whole = {NULL, 0, 0};
    rich_module(&whole);
    for (size_t n = 0; n < whole.size; n++) {
        struct buf b = {NULL, 0, 0};
        put_bytes(&b, whole.data, n);
        struct module *m = load(&b);
        if (!m) assert_true(err.offset <= n && strlen(err.message) > 10);
        module_unref(m);
        for (size_t k = 0; k < sizeof changes; k++) {
            put_bytes(&b, whole.data, whole.size);
            b.data[n] = changes[k];
            m = load(&b);
            if (!m) assert_true(err.offset <= whole.size);
            module_unref(m);
        }
    }
    free(whole.data);
}

/* Whichever allocation fails, the module is refused and nothing is lost. */
static void out_of_memory_anywhere(void **state) {
    (void)state;
    struct buf whole = {NULL, 0, 0};
    rich_module(&whole);
    size_t failed = 0;
    for (size_t n = 0; n < 1000; n++) {
        struct engine *fresh = engine_new(&platform);
        assert_non_null(fresh);
        heap.fail_at = heap.calls + n;
        struct module *m = module_new(fresh, whole.data, whole.size, &err);
        heap.fail_at = SIZE_MAX;
        bool ok = m != NULL;
        if (!ok) assert_non_null(strstr(err.message, "out of memory"));
        module_unref(m);
        engine_delete(fresh);
        if (ok) break;
        failed++;
    }
    assert_in_range(failed, 10, 100);
    free(whole.data);
}

/* Counts that promise what is not there cost nothing. */
static void count_bombs(void **state) {
    (void)state;
    static const uint64_t counts[] = {0x7f, 10000, 1000000, 10000000, 0x7fffffff, 0xffffffff};
    for (uint8_t id = 1; id <= 13; id++)
        for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
            struct buf b = {NULL, 0, 0}, s = {NULL, 0, 0};
            put_header(&b);
            put_leb(&s, counts[k]);
            put_section(&b, id, &s);
            heap.peak = 0;
            refuse(&b, id != 8, ""); /* a start function of that index is just unknown */
            assert_true(heap.peak < 64 * 1024);
        }
    /* The same one level down: parameters, fields, a recursion group, a body's labels and locals. */
    static const struct {
        uint8_t bytes[6];
        size_t n;
    } types[] = {{{1, 0x60}, 2}, {{1, 0x60, 0}, 3}, {{1, 0x5f}, 2}, {{1, 0x4e}, 2}, {{1, 0x50}, 2}};
    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
            struct buf b = {NULL, 0, 0}, s = {NULL, 0, 0};
            put_header(&b);
            put_bytes(&s, types[t].bytes, types[t].n);
            put_leb(&s, counts[k]);
            put_section(&b, 1, &s);
            heap.peak = 0;
            struct module *m = load(&b);
            assert_null(m);
            assert_true(heap.peak < 64 * 1024);
        }
}

static void sizes_beyond_the_end(void **state) {
    (void)state;
    for (uint8_t id = 0; id <= 14; id++) {
        struct buf b = {NULL, 0, 0};
        put_header(&b);
        PUT(&b, id, 0xff, 0xff, 0xff, 0xff, 0x0f);
        refuse(&b, true, id == 14 ? "malformed section id 14" : "length out of bounds, 4294967295 bytes, 0 are left");
        put_header(&b);
        PUT(&b, id, 0xff, 0xff, 0xff, 0xff, 0x1f);
        refuse(&b, true, "integer too large");
        put_header(&b);
        PUT(&b, id, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00);
        refuse(&b, true, "integer representation too long");
    }
}

static void deep_nesting(void **state) {
    (void)state;
    for (unsigned depth = 50000; depth <= 2000000; depth *= 40) {
        struct buf b = {NULL, 0, 0}, body = {NULL, 0, 0};
        put_byte(&body, 0);
        for (unsigned i = 0; i < depth; i++)
            PUT(&body, 0x02, 0x40);
        put_repeat(&body, 0x0b, depth + 1);
        one_function(&b, &body);
        if (depth < MAX_NESTING)
            accept(&b);
        else
            refuse(&b, true, "blocks nested deeper than the limit, 100000");
    }
    /* Types inside types are no nesting: a reference names its type by index. */
}

static void deep_stacks(void **state) {
    (void)state;
    for (unsigned n = 60000; n <= 600000; n *= 10) {
        struct buf b = {NULL, 0, 0}, body = {NULL, 0, 0};
        put_byte(&body, 0);
        for (unsigned i = 0; i < n; i++)
            PUT(&body, 0x41, 0);
        PUT(&body, 0x00, 0x0b); /* unreachable forgets them */
        one_function(&b, &body);
        if (n < MAX_OPERANDS)
            accept(&b);
        else
            refuse(&b, false, "more than 65535 values on the stack");
    }
}

/* (func (result i32 x1000)) called again and again: two bytes push a thousand values. */
static void wide_calls(void **state) {
    (void)state;
    struct buf b = {NULL, 0, 0}, s = {NULL, 0, 0}, body = {NULL, 0, 0};
    put_header(&b);
    PUT(&s, 1, 0x60, 0);
    put_leb(&s, MAX_RESULTS);
    put_repeat(&s, 0x7f, MAX_RESULTS);
    put_section(&b, 1, &s);
    PUT(&s, 1, 0);
    put_section(&b, 3, &s);
    PUT(&s, 1);
    put_byte(&body, 0);
    for (unsigned i = 0; i < 100000; i++)
        PUT(&body, 0x10, 0);
    put_byte(&body, 0x0b);
    put_sized(&s, &body);
    put_section(&b, 10, &s);
    heap.peak = 0;
    refuse(&b, false, "more than 65535 values on the stack");
    assert_true(heap.peak < 2 << 20);
}

static void locals_up_to_the_limit(void **state) {
    (void)state;
    static const struct {
        uint64_t n[2];
        bool ok;
    } cases[] = {{{MAX_LOCALS, 0}, true},  {{MAX_LOCALS - 1, 1}, true},       {{MAX_LOCALS, 1}, false},
                 {{0xffffffff, 1}, false}, {{0xffffffff, 0xffffffff}, false}, {{0, 0}, true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf b = {NULL, 0, 0}, body = {NULL, 0, 0};
        put_byte(&body, 2);
        put_leb(&body, cases[i].n[0]);
        put_byte(&body, 0x7f);
        put_leb(&body, cases[i].n[1]);
        put_byte(&body, 0x7e);
        put_byte(&body, 0x0b);
        one_function(&b, &body);
        if (cases[i].ok)
            accept(&b);
        else
            refuse(&b, true, "too many locals");
    }
}

/* Locals beyond those that are expanded, and ones without a default value there. */
static void far_locals(void **state) {
    (void)state;
    for (unsigned k = 0; k < 3; k++) {
        struct buf b = {NULL, 0, 0}, body = {NULL, 0, 0};
        put_byte(&body, 3);
        put_leb(&body, 30000);
        put_byte(&body, 0x7f);
        put_leb(&body, 10000);
        PUT(&body, 0x64, 0x6f); /* (ref extern) */
        put_leb(&body, 100);
        put_byte(&body, 0x7e);
        if (k == 0) { /* i64.const 1, local.set 40000 */
            PUT(&body, 0x42, 1, 0x21);
            put_leb(&body, 40000);
        } else {
            PUT(&body, 0x20);
            put_leb(&body, k == 1 ? 39999 : 29999);
            put_byte(&body, 0x1a);
        }
        put_byte(&body, 0x0b);
        one_function(&b, &body);
        if (k != 1)
            accept(&b);
        else
            refuse(&b, false, "local.get: uninitialized local 39999 of type (ref extern)");
    }
}

/* Set inside a block is not set behind it. */
static void local_initialisation_is_per_block(void **state) {
    (void)state;
    for (int inside = 0; inside < 2; inside++) {
        struct buf b = {NULL, 0, 0}, s = {NULL, 0, 0}, body = {NULL, 0, 0};
        put_header(&b);
        PUT(&s, 1, 0x60, 1, 0x64, 0x6f, 0); /* (func (param (ref extern))) */
        put_section(&b, 1, &s);
        PUT(&s, 1, 0);
        put_section(&b, 3, &s);
        PUT(&body, 1, 1, 0x64, 0x6f, 0x02, 0x40, 0x20, 0, 0x21, 1);
        if (inside)
            PUT(&body, 0x20, 1, 0x1a, 0x0b);
        else
            PUT(&body, 0x0b, 0x20, 1, 0x1a);
        put_byte(&body, 0x0b);
        put_byte(&s, 1);
        put_sized(&s, &body);
        put_section(&b, 10, &s);
        if (inside)
            accept(&b);
        else
            refuse(&b, false, "uninitialized local 1");
    }
}

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* A great many tiny bodies with 50,000 locals each; and br_tables that name wide labels over and over. */
static void time_bombs(void **state) {
    (void)state;
    enum { N = 100000 };
    struct buf b = {NULL, 0, 0}, s = {NULL, 0, 0}, body = {NULL, 0, 0};
    put_header(&b);
    PUT(&s, 1, 0x60, 0, 0);
    put_section(&b, 1, &s);
    put_leb(&s, N);
    put_repeat(&s, 0, N);
    put_section(&b, 3, &s);
    put_leb(&s, N);
    for (unsigned i = 0; i < N; i++) {
        PUT(&body, 1);
        put_leb(&body, MAX_LOCALS);
        PUT(&body, 0x64, 0x6f, 0x0b);
        put_sized(&s, &body);
    }
    put_section(&b, 10, &s);
    double from = seconds();
    accept(&b);
    assert_true(seconds() - from < 20);

    put_header(&b);
    PUT(&s, 1, 0x60, 0);
    put_leb(&s, MAX_RESULTS);
    put_repeat(&s, 0x7f, MAX_RESULTS);
    put_section(&b, 1, &s);
    PUT(&s, 1, 0);
    put_section(&b, 3, &s);
    PUT(&s, 1);
    PUT(&body, 0, 0x10, 0);
    for (unsigned i = 0; i < 20; i++) {
        PUT(&body, 0x41, 0, 0x0e);
        put_leb(&body, MAX_BR_TABLE);
        put_repeat(&body, 0, MAX_BR_TABLE + 1);
    }
    put_byte(&body, 0x0b);
    put_sized(&s, &body);
    put_section(&b, 10, &s);
    from = seconds();
    accept(&b);
    assert_true(seconds() - from < 5);
}

static void many_custom_sections(void **state) {
    (void)state;
    struct buf b = {NULL, 0, 0};
    put_header(&b);
    for (unsigned i = 0; i <= MAX_CUSTOMS; i++)
        PUT(&b, 0, 1, 0);
    refuse(&b, true, "more than 100000 custom sections");
}

static void messages(void **state) {
    (void)state;
    struct buf b = {NULL, 0, 0}, s = {NULL, 0, 0}, body = {NULL, 0, 0};
    PUT(&body, 0, 0x41, 1, 0x44, 0, 0, 0, 0, 0, 0, 0, 0, 0x6a, 0x1a, 0x0b); /* i32, f64, i32.add */
    one_function(&b, &body);
    put_name(&s, "name");
    PUT(&s, 1, 7, 1, 0, 4, 'f', 'o', '"', 'o');
    put_section(&b, 0, &s);
    refuse(&b, false, "function 0 (\"fo?o\") at 0x22: i32.add expects i32, found f64");
    assert_int_equal(err.offset, 0x22);
    assert_int_equal(err.func, 0);

    PUT(&b, '(', 'm', 'o', 'd', 'u', 'l', 'e', ')');
    refuse(&b, true, "not a WebAssembly binary");
    PUT(&b, 0, 'a', 's', 'm', 0x0d, 0, 1, 0);
    refuse(&b, true, "a component, expected a core module");
    put_header(&b);
    PUT(&b, 3, 1, 0, 1, 1, 0);
    refuse(&b, true, "type section at 0xb: unexpected content: the section is out of order or there twice");
    PUT(&body, 0, 0x02, 0x7f, 0x0b, 0x0b);
    one_function(&b, &body);
    refuse(&b, false, "end expects i32, found an empty stack");
    PUT(&body, 0, 0xfe, 0x03, 0x00, 0x0b);
    one_function(&b, &body);
    refuse(&b, true, "atomic instructions (threads proposal) are not supported yet");
    PUT(&body, 0, 0x10, 7, 0x0b);
    one_function(&b, &body);
    refuse(&b, false, "call: unknown function 7, there are 1");
    PUT(&body, 0, 0x28, 2, 0, 0x0b);
    one_function(&b, &body);
    refuse(&b, false, "i32.load: unknown memory 0, there are 0");
}

/* A recursion group may be empty, and the section too. */
static void empty_groups(void **state) {
    (void)state;
    struct buf b = {NULL, 0, 0};
    put_header(&b);
    PUT(&b, 1, 12, 4, 0x4e, 0, 0x4e, 1, 0x60, 0, 0, 0x4e, 0, 0x4e, 0);
    struct module *m = load(&b);
    if (!m) fail_msg("%s", err.message);
    assert_int_equal(m->n_types, 1);
    module_unref(m);
    put_header(&b);
    PUT(&b, 1, 1, 0);
    accept(&b);
}

/* Two modules of one engine: equal types have equal ids. */
static void types_are_shared(void **state) {
    (void)state;
    struct buf b = {NULL, 0, 0}, whole = {NULL, 0, 0};
    rich_module(&b);
    struct module *one = load(&b);
    put_header(&whole);
    PUT(&whole, 1, 7, 1, 0x60, 2, 0x7f, 0x7e, 1, 0x7d);
    struct module *two = load(&whole);
    assert_true(one && two);
    assert_int_equal(one->type_ids[1], two->type_ids[0]);
    module_ref(two);
    module_unref(two);
    module_unref(two);
    module_unref(one);
}

static void duplicate_exports(void **state) {
    (void)state;
    enum { N = 20000 };
    for (int twice = 0; twice < 2; twice++) {
        struct buf b = {NULL, 0, 0}, s = {NULL, 0, 0};
        put_header(&b);
        PUT(&b, 5, 3, 1, 0, 1);
        put_leb(&s, N);
        for (unsigned i = 0; i < N; i++) {
            char name[16] = {'a'};
            unsigned k = twice && i == N - 1 ? 17 : i;
            for (unsigned d = 1; d < 6; d++, k /= 10)
                name[d] = (char)('0' + k % 10);
            put_name(&s, name);
            PUT(&s, 2, 0);
        }
        put_section(&b, 7, &s);
        if (twice)
            refuse(&b, false, "duplicate export name \"a71000\"");
        else
            accept(&b);
    }
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, start, stop)
    const struct CMUnitTest tests[] = {
        T(rich_module_is_valid),
        T(truncated_and_changed_anywhere),
        T(out_of_memory_anywhere),
        T(count_bombs),
        T(sizes_beyond_the_end),
        T(deep_nesting),
        T(deep_stacks),
        T(wide_calls),
        T(locals_up_to_the_limit),
        T(far_locals),
        T(local_initialisation_is_per_block),
        T(time_bombs),
        T(many_custom_sections),
        T(messages),
        T(empty_groups),
        T(types_are_shared),
        T(duplicate_exports),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
