#include "peer.h"
#include <donjon/attest-identity.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void attest_policy_reset(struct attest_policy *, const char *key); /* src/attest/policy.c */

struct peer_policy {
    struct attest_policy policy;
    struct attest_set workloads; /* the policy's: compared here, with the certificate's, which its evidence covers */
    uint8_t *root;               /* development root, DER */
    size_t root_size;
    bool chain_too;
    void (*log)(void *, const char *);
    void *log_ctx;
    struct attest_result result; /* the last */
};

__attribute__((format(printf, 3, 4))) static bool refuse(char *reason, size_t size, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(reason, size, format, args);
    va_end(args);
    ERR_clear_error();
    return false;
}

/* ---- the policy ---- */

static bool take_root(struct peer_policy *p, const char *base64, size_t n, char *error, size_t size) {
    p->root = n && n % 4 == 0 && !p->root ? malloc(n / 4 * 3) : NULL;
    int got = p->root ? EVP_DecodeBlock(p->root, (const uint8_t *)base64, (int)n) : -1;
    if (got < 0) return refuse(error, size, "development-root: expected one certificate in base64");
    p->root_size = (size_t)got - (base64[n - 1] == '=') - (base64[n - 2] == '=');
    return true;
}

static bool take_line(struct peer_policy *p, const char *line, size_t n, const char *before, char *error, size_t size) {
    static const char root[] = "development-root";
    const char *equal = memchr(line, '=', n);
    size_t key_size = equal ? (size_t)(equal - line) : n, left = equal ? n - key_size - 1 : 0;
    char key[128], *value = equal ? strndup(equal + 1, left) : NULL;
    if (!value || key_size >= sizeof key) {
        free(value);
        return refuse(error, size, "expected a line KEY=VALUE");
    }
    snprintf(key, sizeof key, "%.*s", (int)key_size, line);
    bool again = before && strncmp(before, line, key_size + 1) == 0; /* an element of a list, behind another */
    bool ok = true;
    if (strcmp(key, root) == 0)
        ok = take_root(p, value, left, error, size);
    else {
        if (!again) attest_policy_reset(&p->policy, key);
        ok = attest_policy_set(&p->policy, key, value, left, error, size);
    }
    free(value);
    return ok;
}

struct peer_policy *peer_policy_new(const char *lines, char *error, size_t size) {
    struct peer_policy *p = calloc(1, sizeof *p);
    if (!p) {
        snprintf(error, size, "out of memory");
        return NULL;
    }
    attest_policy_strict(&p->policy);
    for (const char *line = lines, *before = NULL; *line;) {
        size_t n = strcspn(line, "\n");
        if (!take_line(p, line, n, before, error, size)) {
            peer_policy_free(p);
            return NULL;
        }
        before = line;
        line += n + (line[n] == '\n');
    }
    p->workloads = p->policy.workloads;
    p->policy.workloads = (struct attest_set){.width = p->workloads.width};
    return p;
}

void peer_policy_free(struct peer_policy *p) {
    if (!p) return;
    p->policy.workloads = p->workloads;
    attest_policy_free(&p->policy);
    free(p->root);
    free(p);
}

/* ---- the peer ---- */

struct claims {
    struct attest_bytes workload, evidence, endorsements;
    uint8_t report_data[64];
};

/* What the certificate says, and what report data its evidence must have for that. */
static bool read_claims(X509 *x, struct claims *c, char *reason, size_t size) {
    enum { CMW_MOST = 1 << 20 };
    const STACK_OF(X509_EXTENSION) *list = X509_get0_extensions(x);
    struct attest_bytes cmw, nonce = {0};
    bool has_cmw, has_workload, has_nonce;
    if (!attest_identity_octets(list, ATTEST_OID_CMW, 1, CMW_MOST, &cmw, &has_cmw) ||
        !attest_identity_unwrap(cmw, &c->evidence, &c->endorsements))
        return refuse(reason, size,
                      has_cmw ? "its evidence has not the form of a keep's" : "its certificate carries no evidence");
    if (!attest_identity_octets(list, ATTEST_OID_WORKLOAD, ATTEST_WORKLOAD_DIGEST, ATTEST_WORKLOAD_DIGEST, &c->workload,
                                &has_workload))
        return refuse(reason, size, "its certificate names no workload");
    if (!attest_identity_octets(list, ATTEST_OID_NONCE, 1, ATTEST_IDENTITY_NONCE_MAX, &nonce, &has_nonce) && has_nonce)
        return refuse(reason, size, "the nonce in its certificate is malformed");
    uint8_t *spki = NULL;
    int n = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x), &spki);
    bool ok = n > 0 && attest_identity_report_data((struct attest_bytes){spki, (size_t)n}, c->workload.data, nonce,
                                                   c->report_data);
    OPENSSL_free(spki);
    return ok || refuse(reason, size, "its key cannot be read");
}

