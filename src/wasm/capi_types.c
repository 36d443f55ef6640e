/* wasm.h: vectors and types. */
#include "capi.h"
#include "text.h"

#include <stdlib.h>

/* ---- vectors ---- */

/* `name`, element type, and what copies and deletes an element. */
#define VEC(name, type, copy_element, delete_element)                                                                  \
    void wasm_##name##_vec_new_empty(wasm_##name##_vec_t *out) {                                                       \
        out->size = 0;                                                                                                 \
        out->data = NULL;                                                                                              \
    }                                                                                                                  \
    void wasm_##name##_vec_new_uninitialized(wasm_##name##_vec_t *out, size_t size) {                                  \
        out->data = size ? calloc(size, sizeof(type)) : NULL;                                                          \
        out->size = out->data ? size : 0;                                                                              \
    }                                                                                                                  \
    void wasm_##name##_vec_new(wasm_##name##_vec_t *out, size_t size, type const data[]) {                             \
        wasm_##name##_vec_new_uninitialized(out, size);                                                                \
        if (out->size) memcpy(out->data, data, size * sizeof(type));                                                   \
    }                                                                                                                  \
    void wasm_##name##_vec_copy(wasm_##name##_vec_t *out, const wasm_##name##_vec_t *v) {                              \
        wasm_##name##_vec_new_uninitialized(out, v->size);                                                             \
        for (size_t i = 0; i < out->size; i++)                                                                         \
            copy_element(&out->data[i], &v->data[i]);                                                                  \
    }                                                                                                                  \
    void wasm_##name##_vec_delete(wasm_##name##_vec_t *v) {                                                            \
        if (!v) return;                                                                                                \
        for (size_t i = 0; i < v->size; i++)                                                                           \
            delete_element(&v->data[i]);                                                                               \
        free(v->data);                                                                                                 \
        wasm_##name##_vec_new_empty(v);                                                                                \
    }

#define COPY_PLAIN(to, from) (*(to) = *(from))
#define DELETE_NOTHING(p)    ((void)(p))
VEC(byte, wasm_byte_t, COPY_PLAIN, DELETE_NOTHING)
VEC(val, wasm_val_t, wasm_val_copy, wasm_val_delete)

