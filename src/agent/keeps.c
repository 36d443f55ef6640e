/* The keeps: each a process of its own (keep.h) and a directory keeps/ID. */
#include "agent.h"
#include "cli/cli.h"
#include "log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "keep_process.h"
#include <openssl/crypto.h>

const char *const keep_state_names[] = {"building", "waiting", "running", "exited", "ended"};

enum { RECORD_NAME = KEEP_ID + sizeof ".json" };
static const char *record_name(const char *id, char name[RECORD_NAME]) {
    snprintf(name, RECORD_NAME, "%.*s.json", KEEP_ID, id);
    return name;
}

const struct tenant *keep_tenant(const struct keep *k) {
    static const struct tenant nobody = {.listen = "none", .connect = "none"};
    const struct tenant *t = settings_tenant(&k->agent->settings, k->tenant), *local = &k->agent->local;
    if (t) return t;
    /* Adopted, of a tenant that is configured no more: not this machine's own, who may do what he likes. */
    return strcmp(k->tenant, local->name) == 0 ? local : &nobody;
}

static bool alive(const struct keep *k) {
    return k->state != KEEP_ENDED;
}

static void describe_why(struct keep *k, const char *why) {
    if (!*k->why) snprintf(k->why, sizeof k->why, "%.*s", (int)sizeof k->why - 1, why);
}

/* ---- what survives the agent ---- */

static json_t *record_of(const struct keep *k, const char *state) {
    return json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:I, s:b, s:i, s:I, s:i, s:I}", "v", 2,
                     "state", state, "boot", k->agent->boot, "token", k->token, "id", k->id, "tenant", k->tenant,
                     "name", k->name, "backend", k->backend, "protects", k->protects, "measurement", k->measurement,
                     "tee", (int)k->tee, "memory", (json_int_t)k->memory, "restart", (int)k->restart, "restarts",
                     (int)k->restarts, "created", (json_int_t)k->created, "pid", (int)k->pid, "started",
                     (json_int_t)k->started);
}

/* On the disk when this returns, name and all: what is acknowledged is not lost with the machine's power. */
static bool write_record(const struct keep *k, const char *state) {
    char name[RECORD_NAME];
    json_t *record = record_of(k, state);
    char *text = record ? json_dumps(record, JSON_INDENT(1)) : NULL;
    json_decref(record);
    bool ok = text && state_write(k->agent->state.records, record_name(k->id, name), text, strlen(text), 0600);
    if (text) OPENSSL_cleanse(text, strlen(text));
    free(text);
    return ok;
}

static bool take_string(json_t *record, const char *name, char *out, size_t size) {
    const char *s = json_string_value(json_object_get(record, name));
    return s && (size_t)snprintf(out, size, "%s", s) < size;
}

/* False: not a record of ours. `*ready`: the keep was acknowledged to its tenant. */
static bool read_record(struct keep *k, bool *ready) {
    char state[16], id[KEEP_ID + 1], boot[sizeof k->agent->boot], name[RECORD_NAME];
    size_t n;
    char *text = state_read(k->agent->state.records, record_name(k->id, name), &n);
    json_t *r = text ? json_loadb(text, n, 0, NULL) : NULL;
    free(text);
    bool ok =
        r && take_string(r, "state", state, sizeof state) && take_string(r, "id", id, sizeof id) &&
        !strcmp(id, k->id) && take_string(r, "boot", boot, sizeof boot) &&
        take_string(r, "token", k->token, sizeof k->token) && take_string(r, "tenant", k->tenant, sizeof k->tenant) &&
        take_string(r, "name", k->name, sizeof k->name) && take_string(r, "backend", k->backend, sizeof k->backend) &&
        take_string(r, "protects", k->protects, sizeof k->protects) &&
        take_string(r, "measurement", k->measurement, sizeof k->measurement);
    if (ok) {
        k->memory = (uint64_t)json_integer_value(json_object_get(r, "memory"));
        k->restart = json_is_true(json_object_get(r, "restart"));
        k->restarts = (uint32_t)json_integer_value(json_object_get(r, "restarts"));
        k->tee = json_is_true(json_object_get(r, "tee"));
        k->created = json_integer_value(json_object_get(r, "created"));
        if (!strcmp(boot, k->agent->boot)) k->pid = (pid_t)json_integer_value(json_object_get(r, "pid"));
        k->started = (uint64_t)json_integer_value(json_object_get(r, "started"));
        *ready = !strcmp(state, "ready");
    }
    json_decref(r);
    return ok;
}

