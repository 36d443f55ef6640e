#define _GNU_SOURCE
#include "code_cache.h"
#include "cli.h"
#include "code_file.h"
#include "code_key.h"
#include <dirent.h>
#include <donjon/wasm.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { NAME_SIZE = 96, PATH_SIZE = 4096, STALE_SECONDS = 3600 };
static const char suffix[] = ".code";

static bool directory(bool make, char path[PATH_SIZE]) {
    const char *given = getenv("DONJON_CODE_CACHE");
    if (given && !strcmp(given, "off")) return false;
    return user_directory("XDG_CACHE_HOME", ".cache", "donjon", make, path, PATH_SIZE - NAME_SIZE);
}

bool code_cache_on(void) {
    const char *given = getenv("DONJON_CODE_CACHE");
    return !(given && !strcmp(given, "off")) && geteuid() == getuid();
}

/* ENGINE-SIZE-DIGEST.code: what is needed to know that there is no entry, without hashing the module, comes first. */
static void entry_prefix(size_t module_size, char name[NAME_SIZE]) {
    const uint8_t *e = donjon_engine_id();
    snprintf(name, NAME_SIZE, "%02x%02x%02x%02x%02x%02x-%zx-", e[0], e[1], e[2], e[3], e[4], e[5], module_size);
}

static void entry_name(const uint8_t digest[MAC_SIZE], size_t module_size, char name[NAME_SIZE]) {
    entry_prefix(module_size, name);
    for (size_t k = 0; k < 16; k++)
        snprintf(name + strlen(name), NAME_SIZE - strlen(name), "%02x", digest[k]);
    strcat(name, suffix);
}

static bool any_with(const char *dir, const char *prefix) {
    DIR *d = opendir(dir);
    bool found = false;
    for (struct dirent *e; d && !found && (e = readdir(d));)
        found = !strncmp(e->d_name, prefix, strlen(prefix));
    if (d) closedir(d);
    return found;
}

/* A file of this user's that nobody else can write. */
static bool read_own(const char *path, uint8_t **bytes, size_t *size) {
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    *bytes = NULL;
    bool ok = fd >= 0 && !fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_uid == geteuid() &&
              !(st.st_mode & (S_IWGRP | S_IWOTH)) && st.st_size > 0 && (uint64_t)st.st_size < CODE_CACHE_MOST;
    if (ok) *bytes = malloc((size_t)st.st_size);
    *size = 0;
    while (ok && *bytes && *size < (size_t)st.st_size) {
        ssize_t n = read(fd, *bytes + *size, (size_t)st.st_size - *size);
        if (n <= 0) break;
        *size += (size_t)n;
    }
    ok = ok && *bytes && *size == (size_t)st.st_size;
    if (ok) futimens(fd, NULL); /* used: the last to be thrown away */
    if (!ok) {
        free(*bytes);
        *bytes = NULL;
    }
    if (fd >= 0) close(fd);
    return ok;
}

bool code_cache_find(const void *module, size_t size, uint8_t **file, const uint8_t **code, size_t *code_size,
                     uint8_t digest[MAC_SIZE], uint8_t code_sha256[MAC_SIZE]) {
    char dir[PATH_SIZE], path[PATH_SIZE], name[NAME_SIZE], error[256];
    uint8_t key[MAC_KEY];
    size_t file_size;
    struct code_file f;
    if (!donjon_cpu_id() || !directory(false, dir)) return false;
    entry_prefix(size, name);
    if (!any_with(dir, name)) return false;
    if (!code_key(false, key, error, sizeof error) || !mac_sha256(module, size, digest)) return false;
    entry_name(digest, size, name);
    snprintf(path, sizeof path, "%.*s/%s", PATH_SIZE - NAME_SIZE - 2, dir, name);
    if (!read_own(path, file, &file_size)) return false;
    const char *wrong = code_file_open(*file, file_size, key, &f);
    explicit_bzero(key, sizeof key);
    if (!wrong && f.head.module_size == size && !memcmp(f.head.digest, digest, MAC_SIZE)) {
        *code = f.code;
        *code_size = (size_t)f.head.code_size;
        memcpy(code_sha256, f.head.code_sha256, MAC_SIZE);
        return true;
    }
    unlink(path); /* of no use to anybody */
    free(*file);
    *file = NULL;
    return false;
}

/* ---- filling ---- */

struct entry {
    char name[NAME_SIZE];
    uint64_t size;
    struct timespec used;
};

