/* Certificates and certificate requests with evidence in an extension. */
#include <stdlib.h>

#include <openssl/asn1t.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#include <donjon/attest-identity.h>

#include "cbor_pull.h"
#include "crypto.h"
#include "evidence.h"

/* What report data must be for a certificate's key. Where the certificate names a workload, only the digest over both
 * will do: the key's own would leave the workload to whoever holds the key. */
static bool bind_certificate(struct opening *o, struct attest_bytes spki) {
    if (!o->names_workload) return bind_key(o->e, spki);
    uint8_t digest[64];
    struct binding *b =
        add_binding(o->e, ATTEST_RULE_WRAPPER_KEY, "SHA-512 over public key, workload digest and nonce (if any)");
    if (!attest_identity_report_data(spki, o->workload.data, o->nonce, digest)) return false;
    binding_digest(b, digest, sizeof digest);
    o->e->names_workload = true;
    memcpy(o->e->workload, o->workload.data, sizeof o->e->workload);
    _Static_assert(sizeof o->e->nonce == ATTEST_IDENTITY_NONCE_MAX, "read_identity's bound");
    o->e->nonce_size = o->nonce.size;
    if (o->nonce.size) memcpy(o->e->nonce, o->nonce.data, o->nonce.size);
    return true;
}

static const struct extension_kind {
    const char *oid, *name;
    bool (*open)(struct opening *, struct attest_bytes value, struct attest_bytes spki);
} kinds[];

/* ---- CMW (RFC 9999, section 6): CHOICE { json UTF8String, cbor OCTET STRING } ---- */

static bool open_cmw(struct opening *o, struct attest_bytes value, struct attest_bytes spki) {
    const uint8_t *at = value.data;
    int tag, class;
    long size;
    int flags = ASN1_get_object(&at, &size, &tag, &class, (long)value.size);
    if (flags & 0x80 || class != V_ASN1_UNIVERSAL || size < 0 || at + size != value.data + value.size) {
        open_fail(o, "CMW extension: not a single UTF8String or OCTET STRING");
        return false;
    }
    struct attest_bytes inner = {at, (size_t)size};
    bool found = tag == V_ASN1_UTF8STRING     ? open_cmw_json(o, inner)
                 : tag == V_ASN1_OCTET_STRING ? open_cmw_cbor(o, inner)
                                              : false;
    return found && bind_certificate(o, spki);
}

/* ---- Interoperable RA-TLS (CCC): tag 60000 on [evidence, claims]; report data is the digest of the claims, and a
 * claim the digest of the key ---- */

enum { TAG_RATLS = 60000, HASH_SHA256 = 1, HASH_SHA384 = 7, HASH_SHA512 = 8 };

static bool claim_names_key(struct attest_bytes claims, struct attest_bytes spki) {
    struct reader value;
    struct attest_bytes entry, hash;
    uint8_t digest[64];
    uint64_t algorithm;
    if (!cb_find_text(reader_of(claims), "pubkey-hash", &value) || !cb_bytes(&value, &entry)) return false;
    struct reader r = reader_of(entry);
    if (!cb_array(&r, 2) || !cb_uint(&r, &algorithm) || !cb_bytes(&r, &hash) || r.left) return false;
    size_t size = algorithm == HASH_SHA256 ? 32 : algorithm == HASH_SHA384 ? 48 : algorithm == HASH_SHA512 ? 64 : 0;
    bool ok = size == 32   ? sha256(spki.data, spki.size, digest)
              : size == 48 ? sha384(spki.data, spki.size, digest)
              : size == 64 ? sha512(spki.data, spki.size, digest)
                           : false;
    return ok && bytes_equal(hash, (struct attest_bytes){digest, size});
}

/* TCG's own use of the same extension: a wrapper (DICE Attestation Architecture 1.1, DiceConceptualMessageWrapper), in
 * ASN.1 as above or bare, or a report as it is. */
static bool open_dice(struct opening *o, struct attest_bytes value, struct attest_bytes spki) {
    enum { OCTET_STRING = 0x04, UTF8_STRING = 0x0c };
    bool in_asn1 = value.size && (value.data[0] == OCTET_STRING || value.data[0] == UTF8_STRING);
    if (in_asn1 && open_cmw(o, value, spki)) return true;
    return open_bytes(o, value) && bind_certificate(o, spki);
}

