/* Constant expressions (specification, section 3.4.15), extended ones included. Validated: no operand is missing, no
 * index out of range. */
#include "gc.h"
#include "heap.h"
#include "objects.h"
#include "opcodes.h"

#include <string.h>

/* Values in slots, as in a frame. Making objects may collect, so what is on the stack are roots. */
struct stack {
    slot *slots;
    size_t n, capacity;
    struct heap_roots roots;
    slot small[32]; /* deeper expressions get memory */
};

static bool stack_room(struct instance *i, struct stack *s) {
    if (s->capacity - s->n >= 2) return true;
    slot *slots =
        engine_realloc(i->store->engine, s->slots == s->small ? NULL : s->slots, 2 * s->capacity * sizeof *slots);
    if (!slots) return false;
    if (s->slots == s->small) memcpy(slots, s->small, sizeof s->small);
    s->slots = slots;
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

/* The instructions that push a value; *p is behind the opcode. Gives how many slots. */
static uint32_t constant(const struct instance *i, unsigned op, const uint8_t **p, slot *out) {
    uint32_t global, n = 1;
    out[0].i64 = out[1].i64 = 0;
    switch (op) {
    case OP_I32_CONST: out[0].i64 = (uint32_t)leb_s32(p); break;
    case OP_I64_CONST: out[0].i64 = (uint64_t)leb_s64(p); break;
    case OP_F32_CONST: memcpy(out, *p, 4), *p += 4; break;
    case OP_F64_CONST: memcpy(out, *p, 8), *p += 8; break;
    case OP_V128_CONST: memcpy(out, *p, 16), *p += 16, n = 2; break;
    case OP_REF_NULL: leb_s64(p); break; /* the heap type; null is 0 */
    case OP_REF_FUNC: out[0].func = i->funcs[leb_u32(p)]; break;
    case OP_GLOBAL_GET:
        global = leb_u32(p);
        n = vt_slots(i->globals[global]->type.type);
        memcpy(out, i->globals[global]->value, n * sizeof *out);
        break;
    }
    return n;
}

static bool make_object(struct instance *i, unsigned op, const uint8_t **p, struct stack *s) {
    struct gc_ins g = gc_read(i->module, op, p);
    uint64_t bytes = 0;
    if (!stack_room(i, s)) return false;
    s->roots.begin = s->slots;
    s->roots.n = s->n;
    s->n -= g.param_slots;
    slot *at = s->slots + s->n++;
    return gc_functions[op - OP_BASE_FB](i, g.x, g.y, at, at, &bytes) == TRAP_NONE;
}

static bool run(struct instance *i, const uint8_t **p, struct stack *s) {
    for (;;) {
        unsigned op = opcode_read(p);
        switch (op) {
        case OP_END: return true;
        case OP_I32_ADD:
        case OP_I32_SUB:
        case OP_I32_MUL:
        case OP_I64_ADD:
        case OP_I64_SUB:
        case OP_I64_MUL: {
            slot *b = &s->slots[--s->n], *a = b - 1;
            a->i64 = arithmetic(op, a->i64, b->i64);
            break;
        }
        default:
            if (opcode_is_gc(op)) {
                if (!make_object(i, op, p, s)) return false;
                break;
            }
            if (!stack_room(i, s)) return false;
            s->n += constant(i, op, p, s->slots + s->n);
        }
    }
}

bool constexpr_eval(struct instance *i, const uint8_t **p, slot out[2]) {
    struct stack s = {.capacity = sizeof s.small / sizeof s.small[0]};
    s.slots = s.small;
    heap_root(i->store->heap, &s.roots);
    bool ok = run(i, p, &s);
    heap_unroot(i->store->heap, &s.roots);
    if (ok) memcpy(out, s.slots, s.n * sizeof *out);
    if (s.slots != s.small) engine_realloc(i->store->engine, s.slots, 0);
    return ok;
}
