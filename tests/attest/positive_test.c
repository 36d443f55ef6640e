/* Every real piece of evidence: accepted at its time with the result the collection gives, refused outside it. */
#include "support.h"

static struct attest_result result;
static unsigned cases, appraisals;

static json_t *manifest;

static const char *dir_of(const json_t *entry, const char *group) {
    const char *dir = json_string_value(json_object_get(entry, "dir"));
    return dir && strncmp(dir, group, strlen(group)) == 0 ? dir : NULL;
}

static void expect(bool ok, const char *what, const char *dir) {
    if (ok) return;
    show(dir, &result);
    fail_msg("%s: %s", dir, what);
}

/* ---- SNP ---- */

static void snp_case(const char *dir) {
    json_t *expected = load_json(vector_path("%s/expected.json", dir));
    bool accept =
        strcmp(json_string_value(json_object_get(json_object_get(expected, "expected"), "verdict_strict_policy")),
               "accept") == 0;
    int64_t at = parse_time(json_string_value(json_object_get(expected, "verify_time")));
    json_t *vek = json_object_get(expected, "vek"), *report = json_object_get(expected, "report");
    int64_t from = parse_time(json_string_value(json_object_get(vek, "not_before"))),
            until = parse_time(json_string_value(json_object_get(vek, "not_after")));
    struct attest_verifier *v = verifier_with(vector_path("%s", dir));
    const char *file = vector_path("%s/report.bin", dir);
    appraise_file(v, file, NULL, at, &result);
    expect(result.genuine, "not genuine", dir);
    expect(result.accepted == accept, "verdict", dir);
    if (!accept) expect(failed_rule(&result, "policy.debug") && result.failed == 1, "another reason than debug", dir);
    expect(!strcmp(text_fact(&result, "measurement"), json_string_value(json_object_get(report, "measurement"))),
           "measurement", dir);
    expect(!strcmp(text_fact(&result, "chip_id"), json_string_value(json_object_get(report, "chip_id"))), "chip id",
           dir);
    appraise_file(v, file, NULL, from - 1, &result);
    expect(!result.genuine && failed_rule(&result, "chain.validity"), "accepted before its time", dir);
    appraise_file(v, file, NULL, until + 1, &result);
    expect(!result.genuine && failed_rule(&result, "chain.validity"), "accepted after its time", dir);
    attest_verifier_free(v);
    /* Without the certificate nothing is believed. */
    v = attest_verifier_new();
    appraise_file(v, file, NULL, at, &result);
    expect(!result.genuine && failed_rule(&result, "chain.endorsement"), "genuine without a certificate", dir);
    attest_verifier_free(v);
    json_decref(expected);
    cases++;
    appraisals += 4;
}

static void test_snp(void **state) {
    (void)state;
    size_t i;
    json_t *entry;
    cases = appraisals = 0;
    json_array_foreach(manifest, i, entry) {
        const char *dir = dir_of(entry, "snp/");
        if (dir) snp_case(dir);
    }
    printf("SNP: %u reports, %u appraisals\n", cases, appraisals);
    assert_int_equal(cases, 19);
}

static void test_snp_parse_only(void **state) {
    (void)state;
    static const char *const dirs[] = {"milan-v3-coconut", "milan-v2-lit", "genoa-v2-yaxi"};
    struct attest_verifier *v = attest_verifier_new();
    for (int i = 0; i < 3; i++) {
        json_t *expected = load_json(vector_path("snp-parse-only/%s/expected.json", dirs[i]));
        appraise_file(v, vector_path("snp-parse-only/%s/report.bin", dirs[i]), NULL, 1700000000, &result);
        expect(!result.accepted && !strcmp(reason_name(&result), "chain.endorsement"), "reason", dirs[i]);
        expect(!strcmp(text_fact(&result, "measurement"),
                       json_string_value(json_object_get(json_object_get(expected, "report"), "measurement"))),
               "measurement", dirs[i]);
        json_decref(expected);
    }
    attest_verifier_free(v);
}

/* ---- SGX and TDX ---- */

static bool same_advisories(const json_t *list) {
    const char *all = text_fact(&result, "advisories");
    size_t i;
    json_t *id;
    json_array_foreach((json_t *)list, i, id) if (!strstr(all, json_string_value(id))) return false;
    return true;
}

