/* The type registry: what is equal gets one id, what is not does not, and subtyping follows the declared chains. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "donjon/platform.h"
#include "limits.h"
#include "store.h"

static struct engine *e;

static int start(void **state) {
    (void)state;
    e = engine_new(donjon_platform_posix());
    return !e;
}
static int stop(void **state) {
    (void)state;
    engine_delete(e);
    return 0;
}

static struct rectype func(const valtype *params, uint32_t n_params, uint32_t super, bool final) {
    struct rectype t = {.kind = COMP_FUNC, .final = final, .super = super};
    t.func.n_params = n_params;
    t.func.n_results = 0;
    t.func.params = t.func.results = params;
    return t;
}
static struct rectype structure(const struct fieldtype *fields, uint32_t n, uint32_t super) {
    struct rectype t = {.kind = COMP_STRUCT, .final = false, .super = super};
    t.agg.n_fields = n;
    t.agg.fields = fields;
    return t;
}
static uint32_t intern(const struct rectype *types, uint32_t n) {
    uint32_t first, bad;
    assert_int_equal(type_intern_group(e, types, n, &first, &bad), INTERN_OK);
    return first;
}
static valtype ref(uint32_t id) {
    return VT_REF(true, HEAP_CONCRETE + id);
}

static void equal_functions_have_one_id(void **state) {
    (void)state;
    const valtype a[] = {VT_I32, VT_I64}, b[] = {VT_I64, VT_I32};
    uint32_t one = type_intern_func(e, a, 2, b, 1);
    assert_int_equal(one, type_intern_func(e, a, 2, b, 1));
    assert_int_not_equal(one, type_intern_func(e, b, 2, b, 1));
    assert_int_not_equal(one, type_intern_func(e, a, 1, b, 1));
    assert_int_not_equal(one, type_intern_func(e, a, 2, b, 2));
    /* The same words, split otherwise into parameters and results. */
    assert_int_not_equal(type_intern_func(e, a, 2, NULL, 0), type_intern_func(e, a, 1, a + 1, 1));
    struct rectype open = func(a, 2, TYPE_NONE, false), closed = func(a, 2, TYPE_NONE, true);
    assert_int_not_equal(intern(&open, 1), intern(&closed, 1));
    assert_int_equal(intern(&closed, 1), type_intern_func(e, a, 2, NULL, 0));
}

static void groups_are_compared_whole(void **state) {
    (void)state;
    struct rectype f = func(NULL, 0, TYPE_NONE, true);
    struct rectype pair[] = {f, f};
    uint32_t alone = intern(&f, 1), both = intern(pair, 2);
    assert_int_not_equal(alone, both);
    assert_int_not_equal(alone, both + 1);
    assert_int_equal(both, intern(pair, 2));
    assert_int_equal(type_get(e, both)->group, type_get(e, both + 1)->group);
}

/* A type that names itself is equal to another that names itself, not to one that names the first. */
static void recursion_is_structural(void **state) {
    (void)state;
    const valtype self[] = {ref(TYPE_REC | 0)};
    struct rectype loop = func(self, 1, TYPE_NONE, true);
    uint32_t one = intern(&loop, 1);
    assert_int_equal(one, intern(&loop, 1));
    assert_int_equal(type_func(e, one)->params[0], ref(one));
    const valtype outer[] = {ref(one)};
    struct rectype other = func(outer, 1, TYPE_NONE, true);
    uint32_t two = intern(&other, 1);
    assert_int_not_equal(one, two);
    assert_int_equal(two, intern(&other, 1));
}

static void subtypes_follow_their_chain(void **state) {
    (void)state;
    struct fieldtype fields[] = {{VT_I32, false}, {VT_I64, true}, {VT_I8, true}};
    struct rectype base = structure(fields, 1, TYPE_NONE);
    uint32_t a = intern(&base, 1);
    struct rectype group[] = {structure(fields, 2, a), structure(fields, 3, TYPE_REC | 0), structure(fields, 2, a)};
    uint32_t b = intern(group, 3), c = b + 1, sibling = b + 2;
    assert_int_equal(type_get(e, c)->depth, 2);
    assert_true(type_id_matches(e, c, a) && type_id_matches(e, c, b) && type_id_matches(e, b, a));
    assert_false(type_id_matches(e, a, b) || type_id_matches(e, c, sibling) || type_id_matches(e, sibling, b));
    assert_true(type_matches(e, VT_REF(false, HEAP_CONCRETE + c), ref(a)));
    assert_false(type_matches(e, ref(c), VT_REF(false, HEAP_CONCRETE + a)));
    assert_true(type_matches(e, ref(c), VT_REF(true, HEAP_STRUCT)) && type_matches(e, ref(c), VT_REF(true, HEAP_ANY)));
    assert_false(type_matches(e, ref(c), VT_REF(true, HEAP_ARRAY)) || type_matches(e, ref(c), VT_FUNCREF));
    assert_true(type_matches(e, VT_REF(true, HEAP_NONE), ref(c)));
    assert_false(type_matches(e, VT_REF(true, HEAP_NOFUNC), ref(c)));
}

