/* A keep that waits for its tenant, and stays in touch with him.
 *
 * The channel's connections are sockets of the gate, each with a link (TLS and frames) of its own. They are looked
 * after whenever the keep waits for anything (struct gate_attend), before each call of the program's when the host has
 * raised the block's word, and in the midst of its computing (tenant_attend). Nothing here believes the host: the worst
 * it can do is not to deliver bytes. */
#define _GNU_SOURCE
#include "../channel/binding.h"
#include "../channel/link.h"
#include "gatecall.h"
#include "intake.h"
#include "outlog.h"
#include "warden.h"
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    PEERS = 16,
    INPUT_ROOM = 512 * 1024,
    CREDIT_LEAST = 4096,
    TURN_ROUNDS = 32,   /* of looking at all connections, before the program goes on */
    CHANNEL_HANDLE = 0, /* the listener, as the host opened it */
    LINGER_S = 600,     /* after the program's end, for those who come to read its log */
};
_Static_assert(PEERS + 1 <= GATE_ATTEND_MAX, "all connections and the listener are waited for at once");

enum stage { HELLO, OPEN, DELIVERY, STARTING /* detached: hears only whether it starts */, ATTACHED, LOGS, CLOSING };

struct peer {
    struct channel_link *link; /* NULL: free */
    uint32_t handle;
    enum stage stage;
    bool foreground; /* attached: the program waits for it to read, and its input is the program's */
    bool follow;     /* LOGS: stays to the program's end */
    bool gone;       /* the socket has ended, or failed */
    bool told;       /* EXIT is in the output */
    uint32_t credit; /* bytes of input that it may still send */
    uint64_t number; /* of connections: the oldest goes first */
    struct outlog_reader at;
};

static struct tenant {
    struct warden *w;
    struct channel_tls *tls;
    struct peer peers[PEERS];
    uint64_t connections;
    bool owned, started, ended, collected, serving, stop_asked;
    bool found; /* something was there to be served */
    uint8_t owner[CHANNEL_OWNER];
    struct intake *intake;
    struct peer *deliverer;
    enum gate_exit kind;
    uint32_t status;
    const struct report *text;
    struct outlog log;
    bool input_ended;
    size_t input_at, input_have; /* of a ring: where it begins, and how much there is */
    uint8_t input[INPUT_ROOM];
    uint8_t bytes[GATE_ANSWER_SIZE]; /* evidence; what was received */
} t;

/* ---- connections ---- */

static enum channel_state state_now(const struct peer *p) {
    if (t.ended) return CHANNEL_EXITED;
    if (t.started) return CHANNEL_RUNNING;
    return t.intake && t.deliverer != p ? CHANNEL_DELIVERING : CHANNEL_WAITING;
}

/* A call about a connection, none of which waits: made to its end even when the program's time is over, since what a
 * stopped one has sent or received would not be known. */
static uint32_t ask(const struct gate_request *q, struct gate_reply *r) {
    struct gate *g = &t.w->gate;
    const _Atomic bool *stop = g->stop;
    g->stop = NULL;
    uint32_t error = gate_call(g, q, r);
    g->stop = stop;
    return error;
}

static void drop(struct peer *p) {
    struct gate_request q = {.op = GATE_CLOSE, .handle = p->handle};
    struct gate_reply r;
    (void)ask(&q, &r);
    gate_handle_drop(&t.w->files, p->handle);
    channel_link_free(p->link);
    if (t.deliverer == p) {
        t.deliverer = NULL;
        if (!t.started) {
            intake_free(t.intake); /* whoever comes next begins anew */
            t.intake = NULL;
            t.owned = false;
        }
    }
    memset(p, 0, sizeof *p);
}

/* Sends what is to be sent, as far as the host takes it. */
static void flush(struct peer *p) {
    const uint8_t *bytes;
    size_t n;
    while (!p->gone && (n = channel_link_output(p->link, &bytes)) > 0) {
        struct gate_request q = {.op = GATE_SEND, .handle = p->handle};
        struct gate_reply r;
        q.len = n < GATE_ANSWER_SIZE ? (uint32_t)n : GATE_ANSWER_SIZE;
        memcpy(t.w->gate.block->data, bytes, q.len);
        uint32_t error = ask(&q, &r);
        if (error == GATE_EAGAIN) return;
        if (error != GATE_OK || r.values[0] == 0) p->gone = true;
        channel_link_sent(p->link, r.values[0]);
    }
}

