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
#include "warden/renewal.h"

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
    NO_WAY,
    UNREACHABLE,
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
    unsigned asked, forgotten;
    bool under_way, early /* the certificate's answer to the question for a nonce, and the other way round */;
    unsigned slow; /* how often it is not there so far */
    enum identity_request which;
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

static enum identity_state ask(void *ctx, const char *url, enum identity_request which, struct attest_bytes body,
                               char *error, size_t size) {
    (void)ctx;
    assert_false(t.under_way); /* one at a time */
    snprintf(t.urls[which], sizeof t.urls[which], "%s", url);
    t.asked++;
    t.which = which;
    if (t.fault == NO_WAY) {
        snprintf(error, size, "no way");
        return IDENTITY_REFUSED;
    }
    t.under_way = true;
    if (which == IDENTITY_NONCE) {
        assert_int_equal(body.size, 0);
        return IDENTITY_WAITS;
    }
    const uint8_t *at = body.data;
    X509_REQ_free(t.request);
    t.request = d2i_X509_REQ(NULL, &at, (long)body.size);
    assert_non_null(t.request);
    certify();
    return IDENTITY_WAITS;
}

static enum identity_state answered(void *ctx, struct attest_bytes *answer, char *error, size_t size) {
    static const uint8_t nonce[80] = {1, 2, 3};
    (void)ctx;
    assert_true(t.under_way);
    if (t.slow > 0) {
        t.slow--;
        return IDENTITY_WAITS;
    }
    t.under_way = false;
    if (t.fault == REFUSES && t.which == IDENTITY_CERTIFY) {
        snprintf(error, size, "the steward answers 403");
        return IDENTITY_REFUSED;
    }
    if (t.fault == UNREACHABLE) {
        snprintf(error, size, "cannot be reached");
        return IDENTITY_FAILED;
    }
    if ((t.which == IDENTITY_NONCE) != t.early)
        *answer = (struct attest_bytes){nonce, t.fault == SHORT_NONCE ? 15 : t.fault == LONG_NONCE ? 65 : 32};
    else
        *answer = (struct attest_bytes){(uint8_t *)t.answer, strlen(t.answer)};
    return IDENTITY_READY;
}

static void forget(void *ctx) {
    (void)ctx;
    t.forgotten += t.under_way;
    t.under_way = false;
}

static const struct identity_host host = {.evidence = evidence, .ask = ask, .answer = answered, .forget = forget};

/* To the end. */
static bool make(struct identity *id, const struct config *c, int64_t at, char *error, size_t size) {
    struct identity_making m = {0};
    enum identity_state s = identity_begin(&m, c, workload, &host, at, error, size);
    while (s == IDENTITY_WAITS)
        s = identity_go_on(&m, c, workload, &host, at, error, size);
    assert_false(t.under_way);
    if (s != IDENTITY_READY) {
        assert_null(m.id.key);
        return false;
    }
    identity_free(id);
    *id = m.id;
    return true;
}

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
    assert_true(make(&id, &c, now, error, sizeof error));
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
    assert_true(make(&id, &c, now + 100, error, sizeof error));
    assert_int_equal(EVP_PKEY_eq(first, id.key), 0); /* a new key each time */
    EVP_PKEY_free(first);

    t.fault = NO_EVIDENCE;
    assert_true(make(&id, &c, now, error, sizeof error));
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
    assert_true(make(&id, &c, now, error, sizeof error));
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
        [NO_WAY] = "no way",
        [UNREACHABLE] = "cannot be reached",
    };
    struct config c;
    struct identity id = {0}, before;
    char error[300];
    t.fault = NONE;
    make_config(&c, true);
    assert_true(make(&id, &c, now, error, sizeof error));
    before = id;
    for (int i = NONE + 1; i < FAULTS; i++) {
        t.fault = (enum fault)i;
        error[0] = 0;
        if (make(&id, &c, now, error, sizeof error)) fail_msg("fault %d was taken", i);
        if (!error[0] || !strstr(error, reasons[i])) fail_msg("fault %d: %s", i, error);
        assert_memory_equal(&before, &id, sizeof id); /* what there was is still there */
    }
    identity_free(&id);
    config_free(&c);
}

