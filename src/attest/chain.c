/* Certificate paths. We look for the path ourselves, so that a wrong signature is told from a missing issuer and two
 * authorities of the same name (Genoa's ASK of 2022 and its successor) do not confuse the search; OpenSSL then
 * validates the path found (RFC 5280: roles, path length, key usage, critical extensions). Time and revocation are
 * ours: the cached path is good for every time, and the result says which certificate ended when. */
#include "verifier.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/rsa.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include "crypto.h"

int64_t time_of(const ASN1_TIME *t) {
    struct tm tm;
    if (!t || ASN1_TIME_to_tm(t, &tm) != 1) return INT64_MIN;
    return timegm(&tm);
}

void common_name(const X509_NAME *name, char *out, size_t size) {
    if (X509_NAME_get_text_by_NID((X509_NAME *)name, NID_commonName, out, (int)size) < 0) snprintf(out, size, "?");
    for (char *c = out; *c; c++)
        if (*c < 0x20 || *c > 0x7e) *c = '?';
}

bool extension_of(const X509 *x, const char *oid, struct attest_bytes *value) {
    ASN1_OBJECT *object = OBJ_txt2obj(oid, 1);
    int at = object ? X509_get_ext_by_OBJ(x, object, -1) : -1;
    bool twice = at >= 0 && X509_get_ext_by_OBJ(x, object, at) >= 0;
    ASN1_OBJECT_free(object);
    if (at < 0 || twice) return false;
    const ASN1_OCTET_STRING *string = X509_EXTENSION_get_data(X509_get_ext(x, at));
    *value = (struct attest_bytes){ASN1_STRING_get0_data(string), (size_t)ASN1_STRING_length(string)};
    return true;
}

/* RSASSA-PSS with SHA-384, MGF1 with SHA-384, 48 bytes of salt: what AMD uses for everything (AMD 57230, section 3). */
static bool is_amd_pss(const X509_ALGOR *algorithm) {
    enum { SALT = 48 };
    const ASN1_OBJECT *object;
    int type;
    const void *value;
    X509_ALGOR_get0(&object, &type, &value, algorithm);
    if (OBJ_obj2nid(object) != NID_rsassaPss || type != V_ASN1_SEQUENCE) return false;
    RSA_PSS_PARAMS *pss = ASN1_item_unpack(value, ASN1_ITEM_rptr(RSA_PSS_PARAMS));
    bool ok = pss && pss->hashAlgorithm && OBJ_obj2nid(pss->hashAlgorithm->algorithm) == NID_sha384 &&
              pss->maskGenAlgorithm && OBJ_obj2nid(pss->maskGenAlgorithm->algorithm) == NID_mgf1 && pss->saltLength &&
              ASN1_INTEGER_get(pss->saltLength) == SALT;
    if (ok && pss->maskGenAlgorithm->parameter && pss->maskGenAlgorithm->parameter->type == V_ASN1_SEQUENCE) {
        X509_ALGOR *hash =
            ASN1_item_unpack(pss->maskGenAlgorithm->parameter->value.sequence, ASN1_ITEM_rptr(X509_ALGOR));
        ok = hash && OBJ_obj2nid(hash->algorithm) == NID_sha384;
        X509_ALGOR_free(hash);
    } else
        ok = false;
    RSA_PSS_PARAMS_free(pss);
    return ok;
}

static bool vendor_algorithm(enum vendor vendor, const X509 *x) {
    const X509_ALGOR *algorithm;
    X509_get0_signature(NULL, &algorithm, x);
    int nid = OBJ_obj2nid(algorithm->algorithm);
    switch (vendor) {
    case VENDOR_AMD: return is_amd_pss(algorithm);
    case VENDOR_INTEL: return nid == NID_ecdsa_with_SHA256;
    case VENDOR_AWS:
    case VENDOR_SOFTWARE: return nid == NID_ecdsa_with_SHA384;
    default: return false;
    }
}

static bool signed_by(X509 *x, X509 *issuer) {
    EVP_PKEY *key = X509_get0_pubkey(issuer);
    bool ok = key && X509_verify(x, key) == 1;
    if (!ok) ERR_clear_error();
    return ok;
}

