#define _GNU_SOURCE /* preadv2, pwritev2 */
#include "serve.h"
#include "attention.h"
#include "lockdown.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* ---- the table ---- */

struct handle *server_handle(struct server *s, uint64_t number, enum handle_kind kind) {
    if (number >= GATE_MAX_HANDLES || s->handles[number].kind != kind) return NULL;
    return &s->handles[number];
}

struct handle *server_free_handle(struct server *s, uint64_t number) {
    if (number < s->n_fixed || number >= GATE_MAX_HANDLES || s->handles[number].kind != HANDLE_FREE) return NULL;
    return &s->handles[number];
}

static void close_handle(struct server *s, struct handle *h) {
    if (h->kind == HANDLE_STEWARD) {
        s->services->steward_end(s->services->ctx, h->fd);
        s->stewards--;
    }
    if (h->owned) close(h->fd);
    *h = (struct handle){.fd = -1};
}

static bool open_stdio(struct handle *h, int fd, bool output) {
    *h = (struct handle){.fd = fd, .kind = HANDLE_STREAM, .stdout_ = output};
    struct stat st;
    if (fd >= 0 && fstat(fd, &st) == 0) {
        h->regular = S_ISREG(st.st_mode);
        return true;
    }
    h->fd = open("/dev/null", (output ? O_WRONLY : O_RDONLY) | O_CLOEXEC);
    h->owned = true;
    return h->fd >= 0;
}

static bool open_file(struct server *s, uint32_t i, const struct config_file *f, const int stdio[3], char *error,
                      size_t size) {
    struct handle *h = &s->handles[i];
    switch (f->kind) {
    case CONFIG_NULL: h->kind = HANDLE_NULL; return true;
    case CONFIG_STDIN:
    case CONFIG_STDOUT:
    case CONFIG_STDERR:
        if (open_stdio(h, stdio[f->kind - CONFIG_STDIN], f->kind != CONFIG_STDIN)) return true;
        snprintf(error, size, "cannot open /dev/null: %s", strerror(errno));
        return false;
    default: break;
    }
    int fd = sockets_open(f, NULL, error, size);
    if (fd < 0) return false;
    *h = (struct handle){.fd = fd, .kind = f->kind == CONFIG_LISTEN ? HANDLE_LISTENER : HANDLE_SOCKET, .owned = true};
    return true;
}

static bool open_mount(struct server *s, uint32_t i, const struct config_mount *m, char *error, size_t size) {
    int fd = open(m->host, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == EACCES) fd = open(m->host, O_PATH | O_DIRECTORY | O_CLOEXEC); /* searchable, not listable */
    if (fd < 0) {
        snprintf(error, size, "cannot open directory %s for %s: %s", m->host, m->guest, strerror(errno));
        return false;
    }
    s->handles[i] = (struct handle){.fd = fd, .kind = HANDLE_DIR, .owned = true, .changes = m->writable};
    return true;
}

static const struct keep_services no_services = {.ctx = NULL};

static struct server *server_alloc(uint32_t n_fixed, bool debug, char *error, size_t size) {
    struct server *s = calloc(1, sizeof *s);
    if (!s || n_fixed > GATE_MAX_HANDLES) {
        snprintf(error, size, s ? "more files and mounts than the gate has handles" : "out of memory");
        free(s);
        return NULL;
    }
    s->debug = debug;
    s->profile_fd = -1;
    s->deadline_ns = UINT64_MAX;
    s->n_fixed = n_fixed;
    s->services = &no_services;
    pthread_mutex_init(&s->turn, NULL);
    return s;
}

struct server *server_new_deployed(int channel, const struct keep_services *services, bool debug, char *error,
                                   size_t size) {
    struct server *s = server_alloc(1, debug, error, size);
    if (!s) return NULL;
    if (services) s->services = services;
    s->reach = (struct reach){1, UINT16_MAX, REACH_ANY};
    s->handles[0] = (struct handle){.fd = channel, .kind = HANDLE_LISTENER, .channel = true};
    s->attention = attention_new();
    if (s->attention && attention_add(s->attention, channel)) return s;
    snprintf(error, size, "cannot watch the channel: %s", strerror(errno));
    server_delete(s);
    return NULL;
}

