/* EAT Attestation Results (draft-ietf-rats-ear over RFC 9711), as JWT (RFC 7519, 7515) and CWT (RFC 8392, 9052). */
#include <stdio.h>
#include <stdlib.h>

#include <cbor.h>
#include <jansson.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#include "cbor_pull.h"
#include "crypto.h"
#include "ear.h"
#include "evidence.h"

static const char profile[] = "tag:github.com,2023:veraison/ear";
static const char developer[] = "https://donjon.example", build[] = "donjon 0.1.0";

/* Claims keys in CBOR. */
enum {
    EAR_IAT = 6,
    EAR_NONCE = 10,
    EAR_EXP = 4,
    EAR_PROFILE = 265,
    EAR_SUBMODS = 266,
    EAR_STATUS = 1000,
    EAR_VECTOR = 1001,
    EAR_POLICY_ID = 1003,
    EAR_VERIFIER_ID = 1004,
};

/* Trustworthiness tiers and claims (draft-ietf-rats-ar4si, 2.3). */
enum tier { NONE = 0, AFFIRMING = 2, WARNING = 32, CONTRAINDICATED = 96 };
enum claim {
    INSTANCE_IDENTITY,
    CONFIGURATION,
    EXECUTABLES,
    FILE_SYSTEM,
    HARDWARE,
    RUNTIME_OPAQUE,
    STORAGE_OPAQUE,
    SOURCED_DATA,
    CLAIMS
};
static const char *const claim_names[CLAIMS] = {"instance-identity", "configuration", "executables",
                                                "file-system",       "hardware",      "runtime-opaque",
                                                "storage-opaque",    "sourced-data"};

struct appraisal {
    int status;
    int vector[CLAIMS]; /* 0: no claim */
};

static bool failed(const struct attest_result *r, enum attest_rule rule) {
    for (unsigned i = 0; i < r->check_count; i++)
        if (r->checks[i].rule == rule && r->checks[i].outcome == ATTEST_FAIL) return true;
    return false;
}

/* Values from AR4SI: hardware 2 genuine, 32 known vulnerable, 97 unrecognised; executables 3 approved, 33 unrecognised,
 * 99 contraindicated; configuration 2 approved, 96 unsafe; instance 2 recognised, 97 not; runtime-opaque 2 memory
 * encrypted. */
static struct appraisal appraise(const struct attest_result *r) {
    struct appraisal a = {.status = r->accepted ? (r->identified ? AFFIRMING : WARNING) : CONTRAINDICATED};
    bool hardware = r->tee != ATTEST_TEE_SOFTWARE;
    bool old =
        failed(r, ATTEST_RULE_TCB_STATUS) || failed(r, ATTEST_RULE_SNP_MIN_TCB) || failed(r, ATTEST_RULE_TCB_LEVEL);
    a.vector[HARDWARE] = !r->genuine || !hardware ? 97 : old ? 32 : 2;
    a.vector[INSTANCE_IDENTITY] = r->genuine ? 2 : 97;
    a.vector[EXECUTABLES] = failed(r, ATTEST_RULE_MEASUREMENT) || failed(r, ATTEST_RULE_SIGNER) ? 33
                            : r->identified                                                     ? 3
                                                                                                : NONE;
    a.vector[CONFIGURATION] = failed(r, ATTEST_RULE_DEBUG) ? 96 : r->accepted ? 2 : 36;
    a.vector[RUNTIME_OPAQUE] = !r->genuine || !hardware || failed(r, ATTEST_RULE_DEBUG) ? 96 : 2;
    if (!r->genuine) a.vector[CONFIGURATION] = a.vector[EXECUTABLES] = 99;
    return a;
}

static const char *status_name(int status) {
    return status == AFFIRMING         ? "affirming"
           : status == WARNING         ? "warning"
           : status == CONTRAINDICATED ? "contraindicated"
                                       : "none";
}

/* ---- Keys ---- */