static bool in_path(const struct chain *chain, const X509 *x) {
    for (size_t i = 0; i < chain->count; i++)
        if (X509_cmp(chain->certs[i], x) == 0) return true;
    return false;
}

static bool push(struct chain *chain, X509 *x) {
    if (chain->count == CHAIN_MAX || !X509_up_ref(x)) return false;
    chain->certs[chain->count++] = x;
    return true;
}

/* The next certificate up, from one list. 1: found, -1: one of that name, but its key did not sign, 0: none. */
static int find_issuer(struct chain *chain, const struct certs *list, X509 *x) {
    int seen = 0;
    for (size_t i = 0; i < list->count; i++) {
        X509 *candidate = list->items[i];
        if (X509_NAME_cmp(X509_get_subject_name(candidate), X509_get_issuer_name(x)) != 0 || in_path(chain, candidate))
            continue;
        if (signed_by(x, candidate)) return push(chain, candidate) ? 1 : -1;
        seen = -1;
    }
    return seen;
}

static int find_anchor(struct attest_verifier *v, struct chain *chain, X509 *x, enum vendor vendor) {
    int seen = 0;
    for (size_t i = 0; i < v->anchor_count; i++) {
        const struct anchor *a = &v->anchors[i];
        bool admissible =
            a->vendor == vendor || a->vendor == VENDOR_ANY || (vendor == VENDOR_AMD && a->vendor == VENDOR_SOFTWARE);
        if (!admissible || X509_NAME_cmp(X509_get_subject_name(a->x), X509_get_issuer_name(x)) != 0) continue;
        if (X509_cmp(a->x, x) == 0 || signed_by(x, a->x)) {
            chain->vendor = a->vendor == VENDOR_ANY ? vendor : a->vendor;
            return X509_cmp(a->x, x) == 0 || push(chain, a->x) ? 1 : -1;
        }
        seen = -1;
    }
    return seen;
}

/* Is there a certificate of the issuer's common name, if not of its whole name? */
static bool named_alike(const struct certs *list, const X509 *x) {
    char issuer[80], name[80];
    common_name(X509_get_issuer_name(x), issuer, sizeof issuer);
    for (size_t i = 0; i < list->count; i++) {
        common_name(X509_get_subject_name(list->items[i]), name, sizeof name);
        if (strcmp(name, issuer) == 0) return true;
    }
    return false;
}

/* Climbs from the leaf until an anchor signed. */
static bool climb(struct attest_verifier *v, struct chain *chain, const struct endorsements *carried,
                  enum vendor vendor, char *why, size_t why_size) {
    for (;;) {
        X509 *top = chain->certs[chain->count - 1];
        char subject[80], issuer[80];
        common_name(X509_get_subject_name(top), subject, sizeof subject);
        common_name(X509_get_issuer_name(top), issuer, sizeof issuer);
        int anchored = find_anchor(v, chain, top, vendor);
        if (anchored > 0) return true;
        int found = chain->count < CHAIN_MAX ? find_issuer(chain, &v->store.certs, top) : 0;
        if (found <= 0 && carried) {
            int other = find_issuer(chain, &carried->certs, top);
            if (other) found = other;
        }
        if (found > 0) continue;
        if (X509_NAME_cmp(X509_get_subject_name(top), X509_get_issuer_name(top)) == 0)
            snprintf(why, why_size, "%s is self-signed and not a trusted root", subject);
        else if (anchored < 0 || found < 0)
            snprintf(why, why_size, "%s was not signed by %s", subject, issuer);
        else if (named_alike(&v->store.certs, top) || (carried && named_alike(&carried->certs, top)))
            snprintf(why, why_size,
                     "%s was issued by another %s than the one at hand: it is damaged, or somebody else's", subject,
                     issuer);
        else
            snprintf(why, why_size, "issuer %s of %s is not at hand and not trusted", issuer, subject);
        return false;
    }
}

