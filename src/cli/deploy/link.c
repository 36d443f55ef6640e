#define _GNU_SOURCE
#include "link.h"

#include "../cli.h"
#include "agent/fingerprint.h"
#include "agent/request.h"
#include "agent/sockets.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

enum {
    CONNECT_MS = 10000,
    REPLY_MS = 90000, /* a keep is built meanwhile */
    REPLY_MAX = 16 << 20,
    STASH_MAX = 16 << 20,
};

static bool fail(struct link *l, const char *what, const char *why) {
    snprintf(l->error, sizeof l->error, "%s%s%s", what, why ? ": " : "", why ? why : "");
    return false;
}

/* ---- target ---- */

bool target_set(struct target *t, const char *host, char *error, size_t size) {
    if (address_split(host, t->host, sizeof t->host, t->port, sizeof t->port) && *t->host) return true;
    snprintf(error, size, "%s: expected HOST[:PORT]", host);
    return false;
}

bool target_set_key(struct target *t, const char *key, char *error, size_t size) {
    if (!strncmp(key, "sha256:", 7)) key += 7;
    free(t->key);
    t->key = strdup(key);
    bool ok = t->key && strlen(key) == 64 && strspn(key, "0123456789abcdefABCDEF") == 64;
    for (char *p = t->key; ok && *p; p++)
        *p = (char)tolower(*p);
    if (!ok) snprintf(error, size, "expected the agent's key as 64 hexadecimal digits");
    return ok;
}

void target_free(struct target *t) {
    free(t->key);
    free(t->ca);
    free(t->token_file);
    *t = (struct target){0};
}

/* ---- TCP ---- */

static bool wait_for(int fd, short events, int ms) {
    struct pollfd p = {fd, events, 0};
    int n;
    do
        n = poll(&p, 1, ms);
    while (n < 0 && errno == EINTR);
    if (n == 0) errno = ETIMEDOUT;
    return n > 0;
}

static int connect_to(const struct addrinfo *a) {
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), why = 0, on = 1;
    socklen_t n = sizeof why;
    if (fd < 0) return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    if (connect(fd, a->ai_addr, a->ai_addrlen) == 0) return fd;
    if (errno == EINPROGRESS && wait_for(fd, POLLOUT, CONNECT_MS) &&
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &n) == 0 && !why)
        return fd;
    if (!why) why = errno;
    close(fd);
    errno = why;
    return -1;
}

static bool connect_any(struct link *l, const struct target *t) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;
    char where[300];
    snprintf(where, sizeof where, "cannot connect to %s port %s", t->host, t->port);
    int why = getaddrinfo(t->host, t->port, &hints, &list);
    if (why) return fail(l, where, gai_strerror(why));
    for (const struct addrinfo *a = list; a && l->fd < 0; a = a->ai_next)
        l->fd = connect_to(a);
    int last = errno;
    freeaddrinfo(list);
    if (l->fd < 0)
        return fail(l, where,
                    last == ECONNREFUSED ? "Connection refused; does `donjon agent` run there, on this port?"
                                         : strerror(last));
    struct sockaddr_storage peer;
    socklen_t n = sizeof peer;
    l->loopback = getpeername(l->fd, (struct sockaddr *)&peer, &n) == 0 && address_is_loopback(&peer);
    return true;
}

/* ---- TLS ---- */

/* Whether the call is to be made again, after waiting. */
static bool again(struct link *l, int result, int ms) {
    int why = SSL_get_error(l->ssl, result);
    if (why == SSL_ERROR_WANT_READ) return wait_for(l->fd, POLLIN, ms);
    if (why == SSL_ERROR_WANT_WRITE) return wait_for(l->fd, POLLOUT, ms);
    return false;
}

static const char *tls_reason(struct link *l) {
    long verified = SSL_get_verify_result(l->ssl);
    if (verified != X509_V_OK) return X509_verify_cert_error_string(verified);
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    return reason ? reason : "the connection was closed; is it a Donjon agent?";
}

static bool ask_name(struct link *l, const struct target *t) {
    X509_VERIFY_PARAM *p = SSL_get0_param(l->ssl);
    if (X509_VERIFY_PARAM_set1_ip_asc(p, t->host) == 1) return true;
    ERR_clear_error();
    return X509_VERIFY_PARAM_set1_host(p, t->host, 0) == 1 && SSL_set_tlsext_host_name(l->ssl, t->host) == 1;
}

