/* Ed25519 with SHA3-512 (Keystone's choice; no library offers it). The curve arithmetic is OpenSSL's: edwards25519 is
 * birationally equivalent to a short Weierstrass curve, which EC_GROUP handles like any other. What is here is RFC
 * 8032's encoding, the two changes of coordinates (RFC 7748, section 4.1), and the verification equation R = [S]B -
 * [h]A. All of it works on public data, so nothing needs constant time. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "crypto.h"

#include <string.h>

#include <openssl/bn.h>
#include <openssl/ec.h>

/* Montgomery form v^2 = u^3 + A u^2 + u, A = 486662. With X = u + A/3, Y = v it becomes Y^2 = X^3 + aX + b. */
enum { MONTGOMERY_A = 486662, FIELD_BYTES = 32 };

struct curve {
    BN_CTX *ctx;
    BIGNUM *p, *order, *d, *third /* A/3 */, *scale /* sqrt(-486664): x = scale * u / v */;
    EC_GROUP *group;
    EC_POINT *base;
};

static BIGNUM *field_of_words(struct curve *c, const char *hex) {
    BIGNUM *n = BN_CTX_get(c->ctx);
    return n && BN_hex2bn(&n, hex) ? n : NULL;
}

/* out = a / b mod p. */
static bool field_divide(const struct curve *c, BIGNUM *out, const BIGNUM *a, const BIGNUM *b) {
    BIGNUM *inverse = BN_mod_inverse(NULL, b, c->p, c->ctx);
    bool ok = inverse && BN_mod_mul(out, a, inverse, c->p, c->ctx);
    BN_free(inverse);
    return ok;
}

/* Edwards (x, y) -> Weierstrass (X, Y): u = (1+y)/(1-y), v = scale * u / x. Not for the two points with x = 0. */
static bool to_weierstrass(const struct curve *c, const BIGNUM *x, const BIGNUM *y, EC_POINT *out) {
    BN_CTX_start(c->ctx);
    BIGNUM *one_plus = BN_CTX_get(c->ctx), *one_minus = BN_CTX_get(c->ctx), *u = BN_CTX_get(c->ctx),
           *v = BN_CTX_get(c->ctx);
    bool ok = v && BN_mod_add(one_plus, BN_value_one(), y, c->p, c->ctx) &&
              BN_mod_sub(one_minus, BN_value_one(), y, c->p, c->ctx) && field_divide(c, u, one_plus, one_minus) &&
              BN_mod_mul(v, c->scale, u, c->p, c->ctx) && field_divide(c, v, v, x) &&
              BN_mod_add(u, u, c->third, c->p, c->ctx) && EC_POINT_set_affine_coordinates(c->group, out, u, v, c->ctx);
    BN_CTX_end(c->ctx);
    return ok;
}

/* Decodes (RFC 8032, 5.1.3): y little-endian, the sign of x in the top bit; refuses y >= p, points off the curve, x =
 * 0. */
static bool decode_point(const struct curve *c, const uint8_t encoded[FIELD_BYTES], EC_POINT *out) {
    uint8_t y_bytes[FIELD_BYTES];
    memcpy(y_bytes, encoded, FIELD_BYTES);
    bool sign = y_bytes[FIELD_BYTES - 1] >> 7;
    y_bytes[FIELD_BYTES - 1] &= 0x7f;
    BN_CTX_start(c->ctx);
    BIGNUM *x = BN_CTX_get(c->ctx), *y = BN_CTX_get(c->ctx), *yy = BN_CTX_get(c->ctx), *top = BN_CTX_get(c->ctx),
           *bottom = BN_CTX_get(c->ctx);
    bool ok = bottom && BN_lebin2bn(y_bytes, FIELD_BYTES, y) && BN_cmp(y, c->p) < 0 &&
              BN_mod_sqr(yy, y, c->p, c->ctx) && BN_mod_sub(top, yy, BN_value_one(), c->p, c->ctx) &&
              BN_mod_mul(bottom, c->d, yy, c->p, c->ctx) && BN_mod_add(bottom, bottom, BN_value_one(), c->p, c->ctx) &&
              field_divide(c, top, top, bottom) && BN_mod_sqrt(x, top, c->p, c->ctx) && !BN_is_zero(x);
    if (ok && (bool)BN_is_odd(x) != sign) ok = BN_sub(x, c->p, x);
    ok = ok && to_weierstrass(c, x, y, out);
    BN_CTX_end(c->ctx);
    return ok;
}

/* The reverse: u = X - A/3, x = scale * u / v, y = (u-1)/(u+1). Infinity is the neutral element (0, 1). */
static bool encode_point(const struct curve *c, const EC_POINT *point, uint8_t out[FIELD_BYTES]) {
    memset(out, 0, FIELD_BYTES);
    if (EC_POINT_is_at_infinity(c->group, point)) {
        out[0] = 1;
        return true;
    }
    BN_CTX_start(c->ctx);
    BIGNUM *u = BN_CTX_get(c->ctx), *v = BN_CTX_get(c->ctx), *x = BN_CTX_get(c->ctx), *y = BN_CTX_get(c->ctx),
           *bottom = BN_CTX_get(c->ctx);
    bool ok = bottom && EC_POINT_get_affine_coordinates(c->group, point, u, v, c->ctx) &&
              BN_mod_sub(u, u, c->third, c->p, c->ctx) && !BN_is_zero(v) && BN_mod_mul(x, c->scale, u, c->p, c->ctx) &&
              field_divide(c, x, x, v) && BN_mod_add(bottom, u, BN_value_one(), c->p, c->ctx) && !BN_is_zero(bottom) &&
              BN_mod_sub(y, u, BN_value_one(), c->p, c->ctx) && field_divide(c, y, y, bottom) &&
              BN_bn2lebinpad(y, out, FIELD_BYTES) == FIELD_BYTES;
    if (ok && BN_is_odd(x)) out[FIELD_BYTES - 1] |= 0x80;
    BN_CTX_end(c->ctx);
    return ok;
}

