/* Appraisal of an ECDSA quote with DCAP collateral (Intel, "PCK Certificate and CRL Profile", "TCB Info and Enclave
 * Identity appraisal" in the PCS API v4). */
#include <stdio.h>
#include <stdlib.h>

#include <jansson.h>
#include <openssl/asn1t.h>
#include <openssl/err.h>
#include <openssl/objects.h>

#include "crypto.h"
#include "intel_json.h"
#include "policy.h"
#include "quote.h"

/* ---- PCK certificate ---- */

const char *const pck_oid = "1.2.840.113741.1.13.1";

/* SEQUENCE OF SEQUENCE { OBJECT IDENTIFIER, ANY }, as Intel nests it. */
static STACK_OF(ASN1_TYPE) * sequence_of(const uint8_t *data, size_t size) {
    const uint8_t *at = data;
    STACK_OF(ASN1_TYPE) *items = d2i_ASN1_SEQUENCE_ANY(NULL, &at, (long)size);
    if (items && at == data + size) return items;
    sk_ASN1_TYPE_pop_free(items, ASN1_TYPE_free);
    return NULL;
}

static STACK_OF(ASN1_TYPE) * sequence_in(const ASN1_TYPE *t) {
    return t && t->type == V_ASN1_SEQUENCE ? sequence_of(t->value.sequence->data, (size_t)t->value.sequence->length)
                                           : NULL;
}

static bool octets_in(const ASN1_TYPE *t, uint8_t *out, size_t size) {
    if (t->type != V_ASN1_OCTET_STRING || (size_t)t->value.octet_string->length != size) return false;
    memcpy(out, t->value.octet_string->data, size);
    return true;
}

static bool number_in(const ASN1_TYPE *t, int64_t max, int64_t *out) {
    return t->type == V_ASN1_INTEGER && ASN1_INTEGER_get_int64(out, t->value.integer) == 1 && *out >= 0 && *out <= max;
}

/* The part of a dotted OID after `prefix.`, or -1. */
static int last_arc(const ASN1_TYPE *t, const char *prefix) {
    char text[80];
    if (t->type != V_ASN1_OBJECT || OBJ_obj2txt(text, sizeof text, t->value.object, 1) <= 0) return -1;
    size_t n = strlen(prefix);
    if (strncmp(text, prefix, n) != 0 || text[n] != '.' || strchr(text + n + 1, '.')) return -1;
    return atoi(text + n + 1);
}

typedef bool pair_visitor(struct pck *, int arc, const ASN1_TYPE *value);

static bool visit_pairs(struct pck *pck, STACK_OF(ASN1_TYPE) * pairs, const char *prefix, pair_visitor *visit) {
    bool ok = pairs != NULL;
    for (int i = 0; ok && i < sk_ASN1_TYPE_num(pairs); i++) {
        STACK_OF(ASN1_TYPE) *pair = sequence_in(sk_ASN1_TYPE_value(pairs, i));
        int arc = pair && sk_ASN1_TYPE_num(pair) == 2 ? last_arc(sk_ASN1_TYPE_value(pair, 0), prefix) : -1;
        ok = arc >= 0 && visit(pck, arc, sk_ASN1_TYPE_value(pair, 1));
        sk_ASN1_TYPE_pop_free(pair, ASN1_TYPE_free);
    }
    sk_ASN1_TYPE_pop_free(pairs, ASN1_TYPE_free);
    return ok;
}

static bool visit_tcb(struct pck *pck, int arc, const ASN1_TYPE *value) {
    int64_t n = 0;
    if (arc >= 1 && arc <= 16) {
        bool ok = number_in(value, UINT8_MAX, &n);
        pck->components[arc - 1] = (uint8_t)n;
        return ok;
    }
    if (arc == 17) {
        bool ok = number_in(value, UINT16_MAX, &n);
        pck->pce_svn = (uint16_t)n;
        return ok;
    }
    return arc == 18 && octets_in(value, pck->cpu_svn, sizeof pck->cpu_svn);
}

static bool visit_configuration(struct pck *pck, int arc, const ASN1_TYPE *value) {
    if (value->type != V_ASN1_BOOLEAN) return false;
    if (arc == 3) {
        pck->has_smt = true;
        pck->smt = value->value.boolean != 0;
    }
    return true;
}

static bool visit_pck(struct pck *pck, int arc, const ASN1_TYPE *value) {
    switch (arc) {
    case 1: return octets_in(value, pck->ppid, sizeof pck->ppid);
    case 2: return visit_pairs(pck, sequence_in(value), "1.2.840.113741.1.13.1.2", visit_tcb);
    case 3: return octets_in(value, pck->pceid, sizeof pck->pceid);
    case 4: return octets_in(value, pck->fmspc, sizeof pck->fmspc);
    case 6: return pck->has_instance_id = octets_in(value, pck->instance_id, sizeof pck->instance_id);
    case 7: return visit_pairs(pck, sequence_in(value), "1.2.840.113741.1.13.1.7", visit_configuration);
    default: return true; /* .5 is the SGX type */
    }
}

bool pck_parse(const X509 *x, struct pck *pck) {
    memset(pck, 0, sizeof *pck);
    struct attest_bytes value;
    if (!extension_of(x, pck_oid, &value)) return false;
    pck->well_formed = visit_pairs(pck, sequence_of(value.data, value.size), pck_oid, visit_pck);
    ERR_clear_error();
    return pck->well_formed;
}

static bool is_pck(const X509 *x) {
    struct attest_bytes value;
    return extension_of(x, pck_oid, &value);
}

X509 *quote_pck_leaf(const struct quote *q, struct endorsements *rest) {
    if (q->certification != CERT_PCK_CHAIN && q->certification != CERT_PCK_LEAF) return NULL;
    struct attest_bytes data = q->certification_data;
    while (data.size && data.data[data.size - 1] == 0)
        data.size--; /* C string from some producers */
    read_certificates(data, &rest->certs, &rest->crls);
    for (size_t i = 0; i < rest->certs.count; i++)
        if (is_pck(rest->certs.items[i])) return rest->certs.items[i];
    return NULL;
}

/* A quote without certificate names its PCK by PPID, CPUSVN, PCESVN and PCEID. A clear PPID comes first; an encrypted
 * one says nothing to us, but the 20 bytes behind it are in the clear. */
static bool names_pck(const struct quote *q, const struct pck *pck) {
    enum { CLEAR = 20 };
    struct attest_bytes data = q->certification_data;
    if (q->certification == CERT_PPID_CLEAR)
        return data.size >= sizeof pck->ppid && memcmp(data.data, pck->ppid, sizeof pck->ppid) == 0;
    if (q->certification > CERT_PPID_RSA3072 || data.size < CLEAR) return false;
    const uint8_t *clear = data.data + data.size - CLEAR;
    return memcmp(clear, pck->cpu_svn, sizeof pck->cpu_svn) == 0 && (clear[16] | clear[17] << 8) == pck->pce_svn &&
           memcmp(clear + 18, pck->pceid, sizeof pck->pceid) == 0;
}

