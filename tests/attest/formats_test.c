/* Evidence in everything that carries it, and each wrapper's own promises. */
#include "support.h"

#include "cmw.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

static struct attest_result result;

static void expect(bool ok, const char *what) {
    if (ok) return;
    show(what, &result);
    fail_msg("%s", what);
}

static void accepted(const char *file, const char *collateral, const char *time, const char *wrapper) {
    struct attest_policy lenient;
    attest_policy_genuine(&lenient);
    lenient.intel.tcb_statuses = ~0u;
    lenient.allow_debug = true;
    struct attest_verifier *v = verifier_with(collateral ? vector_path("%s", collateral) : NULL);
    appraise_file(v, vector_path("%s", file), &lenient, parse_time(time), &result);
    expect(result.accepted, file);
    expect(strstr(text_fact(&result, "wrapper"), wrapper) != NULL, wrapper);
    attest_verifier_free(v);
    attest_policy_free(&lenient);
}

static void test_certificates(void **state) {
    (void)state;
    accepted("sgx/icx-gramine-ratls/cert.pem", "sgx/icx-gramine-ratls/collateral", "2025-08-30T00:00:00Z", "X.509");
    accepted("snp/milan-v2-enarx-author-key/csr.der", NULL, "2022-10-29T12:48:56Z", "PKCS#10");
    accepted("sgx/icx-enarx-xeon/csr.der", "sgx/icx-enarx-xeon/collateral", "2025-08-30T00:00:00Z", "PKCS#10");
    accepted("sgx/cml-enarx-i5/csr.der", "sgx/cml-enarx-i5/collateral", "2023-05-24T00:00:00Z", "PKCS#10");
    /* No collateral of its time is known; the wrapper's own checks pass. */
    struct attest_verifier *v = attest_verifier_new();
    appraise_file(v, vector_path("sgx/icl-sgxsdk-ratls/cert.pem"), NULL, parse_time("2025-01-01T00:00:00Z"), &result);
    expect(!failed_rule(&result, "wrapper.key") && !failed_rule(&result, "wrapper.claims") &&
               !failed_rule(&result, "wrapper.signature"),
           "sgxsdk");
    attest_verifier_free(v);
}

/* Any byte of a certificate with evidence in it may be changed: nothing genuine is left. */
static void test_changed_certificates(void **state) {
    (void)state;
    static const char *const files[][3] = {
        {"snp/milan-v2-enarx-author-key/csr.der", NULL, "2022-10-29T12:48:56Z"},
        {"sgx/icx-enarx-xeon/csr.der", "sgx/icx-enarx-xeon/collateral", "2025-08-30T00:00:00Z"}};
    for (int f = 0; f < 2; f++) {
        struct attest_verifier *v = verifier_with(files[f][1] ? vector_path("%s", files[f][1]) : NULL);
        struct attest_bytes bytes = load(vector_path("%s", files[f][0]));
        for (size_t at = 0; at < bytes.size; at += 101) {
            ((uint8_t *)bytes.data)[at] ^= 4;
            appraise(v, bytes, NULL, parse_time(files[f][2]), &result);
            expect(!result.genuine, "a changed request");
            ((uint8_t *)bytes.data)[at] ^= 4;
        }
        free((void *)bytes.data);
        attest_verifier_free(v);
    }
}

static void test_azure(void **state) {
    (void)state;
    accepted("snp/milan-v3-azure-cvm/hcl_report.bin", "snp/milan-v3-azure-cvm", "2025-02-27T16:26:55Z", "Azure HCL");
    accepted("snp/milan-v2-azure-cvm/hcl_report.bin", "snp/milan-v2-azure-cvm", "2023-06-01T21:22:19Z", "Azure HCL");
    /* Runtime data is vouched for. */
    struct attest_bytes bytes = load(vector_path("snp/milan-v3-azure-cvm/hcl_report.bin"));
    ((uint8_t *)bytes.data)[1300] ^= 1;
    struct attest_verifier *v = verifier_with(vector_path("snp/milan-v3-azure-cvm"));
    appraise(v, bytes, NULL, parse_time("2025-02-27T16:26:55Z"), &result);
    expect(!result.genuine && failed_rule(&result, "wrapper.runtime_data") && result.failed == 1,
           "changed runtime data");
    free((void *)bytes.data);
    attest_verifier_free(v);
    /* A local TD report alone proves nothing. */
    v = verifier_with(vector_path("tdx/v4-azure-outofdate/collateral"));
    appraise_file(v, vector_path("tdx/v4-azure-outofdate/hcl_report.bin"), NULL, parse_time("2025-06-11T00:00:00Z"),
                  &result);
    expect(!result.genuine && failed_rule(&result, "format.evidence"), "local TD report");
    attest_verifier_free(v);
}

