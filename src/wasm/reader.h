/* The one bounded reader of module bytes: decoder and validator read through it and report through it. Every function
 * that can fail returns false after filling the error; nothing is read past `end`. */
#ifndef DONJON_WASM_READER_H
#define DONJON_WASM_READER_H

#include "module.h"

struct reader {
    const uint8_t *p, *end;      /* what may be read now */
    const uint8_t *at;           /* where the item being read begins: errors point here */
    const struct module *module; /* offsets count from module->data; type indices are looked up there */
    struct module_error *err;
    const char *section;       /* for messages, or NULL */
    uint32_t func;             /* function index, or UINT32_MAX */
    uint32_t rec_first, n_rec; /* the recursion group being declared: indices inside are read as TYPE_REC | i */
};

/* "function 12 ("foo") at 0x1a2b: ...". Malformed: the bytes do not follow the binary format (section 5); invalid: they
 * do, but validation (section 3) fails. Both are false, and macros so that the compiler sees that. */
void reader_fail(struct reader *r, bool is_malformed, const char *format, ...)
    __attribute__((format(printf, 3, 4), cold));
#define malformed(r, ...) (reader_fail(r, true, __VA_ARGS__), false)
#define invalid(r, ...)   (reader_fail(r, false, __VA_ARGS__), false)
#define out_of_memory(r)  malformed(r, "out of memory")

/* A type for messages, with the module's own type index: "(ref null 3)". */
struct type_text {
    char s[32];
};
struct type_text type_text(const struct reader *r, valtype t);

static inline uint32_t reader_left(const struct reader *r) {
    return (uint32_t)(r->end - r->p);
}
static inline uint32_t reader_offset(const struct reader *r) {
    return (uint32_t)(r->p - r->module->data);
}
static inline void reader_mark(struct reader *r) {
    r->at = r->p;
}

/* LEB128 (section 5.2.2): not longer than its type allows, unused bits as the sign says. */
bool read_leb(struct reader *r, unsigned bits, bool is_signed, uint64_t *out);

static inline bool read_byte(struct reader *r, uint8_t *out) {
    *out = 0; /* gcc 12 does not see that callers leave when this fails */
    if (__builtin_expect(r->p >= r->end, 0)) return malformed(r, "unexpected end, expected a byte");
    *out = *r->p++;
    return true;
}
static inline bool read_u32(struct reader *r, uint32_t *out) {
    if (__builtin_expect(r->p < r->end && *r->p < 0x80, 1)) {
        *out = *r->p++;
        return true;
    }
    uint64_t wide;
    if (!read_leb(r, 32, false, &wide)) return false;
    *out = (uint32_t)wide;
    return true;
}
static inline bool read_u64(struct reader *r, uint64_t *out) {
    if (__builtin_expect(r->p < r->end && *r->p < 0x80, 1)) {
        *out = *r->p++;
        return true;
    }
    return read_leb(r, 64, false, out);
}
/* Signed constants are only checked: execution reads them again. */
static inline bool skip_signed(struct reader *r, unsigned bits) {
    if (__builtin_expect(r->p < r->end && *r->p < 0x80, 1)) {
        r->p++;
        return true;
    }
    uint64_t value;
    return read_leb(r, bits, true, &value);
}
bool skip_bytes(struct reader *r, uint32_t n);
bool read_name(struct reader *r, struct bytes *out); /* section 5.2.4, UTF-8 checked */

/* The length of a vector: at most `max`, and no more than what is left could hold at `min_size` bytes an item. */
bool read_count(struct reader *r, uint32_t max, uint32_t min_size, const char *what, uint32_t *out);

/* Types (section 5.3). */
bool read_type_index(struct reader *r, uint32_t *id); /* canonical, or TYPE_REC | i */
bool read_heaptype(struct reader *r, uint32_t *heap);
bool read_reftype(struct reader *r, valtype *out);
bool read_valtype(struct reader *r, valtype *out);

/* The heap type of a one-byte abstract form (0x69..0x74), or UINT32_MAX. */
uint32_t abstract_heaptype(uint8_t byte);

#endif
