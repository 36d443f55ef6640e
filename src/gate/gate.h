/* The gate: the narrow block of memory, and the calls, through which a keep and its loader talk.
 *
 * The keep asks, the host answers; one request at a time. Everything in the block is written by the other side at any
 * moment it likes, so each end copies a message ONCE into its own memory, checks the copy completely against the table
 * of operations (gate.c), and then acts on nothing but the copy. Bulk data goes through the data area in pieces of at
 * most GATE_DATA_SIZE; it too is read once, and no length or index in it is used before it was copied and checked.
 *
 * What the warden relies on: nothing. A lying host can refuse, delay, or give wrong file contents; it cannot make
 * the warden touch a byte outside what it asked for (gate_reply_check). What the host relies on: gate_request_check,
 * and serve.c's own table of handles.
 *
 * Numbers are little-endian, as on every machine Donjon runs on; fields have fixed widths and natural alignment. */
#ifndef DONJON_GATE_H
#define DONJON_GATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A keep's descriptors at its start. */
enum gate_fd {
    GATE_FD_BLOCK = 3, /* the shared block: mmap(GATE_BLOCK_SIZE, PROT_READ|PROT_WRITE, MAP_SHARED) */
    GATE_FD_BELL =
        4, /* the doorbell: write one byte = a request is in the block; read one byte = a reply may be there */
    GATE_FD_BOOT = 5, /* the boot image: read to its end, once */
};

/* Limits, all in one place. */
enum {
    GATE_DATA_SIZE = 256 * 1024,  /* bulk data */
    GATE_ANSWER_SIZE = 64 * 1024, /* what a keep asks for where it keeps a copy: directories, evidence, stewards */
    GATE_HEAD_SIZE = 4096,
    GATE_BLOCK_SIZE = GATE_HEAD_SIZE + GATE_DATA_SIZE,
    GATE_ARGS = 6,
    GATE_VALUES = 8,
    GATE_MAX_HANDLES = 4096,
    GATE_MAX_PATH = 4096,        /* bytes of one path */
    GATE_MAX_NAME = 255,         /* bytes of one directory entry's name */
    GATE_MAX_SENDS = 256,        /* entries of one GATE_SEND_MANY */
    GATE_MAX_POLL = 2048,        /* entries of one GATE_POLL */
    GATE_MAX_REPORT = 60 * 1024, /* bytes of GATE_EXIT's text */
    GATE_MAX_HOST = 255,         /* bytes of an address or a host's name */
    GATE_REPORT_DATA = 64        /* bytes that evidence is over */
};

/* Errors are WASI preview 1's `errno` numbers (witx), whatever the host's CPU or system calls them. Here: those that
 * either end's own code names. A number above GATE_ERROR_MAX in a reply becomes GATE_EIO. */
enum gate_error {
    GATE_OK = 0,
    GATE_EACCES = 2,
    GATE_EAGAIN = 6,
    GATE_EBADF = 8,
    GATE_EEXIST = 20,
    GATE_EINVAL = 28,
    GATE_EIO = 29,
    GATE_EISDIR = 31,
    GATE_ELOOP = 32,
    GATE_EMFILE = 33,
    GATE_ENAMETOOLONG = 37,
    GATE_ENOENT = 44,
    GATE_ENOMEM = 48,
    GATE_ENOSYS = 52,
    GATE_ENOTDIR = 54,
    GATE_ENOTSUP = 58,
    GATE_EOVERFLOW = 61,
    GATE_EPERM = 63,
    GATE_EPIPE = 64,
    GATE_EROFS = 69,
    GATE_ETIMEDOUT = 73,
    GATE_ENOTCAPABLE = 76,
    GATE_ERROR_MAX = 76
};

/* Handles name host objects. The keep chooses them: 0..files-1 are the configuration's files in their order, then its
 * mounts in theirs, and any free number after these for what it opens or accepts, so a reply never carries a handle. */

/* Operations. `data` is what the request brings in the data area, `->` what the reply brings: values v0.. and data.
 * Times are nanoseconds; a timeout of GATE_FOREVER waits as long as it takes, 0 not at all. */
