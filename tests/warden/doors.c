/* The warden's locks, tried from inside: a child seals itself as the warden does, then tries one door. Each test names
 * the lock and proves that the door was open before and is shut after. */
#define _GNU_SOURCE
#include "warden/seal.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { OPEN = 0, SHUT = 1, SEAL_FAILED = 90 };

/* Runs `door` in a child: gives its wait status. The door answers OPEN or SHUT. */
static int try_door(int (*door)(void), bool sealed) {
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, STDERR_FILENO);
        char error[256];
        if (sealed && !seal(NULL, error, sizeof error)) _exit(SEAL_FAILED);
        _exit(door());
    }
    int status = 0;
    assert_true(waitpid(pid, &status, 0) == pid);
    return status;
}

static int answer(bool open) {
    return open ? OPEN : SHUT;
}

static void assert_open_before(int (*door)(void)) {
    int status = try_door(door, false);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), OPEN);
}

/* The call is not on the list: the process dies of it. */
static void assert_kills(int (*door)(void)) {
    int status = try_door(door, true);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSYS);
}

/* The call gives an error. */
static void assert_shut(int (*door)(void)) {
    int status = try_door(door, true);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), SHUT);
}

/* ---- seccomp: files ---- */

static int door_open(void) {
    return answer(syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY) >= 0);
}
static int door_open_old(void) {
    return answer(syscall(SYS_open, "/etc/passwd", O_RDONLY) >= 0);
}
static int door_openat2(void) {
    struct {
        uint64_t flags, mode, resolve;
    } how = {0, 0, 0};
    return answer(syscall(SYS_openat2, AT_FDCWD, "/etc/passwd", &how, sizeof how) >= 0);
}
static int door_creat(void) {
    return answer(syscall(SYS_creat, "/tmp/donjon-door", 0600) >= 0);
}
static int door_stat(void) {
    struct stat st;
    return answer(syscall(SYS_newfstatat, AT_FDCWD, "/etc/passwd", &st, 0) == 0);
}
static int door_memfd(void) {
    return answer(syscall(SYS_memfd_create, "x", 0) >= 0);
}
static int door_self_mem(void) {
    return answer(open("/proc/self/mem", O_RDWR) >= 0);
}
static int door_io_uring(void) {
    char params[256] = {0};
    long fd = syscall(SYS_io_uring_setup, 4, params);
    return answer(fd >= 0 || errno == EPERM || errno == ENOSYS); /* some machines have it switched off */
}

/* ---- seccomp: descriptors left open by mistake ---- */

static int inherited = -1;
static int door_inherited_read(void) {
    char c;
    return answer(read(inherited, &c, 1) == 1);
}
static int door_inherited_write(void) {
    return answer(write(inherited, "x", 1) == 1);
}
static int door_inherited_pread(void) {
    char c;
    return answer(pread(inherited, &c, 1, 0) == 1);
}
static int door_inherited_readv(void) {
    char c;
    struct iovec v = {&c, 1};
    return answer(readv(inherited, &v, 1) == 1);
}
static int door_inherited_map(void) {
    return answer(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, inherited, 0) != MAP_FAILED);
}
static int door_dup(void) {
    return answer(dup2(inherited, 5) == 5);
}
static int door_close(void) {
    return answer(close(inherited) == 0);
}
static int door_ioctl(void) {
    int n;
    return answer(ioctl(inherited, 0x541b /* FIONREAD */, &n) == 0);
}
static int door_fcntl(void) {
    return answer(fcntl(inherited, F_GETFL) >= 0);
}

/* ---- seccomp: network, processes, kernel ---- */

