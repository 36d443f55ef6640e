/* The software signer: SNP reports under a development root. Same format, same checks, no hardware; the Verifier calls
 * what it signs ATTEST_TEE_SOFTWARE. Its certificates look like AMD's (names, extensions), but are ECDSA P-384: nobody
 * can take one for a VCEK, whose chain is RSA. Depends on OpenSSL alone, so the warden can carry it. */
#include <stdlib.h>
#include <string.h>

#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <donjon/attest.h>

enum { ROOT, INTERMEDIATE, LEAF, LEVELS, TEN_YEARS = 3652 * 24 * 3600, CHIP_ID = 64 };

struct attest_signer {
    X509 *certs[LEVELS];
    EVP_PKEY *key;
    uint8_t chip_id[CHIP_ID];
};

static const char *const names[LEVELS] = {"ARK-Milan", "SEV-Milan", "SEV-VCEK"};

void attest_signer_free(struct attest_signer *s) {
    if (!s) return;
    for (int i = 0; i < LEVELS; i++)
        X509_free(s->certs[i]);
    EVP_PKEY_free(s->key);
    free(s);
}

static bool set_name(X509_NAME *name, const char *common) {
    static const char organisation[] = "Donjon development, not AMD", unit[] = "Software signer";
    return X509_NAME_add_entry_by_txt(name, "O", MBSTRING_ASC, (const uint8_t *)organisation, -1, -1, 0) &&
           X509_NAME_add_entry_by_txt(name, "OU", MBSTRING_ASC, (const uint8_t *)unit, -1, -1, 0) &&
           X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)common, -1, -1, 0);
}

static bool add_extension(X509 *x, const char *oid, const uint8_t *der, int size) {
    ASN1_OBJECT *object = OBJ_txt2obj(oid, 1);
    ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
    X509_EXTENSION *extension = object && value && ASN1_OCTET_STRING_set(value, der, size)
                                    ? X509_EXTENSION_create_by_OBJ(NULL, object, 0, value)
                                    : NULL;
    bool ok = extension && X509_add_ext(x, extension, -1);
    X509_EXTENSION_free(extension);
    ASN1_OCTET_STRING_free(value);
    ASN1_OBJECT_free(object);
    return ok;
}

/* What a VCEK says: structure version 0, product, all SPLs zero, chip id. */
static bool add_vcek_extensions(X509 *x, const uint8_t chip_id[CHIP_ID]) {
    static const uint8_t zero[] = {V_ASN1_INTEGER, 1, 0}, product[] = {V_ASN1_IA5STRING, 5, 'M', 'i', 'l', 'a', 'n'};
#define AMD "1.3.6.1.4.1.3704.1."
    return add_extension(x, AMD "1", zero, sizeof zero) && add_extension(x, AMD "2", product, sizeof product) &&
           add_extension(x, AMD "3.1", zero, sizeof zero) && add_extension(x, AMD "3.2", zero, sizeof zero) &&
           add_extension(x, AMD "3.3", zero, sizeof zero) && add_extension(x, AMD "3.8", zero, sizeof zero) &&
           add_extension(x, AMD "4", chip_id, CHIP_ID);
#undef AMD
}

static bool add_ca_extensions(X509 *x) {
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, x, x, NULL, NULL, 0);
    const int nids[] = {NID_basic_constraints, NID_key_usage};
    const char *const values[] = {"critical,CA:TRUE", "critical,keyCertSign,cRLSign"};
    for (int i = 0; i < 2; i++) {
        X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nids[i], values[i]);
        bool ok = extension && X509_add_ext(x, extension, -1);
        X509_EXTENSION_free(extension);
        if (!ok) return false;
    }
    return true;
}

