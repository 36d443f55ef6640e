/* What no real evidence shows: revocations, every TCB status, broken certificates. A private PKI with Intel's shapes,
 * and one with AMD's, make the same evidence pass without the fault and fail with it. */
#include "support.h"

#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

static struct attest_result result;
static const int64_t now = 1780000000; /* 2026-05-28 */
enum { DAY = 86400 };

static void expect(bool ok, const char *what) {
    if (ok) return;
    show(what, &result);
    fail_msg("%s", what);
}

/* ---- Certificates and lists ---- */

struct authority {
    X509 *x;
    EVP_PKEY *key;
};
struct shape {
    bool ca, no_basic_constraints;
    const char *oid; /* an extension of its own */
    const uint8_t *value;
    size_t size;
    bool critical_unknown;
    int64_t from, until;
    const EVP_MD *md;
    int pss_salt; /* 0: not PSS */
};

static void add_extension(X509 *x, const char *oid, bool critical, const uint8_t *value, size_t size) {
    ASN1_OBJECT *object = OBJ_txt2obj(oid, 1);
    ASN1_OCTET_STRING *string = ASN1_OCTET_STRING_new();
    ASN1_OCTET_STRING_set(string, value, (int)size);
    X509_EXTENSION *e = X509_EXTENSION_create_by_OBJ(NULL, object, critical, string);
    X509_add_ext(x, e, -1);
    X509_EXTENSION_free(e), ASN1_OCTET_STRING_free(string), ASN1_OBJECT_free(object);
}

static void add_named(X509 *x, int nid, const char *value) {
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    X509_add_ext(x, e, -1);
    X509_EXTENSION_free(e);
}

static EVP_MD_CTX *signing(EVP_PKEY *key, const struct shape *s) {
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *pkey;
    assert_int_equal(EVP_DigestSignInit(ctx, &pkey, s->md ? s->md : EVP_sha256(), NULL, key), 1);
    if (s->pss_salt) {
        EVP_PKEY_CTX_set_rsa_padding(pkey, RSA_PKCS1_PSS_PADDING);
        EVP_PKEY_CTX_set_rsa_pss_saltlen(pkey, s->pss_salt);
    }
    return ctx;
}

static X509 *issue(const char *name, EVP_PKEY *key, const struct authority *by, struct shape s) {
    static long serial = 1;
    X509 *x = X509_new();
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), ++serial);
    ASN1_TIME_set(X509_getm_notBefore(x), s.from ? s.from : now - DAY);
    ASN1_TIME_set(X509_getm_notAfter(x), s.until ? s.until : now + 30 * DAY);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC, (const uint8_t *)name, -1, -1, 0);
    X509_set_issuer_name(x, by ? X509_get_subject_name(by->x) : X509_get_subject_name(x));
    X509_set_pubkey(x, key);
    if (s.ca)
        add_named(x, NID_basic_constraints, "critical,CA:TRUE"),
            add_named(x, NID_key_usage, "critical,keyCertSign,cRLSign");
    else if (!s.no_basic_constraints)
        add_named(x, NID_basic_constraints, "critical,CA:FALSE"),
            add_named(x, NID_key_usage, "critical,digitalSignature");
    if (s.oid) add_extension(x, s.oid, false, s.value, s.size);
    if (s.critical_unknown) add_extension(x, "1.2.3.4.5", true, (const uint8_t *)"\x05", 2);
    EVP_MD_CTX *ctx = signing(by ? by->key : key, &s);
    assert_true(X509_sign_ctx(x, ctx) > 0);
    EVP_MD_CTX_free(ctx);
    return x;
}

