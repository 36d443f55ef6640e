/* WASI preview 1 (and preview 0, `wasi_unstable`) for one instance of a program.
 *
 * A `struct wasi` is what the program sees of the world: arguments, environment, a table of descriptors, clocks and
 * entropy. It makes no operating system call: everything comes from `struct wasi_host` and from the files put into the
 * table (file.h). One thread at a time, but for wasi_interrupt's sake see WASI_INTERRUPTED in file.h.
 *
 *     struct wasi *w = wasi_new(&host);
 *     wasi_add_arg(w, "app", 3); wasi_add_env(w, "HOME=/", 6);
 *     wasi_add_file(w, 0, stdin_file, WASI_RIGHTS_STREAM & ~WASI_RIGHT_FD_WRITE, 0);
 *     wasi_add_preopen(w, root, "/", WASI_RIGHTS_DIR, WASI_RIGHTS_DIR | WASI_RIGHTS_FILE);
 *     ... link it (link.h), run _start ...
 *     if (wasi_exited(w, &code)) ...
 *     wasi_delete(w); */
#ifndef DONJON_WASI_WASI_H
#define DONJON_WASI_WASI_H

#include "file.h"

enum wasi_clock {
    WASI_CLOCK_REALTIME,
    WASI_CLOCK_MONOTONIC,
    WASI_CLOCK_PROCESS_CPUTIME,
    WASI_CLOCK_THREAD_CPUTIME,
    WASI_CLOCK_COUNT
};

#define WASI_FOREVER UINT64_MAX

/* What the context asks of the warden. `ctx` comes back as first argument. All are needed but `yield` and `trace`. */
struct wasi_host {
    void *ctx;

    /* As realloc: size 0 frees and gives NULL; NULL on failure leaves the block as it was. */
    void *(*realloc)(void *ctx, void *block, size_t size);

    /* Nanoseconds (since 1970 for REALTIME); WASI_EINVAL for a clock there is not. Resolution is never 0. */
    wasi_errno (*clock_time)(void *ctx, enum wasi_clock id, uint64_t *ns);
    wasi_errno (*clock_resolution)(void *ctx, enum wasi_clock id, uint64_t *ns);

    /* Fills `buf` with cryptographically strong random bytes. */
    wasi_errno (*random)(void *ctx, void *buf, size_t len);

    /* Waits until one of `n` items is ready or `timeout` nanoseconds are over (WASI_FOREVER: no timeout; 0: only look),
     * sets `ready` and the other answers in every item that is ready, and comes back. With n == 0 it sleeps.
     * Coming back early with nothing ready is allowed: the caller looks at its clock and waits again.
     * WASI_INTERRUPTED stops the program. */
    wasi_errno (*poll)(void *ctx, struct wasi_poll *items, size_t n, uint64_t timeout);

    /* sched_yield; NULL: nothing to do. WASI_SUCCESS or WASI_INTERRUPTED. */
    wasi_errno (*yield)(void *ctx);

    /* Called before each WASI call: what else is to be looked after. NULL: nothing. */
    void (*turn)(void *ctx);

    /* Called after each WASI call with one line, NUL-terminated, without newline: `path_open(3, 1, "etc/hosts", ...) =
     * 0`. NULL: no tracing (and no cost). Names and paths of the program appear in it; data does not. */
    void (*trace)(void *ctx, const char *line);
};

/* Bounds of one context. */
#define WASI_FD_MAX   65536u      /* descriptors open at once; the table grows as needed */
#define WASI_ARGS_MAX (16u << 20) /* bytes of arguments with their NULs; likewise of the environment */
#define WASI_ARGC_MAX 65536u      /* number of arguments; likewise of variables */

struct wasi;

/* NULL: out of memory. `host` is copied. */
struct wasi *wasi_new(const struct wasi_host *host);
/* Closes every descriptor and frees everything. NULL is fine. */
void wasi_delete(struct wasi *w);

/* One more argument (the first is argv[0]) or variable ("NAME=value"). Bytes are copied; they must not hold a NUL.
 * WASI_SUCCESS, WASI_EINVAL (NUL; a variable without `=` or with an empty name), WASI_E2BIG, WASI_ENOMEM. */
wasi_errno wasi_add_arg(struct wasi *w, const char *bytes, size_t len);
wasi_errno wasi_add_env(struct wasi *w, const char *bytes, size_t len);

/* Puts `f` at descriptor `fd`, which must be free (WASI_EEXIST) and below WASI_FD_MAX (WASI_EMFILE). The reference is
 * taken over, on failure too. `rights` is cut to f->rights; `inheriting` matters for directories and listening sockets.
 * `fdflags` are initial flags (a socket configured as nonblocking). */
wasi_errno wasi_add_file(struct wasi *w, uint32_t fd, struct wasi_file *f, uint64_t rights, uint64_t inheriting,
                         uint16_t fdflags);

/* Puts directory `dir` at the lowest free descriptor from 3 up, as a preopen that the guest sees under `guest_path`
 * ("/", "/data", "."; copied; 1..WASI_PATH_MAX bytes). The reference is taken over. `*fd` may be NULL. */
wasi_errno wasi_add_preopen(struct wasi *w, struct wasi_file *dir, const char *guest_path, uint64_t rights,
                            uint64_t inheriting, uint32_t *fd);

/* Did the program end itself (proc_exit, proc_raise)? Then a WASI call has given WASI_CALL_EXIT and the trap that came
 * out of the engine is no trap. `*code`: what proc_exit was given; 128 + signal for proc_raise. */
bool wasi_exited(const struct wasi *w, uint32_t *code);

/* Has a callback or a file answered WASI_INTERRUPTED? Then the trap that came out is only how the program was stopped.
 */
bool wasi_interrupted(const struct wasi *w);

/* ---- The functions themselves, without an engine: link.c is one user, the tests are another ---- */

enum wasi_abi { WASI_ABI_UNSTABLE, WASI_ABI_PREVIEW1 }; /* modules "wasi_unstable" and "wasi_snapshot_preview1" */

/* How a function's parameters are spelled, one letter each: */
struct wasi_function {
    const char *name;
    /* `i` i32, `I` i64, `f` i32 descriptor, `p` i32 pointer, `v` i32 pointer and i32 count of an I/O vector,
     * `s` i32 pointer and i32 length of a string, `o` i32 pointer to an i32 that is the answer. All but proc_exit (no
     * result) give an i32 errno. */
    const char *params;
    bool preview1_only; /* sock_accept */
};
#define WASI_FUNCTIONS  46
#define WASI_PARAMS_MAX 9 /* wasm parameters: path_open's */
#define WASI_TRACE_MAX  1024

extern const struct wasi_function wasi_functions[WASI_FUNCTIONS];

/* The ABI of an import's module name, or -1. */
int wasi_abi_of(const char *module, size_t len);
/* Index of a function by name in an ABI, or -1. */
int wasi_function_find(enum wasi_abi abi, const char *name, size_t len);

enum wasi_call_result {
    WASI_CALL_RETURN,     /* *result is the errno to give to the guest */
    WASI_CALL_EXIT,       /* the program ended itself: unwind, then see wasi_exited */
    WASI_CALL_INTERRUPTED /* unwind: the keep is being stopped */
};

/* Calls function `index` on a guest's linear memory. `args` are the wasm parameters, i32 zero-extended. The memory does
 * not move during the call; all pointers are checked completely before anything is changed. */
enum wasi_call_result wasi_call(struct wasi *w, enum wasi_abi abi, uint32_t index, uint8_t *memory,
                                uint64_t memory_size, const uint64_t *args, uint32_t *result);

#endif
