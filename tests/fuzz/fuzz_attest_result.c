/* Attestation Results we are given: JWT and CWT. */
#include "attest_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char pem[] =
        "-----BEGIN PUBLIC "
        "KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEFn0taoAwR3PmrKkYLtAsD9o05KSM\n6mbgfNCgpuL0g6VpTHkZl73wk5BDxoV7n+"
        "Oeee0iIqkW3HMZT3ETiniJdg==\n-----END PUBLIC KEY-----\n";
    struct attest_bytes token = {data, size}, key = {(const uint8_t *)pem, sizeof pem - 1};
    char error[200];
    fuzz_begin(size);
    free(attest_ear_verify_jwt(token, key, error, sizeof error));
    free(attest_ear_verify_cwt(token, key, error, sizeof error));
    fuzz_end();
    return 0;
}
