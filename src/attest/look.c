/* What bytes look like that are no evidence. Nothing rests on this: it only tells a person which file he has taken
 * instead of the one he meant, and what to do about it. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "cbor_pull.h"
#include "evidence.h"
#include "look.h"
#include "nitro.h"
#include "quote.h"
#include "snp.h"

static const char again[] = "give the evidence itself: what the attester's machine has made, byte for byte";
static const char is_endorsement[] = "give it with --collateral, and the report or quote it belongs to as the evidence";

/* ---- By the first bytes ---- */

static const struct magic {
    const char *bytes;
    size_t size, at;
    const char *what, *advice;
} magics[] = {
    {"\xff\xd8\xff", 3, 0, "a JPEG picture", again},
    {"\x89PNG", 4, 0, "a PNG picture", again},
    {"GIF8", 4, 0, "a GIF picture", again},
    {"%PDF", 4, 0, "a PDF document", again},
    {"\x1f\x8b", 2, 0, "gzip-compressed data", "unpack it first (gunzip)"},
    {"\x28\xb5\x2f\xfd", 4, 0, "zstd-compressed data", "unpack it first (unzstd)"},
    {"\xfd"
     "7zXZ",
     5, 0, "xz-compressed data", "unpack it first (unxz)"},
    {"BZh", 3, 0, "bzip2-compressed data", "unpack it first (bunzip2)"},
    {"PK\x03\x04", 4, 0, "a ZIP archive", "unpack it first, and give the evidence in it"},
    {"ustar", 5, 257, "a tar archive", "unpack it first, and give the evidence in it"},
    {"\x7f"
     "ELF",
     4, 0, "an ELF program", again},
    {"\0asm", 4, 0, "a WebAssembly module", "what a module's measurement will be, donjon measure tells"},
    {"<!DOCTYPE", 9, 0, "an HTML page",
     "the server answered with a page, likely an error: look at it, and fetch again"},
    {"<!doctype", 9, 0, "an HTML page",
     "the server answered with a page, likely an error: look at it, and fetch again"},
    {"<html", 5, 0, "an HTML page", "the server answered with a page, likely an error: look at it, and fetch again"},
    {"<?xml", 5, 0, "an XML document", "the server answered with an error, most likely: look at it, and fetch again"},
    {"HTTP/1", 6, 0, "an HTTP answer with its headers", "store the body only"},
    {"HCLA", 4, 0, "an HCL report of Azure, damaged or cut off",
     "read it again, all of it: tpm2_nvread -C o 0x01400001"},
    {"\xd9\x01\x8f", 3, 0, "a token of Arm's confidential compute architecture (CCA)",
     "this verifier does not know Arm's CCA: appraise it with another"},
    {"version https://git-lfs", 23, 0, "a Git LFS pointer", "fetch the file it stands for (git lfs pull)"},
};

static bool by_magic(struct look *l, struct attest_bytes b) {
    for (size_t i = 0; i < sizeof magics / sizeof *magics; i++) {
        const struct magic *m = &magics[i];
        if (b.size < m->at + m->size || memcmp(b.data + m->at, m->bytes, m->size) != 0) continue;
        look_say(l, m->advice, "%s", m->what);
        return true;
    }
    return false;
}

void look_say(struct look *l, const char *advice, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(l->what, sizeof l->what, format, args);
    va_end(args);
    snprintf(l->advice, sizeof l->advice, "%s", advice);
}

/* ---- Certificates and keys ---- */

static void at_certificate(struct look *l, X509 *x) {
    char name[80], advice[300];
    common_name(X509_get_subject_name(x), name, sizeof name);
    bool amd = snp_is_vek(x) || !strncmp(name, "ARK-", 4) || !strncmp(name, "SEV-", 4),
         intel = strstr(name, "Intel SGX") != NULL;
    if (amd || intel)
        snprintf(advice, sizeof advice, "it is the vendor's: %s", is_endorsement);
    else
        snprintf(
            advice, sizeof advice,
            "if a keep is meant to prove itself with this certificate, it was issued without evidence: ask whoever "
            "runs it for one with a CMW, RA-TLS or DICE extension");
    look_say(l, advice, "a certificate (%s) that carries no evidence: none of the known extensions is in it", name);
}

