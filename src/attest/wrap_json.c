/* JSON around evidence: what key brokers (KBS, CoCo), clouds and guest agents send. They agree on little but the names
 * of their members; this table of names is what we know. Values are byte lists, base64, hexadecimal text, PEM, or JSON
 * again. */
#include <stdlib.h>

#include <jansson.h>

#include "evidence.h"
#include "quote.h"
#include "snp.h"
#include "vtpm.h"

static const char *const evidence_names[] = {"td_quote",
                                             "quote",
                                             "hcl_report",
                                             "attestation_report",
                                             "report",
                                             "outblob",
                                             "evidence",
                                             "tee-evidence",
                                             "primary_evidence",
                                             "attestation_document",
                                             "document",
                                             "snp_report",
                                             "SnpReport", /* Azure's attestation service */
                                             "additional_evidence",
                                             "cmw"};
static const char *const endorsement_names[] = {"cert_chain",   "vcek",  "vlek",         "auxblob",  "collateral",
                                                "endorsements", "certs", "certificates", "vek_cert", "VcekCertChain"};
static const char *const log_names[] = {"cc_eventlog", "event_log", "eventlog", "ccel"};

static bool open_value(struct opening *o, const json_t *value);

/* A list of numbers 0..255, or text in some encoding, as bytes; free() the data. */
static struct attest_bytes bytes_of(const json_t *value) {
    struct attest_bytes none = {0};
    if (json_is_string(value)) {
        const char *text = json_string_value(value);
        size_t size = json_string_length(value);
        struct attest_bytes bytes = decode_hex(text, size);
        if (!bytes.data) bytes = decode_base64(text, size, false);
        size_t padding = size && size % 4 == 0 ? (text[size - 1] == '=') + (text[size - 2] == '=') : 0;
        if (!bytes.data) bytes = decode_base64(text, size - padding, true); /* the other alphabet, padded or not */
        return bytes;
    }
    size_t count = json_array_size(value);
    if (!json_is_array(value) || count == 0) return none;
    uint8_t *out = malloc(count);
    for (size_t i = 0; out && i < count; i++) {
        const json_t *n = json_array_get(value, i);
        if (!json_is_integer(n) || json_integer_value(n) < 0 || json_integer_value(n) > UINT8_MAX) {
            free(out);
            return none;
        }
        out[i] = (uint8_t)json_integer_value(n);
    }
    return out ? (struct attest_bytes){out, count} : none;
}

/* ---- An SNP report taken apart into JSON members (virtee's sev crate) ---- */

static uint64_t number_at(const json_t *object, const char *a, const char *b) {
    const json_t *n = json_object_get(object, a);
    if (!n && b) n = json_object_get(object, b);
    return json_is_integer(n) ? (uint64_t)json_integer_value(n) : 0;
}

struct writer {
    uint8_t *at;
};

static void put_le(struct writer *w, uint64_t n, unsigned size) {
    for (unsigned i = 0; i < size; i++)
        *w->at++ = (uint8_t)(n >> 8 * i);
}

static void put_list(struct writer *w, const json_t *object, const char *key, size_t size) {
    struct attest_bytes bytes = bytes_of(json_object_get(object, key));
    memset(w->at, 0, size);
    if (bytes.data) memcpy(w->at, bytes.data, bytes.size < size ? bytes.size : size);
    free((void *)bytes.data);
    w->at += size;
}

static void put_tcb(struct writer *w, const json_t *object, const char *key, bool turin) {
    const json_t *t = json_object_get(object, key);
    uint8_t fmc = (uint8_t)number_at(t, "fmc", NULL), bootloader = (uint8_t)number_at(t, "bootloader", NULL),
            tee = (uint8_t)number_at(t, "tee", NULL), snp = (uint8_t)number_at(t, "snp", NULL),
            microcode = (uint8_t)number_at(t, "microcode", NULL);
    const uint8_t old[8] = {bootloader, tee, 0, 0, 0, 0, snp, microcode},
                  new[8] = {fmc, bootloader, tee, snp, 0, 0, 0, microcode};
    memcpy(w->at, turin ? new : old, 8);
    w->at += 8;
}

static void put_firmware(struct writer *w, const json_t *j, const char *object_key, const char *build,
                         const char *minor, const char *major) {
    const json_t *v = json_object_get(j, object_key);
    put_le(w, v ? number_at(v, "build", NULL) : number_at(j, build, NULL), 1);
    put_le(w, v ? number_at(v, "minor", NULL) : number_at(j, minor, NULL), 1);
    put_le(w, v ? number_at(v, "major", NULL) : number_at(j, major, NULL), 1);
    put_le(w, 0, 1);
}

