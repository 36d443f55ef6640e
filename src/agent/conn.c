/* One tenant's connection: handshake, one line of request, one line of reply, and after "create" and "channel" a relay
 * of bytes between tenant and keep. The agent sees in these bytes what any wire would show: TLS records that end in the
 * keep.
 *
 * Back-pressure: 16 KiB in each direction, read only when what was read before has been written. */
#include "agent.h"
#include "log.h"
#include "sockets.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

enum {
    RELAY_BUFFER = 16384, /* a whole TLS record */
    RELAY_ROUNDS = 16,    /* before others have their turn */
    REQUEST_FIRST = 1024,
    REQUEST_MS = 10000, /* from accept to a whole request */
    REPLY_MS = 10000,   /* for the tenant to take the reply */
    GOODBYE_MS = 5000,  /* from the keep's end to the tenant's */
    AGAIN_MS = 1000,    /* from a lack of descriptors to the next try */
    LOOSE_MIN = 8,      /* connections that have not said whose they are, at least, */
    LOOSE_MOST = 1024,  /* and at most */
    LOOSE_SHARE = 4,    /* and otherwise one in so many of all */
    RELAY_RESERVE = 16, /* one in so many of all is never a relay */
    ADDRESS_BUCKETS = 1024,
};

enum stage { HANDSHAKE, READING, BUILDING, REPLYING, RELAY, GOODBYE };

struct relay {
    unsigned char up[RELAY_BUFFER], down[RELAY_BUFFER]; /* to the keep, to the tenant */
    size_t up_at, up_end, down_at, down_end;
    bool tenant_done, keep_done, keep_told;
};

struct conn {
    struct conn *next, **at;
    /* Loose: has not said whose it is, or has nothing more to say. Closed when a newcomer needs the place. */
    struct conn *loose_next, **loose_at;
    struct agent *agent;
    enum stage stage;
    struct watch tenant, keep;
    SSL *ssl;
    bool loopback;
    uint32_t ssl_wants; /* events without which the last SSL call cannot go on */
    char *text;         /* request, then reply */
    size_t text_used, text_room;
    struct keep *building;
    const struct tenant *owner; /* of a relay, or what will be one */
    struct relay *relay;
    struct deadline deadline;
    unsigned char from[16]; /* the peer's address; of IPv6 its first half */
    char peer[80];
};

static void listen_again(struct agent *a) {
    if (!a->full) return;
    a->full = false;
    loop_clear(&a->again);
    for (unsigned i = 0; i < a->n_listeners; i++)
        loop_want(&a->loop, &a->listeners[i], EPOLLIN);
}

static void pause_listening(struct agent *a) {
    a->full = true;
    for (unsigned i = 0; i < a->n_listeners; i++)
        loop_want(&a->loop, &a->listeners[i], 0);
    log_event(LOG_WARN, "as many connections as may be: the next waits", NULL);
}

static void loosen(struct conn *c) {
    struct agent *a = c->agent;
    if (c->loose_at) return;
    c->loose_next = a->loose;
    if (c->loose_next) c->loose_next->loose_at = &c->loose_next;
    c->loose_at = &a->loose;
    a->loose = c;
    a->n_loose++;
    listen_again(a);
}

static void tighten(struct conn *c) {
    struct agent *a = c->agent;
    if (!c->loose_at) return;
    *c->loose_at = c->loose_next;
    if (c->loose_next) c->loose_next->loose_at = c->loose_at;
    c->loose_at = NULL;
    a->n_loose--;
}

static void conn_close(struct conn *c) {
    struct agent *a = c->agent;
    tighten(c);
    loop_forget(&a->loop, &c->tenant);
    loop_clear(&c->deadline);
    SSL_free(c->ssl);
    close(c->tenant.fd);
    if (c->keep.fd >= 0) {
        loop_forget(&a->loop, &c->keep);
        close(c->keep.fd);
    }
    if (c->building) c->building->waiter = NULL;
    free(c->relay);
    if (c->text) OPENSSL_cleanse(c->text, c->text_room);
    free(c->text);
    *c->at = c->next;
    if (c->next) c->next->at = c->at;
    a->n_conns--;
    listen_again(a); /* there is room */
    free(c);
    if (a->draining && !a->conns) a->loop.stop = true;
}

