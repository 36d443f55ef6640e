/* Intel's signed JSON: TCB info (SGX and TDX, versions 2 and 3) and enclave identity (version 2), and the envelopes
 * they are handed around in. The signature covers the exact bytes of the inner object, so the raw text is kept. */
#ifndef DONJON_ATTEST_INTEL_JSON_H
#define DONJON_ATTEST_INTEL_JSON_H

#include "verifier.h"

enum { INTEL_ADVISORIES_MAX = 64 };

enum component_status { STATUS_UNKNOWN = -1 }; /* otherwise a bit number of ATTEST_TCB_* */

struct tcb_level {
    uint8_t sgx[16], tdx[16];
    uint16_t pce_svn, isv_svn; /* platform levels; module and QE levels */
    int status;
    int64_t date;
    char **advisories; /* count, then texts owned by the document's arena */
    size_t advisory_count;
};
struct tcb_levels {
    struct tcb_level *items;
    size_t count;
};

/* What an enclave or module must look like. */
struct tdx_module {
    uint8_t version; /* of "TDX_%02X"; unused for tdxModule */
    uint8_t mrsigner[48], attributes[8], mask[8];
    struct tcb_levels levels;
};

/* A signed document, common to both kinds. */
struct intel_signed {
    char *text; /* exact bytes of the inner object */
    size_t size;
    uint8_t signature[64];
    int64_t issued, next_update;
    uint32_t evaluation;
    void *json;          /* json_t; the strings above live in it */
    struct chain signer; /* of the TCB signing certificate that made the signature; count 0: not yet looked for */
    bool signer_tried;
};

struct tcb_info {
    struct intel_signed doc;
    unsigned version;
    bool tdx;
    uint8_t fmspc[6], pceid[2];
    bool has_module;
    struct tdx_module module;
    struct tdx_module *modules;
    size_t module_count;
    struct tcb_levels levels;
};

struct qe_identity {
    struct intel_signed doc;
    bool td; /* TD_QE, else QE */
    uint32_t misc_select, misc_mask;
    uint8_t attributes[16], attributes_mask[16], mrsigner[32];
    uint16_t product_id;
    struct tcb_levels levels;
};

/* Parses the inner object; null with `error`. */
struct tcb_info *tcb_info_parse(const char *text, size_t, const uint8_t signature[64], char *error, size_t error_size);
struct qe_identity *qe_identity_parse(const char *text, size_t, const uint8_t signature[64], char *error,
                                      size_t error_size);
void tcb_info_free(struct tcb_info *);
void qe_identity_free(struct qe_identity *);
void tcb_info_forget(struct tcb_info *);
void qe_identity_forget(struct qe_identity *);

/* Adds what a JSON file holds to the store: {"tcbInfo":..,"signature":..}, {"enclaveIdentity":..}, bundles of the two
 * with their chains and CRLs (dcap-qvl, Azure THIM, Fortanix PCS). How many things were recognised. */
size_t intel_json_add(struct endorsements *, struct attest_bytes);

/* Strict RFC 3339 in UTC, whole seconds: "2026-01-31T00:00:00Z". */
bool time_parse(const char *text, size_t size, int64_t *out);

#endif