static int door_socket(void) {
    return answer(socket(AF_INET, SOCK_STREAM, 0) >= 0);
}
static int door_socketpair(void) {
    int p[2];
    return answer(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0);
}
static int door_exec(void) {
    char *const argv[] = {(char *)(uintptr_t) "true", NULL};
    execv("/bin/true", argv);
    return SHUT;
}
static int door_fork(void) {
    pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) _exit(0);
    return answer(pid > 0);
}
static int door_clone3(void) {
    return answer(syscall(SYS_clone3, NULL, 0) == -1);
}
static int door_ptrace(void) {
    return answer(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
}
static int door_vm_read(void) {
    int secret = 7, copy = 0;
    struct iovec to = {&copy, sizeof copy}, from = {&secret, sizeof secret};
    return answer(process_vm_readv(getppid(), &to, 1, &from, 1, 0) == sizeof copy || errno == EPERM || errno == EFAULT);
}
static int door_kill_parent(void) {
    return answer(syscall(SYS_kill, getppid(), 0) == 0);
}
static int door_tgkill_other(void) {
    return answer(syscall(SYS_tgkill, getppid(), getppid(), 0) == 0);
}
static int door_tgkill_abort_other(void) {
    return answer(syscall(SYS_tgkill, 1 << 29, 1 << 29, SIGABRT) == -1 && errno == ESRCH);
}
static int door_prctl(void) {
    return answer(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0);
}
static int door_seccomp(void) {
    return answer(syscall(SYS_seccomp, 2 /* GET_ACTION_AVAIL */, 0, &(uint32_t){0}) == 0);
}
static int door_bpf(void) {
    return answer(syscall(SYS_bpf, 0, NULL, 0) == -1);
}
static int door_unshare(void) {
    return answer(syscall(SYS_unshare, 0) == 0);
}
static int door_setuid(void) {
    return answer(syscall(SYS_setuid, getuid()) == 0);
}
static int door_sigaction(void) {
    struct sigaction a = {.sa_handler = SIG_IGN};
    return answer(sigaction(SIGTERM, &a, NULL) == 0);
}
static int door_rlimit(void) {
    struct rlimit l;
    return answer(getrlimit(RLIMIT_CORE, &l) == 0);
}
static int door_timer(void) {
    struct itimerval t = {{0, 0}, {100, 0}};
    return answer(setitimer(ITIMER_VIRTUAL, &t, NULL) == 0);
}
#ifdef __x86_64__
static int door_x32(void) {
    return answer(syscall(0x40000000 | 39 /* getpid */) > 0 || errno == ENOSYS);
}
static int door_i386(void) { /* int 0x80: the 32-bit table, where 20 is getpid */
    long r;
    __asm__ volatile("int $0x80" : "=a"(r) : "a"(20L) : "memory", "r8", "r9", "r10", "r11");
    return answer(r > 0 || r == -ENOSYS);
}
#endif

/* ---- seccomp: memory ---- */

static int door_map_wx(void) {
    return answer(mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
                  MAP_FAILED);
}
static int door_map_x(void) {
    return answer(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
}
static int door_protect_wx(void) {
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return answer(mprotect(p, 4096, PROT_READ | PROT_WRITE | PROT_EXEC) == 0);
}
static int door_pkey_protect(void) {
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return answer(syscall(SYS_pkey_mprotect, p, 4096, PROT_READ | PROT_EXEC, -1) == 0 || errno == ENOSYS);
}
static int door_shm(void) {
    return answer(syscall(SYS_shmget, 0, 4096, 0600) >= 0 || errno == ENOSYS);
}

#define KILLS(name)                                                                                                    \
    static void test_##name(void **state) {                                                                            \
        (void)state;                                                                                                   \
        assert_open_before(door_##name);                                                                               \
        assert_kills(door_##name);                                                                                     \
    }
KILLS(open)
KILLS(open_old)
KILLS(openat2)
KILLS(creat)
KILLS(stat)
KILLS(memfd)
KILLS(self_mem)
KILLS(io_uring)
KILLS(inherited_read)
KILLS(inherited_write)
KILLS(inherited_pread)
KILLS(inherited_readv)
KILLS(inherited_map)
KILLS(dup)
KILLS(close)
KILLS(ioctl)
KILLS(fcntl)
KILLS(socket)
KILLS(socketpair)
KILLS(exec)
KILLS(fork)
KILLS(clone3)
KILLS(ptrace)
KILLS(vm_read)
KILLS(kill_parent)
KILLS(tgkill_other)
KILLS(tgkill_abort_other)
KILLS(prctl)
KILLS(seccomp)
KILLS(bpf)
KILLS(unshare)
KILLS(setuid)
KILLS(sigaction)
KILLS(rlimit)
KILLS(timer)
KILLS(map_wx)
KILLS(map_x)
KILLS(protect_wx)
KILLS(pkey_protect)
KILLS(shm)
#ifdef __x86_64__
KILLS(x32)
KILLS(i386)
#endif

/* ---- with a thread that was there before the last lock ---- */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int (*door)(void);
    int answer; /* -1: none so far */
    bool there;
} helper = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, .answer = -1};

static void *help(void *arg) {
    (void)arg;
    pthread_mutex_lock(&helper.lock);
    helper.there = true;
    pthread_cond_broadcast(&helper.changed);
    while (!helper.door)
        pthread_cond_wait(&helper.changed, &helper.lock);
    helper.answer = helper.door();
    pthread_cond_broadcast(&helper.changed);
    pthread_mutex_unlock(&helper.lock);
    return NULL;
}

static void start_helper(void) {
    pthread_t t;
    mallopt(M_ARENA_MAX, 2); /* as helpers.c: no counting of processors */
    if (pthread_create(&t, NULL, help, NULL) != 0) _exit(SEAL_FAILED);
    pthread_mutex_lock(&helper.lock);
    while (!helper.there)
        pthread_cond_wait(&helper.changed, &helper.lock);
    pthread_mutex_unlock(&helper.lock);
}

/* The wait status of a sealed child whose other thread tries the door. */
static int helper_tries(int (*door)(void)) {
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        char error[256];
        dup2(open("/dev/null", O_RDWR), STDERR_FILENO);
        if (!seal(start_helper, error, sizeof error)) _exit(SEAL_FAILED);
        pthread_mutex_lock(&helper.lock);
        helper.door = door;
        pthread_cond_broadcast(&helper.changed);
        while (helper.answer < 0)
            pthread_cond_wait(&helper.changed, &helper.lock);
        _exit(helper.answer);
    }
    int status = 0;
    assert_true(waitpid(pid, &status, 0) == pid);
    return status;
}

