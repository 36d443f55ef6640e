/* A backend: how a keep is built on a machine. A small struct of functions, one static instance per kind of keep;
 * loader.c goes through them in this order:
 *
 *     probe -> start -> serve until the keep has reported or died -> wait (or kill, then wait)
 *
 * Whatever the backend, the keep sees the same three things: the gate's shared block, a doorbell, and the boot image.
 */
#ifndef DONJON_LOADER_BACKEND_H
#define DONJON_LOADER_BACKEND_H

#include "../gate/gate.h"
#include "../gate/host.h"
#include "loader.h"

struct server; /* serve.h: the host's side of the operations */

/* What a keep is started with. */
struct keep_image {
    const char *warden; /* path of the warden's binary */
    int boot_fd;        /* the boot image (gate.h) as a memfd, its position at the start */
    size_t boot_size;
    size_t code_size;           /* of it at the end: compiled code; 0: none */
    const uint8_t *code_sha256; /* its digest */
    uint64_t memory_limit;      /* bytes the keep's host process may have as writable memory; 0 unlimited */
    unsigned cpus;              /* that the keep may use */
    bool debug;                 /* the warden's standard error is ours */
    unsigned gdb_port;          /* wait for a debugger on this port of 127.0.0.1; 0: none. With `debug` only */
};

/* How a keep's host process ended. */
struct keep_end {
    bool signalled;
    bool out_of_memory; /* killed by the limit on its memory */
    int code;           /* exit status or signal number */
    bool wrong_mode;    /* kvm: this machine's SYSCALL is of the other kind; it has not run */
    char reason[128];   /* why it died, where that is known better; else empty */
};

struct keep; /* each backend's own */

struct backend {
    const char *name;
    enum keep_strength strength;
    const char *protects; /* one line: what the workload is protected from, for `donjon platform info` and `run` */

    /* Whether a keep can be built here: true, or false with the reason in `missing`. Must be cheap (< 100 us). */
    bool (*probe)(char *missing, size_t size);

    /* Builds the keep around an initialised shared block and lets it run. NULL with the reason in `error`. */
    struct keep *(*start)(const struct keep_image *image, char *error, size_t size);

    /* Serves the keep's requests until it reports its end (GATE_EXIT), dies, or the server stops it. True after a
     * report. */
    bool (*serve)(struct keep *k, struct server *server);

    bool gdb; /* keep_image.gdb_port works */

    bool in_process; /* the keep lives in this process, which is therefore worth locking in */

    /* Waits for the keep's end, frees everything. To be called exactly once for every started keep. */
    struct keep_end (*wait)(struct keep *k);

    /* The process in which the keep's code runs, for profilers; NULL: there is none on this machine that could be seen.
     */
    int (*pid)(const struct keep *k);

    /* Ends the keep now, from any thread, at any time before `wait`. */
    void (*kill)(struct keep *k);
};

extern const struct backend backend_process;
#if defined __x86_64__
extern const struct backend backend_kvm;
#endif

#endif
