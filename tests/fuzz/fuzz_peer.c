/* What a peer's certificate and a configuration's policy can be: a first byte, then lines of a policy (even) or a
 * certificate in DER (odd). */
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>
#include "warden/peer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_lines(const uint8_t *data, size_t size) {
    char error[300], *lines = malloc(size + 1);
    memcpy(lines, data, size);
    lines[size] = 0;
    peer_policy_free(peer_policy_new(lines, error, sizeof error));
    free(lines);
}

static void try_certificate(const uint8_t *data, size_t size) {
    static struct peer_policy *policy;
    char text[300];
    const uint8_t *at = data;
    X509 *x = d2i_X509(NULL, &at, (long)size);
    if (!policy) policy = peer_policy_new("allow_software=true\n", text, sizeof text);
    if (!policy) abort();
    if (x && peer_policy_accepts(policy, x, 1790000000, text, sizeof text)) abort(); /* nobody's root is trusted */
    X509_free(x);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    if (data[0] & 1)
        try_certificate(data + 1, size - 1);
    else
        try_lines(data + 1, size - 1);
    return 0;
}
