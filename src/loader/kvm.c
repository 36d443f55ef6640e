/* The `kvm` keep: the warden in a virtual machine of its own, with no kernel but the shim (src/shim). The machine lives
 * in this process: each virtual CPU is a thread, the caller's serves the gate. Whatever ends this process ends the
 * machine. */
#define _GNU_SOURCE
#include "kvm_vm.h"
#include "backend.h"
#include "kvm_crash.h"
#include "kvm_gdb.h"
#include "serve.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LARGE       UINT64_C(0x200000)
#define SECOND      UINT64_C(1000000000)
#define AGAIN_NS    1000000 /* when the kick found the CPU in the shim */
#define MEMORY_MOST (UINT64_C(256) << 30)

/* A virtual CPU. All but the first wait in their threads until the shim wants them (SHIM_CPU): once the loader is
 * locked in there are no new threads. */
struct cpu {
    struct keep *k;
    unsigned n;
    pthread_t thread;
    bool have_thread, have_timer;
    timer_t timer;
    int kick;              /* an eventfd: another CPU wants this one to look up; -1: there are no others */
    _Atomic uint64_t cr3;  /* where it starts; 0: it is not wanted so far */
    _Atomic bool waits;    /* in wait_bell, and sees `kick` */
    _Atomic bool signaled; /* the kick's signal is on its way */
};

struct keep {
    struct vm vm;
    struct cpu cpus[SHIM_CPUS];
    unsigned n_cpus;
    pthread_mutex_t lock;   /* what all CPUs share: the end, the machine's memory, the transfer buffer */
    pthread_mutex_t ending; /* `dying` is set, and the threads are told, once and by one thread */
    int bell, keep_bell;    /* two ends of one socket: the gate's, and the shim's through us */
    int rings;              /* an eventfd: what the keep rings */
    int warden, boot;       /* files */
    uint64_t plain_size;    /* of the boot image, before its compiled code */
    uint64_t dense;         /* vm_create */
    uint64_t memory_limit;
    struct gate_host gate;
    struct server *_Atomic server; /* NULL: nobody serves so far */
    bool debug;
    unsigned mode;
    uint8_t *shim;
    struct shim_digests digests;
    unsigned gdb_port; /* 0: no debugger */
    struct gdb gdb;
    int shim_elf;              /* for a crash's backtrace, in debug mode; or -1 */
    _Atomic bool killed;       /* for good */
    _Atomic bool dying, ended; /* this machine is to end; has, and `end` says how */
    bool joined;               /* there are no threads any more */
    struct keep_end end;
};

/* A signal that only ever interrupts KVM_RUN: blocked everywhere else, so that it needs no handler. */
static int kick_signal(void) {
    return SIGRTMIN;
}

/* ---- probing ---- */

/* Which way SYSCALL works here: a guess that a start corrects (SHIM_WRONG_MODE). */
static unsigned guess_mode(void) {
    const char *given = getenv("DONJON_KVM_MODE");
    if (given && (*given == '0' || *given == '3')) return *given == '0' ? SHIM_MODE_RING0 : SHIM_MODE_PARA;
    if (access("/sys/module/kvm_pvm", F_OK) == 0) return SHIM_MODE_PARA;
    return SHIM_MODE_RING0;
}

static bool kvm_probe(char *missing, size_t size) {
    missing[0] = 0;
    if (DONJON_SANITIZED) {
        snprintf(missing, size, "the sanitised build's warden is not a static program");
        return false;
    }
    if (access("/dev/kvm", R_OK | W_OK) == 0) return true;
    if (errno == ENOENT)
        snprintf(missing, size, "there is no /dev/kvm: no KVM in this kernel, or no virtualization in this processor");
    else
        snprintf(missing, size, "/dev/kvm is there, but not accessible to this user (%s)", strerror(errno));
    return false;
}

/* ---- what it is started with ---- */

static uint8_t *read_whole(const char *path, size_t most, size_t *size, char *error, size_t error_size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    uint8_t *bytes = NULL;
    if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size > 0 && (uint64_t)st.st_size <= most) {
        bytes = malloc((size_t)st.st_size);
        *size = (size_t)st.st_size;
        if (bytes && pread(fd, bytes, *size, 0) != (ssize_t)*size) {
            free(bytes);
            bytes = NULL;
        }
    }
    if (!bytes)
        snprintf(error, error_size, "cannot read %s: %s", path,
                 fd < 0 ? strerror(errno) : "not a file of a sensible size");
    if (fd >= 0) close(fd);
    return bytes;
}

