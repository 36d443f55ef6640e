/* The shim's own files among themselves. No interrupts while in the shim, and one lock around all of it (cpus.c). */
#ifndef DONJON_SHIM_INTERNAL_H
#define DONJON_SHIM_INTERNAL_H

#include "../shim.h"
#include <stdbool.h>
#include <stddef.h>

#define PAGE         UINT64_C(0x1000)
#define LARGE        UINT64_C(0x200000)
#define ROUND(n, to) (((n) + (to)-1) & ~((uint64_t)(to)-1))

/* What the warden's other threads, or the host, may change at any time has been copied, and the copy is what is used.
 */
#define ONE_COPY(x) __asm__ volatile("" : "+m"(x))

/* Linux error numbers (asm-generic/errno-base.h). */
enum {
    EPERM = 1,
    ENOENT = 2,
    EINTR = 4,
    EIO = 5,
    EBADF = 9,
    EAGAIN = 11,
    ENOMEM = 12,
    EACCES = 13,
    EFAULT = 14,
    EINVAL = 22,
    ENOTTY = 25,
    ESPIPE = 29,
    ERANGE = 34,
    ENOSYS = 38,
    ETIMEDOUT = 110
};

/* ---- entry.S ---- */
extern uint32_t shim_mode;
extern uint64_t exc_cr2, exc_rax;
extern char shim_start[], shim_end[], exc_stack_top[], breakpoint_stack_top[], hw_stack_top[];
uint64_t user_run(const struct shim_regs *);
_Noreturn void user_return(uint64_t value);
extern char tlb_flush_trap_end[];
void tlb_flush_trap(void);

/* ---- cpus.c: several virtual CPUs ---- */
/* A variable of each CPU's own; zero at the start of the first one, which the others' are copies of. */
#define PERCPU __attribute__((section(".bss.percpu")))
extern char percpu_start[], percpu_end[];
extern unsigned cpu;         /* the number of this one: PERCPU */
extern unsigned cpus_wanted; /* by the workload */
extern unsigned cpus_up;
void shim_lock(void);
void shim_unlock(bool to_warden);
void shim_lock_for_good(void); /* whether it has the lock already or not */
/* The others, at the start of the first thread that could use one. */
void cpus_start(void);
/* No CPU uses a translation any more that the tables do not have, or will again before this one lets go of the lock. */
void cpus_forget(void);
void cpus_out(void); /* no other CPU runs the warden's code, until then */
/* One that waits for the host is called back, to look for work. False: there is none. */
bool cpu_call(void);
void cpus_kick(uint64_t mask); /* those of them that run the warden's code, or wait for the host, look up */
/* A call of the host's that takes its time: SHIM_SLEEP, SHIM_BELL_READ. Others have the lock meanwhile, so that what
 * was checked before may not hold any more. */
int64_t cpu_wait(enum shim_op op, uint64_t ns);

