#include "fingerprint.h"
#include <openssl/evp.h>
#include <stdio.h>

bool fingerprint_of(X509 *certificate, char out[FINGERPRINT + 1]) {
    unsigned char *der = NULL, digest[32];
    int n = certificate ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &der) : 0;
    bool ok = n > 0 && EVP_Digest(der, (size_t)n, digest, NULL, EVP_sha256(), NULL);
    OPENSSL_free(der);
    for (size_t i = 0; ok && i < sizeof digest; i++)
        snprintf(out + 2 * i, 3, "%02x", digest[i]);
    return ok;
}
