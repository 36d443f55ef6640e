/* donjon/wasm.h: linking by name. */
#include "capi.h"

#include <stdlib.h>

struct definition {
    struct definition *next; /* of its bucket, latest first */
    wasm_ref_t *object;
    size_t module_size, name_size;
    char names[]; /* module, then name */
};

enum { BUCKETS = 256 };

struct donjon_linker {
    wasm_store_t *store;
    enum unknown_import unknown;
    struct definition *buckets[BUCKETS];
};

donjon_linker_t *donjon_linker_new(wasm_store_t *s) {
    donjon_linker_t *l = calloc(1, sizeof *l);
    if (!l) return NULL;
    l->store = s;
    s->refs++;
    return l;
}

void donjon_linker_delete(donjon_linker_t *l) {
    if (!l) return;
    for (unsigned b = 0; b < BUCKETS; b++)
        for (struct definition *d = l->buckets[b], *next; d; d = next) {
            next = d->next;
            ref_release(d->object);
            free(d);
        }
    store_release(l->store);
    free(l);
}

/* FNV-1a: the names are the embedder's own, so nobody can choose them to collide. */
static uint32_t hash(uint32_t h, const void *data, size_t size) {
    for (const uint8_t *p = data; size--; p++)
        h = (h ^ *p) * 16777619u;
    return h;
}

static struct definition **bucket(donjon_linker_t *l, const void *module, size_t module_size, const void *name,
                                  size_t name_size) {
    uint32_t h = hash(hash(2166136261u, module, module_size), name, name_size);
    return &l->buckets[(h ^ h >> 16) % BUCKETS];
}

static bool define(donjon_linker_t *l, const char *module, size_t module_size, const void *name, size_t name_size,
                   wasm_ref_t *object) {
    struct definition *d = object ? malloc(sizeof *d + module_size + name_size) : NULL;
    if (!d) {
        ref_release(object);
        return false;
    }
    struct definition **b = bucket(l, module, module_size, name, name_size);
    *d = (struct definition){.next = *b, .object = object, .module_size = module_size, .name_size = name_size};
    memcpy(d->names, module, module_size);
    memcpy(d->names + module_size, name, name_size);
    *b = d;
    return true;
}

bool donjon_linker_define(donjon_linker_t *l, const char *module, const char *name, const wasm_extern_t *x) {
    if (as_ref(x)->store != l->store) return false;
    return define(l, module, strlen(module), name, strlen(name), ref_retain((wasm_ref_t *)x));
}

static wasm_valtype_t *valtype_from_letter(char c) {
    static const char letters[] = "iIfFVer";
    static const wasm_valkind_t kinds[] = {WASM_I32,    WASM_I64,       WASM_F32,    WASM_F64,
                                           DONJON_V128, WASM_EXTERNREF, WASM_FUNCREF};
    const char *at = strchr(letters, c);
    return c && at ? wasm_valtype_new(kinds[at - letters]) : NULL;
}

static bool valtypes_from(const char *letters, size_t n, wasm_valtype_vec_t *out) {
    wasm_valtype_vec_new_uninitialized(out, n);
    bool ok = out->size == n;
    for (size_t i = 0; i < out->size; i++)
        ok &= (out->data[i] = valtype_from_letter(letters[i])) != NULL;
    return ok;
}

static wasm_functype_t *functype_from(const char *signature) {
    const char *colon = strchr(signature, ':');
    if (!colon) return NULL;
    wasm_valtype_vec_t params, results;
    bool p = valtypes_from(signature, (size_t)(colon - signature), &params);
    bool r = valtypes_from(colon + 1, strlen(colon + 1), &results);
    if (p && r) return wasm_functype_new(&params, &results);
    wasm_valtype_vec_delete(&params);
    wasm_valtype_vec_delete(&results);
    return NULL;
}

bool donjon_linker_define_func(donjon_linker_t *l, const char *module, const char *name, const char *signature,
                               donjon_callback_t callback, void *env) {
    wasm_functype_t *type = functype_from(signature);
    wasm_func_t *f = type ? donjon_func_new(l->store, type, callback, env, NULL) : NULL;
    wasm_functype_delete(type);
    return define(l, module, strlen(module), name, strlen(name), (wasm_ref_t *)f);
}

bool donjon_linker_define_instance(donjon_linker_t *l, const char *module, const wasm_instance_t *instance) {
    const struct instance *i = as_ref(instance)->instance;
    if (i->store != l->store->store) return false;
    bool ok = true;
    for (uint32_t n = 0; n < i->module->n_exports; n++) {
        const struct export *x = &i->module->exports[n];
        wasm_ref_t *object = ref_extern(l->store, instance_extern(i, x->kind, x->index));
        ok &= define(l, module, strlen(module), x->name.data, x->name.size, object);
    }
    return ok;
}

void donjon_linker_set_unknown_imports_trap(donjon_linker_t *l, bool trap) {
    l->unknown = trap ? UNKNOWN_TRAPS : UNKNOWN_REFUSED;
}

void donjon_linker_set_unknown_imports_default(donjon_linker_t *l, bool returns) {
    l->unknown = returns ? UNKNOWN_RETURNS : UNKNOWN_REFUSED;
}

static struct extern_ find(donjon_linker_t *l, const struct import *x) {
    for (const struct definition *d = *bucket(l, x->module.data, x->module.size, x->name.data, x->name.size); d;
         d = d->next)
        if (d->module_size == x->module.size && d->name_size == x->name.size &&
            !memcmp(d->names, x->module.data, x->module.size) &&
            !memcmp(d->names + d->module_size, x->name.data, x->name.size))
            return extern_from(d->object);
    return (struct extern_){0};
}

wasm_instance_t *donjon_linker_instantiate(donjon_linker_t *l, const wasm_module_t *module, wasm_trap_t **trap) {
    struct module *m = as_ref(module)->module;
    struct extern_ *imports = calloc(m->n_imports + 1, sizeof *imports);
    if (!imports) {
        if (trap) *trap = trap_make(l->store, DONJON_TRAP_OUT_OF_MEMORY, NULL, 0);
        return NULL;
    }
    for (uint32_t n = 0; n < m->n_imports; n++)
        imports[n] = find(l, &m->imports[n]);
    wasm_instance_t *i = instance_make(l->store, m, imports, l->unknown, trap);
    free(imports);
    return i;
}
