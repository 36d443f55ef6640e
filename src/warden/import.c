/* The functions that a program may import from "donjon", besides WASI's. docs/wasi.md has the manual. */
#include "warden.h"
#include <donjon/wasm.h>
#include <string.h>

/* The guest's bytes from `at` on, or NULL when they are not all in its memory. */
static uint8_t *guest_bytes(struct donjon_memory_view m, uint32_t at, uint64_t size) {
    return m.data && at <= m.size && size <= m.size - at ? m.data + at : NULL;
}

/* evidence(i32 bytes, i32 out, i32 capacity, i32 size) -> errno: evidence over 64 bytes of the program's choice. */
static wasm_trap_t *call_evidence(void *env, donjon_caller_t *caller, donjon_slot_t *slots) {
    enum { BYTES = 64 };
    struct donjon_memory_view m = donjon_caller_memory(caller);
    uint32_t capacity = slots[2].u32, needed = 0;
    uint8_t *bytes = guest_bytes(m, slots[0].u32, BYTES), *out = guest_bytes(m, slots[1].u32, capacity),
            *size = guest_bytes(m, slots[3].u32, sizeof needed), copy[BYTES];
    wasi_errno error = WASI_EFAULT;
    if (bytes && out && size) {
        memcpy(copy, bytes, sizeof copy);
        error = self_evidence(env, copy, out, capacity, &needed);
        if (error == WASI_SUCCESS || error == WASI_EOVERFLOW) memcpy(size, &needed, sizeof needed);
    }
    slots[0].u32 = error;
    return NULL;
}

bool import_link(struct warden *w, donjon_linker_t *linker) {
    return donjon_linker_define_func(linker, "donjon", "evidence", "iiii:i", call_evidence, w);
}
