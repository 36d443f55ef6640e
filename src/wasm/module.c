/* The binary format of modules (core specification, section 5.5), decoded and validated in the order of its sections.
 */
#include "module.h"
#include "donjon/platform.h"
#include "limits.h"
#include "opcodes.h"
#include "reader.h"
#include "store.h"
#include "text.h"
#include "validate.h"

#include <string.h>

enum section_id {
    SECTION_CUSTOM,
    SECTION_TYPE,
    SECTION_IMPORT,
    SECTION_FUNCTION,
    SECTION_TABLE,
    SECTION_MEMORY,
    SECTION_GLOBAL,
    SECTION_EXPORT,
    SECTION_START,
    SECTION_ELEMENT,
    SECTION_CODE,
    SECTION_DATA,
    SECTION_DATA_COUNT,
    SECTION_TAG,
    SECTIONS
};

/* A recursion group being read: offsets into `words` and `fields` until it is complete, since those may move. */
struct group {
    struct rectype *types;
    valtype *words;
    struct fieldtype *fields;
    uint32_t n_types, n_words, n_fields;
    uint32_t types_cap, words_cap, fields_cap;
};

struct decoder {
    struct reader r;
    struct module *m;
    const struct donjon_platform *p;
    struct validator *v;
    struct group group;
    bool has_data_count, has_code;
    uint32_t data_count;
};

static bool fail_memory(struct decoder *d) {
    return out_of_memory(&d->r);
}

/* Room for `extra` items after the `used` ones of an array in *block, which has room for *cap. */
static bool reserve(struct decoder *d, void **block, uint32_t *cap, uint32_t used, uint32_t extra, size_t item) {
    if (extra <= *cap - used) return true;
    uint32_t want = used + extra;
    if (want < 2 * used) want = 2 * used;
    if (want < 8) want = 8;
    void *grown = d->p->realloc(d->p->ctx, *block, want * item);
    if (!grown) return fail_memory(d);
    *block = grown;
    *cap = want;
    return true;
}

/* An array of n items, zeroed, that grows from the `used` ones it has. */
static bool extend(struct decoder *d, void **block, uint32_t used, uint32_t n, size_t item) {
    if (!n) return true;
    void *grown = d->p->realloc(d->p->ctx, *block, (size_t)(used + n) * item);
    if (!grown) return fail_memory(d);
    memset((char *)grown + used * item, 0, n * item);
    *block = grown;
    return true;
}
#define EXTEND(d, array, used, n) extend(d, (void **)&(array), used, n, sizeof *(array))

/* ---- Types ---- */

enum { TYPE_FORM_REC = 0x4e, TYPE_FORM_SUB_FINAL = 0x4f, TYPE_FORM_SUB = 0x50 };
enum { TYPE_FORM_ARRAY = 0x5e, TYPE_FORM_STRUCT = 0x5f, TYPE_FORM_FUNC = 0x60 };

static bool read_type_list(struct decoder *d, uint32_t max, const char *what, uint32_t *n) {
    struct group *g = &d->group;
    if (!read_count(&d->r, max, 1, what, n)) return false;
    if (!reserve(d, (void **)&g->words, &g->words_cap, g->n_words, *n, sizeof *g->words)) return false;
    for (uint32_t i = 0; i < *n; i++)
        if (!read_valtype(&d->r, &g->words[g->n_words++])) return false;
    return true;
}

static bool read_mutable(struct reader *r, bool *out) {
    uint8_t byte;
    if (!read_byte(r, &byte)) return false;
    *out = byte == 1;
    return byte <= 1 || malformed(r, "malformed mutability 0x%x, expected 0 or 1", byte);
}

static bool read_field(struct decoder *d, struct fieldtype *f) {
    enum { FORM_I8 = 0x78, FORM_I16 = 0x77 };
    struct reader *r = &d->r;
    if (r->p < r->end && (*r->p == FORM_I8 || *r->p == FORM_I16))
        f->type = *r->p++ == FORM_I8 ? VT_I8 : VT_I16;
    else if (!read_valtype(r, &f->type))
        return false;
    return read_mutable(r, &f->mutable_);
}

static bool read_fields(struct decoder *d, uint32_t n) {
    struct group *g = &d->group;
    if (!reserve(d, (void **)&g->fields, &g->fields_cap, g->n_fields, n, sizeof *g->fields)) return false;
    while (n--)
        if (!read_field(d, &g->fields[g->n_fields++])) return false;
    return true;
}

