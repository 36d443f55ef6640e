/* Sockets that the configuration opened, and those that a listener accepted. */
#include "gatefile.h"

static wasi_errno socket_recv(struct wasi_file *f, const struct wasi_iov *iov, uint32_t n, uint16_t riflags,
                              uint16_t fdflags, size_t *done, uint16_t *roflags) {
    struct gate_file *file = gate_file_of(f);
    size_t want = gate_iov_size(iov, n);
    struct gate_request q = {.op = GATE_RECV,
                             .handle = file->handle,
                             .room = want < GATE_DATA_SIZE ? (uint32_t)want : GATE_DATA_SIZE,
                             .args = {gate_patience(file->files, fdflags), riflags}};
    struct gate_reply r;
    *done = 0;
    *roflags = 0;
    if (want == 0) return WASI_SUCCESS;
    uint32_t error;
    do
        error = gate_call(file->files->gate, &q, &r);
    while (gate_again(file->files, file->handle, GATE_READABLE, fdflags, &error));
    if (error != GATE_OK) return error;
    gate_scatter(file->files->gate, iov, n, 0, r.len);
    *done = r.len;
    if (r.values[0]) *roflags = WASI_RO_DATA_TRUNCATED;
    return WASI_SUCCESS;
}

static wasi_errno socket_read(struct wasi_file *f, const struct wasi_iov *iov, uint32_t n, uint16_t fdflags,
                              size_t *done) {
    uint16_t roflags;
    return socket_recv(f, iov, n, 0, fdflags, done, &roflags);
}

static wasi_errno socket_send(struct wasi_file *f, const struct wasi_iov *iov, uint32_t n, uint16_t fdflags,
                              size_t *done) {
    struct gate_file *file = gate_file_of(f);
    size_t want = gate_iov_size(iov, n);
    *done = 0;
    while (*done < want) {
        struct gate_request q = {
            .op = GATE_SEND, .handle = file->handle, .args = {gate_patience(file->files, fdflags)}};
        q.len = gate_gather(file->files->gate, iov, n, *done);
        struct gate_reply r;
        uint32_t error = gate_call(file->files->gate, &q, &r);
        if (gate_again(file->files, file->handle, GATE_WRITABLE, fdflags, &error)) continue;
        if (error != GATE_OK) return *done && error <= GATE_ERROR_MAX ? (uint32_t)WASI_SUCCESS : error;
        *done += r.values[0];
        if (r.values[0] == 0) return *done ? WASI_SUCCESS : WASI_EIO;
        if (r.values[0] < q.len && (fdflags & WASI_FDFLAG_NONBLOCK)) break;
    }
    return WASI_SUCCESS;
}

uint8_t *gate_stage(struct gate_files *files) {
    return files->gate->block->data;
}

wasi_errno gate_send_staged(struct wasi_file *socket, uint32_t len, uint32_t *taken) {
    struct gate_file *file = gate_file_of(socket);
    struct gate_request q = {.op = GATE_SEND, .handle = file->handle, .len = len};
    struct gate_reply r;
    *taken = 0;
    uint32_t error = gate_call(file->files->gate, &q, &r);
    if (error != GATE_OK) return error;
    *taken = (uint32_t)r.values[0];
    return *taken ? WASI_SUCCESS : WASI_EIO; /* an honest host takes some, or says why not */
}

static wasi_errno socket_shutdown(struct wasi_file *f, uint8_t how) {
    return gate_file_simple(f, (struct gate_request){.op = GATE_SHUTDOWN, .args = {how}});
}

static const struct wasi_file_ops socket_ops = {
    .name = "socket",
    .close = gate_file_close,
    .read = socket_read,
    .write = socket_send,
    .stat = gate_file_stat,
    .poll = gate_file_poll,
    .recv = socket_recv,
    .send = socket_send,
    .shutdown = socket_shutdown,
};

static wasi_errno listener_accept(struct wasi_file *f, uint16_t fdflags, uint16_t child_fdflags,
                                  struct wasi_file **out) {
    struct gate_file *file = gate_file_of(f);
    uint32_t handle;
    (void)child_fdflags; /* the flags are src/wasi's; each request says how long it may wait */
    if (!gate_handle_take(file->files, &handle)) return WASI_EMFILE;
    struct gate_request q = {.op = GATE_ACCEPT, .args = {handle, gate_patience(file->files, fdflags)}};
    wasi_errno error;
    do
        error = gate_file_simple(f, q);
    while (gate_again(file->files, file->handle, GATE_READABLE, fdflags, &error));
    if (error != WASI_SUCCESS) {
        gate_handle_drop(file->files, handle);
        return error;
    }
    *out = gate_socket(file->files, handle);
    return *out ? WASI_SUCCESS : WASI_ENOMEM;
}

static const struct wasi_file_ops listener_ops = {
    .name = "listener",
    .close = gate_file_close,
    .stat = gate_file_stat,
    .poll = gate_file_poll,
    .accept = listener_accept,
};

struct wasi_file *gate_socket(struct gate_files *files, uint32_t handle) {
    struct wasi_file *f = gate_file_new(files, handle, &socket_ops, WASI_FILETYPE_SOCKET_STREAM);
    if (f) f->rights = WASI_RIGHTS_SOCKET & ~(uint64_t)WASI_RIGHT_SOCK_ACCEPT;
    return f;
}

struct wasi_file *gate_listener(struct gate_files *files, uint32_t handle) {
    struct wasi_file *f = gate_file_new(files, handle, &listener_ops, WASI_FILETYPE_SOCKET_STREAM);
    if (f)
        f->rights = WASI_RIGHT_SOCK_ACCEPT | WASI_RIGHT_POLL_FD_READWRITE | WASI_RIGHT_FD_FDSTAT_SET_FLAGS |
                    WASI_RIGHT_FD_FILESTAT_GET;
    return f;
}
