#include "client_state.h"
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INPUT = 64 * 1024, CHUNK = CHANNEL_PAYLOAD_MAX };

struct channel_client *channel_client_new(const struct channel_io *io) {
    struct channel_client *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    c->io = *io;
    c->tls = channel_tls_tenant();
    c->link = c->tls ? channel_link_new(c->tls) : NULL;
    if (c->link) return c;
    channel_client_free(c);
    return NULL;
}

void channel_client_free(struct channel_client *c) {
    if (!c) return;
    channel_link_free(c->link);
    channel_tls_free(c->tls);
    free(c->evidence);
    OPENSSL_cleanse(c, sizeof *c);
    free(c);
}

const char *channel_client_error(const struct channel_client *c) {
    return c->error;
}

bool channel_client_failed(struct channel_client *c, const char *format, ...) {
    if (c->failed) return false; /* the first reason is the one that helps */
    va_list args;
    va_start(args, format);
    vsnprintf(c->error, sizeof c->error, format, args);
    va_end(args);
    c->failed = true;
    return false;
}

/* The keep's words, for somebody's terminal. */
static void refused(struct channel_client *c, struct channel_bytes text) {
    char line[256];
    size_t n = text.size < sizeof line - 1 ? text.size : sizeof line - 1;
    for (size_t i = 0; i < n; i++)
        line[i] = text.data[i] < 0x20 || text.data[i] == 0x7f ? '?' : (char)text.data[i];
    line[n] = 0;
    channel_client_failed(c, "the keep refuses: %s", line);
}

static bool flush(struct channel_client *c) {
    const uint8_t *bytes;
    size_t n;
    while ((n = channel_link_output(c->link, &bytes)) > 0) {
        if (!c->io.send(c->io.ctx, bytes, n)) return false;
        channel_link_sent(c->link, n);
    }
    return true;
}

/* The next message of the link, credit noted; ERROR is a failure. Never blocks. */
static enum channel_step step(struct channel_client *c, struct channel_message *m) {
    if (c->failed) return CHANNEL_BROKEN;
    enum channel_step s;
    while ((s = channel_link_next(c->link, m)) == CHANNEL_MESSAGE && m->type == CHANNEL_CREDIT)
        c->credit = m->size < UINT64_MAX - c->credit ? c->credit + m->size : UINT64_MAX;
    if (s == CHANNEL_BROKEN) channel_client_failed(c, "the channel broke: %s", channel_link_error(c->link));
    if (s != CHANNEL_MESSAGE || m->type != CHANNEL_ERROR) return s;
    refused(c, m->first);
    return CHANNEL_BROKEN;
}

/* Receives once. False: the connection is gone. */
static bool receive(struct channel_client *c) {
    static _Thread_local uint8_t input[INPUT];
    ssize_t n = c->io.recv(c->io.ctx, input, sizeof input);
    if (n > 0) return channel_link_input(c->link, input, (size_t)n);
    channel_link_end(c->link);
    return n == 0; /* the link says what that means */
}

/* The next message but PING, as long as it takes. */
static enum channel_step await(struct channel_client *c, struct channel_message *m) {
    for (;;) {
        enum channel_step s = step(c, m);
        if (s == CHANNEL_MESSAGE && m->type == CHANNEL_PING) continue;
        (void)flush(c); /* where that fails, what has come before says more */
        if (s != CHANNEL_MORE) return s;
        if (!receive(c)) {
            channel_client_failed(c, "the connection is gone");
            return CHANNEL_BROKEN;
        }
    }
}

static bool expect(struct channel_client *c, enum channel_type type, struct channel_message *m) {
    enum channel_step s = await(c, m);
    if (s == CHANNEL_CLOSED) return channel_client_failed(c, "the keep has closed the channel");
    if (s != CHANNEL_MESSAGE) return false;
    if (m->type == type) return true;
    return channel_client_failed(c, "expected %s, found %s", channel_type_name((uint8_t)type),
                                 channel_type_name((uint8_t)m->type));
}

/* Where the connection breaks, the keep may have said why before. */
static bool say(struct channel_client *c, const struct channel_message *m) {
    if (c->failed) return false;
    if (!channel_link_send(c->link, m))
        return channel_client_failed(c, "%s cannot be sent", channel_type_name((uint8_t)m->type));
    if (flush(c)) return true;
    struct channel_message answer;
    while (step(c, &answer) == CHANNEL_MORE)
        if (!receive(c)) break;
    return channel_client_failed(c, "the connection is gone");
}

