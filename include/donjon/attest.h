/* Donjon's Verifier (RFC 9334): is this evidence genuine, current, and what the Relying Party asked for?
 *
 *     struct attest_verifier *v = attest_verifier_new();            // with the vendors' roots built in
 *     attest_verifier_add(v, bytes);                                // Endorsements: any file, in any order; not
 * trusted struct attest_evidence *e = attest_evidence_open(bytes, error, sizeof error); attest_verify(v, e, policy,
 * time, result);                    // pure: no clock, no network, no file if (result->accepted) ...
 *
 * Everything fails closed: what cannot be parsed, is of an unknown version, lacks collateral, or has reserved bits set
 * is a failed check with its own rule. All checks that can be made are made, so that one rejection tells everything
 * that has to be fixed. Times are seconds since 1970-01-01T00:00:00Z and always a parameter.
 *
 * None of the objects may be used by two threads at once; different objects are independent. */
#ifndef DONJON_ATTEST_H
#define DONJON_ATTEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct attest_bytes {
    const uint8_t *data;
    size_t size;
};

/* ---- Results ------------------------------------------------------------------------------------------------- */

enum attest_value_kind { ATTEST_NONE, ATTEST_TEXT, ATTEST_NUMBER, ATTEST_HEX, ATTEST_BYTES, ATTEST_TIME, ATTEST_BOOL };

/* A value as it was found or expected; formatted only when shown. Bytes and text live in the result that holds the
 * value, or are static. */
struct attest_value {
    enum attest_value_kind kind;
    uint32_t size; /* of bytes */
    union {
        const char *text;
        const uint8_t *bytes;
        uint64_t number;
        int64_t time;
    };
};

/* What a check is about. A result is genuine when nothing above ATTEST_POLICY failed, accepted when nothing failed. */
enum attest_group {
    ATTEST_FORMAT,     /* the evidence can be read, and says nothing a conforming machine would not */
    ATTEST_CHAIN,      /* certificates, revocation, trust anchors, validity */
    ATTEST_SIGNATURE,  /* signatures over the evidence itself */
    ATTEST_BINDING,    /* evidence, certificate and wrapper belong together */
    ATTEST_COLLATERAL, /* signed statements of the vendor about the platform */
    ATTEST_POLICY,     /* the appraisal policy of the Relying Party */
};

enum attest_rule {
#define ATTEST_RULE(id, group, name, title, remedy) ATTEST_RULE_##id,
#include <donjon/attest-rules.h>
#undef ATTEST_RULE
    ATTEST_RULE_COUNT
};

struct attest_rule_text {
    const char *name;   /* stable, e.g. "snp.signature" */
    const char *title;  /* what is checked */
    const char *remedy; /* what to do when it fails */
    enum attest_group group;
};
extern const struct attest_rule_text attest_rules[ATTEST_RULE_COUNT];
extern const char *const attest_group_names[];

enum attest_outcome { ATTEST_PASS, ATTEST_FAIL, ATTEST_NOTE /* seen, but the policy does not constrain it */ };

struct attest_check {
    enum attest_rule rule;
    enum attest_outcome outcome;
    struct attest_value expected, found;
    const char *key;    /* the policy's key whose value was consulted, e.g. "tdx.rtmr0"; or null */
    const char *advice; /* what to do about this very failure; null: what the rule's remedy says */
};
/* What to do about a failed check. */
const char *attest_check_remedy(const struct attest_check *);

/* A decoded field of the evidence or of its endorsements. */
struct attest_fact {
    const char *name; /* "measurement", "reported_tcb", ...: static */
    struct attest_value value;
};

enum attest_tee {
    ATTEST_TEE_UNKNOWN,
    ATTEST_TEE_SNP,
    ATTEST_TEE_SGX,
    ATTEST_TEE_TDX,
    ATTEST_TEE_NITRO,
    ATTEST_TEE_KEYSTONE,
    ATTEST_TEE_SOFTWARE, /* SNP format, development root: no hardware protects it */
};
extern const char *const attest_tee_names[];

