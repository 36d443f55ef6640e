/* What a keep's measurement is: SEV-SNP's launch digest of the shim, the page of digests (which names the warden) and
 * the first tables, page by page, then the virtual CPU. `donjon measure` and `donjon deploy` compute it offline; the
 * software signer puts the same into its evidence, whatever the backend. Pure functions. */
#ifndef DONJON_LOADER_MEASURE_H
#define DONJON_LOADER_MEASURE_H

#include "kvm_image.h"

#include <donjon/attest.h>

enum { KEEP_C_BIT = 51 }; /* of EPYC CPUs: the bit of an address that says "private" */

/* NULL, or what is wrong. `shim` is the file donjon-shim. */
const char *keep_measure(struct attest_bytes shim, const struct shim_digests *digests, unsigned c_bit,
                         uint8_t out[ATTEST_SNP_DIGEST]);

/* The same from a warden's file, for keeps that bring no compiled code. */
const char *keep_measure_warden(struct attest_bytes shim, struct attest_bytes warden, uint8_t out[ATTEST_SNP_DIGEST]);

#endif