struct server *server_new(const struct config *config, const int stdio[3], bool debug, char *error, size_t size) {
    struct server *s = server_alloc(config->n_files + config->n_mounts, debug, error, size);
    if (!s) return NULL;
    bool ok = true;
    for (uint32_t i = 0; ok && i < config->n_files; i++)
        ok = open_file(s, i, &config->files[i], stdio, error, size);
    for (uint32_t i = 0; ok && i < config->n_mounts; i++)
        ok = open_mount(s, config->n_files + i, &config->mounts[i], error, size);
    if (ok) return s;
    server_delete(s);
    return NULL;
}

void server_delete(struct server *s) {
    if (!s) return;
    for (uint32_t i = 0; i < GATE_MAX_HANDLES; i++)
        if (s->handles[i].kind != HANDLE_FREE) close_handle(s, &s->handles[i]);
    if (s->profile_fd >= 0) close(s->profile_fd);
    attention_delete(s->attention);
    pthread_mutex_destroy(&s->turn);
    free(s->text);
    free(s);
}

void server_profile(struct server *s, int pid) {
    char path[64];
    snprintf(path, sizeof path, "/tmp/perf-%d.map", pid);
    unlink(path); /* of an earlier process with this number, if it was ours */
    s->profile_fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (s->profile_fd < 0) dprintf(STDERR_FILENO, "donjon: no profile: cannot make %s: %s\n", path, strerror(errno));
}

/* ---- what it is doing ---- */

void server_tell(struct server *s, enum keep_phase waiting) {
    if (!s->services->changed) return;
    struct keep_status st = {.phase = s->ended_kind    ? KEEP_PHASE_ENDED
                                      : s->ready_at_ns ? KEEP_PHASE_RUNNING
                                                       : waiting,
                             .exit_kind = s->ended_kind,
                             .status = s->ended_status,
                             .ports = s->ports,
                             .n_ports = s->n_ports,
                             .tenants = s->tenants};
    s->services->changed(s->services->ctx, &st);
}

/* ---- streams ---- */

uint32_t wait_ready(struct server *s, int fd, short events, uint64_t timeout_ns) {
    struct pollfd p[2] = {[1] = {.fd = fd, .events = events}};
    int n = timeout_ns == 0 ? poll(&p[1], 1, 0) : gate_host_poll(s->gate, p, 2, timeout_ns);
    if (n > 0) return GATE_OK;
    return n == 0 ? GATE_EAGAIN : gate_error_from_errno(errno);
}

static uint32_t stream_read(struct server *s, const struct gate_request *q, struct gate_reply *r, uint8_t *data) {
    struct handle *h = server_handle(s, q->handle, HANDLE_STREAM);
    if (!h) return GATE_EBADF;
    if (!h->regular) {
        uint32_t error = wait_ready(s, h->fd, POLLIN, q->args[0]);
        if (error != GATE_OK) return error;
    }
    ssize_t n = read(h->fd, data, q->room);
    if (n < 0) return gate_error_from_errno(errno);
    r->len = (uint32_t)n;
    return GATE_OK;
}

/* One write that does not wait, after the descriptor was found writable: in one piece where the kernel can do that
 * without waiting (RWF_NOWAIT: pipes since Linux 6.4), else at most PIPE_BUF bytes, which poll(2) has promised room
 * for. */
static ssize_t write_some(const struct handle *h, const uint8_t *data, size_t n) {
    if (h->regular) return write(h->fd, data, n);
    struct iovec v = {.iov_base = (void *)(uintptr_t)data, .iov_len = n};
    ssize_t done = pwritev2(h->fd, &v, 1, -1, RWF_NOWAIT);
    if (done >= 0 || (errno != EOPNOTSUPP && errno != EINVAL && errno != EAGAIN && errno != ESPIPE)) return done;
    return write(h->fd, data, n < PIPE_BUF ? n : PIPE_BUF);
}

