#include "gen.h"
#include "opcodes.h"
#include <stdbool.h>
#include <string.h>

enum {
    TYPES_MAX = 128, /* type section */
    VALUES_MAX = 24, /* parameters or results of one type: more than there are registers */
    FUNCS_MAX = 8,   /* inner functions */
    LOCALS_MAX = 60, /* with the parameters */
    LABELS_MAX = 24,
    GLOBALS_MAX = 10,
    MEMORIES_MAX = 3,
    TABLES_MAX = 2,
    TAGS_MAX = 3,
    DATAS = 3,
    ELEMS = 3,
    DEPTH_MAX = 8, /* of nested expressions */
    BUDGET = 500,  /* expressions and statements of one function */
    N_IMPORTS = 2, /* h0, h1 */
    TABLE_SIZE = 10
};

struct buffer {
    uint8_t *data;
    size_t n, room;
    bool full;
};

struct type {
    uint8_t n_params, n_results;
    valtype params[VALUES_MAX], results[VALUES_MAX];
};

struct label {
    uint8_t n;
    valtype types[VALUES_MAX]; /* what a branch to it takes */
    bool catches;              /* legacy: `rethrow` may name it */
};

struct gen {
    const uint8_t *seed, *seed_end;
    unsigned features;
    struct buffer code; /* the body that is being written */
    /* the module */
    struct type types[TYPES_MAX];
    uint32_t n_types, n_pool;
    uint32_t func_types[FUNCS_MAX], n_funcs;
    valtype globals[GLOBALS_MAX];
    uint32_t n_globals; /* then the fuel, the trace */
    bool memory64[MEMORIES_MAX];
    uint32_t n_memories;
    valtype tables[TABLES_MAX];
    uint32_t n_tables, tag_types[TAGS_MAX], n_tags;
    /* the function */
    const struct type *type;
    valtype locals[LOCALS_MAX + 10];
    uint32_t n_locals, scratch[10];
    struct label labels[LABELS_MAX];
    uint32_t n_labels, depth;
    int budget;
};

// clang-format off
const uint8_t gen_helper[71] = {
    0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00, 0x01, 0x07, 0x01, 0x60, 0x02, 0x7f, 0x7e, 0x01, 0x7e, 0x03, 0x02, 0x01, 0x00,
    0x05, 0x03, 0x01, 0x00, 0x01, 0x07, 0x06, 0x01, 0x02, 0x68, 0x31, 0x00, 0x00, 0x0a, 0x23, 0x01, 0x21, 0x00, 0x20, 0x00, 0x41,
    0xff, 0x01, 0x71, 0x20, 0x01, 0x37, 0x03, 0x00, 0x20, 0x00, 0x41, 0xff, 0x01, 0x71, 0x29, 0x03, 0x00, 0x20, 0x00, 0xad, 0x85,
    0x42, 0xb9, 0xf3, 0xdd, 0xf1, 0x09, 0x7c, 0x0b};
// clang-format on

/* ---- output ------------------------------------------------------------------------------------------------------ */

static void put(struct buffer *b, unsigned byte) {
    if (b->n < b->room)
        b->data[b->n++] = (uint8_t)byte;
    else
        b->full = true;
}
static void put_bytes(struct buffer *b, const void *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        put(b, ((const uint8_t *)p)[i]);
}
static void put_u(struct buffer *b, uint64_t v) {
    for (; v > 0x7f; v >>= 7)
        put(b, (v & 0x7f) | 0x80);
    put(b, (unsigned)v);
}
static void put_s(struct buffer *b, int64_t v) {
    while (v < -64 || v > 63) {
        put(b, (v & 0x7f) | 0x80);
        v >>= 7;
    }
    put(b, v & 0x7f);
}
static void put_name(struct buffer *b, const char *s) {
    put_u(b, strlen(s));
    put_bytes(b, s, strlen(s));
}
static void put_valtype(struct buffer *b, valtype t) {
    static const uint8_t numbers[] = {
        [KIND_I32] = 0x7f, [KIND_I64] = 0x7e, [KIND_F32] = 0x7d, [KIND_F64] = 0x7c, [KIND_V128] = 0x7b};
    if (!vt_is_ref(t))
        put(b, numbers[vt_kind(t)]);
    else
        put(b, t == VT_FUNCREF ? 0x70 : t == VT_EXTERNREF ? 0x6f : 0x69);
}
/* A section or body: its size, then its bytes. */
static void put_sized(struct buffer *b, const struct buffer *part) {
    put_u(b, part->n);
    put_bytes(b, part->data, part->n);
    b->full |= part->full;
}

/* ---- choices ----------------------------------------------------------------------------------------------------- */

static unsigned pick(struct gen *g, unsigned n) {
    return g->seed < g->seed_end ? *g->seed++ % n : 0;
}
static bool chance(struct gen *g, unsigned of) {
    return pick(g, of) == of - 1;
} /* never once the seed is used up */
static uint64_t pick_u64(struct gen *g) {
    uint64_t v = 0;
    for (int i = 0; i < 8; i++)
        v = v << 8 | pick(g, 256);
    return v;
}
static bool has(const struct gen *g, unsigned feature) {
    return (g->features & feature) != 0;
}

/* Value types of parameters, locals, globals and blocks. exnref only where it may be. */
static valtype pick_type(struct gen *g) {
    static const valtype all[] = {VT_I32, VT_I64,     VT_F32,       VT_F64,  VT_I32,
                                  VT_I64, VT_FUNCREF, VT_EXTERNREF, VT_V128, VT_V128};
    return all[pick(g, has(g, GEN_SIMD) ? 10 : 8)];
}

/* Numbers that are worth trying. */
static uint64_t pick_int(struct gen *g, unsigned bits) {
    unsigned how = pick(g, 8);
    if (how == 0) return pick(g, 256);
    if (how == 1) return (uint64_t)0 - 1 - pick(g, 8);
    if (how == 2) return (1ull << (bits - 1)) - pick(g, 3);
    if (how == 3) return 1ull << pick(g, bits);
    if (how == 4) return pick(g, 256) << 8;
    return pick_u64(g);
}
static uint64_t pick_float(struct gen *g, unsigned bits) {
    // clang-format off
    static const double some[] = {
        0.0, -0.0, 1.0, -1.0, 0.5, 1.5, -2.5, 0x1p31, -0x1p31, 0x1p32, 0x1p63, -0x1p63, 0x1p64, 2147483647.5, 4294967295.5,
        1e-40, 0x1p-126, 0x1p127, 1e300, 0x1.fffffep127, 0x1p23, 0x1p52, 8388607.5, __builtin_inf(), -__builtin_inf()};
    // clang-format on
    unsigned how = pick(g, 8);
    if (how >= 6) return bits == 32 ? (uint32_t)pick_u64(g) : pick_u64(g);
    if (how == 5)
        return bits == 32 ? 0x7f800000u | pick(g, 256) << 16 | pick(g, 2) << 31
                          : 0x7ff0000000000001u | (uint64_t)pick(g, 256) << 44;
    double d = some[pick(g, sizeof some / sizeof *some)];
    float f = (float)d;
    uint64_t v = 0;
    memcpy(&v, bits == 32 ? (void *)&f : (void *)&d, bits / 8);
    return v;
}

static uint32_t type_index(struct gen *g, const struct type *t) {
    for (uint32_t i = 0; i < g->n_types; i++)
        if (!memcmp(&g->types[i], t, sizeof *t)) return i;
    if (g->n_types == TYPES_MAX) return 0; /* pools are small: does not happen with VALUES_MAX, FUNCS_MAX as they are */
    g->types[g->n_types] = *t;
    return g->n_types++;
}

/* ---- code: pieces ------------------------------------------------------------------------------------------------ */

static void gen_expr(struct gen *g, valtype t);
static void gen_statements(struct gen *g);

