/* Everything that must be refused: the collection's mutations and cross pairings, its ready-made negatives, and the
 * rest of NEGATIVE.md derived mechanically. */
#include "support.h"

static struct attest_result result;

static struct attest_bytes copy_of(struct attest_bytes b, size_t room) {
    uint8_t *copy = malloc(b.size + room + 1);
    memcpy(copy, b.data, b.size);
    return (struct attest_bytes){copy, b.size};
}

static size_t hex(const char *text, uint8_t *out) {
    size_t n = strlen(text) / 2;
    for (size_t i = 0; i < n; i++)
        sscanf(text + 2 * i, "%2hhx", &out[i]);
    return n;
}

/* ---- mutations.json ---- */

static void mutate(struct attest_bytes *b, const json_t *m) {
    const char *op = json_string_value(json_object_get(m, "op")),
               *bytes = json_string_value(json_object_get(m, "bytes"));
    size_t offset = (size_t)json_integer_value(json_object_get(m, "offset"));
    uint8_t *data = (uint8_t *)b->data, add[256];
    if (!strcmp(op, "xor"))
        data[offset] ^= (uint8_t)json_integer_value(json_object_get(m, "value"));
    else if (!strcmp(op, "set"))
        memcpy(data + offset, add, 0), hex(bytes, data + offset);
    else if (!strcmp(op, "truncate"))
        b->size = (size_t)json_integer_value(json_object_get(m, "length"));
    else {
        assert_string_equal(op, "append");
        size_t n = bytes ? hex(bytes, add) : (add[0] = 0, 1);
        memcpy(data + b->size, add, n);
        b->size += n;
    }
}

/* Time and collateral of a case, as its expected.json gives them (the first collateral). */
static struct attest_verifier *case_verifier(const char *dir, int64_t *at) {
    json_t *expected = load_json(vector_path("%s/expected.json", dir)),
           *collateral = json_array_get(json_object_get(expected, "collateral"), 0);
    const char *time = json_string_value(json_object_get(collateral ? collateral : expected, "verify_time"));
    const char *sub = json_string_value(json_object_get(collateral, "dir"));
    struct attest_verifier *v = verifier_with(sub ? vector_path("%s/%s", dir, sub) : vector_path("%s", dir));
    *at = parse_time(time);
    json_decref(expected);
    return v;
}

/* The rules that may be the first to see a mutation, by the stage the collection names. Other orders are fine, other
 * verdicts are not; what is checked here is that the explanation speaks of the right thing. */
static bool fitting(const char *stage, const struct attest_result *r) {
    static const struct {
        const char *stage, *rules[5];
    } stages[] = {
        {"report signature", {"snp.signature"}},
        {"vek chain", {"chain.path", "chain.endorsement"}},
        {"quote signature", {"quote.signature", "format.evidence"}},
        {"qe report signature", {"quote.qe_signature"}},
        {"qe report data", {"quote.attestation_key", "format.evidence" /* a length field */}},
        {"pck chain", {"chain.path", "quote.certification_data"}},
        {"cose signature", {"nitro.signature", "chain.path", "format.evidence", "nitro.algorithm"}},
        {"protected header", {"nitro.algorithm", "format.evidence"}},
        {"version", {"snp.version", "quote.version", "format.evidence"}},
        {"signature_algo", {"snp.signature_algorithm"}},
        {"att key type", {"quote.key_type", "format.evidence"}},
        {"vendor id", {"quote.vendor"}},
        {"signature r/s not zero-extended", {"snp.reserved"}},
        {"reserved signature bytes not zero", {"snp.reserved"}},
        {"size", {"format.evidence"}},
        {"length", {"format.evidence"}},
        {"parse", {"format.evidence", "quote.certification_data" /* a PEM body */}},
        {"trailing bytes", {"format.evidence"}},
    };
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++)
        for (int k = 0; !strcmp(stages[i].stage, stage) && k < 5 && stages[i].rules[k]; k++)
            if (failed_rule(r, stages[i].rules[k])) return true;
    return false;
}