static uint32_t stream_write(struct server *s, const struct gate_request *q, struct gate_reply *r,
                             const uint8_t *data) {
    struct handle *h = server_handle(s, q->handle, HANDLE_STREAM);
    if (!h) return GATE_EBADF;
    uint32_t done = 0;
    while (done < q->len) {
        uint32_t error = h->regular ? GATE_OK : wait_ready(s, h->fd, POLLOUT, q->args[0]);
        ssize_t n = error == GATE_OK ? write_some(h, data + done, q->len - done) : -1;
        if (n < 0) {
            if (error == GATE_OK) error = gate_error_from_errno(errno);
            if (error == GATE_EPIPE && h->stdout_) s->broken_pipe = true;
            if (done == 0) return error;
            break; /* what was written counts; the error comes with the next write */
        }
        done += (uint32_t)n;
    }
    r->values[0] = done;
    return GATE_OK;
}

/* ---- poll ---- */

static uint64_t readable_bytes(const struct handle *h) {
    int n = 0;
    if (h->kind == HANDLE_LISTENER || h->kind == HANDLE_STEWARD || ioctl(h->fd, FIONREAD, &n) != 0 || n < 0) return 1;
    return (uint64_t)n;
}

static bool pollable(const struct handle *h) {
    return h->kind == HANDLE_STREAM || h->kind == HANDLE_LISTENER || h->kind == HANDLE_SOCKET ||
           h->kind == HANDLE_STEWARD;
}

/* Receives for an entry that has asked for it: into `to`, `room` bytes at most. Gives their number. What goes wrong is
 * left to be found by a request for this socket alone. */
static uint32_t receive_now(struct gate_poll *e, const struct handle *h, uint8_t *to, size_t room) {
    if (h->kind != HANDLE_SOCKET || room == 0) return 0;
    ssize_t n = recv(h->fd, to, room, MSG_DONTWAIT);
    if (n < 0) return 0;
    e->ready |= GATE_RECEIVE;
    e->bytes = (uint64_t)n;
    return (uint32_t)n;
}

static void answer_poll(struct gate_poll *e, const struct handle *h, short revents) {
    if (revents & POLLIN) e->ready |= GATE_READABLE;
    if (revents & POLLOUT) e->ready |= GATE_WRITABLE;
    if (revents & (POLLHUP | POLLERR)) e->ready |= GATE_HANGUP;
    if (revents & POLLNVAL) e->error = GATE_EBADF;
    if (e->ready & GATE_READABLE && !(e->events & GATE_RECEIVE))
        e->bytes = readable_bytes(h);
    else if (e->ready & GATE_WRITABLE)
        e->bytes = 1;
}

static uint32_t poll_many(struct server *s, const struct gate_request *q, struct gate_reply *r, uint8_t *data) {
    static _Thread_local struct gate_poll entries[GATE_MAX_POLL];
    static _Thread_local struct pollfd fds[1 + GATE_MAX_POLL];
    size_t n = (size_t)q->args[1], ready = 0;
    if (s->attention && !s->listens) {
        s->listens = true;
        server_tell(s, KEEP_PHASE_BUILT);
    }
    memcpy(entries, data, n * sizeof entries[0]);
    for (size_t i = 0; i < n; i++) {
        struct gate_poll *e = &entries[i];
        fds[1 + i] = (struct pollfd){.fd = -1};
        e->ready = e->error = 0;
        e->bytes = 0;
        if (e->handle >= GATE_MAX_HANDLES || !pollable(&s->handles[e->handle])) {
            e->error = GATE_EBADF;
            ready++;
            continue;
        }
        fds[1 + i].fd = s->handles[e->handle].fd;
        fds[1 + i].events =
            (short)((e->events & GATE_READABLE ? POLLIN : 0) | (e->events & GATE_WRITABLE ? POLLOUT : 0));
    }
    uint64_t timeout = ready ? 0 : q->args[0];
    int found = timeout == 0 ? poll(fds + 1, (nfds_t)n, 0) : gate_host_poll(s->gate, fds, 1 + (unsigned)n, timeout);
    if (found < 0) return gate_error_from_errno(errno);
    if (found == 0 && ready == 0) return GATE_ETIMEDOUT;
    uint32_t end = q->len;
    for (size_t i = 0; i < n; i++) {
        struct gate_poll *e = &entries[i];
        if (e->error != 0) continue;
        const struct handle *h = &s->handles[e->handle];
        answer_poll(e, h, fds[1 + i].revents);
        if (q->op != GATE_POLL_RECV || !(e->events & GATE_RECEIVE) || !(fds[1 + i].revents & (POLLIN | POLLHUP)))
            continue;
        size_t room = q->room - end, most = (size_t)q->args[2];
        end += receive_now(e, h, data + end, room < most ? room : most);
    }
    memcpy(data, entries, n * sizeof entries[0]);
    r->len = end;
    return GATE_OK;
}