#define GATE_FOREVER UINT64_MAX
enum gate_op {
    GATE_READ = 1, /* handle, timeout -> data. At the end of a file: no data */
    GATE_WRITE,    /* handle, timeout, data -> v0 bytes taken */
    GATE_POLL, /* timeout, n, data: struct gate_poll[n] -> the same n entries, filled; GATE_ETIMEDOUT when none is ready
                */
    GATE_CLOSE, /* handle */
    GATE_STAT,  /* handle -> struct gate_stat */

    GATE_PREAD,  /* handle, offset -> data */
    GATE_PWRITE, /* handle, offset, append, data -> v0 bytes taken, v1 position behind them. With append, at the end */
    GATE_TRUNCATE,  /* handle, size */
    GATE_ALLOCATE,  /* handle, offset, length */
    GATE_ADVISE,    /* handle, offset, length, advice (witx numbers) */
    GATE_SYNC,      /* handle, data only */
    GATE_SET_TIMES, /* handle, atime, mtime, enum gate_times */
    GATE_READDIR,   /* handle, cookie (0: start) -> whole struct gate_dirent records; none at the end */

    GATE_OPEN,       /* directory, new handle, enum gate_open, enum gate_fdflags, data: path -> struct gate_stat */
    GATE_PATH_STAT,  /* directory, follow, data: path -> struct gate_stat */
    GATE_PATH_TIMES, /* directory, follow, atime, mtime, enum gate_times, data: path */
    GATE_MKDIR,      /* directory, data: path */
    GATE_UNLINK,     /* directory, data: path */
    GATE_RMDIR,      /* directory, data: path */
    GATE_READLINK,   /* directory, data: path -> data: target */
    GATE_RENAME,     /* directory, directory2, n, data: path (n bytes), path2 */
    GATE_LINK,       /* directory, directory2, n, follow, data: path (n bytes), path2 */
    GATE_SYMLINK,    /* directory, n, data: target (n bytes), path */

    GATE_ACCEPT,   /* listener, new handle, timeout, enum gate_fdflags */
    GATE_RECV,     /* handle, timeout, enum gate_recv -> v0: 1 when truncated, data */
    GATE_SEND,     /* handle, timeout, data -> v0 bytes taken */
    GATE_SHUTDOWN, /* handle, enum gate_how */
    /* Many sockets in one call, for programs that serve many. */
    GATE_POLL_RECV, /* timeout, n, most: GATE_POLL, and sockets that ask for it (GATE_RECEIVE) and are readable are
                     * received from at once, `most` bytes each, as far as the data area has room -> the n entries, then
                     * the bytes in their order */
    GATE_SEND_MANY, /* n, data: struct gate_send[n], then their bytes -> the n entries, filled. Waits for none */

    GATE_LOG,   /* data: one line of text. Shown in debug mode only */
    GATE_CODE,  /* address, size, data: a function's name. Compiled code, for profilers; kept in profiling mode only */
    GATE_READY, /* the program's first instruction comes next */
    GATE_EXIT,  /* enum gate_exit, status, data: text. The last request of a keep */

    GATE_EVIDENCE, /* data: report data (GATE_REPORT_DATA) -> v0 bytes of evidence, data: evidence, endorsements (PEM)
                    */
    GATE_STEWARD,  /* new handle, enum gate_steward, n, data: URL (n bytes), body. Begins a request and does not wait: the
                    * handle is readable (GATE_POLL) once the answer is there; closing it, also before that, ends it */
    GATE_ANSWER,   /* handle -> v0 HTTP status, data: body. The answer of a GATE_STEWARD, once; GATE_EAGAIN: not there so
                    * far */

    /* Deployed keeps only: the host does not know what is in their configuration. */
    GATE_LISTEN,  /* new handle, port (0: any), data: address -> v0 port */
    GATE_CONNECT, /* new handle, port, data: host */
    GATE_ENDED,   /* enum gate_exit, status. The program has ended; the keep stays for its log's sake until GATE_EXIT */
    GATE_OPS
};

