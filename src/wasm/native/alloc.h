/* Register allocation: result form. See alloc.c for the method. */
#ifndef DONJON_NATIVE_ALLOC_H
#define DONJON_NATIVE_ALLOC_H

#include "target.h"

/* A location in 32 bits: kind in the top four, the rest a register, a value, or an index. */
enum loc_kind {
    LOC_REG = 1u << 28,
    LOC_SLOT = 2u << 28,     /* the stack slot of a value */
    LOC_CONST = 3u << 28,    /* a constant: its value's instruction */
    LOC_OUT = 4u << 28,      /* 8-byte slot in the area for helper arguments */
    LOC_OVERFLOW = 5u << 28, /* 8-byte slot in the context's overflow area */
    LOC_KIND = 15u << 28,
    LOC_WIDE = 1u << 27 /* with LOC_OUT and LOC_OVERFLOW: 16 bytes */
};

/* One instruction's registers: operands in the order of target_operands. USE_IN_SLOT: read it from its slot. */
enum { USE_IN_SLOT = 0x80 };
struct assign {
    uint8_t def, temp;
    uint8_t use[MAX_USES];
    bool swapped; /* operands 0 and 1 changed places */
};

struct allocation {
    struct assign *at;  /* by instruction */
    uint32_t *moves_at; /* by instruction: end of its moves in fn->moves; moves stand in instruction order */
    uint32_t *slot;     /* by value: byte offset of its slot within the frame's slot area */
    uint32_t slot_bytes, out_bytes;
};

bool allocate(struct fn *f, struct allocation *a);
void allocation_free(const struct donjon_platform *p, struct allocation *a);

/* Scratch registers that never hold a value: for moves between slots and for cycles. */
enum { SCRATCH_GENERAL = 11, SCRATCH_VECTOR = 31, SCRATCH_CYCLE = 30 };

#endif
