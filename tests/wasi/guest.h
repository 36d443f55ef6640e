/* A guest without an engine: linear memory, a context, a clock that only moves when somebody waits, and calls by name.
 */
#ifndef DONJON_TESTS_WASI_GUEST_H
#define DONJON_TESTS_WASI_GUEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "wasi/memfs.h"

enum { MEMORY = 1 << 18, SCRATCH = 1024, STRINGS = 4096 };

struct guest {
    struct wasi *w;
    struct memfs *fs;
    enum wasi_abi abi;
    uint8_t memory[MEMORY];
    uint32_t next_string;
    uint64_t now;      /* all clocks */
    uint64_t slept;    /* how long the poll callback has waited altogether */
    uint64_t wakes_at; /* the time at which `wakes_token` becomes ready */
    uint64_t wakes_token;
    int polls;
    size_t allocated; /* blocks */
    char traced[WASI_TRACE_MAX];
};

/* Calls a function by name; parameters as they are in wasm. The errno, or 0x10000 + enum wasi_call_result. */
static inline uint32_t call(struct guest *g, const char *name, ...) {
    int index = wasi_function_find(g->abi, name, strlen(name));
    assert_true(index >= 0);
    uint64_t args[WASI_PARAMS_MAX];
    va_list ap;
    va_start(ap, name);
    int n = 0;
    for (const char *p = wasi_functions[index].params; *p; p++) {
        if (*p == 'I') {
            args[n++] = va_arg(ap, uint64_t);
            continue;
        }
        args[n++] = va_arg(ap, uint32_t);
        if (*p == 's' || *p == 'v') args[n++] = va_arg(ap, uint32_t);
    }
    va_end(ap);
    uint32_t result = 0;
    enum wasi_call_result r = wasi_call(g->w, g->abi, (uint32_t)index, g->memory, MEMORY, args, &result);
    return r == WASI_CALL_RETURN ? result : 0x10000u + r;
}

static inline uint32_t put(struct guest *g, const void *bytes, uint32_t len) {
    if (g->next_string + len > MEMORY) g->next_string = STRINGS;
    uint32_t at = g->next_string;
    memcpy(g->memory + at, bytes, len);
    g->next_string += len;
    return at;
}
/* A string as the two parameters it takes. */
#define S(text)        put(g, text, (uint32_t)strlen(text)), (uint32_t)strlen(text)
#define SN(bytes, len) put(g, bytes, (uint32_t)(len)), (uint32_t)(len)

static inline uint32_t u32_at(const struct guest *g, uint32_t at) {
    uint32_t v;
    memcpy(&v, g->memory + at, 4);
    return v;
}
static inline uint64_t u64_at(const struct guest *g, uint32_t at) {
    uint64_t v;
    memcpy(&v, g->memory + at, 8);
    return v;
}
static inline void put_u16(struct guest *g, uint32_t at, uint16_t v) {
    memcpy(g->memory + at, &v, 2);
}
static inline void put_u32(struct guest *g, uint32_t at, uint32_t v) {
    memcpy(g->memory + at, &v, 4);
}
static inline void put_u64(struct guest *g, uint32_t at, uint64_t v) {
    memcpy(g->memory + at, &v, 8);
}

/* Opens with all rights; the descriptor, or -errno. */
static inline int open_at(struct guest *g, uint32_t dir, const char *path, uint32_t oflags, uint32_t fdflags) {
    uint64_t rights = oflags & WASI_OFLAG_DIRECTORY ? WASI_RIGHTS_DIR : WASI_RIGHTS_FILE;
    uint32_t e = call(g, "path_open", dir, 1u, S(path), oflags, rights, (uint64_t)WASI_RIGHTS_DIR | WASI_RIGHTS_FILE,
                      fdflags, (uint32_t)SCRATCH);
    return e ? -(int)e : (int)u32_at(g, SCRATCH);
}

static inline int open_dir(struct guest *g, uint32_t dir, const char *path) {
    return open_at(g, dir, path, WASI_OFLAG_DIRECTORY, 0);
}

static inline uint32_t make_dir(struct guest *g, uint32_t dir, const char *path) {
    return call(g, "path_create_directory", dir, S(path));
}
static inline uint32_t symlink_at(struct guest *g, const char *target, uint32_t dir, const char *path) {
    return call(g, "path_symlink", S(target), dir, S(path));
}
static inline uint32_t close_fd(struct guest *g, int fd) {
    return call(g, "fd_close", (uint32_t)fd);
}

static inline uint32_t touch(struct guest *g, uint32_t dir, const char *path) {
    int fd = open_at(g, dir, path, WASI_OFLAG_CREAT, 0);
    return fd < 0 ? (uint32_t)-fd : close_fd(g, fd);
}

/* Reads or writes through one entry; bytes moved, or -errno. */
static inline int io(struct guest *g, const char *name, int fd, uint32_t buf, uint32_t len) {
    put_u32(g, SCRATCH, buf);
    put_u32(g, SCRATCH + 4, len);
    uint32_t e = call(g, name, (uint32_t)fd, (uint32_t)SCRATCH, 1u, (uint32_t)SCRATCH + 8);
    return e ? -(int)e : (int)u32_at(g, SCRATCH + 8);
}
static inline int write_text(struct guest *g, int fd, const char *text) {
    uint32_t len = (uint32_t)strlen(text);
    return io(g, "fd_write", fd, put(g, text, len), len);
}
static inline int read_into(struct guest *g, int fd, char *out, uint32_t len) {
    uint32_t at = 200 << 10;
    int n = io(g, "fd_read", fd, at, len);
    if (n > 0) memcpy(out, g->memory + at, (size_t)n);
    return n;
}
static inline int64_t seek(struct guest *g, int fd, int64_t by, uint32_t whence) {
    uint32_t e = call(g, "fd_seek", (uint32_t)fd, (uint64_t)by, whence, (uint32_t)SCRATCH);
    return e ? -(int64_t)e : (int64_t)u64_at(g, SCRATCH);
}

/* size, nlink, type, ino by path without following; errno. */
static inline uint32_t stat_at(struct guest *g, uint32_t dir, const char *path, uint32_t follow) {
    return call(g, "path_filestat_get", dir, follow, S(path), (uint32_t)SCRATCH);
}
static inline uint64_t stat_ino(const struct guest *g) {
    return u64_at(g, SCRATCH + 8);
}
static inline uint8_t stat_type(const struct guest *g) {
    return g->memory[SCRATCH + 16];
}
static inline uint64_t stat_nlink(const struct guest *g) {
    return u64_at(g, SCRATCH + 24);
}
static inline uint64_t stat_size(const struct guest *g) {
    return u64_at(g, SCRATCH + 32);
}

struct guest *
guest_new(const struct memfs_limits *limits); /* preopen 3 is "/", an empty memfs; 0 to 2 are null files */
void guest_delete(struct guest *g);           /* fails the test if memory is left behind */
struct wasi_host guest_host(struct guest *g);

#endif