static void curve_free(struct curve *c) {
    EC_POINT_free(c->base);
    EC_GROUP_free(c->group);
    if (c->ctx) BN_CTX_end(c->ctx);
    BN_CTX_free(c->ctx);
}

/* a = 1 - A^2/3, b = A(2A^2 - 9)/27. */
static bool make_group(struct curve *c) {
    BN_CTX_start(c->ctx);
    BIGNUM *a = BN_CTX_get(c->ctx), *b = BN_CTX_get(c->ctx), *square = BN_CTX_get(c->ctx), *n = BN_CTX_get(c->ctx);
    bool ok = n && BN_set_word(n, MONTGOMERY_A) && BN_mod_sqr(square, n, c->p, c->ctx) && BN_copy(b, square) &&
              BN_mul_word(b, 2) && BN_sub_word(b, 9) && BN_mod_mul(b, b, n, c->p, c->ctx) && BN_set_word(n, 27) &&
              field_divide(c, b, b, n) && BN_set_word(n, 3) && field_divide(c, a, square, n) &&
              BN_mod_sub(a, BN_value_one(), a, c->p, c->ctx) && BN_set_word(n, MONTGOMERY_A) &&
              BN_set_word(square, 3) && field_divide(c, c->third, n, square);
    if (ok) c->group = EC_GROUP_new_curve_GFp(c->p, a, b, c->ctx);
    BN_CTX_end(c->ctx);
    return ok && c->group;
}

static bool curve_open(struct curve *c) {
    /* The base point of RFC 8032: y = 4/5, x even. */
    static const uint8_t base[FIELD_BYTES] = {0x58, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
                                              0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
                                              0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66};
    *c = (struct curve){.ctx = BN_CTX_new()};
    if (!c->ctx) return false;
    BN_CTX_start(c->ctx);
    c->p = field_of_words(c, "7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFED");
    c->order = field_of_words(c, "1000000000000000000000000000000014DEF9DEA2F79CD65812631A5CF5D3ED");
    c->d = field_of_words(c, "52036CEE2B6FFE738CC740797779E89800700A4D4141D8AB75EB4DCA135978A3");
    c->third = BN_CTX_get(c->ctx);
    c->scale = BN_CTX_get(c->ctx);
    if (!c->p || !c->order || !c->d || !c->scale || !make_group(c)) return false;
    BIGNUM *n = BN_CTX_get(c->ctx);
    /* scale = sqrt(-486664); either root gives an isomorphism, used both ways here. */
    if (!n || !BN_set_word(n, MONTGOMERY_A + 2) || !BN_sub(n, c->p, n) || !BN_mod_sqrt(c->scale, n, c->p, c->ctx))
        return false;
    c->base = EC_POINT_new(c->group);
    return c->base && decode_point(c, base, c->base) &&
           EC_GROUP_set_generator(c->group, c->base, c->order, NULL /* cofactor: computed */) == 1;
}

/* h = SHA3-512(R || A || M) mod order. */
static bool hash_scalar(const struct curve *c, const uint8_t *r, const uint8_t *key, struct attest_bytes message,
                        BIGNUM *h) {
    uint8_t hash[64];
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool ok = md && EVP_DigestInit_ex(md, EVP_sha3_512(), NULL) && EVP_DigestUpdate(md, r, FIELD_BYTES) &&
              EVP_DigestUpdate(md, key, FIELD_BYTES) && EVP_DigestUpdate(md, message.data, message.size) &&
              EVP_DigestFinal_ex(md, hash, NULL) && BN_lebin2bn(hash, sizeof hash, h) && BN_mod(h, h, c->order, c->ctx);
    EVP_MD_CTX_free(md);
    return ok;
}

static bool verify(const struct curve *c, const uint8_t key[32], struct attest_bytes message,
                   const uint8_t signature[64]) {
    BN_CTX_start(c->ctx);
    BIGNUM *s = BN_CTX_get(c->ctx), *h = BN_CTX_get(c->ctx);
    EC_POINT *a = EC_POINT_new(c->group), *r = EC_POINT_new(c->group);
    uint8_t computed[FIELD_BYTES];
    /* RFC 8032, 5.1.7: S in 0..L-1, or the signature would be malleable. */
    bool ok = h && a && r && BN_lebin2bn(signature + FIELD_BYTES, FIELD_BYTES, s) && BN_cmp(s, c->order) < 0 &&
              decode_point(c, key, a) && hash_scalar(c, signature, key, message, h) &&
              EC_POINT_invert(c->group, a, c->ctx) && EC_POINT_mul(c->group, r, s, a, h, c->ctx) &&
              encode_point(c, r, computed) && memcmp(computed, signature, FIELD_BYTES) == 0;
    EC_POINT_free(a);
    EC_POINT_free(r);
    BN_CTX_end(c->ctx);
    return ok;
}

bool ed25519_sha3_verify(const uint8_t key[32], struct attest_bytes message, const uint8_t signature[64]) {
    struct curve curve;
    bool ok = curve_open(&curve) && verify(&curve, key, message, signature);
    curve_free(&curve);
    return ok;
}
