/* The Verifier's store: trust anchors, Endorsements in no particular order, and what was already verified about them.
 */
#ifndef DONJON_ATTEST_VERIFIER_H
#define DONJON_ATTEST_VERIFIER_H

#include <openssl/x509.h>

#include <donjon/attest.h>

#include "reader.h"
#include "result.h"

enum vendor { VENDOR_NONE, VENDOR_AMD, VENDOR_INTEL, VENDOR_AWS, VENDOR_ANY /* added by the user */, VENDOR_SOFTWARE };
enum snp_product { SNP_MILAN, SNP_GENOA, SNP_TURIN, SNP_PRODUCTS, SNP_UNKNOWN = SNP_PRODUCTS };
extern const char *const snp_product_names[]; /* "Milan", "Genoa", "Turin", "unknown" */

struct certs {
    X509 **items;
    size_t count, capacity;
};
struct crl {
    X509_CRL *crl;
    int64_t this_update, next_update; /* next_update 0: absent */
    X509 *checked_with;               /* the issuer the signature was checked against, null: not yet */
    bool genuine;
};
struct crls {
    struct crl *items;
    size_t count, capacity;
};
struct anchor {
    X509 *x;
    enum vendor vendor;
};

enum { CHAIN_MAX = 6, CHAIN_CACHE = 64 };

/* A certificate path, leaf first, anchor last. */
struct chain {
    X509 *certs[CHAIN_MAX];
    size_t count;
    enum vendor vendor;
    bool algorithms_ok;
    int64_t not_before, not_after; /* of the whole path */
    EVP_PKEY *key;                 /* the leaf's; borrowed from it */
    uint8_t id[32];                /* SHA-256 of the bytes the leaf came in */
    uint64_t used;
    void *extra; /* facts parsed from the leaf by its user, with its destructor */
    void (*extra_free)(void *);
};

struct tcb_info;
struct qe_identity;

/* Endorsements in no particular order; nothing in here is trusted before it is verified. */
struct endorsements {
    struct certs certs;
    struct crls crls;
    struct tcb_info **tcb_infos;
    size_t tcb_info_count, tcb_info_capacity;
    struct qe_identity **qe_identities;
    size_t qe_identity_count, qe_identity_capacity;
    char rejected[200]; /* why the last recognised but malformed document was not taken */
};

struct attest_verifier {
    struct anchor anchors[24];
    size_t anchor_count;
    struct endorsements store;
    struct chain *chains[CHAIN_CACHE];
    uint64_t clock;
};

/* Grows an array of `size`-byte items by one slot; false without memory. */
bool grow(void *items, size_t *capacity, size_t count, size_t size);
bool certs_add(struct certs *, X509 *);   /* takes a reference of its own */
bool crls_add(struct crls *, X509_CRL *); /* takes a reference of its own */
void certs_free(struct certs *);
void crls_free(struct crls *);
/* Certificates and CRLs out of PEM, DER (several after another), pkipath. How many objects were found. */
size_t read_certificates(struct attest_bytes, struct certs *, struct crls *);

/* Adds whatever is recognised in a file. How many things that was. */
size_t endorsements_add(struct endorsements *, struct attest_bytes);
void endorsements_free(struct endorsements *);

/* The path found earlier for the leaf with this id, or null. */
struct chain *chain_cached(struct attest_verifier *, const uint8_t id[32], enum vendor);
/* Finds a path from leaf to an anchor of `vendor` (or one added by the user), through the store's certificates
 * and those that came with the evidence. Null, and `why` says how far it came. The path is cached under `id` and owned
 * by the verifier, valid until the next call. Time is not looked at. */
struct chain *chain_find(struct attest_verifier *, const uint8_t id[32], X509 *leaf, const struct endorsements *,
                         enum vendor, char *why, size_t why_size);
/* The same, with the digest of the certificate as id. */
struct chain *chain_of(struct attest_verifier *, X509 *leaf, const struct endorsements *, enum vendor, char *why,
                       size_t why_size);
/* Certificates in the store that a subject common name begins with `prefix`, from *at on. */
X509 *certs_named(const struct certs *, const char *prefix, size_t *at);

/* Records chain.path, chain.algorithm, chain.validity. */
bool check_chain(struct attest_result *, const struct chain *, const char *why, int64_t now);

enum crl_state { CRL_GOOD, CRL_MISSING, CRL_NOT_GENUINE, CRL_STALE, CRL_EARLY, CRL_REVOKED };
/* `certificate` against the lists of its issuer. `crl` receives the list that decided. */
enum crl_state crl_check(struct attest_verifier *, const struct endorsements *, X509 *certificate, X509 *issuer,
                         int64_t now, const struct crl **crl);
/* Records chain.revocation and chain.crl for certificates first..count-2 of the path. `required`: absent or stale lists
 * fail. */
void check_revocation(struct attest_verifier *, struct attest_result *, const struct chain *,
                      const struct endorsements *, size_t first, bool required, int64_t now);

int64_t time_of(const ASN1_TIME *); /* INT64_MIN when malformed */
/* Common name, or "?" */
void common_name(const X509_NAME *, char *out, size_t size);
/* Value of an extension by dotted OID (the OCTET STRING's content); false when absent or there twice. */
bool extension_of(const X509 *, const char *oid, struct attest_bytes *);

/* Built-in anchors and intermediates (roots.c, made from roots/). */
struct builtin {
    const char *name;
    const uint8_t *der;
    size_t size;
};
extern const struct builtin builtin_roots[];

#endif