#define VEC_OF_POINTERS(name)                                                                                          \
    static void copy_##name(wasm_##name##_t **to, wasm_##name##_t *const *from) {                                      \
        *to = *from ? wasm_##name##_copy(*from) : NULL;                                                                \
    }                                                                                                                  \
    static void delete_##name(wasm_##name##_t **p) {                                                                   \
        wasm_##name##_delete(*p);                                                                                      \
    }                                                                                                                  \
    VEC(name, wasm_##name##_t *, copy_##name, delete_##name)
VEC_OF_POINTERS(valtype)
VEC_OF_POINTERS(functype)
VEC_OF_POINTERS(globaltype)
VEC_OF_POINTERS(tabletype)
VEC_OF_POINTERS(memorytype)
VEC_OF_POINTERS(externtype)
VEC_OF_POINTERS(importtype)
VEC_OF_POINTERS(exporttype)
VEC_OF_POINTERS(frame)
VEC_OF_POINTERS(extern)

/* ---- value types ---- */

static wasm_valtype_t *valtype_make(wasm_valkind_t kind, valtype type) {
    wasm_valtype_t *t = malloc(sizeof *t);
    if (t) *t = (wasm_valtype_t){kind, type};
    return t;
}

wasm_valtype_t *wasm_valtype_new(wasm_valkind_t kind) {
    switch (kind) {
    case WASM_I32: return valtype_make(kind, VT_I32);
    case WASM_I64: return valtype_make(kind, VT_I64);
    case WASM_F32: return valtype_make(kind, VT_F32);
    case WASM_F64: return valtype_make(kind, VT_F64);
    case DONJON_V128: return valtype_make(kind, VT_V128);
    case WASM_EXTERNREF: return valtype_make(kind, VT_EXTERNREF);
    case WASM_FUNCREF: return valtype_make(kind, VT_FUNCREF);
    case DONJON_EXNREF: return valtype_make(kind, VT_EXNREF);
    default: return NULL;
    }
}

wasm_valkind_t wasm_valtype_kind(const wasm_valtype_t *t) {
    return t->kind;
}
wasm_valtype_t *wasm_valtype_copy(const wasm_valtype_t *t) {
    return valtype_make(t->kind, t->type);
}
void wasm_valtype_delete(wasm_valtype_t *t) {
    free(t);
}

static wasm_valkind_t refkind_of(const struct engine *e, valtype t) {
    if (vt_concrete(t)) return type_get(e, vt_type_id(t))->kind == COMP_FUNC ? WASM_FUNCREF : DONJON_OTHERREF;
    switch (vt_heap(t)) {
    case HEAP_FUNC:
    case HEAP_NOFUNC: return WASM_FUNCREF;
    case HEAP_EXTERN:
    case HEAP_NOEXTERN: return WASM_EXTERNREF;
    case HEAP_EXN:
    case HEAP_NOEXN: return DONJON_EXNREF;
    default: return DONJON_OTHERREF;
    }
}

wasm_valkind_t valkind_of(const struct engine *e, valtype t) {
    switch (vt_kind(t)) {
    case KIND_I32: return WASM_I32;
    case KIND_I64: return WASM_I64;
    case KIND_F32: return WASM_F32;
    case KIND_F64: return WASM_F64;
    case KIND_V128: return DONJON_V128;
    default: return refkind_of(e, t);
    }
}

static wasm_valtype_t *valtype_of(const struct engine *e, valtype t) {
    return valtype_make(valkind_of(e, t), t);
}

char *donjon_valtype_print(const wasm_valtype_t *t, char *out, size_t size) {
    char name[32];
    vt_print(t->type, name);
    struct text text = {.out = out, .size = size};
    text_format(&text, "%s", name);
    return out;
}

/* ---- extern types ---- */

static struct extern_type *extern_type_new(wasm_externkind_t kind) {
    struct extern_type *t = calloc(1, sizeof *t);
    if (t) t->kind = kind;
    return t;
}

void wasm_externtype_delete(wasm_externtype_t *type) {
    struct extern_type *t = (struct extern_type *)type;
    if (!t) return;
    wasm_valtype_delete(t->content);
    wasm_valtype_vec_delete(&t->params);
    wasm_valtype_vec_delete(&t->results);
    free(t);
}

wasm_externtype_t *wasm_externtype_copy(const wasm_externtype_t *type) {
    const struct extern_type *t = (const struct extern_type *)type;
    struct extern_type *copy = extern_type_new(t->kind);
    if (!copy) return NULL;
    *copy = *t;
    if (t->content) copy->content = wasm_valtype_copy(t->content);
    wasm_valtype_vec_copy(&copy->params, &t->params);
    wasm_valtype_vec_copy(&copy->results, &t->results);
    return (wasm_externtype_t *)copy;
}

wasm_externkind_t wasm_externtype_kind(const wasm_externtype_t *t) {
    return ((const struct extern_type *)t)->kind;
}

#define EXTERN_TYPE(name, KIND)                                                                                        \
    void wasm_##name##_delete(wasm_##name##_t *t) {                                                                    \
        wasm_externtype_delete((wasm_externtype_t *)t);                                                                \
    }                                                                                                                  \
    wasm_##name##_t *wasm_##name##_copy(const wasm_##name##_t *t) {                                                    \
        return (wasm_##name##_t *)wasm_externtype_copy((const wasm_externtype_t *)t);                                  \
    }                                                                                                                  \
    wasm_externtype_t *wasm_##name##_as_externtype(wasm_##name##_t *t) {                                               \
        return (wasm_externtype_t *)t;                                                                                 \
    }                                                                                                                  \
    const wasm_externtype_t *wasm_##name##_as_externtype_const(const wasm_##name##_t *t) {                             \
        return (const wasm_externtype_t *)t;                                                                           \
    }                                                                                                                  \
    wasm_##name##_t *wasm_externtype_as_##name(wasm_externtype_t *t) {                                                 \
        return wasm_externtype_kind(t) == KIND ? (wasm_##name##_t *)t : NULL;                                          \
    }                                                                                                                  \
    const wasm_##name##_t *wasm_externtype_as_##name##_const(const wasm_externtype_t *t) {                             \
        return wasm_externtype_kind(t) == KIND ? (const wasm_##name##_t *)t : NULL;                                    \
    }
EXTERN_TYPE(functype, WASM_EXTERN_FUNC)
EXTERN_TYPE(globaltype, WASM_EXTERN_GLOBAL)
EXTERN_TYPE(tabletype, WASM_EXTERN_TABLE)
EXTERN_TYPE(memorytype, WASM_EXTERN_MEMORY)

const wasm_functype_t *donjon_externtype_tag(const wasm_externtype_t *t) {
    return wasm_externtype_kind(t) == DONJON_EXTERN_TAG ? (const wasm_functype_t *)t : NULL;
}

/* Functions. */
wasm_functype_t *wasm_functype_new(wasm_valtype_vec_t *params, wasm_valtype_vec_t *results) {
    struct extern_type *t = extern_type_new(WASM_EXTERN_FUNC);
    if (!t) {
        wasm_valtype_vec_delete(params);
        wasm_valtype_vec_delete(results);
        return NULL;
    }
    t->params = *params;
    t->results = *results;
    wasm_valtype_vec_new_empty(params);
    wasm_valtype_vec_new_empty(results);
    return (wasm_functype_t *)t;
}