/* ---- the rest ---- */

static uint32_t filetype(int fd, const struct stat *st) {
    switch (st->st_mode & S_IFMT) {
    case S_IFBLK: return GATE_TYPE_BLOCK;
    case S_IFCHR:
        return isatty(fd) ? GATE_TYPE_CHAR : GATE_TYPE_UNKNOWN; /* to WASI programs, a character device is a terminal */
    case S_IFDIR: return GATE_TYPE_DIRECTORY;
    case S_IFREG: return GATE_TYPE_REGULAR;
    case S_IFLNK: return GATE_TYPE_SYMLINK;
    case S_IFSOCK: return GATE_TYPE_SOCKET_STREAM;
    default: return GATE_TYPE_UNKNOWN;
    }
}

static uint64_t nanoseconds(struct timespec t) {
    return t.tv_sec < 0 ? 0 : (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint32_t fill_stat(int fd, struct gate_stat *out) {
    struct stat st;
    if (fstat(fd, &st) != 0) return gate_error_from_errno(errno);
    *out = (struct gate_stat){.dev = st.st_dev,
                              .ino = st.st_ino,
                              .nlink = st.st_nlink,
                              .size = st.st_size < 0 ? 0 : (uint64_t)st.st_size,
                              .atim = nanoseconds(st.st_atim),
                              .mtim = nanoseconds(st.st_mtim),
                              .ctim = nanoseconds(st.st_ctim),
                              .type = filetype(fd, &st)};
    return GATE_OK;
}

static uint32_t stat_handle(struct server *s, const struct gate_request *q, struct gate_reply *r, uint8_t *data) {
    const struct handle *h = &s->handles[q->handle];
    if (h->kind == HANDLE_FREE || h->kind == HANDLE_NULL) return GATE_EBADF;
    struct gate_stat st;
    uint32_t error = fill_stat(h->fd, &st);
    if (error != GATE_OK) return error;
    memcpy(data, &st, sizeof st);
    r->len = sizeof st;
    return GATE_OK;
}

static uint32_t close_request(struct server *s, const struct gate_request *q) {
    struct handle *h = &s->handles[q->handle];
    if (h->kind == HANDLE_FREE) return GATE_EBADF;
    bool tenant = h->channel && h->kind == HANDLE_SOCKET;
    close_handle(s, h);
    if (tenant) {
        s->tenants--;
        server_tell(s, KEEP_PHASE_WAITING);
    }
    return GATE_OK;
}

/* The keep's text as a string of printable lines: it may end on somebody's terminal. */
static char *printable(const uint8_t *data, size_t len) {
    char *text = malloc(len + 1);
    if (!text) return NULL;
    memcpy(text, data, len);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f) text[i] = '?';
    }
    text[len] = 0;
    return text;
}

static uint32_t log_line(struct server *s, const struct gate_request *q, const uint8_t *data) {
    if (!s->debug) return GATE_OK;
    char *text = printable(data, q->len);
    if (text) dprintf(STDERR_FILENO, "keep: %s\n", text);
    free(text);
    return GATE_OK;
}

