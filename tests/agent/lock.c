/* What a locked donjon-keep does to its neighbours: it reads none of their files, nor the agent's, and changes nothing
 * the agent believes; not even a signal reaches them. */
#define _GNU_SOURCE
#include "agent/keep_lock.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <asm/sockios.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { QUERY_VERSION = 1 };

static pid_t sleeper(void) {
    pid_t pid = fork();
    if (pid == 0) {
        pause();
        _exit(0);
    }
    return pid;
}

static bool ended(pid_t pid) {
    int status;
    return waitpid(pid, &status, 0) == pid && WIFSIGNALED(status);
}

static bool make(const char *path) {
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    return fd >= 0 && close(fd) == 0;
}

static bool opens(const char *path, int flags) {
    int fd = open(path, flags | O_CLOEXEC, 0600);
    return fd >= 0 && close(fd) == 0;
}

/* In a state directory's keeps/A, locked. Gives what it could do that it should not. */
static int in_own_directory(void) {
    if (!keep_lock_paths(NULL)) return 2;
    if (!opens("end.json", O_RDWR | O_CREAT) || unlink("end.json")) return 3;
    static const char *const closed[] = {
        "../../records/a.json", "../../agent-key.pem", "../B/end.json", "../../records", "..", "/etc/../tmp"};
    for (int i = 0; i < 6; i++)
        if (opens(closed[i], O_RDONLY)) return 4;
    if (opens("../../records/a.json", O_WRONLY) || opens("../../records/b.json", O_WRONLY | O_CREAT) ||
        unlink("../../records/a.json") == 0 || rename("../../records/a.json", "mine") == 0 ||
        link("../../records/a.json", "mine") == 0)
        return 5;
    if (mkdir("folder", 0700) == 0 || symlink("../B/socket", "link") == 0 || mkfifo("fifo", 0600) == 0) return 6;
    return opens("/sys/fs/cgroup/cgroup.procs", O_WRONLY) ? 7 : 0;
}

static int files(void) {
    char top[] = "/tmp/djlock.XXXXXX";
    static const char *const folders[] = {"keeps", "keeps/A", "keeps/B", "records"}, *const made[] = {
                                                                                         "records/a.json",
                                                                                         "agent-key.pem",
                                                                                         "keeps/B/end.json"};
    int status = -1, home = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = home >= 0 && mkdtemp(top) && chdir(top) == 0;
    for (int i = 0; ok && i < 4; i++)
        ok = mkdir(folders[i], 0700) == 0;
    for (int i = 0; ok && i < 3; i++)
        ok = make(made[i]);
    pid_t keep = ok ? fork() : -1;
    if (keep == 0) _exit(chdir("keeps/A") ? 1 : in_own_directory());
    if (keep > 0) waitpid(keep, &status, 0);
    for (int i = 0; i < 3; i++)
        unlink(made[i]);
    for (int i = 3; i >= 0; i--)
        rmdir(folders[i]);
    ok = rmdir(top) == 0 && status == 0;
    if (status) printf("files: the keep could do %d\n", status >> 8);
    if (!ok) printf("files: %s\n", top);
    return ok && fchdir(home) == 0 ? 0 : 1;
}

/* After both locks: signals reach itself and its own child, and nobody else; not even later, by what a descriptor does.
 */
static int signals(pid_t neighbour) {
    if (!keep_lock_paths(NULL)) return 2;
    pid_t own = sleeper(), second = sleeper();
    if (!keep_lock_calls()) return 3;
    if (kill(neighbour, SIGKILL) == 0 || errno != EPERM) return 4;
    if (kill(getppid(), 0) == 0 || kill(0, 0) == 0 || kill(-1, 0) == 0) return 5;
    if (syscall(SYS_tkill, neighbour, SIGKILL) == 0 || syscall(SYS_tgkill, neighbour, neighbour, SIGKILL) == 0)
        return 6;
    int fd = (int)syscall(SYS_pidfd_open, neighbour, 0), pair[2];
    if (fd >= 0) return 7;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) return 8;
    if (fcntl(pair[0], F_SETOWN, neighbour) == 0 || fcntl(pair[0], F_SETSIG, SIGKILL) == 0) return 9;
    if (ioctl(pair[0], FIOSETOWN, &neighbour) == 0 || fcntl(pair[0], F_SETFL, O_NONBLOCK)) return 10;
    struct rlimit limit;
    if (getrlimit(RLIMIT_CPU, &limit) || prlimit(neighbour, RLIMIT_CPU, &(struct rlimit){0, 0}, NULL) == 0) return 13;
    if (setpriority(PRIO_PROCESS, (id_t)neighbour, 19) == 0 ||
        sched_setscheduler(neighbour, SCHED_IDLE, &(struct sched_param){0}) == 0)
        return 14;
    if (kill(own, SIGKILL) || !ended(own) || kill(second, SIGTERM) || !ended(second)) return 11;
    return raise(SIGCONT) ? 12 : 0;
}

int main(void) {
    bool landlock = syscall(SYS_landlock_create_ruleset, NULL, 0, QUERY_VERSION) >= 1;
    if (!landlock) puts("SKIP: files, as this kernel has no Landlock");
    if (landlock && files()) return 1;
    pid_t neighbour = sleeper();
    pid_t keep = fork();
    if (keep == 0) _exit(signals(neighbour));
    int status = -1;
    waitpid(keep, &status, 0);
    bool lives = waitpid(neighbour, NULL, WNOHANG) == 0;
    kill(neighbour, SIGKILL);
    if (status != 0 || !lives) printf("the keep: %d, its neighbour %s\n", status >> 8, lives ? "lives" : "was killed");
    return status != 0 || !lives;
}
