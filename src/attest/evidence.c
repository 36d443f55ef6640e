/* Recognising evidence by what it looks like, outermost layer first. */
#include "evidence.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <openssl/evp.h>

#include "crypto.h"
#include "keystone.h"
#include "look.h"
#include "nitro.h"
#include "quote.h"
#include "snp.h"
#include "vtpm.h"

/* ---- Memory and text ---- */

bool set_bytes(struct attest_bytes *owned, struct attest_bytes from) {
    uint8_t *copy = malloc(from.size ? from.size : 1);
    if (!copy) return false;
    if (from.size) memcpy(copy, from.data, from.size);
    free((void *)owned->data);
    *owned = (struct attest_bytes){copy, from.size};
    return true;
}

struct attest_bytes keep_copy(struct attest_evidence *e, struct attest_bytes bytes) {
    struct attest_bytes copy = {0};
    if (e->kept_count == sizeof e->kept / sizeof *e->kept || !set_bytes(&copy, bytes)) return (struct attest_bytes){0};
    e->kept[e->kept_count++] = (uint8_t *)copy.data;
    return copy;
}

struct attest_bytes decode_hex(const char *text, size_t size) {
    struct attest_bytes none = {0};
    while (size && (text[size - 1] == '\n' || text[size - 1] == '\r' || text[size - 1] == ' '))
        size--;
    if (size >= 2 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) text += 2, size -= 2;
    if (size == 0 || size % 2) return none;
    char *copy = strndup(text, size);
    uint8_t *out = malloc(size / 2);
    size_t n = 0;
    bool ok = copy && out && strlen(copy) == size && strspn(copy, "0123456789abcdefABCDEF") == size &&
              OPENSSL_hexstr2buf_ex(out, size / 2, &n, copy, '\0') == 1;
    free(copy);
    if (ok) return (struct attest_bytes){out, n};
    free(out);
    return none;
}

/* Line after line, as xxd -p writes it. */
struct attest_bytes decode_hex_lines(const char *text, size_t size) {
    char *joined = malloc(size + 1);
    size_t n = 0;
    for (size_t i = 0; joined && i < size; i++)
        if (!text[i] || !strchr(" \t\r\n", text[i])) joined[n++] = text[i];
    struct attest_bytes bytes = joined ? decode_hex(joined, n) : (struct attest_bytes){0};
    free(joined);
    return bytes;
}

struct attest_bytes decode_base64(const char *text, size_t size, bool url) {
    struct attest_bytes none = {0};
    if (size == 0 || size > INT32_MAX / 2) return none;
    char *clean = malloc(size + 4);
    uint8_t *out = malloc(size / 4 * 3 + 6);
    size_t n = 0;
    bool ok = clean && out;
    for (size_t i = 0; ok && i < size; i++) {
        char c = text[i];
        if (c == '\n' || c == '\r') {
            ok = !url;
            continue;
        }
        if (url && (c == '+' || c == '/' || c == '=')) ok = false; /* RFC 7515: no padding, the other alphabet */
        if (c == '-' || c == '_') ok = ok && url;
        clean[n++] = c == '-' ? '+' : c == '_' ? '/' : c;
    }
    while (ok && url && n % 4)
        clean[n++] = '=';
    int written = 0, last = 0;
    EVP_ENCODE_CTX *ctx = EVP_ENCODE_CTX_new();
    ok = ok && ctx && n % 4 == 0 && n > 0;
    if (ok) {
        EVP_DecodeInit(ctx);
        ok = EVP_DecodeUpdate(ctx, out, &written, (const uint8_t *)clean, (int)n) >= 0 &&
             EVP_DecodeFinal(ctx, out + written, &last) == 1;
    }
    EVP_ENCODE_CTX_free(ctx);
    free(clean);
    if (ok && written + last > 0) return (struct attest_bytes){out, (size_t)(written + last)};
    free(out);
    return none;
}

/* ---- What an opening found ---- */

void open_fail(struct opening *o, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(o->error, o->error_size, format, args);
    va_end(args);
}

void open_wrapper(struct opening *o, const char *name) {
    if (o->e->wrapper_count < ATTEST_MAX_WRAPPERS) o->e->wrappers[o->e->wrapper_count++] = name;
}

bool open_report(struct opening *o, enum attest_tee tee, struct attest_bytes bytes) {
    if (o->e->report.data) return false; /* the first one counts */
    o->e->tee = tee;
    return set_bytes(&o->e->report, bytes);
}

