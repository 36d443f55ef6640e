/* Keystone security monitor report (RISC-V): a device key signs the monitor, the monitor signs the enclave. */
#ifndef DONJON_ATTEST_KEYSTONE_H
#define DONJON_ATTEST_KEYSTONE_H

#include "verifier.h"

enum {
    KEYSTONE_REPORT_SIZE = 1352,
    KEYSTONE_DATA_MAX = 1024,
    KEYSTONE_HASH = 64,
    KEYSTONE_KEY = 32,
    KEYSTONE_SIGNATURE = 64
};

struct keystone {
    const uint8_t *enclave_hash, *data, *enclave_signature, *sm_hash, *sm_key, *sm_signature, *device_key;
    uint64_t data_size;
};

bool keystone_parse(struct attest_bytes, struct keystone *); /* size and data length only */
void keystone_describe(struct attest_result *, const struct keystone *);
void keystone_verify(struct attest_bytes, const struct attest_policy *, struct attest_result *);
/* SHA3-512(LE64 loader, runtime, application size || pages); the sizes add up to the image. */
bool keystone_measure(struct attest_bytes image, const uint64_t sizes[3], uint8_t out[KEYSTONE_HASH]);

#endif