static bool open_ratls(struct opening *o, struct attest_bytes value, struct attest_bytes spki) {
    struct reader r = reader_of(value), look = r;
    bool pair = cb_array(&look, 2) && cb_next(&look).kind == CB_BYTES; /* without the tag: of before it had one */
    if (cb_peek(&r).kind != CB_TAG && !pair) {
        if (o->error_size) *o->error = 0; /* what is wrong with the wrapper inside, or nothing more to say */
        if (open_dice(o, value, spki)) return true;
        if (!*o->error) open_fail(o, "DICE evidence extension: neither tag 60000 on [evidence, claims] nor a wrapper");
        return false;
    }
    struct attest_bytes quote, claims;
    bool tagged = cb_peek(&r).kind == CB_TAG;
    if (tagged && cb_next(&r).number != TAG_RATLS) return open_bytes(o, value) && bind_certificate(o, spki);
    if (!cb_array(&r, 2) || !cb_bytes(&r, &quote) || !cb_bytes(&r, &claims) || r.left || !cb_well_formed(claims)) {
        open_fail(o, "DICE evidence extension: not tag 60000 on [evidence, claims]");
        return false;
    }
    if (!open_bytes(o, quote)) return false;
    uint8_t digest[32];
    sha256(claims.data, claims.size, digest);
    binding_digest(add_binding(o->e, ATTEST_RULE_WRAPPER_CLAIMS, "SHA-256 of the claims, then zeros"), digest,
                   sizeof digest);
    struct reader at;
    struct attest_bytes nonce;
    if (cb_find_text(reader_of(claims), "nonce", &at) && cb_bytes(&at, &nonce))
        add_chosen(o->e, "the claim \"nonce\"", nonce);
    bool ours = claim_names_key(claims, spki);
    add_remark(o->e, ATTEST_RULE_WRAPPER_KEY, ours, "a pubkey-hash claim that is this key's",
               ours ? "it is" : "absent or another key's");
    return true;
}

/* ---- A report or quote as it is ---- */

/* Some hash the key alone (for EC the point), without its algorithm. */
static bool bind_plain(struct opening *o, struct attest_bytes spki) {
    const uint8_t *at = spki.data, *bits;
    int size = 0;
    uint8_t digest[32];
    X509_PUBKEY *key = bind_key(o->e, spki) ? d2i_X509_PUBKEY(NULL, &at, (long)spki.size) : NULL;
    bool ok = key && X509_PUBKEY_get0_param(NULL, &bits, &size, NULL, key) == 1 && sha256(bits, (size_t)size, digest);
    if (ok) binding_digest(&o->e->bindings[o->e->binding_count - 1], digest, sizeof digest);
    X509_PUBKEY_free(key);
    return ok;
}

static bool open_plain(struct opening *o, struct attest_bytes value, struct attest_bytes spki) {
    enum { OCTET_STRING = 0x04 };
    if (value.size && value.data[0] == OCTET_STRING) {
        const uint8_t *at = value.data;
        ASN1_OCTET_STRING *string = d2i_ASN1_OCTET_STRING(NULL, &at, (long)value.size);
        bool found = string && open_bytes(o, (struct attest_bytes){ASN1_STRING_get0_data(string),
                                                                   (size_t)ASN1_STRING_length(string)});
        ASN1_OCTET_STRING_free(string);
        if (found) return bind_plain(o, spki);
    }
    return open_bytes(o, value) && bind_plain(o, spki);
}

/* The content of a value that is one OCTET STRING or UTF8String; anything else as it is. */
static struct attest_bytes octets_of(struct attest_bytes value) {
    const uint8_t *at = value.data;
    int tag, class;
    long size;
    if (!value.size) return value;
    int flags = ASN1_get_object(&at, &size, &tag, &class, (long)value.size);
    bool whole = !(flags & 0x80) && class == V_ASN1_UNIVERSAL &&
                 (tag == V_ASN1_OCTET_STRING || tag == V_ASN1_UTF8STRING) && size >= 0 &&
                 at + size == value.data + value.size;
    return whole ? (struct attest_bytes){at, (size_t)size} : value;
}

/* Open Enclave (and with it Azure's attestation service) hashes the key as PEM text, the terminating zero included. */
static bool open_oe_plain(struct opening *o, struct attest_bytes value, struct attest_bytes spki) {
    if (!open_plain(o, value, spki)) return false;
    BIO *bio = BIO_new(BIO_s_mem());
    char *text;
    uint8_t digest[32];
    bool ok = bio && PEM_write_bio(bio, "PUBLIC KEY", "", spki.data, (long)spki.size) > 0 && BIO_write(bio, "", 1) == 1;
    long size = ok ? BIO_get_mem_data(bio, &text) : 0;
    ok = size > 0 && sha256((const uint8_t *)text, (size_t)size, digest);
    if (ok) binding_digest(&o->e->bindings[o->e->binding_count - 1], digest, sizeof digest);
    BIO_free(bio);
    return ok;
}

