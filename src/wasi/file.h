/* What a WASI descriptor stands on: the file, directory, stream or socket behind it, as a struct of operations.
 *
 * src/wasi knows nothing of operating systems. A *provider* (the in-memory file system memfs.c here; stdio, host
 * directories and sockets through the gate in src/warden) implements these operations; src/wasi adds everything that is
 * WASI's alone: descriptor numbers, rights, the file position, descriptor flags, guest memory and its checks.
 *
 * What a provider may rely on:
 *  - it is called by one thread at a time;
 *  - every pointer is valid host memory; the sum of an I/O vector's lengths is at most WASI_IO_MAX and no entry is
 * empty;
 *  - flags hold only bits that exist; rights were checked already (a provider still enforces what is its own business,
 *    such as a read-only mount: WASI_EROFS);
 *  - operations are called only where they are not NULL. A NULL operation answers with the errno given beside it here.
 *  - paths have passed wasi_path_check(): 1..WASI_PATH_MAX bytes, no NUL byte inside, not absolute, every component at
 *    most WASI_NAME_MAX bytes. They are NOT NUL-terminated. They may still hold `.`, `..`, empty components, trailing
 *    slashes and lead over symbolic links: *the provider resolves the whole path itself*, beneath the given directory,
 *    and answers WASI_ENOTCAPABLE where it would leave it (openat2's RESOLVE_BENEATH: EXDEV from path resolution).
 *    Names are bytes: WASI says UTF-8, POSIX programs do not always, and nothing here depends on it.
 *
 * What src/wasi relies on: nothing a provider returns is out of range: `done` is at most what was asked for. */
#ifndef DONJON_WASI_FILE_H
#define DONJON_WASI_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- WASI's numbers (preview 1 witx, `typenames.witx`); preview 0's are the same except where wasi.c says so ---- */

typedef uint32_t wasi_errno; /* one of these, WASI_SUCCESS, or WASI_INTERRUPTED */
enum {
    WASI_SUCCESS,
    WASI_E2BIG,
    WASI_EACCES,
    WASI_EADDRINUSE,
    WASI_EADDRNOTAVAIL,
    WASI_EAFNOSUPPORT,
    WASI_EAGAIN,
    WASI_EALREADY,
    WASI_EBADF,
    WASI_EBADMSG,
    WASI_EBUSY,
    WASI_ECANCELED,
    WASI_ECHILD,
    WASI_ECONNABORTED,
    WASI_ECONNREFUSED,
    WASI_ECONNRESET,
    WASI_EDEADLK,
    WASI_EDESTADDRREQ,
    WASI_EDOM,
    WASI_EDQUOT,
    WASI_EEXIST,
    WASI_EFAULT,
    WASI_EFBIG,
    WASI_EHOSTUNREACH,
    WASI_EIDRM,
    WASI_EILSEQ,
    WASI_EINPROGRESS,
    WASI_EINTR,
    WASI_EINVAL,
    WASI_EIO,
    WASI_EISCONN,
    WASI_EISDIR,
    WASI_ELOOP,
    WASI_EMFILE,
    WASI_EMLINK,
    WASI_EMSGSIZE,
    WASI_EMULTIHOP,
    WASI_ENAMETOOLONG,
    WASI_ENETDOWN,
    WASI_ENETRESET,
    WASI_ENETUNREACH,
    WASI_ENFILE,
    WASI_ENOBUFS,
    WASI_ENODEV,
    WASI_ENOENT,
    WASI_ENOEXEC,
    WASI_ENOLCK,
    WASI_ENOLINK,
    WASI_ENOMEM,
    WASI_ENOMSG,
    WASI_ENOPROTOOPT,
    WASI_ENOSPC,
    WASI_ENOSYS,
    WASI_ENOTCONN,
    WASI_ENOTDIR,
    WASI_ENOTEMPTY,
    WASI_ENOTRECOVERABLE,
    WASI_ENOTSOCK,
    WASI_ENOTSUP,
    WASI_ENOTTY,
    WASI_ENXIO,
    WASI_EOVERFLOW,
    WASI_EOWNERDEAD,
    WASI_EPERM,
    WASI_EPIPE,
    WASI_EPROTO,
    WASI_EPROTONOSUPPORT,
    WASI_EPROTOTYPE,
    WASI_ERANGE,
    WASI_EROFS,
    WASI_ESPIPE,
    WASI_ESRCH,
    WASI_ESTALE,
    WASI_ETIMEDOUT,
    WASI_ETXTBSY,
    WASI_EXDEV,
    WASI_ENOTCAPABLE,
    WASI_ERRNO_COUNT,
    /* Not a WASI errno: the keep is being stopped (wall time, Ctrl-C). The guest's call does not return; it traps. */
    WASI_INTERRUPTED = 0x10000
};

