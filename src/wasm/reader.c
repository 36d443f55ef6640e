#include "reader.h"
#include "text.h"

#include <string.h>

/* ---- Errors ---- */

void reader_fail(struct reader *r, bool is_malformed, const char *format, ...) {
    struct module_error *err = r->err;
    struct text t = {.out = err->message, .size = sizeof err->message};
    err->offset = (uint32_t)(r->at - r->module->data);
    err->func = r->func;
    err->malformed = is_malformed;
    if (r->func != UINT32_MAX) {
        struct bytes name = module_func_name(r->module, r->func);
        text_format(&t, "function %u ", r->func);
        if (name.size) {
            text_format(&t, "(\"");
            text_foreign(&t, name.data, name.size, 48);
            text_format(&t, "\") ");
        }
    } else if (r->section) {
        text_format(&t, "%s section ", r->section);
    }
    text_format(&t, "at 0x%x: ", err->offset);
    va_list args;
    va_start(args, format);
    text_vformat(&t, format, args);
    va_end(args);
}

struct type_text type_text(const struct reader *r, valtype t) {
    struct type_text out;
    vt_print(t, out.s);
    if (!vt_concrete(t)) return out;
    uint32_t i = 0;
    while (i < r->module->n_types && r->module->type_ids[i] != vt_type_id(t))
        i++;
    if (i == r->module->n_types) return out;
    struct text text = {.out = out.s, .size = sizeof out.s};
    text_format(&text, vt_nullable(t) ? "(ref null %u)" : "(ref %u)", i);
    return out;
}

/* ---- Numbers and names ---- */

bool read_leb(struct reader *r, unsigned bits, bool is_signed, uint64_t *out) {
    uint64_t value = 0;
    for (unsigned shift = 0;; shift += 7) {
        if (r->p >= r->end) return malformed(r, "unexpected end, expected a LEB128 number");
        uint8_t b = *r->p++;
        value |= (uint64_t)(b & 0x7f) << shift;
        if (shift + 7 >= bits) { /* the last byte there may be */
            if (b & 0x80) return malformed(r, "integer representation too long: more than %u bytes", (bits + 6) / 7);
            unsigned used = bits - shift;
            int top = is_signed ? (int8_t)(b << 1) >> used : b >> used;
            if (top != 0 && !(is_signed && top == -1))
                return malformed(r, "integer too large: does not fit in %u bits", bits);
        }
        if (b & 0x80) continue;
        if (is_signed && (b & 0x40) && shift + 7 < 64) value |= ~0ull << (shift + 7);
        *out = value;
        return true;
    }
}

bool skip_bytes(struct reader *r, uint32_t n) {
    if (n > reader_left(r)) return malformed(r, "unexpected end, expected %u bytes, found %u", n, reader_left(r));
    r->p += n;
    return true;
}

/* Well-formed UTF-8 (Unicode, table 3-7). The length of the sequence at p, 0 if there is none. */
static unsigned utf8_sequence(const uint8_t *p, const uint8_t *end) {
    uint8_t b = *p, low = 0x80, high = 0xbf;
    if (b < 0x80) return 1;
    unsigned n = b >= 0xf0 ? 4 : b >= 0xe0 ? 3 : 2;
    if (b < 0xc2 || b > 0xf4 || (size_t)(end - p) < n) return 0;
    if (b == 0xe0) low = 0xa0;
    if (b == 0xed) high = 0x9f;
    if (b == 0xf0) low = 0x90;
    if (b == 0xf4) high = 0x8f;
    if (p[1] < low || p[1] > high) return 0;
    for (unsigned i = 2; i < n; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    return n;
}

bool read_name(struct reader *r, struct bytes *out) {
    if (!read_u32(r, &out->size)) return false;
    out->data = r->p;
    if (!skip_bytes(r, out->size)) return false;
    for (const uint8_t *p = out->data; p < r->p;) {
        unsigned n = utf8_sequence(p, r->p);
        if (!n) return malformed(r, "malformed UTF-8 encoding in a name, byte %u", (unsigned)(p - out->data));
        p += n;
    }
    return true;
}

bool read_count(struct reader *r, uint32_t max, uint32_t min_size, const char *what, uint32_t *out) {
    reader_mark(r);
    if (!read_u32(r, out)) return false;
    if (*out > max) return malformed(r, "%u %s, the implementation limit is %u", *out, what, max);
    if (*out > reader_left(r) / min_size)
        return malformed(r, "unexpected end: %u %s cannot fit in the %u bytes that are left", *out, what,
                         reader_left(r));
    return true;
}

/* ---- Types ---- */

uint32_t abstract_heaptype(uint8_t byte) {
    static const uint8_t heaps[] = {HEAP_EXN,    HEAP_ARRAY, HEAP_STRUCT, HEAP_I31,      HEAP_EQ,     HEAP_ANY,
                                    HEAP_EXTERN, HEAP_FUNC,  HEAP_NONE,   HEAP_NOEXTERN, HEAP_NOFUNC, HEAP_NOEXN};
    return byte >= 0x69 && byte <= 0x74 ? heaps[byte - 0x69] : UINT32_MAX;
}

static bool find_type(struct reader *r, uint32_t index, uint32_t *id) {
    if (index < r->module->n_types) {
        *id = r->module->type_ids[index];
        return true;
    }
    if (index >= r->rec_first && index - r->rec_first < r->n_rec) {
        *id = TYPE_REC | (index - r->rec_first);
        return true;
    }
    return invalid(r, "unknown type %u, there are %u", index, r->module->n_types + r->n_rec);
}

bool read_type_index(struct reader *r, uint32_t *id) {
    uint32_t index;
    return read_u32(r, &index) && find_type(r, index, id);
}

bool read_heaptype(struct reader *r, uint32_t *heap) {
    if (r->p < r->end && (*heap = abstract_heaptype(*r->p)) != UINT32_MAX) {
        r->p++;
        return true;
    }
    uint64_t s33;
    uint32_t id;
    if (!read_leb(r, 33, true, &s33)) return false;
    if ((int64_t)s33 < 0) return malformed(r, "malformed heap type");
    if (!find_type(r, (uint32_t)s33, &id)) return false;
    *heap = HEAP_CONCRETE + id;
    return true;
}

bool read_valtype(struct reader *r, valtype *out) {
    uint8_t byte;
    if (!read_byte(r, &byte)) return false;
    switch (byte) {
    case 0x7f: *out = VT_I32; return true;
    case 0x7e: *out = VT_I64; return true;
    case 0x7d: *out = VT_F32; return true;
    case 0x7c: *out = VT_F64; return true;
    case 0x7b: *out = VT_V128; return true;
    }
    r->p--;
    return read_reftype(r, out);
}

bool read_reftype(struct reader *r, valtype *out) {
    uint8_t byte;
    uint32_t heap;
    if (!read_byte(r, &byte)) return false;
    if (byte == 0x63 || byte == 0x64) {
        if (!read_heaptype(r, &heap)) return false;
        *out = VT_REF(byte == 0x63, heap);
        return true;
    }
    heap = abstract_heaptype(byte);
    if (heap == UINT32_MAX) return malformed(r, "malformed type 0x%x", byte);
    *out = VT_REF(true, heap);
    return true;
}
