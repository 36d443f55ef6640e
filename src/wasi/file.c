/* Open files in general: references, the null file, names of errors. */
#include "file.h"

void wasi_file_init(struct wasi_file *f, const struct wasi_file_ops *ops, enum wasi_filetype type) {
    f->ops = ops;
    f->filetype = type;
    f->refs = 1;
    switch (type) {
    case WASI_FILETYPE_DIRECTORY: f->rights = WASI_RIGHTS_DIR; break;
    case WASI_FILETYPE_REGULAR_FILE:
    case WASI_FILETYPE_BLOCK_DEVICE: f->rights = WASI_RIGHTS_FILE; break;
    case WASI_FILETYPE_SOCKET_DGRAM:
    case WASI_FILETYPE_SOCKET_STREAM: f->rights = WASI_RIGHTS_SOCKET; break;
    default: f->rights = WASI_RIGHTS_STREAM; break;
    }
}

void wasi_file_unref(struct wasi_file *f) {
    if (f && __atomic_sub_fetch(&f->refs, 1, __ATOMIC_ACQ_REL) == 0) f->ops->close(f);
}

static void null_close(struct wasi_file *f) {
    (void)f;
} /* shared and static, holds one reference of its own */

static wasi_errno null_read(struct wasi_file *f, const struct wasi_iov *iov, uint32_t n, uint16_t fdflags,
                            size_t *done) {
    (void)f, (void)iov, (void)n, (void)fdflags;
    *done = 0;
    return WASI_SUCCESS;
}

static wasi_errno null_write(struct wasi_file *f, const struct wasi_iov *iov, uint32_t n, uint16_t fdflags,
                             size_t *done) {
    (void)f, (void)fdflags;
    *done = 0;
    for (uint32_t i = 0; i < n; i++)
        *done += iov[i].len;
    return WASI_SUCCESS;
}

struct wasi_file *wasi_file_null(void) {
    static const struct wasi_file_ops ops = {
        .name = "null", .close = null_close, .read = null_read, .write = null_write};
    static struct wasi_file null = {.ops = &ops,
                                    .filetype = WASI_FILETYPE_CHARACTER_DEVICE,
                                    .refs = 1,
                                    .rights = WASI_RIGHTS_STREAM | WASI_RIGHT_FD_SEEK |
                                              WASI_RIGHT_FD_TELL}; /* with these it is no terminal */
    return wasi_file_ref(&null);
}

const char *wasi_errno_name(wasi_errno e) {
    static const char *const names[WASI_ERRNO_COUNT] = {
        "ESUCCESS",     "E2BIG",           "EACCES",       "EADDRINUSE",   "EADDRNOTAVAIL",
        "EAFNOSUPPORT", "EAGAIN",          "EALREADY",     "EBADF",        "EBADMSG",
        "EBUSY",        "ECANCELED",       "ECHILD",       "ECONNABORTED", "ECONNREFUSED",
        "ECONNRESET",   "EDEADLK",         "EDESTADDRREQ", "EDOM",         "EDQUOT",
        "EEXIST",       "EFAULT",          "EFBIG",        "EHOSTUNREACH", "EIDRM",
        "EILSEQ",       "EINPROGRESS",     "EINTR",        "EINVAL",       "EIO",
        "EISCONN",      "EISDIR",          "ELOOP",        "EMFILE",       "EMLINK",
        "EMSGSIZE",     "EMULTIHOP",       "ENAMETOOLONG", "ENETDOWN",     "ENETRESET",
        "ENETUNREACH",  "ENFILE",          "ENOBUFS",      "ENODEV",       "ENOENT",
        "ENOEXEC",      "ENOLCK",          "ENOLINK",      "ENOMEM",       "ENOMSG",
        "ENOPROTOOPT",  "ENOSPC",          "ENOSYS",       "ENOTCONN",     "ENOTDIR",
        "ENOTEMPTY",    "ENOTRECOVERABLE", "ENOTSOCK",     "ENOTSUP",      "ENOTTY",
        "ENXIO",        "EOVERFLOW",       "EOWNERDEAD",   "EPERM",        "EPIPE",
        "EPROTO",       "EPROTONOSUPPORT", "EPROTOTYPE",   "ERANGE",       "EROFS",
        "ESPIPE",       "ESRCH",           "ESTALE",       "ETIMEDOUT",    "ETXTBSY",
        "EXDEV",        "ENOTCAPABLE",
    };
    if (e == WASI_INTERRUPTED) return "EINTERRUPTED";
    return e < WASI_ERRNO_COUNT ? names[e] : "E?";
}