/* ---- when ---- */

static char why[300];

static enum renewal_event turn(struct renewal *r, struct identity *id, int64_t at) {
    why[0] = 0;
    return renewal_turn(r, id, at, why, sizeof why);
}

/* Where no steward is asked, at once. */
static void test_renewal_by_itself(void **state) {
    (void)state;
    struct config c;
    struct identity id = {0};
    t.fault = NONE;
    make_config(&c, false);
    struct renewal r = {.config = &c, .workload = workload, .host = &host};
    assert_int_equal(renewal_wait(&r, &id, now), 0);
    assert_int_equal(turn(&r, &id, now), RENEWAL_MADE);
    assert_int_equal(id.renew_at, now + 8 * 3600);
    assert_int_equal(renewal_wait(&r, &id, now), 8 * 3600);
    X509 *first = id.certificate;
    assert_int_equal(turn(&r, &id, id.renew_at - 1), RENEWAL_NOTHING);
    assert_ptr_equal(first, id.certificate);
    assert_int_equal(turn(&r, &id, id.renew_at), RENEWAL_MADE);
    identity_free(&id);
    config_free(&c);
}

/* A steward that takes its time: nothing is waited for, and the old certificate is there until the new one is. */
static void test_renewal_slow(void **state) {
    (void)state;
    struct config c;
    struct identity id = {0};
    t.fault = NONE;
    make_config(&c, true);
    struct renewal r = {.config = &c, .workload = workload, .host = &host};
    assert_int_equal(turn(&r, &id, now), RENEWAL_NOTHING);
    assert_int_equal(renewal_wait(&r, &id, now), RENEWAL_ATTEMPT);
    assert_int_equal(turn(&r, &id, now), RENEWAL_NOTHING);
    assert_int_equal(turn(&r, &id, now), RENEWAL_MADE);
    X509 *first = id.certificate;
    int64_t at = id.renew_at;
    unsigned asked = t.asked;
    t.slow = 7;
    for (int i = 0; i < 9; i++) { /* begun, seven times not there, the nonce */
        assert_int_equal(turn(&r, &id, at + i), RENEWAL_NOTHING);
        assert_ptr_equal(first, id.certificate);
    }
    assert_int_equal(t.asked, asked + 2);
    assert_int_equal(turn(&r, &id, at + 9), RENEWAL_MADE);
    assert_int_equal(turn(&r, &id, at + 10), RENEWAL_NOTHING);
    assert_int_equal(t.asked, asked + 2);
    identity_free(&id);
    config_free(&c);
}

/* One that never answers: given up after a while, tried again later and later, and not only when it is too late. */
static void test_renewal_dead(void **state) {
    (void)state;
    struct config c;
    struct identity id = {0};
    t.fault = NONE;
    make_config(&c, true);
    struct renewal r = {.config = &c, .workload = workload, .host = &host};
    while (turn(&r, &id, now) != RENEWAL_MADE)
        ;
    X509 *first = id.certificate;
    int64_t at = id.renew_at, longest = 0;
    unsigned attempts = 0, forgotten = t.forgotten;
    t.slow = UINT32_MAX;
    for (; at < id.ends; attempts++) {
        assert_int_equal(turn(&r, &id, at), RENEWAL_NOTHING);
        assert_int_equal(turn(&r, &id, at + RENEWAL_ATTEMPT - 1), RENEWAL_NOTHING);
        at += renewal_wait(&r, &id, at);
        assert_int_equal(turn(&r, &id, at), RENEWAL_FAILED);
        assert_non_null(strstr(why, "no answer"));
        assert_ptr_equal(first, id.certificate);
        int64_t pause = renewal_wait(&r, &id, at);
        assert_in_range(pause, RENEWAL_AGAIN, RENEWAL_AGAIN_MOST * 5 / 4);
        assert_int_equal(turn(&r, &id, at + pause - 1), RENEWAL_NOTHING); /* nothing is begun before its time */
        if (pause > longest) longest = pause;
        at += pause;
    }
    assert_int_equal(t.forgotten, forgotten + attempts);
    assert_in_range(attempts, 7, 15); /* of the thousand seconds that were left */
    assert_true(longest > 30);
    /* A clock that is set back puts nothing off. */
    assert_int_equal(renewal_wait(&r, &id, now), 0);
    /* And it comes back. */
    t.slow = 0;
    t.fault = NONE;
    while (turn(&r, &id, now) != RENEWAL_MADE)
        assert_int_equal(*why, 0);
    assert_int_equal(r.failed, 0);
    identity_free(&id);
    config_free(&c);
}

