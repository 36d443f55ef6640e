/* AMD SEV-SNP attestation report (SNP ABI 1.55, table 23) and what AMD's certificates say (AMD 57230). */
#ifndef DONJON_ATTEST_SNP_H
#define DONJON_ATTEST_SNP_H

#include "verifier.h"

enum {
    SNP_REPORT_SIZE = ATTEST_SNP_REPORT,
    SNP_SIGNED_SIZE = 0x2a0, /* bytes 000..29F are signed */
    SNP_SCALAR_FIELD = 72,   /* r and s: 48 significant bytes, little-endian, 24 zeros */
    SNP_VERSION_MIN = 2,
    SNP_VERSION_MAX = 5,
    SNP_ALGORITHM_ECDSA_P384 = 1,
};

/* Guest policy bits (SNP ABI, table 9). */
#define SNP_POLICY_SMT           (1ull << 16)
#define SNP_POLICY_ONE           (1ull << 17) /* reserved, must be one */
#define SNP_POLICY_MIGRATE       (1ull << 18)
#define SNP_POLICY_DEBUG         (1ull << 19)
#define SNP_POLICY_SINGLE_SOCKET (1ull << 20)
#define SNP_POLICY_CXL           (1ull << 21)
#define SNP_POLICY_KNOWN         ((1ull << 26) - 1)
/* PLATFORM_INFO: bits 0..5 and 7 are defined; Turin sets 6 as well. */
#define SNP_PLATFORM_SMT   (1ull << 0)
#define SNP_PLATFORM_KNOWN 0xffull

enum snp_key { SNP_VCEK = 0, SNP_VLEK = 1, SNP_NO_KEY = 7 };

/* Security version numbers. Compare component by component, never as one integer. */
struct snp_tcb {
    uint8_t fmc, bootloader, tee, snp, microcode;
    bool reserved_zero;
};

struct snp_report {
    const uint8_t *raw; /* SNP_REPORT_SIZE bytes */
    uint32_t version, guest_svn;
    uint64_t policy;
    uint8_t family_id[16], image_id[16];
    uint32_t vmpl, algorithm;
    uint64_t current_tcb, platform_info, reported_tcb, committed_tcb,
        launch_tcb; /* raw: the layout depends on the product */
    uint32_t key_info;
    uint8_t report_data[64], measurement[48], host_data[32], id_key_digest[48], author_key_digest[48];
    uint8_t report_id[32], report_id_ma[32];
    uint8_t cpuid_family, cpuid_model, cpuid_stepping; /* version 3 and later */
    uint8_t chip_id[64];
    uint8_t current_build, current_minor, current_major, committed_build, committed_minor, committed_major;
    uint64_t launch_mitigations, current_mitigations; /* version 5 */
    uint8_t r[48], s[48];                             /* big-endian */
    bool reserved_zero, signature_padded;
};

static inline bool snp_author_key(const struct snp_report *r) {
    return r->key_info & 1;
}
static inline bool snp_mask_chip_key(const struct snp_report *r) {
    return r->key_info >> 1 & 1;
}
static inline enum snp_key snp_signing_key(const struct snp_report *r) {
    return (enum snp_key)(r->key_info >> 2 & 7);
}

/* False when the size is not a report's. Everything else is for the verifier to judge. */
bool snp_parse(struct attest_bytes, struct snp_report *);
/* Product by CPUID (version 3 and later), else SNP_UNKNOWN. */
enum snp_product snp_product_of(const struct snp_report *);
struct snp_tcb snp_tcb_of(uint64_t raw, enum snp_product);

/* What a VCEK or VLEK certificate says. */
struct snp_vek {
    enum snp_key kind;
    enum snp_product product;
    int64_t structure_version;
    struct snp_tcb tcb;
    uint8_t hwid[64];
    size_t hwid_size; /* 64, Turin 8; 0: VLEK */
    char csp[64];     /* VLEK */
    bool well_formed;
};
void snp_vek_parse(const X509 *, struct snp_vek *);
bool snp_is_vek(const X509 *);

/* A certificate table from its first entry to its end, whatever is in it: go-sev-guest's says of which product the chip
 * is and may have no certificate; that of a host that gives none is empty, KVM's 24 zeros or pages of them. */
bool snp_is_table(struct attest_bytes);
/* Certificate table of an extended report (SNP ABI / GHCB, SNP_GET_EXT_REPORT): adds what is in it. 0: not a table. */
size_t snp_read_table(struct attest_bytes, struct certs *, struct crls *);

/* Facts of the report. */
void snp_describe(struct attest_result *, const struct snp_report *, enum snp_product);
void snp_verify(struct attest_verifier *, struct attest_bytes report, const struct endorsements *,
                const struct attest_policy *, int64_t now, struct attest_result *);
/* Where AMD serves the VCEK of this report's chip and reported TCB; false when the product is not known. */
bool snp_vcek_url(const struct snp_report *, enum snp_product, char *out, size_t size);
/* The VEK certificate that fits the report best, or null. `now` decides between certificates for the same key only. */
X509 *snp_find_vek(struct attest_verifier *, const struct endorsements *, const struct snp_report *, int64_t now);

#endif
