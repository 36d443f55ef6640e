/* Signatures and digests over raw bytes, all by OpenSSL. Scalars are fixed-width big-endian unless said. */
#ifndef DONJON_ATTEST_CRYPTO_H
#define DONJON_ATTEST_CRYPTO_H

#include <stdbool.h>
#include <openssl/evp.h>

#include <donjon/attest.h>

enum { P256_BYTES = 32, P384_BYTES = 48 };

bool sha256(const void *, size_t, uint8_t out[32]);
bool sha384(const void *, size_t, uint8_t out[48]);
bool sha512(const void *, size_t, uint8_t out[64]);
bool sha3_512(const void *, size_t, uint8_t out[64]);

/* ECDSA over the digest of `message`; the signature is r || s, each `width` bytes big-endian. The key must lie on the
 * curve of that width (P-256 with SHA-256, P-384 with SHA-384); r and s outside 1..n-1 do not verify. */
bool ecdsa_verify_key(EVP_PKEY *, unsigned width, struct attest_bytes message, const uint8_t *r, const uint8_t *s);
/* The same with a raw P-256 key x || y, checked to be on the curve. */
bool ecdsa_verify_p256(const uint8_t xy[64], struct attest_bytes message, const uint8_t rs[64]);
/* The same with a raw P-384 key x || y. */
bool ecdsa_verify_p384(const uint8_t xy[96], struct attest_bytes message, const uint8_t *r, const uint8_t *s);

/* Ed25519 as Keystone uses it: SHA3-512 where RFC 8032 has SHA-512. */
bool ed25519_sha3_verify(const uint8_t key[32], struct attest_bytes message, const uint8_t signature[64]);

/* True when the key is on the named curve ("P-256", "P-384"). */
bool key_on_curve(const EVP_PKEY *, unsigned width);

#endif
