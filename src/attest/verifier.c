#include "verifier.h"

#include <stdlib.h>

#include <openssl/err.h>
#include <openssl/pem.h>

#include "intel_json.h"
#include "snp.h"

bool grow(void *items, size_t *capacity, size_t count, size_t size) {
    if (count < *capacity) return true;
    size_t wanted = *capacity ? *capacity * 2 : 4;
    void *grown = realloc(*(void **)items, wanted * size);
    if (!grown) return false;
    *(void **)items = grown;
    *capacity = wanted;
    return true;
}

bool certs_add(struct certs *list, X509 *x) {
    if (!grow(&list->items, &list->capacity, list->count, sizeof *list->items) || !X509_up_ref(x)) return false;
    list->items[list->count++] = x;
    return true;
}

bool crls_add(struct crls *list, X509_CRL *crl) {
    if (!grow(&list->items, &list->capacity, list->count, sizeof *list->items) || !X509_CRL_up_ref(crl)) return false;
    const ASN1_TIME *next = X509_CRL_get0_nextUpdate(crl);
    list->items[list->count++] = (struct crl){
        .crl = crl, .this_update = time_of(X509_CRL_get0_lastUpdate(crl)), .next_update = next ? time_of(next) : 0};
    return true;
}

void certs_free(struct certs *list) {
    for (size_t i = 0; i < list->count; i++)
        X509_free(list->items[i]);
    free(list->items);
    *list = (struct certs){0};
}

void crls_free(struct crls *list) {
    for (size_t i = 0; i < list->count; i++) {
        X509_CRL_free(list->items[i].crl);
        X509_free(list->items[i].checked_with);
    }
    free(list->items);
    *list = (struct crls){0};
}

/* One DER object at the reader: certificate, CRL, or a pkipath (SEQUENCE OF Certificate). */
static size_t read_der(struct reader *r, struct certs *certs, struct crls *crls) {
    const uint8_t *at = r->at;
    X509 *x = d2i_X509(NULL, &at, (long)r->left);
    if (x) {
        bool added = certs_add(certs, x);
        X509_free(x);
        read_span(r, (size_t)(at - r->at));
        return added;
    }
    at = r->at;
    X509_CRL *crl = d2i_X509_CRL(NULL, &at, (long)r->left);
    if (crl) {
        bool added = crls_add(crls, crl);
        X509_CRL_free(crl);
        read_span(r, (size_t)(at - r->at));
        return added;
    }
    at = r->at;
    STACK_OF(ASN1_TYPE) *sequence = d2i_ASN1_SEQUENCE_ANY(NULL, &at, (long)r->left);
    size_t found = 0;
    for (int i = 0; i < sk_ASN1_TYPE_num(sequence); i++) {
        const ASN1_TYPE *item = sk_ASN1_TYPE_value(sequence, i);
        if (item->type != V_ASN1_SEQUENCE) continue;
        const uint8_t *inner = item->value.sequence->data;
        x = d2i_X509(NULL, &inner, item->value.sequence->length);
        if (x && certs_add(certs, x)) found++;
        X509_free(x);
    }
    if (sequence) read_span(r, (size_t)(at - r->at));
    sk_ASN1_TYPE_pop_free(sequence, ASN1_TYPE_free);
    return found;
}

static size_t read_pem(struct attest_bytes bytes, struct certs *certs, struct crls *crls) {
    BIO *bio = BIO_new_mem_buf(bytes.data, (int)bytes.size);
    char *name, *header;
    uint8_t *der;
    long size;
    size_t found = 0;
    while (bio && PEM_read_bio(bio, &name, &header, &der, &size) == 1) {
        struct reader r = reader_of((struct attest_bytes){der, (size_t)size});
        bool wanted = strstr(name, "CERTIFICATE") || strstr(name, "CRL");
        if (wanted && !strstr(name, "REQUEST")) found += read_der(&r, certs, crls);
        OPENSSL_free(name);
        OPENSSL_free(header);
        OPENSSL_free(der);
    }
    BIO_free(bio);
    ERR_clear_error();
    return found;
}

size_t read_certificates(struct attest_bytes bytes, struct certs *certs, struct crls *crls) {
    if (bytes.size == 0 || bytes.size > INT32_MAX) return 0;
    enum { DER_SEQUENCE = 0x30 };
    if (bytes.data[0] != DER_SEQUENCE && memmem(bytes.data, bytes.size, "-----BEGIN ", 11))
        return read_pem(bytes, certs, crls);
    struct reader r = reader_of(bytes);
    size_t found = 0;
    while (r.left && *r.at == DER_SEQUENCE) {
        size_t n = read_der(&r, certs, crls);
        if (n == 0) break;
        found += n;
    }
    ERR_clear_error();
    return found;
}

static enum vendor vendor_of_builtin(const char *name) {
    if (strncmp(name, "amd-", 4) == 0 && strstr(name, "-ark")) return VENDOR_AMD;
    if (strcmp(name, "intel-sgx-root") == 0) return VENDOR_INTEL;
    if (strcmp(name, "aws-nitro-root") == 0) return VENDOR_AWS;
    return VENDOR_NONE;
}

struct attest_verifier *attest_verifier_new(void) {
    struct attest_verifier *v = calloc(1, sizeof *v);
    if (!v) return NULL;
    for (const struct builtin *b = builtin_roots; b->name; b++) {
        enum vendor vendor = vendor_of_builtin(b->name);
        if (vendor == VENDOR_NONE) {
            read_certificates((struct attest_bytes){b->der, b->size}, &v->store.certs, &v->store.crls);
            continue;
        }
        const uint8_t *at = b->der;
        X509 *x = d2i_X509(NULL, &at, (long)b->size);
        if (x) v->anchors[v->anchor_count++] = (struct anchor){x, vendor};
    }
    return v;
}

