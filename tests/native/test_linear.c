/* What compiling one function costs, by its size: steps and memory are counted, so that it does not depend on the
 * machine. */
#include "builder.h"
#include "donjon/platform.h"
#include "native/compile.h"
#include "store.h"

#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct { size_t now, peak; } used;

static void *counting_realloc(void *ctx, void *block, size_t size) {
    const struct donjon_platform *p = ctx;
    if (block) used.now -= malloc_usable_size(block);
    void *fresh = p->realloc(p->ctx, block, size);
    if (fresh) used.now += malloc_usable_size(fresh);
    if (used.now > used.peak) used.peak = used.now;
    return fresh;
}

/* ---- shapes: bodies of about `size` bytes, on locals 0 to LOCALS-1, all i32 ---- */

enum { LOCALS = 24, I32 = 0x7f };
static uint32_t state; /* of the choices; the same for every size */
static uint32_t any(uint32_t n) {
    state = state * 1664525u + 1013904223u;
    return (state >> 8) % n;
}

static void op(struct buf *b, uint8_t code, uint32_t n) {
    put_byte(b, code);
    put_leb(b, n);
}
static void statement(struct buf *b) {
    static const uint8_t ops[] = {0x6a, 0x6b, 0x6c, 0x71, 0x73};
    op(b, 0x20, any(LOCALS));
    if (any(3) == 0) {
        PUT(b, 0x28, 2, 8); /* i32.load */
    } else {
        op(b, 0x20, any(LOCALS));
        put_byte(b, ops[any(5)]);
    }
    op(b, 0x21, any(LOCALS));
}
static void branch(struct buf *b, uint32_t depth) {
    op(b, 0x20, any(LOCALS));
    op(b, 0x0d, depth);
}

static void straight(struct buf *b, size_t size) {
    while (b->size < size)
        statement(b);
}
static void diamonds(struct buf *b, size_t size) {
    while (b->size < size) {
        op(b, 0x20, any(LOCALS)), PUT(b, 0x04, 0x40), statement(b);
        PUT(b, 0x05), statement(b), PUT(b, 0x0b);
    }
}
static void nested(struct buf *b, size_t size) {
    const uint32_t depth = (uint32_t)size / 32;
    for (uint32_t k = 0; k < depth; k++)
        PUT(b, 0x02, 0x40);
    for (uint32_t k = depth; k; k--)
        statement(b), branch(b, any(k)), statement(b), PUT(b, 0x0b);
}
static void loops(struct buf *b, size_t size) {
    while (b->size < size) {
        for (uint32_t k = 0; k < 6; k++)
            PUT(b, 0x03, 0x40), statement(b);
        for (uint32_t k = 0; k < 6; k++)
            statement(b), branch(b, 0), PUT(b, 0x0b);
    }
}
static void interpreter(struct buf *b, size_t size) {
    const uint32_t n = (uint32_t)size / 64;
    PUT(b, 0x03, 0x40);
    for (uint32_t k = 0; k <= n; k++)
        PUT(b, 0x02, 0x40);
    PUT(b, 0x20, 0), op(b, 0x0e, n);
    for (uint32_t k = 0; k <= n; k++)
        put_leb(b, k);
    PUT(b, 0x0b);
    for (uint32_t k = 0; k < n; k++) {
        for (uint32_t i = 0; i < 6; i++)
            statement(b);
        op(b, 0x0c, n - k), PUT(b, 0x0b);
    }
    PUT(b, 0x0b);
}
static void live(struct buf *b, size_t size) {
    const uint32_t n = (uint32_t)size / 6;
    for (uint32_t k = 0; k < n; k++)
        PUT(b, 0x20, 0, 0x28, 2), put_leb(b, k % 100);
    for (uint32_t k = 1; k < n; k++)
        PUT(b, 0x6a);
    PUT(b, 0x1a);
}
static void calls(struct buf *b, size_t size) {
    while (b->size < size)
        statement(b), op(b, 0x20, any(LOCALS)), PUT(b, 0x10, 1), op(b, 0x21, any(LOCALS));
}