static bool workload_allowed(const struct peer_policy *p, const uint8_t *workload) {
    const struct attest_set *s = &p->workloads;
    for (size_t i = 0; s->width == ATTEST_WORKLOAD_DIGEST && i < s->count; i++)
        if (memcmp(s->items + i * s->width, workload, s->width) == 0) return true;
    return s->count == 0;
}

static bool in_its_life(const X509 *x, int64_t now) {
    time_t at = (time_t)now;
    return X509_cmp_time(X509_get0_notBefore(x), &at) < 0 && X509_cmp_time(X509_get0_notAfter(x), &at) > 0;
}

static bool appraise(const struct peer_policy *p, const struct claims *c, int64_t now, struct attest_result *result,
                     char *reason, size_t size) {
    char why[200];
    struct attest_policy policy = p->policy; /* not owned */
    policy.report_data = (struct attest_set){.items = (uint8_t *)(uintptr_t)c->report_data, .count = 1, .width = 64};
    policy.nonce_size = 0; /* where there is one, it is in the report data */
    struct attest_evidence *e = attest_evidence_open(c->evidence, why, sizeof why);
    struct attest_verifier *v = e ? attest_verifier_new() : NULL;
    bool ready =
        v && (!p->root || attest_verifier_add_development_root(v, (struct attest_bytes){p->root, p->root_size}));
    if (ready && c->endorsements.size) attest_verifier_add(v, c->endorsements);
    if (ready) attest_verify(v, e, &policy, now, result);
    attest_verifier_free(v);
    if (e && !ready) snprintf(why, sizeof why, "out of memory, or the development root cannot be read");
    attest_evidence_free(e);
    if (!e || !ready) return refuse(reason, size, "its evidence: %s", why);
    if (result->accepted) return true;
    const struct attest_check *check = attest_result_reason(result);
    return refuse(reason, size, "its evidence is not accepted: %s (%s)", check ? attest_rules[check->rule].title : "?",
                  check ? attest_rules[check->rule].name : "?");
}

bool peer_policy_accepts(const struct peer_policy *p, X509 *certificate, int64_t now, char *reason, size_t size) {
    struct claims c;
    struct attest_result *result = malloc(sizeof *result);
    bool ok = result && read_claims(certificate, &c, reason, size);
    if (!result) refuse(reason, size, "out of memory");
    if (ok && !in_its_life(certificate, now))
        ok = refuse(reason, size, "its certificate has expired, or is not yet valid");
    ok = ok && appraise(p, &c, now, result, reason, size);
    if (ok && !workload_allowed(p, c.workload.data)) ok = refuse(reason, size, "it runs another workload");
    free(result);
    ERR_clear_error();
    return ok;
}

/* ---- as OpenSSL asks ---- */

static int verify(X509_STORE_CTX *store, void *arg) {
    struct peer_policy *p = arg;
    X509 *certificate = X509_STORE_CTX_get0_cert(store);
    char reason[300], line[400];
    if (p->chain_too && X509_verify_cert(store) != 1) return 0;
    if (peer_policy_accepts(p, certificate, (int64_t)time(NULL), reason, sizeof reason)) {
        X509_STORE_CTX_set_error(store, X509_V_OK);
        return 1;
    }
    snprintf(line, sizeof line, "TLS peer refused: %s", reason);
    p->log(p->log_ctx, line);
    X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
    return 0;
}

void peer_policy_use(struct peer_policy *p, SSL_CTX *ctx, bool chain_too, void (*log)(void *, const char *),
                     void *log_ctx) {
    p->chain_too = chain_too;
    p->log = log;
    p->log_ctx = log_ctx;
    SSL_CTX_set_cert_verify_callback(ctx, verify, p);
}