static bool read_comptype(struct decoder *d, uint8_t form, struct rectype *t) {
    switch (form) {
    case TYPE_FORM_FUNC:
        t->kind = COMP_FUNC;
        return read_type_list(d, MAX_PARAMS, "parameters", &t->func.n_params) &&
               read_type_list(d, MAX_RESULTS, "results", &t->func.n_results);
    case TYPE_FORM_STRUCT:
        t->kind = COMP_STRUCT;
        return read_count(&d->r, MAX_FIELDS, 2, "fields", &t->agg.n_fields) && read_fields(d, t->agg.n_fields);
    case TYPE_FORM_ARRAY:
        t->kind = COMP_ARRAY;
        t->agg.n_fields = 1;
        return read_fields(d, 1);
    default: return malformed(&d->r, "malformed type definition 0x%x, expected a function, structure or array", form);
    }
}

/* `number` is the type's place in its group. */
static bool read_subtype(struct decoder *d, uint8_t form, uint32_t number) {
    struct reader *r = &d->r;
    struct group *g = &d->group;
    struct rectype t = {.final = true, .super = TYPE_NONE};
    uint32_t n;
    if (form == TYPE_FORM_SUB || form == TYPE_FORM_SUB_FINAL) {
        t.final = form == TYPE_FORM_SUB_FINAL;
        if (!read_u32(r, &n)) return false;
        if (n > 1) return invalid(r, "a type may have one supertype, found %u", n);
        if (n && !read_type_index(r, &t.super)) return false;
        if (n && (t.super & TYPE_REC) && (t.super & ~TYPE_REC) >= number)
            return invalid(r, "unknown type %u: a supertype must be declared before",
                           r->rec_first + (t.super & ~TYPE_REC));
        if (!read_byte(r, &form)) return false;
    }
    if (!reserve(d, (void **)&g->types, &g->types_cap, g->n_types, 1, sizeof t)) return false;
    if (!read_comptype(d, form, &t)) return false;
    g->types[g->n_types++] = t;
    return true;
}

/* The arrays do not move any more: gives every type its part of them. */
static void place_group(struct group *g) {
    const valtype *words = g->words;
    const struct fieldtype *fields = g->fields;
    for (struct rectype *t = g->types; t < g->types + g->n_types; t++) {
        if (t->kind == COMP_FUNC) {
            t->func.params = words;
            t->func.results = words + t->func.n_params;
            words = t->func.results + t->func.n_results;
        } else {
            t->agg.fields = fields;
            fields += t->agg.n_fields;
        }
    }
}

static bool intern(struct decoder *d) {
    struct reader *r = &d->r;
    uint32_t first, bad = 0;
    place_group(&d->group);
    enum intern_status status = type_intern_group(d->m->engine, d->group.types, d->group.n_types, &first, &bad);
    uint32_t index = r->rec_first + bad;
    switch (status) {
    case INTERN_OK: break;
    case INTERN_MEMORY: return fail_memory(d);
    case INTERN_FULL: return malformed(r, "the engine's type registry is full");
    case INTERN_FINAL: return invalid(r, "sub type %u does not match super type, which is final", index);
    case INTERN_SUPER: return invalid(r, "sub type %u does not match super type", index);
    case INTERN_DEPTH:
        return malformed(r, "type %u has more than %u supertypes, the implementation limit", index, MAX_SUBTYPE_DEPTH);
    }
    for (uint32_t i = 0; i < d->group.n_types; i++)
        d->m->type_ids[d->m->n_types++] = first + i;
    return true;
}

static bool read_group(struct decoder *d, uint32_t *cap) {
    struct reader *r = &d->r;
    struct group *g = &d->group;
    uint32_t n = 1;
    uint8_t form;
    reader_mark(r);
    if (!read_byte(r, &form)) return false;
    bool single = form != TYPE_FORM_REC;
    if (!single && !read_count(r, MAX_TYPES, 2, "types of a recursion group", &n)) return false;
    if (!n) return true;
    if (n > MAX_TYPES - d->m->n_types) return malformed(r, "too many types, the implementation limit is %u", MAX_TYPES);
    if (!reserve(d, (void **)&d->m->type_ids, cap, d->m->n_types, n, sizeof *d->m->type_ids)) return false;
    g->n_types = g->n_words = g->n_fields = 0;
    if (!reserve(d, (void **)&g->words, &g->words_cap, 0, 1, sizeof *g->words))
        return false; /* empty lists point somewhere */
    if (!reserve(d, (void **)&g->fields, &g->fields_cap, 0, 1, sizeof *g->fields)) return false;
    r->rec_first = d->m->n_types;
    r->n_rec = n;
    for (uint32_t i = 0; i < n; i++) {
        reader_mark(r);
        if (!single && !read_byte(r, &form)) return false;
        if (!read_subtype(d, form, i)) return false;
    }
    bool ok = intern(d);
    r->rec_first = r->n_rec = 0;
    return ok;
}

