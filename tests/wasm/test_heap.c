/* The collected heap from the inside: what is reachable stays as it was, what is not goes. */
#include "heap.h"
#include "objects.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct world {
    struct engine *engine;
    struct store *store;
    struct tag *node; /* (i64, exnref, exnref) */
    struct tag *wide; /* 50 v128s */
};

static int setup(void **state) {
    static struct world w;
    w.engine = engine_new(donjon_platform_posix());
    w.store = store_new(w.engine, &(struct store_limits){.heap_bytes = 32 << 20});
    const valtype params[] = {VT_I64, VT_EXNREF, VT_EXNREF};
    w.node = tag_new(w.store, type_intern_func(w.engine, params, 3, NULL, 0));
    valtype vectors[50];
    for (int i = 0; i < 50; i++)
        vectors[i] = VT_V128;
    w.wide = tag_new(w.store, type_intern_func(w.engine, vectors, 50, NULL, 0));
    *state = &w;
    return w.store ? 0 : -1;
}

static int teardown(void **state) {
    struct world *w = *state;
    store_delete(w->store);
    engine_delete(w->engine);
    return 0;
}

static struct exn *node(struct world *w, uint64_t value, struct exn *left, struct exn *right) {
    struct exn *x = heap_new_exn(w->store->heap, w->node);
    if (!x) return NULL;
    assert_int_equal(x->n_slots, 3);
    assert_int_equal(x->payload[0].i64, 0);
    x->payload[0].i64 = value;
    x->payload[1].exn = left;
    x->payload[2].exn = right;
    return x;
}

static struct global *exn_global(struct world *w) {
    struct global *g = global_new(w->store, &(struct globaltype){VT_EXNREF, true}, (slot[2]){{0}, {0}});
    assert_non_null(g);
    return g;
}

/* Enough garbage for several collections. */
static void litter(struct world *w) {
    for (int i = 0; i < 400000; i++)
        assert_non_null(node(w, 1, NULL, NULL));
}

/* A list too long for any stack. */
static void long_chain(void **state) {
    struct world *w = *state;
    enum { N = 300000 };
    struct global *g = exn_global(w);
    for (uint64_t i = 0; i < N; i++) {
        struct exn *x = node(w, i, g->value[0].exn, NULL);
        assert_non_null(x);
        g->value[0].exn = x;
    }
    litter(w);
    uint64_t i = N;
    for (struct exn *x = g->value[0].exn; x; x = x->payload[1].exn)
        assert_int_equal(x->payload[0].i64, --i);
    assert_int_equal(i, 0);
    uint64_t full = heap_bytes(w->store->heap);
    assert_true(full >= N * 40);
    g->value[0].exn = NULL;
    litter(w);
    assert_true(heap_bytes(w->store->heap) < full / 2);
}

/* Cycles are no reason to stay. */
static void cycles(void **state) {
    struct world *w = *state;
    for (int i = 0; i < 1000000; i++) {
        struct exn *a = node(w, 1, NULL, NULL);
        assert_non_null(a);
        a->payload[1].exn = a->payload[2].exn = a;
    }
    assert_true(heap_bytes(w->store->heap) < 32 << 20);
}

/* Roots that are no references at all: inside of objects, off by a little, anything. */
static void strange_addresses(void **state) {
    struct world *w = *state;
    enum { N = 1000 };
    struct tabletype type = {VT_EXTERNREF, {.min = N, .max = UINT64_MAX}};
    struct table *t = table_new(w->store, &type, (slot){0});
    struct exn *x = node(w, 1, NULL, NULL);
    uint64_t random = 88172645463325252u;
    for (int i = 0; i < N; i++) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        uintptr_t near = (uintptr_t)x + (uintptr_t)(int)(i - N / 2) * (i & 1 ? 1 : 4096);
        t->elems[i].i64 = i % 3 ? near : random;
    }
    litter(w);
    table_fill(t, 0, (slot){0}, N);
}

/* A graph that changes at random under a table of roots, compared with its description outside. */
static void random_graph(void **state) {
    struct world *w = *state;
    enum { ROOTS = 200, STEPS = 400000 };
    struct tabletype type = {VT_EXNREF, {.min = ROOTS, .max = UINT64_MAX}};
    struct table *t = table_new(w->store, &type, (slot){0});
    static uint64_t sums[ROOTS]; /* of a root's whole list along payload[1] */
    uint32_t random = 1;
    for (int step = 0; step < STEPS; step++) {
        random = random * 1664525 + 1013904223;
        uint32_t i = (random >> 8) % ROOTS, k = (random >> 16) % ROOTS;
        if (random >> 30 == 0) { /* a new list, out of nothing */
            t->elems[i].exn = node(w, step, NULL, t->elems[k].exn);
            sums[i] = (uint64_t)step;
        } else if (random >> 30 == 1) { /* wide things between */
            struct exn *x = heap_new_exn(w->store->heap, w->wide);
            assert_non_null(x);
            memset(x->payload, 0xff, x->n_slots * sizeof *x->payload);
        } else { /* one longer than another */
            t->elems[i].exn = node(w, step, t->elems[k].exn, NULL);
            sums[i] = sums[k] + (uint64_t)step;
        }
        assert_non_null(t->elems[i].exn ? t->elems[i].exn : (void *)1);
        if (step % 1000) continue;
        for (i = 0; i < ROOTS; i += 7) /* keep lists short enough */
            t->elems[i].exn = NULL, sums[i] = 0;
    }
    for (uint32_t i = 0; i < ROOTS; i++) {
        uint64_t sum = 0;
        for (struct exn *x = t->elems[i].exn; x; x = x->payload[1].exn)
            sum += x->payload[0].i64;
        assert_int_equal(sum, sums[i]);
    }
}

/* Pinned objects stay; a full heap says so and is usable again when there is room. */
static void pins_and_exhaustion(void **state) {
    struct world *w = *state;
    struct exn *pinned = node(w, 42, NULL, NULL);
    heap_pin(w->store->heap, pinned);
    heap_pin(w->store->heap, pinned);
    heap_unpin(w->store->heap, pinned);
    struct global *g = exn_global(w);
    uint64_t n = 0;
    for (;; n++) {
        struct exn *x = node(w, n, g->value[0].exn, NULL);
        if (!x) break;
        g->value[0].exn = x;
    }
    assert_true(n > 100000);
    assert_null(heap_new_exn(w->store->heap, w->wide));
    g->value[0].exn = NULL;
    litter(w);
    assert_int_equal(pinned->payload[0].i64, 42);
    heap_unpin(w->store->heap, pinned);
    for (int i = 0; i < 1000; i++)
        assert_non_null(heap_new_exn(w->store->heap, w->wide));
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(long_chain), TEST(cycles), TEST(strange_addresses), TEST(random_graph), TEST(pins_and_exhaustion),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
