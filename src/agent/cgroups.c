#include "agent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#define MOUNT "/sys/fs/cgroup"
#define GROUP "keep-"
enum {
    PERIOD_US = 100000,
    PROCESSES_MAX = 64,
    NAME = sizeof GROUP + KEEP_ID,
    HOST_BYTES = 64 << 20, /* what donjon-keep itself may take, beside what its keep was promised */
    HOST_SHARE = 64,       /* and the part of that for page tables: one in so many bytes */
};

static int top = -1; /* keeps' groups are in it, and no process (cgroup v2: "no internal processes") */
static const char *top_path;

static bool write_text(int dir, const char *name, const char *text) {
    int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return false;
    bool ok = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    close(fd);
    return ok;
}

static bool read_text(int dir, const char *name, char *text, size_t size) {
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = read(fd, text, size - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    return n > 0;
}

static int open_group(const char *path) {
    struct statfs fs;
    if (statfs(path, &fs) || fs.f_type != CGROUP2_SUPER_MAGIC) return -1;
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* The agent's own group, or the one around it when an agent before us has moved into "agent". */
static int open_own(void) {
    char text[4096], path[4200];
    if (!read_text(AT_FDCWD, "/proc/self/cgroup", text, sizeof text) || strncmp(text, "0::/", 4) != 0)
        return -1; /* not version 2 alone */
    text[strcspn(text, "\n")] = 0;
    snprintf(path, sizeof path, "%s%s", MOUNT, text + 3);
    size_t end = strlen(path), tail = strlen("/agent");
    if (end > tail && !strcmp(path + end - tail, "/agent")) path[end - tail] = 0;
    return open_group(path);
}

bool cgroups_open(const char *dir) {
    if (top >= 0) close(top);
    top_path = dir;
    top = dir ? open_group(dir) : open_own();
    if (top < 0) return false;
    bool ok =
        dir || ((mkdirat(top, "agent", 0755) == 0 || errno == EEXIST) && write_text(top, "agent/cgroup.procs", "0"));
    if (ok && write_text(top, "cgroup.subtree_control", "+memory +cpu +pids")) return true;
    close(top);
    top = -1;
    return false;
}

static bool make_directory(int dir, const char *name) {
    return mkdirat(dir, name, 0755) == 0 || errno == EEXIST;
}

static bool limit(int dir, uint64_t memory, uint32_t cpu) {
    char text[64];
    snprintf(text, sizeof text, "%llu", (unsigned long long)(memory + memory / HOST_SHARE + HOST_BYTES));
    bool ok = write_text(dir, "memory.max", text) && write_text(dir, "memory.oom.group", "1");
    write_text(dir, "memory.swap.max", "0"); /* where there is swap: a keep's memory stays in memory */
    snprintf(text, sizeof text, "%d", PROCESSES_MAX);
    ok = ok && write_text(dir, "pids.max", text);
    if (cpu)
        snprintf(text, sizeof text, "%llu %d", (unsigned long long)cpu * PERIOD_US / 100, PERIOD_US);
    else
        snprintf(text, sizeof text, "max %d", PERIOD_US);
    return ok && write_text(dir, "cpu.max", text);
}

static int make(const char *id, uint64_t memory, uint32_t cpu) {
    char name[NAME];
    snprintf(name, sizeof name, GROUP "%s", id);
    int dir = make_directory(top, name) ? openat(top, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (dir < 0) return -1;
    bool ok = limit(dir, memory, cpu) && write_text(dir, "cgroup.subtree_control", "+memory +pids") &&
              make_directory(dir, "box") && write_text(dir, "box/cgroup.subtree_control", "+memory +pids") &&
              make_directory(dir, "box/host");
    if (ok) fchmodat(dir, "box/host/cgroup.procs", 0644, 0); /* one that stayed was closed by its keep */
    int procs = ok ? openat(dir, "box/host/cgroup.procs", O_WRONLY | O_CLOEXEC) : -1;
    close(dir);
    return procs;
}

bool cgroups_make(const char *id, uint64_t memory, uint32_t cpu, int *procs) {
    *procs = -1;
    if (top < 0) return true;
    *procs = make(id, memory, cpu);
    /* The group we had may have been removed, and made anew, by who gave it to us. */
    if (*procs < 0 && top_path && cgroups_open(top_path)) *procs = make(id, memory, cpu);
    if (*procs >= 0) return true;
    int why = errno;
    cgroups_remove(id, false);
    errno = why;
    return false;
}

unsigned cgroups_out_of_memory(const char *id) {
    char name[NAME + 16], text[512];
    snprintf(name, sizeof name, GROUP "%s/memory.events", id);
    if (top < 0 || !read_text(top, name, text, sizeof text)) return 0;
    const char *p = strstr(text, "oom_kill ");
    return p ? (unsigned)strtoul(p + strlen("oom_kill "), NULL, 10) : 0;
}

/* The groups in one, which have none in them. */
static void remove_groups(int dir) {
    DIR *d = fdopendir(dir);
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_type == DT_DIR && *e->d_name != '.') unlinkat(dir, e->d_name, AT_REMOVEDIR);
    if (d) closedir(d);
}

bool cgroups_remove(const char *id, bool kill) {
    char name[NAME + 16];
    if (top < 0) return true;
    if (kill) {
        snprintf(name, sizeof name, GROUP "%s/cgroup.kill", id);
        write_text(top, name, "1");
    }
    snprintf(name, sizeof name, GROUP "%s/box", id);
    int box = openat(top, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (box >= 0) remove_groups(box);
    unlinkat(top, name, AT_REMOVEDIR);
    snprintf(name, sizeof name, GROUP "%s", id);
    return unlinkat(top, name, AT_REMOVEDIR) == 0 || errno != EBUSY;
}

void cgroups_sweep(const struct agent *a) {
    int fd = top >= 0 ? openat(top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    for (struct dirent *e; d && (e = readdir(d));) {
        const char *id = e->d_name + strlen(GROUP);
        if (strncmp(e->d_name, GROUP, strlen(GROUP)) != 0 || !keep_id_fine(id, strlen(id))) continue;
        const struct keep *k = a->keeps;
        while (k && strcmp(k->id, id) != 0)
            k = k->next;
        if (!k || !k->pid) cgroups_remove(id, false); /* what still has processes stays: it may be another agent's */
    }
    if (d) closedir(d);
}
