/* MRENCLAVE from the stream of build records, and SIGSTRUCT (SDM 38.13, 38.15, 39). */
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>

#include "crypto.h"
#include "reader.h"

enum { RECORD = 64, CHUNK = 256, PAGE = 4096 };

static bool tag_is(const uint8_t *record, const char *tag) {
    char padded[8] = {0};
    memcpy(padded, tag, strlen(tag));
    return memcmp(record, padded, sizeof padded) == 0;
}

const char *attest_sgx_measure(struct attest_bytes sgxs, uint8_t mrenclave[32]) {
    struct reader r = reader_of(sgxs);
    uint64_t size = 0, page = UINT64_MAX;
    for (bool first = true; first || r.left; first = false) {
        const uint8_t *record = read_span(&r, RECORD);
        if (!record) return "the stream ends within a record";
        struct reader fields = reader_of((struct attest_bytes){record + 8, RECORD - 8});
        if (first) {
            if (!tag_is(record, "ECREATE")) return "the stream does not begin with ECREATE";
            read_le32(&fields);
            size = read_le64(&fields);
            if (size < 2 * PAGE || (size & (size - 1))) return "the enclave's size is not a power of two";
            if (!read_reserved(&fields, 44)) return "reserved bytes of ECREATE are set";
        } else if (tag_is(record, "EADD")) {
            page = read_le64(&fields);
            if (page % PAGE || page >= size) return "EADD of a page outside the enclave";
            read_le64(&fields); /* SECINFO.FLAGS */
            if (!read_reserved(&fields, 40)) return "reserved bytes of SECINFO are set";
        } else if (tag_is(record, "EEXTEND")) {
            uint64_t at = read_le64(&fields);
            if (at % CHUNK || at >= size || !read_reserved(&fields, 48))
                return "EEXTEND of a chunk outside the enclave";
            if (!read_span(&r, CHUNK)) return "the stream ends within a chunk";
        } else
            return "a record is neither EADD nor EEXTEND";
    }
    /* The stream is exactly what the CPU hashes. */
    return sha256(sgxs.data, sgxs.size, mrenclave) ? NULL : "OpenSSL failed";
}

/* ---- SIGSTRUCT ---- */

enum { SIGSTRUCT = 1808, MODULUS = 384, SIGNED_FIRST = 128, SIGNED_SECOND_AT = 900, SIGNED_SECOND = 128, EXPONENT = 3 };

struct big {
    const uint8_t *modulus, *signature, *q1, *q2;
};

static bool rsa_ok(const BIGNUM *m, const uint8_t *signature_le, const uint8_t digest[32]) {
    uint8_t signature[MODULUS];
    for (int i = 0; i < MODULUS; i++)
        signature[i] = signature_le[MODULUS - 1 - i];
    BIGNUM *e = BN_new();
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    EVP_PKEY_CTX *make = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL), *check = NULL;
    EVP_PKEY *key = NULL;
    OSSL_PARAM *params = NULL;
    bool ok = e && build && make && BN_set_word(e, EXPONENT) &&
              OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, m) &&
              OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, e) && (params = OSSL_PARAM_BLD_to_param(build)) &&
              EVP_PKEY_fromdata_init(make) == 1 && EVP_PKEY_fromdata(make, &key, EVP_PKEY_PUBLIC_KEY, params) == 1 &&
              (check = EVP_PKEY_CTX_new(key, NULL)) && EVP_PKEY_verify_init(check) == 1 &&
              EVP_PKEY_CTX_set_rsa_padding(check, RSA_PKCS1_PADDING) == 1 &&
              EVP_PKEY_CTX_set_signature_md(check, EVP_sha256()) == 1 &&
              EVP_PKEY_verify(check, signature, MODULUS, digest, 32) == 1;
    EVP_PKEY_CTX_free(check);
    EVP_PKEY_free(key);
    EVP_PKEY_CTX_free(make);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(build);
    BN_free(e);
    ERR_clear_error();
    return ok;
}

