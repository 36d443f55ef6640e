/* Intel ECDSA quote, versions 3, 4 and 5 (Intel DCAP, "SGX ECDSA Quote Library API" appendix A; "TDX DCAP Quoting
 * Library API" appendix A.3), and the enclave and TD report bodies in it. */
#ifndef DONJON_ATTEST_QUOTE_H
#define DONJON_ATTEST_QUOTE_H

#include "verifier.h"

enum {
    QUOTE_HEADER_SIZE = 48,
    SGX_BODY_SIZE = 384,
    TD10_BODY_SIZE = 584,
    TD15_BODY_SIZE = 648,
    TD_REPORT_SIZE = 1024,
    QUOTE_MIN_SIZE = QUOTE_HEADER_SIZE + SGX_BODY_SIZE + 4,
    QUOTE_KEY_ECDSA_P256 = 2,
    QUOTE_TEE_SGX = 0,
    QUOTE_TEE_TDX = 0x81,
};
enum quote_body { QUOTE_BODY_SGX = 1, QUOTE_BODY_TD10 = 2, QUOTE_BODY_TD15 = 3 }; /* version 5's numbers */
enum quote_certification {
    CERT_PPID_CLEAR = 1,
    CERT_PPID_RSA2048 = 2,
    CERT_PPID_RSA3072 = 3,
    CERT_PCK_LEAF = 4,
    CERT_PCK_CHAIN = 5,
    CERT_QE_REPORT = 6,
};

/* SGX report body (SDM 38.15). */
struct sgx_body {
    uint8_t cpu_svn[16], ext_product_id[16], mrenclave[32], mrsigner[32], config_id[64], family_id[16], report_data[64];
    uint8_t attributes[16];
    uint32_t misc_select;
    uint64_t flags, xfrm;
    uint16_t product_id, svn, config_svn;
    bool reserved_zero;
};
#define SGX_FLAG_INIT  (1ull << 0)
#define SGX_FLAG_DEBUG (1ull << 1)
/* INIT, DEBUG, MODE64BIT, PROVISIONKEY, EINITTOKEN_KEY, CET, KSS, AEXNOTIFY */
#define SGX_FLAGS_KNOWN 0x4f7ull

/* TD report body (TDX module ABI; TD 1.5 adds the last two fields). */
struct td_body {
    uint8_t tee_tcb_svn[16], mrseam[48], mrsignerseam[48], seam_attributes[8];
    uint64_t attributes, xfam;
    uint8_t mrtd[48], mrconfigid[48], mrowner[48], mrownerconfig[48], rtmr[4][48], report_data[64];
    uint8_t tee_tcb_svn2[16], mrservicetd[48];
    bool is15;
};
#define TD_ATTR_UNDER_DEBUG     0xffull /* bits 7:0; bit 0 is DEBUG */
#define TD_ATTR_ICSSD           (1ull << 16)
#define TD_ATTR_LASS            (1ull << 27)
#define TD_ATTR_SEPT_VE_DISABLE (1ull << 28)
#define TD_ATTR_MIGRATABLE      (1ull << 29)
#define TD_ATTR_PKS             (1ull << 30)
#define TD_ATTR_KL              (1ull << 31)
#define TD_ATTR_TPA             (1ull << 62)
#define TD_ATTR_PERFMON         (1ull << 63)
/* Features a policy may refuse. */
#define TD_ATTR_OPTIONAL (TD_ATTR_ICSSD | TD_ATTR_LASS | TD_ATTR_PKS | TD_ATTR_KL | TD_ATTR_TPA | TD_ATTR_PERFMON)
#define TD_ATTR_KNOWN    (1ull | TD_ATTR_SEPT_VE_DISABLE | TD_ATTR_MIGRATABLE | TD_ATTR_OPTIONAL)

struct quote {
    uint16_t version, key_type;
    uint32_t tee;
    uint16_t qe_svn, pce_svn;
    uint8_t vendor[16], user_data[20];
    enum quote_body body_type;
    struct attest_bytes body, signed_part;
    size_t size;                                /* without what follows its end; 0: not read as far */
    const uint8_t *signature, *attestation_key; /* 64 each */
    const uint8_t *qe_report;                   /* SGX_BODY_SIZE */
    const uint8_t *qe_signature;                /* 64 */
    struct attest_bytes qe_auth;
    uint16_t certification;
    struct attest_bytes certification_data;
    struct sgx_body sgx; /* by body_type */
    struct td_body td;
    struct sgx_body qe;
};

/* The fault of a quote that was read as far as its attestation key type allows. */
#define QUOTE_OTHER_KEY "signed with another kind of attestation key: not read beyond the report body"
/* Null, or what is wrong; fields before the fault are filled (version, tee, ...). */
const char *quote_parse(struct attest_bytes, struct quote *);
/* Where a well-formed quote ends within the bytes, or 0. */
size_t quote_size(struct attest_bytes);
bool quote_known(const struct quote *); /* version, TEE type and body type are known and agree */
void sgx_body_parse(const uint8_t *, struct sgx_body *);
void td_body_parse(struct attest_bytes, struct td_body *);

void quote_describe(struct attest_result *, const struct quote *);
void td_describe(struct attest_result *, const struct td_body *);
/* PCK, collateral, TCB, QE, signatures, then body and policy. `log`: empty, or an event log to replay. */
void quote_verify(struct attest_verifier *, struct attest_bytes quote, struct attest_bytes log,
                  const struct endorsements *, const struct attest_policy *, int64_t now, struct attest_result *);
/* Rules on the bodies. */
void td_appraise(struct attest_result *, const struct attest_policy *, const struct td_body *);
void sgx_appraise(struct attest_result *, const struct attest_policy *, const struct sgx_body *);

/* What a PCK certificate says (Intel PCK Certificate Profile 1.5). */
struct pck {
    uint8_t ppid[16], fmspc[6], pceid[2], cpu_svn[16], components[16], instance_id[16];
    uint16_t pce_svn;
    bool has_instance_id, has_smt, smt;
    bool well_formed;
};
bool pck_parse(const X509 *, struct pck *);
extern const char *const pck_oid;
/* Leaf of the quote's certification data with its other certificates in `rest`; null when there is none. */
X509 *quote_pck_leaf(const struct quote *, struct endorsements *rest);

/* Event logs. */
enum { RTMR_COUNT = 4, RTMR_SIZE = 48 };
struct event_log_replay {
    uint8_t rtmr[RTMR_COUNT][RTMR_SIZE];
    size_t events, events_with_checked_data;
    const char *bad_data; /* the first event whose data does not hash to its digest; copied into `name` */
    char name[80];
};
bool event_log_looks_like(struct attest_bytes);
/* Null, or what is wrong. */
const char *event_log_replay(struct attest_bytes, struct event_log_replay *);
void event_log_check(struct attest_result *, struct attest_bytes log, const struct td_body *);

#endif