static X509 *issue(int level, EVP_PKEY *key, X509 *issuer, EVP_PKEY *issuer_key, int64_t at,
                   const uint8_t chip_id[CHIP_ID]) {
    X509 *x = X509_new();
    uint64_t serial;
    bool ok = x && RAND_bytes((uint8_t *)&serial, sizeof serial) == 1 && X509_set_version(x, X509_VERSION_3) &&
              ASN1_INTEGER_set_uint64(X509_get_serialNumber(x), serial >> 1) &&
              ASN1_TIME_set(X509_getm_notBefore(x), at) && ASN1_TIME_set(X509_getm_notAfter(x), at + TEN_YEARS) &&
              set_name(X509_get_subject_name(x), names[level]) &&
              X509_set_issuer_name(x, issuer ? X509_get_subject_name(issuer) : X509_get_subject_name(x)) &&
              X509_set_pubkey(x, key) && (level == LEAF ? add_vcek_extensions(x, chip_id) : add_ca_extensions(x)) &&
              X509_sign(x, issuer_key, EVP_sha384()) > 0;
    if (ok) return x;
    X509_free(x);
    return NULL;
}

struct attest_signer *attest_signer_new(int64_t at) {
    struct attest_signer *s = calloc(1, sizeof *s);
    EVP_PKEY *keys[LEVELS] = {0};
    bool ok = s && RAND_bytes(s->chip_id, sizeof s->chip_id) == 1;
    for (int i = 0; ok && i < LEVELS; i++) {
        keys[i] = EVP_EC_gen("P-384");
        ok = keys[i] &&
             (s->certs[i] = issue(i, keys[i], i ? s->certs[i - 1] : NULL, i ? keys[i - 1] : keys[0], at, s->chip_id));
    }
    /* The keys above the leaf are forgotten: this root will never vouch for another signer. */
    EVP_PKEY_free(keys[ROOT]);
    EVP_PKEY_free(keys[INTERMEDIATE]);
    if (s)
        s->key = keys[LEAF];
    else
        EVP_PKEY_free(keys[LEAF]);
    ERR_clear_error();
    if (ok) return s;
    attest_signer_free(s);
    return NULL;
}

static char *text_of(BIO *bio) {
    char *data;
    long size = BIO_get_mem_data(bio, &data);
    return size > 0 ? strndup(data, (size_t)size) : NULL;
}

char *attest_signer_export(const struct attest_signer *s) {
    BIO *bio = BIO_new(BIO_s_mem());
    bool ok = bio && PEM_write_bio_PKCS8PrivateKey(bio, s->key, NULL, NULL, 0, NULL, NULL) == 1;
    for (int i = LEVELS; ok && i-- > 0;)
        ok = PEM_write_bio_X509(bio, s->certs[i]) == 1;
    char *text = ok ? text_of(bio) : NULL;
    BIO_free(bio);
    return text;
}

char *attest_signer_certificates(const struct attest_signer *s, bool root) {
    BIO *bio = BIO_new(BIO_s_mem());
    bool ok = bio != NULL;
    for (int i = root ? ROOT : LEAF; ok && i >= (root ? ROOT : INTERMEDIATE); i--)
        ok = PEM_write_bio_X509(bio, s->certs[i]) == 1;
    char *text = ok ? text_of(bio) : NULL;
    BIO_free(bio);
    return text;
}

/* The chip id stands in the leaf. */
static bool read_chip_id(struct attest_signer *s) {
    ASN1_OBJECT *object = OBJ_txt2obj("1.3.6.1.4.1.3704.1.4", 1);
    int at = object ? X509_get_ext_by_OBJ(s->certs[LEAF], object, -1) : -1;
    ASN1_OBJECT_free(object);
    if (at < 0) return false;
    const ASN1_OCTET_STRING *value = X509_EXTENSION_get_data(X509_get_ext(s->certs[LEAF], at));
    if (ASN1_STRING_length(value) != CHIP_ID) return false;
    memcpy(s->chip_id, ASN1_STRING_get0_data(value), CHIP_ID);
    return true;
}

