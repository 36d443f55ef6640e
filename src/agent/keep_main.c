/* donjon-keep: one keep, from its building to its end. See keep.h for what it says to the agent. */
#define _GNU_SOURCE
#include "keep_host.h"
#include "keep_lock.h"
#include "../config/config.h"
#include "../loader/reach.h"
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { MEMORY_DEFAULT_GIB = 2, BACKLOG = 16 };

struct arguments {
    const char *dir, *backend, *signer, *warden;
    uint64_t memory;
    struct reach reach;
    int token_fd;
    bool debug;
};

static struct keep_host host = {.lock = PTHREAD_MUTEX_INITIALIZER, .status_fd = -1, .idle = KEEP_IDLE};

/* ---- what is said ---- */

static void say_once(json_t *m) {
    char *text = m ? json_dumps(m, JSON_COMPACT) : NULL;
    json_decref(m);
    if (text && host.status_fd >= 0) dprintf(host.status_fd, "%.*s\n", KEEP_STATUS_MAX - 2, text);
    free(text);
    if (host.status_fd >= 0) close(host.status_fd);
    host.status_fd = -1;
}

static _Noreturn void fail(const char *why) {
    say_once(json_pack("{s:b, s:s}", "ok", 0, "error", why));
    fprintf(stderr, "donjon-keep: %s\n", why);
    exit(1);
}

static uint64_t cpu_ms(void) {
    struct rusage u[2];
    uint64_t ms = 0;
    getrusage(RUSAGE_SELF, &u[0]);
    getrusage(RUSAGE_CHILDREN, &u[1]);
    for (int i = 0; i < 2; i++)
        ms += (uint64_t)(u[i].ru_utime.tv_sec + u[i].ru_stime.tv_sec) * 1000 +
              (uint64_t)(u[i].ru_utime.tv_usec + u[i].ru_stime.tv_usec) / 1000;
    return ms;
}

/* Of this process: the agent sees more, and adds the keep's own where it is another. */
static uint64_t resident_bytes(void) {
    unsigned long long all = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f && fscanf(f, "%llu %llu", &all, &resident) != 2) resident = 0;
    if (f) fclose(f);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

json_t *keep_status_json(const struct keep_host *h) {
    const char *state = h->outcome || h->phase == KEEP_PHASE_ENDED ? "exited"
                        : h->phase == KEEP_PHASE_RUNNING           ? "running"
                                                                   : "waiting";
    json_t *ports = json_array(), *end = json_null();
    for (unsigned i = 0; i < h->n_ports; i++)
        json_array_append_new(ports, json_integer(h->ports[i]));
    if (h->outcome) end = json_pack("{s:s, s:i, s:n}", "outcome", h->outcome, "code", h->code, "text");
    return json_pack("{s:s, s:s, s:s, s:o, s:I, s:I, s:o}", "state", state, "backend", h->backend ? h->backend : "",
                     "measurement", h->measurement, "ports", ports, "cpu_ms", (json_int_t)cpu_ms(), "memory",
                     (json_int_t)resident_bytes(), "exit", end);
}

/* ---- what the loader tells ---- */

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void chosen(void *ctx, const char *backend, const char *protects) {
    struct keep_host *h = ctx;
    char error[512];
    if (h->signer && !keep_signer_measure(h->signer, backend, error, sizeof error)) fail(error);
    pthread_mutex_lock(&h->lock);
    h->backend = backend;
    h->protects = protects;
    for (int i = 0; h->signer && i < 48; i++)
        snprintf(h->measurement + 2 * i, 3, "%02x", keep_signer_measurement(h->signer)[i]);
    pthread_mutex_unlock(&h->lock);
}

static void take_end(struct keep_host *h, uint32_t kind, uint32_t status) {
    static const struct {
        const char *outcome;
        int code;
    } ends[GATE_EXITS] = {[GATE_EXIT_PROGRAM] = {"exited", 0},    [GATE_EXIT_TRAP] = {"trapped", 134},
                          [GATE_EXIT_TIMEOUT] = {"timeout", 124}, [GATE_EXIT_REFUSED] = {"refused", 125},
                          [GATE_EXIT_BROKEN] = {"failed", 125},   [GATE_EXIT_STOPPED] = {"stopped", 143}};
    h->outcome = ends[kind].outcome;
    h->code = kind == GATE_EXIT_PROGRAM ? (int)(status & 0xff) : ends[kind].code;
}