struct binding *add_binding(struct attest_evidence *e, enum attest_rule rule, const char *what) {
    static struct binding overflow; /* written, never read */
    if (e->binding_count == EVIDENCE_MAX_BINDINGS) {
        add_remark(e, ATTEST_RULE_WRAPPER, false, "at most 6 bindings", "more");
        overflow.count = 0;
        return &overflow;
    }
    struct binding *b = &e->bindings[e->binding_count++];
    *b = (struct binding){.rule = rule, .what = what};
    return b;
}

void binding_digest(struct binding *b, const void *digest, size_t size) {
    if (b->count == BINDING_DIGESTS) return;
    memcpy(b->digests[b->count], digest, size);
    b->sizes[b->count++] = (uint8_t)size;
}

bool bind_key(struct attest_evidence *e, struct attest_bytes spki) {
    uint8_t digest[64];
    struct binding *b =
        add_binding(e, ATTEST_RULE_WRAPPER_KEY, "SHA-256, SHA-384 or SHA-512 of the public key, then zeros");
    if (sha256(spki.data, spki.size, digest)) binding_digest(b, digest, 32);
    if (sha384(spki.data, spki.size, digest)) binding_digest(b, digest, 48);
    if (sha512(spki.data, spki.size, digest)) binding_digest(b, digest, 64);
    b->key = keep_copy(e, spki);
    return b->count == 3 && b->key.data;
}

void add_remark(struct attest_evidence *e, enum attest_rule rule, bool ok, const char *expected, const char *found) {
    struct remark remark = {rule, ok, expected, found};
    if (e->remark_count < EVIDENCE_MAX_REMARKS)
        e->remarks[e->remark_count++] = remark;
    else if (!ok)
        e->remarks[EVIDENCE_MAX_REMARKS - 1] = remark; /* a fault must not get lost */
}

void add_chosen(struct attest_evidence *e, const char *where, struct attest_bytes data) {
    if (e->chosen_count == CHOSEN_MAX || data.size > CHOSEN_SIZE) return;
    struct chosen *c = &e->chosen[e->chosen_count++];
    *c = (struct chosen){.where = where};
    if (data.size) memcpy(c->data, data.data, data.size);
}

/* ---- Raw reports ---- */

static bool looks_like_snp(struct attest_bytes b) {
    struct reader r = reader_of(b);
    uint32_t version = read_le32(&r);
    if (b.size == SNP_REPORT_SIZE) return true;
    /* A report that lost or gained bytes is still recognised, to be refused for its size. */
    return b.size > SNP_SIGNED_SIZE && b.size < SNP_REPORT_SIZE + 64 && version >= SNP_VERSION_MIN &&
           version <= SNP_VERSION_MAX && b.data[0x34] == SNP_ALGORITHM_ECDSA_P384;
}

static bool looks_like_quote(struct attest_bytes b) {
    static const uint8_t vendor[] = {0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9};
    if (b.size < 20) return false;
    bool typed = b.data[0] >= 3 && b.data[0] <= 5 && b.data[1] == 0 && b.data[2] <= 3 && b.data[3] == 0;
    return memcmp(b.data + 12, vendor, sizeof vendor) == 0 || (typed && b.data[2] >= 2);
}

static enum attest_tee quote_tee(struct attest_bytes b) {
    return b.data[4] == QUOTE_TEE_TDX ? ATTEST_TEE_TDX : ATTEST_TEE_SGX;
}

/* Report, then a certificate table: what SNP_GET_EXT_REPORT gives. */
static bool open_extended_snp(struct opening *o, struct attest_bytes b) {
    if (b.size <= SNP_REPORT_SIZE) return false;
    struct attest_bytes table = {b.data + SNP_REPORT_SIZE, b.size - SNP_REPORT_SIZE};
    struct certs certs = {0};
    struct crls crls = {0};
    bool found = snp_read_table(table, &certs, &crls) > 0 || snp_is_table(table);
    certs_free(&certs);
    crls_free(&crls);
    if (!found) return false;
    open_wrapper(o, "SNP extended report");
    endorsements_add(&o->e->carried, table);
    return open_report(o, ATTEST_TEE_SNP, (struct attest_bytes){b.data, SNP_REPORT_SIZE});
}