static bool by_der(struct look *l, struct attest_bytes b) {
    const uint8_t *at = b.data;
    X509 *x = d2i_X509(NULL, &at, (long)b.size);
    if (x) at_certificate(l, x);
    at = b.data;
    X509_CRL *crl = x ? NULL : d2i_X509_CRL(NULL, &at, (long)b.size);
    if (crl) {
        char name[80];
        common_name(X509_CRL_get_issuer(crl), name, sizeof name);
        look_say(l, is_endorsement, "a certificate revocation list (of %s)", name);
    }
    at = b.data;
    X509_REQ *request = x || crl ? NULL : d2i_X509_REQ(NULL, &at, (long)b.size);
    if (request)
        look_say(l, "ask whoever made it for one with evidence (donjon's keeps put a CMW into theirs)",
                 "a certificate request that carries no evidence: none of the known extensions is in it");
    bool known = x || crl || request;
    X509_free(x);
    X509_CRL_free(crl);
    X509_REQ_free(request);
    ERR_clear_error();
    return known;
}

/* PEM under a name of somebody's own. */
static void by_label(struct look *l, const char *name, struct attest_bytes b) {
    struct attest_evidence *e = attest_evidence_open(b, NULL, 0);
    if (e)
        look_say(l, "give what stands between its BEGIN and END lines, without these lines",
                 "PEM of a kind of its own (%.60s), which holds evidence (%s)", name,
                 attest_tee_names[attest_evidence_tee(e)]);
    else
        look_say(l, again, "PEM of another kind (%.60s)", name);
    attest_evidence_free(e);
}

static bool by_pem(struct look *l, struct attest_bytes b) {
    BIO *bio = BIO_new_mem_buf(b.data, (int)b.size);
    char *name = NULL, *header = NULL;
    uint8_t *der = NULL;
    long size = 0;
    bool read = bio && PEM_read_bio(bio, &name, &header, &der, &size) == 1;
    if (!read)
        look_say(l, again, "text that begins like PEM and is damaged");
    else if (strstr(name, "PRIVATE KEY"))
        look_say(l, "keep it secret, and give the evidence instead", "a private key in PEM");
    else if (strstr(name, "PUBLIC KEY"))
        look_say(l, "give it with --key if the evidence must vouch for it, and the evidence itself as FILE",
                 "a public key in PEM");
    else if (!by_der(l, (struct attest_bytes){der, (size_t)size}))
        by_label(l, name, (struct attest_bytes){der, (size_t)size});
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_free(der);
    BIO_free(bio);
    ERR_clear_error();
    return true;
}

/* ---- Text ---- */

static size_t count_of(struct attest_bytes b, const char *set) {
    size_t n = 0;
    for (size_t i = 0; i < b.size; i++)
        n += b.data[i] && strchr(set, b.data[i]) != NULL;
    return n;
}

static bool holds(struct attest_bytes b, const char *text) {
    return memmem(b.data, b.size, text, strlen(text)) != NULL;
}

static bool by_json(struct look *l, struct attest_bytes b) {
    json_error_t where;
    json_t *doc = json_loadb((const char *)b.data, b.size, JSON_ALLOW_NUL, &where);
    const char *key = "error";
    const json_t *fault = json_object_get(doc, key);
    if (!fault) fault = json_object_get(doc, key = "message");
    if (!doc)
        look_say(l, "fetch it again, all of it", "damaged JSON: line %d, column %d: %.100s", where.line, where.column,
                 where.text);
    else if (json_object_get(doc, "tcbInfo") || json_object_get(doc, "enclaveIdentity"))
        look_say(l, is_endorsement, "Intel's %s, collateral and no evidence",
                 json_object_get(doc, "tcbInfo") ? "TCB info" : "enclave identity");
    else if (fault && !json_is_null(fault) && !json_is_false(fault))
        look_say(l, "look at the service's answer, and ask again", "JSON without evidence, with a member \"%s\"", key);
    else
        look_say(l,
                 "give the report, quote or document itself; in JSON it is text in hexadecimal or base64, or a list of "
                 "bytes, "
                 "in a member such as quote, report, evidence, attestation_report, outblob or cmw",
                 "JSON in which nothing is a report, quote or document");
    json_decref(doc);
    return true;
}

/* What text in hexadecimal or base64 stands for, one level deep. */
static void look_inside(struct look *l, struct attest_bytes text) {
    struct attest_bytes inner = decode_hex_lines((const char *)text.data, text.size);
    if (!inner.data) inner = decode_base64((const char *)text.data, text.size, false);
    struct look deeper = {.depth = l->depth + 1};
    if (inner.data && deeper.depth < 2) {
        char outer[100];
        look_at(inner, &deeper);
        snprintf(outer, sizeof outer, "%.90s", l->what);
        snprintf(l->what, sizeof l->what, "%.99s: %.190s", outer, deeper.what);
        snprintf(l->advice, sizeof l->advice, "%s", deeper.advice);
    }
    free((void *)inner.data);
}