static void changed(void *ctx, const struct keep_status *s) {
    struct keep_host *h = ctx;
    if (s->phase == KEEP_PHASE_BUILT && !keep_lock_calls()) fail("the keep's process cannot be locked in: seccomp");
    pthread_mutex_lock(&h->lock);
    bool quiet = s->phase == h->phase && s->n_ports == h->n_ports; /* a tenant came or went */
    if (h->idle_since_ns == 0 || (h->tenants == 0) != (s->tenants == 0)) h->idle_since_ns = now_ns();
    h->phase = s->phase;
    h->tenants = s->tenants;
    h->n_ports = s->n_ports;
    memcpy(h->ports, s->ports, s->n_ports * sizeof s->ports[0]);
    if (s->phase == KEEP_PHASE_ENDED) take_end(h, s->exit_kind, s->status);
    if (s->phase == KEEP_PHASE_BUILT)
        say_once(json_pack("{s:b, s:s, s:s, s:s, s:b}", "ok", 1, "backend", h->backend, "protects", h->protects,
                           "measurement", h->measurement, "tee", 0));
    else if (!quiet)
        keep_control_event(h);
    pthread_mutex_unlock(&h->lock);
}

static bool evidence(void *ctx, const uint8_t report_data[64], uint8_t *out, uint32_t room, uint32_t *n,
                     uint32_t *size) {
    struct keep_host *h = ctx;
    return h->signer && keep_signer_evidence(h->signer, report_data, out, room, n, size);
}

/* ---- beginning ---- */

static void usage(void) {
    fprintf(
        stderr,
        "usage: donjon-keep --dir DIR --token-fd N [--status-fd N] [--backend NAME] [--memory BYTES] [--signer FILE] "
        "[--idle SECONDS] [--listen PORTS] [--connect any|public|none] [--warden FILE] [--debug]\n"
        "Holds one keep for donjon agent, which starts it.\n");
    exit(125);
}

static uint64_t number(const char *text) {
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (errno || end == text || *end || *text == '-') usage();
    return n;
}

static struct arguments parse(int argc, char **argv) {
    static const struct option options[] = {
        {"dir", 1, NULL, 'd'},    {"status-fd", 1, NULL, 'f'}, {"backend", 1, NULL, 'b'},  {"memory", 1, NULL, 'm'},
        {"signer", 1, NULL, 's'}, {"idle", 1, NULL, 'i'},      {"listen", 1, NULL, 'l'},   {"connect", 1, NULL, 'c'},
        {"warden", 1, NULL, 'w'}, {"debug", 0, NULL, 'D'},     {"token-fd", 1, NULL, 't'}, {NULL, 0, NULL, 0}};
    struct arguments a = {
        .memory = (uint64_t)MEMORY_DEFAULT_GIB << 30, .reach = {1, UINT16_MAX, REACH_ANY}, .token_fd = -1};
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (o) {
        case 'd': a.dir = optarg; break;
        case 'f': host.status_fd = (int)number(optarg); break;
        case 'b': a.backend = optarg; break;
        case 'm': a.memory = number(optarg); break;
        case 's': a.signer = optarg; break;
        case 'i': host.idle = (unsigned)number(optarg); break;
        case 'l':
            if (!reach_parse_listen(optarg, &a.reach)) usage();
            break;
        case 'c':
            if (!reach_parse_connect(optarg, &a.reach)) usage();
            break;
        case 't': a.token_fd = (int)number(optarg); break;
        case 'w': a.warden = optarg; break;
        case 'D': a.debug = true; break;
        default: usage();
        }
    }
    if (!a.dir || a.token_fd < 0 || optind != argc) usage();
    return a;
}