enum gate_times { GATE_ATIM = 1, GATE_ATIM_NOW = 2, GATE_MTIM = 4, GATE_MTIM_NOW = 8, GATE_TIMES_ALL = 15 };
enum gate_fdflags { /* witx's fdflags */
                    GATE_APPEND = 1,
                    GATE_DSYNC = 2,
                    GATE_NONBLOCK = 4,
                    GATE_RSYNC = 8,
                    GATE_FSYNC = 16,
                    GATE_FDFLAGS_ALL = 31
};
enum gate_open {
    GATE_OPEN_READ = 1,
    GATE_OPEN_WRITE = 2,
    GATE_OPEN_CREAT = 4,
    GATE_OPEN_DIRECTORY = 8,
    GATE_OPEN_EXCL = 16,
    GATE_OPEN_TRUNC = 32,
    GATE_OPEN_FOLLOW = 64, /* a symbolic link as the last component is followed, else GATE_ELOOP */
    GATE_OPEN_ALL = 127
};
enum gate_recv { GATE_RECV_PEEK = 1, GATE_RECV_WAITALL = 2, GATE_RECV_ALL = 3 };
enum gate_steward { GATE_STEWARD_NONCE, GATE_STEWARD_CERTIFY, GATE_STEWARD_EAR, GATE_STEWARDS };
enum gate_how { GATE_SHUT_RD = 1, GATE_SHUT_WR = 2, GATE_SHUT_ALL = 3 };
enum gate_exit {
    GATE_EXIT_PROGRAM = 1, /* status: the program's */
    GATE_EXIT_TRAP,
    GATE_EXIT_TIMEOUT,
    GATE_EXIT_REFUSED,
    GATE_EXIT_BROKEN,  /* the warden's own failure: a lock that would not close, a host that lies */
    GATE_EXIT_STOPPED, /* the tenant has ended it */
    GATE_EXITS
};

/* witx's filetype numbers. */
enum gate_filetype {
    GATE_TYPE_UNKNOWN,
    GATE_TYPE_BLOCK,
    GATE_TYPE_CHAR,
    GATE_TYPE_DIRECTORY,
    GATE_TYPE_REGULAR,
    GATE_TYPE_SOCKET_DGRAM,
    GATE_TYPE_SOCKET_STREAM,
    GATE_TYPE_SYMLINK,
    GATE_TYPES
};

struct gate_stat {
    uint64_t dev, ino, nlink, size, atim, mtim, ctim;
    uint32_t type, zero;
};

enum gate_ready {
    GATE_READABLE = 1,
    GATE_WRITABLE = 2,
    GATE_HANGUP = 4,
    GATE_READY_ALL = 7,
    GATE_RECEIVE = 8 /* GATE_POLL_RECV: asked for; answered: `bytes` of it are in the data area, 0 at the end */
};
struct gate_poll {
    uint32_t handle;
    uint32_t events; /* asked: READABLE, WRITABLE */
    uint32_t ready;  /* answered: READABLE, WRITABLE, HANGUP */
    uint32_t error;  /* answered: enum gate_error of this entry alone */
    uint64_t bytes;  /* answered: how many can be read, where known, else 1; what can be written: at least 1 */
};

struct gate_send {
    uint32_t handle, len; /* asked */
    uint32_t taken;       /* answered: bytes that went */
    uint32_t error;       /* answered: enum gate_error of this entry alone; GATE_EAGAIN: none went now */
};

struct gate_dirent {
    uint64_t next; /* the cookie after this entry */
    uint64_t ino;
    uint32_t type;
    uint32_t name_len; /* 1..GATE_MAX_NAME; the name follows, then zeros up to a multiple of 8 */
};

struct gate_request {
    uint32_t op;
    uint32_t handle;
    uint32_t len;  /* bytes in the data area */
    uint32_t room; /* bytes that the reply may have at most */
    uint64_t args[GATE_ARGS];
};

struct gate_reply {
    uint32_t error;
    uint32_t len; /* bytes in the data area */
    uint64_t values[GATE_VALUES];
};

#define GATE_MAGIC   0x65746147 /* "Gate" */
#define GATE_VERSION 4

/* The shared block. Each side's words have cache lines of their own. A request is there when `asked` has moved to the
 * number after the last, its reply when `answered` has followed. Before sleeping on the doorbell a side raises its flag
 * and looks once more; the other side writes to the doorbell only when it takes the flag down. */
