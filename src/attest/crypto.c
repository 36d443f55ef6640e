/* EVP_PKEY_fromdata() takes a third of a P-256 verification in OpenSSL 3.0; a quote brings a new key each time. EC_KEY
 * does the same work in a twentieth, so this file, and only this one, uses the older interface. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "crypto.h"

#include <string.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/objects.h>

static bool digest(const EVP_MD *md, const void *data, size_t size, uint8_t *out) {
    return EVP_Digest(data, size, out, NULL, md, NULL) == 1;
}

bool sha256(const void *data, size_t size, uint8_t out[32]) {
    return digest(EVP_sha256(), data, size, out);
}
bool sha384(const void *data, size_t size, uint8_t out[48]) {
    return digest(EVP_sha384(), data, size, out);
}
bool sha512(const void *data, size_t size, uint8_t out[64]) {
    return digest(EVP_sha512(), data, size, out);
}
bool sha3_512(const void *data, size_t size, uint8_t out[64]) {
    return digest(EVP_sha3_512(), data, size, out);
}

static int curve_of_width(unsigned width) {
    return width == P256_BYTES ? NID_X9_62_prime256v1 : NID_secp384r1;
}

/* The curves are made once: making one costs more than a signature check. */
static const EC_GROUP *group_of_width(unsigned width) {
    static EC_GROUP *groups[2];
    EC_GROUP **slot = &groups[width == P384_BYTES];
    EC_GROUP *group = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
    if (group) return group;
    EC_GROUP *made = EC_GROUP_new_by_curve_name(curve_of_width(width));
    if (made && !__atomic_compare_exchange_n(slot, &group, made, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        EC_GROUP_free(made);
        return group;
    }
    return made;
}

static bool verify_digest(EC_KEY *key, unsigned width, struct attest_bytes message, const uint8_t *r,
                          const uint8_t *s) {
    uint8_t hash[64];
    bool hashed =
        width == P256_BYTES ? sha256(message.data, message.size, hash) : sha384(message.data, message.size, hash);
    ECDSA_SIG *signature = ECDSA_SIG_new();
    BIGNUM *bn_r = BN_bin2bn(r, (int)width, NULL), *bn_s = BN_bin2bn(s, (int)width, NULL);
    bool ok = false;
    if (hashed && signature && bn_r && bn_s && ECDSA_SIG_set0(signature, bn_r, bn_s) == 1) {
        bn_r = bn_s = NULL;                                          /* owned by the signature now */
        ok = ECDSA_do_verify(hash, (int)width, signature, key) == 1; /* rejects r, s outside 1..n-1 */
    }
    BN_free(bn_r);
    BN_free(bn_s);
    ECDSA_SIG_free(signature);
    return ok;
}

static bool verify_raw(unsigned width, const uint8_t *xy, struct attest_bytes message, const uint8_t *r,
                       const uint8_t *s) {
    const EC_GROUP *group = group_of_width(width);
    if (!group) return false;
    uint8_t encoded[1 + 2 * P384_BYTES] = {POINT_CONVERSION_UNCOMPRESSED};
    memcpy(encoded + 1, xy, 2 * width);
    EC_POINT *point = EC_POINT_new(group);
    EC_KEY *key = EC_KEY_new();
    /* EC_POINT_oct2point() refuses points off the curve; both curves have cofactor one, so no subgroup check is left.
     */
    bool ok = point && key && EC_POINT_oct2point(group, point, encoded, 1 + 2 * width, NULL) == 1 &&
              EC_KEY_set_group(key, group) == 1 && EC_KEY_set_public_key(key, point) == 1 &&
              verify_digest(key, width, message, r, s);
    EC_KEY_free(key);
    EC_POINT_free(point);
    return ok;
}

bool ecdsa_verify_p256(const uint8_t xy[64], struct attest_bytes message, const uint8_t rs[64]) {
    return verify_raw(P256_BYTES, xy, message, rs, rs + P256_BYTES);
}

bool ecdsa_verify_p384(const uint8_t xy[96], struct attest_bytes message, const uint8_t *r, const uint8_t *s) {
    return verify_raw(P384_BYTES, xy, message, r, s);
}

bool key_on_curve(const EVP_PKEY *key, unsigned width) {
    if (!key || EVP_PKEY_get_base_id(key) != EVP_PKEY_EC) return false;
    const EC_KEY *ec = EVP_PKEY_get0_EC_KEY(key);
    return ec && EC_GROUP_get_curve_name(EC_KEY_get0_group(ec)) == curve_of_width(width);
}

bool ecdsa_verify_key(EVP_PKEY *key, unsigned width, struct attest_bytes message, const uint8_t *r, const uint8_t *s) {
    if (!key_on_curve(key, width)) return false;
    return verify_digest((EC_KEY *)EVP_PKEY_get0_EC_KEY(key), width, message, r, s);
}
