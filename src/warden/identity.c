#include "identity.h"
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

enum { SERIAL_BYTES = 16, SKEW = 300 /* seconds that a peer's clock may be behind */ };

static bool add_extension(X509 *x, int nid, const char *value) {
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, x, x, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    bool ok = e && X509_add_ext(x, e, -1) == 1;
    X509_EXTENSION_free(e);
    return ok;
}

static bool push_name(GENERAL_NAMES *names, const char *name) {
    ASN1_OCTET_STRING *address = a2i_IPADDRESS(name);
    ASN1_IA5STRING *dns = address ? NULL : ASN1_IA5STRING_new();
    GENERAL_NAME *g = GENERAL_NAME_new();
    ERR_clear_error();
    if (g && address)
        GENERAL_NAME_set0_value(g, GEN_IPADD, address);
    else if (g && dns && ASN1_STRING_set(dns, name, (int)strlen(name)) == 1)
        GENERAL_NAME_set0_value(g, GEN_DNS, dns);
    else {
        ASN1_OCTET_STRING_free(address);
        ASN1_IA5STRING_free(dns);
        GENERAL_NAME_free(g);
        return false;
    }
    if (sk_GENERAL_NAME_push(names, g) > 0) return true;
    GENERAL_NAME_free(g);
    return false;
}

static bool add_names(X509 *x, const struct config *c) {
    static const char *const here[] = {"localhost", "127.0.0.1", "::1"};
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    bool ok = names;
    for (uint32_t i = 0; ok && i < c->n_tls_names; i++)
        ok = push_name(names, c->tls_names[i]);
    for (size_t i = 0; ok && c->n_tls_names == 0 && i < sizeof here / sizeof *here; i++)
        ok = push_name(names, here[i]);
    ok = ok && X509_add1_ext_i2d(x, NID_subject_alt_name, names, 0, X509V3_ADD_DEFAULT) == 1;
    GENERAL_NAMES_free(names);
    return ok;
}

static bool set_serial(X509 *x) {
    uint8_t bytes[SERIAL_BYTES];
    if (RAND_bytes(bytes, sizeof bytes) != 1) return false;
    bytes[0] = (uint8_t)((bytes[0] & 0x7f) | 0x40); /* positive, and always of this length */
    BIGNUM *n = BN_bin2bn(bytes, sizeof bytes, NULL);
    bool ok = n && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(x));
    BN_free(n);
    return ok;
}

static bool fill(X509 *x, EVP_PKEY *key, const struct config *c, int64_t now, int64_t life) {
    X509_NAME *name = X509_get_subject_name(x);
    return X509_set_version(x, X509_VERSION_3) == 1 && set_serial(x) &&
           X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)"Donjon keep", -1, -1, 0) == 1 &&
           X509_set_issuer_name(x, name) == 1 && X509_set_pubkey(x, key) == 1 &&
           ASN1_TIME_set(X509_getm_notBefore(x), (time_t)(now - SKEW)) &&
           ASN1_TIME_set(X509_getm_notAfter(x), (time_t)(now + life)) &&
           add_extension(x, NID_basic_constraints, "critical,CA:FALSE") &&
           add_extension(x, NID_key_usage, "critical,digitalSignature") &&
           add_extension(x, NID_ext_key_usage, "serverAuth,clientAuth") &&
           add_extension(x, NID_subject_key_identifier, "hash") && add_names(x, c);
}

bool identity_make(struct identity *id, const struct config *c, int64_t now, char *error, size_t size) {
    int64_t life = (int64_t)(c->tls_lifetime / CONFIG_SECOND);
    struct identity new = {.key = EVP_EC_gen("P-256"), .certificate = X509_new(), .renew_at = now + life * 2 / 3};
    if (new.key &&new.certificate && fill(new.certificate, new.key, c, now, life) &&
        X509_sign(new.certificate, new.key, EVP_sha256()) > 0) {
        identity_free(id);
        *id = new;
        return true;
    }
    const char *reason = ERR_reason_error_string(ERR_peek_error());
    snprintf(error, size, "cannot make a certificate: %s", reason ? reason : "out of memory");
    ERR_clear_error();
    identity_free(&new);
    return false;
}

bool identity_use(const struct identity *id, SSL_CTX *ctx) {
    return SSL_CTX_use_cert_and_key(ctx, id->certificate, id->key, id->chain, 1) == 1;
}

char *identity_pem(const struct identity *id, size_t *size) {
    BIO *bio = BIO_new(BIO_s_mem());
    bool ok = bio && PEM_write_bio_X509(bio, id->certificate) == 1;
    for (int i = 0; ok && i < sk_X509_num(id->chain); i++)
        ok = PEM_write_bio_X509(bio, sk_X509_value(id->chain, i)) == 1;
    char *data, *copy = NULL;
    long n = ok ? BIO_get_mem_data(bio, &data) : 0;
    if (n > 0) copy = malloc((size_t)n);
    if (copy) memcpy(copy, data, (size_t)n);
    *size = copy ? (size_t)n : 0;
    BIO_free(bio);
    return copy;
}

void identity_free(struct identity *id) {
    EVP_PKEY_free(id->key);
    X509_free(id->certificate);
    sk_X509_pop_free(id->chain, X509_free);
    *id = (struct identity){0};
}
