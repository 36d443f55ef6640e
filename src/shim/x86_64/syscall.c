/* The Linux system calls that the warden makes: what a static glibc needs to start, memory, signals, time, random
 * numbers, and the gate. Everything else is ENOSYS. */
#include "internal.h"

/* gate.h */
enum { FD_STDERR = 2, FD_BLOCK = 3, FD_BELL = 4, FD_BOOT = 5, FDS = 6 };
static bool closed[FDS];

/* asm/unistd_64.h */
enum {
    NR_read = 0,
    NR_write = 1,
    NR_close = 3,
    NR_fstat = 5,
    NR_lseek = 8,
    NR_mmap = 9,
    NR_mprotect = 10,
    NR_munmap = 11,
    NR_brk = 12,
    NR_rt_sigaction = 13,
    NR_rt_sigprocmask = 14,
    NR_rt_sigreturn = 15,
    NR_ioctl = 16,
    NR_sched_yield = 24,
    NR_mremap = 25,
    NR_madvise = 28,
    NR_nanosleep = 35,
    NR_setitimer = 38,
    NR_getpid = 39,
    NR_clone = 56,
    NR_exit = 60,
    NR_uname = 63,
    NR_readlink = 89,
    NR_getuid = 102,
    NR_getgid = 104,
    NR_geteuid = 107,
    NR_getegid = 108,
    NR_sigaltstack = 131,
    NR_prctl = 157,
    NR_arch_prctl = 158,
    NR_gettid = 186,
    NR_time = 201,
    NR_futex = 202,
    NR_sched_getaffinity = 204,
    NR_set_tid_address = 218,
    NR_clock_gettime = 228,
    NR_clock_getres = 229,
    NR_clock_nanosleep = 230,
    NR_exit_group = 231,
    NR_tgkill = 234,
    NR_newfstatat = 262,
    NR_set_robust_list = 273,
    NR_prlimit64 = 302,
    NR_getrandom = 318,
    NR_rseq = 334,
    NR_clone3 = 435
};

/* ---- the gate ---- */

/* While others have something to do, one that finds nothing makes its call once more when it is its turn again. */
static int64_t read_bell(struct shim_regs *r, uint64_t to, uint64_t size) {
    enum { SYSCALL_SIZE = 2 };
    if (size == 0) return 0;
    if (!user_ok(to, 1, true)) return -EFAULT;
    for (;;) {
        timer_check();
        uint64_t next = threads_look(), timer = timer_left();
        if (signal_due()) return -EINTR;
        if (stop_wanted()) {
            r->rip -= SYSCALL_SIZE; /* it asks again afterwards */
            r->rax = NR_read;
            stop(r, SIGINT);
            return (int64_t)r->rax;
        }
        bool others = threads_others();
        if (timer < next) next = timer;
        int64_t n = cpu_wait(SHIM_BELL_READ, others ? 0 : next);
        if (n >= 0 && n_threads > 1) threads_arm(); /* for those whose time it would have waited for */
        if (n == 1 && !user_ok(to, 1, true)) return -EFAULT;
        if (n == 1) *(uint8_t *)to = 0;
        if (n >= 0) return n;
        if (!others) continue;
        thread_yield();
        r->rip -= SYSCALL_SIZE;
        return NR_read;
    }
}

static int64_t sys_read(struct shim_regs *r, uint64_t fd, uint64_t to, uint64_t size) {
    if (fd >= FDS || closed[fd]) return -EBADF;
    if (fd == FD_BELL) return read_bell(r, to, size);
    if (fd == FD_BOOT) return boot_read(to, size);
    return fd < FD_STDERR ? 0 : -EBADF;
}

static int64_t write_stderr(uint64_t from, uint64_t size) {
    enum { MOST = 4096 };
    if (!debug) return (int64_t)size;
    if (size > MOST) size = MOST;
    if (!user_ok(from, size, false)) return -EFAULT;
    memcpy(host_transfer(), (void *)from, size);
    return host_count(SHIM_STDERR, size, 0, size);
}

static int64_t sys_write(uint64_t fd, uint64_t from, uint64_t size) {
    if (fd >= FDS || closed[fd]) return -EBADF;
    if (fd == FD_BELL) {
        host_bell();
        return (int64_t)(size ? 1 : 0);
    }
    return fd <= FD_STDERR ? write_stderr(from, size) : -EBADF;
}

static int64_t sys_close(uint64_t fd) {
    if (fd >= FDS || closed[fd]) return -EBADF;
    closed[fd] = true;
    if (fd == FD_BOOT) {
        boot_close();
        host_call(SHIM_BOOT_DONE, 0, 0);
    }
    return 0;
}

/* ---- what a C library asks at its start ---- */

/* Character devices all: /dev/null, as the process keep has it. */
static int64_t sys_fstat(uint64_t to) {
    enum { STAT_SIZE = 144, STAT_MODE = 24, STAT_BLKSIZE = 56, S_IFCHR_RW = 0020666 };
    if (!user_ok(to, STAT_SIZE, true)) return -EFAULT;
    memset((void *)to, 0, STAT_SIZE);
    *(uint32_t *)(to + STAT_MODE) = S_IFCHR_RW;
    *(uint64_t *)(to + STAT_BLKSIZE) = PAGE;
    return 0;
}

