/* wasm.h and donjon/wasm.h: modules and instances. */
#include "capi.h"

#include <stdlib.h>

/* ---- modules ---- */

static struct module *module_load(wasm_engine_t *e, const void *bytes, size_t size, struct donjon_module_error *err) {
    struct module_error why;
    struct module *m = module_new(e->engine, bytes, size, &why);
    if (!m && err) {
        *err = (struct donjon_module_error){.offset = why.offset, .func = why.func, .malformed = why.malformed};
        memcpy(err->message, why.message, sizeof err->message);
    }
    return m;
}
_Static_assert(sizeof((struct module_error *)0)->message == sizeof((struct donjon_module_error *)0)->message,
               "error messages are copied whole");

static wasm_module_t *module_handle(wasm_store_t *s, struct module *m) {
    wasm_ref_t *r = ref_new(s, REF_MODULE, m);
    if (!r) module_unref(m);
    return (wasm_module_t *)r;
}

wasm_module_t *donjon_module_new(wasm_store_t *s, const void *bytes, size_t size, struct donjon_module_error *err) {
    struct module *m = module_load(s->engine, bytes, size, err);
    return m ? module_handle(s, m) : NULL;
}

wasm_module_t *wasm_module_new(wasm_store_t *s, const wasm_byte_vec_t *binary) {
    return donjon_module_new(s, binary->data, binary->size, NULL);
}

bool wasm_module_validate(wasm_store_t *s, const wasm_byte_vec_t *binary) {
    struct module *m = module_load(s->engine, binary->data, binary->size, NULL);
    if (m) module_unref(m);
    return m;
}

void wasm_module_serialize(const wasm_module_t *module, wasm_byte_vec_t *out) {
    const struct module *m = as_ref(module)->module;
    wasm_byte_vec_new(out, m->size, (const char *)m->data);
}

wasm_module_t *wasm_module_deserialize(wasm_store_t *s, const wasm_byte_vec_t *bytes) {
    return wasm_module_new(s, bytes);
}

static wasm_externtype_t *module_externtype(const struct module *m, enum externkind kind, uint32_t index) {
    switch (kind) {
    case EXTERN_FUNC: return externtype_func(m->engine, m->func_types[index], WASM_EXTERN_FUNC);
    case EXTERN_TABLE: return externtype_table(m->engine, &m->tables[index].type);
    case EXTERN_MEMORY: return externtype_memory(&m->memories[index]);
    case EXTERN_GLOBAL: return externtype_global(m->engine, &m->globals[index].type);
    case EXTERN_TAG: return externtype_func(m->engine, m->tag_types[index], DONJON_EXTERN_TAG);
    }
    return NULL;
}

static wasm_name_t name_from(struct bytes b) {
    wasm_name_t name;
    wasm_byte_vec_new(&name, b.size, (const char *)b.data);
    return name;
}

void wasm_module_imports(const wasm_module_t *module, wasm_importtype_vec_t *out) {
    const struct module *m = as_ref(module)->module;
    wasm_importtype_vec_new_uninitialized(out, m->n_imports);
    for (size_t i = 0; i < out->size; i++) {
        const struct import *x = &m->imports[i];
        wasm_name_t from = name_from(x->module), name = name_from(x->name);
        out->data[i] = wasm_importtype_new(&from, &name, module_externtype(m, x->kind, x->index));
    }
}

void wasm_module_exports(const wasm_module_t *module, wasm_exporttype_vec_t *out) {
    const struct module *m = as_ref(module)->module;
    wasm_exporttype_vec_new_uninitialized(out, m->n_exports);
    for (size_t i = 0; i < out->size; i++) {
        const struct export *x = &m->exports[i];
        wasm_name_t name = name_from(x->name);
        out->data[i] = wasm_exporttype_new(&name, module_externtype(m, x->kind, x->index));
    }
}

bool donjon_module_custom_section(const wasm_module_t *module, const char *name, const uint8_t **data, size_t *size) {
    const struct module *m = as_ref(module)->module;
    for (uint32_t i = 0; i < m->n_customs; i++) {
        const struct custom_section *c = &m->customs[i];
        if (c->name.size != strlen(name) || memcmp(c->name.data, name, c->name.size)) continue;
        *data = c->payload.data;
        *size = c->payload.size;
        return true;
    }
    return false;
}

