/* Requests honest and rogue, against a steward without network. */
#include "support.h"

#include <fcntl.h>
#include <unistd.h>

#include <openssl/pem.h>
#include <openssl/x509v3.h>

static struct test_keep keep;
static struct steward_settings settings;
static struct steward *steward;
static struct steward_decision decision;
static char directory[64];
static uint8_t nonce_bytes[STEWARD_NONCE];
static const struct attest_bytes nonce = {nonce_bytes, STEWARD_NONCE};

static int set_up(void **state) {
    (void)state;
    test_keep_make(&keep, TEST_NOW);
    test_directory_make(&keep, directory);
    steward = test_steward_open(directory, &settings, "workloads = [\"any\"]\nlifetime = \"6h\"\n", TEST_NOW);
    return steward && steward_nonce_make(&steward->nonces, TEST_NOW, nonce_bytes) ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    steward_decision_free(&decision);
    steward_close(steward);
    steward_settings_free(&settings);
    test_directory_free(directory);
    test_keep_free(&keep);
    return 0;
}

/* Certifies and frees the request. */
static void certify_at(struct attest_bytes request, int64_t now) {
    steward_decision_free(&decision);
    steward_certify(steward, request, "test", now, &decision);
    free((void *)request.data);
}
static void certify(struct attest_bytes request) {
    certify_at(request, TEST_NOW + 1);
}

static void expect_refused(const char *rule) {
    assert_int_equal(decision.outcome, STEWARD_REFUSED);
    assert_null(decision.pem);
    assert_true(decision.reason_count > 0);
    if (strcmp(decision.reasons[0].rule, rule))
        fail_msg("expected %s, found %s: %s", rule, decision.reasons[0].rule, decision.reasons[0].text);
}

static X509 *issued(void) {
    if (decision.outcome != STEWARD_ISSUED)
        fail_msg("refused: %s: %s", decision.reasons[0].rule, decision.reasons[0].text);
    BIO *bio = BIO_new_mem_buf(decision.pem, -1);
    X509 *x = PEM_read_bio_X509(bio, NULL, NULL, NULL), *ca = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    assert_non_null(x);
    assert_int_equal(X509_cmp(ca, steward->ca), 0);
    X509_free(ca);
    BIO_free(bio);
    return x;
}

static void test_issues(void **state) {
    (void)state;
    const char *const names[] = {"A.Example", "x.keep.example", "127.0.0.1"};
    certify(test_request(keep.key, test_keep_extensions(&keep, nonce, names, 3)));
    X509 *x = issued();
    /* A chain that OpenSSL accepts for a server, with the names. */
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    X509_STORE_add_cert(store, steward->ca);
    X509_STORE_CTX_init(ctx, store, x, NULL);
    X509_STORE_CTX_set_time(ctx, 0, TEST_NOW + 10);
    X509_STORE_CTX_set_purpose(ctx, X509_PURPOSE_SSL_SERVER);
    assert_int_equal(X509_verify_cert(ctx), 1);
    assert_int_equal(X509_check_host(x, "a.example", 0, 0, NULL), 1);
    assert_int_equal(X509_check_host(x, "b.example", 0, 0, NULL), 0);
    assert_int_equal(X509_check_ip_asc(x, "127.0.0.1", 0), 1);
    assert_int_equal(X509_check_ca(x), 0);
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    /* Hours, not more. */
    int days, seconds;
    assert_int_equal(ASN1_TIME_diff(&days, &seconds, X509_get0_notBefore(x), X509_get0_notAfter(x)), 1);
    assert_int_equal(days * 86400 + seconds, 6 * 3600 + 60);
    /* Our extensions. */
    struct attest_bytes found;
    bool present;
    const STACK_OF(X509_EXTENSION) *list = X509_get0_extensions(x);
    assert_true(attest_identity_octets(list, ATTEST_OID_WORKLOAD, 32, 32, &found, &present));
    assert_memory_equal(found.data, keep.workload, 32);
    assert_true(attest_identity_octets(list, ATTEST_OID_MEASUREMENT, 48, 48, &found, &present));
    assert_memory_equal(found.data, keep.measurement, 48);
    assert_true(attest_identity_octets(list, ATTEST_OID_NONCE, 32, 32, &found, &present));
    /* And it can be appraised again by whoever receives it. */
    static struct attest_result result;
    uint8_t *der = NULL;
    int size = i2d_X509(x, &der);
    struct attest_evidence *e = attest_evidence_open((struct attest_bytes){der, (size_t)size}, (char[100]){0}, 100);
    struct attest_policy policy;
    attest_policy_strict(&policy);
    policy.allow_software = true;
    attest_verify(steward->verifier, e, &policy, TEST_NOW + 10, &result);
    assert_true(result.accepted && result.names_workload);
    attest_policy_free(&policy);
    attest_evidence_free(e);
    OPENSSL_free(der);
    X509_free(x);
    assert_int_equal(steward->audit.entries, 2); /* begin, issued */
}