/* ---- the end ---- */

static void remove_keep(struct keep *k) {
    struct keep **at = &k->agent->keeps;
    while (*at != k)
        at = &(*at)->next;
    *at = k->next;
    loop_clear(&k->deadline);
    OPENSSL_cleanse(k->token, sizeof k->token);
    free(k);
}

/* The oldest of those that have ended, beyond what is remembered. The list is in the order of creation, newest first.
 */
static void forget_old(struct agent *a) {
    unsigned n = 0;
    int64_t now = time(NULL);
    for (struct keep *k = a->keeps, *next; k; k = next) {
        next = k->next;
        if (k->state != KEEP_ENDED) continue;
        if (++n > ENDED_MAX || now - k->ended > ENDED_SECONDS) remove_keep(k);
    }
}

static void close_status(struct keep *k) {
    if (k->status.fd < 0) return;
    loop_forget(&k->agent->loop, &k->status);
    close(k->status.fd);
    k->status.fd = -1;
}

static void sweep_again(struct deadline *d) {
    struct keep *k = OWNER_OF(d, struct keep, deadline);
    if (cgroups_remove(k->id, true) || ++k->sweeps == SWEEPS_MAX) return;
    loop_set(&k->agent->loop, &k->deadline, (uint64_t)SWEEP_MS << k->sweeps);
}

static bool failed(const struct keep *k) {
    return strcmp(k->outcome, "stopped") != 0 && (strcmp(k->outcome, "exited") != 0 || k->exit_code != 0);
}

static bool build(struct keep *k, unsigned idle, char *error, size_t size);

/* A fresh keep under the same id: it waits for its tenant, who alone can fill it again. */
static bool build_again(struct keep *k) {
    char error[300];
    if (k->state == KEEP_BUILDING) return false; /* what could not be built would not be the next time, without end */
    if (!k->restart || !k->acknowledged || k->stopping || k->agent->draining || !failed(k)) return false;
    k->restarts++;
    k->line_used = 0;
    if (!build(k, 0, error, sizeof error)) {
        describe_why(k, error);
        return false;
    }
    log_event(LOG_INFO, "keep built anew", "keep", k->id, "after", k->outcome, NULL);
    *k->outcome = 0;
    *k->why = 0;
    k->n_ports = 0;
    return true;
}

static void remove_files(const struct keep *k) {
    char name[RECORD_NAME];
    state_remove(k->agent->state.keeps, k->id);
    unlinkat(k->agent->state.records, record_name(k->id, name), 0); /* last: what has no record is nobody's */
}

static void note_out_of_memory(struct keep *k) {
    char why[80];
    if (*k->outcome || cgroups_out_of_memory(k->id) <= k->ooms) return;
    snprintf(why, sizeof why, "used more than its %llu MiB of memory", (unsigned long long)k->memory >> 20);
    describe_why(k, why);
}

/* The keep's process is gone: nothing of it is left behind but a line for its tenant to ask about. */
static void clean_up(struct keep *k) {
    struct agent *a = k->agent;
    loop_clear(&k->deadline);
    if (k->process.fd >= 0) {
        loop_forget(&a->loop, &k->process);
        close(k->process.fd);
    }
    k->process.fd = -1;
    k->finishing = false;
    note_out_of_memory(k);
    bool swept = cgroups_remove(k->id, true);
    remove_files(k);
    bool unbuilt = k->state == KEEP_BUILDING && *k->why && !k->stopping;
    if (!*k->outcome)
        snprintf(k->outcome, sizeof k->outcome, "%s", k->stopping ? "stopped" : unbuilt ? "failed" : "killed");
    k->n_ports = 0; /* closed with it */
    k->pid = 0;
    if (build_again(k)) return;
    k->state = KEEP_ENDED;
    k->ended = time(NULL);
    char code[16];
    snprintf(code, sizeof code, "%d", k->exit_code);
    log_event(LOG_INFO, "keep ended", "keep", k->id, "tenant", k->tenant, "outcome", k->outcome, "code", code,
              *k->why ? "why" : NULL, k->why, NULL);
    k->sweeps = 0;
    k->deadline.passed = sweep_again;
    if (!swept) loop_set(&a->loop, &k->deadline, SWEEP_MS);
    if (k->waiter) conn_keep_built(k->waiter, NULL, *k->why ? k->why : "the keep's process ended while it was built");
    k->waiter = NULL;
}

