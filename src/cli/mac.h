/* SHA-256 and HMAC-SHA256 by OpenSSL's libcrypto, which is loaded when first asked for: most runs never do, and linking
 * it would cost every one of them a third of a millisecond. */
#ifndef DONJON_CLI_MAC_H
#define DONJON_CLI_MAC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MAC_SIZE = 32, MAC_KEY = 32 };

bool mac_ready(void); /* false: there is no libcrypto.so.3 on this machine; nothing below works */
bool mac_sha256(const void *bytes, size_t size, uint8_t out[MAC_SIZE]);
bool mac_hmac(const uint8_t key[MAC_KEY], const void *bytes, size_t size, uint8_t out[MAC_SIZE]);
bool mac_equal(const void *a, const void *b, size_t size); /* in constant time */

#endif
