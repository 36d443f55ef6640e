/* Boot event logs of a TD, replayed: CCEL (TCG PC Client Platform Firmware Profile 1.06, section 10, crypto-agile form)
 * and the JSON list of dstack guests. Replay proves the digests; what an event says counts only where its data hashes
 * to its digest. */
#include <stdio.h>
#include <stdlib.h>

#include <jansson.h>
#include <openssl/crypto.h>

#include "crypto.h"
#include "quote.h"

enum {
    EV_NO_ACTION = 3,
    EV_DSTACK_RUNTIME = 0x08000001,
    TPM_ALG_SHA1 = 0x0004,
    TPM_ALG_SHA256 = 0x000b,
    TPM_ALG_SHA384 = 0x000c,
    TPM_ALG_SHA512 = 0x000d,
    MAX_DIGESTS = 8,
    LOG_END = -1, /* an index of FFFFFFFF */
};

static void extend(uint8_t rtmr[RTMR_SIZE], const uint8_t digest[RTMR_SIZE]) {
    uint8_t both[2 * RTMR_SIZE];
    memcpy(both, rtmr, RTMR_SIZE);
    memcpy(both + RTMR_SIZE, digest, RTMR_SIZE);
    sha384(both, sizeof both, rtmr);
}

/* ---- CCEL ---- */

static size_t digest_size(uint16_t algorithm) {
    switch (algorithm) {
    case TPM_ALG_SHA1: return 20;
    case TPM_ALG_SHA256: return 32;
    case TPM_ALG_SHA384: return 48;
    case TPM_ALG_SHA512: return 64;
    default: return 0;
    }
}

/* TCG_PCClientPCREvent whose data is a TCG_EfiSpecIDEvent: it must list SHA-384. */
static const char *ccel_header(struct reader *r) {
    read_le32(r);
    uint32_t type = read_le32(r);
    read_span(r, 20);
    struct reader data = reader_of(read_bytes(r, read_le32(r)));
    const uint8_t *signature = read_span(&data, 16);
    if (r->failed || !signature || type != EV_NO_ACTION || memcmp(signature, "Spec ID Event03", 16) != 0)
        return "does not begin with the Spec ID Event03 header";
    read_span(&data, 8); /* platform class, specification version, uintn size */
    uint32_t algorithms = read_le32(&data);
    if (algorithms == 0 || algorithms > MAX_DIGESTS) return "header lists no or too many algorithms";
    bool sha384_listed = false;
    for (uint32_t i = 0; i < algorithms; i++) {
        uint16_t algorithm = read_le16(&data), size = read_le16(&data);
        if (digest_size(algorithm) != size) return "header gives a wrong digest size";
        sha384_listed |= algorithm == TPM_ALG_SHA384;
    }
    return data.failed || !sha384_listed ? "header does not list SHA-384" : NULL;
}

static const char *ccel_replay(struct attest_bytes log, struct event_log_replay *out) {
    struct reader reader = reader_of(log), *r = &reader;
    const char *wrong = ccel_header(r);
    if (wrong) return wrong;
    /* The area the firmware set aside ends in FFh or zeros. */
    while (r->left >= 4) {
        struct reader ahead = *r;
        uint32_t index = read_le32(&ahead);
        if (index == (uint32_t)LOG_END || all_zero(r->at, r->left)) return NULL;
        read_le32(r);
        uint32_t type = read_le32(r), count = read_le32(r);
        const uint8_t *digest = NULL;
        if (count == 0 || count > MAX_DIGESTS) return "an event has no or too many digests";
        for (uint32_t i = 0; i < count && !r->failed; i++) {
            uint16_t algorithm = read_le16(r);
            size_t size = digest_size(algorithm);
            if (!size) return "an event has a digest of an unknown algorithm";
            const uint8_t *value = read_span(r, size);
            if (algorithm == TPM_ALG_SHA384) digest = value;
        }
        read_bytes(r, read_le32(r));
        if (r->failed) return "an event is longer than the log";
        if (!digest) return "an event has no SHA-384 digest";
        if (index > RTMR_COUNT) return "an event extends a register that does not exist";
        if (type == EV_NO_ACTION) continue;
        if (index == 0) return "an event extends MRTD, which is not extended at run time";
        extend(out->rtmr[index - 1], digest);
        out->events++;
    }
    return NULL;
}

/* ---- dstack JSON ---- */

static int hex_member(const json_t *event, const char *key, uint8_t *out, size_t room) {
    const json_t *value = json_object_get(event, key);
    const char *text = json_string_value(value);
    size_t n = 0;
    if (!text || strlen(text) != json_string_length(value)) return -1;
    if (!*text) return 0;
    return OPENSSL_hexstr2buf_ex(out, room, &n, text, '\0') == 1 ? (int)n : -1;
}