static X509_CRL *list(const struct authority *by, X509 *revoked, struct shape s) {
    X509_CRL *crl = X509_CRL_new();
    X509_CRL_set_version(crl, 1);
    X509_CRL_set_issuer_name(crl, X509_get_subject_name(by->x));
    ASN1_TIME *t = ASN1_TIME_set(NULL, s.from ? s.from : now - DAY);
    X509_CRL_set1_lastUpdate(crl, t);
    ASN1_TIME_set(t, s.until ? s.until : now + 20 * DAY);
    X509_CRL_set1_nextUpdate(crl, t);
    if (revoked) {
        X509_REVOKED *entry = X509_REVOKED_new();
        X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(revoked));
        ASN1_TIME_set(t, now - DAY);
        X509_REVOKED_set_revocationDate(entry, t);
        X509_CRL_add0_revoked(crl, entry);
    }
    if (s.critical_unknown) {
        ASN1_OBJECT *object = OBJ_txt2obj("1.2.3.4.5", 1);
        ASN1_OCTET_STRING *string = ASN1_OCTET_STRING_new();
        ASN1_OCTET_STRING_set(string, (const uint8_t *)"\x05", 2);
        X509_EXTENSION *e = X509_EXTENSION_create_by_OBJ(NULL, object, 1, string);
        X509_CRL_add_ext(crl, e, -1);
        X509_EXTENSION_free(e), ASN1_OCTET_STRING_free(string), ASN1_OBJECT_free(object);
    }
    ASN1_TIME_free(t);
    X509_CRL_sort(crl);
    EVP_MD_CTX *ctx = signing(by->key, &s);
    assert_true(X509_CRL_sign_ctx(crl, ctx) > 0);
    EVP_MD_CTX_free(ctx);
    return crl;
}

static void give(struct attest_verifier *v, X509 *x) {
    uint8_t *der = NULL;
    int size = i2d_X509(x, &der);
    assert_true(attest_verifier_add(v, (struct attest_bytes){der, (size_t)size}));
    OPENSSL_free(der);
}

static void give_list(struct attest_verifier *v, X509_CRL *crl) {
    uint8_t *der = NULL;
    int size = i2d_X509_CRL(crl, &der);
    assert_true(attest_verifier_add(v, (struct attest_bytes){der, (size_t)size}));
    OPENSSL_free(der);
    X509_CRL_free(crl);
}

static void trust(struct attest_verifier *v, X509 *x) {
    uint8_t *der = NULL;
    int size = i2d_X509(x, &der);
    assert_true(attest_verifier_add_root(v, (struct attest_bytes){der, (size_t)size}, true));
    OPENSSL_free(der);
}

static void raw_sign(EVP_PKEY *key, const EVP_MD *md, const void *data, size_t size, unsigned width, uint8_t *rs,
                     bool little) {
    uint8_t der[160];
    size_t n = sizeof der;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    assert_int_equal(EVP_DigestSignInit(ctx, NULL, md, NULL, key), 1);
    assert_int_equal(EVP_DigestSign(ctx, der, &n, data, size), 1);
    EVP_MD_CTX_free(ctx);
    const uint8_t *at = der;
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &at, (long)n);
    if (little)
        BN_bn2lebinpad(ECDSA_SIG_get0_r(sig), rs, (int)width),
            BN_bn2lebinpad(ECDSA_SIG_get0_s(sig), rs + 72, (int)width);
    else
        BN_bn2binpad(ECDSA_SIG_get0_r(sig), rs, (int)width),
            BN_bn2binpad(ECDSA_SIG_get0_s(sig), rs + width, (int)width);
    ECDSA_SIG_free(sig);
}

/* ---- Intel ---- */

static struct authority root, ca, signer;
static EVP_PKEY *pck_key, *ak;

