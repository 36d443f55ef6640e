/* A loader that lies to a real shim: random, extreme and replayed answers to its calls, and a thread that scribbles
 * over the shared memory while they are read. The shim may refuse (end the keep with a reason) or go on; it must not
 * fault, hang, or give the program in it (calls.c) an illegal result.
 *
 *     liar SHIM PROGRAM      DONJON_LIES: how many answers (20,000)
 */
#define _GNU_SOURCE
#include "gate/gate.h"
#include "loader/kvm_vm.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { SKIP = 77, HANG_S = 60 };
static uint8_t *shim, *program;
static size_t shim_size, program_size;
static struct shim_digests digests;
static struct vm vm;
static _Atomic bool scribbling, over;
static pthread_mutex_t memory = PTHREAD_MUTEX_INITIALIZER; /* held while scribbling: the memory stays meanwhile */
static uint64_t lies, refusals, starts;

static uint64_t next(void) {
    static _Thread_local uint64_t seed = 0x9e3779b97f4a7c15;
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

static void *scribble(void *arg) {
    (void)arg;
    while (!over) {
        if (!scribbling) {
            usleep(100);
            continue;
        }
        pthread_mutex_lock(&memory);
        volatile uint8_t *shared = vm.slots[0].at;
        for (int i = 0; i < 64 && scribbling; i++) {
            uint64_t r = next();
            size_t at = r % 3 == 0   ? 8 + (r >> 8 & 0xff) /* what the shim asks is for us to know */
                        : r % 3 == 1 ? SHIM_GATE_OFFSET + (r >> 8) % 4096
                                     : SHIM_TRANSFER_OFFSET + 32768 + (r >> 8) % 65536;
            shared[at] = (uint8_t)(r >> 40);
        }
        pthread_mutex_unlock(&memory);
    }
    return NULL;
}

/* A boot image that goes on for as long as it may; its header may well be nonsense. */
static int64_t boot_image(const struct shim_call *q) {
    struct boot_header head = {.config_size = BOOT_MAX_CONFIG, .module_size = BOOT_MAX_MODULE};
    if (next() % 64 == 0) ((uint8_t *)&head)[next() % sizeof head] ^= (uint8_t)(1 << next() % 8);
    if (q->args[1] == 0) {
        memcpy(vm_transfer(&vm), &head, sizeof head);
        return SHIM_TRANSFER_SIZE;
    }
    return next() % 2 ? (int64_t)(next() % (q->args[2] + 1)) : 0;
}

/* What an honest loader would say. */
static int64_t honest(const struct shim_call *q, bool *told_memory) {
    uint64_t n;
    switch (q->op) {
    case SHIM_READ:
        if (q->args[0] == SHIM_FILE_BOOT) return boot_image(q);
        if (q->args[1] >= program_size) return 0;
        n = program_size - q->args[1] < q->args[2] ? program_size - q->args[1] : q->args[2];
        memcpy(vm_transfer(&vm), program + q->args[1], n);
        return (int64_t)n;
    case SHIM_BELL_READ: return next() % 2 ? 1 : -EINTR;
    case SHIM_GROW: *told_memory = true; return vm_grow(&vm, vm.memory) ? (int64_t)vm.memory / 2 : -ENOMEM;
    case SHIM_STDERR: return (int64_t)(q->args[0] & 0xfff);
    default: return 0;
    }
}

static int64_t lie(const struct shim_call *q, bool *lied_memory) {
    static int64_t last;
    static const int64_t extremes[] = {INT64_MIN, INT64_MAX, -1,       -4095,      -4096,      1,          2,
                                       4096,      0x100000,  0x100001, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000};
    bool honest_memory = false;
    int64_t truth = honest(q, &honest_memory), answer = truth;
    unsigned dice = (unsigned)(next() % 200);
    if (starts > 0 && lies % 7 == 0 && dice < 60) answer = -(int64_t)(next() % 40);
    if (dice == 0) answer = extremes[next() % (sizeof extremes / sizeof extremes[0])];
    if (dice == 1) answer = (int64_t)next();
    if (dice == 2) answer = last;
    if (q->op == SHIM_GROW && answer != truth && answer > 0) *lied_memory = true;
    last = truth;
    return answer;
}

static int fail(const char *what, const struct kvm_run *run) {
    printf("FAIL after %lu answers: %s (exit %u)\n", lies, what, run->exit_reason);
    exit(1);
}

/* One keep, until it refuses. */
static void keep(uint64_t most) {
    bool lied_memory = false, booted = false;
    const char *what = vm_create(&vm, 0);
    if (what) {
        printf("cannot %s: %s\n", what, strerror(errno));
        exit(1);
    }
    unsigned mode = access("/sys/module/kvm_pvm", F_OK) == 0 ? SHIM_MODE_PARA : SHIM_MODE_RING0;
    kvm_image_build(vm_memory(&vm), shim, &digests, mode, 0);
    struct shim_boot *b = &vm_shared(&vm)->boot;
    *b = (struct shim_boot){.version = SHIM_VERSION,
                            .flags = next() % 2,
                            .memory = vm.memory,
                            .memory_limit = 512u << 20,
                            .tsc_khz = vm.tsc_khz,
                            .cpus = 1,
                            .realtime_ns = next() >> 2,
                            .monotonic_ns = next() >> 20};
    if (next() % 8 == 0) ((uint8_t *)b)[next() % (next() % 2 ? sizeof *b : 32)] ^= (uint8_t)(1 << next() % 8);
    what = vm_start(&vm, (const struct shim_header *)(const void *)shim, mode);
    if (what) exit(printf("cannot %s\n", what));
    starts++;
    while (lies < most) {
        alarm(HANG_S); /* ends the test by its signal */
        if (ioctl(vm.cpus[0].fd, KVM_RUN, 0) != 0) fail(strerror(errno), vm.cpus[0].run);
        if (vm.cpus[0].run->exit_reason == KVM_EXIT_MMIO && lied_memory) break; /* it used memory that we said was there */
        if (vm.cpus[0].run->exit_reason != KVM_EXIT_IO) fail("the virtual CPU stopped", vm.cpus[0].run);
        if (vm.cpus[0].run->io.port == SHIM_PORT_BELL) continue;
        scribbling = false;
        struct shim_call q;
        memcpy(&q, &vm_shared(&vm)->cpus[0].call, sizeof q);
        if (q.op == SHIM_CRASH) {
            const struct shim_crash *c = (const struct shim_crash *)(const void *)vm_transfer(&vm);
            if (strstr(c->reason, "exception")) fail(c->reason, vm.cpus[0].run);
            if (c->signal) fail(c->reason, vm.cpus[0].run);
            refusals++;
            break;
        }
        if (q.op == SHIM_EXIT) fail("the program got an illegal result", vm.cpus[0].run);
        booted = booted || (q.op != SHIM_READ && q.op != SHIM_LOG);
        vm_shared(&vm)->cpus[0].call.result = booted ? lie(&q, &lied_memory) : honest(&q, &lied_memory);
        lies++;
        scribbling = booted && next() % 4 == 0;
    }
    scribbling = false;
    pthread_mutex_lock(&memory);
    vm_destroy(&vm);
    pthread_mutex_unlock(&memory);
}

static uint8_t *load(const char *path, size_t *size) {
    FILE *f = fopen(path, "rb");
    uint8_t *bytes = malloc(16u << 20);
    *size = f && bytes ? fread(bytes, 1, 16u << 20, f) : 0;
    if (f) fclose(f);
    return bytes;
}

int main(int argc, char **argv) {
    pthread_t thread;
    const char *n = getenv("DONJON_LIES");
    uint64_t most = n ? strtoull(n, NULL, 10) : 20000;
    if (access("/dev/kvm", R_OK | W_OK) != 0) {
        printf("SKIP: no /dev/kvm here\n");
        return SKIP;
    }
    if (argc != 3) return 1;
    shim = load(argv[1], &shim_size);
    program = load(argv[2], &program_size);
    if (kvm_shim_check(shim, shim_size) || !kvm_digests(program, program_size, &digests)) return 1;
    digests.flags = SHIM_MAY_DEBUG;
    pthread_create(&thread, NULL, scribble, NULL);
    while (lies < most)
        keep(most);
    over = true;
    pthread_join(thread, NULL);
    printf("%lu answers, %lu keeps, %lu ended with a reason\n", lies, starts, refusals);
    return 0;
}