static bool start_tls(struct link *l, const struct target *t) {
    l->ctx = SSL_CTX_new(TLS_client_method());
    if (!l->ctx || !SSL_CTX_set_min_proto_version(l->ctx, TLS1_3_VERSION)) return fail(l, "out of memory", NULL);
    SSL_CTX_set_mode(l->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (t->ca && SSL_CTX_load_verify_file(l->ctx, t->ca) != 1) return fail(l, t->ca, "holds no certificates");
    SSL_CTX_set_verify(l->ctx, t->ca ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    l->ssl = SSL_new(l->ctx);
    if (!l->ssl || SSL_set_fd(l->ssl, l->fd) != 1 || (t->ca && !ask_name(l, t))) return fail(l, "out of memory", NULL);
    int n;
    while ((n = SSL_connect(l->ssl)) != 1)
        if (!again(l, n, CONNECT_MS)) return fail(l, "no TLS 1.3 connection to the agent", tls_reason(l));
    return fingerprint_of(SSL_get0_peer_certificate(l->ssl), l->key) || fail(l, "the agent has no certificate", NULL);
}

/* Who the agent is matters for the token, and for whom to blame: never without a key or CA, except on this machine. */
static bool check_agent(struct link *l, const struct target *t) {
    char text[300];
    if (t->key && strcmp(t->key, l->key) != 0) {
        snprintf(
            text, sizeof text,
            "expected %.64s, found %s. It may be somebody else's, and got no token; if the host has a new one, its "
            "operator can tell",
            t->key, l->key);
        return fail(l, "the agent's key is another", text);
    }
    if (t->key || t->ca || l->loopback) return true;
    snprintf(text, sizeof text,
             "nothing says that this is the agent you mean; if its operator says that its key is %s, give that with "
             "--agent-key; or --agent-ca",
             l->key);
    return fail(l, t->host, text);
}

bool link_open(struct link *l, const struct target *t) {
    *l = (struct link){.fd = -1};
    signal(SIGPIPE, SIG_IGN); /* from here on: an agent that goes away is an error like others, not our end */
    return connect_any(l, t) && start_tls(l, t) && check_agent(l, t);
}

void link_close(struct link *l) {
    if (l->ssl) SSL_shutdown(l->ssl);
    SSL_free(l->ssl);
    SSL_CTX_free(l->ctx);
    if (l->fd >= 0) close(l->fd);
    free(l->stash);
    l->ssl = NULL;
    l->ctx = NULL;
    l->stash = NULL;
    l->fd = -1;
}

/* ---- bytes ---- */

/* Without waiting: as link_take. */
static ssize_t read_now(struct link *l, void *bytes, size_t most) {
    size_t n;
    int result = SSL_read_ex(l->ssl, bytes, most, &n);
    if (result == 1) return (ssize_t)n;
    int why = SSL_get_error(l->ssl, result);
    ERR_clear_error();
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) return -2;
    return why == SSL_ERROR_ZERO_RETURN ? 0 : -1;
}

/* What comes while we are sending is set aside: two ends that both only send would wait for ever. */
static bool set_aside(struct link *l) {
    if (l->stash_end == l->stash_room) {
        size_t room = l->stash_room ? l->stash_room * 2 : 65536;
        unsigned char *grown = room <= STASH_MAX ? realloc(l->stash, room) : NULL;
        if (!grown) return false;
        l->stash = grown;
        l->stash_room = room;
    }
    ssize_t n = read_now(l, l->stash + l->stash_end, l->stash_room - l->stash_end);
    if (n > 0) l->stash_end += (size_t)n;
    return n > 0 || n == -2;
}

static bool send_all(struct link *l, const void *bytes, size_t size) {
    const unsigned char *at = bytes;
    while (size > 0) {
        size_t n;
        int result = SSL_write_ex(l->ssl, at, size, &n);
        if (result == 1) {
            at += n;
            size -= n;
            continue;
        }
        int why = SSL_get_error(l->ssl, result);
        ERR_clear_error();
        if (why != SSL_ERROR_WANT_WRITE && why != SSL_ERROR_WANT_READ) return false;
        struct pollfd p = {l->fd, POLLIN | (why == SSL_ERROR_WANT_WRITE ? POLLOUT : 0), 0};
        if (poll(&p, 1, -1) < 0 && errno != EINTR) return false;
        if ((p.revents & POLLIN) && !set_aside(l)) return false;
        if (p.revents & (POLLERR | POLLNVAL)) return false;
    }
    return true;
}

bool link_pending(const struct link *l) {
    return l->stash_at < l->stash_end || (l->ssl && SSL_has_pending(l->ssl));
}

ssize_t link_take(struct link *l, void *bytes, size_t most) {
    size_t n = l->stash_end - l->stash_at;
    if (!n) return read_now(l, bytes, most);
    if (n > most) n = most;
    memcpy(bytes, l->stash + l->stash_at, n);
    l->stash_at += n;
    if (l->stash_at == l->stash_end) l->stash_at = l->stash_end = 0;
    return (ssize_t)n;
}

static ssize_t receive(struct link *l, void *bytes, size_t most, int ms) {
    for (;;) {
        ssize_t n = link_take(l, bytes, most);
        if (n != -2) return n;
        if (!wait_for(l->fd, POLLIN, ms)) return -1;
    }
}

static bool io_send(void *ctx, const void *bytes, size_t n) {
    return send_all(ctx, bytes, n);
}
static ssize_t io_recv(void *ctx, void *bytes, size_t most) {
    return receive(ctx, bytes, most, -1);
}

struct channel_io link_io(struct link *l) {
    return (struct channel_io){.ctx = l, .send = io_send, .recv = io_recv};
}

/* ---- requests ---- */

/* The token's file: its first line. */
static bool read_token(struct link *l, const char *path, char token[TOKEN_MAX + 1]) {
    char *bytes;
    size_t size;
    if (!cli_read_file(path, 4096, &bytes, &size)) {
        snprintf(l->error, sizeof l->error, "--token-file %s: %s", path, strerror(errno));
        return false;
    }
    size_t n = strcspn(bytes, "\r\n");
    bool ok = n >= TOKEN_MIN && n <= TOKEN_MAX;
    if (ok) {
        memcpy(token, bytes, n);
        token[n] = 0;
    }
    OPENSSL_cleanse(bytes, size);
    free(bytes);
    return ok || fail(l, path, "expected a token of 16 to 256 characters");
}

static bool send_request(struct link *l, const struct target *t, json_t *request) {
    char token[TOKEN_MAX + 1];
    json_object_set_new(request, "v", json_integer(REQUEST_VERSION));
    if (t->token_file) {
        if (!read_token(l, t->token_file, token)) return false;
        json_object_set_new(request, "token", json_string(token));
        OPENSSL_cleanse(token, sizeof token);
    }
    char *line = json_dumps(request, JSON_COMPACT);
    if (!line) return fail(l, "the request", "a name or token is not UTF-8");
    size_t n = strlen(line);
    line[n] = '\n'; /* over its NUL */
    bool ok = send_all(l, line, n + 1);
    OPENSSL_cleanse(line, n + 1);
    free(line);
    return ok || fail(l, "the agent closed the connection", NULL);
}

static json_t *read_reply(struct link *l) {
    size_t used = 0, room = 4096;
    char *text = malloc(room), *end = NULL;
    while (text && !end) {
        if (used == room) {
            char *grown = room < REPLY_MAX ? realloc(text, room *= 4) : NULL;
            if (!grown) break;
            text = grown;
        }
        ssize_t n = receive(l, text + used, room - used, REPLY_MS);
        if (n <= 0) break;
        end = memchr(text + used, '\n', (size_t)n);
        used += (size_t)n;
    }
    json_t *reply = end && end + 1 == text + used ? json_loadb(text, (size_t)(end - text), 0, NULL) : NULL;
    free(text);
    if (!json_is_object(reply)) {
        json_decref(reply);
        fail(l, "the agent's answer", "expected a line of JSON, found something else or nothing");
        return NULL;
    }
    return reply;
}

json_t *link_ask(struct link *l, const struct target *t, json_t *request) {
    bool sent = send_request(l, t, request);
    json_t *token = json_object_get(request, "token");
    if (json_is_string(token)) OPENSSL_cleanse((char *)json_string_value(token), json_string_length(token));
    json_decref(request);
    json_t *reply = sent ? read_reply(l) : NULL;
    if (!reply || json_is_true(json_object_get(reply, "ok"))) return reply;
    char error[300] = "no reason given", hint[200] = "";
    const char *e = json_string_value(json_object_get(reply, "error")),
               *h = json_string_value(json_object_get(reply, "hint"));
    if (e) cli_printable(e, error, sizeof error, false);
    if (h) cli_printable(h, hint, sizeof hint, false);
    snprintf(l->error, sizeof l->error, "the agent refuses: %s%s%s%s", error, *hint ? " (" : "", hint,
             *hint ? ")" : "");
    json_decref(reply);
    return NULL;
}

json_t *link_ask_once(const struct target *t, json_t *request, char *error, size_t size) {
    struct link l;
    struct sigaction pipe;
    json_t *reply = NULL;
    sigaction(SIGPIPE, NULL, &pipe); /* of another link, that may be open */
    if (link_open(&l, t))
        reply = link_ask(&l, t, request);
    else
        json_decref(request);
    if (!reply) snprintf(error, size, "%s", l.error);
    link_close(&l);
    sigaction(SIGPIPE, &pipe, NULL);
    return reply;
}
