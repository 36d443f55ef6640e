/* The daemon: HTTP over TLS, or plain on loopback. One thread, one poll: libmicrohttpd's epoll descriptor and the
 * signals. Everything is bounded: bodies, connections (also per address), their age, requests per minute and address.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>
#include <microhttpd.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>

#include "cli/cli.h"
#include "openapi.h"
#include "steward.h"
#include "verbs.h"

enum {
    IDLE_S = 10,        /* without a byte */
    AGE_S = 60,         /* of a connection, whatever it does: a byte now and then must not hold a place */
    HEADER_MAX = 32768, /* memory of a connection for its request line and headers */
    TICK_MS = 1000,
    DRAIN_S = 5,    /* answers that are on their way at SIGTERM */
    BUCKETS = 4096, /* addresses that are told apart for the rate */
    SERVER_LIFE_S = 24 * 3600,
};

struct connection {
    struct MHD_Connection *mhd;
    int64_t since;
    struct connection *next, *prev;
};

struct bucket {
    double tokens;
    int64_t at; /* monotonic milliseconds */
};

struct daemon {
    struct steward *s;
    const struct steward_settings *settings;
    struct MHD_Daemon *mhd;
    int listener, signals;
    uint16_t port;
    struct connection *connections;
    uint8_t seed[16];
    struct bucket buckets[BUCKETS];
    char *certificate, *key; /* PEM, while they serve */
    int64_t renew_at;        /* 0: the operator's certificate */
    int64_t started;
};

static int64_t monotonic_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- Who asks, and how often ---- */

static const struct sockaddr *address_of(struct MHD_Connection *c) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    return info ? info->client_addr : NULL;
}

static void peer_text(struct MHD_Connection *c, char out[INET6_ADDRSTRLEN + 8]) {
    const struct sockaddr *a = address_of(c);
    const void *from = a && a->sa_family == AF_INET    ? (const void *)&((const struct sockaddr_in *)a)->sin_addr
                       : a && a->sa_family == AF_INET6 ? (const void *)&((const struct sockaddr_in6 *)a)->sin6_addr
                                                       : NULL;
    if (!from || !inet_ntop(a->sa_family, from, out, INET6_ADDRSTRLEN)) snprintf(out, 8, "?");
}

/* What stands for an address: all of IPv4, also where it comes mapped into IPv6, of IPv6 a /64. */
static void bucket_name(const struct sockaddr *a, uint8_t out[8]) {
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    memset(out, 0, 8);
    if (a && a->sa_family == AF_INET) {
        memcpy(&v4, a, sizeof v4);
        memcpy(out, &v4.sin_addr, 4);
    } else if (a && a->sa_family == AF_INET6) {
        memcpy(&v6, a, sizeof v6);
        bool mapped = IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr);
        memcpy(out, &v6.sin6_addr.s6_addr[mapped ? 12 : 0], mapped ? 4 : 8);
    }
}

/* A token bucket for each, found by a keyed hash. Addresses that meet in one share it. */
static bool within_rate(struct daemon *d, struct MHD_Connection *c) {
    uint8_t bytes[16 + 8] = {0}, digest[32];
    memcpy(bytes, d->seed, 16);
    bucket_name(address_of(c), bytes + 16);
    if (EVP_Digest(bytes, sizeof bytes, digest, NULL, EVP_sha256(), NULL) != 1) return false;
    struct bucket *b = &d->buckets[(digest[0] | digest[1] << 8) % BUCKETS];
    double most = (double)d->settings->requests_per_minute;
    int64_t now = monotonic_ms();
    b->tokens = b->at ? b->tokens + (double)(now - b->at) * most / 60000 : most;
    if (b->tokens > most) b->tokens = most;
    b->at = now;
    if (b->tokens < 1) return false;
    b->tokens -= 1;
    return true;
}

/* ---- Answers ---- */

static enum MHD_Result answer(struct MHD_Connection *c, unsigned status, const char *type, const void *body,
                              size_t size) {
    struct MHD_Response *r = MHD_create_response_from_buffer(size, (void *)body, MHD_RESPMEM_MUST_COPY);
    if (!r) return MHD_NO;
    MHD_add_response_header(r, "Content-Type", type);
    MHD_add_response_header(r, "Cache-Control", "no-store");
    MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
    if (status == MHD_HTTP_TOO_MANY_REQUESTS) MHD_add_response_header(r, "Retry-After", "10");
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED) MHD_add_response_header(r, "Allow", "GET, HEAD, POST");
    enum MHD_Result done = MHD_queue_response(c, status, r);
    MHD_destroy_response(r);
    return done;
}

