/* RATS conceptual message wrapper (RFC 9999), as CBOR and as JSON, and the configfs-tsm report that Veraison's tools
 * send. */
#include <stdlib.h>

#include <jansson.h>

#include "cbor_pull.h"
#include "evidence.h"
#include "cmw.h"

enum { COLLECTION_MAX = 64, INDICATOR_ALL = 31 };

static bool offer(struct opening *o, const struct cmw_record *record) {
    /* An Endorsement inside a collection helps the Evidence beside it; what does not say is tried as both. */
    bool may_be_evidence = !record->indicator || (record->indicator & CMW_EVIDENCE);
    if (may_be_evidence && !o->e->report.data && open_bytes(o, record->value)) return true;
    if (!record->indicator || (record->indicator & CMW_ENDORSEMENTS)) endorsements_add(&o->e->carried, record->value);
    return false;
}

/* ---- CBOR ---- */

/* [type, value, ?indicator] */
bool cmw_cbor_record(struct reader *r, struct cmw_record *record) {
    struct cb_item list = cb_next(r), type = cb_next(r);
    *record = (struct cmw_record){0};
    if (list.kind != CB_ARRAY || list.number < 2 || list.number > 3) return false;
    if (type.kind == CB_UINT)
        record->number = type.number;
    else if (type.kind == CB_TEXT)
        record->type = type.bytes;
    else
        return false;
    if (!cb_bytes(r, &record->value)) return false;
    return list.number == 2 ||
           (cb_uint(r, &record->indicator) && record->indicator > 0 && record->indicator <= INDICATOR_ALL);
}

static bool cbor_value(struct opening *o, struct reader *r, int depth);

/* { label => record or collection, ? "__cmwc_t" => text } */
static bool cbor_collection(struct opening *o, struct reader *r, int depth) {
    uint64_t count;
    bool found = false;
    if (!cb_map(r, &count)) return false;
    for (int i = 0; cb_more(r, &count); i++) {
        if (i == COLLECTION_MAX) return false;
        struct cb_item label = cb_next(r);
        bool typed = cb_text_is(&label, "__cmwc_t");
        if (label.kind != CB_TEXT && label.kind != CB_UINT && label.kind != CB_NEGINT) return false;
        if (typed ? !cb_skip(r) : r->failed) return false;
        if (!typed) found |= cbor_value(o, r, depth - 1);
        if (r->failed) return false;
    }
    return found;
}

static bool cbor_value(struct opening *o, struct reader *r, int depth) {
    struct cb_item head = cb_peek(r);
    struct cmw_record record;
    if (depth == 0) {
        r->failed = true;
        return false;
    }
    if (head.kind == CB_MAP) return cbor_collection(o, r, depth);
    if (head.kind == CB_TAG) { /* the tag is the type (RFC 9277) */
        cb_next(r);
        struct attest_bytes value;
        if (!cb_bytes(r, &value)) return false;
        record = (struct cmw_record){.value = value};
        return offer(o, &record);
    }
    if (!cmw_cbor_record(r, &record)) {
        r->failed = true;
        return false;
    }
    return offer(o, &record);
}

bool open_cmw_cbor(struct opening *o, struct attest_bytes bytes) {
    if (!cb_well_formed(bytes)) return false;
    struct reader r = reader_of(bytes);
    open_wrapper(o, "CMW (CBOR)");
    return cbor_value(o, &r, EVIDENCE_MAX_DEPTH) && !r.failed && r.left == 0;
}

/* ---- JSON ---- */

bool cmw_json_record(const json_t *list, struct cmw_record *record) {
    const json_t *type = json_array_get(list, 0), *value = json_array_get(list, 1),
                 *indicator = json_array_get(list, 2);
    *record = (struct cmw_record){0};
    if (!json_is_array(list) || json_array_size(list) < 2 || json_array_size(list) > 3 || !json_is_string(type) ||
        !json_is_string(value))
        return false;
    if (indicator && (!json_is_integer(indicator) || json_integer_value(indicator) < 1 ||
                      json_integer_value(indicator) > INDICATOR_ALL))
        return false;
    record->type = (struct attest_bytes){(const uint8_t *)json_string_value(type), json_string_length(type)};
    record->indicator = indicator ? (uint64_t)json_integer_value(indicator) : 0;
    record->value = decode_base64(json_string_value(value), json_string_length(value), true);
    return record->value.data;
}

static bool json_value(struct opening *o, const json_t *value, int depth) {
    struct cmw_record record;
    if (json_is_array(value)) {
        if (!cmw_json_record(value, &record)) return false;
        bool found = offer(o, &record);
        free((void *)record.value.data);
        return found;
    }
    if (!json_is_object(value) || depth == 0 || json_object_size(value) > COLLECTION_MAX) return false;
    bool found = false;
    const char *label;
    json_t *item;
    json_object_foreach((json_t *)value, label, item) if (strcmp(label, "__cmwc_t") != 0) found |=
        json_value(o, item, depth - 1);
    return found;
}

bool open_cmw_json(struct opening *o, struct attest_bytes bytes) {
    json_t *doc = json_loadb((const char *)bytes.data, bytes.size, JSON_REJECT_DUPLICATES, NULL);
    open_wrapper(o, "CMW (JSON)");
    bool found = doc && json_value(o, doc, EVIDENCE_MAX_DEPTH);
    json_decref(doc);
    return found;
}

/* ---- configfs-tsm as CBOR: {"provider": text, "outblob": bytes, "auxblob": bytes} ---- */

bool open_tsm_cbor(struct opening *o, struct attest_bytes bytes) {
    struct reader r = reader_of(bytes), value;
    struct attest_bytes out, aux;
    if (cb_peek(&r).kind != CB_MAP || !cb_find_text(r, "outblob", &value) || !cb_bytes(&value, &out) ||
        !cb_well_formed(bytes))
        return false;
    open_wrapper(o, "configfs-tsm report");
    if (cb_find_text(r, "auxblob", &value) && cb_bytes(&value, &aux)) endorsements_add(&o->e->carried, aux);
    return open_bytes(o, out);
}