/* ---- text.c ---- */
void *memcpy(void *to, const void *from, size_t n);
void *memset(void *to, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
/* %s, %x (uint64_t, hexadecimal) and %u (uint64_t) only. Always terminated. */
void format(char *to, size_t size, const char *text, ...);

/* ---- host.c: the only way out ---- */
extern bool debug, stops; /* logs and tells of crashes; a debugger is there */
/* A call; the result as it was read, once. Check it. */
int64_t host_call(enum shim_op op, uint64_t a0, uint64_t a1);
void host_bell(void);
/* A result that is a count of at most `most` (the third argument), or an error: anything else ends the keep. */
int64_t host_count(enum shim_op op, uint64_t a0, uint64_t a1, uint64_t most);
struct shim_shared *host_shared(void);
uint8_t *host_transfer(void);
void host_log(const char *text, ...); /* debug mode; as format() */
_Noreturn void host_exit(uint32_t status);
/* The keep's death: reason (as format()), registers if there are any. */
_Noreturn void crash(const struct shim_regs *regs, uint32_t signal, const char *reason);

/* ---- frames.c: private memory, in frames of 4 KiB and blocks of 2 MiB ---- */
void frames_init(uint64_t first_free, uint64_t memory, uint64_t limit);
/* Zeroed; 0: there is no more. Guest-physical addresses. */
uint64_t frame_alloc(void);
uint64_t block_alloc(void);
/* For tables_direct: one that was laid by. */
uint64_t frame_spare(void);
void frame_free(uint64_t gpa);
void block_free(uint64_t gpa);
static inline void *frame_at(uint64_t gpa) {
    return (void *)(SHIM_DIRECT_BASE + gpa);
}

/* ---- tables.c: the warden's half of the page tables ---- */
enum { PROT_NONE = 0, PROT_READ = 1, PROT_WRITE = 2, PROT_EXEC = 4 };
/* Memory behind [va, end) with a protection; what was there keeps its contents. `whole` says of a 2 MiB unit whether
 * all of it is the warden's address space, so that it may be backed by one block. False: out of memory. */
bool tables_commit(uint64_t va, uint64_t end, unsigned prot, bool (*whole)(uint64_t unit));
/* Protection of what is there; where nothing is there nothing happens. */
void tables_protect(uint64_t va, uint64_t end, unsigned prot);
void tables_free(uint64_t va, uint64_t end);
/* Moves what is behind [from, from + size). False: out of memory, nothing moved. */
bool tables_move(uint64_t from, uint64_t to, uint64_t size);
/* The frame behind va; 0: none. */
uint64_t tables_frame(uint64_t va);
/* One frame that is not the warden's to free (shared, or the shim's), or is (owned). */
bool tables_map(uint64_t va, uint64_t gpa, unsigned prot, bool owned);
/* 2 MiB where nothing is, that are not the warden's to free and go as a whole. */
bool tables_map_large(uint64_t va, uint64_t gpa, unsigned prot);
/* The direct map of memory that has come. False: no frame for a table. */
bool tables_direct(uint64_t gpa, uint64_t end);
void tables_init(void);
/* If something is gone from the tables: no CPU knows it any more. */
void tables_flush(void);
void tables_forget(void); /* what this CPU knows */
/* Tables for one more CPU, with a copy of this one's .percpu but for its number: the address of the top one. 0: no
 * memory. */
uint64_t tables_cpu(unsigned n);
/* Whether the tables allow what a fault was refused: it came from an old entry of the CPU's. */
bool tables_allow(uint64_t va, bool write, bool exec);

/* ---- areas.c: the warden's address space ---- */
#define USER_END UINT64_C(0x7ffffffff000)
struct area {
    uint64_t start, end;
    uint32_t prot;
    uint32_t kind;
};
enum area_kind { AREA_MEMORY, AREA_GATE, AREA_SHIM /* not the warden's to change */ };
bool areas_set(uint64_t start, uint64_t end, unsigned prot, enum area_kind kind);
void areas_remove(uint64_t start, uint64_t end);
const struct area *area_at(uint64_t va);
/* Whether all of [va, va + size) is readable (and writable) by the warden. Size 0 is. */
bool user_ok(uint64_t va, uint64_t size, bool write);
int64_t sys_mmap(uint64_t addr, uint64_t size, uint64_t prot, uint64_t flags, uint64_t fd, uint64_t offset);
int64_t sys_munmap(uint64_t addr, uint64_t size);
int64_t sys_mprotect(uint64_t addr, uint64_t size, uint64_t prot);
int64_t sys_mremap(uint64_t addr, uint64_t size, uint64_t new_size, uint64_t flags);
int64_t sys_madvise(uint64_t addr, uint64_t size, uint64_t advice);
int64_t sys_brk(uint64_t addr);
int64_t sys_code(uint64_t at, uint64_t from, uint64_t size);
void brk_init(uint64_t start);

/* ---- clock.c ---- */
void clock_init(const struct shim_boot *);
uint64_t clock_monotonic(void);
uint64_t clock_realtime(void);
uint64_t clock_started(void);
void clock_waits(bool begins); /* this CPU, which is not the warden's CPU time then */
/* A struct timespec of the warden's as a time of clock_monotonic(). False: none that makes sense. */
bool clock_deadline(uint64_t timespec, bool absolute, bool realtime, uint64_t *deadline);
/* What is left until then, as a struct timespec at `to` (where that can be written). */
void clock_left(uint64_t to, uint64_t deadline);
int64_t sys_clock_gettime(uint64_t clock, uint64_t to);
int64_t sys_time(uint64_t to);
int64_t sys_clock_getres(uint64_t clock, uint64_t to);
/* Its result comes when the thread wakes. */
int64_t sys_nanosleep(uint64_t clock, uint64_t flags, uint64_t want, uint64_t left);
int64_t sys_setitimer(uint64_t which, uint64_t new, uint64_t old);
/* Nanoseconds until the timer's next signal; ~0: none. */
uint64_t timer_left(void);
/* Raises the signal if it is time. */
void timer_check(void);
/* Nanoseconds until the CPU is to be interrupted for a timer: the earlier of both. */
uint64_t timer_next(void);
/* The CPU was interrupted: the same as timer_check for the timer of computing time, which ends no waits. */
void timer_kick(void);

/* ---- entropy.c ---- */
extern bool cpu_has_rdseed;
void entropy_init(const uint8_t offered[64]);
void entropy_fill(void *to, size_t size);
int64_t sys_getrandom(uint64_t to, uint64_t size, uint64_t flags);

/* ---- signal.c ---- */
enum {
    SIGHUP = 1,
    SIGINT = 2,
    SIGILL = 4,
    SIGTRAP = 5,
    SIGABRT = 6,
    SIGBUS = 7,
    SIGFPE = 8,
    SIGKILL = 9,
    SIGSEGV = 11,
    SIGALRM = 14,
    SIGPROF = 27,
    SIGSTOP = 19,
    SIGNALS = 64
};
enum { SI_TKILL = -6, SI_KERNEL = 0x80, SEGV_MAPERR = 1, SEGV_ACCERR = 2 };
/* What each thread has of its own. */
struct alternate_stack {
    uint64_t sp;
    int32_t flags, zero;
    uint64_t size;
};
struct signals {
    uint64_t blocked, pending;
    struct alternate_stack alternate;
};
#define SIGNALS_START                                                                                                  \
    { .alternate.flags = 2 /* SS_DISABLE */ }
struct thread;
void signal_raise(unsigned signal); /* asynchronous: pending until some thread does not block it */
/* An exception of the warden's: its handler, or the end. */
void signal_fault(struct shim_regs *r, unsigned signal, int code, uint64_t address, uint64_t trap);
/* Whether one is pending and not blocked. */
bool signal_due(void);
bool signal_due_to(const struct thread *t);
/* Puts the handlers' frames in place. True: registers have changed. */
bool signal_deliver(struct shim_regs *r);
int64_t sys_rt_sigaction(uint64_t signal, uint64_t new, uint64_t old, uint64_t set_size);
int64_t sys_rt_sigprocmask(uint64_t how, uint64_t new, uint64_t old, uint64_t set_size);
int64_t sys_sigaltstack(const struct shim_regs *r, uint64_t new, uint64_t old);
void sys_rt_sigreturn(struct shim_regs *r);
int64_t sys_tgkill(uint64_t pid, uint64_t tid, uint64_t signal);
void signal_init(uint32_t xsave_size, uint64_t trampoline);

/* ---- thread.c ---- */
enum thread_phase { THREAD_PLAIN, THREAD_PARKS, THREAD_RESUMES /* in user.S */ };
struct thread {
    uint32_t state, tid, phase, mask;
    uint32_t on;           /* the CPU that runs it, plus one; 0: none */
    struct shim_regs regs; /* while it does not run */
    uint64_t fs, gs, clear_tid;
    uint64_t futex, deadline, left; /* what it waits for */
    struct signals signals;
};
extern struct thread *current; /* PERCPU */
extern unsigned n_threads;
void threads_init(uint64_t xsave_size, uint64_t park, uint64_t resume);
/* At the end of a call or an exception: signals are delivered; a thread that waits, or whose slice is over, makes room.
 * True: registers have changed. */
bool threads_after(struct shim_regs *r);
/* The two calls of user.S. False: it was not one of them. */
bool threads_call(struct shim_regs *r);
_Noreturn void threads_cpu(void); /* one more CPU begins */
bool threads_others(void);        /* that could run now */
uint64_t threads_look(void);      /* wakes who need not wait any more; nanoseconds until the next one's time */
/* Offers who can run to a CPU that has nothing to do; where there is none, has this one interrupted when its thread's
 * slice is over, and in any case when the next one's time is up or the timer's. */
void threads_arm(void);
void threads_kick(void);   /* an interrupt has come */
void threads_signal(void); /* who runs elsewhere, and has a signal to take, takes it */
void thread_yield(void);   /* the others first */
void thread_sleep(uint64_t deadline, uint64_t left);
struct thread *thread_of(uint64_t tid); /* NULL: none */
int64_t sys_futex(uint64_t at, uint64_t op, uint64_t value, uint64_t time, uint64_t mask);
int64_t sys_clone(const struct shim_regs *r, uint64_t flags, uint64_t stack, uint64_t parent_tid, uint64_t child_tid,
                  uint64_t tls);
void sys_exit(struct shim_regs *r, uint32_t status);

/* ---- stop.c: a debugger ---- */
/* Shows it the warden's registers and goes on with those it gives. */
void stop(struct shim_regs *r, uint32_t signal);
bool stop_wanted(void);
#define FLAG_TF UINT64_C(0x100)

/* ---- exception.c, syscall.c ---- */
void exception_c(struct shim_regs *r);
int syscall_c(struct shim_regs *r);
void exceptions_init(void);
extern bool booting; /* there is no warden yet */
/* The numbers with which code of user.c and user.S gives control back. */
enum { USER_DONE = 0x7000, USER_PARKED, USER_RESUMED };

/* ---- boot.c: the boot image ---- */
/* There is compiled code at USER_IMAGE, and it is the one that was measured. */
void boot_code(uint64_t size);
int64_t boot_read(uint64_t to, uint64_t size);
/* It will not be read again. */
void boot_close(void);

/* ---- program.c: the warden ---- */
extern uint64_t warden_base;
void program_prepare(void);
_Noreturn void program_start(const struct shim_digests *digests);

/* ---- inline ---- */
static inline uint64_t rdtsc(void) {
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}
static inline void wrmsr(uint32_t msr, uint64_t value) {
    __asm__ volatile("wrmsr" ::"c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
}

#endif
