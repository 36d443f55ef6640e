/* A debugger on the host's side (debug mode only, which is measured): the warden stops at breakpoints, after single
 * steps, when it is asked to, and before it dies. Memory the debugger finds by itself, in the machine's tables. */
#include "internal.h"

bool stops;

bool stop_wanted(void) {
    return stops && *(volatile uint32_t *)&host_shared()->attention;
}

void stop(struct shim_regs *r, uint32_t signal) {
    enum { FLAGS = 0x240dd5 | 0x100 /* arithmetic, AC, ID; TF */, FIXED = 0x202 };
    if (!stops) return;
    struct shim_stop s = {.signal = signal, .tid = current->tid, .regs = *r, .warden_base = warden_base};
    __asm__ volatile("rdfsbase %0" : "=r"(s.fs_base));
    memcpy(host_transfer(), &s, sizeof s);
    host_call(SHIM_STOP, 0, 0);
    memcpy(&s, host_transfer(), sizeof s); /* the one copy */
    if (s.regs.rip >= USER_END || s.regs.rsp >= USER_END) crash(NULL, 0, "the debugger's registers make no sense");
    uint64_t cs = r->cs, ss = r->ss, vector = r->vector, error = r->error;
    *r = s.regs;
    r->cs = cs, r->ss = ss, r->vector = vector, r->error = error;
    r->rflags = (s.regs.rflags & FLAGS) | FIXED;
}
