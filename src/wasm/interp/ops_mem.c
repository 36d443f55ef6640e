/* Loads and stores, moves, constants, select and globals. */
#include "state.h"

/* Loads. LOADS: the result's place (acc, facc, dacc), its expression from `p`, and how it is stored. */
#define DEFINE_LOAD(name, SIZE, ADDRESS, LEN, TO, EXPR, STORE)                                                         \
    OP(name) {                                                                                                         \
        ADDRESS(p, SIZE);                                                                                              \
        TO = (EXPR);                                                                                                   \
        STORE;                                                                                                         \
        NEXT(LEN);                                                                                                     \
    }                                                                                                                  \
    OP(name##_n) {                                                                                                     \
        ADDRESS(p, SIZE);                                                                                              \
        TO = (EXPR);                                                                                                   \
        NEXT(LEN);                                                                                                     \
    }
#define AT_SLOT(p, size)      MEM32(p, S32(1), pc[1].u[1], size)
#define AT_ACC(p, size)       MEM32(p, acc, pc[1].u[1], size)
#define AT_SLOT_PLUS(p, size) MEM32(p, S32(1) + pc[2].u[0], pc[1].u[1], size)
#define AT_ACC_PLUS(p, size)  MEM32(p, acc + pc[2].u[0], pc[1].u[1], size)
#define AT_SUM(p, sum, size)  MEM32(p, (sum) + pc[2].u[0], pc[2].u[1], size)
#define AT_SS(p, size)        AT_SUM(p, S32(1) + S32(2), size)
#define AT_AS(p, size)        AT_SUM(p, S32(1) + (uint32_t)acc, size)
#define AT_SLS(p, size)       AT_SUM(p, S32(1) + (S32(2) << (pc[1].s[3] & 31)), size)
#define AT_SLA(p, size)       AT_SUM(p, S32(1) + ((uint32_t)acc << (pc[1].s[3] & 31)), size)
#define AT_LS(p, size)        AT_SUM(p, S32(2) << (pc[1].s[3] & 31), size)
#define AT_LA(p, size)        AT_SUM(p, (uint32_t)acc << (pc[1].s[3] & 31), size)
#define AT_FIXED(p, size)     const uint8_t *const p = mem + pc[1].u[1]
#define AT_FAR(p, size)                                                                                                \
    const uint64_t base = pc[1].s[2] ? S64(1) : S32(1);                                                                \
    MEM64(p, base, pc + 2, size)
