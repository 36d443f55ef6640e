#define _GNU_SOURCE
#include "kvm_vm.h"
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define LARGE UINT64_C(0x200000)
/* Of the first memory, what every keep touches densely (shim, warden, heap): large pages of the host's. */
#define DENSE (UINT64_C(4) << 20)

/* Zeroed memory that starts at a large page and takes no room until it is touched. */
static void *map_aligned(uint64_t size) {
    uint8_t *p = mmap(NULL, size + LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return NULL;
    uint8_t *at = (uint8_t *)(((uintptr_t)p + LARGE - 1) & ~(uintptr_t)(LARGE - 1));
    if (at > p) munmap(p, (size_t)(at - p));
    munmap(at + size, (size_t)(p + LARGE - at));
    madvise(at, size, MADV_DONTDUMP);
    return at;
}

static bool add_slot(struct vm *vm, uint64_t gpa, uint64_t size, uint64_t dense) {
    if (vm->n_slots >= VM_SLOTS) return false;
    void *at = map_aligned(size);
    if (!at) return false;
    if (dense) madvise(at, dense, MADV_HUGEPAGE);
    struct kvm_userspace_memory_region r = {
        .slot = vm->n_slots, .guest_phys_addr = gpa, .memory_size = size, .userspace_addr = (uintptr_t)at};
    if (ioctl(vm->vm, KVM_SET_USER_MEMORY_REGION, &r) != 0) {
        munmap(at, size);
        return false;
    }
    vm->slots[vm->n_slots].at = at;
    vm->slots[vm->n_slots++].size = size;
    return true;
}

static const char *add_cpu(struct vm *vm, unsigned n) {
    struct vm_cpu *c = &vm->cpus[n];
    c->fd = ioctl(vm->vm, KVM_CREATE_VCPU, n);
    if (c->fd < 0) return "create a virtual CPU";
    void *run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, c->fd, 0);
    if (run == MAP_FAILED) return "map the virtual CPU";
    c->run = run;
    return NULL;
}

void vm_none(struct vm *vm) {
    memset(vm, 0, sizeof *vm);
    vm->vm = vm->kvm = -1;
    for (unsigned i = 0; i < SHIM_CPUS; i++)
        vm->cpus[i].fd = -1;
}

