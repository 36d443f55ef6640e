/* The part of WASI that the programs of bench/src use, for a module that wasm2c made into C as module `b`. */
#include "b.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct Z_wasi_snapshot_preview1_instance_t {
    int argc;
    char **argv;
    Z_b_instance_t *b;
};
typedef struct Z_wasi_snapshot_preview1_instance_t *wasi;
#define WASI(name) Z_wasi_snapshot_preview1Z_##name
enum { SUCCESS = 0, BADF = 8, INVAL = 28, SPIPE = 70 };

static u8 *at(wasi w, u32 p) {
    return Z_bZ_memory(w->b)->data + p;
}
static void put32(wasi w, u32 p, u32 v) {
    memcpy(at(w, p), &v, 4);
}

u32 WASI(args_sizes_get)(wasi w, u32 argc, u32 size) {
    u32 n = 0;
    for (int i = 0; i < w->argc; i++)
        n += (u32)strlen(w->argv[i]) + 1;
    put32(w, argc, (u32)w->argc);
    put32(w, size, n);
    return SUCCESS;
}
u32 WASI(args_get)(wasi w, u32 argv, u32 text) {
    for (int i = 0; i < w->argc; i++) {
        put32(w, argv + 4 * (u32)i, text);
        memcpy(at(w, text), w->argv[i], strlen(w->argv[i]) + 1);
        text += (u32)strlen(w->argv[i]) + 1;
    }
    return SUCCESS;
}
u32 WASI(environ_sizes_get)(wasi w, u32 count, u32 size) {
    put32(w, count, 0);
    put32(w, size, 0);
    return SUCCESS;
}
u32 WASI(environ_get)(wasi w, u32 env, u32 text) {
    (void)w, (void)env, (void)text;
    return SUCCESS;
}
u32 WASI(clock_time_get)(wasi w, u32 clock, u64 precision, u32 out) {
    static const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID};
    struct timespec t;
    (void)precision;
    if (clock > 2 || clock_gettime(clocks[clock], &t) != 0) return INVAL;
    u64 ns = (u64)t.tv_sec * 1000000000u + (u64)t.tv_nsec;
    memcpy(at(w, out), &ns, 8);
    return SUCCESS;
}
u32 WASI(fd_write)(wasi w, u32 fd, u32 vectors, u32 n, u32 out) {
    u32 total = 0, v[2];
    for (u32 i = 0; i < n; i++) {
        memcpy(v, at(w, vectors + 8 * i), 8);
        ssize_t wrote = write((int)fd, at(w, v[0]), v[1]);
        if (wrote < 0) return BADF;
        total += (u32)wrote;
    }
    put32(w, out, total);
    return SUCCESS;
}
u32 WASI(fd_fdstat_get)(wasi w, u32 fd, u32 out) {
    memset(at(w, out), 0, 24);
    *at(w, out) = 2; /* a character device */
    return fd > 2 ? BADF : SUCCESS;
}
/* Which of these a module imports depends on the program. */
u32 WASI(fd_close)(wasi w, u32 fd) {
    (void)w, (void)fd;
    return BADF;
}
u32 WASI(fd_read)(wasi w, u32 fd, u32 vectors, u32 n, u32 out) {
    (void)w, (void)fd, (void)vectors, (void)n, (void)out;
    return BADF;
}
u32 WASI(fd_seek)(wasi w, u32 fd, u64 offset, u32 whence, u32 out) {
    (void)w, (void)fd, (void)offset, (void)whence, (void)out;
    return SPIPE;
}
void WASI(proc_exit)(wasi w, u32 code) {
    (void)w;
    fflush(stdout);
    _exit((int)code);
}

int main(int argc, char **argv) {
    static Z_b_instance_t b;
    static struct Z_wasi_snapshot_preview1_instance_t w;
    w.argc = argc;
    w.argv = argv;
    w.b = &b;
    wasm_rt_init();
    Z_b_init_module();
    Z_b_instantiate(&b, &w);
    Z_bZ__start(&b);
    return 0;
}
