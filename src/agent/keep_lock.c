#define _GNU_SOURCE
#include "keep_lock.h"
#include "../loader/landlock.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/sockios.h> /* FIOSETOWN */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined __x86_64__
#define ARCH     AUDIT_ARCH_X86_64
#define ALL_ARCH 0x40000000u /* x32's numbers begin here */
#elif defined __riscv && __riscv_xlen == 64
#define ARCH     AUDIT_ARCH_RISCV64
#define ALL_ARCH UINT32_MAX
#elif defined __aarch64__
#define ARCH     AUDIT_ARCH_AARCH64
#define ALL_ARCH UINT32_MAX
#else
#error "no seccomp architecture named for this CPU"
#endif

/* ---- paths ---- */

enum { PLACES_MAX = 16 };
struct places {
    struct landlock_place place[PLACES_MAX];
    unsigned n;
};

/* What is not there is not needed. */
static void add(struct places *p, const char *path, enum landlock_rights rights) {
    int fd = p->n < PLACES_MAX ? open(path, O_PATH | O_CLOEXEC) : -1;
    if (fd >= 0) p->place[p->n++] = (struct landlock_place){fd, rights};
}

static void add_folder_of(struct places *p, const char *file) {
    char path[PATH_MAX];
    if (!file || !*file) return;
    snprintf(path, sizeof path, "%s", file);
    char *slash = strrchr(path, '/');
    if (slash) slash[slash == path] = 0;
    add(p, slash ? path : ".", LANDLOCK_RUN);
}

/* Where the agent has put us in a group of our own, keep-ID/box/host: the box. The limits are above it. */
static bool own_box(char *path, size_t size) {
    static const char mount[] = "/sys/fs/cgroup", box[] = "/box/host";
    char line[PATH_MAX] = "";
    int fd = open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = read(fd, line, sizeof line - 1);
    close(fd);
    line[n > 0 ? n : 0] = 0;
    size_t end = strcspn(line, "\n"), tail = strlen(box);
    if (strncmp(line, "0::/", 4) != 0 || end < tail || strncmp(line + end - tail, box, tail) != 0) return false;
    line[end - strlen("/host")] = 0;
    return (size_t)snprintf(path, size, "%s%s", mount, line + strlen("0::")) < size;
}

/* The kernel asks only whose the files are, and this user's are all keeps: whoever may write here takes any of them in.
 */
static void close_group(int group) {
    static const char *const files[] = {"cgroup.procs", "cgroup.threads"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        fchmodat(group, files[i], 0444, 0);
}

/* Nothing enters the groups in the box any more. */
static void close_box(void) {
    char path[PATH_MAX];
    DIR *d = own_box(path, sizeof path) ? opendir(path) : NULL;
    if (!d) return;
    close_group(dirfd(d));
    for (const struct dirent *e; (e = readdir(d));) {
        int group = e->d_type == DT_DIR && *e->d_name != '.'
                        ? openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
                        : -1;
        if (group < 0) continue;
        close_group(group);
        close(group);
    }
    closedir(d);
}

bool keep_lock_paths(const char *warden) {
    static const char *const run[] = {"/usr", "/lib", "/lib64"}, *const read[] = {"/etc", "/proc", "/sys",
                                                                                  "/run/systemd/resolve"};
    static const char *const write[] = {"/dev"};
    char self[PATH_MAX];
    struct places p = {.n = 0};
    for (size_t i = 0; i < sizeof run / sizeof *run; i++)
        add(&p, run[i], LANDLOCK_RUN);
    for (size_t i = 0; i < sizeof read / sizeof *read; i++)
        add(&p, read[i], LANDLOCK_READ);
    for (size_t i = 0; i < sizeof write / sizeof *write; i++)
        add(&p, write[i], LANDLOCK_WRITE);
    add(&p, ".", LANDLOCK_FILES);
    if (own_box(self, sizeof self)) add(&p, self, LANDLOCK_WRITE);
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    add_folder_of(&p, self);
    add_folder_of(&p, warden);
    add_folder_of(&p, getenv("DONJON_WARDEN"));
    add_folder_of(&p, getenv("DONJON_SHIM"));
    bool ok = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && landlock_close(p.place, p.n, false, true);
    for (unsigned i = 0; i < p.n; i++)
        close(p.place[i].fd);
    return ok;
}

/* ---- system calls ---- */

enum { FCHMODAT2 = 452 }; /* on every architecture; Linux 6.6 */
static const int refused[] = {
    SYS_execve,
    SYS_execveat,
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_kcmp,
    SYS_pidfd_getfd,
    SYS_mount,
    SYS_umount2,
    SYS_move_mount,
    SYS_open_tree,
    SYS_fsopen,
    SYS_fsmount,
    SYS_fsconfig,
    SYS_fspick,
    SYS_pivot_root,
    SYS_chroot,
    SYS_setns,
    SYS_unshare,
    SYS_bpf,
    SYS_perf_event_open,
    SYS_userfaultfd,
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
    SYS_keyctl,
    SYS_add_key,
    SYS_request_key,
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_kexec_load,
    SYS_reboot,
    SYS_swapon,
    SYS_swapoff,
    SYS_open_by_handle_at,
    SYS_name_to_handle_at,
    SYS_personality,
    SYS_acct,
    SYS_quotactl,
    SYS_syslog,
    SYS_sethostname,
    SYS_setdomainname,
    SYS_settimeofday,
    SYS_clock_settime,
    SYS_adjtimex,
    SYS_fanotify_init,
    /* Each takes a process's number, and any of this user's would do. */
    SYS_setpriority,
    SYS_ioprio_set,
    SYS_sched_setparam,
    SYS_sched_setscheduler,
    SYS_sched_setattr,
    SYS_sched_setaffinity,
    SYS_migrate_pages,
    SYS_move_pages,
    /* What close_box has closed stays so, and there is no new group. */
    SYS_mkdirat,
    SYS_fchmod,
    SYS_fchmodat,
    FCHMODAT2,
#ifdef SYS_fork
    SYS_mkdir,
    SYS_chmod,
    SYS_fork,
    SYS_vfork,
    SYS_iopl,
    SYS_ioperm,
    SYS_modify_ldt,
    SYS_uselib,
    SYS_kexec_file_load,
#endif
};
/* Calls by which a signal can be sent, also one that the kernel sends later. */
static const int signals[] = {
    SYS_tkill, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo, SYS_pidfd_open, SYS_pidfd_send_signal,
};
static const uint32_t owner_commands[] = {F_SETOWN, F_SETSIG, F_SETOWN_EX};
static const uint32_t owner_requests[] = {FIOSETOWN, SIOCSPGRP};

#define COUNT(array) (sizeof(array) / sizeof *(array))
enum { CODE_MAX = 256, HEAD = 6, PIDS_MAX = 8 };
struct filter {
    struct sock_filter code[CODE_MAX];
    unsigned short n;
};
static const struct sock_filter refuse = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
                                allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);