struct attest_signer *attest_signer_load(struct attest_bytes pem) {
    struct attest_signer *s = calloc(1, sizeof *s);
    BIO *bio = BIO_new_mem_buf(pem.data, (int)pem.size);
    bool ok = s && bio && (s->key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL));
    for (int i = LEVELS; ok && i-- > 0;)
        ok = (s->certs[i] = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL;
    ok = ok && X509_check_private_key(s->certs[LEAF], s->key) == 1 && read_chip_id(s);
    BIO_free(bio);
    ERR_clear_error();
    if (ok) return s;
    attest_signer_free(s);
    return NULL;
}

/* ---- The report: SNP ABI 1.55, table 23, version 3 ---- */

enum {
    AT_VERSION = 0x000,
    AT_GUEST_SVN = 0x004,
    AT_POLICY = 0x008,
    AT_FAMILY_ID = 0x010,
    AT_IMAGE_ID = 0x020,
    AT_ALGORITHM = 0x034,
    AT_REPORT_DATA = 0x050,
    AT_MEASUREMENT = 0x090,
    AT_HOST_DATA = 0x0c0,
    AT_REPORT_ID = 0x140,
    AT_REPORT_ID_MA = 0x160,
    AT_CPUID = 0x188,
    AT_CHIP_ID = 0x1a0,
    AT_CURRENT_VERSION = 0x1e8,
    AT_COMMITTED_VERSION = 0x1ec,
    AT_SIGNATURE = 0x2a0,
    SCALAR_FIELD = 72,
    SCALAR = 48,
};

static void put_le(uint8_t *at, uint64_t n, unsigned size) {
    for (unsigned i = 0; i < size; i++)
        at[i] = (uint8_t)(n >> 8 * i);
}

bool attest_signer_report(const struct attest_signer *s, const struct attest_signer_claims *c,
                          uint8_t report[ATTEST_SNP_REPORT]) {
    static const uint8_t milan[3] = {0x19, 0x01, 0x01}, firmware[3] = {0, 55, 1};
    memset(report, 0, ATTEST_SNP_REPORT);
    put_le(report + AT_VERSION, 3, 4);
    put_le(report + AT_GUEST_SVN, c->guest_svn, 4);
    put_le(report + AT_POLICY, c->policy ? c->policy : 0x30000, 8);
    put_le(report + AT_ALGORITHM, 1, 4);
    memcpy(report + AT_FAMILY_ID, c->family_id, sizeof c->family_id);
    memcpy(report + AT_IMAGE_ID, c->image_id, sizeof c->image_id);
    memcpy(report + AT_REPORT_DATA, c->report_data, sizeof c->report_data);
    memcpy(report + AT_MEASUREMENT, c->measurement, sizeof c->measurement);
    memcpy(report + AT_HOST_DATA, c->host_data, sizeof c->host_data);
    memset(report + AT_REPORT_ID_MA, 0xff, 32);
    memcpy(report + AT_CPUID, milan, sizeof milan);
    memcpy(report + AT_CHIP_ID, s->chip_id, sizeof s->chip_id);
    memcpy(report + AT_CURRENT_VERSION, firmware, sizeof firmware);
    memcpy(report + AT_COMMITTED_VERSION, firmware, sizeof firmware);
    uint8_t der[160];
    size_t size = sizeof der;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && RAND_bytes(report + AT_REPORT_ID, 32) == 1 &&
              EVP_DigestSignInit(ctx, NULL, EVP_sha384(), NULL, s->key) == 1 &&
              EVP_DigestSign(ctx, der, &size, report, AT_SIGNATURE) == 1;
    EVP_MD_CTX_free(ctx);
    const uint8_t *at = der;
    ECDSA_SIG *sig = ok ? d2i_ECDSA_SIG(NULL, &at, (long)size) : NULL;
    ok = sig && BN_bn2lebinpad(ECDSA_SIG_get0_r(sig), report + AT_SIGNATURE, SCALAR) == SCALAR &&
         BN_bn2lebinpad(ECDSA_SIG_get0_s(sig), report + AT_SIGNATURE + SCALAR_FIELD, SCALAR) == SCALAR;
    ECDSA_SIG_free(sig);
    return ok;
}