static X509 *stored_pck(struct attest_verifier *v, const struct quote *q) {
    for (size_t i = 0; i < v->store.certs.count; i++) {
        struct pck pck;
        if (pck_parse(v->store.certs.items[i], &pck) && names_pck(q, &pck)) return v->store.certs.items[i];
    }
    return NULL;
}

/* ---- The case ---- */

struct dcap {
    struct attest_verifier *v;
    const struct endorsements *carried;
    const struct attest_policy *policy;
    struct attest_result *res;
    int64_t now;
    struct quote q;
    const struct pck *pck;
    EVP_PKEY *pck_key;
    struct chain *path;
    struct endorsements in_quote;
    const struct qe_identity *qe_identity;
    /* of the TCB evaluation */
    const char *advisories[2 * INTEL_ADVISORIES_MAX];
    size_t advisory_count;
    int64_t tcb_date;
    uint32_t evaluation;
    bool root_list_failed; /* chain.crl has failed already */
};

static const char *certification_name(uint16_t type) {
    static const char *const names[] = {"none",
                                        "PPID in the clear",
                                        "PPID, RSA-2048 encrypted",
                                        "PPID, RSA-3072 encrypted",
                                        "PCK certificate",
                                        "PCK certificate chain",
                                        "QE report",
                                        "platform manifest"};
    return type < sizeof names / sizeof *names ? names[type] : "unknown";
}

/* Leaf, platform or processor CA, root, by their names (PCK Certificate Profile). */
static bool pck_names(const struct chain *path) {
    char leaf[80], issuer[80];
    common_name(X509_get_subject_name(path->certs[0]), leaf, sizeof leaf);
    common_name(X509_get_subject_name(path->certs[1]), issuer, sizeof issuer);
    return path->count == 3 && strstr(leaf, "SGX PCK Certificate") &&
           (strstr(issuer, "SGX PCK Platform CA") || strstr(issuer, "SGX PCK Processor CA")) &&
           key_on_curve(path->key, P256_BYTES);
}

/* Whatever else came in the quote belongs to the path: one of its certificates, or another instance of one (Intel
 * re-issued its root), rightly signed. A damaged or foreign certificate means the chain was tampered with, needed or
 * not. */
static const char *stray_certificate(struct attest_result *res, const struct chain *path, const struct certs *sent,
                                     uint16_t type) {
    if (type == CERT_PCK_LEAF && sent->count != 1) return "certification data of type 4 is one certificate";
    if (type == CERT_PCK_CHAIN && sent->count < 2) return "certification data of type 5 is a chain";
    for (size_t i = 0; i < sent->count; i++) {
        bool belongs = false;
        for (size_t k = 0; k < path->count && !belongs; k++) {
            size_t above = k + 1 < path->count ? k + 1 : k;
            belongs =
                X509_NAME_cmp(X509_get_subject_name(sent->items[i]), X509_get_subject_name(path->certs[k])) == 0 &&
                X509_verify(sent->items[i], X509_get0_pubkey(path->certs[above])) == 1;
        }
        ERR_clear_error();
        char name[80];
        if (belongs) continue;
        common_name(X509_get_subject_name(sent->items[i]), name, sizeof name);
        return v_format(res, "certificate %zu of %zu in the quote (%s) does not belong to the chain, or is damaged",
                        i + 1, sent->count, name)
            .text;
    }
    return NULL;
}

/* A quote without a certificate names one by numbers. */
static void advise_pck(struct dcap *c) {
    enum { CLEAR = 20 };
    struct attest_bytes data = c->q.certification_data;
    char numbers[2 * CLEAR + 1] = "";
    for (size_t i = 0; data.size >= CLEAR && i < CLEAR; i++)
        snprintf(numbers + 2 * i, 3, "%02x", data.data[data.size - CLEAR + i]);
    bool named = *numbers && c->q.certification >= 2 && c->q.certification <= CERT_PPID_RSA3072;
    advise(
        c->res,
        "have the attester's quote provider send its PCK chain (certification data of type 5), or give the platform's "
        "PCK "
        "certificate and its issuers with --collateral: who operates the host has it (PCCS), and Intel's PCS, with a "
        "subscription key%s%s",
        named ? ". CPUSVN, PCESVN, PCEID: " : "", named ? numbers : "");
}

/* Path and parsed extensions of the PCK certificate; both are cached under the digest of the certification data,
 * because parsing the certificates costs more than the two signatures. */
static void find_pck(struct dcap *c, char *why, size_t why_size) {
    uint8_t id[32];
    sha256(c->q.certification_data.data, c->q.certification_data.size, id);
    id[0] ^= (uint8_t)c->q.certification;
    id[1] ^= (uint8_t)(c->q.certification >> 8); /* the same bytes as another type are another thing */
    c->path = chain_cached(c->v, id, VENDOR_INTEL);
    if (!c->path) {
        X509 *leaf = quote_pck_leaf(&c->q, &c->in_quote);
        if (!leaf) leaf = stored_pck(c->v, &c->q);
        bool present = leaf != NULL;
        check(c->res, ATTEST_RULE_QUOTE_CERTIFICATION, present, v_text("a PCK certificate in the quote, or given"),
              present ? v_text(certification_name(c->q.certification))
                      : v_format(c->res, "type %u (%s), %s", c->q.certification, certification_name(c->q.certification),
                                 c->q.certification == CERT_PCK_LEAF || c->q.certification == CERT_PCK_CHAIN
                                     ? "in which no PCK certificate can be read"
                                     : "and no certificate with these numbers was given"));
        if (c->q.certification == CERT_PCK_LEAF || c->q.certification == CERT_PCK_CHAIN)
            advise(c->res,
                   "the certificates in the quote were damaged: fetch the quote again, and pass it on byte for byte");
        else
            advise_pck(c);
        if (!present) {
            snprintf(why, why_size, "no PCK certificate to start from");
            return;
        }
        c->path = chain_find(c->v, id, leaf, &c->in_quote, VENDOR_INTEL, why, why_size);
        if (!c->path) return;
        const char *stray = stray_certificate(c->res, c->path, &c->in_quote.certs, c->q.certification);
        struct pck *pck = calloc(1, sizeof *pck);
        if (stray)
            snprintf(why, why_size, "%s", stray); /* the empty pck makes the cached path unusable */
        else if (pck)
            pck_parse(leaf, pck);
        c->path->extra = pck;
        c->path->extra_free = free;
    } else
        check(c->res, ATTEST_RULE_QUOTE_CERTIFICATION, true, v_text("a PCK certificate in the quote, or given"),
              v_text(certification_name(c->q.certification)));
    c->pck = c->path->extra;
    c->pck_key = c->path->key;
    if (!c->pck || !c->pck->well_formed || !pck_names(c->path)) {
        if (!*why)
            snprintf(why, why_size,
                     "the certificate is not an SGX PCK certificate with Intel's extensions, issued by a PCK CA");
        c->path = NULL;
    }
}