static void process_gone(struct watch *w, uint32_t events) {
    (void)events;
    clean_up(OWNER_OF(w, struct keep, process));
}

static void process_stuck(struct deadline *d) {
    clean_up(OWNER_OF(d, struct keep, deadline));
}

/* Lets go of the keep's process and ends it. False: it is gone; true: ->process tells when it is. */
static bool begin_finish(struct keep *k) {
    k->finishing = true;
    close_status(k);
    control_close(k);
    loop_clear(&k->deadline);
    upcalls_forget(k->agent->upcalls, k);
    k->process = (struct watch){.fd = keep_process_open(k->pid, k->started), .ready = process_gone};
    if (k->process.fd >= 0) keep_process_kill(k->process.fd);
    return k->process.fd >= 0;
}

/* The keep's process has ended, or has to. Cleaned up is behind it only when it has: a process that dies may still be
 * writing. */
static void finish(struct keep *k) {
    if (k->state == KEEP_ENDED || k->finishing) return;
    if (begin_finish(k) && loop_want(&k->agent->loop, &k->process, EPOLLIN)) {
        k->deadline.passed = process_stuck;
        loop_set(&k->agent->loop, &k->deadline, STOP_MS);
        return;
    }
    clean_up(k);
}

/* The same, waiting for it: when the agent begins and when it ends. */
static void finish_now(struct keep *k) {
    if (k->state == KEEP_ENDED) return;
    bool living = k->finishing ? k->process.fd >= 0 : begin_finish(k);
    struct pollfd p = {k->process.fd, POLLIN, 0};
    if (living) poll(&p, 1, STOP_MS);
    clean_up(k);
}

void keep_lost(struct keep *k) {
    finish(k);
}

static void out_of_patience(struct deadline *d) {
    struct keep *k = OWNER_OF(d, struct keep, deadline);
    describe_why(k, k->stopping ? "did not stop by itself" : "was not built in time");
    finish(k);
}

void keep_stop(struct keep *k) {
    if (!alive(k) || k->stopping || k->finishing) return;
    k->stopping = true;
    if (!k->lines || !control_send(k, json_pack("{s:s}", "op", "stop"))) {
        finish(k);
        return;
    }
    k->deadline.passed = out_of_patience;
    loop_set(&k->agent->loop, &k->deadline, STOP_MS);
}

void keep_changed(struct keep *k) {
    /* A program that failed is not left lying about where a new keep shall stand. */
    if (k->state == KEEP_EXITED && k->restart && failed(k) && !k->stopping)
        control_send(k, json_pack("{s:s}", "op", "stop"));
}

/* ---- the beginning ---- */

/* The line on the status descriptor; false with ->why. */
static bool take_built(struct keep *k, const char *line, size_t size) {
    json_t *m = json_loadb(line, size, JSON_REJECT_DUPLICATES, NULL);
    bool ok = json_is_true(json_object_get(m, "ok")) && take_string(m, "backend", k->backend, sizeof k->backend) &&
              take_string(m, "measurement", k->measurement, sizeof k->measurement);
    const char *protects = json_string_value(json_object_get(m, "protects")),
               *error = json_string_value(json_object_get(m, "error"));
    snprintf(k->protects, sizeof k->protects, "%s", protects ? protects : "");
    k->tee = json_is_true(json_object_get(m, "tee"));
    if (!ok) describe_why(k, error ? error : "the keep's process did not say what it built");
    json_decref(m);
    return ok;
}

static void built(struct keep *k) {
    close_status(k);
    loop_clear(&k->deadline);
    if (!k->waiter && !k->acknowledged) {
        k->stopping = true; /* who asked for it has gone */
        finish(k);
        return;
    }
    k->state = KEEP_WAITING;
    if (!control_open(k) || !write_record(k, "ready")) {
        describe_why(k, "cannot take up the line to the keep's process");
        finish(k);
        return;
    }
    log_event(LOG_INFO, "keep built", "keep", k->id, "tenant", k->tenant, "backend", k->backend, NULL);
    k->acknowledged = true;
    struct conn *waiter = k->waiter;
    k->waiter = NULL;
    if (waiter) conn_keep_built(waiter, k, NULL);
}