static bool unsent(struct peer *p) {
    const uint8_t *bytes;
    return channel_link_output(p->link, &bytes) > 0;
}

static void say(struct peer *p, const struct channel_message *m) {
    if (!channel_link_send(p->link, m)) p->gone = true;
}

static void finish(struct peer *p) {
    channel_link_close(p->link);
    p->stage = CLOSING;
}

static void refuse(struct peer *p, const char *why) {
    say(p, &(struct channel_message){.type = CHANNEL_ERROR, .first = {(const uint8_t *)why, strlen(why)}});
    finish(p);
}

/* ---- output: from the log to whoever reads it ---- */

static void tell_end(struct peer *p) {
    struct channel_message m = {.type = CHANNEL_EXIT, .kind = (uint8_t)t.kind, .status = t.status};
    if (t.text) m.first = (struct channel_bytes){(const uint8_t *)t.text->text, t.text->len};
    if (m.first.size > CHANNEL_TEXT_MAX) m.first.size = CHANNEL_TEXT_MAX;
    say(p, &m);
    p->told = true;
    finish(p);
}

/* Puts records into the output while there is none, so that a slow reader costs one record. */
static void pump(struct peer *p) {
    static uint8_t record[OUTLOG_RECORD];
    uint8_t stream;
    uint64_t lost;
    size_t n;
    flush(p);
    if (p->stage == STARTING && t.ended) {
        tell_end(p);
        flush(p);
    }
    while ((p->stage == ATTACHED || p->stage == LOGS) && !p->gone && !unsent(p)) {
        if (!outlog_read(&t.log, &p->at, &stream, record, &n, &lost)) {
            if (t.ended)
                tell_end(p);
            else if (p->stage == LOGS && !p->follow)
                finish(p);
            flush(p);
            return;
        }
        if (lost) say(p, &(struct channel_message){.type = CHANNEL_LOST, .size = lost});
        if (n) say(p, &(struct channel_message){.type = stream, .first = {record, n}});
        flush(p);
    }
}

/* ---- messages ---- */

static void answer_hello(struct peer *p, const struct channel_message *m) {
    struct channel_message e = {.type = CHANNEL_EVIDENCE, .state = (uint8_t)state_now(p)};
    uint8_t exporter[CHANNEL_EXPORTER_SIZE], report_data[CHANNEL_REPORT_DATA];
    uint32_t n = 0, size = 0;
    if (m->version != CHANNEL_VERSION) return refuse(p, "this keep speaks version 2 of the channel");
    memcpy(e.fixed, t.w->workload, CHANNEL_DIGEST);
    if (!channel_link_exporter(p->link, exporter) ||
        !channel_report_data(channel_tls_spki(t.tls), m->fixed, exporter, e.fixed, report_data))
        return refuse(p, "the connection's binding cannot be computed");
    const _Atomic bool *stop = t.w->gate.stop;
    t.w->gate.stop = NULL; /* see `ask` */
    uint32_t error = gate_evidence(&t.w->gate, report_data, t.bytes, &n, &size);
    t.w->gate.stop = stop;
    if (error != GATE_OK || size > CHANNEL_EVIDENCE_MAX) n = size = 0; /* the tenant decides what that is worth */
    e.first = (struct channel_bytes){t.bytes, n};
    e.second = (struct channel_bytes){t.bytes + n, size - n};
    say(p, &e);
    p->stage = OPEN;
}

static void open_delivery(struct peer *p, const struct channel_message *m) {
    if (t.started) return refuse(p, "this keep has a workload already");
    if (t.intake) return refuse(p, "another tenant is delivering a workload");
    t.intake = intake_new();
    if (!t.intake) return refuse(p, "the keep has not so much memory");
    memcpy(t.owner, m->fixed, sizeof t.owner);
    t.owned = true;
    t.deliverer = p;
    p->stage = DELIVERY;
}