static void describe_pck(struct dcap *c) {
    struct attest_result *res = c->res;
    fact_bytes(res, "fmspc", c->pck->fmspc, sizeof c->pck->fmspc);
    fact_bytes(res, "ppid", c->pck->ppid, sizeof c->pck->ppid);
    fact_bytes(res, "pceid", c->pck->pceid, sizeof c->pck->pceid);
    fact_number(res, "pck_pce_svn", c->pck->pce_svn);
    fact_bytes(res, "pck_tcb_components", c->pck->components, sizeof c->pck->components);
    fact_bytes(res, "pck_cpu_svn", c->pck->cpu_svn, sizeof c->pck->cpu_svn);
    if (c->pck->has_instance_id)
        fact_bytes(res, "platform_instance_id", c->pck->instance_id, sizeof c->pck->instance_id);
    if (c->pck->has_smt) fact(res, "smt", v_bool(c->pck->smt));
}

static void check_form(struct dcap *c) {
    struct attest_result *res = c->res;
    const struct quote *q = &c->q;
    check(res, ATTEST_RULE_QUOTE_VERSION, quote_known(q), v_text("3 (SGX), 4 or 5 (SGX, TDX)"),
          quote_known(q) ? v_number(q->version)
                         : v_format(res, "version %u, TEE type 0x%x, body type %d", q->version, q->tee, q->body_type));
    static const char *const key_types[] = {"EPID unlinkable", "EPID linkable", "ECDSA P-256", "ECDSA P-384"};
    check(res, ATTEST_RULE_QUOTE_KEY_TYPE, q->key_type == QUOTE_KEY_ECDSA_P256, v_text("2 (ECDSA P-256)"),
          v_format(res, "%u (%s)", q->key_type,
                   q->key_type < sizeof key_types / sizeof *key_types ? key_types[q->key_type] : "unknown"));
    static const uint8_t intel[16] = {0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9,
                                      0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07};
    check_bytes(res, ATTEST_RULE_QUOTE_VENDOR, intel, q->vendor, sizeof intel);
    advise(res, "the header was altered, or an enclave that is not Intel's made this quote: only Intel's is supported");
}

static void check_signatures(struct dcap *c) {
    struct attest_result *res = c->res;
    const struct quote *q = &c->q;
    bool known_key = q->key_type == QUOTE_KEY_ECDSA_P256;
    bool qe = c->path && ecdsa_verify_key(c->pck_key, P256_BYTES, (struct attest_bytes){q->qe_report, SGX_BODY_SIZE},
                                          q->qe_signature, q->qe_signature + P256_BYTES);
    check(res, ATTEST_RULE_QUOTE_QE_SIGNATURE, qe, v_text("signed by the PCK key"),
          v_text(qe        ? "valid"
                 : c->path ? "the signature does not verify"
                           : "not checked: there is no trusted key to do it with"));
    if (!c->path) advise(res, "repair the certificates first (chain.path)");
    /* SHA-256(attestation key || auth data), then zeros (QE report data). */
    uint8_t wanted[64] = {0};
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool hashed = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) && EVP_DigestUpdate(md, q->attestation_key, 64) &&
                  EVP_DigestUpdate(md, q->qe_auth.data, q->qe_auth.size) && EVP_DigestFinal_ex(md, wanted, NULL);
    EVP_MD_CTX_free(md);
    if (!hashed)
        check(res, ATTEST_RULE_QUOTE_ATTESTATION_KEY, false, v_text("a digest"), v_text("out of memory"));
    else
        check_bytes(res, ATTEST_RULE_QUOTE_ATTESTATION_KEY, wanted, q->qe.report_data, sizeof wanted);
    bool body = known_key && ecdsa_verify_p256(q->attestation_key, q->signed_part, q->signature);
    check(res, ATTEST_RULE_QUOTE_SIGNATURE, body, v_text("signed by the attestation key"),
          v_text(body         ? "valid"
                 : !known_key ? "not checked: the key is of another type"
                              : "the signature does not verify"));
}

/* ---- Collateral ---- */

/* Looks once for the TCB signing certificate that signed the document. */
static void find_signer(struct dcap *c, struct intel_signed *doc) {
    if (doc->signer_tried) return;
    doc->signer_tried = true;
    const struct certs *lists[] = {&c->v->store.certs, c->carried ? &c->carried->certs : NULL};
    for (int l = 0; l < 2; l++) {
        size_t at = 0;
        for (X509 *x; lists[l] && (x = certs_named(lists[l], "Intel SGX TCB Signing", &at));) {
            char why[160] = "";
            const struct chain *path = chain_of(c->v, x, c->carried, VENDOR_INTEL, why, sizeof why);
            struct attest_bytes text = {(const uint8_t *)doc->text, doc->size};
            if (!path || path->count != 2 ||
                !ecdsa_verify_key(path->key, P256_BYTES, text, doc->signature, doc->signature + 32))
                continue;
            /* Of several certificates for one key, the one that lasts longest. */
            if (doc->signer.count && doc->signer.not_after >= path->not_after) continue;
            for (size_t i = 0; i < doc->signer.count; i++)
                X509_free(doc->signer.certs[i]);
            doc->signer = *path;
            doc->signer.extra = NULL;
            doc->signer.extra_free = NULL;
            for (size_t i = 0; i < doc->signer.count; i++)
                X509_up_ref(doc->signer.certs[i]);
        }
    }
}

static const char *signer_window(struct attest_result *res, const struct chain *signer, int64_t now) {
    bool early = now < signer->not_before;
    char at[40];
    attest_value_format(
        &(struct attest_value){.kind = ATTEST_TIME, .time = early ? signer->not_before : signer->not_after}, at,
        sizeof at);
    return v_format(res, "the signing certificate %s %s", early ? "is not valid before" : "expired", at).text;
}

