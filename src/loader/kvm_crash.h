/* What a dead keep says in debug mode: registers, and the functions that its stack leads through. */
#ifndef DONJON_LOADER_KVM_CRASH_H
#define DONJON_LOADER_KVM_CRASH_H

#include "../shim/shim.h"
#include <stddef.h>

/* A program's file in memory, for its symbols. NULL: there are none to be had. */
struct crash_file {
    const uint8_t *bytes;
    size_t size;
};
/* Maps an open file. */
struct crash_file crash_map(int fd);

/* To standard error. The crash is the keep's, and may say anything. */
void kvm_show_crash(const struct shim_crash *c, struct crash_file warden, struct crash_file shim);

#endif
