#include "debug.h"
#include "text.h"

#include <string.h>

/* ---- reading, bounded: past the end everything is 0 and `bad` ---- */

struct cursor {
    const uint8_t *p, *end;
    bool bad;
};

static const uint8_t *take(struct cursor *r, uint64_t n) {
    if (n > (uint64_t)(r->end - r->p)) {
        r->bad = true;
        r->p = r->end;
        return NULL;
    }
    r->p += n;
    return r->p - n;
}

static uint64_t fixed(struct cursor *r, unsigned n) {
    const uint8_t *p = take(r, n);
    uint64_t v = 0;
    if (p) memcpy(&v, p, n);
    return v;
}

static uint8_t u8(struct cursor *r) {
    return (uint8_t)fixed(r, 1);
}

static uint64_t uleb(struct cursor *r) {
    uint64_t v = 0;
    for (unsigned shift = 0;; shift += 7) {
        uint8_t b = u8(r);
        if (shift < 64) v |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80)) return v;
    }
}

static int64_t sleb(struct cursor *r) {
    uint64_t v = 0;
    for (unsigned shift = 0;;) {
        uint8_t b = u8(r);
        if (shift < 64) v |= (uint64_t)(b & 0x7f) << shift;
        shift += 7;
        if (b & 0x80) continue;
        if (shift < 64 && (b & 0x40)) v |= ~0ull << shift;
        return (int64_t)v;
    }
}

static struct bytes string(struct cursor *r) {
    const uint8_t *start = r->p, *nul = start < r->end ? memchr(start, 0, (size_t)(r->end - start)) : NULL;
    if (!nul) {
        r->bad = true;
        r->p = r->end;
        return (struct bytes){0};
    }
    r->p = nul + 1;
    return (struct bytes){start, (uint32_t)(nul - start)};
}

static struct cursor part(struct cursor *r, uint64_t size) {
    const uint8_t *p = take(r, size);
    return p ? (struct cursor){p, p + size, false} : (struct cursor){r->end, r->end, true};
}

static struct cursor section(const struct module *m, const char *name) {
    for (uint32_t i = 0; i < m->n_customs; i++) {
        const struct custom_section *c = &m->customs[i];
        if (c->name.size == strlen(name) && !memcmp(c->name.data, name, c->name.size))
            return (struct cursor){c->payload.data, c->payload.data + c->payload.size, false};
    }
    return (struct cursor){0};
}

/* ---- a line table's header (DWARF 5, section 6.2.4; DWARF 4, same section) ---- */

struct unit {
    unsigned version, offset_size;
    unsigned min_length, line_range, opcode_base;
    int line_base;
    const uint8_t *opcode_lengths; /* opcode_base - 1 of them */
    struct cursor tables;          /* directories and files */
    struct cursor program;
};

static bool unit_read(struct cursor *r, struct unit *u) {
    *u = (struct unit){.offset_size = 4};
    uint64_t length = fixed(r, 4);
    if (length == 0xffffffff) {
        u->offset_size = 8;
        length = fixed(r, 8);
    }
    struct cursor in = part(r, length);
    u->version = (unsigned)fixed(&in, 2);
    if (u->version < 2 || u->version > 5) return false;
    if (u->version == 5) take(&in, 2); /* address size, segment selector size */
    u->tables = part(&in, fixed(&in, u->offset_size));
    u->program = in;
    struct cursor *h = &u->tables;
    u->min_length = u8(h);
    if (u->version >= 4) u8(h); /* operations per instruction: 1, wasm is no VLIW machine */
    u8(h);                      /* default_is_stmt: every row is as good */
    u->line_base = (int8_t)u8(h);
    u->line_range = u8(h);
    u->opcode_base = u8(h);
    if (!u->line_range || !u->opcode_base) return false;
    u->opcode_lengths = take(h, u->opcode_base - 1);
    return !h->bad && !in.bad;
}

/* ---- running a line table for one address (section 6.2.5) ---- */