/* Refusals on one line: keeps and logs show them as they come. */
static enum MHD_Result answer_json(struct MHD_Connection *c, unsigned status, const char *type, json_t *json) {
    char *text = json ? json_dumps(json, status < MHD_HTTP_BAD_REQUEST ? JSON_INDENT(2) : 0) : NULL;
    json_decref(json);
    if (!text) return MHD_NO;
    enum MHD_Result done = answer(c, status, type, text, strlen(text));
    free(text);
    return done;
}

/* RFC 9457. */
static enum MHD_Result problem(struct MHD_Connection *c, unsigned status, const char *title,
                               const struct steward_decision *d) {
    json_t *json = json_pack("{s:s, s:i}", "title", title, "status", (int)status);
    if (d) json_object_set_new(json, "reasons", steward_reasons_json(d));
    return answer_json(c, status, "application/problem+json", json);
}

static enum MHD_Result answer_decision(struct MHD_Connection *c, const struct steward_decision *d) {
    if (d->outcome == STEWARD_REFUSED) return problem(c, MHD_HTTP_FORBIDDEN, "refused", d);
    return problem(c, MHD_HTTP_SERVICE_UNAVAILABLE, "the steward issues nothing now", d);
}

static bool accepts(struct MHD_Connection *c, const char *type) {
    const char *accept = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Accept");
    return accept && strstr(accept, type);
}

/* ---- The resources ---- */

static enum MHD_Result get_nonce(struct daemon *d, struct MHD_Connection *c) {
    uint8_t nonce[STEWARD_NONCE];
    char hex[2 * STEWARD_NONCE + 1], until[24];
    struct tm tm;
    time_t now = time(NULL), end = now + d->settings->nonce_lifetime;
    if (*d->s->audit.broken || !steward_nonce_make(&d->s->nonces, now, nonce))
        return problem(c, MHD_HTTP_SERVICE_UNAVAILABLE, "the steward issues nothing now", NULL);
    if (accepts(c, "application/octet-stream"))
        return answer(c, MHD_HTTP_OK, "application/octet-stream", nonce, sizeof nonce);
    steward_hex(nonce, sizeof nonce, hex);
    strftime(until, sizeof until, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&end, &tm));
    return answer_json(c, MHD_HTTP_OK, "application/json", json_pack("{s:s, s:s}", "nonce", hex, "expires", until));
}

static enum MHD_Result get_ca(struct daemon *d, struct MHD_Connection *c) {
    return answer(c, MHD_HTTP_OK, "application/pem-certificate-chain", d->s->ca_pem, strlen(d->s->ca_pem));
}

static enum MHD_Result get_openapi(struct daemon *d, struct MHD_Connection *c) {
    (void)d;
    return answer(c, MHD_HTTP_OK, "application/yaml", steward_openapi, steward_openapi_size);
}

static enum MHD_Result get_health(struct daemon *d, struct MHD_Connection *c) {
    const struct steward *s = d->s;
    char head[65];
    steward_hex(s->audit.head, sizeof s->audit.head, head);
    bool good = !*s->audit.broken;
    json_t *json = json_pack("{s:s, s:I, s:I, s:I, s:I, s:{s:I, s:s}}", "status", good ? "ok" : s->audit.broken,
                             "uptime", (json_int_t)(monotonic_ms() - d->started) / 1000, "issued",
                             (json_int_t)s->issued, "refused", (json_int_t)s->refused, "appraised",
                             (json_int_t)s->appraised, "audit", "entries", (json_int_t)s->audit.entries, "head", head);
    return answer_json(c, good ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, "application/json", json);
}

static enum MHD_Result post_certify(struct daemon *d, struct MHD_Connection *c, struct attest_bytes body) {
    static struct steward_decision decision;
    char peer[INET6_ADDRSTRLEN + 8];
    peer_text(c, peer);
    steward_certify(d->s, body, peer, time(NULL), &decision);
    enum MHD_Result done =
        decision.outcome == STEWARD_ISSUED
            ? answer(c, MHD_HTTP_OK, "application/pem-certificate-chain", decision.pem, strlen(decision.pem))
            : answer_decision(c, &decision);
    steward_decision_free(&decision);
    return done;
}

