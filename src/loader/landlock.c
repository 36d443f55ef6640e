/* linux/landlock.h, of a newer kernel than the headers this may be built with. */
#define _GNU_SOURCE
#include "landlock.h"
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

struct landlock_attr {
    uint64_t handled_access_fs, handled_access_net, scoped;
};
struct __attribute__((packed)) landlock_beneath {
    uint64_t allowed_access;
    int32_t parent_fd;
};
enum {
    QUERY_VERSION = 1,
    PATH_BENEATH = 1,
    NET_TCP = 3,
    ABI_NET = 4,
    ABI_SCOPED = 6,
    SCOPED = 3 /* abstract sockets, signals */
};
enum {
    FS_EXECUTE = 1 << 0,
    FS_READ_FILE = 1 << 2,
    FS_READ_DIR = 1 << 3,
    FS_REMOVE_DIR = 1 << 4,
    FS_MAKE_CHAR = 1 << 6,
    FS_MAKE_DIR = 1 << 7,
    FS_MAKE_FIFO = 1 << 10,
    FS_MAKE_BLOCK = 1 << 11,
    FS_MAKE_SYM = 1 << 12,
    FS_NO_FILES = FS_EXECUTE | FS_REMOVE_DIR | FS_MAKE_CHAR | FS_MAKE_DIR | FS_MAKE_FIFO | FS_MAKE_BLOCK | FS_MAKE_SYM
};

/* File rights by ABI: 13 in ABI 1, then REFER, TRUNCATE, (network), IOCTL_DEV. */
static uint64_t file_rights(long abi) {
    int bits = abi >= 5 ? 16 : abi >= 3 ? 15 : abi >= 2 ? 14 : 13;
    return (UINT64_C(1) << bits) - 1;
}

static uint64_t rights_of(enum landlock_rights r, uint64_t all) {
    switch (r) {
    case LANDLOCK_FILES: return all & ~(uint64_t)FS_NO_FILES;
    case LANDLOCK_WRITE: return all & ~(uint64_t)FS_EXECUTE;
    case LANDLOCK_RUN: return FS_READ_FILE | FS_READ_DIR | FS_EXECUTE;
    default: return FS_READ_FILE | FS_READ_DIR;
    }
}

bool landlock_close(const struct landlock_place *places, unsigned n, bool tcp, bool alone) {
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, QUERY_VERSION);
    if (abi < 1) return errno == ENOSYS || errno == EOPNOTSUPP;
    struct landlock_attr attr = {
        .handled_access_fs = file_rights(abi), .handled_access_net = tcp ? NET_TCP : 0, .scoped = alone ? SCOPED : 0};
    size_t size = abi >= ABI_SCOPED ? sizeof attr
                  : abi >= ABI_NET  ? offsetof(struct landlock_attr, scoped)
                                    : sizeof attr.handled_access_fs;
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
    bool ok = ruleset >= 0;
    for (unsigned i = 0; ok && i < n; i++) {
        struct landlock_beneath rule = {.allowed_access = rights_of(places[i].rights, attr.handled_access_fs),
                                        .parent_fd = places[i].fd};
        ok = syscall(SYS_landlock_add_rule, ruleset, PATH_BENEATH, &rule, 0) == 0;
    }
    ok = ok && syscall(SYS_landlock_restrict_self, ruleset, 0) == 0;
    if (ruleset >= 0) close(ruleset);
    return ok;
}