static const struct {
    const char *name;
    void (*make)(struct buf *, size_t);
} shapes[] = {{"straight", straight}, {"diamonds", diamonds},       {"nested", nested}, {"loops", loops},
              {"live", live},         {"interpreter", interpreter}, {"calls", calls}};

struct cost {
    double work, memory;
    bool ok;
};

static struct cost cost_of(struct buf *body) {
    struct donjon_platform platform = *donjon_platform_posix();
    platform.ctx = (void *)(uintptr_t)donjon_platform_posix();
    platform.realloc = counting_realloc;
    struct buf bytes = {0}, code = {0};
    put_header(&bytes);
    PUT(&bytes, 1, 6, 1, 0x60, 1, I32, 1, I32, 3, 3, 2, 0, 0, 5, 3, 1, 0, 1); /* two functions i32 -> i32, a memory */
    put_byte(&code, 2), put_sized(&code, body), PUT(&code, 4, 0, 0x20, 0, 0x0b);
    put_section(&bytes, 10, &code);
    struct engine *e = engine_new(&platform);
    struct module_error err;
    struct module *module = module_new(e, bytes.data, bytes.size, &err);
    assert_non_null(module);
    const size_t before = used.peak = used.now;
    struct compile_options o = {.find_code = UINT32_MAX};
    struct compiled c;
    struct cost cost = {.ok = compile_function(module, 0, &o, &c)};
    cost.work = (double)o.work;
    cost.memory = (double)(used.peak - before);
    compiled_free(&platform, &c);
    assert_int_equal(used.now, before);
    module_unref(module);
    engine_delete(e);
    free(bytes.data);
    return cost;
}

static struct cost cost_of_shape(unsigned shape, size_t size) {
    struct buf b = {0};
    state = 1;
    PUT(&b, 1, LOCALS - 1, I32);
    shapes[shape].make(&b, size);
    PUT(&b, 0x20, 0, 0x0b);
    return cost_of(&b);
}

/* Four times the function, at most six times the steps (sixteen would be the square); arrays double, so memory has more
 * room. */
static void grows_with_the_function(void **state_) {
    (void)state_;
    for (unsigned k = 0; k < sizeof shapes / sizeof *shapes; k++) {
        struct cost small = cost_of_shape(k, 32 << 10), large = cost_of_shape(k, 128 << 10);
        print_message("%-12s steps %6.1f a byte, x %.2f; memory %5.1f bytes a byte, x %.2f\n", shapes[k].name,
                      large.work / (128 << 10), large.work / small.work, large.memory / (128 << 10),
                      large.memory / small.memory);
        assert_true(small.ok && large.ok);
        assert_true(large.work < 6 * small.work);
        assert_true(large.memory < 8 * small.memory);
    }
}

/* Every call may branch to one place that wants every local: phis would be calls times locals. Such a function is
 * compiled with its locals in memory. */
static void too_many_phis(void **state_) {
    (void)state_;
    enum { MANY = 2000, CALLS = 8000 };
    struct buf b = {0};
    PUT(&b, 1), put_leb(&b, MANY), PUT(&b, I32, 0x02, 0x40);
    for (uint32_t k = 0; k < CALLS; k++)
        PUT(&b, 0x20, 0, 0x10, 1), op(&b, 0x21, 1 + k % MANY), PUT(&b, 0x20, 0, 0x0d, 0);
    PUT(&b, 0x0b);
    for (uint32_t k = 1; k <= MANY; k++)
        PUT(&b, 0x20, 0), op(&b, 0x20, k), PUT(&b, 0x36, 2, 0);
    PUT(&b, 0x20, 0, 0x0b);
    const double size = (double)b.size;
    struct cost cost = cost_of(&b);
    print_message("too many phis: steps %.1f a byte\n", cost.work / size);
    assert_true(cost.ok);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(grows_with_the_function), cmocka_unit_test(too_many_phis)};
    return cmocka_run_group_tests_name("linear", tests, NULL, NULL);
}
