/* Compiled code in files: what `donjon compile` writes, and the entries of the cache. One form for both, a cache entry
 * leaves the module out:
 *
 *     struct code_head, [module], code (donjon_module_compile), HMAC-SHA256 over all before it with the user's key
 *
 * Machine code cannot be checked for what it does, so a file is believed only if this user's donjon made it: its
 * authentication code is verified before anything but its head is looked at. */
#ifndef DONJON_CLI_CODE_FILE_H
#define DONJON_CLI_CODE_FILE_H

#include "mac.h"

enum { CODE_FILE_VERSION = 2, CODE_FILE_MODULE = 1 /* flag: the module is in it */ };

struct code_head {
    uint8_t magic[8];
    uint32_t version, flags;
    uint8_t engine[32]; /* donjon_engine_id */
    uint64_t cpu;       /* donjon_cpu_id */
    uint8_t key_id[16]; /* tells a file under another key from an altered one */
    uint8_t digest[32]; /* SHA-256 of the module */
    uint64_t module_size, code_size;
    uint8_t code_sha256[32]; /* what a keep in a virtual machine is told to expect */
};

/* Does it look like one? Says nothing about whether it can be believed. */
bool code_file_is(const void *bytes, size_t size);

/* A file in memory that has been believed; points into its bytes. */
struct code_file {
    struct code_head head;
    const uint8_t *module; /* NULL when it is not in it */
    const uint8_t *code;
};
/* NULL, or one line: what is wrong with it, as it follows its name in a message. */
const char *code_file_open(const void *bytes, size_t size, const uint8_t key[MAC_KEY], struct code_file *out);

/* The module of a file that need not be believed, as a module never is. False: there is none in it, or not all of it.
 */
bool code_file_module(const void *bytes, size_t size, const uint8_t **module, size_t *module_size);

/* Writes one beside `path` and gives it that name when it is complete. `module` NULL: a cache entry. False with errno.
 */
bool code_file_write(const char *path, const uint8_t key[MAC_KEY], const uint8_t digest[MAC_SIZE], const void *module,
                     size_t module_size, const void *code, size_t code_size);

#endif
