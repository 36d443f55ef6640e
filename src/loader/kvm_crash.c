/* What a dead keep says in debug mode: registers, and the warden's functions that its stack leads through. */
#include "kvm_vm.h"
#include "kvm_crash.h"
#include <stdio.h>

void kvm_show_crash(const struct shim_crash *c) {
    const struct shim_regs *r = &c->regs;
    fprintf(stderr,
            "keep: %s\n"
            "  rip %016lx  rsp %016lx  rflags %08lx  cr2 %016lx\n"
            "  rax %016lx  rbx %016lx  rcx %016lx  rdx %016lx\n"
            "  rsi %016lx  rdi %016lx  rbp %016lx  r8  %016lx\n"
            "  r9  %016lx  r10 %016lx  r11 %016lx  r12 %016lx\n"
            "  r13 %016lx  r14 %016lx  r15 %016lx  vector %lu error %lx, warden at %lx\n",
            c->reason, r->rip, r->rsp, r->rflags, c->cr2, r->rax, r->rbx, r->rcx, r->rdx, r->rsi, r->rdi, r->rbp, r->r8,
            r->r9, r->r10, r->r11, r->r12, r->r13, r->r14, r->r15, r->vector, r->error, c->warden_base);
}
