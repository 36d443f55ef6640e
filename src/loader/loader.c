#define _GNU_SOURCE
#include "loader.h"
#include "../config/config_wire.h"
#include "backend.h"
#include "serve.h"
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* From the strongest to the weakest. */
static const struct backend *const backends[] = {
#if defined __x86_64__
    &backend_kvm,
#endif
    &backend_process,
};
enum { BACKENDS = sizeof backends / sizeof backends[0] };

/* Fixed in docs/cli.md. */
enum { EXIT_TIME = 124, EXIT_OURS = 125, EXIT_TRAP = 134, EXIT_SIGNAL = 128 };

/* How long after its wall time the warden has to say so itself, before the loader kills it. */
#define GRACE_NS UINT64_C(1000000000)

const char *keep_backend(unsigned n, char missing[256]) {
    if (n >= BACKENDS) return NULL;
    backends[n]->probe(missing, 256);
    return backends[n]->name;
}

const char *keep_outcome_name(enum keep_outcome outcome) {
    static const char *const names[] = {
        [KEEP_EXITED] = "exited",   [KEEP_TRAPPED] = "trapped", [KEEP_TIMEOUT] = "timeout",
        [KEEP_REFUSED] = "refused", [KEEP_FAILED] = "failed",   [KEEP_SIGNALLED] = "signalled"};
    return names[outcome];
}

void keep_result_free(struct keep_result *result) {
    free(result->text);
    memset(result, 0, sizeof *result);
}

__attribute__((format(printf, 2, 3))) static void failed(struct keep_result *result, const char *format, ...) {
    va_list args;
    va_start(args, format);
    result->outcome = KEEP_FAILED;
    result->exit_code = EXIT_OURS;
    if (vasprintf(&result->text, format, args) < 0) result->text = NULL;
    va_end(args);
}

/* Never silently weaker: a keep below what is required is refused, also one that was named. */
static void too_weak(struct keep_result *result, enum keep_strength require, const struct backend *best) {
    static const char *const asked[] = {"", "a virtual machine", "a TEE"};
    failed(result, "no keep in %s can be built here (--require); the strongest is %s, which protects %s",
           asked[require], best->name, best->protects);
}

/* The backends of this donjon, and which of them this machine has. */
static void unknown_backend(struct keep_result *result, const char *name) {
    char known[512] = "", missing[256];
    size_t at = 0;
    for (int i = 0; i < BACKENDS; i++) {
        bool works = backends[i]->probe(missing, sizeof missing);
        at += (size_t)snprintf(known + at, sizeof known - at, "%s%s (%s%.100s)", i ? ", " : "", backends[i]->name,
                               works ? "works here" : "not here: ", works ? "" : missing);
        if (at >= sizeof known) break;
    }
    failed(result, "unknown backend \"%s\"; there are %s", name, known);
}

static const struct backend *choose(const char *name, enum keep_strength require, struct keep_result *result) {
    char missing[256] = "";
    for (int i = 0; i < BACKENDS; i++) {
        if (name && strcmp(name, backends[i]->name) != 0) continue;
        if (backends[i]->strength < require && (name || backends[i]->probe(missing, sizeof missing))) {
            too_weak(result, require, backends[i]);
            return NULL;
        }
        if (backends[i]->strength < require) continue;
        if (backends[i]->probe(missing, sizeof missing)) return backends[i];
        if (name) {
            failed(result, "backend %s cannot run here: %s", name, missing);
            return NULL;
        }
    }
    if (name)
        unknown_backend(result, name);
    else
        failed(result, "no backend can run here: %s", missing);
    return NULL;
}

/* The warden's path: what the caller says, what the developer says, or beside this program. The small one wherever it
 * will do. */
