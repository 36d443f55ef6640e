/* One request from beginning to end: read, judge, spend the nonce, issue, record, answer. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "attest/ear.h"
#include "steward.h"

/* ---- Opening ---- */

static bool load_authority(struct steward *s, char error[SETTINGS_ERROR]) {
    char *path = steward_settings_path(s->settings, s->settings->ca_certificate);
    FILE *f = path ? fopen(path, "re") : NULL;
    s->ca = f ? PEM_read_X509(f, NULL, NULL, NULL) : NULL;
    s->ca_chain = sk_X509_new_null();
    for (X509 *x; s->ca && s->ca_chain && (x = PEM_read_X509(f, NULL, NULL, NULL));)
        if (!sk_X509_push(s->ca_chain, x)) X509_free(x);
    if (f) fclose(f);
    const char *wrong = !f                                               ? strerror(errno)
                        : !s->ca || !s->ca_chain                         ? "expected certificates in PEM"
                        : X509_check_private_key(s->ca, s->key.key) != 1 ? "not the certificate of authority.key"
                        : X509_check_ca(s->ca) != 1                      ? "not an authority (CA:TRUE)"
                        : !(s->ca_pem = steward_pem(s->ca, s->ca_chain)) ? "out of memory"
                                                                         : NULL;
    if (wrong) snprintf(error, SETTINGS_ERROR, "%.300s: %s", path ? path : "authority.certificate", wrong);
    free(path);
    ERR_clear_error();
    return !wrong;
}

static bool load_key(struct steward *s, char error[SETTINGS_ERROR]) {
    const char *key = s->settings->ca_key;
    char *path = strncmp(key, "pkcs11:", 7) ? steward_settings_path(s->settings, key) : strdup(key);
    bool ok = path && steward_key_load(&s->key, path, s->settings->pkcs11_module, error);
    free(path);
    return ok;
}

static void set_digest(json_t *entry, const char *key, const uint8_t *digest, size_t size) {
    char text[2 * 64 + 1];
    steward_hex(digest, size < 64 ? size : 64, text);
    json_object_set_new(entry, key, json_string(text));
}

static bool begin_audit(struct steward *s, int64_t now, char error[SETTINGS_ERROR]) {
    char *path = steward_settings_path(s->settings, s->settings->audit);
    bool opened = path && steward_audit_open(&s->audit, path, now, error);
    free(path);
    if (!opened) return false;
    uint8_t digest[32];
    unsigned size;
    json_t *entry = json_pack("{s:s}", "event", "begin");
    if (X509_digest(s->ca, EVP_sha256(), digest, &size) == 1) set_digest(entry, "authority", digest, sizeof digest);
    if (steward_audit_append(&s->audit, now, entry)) return true;
    snprintf(error, SETTINGS_ERROR, "%s", s->audit.broken);
    return false;
}

/* All but the audit log. */
static struct steward *load(const struct steward_settings *settings, char error[SETTINGS_ERROR]) {
    struct steward *s = calloc(1, sizeof *s);
    snprintf(error, SETTINGS_ERROR, "out of memory or entropy");
    if (!s) return NULL;
    s->settings = settings;
    s->audit.fd = -1;
    if (steward_nonces_init(&s->nonces, settings->nonce_lifetime) && load_key(s, error) && load_authority(s, error) &&
        steward_rules_load(s, error))
        return s;
    steward_close(s);
    return NULL;
}

struct steward *steward_open(const struct steward_settings *settings, int64_t now, char error[SETTINGS_ERROR]) {
    struct steward *s = load(settings, error);
    if (!s || begin_audit(s, now, error)) return s;
    steward_close(s);
    return NULL;
}

bool steward_check(const struct steward_settings *settings, char error[SETTINGS_ERROR]) {
    struct steward_audit_report report;
    struct steward *s = load(settings, error);
    char why[SETTINGS_ERROR], *path = s ? steward_settings_path(settings, settings->audit) : NULL;
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
    bool ok = path && (fd >= 0 || errno == ENOENT); /* the first start makes it */
    if (path && !ok) snprintf(error, SETTINGS_ERROR, "%s: %s", path, strerror(errno));
    if (fd >= 0 && !steward_audit_check(fd, NULL, &report, why)) {
        snprintf(error, SETTINGS_ERROR, "%s: %.400s", path, why);
        ok = false;
    }
    if (fd >= 0) close(fd);
    free(path);
    steward_close(s);
    return ok;
}