static void check_signer(struct dcap *c, enum attest_rule rule, struct intel_signed *doc) {
    struct attest_result *res = c->res;
    struct attest_value wanted = v_text("signed by a valid, unrevoked Intel TCB signing certificate");
    find_signer(c, doc);
    if (!doc->signer.count) {
        check(res, rule, false, wanted,
              v_text("the signature does not verify with any trusted TCB signing certificate"));
        advise(
            res,
            "%s was altered, re-formatted, or not signed by Intel (a test PKI?): fetch it again, and store it byte for "
            "byte, with its tcb signing chain",
            rule == ATTEST_RULE_TCB_INFO_SIGNATURE ? "the TCB info" : "the QE identity");
        return;
    }
    const struct crl *crl;
    enum crl_state state = crl_check(c->v, c->carried, doc->signer.certs[0], doc->signer.certs[1], c->now, &crl);
    bool valid = c->now >= doc->signer.not_before && c->now <= doc->signer.not_after;
    const char *found = !doc->signer.algorithms_ok ? "the signing certificate uses another algorithm"
                        : !valid                   ? signer_window(res, &doc->signer, c->now)
                        : state == CRL_REVOKED     ? "the signing certificate is revoked"
                                                   : NULL;
    check(res, rule, !found, wanted, found ? v_text(found) : v_text("valid"));
    if (!valid) advise(res, "fetch collateral of the time appraised for, or check --at and the clock of this machine");
    if (state == CRL_REVOKED)
        advise(res, "Intel withdrew this signing key: fetch the collateral again, signed by the present one");
    result_until(res, doc->signer.not_after);
    if (state == CRL_GOOD || state == CRL_REVOKED || c->root_list_failed) return;
    /* The same list is needed for the PCK CA; without a path to that, it is missed here. */
    c->root_list_failed = true;
    check(res, ATTEST_RULE_CHAIN_CRL, false, v_text("the root CA's list, for the TCB signing certificate"),
          v_text(state == CRL_MISSING       ? "no revocation list of Intel SGX Root CA"
                 : state == CRL_NOT_GENUINE ? "the revocation list of Intel SGX Root CA is not signed by it"
                                            : "the revocation list of Intel SGX Root CA is not current"));
    advise(res, "run `donjon collateral fetch` on the evidence, or give with --collateral the list at "
                "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der");
}

static void check_current(struct dcap *c, enum attest_rule rule, const struct intel_signed *doc) {
    bool ok = doc->issued <= c->now && c->now <= doc->next_update;
    struct attest_value limit = v_time(c->now < doc->issued ? doc->issued : doc->next_update);
    char now[40], end[40];
    attest_value_format(&(struct attest_value){.kind = ATTEST_TIME, .time = c->now}, now, sizeof now);
    attest_value_format(&limit, end, sizeof end);
    check(c->res, rule, ok, v_format(c->res, "one that covers %s", now),
          ok                     ? v_time(c->now)
          : c->now < doc->issued ? v_format(c->res, "one issued later, %s", end)
                                 : v_format(c->res, "one whose next update was due %s", end));
    if (!ok) {
        char from[40];
        attest_value_format(&(struct attest_value){.kind = ATTEST_TIME, .time = doc->issued}, from, sizeof from);
        attest_value_format(&(struct attest_value){.kind = ATTEST_TIME, .time = doc->next_update}, end, sizeof end);
        advise(c->res,
               "%s. To appraise old evidence for its own time, give the collateral of that time and --at: this edition "
               "covers "
               "%s to %s",
               c->now < doc->issued ? "the time appraised for is before it: check --at, or the clock of this machine"
                                    : "fetch the current edition (`donjon collateral fetch` on the evidence)",
               from, end);
    }
    result_until(c->res, doc->next_update);
}

/* Of several editions: one that Intel signed, that covers `now`, that was evaluated last, that is newest. A forged or
 * damaged file beside a good one does no harm. */
static bool better(struct dcap *c, struct intel_signed *a, struct intel_signed *b) {
    if (!b) return true;
    find_signer(c, a);
    find_signer(c, b);
    if (!a->signer.count != !b->signer.count) return a->signer.count > 0;
    bool a_fits = a->issued <= c->now && c->now <= a->next_update,
         b_fits = b->issued <= c->now && c->now <= b->next_update;
    if (a_fits != b_fits) return a_fits;
    if (a->evaluation != b->evaluation) return a->evaluation > b->evaluation;
    return a->issued > b->issued;
}

static bool for_this_platform(const struct dcap *c, const struct tcb_info *info) {
    return info->tdx == (c->q.tee == QUOTE_TEE_TDX) && memcmp(info->fmspc, c->pck->fmspc, sizeof info->fmspc) == 0 &&
           memcmp(info->pceid, c->pck->pceid, sizeof info->pceid) == 0;
}

static struct tcb_info *pick_tcb_info(struct dcap *c, const struct tcb_info **other) {
    struct tcb_info *best = NULL;
    const struct endorsements *sources[] = {c->carried, &c->v->store};
    for (int s = 0; s < 2; s++)
        for (size_t i = 0; sources[s] && i < sources[s]->tcb_info_count; i++) {
            struct tcb_info *info = sources[s]->tcb_infos[i];
            if (!for_this_platform(c, info))
                *other = info;
            else if (better(c, &info->doc, best ? &best->doc : NULL))
                best = info;
        }
    return best;
}

static struct qe_identity *pick_qe_identity(struct dcap *c, bool *other) {
    struct qe_identity *best = NULL;
    const struct endorsements *sources[] = {c->carried, &c->v->store};
    for (int s = 0; s < 2; s++)
        for (size_t i = 0; sources[s] && i < sources[s]->qe_identity_count; i++) {
            struct qe_identity *q = sources[s]->qe_identities[i];
            if (q->td != (c->q.tee == QUOTE_TEE_TDX))
                *other = true;
            else if (better(c, &q->doc, best ? &best->doc : NULL))
                best = q;
        }
    return best;
}

static const char *missing_text(struct dcap *c, bool other, const char *other_text) {
    const char *rejected = c->carried && *c->carried->rejected ? c->carried->rejected : c->v->store.rejected;
    const char *what = other ? other_text : "none given";
    return *rejected ? v_format(c->res, "%s; a document is malformed: %s", what, rejected).text : what;
}

/* ---- TCB evaluation ---- */

static void add_advisories(struct dcap *c, const struct tcb_level *level) {
    for (size_t i = 0; i < level->advisory_count; i++) {
        bool known = false;
        for (size_t k = 0; k < c->advisory_count; k++)
            known |= strcmp(c->advisories[k], level->advisories[i]) == 0;
        if (!known && c->advisory_count < sizeof c->advisories / sizeof *c->advisories)
            c->advisories[c->advisory_count++] = level->advisories[i];
    }
    if (!c->tcb_date || level->date < c->tcb_date) c->tcb_date = level->date;
}

static bool at_least(const uint8_t *have, const uint8_t *need, unsigned from) {
    for (unsigned i = from; i < 16; i++)
        if (have[i] < need[i]) return false;
    return true;
}

