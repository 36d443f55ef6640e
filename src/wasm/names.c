/* The name section (core specification, appendix "Name Section"). Names are for messages, so anything malformed there
 * is no error: the name is just not known. */
#include "reader.h"

#include <string.h>

/* What is looked for: one function's name (all NULL), or everybody's. */
struct wanted {
    uint32_t func;
    struct bytes found;
    struct bytes *all;
    uint32_t n_funcs;
};

/* True when nothing is left to look for. */
static bool function_name(struct reader *r, struct wanted *w) {
    uint32_t n, index;
    struct bytes name;
    if (!read_u32(r, &n)) return false;
    while (n--) {
        if (!read_u32(r, &index) || !read_u32(r, &name.size)) return false;
        name.data = r->p;
        if (name.size > reader_left(r)) return false;
        r->p += name.size;
        if (w->all && index < w->n_funcs) w->all[index] = name;
        if (w->all || index != w->func) continue;
        w->found = name;
        return true;
    }
    return false;
}

static bool name_section(struct reader *r, struct wanted *w) {
    enum { FUNCTION_NAMES = 1 };
    uint8_t id;
    uint32_t size;
    while (r->p < r->end && read_byte(r, &id) && read_u32(r, &size) && size <= reader_left(r)) {
        if (id == FUNCTION_NAMES) {
            r->end = r->p + size;
            return function_name(r, w);
        }
        r->p += size;
    }
    return false;
}

/* Walks the sections itself: it also serves the message of a module whose decoding has just failed. */
static void find_names(const struct module *m, struct wanted *w) {
    enum { HEADER = 8 };
    struct module_error ignored;
    struct module plain = {.data = m->data, .size = m->size};
    if (m->size < HEADER) return;
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
        if (name_section(&section, w)) return;
    }
}

struct bytes module_func_name(const struct module *m, uint32_t func) {
    struct wanted w = {.func = func};
    find_names(m, &w);
    return w.found;
}

void module_func_names(const struct module *m, struct bytes *names) {
    struct wanted w = {.all = names, .n_funcs = m->n_funcs};
    find_names(m, &w);
}
