/* TOML text to struct config: what each key means, and every complaint with its place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "config/config.h"
#include "config/config_toml.h"
#include "config/nearest.h"

static struct config_reports reports;

static void parse_good(struct config *c, const char *text) {
    assert_true(config_init(c));
    if (!config_parse_toml(c, text, strlen(text), &reports)) fail_msg("%s", reports.report[0].message);
}

static void test_everything(void **state) {
    (void)state;
    struct config c;
    parse_good(&c, "steward = \"https://attest.example\"\n"
                   "args = [\"--first\", \"two words\", \"\"]\n"
                   "[env]\nLANG = \"C\"\n\"odd key\" = \"x\"\n"
                   "[[files]]\nkind = \"null\"\n"
                   "[[files]]\nkind = \"stdout\"\nname = \"out\"\n"
                   "[[files]]\nkind = \"stderr\"\n"
                   "[[files]]\nkind = \"listen\"\nname = \"HTTP\"\nprot = \"tcp\"\nport = 8080\naddr = \"127.0.0.1\"\n"
                   "[[files]]\nkind = \"connect\"\nhost = \"db.example\"\nprot = \"tcp\"\nport = 5432\n"
                   "[[files]]\nkind = \"listen\"\nname = \"L\"\nprot = \"tcp\"\n"
                   "[[mounts]]\nhost = \"data\"\nguest = \"/data\"\n"
                   "[[mounts]]\nhost = \"/tmp/w\"\nguest = \"w/\"\nwritable = true\n"
                   "[limits]\nmemory = \"64 MiB\"\nfuel = 1_000\ntime = \"30s\"\nstack = 1048576\n"
                   "[wasm]\nunknown-imports-trap = true\ninterpret = true\nexplicit-checks = true\n");
    assert_int_equal(reports.n, 1);
    assert_string_equal(c.steward, "https://attest.example");
    assert_int_equal(c.n_args, 3);
    assert_string_equal(c.args[1], "two words");
    assert_int_equal(c.n_env, 2);
    assert_string_equal(c.env[0].key, "LANG");
    assert_int_equal(c.n_files, 6);
    assert_int_equal(c.files[0].kind, CONFIG_NULL);
    assert_string_equal(c.files[0].name, "null");
    assert_string_equal(c.files[1].name, "out");
    assert_int_equal(c.files[3].kind, CONFIG_LISTEN);
    assert_int_equal(c.files[3].prot, CONFIG_TCP);
    assert_int_equal(c.files[3].port, 8080);
    assert_string_equal(c.files[3].addr, "127.0.0.1");
    assert_string_equal(c.files[4].name, "db.example");
    assert_string_equal(c.files[4].host, "db.example");
    assert_int_equal(c.files[5].port, 443);
    assert_string_equal(c.files[5].addr, "::");
    assert_int_equal(c.n_mounts, 2);
    assert_string_equal(c.mounts[0].host, "data");
    assert_false(c.mounts[0].writable);
    assert_string_equal(c.mounts[1].guest, "w");
    assert_true(c.mounts[1].writable);
    assert_int_equal(c.limits.memory, 64 << 20);
    assert_int_equal(c.limits.fuel, 1000);
    assert_int_equal(c.limits.time, 30 * CONFIG_SECOND);
    assert_int_equal(c.limits.stack, 1 << 20);
    assert_int_equal(c.limits.heap, 256 << 20);
    assert_true(c.unknown_imports_trap);
    assert_true(c.interpret);
    assert_true(c.explicit_checks);
    assert_true(c.announce_fds);
    config_free(&c);
}

static void test_empty_has_stdio(void **state) {
    (void)state;
    struct config c;
    parse_good(&c, "");
    assert_int_equal(c.n_files, 3);
    assert_string_equal(c.files[2].name, "stderr");
    config_free(&c);
    parse_good(&c, "files = []");
    assert_int_equal(c.n_files, 0);
    config_free(&c);
}

/* The first generation of Enarx.toml: its template with every comment taken out, and its own crate's test. */
static void test_enarx_files(void **state) {
    (void)state;
    struct config c;
    parse_good(&c,
               "args = [ \"--argument1\", \"--argument2=foo\" ]\n"
               "steward = \"https://steward.example.com\"\n"
               "[env]\nVAR1 = \"var1\"\nVAR2 = \"var2\"\n"
               "[[files]]\nkind = \"stdin\"\n[[files]]\nkind = \"stdout\"\n[[files]]\nkind = \"stderr\"\n"
               "[[files]]\nname = \"LISTEN\"\nkind = \"listen\"\nprot = \"tls\" # or prot = \"tcp\"\nport = 12345\n"
               "[[files]]\nname = \"CONNECT\"\nkind = \"connect\"\nprot = \"tcp\"\nhost = \"127.0.0.1\"\nport = 23456\n"
               "[[files]]\nkind = \"connect\"\nhost = \"example.com\"\n");
    char names[128];
    config_fd_names(&c, names, sizeof names);
    assert_string_equal(names, "stdin:stdout:stderr:LISTEN:CONNECT:example.com");
    assert_int_equal(c.files[5].prot, CONFIG_TLS);
    assert_int_equal(reports.n_errors, 0);
    assert_int_equal(reports.n_unsupported, 1);
    assert_int_equal(reports.report[0].severity, CONFIG_UNSUPPORTED);
    assert_int_equal(reports.report[0].line, 23);
    assert_non_null(strstr(reports.report[0].message, "files[5]: a TLS connection needs `trust`"));
    config_free(&c);
}

