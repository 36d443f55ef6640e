/* The platform of an ordinary process. The only file of the engine that knows an operating system. */
#include "donjon/platform.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

static void *posix_realloc(void *ctx, void *block, size_t size) {
    (void)ctx;
    if (size) return realloc(block, size);
    free(block);
    return NULL;
}

static void *posix_reserve(void *ctx, size_t size) {
    (void)ctx;
    void *p = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static bool posix_protect(void *ctx, void *addr, size_t size, enum donjon_prot prot) {
    (void)ctx;
    if ((prot & DONJON_PROT_WRITE) && (prot & DONJON_PROT_EXEC)) return false;
    int p = (prot & DONJON_PROT_READ ? PROT_READ : 0) | (prot & DONJON_PROT_WRITE ? PROT_WRITE : 0) |
            (prot & DONJON_PROT_EXEC ? PROT_EXEC : 0);
    return mprotect(addr, size, p) == 0;
}

static void posix_release(void *ctx, void *addr, size_t size) {
    (void)ctx;
    munmap(addr, size);
}

static uint64_t posix_now(void *ctx) {
    (void)ctx;
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

const struct donjon_platform *donjon_platform_posix(void) {
    static const struct donjon_platform posix = {
        .realloc = posix_realloc,
        .reserve = posix_reserve,
        .protect = posix_protect,
        .release = posix_release,
        .now = posix_now,
    };
    return &posix;
}
