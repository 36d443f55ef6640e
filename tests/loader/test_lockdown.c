/* The loader's locks, each by itself, from a process of its own that has closed them: what serving a keep takes still
 * works, and nothing else does. */
#define _GNU_SOURCE
#include "loader/lockdown.h"
#include "loader/serve.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RW, RO, MOUNTS };
static char root[] = "/tmp/donjon-lock-XXXXXX", paths[MOUNTS][64];
static int mounts[MOUNTS];

static long open_at(int dir, const char *path, uint64_t flags) {
    struct open_how how = {.flags = flags | O_CLOEXEC, .mode = flags & O_CREAT ? 0600 : 0};
    return syscall(SYS_openat2, dir, path, &how, sizeof how);
}

/* Whether a kernel has Landlock. */
static bool landlock(void) {
    return syscall(SYS_landlock_create_ruleset, NULL, 0, 1) > 0;
}

/* ---- what must fail: true when it did, as it should ---- */

static bool refused(long result, int error) {
    return result < 0 && errno == error;
}

static bool no_exec(void) {
    char *const argv[] = {(char *)"true", NULL};
    return refused(execv("/bin/true", argv), EPERM);
}
static bool no_fork(void) {
    return refused(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0), EPERM) && refused(syscall(SYS_fork), EPERM);
}
static bool no_socket(void) {
    return refused(socket(AF_INET, SOCK_STREAM, 0), EPERM) && refused(socket(AF_UNIX, SOCK_DGRAM, 0), EPERM);
}
static bool no_open(void) {
    return refused(open("/etc/passwd", O_RDONLY), EPERM) && refused(open("/dev/kvm", O_RDWR), EPERM);
}
static bool no_code(void) {
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p != MAP_FAILED && refused(mprotect(p, 4096, PROT_READ | PROT_EXEC), EPERM) &&
           mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == EPERM;
}
static bool no_ptrace(void) {
    return refused(ptrace(PTRACE_ATTACH, getppid(), 0, 0), EPERM) && refused(syscall(SYS_process_vm_readv), EPERM);
}
static bool no_signals_to_others(void) {
    return refused(kill(getppid(), 0), EPERM);
}
static bool no_rights_back(void) {
    return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 && refused(syscall(SYS_setuid, 0), EPERM) &&
           refused(syscall(SYS_mount), EPERM) && refused(syscall(SYS_bpf), EPERM);
}
static bool no_path_outside(void) {
    return !landlock() || (refused(open_at(AT_FDCWD, "/etc/passwd", O_RDONLY), EACCES) &&
                           refused(open_at(mounts[RW], "../outside", O_RDONLY), EACCES) &&
                           refused(open_at(AT_FDCWD, "/tmp/donjon-lock-new", O_WRONLY | O_CREAT), EACCES));
}
static bool no_change_of_read_only(void) {
    return !landlock() ||
           (refused(open_at(mounts[RO], "inside", O_WRONLY), EACCES) &&
            refused(open_at(mounts[RO], "new", O_WRONLY | O_CREAT), EACCES) &&
            refused(unlinkat(mounts[RO], "inside", 0), EACCES) && refused(mkdirat(mounts[RO], "new", 0700), EACCES));
}

/* Threads that were there before are locked in as well. */
static int go[2];
static void *other_thread(void *arg) {
    char byte;
    (void)arg;
    (void)!read(go[0], &byte, 1);
    return (void *)(uintptr_t)(no_socket() && no_open() && no_code());
}

/* ---- what must work ---- */

static bool serves(void) {
    char text[8] = "";
    int fd = (int)open_at(mounts[RO], "inside", O_RDONLY);
    bool ok = fd >= 0 && read(fd, text, sizeof text) == 6 && memcmp(text, "inside", 6) == 0;
    fd = (int)open_at(mounts[RW], "new", O_RDWR | O_CREAT);
    ok = ok && fd >= 0 && write(fd, "x", 1) == 1 && ftruncate(fd, 0) == 0 && fsync(fd) == 0;
    ok = ok && mkdirat(mounts[RW], "d", 0700) == 0 && renameat(mounts[RW], "new", mounts[RW], "d/moved") == 0;
    ok = ok && unlinkat(mounts[RW], "d/moved", 0) == 0 && unlinkat(mounts[RW], "d", AT_REMOVEDIR) == 0;
    void *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return ok && p != MAP_FAILED && munmap(p, 1 << 20) == 0;
}

/* ---- */

static struct config config;
static struct server *server;

static int setup(void **state) {
    static const char *const names[MOUNTS] = {"rw", "ro"};
    struct config_error err;
    char error[512], path[96];
    const int stdio[3] = {-1, -1, -1};
    (void)state;
    if (!mkdtemp(root) || !config_init(&config)) return -1;
    snprintf(path, sizeof path, "%s/outside", root);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    for (int i = 0; i < MOUNTS; i++) {
        snprintf(paths[i], sizeof paths[i], "%s/%s", root, names[i]);
        if (mkdir(paths[i], 0700) != 0) return -1;
        snprintf(path, sizeof path, "%s/inside", paths[i]);
        int fd = open(path, O_CREAT | O_WRONLY, 0600);
        if (fd < 0 || write(fd, "inside", 6) != 6) return -1;
        close(fd);
        struct config_mount m = {.host = paths[i], .guest = paths[i], .writable = i == RW};
        if (!config_add_mount(&config, &m, &err)) return -1;
        mounts[i] = open(paths[i], O_PATH | O_DIRECTORY | O_CLOEXEC);
    }
    server = server_new(&config, stdio, false, error, sizeof error);
    return server && pipe(go) == 0 ? 0 : -1;
}

static int teardown(void **state) {
    static const char *const left[] = {"rw/inside", "ro/inside", "rw", "ro", "outside"};
    char path[96];
    (void)state;
    server_delete(server);
    config_free(&config);
    for (size_t i = 0; i < sizeof left / sizeof left[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", root, left[i]);
        remove(path);
    }
    return rmdir(root);
}

/* In a process of its own, locked in. */
static bool locked(bool (*check)(void)) {
    int status = 0;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        char error[256];
        pthread_t thread;
        bool threaded = !check && pthread_create(&thread, NULL, other_thread, NULL) == 0;
        if (!lockdown(server, error, sizeof error)) _exit(2);
        void *ok = NULL;
        if (check) _exit(check() ? 0 : 1);
        (void)!write(go[1], "", 1);
        _exit(threaded && pthread_join(thread, &ok) == 0 && ok ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void doors(void **state) {
    static const struct {
        const char *name;
        bool (*check)(void);
    } all[] = {{"exec", no_exec},
               {"fork", no_fork},
               {"socket", no_socket},
               {"open", no_open},
               {"executable memory", no_code},
               {"ptrace", no_ptrace},
               {"signals", no_signals_to_others},
               {"rights", no_rights_back},
               {"paths outside", no_path_outside},
               {"read-only mounts", no_change_of_read_only},
               {"another thread", NULL},
               {"serving", serves}};
    int wrong = 0;
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        bool ok = locked(all[i].check);
        if (!ok) print_error("%s: not as it should be\n", all[i].name);
        wrong += !ok;
    }
    assert_int_equal(wrong, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(doors)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
