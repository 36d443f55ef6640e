/* One virtual machine, through /dev/kvm. */
#ifndef DONJON_LOADER_KVM_VM_H
#define DONJON_LOADER_KVM_VM_H

#include "kvm_image.h"

enum { VM_SLOTS = 32 };
struct vm_cpu {
    int fd; /* -1, with `run` NULL: there is none */
    struct kvm_run *run;
};
struct vm {
    int kvm, vm;
    struct vm_cpu cpus[SHIM_CPUS];
    size_t run_size;
    struct {
        void *at;
        uint64_t size;
    } slots[VM_SLOTS]; /* 0: shared; then private memory in its order */
    unsigned n_slots;
    uint64_t memory; /* private bytes so far */
    uint64_t tsc_khz;
};

/* Makes the machine with its first memory (zeroed) and the shared part; nothing in it. NULL, or what failed (errno).
 * `dense`: bytes that will be written from end to end, in large pages of the host's; the rest comes in small ones as it
 * is touched, so that a small keep stays small. */
const char *vm_create(struct vm *vm, uint64_t dense);
/* A virtual CPU, about to enter the shim that is in memory. The first: with the tables that kvm_image_build made. */
const char *vm_start(struct vm *vm, const struct shim_header *h, unsigned mode);
/* Another one (1 to SHIM_CPUS - 1), each once: the same but for its CR3. May be called by a thread of its own. */
const char *vm_start_cpu(struct vm *vm, unsigned n, const struct shim_header *h, unsigned mode, uint64_t cr3);
/* More private memory, behind what there is. False: the machine has no more. */
bool vm_grow(struct vm *vm, uint64_t size);
void vm_none(struct vm *vm); /* as vm_destroy leaves it */
void vm_destroy(struct vm *vm);
/* Guest-physical memory [gpa, gpa + size), all in one piece; NULL: it is not. */
void *vm_at(const struct vm *vm, uint64_t gpa, uint64_t size);

static inline struct shim_shared *vm_shared(const struct vm *vm) {
    return (struct shim_shared *)((uint8_t *)vm->slots[0].at + SHIM_CALL_OFFSET);
}
static inline uint8_t *vm_transfer(const struct vm *vm) {
    return (uint8_t *)vm->slots[0].at + SHIM_TRANSFER_OFFSET;
}
static inline uint8_t *vm_memory(const struct vm *vm) {
    return vm->slots[1].at;
}

#endif