static void test_mutations(void **state) {
    (void)state;
    json_t *doc = load_json(vector_path("negative/mutations.json")), *list = json_object_get(doc, "mutations"), *m;
    size_t i, rejected = 0, explained = 0;
    json_array_foreach(list, i, m) {
        const char *dir = json_string_value(json_object_get(m, "case")),
                   *file = json_string_value(json_object_get(m, "file")),
                   *stage = json_string_value(json_object_get(m, "fails_at")),
                   *field = json_string_value(json_object_get(m, "field"));
        struct attest_bytes original = load(vector_path("%s/%s", dir, file)), changed = copy_of(original, 256);
        mutate(&changed, m);
        if (!strcmp(file, "sigstruct.bin")) {
            struct attest_sigstruct s;
            bool refused = attest_sgx_sigstruct(changed, &s) != NULL;
            if (!refused) fail_msg("%s %s: accepted", dir, field);
            rejected++, explained++;
        } else {
            int64_t at;
            struct attest_verifier *v = case_verifier(dir, &at);
            if (!strcmp(file, "vcek.der")) {
                attest_verifier_free(v);
                v = attest_verifier_new();
                attest_verifier_add(v, changed);
                appraise_file(v, vector_path("%s/report.bin", dir), NULL, at, &result);
            } else
                appraise(v, changed, NULL, at, &result);
            if (result.genuine || result.accepted) {
                show(field, &result);
                fail_msg("%s %s: accepted", dir, field);
            }
            rejected++;
            if (fitting(stage, &result))
                explained++;
            else
                printf("  %s, %s: collection says \"%s\", first failure here %s\n", dir, field, stage,
                       reason_name(&result));
            attest_verifier_free(v);
        }
        free((void *)original.data);
        free((void *)changed.data);
    }
    printf("mutations: %zu of %zu rejected, %zu for the collection's reason\n", rejected, json_array_size(list),
           explained);
    assert_int_equal(rejected, 273);
    assert_int_equal(explained, 273);
    json_decref(doc);
}

static void test_cross_pairings(void **state) {
    (void)state;
    json_t *doc = load_json(vector_path("negative/mutations.json")), *list = json_object_get(doc, "cross_pairings"), *m;
    size_t i;
    json_array_foreach(list, i, m) {
        const char *report = json_string_value(json_object_get(m, "report")),
                   *vcek = json_string_value(json_object_get(m, "vcek_from")),
                   *chain = json_string_value(json_object_get(m, "chain"));
        int64_t at = parse_time("2026-03-08T00:00:00Z"); /* all of them are valid then */
        struct attest_verifier *v = attest_verifier_new();
        if (!strcmp(report, vcek)) { /* the right certificate under the wrong product's root */
            attest_verifier_free(v);
            v = attest_verifier_new();
            struct attest_bytes ark = load(vector_path("roots/amd/%s/ark.der", chain));
            attest_verifier_add_root(v, ark, true);
            free((void *)ark.data);
        }
        add_file(v, vector_path("%s/vcek.der", vcek));
        add_file(v, vector_path("roots/amd/%s/ask.der", chain));
        appraise_file(v, vector_path("%s/report.bin", report), NULL, at, &result);
        if (result.genuine || !fitting(json_string_value(json_object_get(m, "fails_at")), &result)) {
            show(report, &result);
            fail_msg("%s with the certificate of %s", report, vcek);
        }
        attest_verifier_free(v);
    }
    printf("cross pairings: %zu rejected\n", json_array_size(list));
    assert_int_equal(json_array_size(list), 4);
    json_decref(doc);
}

/* ---- Ready-made ---- */

static void expect_rejected(const char *name, const char *rule) {
    if (!result.genuine && failed_rule(&result, rule)) return;
    show(name, &result);
    fail_msg("%s: not rejected for %s", name, rule);
}

