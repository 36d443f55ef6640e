/* How the interpreter's instructions look and how their handlers are written.
 *
 * Slot code is an array of 64-bit words. An instruction is its handler's address, then operands packed in one word or
 * more: up to four u16 slot numbers, or two of them and a 32-bit immediate, or a whole word (constants, pointers).
 * A handler does its work and jumps to the next instruction's handler by a sibling call, so the arguments below stay in
 * machine registers for as long as wasm runs:
 *
 *   pc        this instruction
 *   fp        slot 0 of the running function's frame
 *   mem,
 *   mem_size  memory 0 of the running instance (NULL, 0 without one)
 *   ctx       the interpreter of this store
 *   acc       accumulator: the value of the latest integer or reference result (i32 zero-extended)
 *   facc,
 *   dacc      the same for f32 and f64
 *
 * Accumulators are what makes it fast: translate.c knows when an operand is the value an accumulator holds and then
 * uses a variant that takes it from there; when nothing else needs the value in its slot, the producer does not store
 * it.
 *
 * Names: op_<instruction>_<shape>[_n]. A shape has a letter per operand: s slot, i immediate, a accumulator. "_n"
 * stores no result in a slot. Every instruction that can store its result comes with its "_n" twin, whose number is one
 * higher. */
#ifndef DONJON_WASM_INTERP_OPS_H
#define DONJON_WASM_INTERP_OPS_H

#include "../gc.h"
#include "../heap.h"

union word;
struct interp;

#define PARAMS                                                                                                         \
    const union word *pc, slot *fp, uint8_t *mem, uint64_t mem_size, struct interp *ctx, uint64_t acc, float facc,     \
        double dacc
#define ARGS pc, fp, mem, mem_size, ctx, acc, facc, dacc

typedef enum trap_kind handler(PARAMS);

typedef union word {
    handler *h;
    uint16_t s[4]; /* slots */
    uint32_t u[2];
    int32_t i[2]; /* i[1]: immediate or distance in words, counted from this word */
    uint64_t u64;
    int64_t i64;
    float f;
    double d;
    const void *p;
    struct func *func;
    struct instance *instance;
    struct memory *memory;
    struct table *table;
    struct tag *tag;
    slot *slots;
    gc_function *gc;
} word;
_Static_assert(sizeof(word) == 8 && sizeof(void *) == 8, "slot code is made for 64-bit machines");

/* A call in tail position that must not grow the C stack. gcc makes it one at -O2 (CMakeLists.txt insists on that). */
#if defined(__clang__)
#define TAIL __attribute__((musttail)) return
#else
#define TAIL return
#endif

#define OP(name) enum trap_kind op_##name(PARAMS)

/* On to the instruction `n` words further. */
#define NEXT(n)                                                                                                        \
    do {                                                                                                               \
        pc += (n);                                                                                                     \
        TAIL pc->h(ARGS);                                                                                              \
    } while (0)

/* Off to the instruction that operand word `w` (its i[1]) points at. */
#define JUMP(w)                                                                                                        \
    do {                                                                                                               \
        pc = (w) + (w)->i[1];                                                                                          \
        TAIL pc->h(ARGS);                                                                                              \
    } while (0)

#define LIKELY(x)   __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/* Ends with a trap: the cold handler notes pc, from which the wasm offset is found. */
#define TRAP(kind) TAIL op_trap_##kind(ARGS)
#define TRAP_IF(c, kind)                                                                                               \
    do {                                                                                                               \
        if (UNLIKELY(c)) TRAP(kind);                                                                                   \
    } while (0)
#define TRAP_HANDLERS(X)                                                                                               \
    X(unreachable, TRAP_UNREACHABLE)                                                                                   \
    X(memory, TRAP_MEMORY)                                                                                             \
    X(table, TRAP_TABLE)                                                                                               \
    X(div_zero, TRAP_DIV_ZERO)                                                                                         \
    X(int_overflow, TRAP_INT_OVERFLOW)                                                                                 \
    X(int_conversion, TRAP_INT_CONVERSION)                                                                             \
    X(null_ref, TRAP_NULL_REF)                                                                                         \
    X(null_struct, TRAP_NULL_STRUCT)                                                                                   \
    X(null_array, TRAP_NULL_ARRAY)                                                                                     \
    X(null_i31, TRAP_NULL_I31)                                                                                         \
    X(array, TRAP_ARRAY)                                                                                               \
    X(cast, TRAP_CAST)                                                                                                 \
    X(fuel, TRAP_FUEL)
#define X(name, kind) handler op_trap_##name;
TRAP_HANDLERS(X)
#undef X

/* Slots. The first operand word is pc[1]; by convention s[0] is the destination. A handler stores all eight bytes of a
 * slot (i32 zero-extended), because reading eight bytes after a store of four is slow; it reads what the type has. */
#define S32(n)        (fp[pc[1].s[n]].i32)
#define S64(n)        (fp[pc[1].s[n]].i64)
#define SF32(n)       (fp[pc[1].s[n]].f32)
#define SF64(n)       (fp[pc[1].s[n]].f64)
#define SET(n, value) (fp[pc[1].s[n]].i64 = (value))

/* Address of `size` bytes of memory 0 at `base` (u32) + `offset` (up to 2^33 - 1), or a trap. */
#define MEM32(addr, base, offset, size)                                                                                \
    const uint64_t addr##_ea = (uint64_t)(uint32_t)(base) + (offset);                                                  \
    TRAP_IF(addr##_ea + (size) > mem_size, memory);                                                                    \
    uint8_t *const addr = mem + addr##_ea

/* The same for any memory and 64-bit addresses; operand words m[0] = struct memory *, m[1] = offset. */
#define MEM64(addr, base_, m, n)                                                                                       \
    const uint64_t addr##_b = (base_), addr##_o = (m)[1].u64, addr##_s = (m)[0].memory->size;                          \
    TRAP_IF(addr##_s<(n) || addr##_o> addr##_s - (n) || addr##_b > addr##_s - (n)-addr##_o, memory);                   \
    uint8_t *const addr = (m)[0].memory->base + addr##_b + addr##_o

static inline uint16_t load16(const uint8_t *p) {
    uint16_t v;
    __builtin_memcpy(&v, p, 2);
    return v;
}
static inline uint32_t load32(const uint8_t *p) {
    uint32_t v;
    __builtin_memcpy(&v, p, 4);
    return v;
}
static inline uint64_t load64(const uint8_t *p) {
    uint64_t v;
    __builtin_memcpy(&v, p, 8);
    return v;
}
static inline void store16(uint8_t *p, uint16_t v) {
    __builtin_memcpy(p, &v, 2);
}
static inline void store32(uint8_t *p, uint32_t v) {
    __builtin_memcpy(p, &v, 4);
}
static inline void store64(uint8_t *p, uint64_t v) {
    __builtin_memcpy(p, &v, 8);
}

#include "oplist.h"

/* The instructions' numbers (translate.c thinks in numbers, code holds addresses), flags and names. */
enum iop {
#define X(name, flags) IOP_##name,
    INTERP_OPS(X)
#undef X
        IOP_COUNT
};
enum { OPF_TWIN = 1 /* stores its result in s[0] of its first operand word; the next number is the "_n" twin */ };

extern handler *const interp_handlers[IOP_COUNT];
extern const uint8_t interp_flags[IOP_COUNT];
extern const char *const interp_names[IOP_COUNT];

#define X(name, flags) handler op_##name;
INTERP_OPS(X)
#undef X

#endif
