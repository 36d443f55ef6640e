/* The pieces of hand-written assembly between C and compiled code. */
#ifndef DONJON_NATIVE_STUBS_H
#define DONJON_NATIVE_STUBS_H

#include "../vm.h"

/* Argument and result registers, saved around calls into C. */
struct regs {
    uint64_t general[8]; /* in the order of the convention */
    struct {
        uint64_t lo, hi;
    } vector[8];
};

/* One entry of compiled code from C. */
struct activation {
    void *sp;          /* 0: where enter's callee-saved registers lie */
    struct regs *regs; /* 8 */
    uint32_t kind;     /* 16: how it ended */
    struct activation *previous;
};

/* Calls f on the stack that ends at sp (NULL: on this one), with the registers of act->regs; results come back there.
 */
uint32_t stub_enter(struct func *f, struct vmctx *vm, void *sp, struct activation *act);
/* Returns from the activation with its kind: rdi. */
void stub_leave(void);
void stub_exit(void);  /* see vm.h */
void stub_fault(void); /* the same, "called" by the instruction that faulted; the kind is in the context */
void stub_cross(void);
void stub_subtype(void);
void stub_lazy_site(void); /* first call of a function, by its place in the context */
void stub_lazy_func(void); /* the same, through struct func */
/* While an interrupt is pending: in a loop, all registers kept; in place of every function's code, by its place in the
 * context and through struct func. They come back, or end in a trap. */
void stub_attend(void);
void stub_attend_site(void);
void stub_attend_func(void);
void stub_host(void);      /* struct func.native of host functions */

/* Return addresses that the unwinder meets. */
extern const uint8_t stub_enter_return[], stub_cross_return[];

/* What the stubs call in native.c. */
struct activation *native_unwind(struct vmctx *vm, uint64_t *sp); /* NULL: goes on at vm->land_pc */
uint32_t native_host_call(struct vmctx *vm, struct func *f, struct regs *regs);
uint32_t native_attend(struct vmctx *vm, uint64_t *saved); /* a trap kind; TRAP_NONE: on with the loop */
/* The code to go on with; NULL: TRAP_INTERRUPT. */
void *native_attend_site(struct vmctx *vm, const uint8_t *return_address, struct regs *regs);
void *native_attend_func(struct vmctx *vm, struct func *f, struct regs *regs);
bool native_subtype(struct vmctx *vm, struct func *f, uint32_t type_id);
void *native_compile_site(struct vmctx *vm, const uint8_t *return_address, struct regs *regs);
void *native_compile_func(struct vmctx *vm, struct func *f, struct regs *regs);

#endif
