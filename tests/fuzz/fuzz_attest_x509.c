/* Certificates and requests with evidence. */
#include "attest_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_evidence(data, size, open_x509);
    return 0;
}