/* SEQUENCE of (OID, value) with the parts the Verifier reads; component 1 as given (two bytes when above 127). */
static size_t pck_extension(uint8_t *out, int component) {
    uint8_t body[600], tcb[400];
    size_t n = 0, t = 0;
    static const uint8_t prefix[] = {0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01};
#define PUT(buffer, at, ...)                                                                                           \
    do {                                                                                                               \
        const uint8_t bytes_[] = {__VA_ARGS__};                                                                        \
        memcpy((buffer) + (at), bytes_, sizeof bytes_), (at) += sizeof bytes_;                                         \
    } while (0)
    for (uint8_t arc = 1; arc <= 18; arc++) {
        uint8_t value[20];
        size_t size = 0;
        if (arc == 18) {
            PUT(value, size, 0x04, 16);
            memset(value + size, 7, 16), size += 16;
        } else if (arc == 1 && component < 0)
            PUT(value, size, 0x02, 1, (uint8_t)component);
        else if (arc == 1 && component > 127)
            PUT(value, size, 0x02, 2, (uint8_t)(component >> 8), (uint8_t)component);
        else
            PUT(value, size, 0x02, 1, (uint8_t)(arc == 1 ? component : arc == 17 ? 9 : 5));
        PUT(tcb, t, 0x30, (uint8_t)(13 + size), 0x06, 11);
        memcpy(tcb + t, prefix, 9), t += 9;
        PUT(tcb, t, 2, arc);
        memcpy(tcb + t, value, size), t += size;
    }
#define OID(arc, ...)                                                                                                  \
    do {                                                                                                               \
        PUT(body, n, 0x30, (uint8_t)(12 + sizeof((const uint8_t[]){__VA_ARGS__})), 0x06, 10);                          \
        memcpy(body + n, prefix, 9), n += 9, body[n++] = (arc);                                                        \
        PUT(body, n, __VA_ARGS__);                                                                                     \
    } while (0)
    OID(1, 0x04, 16, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16);
    PUT(body, n, 0x30, 0x82, (uint8_t)((12 + 4 + t) >> 8), (uint8_t)(12 + 4 + t), 0x06, 10);
    memcpy(body + n, prefix, 9), n += 9, body[n++] = 2;
    PUT(body, n, 0x30, 0x82, (uint8_t)(t >> 8), (uint8_t)t);
    memcpy(body + n, tcb, t), n += t;
    OID(3, 0x04, 2, 0, 0);
    OID(4, 0x04, 6, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff);
    size_t at = 0;
    PUT(out, at, 0x30, 0x82, (uint8_t)(n >> 8), (uint8_t)n);
    memcpy(out + at, body, n);
    return at + n;
#undef OID
}

static X509 *make_pck(int component, struct shape s) {
    static uint8_t extension[800];
    s.oid = "1.2.840.113741.1.13.1";
    s.value = extension;
    s.size = pck_extension(extension, component);
    return issue("Intel SGX PCK Certificate", pck_key, &ca, s);
}

/* Version 3, all zero but what is checked. */
static struct attest_bytes make_quote(X509 *pck) {
    static uint8_t q[8000];
    memset(q, 0, sizeof q);
    static const uint8_t vendor[] = {0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9,
                                     0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07};
    q[0] = 3, q[2] = 2;
    memcpy(q + 12, vendor, sizeof vendor);
    q[48 + 48] = 5; /* INIT, MODE64BIT */
    uint8_t *sig = q + 436, *qe = sig + 128, *auth = qe + 384 + 64;
    uint8_t point[65];
    size_t n;
    EVP_PKEY_get_octet_string_param(ak, "pub", point, sizeof point, &n);
    memcpy(sig + 64, point + 1, 64);
    qe[48] = 5;
    memset(qe + 128, 0x8c, 32); /* MRSIGNER */
    qe[256] = 1, qe[258] = 5;   /* ISVPRODID, ISVSVN */
    auth[0] = 0;                /* no auth data */
    EVP_Digest(point + 1, 64, qe + 320, NULL, EVP_sha256(), NULL);
    raw_sign(pck_key, EVP_sha256(), qe, 384, 32, qe + 384, false);
    raw_sign(ak, EVP_sha256(), q, 432, 32, sig, false);
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(bio, pck), PEM_write_bio_X509(bio, ca.x), PEM_write_bio_X509(bio, root.x);
    char *pem;
    size_t size = (size_t)BIO_get_mem_data(bio, &pem);
    auth[2] = 5;
    for (int i = 0; i < 4; i++)
        auth[4 + i] = (uint8_t)(size >> 8 * i);
    memcpy(auth + 8, pem, size);
    BIO_free(bio);
    size_t total = (size_t)(auth + 8 - q) + size, data = total - 436;
    for (int i = 0; i < 4; i++)
        q[432 + i] = (uint8_t)(data >> 8 * i);
    return (struct attest_bytes){q, total};
}

static char *signed_json(const char *name, const char *inner) {
    uint8_t rs[64];
    char hex[129], *out;
    raw_sign(signer.key, EVP_sha256(), inner, strlen(inner), 32, rs, false);
    for (int i = 0; i < 64; i++)
        sprintf(hex + 2 * i, "%02x", rs[i]);
    assert_true(asprintf(&out, "{\"%s\":%s,\"signature\":\"%s\"}", name, inner, hex) > 0);
    return out;
}

