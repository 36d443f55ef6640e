/* Identities of keeps: transcripts, and the extensions of certificates and requests. OpenSSL's libcrypto only. */
#include <donjon/attest-identity.h>

#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

/* ---- Report data ---- */

static bool put_lp(EVP_MD_CTX *ctx, struct attest_bytes part) {
    uint8_t size[4];
    if (part.size > UINT32_MAX) return false;
    for (int i = 0; i < 4; i++)
        size[i] = (uint8_t)(part.size >> 8 * i);
    return EVP_DigestUpdate(ctx, size, sizeof size) == 1 &&
           (!part.size || EVP_DigestUpdate(ctx, part.data, part.size) == 1);
}

bool attest_transcript(const char *label, const struct attest_bytes *parts, size_t count, uint8_t digest[64]) {
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && EVP_DigestInit_ex(ctx, EVP_sha512(), NULL) == 1 &&
              put_lp(ctx, (struct attest_bytes){(const uint8_t *)label, strlen(label)});
    for (size_t i = 0; ok && i < count; i++)
        ok = put_lp(ctx, parts[i]);
    ok = ok && EVP_DigestFinal_ex(ctx, digest, NULL) == 1;
    EVP_MD_CTX_free(ctx);
    return ok;
}

bool attest_identity_report_data(struct attest_bytes spki, const uint8_t workload[ATTEST_WORKLOAD_DIGEST],
                                 struct attest_bytes nonce, uint8_t report_data[64]) {
    const struct attest_bytes parts[] = {spki, {workload, ATTEST_WORKLOAD_DIGEST}, nonce};
    return nonce.size ? attest_transcript("donjon csr v1", parts, 3, report_data)
                      : attest_transcript("donjon certificate v1", parts, 2, report_data);
}

/* ---- The wrapper (RFC 9999): a record, or a collection of two. Nothing but heads, texts and byte strings. ---- */

enum {
    CBOR_UINT = 0,
    CBOR_BYTES = 2,
    CBOR_TEXT = 3,
    CBOR_ARRAY = 4,
    CBOR_MAP = 5,
    HEAD_MAX = 5,
    WRAPPER_MAX = 1 << 20
};
enum { INDICATOR_ENDORSEMENTS = 2, INDICATOR_EVIDENCE = 4 }; /* RFC 9999, section 3.1 */

static uint8_t *put_head(uint8_t *at, unsigned major, size_t n) {
    if (n < 24) {
        *at++ = (uint8_t)(major << 5 | n);
        return at;
    }
    unsigned width = n < 0x100 ? 1 : n < 0x10000 ? 2 : 4;
    *at++ = (uint8_t)(major << 5 | (width == 1 ? 24 : width == 2 ? 25 : 26));
    while (width--)
        *at++ = (uint8_t)(n >> 8 * width);
    return at;
}

static uint8_t *put_text(uint8_t *at, const char *text) {
    size_t size = strlen(text);
    at = put_head(at, CBOR_TEXT, size);
    memcpy(at, text, size);
    return at + size;
}

static uint8_t *put_record(uint8_t *at, const char *type, struct attest_bytes value, unsigned indicator) {
    at = put_head(at, CBOR_ARRAY, 3);
    at = put_text(at, type);
    at = put_head(at, CBOR_BYTES, value.size);
    memcpy(at, value.data, value.size);
    return put_head(at + value.size, CBOR_UINT, indicator);
}

static const char evidence_type[] = "application/vnd.donjon.evidence",
                  chain_type[] = "application/pem-certificate-chain";

static uint8_t *wrap(struct attest_bytes evidence, struct attest_bytes endorsements, size_t *size) {
    enum { LABELS = 2 * (8 + 12), TEXTS = sizeof evidence_type + sizeof chain_type + LABELS + 16 * HEAD_MAX };
    if (!evidence.size || evidence.size > WRAPPER_MAX || endorsements.size > WRAPPER_MAX) return NULL;
    uint8_t *out = malloc(evidence.size + endorsements.size + TEXTS), *at = out;
    if (!out) return NULL;
    if (endorsements.size) {
        at = put_text(put_head(at, CBOR_MAP, 2), "evidence");
        at = put_record(at, evidence_type, evidence, INDICATOR_EVIDENCE);
        at = put_text(at, "endorsements");
        at = put_record(at, chain_type, endorsements, INDICATOR_ENDORSEMENTS);
    } else
        at = put_record(at, evidence_type, evidence, INDICATOR_EVIDENCE);
    *size = (size_t)(at - out);
    return out;
}