enum {
    ATTEST_MAX_CHECKS = 128,
    ATTEST_MAX_FACTS = 160,
    ATTEST_RESULT_POOL = 32 * 1024,
    ATTEST_MAX_WRAPPERS = 8,
};

/* Caller-owned, about 50 KiB, self-contained. attest_verify() initialises it. */
struct attest_result {
    bool genuine;
    bool accepted;
    bool identified; /* a reference value for the code itself (measurement, signer) was given and matched */
    enum attest_tee tee;
    int64_t time;           /* the time it was appraised for */
    int64_t valid_until;    /* earliest end of everything the verdict rests on; 0 when unknown */
    const char *tcb_status; /* Intel: converged status; otherwise null */
    const char *policy_name;
    bool names_workload;  /* a certificate or request names its workload, and the report data covers it: */
    uint8_t workload[32]; /* true when genuine */
    unsigned check_count, fact_count, failed;
    struct attest_check checks[ATTEST_MAX_CHECKS];
    struct attest_fact facts[ATTEST_MAX_FACTS];
    size_t pool_used;
    uint8_t pool[ATTEST_RESULT_POOL];
};

/* The failed check that decides most, or null: what makes the evidence false comes before what is missing or out of
 * date, and all of that before policy. */
const struct attest_check *attest_result_reason(const struct attest_result *);
/* Whether genuine evidence was seen to answer the policy's nonce: what an EAR may repeat as eat_nonce. */
bool attest_result_answers_nonce(const struct attest_result *);
const struct attest_fact *attest_result_fact(const struct attest_result *, const char *name);
/* One value as text into `out` (always terminated); returns out. */
const char *attest_value_format(const struct attest_value *, char *out, size_t size);

/* ---- Evidence ------------------------------------------------------------------------------------------------ */

/* Opens evidence in any supported form: raw report or quote, PEM/DER certificate or request with evidence inside, CMW
 * (JSON, CBOR), configfs-tsm report, Azure HCL report, KBS JSON. Copies what it needs. Null when nothing known is
 * inside; `error` then says what was looked for. */
struct attest_evidence;
struct attest_evidence *attest_evidence_open(struct attest_bytes, char *error, size_t error_size);
/* What an appraisal of bytes that attest_evidence_open() refused comes to: one failed check, which says what they look
 * like and what to do. `error` is what the opening said, or null. */
void attest_reject_unopened(struct attest_bytes, const char *error, int64_t now, struct attest_result *);
void attest_evidence_free(struct attest_evidence *);
enum attest_tee attest_evidence_tee(const struct attest_evidence *);
struct attest_bytes attest_evidence_report(const struct attest_evidence *); /* the innermost report, quote, document */
/* Adds an event log (CCEL binary or dstack JSON) to be replayed against the RTMRs of a TD. False: not a log. */
bool attest_evidence_add_log(struct attest_evidence *, struct attest_bytes);
/* The public key (DER SubjectPublicKeyInfo) the evidence must vouch for, when it did not come in the wrapper: report
 * data must begin with its SHA-256, SHA-384 or SHA-512 and continue with zeros. */
bool attest_evidence_bind_key(struct attest_evidence *, struct attest_bytes spki);
bool attest_evidence_bind_pem(struct attest_evidence *, struct attest_bytes pem); /* "PUBLIC KEY", or a certificate's */

/* ---- Policy -------------------------------------------------------------------------------------------------- */

#include <donjon/attest-policy.h>

/* ---- Verifier ------------------------------------------------------------------------------------------------ */

struct attest_verifier;
struct attest_verifier *attest_verifier_new(void);
void attest_verifier_free(struct attest_verifier *);
/* An Endorsement, recognised by content: certificates and CRLs (DER, PEM, several in one file), SNP certificate tables,
 * TCB info and QE identity in the envelope Intel serves, collateral bundles. Verified before every use.
 * False when nothing in it was recognised. */