static char *tcb_info(const char *status, int component, const char *extra) {
    char components[600] = "", *inner, *out;
    for (int i = 0; i < 16; i++)
        sprintf(components + strlen(components), "%s{\"svn\":%d}", i ? "," : "", i ? 5 : component);
    assert_true(asprintf(&inner,
                         "{\"id\":\"SGX\",\"version\":3,\"issueDate\":\"2026-05-20T00:00:00Z\",\"nextUpdate\":\"2026-"
                         "06-20T00:00:00Z\",\"fmspc\":\"aabbccddeeff\",\"pceId\":\"0000\",%s"
                         "\"tcbType\":0,\"tcbEvaluationDataNumber\":20,\"tcbLevels\":[{\"tcb\":{\"sgxtcbcomponents\":[%"
                         "s],\"pcesvn\":9},\"tcbDate\":\"2026-01-01T00:00:00Z\",\"tcbStatus\":\"%s\"}]}",
                         extra, components, status) > 0);
    out = signed_json("tcbInfo", inner);
    free(inner);
    return out;
}

static char *qe_identity(const char *status) {
    char mrsigner[65], *inner, *out;
    for (int i = 0; i < 32; i++)
        sprintf(mrsigner + 2 * i, "8c");
    assert_true(
        asprintf(&inner,
                 "{\"id\":\"QE\",\"version\":2,\"issueDate\":\"2026-05-20T00:00:00Z\",\"nextUpdate\":\"2026-06-20T00:"
                 "00:00Z\",\"tcbEvaluationDataNumber\":20,\"miscselect\":\"00000000\","
                 "\"miscselectMask\":\"FFFFFFFF\",\"attributes\":\"05000000000000000000000000000000\","
                 "\"attributesMask\":\"FFFFFFFFFFFFFFFF0000000000000000\",\"mrsigner\":\"%s\",\"isvprodid\":1,"
                 "\"tcbLevels\":[{\"tcb\":{\"isvsvn\":5},\"tcbDate\":\"2026-01-01T00:00:00Z\",\"tcbStatus\":\"%s\"}]}",
                 mrsigner, status) > 0);
    out = signed_json("enclaveIdentity", inner);
    free(inner);
    return out;
}

struct intel_case {
    const char *what, *rule; /* null: accepted */
    const char *status, *qe_status, *extra;
    int component;
    X509 *revoke_by_ca, *revoke_by_root;
    struct shape pck, root_list, ca_list;
    int64_t at;
};

static void add_text(struct attest_verifier *v, char *text) {
    attest_verifier_add(v, (struct attest_bytes){(uint8_t *)text, strlen(text)});
    free(text);
}

/* `revoke_*`: any certificate; 1 stands for the PCK of this case. */
static void intel(struct intel_case c, bool revoke_pck) {
    X509 *pck = make_pck(c.component ? c.component : 5, c.pck);
    struct attest_verifier *v = attest_verifier_new();
    trust(v, root.x);
    give(v, ca.x), give(v, signer.x);
    give_list(v, list(&root, c.revoke_by_root, c.root_list));
    give_list(v, list(&ca, revoke_pck ? pck : NULL, c.ca_list));
    add_text(v, tcb_info(c.status ? c.status : "UpToDate", 5, c.extra ? c.extra : ""));
    add_text(v, qe_identity(c.qe_status ? c.qe_status : "UpToDate"));
    struct attest_policy p;
    attest_policy_strict(&p);
    appraise(v, make_quote(pck), &p, c.at ? c.at : now, &result);
    expect(c.rule ? !result.accepted && failed_rule(&result, c.rule) : result.accepted, c.what);
    attest_verifier_free(v);
    X509_free(pck);
}

static int make_intel(void **state) {
    (void)state;
    root.key = EVP_EC_gen("P-256"), ca.key = EVP_EC_gen("P-256"), signer.key = EVP_EC_gen("P-256"),
    pck_key = EVP_EC_gen("P-256"), ak = EVP_EC_gen("P-256");
    root.x = issue("Intel SGX Root CA", root.key, NULL, (struct shape){.ca = true});
    ca.x = issue("Intel SGX PCK Platform CA", ca.key, &root, (struct shape){.ca = true});
    signer.x = issue("Intel SGX TCB Signing", signer.key, &root, (struct shape){0});
    return 0;
}

