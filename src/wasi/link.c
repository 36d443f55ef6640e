#include "link.h"
#include "context.h"
#include <stdio.h>

/* What the engine hands back to a host function: which of them it is. */
struct binding {
    struct wasi *w;
    enum wasi_abi abi;
    uint8_t index, n_params;
    uint16_t wide; /* bit i: wasm parameter i is an i64 */
};

static wasm_trap_t *host_call(void *env, donjon_caller_t *caller, donjon_slot_t *slots) {
    const struct binding *b = env;
    struct donjon_memory_view memory = donjon_caller_memory(caller);
    uint64_t args[WASI_PARAMS_MAX];
    for (uint32_t i = 0; i < b->n_params; i++)
        args[i] = b->wide >> i & 1 ? slots[i].u64 : slots[i].u32;
    uint32_t result = 0;
    switch (wasi_call(b->w, b->abi, b->index, memory.data, memory.size, args, &result)) {
    case WASI_CALL_RETURN: slots[0].u32 = result; return NULL;
    case WASI_CALL_EXIT: return donjon_trap_new_exit(donjon_caller_store(caller), (int32_t)b->w->exit_code);
    default: break;
    }
    static const char text[] = "interrupted";
    wasm_message_t message = {sizeof text, (char *)(uintptr_t)text};
    return wasm_trap_new(donjon_caller_store(caller), &message);
}

/* The linker's spelling of a function's type, and what host_call needs of it. */
static void describe(const struct wasi_function *f, struct binding *b, char signature[WASI_PARAMS_MAX + 4]) {
    uint8_t n = 0;
    for (const char *p = f->params; *p; p++) {
        int times = *p == 'v' || *p == 's' ? 2 : 1;
        if (*p == 'I') b->wide |= (uint16_t)(1u << n);
        while (times--)
            signature[n++] = *p == 'I' ? 'I' : 'i';
    }
    b->n_params = n;
    bool returns = strcmp(f->name, "proc_exit") != 0;
    memcpy(signature + n, returns ? ":i" : ":", returns ? 3 : 2);
}

static bool define(struct wasi *w, donjon_linker_t *linker, enum wasi_abi abi, int index) {
    const struct wasi_function *f = &wasi_functions[index];
    struct binding *b = &w->bindings[(abi == WASI_ABI_UNSTABLE ? 0 : WASI_FUNCTIONS) + index];
    if (b->w) return true; /* imported twice */
    char signature[WASI_PARAMS_MAX + 4];
    describe(f, b, signature);
    b->w = w;
    b->abi = abi;
    b->index = (uint8_t)index;
    const char *module = abi == WASI_ABI_UNSTABLE ? "wasi_unstable" : "wasi_snapshot_preview1";
    return donjon_linker_define_func(linker, module, f->name, signature, host_call, b);
}

static bool memory_is_64(const wasm_externtype_t *type) {
    const wasm_memorytype_t *memory = wasm_externtype_as_memorytype_const(type);
    return memory && donjon_memorytype_limits(memory).is64;
}

static bool exports_64bit_memory(const wasm_module_t *module) {
    wasm_exporttype_vec_t exports;
    wasm_module_exports(module, &exports);
    bool found = false;
    for (size_t i = 0; i < exports.size; i++)
        found |= memory_is_64(wasm_exporttype_type(exports.data[i]));
    wasm_exporttype_vec_delete(&exports);
    return found;
}

bool wasi_link(struct wasi *w, donjon_linker_t *linker, const wasm_module_t *module, char *err, size_t err_size) {
    if (!w->bindings) {
        size_t size = 2 * WASI_FUNCTIONS * sizeof *w->bindings;
        w->bindings = w->host.realloc(w->host.ctx, NULL, size);
        if (w->bindings) memset(w->bindings, 0, size);
    }
    bool ok = w->bindings != NULL, any = false;
    wasm_importtype_vec_t imports;
    wasm_module_imports(module, &imports);
    for (size_t i = 0; ok && i < imports.size; i++) {
        const wasm_name_t *from = wasm_importtype_module(imports.data[i]),
                          *name = wasm_importtype_name(imports.data[i]);
        int abi = wasi_abi_of(from->data, from->size);
        if (abi < 0 || wasm_externtype_kind(wasm_importtype_type(imports.data[i])) != WASM_EXTERN_FUNC) continue;
        int index = wasi_function_find((enum wasi_abi)abi, name->data, name->size);
        if (index < 0) continue;
        any = true;
        ok = define(w, linker, (enum wasi_abi)abi, index);
    }
    wasm_importtype_vec_delete(&imports);
    if (!ok)
        snprintf(err, err_size, "out of memory while linking WASI");
    else if (any && exports_64bit_memory(module)) {
        ok = false;
        snprintf(err, err_size, "the program's memory is 64-bit, but WASI preview 1 has 32-bit pointers only");
    }
    return ok;
}
