/* The stubs of stubs.h. Offsets come from C, so the assembly stands in functions without a frame of their own. */
#include "stubs.h"

#define OFFSET(type, field) "i"(offsetof(struct type, field))

/* The convention's registers: rax rcx rdx rbx rsi rdi r8 r9, xmm0..7, at `base`. */
#define SAVE(base)                                                                                                     \
    "mov %%rax, 0(" base ")\n mov %%rcx, 8(" base ")\n mov %%rdx, 16(" base ")\n mov %%rbx, 24(" base ")\n"            \
    "mov %%rsi, 32(" base ")\n mov %%rdi, 40(" base ")\n mov %%r8, 48(" base ")\n mov %%r9, 56(" base ")\n"            \
    "vmovups %%xmm0, 64(" base ")\n vmovups %%xmm1, 80(" base ")\n vmovups %%xmm2, 96(" base ")\n"                     \
    "vmovups %%xmm3, 112(" base ")\n vmovups %%xmm4, 128(" base ")\n vmovups %%xmm5, 144(" base ")\n"                  \
    "vmovups %%xmm6, 160(" base ")\n vmovups %%xmm7, 176(" base ")\n"
#define RESTORE(base)                                                                                                  \
    "mov 0(" base "), %%rax\n mov 8(" base "), %%rcx\n mov 16(" base "), %%rdx\n mov 24(" base "), %%rbx\n"            \
    "mov 32(" base "), %%rsi\n mov 40(" base "), %%rdi\n mov 48(" base "), %%r8\n mov 56(" base "), %%r9\n"            \
    "vmovups 64(" base "), %%xmm0\n vmovups 80(" base "), %%xmm1\n vmovups 96(" base "), %%xmm2\n"                     \
    "vmovups 112(" base "), %%xmm3\n vmovups 128(" base "), %%xmm4\n vmovups 144(" base "), %%xmm5\n"                  \
    "vmovups 160(" base "), %%xmm6\n vmovups 176(" base "), %%xmm7\n"
#define REGS "192"

_Static_assert(sizeof(struct regs) == 192, "SAVE and RESTORE");
_Static_assert(offsetof(struct activation, sp) == 0 && offsetof(struct activation, regs) == 8 &&
                   offsetof(struct activation, kind) == 16,
               "stubs");

/* rdi f, rsi vm, rdx sp (0: go on on this stack), rcx act */
__attribute__((naked)) uint32_t stub_enter(__attribute__((unused)) struct func *f,
                                           __attribute__((unused)) struct vmctx *vm, __attribute__((unused)) void *sp,
                                           __attribute__((unused)) struct activation *act) {
    __asm__ volatile(
        "push %%rbp\n push %%rbx\n push %%r12\n push %%r13\n push %%r14\n push %%r15\n"
        "mov %%rsp, 0(%%rcx)\n"
        "test %%rdx, %%rdx\n"
        "cmovnz %%rdx, %%rsp\n"
        "and $-16, %%rsp\n"
        "sub $16, %%rsp\n"
        "mov %%rcx, 0(%%rsp)\n"
        "mov %%rsi, %%r14\n"
        "mov %c[memory0](%%r14), %%r15\n"
        "mov %%rdi, %%r11\n"
        "mov 8(%%rcx), %%r10\n" RESTORE("%%r10") "call *%c[native](%%r11)\n"
                                                 ".globl stub_enter_return\n stub_enter_return:\n"
                                                 "mov 0(%%rsp), %%r10\n"
                                                 "mov 8(%%r10), %%r11\n" SAVE(
                                                     "%%r11") "mov %%r10, %%rdi\n"
                                                              "movl $0, 16(%%rdi)\n"
                                                              "jmp stub_leave\n" ::[memory0] OFFSET(vmctx, memory0),
        [native] OFFSET(func, native));
}