static int takes_memory(void) {
    char *p = malloc(200000);
    if (!p) return SHUT;
    memset(p, 1, 200000);
    free(p);
    return OPEN;
}

static int opens_socket(void) {
    return answer(socket(AF_INET, SOCK_STREAM, 0) >= 0);
}

static int starts_thread(void) {
    pthread_t t;
    return answer(pthread_create(&t, NULL, help, NULL) == 0);
}

static void helper_is_sealed(void **state) {
    (void)state;
    int status = helper_tries(takes_memory);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), OPEN);
    status = helper_tries(opens_socket);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
    status = helper_tries(starts_thread);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
}

/* ---- the other locks, each looked at from outside the sealed process ---- */

/* A sealed child that waits; its pid. */
static pid_t sealed_child(void) {
    int pipe_fds[2];
    assert_true(pipe(pipe_fds) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(pipe_fds[1], STDERR_FILENO); /* the one descriptor that it may still write to */
        char error[256];
        if (!seal(NULL, error, sizeof error)) _exit(SEAL_FAILED);
        (void)!write(STDERR_FILENO, "x", 1);
        for (;;) {
            struct timespec t = {10, 0};
            clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
        }
    }
    close(pipe_fds[1]);
    char c;
    assert_true(read(pipe_fds[0], &c, 1) == 1);
    close(pipe_fds[0]);
    return pid;
}

static void end(pid_t pid) {
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

/* The value of a line of /proc/PID/status. */
static void status_of(pid_t pid, const char *key, char *value, size_t size) {
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    value[0] = 0;
    while (fgets(line, sizeof line, f))
        if (strncmp(line, key, strlen(key)) == 0 && line[strlen(key)] == ':')
            snprintf(value, size, "%s", line + strlen(key) + 2);
    fclose(f);
    value[strcspn(value, "\n")] = 0;
}

static void test_status(void **state) {
    (void)state;
    static const char *const want[][2] = {{"NoNewPrivs", "1"},
                                          {"Seccomp", "2"},
                                          {"CapEff", "0000000000000000"},
                                          {"CapPrm", "0000000000000000"},
                                          {"CapInh", "0000000000000000"}};
    pid_t pid = sealed_child();
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        char value[64];
        status_of(pid, want[i][0], value, sizeof value);
        assert_string_equal(value, want[i][1]);
    }
    end(pid);
}