struct row {
    uint64_t address, file, line;
};

struct search {
    uint64_t target;
    struct row best; /* the row that covers the target and starts closest before it; line 0: none yet */
};

struct machine {
    struct row row, previous;
    bool in_sequence; /* previous is a row of this sequence */
};

static const struct row START = {0, 1, 1};

/* Rows cover what lies between them and the next. Sequences at 0 are of functions the linker dropped. */
static bool emit(struct machine *m, struct search *s) {
    bool covers =
        m->in_sequence && m->previous.address && m->previous.address <= s->target && s->target < m->row.address;
    m->in_sequence = true;
    bool better = covers && m->previous.address > s->best.address;
    if (better) s->best = m->previous;
    m->previous = m->row;
    return better;
}

static bool extended(struct cursor *p, struct machine *m, struct search *s) {
    enum { END_SEQUENCE = 1, SET_ADDRESS = 2 };
    struct cursor op = part(p, uleb(p));
    uint8_t code = u8(&op);
    if (code == SET_ADDRESS) {
        uint64_t size = (uint64_t)(op.end - op.p);
        m->row.address = size <= 8 ? fixed(&op, (unsigned)size) : 0;
    }
    if (code != END_SEQUENCE) return false;
    bool found = emit(m, s);
    *m = (struct machine){.row = START};
    return found;
}

static bool standard(const struct unit *u, struct cursor *p, uint8_t op, struct machine *m, struct search *s) {
    enum { COPY = 1, ADVANCE_PC, ADVANCE_LINE, SET_FILE, CONST_ADD_PC = 8, FIXED_ADVANCE_PC };
    switch (op) {
    case 0: return extended(p, m, s);
    case COPY: return emit(m, s);
    case ADVANCE_PC: m->row.address += uleb(p) * u->min_length; break;
    case ADVANCE_LINE: m->row.line += (uint64_t)sleb(p); break;
    case SET_FILE: m->row.file = uleb(p); break;
    case CONST_ADD_PC: m->row.address += (uint64_t)(255 - u->opcode_base) / u->line_range * u->min_length; break;
    case FIXED_ADVANCE_PC: m->row.address += fixed(p, 2); break;
    default:
        for (unsigned n = u->opcode_lengths[op - 1]; n--;)
            uleb(p);
    }
    return false;
}

static bool special(const struct unit *u, uint8_t op, struct machine *m, struct search *s) {
    unsigned adjusted = op - u->opcode_base;
    m->row.address += (uint64_t)(adjusted / u->line_range) * u->min_length;
    m->row.line += (uint64_t)((int64_t)u->line_base + adjusted % u->line_range);
    return emit(m, s);
}

/* True when this unit has a better row than was known. */
static bool unit_search(const struct unit *u, struct search *s) {
    struct cursor p = u->program;
    struct machine m = {.row = START};
    bool found = false;
    while (p.p < p.end) {
        uint8_t op = u8(&p);
        found |= op < u->opcode_base ? standard(u, &p, op, &m, s) : special(u, op, &m, s);
    }
    return found;
}

/* ---- file names ---- */

struct file {
    struct bytes name;
    uint64_t directory;
};

static bool file_v4(struct cursor t, uint64_t index, struct file *out, struct bytes *directory) {
    struct cursor directories = t;
    while (string(&t).size && !t.bad)
        continue;
    for (uint64_t n = 1; n <= index; n++) {
        out->name = string(&t);
        out->directory = uleb(&t);
        uleb(&t), uleb(&t); /* time, size */
        if (!out->name.size || t.bad) return false;
    }
    *directory = (struct bytes){0};
    for (uint64_t n = 1; n <= out->directory; n++) {
        *directory = string(&directories);
        if (!directory->size) return false;
    }
    return index;
}

static struct bytes string_at(const struct module *m, const char *name, uint64_t offset) {
    struct cursor r = section(m, name);
    take(&r, offset);
    return string(&r);
}