static void collateral_case(const char *dir, const json_t *expected, const json_t *collateral) {
    const char *sub = json_string_value(json_object_get(collateral, "dir"));
    int64_t at = parse_time(json_string_value(json_object_get(collateral, "verify_time")));
    const json_t *e = json_object_get(collateral, "expected"), *window = json_object_get(collateral, "valid_window");
    const json_t *status = json_object_get(e, "converged_status_with_relaunch");
    if (!status) status = json_object_get(e, "converged_status");
    const char *name = json_string_value(status);
    bool debug = json_is_true(json_object_get(expected, "debug"));
    bool supported = strncmp(name, "TCBNotSupported", 15) != 0;
    struct attest_verifier *v = verifier_with(vector_path("%s/%s", dir, sub));
    const char *file = vector_path("%s/quote.bin", dir);
    struct attest_policy lenient;
    attest_policy_genuine(&lenient);
    lenient.intel.tcb_statuses = ~(uint32_t)ATTEST_TCB_REVOKED;
    lenient.tdx.allow_migration = true;
    const char *service = json_string_value(json_object_get(json_object_get(expected, "quote"), "mrservicetd"));
    char error[200];
    if (service)
        assert_true(attest_policy_set(&lenient, "tdx.mrservicetds", service, strlen(service), error, sizeof error));
    appraise_file(v, file, &lenient, at, &result);
    expect(result.tcb_status && strncmp(result.tcb_status, name, strlen(result.tcb_status)) == 0, name, dir);
    expect(result.genuine == supported, "genuine", dir);
    expect(result.accepted == (supported && !debug), "verdict under a lenient policy", dir);
    expect(debug == failed_rule(&result, "policy.debug"), "debug", dir);
    if (supported) expect(same_advisories(json_object_get(e, "advisories")), "advisories", dir);
    appraise_file(v, file, NULL, at, &result);
    bool current = !strcmp(name, "UpToDate") || !strcmp(name, "SWHardeningNeeded");
    expect(result.accepted == (supported && !debug && current), "verdict without a policy", dir);
    int64_t from = parse_time(json_string_value(json_array_get(window, 0))),
            until = parse_time(json_string_value(json_array_get(window, 1)));
    appraise_file(v, file, &lenient, from - 1, &result);
    expect(!result.genuine, "accepted before the collateral's time", dir);
    appraise_file(v, file, &lenient, until + 1, &result);
    expect(!result.genuine, "accepted after the collateral's time", dir);
    attest_policy_free(&lenient);
    attest_verifier_free(v);
    appraisals += 4;
}

static void quote_case(const char *dir) {
    json_t *expected = load_json(vector_path("%s/expected.json", dir)), *list = json_object_get(expected, "collateral"),
           *c;
    if (json_is_true(json_object_get(expected, "test_pki"))) return json_decref(expected);
    size_t i;
    json_array_foreach(list, i, c) collateral_case(dir, expected, c);
    /* Without collateral: every signature is still checked, nothing is accepted. */
    struct attest_verifier *v = attest_verifier_new();
    appraise_file(v, vector_path("%s/quote.bin", dir), NULL, 1700000000, &result);
    bool chained = !failed_rule(&result, "chain.path");
    bool no_chain = json_object_get(json_object_get(expected, "quote"), "pck") == NULL;
    expect(!result.genuine && failed_rule(&result, "intel.tcb_info") && failed_rule(&result, "intel.qe_identity"),
           "accepted without collateral", dir);
    expect(!failed_rule(&result, "quote.signature") && !failed_rule(&result, "quote.attestation_key"), "signature",
           dir);
    expect(no_chain ? failed_rule(&result, "quote.certification_data")
                    : chained && !failed_rule(&result, "quote.qe_signature"),
           "chain", dir);
    attest_verifier_free(v);
    json_decref(expected);
    cases++;
    appraisals++;
}

static void test_quotes(void **state) {
    (void)state;
    size_t i;
    json_t *entry;
    cases = appraisals = 0;
    json_array_foreach(manifest, i, entry) {
        const char *dir = dir_of(entry, "sgx/");
        if (!dir) dir = dir_of(entry, "tdx/");
        if (dir) quote_case(dir);
    }
    printf("SGX and TDX: %u quotes, %u appraisals\n", cases, appraisals);
    assert_int_equal(cases, 34);
}

