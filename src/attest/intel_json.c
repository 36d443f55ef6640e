#include "intel_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <jansson.h>
#include <openssl/crypto.h>
#include <openssl/ecdsa.h>

#include "policy.h"

enum { SVN_COUNT = 16, LEVELS_MAX = 256, MODULES_MAX = 64 };

bool time_parse(const char *text, size_t size, int64_t *out) {
    static const char shape[] = "dddd-dd-ddTdd:dd:ddZ";
    if (size != sizeof shape - 1) return false;
    for (size_t i = 0; i < size; i++)
        if (shape[i] == 'd' ? text[i] < '0' || text[i] > '9' : text[i] != shape[i]) return false;
    struct tm tm = {0};
    sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour, &tm.tm_min, &tm.tm_sec);
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    struct tm given = tm;
    *out = timegm(&tm); /* normalises: February 30 comes back as March */
    return tm.tm_mon == given.tm_mon && tm.tm_mday == given.tm_mday && tm.tm_hour == given.tm_hour &&
           tm.tm_min == given.tm_min && tm.tm_sec == given.tm_sec;
}

/* A parse in progress: the first fault is kept with its path, later ones are its consequences. */
struct parse {
    char *error;
    size_t error_size;
    bool failed;
};

static void fail(struct parse *p, const char *key, const char *wanted) {
    if (!p->failed) snprintf(p->error, p->error_size, "%s: expected %s", key, wanted);
    p->failed = true;
}

static uint64_t take_number(struct parse *p, const json_t *object, const char *key, uint64_t max) {
    const json_t *n = json_object_get(object, key);
    if (!json_is_integer(n) || json_integer_value(n) < 0 || (uint64_t)json_integer_value(n) > max) {
        char wanted[48];
        snprintf(wanted, sizeof wanted, "an integer 0..%llu", (unsigned long long)max);
        fail(p, key, wanted);
        return 0;
    }
    return (uint64_t)json_integer_value(n);
}

static const char *take_string(struct parse *p, const json_t *object, const char *key) {
    const json_t *s = json_object_get(object, key);
    if (!json_is_string(s)) fail(p, key, "text");
    return json_is_string(s) ? json_string_value(s) : "";
}

static void take_hex(struct parse *p, const json_t *object, const char *key, uint8_t *out, size_t size) {
    const char *text = take_string(p, object, key);
    size_t n = 0;
    if (strlen(text) != 2 * size || OPENSSL_hexstr2buf_ex(out, size, &n, text, '\0') != 1 || n != size) {
        char wanted[48];
        snprintf(wanted, sizeof wanted, "%zu bytes as hexadecimal text", size);
        fail(p, key, wanted);
        memset(out, 0, size);
    }
}

static int64_t take_time(struct parse *p, const json_t *object, const char *key) {
    const char *text = take_string(p, object, key);
    int64_t t = 0;
    if (!time_parse(text, strlen(text), &t)) fail(p, key, "a time in UTC (RFC 3339)");
    return t;
}

static int take_status(struct parse *p, const json_t *object) {
    const char *text = take_string(p, object, "tcbStatus");
    for (int i = 0; tcb_status_names[i]; i++)
        if (strcmp(tcb_status_names[i], text) == 0) return i;
    fail(p, "tcbStatus", "a status this verifier knows");
    return STATUS_UNKNOWN;
}

/* ---- TCB levels ---- */

static void take_components(struct parse *p, const json_t *tcb, const char *key, uint8_t svn[SVN_COUNT]) {
    const json_t *list = json_object_get(tcb, key);
    if (!json_is_array(list) || json_array_size(list) != SVN_COUNT) {
        fail(p, key, "16 components");
        return;
    }
    for (size_t i = 0; i < SVN_COUNT; i++)
        svn[i] = (uint8_t)take_number(p, json_array_get(list, i), "svn", UINT8_MAX);
}

static void take_advisories(struct parse *p, const json_t *object, struct tcb_level *level) {
    const json_t *list = json_object_get(object, "advisoryIDs");
    if (!list) return;
    size_t count = json_array_size(list);
    if (!json_is_array(list) || count > INTEL_ADVISORIES_MAX) {
        fail(p, "advisoryIDs", "a list of at most 64 advisories");
        return;
    }
    level->advisories = calloc(count ? count : 1, sizeof *level->advisories);
    if (!level->advisories) return fail(p, "advisoryIDs", "memory");
    for (size_t i = 0; i < count; i++) {
        const json_t *id = json_array_get(list, i);
        if (!json_is_string(id) || json_string_length(id) > 40) return fail(p, "advisoryIDs", "short texts");
        level->advisories[level->advisory_count++] = (char *)json_string_value(id);
    }
}

