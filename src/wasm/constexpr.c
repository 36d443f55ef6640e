/* Constant expressions (specification, section 3.4.15), extended ones included. Validated: no operand is missing, no
 * index out of range; and instances of modules that need garbage collection do not come here. */
#include "objects.h"
#include "opcodes.h"

#include <string.h>

typedef slot value[2]; /* room for a v128 */

struct stack {
    value *values;
    size_t n, capacity;
    value small[16]; /* deeper expressions get memory */
};

static bool stack_grow(struct instance *i, struct stack *s) {
    value *values =
        engine_realloc(i->store->engine, s->values == s->small ? NULL : s->values, 2 * s->capacity * sizeof *values);
    if (!values) return false;
    if (s->values == s->small) memcpy(values, s->small, sizeof s->small);
    s->values = values;
    s->capacity *= 2;
    return true;
}

static uint64_t arithmetic(unsigned op, uint64_t a, uint64_t b) {
    switch (op) {
    case OP_I32_ADD: return (uint32_t)(a + b);
    case OP_I32_SUB: return (uint32_t)(a - b);
    case OP_I32_MUL: return (uint32_t)(a * b);
    case OP_I64_ADD: return a + b;
    case OP_I64_SUB: return a - b;
    default: return a * b; /* OP_I64_MUL */
    }
}

/* The instructions that push a value; *p is behind the opcode. */
static void constant(const struct instance *i, unsigned op, const uint8_t **p, value out) {
    out[0].i64 = out[1].i64 = 0;
    switch (op) {
    case OP_I32_CONST: out[0].i64 = (uint32_t)leb_s32(p); break;
    case OP_I64_CONST: out[0].i64 = (uint64_t)leb_s64(p); break;
    case OP_F32_CONST: memcpy(out, *p, 4), *p += 4; break;
    case OP_F64_CONST: memcpy(out, *p, 8), *p += 8; break;
    case OP_V128_CONST: memcpy(out, *p, 16), *p += 16; break;
    case OP_REF_NULL: leb_s64(p); break; /* the heap type; null is 0 */
    case OP_REF_FUNC: out[0].func = i->funcs[leb_u32(p)]; break;
    case OP_GLOBAL_GET: memcpy(out, i->globals[leb_u32(p)]->value, sizeof(value)); break;
    }
}

static bool run(struct instance *i, const uint8_t **p, struct stack *s) {
    for (;;) {
        unsigned op = *(*p)++;
        if (op == 0xFD) op = OP_BASE_FD + leb_u32(p);
        switch (op) {
        case OP_END: return true;
        case OP_I32_ADD:
        case OP_I32_SUB:
        case OP_I32_MUL:
        case OP_I64_ADD:
        case OP_I64_SUB:
        case OP_I64_MUL: {
            slot *b = s->values[--s->n], *a = s->values[s->n - 1];
            a->i64 = arithmetic(op, a->i64, b->i64);
            break;
        }
        default:
            if (s->n == s->capacity && !stack_grow(i, s)) return false;
            constant(i, op, p, s->values[s->n++]);
        }
    }
}

bool constexpr_eval(struct instance *i, const uint8_t **p, slot out[2]) {
    struct stack s = {.capacity = sizeof s.small / sizeof s.small[0]};
    s.values = s.small;
    bool ok = run(i, p, &s);
    if (ok) memcpy(out, s.values[0], sizeof(value));
    if (s.values != s.small) engine_realloc(i->store->engine, s.values, 0);
    return ok;
}
