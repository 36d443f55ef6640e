#include "identity.h"
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SERIAL_BYTES = 16,
    SKEW = 300,      /* seconds that a peer's clock may be behind */
    CHAIN_MOST = 8,  /* certificates in a steward's answer */
    NONCE_LEAST = 16 /* bytes */
};

__attribute__((format(printf, 3, 4))) static bool fail(char *error, size_t size, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(error, size, format, args);
    va_end(args);
    ERR_clear_error();
    return false;
}

static bool fail_openssl(char *error, size_t size) {
    const char *reason = ERR_reason_error_string(ERR_peek_error());
    return fail(error, size, "cannot make a certificate: %s", reason ? reason : "out of memory");
}

/* ---- what certificates and requests say ---- */

static bool add_names(STACK_OF(X509_EXTENSION) * list, const struct config *c) {
    static const char *const here[] = {"localhost", "127.0.0.1"};
    if (c->n_tls_names == 0) return attest_identity_add_names(list, here, sizeof here / sizeof *here, false);
    return attest_identity_add_names(list, c->tls_names, c->n_tls_names, false);
}

/* Evidence over key, workload and nonce, as extensions. *found: there is some; without it the list gets nothing. */
static bool add_evidence(STACK_OF(X509_EXTENSION) * list, EVP_PKEY *key, const uint8_t *workload,
                         struct attest_bytes nonce, const struct identity_host *host, bool *found) {
    uint8_t report_data[64], *spki = NULL;
    int n = i2d_PUBKEY(key, &spki);
    struct attest_bytes evidence = {0}, endorsements = {0};
    bool ok =
        n > 0 && attest_identity_report_data((struct attest_bytes){spki, (size_t)n}, workload, nonce, report_data);
    OPENSSL_free(spki);
    *found = ok && host->evidence(host->ctx, report_data, &evidence, &endorsements);
    return ok && (!*found || attest_identity_extensions(list, evidence, endorsements, workload, nonce));
}

/* ---- signed by itself ---- */

static bool add_usage(X509 *x, int nid, const char *value) {
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, x, x, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    bool ok = e && X509_add_ext(x, e, -1) == 1;
    X509_EXTENSION_free(e);
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

static bool fill(X509 *x, EVP_PKEY *key, const STACK_OF(X509_EXTENSION) * list, int64_t now, int64_t life) {
    X509_NAME *name = X509_get_subject_name(x);
    bool ok = X509_set_version(x, X509_VERSION_3) == 1 && set_serial(x) &&
              X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)"Donjon keep", -1, -1, 0) == 1 &&
              X509_set_issuer_name(x, name) == 1 && X509_set_pubkey(x, key) == 1 &&
              ASN1_TIME_set(X509_getm_notBefore(x), (time_t)(now - SKEW)) &&
              ASN1_TIME_set(X509_getm_notAfter(x), (time_t)(now + life)) &&
              add_usage(x, NID_basic_constraints, "critical,CA:FALSE") &&
              add_usage(x, NID_key_usage, "critical,digitalSignature") &&
              add_usage(x, NID_ext_key_usage, "serverAuth,clientAuth") &&
              add_usage(x, NID_subject_key_identifier, "hash");
    for (int i = 0; ok && i < sk_X509_EXTENSION_num(list); i++)
        ok = X509_add_ext(x, sk_X509_EXTENSION_value(list, i), -1) == 1;
    return ok && X509_sign(x, key, EVP_sha256()) > 0;
}

static bool sign_itself(struct identity *id, const struct config *c, const uint8_t *workload,
                        const struct identity_host *host, int64_t now, char *error, size_t size) {
    int64_t life = (int64_t)(c->tls_lifetime / CONFIG_SECOND);
    STACK_OF(X509_EXTENSION) *list = sk_X509_EXTENSION_new_null();
    bool found;
    id->certificate = X509_new();
    id->renew_at = now + life * 2 / 3;
    id->ends = now + life;
    bool ok = list && id->certificate &&
              add_evidence(list, id->key, workload, (struct attest_bytes){0}, host, &found) && add_names(list, c) &&
              fill(id->certificate, id->key, list, now, life);
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
    return ok || fail_openssl(error, size);
}

/* ---- issued by the steward ---- */