/* Rebuilt byte for byte; a member that was lost or changed shows in the signature. */
static bool open_snp_members(struct opening *o, const json_t *j) {
    if (!json_is_integer(json_object_get(j, "guest_svn")) || !json_is_object(json_object_get(j, "signature")))
        return false;
    uint8_t report[SNP_REPORT_SIZE] = {0};
    struct writer writer = {report}, *w = &writer;
    enum { ZEN5 = 0x1a };
    bool turin = number_at(j, "cpuid_fam_id", NULL) == ZEN5 ||
                 json_is_integer(json_object_get(json_object_get(j, "reported_tcb"), "fmc"));
    put_le(w, number_at(j, "version", NULL), 4);
    put_le(w, number_at(j, "guest_svn", NULL), 4);
    put_le(w, number_at(j, "policy", NULL), 8);
    put_list(w, j, "family_id", 16);
    put_list(w, j, "image_id", 16);
    put_le(w, number_at(j, "vmpl", NULL), 4);
    put_le(w, number_at(j, "sig_algo", NULL), 4);
    put_tcb(w, j, "current_tcb", turin);
    put_le(w, number_at(j, "plat_info", NULL), 8);
    put_le(w, number_at(j, "key_info", "_author_key_en"), 4);
    put_le(w, 0, 4);
    put_list(w, j, "report_data", 64);
    put_list(w, j, "measurement", 48);
    put_list(w, j, "host_data", 32);
    put_list(w, j, "id_key_digest", 48);
    put_list(w, j, "author_key_digest", 48);
    put_list(w, j, "report_id", 32);
    put_list(w, j, "report_id_ma", 32);
    put_tcb(w, j, "reported_tcb", turin);
    put_le(w, number_at(j, "cpuid_fam_id", NULL), 1);
    put_le(w, number_at(j, "cpuid_mod_id", NULL), 1);
    put_le(w, number_at(j, "cpuid_step", NULL), 1);
    put_le(w, 0, 21 > 8 ? 8 : 21), w->at += 21 - 8;
    put_list(w, j, "chip_id", 64);
    put_tcb(w, j, "committed_tcb", turin);
    put_firmware(w, j, "current", "current_build", "current_minor", "current_major");
    put_firmware(w, j, "committed", "committed_build", "committed_minor", "committed_major");
    put_tcb(w, j, "launch_tcb", turin);
    put_le(w, number_at(j, "launch_mit_vector", NULL), 8);
    put_le(w, number_at(j, "current_mit_vector", NULL), 8);
    w->at += 152;
    put_list(w, json_object_get(j, "signature"), "r", SNP_SCALAR_FIELD);
    put_list(w, json_object_get(j, "signature"), "s", SNP_SCALAR_FIELD);
    open_wrapper(o, "SNP report as JSON members");
    return open_report(o, ATTEST_TEE_SNP, (struct attest_bytes){report, sizeof report});
}

/* ---- Members ---- */

static void add_endorsement(struct opening *o, const json_t *value) {
    const char *text = json_string_value(value);
    size_t i;
    const char *key;
    json_t *item;
    if (text &&
        endorsements_add(&o->e->carried, (struct attest_bytes){(const uint8_t *)text, json_string_length(value)}))
        return;
    if (json_is_object(value)) {
        char *bundle = json_dumps(value, JSON_COMPACT); /* texts stand beside their signatures: whole, or not at all */
        size_t found =
            bundle ? endorsements_add(&o->e->carried, (struct attest_bytes){(uint8_t *)bundle, strlen(bundle)}) : 0;
        free(bundle);
        if (!found) json_object_foreach((json_t *)value, key, item) add_endorsement(o, item);
        return;
    }
    struct attest_bytes bytes = bytes_of(value);
    if (bytes.data)
        endorsements_add(&o->e->carried, bytes);
    else
        json_array_foreach((json_t *)value, i, item) add_endorsement(o, item);
    free((void *)bytes.data);
}

static void add_log(struct opening *o, const json_t *value) {
    if (o->e->log.data) return;
    const char *text = json_string_value(value);
    if (json_is_array(value)) {
        char *dump = json_dumps(value, JSON_COMPACT);
        if (dump) attest_evidence_add_log(o->e, (struct attest_bytes){(const uint8_t *)dump, strlen(dump)});
        free(dump);
    } else if (text && *text) {
        struct attest_bytes log = {(const uint8_t *)text, json_string_length(value)};
        if (attest_evidence_add_log(o->e, log)) return;
        log = bytes_of(value);
        if (log.data) attest_evidence_add_log(o->e, log);
        free((void *)log.data);
    }
}

static bool open_text(struct opening *o, const json_t *value) {
    struct attest_bytes text = {(const uint8_t *)json_string_value(value), json_string_length(value)};
    if (text.size && (text.data[0] == '{' || text.data[0] == '[' || text.data[0] == '-')) return open_bytes(o, text);
    struct attest_bytes bytes = bytes_of(value);
    bool found = bytes.data && open_bytes(o, bytes);
    free((void *)bytes.data);
    return found;
}