static void op(struct gen *g, uint32_t o) {
    struct buffer *b = &g->code;
    if (o < OP_BASE_FB)
        put(b, o);
    else if (o < OP_BASE_FC)
        put(b, 0xfb), put_u(b, o - OP_BASE_FB);
    else if (o < OP_BASE_FD)
        put(b, 0xfc), put_u(b, o - OP_BASE_FC);
    else
        put(b, 0xfd), put_u(b, o - OP_BASE_FD);
}
static void op_u(struct gen *g, uint32_t o, uint64_t immediate) {
    op(g, o);
    put_u(&g->code, immediate);
}
static void op_i32(struct gen *g, uint32_t v) {
    op(g, OP_I32_CONST);
    put_s(&g->code, (int32_t)v);
}
static void op_i64(struct gen *g, uint64_t v) {
    op(g, OP_I64_CONST);
    put_s(&g->code, (int64_t)v);
}

static unsigned scratch_slot(valtype t) {
    if (t == VT_FUNCREF) return 6;
    if (t == VT_EXTERNREF) return 7;
    if (t == VT_EXNREF) return 8;
    return vt_kind(t);
}
static uint32_t scratch(const struct gen *g, valtype t) {
    return g->scratch[scratch_slot(t)];
}

static void gen_const_number(struct gen *g, valtype t) {
    struct buffer *b = &g->code;
    uint64_t v[2];
    switch (vt_kind(t)) {
    case KIND_I32: op_i32(g, (uint32_t)pick_int(g, 32)); return;
    case KIND_I64: op_i64(g, pick_int(g, 64)); return;
    case KIND_F32: op(g, OP_F32_CONST), v[0] = pick_float(g, 32), put_bytes(b, v, 4); return;
    case KIND_F64: op(g, OP_F64_CONST), v[0] = pick_float(g, 64), put_bytes(b, v, 8); return;
    default: break;
    }
    op(g, OP_V128_CONST);
    switch (pick(g, 4)) {
    case 0: v[0] = pick_int(g, 64), v[1] = pick_int(g, 64); break;
    case 1: v[0] = pick_float(g, 64), v[1] = pick_float(g, 64); break;
    case 2:
        v[0] = pick_float(g, 32) | pick_float(g, 32) << 32, v[1] = pick_float(g, 32) | pick_float(g, 32) << 32;
        break;
    default: v[0] = pick_u64(g), v[1] = pick_u64(g); break;
    }
    put_bytes(b, v, 16);
}

static void gen_const(struct gen *g, valtype t) {
    if (!vt_is_ref(t))
        gen_const_number(g, t);
    else if (t == VT_FUNCREF && chance(g, 2))
        op_u(g, OP_REF_FUNC, N_IMPORTS + pick(g, g->n_funcs));
    else
        op(g, OP_REF_NULL), put(&g->code, t == VT_FUNCREF ? 0x70 : t == VT_EXTERNREF ? 0x6f : 0x69);
}

/* A local of type t, or -1. Starts looking somewhere random. */
static int pick_local(struct gen *g, valtype t) {
    unsigned at = pick(g, 256);
    for (uint32_t i = 0; i < g->n_locals; i++) {
        uint32_t l = (at + i) % g->n_locals;
        if (g->locals[l] == t) return (int)l;
    }
    return -1;
}
static int pick_global(struct gen *g, valtype t) {
    unsigned at = pick(g, 256);
    for (uint32_t i = 0; i < g->n_globals; i++)
        if (g->globals[(at + i) % g->n_globals] == t) return (int)((at + i) % g->n_globals);
    return -1;
}

static void gen_leaf(struct gen *g, valtype t) {
    unsigned how = pick(g, 4);
    int l = how == 1 || how == 2 ? pick_local(g, t) : -1, gl = how == 3 ? pick_global(g, t) : -1;
    if (l >= 0)
        op_u(g, OP_LOCAL_GET, (uint32_t)l);
    else if (gl >= 0)
        op_u(g, OP_GLOBAL_GET, (uint32_t)gl);
    else
        gen_const(g, t);
}

static void gen_values(struct gen *g, const valtype *types, unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        if (i < 8)
            gen_expr(g, types[i]);
        else
            gen_leaf(g, types[i]);
    }
}
static void gen_drops(struct gen *g, unsigned n) {
    while (n--)
        op(g, OP_DROP);
}
/* A value list is on the stack: keeps the one at `keep`. */
static void gen_keep(struct gen *g, const valtype *types, unsigned n, unsigned keep) {
    gen_drops(g, n - keep - 1);
    if (!keep) return;
    op_u(g, OP_LOCAL_SET, scratch(g, types[keep]));
    gen_drops(g, keep);
    op_u(g, OP_LOCAL_GET, scratch(g, types[keep]));
}

/* Any value on the stack as an i64; `v` is a v128 local. */
static void gen_to_i64(struct gen *g, valtype t, uint32_t v) {
    if (vt_is_ref(t)) op(g, OP_REF_IS_NULL), op(g, OP_I64_EXTEND_I32_U);
    if (t == VT_I32) op(g, OP_I64_EXTEND_I32_U);
    if (t == VT_F32) op(g, OP_I32_REINTERPRET_F32), op(g, OP_I64_EXTEND_I32_U);
    if (t == VT_F64) op(g, OP_I64_REINTERPRET_F64);
    if (t != VT_V128) return;
    op_u(g, OP_LOCAL_TEE, v), op(g, OP_I64X2_EXTRACT_LANE), put(&g->code, 0);
    op_u(g, OP_LOCAL_GET, v), op(g, OP_I64X2_EXTRACT_LANE), put(&g->code, 1);
    op_i64(g, 0x9e3779b97f4a7c15u), op(g, OP_I64_MUL), op(g, OP_I64_ADD);
}

/* Leaves a trace of the value on the stack in a global of its own: makes wrong values visible. */
static void gen_trace(struct gen *g, valtype t) {
    gen_to_i64(g, t, scratch(g, VT_V128));
    op_u(g, OP_GLOBAL_GET, g->n_globals + 1);
    op_i64(g, 7), op(g, OP_I64_ROTL);
    op(g, OP_I64_XOR);
    op_u(g, OP_GLOBAL_SET, g->n_globals + 1);
}

static void gen_fuel(struct gen *g) {
    op_u(g, OP_GLOBAL_GET, g->n_globals);
    op(g, OP_I32_EQZ);
    op(g, OP_IF), put(&g->code, 0x40);
    op(g, OP_UNREACHABLE), op(g, OP_END);
    op_u(g, OP_GLOBAL_GET, g->n_globals);
    op_i32(g, 1), op(g, OP_I32_SUB);
    op_u(g, OP_GLOBAL_SET, g->n_globals);
}

/* ---- code: numbers ----------------------------------------------------------------------------------------------- */

static bool op_usable(const struct gen *g, uint32_t o) {
    const struct opcode_info *i = &opcode_table[o];
    if (!i->text || i->sig == SIG_SPECIAL || (i->sig == SIG_NONE && i->imm == IMM_NONE)) return false;
    if (o >= OP_BASE_FD && !has(g, GEN_SIMD)) return false;
    if (o >= OP_BASE_FD + 0x100 && !has(g, GEN_RELAXED_SIMD)) return false;
    return i->imm == IMM_NONE || i->imm == IMM_MEMARG || i->imm == IMM_MEMARG_LANE || i->imm == IMM_LANE ||
           i->imm == IMM_SHUFFLE;
}

/* An instruction whose result is of kind `result` (0: none), from a random place on; 0 when there is none. */
static uint32_t pick_op(struct gen *g, unsigned result) {
    uint32_t at = (pick(g, 256) << 8 | pick(g, 256)) % OPCODE_LIMIT;
    for (uint32_t i = 0; i < OPCODE_LIMIT; i++) {
        uint32_t o = (at + i) % OPCODE_LIMIT;
        if (op_usable(g, o) && sig_result(opcode_table[o].sig) == result) return o;
    }
    return 0;
}

