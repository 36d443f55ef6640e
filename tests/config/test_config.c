/* The struct, its setters and its wire form: round trips of random configs, and bytes that nobody encoded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "config/config.h"
#include "config/config_wire.h"

/* A small generator with a fixed seed, so that a failure can be seen again. */
static uint64_t seed = 0x9e3779b97f4a7c15;
static uint32_t rnd(uint32_t below) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 33) % below;
}

static const char *random_text(char *buf, uint32_t most, const char *without, uint32_t least) {
    uint32_t n = least + rnd(most - least + 1);
    for (uint32_t i = 0; i < n; i++) {
        do
            buf[i] = (char)(33 + rnd(94));
        while (strchr(without, buf[i]));
    }
    buf[n] = 0;
    return buf;
}

static void random_config(struct config *c) {
    struct config_error err = {""};
    char a[64], b[64], d[64];
    assert_true(config_init(c));
    random_text(a, 40, "", 1);
    assert_true(config_set_program(c, a, strlen(a), &err));
    for (uint32_t n = rnd(6); n; n--) {
        random_text(a, 60, "", 0);
        assert_true(config_add_arg(c, a, strlen(a), &err));
    }
    for (uint32_t n = rnd(6); n; n--) {
        random_text(a, 3, "=", 1);
        random_text(b, 60, "", 0);
        assert_true(config_set_env(c, a, strlen(a), b, strlen(b), &err));
    }
    if (rnd(2)) config_clear_files(c);
    for (uint32_t n = rnd(6); n; n--) {
        struct config_file f = {.kind = rnd(CONFIG_FILE_KINDS), .name = random_text(a, 20, ":", 1)};
        if (f.kind == CONFIG_LISTEN) f.addr = random_text(b, 20, "", 1);
        if (f.kind == CONFIG_CONNECT) f.host = random_text(d, 20, "", 1);
        if (f.addr || f.host) f.prot = rnd(2), f.port = (uint16_t)(1 + rnd(65535));
        char trust[64], policy[64], server[64];
        bool tls = (f.addr || f.host) && f.prot == CONFIG_TLS;
        if (tls && rnd(2)) {
            if (f.kind == CONFIG_LISTEN) f.client_auth = CONFIG_CLIENT_AUTH_REQUIRE;
            if (f.kind == CONFIG_CONNECT) f.server_name = random_text(server, 20, "", 0);
            f.trust = random_text(trust, 60, "", 1);
            f.peer_policy = random_text(policy, 60, "", 0);
        }
        assert_true(config_add_file(c, &f, &err));
    }
    for (uint32_t n = rnd(4); n; n--) {
        struct config_mount m = {random_text(a, 20, "", 1), random_text(b, 20, ".", 1), rnd(2)};
        assert_true(config_add_mount(c, &m, &err));
    }
    if (rnd(2)) assert_true(config_add_tls_name(c, "example.org", 11, &err));
    if (rnd(2)) assert_true(config_set_tls_lifetime(c, CONFIG_TLS_LIFETIME_LEAST + rnd(1000), &err));
    if (rnd(2)) assert_true(config_set_steward_ca(c, "pem", 3, &err));
    if (rnd(2)) assert_true(config_set_steward(c, "https://steward.example", 23, &err));
    for (int i = 0; i < CONFIG_LIMIT_COUNT; i++)
        if (rnd(3) == 0) {
            const struct config_limit_info *l = &config_limit_table[i];
            uint64_t room = l->most - l->least;
            assert_true(config_set_limit(c, i, l->least + rnd(room < 1000 ? (unsigned)room + 1 : 1000), &err));
        }
    c->announce_fds = rnd(2);
    c->unknown_imports_trap = rnd(2);
    c->unknown_imports_default = !c->unknown_imports_trap && rnd(2);
    c->interpret = rnd(2);
    c->explicit_checks = rnd(2);
}