static void test_ready_made(void **state) {
    (void)state;
    static const char *const veks[] = {"snp-vcek-invalid-legacy", "snp-vcek-invalid-new"};
    for (int i = 0; i < 2; i++) {
        struct attest_verifier *v = attest_verifier_new();
        assert_true(add_file(v, vector_path("negative/%s/vcek.der", veks[i])));
        appraise_file(v, vector_path("snp/milan-v2-coco/report.bin"), NULL, parse_time("2023-06-01T00:00:00Z"),
                      &result);
        expect_rejected(veks[i], "chain.path");
        attest_verifier_free(v);
    }
    struct attest_verifier *v = attest_verifier_new();
    static const struct {
        const char *path, *time, *rule;
    } files[] = {
        {"negative/sgx-quote-corrupted/quote.bin", "2021-01-01T00:00:00Z", "quote.signature"},
        {"negative/sgx-report-bad-oe/oe_report.bin", "2021-01-01T00:00:00Z", "chain.path"},
        {"negative/sgx-report-bad-oe/quote.bin", "2021-01-01T00:00:00Z", "chain.path"},
        {"negative/sgx-ratls-ec-bad-oe/cert.der", "2021-01-01T00:00:00Z", "quote.certification_data"},
        {"negative/nitro-tampered-signature/attestation.cbor", "2021-09-09T11:00:00Z", "nitro.signature"},
        {"negative/nitro-tampered-certificate/attestation.cbor", "2021-09-09T11:00:00Z", "chain.path"},
        {"negative/nitro-veracruz-bad-signature/attestation.cbor", "2022-11-09T23:00:00Z", "nitro.signature"},
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        appraise_file(v, vector_path("%s", files[i].path), NULL, parse_time(files[i].time), &result);
        expect_rejected(files[i].path, files[i].rule);
    }
    attest_verifier_free(v);
    printf("ready-made evidence: %zu rejected for the right reason\n", 2 + sizeof files / sizeof *files);
}

static void test_revoked_ask(void **state) {
    (void)state;
    /* The revoked ASK has no VCEK of its own here: a report under the newer one must not be dragged down by it, and the
     * list, built in, must name its serial. */
    struct attest_verifier *v = attest_verifier_new();
    add_file(v, vector_path("negative/snp-genoa-revoked-ask/ask.der"));
    add_file(v, vector_path("negative/snp-genoa-revoked-ask/ark_crl.der"));
    add_file(v, vector_path("snp/genoa-v5-yaxi/vcek.der"));
    appraise_file(v, vector_path("snp/genoa-v5-yaxi/report.bin"), NULL, parse_time("2025-12-11T10:49:48Z"), &result);
    assert_true(result.accepted);
    attest_verifier_free(v);
}

static void test_wrong_nitro_roots(void **state) {
    (void)state;
    static const char *const roots[] = {"tampered_root_cert.crt", "unknown_ca.crt"};
    for (int i = 0; i < 2; i++) {
        struct attest_verifier *v = attest_verifier_new();
        struct attest_bytes root = load(vector_path("negative/nitro-wrong-roots/%s", roots[i]));
        attest_verifier_add_root(v, root, true);
        free((void *)root.data);
        appraise_file(v, vector_path("nitro/veracruz-2022/attestation.cbor"), NULL, parse_time("2022-11-09T23:00:00Z"),
                      &result);
        expect_rejected(roots[i], "chain.path");
        attest_verifier_free(v);
    }
}

/* ---- Collateral ---- */

static const char sgx_case[] = "sgx/icx-swhardening-automata";
static const char *const sgx_time = "2025-08-30T00:00:00Z";

