#define _DEFAULT_SOURCE
#include "cli.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* From malloc; in large pages, where there are some: most of the time of reading much is page faults. */
static char *allocate(size_t size) {
    enum { HUGE = 2 << 20 };
    if (size < 2 * HUGE) return malloc(size);
    size_t whole = (size + HUGE - 1) & ~(size_t)(HUGE - 1);
    char *p = aligned_alloc(HUGE, whole);
    if (p) madvise(p, whole, MADV_HUGEPAGE);
    return p;
}

/* Reads `fd` to its end into *bytes, whose first capacity is `room`. */
static bool read_all(int fd, size_t room, size_t most, char **bytes, size_t *size) {
    char *p = allocate(room + 1);
    size_t n = 0;
    while (p) {
        ssize_t got = read(fd, p + n, room - n);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) break;
        n += (size_t)got;
        if (!got) {
            p[n] = 0;
            *bytes = p;
            *size = n;
            return true;
        }
        if (n < room) continue;
        if (room > most) {
            errno = EFBIG;
            break;
        }
        char *bigger = realloc(p, room * 2 + 1);
        if (!bigger) break;
        p = bigger;
        room *= 2;
    }
    free(p);
    return false;
}

bool cli_read_file(const char *path, size_t most, char **bytes, size_t *size) {
    struct stat st;
    bool standard = !strcmp(path, "-");
    int fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) return false;
    bool ok = !fstat(fd, &st);
    if (ok && S_ISDIR(st.st_mode)) errno = EISDIR, ok = false;
    if (ok && S_ISREG(st.st_mode) && (uint64_t)st.st_size > most) errno = EFBIG, ok = false;
    /* One more byte than the file has, so that its end is seen without growing. */
    size_t room = ok && S_ISREG(st.st_mode) ? (size_t)st.st_size + 1 : 65536;
    ok = ok && read_all(fd, room, most, bytes, size);
    if (ok && *size > most) {
        free(*bytes);
        errno = EFBIG, ok = false;
    }
    int why = errno;
    if (!standard) close(fd);
    errno = why;
    return ok;
}

bool cli_make_directories(const char *path) {
    char part[4096];
    for (size_t i = 1; i <= strlen(path); i++) {
        if (path[i] != '/' && path[i]) continue;
        snprintf(part, sizeof part, "%.*s", (int)i, path);
        if (mkdir(part, 0700) && errno != EEXIST) return false;
    }
    return true;
}

bool cli_write_private(const char *path, const void *bytes, size_t size) {
    char temporary[4500];
    snprintf(temporary, sizeof temporary, "%s.%ld", path, (long)getpid());
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool ok = fd >= 0 && write(fd, bytes, size) == (ssize_t)size && fsync(fd) == 0;
    if (fd >= 0) ok = close(fd) == 0 && ok;
    ok = ok && rename(temporary, path) == 0;
    if (!ok && fd >= 0) unlink(temporary);
    return ok;
}

static bool begins(const void *bytes, size_t size, const char *with, size_t len) {
    return size >= len && !memcmp(bytes, with, len);
}

const char *cli_not_a_module(const void *bytes, size_t size) {
    static const struct {
        const char *magic;
        size_t len;
        const char *what;
    } kinds[] = {
        /* The binary format's preamble: version 1 in the first 16 bits, layer 0 (core) or 1 (component) in the next. */
        {"\0asm\x0d\0\1\0", 8,
         "is a WebAssembly component (WASI 0.2 or later), which this release does not run; build the program as a core "
         "module "
         "for WASI preview 1 (for example --target=wasm32-wasip1)"},
        {"\177ELF", 4, "is a native ELF program, not a WebAssembly module; compile it for wasm32-wasi"},
        {"(module", 7, "is WebAssembly text, not a binary module; assemble it first, for example with wat2wasm"},
        {"(component", 10, "is WebAssembly text of a component, not a binary module"},
        {"PK\3\4", 4, "is a zip archive, not a WebAssembly module"},
        {"\x1f\x8b", 2, "is compressed with gzip; decompress it first"},
        {"\x28\xb5\x2f\xfd", 4, "is compressed with zstd; decompress it first"},
        {"BC\xc0\xde", 4, "is LLVM bitcode, not a WebAssembly module; link it for wasm32-wasi first"},
        {"!<arch>\n", 8, "is a static library, not a WebAssembly module"},
        {"#!", 2, "is a script, not a WebAssembly module"},
        {"<", 1, "looks like HTML or XML, not a WebAssembly module"},
    };
    if (!size) return "is empty; expected a WebAssembly module";
    if (begins(bytes, size, "\0asm\1\0\0\0", 8)) return NULL;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (begins(bytes, size, kinds[i].magic, kinds[i].len)) return kinds[i].what;
    if (size < 8 && !memcmp(bytes, "\0asm\1\0\0\0", size))
        return "is cut off: a WebAssembly module has at least 8 bytes";
    if (begins(bytes, size, "\0asm", 4))
        return "has an unknown version of the WebAssembly binary format; expected version 1 at byte 4";
    return "is not a WebAssembly module: expected the bytes 00 61 73 6d (\"\\0asm\") at its beginning";
}