/* A file beside the warden, or what the environment says. */
static bool beside(const char *warden, const char *name, const char *variable, char *path, size_t size) {
    const char *given = variable ? getenv(variable) : NULL, *slash = strrchr(warden, '/');
    if (given && *given) return snprintf(path, size, "%s", given) < (int)size;
    return snprintf(path, size, "%.*s%s", slash ? (int)(slash + 1 - warden) : 0, warden, name) < (int)size;
}

/* The page of digests that was made with the warden; where there is none, from the warden itself. */
static bool find_digests(struct keep *k, const char *warden, char *error, size_t size) {
    char path[4096];
    size_t n;
    snprintf(path, sizeof path, "%s.digests", warden);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        bool ok = read(fd, &k->digests, sizeof k->digests) == (ssize_t)sizeof k->digests;
        close(fd);
        if (!ok) snprintf(error, size, "%s is not a page of digests", path);
        return ok;
    }
    uint8_t *bytes = read_whole(warden, UINT32_MAX, &n, error, size);
    bool ok = bytes && kvm_digests(bytes, n, &k->digests);
    if (bytes && !ok) snprintf(error, size, "%s is not a program", warden);
    free(bytes);
    return ok;
}

/* Compiled code is measured like the warden: the page names the one code that this keep may be given. */
static void add_code(struct keep *k, const struct keep_image *image) {
    if (image->code_size == 0) return;
    k->digests.code_size = image->code_size;
    memcpy(k->digests.code_sha256, image->code_sha256, sizeof k->digests.code_sha256);
}

static bool find_shim(struct keep *k, const char *warden, char *error, size_t size) {
    char path[4096];
    size_t n;
    if (!beside(warden, "donjon-shim", "DONJON_SHIM", path, sizeof path)) return false;
    k->shim = read_whole(path, KVM_SHIM_MOST, &n, error, size);
    if (!k->shim) return false;
    const char *wrong = kvm_shim_check(k->shim, n);
    if (wrong) snprintf(error, size, "%s %s", path, wrong);
    return !wrong;
}

static uint64_t clock_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static void tell(const struct keep *k) {
    struct shim_boot *b = &vm_shared(&k->vm)->boot;
    *b = (struct shim_boot){.version = SHIM_VERSION,
                            .flags = (k->debug ? SHIM_FLAG_DEBUG : 0) | (k->gdb_port ? SHIM_FLAG_STOP : 0),
                            .memory = k->vm.memory,
                            .memory_limit = k->memory_limit,
                            .cpus = k->n_cpus,
                            .tsc_khz = k->vm.tsc_khz,
                            .realtime_ns = clock_ns(CLOCK_REALTIME),
                            .monotonic_ns = clock_ns(CLOCK_MONOTONIC)};
    (void)!getrandom(b->random, sizeof b->random, 0);
}

/* ---- calls of the shim's ---- */

static void end_exited(struct keep *k, int code) {
    k->end = (struct keep_end){.code = code};
}

__attribute__((format(printf, 2, 3))) static void end_broken(struct keep *k, const char *format, ...) {
    va_list args;
    va_start(args, format);
    k->end = (struct keep_end){.signalled = true, .code = SIGABRT};
    vsnprintf(k->end.reason, sizeof k->end.reason, format, args);
    va_end(args);
}

static int64_t read_file(struct keep *k, uint64_t which, uint64_t offset, uint64_t most) {
    if (which >= SHIM_FILES || most > SHIM_TRANSFER_SIZE || offset > INT64_MAX / 2) return -EINVAL;
    if (which == SHIM_FILE_BOOT) {
        if (offset >= k->plain_size) return 0;
        if (most > k->plain_size - offset) most = k->plain_size - offset;
    }
    if (which == SHIM_FILE_CODE) offset += k->plain_size;
    ssize_t n;
    do
        n = pread(which == SHIM_FILE_WARDEN ? k->warden : k->boot, vm_transfer(&k->vm), most, (off_t)offset);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -EIO : n;
}

