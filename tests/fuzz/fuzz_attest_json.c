/* KBS and other JSON. */
#include "attest_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_evidence(data, size, open_json);
    return 0;
}