static void too_late(struct deadline *d) {
    conn_close(OWNER_OF(d, struct conn, deadline));
}

static void set_deadline(struct conn *c, uint64_t ms) {
    c->deadline.passed = too_late;
    loop_set(&c->agent->loop, &c->deadline, ms);
}

/* What became of an SSL call: goes on when the descriptor is ready, or is over. */
enum ssl_outcome { SSL_WAITS, SSL_ENDED, SSL_BROKEN };
static enum ssl_outcome ssl_outcome(struct conn *c, int result) {
    int why = SSL_get_error(c->ssl, result);
    ERR_clear_error();
    if (why == SSL_ERROR_WANT_READ) c->ssl_wants |= EPOLLIN;
    if (why == SSL_ERROR_WANT_WRITE) c->ssl_wants |= EPOLLOUT;
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) return SSL_WAITS;
    return why == SSL_ERROR_ZERO_RETURN ? SSL_ENDED : SSL_BROKEN;
}

/* ---- reply ---- */

static void start_relay(struct conn *c);

static void write_reply(struct conn *c) {
    size_t done;
    c->ssl_wants = 0;
    while (c->text_used > 0) {
        int n = SSL_write_ex(c->ssl, c->text, c->text_used, &done);
        if (n != 1) {
            if (ssl_outcome(c, n) != SSL_WAITS)
                conn_close(c);
            else
                loop_want(&c->agent->loop, &c->tenant, c->ssl_wants);
            return;
        }
        c->text_used -= done;
        memmove(c->text, c->text + done, c->text_used);
    }
    free(c->text);
    c->text = NULL;
    if (c->keep.fd >= 0) {
        start_relay(c);
        return;
    }
    /* Until the tenant has closed too, so that the reply is not lost to a reset. */
    c->stage = GOODBYE;
    loosen(c);
    SSL_shutdown(c->ssl);
    shutdown(c->tenant.fd, SHUT_WR);
    set_deadline(c, GOODBYE_MS);
    loop_want(&c->agent->loop, &c->tenant, EPOLLIN);
}

static void reply(struct conn *c, json_t *message) {
    char *text = message ? json_dumps(message, JSON_COMPACT) : NULL;
    json_decref(message);
    if (c->text) OPENSSL_cleanse(c->text, c->text_room);
    free(c->text);
    c->text = NULL;
    if (!text) {
        conn_close(c);
        return;
    }
    c->text = text;
    c->text_room = strlen(text);
    c->text_used = c->text_room + 1;
    text[c->text_room] = '\n'; /* over its NUL */
    c->stage = REPLYING;
    set_deadline(c, REPLY_MS);
    write_reply(c);
}

static void refuse(struct conn *c, const char *error, const char *hint) {
    json_t *m = json_pack("{s:b, s:s}", "ok", 0, "error", error);
    if (hint) json_object_set_new(m, "hint", json_string(hint));
    log_event(LOG_WARN, "request refused", "peer", c->peer, "why", error, NULL);
    reply(c, m);
}

/* ---- requests ---- */

/* Compared with every tenant, in the same time whoever it is. */
static const struct tenant *authenticate(struct conn *c, const struct request *r) {
    struct agent *a = c->agent;
    const struct tenant *found = NULL;
    unsigned char digest[TOKEN_DIGEST];
    if (!a->settings.n_tenants) return c->loopback ? &a->local : NULL;
    if (!EVP_Digest(r->token, strlen(r->token), digest, NULL, EVP_sha256(), NULL)) return NULL;
    for (uint32_t i = 0; i < a->settings.n_tenants; i++)
        if (!CRYPTO_memcmp(digest, a->settings.tenants[i].token, sizeof digest)) found = &a->settings.tenants[i];
    OPENSSL_cleanse(digest, sizeof digest);
    return *r->token ? found : NULL;
}

