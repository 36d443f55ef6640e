/* Deliveries, right and wrong; and the log of what a program has written. */
#include "warden/intake.h"
#include "channel/binding.h"
#include "config/config_wire.h"
#include "warden/outlog.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BYTES(text) ((struct channel_bytes){(const uint8_t *)(text), sizeof(text) - 1})

static uint8_t *wire;
static size_t wire_size;
static uint8_t digest[CHANNEL_DIGEST];

/* A workload of a module, two files and two secrets. */
static int make(void **state) {
    (void)state;
    struct config c;
    struct config_error err;
    assert_true(config_init(&c));
    assert_true(config_add_secret(&c, &(struct config_secret){"db", "DB", NULL}, &err));
    assert_true(config_add_secret(&c, &(struct config_secret){"key", NULL, "/run/secrets/key"}, &err));
    assert_true(config_set_limit(&c, CONFIG_LIMIT_fs_bytes, 64 << 10, &err));
    assert_true(config_encode(&c, &wire, &wire_size));
    config_free(&c);
    struct channel_workload *w = channel_workload_new();
    assert_true(channel_workload_config(w, (struct channel_bytes){wire, wire_size}));
    assert_true(channel_workload_module(w, BYTES("module")));
    assert_true(channel_workload_file(w, BYTES("a"), BYTES("")));
    assert_true(channel_workload_file(w, BYTES("b/c"), BYTES("content")));
    assert_true(channel_workload_digest(w, digest));
    channel_workload_free(w);
    return 0;
}

static int drop(void **state) {
    (void)state;
    free(wire);
    return 0;
}

enum { STEPS = 10, CONFIG_DATA = 1, MODULE_DATA = 3, FILE_A = 4, FILE_B = 5, SECRET_1 = 7, START = 9 };
static void steps(struct channel_message m[STEPS]) {
    const struct channel_message all[STEPS] = {
        {.type = CHANNEL_CONFIG, .size = wire_size},
        {.type = CHANNEL_DATA, .first = {wire, wire_size}},
        {.type = CHANNEL_MODULE, .size = 6},
        {.type = CHANNEL_DATA, .first = BYTES("module")},
        {.type = CHANNEL_FILE, .first = BYTES("a"), .size = 0},
        {.type = CHANNEL_FILE, .first = BYTES("b/c"), .size = 7},
        {.type = CHANNEL_DATA, .first = BYTES("content")},
        {.type = CHANNEL_SECRET, .first = BYTES("key"), .second = BYTES("\0\1")},
        {.type = CHANNEL_SECRET, .first = BYTES("db"), .second = BYTES("pass")},
        {.type = CHANNEL_START, .flags = CHANNEL_DETACHED},
    };
    memcpy(m, all, sizeof all);
    memcpy(m[START].fixed, digest, sizeof digest);
}

/* What is wrong with a delivery of these messages; NULL: nothing, and it has started. */
static const char *deliver(struct intake *in, const struct channel_message *m, size_t n) {
    bool started = false;
    for (size_t i = 0; i < n; i++) {
        assert_false(started);
        const char *wrong = intake_take(in, &m[i], &started);
        if (!wrong) continue;
        assert_false(started);
        bool again;
        assert_non_null(intake_take(in, &m[START], &again)); /* it does not recover */
        assert_false(again);
        return wrong;
    }
    return started ? NULL : "not started";
}

static void test_right(void **state) {
    (void)state;
    struct channel_message m[STEPS];
    struct intake *in = intake_new();
    size_t n;
    steps(m);
    assert_null(deliver(in, m, STEPS));
    assert_memory_equal(intake_digest(in), digest, sizeof digest);
    assert_int_equal(intake_flags(in), CHANNEL_DETACHED);
    const struct intake_file *files = intake_files(in, &n);
    assert_int_equal(n, 2);
    assert_string_equal(files[1].path, "b/c");
    assert_memory_equal(files[1].content, "content", 7);
    const struct intake_secret *secrets = intake_secrets(in, &n);
    assert_int_equal(n, 2);
    assert_string_equal(secrets[0].secret->env, "DB");
    assert_memory_equal(secrets[0].value, "pass", 4);
    assert_int_equal(secrets[1].size, 2);
    struct config c = intake_config(in);
    uint8_t *module = intake_module(in, &n);
    assert_memory_equal(module, "module", 6);
    free(module);
    intake_free(in);
    config_free(&c);
}