bool attest_verifier_add(struct attest_verifier *, struct attest_bytes);
/* Why the last document that was recognised was not taken (malformed TCB info, say), or "". */
const char *attest_verifier_trouble(const struct attest_verifier *);
/* What bytes look like that are not what was looked for: "a JPEG picture", "a private key in PEM"; never null. */
const char *attest_looks_like(struct attest_bytes);
/* A further trust anchor (one DER or PEM certificate), for private PKIs and tests. `only` drops the built-in anchors.
 */
bool attest_verifier_add_root(struct attest_verifier *, struct attest_bytes, bool only);
/* The development root of the software signer: evidence under it is ATTEST_TEE_SOFTWARE and still needs
 * policy.allow_software. */
bool attest_verifier_add_development_root(struct attest_verifier *, struct attest_bytes);

/* Appraises. `policy` null: attest_policy_genuine(). */
void attest_verify(struct attest_verifier *, const struct attest_evidence *, const struct attest_policy *, int64_t now,
                   struct attest_result *);
/* Decodes everything, judges nothing: facts only. */
void attest_inspect(struct attest_verifier *, const struct attest_evidence *, struct attest_result *);

/* What is still missing to appraise this evidence, as URLs of AMD's KDS and Intel's PCS. Writes at most `max` strings
 * to be freed by the caller; returns how many. */
size_t attest_collateral_urls(struct attest_verifier *, const struct attest_evidence *, char **urls, size_t max);

/* What no public server has of what this evidence needs, and who has it; null when there is nothing. */
const char *attest_collateral_lacking(const struct attest_evidence *);

/* ---- Showing ------------------------------------------------------------------------------------------------- */

struct attest_text { /* a growing text; free(text.data) */
    char *data;
    size_t size, capacity;
};
/* A tree for people, then one verdict line. `colour` adds terminal escapes. */
void attest_print_tree(const struct attest_result *, bool colour, bool verbose, struct attest_text *);
/* The same as JSON (schema in docs/attestation.md). Null on lack of memory; free() it. */
char *attest_print_json(const struct attest_result *);

/* EAT Attestation Result (draft-ietf-rats-ear): ES256 or ES384 by the curve of the PEM private key. Null on error;
 * free(). */
char *attest_ear_jwt(const struct attest_result *, struct attest_bytes key_pem, struct attest_bytes nonce);
uint8_t *attest_ear_cwt(const struct attest_result *, struct attest_bytes key_pem, struct attest_bytes nonce,
                        size_t *size);
/* Verifies an EAR in JWT form with a PEM public key; the claims as JSON text (free()), or null and `error`. */
char *attest_ear_verify_jwt(struct attest_bytes token, struct attest_bytes key_pem, char *error, size_t error_size);
char *attest_ear_verify_cwt(struct attest_bytes token, struct attest_bytes key_pem, char *error, size_t error_size);

/* ---- Reference values: what a measurement will be --------------------------------------------------------------- */

/* SNP launch digest, page by page (SNP ABI, LAUNCH_UPDATE). */
enum { ATTEST_SNP_DIGEST = 48, ATTEST_SNP_PAGE = 4096 };
enum attest_snp_page {
    ATTEST_SNP_NORMAL = 1,
    ATTEST_SNP_VMSA = 2,
    ATTEST_SNP_ZERO = 3,
    ATTEST_SNP_UNMEASURED = 4,
    ATTEST_SNP_SECRETS = 5,
    ATTEST_SNP_CPUID = 6,
};
struct attest_snp_launch {
    uint8_t digest[ATTEST_SNP_DIGEST]; /* all zero at first */
};
/* `page`: 4096 bytes for NORMAL and VMSA, null otherwise. */
void attest_snp_launch_page(struct attest_snp_launch *, enum attest_snp_page, uint64_t gpa, const uint8_t *page);
/* `count` pages from gpa on. */
void attest_snp_launch_range(struct attest_snp_launch *, enum attest_snp_page, uint64_t gpa, const uint8_t *pages,
                             size_t count);