/* The second generation. */
static void test_enarx_network(void **state) {
    (void)state;
    struct config c;
    parse_good(&c, "steward = \"https://example.com\"\nargs = [ \"first\", \"2\" ]\n[env]\nTEST = \"test\"\n"
                   "[stdin]\nkind = \"null\"\n[stdout]\nkind = \"host\"\n[stderr]\n"
                   "[network.incoming.default]\nprot = \"tcp\"\n[network.incoming.9000]\nprot = \"tls\"\n"
                   "[network.outgoing.\"[::1]:8080\"]\nprot = \"tcp\"\n");
    assert_int_equal(c.n_files, 3);
    assert_int_equal(c.files[0].kind, CONFIG_NULL);
    assert_string_equal(c.files[0].name, "stdin");
    assert_int_equal(c.files[1].kind, CONFIG_STDOUT);
    assert_int_equal(reports.n_warnings, 2); /* its networks, and a steward without a CA */
    assert_int_equal(reports.n_errors + reports.n_unsupported, 0);
    config_free(&c);
}

static const struct {
    const char *text;
    unsigned line, column;
    const char *message; /* is part of it */
} bad[] = {
    {"\n[[filess]]\nkind = \"null\"", 2, 3, "unknown key \"filess\"; did you mean \"files\"?"},
    {"zzz = 1", 1, 1, "unknown key \"zzz\"; expected args, env, steward,"},
    {"args = 5", 1, 8, "args: expected an array of strings, [\"...\", \"...\"], found the integer 5"},
    {"args = [\"a\",\n 8080]", 2, 2, "args[1]: expected a string (write \"8080\"), found the integer 8080"},
    {"args = [\"a\\u0000b\"]", 1, 9, "args[0]: must not contain a NUL"},
    {"[env]\nA = true", 2, 5, "env.A: expected a string (write \"true\"), found the boolean true"},
    {"[env]\n\"A=B\" = \"x\"", 2, 9, "must not contain '='"},
    {"[env]\n\"\" = \"x\"", 2, 6, "must not be empty"},
    {"env = []", 1, 7, "env: expected a table, [env], found an array"},
    {"steward = \"attest.example\"", 1, 11, "expected a URL that begins with https://"},
    {"steward = 1.5", 1, 11, "steward: expected a string, found a floating-point number"},
    {"[[files]]\nname = \"x\"", 1, 1, "files[0]: \"kind\" is missing; expected null, stdin"},
    {"[[files]]\nkind = \"listn\"", 2, 8, "found the string \"listn\"; did you mean \"listen\"?"},
    {"[[files]]\nkind = 3", 2, 8, "files[0].kind: expected \"null\", \"stdin\""},
    {"[[files]]\nkind = \"listen\"\nprot = \"tcp\"", 1, 1, "files[0]: \"name\" is missing"},
    {"[[files]]\nkind = \"connect\"\nprot = \"tcp\"", 1, 1, "files[0]: \"host\" is missing"},
    {"[[files]]\nkind = \"listen\"\nname = \"L\"\nhost = \"x\"\nprot = \"tcp\"", 4, 1,
     "files[0]: \"host\" does not belong to kind = \"listen\", whose keys are kind, name, addr, port, prot, "
     "client-auth, trust, "
     "peer-policy and peer-development-root"},
    {"[[files]]\nkind = \"listen\"\nname = \"L\"\nclient-auth = \"require\"", 3, 8, "whose clients are to be let in?"},
    {"[[files]]\nkind = \"listen\"\nname = \"L\"\nclient-auth = \"maybe\"", 4, 15,
     "files[0].client-auth: expected \"none\" or \"require\""},
    {"[[files]]\nkind = \"listen\"\nname = \"L\"\ntrust = [\"ca.pem\"]", 4, 10,
     "files[0].trust[0]: no file can be read here"},
    {"[[files]]\nkind = \"connect\"\nhost = \"h\"\nprot = \"tcp\"\nserver-name = \"x\"", 2, 8,
     "only listen and connect"},
    {"[[files]]\nkind = \"connect\"\nhost = \"h\"\npeer-policy = 1", 4, 15, "files[0].peer-policy: expected a string"},
    {"[tls]\nnames = [\"a b\"]", 2, 10, "tls.names[0]: expected a DNS name or an address"},
    {"[tls]\nlifetime = \"1s\"", 2, 12, "tls.lifetime: expected 1min to 168h, found 1s"},
    {"[tls]\nlifetime = 5", 2, 12, "tls.lifetime: expected a time such as \"12h\""},
    {"[tls]\nlifetimes = \"1h\"", 2, 1, "did you mean \"lifetime\"?"},
    {"[tls]\nsteward-ca = \"ca.pem\"", 2, 14, "tls.steward-ca: no file can be read here"},
    {"[[files]]\nkind = \"stdin\"\nport = 1", 3, 1,
     "\"port\" does not belong to kind = \"stdin\", whose keys are kind and name"},
    {"[[files]]\nkind = \"listen\"\nname = \"L\"\nprot = \"udp\"", 4, 8,
     "expected \"tls\" or \"tcp\", found the string \"udp\""},
    {"[[files]]\nkind = \"listen\"\nname = \"L\"\nprot = \"tcp\"\nport = 65536", 5, 8,
     "files[0].port: expected a number from 0 to 65535, found the integer 65536"},
    {"[[files]]\nkind = \"connect\"\nhost = \"L\"\nprot = \"tcp\"\nport = 0", 5, 8,
     "expected a number from 1 to 65535"},
    {"[[files]]\nkind = \"null\"\nname = \"test:\"", 3, 8, "files[0].name: must not contain ':'"},
    {"[[files]]\nkind = \"null\"\nname = \"\"", 3, 8, "files[0].name: must not be empty"},
    {"files = [1]", 1, 10, "files[0]: expected a table, [[files]], found the integer 1"},
    {"[files]\nkind = \"null\"", 1, 1, "files: expected an array of tables, [[files]], found a table"},
    {"[stdin]\nkind = \"hots\"", 2, 8, "stdin.kind: expected \"null\" or \"host\""},
    {"files = []\n[stdin]", 1, 9, "cannot be together"},
    {"[[mounts]]\nguest = \"/x\"", 1, 1, "mounts[0]: \"host\" is missing"},
    {"[[mounts]]\nhost = \"/x\"", 1, 1, "mounts[0]: \"guest\" is missing"},
    {"[[mounts]]\nhost = \"/x\"\nguest = \"/a/../b\"", 3, 9, "must not contain \"..\""},
    {"[[mounts]]\nhost = \"/x\"\nguest = \"/\"\nwriteable = true", 4, 1, "did you mean \"writable\"?"},
    {"[[mounts]]\nhost = \"/x\"\nguest = \"/\"\nwritable = 1", 4, 12, "mounts[0].writable: expected true or false"},
    {"[[mounts]]\nhost = \"a\"\nguest = \"/x\"\n[[mounts]]\nhost = \"b\"\nguest = \"x\"", 6, 9,
     "\"x\" is mounted twice"},
    {"[limits]\nmemroy = 1", 2, 1, "unknown key \"limits.memroy\"; did you mean \"memory\"?"},
    {"[limits]\nmemory = \"lots\"", 2, 10,
     "limits.memory: expected a size such as \"64 MiB\", found the string \"lots\""},
    {"[limits]\nmemory = -1", 2, 10, "limits.memory: expected a size"},
    {"[limits]\nmemory = 10", 2, 10, "limits.memory: expected 64 KiB to 1 TiB, found 10 B"},
    {"[limits]\ntime = \"30 MiB\"", 2, 8, "limits.time: expected a time such as \"30s\" or \"unlimited\""},
    {"[limits]\nmemory = \"unlimited\"", 2, 10, "expected 64 KiB to 1 TiB, found unlimited"},
    {"[wasm]\nunknown-imports-trap = true\nunknown-imports-default = true", 3, 27,
     "not together with unknown-imports-trap"},
    {"[wasm]\nunknown-import-trap = true", 2, 1, "did you mean \"unknown-imports-trap\"?"},
    {"[network]\nincomming = {}", 2, 1, "did you mean \"incoming\"?"},
    {"[network.incoming.80]\nprot = \"x\"", 2, 8, "network.incoming.80.prot: expected \"tls\" or \"tcp\""},
    {"args = [", 1, 9, "rror"},
    {"a = 1\n# \x01", 2, 3, "a control character, 0x01, which TOML does not allow"},
    {"[a\xef\xba\x80]", 1, 3, ""}, /* U+FE80 where white space may be: toml++ 3.3 took it for impossible */
    {"a = 1\na = 2", 2, 1, ""},
    {"\xff\xfe", 1, 1, ""},
};

