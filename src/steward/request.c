/* Certificate requests (RFC 2986), read as hostile as they are. Everything is refused that is not known to be harmless:
 * an authority that copies what it does not understand signs what it does not mean. */
#include <arpa/inet.h>
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "steward.h"

bool steward_because(struct steward_reason *why, const char *rule, const char *format, ...) {
    va_list args;
    va_start(args, format);
    snprintf(why->rule, sizeof why->rule, "%s", rule);
    vsnprintf(why->text, sizeof why->text, format, args);
    va_end(args);
    return false;
}

/* ---- Form ---- */

/* PEM with one request and nothing else, or DER, copied. */
static bool read_der(struct steward_request *r, struct attest_bytes bytes) {
    static const char begin[] = "-----BEGIN ";
    size_t at = 0;
    while (at < bytes.size && isspace(bytes.data[at]))
        at++;
    if (bytes.size - at < sizeof begin || memcmp(bytes.data + at, begin, sizeof begin - 1)) {
        r->der = OPENSSL_memdup(bytes.data, bytes.size);
        r->der_size = (int)bytes.size;
        return r->der != NULL;
    }
    BIO *bio = BIO_new_mem_buf(bytes.data, (int)bytes.size);
    char *name = NULL, *header = NULL;
    long size = 0;
    bool ok = bio && PEM_read_bio(bio, &name, &header, &r->der, &size) == 1 && size <= REQUEST_MAX &&
              (!strcmp(name, PEM_STRING_X509_REQ) || !strcmp(name, PEM_STRING_X509_REQ_OLD)) && !*header;
    r->der_size = (int)size;
    OPENSSL_free(name);
    OPENSSL_free(header);
    BIO_free(bio);
    return ok;
}

/* No byte outside what was parsed: what is recorded and digested is what was looked at. */
static bool is_canonical(const struct steward_request *r) {
    uint8_t *again = NULL;
    int size = i2d_X509_REQ(r->x, &again);
    bool same = size == r->der_size && !memcmp(again, r->der, (size_t)size);
    OPENSSL_free(again);
    return same;
}

static bool parse(struct steward_request *r, struct attest_bytes bytes, struct steward_reason *why) {
    if (!bytes.size || bytes.size > REQUEST_MAX)
        return steward_because(why, "request.size", "expected 1 to %d bytes, found %zu", REQUEST_MAX, bytes.size);
    bool der = read_der(r, bytes);
    const uint8_t *at = r->der;
    r->x = der ? d2i_X509_REQ(NULL, &at, r->der_size) : NULL;
    if (!r->x || at != r->der + r->der_size || !is_canonical(r)) {
        X509_REQ_free(r->x); /* not a request: nothing to record */
        r->x = NULL;
        return steward_because(why, "request.malformed", "expected one PKCS#10 request in DER or PEM");
    }
    if (X509_REQ_get_version(r->x) != X509_REQ_VERSION_1)
        return steward_because(why, "request.version", "expected version 1 (0), found %ld", X509_REQ_get_version(r->x));
    if (EVP_Digest(r->der, (size_t)r->der_size, r->digest, NULL, EVP_sha256(), NULL) != 1)
        return steward_because(why, "request.malformed", "no digest");
    return true;
}

/* ---- Key and signature ---- */

/* The curve that the key's AlgorithmIdentifier names; parameters of its own are nobody's curve. */
static int curve_of(X509_REQ *x) {
    X509_ALGOR *algorithm = NULL;
    const ASN1_OBJECT *kind;
    const void *curve;
    int type;
    if (X509_PUBKEY_get0_param(NULL, NULL, NULL, &algorithm, X509_REQ_get_X509_PUBKEY(x)) != 1) return NID_undef;
    X509_ALGOR_get0(&kind, &type, &curve, algorithm);
    return OBJ_obj2nid(kind) == NID_X9_62_id_ecPublicKey && type == V_ASN1_OBJECT ? OBJ_obj2nid(curve) : NID_undef;
}

/* On the curve, and not its zero. */
static bool is_point(EVP_PKEY *key) {
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
    bool ok = ctx && EVP_PKEY_public_check(ctx) == 1;
    EVP_PKEY_CTX_free(ctx);
    return ok;
}

