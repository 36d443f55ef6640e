/* An SGX or TDX quote. */
#include "attest_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_report(data, size, ATTEST_TEE_SGX);
    return 0;
}
