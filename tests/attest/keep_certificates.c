/* keep_certificates DIR: certificates with evidence of the software signer in every shape, for a TLS server to show,
 * and some that must not be believed. Writes NAME.pem with its key, root.pem (the development root) and chain.pem. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cbor.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <donjon/attest.h>

static const char *directory;
enum { HOUR = 3600, YEAR = 365 * 24 * HOUR };

static void need(bool ok, const char *what) {
    if (ok) return;
    fprintf(stderr, "keep_certificates: %s\n", what);
    exit(1);
}

static FILE *create(const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.pem", directory, name);
    FILE *f = fopen(path, "w");
    need(f, path);
    return f;
}

/* ---- A little CBOR, appended ---- */

struct buffer {
    uint8_t data[16384];
    size_t size;
};

static void put(struct buffer *b, const void *data, size_t size) {
    need(size <= sizeof b->data - b->size, "buffer");
    memcpy(b->data + b->size, data, size);
    b->size += size;
}
static void put_head(struct buffer *b, size_t (*encode)(size_t, unsigned char *, size_t), size_t n) {
    uint8_t head[9];
    put(b, head, encode(n, head, sizeof head));
}
static void put_bytes(struct buffer *b, const void *data, size_t size) {
    put_head(b, cbor_encode_bytestring_start, size);
    put(b, data, size);
}
static void put_text(struct buffer *b, const char *text) {
    put_head(b, cbor_encode_string_start, strlen(text));
    put(b, text, strlen(text));
}
static void put_number(struct buffer *b, uint8_t n) {
    uint8_t head[2];
    put(b, head, cbor_encode_uint8(n, head, sizeof head));
}

/* ---- The shapes ---- */

enum { EVIDENCE = 4, ENDORSEMENTS = 2 };

/* [media type, value, indicator] */
static void put_record(struct buffer *b, const char *type, const void *value, size_t size, uint8_t indicator) {
    put_head(b, cbor_encode_array_start, 3);
    put_text(b, type);
    put_bytes(b, value, size);
    put_number(b, indicator);
}

static void wrap_octets(struct buffer *out, const struct buffer *inner) {
    ASN1_OCTET_STRING *string = ASN1_OCTET_STRING_new();
    uint8_t *der = NULL;
    need(string && ASN1_OCTET_STRING_set(string, inner->data, (int)inner->size), "octets");
    int size = i2d_ASN1_OCTET_STRING(string, &der);
    put(out, der, (size_t)size);
    OPENSSL_free(der);
    ASN1_OCTET_STRING_free(string);
}

static void cmw(struct buffer *out, const uint8_t *report) {
    struct buffer inner = {.size = 0};
    put_record(&inner, "application/vnd.amd.sev-snp-report", report, ATTEST_SNP_REPORT, EVIDENCE);
    wrap_octets(out, &inner);
}

/* Evidence and what is needed to check it: nothing has to be fetched. */
static void cmw_collection(struct buffer *out, const uint8_t *report, const char *chain) {
    struct buffer inner = {.size = 0};
    put_head(&inner, cbor_encode_map_start, 2);
    put_text(&inner, "evidence");
    put_record(&inner, "application/vnd.amd.sev-snp-report", report, ATTEST_SNP_REPORT, EVIDENCE);
    put_text(&inner, "endorsements");
    put_record(&inner, "application/pem-certificate-chain", chain, strlen(chain), ENDORSEMENTS);
    wrap_octets(out, &inner);
}

static void cmw_json(struct buffer *out, const uint8_t *report) {
    enum { BASE64 = (ATTEST_SNP_REPORT + 2) / 3 * 4 };
    char base64[BASE64 + 1], text[BASE64 + 100];
    EVP_EncodeBlock((uint8_t *)base64, report, ATTEST_SNP_REPORT);
    for (char *c = base64; *c; c++)
        *c = *c == '+' ? '-' : *c == '/' ? '_' : *c;
    base64[strcspn(base64, "=")] = 0;
    int size = snprintf(text, sizeof text, "[\"application/vnd.amd.sev-snp-report\",\"%s\",4]", base64);
    uint8_t *der = NULL;
    ASN1_UTF8STRING *string = ASN1_UTF8STRING_new();
    ASN1_STRING_set(string, text, size);
    size = i2d_ASN1_UTF8STRING(string, &der);
    put(out, der, (size_t)size);
    OPENSSL_free(der);
    ASN1_UTF8STRING_free(string);
}

/* Tag 60000 on [evidence, claims]. */
static void ratls(struct buffer *out, const uint8_t *report, const struct buffer *claims) {
    uint8_t head[9];
    put(out, head, cbor_encode_tag(60000, head, sizeof head));
    put_head(out, cbor_encode_array_start, 2);
    put_bytes(out, report, ATTEST_SNP_REPORT);
    put_bytes(out, claims->data, claims->size);
}

