/* Structures, arrays, casts and i31. What allocates or works on many elements is one instruction, gc, which calls the
 * function of gc.c; its operands are in consecutive slots. */
#include "state.h"
#include "../gc.h"
#include "../limits.h"

/* [args n][function][x y][instance] */
static __attribute__((noinline)) enum trap_kind call_gc(struct interp *ctx, const word *pc, slot *args) {
    uint64_t bytes = 0;
    ctx->sp = args + pc[1].s[1]; /* what is above has no value now */
    const enum trap_kind kind = pc[2].gc(pc[4].instance, pc[3].u[0], pc[3].u[1], args, args, &bytes);
    return kind != TRAP_NONE || bytes < BULK_FREE ? kind : interp_charge(ctx, bytes);
}
OP(gc) {
    const enum trap_kind kind = call_gc(ctx, pc, fp + pc[1].s[0]);
    if (UNLIKELY(kind != TRAP_NONE)) {
        ctx->trap_pc = pc;
        return kind;
    }
    NEXT(5);
}

static inline const uint8_t *bytes_of(uint64_t ref) {
    return (const uint8_t *)(uintptr_t)ref;
}
static inline const struct object *object_of(uint64_t ref) {
    return (const struct object *)(uintptr_t)ref;
}
static inline float load_f32(const uint8_t *p) {
    float v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}
static inline double load_f64(const uint8_t *p) {
    double v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}

/* The instruction and its "_n" twin. */
#define TWIN(name, BODY, STORE, LEN)                                                                                   \
    OP(name) {                                                                                                         \
        BODY;                                                                                                          \
        STORE;                                                                                                         \
        NEXT(LEN);                                                                                                     \
    }                                                                                                                  \
    OP(name##_n) {                                                                                                     \
        BODY;                                                                                                          \
        NEXT(LEN);                                                                                                     \
    }

/* ---- Structures ---- */

/* [d ref offset32] */
#define FIELD(REF, TO, EXPR)                                                                                           \
    const uint64_t ref = (REF);                                                                                        \
    TRAP_IF(!ref, null_struct);                                                                                        \
    const uint8_t *const p = bytes_of(ref) + pc[1].u[1];                                                               \
    TO = (EXPR)