static void test_tables(void **state) {
    (void)state;
    accepted("results/corim/sevsnp/sevsnp-tsm-report.cbor", NULL, "2025-05-20T18:31:36Z", "configfs-tsm");
    struct attest_bytes report = load(vector_path("snp/genoa-v3-veraison/report.bin")),
                        table = load(vector_path("snp/genoa-v3-veraison/auxblob.bin"));
    uint8_t *both = malloc(report.size + table.size);
    memcpy(both, report.data, report.size);
    memcpy(both + report.size, table.data, table.size);
    struct attest_verifier *v = attest_verifier_new();
    appraise(v, (struct attest_bytes){both, report.size + table.size}, NULL, parse_time("2025-05-20T18:31:36Z"),
             &result);
    expect(result.accepted, "extended report");
    assert_true(attest_verifier_add(v, table)); /* and as an endorsement */
    appraise(v, report, NULL, parse_time("2025-05-20T18:31:36Z"), &result);
    expect(result.accepted, "table as endorsement");
    /* Offsets and lengths of the table are the attacker's. */
    for (size_t at = 16; at < 96; at++) {
        uint8_t keep = both[report.size + at];
        both[report.size + at] = 0xff;
        struct attest_verifier *fresh = attest_verifier_new();
        appraise(fresh, (struct attest_bytes){both, report.size + table.size}, NULL, parse_time("2025-05-20T18:31:36Z"),
                 &result);
        attest_verifier_free(fresh);
        both[report.size + at] = keep;
    }
    attest_verifier_free(v);
    free(both);
    free((void *)report.data);
    free((void *)table.data);
}

/* Tables whose first entry is not a certificate: go-sev-guest puts the product of the chip there. */
static void test_other_tables(void **state) {
    (void)state;
    enum { ENTRY = 24, REPORT = 1184, PAGE = 4096, OTHER = 8 };
    static const char product[] = "\xec\xae\x0c\x0f\x95\x02\x43\xb1\xaf\xa2\x0a\xe2\xe0\xd5\x65\xb6",
                      vcek_guid[] = "\x63\xda\x75\x8d\xe6\x64\x45\x64\xad\xc5\xf4\xb9\x3b\xe8\xac\xcd";
    struct attest_bytes report = load(vector_path("snp/milan-v3-aci/report.bin")),
                        vcek = load(vector_path("snp/milan-v3-aci/vcek.der"));
    int64_t at = parse_time("2026-01-28T11:25:58Z");
    uint8_t b[REPORT + PAGE] = {0}, *t = b + REPORT;
    memcpy(b, report.data, REPORT);
    /* The product alone: the certificate comes from elsewhere. */
    memcpy(t, product, 16);
    t[16] = 2 * ENTRY, t[20] = OTHER;
    struct attest_verifier *v = verifier_with(vector_path("snp/milan-v3-aci"));
    appraise(v, (struct attest_bytes){b, REPORT + 2 * ENTRY + OTHER}, NULL, at, &result);
    expect(result.accepted, "a table without certificates");
    for (size_t cut = 1; cut <= OTHER + ENTRY; cut += OTHER) {
        appraise(v, (struct attest_bytes){b, REPORT + 2 * ENTRY + OTHER - cut}, NULL, at, &result);
        expect(!result.genuine && failed_rule(&result, "format.evidence"), "a table cut off");
    }
    t[16] = ENTRY; /* what is said to be there are the entries themselves */
    appraise(v, (struct attest_bytes){b, REPORT + 2 * ENTRY + OTHER}, NULL, at, &result);
    expect(!result.genuine, "an entry in the entries");
    /* The product first, then the certificate. */
    t[16] = 3 * ENTRY;
    memcpy(t + ENTRY, vcek_guid, 16);
    uint32_t entry[2] = {3 * ENTRY + OTHER, (uint32_t)vcek.size};
    memcpy(t + ENTRY + 16, entry, sizeof entry);
    memset(t + 2 * ENTRY, 0, ENTRY);
    memcpy(t + 3 * ENTRY + OTHER, vcek.data, vcek.size);
    struct attest_verifier *fresh = attest_verifier_new();
    appraise(fresh, (struct attest_bytes){b, REPORT + 3 * ENTRY + OTHER + vcek.size}, NULL, at, &result);
    expect(result.accepted, "a certificate behind the product");
    assert_true(attest_verifier_add(fresh, (struct attest_bytes){t, 3 * ENTRY + OTHER + vcek.size}));
    attest_verifier_free(fresh);
    /* No entry at all. */
    memset(t, 0, PAGE);
    static const struct {
        size_t size;
        bool table;
    } empty[] = {{ENTRY, true}, {PAGE, true}, {1, false}, {ENTRY - 1, false}, {ENTRY + 1, false}, {PAGE - 1, false}};
    for (size_t i = 0; i < sizeof empty / sizeof *empty; i++) {
        appraise(v, (struct attest_bytes){b, REPORT + empty[i].size}, NULL, at, &result);
        if (result.accepted != empty[i].table) fail_msg("%zu zeros behind a report", empty[i].size);
    }
    attest_verifier_free(v);
    free((void *)report.data), free((void *)vcek.data);
}

