/* The loader: builds one keep, serves its host calls until it ends, and says how it ended.
 *
 * The loader is not trusted by the keep. It holds everything the keep may touch on this machine: the descriptors behind
 * the workload's stdio, the sockets and the directories that its configuration names. It decides nothing that the
 * warden depends on for safety.
 *
 *     struct keep_options options = {.config = &config, .wasm = bytes, .wasm_size = size, .stdio = {0, 1, 2}};
 *     struct keep_result result;
 *     keep_run(&options, &result);
 *     ... result.outcome, result.exit_code, result.text ...
 *     keep_result_free(&result);
 *
 * keep_run blocks the calling thread until the keep is gone; nothing of it is left afterwards. The keep shares the
 * caller's process group, so a terminal's Ctrl-C, Ctrl-Z and hang-up reach both; should the calling *thread* end for
 * any reason, kill -9 included, the kernel kills the keep (PR_SET_PDEATHSIG). No signal handler is installed. SIGPIPE
 * is ignored while keep_run runs and put back afterwards. */
#ifndef DONJON_LOADER_H
#define DONJON_LOADER_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct config; /* src/config/config.h */
struct reach;  /* reach.h */

/* What stands between the workload and the machine it runs on. */
enum keep_strength {
    KEEP_ANY, /* a process's walls: they keep the workload in, and nobody out */
    KEEP_VM,  /* a virtual machine's as well */
    KEEP_TEE  /* hardware that keeps the machine's owner out */
};

/* What a deployed keep is doing, as far as the host can know. */
enum keep_phase {
    KEEP_PHASE_BUILT /* said once: it serves its channel */,
    KEEP_PHASE_WAITING,
    KEEP_PHASE_RUNNING,
    KEEP_PHASE_ENDED
};
struct keep_status {
    enum keep_phase phase;
    uint32_t exit_kind, status; /* KEEP_PHASE_ENDED: enum gate_exit and the program's status */
    const uint16_t *ports;      /* that it listens on */
    unsigned n_ports;
    unsigned tenants; /* connections of the channel that are open */
};

/* What the host does for a keep besides files and sockets. Called in the thread that runs keep_run, while the keep
 * waits. A member that is NULL is something this host does not do. */
struct keep_services {
    void *ctx;
    /* Evidence over `report_data` into `out` (*n bytes), then endorsements, together *size bytes, `room` at most. */
    bool (*evidence)(void *ctx, const uint8_t report_data[64], uint8_t *out, uint32_t room, uint32_t *n,
                     uint32_t *size);
    /* Asks a steward (enum gate_steward), without waiting for it: a descriptor that is readable once the answer is
     * there, or that there will be none. -1: it cannot be asked. */
    int (*steward)(void *ctx, const char *url, unsigned which, const uint8_t *body, uint32_t body_size);
    /* That answer, once it is there: HTTP status, and `*size` bytes of body into `out`, `room` at most. False: none. */
    bool (*steward_answer)(void *ctx, int fd, uint8_t *out, uint32_t room, uint32_t *status, uint32_t *size);
    /* Closes the descriptor, whether the answer was had or nobody wants it any more. */
    void (*steward_end)(void *ctx, int fd);
    /* Something of a deployed keep's status has changed. */
    void (*changed)(void *ctx, const struct keep_status *status);
};

/* A keep that another thread may end: zeroed at first. */
struct keep_control {
    pthread_mutex_t lock; /* zeroed: PTHREAD_MUTEX_INITIALIZER */
    bool stopped;
    void *keep, *backend;
};
void keep_stop(struct keep_control *control); /* now, or as soon as there is one */

struct keep_options {
    /* What to run: the workload's configuration (complete: arguments, environment, files, mounts, limits; checked by
     * config's own code before) and the module's bytes. Both are copied before keep_run builds anything. */
    const struct config *config;
    const void *wasm;
    size_t wasm_size;
    /* The module compiled ahead of time (donjon_module_compile), or NULL; and the module's digest that this was done
     * with. The keep believes it: whoever calls must know that it is his own engine's work. Where it does not fit,
     * functions are compiled as they are called. */
    const void *code;
    size_t code_size;
    const uint8_t *code_digest;
    const uint8_t *code_sha256; /* of the code itself: a keep in a virtual machine checks it before use */