static void test_errors(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct config c;
        assert_true(config_init(&c));
        bool ok = config_parse_toml(&c, bad[i].text, strlen(bad[i].text), &reports);
        if (ok) fail_msg("accepted: %s", bad[i].text);
        const struct config_report *r = &reports.report[0];
        for (uint32_t k = 0; k < reports.n && r->severity != CONFIG_ERROR; k++)
            r = &reports.report[k + 1];
        if (!strstr(r->message, bad[i].message) ||
            (bad[i].message[0] && (r->line != bad[i].line || r->column != bad[i].column)))
            fail_msg("%s\n  found    %u:%u %s\n  expected %u:%u %s", bad[i].text, r->line, r->column, r->message,
                     bad[i].line, bad[i].column, bad[i].message);
        assert_null(strchr(r->message, '\n'));
        config_free(&c);
    }
}

static void test_all_errors_at_once(void **state) {
    (void)state;
    struct config c;
    assert_true(config_init(&c));
    const char *text = "argz = []\n[env]\nA = 1\nB = 2\n[limits]\nfule = 1\n";
    assert_false(config_parse_toml(&c, text, strlen(text), &reports));
    assert_int_equal(reports.n_errors, 4);
    assert_int_equal(reports.n, 4);
    config_free(&c);
}

