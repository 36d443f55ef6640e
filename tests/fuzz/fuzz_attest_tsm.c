/* configfs-tsm reports. */
#include "attest_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_evidence(data, size, open_tsm_cbor);
    return 0;
}
