#include "nitro.h"

#include <stdio.h>
#include <stdlib.h>

#include <cbor.h>
#include <openssl/err.h>

#include "cbor_pull.h"
#include "crypto.h"
#include "policy.h"

enum { TAG_COSE_SIGN1 = 18, COSE_ALG = 1, COSE_ES384 = 34 /* -35 as -1 - n */ };

bool nitro_looks_like(struct attest_bytes bytes) {
    struct reader r = reader_of(bytes);
    struct cb_item item = cb_next(&r);
    if (item.kind == CB_TAG && item.number == TAG_COSE_SIGN1) item = cb_next(&r);
    struct attest_bytes header, payload;
    if (item.kind != CB_ARRAY || item.number != 4 || !cb_bytes(&r, &header) || cb_peek(&r).kind != CB_MAP) return false;
    if (!cb_skip(&r)) return false;
    /* A CWT or CoRIM is a COSE_Sign1 as well; this payload has PCRs. A truncated document is still one. */
    return !cb_bytes(&r, &payload) || memmem(payload.data, payload.size, "\x64pcrs", 5);
}

/* byte string of 1..max bytes, or null for an absent optional field */
static bool take_optional(struct reader *r, struct attest_bytes *out) {
    struct cb_item item = cb_next(r);
    *out = item.bytes;
    return item.kind == CB_NULL || (item.kind == CB_BYTES && item.bytes.size <= NITRO_FIELD_MAX);
}

static bool take_pcrs(struct reader *r, struct nitro *n) {
    uint64_t count, index;
    struct attest_bytes value;
    if (!cb_map(r, &count)) return false;
    bool any = false;
    while (cb_more(r, &count)) {
        any = true;
        if (!cb_uint(r, &index) || index >= NITRO_PCRS || !cb_bytes(r, &value) || value.size != NITRO_PCR_SIZE ||
            n->pcr[index])
            return false;
        n->pcr[index] = value.data;
    }
    return any && !r->failed;
}

static bool take_bundle(struct reader *r, struct nitro *n) {
    uint64_t count;
    if (!cb_list(r, &count)) return false;
    for (n->bundle_count = 0; cb_more(r, &count); n->bundle_count++) {
        if (n->bundle_count == NITRO_BUNDLE_MAX) return false;
        struct attest_bytes *der = &n->bundle[n->bundle_count];
        if (!cb_bytes(r, der) || der->size < 1 || der->size > NITRO_CERT_MAX) return false;
    }
    return n->bundle_count && !r->failed;
}

static const char *take_member(struct reader *r, const struct cb_item *key, struct nitro *n) {
    if (cb_text_is(key, "module_id"))
        return cb_text(r, &n->module_id) && n->module_id.size ? NULL : "module_id is not a text";
    if (cb_text_is(key, "digest")) return cb_text(r, &n->digest) ? NULL : "digest is not a text";
    if (cb_text_is(key, "timestamp"))
        return cb_uint(r, &n->timestamp_ms) && n->timestamp_ms ? NULL : "timestamp is not a number";
    if (cb_text_is(key, "pcrs")) return take_pcrs(r, n) ? NULL : "pcrs is not a map of 1 to 32 registers of 48 bytes";
    if (cb_text_is(key, "certificate"))
        return cb_bytes(r, &n->certificate) && n->certificate.size && n->certificate.size <= NITRO_CERT_MAX
                   ? NULL
                   : "certificate is not 1 to 1024 bytes";
    if (cb_text_is(key, "cabundle"))
        return take_bundle(r, n) ? NULL : "cabundle is not 1 to 8 certificates of at most 1024 bytes";
    if (cb_text_is(key, "public_key"))
        return take_optional(r, &n->public_key) ? NULL : "public_key is not at most 1024 bytes";
    if (cb_text_is(key, "user_data"))
        return take_optional(r, &n->user_data) ? NULL : "user_data is not at most 1024 bytes";
    if (cb_text_is(key, "nonce")) return take_optional(r, &n->nonce) ? NULL : "nonce is not at most 1024 bytes";
    return "a member this verifier does not know";
}

static const char *parse_payload(struct nitro *n) {
    if (!cb_well_formed(n->payload)) return "the payload is not well-formed CBOR with distinct keys";
    struct reader r = reader_of(n->payload);
    uint64_t count;
    if (!cb_map(&r, &count)) return "the payload is not a map";
    while (cb_more(&r, &count)) {
        struct cb_item key = cb_next(&r);
        const char *wrong = take_member(&r, &key, n);
        if (wrong) return wrong;
    }
    if (!n->module_id.size || !n->digest.size || !n->timestamp_ms || !n->certificate.size || !n->bundle_count)
        return "a mandatory member is missing";
    return NULL;
}