static void test_nonces(void **state) {
    (void)state;
    struct attest_bytes request = test_keep_request(&keep, nonce, "a.example");
    struct attest_bytes again = {malloc(request.size), request.size};
    memcpy((void *)again.data, request.data, request.size);
    certify(request);
    X509_free(issued());
    certify(again); /* the same bytes once more */
    expect_refused("nonce.used");
    certify(test_keep_request(&keep, nonce, "a.example")); /* new evidence over the old nonce */
    expect_refused("nonce.used");
    assert_true(steward_nonce_make(&steward->nonces, TEST_NOW, nonce_bytes));
    certify_at(test_keep_request(&keep, nonce, "a.example"), TEST_NOW + 301);
    expect_refused("nonce.stale");
    certify_at(test_keep_request(&keep, nonce, "a.example"), TEST_NOW - 1);
    expect_refused("nonce.stale");
    nonce_bytes[0] ^= 1;
    certify(test_keep_request(&keep, nonce, "a.example"));
    expect_refused("nonce.foreign");
    memset(nonce_bytes, 0, sizeof nonce_bytes);
    certify(test_keep_request(&keep, nonce, "a.example"));
    expect_refused("nonce.foreign");
    certify(test_keep_request(&keep, (struct attest_bytes){nonce_bytes, 16}, "a.example"));
    expect_refused("nonce.malformed");
    certify(test_keep_request(&keep, (struct attest_bytes){0}, "a.example"));
    expect_refused("nonce.missing");
}

/* A refused request does not use its nonce up: the keep may ask better. */
static void test_refusal_keeps_nonce(void **state) {
    (void)state;
    certify(test_keep_request(&keep, nonce, "foreign.example"));
    expect_refused("policy.names");
    certify(test_keep_request(&keep, nonce, "a.example"));
    X509_free(issued());
}

static void test_names(void **state) {
    (void)state;
    static const struct {
        const char *name, *rule;
    } cases[] = {
        {"foreign.example", "policy.names"},   {"keep.example", "policy.names"},
        {"a.b.keep.example", "policy.names"},  {"127.0.0.2", "policy.names"},
        {"*.keep.example", "request.names"},   {"a.example.", "request.names"},
        {"-a.example", "request.names"},       {"a..example", "request.names"},
        {"a.example/", "request.names"},       {"xa.example", "policy.names"},
        {"x\n.keep.example", "request.names"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        certify(test_keep_request(&keep, nonce, cases[i].name));
        expect_refused(cases[i].rule);
    }
    const char *const both[] = {"a.example", "foreign.example"};
    certify(test_request(keep.key, test_keep_extensions(&keep, nonce, both, 2)));
    expect_refused("policy.names");
    certify(test_request(keep.key, test_keep_extensions(&keep, nonce, both, 0)));
    expect_refused("request.names");
    /* Kinds of name that nobody gets, and a NUL that a careless reader stops at. */
    static const char *const others[] = {"email:root@a.example", "URI:https://a.example/", "RID:1.2.3.4",
                                         "otherName:1.2.3.4;UTF8:x"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        STACK_OF(X509_EXTENSION) *list = test_keep_extensions(&keep, nonce, both, 0);
        sk_X509_EXTENSION_push(list, X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, others[i]));
        certify(test_request(keep.key, list));
        expect_refused("request.names");
    }
    GENERAL_NAMES *all = GENERAL_NAMES_new();
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_IA5STRING *text = ASN1_IA5STRING_new();
    ASN1_STRING_set(text, "a.example\0.evil.example", 23);
    GENERAL_NAME_set0_value(name, GEN_DNS, text);
    sk_GENERAL_NAME_push(all, name);
    STACK_OF(X509_EXTENSION) *list = test_keep_extensions(&keep, nonce, both, 0);
    sk_X509_EXTENSION_push(list, X509V3_EXT_i2d(NID_subject_alt_name, 0, all));
    GENERAL_NAMES_free(all);
    certify(test_request(keep.key, list));
    expect_refused("request.names");
}

