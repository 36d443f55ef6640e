/* WASI files that are on the other side of the gate: the providers of src/wasi/file.h for the configuration's stdio,
 * sockets and mounted directories. Everything the host answers was checked by gate_call, or is checked here after one
 * copy; bytes of file contents go to the program as they are. */
#ifndef DONJON_WARDEN_GATEFILE_H
#define DONJON_WARDEN_GATEFILE_H

#include "../gate/caller.h"
#include "../wasi/wasi.h"

/* What a keep looks after while its program waits: a deployed one its tenants, and a certificate that a steward renews.
 */
struct gate_attend {
    void *ctx;
    /* What is to be waited for besides: gives how many entries, `most` at most. */
    size_t (*wanted)(void *ctx, struct gate_poll *entries, size_t most);
    /* What has become of these, after each wait; none when nothing came in time. May make calls of the gate. */
    void (*serve)(void *ctx, const struct gate_poll *entries, size_t n);
    uint64_t (*patience)(void *ctx); /* nanoseconds that a wait may last; NULL: any */
    const struct gate_attend *next;
};
enum { GATE_ATTEND_MAX = 32, GATE_ATTENDS = 2 /* in a list */ };

/* Who takes what has come for sockets while they were waited for. */
struct gate_receiver {
    void *ctx;
    size_t most;                                                          /* bytes for one socket */
    bool (*wanted)(void *ctx, size_t item);                               /* for this item of the poll? */
    void (*take)(void *ctx, size_t item, const uint8_t *bytes, size_t n); /* n == 0: the peer sends no more */
};

/* The keep's side of the handles: which numbers are in use. */
struct gate_files {
    struct gate *gate;
    const struct gate_attend *attend; /* NULL: nothing */
    void (*before_wait)(void *ctx);   /* called before a request that may wait; NULL: nobody */
    void *before_wait_ctx;
    uint32_t n_fixed; /* the configuration's: never given anew */
    uint64_t used[GATE_MAX_HANDLES / 64];
    uint8_t entries[GATE_ANSWER_SIZE]; /* readdir: the one copy */
};

void gate_files_init(struct gate_files *files, struct gate *gate, uint32_t n_fixed);

/* The files of fixed handles; NULL: out of memory. */
struct wasi_file *gate_stream(struct gate_files *files, uint32_t handle, bool terminal); /* stdin, stdout, stderr */
struct wasi_file *gate_listener(struct gate_files *files, uint32_t handle);
struct wasi_file *gate_socket(struct gate_files *files, uint32_t handle);
struct wasi_file *gate_directory(struct gate_files *files, uint32_t handle);

/* struct wasi_host's poll, over tokens of these files. With something to attend to it may come back early. */
wasi_errno gate_poll_files(struct gate_files *files, struct wasi_poll *items, size_t n, uint64_t timeout);
/* The same, with a receiver (or NULL): its items have what has come for them already. */
wasi_errno gate_poll_receive(struct gate_files *files, struct wasi_poll *items, size_t n, uint64_t timeout,
                             const struct gate_receiver *receiver);
/* Sends for many sockets (files of gate_socket) in one call, waiting for none; GATE_MAX_SENDS and GATE_SENDS_ROOM bytes
 * at most, all together. Fills `taken` and `error` of each. */
struct gate_outgoing {
    struct wasi_file *socket;
    const uint8_t *bytes;
    uint32_t len, taken, error;
};
#define GATE_SENDS_ROOM (GATE_DATA_SIZE - GATE_MAX_SENDS * (uint32_t)sizeof(struct gate_send))
wasi_errno gate_send_many(struct gate_files *files, struct gate_outgoing *sends, size_t n);
/* The data area itself, for bytes that are made where they are sent from: GATE_DATA_SIZE of them, until the next call of
 * the gate. What is there, the host can change at any time: nothing that is secret, or believed afterwards. */
uint8_t *gate_stage(struct gate_files *files);
/* Sends `len` of them, waiting for nothing; WASI_EAGAIN: none. */
wasi_errno gate_send_staged(struct wasi_file *socket, uint32_t len, uint32_t *taken);
/* The token of files that wait for nothing but what is attended to. */
#define GATE_TOKEN_ATTEND UINT64_MAX

/* How long a request may wait inside the host: not at all where there is something to attend to. */
uint64_t gate_patience(const struct gate_files *files, uint16_t fdflags);
/* After a request that might have waited: whether it is to be made again, having waited here meanwhile. `*error` is
 * what the request gave, and becomes what the waiting gave. */
bool gate_again(struct gate_files *files, uint32_t handle, uint32_t events, uint16_t fdflags, uint32_t *error);

/* ---- between gateio.c, gatefs.c and gatesock.c ---- */

struct gate_file {
    struct wasi_file file;
    struct gate_files *files;
    uint32_t handle;
};

static inline struct gate_file *gate_file_of(struct wasi_file *f) {
    return (struct gate_file *)f;
}

/* A new file for a handle; NULL: out of memory (the handle is then closed if it was not fixed). */
struct wasi_file *gate_file_new(struct gate_files *files, uint32_t handle, const struct wasi_file_ops *ops,
                                enum wasi_filetype type);
/* A number for a new handle: marked as used until it is dropped. False: all are. */
bool gate_handle_take(struct gate_files *files, uint32_t *handle);
void gate_handle_drop(struct gate_files *files, uint32_t handle);
/* Also tells the host. Fixed handles stay. */
void gate_handle_close(struct gate_files *files, uint32_t handle);

void gate_file_close(struct wasi_file *f);
wasi_errno gate_file_stat(struct wasi_file *f, struct wasi_filestat *out);
wasi_errno gate_file_poll(struct wasi_file *f, struct wasi_poll *out);
wasi_errno gate_file_simple(struct wasi_file *f, struct gate_request q); /* q.handle is filled in; no data either way */

extern const struct wasi_file_ops gate_stream_ops;

/* One request whose reply is a struct gate_stat. */
wasi_errno gate_stat_call(struct gate *g, const struct gate_request *q, struct gate_stat *out);
void gate_stat_to_wasi(const struct gate_stat *s, struct wasi_filestat *out);

/* Copies between an I/O vector and the data area: the part of the vector from byte `skip` on, GATE_DATA_SIZE at most.
 * Gives the number of bytes. */
uint32_t gate_gather(struct gate *g, const struct wasi_iov *iov, uint32_t n, size_t skip);
void gate_scatter(struct gate *g, const struct wasi_iov *iov, uint32_t n, size_t skip, uint32_t len);
size_t gate_iov_size(const struct wasi_iov *iov, uint32_t n);

#endif
