/* Policies in TOML. */
#include "attest_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct attest_policy p;
    char error[300];
    if (attest_policy_read(&p, (const char *)data, size, error, sizeof error)) attest_policy_free(&p);
    return 0;
}
