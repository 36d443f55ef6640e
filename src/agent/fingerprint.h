/* How agents are known to tenants: the SHA-256 of the certificate's SubjectPublicKeyInfo, as hexadecimal digits. */
#ifndef DONJON_AGENT_FINGERPRINT_H
#define DONJON_AGENT_FINGERPRINT_H

#include <openssl/x509.h>
#include <stdbool.h>

enum { FINGERPRINT = 64 }; /* digits, without the terminating zero */

/* False: no certificate (NULL), or OpenSSL has failed. */
bool fingerprint_of(X509 *certificate, char out[FINGERPRINT + 1]);

#endif