static bool take(struct attest_bytes *in, size_t n, struct attest_bytes *out) {
    if (n > in->size) return false;
    *out = (struct attest_bytes){in->data, n};
    in->data += n;
    in->size -= n;
    return true;
}

/* A head as put_head writes it: the shortest, 32 bits at most. */
static bool take_head(struct attest_bytes *in, unsigned major, size_t *n) {
    struct attest_bytes first, rest;
    if (!take(in, 1, &first) || first.data[0] >> 5 != major) return false;
    *n = first.data[0] & 31;
    if (*n < 24) return true;
    unsigned width = *n == 24 ? 1 : *n == 25 ? 2 : *n == 26 ? 4 : 0;
    if (width == 0 || !take(in, width, &rest)) return false;
    *n = 0;
    for (unsigned i = 0; i < width; i++)
        *n = *n << 8 | rest.data[i];
    return *n >= (width == 1 ? 24u : width == 2 ? 0x100u : 0x10000u);
}

static bool take_text(struct attest_bytes *in, const char *text) {
    size_t n;
    struct attest_bytes found;
    return take_head(in, CBOR_TEXT, &n) && n == strlen(text) && take(in, n, &found) && !memcmp(found.data, text, n);
}

static bool take_record(struct attest_bytes *in, const char *type, unsigned indicator, struct attest_bytes *value) {
    size_t n, found;
    return take_head(in, CBOR_ARRAY, &n) && n == 3 && take_text(in, type) && take_head(in, CBOR_BYTES, &n) &&
           take(in, n, value) && value->size > 0 && take_head(in, CBOR_UINT, &found) && found == indicator;
}

bool attest_identity_unwrap(struct attest_bytes cmw, struct attest_bytes *evidence, struct attest_bytes *endorsements) {
    size_t n;
    struct attest_bytes alone = cmw;
    *endorsements = (struct attest_bytes){0};
    if (take_record(&alone, evidence_type, INDICATOR_EVIDENCE, evidence)) return alone.size == 0;
    return take_head(&cmw, CBOR_MAP, &n) && n == 2 && take_text(&cmw, "evidence") &&
           take_record(&cmw, evidence_type, INDICATOR_EVIDENCE, evidence) && take_text(&cmw, "endorsements") &&
           take_record(&cmw, chain_type, INDICATOR_ENDORSEMENTS, endorsements) && cmw.size == 0;
}

/* ---- Extensions ---- */

bool attest_identity_add(STACK_OF(X509_EXTENSION) * list, const char *oid, int type, struct attest_bytes bytes) {
    ASN1_OBJECT *object = OBJ_txt2obj(oid, 1);
    ASN1_STRING *inner = bytes.size <= INT32_MAX ? ASN1_STRING_type_new(type) : NULL;
    ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
    uint8_t *der = NULL;
    int size = inner && ASN1_STRING_set(inner, bytes.data, (int)bytes.size)
                   ? type == V_ASN1_UTF8STRING ? i2d_ASN1_UTF8STRING(inner, &der) : i2d_ASN1_OCTET_STRING(inner, &der)
                   : -1;
    X509_EXTENSION *e = object && value && size > 0 && ASN1_OCTET_STRING_set(value, der, size)
                            ? X509_EXTENSION_create_by_OBJ(NULL, object, 0, value)
                            : NULL;
    bool ok = e && sk_X509_EXTENSION_push(list, e) > 0;
    if (!ok) X509_EXTENSION_free(e);
    OPENSSL_free(der);
    ASN1_OCTET_STRING_free(value);
    ASN1_STRING_free(inner);
    ASN1_OBJECT_free(object);
    return ok;
}

