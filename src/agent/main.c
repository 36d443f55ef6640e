/* donjon-agent: reads what the operator wants, takes up the keeps an agent before left, serves. */
#include "agent.h"
#include "log.h"
#include "sockets.h"
#include "verb.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <openssl/evp.h>

const struct cli_verb *const cli_verbs[] = {&verb_agent, NULL};

struct arguments {
    struct cli_args *a;
    const char *state, *config, *keep, *new_token, *listen[LISTENERS_MAX];
    unsigned n_listen;
    bool json;
};

static bool read_arguments(struct arguments *x, struct agent *agent) {
    const char *value;
    agent->drain_ms = 10000;
    for (int id; (id = cli_next(x->a, &value)) != CLI_END;) {
        char *end;
        switch (id) {
        case CLI_STOP: return false;
        case CLI_OPERAND: return cli_usage_error(x->a, "expected no operand, found \"%s\"", value), false;
        case AGENT_LISTEN:
            if (x->n_listen == LISTENERS_MAX) return cli_usage_error(x->a, "more than 8 --listen"), false;
            x->listen[x->n_listen++] = value;
            break;
        case AGENT_STATE: x->state = value; break;
        case AGENT_CONFIG: x->config = value; break;
        case AGENT_JSON: x->json = true; break;
        case AGENT_END_KEEPS: agent->end_keeps = true; break;
        case AGENT_CGROUP: agent->cgroup = value; break;
        case AGENT_KEEP: x->keep = value; break;
        case AGENT_NEW_TOKEN: x->new_token = value; break;
        case AGENT_DEBUG: agent->debug = true; break;
        case AGENT_DRAIN:
            agent->drain_ms = strtoull(value, &end, 10) * 1000;
            if (!*value || *end || agent->drain_ms > 86400000)
                return cli_usage_error(x->a, "--drain: expected seconds, found \"%s\"", value), false;
            break;
        default: break;
        }
    }
    return true;
}

/* A tenant's line for agent.toml; the token itself is only printed. */
static int new_token(struct cli_args *a, const char *name) {
    unsigned char token[32], digest[TOKEN_DIGEST];
    char hex[2 * sizeof token + 1];
    if (!tenant_name_fine(name, strlen(name)))
        return cli_usage_error(a, "--new-token: expected a name of letters, digits, '-', '_' or '.'");
    if (getrandom(token, sizeof token, 0) != sizeof token) return cli_error(a->verb, "no random numbers");
    for (size_t i = 0; i < sizeof token; i++)
        snprintf(hex + 2 * i, 3, "%02x", token[i]);
    if (!EVP_Digest(hex, sizeof hex - 1, digest, NULL, EVP_sha256(), NULL)) return cli_error(a->verb, "no SHA-256");
    printf("[[tenants]]\nname = \"%s\"\ntoken-sha256 = \"", name);
    for (size_t i = 0; i < sizeof digest; i++)
        printf("%02x", digest[i]);
    printf("\"\nkeeps = 16\nmemory = \"16 GiB\"\n\n# The tenant's token; it is theirs, and has no place in this file:\n"
           "# %s\n",
           hex);
    OPENSSL_cleanse(token, sizeof token);
    OPENSSL_cleanse(hex, sizeof hex);
    return CLI_YES;
}

static bool default_state(char *out, size_t size) {
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME"), *unit = getenv("STATE_DIRECTORY");
    int n = unit && *unit == '/'     ? snprintf(out, size, "%s", unit) /* systemd's StateDirectory= */
            : geteuid() == 0         ? snprintf(out, size, "/var/lib/donjon")
            : state && *state == '/' ? snprintf(out, size, "%s/donjon/agent", state)
            : home && *home          ? snprintf(out, size, "%s/.local/state/donjon/agent", home)
                                     : -1;
    return n > 0 && (size_t)n < size;
}

static bool find_keep_program(struct agent *a, const char *given) {
    static const char name[] = "donjon-keep";
    if (given) return realpath(given, a->keep_program) && access(a->keep_program, X_OK) == 0;
    ssize_t n = readlink("/proc/self/exe", a->keep_program, sizeof a->keep_program - sizeof name);
    char *slash = n > 0 ? memrchr(a->keep_program, '/', (size_t)n) : NULL;
    if (!slash) return false;
    strcpy(slash + 1, name);
    return access(a->keep_program, X_OK) == 0;
}