static bool section_type(struct decoder *d) {
    uint32_t n, cap = 0;
    if (!read_count(&d->r, MAX_TYPES, 2, "types", &n)) return false;
    while (n--)
        if (!read_group(d, &cap)) return false;
    return true;
}

/* ---- Imports and declarations ---- */

static bool read_limits(struct decoder *d, const char *what, uint64_t max32, uint64_t max64, struct limits *out) {
    enum { HAS_MAX = 1, SHARED = 2, IS64 = 4 };
    struct reader *r = &d->r;
    uint8_t flags;
    if (!read_byte(r, &flags)) return false;
    if (flags > (HAS_MAX | SHARED | IS64)) return malformed(r, "malformed %s limits flags 0x%x", what, flags);
    *out =
        (struct limits){.max = UINT64_MAX, .has_max = flags & HAS_MAX, .shared = flags & SHARED, .is64 = flags & IS64};
    if (out->shared) return malformed(r, "shared %s (threads proposal) is not supported yet", what);
    if (!read_u64(r, &out->min) || (out->has_max && !read_u64(r, &out->max))) return false;
    uint64_t max = out->is64 ? max64 : max32;
    uint64_t larger = out->has_max && out->max > out->min ? out->max : out->min;
    if (larger > max)
        return invalid(r, "%s size must be at most %llu, found %llu", what, (unsigned long long)max,
                       (unsigned long long)larger);
    if (out->min > out->max)
        return invalid(r, "%s size minimum %llu must not be greater than maximum %llu", what,
                       (unsigned long long)out->min, (unsigned long long)out->max);
    return true;
}

static bool read_tabletype(struct decoder *d, struct tabletype *t) {
    return read_reftype(&d->r, &t->elem) && read_limits(d, "table", UINT32_MAX, UINT64_MAX, &t->limits);
}

static bool read_memtype(struct decoder *d, struct limits *out) {
    return read_limits(d, "memory", MAX_PAGES32, MAX_PAGES64, out);
}

static bool read_globaltype(struct decoder *d, struct globaltype *g) {
    return read_valtype(&d->r, &g->type) && read_mutable(&d->r, &g->mutable_);
}

static bool read_functype_index(struct decoder *d, uint32_t *id) {
    if (!read_type_index(&d->r, id)) return false;
    return type_get(d->m->engine, *id)->kind == COMP_FUNC || invalid(&d->r, "expected a function type");
}

static bool read_tagtype(struct decoder *d, uint32_t *id) {
    uint8_t attribute;
    if (!read_byte(&d->r, &attribute)) return false;
    if (attribute != 0) return malformed(&d->r, "malformed tag attribute 0x%x, expected 0", attribute);
    if (!read_functype_index(d, id)) return false;
    return !type_func(d->m->engine, *id)->n_results || invalid(&d->r, "non-empty tag result type");
}

struct import_caps {
    uint32_t funcs, tables, memories, globals, tags;
};

#define PUSH(d, array, cap, n) (reserve(d, (void **)&(array), &(cap), n, 1, sizeof *(array)) ? &(array)[(n)++] : NULL)

static bool read_import_desc(struct decoder *d, struct import *i, struct import_caps *caps) {
    struct module *m = d->m;
    switch (i->kind) {
    case EXTERN_FUNC: {
        i->index = m->n_funcs;
        uint32_t *id = PUSH(d, m->func_types, caps->funcs, m->n_funcs);
        return id && read_functype_index(d, id);
    }
    case EXTERN_TABLE: {
        i->index = m->n_tables;
        if (m->n_tables >= MAX_TABLES)
            return malformed(&d->r, "more than %u tables, the implementation limit", MAX_TABLES);
        struct table_def *t = PUSH(d, m->tables, caps->tables, m->n_tables);
        if (!t) return false;
        *t = (struct table_def){.init = {0, 0}};
        return read_tabletype(d, &t->type);
    }
    case EXTERN_MEMORY: {
        i->index = m->n_memories;
        if (m->n_memories >= MAX_MEMORIES)
            return malformed(&d->r, "more than %u memories, the implementation limit", MAX_MEMORIES);
        struct limits *l = PUSH(d, m->memories, caps->memories, m->n_memories);
        return l && read_memtype(d, l);
    }
    case EXTERN_GLOBAL: {
        i->index = m->n_globals;
        struct global_def *g = PUSH(d, m->globals, caps->globals, m->n_globals);
        if (!g) return false;
        *g = (struct global_def){.init = {0, 0}};
        return read_globaltype(d, &g->type);
    }
    case EXTERN_TAG: {
        i->index = m->n_tags;
        uint32_t *id = PUSH(d, m->tag_types, caps->tags, m->n_tags);
        return id && read_tagtype(d, id);
    }
    }
    return false;
}