/* Azure's attestation service in an SNP guest: JSON with report and certificates. */
static bool open_azure(struct opening *o, struct attest_bytes value, struct attest_bytes spki) {
    return open_oe_plain(o, octets_of(value), spki);
}

/* ---- dstack (Phala): the quote, or a structure of theirs around it, and in the extension next to it the event log.
 * Report data is SHA-512("ratls-cert:" || SubjectPublicKeyInfo). ---- */

static bool bind_dstack(struct opening *o, struct attest_bytes spki) {
    static const char label[] = "ratls-cert:";
    uint8_t digest[64];
    unsigned size = sizeof digest;
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool ok = md && EVP_DigestInit_ex(md, EVP_sha512(), NULL) == 1 && EVP_DigestUpdate(md, label, strlen(label)) == 1 &&
              EVP_DigestUpdate(md, spki.data, spki.size) == 1 && EVP_DigestFinal_ex(md, digest, &size) == 1;
    EVP_MD_CTX_free(md);
    struct binding *b = add_binding(o->e, ATTEST_RULE_WRAPPER_KEY, "SHA-512 of \"ratls-cert:\" and the public key");
    if (ok) binding_digest(b, digest, sizeof digest);
    return ok;
}

static bool open_dstack(struct opening *o, struct attest_bytes value, struct attest_bytes spki) {
    struct attest_bytes inner = octets_of(value);
    if (open_bytes(o, inner)) return bind_dstack(o, spki);
    struct attest_bytes quote = quote_within(inner);
    if (quote.size && open_bytes(o, quote)) return bind_dstack(o, spki);
    open_fail(o, "dstack's RA-TLS extension: no quote in it");
    return false;
}

static void add_dstack_log(struct attest_evidence *e, const STACK_OF(X509_EXTENSION) * extensions) {
    ASN1_OBJECT *object = OBJ_txt2obj("1.3.6.1.4.1.62397.1.2", 1);
    int at = object ? X509v3_get_ext_by_OBJ(extensions, object, -1) : -1;
    if (at >= 0 && !e->log.data) {
        const ASN1_OCTET_STRING *value = X509_EXTENSION_get_data(X509v3_get_ext(extensions, at));
        attest_evidence_add_log(
            e, octets_of((struct attest_bytes){ASN1_STRING_get0_data(value), (size_t)ASN1_STRING_length(value)}));
    }
    ASN1_OBJECT_free(object);
}

/* ---- Enarx: SEQUENCE of evidence, certificates, lists and TCB info, each where its kind shows. Enarx' own structure
 * nests lists deeper (SEQUENCE { url, CRL }); what looks like evidence is evidence, everything else is offered as
 * endorsement. ---- */

static bool enarx_item(struct opening *o, const ASN1_TYPE *item, int depth);

static bool enarx_sequence(struct opening *o, const uint8_t *data, size_t size, int depth) {
    const uint8_t *at = data;
    STACK_OF(ASN1_TYPE) *items = depth ? d2i_ASN1_SEQUENCE_ANY(NULL, &at, (long)size) : NULL;
    bool found = false;
    for (int i = 0; i < sk_ASN1_TYPE_num(items); i++)
        found |= enarx_item(o, sk_ASN1_TYPE_value(items, i), depth - 1);
    sk_ASN1_TYPE_pop_free(items, ASN1_TYPE_free);
    return found;
}

static bool enarx_item(struct opening *o, const ASN1_TYPE *item, int depth) {
    if (item->type == V_ASN1_OCTET_STRING || item->type == V_ASN1_UTF8STRING || item->type == V_ASN1_IA5STRING) {
        struct attest_bytes bytes = {item->value.asn1_string->data, (size_t)item->value.asn1_string->length};
        if (!o->e->report.data && item->type == V_ASN1_OCTET_STRING && open_bytes(o, bytes)) return true;
        if (endorsements_add(&o->e->carried, bytes)) return false;
        return bytes.size && bytes.data[0] == 0x30 ? enarx_sequence(o, bytes.data, bytes.size, depth) : false;
    }
    if (item->type != V_ASN1_SEQUENCE) return false;
    struct attest_bytes bytes = {item->value.sequence->data, (size_t)item->value.sequence->length};
    if (endorsements_add(&o->e->carried, bytes)) return false;
    return enarx_sequence(o, bytes.data, bytes.size, depth);
}