void steward_close(struct steward *s) {
    if (!s) return;
    steward_audit_close(&s->audit);
    steward_rules_free(s);
    X509_free(s->ca);
    sk_X509_pop_free(s->ca_chain, X509_free);
    free(s->ca_pem);
    steward_key_free(&s->key);
    OPENSSL_cleanse(&s->nonces, sizeof s->nonces);
    free(s);
}

bool steward_reload(struct steward *s, int64_t now, char error[SETTINGS_ERROR]) {
    if (!steward_rules_load(s, error)) return false;
    char *path = steward_settings_path(s->settings, s->settings->audit);
    bool ok = path && steward_audit_reopen(&s->audit, path, now, error);
    free(path);
    return ok;
}

/* ---- Recording ---- */

static json_t *describe(const struct steward_request *r, const char *event, const char *peer) {
    json_t *entry = json_pack("{s:s, s:s}", "event", event, "peer", peer), *names = json_array();
    set_digest(entry, "request", r->digest, sizeof r->digest);
    for (size_t i = 0; i < r->name_count; i++)
        json_array_append_new(names, json_string(r->names[i]));
    json_object_set_new(entry, "names", names);
    if (r->workload.size) set_digest(entry, "workload", r->workload.data, r->workload.size);
    return entry;
}

static void describe_grant(json_t *entry, const struct steward_grant *g) {
    json_object_set_new(entry, "rule", json_string(g->rule->name));
    set_digest(entry, "policy", g->policy_digest, 32);
    json_object_set_new(entry, "tee", json_string(attest_tee_names[g->result.tee]));
}

json_t *steward_reasons_json(const struct steward_decision *d) {
    json_t *list = json_array();
    for (size_t i = 0; i < d->reason_count; i++) {
        /* Certificates put anything into texts. */
        json_t *text = json_string(d->reasons[i].text);
        json_array_append_new(list, json_pack("{s:s, s:o}", "rule", d->reasons[i].rule, "text",
                                              text ? text : json_string("(not UTF-8)")));
    }
    return list;
}

static bool unable(struct steward_decision *d, const char *rule, const char *text) {
    d->outcome = STEWARD_UNABLE;
    d->reason_count = 1;
    return steward_because(&d->reasons[0], rule, "%s", text);
}

/* A refusal is recorded, too, once there was a request in what was sent. */
static void refuse(struct steward *s, const struct steward_request *r, const char *peer, int64_t now,
                   struct steward_decision *d) {
    s->refused++;
    if (d->outcome == STEWARD_UNABLE || !r->x) return;
    json_t *entry = describe(r, "refused", peer);
    json_object_set_new(entry, "reasons", steward_reasons_json(d));
    if (!steward_audit_append(&s->audit, now, entry)) unable(d, "audit", s->audit.broken);
}

static bool record_issue(struct steward *s, const struct steward_request *r, const struct steward_grant *g, X509 *x,
                         const char *peer, int64_t now) {
    uint8_t digest[32];
    unsigned size;
    struct tm tm;
    char until[24] = "";
    const ASN1_INTEGER *serial = X509_get0_serialNumber(x);
    if (X509_digest(x, EVP_sha256(), digest, &size) != 1 || !ASN1_TIME_to_tm(X509_get0_notAfter(x), &tm) ||
        !strftime(until, sizeof until, "%Y-%m-%dT%H:%M:%SZ", &tm))
        return false;
    json_t *entry = describe(r, "issued", peer);
    describe_grant(entry, g);
    set_digest(entry, "serial", ASN1_STRING_get0_data(serial), (size_t)ASN1_STRING_length(serial));
    set_digest(entry, "certificate", digest, sizeof digest);
    json_object_set_new(entry, "not_after", json_string(until));
    return steward_audit_append(&s->audit, now, entry);
}

/* ---- Certificates ---- */