/* Shared modules. */
struct wasm_shared_module_t {
    wasm_engine_t *engine;
    struct module *module;
};

static wasm_shared_module_t *shared_make(wasm_engine_t *e, struct module *m) {
    wasm_shared_module_t *shared = malloc(sizeof *shared);
    if (shared)
        *shared = (wasm_shared_module_t){engine_retain(e), m};
    else
        module_unref(m);
    return shared;
}

wasm_shared_module_t *donjon_shared_module_new(wasm_engine_t *e, const void *bytes, size_t size,
                                               struct donjon_module_error *err) {
    struct module *m = module_load(e, bytes, size, err);
    return m ? shared_make(e, m) : NULL;
}

wasm_shared_module_t *wasm_module_share(const wasm_module_t *module) {
    const wasm_ref_t *r = as_ref(module);
    module_ref(r->module);
    return shared_make(r->store->engine, r->module);
}

wasm_module_t *wasm_module_obtain(wasm_store_t *s, const wasm_shared_module_t *shared) {
    if (s->engine != shared->engine) return NULL;
    module_ref(shared->module);
    return module_handle(s, shared->module);
}

void wasm_shared_module_delete(wasm_shared_module_t *shared) {
    if (!shared) return;
    module_unref(shared->module);
    wasm_engine_delete(shared->engine);
    free(shared);
}

/* ---- instances ---- */

static wasm_trap_t *trap_from_instantiation(wasm_store_t *s, const struct instantiate_error *err) {
    if (err->what == INSTANTIATE_TRAP) return trap_from_call(s, err->trap);
    enum donjon_trap_kind kind = err->what == INSTANTIATE_LINK ? DONJON_TRAP_LINK : DONJON_TRAP_OUT_OF_MEMORY;
    const char *message = err->message ? err->message : "out of memory";
    return trap_make(s, kind, message, strlen(message));
}

static wasm_instance_t *refused(wasm_trap_t **trap, wasm_trap_t *why) {
    if (trap)
        *trap = why;
    else
        wasm_trap_delete(why);
    return NULL;
}

wasm_instance_t *instance_make(wasm_store_t *s, struct module *m, const struct extern_ *imports,
                               enum unknown_import unknown, wasm_trap_t **trap) {
    struct instantiate_error err;
    if (trap) *trap = NULL;
    if (m->engine != s->engine->engine) return refused(trap, trap_text(s, "the module belongs to another engine"));
    struct instance *i = instantiate(s->store, m, imports, unknown, &err);
    if (i) return (wasm_instance_t *)ref_of(s, REF_INSTANCE, i, &i->user);
    wasm_trap_t *why = trap_from_instantiation(s, &err);
    engine_realloc(s->store->engine, err.message, 0);
    return refused(trap, why);
}

wasm_instance_t *wasm_instance_new(wasm_store_t *s, const wasm_module_t *module, const wasm_extern_vec_t *imports,
                                   wasm_trap_t **trap) {
    struct module *m = as_ref(module)->module;
    struct extern_ *externs = calloc(m->n_imports + 1, sizeof *externs);
    if (!externs) {
        if (trap) *trap = trap_make(s, DONJON_TRAP_OUT_OF_MEMORY, NULL, 0);
        return NULL;
    }
    for (size_t i = 0; imports && i < imports->size && i < m->n_imports; i++) {
        const wasm_ref_t *r = as_ref(imports->data[i]);
        if (r && r->store == s) externs[i] = extern_from(r); /* another store's object is none of ours */
    }
    wasm_instance_t *instance = instance_make(s, m, externs, UNKNOWN_REFUSED, trap);
    free(externs);
    return instance;
}

void wasm_instance_exports(const wasm_instance_t *instance, wasm_extern_vec_t *out) {
    const wasm_ref_t *r = as_ref(instance);
    const struct module *m = r->instance->module;
    wasm_extern_vec_new_uninitialized(out, m->n_exports);
    for (size_t i = 0; i < out->size; i++) {
        struct extern_ x = instance_extern(r->instance, m->exports[i].kind, m->exports[i].index);
        out->data[i] = (wasm_extern_t *)ref_extern(r->store, x);
    }
}

wasm_extern_t *donjon_instance_export(const wasm_instance_t *instance, const char *name) {
    const wasm_ref_t *r = as_ref(instance);
    return (wasm_extern_t *)ref_extern(r->store, instance_export(r->instance, name, strlen(name)));
}