bool attest_identity_extensions(STACK_OF(X509_EXTENSION) * list, struct attest_bytes evidence,
                                struct attest_bytes endorsements, const uint8_t workload[ATTEST_WORKLOAD_DIGEST],
                                struct attest_bytes nonce) {
    size_t size = 0;
    uint8_t *cmw = nonce.size <= ATTEST_IDENTITY_NONCE_MAX ? wrap(evidence, endorsements, &size) : NULL;
    bool ok = cmw && attest_identity_add(list, ATTEST_OID_CMW, V_ASN1_OCTET_STRING, (struct attest_bytes){cmw, size}) &&
              attest_identity_add(list, ATTEST_OID_WORKLOAD, V_ASN1_OCTET_STRING,
                                  (struct attest_bytes){workload, ATTEST_WORKLOAD_DIGEST}) &&
              (!nonce.size || attest_identity_add(list, ATTEST_OID_NONCE, V_ASN1_OCTET_STRING, nonce));
    free(cmw);
    return ok;
}

static GENERAL_NAME *name_of(const char *text) {
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_OCTET_STRING *address = a2i_IPADDRESS(text);
    ASN1_IA5STRING *dns = address ? NULL : ASN1_IA5STRING_new();
    if (name && address)
        GENERAL_NAME_set0_value(name, GEN_IPADD, address);
    else if (name && dns && *text && ASN1_STRING_set(dns, text, -1))
        GENERAL_NAME_set0_value(name, GEN_DNS, dns);
    else {
        ASN1_OCTET_STRING_free(address);
        ASN1_IA5STRING_free(dns);
        GENERAL_NAME_free(name);
        name = NULL;
    }
    ERR_clear_error(); /* "not an address" is one */
    return name;
}

bool attest_identity_add_names(STACK_OF(X509_EXTENSION) * list, const char *const *names, size_t count, bool critical) {
    GENERAL_NAMES *all = GENERAL_NAMES_new();
    bool ok = all != NULL;
    for (size_t i = 0; ok && i < count; i++) {
        GENERAL_NAME *name = name_of(names[i]);
        ok = name && sk_GENERAL_NAME_push(all, name) > 0;
        if (!ok) GENERAL_NAME_free(name);
    }
    X509_EXTENSION *e = ok ? X509V3_EXT_i2d(NID_subject_alt_name, critical, all) : NULL;
    ok = e && sk_X509_EXTENSION_push(list, e) > 0;
    if (!ok) X509_EXTENSION_free(e);
    GENERAL_NAMES_free(all);
    return ok;
}

X509_REQ *attest_identity_request(EVP_PKEY *key, STACK_OF(X509_EXTENSION) * list) {
    X509_REQ *request = X509_REQ_new();
    /* Ed25519 and its like bring their own digest. */
    const EVP_MD *md =
        EVP_PKEY_get_base_id(key) == EVP_PKEY_EC || EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA ? EVP_sha256() : NULL;
    bool ok = request && X509_REQ_set_version(request, X509_REQ_VERSION_1) && X509_REQ_set_pubkey(request, key) &&
              X509_REQ_add_extensions(request, list) && X509_REQ_sign(request, key, md) > 0;
    ERR_clear_error();
    if (ok) return request;
    X509_REQ_free(request);
    return NULL;
}

bool attest_identity_octets(const STACK_OF(X509_EXTENSION) * list, const char *oid, size_t least, size_t most,
                            struct attest_bytes *out, bool *present) {
    ASN1_OBJECT *object = OBJ_txt2obj(oid, 1);
    int at = object ? X509v3_get_ext_by_OBJ(list, object, -1) : -1;
    bool once = at >= 0 && X509v3_get_ext_by_OBJ(list, object, at) < 0;
    ASN1_OBJECT_free(object);
    *present = at >= 0;
    if (!once) return false;
    const ASN1_OCTET_STRING *value = X509_EXTENSION_get_data(X509v3_get_ext(list, at));
    const uint8_t *from = ASN1_STRING_get0_data(value), *in = from;
    int whole = ASN1_STRING_length(value), tag, class;
    long size;
    int flags = ASN1_get_object(&in, &size, &tag, &class, whole);
    ERR_clear_error();
    if (flags || tag != V_ASN1_OCTET_STRING || class != V_ASN1_UNIVERSAL || size < 0 || in + size != from + whole)
        return false; /* flags: constructed, indefinite or broken */
    *out = (struct attest_bytes){in, (size_t)size};
    return out->size >= least && out->size <= most;
}