/* A vTPM's quote: {"message": .., "signature": .., "pcrs": [.., ..]}. */
static void take_vtpm(struct opening *o, const json_t *quote) {
    enum { PCRS = 24, PCR_SIZE = 32 };
    const json_t *list = json_object_get(quote, "pcrs");
    struct attest_bytes message = bytes_of(json_object_get(quote, "message")),
                        signature = bytes_of(json_object_get(quote, "signature"));
    uint8_t pcrs[PCRS * PCR_SIZE];
    size_t count = json_array_size(list), i = 0;
    for (bool ok = count <= PCRS; ok && i < count; i += ok) {
        struct attest_bytes pcr = bytes_of(json_array_get(list, i));
        ok = pcr.size == PCR_SIZE;
        if (ok) memcpy(pcrs + i * PCR_SIZE, pcr.data, PCR_SIZE);
        free((void *)pcr.data);
    }
    struct vtpm_quote q;
    if (message.data && !o->e->vtpm_message.data) {
        if (!vtpm_quote_parse(message, &q)) add_chosen(o->e, "the nonce of the vTPM's quote", q.nonce);
        set_bytes(&o->e->vtpm_message, message);
        set_bytes(&o->e->vtpm_signature, signature);
        set_bytes(&o->e->vtpm_pcrs, (struct attest_bytes){pcrs, i * PCR_SIZE});
    }
    free((void *)message.data);
    free((void *)signature.data);
}

static bool is_evidence_name(const char *key) {
    for (size_t i = 0; i < sizeof evidence_names / sizeof *evidence_names; i++)
        if (strcmp(evidence_names[i], key) == 0) return true;
    return false;
}

/* Long enough for a report in hexadecimal or base64. */
static bool is_long(const json_t *value) {
    enum { SHORTEST = 1000 };
    return json_is_string(value) && json_string_length(value) >= SHORTEST;
}

/* Evidence further inside: requests of several, structures named after their TEE, members of other names. Members that
 * were looked at already are not looked at again: nested, that would double with every level. */
static bool open_inside(struct opening *o, const json_t *object) {
    const char *key;
    json_t *item, *element;
    size_t i;
    bool found = false;
    json_object_foreach((json_t *)object, key, item) {
        if (is_evidence_name(key)) continue;
        if (!found && (json_is_object(item) || is_long(item))) found = open_value(o, item);
        json_array_foreach(item, i, element) {
            /* A list that begins with a short text is a CMW record, whose type says what the other text is. */
            bool texts = is_long(json_array_get(item, 0)) && is_long(element);
            if (!found && (json_is_object(element) || texts)) found = open_value(o, element);
        }
    }
    return found;
}

static void add_logs(struct opening *o, const json_t *object) {
    for (size_t i = 0; i < sizeof log_names / sizeof *log_names; i++) {
        const json_t *value = json_object_get(object, log_names[i]);
        if (value) add_log(o, value);
    }
}

static bool open_object(struct opening *o, const json_t *object) {
    if (open_snp_members(o, object)) return true;
    bool found = false;
    for (size_t i = 0; i < sizeof evidence_names / sizeof *evidence_names; i++) {
        const json_t *value = json_object_get(object, evidence_names[i]);
        /* Azure's TDX evidence has a quote and the local report it was made from: both are wanted. */
        bool beside = found && strcmp(evidence_names[i], "hcl_report") == 0;
        if (value && (!found || beside)) found |= open_value(o, value);
    }
    for (size_t i = 0; found && i < sizeof endorsement_names / sizeof *endorsement_names; i++) {
        const json_t *value = json_object_get(object, endorsement_names[i]);
        if (value) add_endorsement(o, value);
    }
    if (!found) return open_inside(o, object);
    const json_t *vtpm = json_object_get(object, "tpm_quote");
    if (!vtpm) vtpm = json_object_get(object, "quote");
    if (json_is_object(vtpm)) take_vtpm(o, vtpm);
    add_logs(o, object);
    add_logs(o, json_object_get(object, "tcb_info")); /* dstack */
    return true;
}

static bool open_value(struct opening *o, const json_t *value) {
    if (o->depth == EVIDENCE_MAX_DEPTH) return false;
    o->depth++;
    bool found = false;
    if (json_is_object(value))
        found = open_object(o, value);
    else if (json_is_string(value))
        found = open_text(o, value);
    else if (json_is_array(value)) {
        struct attest_bytes bytes = bytes_of(value);
        found = bytes.data && open_bytes(o, bytes);
        free((void *)bytes.data);
        size_t i;
        const json_t *element;
        json_array_foreach(value, i, element) {
            if (!found && json_is_object(element)) found = open_value(o, element);
        }
    }
    o->depth--;
    return found;
}

bool open_json(struct opening *o, struct attest_bytes text) {
    /* Event logs beside the evidence have names of zero bytes; here, every text comes with its length. */
    json_t *doc = json_loadb((const char *)text.data, text.size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    if (!doc) return false;
    bool is_record = json_is_array(doc) && json_is_string(json_array_get(doc, 0));
    bool found = !is_record && json_is_object(doc);
    if (found) {
        size_t wrappers = o->e->wrapper_count;
        open_wrapper(o, "JSON");
        found = open_object(o, doc);
        if (!found) o->e->wrapper_count = wrappers;
    } else if (!is_record && json_is_array(doc)) {
        found = open_value(o, doc); /* what jq takes out of JSON with lists of bytes, or of evidence */
    }
    json_decref(doc);
    return found || open_cmw_json(o, text);
}