/* In the working directory, so that no path is too long for an address. */
static int listen_on(const char *name) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    snprintf(a.sun_path, sizeof a.sun_path, "%s", name);
    unlink(name);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && chmod(name, 0600) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    if (fd >= 0) close(fd);
    return -1;
}

/* The machine of a kvm keep is memory of this process: nobody is to look at it, and it is not to be written down. */
static void close_up(void) {
    const struct rlimit none = {0, 0};
    umask(077);
    setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
}

/* Once nobody can look into this process any more. */
static bool take_token(int fd) {
    size_t have = 0;
    for (ssize_t n = 1; have < KEEP_TOKEN && n > 0; have += n > 0 ? (size_t)n : 0)
        n = read(fd, host.token + have, KEEP_TOKEN - have);
    close(fd);
    return have == KEEP_TOKEN;
}

/* How the keep has ended, for an agent that is not there at the moment. */
static void write_end(void) {
    json_t *m = keep_status_json(&host);
    char *text = m ? json_dumps(m, JSON_COMPACT) : NULL;
    FILE *f = text ? fopen(KEEP_END ".new", "we") : NULL;
    bool ok = f && fputs(text, f) >= 0 && fputc('\n', f) >= 0;
    if (f && fclose(f) == 0 && ok) rename(KEEP_END ".new", KEEP_END);
    free(text);
    json_decref(m);
}

static void note_end(const struct keep_result *r) {
    pthread_mutex_lock(&host.lock);
    if (host.stopped && !host.outcome) { /* else its program had ended before */
        host.outcome = "stopped";
        host.code = 143;
    } else if (!host.outcome) {
        host.outcome = keep_outcome_name(r->outcome);
        host.code = r->exit_code;
    }
    host.phase = KEEP_PHASE_ENDED;
    write_end();
    keep_control_event(&host);
    pthread_mutex_unlock(&host.lock);
}

int main(int argc, char **argv) {
    struct arguments a = parse(argc, argv);
    struct config config;
    char error[512];
    close_up();
    if (!take_token(a.token_fd)) fail("expected a token on --token-fd");
    if (a.signer && !(host.signer = keep_signer_new(a.signer, error, sizeof error))) fail(error);
    if (chdir(a.dir) != 0) fail("the keep's directory cannot be entered");
    if (!keep_lock_paths(a.warden)) fail("the keep's process cannot be locked in: landlock");
    int channel = listen_on(KEEP_SOCKET), control = listen_on(KEEP_CONTROL);
    if (channel < 0 || control < 0) fail("the sockets in the keep's directory cannot be made");
    if (!config_init(&config) || !keep_control_start(&host, control)) fail("no memory, no thread");

    const struct keep_services services = {.ctx = &host,
                                           .evidence = evidence,
                                           .steward = keep_control_steward,
                                           .steward_answer = keep_control_answer,
                                           .steward_end = keep_control_forget,
                                           .changed = changed};
    const struct keep_options options = {.config = &config,
                                         .tenant = true,
                                         .channel = channel,
                                         .memory = a.memory,
                                         .services = &services,
                                         .control = &host.control,
                                         .reach = &a.reach,
                                         .stdio = {-1, -1, -1},
                                         .backend = a.backend,
                                         .warden = a.warden,
                                         .debug = a.debug,
                                         .chosen = chosen,
                                         .ready_ctx = &host};
    struct keep_result result;
    keep_run(&options, &result);
    if (result.text && (a.debug || host.status_fd >= 0)) fprintf(stderr, "donjon-keep: %s\n", result.text);
    if (host.status_fd >= 0)
        say_once(json_pack("{s:b, s:s}", "ok", 0, "error", result.text ? result.text : "it ended"));
    note_end(&result);
    keep_control_drain();
    unlink(KEEP_SOCKET);
    unlink(KEEP_CONTROL);
    keep_result_free(&result);
    keep_signer_free(host.signer);
    config_free(&config);
    return 0;
}

#if DONJON_SANITIZED
/* Leak checking stops the world with ptrace, which close_up forbids. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) {
    return "detect_leaks=0";
}
#endif
