/* path_*: functions on names beneath a directory. */
#include "context.h"

enum { LOOKUP_SYMLINK_FOLLOW = 1, LOOKUP_ALL = 1 };

/* The directory of parameter `i` with `rights`. */
static wasi_errno get_dir(struct call *c, int i, uint64_t rights, struct wasi_file **dir) {
    struct descriptor *d;
    wasi_errno e = fd_get(c->w, arg32(c, i), 0, &d);
    if (e) return e;
    if (d->file->filetype != WASI_FILETYPE_DIRECTORY) return WASI_ENOTDIR;
    *dir = d->file;
    return (d->rights & rights) == rights ? WASI_SUCCESS : WASI_ENOTCAPABLE;
}

/* The commonest opening of a function: directory in parameter `fd`, path in `path` and `path + 1`. */
static wasi_errno get_path(struct call *c, int fd, uint64_t rights, int path, struct wasi_file **dir,
                           struct wasi_path *out) {
    wasi_errno e = get_dir(c, fd, rights, dir);
    return e ? e : guest_path(c, path, 0, out);
}

/* An operation that a provider may lack. */
#define NEED(dir, op)                                                                                                  \
    if (!(dir)->ops->op) return WASI_ENOTDIR

wasi_errno call_path_create_directory(struct call *c) {
    struct wasi_file *dir;
    struct wasi_path path;
    wasi_errno e = get_path(c, 0, WASI_RIGHT_PATH_CREATE_DIRECTORY, 1, &dir, &path);
    if (e) return e;
    NEED(dir, create_directory);
    return dir->ops->create_directory(dir, path);
}

wasi_errno call_path_filestat_get(struct call *c) {
    struct wasi_file *dir;
    struct wasi_path path;
    wasi_errno e = get_path(c, 0, WASI_RIGHT_PATH_FILESTAT_GET, 2, &dir, &path);
    if (e) return e;
    if (arg32(c, 1) & ~(uint32_t)LOOKUP_ALL) return WASI_EINVAL;
    uint8_t *p = guest(c, arg32(c, 4), FILESTAT_SIZE(c->abi));
    if (!p) return WASI_EFAULT;
    NEED(dir, path_stat);
    struct wasi_filestat st = {0};
    e = dir->ops->path_stat(dir, path, arg32(c, 1) & LOOKUP_SYMLINK_FOLLOW, &st);
    if (!e) store_filestat(c, p, &st);
    return e;
}

wasi_errno call_path_filestat_set_times(struct call *c) {
    struct wasi_file *dir;
    struct wasi_path path;
    struct wasi_times t;
    wasi_errno e = get_path(c, 0, WASI_RIGHT_PATH_FILESTAT_SET_TIMES, 2, &dir, &path);
    if (e) return e;
    if (arg32(c, 1) & ~(uint32_t)LOOKUP_ALL) return WASI_EINVAL;
    e = guest_times(c, 4, &t);
    if (e) return e;
    NEED(dir, path_set_times);
    return dir->ops->path_set_times(dir, path, arg32(c, 1) & LOOKUP_SYMLINK_FOLLOW, &t);
}

wasi_errno call_path_link(struct call *c) {
    struct wasi_file *dir, *new_dir;
    struct wasi_path path, new_path;
    wasi_errno e = get_path(c, 0, WASI_RIGHT_PATH_LINK_SOURCE, 2, &dir, &path);
    if (!e) e = get_dir(c, 4, WASI_RIGHT_PATH_LINK_TARGET, &new_dir);
    if (!e) e = guest_path(c, 5, 1, &new_path);
    if (e) return e;
    if (arg32(c, 1) & ~(uint32_t)LOOKUP_ALL) return WASI_EINVAL;
    NEED(dir, link);
    if (dir->ops != new_dir->ops) return WASI_EXDEV;
    return dir->ops->link(dir, path, arg32(c, 1) & LOOKUP_SYMLINK_FOLLOW, new_dir, new_path);
}

/* path_open's parameters, in order. */
enum {
    OPEN_DIR,
    OPEN_LOOKUP,
    OPEN_PATH,
    OPEN_PATH_LEN,
    OPEN_OFLAGS,
    OPEN_RIGHTS,
    OPEN_INHERITING,
    OPEN_FDFLAGS,
    OPEN_RESULT
};

/* What the directory must be allowed for such an opening. */
static uint64_t open_needs(uint32_t oflags) {
    uint64_t needs = WASI_RIGHT_PATH_OPEN;
    if (oflags & WASI_OFLAG_CREAT) needs |= WASI_RIGHT_PATH_CREATE_FILE;
    if (oflags & WASI_OFLAG_TRUNC) needs |= WASI_RIGHT_PATH_FILESTAT_SET_SIZE;
    return needs;
}

/* Only FD_WRITE opens for writing: Go asks for FD_FILESTAT_SET_SIZE on everything that it only reads. */
static uint8_t access_of(uint64_t rights) {
    return (uint8_t)((rights & WASI_RIGHT_FD_READ ? WASI_ACCESS_READ : 0) |
                     (rights & WASI_RIGHT_FD_WRITE ? WASI_ACCESS_WRITE : 0));
}

/* Rights that a directory does not pass on cannot be had. Those that only change things without being FD_WRITE are left
 * out silently instead: toolchains (Rust, Go) ask for all of them whenever they open a file for reading, and would
 * otherwise not be able to read from a read-only directory. */
