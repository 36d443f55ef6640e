/* The boot image as the warden reads it: configuration and module as the host has them, for the warden to check; then
 * compiled code, which nobody can check: only the very code that the page of digests names, hashed before the start. */
#include "../../gate/gate.h"
#include "internal.h"
#include "user.h"

static struct boot_header head;
static bool known;          /* head is there, copied once */
static uint64_t at;         /* of the next byte */
static uint64_t plain;      /* bytes that are the host's */
static uint64_t code_there; /* bytes of compiled code at USER_IMAGE */

/* A call to the host costs more than copying what it brings, so it brings all that fits; the reads that follow take
 * their part from there, each byte once. Log lines use the same buffer: with them, every read is a call. */
static uint64_t ahead, ahead_size;

void boot_code(uint64_t size) {
    code_there = size;
}

static bool fetch(void) {
    int64_t n = host_count(SHIM_READ, SHIM_FILE_BOOT, at, SHIM_TRANSFER_SIZE);
    ahead = 0;
    ahead_size = n > 0 ? (uint64_t)n : 0;
    return n >= 0;
}

/* The header, which says where the host's part ends. What the warden gets of it is this copy. */
static bool learn(void) {
    if (known) return true;
    if (!fetch() || ahead_size < sizeof head) return false;
    memcpy(&head, host_transfer(), sizeof head);
    ahead = sizeof head;
    if (head.config_size > BOOT_MAX_CONFIG || head.module_size > BOOT_MAX_MODULE)
        crash(NULL, 0, "a boot image with parts too large");
    if (head.code_size != 0 && head.code_size != code_there) crash(NULL, 0, "compiled code that was not measured");
    plain = sizeof head + head.config_size + head.module_size;
    return known = true;
}

/* Where the next bytes are, and how many there are at once; 0: the end. -1: the host does not give them. */
static int64_t next(const uint8_t **from) {
    if (at < sizeof head) {
        *from = (const uint8_t *)&head + at;
        return (int64_t)(sizeof head - at);
    }
    if (at >= plain) {
        *from = (const uint8_t *)USER_IMAGE + (at - plain);
        return (int64_t)(plain + head.code_size - at);
    }
    if (debug) ahead = ahead_size = 0;
    if (ahead == ahead_size && !fetch()) return -1;
    uint64_t n = ahead_size - ahead;
    *from = host_transfer() + ahead;
    return (int64_t)(n < plain - at ? n : plain - at);
}

int64_t boot_read(uint64_t to, uint64_t size) {
    uint64_t done = 0;
    if (!user_ok(to, size, true)) return -EFAULT;
    if (!learn()) return -EIO;
    while (done < size) {
        const uint8_t *from;
        int64_t n = next(&from);
        if (n < 0 && done == 0) return -EIO;
        if (n <= 0) break;
        uint64_t piece = size - done < (uint64_t)n ? size - done : (uint64_t)n;
        memcpy((void *)(to + done), from, piece);
        if (at >= sizeof head && at < plain) ahead += piece;
        at += piece;
        done += piece;
    }
    return (int64_t)done;
}

void boot_close(void) {
    if (code_there == 0) return;
    areas_remove(USER_IMAGE, USER_IMAGE + ROUND(code_there, LARGE));
    tables_free(USER_IMAGE, USER_IMAGE + ROUND(code_there, LARGE));
    tables_flush();
    code_there = head.code_size = 0;
}