/* {"pubkey-hash": << [1, SHA-256 of the key] >>, "nonce": h'..'} */
static void ratls_claims(struct buffer *out, const uint8_t *spki, size_t size) {
    struct buffer hash = {.size = 0};
    uint8_t digest[32];
    EVP_Digest(spki, size, digest, NULL, EVP_sha256(), NULL);
    put_head(&hash, cbor_encode_array_start, 2);
    put_number(&hash, 1);
    put_bytes(&hash, digest, sizeof digest);
    put_head(out, cbor_encode_map_start, 2);
    put_text(out, "pubkey-hash");
    put_bytes(out, hash.data, hash.size);
    put_text(out, "nonce");
    put_bytes(out, "ratls nonce", 11);
}

/* ---- Certificates ---- */

static void write_certificate(const char *name, EVP_PKEY *key, const char *oid, const struct buffer *value,
                              int64_t from, int64_t until) {
    X509 *x = X509_new();
    X509_set_version(x, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    ASN1_TIME_set(X509_getm_notBefore(x), from);
    ASN1_TIME_set(X509_getm_notAfter(x), until);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC, (const uint8_t *)"keep", -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(x));
    X509_set_pubkey(x, key);
    if (oid) {
        ASN1_OBJECT *object = OBJ_txt2obj(oid, 1);
        ASN1_OCTET_STRING *string = ASN1_OCTET_STRING_new();
        ASN1_OCTET_STRING_set(string, value->data, (int)value->size);
        X509_EXTENSION *e = X509_EXTENSION_create_by_OBJ(NULL, object, 0, string);
        X509_add_ext(x, e, -1);
        X509_EXTENSION_free(e), ASN1_OCTET_STRING_free(string), ASN1_OBJECT_free(object);
    }
    need(X509_sign(x, key, EVP_sha256()) > 0, "cannot sign");
    FILE *f = create(name);
    need(PEM_write_X509(f, x) == 1 && PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) == 1, name);
    fclose(f);
    X509_free(x);
}

static void write_text(const char *name, const char *text) {
    FILE *f = create(name);
    need(text && fputs(text, f) >= 0, name);
    fclose(f);
}

static void report_of(const struct attest_signer *s, const void *bound, size_t size, const EVP_MD *md,
                      uint8_t report[ATTEST_SNP_REPORT]) {
    struct attest_signer_claims claims = {.measurement = {0xd0, 0x11, 0x0e}};
    EVP_Digest(bound, size, claims.report_data, NULL, md, NULL);
    need(attest_signer_report(s, &claims, report), "cannot sign a report");
}

int main(int argc, char **argv) {
    need(argc == 2, "usage: keep_certificates DIR");
    directory = argv[1];
    static const char cmw_oid[] = "1.3.6.1.5.5.7.1.35", dice_oid[] = "2.23.133.5.4.9";
    int64_t now = time(NULL), from = now - HOUR, until = now + HOUR;
    struct attest_signer *s = attest_signer_new(now - HOUR), *old = attest_signer_new(now - 11 * (int64_t)YEAR);
    need(s && old, "no signer");
    char *root = attest_signer_certificates(s, true), *chain = attest_signer_certificates(s, false),
         *old_root = attest_signer_certificates(old, true), *old_chain = attest_signer_certificates(old, false);
    write_text("root", root), write_text("chain", chain);
    write_text("old-root", old_root), write_text("old-chain", old_chain);
    EVP_PKEY *key = EVP_EC_gen("P-256"), *other = EVP_EC_gen("P-256");
    uint8_t *spki = NULL, report[ATTEST_SNP_REPORT];
    size_t size = (size_t)i2d_PUBKEY(key, &spki);
    struct buffer b = {.size = 0}, claims = {.size = 0};
    report_of(s, spki, size, EVP_sha512(), report);
    cmw(&b, report);
    write_certificate("cmw", key, cmw_oid, &b, from, until);
    write_certificate("stolen", other, cmw_oid, &b, from, until);
    write_certificate("expired", key, cmw_oid, &b, from - HOUR, from);
    b.size = 0, cmw_collection(&b, report, chain);
    write_certificate("cmw-collection", key, cmw_oid, &b, from, until);
    b.size = 0, cmw_json(&b, report);
    write_certificate("cmw-json", key, cmw_oid, &b, from, until);
    b.size = 0, put(&b, report, sizeof report);
    write_certificate("dice", key, dice_oid, &b, from, until);
    ratls_claims(&claims, spki, size);
    report_of(s, claims.data, claims.size, EVP_sha256(), report);
    b.size = 0, ratls(&b, report, &claims);
    write_certificate("ratls", key, dice_oid, &b, from, until);
    write_certificate("ratls-stolen", other, dice_oid, &b, from, until);
    claims.data[claims.size - 1] ^= 1; /* another nonce than the report vouches for */
    b.size = 0, ratls(&b, report, &claims);
    write_certificate("ratls-claims", key, dice_oid, &b, from, until);
    report_of(old, spki, size, EVP_sha512(), report);
    b.size = 0, cmw(&b, report);
    write_certificate("old-signer", key, cmw_oid, &b, from, until);
    write_certificate("plain", key, NULL, NULL, from, until);
    free(root), free(chain), free(old_root), free(old_chain);
    OPENSSL_free(spki), EVP_PKEY_free(key), EVP_PKEY_free(other);
    attest_signer_free(s), attest_signer_free(old);
    return 0;
}