static bool section_import(struct decoder *d) {
    struct reader *r = &d->r;
    struct module *m = d->m;
    struct import_caps caps = {0};
    uint32_t n;
    uint8_t kind;
    if (!read_count(r, MAX_IMPORTS, 5, "imports", &n) || !EXTEND(d, m->imports, 0, n)) return false;
    while (m->n_imports < n) {
        struct import *i = &m->imports[m->n_imports++];
        reader_mark(r);
        if (!read_name(r, &i->module) || !read_name(r, &i->name) || !read_byte(r, &kind)) return false;
        if (kind > EXTERN_TAG) return malformed(r, "malformed import kind 0x%x", kind);
        i->kind = kind;
        if (!read_import_desc(d, i, &caps)) return false;
    }
    m->n_func_imports = m->n_funcs;
    m->n_table_imports = m->n_tables;
    m->n_memory_imports = m->n_memories;
    m->n_global_imports = m->n_globals;
    m->n_tag_imports = m->n_tags;
    return true;
}

static bool section_function(struct decoder *d) {
    struct module *m = d->m;
    uint32_t n;
    if (!read_count(&d->r, MAX_FUNCS, 1, "functions", &n) || !EXTEND(d, m->func_types, m->n_funcs, n)) return false;
    while (n--) {
        reader_mark(&d->r);
        if (!read_functype_index(d, &m->func_types[m->n_funcs])) return false;
        m->n_funcs++;
    }
    return true;
}

static bool section_table(struct decoder *d) {
    enum { WITH_INIT = 0x40 };
    struct reader *r = &d->r;
    struct module *m = d->m;
    uint32_t n;
    uint8_t zero;
    if (!read_count(r, MAX_TABLES - m->n_tables, 3, "tables", &n) || !EXTEND(d, m->tables, m->n_tables, n))
        return false;
    while (n--) {
        struct table_def *t = &m->tables[m->n_tables];
        reader_mark(r);
        bool with_init = r->p < r->end && *r->p == WITH_INIT;
        if (with_init) {
            r->p++;
            if (!read_byte(r, &zero)) return false;
            if (zero) return malformed(r, "malformed table, expected 0 after 0x40, found 0x%x", zero);
        }
        if (!read_tabletype(d, &t->type)) return false;
        if (with_init && !validate_constexpr(d->v, r, t->type.elem, &t->init)) return false;
        if (!with_init && !vt_defaultable(t->type.elem))
            return invalid(r, "type mismatch: a table of %s needs an initial value", type_text(r, t->type.elem).s);
        m->n_tables++;
    }
    return true;
}

static bool section_memory(struct decoder *d) {
    struct module *m = d->m;
    uint32_t n;
    if (!read_count(&d->r, MAX_MEMORIES - m->n_memories, 2, "memories", &n)) return false;
    if (!EXTEND(d, m->memories, m->n_memories, n)) return false;
    while (n--) {
        reader_mark(&d->r);
        if (!read_memtype(d, &m->memories[m->n_memories])) return false;
        m->n_memories++;
    }
    return true;
}

static bool section_tag(struct decoder *d) {
    struct module *m = d->m;
    uint32_t n;
    if (!read_count(&d->r, MAX_TAGS, 2, "tags", &n) || !EXTEND(d, m->tag_types, m->n_tags, n)) return false;
    while (n--) {
        reader_mark(&d->r);
        if (!read_tagtype(d, &m->tag_types[m->n_tags])) return false;
        m->n_tags++;
    }
    return true;
}

/* A global counts as declared after its own expression: that one sees only those before it. */
static bool section_global(struct decoder *d) {
    struct module *m = d->m;
    uint32_t n;
    if (!read_count(&d->r, MAX_GLOBALS, 3, "globals", &n) || !EXTEND(d, m->globals, m->n_globals, n)) return false;
    while (n--) {
        struct global_def *g = &m->globals[m->n_globals];
        reader_mark(&d->r);
        if (!read_globaltype(d, &g->type) || !validate_constexpr(d->v, &d->r, g->type.type, &g->init)) return false;
        m->n_globals++;
    }
    return true;
}

/* ---- Exports and start ---- */

static uint32_t hash_name(const void *seed, struct bytes name) {
    uint64_t h = (uintptr_t)seed;
    for (uint32_t i = 0; i < name.size; i++) {
        unsigned __int128 wide =
            (unsigned __int128)(h ^ name.data[i] ^ 0x100) * 0x9E3779B97F4A7C15u; /* 2^64 / golden ratio */
        h = (uint64_t)wide ^ (uint64_t)(wide >> 64);
    }
    return (uint32_t)(h ^ h >> 32);
}

