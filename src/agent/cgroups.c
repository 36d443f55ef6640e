#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#define MOUNT "/sys/fs/cgroup"
enum { PERIOD_US = 100000, PROCESSES_MAX = 64, NAME = sizeof "keep-" + KEEP_ID };

static int own = -1; /* our group: keeps are in groups below it, we in one beside them ("no internal processes") */

static bool write_text(int dir, const char *name, const char *text) {
    int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return false;
    bool ok = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    close(fd);
    return ok;
}

static int open_own(void) {
    char text[4096] = "", path[4200];
    struct statfs fs;
    int fd = open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0 || strncmp(text, "0::/", 4) != 0) return -1; /* not version 2 alone */
    text[strcspn(text, "\n")] = 0;
    snprintf(path, sizeof path, "%s%s", MOUNT, text + 3);
    if (statfs(path, &fs) || fs.f_type != CGROUP2_SUPER_MAGIC) return -1;
    size_t end = strlen(path), tail = strlen("/agent"); /* an agent before us, in the same unit */
    if (end > tail && !strcmp(path + end - tail, "/agent")) path[end - tail] = 0;
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

bool cgroups_open(void) {
    own = open_own();
    if (own < 0) return false;
    bool ok = (mkdirat(own, "agent", 0755) == 0 || errno == EEXIST) && write_text(own, "agent/cgroup.procs", "0") &&
              write_text(own, "cgroup.subtree_control", "+memory +cpu +pids");
    if (ok) return true;
    close(own);
    own = -1;
    return false;
}

/* Two levels: the limits stand at the upper one, so that groups the keep's process makes beside its own (the loader
 * gives the warden one) are below them. */
int cgroups_make(const char *id, uint64_t memory, uint32_t cpu) {
    char name[NAME], text[64];
    if (own < 0) return -1;
    snprintf(name, sizeof name, "keep-%s", id);
    if (mkdirat(own, name, 0755) && errno != EEXIST) return -1;
    int dir = openat(own, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) return -1;
    snprintf(text, sizeof text, "%llu", (unsigned long long)memory);
    bool ok = write_text(dir, "memory.max", text);
    snprintf(text, sizeof text, "%d", PROCESSES_MAX);
    ok = write_text(dir, "pids.max", text) && ok;
    if (cpu) {
        snprintf(text, sizeof text, "%llu %d", (unsigned long long)cpu * PERIOD_US / 100, PERIOD_US);
        ok = write_text(dir, "cpu.max", text) && ok;
    }
    ok = write_text(dir, "cgroup.subtree_control", "+memory +pids") && ok;
    ok = (mkdirat(dir, "host", 0755) == 0 || errno == EEXIST) && ok;
    int procs = ok ? openat(dir, "host/cgroup.procs", O_WRONLY | O_CLOEXEC) : -1;
    close(dir);
    if (procs < 0) cgroups_remove(id, false);
    return procs;
}

void cgroups_remove(const char *id, bool kill) {
    char name[NAME + 16];
    if (own < 0) return;
    if (kill) {
        snprintf(name, sizeof name, "keep-%s/cgroup.kill", id);
        write_text(own, name, "1");
    }
    snprintf(name, sizeof name, "keep-%s/host", id);
    unlinkat(own, name, AT_REMOVEDIR);
    snprintf(name, sizeof name, "keep-%s", id);
    unlinkat(own, name, AT_REMOVEDIR);
}
