#define _GNU_SOURCE
#include "cgroup.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#define MOUNT  "/sys/fs/cgroup"
#define PREFIX "donjon-"

/* A small file's text; false when it cannot be read. */
static bool read_text(int dir, const char *name, char *text, size_t size) {
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = read(fd, text, size - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    return n > 0;
}

static bool write_text(int dir, const char *name, const char *text) {
    int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return false;
    size_t len = strlen(text);
    bool ok = write(fd, text, len) == (ssize_t)len;
    close(fd);
    return ok;
}

/* The directory of the group that ours is in (or is: the root). -1: this system has no version 2 hierarchy at its
 * place. */
static int open_parent(void) {
    struct statfs fs;
    char text[4096], path[4200];
    if (statfs(MOUNT, &fs) != 0 || fs.f_type != CGROUP2_SUPER_MAGIC) return -1;
    if (!read_text(AT_FDCWD, "/proc/self/cgroup", text, sizeof text) || strncmp(text, "0::/", 4) != 0) return -1;
    text[strcspn(text, "\n")] = 0;
    char *slash = strrchr(text, '/'); /* "0::/user.slice/us.scope" */
    *slash = 0;
    snprintf(path, sizeof path, "%s%s", MOUNT, text + 3);
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static bool has_word(const char *text, const char *word) {
    size_t n = strlen(word);
    for (const char *p = text; (p = strstr(p, word)); p += n)
        if ((p == text || p[-1] == ' ') && (p[n] == ' ' || p[n] == '\n' || p[n] == 0)) return true;
    return false;
}

/* Groups of loaders that were killed before they could clean up. */
static void sweep(int parent) {
    int fd = openat(parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d) {
        if (fd >= 0) close(fd);
        return;
    }
    for (struct dirent *e; (e = readdir(d));) {
        if (strncmp(e->d_name, PREFIX, sizeof PREFIX - 1) != 0) continue;
        pid_t pid = (pid_t)atoi(e->d_name + sizeof PREFIX - 1);
        if (pid > 0 && kill(pid, 0) != 0 && errno == ESRCH) unlinkat(parent, e->d_name, AT_REMOVEDIR);
    }
    closedir(d);
}

void cgroup_open(struct cgroup *c, uint64_t memory) {
    char text[512], bytes[32];
    c->dir = -1;
    c->parent = open_parent();
    if (c->parent < 0) return;
    if (read_text(c->parent, "cgroup.subtree_control", text, sizeof text) && has_word(text, "memory") &&
        has_word(text, "pids") && faccessat(c->parent, ".", W_OK, AT_EACCESS) == 0) {
        sweep(c->parent);
        static _Atomic unsigned number;
        snprintf(c->name, sizeof c->name, PREFIX "%d-%u", getpid(), number++);
        if (mkdirat(c->parent, c->name, 0755) == 0)
            c->dir = openat(c->parent, c->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    snprintf(bytes, sizeof bytes, "%llu", (unsigned long long)memory);
    if (c->dir >= 0 && (memory == 0 || write_text(c->dir, "memory.max", bytes)) && write_text(c->dir, "pids.max", "1"))
        return;
    cgroup_close(c);
}

bool cgroup_was_oom(const struct cgroup *c) {
    char text[512];
    if (c->dir < 0 || !read_text(c->dir, "memory.events", text, sizeof text)) return false;
    const char *p = strstr(text, "oom_kill ");
    return p && atoi(p + strlen("oom_kill ")) > 0;
}

void cgroup_close(struct cgroup *c) {
    if (c->dir >= 0) {
        close(c->dir);
        unlinkat(c->parent, c->name, AT_REMOVEDIR);
    }
    if (c->parent >= 0) close(c->parent);
    c->dir = c->parent = -1;
}