static struct attest_verifier *collateral_without(const char *file) {
    static const char *const all[] = {"tcb_info.json", "qe_identity.json",         "tcb_signing_chain.pem",
                                      "pck_crl.der",   "pck_crl_issuer_chain.pem", "root_ca_crl.der"};
    struct attest_verifier *v = attest_verifier_new();
    for (int i = 0; i < 6; i++)
        if (!file || strcmp(all[i], file)) add_file(v, vector_path("%s/collateral/%s", sgx_case, all[i]));
    return v;
}

static void test_collateral(void **state) {
    (void)state;
    static const struct {
        const char *missing, *instead, *rule;
    } cases[] = {
        {"tcb_info.json", NULL, "intel.tcb_info"},
        {"qe_identity.json", NULL, "intel.qe_identity"},
        {"pck_crl.der", NULL, "chain.crl"},
        {"root_ca_crl.der", NULL, "chain.crl"},
        {"pck_crl.der", "sgx/rkl-phala/collateral/pck_crl.der", "chain.crl"},              /* of the other CA */
        {"tcb_info.json", "sgx/rkl-phala/collateral/tcb_info.json", "intel.tcb_info"},     /* of another FMSPC */
        {"tcb_info.json", "tdx/v4-gcp-cos113/collateral/tcb_info.json", "intel.tcb_info"}, /* of the other TEE */
        {"qe_identity.json", "tdx/v4-gcp-cos113/collateral/qe_identity.json",
         "intel.qe_identity"}, /* of the other TEE */
        {"tcb_info.json", "sgx/icx-teepot-2023/collateral/tcb_info.json",
         "intel.tcb_info_current"},                                                 /* of another year */
        {"pck_crl.der", "sgx/icx-teepot-2023/collateral/pck_crl.der", "chain.crl"}, /* of another year */
        {"qe_identity.json", "negative/sgx-qe-identity-corrupted/qe_identity.json", "intel.qe_identity_signature"},
        {"root_ca_crl.der", "sgx/intel-sample-testpki/collateral/root_ca_crl.der", "chain.crl"}, /* of another root */
    };
    struct attest_verifier *v = collateral_without(NULL);
    appraise_file(v, vector_path("%s/quote.bin", sgx_case), NULL, parse_time(sgx_time), &result);
    assert_true(result.accepted);
    attest_verifier_free(v);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        v = collateral_without(cases[i].missing);
        if (cases[i].instead) add_file(v, vector_path("%s", cases[i].instead));
        appraise_file(v, vector_path("%s/quote.bin", sgx_case), NULL, parse_time(sgx_time), &result);
        expect_rejected(cases[i].missing, cases[i].rule);
        attest_verifier_free(v);
    }
    /* The corrupted TCB info of another platform: its own quote says why. */
    v = attest_verifier_new();
    add_file(v, vector_path("negative/sgx-tcb-info-corrupted/tcb_info.json"));
    appraise_file(v, vector_path("sgx/cfl-fortanix-chain-order/quote.bin"), NULL, parse_time("2020-06-01T00:00:00Z"),
                  &result);
    expect_rejected("corrupted TCB info", "intel.tcb_info_signature");
    attest_verifier_free(v);
    printf("collateral missing, swapped or corrupted: %zu rejected\n", sizeof cases / sizeof *cases + 1);
}

/* A forged edition beside the real one, newer by its own account, neither convinces nor gets in the way. */
static void test_forged_beside_real(void **state) {
    (void)state;
    struct attest_bytes real = load(vector_path("%s/collateral/tcb_info.json", sgx_case));
    char *forged = strndup((const char *)real.data, real.size), *at = strstr(forged, "\"tcbEvaluationDataNumber\":17");
    assert_non_null(at);
    memcpy(at + 26, "99", 2);
    struct attest_verifier *v = collateral_without(NULL);
    assert_true(attest_verifier_add(v, (struct attest_bytes){(uint8_t *)forged, strlen(forged)}));
    appraise_file(v, vector_path("%s/quote.bin", sgx_case), NULL, parse_time(sgx_time), &result);
    assert_true(result.accepted);
    attest_verifier_free(v);
    v = collateral_without("tcb_info.json");
    attest_verifier_add(v, (struct attest_bytes){(uint8_t *)forged, strlen(forged)});
    appraise_file(v, vector_path("%s/quote.bin", sgx_case), NULL, parse_time(sgx_time), &result);
    expect_rejected("forged alone", "intel.tcb_info_signature");
    attest_verifier_free(v);
    free(forged);
    free((void *)real.data);
}