/* Signed, but not given out before it is on record. */
static void issue(struct steward *s, const struct steward_request *r, const struct steward_grant *g, const char *peer,
                  int64_t now, struct steward_decision *d) {
    d->reason_count = 0; /* other rules' */
    X509 *x = steward_issue(s, r, g, now, &d->reasons[0]);
    if (!x) {
        d->reason_count = 1;
        refuse(s, r, peer, now, d);
        return;
    }
    STACK_OF(X509) *above = sk_X509_dup(s->ca_chain); /* the certificates are borrowed */
    char *pem = above && sk_X509_unshift(above, s->ca) ? steward_pem(x, above) : NULL;
    if (pem && record_issue(s, r, g, x, peer, now)) {
        d->outcome = STEWARD_ISSUED;
        d->pem = pem;
        s->issued++;
    } else {
        unable(d, "audit", *s->audit.broken ? s->audit.broken : "the certificate could not be recorded");
        free(pem);
    }
    sk_X509_free(above);
    X509_free(x);
}

void steward_certify(struct steward *s, struct attest_bytes bytes, const char *peer, int64_t now,
                     struct steward_decision *d) {
    static struct steward_grant grant; /* 50 KiB; one thread */
    struct steward_request r;
    memset(d, 0, sizeof *d);
    d->outcome = STEWARD_REFUSED;
    memset(&r, 0, sizeof r);
    if (*s->audit.broken) {
        unable(d, "audit", s->audit.broken);
        return;
    }
    struct steward_reason why = {0};
    bool sound = steward_request_read(&r, bytes, &why) && steward_nonce_check(&s->nonces, r.nonce, now, &why);
    bool granted = sound && steward_rules_decide(s, &r, now, &grant, d);
    bool spent = granted && steward_nonce_spend(&s->nonces, r.nonce, now, &why);
    if (spent)
        issue(s, &r, &grant, peer, now, d);
    else {
        if (!sound || granted) {
            d->reasons[0] = why;
            d->reason_count = 1;
        }
        refuse(s, &r, peer, now, d);
    }
    steward_request_free(&r);
}

void steward_decision_free(struct steward_decision *d) {
    free(d->pem);
    d->pem = NULL;
}

/* ---- Tokens ---- */

char *steward_appraise(struct steward *s, struct attest_bytes bytes, const char *rule, struct attest_bytes report_data,
                       struct attest_bytes nonce, bool cwt, size_t *size, const char *peer, int64_t now,
                       struct steward_decision *d) {
    static struct steward_grant grant;
    char error[300];
    memset(d, 0, sizeof *d);
    d->outcome = STEWARD_REFUSED;
    if (*s->audit.broken) {
        unable(d, "audit", s->audit.broken);
        return NULL;
    }
    if (steward_nonce_is_ours(&s->nonces, nonce) && !steward_nonce_fresh(&s->nonces, nonce, now, &d->reasons[0])) {
        d->reason_count = 1;
        return NULL;
    }
    struct attest_evidence *e = attest_evidence_open(bytes, error, sizeof error);
    bool judged = false;
    if (e)
        judged = steward_rules_appraise(s, e, rule, report_data, nonce, now, &grant, d);
    else {
        steward_because(&d->reasons[0], "evidence.missing", "%s", error);
        d->reason_count = 1;
    }
    attest_evidence_free(e);
    if (!judged) return NULL;
    /* A token is for the moment, as a certificate is: it says so. */
    int64_t until = now + grant.rule->lifetime;
    if (!grant.result.valid_until || grant.result.valid_until > until) grant.result.valid_until = until;
    if (!attest_result_answers_nonce(&grant.result)) nonce = (struct attest_bytes){0};
    char *token =
        cwt ? (char *)ear_cwt(&grant.result, s->key.key, nonce, size) : ear_jwt(&grant.result, s->key.key, nonce);
    if (!token) {
        unable(d, "authority.failed", "tokens need an authority key on P-256 or P-384");
        return NULL;
    }
    if (!cwt) *size = strlen(token);
    uint8_t digest[32];
    json_t *entry = json_pack("{s:s, s:s, s:b}", "event", "appraised", "peer", peer, "accepted", grant.result.accepted);
    describe_grant(entry, &grant);
    if (EVP_Digest(token, *size, digest, NULL, EVP_sha256(), NULL) == 1)
        set_digest(entry, "token", digest, sizeof digest);
    if (!grant.result.accepted) json_object_set_new(entry, "reasons", steward_reasons_json(d));
    if (steward_audit_append(&s->audit, now, entry)) {
        s->appraised++;
        d->outcome = STEWARD_ISSUED;
        return token;
    }
    free(token);
    unable(d, "audit", s->audit.broken);
    return NULL;
}