static bool starts(const char *s, const char *prefix) {
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

/* May the instruction make a NaN whose bits the specification leaves open? */
static bool makes_nan(uint32_t o) {
    static const char *const exact[] = {"abs",     "neg",  "copysign", "load",  "const",   "reinterpret",
                                        "convert", "eq",   "ne",       "lt",    "gt",      "le",
                                        "ge",      "pmin", "pmax",     "splat", "replace", "extract"};
    const char *text = opcode_table[o].text, *dot = strchr(text, '.');
    unsigned result = sig_result(opcode_table[o].sig);
    if (result != KIND_F32 && result != KIND_F64 && result != KIND_V128) return false;
    if (text[0] != 'f' || !dot) return false;
    for (size_t i = 0; i < sizeof exact / sizeof *exact; i++)
        if (starts(dot + 1, exact[i]) && !starts(dot + 1, "nearest")) return false;
    return true;
}

/* Replaces a NaN on the stack by the canonical one. */
static void gen_canonical(struct gen *g, uint32_t o) {
    static const uint8_t nan32[] = {0, 0, 0xc0, 0x7f}, nan64[] = {0, 0, 0, 0, 0, 0, 0xf8, 0x7f};
    valtype t = (valtype)sig_result(opcode_table[o].sig);
    uint32_t s = scratch(g, t);
    bool wide = starts(opcode_table[o].text, "f64");
    op_u(g, OP_LOCAL_TEE, s);
    op(g, t == VT_V128 ? OP_V128_CONST : wide ? OP_F64_CONST : OP_F32_CONST);
    for (unsigned i = 0; i < (t == VT_V128 ? 16 / (wide ? 8 : 4) : 1); i++) {
        if (wide)
            put_bytes(&g->code, nan64, 8);
        else
            put_bytes(&g->code, nan32, 4);
    }
    op_u(g, OP_LOCAL_GET, s);
    op_u(g, OP_LOCAL_GET, s);
    if (t == VT_V128)
        op(g, wide ? OP_F64X2_EQ : OP_F32X4_EQ), op(g, OP_V128_BITSELECT);
    else
        op(g, wide ? OP_F64_EQ : OP_F32_EQ), op(g, OP_SELECT);
    op_u(g, OP_LOCAL_TEE, s); /* the scratch local may be read later */
}

/* An address, most of the time inside the memory's first page: a trap ends what the call could have shown. */
static void gen_address(struct gen *g, bool is64) {
    if (chance(g, 4)) { /* constant: near, or around the end of the first page */
        uint32_t at = chance(g, 60) ? 65520 + pick(g, 20) : pick(g, 256);
        if (is64)
            op_i64(g, at);
        else
            op_i32(g, at);
        return;
    }
    gen_expr(g, is64 ? VT_I64 : VT_I32);
    if (chance(g, 200)) return;
    uint32_t mask = chance(g, 16) ? 0xffff : 0x1ff;
    if (is64)
        op_i64(g, mask), op(g, OP_I64_AND);
    else
        op_i32(g, mask), op(g, OP_I32_AND);
}
static uint64_t pick_offset(struct gen *g, bool is64) {
    unsigned how = pick(g, 256);
    if (how < 252) return how < 128 ? 0 : pick(g, 256);
    if (how < 254) return pick(g, 256) << 8;
    if (how == 254 && is64) return pick_u64(g);
    return (uint32_t)pick_u64(g);
}

static void gen_memarg(struct gen *g, unsigned align_max, uint32_t memory) {
    unsigned align = pick(g, align_max + 1);
    put_u(&g->code, memory ? align | 0x40 : align);
    if (memory) put_u(&g->code, memory);
    put_u(&g->code, pick_offset(g, g->memory64[memory]));
}

static void gen_op(struct gen *g, uint32_t o) {
    const struct opcode_info *i = &opcode_table[o];
    bool access = i->imm == IMM_MEMARG || i->imm == IMM_MEMARG_LANE;
    uint32_t memory = access ? pick(g, g->n_memories) : 0;
    for (unsigned p = 0; p < sig_params(i->sig); p++) {
        unsigned kind = sig_param(i->sig, p);
        if (kind == SIG_ADDR)
            gen_address(g, g->memory64[memory]);
        else
            gen_expr(g, (valtype)kind);
    }
    op(g, o);
    if (access) gen_memarg(g, i->aux, memory);
    if (i->imm == IMM_LANE) put(&g->code, pick(g, i->aux));
    if (i->imm == IMM_MEMARG_LANE) put(&g->code, pick(g, 16u >> i->aux));
    for (int k = 0; i->imm == IMM_SHUFFLE && k < 16; k++)
        put(&g->code, pick(g, 32));
    if (makes_nan(o)) gen_canonical(g, o);
}

/* ---- code: control ----------------------------------------------------------------------------------------------- */

static bool push_label(struct gen *g, const valtype *types, unsigned n) {
    if (g->n_labels == LABELS_MAX) return false;
    struct label *l = &g->labels[g->n_labels++];
    memset(l, 0, sizeof *l);
    l->n = (uint8_t)n;
    memcpy(l->types, types, n * sizeof *types);
    return true;
}
static void end_label(struct gen *g) {
    op(g, OP_END);
    g->n_labels--;
}

static void put_blocktype(struct gen *g, const struct type *t) {
    if (t->n_params == 0 && t->n_results == 0)
        put(&g->code, 0x40);
    else if (t->n_params == 0 && t->n_results == 1)
        put_valtype(&g->code, t->results[0]);
    else
        put_s(&g->code, type_index(g, t));
}

/* Parameters of a block are on the stack: mostly dropped, one may be kept in its local. */
static void gen_take(struct gen *g, const valtype *types, unsigned n) {
    for (unsigned i = n; i-- > 0;) {
        if (chance(g, 2))
            op_u(g, OP_LOCAL_SET, scratch(g, types[i]));
        else
            op(g, OP_DROP);
    }
}

static void gen_block(struct gen *g, const struct type *t) {
    bool loop = chance(g, 3), cond = !loop && chance(g, 2);
    gen_values(g, t->params, t->n_params);
    if (cond) gen_expr(g, VT_I32);
    if (!push_label(g, loop ? t->params : t->results, loop ? t->n_params : t->n_results)) {
        gen_drops(g, t->n_params + cond);
        gen_values(g, t->results, t->n_results);
        return;
    }
    op(g, loop ? OP_LOOP : cond ? OP_IF : OP_BLOCK);
    put_blocktype(g, t);
    if (loop) gen_fuel(g);
    gen_take(g, t->params, t->n_params);
    gen_statements(g);
    gen_values(g, t->results, t->n_results);
    bool same = t->n_params == t->n_results && !memcmp(t->params, t->results, sizeof t->params);
    if (cond && !(same && chance(g, 2))) { /* `else` may only be left out where nothing changes */
        op(g, OP_ELSE);
        gen_take(g, t->params, t->n_params);
        gen_statements(g);
        gen_values(g, t->results, t->n_results);
    }
    end_label(g);
}

/* Leaves for good: what follows is unreachable, so it stands for a value of any type. */
static void gen_leave(struct gen *g) {
    unsigned how = pick(g, 8);
    uint32_t l = pick(g, g->n_labels);
    const struct label *label = &g->labels[g->n_labels - 1 - l];
    if (how < 3) {
        gen_values(g, label->types, label->n);
        op_u(g, OP_BR, l);
    } else if (how < 5) { /* br_table over all labels that take the same */
        gen_values(g, label->types, label->n);
        gen_expr(g, VT_I32);
        uint32_t targets[8], n = 0;
        for (uint32_t i = 0; i < g->n_labels && n < 8; i++) {
            const struct label *other = &g->labels[g->n_labels - 1 - i];
            if (other->n == label->n && !memcmp(other->types, label->types, label->n * sizeof(valtype)))
                targets[n++] = i;
        }
        op_u(g, OP_BR_TABLE, n);
        for (uint32_t i = 0; i < n; i++)
            put_u(&g->code, targets[i]);
        put_u(&g->code, l);
    } else if (how == 5 && g->n_tags) {
        uint32_t tag = pick(g, g->n_tags);
        const struct type *t = &g->types[g->tag_types[tag]];
        gen_values(g, t->params, t->n_params);
        op_u(g, OP_THROW, tag);
    } else if (how == 6) {
        op(g, OP_UNREACHABLE);
    } else {
        gen_values(g, g->type->results, g->type->n_results);
        op(g, OP_RETURN);
    }
}

static bool same_results(const struct type *a, const struct type *b) {
    return a->n_results == b->n_results && !memcmp(a->results, b->results, sizeof a->results);
}

/* Calls a function of type `type`: directly if there is one, through the table, or by reference. */
static void gen_call_of(struct gen *g, uint32_t func, bool tail) {
    const uint32_t type = g->func_types[func];
    const struct type *t = &g->types[type];
    gen_values(g, t->params, t->n_params);
    unsigned how = pick(g, 4);
    if (how == 1 || (how == 2 && !has(g, GEN_TYPED_REFS))) {
        if (chance(g, 4))
            gen_expr(g, VT_I32);
        else
            op_i32(g, func);
        op_u(g, tail ? OP_RETURN_CALL_INDIRECT : OP_CALL_INDIRECT, type);
        put_u(&g->code, 0);
    } else if (how == 2) {
        op_u(g, OP_REF_FUNC, N_IMPORTS + func);
        op_u(g, tail ? OP_RETURN_CALL_REF : OP_CALL_REF, type);
    } else {
        op_u(g, tail ? OP_RETURN_CALL : OP_CALL, N_IMPORTS + func);
    }
}

static bool gen_tail_call(struct gen *g) {
    unsigned at = pick(g, g->n_funcs);
    for (unsigned i = 0; i < g->n_funcs; i++) {
        uint32_t f = (at + i) % g->n_funcs;
        if (!same_results(&g->types[g->func_types[f]], g->type)) continue;
        gen_call_of(g, f, true);
        return true;
    }
    return false;
}

/* A call with a result of type t; false when no function has one. */
static bool gen_call(struct gen *g, valtype t) {
    if (t == VT_I32 && chance(g, 8)) {
        gen_expr(g, VT_I32);
        op_u(g, OP_CALL, 0);
        return true;
    }
    if (t == VT_I64 && chance(g, 8)) {
        gen_expr(g, VT_I32), gen_expr(g, VT_I64);
        op_u(g, OP_CALL, 1);
        return true;
    }
    unsigned at = pick(g, g->n_funcs);
    for (unsigned i = 0; i < g->n_funcs; i++) {
        uint32_t f = (at + i) % g->n_funcs;
        const struct type *type = &g->types[g->func_types[f]];
        for (unsigned r = 0; r < type->n_results; r++) {
            if (type->results[r] != t) continue;
            gen_call_of(g, f, false);
            gen_keep(g, type->results, type->n_results, r);
            return true;
        }
    }
    return false;
}

/* ---- code: exceptions -------------------------------------------------------------------------------------------- */

struct clause {
    bool all, with_ref;
    uint32_t tag, label;
};

/* A catch clause, random but for its label, and the values it hands over. */
static struct type pick_clause(struct gen *g, struct clause *c) {
    struct type caught = {0};
    *c = (struct clause){.all = chance(g, 3), .with_ref = chance(g, 3), .tag = pick(g, g->n_tags)};
    if (!c->all) {
        const struct type *tag = &g->types[g->tag_types[c->tag]];
        caught.n_results = tag->n_params;
        memcpy(caught.results, tag->params, sizeof tag->params);
    }
    if (c->with_ref) caught.results[caught.n_results++] = VT_EXNREF;
    return caught;
}

/* Clauses before the last one, to any label that takes what they hand over. */
static unsigned pick_more_clauses(struct gen *g, struct clause *c, unsigned max) {
    unsigned n = 0;
    for (unsigned tries = pick(g, max + 1); tries--;) {
        struct type caught = pick_clause(g, &c[n]);
        for (uint32_t l = 0; l < g->n_labels; l++) {
            const struct label *label = &g->labels[g->n_labels - 1 - l];
            if (label->n != caught.n_results || memcmp(label->types, caught.results, label->n * sizeof(valtype)) != 0)
                continue;
            c[n++].label = l;
            break;
        }
    }
    return n;
}

static void put_clauses(struct gen *g, const struct clause *c, unsigned n) {
    put_u(&g->code, n);
    for (unsigned i = 0; i < n; i++) {
        put(&g->code, (c[i].all ? 2 : 0) + c[i].with_ref);
        if (!c[i].all) put_u(&g->code, c[i].tag);
        put_u(&g->code, c[i].label);
    }
}

/* block $out (result t)
 *   block $handler (result PARAMS [exnref])
 *     try_table (result t) ... (catch[_ref] tag $handler) BODY end
 *     br $out
 *   end
 *   HANDLER
 * end */
static void gen_try_table(struct gen *g, valtype t) {
    struct clause clauses[3], last;
    struct type result = {.n_results = 1, .results = {t}}, caught = pick_clause(g, &last);
    if (g->n_labels + 3 > LABELS_MAX) {
        gen_leaf(g, t);
        return;
    }
    push_label(g, result.results, 1);
    op(g, OP_BLOCK), put_blocktype(g, &result);
    push_label(g, caught.results, caught.n_results);
    op(g, OP_BLOCK), put_blocktype(g, &caught);
    unsigned n = pick_more_clauses(g, clauses, 2);
    clauses[n] = last;
    op(g, OP_TRY_TABLE), put_blocktype(g, &result);
    put_clauses(g, clauses, n + 1);
    push_label(g, result.results, 1);
    gen_statements(g);
    gen_expr(g, t);
    end_label(g);
    op_u(g, OP_BR, 1);
    end_label(g);
    if (last.with_ref && chance(g, 3))
        op(g, OP_THROW_REF);
    else
        gen_take(g, caught.results, caught.n_results);
    gen_statements(g);
    gen_expr(g, t);
    end_label(g);
}

static void gen_legacy_try(struct gen *g, valtype t) {
    struct type result = {.n_results = 1, .results = {t}};
    if (!push_label(g, result.results, 1)) {
        gen_leaf(g, t);
        return;
    }
    op(g, OP_TRY), put_blocktype(g, &result);
    gen_statements(g);
    gen_expr(g, t);
    unsigned how = pick(g, 8);
    if (how == 7) { /* delegate: outside of this try */
        g->n_labels--;
        op_u(g, OP_DELEGATE, pick(g, g->n_labels));
        return;
    }
    g->labels[g->n_labels - 1].catches = true;
    if (how & 1) {
        uint32_t tag = pick(g, g->n_tags);
        const struct type *tt = &g->types[g->tag_types[tag]];
        op_u(g, OP_CATCH, tag);
        gen_take(g, tt->params, tt->n_params);
        gen_statements(g);
        gen_expr(g, t);
    }
    if (how & 2) {
        op(g, OP_CATCH_ALL);
        if (how & 4) op_u(g, OP_RETHROW, 0);
        gen_statements(g);
        gen_expr(g, t);
    }
    end_label(g);
}

static bool gen_rethrow(struct gen *g) {
    for (uint32_t i = 0; i < g->n_labels; i++) {
        if (!g->labels[g->n_labels - 1 - i].catches) continue;
        op_u(g, OP_RETHROW, i);
        return true;
    }
    return false;
}

/* ---- code: references and tables --------------------------------------------------------------------------------- */

static void gen_table_index(struct gen *g) {
    if (chance(g, 30))
        gen_expr(g, VT_I32);
    else
        op_i32(g, pick(g, TABLE_SIZE));
}
static void gen_table_count(struct gen *g) {
    if (chance(g, 30))
        gen_expr(g, VT_I32);
    else
        op_i32(g, pick(g, 3));
}

static bool gen_ref_op(struct gen *g, valtype t) { /* a value of type t that references make */
    uint32_t table = pick(g, g->n_tables);
    if (t == VT_I32) {
        unsigned how = pick(g, 3);
        if (how == 0)
            gen_expr(g, chance(g, 2) ? VT_EXTERNREF : VT_FUNCREF), op(g, OP_REF_IS_NULL);
        else if (how == 1)
            op_u(g, OP_TABLE_SIZE, table);
        else
            gen_expr(g, g->tables[table]), op_i32(g, pick(g, 4)), op_u(g, OP_TABLE_GROW, table);
        return true;
    }
    if (!vt_is_ref(t) || t == VT_EXNREF) return false;
    if (g->tables[table] != t) table = (table + 1) % g->n_tables;
    if (has(g, GEN_TYPED_REFS) && chance(g, 30)) {
        gen_expr(g, t);
        op(g, OP_REF_AS_NON_NULL);
        return true;
    }
    if (g->tables[table] != t) return false;
    gen_table_index(g);
    op_u(g, OP_TABLE_GET, table);
    return true;
}

static void gen_br_on_null(struct gen *g) { /* a statement */
    uint32_t l = pick(g, g->n_labels);
    const struct label *label = &g->labels[g->n_labels - 1 - l];
    gen_values(g, label->types, label->n);
    if (label->n && vt_is_ref(label->types[label->n - 1]) && chance(g, 2)) {
        op_u(g, OP_BR_ON_NON_NULL, l);
        gen_drops(g, label->n - 1u);
        return;
    }
    gen_expr(g, chance(g, 2) ? VT_EXTERNREF : VT_FUNCREF);
    op_u(g, OP_BR_ON_NULL, l);
    gen_drops(g, label->n + 1u);
}

static void gen_table_statement(struct gen *g) {
    uint32_t table = pick(g, g->n_tables), other = pick(g, g->n_tables);
    unsigned how = pick(g, 5);
    gen_table_index(g);
    if (how == 0) {
        gen_expr(g, g->tables[table]);
        op_u(g, OP_TABLE_SET, table);
    } else if (how == 1) {
        gen_expr(g, g->tables[table]);
        gen_table_count(g);
        op_u(g, OP_TABLE_FILL, table);
    } else if (how == 2) {
        if (g->tables[other] != g->tables[table]) other = table;
        gen_table_index(g), gen_table_count(g);
        op_u(g, OP_TABLE_COPY, table), put_u(&g->code, other);
    } else if (how == 3) {
        op_i32(g, pick(g, 3)), gen_table_count(g);
        op_u(g, OP_TABLE_INIT, pick(g, ELEMS)), put_u(&g->code, 0);
    } else {
        op(g, OP_DROP);
        op_u(g, OP_ELEM_DROP, pick(g, ELEMS));
    }
}

static void gen_memory_statement(struct gen *g) {
    uint32_t m = pick(g, g->n_memories), from = pick(g, g->n_memories);
    bool is64 = g->memory64[m];
    unsigned how = pick(g, 5);
    if (how == 4) {
        op_u(g, OP_DATA_DROP, pick(g, DATAS));
        return;
    }
    gen_address(g, is64);
    if (how == 0) {
        gen_expr(g, VT_I32);
        gen_address(g, is64);
        op_u(g, OP_MEMORY_FILL, m);
    } else if (how == 1) {
        gen_address(g, g->memory64[from]);
        gen_address(g, is64 && g->memory64[from]);
        op_u(g, OP_MEMORY_COPY, m), put_u(&g->code, from);
    } else if (how == 2) {
        op_i32(g, pick(g, 8)), op_i32(g, pick(g, 10));
        op_u(g, OP_MEMORY_INIT, pick(g, DATAS)), put_u(&g->code, m);
    } else {
        if (is64)
            op_i64(g, 3), op(g, OP_I64_AND);
        else
            op_i32(g, 3), op(g, OP_I32_AND);
        op_u(g, OP_MEMORY_GROW, m);
        op(g, OP_DROP);
    }
}

/* ---- code: expressions and statements ---------------------------------------------------------------------------- */

/* More than eight of one class: some travel in memory. */
static void gen_wide_list(struct gen *g, uint8_t *n, valtype *types) {
    bool vectors = chance(g, 2) && has(g, GEN_SIMD);
    *n = (uint8_t)(9 + pick(g, VALUES_MAX - 9));
    for (unsigned i = 0; i < *n; i++) {
        types[i] = pick_type(g);
        if (chance(g, 3)) continue;
        types[i] = vectors ? (chance(g, 2) ? VT_F64 : VT_V128) : chance(g, 2) ? VT_I32 : VT_I64;
    }
}

static void gen_random_type(struct gen *g, struct type *t, unsigned max) {
    memset(t, 0, sizeof *t);
    if (chance(g, 10)) {
        if (chance(g, 2))
            gen_wide_list(g, &t->n_params, t->params);
        else
            t->n_params = (uint8_t)pick(g, 3), t->params[0] = t->params[1] = VT_I64;
        if (!t->n_params || chance(g, 2)) gen_wide_list(g, &t->n_results, t->results);
        if (t->n_params < 2) t->params[1] = 0;
        if (t->n_params < 1) t->params[0] = 0;
        return;
    }
    t->n_params = (uint8_t)pick(g, max + 1);
    for (unsigned i = 0; i < t->n_params; i++)
        t->params[i] = pick_type(g);
    t->n_results = (uint8_t)pick(g, max + 1);
    for (unsigned i = 0; i < t->n_results; i++)
        t->results[i] = pick_type(g);
}

static void gen_block_for(struct gen *g, valtype t) {
    struct type bt = g->types[pick(g, g->n_pool)];
    unsigned keep = 0;
    while (keep < bt.n_results && bt.results[keep] != t)
        keep++;
    if (keep == bt.n_results || chance(g, 2)) {
        memset(&bt, 0, sizeof bt);
        bt.n_results = 1, bt.results[0] = t, keep = 0;
    }
    gen_block(g, &bt);
    gen_keep(g, bt.results, bt.n_results, keep);
}

static void gen_select(struct gen *g, valtype t) {
    gen_expr(g, t), gen_expr(g, t), gen_expr(g, VT_I32);
    if (!vt_is_ref(t) && chance(g, 2)) {
        op(g, OP_SELECT);
        return;
    }
    op_u(g, OP_SELECT_T, 1);
    put_valtype(&g->code, t);
}

/* br_if whose label takes one t, the value falling through. */
static bool gen_br_if_value(struct gen *g, valtype t) {
    uint32_t at = pick(g, g->n_labels);
    for (uint32_t i = 0; i < g->n_labels; i++) {
        uint32_t l = (at + i) % g->n_labels;
        const struct label *label = &g->labels[g->n_labels - 1 - l];
        if (label->n != 1 || label->types[0] != t) continue;
        gen_expr(g, t), gen_expr(g, VT_I32);
        op_u(g, OP_BR_IF, l);
        return true;
    }
    return false;
}

/* ---- code: what compilers look for ------------------------------------------------------------------------------- */

static valtype pick_number(struct gen *g) {
    static const valtype all[] = {VT_I32, VT_I64, VT_F32, VT_F64, VT_V128};
    return all[pick(g, has(g, GEN_SIMD) ? 5 : 4)];
}

/* A compare as a condition. */
static void gen_condition(struct gen *g) {
    static const uint32_t bases[4] = {OP_I32_EQ, OP_I64_EQ, OP_F32_EQ, OP_F64_EQ};
    unsigned which = pick(g, 4);
    valtype t = which == 0 ? VT_I32 : which == 1 ? VT_I64 : which == 2 ? VT_F32 : VT_F64;
    if (chance(g, 6)) { /* a test of bits */
        bool wide = chance(g, 2);
        gen_expr(g, wide ? VT_I64 : VT_I32), gen_leaf(g, wide ? VT_I64 : VT_I32);
        op(g, wide ? OP_I64_AND : OP_I32_AND);
        op(g, wide ? OP_I64_EQZ : OP_I32_EQZ);
    } else {
        gen_expr(g, t);
        if (chance(g, 2))
            gen_const_number(g, t);
        else
            gen_expr(g, t);
        op(g, bases[which] + pick(g, which < 2 ? 10 : 6));
    }
    while (chance(g, 3))
        op(g, OP_I32_EQZ);
    if (chance(g, 10)) op_i32(g, 0), op(g, OP_I32_NE);
}

static void gen_idiom32(struct gen *g) {
    int l;
    switch (pick(g, 9)) {
    case 0: gen_condition(g); return;
    case 1: gen_expr(g, VT_I64), op(g, OP_I32_WRAP_I64); return;
    case 2: /* a sum as for an address */
        gen_expr(g, VT_I32), gen_expr(g, VT_I32), op_i32(g, pick(g, 5)), op(g, OP_I32_SHL), op(g, OP_I32_ADD);
        if (chance(g, 2)) op_i32(g, (uint32_t)pick_int(g, 32)), op(g, OP_I32_ADD);
        return;
    case 3: gen_expr(g, VT_I32), op_i32(g, 1u << pick(g, 32)), op(g, OP_I32_MUL); return;
    case 4:
        gen_expr(g, VT_I32), gen_expr(g, VT_I32);
        if (chance(g, 2)) op_i32(g, 31), op(g, OP_I32_AND);
        op(g, OP_I32_SHL + pick(g, 5));
        return;
    case 5: gen_expr(g, VT_I32), op_i32(g, chance(g, 2) ? 0xff : 0xffff), op(g, OP_I32_AND); return;
    case 7: /* a complement; one bit less */
        if (chance(g, 2) && (l = pick_local(g, VT_I32)) >= 0) {
            op_u(g, OP_LOCAL_GET, (uint32_t)l), op_u(g, OP_LOCAL_GET, (uint32_t)l);
            op_i32(g, UINT32_MAX), op(g, OP_I32_ADD), op(g, OP_I32_AND);
            return;
        }
        gen_expr(g, VT_I32), gen_expr(g, VT_I32), op_i32(g, UINT32_MAX), op(g, OP_I32_XOR), op(g, OP_I32_AND);
        return;
    case 6: /* corner cases of division, mostly without a trap */
        gen_expr(g, VT_I32), gen_expr(g, VT_I32), op_i32(g, chance(g, 8) ? 0 : 1), op(g, OP_I32_OR);
        op(g, OP_I32_DIV_S + pick(g, 4));
        return;
    default: gen_condition(g), gen_condition(g), op(g, OP_I32_AND + pick(g, 3)); return;
    }
}

static void gen_idiom64(struct gen *g) {
    int l;
    switch (pick(g, 9)) {
    case 0: gen_expr(g, VT_I32), op(g, OP_I64_EXTEND_I32_S); return;
    case 1: gen_expr(g, VT_I32), op(g, OP_I64_EXTEND_I32_U); return;
    case 2: gen_expr(g, VT_I64), op_i64(g, 0xffffffff), op(g, OP_I64_AND); return;
    case 3: /* one that has an upper half, one that has none */
        gen_expr(g, VT_I32), op(g, OP_I64_EXTEND_I32_U), gen_expr(g, VT_I64), gen_condition(g), op(g, OP_SELECT);
        return;
    case 4:
        gen_expr(g, VT_I64), gen_expr(g, VT_I64), op_i64(g, pick(g, 5)), op(g, OP_I64_SHL), op(g, OP_I64_ADD);
        if (chance(g, 2)) op_i64(g, pick_int(g, 64)), op(g, OP_I64_ADD);
        return;
    case 5: gen_expr(g, VT_I64), op_i64(g, 1ull << pick(g, 64)), op(g, OP_I64_MUL); return;
    case 7:
        if (chance(g, 2) && (l = pick_local(g, VT_I64)) >= 0) {
            op_u(g, OP_LOCAL_GET, (uint32_t)l), op_i64(g, UINT64_MAX), op(g, OP_I64_ADD);
            op_u(g, OP_LOCAL_GET, (uint32_t)l), op(g, OP_I64_AND);
            return;
        }
        gen_expr(g, VT_I64), op_i64(g, UINT64_MAX), op(g, OP_I64_XOR), gen_expr(g, VT_I64), op(g, OP_I64_AND);
        return;
    case 6: gen_expr(g, VT_I64), gen_expr(g, VT_I64), op(g, OP_I64_SHL + pick(g, 5)); return;
    default:
        gen_expr(g, VT_I64), gen_expr(g, VT_I64), op_i64(g, chance(g, 8) ? 0 : 1), op(g, OP_I64_OR);
        op(g, OP_I64_DIV_S + pick(g, 4));
        return;
    }
}

/* More values alive at once than there are registers, over whatever happens in between. */
static void gen_pressure(struct gen *g) {
    valtype types[40];
    unsigned n = 6 + pick(g, 34);
    for (unsigned i = 0; i < n; i++) {
        types[i] = pick_number(g);
        uint32_t o = chance(g, 2) ? pick_op(g, vt_kind(types[i])) : 0;
        if (o && i < 12)
            gen_op(g, o);
        else
            gen_leaf(g, types[i]);
        if (chance(g, 24)) gen_statements(g);
    }
    for (unsigned i = n; i-- > 0;) {
        /* Two that are on the stack become one. */
        if (i && types[i] == types[i - 1] && types[i] == VT_I64)
            op(g, OP_I64_ADD + pick(g, 3));
        else if (i && types[i] == types[i - 1] && types[i] == VT_I32)
            op(g, OP_I32_ADD + pick(g, 3));
        else
            gen_trace(g, types[i]);
        if (chance(g, 24)) gen_statements(g);
    }
}

/* A loop whose locals feed each other. */
static void gen_busy_loop(struct gen *g) {
    struct type t = {0};
    if (chance(g, 3)) t = g->types[pick(g, g->n_pool)], t.n_results = t.n_params;
    memcpy(t.results, t.params, sizeof t.results);
    gen_values(g, t.params, t.n_params);
    if (!push_label(g, t.params, t.n_params)) {
        gen_drops(g, t.n_params);
        return;
    }
    op(g, OP_LOOP), put_blocktype(g, &t);
    gen_fuel(g);
    for (unsigned n = 1 + pick(g, 10); n--;) {
        valtype number = pick_number(g);
        int to = pick_local(g, number);
        uint32_t o = pick_op(g, vt_kind(number));
        if (to < 0 || !o) continue;
        gen_op(g, o);
        op_u(g, OP_LOCAL_SET, (uint32_t)to);
        if (chance(g, 6)) gen_statements(g);
    }
    if (chance(g, 2)) gen_statements(g);
    /* Around again while there is fuel to spare, and a condition says so. */
    gen_condition(g);
    op_u(g, OP_GLOBAL_GET, g->n_globals), op_i32(g, GEN_FUEL / 2), op(g, OP_I32_GT_U), op(g, OP_I32_AND);
    op_u(g, OP_BR_IF, 0);
    end_label(g);
    for (unsigned i = t.n_params; i-- > 0;)
        gen_trace(g, t.params[i]);
}

/* Whatever is not a plain instruction; false when `how` means nothing for this type here, and nothing was written. */
static bool gen_special(struct gen *g, valtype t, unsigned how) {
    int l;
    switch (how) {
    case 0:
    case 1:
    case 2:
    case 3: gen_leaf(g, t); return true;
    case 4:
    case 5:
    case 6:
        if ((l = pick_local(g, t)) < 0) return false;
        gen_expr(g, t), op_u(g, OP_LOCAL_TEE, (uint32_t)l);
        return true;
    case 7: gen_block_for(g, t); return true;
    case 8: gen_select(g, t); return true;
    case 9: return gen_call(g, t);
    case 10: return gen_br_if_value(g, t);
    case 11: return gen_ref_op(g, t);
    case 12:
        if (!chance(g, 6)) return false;
        gen_leave(g);
        return true;
    case 13:
        if (!g->n_tags) return false;
        if (has(g, GEN_EXCEPTIONS))
            gen_try_table(g, t);
        else
            gen_legacy_try(g, t);
        return true;
    case 14:
        if (!has(g, GEN_TAIL_CALLS) || !chance(g, 8)) return false;
        return gen_tail_call(g);
    case 15:
        if (t != VT_I32) return false;
        op_u(g, OP_MEMORY_SIZE, 0);
        if (g->memory64[0]) op(g, OP_I32_WRAP_I64);
        return true;
    case 18:
    case 19:
    case 20:
        if (t != VT_I32 && t != VT_I64) return false;
        if (t == VT_I32)
            gen_idiom32(g);
        else
            gen_idiom64(g);
        return true;
    case 21:
        gen_expr(g, t), gen_expr(g, t), gen_condition(g), op_u(g, OP_SELECT_T, 1), put_valtype(&g->code, t);
        return true;
    case 16:
    case 17: gen_statements(g), gen_expr(g, t); return true;
    default: return false;
    }
}

static void gen_composed(struct gen *g, valtype t) {
    uint32_t o;
    if (gen_special(g, t, pick(g, 32))) return;
    if (vt_is_ref(t) ? gen_ref_op(g, t) : false) return;
    if (!vt_is_ref(t) && (o = pick_op(g, vt_kind(t))))
        gen_op(g, o);
    else
        gen_leaf(g, t);
}

static void gen_expr(struct gen *g, valtype t) {
    bool leaf = g->depth >= DEPTH_MAX || g->budget <= 0 || g->seed == g->seed_end;
    g->budget--;
    g->depth++;
    if (leaf)
        gen_leaf(g, t);
    else
        gen_composed(g, t);
    g->depth--;
}

static void gen_store_local(struct gen *g) {
    valtype t = pick_type(g);
    int l = pick_local(g, t), gl = chance(g, 2) ? pick_global(g, t) : -1;
    gen_expr(g, t);
    if (gl >= 0)
        op_u(g, OP_GLOBAL_SET, (uint32_t)gl);
    else if (l >= 0)
        op_u(g, OP_LOCAL_SET, (uint32_t)l);
    else
        op(g, OP_DROP);
}

static void gen_statement(struct gen *g) {
    static const struct type nothing;
    const struct type *bt;
    const struct label *label;
    uint32_t l;
    valtype t;
    switch (pick(g, 18)) {
    case 14: gen_pressure(g); return;
    case 15:
    case 16: gen_busy_loop(g); return;
    case 0:
    case 1:
    case 2: gen_store_local(g); return;
    case 3:
    case 4:
    case 5: gen_op(g, pick_op(g, 0)); return; /* a store */
    case 6:
        bt = chance(g, 3) ? &g->types[pick(g, g->n_pool)] : &nothing;
        gen_block(g, bt);
        gen_drops(g, bt->n_results);
        return;
    case 7:
        l = pick(g, g->n_labels);
        label = &g->labels[g->n_labels - 1 - l];
        gen_values(g, label->types, label->n), gen_expr(g, VT_I32);
        op_u(g, OP_BR_IF, l);
        gen_drops(g, label->n);
        return;
    case 8: gen_memory_statement(g); return;
    case 9: gen_table_statement(g); return;
    case 10:
        if (has(g, GEN_TYPED_REFS)) gen_br_on_null(g);
        return;
    case 11:
    case 12:
        t = pick_type(g);
        gen_expr(g, t), gen_trace(g, t);
        return;
    default:
        if (has(g, GEN_LEGACY_EXCEPTIONS) && chance(g, 2) && gen_rethrow(g)) return;
        gen_expr(g, pick_type(g)), op(g, OP_DROP);
        return;
    }
}

static void gen_statements(struct gen *g) {
    unsigned n = pick(g, 4);
    g->depth++;
    while (n-- && g->depth <= DEPTH_MAX && g->budget > 0 && g->seed < g->seed_end) {
        g->budget--;
        gen_statement(g);
    }
    g->depth--;
}

/* ---- functions --------------------------------------------------------------------------------------------------- */

static void put_locals(struct gen *g, struct buffer *b, uint32_t n_params) {
    put_u(b, g->n_locals - n_params);
    for (uint32_t i = n_params; i < g->n_locals; i++)
        put_u(b, 1), put_valtype(b, g->locals[i]);
}

static void gen_locals(struct gen *g, const struct type *t) {
    static const valtype kinds[] = {VT_I32, VT_I64, VT_F32, VT_F64, VT_FUNCREF, VT_EXTERNREF, VT_V128, VT_EXNREF};
    unsigned extra = chance(g, 6) ? pick(g, 28) : pick(g, 8);
    g->n_locals = 0;
    for (unsigned i = 0; i < t->n_params; i++)
        g->locals[g->n_locals++] = t->params[i];
    for (unsigned i = 0; i < extra; i++)
        g->locals[g->n_locals++] = pick_type(g);
    for (unsigned i = 0; i < 8; i++) {
        if (kinds[i] == VT_V128 && !has(g, GEN_SIMD)) continue;
        if (kinds[i] == VT_EXNREF && !has(g, GEN_EXCEPTIONS)) continue;
        g->scratch[scratch_slot(kinds[i])] = g->n_locals;
        g->locals[g->n_locals++] = kinds[i];
    }
}

/* The body of one inner function, sized, into `out`. */
static void gen_function(struct gen *g, uint32_t f, struct buffer *out, uint8_t *room, size_t n) {
    struct buffer body = {.data = room, .room = n};
    g->type = &g->types[g->func_types[f]];
    gen_locals(g, g->type);
    put_locals(g, &body, g->type->n_params);
    g->code = body;
    g->n_labels = 0, g->depth = 0, g->budget = BUDGET;
    push_label(g, g->type->results, g->type->n_results);
    gen_fuel(g);
    for (unsigned n = 1 + pick(g, 4); n--;)
        gen_statements(g);
    for (uint32_t i = 0; i < g->n_locals; i++)
        op_u(g, OP_LOCAL_GET, i), gen_trace(g, g->locals[i]);
    gen_values(g, g->type->results, g->type->n_results);
    op(g, OP_END);
    put_sized(out, &g->code);
}

/* Folds the value of type t on the stack into the i64 in local 0; local 1 is a v128 with SIMD. */
static void gen_fold(struct gen *g, valtype t) {
    gen_to_i64(g, t, 1);
    op_u(g, OP_LOCAL_GET, 0);
    op_i64(g, 7), op(g, OP_I64_ROTL);
    op(g, OP_I64_XOR);
    op_i64(g, 0xff51afd7ed558ccdu), op(g, OP_I64_MUL);
    op_u(g, OP_LOCAL_SET, 0);
}

static void outer_begin(struct gen *g, uint8_t *room, size_t n) {
    g->code = (struct buffer){.data = room, .room = n};
    put_u(&g->code, has(g, GEN_SIMD) ? 2 : 1);
    put_u(&g->code, 1), put_valtype(&g->code, VT_I64);
    if (has(g, GEN_SIMD)) put_u(&g->code, 1), put_valtype(&g->code, VT_V128);
}
static void outer_end(struct gen *g, struct buffer *out) {
    op_u(g, OP_LOCAL_GET, 0);
    op(g, OP_END);
    put_sized(out, &g->code);
}

/* e0, e1, ...: fills the tank, calls, folds. */
static void gen_export(struct gen *g, uint32_t f, struct buffer *out, uint8_t *room, size_t n) {
    const struct type *t = &g->types[g->func_types[f]];
    outer_begin(g, room, n);
    op_i32(g, GEN_FUEL);
    op_u(g, OP_GLOBAL_SET, g->n_globals);
    for (unsigned i = 0; i < t->n_params; i++)
        gen_const(g, t->params[i]);
    op_u(g, OP_CALL, N_IMPORTS + f);
    for (unsigned i = t->n_results; i-- > 0;)
        gen_fold(g, t->results[i]);
    outer_end(g, out);
}

static void gen_globals_fold(struct gen *g, struct buffer *out, uint8_t *room, size_t n) {
    outer_begin(g, room, n);
    for (uint32_t i = 0; i < g->n_globals; i++)
        op_u(g, OP_GLOBAL_GET, i), gen_fold(g, g->globals[i]);
    op_u(g, OP_GLOBAL_GET, g->n_globals + 1), gen_fold(g, VT_I64);
    outer_end(g, out);
}

/* ---- the module -------------------------------------------------------------------------------------------------- */

static void choose_shape(struct gen *g) {
    if (has(g, GEN_EXCEPTIONS) && has(g, GEN_LEGACY_EXCEPTIONS)) /* engines do not take both in one module */
        g->features &= ~(unsigned)(chance(g, 2) ? GEN_EXCEPTIONS : GEN_LEGACY_EXCEPTIONS);
    g->n_types = g->n_pool = 0;
    unsigned pool = 2 + pick(g, 5);
    for (unsigned i = 0; i < pool; i++) {
        struct type t;
        gen_random_type(g, &t, i < 2 ? 2 : 4);
        type_index(g, &t);
    }
    g->n_pool = g->n_types;
    g->n_funcs = 1 + pick(g, FUNCS_MAX);
    for (uint32_t i = 0; i < g->n_funcs; i++)
        g->func_types[i] = pick(g, g->n_pool);
    g->n_globals = pick(g, GLOBALS_MAX);
    for (uint32_t i = 0; i < g->n_globals; i++)
        g->globals[i] = pick_type(g);
    g->n_memories = has(g, GEN_MULTI_MEMORY) ? 1 + pick(g, MEMORIES_MAX) : 1;
    for (uint32_t i = 0; i < g->n_memories; i++)
        g->memory64[i] = has(g, GEN_MEMORY64) && chance(g, 3);
    g->n_tables = TABLES_MAX;
    g->tables[0] = VT_FUNCREF, g->tables[1] = VT_EXTERNREF;
    g->n_tags = has(g, GEN_EXCEPTIONS | GEN_LEGACY_EXCEPTIONS) ? 1 + pick(g, TAGS_MAX) : 0;
    for (uint32_t i = 0; i < g->n_tags; i++) {
        struct type t;
        gen_random_type(g, &t, 3);
        t.n_results = 0;
        memset(t.results, 0, sizeof t.results);
        g->tag_types[i] = type_index(g, &t);
    }
}

/* The code section's payload. */
static void gen_code(struct gen *g, struct buffer *out, uint8_t *room, size_t n) {
    put_u(out, 2 * g->n_funcs + 1);
    for (uint32_t i = 0; i < g->n_funcs; i++)
        gen_function(g, i, out, room, n);
    for (uint32_t i = 0; i < g->n_funcs; i++)
        gen_export(g, i, out, room, n);
    gen_globals_fold(g, out, room, n);
}

static void put_section(struct buffer *out, unsigned id, struct buffer *part) {
    put(out, id);
    put_sized(out, part);
    part->n = 0;
}

static void put_types(struct gen *g, struct buffer *b) {
    put_u(b, g->n_types);
    for (uint32_t i = 0; i < g->n_types; i++) {
        const struct type *t = &g->types[i];
        put(b, 0x60);
        put_u(b, t->n_params);
        for (unsigned k = 0; k < t->n_params; k++)
            put_valtype(b, t->params[k]);
        put_u(b, t->n_results);
        for (unsigned k = 0; k < t->n_results; k++)
            put_valtype(b, t->results[k]);
    }
}

static void put_globals(struct gen *g, struct buffer *b) {
    put_u(b, g->n_globals + 2);
    for (uint32_t i = 0; i < g->n_globals + 2; i++) {
        valtype t = i < g->n_globals ? g->globals[i] : i == g->n_globals ? VT_I32 : VT_I64;
        put_valtype(b, t), put(b, 1);
        g->code = (struct buffer){.data = b->data + b->n, .room = b->room - b->n};
        gen_const(g, t);
        op(g, OP_END);
        b->n += g->code.n;
        b->full |= g->code.full;
    }
}

static void put_export(struct buffer *b, char prefix, unsigned number, unsigned kind, uint32_t index) {
    char name[3] = {prefix, (char)('0' + number), 0};
    if (prefix == 'g') name[1] = 0;
    put_name(b, name);
    put(b, kind), put_u(b, index);
}
static void put_exports(struct gen *g, struct buffer *b) {
    uint32_t outer = N_IMPORTS + g->n_funcs;
    put_u(b, g->n_funcs + 1 + g->n_memories + g->n_tables);
    for (uint32_t i = 0; i < g->n_funcs; i++)
        put_export(b, 'e', i, 0, outer + i);
    put_export(b, 'g', 0, 0, outer + g->n_funcs);
    for (uint32_t i = 0; i < g->n_memories; i++)
        put_export(b, 'm', i, 2, i);
    for (uint32_t i = 0; i < g->n_tables; i++)
        put_export(b, 't', i, 1, i);
}

/* 0: active, all functions; 1: passive, functions backwards and null; 2: declarative. */
static void put_elems(struct gen *g, struct buffer *b) {
    put_u(b, ELEMS);
    put_u(b, 0), put(b, 0x41), put(b, 0), put(b, 0x0b);
    put_u(b, g->n_funcs);
    for (uint32_t i = 0; i < g->n_funcs; i++)
        put_u(b, N_IMPORTS + i);
    put_u(b, 5), put(b, 0x70);
    put_u(b, g->n_funcs + 1);
    for (uint32_t i = g->n_funcs; i-- > 0;)
        put(b, 0xd2), put_u(b, N_IMPORTS + i), put(b, 0x0b);
    put(b, 0xd0), put(b, 0x70), put(b, 0x0b);
    put_u(b, 3), put(b, 0);
    put_u(b, 1), put_u(b, N_IMPORTS);
}

static void put_datas(struct gen *g, struct buffer *b) {
    put_u(b, DATAS);
    for (unsigned i = 0; i < DATAS; i++) {
        bool active = i == 0;
        put_u(b, active ? 0 : 1);
        if (active) put(b, g->memory64[0] ? 0x42 : 0x41), put(b, 8), put(b, 0x0b);
        unsigned n = 8u << i;
        put_u(b, n);
        for (unsigned k = 0; k < n; k++)
            put(b, pick(g, 256));
    }
}

static void put_before_code(struct gen *g, struct buffer *out, struct buffer *b) {
    put_types(g, b), put_section(out, 1, b);
    put_u(b, N_IMPORTS);
    put_name(b, "env"), put_name(b, "h0"), put(b, 0), put_u(b, g->n_types - 3);
    put_name(b, "env"), put_name(b, "h1"), put(b, 0), put_u(b, g->n_types - 2);
    put_section(out, 2, b);
    put_u(b, 2 * g->n_funcs + 1);
    for (uint32_t i = 0; i < g->n_funcs; i++)
        put_u(b, g->func_types[i]);
    for (uint32_t i = 0; i <= g->n_funcs; i++)
        put_u(b, g->n_types - 1);
    put_section(out, 3, b);
    put_u(b, g->n_tables);
    for (uint32_t i = 0; i < g->n_tables; i++)
        put_valtype(b, g->tables[i]), put(b, 1), put_u(b, TABLE_SIZE), put_u(b, 16);
    put_section(out, 4, b);
    put_u(b, g->n_memories);
    for (uint32_t i = 0; i < g->n_memories; i++)
        put(b, g->memory64[i] ? 5 : 1), put_u(b, 1), put_u(b, 2 + i);
    put_section(out, 5, b);
    put_u(b, g->n_tags);
    for (uint32_t i = 0; i < g->n_tags; i++)
        put(b, 0), put_u(b, g->tag_types[i]);
    if (g->n_tags)
        put_section(out, 13, b);
    else
        b->n = 0;
    put_globals(g, b), put_section(out, 6, b);
    put_exports(g, b), put_section(out, 7, b);
    put_elems(g, b), put_section(out, 9, b);
    put_u(b, DATAS), put_section(out, 12, b);
}

size_t gen_module(const uint8_t *seed, size_t n, unsigned features, uint8_t *out) {
    static _Thread_local uint8_t room[4][GEN_MODULE_MAX];
    struct gen g = {.seed = seed, .seed_end = seed + n, .features = features};
    struct buffer module = {.data = out, .room = GEN_MODULE_MAX}, part = {.data = room[0], .room = GEN_MODULE_MAX},
                  code = {.data = room[1], .room = GEN_MODULE_MAX}, data = {.data = room[3], .room = GEN_MODULE_MAX};
    choose_shape(&g);
    gen_code(&g, &code, room[2], GEN_MODULE_MAX);
    put_datas(&g, &data);
    /* The last three types, unshared: h0's, h1's, the exports'. */
    static const struct type h0 = {1, 1, {VT_I32}, {VT_I32}}, h1 = {2, 1, {VT_I32, VT_I64}, {VT_I64}},
                             e = {0, 1, {0}, {VT_I64}};
    if (g.n_types + 3 > TYPES_MAX) return 0;
    g.types[g.n_types++] = h0, g.types[g.n_types++] = h1, g.types[g.n_types++] = e;
    put_bytes(&module, "\0asm\1\0\0\0", 8);
    put_before_code(&g, &module, &part);
    put_section(&module, 10, &code);
    put_section(&module, 11, &data);
    return module.full ? 0 : module.n;
}
