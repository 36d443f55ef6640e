/* Host directories and the files in them. The kernel resolves every path beneath the directory that the handle stands
 * for: neither "..", nor a symbolic link, nor an absolute path, nor a rename that races with the resolution leads out
 * of it. */
#define _GNU_SOURCE
#include "serve.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* ---- resolution ---- */

enum { RESOLVE_TRIES = 64 }; /* a rename elsewhere in the tree during resolution of ".." makes the kernel say EAGAIN */

/* openat2 beneath `dir`. A descriptor, or -1 with *error set. */
static int open_beneath(int dir, const char *path, uint64_t flags, uint64_t mode, uint32_t *error) {
    struct open_how how = {
        .flags = flags | O_CLOEXEC, .mode = mode, .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    long fd = -1;
    for (int i = 0; i < RESOLVE_TRIES; i++) {
        fd = syscall(SYS_openat2, dir, path, &how, sizeof how);
        if (fd >= 0 || errno != EAGAIN) break;
    }
    if (fd >= 0) return (int)fd;
    *error = errno == EXDEV ? GATE_ENOTCAPABLE : gate_error_from_errno(errno);
    return -1;
}

/* A path of a request: copied out of the block once, terminated, checked. */
struct path {
    char bytes[GATE_MAX_PATH + 1];
    size_t len;
};

static uint32_t path_copy(struct path *p, const uint8_t *data, size_t len) {
    memcpy(p->bytes, data, len);
    p->bytes[len] = 0;
    p->len = len;
    if (memchr(p->bytes, 0, len)) return GATE_EINVAL;
    if (p->bytes[0] == '/') return GATE_ENOTCAPABLE;
    return GATE_OK;
}

/* The last component's directory, opened beneath, and that component: what the *at calls that never follow it need. */
struct place {
    int dir;
    const char *last; /* points into the path; trailing slashes remain: they mean what Linux makes of them */
};

/* For a last component "." or "..": the whole path must resolve beneath; then the call itself finds the right error. */
static uint32_t check_dots(int dir, const struct path *p) {
    uint32_t error = GATE_OK;
    int fd = open_beneath(dir, p->bytes, O_PATH, 0, &error);
    if (fd >= 0) close(fd);
    return error;
}

static bool is_dots(const char *last) {
    size_t n = strcspn(last, "/");
    return (n == 1 && last[0] == '.') || (n == 2 && last[0] == '.' && last[1] == '.');
}

static uint32_t place_find(struct place *out, int dir, struct path *p) {
    size_t end = p->len;
    while (end > 0 && p->bytes[end - 1] == '/')
        end--;
    size_t start = end;
    while (start > 0 && p->bytes[start - 1] != '/')
        start--;
    out->last = p->bytes + start;
    if (is_dots(out->last)) {
        uint32_t error = check_dots(dir, p);
        if (error != GATE_OK) return error;
    }
    char parent[GATE_MAX_PATH + 1] = ".";
    if (start > 0) {
        memcpy(parent, p->bytes, start);
        parent[start] = 0;
    }
    uint32_t error = GATE_OK;
    out->dir = open_beneath(dir, parent, O_PATH | O_DIRECTORY, 0, &error);
    return error;
}

static uint32_t result(int rc) {
    return rc == 0 ? (uint32_t)GATE_OK : gate_error_from_errno(errno);
}

static uint32_t result_close(int rc, int fd) {
    uint32_t error = result(rc);
    close(fd);
    return error;
}

/* ---- open files ---- */

static struct handle *regular(struct server *s, const struct gate_request *q) {
    return server_handle(s, q->handle, HANDLE_FILE);
}

static uint32_t file_pread(struct server *s, const struct gate_request *q, struct gate_reply *r, uint8_t *data) {
    struct handle *h = regular(s, q);
    if (!h) return GATE_EBADF;
    ssize_t n = pread(h->fd, data, q->room, (off_t)q->args[0]);
    if (n < 0) return gate_error_from_errno(errno);
    r->len = (uint32_t)n;
    return GATE_OK;
}

static uint32_t file_pwrite(struct server *s, const struct gate_request *q, struct gate_reply *r, const uint8_t *data) {
    struct handle *h = regular(s, q);
    if (!h) return GATE_EBADF;
    struct iovec v = {.iov_base = (void *)(uintptr_t)data, .iov_len = q->len};
    off_t offset = (off_t)q->args[0];
    ssize_t n = q->args[1] ? pwritev2(h->fd, &v, 1, -1, RWF_APPEND) : pwrite(h->fd, data, q->len, offset);
    if (n < 0) return gate_error_from_errno(errno);
    r->values[0] = (uint64_t)n;
    r->values[1] = (uint64_t)(q->args[1] ? lseek(h->fd, 0, SEEK_CUR) : offset + n); /* RWF_APPEND moved the position */
    return GATE_OK;
}

static struct timespec time_of(uint64_t ns, bool set, bool now) {
    if (now) return (struct timespec){.tv_nsec = UTIME_NOW};
    if (!set) return (struct timespec){.tv_nsec = UTIME_OMIT};
    return (struct timespec){.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
}

static void times_of(struct timespec t[2], const uint64_t *args) {
    uint64_t flags = args[2];
    t[0] = time_of(args[0], flags & GATE_ATIM, flags & GATE_ATIM_NOW);
    t[1] = time_of(args[1], flags & GATE_MTIM, flags & GATE_MTIM_NOW);
}

/* Operations on an open file or directory that change it. */
static uint32_t file_change(struct server *s, const struct gate_request *q) {
    struct handle *h = &s->handles[q->handle];
    if (h->kind != HANDLE_FILE && h->kind != HANDLE_DIR) return GATE_EBADF;
    if (!h->changes) return GATE_EROFS;
    struct timespec t[2];
    switch (q->op) {
    case GATE_TRUNCATE: return result(ftruncate(h->fd, (off_t)q->args[0]));
    case GATE_ALLOCATE: return gate_error_from_errno(posix_fallocate(h->fd, (off_t)q->args[0], (off_t)q->args[1]));
    default: times_of(t, q->args); return result(futimens(h->fd, t));
    }
}

static uint32_t file_sync(struct server *s, const struct gate_request *q) {
    struct handle *h = &s->handles[q->handle];
    if (h->kind != HANDLE_FILE && h->kind != HANDLE_DIR) return GATE_EBADF;
    return result(q->args[0] ? fdatasync(h->fd) : fsync(h->fd));
}

static uint32_t file_advise(struct server *s, const struct gate_request *q) {
    static const int advice[] = {POSIX_FADV_NORMAL,   POSIX_FADV_SEQUENTIAL, POSIX_FADV_RANDOM,
                                 POSIX_FADV_WILLNEED, POSIX_FADV_DONTNEED,   POSIX_FADV_NOREUSE};
    struct handle *h = regular(s, q);
    if (!h) return GATE_EBADF;
    return gate_error_from_errno(posix_fadvise(h->fd, (off_t)q->args[0], (off_t)q->args[1], advice[q->args[2]]));
}

/* ---- directories ---- */

/* linux_dirent64, as getdents64(2) gives it. */
struct dents {
    uint64_t ino;
    int64_t next;
    uint16_t size;
    uint8_t type;
    char name[];
};

static uint32_t entry_type(uint8_t d_type) {
    switch (d_type) { /* DT_* */
    case 2: return GATE_TYPE_CHAR;
    case 4: return GATE_TYPE_DIRECTORY;
    case 6: return GATE_TYPE_BLOCK;
    case 8: return GATE_TYPE_REGULAR;
    case 10: return GATE_TYPE_SYMLINK;
    case 12: return GATE_TYPE_SOCKET_STREAM;
    default: return GATE_TYPE_UNKNOWN;
    }
}

/* getdents64 records are at least as long as ours would be minus 8 bytes each, so a buffer of two thirds always fits.
 */
static uint32_t dir_read(struct server *s, const struct gate_request *q, struct gate_reply *r, uint8_t *data) {
    struct handle *h = server_handle(s, q->handle, HANDLE_DIR);
    if (!h) return GATE_ENOTDIR;
    _Alignas(8) static _Thread_local uint8_t buffer[GATE_ANSWER_SIZE];
    size_t room = q->room < sizeof buffer ? q->room : sizeof buffer;
    if (lseek(h->fd, (off_t)q->args[0], SEEK_SET) < 0) return gate_error_from_errno(errno);
    long n = syscall(SYS_getdents64, h->fd, buffer, room * 2 / 3);
    if (n < 0) return gate_error_from_errno(errno);
    uint32_t out = 0;
    for (long at = 0; at < n;) {
        const struct dents *d = (const struct dents *)(buffer + at);
        size_t len = strlen(d->name), size = sizeof(struct gate_dirent) + (len + 7) / 8 * 8;
        if (len > GATE_MAX_NAME || out + size > q->room) break;
        struct gate_dirent e = {
            .next = (uint64_t)d->next, .ino = d->ino, .type = entry_type(d->type), .name_len = (uint32_t)len};
        memset(data + out, 0, size);
        memcpy(data + out, &e, sizeof e);
        memcpy(data + out + sizeof e, d->name, len);
        out += (uint32_t)size;
        at += d->size;
    }
    r->len = out;
    return GATE_OK;
}

/* Linux's flags for an open, within what the mount allows; false: the mount does not allow it. */
static bool open_flags(const struct gate_request *q, bool changes, uint64_t *flags) {
    uint64_t o = q->args[1], f = q->args[2];
    if (!changes && (o & (GATE_OPEN_WRITE | GATE_OPEN_TRUNC))) return false;
    *flags = O_NOCTTY | O_NONBLOCK; /* a FIFO or a device must not make the loader wait */
    *flags |= (o & GATE_OPEN_WRITE) ? ((o & GATE_OPEN_READ) ? O_RDWR : O_WRONLY) : O_RDONLY;
    if (o & GATE_OPEN_CREAT) *flags |= O_CREAT;
    if (o & GATE_OPEN_DIRECTORY) *flags |= O_DIRECTORY;
    if (o & GATE_OPEN_EXCL) *flags |= O_EXCL;
    if (o & GATE_OPEN_TRUNC) *flags |= O_TRUNC;
    if (!(o & GATE_OPEN_FOLLOW)) *flags |= O_NOFOLLOW;
    if (f & (GATE_FSYNC | GATE_RSYNC))
        *flags |= O_SYNC;
    else if (f & GATE_DSYNC)
        *flags |= O_DSYNC;
    return true;
}

static uint32_t dir_open(struct server *s, const struct gate_request *q, struct gate_reply *r, uint8_t *data,
                         const struct handle *dir, const struct path *p) {
    struct handle *new = server_free_handle(s, q->args[0]);
    if (!new) return GATE_EINVAL;
    uint64_t flags;
    if (!open_flags(q, dir->changes, &flags)) return GATE_EROFS;
    bool creates = flags & O_CREAT;
    if (!dir->changes) flags &= ~(uint64_t)O_CREAT;
    uint32_t error = GATE_OK;
    int fd = open_beneath(dir->fd, p->bytes, flags, flags & O_CREAT ? 0666 : 0, &error);
    if (fd < 0) return error == GATE_ENOENT && creates && !dir->changes ? (uint32_t)GATE_EROFS : error;
    struct gate_stat st;
    error = fill_stat(fd, &st);
    if (error != GATE_OK) {
        close(fd);
        return error;
    }
    enum handle_kind kind = st.type == GATE_TYPE_DIRECTORY ? HANDLE_DIR
                            : st.type == GATE_TYPE_REGULAR ? HANDLE_FILE
                                                           : HANDLE_STREAM;
    *new = (struct handle){.fd = fd, .kind = (uint8_t)kind, .owned = true, .changes = dir->changes};
    memcpy(data, &st, sizeof st);
    r->len = sizeof st;
    return GATE_OK;
}

static uint32_t dir_stat(const struct gate_request *q, struct gate_reply *r, uint8_t *data, const struct handle *dir,
                         const struct path *p) {
    uint32_t error = GATE_OK;
    int fd = open_beneath(dir->fd, p->bytes, O_PATH | (q->args[0] ? 0 : O_NOFOLLOW), 0, &error);
    if (fd < 0) return error;
    struct gate_stat st;
    error = fill_stat(fd, &st);
    close(fd);
    if (error != GATE_OK) return error;
    memcpy(data, &st, sizeof st);
    r->len = sizeof st;
    return GATE_OK;
}

static uint32_t dir_set_times(const struct gate_request *q, const struct handle *dir, const struct path *p) {
    uint32_t error = GATE_OK;
    int fd = open_beneath(dir->fd, p->bytes, O_PATH | (q->args[0] ? 0 : O_NOFOLLOW), 0, &error);
    if (fd < 0) return error;
    struct timespec t[2];
    times_of(t, q->args + 1);
    return result_close(utimensat(fd, "", t, AT_EMPTY_PATH), fd);
}

static uint32_t dir_readlink(const struct gate_request *q, struct gate_reply *r, uint8_t *data,
                             const struct handle *dir, const struct path *p) {
    uint32_t error = GATE_OK;
    int fd = open_beneath(dir->fd, p->bytes, O_PATH | O_NOFOLLOW, 0, &error);
    if (fd < 0) return error;
    ssize_t n = readlinkat(fd, "", (char *)data, q->room);
    error = n >= 0 ? (uint32_t)GATE_OK : errno == ENOENT ? (uint32_t)GATE_EINVAL : gate_error_from_errno(errno);
    close(fd); /* ENOENT is what Linux says of an empty path to something that is not a link */
    r->len = n < 0 ? 0 : (uint32_t)n;
    return error;
}

static uint32_t dir_link(const struct gate_request *q, const struct handle *dir, struct path *from,
                         const struct place *to) {
    uint32_t error = GATE_OK;
    int fd = open_beneath(dir->fd, from->bytes, O_PATH | (q->args[2] ? 0 : O_NOFOLLOW), 0, &error);
    if (fd < 0) return error;
    char magic[32]; /* an open file by its number: the one found just now, whatever its name is by now */
    snprintf(magic, sizeof magic, "/proc/self/fd/%d", fd);
    return result_close(linkat(AT_FDCWD, magic, to->dir, to->last, AT_SYMLINK_FOLLOW), fd);
}

static uint32_t dir_rename(const struct handle *dir, struct path *from, const struct place *to) {
    struct place source;
    uint32_t error = place_find(&source, dir->fd, from);
    if (error != GATE_OK) return error;
    return result_close(renameat(source.dir, source.last, to->dir, to->last), source.dir);
}

/* One path in a directory that may be changed: MKDIR, UNLINK, RMDIR. */
static uint32_t dir_change(const struct gate_request *q, const struct handle *dir, struct path *p) {
    struct place at;
    uint32_t error = place_find(&at, dir->fd, p);
    if (error != GATE_OK) return error;
    switch (q->op) {
    case GATE_MKDIR: return result_close(mkdirat(at.dir, at.last, 0777), at.dir);
    case GATE_UNLINK: return result_close(unlinkat(at.dir, at.last, 0), at.dir);
    default: return result_close(unlinkat(at.dir, at.last, AT_REMOVEDIR), at.dir);
    }
}

/* Two paths: RENAME, LINK (the second in the directory args[0]), SYMLINK (the second in the request's own). */
static uint32_t dir_change_two(struct server *s, const struct gate_request *q, const struct handle *dir,
                               const uint8_t *data) {
    bool link = q->op == GATE_SYMLINK;
    const struct handle *dir2 = link ? dir : server_handle(s, q->args[0], HANDLE_DIR);
    if (!dir2) return GATE_EBADF;
    if (!dir2->changes) return GATE_EROFS;
    size_t n = (size_t)q->args[link ? 0 : 1];
    struct path first, second;
    uint32_t error = path_copy(&first, data, n);
    if (error == GATE_OK) error = path_copy(&second, data + n, q->len - n);
    struct place to;
    if (error == GATE_OK) error = place_find(&to, dir2->fd, &second);
    if (error != GATE_OK) return error;
    switch (q->op) {
    case GATE_RENAME: error = dir_rename(dir, &first, &to); break;
    case GATE_LINK: error = dir_link(q, dir, &first, &to); break;
    default: error = result(symlinkat(first.bytes, to.dir, to.last)); break;
    }
    close(to.dir);
    return error;
}

static uint32_t path_operation(struct server *s, const struct gate_request *q, struct gate_reply *r, uint8_t *data) {
    const struct handle *dir = server_handle(s, q->handle, HANDLE_DIR);
    if (!dir) return s->handles[q->handle].kind == HANDLE_FREE ? GATE_EBADF : GATE_ENOTDIR;
    bool reads = q->op == GATE_OPEN || q->op == GATE_PATH_STAT || q->op == GATE_READLINK;
    if (!reads && !dir->changes) return GATE_EROFS;
    if (q->op == GATE_RENAME || q->op == GATE_LINK || q->op == GATE_SYMLINK) return dir_change_two(s, q, dir, data);
    struct path p;
    uint32_t error = path_copy(&p, data, q->len);
    if (error != GATE_OK) return error;
    switch (q->op) {
    case GATE_OPEN: return dir_open(s, q, r, data, dir, &p);
    case GATE_PATH_STAT: return dir_stat(q, r, data, dir, &p);
    case GATE_PATH_TIMES: return dir_set_times(q, dir, &p);
    case GATE_READLINK: return dir_readlink(q, r, data, dir, &p);
    default: return dir_change(q, dir, &p);
    }
}

uint32_t files_operation(struct server *s, const struct gate_request *q, struct gate_reply *r, uint8_t *data) {
    switch (q->op) {
    case GATE_PREAD: return file_pread(s, q, r, data);
    case GATE_PWRITE: return file_pwrite(s, q, r, data);
    case GATE_TRUNCATE:
    case GATE_ALLOCATE:
    case GATE_SET_TIMES: return file_change(s, q);
    case GATE_ADVISE: return file_advise(s, q);
    case GATE_SYNC: return file_sync(s, q);
    case GATE_READDIR: return dir_read(s, q, r, data);
    default: return path_operation(s, q, r, data);
    }
}
