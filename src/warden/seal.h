/* The warden's locks: what it can no longer do once it has sealed itself, whoever has got hold of it.
 *
 *   capabilities   none, whoever started it
 *   no_new_privs   nothing it could start would gain rights
 *   dumpable 0     no ptrace, no /proc/PID/mem by others of its user, no core dump
 *   rlimits        no core file; not one more descriptor
 *   Landlock       no file, no TCP port, no signal or abstract socket outside itself (as far as this kernel's version
 * goes) seccomp        no system call but those of the list in seal.c; anything else kills the process
 *
 * A lock that this kernel does not have is passed over (the others overlap it); one that it has and that does not close
 * is a failure. The sanitised build leaves the calls that sanitizers need, and says so in docs/caveats.md. */
#ifndef DONJON_WARDEN_SEAL_H
#define DONJON_WARDEN_SEAL_H

#include <stdbool.h>
#include <stddef.h>

/* Closes all locks. False with the reason in `error`. To be called with the keep's descriptors in place (gate.h), by
 * the only thread. `threads`, or NULL: starts others, which inherit what is closed, before the last lock, seccomp,
 * closes on all of them; they may wait for each other, and none may start another. */
bool seal(void (*threads)(void), char *error, size_t size);

/* Whether threads can be started still: there was no seccomp (but a virtual machine perhaps). */
bool seal_open(void);

/* What became of each lock, in one line: "capabilities closed, ..., landlock absent, ...". Gives `text`. */
const char *seal_describe(char *text, size_t size);

/* One lock alone, by its name above ("landlock"): for tests of what each of them holds by itself. */
enum seal_result { SEAL_CLOSED, SEAL_ABSENT, SEAL_BROKEN };
enum seal_result seal_lock(const char *name);

#endif
