/* Endorsement files: certificates, lists, tables, Intel's JSON. */
#include "attest_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct endorsements e = {0};
    fuzz_begin(size);
    endorsements_add(&e, (struct attest_bytes){data, size});
    fuzz_end();
    endorsements_free(&e);
    return 0;
}