static void test_intel_revocation(void **state) {
    (void)state;
    intel((struct intel_case){.what = "sound"}, false);
    intel((struct intel_case){.what = "PCK revoked", .rule = "chain.revocation"}, true);
    intel((struct intel_case){.what = "PCK CA revoked", .rule = "chain.revocation", .revoke_by_root = ca.x}, false);
    intel((struct intel_case){.what = "TCB signer revoked",
                              .rule = "intel.tcb_info_signature",
                              .revoke_by_root = signer.x},
          false);
    intel((struct intel_case){.what = "list with an unknown critical extension",
                              .rule = "chain.crl",
                              .ca_list.critical_unknown = true},
          false);
    intel((struct intel_case){.what = "root list ended",
                              .rule = "chain.crl",
                              .root_list = {.until = now - 1, .from = now - 2 * DAY}},
          false);
    intel((struct intel_case){.what = "PCK list of tomorrow", .rule = "chain.crl", .ca_list = {.from = now + DAY}},
          false);
    /* A revocation counts even in a list that has ended. */
    intel((struct intel_case){.what = "revoked in an old list",
                              .rule = "chain.revocation",
                              .ca_list = {.until = now - 1, .from = now - 2 * DAY}},
          true);
}

static void test_intel_certificates(void **state) {
    (void)state;
    intel((struct intel_case){.what = "unknown critical extension", .rule = "chain.path", .pck.critical_unknown = true},
          false);
    intel((struct intel_case){.what = "PCK expired", .rule = "chain.validity", .pck.until = now - 1}, false);
    intel((struct intel_case){.what = "PCK of tomorrow", .rule = "chain.validity", .pck.from = now + 1}, false);
    intel((struct intel_case){.what = "PCK signed with SHA-384", .rule = "chain.algorithm", .pck.md = EVP_sha384()},
          false);
    intel((struct intel_case){.what = "component 200, two bytes", .component = 200}, false);
    intel((struct intel_case){.what = "component negative", .rule = "chain.path", .component = -1}, false);
    intel((struct intel_case){.what = "component 300", .rule = "chain.path", .component = 300}, false);
    intel((struct intel_case){.what = "component too low", .rule = "intel.tcb_level", .component = 4}, false);
    intel((struct intel_case){.what = "before TCB info", .rule = "intel.tcb_info_current", .at = 1779235199}, false);
    intel((struct intel_case){.what = "after TCB info", .rule = "intel.tcb_info_current", .at = 1781913601}, false);
    /* A PCK CA that is no CA. */
    X509 *good = ca.x;
    ca.x = issue("Intel SGX PCK Platform CA", ca.key, &root, (struct shape){0});
    intel((struct intel_case){.what = "PCK CA without CA", .rule = "chain.path"}, false);
    X509_free(ca.x);
    ca.x = issue("Some other CA", ca.key, &root, (struct shape){.ca = true});
    intel((struct intel_case){.what = "PCK CA of another name", .rule = "chain.path"}, false);
    X509_free(ca.x);
    ca.x = good;
}