/* First level all of whose components are reached. The SVNs are the PCK certificate's, not the quote's CPUSVN. */
static const struct tcb_level *platform_level(const struct dcap *c, const struct tcb_info *info,
                                              const uint8_t *tdx_svn) {
    for (size_t i = 0; i < info->levels.count; i++) {
        const struct tcb_level *level = &info->levels.items[i];
        if (!at_least(c->pck->components, level->sgx, 0) || c->pck->pce_svn < level->pce_svn) continue;
        /* SVNs 0 and 1 are the module's and judged by its identity, when it has a version. */
        if (tdx_svn && !at_least(tdx_svn, level->tdx, tdx_svn[1] > 0 ? 2 : 0)) continue;
        return level;
    }
    return NULL;
}

static const struct tcb_level *enclave_level(const struct tcb_levels *levels, uint16_t svn) {
    for (size_t i = 0; i < levels->count; i++)
        if (svn >= levels->items[i].isv_svn) return &levels->items[i];
    return NULL;
}

enum {
    BIT_UP_TO_DATE,
    BIT_SW,
    BIT_CONFIG,
    BIT_CONFIG_SW,
    BIT_OLD,
    BIT_OLD_CONFIG,
    BIT_RELAUNCH,
    BIT_RELAUNCH_CONFIG,
    BIT_REVOKED,
    BIT_NONE
};

/* A component that is out of date drags the platform along (PCS API v4, "convergence"). */
static int converge(int platform, int component) {
    if (component == BIT_REVOKED || platform == BIT_REVOKED) return BIT_REVOKED;
    if (component != BIT_OLD) return component == BIT_UP_TO_DATE || component == platform ? platform : BIT_NONE;
    if (platform == BIT_UP_TO_DATE || platform == BIT_SW) return BIT_OLD;
    if (platform == BIT_CONFIG || platform == BIT_CONFIG_SW) return BIT_OLD_CONFIG;
    return platform;
}

static const struct tdx_module *module_of(const struct tcb_info *info, uint8_t version) {
    if (version == 0) return info->has_module ? &info->module : NULL;
    for (size_t i = 0; i < info->module_count; i++)
        if (info->modules[i].version == version) return &info->modules[i];
    return NULL;
}

/* MRSIGNERSEAM and SEAMATTRIBUTES against the module's identity. */
static void check_module(struct dcap *c, const struct tcb_info *info) {
    const struct td_body *td = &c->q.td;
    const struct tdx_module *m = module_of(info, td->tee_tcb_svn[1]);
    const char *wrong = m ? NULL : "no identity for this module version in the TCB info";
    if (m && memcmp(m->mrsigner, td->mrsignerseam, sizeof m->mrsigner) != 0) wrong = "another signer (MRSIGNERSEAM)";
    for (int i = 0; m && i < 8; i++)
        if ((td->seam_attributes[i] & m->mask[i]) != m->attributes[i]) wrong = "other SEAM attributes";
    struct attest_value wanted = td->tee_tcb_svn[1]
                                     ? v_format(c->res, "an identity TDX_%02X that fits", td->tee_tcb_svn[1])
                                     : v_text("Intel's signer and attributes (module 1.0)");
    check(c->res, ATTEST_RULE_TDX_MODULE, !wrong, wanted, v_text(wrong ? wrong : "fits"));
}

/* Platform converged with the module of these SVNs and the QE; BIT_NONE: not supported. */
static int evaluate(struct dcap *c, const struct tcb_info *info, const uint8_t *tdx_svn, int qe, bool record) {
    const struct tcb_level *platform = platform_level(c, info, tdx_svn);
    if (!platform) return BIT_NONE;
    if (record) add_advisories(c, platform);
    int status = converge(platform->status, qe);
    if (tdx_svn && tdx_svn[1] > 0) {
        const struct tdx_module *m = module_of(info, tdx_svn[1]);
        const struct tcb_level *level = m ? enclave_level(&m->levels, tdx_svn[0]) : NULL;
        if (!level) return BIT_NONE;
        if (record) {
            add_advisories(c, level);
            fact(c->res, "tdx_module_status", v_text(tcb_status_names[level->status]));
        }
        status = status == BIT_NONE ? BIT_NONE : converge(status, level->status);
    }
    if (record) fact(c->res, "platform_tcb_status", v_text(tcb_status_names[platform->status]));
    return status;
}

/* A TD launched under an old module that has been updated underneath it needs only to be launched again. */
static int relaunch(int launched, int running) {
    if (launched != BIT_OLD && launched != BIT_OLD_CONFIG) return launched;
    if (running == BIT_UP_TO_DATE || running == BIT_SW) return launched == BIT_OLD ? BIT_RELAUNCH : BIT_RELAUNCH_CONFIG;
    if (running == BIT_CONFIG || running == BIT_CONFIG_SW) return BIT_RELAUNCH_CONFIG;
    return launched;
}

static const char *advisories_text(struct dcap *c) {
    char all[1200] = "";
    size_t at = 0;
    for (size_t i = 0; i < c->advisory_count && at < sizeof all; i++)
        at += (size_t)snprintf(all + at, sizeof all - at, "%s%s", i ? " " : "", c->advisories[i]);
    return v_format(c->res, "%s", all).text;
}

/* " (BIOS: Early Microcode Update)": what Intel calls component i, for people; TCB info of version 3 says it. */
static const char *component_name(const struct tcb_info *info, const char *list, unsigned i, char *out, size_t size) {
    json_t *doc = json_loadb(info->doc.text, info->doc.size, JSON_REJECT_DUPLICATES, NULL);
    const json_t *level = json_array_get(json_object_get(doc, "tcbLevels"), 0),
                 *item = json_array_get(json_object_get(json_object_get(level, "tcb"), list), i);
    const char *category = json_string_value(json_object_get(item, "category")),
               *type = json_string_value(json_object_get(item, "type"));
    out[0] = 0;
    if (category || type)
        snprintf(out, size, " (%.40s%s%.60s)", category ? category : "", category && type ? ": " : "",
                 type ? type : "");
    json_decref(doc);
    return out;
}

/* What keeps the platform from `level`, in words somebody can act on. */
static void shortfall(const struct dcap *c, const struct tcb_info *info, const struct tcb_level *level,
                      const uint8_t *tdx_svn, char *out, size_t size) {
    size_t at = strlen(out);
    char name[120];
    for (unsigned i = 0; i < 16 && at < size; i++)
        if (c->pck->components[i] < level->sgx[i])
            at += (size_t)snprintf(out + at, size - at, "; SGX component %u%s is %u, needs %u", i + 1,
                                   component_name(info, "sgxtcbcomponents", i, name, sizeof name),
                                   c->pck->components[i], level->sgx[i]);
    if (c->pck->pce_svn < level->pce_svn && at < size)
        at += (size_t)snprintf(out + at, size - at, "; PCE SVN is %u, needs %u", c->pck->pce_svn, level->pce_svn);
    for (unsigned i = tdx_svn && tdx_svn[1] > 0 ? 2 : 0; tdx_svn && i < 16 && at < size; i++)
        if (tdx_svn[i] < level->tdx[i])
            at += (size_t)snprintf(out + at, size - at, "; TDX component %u%s is %u, needs %u", i + 1,
                                   component_name(info, "tdxtcbcomponents", i, name, sizeof name), tdx_svn[i],
                                   level->tdx[i]);
}

