/* The name section (core specification, appendix "Name Section"). Names are for messages, so anything malformed there
 * is no error: the name is just not known. */
#include "reader.h"

#include <string.h>

static bool function_name(struct reader *r, uint32_t func, struct bytes *out) {
    uint32_t n, index;
    struct bytes name;
    if (!read_u32(r, &n)) return false;
    while (n--) {
        if (!read_u32(r, &index) || !read_u32(r, &name.size)) return false;
        name.data = r->p;
        if (name.size > reader_left(r)) return false;
        r->p += name.size;
        if (index != func) continue;
        *out = name;
        return true;
    }
    return false;
}

static bool name_section(struct reader *r, uint32_t func, struct bytes *out) {
    enum { FUNCTION_NAMES = 1 };
    uint8_t id;
    uint32_t size;
    while (r->p < r->end && read_byte(r, &id) && read_u32(r, &size) && size <= reader_left(r)) {
        if (id == FUNCTION_NAMES) {
            r->end = r->p + size;
            return function_name(r, func, out);
        }
        r->p += size;
    }
    return false;
}

/* Walks the sections itself: it also serves the message of a module whose decoding has just failed. */
struct bytes module_func_name(const struct module *m, uint32_t func) {
    enum { HEADER = 8 };
    struct module_error ignored;
    struct bytes found = {NULL, 0};
    struct module plain = {.data = m->data, .size = m->size};
    if (m->size < HEADER) return found;
    struct reader r = {.p = m->data + HEADER,
                       .end = m->data + m->size,
                       .at = m->data,
                       .module = &plain,
                       .err = &ignored,
                       .func = UINT32_MAX};
    uint8_t id;
    uint32_t size, name_size;
    while (r.p < r.end && read_byte(&r, &id) && read_u32(&r, &size) && size <= reader_left(&r)) {
        struct reader section = r;
        r.p += size;
        section.end = r.p;
        if (id != 0 || !read_u32(&section, &name_size) || name_size != 4 || reader_left(&section) < 4) continue;
        if (memcmp(section.p, "name", 4) != 0) continue;
        section.p += 4;
        if (name_section(&section, func, &found)) return found;
    }
    return found;
}