const wasm_valtype_vec_t *wasm_functype_params(const wasm_functype_t *t) {
    return &((const struct extern_type *)t)->params;
}
const wasm_valtype_vec_t *wasm_functype_results(const wasm_functype_t *t) {
    return &((const struct extern_type *)t)->results;
}

static bool valtypes_of(const struct engine *e, const valtype *types, uint32_t n, wasm_valtype_vec_t *out) {
    wasm_valtype_vec_new_uninitialized(out, n);
    if (out->size != n) return false;
    bool ok = true;
    for (uint32_t i = 0; i < n; i++)
        ok &= (out->data[i] = valtype_of(e, types[i])) != NULL;
    return ok;
}

wasm_externtype_t *externtype_func(const struct engine *e, uint32_t type_id, wasm_externkind_t kind) {
    struct extern_type *t = extern_type_new(kind);
    if (!t) return NULL;
    const struct functype *f = type_func(e, type_id);
    bool params = valtypes_of(e, f->params, f->n_params, &t->params);
    bool results = valtypes_of(e, f->results, f->n_results, &t->results);
    if (params && results) return (wasm_externtype_t *)t;
    wasm_externtype_delete((wasm_externtype_t *)t);
    return NULL;
}

uint32_t functype_id(struct engine *e, const wasm_functype_t *type) {
    const struct extern_type *t = (const struct extern_type *)type;
    size_t n_params = t->params.size, n_results = t->results.size;
    if (n_params > MAX_PARAMS || n_results > MAX_RESULTS) return TYPE_NONE;
    valtype types[MAX_PARAMS + MAX_RESULTS];
    for (size_t i = 0; i < n_params; i++)
        types[i] = t->params.data[i]->type;
    for (size_t i = 0; i < n_results; i++)
        types[n_params + i] = t->results.data[i]->type;
    return type_intern_func(e, types, (uint32_t)n_params, types + n_params, (uint32_t)n_results);
}

static void print_valtypes(struct text *text, const wasm_valtype_vec_t *v) {
    for (size_t i = 0; i < v->size; i++) {
        char name[32];
        vt_print(v->data[i]->type, name);
        text_format(text, "%s%s", i ? ", " : "", name);
    }
}

char *donjon_functype_print(const wasm_functype_t *t, char *out, size_t size) {
    struct text text = {.out = out, .size = size};
    text_format(&text, "(");
    print_valtypes(&text, wasm_functype_params(t));
    text_format(&text, ") -> (");
    print_valtypes(&text, wasm_functype_results(t));
    text_format(&text, ")");
    return out;
}

/* Globals. */
wasm_globaltype_t *wasm_globaltype_new(wasm_valtype_t *content, wasm_mutability_t mutability) {
    struct extern_type *t = content ? extern_type_new(WASM_EXTERN_GLOBAL) : NULL;
    if (!t) {
        wasm_valtype_delete(content);
        return NULL;
    }
    t->content = content;
    t->mutability = mutability;
    return (wasm_globaltype_t *)t;
}

const wasm_valtype_t *wasm_globaltype_content(const wasm_globaltype_t *t) {
    return ((const struct extern_type *)t)->content;
}
wasm_mutability_t wasm_globaltype_mutability(const wasm_globaltype_t *t) {
    return ((const struct extern_type *)t)->mutability;
}

wasm_externtype_t *externtype_global(const struct engine *e, const struct globaltype *t) {
    return (wasm_externtype_t *)wasm_globaltype_new(valtype_of(e, t->type), t->mutable_ ? WASM_VAR : WASM_CONST);
}

/* Tables and memories. */
static uint32_t cut32(uint64_t n) {
    return n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
}

static void set_limits(struct extern_type *t, const struct donjon_limits64 *l) {
    t->limits = *l;
    t->limits32 = (wasm_limits_t){cut32(l->min), cut32(l->max)};
}

static struct donjon_limits64 limits64(const wasm_limits_t *l) {
    return (struct donjon_limits64){l->min, l->max == wasm_limits_max_default ? UINT64_MAX : l->max, false};
}

static struct donjon_limits64 limits_to(const struct limits *l) {
    return (struct donjon_limits64){l->min, l->has_max ? l->max : UINT64_MAX, l->is64};
}

struct limits limits_from(const struct donjon_limits64 *l) {
    return (struct limits){.min = l->min, .max = l->max, .has_max = l->max != UINT64_MAX, .is64 = l->is64};
}

wasm_tabletype_t *donjon_tabletype_new(wasm_valtype_t *element, const struct donjon_limits64 *l) {
    struct extern_type *t = element ? extern_type_new(WASM_EXTERN_TABLE) : NULL;
    if (!t) {
        wasm_valtype_delete(element);
        return NULL;
    }
    t->content = element;
    set_limits(t, l);
    return (wasm_tabletype_t *)t;
}

