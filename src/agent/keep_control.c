/* The control socket: JSON lines, one agent at a time. */
#define _GNU_SOURCE
#include "keep_host.h"
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    QUEUE_MAX = 4 * KEEP_LINE_MAX,
    TICK_MS = 1000,
    ANSWER_S = 60,
    NEVER_FED_S = 900,
    DRAIN_MS = 500,
    QUESTIONS = 4,
    STRANGERS = 8
};

/* A connection that has not shown its token so far. */
struct stranger {
    int fd; /* 0: free */
    uint64_t number;
    size_t used;
    char line[KEEP_HELLO_MAX];
};

/* What the keep asks of its steward, through the agent. */
struct question {
    uint64_t id;    /* 0: free */
    int fd;         /* an eventfd: readable once `over` */
    bool over;      /* it is answered, or will not be */
    json_t *text;   /* until it is sent: the agent may be starting again */
    json_t *answer; /* NULL: none */
    time_t until;   /* of CLOCK_MONOTONIC */
};

static struct {
    struct question questions[QUESTIONS];
    uint64_t last_question;
    struct keep_host *host;
    int listener, agent, wake;
    size_t in_used, out_used;
    char in[KEEP_LINE_MAX], out[QUEUE_MAX];
    struct stranger strangers[STRANGERS];
    uint64_t connections;
    pthread_t thread;
} c = {.listener = -1, .agent = -1, .wake = -1};

/* ---- out ---- */

static void wake(void) {
    (void)!write(c.wake, &(uint64_t){1}, sizeof(uint64_t));
}

/* With the lock held. Takes over `m`. Too much unread: the agent is let go of, and finds out by a new connection. */
static bool queue(json_t *m) {
    char *text = m ? json_dumps(m, JSON_COMPACT) : NULL;
    json_decref(m);
    size_t n = text ? strlen(text) : 0;
    bool ok = n && c.host->agent && n + 1 <= sizeof c.out - c.out_used;
    if (ok) {
        memcpy(c.out + c.out_used, text, n);
        c.out[c.out_used + n] = '\n';
        c.out_used += n + 1;
        wake();
    } else if (n && c.host->agent) {
        shutdown(c.agent, SHUT_RDWR);
    }
    free(text);
    return ok;
}

void keep_control_event(struct keep_host *h) {
    json_t *m = keep_status_json(h);
    if (m) json_object_set_new(m, "event", json_string("state"));
    queue(m);
}

/* ---- questions, with the lock held ---- */

static time_t now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

static void end_question(struct question *q) {
    if (q->over) return;
    json_decref(q->text);
    q->text = NULL;
    q->over = true;
    (void)!write(q->fd, &(uint64_t){1}, sizeof(uint64_t));
}

/* What has waited for an agent goes out; what has waited too long is over. False: nothing is under way. */
static bool tend_questions(void) {
    bool any = false;
    for (int i = 0; i < QUESTIONS; i++) {
        struct question *q = &c.questions[i];
        if (!q->id || q->over) continue;
        if (q->text && c.host->agent) {
            json_t *text = q->text;
            q->text = NULL;
            if (!queue(text)) end_question(q);
        }
        if (now_s() >= q->until) end_question(q);
        any |= !q->over;
    }
    return any;
}

static void leave(void) {
    if (c.agent >= 0) close(c.agent);
    c.agent = -1;
    c.in_used = c.out_used = 0;
    c.host->agent = false;
    for (int i = 0; i < QUESTIONS; i++) /* it has taken them along */
        if (c.questions[i].id && !c.questions[i].text) end_question(&c.questions[i]);
}

