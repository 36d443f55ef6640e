#ifndef DONJON_LOADER_KVM_CRASH_H
#define DONJON_LOADER_KVM_CRASH_H

#include "../shim/shim.h"

/* To standard error. */
void kvm_show_crash(const struct shim_crash *c);

#endif