#define STRUCT_GET(name, TO, EXPR, STORE)                                                                              \
    TWIN(name##_s, FIELD(S64(1), TO, EXPR), STORE, 2)                                                                  \
    TWIN(name##_a, FIELD(acc, TO, EXPR), STORE, 2)
STRUCT_GET(struct_get_8_s, acc, (uint32_t)(int8_t)*p, SET(0, acc))
STRUCT_GET(struct_get_8_u, acc, *p, SET(0, acc))
STRUCT_GET(struct_get_16_s, acc, (uint32_t)(int16_t)load16(p), SET(0, acc))
STRUCT_GET(struct_get_16_u, acc, load16(p), SET(0, acc))
STRUCT_GET(struct_get_32, acc, load32(p), SET(0, acc))
STRUCT_GET(struct_get_64, acc, load64(p), SET(0, acc))
STRUCT_GET(struct_get_f32, facc, load_f32(p), SF32(0) = facc)
STRUCT_GET(struct_get_f64, dacc, load_f64(p), SF64(0) = dacc)

/* [ref value offset32] */
#define STRUCT_SET(name, STORE)                                                                                        \
    OP(name) {                                                                                                         \
        const uint64_t ref = S64(0);                                                                                   \
        TRAP_IF(!ref, null_struct);                                                                                    \
        uint8_t *const p = (uint8_t *)(uintptr_t)ref + pc[1].u[1];                                                     \
        STORE;                                                                                                         \
        NEXT(2);                                                                                                       \
    }
STRUCT_SET(struct_set_8, *p = (uint8_t)S32(1))
STRUCT_SET(struct_set_16, store16(p, (uint16_t)S32(1)))
STRUCT_SET(struct_set_32, store32(p, S32(1)))
STRUCT_SET(struct_set_64, store64(p, S64(1)))

/* ---- Arrays ---- */

/* [d ref index] */
#define ELEM(REF, INDEX, SIZE)                                                                                         \
    const uint64_t ref = (REF);                                                                                        \
    const uint32_t index = (INDEX);                                                                                    \
    TRAP_IF(!ref, null_array);                                                                                         \
    TRAP_IF(index >= object_of(ref)->length, array);                                                                   \
    uint8_t *const p = (uint8_t *)(uintptr_t)ref + OBJECT_ELEMS + (uint64_t)index * (SIZE)
#define ARRAY_GET(name, SIZE, TO, EXPR, STORE)                                                                         \
    TWIN(name##_s, ELEM(S64(1), S32(2), SIZE); TO = (EXPR), STORE, 2)                                                  \
    TWIN(name##_a, ELEM(S64(1), (uint32_t)acc, SIZE); TO = (EXPR), STORE, 2)
ARRAY_GET(array_get_8_s, 1, acc, (uint32_t)(int8_t)*p, SET(0, acc))
ARRAY_GET(array_get_8_u, 1, acc, *p, SET(0, acc))
ARRAY_GET(array_get_16_s, 2, acc, (uint32_t)(int16_t)load16(p), SET(0, acc))
ARRAY_GET(array_get_16_u, 2, acc, load16(p), SET(0, acc))
ARRAY_GET(array_get_32, 4, acc, load32(p), SET(0, acc))
ARRAY_GET(array_get_64, 8, acc, load64(p), SET(0, acc))
ARRAY_GET(array_get_f32, 4, facc, load_f32(p), SF32(0) = facc)
ARRAY_GET(array_get_f64, 8, dacc, load_f64(p), SF64(0) = dacc)

/* [ref index value] */
#define ARRAY_SET(name, SIZE, STORE)                                                                                   \
    OP(name) {                                                                                                         \
        ELEM(S64(0), S32(1), SIZE);                                                                                    \
        STORE;                                                                                                         \
        NEXT(2);                                                                                                       \
    }
ARRAY_SET(array_set_8, 1, *p = (uint8_t)S32(2))
ARRAY_SET(array_set_16, 2, store16(p, (uint16_t)S32(2)))
ARRAY_SET(array_set_32, 4, store32(p, S32(2)))
ARRAY_SET(array_set_64, 8, store64(p, S64(2)))

/* [d ref] */
#define LENGTH(REF)                                                                                                    \
    const uint64_t ref = (REF);                                                                                        \
    TRAP_IF(!ref, null_array);                                                                                         \
    acc = object_of(ref)->length
TWIN(array_len_s, LENGTH(S64(1)), SET(0, acc), 2)
TWIN(array_len_a, LENGTH(acc), SET(0, acc), 2)

/* ---- i31 ---- */

/* [d a] */
#define I31_GET(REF, EXPR)                                                                                             \
    const uint64_t ref = (REF);                                                                                        \
    TRAP_IF(!ref, null_i31);                                                                                           \
    acc = (EXPR)
TWIN(ref_i31_s, acc = (uint32_t)(S32(1) << 1 | REF_TAG_I31), SET(0, acc), 2)
TWIN(ref_i31_a, acc = (uint32_t)((uint32_t)acc << 1 | REF_TAG_I31), SET(0, acc), 2)
TWIN(i31_get_s_s, I31_GET(S64(1), (uint32_t)((int32_t)ref >> 1)), SET(0, acc), 2)
TWIN(i31_get_s_a, I31_GET(acc, (uint32_t)((int32_t)ref >> 1)), SET(0, acc), 2)
TWIN(i31_get_u_s, I31_GET(S64(1), (uint32_t)ref >> 1), SET(0, acc), 2)
TWIN(i31_get_u_a, I31_GET(acc, (uint32_t)ref >> 1), SET(0, acc), 2)

/* ---- Casts ---- */

/* [d ref][heap type, object type id]: the id is TYPE_NONE unless an object of it, and surely that, is meant. */
static __attribute__((noinline)) bool is_other(const struct interp *ctx, uint64_t ref, uint32_t heap) {
    return gc_ref_is(ctx->store->engine, (slot){.i64 = ref}, heap);
}
static inline bool is(const struct interp *ctx, uint64_t ref, const word *type) {
    if (LIKELY(!(ref & REF_TAGS) && type->u[1] != TYPE_NONE && object_of(ref)->type_id == type->u[1])) return true;
    return is_other(ctx, ref, type->u[0]);
}
#define TEST(REF, NULL_IS)                                                                                             \
    const uint64_t ref = (REF);                                                                                        \
    acc = ref ? is(ctx, ref, pc + 2) : (NULL_IS)
#define CAST(REF, NULL_IS)                                                                                             \
    const uint64_t ref = (REF);                                                                                        \
    TRAP_IF(ref ? !is(ctx, ref, pc + 2) : !(NULL_IS), cast);                                                           \
    acc = ref
TWIN(ref_test_s, TEST(S64(1), 0), SET(0, acc), 3)
TWIN(ref_test_a, TEST(acc, 0), SET(0, acc), 3)
TWIN(ref_test_null_s, TEST(S64(1), 1), SET(0, acc), 3)
TWIN(ref_test_null_a, TEST(acc, 1), SET(0, acc), 3)
TWIN(ref_cast_s, CAST(S64(1), 0), SET(0, acc), 3)
TWIN(ref_cast_a, CAST(acc, 0), SET(0, acc), 3)
TWIN(ref_cast_null_s, CAST(S64(1), 1), SET(0, acc), 3)
TWIN(ref_cast_null_a, CAST(acc, 1), SET(0, acc), 3)
