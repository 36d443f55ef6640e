#include "cbor_pull.h"

#include <cbor.h>

enum { MAX_DEPTH = 16 };

/* What libcbor reported for one head. */
static void set(void *context, enum cbor_kind kind, uint64_t number) {
    struct cb_item *item = context;
    item->kind = kind;
    item->number = number;
}
static void on_u8(void *c, uint8_t n) {
    set(c, CB_UINT, n);
}
static void on_u16(void *c, uint16_t n) {
    set(c, CB_UINT, n);
}
static void on_u32(void *c, uint32_t n) {
    set(c, CB_UINT, n);
}
static void on_u64(void *c, uint64_t n) {
    set(c, CB_UINT, n);
}
static void on_n8(void *c, uint8_t n) {
    set(c, CB_NEGINT, n);
}
static void on_n16(void *c, uint16_t n) {
    set(c, CB_NEGINT, n);
}
static void on_n32(void *c, uint32_t n) {
    set(c, CB_NEGINT, n);
}
static void on_n64(void *c, uint64_t n) {
    set(c, CB_NEGINT, n);
}
static void on_string(void *c, enum cbor_kind kind, cbor_data data, size_t size) {
    struct cb_item *item = c;
    item->kind = kind;
    item->bytes = (struct attest_bytes){data, size};
}
static void on_bytes(void *c, cbor_data data, size_t size) {
    on_string(c, CB_BYTES, data, size);
}
static void on_text(void *c, cbor_data data, size_t size) {
    on_string(c, CB_TEXT, data, size);
}
static void on_bad(void *c) {
    set(c, CB_BAD, 0);
}
static void on_array(void *c, size_t n) {
    set(c, CB_ARRAY, n);
}
static void on_map(void *c, size_t n) {
    set(c, CB_MAP, n);
}
static void on_open_array(void *c) {
    set(c, CB_ARRAY, CB_INDEFINITE);
}
static void on_open_map(void *c) {
    set(c, CB_MAP, CB_INDEFINITE);
}
static void on_tag(void *c, uint64_t n) {
    set(c, CB_TAG, n);
}
static void on_float(void *c, float f) {
    (void)f, set(c, CB_OTHER, 0);
}
static void on_double(void *c, double d) {
    (void)d, set(c, CB_OTHER, 0);
}
static void on_null(void *c) {
    set(c, CB_NULL, 0);
}
static void on_bool(void *c, bool b) {
    set(c, CB_BOOL, b);
}

static const struct cbor_callbacks callbacks = {
    .uint8 = on_u8,
    .uint16 = on_u16,
    .uint32 = on_u32,
    .uint64 = on_u64,
    .negint8 = on_n8,
    .negint16 = on_n16,
    .negint32 = on_n32,
    .negint64 = on_n64,
    .byte_string_start = on_bad,
    .byte_string = on_bytes,
    .string = on_text,
    .string_start = on_bad,
    .indef_array_start = on_open_array,
    .array_start = on_array,
    .indef_map_start = on_open_map,
    .map_start = on_map,
    .tag = on_tag,
    .float2 = on_float,
    .float4 = on_float,
    .float8 = on_double,
    .undefined = on_null,
    .null = on_null,
    .boolean = on_bool,
    .indef_break = on_bad,
};

static struct cb_item bad(struct reader *r) {
    r->failed = true;
    return (struct cb_item){.kind = CB_BAD};
}

struct cb_item cb_next(struct reader *r) {
    struct cb_item item = {.kind = CB_END};
    if (r->failed) return bad(r);
    if (r->left == 0) return item;
    item.kind = CB_BAD;
    /* libcbor 0.8 refuses the short tags it has no name for, COSE's 18 among them. */
    enum { TAG_0 = 0xc0, TAG_23 = 0xd7 };
    if (*r->at >= TAG_0 && *r->at <= TAG_23) return (struct cb_item){.kind = CB_TAG, .number = read_u8(r) - TAG_0};
    struct cbor_decoder_result result = cbor_stream_decode(r->at, r->left, &callbacks, &item);
    if (result.status != CBOR_DECODER_FINISHED || item.kind == CB_BAD || result.read > r->left) return bad(r);
    read_span(r, result.read);
    /* Every element takes at least one byte, every pair two. */
    bool open = item.number == CB_INDEFINITE;
    if (item.kind == CB_ARRAY && !open && item.number > r->left) return bad(r);
    if (item.kind == CB_MAP && !open && item.number > r->left / 2) return bad(r);
    return item;
}

struct cb_item cb_peek(const struct reader *r) {
    struct reader copy = *r;
    return cb_next(&copy);
}

bool cb_more(struct reader *r, uint64_t *count) {
    enum { BREAK = 0xff };
    if (r->failed) return false;
    if (*count != CB_INDEFINITE) return (*count)-- > 0;
    if (r->left && *r->at == BREAK) {
        read_u8(r);
        return false;
    }
    return true;
}

