/* What a locked donjon-keep does to its neighbours: not even a signal. */
#define _GNU_SOURCE
#include "agent/keep_lock.h"
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SKIPPED = 77, ABI_SCOPED = 6, QUERY_VERSION = 1 };

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

int main(void) {
    if (syscall(SYS_landlock_create_ruleset, NULL, 0, QUERY_VERSION) < ABI_SCOPED) {
        puts("skipped: needs Landlock of Linux 6.12");
        return SKIPPED;
    }
    pid_t neighbour = sleeper();
    pid_t keep = fork();
    if (keep == 0) {
        if (!keep_lock_paths(NULL)) _exit(2);
        pid_t own = sleeper();
        if (kill(neighbour, SIGKILL) == 0 || errno != EPERM) _exit(3);
        if (kill(getppid(), 0) == 0) _exit(4);
        if (kill(own, SIGKILL) || !ended(own)) _exit(5);
        if (raise(SIGCONT)) _exit(6);
        _exit(0);
    }
    int status = -1;
    waitpid(keep, &status, 0);
    bool lives = waitpid(neighbour, NULL, WNOHANG) == 0;
    kill(neighbour, SIGKILL);
    if (status != 0 || !lives) printf("the keep: %d, its neighbour %s\n", status >> 8, lives ? "lives" : "was killed");
    return status != 0 || !lives;
}
