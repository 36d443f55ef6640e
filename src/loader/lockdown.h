/* The loader locks itself in, once its keep is built: what is left is what serving the keep takes. Whoever takes over
 * the loader through the gate has no more than that: the descriptors it holds, the directories of the configuration. */
#ifndef DONJON_LOADER_LOCKDOWN_H
#define DONJON_LOADER_LOCKDOWN_H

#include <stdbool.h>
#include <stddef.h>

struct server;

/* All threads of the process, for good: no_new_privs; Landlock with the configuration's directories alone; a list of
 * system calls without execve, open, socket, connect and their like, and no executable memory. A lock that this kernel
 * has and that does not close: false, with its name in `error`. */
bool lockdown(const struct server *s, char *error, size_t size);

#endif