__attribute__((naked)) void stub_leave(void) {
    __asm__ volatile("mov 0(%%rdi), %%rsp\n"
                     "mov 16(%%rdi), %%eax\n"
                     "pop %%r15\n pop %%r14\n pop %%r13\n pop %%r12\n pop %%rbx\n pop %%rbp\n"
                     "ret\n" ::);
}

/* eax: trap kind; called, so that the return address says where. */
__attribute__((naked)) void stub_exit(void) {
    __asm__ volatile(
        "mov %%eax, %c[kind](%%r14)\n"
        "mov %%r14, %%rdi\n"
        "mov %%rsp, %%rsi\n"
        "and $-16, %%rsp\n"
        "call native_unwind\n"
        "test %%rax, %%rax\n"
        "jz 1f\n"
        "mov %%rax, %%rdi\n"
        "jmp stub_leave\n"
        "1: mov %c[land_sp](%%r14), %%rsp\n"
        "mov %c[land_exn](%%r14), %%rax\n"
        "mov %c[land_pc](%%r14), %%r11\n"
        "mov %c[land_vm](%%r14), %%r14\n"
        "mov %c[memory0](%%r14), %%r15\n"
        "jmp *%%r11\n" ::[kind] OFFSET(vmctx, kind),
        [land_sp] OFFSET(vmctx, land_sp), [land_exn] OFFSET(vmctx, land_exn), [land_pc] OFFSET(vmctx, land_pc),
        [land_vm] OFFSET(vmctx, land_vm), [memory0] OFFSET(vmctx, memory0));
}

__attribute__((naked)) void stub_fault(void) {
    __asm__ volatile("mov %c[kind](%%r14), %%eax\n jmp stub_exit\n" ::[kind] OFFSET(vmctx, kind));
}

/* r11: function */
__attribute__((naked)) void stub_cross(void) {
    __asm__ volatile("cmpq $0, %c[vm](%%r11)\n"
                     "je stub_host\n"
                     "push %%r14\n"
                     "mov %c[vm](%%r11), %%r14\n"
                     "mov %c[memory0](%%r14), %%r15\n"
                     "call *%c[native](%%r11)\n"
                     ".globl stub_cross_return\n stub_cross_return:\n"
                     "pop %%r14\n"
                     "mov %c[memory0](%%r14), %%r15\n"
                     "ret\n" ::[vm] OFFSET(func, vm),
                     [memory0] OFFSET(vmctx, memory0), [native] OFFSET(func, native));
}

__attribute__((naked)) void stub_host(void) {
    __asm__ volatile("sub $" REGS "+8, %%rsp\n" SAVE("%%rsp") "mov %%r14, %%rdi\n"
                                                              "mov %%r11, %%rsi\n"
                                                              "mov %%rsp, %%rdx\n"
                                                              "call native_host_call\n"
                                                              "test %%eax, %%eax\n"
                                                              "jnz 1f\n" RESTORE("%%rsp") "add $" REGS "+8, %%rsp\n"
                                                                                          "ret\n"
                                                                                          "1: add $" REGS "+8, %%rsp\n"
                                                                                          "jmp stub_exit\n" ::);
}

/* r11: function, r10: type id */
__attribute__((naked)) void stub_subtype(void) {
    __asm__ volatile("push %%r11\n"
                     "sub $" REGS
                     ", %%rsp\n" SAVE("%%rsp") "mov %%r14, %%rdi\n"
                                               "mov %%r11, %%rsi\n"
                                               "mov %%r10d, %%edx\n"
                                               "call native_subtype\n"
                                               "mov %%eax, %%r10d\n" RESTORE("%%rsp") "add $" REGS ", %%rsp\n"
                                                                                      "pop %%r11\n"
                                                                                      "test %%r10b, %%r10b\n"
                                                                                      "jz 1f\n"
                                                                                      "ret\n"
                                                                                      "1: mov %[kind], %%eax\n"
                                                                                      "jmp stub_exit\n" ::[kind] "i"(
                                                                                          TRAP_INDIRECT_TYPE));
}

