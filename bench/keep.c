/* What a keep costs: starting one, a small call through the gate, bulk data through it.
 *
 *     bench-keep [STARTS [BACKEND]]
 *
 * Each start is compared, in one run, with starting an empty static program. */
#define _GNU_SOURCE
#include "config/config.h"
#include "gate/host.h"
#include "loader/loader.h"
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* (func (export "_start")) */
static const uint8_t nothing[] = {0, 'a', 's', 'm', 1,   0,   0,   0,   1,   4,   1, 0x60, 0,  0, 3, 2, 1, 0,
                                  7, 10,  1,   6,   '_', 's', 't', 'a', 'r', 't', 0, 0,    10, 4, 1, 2, 0, 0x0b};

/* An I/O vector {64, SIZE} at 0 and COUNT calls of fd_read or fd_write on FD. */
static size_t io_loop(uint8_t *out, bool write, uint8_t fd, uint32_t size, uint32_t count) {
    static const uint8_t head[] = {0,    'a', 's', 'm',  1, 0,    0,    0,    1,    12, 2,
                                   0x60, 0,   0,   0x60, 4, 0x7f, 0x7f, 0x7f, 0x7f, 1,  0x7f};
    static const char module[] = "wasi_snapshot_preview1";
    size_t n = sizeof head;
    memcpy(out, head, n);
    const char *name = write ? "fd_write" : "fd_read";
    size_t name_len = strlen(name);
    out[n++] = 2;
    out[n++] = (uint8_t)(1 + 1 + 22 + 1 + name_len + 2);
    out[n++] = 1;
    out[n++] = 22;
    memcpy(out + n, module, 22);
    n += 22;
    out[n++] = (uint8_t)name_len;
    memcpy(out + n, name, name_len);
    n += name_len;
    static const uint8_t middle[] = {0,   1,   3,   2,   1,   0, 5, 3, 1,   0,   2,   7,   19,  2,   6, '_',
                                     's', 't', 'a', 'r', 't', 0, 1, 6, 'm', 'e', 'm', 'o', 'r', 'y', 2, 0};
    memcpy(out + n, middle, sizeof middle);
    n += sizeof middle;
    uint8_t code[] = {10,   37,   1,    35, 1,    1,    0x7f, 0x41, 0x80, 0x80, 0x80, 0x80, 0,
                      0x21, 0, /* local 0 = count (patched) */
                      0x03, 0x40, 0x41, fd, 0x41, 0,    0x41, 1,    0x41, 8,    0x10, 0,    0x1a, /* loop: call, drop */
                      0x20, 0,    0x41, 1,  0x6b, 0x22, 0,    0x0d, 0,    0x0b, 0x0b};            /* until 0 */
    for (int i = 0; i < 5; i++)
        code[8 + i] = (uint8_t)((count >> 7 * i & 0x7f) | (i < 4 ? 0x80 : 0));
    memcpy(out + n, code, sizeof code);
    n += sizeof code;
    uint8_t data[] = {
        11, 14, 1, 0, 0x41, 0, 0x0b, 8, 64, 0, 0, 0, (uint8_t)size, (uint8_t)(size >> 8), (uint8_t)(size >> 16), 0};
    memcpy(out + n, data, sizeof data);
    return n + sizeof data;
}

static const char *backend = "process";
static struct keep_result result;

static void run(const uint8_t *wasm, size_t size, int in, int out) {
    struct config c;
    if (!config_init(&c)) exit(1);
    struct keep_options o = {.config = &c, .wasm = wasm, .wasm_size = size, .stdio = {in, out, -1}, .backend = backend};
    keep_result_free(&result);
    keep_run(&o, &result);
    config_free(&c);
    if (result.outcome == KEEP_EXITED) return;
    fprintf(stderr, "bench-keep: %s: %s\n", keep_outcome_name(result.outcome), result.text ? result.text : "");
    exit(1);
}

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void print(const char *what, uint64_t *ns, size_t n) {
    qsort(ns, n, sizeof *ns, by_value);
    printf("%-44s median %7.3f ms   best %7.3f ms\n", what, (double)ns[n / 2] / 1e6, (double)ns[0] / 1e6);
}

/* Whole processes: spawned and waited for. */
static uint64_t spawn_ns(char *const argv[]) {
    static char *const envp[] = {NULL};
    uint64_t begin = gate_now_ns();
    pid_t pid;
    int status;
    if (posix_spawn(&pid, argv[0], NULL, NULL, argv, envp) != 0) return 0;
    waitpid(pid, &status, 0);
    return gate_now_ns() - begin;
}

static void starts(size_t n, const char *dir) {
    char empty[600], donjon[600], module[] = "/tmp/bench-keep-XXXXXX", verb[] = "run", option[] = "--backend", name[16];
    snprintf(name, sizeof name, "%s", backend);
    snprintf(empty, sizeof empty, "%s/bench-empty", dir);
    snprintf(donjon, sizeof donjon, "%s/donjon", dir);
    int fd = mkstemp(module);
    if (fd < 0 || write(fd, nothing, sizeof nothing) != sizeof nothing) exit(1);
    close(fd);
    char *const run_empty[] = {empty, NULL}, *const run_donjon[] = {donjon, verb, option, name, module, NULL};
    uint64_t *a = calloc(n, sizeof *a), *b = calloc(n, sizeof *b), *c = calloc(n, sizeof *c);
    for (size_t i = 0; i < n; i++) {
        a[i] = spawn_ns(run_empty);
        b[i] = spawn_ns(run_donjon);
        run(nothing, sizeof nothing, -1, -1);
        c[i] = result.ready_ns;
    }
    print("empty static program, start to end", a, n);
    print("donjon run, start to end", b, n);
    print("keep_run, call to first wasm instruction", c, n);
    unlink(module);
    free(a);
    free(b);
    free(c);
}

static void io(const char *what, bool write, uint32_t size, uint32_t count, const char *path) {
    uint8_t wasm[512];
    int fd = open(path, O_RDWR);
    size_t n = io_loop(wasm, write, write ? 1 : 0, size, count);
    uint64_t begin = gate_now_ns();
    run(wasm, n, write ? -1 : fd, write ? fd : -1);
    double seconds = (double)(gate_now_ns() - begin) / 1e9;
    close(fd);
    if (size < 4096)
        printf("%-44s %7.2f us a call\n", what, seconds / count * 1e6);
    else
        printf("%-44s %7.2f GiB/s\n", what, (double)size * count / (1 << 30) / seconds);
}

int main(int argc, char **argv) {
    char dir[512];
    ssize_t n = readlink("/proc/self/exe", dir, sizeof dir - 1);
    dir[n > 0 ? n : 0] = 0;
    *strrchr(dir, '/') = 0;
    if (argc > 2) backend = argv[2];
    starts(argc > 1 ? strtoul(argv[1], NULL, 10) : 200, dir);
    io("fd_write, 1 byte to /dev/null", true, 1, 300000, "/dev/null");
    io("fd_write, 65,536 bytes to /dev/null", true, 65536, 60000, "/dev/null");
    io("fd_read, 65,536 bytes from /dev/zero", false, 65536, 60000, "/dev/zero");
    return 0;
}
