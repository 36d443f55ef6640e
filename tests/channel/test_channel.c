/* The channel without a keep: messages and their bytes, the binding, TLS between two links in memory, and a client
 * against a keep that this test plays, honestly and otherwise. */
#include "channel/client.h"
#include "channel/link.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <donjon/attest.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BYTES(text) ((struct channel_bytes){(const uint8_t *)(text), sizeof(text) - 1})

/* ---- messages ---- */

static const struct {
    enum channel_side from;
    struct channel_message m;
} samples[] = {
    {CHANNEL_TENANT, {.type = CHANNEL_HELLO, .version = 1, .fixed = {1, 2, 3, [31] = 9}}},
    {CHANNEL_TENANT, {.type = CHANNEL_OPEN, .purpose = CHANNEL_LOGS, .flags = CHANNEL_FOLLOW, .fixed = {7}}},
    {CHANNEL_TENANT, {.type = CHANNEL_CONFIG, .size = 77}},
    {CHANNEL_TENANT, {.type = CHANNEL_MODULE, .size = 1 << 20}},
    {CHANNEL_TENANT, {.type = CHANNEL_FILE, .first = {(const uint8_t *)"etc/app.conf", 12}, .size = 0}},
    {CHANNEL_TENANT, {.type = CHANNEL_DATA, .first = {(const uint8_t *)"\0asm", 4}}},
    {CHANNEL_TENANT,
     {.type = CHANNEL_SECRET, .first = {(const uint8_t *)"key", 3}, .second = {(const uint8_t *)"\0\1", 2}}},
    {CHANNEL_TENANT, {.type = CHANNEL_START, .flags = CHANNEL_DETACHED, .fixed = {4}}},
    {CHANNEL_TENANT, {.type = CHANNEL_STDIN, .first = {(const uint8_t *)"x", 1}}},
    {CHANNEL_TENANT, {.type = CHANNEL_STDIN_END}},
    {CHANNEL_TENANT, {.type = CHANNEL_DETACH}},
    {CHANNEL_TENANT, {.type = CHANNEL_STOP}},
    {CHANNEL_TENANT, {.type = CHANNEL_KEY, .fixed = {[31] = 8}}},
    {CHANNEL_TENANT, {.type = CHANNEL_SEALED_MODULE, .size = 29}},
    {CHANNEL_TENANT,
     {.type = CHANNEL_SEALED_FILE,
      .first = {(const uint8_t *)"srv/x", 5},
      .second = {(const uint8_t *)"data/x", 6},
      .size = 28}},
    {CHANNEL_TENANT, {.type = CHANNEL_PING}},
    {CHANNEL_KEEP, {.type = CHANNEL_PING}},
    {CHANNEL_KEEP,
     {.type = CHANNEL_EVIDENCE,
      .first = {(const uint8_t *)"evidence", 8},
      .second = {(const uint8_t *)"pem", 3},
      .state = CHANNEL_RUNNING,
      .fixed = {5}}},
    {CHANNEL_KEEP, {.type = CHANNEL_OPENED, .state = CHANNEL_EXITED}},
    {CHANNEL_KEEP, {.type = CHANNEL_ACCEPTED, .fixed = {6}}},
    {CHANNEL_KEEP, {.type = CHANNEL_ERROR, .first = {(const uint8_t *)"no", 2}}},
    {CHANNEL_KEEP, {.type = CHANNEL_STDOUT, .first = {(const uint8_t *)"out", 3}}},
    {CHANNEL_KEEP, {.type = CHANNEL_STDERR, .first = {(const uint8_t *)"err", 3}}},
    {CHANNEL_KEEP, {.type = CHANNEL_LOST, .size = UINT64_MAX}},
    {CHANNEL_KEEP, {.type = CHANNEL_CREDIT, .size = CHANNEL_CREDIT_MAX}},
    {CHANNEL_KEEP, {.type = CHANNEL_STARTED}},
    {CHANNEL_KEEP, {.type = CHANNEL_EXIT, .kind = 2, .status = 134, .first = {(const uint8_t *)"trap", 4}}},
};
enum { SAMPLES = sizeof samples / sizeof *samples };

static void same_bytes(struct channel_bytes a, struct channel_bytes b) {
    assert_int_equal(a.size, b.size);
    if (a.size) assert_memory_equal(a.data, b.data, a.size);
}

