/* fd_*: functions on open descriptors. */
#include "context.h"

/* What it takes to move the file position: preview 0 numbers them differently (CUR, END, SET). */
enum whence { WHENCE_SET, WHENCE_CUR, WHENCE_END, WHENCE_COUNT };

wasi_errno call_fd_advise(struct call *c) {
    struct descriptor *d;
    wasi_errno e = fd_get(c->w, arg32(c, 0), WASI_RIGHT_FD_ADVISE, &d);
    if (e) return e;
    uint64_t offset = arg64(c, 1), len = arg64(c, 2);
    uint32_t advice = arg32(c, 3);
    if (advice >= WASI_ADVICE_COUNT || offset > INT64_MAX || len > INT64_MAX) return WASI_EINVAL;
    if (!d->file->ops->advise) return WASI_SUCCESS;
    return d->file->ops->advise(d->file, offset, len, (enum wasi_advice)advice);
}

wasi_errno call_fd_allocate(struct call *c) {
    struct descriptor *d;
    wasi_errno e = fd_get(c->w, arg32(c, 0), WASI_RIGHT_FD_ALLOCATE, &d);
    if (e) return e;
    uint64_t offset = arg64(c, 1), len = arg64(c, 2);
    if (len == 0 || offset > INT64_MAX || len > INT64_MAX) return WASI_EINVAL; /* posix_fallocate(3) */
    if (offset + len > INT64_MAX) return WASI_EFBIG;
    if (!d->file->ops->allocate) return WASI_ENOTSUP;
    return d->file->ops->allocate(d->file, offset, len);
}

wasi_errno call_fd_close(struct call *c) {
    struct descriptor *d;
    wasi_errno e = fd_get(c->w, arg32(c, 0), 0, &d);
    if (e) return e;
    fd_release(c->w, d);
    return WASI_SUCCESS;
}

static wasi_errno sync(struct call *c, uint64_t right, bool data_only) {
    struct descriptor *d;
    wasi_errno e = fd_get(c->w, arg32(c, 0), right, &d);
    if (e) return e;
    return d->file->ops->sync ? d->file->ops->sync(d->file, data_only) : WASI_SUCCESS;
}

wasi_errno call_fd_datasync(struct call *c) {
    return sync(c, WASI_RIGHT_FD_DATASYNC, true);
}
wasi_errno call_fd_sync(struct call *c) {
    return sync(c, WASI_RIGHT_FD_SYNC, false);
}

wasi_errno call_fd_fdstat_get(struct call *c) {
    struct descriptor *d;
    wasi_errno e = fd_get(c->w, arg32(c, 0), 0, &d);
    if (e) return e;
    uint8_t *p = guest(c, arg32(c, 1), 24);
    if (!p) return WASI_EFAULT;
    memset(p, 0, 24);
    p[0] = (uint8_t)d->file->filetype;
    store16(p + 2, d->fdflags);
    store64(p + 8, d->rights);
    store64(p + 16, d->inheriting);
    return WASI_SUCCESS;
}

wasi_errno call_fd_fdstat_set_flags(struct call *c) {
    struct descriptor *d;
    wasi_errno e = fd_get(c->w, arg32(c, 0), WASI_RIGHT_FD_FDSTAT_SET_FLAGS, &d);
    if (e) return e;
    uint32_t flags = arg32(c, 1);
    if (flags & ~(uint32_t)WASI_FDFLAGS_ALL) return WASI_EINVAL;
    if (d->file->ops->set_flags) e = d->file->ops->set_flags(d->file, (uint16_t)flags);
    if (!e) d->fdflags = (uint16_t)flags;
    return e;
}

wasi_errno call_fd_fdstat_set_rights(struct call *c) {
    struct descriptor *d;
    wasi_errno e = fd_get(c->w, arg32(c, 0), 0, &d);
    if (e) return e;
    uint64_t rights = arg64(c, 1), inheriting = arg64(c, 2);
    /* "This can only be used to remove rights": witx, fd_fdstat_set_rights. */
    if (rights & ~d->rights || inheriting & ~d->inheriting) return WASI_ENOTCAPABLE;
    d->rights = rights;
    d->inheriting = inheriting;
    return WASI_SUCCESS;
}

