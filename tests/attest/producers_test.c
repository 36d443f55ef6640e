/* How evidence of other producers comes, and what must not come with it. */
#include "support.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include "evidence.h"
#include "quote.h"
#include "vtpm.h"

static struct attest_result result;

static void expect(bool ok, const char *what) {
    if (ok) return;
    show(what, &result);
    fail_msg("%s", what);
}

static bool passed(enum attest_rule rule) {
    bool seen = false;
    for (unsigned i = 0; i < result.check_count; i++)
        if (result.checks[i].rule == rule) seen = result.checks[i].outcome == ATTEST_PASS;
    return seen;
}

static bool noted(enum attest_rule rule) {
    for (unsigned i = 0; i < result.check_count; i++)
        if (result.checks[i].rule == rule && result.checks[i].outcome == ATTEST_NOTE) return true;
    return false;
}

static struct attest_bytes joined(struct attest_bytes a, const void *b, size_t size) {
    uint8_t *both = malloc(a.size + size);
    memcpy(both, a.data, a.size);
    if (size) memcpy(both + a.size, b, size);
    return (struct attest_bytes){both, a.size + size};
}

/* ---- Quotes ---- */

static void test_padding(void **state) {
    (void)state;
    struct attest_bytes quote = load(vector_path("tdx/v4-phala-2025/quote.bin"));
    quote.size = quote_size(quote);
    struct attest_verifier *v = verifier_with(vector_path("tdx/v4-phala-2025/collateral"));
    static const uint8_t zeros[4096], ones[70] = {[69] = 1};
    static const struct {
        size_t zeros;
        bool fine;
    } cases[] = {{0, true}, {1, false}, {15, false}, {16, true}, {64, true}, {69, true}, {70, true}, {4096, true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct attest_bytes padded = joined(quote, zeros, cases[i].zeros);
        appraise(v, padded, NULL, parse_time("2025-06-11T00:00:00Z"), &result);
        expect(failed_rule(&result, "format.evidence") == !cases[i].fine, "zeros behind a quote");
        free((void *)padded.data);
    }
    struct attest_bytes padded = joined(quote, ones, sizeof ones);
    appraise(v, padded, NULL, parse_time("2025-06-11T00:00:00Z"), &result);
    expect(failed_rule(&result, "format.evidence"), "something behind a quote");
    attest_verifier_free(v);
    free((void *)padded.data), free((void *)quote.data);
}

static void test_key_types(void **state) {
    (void)state;
    static const struct {
        const char *file;
        uint8_t type;
        const char *found;
    } cases[] = {{"sgx/icx-automata-b/quote.bin", 3, "3 (ECDSA P-384)"},
                 {"tdx/v4-phala-2025/quote.bin", 3, "3 (ECDSA P-384)"},
                 {"tdx/v5-td15-uptodate/quote.bin", 3, "3 (ECDSA P-384)"},
                 {"sgx/icx-automata-b/quote.bin", 0, "0 (EPID unlinkable)"},
                 {"sgx/icx-automata-b/quote.bin", 9, "9 (unknown)"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct attest_bytes quote = load(vector_path("%s", cases[i].file));
        ((uint8_t *)quote.data)[2] = cases[i].type;
        struct attest_verifier *v = attest_verifier_new();
        appraise(v, quote, NULL, parse_time("2025-06-11T00:00:00Z"), &result);
        expect(!result.genuine && strcmp(reason_name(&result), "quote.key_type") == 0, "another key type");
        char found[100];
        attest_value_format(&attest_result_reason(&result)->found, found, sizeof found);
        assert_string_equal(found, cases[i].found);
        attest_verifier_free(v);
        free((void *)quote.data);
    }
}

/* The verdict speaks of what makes evidence false, not of the lists that are missing as well. */
static void test_reasons(void **state) {
    (void)state;
    int64_t now = parse_time("2025-08-30T00:00:00Z");
    struct attest_bytes quote = load(vector_path("sgx/icx-automata-b/quote.bin"));
    struct attest_verifier *v = attest_verifier_new();
    appraise(v, quote, NULL, now, &result);
    assert_string_equal(reason_name(&result), "chain.crl");
    ((uint8_t *)quote.data)[48 + 70] ^= 1; /* MRENCLAVE */
    appraise(v, quote, NULL, now, &result);
    assert_string_equal(reason_name(&result), "quote.signature");
    /* A document that was given and not understood is not "none given". */
    static const char malformed[] = "{\"tcbInfo\":{\"id\":\"SGX\"},\"signature\":\"00\"}";
    attest_verifier_add(v, (struct attest_bytes){(const uint8_t *)malformed, sizeof malformed - 1});
    appraise(v, quote, NULL, now, &result);
    char found[300] = "";
    for (unsigned i = 0; i < result.check_count; i++)
        if (result.checks[i].rule == ATTEST_RULE_TCB_INFO)
            attest_value_format(&result.checks[i].found, found, sizeof found);
    assert_non_null(strstr(found, "malformed: signature"));
    attest_verifier_free(v);
    free((void *)quote.data);
    /* Another machine's certificate: said first, and which one is needed. */
    v = verifier_with(vector_path("snp/milan-v3-oak-cb"));
    appraise_file(v, vector_path("snp/milan-v3-aci/report.bin"), NULL, parse_time("2026-01-28T11:25:58Z"), &result);
    assert_string_equal(reason_name(&result), "chain.endorsement");
    attest_value_format(&attest_result_reason(&result)->expected, found, sizeof found);
    assert_non_null(strstr(found, "the VCEK of chip 4ffb5cb4fd594f3f.. for bootloader 4"));
    attest_verifier_free(v);
}

/* Bound service TDs and newer attributes: allowed when nobody asks whose they are, refused by a policy that does not
 * name them. */
static void test_td_bodies(void **state) {
    (void)state;
    struct td_body td = {.attributes = TD_ATTR_SEPT_VE_DISABLE | TD_ATTR_LASS, .xfam = 3, .is15 = true};
    td.mrservicetd[0] = 1;
    struct attest_policy genuine, strict;
    attest_policy_genuine(&genuine), attest_policy_strict(&strict);
    result = (struct attest_result){0};
    td_appraise(&result, &genuine, &td);
    expect(result.failed == 0 && noted(ATTEST_RULE_TDX_SERVICE) && noted(ATTEST_RULE_TDX_PERFMON), "genuine TD");
    result = (struct attest_result){0};
    td_appraise(&result, &strict, &td);
    expect(failed_rule(&result, "tdx.mrservicetd") && failed_rule(&result, "tdx.perfmon") && result.failed == 2,
           "TD under a strict policy");
    assert_true(attest_set_add(&strict.tdx.mrservicetds, td.mrservicetd, sizeof td.mrservicetd));
    strict.tdx.allow_attributes = TD_ATTR_LASS;
    result = (struct attest_result){0};
    td_appraise(&result, &strict, &td);
    expect(result.failed == 0, "TD as the policy names it");
    td.attributes |= 1ull << 40;
    result = (struct attest_result){0};
    td_appraise(&result, &genuine, &td);
    expect(failed_rule(&result, "tdx.reserved"), "an attribute nobody knows");
    attest_policy_free(&genuine), attest_policy_free(&strict);
}

/* ---- Open Enclave: claims behind the quote ---- */

static size_t oe_claims(uint8_t *out) {
    static const uint8_t claims[] = {1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0,   0,   0,   2,   0,  0,
                                     0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 'p', 'k', 'a', 'b', 'c'};
    memcpy(out, claims, sizeof claims);
    return sizeof claims;
}

static void test_open_enclave(void **state) {
    (void)state;
    struct attest_bytes quote = load(vector_path("sgx/icx-automata-b/quote.bin"));
    quote.size = quote_size(quote);
    struct attest_verifier *v = verifier_with(vector_path("sgx/icx-automata-b/collateral"));
    uint8_t claims[64], header[32] = {1};
    size_t size = oe_claims(claims);
    struct attest_bytes evidence = joined(quote, claims, size);
    /* This quote's report data is not of these claims: recognised, and refused for just that. */
    appraise(v, evidence, NULL, parse_time("2025-08-30T00:00:00Z"), &result);
    expect(result.failed == 1 && failed_rule(&result, "wrapper.claims"), "claims of another");
    expect(strcmp(text_fact(&result, "wrapper"), "Open Enclave evidence") == 0, "the wrapper's name");
    for (size_t pad = 0; pad <= 4; pad += 4) { /* with its header, packed or not */
        for (int i = 0; i < 8; i++)
            header[20 + pad + i] = (uint8_t)(evidence.size >> 8 * i);
        struct attest_bytes whole = joined((struct attest_bytes){header, 28 + pad}, evidence.data, evidence.size);
        appraise(v, whole, NULL, parse_time("2025-08-30T00:00:00Z"), &result);
        expect(result.failed == 1 && failed_rule(&result, "wrapper.claims"), "with an attestation header");
        free((void *)whole.data);
        memset(header + 20, 0, 12);
    }
    /* Every length in the claims is the sender's. */
    for (size_t at = 0; at < 32; at++) {
        ((uint8_t *)evidence.data)[quote.size + at] ^= 0xff;
        appraise(v, evidence, NULL, parse_time("2025-08-30T00:00:00Z"), &result);
        expect(!result.genuine && failed_rule(&result, "format.evidence"), "malformed claims");
        ((uint8_t *)evidence.data)[quote.size + at] ^= 0xff;
    }
    attest_verifier_free(v);
    free((void *)evidence.data), free((void *)quote.data);
}

static void put_le32(uint8_t **at, size_t n) {
    for (int i = 0; i < 4; i++)
        *(*at)++ = (uint8_t)(n >> 8 * i);
}

/* All collateral of a platform in one file. */
static void test_oe_endorsements(void **state) {
    (void)state;
    static const char *const names[] = {"tcb_info.json",   "tcb_signing_chain.pem", "pck_crl.der",
                                        "root_ca_crl.der", "qe_identity.json",      "pck_crl_issuer_chain.pem"};
    enum { COUNT = sizeof names / sizeof *names + 1 };
    uint8_t *data = calloc(1, 1 << 17), *out = calloc(1, 1 << 17), *at = out;
    size_t offsets[COUNT] = {0}, size = 4; /* element 0: its version */
    data[0] = 1;
    for (int i = 1; i < COUNT; i++) {
        struct attest_bytes b = load(vector_path("sgx/icx-automata-b/collateral/%s", names[i - 1]));
        offsets[i] = size;
        memcpy(data + size, b.data, b.size);
        size += b.size + 1; /* C strings */
        free((void *)b.data);
    }
    put_le32(&at, 1), put_le32(&at, 2), put_le32(&at, size + 4 * COUNT), put_le32(&at, COUNT);
    for (int i = 0; i < COUNT; i++)
        put_le32(&at, offsets[i]);
    memcpy(at, data, size);
    struct attest_bytes all = {out, (size_t)(at - out) + size};
    struct attest_verifier *v = attest_verifier_new();
    assert_true(attest_verifier_add(v, all));
    appraise_file(v, vector_path("sgx/icx-automata-b/quote.bin"), NULL, parse_time("2025-08-30T00:00:00Z"), &result);
    expect(result.accepted, "with Open Enclave's endorsements");
    attest_verifier_free(v);
    for (int i = 8; i < 16 + 4 * COUNT; i++) { /* sizes and offsets are the sender's */
        out[i] ^= 0x80;
        v = attest_verifier_new();
        attest_verifier_add(v, all);
        attest_verifier_free(v);
        out[i] ^= 0x80;
    }
    free(data), free(out);
}

/* ---- SNP: certificates that fit equally well ---- */

/* The VLEK of this report with another key in it: same names, same TCB. */
static struct attest_bytes another_vlek(struct attest_bytes der) {
    const uint8_t *at = der.data;
    X509 *x = d2i_X509(NULL, &at, (long)der.size);
    EVP_PKEY *key = EVP_EC_gen("P-384");
    uint8_t *out = NULL;
    X509_set_pubkey(x, key);
    int size = i2d_re_X509_tbs(x, &out);
    OPENSSL_free(out), out = NULL;
    size = i2d_X509(x, &out);
    X509_free(x), EVP_PKEY_free(key);
    return (struct attest_bytes){out, (size_t)size};
}

static void test_several_vleks(void **state) {
    (void)state;
    struct attest_bytes vlek = load(vector_path("snp/milan-v3-vlek-aws-vmpl1/vlek.der")), other = another_vlek(vlek);
    const char *report = vector_path("snp/milan-v3-vlek-aws-vmpl1/report.bin");
    int64_t now = parse_time("2025-08-01T00:00:00Z");
    for (int first = 0; first < 2; first++) {
        struct attest_verifier *v = attest_verifier_new();
        assert_true(attest_verifier_add(v, first ? vlek : other) && attest_verifier_add(v, first ? other : vlek));
        appraise_file(v, report, NULL, now, &result);
        expect(!failed_rule(&result, "snp.signature") && !failed_rule(&result, "chain.path"), "the VLEK that signed");
        attest_verifier_free(v);
    }
    struct attest_verifier *v = attest_verifier_new();
    assert_true(attest_verifier_add(v, other));
    appraise_file(v, report, NULL, now, &result);
    expect(!result.genuine, "another VLEK alone");
    attest_verifier_free(v);
    OPENSSL_free((void *)other.data), free((void *)vlek.data);
}

/* ---- Other documents ---- */

/* A signed CBOR message that is no Nitro document, whatever its header looks like. */
static void test_not_nitro(void **state) {
    (void)state;
    static const uint8_t cose[] = {0x84, 0x43, 0xa1, 0x01, 0x26, 0xa1, 0x18, 0x21, 0x41, 0, 0x42, 0xa0, 0, 0x41, 1};
    char error[400];
    struct attest_evidence *e = attest_evidence_open((struct attest_bytes){cose, sizeof cose}, error, sizeof error);
    assert_null(e);
    assert_non_null(strstr(error, "no evidence recognised"));
}

/* ---- JSON ---- */

static char *encoded(struct attest_bytes b, bool url) {
    char *out = malloc(b.size * 2 + 8);
    EVP_EncodeBlock((uint8_t *)out, b.data, (int)b.size);
    for (char *c = out; url && *c; c++)
        *c = *c == '+' ? '-' : *c == '/' ? '_' : *c;
    return out;
}

static void appraise_json(json_t *doc, const char *collateral, const char *at) {
    char *text = json_dumps(doc, 0);
    struct attest_verifier *v = verifier_with(collateral ? vector_path("%s", collateral) : NULL);
    appraise(v, (struct attest_bytes){(uint8_t *)text, strlen(text)}, NULL, parse_time(at), &result);
    attest_verifier_free(v);
    free(text);
    json_decref(doc);
}

static void test_requests(void **state) {
    (void)state;
    static const char at[] = "2025-08-30T00:00:00Z";
    struct attest_bytes quote = load(vector_path("sgx/icx-automata-b/quote.bin"));
    char *plain = encoded(quote, false), *url = encoded(quote, true); /* both padded */
    appraise_json(json_pack("{s:s}", "quote", url), "sgx/icx-automata-b/collateral", at);
    expect(result.accepted, "the other alphabet, padded");
    /* A request to Trustee's attestation service: evidence is base64url of JSON. */
    json_t *evidence = json_pack("{s:s}", "quote", plain);
    char *text = json_dumps(evidence, 0), *inner = encoded((struct attest_bytes){(uint8_t *)text, strlen(text)}, true);
    inner[strcspn(inner, "=")] = 0;
    appraise_json(
        json_pack("{s:[{s:s, s:s}], s:[]}", "verification_requests", "tee", "sgx", "evidence", inner, "policy_ids"),
        "sgx/icx-automata-b/collateral", at);
    expect(result.accepted, "a request to an attestation service");
    appraise_json(json_pack("{s:{s:{s:s}}}", "participant", "Sgx", "quote", plain), "sgx/icx-automata-b/collateral",
                  at);
    expect(result.accepted, "evidence in members of other names");
    appraise_json(json_pack("{s:[{s:i}, {s:{s:s}}]}", "evidence", "x", 1, "Sgx", "quote", plain),
                  "sgx/icx-automata-b/collateral", at);
    expect(result.accepted, "one of several");
    json_decref(evidence), free(text), free(inner);
    /* Too deep is not evidence. */
    json_t *deep = json_pack("{s:s}", "quote", plain);
    for (int i = 0; i < 20; i++)
        deep = json_pack("{s:o}", "x", deep);
    appraise_json(deep, "sgx/icx-automata-b/collateral", at);
    expect(!result.genuine, "twenty objects deep");
    free(plain), free(url), free((void *)quote.data);
}

static json_t *numbers(const char *file) {
    struct attest_bytes b = load(vector_path("sgx/icx-automata-b/collateral/%s", file));
    json_t *list = json_array();
    for (size_t i = 0; i < b.size; i++)
        json_array_append_new(list, json_integer(b.data[i]));
    free((void *)b.data);
    return list;
}

/* The inner text and its signature as numbers, as Rust programs write them. */
static void add_signed(json_t *bundle, const char *file, const char *member, const char *text_key,
                       const char *signature_key) {
    struct attest_bytes b = load(vector_path("sgx/icx-automata-b/collateral/%s", file));
    json_t *doc = json_loadb((const char *)b.data, b.size, 0, NULL), *list = json_array();
    const char *hex = json_string_value(json_object_get(doc, "signature")),
               *from = strchr((const char *)b.data + strlen(member), '{'), *end = strstr(from, ",\"signature\"");
    for (size_t i = 0; i < 64; i++) {
        unsigned n;
        sscanf(hex + 2 * i, "%2x", &n);
        json_array_append_new(list, json_integer((json_int_t)n));
    }
    json_object_set_new(bundle, text_key, json_stringn(from, (size_t)(end - from)));
    json_object_set_new(bundle, signature_key, list);
    json_decref(doc), free((void *)b.data);
}

/* Evidence with its collateral: chains as C strings, everything else as numbers. */
static void test_collateral_beside(void **state) {
    (void)state;
    struct attest_bytes quote = load(vector_path("sgx/icx-automata-b/quote.bin")),
                        chain = load(vector_path("sgx/icx-automata-b/collateral/tcb_signing_chain.pem"));
    char *plain = encoded(quote, false);
    json_t *bundle = json_object();
    add_signed(bundle, "tcb_info.json", "{\"tcbInfo\"", "tcb_info", "tcb_info_signature");
    add_signed(bundle, "qe_identity.json", "{\"enclaveIdentity\"", "qe_identity", "qe_identity_signature");
    json_object_set_new(bundle, "root_ca_crl", numbers("root_ca_crl.der"));
    json_object_set_new(bundle, "pck_crl", numbers("pck_crl.der"));
    struct attest_bytes c_string = joined(chain, "", 1);
    json_object_set_new(bundle, "tcb_info_issuer_chain", json_stringn((const char *)c_string.data, c_string.size));
    appraise_json(json_pack("{s:{s:s, s:O}}", "Sgx", "quote", plain, "collateral", bundle), NULL,
                  "2025-08-30T00:00:00Z");
    expect(result.accepted, "collateral beside the quote");
    /* The signed text is as strict as ever. */
    const char *text = json_string_value(json_object_get(bundle, "tcb_info"));
    json_object_set_new(bundle, "tcb_info", json_stringn(text, strlen(text) + 1));
    appraise_json(json_pack("{s:{s:s, s:O}}", "Sgx", "quote", plain, "collateral", bundle), NULL,
                  "2025-08-30T00:00:00Z");
    expect(!result.genuine && failed_rule(&result, "intel.tcb_info"), "a zero byte in signed text");
    json_decref(bundle);
    free((void *)c_string.data), free((void *)chain.data), free((void *)quote.data), free(plain);
}

/* dstack's log beside its quote, with a firmware event whose name is a zero byte. */
static void test_zero_byte_names(void **state) {
    (void)state;
    json_t *list = load_json(vector_path("tdx-eventlog/dstack/event_log.json"));
    json_object_set_new(json_array_get(list, 0), "event", json_stringn("\0x", 2));
    struct attest_bytes quote = load(vector_path("tdx/v4-dstack-eventlog/quote.bin"));
    char *plain = encoded(quote, false);
    json_t *doc = json_pack("{s:{s:s, s:{s:o}}}", "Dstack", "quote", plain, "tcb_info", "event_log", list);
    appraise_json(json_incref(doc), NULL, "2025-08-30T00:00:00Z");
    expect(passed(ATTEST_RULE_EVENT_LOG) && !failed_rule(&result, "eventlog.replay"), "a name of zero bytes");
    /* A runtime event's name is hashed whole. */
    json_t *event, *runtime = NULL;
    size_t i;
    json_array_foreach(list, i, event) {
        if (json_integer_value(json_object_get(event, "event_type")) == 0x08000001) runtime = event;
    }
    assert_non_null(runtime);
    const char *name = json_string_value(json_object_get(runtime, "event"));
    char longer[200];
    size_t size = strlen(name) + 3;
    snprintf(longer, sizeof longer, "%s%cab", name, 0);
    json_object_set_new(runtime, "event", json_stringn(longer, size));
    appraise_json(doc, NULL, "2025-08-30T00:00:00Z");
    expect(failed_rule(&result, "eventlog.data") || failed_rule(&result, "eventlog.replay"), "a name with more in it");
    free(plain), free((void *)quote.data);
}

/* ---- Azure: a vTPM's quote ---- */

static struct attest_signer *signer;
static EVP_PKEY *ak;
static const char nonce[] = "challenge", *user_data = "00";

struct azure {
    uint8_t pcrs[VTPM_PCRS][VTPM_PCR_SIZE], message[200], signature[256];
    size_t message_size;
    char runtime[2000];
    uint8_t hcl[32 + 1184 + 20 + 2000];
    size_t hcl_size;
};

static void be(uint8_t **at, uint64_t n, unsigned size) {
    for (unsigned i = size; i-- > 0;)
        *(*at)++ = (uint8_t)(n >> 8 * i);
}

static void sign_message(struct azure *a) {
    size_t size = sizeof a->signature;
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    assert_int_equal(EVP_DigestSignInit(md, NULL, EVP_sha256(), NULL, ak), 1);
    assert_int_equal(EVP_DigestSign(md, a->signature, &size, a->message, a->message_size), 1);
    EVP_MD_CTX_free(md);
}

static void make_azure(struct azure *a) {
    memset(a, 0, sizeof *a);
    for (int i = 0; i < VTPM_PCRS; i++)
        memset(a->pcrs[i], i + 1, VTPM_PCR_SIZE);
    uint8_t n[256], digest[32], *at = a->message;
    BIGNUM *modulus = NULL;
    EVP_PKEY_get_bn_param(ak, OSSL_PKEY_PARAM_RSA_N, &modulus);
    BN_bn2binpad(modulus, n, sizeof n);
    BN_free(modulus);
    char *text = encoded((struct attest_bytes){n, sizeof n}, true);
    text[strcspn(text, "=")] = 0;
    int size = snprintf(a->runtime, sizeof a->runtime,
                        "{\"keys\":[{\"kid\":\"HCLAkPub\",\"key_ops\":[\"sign\"],\"kty\":\"RSA\",\"e\":\"AQAB\","
                        "\"n\":\"%s\"}],\"user-data\":\"%s\"}",
                        text, user_data);
    free(text);
    be(&at, 0xff544347, 4), be(&at, 0x8018, 2), be(&at, 2, 2), be(&at, 7, 2);
    be(&at, sizeof nonce - 1, 2), memcpy(at, nonce, sizeof nonce - 1), at += sizeof nonce - 1;
    at += 17 + 8;
    be(&at, 1, 4), be(&at, 0x000b, 2), be(&at, 3, 1), be(&at, 0xff000a, 3); /* PCR0 to 7, 17 and 19 */
    uint8_t selected[10 * VTPM_PCR_SIZE];
    static const int which[] = {0, 1, 2, 3, 4, 5, 6, 7, 17, 19};
    for (int i = 0; i < 10; i++)
        memcpy(selected + i * VTPM_PCR_SIZE, a->pcrs[which[i]], VTPM_PCR_SIZE);
    EVP_Digest(selected, sizeof selected, digest, NULL, EVP_sha256(), NULL);
    be(&at, 32, 2), memcpy(at, digest, 32), at += 32;
    a->message_size = (size_t)(at - a->message);
    sign_message(a);
    struct attest_signer_claims claims = {.measurement = {5}};
    EVP_Digest(a->runtime, (size_t)size, claims.report_data, NULL, EVP_sha256(), NULL);
    memcpy(a->hcl, "HCLA\x02", 5);
    assert_true(attest_signer_report(signer, &claims, a->hcl + 32));
    uint32_t tail[5] = {(uint32_t)size + 20, 1, 2, 1, (uint32_t)size};
    memcpy(a->hcl + 32 + 1184, tail, sizeof tail);
    memcpy(a->hcl + 32 + 1184 + 20, a->runtime, (size_t)size);
    a->hcl_size = 32 + 1184 + 20 + (size_t)size;
}

static json_t *hexadecimal(const uint8_t *b, size_t size) {
    char *text = malloc(size * 2 + 1);
    for (size_t i = 0; i < size; i++)
        sprintf(text + 2 * i, "%02x", b[i]);
    json_t *j = json_string(text);
    free(text);
    return j;
}

static void appraise_azure(const struct azure *a, const struct attest_policy *p, size_t pcrs, bool hcl) {
    json_t *list = json_array();
    for (size_t i = 0; i < pcrs; i++)
        json_array_append_new(list, hexadecimal(a->pcrs[i], VTPM_PCR_SIZE));
    char *report = encoded((struct attest_bytes){hcl ? a->hcl : a->hcl + 32, hcl ? a->hcl_size : 1184}, true),
         *chain = attest_signer_certificates(signer, false), *root = attest_signer_certificates(signer, true);
    json_t *doc =
        json_pack("{s:i, s:{s:o, s:o, s:o}, s:s, s:s}", "version", 2, "tpm_quote", "message",
                  hexadecimal(a->message, a->message_size), "signature", hexadecimal(a->signature, sizeof a->signature),
                  "pcrs", list, "hcl_report", report, "vcek", chain);
    char *text = json_dumps(doc, 0);
    struct attest_verifier *v = attest_verifier_new();
    assert_true(attest_verifier_add_development_root(v, (struct attest_bytes){(uint8_t *)root, strlen(root)}));
    appraise(v, (struct attest_bytes){(uint8_t *)text, strlen(text)}, p, 1780000000, &result);
    attest_verifier_free(v);
    json_decref(doc), free(text), free(report), free(chain), free(root);
}

static void set(struct attest_policy *p, const char *key, const char *value) {
    char error[200];
    assert_true(attest_policy_set(p, key, value, strlen(value), error, sizeof error));
}

static void test_vtpm(void **state) {
    (void)state;
    static struct azure a;
    struct attest_policy p;
    signer = attest_signer_new(1780000000 - 60);
    ak = EVP_RSA_gen(2048);
    attest_policy_strict(&p);
    p.allow_software = true;
    make_azure(&a);
    appraise_azure(&a, &p, VTPM_PCRS, true);
    expect(result.accepted && passed(ATTEST_RULE_VTPM_SIGNATURE) && passed(ATTEST_RULE_VTPM_PCRS), "vTPM quote");
    expect(attest_result_fact(&result, "vtpm_pcr19") && !attest_result_fact(&result, "vtpm_pcr18"), "quoted PCRs only");
    /* The nonce of the policy is the quote's, since the report data is the runtime data's. */
    set(&p, "nonce", "6368616c6c656e6765");
    appraise_azure(&a, &p, VTPM_PCRS, true);
    expect(result.accepted && passed(ATTEST_RULE_NONCE), "the quote's nonce");
    set(&p, "nonce", "6368616c6c656e6766");
    appraise_azure(&a, &p, VTPM_PCRS, true);
    expect(result.genuine && failed_rule(&result, "policy.nonce"), "another nonce");
    p.nonce_size = 0;
    /* PCRs a policy names. */
    set(&p, "vtpm.pcr4", "0505050505050505050505050505050505050505050505050505050505050505");
    appraise_azure(&a, &p, VTPM_PCRS, true);
    expect(result.accepted && passed(ATTEST_RULE_VTPM_POLICY), "PCR4");
    set(&p, "vtpm.pcr18", "1313131313131313131313131313131313131313131313131313131313131313");
    appraise_azure(&a, &p, VTPM_PCRS, true);
    expect(result.genuine && failed_rule(&result, "vtpm.policy"), "a PCR the quote does not cover");
    attest_policy_free(&p), attest_policy_strict(&p), p.allow_software = true;
    /* Values that are not the quoted ones, or missing; those that are not quoted do not matter. */
    a.pcrs[3][9] ^= 1;
    appraise_azure(&a, &p, VTPM_PCRS, true);
    expect(!result.genuine && failed_rule(&result, "vtpm.pcrs") && result.failed == 1, "altered PCR");
    a.pcrs[3][9] ^= 1, a.pcrs[18][9] ^= 1;
    appraise_azure(&a, &p, VTPM_PCRS, true);
    expect(result.accepted, "a PCR that is not quoted");
    appraise_azure(&a, &p, 19, true);
    expect(!result.genuine && failed_rule(&result, "vtpm.pcrs"), "too few PCRs");
    /* The message, bit by bit; and its length. */
    for (size_t at = 0; at < a.message_size; at += 3) {
        a.message[at] ^= 1;
        appraise_azure(&a, &p, VTPM_PCRS, true);
        expect(!result.genuine && failed_rule(&result, "vtpm.signature"), "altered quote");
        a.message[at] ^= 1;
    }
    a.message_size--;
    sign_message(&a);
    appraise_azure(&a, &p, VTPM_PCRS, true);
    expect(failed_rule(&result, "vtpm.signature"), "short quote, rightly signed");
    /* Another key signed; nothing vouches for the key. */
    make_azure(&a);
    EVP_PKEY *good = ak;
    ak = EVP_RSA_gen(2048);
    sign_message(&a);
    appraise_azure(&a, &p, VTPM_PCRS, true);
    expect(failed_rule(&result, "vtpm.signature") && result.failed == 1, "another machine's quote");
    EVP_PKEY_free(ak), ak = good;
    sign_message(&a);
    appraise_azure(&a, &p, VTPM_PCRS, false);
    expect(!result.genuine && failed_rule(&result, "vtpm.signature"), "a vTPM quote without runtime data");
    set(&p, "vtpm.pcr0", "0101010101010101010101010101010101010101010101010101010101010101");
    struct attest_verifier *v = verifier_with(vector_path("snp/milan-v3-aci"));
    appraise_file(v, vector_path("snp/milan-v3-aci/report.bin"), &p, 1780000000, &result);
    attest_verifier_free(v);
    expect(failed_rule(&result, "vtpm.policy"), "PCRs of a machine without vTPM");
    attest_policy_free(&p);
    attest_policy_strict(&p), p.allow_software = true;
    /* A key is vouched for in the runtime data's user data. */
    char digest[65];
    for (int i = 0; i < 32; i++)
        sprintf(digest + 2 * i, "%02x", (uint8_t[]){0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40,
                                                    0xde, 0x5d, 0xae, 0x22, 0x23, 0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17,
                                                    0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad}[i]);
    user_data = digest; /* SHA-256 of "abc" */
    make_azure(&a);
    for (int ours = 0; ours < 2; ours++) {
        char error[200], *root = attest_signer_certificates(signer, true),
                         *chain = attest_signer_certificates(signer, false);
        struct attest_evidence *e = attest_evidence_open((struct attest_bytes){a.hcl, a.hcl_size}, error, sizeof error);
        assert_non_null(e);
        attest_evidence_bind_key(e, (struct attest_bytes){(const uint8_t *)(ours ? "abc" : "abd"), 3});
        v = attest_verifier_new();
        attest_verifier_add_development_root(v, (struct attest_bytes){(uint8_t *)root, strlen(root)});
        attest_verifier_add(v, (struct attest_bytes){(uint8_t *)chain, strlen(chain)});
        attest_verify(v, e, &p, 1780000000, &result);
        expect(ours ? result.accepted : result.failed == 1 && failed_rule(&result, "wrapper.key"), "key in user data");
        attest_evidence_free(e), attest_verifier_free(v), free(root), free(chain);
    }
    attest_policy_free(&p);
    attest_signer_free(signer), EVP_PKEY_free(ak);
}

int main(void) {
    need_vectors();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_padding),         cmocka_unit_test(test_key_types),
        cmocka_unit_test(test_td_bodies),       cmocka_unit_test(test_reasons),
        cmocka_unit_test(test_open_enclave),    cmocka_unit_test(test_oe_endorsements),
        cmocka_unit_test(test_several_vleks),   cmocka_unit_test(test_not_nitro),
        cmocka_unit_test(test_requests),        cmocka_unit_test(test_collateral_beside),
        cmocka_unit_test(test_zero_byte_names), cmocka_unit_test(test_vtpm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