/* ---- CMW ---- */

static char *base64(struct attest_bytes b, bool url) {
    char *out = malloc(b.size / 3 * 4 + 8);
    int n = EVP_EncodeBlock((uint8_t *)out, b.data, (int)b.size);
    while (url && n && out[n - 1] == '=')
        out[--n] = 0;
    for (int i = 0; url && i < n; i++)
        out[i] = out[i] == '+' ? '-' : out[i] == '/' ? '_' : out[i];
    return out;
}

static void appraise_text(const char *text, const char *collateral, const char *time) {
    struct attest_verifier *v = verifier_with(collateral ? vector_path("%s", collateral) : NULL);
    appraise(v, (struct attest_bytes){(const uint8_t *)text, strlen(text)}, NULL, parse_time(time), &result);
    attest_verifier_free(v);
}

static void test_cmw(void **state) {
    (void)state;
    struct attest_bytes report = load(vector_path("snp/milan-v3-aci/report.bin")),
                        vcek = load(vector_path("snp/milan-v3-aci/vcek.der"));
    char *r = base64(report, true), *c = base64(vcek, true), *text;
    const char *time = "2026-01-28T11:25:58Z";
    assert_true(asprintf(&text, "[\"application/vnd.amd.sev.report\", \"%s\", 4]", r) > 0);
    appraise_text(text, "snp/milan-v3-aci", time);
    expect(result.accepted, "JSON record");
    free(text);
    assert_true(
        asprintf(&text, "{\"__cmwc_t\":\"tag:x,2026:y\",\"e\":[\"a/b\",\"%s\",4],\"c\":[\"a/c\",\"%s\",2]}", r, c) > 0);
    appraise_text(text, NULL, time);
    expect(result.accepted, "JSON collection with its endorsement");
    free(text);
    assert_true(asprintf(&text, "[\"application/vnd.amd.sev.report\", \"%s\", 2]", r) > 0);
    appraise_text(text, "snp/milan-v3-aci", time);
    expect(!result.accepted, "an endorsement is not evidence");
    free(text);
    /* CBOR: {"e": ["a/b", h'report', 4], 1: ["a/c", h'vcek', 2]} */
    uint8_t cbor[4096], *at = cbor;
    *at++ = 0xa2, *at++ = 0x61, *at++ = 'e', *at++ = 0x83, *at++ = 0x63, *at++ = 'a', *at++ = '/', *at++ = 'b',
    *at++ = 0x59, *at++ = 0x04, *at++ = 0xa0;
    memcpy(at, report.data, report.size), at += report.size;
    *at++ = 4, *at++ = 1, *at++ = 0x83, *at++ = 0x63, *at++ = 'a', *at++ = '/', *at++ = 'c', *at++ = 0x59,
    *at++ = (uint8_t)(vcek.size >> 8), *at++ = (uint8_t)vcek.size;
    memcpy(at, vcek.data, vcek.size), at += vcek.size;
    *at++ = 2;
    struct attest_verifier *v = attest_verifier_new();
    appraise(v, (struct attest_bytes){cbor, (size_t)(at - cbor)}, NULL, parse_time(time), &result);
    expect(result.accepted, "CBOR collection");
    /* Tag 18 and so on: the tag is the type. */
    uint8_t tagged[1200] = {0xda, 0x63, 0x74, 0x01, 0x01, 0x59, 0x04, 0xa0};
    memcpy(tagged + 8, report.data, report.size);
    attest_verifier_add(v, vcek);
    appraise(v, (struct attest_bytes){tagged, 8 + report.size}, NULL, parse_time(time), &result);
    expect(result.accepted, "CBOR tag");
    attest_verifier_free(v);
    free(r), free(c), free((void *)report.data), free((void *)vcek.data);
}