/* Export names are unique (section 3.5.14). */
static bool check_export_names(struct decoder *d) {
    struct module *m = d->m;
    uint32_t n_buckets = 16;
    while (n_buckets < 2 * m->n_exports)
        n_buckets *= 2;
    uint32_t *buckets = d->p->realloc(d->p->ctx, NULL, n_buckets * sizeof *buckets); /* index + 1, or 0 */
    if (!buckets) return fail_memory(d);
    memset(buckets, 0, n_buckets * sizeof *buckets);
    const struct export *twice = NULL;
    for (uint32_t i = 0; i < m->n_exports && !twice; i++) {
        struct bytes name = m->exports[i].name;
        uint32_t b = hash_name(buckets, name) & (n_buckets - 1);
        for (; buckets[b] && !twice; b = (b + 1) & (n_buckets - 1)) {
            struct bytes other = m->exports[buckets[b] - 1].name;
            if (other.size == name.size && memcmp(other.data, name.data, name.size) == 0) twice = &m->exports[i];
        }
        buckets[b] = i + 1;
    }
    d->p->realloc(d->p->ctx, buckets, 0);
    if (!twice) return true;
    char text[64] = "";
    struct text t = {.out = text, .size = sizeof text};
    text_foreign(&t, twice->name.data, twice->name.size, 48);
    d->r.at = twice->name.data;
    return invalid(&d->r, "duplicate export name \"%s\"", text);
}

static bool section_export(struct decoder *d) {
    struct reader *r = &d->r;
    struct module *m = d->m;
    uint32_t n;
    uint8_t kind;
    if (!read_count(r, MAX_EXPORTS, 3, "exports", &n) || !EXTEND(d, m->exports, 0, n)) return false;
    const uint32_t totals[] = {[EXTERN_FUNC] = m->n_funcs,
                               [EXTERN_TABLE] = m->n_tables,
                               [EXTERN_MEMORY] = m->n_memories,
                               [EXTERN_GLOBAL] = m->n_globals,
                               [EXTERN_TAG] = m->n_tags};
    static const char *const names[] = {"function", "table", "memory", "global", "tag"};
    while (m->n_exports < n) {
        struct export *e = &m->exports[m->n_exports++];
        reader_mark(r);
        if (!read_name(r, &e->name) || !read_byte(r, &kind) || !read_u32(r, &e->index)) return false;
        if (kind > EXTERN_TAG) return malformed(r, "malformed export kind 0x%x", kind);
        e->kind = kind;
        if (e->index >= totals[kind])
            return invalid(r, "unknown %s %u, there are %u", names[kind], e->index, totals[kind]);
        if (kind == EXTERN_FUNC && !validator_declare_ref(d->v, r, e->index)) return false;
    }
    return check_export_names(d);
}

static bool section_start(struct decoder *d) {
    struct reader *r = &d->r;
    struct module *m = d->m;
    reader_mark(r);
    if (!read_u32(r, &m->start)) return false;
    if (m->start >= m->n_funcs) return invalid(r, "unknown function %u, there are %u", m->start, m->n_funcs);
    const struct functype *t = type_func(m->engine, m->func_types[m->start]);
    if (t->n_params || t->n_results) return invalid(r, "the start function must have no parameters and no results");
    return true;
}

/* ---- Segments ---- */

static valtype addr_type(bool is64) {
    return is64 ? VT_I64 : VT_I32;
}

/* Section 5.5.12. Bit 0: passive or declarative; bit 1: those apart, or an explicit table; bit 2: expressions. */
static bool read_elem_head(struct decoder *d, struct elem_segment *s) {
    enum { NOT_ACTIVE = 1, EXPLICIT = 2, EXPRESSIONS = 4 };
    struct reader *r = &d->r;
    struct module *m = d->m;
    uint32_t flags;
    uint8_t kind;
    if (!read_u32(r, &flags)) return false;
    if (flags > (NOT_ACTIVE | EXPLICIT | EXPRESSIONS)) return malformed(r, "malformed elements segment kind %u", flags);
    s->as_exprs = flags & EXPRESSIONS;
    s->mode = !(flags & NOT_ACTIVE) ? SEGMENT_ACTIVE : flags & EXPLICIT ? SEGMENT_DECLARATIVE : SEGMENT_PASSIVE;
    s->type = s->as_exprs ? VT_FUNCREF : VT_REF(false, HEAP_FUNC);
    if (s->mode == SEGMENT_ACTIVE) {
        if ((flags & EXPLICIT) && !read_u32(r, &s->table)) return false;
        if (s->table >= m->n_tables) return invalid(r, "unknown table %u, there are %u", s->table, m->n_tables);
        if (!validate_constexpr(d->v, r, addr_type(m->tables[s->table].type.limits.is64), &s->offset)) return false;
    }
    if (!(flags & (NOT_ACTIVE | EXPLICIT))) return true;
    if (s->as_exprs) return read_reftype(r, &s->type);
    if (!read_byte(r, &kind)) return false;
    return kind == 0 || malformed(r, "malformed element kind 0x%x, expected 0", kind);
}

