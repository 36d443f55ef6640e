/* The keep's certificate: signed by itself or by a steward, and every way in which a steward's answer can be wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "warden/identity.h"

static const int64_t now = 1790000000;
static const uint8_t workload[32] = {7, 7}, other_workload[32] = {8};

enum fault {
    NONE,
    OTHER_CA,
    OTHER_KEY,
    OTHER_WORKLOAD,
    NO_WORKLOAD,
    IS_CA,
    EXPIRED,
    NOT_YET,
    GARBAGE,
    EMPTY,
    MANY,
    SHORT_NONCE,
    LONG_NONCE,
    REFUSES,
    NO_EVIDENCE,
    FAULTS
};

static struct {
    enum fault fault;
    struct attest_signer *signer;
    struct attest_verifier *verifier;
    struct attest_policy policy;
    EVP_PKEY *ca_key, *other_key;
    X509 *ca, *other_ca;
    char *ca_pem, *chain, *answer;
    uint8_t report[ATTEST_SNP_REPORT];
    unsigned asked;
    X509_REQ *request; /* the last */
    char urls[2][200];
} t;

static X509 *certificate(const char *name, EVP_PKEY *key, X509 *issuer, EVP_PKEY *issuer_key, bool ca,
                         STACK_OF(X509_EXTENSION) * list) {
    X509 *x = X509_new();
    X509V3_CTX ctx;
    X509_set_version(x, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 5);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC, (const uint8_t *)name, -1, -1, 0);
    X509_set_issuer_name(x, issuer ? X509_get_subject_name(issuer) : X509_get_subject_name(x));
    ASN1_TIME_set(X509_getm_notBefore(x), (time_t)(t.fault == NOT_YET && !ca ? now + 100 : now - 1000));
    ASN1_TIME_set(X509_getm_notAfter(x), (time_t)(t.fault == EXPIRED && !ca ? now - 100 : now + 3000));
    X509_set_pubkey(x, key);
    X509V3_set_ctx(&ctx, issuer ? issuer : x, x, NULL, NULL, 0);
    bool says_ca = ca || t.fault == IS_CA;
    X509_EXTENSION *e =
        X509V3_EXT_conf_nid(NULL, &ctx, NID_basic_constraints, says_ca ? "critical,CA:TRUE" : "critical,CA:FALSE");
    X509_add_ext(x, e, -1);
    X509_EXTENSION_free(e);
    for (int i = 0; i < sk_X509_EXTENSION_num(list); i++)
        X509_add_ext(x, sk_X509_EXTENSION_value(list, i), -1);
    assert_true(X509_sign(x, issuer_key, EVP_sha256()) > 0);
    return x;
}

static char *pem_of(X509 *x, unsigned times) {
    BIO *bio = BIO_new(BIO_s_mem());
    char *data;
    while (times--)
        PEM_write_bio_X509(bio, x);
    long n = BIO_get_mem_data(bio, &data);
    char *copy = strndup(data, (size_t)n);
    BIO_free(bio);
    return copy;
}

static int set_up(void **state) {
    (void)state;
    t.signer = attest_signer_new(now - 60);
    t.verifier = attest_verifier_new();
    char *root = attest_signer_certificates(t.signer, true);
    attest_verifier_add_development_root(t.verifier, (struct attest_bytes){(uint8_t *)root, strlen(root)});
    free(root);
    t.chain = attest_signer_certificates(t.signer, false);
    attest_policy_strict(&t.policy);
    t.policy.allow_software = true;
    t.ca_key = EVP_EC_gen("P-256");
    t.other_key = EVP_EC_gen("P-256");
    t.ca = certificate("steward", t.ca_key, NULL, t.ca_key, true, NULL);
    t.other_ca = certificate("steward", t.other_key, NULL, t.other_key, true, NULL);
    t.ca_pem = pem_of(t.ca, 1);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    attest_signer_free(t.signer);
    attest_verifier_free(t.verifier);
    attest_policy_free(&t.policy);
    EVP_PKEY_free(t.ca_key);
    EVP_PKEY_free(t.other_key);
    X509_free(t.ca);
    X509_free(t.other_ca);
    X509_REQ_free(t.request);
    free(t.ca_pem);
    free(t.chain);
    free(t.answer);
    return 0;
}