/* Version 2 names each component. */
static void take_numbered_components(struct parse *p, const json_t *tcb, uint8_t svn[SVN_COUNT]) {
    for (unsigned i = 0; i < SVN_COUNT; i++) {
        char key[24];
        snprintf(key, sizeof key, "sgxtcbcomp%02usvn", i + 1);
        svn[i] = (uint8_t)take_number(p, tcb, key, UINT8_MAX);
    }
}

enum level_kind { LEVEL_PLATFORM_V2, LEVEL_PLATFORM_SGX, LEVEL_PLATFORM_TDX, LEVEL_ENCLAVE };

static void take_level(struct parse *p, const json_t *object, enum level_kind kind, struct tcb_level *level) {
    const json_t *tcb = json_object_get(object, "tcb");
    if (!json_is_object(tcb)) return fail(p, "tcb", "an object");
    if (kind == LEVEL_ENCLAVE)
        level->isv_svn = (uint16_t)take_number(p, tcb, "isvsvn", UINT16_MAX);
    else
        level->pce_svn = (uint16_t)take_number(p, tcb, "pcesvn", UINT16_MAX);
    if (kind == LEVEL_PLATFORM_V2) take_numbered_components(p, tcb, level->sgx);
    if (kind == LEVEL_PLATFORM_SGX || kind == LEVEL_PLATFORM_TDX)
        take_components(p, tcb, "sgxtcbcomponents", level->sgx);
    if (kind == LEVEL_PLATFORM_TDX) take_components(p, tcb, "tdxtcbcomponents", level->tdx);
    level->date = take_time(p, object, "tcbDate");
    level->status = take_status(p, object);
    take_advisories(p, object, level);
}

static void take_levels(struct parse *p, const json_t *object, enum level_kind kind, struct tcb_levels *levels) {
    const json_t *list = json_object_get(object, "tcbLevels");
    size_t count = json_array_size(list);
    if (!json_is_array(list) || count == 0 || count > LEVELS_MAX) return fail(p, "tcbLevels", "1 to 256 levels");
    levels->items = calloc(count, sizeof *levels->items);
    if (!levels->items) return fail(p, "tcbLevels", "memory");
    for (size_t i = 0; i < count && !p->failed; i++)
        take_level(p, json_array_get(list, i), kind, &levels->items[levels->count++]);
}

static void levels_free(struct tcb_levels *levels) {
    for (size_t i = 0; i < levels->count; i++)
        free(levels->items[i].advisories);
    free(levels->items);
}

/* ---- Documents ---- */

static void doc_forget(struct intel_signed *doc) {
    for (size_t i = 0; i < doc->signer.count; i++)
        X509_free(doc->signer.certs[i]);
    doc->signer = (struct chain){0};
    doc->signer_tried = false;
}

static void doc_free(struct intel_signed *doc) {
    doc_forget(doc);
    json_decref(doc->json);
    free(doc->text);
}

static json_t *take_document(struct parse *p, const char *text, size_t size, const uint8_t signature[64],
                             struct intel_signed *doc) {
    json_error_t error;
    doc->json = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object((json_t *)doc->json)) {
        snprintf(p->error, p->error_size, "not JSON: line %d: %.100s", error.line, error.text);
        p->failed = true;
        return NULL;
    }
    doc->text = malloc(size);
    if (!doc->text)
        fail(p, "document", "memory");
    else
        memcpy(doc->text, text, size);
    doc->size = size;
    memcpy(doc->signature, signature, sizeof doc->signature);
    doc->issued = take_time(p, doc->json, "issueDate");
    doc->next_update = take_time(p, doc->json, "nextUpdate");
    doc->evaluation = (uint32_t)take_number(p, doc->json, "tcbEvaluationDataNumber", UINT32_MAX);
    return doc->json;
}

static void take_module(struct parse *p, const json_t *object, struct tdx_module *module) {
    take_hex(p, object, "mrsigner", module->mrsigner, sizeof module->mrsigner);
    take_hex(p, object, "attributes", module->attributes, sizeof module->attributes);
    take_hex(p, object, "attributesMask", module->mask, sizeof module->mask);
}

