/* Internal to src/wasi: the context, one call, and access to the guest's memory. */
#ifndef DONJON_WASI_CONTEXT_H
#define DONJON_WASI_CONTEXT_H

#include "wasi.h"
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "guest memory is little-endian and read as it is");

struct descriptor { /* file NULL: free */
    struct wasi_file *file;
    uint64_t rights, inheriting;
    uint64_t offset;
    uint16_t fdflags;
    char *preopen; /* the guest's name for a preopened directory, or NULL */
    uint32_t preopen_len;
};

struct strings { /* arguments or environment: NUL-terminated, one behind the other */
    char *bytes;
    uint32_t used, capacity, count;
};

enum { PREOPEN_FIRST = 3 }; /* after stdio: where guests begin to look */

struct wasi {
    struct wasi_host host;
    struct strings args, env;
    struct descriptor *fds;
    uint32_t fds_size;
    uint32_t preopens_end; /* past the highest preopen there was at the start */
    bool exited, interrupted;
    uint32_t exit_code;
    struct binding *bindings; /* link.c's, or NULL */
    /* Paths are copied out of the guest's memory before they are looked at. */
    char path[2][WASI_PATH_MAX];
    struct wasi_iov iov[WASI_IOV_MAX];
};

#define WASI_EXIT 0x10001u /* a handler's answer: the program has ended itself */

struct call {
    struct wasi *w;
    enum wasi_abi abi;
    uint8_t *memory;
    uint64_t memory_size;
    const uint64_t *args;
};

/* ---- Guest memory. Every handler asks for all that it will touch before it changes anything. ---- */

/* The `len` bytes at guest address `ptr`, or NULL when they are not all there. Alignment is not required. */
static inline uint8_t *guest(const struct call *c, uint64_t ptr, uint64_t len) {
    if (!c->memory || ptr > c->memory_size || len > c->memory_size - ptr) return NULL;
    return c->memory + ptr;
}

static inline uint16_t load16(const uint8_t *p) {
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline uint32_t load32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline uint64_t load64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void store16(uint8_t *p, uint16_t v) {
    memcpy(p, &v, sizeof v);
}
static inline void store32(uint8_t *p, uint32_t v) {
    memcpy(p, &v, sizeof v);
}
static inline void store64(uint8_t *p, uint64_t v) {
    memcpy(p, &v, sizeof v);
}

/* Parameter `i` as the C type it has in WASI. */
static inline uint32_t arg32(const struct call *c, int i) {
    return (uint32_t)c->args[i];
}
static inline uint64_t arg64(const struct call *c, int i) {
    return c->args[i];
}

/* The guest's I/O vector of `count` entries at `ptr`, into w->iov: checked, without empty entries, cut to WASI_IOV_MAX
 * entries and WASI_IO_MAX bytes (a short read or write, as callers must expect anyway). */
wasi_errno guest_iov(struct call *c, uint32_t ptr, uint32_t count, uint32_t *n);

/* A path (pointer and length are parameters `i` and `i + 1`), copied into w->path[which] and checked. */
wasi_errno guest_path(struct call *c, int i, int which, struct wasi_path *out);

/* The preview's `filestat`, FILESTAT_SIZE(abi) bytes. */
#define FILESTAT_SIZE(abi) ((abi) == WASI_ABI_UNSTABLE ? 56u : 64u)
void store_filestat(const struct call *c, uint8_t *p, const struct wasi_filestat *st);

/* Times of fd_filestat_set_times and path_filestat_set_times: parameters `i` (atim), `i + 1` (mtim), `i + 2` (flags).
 */
wasi_errno guest_times(struct call *c, int i, struct wasi_times *t);

/* ---- Descriptors ---- */

/* The open descriptor of that number if it has all of `rights`: WASI_EBADF or WASI_ENOTCAPABLE otherwise. */
wasi_errno fd_get(struct wasi *w, uint32_t fd, uint64_t rights, struct descriptor **out);

/* Makes sure that one more descriptor can be made: WASI_EMFILE, WASI_ENOMEM. Pointers to descriptors become invalid. */
wasi_errno fd_reserve(struct wasi *w, uint32_t *fd);
void fd_install(struct wasi *w, uint32_t fd, struct wasi_file *f, uint64_t rights, uint64_t inheriting,
                uint16_t fdflags);
void fd_release(struct wasi *w, struct descriptor *d);

static inline bool is_seekable(const struct wasi_file *f) {
    return f->ops->read_at || f->ops->write_at;
}

/* ---- Handlers: one for each of WASI's functions, named as there ---- */
#define WASI_FUNCTION(name, params, preview1_only) wasi_errno call_##name(struct call *c);
#include "functions.h"
#undef WASI_FUNCTION

#endif
