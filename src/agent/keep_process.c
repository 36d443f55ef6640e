#include "keep_process.h"
#include "keep.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STATUS_FD = 3, TOKEN_FD = 4, ELSEWHERE = 10 };

/* What /proc/PID/stat says (proc(5)): the fields behind the name, which may hold anything. */
struct stat_line {
    uint64_t user, system, started, pages;
};
static bool read_stat(pid_t pid, struct stat_line *s) {
    char path[48], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    const char *after = strrchr(text, ')');
    unsigned long long user, system, started;
    long long pages;
    if (!after || sscanf(after + 1,
                         " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d %*d %llu %*u %lld",
                         &user, &system, &started, &pages) != 4)
        return false;
    *s = (struct stat_line){user, system, started, pages > 0 ? (uint64_t)pages : 0};
    return true;
}

bool keep_process_is(pid_t pid, uint64_t started) {
    struct stat_line s;
    return pid > 0 && read_stat(pid, &s) && s.started == started;
}

int keep_process_open(pid_t pid, uint64_t started) {
    int fd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
    /* The descriptor names one process: looked at after it was opened, the number cannot have become another's. */
    if (fd < 0 || keep_process_is(pid, started)) return fd;
    close(fd);
    return -1;
}

void keep_process_kill(int pidfd) {
    syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
}

static void add_usage(const struct stat_line *s, struct keep_usage *u) {
    u->cpu_ms += (s->user + s->system) * 1000 / (uint64_t)sysconf(_SC_CLK_TCK);
    u->memory += s->pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

void keep_process_usage(pid_t pid, uint64_t started, struct keep_usage *u) {
    struct stat_line s;
    char path[64], text[512];
    if (!read_stat(pid, &s) || s.started != started) return;
    add_usage(&s, u);
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid, (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    char *rest = text;
    for (char *word; (word = strsep(&rest, " "));)
        if (*word && read_stat((pid_t)atoi(word), &s)) add_usage(&s, u);
}

/* In the child, up to execve: async-signal-safe calls only. `fds`: the status pipe's end, the token's. */
static void become_keep(const struct keep_process *p, const int fds[2], int go, char **argv) {
    sigset_t none;
    char word = 0;
    setsid();
    while (read(go, &word, 1) < 0 && errno == EINTR)
        ;
    if (word != 'g') _exit(1);
    if (p->procs_fd >= 0 && write(p->procs_fd, "0", 1) != 1) _exit(1); /* a keep without its limits is none */
    int null = open("/dev/null", O_RDWR);
    if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0) _exit(1);
    if (!p->debug && dup2(null, 2) < 0) _exit(1);
    int status = fcntl(fds[0], F_DUPFD, ELSEWHERE), token = fcntl(fds[1], F_DUPFD, ELSEWHERE);
    if (dup2(status, STATUS_FD) < 0 || dup2(token, TOKEN_FD) < 0) _exit(1);
    close_range(TOKEN_FD + 1, ~0u, 0);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execv(p->program, argv);
    _exit(127);
}

enum { STATUS, GO, TOKEN, PIPES };

static void close_pipes(int pipes[PIPES][2]) {
    for (int i = 0; i < PIPES; i++)
        for (int k = 0; k < 2; k++)
            if (pipes[i][k] >= 0) close(pipes[i][k]);
}

static bool open_pipes(int pipes[PIPES][2], const char *token) {
    for (int i = 0; i < PIPES; i++)
        pipes[i][0] = pipes[i][1] = -1;
    bool ok = true;
    for (int i = 0; ok && i < PIPES; i++)
        ok = pipe2(pipes[i], O_CLOEXEC) == 0;
    ok = ok && write(pipes[TOKEN][1], token, KEEP_TOKEN) == KEEP_TOKEN;
    if (!ok) close_pipes(pipes);
    return ok;
}

bool keep_process_start(struct keep_process *p) {
    int pipes[PIPES][2];
    char dir[256], memory[32], idle[16], signer[256];
    p->pid = 0;
    p->status_fd = p->go_fd = -1;
    snprintf(dir, sizeof dir, "%s/keeps/%s", p->state, p->id);
    snprintf(signer, sizeof signer, "%s/dev-signer.pem", p->state);
    snprintf(memory, sizeof memory, "%llu", (unsigned long long)p->memory);
    snprintf(idle, sizeof idle, "%u", p->idle);
    char *argv[20] = {"donjon-keep",
                      "--dir",
                      dir,
                      "--status-fd",
                      "3",
                      "--token-fd",
                      "4",
                      "--memory",
                      memory,
                      "--signer",
                      signer,
                      "--idle",
                      idle,
                      "--listen",
                      (char *)p->listen,
                      "--connect",
                      (char *)p->connect};
    if (*p->backend) {
        argv[17] = "--backend";
        argv[18] = (char *)p->backend;
    }
    if (!open_pipes(pipes, p->token)) return false;
    /* Nobody else may hold the word's other end: it has to close when the agent dies. */
    p->pid = fork();
    if (p->pid == 0) {
        close(pipes[GO][1]);
        become_keep(p, (const int[2]){pipes[STATUS][1], pipes[TOKEN][0]}, pipes[GO][0], argv);
    }
    p->status_fd = pipes[STATUS][0];
    p->go_fd = pipes[GO][1];
    pipes[STATUS][0] = pipes[GO][1] = -1;
    close_pipes(pipes);
    struct stat_line s;
    if (p->pid > 0 && read_stat(p->pid, &s)) {
        p->started = s.started;
        fcntl(p->status_fd, F_SETFL, O_NONBLOCK);
        return true;
    }
    keep_process_abandon(p);
    return false;
}

bool keep_process_go(struct keep_process *p) {
    bool ok = write(p->go_fd, "g", 1) == 1;
    close(p->go_fd);
    p->go_fd = -1;
    return ok;
}

void keep_process_abandon(struct keep_process *p) {
    if (p->pid > 0) kill(p->pid, SIGKILL); /* our own child, not yet waited for: the number is still its own */
    if (p->go_fd >= 0) close(p->go_fd);
    if (p->status_fd >= 0) close(p->status_fd);
    p->go_fd = p->status_fd = -1;
    p->pid = 0;
}