static void take_modules(struct parse *p, const json_t *doc, struct tcb_info *info) {
    const json_t *module = json_object_get(doc, "tdxModule"), *list = json_object_get(doc, "tdxModuleIdentities");
    if (!json_is_object(module))
        fail(p, "tdxModule", "an object");
    else
        take_module(p, module, &info->module);
    info->has_module = json_is_object(module);
    if (!list) return;
    size_t count = json_array_size(list);
    if (!json_is_array(list) || count > MODULES_MAX) return fail(p, "tdxModuleIdentities", "at most 64 identities");
    info->modules = calloc(count ? count : 1, sizeof *info->modules);
    if (!info->modules) return fail(p, "tdxModuleIdentities", "memory");
    for (size_t i = 0; i < count && !p->failed; i++) {
        struct tdx_module *m = &info->modules[info->module_count++];
        const json_t *object = json_array_get(list, i);
        const char *id = take_string(p, object, "id");
        unsigned version;
        int n = 0;
        if (sscanf(id, "TDX_%2x%n", &version, &n) != 1 || n != 6 || id[n])
            fail(p, "id", "TDX_ and two hexadecimal digits");
        else
            m->version = (uint8_t)version;
        take_module(p, object, m);
        take_levels(p, object, LEVEL_ENCLAVE, &m->levels);
    }
}

struct tcb_info *tcb_info_parse(const char *text, size_t size, const uint8_t signature[64], char *error,
                                size_t error_size) {
    struct parse parse = {error, error_size, false}, *p = &parse;
    struct tcb_info *info = calloc(1, sizeof *info);
    if (!info) return NULL;
    json_t *doc = take_document(p, text, size, signature, &info->doc);
    if (doc) {
        info->version = (unsigned)take_number(p, doc, "version", UINT32_MAX);
        if (info->version != 2 && info->version != 3) fail(p, "version", "2 or 3");
        const char *id = info->version == 3 ? take_string(p, doc, "id") : "SGX";
        info->tdx = strcmp(id, "TDX") == 0;
        if (!info->tdx && strcmp(id, "SGX") != 0) fail(p, "id", "SGX or TDX");
        take_hex(p, doc, "fmspc", info->fmspc, sizeof info->fmspc);
        /* Early version 2 documents have no PCE id; there was one PCE, 0000. */
        if (info->version == 3 || json_object_get(doc, "pceId"))
            take_hex(p, doc, "pceId", info->pceid, sizeof info->pceid);
        if (take_number(p, doc, "tcbType", 0) != 0) fail(p, "tcbType", "0");
        if (info->tdx) take_modules(p, doc, info);
        take_levels(p, doc,
                    info->version == 2 ? LEVEL_PLATFORM_V2
                    : info->tdx        ? LEVEL_PLATFORM_TDX
                                       : LEVEL_PLATFORM_SGX,
                    &info->levels);
    }
    if (!p->failed) return info;
    tcb_info_free(info);
    return NULL;
}

static uint32_t take_le32(struct parse *p, const json_t *object, const char *key) {
    uint8_t bytes[4];
    take_hex(p, object, key, bytes, sizeof bytes);
    struct reader r = reader_of((struct attest_bytes){bytes, sizeof bytes});
    return read_le32(&r);
}

struct qe_identity *qe_identity_parse(const char *text, size_t size, const uint8_t signature[64], char *error,
                                      size_t error_size) {
    struct parse parse = {error, error_size, false}, *p = &parse;
    struct qe_identity *q = calloc(1, sizeof *q);
    if (!q) return NULL;
    json_t *doc = take_document(p, text, size, signature, &q->doc);
    if (doc) {
        if (take_number(p, doc, "version", UINT32_MAX) != 2) fail(p, "version", "2");
        const char *id = take_string(p, doc, "id");
        q->td = strcmp(id, "TD_QE") == 0;
        if (!q->td && strcmp(id, "QE") != 0)
            fail(p, "id", "QE or TD_QE (the quote verification enclave's is not used)");
        q->misc_select = take_le32(p, doc, "miscselect");
        q->misc_mask = take_le32(p, doc, "miscselectMask");
        take_hex(p, doc, "attributes", q->attributes, sizeof q->attributes);
        take_hex(p, doc, "attributesMask", q->attributes_mask, sizeof q->attributes_mask);
        take_hex(p, doc, "mrsigner", q->mrsigner, sizeof q->mrsigner);
        q->product_id = (uint16_t)take_number(p, doc, "isvprodid", UINT16_MAX);
        take_levels(p, doc, LEVEL_ENCLAVE, &q->levels);
    }
    if (!p->failed) return q;
    qe_identity_free(q);
    return NULL;
}