/* Not dumpable: its /proc belongs to root, so nobody else of its user may attach to it or read its memory. */
static void test_not_dumpable(void **state) {
    (void)state;
    pid_t pid = sealed_child();
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    if (getuid() == 0) { /* as another user, who would be allowed to were it only for the uid */
        pid_t other = fork();
        if (other == 0) {
            if (setgid(65534) != 0 || setuid(65534) != 0) _exit(SEAL_FAILED);
            _exit(answer(open(path, O_RDONLY) >= 0 || ptrace(PTRACE_ATTACH, pid, 0, 0) == 0));
        }
        int status;
        waitpid(other, &status, 0);
        assert_int_equal(WEXITSTATUS(status), SHUT);
    } else {
        assert_true(open(path, O_RDONLY) < 0);
        assert_true(ptrace(PTRACE_ATTACH, pid, 0, 0) < 0);
    }
    end(pid);
}

static void test_limits(void **state) {
    (void)state;
    pid_t pid = sealed_child();
    struct rlimit l;
    assert_true(prlimit(pid, RLIMIT_CORE, NULL, &l) == 0);
    assert_true(l.rlim_cur == 0 && l.rlim_max == 0);
    assert_true(prlimit(pid, RLIMIT_NOFILE, NULL, &l) == 0);
    assert_true(l.rlim_cur == 0 && l.rlim_max == 0);
    end(pid);
}

/* A crash leaves no core, whatever the system's core pattern is. */
static int crash(void) {
    abort();
    return OPEN;
}
static void test_no_core(void **state) {
    (void)state;
    struct rlimit l = {RLIM_INFINITY, RLIM_INFINITY};
    setrlimit(RLIMIT_CORE, &l);
    int status = try_door(crash, true);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    assert_false(WCOREDUMP(status));
}

/* ---- locks by themselves: where seccomp is the only other thing that holds a door ---- */

static enum seal_result alone(const char *lock, int (*door)(void), int want) {
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); /* Landlock asks for it */
        enum seal_result r = seal_lock(lock);
        _exit(r == SEAL_CLOSED ? door() : SEAL_FAILED + (int)r);
    }
    int status;
    waitpid(pid, &status, 0);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == SEAL_FAILED + SEAL_ABSENT) return SEAL_ABSENT;
    assert_int_equal(WEXITSTATUS(status), want);
    return SEAL_CLOSED;
}

static int door_mkdir(void) {
    return answer(mkdir("/tmp/donjon-door-dir", 0700) == 0);
}
static int door_exec_file(void) {
    char *const argv[] = {(char *)(uintptr_t) "false", NULL}; /* exit status 1 is SHUT, too: so `true` would not do */
    execv("/bin/sh", argv);
    return errno == EACCES ? SHUT : OPEN;
}

static void test_landlock_alone(void **state) {
    (void)state;
    if (alone("landlock", door_open, SHUT) == SEAL_ABSENT) {
        print_message("SKIP: this kernel has no Landlock, or it is switched off\n");
        skip();
    }
    assert_int_equal(alone("landlock", door_creat, SHUT), SEAL_CLOSED);
    assert_int_equal(alone("landlock", door_mkdir, SHUT), SEAL_CLOSED);
    assert_int_equal(alone("landlock", door_exec_file, SHUT), SEAL_CLOSED);
    assert_int_equal(alone("landlock", door_inherited_read, OPEN), SEAL_CLOSED); /* what is open stays */
}

static void test_rlimits_alone(void **state) {
    (void)state;
    assert_int_equal(alone("rlimits", door_open, SHUT), SEAL_CLOSED);
    assert_int_equal(alone("rlimits", door_socket, SHUT), SEAL_CLOSED);
    assert_int_equal(alone("rlimits", door_memfd, SHUT), SEAL_CLOSED);
    assert_int_equal(alone("rlimits", door_dup, SHUT), SEAL_CLOSED);
}