static void same_message(const struct channel_message *a, const struct channel_message *b) {
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->version, b->version);
    assert_int_equal(a->purpose, b->purpose);
    assert_int_equal(a->flags, b->flags);
    assert_int_equal(a->state, b->state);
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->status, b->status);
    assert_int_equal(a->size, b->size);
    assert_memory_equal(a->fixed, b->fixed, sizeof a->fixed);
    same_bytes(a->first, b->first);
    same_bytes(a->second, b->second);
}

/* There and back; never taken from the other side; no shorter and no longer payload is the same message. */
static void test_messages(void **state) {
    (void)state;
    static uint8_t frame[CHANNEL_FRAME_MAX + 1];
    for (int i = 0; i < SAMPLES; i++) {
        struct channel_message m;
        size_t n = channel_encode(samples[i].from, &samples[i].m, frame);
        assert_true(n >= CHANNEL_HEAD);
        assert_int_equal(frame[0] | frame[1] << 8 | frame[2] << 16, n - CHANNEL_HEAD);
        assert_null(channel_decode(samples[i].from, frame[4], frame + CHANNEL_HEAD, n - CHANNEL_HEAD, &m));
        same_message(&m, &samples[i].m);
        bool any = m.type == CHANNEL_PING, open_ended = m.type == CHANNEL_DATA || m.type == CHANNEL_STDIN ||
                                                        m.type == CHANNEL_STDOUT || m.type == CHANNEL_STDERR;
        assert_int_equal(!!channel_decode(1 - samples[i].from, frame[4], frame + CHANNEL_HEAD, n - CHANNEL_HEAD, &m),
                         !any);
        if (open_ended) continue;
        frame[n] = 0;
        assert_non_null(channel_decode(samples[i].from, frame[4], frame + CHANNEL_HEAD, n - CHANNEL_HEAD + 1, &m));
        for (size_t k = CHANNEL_HEAD; k < n; k++)
            assert_non_null(channel_decode(samples[i].from, frame[4], frame + CHANNEL_HEAD, k - CHANNEL_HEAD, &m));
    }
}

static void test_refused(void **state) {
    (void)state;
    static uint8_t frame[CHANNEL_FRAME_MAX], zeros[CHANNEL_PAYLOAD_MAX + 1];
    static const char *const paths[] = {"", "/etc", "a//b", "a/", ".", "..", "a/../b", "a/.", "./a"};
    struct channel_message m;
    assert_non_null(channel_decode(CHANNEL_TENANT, 0, NULL, 0, &m));
    assert_non_null(channel_decode(CHANNEL_TENANT, 64, NULL, 0, &m));
    assert_non_null(channel_decode(CHANNEL_TENANT, 255, NULL, 0, &m));
    assert_non_null(channel_decode(CHANNEL_TENANT, CHANNEL_DATA, zeros, 0, &m));
    assert_non_null(channel_decode(CHANNEL_TENANT, CHANNEL_DATA, zeros, sizeof zeros, &m));
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        assert_false(channel_path_ok((const uint8_t *)paths[i], strlen(paths[i])));
    assert_false(channel_path_ok((const uint8_t *)"a\0b", 3));
    assert_true(channel_path_ok((const uint8_t *)"a/b..c/...", 10));
    assert_false(channel_name_ok((const uint8_t *)"a b", 3));
    assert_false(channel_name_ok(zeros, 0));
    struct channel_message big = {.type = CHANNEL_SECRET, .first = BYTES("k"), .second = {zeros, sizeof zeros}};
    assert_int_equal(channel_encode(CHANNEL_TENANT, &big, frame), 0);
    struct channel_message lie = {.type = CHANNEL_OPEN, .purpose = CHANNEL_PURPOSES};
    assert_int_equal(channel_encode(CHANNEL_TENANT, &lie, frame), 0);
    static const struct channel_message sealed[] = {
        {.type = CHANNEL_SEALED_MODULE, .size = 28}, /* an empty module */
        {.type = CHANNEL_SEALED_MODULE, .size = (UINT64_C(1) << 30) + 29},
        {.type = CHANNEL_SEALED_FILE,
         .first = {(const uint8_t *)"a", 1},
         .second = {(const uint8_t *)"a", 1},
         .size = 27},
        {.type = CHANNEL_SEALED_FILE, .first = {(const uint8_t *)"a", 1}, .size = 28},
        {.type = CHANNEL_SEALED_FILE,
         .first = {(const uint8_t *)"a", 1},
         .second = {(const uint8_t *)"../a", 4},
         .size = 28},
        {.type = CHANNEL_SEALED_FILE, .second = {(const uint8_t *)"a", 1}, .size = 28},
    };
    for (size_t i = 0; i < sizeof sealed / sizeof *sealed; i++)
        assert_int_equal(channel_encode(CHANNEL_TENANT, &sealed[i], frame), 0);
    struct channel_message other = {.type = CHANNEL_OPENED};
    assert_int_equal(channel_encode(CHANNEL_TENANT, &other, frame), 0);
}