/* The wrapper vectors hold no evidence we know; they must be walked without harm, and bad ones must not be believed. */
static void test_cmw_vectors(void **state) {
    (void)state;
    json_t *records = load_json(vector_path("results/cmw/json_records.json")), *text;
    size_t i, bad = 0;
    char error[300];
    static const char *const kinds[] = {"ok", "bad"};
    for (int k = 0; k < 2; k++)
        json_array_foreach(json_object_get(records, kinds[k]), i, text) {
            struct attest_bytes b = {(const uint8_t *)json_string_value(text), json_string_length(text)};
            assert_null(attest_evidence_open(b, error, sizeof error));
            json_t *record = json_loadb((const char *)b.data, b.size, 0, NULL);
            struct cmw_record parsed = {0};
            if (cmw_json_record(record, &parsed) != (k == 0)) fail_msg("record %s", (const char *)b.data);
            free((void *)parsed.value.data);
            json_decref(record);
            bad += k;
        }
    static const char *const files[] = {"collection-cbor-mixed-keys.cbor", "collection-cbor-ok-2.cbor",
                                        "collection-cbor-ok.cbor",         "collection-ok.json",
                                        "x509-cert+cbor-cmw.der",          "x509-cert+json-cmw.der"};
    for (size_t f = 0; f < 6; f++) {
        struct attest_bytes b = load(vector_path("results/cmw/%s", files[f]));
        assert_true(b.size > 0);
        assert_null(attest_evidence_open(b, error, sizeof error));
        free((void *)b.data);
    }
    printf("CMW vectors: 5 records, %zu bad records, 6 files\n", bad);
    json_decref(records);
}

/* A Nitro document with and without COSE's tag. */
static void test_cose_tag(void **state) {
    (void)state;
    struct attest_bytes b = load(vector_path("nitro/veracruz-2022/attestation.cbor"));
    uint8_t *tagged = malloc(b.size + 1);
    tagged[0] = 0xd2;
    memcpy(tagged + 1, b.data, b.size);
    struct attest_verifier *v = attest_verifier_new();
    appraise(v, (struct attest_bytes){tagged, b.size + 1}, NULL, parse_time("2022-11-09T23:00:00Z"), &result);
    expect(result.accepted, "tag 18");
    tagged[0] = 0xd3;
    appraise(v, (struct attest_bytes){tagged, b.size + 1}, NULL, parse_time("2022-11-09T23:00:00Z"), &result);
    expect(!result.accepted, "tag 19");
    attest_verifier_free(v);
    free(tagged), free((void *)b.data);
}

/* ---- KBS and relatives ---- */

static void test_kbs(void **state) {
    (void)state;
    struct attest_bytes hcl = load(vector_path("snp/milan-v3-azure-cvm/hcl_report.bin")),
                        vcek = load(vector_path("snp/milan-v3-azure-cvm/vcek.der"));
    json_t *list = json_array(), *chain = json_array();
    for (size_t i = 0; i < hcl.size; i++)
        json_array_append_new(list, json_integer(hcl.data[i]));
    for (size_t i = 0; i < vcek.size; i++)
        json_array_append_new(chain, json_integer(vcek.data[i]));
    json_t *azure = json_pack("{s:{}, s:O, s:O}", "tpm_quote", "hcl_report", list, "vcek", chain);
    json_t *kbs = json_pack("{s:s, s:O}", "tee", "azsnpvtpm", "evidence", azure);
    char *text = json_dumps(kbs, 0);
    appraise_text(text, NULL, "2025-02-27T16:26:55Z");
    expect(result.accepted, "Azure SNP evidence for a KBS");
    free(text);
    /* Evidence as a string of JSON inside. */
    char *inner = json_dumps(azure, 0);
    json_t *nested = json_pack("{s:{s:s, s:s}}", "tee-evidence", "primary_evidence", inner, "additional_evidence", "");
    text = json_dumps(nested, 0);
    appraise_text(text, NULL, "2025-02-27T16:26:55Z");
    expect(result.accepted, "nested evidence");
    free(text), free(inner);
    /* What jq takes out of a list of bytes, and a list of evidence. */
    json_t *bare = json_array();
    for (const char *c = inner = json_dumps(azure, 0); *c; c++)
        json_array_append_new(bare, json_integer(*c));
    text = json_dumps(bare, 0);
    appraise_text(text, NULL, "2025-02-27T16:26:55Z");
    expect(result.accepted, "bytes of JSON as a list");
    free(text), free(inner), json_decref(bare);
    bare = json_pack("[{}, O]", azure);
    text = json_dumps(bare, 0);
    appraise_text(text, NULL, "2025-02-27T16:26:55Z");
    expect(result.accepted, "a list of evidence");
    free(text), json_decref(bare);
    json_decref(nested), json_decref(kbs), json_decref(azure), json_decref(list), json_decref(chain);
    free((void *)hcl.data), free((void *)vcek.data);
    /* TDX with its CCEL. */
    struct attest_bytes quote = load(vector_path("tdx/v4-gcp-cos113/quote.bin")),
                        log = load(vector_path("tdx-eventlog/gcp-cos113/ccel_data.bin"));
    char *q = base64(quote, false), *l = base64(log, false);
    kbs = json_pack("{s:s, s:s}", "quote", q, "cc_eventlog", l);
    text = json_dumps(kbs, 0);
    appraise_text(text, "tdx/v4-gcp-cos113/collateral", "2025-06-11T00:00:00Z");
    bool replayed = false;
    for (unsigned i = 0; i < result.check_count; i++)
        replayed |= result.checks[i].rule == ATTEST_RULE_EVENT_LOG && result.checks[i].outcome == ATTEST_PASS;
    expect(result.accepted && replayed, "TDX evidence for a KBS");
    free(text), free(q), free(l), json_decref(kbs), free((void *)quote.data), free((void *)log.data);
}

