/* A cursor over CBOR: libcbor's streaming decoder reads each head, we walk. Nothing is allocated and strings are spans
 * of the input, so a hostile length costs nothing. Arrays and maps of indefinite length are read (AWS sends them),
 * strings in pieces are refused. */
#ifndef DONJON_ATTEST_CBOR_PULL_H
#define DONJON_ATTEST_CBOR_PULL_H

#include "reader.h"

enum cbor_kind {
    CB_END,
    CB_UINT,
    CB_NEGINT,
    CB_BYTES,
    CB_TEXT,
    CB_ARRAY,
    CB_MAP,
    CB_TAG,
    CB_NULL,
    CB_BOOL,
    CB_OTHER,
    CB_BAD
};

struct cb_item {
    enum cbor_kind kind;
    uint64_t number;           /* value, tag, count of an array or map; a negative integer is -1 - number */
    struct attest_bytes bytes; /* of strings */
};

/* The count of an array or map that ends with a break. */
#define CB_INDEFINITE UINT64_MAX

/* Reads one head (and a string's content); advances. CB_BAD makes the reader fail. Counts are at most what could
 * follow. */
struct cb_item cb_next(struct reader *);
struct cb_item cb_peek(const struct reader *);
/* Skips one whole item; false when malformed or nested deeper than 16. */
bool cb_skip(struct reader *);
/* The next item, whole, as bytes. */
struct attest_bytes cb_span(struct reader *);
/* Expectations: false, and the reader failed, when something else is next. */
bool cb_array(struct reader *, uint64_t count); /* exactly; definite */
bool cb_list(struct reader *, uint64_t *count);
/* One more element (or pair)? Counts down, and takes the break of an indefinite container. */
bool cb_more(struct reader *, uint64_t *count);
bool cb_map(struct reader *, uint64_t *count);
bool cb_bytes(struct reader *, struct attest_bytes *);
bool cb_text(struct reader *, struct attest_bytes *);
bool cb_uint(struct reader *, uint64_t *);
static inline bool cb_text_is(const struct cb_item *i, const char *text) {
    return i->kind == CB_TEXT && i->bytes.size == strlen(text) && memcmp(i->bytes.data, text, i->bytes.size) == 0;
}
/* Value of an unsigned or text key in a map that begins at the reader; false when absent. The reader is left alone. */
bool cb_find(struct reader map, uint64_t key, struct reader *value);
bool cb_find_text(struct reader map, const char *key, struct reader *value);
/* The whole input is one well-formed item without indefinite lengths or duplicate integer or text keys. */
bool cb_well_formed(struct attest_bytes);

#endif
