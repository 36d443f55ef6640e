/* The `process` keep: the warden as an ordinary process that locks itself in. It protects this machine from the
 * workload, not the workload from this machine; every other keep adds to it. */
#define _GNU_SOURCE
#include "backend.h"
#include "cgroup.h"
#include "serve.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct keep {
    pid_t pid;
    int bell;
    struct cgroup cgroup;
    struct gate_block *block;
    struct gate_host gate;
};

static bool process_probe(char *missing, size_t size) {
    struct {
        uint64_t flags, mode, resolve;
    } how = {0};
    long fd = syscall(SYS_openat2, -1, "", &how, sizeof how);
    if (fd < 0 && errno == ENOSYS) {
        snprintf(missing, size, "this kernel has no openat2 (Linux 5.6)");
        return false;
    }
    if (prctl(PR_GET_SECCOMP) < 0) {
        snprintf(missing, size, "this kernel has no seccomp");
        return false;
    }
    missing[0] = 0;
    return true;
}

/* How long each side may spin for the other: not at all when they would share the only CPU. */
static uint32_t spin_ns(void) {
    enum { SPIN_NS = 50000 };
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0 || CPU_COUNT(&set) < 2) return 0;
    return SPIN_NS;
}

/* A descriptor moved above those that the keep will have. -1: failed; the old one is closed in any case. */
static int move_high(int fd) {
    if (fd < 0) return -1;
    int high = fcntl(fd, F_DUPFD_CLOEXEC, 16);
    close(fd);
    return high;
}

/* The keep's descriptors on our side before they get their places. */
struct places {
    int null, err, block, bell, boot;
};

/* What the child needs; it writes why it failed. Both live in one address space until the child has replaced itself. */
struct child {
    const char *path;
    const struct places *places;
    uint64_t memory_limit;
    char cpus[12]; /* the warden's argument; empty: none */
    pid_t parent;
    int cgroup; /* to enter first; -1: none, or the child is in it already */
    volatile int failure;
};

/* The child runs on its parent's stack, which AddressSanitizer cannot follow. */
#define SHARED_STACK __attribute__((noinline, no_sanitize("address", "undefined")))

/* System calls only. Returns when something failed. */
static SHARED_STACK int become_warden(struct child *c) {
    static char name[] = "donjon-warden";
    char *const argv[] = {name, c->cpus[0] ? c->cpus : NULL, NULL}, *const envp[] = {NULL};
    const struct places *p = c->places;
    const int from[] = {p->null, p->null, p->err, p->block, p->bell, p->boot};
    sigset_t none;
    sigemptyset(&none);
    signal(SIGPIPE, SIG_IGN);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (c->cgroup >= 0) {
        int fd = openat(c->cgroup, "cgroup.procs", O_WRONLY | O_CLOEXEC);
        if (fd < 0 || write(fd, "0", 1) != 1) return errno;
    }
    for (int i = 0; i < 6; i++)
        if (dup2(from[i], i) != i) return errno;
    if (syscall(SYS_close_range, 6u, ~0u, 0u) != 0 && errno != ENOSYS) return errno;
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return errno;
    if (getppid() != c->parent) return ESRCH; /* it died before the line above */
    const struct rlimit nothing = {0, 0}, data = {c->memory_limit, c->memory_limit};
    if (setrlimit(RLIMIT_CORE, &nothing) != 0) return errno;
    if (c->memory_limit && setrlimit(RLIMIT_DATA, &data) != 0) return errno;
    execve(c->path, argv, envp);
    return errno;
}

static SHARED_STACK void child_main(struct child *c) {
    c->failure = become_warden(c);
    _exit(127);
}

/* As vfork: no page table is copied, and we go on when the warden's image has taken over; and into `cgroup`, which
 * vfork cannot (moving a process there later would take milliseconds). The child runs on our stack, below this frame.
 */
static SHARED_STACK pid_t spawn_shared(struct child *c, int cgroup) {
    struct clone_args args = {.flags = CLONE_VM | CLONE_VFORK, .exit_signal = SIGCHLD};
    if (cgroup >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)cgroup;
    }
    long pid;
#if defined __x86_64__
    __asm__ volatile("syscall"
                     : "=a"(pid)
                     : "a"((long)SYS_clone3), "D"(&args), "S"(sizeof args)
                     : "rcx", "r11", "memory");
#elif defined __riscv
    register long a0 __asm__("a0") = (long)&args, a1 __asm__("a1") = sizeof args, a7 __asm__("a7") = SYS_clone3;
    __asm__ volatile("ecall" : "+r"(a0) : "r"(a1), "r"(a7) : "memory");
    pid = a0;
#else
#error "clone3 without a return through the C library, for this CPU"
#endif
    if (pid == 0) child_main(c);
    if (pid < 0) c->failure = (int)-pid;
    return (pid_t)pid;
}