static wasi_errno file_stat(struct wasi_file *f, struct wasi_filestat *st) {
    *st = (struct wasi_filestat){.filetype = f->filetype};
    return f->ops->stat ? f->ops->stat(f, st) : WASI_SUCCESS;
}

wasi_errno call_fd_filestat_get(struct call *c) {
    struct descriptor *d;
    wasi_errno e = fd_get(c->w, arg32(c, 0), WASI_RIGHT_FD_FILESTAT_GET, &d);
    if (e) return e;
    uint8_t *p = guest(c, arg32(c, 1), FILESTAT_SIZE(c->abi));
    if (!p) return WASI_EFAULT;
    struct wasi_filestat st;
    e = file_stat(d->file, &st);
    if (!e) store_filestat(c, p, &st);
    return e;
}

wasi_errno call_fd_filestat_set_size(struct call *c) {
    struct descriptor *d;
    wasi_errno e = fd_get(c->w, arg32(c, 0), WASI_RIGHT_FD_FILESTAT_SET_SIZE, &d);
    if (e) return e;
    if (arg64(c, 1) > INT64_MAX || !d->file->ops->set_size) return WASI_EINVAL;
    return d->file->ops->set_size(d->file, arg64(c, 1));
}

wasi_errno call_fd_filestat_set_times(struct call *c) {
    struct descriptor *d;
    wasi_errno e = fd_get(c->w, arg32(c, 0), WASI_RIGHT_FD_FILESTAT_SET_TIMES, &d);
    if (e) return e;
    struct wasi_times t;
    e = guest_times(c, 1, &t);
    if (e) return e;
    return d->file->ops->set_times ? d->file->ops->set_times(d->file, &t) : WASI_ENOTSUP;
}

/* ---- Reading and writing ---- */

/* Where each of the four finds its things: parameters 1 and 2 the vector, `out` the number of the result pointer. */
static wasi_errno begin_io(struct call *c, uint64_t rights, int out, struct descriptor **d, uint32_t *n,
                           uint8_t **result) {
    wasi_errno e = fd_get(c->w, arg32(c, 0), rights, d);
    if (e) return e;
    *result = guest(c, arg32(c, out), 4);
    if (!*result) return WASI_EFAULT;
    return guest_iov(c, arg32(c, 1), arg32(c, 2), n);
}

static wasi_errno read_file(struct call *c, struct descriptor *d, uint32_t n, uint64_t offset, size_t *done) {
    const struct wasi_file_ops *ops = d->file->ops;
    *done = 0;
    if (!ops->read_at) return WASI_EBADF;
    return n ? ops->read_at(d->file, c->w->iov, n, offset, done) : WASI_SUCCESS;
}

static wasi_errno write_file(struct call *c, struct descriptor *d, uint32_t n, uint64_t *offset, size_t *done) {
    const struct wasi_file_ops *ops = d->file->ops;
    *done = 0;
    if (!ops->write_at) return WASI_EBADF;
    return n ? ops->write_at(d->file, c->w->iov, n, offset, d->fdflags, done) : WASI_SUCCESS;
}

wasi_errno call_fd_read(struct call *c) {
    struct descriptor *d;
    uint8_t *result;
    uint32_t n;
    wasi_errno e = begin_io(c, WASI_RIGHT_FD_READ, 3, &d, &n, &result);
    if (e) return e;
    size_t done = 0;
    if (is_seekable(d->file)) {
        e = read_file(c, d, n, d->offset, &done);
        if (!e) d->offset += done;
    } else if (!d->file->ops->read) {
        e = WASI_EBADF;
    } else if (n) {
        e = d->file->ops->read(d->file, c->w->iov, n, d->fdflags, &done);
    }
    if (!e) store32(result, (uint32_t)done);
    return e;
}

wasi_errno call_fd_write(struct call *c) {
    struct descriptor *d;
    uint8_t *result;
    uint32_t n;
    wasi_errno e = begin_io(c, WASI_RIGHT_FD_WRITE, 3, &d, &n, &result);
    if (e) return e;
    size_t done = 0;
    if (is_seekable(d->file)) {
        e = write_file(c, d, n, &d->offset, &done);
    } else if (!d->file->ops->write) {
        e = WASI_EBADF;
    } else if (n) {
        e = d->file->ops->write(d->file, c->w->iov, n, d->fdflags, &done);
    }
    if (!e) store32(result, (uint32_t)done);
    return e;
}