static void refused(const struct channel_message *m, size_t n, const char *why) {
    struct intake *in = intake_new();
    const char *wrong = deliver(in, m, n);
    assert_non_null(wrong);
    if (!strstr(wrong, why)) fail_msg("expected \"%s\", found \"%s\"", why, wrong);
    intake_free(in);
}

static void test_swapped(void **state) {
    (void)state;
    struct channel_message m[STEPS];
    static const struct {
        int step;
        struct channel_bytes bytes;
    } swaps[] = {{MODULE_DATA, BYTES("modulf")}, {FILE_B + 1, BYTES("Content")}, {FILE_A, BYTES("B")}};
    for (size_t i = 0; i < sizeof swaps / sizeof *swaps; i++) {
        steps(m);
        m[swaps[i].step].first = swaps[i].bytes;
        refused(m, STEPS, "does not have the digest");
    }
    steps(m);
    m[START].fixed[31] ^= 1;
    refused(m, STEPS, "does not have the digest");
}

static void test_wrong(void **state) {
    (void)state;
    struct channel_message m[STEPS], n[STEPS];
    steps(m);
    for (size_t i = 0; i < STEPS; i++) { /* one left out; the first file and one secret less give other reasons */
        memcpy(n, m, i * sizeof *m);
        memcpy(n + i, m + i + 1, (STEPS - i - 1) * sizeof *m);
        refused(n, STEPS - 1, "");
    }
    for (size_t i = 0; i + 1 < STEPS; i++) { /* one twice */
        struct channel_message twice[STEPS + 1];
        memcpy(twice, m, (i + 1) * sizeof *m);
        memcpy(twice + i + 1, m + i, (STEPS - i) * sizeof *m);
        refused(twice, STEPS + 1, "");
    }
    static const enum channel_type strangers[] = {CHANNEL_HELLO, CHANNEL_OPEN, CHANNEL_STDIN, CHANNEL_STOP};
    for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++) {
        m[FILE_A].type = strangers[i];
        refused(m, STEPS, "does not come next");
    }
    steps(m);
    m[MODULE_DATA].first = BYTES("module!");
    refused(m, STEPS, "more data than was announced");
    steps(m);
    m[MODULE_DATA].first = BYTES("modul");
    refused(m, STEPS, "less data than was announced");
    steps(m);
    m[FILE_B].first = BYTES("A");
    refused(m, STEPS, "order of their paths");
    steps(m);
    m[FILE_B].size = 65 << 10;
    refused(m, STEPS, "limits.filesystem");
    steps(m);
    m[SECRET_1].first = BYTES("other");
    refused(m, STEPS, "does not name");
    m[SECRET_1].first = BYTES("db");
    m[SECRET_1].second = BYTES("a\0b");
    refused(m, STEPS, "zero byte");
    steps(m);
    uint8_t *bad = malloc(wire_size);
    memcpy(bad, wire, wire_size);
    bad[8] ^= 1;
    m[CONFIG_DATA].first.data = bad;
    refused(m, STEPS, "configuration: ");
    free(bad);
}

/* Every way of cutting a delivery's data. */
static void test_pieces(void **state) {
    (void)state;
    struct channel_message m[STEPS];
    steps(m);
    for (size_t piece = 1; piece <= 8; piece++) {
        struct intake *in = intake_new();
        bool started = false;
        for (int i = 0; i < STEPS; i++) {
            struct channel_message one = m[i];
            size_t all = one.type == CHANNEL_DATA ? one.first.size : 0, at = 0;
            do {
                if (all) {
                    one.first.data = m[i].first.data + at;
                    one.first.size = all - at < piece ? all - at : piece;
                }
                assert_null(intake_take(in, &one, &started));
                at += one.first.size;
            } while (all && at < all);
        }
        assert_true(started);
        intake_free(in);
    }
}

/* ---- an encrypted package ---- */

static const uint8_t key[SEALED_KEY] = {1, 2, 3, [31] = 4};
static uint8_t sealed_module[6 + SEALED_MORE], sealed_empty[SEALED_MORE], sealed_file[7 + SEALED_MORE];

static void seal(uint8_t *out, const char *media, const char *title, struct channel_bytes text) {
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    int n;
    memset(out, 9, SEALED_NONCE);
    assert_true(sealed_start(c, true, key, out, media, (const uint8_t *)title, strlen(title)));
    if (text.size) assert_int_equal(EVP_EncryptUpdate(c, out + SEALED_NONCE, &n, text.data, (int)text.size), 1);
    assert_int_equal(EVP_EncryptFinal_ex(c, out + SEALED_NONCE + text.size, &n), 1);
    assert_int_equal(EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, SEALED_TAG, out + SEALED_NONCE + text.size), 1);
    EVP_CIPHER_CTX_free(c);
}