/* One attribute by its form (section 7.5.6). */
static bool form_read(const struct module *m, const struct unit *u, struct cursor *r, uint64_t form, struct bytes *text,
                      uint64_t *number) {
    enum { DATA2 = 5, DATA4, DATA8, STRING, BLOCK, DATA1 = 0x0b, STRP = 0x0e, UDATA, DATA16 = 0x1e, LINE_STRP };
    switch (form) {
    case DATA1: *number = u8(r); break;
    case DATA2: *number = fixed(r, 2); break;
    case DATA4: *number = fixed(r, 4); break;
    case DATA8: *number = fixed(r, 8); break;
    case UDATA: *number = uleb(r); break;
    case STRING: *text = string(r); break;
    case STRP: *text = string_at(m, ".debug_str", fixed(r, u->offset_size)); break;
    case LINE_STRP: *text = string_at(m, ".debug_line_str", fixed(r, u->offset_size)); break;
    case DATA16: take(r, 16); break;
    case BLOCK: take(r, uleb(r)); break;
    default: return false;
    }
    return !r->bad;
}

/* Entry `index` of a table of version 5; reads all of it, so that the next table follows. */
static bool table_v5(const struct module *m, const struct unit *u, struct cursor *t, uint64_t index, struct file *out) {
    enum { PATH = 1, DIRECTORY_INDEX = 2 };
    struct cursor formats = *t;
    unsigned n_formats = u8(t);
    for (unsigned i = 0; i < 2 * n_formats; i++)
        uleb(t);
    uint64_t n = uleb(t);
    for (uint64_t i = 0; i < n && n_formats; i++) {
        struct cursor f = formats;
        struct file entry = {0};
        u8(&f);
        for (unsigned k = 0; k < n_formats; k++) {
            uint64_t content = uleb(&f), form = uleb(&f), number = 0;
            struct bytes text = {0};
            if (!form_read(m, u, t, form, &text, &number)) return false;
            if (content == PATH) entry.name = text;
            if (content == DIRECTORY_INDEX) entry.directory = number;
        }
        if (i == index) *out = entry;
    }
    return index < n && n_formats;
}

static bool file_v5(const struct module *m, const struct unit *u, uint64_t index, struct file *out,
                    struct bytes *directory) {
    struct cursor t = u->tables, again = t;
    struct file d = {0};
    if (!table_v5(m, u, &t, 0, &d) || !table_v5(m, u, &t, index, out)) return false;
    if (out->directory && !table_v5(m, u, &again, out->directory, &d)) return false;
    *directory = out->directory ? d.name : (struct bytes){0}; /* 0 is where the compiler ran */
    return true;
}

static void file_print(const struct module *m, const struct unit *u, uint64_t index, char *out, size_t size) {
    struct file f = {0};
    struct bytes directory = {0};
    struct text t = {.out = out, .size = size};
    bool ok = u->version == 5 ? file_v5(m, u, index, &f, &directory) : file_v4(u->tables, index, &f, &directory);
    if (!ok || !f.name.size) {
        text_format(&t, "?");
        return;
    }
    if (directory.size && f.name.data[0] != '/') {
        text_foreign(&t, directory.data, directory.size, size);
        text_format(&t, "/");
    }
    text_foreign(&t, f.name.data, f.name.size, size);
}

uint32_t debug_line(const struct module *m, uint32_t offset, char *file, size_t size) {
    file[0] = 0;
    struct cursor r = section(m, ".debug_line");
    struct search s = {.target = offset - m->code_offset};
    struct unit where = {0};
    while (r.p < r.end && !r.bad) {
        struct unit u;
        if (unit_read(&r, &u) && unit_search(&u, &s)) where = u;
    }
    if (!where.version || !s.best.line || s.best.line > UINT32_MAX) return 0;
    file_print(m, &where, s.best.file, file, size);
    return (uint32_t)s.best.line;
}