/* Beyond an equal share a tenant's relays have to leave a quarter of all connections to the others, and all relays
 * together a few: there is always room to list and to stop. */
static bool has_share(const struct conn *c, const struct tenant *t) {
    const struct agent *a = c->agent;
    uint32_t all = a->settings.connections, n = 0, relays = 0;
    if (a->n_conns <= all - all / 4) return true;
    for (const struct conn *o = a->conns; o; o = o->next) {
        n += o->owner == t;
        relays += o->owner != NULL;
    }
    uint32_t most = all - all / RELAY_RESERVE - 1;
    return relays < most && (a->settings.n_tenants < 2 || n < all / a->settings.n_tenants);
}

/* Reply with the keep, then relay: the socket to it is there before anything is promised. */
static void connect_keep(struct conn *c, struct keep *k) {
    char error[300];
    c->keep.fd = keep_connect(k, error, sizeof error);
    if (c->keep.fd < 0)
        refuse(c, error, NULL);
    else
        reply(c, json_pack("{s:b, s:o}", "ok", 1, "keep", keep_describe(k)));
}

void conn_keep_built(struct conn *c, struct keep *k, const char *error) {
    c->building = NULL;
    if (k)
        connect_keep(c, k);
    else
        refuse(c, error, NULL);
}

static void on_create(struct conn *c, const struct tenant *t, const struct request *r) {
    char error[600];
    struct keep *k = keep_create(c->agent, t, r, c, error, sizeof error);
    if (!k) {
        refuse(c, error, strstr(error, "quota") ? "end a keep, or ask the host's operator" : NULL);
        return;
    }
    c->building = k;
    c->stage = BUILDING;
    loop_clear(&c->deadline);
    loop_want(&c->agent->loop, &c->tenant, EPOLLRDHUP); /* a tenant that leaves now needs no keep */
}

static json_t *list_keeps(struct agent *a, const struct tenant *t) {
    json_t *list = json_array();
    for (struct keep *k = a->keeps; k; k = k->next)
        if (!strcmp(k->tenant, t->name)) json_array_append_new(list, keep_describe(k));
    return json_pack("{s:b, s:o}", "ok", 1, "keeps", list);
}

static json_t *info(struct agent *a, const struct tenant *t) {
    uint32_t keeps;
    uint64_t memory;
    json_t *backends = json_array();
    keeps_usage(a, t->name, &keeps, &memory);
    for (uint32_t i = 0; i < a->settings.n_backends; i++)
        json_array_append_new(backends, json_string(a->settings.backends[i]));
    return json_pack("{s:b, s:s, s:s, s:s, s:o, s:{s:i, s:i, s:I, s:I, s:I, s:i}}", "ok", 1, "version", DONJON_VERSION,
                     "tenant", t->name, "development_root", a->root, "backends", backends, "quota", "keeps",
                     (int)t->keeps, "keeps_used", (int)keeps, "memory", (json_int_t)t->memory, "memory_used",
                     (json_int_t)memory, "keep_memory", (json_int_t)t->keep_memory, "cpu", (int)t->cpu);
}

static void serve(struct conn *c, const struct request *r) {
    const struct tenant *t = authenticate(c, r);
    if (!t) {
        refuse(c, *r->token ? "no tenant has this token" : "this agent wants a token",
               c->agent->settings.n_tenants ? "donjon deploy --token-file FILE"
                                            : "no tenants are configured here: only this machine itself is served");
        return;
    }
    tighten(c);
    if (c->agent->n_conns >= c->agent->settings.connections && !c->agent->loose) pause_listening(c->agent);
    bool relays = r->op == REQUEST_CREATE || r->op == REQUEST_CHANNEL;
    if (relays && !has_share(c, t)) {
        refuse(c, "as many connections as this agent has for one tenant", "end others, or wait");
        return;
    }
    c->owner = relays ? t : NULL;
    if (r->op == REQUEST_CREATE) {
        on_create(c, t, r);
    } else if (r->op == REQUEST_LIST) {
        reply(c, list_keeps(c->agent, t));
    } else if (r->op == REQUEST_INFO) {
        reply(c, info(c->agent, t));
    } else {
        struct keep *k = keep_find(c->agent, t, r->id);
        if (!k) {
            refuse(c, "no such keep", NULL);
        } else if (r->op == REQUEST_CHANNEL) {
            connect_keep(c, k);
        } else {
            keep_stop(k);
            reply(c, json_pack("{s:b, s:o}", "ok", 1, "keep", keep_describe(k)));
        }
    }
}