/* ---- evidence ---- */

static bool take_evidence(struct channel_client *c, const struct channel_message *m) {
    uint8_t exporter[CHANNEL_EXPORTER_SIZE], spki[512];
    size_t n = channel_link_peer_spki(c->link, spki, sizeof spki);
    c->evidence = malloc(m->first.size + m->second.size + 1);
    if (!c->evidence) return channel_client_failed(c, "out of memory");
    if (m->first.size) memcpy(c->evidence, m->first.data, m->first.size);
    if (m->second.size) memcpy(c->evidence + m->first.size, m->second.data, m->second.size);
    c->evidence_size = m->first.size;
    c->endorsements_size = m->second.size;
    memcpy(c->digest, m->fixed, sizeof c->digest);
    c->state = m->state;
    if (n == 0 || !channel_link_exporter(c->link, exporter) ||
        !channel_report_data((struct channel_bytes){spki, n}, c->nonce, exporter, c->digest, c->report_data))
        return channel_client_failed(c, "the connection's binding cannot be computed");
    return true;
}

bool channel_client_handshake(struct channel_client *c, const uint8_t *nonce) {
    struct channel_message m;
    if (nonce)
        memcpy(c->nonce, nonce, sizeof c->nonce);
    else if (RAND_bytes(c->nonce, sizeof c->nonce) != 1)
        return channel_client_failed(c, "no random numbers");
    while (!channel_link_ready(c->link)) {
        enum channel_step s = step(c, &m);
        (void)flush(c);
        if (s == CHANNEL_BROKEN) return false;
        if (channel_link_ready(c->link)) break;
        if (s != CHANNEL_MORE) return channel_client_failed(c, "the keep has closed the channel");
        if (!receive(c)) return channel_client_failed(c, "the connection is gone");
    }
    struct channel_message hello = {.type = CHANNEL_HELLO, .version = CHANNEL_VERSION};
    memcpy(hello.fixed, c->nonce, sizeof c->nonce);
    return say(c, &hello) && expect(c, CHANNEL_EVIDENCE, &m) && take_evidence(c, &m);
}

struct channel_bytes channel_client_evidence(const struct channel_client *c) {
    return (struct channel_bytes){c->evidence, c->evidence_size};
}
struct channel_bytes channel_client_endorsements(const struct channel_client *c) {
    return (struct channel_bytes){c->evidence + c->evidence_size, c->endorsements_size};
}
const uint8_t *channel_client_report_data(const struct channel_client *c) {
    return c->report_data;
}
const uint8_t *channel_client_nonce(const struct channel_client *c) {
    return c->nonce;
}
enum channel_state channel_client_state(const struct channel_client *c) {
    return (enum channel_state)c->state;
}
const uint8_t *channel_client_digest(const struct channel_client *c) {
    return c->digest;
}
void channel_client_accept(struct channel_client *c) {
    c->accepted = true;
}

/* ---- opening and delivery ---- */

bool channel_client_open(struct channel_client *c, enum channel_purpose purpose, uint8_t flags,
                         const uint8_t owner[CHANNEL_OWNER]) {
    if (!c->accepted) return channel_client_failed(c, "nothing is sent to a keep whose evidence was not accepted");
    struct channel_message m = {.type = CHANNEL_OPEN, .purpose = (uint8_t)purpose, .flags = flags}, answer;
    memcpy(m.fixed, owner, sizeof m.fixed);
    bool ok = say(c, &m);
    OPENSSL_cleanse(&m, sizeof m);
    c->opened = ok && expect(c, CHANNEL_OPENED, &answer);
    if (c->opened) c->state = answer.state;
    return c->opened;
}

static int by_path(const void *a, const void *b) {
    return channel_path_compare(((const struct channel_file *)a)->path, ((const struct channel_file *)b)->path);
}

bool channel_files_sort(struct channel_file *files, size_t n) {
    if (n) qsort(files, n, sizeof *files, by_path);
    for (size_t i = 1; i < n; i++)
        if (by_path(&files[i - 1], &files[i]) == 0) return false;
    return true;
}