static int64_t sys_uname(uint64_t to) {
    enum { FIELD = 65 };
    static const char text[][FIELD] = {"Linux", "keep", "5.15.0", "donjon", "x86_64", ""};
    if (!user_ok(to, sizeof text, true)) return -EFAULT;
    memcpy((void *)to, text, sizeof text);
    return 0;
}

static int64_t sys_prlimit(uint64_t which, uint64_t new, uint64_t old) {
    enum { RLIMIT_STACK = 3, STACK = 8 << 20 };
    if (new && !user_ok(new, 16, false)) return -EFAULT;
    if (!old) return 0;
    if (!user_ok(old, 16, true)) return -EFAULT;
    ((uint64_t *)old)[0] = which == RLIMIT_STACK ? (uint64_t)STACK : ~UINT64_C(0);
    ((uint64_t *)old)[1] = ~UINT64_C(0);
    return 0;
}

static int64_t sys_affinity(uint64_t size, uint64_t to) {
    if (size < 8 || size % 8) return -EINVAL;
    if (!user_ok(to, 8, true)) return -EFAULT;
    *(uint64_t *)to = (UINT64_C(1) << cpus_wanted) - 1;
    return 8;
}

static int64_t sys_arch_prctl(uint64_t what, uint64_t value) {
    enum { ARCH_SET_FS = 0x1002 };
    if (what != ARCH_SET_FS) return -EINVAL;
    if (value >= USER_END) return -EPERM;
    __asm__ volatile("wrfsbase %0" ::"r"(value));
    return 0;
}

static int64_t sys_yield(void) {
    thread_yield();
    return 0;
}

static int64_t sys_set_tid_address(uint64_t at) {
    current->clear_tid = at;
    return current->tid;
}

static int64_t unknown(const struct shim_regs *r) {
    host_log("system call %u(%x, %x, %x) from %x: ENOSYS", r->rax, r->rdi, r->rsi, r->rdx, r->rip);
    return -ENOSYS;
}

static int64_t call(struct shim_regs *r) {
    uint64_t a = r->rdi, b = r->rsi, c = r->rdx, d = r->r10;
    switch (r->rax) {
    case NR_read: return sys_read(r, a, b, c);
    case NR_write: return sys_write(a, b, c);
    case NR_close: return sys_close(a);
    case NR_mmap: return sys_mmap(a, b, c, d, r->r8, r->r9);
    case NR_mprotect: return sys_mprotect(a, b, c);
    case NR_munmap: return sys_munmap(a, b);
    case NR_mremap: return sys_mremap(a, b, c, d);
    case NR_madvise: return sys_madvise(a, b, c);
    case NR_brk: return sys_brk(a);
    case NR_rt_sigaction: return sys_rt_sigaction(a, b, c, d);
    case NR_rt_sigprocmask: return sys_rt_sigprocmask(a, b, c, d);
    case NR_sigaltstack: return sys_sigaltstack(r, a, b);
    case NR_setitimer: return sys_setitimer(a, b, c);
    case NR_clock_gettime: return sys_clock_gettime(a, b);
    case NR_clock_getres: return sys_clock_getres(a, b);
    case NR_nanosleep: return sys_nanosleep(1, 0, a, b);
    case NR_clock_nanosleep: return sys_nanosleep(a, b, c, d);
    case NR_time: return sys_time(a);
    case NR_getrandom: return sys_getrandom(a, b, c);
    case NR_sched_yield: return sys_yield();
    case NR_fstat: return sys_fstat(b);
    case NR_newfstatat: return sys_fstat(c);
    case NR_ioctl: return -ENOTTY;
    case NR_lseek: return -ESPIPE;
    case NR_clone3: return -ENOSYS; /* a C library then asks for clone */
    case NR_readlink: return -ENOENT;
    case NR_uname: return sys_uname(a);
    case NR_prlimit64: return sys_prlimit(b, c, d);
    case NR_sched_getaffinity: return sys_affinity(b, c);
    case NR_arch_prctl: return sys_arch_prctl(a, b);
    case NR_futex: return sys_futex(a, b, c, d, r->r9);
    case NR_clone: return sys_clone(r, a, b, c, d, r->r8);
    case NR_tgkill: return sys_tgkill(a, b, c);
    case NR_gettid: return current->tid;
    case NR_set_tid_address: return sys_set_tid_address(a);
    case NR_getpid: return 1;
    case NR_getuid:
    case NR_getgid:
    case NR_geteuid:
    case NR_getegid: return 0;
    case NR_set_robust_list: return 0;
    case SHIM_NR_CODE: return sys_code(a, b, c);
    case NR_exit_group: host_exit((uint32_t)(a & 0xff));
    default: return unknown(r);
    }
}

bool booting = true;

static bool serve(struct shim_regs *r) {
    if (threads_call(r)) return true;
    switch (r->rax) {
    case NR_rt_sigreturn:
        sys_rt_sigreturn(r);
        signal_deliver(r);
        return true;
    case NR_exit: sys_exit(r, (uint32_t)(r->rdi & 0xff)); return true;
    default: r->rax = (uint64_t)call(r);
    }
    bool stepped = r->rflags & FLAG_TF; /* not before the warden's next instruction */
    return threads_after(r) || stepped;
}

int syscall_c(struct shim_regs *r) {
    if (booting && r->rax == USER_DONE) user_return(r->rdi);
    shim_lock();
    bool changed = serve(r);
    shim_unlock(true);
    return changed;
}