/* The same workload as above, with the same digest. */
enum { SEALED_STEPS = STEPS + 2, S_KEY = 2, S_MODULE = 3, S_EMPTY = 5, S_FILE = 7, S_START = SEALED_STEPS - 1 };
static void sealed_steps(struct channel_message m[SEALED_STEPS]) {
    struct channel_message plain[STEPS];
    steps(plain);
    seal(sealed_module, SEALED_MODULE, "", BYTES("module"));
    seal(sealed_empty, SEALED_FILE, "data/empty", BYTES(""));
    seal(sealed_file, SEALED_FILE, "data/c", BYTES("content"));
    const struct channel_message mine[] = {
        {.type = CHANNEL_KEY},
        {.type = CHANNEL_SEALED_MODULE, .size = sizeof sealed_module},
        {.type = CHANNEL_DATA, .first = {sealed_module, sizeof sealed_module}},
        {.type = CHANNEL_SEALED_FILE, .first = BYTES("a"), .second = BYTES("data/empty"), .size = SEALED_MORE},
        {.type = CHANNEL_DATA, .first = {sealed_empty, sizeof sealed_empty}},
        {.type = CHANNEL_SEALED_FILE, .first = BYTES("b/c"), .second = BYTES("data/c"), .size = sizeof sealed_file},
        {.type = CHANNEL_DATA, .first = {sealed_file, sizeof sealed_file}},
    };
    memcpy(m, plain, 2 * sizeof *m);
    memcpy(m + S_KEY, mine, sizeof mine);
    memcpy(m + S_KEY + 7, plain + SECRET_1, 3 * sizeof *m);
    memcpy(m[S_KEY].fixed, key, sizeof key);
}

static void test_sealed(void **state) {
    (void)state;
    struct channel_message m[SEALED_STEPS];
    struct intake *in = intake_new();
    size_t n;
    sealed_steps(m);
    assert_null(deliver(in, m, SEALED_STEPS));
    assert_memory_equal(intake_digest(in), digest, sizeof digest);
    const struct intake_file *files = intake_files(in, &n);
    assert_int_equal(n, 2);
    assert_int_equal(files[0].size, 0);
    assert_int_equal(files[1].size, 7);
    assert_memory_equal(files[1].content, "content", 7);
    uint8_t *module = intake_module(in, &n);
    assert_int_equal(n, 6);
    assert_memory_equal(module, "module", 6);
    free(module);
    intake_free(in);
    /* In every size of piece. */
    for (size_t piece = 1; piece < 40; piece++) {
        in = intake_new();
        bool started = false;
        for (int i = 0; i < SEALED_STEPS; i++)
            for (size_t at = 0, all = m[i].type == CHANNEL_DATA ? m[i].first.size : 1; at < all; at += piece) {
                struct channel_message one = m[i];
                if (one.type == CHANNEL_DATA) one.first.data += at;
                if (one.type == CHANNEL_DATA) one.first.size = all - at < piece ? all - at : piece;
                assert_null(intake_take(in, &one, &started));
                if (one.type != CHANNEL_DATA) break;
            }
        assert_true(started);
        intake_free(in);
    }
}