static json_t *bytes_json(const uint8_t *b, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_integer(b[i]));
    return list;
}

static json_t *tcb_json(const uint8_t *b) {
    return json_pack("{s:i, s:i, s:i, s:i}", "bootloader", b[0], "tee", b[1], "snp", b[6], "microcode", b[7]);
}

/* An SNP report that went through a JSON library on its way. */
static void test_report_as_members(void **state) {
    (void)state;
    struct attest_bytes r = load(vector_path("snp/milan-v3-aci/report.bin"));
    const uint8_t *b = r.data;
    json_t *o = json_pack("{s:i, s:i, s:I, s:i, s:i, s:i, s:i}", "version", 3, "guest_svn", b[4], "policy",
                          (json_int_t)(b[8] | b[9] << 8 | b[10] << 16), "vmpl", 0, "sig_algo", 1, "plat_info", b[0x40],
                          "key_info", b[0x48]);
    static const struct {
        const char *name;
        size_t at, size;
    } lists[] = {{"family_id", 0x10, 16},          {"image_id", 0x20, 16},
                 {"report_data", 0x50, 64},        {"measurement", 0x90, 48},
                 {"host_data", 0xc0, 32},          {"id_key_digest", 0xe0, 48},
                 {"author_key_digest", 0x110, 48}, {"report_id", 0x140, 32},
                 {"report_id_ma", 0x160, 32},      {"chip_id", 0x1a0, 64}};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        json_object_set_new(o, lists[i].name, bytes_json(b + lists[i].at, lists[i].size));
    json_object_set_new(o, "current_tcb", tcb_json(b + 0x38));
    json_object_set_new(o, "reported_tcb", tcb_json(b + 0x180));
    json_object_set_new(o, "committed_tcb", tcb_json(b + 0x1e0));
    json_object_set_new(o, "launch_tcb", tcb_json(b + 0x1f0));
    static const char *const small[] = {"cpuid_fam_id", "cpuid_mod_id", "cpuid_step"},
                             *const fw[] = {"current_build",   "current_minor",   "current_major",  NULL,
                                            "committed_build", "committed_minor", "committed_major"};
    for (int i = 0; i < 3; i++)
        json_object_set_new(o, small[i], json_integer(b[0x188 + i]));
    for (int i = 0; i < 7; i++)
        if (fw[i]) json_object_set_new(o, fw[i], json_integer(b[0x1e8 + i]));
    json_object_set_new(o, "signature",
                        json_pack("{s:o, s:o}", "r", bytes_json(b + 0x2a0, 72), "s", bytes_json(b + 0x2e8, 72)));
    json_t *evidence = json_pack("{s:o, s:n}", "attestation_report", o, "cert_chain");
    char *text = json_dumps(evidence, 0);
    appraise_text(text, "snp/milan-v3-aci", "2026-01-28T11:25:58Z");
    expect(result.accepted, "report as JSON members");
    free(text), json_decref(evidence), free((void *)r.data);
}

static void test_text(void **state) {
    (void)state;
    struct attest_bytes r = load(vector_path("sgx/icx-automata-b/quote.bin"));
    char *hex = malloc(r.size * 2 + 4), *b64 = base64(r, false);
    strcpy(hex, "0x");
    for (size_t i = 0; i < r.size; i++)
        sprintf(hex + 2 + 2 * i, "%02x", r.data[i]);
    strcat(hex, "\n");
    appraise_text(hex, "sgx/icx-automata-b/collateral", "2025-08-30T00:00:00Z");
    expect(result.accepted, "hexadecimal");
    appraise_text(b64, "sgx/icx-automata-b/collateral", "2025-08-30T00:00:00Z");
    expect(result.accepted, "base64");
    free(hex), free(b64);
    /* A fixed buffer of 8000 bytes is common; anything else after the end is not. */
    uint8_t *buffer = calloc(1, 8000);
    memcpy(buffer, r.data, r.size);
    struct attest_verifier *v = verifier_with(vector_path("sgx/icx-automata-b/collateral"));
    appraise(v, (struct attest_bytes){buffer, 8000}, NULL, parse_time("2025-08-30T00:00:00Z"), &result);
    expect(result.accepted, "padded buffer");
    buffer[7999] = 1;
    appraise(v, (struct attest_bytes){buffer, 8000}, NULL, parse_time("2025-08-30T00:00:00Z"), &result);
    expect(!result.genuine, "bytes after the end");
    attest_verifier_free(v);
    free(buffer), free((void *)r.data);
}

