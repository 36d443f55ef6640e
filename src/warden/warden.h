/* The warden: what its parts share. One keep, one warden, one workload; so its state is one static struct. */
#ifndef DONJON_WARDEN_H
#define DONJON_WARDEN_H

#include "../config/config.h"
#include "conn.h"

/* What the keep was started with: read once, in the keep's own memory. */
struct boot {
    struct config config;
    uint8_t *module;
    size_t module_size;
    uint8_t *code; /* the module, compiled; NULL: there is none */
    size_t code_size;
    uint8_t digest[32];
    uint32_t flags; /* enum boot_flags */
};

struct warden {
    struct gate gate;
    struct gate_files files;
    struct boot boot;
    _Atomic bool stop;         /* wall time is over: set by the timer's signal handler */
    _Atomic uint64_t renew_at; /* nanoseconds of CLOCK_MONOTONIC: the certificate wants to be looked at; 0: none does */
    bool tenant;               /* the workload came through the channel: BOOT_TENANT */
    uint8_t workload[32];      /* its digest: tenant.c's or tls.c's; zeros in keeps without an identity */
};

/* boot.c: reads the boot image from GATE_FD_BOOT to its end and closes it. False with the reason in `error`. */
bool boot_read(struct boot *boot, char *error, size_t size);

/* host.c: what src/wasi asks of its surroundings. */
struct wasi_host warden_host(struct warden *w);

/* network.c: the program's connections. To be started before anything below. */
void network_start(struct warden *w);
struct conns *network(void);
uint64_t network_now(void *ctx); /* nanoseconds of CLOCK_MONOTONIC; `ctx` is for nothing */
/* A plain socket of the configuration, which has `handle`. NULL: out of memory. */
struct wasi_file *network_file(struct warden *w, uint32_t handle, bool listening);
/* At the program's end: sends what it wrote. */
void network_finish(struct warden *w);

/* run.c: loads, links and runs the workload. Does not come back: it ends in report_exit. */
_Noreturn void run(struct warden *w);

/* put.c: a file below `root`, an in-memory directory, with the directories on its way; "run/x/y". Replaces what is
 * there. */
wasi_errno put_file(struct wasi_file *root, const char *path, const void *content, size_t size);

/* import.c: what the program may import from "donjon". False: out of memory. */
struct donjon_linker;
bool import_link(struct warden *w, struct donjon_linker *linker);

/* report.c: one line for whoever watches in debug mode; nothing otherwise. */
void report_log(struct warden *w, const char *line);

/* report.c: the keep's last words. `text` may be cut to GATE_MAX_REPORT bytes. */
struct report {
    size_t len;
    char text[GATE_MAX_REPORT];
};
void report_line(void *report, const char *line); /* adds a line; shaped for donjon_trap_print */
__attribute__((format(printf, 2, 3))) void report_format(struct report *r, const char *format, ...);
_Noreturn void report_exit(struct warden *w, enum gate_exit kind, uint32_t status, const struct report *r);
/* One line, kind and no status. */
_Noreturn __attribute__((format(printf, 3, 4))) void report_failure(struct warden *w, enum gate_exit kind,
                                                                    const char *format, ...);

/* ---- what only donjon-warden-tls can do; donjon-warden links without.c in its place, which refuses ---- */

/* tls.c: makes OpenSSL ready, in the sealed warden, from in-keep entropy alone; the keep's certificate, and what each
 * TLS file needs. To be called when config_uses_tls, before `run`. */
void tls_start(struct warden *w);
/* tls.c: OpenSSL alone. */
void tls_openssl(struct warden *w);
/* tls.c: the configuration's file `number`, listen or connect with prot = "tls": TLS over the socket `handle`. NULL:
 * out of memory. */
struct wasi_file *tls_file(struct warden *w, uint32_t number, uint32_t handle, const struct config_file *f);
/* tls.c: after each wait at the gate. Without TLS: nothing. */
void tls_waited(struct warden *w);
/* tls.c: before a call of the program's: renews the certificate when it is time. Without TLS: nothing. */
void tls_turn(struct warden *w);
/* tls.c: the same in the midst of its computing. */
void tls_look(struct warden *w);
/* tls.c: the keep's certificate and evidence, as files in /run/donjon of the in-memory root. Without TLS: nothing. */
wasi_errno tls_show_identity(struct warden *w, struct wasi_file *root);
/* tls.c: evidence over 64 bytes of the program's, in its wrapper: *size bytes, also when they are more than `capacity`
 * (WASI_EOVERFLOW). WASI_ENOTSUP: there is none in this keep. */
wasi_errno self_evidence(struct warden *w, const uint8_t bytes[64], uint8_t *out, uint32_t capacity, uint32_t *size);
/* tls.c: at the program's end. Without TLS: nothing. */
void tls_finish(struct warden *w);
/* tenant.c: BOOT_TENANT. Waits for a tenant and puts what he delivers into w->boot and w->workload. */
void tenant_receive(struct warden *w);
/* tenant.c, where w->tenant: the program's stdin, stdout or stderr. NULL: out of memory. */
struct wasi_file *tenant_stream(struct warden *w, enum config_file_kind kind);
/* The host's socket for a listen or connect file, into *handle. A gate error. */
uint32_t tenant_socket(struct warden *w, const struct config_file *f, uint32_t *handle);
/* Files and secrets that were delivered, into the program's root; secrets into its environment. The delivered copies
 * are zeroed. */
wasi_errno tenant_fill(struct warden *w, struct wasi *wasi, struct wasi_file *root);
/* Looks after the channel, before each of the program's calls; cheap where nothing has come. */
void tenant_turn(void *warden);
/* The same while the program computes (donjon_store_set_attend): time.c has seen that something has come, or that time
 * is over. False: it is. */
bool tenant_attend(void *warden);
/* The program's world is complete and its first instruction comes next: tells a tenant who has detached. */
void tenant_running(struct warden *w);
/* The program has ended: tells the tenants, and stays a while for their sake. `text` is for them alone. */
void tenant_ended(struct warden *w, enum gate_exit kind, uint32_t status, const struct report *text);

/* time.c: the wall-time limit. The handler is put in place before the seal, the time set after it. */
bool timer_prepare(struct warden *w);
bool timer_start(uint64_t wall_ns);
/* From now on the engine is interrupted, too, when the host has raised the gate's attention word. */
bool timer_look(void);
void timer_end(void);
/* Whom the timer interrupts besides the gate; NULL: nobody. */
struct wasm_store_t;
void timer_interrupts(struct wasm_store_t *store);

#endif
