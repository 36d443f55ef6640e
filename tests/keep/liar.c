/* A loader that lies to a real shim: random, extreme and replayed answers to its calls, and a thread that scribbles
 * over the shared memory while they are read. The shim may refuse (end the keep with a reason) or go on; it must not
 * fault, hang, or give the program in it (calls.c) an illegal result.
 *
 *     liar SHIM PROGRAM      DONJON_LIES: how many answers (20,000)  DONJON_CPUS: how many virtual CPUs (1)
 *
 * It never kicks one: the program makes calls all the time.
 */
#define _GNU_SOURCE
#include "gate/gate.h"
#include "loader/kvm_vm.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
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
            size_t call = 64 * (r >> 8 & 3) + 8 + (r >> 16) % 56; /* what the shim asks is for us to know */
            size_t at = r % 4 == 0   ? call
                        : r % 4 == 1 ? offsetof(struct shim_shared, attention) + (r >> 8) % 256
                        : r % 4 == 2 ? SHIM_GATE_OFFSET + (r >> 8) % 4096
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
static int64_t start_cpu(uint64_t n, uint64_t cr3);
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
    case SHIM_CPU: return start_cpu(q->args[0], q->args[1]);
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

static void fail(const char *what, const struct kvm_run *run) {
    printf("FAIL after %lu answers: %s (exit %u)\n", lies, what, run->exit_reason);
    exit(1);
}

/* ---- one keep, until it refuses ---- */

static struct {
    unsigned mode, cpus;
    bool lied_memory, booted;
    _Atomic bool ends;
    pthread_mutex_t lock; /* one lie at a time */
    pthread_t threads[SHIM_CPUS];
    uint64_t cr3[SHIM_CPUS]; /* 0: not started */
} keep = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void on_end(int s) {
    (void)s;
}

/* Whatever this CPU has asked. False: the keep has ended. */
static bool answer(unsigned n) {
    const struct kvm_run *run = vm.cpus[n].run;
    struct shim_call *c = &vm_shared(&vm)->cpus[n].call, q;
    scribbling = false;
    memcpy(&q, c, sizeof q); /* another CPU's answer may have begun a scribble */
    if (q.args[2] > SHIM_TRANSFER_SIZE) q.args[2] = SHIM_TRANSFER_SIZE;
    if (q.op == SHIM_CRASH) {
        const struct shim_crash *crash = (const struct shim_crash *)(const void *)vm_transfer(&vm);
        if (strstr(crash->reason, "exception")) fail(crash->reason, run);
        if (crash->signal) fail(crash->reason, run);
        refusals++;
        return false;
    }
    if (q.op == SHIM_EXIT) fail("the program got an illegal result", run);
    keep.booted = keep.booted || (q.op != SHIM_READ && q.op != SHIM_LOG);
    c->result = keep.booted ? lie(&q, &keep.lied_memory) : honest(&q, &keep.lied_memory);
    lies++;
    scribbling = keep.booted && next() % 4 == 0;
    return true;
}

static void run_cpu(unsigned n, uint64_t most) {
    const struct kvm_run *run = vm.cpus[n].run;
    bool goes_on = true;
    while (goes_on && !keep.ends && lies < most) {
        alarm(HANG_S); /* ends the test by its signal */
        if (ioctl(vm.cpus[n].fd, KVM_RUN, 0) != 0) {
            if (errno == EINTR) continue;
            fail(strerror(errno), run);
        }
        if (run->exit_reason == KVM_EXIT_MMIO && keep.lied_memory) break; /* it used memory that we said was there */
        if (run->exit_reason != KVM_EXIT_IO) fail("the virtual CPU stopped", run);
        if (run->io.port == SHIM_PORT_BELL) continue;
        pthread_mutex_lock(&keep.lock);
        goes_on = keep.ends || answer(n);
        pthread_mutex_unlock(&keep.lock);
    }
    keep.ends = true;
}

static void *other_cpu(void *arg) {
    unsigned n = (unsigned)(uintptr_t)arg;
    const char *what = vm_start_cpu(&vm, n, (const struct shim_header *)(const void *)shim, keep.mode, keep.cr3[n]);
    if (what) exit(printf("cannot %s\n", what));
    run_cpu(n, UINT64_MAX);
    return NULL;
}

static int64_t start_cpu(uint64_t n, uint64_t cr3) {
    if (n == 0 || n >= SHIM_CPUS || keep.cr3[n] || cr3 == 0) return -EINVAL; /* scribbled over */
    keep.cr3[n] = cr3;
    return pthread_create(&keep.threads[n], NULL, other_cpu, (void *)(uintptr_t)n) == 0 ? 0 : -EAGAIN;
}

/* With the others' ends: they may be in the machine, or about to enter it. */
static void end_others(void) {
    for (unsigned i = 1; i < SHIM_CPUS; i++) {
        while (keep.cr3[i] && pthread_tryjoin_np(keep.threads[i], NULL) != 0) {
            pthread_kill(keep.threads[i], SIGUSR1);
            usleep(1000);
        }
        keep.cr3[i] = 0;
    }
}

static void keep_run(uint64_t most) {
    keep.lied_memory = keep.booted = false;
    keep.ends = false;
    const char *what = vm_create(&vm, 0);
    if (what) {
        printf("cannot %s: %s\n", what, strerror(errno));
        exit(1);
    }
    keep.mode = access("/sys/module/kvm_pvm", F_OK) == 0 ? SHIM_MODE_PARA : SHIM_MODE_RING0;
    kvm_image_build(vm_memory(&vm), shim, &digests, keep.mode, 0);
    struct shim_boot *b = &vm_shared(&vm)->boot;
    *b = (struct shim_boot){.version = SHIM_VERSION,
                            .flags = next() % 2,
                            .memory = vm.memory,
                            .memory_limit = 512u << 20,
                            .tsc_khz = vm.tsc_khz,
                            .realtime_ns = next() >> 2,
                            .monotonic_ns = next() >> 20,
                            .cpus = keep.cpus};
    if (next() % 8 == 0) ((uint8_t *)b)[next() % (next() % 2 ? sizeof *b : 32)] ^= (uint8_t)(1 << next() % 8);
    what = vm_start(&vm, (const struct shim_header *)(const void *)shim, keep.mode);
    if (what) exit(printf("cannot %s\n", what));
    starts++;
    run_cpu(0, most);
    end_others();
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
    const char *cpus = getenv("DONJON_CPUS");
    keep.cpus = cpus ? (unsigned)atoi(cpus) : 1;
    struct sigaction a = {.sa_handler = on_end};
    sigaction(SIGUSR1, &a, NULL);
    while (lies < most)
        keep_run(most);
    over = true;
    pthread_join(thread, NULL);
    printf("%lu answers, %lu keeps, %lu ended with a reason\n", lies, starts, refusals);
    return 0;
}