static bool check_key(struct steward_request *r, struct steward_reason *why) {
    int curve = curve_of(r->x), signature = X509_REQ_get_signature_nid(r->x);
    r->key = X509_REQ_get0_pubkey(r->x);
    if ((curve != NID_X9_62_prime256v1 && curve != NID_secp384r1) || !r->key || !is_point(r->key))
        return steward_because(why, "request.key", "expected a key on P-256 or P-384 (named curve)");
    if (signature != NID_ecdsa_with_SHA256 && signature != NID_ecdsa_with_SHA384 && signature != NID_ecdsa_with_SHA512)
        return steward_because(why, "request.signature", "expected ECDSA with SHA-256, SHA-384 or SHA-512");
    if (X509_REQ_verify(r->x, r->key) != 1)
        return steward_because(why, "request.signature", "not signed by its own key");
    return true;
}

/* ---- Names ---- */

static bool add_name(struct steward_request *r, const char *text, size_t size, struct steward_reason *why) {
    if (r->name_count == REQUEST_NAMES_MAX)
        return steward_because(why, "request.names", "expected at most %d names", REQUEST_NAMES_MAX);
    char *out = r->names[r->name_count];
    if (size > STEWARD_NAME_MAX) return steward_because(why, "request.names", "a name of %zu bytes", size);
    for (size_t i = 0; i < size; i++)
        out[i] = (char)tolower((unsigned char)text[i]);
    out[size] = 0;
    r->name_count++;
    return true;
}

static bool add_general(struct steward_request *r, const GENERAL_NAME *name, struct steward_reason *why) {
    if (name->type == GEN_DNS) {
        const char *text = (const char *)ASN1_STRING_get0_data(name->d.dNSName);
        size_t size = (size_t)ASN1_STRING_length(name->d.dNSName);
        if (strnlen(text, size) != size || !add_name(r, text, size, why) ||
            !steward_dns_name(r->names[r->name_count - 1], false))
            return steward_because(why, "request.names", "a DNS name that is none (wildcards are not issued)");
        return true;
    }
    if (name->type == GEN_IPADD) {
        const ASN1_OCTET_STRING *address = name->d.iPAddress;
        int size = ASN1_STRING_length(address);
        char text[INET6_ADDRSTRLEN];
        if ((size != 4 && size != 16) ||
            !inet_ntop(size == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(address), text, sizeof text))
            return steward_because(why, "request.names", "an IP address of %d bytes", size);
        return add_name(r, text, strlen(text), why);
    }
    return steward_because(why, "request.names", "expected DNS names and IP addresses only");
}

static bool read_names(struct steward_request *r, struct steward_reason *why) {
    int critical = 0;
    GENERAL_NAMES *all = X509V3_get_d2i(r->extensions, NID_subject_alt_name, &critical, NULL);
    bool ok = all && sk_GENERAL_NAME_num(all) > 0;
    if (!ok)
        steward_because(why, "request.names",
                        critical == -2 ? "subjectAltName is there twice"
                                       : "expected a subjectAltName with at least one name");
    for (int i = 0; ok && i < sk_GENERAL_NAME_num(all); i++)
        ok = add_general(r, sk_GENERAL_NAME_value(all, i), why);
    GENERAL_NAMES_free(all);
    return ok;
}

/* The subject is not copied; a common name that contradicts the names is a sign of a request that means something else.
 */
static bool check_subject(const struct steward_request *r, struct steward_reason *why) {
    const X509_NAME *subject = X509_REQ_get_subject_name(r->x);
    if (X509_NAME_entry_count(subject) == 0) return true;
    const X509_NAME_ENTRY *entry = X509_NAME_get_entry(subject, 0);
    const ASN1_STRING *value = X509_NAME_ENTRY_get_data(entry);
    bool common =
        X509_NAME_entry_count(subject) == 1 && OBJ_obj2nid(X509_NAME_ENTRY_get_object(entry)) == NID_commonName;
    size_t size = (size_t)ASN1_STRING_length(value);
    for (size_t i = 0; common && i < r->name_count; i++)
        if (strlen(r->names[i]) == size && !strncasecmp(r->names[i], (const char *)ASN1_STRING_get0_data(value), size))
            return true;
    return steward_because(why, "request.subject",
                           "expected an empty subject, or the common name alone, which is one of "
                           "the requested names");
}

/* ---- Extensions ---- */

static bool check_constraints(const struct steward_request *r, struct steward_reason *why) {
    BASIC_CONSTRAINTS *b = X509V3_get_d2i(r->extensions, NID_basic_constraints, NULL, NULL);
    bool ok = b && !b->ca && !b->pathlen;
    bool ca = b && b->ca;
    BASIC_CONSTRAINTS_free(b);
    if (ok) return true;
    return steward_because(why, "request.ca",
                           ca ? "asks to be an authority (CA:TRUE)"
                              : "basicConstraints: expected none, "
                                "or CA:FALSE once");
}