const char *nitro_parse(struct attest_bytes bytes, struct nitro *n) {
    memset(n, 0, sizeof *n);
    struct reader r = reader_of(bytes);
    struct cb_item unprotected = {0};
    if (cb_peek(&r).kind == CB_TAG && cb_next(&r).number != TAG_COSE_SIGN1) return "not a COSE_Sign1";
    if (!cb_array(&r, 4) || !cb_bytes(&r, &n->protected_header)) return "not a COSE_Sign1";
    unprotected = cb_next(&r);
    if (unprotected.kind != CB_MAP || unprotected.number != 0) return "the unprotected header is not an empty map";
    for (int i = 0; i < 2; i++) {
        enum cbor_kind kind = cb_peek(&r).kind;
        if (kind == CB_END || kind == CB_BAD) return "it ends early";
        if (!cb_bytes(&r, i ? &n->signature : &n->payload)) return "payload or signature is not a byte string";
    }
    if (r.left) return "bytes after the end of the document";
    if (n->signature.size != NITRO_SIGNATURE) return "the signature is not 96 bytes";
    return parse_payload(n);
}

void nitro_describe(struct attest_result *res, const struct nitro *n) {
    static const char *const names[NITRO_PCRS] = {
        "pcr0",  "pcr1",  "pcr2",  "pcr3",  "pcr4",  "pcr5",  "pcr6",  "pcr7",  "pcr8",  "pcr9",  "pcr10",
        "pcr11", "pcr12", "pcr13", "pcr14", "pcr15", "pcr16", "pcr17", "pcr18", "pcr19", "pcr20", "pcr21",
        "pcr22", "pcr23", "pcr24", "pcr25", "pcr26", "pcr27", "pcr28", "pcr29", "pcr30", "pcr31"};
    fact_text(res, "module_id", (const char *)n->module_id.data, n->module_id.size);
    fact_text(res, "digest", (const char *)n->digest.data, n->digest.size);
    fact(res, "timestamp", v_time((int64_t)(n->timestamp_ms / 1000)));
    fact_number(res, "timestamp_ms", n->timestamp_ms);
    for (int i = 0; i < NITRO_PCRS; i++)
        if (n->pcr[i]) fact_bytes(res, names[i], n->pcr[i], NITRO_PCR_SIZE);
    if (n->user_data.size) fact_bytes(res, "user_data", n->user_data.data, n->user_data.size);
    if (n->nonce.size) fact_bytes(res, "nonce", n->nonce.data, n->nonce.size);
    if (n->public_key.size) fact_bytes(res, "public_key", n->public_key.data, n->public_key.size);
}

/* COSE Sig_structure: ["Signature1", protected, external_aad = h'', payload] (RFC 9052, 4.4). */
static bool signature_ok(EVP_PKEY *key, const struct nitro *n) {
    enum { HEAD_MAX = 9 };
    size_t size = 1 + 11 + HEAD_MAX + n->protected_header.size + 1 + HEAD_MAX + n->payload.size;
    uint8_t *message = malloc(size), *at = message;
    if (!message) return false;
    *at++ = 0x84;
    memcpy(at, "\x6aSignature1", 11);
    at += 11;
    const struct attest_bytes parts[] = {n->protected_header, {NULL, 0}, n->payload};
    for (int i = 0; i < 3; i++) {
        at += cbor_encode_bytestring_start(parts[i].size, at, HEAD_MAX);
        if (parts[i].size) memcpy(at, parts[i].data, parts[i].size);
        at += parts[i].size;
    }
    const uint8_t *rs = n->signature.data;
    bool ok =
        ecdsa_verify_key(key, P384_BYTES, (struct attest_bytes){message, (size_t)(at - message)}, rs, rs + P384_BYTES);
    free(message);
    return ok;
}

/* The protected header is exactly {1: -35}. */
static bool is_es384(struct attest_bytes header) {
    struct reader r = reader_of(header);
    uint64_t count, key;
    struct cb_item alg;
    return cb_map(&r, &count) && count == 1 && cb_uint(&r, &key) && key == COSE_ALG &&
           (alg = cb_next(&r)).kind == CB_NEGINT && alg.number == COSE_ES384 && r.left == 0;
}