wasm_tabletype_t *wasm_tabletype_new(wasm_valtype_t *element, const wasm_limits_t *l) {
    struct donjon_limits64 wide = limits64(l);
    return donjon_tabletype_new(element, &wide);
}

const wasm_valtype_t *wasm_tabletype_element(const wasm_tabletype_t *t) {
    return ((const struct extern_type *)t)->content;
}
const wasm_limits_t *wasm_tabletype_limits(const wasm_tabletype_t *t) {
    return &((const struct extern_type *)t)->limits32;
}
struct donjon_limits64 donjon_tabletype_limits(const wasm_tabletype_t *t) {
    return ((const struct extern_type *)t)->limits;
}

wasm_externtype_t *externtype_table(const struct engine *e, const struct tabletype *t) {
    struct donjon_limits64 l = limits_to(&t->limits);
    return (wasm_externtype_t *)donjon_tabletype_new(valtype_of(e, t->elem), &l);
}

wasm_memorytype_t *donjon_memorytype_new(const struct donjon_limits64 *l) {
    struct extern_type *t = extern_type_new(WASM_EXTERN_MEMORY);
    if (t) set_limits(t, l);
    return (wasm_memorytype_t *)t;
}

wasm_memorytype_t *wasm_memorytype_new(const wasm_limits_t *l) {
    struct donjon_limits64 wide = limits64(l);
    return donjon_memorytype_new(&wide);
}

const wasm_limits_t *wasm_memorytype_limits(const wasm_memorytype_t *t) {
    return &((const struct extern_type *)t)->limits32;
}
struct donjon_limits64 donjon_memorytype_limits(const wasm_memorytype_t *t) {
    return ((const struct extern_type *)t)->limits;
}

wasm_externtype_t *externtype_memory(const struct limits *limits) {
    struct donjon_limits64 l = limits_to(limits);
    return (wasm_externtype_t *)donjon_memorytype_new(&l);
}

/* ---- import and export types ---- */

struct wasm_importtype_t {
    wasm_name_t module, name;
    wasm_externtype_t *type;
};

struct wasm_exporttype_t {
    wasm_name_t name;
    wasm_externtype_t *type;
};

static wasm_name_t take_name(wasm_name_t *name) {
    wasm_name_t taken = *name;
    wasm_byte_vec_new_empty(name);
    return taken;
}

wasm_importtype_t *wasm_importtype_new(wasm_name_t *module, wasm_name_t *name, wasm_externtype_t *type) {
    wasm_importtype_t *t = calloc(1, sizeof *t);
    if (t) {
        *t = (wasm_importtype_t){take_name(module), take_name(name), type};
        return t;
    }
    wasm_byte_vec_delete(module);
    wasm_byte_vec_delete(name);
    wasm_externtype_delete(type);
    return NULL;
}

wasm_importtype_t *wasm_importtype_copy(const wasm_importtype_t *t) {
    wasm_name_t module, name;
    wasm_byte_vec_copy(&module, &t->module);
    wasm_byte_vec_copy(&name, &t->name);
    return wasm_importtype_new(&module, &name, wasm_externtype_copy(t->type));
}

void wasm_importtype_delete(wasm_importtype_t *t) {
    if (!t) return;
    wasm_byte_vec_delete(&t->module);
    wasm_byte_vec_delete(&t->name);
    wasm_externtype_delete(t->type);
    free(t);
}

const wasm_name_t *wasm_importtype_module(const wasm_importtype_t *t) {
    return &t->module;
}
const wasm_name_t *wasm_importtype_name(const wasm_importtype_t *t) {
    return &t->name;
}
const wasm_externtype_t *wasm_importtype_type(const wasm_importtype_t *t) {
    return t->type;
}

wasm_exporttype_t *wasm_exporttype_new(wasm_name_t *name, wasm_externtype_t *type) {
    wasm_exporttype_t *t = calloc(1, sizeof *t);
    if (t) {
        *t = (wasm_exporttype_t){take_name(name), type};
        return t;
    }
    wasm_byte_vec_delete(name);
    wasm_externtype_delete(type);
    return NULL;
}

wasm_exporttype_t *wasm_exporttype_copy(const wasm_exporttype_t *t) {
    wasm_name_t name;
    wasm_byte_vec_copy(&name, &t->name);
    return wasm_exporttype_new(&name, wasm_externtype_copy(t->type));
}

void wasm_exporttype_delete(wasm_exporttype_t *t) {
    if (!t) return;
    wasm_byte_vec_delete(&t->name);
    wasm_externtype_delete(t->type);
    free(t);
}

const wasm_name_t *wasm_exporttype_name(const wasm_exporttype_t *t) {
    return &t->name;
}
const wasm_externtype_t *wasm_exporttype_type(const wasm_exporttype_t *t) {
    return t->type;
}