/* All samples in one stream, fed whole, byte by byte and in pieces. */
static void test_stream(void **state) {
    (void)state;
    static struct channel_parser p;
    static const size_t steps[] = {SIZE_MAX, 1, 3, 7};
    static uint8_t stream[SAMPLES * 256], frame[CHANNEL_FRAME_MAX];
    size_t size = 0;
    for (int i = 0; i < SAMPLES && samples[i].from == CHANNEL_TENANT; i++) {
        size_t n = channel_encode(CHANNEL_TENANT, &samples[i].m, frame);
        memcpy(stream + size, frame, n);
        size += n;
    }
    for (size_t s = 0; s < sizeof steps / sizeof *steps; s++) {
        size_t at = 0, seen = 0;
        channel_parser_init(&p, CHANNEL_TENANT);
        for (;;) {
            struct channel_message m;
            enum channel_step step = channel_parser_next(&p, &m);
            if (step == CHANNEL_MESSAGE) same_message(&m, &samples[seen++].m);
            if (step == CHANNEL_MESSAGE) continue;
            assert_int_equal(step, CHANNEL_MORE);
            if (at == size) break;
            size_t most;
            uint8_t *room = channel_parser_room(&p, &most);
            if (most > steps[s]) most = steps[s];
            if (most > size - at) most = size - at;
            memcpy(room, stream + at, most);
            channel_parser_add(&p, most);
            at += most;
        }
        assert_int_equal(seen, 16);
    }
    channel_parser_init(&p, CHANNEL_TENANT);
    size_t most;
    memcpy(channel_parser_room(&p, &most), "\x01\x00\x01\x00\x06", 5);
    channel_parser_add(&p, 5);
    channel_parser_room(&p, &most);
    assert_int_equal(most, 0);
    struct channel_message m;
    assert_int_equal(channel_parser_next(&p, &m), CHANNEL_BROKEN);
    assert_int_equal(channel_parser_next(&p, &m), CHANNEL_BROKEN);
}

/* ---- the binding: known answers, computed with Python's hashlib from the words of docs/attestation.md ---- */