/* Intel's sample PKI: accepted under its own root, refused under the real one. */
static void test_sample_pki(void **state) {
    (void)state;
    int64_t at = parse_time("2025-01-01T00:00:00Z");
    static const char *const dirs[] = {"sgx/intel-sample-testpki", "tdx/intel-sample-testpki"};
    for (int i = 0; i < 2; i++) {
        struct attest_verifier *v = verifier_with(vector_path("%s/collateral", dirs[i]));
        add_file(v, vector_path("%s/pck_chain.pem", dirs[i]));
        appraise_file(v, vector_path("%s/quote.bin", dirs[i]), NULL, at, &result);
        expect(!result.genuine && failed_rule(&result, "chain.path"), "accepted under the production root", dirs[i]);
        struct attest_bytes root = load(vector_path("%s/root_ca.der", dirs[i]));
        assert_true(attest_verifier_add_root(v, root, true));
        free((void *)root.data);
        appraise_file(v, vector_path("%s/quote.bin", dirs[i]), NULL, at, &result);
        if (i == 0)
            expect(result.genuine && !strcmp(result.tcb_status, "UpToDate"), "refused under its own root", dirs[i]);
        else
            expect(!result.genuine && failed_rule(&result, "intel.tcb_info") /* its SVNs exceed a byte */ &&
                       !failed_rule(&result, "quote.signature") && !failed_rule(&result, "chain.path"),
                   "reason", dirs[i]);
        attest_verifier_free(v);
    }
}

/* ---- Event logs ---- */

static void event_log_case(const char *quote, const char *log_path, const char *collateral, int64_t at) {
    struct attest_verifier *v = verifier_with(vector_path("%s/%s", quote, collateral));
    struct attest_bytes bytes = load(vector_path("%s/quote.bin", quote)), log = load(log_path);
    char error[200];
    struct attest_evidence *e = attest_evidence_open(bytes, error, sizeof error);
    assert_non_null(e);
    assert_true(attest_evidence_add_log(e, log));
    attest_verify(v, e, NULL, at, &result);
    expect(result.accepted && !failed_rule(&result, "eventlog.replay"), "replay", log_path);
    attest_evidence_free(e);
    /* Any changed digest changes a register. */
    uint8_t *changed = malloc(log.size);
    memcpy(changed, log.data, log.size);
    changed[log.size / 3] ^= 1;
    e = attest_evidence_open(bytes, error, sizeof error);
    if (attest_evidence_add_log(e, (struct attest_bytes){changed, log.size})) attest_verify(v, e, NULL, at, &result);
    attest_evidence_free(e);
    free(changed);
    free((void *)log.data);
    free((void *)bytes.data);
    attest_verifier_free(v);
}

static void test_event_logs(void **state) {
    (void)state;
    event_log_case("tdx/v4-gcp-cos113", vector_path("tdx-eventlog/gcp-cos113/ccel_data.bin"), "collateral",
                   parse_time("2025-06-11T00:00:00Z"));
    event_log_case("tdx/v4-dstack-eventlog", vector_path("tdx-eventlog/dstack/event_log.json"), "collateral",
                   parse_time("2026-03-05T00:00:00Z"));
}

static void test_wrong_event_log(void **state) {
    (void)state;
    struct attest_verifier *v = verifier_with(vector_path("tdx/v4-gcp-cos113/collateral"));
    struct attest_bytes bytes = load(vector_path("tdx/v4-gcp-cos113/quote.bin")),
                        log = load(vector_path("tdx-eventlog/dstack/event_log.json"));
    char error[200];
    struct attest_evidence *e = attest_evidence_open(bytes, error, sizeof error);
    assert_true(attest_evidence_add_log(e, log));
    attest_verify(v, e, NULL, parse_time("2025-06-11T00:00:00Z"), &result);
    assert_true(!result.genuine && failed_rule(&result, "eventlog.replay"));
    attest_evidence_free(e);
    free((void *)log.data);
    free((void *)bytes.data);
    attest_verifier_free(v);
}

/* ---- Nitro ---- */