/* Signed JSON, re-serialised or with any byte changed, no longer verifies. */
static void test_reserialised(void **state) {
    (void)state;
    json_t *doc = load_json(vector_path("%s/collateral/tcb_info.json", sgx_case));
    const size_t flags[] = {JSON_INDENT(1), JSON_COMPACT | JSON_SORT_KEYS, 0};
    for (int i = 0; i < 3; i++) {
        char *text = json_dumps(doc, flags[i]);
        struct attest_verifier *v = collateral_without("tcb_info.json");
        attest_verifier_add(v, (struct attest_bytes){(uint8_t *)text, strlen(text)});
        appraise_file(v, vector_path("%s/quote.bin", sgx_case), NULL, parse_time(sgx_time), &result);
        assert_false(result.genuine);
        assert_true(failed_rule(&result, "intel.tcb_info_signature") || failed_rule(&result, "intel.tcb_info"));
        attest_verifier_free(v);
        free(text);
    }
    json_decref(doc);
}

static void test_malformed_json(void **state) {
    (void)state;
    static const struct {
        const char *file;
        bool good;
    } files[] = {
        {"json-tcbinfo-oe/ok_tcbInfo.json", true},
        {"json-tcbinfo-oe/tcbInfoNegativeCompSvn.json", false},
        {"json-tcbinfo-oe/tcbInfoNegativeFloat.json", false},
        {"json-tcbinfo-oe/tcbInfoNegativeIntegerOverflow.json", false},
        {"json-tcbinfo-oe/tcbInfoNegativeIntegerWithSign.json", false},
        {"json-tcbinfo-oe/tcbInfoNegativeInvalidIssueDate.json", false},
        {"json-tcbinfo-oe/tcbInfoNegativeMissingNextUpdate.json", false},
        {"json-tcbinfo-oe/tcbInfoNegativePceSvn.json", false},
        {"json-tcbinfo-oe/tcbInfoNegativePropertyMissingLevel2.json", false},
        {"json-tcbinfo-oe/tcbInfoNegativePropertyWrongTypeLevel2.json", false},
        {"json-tcbinfo-oe/tcbInfoNegativeStringEscape.json", false},
        {"json-tcbinfo-oe/tcbInfoNegativeTcbType.json", false},
        {"json-qeidentity-oe/qe_identity_ok.json", true},
        {"json-qeidentity-oe/qe_identity_missing_attributesmask.json", false},
        {"json-qeidentity-oe/qe_identity_missing_mrsigner.json", false},
        {"json-qeidentity-oe/qe_identity_missing_nextupdate.json", false},
        {"json-qeidentity-oe/qe_identity_missing_tcb_levels.json", false},
    };
    size_t refused = 0;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct attest_verifier *v = attest_verifier_new();
        bool taken = add_file(v, vector_path("negative/%s", files[i].file));
        if (taken != files[i].good) fail_msg("%s: %s", files[i].file, taken ? "taken" : "refused");
        refused += !taken;
        attest_verifier_free(v);
    }
    printf("malformed JSON: %zu refused, %zu well-formed taken\n", refused, sizeof files / sizeof *files - refused);
}

/* ---- Every length ---- */