/* Linux' SNP_GET_REPORT answer: status, size, 24 reserved bytes, report. */
static bool open_guest_response(struct opening *o, struct attest_bytes b) {
    enum { HEADER = 32 };
    struct reader r = reader_of(b);
    if (read_le32(&r) != 0 || read_le32(&r) != SNP_REPORT_SIZE || !read_reserved(&r, HEADER - 8)) return false;
    struct attest_bytes report = read_bytes(&r, SNP_REPORT_SIZE);
    if (r.failed || !all_zero(r.at, r.left)) return false;
    open_wrapper(o, "SNP guest message");
    return open_report(o, ATTEST_TEE_SNP, report);
}

/* Open Enclave: LE32 version 1, LE32 type 2 (remote SGX), LE64 size, quote. */
static bool open_oe(struct opening *o, struct attest_bytes b) {
    struct reader r = reader_of(b);
    if (read_le32(&r) != 1 || read_le32(&r) != 2) return false;
    uint64_t size = read_le64(&r);
    if (r.failed || size > r.left || !looks_like_quote((struct attest_bytes){r.at, r.left})) return false;
    open_wrapper(o, "Open Enclave report");
    return open_report(o, quote_tee((struct attest_bytes){r.at, r.left}), (struct attest_bytes){r.at, (size_t)size});
}

/* Open Enclave's claims: LE64 version 1, LE64 count, and for each LE64 size of name and value, name, value. */
static bool are_oe_claims(struct attest_bytes b) {
    enum { CLAIMS_MAX = 64 };
    struct reader reader = reader_of(b), *r = &reader;
    uint64_t version = read_le64(r), count = read_le64(r);
    if (r->failed || version != 1 || count == 0 || count > CLAIMS_MAX) return false;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t name = read_le64(r), value = read_le64(r);
        if (r->failed || name > r->left || value > r->left) return false;
        read_span(r, (size_t)name);
        read_span(r, (size_t)value);
    }
    return !r->failed && r->left == 0;
}

/* A quote, and directly behind it the claims whose SHA-256 is its report data: evidence of Open Enclave's plugins. */
static bool open_quote(struct opening *o, struct attest_bytes b) {
    size_t end = quote_size(b);
    struct attest_bytes claims = {b.data + end, b.size - end};
    uint8_t digest[32];
    if (end && claims.size && are_oe_claims(claims) && sha256(claims.data, claims.size, digest)) {
        open_wrapper(o, "Open Enclave evidence");
        binding_digest(add_binding(o->e, ATTEST_RULE_WRAPPER_CLAIMS, "SHA-256 of the claims, then zeros"), digest,
                       sizeof digest);
        b.size = end;
    }
    return open_report(o, quote_tee(b), b);
}

struct attest_bytes quote_within(struct attest_bytes b) {
    static const uint8_t vendor[] = {0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9};
    enum { VENDOR_AT = 12 };
    const uint8_t *at = memmem(b.data, b.size, vendor, sizeof vendor);
    if (!at || at - b.data < VENDOR_AT) return (struct attest_bytes){0};
    struct attest_bytes rest = {at - VENDOR_AT, b.size - (size_t)(at - VENDOR_AT - b.data)};
    return (struct attest_bytes){rest.data, quote_size(rest)};
}

/* Open Enclave's attestation header: LE32 version 1, 16 bytes of format, LE64 size at 24 (or 20), evidence. */
static bool open_oe_header(struct opening *o, struct attest_bytes b) {
    for (size_t pad = 0; pad <= 4; pad += 4) {
        struct reader r = reader_of(b);
        if (read_le32(&r) != 1) return false;
        read_span(&r, 16);
        if (!read_reserved(&r, pad)) continue;
        uint64_t size = read_le64(&r);
        struct attest_bytes inner = {r.at, r.left};
        if (r.failed || size != r.left || !looks_like_quote(inner)) continue;
        open_wrapper(o, "Open Enclave attestation header");
        return open_quote(o, inner);
    }
    return false;
}

static bool is_tdreport(struct attest_bytes b) {
    return b.size == TD_REPORT_SIZE && b.data[0] == QUOTE_TEE_TDX && b.data[1] == 0 && b.data[2] <= 1 && b.data[3] == 0;
}