static bool read_settings(struct arguments *x, struct agent *a) {
    char *text, error[400];
    size_t size;
    settings_init(&a->settings);
    tenant_defaults(&a->local, "local"); /* who is on this machine already may do in its network what he likes */
    strcpy(a->local.listen, "1-65535");
    strcpy(a->local.connect, "any");
    if (!x->config) return true;
    if (!cli_read_file(x->config, 1 << 20, &text, &size)) {
        cli_error(x->a->verb, "cannot read %s: %s", x->config, strerror(errno));
        return false;
    }
    bool ok = settings_read(&a->settings, text, size, error, sizeof error);
    free(text);
    if (!ok) cli_error(x->a->verb, "%s: %s", x->config, error);
    return ok;
}

/* ---- listeners ---- */

static struct agent *the_agent; /* a listener's watch stands in an array: its owner is found here */

static void listener_ready(struct watch *w, uint32_t events) {
    (void)events;
    conn_accept(the_agent, w->fd);
}

static bool add_listeners(struct agent *a, const int *fds, unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        struct watch *w = &a->listeners[a->n_listeners++];
        *w = (struct watch){.fd = fds[i], .ready = listener_ready};
        if (!loop_want(&a->loop, w, EPOLLIN)) return false;
    }
    return true;
}

static bool listen_everywhere(struct arguments *x, struct agent *a) {
    enum { MOST = LISTENERS_MAX * 2 };
    int fds[MOST], n = sockets_inherited(fds, MOST);
    char error[400];
    if (n < 0) {
        cli_error(x->a->verb, "LISTEN_FDS: expected at most %d listening TCP sockets", MOST);
        return false;
    }
    if (n > 0) return add_listeners(a, fds, (unsigned)n);
    for (uint32_t i = 0; !x->n_listen && i < a->settings.n_listen; i++)
        x->listen[x->n_listen++] = a->settings.listen[i];
    if (!x->n_listen) x->listen[x->n_listen++] = "localhost";
    for (unsigned i = 0; i < x->n_listen; i++) {
        unsigned got = sockets_listen(x->listen[i], fds, MOST - a->n_listeners, error, sizeof error);
        if (!got || !add_listeners(a, fds, got)) {
            cli_error(x->a->verb, "cannot listen: %s%s", got ? "out of memory" : error,
                      !got && strstr(error, strerror(EADDRINUSE))
                          ? "; another agent? --listen ADDRESS:PORT takes another port"
                          : "");
            return false;
        }
    }
    return true;
}

static void close_listeners(struct agent *a) {
    for (unsigned i = 0; i < a->n_listeners; i++) {
        loop_forget(&a->loop, &a->listeners[i]);
        close(a->listeners[i].fd);
    }
    a->n_listeners = 0;
}

/* ---- signals ---- */

static void stop_now(struct deadline *d) {
    OWNER_OF(d, struct agent, drained)->loop.stop = true;
}

static void drain(struct agent *a) {
    if (a->draining) {
        a->loop.stop = true;
        return;
    }
    log_event(LOG_INFO, "stopping: no new connections", NULL);
    sockets_notify("STOPPING=1");
    a->draining = true;
    close_listeners(a);
    conns_close(a, true);
    if (!a->conns) a->loop.stop = true;
    a->drained.passed = stop_now;
    loop_set(&a->loop, &a->drained, a->drain_ms);
}

static void signal_ready(struct watch *w, uint32_t events) {
    struct agent *a = OWNER_OF(w, struct agent, signals);
    struct signalfd_siginfo s;
    (void)events;
    while (read(w->fd, &s, sizeof s) == sizeof s) {
        if (s.ssi_signo == SIGCHLD)
            keeps_reap(a);
        else
            drain(a);
    }
}

static bool take_signals(struct agent *a) {
    sigset_t set;
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    a->signals = (struct watch){.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), .ready = signal_ready};
    return a->signals.fd >= 0 && loop_want(&a->loop, &a->signals, EPOLLIN);
}