void tcb_info_free(struct tcb_info *info) {
    if (!info) return;
    for (size_t i = 0; i < info->module_count; i++)
        levels_free(&info->modules[i].levels);
    free(info->modules);
    levels_free(&info->levels);
    doc_free(&info->doc);
    free(info);
}

void qe_identity_free(struct qe_identity *q) {
    if (!q) return;
    levels_free(&q->levels);
    doc_free(&q->doc);
    free(q);
}

void tcb_info_forget(struct tcb_info *info) {
    doc_forget(&info->doc);
}
void qe_identity_forget(struct qe_identity *q) {
    doc_forget(&q->doc);
}

/* ---- Envelopes ---- */

static bool add_tcb_info(struct endorsements *e, const char *text, size_t size, const uint8_t signature[64]) {
    struct tcb_info *info = tcb_info_parse(text, size, signature, e->rejected, sizeof e->rejected);
    if (!info) return false;
    if (!grow(&e->tcb_infos, &e->tcb_info_capacity, e->tcb_info_count, sizeof *e->tcb_infos)) {
        tcb_info_free(info);
        return false;
    }
    e->tcb_infos[e->tcb_info_count++] = info;
    return true;
}

static bool add_qe_identity(struct endorsements *e, const char *text, size_t size, const uint8_t signature[64]) {
    struct qe_identity *q = qe_identity_parse(text, size, signature, e->rejected, sizeof e->rejected);
    if (!q) return false;
    if (!grow(&e->qe_identities, &e->qe_identity_capacity, e->qe_identity_count, sizeof *e->qe_identities)) {
        qe_identity_free(q);
        return false;
    }
    e->qe_identities[e->qe_identity_count++] = q;
    return true;
}

/* r || s as hexadecimal text or a list of byte numbers, or an ECDSA-Sig-Value as such a list (Fortanix). */
static bool signature_of(const json_t *value, uint8_t out[64]) {
    size_t n = 0;
    if (json_is_string(value))
        return json_string_length(value) == 128 &&
               OPENSSL_hexstr2buf_ex(out, 64, &n, json_string_value(value), '\0') == 1 && n == 64;
    enum { DER_MAX = 80 };
    uint8_t der[DER_MAX];
    if (!json_is_array(value) || json_array_size(value) > DER_MAX) return false;
    for (size_t i = 0; i < json_array_size(value); i++)
        der[i] = (uint8_t)json_integer_value(json_array_get(value, i));
    if (json_array_size(value) == 64) { /* an ECDSA-Sig-Value of that size would have numbers of less than 232 bits */
        memcpy(out, der, 64);
        return true;
    }
    const uint8_t *at = der;
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &at, (long)json_array_size(value));
    bool ok = sig && BN_bn2binpad(ECDSA_SIG_get0_r(sig), out, 32) == 32 &&
              BN_bn2binpad(ECDSA_SIG_get0_s(sig), out + 32, 32) == 32;
    ECDSA_SIG_free(sig);
    return ok;
}

/* The text of member `key` as it stands in the document: the envelope is exactly {"key": <object>, ...}. Jansson tells
 * where a value ends when it may stop there. */
static bool inner_text(struct attest_bytes doc, const char *key, struct attest_bytes *inner) {
    const char *at = (const char *)doc.data, *end = at + doc.size;
    char quoted[32];
    int n = snprintf(quoted, sizeof quoted, "\"%s\"", key);
    const char *space = " \t\r\n";
    while (at < end && strchr(space, *at) && *at)
        at++;
    if (at == end || *at++ != '{') return false;
    while (at < end && strchr(space, *at) && *at)
        at++;
    if (end - at < n || memcmp(at, quoted, (size_t)n) != 0) return false;
    at += n;
    while (at < end && strchr(space, *at) && *at)
        at++;
    if (at == end || *at++ != ':') return false;
    while (at < end && strchr(space, *at) && *at)
        at++;
    json_error_t error;
    json_t *value = json_loadb(at, (size_t)(end - at), JSON_DISABLE_EOF_CHECK | JSON_REJECT_DUPLICATES, &error);
    bool ok = json_is_object(value) && error.position > 0 && error.position <= end - at;
    if (ok) *inner = (struct attest_bytes){(const uint8_t *)at, (size_t)error.position};
    json_decref(value);
    return ok;
}