static bool by_text(struct look *l, struct attest_bytes b) {
    static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-_";
    enum { SHORT = 200 };
    const char *white = " \t\r\n";
    size_t i = 0;
    while (i < b.size && strchr(white, b.data[i]) && b.data[i])
        i++;
    struct attest_bytes t = {b.data + i, b.size - i};
    if (t.size == 0) return look_say(l, again, "only white space"), true;
    if (t.data[0] == '{' || t.data[0] == '[') return by_json(l, t);
    if (holds(t, "-----BEGIN ")) return by_pem(l, b);
    size_t dots = count_of(t, "."), spaces = count_of(t, white);
    if (t.size > 3 && memcmp(t.data, "eyJ", 3) == 0 && dots)
        return look_say(
                   l,
                   "a token is a verifier's word about evidence, not the evidence: ask for what the hardware signed "
                   "(report, quote, document)",
                   "a JSON Web Token"),
               true;
    bool dump = t.size > 10 && (holds((struct attest_bytes){t.data, 10}, "00000000") || holds(t, "\n00000010"));
    if (dump) return look_say(l, "turn it back into bytes first (xxd -r)", "a hex dump with addresses"), true;
    size_t hex = count_of(t, "0123456789abcdefABCDEF"), marks = count_of(t, ":,x") + spaces;
    if (hex + marks == t.size && hex > SHORT)
        look_say(l, "give all of it, as hexadecimal digits and line ends only, or as bytes",
                 "hexadecimal text (%zu digits)", hex);
    else if (count_of(t, base64) + spaces == t.size && spaces * 20 < t.size && t.size > SHORT)
        look_say(l, "give all of it, or the bytes it stands for", "base64 text (%zu characters)", t.size - spaces);
    else
        return look_say(l, again, "text of no known kind"), true;
    look_inside(l, t);
    return true;
}

/* ---- Bytes ---- */

static bool by_cbor(struct look *l, struct attest_bytes b) {
    if (holds(b, "\x6dnitrotpm_pcrs"))
        look_say(l,
                 "this verifier appraises documents of Nitro enclaves (NSM). Those of a NitroTPM say what an EC2 "
                 "instance has booted and measured, and AWS' KMS decides by them: give an enclave's",
                 "a NitroTPM document: it is about an EC2 instance, not an enclave");
    else if (holds(b, "\x64pcrs") && holds(b, "module_id"))
        look_say(l, "fetch the document again and pass on what the NSM device returned, byte for byte",
                 "a Nitro document whose outer structure (COSE_Sign1) is damaged");
    else if ((b.data[0] == 0xd2 && b.data[1] == 0x84) || b.data[0] == 0x84)
        look_say(l, again, "a COSE_Sign1 (CWT, CoRIM, signed statement) that is not a Nitro document");
    else
        return false;
    return true;
}

/* A report, quote or document with something before it: how many bytes, and what it is. */
static const char *within(struct attest_bytes b, size_t *at, size_t *size) {
    static const uint8_t nitro[] = {0x84, 0x44, 0xa1, 0x01, 0x38, 0x22, 0xa0, 0x59};
    enum { TAIL = 0x330 }; /* zeros behind the signature */
    struct attest_bytes quote = quote_within(b);
    if (quote.size) {
        *at = (size_t)(quote.data - b.data), *size = quote.size;
        return "a quote";
    }
    const uint8_t *document = memmem(b.data, b.size, nitro, sizeof nitro);
    if (document) {
        *at = (size_t)(document - b.data);
        struct attest_bytes rest = {document, b.size - *at};
        struct reader r = reader_of(rest);
        *size = cb_skip(&r) ? rest.size - r.left : rest.size;
        if (nitro_looks_like(rest)) return "a Nitro document";
    }
    *size = SNP_REPORT_SIZE;
    for (*at = 0; *at + SNP_REPORT_SIZE <= b.size; ++*at) {
        const uint8_t *r = b.data + *at;
        bool head = r[0] >= SNP_VERSION_MIN && r[0] <= SNP_VERSION_MAX && all_zero(r + 1, 3) &&
                    r[0x34] == SNP_ALGORITHM_ECDSA_P384 && all_zero(r + 0x35, 3);
        if (head && all_zero(r + TAIL, SNP_REPORT_SIZE - TAIL) && !all_zero(r + SNP_SIGNED_SIZE, 48))
            return "an SNP report";
    }
    return NULL;
}