static void status_ready(struct watch *w, uint32_t events) {
    struct keep *k = OWNER_OF(w, struct keep, status);
    (void)events;
    ssize_t n = read(w->fd, k->line + k->line_used, sizeof k->line - k->line_used);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n > 0) k->line_used += (size_t)n;
    char *end = memchr(k->line, '\n', k->line_used);
    if (!end && n > 0 && k->line_used < sizeof k->line) return;
    if (end && take_built(k, k->line, (size_t)(end - k->line)))
        built(k);
    else
        finish(k);
}

static bool random_hex(char *out, size_t digits) {
    unsigned char bytes[KEEP_TOKEN / 2];
    if (getrandom(bytes, digits / 2, 0) != (ssize_t)(digits / 2)) return false;
    for (size_t i = 0; i < digits / 2; i++)
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
    OPENSSL_cleanse(bytes, sizeof bytes);
    return true;
}

/* Directory and process for a keep that has its id, tenant and wishes. Nothing is left when it fails. */
static bool build(struct keep *k, unsigned idle, char *error, size_t size) {
    struct agent *a = k->agent;
    const struct tenant *t = keep_tenant(k);
    int procs;
    if (!cgroups_make(k->id, k->memory, t->cpu, &procs)) {
        snprintf(error, size, "cannot make a control group for the keep: %s", strerror(errno));
        return false;
    }
    k->ooms = cgroups_out_of_memory(k->id);
    struct keep_process p = {.program = a->keep_program,
                             .state = a->state.path,
                             .id = k->id,
                             .backend = k->wanted_backend,
                             .token = k->token,
                             .memory = k->memory,
                             .idle = idle,
                             .listen = t->listen,
                             .connect = t->connect,
                             .debug = a->debug,
                             .procs_fd = procs};
    bool ok = random_hex(k->token, KEEP_TOKEN) && mkdirat(a->state.keeps, k->id, 0700) == 0 && keep_process_start(&p);
    if (p.procs_fd >= 0) close(p.procs_fd);
    k->pid = p.pid;
    k->started = p.started;
    /* The process waits for this word, and ends when the agent dies before saying it: there is no moment at which it
     * lives without a record. */
    k->state = KEEP_BUILDING;
    ok = ok && write_record(k, "building") && keep_process_go(&p);
    k->status = (struct watch){.fd = ok ? p.status_fd : -1, .ready = status_ready};
    ok = ok && loop_want(&a->loop, &k->status, EPOLLIN);
    if (ok) {
        k->deadline.passed = out_of_patience;
        loop_set(&a->loop, &k->deadline, BUILD_MS);
        return true;
    }
    snprintf(error, size, "cannot start %s: %s", a->keep_program, strerror(errno));
    keep_process_abandon(&p);
    k->status.fd = -1;
    k->pid = 0;
    cgroups_remove(k->id, true);
    remove_files(k);
    return false;
}

void keeps_usage(const struct agent *a, const char *tenant, uint32_t *keeps, uint64_t *memory) {
    *keeps = 0;
    *memory = 0;
    for (const struct keep *k = a->keeps; k; k = k->next) {
        if (!alive(k) || strcmp(k->tenant, tenant) != 0) continue;
        ++*keeps;
        *memory += k->memory;
    }
}

static bool within_quota(const struct agent *a, const struct tenant *t, uint64_t wanted, char *error, size_t size) {
    uint32_t keeps;
    uint64_t memory;
    keeps_usage(a, t->name, &keeps, &memory);
    if (keeps >= t->keeps) {
        snprintf(error, size, "quota: %u keeps, all in use", t->keeps);
        return false;
    }
    if (wanted > t->memory || memory > t->memory - wanted) {
        snprintf(error, size, "quota: %llu MiB of memory; %llu in use, %llu more asked for",
                 (unsigned long long)(t->memory >> 20), (unsigned long long)(memory >> 20),
                 (unsigned long long)(wanted >> 20));
        return false;
    }
    return true;
}