static void open_attached(struct peer *p, const struct channel_message *m, enum stage stage) {
    bool replay = stage == LOGS || m->flags & CHANNEL_REPLAY || t.ended;
    p->at = replay ? outlog_from_begin() : outlog_from_end(&t.log);
    p->foreground = stage == ATTACHED;
    p->follow = m->flags & CHANNEL_FOLLOW;
    p->stage = stage;
}

static void open_channel(struct peer *p, const struct channel_message *m) {
    bool first = m->purpose == CHANNEL_DEPLOY && !t.owned;
    if (!first && (!t.owned || CRYPTO_memcmp(t.owner, m->fixed, sizeof t.owner) != 0))
        return refuse(p, t.owned ? "this keep belongs to somebody else" : "this keep has no workload so far");
    if (m->purpose != CHANNEL_DEPLOY && !t.started) return refuse(p, "this keep has no workload so far");
    switch (m->purpose) {
    case CHANNEL_DEPLOY: open_delivery(p, m); break;
    case CHANNEL_ATTACH: open_attached(p, m, ATTACHED); break;
    case CHANNEL_LOGS: open_attached(p, m, LOGS); break;
    case CHANNEL_END_KEEP:
        t.stop_asked = true;
        p->at = outlog_from_end(&t.log);
        p->stage = LOGS;
        p->follow = true;
        break;
    default: break;
    }
    if (p->stage == CLOSING) return;
    say(p, &(struct channel_message){.type = CHANNEL_OPENED, .state = (uint8_t)state_now(p)});
    if (m->purpose == CHANNEL_IDENTIFY) finish(p);
}

static void deliver(struct peer *p, const struct channel_message *m) {
    bool started;
    const char *wrong = intake_take(t.intake, m, &started);
    if (wrong) {
        t.deliverer = NULL;
        t.owned = false;
        refuse(p, wrong);
        intake_free(t.intake); /* `wrong` may be within it */
        t.intake = NULL;
        return;
    }
    if (!started) return;
    struct channel_message a = {.type = CHANNEL_ACCEPTED};
    memcpy(t.w->workload, intake_digest(t.intake), CHANNEL_DIGEST);
    memcpy(a.fixed, t.w->workload, CHANNEL_DIGEST);
    t.started = true;
    t.deliverer = NULL;
    say(p, &a);
    if (intake_flags(t.intake) & CHANNEL_DETACHED) {
        t.input_ended = true;
        p->stage = STARTING;
        return;
    }
    p->stage = ATTACHED;
    p->foreground = true;
    p->at = outlog_from_begin();
}

/* ---- input: a ring, and credit for what is free in it ---- */

static void put_input(const uint8_t *bytes, size_t n) {
    size_t at = (t.input_at + t.input_have) % INPUT_ROOM, first = INPUT_ROOM - at < n ? INPUT_ROOM - at : n;
    memcpy(t.input + at, bytes, first);
    memcpy(t.input, bytes + first, n - first);
    t.input_have += n;
}

static size_t take_input(uint8_t *out, size_t most) {
    size_t n = t.input_have < most ? t.input_have : most;
    for (size_t done = 0, piece; done < n; done += piece) {
        piece = INPUT_ROOM - t.input_at < n - done ? INPUT_ROOM - t.input_at : n - done;
        memcpy(out + done, t.input + t.input_at, piece);
        OPENSSL_cleanse(t.input + t.input_at, piece);
        t.input_at = (t.input_at + piece) % INPUT_ROOM;
    }
    t.input_have -= n;
    return n;
}

static size_t input_free(void) {
    size_t spoken_for = t.input_have;
    for (int i = 0; i < PEERS; i++)
        spoken_for += t.peers[i].credit;
    return INPUT_ROOM - spoken_for;
}

/* Up to a quarter of what is free, when it has come down to half of that: something is left for others. Not to those
 * who have still to read something. */