static bool evidence(void *ctx, const uint8_t report_data[64], struct attest_bytes *found, struct attest_bytes *more) {
    struct attest_signer_claims claims = {.measurement = {1}};
    (void)ctx;
    if (t.fault == NO_EVIDENCE) return false;
    memcpy(claims.report_data, report_data, 64);
    if (!attest_signer_report(t.signer, &claims, t.report)) return false;
    *found = (struct attest_bytes){t.report, sizeof t.report};
    *more = (struct attest_bytes){(uint8_t *)t.chain, strlen(t.chain)};
    return true;
}

/* The request's extensions, as a steward takes them over. */
static STACK_OF(X509_EXTENSION) * taken_over(void) {
    STACK_OF(X509_EXTENSION) *list = X509_REQ_get_extensions(t.request);
    ASN1_OBJECT *object = OBJ_txt2obj(ATTEST_OID_WORKLOAD, 1);
    int at = X509v3_get_ext_by_OBJ(list, object, -1);
    if (t.fault == NO_WORKLOAD || t.fault == OTHER_WORKLOAD) X509_EXTENSION_free(X509v3_delete_ext(list, at));
    if (t.fault == OTHER_WORKLOAD)
        attest_identity_add(list, ATTEST_OID_WORKLOAD, V_ASN1_OCTET_STRING, (struct attest_bytes){other_workload, 32});
    ASN1_OBJECT_free(object);
    return list;
}

static void certify(void) {
    STACK_OF(X509_EXTENSION) *list = taken_over();
    bool other = t.fault == OTHER_CA;
    EVP_PKEY *key = t.fault == OTHER_KEY ? t.other_key : X509_REQ_get0_pubkey(t.request);
    X509 *x = certificate("keep", key, other ? t.other_ca : t.ca, other ? t.other_key : t.ca_key, false, list);
    free(t.answer);
    t.answer = pem_of(x, t.fault == MANY ? 9 : 1);
    if (t.fault == GARBAGE) t.answer[100] ^= 1;
    if (t.fault == EMPTY) t.answer[0] = 0;
    X509_free(x);
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
}

static bool steward(void *ctx, const char *url, enum identity_request which, struct attest_bytes body,
                    struct attest_bytes *answer, char *error, size_t size) {
    static const uint8_t nonce[80] = {1, 2, 3};
    (void)ctx;
    snprintf(t.urls[which], sizeof t.urls[which], "%s", url);
    t.asked++;
    if (t.fault == REFUSES && which == IDENTITY_CERTIFY) {
        snprintf(error, size, "the steward answers 403");
        return false;
    }
    if (which == IDENTITY_NONCE) {
        assert_int_equal(body.size, 0);
        *answer = (struct attest_bytes){nonce, t.fault == SHORT_NONCE ? 15 : t.fault == LONG_NONCE ? 65 : 32};
        return true;
    }
    const uint8_t *at = body.data;
    X509_REQ_free(t.request);
    t.request = d2i_X509_REQ(NULL, &at, (long)body.size);
    assert_non_null(t.request);
    certify();
    *answer = (struct attest_bytes){(uint8_t *)t.answer, strlen(t.answer)};
    return true;
}

static const struct identity_host host = {.evidence = evidence, .steward = steward};

static void make_config(struct config *c, bool with_steward) {
    struct config_error err;
    assert_true(config_init(c));
    assert_true(config_add_tls_name(c, "keep.example", 12, &err));
    assert_true(config_add_tls_name(c, "10.1.2.3", 8, &err));
    if (!with_steward) return;
    assert_true(config_set_steward(c, "https://steward.example/", 24, &err));
    assert_true(config_set_steward_ca(c, t.ca_pem, strlen(t.ca_pem), &err));
}

static void appraise(const struct identity *id, bool good) {
    char error[300];
    struct attest_result result;
    uint8_t *der = NULL;
    int n = i2d_X509(id->certificate, &der);
    struct attest_evidence *e = attest_evidence_open((struct attest_bytes){der, (size_t)n}, error, sizeof error);
    assert_non_null(e);
    attest_verify(t.verifier, e, &t.policy, now, &result);
    assert_int_equal(result.accepted, good);
    if (good) assert_memory_equal(result.workload, workload, 32);
    attest_evidence_free(e);
    OPENSSL_free(der);
}

