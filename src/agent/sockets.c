#include "sockets.h"

#include "settings.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 1024, FIRST_INHERITED = 3 /* sd_listen_fds(3), SD_LISTEN_FDS_START */ };

bool address_split(const char *text, char *host, size_t host_size, char *port, size_t port_size) {
    const char *end = text, *after;
    if (*text == '[') {
        end = strchr(++text, ']');
        if (!end) return false;
        after = end + 1;
    } else {
        end = after = strchrnul(text, ':');
        if (strchr(after + (*after == ':'), ':')) end = after = text + strlen(text); /* a bare IPv6 address */
    }
    if (*after && *after != ':') return false;
    if ((size_t)(end - text) >= host_size) return false;
    snprintf(host, host_size, "%.*s", (int)(end - text), text);
    const char *digits = *after ? after + 1 : "";
    if (*after &&
        (!*digits || strlen(digits) > 5 || strspn(digits, "0123456789") != strlen(digits) || atoi(digits) > UINT16_MAX))
        return false;
    if (*digits)
        snprintf(port, port_size, "%s", digits);
    else
        snprintf(port, port_size, "%d", AGENT_PORT);
    return true;
}

static int listen_on(const struct addrinfo *a) {
    int on = 1, fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (a->ai_family == AF_INET6) {
        int only = !IN6_IS_ADDR_UNSPECIFIED(&((struct sockaddr_in6 *)a->ai_addr)->sin6_addr);
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only); /* "[::]" is both families */
    }
    if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0) return fd;
    int why = errno;
    close(fd);
    errno = why;
    return -1;
}

unsigned sockets_listen(const char *address, int *fds, unsigned most, char *error, size_t size) {
    char host[ADDRESS_MAX + 1], port[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *list;
    if (!address_split(address, host, sizeof host, port, sizeof port)) {
        snprintf(error, size, "%s: expected ADDRESS[:PORT]", address);
        return 0;
    }
    int why = getaddrinfo(*host ? host : NULL, port, &hints, &list);
    if (why) {
        snprintf(error, size, "%s: %s", address, gai_strerror(why));
        return 0;
    }
    unsigned n = 0;
    for (const struct addrinfo *a = list; a && n < most; a = a->ai_next) {
        int fd = listen_on(a);
        if (fd >= 0)
            fds[n++] = fd;
        else if (n == 0)
            snprintf(error, size, "%s: %s", address, strerror(errno));
    }
    freeaddrinfo(list);
    return n;
}

static bool is_tcp_listener(int fd) {
    int yes = 0, type = 0, family = 0;
    socklen_t n = sizeof yes, m = sizeof type, k = sizeof family;
    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &yes, &n) == 0 && yes &&
           getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &m) == 0 && type == SOCK_STREAM &&
           getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &k) == 0 && (family == AF_INET || family == AF_INET6);
}

int sockets_inherited(int *fds, unsigned most) {
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
    bool ours = pid && count && atol(pid) == (long)getpid();
    int n = ours ? atoi(count) : 0;
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    if (n < 0 || n > (int)most) return -1;
    for (int i = 0; i < n; i++) {
        int fd = FIRST_INHERITED + i;
        if (!is_tcp_listener(fd) || fcntl(fd, F_SETFD, FD_CLOEXEC) || fcntl(fd, F_SETFL, O_NONBLOCK)) return -1;
        fds[i] = fd;
    }
    return n;
}

void sockets_notify(const char *state) {
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    if (!path || strlen(path) >= sizeof to.sun_path || (*path != '/' && *path != '@')) return;
    memcpy(to.sun_path, path, strlen(path));
    if (*path == '@') to.sun_path[0] = 0;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return;
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    (void)!sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&to, size);
    close(fd);
}

bool address_is_loopback(const struct sockaddr_storage *a) {
    if (a->ss_family == AF_INET) return ntohl(((const struct sockaddr_in *)a)->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    if (a->ss_family != AF_INET6) return false;
    const struct in6_addr *six = &((const struct sockaddr_in6 *)a)->sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(six) || (IN6_IS_ADDR_V4MAPPED(six) && six->s6_addr[12] == IN_LOOPBACKNET);
}

void address_text(const struct sockaddr_storage *a, char *out, size_t size) {
    char host[NI_MAXHOST], port[NI_MAXSERV];
    if (getnameinfo((const struct sockaddr *)a, sizeof *a, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV))
        snprintf(out, size, "unknown");
    else
        snprintf(out, size, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}

uint16_t socket_port(int fd) {
    struct sockaddr_storage a;
    socklen_t n = sizeof a;
    if (getsockname(fd, (struct sockaddr *)&a, &n)) return 0;
    return ntohs(a.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&a)->sin6_port
                                         : ((struct sockaddr_in *)&a)->sin_port);
}
