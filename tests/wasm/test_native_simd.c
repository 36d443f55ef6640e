/* Native SIMD code against the interpreter: straight-line functions of random instructions over random values, more of
 * them alive than there are registers. Every result goes to memory, so the first that differs names its instruction.
 * NaNs whose payload the specification leaves open are made canonical before anything can see them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "builder.h"
#include "donjon/platform.h"
#include "opcodes.h"
#include "store.h"

enum {
    VECTORS = 20,
    SCALARS = 6, /* locals of each type */
    LOCAL_V = 0,
    LOCAL_TEMP = VECTORS,
    LOCAL_I32,
    LOCAL_I64 = LOCAL_I32 + SCALARS,
    LOCAL_F32 = LOCAL_I64 + SCALARS,
    LOCAL_F64 = LOCAL_F32 + SCALARS,
    LOCALS = LOCAL_F64 + SCALARS,
    STATEMENTS = 1000,
    MODULES = 60,
    DATA = 0x2000,
    STORES = 0x2000,
    STORES_END = 0x4000,
    RESULTS = 0x4000, /* memory: read, written, results */
    PAGE = 0x10000,
};
_Static_assert(RESULTS + 16 * STATEMENTS <= PAGE, "a result has its place");

/* ---- random values ---- */

static uint64_t seed;
static uint64_t next(void) { /* splitmix64 */
    uint64_t z = seed += 0x9E3779B97F4A7C15;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return z ^ z >> 31;
}
static uint32_t below(uint32_t n) {
    return (uint32_t)(next() >> 32) % n;
}
#define ANY(array) ((array)[below(sizeof(array) / sizeof *(array))])

static const double interesting[] = {
    0.0,           -0.0,          1.0,           -1.0,          0.5,
    -0.5,          1.5,           2.5,           -2.5,          0.49999999999999994,
    8388607.5,     8388609.0,     0x1p23,        0x1p52,        0x1p53,
    -0x1p52,       2147483647.0,  2147483647.5,  2147483520.0,  2147483648.0,
    -2147483648.0, -2147483648.9, -2147483649.0, -2147483904.0, 4294967040.0,
    4294967295.0,  4294967295.9,  4294967296.0,  1e300,         -1e300,
    1e-310,        1e-40,         3.4028234e38,  3.4028236e38,  -0.9,
    0.9,
};
static uint64_t random_f64(void) {
    static const uint64_t bits[] = {0x7ff0000000000000, 0xfff0000000000000, 0x7ff8000000000000, 0xfff8000000000000,
                                    0x7ff0000000000001, 0xfff4000000000000, 0x7ffabcdef0123456, 1};
    if (below(3) == 0) return ANY(bits);
    double d = below(4) ? ANY(interesting) : (double)(int64_t)next() / (double)(1ull << below(64));
    uint64_t b;
    memcpy(&b, &d, 8);
    return b;
}
static uint32_t random_f32(void) {
    static const uint32_t bits[] = {0x7f800000, 0xff800000, 0x7fc00000, 0xffc00000, 0x7f800001,
                                    0xffa00000, 0x7fc12345, 1,          0x807fffff};
    if (below(3) == 0) return ANY(bits);
    float f = (float)(below(4) ? ANY(interesting) : (double)(int64_t)next() / (double)(1ull << below(64)));
    uint32_t b;
    memcpy(&b, &f, 4);
    return b;
}
static uint64_t random_int(void) {
    static const uint64_t values[] = {0,
                                      1,
                                      2,
                                      7,
                                      8,
                                      15,
                                      16,
                                      31,
                                      32,
                                      63,
                                      64,
                                      0x7f,
                                      0x80,
                                      0xff,
                                      0x7fff,
                                      0x8000,
                                      0x8001,
                                      0xffff,
                                      0x7fffffff,
                                      0x80000000,
                                      0xffffffff,
                                      0x7fffffffffffffff,
                                      0x8000000000000000,
                                      UINT64_MAX};
    return below(2) ? ANY(values) : next();
}
static void random_vector(uint8_t v[16]) {
    uint64_t whole = next(), kind = below(10);
    for (unsigned k = 0; k < 16; k++) {
        static const uint8_t bytes[] = {0, 1, 0x7f, 0x80, 0x81, 0xff};
        v[k] = kind == 0   ? 0
               : kind == 1 ? 0xff
               : kind == 2 ? ANY(bytes)
               : kind == 3 ? (uint8_t)below(40)
                           : (uint8_t)next();
    }
    for (unsigned k = 0; k < 16; k += 2) {
        uint16_t x = (uint16_t)random_int();
        if (kind == 4) memcpy(v + k, &x, 2);
    }
    for (unsigned k = 0; k < 16; k += 4) {
        uint32_t x = kind == 5 ? (uint32_t)random_int() : random_f32();
        if (kind == 5 || kind == 6) memcpy(v + k, &x, 4);
    }
    for (unsigned k = 0; k < 16; k += 8) {
        uint64_t x = whole & 1 ? random_int() : random_f64();
        if (kind == 7) memcpy(v + k, &x, 8);
    }
    for (unsigned k = 0; k < 16 && kind == 8; k += 4) {
        static const float units[] = {0, -0.0f, 1, -1};
        static const double wide[] = {0, -0.0, 1, -1};
        if (whole & 1)
            memcpy(v + k, &ANY(units), 4);
        else
            memcpy(v + k / 8 * 8, &ANY(wide), 8);
    }
}

