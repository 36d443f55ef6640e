/* Host directories and their files. The host resolves paths (it cannot be kept from lying about its own files anyway);
 * what it must not be able to do is reach into the keep, so every answer is checked. */
#include "gatefile.h"
#include <string.h>

/* ---- files ---- */

static wasi_errno file_read_at(struct wasi_file *f, const struct wasi_iov *iov, uint32_t n, uint64_t offset,
                               size_t *done) {
    struct gate_file *file = gate_file_of(f);
    size_t want = gate_iov_size(iov, n);
    *done = 0;
    while (*done < want) {
        size_t left = want - *done;
        if (offset > INT64_MAX - *done) return *done ? WASI_SUCCESS : WASI_EINVAL;
        struct gate_request q = {.op = GATE_PREAD,
                                 .handle = file->handle,
                                 .room = left < GATE_DATA_SIZE ? (uint32_t)left : GATE_DATA_SIZE,
                                 .args = {offset + *done}};
        struct gate_reply r;
        uint32_t error = gate_call(file->files->gate, &q, &r);
        if (error != GATE_OK) return *done && error <= GATE_ERROR_MAX ? (uint32_t)WASI_SUCCESS : error;
        gate_scatter(file->files->gate, iov, n, *done, r.len);
        *done += r.len;
        if (r.len < q.room) break;
    }
    return WASI_SUCCESS;
}

static wasi_errno file_write_at(struct wasi_file *f, const struct wasi_iov *iov, uint32_t n, uint64_t *offset,
                                uint16_t fdflags, size_t *done) {
    struct gate_file *file = gate_file_of(f);
    size_t want = gate_iov_size(iov, n);
    *done = 0;
    while (*done < want) {
        bool append = fdflags & WASI_FDFLAG_APPEND;
        if (*offset > INT64_MAX) return *done ? WASI_SUCCESS : WASI_EINVAL;
        struct gate_request q = {.op = GATE_PWRITE, .handle = file->handle, .args = {append ? 0 : *offset, append}};
        q.len = gate_gather(file->files->gate, iov, n, *done);
        struct gate_reply r;
        uint32_t error = gate_call(file->files->gate, &q, &r);
        if (error != GATE_OK) return *done && error <= GATE_ERROR_MAX ? (uint32_t)WASI_SUCCESS : error;
        *done += r.values[0];
        *offset = append ? r.values[1] : *offset + r.values[0];
        if (r.values[0] < q.len) break;
    }
    return WASI_SUCCESS;
}

static wasi_errno file_sync(struct wasi_file *f, bool data_only) {
    return gate_file_simple(f, (struct gate_request){.op = GATE_SYNC, .args = {data_only}});
}

static wasi_errno file_range(struct wasi_file *f, enum gate_op op, uint64_t a, uint64_t b, uint64_t c) {
    if (a > INT64_MAX || b > INT64_MAX) return WASI_EINVAL;
    return gate_file_simple(f, (struct gate_request){.op = op, .args = {a, b, c}});
}

static wasi_errno file_advise(struct wasi_file *f, uint64_t offset, uint64_t len, enum wasi_advice advice) {
    return file_range(f, GATE_ADVISE, offset, len, advice);
}

static wasi_errno file_allocate(struct wasi_file *f, uint64_t offset, uint64_t len) {
    return file_range(f, GATE_ALLOCATE, offset, len, 0);
}

static wasi_errno file_set_size(struct wasi_file *f, uint64_t size) {
    return file_range(f, GATE_TRUNCATE, size, 0, 0);
}

static wasi_errno file_set_times(struct wasi_file *f, const struct wasi_times *t) {
    return file_range(f, GATE_SET_TIMES, t->atim, t->mtim, t->flags);
}

static const struct wasi_file_ops file_ops = {
    .name = "host file",
    .close = gate_file_close,
    .read_at = file_read_at,
    .write_at = file_write_at,
    .sync = file_sync,
    .advise = file_advise,
    .allocate = file_allocate,
    .stat = gate_file_stat,
    .set_size = file_set_size,
    .set_times = file_set_times,
};

/* ---- directories ---- */

/* One request about a path: the path's bytes become the data. */
static struct gate_request path_request(struct wasi_file *dir, enum gate_op op, struct wasi_path path) {
    struct gate_file *d = gate_file_of(dir);
    memcpy(d->files->gate->block->data, path.bytes, path.len); /* wasi_path_check: GATE_MAX_PATH at most */
    return (struct gate_request){.op = op, .handle = d->handle, .len = path.len};
}
_Static_assert((uint32_t)WASI_PATH_MAX == (uint32_t)GATE_MAX_PATH && (uint32_t)WASI_NAME_MAX == (uint32_t)GATE_MAX_NAME,
               "what src/wasi lets through, the gate takes");