static void expect_hex(const uint8_t *bytes, size_t n, const char *hex) {
    char text[129];
    for (size_t i = 0; i < n; i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    assert_string_equal(text, hex);
}

static void test_binding(void **state) {
    (void)state;
    uint8_t nonce[32], exporter[32], digest[32], bytes[64], out[64];
    memset(nonce, 1, 32);
    memset(exporter, 2, 32);
    memset(digest, 3, 32);
    memset(bytes, 4, 64);
    assert_true(channel_report_data(BYTES("spki"), nonce, exporter, NULL, out));
    expect_hex(out, 64,
               "5bfa849bf2a2c632be7045b75a66edc87051e4a54f9ef88380d53a44a2de540d"
               "9791d1dc2ba0264aa3353cce75d209eeb092c00c81c414695970cf390835db8c");
    assert_true(channel_report_data(BYTES("spki"), nonce, exporter, digest, out));
    expect_hex(out, 64,
               "ddef8ddaba3487449297f4c49d7d8cd9300e2f267a35365e7c2b75d3df61e9bb"
               "96d2f40d8cb690e1b8b11c4b9b2a2fab4d2f7927b4e43e673fd11912fa5637ee");
    assert_true(channel_program_report_data(digest, bytes, out));
    expect_hex(out, 64,
               "3f1e0d17c73803d8b9221fc2f786773beb5eb97ee00e6f57225d7b7d79751b94"
               "790b0f0ee46d7b0fc5c05dd1856a9c12f689d22972039057711448c0042d424c");
    const struct channel_file files[] = {{BYTES("a"), BYTES("1"), NULL}, {BYTES("a/b"), BYTES(""), NULL}};
    struct channel_delivery d = {.config = BYTES("wire"), .module = BYTES("wasm"), .files = files, .n_files = 2};
    assert_true(channel_delivery_digest(&d, out));
    expect_hex(out, 32, "fd1bce0ff1c307124b4db175a04e1830263e99eda086320ae0db43ac55e2f71a");
    /* What is only known by its digest counts as what it is. */
    struct channel_sealed one = {.title = BYTES("x")}, module = {.digest = {0}};
    static const uint8_t digests[2][32] = {
        {0x6b, 0x86, 0xb2, 0x73, 0xff, 0x34, 0xfc, 0xe1, 0x9d, 0x6b, 0x80, 0x4e, 0xff, 0x5a, 0x3f, 0x57,
         0x47, 0xad, 0xa4, 0xea, 0xa2, 0x2f, 0x1d, 0x49, 0xc0, 0x1e, 0x52, 0xdd, 0xb7, 0x87, 0x5b, 0x4b},
        {0x33, 0x61, 0x54, 0xbf, 0x67, 0xf7, 0x65, 0xf8, 0xf7, 0x5d, 0x16, 0xa0, 0xac, 0xce, 0xe6, 0x1b,
         0x5e, 0xe5, 0xf6, 0xa7, 0x5b, 0x2a, 0x29, 0x05, 0x70, 0x3d, 0xf9, 0x13, 0xbd, 0x55, 0x0f, 0x3e}};
    memcpy(one.digest, digests[0], 32);
    memcpy(module.digest, digests[1], 32);
    const struct channel_file as_layers[] = {{BYTES("a"), BYTES("sealed"), &one}, {BYTES("a/b"), BYTES(""), NULL}};
    struct channel_delivery layers = {
        .config = BYTES("wire"), .module = BYTES("sealed"), .sealed = &module, .files = as_layers, .n_files = 2};
    assert_true(channel_delivery_digest(&layers, out));
    expect_hex(out, 32, "fd1bce0ff1c307124b4db175a04e1830263e99eda086320ae0db43ac55e2f71a");
    const struct channel_file wrong[] = {{BYTES("b"), BYTES("1"), NULL}, {BYTES("a"), BYTES(""), NULL}};
    d.files = wrong;
    assert_false(channel_delivery_digest(&d, out));
}

/* ---- a keep in memory ---- */

struct keep {
    struct channel_tls *tls;
    struct channel_link *link;
    struct attest_signer *signer;
    uint8_t owner[32], measurement;
    bool owned, wrong_nonce, silent_close;
    const uint8_t *other_exporter; /* sign for another connection: what a relay's evidence looks like */
    struct attest_signer_claims *replay;
    uint8_t received[65536];
    size_t n_received;
    struct channel_client *client;
};

static void answer_hello(struct keep *k, const struct channel_message *m) {
    struct attest_signer_claims claims = {.measurement = {k->measurement}};
    uint8_t exporter[32], nonce[32], report[ATTEST_SNP_REPORT];
    assert_true(channel_link_exporter(k->link, exporter));
    memcpy(nonce, m->fixed, 32);
    if (k->wrong_nonce) nonce[0] ^= 1;
    assert_true(channel_report_data(channel_tls_spki(k->tls), nonce, k->other_exporter ? k->other_exporter : exporter,
                                    NULL, claims.report_data));
    if (k->replay && k->replay->measurement[0]) claims = *k->replay;
    if (k->replay) *k->replay = claims;
    assert_true(attest_signer_report(k->signer, &claims, report));
    char *pem = attest_signer_certificates(k->signer, false);
    struct channel_message e = {
        .type = CHANNEL_EVIDENCE, .first = {report, sizeof report}, .second = {(const uint8_t *)pem, strlen(pem)}};
    assert_true(channel_link_send(k->link, &e));
    free(pem);
}

static void answer(struct keep *k, const struct channel_message *m) {
    switch (m->type) {
    case CHANNEL_HELLO: answer_hello(k, m); break;
    case CHANNEL_OPEN:
        if (k->owned && memcmp(k->owner, m->fixed, 32) != 0) {
            channel_link_send(k->link, &(struct channel_message){.type = CHANNEL_ERROR, .first = BYTES("no\x1b[1m")});
            channel_link_close(k->link);
            break;
        }
        channel_link_send(k->link, &(struct channel_message){.type = CHANNEL_OPENED});
        break;
    case CHANNEL_DATA:
    case CHANNEL_STDIN:
        memcpy(k->received + k->n_received, m->first.data, m->first.size);
        k->n_received += m->first.size;
        break;
    case CHANNEL_START: {
        struct channel_message a = {.type = CHANNEL_ACCEPTED};
        memcpy(a.fixed, m->fixed, 32);
        channel_link_send(k->link, &a);
        channel_link_send(k->link, &(struct channel_message){.type = CHANNEL_CREDIT, .size = 1});
        channel_link_send(k->link, &(struct channel_message){.type = CHANNEL_PING});
        channel_link_send(k->link, &(struct channel_message){.type = CHANNEL_CREDIT, .size = 1});
        channel_link_send(k->link, &(struct channel_message){.type = CHANNEL_STDOUT, .first = BYTES("hello")});
        break;
    }
    case CHANNEL_STOP:
        channel_link_send(k->link, &(struct channel_message){.type = CHANNEL_EXIT, .kind = 1, .status = 3});
        if (!k->silent_close) channel_link_close(k->link);
        break;
    default: break;
    }
}

static bool to_keep(void *ctx, const void *bytes, size_t n) {
    struct keep *k = ctx;
    struct channel_message m;
    assert_true(channel_link_input(k->link, bytes, n));
    while (channel_link_next(k->link, &m) == CHANNEL_MESSAGE)
        answer(k, &m);
    return true;
}

/* A few bytes at a time: nothing may depend on how they are cut. */
static ssize_t from_keep(void *ctx, void *bytes, size_t most) {
    struct keep *k = ctx;
    const uint8_t *out;
    size_t n = channel_link_output(k->link, &out);
    if (most > 100) most = 100;
    if (n > most) n = most;
    memcpy(bytes, out, n);
    channel_link_sent(k->link, n);
    return (ssize_t)n;
}

static struct keep *keep_new(void) {
    struct keep *k = calloc(1, sizeof *k);
    k->tls = channel_tls_keep();
    k->link = channel_link_new(k->tls);
    k->signer = attest_signer_new(1700000000);
    k->measurement = 0xaa;
    assert_non_null(k->link);
    assert_non_null(k->signer);
    k->client = channel_client_new(&(struct channel_io){k, to_keep, from_keep});
    return k;
}

static void keep_delete(struct keep *k) {
    channel_client_free(k->client);
    channel_link_free(k->link);
    channel_tls_free(k->tls);
    attest_signer_free(k->signer);
    free(k);
}

enum { NOW = 1710000000 };

static bool appraise(struct keep *k, uint8_t measurement, struct attest_result *result) {
    struct attest_verifier *v = attest_verifier_new();
    struct attest_policy p;
    char *root = attest_signer_certificates(k->signer, true);
    uint8_t wanted[48] = {measurement};
    attest_policy_genuine(&p);
    p.allow_software = true;
    assert_true(attest_set_add(&p.snp.measurements, wanted, sizeof wanted));
    assert_true(attest_verifier_add_development_root(v, (struct attest_bytes){(uint8_t *)root, strlen(root)}));
    bool ok = channel_client_appraise(k->client, v, &p, NOW, result);
    attest_policy_free(&p);
    attest_verifier_free(v);
    free(root);
    return ok;
}

static const uint8_t owner[32] = {1, 2, 3}, stranger[32] = {1, 2, 4};
static struct attest_result result;

static bool fails_by(enum attest_rule rule) {
    for (unsigned i = 0; i < result.check_count; i++)
        if (result.checks[i].outcome == ATTEST_FAIL && result.checks[i].rule != rule) return false;
    return result.failed > 0;
}

static void test_client(void **state) {
    (void)state;
    struct keep *k = keep_new();
    struct channel_event e;
    assert_true(channel_client_handshake(k->client, NULL));
    assert_int_equal(channel_client_state(k->client), CHANNEL_WAITING);
    assert_false(channel_client_open(k->client, CHANNEL_DEPLOY, 0, owner)); /* not before it was appraised */
    keep_delete(k);

    k = keep_new();
    assert_true(channel_client_handshake(k->client, NULL));
    assert_true(appraise(k, 0xaa, &result));
    assert_int_equal(result.tee, ATTEST_TEE_SOFTWARE);
    assert_true(channel_client_open(k->client, CHANNEL_DEPLOY, 0, owner));
    const struct channel_file files[] = {{BYTES("a"), BYTES("1"), NULL}, {BYTES("a.b"), BYTES(""), NULL}};
    const struct channel_secret secret = {"key", BYTES("value")};
    const struct channel_delivery d = {.config = BYTES("wire"),
                                       .module = BYTES("wasm"),
                                       .files = files,
                                       .n_files = 2,
                                       .secrets = &secret,
                                       .n_secrets = 1};
    assert_true(channel_client_deliver(k->client, &d));
    assert_true(channel_client_start(k->client, 0));
    assert_int_equal(channel_client_wait(k->client, &e), CHANNEL_EVENT_STDOUT);
    same_bytes(e.bytes, BYTES("hello"));
    assert_int_equal(channel_client_next(k->client, &e), CHANNEL_EVENT_NONE);
    assert_int_equal(channel_client_credit(k->client), 2);
    assert_true(channel_client_stdin(k->client, "in", 2));
    assert_int_equal(channel_client_credit(k->client), 0);
    assert_true(channel_client_stop(k->client));
    assert_int_equal(channel_client_wait(k->client, &e), CHANNEL_EVENT_EXIT);
    assert_int_equal(e.status, 3);
    assert_int_equal(channel_client_wait(k->client, &e), CHANNEL_EVENT_CLOSED);
    assert_memory_equal(k->received, "wirewasm1in", 11);
    keep_delete(k);
}

/* Cut off where it was not closed: never taken for the end. */
static void test_cut_off(void **state) {
    (void)state;
    struct keep *k = keep_new();
    struct channel_event e;
    k->silent_close = true;
    assert_true(channel_client_handshake(k->client, NULL));
    channel_client_accept(k->client);
    assert_true(channel_client_open(k->client, CHANNEL_ATTACH, 0, owner));
    assert_true(channel_client_stop(k->client));
    assert_int_equal(channel_client_wait(k->client, &e), CHANNEL_EVENT_EXIT);
    assert_int_equal(channel_client_wait(k->client, &e), CHANNEL_EVENT_FAILED);
    assert_non_null(strstr(channel_client_error(k->client), "cut off"));
    keep_delete(k);
}

static void test_wrong_owner(void **state) {
    (void)state;
    struct keep *k = keep_new();
    k->owned = true;
    memcpy(k->owner, owner, 32);
    assert_true(channel_client_handshake(k->client, NULL));
    channel_client_accept(k->client);
    assert_false(channel_client_open(k->client, CHANNEL_ATTACH, 0, stranger));
    assert_string_equal(channel_client_error(k->client), "the keep refuses: no?[1m");
    keep_delete(k);
}

static void test_wrong_evidence(void **state) {
    (void)state;
    static const uint8_t other[32] = {42};
    struct keep *k = keep_new();
    k->wrong_nonce = true;
    assert_true(channel_client_handshake(k->client, NULL));
    assert_false(appraise(k, 0xaa, &result));
    assert_true(fails_by(ATTEST_RULE_REPORT_DATA));
    assert_false(channel_client_open(k->client, CHANNEL_DEPLOY, 0, owner));
    keep_delete(k);

    k = keep_new();
    k->other_exporter = other;
    assert_true(channel_client_handshake(k->client, NULL));
    assert_false(appraise(k, 0xaa, &result));
    assert_true(fails_by(ATTEST_RULE_REPORT_DATA));
    keep_delete(k);

    k = keep_new();
    assert_true(channel_client_handshake(k->client, NULL));
    assert_false(appraise(k, 0xab, &result));
    assert_true(fails_by(ATTEST_RULE_MEASUREMENT));
    keep_delete(k);

    struct attest_signer_claims claims = {.policy = 0};
    for (int i = 0; i < 2; i++) { /* the second connection is given the first's evidence */
        k = keep_new();
        k->replay = &claims;
        assert_true(channel_client_handshake(k->client, NULL));
        assert_int_equal(appraise(k, 0xaa, &result), i == 0);
        if (i) assert_true(fails_by(ATTEST_RULE_REPORT_DATA));
        keep_delete(k);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages),    cmocka_unit_test(test_refused),        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_binding),     cmocka_unit_test(test_client),         cmocka_unit_test(test_cut_off),
        cmocka_unit_test(test_wrong_owner), cmocka_unit_test(test_wrong_evidence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