static void give_credit(struct peer *p) {
    if (!p->link || p->gone || p->stage != ATTACHED || t.ended || unsent(p)) return;
    size_t share = (input_free() + p->credit) / 4;
    if (share < CREDIT_LEAST || p->credit > share / 2) return;
    say(p, &(struct channel_message){.type = CHANNEL_CREDIT, .size = share - p->credit});
    p->credit = (uint32_t)share;
    flush(p);
}

static void attached(struct peer *p, const struct channel_message *m) {
    switch (m->type) {
    case CHANNEL_STDIN:
        if (m->first.size > p->credit) return refuse(p, "more input than there was credit for");
        p->credit -= (uint32_t)m->first.size;
        if (!t.input_ended && !t.ended) put_input(m->first.data, m->first.size);
        return;
    case CHANNEL_STDIN_END: t.input_ended = true; return;
    case CHANNEL_DETACH: finish(p); return;
    case CHANNEL_STOP: t.stop_asked = true; return;
    default: refuse(p, "a message that does not come next"); return;
    }
}

static void take(struct peer *p, const struct channel_message *m) {
    if (m->type == CHANNEL_PING) return;
    switch (p->stage) {
    case HELLO:
        if (m->type == CHANNEL_HELLO) return answer_hello(p, m);
        break;
    case OPEN:
        if (m->type == CHANNEL_OPEN) return open_channel(p, m);
        break;
    case DELIVERY: return deliver(p, m);
    case ATTACHED: return attached(p, m);
    case STARTING:
    case LOGS:
        if (m->type == CHANNEL_STOP) t.stop_asked = true;
        if (m->type == CHANNEL_DETACH) finish(p);
        return;
    case CLOSING: return;
    }
    refuse(p, "a message that does not come next");
}

static void take_all(struct peer *p) {
    struct channel_message m;
    while (!p->gone) {
        switch (channel_link_next(p->link, &m)) {
        case CHANNEL_MORE: return;
        case CHANNEL_MESSAGE: take(p, &m); break;
        case CHANNEL_CLOSED:
            if (p->stage != CLOSING) finish(p);
            return;
        case CHANNEL_BROKEN:
            flush(p); /* an alert */
            p->gone = true;
            return;
        }
    }
}

static void receive(struct peer *p) {
    struct gate_request q = {.op = GATE_RECV, .handle = p->handle, .room = GATE_ANSWER_SIZE};
    struct gate_reply r;
    uint32_t error = ask(&q, &r);
    if (error == GATE_EAGAIN) return;
    if (error == GATE_OK && r.len > 0) {
        memcpy(t.bytes, t.w->gate.block->data, r.len);
        if (!channel_link_input(p->link, t.bytes, r.len)) p->gone = true;
    } else {
        channel_link_end(p->link);
        if (p->stage == CLOSING || error != GATE_OK) p->gone = true;
    }
}

/* The oldest connection that has not said what it wants makes room; else nobody does. */
static struct peer *free_peer(void) {
    struct peer *oldest = NULL;
    for (int i = 0; i < PEERS; i++) {
        struct peer *p = &t.peers[i];
        if (!p->link) return p;
        if (p->stage != HELLO && p->stage != OPEN && p->stage != CLOSING) continue;
        if (!oldest || p->number < oldest->number) oldest = p;
    }
    if (oldest) drop(oldest);
    return oldest;
}

static void accept_one(void) {
    struct gate_request q = {.op = GATE_ACCEPT, .handle = CHANNEL_HANDLE};
    struct gate_reply r;
    struct peer *p = free_peer();
    uint32_t handle;
    if (!p || !gate_handle_take(&t.w->files, &handle)) return;
    q.args[0] = handle;
    if (ask(&q, &r) != GATE_OK) {
        gate_handle_drop(&t.w->files, handle);
        return;
    }
    *p = (struct peer){.link = channel_link_new(t.tls), .handle = handle, .number = ++t.connections};
    if (p->link) return;
    p->link = NULL;
    q = (struct gate_request){.op = GATE_CLOSE, .handle = handle};
    (void)ask(&q, &r);
    gate_handle_drop(&t.w->files, handle);
}