/* The keep waits for an answer; this is its thread, which may as well give it. */
static bool served_here(struct keep *k) {
    struct server *s = k->server;
    return s && k->gate.may_direct && server_direct(s);
}

/* Sleeps until the bell rings (if asked to listen), time is up, another CPU kicks, or the keep is to end. */
static int64_t wait_bell(struct cpu *c, uint64_t ns, bool listen) {
    struct keep *k = c->k;
    struct pollfd p[2] = {{.fd = k->keep_bell, .events = listen ? POLLIN : 0}, {.fd = c->kick, .events = POLLIN}};
    struct timespec t = {.tv_sec = (time_t)(ns / SECOND), .tv_nsec = (long)(ns % SECOND)};
    uint64_t kicks;
    c->waits = true;
    int ready = ppoll(p, 2, ns == UINT64_MAX ? NULL : &t, NULL);
    c->waits = false;
    if (ready > 0 && p[1].revents) (void)!read(c->kick, &kicks, sizeof kicks);
    if (!listen) return 0;
    if (ready <= 0 || (k->gdb_port && vm_shared(&k->vm)->attention)) return -EINTR;
    uint8_t byte;
    ssize_t n = recv(k->keep_bell, &byte, 1, MSG_DONTWAIT);
    return n > 0 ? 1 : n == 0 ? 0 : -EINTR;
}

static void arm(struct cpu *c, uint64_t ns) {
    if (!c->have_timer) {
        struct sigevent e = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = kick_signal()};
        e._sigev_un._tid = (pid_t)syscall(SYS_gettid);
        c->have_timer = timer_create(CLOCK_MONOTONIC, &e, &c->timer) == 0;
    }
    if (ns == 0) ns = 1;
    struct itimerspec t = {0};
    if (ns != UINT64_MAX) t.it_value = (struct timespec){(time_t)(ns / SECOND), (long)(ns % SECOND)};
    if (c->have_timer) timer_settime(c->timer, 0, &t, NULL);
}

static void write_one(int eventfd) {
    const uint64_t one = 1;
    (void)!write(eventfd, &one, sizeof one);
}

/* Those that sleep wake up, those that run the warden's code are interrupted. */
static int64_t kick(struct keep *k, uint64_t which) {
    for (unsigned i = 0; i < k->n_cpus; i++) {
        struct cpu *c = &k->cpus[i];
        if (!(which >> i & 1) || c->kick < 0) continue;
        write_one(c->kick); /* first: it may be about to sleep */
        if (!c->waits && !atomic_exchange(&c->signaled, true)) pthread_kill(c->thread, kick_signal());
    }
    return 0;
}

static int64_t start_cpu(struct keep *k, uint64_t n, uint64_t cr3) {
    if (n == 0 || n >= k->n_cpus || cr3 == 0 || k->cpus[n].cr3 != 0) return -EINVAL;
    k->cpus[n].cr3 = cr3;
    write_one(k->cpus[n].kick);
    return 0;
}

static int64_t grow(struct keep *k, uint64_t least) {
    uint64_t left = k->memory_limit - k->vm.memory, size = k->vm.memory, most = UINT64_C(4) << 30;
    if (size < least) size = least;
    if (size > most) size = most;
    if (size > left) size = left;
    size &= ~(LARGE - 1);
    return size > 0 && vm_grow(&k->vm, size) ? (int64_t)size : -ENOMEM;
}

static int64_t show(const struct keep *k, uint64_t n, const char *prefix) {
    char text[4096];
    if (n > sizeof text) n = sizeof text;
    memcpy(text, vm_transfer(&k->vm), n);
    for (uint64_t i = 0; i < n; i++)
        if ((unsigned char)text[i] < ' ' && text[i] != '\n' && text[i] != '\t') text[i] = '?';
    if (k->debug) dprintf(STDERR_FILENO, "%s%.*s%s", prefix, (int)n, text, *prefix ? "\n" : "");
    return (int64_t)n;
}