/* ---- random functions ---- */

static struct buf body;
static uint32_t op_of[STATEMENTS];

static void put_op(uint32_t op) {
    if (op < OP_BASE_FB) {
        put_byte(&body, (uint8_t)op);
        return;
    }
    put_byte(&body, 0xFD);
    put_leb(&body, op - OP_BASE_FD);
}
static void put_sleb(int64_t n) {
    for (; n < -64 || n > 63; n >>= 7)
        put_byte(&body, (uint8_t)(n | 0x80));
    put_byte(&body, (uint8_t)(n & 0x7f));
}
static void put_i32(uint32_t n) {
    put_op(OP_I32_CONST);
    put_sleb((int32_t)n);
}
static void put_vector(const uint8_t v[16]) {
    put_op(OP_V128_CONST);
    put_bytes(&body, v, 16);
}
static void put_local(uint32_t op, uint32_t x) {
    put_op(op);
    put_leb(&body, x);
}

static uint32_t random_local(unsigned kind) {
    switch (kind) {
    case KIND_I32: return LOCAL_I32 + below(SCALARS);
    case KIND_I64: return LOCAL_I64 + below(SCALARS);
    case KIND_F32: return LOCAL_F32 + below(SCALARS);
    case KIND_F64: return LOCAL_F64 + below(SCALARS);
    default: return LOCAL_V + below(VECTORS);
    }
}

static void put_constant(unsigned kind) {
    uint8_t v[16];
    uint64_t bits;
    switch (kind) {
    case KIND_I32: put_i32((uint32_t)random_int()); return;
    case KIND_I64:
        put_op(OP_I64_CONST);
        put_sleb((int64_t)random_int());
        return;
    case KIND_F32:
        put_op(OP_F32_CONST);
        bits = random_f32();
        put_bytes(&body, &bits, 4);
        return;
    case KIND_F64:
        put_op(OP_F64_CONST);
        bits = random_f64();
        put_bytes(&body, &bits, 8);
        return;
    default: random_vector(v); put_vector(v);
    }
}

static uint32_t latest[8]; /* by kind: the local used last, to use one twice */

static void put_operand(unsigned kind) {
    if (below(6) == 0) {
        put_constant(kind);
        return;
    }
    if (below(6)) latest[kind] = random_local(kind);
    put_local(OP_LOCAL_GET, latest[kind] ? latest[kind] : random_local(kind));
}

/* An address of the part that is read or written: constant, or not. */
static void put_address(void) {
    if (below(4) == 0) {
        put_i32(below(DATA - 64));
        return;
    }
    put_local(OP_LOCAL_GET, random_local(KIND_I32));
    put_i32(0xfff);
    put_op(OP_I32_AND);
}