static bool find_warden(const struct keep_options *o, char *path, size_t size) {
    const char *given = o->warden ? o->warden : getenv("DONJON_WARDEN");
    if (given && *given) return snprintf(path, size, "%s", given) < (int)size;
    const char *name = o->tenant || config_uses_tls(o->config) ? "donjon-warden-tls" : "donjon-warden";
    ssize_t n = readlink("/proc/self/exe", path, size);
    if (n <= 0 || (size_t)n == size) return false;
    while (n > 0 && path[n - 1] != '/')
        n--;
    return snprintf(path + n, size - (size_t)n, "%s", name) < (int)(size - (size_t)n);
}

static bool write_all(int fd, const void *data, size_t size) {
    const uint8_t *p = data;
    while (size > 0) {
        ssize_t n = write(fd, p, size);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        p += n;
        size -= (size_t)n;
    }
    return true;
}

/* The boot image's parts, one after the other, where they are large through a mapping in large pages: a memfd written
 * to by write(2) has small ones, whose allocation takes most of the time. */
struct part {
    const void *data;
    size_t size;
};
static bool write_parts(int fd, const struct part *parts, unsigned n, size_t size) {
    enum { LARGE = 4 << 20 };
    uint8_t *map = MAP_FAILED, *to;
    if (size >= LARGE && ftruncate(fd, (off_t)size) == 0)
        to = map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        for (unsigned k = 0; k < n; k++)
            if (!write_all(fd, parts[k].data, parts[k].size)) return false;
        return lseek(fd, 0, SEEK_SET) == 0;
    }
    madvise(map, size, MADV_HUGEPAGE);
    for (unsigned k = 0; k < n; to += parts[k++].size)
        if (parts[k].size) memcpy(to, parts[k].data, parts[k].size);
    return munmap(map, size) == 0;
}

static uint32_t boot_flags(const struct keep_options *o) {
    static const uint32_t terminal[3] = {BOOT_TERMINAL_IN, BOOT_TERMINAL_OUT, BOOT_TERMINAL_ERR};
    uint32_t flags = (o->debug ? BOOT_DEBUG : 0) | (o->profile ? BOOT_PROFILE : 0) | (o->tenant ? BOOT_TENANT : 0);
    for (int i = 0; i < 3; i++)
        if (o->stdio[i] >= 0 && isatty(o->stdio[i])) flags |= terminal[i];
    return flags;
}

/* The boot image in a memfd; -1 with the reason in `result`. */
static int make_boot(const struct keep_options *o, size_t *size, struct keep_result *result) {
    if (o->wasm_size > BOOT_MAX_MODULE) {
        result->outcome = KEEP_REFUSED;
        result->exit_code = EXIT_OURS;
        if (asprintf(&result->text, "module has %zu bytes, more than the %u that a keep takes", o->wasm_size,
                     BOOT_MAX_MODULE) < 0)
            result->text = NULL;
        return -1;
    }
    uint8_t *wire = NULL;
    size_t wire_size = 0;
    if (!config_encode(o->config, &wire, &wire_size)) {
        failed(result, "out of memory for the configuration");
        return -1;
    }
    struct boot_header head = {.magic = BOOT_MAGIC,
                               .version = GATE_VERSION,
                               .flags = boot_flags(o),
                               .config_size = wire_size,
                               .module_size = o->wasm_size,
                               .code_size = o->code ? o->code_size : 0};
    if (o->code) memcpy(head.digest, o->code_digest, sizeof head.digest);
    const struct part parts[] = {
        {&head, sizeof head}, {wire, wire_size}, {o->wasm, o->wasm_size}, {o->code, head.code_size}};
    *size = sizeof head + wire_size + o->wasm_size + head.code_size;
    int fd = memfd_create("donjon-boot", MFD_CLOEXEC);
    bool ok = fd >= 0 && write_parts(fd, parts, sizeof parts / sizeof *parts, *size);
    free(wire);
    if (ok) return fd;
    failed(result, "cannot make the boot image: %s", strerror(errno));
    if (fd >= 0) close(fd);
    return -1;
}

/* Writable memory that the keep's process may have: what its limits add up to, its module in all its forms (boot image,
 * module, translated code), code that came with it (boot image, checked, installed, its tables), and something for the
 * warden itself. */