/* "ENOENT" and the like; "EINTERRUPTED" and "E?" for the rest. */
const char *wasi_errno_name(wasi_errno e);

enum wasi_filetype {
    WASI_FILETYPE_UNKNOWN, /* also pipes: WASI has no number for them */
    WASI_FILETYPE_BLOCK_DEVICE,
    WASI_FILETYPE_CHARACTER_DEVICE, /* a terminal: isatty() of wasi-libc is this plus no seek and tell rights */
    WASI_FILETYPE_DIRECTORY,
    WASI_FILETYPE_REGULAR_FILE,
    WASI_FILETYPE_SOCKET_DGRAM,
    WASI_FILETYPE_SOCKET_STREAM,
    WASI_FILETYPE_SYMBOLIC_LINK
};

enum wasi_rights {
    WASI_RIGHT_FD_DATASYNC = 1 << 0,
    WASI_RIGHT_FD_READ = 1 << 1,
    WASI_RIGHT_FD_SEEK = 1 << 2,
    WASI_RIGHT_FD_FDSTAT_SET_FLAGS = 1 << 3,
    WASI_RIGHT_FD_SYNC = 1 << 4,
    WASI_RIGHT_FD_TELL = 1 << 5,
    WASI_RIGHT_FD_WRITE = 1 << 6,
    WASI_RIGHT_FD_ADVISE = 1 << 7,
    WASI_RIGHT_FD_ALLOCATE = 1 << 8,
    WASI_RIGHT_PATH_CREATE_DIRECTORY = 1 << 9,
    WASI_RIGHT_PATH_CREATE_FILE = 1 << 10,
    WASI_RIGHT_PATH_LINK_SOURCE = 1 << 11,
    WASI_RIGHT_PATH_LINK_TARGET = 1 << 12,
    WASI_RIGHT_PATH_OPEN = 1 << 13,
    WASI_RIGHT_FD_READDIR = 1 << 14,
    WASI_RIGHT_PATH_READLINK = 1 << 15,
    WASI_RIGHT_PATH_RENAME_SOURCE = 1 << 16,
    WASI_RIGHT_PATH_RENAME_TARGET = 1 << 17,
    WASI_RIGHT_PATH_FILESTAT_GET = 1 << 18,
    WASI_RIGHT_PATH_FILESTAT_SET_SIZE = 1 << 19,
    WASI_RIGHT_PATH_FILESTAT_SET_TIMES = 1 << 20,
    WASI_RIGHT_FD_FILESTAT_GET = 1 << 21,
    WASI_RIGHT_FD_FILESTAT_SET_SIZE = 1 << 22,
    WASI_RIGHT_FD_FILESTAT_SET_TIMES = 1 << 23,
    WASI_RIGHT_PATH_SYMLINK = 1 << 24,
    WASI_RIGHT_PATH_REMOVE_DIRECTORY = 1 << 25,
    WASI_RIGHT_PATH_UNLINK_FILE = 1 << 26,
    WASI_RIGHT_POLL_FD_READWRITE = 1 << 27,
    WASI_RIGHT_SOCK_SHUTDOWN = 1 << 28,
    WASI_RIGHT_SOCK_ACCEPT = 1 << 29,
    WASI_RIGHTS_ALL = (1 << 30) - 1
};