/* A query argument in hexadecimal: *size bytes; false when it is there and none. */
static bool hex_argument(struct MHD_Connection *c, const char *name, uint8_t out[64], size_t *size) {
    const char *text = MHD_lookup_connection_value(c, MHD_GET_ARGUMENT_KIND, name);
    *size = 0;
    if (!text) return true;
    return strspn(text, "0123456789abcdefABCDEF") == strlen(text) && *text &&
           OPENSSL_hexstr2buf_ex(out, 64, size, text, '\0') == 1;
}

static enum MHD_Result post_appraise(struct daemon *d, struct MHD_Connection *c, struct attest_bytes body) {
    static struct steward_decision decision;
    uint8_t nonce[64], report_data[64];
    size_t nonce_size, report_size, size = 0;
    if (!hex_argument(c, "nonce", nonce, &nonce_size) || (nonce_size && nonce_size < 8) || /* EAT: 8 to 64 bytes */
        !hex_argument(c, "report-data", report_data, &report_size) || (report_size && report_size != 64))
        return problem(c, MHD_HTTP_BAD_REQUEST, "expected nonce (8 to 64 bytes) and report-data (64) in hexadecimal",
                       NULL);
    char peer[INET6_ADDRSTRLEN + 8];
    peer_text(c, peer);
    bool cwt = accepts(c, "application/eat+cwt");
    char *token = steward_appraise(d->s, body, MHD_lookup_connection_value(c, MHD_GET_ARGUMENT_KIND, "rule"),
                                   (struct attest_bytes){report_data, report_size},
                                   (struct attest_bytes){nonce, nonce_size}, cwt, &size, peer, time(NULL), &decision);
    enum MHD_Result done =
        token ? answer(c, MHD_HTTP_OK, cwt ? "application/eat+cwt" : "application/eat+jwt", token, size)
              : answer_decision(c, &decision);
    free(token);
    steward_decision_free(&decision);
    return done;
}

static const struct resource {
    const char *path;
    enum MHD_Result (*get)(struct daemon *, struct MHD_Connection *);
    enum MHD_Result (*post)(struct daemon *, struct MHD_Connection *, struct attest_bytes);
} resources[] = {
    {"/v1/nonce", get_nonce, NULL}, {"/v1/certify", NULL, post_certify},     {"/v1/appraise", NULL, post_appraise},
    {"/v1/ca", get_ca, NULL},       {"/v1/openapi.yaml", get_openapi, NULL}, {"/healthz", get_health, NULL},
};

/* ---- Requests ---- */

struct upload {
    uint8_t *data;
    size_t size, capacity;
    bool too_large;
};

static bool take(struct daemon *d, struct upload *u, const char *data, size_t size) {
    if (size > d->settings->body - u->size) {
        u->too_large = true;
        return true; /* to its end, unread: the age of the connection bounds it */
    }
    if (u->size + size > u->capacity) {
        size_t wanted = (u->size + size) * 2;
        uint8_t *grown = realloc(u->data, wanted);
        if (!grown) return false;
        u->data = grown;
        u->capacity = wanted;
    }
    memcpy(u->data + u->size, data, size);
    u->size += size;
    return true;
}

static enum MHD_Result dispatch(struct daemon *d, struct MHD_Connection *c, const char *path, const char *method,
                                struct upload *u) {
    bool get = !strcmp(method, "GET") || !strcmp(method, "HEAD"), post = !strcmp(method, "POST");
    if (!within_rate(d, c)) return problem(c, MHD_HTTP_TOO_MANY_REQUESTS, "too many requests", NULL);
    for (size_t i = 0; i < sizeof resources / sizeof *resources; i++) {
        const struct resource *r = &resources[i];
        if (strcmp(r->path, path)) continue;
        if (get && r->get) return r->get(d, c);
        if (!post || !r->post) return problem(c, MHD_HTTP_METHOD_NOT_ALLOWED, "not for this resource", NULL);
        if (u->too_large) return problem(c, MHD_HTTP_CONTENT_TOO_LARGE, "the body is too large", NULL);
        return r->post(d, c, (struct attest_bytes){u->data, u->size});
    }
    return problem(c, MHD_HTTP_NOT_FOUND, "no such resource; see /v1/openapi.yaml", NULL);
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *c, const char *path, const char *method,
                                  const char *version, const char *data, size_t *size, void **own) {
    struct daemon *d = context;
    struct upload *u = *own;
    (void)version;
    if (!u) return (*own = calloc(1, sizeof *u)) ? MHD_YES : MHD_NO;
    if (*size) {
        bool ok = take(d, u, data, *size);
        *size = 0;
        return ok ? MHD_YES : MHD_NO;
    }
    return dispatch(d, c, path, method, u);
}