/* ---- The software signer, in a certificate of our own with a CMW inside ---- */

static const int64_t software_time = 1780272000; /* 2026-06-01 */

static X509 *certificate_with(EVP_PKEY *key, EVP_PKEY *signer, const char *oid, struct attest_bytes value) {
    X509 *x = X509_new();
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    ASN1_TIME_set(X509_getm_notBefore(x), software_time - 60);
    ASN1_TIME_set(X509_getm_notAfter(x), software_time + 3600);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC, (const uint8_t *)"keep", -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(x));
    X509_set_pubkey(x, key);
    ASN1_OBJECT *object = OBJ_txt2obj(oid, 1);
    ASN1_OCTET_STRING *string = ASN1_OCTET_STRING_new();
    ASN1_OCTET_STRING_set(string, value.data, (int)value.size);
    X509_EXTENSION *e = X509_EXTENSION_create_by_OBJ(NULL, object, 0, string);
    X509_add_ext(x, e, -1);
    X509_EXTENSION_free(e), ASN1_OCTET_STRING_free(string), ASN1_OBJECT_free(object);
    assert_true(X509_sign(x, signer, EVP_sha256()) > 0);
    return x;
}

static void appraise_certificate(struct attest_verifier *v, X509 *x, const struct attest_policy *p, int64_t now) {
    uint8_t *der = NULL;
    int size = i2d_X509(x, &der);
    appraise(v, (struct attest_bytes){der, (size_t)size}, p, now, &result);
    OPENSSL_free(der);
}

static void test_software(void **state) {
    (void)state;
    const int64_t now = software_time;
    struct attest_signer *made = attest_signer_new(now - 60);
    assert_non_null(made);
    char *pem = attest_signer_export(made), *root = attest_signer_certificates(made, true),
         *chain = attest_signer_certificates(made, false);
    struct attest_signer *s = attest_signer_load((struct attest_bytes){(uint8_t *)pem, strlen(pem)});
    assert_non_null(s);
    EVP_PKEY *key = EVP_EC_gen("P-256"), *other = EVP_EC_gen("P-256");
    uint8_t *spki = NULL;
    int spki_size = i2d_PUBKEY(key, &spki);
    struct attest_signer_claims claims = {.measurement = {1, 2, 3}, .host_data = {9}};
    EVP_Digest(spki, (size_t)spki_size, claims.report_data, NULL, EVP_sha512(), NULL);
    uint8_t report[ATTEST_SNP_REPORT];
    assert_true(attest_signer_report(s, &claims, report));
    /* Extension: OCTET STRING of CBOR ["x/y", h'report', 4] */
    uint8_t value[1300], *at = value;
    *at++ = 0x04, *at++ = 0x82, *at++ = (uint8_t)((ATTEST_SNP_REPORT + 9) >> 8),
    *at++ = (uint8_t)(ATTEST_SNP_REPORT + 9);
    *at++ = 0x83, *at++ = 0x63, *at++ = 'x', *at++ = '/', *at++ = 'y', *at++ = 0x59, *at++ = 0x04, *at++ = 0xa0;
    memcpy(at, report, sizeof report), at += sizeof report;
    *at++ = 4;
    struct attest_bytes extension = {value, (size_t)(at - value)};
    X509 *x = certificate_with(key, key, "1.3.6.1.5.5.7.1.35", extension);
    struct attest_verifier *v = attest_verifier_new();
    assert_true(attest_verifier_add(v, (struct attest_bytes){(uint8_t *)chain, strlen(chain)}));
    struct attest_policy p;
    attest_policy_strict(&p);
    /* Nothing trusts it by default; with its root it is genuine, and still refused; with both it is software. */
    appraise_certificate(v, x, &p, now);
    expect(!result.genuine && failed_rule(&result, "chain.path"), "software without its root");
    assert_true(attest_verifier_add_development_root(v, (struct attest_bytes){(uint8_t *)root, strlen(root)}));
    appraise_certificate(v, x, &p, now);
    expect(result.genuine && !result.accepted && failed_rule(&result, "policy.software") &&
               result.tee == ATTEST_TEE_SOFTWARE,
           "software without permission");
    p.allow_software = true;
    appraise_certificate(v, x, &p, now);
    expect(result.accepted && result.tee == ATTEST_TEE_SOFTWARE, "software, allowed");
    /* The certificate itself ends. */
    appraise_certificate(v, x, &p, now + 3601);
    expect(result.genuine && result.failed == 1 && failed_rule(&result, "wrapper.validity"), "expired certificate");
    appraise_certificate(v, x, &p, now - 61);
    expect(failed_rule(&result, "wrapper.validity"), "certificate of later");
    /* The same evidence in somebody else's certificate; and a certificate not signed by its key. */
    X509 *stolen = certificate_with(other, other, "1.3.6.1.5.5.7.1.35", extension),
         *unsigned_x = certificate_with(key, other, "1.3.6.1.5.5.7.1.35", extension);
    appraise_certificate(v, stolen, &p, now);
    expect(!result.genuine && failed_rule(&result, "wrapper.key"), "stolen evidence");
    appraise_certificate(v, unsigned_x, &p, now);
    expect(!result.genuine && failed_rule(&result, "wrapper.signature"), "certificate of another key");
    /* A debug policy bit in software evidence is refused like any other. */
    claims.policy = 0xb0000;
    assert_true(attest_signer_report(s, &claims, report));
    appraise(v, (struct attest_bytes){report, sizeof report}, &p, now, &result);
    expect(result.genuine && failed_rule(&result, "policy.debug"), "software in debug");
    attest_policy_free(&p);
    attest_verifier_free(v);
    X509_free(x), X509_free(stolen), X509_free(unsigned_x);
    EVP_PKEY_free(key), EVP_PKEY_free(other), OPENSSL_free(spki);
    attest_signer_free(made), attest_signer_free(s);
    free(pem), free(root), free(chain);
}