/* The rights that mean something on one kind of file; what a descriptor gets is always within its kind's. */
#define WASI_RIGHTS_FILE                                                                                               \
    (WASI_RIGHT_FD_DATASYNC | WASI_RIGHT_FD_READ | WASI_RIGHT_FD_SEEK | WASI_RIGHT_FD_FDSTAT_SET_FLAGS |               \
     WASI_RIGHT_FD_SYNC | WASI_RIGHT_FD_TELL | WASI_RIGHT_FD_WRITE | WASI_RIGHT_FD_ADVISE | WASI_RIGHT_FD_ALLOCATE |   \
     WASI_RIGHT_FD_FILESTAT_GET | WASI_RIGHT_FD_FILESTAT_SET_SIZE | WASI_RIGHT_FD_FILESTAT_SET_TIMES |                 \
     WASI_RIGHT_POLL_FD_READWRITE)
#define WASI_RIGHTS_DIR                                                                                                \
    (WASI_RIGHT_FD_FDSTAT_SET_FLAGS | WASI_RIGHT_FD_SYNC | WASI_RIGHT_FD_DATASYNC | WASI_RIGHT_FD_ADVISE |             \
     WASI_RIGHT_PATH_CREATE_DIRECTORY | WASI_RIGHT_PATH_CREATE_FILE | WASI_RIGHT_PATH_LINK_SOURCE |                    \
     WASI_RIGHT_PATH_LINK_TARGET | WASI_RIGHT_PATH_OPEN | WASI_RIGHT_FD_READDIR | WASI_RIGHT_PATH_READLINK |           \
     WASI_RIGHT_PATH_RENAME_SOURCE | WASI_RIGHT_PATH_RENAME_TARGET | WASI_RIGHT_PATH_FILESTAT_GET |                    \
     WASI_RIGHT_PATH_FILESTAT_SET_SIZE | WASI_RIGHT_PATH_FILESTAT_SET_TIMES | WASI_RIGHT_FD_FILESTAT_GET |             \
     WASI_RIGHT_FD_FILESTAT_SET_TIMES | WASI_RIGHT_PATH_SYMLINK | WASI_RIGHT_PATH_REMOVE_DIRECTORY |                   \
     WASI_RIGHT_PATH_UNLINK_FILE | WASI_RIGHT_POLL_FD_READWRITE)
#define WASI_RIGHTS_STREAM /* terminals, pipes: no seek and no tell */                                                 \
    (WASI_RIGHT_FD_READ | WASI_RIGHT_FD_WRITE | WASI_RIGHT_FD_FDSTAT_SET_FLAGS | WASI_RIGHT_FD_FILESTAT_GET |          \
     WASI_RIGHT_FD_SYNC | WASI_RIGHT_FD_DATASYNC | WASI_RIGHT_POLL_FD_READWRITE)
#define WASI_RIGHTS_SOCKET (WASI_RIGHTS_STREAM | WASI_RIGHT_SOCK_SHUTDOWN | WASI_RIGHT_SOCK_ACCEPT)

/* The rights that change something: a read-only preopen is WASI_RIGHTS_DIR and inheriting WASI_RIGHTS_DIR |
 * WASI_RIGHTS_FILE, each without these. */
#define WASI_RIGHTS_CHANGING                                                                                           \
    (WASI_RIGHT_FD_WRITE | WASI_RIGHT_FD_ALLOCATE | WASI_RIGHT_PATH_CREATE_DIRECTORY | WASI_RIGHT_PATH_CREATE_FILE |   \
     WASI_RIGHT_PATH_LINK_SOURCE | WASI_RIGHT_PATH_LINK_TARGET | WASI_RIGHT_PATH_RENAME_SOURCE |                       \
     WASI_RIGHT_PATH_RENAME_TARGET | WASI_RIGHT_PATH_FILESTAT_SET_SIZE | WASI_RIGHT_PATH_FILESTAT_SET_TIMES |          \
     WASI_RIGHT_FD_FILESTAT_SET_SIZE | WASI_RIGHT_FD_FILESTAT_SET_TIMES | WASI_RIGHT_PATH_SYMLINK |                    \
     WASI_RIGHT_PATH_REMOVE_DIRECTORY | WASI_RIGHT_PATH_UNLINK_FILE)

