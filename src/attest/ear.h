/* EAR with a key that need not be a file. */
#ifndef DONJON_ATTEST_EAR_H
#define DONJON_ATTEST_EAR_H

#include <openssl/evp.h>

#include <donjon/attest.h>

/* As attest_ear_jwt() and attest_ear_cwt(); null also when the key is not on P-256 or P-384. */
char *ear_jwt(const struct attest_result *, EVP_PKEY *key, struct attest_bytes nonce);
uint8_t *ear_cwt(const struct attest_result *, EVP_PKEY *key, struct attest_bytes nonce, size_t *size);

#endif