/* Towards the best published level, or, when none is reached, towards the lowest. */
static const char *explain(struct dcap *c, const struct tcb_info *info, const uint8_t *tdx_svn, bool supported) {
    char text[900] = "";
    const struct qe_identity *id = c->qe_identity;
    if (info->levels.count)
        shortfall(c, info, &info->levels.items[supported ? 0 : info->levels.count - 1], tdx_svn, text, sizeof text);
    const struct tdx_module *m = tdx_svn && tdx_svn[1] ? module_of(info, tdx_svn[1]) : NULL;
    size_t at = strlen(text);
    if (m && tdx_svn[0] < m->levels.items[0].isv_svn && at < sizeof text)
        at += (size_t)snprintf(text + at, sizeof text - at, "; TDX module SVN is %u, needs %u", tdx_svn[0],
                               m->levels.items[0].isv_svn);
    if (id && c->q.qe.svn < id->levels.items[0].isv_svn && at < sizeof text)
        snprintf(text + at, sizeof text - at, "; quoting enclave SVN is %u, needs %u", c->q.qe.svn,
                 id->levels.items[0].isv_svn);
    return v_format(c->res, "%s", text).text;
}

/* What the status asks of whom, and the policy's line that would accept it. */
static void advise_status(struct dcap *c, int status) {
    static const char *const steps[] = {
        [BIT_UP_TO_DATE] = "nothing is wrong with the platform",
        [BIT_SW] =
            "the code in the TEE must be hardened in software: ask its author whether it is (see the advisories)",
        [BIT_CONFIG] = "have who operates the host change its BIOS settings (see the advisories)",
        [BIT_CONFIG_SW] =
            "have who operates the host change its BIOS settings, and ask the code's author whether it is hardened "
            "in software (see the advisories)",
        [BIT_OLD] =
            "have who operates the host update what is named above, and fetch evidence with the new PCK certificate",
        [BIT_OLD_CONFIG] =
            "have who operates the host update what is named above and change its BIOS settings, and fetch "
            "evidence with the new PCK certificate",
        [BIT_RELAUNCH] = "the host is up to date, the TD was launched before that: launch it anew",
        [BIT_RELAUNCH_CONFIG] =
            "the TD was launched before the host was updated: launch it anew; the host's BIOS settings need "
            "a change too",
    };
    advise(c->res, "%s. Or, if you accept the risk, add \"%s\" to intel.tcb_statuses in the policy", steps[status],
           tcb_status_names[status]);
}

static void check_tcb(struct dcap *c, const struct tcb_info *info, int qe_status) {
    struct attest_result *res = c->res;
    const uint8_t *svn = c->q.tee == QUOTE_TEE_TDX ? c->q.td.tee_tcb_svn : NULL;
    if (svn) check_module(c, info);
    int status = qe_status < 0 ? BIT_NONE : evaluate(c, info, svn, qe_status, true);
    if (svn && c->q.td.is15 && status != BIT_NONE)
        status = relaunch(status, evaluate(c, info, c->q.td.tee_tcb_svn2, qe_status, false));
    bool supported = status != BIT_NONE;
    res->tcb_status = supported         ? tcb_status_names[status]
                      : !c->qe_identity ? "not evaluated without the quoting enclave's identity"
                      : qe_status < 0   ? "TCBNotSupported: the quoting enclave is below every published level"
                                        : "TCBNotSupported";
    fact(res, "tcb_status", v_text(res->tcb_status));
    if (c->tcb_date) fact(res, "tcb_date", v_time(c->tcb_date));
    if (c->advisory_count) fact(res, "advisories", v_text(advisories_text(c)));
    uint32_t accepted = c->policy->intel.tcb_statuses & ~(uint32_t)ATTEST_TCB_REVOKED;
    bool level_ok = supported && status != BIT_REVOKED, ok = supported && (accepted >> status & 1);
    const char *why = ok ? "" : explain(c, info, svn, supported); /* reads the collateral once more */
    check(res, ATTEST_RULE_TCB_LEVEL, level_ok, v_text("a published level, not revoked"),
          level_ok ? v_text(res->tcb_status) : v_format(res, "%s%s", res->tcb_status, why));
    if (!c->qe_identity)
        advise(res, "get the quoting enclave's identity first (intel.qe_identity)");
    else if (supported)
        advise(res, "Intel withdrew platforms of this level: move the workload to another machine");
    else
        advise(res,
               "no policy can accept this: the platform is below the lowest level Intel lists%s. Have who operates the "
               "host "
               "update what is named above, and register it anew for a PCK certificate of the new TCB; or TCB info of "
               "another "
               "date lists it",
               c->q.tee == QUOTE_TEE_TDX ? " for TDX" : "");
    struct attest_value found = v_text(res->tcb_status);
    if (!ok || c->advisory_count)
        found = v_format(res, "%s%s%s%s%s", res->tcb_status, c->advisory_count ? " (" : "",
                         c->advisory_count ? advisories_text(c) : "", c->advisory_count ? ")" : "", ok ? "" : why);
    check(res, ATTEST_RULE_TCB_STATUS, ok, v_text(statuses_text(res, accepted)), found);
    concerns(res, "intel.tcb_statuses");
    if (!supported || status == BIT_REVOKED)
        advise(res, "see %s: no policy can accept this", c->qe_identity ? "intel.tcb_level" : "intel.qe_identity");
    else
        advise_status(c, status);
}

static void check_qe_report(struct dcap *c, const struct qe_identity *id) {
    const struct sgx_body *qe = &c->q.qe;
    const char *wrong = (qe->misc_select & id->misc_mask) != id->misc_select ? "MISCSELECT" : NULL;
    for (size_t i = 0; i < sizeof id->attributes; i++)
        if ((qe->attributes[i] & id->attributes_mask[i]) != id->attributes[i]) wrong = "ATTRIBUTES";
    if (memcmp(qe->mrsigner, id->mrsigner, sizeof id->mrsigner) != 0) wrong = "MRSIGNER";
    if (qe->product_id != id->product_id) wrong = "ISVPRODID";
    check(c->res, ATTEST_RULE_QE_REPORT, !wrong,
          v_text(id->td ? "Intel's TD quoting enclave" : "Intel's quoting enclave"),
          wrong ? v_format(c->res, "another %s", wrong)
                : v_text(id->td ? "Intel's TD quoting enclave" : "Intel's quoting enclave"));
}