enum wasi_fdflags {
    WASI_FDFLAG_APPEND = 1,
    WASI_FDFLAG_DSYNC = 2,
    WASI_FDFLAG_NONBLOCK = 4,
    WASI_FDFLAG_RSYNC = 8,
    WASI_FDFLAG_SYNC = 16,
    WASI_FDFLAGS_ALL = 31
};
enum wasi_oflags {
    WASI_OFLAG_CREAT = 1,
    WASI_OFLAG_DIRECTORY = 2,
    WASI_OFLAG_EXCL = 4,
    WASI_OFLAG_TRUNC = 8,
    WASI_OFLAGS_ALL = 15
};
enum wasi_fstflags {
    WASI_FST_ATIM = 1,
    WASI_FST_ATIM_NOW = 2,
    WASI_FST_MTIM = 4,
    WASI_FST_MTIM_NOW = 8,
    WASI_FST_ALL = 15
};
enum wasi_advice {
    WASI_ADVICE_NORMAL,
    WASI_ADVICE_SEQUENTIAL,
    WASI_ADVICE_RANDOM,
    WASI_ADVICE_WILLNEED,
    WASI_ADVICE_DONTNEED,
    WASI_ADVICE_NOREUSE,
    WASI_ADVICE_COUNT
};
enum wasi_riflags { WASI_RI_PEEK = 1, WASI_RI_WAITALL = 2, WASI_RI_ALL = 3 };
enum wasi_roflags { WASI_RO_DATA_TRUNCATED = 1 };
enum wasi_sdflags { WASI_SHUT_RD = 1, WASI_SHUT_WR = 2, WASI_SHUT_ALL = 3 };

/* ---- Bounds ---- */
#define WASI_PATH_MAX 4096u       /* bytes of one path (Linux PATH_MAX) */
#define WASI_NAME_MAX 255u        /* bytes of one component (Linux NAME_MAX) */
#define WASI_LINK_MAX 40          /* symbolic links followed in one resolution (Linux MAXSYMLINKS) */
#define WASI_IOV_MAX  1024u       /* entries of one I/O vector handed to a provider (Linux IOV_MAX) */
#define WASI_IO_MAX   0x7ffff000u /* bytes of one read or write (Linux MAX_RW_COUNT): `done` fits in 32 bits */

/* ---- What operations carry ---- */

struct wasi_iov { /* of a read: filled from the front; of a write: not modified */
    void *buf;
    size_t len;
};

struct wasi_filestat {
    uint64_t dev, ino;
    enum wasi_filetype filetype;
    uint64_t nlink, size;
    uint64_t atim, mtim, ctim; /* nanoseconds since 1970 */
};

/* Times to set. `flags` are the guest's, checked: never ATIM with ATIM_NOW, nor MTIM with MTIM_NOW. Where a time is to
 * be set (either of the two flags), the field holds the value, the warden's present time for _NOW; else 0. */
struct wasi_times {
    uint16_t flags;
    uint64_t atim, mtim;
};

struct wasi_dirent {
    uint64_t next; /* the cookie of the entry after this one: never 0 */
    uint64_t ino;
    enum wasi_filetype filetype;
    const char *name; /* not NUL-terminated; valid during the call only */
    uint32_t name_len;
};
/* Takes one entry; false: enough, stop. */
typedef bool (*wasi_dirent_sink)(void *sink_ctx, const struct wasi_dirent *entry);

struct wasi_path {
    const char *bytes;
    uint32_t len;
};

enum wasi_access { WASI_ACCESS_READ = 1, WASI_ACCESS_WRITE = 2 };

struct wasi_open {
    bool follow;      /* follow a symbolic link as last component; else such a path is WASI_ELOOP */
    uint16_t oflags;  /* enum wasi_oflags */
    uint16_t fdflags; /* enum wasi_fdflags: to be refused (WASI_ENOTSUP) if the provider cannot do one of them */
    uint8_t access;   /* enum wasi_access: what reads and writes will be made; 0 opens for stat, readdir or paths only.
                         A directory opened with WASI_ACCESS_WRITE is WASI_EISDIR. */
};

