/* donjon-agent: builds keeps for tenants on this machine and carries bytes between the two; sees none of them.
 *
 *   conn.c    one tenant's connection: TLS handshake, request, reply, relay
 *   keeps.c   the keeps: built, adopted, listed, ended, cleaned up behind
 *   control.c the line to one keep's process
 *   upcall.c  a keep's requests to its steward, over HTTPS
 *
 * Everything runs in the one thread of loop.h. A keep is a process of its own (keep.h) that outlives the agent: what is
 * acknowledged to a tenant is in records/ID.json before, where keeps' processes cannot write. */
#ifndef DONJON_AGENT_H
#define DONJON_AGENT_H

#include "keep.h"
#include "loop.h"
#include "request.h"
#include "settings.h"
#include "state.h"

#include <jansson.h>
#include <sys/types.h>

struct conn;
struct agent {
    struct loop loop;
    struct settings settings;
    struct tenant local; /* served where no tenants are configured */
    struct state state;
    SSL_CTX *tls;
    char fingerprint[FINGERPRINT + 1];
    char *root;    /* the development root, PEM */
    char boot[40]; /* this boot of the machine's: process numbers mean nothing in another */
    char keep_program[4096];
    const char *cgroup; /* where keeps' groups are made; NULL: in the agent's own */
    bool debug, draining, end_keeps;
    uint64_t drain_ms;

    struct watch listeners[LISTENERS_MAX * 2];
    unsigned n_listeners;
    struct conn *conns;
    struct conn *loose; /* those that make room for others: conn.c */
    unsigned n_conns, n_loose;
    uint64_t salt;         /* so that nobody can choose addresses that count as one */
    bool full;             /* listeners are not looked at: as many connections as may be, or no descriptor left */
    struct deadline again; /* in the latter case, they are once more */

    struct keep *keeps; /* alive, and `ended` ones tenants can still ask about */
    struct watch signals;
    struct deadline drained;
    struct upcalls *upcalls;
};

/* ---- keeps.c ---- */

enum keep_state { KEEP_BUILDING, KEEP_WAITING, KEEP_RUNNING, KEEP_EXITED, KEEP_ENDED };
extern const char *const keep_state_names[];

enum {
    PORTS_MAX = 64,
    ENDED_MAX = 256,       /* remembered, all tenants together */
    ENDED_SECONDS = 86400, /* so long */
    BUILD_MS = 60000,      /* a keep that takes longer to build will never be built */
    STOP_MS = 5000,        /* what it has to end by itself */
    SWEEP_MS = 500,        /* then its group is removed; if that is too early, after twice as long again, ... */
    SWEEPS_MAX = 10,
    CONTROL_QUEUE = 256 * 1024,
};

struct keep {
    struct keep *next;
    struct agent *agent;
    char token[KEEP_TOKEN + 1]; /* what its process knows us by */
    char id[KEEP_ID + 1], name[KEEP_NAME_MAX + 1], tenant[TENANT_NAME_MAX + 1], wanted_backend[16];
    uint64_t memory;
    bool restart;
    uint32_t restarts;
    unsigned ooms;          /* of its group, when it was built */
    unsigned sweeps;        /* attempts to remove its group, once it has ended */
    int64_t created, ended; /* seconds since 1970; ended 0: it has not */
    pid_t pid;              /* of donjon-keep; 0: gone */
    uint64_t started;       /* its start time in ticks: pid and this name one process for ever */

    /* What donjon-keep says. */
    enum keep_state state;
    char backend[16], protects[192], measurement[2 * 64 + 1];
    bool tee;
    uint16_t ports[PORTS_MAX];
    unsigned n_ports;
    char outcome[24]; /* "exited", "trapped", ..., "stopped", "killed"; empty: it has not ended */
    int exit_code;
    char why[256]; /* of a keep that could not be built, or died: in words of ours */

    bool acknowledged, stopping;
    bool finishing;      /* its process is being ended; `process` says when that is done */
    struct conn *waiter; /* the connection whose request is building it; NULL: none, or gone */
    struct watch status, control, process;
    char line[KEEP_STATUS_MAX];
    size_t line_used;
    struct keep_lines *lines; /* control.c */
    struct deadline deadline;
};

/* Starts building. NULL with `error` for the tenant: quota, no memory... conn_keep_built(waiter, ...) follows. */
struct keep *keep_create(struct agent *, const struct tenant *, const struct request *, struct conn *waiter,
                         char *error, size_t size);
/* The tenant's keep of this id, ended or not; NULL: none. */
struct keep *keep_find(struct agent *, const struct tenant *, const char *id);
/* A connected, non-blocking socket to its warden; -1 with `error`. */
int keep_connect(struct keep *, char *error, size_t size);
void keep_stop(struct keep *);
json_t *keep_describe(const struct keep *);
const struct tenant *keep_tenant(const struct keep *);
/* Takes over, or cleans up behind, what an agent before us left. */
void keeps_adopt(struct agent *);
void keeps_reap(struct agent *); /* after SIGCHLD */
void keeps_release(struct agent *, bool end);
/* Usage of a tenant: what his quotas bound. */
void keeps_usage(const struct agent *, const char *tenant, uint32_t *keeps, uint64_t *memory);

/* From control.c: the keep's process has gone, or let go of us. */
void keep_lost(struct keep *);
/* From control.c, after state, ports or exit changed. */
void keep_changed(struct keep *);

/* ---- control.c ---- */

/* Connects to DIR/control. False: nobody is there. */
bool control_open(struct keep *);
void control_close(struct keep *);
bool control_send(struct keep *, json_t *message); /* takes the reference */

/* ---- upcall.c ---- */

struct upcalls *upcalls_new(struct agent *);
void upcalls_delete(struct upcalls *);
/* A keep's {"upcall":"steward",...}, validated here; the answer goes back over its control line. */
void upcall_start(struct upcalls *, struct keep *, const json_t *message);
void upcalls_forget(struct upcalls *, struct keep *);

/* ---- cgroups.c ---- */

/* A group (cgroup version 2) for each keep, where this process may make them: memory, CPU, processes.
 *   keep-ID/            the limits; the keep's process cannot write here (keep_lock.h)
 *   keep-ID/box/host    that process; in box the loader makes a group for the warden
 * In `dir`, a group without processes that is ours (donjon-keeps.service); NULL: in the agent's own, which the agent
 * leaves for a group beside them. False: there is none. */
bool cgroups_open(const char *dir);
/* False, with errno: the keep's group cannot be made. `*procs`: of the file that a process writes "0" to in order to
 * enter; -1: keeps have no groups here. */
bool cgroups_make(const char *id, uint64_t memory, uint32_t cpu, int *procs);
/* How many processes the kernel has ended in it for want of memory. */
unsigned cgroups_out_of_memory(const char *id);
/* False: processes that die are still in it. */
bool cgroups_remove(const char *id, bool kill);
/* Those of keeps that nobody knows any more. */
void cgroups_sweep(const struct agent *);

/* ---- conn.c ---- */

void conn_accept(struct agent *, int listener);
/* The keep that the connection waits for is there, or `error` says why it will not be. */
void conn_keep_built(struct conn *, struct keep *, const char *error);
void conns_close(struct agent *, bool idle_only);

#endif
