/* The host's side of the operations: a table of handles, and what may be done with each.
 *
 * Requests are hostile. gate_request_check has passed when server_request acts; everything a request names is looked up
 * in this table, and nothing outside the configuration's files and mounts is ever reached: paths are resolved by the
 * kernel beneath their directory (openat2, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS), read-only mounts are refused here
 * too. */
#ifndef DONJON_LOADER_SERVE_H
#define DONJON_LOADER_SERVE_H

#include "../config/config.h"
#include "../gate/host.h"
#include "loader.h"
#include "reach.h"
#include <pthread.h>

enum handle_kind {
    HANDLE_FREE,
    HANDLE_NULL,     /* configured as null: the keep serves it itself */
    HANDLE_STREAM,   /* stdio, pipes, terminals, devices */
    HANDLE_FILE,     /* a regular file below a mount */
    HANDLE_DIR,      /* a directory below a mount, or the mount */
    HANDLE_LISTENER, /* a listening socket */
    HANDLE_SOCKET,   /* a connected one */
    HANDLE_STEWARD   /* a request to a steward, under way */
};

struct handle {
    int fd;
    uint8_t kind; /* enum handle_kind */
    bool owned;   /* closed with the handle; the caller's stdio is not */
    bool changes; /* DIR, FILE: the mount allows changes */
    bool stdout_; /* STREAM: a reader that has gone ends the keep, as SIGPIPE would */
    bool regular; /* STREAM on a regular file: never waits */
    bool channel; /* LISTENER, SOCKET: of tenants */
};

enum { KEEP_PORTS_MAX = 256 /* CONFIG_FILES_MAX */, SERVER_STEWARDS = 4 /* requests to a steward at once */ };

struct server {
    struct gate_host *gate; /* NULL: server_loop does not run */
    pthread_mutex_t turn;   /* one thread serves at a time */
    uint64_t direct_at;     /* when server_direct served last */
    unsigned direct_row;    /* quick requests in close succession */
    struct handle handles[GATE_MAX_HANDLES];
    uint32_t n_fixed; /* files and mounts of the configuration: their numbers are never given anew */
    bool debug;
    bool lock;      /* lock this process in before the first request is served (lockdown.h) */
    int profile_fd; /* -1: nobody wants to know where code is */
    uint64_t calls;
    uint64_t deadline_ns;                 /* CLOCK_MONOTONIC: after it the keep is killed; UINT64_MAX: none */
    uint64_t started_ns;                  /* when that was set */
    uint64_t ready_at_ns;                 /* GATE_READY came */
    const struct keep_services *services; /* never NULL */
    struct attention *attention;          /* attention.h; NULL: not a deployed keep */
    struct reach reach;                   /* of a deployed keep */
    bool listens;                         /* it has asked for its channel */
    unsigned tenants;                     /* open connections of the channel */
    unsigned stewards;                    /* requests to a steward under way */
    uint16_t ports[KEEP_PORTS_MAX];
    unsigned n_ports;
    uint32_t ended_kind, ended_status; /* GATE_ENDED; 0: not so far */
    void (*ready)(void *ctx);          /* to be called then; or NULL */
    void *ready_ctx;

    /* How it ended. */
    bool broken_pipe;   /* end the keep: the reader of its stdout is gone */
    uint32_t exit_kind; /* enum gate_exit; 0: no report so far */
    uint32_t status;
    char *text; /* the report's, printable; NULL: none */
};

/* Opens what the configuration names: sockets listen and connect, mounts are opened. NULL with the reason in `error`.
 */
struct server *server_new(const struct config *config, const int stdio[3], bool debug, char *error, size_t size);
/* For a deployed keep: handle 0 is the channel's listener, and there is nothing else. */
struct server *server_new_deployed(int channel, const struct keep_services *services, bool debug, char *error,
                                   size_t size);
void server_delete(struct server *s);
/* From now on GATE_CODE's lines go to /tmp/perf-PID.map, as perf(1) reads them. */
void server_profile(struct server *s, int pid);

/* Serves one request. Its data is in `data` (the block's: read once), the reply's goes there. False: the keep is to end
 * (it reported, or broken_pipe): the reply has still to be sent. */
bool server_request(struct server *s, const struct gate_request *q, struct gate_reply *r, uint8_t *data);

/* Serves whatever comes through the gate until the keep has reported (true) or has gone, is late, or broke its pipe. */
bool server_loop(struct server *s, struct gate_host *gate);

/* For the thread on which a keep runs, when that keep has stopped to read its doorbell: serves what it has asked for, if
 * nobody else does so and if that can be done at once. True: the answer is there. False: it will come through the
 * doorbell, as ever. Only with gate->may_direct. */
bool server_direct(struct server *s);

/* ---- between serve.c, files.c and sockets.c ---- */

/* The handle of a request, of the kind wanted; NULL otherwise. */
struct handle *server_handle(struct server *s, uint64_t number, enum handle_kind kind);
/* The free handle with a number chosen by the keep; NULL when it may not be used. */
struct handle *server_free_handle(struct server *s, uint64_t number);

/* Operations: a gate error each. */
uint32_t files_operation(struct server *s, const struct gate_request *q, struct gate_reply *r, uint8_t *data);
uint32_t sockets_operation(struct server *s, const struct gate_request *q, struct gate_reply *r, uint8_t *data);

/* A deployed keep's status has changed. */
void server_tell(struct server *s, enum keep_phase waiting);

/* GATE_LISTEN, GATE_CONNECT. */
uint32_t sockets_open_deployed(struct server *s, const struct gate_request *q, struct gate_reply *r,
                               const uint8_t *data);
/* A socket of the configuration. With a deployed keep's server: within its reach, and connecting is cut short when the
 * keep ends; NULL: anywhere, as long as it takes. A descriptor, or -1 with the reason in `error`. */
int sockets_open(const struct config_file *file, struct server *s, char *error, size_t size);

uint32_t fill_stat(int fd, struct gate_stat *out);
/* Waits until `fd` is ready for `events`: GATE_OK, GATE_EAGAIN after the timeout, GATE_EINTR. */
uint32_t wait_ready(struct server *s, int fd, short events, uint64_t timeout_ns);

enum { GATE_EINTR = 27 };

#endif