static bool by_content(struct look *l, struct attest_bytes b) {
    size_t at, size;
    const char *what = within(b, &at, &size);
    if (!what || at == 0) return false;
    char advice[300];
    snprintf(advice, sizeof advice,
             "it is in a wrapper this verifier does not know (a protobuf, perhaps): give that part alone");
    if (l->depth == 0 && at + size < b.size)
        snprintf(advice + strlen(advice), sizeof advice - strlen(advice), ": tail -c +%zu FILE | head -c %zu", at + 1,
                 size);
    else if (l->depth == 0)
        snprintf(advice + strlen(advice), sizeof advice - strlen(advice), ": tail -c +%zu FILE", at + 1);
    look_say(l, advice, "%s at byte %zu of %zu", what, at, b.size);
    return true;
}

/* The beginning of a report. */
static bool by_beginning(struct look *l, struct attest_bytes b) {
    struct reader r = reader_of(b);
    uint32_t version = read_le32(&r);
    if (b.size >= 0x38 && b.size < SNP_REPORT_SIZE && version >= 1 && version <= SNP_VERSION_MAX + 2u &&
        b.data[0x34] == SNP_ALGORITHM_ECDSA_P384) {
        look_say(l, "fetch it again, all of it", "the first %zu bytes of an SNP report of %d", b.size, SNP_REPORT_SIZE);
        return true;
    }
    enum { EPID_QUOTE = 436 };
    if (b.size >= EPID_QUOTE && version >> 16 <= 1 && ((version & 0xffff) == 1 || (version & 0xffff) == 2)) {
        look_say(l,
                 "Intel has ended EPID attestation: have the attester use DCAP (ECDSA quotes of version 3 and later)",
                 "what looks like an EPID quote of version %u", version & 0xffff);
        return true;
    }
    if (b.size == SGX_BODY_SIZE || b.size == SGX_BODY_SIZE + 48) {
        look_say(
            l,
            "a local report convinces only enclaves of its own machine: have the attester's quoting enclave make a "
            "quote of it",
            "something of the size of a local SGX report");
        return true;
    }
    return false;
}

static bool is_plain_text(struct attest_bytes b) {
    size_t n = b.size < 4096 ? b.size : 4096;
    for (size_t i = 0; i < n; i++)
        if (b.data[i] < 0x20 && !(b.data[i] && strchr("\t\r\n", b.data[i]))) return false;
    return true;
}

void look_at(struct attest_bytes b, struct look *l) {
    enum { DER_SEQUENCE = 0x30 };
    if (b.size == 0) {
        look_say(l, "the file is empty: fetch the evidence again", "nothing: 0 bytes");
        return;
    }
    if (by_magic(l, b)) return;
    if (b.data[0] == DER_SEQUENCE && by_der(l, b)) return;
    if (is_plain_text(b) && by_text(l, b)) return;
    if (all_zero(b.data, b.size)) {
        look_say(l, "the file was made and never written to: fetch the evidence again", "%zu zeros", b.size);
        return;
    }
    if (by_content(l, b)) return;
    if (b.size > 2 && by_cbor(l, b)) return;
    if (by_beginning(l, b)) return;
    look_say(l, again, "%zu bytes of no known format", b.size);
}

const char *attest_looks_like(struct attest_bytes b) {
    static _Thread_local struct look l;
    l.depth = 0;
    look_at(b, &l);
    return l.what;
}

void attest_reject_unopened(struct attest_bytes b, const char *error, int64_t now, struct attest_result *res) {
    struct look l = {.depth = 0};
    look_at(b, &l);
    result_start(res, now);
    res->tee = ATTEST_TEE_UNKNOWN;
    /* What a wrapper's parser had to say is nearer to the cause than what the whole looks like. */
    bool said = error && *error && strncmp(error, LOOK_UNKNOWN, strlen(LOOK_UNKNOWN)) != 0;
    check(res, ATTEST_RULE_EVIDENCE, false,
          v_text("an SNP report, SGX or TDX quote, Nitro document or Keystone report: raw, as hexadecimal or base64 "
                 "text, or in a certificate, CMW, configfs-tsm, Azure HCL or KBS JSON"),
          said ? v_format(res, "%s: %s", l.what, error) : v_format(res, LOOK_UNKNOWN ": %s", l.what));
    advise(res, "%s", l.advice);
    result_finish(res);
}