/* One more extension beside an honest request's. */
static void with_extension(int nid, const char *value) {
    const char *name = "a.example";
    STACK_OF(X509_EXTENSION) *list = test_keep_extensions(&keep, nonce, &name, 1);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    assert_non_null(e);
    sk_X509_EXTENSION_push(list, e);
    certify(test_request(keep.key, list));
}

static void test_rogue_extensions(void **state) {
    (void)state;
    with_extension(NID_basic_constraints, "critical,CA:TRUE");
    expect_refused("request.ca");
    with_extension(NID_basic_constraints, "CA:TRUE,pathlen:5");
    expect_refused("request.ca");
    with_extension(NID_key_usage, "keyCertSign");
    expect_refused("request.usage");
    with_extension(NID_key_usage, "digitalSignature,cRLSign");
    expect_refused("request.usage");
    with_extension(NID_ext_key_usage, "serverAuth,codeSigning");
    expect_refused("request.usage");
    with_extension(NID_ext_key_usage, "anyExtendedKeyUsage");
    expect_refused("request.usage");
    with_extension(NID_subject_alt_name, "DNS:a.example"); /* a second one */
    expect_refused("request.extension");
    with_extension(NID_name_constraints, "permitted;DNS:example");
    expect_refused("request.extension");
    with_extension(NID_crl_distribution_points, "URI:http://evil.example/crl");
    expect_refused("request.extension");
    with_extension(NID_basic_constraints, "CA:FALSE"); /* harmless */
    X509_free(issued());
    assert_true(steward_nonce_make(&steward->nonces, TEST_NOW, nonce_bytes));
    with_extension(NID_key_usage, "critical,digitalSignature");
    X509_free(issued());
}

static void test_keys(void **state) {
    (void)state;
    const char *name = "a.example";
    static const char *const curves[] = {"secp256k1", "P-521", "P-224"};
    for (size_t i = 0; i < sizeof curves / sizeof *curves; i++) {
        EVP_PKEY *key = EVP_EC_gen(curves[i]);
        certify(test_request(key, test_keep_extensions(&keep, nonce, &name, 1)));
        expect_refused("request.key");
        EVP_PKEY_free(key);
    }
    EVP_PKEY *rsa = EVP_RSA_gen(1024), *other = EVP_EC_gen("P-256");
    certify(test_request(rsa, test_keep_extensions(&keep, nonce, &name, 1)));
    expect_refused("request.key");
    /* The evidence vouches for the keep's key, the request is another's. */
    certify(test_request(other, test_keep_extensions(&keep, nonce, &name, 1)));
    expect_refused("evidence.wrapper.key");
    EVP_PKEY_free(rsa);
    EVP_PKEY_free(other);
    /* A request for a key that somebody else has: changed after it was signed. */
    struct attest_bytes request = test_keep_request(&keep, nonce, name);
    ((uint8_t *)request.data)[request.size - 1] ^= 1;
    certify(request);
    expect_refused("request.signature");
    EVP_PKEY *p384 = EVP_EC_gen("P-384"), *mine = keep.key;
    keep.key = p384;
    certify(test_keep_request(&keep, nonce, name));
    keep.key = mine;
    EVP_PKEY_free(p384);
    X509_free(issued());
}