/* ---- looking after them ---- */

static void end_if_asked(void) {
    if (!t.stop_asked || t.ended || !t.started) return;
    report_exit(t.w, GATE_EXIT_STOPPED, 0, NULL);
}

static void look_after(struct peer *p, bool readable) {
    if (readable) receive(p);
    if (!p->gone) take_all(p);
    if (!p->gone) pump(p);
    give_credit(p);
    if (p->told && !p->gone && !unsent(p)) t.collected = true;
    if (p->stage == CLOSING && !unsent(p)) p->gone = true;
    if (p->gone) drop(p);
}

static size_t wanted(void *ctx, struct gate_poll *entries, size_t most) {
    (void)ctx, (void)most;
    size_t n = 0;
    entries[n++] = (struct gate_poll){.handle = CHANNEL_HANDLE, .events = GATE_READABLE};
    for (int i = 0; i < PEERS; i++) {
        struct peer *p = &t.peers[i];
        if (!p->link) continue;
        uint32_t events = GATE_READABLE | (unsent(p) ? GATE_WRITABLE : 0);
        entries[n++] = (struct gate_poll){.handle = p->handle, .events = events};
    }
    return n;
}

static void serve(void *ctx, const struct gate_poll *entries, size_t n) {
    (void)ctx;
    if (t.serving) return;
    t.serving = true;
    for (size_t i = 0; i < n; i++) {
        if (entries[i].ready == 0 && entries[i].error == GATE_OK) continue;
        t.found = true;
        if (entries[i].handle == CHANNEL_HANDLE) {
            accept_one();
            continue;
        }
        for (int k = 0; k < PEERS; k++) {
            struct peer *p = &t.peers[k];
            if (!p->link || p->handle != entries[i].handle) continue;
            if (entries[i].error != GATE_OK) p->gone = true;
            look_after(p, (entries[i].ready & (GATE_READABLE | GATE_HANGUP)) != 0);
            break;
        }
    }
    t.serving = false;
    end_if_asked();
}

static const struct gate_attend attend = {.wanted = wanted, .serve = serve};

static wasi_errno wait_for_channel(uint64_t timeout) {
    return gate_poll_files(&t.w->files, NULL, 0, timeout);
}

void tenant_turn(void *warden) {
    struct warden *w = warden;
    if (!gate_attention(&w->gate)) return;
    atomic_store(&w->gate.block->attention, 0);
    for (int i = 0; i < TURN_ROUNDS; i++) { /* the host tells of what is new only, not of what is left */
        t.found = false;
        if (wait_for_channel(0) != WASI_SUCCESS || !t.found) return;
    }
    atomic_store(&w->gate.block->attention, 1); /* later */
}

bool tenant_attend(void *warden) {
    struct warden *w = warden;
    if (!w->stop) tenant_turn(w);
    if (!w->stop) tls_look(w);
    return !w->stop;
}

/* ---- before the program ---- */

void tenant_receive(struct warden *w) {
    tls_openssl(w);
    gate_files_init(&w->files, &w->gate, CHANNEL_HANDLE + 1);
    t.w = w;
    t.tls = channel_tls_keep();
    if (!t.tls) report_failure(w, GATE_EXIT_BROKEN, "no key for the channel");
    w->files.attend = &attend;
    while (!t.started)
        if (wait_for_channel(GATE_FOREVER) != WASI_SUCCESS)
            report_failure(w, GATE_EXIT_BROKEN, "the host does not serve the channel");
    /* Of what the host has put into the boot image nothing is left: no compiled code, which would be believed, and no
     * wish to watch. */
    config_free(&w->boot.config);
    free(w->boot.module);
    free(w->boot.code);
    w->boot.code = NULL;
    w->boot.flags = BOOT_TENANT;
    w->boot.config = intake_config(t.intake);
    w->boot.module = intake_module(t.intake, &w->boot.module_size);
    w->tenant = true;
}

void tenant_running(struct warden *w) {
    (void)w;
    for (int i = 0; i < PEERS; i++) {
        struct peer *p = &t.peers[i];
        if (!p->link || p->stage != STARTING) continue;
        say(p, &(struct channel_message){.type = CHANNEL_STARTED});
        finish(p);
        look_after(p, false);
    }
}

