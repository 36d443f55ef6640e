/* Exceptions of the warden's become signals; the shim's own are its end. */
#include "internal.h"

enum { DE = 0, DB = 1, NMI = 2, BP = 3, OF = 4, BR = 5, UD = 6, SS = 12, GP = 13, PF = 14, MF = 16, AC = 17, XM = 19 };
enum { PF_PRESENT = 1, PF_WRITE = 2, PF_FETCH = 16, FPE_INTDIV = 1, FPE_FLTDIV = 3, ILL_ILLOPN = 2, TRAP_BRKPT = 1 };
enum { GATES = SHIM_VECTOR_KICK + 1, INTERRUPT_GATE = 0x8e, DPL3 = 0x60, STUB0 = 16, STUB3 = 32, LANDING = 16 };
enum { RPL = 3, TSS_ATTRIBUTES = 0x89, TSS_LIMIT = 114 };

extern char exc0_stubs[], exc3_stubs[], exc3_landings[], shim_syscall[], tss[], gdt[], idt[];
extern uint64_t exc3_frames[][5];

struct gate {
    uint16_t offset0, selector;
    uint8_t ist, attributes;
    uint16_t offset1;
    uint32_t offset2, zero;
};

/* AMD APM 2, 4.8.3 (TSS descriptor), 4.8.4 (interrupt gates). */
void exceptions_init(void) {
    bool para = shim_mode == SHIM_MODE_PARA;
    struct gate *gates = (struct gate *)idt;
    for (unsigned i = 0; i < GATES; i++) {
        uint64_t at = (uint64_t)(para ? exc3_stubs + i * STUB3 : exc0_stubs + i * STUB0);
        gates[i] = (struct gate){(uint16_t)at,         SHIM_KERNEL_CS,       0, INTERRUPT_GATE | (i == BP ? DPL3 : 0),
                                 (uint16_t)(at >> 16), (uint32_t)(at >> 32), 0};
        uint64_t frame[5] = {(uint64_t)(exc3_landings + i * LANDING), SHIM_USER_CS, 2, (uint64_t)exc_stack_top,
                             SHIM_USER_SS};
        memcpy(exc3_frames[i], frame, sizeof frame);
    }
    uint64_t base = (uint64_t)tss, rsp0 = (uint64_t)(para ? hw_stack_top : exc_stack_top);
    uint64_t *descriptor = (uint64_t *)(gdt + SHIM_TSS);
    descriptor[0] =
        TSS_LIMIT - 1 + ((base & 0xffffff) << 16) + ((uint64_t)TSS_ATTRIBUTES << 40) + ((base >> 24 & 0xff) << 56);
    descriptor[1] = base >> 32;
    memcpy(tss + 4, &rsp0, sizeof rsp0);
}

/* Rings tell in mode 0; in mode 3 all there is to go by is the address. */
static bool in_shim(const struct shim_regs *r) {
    return shim_mode == SHIM_MODE_RING0 ? (r->cs & RPL) == 0 : r->rip > USER_END;
}

static void page_fault(struct shim_regs *r) {
    uint64_t address = exc_cr2;
    if (tables_allow(address, r->error & PF_WRITE, r->error & PF_FETCH)) return; /* an old entry of the CPU's: again */
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
        timer_check();
        threads_kick();
        timer_arm();
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
        static char reason[SHIM_CRASH_REASON];
        format(reason, sizeof reason, "exception %u, error %x, in the shim at %x (CR2 %x)", r->vector, r->error, r->rip,
               exc_cr2);
        crash(r, 0, reason);
    }
    warden_exception(r);
    threads_after(r);
}