static int door_regain(void) {
    struct {
        uint32_t version;
        int pid;
    } head = {0x20080522, 0};
    struct {
        uint32_t e, p, i;
    } all[2] = {{1, 1, 1}, {0, 0, 0}};
    return answer(syscall(SYS_capset, &head, all) == 0);
}
static void test_capabilities_alone(void **state) {
    (void)state;
    assert_int_equal(alone("capabilities", door_regain, SHUT), SEAL_CLOSED);
}

/* What the warden needs still works. */
static int what_it_needs(void) {
    struct timespec t;
    char buf[16];
    void *p = mmap(NULL, 1 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    bool ok = p != MAP_FAILED && mprotect(p, 4096, PROT_READ | PROT_WRITE) == 0;
    if (ok) memset(p, 1, 4096);
    ok = ok && munmap(p, 1 << 20) == 0 && clock_gettime(CLOCK_REALTIME, &t) == 0;
    ok = ok && syscall(SYS_getrandom, buf, sizeof buf, 0) == sizeof buf;
    struct itimerval timer = {{0, 0}, {100, 0}};
    ok = ok && setitimer(ITIMER_REAL, &timer, NULL) == 0 && setitimer(ITIMER_PROF, &timer, NULL) == 0;
    void *q = malloc(10 << 20);
    ok = ok && q;
    free(q);
    return ok ? SHUT : OPEN;
}
static void test_needs(void **state) {
    (void)state;
    assert_shut(what_it_needs);
}

static int setup(void **state) {
    (void)state;
    char name[] = "/tmp/donjon-doors-XXXXXX";
    int fd = mkstemp(name);
    unlink(name);
    unlink("/tmp/donjon-door");
    if (fd < 0 || ftruncate(fd, 8192) != 0) return -1;
    inherited = fcntl(fd, F_DUPFD, 9);
    close(fd);
    return inherited >= 0 ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    unlink("/tmp/donjon-door");
    return 0;
}

int main(void) {
    if (DONJON_SANITIZED) {
        puts("SKIP: the sanitised build leaves doors open for the sanitizers");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_needs),
        cmocka_unit_test(test_open),
        cmocka_unit_test(test_open_old),
        cmocka_unit_test(test_openat2),
        cmocka_unit_test(test_creat),
        cmocka_unit_test(test_stat),
        cmocka_unit_test(test_memfd),
        cmocka_unit_test(test_self_mem),
        cmocka_unit_test(test_io_uring),
        cmocka_unit_test(test_inherited_read),
        cmocka_unit_test(test_inherited_write),
        cmocka_unit_test(test_inherited_pread),
        cmocka_unit_test(test_inherited_readv),
        cmocka_unit_test(test_inherited_map),
        cmocka_unit_test(test_dup),
        cmocka_unit_test(test_close),
        cmocka_unit_test(test_ioctl),
        cmocka_unit_test(test_fcntl),
        cmocka_unit_test(test_socket),
        cmocka_unit_test(test_socketpair),
        cmocka_unit_test(test_exec),
        cmocka_unit_test(test_fork),
        cmocka_unit_test(test_clone3),
        cmocka_unit_test(test_ptrace),
        cmocka_unit_test(test_vm_read),
        cmocka_unit_test(test_kill_parent),
        cmocka_unit_test(test_tgkill_other),
        cmocka_unit_test(test_tgkill_abort_other),
        cmocka_unit_test(test_prctl),
        cmocka_unit_test(test_seccomp),
        cmocka_unit_test(test_bpf),
        cmocka_unit_test(test_unshare),
        cmocka_unit_test(test_setuid),
        cmocka_unit_test(test_sigaction),
        cmocka_unit_test(test_rlimit),
        cmocka_unit_test(test_timer),
        cmocka_unit_test(test_map_wx),
        cmocka_unit_test(test_map_x),
        cmocka_unit_test(test_protect_wx),
        cmocka_unit_test(test_pkey_protect),
        cmocka_unit_test(test_shm),
#ifdef __x86_64__
        cmocka_unit_test(test_x32),
        cmocka_unit_test(test_i386),
#endif
        cmocka_unit_test(helper_is_sealed),
        cmocka_unit_test(test_status),
        cmocka_unit_test(test_not_dumpable),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_no_core),
        cmocka_unit_test(test_landlock_alone),
        cmocka_unit_test(test_rlimits_alone),
        cmocka_unit_test(test_capabilities_alone),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
