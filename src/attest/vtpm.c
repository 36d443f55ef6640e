/* A vTPM's quote beside Azure's HCL report: the hardware report vouches for the runtime data, the runtime data hold the
 * vTPM's attestation key (HCLAkPub), the key signs the quote, and the quote covers PCRs and the tenant's nonce (TPM 2.0
 * Library, part 2, 10.12: TPMS_ATTEST; part 1, 17.6: the digest of the selected PCRs). */
#include "vtpm.h"

#include <stdio.h>
#include <stdlib.h>

#include <jansson.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/param_build.h>

#include "crypto.h"
#include "policy.h"

enum { TPM_GENERATED = 0xff544347, TPM_ST_ATTEST_QUOTE = 0x8018, TPM_ALG_SHA256 = 0x000b, PCR_SELECT = 3 };

static uint64_t read_be(struct reader *r, unsigned n) {
    const uint8_t *span = read_span(r, n);
    uint64_t value = 0;
    for (unsigned i = 0; span && i < n; i++)
        value = value << 8 | span[i];
    return value;
}

const char *vtpm_quote_parse(struct attest_bytes message, struct vtpm_quote *q) {
    struct reader reader = reader_of(message), *r = &reader;
    memset(q, 0, sizeof *q);
    if (read_be(r, 4) != TPM_GENERATED || read_be(r, 2) != TPM_ST_ATTEST_QUOTE) return "not made by a TPM as a quote";
    read_bytes(r, read_be(r, 2)); /* qualified name of the signer */
    q->nonce = read_bytes(r, read_be(r, 2));
    read_span(r, 8 + 4 + 4 + 1); /* clock, resets, restarts, safe */
    read_span(r, 8);             /* firmware version */
    uint64_t banks = read_be(r, 4), algorithm = read_be(r, 2), size = read_be(r, 1);
    if (!r->failed && (banks != 1 || algorithm != TPM_ALG_SHA256 || size != PCR_SELECT))
        return "it selects other PCRs than those of the SHA-256 bank";
    const uint8_t *selected = read_span(r, PCR_SELECT);
    q->digest = read_bytes(r, read_be(r, 2));
    if (r->failed) return "ends early";
    if (r->left) return "bytes after its end";
    if (q->nonce.size > VTPM_NONCE_MAX || q->digest.size != 32) return "nonce or digest has a wrong size";
    q->selected = selected[0] | (uint32_t)selected[1] << 8 | (uint32_t)selected[2] << 16;
    return NULL;
}

/* ---- The runtime data ---- */

static BIGNUM *number_of(const json_t *jwk, const char *key) {
    const json_t *text = json_object_get(jwk, key);
    struct attest_bytes bytes = json_is_string(text)
                                    ? decode_base64(json_string_value(text), json_string_length(text), true)
                                    : (struct attest_bytes){0};
    BIGNUM *n = bytes.data ? BN_bin2bn(bytes.data, (int)bytes.size, NULL) : NULL;
    free((void *)bytes.data);
    return n;
}

/* An RSA key of 2048 to 4096 bits, or null. */
static EVP_PKEY *key_of(const json_t *jwk) {
    enum { BITS_MIN = 2048, BITS_MAX = 4096 };
    BIGNUM *n = number_of(jwk, "n"), *e = number_of(jwk, "e");
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    bool ok = n && e && build && BN_num_bits(n) >= BITS_MIN && BN_num_bits(n) <= BITS_MAX && BN_is_odd(n) &&
              BN_is_odd(e) && BN_num_bits(e) <= 32 && OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, n) == 1 &&
              OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, e) == 1;
    OSSL_PARAM *params = ok ? OSSL_PARAM_BLD_to_param(build) : NULL;
    EVP_PKEY_CTX *ctx = params ? EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL) : NULL;
    EVP_PKEY *key = NULL;
    if (!ctx || EVP_PKEY_fromdata_init(ctx) != 1 || EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) != 1)
        key = NULL;
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(build);
    BN_free(n);
    BN_free(e);
    return key;
}

static EVP_PKEY *attestation_key(struct attest_bytes runtime) {
    json_t *doc = json_loadb((const char *)runtime.data, runtime.size, JSON_REJECT_DUPLICATES, NULL);
    const json_t *keys = json_object_get(doc, "keys");
    EVP_PKEY *key = NULL;
    for (size_t i = 0; !key && i < json_array_size(keys); i++) {
        const json_t *jwk = json_array_get(keys, i), *kid = json_object_get(jwk, "kid"),
                     *kty = json_object_get(jwk, "kty");
        if (json_is_string(kid) && strcmp(json_string_value(kid), "HCLAkPub") == 0 && json_is_string(kty) &&
            strcmp(json_string_value(kty), "RSA") == 0)
            key = key_of(jwk);
    }
    json_decref(doc);
    return key;
}

