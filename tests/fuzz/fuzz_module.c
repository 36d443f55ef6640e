/* Decoder and validator on any bytes. What they accept must read back with the helpers that execution tiers use without
 * bounds checks: every instruction's immediates lie inside its body, and bodies end with their last `end`. The same
 * bytes are tried again with an allocator that fails somewhere. Nothing may be lost. */
#include <malloc.h>
#include <stdlib.h>

#include "donjon/platform.h"
#include "opcodes.h"
#include "store.h"

static struct { size_t now, calls, fail_at; } heap;

static void *counting_realloc(void *ctx, void *block, size_t size) {
    (void)ctx;
    if (size && ++heap.calls > heap.fail_at) return NULL;
    if (block) heap.now -= malloc_usable_size(block);
    void *fresh = size ? realloc(block, size) : (free(block), NULL);
    if (size && !fresh) abort();
    if (fresh) heap.now += malloc_usable_size(fresh);
    return fresh;
}

static void skip_heaptype(const uint8_t **p) {
    (void)leb_s64(p);
}

static void skip_memarg(const uint8_t **p) {
    if (leb_u32(p) & 0x40) leb_u32(p);
    leb_u64(p);
}

static void skip_try_table(const struct module *m, const uint8_t **p) {
    struct blocktype_buf buf;
    module_read_blocktype(m, p, &buf);
    for (uint32_t n = leb_u32(p); n; n--) {
        if (*(*p)++ <= 1) leb_u32(p);
        leb_u32(p);
    }
}

static void skip_immediate(const struct module *m, unsigned imm, const uint8_t **p) {
    struct blocktype_buf buf;
    switch (imm) {
    case IMM_NONE: return;
    case IMM_BLOCK: module_read_blocktype(m, p, &buf); return;
    case IMM_TRY_TABLE: skip_try_table(m, p); return;
    case IMM_BR_TABLE:
        for (uint32_t n = leb_u32(p) + 1; n; n--)
            leb_u32(p);
        return;
    case IMM_TYPES:
        for (uint32_t n = leb_u32(p); n; n--)
            module_read_valtype(m, p);
        return;
    case IMM_MEMARG: skip_memarg(p); return;
    case IMM_MEMARG_LANE: skip_memarg(p), ++*p; return;
    case IMM_HEAPTYPE: skip_heaptype(p); return;
    case IMM_BR_CAST: ++*p, leb_u32(p), skip_heaptype(p), skip_heaptype(p); return;
    case IMM_I32:
    case IMM_I64: leb_s64(p); return;
    case IMM_F32: *p += 4; return;
    case IMM_F64: *p += 8; return;
    case IMM_V128:
    case IMM_SHUFFLE: *p += 16; return;
    case IMM_LANE: ++*p; return;
    case IMM_TYPE_TABLE:
    case IMM_TABLE_TABLE:
    case IMM_ELEM_TABLE:
    case IMM_MEMORY_MEMORY:
    case IMM_DATA_MEMORY:
    case IMM_TYPE_FIELD:
    case IMM_TYPE_COUNT:
    case IMM_TYPE_TYPE:
    case IMM_TYPE_DATA:
    case IMM_TYPE_ELEM: leb_u32(p), leb_u32(p); return;
    default: leb_u32(p); return;
    }
}

static void walk(const struct module *m, const struct func_body *b) {
    const uint8_t *p = m->data + b->offset, *end = p + b->size;
    for (uint32_t n = leb_u32(&p); n; n--) {
        leb_u32(&p);
        if (module_read_valtype(m, &p) == VT_BOT) abort();
    }
    unsigned depth = 1;
    while (depth) {
        uint32_t op = opcode_read(&p);
        if (op >= OPCODE_LIMIT || !opcode_table[op].text) abort();
        skip_immediate(m, opcode_table[op].imm, &p);
        depth += op == OP_BLOCK || op == OP_LOOP || op == OP_IF || op == OP_TRY || op == OP_TRY_TABLE;
        depth -= op == OP_END || op == OP_DELEGATE;
        if (p > end) abort();
    }
    if (p != end) abort();
}

static bool load(const struct donjon_platform *platform, const uint8_t *data, size_t size) {
    struct module_error err;
    struct engine *e = engine_new(platform);
    if (!e) return false;
    struct module *m = module_new(e, data, size, &err);
    for (uint32_t i = 0; m && i < m->n_funcs - m->n_func_imports; i++) {
        walk(m, &m->bodies[i]);
        if (i < 16) module_func_name(m, i);
    }
    if (!m && err.offset > size) abort();
    bool ok = m != NULL;
    module_unref(m);
    engine_delete(e);
    return ok;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const struct donjon_platform platform = {.realloc = counting_realloc};
    heap.now = heap.calls = 0;
    heap.fail_at = SIZE_MAX;
    load(&platform, data, size);
    if (heap.now || heap.calls > 64 * size + 1000) abort();
    heap.fail_at = size ? data[size - 1] % 32 : 0;
    heap.calls = 0;
    load(&platform, data, size);
    if (heap.now) abort();
    return 0;
}