static bool backend_allowed(const struct settings *s, const char *backend) {
    if (!s->n_backends) return true;
    for (uint32_t i = 0; i < s->n_backends; i++)
        if (!strcmp(s->backends[i], backend)) return true;
    return false;
}

static void not_offered(const struct settings *s, const char *backend, char *error, size_t size) {
    int at = snprintf(error, size, "backend %s is not offered here; this host's operator offers", backend);
    for (uint32_t i = 0; i < s->n_backends && at > 0 && (size_t)at < size; i++)
        at += snprintf(error + at, size - (size_t)at, "%s %s", i ? "," : "", s->backends[i]);
}

struct keep *keep_create(struct agent *a, const struct tenant *t, const struct request *r, struct conn *waiter,
                         char *error, size_t size) {
    uint64_t memory = r->memory ? r->memory : t->keep_memory;
    forget_old(a);
    if (a->draining) return snprintf(error, size, "the agent is stopping"), NULL;
    if (!within_quota(a, t, memory, error, size)) return NULL;
    /* With a list of what may be, its first is what is built for those who do not choose. */
    const char *backend = *r->backend ? r->backend : a->settings.n_backends ? a->settings.backends[0] : "";
    if (!backend_allowed(&a->settings, backend)) return not_offered(&a->settings, backend, error, size), NULL;
    struct keep *k = calloc(1, sizeof *k);
    if (!k || !random_hex(k->id, KEEP_ID)) {
        free(k);
        return snprintf(error, size, "out of memory"), NULL;
    }
    k->agent = a;
    k->memory = memory;
    k->restart = r->restart;
    k->created = time(NULL);
    k->waiter = waiter;
    k->status.fd = k->process.fd = -1;
    snprintf(k->name, sizeof k->name, "%s", r->name);
    snprintf(k->tenant, sizeof k->tenant, "%s", t->name);
    snprintf(k->wanted_backend, sizeof k->wanted_backend, "%s", backend);
    if (!build(k, KEEP_IDLE, error, size)) {
        log_event(LOG_FAIL, "cannot build a keep", "tenant", t->name, "why", error, NULL);
        free(k);
        return NULL;
    }
    k->next = a->keeps;
    a->keeps = k;
    return k;
}

/* ---- asking ---- */

struct keep *keep_find(struct agent *a, const struct tenant *t, const char *id) {
    for (struct keep *k = a->keeps; k; k = k->next)
        if (!strcmp(k->id, id) && !strcmp(k->tenant, t->name)) return k;
    return NULL;
}

int keep_connect(struct keep *k, char *error, size_t size) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (k->state == KEEP_ENDED || k->finishing) {
        bool own = !strcmp(k->outcome, "exited");
        char code[32] = "";
        if (own) snprintf(code, sizeof code, " with code %d", k->exit_code);
        snprintf(error, size, "the keep has ended, and its output with it: %s%s%s%s",
                 *k->outcome ? k->outcome : "killed", code, *k->why ? ", " : "", k->why);
        return -1;
    }
    if (k->state == KEEP_BUILDING) return snprintf(error, size, "the keep is being built"), -1;
    snprintf(a.sun_path, sizeof a.sun_path, "%s/keeps/%s/" KEEP_SOCKET, k->agent->state.path, k->id);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) == 0) return fd;
    snprintf(error, size, "cannot reach the keep: %s",
             errno == EAGAIN ? "too many connections wait for it" : strerror(errno));
    if (fd >= 0) close(fd);
    return -1;
}

json_t *keep_describe(const struct keep *k) {
    struct keep_usage used = {0};
    if (k->pid) keep_process_usage(k->pid, k->started, &used);
    json_t *ports = json_array();
    for (unsigned i = 0; i < k->n_ports; i++)
        json_array_append_new(ports, json_integer(k->ports[i]));
    json_t *j = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:b, s:i, s:o}", "id", k->id,
                          "name", k->name, "state", keep_state_names[k->state], "backend", k->backend, "protects",
                          k->protects, "measurement", k->measurement, "tee", (int)k->tee, "memory",
                          (json_int_t)k->memory, "memory_used", (json_int_t)used.memory, "cpu_ms",
                          (json_int_t)used.cpu_ms, "created", (json_int_t)k->created, "ended", (json_int_t)k->ended,
                          "restart", (int)k->restart, "restarts", (int)k->restarts, "ports", ports);
    const struct tenant *t = settings_tenant(&k->agent->settings, k->tenant);
    if (j && t) json_object_set_new(j, "reach", json_pack("{s:s, s:s}", "listen", t->listen, "connect", t->connect));
    if (j && *k->outcome)
        json_object_set_new(j, "exit", json_pack("{s:s, s:i}", "outcome", k->outcome, "code", k->exit_code));
    if (j && *k->why) json_object_set_new(j, "why", json_string(k->why));
    return j;
}

