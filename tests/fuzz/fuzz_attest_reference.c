/* Reference values: firmware images, ID blocks, SGXS streams, SIGSTRUCTs, CoRIM. The first byte chooses. */
#include "attest_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t digest[64];
    char error[200];
    if (!size) return 0;
    struct attest_bytes rest = {data + 1, size - 1};
    fuzz_begin(size);
    switch (data[0] % 5) {
    case 0: {
        struct attest_ovmf_launch l = {
            .firmware = rest, .vmm = (enum attest_vmm)(data[0] / 5 % 3), .vcpus = 2, .with_kernel = data[0] & 64};
        attest_snp_launch_ovmf(&l, digest);
        break;
    }
    case 1: {
        struct attest_id_block block;
        if (rest.size >= 96)
            attest_snp_id_block((struct attest_bytes){rest.data, 96},
                                (struct attest_bytes){rest.data + 96, rest.size - 96}, &block);
        break;
    }
    case 2: attest_sgx_measure(rest, digest); break;
    case 3: {
        struct attest_sigstruct s;
        attest_sgx_sigstruct(rest, &s);
        break;
    }
    case 4: {
        struct attest_policy p;
        attest_policy_strict(&p);
        attest_corim_read(rest, (struct attest_bytes){0}, &p, error, sizeof error);
        attest_policy_free(&p);
    }
    }
    fuzz_end();
    return 0;
}
