#define _GNU_SOURCE
#include "code_key.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

/* mkdir -p, 0700. */
static void make_directories(char *path) {
    for (char *p = strchr(path + 1, '/'); p; p = strchr(p + 1, '/')) {
        *p = 0;
        mkdir(path, 0700);
        *p = '/';
    }
    mkdir(path, 0700);
}

bool user_directory(const char *variable, const char *home_sub, const char *sub, bool make, char *path, size_t size) {
    const char *base = getenv(variable), *home = getenv("HOME");
    int n;
    if (geteuid() != getuid()) return false; /* the environment is somebody else's */
    if (base && *base == '/')
        n = snprintf(path, size, "%s/%s", base, sub);
    else if (home && *home == '/')
        n = snprintf(path, size, "%s/%s/%s", home, home_sub, sub);
    else
        return false;
    if (n < 0 || (size_t)n >= size) return false;
    struct stat st;
    if (make) make_directories(path);
    return !stat(path, &st) && S_ISDIR(st.st_mode) && st.st_uid == geteuid() && !(st.st_mode & (S_IWGRP | S_IWOTH));
}

/* 1: read; 0: there is none; -1: `error` says what is wrong with it. */
static int read_key(const char *path, uint8_t key[MAC_KEY], char *error, size_t size) {
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) return 0;
    struct stat st;
    uint8_t more;
    const char *wrong = NULL;
    if (fd < 0 || fstat(fd, &st))
        wrong = strerror(errno);
    else if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || st.st_mode & (S_IRWXG | S_IRWXO))
        wrong = "expected a file of this user's that nobody else can read (mode 0600)";
    else if (read(fd, key, MAC_KEY) != MAC_KEY || read(fd, &more, 1) != 0)
        wrong = "expected 32 bytes; remove it to get a new one";
    if (fd >= 0) close(fd);
    if (!wrong) return 1;
    snprintf(error, size, "the key %s: %s", path, wrong);
    return -1;
}

/* A new key, complete before it has its name. Whoever comes second uses the first one's. */
static bool make_key(const char *path, char *error, size_t size) {
    char temporary[4200];
    uint8_t key[MAC_KEY];
    snprintf(temporary, sizeof temporary, "%s.%ld", path, (long)getpid());
    unlink(temporary);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && getrandom(key, sizeof key, 0) == sizeof key && write(fd, key, sizeof key) == sizeof key &&
              fsync(fd) == 0 && (link(temporary, path) == 0 || errno == EEXIST);
    if (!ok) snprintf(error, size, "cannot make the key %s: %s", path, strerror(errno));
    if (fd >= 0) close(fd);
    unlink(temporary);
    explicit_bzero(key, sizeof key);
    return ok;
}

bool code_key(bool make, uint8_t key[MAC_KEY], char *error, size_t size) {
    char path[4096], dir[4000];
    if (!mac_ready()) {
        snprintf(error, size, "OpenSSL's libcrypto.so.3 is missing, which authenticates compiled code");
        return false;
    }
    if (!user_directory("XDG_DATA_HOME", ".local/share", "donjon", make, dir, sizeof dir)) {
        snprintf(error, size,
                 "no key for compiled code: expected a directory of this user's for it, in $XDG_DATA_HOME or "
                 "~/.local/share");
        return false;
    }
    snprintf(path, sizeof path, "%s/key", dir);
    int found = read_key(path, key, error, size);
    if (found == 0 && make) found = make_key(path, error, size) ? read_key(path, key, error, size) : -1;
    if (found == 0) snprintf(error, size, "this user has no key for compiled code (%s)", path);
    return found == 1;
}
