/* What compiled code sees of an instance: one block of memory that a pinned register points to. Compiled code knows
 * only offsets into it, so it can be used by any instance of its module and kept in files. */
#ifndef DONJON_NATIVE_VM_H
#define DONJON_NATIVE_VM_H

#include "ir.h"

enum { OVERFLOW_SLOTS = 2048 }; /* parameters and results beyond the registers: 1,000 vectors at most */

/* Before a context lies a page that loops read. While an interrupt is pending nobody may, and the fault leaves the loop:
 * for good, or until somebody has attended to it. */
enum { VM_POLL_PAGE = 4096, POLL_SIZE = 7 };

struct vmctx {
    size_t size;        /* bytes, whole pages */
    struct vmctx *next; /* of the store's contexts */
    struct instance *instance;
    struct store *store;
    uint8_t *memory0;        /* base, pinned in a register while this instance runs */
    uint32_t interrupt;      /* an interrupt is pending */
    uint32_t kind;           /* of the trap that exit_stub reports */
    uint8_t *stack_limit;    /* lowest address large frames may reach */
    void *exit_stub;         /* jumped to with a trap kind */
    void *attend_stub;       /* called by loops that look at `interrupt` themselves; all registers are kept */
    void *cross_stub;        /* calls a function of another instance, or of the host */
    void *host_stub;         /* calls a function that has no code: r11 */
    void *subtype_stub;      /* compares function types that are not equal */
    void *land_pc, *land_sp; /* where exit_stub goes on after a caught exception */
    struct vmctx *land_vm;
    void *land_exn;
    void *helpers[HELPER_COUNT];
    slot *overflow; /* parameters and results beyond the registers; one area a store */
    void *tail[];   /* code by function, functions, globals, memories, tables, tags */
};

/* Byte offsets from the context, for the index spaces of a module. */
static inline uint32_t vm_tail(uint32_t at) {
    return (uint32_t)(offsetof(struct vmctx, tail) + 8u * (size_t)at);
}
static inline uint32_t vm_code(uint32_t i) {
    return vm_tail(i);
}
static inline uint32_t vm_func(const struct module *m, uint32_t i) {
    return vm_tail(m->n_funcs + i);
}
static inline uint32_t vm_global(const struct module *m, uint32_t i) {
    return vm_tail(2 * m->n_funcs + i);
}
static inline uint32_t vm_memory(const struct module *m, uint32_t i) {
    return vm_tail(2 * m->n_funcs + m->n_globals + i);
}
static inline uint32_t vm_table(const struct module *m, uint32_t i) {
    return vm_tail(2 * m->n_funcs + m->n_globals + m->n_memories + i);
}
/* A number that is the instance's own: its global object stands in the context itself. */
enum { VM_CELL_SLOTS = (sizeof(struct global) + 7) / 8 };
static inline bool vm_global_inline(const struct module *m, uint32_t i) {
    return i >= m->n_global_imports && !vt_is_ref(m->globals[i].type.type);
}
static inline uint32_t vm_cells(const struct module *m) {
    return 2 * m->n_funcs + m->n_globals + m->n_memories + m->n_tables;
}
static inline uint32_t vm_cell(const struct module *m, uint32_t i) {
    return vm_tail(vm_cells(m) + VM_CELL_SLOTS * (i - m->n_global_imports));
}
static inline uint32_t vm_slots(const struct module *m) {
    return vm_cells(m) + VM_CELL_SLOTS * (m->n_globals - m->n_global_imports);
}

#endif