typedef bool adder(struct endorsements *, const char *, size_t, const uint8_t[64]);

/* Inner object as an escaped string next to its signature. */
static size_t add_quoted(struct endorsements *e, const json_t *doc, const char *text_key, const char *signature_key,
                         adder *add) {
    const json_t *text = json_object_get(doc, text_key);
    uint8_t signature[64];
    if (!json_is_string(text) || !signature_of(json_object_get(doc, signature_key), signature)) return 0;
    return add(e, json_string_value(text), json_string_length(text), signature);
}

/* DER as a list of byte numbers. */
static size_t add_numbers(struct endorsements *e, const json_t *list) {
    size_t count = json_array_size(list), found = 0;
    uint8_t *der = malloc(count);
    for (size_t i = 0; der && i < count; i++)
        der[i] = (uint8_t)json_integer_value(json_array_get(list, i));
    if (der) found = read_certificates((struct attest_bytes){der, count}, &e->certs, &e->crls);
    free(der);
    return found;
}

/* Certificates and CRLs in any string of the object: PEM, hexadecimal DER, or DER in numbers. */
static size_t add_strings(struct endorsements *e, const json_t *value) {
    size_t found = 0;
    const char *key;
    json_t *item;
    size_t i;
    if (json_is_object(value)) {
        json_object_foreach((json_t *)value, key, item) if (json_is_string(item) || json_is_array(item)) found +=
            add_strings(e, item);
    } else if (json_is_array(value)) {
        json_array_foreach((json_t *)value, i, item) if (json_is_string(item)) found += add_strings(e, item);
        if (json_is_integer(json_array_get(value, 0))) found += add_numbers(e, value);
    } else if (json_is_string(value)) {
        const char *text = json_string_value(value);
        size_t size = json_string_length(value);
        if (strstr(text, "-----BEGIN"))
            return read_certificates((struct attest_bytes){(const uint8_t *)text, size}, &e->certs, &e->crls);
        long n;
        uint8_t *der = size > 64 && strspn(text, "0123456789abcdefABCDEF") == size && size % 2 == 0
                           ? OPENSSL_hexstr2buf(text, &n)
                           : NULL;
        if (der) found = read_certificates((struct attest_bytes){der, (size_t)n}, &e->certs, &e->crls);
        OPENSSL_free(der);
    }
    return found;
}

size_t intel_json_add(struct endorsements *e, struct attest_bytes bytes) {
    /* Bundles hold chains as C strings with their zero; what Intel signed is parsed again without that leniency. */
    json_t *doc = json_loadb((const char *)bytes.data, bytes.size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    size_t found = 0;
    uint8_t signature[64];
    struct attest_bytes inner;
    bool envelope = json_object_get(doc, "tcbInfo") || json_object_get(doc, "enclaveIdentity");
    if (envelope && signature_of(json_object_get(doc, "signature"), signature)) {
        if (inner_text(bytes, "tcbInfo", &inner))
            found += add_tcb_info(e, (const char *)inner.data, inner.size, signature);
        if (inner_text(bytes, "enclaveIdentity", &inner))
            found += add_qe_identity(e, (const char *)inner.data, inner.size, signature);
    } else if (envelope)
        snprintf(e->rejected, sizeof e->rejected, "signature: expected 64 bytes as hexadecimal text");
    if (json_is_object(doc) && !found) {
        found += add_quoted(e, doc, "tcb_info", "tcb_info_signature", add_tcb_info);
        found += add_quoted(e, doc, "qe_identity", "qe_identity_signature", add_qe_identity);
        found += add_quoted(e, doc, "raw_tcb_info", "signature", add_tcb_info);
        found += add_quoted(e, doc, "raw_enclave_identity", "signature", add_qe_identity);
        found += add_strings(e, doc);
    } else if (json_is_array(doc))
        found += add_strings(e, doc);
    json_decref(doc);
    return found;
}
