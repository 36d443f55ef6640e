/* Sockets of the configuration: opened before the keep starts, given to it connected or listening. */
#define _GNU_SOURCE
#include "serve.h"
#include "attention.h"
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LISTEN_BACKLOG = 1024, PORT_TRIES = 64 };
#define CONNECT_NS UINT64_C(30000000000)

/* Why the last address did not do. */
struct attempt {
    const char *step;
    int error;
};

static int try_listen(const struct addrinfo *a, struct attempt *t) {
    int one = 1, zero = 0;
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    *t = (struct attempt){"socket", errno};
    if (fd < 0) return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (a->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero); /* "::": both families */
    t->step = "listen";
    if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, LISTEN_BACKLOG) == 0) return fd;
    t->error = errno;
    close(fd);
    return -1;
}

/* The keep waits for the answer, and may be ended meanwhile. */
static bool finish_connecting(struct server *s, int fd) {
    int error = 0;
    socklen_t size = sizeof error;
    if (errno != EINPROGRESS) return false;
    if (wait_ready(s, fd, POLLOUT, CONNECT_NS) != GATE_OK)
        error = ETIMEDOUT;
    else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
        error = errno;
    errno = error;
    return error == 0;
}

static int try_connect(struct server *s, const struct addrinfo *a, struct attempt *t) {
    int one = 1;
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | (s ? SOCK_NONBLOCK : 0), 0);
    *t = (struct attempt){"socket", errno};
    if (fd < 0) return -1;
    t->step = "connect";
    if (connect(fd, a->ai_addr, a->ai_addrlen) == 0 || (s && finish_connecting(s, fd))) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        return fd;
    }
    t->error = errno;
    close(fd);
    return -1;
}

/* A machine without IPv6 listens on all of IPv4 when asked for "::". */
static int listen_any_ipv4(uint16_t port, struct attempt *t) {
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct addrinfo a = {.ai_family = AF_INET, .ai_addr = (struct sockaddr *)&any, .ai_addrlen = sizeof any};
    return try_listen(&a, t);
}

int sockets_open(const struct config_file *f, struct server *s, char *error, size_t size) {
    bool listening = f->kind == CONFIG_LISTEN;
    const char *node = listening ? f->addr : f->host;
    char port[8];
    snprintf(port, sizeof port, "%u", f->port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | (listening ? AI_PASSIVE : 0)};
    struct addrinfo *list = NULL;
    int rc = getaddrinfo(node[0] ? node : NULL, port, &hints, &list);
    if (rc != 0) {
        errno = 0;
        snprintf(error, size, "file \"%s\": cannot find address %s: %s", f->name, node, gai_strerror(rc));
        return -1;
    }
    int fd = -1;
    struct attempt t = {"find an address for", 0};
    for (const struct addrinfo *a = list; a && fd < 0; a = a->ai_next)
        if (listening)
            fd = try_listen(a, &t);
        else if (!s || reach_may_connect(&s->reach, a->ai_addr))
            fd = try_connect(s, a, &t);
        else
            t = (struct attempt){"connect", EACCES};
    if (fd < 0 && listening && strcmp(node, "::") == 0 && t.error == EAFNOSUPPORT) fd = listen_any_ipv4(f->port, &t);
    freeaddrinfo(list);
    if (fd < 0)
        snprintf(error, size, "file \"%s\": cannot %s %s %s port %u: %s", f->name, t.step, listening ? "on" : "to",
                 node, f->port, strerror(t.error));
    errno = t.error;
    return fd;
}

/* A port that the host lets keeps have, where the keep does not care which. */
static int open_some_port(struct config_file *f, struct server *s, char *error, size_t size) {
    const struct reach *reach = &s->reach;
    unsigned n = reach->listen_most - reach->listen_least + 1u, first;
    if (n == UINT16_MAX) return sockets_open(f, s, error, size); /* any at all: the kernel chooses */
    if (getrandom(&first, sizeof first, 0) != sizeof first) first = 0;
    for (unsigned i = 0; i < n && i < PORT_TRIES; i++) {
        f->port = (uint16_t)(reach->listen_least + (first % n + i) % n);
        int fd = sockets_open(f, s, error, size);
        if (fd >= 0 || errno != EADDRINUSE) return fd;
    }
    return -1;
}

static int open_within_reach(struct server *s, struct config_file *f, char *error, size_t size) {
    bool listening = f->kind == CONFIG_LISTEN;
    if (listening && !reach_may_listen(&s->reach, f->port)) {
        snprintf(error, size, "port %u is not one that this host's keeps may listen on", f->port);
        errno = EACCES;
        return -1;
    }
    return listening && f->port == 0 ? open_some_port(f, s, error, size) : sockets_open(f, s, error, size);
}

uint32_t sockets_open_deployed(struct server *s, const struct gate_request *q, struct gate_reply *r,
                               const uint8_t *data) {
    struct handle *new = server_free_handle(s, q->args[0]);
    char host[GATE_MAX_HOST + 1], error[512];
    memcpy(host, data, q->len);
    host[q->len] = 0;
    if (!new || strlen(host) != q->len) return GATE_EINVAL;
    bool listening = q->op == GATE_LISTEN;
    struct config_file f = {.kind = listening ? CONFIG_LISTEN : CONFIG_CONNECT,
                            .port = (uint16_t)q->args[1],
                            .name = "deployed",
                            .addr = listening ? host : "",
                            .host = listening ? "" : host};
    int fd = open_within_reach(s, &f, error, sizeof error);
    if (fd < 0) {
        if (s->debug) dprintf(STDERR_FILENO, "loader: %s\n", error);
        return errno ? gate_error_from_errno(errno) : (uint32_t)GATE_ENOENT;
    }
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } name = {.any.sa_family = AF_UNSPEC};
    socklen_t size = sizeof name;
    if (listening && getsockname(fd, &name.any, &size) == 0)
        r->values[0] = ntohs(name.any.sa_family == AF_INET6 ? name.v6.sin6_port : name.v4.sin_port);
    *new = (struct handle){.fd = fd, .kind = listening ? HANDLE_LISTENER : HANDLE_SOCKET, .owned = true};
    return GATE_OK;
}

