/* Certificates and requests of keeps: what their evidence vouches for, and what it does not. */
#include "support.h"

#include <openssl/x509v3.h>

#include <donjon/attest-identity.h>

static struct attest_result result;
static const int64_t now = 1780000000;

struct keep {
    struct attest_signer *signer;
    struct attest_verifier *v;
    struct attest_policy policy;
    EVP_PKEY *key;
    uint8_t *spki;
    int spki_size;
    char *chain;
};

static int set_up(void **state) {
    static struct keep k;
    k.signer = attest_signer_new(now - 60);
    k.v = attest_verifier_new();
    char *root = attest_signer_certificates(k.signer, true);
    attest_verifier_add_development_root(k.v, (struct attest_bytes){(uint8_t *)root, strlen(root)});
    free(root);
    k.chain = attest_signer_certificates(k.signer, false);
    attest_policy_strict(&k.policy);
    k.policy.allow_software = true;
    k.key = EVP_EC_gen("P-256");
    k.spki = NULL;
    k.spki_size = i2d_PUBKEY(k.key, &k.spki);
    *state = &k;
    return 0;
}

static int tear_down(void **state) {
    struct keep *k = *state;
    attest_signer_free(k->signer);
    attest_verifier_free(k->v);
    attest_policy_free(&k->policy);
    EVP_PKEY_free(k->key);
    OPENSSL_free(k->spki);
    free(k->chain);
    return 0;
}

static const uint8_t workload[32] = {7, 7, 7}, other_workload[32] = {8};
static const struct attest_bytes nonce = {(const uint8_t *)"0123456789abcdef", 16},
                                 other_nonce = {(const uint8_t *)"0123456789abcdeg", 16}, none = {0};

static STACK_OF(X509_EXTENSION) *
    extensions(struct keep *k, const uint8_t report_data[64], const uint8_t named[32], struct attest_bytes answered) {
    STACK_OF(X509_EXTENSION) *list = sk_X509_EXTENSION_new_null();
    struct attest_signer_claims claims = {.measurement = {1}};
    uint8_t report[ATTEST_SNP_REPORT];
    memcpy(claims.report_data, report_data, 64);
    assert_true(attest_signer_report(k->signer, &claims, report));
    assert_true(attest_identity_extensions(list, (struct attest_bytes){report, sizeof report},
                                           (struct attest_bytes){(uint8_t *)k->chain, strlen(k->chain)}, named,
                                           answered));
    return list;
}

static void appraise_request(struct keep *k, STACK_OF(X509_EXTENSION) * list) {
    X509_REQ *request = attest_identity_request(k->key, list);
    assert_non_null(request);
    uint8_t *der = NULL;
    int size = i2d_X509_REQ(request, &der);
    appraise(k->v, (struct attest_bytes){der, (size_t)size}, &k->policy, now, &result);
    OPENSSL_free(der);
    X509_REQ_free(request);
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
}

static void appraise_certificate(struct keep *k, STACK_OF(X509_EXTENSION) * list) {
    X509 *x = X509_new();
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    ASN1_TIME_set(X509_getm_notBefore(x), now - 60);
    ASN1_TIME_set(X509_getm_notAfter(x), now + 3600);
    X509_set_pubkey(x, k->key);
    for (int i = 0; i < sk_X509_EXTENSION_num(list); i++)
        X509_add_ext(x, sk_X509_EXTENSION_value(list, i), -1);
    assert_true(X509_sign(x, k->key, EVP_sha256()) > 0);
    uint8_t *der = NULL;
    int size = i2d_X509(x, &der);
    appraise(k->v, (struct attest_bytes){der, (size_t)size}, &k->policy, now, &result);
    OPENSSL_free(der);
    X509_free(x);
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
}

static void report_data_of(struct keep *k, const uint8_t named[32], struct attest_bytes answered, uint8_t out[64]) {
    assert_true(
        attest_identity_report_data((struct attest_bytes){k->spki, (size_t)k->spki_size}, named, answered, out));
}

static void test_transcript(void **state) {
    (void)state;
    /* SHA-512 of 02000000 "ab" 01000000 "c" 00000000, by another tool. */
    static const uint8_t bytes[] = {2, 0, 0, 0, 'a', 'b', 1, 0, 0, 0, 'c', 0, 0, 0, 0};
    uint8_t wanted[64], found[64];
    EVP_Digest(bytes, sizeof bytes, wanted, NULL, EVP_sha512(), NULL);
    const struct attest_bytes parts[] = {{(const uint8_t *)"c", 1}, {0}};
    assert_true(attest_transcript("ab", parts, 2, found));
    assert_memory_equal(wanted, found, 64);
}

static void test_vouched(void **state) {
    struct keep *k = *state;
    uint8_t data[64];
    report_data_of(k, workload, none, data);
    appraise_certificate(k, extensions(k, data, workload, none));
    assert_true(result.accepted && result.names_workload && result.tee == ATTEST_TEE_SOFTWARE);
    assert_memory_equal(result.workload, workload, 32);
    report_data_of(k, workload, nonce, data);
    appraise_request(k, extensions(k, data, workload, nonce));
    assert_true(result.accepted && result.names_workload);
    appraise_certificate(k, extensions(k, data, workload, nonce)); /* as a steward would issue it */
    assert_true(result.accepted);
}