bool channel_delivery_digest(const struct channel_delivery *d, uint8_t out[CHANNEL_DIGEST]) {
    struct channel_workload *w = channel_workload_new();
    bool ok =
        w && channel_workload_config(w, d->config) &&
        (d->sealed ? channel_workload_module_digest(w, d->sealed->digest) : channel_workload_module(w, d->module));
    for (size_t i = 0; ok && i < d->n_files; i++) {
        const struct channel_file *f = &d->files[i];
        ok = f->sealed ? channel_workload_file_digest(w, f->path, f->sealed->digest)
                       : channel_workload_file(w, f->path, f->content);
    }
    ok = ok && channel_workload_digest(w, out);
    channel_workload_free(w);
    return ok;
}

struct count {
    const struct channel_delivery *d;
    uint64_t done, all;
};

static bool say_bytes(struct channel_client *c, enum channel_type type, struct channel_bytes b, struct count *count) {
    for (size_t at = 0; at < b.size;) {
        size_t n = b.size - at < CHUNK ? b.size - at : CHUNK;
        if (!say(c, &(struct channel_message){.type = type, .first = {b.data + at, n}})) return false;
        at += n;
        count->done += n;
        if (count->d->progress) count->d->progress(count->d->progress_ctx, count->done, count->all);
    }
    return true;
}

static bool say_part(struct channel_client *c, enum channel_type type, struct channel_bytes b, struct count *count) {
    return say(c, &(struct channel_message){.type = type, .size = b.size}) && say_bytes(c, CHANNEL_DATA, b, count);
}

static bool say_key(struct channel_client *c, const uint8_t key[SEALED_KEY]) {
    struct channel_message m = {.type = CHANNEL_KEY};
    memcpy(m.fixed, key, sizeof m.fixed);
    bool ok = say(c, &m);
    OPENSSL_cleanse(&m, sizeof m);
    return ok;
}

static bool say_file(struct channel_client *c, const struct channel_file *f, struct count *count) {
    struct channel_message m = {.type = CHANNEL_FILE, .first = f->path, .size = f->content.size};
    if (f->sealed) {
        m.type = CHANNEL_SEALED_FILE;
        m.second = f->sealed->title;
    }
    return say(c, &m) && say_bytes(c, CHANNEL_DATA, f->content, count);
}

bool channel_client_deliver(struct channel_client *c, const struct channel_delivery *d) {
    struct count count = {.d = d, .all = d->config.size + d->module.size};
    for (size_t i = 0; i < d->n_files; i++)
        count.all += d->files[i].content.size;
    if (!c->opened) return channel_client_failed(c, "the channel was not opened for a delivery");
    if (!channel_delivery_digest(d, c->delivered))
        return channel_client_failed(c, "the files are not in order, or have paths that no file may have");
    if (c->n_workloads && !channel_client_allowed(c, c->delivered))
        return channel_client_failed(c, "the policy names other workloads than this");
    if (!say_part(c, CHANNEL_CONFIG, d->config, &count) || (d->key && !say_key(c, d->key)) ||
        !say_part(c, d->sealed ? CHANNEL_SEALED_MODULE : CHANNEL_MODULE, d->module, &count))
        return false;
    for (size_t i = 0; i < d->n_files; i++)
        if (!say_file(c, &d->files[i], &count)) return false;
    for (size_t i = 0; i < d->n_secrets; i++) {
        const struct channel_secret *s = &d->secrets[i];
        struct channel_message m = {
            .type = CHANNEL_SECRET, .first = {(const uint8_t *)s->name, strlen(s->name)}, .second = s->value};
        if (!say(c, &m)) return false;
    }
    return c->has_delivered = true;
}

bool channel_client_allowed(const struct channel_client *c, const uint8_t digest[CHANNEL_DIGEST]) {
    for (size_t i = 0; i < c->n_workloads; i++)
        if (memcmp(c->workloads + i * CHANNEL_DIGEST, digest, CHANNEL_DIGEST) == 0) return true;
    return false;
}