/* To what the callee says; r11 is kept. */
#define LAZY(arguments, callee)                                                                                        \
    "sub $" REGS "+8, %%rsp\n mov %%r11, " REGS "(%%rsp)\n" SAVE(                                                      \
        "%%rsp") "mov %%r14, %%rdi\n" arguments "mov %%rsp, %%rdx\n"                                                   \
                 "call " callee "\n mov %%rax, %%r10\n" RESTORE(                                                       \
                     "%%rsp") "mov " REGS "(%%rsp), %%r11\n add $" REGS "+8, %%rsp\n"                                  \
                              "test %%r10, %%r10\n jz 1f\n jmp *%%r10\n 1: mov %[kind], %%eax\n jmp stub_exit\n"

__attribute__((naked)) void stub_lazy_site(void) {
    __asm__ volatile(LAZY("mov " REGS "+8(%%rsp), %%rsi\n", "native_compile_site")::[kind] "i"(TRAP_OUT_OF_MEMORY));
}

__attribute__((naked)) void stub_lazy_func(void) {
    __asm__ volatile(LAZY("mov %%r11, %%rsi\n", "native_compile_func")::[kind] "i"(TRAP_OUT_OF_MEMORY));
}

/* All that C may change: rax rcx rdx rsi rdi r8..r11, xmm0..15; nobody uses what else vector registers have. */
#define ALL_GENERAL(X)                                                                                                 \
    X("rax", 256)                                                                                                      \
    X("rcx", 264) X("rdx", 272) X("rsi", 280) X("rdi", 288) X("r8", 296) X("r9", 304) X("r10", 312) X("r11", 320)
#define ALL_VECTORS(X)                                                                                                 \
    X(0, 0)                                                                                                            \
    X(1, 16)                                                                                                           \
    X(2, 32) X(3, 48) X(4, 64) X(5, 80) X(6, 96) X(7, 112) X(8, 128) X(9, 144) X(10, 160) X(11, 176) X(12, 192)        \
        X(13, 208) X(14, 224) X(15, 240)
#define KEEP_GENERAL(r, at) "mov %%" r ", " #at "(%%rsp)\n"
#define BACK_GENERAL(r, at) "mov " #at "(%%rsp), %%" r "\n"
#define KEEP_VECTOR(r, at)  "vmovups %%xmm" #r ", " #at "(%%rsp)\n"
#define BACK_VECTOR(r, at)  "vmovups " #at "(%%rsp), %%xmm" #r "\n"

/* Flags are in use nowhere that a loop begins. */
__attribute__((naked)) void stub_attend(void) {
    __asm__ volatile("push %%rbp\n"
                     "mov %%rsp, %%rbp\n"
                     "sub $336, %%rsp\n"
                     "and $-16, %%rsp\n"
                     /* */
                     ALL_GENERAL(KEEP_GENERAL) ALL_VECTORS(KEEP_VECTOR)
                     /* */
                     "mov %%r14, %%rdi\n"
                     "mov %%rsp, %%rsi\n"
                     "call native_attend\n"
                     "test %%eax, %%eax\n"
                     "jnz 1f\n"
                     /* */
                     ALL_GENERAL(BACK_GENERAL) ALL_VECTORS(BACK_VECTOR)
                     /* */
                     "mov %%rbp, %%rsp\n"
                     "pop %%rbp\n"
                     "ret\n"
                     "1: mov %%rbp, %%rsp\n"
                     "pop %%rbp\n"
                     "jmp stub_exit\n" ::);
}

__attribute__((naked)) void stub_attend_site(void) {
    __asm__ volatile(LAZY("mov " REGS "+8(%%rsp), %%rsi\n", "native_attend_site")::[kind] "i"(TRAP_INTERRUPT));
}

__attribute__((naked)) void stub_attend_func(void) {
    __asm__ volatile(LAZY("mov %%r11, %%rsi\n", "native_attend_func")::[kind] "i"(TRAP_INTERRUPT));
}
