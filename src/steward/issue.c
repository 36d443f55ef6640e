/* The certificate: what the grant says, in the request's key. Nothing of the request is copied but names, key,
 * workload, nonce and evidence, all of which were checked. */
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "steward.h"

enum { BACKDATED = 60 /* clocks of clients that are a little slow */, LIFE_MIN = 60 };

static int64_t seconds(const ASN1_TIME *t) {
    struct tm tm;
    return ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) : INT64_MIN;
}

static bool push_conf(STACK_OF(X509_EXTENSION) * list, X509 *ca, X509 *x, int nid, const char *value) {
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, ca, x, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    if (e && sk_X509_EXTENSION_push(list, e) > 0) return true;
    X509_EXTENSION_free(e);
    return false;
}

/* Everything an end entity has; the names, too. */
static bool push_common(STACK_OF(X509_EXTENSION) * list, X509 *ca, X509 *x, const char *const *names, size_t count) {
    return push_conf(list, ca, x, NID_basic_constraints, "critical,CA:FALSE") &&
           push_conf(list, ca, x, NID_key_usage, "critical,digitalSignature") &&
           push_conf(list, ca, x, NID_ext_key_usage, "serverAuth,clientAuth") &&
           push_conf(list, ca, x, NID_subject_key_identifier, "hash") &&
           push_conf(list, ca, x, NID_authority_key_identifier, "keyid:always") &&
           attest_identity_add_names(list, names, count, X509_NAME_entry_count(X509_get_subject_name(x)) == 0);
}

/* The common name, for programs that show it: the first name, where it fits (RFC 5280: 64). */
static bool set_subject(X509 *x, const char *name) {
    return strlen(name) > 64 ||
           X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_UTF8, (const uint8_t *)name, -1, -1, 0);
}

/* An unsigned certificate of this authority for [now - BACKDATED, until]. */
static X509 *begin(struct steward *s, EVP_PKEY *key, int64_t now, int64_t until, const char *name) {
    X509 *x = X509_new();
    int64_t from = now - BACKDATED, ca_from = seconds(X509_get0_notBefore(s->ca));
    if (from < ca_from) from = ca_from;
    bool ok = x && X509_set_version(x, X509_VERSION_3) && steward_set_serial(x) &&
              ASN1_TIME_set(X509_getm_notBefore(x), from) && ASN1_TIME_set(X509_getm_notAfter(x), until) &&
              set_subject(x, name) && X509_set_issuer_name(x, X509_get_subject_name(s->ca)) && X509_set_pubkey(x, key);
    if (ok) return x;
    X509_free(x);
    return NULL;
}

static bool finish(struct steward *s, X509 *x, STACK_OF(X509_EXTENSION) * list) {
    bool ok = true;
    for (int i = 0; ok && i < sk_X509_EXTENSION_num(list); i++)
        ok = X509_add_ext(x, sk_X509_EXTENSION_value(list, i), -1);
    return ok && X509_sign(x, s->key.key, steward_key_digest(s->key.key)) > 0;
}

/* ---- What the evidence says ---- */

static struct attest_bytes fact_bytes(const struct attest_result *r, const char *name) {
    const struct attest_fact *f = attest_result_fact(r, name);
    if (!f || f->value.kind != ATTEST_BYTES) return (struct attest_bytes){0};
    return (struct attest_bytes){f->value.bytes, f->value.size};
}

static struct attest_bytes measurement_of(const struct attest_result *r) {
    static const char *const names[] = {"measurement", "mrenclave", "mrtd", "pcr0", "enclave_hash"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct attest_bytes b = fact_bytes(r, names[i]);
        if (b.size) return b;
    }
    return (struct attest_bytes){0};
}

/* Intel's status; of SNP the reported TCB; of others nothing is known but that the policy accepted them. */
static void tcb_of(const struct attest_result *r, char *out, size_t size) {
    const struct attest_fact *reported = attest_result_fact(r, "reported_tcb");
    if (r->tcb_status)
        snprintf(out, size, "%s", r->tcb_status);
    else if (reported)
        attest_value_format(&reported->value, out, size);
    else
        snprintf(out, size, "accepted");
}

static bool push_text(STACK_OF(X509_EXTENSION) * list, const char *oid, const char *text) {
    return attest_identity_add(list, oid, V_ASN1_UTF8STRING,
                               (struct attest_bytes){(const uint8_t *)text, strlen(text)});
}

