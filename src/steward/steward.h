/* The steward: a Verifier that is also a certificate authority. A keep sends a certificate request with evidence
 * inside; when the evidence stands up to one of the steward's rules, it gets a certificate for hours, naming what runs
 * there.
 *
 * The core (request.c, nonce.c, rules.c, issue.c, audit.c, core.c) knows no network and no clock: bytes and a time in,
 * a decision out. http.c is the daemon around it. One thread at a time. When in doubt nothing is issued: whatever is
 * missing, late, unknown or unwritable is a refusal. */
#ifndef DONJON_STEWARD_H
#define DONJON_STEWARD_H

#include <openssl/x509.h>

#include <donjon/attest-identity.h>

#include "settings.h"

/* ---- Requests (request.c) ---- */

enum { STEWARD_NONCE = 32, REQUEST_MAX = 256 << 10, REQUEST_NAMES_MAX = 32, REQUEST_KEPT_MAX = 4 };

/* Why not: a stable word for programs and a text for people. */
struct steward_reason {
    char rule[48];
    char text[400];
};
/* Writes a reason and returns false. */
bool steward_because(struct steward_reason *, const char *rule, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A PKCS#10 request, checked but for nonce and evidence. */
struct steward_request {
    X509_REQ *x;
    EVP_PKEY *key; /* borrowed from x */
    STACK_OF(X509_EXTENSION) * extensions;
    char names[REQUEST_NAMES_MAX][STEWARD_NAME_MAX + 1]; /* DNS names in lower case, addresses as text */
    size_t name_count;
    struct attest_bytes workload, nonce; /* in extensions */
    uint8_t digest[32];                  /* SHA-256 of the DER */
    uint8_t *der;
    int der_size;
};
/* Reads DER, or PEM with one request. Checks form, key (P-256 or P-384), the request's own signature, and that nothing
 * is asked for but names, the usual usages of an end entity, workload, nonce and evidence. steward_request_free() in
 * both cases. */
bool steward_request_read(struct steward_request *, struct attest_bytes, struct steward_reason *);
void steward_request_free(struct steward_request *);

/* ---- Nonces (nonce.c) ---- */

/* A nonce tells its own time and is authenticated with a key of this process: handing them out costs no memory. Only
 * those that were used are remembered, until they would be stale anyway. */
enum { NONCES_USED_MAX = 16384 };
struct steward_nonces {
    uint8_t key[32];
    int64_t lifetime;
    struct {
        uint8_t nonce[STEWARD_NONCE];
        int64_t until;
    } used[NONCES_USED_MAX];
    size_t used_count;
};
bool steward_nonces_init(struct steward_nonces *, int64_t lifetime);
bool steward_nonce_make(struct steward_nonces *, int64_t now, uint8_t nonce[STEWARD_NONCE]);
/* Ours; then not stale. */
bool steward_nonce_is_ours(const struct steward_nonces *, struct attest_bytes nonce);
bool steward_nonce_fresh(const struct steward_nonces *, struct attest_bytes nonce, int64_t now, struct steward_reason *);
/* Ours, not stale, not used. */
bool steward_nonce_check(struct steward_nonces *, struct attest_bytes nonce, int64_t now, struct steward_reason *);
/* From now on it is used. False when there is no room to remember it. */
bool steward_nonce_spend(struct steward_nonces *, struct attest_bytes nonce, int64_t now, struct steward_reason *);

/* ---- The audit log (audit.c) ---- */

/* One JSON object a line: seq, time, event, ..., prev: the SHA-256 of the line before, without its newline (zeros for
 * the first). Appended with one write and flushed to the disk before anything is answered. */
enum { AUDIT_LINE_MAX = 64 << 10 };
struct json_t;
struct steward_audit {
    int fd;
    uint64_t entries;
    uint8_t head[32]; /* digest of the last line */
    char broken[200]; /* not empty: nothing can be recorded any more, and why */
};
/* Opens or makes the file, checks all of it, and takes the lock that keeps a second steward out. A last line that a
 * crash cut off was never answered: it is cut and an entry says so. */
bool steward_audit_open(struct steward_audit *, const char *path, int64_t now, char error[SETTINGS_ERROR]);
void steward_audit_close(struct steward_audit *);
/* Where there is no file at `path` any more, or another: goes on in a new one, whose first entry (`continued`) names the
 * number of entries and the head of the one before. On failure the open one stays in use. */
bool steward_audit_reopen(struct steward_audit *, const char *path, int64_t now, char error[SETTINGS_ERROR]);
/* Adds seq, time and prev to `entry` (a reference is taken over), appends, flushes. False: broken, for good. */
bool steward_audit_append(struct steward_audit *, int64_t now, struct json_t *entry);

struct steward_audit_report {
    uint64_t entries;
    uint8_t head[32];
    bool torn;                /* the last line has no end: a crash, or somebody at work */
    uint64_t end;             /* offset behind the last whole line */
    bool found;               /* an entry with the wanted digest is there */
    char before[65];          /* head of the log that this one continues; empty: it is the first */
    char first[24], last[24]; /* times */
};
/* Checks a log from beginning to end. `wanted`: a head noted earlier that must be among the entries, or null. False
 * with `error`: the line and what is wrong. */
bool steward_audit_check(int fd, const uint8_t wanted[32], struct steward_audit_report *, char error[SETTINGS_ERROR]);

/* ---- Keys (key.c) ---- */

struct steward_key {
    EVP_PKEY *key;
    void *engine; /* ENGINE, when the key lives in a PKCS#11 token */
};
/* A PEM file (not readable by others), or "pkcs11:..." through OpenSSL's pkcs11 engine and `module`. */
bool steward_key_load(struct steward_key *, const char *path_or_uri, const char *module, char error[SETTINGS_ERROR]);
void steward_key_free(struct steward_key *);
/* The digest to sign with; null for keys that bring their own. */
const EVP_MD *steward_key_digest(const EVP_PKEY *);
/* A random serial number: positive (RFC 5280, 4.1.2.2), and always of the same length. */
bool steward_set_serial(X509 *);
/* A self-signed authority for `key`. */
X509 *steward_authority_make(EVP_PKEY *key, const char *name, int64_t now, int64_t lifetime);

/* ---- The core (core.c, rules.c, issue.c) ---- */

struct steward_policy; /* a rule's appraisal policy, loaded */

/* denied.c: what gets nothing any more, whatever a rule says. Lines of NAME HEX [# why]: names of what a verdict finds.
 * Null with `error`: a line that is none. */
struct steward_denied;
struct steward_denied *steward_denied_read(const char *text, size_t size, char error[SETTINGS_ERROR]);
void steward_denied_free(struct steward_denied *);
/* False with the reason: something in the verdict is on the list. */
bool steward_denied_allows(const struct steward_denied *, const struct attest_result *, struct steward_reason *);

struct steward {
    const struct steward_settings *settings;
    struct steward_key key;
    X509 *ca;
    STACK_OF(X509) * ca_chain; /* above ca, as in its file */
    char *ca_pem;
    struct attest_verifier *verifier;
    struct steward_policy *policies; /* one per rule */
    struct steward_denied *denied;   /* or null */
    struct steward_nonces nonces;
    struct steward_audit audit;
    uint64_t issued, refused, appraised;
};

/* Opens everything the settings name. */
struct steward *steward_open(const struct steward_settings *, int64_t now, char error[SETTINGS_ERROR]);
/* Only reads all of it, the audit log as well, and writes nothing; another steward may be running with it. */
bool steward_check(const struct steward_settings *, char error[SETTINGS_ERROR]);
void steward_close(struct steward *);
/* Reads policies, collateral, roots and what is denied again; on failure the old ones stay. Then goes on in a new audit
 * log, if the one there was has been renamed. */
bool steward_reload(struct steward *, int64_t now, char error[SETTINGS_ERROR]);

enum steward_outcome {
    STEWARD_ISSUED,  /* recorded, and in `pem` */
    STEWARD_REFUSED, /* `reasons` say why */
    STEWARD_UNABLE,  /* the steward's own fault: audit log, key, memory */
};
struct steward_decision {
    enum steward_outcome outcome;
    struct steward_reason reasons[STEWARD_RULES_MAX + 2];
    size_t reason_count;
    char *pem; /* leaf, authority, and what is above it */
};
/* `peer`: who asks, for the audit log. steward_decision_free() afterwards. */
void steward_certify(struct steward *, struct attest_bytes request, const char *peer, int64_t now,
                     struct steward_decision *);
void steward_decision_free(struct steward_decision *);
struct json_t *steward_reasons_json(const struct steward_decision *); /* [{"rule":..., "text":...}] */

/* Appraises evidence by the policy of one rule (or, null, by the first that accepts it) and gives an EAR. The evidence
 * must have this report data (64 bytes, or empty: any) and answer this nonce (or empty: the token says nothing of
 * freshness); only one that genuine evidence was seen to answer is in the token, as eat_nonce. A nonce of the steward's
 * own must be young. Null with `decision` saying why; a token may well say "contraindicated". */
char *steward_appraise(struct steward *, struct attest_bytes evidence, const char *rule,
                       struct attest_bytes report_data, struct attest_bytes nonce, bool cwt, size_t *size,
                       const char *peer, int64_t now, struct steward_decision *);

/* Part of the above. */
struct steward_grant { /* what rules.c found */
    const struct steward_rule *rule;
    const char *policy_name;
    const uint8_t *policy_digest;
    struct attest_result result;
};
bool steward_rules_load(struct steward *, char error[SETTINGS_ERROR]);
void steward_rules_free(struct steward *);
/* The first rule that gives this request what it asks for. False: a reason per rule. */
bool steward_rules_decide(struct steward *, const struct steward_request *, int64_t now, struct steward_grant *,
                          struct steward_decision *);
bool steward_rules_appraise(struct steward *, const struct attest_evidence *, const char *rule,
                            struct attest_bytes report_data, struct attest_bytes nonce, int64_t now,
                            struct steward_grant *, struct steward_decision *);
/* A certificate for the request under the grant. */
X509 *steward_issue(struct steward *, const struct steward_request *, const struct steward_grant *, int64_t now,
                    struct steward_reason *);
/* One for the steward's own TLS server. */
X509 *steward_issue_server(struct steward *, EVP_PKEY *key, int64_t now, int64_t lifetime);
/* Certificates in PEM one after another; free(). */
char *steward_pem(X509 *first, STACK_OF(X509) * rest);
void steward_hex(const uint8_t *bytes, size_t size, char *out); /* 2 * size + 1 */

/* ---- The daemon (http.c) ---- */

int steward_serve(struct steward *, const struct steward_settings *);

#endif