static void crashed(struct keep *k) {
    static struct shim_crash c;
    memcpy(&c, vm_transfer(&k->vm), sizeof c);
    c.reason[sizeof c.reason - 1] = 0;
    for (char *p = c.reason; *p; p++)
        if (*p < ' ' || *p > '~') *p = '?';
    end_broken(k, "%s", c.reason);
    if (c.signal > 0 && c.signal < 32) k->end = (struct keep_end){.signalled = true, .code = (int)c.signal};
    if (k->debug) kvm_show_crash(&c, crash_map(k->warden), crash_map(k->shim_elf));
}

/* What uses what the CPUs share. False: the machine has ended. */
static bool serve_shared(struct keep *k, const struct shim_call *q, int64_t *result) {
    switch (q->op) {
    case SHIM_READ: *result = read_file(k, q->args[0], q->args[1], q->args[2]); break;
    case SHIM_GROW: *result = grow(k, q->args[0]); break;
    case SHIM_CPU: *result = start_cpu(k, q->args[0], q->args[1]); break;
    case SHIM_BOOT_DONE: (void)madvise(vm_transfer(&k->vm), SHIM_TRANSFER_SIZE, MADV_DONTNEED); break;
    case SHIM_LOG: *result = show(k, q->args[0], "shim: "); break;
    case SHIM_STDERR: *result = show(k, q->args[0], ""); break;
    case SHIM_EXIT: end_exited(k, (int)(q->args[0] & 0xff)); return false;
    case SHIM_STOP:
        if (k->gdb_port && gdb_serve(&k->gdb, k->keep_bell)) break;
        end_broken(k, "killed by the debugger");
        return false;
    case SHIM_CRASH: crashed(k); return false;
    case SHIM_WRONG_MODE: k->end.wrong_mode = true; return false;
    default: *result = -ENOSYS;
    }
    return true;
}

/* Serves a call; false: the machine has ended. */
static bool serve_call(struct cpu *cpu) {
    struct keep *k = cpu->k;
    struct shim_call *c = &vm_shared(&k->vm)->cpus[cpu->n].call, q;
    memcpy(&q, c, sizeof q);
    __asm__ volatile("" : "+m"(q)); /* one copy */
    int64_t result = 0;
    bool goes_on = true;
    switch (q.op) {
    case SHIM_BELL_READ: result = served_here(k) ? 1 : wait_bell(cpu, q.args[0], true); break;
    case SHIM_SLEEP: result = wait_bell(cpu, q.args[0], false); break;
    case SHIM_TIMER: arm(cpu, q.args[0]); break;
    case SHIM_KICK: result = kick(k, q.args[0]); break;
    default:
        pthread_mutex_lock(&k->lock);
        goes_on = !k->ended && serve_shared(k, &q, &result);
        if (!goes_on) k->ended = true;
        pthread_mutex_unlock(&k->lock);
    }
    c->result = result;
    return goes_on;
}

/* ---- the virtual CPU's thread ---- */

/* The kick: an interrupt, if the CPU is in the warden's code; else once more a little later (in the shim interrupts are
 * off, or, in its paravirtual mode, would not be expected). */
static void interrupt(struct cpu *c) {
    int fd = c->k->vm.cpus[c->n].fd;
    struct kvm_vcpu_events e;
    struct kvm_regs r;
    struct kvm_interrupt irq = {.irq = SHIM_VECTOR_KICK};
    sigset_t set;
    struct timespec none = {0, 0};
    sigemptyset(&set);
    sigaddset(&set, kick_signal());
    while (sigtimedwait(&set, NULL, &none) > 0) {
    }
    c->signaled = false; /* only now: no signal is on its way that was not taken */
    bool user = ioctl(fd, KVM_GET_REGS, &r) == 0 && r.rip < UINT64_C(1) << 47;
    /* An exception that is half-way in takes the CPU into the shim, and the interrupt would follow it there. */
    bool free = user && ioctl(fd, KVM_GET_VCPU_EVENTS, &e) == 0 && !e.exception.injected && !e.exception.pending;
    if (!free || ioctl(fd, KVM_INTERRUPT, &irq) != 0) /* the warden's code cannot switch interrupts off */
        arm(c, AGAIN_NS);
}

/* The first failure is the one that counts. */
__attribute__((format(printf, 2, 3))) static bool broken(struct keep *k, const char *format, ...) {
    char reason[sizeof k->end.reason];
    va_list args;
    va_start(args, format);
    vsnprintf(reason, sizeof reason, format, args);
    va_end(args);
    pthread_mutex_lock(&k->lock);
    if (!k->ended) end_broken(k, "%s", reason);
    k->ended = true;
    pthread_mutex_unlock(&k->lock);
    return false;
}