/* RFC 5280 validation of exactly this path, without looking at the time. */
static bool validate(const struct chain *chain, char *why, size_t why_size) {
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    STACK_OF(X509) *middle = sk_X509_new_null();
    bool ok = store && ctx && middle && X509_STORE_add_cert(store, chain->certs[chain->count - 1]);
    for (size_t i = 1; ok && i + 1 < chain->count; i++)
        ok = sk_X509_push(middle, chain->certs[i]) > 0;
    ok = ok && X509_STORE_CTX_init(ctx, store, chain->certs[0], middle);
    if (ok) {
        X509_VERIFY_PARAM_set_flags(X509_STORE_CTX_get0_param(ctx), X509_V_FLAG_NO_CHECK_TIME);
        ok = X509_verify_cert(ctx) == 1;
        if (!ok) snprintf(why, why_size, "%s", X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
    }
    sk_X509_free(middle);
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    ERR_clear_error();
    return ok;
}

static void measure_path(struct chain *chain) {
    chain->not_before = INT64_MIN;
    chain->not_after = INT64_MAX;
    chain->algorithms_ok = true;
    for (size_t i = 0; i < chain->count; i++) {
        int64_t from = time_of(X509_get0_notBefore(chain->certs[i])),
                until = time_of(X509_get0_notAfter(chain->certs[i]));
        if (from > chain->not_before) chain->not_before = from;
        if (until < chain->not_after) chain->not_after = until;
        if (from == INT64_MIN) chain->not_before = INT64_MAX; /* malformed: never valid */
        if (!vendor_algorithm(chain->vendor, chain->certs[i])) chain->algorithms_ok = false;
    }
    chain->key = X509_get0_pubkey(chain->certs[0]);
}

static void drop(struct chain *chain) {
    for (size_t i = 0; i < chain->count; i++)
        X509_free(chain->certs[i]);
    free(chain);
}

/* Keeps the path; the one unused for longest makes room. */
static void keep(struct attest_verifier *v, struct chain *chain) {
    size_t oldest = 0;
    for (size_t i = 0; i < CHAIN_CACHE; i++) {
        if (!v->chains[i]) {
            oldest = i;
            break;
        }
        if (v->chains[i]->used < v->chains[oldest]->used) oldest = i;
    }
    if (v->chains[oldest]) {
        if (v->chains[oldest]->extra_free) v->chains[oldest]->extra_free(v->chains[oldest]->extra);
        drop(v->chains[oldest]);
    }
    v->chains[oldest] = chain;
}

struct chain *chain_cached(struct attest_verifier *v, const uint8_t id[32], enum vendor vendor) {
    for (size_t i = 0; i < CHAIN_CACHE; i++) {
        struct chain *c = v->chains[i];
        if (!c || memcmp(c->id, id, sizeof c->id) != 0) continue;
        if (c->vendor != vendor && !(vendor == VENDOR_AMD && c->vendor == VENDOR_SOFTWARE)) continue;
        c->used = ++v->clock;
        return c;
    }
    return NULL;
}

struct chain *chain_find(struct attest_verifier *v, const uint8_t id[32], X509 *leaf,
                         const struct endorsements *carried, enum vendor vendor, char *why, size_t why_size) {
    struct chain *chain = chain_cached(v, id, vendor);
    if (chain) return chain;
    chain = calloc(1, sizeof *chain);
    if (!chain) return NULL;
    memcpy(chain->id, id, sizeof chain->id);
    if (!push(chain, leaf) || !climb(v, chain, carried, vendor, why, why_size) || !validate(chain, why, why_size)) {
        drop(chain);
        return NULL;
    }
    measure_path(chain);
    chain->used = ++v->clock;
    keep(v, chain);
    return chain;
}

struct chain *chain_of(struct attest_verifier *v, X509 *leaf, const struct endorsements *carried, enum vendor vendor,
                       char *why, size_t why_size) {
    uint8_t id[32];
    unsigned n = sizeof id;
    if (X509_digest(leaf, EVP_sha256(), id, &n) != 1) return NULL;
    return chain_find(v, id, leaf, carried, vendor, why, why_size);
}

X509 *certs_named(const struct certs *list, const char *prefix, size_t *at) {
    while (*at < list->count) {
        X509 *x = list->items[(*at)++];
        char name[80];
        common_name(X509_get_subject_name(x), name, sizeof name);
        if (strncmp(name, prefix, strlen(prefix)) == 0) return x;
    }
    return NULL;
}

/* Which certificate of the path is outside its validity. */
static struct attest_value validity_found(struct attest_result *res, const struct chain *chain, int64_t now) {
    for (size_t i = 0; i < chain->count; i++) {
        int64_t from = time_of(X509_get0_notBefore(chain->certs[i])),
                until = time_of(X509_get0_notAfter(chain->certs[i]));
        if (now >= from && now <= until) continue;
        char name[80], text[40];
        common_name(X509_get_subject_name(chain->certs[i]), name, sizeof name);
        struct attest_value limit = v_time(now < from ? from : until);
        return v_format(res, "%s %s %s", name, now < from ? "is not valid before" : "expired",
                        attest_value_format(&limit, text, sizeof text));
    }
    return v_time(now);
}

/* When the whole path is valid; and whether the evidence is too old, or the clock is wrong. */
static void advise_time(struct attest_result *res, const struct chain *chain, int64_t now) {
    char from[40], until[40];
    attest_value_format(&(struct attest_value){.kind = ATTEST_TIME, .time = chain->not_before}, from, sizeof from);
    attest_value_format(&(struct attest_value){.kind = ATTEST_TIME, .time = chain->not_after}, until, sizeof until);
    if (chain->not_before > chain->not_after)
        advise(res, "there is no time at which all certificates of this chain are valid: fetch the chain again");
    else if (now < chain->not_before)
        advise(
            res,
            "the time appraised for is before the certificates were issued: check --at, or the clock of this machine. "
            "They are valid from %s to %s%s",
            from, until,
            chain->vendor == VENDOR_AMD
                ? ". AMD dates a VCEK by the day it was fetched: for earlier, a copy fetched then"
                : "");
    else if (chain->vendor == VENDOR_AWS)
        advise(res,
               "a Nitro document is good for three hours, this one from %s to %s: have the enclave make a new one. To "
               "appraise "
               "the old one for its own time: --at %s",
               from, until, from);
    else
        advise(
            res,
            "have the attester send evidence with a renewed certificate, or fetch that (`donjon collateral fetch`). To "
            "appraise old evidence for its own time give --at between %s and %s",
            from, until);
}

bool check_chain(struct attest_result *res, const struct chain *chain, const char *why, int64_t now) {
    struct attest_value wanted = v_text("a path to a trusted root");
    if (!chain) return check(res, ATTEST_RULE_CHAIN_PATH, false, wanted, v_format(res, "%s", *why ? why : "no path"));
    char leaf[80], root[80];
    common_name(X509_get_subject_name(chain->certs[0]), leaf, sizeof leaf);
    common_name(X509_get_subject_name(chain->certs[chain->count - 1]), root, sizeof root);
    check(res, ATTEST_RULE_CHAIN_PATH, true, wanted,
          v_format(res, "%s, %zu certificates up to %s", leaf, chain->count, root));
    static const char *const algorithms[] = {[VENDOR_AMD] = "RSASSA-PSS, SHA-384, salt 48",
                                             [VENDOR_INTEL] = "ECDSA with SHA-256",
                                             [VENDOR_AWS] = "ECDSA with SHA-384",
                                             [VENDOR_SOFTWARE] = "ECDSA with SHA-384"};
    const char *algorithm = algorithms[chain->vendor];
    bool ok = check(res, ATTEST_RULE_CHAIN_ALGORITHM, chain->algorithms_ok, v_text(algorithm),
                    v_text(chain->algorithms_ok ? algorithm : "another algorithm or parameters"));
    bool valid = now >= chain->not_before && now <= chain->not_after;
    struct attest_value window = valid ? v_time(now) : validity_found(res, chain, now);
    char at[40];
    attest_value_format(&(struct attest_value){.kind = ATTEST_TIME, .time = now}, at, sizeof at);
    check(res, ATTEST_RULE_CHAIN_VALIDITY, valid, v_format(res, "certificates valid at %s", at), window);
    if (!valid) advise_time(res, chain, now);
    result_until(res, chain->not_after);
    return ok && valid;
}

/* Unknown critical extensions of a list may change what it means (RFC 5280, 5.2): such a list is not used. */
static bool crl_understood(X509_CRL *crl) {
    for (int i = 0; i < X509_CRL_get_ext_count(crl); i++) {
        X509_EXTENSION *e = X509_CRL_get_ext(crl, i);
        if (X509_EXTENSION_get_critical(e) && !X509_supported_extension(e)) return false;
        /* A delta or a partial list does not say that an absent certificate is good. */
        int nid = OBJ_obj2nid(X509_EXTENSION_get_object(e));
        if (nid == NID_delta_crl) return false;
        if (nid == NID_issuing_distribution_point && X509_EXTENSION_get_critical(e)) return false;
    }
    return true;
}

static bool crl_genuine(struct crl *crl, X509 *issuer) {
    if (crl->checked_with && X509_cmp(crl->checked_with, issuer) == 0) return crl->genuine;
    EVP_PKEY *key = X509_get0_pubkey(issuer);
    bool may_sign = !(X509_get_extension_flags(issuer) & EXFLAG_KUSAGE) || (X509_get_key_usage(issuer) & KU_CRL_SIGN);
    crl->genuine = key && may_sign && crl_understood(crl->crl) && X509_CRL_verify(crl->crl, key) == 1;
    ERR_clear_error();
    X509_free(crl->checked_with);
    X509_up_ref(issuer);
    crl->checked_with = issuer;
    return crl->genuine;
}

/* Of two genuine lists the one that covers `now` is better, then the newer one. */
static bool crl_better(const struct crl *a, const struct crl *b, int64_t now) {
    if (!b) return true;
    bool a_fits = a->this_update <= now && now <= a->next_update,
         b_fits = b->this_update <= now && now <= b->next_update;
    if (a_fits != b_fits) return a_fits;
    return a->this_update > b->this_update;
}

struct crl_search {
    const struct crl *best;
    bool forged, revoked;
};

static void crl_look(struct crl_search *search, struct crls *list, X509 *certificate, X509 *issuer, int64_t now) {
    for (size_t i = 0; i < list->count; i++) {
        struct crl *crl = &list->items[i];
        if (X509_NAME_cmp(X509_CRL_get_issuer(crl->crl), X509_get_subject_name(issuer)) != 0) continue;
        if (!crl_genuine(crl, issuer)) {
            search->forged = true;
            continue;
        }
        X509_REVOKED *entry;
        /* A revocation once published stands, whatever became of the list; one from after `now` is not known yet. */
        bool listed = X509_CRL_get0_by_serial(crl->crl, &entry, X509_get0_serialNumber(certificate)) == 1;
        if (listed && crl->this_update <= now) search->revoked = true;
        if (crl_better(crl, search->best, now)) search->best = crl;
    }
}

enum crl_state crl_check(struct attest_verifier *v, const struct endorsements *carried, X509 *certificate, X509 *issuer,
                         int64_t now, const struct crl **crl) {
    struct crl_search search = {0};
    crl_look(&search, &v->store.crls, certificate, issuer, now);
    if (carried) crl_look(&search, (struct crls *)&carried->crls, certificate, issuer, now);
    *crl = search.best;
    if (search.revoked) return CRL_REVOKED;
    if (!search.best) return search.forged ? CRL_NOT_GENUINE : CRL_MISSING;
    if (now < search.best->this_update) return CRL_EARLY;
    if (!search.best->next_update || now > search.best->next_update) return CRL_STALE;
    return CRL_GOOD;
}

/* ", " and what is wrong with the list of one issuer. */
static void add_trouble(char *out, size_t size, const char *issuer, enum crl_state state, const struct crl *crl) {
    char from[40], until[40];
    size_t at = strlen(out);
    const char *comma = at ? "; " : "";
    attest_value_format(&(struct attest_value){.kind = ATTEST_TIME, .time = crl ? crl->this_update : 0}, from,
                        sizeof from);
    attest_value_format(&(struct attest_value){.kind = ATTEST_TIME, .time = crl ? crl->next_update : 0}, until,
                        sizeof until);
    if (state == CRL_MISSING)
        snprintf(out + at, size - at, "%sno revocation list of %s", comma, issuer);
    else if (state == CRL_NOT_GENUINE)
        snprintf(out + at, size - at, "%sthe revocation list of %s is not signed by it", comma, issuer);
    else if (state == CRL_STALE)
        snprintf(out + at, size - at, "%sthe revocation list of %s ended %s", comma, issuer, until);
    else
        snprintf(out + at, size - at, "%sthe revocation list of %s begins %s", comma, issuer, from);
}

/* Which lists to fetch. */
static void advise_lists(struct attest_result *res, const struct chain *chain) {
    char issuer[80] = "";
    if (chain->count > 1) common_name(X509_get_subject_name(chain->certs[1]), issuer, sizeof issuer);
    if (chain->vendor == VENDOR_INTEL)
        advise(res,
               "run `donjon collateral fetch` on the evidence, or give both lists with --collateral: "
               "https://api.trustedservices.intel.com/sgx/certification/v4/pckcrl?ca=%s&encoding=der and "
               "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der",
               strstr(issuer, "Platform") ? "platform" : "processor");
    else if (chain->vendor == VENDOR_AMD)
        advise(res,
               "run `donjon collateral fetch` on the evidence, or drop snp.require_crl: AMD's lists name ASKs only");
}

void check_revocation(struct attest_verifier *v, struct attest_result *res, const struct chain *chain,
                      const struct endorsements *carried, size_t first, bool required, int64_t now) {
    bool revoked = false, current = true, missing = false, early = false;
    char trouble[400] = "", withdrawn[200] = "";
    int64_t until = INT64_MAX;
    for (size_t i = first; i + 1 < chain->count; i++) {
        const struct crl *crl;
        enum crl_state state = crl_check(v, carried, chain->certs[i], chain->certs[i + 1], now, &crl);
        char issuer[80], subject[80];
        if (state == CRL_GOOD) {
            if (crl->next_update < until) until = crl->next_update;
            continue;
        }
        common_name(X509_get_subject_name(chain->certs[i + 1]), issuer, sizeof issuer);
        common_name(X509_get_subject_name(chain->certs[i]), subject, sizeof subject);
        if (state == CRL_REVOKED) {
            revoked = true;
            snprintf(withdrawn, sizeof withdrawn, "%s is revoked by %s", subject, issuer);
            continue;
        }
        current = false;
        missing |= state == CRL_MISSING || state == CRL_NOT_GENUINE;
        early |= state == CRL_EARLY;
        add_trouble(trouble, sizeof trouble, issuer, state, crl);
    }
    check(res, ATTEST_RULE_CHAIN_REVOKED, !revoked, v_text("not revoked"),
          revoked ? v_format(res, "%s", withdrawn) : v_text("not revoked"));
    struct attest_value wanted = v_text("genuine lists, valid at the verification time");
    if (current)
        check(res, ATTEST_RULE_CHAIN_CRL, true, wanted, wanted);
    else if (required)
        check(res, ATTEST_RULE_CHAIN_CRL, false, wanted, v_format(res, "%s", trouble));
    else
        note(res, ATTEST_RULE_CHAIN_CRL, v_format(res, "%s", trouble));
    if (!missing && early)
        advise(res,
               "the lists are younger than the time appraised for: check --at, or give the lists of that time with "
               "--collateral");
    else if (!missing)
        advise(
            res,
            "the lists have run out: fetch current ones (`donjon collateral fetch` on the evidence); to appraise old "
            "evidence for its own time, give lists of that time and --at");
    else
        advise_lists(res, chain);
    if (current && until != INT64_MAX) result_until(res, until);
}