/* "START SIZE name", in hexadecimal. A name is one printable line here. */
static uint32_t code_line(struct server *s, const struct gate_request *q, const uint8_t *data) {
    if (s->profile_fd < 0) return GATE_OK;
    char *name = printable(data, q->len);
    for (char *p = name; p && *p; p++)
        if (*p == '\n' || *p == '\t') *p = ' ';
    if (name)
        dprintf(s->profile_fd, "%llx %llx %s\n", (unsigned long long)q->args[0], (unsigned long long)q->args[1], name);
    free(name);
    return GATE_OK;
}

static uint32_t report_end(struct server *s, const struct gate_request *q, const uint8_t *data) {
    s->exit_kind = (uint32_t)q->args[0];
    s->status = (uint32_t)q->args[1];
    free(s->text);
    s->text = q->len ? printable(data, q->len) : NULL;
    return GATE_OK;
}

/* ---- what only some hosts do ---- */

static uint32_t evidence(struct server *s, const struct gate_request *q, struct gate_reply *r, uint8_t *data) {
    uint8_t report_data[GATE_REPORT_DATA];
    uint32_t n = 0, size = 0;
    if (!s->services->evidence) return GATE_ENOTSUP;
    memcpy(report_data, data, sizeof report_data);
    if (!s->services->evidence(s->services->ctx, report_data, data, q->room, &n, &size)) return GATE_EIO;
    r->len = size;
    r->values[0] = n;
    return GATE_OK;
}

static uint32_t steward(struct server *s, const struct gate_request *q, const uint8_t *data) {
    static _Thread_local uint8_t body[GATE_ANSWER_SIZE];
    char url[GATE_MAX_PATH + 1];
    uint32_t n = (uint32_t)q->args[2];
    struct handle *h = server_free_handle(s, q->args[0]);
    if (!s->services->steward) return GATE_ENOTSUP;
    if (!h) return GATE_EBADF;
    if (s->stewards == SERVER_STEWARDS) return GATE_EMFILE;
    if (q->len - n > sizeof body) return GATE_EINVAL;
    memcpy(url, data, n);
    url[n] = 0;
    memcpy(body, data + n, q->len - n);
    if (strlen(url) != n) return GATE_EINVAL;
    int fd = s->services->steward(s->services->ctx, url, (unsigned)q->args[1], body, q->len - n);
    if (fd < 0) return GATE_EIO;
    *h = (struct handle){.fd = fd, .kind = HANDLE_STEWARD};
    s->stewards++;
    if (s->attention) attention_add(s->attention, fd); /* a program that computes hears of it, too */
    return GATE_OK;
}

static uint32_t answer(struct server *s, const struct gate_request *q, struct gate_reply *r, uint8_t *data) {
    struct handle *h = server_handle(s, q->handle, HANDLE_STEWARD);
    uint32_t status = 0, size = 0;
    if (!h) return GATE_EBADF;
    uint32_t error = wait_ready(s, h->fd, POLLIN, 0);
    if (error != GATE_OK) return error;
    if (!s->services->steward_answer(s->services->ctx, h->fd, data, q->room, &status, &size)) return GATE_EIO;
    r->len = size;
    r->values[0] = status;
    return GATE_OK;
}

/* The keep stays for its tenant after its program has ended; the program's ports and connections do not. */
static void close_workload(struct server *s) {
    for (uint32_t i = 0; i < GATE_MAX_HANDLES; i++)
        if (s->handles[i].kind != HANDLE_FREE && !s->handles[i].channel) close_handle(s, &s->handles[i]);
    s->n_ports = 0;
}

static uint32_t ended(struct server *s, const struct gate_request *q) {
    if (!s->attention) return GATE_ENOTSUP;
    close_workload(s);
    s->ended_kind = (uint32_t)q->args[0];
    s->ended_status = (uint32_t)q->args[1];
    server_tell(s, KEEP_PHASE_WAITING);
    return GATE_OK;
}