static bool open_enarx(struct opening *o, struct attest_bytes value, struct attest_bytes spki) {
    enum { NESTING = 4 };
    bool found = enarx_sequence(o, value.data, value.size, NESTING);
    ERR_clear_error();
    if (!found) open_fail(o, "Enarx extension: no report or quote in it");
    return found && bind_key(o->e, spki);
}

static bool open_enarx_kvm(struct opening *o, struct attest_bytes value, struct attest_bytes spki) {
    (void)value, (void)spki;
    open_fail(o,
              "Enarx' KVM extension (1.3.6.1.4.1.58270.1.1): the keep ran without a TEE, there is no evidence in it");
    return false;
}

static const struct extension_kind kinds[] = {
    {"1.3.6.1.5.5.7.1.35", "CMW extension", open_cmw},
    {"2.23.133.5.4.9", "TCG DICE evidence extension (RA-TLS)", open_ratls},
    {"1.3.6.1.4.1.58270.1.3", "Enarx SNP extension", open_enarx},
    {"1.3.6.1.4.1.58270.1.2", "Enarx SGX extension", open_enarx},
    {"1.3.6.1.4.1.58270.1.1", "Enarx KVM extension", open_enarx_kvm},
    {"1.2.840.113741.1337.6", "Gramine RA-TLS extension", open_plain},
    {"1.2.840.113741.1.13.1", "SGX SDK RA-TLS extension", open_plain},
    {"1.2.840.113741.1337.7", "Cosmian RA-TLS extension (SNP)", open_plain},
    {"1.2.840.113741.1337.8", "Cosmian RA-TLS extension (TDX)", open_plain},
    {"1.2.840.113556.10.1.1", "Open Enclave extension", open_oe_plain},
    {"1.2.840.113556.10.1.2", "Open Enclave evidence extension", open_oe_plain},
    {"1.3.6.1.4.1.311.105.1", "Open Enclave extension (Microsoft's arc)", open_oe_plain},
    {"1.3.6.1.4.1.311.105.2", "Open Enclave evidence extension (Microsoft's arc)", open_oe_plain},
    {"1.3.6.1.4.1.311.105.1000.1", "Azure attestation service's extension", open_azure},
    {"1.3.6.1.4.1.62397.1.1", "dstack RA-TLS extension", open_dstack},
    {"1.3.6.1.4.1.62397.1.8", "dstack RA-TLS extension (attestation)", open_dstack},
};

/* ---- Certificate and request ---- */

/* The workload a certificate or request names, and the nonce its evidence answers. */
static bool read_identity(struct opening *o, const STACK_OF(X509_EXTENSION) * extensions) {
    bool nonce;
    o->nonce = (struct attest_bytes){0};
    bool workload = attest_identity_octets(extensions, ATTEST_OID_WORKLOAD, ATTEST_WORKLOAD_DIGEST,
                                           ATTEST_WORKLOAD_DIGEST, &o->workload, &o->names_workload);
    bool answers =
        attest_identity_octets(extensions, ATTEST_OID_NONCE, 1, ATTEST_IDENTITY_NONCE_MAX, &o->nonce, &nonce);
    if (workload == o->names_workload && answers == nonce && (!nonce || workload)) return true;
    open_fail(o, "workload or nonce extension (" ATTEST_ARC "): malformed, there twice, or one without the other");
    return false;
}

static bool open_kinds(struct opening *o, const STACK_OF(X509_EXTENSION) * extensions, EVP_PKEY *key) {
    uint8_t *spki = NULL;
    int spki_size = key ? i2d_PUBKEY(key, &spki) : 0;
    bool found = false;
    for (size_t k = 0; spki_size > 0 && !found && k < sizeof kinds / sizeof *kinds; k++) {
        ASN1_OBJECT *object = OBJ_txt2obj(kinds[k].oid, 1);
        int at = X509v3_get_ext_by_OBJ(extensions, object, -1);
        if (at >= 0) {
            const ASN1_OCTET_STRING *value = X509_EXTENSION_get_data(X509v3_get_ext(extensions, at));
            size_t wrappers = o->e->wrapper_count;
            open_wrapper(o, kinds[k].name);
            struct attest_bytes bytes = {ASN1_STRING_get0_data(value), (size_t)ASN1_STRING_length(value)};
            found = kinds[k].open(o, bytes, (struct attest_bytes){spki, (size_t)spki_size});
            if (found && kinds[k].open == open_dstack) add_dstack_log(o->e, extensions);
            if (!found) o->e->wrapper_count = wrappers;
        }
        ASN1_OBJECT_free(object);
    }
    OPENSSL_free(spki);
    return found;
}