static bool is_usable(const EVP_PKEY *key) {
    return key_on_curve(key, P256_BYTES) || key_on_curve(key, P384_BYTES);
}

static EVP_PKEY *read_key(struct attest_bytes pem, bool private) {
    BIO *bio = BIO_new_mem_buf(pem.data, (int)pem.size);
    EVP_PKEY *key = NULL;
    if (bio)
        key = private ? PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL) : PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL);
    BIO_free(bio);
    ERR_clear_error();
    if (key && !is_usable(key)) {
        EVP_PKEY_free(key);
        key = NULL;
    }
    return key;
}

static unsigned key_width(const EVP_PKEY *key) {
    return key_on_curve(key, P256_BYTES) ? P256_BYTES : P384_BYTES;
}

/* r || s over the message; false when OpenSSL fails. */
static bool sign_raw(EVP_PKEY *key, struct attest_bytes message, uint8_t *rs) {
    unsigned width = key_width(key);
    uint8_t der[160];
    size_t size = sizeof der;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && EVP_DigestSignInit(ctx, NULL, width == P256_BYTES ? EVP_sha256() : EVP_sha384(), NULL, key) == 1 &&
              EVP_DigestSign(ctx, der, &size, message.data, message.size) == 1;
    EVP_MD_CTX_free(ctx);
    const uint8_t *at = der;
    ECDSA_SIG *sig = ok ? d2i_ECDSA_SIG(NULL, &at, (long)size) : NULL;
    ok = sig && BN_bn2binpad(ECDSA_SIG_get0_r(sig), rs, (int)width) >= 0 &&
         BN_bn2binpad(ECDSA_SIG_get0_s(sig), rs + width, (int)width) >= 0;
    ECDSA_SIG_free(sig);
    return ok;
}

/* ---- JWT ---- */

static char *base64url(const uint8_t *data, size_t size) {
    char *out = malloc(size / 3 * 4 + 8);
    if (!out) return NULL;
    int n = EVP_EncodeBlock((uint8_t *)out, data, (int)size);
    while (n > 0 && out[n - 1] == '=')
        out[--n] = 0;
    for (int i = 0; i < n; i++)
        out[i] = out[i] == '+' ? '-' : out[i] == '/' ? '_' : out[i];
    return out;
}

static json_t *claims_json(const struct attest_result *r, struct attest_bytes nonce) {
    struct appraisal a = appraise(r);
    json_t *vector = json_object();
    for (int i = 0; i < CLAIMS; i++)
        if (a.vector[i] != NONE) json_object_set_new(vector, claim_names[i], json_integer(a.vector[i]));
    char policy[100];
    snprintf(policy, sizeof policy, "policy://donjon/%s", r->policy_name);
    json_t *submod = json_pack("{s:s, s:o, s:s}", "ear.status", status_name(a.status), "ear.trustworthiness-vector",
                               vector, "ear.appraisal-policy-id", policy);
    json_t *claims = json_pack("{s:s, s:I, s:{s:s, s:s}, s:{s:o}}", "eat_profile", profile, "iat", (json_int_t)r->time,
                               "ear.verifier-id", "developer", developer, "build", build, "submods",
                               attest_tee_names[r->tee], submod);
    if (claims && r->valid_until) json_object_set_new(claims, "exp", json_integer(r->valid_until));
    char *text = nonce.size ? base64url(nonce.data, nonce.size) : NULL;
    if (claims && text) json_object_set_new(claims, "eat_nonce", json_string(text));
    free(text);
    return claims;
}