static bool open_raw(struct opening *o, struct attest_bytes b) {
    if (is_tdreport(b)) {
        o->e->local_only = true;
        return open_report(o, ATTEST_TEE_TDX, b);
    }
    if (looks_like_quote(b)) return open_quote(o, b);
    if (open_extended_snp(o, b) || open_guest_response(o, b) || open_oe(o, b) || open_oe_header(o, b)) return true;
    if (looks_like_snp(b)) return open_report(o, ATTEST_TEE_SNP, b);
    if (b.size == KEYSTONE_REPORT_SIZE && b.data[0] != '{' && b.data[0] != '-')
        return open_report(o, ATTEST_TEE_KEYSTONE, b);
    return false;
}

/* ---- Azure ---- */

/* Azure's HCL report: header, hardware report, and the runtime data whose digest is in the report data. */
bool open_hcl(struct opening *o, struct attest_bytes b) {
    enum {
        HEADER = 32,
        HARDWARE = 1184,
        REPORT_TYPE_SNP = 2,
        REPORT_TYPE_TDX = 4,
        HASH_SHA256 = 1,
        HASH_SHA384 = 2,
        HASH_SHA512 = 3
    };
    struct reader reader = reader_of(b), *r = &reader;
    const uint8_t *magic = read_span(r, 4);
    if (!magic || memcmp(magic, "HCLA", 4) != 0) return false;
    open_wrapper(o, "Azure HCL report");
    read_span(r, HEADER - 4);
    struct attest_bytes hardware = read_bytes(r, HARDWARE);
    read_le32(r); /* size of all that follows */
    read_le32(r);
    uint32_t type = read_le32(r), hash = read_le32(r), size = read_le32(r);
    struct attest_bytes runtime = read_bytes(r, size);
    if (r->failed) {
        open_fail(o, "Azure HCL report: ends early");
        return false;
    }
    uint8_t digest[64];
    struct binding *binding = add_binding(o->e, ATTEST_RULE_WRAPPER_RUNTIME, "digest of the runtime data, then zeros");
    if (hash == HASH_SHA256 && sha256(runtime.data, runtime.size, digest)) binding_digest(binding, digest, 32);
    if (hash == HASH_SHA384 && sha384(runtime.data, runtime.size, digest)) binding_digest(binding, digest, 48);
    if (hash == HASH_SHA512 && sha512(runtime.data, runtime.size, digest)) binding_digest(binding, digest, 64);
    if (!o->e->runtime.data) {
        if (!set_bytes(&o->e->runtime, runtime)) return false;
        hcl_read_runtime(o->e);
    }
    if (type == REPORT_TYPE_SNP) return open_report(o, ATTEST_TEE_SNP, hardware);
    if (type != REPORT_TYPE_TDX) {
        open_fail(o, "Azure HCL report: hardware report type %u is neither SNP (2) nor TDX (4)", type);
        return false;
    }
    struct attest_bytes td = {hardware.data, TD_REPORT_SIZE};
    if (!set_bytes(&o->e->td_report, td)) return false;
    if (o->e->report.data) return true; /* the quote was beside it */
    o->e->local_only = true;
    return open_report(o, ATTEST_TEE_TDX, td);
}

/* ---- All of them ---- */

static bool is_text(struct attest_bytes b) {
    for (size_t i = 0; i < b.size; i++)
        if ((b.data[i] < 0x20 || b.data[i] > 0x7e) && !memchr("\r\n\t", b.data[i], 3)) return false;
    return b.size > 0;
}

static size_t strspn_of(struct attest_bytes b, const char *set) {
    size_t i = 0;
    while (i < b.size && b.data[i] && strchr(set, b.data[i]))
        i++;
    return i;
}

/* Text without the white space around it, and without the quotation marks that make it a JSON string. */
static struct attest_bytes bare(struct attest_bytes b) {
    size_t white = strspn_of(b, " \t\r\n");
    b.data += white, b.size -= white;
    while (b.size && memchr(" \t\r\n", b.data[b.size - 1], 4))
        b.size--;
    if (b.size > 2 && b.data[0] == '"' && b.data[b.size - 1] == '"') b.data++, b.size -= 2;
    return b;
}