static const char *fmspc_text(const uint8_t fmspc[6], char out[13]) {
    for (size_t i = 0; i < 6; i++)
        snprintf(out + 2 * i, 3, "%02x", fmspc[i]);
    return out;
}

static const char *other_text(struct dcap *c, const struct tcb_info *other) {
    char fmspc[13];
    return v_format(c->res, "only TCB info of other platforms, such as %s for FMSPC %s", other->tdx ? "TDX" : "SGX",
                    fmspc_text(other->fmspc, fmspc))
        .text;
}

static void advise_fetch(struct dcap *c, const char *what, const char *query) {
    advise(
        c->res,
        "run `donjon collateral fetch` on the evidence, or give with --collateral, byte for byte, what Intel serves at "
        "https://api.trustedservices.intel.com/%s/certification/v4/%s%s",
        c->q.tee == QUOTE_TEE_TDX ? "tdx" : "sgx", what, query);
}

static void check_collateral(struct dcap *c) {
    struct attest_result *res = c->res;
    bool other_qe = false;
    const struct tcb_info *other = NULL;
    char fmspc[13];
    struct tcb_info *info = c->pck ? pick_tcb_info(c, &other) : NULL;
    struct qe_identity *id = pick_qe_identity(c, &other_qe);
    int qe_status = STATUS_UNKNOWN;
    check(res, ATTEST_RULE_QE_IDENTITY, id, v_text(c->q.tee == QUOTE_TEE_TDX ? "identity TD_QE" : "identity QE"),
          v_text(id ? "present" : missing_text(c, other_qe, "only the other TEE's identity")));
    advise_fetch(c, "qe/identity", "");
    c->qe_identity = id;
    if (id) {
        check_signer(c, ATTEST_RULE_QE_IDENTITY_SIGNATURE, &id->doc);
        check_current(c, ATTEST_RULE_QE_IDENTITY_CURRENT, &id->doc);
        check_qe_report(c, id);
        const struct tcb_level *level = enclave_level(&id->levels, c->q.qe.svn);
        if (level) {
            qe_status = level->status;
            add_advisories(c, level);
            fact(res, "qe_status", v_text(tcb_status_names[level->status]));
        }
    }
    bool v3 = info && (info->version == 3 || c->q.tee == QUOTE_TEE_SGX);
    check(res, ATTEST_RULE_TCB_INFO, v3,
          c->pck ? v_format(res, "%s TCB info for FMSPC %s", c->q.tee == QUOTE_TEE_TDX ? "TDX" : "SGX",
                            fmspc_text(c->pck->fmspc, fmspc))
                 : v_text("TCB info of the platform"),
          v_text(v3        ? "present"
                 : !c->pck ? "not chosen: without a trusted PCK certificate the platform is not known"
                 : info    ? "TCB info of version 2, in which nothing stands about TDX"
                           : missing_text(c, other, other ? other_text(c, other) : NULL)));
    if (c->pck)
        advise_fetch(c, "tcb?fmspc=", fmspc_text(c->pck->fmspc, fmspc));
    else
        advise(res, "repair the certificates first (chain.path)");
    if (!v3) return;
    check_signer(c, ATTEST_RULE_TCB_INFO_SIGNATURE, &info->doc);
    check_current(c, ATTEST_RULE_TCB_INFO_CURRENT, &info->doc);
    c->evaluation = info->doc.evaluation;
    if (id && id->doc.evaluation < c->evaluation) c->evaluation = id->doc.evaluation;
    fact_number(res, "tcb_evaluation_number", c->evaluation);
    check_tcb(c, info, qe_status);
}

/* ---- Policy ---- */

static void policy_intel(struct dcap *c) {
    struct attest_result *res = c->res;
    const struct attest_policy *p = c->policy;
    const char *forbidden = NULL;
    for (size_t i = 0; i < c->advisory_count; i++)
        if (words_have(&p->intel.forbidden_advisories, c->advisories[i])) forbidden = c->advisories[i];
    if (p->intel.forbidden_advisories.count)
        check(res, ATTEST_RULE_ADVISORIES, !forbidden, v_text("none of the forbidden advisories"),
              v_text(forbidden ? v_format(res, "%s", forbidden).text : "none"));
    check(res, ATTEST_RULE_EVALUATION, c->evaluation >= p->intel.minimum_evaluation,
          v_format(res, "at least %u", p->intel.minimum_evaluation), v_number(c->evaluation));
    if (!c->pck) return;
    /* Client platforms do not say; only a policy that forbids SMT needs to know. */
    if (p->intel.allow_smt)
        note(res, ATTEST_RULE_INTEL_SMT, c->pck->has_smt ? v_bool(c->pck->smt) : v_text("not stated"));
    else
        check(res, ATTEST_RULE_INTEL_SMT, c->pck->has_smt && !c->pck->smt, v_text("off"),
              v_text(!c->pck->has_smt ? "the PCK certificate does not say"
                     : c->pck->smt    ? "on"
                                      : "off"));
    bool by_instance =
        c->pck->has_instance_id && set_has(&p->intel.platforms, c->pck->instance_id, sizeof c->pck->instance_id);
    check_set(res, ATTEST_RULE_INTEL_PLATFORM, "intel.platforms", &p->intel.platforms,
              by_instance ? c->pck->instance_id : c->pck->ppid, sizeof c->pck->ppid);
}