char *ear_jwt(const struct attest_result *r, EVP_PKEY *key, struct attest_bytes nonce) {
    json_t *claims = is_usable(key) ? claims_json(r, nonce) : NULL;
    char *payload = claims ? json_dumps(claims, JSON_COMPACT | JSON_SORT_KEYS) : NULL, *token = NULL;
    if (payload) {
        const char *header = key_width(key) == P256_BYTES ? "{\"alg\":\"ES256\",\"typ\":\"JWT\"}"
                                                          : "{\"alg\":\"ES384\",\"typ\":\"JWT\"}";
        char *h = base64url((const uint8_t *)header, strlen(header)),
             *p = base64url((const uint8_t *)payload, strlen(payload));
        size_t size = h && p ? strlen(h) + strlen(p) + 160 : 0;
        uint8_t rs[2 * P384_BYTES];
        token = size ? malloc(size) : NULL;
        if (token) {
            int n = snprintf(token, size, "%s.%s", h, p);
            char *s = sign_raw(key, (struct attest_bytes){(const uint8_t *)token, (size_t)n}, rs)
                          ? base64url(rs, 2 * key_width(key))
                          : NULL;
            if (s)
                snprintf(token + n, size - (size_t)n, ".%s", s);
            else {
                free(token);
                token = NULL;
            }
            free(s);
        }
        free(h);
        free(p);
    }
    free(payload);
    json_decref(claims);
    return token;
}

char *attest_ear_jwt(const struct attest_result *r, struct attest_bytes key_pem, struct attest_bytes nonce) {
    EVP_PKEY *key = read_key(key_pem, true);
    char *token = key ? ear_jwt(r, key, nonce) : NULL;
    EVP_PKEY_free(key);
    return token;
}

/* Mandatory members of an EAR (draft-ietf-rats-ear, 3.1). */
static const char *ear_claims_wrong(const json_t *claims) {
    const json_t *id = json_object_get(claims, "ear.verifier-id"), *submods = json_object_get(claims, "submods");
    if (!json_is_object(claims)) return "claims are not an object";
    if (!json_is_string(json_object_get(claims, "eat_profile"))) return "eat_profile is missing";
    if (!json_is_integer(json_object_get(claims, "iat"))) return "iat is missing";
    if (!json_is_string(json_object_get(id, "developer")) || !json_is_string(json_object_get(id, "build")))
        return "ear.verifier-id is missing";
    if (!json_is_object(submods) || json_object_size(submods) == 0) return "submods are missing";
    const char *name;
    json_t *submod;
    json_object_foreach((json_t *)submods, name, submod) {
        const char *status = json_string_value(json_object_get(submod, "ear.status"));
        bool known = status && (!strcmp(status, "affirming") || !strcmp(status, "warning") ||
                                !strcmp(status, "contraindicated") || !strcmp(status, "none"));
        if (!known) return "a submod lacks a known ear.status";
    }
    return NULL;
}

static bool part(const char **at, const char *end, bool last, struct attest_bytes *out) {
    const char *dot = memchr(*at, '.', (size_t)(end - *at));
    if ((dot == NULL) != last) return false;
    size_t size = (size_t)((dot ? dot : end) - *at);
    *out = decode_base64(*at, size, true);
    *at += size + !last;
    return out->data;
}

char *attest_ear_verify_jwt(struct attest_bytes token, struct attest_bytes key_pem, char *error, size_t error_size) {
    while (token.size && (token.data[token.size - 1] == '\n' || token.data[token.size - 1] == '\r'))
        token.size--;
    EVP_PKEY *key = read_key(key_pem, false);
    struct attest_bytes header = {0}, payload = {0}, signature = {0};
    const char *at = (const char *)token.data, *end = at + token.size, *wrong = NULL;
    char *claims_text = NULL;
    json_t *claims = NULL;
    if (!key)
        wrong = "the key is not a P-256 or P-384 public key in PEM";
    else if (!part(&at, end, false, &header) || !part(&at, end, false, &payload))
        wrong = "not three base64url parts";
    size_t signed_size = wrong ? 0 : (size_t)(at - (const char *)token.data) - 1;
    if (!wrong && !part(&at, end, true, &signature)) wrong = "not three base64url parts";
    if (!wrong) {
        /* The key decides the algorithm, never the token: `none`, HS256 and embedded keys have no say. */
        json_t *h = json_loadb((const char *)header.data, header.size, JSON_REJECT_DUPLICATES, NULL);
        const char *alg = json_string_value(json_object_get(h, "alg")),
                   *mine = key_width(key) == P256_BYTES ? "ES256" : "ES384";
        if (!alg || strcmp(alg, mine) != 0)
            wrong = "alg is not the key's algorithm";
        else if (json_object_get(h, "crit"))
            wrong = "critical header members are not supported";
        json_decref(h);
    }
    unsigned width = key ? key_width(key) : 0;
    if (!wrong &&
        (signature.size != 2 * width || !ecdsa_verify_key(key, width, (struct attest_bytes){token.data, signed_size},
                                                          signature.data, signature.data + width)))
        wrong = "the signature does not verify";
    if (!wrong) {
        claims = json_loadb((const char *)payload.data, payload.size, JSON_REJECT_DUPLICATES, NULL);
        wrong = ear_claims_wrong(claims);
    }
    if (!wrong) claims_text = json_dumps(claims, JSON_INDENT(2));
    if (wrong) snprintf(error, error_size, "%s", wrong);
    json_decref(claims);
    free((void *)header.data);
    free((void *)payload.data);
    free((void *)signature.data);
    EVP_PKEY_free(key);
    return claims_text;
}