static void truncations(const char *dir, const char *file, size_t step) {
    int64_t at;
    struct attest_verifier *v = case_verifier(dir, &at);
    struct attest_bytes bytes = load(vector_path("%s/%s", dir, file));
    for (size_t n = 0; n < bytes.size; n += n + step < bytes.size ? step : 1) {
        /* A copy of its own size, so that a sanitiser sees the first byte too far. */
        uint8_t *cut = malloc(n ? n : 1);
        memcpy(cut, bytes.data, n);
        appraise(v, (struct attest_bytes){cut, n}, NULL, at, &result);
        assert_false(result.genuine);
        free(cut);
    }
    free((void *)bytes.data);
    attest_verifier_free(v);
}

static void test_truncations(void **state) {
    (void)state;
    truncations("snp/milan-v3-aci", "report.bin", 97);
    truncations("tdx/v4-phala-2025", "quote.bin", 61);
    truncations("tdx/v5-td15-uptodate", "quote.bin", 67);
    truncations("sgx/icx-swhardening-automata", "quote.bin", 71);
    truncations("nitro/veracruz-2022", "attestation.cbor", 53);
    truncations("keystone/nonce-32", "report.bin", 131);
}

/* ---- Signature scalars ---- */

static void test_scalars(void **state) {
    (void)state;
    /* r and s as 0, n, n + 1, all ones, and swapped; P-256 (quote) and P-384 (SNP, little-endian). */
    static const char
        n256[] = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551",
        n384[] = "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973";
    int64_t at;
    struct attest_verifier *v = case_verifier(sgx_case, &at);
    struct attest_bytes quote = load(vector_path("%s/quote.bin", sgx_case));
    uint8_t *sig = (uint8_t *)quote.data + 436, keep[96], n[48];
    memcpy(keep, sig, 64);
    for (int k = 0; k < 9; k++) {
        memcpy(sig, keep, 64);
        hex(n256, n);
        if (k / 4 == 2)
            memcpy(sig, keep + 32, 32), memcpy(sig + 32, keep, 32);
        else {
            if (k % 4 == 0) memset(n, 0, 32);
            if (k % 4 == 2) n[31]++;
            if (k % 4 == 3) memset(n, 0xff, 32);
            memcpy(sig + 32 * (k / 4), n, 32);
        }
        appraise(v, quote, NULL, at, &result);
        expect_rejected("quote scalar", "quote.signature");
    }
    free((void *)quote.data);
    attest_verifier_free(v);
    v = case_verifier("snp/milan-v3-aci", &at);
    struct attest_bytes report = load(vector_path("snp/milan-v3-aci/report.bin"));
    uint8_t *scalars = (uint8_t *)report.data + 0x2a0, kept[144], le[48];
    memcpy(kept, scalars, sizeof kept);
    for (int k = 0; k < 9; k++) {
        memcpy(scalars, kept, sizeof kept);
        hex(n384, n);
        if (k % 4 == 2) n[47]++;
        for (int i = 0; i < 48; i++)
            le[i] = k % 4 == 0 ? 0 : k % 4 == 3 ? 0xff : n[47 - i];
        if (k == 8)
            memcpy(scalars, kept + 72, 72), memcpy(scalars + 72, kept, 72);
        else
            memcpy(scalars + 72 * (k / 4), le, 48);
        appraise(v, report, NULL, at, &result);
        expect_rejected("report scalar", "snp.signature");
    }
    free((void *)report.data);
    attest_verifier_free(v);
}

int main(void) {
    need_vectors();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mutations),
        cmocka_unit_test(test_cross_pairings),
        cmocka_unit_test(test_ready_made),
        cmocka_unit_test(test_revoked_ask),
        cmocka_unit_test(test_wrong_nitro_roots),
        cmocka_unit_test(test_collateral),
        cmocka_unit_test(test_forged_beside_real),
        cmocka_unit_test(test_reserialised),
        cmocka_unit_test(test_malformed_json),
        cmocka_unit_test(test_truncations),
        cmocka_unit_test(test_scalars),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