static void test_evidence(void **state) {
    (void)state;
    const char *name = "a.example";
    /* Another workload than the one the evidence was made for. */
    STACK_OF(X509_EXTENSION) *list = test_keep_extensions(&keep, nonce, &name, 1);
    uint8_t other[32] = {1}, report[ATTEST_SNP_REPORT];
    X509_EXTENSION_free(sk_X509_EXTENSION_delete(list, 1));
    attest_identity_add(list, ATTEST_OID_WORKLOAD, V_ASN1_OCTET_STRING, (struct attest_bytes){other, 32});
    certify(test_request(keep.key, list));
    expect_refused("evidence.wrapper.key");
    /* Other code. */
    struct test_keep evil = keep;
    evil.measurement[0] ^= 1;
    certify(test_keep_request(&evil, nonce, name));
    expect_refused("evidence.policy.measurement");
    /* Another root. */
    struct test_keep stranger;
    test_keep_make(&stranger, TEST_NOW);
    certify(test_keep_request(&stranger, nonce, name));
    expect_refused("evidence.chain.path");
    test_keep_free(&stranger);
    /* A report changed after it was signed. */
    list = test_keep_extensions(&keep, nonce, &name, 1);
    while (sk_X509_EXTENSION_num(list))
        X509_EXTENSION_free(sk_X509_EXTENSION_pop(list));
    test_keep_report(&keep, keep.key, keep.workload, nonce, report);
    report[0x90] ^= 1;
    attest_identity_extensions(list, (struct attest_bytes){report, sizeof report},
                               (struct attest_bytes){(uint8_t *)keep.chain, strlen(keep.chain)}, keep.workload, nonce);
    attest_identity_add_names(list, &name, 1, true);
    certify(test_request(keep.key, list));
    expect_refused("evidence.snp.signature");
    /* None at all. */
    list = sk_X509_EXTENSION_new_null();
    attest_identity_add(list, ATTEST_OID_WORKLOAD, V_ASN1_OCTET_STRING, (struct attest_bytes){keep.workload, 32});
    attest_identity_add(list, ATTEST_OID_NONCE, V_ASN1_OCTET_STRING, nonce);
    attest_identity_add_names(list, &name, 1, true);
    certify(test_request(keep.key, list));
    expect_refused("evidence.missing");
}

/* The signer's certificates end after ten years; the authority's later. */
static void test_expired_collateral(void **state) {
    (void)state;
    int64_t later = TEST_NOW + 11 * 365 * 86400LL;
    assert_true(steward_nonce_make(&steward->nonces, later, nonce_bytes));
    certify_at(test_keep_request(&keep, nonce, "a.example"), later);
    expect_refused("evidence.chain.validity");
    /* Close to the end, the certificate ends with what it rests on. */
    int64_t close = TEST_NOW - 3600 + 3652 * 86400LL - 1800;
    assert_true(steward_nonce_make(&steward->nonces, close, nonce_bytes));
    certify_at(test_keep_request(&keep, nonce, "a.example"), close);
    X509 *x = issued();
    int days, seconds;
    assert_int_equal(ASN1_TIME_diff(&days, &seconds, X509_get0_notBefore(x), X509_get0_notAfter(x)), 1);
    assert_true(days == 0 && seconds <= 1800 + 60);
    X509_free(x);
}

static void test_malformed(void **state) {
    (void)state;
    struct attest_bytes good = test_keep_request(&keep, nonce, "a.example");
    for (size_t cut = 0; cut < good.size; cut += 37) {
        struct attest_bytes part = {malloc(cut + 1), cut};
        memcpy((void *)part.data, good.data, cut);
        certify(part);
        expect_refused(cut ? "request.malformed" : "request.size");
    }
    struct attest_bytes longer = {malloc(good.size + 1), good.size + 1};
    memcpy((void *)longer.data, good.data, good.size);
    ((uint8_t *)longer.data)[good.size] = 0;
    certify(longer);
    expect_refused("request.malformed");
    free((void *)good.data);
    certify((struct attest_bytes){calloc(1, REQUEST_MAX + 1), REQUEST_MAX + 1});
    expect_refused("request.size");
    assert_int_equal(steward->audit.entries, 1); /* no request in them, nothing to record */
}

static void test_workloads(void **state) {
    (void)state;
    steward_close(steward);
    steward_settings_free(&settings);
    steward = test_steward_open(
        directory, &settings,
        "workloads = [\"8888888888888888888888888888888888888888888888888888888888888888\"]\nlifetime = \"1h\"\n",
        TEST_NOW);
    assert_non_null(steward);
    assert_true(steward_nonce_make(&steward->nonces, TEST_NOW, nonce_bytes));
    certify(test_keep_request(&keep, nonce, "a.example"));
    expect_refused("policy.workload");
    memset(keep.workload, 0x88, 32);
    certify(test_keep_request(&keep, nonce, "a.example"));
    X509_free(issued());
}