static bool skip(struct reader *r, int depth) {
    struct cb_item item = cb_next(r);
    if (item.kind == CB_BAD || item.kind == CB_END || depth == 0) return false;
    if (item.kind == CB_TAG) return skip(r, depth - 1);
    if (item.kind != CB_ARRAY && item.kind != CB_MAP) return true;
    for (uint64_t left = item.number; cb_more(r, &left);)
        if (!skip(r, depth - 1) || (item.kind == CB_MAP && !skip(r, depth - 1))) return false;
    return !r->failed;
}

bool cb_skip(struct reader *r) {
    bool ok = skip(r, MAX_DEPTH);
    if (!ok) r->failed = true;
    return ok;
}

struct attest_bytes cb_span(struct reader *r) {
    const uint8_t *from = r->at;
    return cb_skip(r) ? (struct attest_bytes){from, (size_t)(r->at - from)} : (struct attest_bytes){NULL, 0};
}

static bool expect(struct reader *r, bool ok) {
    if (!ok) r->failed = true;
    return ok;
}

bool cb_array(struct reader *r, uint64_t count) {
    struct cb_item item = cb_next(r);
    return expect(r, item.kind == CB_ARRAY && item.number == count);
}

bool cb_list(struct reader *r, uint64_t *count) {
    struct cb_item item = cb_next(r);
    *count = item.number;
    return expect(r, item.kind == CB_ARRAY);
}

bool cb_map(struct reader *r, uint64_t *count) {
    struct cb_item item = cb_next(r);
    *count = item.number;
    return expect(r, item.kind == CB_MAP);
}

bool cb_bytes(struct reader *r, struct attest_bytes *out) {
    struct cb_item item = cb_next(r);
    *out = item.bytes;
    return expect(r, item.kind == CB_BYTES);
}

bool cb_text(struct reader *r, struct attest_bytes *out) {
    struct cb_item item = cb_next(r);
    *out = item.bytes;
    return expect(r, item.kind == CB_TEXT);
}

bool cb_uint(struct reader *r, uint64_t *out) {
    struct cb_item item = cb_next(r);
    *out = item.number;
    return expect(r, item.kind == CB_UINT);
}

static bool find(struct reader map, const char *text, uint64_t key, struct reader *value) {
    uint64_t count;
    if (!cb_map(&map, &count)) return false;
    while (cb_more(&map, &count)) {
        struct cb_item item = cb_peek(&map);
        if (!cb_skip(&map)) return false;
        if (text ? cb_text_is(&item, text) : item.kind == CB_UINT && item.number == key) {
            *value = map;
            return true;
        }
        if (!cb_skip(&map)) return false;
    }
    return false;
}

bool cb_find(struct reader map, uint64_t key, struct reader *value) {
    return find(map, NULL, key, value);
}
bool cb_find_text(struct reader map, const char *key, struct reader *value) {
    return find(map, key, 0, value);
}

static bool same_key(const struct cb_item *a, const struct cb_item *b) {
    return a->kind == b->kind && a->number == b->number && bytes_equal(a->bytes, b->bytes);
}

/* Maps in evidence are small; the square of their size is not a way to keep us busy beyond this many keys. */
enum { MAX_KEYS = 256 };

static bool well_formed(struct reader *r, int depth);

/* Pairs whose keys all differ. */
static bool map_well_formed(struct reader *r, uint64_t left, int depth) {
    struct reader first = *r;
    for (uint64_t i = 0; cb_more(r, &left); i++) {
        struct cb_item key = cb_peek(r);
        struct reader earlier = first;
        if (i == MAX_KEYS) return false;
        for (uint64_t k = 0; k < i; k++) {
            struct cb_item other = cb_peek(&earlier);
            if (same_key(&key, &other)) return false;
            cb_skip(&earlier);
            cb_skip(&earlier);
        }
        if (!well_formed(r, depth - 1) || !well_formed(r, depth - 1)) return false;
    }
    return !r->failed;
}

static bool well_formed(struct reader *r, int depth) {
    struct cb_item item = cb_next(r);
    if (item.kind == CB_BAD || item.kind == CB_END || depth == 0) return false;
    if (item.kind == CB_TAG) return well_formed(r, depth - 1);
    if (item.kind == CB_MAP) return map_well_formed(r, item.number, depth);
    if (item.kind != CB_ARRAY) return true;
    for (uint64_t left = item.number; cb_more(r, &left);)
        if (!well_formed(r, depth - 1)) return false;
    return !r->failed;
}

bool cb_well_formed(struct attest_bytes bytes) {
    struct reader r = reader_of(bytes);
    return well_formed(&r, MAX_DEPTH) && r.left == 0;
}