static uint32_t ready(struct server *s) {
    uint64_t now = gate_now_ns();
    bool first = !s->ready_at_ns;
    if (s->ready && first) s->ready(s->ready_ctx);
    /* The keep's own clock for it began later than ours, by the time that building it took. */
    if (first && s->deadline_ns != UINT64_MAX) s->deadline_ns += now - s->started_ns;
    s->ready_at_ns = now;
    server_tell(s, KEEP_PHASE_WAITING);
    return GATE_OK;
}

static uint32_t open_socket(struct server *s, const struct gate_request *q, struct gate_reply *r, const uint8_t *data) {
    uint32_t error = s->attention ? sockets_open_deployed(s, q, r, data) : (uint32_t)GATE_ENOTSUP;
    if (error == GATE_OK && q->op == GATE_LISTEN && s->n_ports < KEEP_PORTS_MAX) {
        s->ports[s->n_ports++] = (uint16_t)r->values[0];
        server_tell(s, KEEP_PHASE_WAITING);
    }
    return error;
}

static uint32_t dispatch(struct server *s, const struct gate_request *q, struct gate_reply *r, uint8_t *data) {
    switch (q->op) {
    case GATE_READ: return stream_read(s, q, r, data);
    case GATE_WRITE: return stream_write(s, q, r, data);
    case GATE_POLL:
    case GATE_POLL_RECV: return poll_many(s, q, r, data);
    case GATE_CLOSE: return close_request(s, q);
    case GATE_STAT: return stat_handle(s, q, r, data);
    case GATE_ACCEPT:
    case GATE_RECV:
    case GATE_SEND:
    case GATE_SEND_MANY:
    case GATE_SHUTDOWN: return sockets_operation(s, q, r, data);
    case GATE_LOG: return log_line(s, q, data);
    case GATE_CODE: return code_line(s, q, data);
    case GATE_READY: return ready(s);
    case GATE_EXIT: return report_end(s, q, data);
    case GATE_EVIDENCE: return evidence(s, q, r, data);
    case GATE_STEWARD: return steward(s, q, data);
    case GATE_ANSWER: return answer(s, q, r, data);
    case GATE_LISTEN:
    case GATE_CONNECT: return open_socket(s, q, r, data);
    case GATE_ENDED: return ended(s, q);
    default: return files_operation(s, q, r, data);
    }
}

bool server_request(struct server *s, const struct gate_request *q, struct gate_reply *r, uint8_t *data) {
    memset(r, 0, sizeof *r);
    s->calls++;
    const char *wrong = gate_request_check(q);
    if (wrong) {
        if (s->debug) dprintf(STDERR_FILENO, "loader: request %s refused: %s\n", gate_op_name(q->op), wrong);
        r->error = GATE_EINVAL;
        return true;
    }
    r->error = dispatch(s, q, r, data);
    if (r->error != GATE_OK) *r = (struct gate_reply){.error = r->error};
    return s->exit_kind == 0 && !s->broken_pipe;
}

/* The keep runs by now: nothing more has to be opened or started. */
static bool lock_in(struct server *s) {
#if defined __x86_64__
    char error[256];
    s->lock = false;
    if (!lockdown(s, error, sizeof error)) {
        s->exit_kind = GATE_EXIT_BROKEN;
        free(s->text);
        s->text = strdup(error);
        return false;
    }
#endif
    return true;
}

/* The argument that says how long a request may wait; NULL: it does not, or it is not for server_direct: paths are for
 * the thread that has closed its locks, what changes the keep's status for the one that tells others about it. */
static uint64_t *patience(const struct server *s, struct gate_request *q, bool *may) {
    *may = true;
    switch (q->op) {
    case GATE_POLL:
    case GATE_POLL_RECV: *may = !s->attention || s->listens; return &q->args[0];
    case GATE_RECV: *may = !(q->args[1] & GATE_RECV_WAITALL); return &q->args[0];
    case GATE_READ:
    case GATE_WRITE:
    case GATE_SEND: return &q->args[0];
    case GATE_ACCEPT: *may = !s->attention; return &q->args[1];
    case GATE_CLOSE: *may = !s->attention; return NULL;
    case GATE_STAT:
    case GATE_PREAD:
    case GATE_PWRITE:
    case GATE_TRUNCATE:
    case GATE_ADVISE:
    case GATE_SYNC:
    case GATE_SEND_MANY:
    case GATE_SHUTDOWN: return NULL;
    default: *may = false; return NULL;
    }
}