/* A policy that names no code lets anybody name any workload. */
static void test_identity(void **state) {
    (void)state;
    char path[128];
    steward_close(steward);
    steward_settings_free(&settings);
    snprintf(path, sizeof path, "%s/policy.toml", directory);
    FILE *f = fopen(path, "w");
    fputs("allow_software = true\n", f);
    fclose(f);
    steward = test_steward_open(directory, &settings, "workloads = [\"any\"]\n", TEST_NOW);
    assert_non_null(steward);
    assert_true(steward_nonce_make(&steward->nonces, TEST_NOW, nonce_bytes));
    certify(test_keep_request(&keep, nonce, "a.example"));
    expect_refused("policy.identity");
}

static void test_development_root(void **state) {
    (void)state;
    char text[1000], error[SETTINGS_ERROR];
    struct steward_settings other;
    snprintf(text, sizeof text,
             "audit = \"other.jsonl\"\n[authority]\ncertificate = \"ca.pem\"\nkey = \"ca-key.pem\"\n"
             "[[issue]]\nname = \"test\"\npolicy = \"policy.toml\"\nnames = [\"a.example\"]\nworkloads = [\"any\"]\n");
    assert_true(steward_settings_read(&other, text, strlen(text), directory, error));
    assert_null(steward_open(&other, TEST_NOW, error));
    assert_non_null(strstr(error, "development-root"));
    steward_settings_free(&other);
}

/* A token's claims; free(). */
static char *token_claims(struct attest_bytes evidence, const char *rule, struct attest_bytes report_data,
                          struct attest_bytes answers, bool cwt) {
    char error[200], *data;
    size_t size;
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_PUBKEY(bio, X509_get0_pubkey(steward->ca));
    long pem_size = BIO_get_mem_data(bio, &data);
    struct attest_bytes public = {(uint8_t *)data, (size_t)pem_size};
    char *token =
        steward_appraise(steward, evidence, rule, report_data, answers, cwt, &size, "test", TEST_NOW, &decision);
    struct attest_bytes bytes = {(uint8_t *)token, size};
    char *claims = !token ? NULL
                   : cwt  ? attest_ear_verify_cwt(bytes, public, error, sizeof error)
                          : attest_ear_verify_jwt(bytes, public, error, sizeof error);
    if (token) assert_non_null(claims);
    free(token);
    BIO_free(bio);
    return claims;
}

static void deny(const char *text) {
    char path[128], error[SETTINGS_ERROR];
    snprintf(path, sizeof path, "%s/denied", directory);
    FILE *f = fopen(path, "w");
    fputs(text, f);
    fclose(f);
    free(settings.denied);
    settings.denied = strdup("denied");
    if (!steward_reload(steward, TEST_NOW, error)) fail_msg("%s", error);
}

/* What is on the list gets neither certificates nor tokens, from the next SIGHUP on. */
static void test_denied(void **state) {
    (void)state;
    char hex[129], line[400], error[SETTINGS_ERROR];
    struct attest_bytes none = {0};
    const struct {
        const char *name;
        const uint8_t *value;
        size_t size;
    } denied[] = {{"measurement", keep.measurement, 48}, {"workload", keep.workload, 32}};
    for (int i = 0; i < 2; i++) {
        steward_hex(denied[i].value, denied[i].size, hex);
        snprintf(line, sizeof line, "# what has leaked\n\n%s %s # ticket\t12", denied[i].name, hex);
        deny(line);
        struct attest_bytes request = test_keep_request(&keep, nonce, "a.example");
        assert_null(token_claims(request, NULL, none, none, false));
        expect_refused("policy.denied");
        certify(request);
        expect_refused("policy.denied");
        assert_non_null(strstr(decision.reasons[0].text, hex));
        assert_non_null(strstr(decision.reasons[0].text, ": ticket 12"));
        hex[0] ^= 1;
        snprintf(line, sizeof line, "%s %s", denied[i].name, hex);
        deny(line);
        certify(test_keep_request(&keep, nonce, "a.example"));
        X509_free(issued());
        steward_decision_free(&decision);
        assert_true(steward_nonce_make(&steward->nonces, TEST_NOW, nonce_bytes));
    }
    static const char *const bad[] = {
        "measurment 00", "measurement", "measurement 0", "measurement xy", "measurement 00 11",
        "workload 00",   NULL /* 65 bytes */};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(line, sizeof line, "# first\n%s%0130d\n", bad[i] ? bad[i] : "workload ", 0);
        if (bad[i]) snprintf(line, sizeof line, "# first\n%s\n", bad[i]);
        assert_null(steward_denied_read(line, strlen(line), error));
        assert_non_null(strstr(error, "line 2: expected"));
    }
    assert_null(steward_denied_read("workload \0", 10, error));
    struct steward_denied *empty = steward_denied_read("", 0, error);
    assert_non_null(empty);
    steward_denied_free(empty);
}

