/* The engine as a library: a guest that may use 4 MiB, a fifth of a second, and one function of ours.
 *
 *     embed              runs the guest below: a greeting, a sum, then two ways to misbehave
 *     embed FILE EXPORT  runs an export without parameters of another module that imports at most env.log
 *
 * Built with the tree (build/bin/embed), or by itself:
 *     cc examples/embed/embed.c -Iinclude build/src/wasm/libdonjon-wasm.a -lm */
#include <donjon/wasm.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* guest.wat, made binary by wat2wasm. */
#include "guest.h"

/* env.log (address, length): what a guest says goes to standard output. Everything it hands us is checked. */
static wasm_trap_t *guest_log(void *env, donjon_caller_t *caller, donjon_slot_t *args) {
    (void)env;
    struct donjon_memory_view memory = donjon_caller_memory(caller);
    uint64_t address = args[0].u32, length = args[1].u32;
    if (address > memory.size || length > memory.size - address) {
        wasm_message_t message;
        wasm_name_new_from_string_nt(&message, "log: text outside of memory");
        wasm_trap_t *trap = wasm_trap_new(donjon_caller_store(caller), &message);
        wasm_byte_vec_delete(&message);
        return trap;
    }
    printf("guest says: %.*s\n", (int)length, (const char *)memory.data + address);
    return NULL;
}

static void print_line(void *ctx, const char *text) {
    (void)ctx;
    printf("%s\n", text);
}

enum { SLOTS = 64 };

/* Calls an export. False when there is none or it trapped, which is then printed. */
static bool call(const wasm_instance_t *instance, const char *name, donjon_slot_t *slots) {
    wasm_extern_t *external = donjon_instance_export(instance, name);
    wasm_func_t *f = wasm_extern_as_func(external);
    wasm_trap_t *trap = NULL;
    if (!f || donjon_func_slots(f) > SLOTS)
        printf("%s is no function we can call\n", name);
    else
        trap = donjon_func_call(f, slots);
    if (trap) donjon_trap_print(trap, print_line, NULL);
    bool ok = f && donjon_func_slots(f) <= SLOTS && !trap;
    wasm_trap_delete(trap);
    wasm_extern_delete(external);
    return ok;
}

static void demonstrate(const wasm_instance_t *instance) {
    donjon_slot_t slots[SLOTS] = {{.i32 = 0}};
    call(instance, "greet", slots);
    slots[0].i32 = 40;
    slots[1].i32 = 2;
    if (call(instance, "add", slots)) printf("40 + 2 = %" PRId32 "\n", slots[0].i32);
    call(instance, "peek", slots); /* outside of its memory */
    call(instance, "spin", slots); /* for ever */
}

static wasm_instance_t *start(wasm_store_t *store, const void *bytes, size_t size) {
    struct donjon_module_error err;
    wasm_module_t *module = donjon_module_new(store, bytes, size, &err);
    if (!module) {
        printf("not a module: %s\n", err.message);
        return NULL;
    }
    donjon_linker_t *linker = donjon_linker_new(store);
    donjon_linker_define_func(linker, "env", "log", "ii:", guest_log, NULL);
    wasm_trap_t *trap;
    wasm_instance_t *instance = donjon_linker_instantiate(linker, module, &trap);
    if (!instance) donjon_trap_print(trap, print_line, NULL);
    wasm_trap_delete(trap);
    donjon_linker_delete(linker);
    wasm_module_delete(module);
    return instance;
}

static void *read_file(const char *path, size_t *size) {
    FILE *f = fopen(path, "rb");
    void *bytes = f ? malloc(64 << 20) : NULL;
    *size = bytes ? fread(bytes, 1, 64 << 20, f) : 0;
    if (f) fclose(f);
    return bytes;
}

int main(int argc, char **argv) {
    wasm_engine_t *engine = wasm_engine_new();
    struct donjon_limits limits = {.memory_bytes = 4 << 20, .wall_ns = 200000000};
    wasm_store_t *store = donjon_store_new(engine, &limits);
    size_t size = sizeof guest_wasm;
    void *file = argc == 3 ? read_file(argv[1], &size) : NULL;
    wasm_instance_t *instance = start(store, file ? file : guest_wasm, size);
    bool ok = instance;
    donjon_slot_t slots[SLOTS] = {{.i64 = 0}};
    if (instance && file)
        ok = call(instance, argv[2], slots);
    else if (instance)
        demonstrate(instance);
    wasm_instance_delete(instance);
    free(file);
    wasm_store_delete(store);
    wasm_engine_delete(engine);
    return ok ? 0 : 1;
}