static void chain_free(struct chain *chain) {
    if (!chain) return;
    if (chain->extra_free) chain->extra_free(chain->extra);
    for (size_t i = 0; i < chain->count; i++)
        X509_free(chain->certs[i]);
    free(chain);
}

void endorsements_free(struct endorsements *e) {
    for (size_t i = 0; i < e->tcb_info_count; i++)
        tcb_info_free(e->tcb_infos[i]);
    for (size_t i = 0; i < e->qe_identity_count; i++)
        qe_identity_free(e->qe_identities[i]);
    free(e->tcb_infos);
    free(e->qe_identities);
    certs_free(&e->certs);
    crls_free(&e->crls);
    *e = (struct endorsements){0};
}

void attest_verifier_free(struct attest_verifier *v) {
    if (!v) return;
    for (size_t i = 0; i < v->anchor_count; i++)
        X509_free(v->anchors[i].x);
    for (size_t i = 0; i < CHAIN_CACHE; i++)
        chain_free(v->chains[i]);
    endorsements_free(&v->store);
    free(v);
}

/* What was found with the old anchors and certificates is found again. */
static void chains_forget(struct attest_verifier *v) {
    for (size_t i = 0; i < CHAIN_CACHE; i++) {
        chain_free(v->chains[i]);
        v->chains[i] = NULL;
    }
    for (size_t i = 0; i < v->store.tcb_info_count; i++)
        tcb_info_forget(v->store.tcb_infos[i]);
    for (size_t i = 0; i < v->store.qe_identity_count; i++)
        qe_identity_forget(v->store.qe_identities[i]);
}

static bool add_anchor(struct attest_verifier *v, struct attest_bytes bytes, enum vendor vendor) {
    struct certs certs = {0};
    struct crls crls = {0};
    read_certificates(bytes, &certs, &crls);
    bool ok =
        certs.count == 1 && v->anchor_count < sizeof v->anchors / sizeof *v->anchors && X509_up_ref(certs.items[0]);
    if (ok) v->anchors[v->anchor_count++] = (struct anchor){certs.items[0], vendor};
    certs_free(&certs);
    crls_free(&crls);
    chains_forget(v);
    return ok;
}

bool attest_verifier_add_root(struct attest_verifier *v, struct attest_bytes bytes, bool only) {
    if (only) {
        for (size_t i = 0; i < v->anchor_count; i++)
            X509_free(v->anchors[i].x);
        v->anchor_count = 0;
    }
    return add_anchor(v, bytes, VENDOR_ANY);
}

bool attest_verifier_add_development_root(struct attest_verifier *v, struct attest_bytes bytes) {
    return add_anchor(v, bytes, VENDOR_SOFTWARE);
}

/* CRLs are served as hexadecimal text by some caches. */
static size_t add_hex(struct endorsements *e, struct attest_bytes bytes) {
    char *text = strndup((const char *)bytes.data, bytes.size); /* terminated, for strspn() */
    if (!text) return 0;
    size_t size = strcspn(text, "\r\n"), found = 0;
    bool hex = size >= 2 && size % 2 == 0 && strspn(text, "0123456789abcdefABCDEF") == size && bytes.size - size <= 2;
    text[size] = 0;
    long n;
    uint8_t *der = hex ? OPENSSL_hexstr2buf(text, &n) : NULL;
    if (der) found = read_certificates((struct attest_bytes){der, (size_t)n}, &e->certs, &e->crls);
    OPENSSL_free(der);
    free(text);
    return found;
}

/* Open Enclave's endorsements: LE32 version 1, type 2 (SGX), size of the rest, count; LE32 offsets of the elements from
 * behind them; the elements (TCB info, QE identity, chains, lists), each to the next one's offset. */
static size_t add_oe(struct endorsements *e, struct attest_bytes bytes) {
    enum { ELEMENTS_MAX = 16 };
    struct reader reader = reader_of(bytes), *r = &reader;
    uint32_t version = read_le32(r), type = read_le32(r), size = read_le32(r), count = read_le32(r);
    if (r->failed || version != 1 || type != 2 || size != r->left || count == 0 || count > ELEMENTS_MAX) return 0;
    uint32_t offsets[ELEMENTS_MAX + 1];
    for (uint32_t i = 0; i < count; i++)
        offsets[i] = read_le32(r);
    offsets[count] = (uint32_t)r->left;
    size_t found = 0;
    for (uint32_t i = 0; i < count && !r->failed; i++) {
        if (offsets[i] > offsets[i + 1] || offsets[i + 1] > r->left) return 0;
        struct attest_bytes element = {r->at + offsets[i], offsets[i + 1] - offsets[i]};
        while (element.size && element.data[element.size - 1] == 0)
            element.size--; /* C strings */
        if (element.size == 0) continue;
        size_t n = read_certificates(element, &e->certs, &e->crls);
        if (n == 0) n = intel_json_add(e, element);
        found += n;
    }
    return found;
}

size_t endorsements_add(struct endorsements *e, struct attest_bytes bytes) {
    if (bytes.size == 0) return 0;
    size_t found = snp_read_table(bytes, &e->certs, &e->crls);
    if (found == 0) found = add_oe(e, bytes);
    if (found == 0) found = read_certificates(bytes, &e->certs, &e->crls);
    if (found == 0) found = intel_json_add(e, bytes);
    if (found == 0) found = add_hex(e, bytes);
    return found;
}

const char *attest_verifier_trouble(const struct attest_verifier *v) {
    return v->store.rejected;
}

bool attest_verifier_add(struct attest_verifier *v, struct attest_bytes bytes) {
    size_t found = endorsements_add(&v->store, bytes);
    if (found) chains_forget(v); /* a better path may exist now */
    return found > 0;
}