static void take_request(struct conn *c, size_t line) {
    struct request r;
    char error[300];
    if (line + 1 < c->text_used) {
        refuse(c, "request: expected nothing behind the line before the reply", NULL);
        return;
    }
    bool ok = request_parse(&r, c->text, line, error, sizeof error);
    OPENSSL_cleanse(c->text, c->text_used);
    c->text_used = 0;
    if (ok)
        serve(c, &r);
    else
        refuse(c, error, NULL);
    request_clear(&r);
}

/* Room for more of the request; what is moved leaves no token behind. */
static bool make_room(struct conn *c) {
    if (c->text_used < c->text_room) return true;
    size_t room = c->text_room ? c->text_room * 4 : REQUEST_FIRST;
    if (room > REQUEST_MAX + 1) room = REQUEST_MAX + 1;
    if (room == c->text_room) return false;
    char *text = malloc(room);
    if (!text) return false;
    if (c->text) {
        memcpy(text, c->text, c->text_used);
        OPENSSL_cleanse(c->text, c->text_used);
    }
    free(c->text);
    c->text = text;
    c->text_room = room;
    return true;
}

static void read_request(struct conn *c) {
    for (;;) {
        size_t n;
        if (!make_room(c)) {
            refuse(c, "request: expected a line of at most 64 KiB", NULL);
            return;
        }
        c->ssl_wants = 0;
        int result = SSL_read_ex(c->ssl, c->text + c->text_used, c->text_room - c->text_used, &n);
        if (result != 1) {
            if (ssl_outcome(c, result) != SSL_WAITS)
                conn_close(c);
            else
                loop_want(&c->agent->loop, &c->tenant, c->ssl_wants);
            return;
        }
        char *end = memchr(c->text + c->text_used, '\n', n);
        c->text_used += n;
        if (!end) continue;
        take_request(c, (size_t)(end - c->text));
        return;
    }
}

static void handshake(struct conn *c) {
    c->ssl_wants = 0;
    int n = SSL_accept(c->ssl);
    if (n == 1) {
        c->stage = READING;
        read_request(c);
    } else if (ssl_outcome(c, n) == SSL_WAITS) {
        loop_want(&c->agent->loop, &c->tenant, c->ssl_wants);
    } else {
        conn_close(c); /* a port scan, not worth a line */
    }
}

/* ---- relay ---- */

/* Each step: true when something moved; false with *over when the relay cannot go on. */
static bool tenant_to_buffer(struct conn *c, struct relay *r, bool *over) {
    if (r->tenant_done || r->up_at < r->up_end) return false;
    int n = SSL_read_ex(c->ssl, r->up, sizeof r->up, &r->up_end);
    r->up_at = 0;
    if (n == 1) return true;
    r->up_end = 0;
    enum ssl_outcome o = ssl_outcome(c, n);
    if (o == SSL_BROKEN) *over = true;
    if (o == SSL_ENDED) r->tenant_done = true;
    return o == SSL_ENDED;
}

static bool buffer_to_keep(struct conn *c, struct relay *r, bool *over) {
    if (r->up_at == r->up_end) {
        if (!r->tenant_done || r->keep_told) return false;
        shutdown(c->keep.fd, SHUT_WR);
        return r->keep_told = true;
    }
    ssize_t n = send(c->keep.fd, r->up + r->up_at, r->up_end - r->up_at, MSG_NOSIGNAL);
    if (n > 0) {
        r->up_at += (size_t)n;
        return true;
    }
    if (errno == EAGAIN || errno == EINTR) return false;
    /* A keep that takes no more may still have said why. */
    r->up_at = r->up_end = 0;
    r->tenant_done = r->keep_told = true;
    (void)over;
    return true;
}