static bool read_elem_items(struct decoder *d, struct elem_segment *s) {
    struct reader *r = &d->r;
    struct constexpr_ item;
    uint32_t func;
    const uint8_t *at = r->at;
    if (!read_count(r, MAX_ELEM_ITEMS, s->as_exprs ? 2 : 1, "elements", &s->n_items)) return false;
    r->at = at;
    s->items = reader_offset(r);
    for (uint32_t i = 0; i < s->n_items; i++) {
        if (s->as_exprs) {
            if (!validate_constexpr(d->v, r, s->type, &item)) return false;
            continue;
        }
        if (!read_u32(r, &func)) return false;
        if (func >= d->m->n_funcs) return invalid(r, "unknown function %u, there are %u", func, d->m->n_funcs);
        if (!validator_declare_ref(d->v, r, func)) return false;
    }
    s->items_size = reader_offset(r) - s->items;
    return true;
}

static bool section_element(struct decoder *d) {
    struct reader *r = &d->r;
    struct module *m = d->m;
    uint32_t n;
    if (!read_count(r, MAX_ELEMS, 3, "element segments", &n) || !EXTEND(d, m->elems, 0, n)) return false;
    while (n--) {
        struct elem_segment *s = &m->elems[m->n_elems++];
        reader_mark(r);
        if (!read_elem_head(d, s) || !read_elem_items(d, s)) return false;
        valtype want = s->mode == SEGMENT_ACTIVE ? m->tables[s->table].type.elem : s->type;
        if (!type_matches(m->engine, s->type, want))
            return invalid(r, "type mismatch: elements of %s for a table of %s", type_text(r, s->type).s,
                           type_text(r, want).s);
    }
    return true;
}

static bool section_data_count(struct decoder *d) {
    reader_mark(&d->r);
    if (!read_u32(&d->r, &d->data_count)) return false; /* nothing is allocated for them here */
    d->has_data_count = true;
    validator_data_count(d->v, d->data_count);
    return true;
}

static bool section_data(struct decoder *d) {
    enum { ACTIVE, PASSIVE, ACTIVE_EXPLICIT };
    struct reader *r = &d->r;
    struct module *m = d->m;
    uint32_t n, flags;
    if (!read_count(r, MAX_DATAS, 2, "data segments", &n) || !EXTEND(d, m->datas, 0, n)) return false;
    while (n--) {
        struct data_segment *s = &m->datas[m->n_datas++];
        reader_mark(r);
        if (!read_u32(r, &flags)) return false;
        if (flags > ACTIVE_EXPLICIT) return malformed(r, "malformed data segment flag %u", flags);
        s->mode = flags == PASSIVE ? SEGMENT_PASSIVE : SEGMENT_ACTIVE;
        if (flags == ACTIVE_EXPLICIT && !read_u32(r, &s->memory)) return false;
        if (s->mode == SEGMENT_ACTIVE) {
            if (s->memory >= m->n_memories)
                return invalid(r, "unknown memory %u, there are %u", s->memory, m->n_memories);
            if (!validate_constexpr(d->v, r, addr_type(m->memories[s->memory].is64), &s->offset)) return false;
        }
        if (!read_u32(r, &s->size)) return false;
        s->data = reader_offset(r);
        if (!skip_bytes(r, s->size)) return false;
    }
    return true;
}

/* ---- Code ---- */

static bool section_code(struct decoder *d) {
    struct reader *r = &d->r;
    struct module *m = d->m;
    uint32_t n, want = m->n_funcs - m->n_func_imports;
    d->has_code = true;
    m->code_offset = reader_offset(r);
    m->code_size = reader_left(r);
    if (!read_count(r, MAX_FUNCS, 3, "function bodies", &n)) return false;
    if (n != want)
        return malformed(r, "function and code section have inconsistent lengths: %u functions, %u bodies", want, n);
    if (!EXTEND(d, m->bodies, 0, n)) return false;
    struct reader section = *r;
    section.section = NULL;
    for (uint32_t i = 0; i < n; i++) {
        struct func_body *b = &m->bodies[i];
        struct reader *s = &section;
        s->func = m->n_func_imports + i;
        reader_mark(s);
        if (!read_u32(s, &b->size)) return false;
        if (b->size > reader_left(s))
            return malformed(s, "unexpected end: a body of %u bytes, %u are left", b->size, reader_left(s));
        if (b->size > MAX_BODY_SIZE)
            return malformed(s, "a body of %u bytes, the implementation limit is %u", b->size, MAX_BODY_SIZE);
        b->offset = reader_offset(s);
        struct reader body = *s;
        body.end = s->p + b->size;
        if (!validate_body(d->v, &body)) return false;
        s->p = body.end;
    }
    r->p = section.p;
    return true;
}