static void test_by_itself(void **state) {
    (void)state;
    struct config c;
    struct identity id = {0};
    char error[300];
    size_t size;
    t.fault = NONE;
    make_config(&c, false);
    assert_true(identity_make(&id, &c, workload, &host, now, error, sizeof error));
    assert_false(id.issued);
    assert_int_equal(id.renew_at, now + 12 * 3600 * 2 / 3);
    assert_int_equal(X509_verify(id.certificate, id.key), 1);
    assert_int_equal(X509_check_host(id.certificate, "keep.example", 0, 0, NULL), 1);
    assert_int_equal(X509_check_host(id.certificate, "other.example", 0, 0, NULL), 0);
    assert_int_equal(X509_check_ip_asc(id.certificate, "10.1.2.3", 0), 1);
    appraise(&id, true);
    char *pem = identity_pem(&id, &size);
    assert_memory_equal(pem, "-----BEGIN CERTIFICATE-----", 27);
    free(pem);

    /* What is in /run/donjon/evidence: the same, without the certificate. */
    struct attest_evidence *e = attest_evidence_open(identity_evidence(&id), error, sizeof error);
    assert_non_null(e);
    attest_evidence_free(e);

    EVP_PKEY *first = id.key;
    EVP_PKEY_up_ref(first);
    assert_true(identity_make(&id, &c, workload, &host, now + 100, error, sizeof error));
    assert_int_equal(EVP_PKEY_eq(first, id.key), 0); /* a new key each time */
    EVP_PKEY_free(first);

    t.fault = NO_EVIDENCE;
    assert_true(identity_make(&id, &c, workload, &host, now, error, sizeof error));
    assert_int_equal(identity_evidence(&id).size, 0);
    identity_free(&id);
    config_free(&c);
}

static void test_of_the_steward(void **state) {
    (void)state;
    struct config c;
    struct identity id = {0};
    char error[300];
    t.fault = NONE;
    make_config(&c, true);
    assert_true(identity_make(&id, &c, workload, &host, now, error, sizeof error));
    assert_true(id.issued);
    assert_string_equal(t.urls[IDENTITY_NONCE], "https://steward.example/v1/nonce");
    assert_string_equal(t.urls[IDENTITY_CERTIFY], "https://steward.example/v1/certify");
    assert_int_equal(id.renew_at, now + 2000);
    appraise(&id, true); /* also what came of it: the nonce is in the certificate */
    SSL_CTX *ctx = SSL_CTX_new(TLS_method());
    assert_true(identity_use(&id, ctx));
    SSL_CTX_free(ctx);
    identity_free(&id);
    config_free(&c);
}

static void test_wrong_answers(void **state) {
    (void)state;
    static const char *const reasons[FAULTS] = {
        [OTHER_CA] = "",
        [OTHER_KEY] = "it is for another key",
        [OTHER_WORKLOAD] = "it names another workload",
        [NO_WORKLOAD] = "it names no workload",
        [IS_CA] = "it is a CA's",
        [EXPIRED] = "certificate has expired",
        [NOT_YET] = "not yet valid",
        [GARBAGE] = "the steward's certificate is refused",
        [EMPTY] = "there is none in the answer",
        [MANY] = "there is none in the answer",
        [SHORT_NONCE] = "nonce has 15 bytes",
        [LONG_NONCE] = "nonce has 65 bytes",
        [REFUSES] = "the steward answers 403",
        [NO_EVIDENCE] = "makes no evidence",
    };
    struct config c;
    struct identity id = {0}, before;
    char error[300];
    t.fault = NONE;
    make_config(&c, true);
    assert_true(identity_make(&id, &c, workload, &host, now, error, sizeof error));
    before = id;
    for (int i = NONE + 1; i < FAULTS; i++) {
        t.fault = (enum fault)i;
        error[0] = 0;
        if (identity_make(&id, &c, workload, &host, now, error, sizeof error)) fail_msg("fault %d was taken", i);
        if (!error[0] || !strstr(error, reasons[i])) fail_msg("fault %d: %s", i, error);
        assert_memory_equal(&before, &id, sizeof id); /* what there was is still there */
    }
    identity_free(&id);
    config_free(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_by_itself), cmocka_unit_test(test_of_the_steward),
                                       cmocka_unit_test(test_wrong_answers)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