static bool keep_to_buffer(struct conn *c, struct relay *r, bool *over) {
    (void)over;
    if (r->keep_done || r->down_at < r->down_end) return false;
    ssize_t n = recv(c->keep.fd, r->down, sizeof r->down, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    r->down_at = 0;
    r->down_end = n > 0 ? (size_t)n : 0;
    if (n <= 0) r->keep_done = true;
    return true;
}

static bool buffer_to_tenant(struct conn *c, struct relay *r, bool *over) {
    size_t done;
    if (r->down_at == r->down_end) return false;
    int n = SSL_write_ex(c->ssl, r->down + r->down_at, r->down_end - r->down_at, &done);
    if (n == 1) {
        r->down_at += done;
        return true;
    }
    if (ssl_outcome(c, n) != SSL_WAITS) *over = true;
    return false;
}

/* The keep has said everything: a proper end, so that the tenant can tell it from a cut wire. */
static void goodbye(struct conn *c) {
    loop_forget(&c->agent->loop, &c->keep);
    close(c->keep.fd);
    c->keep.fd = -1;
    free(c->relay);
    c->relay = NULL;
    c->owner = NULL;
    c->stage = GOODBYE;
    loosen(c);
    SSL_shutdown(c->ssl);
    shutdown(c->tenant.fd, SHUT_WR);
    set_deadline(c, GOODBYE_MS);
    loop_want(&c->agent->loop, &c->tenant, EPOLLIN);
}

static void pump(struct conn *c) {
    struct relay *r = c->relay;
    bool over = false, moved = true;
    c->ssl_wants = 0;
    for (int round = 0; moved && !over && round < RELAY_ROUNDS; round++) {
        c->ssl_wants = 0;
        moved = tenant_to_buffer(c, r, &over);
        moved = (!over && buffer_to_keep(c, r, &over)) || moved;
        moved = (!over && keep_to_buffer(c, r, &over)) || moved;
        moved = (!over && buffer_to_tenant(c, r, &over)) || moved;
    }
    if (over) {
        conn_close(c);
        return;
    }
    if (r->keep_done && r->down_at == r->down_end) {
        goodbye(c);
        return;
    }
    /* What is waited for: each side's reading only while there is room for it, so that neither outruns the other. */
    uint32_t tenant = c->ssl_wants, keep = 0;
    if (!r->tenant_done && r->up_at == r->up_end) tenant |= EPOLLIN;
    if (r->down_at < r->down_end) tenant |= EPOLLOUT;
    if (!r->keep_done && r->down_at == r->down_end) keep |= EPOLLIN;
    if (r->up_at < r->up_end) keep |= EPOLLOUT;
    if (!loop_want(&c->agent->loop, &c->tenant, tenant) || !loop_want(&c->agent->loop, &c->keep, keep)) conn_close(c);
}

static void keep_ready(struct watch *w, uint32_t events) {
    (void)events;
    pump(OWNER_OF(w, struct conn, keep));
}

static void start_relay(struct conn *c) {
    c->relay = calloc(1, sizeof *c->relay);
    if (!c->relay) {
        conn_close(c);
        return;
    }
    loop_clear(&c->deadline);
    c->stage = RELAY;
    c->keep.ready = keep_ready;
    pump(c);
}

/* ---- the tenant's side is ready ---- */

/* Nothing more is wanted from the tenant but his end. */
static void drain(struct conn *c) {
    char rest[4096];
    ssize_t n = recv(c->tenant.fd, rest, sizeof rest, 0);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) conn_close(c);
}

static void tenant_ready(struct watch *w, uint32_t events) {
    struct conn *c = OWNER_OF(w, struct conn, tenant);
    switch (c->stage) {
    case HANDSHAKE: handshake(c); return;
    case READING: read_request(c); return;
    case BUILDING:
        if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) conn_close(c);
        return;
    case REPLYING: write_reply(c); return;
    case RELAY: pump(c); return;
    case GOODBYE: drain(c); return;
    }
}

static void no_more_pause(struct deadline *d) {
    listen_again(OWNER_OF(d, struct agent, again));
}

