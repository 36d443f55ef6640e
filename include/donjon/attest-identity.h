/* Identities of keeps: what Donjon's own certificates and certificate requests say, and how evidence is tied to them.
 * Needs OpenSSL's libcrypto only, so the warden can carry it. Described in docs/attestation.md, "Certificates of
 * keeps".
 *
 * A certificate (self-signed by a keep, or issued by a steward) and a request carry the evidence in the extension for
 * conceptual message wrappers (RFC 9999), and the digest of the workload in one of ours. The evidence's report data is
 *
 *     SHA-512( lp("donjon certificate v1") lp(SPKI) lp(workload digest) )             self-signed certificate
 *     SHA-512( lp("donjon csr v1") lp(SPKI) lp(workload digest) lp(nonce) )           request, and what came of it
 *
 * lp(x): the length of x as 32 bits little-endian, then x. SPKI: the DER SubjectPublicKeyInfo. The nonce is the
 * steward's; it stands in an extension of the request, and the steward copies it into the certificate beside the
 * evidence, so that the certificate can be appraised again by whoever receives it. */
#ifndef DONJON_ATTEST_IDENTITY_H
#define DONJON_ATTEST_IDENTITY_H

#include <openssl/x509.h>

#include <donjon/attest.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The arc of our extensions. 32473 is RFC 5612's number for examples: the project has no enterprise number yet, and a
 * UUID arc (2.25) is refused by readers whose arcs have 31 bits, Go's among them. All of them are never critical. */
#define ATTEST_ARC             "1.3.6.1.4.1.32473.2026.1"
#define ATTEST_OID_WORKLOAD    ATTEST_ARC ".1" /* OCTET STRING, 32 bytes: the workload digest */
#define ATTEST_OID_MEASUREMENT ATTEST_ARC ".2" /* OCTET STRING: measurement, MRENCLAVE, MRTD, PCR0 or enclave hash */
#define ATTEST_OID_TEE         ATTEST_ARC ".3" /* UTF8String: a name of attest_tee_names */
#define ATTEST_OID_TCB         ATTEST_ARC ".4" /* UTF8String: Intel's converged status; else the reported TCB */
#define ATTEST_OID_NONCE       ATTEST_ARC ".5" /* OCTET STRING: the steward's nonce, in requests and what came of them */
#define ATTEST_OID_CMW         "1.3.6.1.5.5.7.1.35"

enum { ATTEST_WORKLOAD_DIGEST = 32, ATTEST_IDENTITY_NONCE_MAX = 64 };

/* SHA-512 over lp(label) and lp(part) of each part. False when OpenSSL fails. */
bool attest_transcript(const char *label, const struct attest_bytes *parts, size_t count, uint8_t digest[64]);
/* The report data for a key: a request's when there is a nonce, a self-signed certificate's when it is empty. */
bool attest_identity_report_data(struct attest_bytes spki, const uint8_t workload[ATTEST_WORKLOAD_DIGEST],
                                 struct attest_bytes nonce, uint8_t report_data[64]);

/* Adds the extensions to a list: evidence (what attest_evidence_open() takes; `endorsements`: what
 * attest_verifier_add() takes, or empty), workload digest, and the nonce unless it is empty. */
bool attest_identity_extensions(STACK_OF(X509_EXTENSION) *, struct attest_bytes evidence,
                                struct attest_bytes endorsements, const uint8_t workload[ATTEST_WORKLOAD_DIGEST],
                                struct attest_bytes nonce);
/* What such an extension's content holds: just that form, and nothing else that RFC 9999 allows, for readers that have
 * no CBOR. Both point into `cmw`; endorsements are empty where there are none. */
bool attest_identity_unwrap(struct attest_bytes cmw, struct attest_bytes *evidence, struct attest_bytes *endorsements);
/* One extension, not critical, whose value is the DER string `type` (V_ASN1_OCTET_STRING, V_ASN1_UTF8STRING) of
 * `bytes`. */
bool attest_identity_add(STACK_OF(X509_EXTENSION) *, const char *oid, int type, struct attest_bytes bytes);
/* Adds a subjectAltName of DNS names and IP addresses in text; critical when the subject will be empty. */
bool attest_identity_add_names(STACK_OF(X509_EXTENSION) *, const char *const *names, size_t count, bool critical);

/* A PKCS#10 request for `key` with these extensions, signed by it; its subject is empty. X509_REQ_free(). */
X509_REQ *attest_identity_request(EVP_PKEY *key, STACK_OF(X509_EXTENSION) *);

/* The content of an OCTET STRING extension of ours with `least` to `most` bytes. False: absent, there twice, or
 * malformed; *present then tells whether it was there. The bytes live in the list. */
bool attest_identity_octets(const STACK_OF(X509_EXTENSION) *, const char *oid, size_t least, size_t most,
                            struct attest_bytes *out, bool *present);

#ifdef __cplusplus
}
#endif
#endif