static void test_sealed_wrong(void **state) {
    (void)state;
    struct channel_message m[SEALED_STEPS], n[SEALED_STEPS + 1];
    sealed_steps(m);
    m[S_KEY].fixed[0] ^= 1;
    refused(m, SEALED_STEPS, "the module does not decrypt");
    for (size_t i = 0; i < sizeof sealed_module; i++) { /* every byte of it counts */
        sealed_steps(m);
        sealed_module[i] ^= 0x80;
        refused(m, SEALED_STEPS, "the module does not decrypt");
    }
    for (size_t i = 0; i < sizeof sealed_file; i++) {
        sealed_steps(m);
        sealed_file[i] ^= 1;
        refused(m, SEALED_STEPS, "file b/c does not decrypt");
    }
    sealed_steps(m); /* a layer under another name, or in another's place */
    m[S_FILE].second = BYTES("data/d");
    refused(m, SEALED_STEPS, "file b/c does not decrypt");
    sealed_steps(m);
    seal(sealed_module, SEALED_FILE, "", BYTES("module"));
    refused(m, SEALED_STEPS, "the module does not decrypt");
    for (size_t cut = 1; cut < sizeof sealed_file - SEALED_MORE; cut++) { /* shorter, and announced so */
        sealed_steps(m);
        m[S_FILE].size = m[S_FILE + 1].first.size = sizeof sealed_file - cut;
        refused(m, SEALED_STEPS, "file b/c does not decrypt");
    }
    sealed_steps(m);
    m[S_FILE + 1].first.size--;
    refused(m, SEALED_STEPS, "less data than was announced");
    sealed_steps(m);
    m[S_FILE].size--;
    refused(m, SEALED_STEPS, "more data than was announced");
    sealed_steps(m); /* what decrypts may still be another workload */
    seal(sealed_file, SEALED_FILE, "data/c", BYTES("Content"));
    refused(m, SEALED_STEPS, "does not have the digest");
    sealed_steps(m);
    m[S_FILE].size = (64 << 10) + SEALED_MORE + 1;
    refused(m, SEALED_STEPS, "limits.filesystem");
    sealed_steps(m); /* no key; twice; too late */
    memcpy(n, m, S_KEY * sizeof *m);
    memcpy(n + S_KEY, m + S_KEY + 1, (SEALED_STEPS - S_KEY - 1) * sizeof *m);
    refused(n, SEALED_STEPS - 1, "without a key");
    memcpy(n, m, (S_KEY + 1) * sizeof *m);
    memcpy(n + S_KEY + 1, m + S_KEY, (SEALED_STEPS - S_KEY) * sizeof *m);
    refused(n, SEALED_STEPS + 1, "does not come next");
    memcpy(n, m, S_EMPTY * sizeof *m);
    n[S_EMPTY] = m[S_KEY];
    memcpy(n + S_EMPTY + 1, m + S_EMPTY, (SEALED_STEPS - S_EMPTY) * sizeof *m);
    refused(n, SEALED_STEPS + 1, "does not come next");
}

/* ---- the log ---- */

static void test_log(void **state) {
    (void)state;
    static struct outlog l;
    static uint8_t record[OUTLOG_RECORD], in[OUTLOG_RECORD];
    struct outlog_reader slow = outlog_from_begin(), fast = slow;
    uint64_t written = 0, read = 0, lost, lost_slow = 0;
    uint8_t stream;
    size_t n;
    assert_false(outlog_read(&l, &fast, &stream, record, &n, &lost));
    for (unsigned i = 0; i < 3000; i++) {
        size_t size = i * 7919 % 1000 + (i % 50 == 0 ? 15000 : 0);
        memset(in, (int)i, size);
        outlog_write(&l, (uint8_t)(1 + i % 2), in, size);
        written += size;
        assert_true(outlog_read(&l, &fast, &stream, record, &n, &lost));
        assert_int_equal(lost, 0);
        assert_int_equal(n, size);
        assert_int_equal(stream, 1 + i % 2);
        if (n) assert_int_equal(record[n - 1], (uint8_t)i);
    }
    while (outlog_read(&l, &slow, &stream, record, &n, &lost)) {
        lost_slow += lost;
        read += n;
    }
    assert_int_equal(lost_slow + read, written);
    assert_true(read >= CHANNEL_LOG && lost_slow > 0);
    struct outlog_reader late = outlog_from_end(&l);
    assert_int_equal(late.at, slow.at);
    assert_int_equal(late.dropped, slow.dropped);
    assert_false(outlog_read(&l, &late, &stream, record, &n, &lost));
    assert_true(outlog_room(&l, &late, OUTLOG_RECORD));
    size_t records = 0;
    while (outlog_room(&l, &late, OUTLOG_RECORD) && records++ < 100)
        outlog_write(&l, 1, in, OUTLOG_RECORD);
    assert_true(outlog_read(&l, &late, &stream, record, &n, &lost));
    assert_int_equal(lost, 0); /* nothing that had room was lost */
    assert_true(records * OUTLOG_RECORD >= CHANNEL_LOG);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_right),  cmocka_unit_test(test_swapped), cmocka_unit_test(test_wrong),
        cmocka_unit_test(test_pieces), cmocka_unit_test(test_sealed),  cmocka_unit_test(test_sealed_wrong),
        cmocka_unit_test(test_log),
    };
    return cmocka_run_group_tests(tests, make, drop);
}
