#define _GNU_SOURCE
#include "session.h"

#include "gate/gate.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

enum { PART = 32768, STOP_MS = 3000, STOPPED = 128 + SIGTERM /* as a shell shows it */ };

struct run_state {
    const struct session *s;
    struct session_result *r;
    int signals;
    bool input, over, stopping;
    uint64_t stop_at; /* milliseconds; then the keep has had its time to end the program */
};

static uint64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static bool write_all(int fd, const uint8_t *bytes, size_t size) {
    while (size > 0) {
        ssize_t n = write(fd, bytes, size);
        if (n < 0 && errno == EAGAIN) {
            struct pollfd p = {fd, POLLOUT, 0};
            poll(&p, 1, -1);
            continue;
        }
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        bytes += n;
        size -= (size_t)n;
    }
    return true;
}

static void end(struct run_state *x, enum session_end how, const char *text) {
    x->over = true;
    x->r->end = how;
    if (text) x->r->text = strdup(text);
}

static void stop(struct run_state *x, int signal_number) {
    x->r->signal = signal_number;
    if (!x->s->interrupt_ends || x->stopping) {
        if (!x->s->interrupt_ends) channel_client_detach(x->s->client);
        end(x, SESSION_LEFT, NULL);
        return;
    }
    x->stopping = true;
    x->stop_at = now_ms() + STOP_MS;
    if (!channel_client_stop(x->s->client)) end(x, SESSION_LOST, channel_client_error(x->s->client));
}

static void take_event(struct run_state *x, const struct channel_event *e) {
    char *text;
    switch (e->kind) {
    case CHANNEL_EVENT_STDOUT:
        if (!write_all(STDOUT_FILENO, e->bytes.data, e->bytes.size)) stop(x, SIGPIPE);
        break;
    case CHANNEL_EVENT_STDERR: write_all(STDERR_FILENO, e->bytes.data, e->bytes.size); break;
    case CHANNEL_EVENT_LOST: x->r->lost += e->size; break;
    case CHANNEL_EVENT_EXIT:
        x->r->exit_kind = e->exit_kind;
        x->r->status = e->status;
        text = e->bytes.size ? strndup((const char *)e->bytes.data, e->bytes.size) : NULL;
        end(x, SESSION_EXITED, text);
        free(text);
        break;
    case CHANNEL_EVENT_STARTED: end(x, SESSION_STARTED, NULL); break;
    case CHANNEL_EVENT_CLOSED: end(x, SESSION_CLOSED, NULL); break;
    case CHANNEL_EVENT_FAILED: end(x, SESSION_LOST, channel_client_error(x->s->client)); break;
    case CHANNEL_EVENT_NONE: break;
    }
}

static void take_events(struct run_state *x) {
    struct channel_event e;
    while (!x->over && channel_client_next(x->s->client, &e) != CHANNEL_EVENT_NONE)
        take_event(x, &e);
}

static void receive(struct run_state *x) {
    static unsigned char bytes[PART];
    ssize_t n = link_take(x->s->link, bytes, sizeof bytes);
    if (n == -2) return;
    channel_client_input(x->s->client, bytes, n > 0 ? (size_t)n : 0);
    take_events(x);
    if (n <= 0 && !x->over) end(x, SESSION_LOST, "the connection to the keep was lost");
}

static void send_input(struct run_state *x) {
    static unsigned char bytes[PART];
    size_t most = channel_client_credit(x->s->client);
    ssize_t n = read(STDIN_FILENO, bytes, most < sizeof bytes ? most : sizeof bytes);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    bool ok = n > 0 ? channel_client_stdin(x->s->client, bytes, (size_t)n) : channel_client_stdin_end(x->s->client);
    if (n <= 0) x->input = false;
    /* A program that has ended takes no input: how it ended is on its way. */
    if (!ok) x->input = false;
}

static int open_signals(sigset_t *old) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, old);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void wait_once(struct run_state *x) {
    bool input = x->input && channel_client_credit(x->s->client) > 0;
    struct pollfd p[3] = {
        {x->s->link->fd, POLLIN, 0}, {x->signals, POLLIN, 0}, {input ? STDIN_FILENO : -1, POLLIN, 0}};
    uint64_t now = now_ms();
    int wait = link_pending(x->s->link) ? 0 : x->stopping ? x->stop_at > now ? (int)(x->stop_at - now) : 0 : -1;
    if (poll(p, 3, wait) < 0 && errno != EINTR) {
        end(x, SESSION_LOST, strerror(errno));
        return;
    }
    struct signalfd_siginfo s;
    if ((p[1].revents & POLLIN) && read(x->signals, &s, sizeof s) == sizeof s) stop(x, (int)s.ssi_signo);
    if (!x->over && (p[0].revents || link_pending(x->s->link))) receive(x);
    if (!x->over && p[2].revents) send_input(x);
    if (!x->over && x->stopping && now_ms() >= x->stop_at) end(x, SESSION_LEFT, NULL);
}

