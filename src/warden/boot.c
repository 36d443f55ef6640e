#define _GNU_SOURCE
#include "../config/config_wire.h"
#include "warden.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Exactly `size` bytes. */
static bool read_exactly(void *to, size_t size) {
    uint8_t *p = to;
    while (size > 0) {
        ssize_t n = read(GATE_FD_BOOT, p, size);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        p += n;
        size -= (size_t)n;
    }
    return true;
}

/* In large pages, where there are some: most of the time of reading much is page faults. */
static void *allocate(size_t size) {
    enum { HUGE = 2 << 20 };
    if (size < 2 * HUGE) return malloc(size);
    size_t whole = (size + HUGE - 1) & ~(size_t)(HUGE - 1);
    void *p = aligned_alloc(HUGE, whole);
    if (p) madvise(p, whole, MADV_HUGEPAGE);
    return p;
}

static const char *header_wrong(const struct boot_header *h) {
    if (h->magic != BOOT_MAGIC) return "not a boot image";
    if (h->version != GATE_VERSION) return "a boot image of another version";
    if (h->flags & ~(uint32_t)BOOT_FLAGS_ALL) return "unknown flags";
    if (h->config_size > BOOT_MAX_CONFIG) return "configuration too large";
    if (h->module_size > BOOT_MAX_MODULE) return "module too large";
    if (h->code_size > BOOT_MAX_CODE) return "compiled code too large";
    return NULL;
}

bool boot_read(struct boot *boot, char *error, size_t size) {
    struct boot_header head;
    memset(boot, 0, sizeof *boot);
    const char *wrong = read_exactly(&head, sizeof head) ? header_wrong(&head) : "no boot image";
    if (wrong) {
        snprintf(error, size, "boot image: %s", wrong);
        return false;
    }
    uint8_t *wire = malloc(head.config_size + 1);
    boot->module = allocate(head.module_size + 1);
    boot->module_size = head.module_size;
    boot->code = head.code_size ? allocate(head.code_size) : NULL;
    boot->code_size = head.code_size;
    memcpy(boot->digest, head.digest, sizeof boot->digest);
    boot->flags = head.flags;
    struct config_error config_error;
    uint8_t more;
    bool ok = false;
    if (!wire || !boot->module || (head.code_size && !boot->code))
        snprintf(error, size, "boot image: out of memory for %llu bytes",
                 (unsigned long long)(head.module_size + head.code_size));
    else if (!read_exactly(wire, head.config_size) || !read_exactly(boot->module, head.module_size) ||
             !read_exactly(boot->code, head.code_size))
        snprintf(error, size, "boot image: shorter than its header says");
    else if (read(GATE_FD_BOOT, &more, 1) != 0)
        snprintf(error, size, "boot image: longer than its header says");
    else if (!config_decode(&boot->config, wire, head.config_size, &config_error))
        snprintf(error, size, "boot image: configuration: %s", config_error.message);
    else
        ok = true;
    close(GATE_FD_BOOT);
    free(wire);
    return ok;
}