    /* The descriptors behind the configuration's stdin, stdout and stderr files. Never closed, never made non-blocking.
     * -1: the program sees an empty input or a sink, as with /dev/null. */
    int stdio[3];

    bool profile;               /* write /tmp/perf-PID.map for the keep: what perf(1) wants to know of compiled code */
    const char *backend;        /* "process", "kvm"; NULL: the strongest that works on this machine */
    enum keep_strength require; /* refuse to build a weaker keep than this, whatever `backend` says */
    const char *warden; /* path of the warden; NULL: the environment's DONJON_WARDEN, else `donjon-warden` beside this
                           program, or `donjon-warden-tls` where the workload has TLS files or comes from a tenant */
    bool tenant;        /* no module: a tenant brings the workload, through the keep's channel */
    int channel;        /* with `tenant`: a listening stream socket; who connects there speaks with the warden */
    uint64_t memory;    /* with `tenant`: bytes that the keep may have; 0: as the configuration's limits have it */
    const struct keep_services *services; /* NULL: none */
    const struct reach *reach;            /* with `tenant`: how far it reaches into the network; NULL: anywhere */
    struct keep_control *control;         /* NULL: nobody will want to end it */
    bool lock;         /* lock this whole process in, for good, once the keep runs (kvm: the machine is in it). For
                          programs that do nothing afterwards but say how it ended */
    unsigned gdb_port; /* wait for gdb on this port of 127.0.0.1, with the warden stopped at its first instruction; 0:
                          none. Needs `debug`, and a backend that can */
    bool debug;        /* the warden's own standard error and its log records go to descriptor 2 */

    /* Called in the calling thread before the keep is built: which kind it will be, and what that protects from. NULL:
     * nobody wants to know. */
    void (*chosen)(void *ctx, const char *backend, const char *protects);

    /* Called in the calling thread when the program's first instruction comes next; NULL: nobody wants to know. The
     * bytes of module and code are not looked at any more from then on. */
    void (*ready)(void *ctx);
    void *ready_ctx; /* for both */
};

enum keep_outcome {
    KEEP_EXITED,   /* the program ended by itself: exit_code is its own (0..255); text is NULL */
    KEEP_TRAPPED,  /* a trap, or an exception nobody caught: exit_code 134; text is the report with its backtrace */
    KEEP_TIMEOUT,  /* the wall-time limit: exit_code 124; text says so, with the backtrace if there was one */
    KEEP_REFUSED,  /* the module or its configuration was refused before its first instruction: malformed, invalid,
                    * unknown  imports, no _start, a limit too small ...; exit_code 125; text says what, where, expected,
                    * found */
    KEEP_FAILED,   /* our side: no such backend, warden missing, a directory or address of the configuration cannot be
                    * opened,   the keep died; exit_code 125; text says which */
    KEEP_SIGNALLED /* the keep ended as an ordinary program would by a signal: exit_code 128 + signal. SIGPIPE when the
                    * reader of its stdout or stderr has gone (text is NULL: stay quiet and raise the signal), or a
                    * signal sent to it */
};

struct keep_result {
    enum keep_outcome outcome;
    int exit_code;        /* what a command line should exit with */
    int signal;           /* KEEP_SIGNALLED: which */
    char *text;           /* one or more lines without a trailing newline, for standard error; NULL: nothing to say */
    const char *backend;  /* the name of the backend that was used; static */
    const char *protects; /* and what it protects from; static */
    uint64_t host_calls;  /* requests served */
    uint64_t ready_ns;    /* from the call of keep_run to the program's first instruction; 0 if it came not so far */
};

/* Runs one keep. Always fills `result`. */
void keep_run(const struct keep_options *options, struct keep_result *result);
void keep_result_free(struct keep_result *result);

/* "exited", "trapped", ... : for --json. */
const char *keep_outcome_name(enum keep_outcome outcome);

/* What this machine can do, for `donjon platform info`: the n-th backend from the strongest to the weakest; NULL after
 * the last. `missing` gets why it cannot run here, empty when it can. */
const char *keep_backend(unsigned n, char missing[256]);

#endif