static int child_entry(void *c) {
    child_main(c);
    return 127;
}

/* Where clone3 is not to be had: sandboxes that look at clone's flags (systemd's RestrictNamespaces=, containers)
 * cannot look at its own. */
static pid_t spawn_by_clone(struct child *c, int cgroup) {
    enum { STACK = 64 << 10 };
    uint8_t *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED) {
        c->failure = errno;
        return -1;
    }
    c->cgroup = cgroup;
    c->failure = 0;
    pid_t pid = clone(child_entry, stack + STACK, CLONE_VM | CLONE_VFORK | SIGCHLD, c);
    if (pid < 0) c->failure = errno;
    munmap(stack, STACK);
    return pid;
}

static pid_t spawn(struct child *c, int cgroup) {
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old); /* no handler of ours runs in the child */
    c->parent = getpid();
    c->cgroup = -1;
    pid_t pid = spawn_shared(c, cgroup);
    if (pid < 0 && c->failure == ENOSYS) pid = spawn_by_clone(c, cgroup);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (pid > 0 && c->failure) {
        waitpid(pid, NULL, 0);
        return -1;
    }
    return pid;
}

static struct gate_block *map_block(int fd) {
    if (fd < 0 || ftruncate(fd, GATE_BLOCK_SIZE) != 0) return NULL;
    void *p = mmap(NULL, GATE_BLOCK_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return p == MAP_FAILED ? NULL : p;
}

static void close_places(const struct places *p) {
    if (p->null >= 0) close(p->null);
    if (p->err >= 0) close(p->err);
    if (p->block >= 0) close(p->block);
    if (p->bell >= 0) close(p->bell);
    if (p->boot >= 0) close(p->boot);
}

static struct keep *process_start(const struct keep_image *image, char *error, size_t size) {
    struct keep *k = calloc(1, sizeof *k);
    if (!k) {
        snprintf(error, size, "out of memory");
        return NULL;
    }
    int pair[2] = {-1, -1}, failure = 0;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) pair[0] = pair[1] = -1;
    k->bell = pair[0];
    struct places p = {.null = move_high(open("/dev/null", O_RDWR | O_CLOEXEC)),
                       .err = move_high(image->debug ? dup(STDERR_FILENO) : open("/dev/null", O_RDWR | O_CLOEXEC)),
                       .block = move_high(memfd_create("donjon-gate", MFD_CLOEXEC)),
                       .bell = move_high(pair[1]),
                       .boot = move_high(dup(image->boot_fd))};
    k->block = map_block(p.block);
    if (p.null < 0 || p.err < 0 || p.bell < 0 || p.boot < 0 || !k->block) {
        failure = errno;
        k->pid = -1;
        k->cgroup.parent = k->cgroup.dir = -1;
    } else {
        gate_host_init(&k->gate, k->block, k->bell, spin_ns());
        struct child c = {.path = image->warden, .places = &p, .memory_limit = image->memory_limit};
        if (image->cpus > 1) snprintf(c.cpus, sizeof c.cpus, "%u", image->cpus);
        cgroup_open(&k->cgroup, image->memory_limit);
        k->pid = spawn(&c, k->cgroup.dir);
        failure = c.failure;
    }
    close_places(&p);
    if (k->pid > 0) return k;
    cgroup_close(&k->cgroup);
    snprintf(error, size, "cannot start the warden %s: %s", image->warden, strerror(failure));
    if (k->block) munmap(k->block, GATE_BLOCK_SIZE);
    if (k->bell >= 0) close(k->bell);
    free(k);
    return NULL;
}

static bool process_serve(struct keep *k, struct server *server) {
    return server_loop(server, &k->gate);
}

static int process_pid(const struct keep *k) {
    return k->pid;
}

static void process_kill(struct keep *k) {
    kill(k->pid, SIGKILL);
}

static struct keep_end process_wait(struct keep *k) {
    int status = 0;
    close(k->bell);
    while (waitpid(k->pid, &status, 0) < 0 && errno == EINTR) {
    }
    munmap(k->block, GATE_BLOCK_SIZE);
    struct keep_end end = {.signalled = WIFSIGNALED(status), .out_of_memory = cgroup_was_oom(&k->cgroup)};
    end.code = end.signalled ? WTERMSIG(status) : WEXITSTATUS(status);
    cgroup_close(&k->cgroup);
    free(k);
    return end;
}

const struct backend backend_process = {
    .name = "process",
    .strength = KEEP_ANY,
    .protects = "this machine from the workload; not the workload from this machine",
    .probe = process_probe,
    .start = process_start,
    .serve = process_serve,
    .wait = process_wait,
    .pid = process_pid,
    .kill = process_kill,
};
