/* An embedder that interrupts a program wherever it can be interrupted, for a while, and spoils every register that the
 * C language lets it spoil: what the program computes must not change. For tests only. */
#ifndef DONJON_TESTS_DISTURB_H
#define DONJON_TESTS_DISTURB_H

#include <stdbool.h>

struct disturb {
    void (*interrupt)(void *store); /* store_interrupt, or donjon_store_interrupt */
    void *store;
    unsigned long left;  /* how often it comes again */
    unsigned long times; /* it was called */
    bool stop;           /* in the end the program is to stop */
};

static inline bool disturb_attend(void *ctx) {
    struct disturb *d = ctx;
    d->times++;
    if (d->left) d->interrupt(d->store);
    if (!d->left) return !d->stop;
    d->left--;
#ifdef __x86_64__
    __asm__ volatile("mov $-1, %%rax\n mov %%rax, %%rcx\n mov %%rax, %%rdx\n mov %%rax, %%rsi\n mov %%rax, %%rdi\n"
                     "mov %%rax, %%r8\n mov %%rax, %%r9\n mov %%rax, %%r10\n mov %%rax, %%r11\n"
                     "movq %%rax, %%xmm0\n punpcklqdq %%xmm0, %%xmm0\n"
                     "movdqa %%xmm0, %%xmm1\n movdqa %%xmm0, %%xmm2\n movdqa %%xmm0, %%xmm3\n movdqa %%xmm0, %%xmm4\n"
                     "movdqa %%xmm0, %%xmm5\n movdqa %%xmm0, %%xmm6\n movdqa %%xmm0, %%xmm7\n movdqa %%xmm0, %%xmm8\n"
                     "movdqa %%xmm0, %%xmm9\n movdqa %%xmm0, %%xmm10\n movdqa %%xmm0, %%xmm11\n"
                     "movdqa %%xmm0, %%xmm12\n movdqa %%xmm0, %%xmm13\n movdqa %%xmm0, %%xmm14\n"
                     "movdqa %%xmm0, %%xmm15\n cmp %%rax, %%rax\n" ::
                         : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "xmm0", "xmm1", "xmm2", "xmm3",
                           "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
                           "xmm15", "cc");
#endif
    return true;
}

#endif
