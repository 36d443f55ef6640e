/* The table of operations, and the checks of both ends made from it. */
#include "gate.h"
#include <errno.h>
#include <string.h>

/* X(operation, arguments, request's data, values of the reply, data of the reply), one letter each.
 *
 * Arguments:  t timeout   o offset or size, up to INT64_MAX   c cookie   b bool   h handle   n length of the first path
 *             q number of poll entries   F fdflags   O open flags   T times' flags   R recv flags   W shutdown's how
 *             m at most the data area   S number of send entries
 *             A advice   E kind of exit   x 32 bits   y steward's which   U length of the URL   P port   C port but 0
 * Request:    - none   d bytes   p one path   P two paths   q poll entries   t text   e report data   a address
 * Values:     w at most the request's length   o position   b bool   l at most the reply's length   H HTTP status
 *             C port but 0
 * Reply:      - none   d bytes, `room` at most   s struct gate_stat   q poll entries, as many as asked
 *             Q the same, then bytes   v send entries, as many as asked */
#define OPERATIONS(X)                                                                                                  \
    X(READ, "t", '-', "", 'd')                                                                                         \
    X(WRITE, "t", 'd', "w", '-')                                                                                       \
    X(POLL, "tq", 'q', "", 'q')                                                                                        \
    X(CLOSE, "", '-', "", '-')                                                                                         \
    X(STAT, "", '-', "", 's')                                                                                          \
    X(PREAD, "o", '-', "", 'd')                                                                                        \
    X(PWRITE, "ob", 'd', "wo", '-')                                                                                    \
    X(TRUNCATE, "o", '-', "", '-')                                                                                     \
    X(ALLOCATE, "oo", '-', "", '-')                                                                                    \
    X(ADVISE, "ooA", '-', "", '-')                                                                                     \
    X(SYNC, "b", '-', "", '-')                                                                                         \
    X(SET_TIMES, "ooT", '-', "", '-')                                                                                  \
    X(READDIR, "c", '-', "", 'd')                                                                                      \
    X(OPEN, "hOF", 'p', "", 's')                                                                                       \
    X(PATH_STAT, "b", 'p', "", 's')                                                                                    \
    X(PATH_TIMES, "booT", 'p', "", '-')                                                                                \
    X(MKDIR, "", 'p', "", '-')                                                                                         \
    X(UNLINK, "", 'p', "", '-')                                                                                        \
    X(RMDIR, "", 'p', "", '-')                                                                                         \
    X(READLINK, "", 'p', "", 'd')                                                                                      \
    X(RENAME, "hn", 'P', "", '-')                                                                                      \
    X(LINK, "hnb", 'P', "", '-')                                                                                       \
    X(SYMLINK, "n", 'P', "", '-')                                                                                      \
    X(ACCEPT, "ht", '-', "", '-')                                                                                      \
    X(RECV, "tR", '-', "b", 'd')                                                                                       \
    X(SEND, "t", 'd', "w", '-')                                                                                        \
    X(SHUTDOWN, "W", '-', "", '-')                                                                                     \
    X(POLL_RECV, "tqm", 'q', "", 'Q')                                                                                  \
    X(SEND_MANY, "S", 'd', "", 'v')                                                                                    \
    X(LOG, "", 't', "", '-')                                                                                           \
    X(CODE, "oo", 't', "", '-')                                                                                        \
    X(READY, "", '-', "", '-')                                                                                         \
    X(EXIT, "Ex", 't', "", '-')                                                                                        \
    X(EVIDENCE, "", 'e', "l", 'd')                                                                                     \
    X(STEWARD, "hyU", 'd', "", '-')                                                                                    \
    X(ANSWER, "", '-', "H", 'd')                                                                                       \
    X(LISTEN, "hP", 'a', "C", '-')                                                                                     \
    X(CONNECT, "hC", 'a', "", '-')                                                                                     \
    X(ENDED, "Ex", '-', "", '-')

struct operation {
    const char *name;
    const char *args;
    const char *values;
    char in, out;
};

static const struct operation operations[GATE_OPS] = {
#define X(op, args, in, values, out) [GATE_##op] = {#op, args, values, in, out},
    OPERATIONS(X)
#undef X
};

const char *gate_op_name(uint32_t op) {
    return op < GATE_OPS && operations[op].name ? operations[op].name : "?";
}