static struct gate_request two_paths(struct wasi_file *dir, enum gate_op op, struct wasi_path a, struct wasi_path b) {
    struct gate_request q = path_request(dir, op, a);
    memcpy(gate_file_of(dir)->files->gate->block->data + a.len, b.bytes, b.len);
    q.len += b.len;
    return q;
}

static wasi_errno path_call(struct wasi_file *dir, const struct gate_request *q) {
    struct gate_reply r;
    return gate_call(gate_file_of(dir)->files->gate, q, &r);
}

static const struct wasi_file_ops dir_ops;

/* `asked`: a directory was asked for; the host cannot hand out anything else then. */
static wasi_errno opened(struct gate_files *files, uint32_t handle, uint32_t type, bool asked, struct wasi_file **out) {
    const struct wasi_file_ops *ops = type == GATE_TYPE_DIRECTORY ? &dir_ops
                                      : type == GATE_TYPE_REGULAR ? &file_ops
                                                                  : &gate_stream_ops;
    *out = gate_file_new(files, handle, ops, (enum wasi_filetype)type);
    if (!*out) return WASI_ENOMEM;
    if (!asked || type == GATE_TYPE_DIRECTORY) return WASI_SUCCESS;
    wasi_file_unref(*out);
    *out = NULL;
    return WASI_EIO;
}

static wasi_errno dir_open(struct wasi_file *dir, struct wasi_path path, const struct wasi_open *how,
                           struct wasi_file **out) {
    struct gate_files *files = gate_file_of(dir)->files;
    uint32_t handle;
    if (!gate_handle_take(files, &handle)) return WASI_ENFILE;
    struct gate_request q = path_request(dir, GATE_OPEN, path);
    q.room = sizeof(struct gate_stat);
    q.args[0] = handle;
    q.args[1] = how->access | (uint64_t)how->oflags << 2 | (how->follow ? GATE_OPEN_FOLLOW : 0);
    q.args[2] = how->fdflags;
    struct gate_stat s;
    struct gate_reply r;
    uint32_t error = gate_call(files->gate, &q, &r);
    if (error != GATE_OK) {
        gate_handle_drop(files, handle);
        return error;
    }
    memcpy(&s, files->gate->block->data, sizeof s);
    __asm__ volatile("" : "+m"(s)); /* one copy: see gate_call */
    if (!gate_stat_check(&s)) s.type = GATE_TYPE_UNKNOWN;
    return opened(files, handle, s.type, how->oflags & WASI_OFLAG_DIRECTORY, out);
}
_Static_assert((int)WASI_ACCESS_READ == (int)GATE_OPEN_READ && (int)WASI_ACCESS_WRITE == (int)GATE_OPEN_WRITE,
               "access");
_Static_assert(WASI_OFLAG_CREAT << 2 == (int)GATE_OPEN_CREAT && WASI_OFLAG_TRUNC << 2 == (int)GATE_OPEN_TRUNC &&
                   WASI_OFLAG_EXCL << 2 == (int)GATE_OPEN_EXCL && WASI_OFLAG_DIRECTORY << 2 == (int)GATE_OPEN_DIRECTORY,
               "oflags");

static wasi_errno dir_path_stat(struct wasi_file *dir, struct wasi_path path, bool follow, struct wasi_filestat *out) {
    struct gate_request q = path_request(dir, GATE_PATH_STAT, path);
    q.room = sizeof(struct gate_stat);
    q.args[0] = follow;
    struct gate_stat s;
    wasi_errno error = gate_stat_call(gate_file_of(dir)->files->gate, &q, &s);
    if (error == WASI_SUCCESS) gate_stat_to_wasi(&s, out);
    return error;
}

static wasi_errno dir_path_set_times(struct wasi_file *dir, struct wasi_path path, bool follow,
                                     const struct wasi_times *t) {
    if (t->atim > INT64_MAX || t->mtim > INT64_MAX) return WASI_EINVAL;
    struct gate_request q = path_request(dir, GATE_PATH_TIMES, path);
    q.args[0] = follow;
    q.args[1] = t->atim;
    q.args[2] = t->mtim;
    q.args[3] = t->flags;
    return path_call(dir, &q);
}

static wasi_errno dir_create(struct wasi_file *dir, struct wasi_path path) {
    struct gate_request q = path_request(dir, GATE_MKDIR, path);
    return path_call(dir, &q);
}