static void test_intel_statuses(void **state) {
    (void)state;
    static const char *const statuses[] = {"UpToDate",
                                           "SWHardeningNeeded",
                                           "ConfigurationNeeded",
                                           "ConfigurationAndSWHardeningNeeded",
                                           "OutOfDate",
                                           "OutOfDateConfigurationNeeded",
                                           "Revoked"};
    /* Convergence with a QE that is out of date, and with a revoked one. */
    static const char *const old[] = {"OutOfDate",
                                      "OutOfDate",
                                      "OutOfDateConfigurationNeeded",
                                      "OutOfDateConfigurationNeeded",
                                      "OutOfDate",
                                      "OutOfDateConfigurationNeeded",
                                      "Revoked"};
    for (int i = 0; i < 7; i++) {
        intel((struct intel_case){.what = statuses[i], .rule = i ? "intel.tcb_status" : NULL, .status = statuses[i]},
              false);
        expect(!strcmp(result.tcb_status, statuses[i]), statuses[i]);
        intel(
            (struct intel_case){
                .what = statuses[i], .rule = "intel.tcb_status", .status = statuses[i], .qe_status = "OutOfDate"},
            false);
        expect(!strcmp(result.tcb_status, old[i]), old[i]);
        intel(
            (struct intel_case){
                .what = statuses[i], .rule = "intel.tcb_level", .status = statuses[i], .qe_status = "Revoked"},
            false);
        expect(!strcmp(result.tcb_status, "Revoked"), "Revoked");
    }
    intel((struct intel_case){.what = "unknown status", .rule = "intel.tcb_info", .status = "Marvellous"}, false);
    intel((struct intel_case){.what = "duplicate key", .rule = "intel.tcb_info", .extra = "\"tcbType\":0,"}, false);
    /* No policy accepts Revoked. */
    struct attest_policy p;
    char error[200];
    attest_policy_strict(&p);
    assert_false(attest_policy_set(&p, "intel.tcb_statuses", "Revoked", 7, error, sizeof error));
    p.intel.tcb_statuses = ~0u;
    X509 *pck = make_pck(5, (struct shape){0});
    struct attest_verifier *v = attest_verifier_new();
    trust(v, root.x);
    give(v, ca.x), give(v, signer.x);
    give_list(v, list(&root, NULL, (struct shape){0})), give_list(v, list(&ca, NULL, (struct shape){0}));
    add_text(v, tcb_info("Revoked", 5, "")), add_text(v, qe_identity("UpToDate"));
    appraise(v, make_quote(pck), &p, now, &result);
    expect(!result.accepted && !result.genuine, "Revoked under the most lenient policy");
    attest_verifier_free(v);
    X509_free(pck);
}

/* ---- AMD ---- */

static struct authority ark, ask;
static EVP_PKEY *vek_key;

struct amd_case {
    const char *what, *rule;
    X509 *revoked;
    const char *ask_name;
    bool vlek, wrapped_hwid, negative_tcb, wrong_salt, masked;
    const EVP_MD *md;
    struct shape shape;
};

static void amd(struct amd_case c) {
    uint8_t hwid[66] = {0x04, 8, 1, 2, 3, 4, 5, 6, 7, 8};
    X509 *x = X509_new();
    struct shape s = c.shape;
    s.md = c.md ? c.md : EVP_sha384(), s.pss_salt = c.wrong_salt ? 32 : c.md == EVP_sha256() ? 32 : 48;
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 0);
    ASN1_TIME_set(X509_getm_notBefore(x), now - DAY), ASN1_TIME_set(X509_getm_notAfter(x), now + 30 * DAY);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
                               (const uint8_t *)(c.vlek ? "SEV-VLEK" : "SEV-VCEK"), -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(ask.x));
    X509_set_pubkey(x, vek_key);
    static const uint8_t one[] = {2, 1, 1}, minus[] = {2, 1, 0x80}, product[] = {0x16, 5, 'T', 'u', 'r', 'i', 'n'},
                         csp[] = {0x16, 2, 'x', 'y'};
#define AMD "1.3.6.1.4.1.3704.1."
    static const char *const tcb[] = {AMD "1", AMD "3.1", AMD "3.2", AMD "3.3", AMD "3.8", AMD "3.9"};
    for (int i = 0; i < 6; i++)
        add_extension(x, tcb[i], false, i == 3 && c.negative_tcb ? minus : one, sizeof one);
    add_extension(x, AMD "2", false, product, sizeof product);
    if (c.vlek)
        add_extension(x, AMD "5", false, csp, sizeof csp);
    else
        add_extension(x, AMD "4", false, c.wrapped_hwid ? hwid : hwid + 2, c.wrapped_hwid ? 10 : 8);
    if (s.critical_unknown) add_extension(x, "1.2.3.4.5", true, (const uint8_t *)"\x05", 2);
    EVP_MD_CTX *ctx = signing(ask.key, &s);
    assert_true(X509_sign_ctx(x, ctx) > 0);
    EVP_MD_CTX_free(ctx);
    uint8_t r[1184] = {5};
    r[8 + 2] = 3; /* policy 0x30000 */
    r[0x34] = 1, r[0x48] = c.vlek ? 1 << 2 : 0;
    r[0x188] = 0x1a, r[0x189] = 2;
    static const uint8_t raw_tcb[8] = {1, 1, 1, 1, 0, 0, 0, 1};
    const size_t at[] = {0x38, 0x180, 0x1e0, 0x1f0};
    for (int i = 0; i < 4; i++)
        memcpy(r + at[i], raw_tcb, 8);
    if (!c.vlek && !c.masked) memcpy(r + 0x1a0, hwid + 2, 8);
    raw_sign(vek_key, EVP_sha384(), r, 0x2a0, 48, r + 0x2a0, true);
    struct attest_verifier *v = attest_verifier_new();
    trust(v, ark.x);
    give(v, ask.x), give(v, x);
    if (c.revoked) give_list(v, list(&ark, c.revoked, (struct shape){.md = EVP_sha384(), .pss_salt = 48}));
    appraise(v, (struct attest_bytes){r, sizeof r}, NULL, now, &result);
    expect(c.rule ? !result.genuine && failed_rule(&result, c.rule) : result.accepted, c.what);
    const struct attest_fact *chip = attest_result_fact(&result, "certificate_chip_id");
    expect(c.masked ? chip && chip->value.size == 64 && memcmp(chip->value.bytes, hwid + 2, 8) == 0 : !chip, c.what);
    attest_verifier_free(v);
    X509_free(x);
}

