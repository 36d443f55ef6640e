#define _GNU_SOURCE
#include "code_file.h"
#include <donjon/wasm.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const uint8_t magic[8] = {0x7f, 'd', 'o', 'n', 'j', 'o', 'n', '\n'};
_Static_assert(sizeof(struct code_head) == 152, "no padding");

bool code_file_is(const void *bytes, size_t size) {
    return size >= sizeof magic && !memcmp(bytes, magic, sizeof magic);
}

static bool make_key_id(const uint8_t key[MAC_KEY], uint8_t id[16]) {
    static const char label[] = "donjon: id of a key for compiled code";
    uint8_t mac[MAC_SIZE];
    if (!mac_hmac(key, label, sizeof label, mac)) return false;
    memcpy(id, mac, 16);
    return true;
}

/* The head, when the file is exactly as long as it says. */
static const char *read_head(const void *bytes, size_t size, struct code_head *h) {
    if (!code_file_is(bytes, size)) return "is not compiled by donjon";
    if (size < sizeof *h + MAC_SIZE) return "is cut short";
    memcpy(h, bytes, sizeof *h);
    if (h->version != CODE_FILE_VERSION) return "was compiled by a donjon with another file format";
    uint64_t rest = size - sizeof *h - MAC_SIZE, module = h->flags & CODE_FILE_MODULE ? h->module_size : 0;
    if (module > rest || h->code_size > rest - module) return "is cut short";
    return h->code_size == rest - module ? NULL : "has more bytes than it was made with";
}

const char *code_file_open(const void *bytes, size_t size, const uint8_t key[MAC_KEY], struct code_file *out) {
    memset(out, 0, sizeof *out);
    struct code_head *h = &out->head;
    uint8_t id[16], mac[MAC_SIZE];
    const char *wrong = read_head(bytes, size, h);
    if (wrong) return wrong;
    if (!make_key_id(key, id)) return "cannot be authenticated: libcrypto failed";
    if (!mac_equal(id, h->key_id, sizeof id))
        return "was compiled under another key: by another user or on another machine";
    const uint8_t *b = bytes, *end = b + size - MAC_SIZE;
    if (!mac_hmac(key, b, size - MAC_SIZE, mac) || !mac_equal(mac, end, MAC_SIZE))
        return "has been altered since it was compiled";
    if (memcmp(h->engine, donjon_engine_id(), sizeof h->engine) != 0) return "was compiled by another build of donjon";
    if (h->cpu != donjon_cpu_id()) return "was compiled for another kind of CPU";
    bool module = h->flags & CODE_FILE_MODULE;
    out->module = module ? b + sizeof *h : NULL;
    out->code = b + sizeof *h + (module ? h->module_size : 0);
    return NULL;
}

bool code_file_module(const void *bytes, size_t size, const uint8_t **module, size_t *module_size) {
    struct code_head h;
    if (!code_file_is(bytes, size) || size < sizeof h) return false;
    memcpy(&h, bytes, sizeof h);
    if (h.version != CODE_FILE_VERSION || !(h.flags & CODE_FILE_MODULE) || h.module_size > size - sizeof h)
        return false;
    *module = (const uint8_t *)bytes + sizeof h;
    *module_size = (size_t)h.module_size;
    return true;
}

static bool write_all(int fd, const uint8_t *p, size_t size) {
    while (size) {
        ssize_t n = write(fd, p, size);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        p += n, size -= (size_t)n;
    }
    return true;
}

/* The whole file in memory: OpenSSL wants its message in one piece. */
static uint8_t *build(const struct code_head *h, const uint8_t key[MAC_KEY], const void *module, const void *code,
                      size_t *size) {
    size_t in = module ? (size_t)h->module_size : 0, n = sizeof *h + in + (size_t)h->code_size;
    uint8_t *b = malloc(n + MAC_SIZE);
    if (!b) return NULL;
    memcpy(b, h, sizeof *h);
    if (in) memcpy(b + sizeof *h, module, in);
    memcpy(b + sizeof *h + in, code, (size_t)h->code_size);
    *size = n + MAC_SIZE;
    if (mac_hmac(key, b, n, b + n)) return b;
    free(b);
    return NULL;
}

bool code_file_write(const char *path, const uint8_t key[MAC_KEY], const uint8_t digest[MAC_SIZE], const void *module,
                     size_t module_size, const void *code, size_t code_size) {
    struct code_head h = {.version = CODE_FILE_VERSION,
                          .flags = module ? CODE_FILE_MODULE : 0,
                          .cpu = donjon_cpu_id(),
                          .module_size = module_size,
                          .code_size = code_size};
    char temporary[4200];
    size_t size;
    memcpy(h.magic, magic, sizeof magic);
    memcpy(h.engine, donjon_engine_id(), sizeof h.engine);
    memcpy(h.digest, digest, sizeof h.digest);
    errno = ENAMETOOLONG;
    if (snprintf(temporary, sizeof temporary, "%s.tmp-%ld", path, (long)getpid()) >= (int)sizeof temporary)
        return false;
    errno = ENOMEM;
    bool ok = make_key_id(key, h.key_id) && mac_sha256(code, code_size, h.code_sha256);
    uint8_t *bytes = ok ? build(&h, key, module, code, &size) : NULL;
    if (!bytes) return false;
    unlink(temporary);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, module ? 0666 : 0600);
    ok = fd >= 0 && write_all(fd, bytes, size);
    if (fd >= 0 && close(fd)) ok = false;
    ok = ok && rename(temporary, path) == 0;
    int error = errno;
    if (!ok && fd >= 0) unlink(temporary);
    free(bytes);
    errno = error;
    return ok;
}
