/* Connections over the gate's sockets, as WASI files: what plain ones (plain_conn.c) and those with TLS (tls_conn.c)
 * have in common, and waiting for them. Knows WASI's files, not the warden: everything else comes through struct
 * conns_env and the file below.
 *
 * Calls of the gate are what costs most in a virtual machine. So waiting brings along what has come (CONN_IN bytes for
 * each connection), and what a program writes while it has more than one ready connection before it is sent together
 * when it waits next. A program that has one ready connection, or that does not use O_NONBLOCK, or that takes longer
 * than CONN_BATCH_NS from one write to the next, sends at once. */
#ifndef DONJON_WARDEN_CONN_H
#define DONJON_WARDEN_CONN_H

#include "gatefile.h"

enum {
    CONN_OUT = 64 * 1024,          /* gathered before it is sent */
    CONN_UNSENT = 8 * 1024 * 1024, /* that sockets have not taken, beyond which pieces are of CONN_OUT bytes */
    CONN_IN = 32 * 1024,           /* received ahead */
    CONN_BATCH = 64,               /* connections whose writes are sent together */
    CONN_LINGERING = 256,          /* closed connections that still send, at most */
    CONN_POLL = 2048 - 32          /* things waited for at once: the gate's own limit */
};
#define CONN_BATCH_NS  UINT64_C(200000)
#define CONN_LINGER_NS UINT64_C(10000000000) /* what a closed connection still has to send must be gone by then */

struct conns_env {
    void *ctx;
    /* Waits over the tokens of the files below: struct wasi_host's `poll`, CONN_POLL items at most. What has come for
     * sockets goes to the receiver at once, unless it is NULL. */
    wasi_errno (*poll)(void *ctx, struct wasi_poll *items, size_t n, uint64_t timeout,
                       const struct gate_receiver *receiver);
    /* Sends for many of the files below, waiting for none: gate_send_many. */
    wasi_errno (*send_many)(void *ctx, struct gate_outgoing *sends, size_t n);
    /* A place to make bytes in that send_staged then sends, as far as the socket takes them without waiting
     * (WASI_EAGAIN: none); until then nothing else here may be called. NULL: there is none. */
    uint8_t *(*stage)(void *ctx, size_t *size);
    wasi_errno (*send_staged)(void *ctx, struct wasi_file *socket, uint32_t len, uint32_t *taken);
    uint64_t (*now)(void *ctx); /* nanoseconds of a clock that does not go backwards */
    void (*log)(void *ctx, const char *line);
};

/* What all connections share. */
struct conns {
    struct conns_env env;
    struct conn *unsent;     /* connections with bytes that their sockets have not taken */
    uint32_t lingering;      /* those of them that the program has closed */
    struct wasi_poll *items; /* of the poll that is in progress */
    bool looking;
    bool receives[CONN_POLL];
    uint32_t ready;            /* connections that the last poll found ready */
    uint64_t pace_at;          /* when it was, or when the program wrote last */
    uint32_t held, held_bytes; /* connections among `unsent` that have not been tried so far, and their bytes */
    size_t unsent_size;        /* of all buffers of connections among `unsent` */
    uint8_t *spare;            /* a buffer of CONN_OUT bytes that nobody uses, or NULL */
    struct wasi_poll work[CONN_POLL];
};

void conns_init(struct conns *all, const struct conns_env *env);

/* struct wasi_host's `poll`, over these files' tokens and those of env.poll. */
wasi_errno conns_poll(struct conns *all, struct wasi_poll *items, size_t n, uint64_t timeout);

/* Sends what is held back. To be called before the program waits for anything else. */
void conns_send_held(struct conns *all);

/* Sends what is unsent, for `timeout` nanoseconds at most. */
void conns_flush(struct conns *all, uint64_t timeout);

/* Plain connections and listeners over `below`, whose reference is taken over, also on failure; NULL: out of memory. */
struct wasi_file *plain_conn_new(struct conns *all, struct wasi_file *below);
struct wasi_file *plain_listener_new(struct conns *all, struct wasi_file *below);

/* ---- for the kinds of connections ---- */

struct conn {
    struct wasi_file file;
    const struct conn_kind *kind;
    struct conns *all;
    struct wasi_file *below;
    uint8_t *out; /* out_size bytes, or NULL: nothing is unsent */
    uint32_t out_at, out_end, out_size;
    uint8_t *in; /* received ahead, or NULL */
    uint32_t in_at, in_end;
    bool in_ended, drained; /* the peer sends no more; nothing more had come when `in` did */
    bool held;              /* what is unsent waits for others: held_size bytes, and what may be added meanwhile */
    uint32_t held_size;
    bool receiving;            /* one item of the poll in progress receives for it */
    struct conn *next, **link; /* in all->unsent; link NULL: not there */
    uint64_t deadline;         /* of what `late` is about; after closing, of the sending; 0: none */
    wasi_errno error;          /* sending has failed for good; kinds may use it for more */
    bool fin, closing;         /* the socket is to be told that we send no more, once all is sent */
};

struct conn_kind {
    bool error_is_ready; /* after an error there is nothing to wait for */
    /* Before a wait: first words. NULL: none. */
    void (*begin)(struct conn *c, uint64_t now);
    /* What must happen on the socket for `interest` above it. NULL: the same. */
    uint8_t (*interest)(const struct conn *c, uint8_t interest);
    /* Something has happened on the socket, which was asked for `asked`: item is the socket's answer, and becomes the
     * connection's. Without waiting. */
    void (*look)(struct conn *c, struct wasi_poll *item, uint8_t asked);
    void (*late)(struct conn *c); /* deadline; NULL: there is none while it is open */
    void (*free)(struct conn *c); /* all but what is struct conn's */
};

/* Takes over the reference to `below`. `c` is zeroed memory. */
void conn_init(struct conn *c, const struct conn_kind *kind, const struct wasi_file_ops *ops, struct conns *all,
               struct wasi_file *below);
void conn_destroy(struct conn *c);
/* The program has closed it: it lives on until what is unsent is sent. */
void conn_close(struct conn *c);
uint64_t conn_now(const struct conn *c);

/* Bytes to be sent: into c->out, by whoever has something to say, after this if it is NULL. False: out of memory. */
bool conn_take_buffer(struct conn *c, uint32_t size);
/* Gives the socket what is unsent. WASI_EAGAIN: some of it is still here. */
wasi_errno conn_flush(struct conn *c, bool wait);
/* May `size` more bytes wait for others? If not, those that do are on their way now. */
bool conn_may_hold(struct conn *c, uint32_t size);
/* What is in c->out waits for others. */
void conn_hold(struct conn *c);
void conn_not_held(struct conn *c);
/* Sends now or, among others, soon. */
wasi_errno conn_flush_or_hold(struct conn *c);
/* What a piece that went another way has been left with. WASI_EAGAIN, or out of memory. */
wasi_errno conn_keep_rest(struct conn *c, const uint8_t *rest, uint32_t size, uint32_t spare);

/* What was received ahead. False: there is nothing of it. */
bool conn_read_ahead(struct conn *c, void *to, size_t size, bool peek, size_t *done);
/* Waits for the connection to become ready, others going on meanwhile. */
wasi_errno conn_wait(struct conn *c, uint8_t interest);

/* A listener whose connections `made` makes of the sockets below, whose references it takes over (NULL: out of memory).
 */
struct wasi_file *conn_listener_new(struct conns *all, struct wasi_file *below,
                                    struct wasi_file *(*made)(void *ctx, struct wasi_file *below), void *ctx,
                                    void (*free_ctx)(void *ctx));

#endif