/* ---- Sections ---- */

static const struct {
    const char *name;
    unsigned order; /* the sequence of section 5.5.16, which is not that of the ids; custom sections stand anywhere */
    bool (*read)(struct decoder *);
} sections[SECTIONS] = {
    [SECTION_CUSTOM] = {"custom", 0, NULL},
    [SECTION_TYPE] = {"type", 1, section_type},
    [SECTION_IMPORT] = {"import", 2, section_import},
    [SECTION_FUNCTION] = {"function", 3, section_function},
    [SECTION_TABLE] = {"table", 4, section_table},
    [SECTION_MEMORY] = {"memory", 5, section_memory},
    [SECTION_TAG] = {"tag", 6, section_tag},
    [SECTION_GLOBAL] = {"global", 7, section_global},
    [SECTION_EXPORT] = {"export", 8, section_export},
    [SECTION_START] = {"start", 9, section_start},
    [SECTION_ELEMENT] = {"element", 10, section_element},
    [SECTION_DATA_COUNT] = {"data count", 11, section_data_count},
    [SECTION_CODE] = {"code", 12, section_code},
    [SECTION_DATA] = {"data", 13, section_data},
};

static bool section_custom(struct decoder *d, uint32_t *cap) {
    struct module *m = d->m;
    reader_mark(&d->r);
    if (m->n_customs >= MAX_CUSTOMS)
        return malformed(&d->r, "more than %u custom sections, the implementation limit", MAX_CUSTOMS);
    struct custom_section *c = PUSH(d, m->customs, *cap, m->n_customs);
    if (!c) return false;
    *c = (struct custom_section){.name = {NULL, 0}};
    if (!read_name(&d->r, &c->name)) return false;
    c->payload = (struct bytes){d->r.p, reader_left(&d->r)};
    d->r.p = d->r.end;
    return true;
}

static bool read_section(struct decoder *d, unsigned *order, uint32_t *customs_cap) {
    struct reader *r = &d->r;
    const uint8_t *module_end = r->end;
    uint8_t id;
    uint32_t size;
    r->section = NULL;
    reader_mark(r);
    if (!read_byte(r, &id) || !read_u32(r, &size)) return false;
    if (id >= SECTIONS) return malformed(r, "malformed section id %u", id);
    r->section = sections[id].name;
    if (size > reader_left(r))
        return malformed(r, "unexpected end: length out of bounds, %u bytes, %u are left", size, reader_left(r));
    if (id != SECTION_CUSTOM && sections[id].order <= *order)
        return malformed(r, "unexpected content: the section is out of order or there twice");
    r->end = r->p + size;
    if (id == SECTION_CUSTOM) {
        if (!section_custom(d, customs_cap)) return false;
    } else {
        *order = sections[id].order;
        if (!sections[id].read(d)) return false;
    }
    if (r->p != r->end) {
        reader_mark(r);
        return malformed(r, "section size mismatch: %u bytes are left at its end", reader_left(r));
    }
    r->end = module_end;
    return true;
}

static bool read_header(struct reader *r) {
    enum { HEADER = 8, COMPONENT_LAYER = 1 };
    static const uint8_t header[HEADER] = {0, 'a', 's', 'm', 1, 0, 0, 0};
    if (reader_left(r) < 4 || memcmp(r->p, header, 4) != 0)
        return malformed(r, "magic header not detected: this is not a WebAssembly binary");
    if (reader_left(r) < HEADER) return malformed(r, "unexpected end, expected the binary version");
    if (r->p[6] == COMPONENT_LAYER) return malformed(r, "unknown binary version: a component, expected a core module");
    if (memcmp(r->p + 4, header + 4, 4) != 0) return malformed(r, "unknown binary version, expected 1");
    r->p += HEADER;
    return true;
}