/* ---- the whole ---- */

static void raise_limits(void) {
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    prctl(PR_SET_DUMPABLE, 0); /* tokens pass through here */
}

static bool read_boot(struct agent *a) {
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
    bool ok = f && fgets(a->boot, sizeof a->boot, f);
    if (f) fclose(f);
    a->boot[strcspn(a->boot, "\n")] = 0;
    return ok;
}

static bool start(struct arguments *x, struct agent *a) {
    char error[400], state[4096];
    const struct cli_verb *verb = x->a->verb;
    if (!read_settings(x, a)) return false;
    if (!read_boot(a))
        return cli_error(verb, "cannot read /proc/sys/kernel/random/boot_id: %s", strerror(errno)), false;
    if (!find_keep_program(a, x->keep))
        return cli_error(verb, "cannot start %s: %s", *a->keep_program ? a->keep_program : "donjon-keep",
                         strerror(errno)),
               false;
    if (x->state) snprintf(state, sizeof state, "%s", x->state);
    if (!x->state && !default_state(state, sizeof state))
        return cli_usage_error(x->a, "no state directory is known; give --state"), false;
    if (!state_open(&a->state, state, error, sizeof error) ||
        !(a->tls = state_tls(&a->state, a->fingerprint, error, sizeof error)) ||
        !(a->root = state_signer(&a->state, error, sizeof error)))
        return cli_error(verb, "%s", error), false;
    if (getrandom(&a->salt, sizeof a->salt, 0) != sizeof a->salt) return cli_error(verb, "no random numbers"), false;
    raise_limits();
    a->upcalls = loop_open(&a->loop) && take_signals(a) ? upcalls_new(a) : NULL;
    if (!a->upcalls) return cli_error(verb, "out of memory"), false;
    return listen_everywhere(x, a);
}

static void announce(struct agent *a) {
    bool groups = cgroups_open(a->cgroup), limited = false;
    char port[8];
    for (uint32_t i = 0; i < a->settings.n_tenants; i++)
        limited |= a->settings.tenants[i].cpu != 0;
    if (!groups && a->cgroup) log_event(LOG_WARN, "no control group can be made there", "cgroup", a->cgroup, NULL);
    if (!groups && limited) log_event(LOG_WARN, "no cgroup can be made here: the tenants' `cpu` is not enforced", NULL);
    keeps_adopt(a);
    snprintf(port, sizeof port, "%u", a->n_listeners ? socket_port(a->listeners[0].fd) : 0);
    log_event(LOG_INFO, "serving", "port", port, "key", a->fingerprint, "state", a->state.path, "limits",
              groups ? "cgroup" : "process", NULL);
    sockets_notify("READY=1");
}

static void stop(struct agent *a) {
    close_listeners(a);
    conns_close(a, false);
    if (a->upcalls) keeps_release(a, a->end_keeps);
    upcalls_delete(a->upcalls);
    loop_clear(&a->drained);
    if (a->signals.fd > 0) close(a->signals.fd);
    loop_close(&a->loop);
    SSL_CTX_free(a->tls);
    free(a->root);
    state_close(&a->state);
    settings_free(&a->settings);
}

int main_agent(struct cli_args *args) {
    static struct agent agent;
    struct arguments x = {.a = args};
    the_agent = &agent;
    agent.state.dir = agent.state.keeps = agent.state.records = agent.state.lock = -1;
    agent.loop.epoll = -1;
    if (!read_arguments(&x, &agent)) return args->exit_code;
    if (x.new_token) return new_token(args, x.new_token);
    log_as_json(x.json);
    bool ok = start(&x, &agent);
    if (ok) {
        announce(&agent);
        loop_run(&agent.loop);
        log_event(LOG_INFO, "stopped", NULL);
    }
    stop(&agent);
    return ok ? CLI_YES : CLI_FAILED;
}

int main(int argc, char **argv) {
    int at = argc > 1 && !strcmp(argv[1], "agent") ? 2 : 1;
    struct cli_args args = {.verb = &verb_agent, .argc = argc, .argv = argv, .at = at};
    int code = main_agent(&args);
    if (fflush(stdout) && code == CLI_YES) code = CLI_FAILED;
    return code;
}