static bool make_request(const struct identity *id, const struct config *c, const uint8_t *workload,
                         struct attest_bytes nonce, const struct identity_host *host, uint8_t **der, int *n,
                         char *error, size_t size) {
    STACK_OF(X509_EXTENSION) *list = sk_X509_EXTENSION_new_null();
    bool found = false, ok = list && add_evidence(list, id->key, workload, nonce, host, &found);
    X509_REQ *request = ok && found && add_names(list, c) ? attest_identity_request(id->key, list) : NULL;
    *n = request ? i2d_X509_REQ(request, der) : 0;
    X509_REQ_free(request);
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
    if (ok && !found) return fail(error, size, "this host makes no evidence, which the steward wants to see");
    return *n > 0 || fail_openssl(error, size);
}

/* Every certificate of a text, CHAIN_MOST at most. NULL: none, or something else in it. */
static STACK_OF(X509) * read_chain(const void *pem, size_t n) {
    STACK_OF(X509) *list = sk_X509_new_null();
    BIO *bio = BIO_new_mem_buf(pem, (int)n);
    X509 *x = NULL;
    bool ok = list && bio;
    while (ok && (x = PEM_read_bio_X509(bio, NULL, NULL, NULL)))
        if (sk_X509_num(list) == CHAIN_MOST || sk_X509_push(list, x) <= 0) {
            X509_free(x);
            ok = false;
        }
    ok = ok && sk_X509_num(list) > 0 && ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    ERR_clear_error();
    BIO_free(bio);
    if (ok) return list;
    sk_X509_pop_free(list, X509_free);
    return NULL;
}

/* Does the chain end in the configured CA, by this keep's clock? */
static const char *chain_wrong(const STACK_OF(X509) * chain, const char *ca, int64_t now) {
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    STACK_OF(X509) *anchors = read_chain(ca, strlen(ca));
    const char *wrong = store && ctx && anchors ? NULL : "steward-ca cannot be read";
    for (int i = 0; !wrong && i < sk_X509_num(anchors); i++)
        if (X509_STORE_add_cert(store, sk_X509_value(anchors, i)) != 1) wrong = "out of memory";
    if (!wrong && X509_STORE_CTX_init(ctx, store, sk_X509_value(chain, 0), (STACK_OF(X509) *)(uintptr_t)chain) == 1) {
        X509_VERIFY_PARAM *p = X509_STORE_CTX_get0_param(ctx);
        X509_VERIFY_PARAM_set_time(p, (time_t)now);
        X509_VERIFY_PARAM_set_flags(p, X509_V_FLAG_PARTIAL_CHAIN); /* steward-ca may be issued itself */
        X509_VERIFY_PARAM_set_purpose(p, X509_PURPOSE_SSL_SERVER);
        if (X509_verify_cert(ctx) != 1) wrong = X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx));
    } else if (!wrong)
        wrong = "out of memory";
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    sk_X509_pop_free(anchors, X509_free);
    ERR_clear_error();
    return wrong;
}

/* What has come back must be for this key and this workload, and of the configured CA. */
static const char *answer_wrong(const struct identity *id, const STACK_OF(X509) * chain, const char *ca,
                                const uint8_t *workload, int64_t now) {
    X509 *leaf = sk_X509_value(chain, 0);
    struct attest_bytes named;
    bool present;
    if (X509_check_private_key(leaf, id->key) != 1) return "it is for another key";
    if (X509_check_ca(leaf) != 0) return "it is a CA's";
    if (!attest_identity_octets(X509_get0_extensions(leaf), ATTEST_OID_WORKLOAD, ATTEST_WORKLOAD_DIGEST,
                                ATTEST_WORKLOAD_DIGEST, &named, &present))
        return "it names no workload";
    if (memcmp(named.data, workload, ATTEST_WORKLOAD_DIGEST) != 0) return "it names another workload";
    return chain_wrong(chain, ca, now);
}

static bool take_answer(struct identity *id, const struct config *c, const uint8_t *workload, int64_t now,
                        struct attest_bytes pem, char *error, size_t size) {
    STACK_OF(X509) *chain = read_chain(pem.data, pem.size);
    const char *wrong = chain ? answer_wrong(id, chain, c->steward_ca, workload, now) : "there is none in the answer";
    if (wrong) {
        sk_X509_pop_free(chain, X509_free);
        return fail(error, size, "the steward's certificate is refused: %s", wrong);
    }
    int days = 0, seconds = 0;
    id->certificate = sk_X509_shift(chain);
    id->chain = chain;
    id->issued = true;
    ASN1_TIME *at = ASN1_TIME_set(NULL, (time_t)now);
    if (!at || ASN1_TIME_diff(&days, &seconds, at, X509_get0_notAfter(id->certificate)) != 1) days = seconds = 0;
    ASN1_TIME_free(at);
    int64_t life = (int64_t)days * 86400 + seconds;
    id->renew_at = now + life * 2 / 3;
    id->ends = now + life;
    return true;
}