static uint64_t memory_limit(const struct config *c, size_t boot_size, size_t code_size) {
#if DONJON_SANITIZED
    (void)c, (void)boot_size, (void)code_size;
    return 0; /* AddressSanitizer's shadow alone is terabytes of writable address space */
#else
    const struct config_limits *l = &c->limits;
    uint64_t parts[] = {l->memory, l->stack,  l->heap,        l->fs_bytes,   l->tables * 8, l->call_depth * 64,
                        boot_size, boot_size, boot_size * 16, code_size * 5, 256u << 20};
    uint64_t sum = 0;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (__builtin_add_overflow(sum, parts[i], &sum)) return 0;
    return sum;
#endif
}

/* A tenant's workload, which comes later, may ask a virtual machine for as many as there are. */
static unsigned tenant_cpus(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    return (unsigned)CPU_COUNT(&set);
}

static void report(struct keep_result *result, struct server *s) {
    static const struct {
        enum keep_outcome outcome;
        int code;
    } kinds[GATE_EXITS] = {[GATE_EXIT_TRAP] = {KEEP_TRAPPED, EXIT_TRAP},
                           [GATE_EXIT_TIMEOUT] = {KEEP_TIMEOUT, EXIT_TIME},
                           [GATE_EXIT_REFUSED] = {KEEP_REFUSED, EXIT_OURS},
                           [GATE_EXIT_BROKEN] = {KEEP_FAILED, EXIT_OURS},
                           [GATE_EXIT_STOPPED] = {KEEP_SIGNALLED, EXIT_SIGNAL + SIGTERM}};
    if (s->exit_kind == GATE_EXIT_PROGRAM) {
        result->outcome = KEEP_EXITED;
        result->exit_code = (int)(s->status & 0xff); /* as wait(2) would have it */
        return;
    }
    result->outcome = kinds[s->exit_kind].outcome;
    result->exit_code = kinds[s->exit_kind].code;
    if (s->exit_kind == GATE_EXIT_STOPPED) result->signal = SIGTERM;
    result->text = s->text;
    s->text = NULL;
}

/* ---- ending it from another thread ---- */

static void control_keep(struct keep_control *c, struct keep *k, const struct backend *b) {
    if (!c) return;
    pthread_mutex_lock(&c->lock);
    c->keep = k;
    c->backend = (void *)(uintptr_t)b;
    if (c->stopped && k) b->kill(k);
    pthread_mutex_unlock(&c->lock);
}

void keep_stop(struct keep_control *c) {
    pthread_mutex_lock(&c->lock);
    c->stopped = true;
    if (c->keep) ((const struct backend *)c->backend)->kill(c->keep);
    pthread_mutex_unlock(&c->lock);
}

/* A keep that ended without a word. */
static void explain(struct keep_result *result, const struct server *s, struct keep_end end) {
    if (s->broken_pipe) end = (struct keep_end){.signalled = true, .code = SIGPIPE};
    if (!end.signalled) {
        failed(result, "the warden ended with status %d without a report", end.code);
        return;
    }
    if (end.out_of_memory) {
        failed(result, "the keep was killed: it used more memory than all its limits together allow");
        return;
    }
    if (end.reason[0]) {
        failed(result, "the keep died: %s", end.reason);
        return;
    }
    switch (end.code) {
    case SIGSYS: failed(result, "the warden was killed: it made a system call that its seal forbids"); return;
    case SIGKILL: failed(result, "the keep was killed (SIGKILL), perhaps for want of memory"); return;
    case SIGSEGV:
    case SIGBUS:
    case SIGILL:
    case SIGABRT: failed(result, "the warden crashed: %s", strsignal(end.code)); return;
    default: break;
    }
    result->outcome = KEEP_SIGNALLED;
    result->signal = end.code;
    result->exit_code = EXIT_SIGNAL + end.code;
    if (end.code != SIGPIPE && asprintf(&result->text, "the keep was ended by a signal: %s", strsignal(end.code)) < 0)
        result->text = NULL;
}