/* ---- How producers bind a certificate's key ---- */

enum digest_of { OF_KEY, OF_PEM, OF_LABEL };

static void digest_key(EVP_PKEY *key, enum digest_of what, uint8_t out[64]) {
    uint8_t *spki = NULL, bytes[400];
    size_t n = 0, size = (size_t)i2d_PUBKEY(key, &spki);
    memset(out, 0, 64);
    if (what == OF_PEM) { /* Open Enclave: text, with its zero */
        BIO *bio = BIO_new(BIO_s_mem());
        PEM_write_bio_PUBKEY(bio, key);
        n = (size_t)BIO_read(bio, bytes, sizeof bytes - 1);
        bytes[n++] = 0;
        BIO_free(bio);
    } else {
        if (what == OF_LABEL) memcpy(bytes, "ratls-cert:", n = 11); /* dstack */
        memcpy(bytes + n, spki, size), n += size;
    }
    EVP_Digest(bytes, n, out, NULL, what == OF_LABEL ? EVP_sha512() : EVP_sha256(), NULL);
    OPENSSL_free(spki);
}

static void test_bound_keys(void **state) {
    (void)state;
    static const struct {
        const char *oid;
        enum digest_of what;
        bool wrapped, bound;
    } cases[] = {
        {"1.3.6.1.4.1.311.105.1", OF_PEM, false, true},   {"1.3.6.1.4.1.311.105.1", OF_KEY, false, true},
        {"1.3.6.1.4.1.311.105.2", OF_PEM, false, true},   {"1.3.6.1.4.1.311.105.1", OF_LABEL, false, false},
        {"1.2.840.113556.10.1.1", OF_PEM, false, true},   {"1.2.840.113556.10.1.2", OF_PEM, true, true},
        {"1.2.840.113741.1337.6", OF_PEM, false, false},  {"1.2.840.113741.1337.6", OF_KEY, false, true},
        {"1.3.6.1.4.1.62397.1.1", OF_LABEL, false, true}, {"1.3.6.1.4.1.62397.1.1", OF_LABEL, true, true},
        {"1.3.6.1.4.1.62397.1.8", OF_LABEL, true, true},  {"1.3.6.1.4.1.62397.1.1", OF_KEY, true, false},
    };
    struct attest_signer *s = attest_signer_new(software_time - 60);
    char *root = attest_signer_certificates(s, true), *chain = attest_signer_certificates(s, false);
    EVP_PKEY *key = EVP_EC_gen("P-256");
    struct attest_verifier *v = attest_verifier_new();
    attest_verifier_add(v, (struct attest_bytes){(uint8_t *)chain, strlen(chain)});
    attest_verifier_add_development_root(v, (struct attest_bytes){(uint8_t *)root, strlen(root)});
    struct attest_policy p;
    attest_policy_strict(&p);
    p.allow_software = true;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct attest_signer_claims claims = {.measurement = {1}};
        uint8_t value[4 + ATTEST_SNP_REPORT] = {0x04, 0x82, ATTEST_SNP_REPORT >> 8, ATTEST_SNP_REPORT & 0xff};
        digest_key(key, cases[i].what, claims.report_data);
        assert_true(attest_signer_report(s, &claims, value + 4));
        struct attest_bytes extension = {value + (cases[i].wrapped ? 0 : 4), sizeof value - (cases[i].wrapped ? 0 : 4)};
        X509 *x = certificate_with(key, key, cases[i].oid, extension);
        appraise_certificate(v, x, &p, software_time);
        bool right = cases[i].bound ? result.accepted : failed_rule(&result, "wrapper.key") && result.failed == 1;
        if (!right) {
            show(cases[i].oid, &result);
            fail_msg("%s, case %zu", cases[i].oid, i);
        }
        X509_free(x);
    }
    /* Azure's attestation service: JSON in a UTF8String, with its certificates, and no others at hand. */
    struct attest_signer_claims claims = {.measurement = {1}};
    uint8_t report[ATTEST_SNP_REPORT];
    digest_key(key, OF_PEM, claims.report_data);
    assert_true(attest_signer_report(s, &claims, report));
    char *b64 = base64((struct attest_bytes){report, sizeof report}, true),
         *certificates = base64((struct attest_bytes){(uint8_t *)chain, strlen(chain)}, true);
    uint8_t *utf8 = malloc(strlen(b64) + strlen(certificates) + 100);
    int json_size =
        sprintf((char *)utf8 + 4, "{\"SnpReport\": \"%s\", \"VcekCertChain\": \"%s\", \"Endorsements\": \"e30\"}", b64,
                certificates);
    utf8[0] = 0x0c, utf8[1] = 0x82, utf8[2] = (uint8_t)(json_size >> 8), utf8[3] = (uint8_t)json_size;
    X509 *service =
        certificate_with(key, key, "1.3.6.1.4.1.311.105.1000.1", (struct attest_bytes){utf8, (size_t)json_size + 4});
    struct attest_verifier *bare = attest_verifier_new();
    attest_verifier_add_development_root(bare, (struct attest_bytes){(uint8_t *)root, strlen(root)});
    appraise_certificate(bare, service, &p, software_time);
    expect(result.accepted, "Azure's attestation service");
    attest_verifier_free(bare);
    X509_free(service);
    free(utf8), free(b64), free(certificates);
    /* A quote inside a structure of dstack's: found, whole, and not vouching for this key. */
    struct attest_bytes quote = load(vector_path("tdx/v5-td15-uptodate/quote.bin"));
    uint8_t *around = calloc(1, quote.size + 40);
    memcpy(around + 7, quote.data, quote.size);
    memset(around + 7 + quote.size, 0xa5, 33);
    X509 *x = certificate_with(key, key, "1.3.6.1.4.1.62397.1.8", (struct attest_bytes){around, quote.size + 40});
    appraise_certificate(v, x, NULL, software_time);
    expect(result.tee == ATTEST_TEE_TDX && failed_rule(&result, "wrapper.key") &&
               !failed_rule(&result, "format.evidence") && !failed_rule(&result, "quote.signature"),
           "a quote within");
    X509_free(x);
    /* No quote in it; a header only. */
    const size_t sizes[] = {3, 7 + 12, 7 + 20, 7 + 48, 7 + 700};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        x = certificate_with(key, key, "1.3.6.1.4.1.62397.1.8", (struct attest_bytes){around, sizes[i]});
        appraise_certificate(v, x, NULL, software_time);
        expect(!result.genuine && failed_rule(&result, "format.evidence"), "nothing within");
        X509_free(x);
    }
    free(around), free((void *)quote.data);
    attest_policy_free(&p);
    attest_verifier_free(v);
    attest_signer_free(s), EVP_PKEY_free(key), free(root), free(chain);
}