static enum identity_state ask(struct identity_making *m, const struct config *c, const struct identity_host *host,
                               enum identity_request which, struct attest_bytes body, char *error, size_t size) {
    static const char *const paths[] = {[IDENTITY_NONCE] = "/v1/nonce", [IDENTITY_CERTIFY] = "/v1/certify"};
    char url[CONFIG_PATH_MAX + 32];
    size_t n = strlen(c->steward);
    while (n > 0 && c->steward[n - 1] == '/')
        n--;
    snprintf(url, sizeof url, "%.*s%s", (int)n, c->steward, paths[which]);
    m->asked = which;
    return host->ask(host->ctx, url, which, body, error, size);
}

/* The steward's nonce is there: a request with evidence over it. */
static enum identity_state ask_for_certificate(struct identity_making *m, const struct config *c,
                                               const uint8_t *workload, const struct identity_host *host,
                                               struct attest_bytes answer, char *error, size_t size) {
    uint8_t nonce[ATTEST_IDENTITY_NONCE_MAX], *der = NULL;
    int n;
    if (answer.size < NONCE_LEAST || answer.size > sizeof nonce) {
        fail(error, size, "the steward's nonce has %zu bytes; expected %d to %zu", answer.size, NONCE_LEAST,
             sizeof nonce);
        return IDENTITY_REFUSED;
    }
    memcpy(nonce, answer.data, answer.size);
    if (!make_request(&m->id, c, workload, (struct attest_bytes){nonce, answer.size}, host, &der, &n, error, size))
        return IDENTITY_REFUSED;
    enum identity_state state = ask(m, c, host, IDENTITY_CERTIFY, (struct attest_bytes){der, (size_t)n}, error, size);
    OPENSSL_free(der);
    return state;
}

/* ---- what comes of it ---- */

void identity_give_up(struct identity_making *m, const struct identity_host *host) {
    if (host->forget) host->forget(host->ctx);
    identity_free(&m->id);
}

static enum identity_state settle(struct identity_making *m, const struct identity_host *host,
                                  enum identity_state state) {
    if (state == IDENTITY_FAILED || state == IDENTITY_REFUSED) identity_give_up(m, host);
    return state;
}

enum identity_state identity_begin(struct identity_making *m, const struct config *c,
                                   const uint8_t workload[ATTEST_WORKLOAD_DIGEST], const struct identity_host *host,
                                   int64_t now, char *error, size_t size) {
    bool by_steward = c->steward && c->steward_ca;
    *m = (struct identity_making){.id.key = EVP_EC_gen("P-256")};
    bool ok = m->id.key || fail_openssl(error, size);
    if (!ok || !by_steward) {
        ok = ok && sign_itself(&m->id, c, workload, host, now, error, size);
        return settle(m, host, ok ? IDENTITY_READY : IDENTITY_REFUSED);
    }
    return settle(m, host, ask(m, c, host, IDENTITY_NONCE, (struct attest_bytes){0}, error, size));
}

enum identity_state identity_go_on(struct identity_making *m, const struct config *c,
                                   const uint8_t workload[ATTEST_WORKLOAD_DIGEST], const struct identity_host *host,
                                   int64_t now, char *error, size_t size) {
    struct attest_bytes answer = {0};
    enum identity_state state = host->answer(host->ctx, &answer, error, size);
    if (state != IDENTITY_READY) return settle(m, host, state);
    if (m->asked == IDENTITY_NONCE)
        state = ask_for_certificate(m, c, workload, host, answer, error, size);
    else if (!take_answer(&m->id, c, workload, now, answer, error, size))
        state = IDENTITY_REFUSED;
    return settle(m, host, state);
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

struct attest_bytes identity_evidence(const struct identity *id) {
    enum { MOST = 1 << 20 };
    struct attest_bytes cmw = {0};
    bool present;
    (void)attest_identity_octets(X509_get0_extensions(id->certificate), ATTEST_OID_CMW, 1, MOST, &cmw, &present);
    return cmw;
}

void identity_free(struct identity *id) {
    EVP_PKEY_free(id->key);
    X509_free(id->certificate);
    sk_X509_pop_free(id->chain, X509_free);
    *id = (struct identity){0};
}