/* Reports are often passed around as text. */
static bool open_encoded(struct opening *o, struct attest_bytes b) {
    b = bare(b);
    struct attest_bytes inner = decode_hex_lines((const char *)b.data, b.size);
    const char *name = "hexadecimal text";
    if (!inner.data) {
        inner = decode_base64((const char *)b.data, b.size, false);
        for (int padding = 0; b.size && padding < 2 && b.data[b.size - 1] == '='; padding++)
            b.size--; /* the other alphabet, padded or not */
        if (!inner.data) inner = decode_base64((const char *)b.data, b.size, true);
        name = "base64 text";
    }
    bool found = false;
    if (inner.data) {
        open_wrapper(o, name);
        found = open_bytes(o, inner);
    }
    free((void *)inner.data);
    return found;
}

static bool open_any(struct opening *o, struct attest_bytes b) {
    enum { DER_SEQUENCE = 0x30 };
    if (is_text(b) && memmem(b.data, b.size, "-----BEGIN ", 11)) {
        size_t i = strspn_of(b, " \t\r\n");
        if (i < b.size && b.data[i] != '{' && b.data[i] != '[') return open_pem(o, b);
    }
    if (b.size >= 4 && memcmp(b.data, "HCLA", 4) == 0) return open_hcl(o, b);
    if (open_raw(o, b)) return true;
    if (nitro_looks_like(b)) return open_report(o, ATTEST_TEE_NITRO, b);
    if (b.data[0] == DER_SEQUENCE && open_x509(o, b)) return true;
    if (is_text(b)) return open_json(o, b) || open_encoded(o, b);
    return open_tsm_cbor(o, b) || open_cmw_cbor(o, b);
}

bool open_bytes(struct opening *o, struct attest_bytes b) {
    if (b.size == 0 || o->depth == EVIDENCE_MAX_DEPTH) return false;
    o->depth++;
    size_t wrappers = o->e->wrapper_count;
    bool found = open_any(o, b);
    if (!found) o->e->wrapper_count = wrappers;
    o->depth--;
    return found;
}

struct attest_evidence *attest_evidence_open(struct attest_bytes bytes, char *error, size_t error_size) {
    struct attest_evidence *e = calloc(1, sizeof *e);
    if (!e) return NULL;
    struct opening o = {.e = e, .error = error, .error_size = error_size};
    if (error_size) error[0] = 0;
    if (open_bytes(&o, bytes)) return e;
    if (error_size && !error[0]) open_fail(&o, LOOK_UNKNOWN ": %s", attest_looks_like(bytes));
    attest_evidence_free(e);
    return NULL;
}

void attest_evidence_free(struct attest_evidence *e) {
    if (!e) return;
    free((void *)e->report.data);
    free((void *)e->log.data);
    free((void *)e->td_report.data);
    free((void *)e->runtime.data);
    free((void *)e->vtpm_message.data);
    free((void *)e->vtpm_signature.data);
    free((void *)e->vtpm_pcrs.data);
    for (size_t i = 0; i < e->kept_count; i++)
        free(e->kept[i]);
    endorsements_free(&e->carried);
    free(e);
}

enum attest_tee attest_evidence_tee(const struct attest_evidence *e) {
    return e->tee;
}
struct attest_bytes attest_evidence_report(const struct attest_evidence *e) {
    return e->report;
}

bool attest_evidence_add_log(struct attest_evidence *e, struct attest_bytes log) {
    return event_log_looks_like(log) && set_bytes(&e->log, log);
}

bool attest_evidence_bind_key(struct attest_evidence *e, struct attest_bytes spki) {
    return bind_key(e, spki);
}

bool evidence_report_data(const struct attest_evidence *e, uint8_t out[64]) {
    memset(out, 0, 64);
    if (e->tee == ATTEST_TEE_SNP || e->tee == ATTEST_TEE_SOFTWARE) {
        struct snp_report report;
        if (!snp_parse(e->report, &report)) return false;
        memcpy(out, report.report_data, 64);
        return true;
    }
    if (e->local_only) return false;
    if (e->tee == ATTEST_TEE_SGX || e->tee == ATTEST_TEE_TDX) {
        struct quote q;
        quote_parse(e->report, &q);
        if (!q.body.data) return false;
        memcpy(out, q.body_type == QUOTE_BODY_SGX ? q.sgx.report_data : q.td.report_data, 64);
        return true;
    }
    struct keystone k;
    if (e->tee != ATTEST_TEE_KEYSTONE || !keystone_parse(e->report, &k) || k.data_size > 64) return false;
    memcpy(out, k.data, (size_t)k.data_size);
    return true;
}