static void address_bytes(const struct sockaddr_storage *a, unsigned char out[16]) {
    const unsigned char *six = ((const struct sockaddr_in6 *)a)->sin6_addr.s6_addr;
    memset(out, 0, 16);
    if (a->ss_family == AF_INET) {
        out[10] = out[11] = 0xff; /* as it comes mapped into IPv6 */
        memcpy(out + 12, &((const struct sockaddr_in *)a)->sin_addr, 4);
    } else if (a->ss_family == AF_INET6) {
        memcpy(out, six, IN6_IS_ADDR_V4MAPPED(&((const struct sockaddr_in6 *)a)->sin6_addr) ? 16 : 8);
    }
}

/* Multiplication carries differences upwards, the shifts bring them down again. */
static uint64_t stir(uint64_t x) {
    x ^= x >> 32;
    x *= UINT64_C(0x9e3779b97f4a7c15);
    return x ^ (x >> 29);
}

static unsigned address_bucket(const struct agent *a, const unsigned char from[16]) {
    uint64_t half[2];
    memcpy(half, from, sizeof half);
    return (unsigned)stir(stir(half[0] ^ a->salt) ^ half[1]) % ADDRESS_BUCKETS;
}

/* A place for a newcomer: the oldest loose connection of the address that has most of them. So those who open
 * connections only to hold them close their own, and a tenant who says at once who he is is never in their way. False:
 * there is no loose one. */
static bool make_place(struct agent *a) {
    static uint32_t count[ADDRESS_BUCKETS];
    uint32_t most = 0;
    struct conn *oldest = NULL;
    memset(count, 0, sizeof count);
    for (struct conn *c = a->loose; c; c = c->loose_next) {
        uint32_t n = ++count[address_bucket(a, c->from)];
        if (n > most) most = n;
    }
    for (struct conn *c = a->loose; c; c = c->loose_next) /* the newest first */
        if (count[address_bucket(a, c->from)] == most) oldest = c;
    if (oldest) conn_close(oldest);
    return oldest;
}

static bool too_many_loose(const struct agent *a) {
    uint32_t most = a->settings.connections / LOOSE_SHARE;
    most = most < LOOSE_MIN ? LOOSE_MIN : most > LOOSE_MOST ? LOOSE_MOST : most;
    return a->n_loose >= most || a->n_conns >= a->settings.connections;
}

void conn_accept(struct agent *a, int listener) {
    struct sockaddr_storage peer;
    socklen_t n = sizeof peer;
    int on = 1, fd = accept4(listener, (struct sockaddr *)&peer, &n, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        if ((errno != EMFILE && errno != ENFILE) || make_place(a)) return;
        pause_listening(a);
        a->again.passed = no_more_pause;
        loop_set(&a->loop, &a->again, AGAIN_MS);
        return;
    }
    if (too_many_loose(a)) make_place(a);
    struct conn *c = calloc(1, sizeof *c);
    SSL *ssl = c ? SSL_new(a->tls) : NULL;
    if (!ssl || SSL_set_fd(ssl, fd) != 1) {
        SSL_free(ssl);
        free(c);
        close(fd);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on); /* tenants vanish without a word */
    c->agent = a;
    c->ssl = ssl;
    c->keep.fd = -1;
    c->tenant = (struct watch){.fd = fd, .ready = tenant_ready};
    address_bytes(&peer, c->from);
    c->loopback = address_is_loopback(&peer);
    address_text(&peer, c->peer, sizeof c->peer);
    c->next = a->conns;
    if (c->next) c->next->at = &c->next;
    c->at = &a->conns;
    a->conns = c;
    a->n_conns++;
    loosen(c);
    set_deadline(c, REQUEST_MS);
    if (!loop_want(&a->loop, &c->tenant, EPOLLIN)) conn_close(c);
}

void conns_close(struct agent *a, bool idle_only) {
    for (struct conn *c = a->conns, *next; c; c = next) {
        next = c->next;
        if (!idle_only || c->stage == HANDSHAKE || c->stage == GOODBYE) conn_close(c);
    }
}