/* The whole lattice of abstract heap types against the figure of section 3.3.3. */
static void abstract_heap_types(void **state) {
    (void)state;
    static const struct {
        uint32_t type, parent;
    } tree[] = {{HEAP_EQ, HEAP_ANY},       {HEAP_I31, HEAP_EQ},      {HEAP_STRUCT, HEAP_EQ},
                {HEAP_ARRAY, HEAP_EQ},     {HEAP_NONE, HEAP_I31},    {HEAP_NONE, HEAP_STRUCT},
                {HEAP_NONE, HEAP_ARRAY},   {HEAP_NOFUNC, HEAP_FUNC}, {HEAP_NOEXTERN, HEAP_EXTERN},
                {HEAP_NOEXN, HEAP_EXN},    {HEAP_BOT, HEAP_NONE},    {HEAP_BOT, HEAP_NOFUNC},
                {HEAP_BOT, HEAP_NOEXTERN}, {HEAP_BOT, HEAP_NOEXN}};
    bool below[HEAP_CONCRETE][HEAP_CONCRETE] = {{false}};
    for (uint32_t i = 0; i < HEAP_CONCRETE; i++)
        below[i][i] = true;
    for (size_t round = 0; round < 6; round++)
        for (size_t k = 0; k < sizeof tree / sizeof *tree; k++)
            for (uint32_t i = 0; i < HEAP_CONCRETE; i++)
                if (below[tree[k].parent][i]) below[tree[k].type][i] = true;
    for (uint32_t a = 0; a <= HEAP_BOT; a++)
        for (uint32_t b = 0; b <= HEAP_BOT; b++)
            assert_int_equal(type_matches(e, VT_REF(false, a), VT_REF(true, b)), below[a][b]);
}

static enum intern_status status_of(const struct rectype *t, uint32_t *bad) {
    uint32_t first;
    return type_intern_group(e, t, 1, &first, bad);
}

static void bad_supertypes_are_refused(void **state) {
    (void)state;
    uint32_t bad;
    struct fieldtype a[] = {{VT_I32, true}, {VT_I64, false}}, b[] = {{VT_I32, false}, {VT_I64, false}};
    struct rectype base = structure(a, 2, TYPE_NONE);
    uint32_t id = intern(&base, 1);
    struct rectype fewer = structure(a, 1, id), other = structure(b, 2, id), kind = func(NULL, 0, id, false);
    assert_int_equal(status_of(&fewer, &bad), INTERN_SUPER);
    assert_int_equal(status_of(&other, &bad), INTERN_SUPER);
    assert_int_equal(status_of(&kind, &bad), INTERN_SUPER);
    struct rectype closed = func(NULL, 0, TYPE_NONE, true);
    struct rectype late = func(NULL, 0, intern(&closed, 1), true);
    assert_int_equal(status_of(&late, &bad), INTERN_FINAL);
    /* Refused, they left nothing: the next type gets the next id. */
    uint32_t before = intern(&(struct rectype){.kind = COMP_ARRAY, .super = TYPE_NONE, .agg = {1, a}}, 1);
    assert_int_equal(status_of(&fewer, &bad), INTERN_SUPER);
    assert_int_equal(intern(&(struct rectype){.kind = COMP_ARRAY, .super = TYPE_NONE, .agg = {1, b}}, 1), before + 1);
}

static void chains_end(void **state) {
    (void)state;
    struct rectype t = func(NULL, 0, TYPE_NONE, false);
    uint32_t bad;
    for (uint32_t i = 0; i <= MAX_SUBTYPE_DEPTH; i++)
        t.super = intern(&t, 1);
    assert_int_equal(type_get(e, t.super)->depth, MAX_SUBTYPE_DEPTH);
    assert_int_equal(status_of(&t, &bad), INTERN_DEPTH);
}

static void many_types(void **state) {
    (void)state;
    enum { N = 20000 };
    static uint32_t ids[N];
    valtype params[16];
    for (uint32_t round = 0; round < 2; round++)
        for (uint32_t i = 0; i < N; i++) {
            for (unsigned k = 0; k < 16; k++)
                params[k] = i >> k & 1 ? VT_I32 : VT_F64;
            uint32_t id = type_intern_func(e, params, 16, params, 1);
            if (round) assert_int_equal(id, ids[i]);
            ids[i] = id;
            assert_int_equal(type_get(e, id)->id, id);
        }
}

static void text(void **state) {
    (void)state;
    char out[32];
    static const struct {
        valtype type;
        const char *text;
    } cases[] = {{VT_I32, "i32"},
                 {VT_V128, "v128"},
                 {VT_BOT, "bot"},
                 {VT_FUNCREF, "(ref null func)"},
                 {VT_REF(false, HEAP_NOEXTERN), "(ref noextern)"},
                 {VT_I16, "i16"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        vt_print(cases[i].type, out);
        assert_string_equal(out, cases[i].text);
    }
    vt_print(VT_REF(false, HEAP_CONCRETE + 12), out);
    assert_string_equal(out, "(ref 12)");
    vt_print(VT_REF(true, (1u << 28) - 1), out);
    assert_true(strlen(out) < sizeof out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(equal_functions_have_one_id, start, stop),
        cmocka_unit_test_setup_teardown(groups_are_compared_whole, start, stop),
        cmocka_unit_test_setup_teardown(recursion_is_structural, start, stop),
        cmocka_unit_test_setup_teardown(subtypes_follow_their_chain, start, stop),
        cmocka_unit_test_setup_teardown(abstract_heap_types, start, stop),
        cmocka_unit_test_setup_teardown(bad_supertypes_are_refused, start, stop),
        cmocka_unit_test_setup_teardown(chains_end, start, stop),
        cmocka_unit_test_setup_teardown(many_types, start, stop),
        cmocka_unit_test_setup_teardown(text, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
