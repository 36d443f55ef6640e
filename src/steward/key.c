/* The authority's key: a file, or a PKCS#11 token through OpenSSL's pkcs11 engine. */
#define OPENSSL_SUPPRESS_DEPRECATED /* engines: Debian 12 has no PKCS#11 provider */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/engine.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include "steward.h"

static bool fail(char error[SETTINGS_ERROR], const char *what, const char *why) {
    snprintf(error, SETTINGS_ERROR, "%.200s: %s", what, why);
    ERR_clear_error();
    return false;
}

/* ---- File ---- */

static bool load_file(struct steward_key *k, const char *path, char error[SETTINGS_ERROR]) {
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st)) {
        if (fd >= 0) close(fd);
        return fail(error, path, strerror(errno));
    }
    FILE *f = st.st_mode & 077 ? NULL : fdopen(fd, "r");
    if (!f) {
        close(fd);
        return fail(error, path, "others can read this key: chmod 600");
    }
    k->key = PEM_read_PrivateKey(f, NULL, NULL, (void *)"");
    fclose(f);
    return k->key || fail(error, path, "expected a private key in PEM, without a passphrase");
}

/* ---- PKCS#11 ---- */

static const char *last_error(char *out, size_t size) {
    unsigned long code = ERR_peek_last_error();
    snprintf(out, size, "%s", code && ERR_reason_error_string(code) ? ERR_reason_error_string(code) : "unknown error");
    return out;
}

static bool load_token(struct steward_key *k, const char *uri, const char *module, char error[SETTINGS_ERROR]) {
    char why[200];
    ENGINE_load_dynamic();
    ENGINE *e = ENGINE_by_id("pkcs11");
    if (!e) return fail(error, uri, "OpenSSL's pkcs11 engine is not installed (Debian: libengine-pkcs11-openssl)");
    if ((module && !ENGINE_ctrl_cmd_string(e, "MODULE_PATH", module, 0)) || !ENGINE_init(e)) {
        last_error(why, sizeof why);
        ENGINE_free(e);
        return fail(error, module ? module : uri, why);
    }
    ENGINE_free(e); /* the functional reference stays */
    k->key = ENGINE_load_private_key(e, uri, NULL, NULL);
    if (!k->key) {
        last_error(why, sizeof why);
        ENGINE_finish(e);
        return fail(error, "pkcs11", why); /* the URI may hold a PIN */
    }
    k->engine = e;
    return true;
}

static bool key_is_good(const EVP_PKEY *key) {
    int kind = EVP_PKEY_get_base_id(key);
    return kind == EVP_PKEY_ED25519 || (kind == EVP_PKEY_EC && EVP_PKEY_get_bits(key) >= 256) ||
           (kind == EVP_PKEY_RSA && EVP_PKEY_get_bits(key) >= 2048);
}

bool steward_key_load(struct steward_key *k, const char *path_or_uri, const char *module, char error[SETTINGS_ERROR]) {
    *k = (struct steward_key){0};
    bool token = !strncmp(path_or_uri, "pkcs11:", 7);
    if (!(token ? load_token(k, path_or_uri, module, error) : load_file(k, path_or_uri, error))) return false;
    if (key_is_good(k->key)) return true;
    steward_key_free(k);
    return fail(error, token ? "pkcs11" : path_or_uri, "expected EC (256 bits or more), Ed25519 or RSA (2048 or more)");
}

void steward_key_free(struct steward_key *k) {
    EVP_PKEY_free(k->key);
    if (k->engine) ENGINE_finish(k->engine);
    *k = (struct steward_key){0};
}

const EVP_MD *steward_key_digest(const EVP_PKEY *key) {
    if (EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519) return NULL;
    return EVP_PKEY_get_bits(key) == 384 ? EVP_sha384() : EVP_sha256();
}

/* ---- An authority ---- */

static bool add_extension(X509 *x, int nid, const char *value) {
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, x, x, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    bool ok = e && X509_add_ext(x, e, -1);
    X509_EXTENSION_free(e);
    return ok;
}

bool steward_set_serial(X509 *x) {
    uint8_t bytes[16];
    BIGNUM *number = NULL;
    bool ok = RAND_bytes(bytes, sizeof bytes) == 1;
    bytes[0] = (uint8_t)((bytes[0] & 0x7f) | 0x40);
    ok = ok && (number = BN_bin2bn(bytes, sizeof bytes, NULL)) && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(x));
    BN_free(number);
    return ok;
}

X509 *steward_authority_make(EVP_PKEY *key, const char *name, int64_t now, int64_t lifetime) {
    X509 *x = X509_new();
    bool ok =
        x && steward_set_serial(x) && X509_set_version(x, X509_VERSION_3) &&
        ASN1_TIME_set(X509_getm_notBefore(x), now) && ASN1_TIME_set(X509_getm_notAfter(x), now + lifetime) &&
        X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_UTF8, (const uint8_t *)name, -1, -1, 0) &&
        X509_set_issuer_name(x, X509_get_subject_name(x)) && X509_set_pubkey(x, key) &&
        add_extension(x, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
        add_extension(x, NID_key_usage, "critical,keyCertSign,cRLSign,digitalSignature") && /* the last: EAR */
        add_extension(x, NID_subject_key_identifier, "hash") && X509_sign(x, key, steward_key_digest(key)) > 0;
    ERR_clear_error();
    if (ok) return x;
    X509_free(x);
    return NULL;
}
