/* A double of donjon-keep (src/agent/keep.h) that takes what it can get. Its backend's name says of what:
 *   memory      touches more and more of it, in a child
 *   processes   forks until it cannot
 *   cpu         computes in two processes at once
 *   limits      tries to raise its own limits and to draw its agent into its group, and ends when it could
 *   quiet       nothing */
#define _GNU_SOURCE
#include "agent/keep_lock.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int listen_on(const char *name) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(a.sun_path, sizeof a.sun_path, "%s", name);
    return bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 16) ? -1 : fd;
}

static void take_memory(void) {
    enum { MIB = 1 << 20 };
    if (fork() != 0) return;
    for (;; usleep(1000)) {
        char *p = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p != MAP_FAILED) memset(p, 1, MIB);
    }
}

static void take_processes(void) {
    for (pid_t pid; (pid = fork()) >= 0;)
        if (pid == 0)
            for (;;)
                pause();
}

static void take_cpu(void) {
    for (int i = 0; i < 2; i++)
        if (fork() == 0)
            for (volatile unsigned long n = 0;; n++)
                ;
}

static int writes(const char *name, const char *text) {
    int fd = open(name, O_WRONLY);
    return fd >= 0 && write(fd, text, strlen(text)) > 0;
}

/* From its own group upwards. It has been locked in, as donjon-keep is before it serves anybody. */
static void take_limits(const char *group) {
    static const char *const files[] = {"memory.max", "pids.max", "cpu.max", "cgroup.subtree_control"};
    char path[5000];
    for (int up = 2; up <= 4; up++)
        for (int i = 0; i < 4; i++) {
            snprintf(path, sizeof path, "/sys/fs/cgroup%s%s/%s", group,
                     up == 2   ? "/../.."
                     : up == 3 ? "/../../.."
                               : "/../../../..",
                     files[i]);
            if (writes(path, i < 3 ? "max" : "-memory")) exit(1);
        }
    snprintf(path, sizeof path, "/sys/fs/cgroup%s/../../../../donjon-agent.service/cgroup.procs", group);
    if (writes(path, "0")) exit(1);
}

/* Its agent, of the same user, into its own group. */
static void take_agent(const char *group) {
    static const char *const folders[] = {"", "/..", "/../other"}, *const files[] = {"cgroup.procs", "cgroup.threads"};
    char path[5000], pid[16];
    snprintf(pid, sizeof pid, "%d", getppid());
    snprintf(path, sizeof path, "/sys/fs/cgroup%s/../other", group);
    if (mkdir(path, 0700) == 0) exit(1);
    for (int i = 0; i < 6; i++) {
        snprintf(path, sizeof path, "/sys/fs/cgroup%s%s/%s", group, folders[i / 2], files[i % 2]);
        if (chmod(path, 0666) == 0 || writes(path, pid)) exit(1);
    }
}

int main(int argc, char **argv) {
    const char *dir = NULL, *backend = "quiet";
    char group[4096] = "";
    int status = -1;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--dir")) dir = argv[i + 1];
        if (!strcmp(argv[i], "--backend")) backend = argv[i + 1];
        if (!strcmp(argv[i], "--status-fd")) status = atoi(argv[i + 1]);
    }
    signal(SIGCHLD, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    int fd = open("/proc/self/cgroup", O_RDONLY);
    if (fd >= 0 && read(fd, group, sizeof group - 1) > 0) group[strcspn(group, "\n")] = 0;
    if (!dir || chdir(dir) || !keep_lock_paths(NULL)) return 1;
    int socket = listen_on("socket"), control = listen_on("control");
    if (socket < 0 || control < 0) return 1;
    if (!strcmp(backend, "limits")) {
        take_limits(group + strlen("0::"));
        if (!keep_lock_calls()) return 1;
        take_agent(group + strlen("0::"));
    }
    dprintf(status,
            "{\"ok\":true,\"backend\":\"%s\",\"protects\":\"nothing\",\"measurement\":\"%096d\",\"tee\":false}\n",
            backend, 0);
    close(status);
    if (!strcmp(backend, "memory")) take_memory();
    if (!strcmp(backend, "processes")) take_processes();
    if (!strcmp(backend, "cpu")) take_cpu();
    for (;;) { /* whatever is said to it */
        struct pollfd p[2] = {{socket, POLLIN, 0}, {control, POLLIN, 0}};
        poll(p, 2, -1);
        for (int i = 0; i < 2; i++)
            if (p[i].revents) accept(p[i].fd, NULL, NULL);
    }
}