static void test_unwritable_audit(void **state) {
    (void)state;
    int full = open("/dev/full", O_WRONLY);
    assert_true(full >= 0);
    dup2(full, steward->audit.fd);
    close(full);
    certify(test_keep_request(&keep, nonce, "a.example"));
    assert_int_equal(decision.outcome, STEWARD_UNABLE);
    assert_null(decision.pem);
    certify(test_keep_request(&keep, nonce, "a.example")); /* and from now on */
    assert_int_equal(decision.outcome, STEWARD_UNABLE);
    assert_null(decision.pem);
}

static void expect_token(struct attest_bytes evidence, struct attest_bytes report_data, struct attest_bytes answers,
                         bool good, bool fresh) {
    for (int cwt = 0; cwt < 2; cwt++) {
        char *claims = token_claims(evidence, NULL, report_data, answers, cwt);
        assert_non_null(claims);
        assert_int_equal(strstr(claims, "affirming") != NULL, good);
        assert_int_equal(strstr(claims, "contraindicated") != NULL, !good);
        assert_int_equal(strstr(claims, "eat_nonce") != NULL, fresh);
        free(claims);
    }
}

static void with_chain(void) {
    char *chain = attest_signer_certificates(keep.signer, false);
    attest_verifier_add(steward->verifier, (struct attest_bytes){(uint8_t *)chain, strlen(chain)});
    free(chain);
}

/* Who is denied by one name is also where the hardware's own fields, or the signing key's certificate, name him. */
static void test_denied_elsewhere(void **state) {
    (void)state;
    static const struct {
        const char *denied, *fact;
        size_t size, fact_size;
    } cases[] = {{"workload", "host_data", 32, 32},
                 {"workload", "mrconfigid", 32, 48},
                 {"workload", "config_id", 32, 64},
                 {"chip_id", "certificate_chip_id", 64, 64}};
    static struct attest_result result;
    uint8_t value[64], report[ATTEST_SNP_REPORT];
    char hex[129], line[400], error[SETTINGS_ERROR];
    memset(value, 0x5a, sizeof value);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t field[64] = {0};
        struct steward_reason why;
        memcpy(field, value, cases[i].size);
        steward_hex(value, cases[i].size, hex);
        snprintf(line, sizeof line, "%s %s", cases[i].denied, hex);
        struct steward_denied *d = steward_denied_read(line, strlen(line), error);
        assert_non_null(d);
        struct attest_fact *f = &result.facts[0];
        result.fact_count = 1;
        *f = (struct attest_fact){cases[i].fact,
                                  {.kind = ATTEST_BYTES, .size = (uint32_t)cases[i].fact_size, .bytes = field}};
        assert_false(steward_denied_allows(d, &result, &why));
        f->name = "report_data";
        assert_true(steward_denied_allows(d, &result, &why));
        f->name = cases[i].fact;
        field[cases[i].fact_size - 1] ^= 1; /* it is another's */
        assert_true(steward_denied_allows(d, &result, &why));
        steward_denied_free(d);
    }
    /* A report by itself, without a certificate around it that names the workload. */
    struct attest_signer_claims claims = {0};
    struct attest_bytes none = {0};
    memcpy(claims.measurement, keep.measurement, sizeof claims.measurement);
    memcpy(claims.host_data, keep.workload, sizeof claims.host_data);
    attest_signer_report(keep.signer, &claims, report);
    steward_hex(keep.workload, sizeof keep.workload, hex);
    snprintf(line, sizeof line, "workload %s", hex);
    deny(line);
    with_chain();
    assert_null(token_claims((struct attest_bytes){report, sizeof report}, NULL, none, none, false));
    expect_refused("policy.denied");
}

