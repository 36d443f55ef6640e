/* The first memory of a virtual machine: the shim, its page of digests, its first page tables. Pure functions of their
 * input, so that `donjon measure` can say offline what a machine will be started with. */
#ifndef DONJON_LOADER_KVM_IMAGE_H
#define DONJON_LOADER_KVM_IMAGE_H

#include "../shim/shim.h"
#include <stdbool.h>
#include <stddef.h>

enum { KVM_PAGE = 4096, KVM_TABLES = 8, KVM_SHIM_MOST = 1 << 20 };
/* NULL: a shim of this version; else what is wrong with the file. */
const char *kvm_shim_check(const uint8_t *file, size_t size);

/* How much memory kvm_image_build fills. */
size_t kvm_image_size(const uint8_t *shim);

/* Fills zeroed memory (which is at SHIM_IMAGE_GPA): shim, digests, tables for a mode. The shim has been checked.
 * `private`: bits that every table entry for private memory has besides (SEV's C-bit); 0 without memory encryption. */
void kvm_image_build(uint8_t *memory, const uint8_t *shim, const struct shim_digests *digests, unsigned mode,
                     uint64_t private);

/* The virtual CPU's system registers at the start: AMD APM 2, 3.1. */
#define KVM_CR0    UINT64_C(0x80050033) /* PG AM WP NE ET MP PE */
#define KVM_CR4    UINT64_C(0x50620)    /* OSXSAVE FSGSBASE OSXMMEXCPT OSFXSR PAE */
#define KVM_EFER   UINT64_C(0xd01)      /* NXE LMA LME SCE */
#define KVM_FMASK  UINT64_C(0x47700)    /* AC NT IOPL DF IF TF are clear in the shim */
#define KVM_STAR   ((uint64_t)((SHIM_USER_SS & ~3) - 8) << 48 | (uint64_t)SHIM_KERNEL_CS << 32)
#define KVM_CR3(h) (SHIM_IMAGE_GPA + (h)->memory_size + sizeof(struct shim_digests))

/* The same as SEV-SNP's save area for the first virtual CPU (AMD APM 2, table B-4), for mode 0. */
void kvm_vmsa(uint8_t page[KVM_PAGE], const uint8_t *shim);

/* The page of digests for a warden's file (all of it, or at least what is loaded). Not an ELF program: false. */
bool kvm_digests(const uint8_t *warden, size_t size, struct shim_digests *out);

/* How much of a warden's file is loaded, from its first bytes; 0: not an ELF program. */
uint64_t kvm_warden_size(const uint8_t *head, size_t size);

#endif