enum wasi_interest { WASI_POLL_READ = 1, WASI_POLL_WRITE = 2 };

/* One thing waited for. A file that can block gives a token of its provider's choosing, and the context's `poll`
 * callback (wasi.h) waits for a set of them. */
struct wasi_poll {
    uint64_t token;   /* in: from the file's `poll`, not 0 */
    uint8_t interest; /* in: one of enum wasi_interest */
    bool ready;       /* out: something happened (data, room, error or hangup) */
    bool hangup;      /* out: the peer has closed */
    wasi_errno error; /* out: reported in the event */
    uint64_t nbytes;  /* out: bytes that can be read or written at once, if known; else 1 */
};

struct wasi_file;

/* Operations. Unless said otherwise all give WASI_SUCCESS or an errno, and on an errno have changed nothing.
 * The errno in [brackets] is the answer where the pointer is NULL. */
struct wasi_file_ops {
    const char *name; /* of the provider: "memfs", "host directory", ...: for traces */

    /* The last reference is gone: free `f` and everything it holds. Never NULL. */
    void (*close)(struct wasi_file *f);

    /* Streams: terminals, pipes, sockets (fd_read, fd_write). Blocks until at least one byte moved or end of file
     * (`*done` = 0), unless `fdflags` has WASI_FDFLAG_NONBLOCK: then WASI_EAGAIN where it would block. Short counts are
     * fine. [BADF] */
    wasi_errno (*read)(struct wasi_file *f, const struct wasi_iov *iov, uint32_t n, uint16_t fdflags, size_t *done);
    wasi_errno (*write)(struct wasi_file *f, const struct wasi_iov *iov, uint32_t n, uint16_t fdflags, size_t *done);

    /* Seekable files, instead of the two above: the position is src/wasi's business. A file with `read_at` or
     * `write_at` is seekable. `write_at` with WASI_FDFLAG_APPEND ignores `*offset` and appends at the end of the file;
     * it always leaves `*offset` just behind the last byte written. [BADF for an open regular file, else ESPIPE] */
    wasi_errno (*read_at)(struct wasi_file *f, const struct wasi_iov *iov, uint32_t n, uint64_t offset, size_t *done);
    wasi_errno (*write_at)(struct wasi_file *f, const struct wasi_iov *iov, uint32_t n, uint64_t *offset,
                           uint16_t fdflags, size_t *done);

    /* Called when the guest changes its descriptor's flags; refuse what cannot be done. NULL: everything is accepted.
     */
    wasi_errno (*set_flags)(struct wasi_file *f, uint16_t fdflags);

    wasi_errno (*sync)(struct wasi_file *f, bool data_only);                                           /* [success] */
    wasi_errno (*advise)(struct wasi_file *f, uint64_t offset, uint64_t len, enum wasi_advice advice); /* [success] */
    wasi_errno (*allocate)(struct wasi_file *f, uint64_t offset, uint64_t len);                        /* [ENOTSUP] */
    wasi_errno (*stat)(struct wasi_file *f, struct wasi_filestat *out); /* [success: type from f, everything else 0] */
    wasi_errno (*set_size)(struct wasi_file *f, uint64_t size);         /* [EINVAL] */
    wasi_errno (*set_times)(struct wasi_file *f, const struct wasi_times *t); /* [ENOTSUP] */

    /* Readiness. Either the file is ready now: `out->ready` and perhaps `nbytes`, `hangup`, `error` are set and `token`
     * is 0; or `out->token` is a number that the context's poll callback understands. `out` comes zeroed but for
     * `interest`. NULL: always ready (regular files). */
    wasi_errno (*poll)(struct wasi_file *f, struct wasi_poll *out);

    /* Sockets. `accept` blocks unless NONBLOCK in `fdflags` (the listening descriptor's own flags); `child_fdflags` are
     * those that the new descriptor will have. `recv`: WASI_RI_PEEK, WASI_RI_WAITALL; sets `*roflags`. [ENOTSOCK] */
    wasi_errno (*accept)(struct wasi_file *f, uint16_t fdflags, uint16_t child_fdflags, struct wasi_file **out);
    wasi_errno (*recv)(struct wasi_file *f, const struct wasi_iov *iov, uint32_t n, uint16_t riflags, uint16_t fdflags,
                       size_t *done, uint16_t *roflags);
    wasi_errno (*send)(struct wasi_file *f, const struct wasi_iov *iov, uint32_t n, uint16_t fdflags, size_t *done);
    wasi_errno (*shutdown)(struct wasi_file *f, uint8_t how); /* enum wasi_sdflags, at least one */

