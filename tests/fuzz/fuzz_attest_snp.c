/* An SNP report. */
#include "attest_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_report(data, size, ATTEST_TEE_SNP);
    return 0;
}