static bool flush_out(void) {
    while (c.out_used > 0) {
        ssize_t n = send(c.agent, c.out, c.out_used, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return true;
        if (n <= 0) return false;
        c.out_used -= (size_t)n;
        memmove(c.out, c.out + n, c.out_used);
    }
    return true;
}

void keep_control_drain(void) {
    for (int i = 0; i < DRAIN_MS / 10; i++) {
        pthread_mutex_lock(&c.host->lock);
        bool done = !c.host->agent || c.out_used == 0;
        pthread_mutex_unlock(&c.host->lock);
        if (done) return;
        poll(NULL, 0, 10);
    }
}

/* ---- in ---- */

/* The first answer to a question that was sent; others are nobody's. */
static void take_answer(json_t *m) {
    uint64_t id = (uint64_t)json_integer_value(json_object_get(m, "id"));
    for (int i = 0; i < QUESTIONS; i++) {
        struct question *q = &c.questions[i];
        if (id == 0 || q->id != id || q->over || q->text) continue;
        q->answer = json_incref(m);
        end_question(q);
    }
}

static void take_message(json_t *m) {
    const char *op = json_string_value(json_object_get(m, "op"));
    if (json_object_get(m, "answer")) {
        take_answer(m);
    } else if (op && strcmp(op, "status") == 0) {
        json_t *reply = keep_status_json(c.host);
        if (reply) json_object_set_new(reply, "op", json_string("status"));
        queue(reply);
    } else if (op && strcmp(op, "stop") == 0) {
        queue(json_pack("{s:s}", "op", "stop"));
        c.host->stopped = true;
        keep_stop(&c.host->control);
    } else {
        queue(json_pack("{s:s}", "error", "unknown request"));
    }
}

static bool take_lines(void) {
    size_t at = 0;
    for (char *end; (end = memchr(c.in + at, '\n', c.in_used - at));) {
        json_t *m = json_loadb(c.in + at, (size_t)(end - c.in) - at, JSON_REJECT_DUPLICATES, NULL);
        bool ok = json_is_object(m);
        if (ok) take_message(m);
        json_decref(m);
        if (!ok) return false;
        at = (size_t)(end - c.in) + 1;
    }
    c.in_used -= at;
    memmove(c.in, c.in + at, c.in_used);
    return c.in_used < sizeof c.in;
}

static bool receive(void) {
    ssize_t n = recv(c.agent, c.in + c.in_used, sizeof c.in - c.in_used, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return true;
    if (n <= 0) return false;
    c.in_used += (size_t)n;
    return take_lines();
}

/* ---- who may speak ---- */

static void turn_away(struct stranger *s) {
    close(s->fd);
    *s = (struct stranger){.fd = 0};
}

/* All may connect, also those who only want to be in the way: the oldest that has not said who it is makes room. */
static void welcome(void) {
    int fd = accept4(c.listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) return;
    struct stranger *place = &c.strangers[0];
    for (int i = 1; i < STRANGERS && place->fd; i++)
        if (!c.strangers[i].fd || c.strangers[i].number < place->number) place = &c.strangers[i];
    if (place->fd) turn_away(place);
    *place = (struct stranger){.fd = fd, .number = ++c.connections};
}

static bool knows_token(const char *line, size_t size) {
    json_t *m = json_loadb(line, size, JSON_REJECT_DUPLICATES, NULL);
    const char *op = json_string_value(json_object_get(m, "op"));
    json_t *token = json_object_get(m, "token");
    bool ok = op && strcmp(op, "hello") == 0 && json_is_string(token) && json_string_length(token) == KEEP_TOKEN &&
              CRYPTO_memcmp(json_string_value(token), c.host->token, KEEP_TOKEN) == 0;
    json_decref(m);
    return ok;
}

/* The agent, which may have said more already. */
static void admit(struct stranger *s, const char *rest, size_t size) {
    leave();
    c.agent = s->fd;
    memcpy(c.in, rest, size);
    c.in_used = size;
    OPENSSL_cleanse(s, sizeof *s);
    c.host->agent = true;
    if (!take_lines()) leave();
}

static void hear(struct stranger *s) {
    ssize_t n = recv(s->fd, s->line + s->used, sizeof s->line - s->used, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n > 0) s->used += (size_t)n;
    char *end = memchr(s->line, '\n', s->used);
    if (end && knows_token(s->line, (size_t)(end - s->line)))
        admit(s, end + 1, s->used - (size_t)(end + 1 - s->line));
    else if (end || n <= 0 || s->used == sizeof s->line)
        turn_away(s);
}

/* A keep that nobody feeds does not stay for ever. */
static void end_if_idle(void) {
    struct keep_host *h = c.host;
    if (h->idle == 0 || h->phase > KEEP_PHASE_WAITING || h->idle_since_ns == 0 || h->stopped) return;
    uint64_t idle = (uint64_t)now_s() - h->idle_since_ns / 1000000000u;
    if (idle < (h->tenants ? NEVER_FED_S : h->idle)) return;
    h->outcome = "unfed";
    keep_stop(&h->control);
}

static void *serve(void *arg) {
    struct keep_host *h = arg;
    pthread_mutex_lock(&h->lock);
    for (;;) {
        bool asks = tend_questions();
        struct pollfd fds[3 + STRANGERS] = {{.fd = c.wake, .events = POLLIN},
                                            {.fd = c.listener, .events = POLLIN},
                                            {.fd = c.agent, .events = (short)(POLLIN | (c.out_used ? POLLOUT : 0))}};
        for (int i = 0; i < STRANGERS; i++)
            fds[3 + i] = (struct pollfd){.fd = c.strangers[i].fd ? c.strangers[i].fd : -1, .events = POLLIN};
        bool ticks = asks || (h->idle && h->phase <= KEEP_PHASE_WAITING); /* whoever is fed is not watched */
        pthread_mutex_unlock(&h->lock);
        int n = poll(fds, 3 + STRANGERS, ticks ? TICK_MS : -1);
        pthread_mutex_lock(&h->lock);
        if (n < 0 && errno != EINTR) break;
        uint64_t count;
        if (n > 0 && fds[0].revents) (void)!read(c.wake, &count, sizeof count);
        bool ok = true;
        if (n > 0 && c.agent >= 0 && fds[2].revents & ~POLLOUT) ok = receive();
        if (c.agent >= 0 && (!ok || !flush_out())) leave();
        for (int i = 0; n > 0 && i < STRANGERS; i++)
            if (fds[3 + i].revents) hear(&c.strangers[i]);
        if (n > 0 && fds[1].revents) welcome();
        end_if_idle();
    }
    pthread_mutex_unlock(&h->lock);
    return NULL;
}

bool keep_control_start(struct keep_host *h, int listener) {
    sigset_t all, old;
    c.host = h;
    c.listener = listener;
    c.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    bool ok = c.wake >= 0 && pthread_create(&c.thread, NULL, serve, h) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return ok;
}

/* ---- the way to a steward ---- */

static char *to_base64(const uint8_t *bytes, size_t n) {
    char *text = malloc((n + 2) / 3 * 4 + 1);
    if (text) EVP_EncodeBlock((uint8_t *)text, bytes, (int)n);
    return text;
}

/* Strict: whole groups, padding at the end only. The number of bytes, or -1. */
static int from_base64(const char *text, uint8_t *out, size_t room) {
    size_t n = strlen(text), padding = n > 0 && text[n - 1] == '=' ? 1 + (n > 1 && text[n - 2] == '=') : 0;
    if (n % 4 != 0 || n / 4 * 3 > room + 2 ||
        strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                     "0123456789+/") != n - padding)
        return -1;
    uint8_t *bytes = malloc(n / 4 * 3 + 1);
    int got = bytes ? EVP_DecodeBlock(bytes, (const uint8_t *)text, (int)n) : -1;
    got = got < 0 || (size_t)got < padding ? -1 : got - (int)padding;
    if (got >= 0 && (size_t)got <= room)
        memcpy(out, bytes, (size_t)got);
    else
        got = -1;
    free(bytes);
    return got;
}

/* A question under way, with the lock held. NULL: as many as may be are. */
static struct question *new_question(json_t *text) {
    struct question *q = c.questions;
    while (q < c.questions + QUESTIONS && q->id)
        q++;
    int fd = q < c.questions + QUESTIONS ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1;
    if (fd < 0) return NULL;
    *q = (struct question){.id = ++c.last_question, .fd = fd, .text = text, .until = now_s() + ANSWER_S};
    json_object_set_new(text, "id", json_integer((json_int_t)q->id));
    return q;
}

int keep_control_steward(void *host, const char *url, unsigned which, const uint8_t *body, uint32_t body_size) {
    static const char *const names[GATE_STEWARDS] = {"nonce", "certify", "ear"};
    struct keep_host *h = host;
    char *text = to_base64(body, body_size);
    json_t *question =
        text ? json_pack("{s:s, s:s, s:s, s:s}", "upcall", "steward", "url", url, "which", names[which], "body", text)
             : NULL;
    free(text);
    if (!question) return -1; /* a URL that is no UTF-8, or no memory */
    pthread_mutex_lock(&h->lock);
    struct question *q = new_question(question);
    int fd = q ? q->fd : -1;
    wake();
    pthread_mutex_unlock(&h->lock);
    if (fd < 0) json_decref(question);
    return fd;
}

/* With the lock held. */
static struct question *question_of(int fd) {
    for (int i = 0; i < QUESTIONS; i++)
        if (c.questions[i].id && c.questions[i].fd == fd) return &c.questions[i];
    return NULL;
}

bool keep_control_answer(void *host, int fd, uint8_t *out, uint32_t room, uint32_t *status, uint32_t *size) {
    struct keep_host *h = host;
    pthread_mutex_lock(&h->lock);
    struct question *q = question_of(fd);
    json_t *answer = q ? q->answer : NULL;
    if (q) q->answer = NULL;
    pthread_mutex_unlock(&h->lock);
    json_int_t code = json_integer_value(json_object_get(answer, "status"));
    const char *reply = json_string_value(json_object_get(answer, "body"));
    int n = code >= 100 && code <= 599 && reply ? from_base64(reply, out, room) : -1;
    json_decref(answer);
    if (n < 0) return false;
    *status = (uint32_t)code;
    *size = (uint32_t)n;
    return true;
}

void keep_control_forget(void *host, int fd) {
    struct keep_host *h = host;
    pthread_mutex_lock(&h->lock);
    struct question *q = question_of(fd);
    if (q) {
        json_decref(q->text);
        json_decref(q->answer);
        *q = (struct question){.id = 0};
        close(fd);
    }
    pthread_mutex_unlock(&h->lock);
}