static void authority_of(struct authority *a, const char *name, const struct authority *by) {
    a->key = EVP_RSA_gen(4096);
    a->x = issue(name, a->key, by, (struct shape){.ca = true, .md = EVP_sha384(), .pss_salt = 48});
}

static void test_amd(void **state) {
    (void)state;
    authority_of(&ark, "ARK-Turin", NULL);
    authority_of(&ask, "SEV-Turin", &ark);
    vek_key = EVP_EC_gen("P-384");
    amd((struct amd_case){.what = "sound Turin VCEK"});
    amd((struct amd_case){.what = "hwID in an OCTET STRING", .wrapped_hwid = true});
    amd((struct amd_case){.what = "chip id masked by the host", .masked = true});
    amd((struct amd_case){.what = "another certificate revoked", .revoked = ark.x});
    amd((struct amd_case){.what = "ASK revoked", .rule = "chain.revocation", .revoked = ask.x});
    amd((struct amd_case){.what = "PSS with SHA-256", .rule = "chain.algorithm", .md = EVP_sha256()});
    amd((struct amd_case){.what = "PSS with a salt of 32", .rule = "chain.algorithm", .wrong_salt = true});
    amd((struct amd_case){.what = "negative TCB", .rule = "snp.reported_tcb", .negative_tcb = true});
    amd((struct amd_case){.what = "unknown critical extension", .rule = "chain.path", .shape.critical_unknown = true});
    amd((struct amd_case){.what = "VLEK under the VCEK's authority", .rule = "snp.product", .vlek = true});
    X509 *vcek_ask = ask.x;
    ask.x = issue("SEV-VLEK-Turin", ask.key, &ark, (struct shape){.ca = true, .md = EVP_sha384(), .pss_salt = 48});
    amd((struct amd_case){.what = "sound Turin VLEK", .vlek = true});
    amd((struct amd_case){.what = "VCEK under the VLEK's authority", .rule = "snp.product"});
    X509_free(vcek_ask), X509_free(ask.x), X509_free(ark.x);
    EVP_PKEY_free(ask.key), EVP_PKEY_free(ark.key), EVP_PKEY_free(vek_key);
}

static int drop_intel(void **state) {
    (void)state;
    X509_free(root.x), X509_free(ca.x), X509_free(signer.x);
    EVP_PKEY_free(root.key), EVP_PKEY_free(ca.key), EVP_PKEY_free(signer.key), EVP_PKEY_free(pck_key),
        EVP_PKEY_free(ak);
    return 0;
}

int main(int argc, char **argv) {
    (void)argv;
    const struct CMUnitTest intel_tests[] = {cmocka_unit_test(test_intel_revocation),
                                             cmocka_unit_test(test_intel_certificates),
                                             cmocka_unit_test(test_intel_statuses)};
    const struct CMUnitTest amd_tests[] = {cmocka_unit_test(test_amd)};
    return argc > 1 ? cmocka_run_group_tests(amd_tests, NULL, NULL)
                    : cmocka_run_group_tests(intel_tests, make_intel, drop_intel);
}