static void add_code(struct filter *f, struct sock_filter s) {
    if (f->n < CODE_MAX) f->code[f->n] = s;
    f->n++;
}

static void add_refused(struct filter *f, const int *calls, size_t n) {
    for (size_t i = 0; i < n; i++) {
        add_code(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)calls[i], 0, 1));
        add_code(f, refuse);
    }
}

/* A call whose argument (its low half: all of these are ints) has to be one of some values, or none of them. */
static void add_argument(struct filter *f, int call, unsigned argument, const uint32_t *values, size_t n, bool fine) {
    uint8_t behind = (uint8_t)(n + 3);
    add_code(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, behind));
    add_code(f, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                                             (uint32_t)(offsetof(struct seccomp_data, args) + 8 * argument)));
    for (size_t i = 0; i < n; i++)
        add_code(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, values[i], (uint8_t)(n - i), 0));
    add_code(f, fine ? refuse : allow);
    add_code(f, fine ? allow : refuse);
}

/* This process, and those it has started: who may be signalled. 0: it cannot be told. */
static size_t own_pids(uint32_t pids[PIDS_MAX]) {
    char path[64], text[256];
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)syscall(SYS_gettid));
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t got = read(fd, text, sizeof text - 1);
    close(fd);
    text[got > 0 ? got : 0] = 0;
    size_t n = 0;
    pids[n++] = (uint32_t)getpid();
    char *rest = text;
    for (char *word; n < PIDS_MAX && (word = strsep(&rest, " "));)
        if (atoi(word) > 0) pids[n++] = (uint32_t)atoi(word);
    return n;
}

/* Landlock does this from Linux 6.12 on. */
static void add_signals(struct filter *f) {
    uint32_t pids[PIDS_MAX];
    size_t n = own_pids(pids);
    if (n == 0) return; /* without it the keep's own process could not be ended */
    add_refused(f, signals, COUNT(signals));
    add_argument(f, SYS_kill, 0, pids, n, true);
    add_argument(f, SYS_tgkill, 0, pids, 1, true);
    add_argument(f, SYS_fcntl, 1, owner_commands, COUNT(owner_commands), false);
    add_argument(f, SYS_ioctl, 1, owner_requests, COUNT(owner_requests), false);
}

bool keep_lock_calls(void) {
    static struct filter f;
    const struct sock_filter head[HEAD] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, ALL_ARCH, 0, 1),
        refuse,
    };
    close_box();
    f.n = 0;
    for (int i = 0; i < HEAD; i++)
        add_code(&f, head[i]);
    add_refused(&f, refused, COUNT(refused));
    /* A limit of no CPU time is as good as a signal. */
    add_argument(&f, SYS_prlimit64, 0, (const uint32_t[]){0}, 1, true);
    add_signals(&f);
    add_code(&f, allow);
    if (f.n > CODE_MAX) return false;
    struct sock_fprog program = {.len = f.n, .filter = f.code};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0 || errno == ENOSYS;
}