static void assert_same(const struct config *a, const struct config *b) {
    assert_string_equal(a->program, b->program);
    assert_int_equal(a->n_args, b->n_args);
    for (uint32_t i = 0; i < a->n_args; i++)
        assert_string_equal(a->args[i], b->args[i]);
    assert_int_equal(a->n_env, b->n_env);
    for (uint32_t i = 0; i < a->n_env; i++) {
        assert_string_equal(a->env[i].key, b->env[i].key);
        assert_string_equal(a->env[i].value, b->env[i].value);
    }
    assert_int_equal(a->n_files, b->n_files);
    for (uint32_t i = 0; i < a->n_files; i++) {
        assert_int_equal(a->files[i].kind, b->files[i].kind);
        assert_int_equal(a->files[i].prot, b->files[i].prot);
        assert_int_equal(a->files[i].port, b->files[i].port);
        assert_string_equal(a->files[i].name, b->files[i].name);
        assert_string_equal(a->files[i].addr, b->files[i].addr);
        assert_string_equal(a->files[i].host, b->files[i].host);
        assert_int_equal(a->files[i].client_auth, b->files[i].client_auth);
        assert_string_equal(a->files[i].trust, b->files[i].trust);
        assert_string_equal(a->files[i].server_name, b->files[i].server_name);
        assert_string_equal(a->files[i].peer_policy, b->files[i].peer_policy);
    }
    assert_int_equal(a->n_mounts, b->n_mounts);
    for (uint32_t i = 0; i < a->n_mounts; i++) {
        assert_string_equal(a->mounts[i].guest, b->mounts[i].guest);
        assert_string_equal(b->mounts[i].host, "");
        assert_int_equal(a->mounts[i].writable, b->mounts[i].writable);
    }
    assert_int_equal(!!a->steward, !!b->steward);
    if (a->steward) assert_string_equal(a->steward, b->steward);
    assert_int_equal(!!a->steward_ca, !!b->steward_ca);
    if (a->steward_ca) assert_string_equal(a->steward_ca, b->steward_ca);
    assert_int_equal(a->n_tls_names, b->n_tls_names);
    for (uint32_t i = 0; i < a->n_tls_names; i++)
        assert_string_equal(a->tls_names[i], b->tls_names[i]);
    assert_int_equal(a->tls_lifetime, b->tls_lifetime);
    assert_memory_equal(&a->limits, &b->limits, sizeof a->limits);
    assert_int_equal(a->limits_given, b->limits_given);
    assert_int_equal(a->announce_fds, b->announce_fds);
    assert_int_equal(a->unknown_imports_trap, b->unknown_imports_trap);
    assert_int_equal(a->unknown_imports_default, b->unknown_imports_default);
    assert_int_equal(a->interpret, b->interpret);
    assert_int_equal(a->explicit_checks, b->explicit_checks);
}

static void test_round_trip(void **state) {
    (void)state;
    for (int i = 0; i < 2000; i++) {
        struct config a, b;
        struct config_error err = {""};
        uint8_t *bytes, *again;
        size_t len, len_again;
        random_config(&a);
        assert_true(config_encode(&a, &bytes, &len));
        assert_int_equal(config_wire_length(bytes), len);
        if (!config_decode(&b, bytes, len, &err)) fail_msg("%s", err.message);
        assert_same(&a, &b);
        assert_true(config_encode(&b, &again, &len_again));
        assert_int_equal(len, len_again);
        assert_memory_equal(bytes, again, len);
        free(bytes);
        free(again);
        config_free(&a);
        config_free(&b);
    }
}

/* Every truncation is refused; every changed byte is refused or means a config that encodes to just these bytes. */
static void test_wire_hostile(void **state) {
    (void)state;
    for (int round = 0; round < 60; round++) {
        struct config a, b;
        struct config_error err;
        uint8_t *bytes, *again;
        size_t len, len_again;
        random_config(&a);
        assert_true(config_encode(&a, &bytes, &len));
        for (size_t n = 0; n < len; n++) {
            err.message[0] = 0;
            assert_false(config_decode(&b, bytes, n, &err));
            assert_true(err.message[0]);
        }
        for (size_t at = 0; at < len; at++) {
            uint8_t old = bytes[at];
            bytes[at] = rnd(2) ? (uint8_t)rnd(256) : (uint8_t)(old ^ (1u << rnd(8)));
            if (config_decode(&b, bytes, len, &err)) {
                assert_true(config_encode(&b, &again, &len_again));
                assert_int_equal(len, len_again);
                assert_memory_equal(bytes, again, len);
                free(again);
                config_free(&b);
            }
            bytes[at] = old;
        }
        free(bytes);
        config_free(&a);
    }
}