/* SHA-384(LE32 type || ":" || name || ":" || payload) */
static bool runtime_digest(uint32_t type, const json_t *name, const uint8_t *payload, size_t size,
                           uint8_t out[RTMR_SIZE]) {
    uint8_t le[4] = {(uint8_t)type, (uint8_t)(type >> 8), (uint8_t)(type >> 16), (uint8_t)(type >> 24)};
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool ok = md && EVP_DigestInit_ex(md, EVP_sha384(), NULL) && EVP_DigestUpdate(md, le, sizeof le) &&
              EVP_DigestUpdate(md, ":", 1) && EVP_DigestUpdate(md, json_string_value(name), json_string_length(name)) &&
              EVP_DigestUpdate(md, ":", 1) && EVP_DigestUpdate(md, payload, size) && EVP_DigestFinal_ex(md, out, NULL);
    EVP_MD_CTX_free(md);
    return ok;
}

static const char *json_event(const json_t *event, struct event_log_replay *out) {
    const json_t *imr = json_object_get(event, "imr"), *type = json_object_get(event, "event_type");
    const char *name = json_string_value(json_object_get(event, "event")),
               *payload_text = json_string_value(json_object_get(event, "event_payload"));
    if (!json_is_integer(imr) || !json_is_integer(type) || !name || !payload_text)
        return "an event lacks imr, event_type, event or event_payload";
    if (json_integer_value(imr) < 0 || json_integer_value(imr) >= RTMR_COUNT)
        return "an event extends a register that does not exist";
    if (json_integer_value(type) < 0 || json_integer_value(type) > UINT32_MAX) return "an event type is out of range";
    uint32_t kind = (uint32_t)json_integer_value(type);
    uint8_t digest[RTMR_SIZE], computed[RTMR_SIZE];
    int given = hex_member(event, "digest", digest, sizeof digest);
    if (given != 0 && given != RTMR_SIZE) return "an event's digest is not 48 bytes";
    if (kind == EV_DSTACK_RUNTIME) {
        size_t room = strlen(payload_text) / 2 + 1;
        uint8_t *payload = malloc(room);
        int size = payload ? hex_member(event, "event_payload", payload, room) : -1;
        bool ok = size >= 0 && runtime_digest(kind, json_object_get(event, "event"), payload, (size_t)size, computed);
        free(payload);
        if (!ok) return "a runtime event's payload is not hexadecimal";
        if (given == 0)
            memcpy(digest, computed, sizeof digest);
        else if (memcmp(digest, computed, sizeof digest) != 0 && !out->bad_data) {
            snprintf(out->name, sizeof out->name, "%s", name);
            out->bad_data = out->name;
        }
        out->events_with_checked_data++;
    } else if (given == 0)
        return "an event has no digest";
    if (kind != EV_NO_ACTION) extend(out->rtmr[json_integer_value(imr)], digest);
    out->events++;
    return NULL;
}

static const char *json_replay(struct attest_bytes log, struct event_log_replay *out) {
    /* Firmware's events have names of zero bytes. */
    json_t *list = json_loadb((const char *)log.data, log.size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    const char *wrong = json_is_array(list) && json_array_size(list) ? NULL : "not a JSON list of events";
    for (size_t i = 0; !wrong && i < json_array_size(list); i++)
        wrong = json_event(json_array_get(list, i), out);
    json_decref(list);
    return wrong;
}

/* ---- Both ---- */

static bool is_json(struct attest_bytes log) {
    size_t i = 0;
    while (i < log.size && memchr(" \t\r\n", log.data[i], 4))
        i++;
    return i < log.size && log.data[i] == '[';
}

bool event_log_looks_like(struct attest_bytes log) {
    struct reader r = reader_of(log);
    return is_json(log) ? memmem(log.data, log.size, "\"imr\"", 5) != NULL : ccel_header(&r) == NULL;
}

const char *event_log_replay(struct attest_bytes log, struct event_log_replay *out) {
    memset(out, 0, sizeof *out);
    return is_json(log) ? json_replay(log, out) : ccel_replay(log, out);
}

void event_log_check(struct attest_result *res, struct attest_bytes log, const struct td_body *td) {
    struct event_log_replay replay;
    const char *wrong = event_log_replay(log, &replay);
    if (!check(res, ATTEST_RULE_EVENT_LOG_FORMAT, !wrong, v_text("a CCEL or dstack event log"),
               wrong ? v_text(wrong) : v_format(res, "%zu events", replay.events)))
        return;
    for (int i = 0; i < RTMR_COUNT; i++)
        check_bytes(res, ATTEST_RULE_EVENT_LOG, replay.rtmr[i], td->rtmr[i], RTMR_SIZE);
    if (replay.events_with_checked_data)
        check(res, ATTEST_RULE_EVENT_DATA, !replay.bad_data, v_text("data that hashes to its digest"),
              replay.bad_data ? v_format(res, "event \"%s\" does not", replay.bad_data) : v_text("all of it"));
}
