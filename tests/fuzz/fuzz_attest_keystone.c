/* A Keystone report. */
#include "attest_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_report(data, size, ATTEST_TEE_KEYSTONE);
    return 0;
}