const char *vm_create(struct vm *vm, uint64_t dense) {
    vm_none(vm);
    dense = DENSE + ((dense + LARGE - 1) & ~(LARGE - 1));
    if (dense > SHIM_FIRST_MEMORY) dense = SHIM_FIRST_MEMORY;
    vm->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (vm->kvm < 0) return "open /dev/kvm";
    if (ioctl(vm->kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION) return "find KVM's version 12";
    vm->vm = ioctl(vm->kvm, KVM_CREATE_VM, 0);
    if (vm->vm < 0) return "create a virtual machine";
    if (!add_slot(vm, SHIM_SHARED_GPA, SHIM_SHARED_SIZE, SHIM_SHARED_SIZE) ||
        !add_slot(vm, SHIM_IMAGE_GPA, SHIM_FIRST_MEMORY, dense))
        return "give the virtual machine memory";
    vm->memory = SHIM_FIRST_MEMORY;
    int size = ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (size <= 0) return "learn the size of a virtual CPU";
    vm->run_size = (size_t)size;
    const char *failed = add_cpu(vm, 0);
    if (failed) return failed;
    int khz = ioctl(vm->cpus[0].fd, KVM_GET_TSC_KHZ, 0);
    if (khz <= 0) return "learn the time stamp counter's frequency";
    vm->tsc_khz = (uint64_t)khz;
    return NULL;
}

bool vm_grow(struct vm *vm, uint64_t size) {
    if (!add_slot(vm, SHIM_IMAGE_GPA + vm->memory, size, size)) return false;
    vm->memory += size;
    return true;
}

void *vm_at(const struct vm *vm, uint64_t gpa, uint64_t size) {
    uint64_t start = SHIM_SHARED_GPA;
    for (unsigned i = 0; i < vm->n_slots; start += vm->slots[i++].size)
        if (gpa >= start && gpa - start < vm->slots[i].size && size <= vm->slots[i].size - (gpa - start))
            return (uint8_t *)vm->slots[i].at + (gpa - start);
    return NULL;
}

void vm_destroy(struct vm *vm) {
    for (unsigned i = 0; i < SHIM_CPUS; i++) {
        if (vm->cpus[i].run) munmap(vm->cpus[i].run, vm->run_size);
        if (vm->cpus[i].fd >= 0) close(vm->cpus[i].fd);
    }
    if (vm->vm >= 0) close(vm->vm);
    if (vm->kvm >= 0) close(vm->kvm);
    for (unsigned i = 0; i < vm->n_slots; i++)
        munmap(vm->slots[i].at, vm->slots[i].size);
    vm_none(vm);
}

/* ---- the virtual CPU ---- */

enum { CPUID_MAX = 256 };

/* Real KVM: all that this machine can do. The paravirtual one does not virtualise CPUID, and is not asked. */
static const char *set_cpuid(const struct vm *vm, int cpu, uint64_t *xcr0) {
    struct kvm_cpuid2 *c = calloc(1, sizeof *c + CPUID_MAX * sizeof c->entries[0]);
    if (!c) return "get memory for CPUID";
    c->nent = CPUID_MAX;
    const char *failed = ioctl(vm->kvm, KVM_GET_SUPPORTED_CPUID, c) != 0 ? "learn what CPU this is" : NULL;
    for (unsigned i = 0; !failed && i < c->nent; i++)
        if (c->entries[i].function == 0xd && c->entries[i].index == 0) *xcr0 &= c->entries[i].eax | 3;
    if (!failed && ioctl(cpu, KVM_SET_CPUID2, c) != 0) failed = "set the virtual CPU's CPUID";
    free(c);
    return failed;
}

/* Vector state that the program may use: x87, SSE, AVX, AVX-512. Not AMX: its state has to be asked for. */
static uint64_t host_xcr0(void) {
    enum { XCR0_WANTED = 0xe7, LEAF1_ECX_OSXSAVE = 1 << 27 };
    uint32_t a, b, c, d, low, high;
    __cpuid(1, a, b, c, d);
    if (!(c & LEAF1_ECX_OSXSAVE)) return 1;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low & XCR0_WANTED;
}

static struct kvm_segment segment(uint16_t selector, uint8_t type, uint8_t dpl) {
    return (struct kvm_segment){
        .selector = selector, .limit = 0xffffffff, .type = type, .present = 1, .dpl = dpl, .s = 1, .g = 1};
}

enum { MSR_STAR = (int)0xc0000081, MSR_LSTAR = (int)0xc0000082, MSR_FMASK = (int)0xc0000084 };
enum { CODE = 0xb, DATA = 0x3, BUSY_TSS = 0xb };

static const char *set_sregs(int cpu, const struct shim_header *h, unsigned mode, uint64_t cr3) {
    struct kvm_sregs s;
    if (ioctl(cpu, KVM_GET_SREGS, &s) != 0) return "read the virtual CPU";
    bool para = mode == SHIM_MODE_PARA;
    s.cs = segment(para ? SHIM_USER_CS : SHIM_KERNEL_CS, CODE, para ? 3 : 0);
    s.cs.l = 1;
    s.ss = segment(para ? SHIM_USER_SS : SHIM_KERNEL_SS, DATA, para ? 3 : 0);
    s.ds = s.es = s.fs = s.gs = segment(SHIM_USER_SS, DATA, 3);
    s.tr = (struct kvm_segment){.base = SHIM_BASE + h->tss,
                                .limit = (uint32_t)h->tss_size - 1,
                                .selector = SHIM_TSS,
                                .type = BUSY_TSS,
                                .present = 1};
    s.gdt = (struct kvm_dtable){.base = SHIM_BASE + h->gdt, .limit = (uint16_t)(h->gdt_size - 1)};
    s.idt = (struct kvm_dtable){.base = SHIM_BASE + h->idt, .limit = (uint16_t)(h->idt_size - 1)};
    s.cr0 = KVM_CR0;
    s.cr3 = cr3;
    s.cr4 = KVM_CR4;
    s.efer = KVM_EFER;
    return ioctl(cpu, KVM_SET_SREGS, &s) == 0 ? NULL : "set the virtual CPU's system registers";
}

static const char *set_msrs(int cpu, const struct shim_header *h) {
    const struct kvm_msr_entry entries[] = {{.index = (uint32_t)MSR_STAR, .data = KVM_STAR},
                                            {.index = (uint32_t)MSR_LSTAR, .data = SHIM_BASE + h->syscall},
                                            {.index = (uint32_t)MSR_FMASK, .data = KVM_FMASK}};
    enum { N = sizeof entries / sizeof entries[0] };
    _Alignas(struct kvm_msrs) uint8_t bytes[sizeof(struct kvm_msrs) + sizeof entries];
    struct kvm_msrs *m = (struct kvm_msrs *)(void *)bytes;
    memset(m, 0, sizeof *m);
    m->nmsrs = N;
    memcpy(m->entries, entries, sizeof entries);
    return ioctl(cpu, KVM_SET_MSRS, m) == N ? NULL : "set the virtual CPU's model-specific registers";
}

static const char *start(const struct vm *vm, int cpu, const struct shim_header *h, unsigned mode, uint64_t cr3) {
    uint64_t xcr0 = host_xcr0();
    const char *failed = mode == SHIM_MODE_RING0 ? set_cpuid(vm, cpu, &xcr0) : NULL;
    if (!failed) failed = set_sregs(cpu, h, mode, cr3);
    if (!failed) failed = set_msrs(cpu, h);
    struct kvm_xcrs x = {.nr_xcrs = 1, .xcrs = {{.xcr = 0, .value = xcr0}}};
    struct kvm_regs r = {.rip = SHIM_BASE + h->entry, .rsp = SHIM_BASE + h->stack, .rdi = mode, .rflags = 2};
    /* Vector state at CPL 3 is the machine's own under the paravirtual KVM: nothing to set. */
    if (!failed && mode == SHIM_MODE_RING0 && ioctl(cpu, KVM_SET_XCRS, &x) != 0)
        failed = "set the virtual CPU's vector state";
    if (!failed && ioctl(cpu, KVM_SET_REGS, &r) != 0) failed = "set the virtual CPU's registers";
    return failed;
}

const char *vm_start(struct vm *vm, const struct shim_header *h, unsigned mode) {
    return start(vm, vm->cpus[0].fd, h, mode, KVM_CR3(h));
}

const char *vm_start_cpu(struct vm *vm, unsigned n, const struct shim_header *h, unsigned mode, uint64_t cr3) {
    const char *failed = add_cpu(vm, n);
    return failed ? failed : start(vm, vm->cpus[n].fd, h, mode, cr3);
}
