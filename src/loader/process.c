/* The `process` keep: the warden as an ordinary process that locks itself in. It protects this machine from the
 * workload, not the workload from this machine; every other keep adds to it. */
#define _GNU_SOURCE
#include "backend.h"
#include "serve.h"
#include <errno.h>
#include <fcntl.h>
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
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0 || CPU_COUNT(&set) < 2) return 0;
    return GATE_SPIN_MOST_NS;
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

/* In the child, which shares our memory until it has replaced itself: system calls only. Returns when something failed.
 */
static int become_warden(const char *path, const struct places *p, const struct keep_image *image, pid_t parent) {
    static char name[] = "donjon-warden";
    char *const argv[] = {name, NULL}, *const envp[] = {NULL};
    const int from[] = {p->null, p->null, p->err, p->block, p->bell, p->boot};
    for (int i = 0; i < 6; i++)
        if (dup2(from[i], i) != i) return errno;
    if (syscall(SYS_close_range, 6u, ~0u, 0u) != 0 && errno != ENOSYS) return errno;
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return errno;
    if (getppid() != parent) return ESRCH; /* it died before the line above */
    const struct rlimit none = {0, 0}, data = {image->memory_limit, image->memory_limit};
    if (setrlimit(RLIMIT_CORE, &none) != 0) return errno;
    if (image->memory_limit && setrlimit(RLIMIT_DATA, &data) != 0) return errno;
    execve(path, argv, envp);
    return errno;
}

/* vfork: no page table is copied, and we go on when the warden's image has taken over. */
static pid_t spawn(const char *path, const struct places *p, const struct keep_image *image, int *error) {
    sigset_t all, old, none;
    sigfillset(&all);
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &all, &old); /* no handler of ours runs in the child */
    pid_t parent = getpid();
    volatile int failure = 0;
    pid_t pid = vfork();
    if (pid == 0) {
        signal(SIGPIPE, SIG_IGN);
        sigprocmask(SIG_SETMASK, &none, NULL);
        failure = become_warden(path, p, image, parent);
        _exit(127);
    }
    if (pid < 0) failure = errno;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    *error = failure;
    if (pid > 0 && failure) {
        waitpid(pid, NULL, 0);
        return -1;
    }
    return pid;
}

static struct gate_block *map_block(int fd) {
    if (fd < 0 || ftruncate(fd, GATE_BLOCK_SIZE) != 0) return NULL;
    void *p = mmap(NULL, GATE_BLOCK_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
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
    } else {
        gate_host_init(&k->gate, k->block, k->bell, spin_ns());
        k->pid = spawn(image->warden, &p, image, &failure);
    }
    close_places(&p);
    if (k->pid > 0) return k;
    snprintf(error, size, "cannot start the warden %s: %s", image->warden, strerror(failure));
    if (k->block) munmap(k->block, GATE_BLOCK_SIZE);
    if (k->bell >= 0) close(k->bell);
    free(k);
    return NULL;
}

static bool process_serve(struct keep *k, struct server *server) {
    server->gate = &k->gate;
    bool go_on = true;
    while (go_on) {
        struct gate_request q;
        struct gate_reply r;
        if (gate_host_wait(&k->gate, server->deadline_ns) != GATE_ASKED) return false;
        if (!gate_host_take(&k->gate, &q)) continue;
        go_on = server_request(server, &q, &r, k->block->data);
        gate_host_answer(&k->gate, &r);
    }
    return server->exit_kind != 0;
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
    free(k);
    if (WIFSIGNALED(status)) return (struct keep_end){true, WTERMSIG(status)};
    return (struct keep_end){false, WEXITSTATUS(status)};
}

const struct backend backend_process = {
    .name = "process",
    .protects = "this machine from the workload; not the workload from this machine",
    .probe = process_probe,
    .start = process_start,
    .serve = process_serve,
    .wait = process_wait,
    .kill = process_kill,
};