/* Services give the members that hold evidence all kinds of names. */
static void test_other_members(void **state) {
    (void)state;
    struct attest_bytes document = load(vector_path("nitro/veracruz-2022/attestation.cbor"));
    char *text = base64(document, false);
    static const char *const shapes[] = {"{\"attestationDocument\": \"%s\"}", "{\"a\": {\"reportB64\": \"%s\"}}",
                                         "{\"keys\": [{\"x5c\": [\"%s\"]}]}", "{\"list\": [\"%s\"], \"n\": 1}"};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        char *json = malloc(strlen(text) + 100);
        sprintf(json, shapes[i], text);
        appraise_text(json, NULL, "2022-11-09T23:00:00Z");
        expect(result.accepted, shapes[i]);
        free(json);
    }
    free(text), free((void *)document.data);
}

int main(void) {
    need_vectors();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_certificates), cmocka_unit_test(test_changed_certificates),
        cmocka_unit_test(test_azure),        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_other_tables), cmocka_unit_test(test_cose_tag),
        cmocka_unit_test(test_cmw),          cmocka_unit_test(test_cmw_vectors),
        cmocka_unit_test(test_kbs),          cmocka_unit_test(test_report_as_members),
        cmocka_unit_test(test_text),         cmocka_unit_test(test_software),
        cmocka_unit_test(test_bound_keys),   cmocka_unit_test(test_other_members),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
