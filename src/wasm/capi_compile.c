/* donjon/wasm.h: code ahead of time, and what can be seen of it. */
#include "capi.h"
#include "native/image.h"
#include "native/native.h"

#include <stdlib.h>
#include <string.h>

_Static_assert((int)DONJON_ID_SIZE == (int)IMAGE_ID, "ids are passed through");

const uint8_t *donjon_engine_id(void) {
    return engine_build_id;
}

uint64_t donjon_cpu_id(void) {
    return target_supported() ? target_features : 0;
}

struct donjon_module_counts donjon_module_counts(const wasm_module_t *module) {
    const struct module *m = as_ref(module)->module;
    return (struct donjon_module_counts){m->n_funcs, m->n_func_imports, m->code_size};
}

static bool is_name(struct bytes b, const char *name) {
    return b.size == strlen(name) && !memcmp(b.data, name, b.size);
}

static bool find_by_name_section(const struct module *m, const char *name, uint32_t *func) {
    struct bytes *names = calloc(m->n_funcs + 1, sizeof *names);
    if (!names) return false;
    module_func_names(m, names);
    uint32_t k = 0;
    while (k < m->n_funcs && !(names[k].data && is_name(names[k], name)))
        k++;
    free(names);
    *func = k;
    return k < m->n_funcs;
}

bool donjon_module_find_func(const wasm_module_t *module, const char *name, uint32_t *func) {
    const struct module *m = as_ref(module)->module;
    for (uint32_t k = 0; k < m->n_exports; k++) {
        if (m->exports[k].kind != EXTERN_FUNC || !is_name(m->exports[k].name, name)) continue;
        *func = m->exports[k].index;
        return true;
    }
    return find_by_name_section(m, name, func);
}

bool donjon_module_compile(const wasm_module_t *module, const struct donjon_compile_options *o, wasm_byte_vec_t *out) {
    const struct module *m = as_ref(module)->module;
    struct image_options options = {.fuel = o->fuel,
                                    .bounds_checks = o->bounds_checks,
                                    .no_faults = o->explicit_checks,
                                    .threads = o->threads,
                                    .digest = o->digest,
                                    .progress = o->progress,
                                    .ctx = o->progress_ctx};
    size_t size;
    *out = (wasm_byte_vec_t){0, NULL};
    void *image = target_supported() ? image_compile(m, &options, &size) : NULL;
    if (!image) return false;
    wasm_byte_vec_new(out, size, image); /* vectors are malloc's, images the platform's */
    engine_realloc(m->engine, image, 0);
    return out->data;
}

const char *donjon_store_use_image(wasm_store_t *s, const wasm_module_t *module, const uint8_t digest[DONJON_ID_SIZE],
                                   const void *image, size_t size) {
    if (!s->store->native) return "this store interprets";
    return native_use_image(s->store->native, as_ref(module)->module, digest, image, size);
}

/* Between the engine's callback and the embedder's. */
struct code_seen {
    void (*seen)(void *ctx, const struct donjon_code *code);
    void *ctx;
};

static void pass_on(void *ctx, const struct native_code *c) {
    const struct code_seen *to = ctx;
    struct donjon_code code = {c->address, c->size, c->func, (const char *)c->name.data, c->name.size};
    to->seen(to->ctx, &code);
}

void donjon_store_on_code(wasm_store_t *s, void (*seen)(void *ctx, const struct donjon_code *code), void *ctx) {
    struct code_seen *to = s->store->native ? store_alloc(s->store, sizeof *to) : NULL;
    if (!to) return;
    *to = (struct code_seen){seen, ctx};
    native_on_code(s->store->native, seen ? pass_on : NULL, to);
}

bool donjon_module_dump(const wasm_module_t *module, uint32_t func, const struct donjon_compile_options *o,
                        void (*line)(void *ctx, const char *stage, const char *text), void *ctx) {
    const struct module *m = as_ref(module)->module;
    struct compile_options options = {.find_code = UINT32_MAX,
                                      .bounds_checks = o->bounds_checks,
                                      .no_faults = o->explicit_checks,
                                      .fuel = o->fuel,
                                      .dump = line,
                                      .dump_ctx = ctx};
    struct compiled c;
    if (!target_supported() || func < m->n_func_imports || func >= m->n_funcs) return false;
    if (!compile_function(m, func, &options, &c)) return false;
    compiled_free(m->engine->platform, &c);
    return true;
}