/* What goes into an extension comes out again; no change of its shape is taken, nor any cut. */
static void test_unwrapped(void **state) {
    struct keep *k = *state;
    uint8_t data[64] = {0}, copy[8192];
    struct attest_bytes cmw, evidence, endorsements;
    bool present;
    STACK_OF(X509_EXTENSION) *list = extensions(k, data, workload, none);
    assert_true(attest_identity_octets(list, ATTEST_OID_CMW, 1, sizeof copy, &cmw, &present));
    assert_true(attest_identity_unwrap(cmw, &evidence, &endorsements));
    assert_int_equal(evidence.size, ATTEST_SNP_REPORT);
    assert_int_equal(endorsements.size, strlen(k->chain));
    assert_memory_equal(endorsements.data, k->chain, endorsements.size);
    for (size_t n = 0; n < cmw.size; n++)
        assert_false(attest_identity_unwrap((struct attest_bytes){cmw.data, n}, &evidence, &endorsements));
    memcpy(copy, cmw.data, cmw.size);
    copy[cmw.size] = 0;
    assert_false(attest_identity_unwrap((struct attest_bytes){copy, cmw.size + 1}, &evidence, &endorsements));
    for (size_t i = 0; i < 47; i++) { /* heads, label and type up to the evidence itself */
        copy[i] ^= 0x21;
        assert_false(attest_identity_unwrap((struct attest_bytes){copy, cmw.size}, &evidence, &endorsements));
        copy[i] ^= 0x21;
    }
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
    list = sk_X509_EXTENSION_new_null();
    assert_true(attest_identity_extensions(list, (struct attest_bytes){data, 30}, none, workload, none));
    assert_true(attest_identity_octets(list, ATTEST_OID_CMW, 1, sizeof copy, &cmw, &present));
    assert_true(attest_identity_unwrap(cmw, &evidence, &endorsements));
    assert_true(evidence.size == 30 && endorsements.size == 0);
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
}

static void test_not_vouched(void **state) {
    struct keep *k = *state;
    uint8_t data[64];
    report_data_of(k, workload, nonce, data);
    appraise_request(k, extensions(k, data, other_workload, nonce));
    assert_true(!result.genuine && failed_rule(&result, "wrapper.key"));
    appraise_request(k, extensions(k, data, workload, other_nonce));
    assert_true(!result.genuine && failed_rule(&result, "wrapper.key"));
    appraise_request(k, extensions(k, data, workload, none));
    assert_true(!result.genuine && failed_rule(&result, "wrapper.key"));
    /* The key's digest alone says nothing of a workload. */
    memset(data, 0, sizeof data);
    EVP_Digest(k->spki, (size_t)k->spki_size, data, NULL, EVP_sha256(), NULL);
    appraise_request(k, extensions(k, data, workload, none));
    assert_true(!result.genuine && failed_rule(&result, "wrapper.key"));
}

static void test_malformed(void **state) {
    struct keep *k = *state;
    uint8_t data[64];
    report_data_of(k, workload, none, data);
    STACK_OF(X509_EXTENSION) *list = extensions(k, data, workload, none);
    attest_identity_add(list, ATTEST_OID_WORKLOAD, V_ASN1_OCTET_STRING, (struct attest_bytes){other_workload, 32});
    appraise_request(k, list); /* there twice */
    assert_false(result.genuine);
    list = sk_X509_EXTENSION_new_null();
    attest_identity_add(list, ATTEST_OID_WORKLOAD, V_ASN1_OCTET_STRING, (struct attest_bytes){workload, 31});
    appraise_request(k, list);
    assert_false(result.genuine);
    list = extensions(k, data, workload, none);
    X509_EXTENSION_free(sk_X509_EXTENSION_delete(list, 1)); /* the workload's */
    attest_identity_add(list, ATTEST_OID_NONCE, V_ASN1_OCTET_STRING, nonce);
    appraise_request(k, list); /* a nonce without a workload */
    assert_false(result.genuine);
}

static void test_policy(void **state) {
    struct keep *k = *state;
    uint8_t data[64];
    report_data_of(k, workload, nonce, data);
    assert_true(attest_set_add(&k->policy.workloads, workload, 32));
    appraise_request(k, extensions(k, data, workload, nonce));
    assert_true(result.accepted);
    report_data_of(k, other_workload, nonce, data);
    appraise_request(k, extensions(k, data, other_workload, nonce));
    assert_true(result.genuine && !result.accepted && failed_rule(&result, "policy.workload"));
}

static void test_names(void **state) {
    (void)state;
    STACK_OF(X509_EXTENSION) *list = sk_X509_EXTENSION_new_null();
    const char *const names[] = {"a.example", "127.0.0.1", "::1"}, *const empty[] = {""};
    assert_true(attest_identity_add_names(list, names, 3, true));
    assert_false(attest_identity_add_names(list, empty, 1, true));
    GENERAL_NAMES *all = X509V3_get_d2i(list, NID_subject_alt_name, NULL, NULL);
    assert_int_equal(sk_GENERAL_NAME_num(all), 3);
    assert_int_equal(sk_GENERAL_NAME_value(all, 0)->type, GEN_DNS);
    assert_int_equal(sk_GENERAL_NAME_value(all, 2)->type, GEN_IPADD);
    GENERAL_NAMES_free(all);
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_transcript),
        cmocka_unit_test_setup_teardown(test_vouched, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unwrapped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_not_vouched, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_malformed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_policy, set_up, tear_down),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