void session_run(const struct session *s, struct session_result *r) {
    struct run_state x = {.s = s, .r = r, .input = s->input};
    sigset_t old;
    *r = (struct session_result){0};
    x.signals = open_signals(&old);
    take_events(&x);
    while (!x.over)
        wait_once(&x);
    if (x.signals >= 0) close(x.signals);
    sigprocmask(SIG_SETMASK, &old, NULL);
}

/* ---- how it ended ---- */

static int exit_code(const struct session_result *r) {
    if (r->end != SESSION_EXITED) return CLI_FAILED;
    if (r->exit_kind == GATE_EXIT_PROGRAM) return (int)(r->status & 0xff);
    if (r->exit_kind == GATE_EXIT_STOPPED) return STOPPED;
    return r->exit_kind == GATE_EXIT_TRAP ? CLI_TRAP : r->exit_kind == GATE_EXIT_TIMEOUT ? CLI_TIMEOUT : CLI_FAILED;
}

static void die_by(int signal_number) {
    sigset_t set;
    prctl(PR_SET_DUMPABLE, 0);
    signal(signal_number, SIG_DFL);
    sigemptyset(&set);
    sigaddset(&set, signal_number);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    raise(signal_number);
}

static void report_json(const struct session_result *r, int code) {
    static const char *const ends[] = {"exited", "left", "closed", "lost", "started"};
    static const char *const kinds[GATE_EXITS] = {
        [GATE_EXIT_PROGRAM] = "exited",  [GATE_EXIT_TRAP] = "trapped",  [GATE_EXIT_TIMEOUT] = "timeout",
        [GATE_EXIT_REFUSED] = "refused", [GATE_EXIT_BROKEN] = "failed", [GATE_EXIT_STOPPED] = "stopped"};
    bool exited = r->end == SESSION_EXITED && r->exit_kind < GATE_EXITS && kinds[r->exit_kind];
    json_t *text = r->text ? json_string(r->text) : json_null();
    json_t *j = json_pack("{s:s, s:i, s:o, s:I}", "outcome", exited ? kinds[r->exit_kind] : ends[r->end], "exit_code",
                          code, "text", text ? text : json_null(), "lost_bytes", (json_int_t)r->lost);
    json_dumpf(j, stderr, JSON_COMPACT);
    fputc('\n', stderr);
    json_decref(j);
}

void session_tell_failed(void) {
    char clean[CLI_MESSAGE_MAX];
    json_t *j = json_pack("{s:s, s:i, s:s, s:i}", "outcome", "failed", "exit_code", CLI_FAILED, "text",
                          cli_printable(cli_last_error(), clean, sizeof clean, false), "lost_bytes", 0);
    if (!j) return;
    json_dumpf(j, stderr, JSON_COMPACT);
    fputc('\n', stderr);
    json_decref(j);
}

/* First line as a message of ours, the lines after it as they are. */
static void report_text(const struct cli_verb *verb, const char *app, const struct session_result *r) {
    size_t n = strcspn(r->text, "\n"), size = strlen(r->text) + 1;
    cli_error(verb, "%s: %.*s", app, (int)n, r->text);
    char *clean = r->text[n] ? malloc(size) : NULL;
    if (clean) fprintf(stderr, "%s\n", cli_printable(r->text + n + 1, clean, size, true));
    free(clean);
}

int session_tell_end(const struct cli_verb *verb, const char *app, const struct session_result *r, bool json) {
    char clean[300];
    if (json)
        report_json(r, exit_code(r));
    else if (r->text)
        report_text(verb, app, r);
    else
        fprintf(stderr, "donjon %s: %s has ended: exit code %d%s\n", verb->name,
                cli_printable(app, clean, sizeof clean, false), exit_code(r),
                r->exit_kind == GATE_EXIT_STOPPED ? " (stopped)" : "");
    return exit_code(r);
}

int session_report(const struct cli_verb *verb, const char *app, struct session_result *r, bool json) {
    int code = exit_code(r), by = r->signal;
    if (r->lost) cli_warning(verb, "%llu bytes of output were lost", (unsigned long long)r->lost);
    if (json)
        report_json(r, code);
    else if (r->text && !by)
        report_text(verb, app, r);
    free(r->text);
    r->text = NULL;
    if (by) die_by(by);
    return code;
}