    /* Directories. `readdir` hands the entries behind `cookie` (0: from the first; `.` and `..` come first) to `sink`
     * until it says stop or there are no more; an unknown cookie is WASI_EINVAL or simply the end. [ENOTDIR] */
    wasi_errno (*readdir)(struct wasi_file *dir, uint64_t cookie, wasi_dirent_sink sink, void *sink_ctx);

    /* Paths, beneath the directory `dir` (see the top of this page). [ENOTDIR]
     * In `link` and `rename` both directories have the same operations; WASI_EXDEV if they are not of one file system.
     * `remove_directory`, `unlink`, `symlink`, `create_directory`, `readlink`, `rename` and the new name of `link`
     * never follow a link in the last component. Trailing slashes: Linux's rules. */
    wasi_errno (*open)(struct wasi_file *dir, struct wasi_path path, const struct wasi_open *how,
                       struct wasi_file **out);
    wasi_errno (*path_stat)(struct wasi_file *dir, struct wasi_path path, bool follow, struct wasi_filestat *out);
    wasi_errno (*path_set_times)(struct wasi_file *dir, struct wasi_path path, bool follow, const struct wasi_times *t);
    wasi_errno (*create_directory)(struct wasi_file *dir, struct wasi_path path);
    wasi_errno (*remove_directory)(struct wasi_file *dir, struct wasi_path path);
    wasi_errno (*unlink)(struct wasi_file *dir, struct wasi_path path); /* a directory: WASI_EISDIR */
    wasi_errno (*link)(struct wasi_file *dir, struct wasi_path path, bool follow, struct wasi_file *new_dir,
                       struct wasi_path new_path);
    wasi_errno (*rename)(struct wasi_file *dir, struct wasi_path path, struct wasi_file *new_dir,
                         struct wasi_path new_path);
    /* `target` is not resolved, only stored: any bytes without NUL, not absolute (WASI_ENOTCAPABLE came before). */
    wasi_errno (*symlink)(struct wasi_file *dir, struct wasi_path target, struct wasi_path path);
    /* The target's first bytes into `buf`; `*len`: how many. Longer targets are cut, as readlink(2) does. */
    wasi_errno (*readlink)(struct wasi_file *dir, struct wasi_path path, char *buf, size_t size, size_t *len);
};

/* An open file. A provider embeds it as the first member of its own struct, fills it with wasi_file_init and hands it
 * over with its one reference. */
struct wasi_file {
    const struct wasi_file_ops *ops;
    enum wasi_filetype filetype; /* fixed while open */
    uint32_t refs;
    uint64_t rights; /* mask of what makes sense on it, from filetype: WASI_RIGHTS_DIR, _FILE, _STREAM or _SOCKET;
                        a provider may narrow it (a listening socket: SOCK_ACCEPT, POLL, flags, filestat only) */
};

void wasi_file_init(struct wasi_file *f, const struct wasi_file_ops *ops, enum wasi_filetype type);
static inline struct wasi_file *wasi_file_ref(struct wasi_file *f) {
    __atomic_add_fetch(&f->refs, 1, __ATOMIC_RELAXED);
    return f;
}
void wasi_file_unref(struct wasi_file *f); /* NULL is fine; the last one calls ops->close */

/* A file that is always at its end and swallows what is written (kind "null"). Never fails; one shared object. */
struct wasi_file *wasi_file_null(void);

/* A path as file.h promises it to providers: WASI_SUCCESS, or ENOENT (empty), EINVAL (NUL byte), ENOTCAPABLE
 * (absolute), ENAMETOOLONG. The far side of the gate calls it again on what it receives. */
wasi_errno wasi_path_check(struct wasi_path p);

#endif