/* The path is cached for exactly these certificates, so that a verdict does not depend on what was seen before. */
static bool path_id(const struct nitro *n, uint8_t id[32]) {
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool ok = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) &&
              EVP_DigestUpdate(md, n->certificate.data, n->certificate.size);
    for (size_t i = 0; ok && i < n->bundle_count; i++) {
        uint32_t size = (uint32_t)n->bundle[i].size;
        ok = EVP_DigestUpdate(md, &size, sizeof size) && EVP_DigestUpdate(md, n->bundle[i].data, n->bundle[i].size);
    }
    ok = ok && EVP_DigestFinal_ex(md, id, NULL);
    EVP_MD_CTX_free(md);
    return ok;
}

static struct chain *find_path(struct attest_verifier *v, const struct nitro *n, char *why, size_t why_size) {
    uint8_t id[32];
    if (!path_id(n, id)) return NULL;
    struct chain *path = chain_cached(v, id, VENDOR_AWS);
    if (path) return path;
    struct endorsements bundle = {0};
    const uint8_t *at = n->certificate.data;
    X509 *leaf = d2i_X509(NULL, &at, (long)n->certificate.size);
    if (leaf && at != n->certificate.data + n->certificate.size) {
        X509_free(leaf);
        leaf = NULL;
    }
    for (size_t i = 0; i < n->bundle_count; i++)
        read_certificates(n->bundle[i], &bundle.certs, &bundle.crls);
    if (leaf)
        path = chain_find(v, id, leaf, &bundle, VENDOR_AWS, why, why_size);
    else
        snprintf(why, why_size, "the enclave's certificate cannot be parsed");
    X509_free(leaf);
    endorsements_free(&bundle);
    ERR_clear_error();
    return path;
}

/* In debug mode PCR0 to 2 are zero; where they are absent nothing says that it is off. */
static bool debug_mode(const struct nitro *n) {
    for (int i = 0; i < 3; i++)
        if (n->pcr[i] && !all_zero(n->pcr[i], NITRO_PCR_SIZE)) return false;
    return true;
}

#define KEYS8(a, b, c, d, e, f, g, h)                                                                                  \
    "nitro.pcr" #a, "nitro.pcr" #b, "nitro.pcr" #c, "nitro.pcr" #d, "nitro.pcr" #e, "nitro.pcr" #f, "nitro.pcr" #g,    \
        "nitro.pcr" #h
static const char *const pcr_keys[NITRO_PCRS] = {KEYS8(0, 1, 2, 3, 4, 5, 6, 7), KEYS8(8, 9, 10, 11, 12, 13, 14, 15),
                                                 KEYS8(16, 17, 18, 19, 20, 21, 22, 23),
                                                 KEYS8(24, 25, 26, 27, 28, 29, 30, 31)};