static void on_completed(void *context, struct MHD_Connection *c, void **own, enum MHD_RequestTerminationCode code) {
    struct upload *u = *own;
    (void)context, (void)c, (void)code;
    if (u) free(u->data);
    free(u);
    *own = NULL;
}

static void on_connection(void *context, struct MHD_Connection *c, void **own,
                          enum MHD_ConnectionNotificationCode code) {
    struct daemon *d = context;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        struct connection *n = calloc(1, sizeof *n);
        if ((*own = n)) {
            *n = (struct connection){c, monotonic_ms(), d->connections, NULL};
            if (n->next) n->next->prev = n;
            d->connections = n;
        }
        return;
    }
    struct connection *n = *own;
    if (!n) return;
    if (n->next) n->next->prev = n->prev;
    *(n->prev ? &n->prev->next : &d->connections) = n->next;
    free(n);
    *own = NULL;
}

static void end_old(struct daemon *d) {
    int64_t now = monotonic_ms();
    for (struct connection *n = d->connections; n; n = n->next) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(n->mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
        if (info && now - n->since > AGE_S * 1000) shutdown(info->connect_fd, SHUT_RDWR);
    }
}

/* ---- Listening ---- */

static bool listen_on(struct daemon *d, const char *where) {
    const char *colon = strrchr(where, ':');
    bool six = where[0] == '[';
    char address[64];
    struct sockaddr_in6 a6 = {.sin6_family = AF_INET6};
    struct sockaddr_in a4 = {.sin_family = AF_INET};
    struct sockaddr *a = six ? (struct sockaddr *)&a6 : (struct sockaddr *)&a4;
    socklen_t size = six ? sizeof a6 : sizeof a4;
    snprintf(address, sizeof address, "%.*s", (int)(colon - where) - 2 * six, where + six);
    a6.sin6_port = a4.sin_port = htons((uint16_t)atoi(colon + 1));
    if (inet_pton(six ? AF_INET6 : AF_INET, address, six ? (void *)&a6.sin6_addr : (void *)&a4.sin_addr) != 1)
        return false;
    int one = 1;
    d->listener = socket(a->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool ok = d->listener >= 0 && !setsockopt(d->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) &&
              !bind(d->listener, a, size) && !listen(d->listener, 256) && !getsockname(d->listener, a, &size);
    d->port = ntohs(six ? a6.sin6_port : a4.sin_port);
    return ok;
}

static char *key_pem(EVP_PKEY *key) {
    BIO *bio = BIO_new(BIO_s_secmem());
    char *data, *text = NULL;
    long size = bio && PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1
                    ? BIO_get_mem_data(bio, &data)
                    : 0;
    if (size > 0) text = strndup(data, (size_t)size);
    BIO_free(bio);
    return text;
}

static void forget_tls(struct daemon *d) {
    if (d->key) OPENSSL_cleanse(d->key, strlen(d->key));
    free(d->key);
    free(d->certificate);
    d->key = d->certificate = NULL;
}

/* The operator's certificate, or one of our own authority for a day. */
static bool prepare_tls(struct daemon *d) {
    const struct steward_settings *t = d->settings;
    forget_tls(d);
    if (t->tls_certificate) {
        size_t size;
        char *certificate = steward_settings_path(t, t->tls_certificate), *key = steward_settings_path(t, t->tls_key);
        bool ok = certificate && key && cli_read_file(certificate, 1 << 20, &d->certificate, &size) &&
                  cli_read_file(key, 1 << 20, &d->key, &size);
        if (!ok) cli_error(&verb_steward, "[tls]: %s or %s: %s", t->tls_certificate, t->tls_key, strerror(errno));
        free(certificate);
        free(key);
        return ok;
    }
    int64_t now = time(NULL);
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = key ? steward_issue_server(d->s, key, now, SERVER_LIFE_S) : NULL;
    d->certificate = x ? steward_pem(x, d->s->ca_chain) : NULL;
    d->key = key ? key_pem(key) : NULL;
    d->renew_at = now + SERVER_LIFE_S * 2 / 3;
    X509_free(x);
    EVP_PKEY_free(key);
    ERR_clear_error();
    if (d->certificate && d->key) return true;
    cli_error(&verb_steward, "cannot issue a certificate for [tls] names");
    return false;
}

static bool start(struct daemon *d) {
    const struct steward_settings *t = d->settings;
    if (t->tls && !prepare_tls(d)) return false;
    struct MHD_OptionItem tls[] = {
        {MHD_OPTION_HTTPS_MEM_CERT, 0, d->certificate},
        {MHD_OPTION_HTTPS_MEM_KEY, 0, d->key},
        {MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)"NORMAL:-VERS-ALL:+VERS-TLS1.3"},
        {MHD_OPTION_END, 0, NULL},
    };
    struct MHD_OptionItem none[] = {{MHD_OPTION_END, 0, NULL}};
    d->mhd = MHD_start_daemon(
        MHD_USE_EPOLL | (t->tls ? MHD_USE_TLS : 0), 0, NULL, NULL, on_request, d, MHD_OPTION_LISTEN_SOCKET, d->listener,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)t->connections, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
        (unsigned)t->connections_per_address, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_S,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HEADER_MAX, MHD_OPTION_NOTIFY_COMPLETED, on_completed, d,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, d, MHD_OPTION_ARRAY, t->tls ? tls : none, MHD_OPTION_END);
    if (!d->mhd) cli_error(&verb_steward, "the HTTP server does not start%s", t->tls ? " (certificate and key?)" : "");
    return d->mhd != NULL;
}