static bool arg_ok(char kind, uint64_t v, const struct gate_request *q) {
    switch (kind) {
    case 't':
    case 'c': return true;
    case 'o': return v <= INT64_MAX;
    case 'b': return v <= 1;
    case 'h': return v < GATE_MAX_HANDLES;
    case 'n': return v >= 1 && v < q->len && v <= GATE_MAX_PATH && q->len - v <= GATE_MAX_PATH;
    case 'q': return v <= GATE_MAX_POLL && q->len == v * sizeof(struct gate_poll);
    case 'm': return v >= 1 && v <= GATE_DATA_SIZE;
    case 'S': return v >= 1 && v <= GATE_MAX_SENDS && q->len > v * sizeof(struct gate_send);
    case 'F': return (v & ~(uint64_t)GATE_FDFLAGS_ALL) == 0;
    case 'O': return (v & ~(uint64_t)GATE_OPEN_ALL) == 0;
    case 'T': return (v & ~(uint64_t)GATE_TIMES_ALL) == 0;
    case 'R': return (v & ~(uint64_t)GATE_RECV_ALL) == 0;
    case 'W': return v != 0 && (v & ~(uint64_t)GATE_SHUT_ALL) == 0;
    case 'A': return v < 6; /* witx `advice` has six */
    case 'E': return v >= 1 && v < GATE_EXITS;
    case 'x': return v <= UINT32_MAX;
    case 'y': return v < GATE_STEWARDS;
    case 'U': return v >= 1 && v <= q->len && v <= GATE_MAX_PATH;
    case 'P': return v <= UINT16_MAX;
    case 'C': return v >= 1 && v <= UINT16_MAX;
    }
    return false;
}

static bool request_data_ok(char kind, uint32_t len) {
    switch (kind) {
    case '-': return len == 0;
    case 'p': return len >= 1 && len <= GATE_MAX_PATH;
    case 'P': return len >= 2 && len <= 2 * GATE_MAX_PATH;
    case 't': return len <= GATE_MAX_REPORT;
    case 'e': return len == GATE_REPORT_DATA;
    case 'a': return len >= 1 && len <= GATE_MAX_HOST;
    default: return len <= GATE_DATA_SIZE;
    }
}

/* The room a request must leave for its reply. */
static bool room_ok(char kind, const struct gate_request *q) {
    switch (kind) {
    case '-': return q->room == 0;
    case 's': return q->room == sizeof(struct gate_stat);
    case 'q': return q->room == q->len;
    case 'Q': return q->room >= q->len && q->room <= GATE_DATA_SIZE;
    case 'v': return q->room == q->args[0] * sizeof(struct gate_send); /* args[0] may be anything so far: no overflow */
    default: return q->room <= GATE_DATA_SIZE;
    }
}

const char *gate_request_check(const struct gate_request *q) {
    if (q->op >= GATE_OPS || !operations[q->op].name) return "unknown operation";
    const struct operation *o = &operations[q->op];
    if (q->handle >= GATE_MAX_HANDLES) return "handle out of range";
    if (!request_data_ok(o->in, q->len)) return "length of the data out of range";
    if (!room_ok(o->out, q)) return "room for the reply out of range";
    size_t n = strlen(o->args);
    for (size_t i = 0; i < n; i++)
        if (!arg_ok(o->args[i], q->args[i], q)) return "argument out of range";
    for (size_t i = n; i < GATE_ARGS; i++)
        if (q->args[i] != 0) return "unused argument not zero";
    return NULL;
}

static bool value_ok(char kind, uint64_t v, const struct gate_request *q, const struct gate_reply *r) {
    switch (kind) {
    case 'w': return v <= q->len;
    case 'o': return v <= INT64_MAX;
    case 'b': return v <= 1;
    case 'l': return v <= r->len;
    case 'H': return v >= 100 && v <= 599;
    case 'C': return v >= 1 && v <= UINT16_MAX;
    }
    return false;
}

static bool reply_data_ok(char kind, const struct gate_request *q, uint32_t len) {
    switch (kind) {
    case '-': return len == 0;
    case 'd': return len <= q->room;
    case 'Q': return len >= q->len && len <= q->room;
    default: return len == q->room;
    }
}

const char *gate_reply_check(const struct gate_request *q, const struct gate_reply *r) {
    const struct operation *o = &operations[q->op];
    size_t n = 0;
    if (r->error > GATE_ERROR_MAX) return "unknown error";
    if (r->error == GATE_OK) {
        if (!reply_data_ok(o->out, q, r->len)) return "length of the data out of range";
        for (n = strlen(o->values); n > 0; n--)
            if (!value_ok(o->values[n - 1], r->values[n - 1], q, r)) return "value out of range";
        n = strlen(o->values);
    } else if (r->len != 0) {
        return "data beside an error";
    }
    for (; n < GATE_VALUES; n++)
        if (r->values[n] != 0) return "unused value not zero";
    return NULL;
}