static bool serve_exit(struct cpu *c) {
    struct keep *k = c->k;
    const struct kvm_run *run = k->vm.cpus[c->n].run;
    switch (run->exit_reason) {
    case KVM_EXIT_IO:
        if (run->io.direction != KVM_EXIT_IO_OUT) break;
        if (run->io.port == SHIM_PORT) return serve_call(c);
        if (run->io.port != SHIM_PORT_BELL) break;
        write_one(k->rings);
        return true;
    case KVM_EXIT_INTR: return true;
    case KVM_EXIT_INTERNAL_ERROR: return broken(k, "KVM could not go on (internal error %u)", run->internal.suberror);
    case KVM_EXIT_MMIO:
        return broken(k, "the keep touched memory that there is not: guest-physical 0x%llx", run->mmio.phys_addr);
    case KVM_EXIT_SHUTDOWN: return broken(k, "the virtual CPU shut down (triple fault)");
    default: break;
    }
    return broken(k, "the virtual CPU stopped for reason %u", run->exit_reason);
}

static bool set_kick_mask(const struct vm_cpu *cpu) {
    uint64_t mask = ~(UINT64_C(1) << (kick_signal() - 1));
    _Alignas(struct kvm_signal_mask) uint8_t bytes[sizeof(struct kvm_signal_mask) + sizeof mask];
    struct kvm_signal_mask *m = (struct kvm_signal_mask *)(void *)bytes;
    m->len = sizeof mask; /* the kernel's set, not the C library's */
    memcpy(m->sigset, &mask, sizeof mask);
    return ioctl(cpu->fd, KVM_SET_SIGNAL_MASK, m) == 0;
}

static const char *wait_for_start(struct cpu *c) {
    struct keep *k = c->k;
    while (!k->dying && c->cr3 == 0)
        (void)wait_bell(c, UINT64_MAX, false);
    if (k->dying) return NULL;
    const struct shim_header *h = (const struct shim_header *)(const void *)k->shim;
    const char *what = vm_start_cpu(&k->vm, c->n, h, k->mode, c->cr3);
    if (!what && !set_kick_mask(&k->vm.cpus[c->n])) what = "set the virtual CPU's signal mask";
    return what;
}

/* Has all CPUs end, from any thread. */
static void end_cpus(struct keep *k) {
    pthread_mutex_lock(&k->ending);
    bool first = !k->dying;
    k->dying = true;
    for (unsigned i = 0; first && i < k->n_cpus; i++) {
        struct cpu *c = &k->cpus[i];
        if (c->kick >= 0) write_one(c->kick);
        if (c->have_thread)
            pthread_kill(c->thread, kick_signal()); /* stays pending until KVM_RUN, which then returns */
    }
    pthread_mutex_unlock(&k->ending);
}

static void *cpu_thread(void *arg) {
    struct cpu *c = arg;
    struct keep *k = c->k;
    const char *what = c->n > 0 ? wait_for_start(c) : NULL;
    if (what) (void)broken(k, "cannot %s: %s", what, strerror(errno));
    while (!k->dying && !what) {
        if (ioctl(k->vm.cpus[c->n].fd, KVM_RUN, 0) == 0) {
            if (!serve_exit(c)) break;
        } else if (errno == EINTR || errno == EAGAIN) {
            if (!k->dying) interrupt(c);
        } else {
            (void)broken(k, "the virtual CPU does not run: %s", strerror(errno));
            break;
        }
    }
    end_cpus(k);
    k->ended = true;
    shutdown(k->keep_bell, SHUT_RDWR);
    write_one(k->rings);
    return NULL;
}

/* ---- the backend ---- */

static bool start_threads(struct keep *k) {
    sigset_t all, old;
    int rc = 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pthread_mutex_lock(&k->ending);
    for (unsigned i = k->n_cpus; rc == 0 && i-- > 0;) { /* the first one last: nothing runs before all are there */
        k->cpus[i].cr3 = 0;
        rc = pthread_create(&k->cpus[i].thread, NULL, cpu_thread, &k->cpus[i]);
        k->cpus[i].have_thread = rc == 0;
    }
    pthread_mutex_unlock(&k->ending);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    errno = rc;
    return rc == 0;
}