#define LOAD(name, SIZE, TO, EXPR, STORE)                                                                              \
    DEFINE_LOAD(name##_s, SIZE, AT_SLOT, 2, TO, EXPR, STORE)                                                           \
    DEFINE_LOAD(name##_a, SIZE, AT_ACC, 2, TO, EXPR, STORE)                                                            \
    DEFINE_LOAD(name##_sp, SIZE, AT_SLOT_PLUS, 3, TO, EXPR, STORE)                                                     \
    DEFINE_LOAD(name##_ap, SIZE, AT_ACC_PLUS, 3, TO, EXPR, STORE)                                                      \
    DEFINE_LOAD(name##_ss, SIZE, AT_SS, 3, TO, EXPR, STORE)                                                            \
    DEFINE_LOAD(name##_as, SIZE, AT_AS, 3, TO, EXPR, STORE)                                                            \
    DEFINE_LOAD(name##_sls, SIZE, AT_SLS, 3, TO, EXPR, STORE)                                                          \
    DEFINE_LOAD(name##_sla, SIZE, AT_SLA, 3, TO, EXPR, STORE)                                                          \
    DEFINE_LOAD(name##_ls, SIZE, AT_LS, 3, TO, EXPR, STORE)                                                            \
    DEFINE_LOAD(name##_la, SIZE, AT_LA, 3, TO, EXPR, STORE)                                                            \
    DEFINE_LOAD(name##_k, SIZE, AT_FIXED, 2, TO, EXPR, STORE)                                                          \
    DEFINE_LOAD(name##_far, SIZE, AT_FAR, 4, TO, EXPR, STORE)

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

LOAD(i32_load, 4, acc, load32(p), SET(0, acc))
LOAD(i64_load, 8, acc, load64(p), SET(0, acc))
LOAD(f32_load, 4, facc, load_f32(p), SF32(0) = facc)
LOAD(f64_load, 8, dacc, load_f64(p), SF64(0) = dacc)
LOAD(i32_load8_s, 1, acc, (uint32_t)(int8_t)*p, SET(0, acc))
LOAD(i32_load8_u, 1, acc, *p, SET(0, acc))
LOAD(i32_load16_s, 2, acc, (uint32_t)(int16_t)load16(p), SET(0, acc))
LOAD(i32_load16_u, 2, acc, load16(p), SET(0, acc))
LOAD(i64_load8_s, 1, acc, (uint64_t)(int8_t)*p, SET(0, acc))
LOAD(i64_load16_s, 2, acc, (uint64_t)(int16_t)load16(p), SET(0, acc))
LOAD(i64_load32_s, 4, acc, (uint64_t)(int32_t)load32(p), SET(0, acc))

/* Two loads: [d addr d2 addr2][offset offset2]. The second's slot may be the first's result. */
OP(i32_load_2) {
    MEM32(p, S32(1), pc[2].u[0], 4);
    SET(0, load32(p));
    pc++; /* a trap from here on is the second's */
    MEM32(p2, fp[pc[0].s[3]].i32, pc[1].u[1], 4);
    acc = load32(p2);
    fp[pc[0].s[2]].i64 = acc;
    NEXT(2);
}

/* Loads with what comes of them. */
#define DEFINE_LOAD_BR(name, SIZE, LOAD, EXPR)                                                                         \
    DEFINE_LOAD_BR_(name##_s, SIZE, LOAD, EXPR, SET(0, acc), JUMP(pc + 2))                                             \
    DEFINE_LOAD_BR_(name##_s_n, SIZE, LOAD, EXPR, , JUMP(pc + 2))                                                      \
    DEFINE_LOAD_BR_(name##_loop_s, SIZE, LOAD, EXPR, SET(0, acc), LOOP(pc + 2))                                        \
    DEFINE_LOAD_BR_(name##_loop_s_n, SIZE, LOAD, EXPR, , LOOP(pc + 2))
#define DEFINE_LOAD_BR_(name, SIZE, LOAD, EXPR, STORE, GO)                                                             \
    OP(name) {                                                                                                         \
        AT_SLOT(p, SIZE);                                                                                              \
        const uint32_t b = (uint32_t)(int32_t)(int16_t)pc[2].s[1];                                                     \
        acc = (LOAD);                                                                                                  \
        STORE;                                                                                                         \
        if (EXPR) GO;                                                                                                  \
        NEXT(3);                                                                                                       \
    }
#define LOOP(w)                                                                                                        \
    do {                                                                                                               \
        pc = (w) + (w)->i[1];                                                                                          \
        TICK(ctx);                                                                                                     \
        TAIL pc->h(ARGS);                                                                                              \
    } while (0)
#define LOAD_BRS(name, SIZE, LOAD)                                                                                     \
    DEFINE_LOAD_BR(name##_br_eq, SIZE, LOAD, acc == b)                                                                 \
    DEFINE_LOAD_BR(name##_br_ne, SIZE, LOAD, acc != b)                                                                 \
    DEFINE_LOAD_BR(name##_br_tst, SIZE, LOAD, (acc & b))                                                               \
    DEFINE_LOAD_BR(name##_br_ntst, SIZE, LOAD, !(acc & b))
LOAD_BRS(i32_load, 4, load32(p))
LOAD_BRS(i32_load8_u, 1, *p)

/* Stores. */
#define DEFINE_STORE(name, SIZE, ADDRESS, LEN, VALUE, STORE)                                                           \
    OP(name) {                                                                                                         \
        ADDRESS(p, SIZE);                                                                                              \
        const uint64_t value = (VALUE);                                                                                \
        STORE;                                                                                                         \
        NEXT(LEN);                                                                                                     \
    }
#define TO_SLOT(p, size)  MEM32(p, S32(0), pc[1].u[1], size)
#define TO_ACC(p, size)   MEM32(p, acc, pc[1].u[1], size)
#define TO_PLUS(p, size)  MEM32(p, S32(0) + pc[2].u[0], pc[1].u[1], size)
#define TO_FIXED(p, size) uint8_t *const p = mem + pc[1].u[1]
#define TO_FAR(p, size)   AT_FAR(p, size)
#define STORE(name, SIZE, STORE)                                                                                       \
    DEFINE_STORE(name##_ss, SIZE, TO_SLOT, 2, S64(1), STORE)                                                           \
    DEFINE_STORE(name##_si, SIZE, TO_SLOT, 3, pc[2].u64, STORE)                                                        \
    DEFINE_STORE(name##_sa, SIZE, TO_SLOT, 2, acc, STORE)                                                              \
    DEFINE_STORE(name##_as, SIZE, TO_ACC, 2, S64(1), STORE)                                                            \
    DEFINE_STORE(name##_ai, SIZE, TO_ACC, 3, pc[2].u64, STORE)                                                         \
    DEFINE_STORE(name##_ks, SIZE, TO_FIXED, 2, S64(1), STORE)                                                          \
    DEFINE_STORE(name##_ki, SIZE, TO_FIXED, 3, pc[2].u64, STORE)                                                       \
    DEFINE_STORE(name##_ka, SIZE, TO_FIXED, 2, acc, STORE)                                                             \
    DEFINE_STORE(name##_ps, SIZE, TO_PLUS, 3, S64(1), STORE)                                                           \
    DEFINE_STORE(name##_pi, SIZE, TO_PLUS, 4, pc[3].u64, STORE)                                                        \
    DEFINE_STORE(name##_pa, SIZE, TO_PLUS, 3, acc, STORE)                                                              \
    DEFINE_STORE(name##_far, SIZE, TO_FAR, 4, S64(0), STORE)
STORE(store8, 1, *p = (uint8_t)value)
STORE(store16, 2, store16(p, (uint16_t)value))
STORE(store32, 4, store32(p, (uint32_t)value))
STORE(store64, 8, store64(p, value))

/* Load, add, store at the same place: [- addr offset32][imm]. */
OP(i32_mem_add) {
    MEM32(p, S32(1), pc[1].u[1], 4);
    store32(p, load32(p) + pc[2].u[0]);
    NEXT(3);
}

#define FLOAT_STORE(name, ADDRESS, SIZE, LEN, FROM)                                                                    \
    OP(name) {                                                                                                         \
        ADDRESS(p, SIZE);                                                                                              \
        __builtin_memcpy(p, &FROM, SIZE);                                                                              \
        NEXT(LEN);                                                                                                     \
    }
FLOAT_STORE(f32_store_sa, TO_SLOT, 4, 2, facc)
FLOAT_STORE(f32_store_ka, TO_FIXED, 4, 2, facc)
FLOAT_STORE(f32_store_pa, TO_PLUS, 4, 3, facc)
FLOAT_STORE(f64_store_sa, TO_SLOT, 8, 2, dacc)
FLOAT_STORE(f64_store_ka, TO_FIXED, 8, 2, dacc)
FLOAT_STORE(f64_store_pa, TO_PLUS, 8, 3, dacc)

/* Moves: [to from]; copy64_2: two of them. */
typedef struct pair {
    uint64_t v[2];
} pair;
static inline void copy_pair(slot *to, const slot *from) {
    pair v;
    __builtin_memcpy(&v, from, sizeof v);
    __builtin_memcpy(to, &v, sizeof v);
}
OP(copy32) {
    SET(0, S32(1));
    NEXT(2);
}
OP(copy64) {
    SET(0, S64(1));
    NEXT(2);
}
OP(copy64_2) {
    SET(0, S64(1));
    SET(2, S64(3));
    NEXT(2);
}
OP(copy64_4) {
    SET(0, S64(1));
    SET(2, S64(3));
    pc++;
    SET(0, S64(1));
    SET(2, S64(3));
    NEXT(2);
}
OP(copy64_a) {
    SET(0, acc);
    NEXT(2);
}
OP(copy128) {
    copy_pair(&fp[pc[1].s[0]], &fp[pc[1].s[1]]);
    NEXT(2);
}

#define DEFINE_MOVE(name, TO, FROM, STORE, LEN)                                                                        \
    OP(name) {                                                                                                         \
        TO = (FROM);                                                                                                   \
        STORE;                                                                                                         \
        NEXT(LEN);                                                                                                     \
    }                                                                                                                  \
    OP(name##_n) {                                                                                                     \
        TO = (FROM);                                                                                                   \
        NEXT(LEN);                                                                                                     \
    }
OP(put) {
    SET(0, (uint64_t)(int64_t)pc[1].i[1]);
    NEXT(2);
}
OP(put64) {
    SET(0, pc[2].u64);
    NEXT(3);
}
DEFINE_MOVE(const, acc, (uint64_t)(int64_t)pc[1].i[1], SET(0, acc), 2)
DEFINE_MOVE(const64, acc, pc[2].u64, SET(0, acc), 3)
DEFINE_MOVE(f32_const, facc, pc[2].f, SF32(0) = facc, 3)
DEFINE_MOVE(f64_const, dacc, pc[2].d, SF64(0) = dacc, 3)
OP(const128) {
    copy_pair(&fp[pc[1].s[0]], (const slot *)&pc[2]);
    NEXT(4);
}

DEFINE_MOVE(select_s, acc, S32(3) ? S64(1) : S64(2), SET(0, acc), 2)
DEFINE_MOVE(select_a, acc, (uint32_t)acc ? S64(1) : S64(2), SET(0, acc), 2)
DEFINE_MOVE(f32_select_s, facc, S32(3) ? SF32(1) : SF32(2), SF32(0) = facc, 2)
DEFINE_MOVE(f32_select_a, facc, (uint32_t)acc ? SF32(1) : SF32(2), SF32(0) = facc, 2)
DEFINE_MOVE(f64_select_s, dacc, S32(3) ? SF64(1) : SF64(2), SF64(0) = dacc, 2)
DEFINE_MOVE(f64_select_a, dacc, (uint32_t)acc ? SF64(1) : SF64(2), SF64(0) = dacc, 2)
OP(v128_select_s) {
    copy_pair(&fp[pc[1].s[0]], &fp[S32(3) ? pc[1].s[1] : pc[1].s[2]]);
    NEXT(2);
}

/* Globals: pc[2] is the address of the value. */
DEFINE_MOVE(global_get, acc, pc[2].slots->i64, SET(0, acc), 3)
DEFINE_MOVE(f32_global_get, facc, pc[2].slots->f32, SF32(0) = facc, 3)
DEFINE_MOVE(f64_global_get, dacc, pc[2].slots->f64, SF64(0) = dacc, 3)
OP(v128_global_get) {
    copy_pair(&fp[pc[1].s[0]], pc[2].slots);
    NEXT(3);
}
OP(global_set_s) {
    pc[2].slots->i64 = S64(0);
    NEXT(3);
}
OP(global_set_a) {
    pc[2].slots->i64 = acc;
    NEXT(3);
}
OP(f32_global_set_s) {
    pc[2].slots->i64 = S32(0);
    NEXT(3);
}
OP(v128_global_set_s) {
    copy_pair(pc[2].slots, &fp[pc[1].s[0]]);
    NEXT(3);
}

#define NOT_NULL(name, FROM)                                                                                           \
    OP(name) {                                                                                                         \
        acc = (FROM);                                                                                                  \
        TRAP_IF(acc == 0, null_ref);                                                                                   \
        SET(0, acc);                                                                                                   \
        NEXT(2);                                                                                                       \
    }                                                                                                                  \
    OP(name##_n) {                                                                                                     \
        acc = (FROM);                                                                                                  \
        TRAP_IF(acc == 0, null_ref);                                                                                   \
        NEXT(2);                                                                                                       \
    }
NOT_NULL(ref_as_non_null_s, S64(1))
NOT_NULL(ref_as_non_null_a, acc)
