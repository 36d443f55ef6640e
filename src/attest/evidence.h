/* Evidence, opened: the innermost report and everything that came around it. */
#ifndef DONJON_ATTEST_EVIDENCE_H
#define DONJON_ATTEST_EVIDENCE_H

#include "verifier.h"

enum { EVIDENCE_MAX_DEPTH = 8, EVIDENCE_MAX_BINDINGS = 6, EVIDENCE_MAX_REMARKS = 6, BINDING_DIGESTS = 5 };
enum { CHOSEN_SIZE = 64, CHOSEN_MAX = 3 };

/* What the tenant chose, where a wrapper keeps it because the wrapper needs the report data for itself: vouched for by
 * a binding, or by a vTPM whose key a binding vouches for. Then zeros. */
struct chosen {
    const char *where; /* static */
    uint8_t data[CHOSEN_SIZE];
};

/* Report data must be one of these digests, then zeros. */
struct binding {
    enum attest_rule rule;
    const char *what;
    uint8_t digests[BINDING_DIGESTS][64];
    uint8_t sizes[BINDING_DIGESTS];
    size_t count;
    struct attest_bytes key; /* WRAPPER_KEY: the SubjectPublicKeyInfo, for TEEs that can carry it whole */
};
/* Something the wrapper itself told, good or bad. */
struct remark {
    enum attest_rule rule;
    bool ok;
    const char *expected, *found; /* static; without `expected` it is a note */
};

struct attest_evidence {
    enum attest_tee tee;
    struct attest_bytes report;    /* owned */
    struct attest_bytes log;       /* owned; may be empty */
    struct attest_bytes td_report; /* owned; the local report in Azure's wrapper, when a quote came with it */
    struct attest_bytes runtime;   /* owned; Azure's runtime data */
    struct attest_bytes vtpm_message, vtpm_signature, vtpm_pcrs; /* owned; a vTPM's quote, PCR0 and following */
    struct chosen chosen[CHOSEN_MAX];
    size_t chosen_count;
    bool local_only; /* `report` is a TDREPORT: nothing outside its machine can check it */
    struct endorsements carried;
    const char *wrappers[ATTEST_MAX_WRAPPERS]; /* outermost first, static */
    size_t wrapper_count;
    struct binding bindings[EVIDENCE_MAX_BINDINGS];
    size_t binding_count;
    struct remark remarks[EVIDENCE_MAX_REMARKS];
    size_t remark_count;
    uint8_t *kept[16]; /* further owned memory */
    size_t kept_count;
    bool in_certificate; /* whose validity is: */
    int64_t not_before, not_after;
    bool names_workload; /* the certificate does, and one of the bindings covers it */
    uint8_t workload[32];
    uint8_t nonce[64]; /* as the workload: what a request answers, and what came of it */
    size_t nonce_size;
};

/* An opening in progress. */
struct opening {
    struct attest_evidence *e;
    int depth;
    bool names_workload; /* of the certificate being opened, with the nonce of a request */
    struct attest_bytes workload, nonce;
    char *error;
    size_t error_size;
};

/* Tries to open bytes found at some level; true when evidence was found in them. */
bool open_bytes(struct opening *, struct attest_bytes);
bool open_x509(struct opening *, struct attest_bytes der); /* certificate or request */
bool open_pem(struct opening *, struct attest_bytes);
bool open_cmw_cbor(struct opening *, struct attest_bytes);
bool open_cmw_json(struct opening *, struct attest_bytes);
bool open_json(struct opening *, struct attest_bytes);
bool open_hcl(struct opening *, struct attest_bytes);
bool open_tsm_cbor(struct opening *, struct attest_bytes);

void open_wrapper(struct opening *, const char *name);
bool open_report(struct opening *, enum attest_tee, struct attest_bytes);
void open_fail(struct opening *, const char *format, ...) __attribute__((format(printf, 2, 3)));
struct binding *add_binding(struct attest_evidence *, enum attest_rule, const char *what);
void binding_digest(struct binding *, const void *digest, size_t size);
/* SHA-256, SHA-384 and SHA-512 of a key are all in use. */
bool bind_key(struct attest_evidence *, struct attest_bytes spki);
void add_remark(struct attest_evidence *, enum attest_rule, bool ok, const char *expected, const char *found);
/* At most CHOSEN_SIZE bytes. */
void add_chosen(struct attest_evidence *, const char *where, struct attest_bytes);
/* Copies into memory the evidence owns. */
struct attest_bytes keep_copy(struct attest_evidence *, struct attest_bytes);
bool set_bytes(struct attest_bytes *owned, struct attest_bytes from);

/* Text to bytes; null when it is not of that alphabet. free() the data. */
struct attest_bytes decode_hex(const char *, size_t);
struct attest_bytes decode_hex_lines(const char *, size_t); /* white space between digits is passed over */
struct attest_bytes decode_base64(const char *, size_t, bool url);

/* The first quote inside some structure, by its vendor id: exactly its bytes, or nothing. */
struct attest_bytes quote_within(struct attest_bytes);

/* What X.509 wrappers need of the report they carry, by TEE: its 64 bytes of report data. */
bool evidence_report_data(const struct attest_evidence *, uint8_t out[64]);

#endif