static wasi_errno dir_remove(struct wasi_file *dir, struct wasi_path path) {
    struct gate_request q = path_request(dir, GATE_RMDIR, path);
    return path_call(dir, &q);
}

static wasi_errno dir_unlink(struct wasi_file *dir, struct wasi_path path) {
    struct gate_request q = path_request(dir, GATE_UNLINK, path);
    return path_call(dir, &q);
}

static wasi_errno dir_link(struct wasi_file *dir, struct wasi_path path, bool follow, struct wasi_file *new_dir,
                           struct wasi_path new_path) {
    struct gate_request q = two_paths(dir, GATE_LINK, path, new_path);
    q.args[0] = gate_file_of(new_dir)->handle;
    q.args[1] = path.len;
    q.args[2] = follow;
    return path_call(dir, &q);
}

static wasi_errno dir_rename(struct wasi_file *dir, struct wasi_path path, struct wasi_file *new_dir,
                             struct wasi_path new_path) {
    struct gate_request q = two_paths(dir, GATE_RENAME, path, new_path);
    q.args[0] = gate_file_of(new_dir)->handle;
    q.args[1] = path.len;
    return path_call(dir, &q);
}

static wasi_errno dir_symlink(struct wasi_file *dir, struct wasi_path target, struct wasi_path path) {
    if (target.len > GATE_MAX_PATH) return WASI_ENAMETOOLONG;
    if (target.len == 0) return WASI_ENOENT;
    struct gate_request q = two_paths(dir, GATE_SYMLINK, target, path);
    q.args[0] = target.len;
    return path_call(dir, &q);
}

static wasi_errno dir_readlink(struct wasi_file *dir, struct wasi_path path, char *buf, size_t size, size_t *len) {
    struct gate *g = gate_file_of(dir)->files->gate;
    struct gate_request q = path_request(dir, GATE_READLINK, path);
    q.room = GATE_MAX_PATH; /* not `size`, which may be 0: Linux has no such readlink */
    struct gate_reply r;
    uint32_t error = gate_call(g, &q, &r);
    if (error != GATE_OK) return error;
    *len = r.len < size ? r.len : size;
    memcpy(buf, g->block->data, *len);
    return WASI_SUCCESS;
}

/* Hands the entries of one reply to the sink. *cookie moves on; false: stop (the sink had enough, or *error is set). */
static bool give_entries(const uint8_t *p, size_t left, uint64_t *cookie, wasi_dirent_sink sink, void *ctx,
                         wasi_errno *error) {
    while (left > 0) {
        struct gate_dirent e;
        size_t size = gate_dirent_check(p, left, &e);
        if (size == 0) {
            *error = WASI_EIO;
            return false;
        }
        struct wasi_dirent entry = {.next = e.next,
                                    .ino = e.ino,
                                    .filetype = (enum wasi_filetype)e.type,
                                    .name = (const char *)p + sizeof e,
                                    .name_len = e.name_len};
        if (!sink(ctx, &entry)) return false;
        *cookie = e.next;
        p += size;
        left -= size;
    }
    return true;
}

static wasi_errno dir_readdir(struct wasi_file *dir, uint64_t cookie, wasi_dirent_sink sink, void *sink_ctx) {
    struct gate_file *d = gate_file_of(dir);
    struct gate_files *files = d->files;
    wasi_errno error = WASI_SUCCESS;
    for (;;) {
        struct gate_request q = {.op = GATE_READDIR, .handle = d->handle, .room = GATE_ANSWER_SIZE, .args = {cookie}};
        struct gate_reply r;
        error = gate_call(files->gate, &q, &r);
        if (error != WASI_SUCCESS || r.len == 0) return error;
        memcpy(files->entries, files->gate->block->data, r.len);
        if (!give_entries(files->entries, r.len, &cookie, sink, sink_ctx, &error)) return error;
    }
}

static const struct wasi_file_ops dir_ops = {
    .name = "host directory",
    .close = gate_file_close,
    .sync = file_sync,
    .stat = gate_file_stat,
    .set_times = file_set_times,
    .readdir = dir_readdir,
    .open = dir_open,
    .path_stat = dir_path_stat,
    .path_set_times = dir_path_set_times,
    .create_directory = dir_create,
    .remove_directory = dir_remove,
    .unlink = dir_unlink,
    .link = dir_link,
    .rename = dir_rename,
    .symlink = dir_symlink,
    .readlink = dir_readlink,
};

struct wasi_file *gate_directory(struct gate_files *files, uint32_t handle) {
    return gate_file_new(files, handle, &dir_ops, WASI_FILETYPE_DIRECTORY);
}