struct gate_block {
    _Alignas(64) uint32_t magic; /* host, before the keep starts */
    uint32_t version;
    uint32_t spin_ns; /* how long the keep may usefully spin for a reply; 0 with one CPU. A hint: the keep bounds it */
    uint32_t slow_spin_ns; /* the same for requests that may wait for the world: not longer than sleeping costs */
    _Alignas(64) _Atomic uint32_t asked;      /* keep */
    _Atomic uint32_t keep_sleeps;             /* keep raises, host takes down */
    _Alignas(64) _Atomic uint32_t answered;   /* host */
    _Atomic uint32_t host_sleeps;             /* host raises, keep takes down */
    _Atomic uint32_t direct; /* host: nobody spins for requests, and reading the doorbell is enough to be served. A hint
                                how to wait */
    _Alignas(64) struct gate_request request; /* keep */
    _Alignas(64) struct gate_reply reply;     /* host */
    _Alignas(64) _Atomic uint32_t attention;  /* host raises: the channel (handle 0 of a deployed keep) may have
                                                 something; keep takes down, at its next call or, while it computes,
                                                 within moments. A hint: both look for themselves too */
    _Alignas(GATE_HEAD_SIZE) uint8_t data[GATE_DATA_SIZE];
};
_Static_assert(sizeof(struct gate_block) == GATE_BLOCK_SIZE, "head and data area fill the block");
_Static_assert(sizeof(struct gate_request) == 64 && sizeof(struct gate_reply) == 72, "no padding");
_Static_assert(sizeof(struct gate_stat) == 64 && sizeof(struct gate_poll) == 24 && sizeof(struct gate_dirent) == 24 &&
                   sizeof(struct gate_send) == 16,
               "no padding");

/* The boot image: this header, then the configuration in wire form (src/config), then the module, then its compiled
 * code, if there is any (donjon/wasm.h: donjon_module_compile). Compiled code is believed: only a keep that trusts its
 * loader, as `process` does, may be given any. */
#define BOOT_MAGIC 0x746f6f426e6a6e44 /* "DnjnBoot" */
enum boot_flags {
    BOOT_DEBUG = 1,
    BOOT_TERMINAL_IN = 2, /* what isatty() says of the configuration's stdin, stdout, stderr */
    BOOT_TERMINAL_OUT = 4,
    BOOT_TERMINAL_ERR = 8,
    BOOT_PROFILE = 16, /* GATE_CODE is wanted */
    BOOT_TENANT = 32,  /* there is no workload in the image: a tenant brings it, through a channel */
    BOOT_FLAGS_ALL = 63
};
struct boot_header {
    uint64_t magic;
    uint32_t version; /* GATE_VERSION */
    uint32_t flags;
    uint64_t config_size; /* BOOT_MAX_CONFIG at most */
    uint64_t module_size; /* BOOT_MAX_MODULE at most */
    uint64_t code_size;   /* BOOT_MAX_CODE at most; 0: none */
    uint8_t digest[32];   /* of the module, as its compiled code has it; 0 without */
};
#define BOOT_MAX_CONFIG (16u << 20) /* more than config_wire.h ever needs */
#define BOOT_MAX_MODULE (1u << 30)
#define BOOT_MAX_CODE   (2u << 30)

/* Host's end: a request as copied from the block. NULL when it is well formed: a known operation, unused arguments
 * zero, flags of those that exist, lengths within the data area; else what is wrong with it. */
const char *gate_request_check(const struct gate_request *q);

/* Keep's end: a reply as copied from the block, against the request that it answers. NULL when it may be believed:
 * error in range, length within what was asked for, values within what they can be; else what is wrong with it. The
 * contents of the data area are the caller's to check (gate_stat_check and its like), after copying. */
const char *gate_reply_check(const struct gate_request *q, const struct gate_reply *r);

/* Structures out of the data area, as copied. */
bool gate_stat_check(const struct gate_stat *s);
bool gate_poll_check(const struct gate_poll *asked, const struct gate_poll *answered);
bool gate_send_check(const struct gate_send *asked, const struct gate_send *answered);

/* The length of the record at `p`, of which `left` bytes are there, after copying its head to `entry`; 0 when it is not
 * a whole well-formed record (a name that is empty, too long, or has a slash or a zero byte is not). */
size_t gate_dirent_check(const uint8_t *p, size_t left, struct gate_dirent *entry);

const char *gate_op_name(uint32_t op); /* "READ", "OPEN", ...; "?" for others */

/* The host's errno as a gate error; GATE_EIO for those that WASI has no number for. */
uint32_t gate_error_from_errno(int e);

#endif
