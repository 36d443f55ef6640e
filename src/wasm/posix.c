/* The platform of an ordinary process. The only file of the engine that knows an operating system. */
#define _GNU_SOURCE
#include "donjon/platform.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>

/* Memory that is written from end to end costs most of its time in page faults: larger pages where there may be some.
 */
enum { HUGE = 2 << 20, HUGE_FROM = 2 * HUGE };
static void prefer_huge(void *p, size_t size) {
    uintptr_t begin = ((uintptr_t)p + HUGE - 1) & ~(uintptr_t)(HUGE - 1), end = (uintptr_t)p + size;
    if (size >= HUGE_FROM && begin < end) madvise((void *)begin, (end - begin) & ~(size_t)(HUGE - 1), MADV_HUGEPAGE);
}

static void *posix_realloc(void *ctx, void *block, size_t size) {
    (void)ctx;
    if (!size) {
        free(block);
        return NULL;
    }
    void *p = realloc(block, size);
    if (p && !block) prefer_huge(p, size);
    return p;
}

static void *posix_reserve(void *ctx, size_t size) {
    (void)ctx;
    void *p = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static bool posix_protect(void *ctx, void *addr, size_t size, enum donjon_prot prot) {
    (void)ctx;
    if ((prot & DONJON_PROT_WRITE) && (prot & DONJON_PROT_EXEC)) return false;
    int p = (prot & DONJON_PROT_READ ? PROT_READ : 0) | (prot & DONJON_PROT_WRITE ? PROT_WRITE : 0) |
            (prot & DONJON_PROT_EXEC ? PROT_EXEC : 0);
    if (prot & DONJON_PROT_FILL) prefer_huge(addr, size);
    return mprotect(addr, size, p) == 0;
}

static void posix_release(void *ctx, void *addr, size_t size) {
    (void)ctx;
    munmap(addr, size);
}

static uint64_t posix_now(void *ctx) {
    (void)ctx;
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- faults: signal handlers are the process's, so this table is the one piece of global state */

enum { FAULT_HANDLERS = 64, ALT_STACK = 64 << 10 };
static struct {
    _Atomic(donjon_fault_handler) handler;
    _Atomic(void *) arg;
    _Atomic(uintptr_t) code; /* whoever executes in here is the thread that the handler's owner runs on */
    _Atomic(size_t) size;
} fault_handlers[FAULT_HANDLERS];
static struct sigaction previous[2];

#if defined(__x86_64__)
static bool dispatch(siginfo_t *info, ucontext_t *u) {
    greg_t *r = u->uc_mcontext.gregs;
    struct donjon_fault f = {(uintptr_t)info->si_addr, (uintptr_t)r[REG_RIP], (uintptr_t)r[REG_RSP],
                             (uintptr_t)r[REG_RDI], (uintptr_t)r[REG_R14]};
    for (int k = 0; k < FAULT_HANDLERS; k++) {
        donjon_fault_handler h = atomic_load(&fault_handlers[k].handler);
        if (!h || f.pc - atomic_load(&fault_handlers[k].code) >= atomic_load(&fault_handlers[k].size)) continue;
        if (!h(atomic_load(&fault_handlers[k].arg), &f)) continue;
        r[REG_RIP] = (greg_t)f.pc;
        r[REG_RSP] = (greg_t)f.sp;
        r[REG_RDI] = (greg_t)f.rdi;
        return true;
    }
    return false;
}
#else
static bool dispatch(siginfo_t *info, ucontext_t *u) {
    (void)info, (void)u;
    return false;
}
#endif

/* Not ours: whoever had the signal before us gets it, or the default does when the instruction runs again. One that
 * hands it back to us again is passed over. */
static void on_signal(int sig, siginfo_t *info, void *context) {
    static _Thread_local bool chained;
    const struct sigaction *p = &previous[sig == SIGBUS];
    if (info->si_code > 0 && dispatch(info, context)) return;
    bool handler = (p->sa_flags & SA_SIGINFO) || (p->sa_handler != SIG_DFL && p->sa_handler != SIG_IGN);
    if (!handler || chained) {
        signal(sig, SIG_DFL);
        if (info->si_code <= 0) raise(sig); /* sent by somebody: there is no instruction that does it again */
        return;
    }
    chained = true;
    if (p->sa_flags & SA_SIGINFO)
        p->sa_sigaction(sig, info, context);
    else
        p->sa_handler(sig);
    chained = false;
}

static bool alternate_stack(void) {
    stack_t s;
    if (sigaltstack(NULL, &s) == 0 && !(s.ss_flags & SS_DISABLE)) return true;
    s = (stack_t){.ss_size = ALT_STACK,
                  .ss_sp = mmap(NULL, ALT_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)};
    return s.ss_sp != MAP_FAILED && sigaltstack(&s, NULL) == 0;
}

static bool posix_on_fault(void *ctx, donjon_fault_handler handler, void *arg, const void *code, size_t size) {
    (void)ctx;
    for (int k = 0; k < FAULT_HANDLERS; k++) {
        void *expected = handler ? NULL : arg;
        if (!handler && atomic_load(&fault_handlers[k].arg) == arg)
            atomic_store(&fault_handlers[k].handler, NULL), atomic_store(&fault_handlers[k].size, 0);
        if (!atomic_compare_exchange_strong(&fault_handlers[k].arg, &expected, handler ? arg : NULL)) continue;
        if (!handler) return true;
        atomic_store(&fault_handlers[k].code, (uintptr_t)code);
        atomic_store(&fault_handlers[k].size, size);
        atomic_store(&fault_handlers[k].handler, handler);
        return donjon_platform_posix_rearm();
    }
    return false;
}

bool donjon_platform_posix_rearm(void) {
    struct sigaction now, ours = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    for (int s = 0; s < 2; s++) {
        int sig = s ? SIGBUS : SIGSEGV;
        if (sigaction(sig, NULL, &now)) return false;
        if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_signal) continue;
        previous[s] = now;
        if (sigaction(sig, &ours, NULL)) return false;
    }
    return alternate_stack();
}

const struct donjon_platform *donjon_platform_posix(void) {
    static const struct donjon_platform posix = {
        .realloc = posix_realloc,
        .reserve = posix_reserve,
        .protect = posix_protect,
        .release = posix_release,
        .on_fault = posix_on_fault,
        .now = posix_now,
    };
    return &posix;
}
