/* steward.toml: what is read, and what is not. */
#include "support.h"

#define GOOD                                                                                                           \
    "audit = \"a\"\n[authority]\ncertificate = \"c\"\nkey = \"k\"\n[[issue]]\nname = \"n\"\npolicy = \"p\"\n"          \
    "workloads = [\"any\"]\nnames = [\"a.example\"]\n"

static struct steward_settings t;
static char error[SETTINGS_ERROR];

static bool reads(const char *text) {
    steward_settings_free(&t);
    return steward_settings_read(&t, text, strlen(text), "/etc/steward", error);
}

static void refuses(const char *text, const char *because) {
    if (reads(text)) fail_msg("read: %s", text);
    if (!strstr(error, because)) fail_msg("expected \"%s\", found \"%s\"", because, error);
}

static void test_reads(void **state) {
    (void)state;
    assert_true(reads(GOOD));
    assert_string_equal(t.listen, "127.0.0.1:7475");
    assert_int_equal(t.rules[0].lifetime, 6 * 3600);
    char *path = steward_settings_path(&t, "x");
    assert_string_equal(path, "/etc/steward/x");
    free(path);
    assert_true(reads(GOOD
                      "[[issue]]\nname = \"m\"\npolicy = \"p\"\nworkloads = [\"any\"]\nnames = [\"::1\"]\nlifetime = "
                      "\"10m\"\n[tls]\nnames = [\"s.example\"]\n[limits]\nbody = 8192\nnonce-lifetime = \"1m\"\n"));
    assert_int_equal(t.rule_count, 2);
    assert_int_equal(t.rules[1].lifetime, 600);
    assert_int_equal(t.nonce_lifetime, 60);
    steward_settings_free(&t);
}

static void test_refuses(void **state) {
    (void)state;
    refuses("", "audit is missing");
    refuses("audit = \"a\"\n", "[authority]");
    refuses("audit = 1\nlisten = \"x\"\n", "listen");
    refuses("listen = \"0.0.0.0:1\"\n" GOOD, "without [tls]");
    refuses("listen = \"localhost:1\"\n" GOOD, "an address and a port");
    refuses("listen = \"127.0.0.1:99999\"\n" GOOD, "an address and a port");
    refuses("audits = \"a\"\n" GOOD, "unknown key audits");
    refuses("audit = [\"a\", \"b\"]\n", "found a list");
    refuses("audit = true\n", "expected text or a number");
    refuses("audit = \"a\\u0000b\"\n", "NUL");
    refuses(GOOD "[other]\n", "unknown table");
    refuses(GOOD "lifetime = \"30d\"\n", "1m to 7d");
    refuses(GOOD "lifetime = 5\n", "1m to 7d");
    refuses(GOOD "[[issue]]\nname = \"n\"\npolicy = \"p\"\nworkloads = [\"any\"]\nnames = [\"a\"]\n", "there twice");
    refuses(GOOD "[[issue]]\nname = \"m\"\n", "policy is missing");
    refuses(GOOD "[[issue]]\nname = \"m\"\npolicy = \"p\"\nnames = [\"a\"]\n", "workloads");
    refuses(GOOD "[[issue]]\nname = \"m\"\npolicy = \"p\"\nworkloads = [\"12\"]\n", "64 hexadecimal digits");
    refuses(GOOD "[[issue]]\nname = \"m m\"\n", "letters, digits");
    refuses(GOOD "[tls]\n", "needs certificate and key");
    refuses(GOOD "[tls]\nkey = \"k\"\n", "both certificate and key");
    refuses(GOOD "[limits]\nbody = 1\n", "4096 to");
    refuses("audit = \n", "line 1");
}

static void test_names(void **state) {
    (void)state;
    assert_true(steward_dns_name("a", false) && steward_dns_name("a-b.c1", false) && steward_dns_name("*.a", true));
    static const char *const bad[] = {"",
                                      ".",
                                      "a.",
                                      ".a",
                                      "a..b",
                                      "-a",
                                      "a-",
                                      "a-.b",
                                      "a_b",
                                      "*.a",
                                      "a b",
                                      "1.2.3.4",
                                      "::1",
                                      "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                                      "\xc3\xa4.example"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (steward_dns_name(bad[i], false)) fail_msg("%s", bad[i]);
    assert_false(steward_dns_name("*.", true) || steward_dns_name("*", true) || steward_dns_name("*.*.a", true));
    assert_true(
        reads("audit = \"a\"\n[authority]\ncertificate = \"c\"\nkey = \"k\"\n[[issue]]\nname = \"n\"\npolicy = \"p\"\n"
              "workloads = [\"any\"]\nnames = [\"A.example\", \"*.k.example\", \"2001:db8::1\"]\n"));
    const struct steward_rule *r = &t.rules[0];
    assert_true(steward_rule_names(r, "a.example") && steward_rule_names(r, "x.k.example") &&
                steward_rule_names(r, "2001:0db8:0::1"));
    assert_false(steward_rule_names(r, "k.example") || steward_rule_names(r, "x.y.k.example") ||
                 steward_rule_names(r, "xk.example") || steward_rule_names(r, "*.k.example") ||
                 steward_rule_names(r, "2001:db8::2") || steward_rule_names(r, "xa.example"));
    steward_settings_free(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_reads), cmocka_unit_test(test_refuses),
                                       cmocka_unit_test(test_names)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