static void test_setters(void **state) {
    (void)state;
    struct config c;
    struct config_error err;
    assert_true(config_init(&c));
    assert_int_equal(c.n_files, 3);
    assert_false(config_set_env(&c, "", 0, "x", 1, &err));
    assert_false(config_set_env(&c, "A=B", 3, "x", 1, &err));
    assert_non_null(strstr(err.message, "'='"));
    assert_false(config_add_arg(&c, "a\0b", 3, &err));
    assert_non_null(strstr(err.message, "args[0]"));
    assert_true(config_set_env(&c, "A", 1, "1", 1, &err));
    assert_true(config_set_env(&c, "AB", 2, "2", 1, &err));
    assert_true(config_set_env(&c, "A", 1, "3", 1, &err));
    assert_int_equal(c.n_env, 2);
    assert_string_equal(c.env[0].value, "3");

    assert_false(config_add_file(&c, &(struct config_file){.kind = CONFIG_NULL, .name = "a:b"}, &err));
    assert_non_null(strstr(err.message, "FD_NAMES"));
    assert_false(config_add_file(&c, &(struct config_file){.kind = CONFIG_NULL, .name = ""}, &err));
    assert_false(config_add_file(&c, &(struct config_file){.kind = CONFIG_NULL, .name = "n", .port = 1}, &err));
    assert_false(config_add_file(&c, &(struct config_file){.kind = CONFIG_LISTEN, .name = "n", .port = 1}, &err));
    assert_false(config_add_file(&c, &(struct config_file){.kind = CONFIG_CONNECT, .name = "n", .host = "h"}, &err));
    struct config_file tls = {.kind = CONFIG_LISTEN, .name = "L", .addr = "::", .port = 443};
    assert_true(config_supported(&c, &err));
    assert_true(config_add_file(&c, &tls, &err));
    assert_true(config_supported(&c, &err));
    assert_true(config_uses_tls(&c));
    struct config_file bad[] = {
        {.kind = CONFIG_LISTEN, .name = "L", .addr = "::", .prot = CONFIG_TCP, .trust = "x"},
        {.kind = CONFIG_LISTEN, .name = "L", .addr = "::", .trust = "x"},
        {.kind = CONFIG_LISTEN, .name = "L", .addr = "::", .client_auth = CONFIG_CLIENT_AUTH_REQUIRE},
        {.kind = CONFIG_LISTEN, .name = "L", .addr = "::", .client_auth = CONFIG_CLIENT_AUTHS, .trust = "x"},
        {.kind = CONFIG_LISTEN, .name = "L", .addr = "::", .server_name = "x"},
        {.kind = CONFIG_CONNECT, .name = "L", .host = "h", .port = 1, .client_auth = CONFIG_CLIENT_AUTH_REQUIRE},
        {.kind = CONFIG_STDIN, .name = "L", .peer_policy = "x"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(config_add_file(&c, &bad[i], &err));
    assert_false(config_add_tls_name(&c, "a b", 3, &err));
    assert_false(config_set_tls_lifetime(&c, CONFIG_SECOND, &err));
    assert_false(config_set_steward_ca(&c, "", 0, &err));

    char names[64];
    assert_int_equal(config_fd_names(&c, names, sizeof names), strlen("stdin:stdout:stderr:L"));
    assert_string_equal(names, "stdin:stdout:stderr:L");
    assert_int_equal(config_fd_names(&c, names, 8), strlen("stdin:stdout:stderr:L"));
    assert_string_equal(names, "stdin:s");
    struct config_file out = {.kind = CONFIG_CONNECT, .name = "out", .host = "h", .port = 443};
    struct config with;
    assert_true(config_init(&with));
    assert_true(config_add_file(&with, &out, &err));
    assert_false(config_supported(&with, &err));
    assert_non_null(strstr(err.message, "files[3] (out)"));
    config_free(&with);
    assert_int_equal(config_fd_names(&c, NULL, 0), strlen("stdin:stdout:stderr:L"));

    assert_false(config_add_mount(&c, &(struct config_mount){"/x", "/a/../b", false}, &err));
    assert_false(config_add_mount(&c, &(struct config_mount){"/x", "", false}, &err));
    assert_true(config_add_mount(&c, &(struct config_mount){"/x", "//data/./y//", false}, &err));
    assert_string_equal(c.mounts[0].guest, "/data/y");
    assert_true(config_add_mount(&c, &(struct config_mount){"/z", "data/y", true}, &err));
    assert_int_equal(c.n_mounts, 1);
    assert_string_equal(c.mounts[0].host, "/z");
    assert_false(config_has_root(&c));
    assert_true(config_add_mount(&c, &(struct config_mount){"/z", "./", true}, &err));
    assert_string_equal(c.mounts[1].guest, ".");
    assert_true(config_has_root(&c));

    assert_false(config_set_limit(&c, CONFIG_LIMIT_memory, 5, &err));
    assert_string_equal(err.message, "limits.memory: expected 64 KiB to 1 TiB, found 5 B");
    assert_true(config_set_limit(&c, CONFIG_LIMIT_memory, CONFIG_MIB, &err));
    assert_int_equal(c.limits_given, 1u << CONFIG_LIMIT_memory);
    assert_false(config_set_steward(&c, "steward", 7, &err));
    config_free(&c);
    config_free(&c);
}

static void test_capacities(void **state) {
    (void)state;
    struct config c;
    struct config_error err;
    static char big[CONFIG_STRING_MAX + 2];
    memset(big, 'x', sizeof big - 1);
    assert_true(config_init(&c));
    assert_false(config_add_arg(&c, big, CONFIG_STRING_MAX + 1, &err));
    uint32_t n = 0;
    while (config_add_arg(&c, big, CONFIG_STRING_MAX, &err))
        n++;
    assert_int_equal(n, CONFIG_TEXT_MAX / CONFIG_STRING_MAX - 1);
    assert_non_null(strstr(err.message, "all strings together"));
    config_clear_args(&c);
    for (n = 0; config_add_arg(&c, "", 0, &err);)
        n++;
    assert_int_equal(n, CONFIG_ARGS_MAX);
    struct config_file f = {.kind = CONFIG_NULL, .name = "null"};
    for (n = 0; config_add_file(&c, &f, &err);)
        n++;
    assert_int_equal(c.n_files, CONFIG_FILES_MAX);
    char guest[32];
    for (n = 0;; n++) {
        snprintf(guest, sizeof guest, "/%u", n);
        if (!config_add_mount(&c, &(struct config_mount){"/", guest, false}, &err)) break;
    }
    assert_int_equal(n, CONFIG_MOUNTS_MAX);
    uint8_t *bytes;
    size_t len;
    struct config d;
    assert_true(config_encode(&c, &bytes, &len));
    assert_true(len <= CONFIG_WIRE_MAX);
    assert_true(config_decode(&d, bytes, len, &err));
    assert_int_equal(d.n_args, CONFIG_ARGS_MAX);
    free(bytes);
    config_free(&c);
    config_free(&d);
}

static void test_secrets(void **state) {
    (void)state;
    static const struct config_secret bad[] = {
        {"", "A", NULL},          {"a b", "A", NULL},     {NULL, "A", NULL},      {"x", NULL, NULL},
        {"x", "A", "/run/x"},     {"x", "A=B", NULL},     {"x", "", NULL},        {"x", NULL, "run/x"},
        {"x", NULL, "/run/../x"}, {"x", NULL, "/run//x"}, {"x", NULL, "/run/x/"}, {"x", NULL, "/"},
    };
    struct config c, d;
    struct config_error err;
    uint8_t *bytes, *again;
    size_t n, m;
    assert_true(config_init(&c));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(config_add_secret(&c, &bad[i], &err));
    assert_true(config_add_secret(&c, &(struct config_secret){"db", "DB", NULL}, &err));
    assert_true(config_add_secret(&c, &(struct config_secret){"key.pem", NULL, "/run/secrets/key.pem"}, &err));
    assert_false(config_add_secret(&c, &(struct config_secret){"db", "OTHER", NULL}, &err));
    assert_false(config_add_secret(&c, &(struct config_secret){"b", "DB", NULL}, &err));
    assert_false(config_add_secret(&c, &(struct config_secret){"b", NULL, "/run/secrets/key.pem"}, &err));
    assert_false(config_supported(&c, &err));
    assert_true(config_encode(&c, &bytes, &n));
    assert_true(config_decode(&d, bytes, n, &err));
    assert_int_equal(d.n_secrets, 2);
    assert_string_equal(d.secrets[0].env, "DB");
    assert_null(d.secrets[0].file);
    assert_string_equal(d.secrets[1].file, "/run/secrets/key.pem");
    assert_true(config_encode(&d, &again, &m));
    assert_int_equal(n, m);
    assert_memory_equal(bytes, again, n);
    free(bytes);
    free(again);
    config_free(&c);
    config_free(&d);
}

static void test_quantities(void **state) {
    (void)state;
    static const struct {
        const char *text;
        enum config_unit unit;
        uint64_t value;
        const char *back; /* NULL: refused */
    } cases[] = {
        {"64 MiB", CONFIG_BYTES, 64 << 20, "64 MiB"},
        {"64MiB", CONFIG_BYTES, 64 << 20, "64 MiB"},
        {"64 mib", CONFIG_BYTES, 64 << 20, "64 MiB"},
        {"64M", CONFIG_BYTES, 64 << 20, "64 MiB"},
        {"1 kB", CONFIG_BYTES, 1000, "1000 B"},
        {"1.5 GiB", CONFIG_BYTES, 1536 << 20, "1536 MiB"},
        {"4096", CONFIG_BYTES, 4096, "4 KiB"},
        {"0", CONFIG_BYTES, 0, "0 B"},
        {"1_000_000", CONFIG_COUNT, 1000000, "1000000"},
        {"unlimited", CONFIG_COUNT, CONFIG_UNLIMITED, "unlimited"},
        {"30s", CONFIG_NANOSECONDS, 30 * CONFIG_SECOND, "30s"},
        {"1m 30s", CONFIG_NANOSECONDS, 90 * CONFIG_SECOND, "90s"},
        {"1h", CONFIG_NANOSECONDS, 3600 * CONFIG_SECOND, "1h"},
        {"0.5s", CONFIG_NANOSECONDS, CONFIG_SECOND / 2, "500ms"},
        {"7ns", CONFIG_NANOSECONDS, 7, "7ns"},
        {"5", CONFIG_NANOSECONDS, 5 * CONFIG_SECOND, "5s"},
        {"18446744073709551614", CONFIG_COUNT, UINT64_MAX - 1, "18446744073709551614"},
        {"", CONFIG_BYTES, 0, NULL},
        {"MiB", CONFIG_BYTES, 0, NULL},
        {"-1", CONFIG_BYTES, 0, NULL},
        {"1 XB", CONFIG_BYTES, 0, NULL},
        {"1 MiB 2", CONFIG_BYTES, 0, NULL},
        {"1._5", CONFIG_BYTES, 0, NULL},
        {"1_", CONFIG_COUNT, 0, NULL},
        {"0.5", CONFIG_COUNT, 0, NULL},
        {"30 MiB", CONFIG_NANOSECONDS, 0, NULL},
        {"18446744073709551615", CONFIG_COUNT, 0, NULL},
        {"18446744073709551616", CONFIG_COUNT, 0, NULL},
        {"99999999 TiB", CONFIG_BYTES, 0, NULL},
        {"0.1234567 GiB", CONFIG_BYTES, 0, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t value = 0;
        char buf[CONFIG_QUANTITY_MAX];
        bool ok = config_parse_quantity(cases[i].text, strlen(cases[i].text), cases[i].unit, &value);
        if (ok != !!cases[i].back) fail_msg("\"%s\": %s", cases[i].text, ok ? "accepted" : "refused");
        if (!ok) continue;
        assert_int_equal(value, cases[i].value);
        assert_string_equal(config_format_quantity(buf, cases[i].unit, value), cases[i].back);
        assert_true(config_parse_quantity(buf, strlen(buf), cases[i].unit, &value));
        assert_int_equal(value, cases[i].value);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_wire_hostile), cmocka_unit_test(test_setters),
        cmocka_unit_test(test_capacities), cmocka_unit_test(test_quantities),   cmocka_unit_test(test_secrets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