static bool decode(struct decoder *d) {
    struct reader *r = &d->r;
    struct module *m = d->m;
    unsigned order = 0;
    uint32_t customs_cap = 0;
    if (!read_header(r)) return false;
    while (r->p < r->end)
        if (!read_section(d, &order, &customs_cap)) return false;
    r->section = NULL;
    reader_mark(r);
    if (!d->has_code && m->n_funcs != m->n_func_imports)
        return malformed(r, "function and code section have inconsistent lengths: %u functions, no bodies",
                         m->n_funcs - m->n_func_imports);
    if (d->has_data_count && d->data_count != m->n_datas)
        return malformed(r, "data count and data section have inconsistent lengths: %u and %u", d->data_count,
                         m->n_datas);
    return true;
}

static void discard(const struct donjon_platform *p, void *block) {
    if (block) p->realloc(p->ctx, block, 0);
}

static void module_delete(struct module *m) {
    const struct donjon_platform *p = m->engine->platform;
    void *parts[] = {m->data,    m->type_ids,  m->imports, m->func_types, m->bodies, m->tables,  m->memories,
                     m->globals, m->tag_types, m->exports, m->elems,      m->datas,  m->customs, m};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        discard(p, parts[i]);
}

/* A module with its copy of the bytes and nothing decoded. */
static struct module *module_copy(struct engine *e, const uint8_t *data, uint32_t size) {
    const struct donjon_platform *p = e->platform;
    struct module *m = p->realloc(p->ctx, NULL, sizeof *m);
    if (!m) return NULL;
    *m = (struct module){.engine = e, .size = size, .refs = 1, .start = UINT32_MAX};
    m->data = p->realloc(p->ctx, NULL, size ? size : 1);
    if (!m->data) {
        discard(p, m);
        return NULL;
    }
    if (size) memcpy(m->data, data, size);
    return m;
}

static void set_error(struct module_error *err, const char *format, unsigned number) {
    struct text t = {.out = err->message, .size = sizeof err->message};
    *err = (struct module_error){.func = UINT32_MAX, .malformed = true};
    text_format(&t, "%s", format);
    if (number) text_format(&t, "%u bytes", number);
}

struct module *module_new(struct engine *e, const uint8_t *data, size_t size, struct module_error *err) {
    struct module_error ignored;
    if (!err) err = &ignored;
    if (size > MAX_MODULE_SIZE) {
        set_error(err, "the module is larger than the implementation limit, ", MAX_MODULE_SIZE);
        return NULL;
    }
    struct module *m = module_copy(e, data, (uint32_t)size);
    struct decoder d = {.m = m, .p = e->platform, .v = m ? validator_new(m) : NULL};
    if (!d.v) {
        if (m) module_delete(m);
        set_error(err, "out of memory", 0);
        return NULL;
    }
    d.r = (struct reader){
        .p = m->data, .end = m->data + size, .at = m->data, .module = m, .err = err, .func = UINT32_MAX};
    bool ok = decode(&d);
    discard(d.p, d.group.types);
    discard(d.p, d.group.words);
    discard(d.p, d.group.fields);
    validator_delete(d.v);
    if (ok) return m;
    module_delete(m);
    return NULL;
}

void module_ref(struct module *m) {
    __atomic_fetch_add(&m->refs, 1, __ATOMIC_RELAXED);
}

void module_unref(struct module *m) {
    if (m && __atomic_fetch_sub(&m->refs, 1, __ATOMIC_ACQ_REL) == 1) module_delete(m);
}

/* ---- Reading validated bodies ---- */

static uint32_t trusted_heaptype(const struct module *m, const uint8_t **p) {
    uint32_t heap = abstract_heaptype(**p);
    if (heap == UINT32_MAX) return HEAP_CONCRETE + m->type_ids[(uint32_t)leb_s64(p)];
    ++*p;
    return heap;
}

valtype module_read_valtype(const struct module *m, const uint8_t **p) {
    uint8_t byte = *(*p)++;
    switch (byte) {
    case 0x7f: return VT_I32;
    case 0x7e: return VT_I64;
    case 0x7d: return VT_F32;
    case 0x7c: return VT_F64;
    case 0x7b: return VT_V128;
    case 0x63:
    case 0x64: return VT_REF(byte == 0x63, trusted_heaptype(m, p));
    default: return VT_REF(true, abstract_heaptype(byte));
    }
}

const struct functype *module_read_blocktype(const struct module *m, const uint8_t **p, struct blocktype_buf *buf) {
    if ((**p & 0xc0) != 0x40) return type_func(m->engine, m->type_ids[(uint32_t)leb_s64(p)]);
    buf->type = (struct functype){.n_params = 0};
    if (**p == 0x40) {
        ++*p;
        return &buf->type;
    }
    buf->result = module_read_valtype(m, p);
    buf->type.n_results = 1;
    buf->type.result_slots = vt_slots(buf->result);
    buf->type.params = buf->type.results = &buf->result;
    return &buf->type;
}