static int older_first(const void *a, const void *b) {
    const struct timespec *x = &((const struct entry *)a)->used, *y = &((const struct entry *)b)->used;
    if (x->tv_sec != y->tv_sec) return x->tv_sec < y->tv_sec ? -1 : 1;
    return (x->tv_nsec > y->tv_nsec) - (x->tv_nsec < y->tv_nsec);
}

/* Deletes the least recently used until `room` more bytes fit, and what was left behind half-written. */
static void make_room(const char *dir, uint64_t room) {
    enum { MOST = 4096 };
    struct entry *all = malloc(MOST * sizeof *all);
    DIR *d = all ? opendir(dir) : NULL;
    uint64_t sum = room;
    size_t n = 0;
    time_t now = time(NULL);
    for (struct dirent *e; d && n < MOST && (e = readdir(d));) {
        struct stat st;
        size_t len = strlen(e->d_name);
        if (len >= NAME_SIZE || fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode))
            continue;
        bool whole = len >= sizeof suffix && !strcmp(e->d_name + len - (sizeof suffix - 1), suffix);
        if (!whole && strstr(e->d_name, ".tmp-") && st.st_mtime < now - STALE_SECONDS) unlinkat(dirfd(d), e->d_name, 0);
        if (!whole) continue;
        memcpy(all[n].name, e->d_name, len + 1);
        all[n].size = (uint64_t)st.st_size;
        all[n].used = st.st_mtim;
        sum += all[n++].size;
    }
    if (n) qsort(all, n, sizeof *all, older_first);
    for (size_t k = 0; k < n && sum > CODE_CACHE_MOST; k++)
        if (!unlinkat(dirfd(d), all[k].name, 0)) sum -= all[k].size;
    if (d) closedir(d);
    free(all);
}

bool code_cache_put(const uint8_t key[MAC_KEY], const uint8_t digest[MAC_SIZE], size_t module_size, const void *code,
                    size_t code_size) {
    char dir[PATH_SIZE], path[PATH_SIZE], name[NAME_SIZE];
    errno = ENOENT;
    if (!directory(true, dir)) return false;
    errno = EFBIG;
    if (code_size > CODE_CACHE_MOST / 2) return false;
    make_room(dir, code_size);
    entry_name(digest, module_size, name);
    snprintf(path, sizeof path, "%.*s/%s", PATH_SIZE - NAME_SIZE - 2, dir, name);
    return code_file_write(path, key, digest, NULL, module_size, code, code_size);
}

bool code_cache_claim(const uint8_t digest[MAC_SIZE], size_t module_size) {
    char dir[PATH_SIZE], path[PATH_SIZE], name[NAME_SIZE];
    if (!directory(true, dir)) return false;
    entry_name(digest, module_size, name);
    snprintf(path, sizeof path, "%.*s/%s", PATH_SIZE - NAME_SIZE - 2, dir, name);
    if (!access(path, F_OK)) return false;
    snprintf(path, sizeof path, "%.*s/lock", PATH_SIZE - NAME_SIZE - 2, dir);
    int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    return fd >= 0 && !flock(fd, LOCK_EX | LOCK_NB); /* one at a time; the kernel unlocks */
}

/* A grandchild that is nobody's: no terminal, none of our descriptors but the one that it waits on, in nobody's way. */
static _Noreturn void compile_when_told(const char *path, int told) {
    enum { FIRST = 3 };
    char byte;
    if (setsid() < 0 || fork() != 0) _exit(0);
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd < FIRST; fd++)
        if (dup2(null, fd) != fd) _exit(1);
    if (dup2(told, FIRST) != FIRST) _exit(1);
    closefrom(FIRST + 1);
    if (read(FIRST, &byte, 1) != 1) _exit(0);
    close(FIRST);
    char *const argv[] = {"donjon", "compile", "--cache", "--background", "--", (char *)(uintptr_t)path, NULL};
    execv("/proc/self/exe", argv);
    _exit(1);
}

int code_cache_prepare(const char *path) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return -1;
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[1]);
        compile_when_told(path, ends[0]);
    }
    close(ends[0]);
    if (pid > 0) {
        (void)waitpid(pid, NULL, 0);
        return ends[1];
    }
    close(ends[1]);
    return -1;
}

void code_cache_fill(int prepared, bool go) {
    if (prepared < 0) return;
    if (go) (void)!write(prepared, "", 1);
    close(prepared);
}
