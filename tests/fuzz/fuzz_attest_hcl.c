/* Azure HCL reports. */
#include "attest_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_evidence(data, size, open_hcl);
    return 0;
}
