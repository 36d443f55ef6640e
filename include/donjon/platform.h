/* What the engine asks of the world around it. The engine itself makes no operating system call, opens no file and has
 * no global state: everything it needs arrives through one `struct donjon_platform`, given when an engine is made.
 * `donjon_platform_posix()` (its own object file) is the one for ordinary processes; the warden uses it in every keep.
 *
 * Every function gets `ctx` back as its first argument. All may be called from any thread. */
#ifndef DONJON_PLATFORM_H
#define DONJON_PLATFORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum donjon_prot {
    DONJON_PROT_NONE = 0,
    DONJON_PROT_READ = 1,
    DONJON_PROT_WRITE = 2,
    DONJON_PROT_EXEC = 4,
    DONJON_PROT_FILL = 8, /* a hint, with WRITE: all of it is about to be written */
};

/* A memory fault in compiled code, as the operating system reports it. The handler changes registers to go on
 * elsewhere. */
struct donjon_fault {
    uintptr_t address;
    uintptr_t pc, sp;
    uintptr_t rdi, r14; /* x86-64 */
};
typedef bool (*donjon_fault_handler)(void *arg, struct donjon_fault *f);

struct donjon_platform {
    void *ctx;

    /* General memory, as realloc: `size` 0 frees and gives NULL; NULL on failure leaves the old block as it was. */
    void *(*realloc)(void *ctx, void *block, size_t size);

    /* Address space in whole pages. `reserve` gives `size` bytes of no-access address space (NULL on failure),
     * `protect` sets what may be done with a part of it (fresh pages read as zero; false on failure), `release` gives
     * all of one reservation back. No page is ever writable and executable at once: a platform refuses WRITE|EXEC. */
    void *(*reserve)(void *ctx, size_t size);
    bool (*protect)(void *ctx, void *addr, size_t size, enum donjon_prot prot);
    void (*release)(void *ctx, void *addr, size_t size);

    /* Optional: puts code into reserved memory at `at` (any address in it), which can be executed from then on. What was
     * put there before, perhaps in the same page, stays. False: `protect` has to do. */
    bool (*put_code)(void *ctx, void *at, const void *code, size_t size);

    /* Optional: lets `handler` look at every memory fault (SIGSEGV, SIGBUS) of an instruction in [code, code + size)
     * from now on, on a stack of its own, until it is taken back by a call with NULL and the same `arg`. The handler
     * says whether the fault was its own. With it, compiled code leaves bounds checks to the hardware; without it
     * (NULL, or false) programs are interpreted. Called on the thread that runs the code. */
    bool (*on_fault)(void *ctx, donjon_fault_handler handler, void *arg, const void *code, size_t size);

    /* Optional: calls fn(arg, k) for each k in 0..n-1, on several threads where it can, and returns when all have
     * returned. Only donjon_module_compile uses it. */
    void (*parallel)(void *ctx, unsigned n, void (*fn)(void *arg, unsigned k), void *arg);

    /* Optional: runs fn(arg) on a thread of its own, with signals blocked (NULL: there is none to be had), and waits for
     * its end; each spawned thread is joined once. Stores with helpers use it. */
    void *(*spawn)(void *ctx, void (*fn)(void *arg), void *arg);
    void (*join)(void *ctx, void *thread);

    /* Monotonic time in nanoseconds, for wall-time limits. */
    uint64_t (*now)(void *ctx);
};

/* The platform of an ordinary process: malloc, mmap, mprotect, clock_gettime. Static storage; never freed. */
const struct donjon_platform *donjon_platform_posix(void);

/* The same, with threads (pthreads): for programs that compile whole modules. */
const struct donjon_platform *donjon_platform_posix_threads(void);

/* Signal handlers belong to the whole process. Where something else (a test framework, a crash reporter) has replaced
 * those that on_fault put in place, this puts them back, for the calling thread with an alternate stack. False:
 * refused. */
bool donjon_platform_posix_rearm(void);

#ifdef __cplusplus
}
#endif
#endif