void hcl_read_runtime(struct attest_evidence *e) {
    json_t *doc = json_loadb((const char *)e->runtime.data, e->runtime.size, JSON_REJECT_DUPLICATES, NULL);
    const json_t *text = json_object_get(doc, "user-data");
    struct attest_bytes data =
        json_is_string(text) ? decode_hex(json_string_value(text), json_string_length(text)) : (struct attest_bytes){0};
    if (data.data && data.size <= CHOSEN_SIZE) add_chosen(e, "user data in Azure's runtime data", data);
    free((void *)data.data);
    json_decref(doc);
}

/* ---- Appraisal ---- */

static bool signed_by_key(EVP_PKEY *key, const struct attest_evidence *e) {
    EVP_MD_CTX *md = EVP_MD_CTX_new(); /* RSASSA-PKCS1-v1_5, the scheme of the HCL's key */
    bool ok = md && EVP_DigestVerifyInit(md, NULL, EVP_sha256(), NULL, key) == 1 &&
              EVP_DigestVerify(md, e->vtpm_signature.data, e->vtpm_signature.size, e->vtpm_message.data,
                               e->vtpm_message.size) == 1;
    EVP_MD_CTX_free(md);
    ERR_clear_error();
    return ok;
}

/* PCR i as it was given, when the quote covers it; otherwise null. */
static const uint8_t *covered_pcr(const struct attest_evidence *e, const struct vtpm_quote *q, size_t i) {
    bool covered = (q->selected >> i & 1) && i < e->vtpm_pcrs.size / VTPM_PCR_SIZE;
    return covered ? e->vtpm_pcrs.data + i * VTPM_PCR_SIZE : NULL;
}

static void describe(struct attest_result *res, const struct attest_evidence *e, const struct vtpm_quote *q) {
    fact_bytes(res, "vtpm_nonce", q->nonce.data, q->nonce.size);
    for (size_t i = 0; i < VTPM_PCRS; i++)
        if (covered_pcr(e, q, i))
            fact(res, v_format(res, "vtpm_pcr%zu", i).text, v_bytes(res, covered_pcr(e, q, i), VTPM_PCR_SIZE));
}

void vtpm_describe(struct attest_result *res, const struct attest_evidence *e) {
    struct vtpm_quote q;
    if (!e->vtpm_message.data) return;
    const char *wrong = vtpm_quote_parse(e->vtpm_message, &q);
    if (wrong)
        fact(res, "vtpm_quote", v_text(wrong));
    else
        describe(res, e, &q);
}

static void check_pcrs(struct attest_result *res, const struct attest_evidence *e, const struct attest_policy *p,
                       const struct vtpm_quote *q) {
    uint8_t all[VTPM_PCRS * VTPM_PCR_SIZE], digest[32];
    size_t size = 0;
    bool complete = true;
    for (size_t i = 0; i < VTPM_PCRS; i++) {
        const uint8_t *value = covered_pcr(e, q, i);
        complete &= value || !(q->selected >> i & 1);
        if (value) memcpy(all + size, value, VTPM_PCR_SIZE), size += VTPM_PCR_SIZE;
    }
    bool ok = complete && sha256(all, size, digest) && memcmp(digest, q->digest.data, sizeof digest) == 0;
    check(res, ATTEST_RULE_VTPM_PCRS, ok, v_bytes(res, q->digest.data, q->digest.size),
          complete ? v_bytes(res, digest, sizeof digest) : v_text("values of selected PCRs are missing"));
    for (size_t i = 0; i < VTPM_PCRS; i++) {
        const uint8_t *value = covered_pcr(e, q, i);
        if (p->vtpm.pcrs[i].count && value)
            check_set(res, ATTEST_RULE_VTPM_POLICY, v_format(res, "vtpm.pcr%zu", i).text, &p->vtpm.pcrs[i], value,
                      VTPM_PCR_SIZE);
        else if (p->vtpm.pcrs[i].count)
            check(res, ATTEST_RULE_VTPM_POLICY, false, v_format(res, "vTPM PCR%zu with an allowed value", i),
                  v_text("not in the quote"));
    }
}

void vtpm_check(struct attest_result *res, const struct attest_evidence *e, const struct attest_policy *p) {
    bool wanted = false;
    for (size_t i = 0; i < VTPM_PCRS; i++)
        wanted |= p->vtpm.pcrs[i].count > 0;
    if (!e->vtpm_message.data) {
        if (wanted) check(res, ATTEST_RULE_VTPM_POLICY, false, v_text("a vTPM quote"), v_text("none in the evidence"));
        return;
    }
    struct vtpm_quote q;
    const char *wrong = vtpm_quote_parse(e->vtpm_message, &q);
    EVP_PKEY *key = e->runtime.data ? attestation_key(e->runtime) : NULL;
    bool ok = !wrong && key && signed_by_key(key, e);
    check(res, ATTEST_RULE_VTPM_SIGNATURE, ok, v_text("a quote signed by the key in the runtime data"),
          v_text(wrong              ? wrong
                 : !e->runtime.data ? "no runtime data beside it: nothing vouches for its key"
                 : !key             ? "no RSA key HCLAkPub in the runtime data"
                 : ok               ? "valid"
                                    : "the signature does not verify"));
    EVP_PKEY_free(key);
    if (wrong) return;
    describe(res, e, &q);
    check_pcrs(res, e, p, &q);
}
