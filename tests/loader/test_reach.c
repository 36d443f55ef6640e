/* How far a deployed keep reaches. */
#include "loader/reach.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <string.h>

static void test_words(void **state) {
    (void)state;
    static const char *const bad[] = {"", "0", "1-", "-1", "2-1", "1-65536", "65536", "1-2x", "x", "1--2", "any"};
    struct reach r = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(reach_parse_listen(bad[i], &r));
    assert_true(reach_parse_listen("20000-20999", &r));
    assert_true(reach_may_listen(&r, 20000) && reach_may_listen(&r, 20999) && reach_may_listen(&r, 0));
    assert_false(reach_may_listen(&r, 19999) || reach_may_listen(&r, 21000));
    assert_true(reach_parse_listen("443", &r));
    assert_true(reach_may_listen(&r, 443) && !reach_may_listen(&r, 444));
    assert_true(reach_parse_listen("none", &r));
    assert_false(reach_may_listen(&r, 0) || reach_may_listen(&r, 443));
    assert_true(reach_parse_connect("public", &r) && r.connect == REACH_PUBLIC);
    assert_false(reach_parse_connect("some", &r));
}

static bool may(enum reach_connect how, const char *text) {
    struct reach r = {.connect = how};
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1) return reach_may_connect(&r, (struct sockaddr *)&v4);
    assert_int_equal(inet_pton(AF_INET6, text, &v6.sin6_addr), 1);
    return reach_may_connect(&r, (struct sockaddr *)&v6);
}

static void test_addresses(void **state) {
    (void)state;
    static const char *const ours[] = {"0.0.0.0",
                                       "10.1.2.3",
                                       "100.64.0.1",
                                       "127.0.0.1",
                                       "127.255.255.255",
                                       "169.254.169.254",
                                       "172.16.0.1",
                                       "172.31.255.255",
                                       "192.168.1.1",
                                       "198.18.0.1",
                                       "224.0.0.1",
                                       "255.255.255.255",
                                       "::",
                                       "::1",
                                       "::ffff:10.0.0.1",
                                       "fe80::1",
                                       "fd00::1",
                                       "ff02::1",
                                       "64:ff9b::a00:1",
                                       "2002:a00:1::1",
                                       "2001:db8::1",
                                       "2001::1",
                                       "::ffff:127.0.0.1"};
    static const char *const theirs[] = {"1.1.1.1",      "172.32.0.1",   "193.0.0.1",
                                         "2606:4700::1", "2001:4860::1", "::ffff:1.1.1.1"};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        if (may(REACH_PUBLIC, ours[i])) fail_msg("%s", ours[i]);
        assert_true(may(REACH_ANY, ours[i]));
    }
    for (size_t i = 0; i < sizeof theirs / sizeof *theirs; i++) {
        if (!may(REACH_PUBLIC, theirs[i])) fail_msg("%s", theirs[i]);
        assert_false(may(REACH_NONE, theirs[i]));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_words), cmocka_unit_test(test_addresses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