static void random_lanes(uint8_t lanes[16]) {
    unsigned grain = 1u << below(4), n = 16 / grain, start = below(32), sources = below(3), how = below(14),
             half = below(2) * 8;
    for (unsigned k = 0; k < 16; k++) {
        unsigned lane = k / grain, pick = below(2) * 16;
        if (k % grain == 0)
            lanes[k] = (uint8_t)(below(2 * n) * grain);
        else
            lanes[k] = (uint8_t)(lanes[k - 1] + 1);
        if (how == 0) lanes[k] = (uint8_t)((start + k) % (sources ? 32 : 16));
        if (how == 1) lanes[k] = (uint8_t)((lane & 1) * 16 + half + lane / 2 * grain + k % grain);
        if (how == 2) lanes[k] = (uint8_t)((lane & 1 ? 0 : 16) + half + lane / 2 * grain + k % grain);
        if (how == 3) lanes[k] = (uint8_t)(k % grain ? lanes[k - 1] + 1u : k + pick);
        if (how == 4) lanes[k] = (uint8_t)(start / grain * grain % 32 + k % grain);
        if (how == 5) lanes[k] = (uint8_t)(k < half ? k : half == 8 ? 8 + below(4) * 2 % 8 : k);
        if (how == 6)
            lanes[k] = (uint8_t)(k % 2 ? lanes[k - 1] + 1u : (k < 8) == (half == 0) ? below(4) * 2 + (k & 8) : k);
        if (sources == 0) lanes[k] &= 15;
        if (sources == 1 && how > 6) lanes[k] |= 16;
    }
}

static void put_immediate(uint32_t op) {
    const struct opcode_info *o = &opcode_table[op];
    uint8_t lanes[16];
    switch (o->imm) {
    case IMM_MEMARG:
    case IMM_MEMARG_LANE:
        if (below(4) == 0)
            PUT(&body, 0x40, 1); /* memory 1: bounds are checked */
        else
            PUT(&body, 0);
        put_leb(&body, sig_result(o->sig) ? below(32) : STORES + below(32));
        if (o->imm == IMM_MEMARG_LANE) put_byte(&body, (uint8_t)below(16u >> o->aux));
        return;
    case IMM_LANE: put_byte(&body, (uint8_t)below(o->aux)); return;
    case IMM_SHUFFLE:
        random_lanes(lanes);
        put_bytes(&body, lanes, 16);
        return;
    case IMM_V128:
        random_vector(lanes);
        put_bytes(&body, lanes, 16);
        return;
    default: return;
    }
}

/* Does the result's NaN depend on the order of the operands, or on a sign the specification does not give? */
static uint32_t open_nan(uint32_t op) {
    switch (op) {
    case OP_F32X4_ADD:
    case OP_F32X4_SUB:
    case OP_F32X4_MUL:
    case OP_F32X4_DIV:
    case OP_F32X4_MIN:
    case OP_F32X4_MAX:
    case OP_F32X4_RELAXED_MADD:
    case OP_F32X4_RELAXED_NMADD:
    case OP_F32X4_RELAXED_MIN:
    case OP_F32X4_RELAXED_MAX: return OP_F32X4_EQ;
    case OP_F64X2_ADD:
    case OP_F64X2_SUB:
    case OP_F64X2_MUL:
    case OP_F64X2_DIV:
    case OP_F64X2_MIN:
    case OP_F64X2_MAX:
    case OP_F64X2_RELAXED_MADD:
    case OP_F64X2_RELAXED_NMADD:
    case OP_F64X2_RELAXED_MIN:
    case OP_F64X2_RELAXED_MAX: return OP_F64X2_EQ;
    default: return 0;
    }
}

static void make_nan_canonical(uint32_t equal) {
    uint8_t nan[16];
    for (unsigned k = 0; k < 16; k += 8)
        memcpy(nan + k, &(uint64_t){equal == OP_F32X4_EQ ? 0x7fc000007fc00000 : 0x7ff8000000000000}, 8);
    put_local(OP_LOCAL_TEE, LOCAL_TEMP);
    put_local(OP_LOCAL_GET, LOCAL_TEMP);
    put_vector(nan);
    put_op(OP_V128_AND); /* a signalling one stays different */
    put_local(OP_LOCAL_GET, LOCAL_TEMP);
    put_local(OP_LOCAL_GET, LOCAL_TEMP);
    put_op(equal);
    put_op(OP_V128_BITSELECT);
}