uint32_t tenant_socket(struct warden *w, const struct config_file *f, uint32_t *handle) {
    uint16_t port;
    if (f->kind == CONFIG_CONNECT) return gate_connect(&w->files, f->host, f->port, handle);
    return gate_listen(&w->files, f->addr, f->port, handle, &port);
}

/* ---- files and secrets ---- */

static wasi_errno put_variable(struct wasi *wasi, const char *name, const uint8_t *value, size_t n) {
    size_t k = strlen(name);
    char *text = malloc(k + 1 + n);
    if (!text) return WASI_ENOMEM;
    memcpy(text, name, k);
    text[k] = '=';
    if (n) memcpy(text + k + 1, value, n);
    wasi_errno error = wasi_add_env(wasi, text, k + 1 + n);
    OPENSSL_cleanse(text, k + 1 + n);
    free(text);
    return error;
}

wasi_errno tenant_fill(struct warden *w, struct wasi *wasi, struct wasi_file *root) {
    (void)w;
    size_t n;
    wasi_errno error = WASI_SUCCESS;
    const struct intake_file *files = intake_files(t.intake, &n);
    for (size_t i = 0; error == WASI_SUCCESS && i < n; i++) {
        error = put_file(root, files[i].path, files[i].content, files[i].size);
        intake_file_done(t.intake, i);
    }
    const struct intake_secret *secrets = intake_secrets(t.intake, &n);
    for (size_t i = 0; error == WASI_SUCCESS && i < n; i++) {
        const struct config_secret *s = secrets[i].secret;
        error = s->env ? put_variable(wasi, s->env, secrets[i].value, secrets[i].size)
                       : put_file(root, s->file + 1, secrets[i].value, secrets[i].size);
    }
    intake_free(t.intake);
    t.intake = NULL;
    return error;
}

/* ---- the program's streams ---- */

struct stream {
    struct wasi_file file;
    uint8_t type; /* CHANNEL_STDOUT, CHANNEL_STDERR */
};

static void stream_close(struct wasi_file *f) {
    free(f);
}

static wasi_errno stream_read(struct wasi_file *f, const struct wasi_iov *iov, uint32_t n, uint16_t fdflags,
                              size_t *done) {
    (void)f;
    *done = 0;
    if (gate_iov_size(iov, n) == 0) return WASI_SUCCESS;
    while (t.input_have == 0) {
        if (t.input_ended) return WASI_SUCCESS;
        wasi_errno error = wait_for_channel(fdflags & WASI_FDFLAG_NONBLOCK ? 0 : GATE_FOREVER);
        if (error != WASI_SUCCESS) return error;
        if (t.input_have == 0 && !t.input_ended && fdflags & WASI_FDFLAG_NONBLOCK) return WASI_EAGAIN;
    }
    for (uint32_t i = 0; i < n && t.input_have > 0; i++)
        *done += take_input(iov[i].buf, iov[i].len);
    for (int i = 0; i < PEERS; i++)
        give_credit(&t.peers[i]);
    return WASI_SUCCESS;
}

static wasi_errno input_poll(struct wasi_file *f, struct wasi_poll *out) {
    (void)f;
    if (t.input_have == 0 && !t.input_ended) {
        out->token = GATE_TOKEN_ATTEND;
        return WASI_SUCCESS;
    }
    out->ready = true;
    out->nbytes = t.input_have;
    out->hangup = t.input_have == 0;
    return WASI_SUCCESS;
}

/* Somebody who is attached has still to read what a record of `n` bytes would overwrite. */
static bool must_wait(size_t n) {
    for (int i = 0; i < PEERS; i++) {
        const struct peer *p = &t.peers[i];
        if (p->link && p->stage == ATTACHED && p->foreground && !outlog_room(&t.log, &p->at, n)) return true;
    }
    return false;
}