bool channel_client_start(struct channel_client *c, uint8_t flags) {
    struct channel_message m = {.type = CHANNEL_START, .flags = flags}, answer;
    if (!c->has_delivered) return channel_client_failed(c, "nothing was delivered");
    memcpy(m.fixed, c->delivered, sizeof m.fixed);
    if (!say(c, &m) || !expect(c, CHANNEL_ACCEPTED, &answer)) return false;
    if (memcmp(answer.fixed, c->delivered, CHANNEL_DIGEST) != 0)
        return channel_client_failed(c, "the keep has accepted another workload than was delivered");
    memcpy(c->digest, c->delivered, CHANNEL_DIGEST);
    c->state = CHANNEL_RUNNING;
    return true;
}

/* ---- while it runs ---- */

void channel_client_input(struct channel_client *c, const void *bytes, size_t n) {
    if (n == 0)
        channel_link_end(c->link);
    else if (!channel_link_input(c->link, bytes, n))
        channel_client_failed(c, "out of memory");
}

static enum channel_event_kind event(struct channel_client *c, const struct channel_message *m,
                                     struct channel_event *e) {
    e->bytes = m->first;
    switch (m->type) {
    case CHANNEL_STDOUT: return CHANNEL_EVENT_STDOUT;
    case CHANNEL_STDERR: return CHANNEL_EVENT_STDERR;
    case CHANNEL_LOST: e->size = m->size; return CHANNEL_EVENT_LOST;
    case CHANNEL_STARTED: return CHANNEL_EVENT_STARTED;
    case CHANNEL_EXIT:
        e->exit_kind = m->kind;
        e->status = m->status;
        c->state = CHANNEL_EXITED;
        return CHANNEL_EVENT_EXIT;
    default:
        channel_client_failed(c, "unexpected %s", channel_type_name((uint8_t)m->type));
        return CHANNEL_EVENT_FAILED;
    }
}

static enum channel_event_kind event_of(struct channel_client *c, enum channel_step s, const struct channel_message *m,
                                        struct channel_event *e) {
    *e = (struct channel_event){0};
    switch (s) {
    case CHANNEL_MORE: break;
    case CHANNEL_MESSAGE: e->kind = event(c, m, e); break;
    case CHANNEL_CLOSED: e->kind = CHANNEL_EVENT_CLOSED; break;
    case CHANNEL_BROKEN: e->kind = CHANNEL_EVENT_FAILED; break;
    }
    return e->kind;
}

enum channel_event_kind channel_client_next(struct channel_client *c, struct channel_event *e) {
    struct channel_message m;
    enum channel_step s;
    do
        s = step(c, &m);
    while (s == CHANNEL_MESSAGE && m.type == CHANNEL_PING);
    return event_of(c, s, &m, e);
}

enum channel_event_kind channel_client_wait(struct channel_client *c, struct channel_event *e) {
    struct channel_message m;
    enum channel_step s = await(c, &m);
    return event_of(c, s, &m, e);
}

/* A keep whose program has ended takes nothing any more; its EXIT is on its way, and is an event. */
static bool mention(struct channel_client *c, enum channel_type type, struct channel_bytes bytes) {
    if (c->failed) return false;
    if (channel_link_send(c->link, &(struct channel_message){.type = type, .first = bytes})) (void)flush(c);
    return true;
}

size_t channel_client_credit(const struct channel_client *c) {
    return c->credit < SIZE_MAX ? (size_t)c->credit : SIZE_MAX;
}

bool channel_client_stdin(struct channel_client *c, const void *bytes, size_t n) {
    if (n > c->credit) return channel_client_failed(c, "more input than the keep takes now");
    c->credit -= n;
    for (size_t at = 0, piece; at < n; at += piece) {
        piece = n - at < CHUNK ? n - at : CHUNK;
        if (!mention(c, CHANNEL_STDIN, (struct channel_bytes){(const uint8_t *)bytes + at, piece})) return false;
    }
    return !c->failed;
}
bool channel_client_stdin_end(struct channel_client *c) {
    return mention(c, CHANNEL_STDIN_END, (struct channel_bytes){NULL, 0});
}
bool channel_client_detach(struct channel_client *c) {
    return mention(c, CHANNEL_DETACH, (struct channel_bytes){NULL, 0});
}
bool channel_client_stop(struct channel_client *c) {
    return mention(c, CHANNEL_STOP, (struct channel_bytes){NULL, 0});
}
bool channel_client_ping(struct channel_client *c) {
    return mention(c, CHANNEL_PING, (struct channel_bytes){NULL, 0});
}
