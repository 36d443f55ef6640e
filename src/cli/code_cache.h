/* The user's cache of compiled code: ~/.cache/donjon (or $XDG_CACHE_HOME/donjon), one file a module and build of the
 * engine, code_file.h's form, so that nothing in it is believed because it is there. `donjon run` looks for modules of
 * CODE_CACHE_MIN and more; one that was not there is compiled after the program has ended, by a process of the lowest
 * priority of its own. */
#ifndef DONJON_CLI_CODE_CACHE_H
#define DONJON_CLI_CODE_CACHE_H

#include "mac.h"

enum {
    CODE_CACHE_MIN = 4 << 20, /* below, compiling what is called takes no longer than reading and hashing everything */
};
#define CODE_CACHE_MOST (UINT64_C(1) << 30) /* bytes of all entries; the least recently used go first */

/* The code for a module, in memory from malloc: `*file` is to be freed. False: there is none, or none that can be used.
 */
bool code_cache_find(const void *module, size_t size, uint8_t **file, const uint8_t **code, size_t *code_size,
                     uint8_t digest[MAC_SIZE], uint8_t code_sha256[MAC_SIZE]);

/* Puts code there, and makes room. False with errno or, when there is no cache to be had, ENOENT. */
bool code_cache_put(const uint8_t key[MAC_KEY], const uint8_t digest[MAC_SIZE], size_t module_size, const void *code,
                    size_t code_size);

/* Is there an entry for such a module already, or somebody who makes one? Locks it against others until the process
 * ends. */
bool code_cache_claim(const uint8_t digest[MAC_SIZE], size_t module_size);

/* Compiling a module for the cache in the background, in two steps: `prepare` makes a process that waits, while we may
 * still make processes; `fill` lets it go, or go away. -1: there is none. */
int code_cache_prepare(const char *path);
void code_cache_fill(int prepared, bool go);

/* DONJON_CODE_CACHE is not "off", and the cache is safe to use: this user's own, as is the key. */
bool code_cache_on(void);

#endif
