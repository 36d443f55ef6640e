/* The line to donjon-keep: JSON lines over DIR/control, in both directions. What comes is bounded and validated before
 * anything of it is believed; a process that does not keep to keep.h is let go of. */
#include "agent.h"
#include "cli/cli.h"
#include "log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { LINE_FIRST = 4096 };
struct keep_lines {
    char *in; /* grows up to KEEP_LINE_MAX, and is let go of between lines: a thousand keeps say nothing most of the
                 time */
    size_t in_used, in_room;
    char *out;
    size_t out_used;
};

/* Text the keep's process says, which a log or a tenant's terminal will show. */
static void take_text(json_t *message, const char *name, char *out, size_t size) {
    const char *s = json_string_value(json_object_get(message, name));
    if (s) cli_printable(s, out, size, false);
}

static void take_ports(struct keep *k, json_t *ports) {
    size_t i;
    json_t *port;
    if (!json_is_array(ports)) return;
    k->n_ports = 0;
    json_array_foreach(ports, i, port) {
        json_int_t n = json_integer_value(port);
        if (k->n_ports < PORTS_MAX && n > 0 && n <= UINT16_MAX) k->ports[k->n_ports++] = (uint16_t)n;
    }
}

static void take_status(struct keep *k, json_t *m) {
    const char *state = json_string_value(json_object_get(m, "state"));
    for (int i = KEEP_WAITING; state && i <= KEEP_EXITED; i++)
        if (!strcmp(state, keep_state_names[i])) k->state = (enum keep_state)i;
    take_text(m, "backend", k->backend, sizeof k->backend);
    take_text(m, "measurement", k->measurement, sizeof k->measurement);
    take_ports(k, json_object_get(m, "ports"));
    /* How the program ended is how the keep did: what follows it, we have asked for. */
    json_t *end = json_object_get(m, "exit");
    if (json_is_object(end) && !*k->outcome) {
        take_text(end, "outcome", k->outcome, sizeof k->outcome);
        k->exit_code = (int)json_integer_value(json_object_get(end, "code"));
    }
    keep_changed(k);
}

static void take_message(struct keep *k, json_t *m) {
    const char *op = json_string_value(json_object_get(m, "op"));
    if (json_object_get(m, "upcall"))
        upcall_start(k->agent->upcalls, k, m);
    else if (json_object_get(m, "event") || (op && !strcmp(op, "status")))
        take_status(k, m);
}

/* Every whole line so far. False: it is not one of JSON, or longer than it may be. */
static bool take_lines(struct keep *k, struct keep_lines *l) {
    size_t at = 0;
    for (char *end; (end = memchr(l->in + at, '\n', l->in_used - at));) {
        json_t *m = json_loadb(l->in + at, (size_t)(end - l->in) - at, JSON_REJECT_DUPLICATES, NULL);
        bool ok = json_is_object(m);
        if (ok) take_message(k, m);
        json_decref(m);
        if (!ok) return false;
        at = (size_t)(end - l->in) + 1;
    }
    l->in_used -= at;
    memmove(l->in, l->in + at, l->in_used);
    if (!l->in_used) {
        free(l->in);
        l->in = NULL;
        l->in_room = 0;
    }
    return l->in_used < KEEP_LINE_MAX;
}

static bool make_room(struct keep_lines *l) {
    if (l->in_used < l->in_room) return true;
    size_t room = l->in_room ? l->in_room * 2 : LINE_FIRST;
    char *grown = room <= KEEP_LINE_MAX ? realloc(l->in, room) : NULL;
    if (!grown) return false;
    l->in = grown;
    l->in_room = room;
    return true;
}

static bool flush_out(struct keep *k, struct keep_lines *l) {
    while (l->out_used > 0) {
        ssize_t n = send(k->control.fd, l->out, l->out_used, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) break;
        if (n <= 0) return false;
        l->out_used -= (size_t)n;
        memmove(l->out, l->out + n, l->out_used);
    }
    return loop_want(&k->agent->loop, &k->control, EPOLLIN | (l->out_used ? EPOLLOUT : 0));
}

static void control_ready(struct watch *w, uint32_t events) {
    struct keep *k = OWNER_OF(w, struct keep, control);
    struct keep_lines *l = k->lines;
    if ((events & EPOLLOUT) && !flush_out(k, l)) {
        keep_lost(k);
        return;
    }
    if (!(events & ~(uint32_t)EPOLLOUT)) return;
    ssize_t n = make_room(l) ? read(w->fd, l->in + l->in_used, l->in_room - l->in_used) : 0;
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n > 0) l->in_used += (size_t)n;
    if (n > 0 && take_lines(k, l)) return;
    if (n > 0) log_event(LOG_WARN, "a keep's process does not speak as it should", "keep", k->id, NULL);
    keep_lost(k);
}

bool control_open(struct keep *k) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (snprintf(a.sun_path, sizeof a.sun_path, "%s/keeps/%s/" KEEP_CONTROL, k->agent->state.path, k->id) >=
        (int)sizeof a.sun_path)
        return false;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return false;
    k->lines = calloc(1, sizeof *k->lines);
    if (k->lines && connect(fd, (struct sockaddr *)&a, sizeof a) == 0) {
        k->control = (struct watch){.fd = fd, .ready = control_ready};
        if (loop_want(&k->agent->loop, &k->control, EPOLLIN)) {
            control_send(k, json_pack("{s:s, s:s}", "op", "hello", "token", k->token));
            control_send(k, json_pack("{s:s}", "op", "status"));
            return true;
        }
    }
    free(k->lines);
    k->lines = NULL;
    close(fd);
    return false;
}

void control_close(struct keep *k) {
    if (!k->lines) return;
    loop_forget(&k->agent->loop, &k->control);
    close(k->control.fd);
    free(k->lines->in);
    free(k->lines->out);
    free(k->lines);
    k->lines = NULL;
}

bool control_send(struct keep *k, json_t *message) {
    struct keep_lines *l = k->lines;
    char *text = message ? json_dumps(message, JSON_COMPACT) : NULL;
    json_decref(message);
    size_t n = text ? strlen(text) : 0;
    char *grown = l && n && l->out_used + n + 1 <= CONTROL_QUEUE ? realloc(l->out, l->out_used + n + 1) : NULL;
    if (grown) {
        l->out = grown;
        memcpy(grown + l->out_used, text, n);
        grown[l->out_used + n] = '\n';
        l->out_used += n + 1;
        flush_out(k, l); /* what fails is seen as the end of the connection */
    }
    free(text);
    return grown;
}