static wasi_errno write_record(uint8_t type, const uint8_t *bytes, size_t n, uint16_t fdflags) {
    while (must_wait(n)) {
        wasi_errno error = wait_for_channel(fdflags & WASI_FDFLAG_NONBLOCK ? 0 : GATE_FOREVER);
        if (error != WASI_SUCCESS) return error;
        if (must_wait(n) && fdflags & WASI_FDFLAG_NONBLOCK) return WASI_EAGAIN;
    }
    outlog_write(&t.log, type, bytes, n);
    return WASI_SUCCESS;
}

static bool stays(const struct peer *p) {
    return p->link && (p->stage == STARTING || p->stage == ATTACHED || p->stage == LOGS);
}

static void pump_all(void) {
    for (int i = 0; i < PEERS; i++)
        if (stays(&t.peers[i])) look_after(&t.peers[i], false);
}

static wasi_errno stream_write(struct wasi_file *f, const struct wasi_iov *iov, uint32_t n, uint16_t fdflags,
                               size_t *done) {
    uint8_t type = ((struct stream *)f)->type;
    wasi_errno error = WASI_SUCCESS;
    *done = 0;
    for (uint32_t i = 0; error == WASI_SUCCESS && i < n; i++) {
        const uint8_t *bytes = iov[i].buf;
        for (size_t at = 0; error == WASI_SUCCESS && at < iov[i].len;) {
            size_t piece = iov[i].len - at < OUTLOG_RECORD ? iov[i].len - at : OUTLOG_RECORD;
            error = write_record(type, bytes + at, piece, fdflags);
            if (error != WASI_SUCCESS) break;
            at += piece;
            *done += piece;
            pump_all();
        }
    }
    return *done && error <= GATE_ERROR_MAX ? (uint32_t)WASI_SUCCESS : error;
}

static const struct wasi_file_ops input_ops = {
    .name = "tenant", .close = stream_close, .read = stream_read, .poll = input_poll};
static const struct wasi_file_ops output_ops = {.name = "tenant", .close = stream_close, .write = stream_write};

struct wasi_file *tenant_stream(struct warden *w, enum config_file_kind kind) {
    (void)w;
    struct stream *s = malloc(sizeof *s);
    if (!s) return NULL;
    wasi_file_init(&s->file, kind == CONFIG_STDIN ? &input_ops : &output_ops, WASI_FILETYPE_UNKNOWN);
    s->file.rights = WASI_RIGHTS_STREAM;
    s->type = kind == CONFIG_STDOUT ? CHANNEL_STDOUT : CHANNEL_STDERR;
    return &s->file;
}

/* ---- after the program ---- */

static uint64_t now_s(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec;
}

static bool anybody_attached(void) {
    for (int i = 0; i < PEERS; i++)
        if (stays(&t.peers[i]) || (t.peers[i].link && t.peers[i].told)) return true;
    return false;
}

void tenant_ended(struct warden *w, enum gate_exit kind, uint32_t status, const struct report *text) {
    struct gate_request q = {.op = GATE_ENDED, .args = {kind, status}};
    struct gate_reply r;
    if (t.ended) return;
    t.ended = true;
    t.kind = kind;
    t.status = status;
    t.text = text;
    timer_end();
    w->stop = false;
    t.serving = false;
    pump_all(); /* before the host hears of it, which may have the next keep built at once */
    (void)gate_call(&w->gate, &q, &r);
    OPENSSL_cleanse(t.input, sizeof t.input);
    t.input_at = t.input_have = 0;
    uint64_t end = now_s() + LINGER_S;
    /* Once somebody has been told, the others get what they are still reading. */
    while (!t.stop_asked && !(t.collected && !anybody_attached())) {
        uint64_t now = now_s();
        if (now >= end || wait_for_channel((end - now) * 1000000000u) != WASI_SUCCESS) break;
    }
    for (int i = 0; i < PEERS && t.stop_asked; i++) /* those who asked for the end hear of it */
        for (int k = 0; k < 100 && t.peers[i].link && (t.peers[i].told || unsent(&t.peers[i])); k++)
            if (wait_for_channel(UINT64_C(20000000)) != WASI_SUCCESS) break;
}