/* ---- CWT ---- */

static void put_pair(cbor_item_t *map, uint64_t key, cbor_item_t *value) {
    bool ok = cbor_map_add(
        map, (struct cbor_pair){cbor_move(key < 24 ? cbor_build_uint8((uint8_t)key) : cbor_build_uint16((uint16_t)key)),
                                cbor_move(value)});
    (void)ok; /* definite maps sized below; no memory shows as a short map, which fails to verify */
}

static cbor_item_t *vector_cbor(const struct appraisal *a) {
    size_t n = 0;
    for (int i = 0; i < CLAIMS; i++)
        n += a->vector[i] != NONE;
    cbor_item_t *map = cbor_new_definite_map(n);
    for (int i = 0; i < CLAIMS; i++)
        if (a->vector[i] != NONE) put_pair(map, (uint64_t)i, cbor_build_uint8((uint8_t)a->vector[i]));
    return map;
}

/* Keys in the order of deterministic encoding (RFC 8949, 4.2.1). */
static cbor_item_t *claims_cbor(const struct attest_result *r, struct attest_bytes nonce) {
    struct appraisal a = appraise(r);
    cbor_item_t *claims = cbor_new_definite_map(4 + (r->valid_until != 0) + (nonce.size != 0));
    if (r->valid_until) put_pair(claims, EAR_EXP, cbor_build_uint64((uint64_t)r->valid_until));
    put_pair(claims, EAR_IAT, cbor_build_uint64((uint64_t)r->time));
    if (nonce.size) put_pair(claims, EAR_NONCE, cbor_build_bytestring(nonce.data, nonce.size));
    put_pair(claims, EAR_PROFILE, cbor_build_string(profile));
    cbor_item_t *submod = cbor_new_definite_map(3), *submods = cbor_new_definite_map(1), *id = cbor_new_definite_map(2);
    char policy[100];
    snprintf(policy, sizeof policy, "policy://donjon/%s", r->policy_name);
    put_pair(submod, EAR_STATUS, cbor_build_uint8((uint8_t)a.status));
    put_pair(submod, EAR_VECTOR, vector_cbor(&a));
    put_pair(submod, EAR_POLICY_ID, cbor_build_string(policy));
    (void)cbor_map_add(submods,
                       (struct cbor_pair){cbor_move(cbor_build_string(attest_tee_names[r->tee])), cbor_move(submod)});
    put_pair(claims, EAR_SUBMODS, submods);
    put_pair(id, 0, cbor_build_string(developer));
    put_pair(id, 1, cbor_build_string(build));
    put_pair(claims, EAR_VERIFIER_ID, id);
    return claims;
}

static uint8_t *serialize(cbor_item_t *item, size_t *size) {
    uint8_t *out = NULL;
    size_t capacity = 0;
    *size = cbor_serialize_alloc(item, &out, &capacity);
    return out;
}

