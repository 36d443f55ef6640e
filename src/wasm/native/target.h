/* What the compiler's machine-independent part asks of a CPU's directory (x86_64/, ...). */
#ifndef DONJON_NATIVE_TARGET_H
#define DONJON_NATIVE_TARGET_H

#include "ir.h"

/* Registers: general ones 0..15, vector ones 16..31. */
enum { REG_VECTOR = 16, REG_COUNT = 32, REG_NONE = 0xff };
typedef uint32_t regset;

/* How an instruction takes an operand. */
enum use_how {
    USE_REG,   /* in a register */
    USE_ANY,   /* in a register or in its stack slot */
    USE_FIXED, /* copied to a given register, which the instruction may destroy */
};
/* Where it leaves its result. */
enum def_how {
    DEF_NONE,
    DEF_REG,   /* any register, also one of the operands' */
    DEF_EARLY, /* a register different from every operand's */
    DEF_TIED,  /* the register of operand 0, which is copied there first if it lives on; different from the other
                  operands' */
    DEF_FIXED,
};

enum { MAX_USES = 5 };
struct operands {
    uint8_t n;
    struct {
        ref value;
        uint8_t how, reg;
    } use[MAX_USES];
    uint8_t def, def_reg;
    bool commutes;   /* operands 0 and 1 may change places */
    bool temp;       /* wants a general register of its own while it runs */
    regset clobbers; /* destroyed, beside the result */
};

/* Marks what other instructions swallow (INS_FUSED): compares into branches, addresses into lea, ... `uses` counts each
 * value's users. Runs after dead code is known. */
void target_fuse(struct fn *f, const uint32_t *uses);
/* The operands of an instruction that is emitted, through the fused ones. Not for calls, phis, constants. */
void target_operands(const struct fn *f, ref i, struct operands *o);

extern const regset target_general, target_vector; /* that the allocator may give out */
extern const regset target_results;                /* in which calls leave results */
static inline bool type_is_vector(uint8_t type) {
    return type == KIND_F32 || type == KIND_F64 || type == KIND_V128;
}
static inline regset target_class(uint8_t type) {
    return type_is_vector(type) ? target_vector : target_general;
}

/* The calling convention. Parameter or result number k of a list of types: its register, or REG_NONE and the index of
 * its slot in the overflow area. Same for both. */
struct convention {
    uint8_t general, vector;
    uint32_t overflow;
};
uint8_t target_next_place(struct convention *c, uint8_t type, uint32_t *overflow_slot);
enum { TARGET_CALLEE = 10 }; /* register in which an indirect call's index or reference arrives */

/* A compiled function, position-independent. */
struct code {
    uint8_t *bytes;
    uint32_t size, cap;
    uint32_t frame; /* bytes below the return address */
};

#endif