/* After end_cpus. */
static void join_threads(struct keep *k) {
    for (unsigned i = 0; i < k->n_cpus; i++) {
        struct cpu *c = &k->cpus[i];
        if (c->have_thread) pthread_join(c->thread, NULL);
        if (c->have_timer) timer_delete(c->timer);
        c->have_thread = c->have_timer = false;
        c->signaled = false;
    }
}

/* How long each side may spin for the other: as long as sleeping, being rung for, and waking up takes. */
static uint32_t spin_ns(void) {
    enum { SPIN_NS = 150000 };
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0 || CPU_COUNT(&set) < 2) return 0;
    return SPIN_NS;
}

static bool start_machine(struct keep *k, char *error, size_t size) {
    const char *what = vm_create(&k->vm, k->dense);
    if (!what) {
        kvm_image_build(vm_memory(&k->vm), k->shim, &k->digests, k->mode, 0);
        tell(k);
        struct gate_block *block = (struct gate_block *)((uint8_t *)k->vm.slots[0].at + SHIM_GATE_OFFSET);
        gate_host_init(&k->gate, block, k->bell, spin_ns());
        k->gate.rings = k->rings;
        k->gate.may_direct = !k->gdb_port;
        block->slow_spin_ns = spin_ns() / 3; /* sleeping takes two exits of the machine */
        what = vm_start(&k->vm, (const struct shim_header *)(const void *)k->shim, k->mode);
    }
    if (!what && !set_kick_mask(&k->vm.cpus[0])) what = "set the virtual CPU's signal mask";
    if (!what && !start_threads(k)) what = "start a thread for each virtual CPU";
    if (what) snprintf(error, size, "cannot %s: %s", what, strerror(errno));
    return !what;
}

static void free_keep(struct keep *k) {
    if (k->gdb_port) gdb_close(&k->gdb);
    if (k->shim_elf >= 0) close(k->shim_elf);
    end_cpus(k); /* a start that failed may have left some */
    join_threads(k);
    vm_destroy(&k->vm);
    for (unsigned i = 0; i < k->n_cpus; i++)
        if (k->cpus[i].kick >= 0) close(k->cpus[i].kick);
    if (k->warden >= 0) close(k->warden);
    if (k->boot >= 0) close(k->boot);
    if (k->bell >= 0) close(k->bell);
    if (k->keep_bell >= 0) close(k->keep_bell);
    if (k->rings >= 0) close(k->rings);
    pthread_mutex_destroy(&k->lock);
    pthread_mutex_destroy(&k->ending);
    free(k->shim);
    free(k);
}

static void stop_warden(void *ctx) {
    struct keep *k = ctx;
    if (!k->joined) pthread_kill(k->cpus[0].thread, kick_signal());
}

/* What debugging wants to have open before the loader is locked in. */
static bool open_debugger(struct keep *k, const struct keep_image *image, char *error, size_t size) {
    char path[4096];
    if (k->debug && beside(image->warden, "donjon-shim.elf", NULL, path, sizeof path))
        k->shim_elf = open(path, O_RDONLY | O_CLOEXEC);
    if (!image->gdb_port) return true;
    k->gdb_port = image->gdb_port;
    uint64_t cr3 = KVM_CR3((const struct shim_header *)(const void *)k->shim);
    if (!gdb_open(&k->gdb, k->gdb_port, &k->vm, cr3, stop_warden, k)) {
        snprintf(error, size, "cannot listen for a debugger on 127.0.0.1:%u: %s", k->gdb_port, strerror(errno));
        return false;
    }
    fprintf(stderr, "keep: waiting for a debugger: gdb %s -ex 'target remote 127.0.0.1:%u'\n", image->warden,
            k->gdb_port);
    return true;
}

