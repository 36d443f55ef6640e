/* The one way bytes from an attester are read: a cursor that cannot leave its input. The first read past the end makes
 * it fail for good; later reads return zeros, so a parser reads straight down its layout and asks once, at the end. */
#ifndef DONJON_ATTEST_READER_H
#define DONJON_ATTEST_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <donjon/attest.h>

struct reader {
    const uint8_t *at;
    size_t left;
    bool failed;
};

static inline struct reader reader_of(struct attest_bytes bytes) {
    return (struct reader){bytes.data, bytes.size, false};
}

/* The next n bytes, or null. */
static inline const uint8_t *read_span(struct reader *r, size_t n) {
    if (r->failed || n > r->left) {
        r->failed = true;
        return NULL;
    }
    const uint8_t *span = r->at;
    if (n) r->at += n; /* an empty input may be a null pointer */
    r->left -= n;
    return span;
}

static inline struct attest_bytes read_bytes(struct reader *r, size_t n) {
    const uint8_t *span = read_span(r, n);
    return (struct attest_bytes){span, span ? n : 0};
}

static inline void read_into(struct reader *r, void *out, size_t n) {
    const uint8_t *span = read_span(r, n);
    if (span)
        memcpy(out, span, n);
    else
        memset(out, 0, n);
}

static inline uint64_t read_le(struct reader *r, unsigned n) {
    const uint8_t *span = read_span(r, n);
    uint64_t value = 0;
    for (unsigned i = 0; span && i < n; i++)
        value |= (uint64_t)span[i] << 8 * i;
    return value;
}

static inline uint8_t read_u8(struct reader *r) {
    return (uint8_t)read_le(r, 1);
}
static inline uint16_t read_le16(struct reader *r) {
    return (uint16_t)read_le(r, 2);
}
static inline uint32_t read_le32(struct reader *r) {
    return (uint32_t)read_le(r, 4);
}
static inline uint64_t read_le64(struct reader *r) {
    return read_le(r, 8);
}

static inline bool all_zero(const uint8_t *bytes, size_t n) {
    uint8_t any = 0;
    for (size_t i = 0; i < n; i++)
        any |= bytes[i];
    return any == 0;
}

/* Skips a reserved field; true when it is all zero. */
static inline bool read_reserved(struct reader *r, size_t n) {
    const uint8_t *span = read_span(r, n);
    return span && all_zero(span, n);
}

static inline bool bytes_equal(struct attest_bytes a, struct attest_bytes b) {
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

#endif