/* pread and pwrite of what has no position: ESPIPE, before rights, as POSIX programs expect it. */
static wasi_errno need_position(struct call *c) {
    struct descriptor *d;
    wasi_errno e = fd_get(c->w, arg32(c, 0), 0, &d);
    if (e) return e;
    if (d->file->filetype == WASI_FILETYPE_DIRECTORY || is_seekable(d->file)) return WASI_SUCCESS;
    return WASI_ESPIPE;
}

wasi_errno call_fd_pread(struct call *c) {
    struct descriptor *d;
    uint8_t *result;
    uint32_t n;
    wasi_errno e = need_position(c);
    if (!e) e = begin_io(c, WASI_RIGHT_FD_READ | WASI_RIGHT_FD_SEEK, 4, &d, &n, &result);
    if (e) return e;
    size_t done;
    if (arg64(c, 3) > INT64_MAX) return WASI_EINVAL;
    e = read_file(c, d, n, arg64(c, 3), &done);
    if (!e) store32(result, (uint32_t)done);
    return e;
}

wasi_errno call_fd_pwrite(struct call *c) {
    struct descriptor *d;
    uint8_t *result;
    uint32_t n;
    wasi_errno e = need_position(c);
    if (!e) e = begin_io(c, WASI_RIGHT_FD_WRITE | WASI_RIGHT_FD_SEEK, 4, &d, &n, &result);
    if (e) return e;
    size_t done;
    uint64_t offset = arg64(c, 3);
    if (offset > INT64_MAX) return WASI_EINVAL;
    e = write_file(c, d, n, &offset, &done);
    if (!e) store32(result, (uint32_t)done);
    return e;
}

/* ---- The position ---- */

static bool whence_of(enum wasi_abi abi, uint32_t number, enum whence *out) {
    static const enum whence preview0[] = {WHENCE_CUR, WHENCE_END, WHENCE_SET};
    if (number >= WHENCE_COUNT) return false;
    *out = abi == WASI_ABI_UNSTABLE ? preview0[number] : (enum whence)number;
    return true;
}

wasi_errno call_fd_seek(struct call *c) {
    wasi_errno e = need_position(c);
    if (e) return e;
    int64_t by = (int64_t)arg64(c, 1);
    enum whence whence;
    if (!whence_of(c->abi, arg32(c, 2), &whence)) return WASI_EINVAL;
    /* Asking where one is takes no more than the right to tell: witx, `rights`, fd_tell. */
    bool only_tell = whence == WHENCE_CUR && by == 0;
    struct descriptor *d;
    e = fd_get(c->w, arg32(c, 0), only_tell ? WASI_RIGHT_FD_TELL : WASI_RIGHT_FD_SEEK, &d);
    if (e && !(only_tell && d->rights & WASI_RIGHT_FD_SEEK)) return e;
    uint8_t *result = guest(c, arg32(c, 3), 8);
    if (!result) return WASI_EFAULT;

    uint64_t from = 0;
    if (whence == WHENCE_CUR) from = d->offset;
    if (whence == WHENCE_END) {
        struct wasi_filestat st;
        e = file_stat(d->file, &st);
        if (e) return e;
        from = st.size;
    }
    int64_t to;
    if (from > INT64_MAX || __builtin_add_overflow((int64_t)from, by, &to) || to < 0) return WASI_EINVAL;
    d->offset = (uint64_t)to;
    store64(result, d->offset);
    return WASI_SUCCESS;
}

wasi_errno call_fd_tell(struct call *c) {
    struct descriptor *d;
    wasi_errno e = need_position(c);
    if (!e) e = fd_get(c->w, arg32(c, 0), WASI_RIGHT_FD_TELL, &d);
    if (e) return e;
    uint8_t *result = guest(c, arg32(c, 1), 8);
    if (!result) return WASI_EFAULT;
    store64(result, d->offset);
    return WASI_SUCCESS;
}

/* ---- Preopens, directories, numbers ---- */

enum { PREOPENTYPE_DIR, PREOPENTYPE_OTHER }; /* witx knows the first only */