/* ---- adoption, reaping, leaving ---- */

/* What the keep's process wrote when it ended while nobody was there to be told. */
static void read_end(struct keep *k) {
    size_t n;
    int dir = openat(k->agent->state.keeps, k->id, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    char *text = dir >= 0 ? state_read(dir, KEEP_END, &n) : NULL;
    if (dir >= 0) close(dir);
    json_t *m = text ? json_loadb(text, n, 0, NULL) : NULL, *end = json_object_get(m, "exit");
    free(text);
    const char *outcome = json_string_value(json_object_get(end, "outcome"));
    if (outcome) cli_printable(outcome, k->outcome, sizeof k->outcome, false); /* the keep's process has written it */
    if (*k->outcome)
        k->exit_code = (int)json_integer_value(json_object_get(end, "code"));
    else
        describe_why(k, "found dead when the agent started");
    json_decref(m);
}

static void adopt(struct agent *a, const char *id) {
    bool ready = false;
    struct keep *k = calloc(1, sizeof *k);
    if (!k) return;
    k->agent = a;
    k->status.fd = k->process.fd = -1;
    snprintf(k->id, sizeof k->id, "%s", id);
    bool known = read_record(k, &ready);
    k->next = a->keeps;
    a->keeps = k;
    k->acknowledged = ready;
    k->state = KEEP_RUNNING; /* until it says itself */
    if (known && ready && keep_process_is(k->pid, k->started) && control_open(k)) {
        log_event(LOG_INFO, "keep adopted", "keep", id, "tenant", k->tenant, "backend", k->backend, NULL);
        return;
    }
    /* Never acknowledged: ended without a word. Acknowledged, and dead: its tenant will ask. */
    if (!known) k->pid = 0;
    if (ready) {
        read_end(k);
        finish_now(k);
        return;
    }
    k->restart = false;
    k->stopping = true;
    finish_now(k);
    remove_keep(k);
}

static bool known(const struct agent *a, const char *id) {
    const struct keep *k = a->keeps;
    while (k && strcmp(k->id, id) != 0)
        k = k->next;
    return k;
}

/* Of names in a directory those that are an id with `end` behind it; of records also what was not written to its end.
 */
static void adopt_from(struct agent *a, int dir, const char *end) {
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    for (struct dirent *e; d && (e = readdir(d));) {
        char id[KEEP_ID + 1] = "";
        size_t n = strlen(e->d_name);
        if (n < KEEP_ID || !keep_id_fine(e->d_name, KEEP_ID)) continue;
        memcpy(id, e->d_name, KEEP_ID);
        if (!strcmp(e->d_name + KEEP_ID, end)) {
            if (!known(a, id)) adopt(a, id);
        } else if (dir == a->state.records) {
            unlinkat(dir, e->d_name, 0);
        }
    }
    if (d) closedir(d);
}

void keeps_adopt(struct agent *a) {
    adopt_from(a, a->state.keeps, "");
    adopt_from(a, a->state.records, ".json");
    cgroups_sweep(a);
}

void keeps_reap(struct agent *a) {
    for (pid_t pid; (pid = waitpid(-1, NULL, WNOHANG)) > 0;)
        for (struct keep *k = a->keeps; k; k = k->next)
            if (k->pid == pid) {
                k->pid = 0;
                /* What it still had to say comes first: its line ends by itself, now that the process is gone. */
                if (!k->lines && k->status.fd < 0 && !k->finishing) finish(k);
                break;
            }
}

void keeps_release(struct agent *a, bool end) {
    while (a->keeps) {
        struct keep *k = a->keeps;
        k->restart = false;
        if (alive(k) && (end || k->finishing || k->state == KEEP_BUILDING)) {
            k->stopping = true;
            finish_now(k);
        }
        control_close(k);
        close_status(k);
        remove_keep(k);
    }
}