bool gate_stat_check(const struct gate_stat *s) {
    return s->type < GATE_TYPES && s->zero == 0 && s->size <= INT64_MAX;
}

bool gate_poll_check(const struct gate_poll *asked, const struct gate_poll *answered) {
    if (answered->handle != asked->handle || answered->events != asked->events) return false;
    uint32_t may = GATE_READY_ALL | (asked->events & GATE_RECEIVE);
    return (answered->ready & ~may) == 0 && answered->error <= GATE_ERROR_MAX;
}

bool gate_send_check(const struct gate_send *asked, const struct gate_send *answered) {
    if (answered->handle != asked->handle || answered->len != asked->len) return false;
    return answered->taken <= asked->len && answered->error <= GATE_ERROR_MAX &&
           (answered->error == GATE_OK || answered->taken == 0);
}

size_t gate_dirent_check(const uint8_t *p, size_t left, struct gate_dirent *entry) {
    if (left < sizeof *entry) return 0;
    memcpy(entry, p, sizeof *entry);
    if (entry->type >= GATE_TYPES || entry->next == 0) return 0;
    if (entry->name_len < 1 || entry->name_len > GATE_MAX_NAME) return 0;
    size_t size = sizeof *entry + ((size_t)entry->name_len + 7) / 8 * 8;
    if (size > left) return 0;
    const uint8_t *name = p + sizeof *entry;
    if (memchr(name, '/', entry->name_len) || memchr(name, 0, entry->name_len)) return 0;
    return size;
}

/* Linux's errno, by its names; the numbers on the right are witx's `errno`. */
uint32_t gate_error_from_errno(int e) {
    switch (e) {
    case 0: return GATE_OK;
    case E2BIG: return 1;
    case EACCES: return 2;
    case EADDRINUSE: return 3;
    case EADDRNOTAVAIL: return 4;
    case EAFNOSUPPORT: return 5;
    case EAGAIN: return 6;
    case EALREADY: return 7;
    case EBADF: return 8;
    case EBADMSG: return 9;
    case EBUSY: return 10;
    case ECANCELED: return 11;
    case ECHILD: return 12;
    case ECONNABORTED: return 13;
    case ECONNREFUSED: return 14;
    case ECONNRESET: return 15;
    case EDEADLK: return 16;
    case EDESTADDRREQ: return 17;
    case EDOM: return 18;
    case EDQUOT: return 19;
    case EEXIST: return 20;
    case EFAULT: return 21;
    case EFBIG: return 22;
    case EHOSTUNREACH: return 23;
    case EIDRM: return 24;
    case EILSEQ: return 25;
    case EINPROGRESS: return 26;
    case EINTR: return 27;
    case EINVAL: return 28;
    case EIO: return 29;
    case EISCONN: return 30;
    case EISDIR: return 31;
    case ELOOP: return 32;
    case EMFILE: return 33;
    case EMLINK: return 34;
    case EMSGSIZE: return 35;
    case EMULTIHOP: return 36;
    case ENAMETOOLONG: return 37;
    case ENETDOWN: return 38;
    case ENETRESET: return 39;
    case ENETUNREACH: return 40;
    case ENFILE: return 41;
    case ENOBUFS: return 42;
    case ENODEV: return 43;
    case ENOENT: return 44;
    case ENOEXEC: return 45;
    case ENOLCK: return 46;
    case ENOLINK: return 47;
    case ENOMEM: return 48;
    case ENOMSG: return 49;
    case ENOPROTOOPT: return 50;
    case ENOSPC: return 51;
    case ENOSYS: return 52;
    case ENOTCONN: return 53;
    case ENOTDIR: return 54;
    case ENOTEMPTY: return 55;
    case ENOTRECOVERABLE: return 56;
    case ENOTSOCK: return 57;
    case EOPNOTSUPP: return 58;
    case ENOTTY: return 59;
    case ENXIO: return 60;
    case EOVERFLOW: return 61;
    case EOWNERDEAD: return 62;
    case EPERM: return 63;
    case EPIPE: return 64;
    case EPROTO: return 65;
    case EPROTONOSUPPORT: return 66;
    case EPROTOTYPE: return 67;
    case ERANGE: return 68;
    case EROFS: return 69;
    case ESPIPE: return 70;
    case ESRCH: return 71;
    case ESTALE: return 72;
    case ETIMEDOUT: return 73;
    case ETXTBSY: return 74;
    case EXDEV: return 75;
    default: return GATE_EIO;
    }
}