void sgx_appraise(struct attest_result *res, const struct attest_policy *p, const struct sgx_body *b) {
    check(res, ATTEST_RULE_SGX_RESERVED, b->reserved_zero, v_text("zero"),
          v_text(b->reserved_zero ? "zero" : "a reserved field or bit is set"));
    policy_common(res, p, ATTEST_TEE_SGX, b->flags & SGX_FLAG_DEBUG);
    bool named = p->sgx.mrenclaves.count || p->sgx.mrsigners.count;
    bool ok = check_set(res, ATTEST_RULE_MEASUREMENT, "sgx.mrenclaves", &p->sgx.mrenclaves, b->mrenclave,
                        sizeof b->mrenclave);
    ok &= check_set(res, ATTEST_RULE_SIGNER, "sgx.mrsigners", &p->sgx.mrsigners, b->mrsigner, sizeof b->mrsigner);
    /* Intel's SDK publishes this key's private part: whoever signs with it is nobody in particular. */
    static const uint8_t sample[32] = {0x83, 0xd7, 0x19, 0xe7, 0x7d, 0xea, 0xca, 0x14, 0x70, 0xf6, 0xba,
                                       0xf6, 0x2a, 0x4d, 0x77, 0x43, 0x03, 0xc8, 0x99, 0xdb, 0x69, 0x02,
                                       0x0f, 0x9c, 0x70, 0xee, 0x1d, 0xfc, 0x08, 0xc7, 0xce, 0x9e};
    bool is_sample = memcmp(sample, b->mrsigner, sizeof sample) == 0;
    bool irrelevant = p->sgx.mrenclaves.count && !p->sgx.mrsigners.count; /* the code itself is pinned */
    if (is_sample && !irrelevant && p->sgx.allow_sample_signer)
        note(res, ATTEST_RULE_SGX_SAMPLE_SIGNER, v_text("the SDK's sample key"));
    else
        check(res, ATTEST_RULE_SGX_SAMPLE_SIGNER, !is_sample || irrelevant, v_text("a key of somebody's own"),
              v_text(!is_sample   ? "another key"
                     : irrelevant ? "the SDK's sample key, and the code itself is pinned"
                                  : "the SDK's sample key, whose private part is published"));
    bool product = p->sgx.product_id < 0 || b->product_id == p->sgx.product_id;
    /* A signer signs many products: by signer alone, MRSIGNER says little without ISVPRODID. */
    check(res, ATTEST_RULE_SGX_PRODUCT, product && b->svn >= p->sgx.minimum_svn,
          p->sgx.product_id < 0
              ? v_format(res, "any product, version at least %u", p->sgx.minimum_svn)
              : v_format(res, "product %d, version at least %u", p->sgx.product_id, p->sgx.minimum_svn),
          v_format(res, "product %u, version %u", b->product_id, b->svn));
    res->identified = named && ok && product;
    bool masked = !(b->flags & ~p->sgx.attribute_mask) && !(b->xfrm & ~p->sgx.xfrm_mask);
    if (p->sgx.attribute_mask == UINT64_MAX && p->sgx.xfrm_mask == UINT64_MAX)
        note(res, ATTEST_RULE_SGX_ATTRIBUTES, v_bytes(res, b->attributes, sizeof b->attributes));
    else
        check(res, ATTEST_RULE_SGX_ATTRIBUTES, masked,
              v_format(res, "within 0x%llx and XFRM 0x%llx", (unsigned long long)p->sgx.attribute_mask,
                       (unsigned long long)p->sgx.xfrm_mask),
              v_format(res, "0x%llx and XFRM 0x%llx", (unsigned long long)b->flags, (unsigned long long)b->xfrm));
    check_set(res, ATTEST_RULE_SGX_CONFIG, "sgx.config_ids", &p->sgx.config_ids, b->config_id, sizeof b->config_id);
    policy_workload(res, p, b->config_id, sizeof b->config_id);
    policy_report_data(res, p, b->report_data);
}

/* A quote that could not be read to its end: what is wrong, with the sizes that tell where. */
static void check_unread(struct attest_result *res, struct attest_bytes bytes, const struct quote *q,
                         const char *wrong) {
    struct attest_value wanted = v_text("a complete quote");
    size_t at = q->signed_part.size;
    struct reader r = reader_of(bytes);
    read_span(&r, at);
    uint32_t announced = read_le32(&r);
    size_t whole = at + 4 + announced;
    bool sized = at && !r.failed;
    if (bytes.size >= 2 && (q->version < 3 || q->version > 5)) {
        check(res, ATTEST_RULE_EVIDENCE, false, wanted, v_format(res, "a quote of version %u", q->version));
        advise(res, "versions 3, 4 and 5 are known: update the verifier, or have the attester make one of these");
    } else if (!sized || (announced > r.left && announced < UINT16_MAX)) {
        check(res, ATTEST_RULE_EVIDENCE, false, wanted,
              sized ? v_format(res, "%s: %zu bytes of %zu", wrong, bytes.size, whole)
                    : v_format(res, "%s: %zu bytes", wrong, bytes.size));
        advise(res, "the quote is cut off: fetch it again, all of it");
    } else if (announced < r.left) {
        check(res, ATTEST_RULE_EVIDENCE, false, wanted,
              v_format(res, "%s: the quote says it has %zu bytes, and there are %zu", wrong, whole, bytes.size));
        advise(res, "something was added to the quote, or its sizes were altered: fetch it again, and pass on its own "
                    "bytes only");
    } else {
        check(res, ATTEST_RULE_EVIDENCE, false, wanted,
              v_format(res, "%s (signature data at byte %zu says %u bytes, %zu are there)", wrong, at, announced,
                       r.left));
        advise(res, "sizes inside the quote contradict each other, it was altered: fetch it again, and pass it on byte "
                    "for byte");
    }
}

void quote_verify(struct attest_verifier *v, struct attest_bytes bytes, struct attest_bytes log,
                  const struct endorsements *carried, const struct attest_policy *policy, int64_t now,
                  struct attest_result *res) {
    struct dcap c = {.v = v, .carried = carried, .policy = policy, .res = res, .now = now};
    const char *wrong = quote_parse(bytes, &c.q);
    bool other_key = wrong && strcmp(wrong, QUOTE_OTHER_KEY) == 0; /* quote.key_type is the one that fails */
    res->tee = c.q.tee == QUOTE_TEE_TDX ? ATTEST_TEE_TDX : ATTEST_TEE_SGX;
    if (wrong && !other_key)
        check_unread(res, bytes, &c.q, wrong);
    else
        check(res, ATTEST_RULE_EVIDENCE, true, v_text("a complete quote"), v_text("a complete quote"));
    if (c.q.body.data) quote_describe(res, &c.q);
    if (c.q.body.data || c.q.version < 3 || c.q.version > 5) check_form(&c);
    if (wrong) return;
    char why[240] = "";
    find_pck(&c, why, sizeof why);
    check_chain(res, c.path, why, now);
    if (!c.path)
        advise(res, c.in_quote.certs.count
                        ? "the chain in the quote was damaged, or is not Intel's: fetch the quote again, and pass it "
                          "on byte for "
                          "byte. A test PKI has a root of its own: --root"
                        : "there is no chain without the PCK certificate: see quote.certification_data");
    if (c.path) {
        unsigned failed = res->failed;
        check_revocation(v, res, c.path, carried, 0, true, now);
        c.root_list_failed = res->failed > failed;
        describe_pck(&c);
    } else
        c.pck = NULL;
    check_signatures(&c);
    check_collateral(&c);
    if (c.q.body_type == QUOTE_BODY_SGX)
        sgx_appraise(res, policy, &c.q.sgx);
    else
        td_appraise(res, policy, &c.q.td);
    if (c.q.body_type != QUOTE_BODY_SGX && log.size) event_log_check(res, log, &c.q.td);
    policy_intel(&c);
    endorsements_free(&c.in_quote);
}