static bool push_evidence(STACK_OF(X509_EXTENSION) * list, const struct steward_request *r,
                          const struct attest_result *result) {
    char tcb[200];
    tcb_of(result, tcb, sizeof tcb);
    struct attest_bytes measurement = measurement_of(result);
    ASN1_OBJECT *cmw = OBJ_txt2obj(ATTEST_OID_CMW, 1);
    int at = cmw ? X509v3_get_ext_by_OBJ(r->extensions, cmw, -1) : -1;
    ASN1_OBJECT_free(cmw);
    X509_EXTENSION *evidence = at >= 0 ? X509_EXTENSION_dup(X509v3_get_ext(r->extensions, at)) : NULL;
    bool ok = evidence && X509_EXTENSION_set_critical(evidence, 0) && sk_X509_EXTENSION_push(list, evidence) > 0;
    if (!ok) X509_EXTENSION_free(evidence);
    return ok && measurement.size && attest_identity_add(list, ATTEST_OID_WORKLOAD, V_ASN1_OCTET_STRING, r->workload) &&
           attest_identity_add(list, ATTEST_OID_MEASUREMENT, V_ASN1_OCTET_STRING, measurement) &&
           push_text(list, ATTEST_OID_TEE, attest_tee_names[result->tee]) && push_text(list, ATTEST_OID_TCB, tcb) &&
           attest_identity_add(list, ATTEST_OID_NONCE, V_ASN1_OCTET_STRING, r->nonce);
}

/* ---- Both kinds ---- */

/* No certificate outlives what it rests on. */
static int64_t end_of_life(struct steward *s, const struct steward_grant *g, int64_t now) {
    int64_t until = now + g->rule->lifetime, ca = seconds(X509_get0_notAfter(s->ca));
    if (ca < until) until = ca;
    if (g->result.valid_until && g->result.valid_until < until) until = g->result.valid_until;
    return until;
}

X509 *steward_issue(struct steward *s, const struct steward_request *r, const struct steward_grant *g, int64_t now,
                    struct steward_reason *why) {
    const char *names[REQUEST_NAMES_MAX];
    for (size_t i = 0; i < r->name_count; i++)
        names[i] = r->names[i];
    int64_t until = end_of_life(s, g, now);
    if (until - now < LIFE_MIN || now < seconds(X509_get0_notBefore(s->ca))) {
        steward_because(why, "authority.validity",
                        "the authority, its collateral or the policy ends (or begins) too soon");
        return NULL;
    }
    X509 *x = begin(s, r->key, now, until, names[0]);
    STACK_OF(X509_EXTENSION) *list = sk_X509_EXTENSION_new_null();
    bool ok = x && list && push_common(list, s->ca, x, names, r->name_count) && push_evidence(list, r, &g->result) &&
              finish(s, x, list);
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
    ERR_clear_error();
    if (ok) return x;
    X509_free(x);
    steward_because(why, "authority.failed", "the certificate could not be made or signed");
    return NULL;
}

X509 *steward_issue_server(struct steward *s, EVP_PKEY *key, int64_t now, int64_t lifetime) {
    const struct steward_list *names = &s->settings->tls_names;
    X509 *x = begin(s, key, now, now + lifetime, names->items[0]);
    STACK_OF(X509_EXTENSION) *list = sk_X509_EXTENSION_new_null();
    bool ok =
        x && list && push_common(list, s->ca, x, (const char *const *)names->items, names->count) && finish(s, x, list);
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
    ERR_clear_error();
    if (ok) return x;
    X509_free(x);
    return NULL;
}

char *steward_pem(X509 *first, STACK_OF(X509) * rest) {
    BIO *bio = BIO_new(BIO_s_mem());
    bool ok = bio && PEM_write_bio_X509(bio, first) == 1;
    for (int i = 0; ok && i < sk_X509_num(rest); i++)
        ok = PEM_write_bio_X509(bio, sk_X509_value(rest, i)) == 1;
    char *data;
    long size = ok ? BIO_get_mem_data(bio, &data) : 0;
    char *text = size > 0 ? strndup(data, (size_t)size) : NULL;
    BIO_free(bio);
    return text;
}