static void nitro_case(const char *dir) {
    json_t *expected = load_json(vector_path("%s/expected.json", dir));
    bool debug = json_is_true(json_object_get(expected, "debug_mode"));
    int64_t at = parse_time(json_string_value(json_object_get(expected, "verify_time")));
    json_t *window = json_object_get(expected, "chain_valid_window"), *document = json_object_get(expected, "document");
    int64_t from = parse_time(json_string_value(json_array_get(window, 0))),
            until = parse_time(json_string_value(json_array_get(window, 1)));
    struct attest_verifier *v = attest_verifier_new();
    const char *file = vector_path("%s/attestation.cbor", dir);
    appraise_file(v, file, NULL, at, &result);
    expect(result.genuine && result.accepted == !debug, "verdict", dir);
    expect(debug == failed_rule(&result, "policy.debug"), "debug", dir);
    expect(!strcmp(text_fact(&result, "module_id"), json_string_value(json_object_get(document, "module_id"))),
           "module id", dir);
    appraise_file(v, file, NULL, from - 1, &result);
    expect(!result.genuine && failed_rule(&result, "chain.validity"), "accepted before its time", dir);
    appraise_file(v, file, NULL, until + 1, &result);
    expect(!result.genuine && failed_rule(&result, "chain.validity"), "accepted after its time", dir);
    attest_verifier_free(v);
    json_decref(expected);
    cases++;
    appraisals += 3;
}

static void test_nitro(void **state) {
    (void)state;
    size_t i;
    json_t *entry;
    cases = appraisals = 0;
    json_array_foreach(manifest, i, entry) {
        const char *dir = dir_of(entry, "nitro/");
        if (dir) nitro_case(dir);
    }
    printf("Nitro: %u documents, %u appraisals\n", cases, appraisals);
    assert_int_equal(cases, 12);
}

/* ---- Keystone ---- */

static void test_keystone(void **state) {
    (void)state;
    static const char *const dirs[] = {"empty-data", "nonce-32"};
    for (int i = 0; i < 2; i++) {
        json_t *expected = load_json(vector_path("keystone/%s/expected.json", dirs[i]));
        const char *file = vector_path("keystone/%s/report.bin", dirs[i]),
                   *key = json_string_value(json_object_get(expected, "device_public_key")),
                   *hash = json_string_value(json_object_get(expected, "enclave_hash"));
        struct attest_verifier *v = attest_verifier_new();
        appraise_file(v, file, NULL, 0, &result);
        expect(!result.genuine && result.failed == 1 && failed_rule(&result, "keystone.device"),
               "trusted without a policy", dirs[i]);
        struct attest_policy p;
        char error[200];
        attest_policy_strict(&p);
        assert_true(attest_policy_set(&p, "keystone.device_keys", key, strlen(key), error, sizeof error));
        assert_true(attest_policy_set(&p, "keystone.enclave_hashes", hash, strlen(hash), error, sizeof error));
        appraise_file(v, file, &p, 0, &result);
        expect(result.accepted && result.identified, "refused", dirs[i]);
        struct attest_bytes bytes = load(file);
        for (size_t at = 0; at < bytes.size;
             at += 37) { /* every signed byte counts; the data beyond its length does not */
            ((uint8_t *)bytes.data)[at] ^= 1;
            appraise(v, bytes, &p, 0, &result);
            bool slack = at >= 72 && at < 1096;
            if (!slack || at < 72 + (i ? 32 : 0)) expect(!result.accepted, "accepted a changed byte", dirs[i]);
            ((uint8_t *)bytes.data)[at] ^= 1;
        }
        free((void *)bytes.data);
        attest_policy_free(&p);
        attest_verifier_free(v);
        json_decref(expected);
    }
}

int main(void) {
    need_vectors();
    manifest = load_json(vector_path("manifest.json"));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_snp),        cmocka_unit_test(test_snp_parse_only),
        cmocka_unit_test(test_quotes),     cmocka_unit_test(test_sample_pki),
        cmocka_unit_test(test_event_logs), cmocka_unit_test(test_wrong_event_log),
        cmocka_unit_test(test_nitro),      cmocka_unit_test(test_keystone),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    json_decref(manifest);
    return rc;
}