/* Sig_structure of COSE_Sign1: ["Signature1", protected, h'', payload]. */
static uint8_t *sig_structure(struct attest_bytes header, struct attest_bytes payload, size_t *size) {
    cbor_item_t *list = cbor_new_definite_array(4);
    (void)cbor_array_push(list, cbor_move(cbor_build_string("Signature1")));
    (void)cbor_array_push(list, cbor_move(cbor_build_bytestring(header.data, header.size)));
    (void)cbor_array_push(list, cbor_move(cbor_build_bytestring((cbor_data) "", 0)));
    (void)cbor_array_push(list, cbor_move(cbor_build_bytestring(payload.data, payload.size)));
    uint8_t *out = serialize(list, size);
    cbor_decref(&list);
    return out;
}

static const uint8_t es256_header[] = {0xa1, 0x01, 0x26}, es384_header[] = {0xa1, 0x01, 0x38, 0x22};

uint8_t *ear_cwt(const struct attest_result *r, EVP_PKEY *key, struct attest_bytes nonce, size_t *size) {
    if (!is_usable(key)) return NULL;
    bool p256 = key_width(key) == P256_BYTES;
    struct attest_bytes header = {p256 ? es256_header : es384_header, p256 ? sizeof es256_header : sizeof es384_header};
    cbor_item_t *claims = claims_cbor(r, nonce);
    size_t payload_size, message_size;
    uint8_t *payload = serialize(claims, &payload_size), rs[2 * P384_BYTES], *out = NULL;
    cbor_decref(&claims);
    uint8_t *message =
        payload ? sig_structure(header, (struct attest_bytes){payload, payload_size}, &message_size) : NULL;
    if (message && sign_raw(key, (struct attest_bytes){message, message_size}, rs)) {
        enum { TAG_CWT = 61, TAG_COSE_SIGN1 = 18 };
        cbor_item_t *list = cbor_new_definite_array(4);
        (void)cbor_array_push(list, cbor_move(cbor_build_bytestring(header.data, header.size)));
        (void)cbor_array_push(list, cbor_move(cbor_new_definite_map(0)));
        (void)cbor_array_push(list, cbor_move(cbor_build_bytestring(payload, payload_size)));
        (void)cbor_array_push(list, cbor_move(cbor_build_bytestring(rs, 2 * key_width(key))));
        cbor_item_t *sign1 = cbor_build_tag(TAG_COSE_SIGN1, cbor_move(list));
        out = serialize(sign1, size);
        cbor_decref(&sign1);
    }
    free(message);
    free(payload);
    return out;
}

uint8_t *attest_ear_cwt(const struct attest_result *r, struct attest_bytes key_pem, struct attest_bytes nonce,
                        size_t *size) {
    EVP_PKEY *key = read_key(key_pem, true);
    uint8_t *out = key ? ear_cwt(r, key, nonce, size) : NULL;
    EVP_PKEY_free(key);
    return out;
}