/* A debugger stops one CPU: it has no more to do with. */
static bool prepare_cpus(struct keep *k, const struct keep_image *image) {
    bool ok = true;
    k->n_cpus = image->gdb_port || image->cpus < 1 ? 1 : image->cpus < SHIM_CPUS ? image->cpus : SHIM_CPUS;
    pthread_mutex_init(&k->lock, NULL);
    pthread_mutex_init(&k->ending, NULL);
    for (unsigned i = 0; i < k->n_cpus; i++) {
        k->cpus[i] = (struct cpu){.k = k, .n = i, .kick = k->n_cpus > 1 ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1};
        ok = ok && (k->n_cpus == 1 || k->cpus[i].kick >= 0);
    }
    return ok;
}

static struct keep *kvm_start(const struct keep_image *image, char *error, size_t size) {
    struct keep *k = calloc(1, sizeof *k);
    int pair[2] = {-1, -1};
    snprintf(error, size, "out of memory");
    if (!k) return NULL;
    uint64_t limit = image->memory_limit ? image->memory_limit : MEMORY_MOST;
    if (limit > MEMORY_MOST) limit = MEMORY_MOST;
    k->memory_limit = (limit + SHIM_FIRST_MEMORY + LARGE - 1) & ~(LARGE - 1);
    k->debug = image->debug;
    k->mode = guess_mode();
    vm_none(&k->vm);
    k->shim_elf = -1;
    bool cpus = prepare_cpus(k, image);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) pair[0] = pair[1] = -1;
    k->bell = pair[0];
    k->keep_bell = pair[1];
    k->rings = eventfd(0, EFD_CLOEXEC);
    k->warden = open(image->warden, O_RDONLY | O_CLOEXEC);
    k->boot = fcntl(image->boot_fd, F_DUPFD_CLOEXEC, 3);
    k->plain_size = image->boot_size - image->code_size;
    /* code: checked, read, installed, each a copy */
    k->dense = 3 * (uint64_t)image->code_size;
    if (k->rings < 0 || k->bell < 0 || !cpus)
        snprintf(error, size, "cannot make a doorbell: %s", strerror(errno));
    else if (k->warden < 0)
        snprintf(error, size, "cannot start the warden %s: %s", image->warden, strerror(errno));
    else if (find_shim(k, image->warden, error, size) && find_digests(k, image->warden, error, size)) {
        add_code(k, image);
        if (k->digests.warden_size > LARGE) k->dense += 2 * k->digests.warden_size; /* copied, then loaded */
        if (k->debug) k->digests.flags |= SHIM_MAY_DEBUG;
        if (open_debugger(k, image, error, size) && start_machine(k, error, size)) return k;
    }
    free_keep(k);
    return NULL;
}

/* The shim has found that SYSCALL here is of the other kind: once more, the other way. */
static bool start_again(struct keep *k) {
    char error[256];
    int pair[2];
    end_cpus(k);
    join_threads(k);
    vm_destroy(&k->vm);
    close(k->bell);
    close(k->keep_bell);
    k->bell = k->keep_bell = -1;
    k->mode = k->mode == SHIM_MODE_RING0 ? SHIM_MODE_PARA : SHIM_MODE_RING0;
    k->ended = false;
    k->dying = k->killed;
    k->joined = true;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return false;
    k->bell = pair[0];
    k->keep_bell = pair[1];
    k->joined = !start_machine(k, error, sizeof error);
    if (k->joined) end_broken(k, "%s", error);
    return !k->joined;
}

static bool kvm_serve(struct keep *k, struct server *server) {
    k->server = server;
    bool reported = server_loop(server, &k->gate);
    if (reported || !k->ended || !k->end.wrong_mode) return reported;
    k->end.wrong_mode = false;
    return start_again(k) && server_loop(server, &k->gate);
}

static void kvm_kill(struct keep *k) {
    k->killed = true;
    if (k->joined) return;
    shutdown(k->bell, SHUT_RDWR);
    end_cpus(k);
}

static struct keep_end kvm_wait(struct keep *k) {
    end_cpus(k);
    join_threads(k);
    struct keep_end end = k->end;
    free_keep(k);
    return end;
}

const struct backend backend_kvm = {
    .name = "kvm",
    .strength = KEEP_VM,
    .in_process = true,
    .gdb = true,
    .protects =
        "this machine from the workload, by a virtual machine around the sealed warden; not the workload from this "
        "machine",
    .probe = kvm_probe,
    .start = kvm_start,
    .serve = kvm_serve,
    .wait = kvm_wait,
    .kill = kvm_kill,
};