/* What the compiler treats as one: rotations, selections by what compares gave, conditions, splats of loads. */
static void put_rotation(void) {
    static const uint32_t shl[3] = {OP_I16X8_SHL, OP_I32X4_SHL, OP_I64X2_SHL},
                          shr[3] = {OP_I16X8_SHR_U, OP_I32X4_SHR_U, OP_I64X2_SHR_U};
    uint32_t k = below(3), n = below(16u << k), x = random_local(KIND_V128), first = below(2), odd = below(8) == 0;
    if (below(2)) n &= ~7u;
    for (unsigned turn = 0; turn < 2; turn++) {
        put_local(OP_LOCAL_GET, x);
        put_i32(turn == first ? n : (16u << k) - n + odd);
        put_op(turn == first ? shl[k] : shr[k]);
    }
    put_op(OP_V128_OR);
}
static void put_selection(void) {
    static const uint32_t compares[] = {OP_I8X16_EQ,   OP_I16X8_LT_S, OP_I32X4_GE_U,
                                        OP_I64X2_GT_S, OP_F32X4_LT,   OP_F64X2_NE};
    static const uint32_t selects[] = {OP_V128_BITSELECT, OP_I8X16_RELAXED_LANESELECT, OP_I64X2_RELAXED_LANESELECT};
    for (unsigned k = 0; k < 4; k++)
        put_operand(KIND_V128);
    put_op(ANY(compares));
    if (below(3) == 0) put_op(OP_V128_NOT);
    put_op(ANY(selects));
}

static void put_choice(uint32_t op) {
    put_operand(KIND_I32);
    put_operand(KIND_I32);
    put_operand(KIND_V128);
    put_op(op);
    if (below(2)) put_op(OP_I32_EQZ);
    put_op(OP_SELECT);
}
static void put_splat_load(uint32_t op) {
    put_address();
    put_op(op == OP_I32X4_SPLAT   ? OP_I32_LOAD
           : op == OP_I64X2_SPLAT ? OP_I64_LOAD
           : op == OP_F32X4_SPLAT ? OP_F32_LOAD
                                  : OP_F64_LOAD);
    put_immediate(OP_I32_LOAD);
    put_op(op);
}

static void put_result(unsigned kind) {
    static const uint32_t stores[] = {[KIND_I32] = OP_I32_STORE,
                                      [KIND_I64] = OP_I64_STORE,
                                      [KIND_F32] = OP_F32_STORE,
                                      [KIND_F64] = OP_F64_STORE,
                                      [KIND_V128] = OP_V128_STORE};
    put_local(OP_LOCAL_TEE, random_local(kind));
    put_op(stores[kind]);
    PUT(&body, 0, 0);
}

static void put_statement(uint32_t number, uint32_t op) {
    uint32_t sig = opcode_table[op].sig;
    op_of[number] = op;
    if (sig_result(sig)) put_i32(RESULTS + 16 * number);
    uint32_t which = below(12);
    if (op == OP_V128_OR && which < 6) {
        put_rotation();
    } else if (op == OP_V128_BITSELECT && which < 6) {
        put_selection();
    } else if (op >= OP_I32X4_SPLAT && op <= OP_F64X2_SPLAT && which < 6) {
        put_splat_load(op);
    } else if (sig == SIG_v_i && opcode_table[op].imm == IMM_NONE && which < 6) {
        put_choice(op);
    } else {
        for (unsigned k = 0; k < sig_params(sig); k++) {
            if (sig_param(sig, k) == SIG_ADDR)
                put_address();
            else
                put_operand(sig_param(sig, k));
        }
        put_op(op);
        put_immediate(op);
    }
    if (open_nan(op)) make_nan_canonical(open_nan(op));
    if (sig_result(sig)) put_result(sig_result(sig));
}

static void put_function(void) {
    PUT(&body, 5, VECTORS + 1, 0x7b, SCALARS, 0x7f, SCALARS, 0x7e, SCALARS, 0x7d, SCALARS, 0x7c);
    static const struct {
        uint32_t load, first, n;
    } inputs[] = {{OP_V128_LOAD, LOCAL_V, VECTORS},
                  {OP_I32_LOAD, LOCAL_I32, SCALARS},
                  {OP_I64_LOAD, LOCAL_I64, SCALARS},
                  {OP_F32_LOAD, LOCAL_F32, SCALARS},
                  {OP_F64_LOAD, LOCAL_F64, SCALARS}};
    for (unsigned k = 0; k < sizeof inputs / sizeof *inputs; k++)
        for (unsigned x = 0; x < inputs[k].n; x++) {
            put_i32(16 * (inputs[k].first + x));
            put_op(inputs[k].load);
            PUT(&body, 0, 0);
            put_local(OP_LOCAL_SET, inputs[k].first + x);
        }
    for (uint32_t n = 0, op = OP_BASE_FD + below(256); n < STATEMENTS; op = op + 1 < OPCODE_LIMIT ? op + 1 : OP_BASE_FD)
        if (opcode_table[op].text) put_statement(n++, below(8) ? op : OP_I8X16_SHUFFLE);
    put_op(OP_END);
}

