/* Appraisal policy: what the Relying Party accepts. Part of <donjon/attest.h>.
 *
 * Two starting points. attest_policy_strict() is what a policy file starts from: whatever is not allowed there is
 * denied. attest_policy_genuine() is used when no policy is given: any identity, but hardware, current, undebuggable;
 * it answers "is this real?", not "is this mine?", and the verdict says so. Empty sets do not constrain. */
#ifndef DONJON_ATTEST_POLICY_H
#define DONJON_ATTEST_POLICY_H

/* Allowed byte strings, all of `width` bytes. */
struct attest_set {
    uint8_t *items;
    size_t count, width;
};
/* Allowed words. */
struct attest_words {
    char **items;
    size_t count;
};
/* Minimum security version numbers; -1 does not constrain. */
struct attest_min_tcb {
    int16_t fmc, bootloader, tee, snp, microcode;
};

/* Statuses of Intel's TCB evaluation, as bits. */
enum {
    ATTEST_TCB_UP_TO_DATE = 1 << 0,
    ATTEST_TCB_SW_HARDENING = 1 << 1,
    ATTEST_TCB_CONFIGURATION = 1 << 2,
    ATTEST_TCB_CONFIGURATION_SW = 1 << 3,
    ATTEST_TCB_OUT_OF_DATE = 1 << 4,
    ATTEST_TCB_OUT_OF_DATE_CONFIGURATION = 1 << 5,
    ATTEST_TCB_RELAUNCH = 1 << 6,
    ATTEST_TCB_RELAUNCH_CONFIGURATION = 1 << 7,
    ATTEST_TCB_REVOKED = 1 << 8, /* never acceptable */
};

struct attest_policy {
    char name[64];
    int64_t valid_from, valid_until; /* 0: unbounded */
    struct attest_words tees;        /* "snp", "sgx", "tdx", "nitro", "keystone", "software" */
    bool allow_debug, allow_software;
    int64_t max_age; /* seconds; of Nitro documents, the only evidence with a time in it. 0: not checked */

    /* What the evidence must say, whatever the TEE. */
    struct attest_set report_data; /* 64 bytes */
    uint8_t nonce[64];
    size_t nonce_size;           /* report data (Nitro: nonce field) is the nonce, then zeros */
    struct attest_set workloads; /* 32-byte digests: HOST_DATA, MRCONFIGID, CONFIGID */

    struct {
        struct attest_words products; /* "Milan", "Genoa", "Turin" */
        struct attest_set measurements, family_ids, image_ids, host_data, id_keys, author_keys, chips;
        struct attest_words csp_ids;
        bool require_author_key, allow_vlek, allow_smt, allow_migration, allow_cxl, require_single_socket;
        bool allow_provisional, require_crl;
        uint32_t vmpls; /* bit n: VMPL n */
        uint32_t minimum_guest_svn;
        uint32_t minimum_abi; /* major << 8 | minor */
        uint64_t require_platform_info, require_mitigations;
        struct attest_min_tcb minimum[3]; /* Milan, Genoa, Turin */
    } snp;

    struct {
        uint32_t tcb_statuses;
        struct attest_words forbidden_advisories;
        uint32_t minimum_evaluation;
        bool allow_smt;
        struct attest_set platforms; /* 16 bytes: PPID or platform instance id */
    } intel;

    struct {
        struct attest_set mrenclaves, mrsigners, config_ids;
        int32_t product_id; /* -1: any */
        uint32_t minimum_svn;
        bool allow_sample_signer;
        uint64_t attribute_mask, xfrm_mask; /* allowed bits */
    } sgx;

    struct {
        struct attest_set mrtds, rtmr[4], mrseams, mrconfigids, mrowners, mrownerconfigs, mrservicetds;
        bool allow_sept_ve, allow_migration, allow_service_td;
        uint64_t allow_attributes; /* of ICSSD, LASS, PKS, KL, TPA, PERFMON */
        uint64_t xfam_mask;
    } tdx;

    struct {
        struct attest_set pcrs[32]; /* 48 bytes */
        struct attest_words modules;
        struct attest_set user_data; /* SHA-256 of the user data: user data has no fixed size */
    } nitro;

    struct {
        struct attest_set pcrs[24]; /* 32 bytes: SHA-256 bank of a vTPM whose quote is beside the report (Azure) */
    } vtpm;

    struct {
        struct attest_set device_keys, sm_hashes, enclave_hashes;
    } keystone;
};

void attest_policy_strict(struct attest_policy *);
void attest_policy_genuine(struct attest_policy *);
void attest_policy_free(struct attest_policy *);
/* Adds one allowed value; false when size is not the set's width or memory is short. */
bool attest_set_add(struct attest_set *, const uint8_t *, size_t size);
bool attest_words_add(struct attest_words *, const char *, size_t size);

/* Reads a policy (TOML, reference in docs/attestation.md) over attest_policy_strict(). False with `error` naming line,
 * key, what was expected and what was found; unknown keys are errors. In libdonjon-attest-policy: the only part in C++.
 */
bool attest_policy_read(struct attest_policy *, const char *toml, size_t size, char *error, size_t error_size);
/* Sets one key as the TOML reader does, from text: "snp.measurements" += "7f51...". For command lines and tests. */
bool attest_policy_set(struct attest_policy *, const char *key, const char *value, size_t size, char *error,
                       size_t error_size);

#endif