static void test_tokens(void **state) {
    (void)state;
    uint8_t report[ATTEST_SNP_REPORT], other[64] = {1};
    test_keep_report(&keep, keep.key, keep.workload, nonce, report);
    struct attest_bytes evidence = {report, sizeof report}, none = {0}, wrong = {other, 64}, junk = {other, 5};
    with_chain();
    expect_token(evidence, none, none, true, false);
    expect_token(evidence, wrong, none, false, false); /* a token, but not a good one */
    assert_null(token_claims(evidence, "other", none, none, false));
    expect_refused("policy.unknown");
    assert_null(token_claims(junk, NULL, none, none, false));
    expect_refused("evidence.missing");
}

/* What a token says of freshness was seen in genuine evidence, wherever it keeps a nonce. */
static void test_freshness(void **state) {
    (void)state;
    uint8_t report[ATTEST_SNP_REPORT], own[64] = {9, 9, 9, 9, 9, 9, 9, 9, 9}, other[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    struct attest_bytes none = {0}, chosen = {own, 9}, another = {other, 9}, whole = {own, 64};
    with_chain();
    /* A request, which hashes it: for whoever has the key, no longer nonces but the one that is in it. */
    struct attest_bytes request = test_keep_request(&keep, nonce, "a.example");
    expect_token(request, none, nonce, true, true);
    expect_token(request, none, another, false, false);
    expect_token(request, none, (struct attest_bytes){nonce.data, nonce.size - 1}, false, false);
    /* The nonce in it is changed: nothing is genuine any more, whatever is asked for. */
    uint8_t *at = memmem(request.data, request.size, nonce.data, nonce.size);
    assert_non_null(at);
    struct attest_bytes changed = {malloc(request.size), request.size};
    memcpy((void *)changed.data, request.data, request.size);
    uint8_t *in = (uint8_t *)changed.data + (at - request.data), now_there[STEWARD_NONCE];
    in[20] ^= 1;
    memcpy(now_there, in, sizeof now_there);
    expect_token(changed, none, (struct attest_bytes){now_there, sizeof now_there}, false, false);
    free((void *)changed.data);
    free((void *)request.data);
    /* A report as it is: report data is the nonce, then zeros. */
    struct attest_signer_claims claims = {.measurement = {0}};
    memcpy(claims.measurement, keep.measurement, sizeof claims.measurement);
    memcpy(claims.report_data, own, sizeof own);
    assert_true(attest_signer_report(keep.signer, &claims, report));
    struct attest_bytes evidence = {report, sizeof report};
    expect_token(evidence, none, chosen, true, true);
    expect_token(evidence, whole, chosen, true, true);
    expect_token(evidence, none, another, false, false);
    /* Whoever brings report data and a nonce has shown nothing of how one is in the other. */
    memset(claims.report_data, 0xab, 64);
    assert_true(attest_signer_report(keep.signer, &claims, report));
    memset(own, 0xab, 64);
    expect_token(evidence, whole, none, true, false);
    expect_token(evidence, whole, another, false, false);
}

/* A nonce of the steward's own says when it was asked for; an old one is not answered for. */
static void test_stale_nonce(void **state) {
    (void)state;
    uint8_t old_bytes[STEWARD_NONCE];
    struct attest_bytes old = {old_bytes, sizeof old_bytes}, none = {0};
    assert_true(steward_nonce_make(&steward->nonces, TEST_NOW - steward->nonces.lifetime - 1, old_bytes));
    with_chain();
    struct attest_bytes request = test_keep_request(&keep, old, "a.example");
    assert_null(token_claims(request, NULL, none, old, false));
    expect_refused("nonce.stale");
    old_bytes[31] ^= 1; /* somebody else's: theirs to judge */
    free((void *)request.data);
    request = test_keep_request(&keep, old, "a.example");
    expect_token(request, none, old, true, true);
    free((void *)request.data);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(issues),
        TEST(nonces),
        TEST(refusal_keeps_nonce),
        TEST(names),
        TEST(rogue_extensions),
        TEST(keys),
        TEST(evidence),
        TEST(expired_collateral),
        TEST(malformed),
        TEST(workloads),
        TEST(identity),
        TEST(development_root),
        TEST(denied),
        TEST(denied_elsewhere),
        TEST(unwritable_audit),
        TEST(tokens),
        TEST(freshness),
        TEST(stale_nonce),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