static uint32_t socket_accept(struct server *s, const struct gate_request *q) {
    struct handle *h = server_handle(s, q->handle, HANDLE_LISTENER), *new = server_free_handle(s, q->args[0]);
    if (!h) return GATE_EBADF;
    if (!new) return GATE_EINVAL;
    for (;;) {
        uint32_t error = wait_ready(s, h->fd, POLLIN, q->args[1]);
        if (error != GATE_OK) return error;
        int fd = accept4(h->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0) {
            int one = 1;
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            *new = (struct handle){.fd = fd, .kind = HANDLE_SOCKET, .owned = true, .channel = h->channel};
            if (h->channel) {
                attention_add(s->attention, fd);
                s->tenants++;
                server_tell(s, KEEP_PHASE_WAITING);
            }
            return GATE_OK;
        }
        if (errno != EAGAIN && errno != ECONNABORTED) return gate_error_from_errno(errno); /* it hung up meanwhile */
        if (q->args[1] == 0) return GATE_EAGAIN;
    }
}

static uint32_t socket_receive(struct server *s, const struct gate_request *q, struct gate_reply *r, uint8_t *data,
                               uint64_t timeout, uint64_t flags) {
    struct handle *h = server_handle(s, q->handle, HANDLE_SOCKET);
    if (!h) return GATE_EBADF;
    bool all = (flags & GATE_RECV_WAITALL) && !(flags & GATE_RECV_PEEK);
    uint32_t done = 0;
    do {
        ssize_t n = recv(h->fd, data + done, q->room - done, MSG_DONTWAIT | (flags & GATE_RECV_PEEK ? MSG_PEEK : 0));
        if (n == 0) break;
        if (n > 0) {
            done += (uint32_t)n;
            continue;
        }
        uint32_t error = errno == EAGAIN ? wait_ready(s, h->fd, POLLIN, timeout) : gate_error_from_errno(errno);
        if (error == GATE_OK) continue;
        if (done > 0) break;
        return error;
    } while (done == 0 || (all && done < q->room));
    r->len = done;
    return GATE_OK;
}

static uint32_t socket_send(struct server *s, const struct gate_request *q, struct gate_reply *r, const uint8_t *data) {
    struct handle *h = server_handle(s, q->handle, HANDLE_SOCKET);
    if (!h) return GATE_EBADF;
    for (;;) {
        ssize_t n = send(h->fd, data, q->len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n >= 0) {
            r->values[0] = (uint64_t)n;
            return GATE_OK;
        }
        if (errno != EAGAIN) return gate_error_from_errno(errno);
        uint32_t error = wait_ready(s, h->fd, POLLOUT, q->args[0]);
        if (error != GATE_OK) return error;
    }
}

static uint32_t send_many(struct server *s, const struct gate_request *q, struct gate_reply *r, uint8_t *data) {
    struct gate_send entries[GATE_MAX_SENDS];
    size_t n = (size_t)q->args[0], at = n * sizeof entries[0], total = at;
    memcpy(entries, data, n * sizeof entries[0]);
    __asm__ volatile("" : "+m"(entries)); /* one copy */
    for (size_t i = 0; i < n; i++)
        total += entries[i].len;
    if (total != q->len) return GATE_EINVAL;
    for (size_t i = 0; i < n; at += entries[i++].len) {
        struct handle *h = server_handle(s, entries[i].handle, HANDLE_SOCKET);
        ssize_t sent = h ? send(h->fd, data + at, entries[i].len, MSG_DONTWAIT | MSG_NOSIGNAL) : -1;
        entries[i].taken = sent > 0 ? (uint32_t)sent : 0;
        entries[i].error = sent >= 0 ? (uint32_t)GATE_OK : h ? gate_error_from_errno(errno) : (uint32_t)GATE_EBADF;
    }
    memcpy(data, entries, n * sizeof entries[0]);
    r->len = q->room;
    return GATE_OK;
}

static uint32_t socket_shutdown(struct server *s, const struct gate_request *q) {
    static const int how[] = {[GATE_SHUT_RD] = SHUT_RD, [GATE_SHUT_WR] = SHUT_WR, [GATE_SHUT_ALL] = SHUT_RDWR};
    struct handle *h = server_handle(s, q->handle, HANDLE_SOCKET);
    if (!h) return GATE_EBADF;
    return shutdown(h->fd, how[q->args[0]]) == 0 ? (uint32_t)GATE_OK : gate_error_from_errno(errno);
}

uint32_t sockets_operation(struct server *s, const struct gate_request *q, struct gate_reply *r, uint8_t *data) {
    switch (q->op) {
    case GATE_ACCEPT: return socket_accept(s, q);
    case GATE_RECV: return socket_receive(s, q, r, data, q->args[0], q->args[1]);
    case GATE_SEND: return socket_send(s, q, r, data);
    case GATE_SEND_MANY: return send_many(s, q, r, data);
    default: return socket_shutdown(s, q);
    }
}