static void policy_nitro(struct attest_result *res, const struct attest_policy *p, const struct nitro *n, int64_t now) {
    policy_common(res, p, ATTEST_TEE_NITRO, debug_mode(n));
    bool named = false, ok = true;
    for (int i = 0; i < NITRO_PCRS; i++) {
        const struct attest_set *set = &p->nitro.pcrs[i];
        if (!set->count) continue;
        named |= i <= 2 || i == 8;
        enum attest_rule rule = i == 0 ? ATTEST_RULE_MEASUREMENT : i == 8 ? ATTEST_RULE_SIGNER : ATTEST_RULE_NITRO_PCRS;
        if (n->pcr[i])
            ok &= check_set(res, rule, pcr_keys[i], set, n->pcr[i], NITRO_PCR_SIZE);
        else {
            ok &= check(res, rule, false, v_format(res, "PCR%d with an allowed value", i), v_text("absent"));
            concerns(res, pcr_keys[i]);
            advise(res, "the document does not show this register: have the enclave lock it, or drop %s", pcr_keys[i]);
        }
    }
    if (!p->nitro.pcrs[0].count && n->pcr[0])
        note(res, ATTEST_RULE_MEASUREMENT, v_bytes(res, n->pcr[0], NITRO_PCR_SIZE));
    res->identified = named && ok;
    char module[200];
    snprintf(module, sizeof module, "%.*s", n->module_id.size < 199 ? (int)n->module_id.size : 199,
             (const char *)n->module_id.data);
    check_words(res, ATTEST_RULE_NITRO_MODULE, "nitro.modules", &p->nitro.modules, module);
    uint8_t digest[32];
    if (p->nitro.user_data.count && sha256(n->user_data.data, n->user_data.size, digest))
        check_set(res, ATTEST_RULE_NITRO_FIELDS, "nitro.user_data_sha256", &p->nitro.user_data, digest, sizeof digest);
    if (p->nonce_size) {
        bool same = bytes_equal(n->nonce, (struct attest_bytes){p->nonce, p->nonce_size});
        check(res, ATTEST_RULE_NONCE, same, v_bytes(res, p->nonce, p->nonce_size),
              n->nonce.size ? v_bytes(res, n->nonce.data, n->nonce.size) : v_text("no nonce"));
        concerns(res, "nonce");
    }
    /* Fields this TEE does not have cannot satisfy a policy that asks for them. */
    if (p->report_data.count) {
        check(res, ATTEST_RULE_REPORT_DATA, false, v_text("64 bytes of report data"),
              v_text("Nitro documents have none: use nonce or nitro.user_data_sha256"));
        advise(res, "require nonce or nitro.user_data_sha256 instead of report_data for Nitro");
    }
    if (p->workloads.count) {
        check(res, ATTEST_RULE_WORKLOAD, false, v_text("a workload digest"),
              v_text("Nitro documents have no such field: use PCRs"));
        advise(res, "require nitro.pcr0 (and others) instead of workloads for Nitro");
    }
    int64_t made = (int64_t)(n->timestamp_ms / 1000);
    if (p->max_age) {
        check(res, ATTEST_RULE_AGE, made <= now && now - made <= p->max_age,
              v_format(res, "at most %lld s old", (long long)p->max_age),
              v_format(res, "%lld s", (long long)(now - made)));
        advise(res, made > now
                        ? "the document was made after the time appraised for: check --at, or the clock of this machine"
                        : "have the enclave make a new document, or raise max_age");
    } else
        note(res, ATTEST_RULE_AGE, v_time(made));
}

void nitro_verify(struct attest_verifier *v, struct attest_bytes bytes, const struct attest_policy *policy, int64_t now,
                  struct attest_result *res) {
    struct nitro n;
    res->tee = ATTEST_TEE_NITRO;
    const char *wrong = nitro_parse(bytes, &n);
    check(res, ATTEST_RULE_EVIDENCE, !wrong, v_text("a Nitro attestation document"),
          wrong ? v_format(res, "%s (of %zu bytes)", wrong, bytes.size) : v_text("a Nitro attestation document"));
    advise(res, "pass on the document as the NSM device returned it, byte for byte, all of it");
    if (wrong) return;
    nitro_describe(res, &n);
    bool es384 = is_es384(n.protected_header), digest = n.digest.size == 6 && memcmp(n.digest.data, "SHA384", 6) == 0;
    check(res, ATTEST_RULE_NITRO_ALGORITHM, es384 && digest, v_text("ES384 and SHA384"),
          v_text(!es384    ? "another algorithm in the protected header"
                 : !digest ? "another digest"
                           : "ES384 and SHA384"));
    char why[240] = "";
    const struct chain *path = find_path(v, &n, why, sizeof why);
    check_chain(res, path, why, now);
    if (!path)
        advise(res, "a Nitro document carries its whole chain, up to AWS' root: this one was damaged on the way, or "
                    "AWS did not "
                    "make it. Have the enclave make a new one (documents of a private PKI: --root)");
    bool signed_ok = path && es384 && signature_ok(path->key, &n);
    check(res, ATTEST_RULE_NITRO_SIGNATURE, signed_ok, v_text("signed by the enclave's certificate"),
          v_text(signed_ok ? "valid"
                 : !path   ? "not checked: there is no trusted key to do it with"
                 : !es384  ? "not checked: the algorithm is not ES384"
                           : "the signature does not verify"));
    if (!path) advise(res, "repair the certificates first (chain.path)");
    if (path && !es384) advise(res, "see nitro.algorithm");
    if (path) {
        /* The certificate lives three hours; a time outside it was not put there by the hypervisor. */
        int64_t made = (int64_t)(n.timestamp_ms / 1000), from = time_of(X509_get0_notBefore(path->certs[0])),
                until = time_of(X509_get0_notAfter(path->certs[0]));
        if (made < from || made > until) {
            check(res, ATTEST_RULE_CHAIN_VALIDITY, false, v_text("a timestamp within the certificate's validity"),
                  v_time(made));
            advise(res, "no hypervisor writes such a time: do not trust this document");
        }
    }
    policy_nitro(res, policy, &n, now);
}