static void test_renewal_clock_back(void **state) {
    (void)state;
    struct config c;
    struct identity id = {0};
    t.fault = NONE;
    make_config(&c, true);
    struct renewal r = {.config = &c, .workload = workload, .host = &host};
    t.slow = UINT32_MAX;
    assert_int_equal(turn(&r, &id, now), RENEWAL_NOTHING);
    assert_int_equal(turn(&r, &id, now - 100000), RENEWAL_FAILED); /* else it would wait for a day */
    t.slow = 0;
    identity_free(&id);
    config_free(&c);
}

/* Answers out of turn, and to questions that nobody asked any more. */
static void test_renewal_out_of_turn(void **state) {
    (void)state;
    struct config c;
    struct identity id = {0};
    t.fault = NONE;
    make_config(&c, true);
    struct renewal r = {.config = &c, .workload = workload, .host = &host};
    while (turn(&r, &id, now) != RENEWAL_MADE) /* t.answer is now this certificate */
        ;
    X509 *first = id.certificate;
    t.early = true;
    int64_t at = id.renew_at;
    assert_int_equal(turn(&r, &id, at), RENEWAL_NOTHING);
    assert_int_equal(turn(&r, &id, at), RENEWAL_REFUSED);
    assert_non_null(strstr(why, "the steward's nonce has"));
    t.early = false;
    at += renewal_wait(&r, &id, at);
    assert_int_equal(turn(&r, &id, at), RENEWAL_NOTHING);
    assert_int_equal(turn(&r, &id, at), RENEWAL_NOTHING);
    t.early = true; /* a nonce in the certificate's place */
    assert_int_equal(turn(&r, &id, at), RENEWAL_REFUSED);
    assert_non_null(strstr(why, "refused: there is none in the answer"));
    t.early = false;
    /* The certificate before, once more: it is for the key before. */
    at += renewal_wait(&r, &id, at);
    char *before = NULL;
    while (turn(&r, &id, at) == RENEWAL_NOTHING && t.which != IDENTITY_CERTIFY)
        ;
    before = t.answer;
    t.answer = pem_of(first, 1);
    assert_int_equal(turn(&r, &id, at), RENEWAL_REFUSED);
    assert_non_null(strstr(why, "it is for another key"));
    free(before);
    assert_ptr_equal(first, id.certificate);
    identity_free(&id);
    config_free(&c);
}

/* Where there is no certificate so far, it is tried again soon. */
static void test_renewal_first(void **state) {
    (void)state;
    struct config c;
    struct identity id = {0};
    t.fault = UNREACHABLE;
    make_config(&c, true);
    struct renewal r = {.config = &c, .workload = workload, .host = &host};
    int64_t at = now;
    for (unsigned i = 1; i <= 3; i++) {
        assert_int_equal(turn(&r, &id, at), RENEWAL_NOTHING);
        assert_int_equal(turn(&r, &id, at), RENEWAL_FAILED);
        assert_int_equal(r.failed, i);
        assert_int_equal(renewal_wait(&r, &id, at), i);
        at += i;
    }
    t.fault = NONE;
    while (turn(&r, &id, at) != RENEWAL_MADE)
        ;
    identity_free(&id);
    config_free(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_itself),          cmocka_unit_test(test_of_the_steward),
        cmocka_unit_test(test_wrong_answers),      cmocka_unit_test(test_renewal_by_itself),
        cmocka_unit_test(test_renewal_slow),       cmocka_unit_test(test_renewal_dead),
        cmocka_unit_test(test_renewal_clock_back), cmocka_unit_test(test_renewal_out_of_turn),
        cmocka_unit_test(test_renewal_first)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
