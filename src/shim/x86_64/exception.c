/* Exceptions of the warden's become signals; the shim's own are its end. */
#include "internal.h"

enum { DE = 0, DB = 1, NMI = 2, BP = 3, OF = 4, BR = 5, UD = 6, SS = 12, GP = 13, PF = 14, MF = 16, AC = 17, XM = 19 };
enum { PF_PRESENT = 1, PF_WRITE = 2, PF_FETCH = 16, FPE_INTDIV = 1, FPE_FLTDIV = 3, ILL_ILLOPN = 2, TRAP_BRKPT = 1 };
enum { GATES = SHIM_VECTOR_KICK + 1, INTERRUPT_GATE = 0x8e, DPL3 = 0x60, STUB0 = 16, STUB3 = 32, LANDING = 16 };
enum {
    RPL = 3,
    TSS_ATTRIBUTES = 0x89,
    TSS_RSP0 = 4,
    TSS_MAP_BASE = 102,
    TSS_MAP = 104,
    TSS_SIZE = TSS_MAP + SHIM_PORT / 8 + 3
};

extern char exc0_stubs[], exc3_stubs[], exc3_landings[], shim_syscall[], tss[], gdt[], idt[];
extern uint64_t exc3_frames[][5];

struct gate {
    uint16_t offset0, selector;
    uint8_t ist, attributes;
    uint16_t offset1;
    uint32_t offset2, zero;
};

/* The TSS (AMD APM 2, 12.2.5): the stack of exceptions, and an I/O permission map with our two ports. */
static void tss_init(uint64_t rsp0) {
    memcpy(tss + TSS_RSP0, &rsp0, sizeof rsp0);
    *(uint16_t *)(tss + TSS_MAP_BASE) = TSS_MAP;
    memset(tss + TSS_MAP, 0xff, TSS_SIZE - TSS_MAP);
    tss[TSS_MAP + SHIM_PORT / 8] = (char)~(1 << (SHIM_PORT % 8) | 1 << (SHIM_PORT_BELL % 8));
}

/* AMD APM 2, 4.8.3 (TSS descriptor), 4.8.4 (interrupt gates). For the first CPU: the others' are copies. */
void exceptions_init(void) {
    bool para = shim_mode == SHIM_MODE_PARA;
    struct gate *gates = (struct gate *)idt;
    for (unsigned i = 0; i < GATES; i++) {
        uint64_t at = (uint64_t)(para ? exc3_stubs + i * STUB3 : exc0_stubs + i * STUB0);
        gates[i] = (struct gate){(uint16_t)at,         SHIM_KERNEL_CS,       0, INTERRUPT_GATE | (i == BP ? DPL3 : 0),
                                 (uint16_t)(at >> 16), (uint32_t)(at >> 32), 0};
        uint64_t frame[5] = {(uint64_t)(exc3_landings + i * LANDING), SHIM_USER_CS, 2,
                             (uint64_t)(i == BP ? breakpoint_stack_top : exc_stack_top), SHIM_USER_SS};
        memcpy(exc3_frames[i], frame, sizeof frame);
    }
    /* Flat; the limit and base of long mode's segments do not matter. No 32-bit code for SYSRET. */
    uint64_t base = (uint64_t)tss;
    const uint64_t segments[] = {0,
                                 0x00af9b000000ffff /* kernel code */,
                                 0x00cf93000000ffff /* data */,
                                 0,
                                 0x00cff3000000ffff /* user data */,
                                 0x00affb000000ffff /* code */,
                                 TSS_SIZE - 1 + ((base & 0xffffff) << 16) + ((uint64_t)TSS_ATTRIBUTES << 40) +
                                     ((base >> 24 & 0xff) << 56),
                                 base >> 32};
    memcpy(gdt, segments, sizeof segments);
    tss_init((uint64_t)(para ? hw_stack_top : exc_stack_top));
}

/* Rings tell in mode 0; in mode 3 all there is to go by is the address. */
static bool in_shim(const struct shim_regs *r) {
    return shim_mode == SHIM_MODE_RING0 ? (r->cs & RPL) == 0 : r->rip > USER_END;
}

/* An old entry of the CPU's was why. */
static bool may_again(const struct shim_regs *r) {
    return tables_allow(exc_cr2, r->error & PF_WRITE, r->error & PF_FETCH);
}

static void page_fault(struct shim_regs *r) {
    uint64_t address = exc_cr2;
    if (may_again(r)) return;
    signal_fault(r, SIGSEGV, area_at(address) ? SEGV_ACCERR : SEGV_MAPERR, address, PF);
}

static void warden_exception(struct shim_regs *r) {
    switch (r->vector) {
    case DE: signal_fault(r, SIGFPE, FPE_INTDIV, r->rip, DE); return;
    case DB:
    case BP:
        if (stops) {
            stop(r, SIGTRAP);
            return;
        }
        signal_fault(r, SIGTRAP, TRAP_BRKPT, r->rip, r->vector);
        return;
    case UD: signal_fault(r, SIGILL, ILL_ILLOPN, r->rip, UD); return;
    case MF:
    case XM: signal_fault(r, SIGFPE, FPE_FLTDIV, r->rip, r->vector); return;
    case AC: signal_fault(r, SIGBUS, 1, 0, AC); return;
    case PF: page_fault(r); return;
    case OF:
    case BR:
    case SS:
    case GP: signal_fault(r, SIGSEGV, SI_KERNEL, 0, r->vector); return;
    case NMI: return;
    case SHIM_VECTOR_KICK:
        threads_kick();
        if (stop_wanted() && current->phase == THREAD_PLAIN) stop(r, SIGINT);
        return;
    default: crash(r, SIGILL, "an exception that nothing of the warden's can cause");
    }
}

/* The paravirtual machine in mode 0: SYSCALL stays at CPL 3, where LSTAR's page cannot be fetched from. The fault is
 * the system call. */
static bool is_syscall(const struct shim_regs *r) {
    return shim_mode == SHIM_MODE_RING0 && r->vector == PF && r->rip == (uint64_t)shim_syscall && (r->cs & RPL) == 3;
}

void exception_c(struct shim_regs *r) {
    if (shim_mode == SHIM_MODE_PARA && (r->vector == PF || r->vector == BP)) {
        if (r->vector == PF) exc_cr2 = r->rax;
        r->rax = exc_rax;
        if (r->rip == (uint64_t)tlb_flush_trap_end && r->vector == BP) return;
    }
    if (is_syscall(r)) {
        r->rip = r->rcx;
        r->rflags = r->r11;
        syscall_c(r);
        return;
    }
    if (in_shim(r)) {
        if (shim_mode == SHIM_MODE_RING0 && r->vector == PF && may_again(r)) return;
        static char reason[SHIM_CRASH_REASON];
        format(reason, sizeof reason, "exception %u, error %x, in the shim at %x (CR2 %x)", r->vector, r->error, r->rip,
               exc_cr2);
        crash(r, 0, reason);
    }
    shim_lock();
    warden_exception(r);
    threads_after(r);
    shim_unlock(true);
}