static bool may_ask_for(uint64_t rights, uint64_t inheriting) {
    uint64_t strict = (WASI_RIGHTS_FILE | WASI_RIGHTS_DIR) & ~(uint64_t)(WASI_RIGHTS_CHANGING & ~WASI_RIGHT_FD_WRITE);
    return (rights & strict & ~inheriting) == 0;
}

wasi_errno call_path_open(struct call *c) {
    uint32_t oflags = arg32(c, OPEN_OFLAGS), fdflags = arg32(c, OPEN_FDFLAGS), lookup = arg32(c, OPEN_LOOKUP);
    uint64_t rights = arg64(c, OPEN_RIGHTS), inheriting = arg64(c, OPEN_INHERITING);
    struct wasi_file *dir, *file;
    struct wasi_path path;
    wasi_errno e = get_path(c, OPEN_DIR, open_needs(oflags), OPEN_PATH, &dir, &path);
    if (e) return e;
    if (oflags & ~(uint32_t)WASI_OFLAGS_ALL || fdflags & ~(uint32_t)WASI_FDFLAGS_ALL || lookup & ~(uint32_t)LOOKUP_ALL)
        return WASI_EINVAL;
    uint8_t *result = guest(c, arg32(c, OPEN_RESULT), 4);
    if (!result) return WASI_EFAULT;
    uint64_t passes_on = c->w->fds[arg32(c, OPEN_DIR)].inheriting;
    if (!may_ask_for(rights, passes_on)) return WASI_ENOTCAPABLE;
    rights &= passes_on;
    NEED(dir, open);
    uint32_t fd;
    e = fd_reserve(c->w, &fd);
    if (e) return e;

    struct wasi_open how = {.follow = lookup & LOOKUP_SYMLINK_FOLLOW,
                            .oflags = (uint16_t)oflags,
                            .fdflags = (uint16_t)fdflags,
                            .access = access_of(rights)};
    e = dir->ops->open(dir, path, &how, &file);
    if (e) return e;
    fd_install(c->w, fd, file, rights, inheriting & passes_on, (uint16_t)fdflags);
    store32(result, fd);
    return WASI_SUCCESS;
}

wasi_errno call_path_readlink(struct call *c) {
    struct wasi_file *dir;
    struct wasi_path path;
    wasi_errno e = get_path(c, 0, WASI_RIGHT_PATH_READLINK, 1, &dir, &path);
    if (e) return e;
    char *buf = (char *)guest(c, arg32(c, 3), arg32(c, 4));
    uint8_t *result = guest(c, arg32(c, 5), 4);
    if (!buf || !result) return WASI_EFAULT;
    NEED(dir, readlink);
    size_t len = 0;
    e = dir->ops->readlink(dir, path, buf, arg32(c, 4), &len);
    if (!e) store32(result, (uint32_t)len);
    return e;
}

wasi_errno call_path_remove_directory(struct call *c) {
    struct wasi_file *dir;
    struct wasi_path path;
    wasi_errno e = get_path(c, 0, WASI_RIGHT_PATH_REMOVE_DIRECTORY, 1, &dir, &path);
    if (e) return e;
    NEED(dir, remove_directory);
    return dir->ops->remove_directory(dir, path);
}

wasi_errno call_path_rename(struct call *c) {
    struct wasi_file *dir, *new_dir;
    struct wasi_path path, new_path;
    wasi_errno e = get_path(c, 0, WASI_RIGHT_PATH_RENAME_SOURCE, 1, &dir, &path);
    if (!e) e = get_dir(c, 3, WASI_RIGHT_PATH_RENAME_TARGET, &new_dir);
    if (!e) e = guest_path(c, 4, 1, &new_path);
    if (e) return e;
    NEED(dir, rename);
    if (dir->ops != new_dir->ops) return WASI_EXDEV;
    return dir->ops->rename(dir, path, new_dir, new_path);
}

/* A link's text is no path yet, but it must not name what no resolution here could ever reach. */
static wasi_errno guest_target(struct call *c, int i, struct wasi_path *out) {
    uint32_t len = arg32(c, i + 1);
    const uint8_t *p = guest(c, arg32(c, i), len);
    if (!p) return WASI_EFAULT;
    if (len == 0) return WASI_ENOENT; /* symlink(2) */
    if (len > WASI_PATH_MAX) return WASI_ENAMETOOLONG;
    memcpy(c->w->path[0], p, len);
    *out = (struct wasi_path){c->w->path[0], len};
    if (memchr(out->bytes, 0, len)) return WASI_EINVAL;
    return out->bytes[0] == '/' ? WASI_ENOTCAPABLE : WASI_SUCCESS;
}

wasi_errno call_path_symlink(struct call *c) {
    struct wasi_file *dir;
    struct wasi_path target, path;
    wasi_errno e = get_dir(c, 2, WASI_RIGHT_PATH_SYMLINK, &dir);
    if (!e) e = guest_target(c, 0, &target);
    if (!e) e = guest_path(c, 3, 1, &path);
    if (e) return e;
    NEED(dir, symlink);
    return dir->ops->symlink(dir, target, path);
}

wasi_errno call_path_unlink_file(struct call *c) {
    struct wasi_file *dir;
    struct wasi_path path;
    wasi_errno e = get_path(c, 0, WASI_RIGHT_PATH_UNLINK_FILE, 1, &dir, &path);
    if (e) return e;
    NEED(dir, unlink);
    return dir->ops->unlink(dir, path);
}
