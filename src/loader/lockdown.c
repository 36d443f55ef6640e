#define _GNU_SOURCE
#include "lockdown.h"
#include "landlock.h"
#include "serve.h"
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined __x86_64__
#define ARCH AUDIT_ARCH_X86_64
#else
#error "no list of system calls for this CPU"
#endif

/* What serving takes (serve.c, files.c, sockets.c), the virtual machine (kvm.c), and ending as the program did (cli).
 */
static const int calls[] = {
    /* streams and files */
    SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_pread64, SYS_pwrite64, SYS_preadv, SYS_pwritev, SYS_preadv2,
    SYS_pwritev2, SYS_close, SYS_lseek, SYS_fstat, SYS_newfstatat, SYS_statx, SYS_ftruncate, SYS_fallocate,
    SYS_fadvise64, SYS_fsync, SYS_fdatasync, SYS_getdents64, SYS_fcntl, SYS_dup, SYS_ioctl, SYS_poll, SYS_ppoll,
    /* paths below a directory that is open */
    SYS_openat2, SYS_mkdirat, SYS_unlinkat, SYS_readlinkat, SYS_renameat, SYS_renameat2, SYS_linkat, SYS_symlinkat,
    SYS_utimensat, SYS_faccessat, SYS_faccessat2,
    /* sockets that are there */
    SYS_accept4, SYS_recvfrom, SYS_sendto, SYS_recvmsg, SYS_sendmsg, SYS_shutdown, SYS_setsockopt, SYS_getsockopt,
    SYS_getsockname, SYS_getpeername,
    /* memory (no executable: below), time, threads of this process, signals to it */
    SYS_brk, SYS_munmap, SYS_mremap, SYS_madvise, SYS_futex, SYS_sched_yield, SYS_sched_getaffinity, SYS_clock_gettime,
    SYS_clock_getres, SYS_clock_nanosleep, SYS_nanosleep, SYS_gettimeofday, SYS_timer_create, SYS_timer_settime,
    SYS_timer_delete, SYS_getrandom, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_rt_sigtimedwait,
    SYS_sigaltstack, SYS_restart_syscall, SYS_getpid, SYS_gettid, SYS_getuid, SYS_tgkill, SYS_set_robust_list, SYS_rseq,
    SYS_prctl, SYS_exit, SYS_exit_group};
enum { CALLS = sizeof calls / sizeof calls[0], ONE = 2 };

#define LOAD(field)  BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, field))
#define RETURN(what) BPF_STMT(BPF_RET | BPF_K, (what))
#define REFUSED      (SECCOMP_RET_ERRNO | EPERM)

static bool lock_calls(void) {
    static struct sock_filter code[CALLS * ONE + 16];
    unsigned short n = 0;
    const struct sock_filter head[] = {
        LOAD(arch), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0), RETURN(SECCOMP_RET_KILL_PROCESS), LOAD(nr),
        /* mmap and mprotect without PROT_EXEC (their third argument) */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 1, 0), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mprotect, 0, 4),
        LOAD(args[2]), BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 1), RETURN(REFUSED),
        RETURN(SECCOMP_RET_ALLOW)};
    memcpy(code, head, sizeof head);
    n = sizeof head / sizeof head[0];
    for (int i = 0; i < CALLS; i++) {
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)calls[i], 0, 1);
        code[n++] = (struct sock_filter)RETURN(SECCOMP_RET_ALLOW);
    }
    code[n++] = (struct sock_filter)RETURN(REFUSED);
    struct sock_fprog program = {.len = n, .filter = code};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0;
}

/* The configuration's directories alone. */
static bool lock_paths(const struct server *s) {
    static struct landlock_place places[CONFIG_FILES_MAX + CONFIG_MOUNTS_MAX];
    unsigned n = 0;
    for (uint32_t i = 0; i < s->n_fixed && n < sizeof places / sizeof *places; i++) {
        const struct handle *h = &s->handles[i];
        if (h->kind == HANDLE_DIR)
            places[n++] = (struct landlock_place){h->fd, h->changes ? LANDLOCK_WRITE : LANDLOCK_READ};
    }
    return landlock_close(places, n, true, false);
}

bool lockdown(const struct server *s, char *error, size_t size) {
    const char *wrong = NULL;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        wrong = "no_new_privs";
    else if (!lock_paths(s)) /* of this thread; the others have no need of paths, and lose them to the next */
        wrong = "landlock";
    else if (!lock_calls())
        wrong = "seccomp";
    if (wrong) snprintf(error, size, "the loader cannot close its lock \"%s\": %s", wrong, strerror(errno));
    return !wrong;
}