/* A request that takes longer than leaving the keep for it is not worth that a second thread spins for its like. */
enum { LONG_NS = 20000 };

/* One request, if there is one. False: the keep is to end. */
static bool serve_one(struct server *s, struct gate_host *gate) {
    struct gate_request q;
    struct gate_reply r;
    if (s->broken_pipe) return false; /* seen by server_direct */
    if (!gate_host_take(gate, &q)) return true;
    if (s->lock && !lock_in(s)) return false; /* the reason is in the report */
    uint64_t begin = gate->may_direct ? gate_now_ns() : 0;
    bool may, go_on = server_request(s, &q, &r, gate->block->data);
    const uint64_t *wait = patience(s, &q, &may);
    gate->lazy = gate->may_direct && may && !(wait && *wait) && gate_now_ns() - begin > LONG_NS;
    gate_host_answer(gate, &r);
    return go_on;
}

static bool serve_requests(struct server *s, struct gate_host *gate) {
    for (bool go_on = true; go_on;) {
        if (gate_host_wait(gate, s->deadline_ns) != GATE_ASKED) return false;
        pthread_mutex_lock(&s->turn);
        go_on = serve_one(s, gate);
        pthread_mutex_unlock(&s->turn);
    }
    return s->exit_kind != 0;
}

static void set_gate(struct server *s, struct gate_host *gate) {
    pthread_mutex_lock(&s->turn);
    s->gate = gate;
    pthread_mutex_unlock(&s->turn);
}

bool server_loop(struct server *s, struct gate_host *gate) {
    set_gate(s, gate);
    if (s->attention) attention_block(s->attention, gate->block);
    bool reported = serve_requests(s, gate);
    if (s->attention) attention_block(s->attention, NULL); /* the block goes with the keep, before the server does */
    set_gate(s, NULL);
    return reported;
}

/* ---- in the keep's own thread ---- */

/* Quick requests in close succession are better served by somebody who spins for them. */
static void look_around(struct server *s, uint64_t begin, uint64_t end) {
    enum { ROW = 8, CLOSE_NS = 100000 };
    bool quick = end - begin < LONG_NS && begin - s->direct_at < CLOSE_NS;
    s->direct_row = quick ? s->direct_row + 1 : 0;
    s->direct_at = end;
    if (s->direct_row < ROW) return;
    s->direct_row = 0;
    gate_host_rouse(s->gate);
}

static bool serve_direct(struct server *s) {
    struct gate_request q;
    struct gate_reply r;
    bool may;
    uint32_t number;
    if (s->lock || s->broken_pipe || !gate_host_look(s->gate, &q, &number)) return false;
    uint64_t *wait = patience(s, &q, &may), asked = wait ? *wait : 0;
    if (!may) return false;
    if (wait) *wait = 0;
    uint64_t begin = gate_now_ns();
    bool go_on = server_request(s, &q, &r, s->gate->block->data);
    if (asked != 0 && (r.error == GATE_EAGAIN || r.error == GATE_ETIMEDOUT)) {
        s->calls--; /* it is still to be served */
        return false;
    }
    s->gate->taken = number;
    atomic_store(&s->gate->block->keep_sleeps, 0); /* no need to wake it */
    look_around(s, begin, gate_now_ns());
    gate_host_answer(s->gate, &r);
    if (!go_on) gate_host_rouse(s->gate);
    return true;
}

bool server_direct(struct server *s) {
    if (pthread_mutex_trylock(&s->turn) != 0) return false;
    bool done = s->gate && serve_direct(s);
    if (!done && s->gate) gate_host_call(s->gate);
    pthread_mutex_unlock(&s->turn);
    return done;
}