static bool open_extensions(struct opening *o, const STACK_OF(X509_EXTENSION) * extensions, EVP_PKEY *key) {
    struct opening outer = *o; /* a certificate in the evidence of another has an identity of its own */
    bool found = read_identity(o, extensions) && open_kinds(o, extensions, key);
    o->names_workload = outer.names_workload;
    o->workload = outer.workload;
    o->nonce = outer.nonce;
    return found;
}

static bool open_certificate(struct opening *o, X509 *x) {
    size_t wrappers = o->e->wrapper_count;
    open_wrapper(o, "X.509 certificate");
    EVP_PKEY *key = X509_get0_pubkey(x);
    if (!open_extensions(o, X509_get0_extensions(x), key)) {
        o->e->wrapper_count = wrappers;
        return false;
    }
    o->e->in_certificate = true;
    o->e->not_before = time_of(X509_get0_notBefore(x));
    o->e->not_after = time_of(X509_get0_notAfter(x));
    bool self_issued = X509_NAME_cmp(X509_get_subject_name(x), X509_get_issuer_name(x)) == 0;
    bool self_signed = key && X509_verify(x, key) == 1;
    ERR_clear_error();
    if (self_signed || self_issued)
        add_remark(o->e, ATTEST_RULE_WRAPPER_SIGNATURE, self_signed, "signed by its own key",
                   self_signed ? "it is" : "the signature does not verify");
    else /* names in it are the issuer's word; the evidence speaks for the key only */
        add_remark(o->e, ATTEST_RULE_WRAPPER_SIGNATURE, true, NULL,
                   "issued by an authority, which is not checked here");
    return true;
}

static bool open_request(struct opening *o, struct attest_bytes der) {
    const uint8_t *at = der.data;
    X509_REQ *request = d2i_X509_REQ(NULL, &at, (long)der.size);
    if (!request || at != der.data + der.size) {
        X509_REQ_free(request);
        return false;
    }
    size_t wrappers = o->e->wrapper_count;
    open_wrapper(o, "PKCS#10 certificate request");
    STACK_OF(X509_EXTENSION) *extensions = X509_REQ_get_extensions(request);
    EVP_PKEY *key = X509_REQ_get0_pubkey(request);
    bool found = extensions && open_extensions(o, extensions, key);
    if (found) {
        bool ok = key && X509_REQ_verify(request, key) == 1;
        add_remark(o->e, ATTEST_RULE_WRAPPER_SIGNATURE, ok, "signed by its own key",
                   ok ? "it is" : "the signature does not verify");
    } else
        o->e->wrapper_count = wrappers;
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    X509_REQ_free(request);
    return found;
}

bool open_x509(struct opening *o, struct attest_bytes der) {
    const uint8_t *at = der.data;
    X509 *x = d2i_X509(NULL, &at, (long)der.size);
    bool whole = x && at == der.data + der.size;
    bool found = whole ? open_certificate(o, x) : open_request(o, der);
    X509_free(x);
    ERR_clear_error();
    return found;
}

/* The first block that carries evidence; the other certificates in the file are its chain. */
bool open_pem(struct opening *o, struct attest_bytes text) {
    BIO *bio = BIO_new_mem_buf(text.data, (int)text.size);
    char *name, *header;
    uint8_t *der;
    long size;
    bool found = false;
    while (bio && !found && PEM_read_bio(bio, &name, &header, &der, &size) == 1) {
        found = open_x509(o, (struct attest_bytes){der, (size_t)size});
        OPENSSL_free(name);
        OPENSSL_free(header);
        OPENSSL_free(der);
    }
    BIO_free(bio);
    ERR_clear_error();
    return found;
}

bool attest_evidence_bind_pem(struct attest_evidence *e, struct attest_bytes pem) {
    BIO *bio = BIO_new_mem_buf(pem.data, (int)pem.size);
    EVP_PKEY *key = bio ? PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL) : NULL;
    if (bio && !key) {
        BIO_free(bio);
        bio = BIO_new_mem_buf(pem.data, (int)pem.size);
        X509 *x = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
        key = x ? X509_get_pubkey(x) : NULL;
        X509_free(x);
    }
    uint8_t *spki = NULL;
    int size = key ? i2d_PUBKEY(key, &spki) : 0;
    bool ok = size > 0 && bind_key(e, (struct attest_bytes){spki, (size_t)size});
    OPENSSL_free(spki);
    EVP_PKEY_free(key);
    BIO_free(bio);
    ERR_clear_error();
    return ok;
}