/* Q1 = floor(S^2 / M), Q2 = floor((S^3 - Q1 S M) / M): hints that let the CPU do without division. */
static bool quotients_ok(BN_CTX *ctx, const BIGNUM *m, const struct big *b) {
    BN_CTX_start(ctx);
    BIGNUM *s = BN_CTX_get(ctx), *q = BN_CTX_get(ctx), *q1 = BN_CTX_get(ctx), *q2 = BN_CTX_get(ctx),
           *t = BN_CTX_get(ctx), *rest = BN_CTX_get(ctx);
    bool ok = rest && BN_lebin2bn(b->signature, MODULUS, s) && BN_lebin2bn(b->q1, MODULUS, q1) &&
              BN_lebin2bn(b->q2, MODULUS, q2) && BN_sqr(t, s, ctx) && BN_div(q, rest, t, m, ctx) &&
              BN_cmp(q, q1) == 0 && BN_mul(t, rest, s, ctx) && BN_div(q, NULL, t, m, ctx) && BN_cmp(q, q2) == 0;
    BN_CTX_end(ctx);
    return ok;
}

static const char *check_big(struct attest_bytes raw, const struct big *b) {
    uint8_t signed_part[SIGNED_FIRST + SIGNED_SECOND], digest[32];
    memcpy(signed_part, raw.data, SIGNED_FIRST);
    memcpy(signed_part + SIGNED_FIRST, raw.data + SIGNED_SECOND_AT, SIGNED_SECOND);
    sha256(signed_part, sizeof signed_part, digest);
    BN_CTX *ctx = BN_CTX_new();
    BIGNUM *m = BN_lebin2bn(b->modulus, MODULUS, NULL);
    const char *wrong = NULL;
    if (!ctx || !m)
        wrong = "out of memory";
    else if (BN_num_bits(m) != 8 * MODULUS || !BN_is_odd(m))
        wrong = "the modulus is not 3072 bits";
    else if (!rsa_ok(m, b->signature, digest))
        wrong = "the RSA signature does not verify";
    else if (!quotients_ok(ctx, m, b))
        wrong = "Q1 or Q2 is wrong";
    BN_free(m);
    BN_CTX_free(ctx);
    return wrong;
}

const char *attest_sgx_sigstruct(struct attest_bytes raw, struct attest_sigstruct *s) {
    static const uint8_t header[] = {6, 0, 0, 0, 0xe1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0},
                         header2[] = {1, 1, 0, 0, 0x60, 0, 0, 0, 0x60, 0, 0, 0, 1, 0, 0, 0};
    memset(s, 0, sizeof *s);
    if (raw.size != SIGSTRUCT) return "not 1808 bytes";
    struct reader reader = reader_of(raw), *r = &reader;
    struct big big;
    bool zero = true, headers = memcmp(read_span(r, sizeof header), header, sizeof header) == 0;
    s->vendor = read_le32(r);
    s->date = read_le32(r);
    headers &= memcmp(read_span(r, sizeof header2), header2, sizeof header2) == 0;
    s->swdefined = read_le32(r);
    zero &= read_reserved(r, 84);
    big.modulus = read_span(r, MODULUS);
    uint32_t exponent = read_le32(r);
    big.signature = read_span(r, MODULUS);
    s->miscselect = read_le32(r);
    s->miscmask = read_le32(r);
    read_span(r, 2); /* CET attributes and their mask */
    zero &= read_reserved(r, 2);
    read_span(r, 16); /* ISVFAMILYID */
    read_into(r, s->attributes, sizeof s->attributes);
    read_into(r, s->attribute_mask, sizeof s->attribute_mask);
    read_into(r, s->mrenclave, sizeof s->mrenclave);
    zero &= read_reserved(r, 16);
    read_span(r, 16); /* ISVEXTPRODID */
    s->isv_prod_id = read_le16(r);
    s->isv_svn = read_le16(r);
    zero &= read_reserved(r, 12);
    big.q1 = read_span(r, MODULUS);
    big.q2 = read_span(r, MODULUS);
    sha256(big.modulus, MODULUS, s->mrsigner);
    if (!headers) return "the headers are not SIGSTRUCT's";
    if (s->vendor != 0 && s->vendor != 0x8086) return "the vendor is neither 0 nor Intel";
    if (!zero) return "reserved bytes are set";
    if (exponent != EXPONENT) return "the exponent is not 3";
    return check_big(raw, &big);
}