/* Texts made to hurt: deep keys, deep arrays, many errors, a size beyond the limit. */
static void test_hostile(void **state) {
    (void)state;
    struct config c;
    size_t n = 2000000;
    char *text = malloc(n + 8);
    for (int shape = 0; shape < 4; shape++) {
        memset(text, shape == 2 ? '[' : 'a', n);
        if (shape < 2)
            for (size_t i = 1; i < n; i += 2)
                text[i] = '.';
        if (shape == 1) text[0] = '[';
        if (shape == 2) memcpy(text, "a = ", 4);
        if (shape == 3)
            for (size_t i = 0; i + 8 <= n; i += 8)
                snprintf(text + i, 9, "a%05zu=", i / 8 % 100000), text[i + 7] = '\n', text[i + 6] = '1';
        assert_true(config_init(&c));
        assert_false(config_parse_toml(&c, text, n, &reports));
        assert_true(reports.n_errors > 0 && reports.n <= CONFIG_TOML_REPORTS_MAX);
        config_free(&c);
    }
    free(text);
    text = calloc(1, CONFIG_TOML_BYTES_MAX + 1);
    assert_true(config_init(&c));
    assert_false(config_parse_toml(&c, text, CONFIG_TOML_BYTES_MAX + 1, &reports));
    assert_non_null(strstr(reports.report[0].message, "at most 4 MiB"));
    config_free(&c);
    free(text);

    /* Dots in strings and comments are not keys. */
    parse_good(&c, "# a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s.t.u.v.w.x.y.z.a.b.c.d.e.f.g.h.i.j.k\n"
                   "args = ['a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s.t.u.v.w.x.y.z.a.b.c.d.e.f.g.h', "
                   "\"\\\"........................................\",\n"
                   "'''........................................''''', "
                   "\"\"\"x\\\"\"\"........................................\"\"\"]\n");
    assert_int_equal(c.n_args, 4);
    config_free(&c);
}

static void test_nearest(void **state) {
    (void)state;
    static const char *const verbs[] = {"run", "config", "platform", "inspect", "help", "version"};
    assert_string_equal(nearest_word("rnu", 3, verbs, 6), "run");
    assert_string_equal(nearest_word("RUN", 3, verbs, 6), "run");
    assert_string_equal(nearest_word("confg", 5, verbs, 6), "config");
    assert_string_equal(nearest_word("versoin", 7, verbs, 6), "version");
    assert_null(nearest_word("xyzzy", 5, verbs, 6));
    assert_null(nearest_word("", 0, verbs, 6));
    char longer[200];
    memset(longer, 'r', sizeof longer);
    assert_null(nearest_word(longer, sizeof longer, verbs, 6));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything),  cmocka_unit_test(test_empty_has_stdio),
        cmocka_unit_test(test_enarx_files), cmocka_unit_test(test_enarx_network),
        cmocka_unit_test(test_errors),      cmocka_unit_test(test_all_errors_at_once),
        cmocka_unit_test(test_hostile),     cmocka_unit_test(test_nearest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