static bool check_usage(const struct steward_request *r, struct steward_reason *why) {
    enum { DIGITAL_SIGNATURE = 0, KEY_AGREEMENT = 4, BITS = 9 };
    ASN1_BIT_STRING *usage = X509V3_get_d2i(r->extensions, NID_key_usage, NULL, NULL);
    bool ok = usage != NULL;
    for (int i = 0; ok && i < BITS; i++)
        ok = i == DIGITAL_SIGNATURE || i == KEY_AGREEMENT || !ASN1_BIT_STRING_get_bit(usage, i);
    ASN1_BIT_STRING_free(usage);
    return ok || steward_because(why, "request.usage", "keyUsage: expected digitalSignature or keyAgreement only");
}

static bool check_extended(const struct steward_request *r, struct steward_reason *why) {
    EXTENDED_KEY_USAGE *usages = X509V3_get_d2i(r->extensions, NID_ext_key_usage, NULL, NULL);
    bool ok = usages != NULL;
    for (int i = 0; ok && i < sk_ASN1_OBJECT_num(usages); i++) {
        int nid = OBJ_obj2nid(sk_ASN1_OBJECT_value(usages, i));
        ok = nid == NID_server_auth || nid == NID_client_auth;
    }
    EXTENDED_KEY_USAGE_free(usages);
    return ok || steward_because(why, "request.usage", "extendedKeyUsage: expected serverAuth or clientAuth only");
}

static bool check_extension(const struct steward_request *r, X509_EXTENSION *e, struct steward_reason *why) {
    static const char *const ours[] = {ATTEST_OID_WORKLOAD, ATTEST_OID_NONCE, ATTEST_OID_CMW};
    char oid[128];
    OBJ_obj2txt(oid, sizeof oid, X509_EXTENSION_get_object(e), 1);
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (!strcmp(oid, ours[i])) return true;
    switch (OBJ_obj2nid(X509_EXTENSION_get_object(e))) {
    case NID_subject_alt_name: return true;
    case NID_basic_constraints: return check_constraints(r, why);
    case NID_key_usage: return check_usage(r, why);
    case NID_ext_key_usage: return check_extended(r, why);
    default: return steward_because(why, "request.extension", "asks for an extension that is not issued: %s", oid);
    }
}

static bool read_extensions(struct steward_request *r, struct steward_reason *why) {
    int count = X509_REQ_get_attr_count(r->x);
    const X509_ATTRIBUTE *a = count == 1 ? X509_REQ_get_attr(r->x, 0) : NULL;
    if (!a || OBJ_obj2nid(X509_ATTRIBUTE_get0_object((X509_ATTRIBUTE *)a)) != NID_ext_req ||
        X509_ATTRIBUTE_count(a) != 1 || !(r->extensions = X509_REQ_get_extensions(r->x)))
        return steward_because(why, "request.attributes", "expected one attribute, extensionRequest");
    for (int i = 0; i < sk_X509_EXTENSION_num(r->extensions); i++) {
        X509_EXTENSION *e = sk_X509_EXTENSION_value(r->extensions, i);
        if (X509v3_get_ext_by_OBJ(r->extensions, X509_EXTENSION_get_object(e), i) >= 0)
            return steward_because(why, "request.extension", "an extension is there twice");
        if (!check_extension(r, e, why)) return false;
    }
    bool present;
    if (!attest_identity_octets(r->extensions, ATTEST_OID_WORKLOAD, ATTEST_WORKLOAD_DIGEST, ATTEST_WORKLOAD_DIGEST,
                                &r->workload, &present))
        return steward_because(why, "request.workload", "expected the workload digest (" ATTEST_OID_WORKLOAD ")");
    if (!attest_identity_octets(r->extensions, ATTEST_OID_NONCE, 1, ATTEST_IDENTITY_NONCE_MAX, &r->nonce, &present))
        return steward_because(why, "nonce.missing", "expected the steward's nonce (" ATTEST_OID_NONCE ")");
    return true;
}

bool steward_request_read(struct steward_request *r, struct attest_bytes bytes, struct steward_reason *why) {
    memset(r, 0, sizeof *r);
    bool ok = parse(r, bytes, why) && check_key(r, why) && read_extensions(r, why) && read_names(r, why) &&
              check_subject(r, why);
    ERR_clear_error();
    return ok;
}

void steward_request_free(struct steward_request *r) {
    sk_X509_EXTENSION_pop_free(r->extensions, X509_EXTENSION_free);
    X509_REQ_free(r->x);
    OPENSSL_free(r->der);
    memset(r, 0, sizeof *r);
}