static void put_module(struct buf *b) {
    struct buf s = {NULL, 0, 0};
    put_header(b);
    PUT(&s, 1, 0x60, 0, 0);
    put_section(b, 1, &s);
    PUT(&s, 1, 0);
    put_section(b, 3, &s);
    PUT(&s, 2, 0, 1, 0, 1); /* two memories of a page */
    put_section(b, 5, &s);
    PUT(&s, 1, 1, 'f', 0, 0);
    put_section(b, 7, &s);
    put_function();
    put_leb(&s, 1);
    put_sized(&s, &body);
    put_section(b, 10, &s);
}

/* ---- running ---- */

static struct engine *engine;

static void fill(uint8_t *memory, uint64_t with) {
    seed = with;
    for (uint32_t at = 0; at < DATA; at += 16)
        random_vector(memory + at);
    for (uint32_t k = LOCAL_I32; k < LOCALS; k++) { /* scalars of their own kind */
        uint64_t x = k < LOCAL_F32 ? random_int() : k < LOCAL_F64 ? random_f32() : random_f64();
        memcpy(memory + 16 * k, &x, 8);
    }
}

/* The memories after one run, copied to `out`. */
static void run(struct module *m, bool interpret, uint64_t with, uint8_t *out) {
    struct store_limits limits = {.interpret = interpret};
    struct store *s = store_new(engine, &limits);
    assert_non_null(s);
    if (!interpret && !s->native) {
        store_delete(s);
        print_message("SKIP: no native code for this CPU\n");
        skip();
    }
    struct instantiate_error err;
    struct instance *i = instantiate(s, m, NULL, false, &err);
    assert_non_null(i);
    for (unsigned k = 0; k < 2; k++)
        fill(i->memories[k]->base, with + k);
    slot args[1];
    assert_int_equal(func_call(instance_export(i, "f", 1).func, args), TRAP_NONE);
    for (unsigned k = 0; k < 2; k++)
        memcpy(out + k * PAGE, i->memories[k]->base, PAGE);
    store_delete(s);
}

static void report(uint32_t module, uint32_t at, const uint8_t *expected, const uint8_t *found) {
    uint32_t n = (at - RESULTS) / 16;
    char text[2][33];
    for (unsigned k = 0; k < 16; k++) {
        snprintf(text[0] + 2 * k, 3, "%02x", expected[at / 16 * 16 + k]);
        snprintf(text[1] + 2 * k, 3, "%02x", found[at / 16 * 16 + k]);
    }
    fail_msg("module %u, %s: expected %s, found %s", module,
             at < RESULTS || n >= STATEMENTS ? "a store" : opcode_table[op_of[n]].text, text[0], text[1]);
}

static void same_results(void **state) {
    (void)state;
    static uint8_t expected[2 * PAGE], found[2 * PAGE];
    for (uint32_t n = 0; n < MODULES; n++) {
        struct buf b = {NULL, 0, 0};
        struct module_error err;
        seed = n;
        put_module(&b);
        struct module *m = module_new(engine, b.data, b.size, &err);
        if (!m) fail_msg("module %u at %u: %s", n, err.offset, err.message);
        free(b.data);
        run(m, true, n * 1000, expected);
        run(m, false, n * 1000, found);
        for (uint32_t at = RESULTS; at < 2 * PAGE; at++) /* results first: they say more */
            if (expected[at] != found[at]) report(n, at, expected, found);
        for (uint32_t at = 0; at < RESULTS; at++)
            if (expected[at] != found[at]) report(n, at, expected, found);
        module_unref(m);
    }
}

static int start(void **state) {
    (void)state;
    engine = engine_new(donjon_platform_posix());
    return !engine;
}
static int stop(void **state) {
    (void)state;
    engine_delete(engine);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_results)};
    return cmocka_run_group_tests(tests, start, stop);
}