/* Claims of a CWT as JSON, names as in the JWT. */
static json_t *ear_of_cbor(struct attest_bytes payload) {
    struct reader all = reader_of(payload), v;
    uint64_t n;
    struct attest_bytes text;
    json_t *claims = json_object(), *submods = json_object();
    if (cb_find(all, EAR_PROFILE, &v) && cb_text(&v, &text))
        json_object_set_new(claims, "eat_profile", json_stringn((const char *)text.data, text.size));
    if (cb_find(all, EAR_IAT, &v) && cb_uint(&v, &n)) json_object_set_new(claims, "iat", json_integer((json_int_t)n));
    if (cb_find(all, EAR_EXP, &v) && cb_uint(&v, &n)) json_object_set_new(claims, "exp", json_integer((json_int_t)n));
    if (cb_find(all, EAR_NONCE, &v) && cb_bytes(&v, &text)) {
        char *nonce = base64url(text.data, text.size);
        json_object_set_new(claims, "eat_nonce", json_string(nonce ? nonce : ""));
        free(nonce);
    }
    struct reader id, part;
    if (cb_find(all, EAR_VERIFIER_ID, &id)) {
        json_t *o = json_object();
        if (cb_find(id, 0, &part) && cb_text(&part, &text))
            json_object_set_new(o, "developer", json_stringn((const char *)text.data, text.size));
        if (cb_find(id, 1, &part) && cb_text(&part, &text))
            json_object_set_new(o, "build", json_stringn((const char *)text.data, text.size));
        json_object_set_new(claims, "ear.verifier-id", o);
    }
    if (cb_find(all, EAR_SUBMODS, &v) && cb_map(&v, &n))
        while (cb_more(&v, &n)) {
            struct attest_bytes name;
            if (!cb_text(&v, &name)) break;
            struct reader submod = v, field;
            uint64_t value;
            json_t *o = json_object(), *vector = json_object();
            cb_skip(&v);
            if (cb_find(submod, EAR_STATUS, &field) && cb_uint(&field, &value))
                json_object_set_new(o, "ear.status", json_string(status_name((int)value)));
            if (cb_find(submod, EAR_POLICY_ID, &field) && cb_text(&field, &text))
                json_object_set_new(o, "ear.appraisal-policy-id", json_stringn((const char *)text.data, text.size));
            struct reader entry;
            for (uint64_t i = 0; cb_find(submod, EAR_VECTOR, &field) && i < CLAIMS; i++)
                if (cb_find(field, i, &entry) && cb_uint(&entry, &value))
                    json_object_set_new(vector, claim_names[i], json_integer((json_int_t)value));
            json_object_set_new(o, "ear.trustworthiness-vector", vector);
            char key[64];
            snprintf(key, sizeof key, "%.*s", name.size < 63 ? (int)name.size : 63, (const char *)name.data);
            json_object_set_new(submods, key, o);
        }
    json_object_set_new(claims, "submods", submods);
    return claims;
}

char *attest_ear_verify_cwt(struct attest_bytes token, struct attest_bytes key_pem, char *error, size_t error_size) {
    EVP_PKEY *key = read_key(key_pem, false);
    struct reader r = reader_of(token);
    struct attest_bytes header = {0}, payload = {0}, signature = {0};
    uint64_t count;
    const char *wrong = key ? NULL : "the key is not a P-256 or P-384 public key in PEM";
    while (cb_peek(&r).kind == CB_TAG)
        cb_next(&r); /* CWT (61) and COSE_Sign1 (18), both optional */
    if (!wrong && (!cb_array(&r, 4) || !cb_bytes(&r, &header) || !cb_map(&r, &count) || count ||
                   !cb_bytes(&r, &payload) || !cb_bytes(&r, &signature) || r.left))
        wrong = "not a COSE_Sign1";
    unsigned width = key ? key_width(key) : 0;
    struct attest_bytes mine = {width == P256_BYTES ? es256_header : es384_header,
                                width == P256_BYTES ? sizeof es256_header : sizeof es384_header};
    if (!wrong && !bytes_equal(header, mine))
        wrong = "the protected header does not name the key's algorithm, and nothing else";
    size_t size = 0;
    uint8_t *message = wrong ? NULL : sig_structure(header, payload, &size);
    if (!wrong &&
        (!message || signature.size != 2 * width ||
         !ecdsa_verify_key(key, width, (struct attest_bytes){message, size}, signature.data, signature.data + width)))
        wrong = "the signature does not verify";
    free(message);
    if (!wrong && !cb_well_formed(payload)) wrong = "the claims are not well-formed CBOR";
    json_t *claims = wrong ? NULL : ear_of_cbor(payload);
    if (!wrong) wrong = ear_claims_wrong(claims);
    char *text = wrong ? NULL : json_dumps(claims, JSON_INDENT(2));
    if (wrong) snprintf(error, error_size, "%s", wrong);
    json_decref(claims);
    EVP_PKEY_free(key);
    return text;
}
