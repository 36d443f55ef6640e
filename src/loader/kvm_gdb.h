/* A debugger's view of the warden in a kvm keep: the GDB Remote Serial Protocol (GDB's manual, appendix E) on a
 * loopback port. The shim stops and says so; memory is read and written in the machine's own, through its page tables.
 * Threads: the one that stopped is the only one shown. */
#ifndef DONJON_LOADER_KVM_GDB_H
#define DONJON_LOADER_KVM_GDB_H

#include "kvm_vm.h"
#include <pthread.h>

struct gdb {
    int listener, conn; /* -1: none */
    int wake[2];        /* a pipe: ends the watching thread */
    pthread_t thread;
    bool watching;
    _Atomic bool running;      /* the warden runs: what comes now is a wish to stop it */
    void (*interrupt)(void *); /* makes the virtual CPU look at `attention` */
    void *ctx;
    struct vm *vm;
    uint64_t cr3;
    struct shim_stop stop;
    bool detached, no_ack;
};

/* Listens on 127.0.0.1. False: the port cannot be had (errno). `interrupt` may be called from another thread. */
bool gdb_open(struct gdb *g, unsigned port, struct vm *vm, uint64_t cr3, void (*interrupt)(void *), void *ctx);

/* The warden has stopped (struct shim_stop is in the transfer buffer): serves the debugger until it wants to go on.
 * Ends early when `end` becomes readable or hangs up. False: the debugger wants the keep killed. */
bool gdb_serve(struct gdb *g, int end);

void gdb_close(struct gdb *g);

#endif