enum attest_vmm { ATTEST_VMM_QEMU, ATTEST_VMM_EC2, ATTEST_VMM_GCE };
struct attest_ovmf_launch {
    struct attest_bytes firmware;
    enum attest_vmm vmm;
    unsigned vcpus;
    uint32_t vcpu_signature; /* CPUID leaf 1 EAX of the guest's CPU model */
    uint64_t guest_features; /* SEV_FEATURES */
    bool with_kernel;
    struct attest_bytes kernel, initrd, cmdline; /* cmdline without its terminating zero */
};
/* Null, or what is wrong. */
const char *attest_snp_launch_ovmf(const struct attest_ovmf_launch *, uint8_t digest[ATTEST_SNP_DIGEST]);
void attest_snp_vmsa(enum attest_vmm, bool boot_processor, uint32_t eip, uint32_t vcpu_signature, uint64_t features,
                     uint8_t page[ATTEST_SNP_PAGE]);

/* SNP ID block and its authentication page: both signatures, and the digests a report will show. Null, or what is
 * wrong. */
struct attest_id_block {
    uint8_t launch_digest[48], family_id[16], image_id[16];
    uint32_t version, guest_svn;
    uint64_t policy;
    uint8_t id_key_digest[48], author_key_digest[48]; /* the latter zero without author key */
};
const char *attest_snp_id_block(struct attest_bytes id_block, struct attest_bytes id_auth, struct attest_id_block *);

/* MRENCLAVE of an SGXS stream (ECREATE, EADD, EEXTEND records). Null, or what is wrong. */
const char *attest_sgx_measure(struct attest_bytes sgxs, uint8_t mrenclave[32]);
struct attest_sigstruct {
    uint32_t vendor, date, swdefined, miscselect, miscmask;
    uint8_t attributes[16], attribute_mask[16], mrenclave[32], mrsigner[32];
    uint16_t isv_prod_id, isv_svn;
};
/* Parses and verifies (RSA-3072 signature, Q1, Q2, reserved fields). Null, or what is wrong. */
const char *attest_sgx_sigstruct(struct attest_bytes, struct attest_sigstruct *);

/* Adds the reference values of a CoRIM (RFC-to-be draft-ietf-rats-corim; unsigned, or signed with `key_pem`) to a
 * policy. Returns how many were taken, negative with `error` when it is malformed or not signed by the key. */
int attest_corim_read(struct attest_bytes corim, struct attest_bytes key_pem, struct attest_policy *, char *error,
                      size_t error_size);

/* ---- Attester: the software signer ------------------------------------------------------------------------------- */

/* Evidence in the SNP format under a development root, for backends without a TEE. Nothing trusts that root unless it
 * is given to attest_verifier_add_development_root() and the policy allows software evidence. */
struct attest_signer;
/* A fresh root and VCEK-like key; `at` is their notBefore, valid ten years. Null when OpenSSL fails. */
struct attest_signer *attest_signer_new(int64_t at);
/* From what attest_signer_export() wrote. */
struct attest_signer *attest_signer_load(struct attest_bytes pem);
char *attest_signer_export(const struct attest_signer *); /* PEM: keys and certificates; free() */
char *attest_signer_certificates(const struct attest_signer *,
                                 bool root); /* PEM: root, or the chain without it; free() */
void attest_signer_free(struct attest_signer *);

enum { ATTEST_SNP_REPORT = 1184 };
struct attest_signer_claims {
    uint8_t report_data[64], measurement[48], host_data[32], family_id[16], image_id[16];
    uint32_t guest_svn;
    uint64_t policy; /* 0: 0x30000 */
};
bool attest_signer_report(const struct attest_signer *, const struct attest_signer_claims *,
                          uint8_t report[ATTEST_SNP_REPORT]);

#ifdef __cplusplus
}
#endif
#endif
