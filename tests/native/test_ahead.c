/* Functions compiled by helpers while the program runs: results are the same, stores end while their helpers work, and
 * whoever has none compiles by itself. */
#include "builder.h"
#include "donjon/platform.h"
#include "donjon/wasm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

enum { FUNCS = 3000, FILL = 12 };

/* Function k gives k plus what function k + 1 gives (by a table, every seventh time); it is long enough not to be
 * inlined. "main" is the first. */
static struct buf make_module(void) {
    struct buf b = {0}, s = {0}, body = {0};
    put_header(&b);
    PUT(&s, 1, 0x60, 0, 1, 0x7f);
    put_section(&b, 1, &s);
    put_leb(&s, FUNCS);
    put_repeat(&s, 0, FUNCS);
    put_section(&b, 3, &s);
    PUT(&s, 1, 0x70, 0);
    put_leb(&s, FUNCS);
    put_section(&b, 4, &s);
    put_leb(&s, 1), put_name(&s, "main"), PUT(&s, 0, 0);
    put_section(&b, 7, &s);
    PUT(&s, 1, 0, 0x41, 0, 0x0b);
    put_leb(&s, FUNCS);
    for (uint32_t k = 0; k < FUNCS; k++)
        put_leb(&s, k);
    put_section(&b, 9, &s);
    put_leb(&s, FUNCS);
    for (uint32_t k = 0; k < FUNCS; k++) {
        PUT(&body, 1, 1, 0x7f);
        for (int i = 0; i < FILL * 8; i++)
            PUT(&body, 0x20, 0, 0x41, 1, 0x6a, 0x21, 0); /* local 0 += 1 */
        PUT(&body, 0x20, 0);
        if (k + 1 < FUNCS && k % 7 == 3) {
            put_byte(&body, 0x41);
            /* signed LEB128 of a number below 2^13 */
            put_byte(&body, (uint8_t)((k + 1) | 0x80)), put_byte(&body, (uint8_t)((k + 1) >> 7 & 0x3f));
            PUT(&body, 0x11, 0, 0);
        } else if (k + 1 < FUNCS) {
            put_byte(&body, 0x10);
            put_leb(&body, k + 1);
        } else {
            PUT(&body, 0x41, 0);
        }
        PUT(&body, 0x6a, 0x0b);
        put_sized(&s, &body);
    }
    put_section(&b, 10, &s);
    return b;
}

static void run(const struct donjon_platform *platform, unsigned helpers, unsigned calls) {
    wasm_engine_t *e = donjon_engine_new(platform);
    wasm_store_t *s = donjon_store_new(e, &(struct donjon_limits){.helpers = helpers});
    struct buf b = make_module();
    struct donjon_module_error error = {0};
    wasm_module_t *m = donjon_module_new(s, b.data, b.size, &error);
    assert_non_null(m);
    wasm_extern_vec_t imports = {0, NULL};
    wasm_instance_t *i = wasm_instance_new(s, m, &imports, NULL);
    assert_non_null(i);
    wasm_extern_t *main_ = donjon_instance_export(i, "main");
    assert_true(donjon_platform_posix_rearm()); /* cmocka has taken the signals */
    for (unsigned k = 0; k < calls; k++) {
        donjon_slot_t slots[1];
        assert_null(donjon_func_call(wasm_extern_as_func(main_), slots));
        assert_int_equal(slots[0].i32, FUNCS * FILL * 8);
    }
    wasm_extern_delete(main_);
    wasm_instance_delete(i);
    wasm_module_delete(m);
    wasm_store_delete(s);
    wasm_engine_delete(e);
    free(b.data);
}

static void same_results(void **state) {
    (void)state;
    for (unsigned helpers = 0; helpers <= 3; helpers++)
        run(donjon_platform_posix_threads(), helpers, 2);
}

static void ends_at_work(void **state) {
    (void)state;
    for (unsigned k = 0; k < 10; k++)
        run(donjon_platform_posix_threads(), 3, 0);
}

static void without_threads(void **state) {
    (void)state;
    run(donjon_platform_posix(), 3, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_results), cmocka_unit_test(ends_at_work),
                                       cmocka_unit_test(without_threads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
