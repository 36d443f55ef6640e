/* A web server for many connections at once, on one thread: HTTP/1.1 with keep-alive on a socket that the configuration
 * hands in as "web" (see web.toml). With prot = "tls" it is an HTTPS server, and nothing of it is in this file.
 *
 *     web [BYTES [REQUESTS]]     pages of that size; stops after so many (0: never)
 *
 * GET /echo?TEXT answers with TEXT, GET /evidence with this keep's evidence, if there is any. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECTIONS = 1023, REQUEST = 2048, HEAD = 256 };

struct connection {
    char request[REQUEST];
    size_t got;
    char *reply; /* NULL: nothing to send */
    size_t size, sent;
    bool last; /* close after this reply */
};

static struct pollfd polls[1 + CONNECTIONS];
static struct connection *connections[1 + CONNECTIONS];
static nfds_t used = 1;
static long served, wanted;
static char *page;
static size_t page_size = 64;

/* The descriptor named `name`: descriptors are numbered in the order of the colon-separated FD_NAMES. */
static int named_descriptor(const char *name) {
    const char *names = getenv("FD_NAMES");
    size_t len = strlen(name);
    for (int fd = 0; names; fd++) {
        const char *end = strchr(names, ':');
        size_t n = end ? (size_t)(end - names) : strlen(names);
        if (n == len && !memcmp(names, name, n)) return fd;
        names = end ? end + 1 : NULL;
    }
    return -1;
}

static void drop(nfds_t i) {
    close(polls[i].fd);
    free(connections[i]->reply);
    free(connections[i]);
    used--;
    polls[i] = polls[used];
    connections[i] = connections[used];
}

static bool set_reply(struct connection *c, const char *status, const void *body, size_t size) {
    char *reply = malloc(HEAD + size);
    if (!reply) return false;
    int n = snprintf(reply, HEAD, "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n%s\r\n", status,
                     size, c->last ? "Connection: close\r\n" : "");
    memcpy(reply + n, body, size);
    c->reply = reply;
    c->size = (size_t)n + size;
    c->sent = 0;
    return true;
}

static bool send_file(struct connection *c, const char *path) {
    static char bytes[256 * 1024];
    FILE *f = fopen(path, "rb");
    if (!f) return set_reply(c, "404 Not Found", "", 0);
    size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    return set_reply(c, "200 OK", bytes, n);
}

static bool answer(struct connection *c) {
    char *path = c->request + 4, *end = strchr(path, ' ');
    c->last = strstr(c->request, "HTTP/1.0\r\n") || strstr(c->request, "Connection: close") ||
              (wanted && served + 1 >= wanted);
    if (strncmp(c->request, "GET ", 4) || !end) {
        c->last = true;
        return set_reply(c, "400 Bad Request", "", 0);
    }
    *end = 0;
    served++;
    if (!strncmp(path, "/echo?", 6)) return set_reply(c, "200 OK", path + 6, strlen(path + 6));
    if (!strcmp(path, "/evidence")) return send_file(c, "/run/donjon/evidence");
    if (!strcmp(path, "/identity")) return send_file(c, "/run/donjon/identity.pem");
    return set_reply(c, "200 OK", page, page_size);
}

/* Each gives false when the connection is over. */
static bool send_some(struct connection *c, struct pollfd *p) {
    while (c->reply && c->sent < c->size) {
        ssize_t n = write(p->fd, c->reply + c->sent, c->size - c->sent);
        if (n < 0) return errno == EAGAIN;
        c->sent += (size_t)n;
    }
    free(c->reply);
    c->reply = NULL;
    if (c->last) shutdown(p->fd, SHUT_WR);
    return !c->last;
}

/* The requests that have come so far, one after the other. */
static bool work(struct connection *c, struct pollfd *p) {
    char *end;
    while (!c->reply && (end = strstr(c->request, "\r\n\r\n"))) {
        size_t size = (size_t)(end + 4 - c->request);
        end[2] = 0;
        if (!answer(c)) return false;
        memmove(c->request, c->request + size, c->got - size + 1);
        c->got -= size;
        if (!send_some(c, p)) return false;
    }
    p->events = c->reply ? POLLOUT : POLLIN;
    return c->reply || c->got < REQUEST - 1;
}

static bool receive(struct connection *c, struct pollfd *p) {
    ssize_t n = read(p->fd, c->request + c->got, REQUEST - 1 - c->got);
    if (n < 0) return errno == EAGAIN;
    c->got += (size_t)n;
    c->request[c->got] = 0;
    return n > 0 && work(c, p);
}

static void serve(nfds_t i) {
    struct connection *c = connections[i];
    bool open = c->reply ? send_some(c, &polls[i]) && work(c, &polls[i]) : receive(c, &polls[i]);
    if (!open) drop(i);
}

static void take_connections(int listener) {
    while (used <= CONNECTIONS) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) return;
        fcntl(fd, F_SETFL, O_NONBLOCK);
        connections[used] = calloc(1, sizeof *connections[used]);
        if (!connections[used]) {
            close(fd);
            return;
        }
        polls[used++] = (struct pollfd){.fd = fd, .events = POLLIN};
    }
}

int main(int argc, char **argv) {
    int listener = named_descriptor("web");
    if (argc > 1) page_size = (size_t)atol(argv[1]);
    if (argc > 2) wanted = atol(argv[2]);
    page = malloc(page_size + 1);
    if (listener < 0 || !page) {
        fprintf(stderr, "web: no descriptor named \"web\" in FD_NAMES, or no memory\n");
        return 1;
    }
    for (size_t i = 0; i < page_size; i++)
        page[i] = (char)(i % 64 == 63 ? '\n' : 'a' + i % 26);
    fcntl(listener, F_SETFL, O_NONBLOCK);
    while (!wanted || served < wanted || used > 1) {
        bool full = used > CONNECTIONS;
        polls[0] = (struct pollfd){.fd = listener, .events = POLLIN};
        if (poll(polls + full, used - full, -1) < 0) {
            fprintf(stderr, "web: poll: %s\n", strerror(errno));
            return 1;
        }
        bool more = !full && polls[0].revents;
        for (nfds_t i = used; i-- > 1;) /* from the end: drop() moves the last one into the gap */
            if (polls[i].revents) serve(i);
        if (more) take_connections(listener);
    }
    return 0;
}
