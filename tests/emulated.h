/* What the first programs of emulated machines (emulated.py) have in common. */
#ifndef DONJON_TESTS_EMULATED_H
#define DONJON_TESTS_EMULATED_H
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Those that /modules names, in its order. */
static inline void load_modules(void) {
    char line[4096];
    FILE *f = fopen("/modules", "r");
    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        int fd = open(line, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || syscall(SYS_finit_module, fd, "", 0) != 0) printf("init: %s: %m\n", line);
        if (fd >= 0) close(fd);
    }
    if (f) fclose(f);
}

/* A child with a virtual machine and a processor that stay. The first and the last of each make Linux rewrite code of
 * its scheduler and of KVM (preempt_notifier_key, kvm_has_noapic_vcpu) behind a breakpoint, and QEMU's TCG may go on
 * with that breakpoint after it has gone (seen with 7.2: one CPU in __schedule's int3 for ever, the other waiting for
 * its run queue). */
static inline void keep_a_virtual_machine(void) {
    if (fork() != 0) return;
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    int vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);
    if (vm < 0 || ioctl(vm, KVM_CREATE_VCPU, 0) < 0) printf("init: /dev/kvm: %m\n");
    fflush(stdout);
    for (;;)
        pause();
}

#endif