static void run_in(const struct backend *b, struct keep_image *image, struct server *s, const struct keep_options *o,
                   uint64_t begin, struct keep_result *result) {
    char error[512];
    struct keep *k = b->start(image, error, sizeof error);
    close(image->boot_fd); /* the keep reads it once; its memory goes then */
    image->boot_fd = -1;
    if (!k) {
        failed(result, "%s", error);
        return;
    }
    control_keep(o->control, k, b);
    if (o->profile) server_profile(s, b->pid(k));
    s->lock = o->lock && b->in_process && !DONJON_SANITIZED;
    uint64_t wall = o->config->limits.time;
    s->started_ns = gate_now_ns();
    if (!o->gdb_port && wall < UINT64_MAX / 2) s->deadline_ns = s->started_ns + wall + GRACE_NS;
    bool reported = b->serve(k, s);
    bool late = !reported && !s->broken_pipe && gate_now_ns() >= s->deadline_ns;
    control_keep(o->control, NULL, b);
    b->kill(k); /* whatever it says: a keep that has reported, or let go of its doorbell, ends now */
    struct keep_end end = b->wait(k);
    result->host_calls = s->calls;
    result->ready_ns = s->ready_at_ns ? s->ready_at_ns - begin : 0;
    if (reported) {
        report(result, s);
    } else if (late) {
        result->outcome = KEEP_TIMEOUT;
        result->exit_code = EXIT_TIME;
        result->text = strdup("wall time limit exceeded (the keep did not end by itself)");
    } else {
        explain(result, s, end);
    }
}

void keep_run(const struct keep_options *o, struct keep_result *result) {
    uint64_t begin = gate_now_ns();
    memset(result, 0, sizeof *result);
    const struct backend *b = choose(o->backend, o->require, result);
    if (!b) return;
    result->backend = b->name;
    if (o->profile && !b->pid) {
        failed(result, "a keep of backend %s cannot be profiled from outside; expected one of backend process",
               b->name);
        return;
    }
    if (o->gdb_port && !b->gdb) {
        failed(result, "a keep of backend %s is a process: attach to it with `gdb -p`, as root; --gdb is for kvm",
               b->name);
        return;
    }
    result->protects = b->protects;
    if (o->chosen) o->chosen(o->ready_ctx, b->name, b->protects);
    char warden[4096], error[512];
    if (!find_warden(o, warden, sizeof warden)) {
        failed(result, "cannot tell where the warden is: set DONJON_WARDEN");
        return;
    }
    struct keep_image image = {.warden = warden, .debug = o->debug, .gdb_port = o->gdb_port};
    size_t code_size = o->code ? o->code_size : 0;
    image.boot_fd = make_boot(o, &image.boot_size, result);
    if (image.boot_fd < 0) return;
    image.code_size = code_size;
    image.code_sha256 = o->code_sha256;
    image.memory_limit = memory_limit(o->config, image.boot_size - code_size, code_size);
    image.cpus = o->tenant ? (b->in_process ? tenant_cpus() : 1) : (unsigned)o->config->limits.cpus;
    if (o->tenant && o->memory) image.memory_limit = DONJON_SANITIZED ? 0 : o->memory;
    struct server *s = o->tenant ? server_new_deployed(o->channel, o->services, o->debug, error, sizeof error)
                                 : server_new(o->config, o->stdio, o->debug, error, sizeof error);
    if (s) {
        struct sigaction ignore = {.sa_handler = SIG_IGN}, old;
        sigaction(SIGPIPE, &ignore, &old);
        if (o->services) s->services = o->services;
        if (o->reach) s->reach = *o->reach;
        s->ready = o->ready;
        s->ready_ctx = o->ready_ctx;
        run_in(b, &image, s, o, begin, result);
        sigaction(SIGPIPE, &old, NULL);
        server_delete(s);
    } else {
        failed(result, "%s", error);
    }
    if (image.boot_fd >= 0) close(image.boot_fd);
}