/* ---- The loop ---- */

static void reload(struct daemon *d) {
    char error[SETTINGS_ERROR];
    if (steward_reload(d->s, time(NULL), error))
        fputs("donjon steward: policies, collateral and what is denied read again\n", stderr);
    else
        cli_error(&verb_steward,
                  "not read again, the old ones stay (steward.toml itself is read at the start only): %s", error);
}

/* A new certificate means a new server on the same socket; answers under way are finished first. */
static bool renew(struct daemon *d) {
    MHD_quiesce_daemon(d->mhd);
    for (int64_t until = monotonic_ms() + DRAIN_S * 1000; d->connections && monotonic_ms() < until;)
        MHD_run_wait(d->mhd, 100);
    MHD_stop_daemon(d->mhd);
    return start(d);
}

/* One turn: false when it is time to go. */
static bool turn(struct daemon *d) {
    const union MHD_DaemonInfo *epoll = MHD_get_daemon_info(d->mhd, MHD_DAEMON_INFO_EPOLL_FD);
    struct pollfd fds[] = {{epoll->epoll_fd, POLLIN, 0}, {d->signals, POLLIN, 0}};
    unsigned MHD_LONG_LONG wanted;
    int wait =
        d->connections && MHD_get_timeout(d->mhd, &wanted) == MHD_YES && wanted < TICK_MS ? (int)wanted : TICK_MS;
    if (poll(fds, 2, d->connections ? wait : d->renew_at ? 60 * TICK_MS : -1) < 0 && errno != EINTR) return false;
    MHD_run(d->mhd);
    end_old(d);
    struct signalfd_siginfo signal;
    while (read(d->signals, &signal, sizeof signal) == sizeof signal) {
        if (signal.ssi_signo != SIGHUP) return false;
        reload(d);
    }
    return !d->renew_at || time(NULL) < d->renew_at || renew(d);
}

static int signals_open(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a limit on the audit log is an error of write, not the end */
    sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int steward_serve(struct steward *s, const struct steward_settings *settings) {
    static struct daemon d;
    d = (struct daemon){.s = s, .settings = settings, .listener = -1, .started = monotonic_ms()};
    d.signals = signals_open();
    if (d.signals < 0 || RAND_bytes(d.seed, sizeof d.seed) != 1)
        return cli_error(&verb_steward, "no signals or entropy");
    if (!listen_on(&d, settings->listen)) return cli_error(&verb_steward, "%s: %s", settings->listen, strerror(errno));
    if (!start(&d)) return CLI_FAILED;
    printf("listening on %s://%.*s:%u\n", settings->tls ? "https" : "http",
           (int)(strrchr(settings->listen, ':') - settings->listen), settings->listen, d.port);
    fflush(stdout);
    while (turn(&d))
        ;
    if (d.mhd) {
        MHD_quiesce_daemon(d.mhd);
        for (int64_t until = monotonic_ms() + DRAIN_S * 1000; d.connections && monotonic_ms() < until;)
            MHD_run_wait(d.mhd, 100);
        MHD_stop_daemon(d.mhd);
    }
    close(d.listener);
    close(d.signals);
    forget_tls(&d);
    return d.mhd ? CLI_YES : CLI_FAILED;
}
