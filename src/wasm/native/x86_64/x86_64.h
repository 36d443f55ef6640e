/* Between this directory's files. */
#ifndef DONJON_NATIVE_X86_64_H
#define DONJON_NATIVE_X86_64_H

#include "../alloc.h"
#include "../compile.h"
#include "../vm.h"
#include "asm.h"

/* base + index << scale + disp; index 0: none */
struct lea {
    ref base, index;
    uint8_t scale;
    int32_t disp;
};
struct lea x86_lea(const struct fn *f, ref v);

bool x86_imm(const struct fn *f, ref v, bool wide, int32_t *imm);
bool x86_is_int_compare(uint16_t op);
bool x86_is_float_compare(uint16_t op);
bool x86_float_compare_swaps(uint16_t op);
/* A load that its only user reads straight from memory. */
bool x86_fused_load(const struct fn *f, ref v);
/* An `and` that is an instruction of its own, because of what its operand a is: ~x & y (andn), x - 1 & x (blsr). */
bool x86_special_and(const struct fn *f, const struct ins *i);
bool x86_checked_access(const struct fn *f, uint32_t memory);
bool x86_constant_address(const struct fn *f, const struct ins *i, int32_t *disp);
void x86_memory_operands(const struct fn *f, const struct ins *i, struct operands *o);
void x86_simd_operands(const struct fn *f, const struct ins *i, struct operands *o);
void x86_simd_fuse(struct fn *f, const uint32_t *uses, ref v, ref first);
bool x86_simd_is_test(uint16_t op); /* any_true, all_true: their conditions may be left in the flags */

struct trap_jump { /* a conditional jump to a trap, whose code is emitted after the function's */
    uint32_t at;
    uint8_t kind; /* enum trap_kind; TRAP_NONE: eax has it already */
    uint32_t ins;
};
enum detour_kind { DETOUR_CROSS, DETOUR_SUBTYPE };
struct detour { /* rare paths of indirect calls, likewise */
    enum detour_kind kind;
    uint32_t at, back, type;
    uint32_t ins;
};

struct emitter {
    struct as a;
    struct fn *f;
    struct allocation *al;
    const struct operands *o; /* of the instruction in hand */
    const struct assign *as;
    uint32_t ins;
    uint32_t frame, locals, spills; /* bytes; offsets of the memory-held locals and of the slot area from RSP */
    bool leaf;                      /* calls nothing */
    ref results_of;                 /* the call whose results are being read, */
    uint32_t results_seen;          /* how many of them have got their places, */
    struct convention results;      /* and where the next one lies */
    VEC(uint32_t) edge_stubs;       /* switch_: by edge, where its moves stand */
    uint32_t *block_at;
    VEC(uint32_t) jumps;                          /* where each jump to a block stands */
    const uint32_t *first_block_at, *first_jumps; /* of the first of two emissions, NULL while that is made */
    VEC(struct trap_jump) traps;
    VEC(struct detour) detours;
    VEC(struct position) positions;
    VEC(struct relocation) relocations;
    struct compiled *out;
};

static inline struct rm slot_rm(const struct emitter *e, ref v) {
    return rm_mem(RSP, (int32_t)(e->spills + e->al->slot[v]));
}
/* Operand k: its register or slot. */
static inline struct rm use_rm(const struct emitter *e, unsigned k) {
    return e->as->use[k] == USE_IN_SLOT ? slot_rm(e, e->o->use[k].value) : rm_reg(e->as->use[k]);
}

void x86_trap_if(struct emitter *e, uint8_t cc, enum trap_kind kind);
/* The memory operand of an access (i's address), after whatever check it needs. `size`: bytes accessed. */
struct rm x86_address(struct emitter *e, const struct ins *i, uint32_t size);
void x86_load_const(struct emitter *e, uint8_t to, const struct ins *c);
/* The constant's 16 bytes in the pool: floats repeated in no lane but the first. */
struct rm x86_pool_const(struct emitter *e, const struct ins *c);
void x86_simd(struct emitter *e, const struct ins *i);
uint8_t x86_simd_test(struct emitter *e, const struct ins *i, uint8_t x); /* the condition code for true */

#endif
