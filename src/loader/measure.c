#include "measure.h"

#include <stdlib.h>
#include <string.h>

#define VMSA_GPA UINT64_C(0xfffffffff000) /* where KVM has the save area launched (SNP ABI, LAUNCH_UPDATE) */

const char *keep_measure(struct attest_bytes shim, const struct shim_digests *digests, unsigned c_bit,
                         uint8_t out[ATTEST_SNP_DIGEST]) {
    static const uint8_t zeros[ATTEST_SNP_PAGE];
    struct attest_snp_launch l = {{0}};
    const char *fault = kvm_shim_check(shim.data, shim.size);
    if (fault) return fault;
    size_t size = kvm_image_size(shim.data);
    uint8_t *memory = calloc(1, size), vmsa[ATTEST_SNP_PAGE];
    if (!memory) return "out of memory";
    kvm_image_build(memory, shim.data, digests, SHIM_MODE_RING0, UINT64_C(1) << c_bit);
    /* Pages without content are launched as zero pages. */
    for (size_t at = 0; at < size; at += ATTEST_SNP_PAGE) {
        bool zero = memcmp(memory + at, zeros, ATTEST_SNP_PAGE) == 0;
        attest_snp_launch_page(&l, zero ? ATTEST_SNP_ZERO : ATTEST_SNP_NORMAL, SHIM_IMAGE_GPA + at,
                               zero ? NULL : memory + at);
    }
    free(memory);
    kvm_vmsa(vmsa, shim.data);
    attest_snp_launch_page(&l, ATTEST_SNP_VMSA, VMSA_GPA, vmsa);
    memcpy(out, l.digest, sizeof l.digest);
    return NULL;
}

const char *keep_measure_warden(struct attest_bytes shim, struct attest_bytes warden, uint8_t out[ATTEST_SNP_DIGEST]) {
    struct shim_digests digests;
    if (!kvm_digests(warden.data, warden.size, &digests)) return "the warden is not a program";
    return keep_measure(shim, &digests, KEEP_C_BIT, out);
}