wasi_errno call_fd_prestat_get(struct call *c) {
    struct descriptor *d;
    wasi_errno e = fd_get(c->w, arg32(c, 0), 0, &d);
    if (e) return e;
    /* A guest looks for its preopens from 3 up and stops at the first EBADF. A socket in the way has another type than
     * dir: wasi-libc and Go then look on. */
    if (!d->preopen && (arg32(c, 0) < PREOPEN_FIRST || arg32(c, 0) >= c->w->preopens_end)) return WASI_EBADF;
    uint8_t *p = guest(c, arg32(c, 1), 8);
    if (!p) return WASI_EFAULT;
    store32(p, d->preopen ? PREOPENTYPE_DIR : PREOPENTYPE_OTHER);
    store32(p + 4, d->preopen_len);
    return WASI_SUCCESS;
}

wasi_errno call_fd_prestat_dir_name(struct call *c) {
    struct descriptor *d;
    wasi_errno e = fd_get(c->w, arg32(c, 0), 0, &d);
    if (e) return e;
    if (!d->preopen) return WASI_EBADF;
    uint8_t *p = guest(c, arg32(c, 1), arg32(c, 2));
    if (!p) return WASI_EFAULT;
    if (arg32(c, 2) < d->preopen_len) return WASI_ENAMETOOLONG;
    memcpy(p, d->preopen, d->preopen_len);
    return WASI_SUCCESS;
}

enum { DIRENT_SIZE = 24 };

struct dirent_buffer {
    uint8_t *bytes;
    uint32_t size, used;
    bool dots; /* list `.` and `..` too */
};

static void dirent_put(struct dirent_buffer *b, const void *bytes, uint32_t len) {
    if (len > b->size - b->used) len = b->size - b->used;
    memcpy(b->bytes + b->used, bytes, len);
    b->used += len;
}

static bool is_dot(const struct wasi_dirent *e) {
    return (e->name_len == 1 || e->name_len == 2) && memcmp(e->name, "..", e->name_len) == 0;
}

/* Entries follow each other unaligned; the last one is cut where the buffer ends. A full buffer tells the guest that
 * there may be more, a buffer that is not full that this was the end. */
static bool dirent_sink(void *ctx, const struct wasi_dirent *entry) {
    struct dirent_buffer *b = ctx;
    if (!b->dots && is_dot(entry)) return true;
    uint8_t head[DIRENT_SIZE] = {0};
    store64(head, entry->next);
    store64(head + 8, entry->ino);
    store32(head + 16, entry->name_len);
    head[20] = (uint8_t)entry->filetype;
    dirent_put(b, head, sizeof head);
    dirent_put(b, entry->name, entry->name_len);
    return b->used < b->size;
}

wasi_errno call_fd_readdir(struct call *c) {
    struct descriptor *d;
    wasi_errno e = fd_get(c->w, arg32(c, 0), 0, &d);
    if (e) return e;
    if (d->file->filetype != WASI_FILETYPE_DIRECTORY) return WASI_ENOTDIR;
    if (!(d->rights & WASI_RIGHT_FD_READDIR)) return WASI_ENOTCAPABLE;
    /* Whether directories list `.` and `..` is open in POSIX, and implementations of WASI differ. Programs that ask
     * WASI itself expect them (wasi-testsuite does); wasi-libc's opendir(3) marks its descriptors with NONBLOCK, and C
     * programs have mostly been run where they are not listed. */
    struct dirent_buffer b = {
        .bytes = guest(c, arg32(c, 1), arg32(c, 2)), .size = arg32(c, 2), .dots = !(d->fdflags & WASI_FDFLAG_NONBLOCK)};
    uint8_t *result = guest(c, arg32(c, 4), 4);
    if (!b.bytes || !result) return WASI_EFAULT;
    if (!d->file->ops->readdir) return WASI_ENOTDIR;
    if (b.size) e = d->file->ops->readdir(d->file, arg64(c, 3), dirent_sink, &b);
    if (!e) store32(result, b.used);
    return e;
}

wasi_errno call_fd_renumber(struct call *c) {
    struct descriptor *from, *to;
    wasi_errno e = fd_get(c->w, arg32(c, 0), 0, &from);
    if (!e) e = fd_get(c->w, arg32(c, 1), 0, &to);
    if (e || from == to) return e;
    fd_release(c->w, to);
    *to = *from;
    *from = (struct descriptor){0};
    return WASI_SUCCESS;
}
