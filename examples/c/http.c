/* A web server on a socket that the configuration hands in (see http.toml): it finds the descriptor by its name in
 * FD_NAMES, answers each connection with one page and stops after the number of requests named in its argument. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

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

static void answer(int conn, int served) {
    char request[2048], page[256], reply[512];
    size_t got = 0;
    while (got < sizeof request - 1) {
        ssize_t n = read(conn, request + got, sizeof request - 1 - got);
        if (n <= 0) break;
        got += (size_t)n;
        request[got] = 0;
        if (strstr(request, "\r\n\r\n")) break;
    }
    int len = snprintf(page, sizeof page, "Hello from a keep: request %d\n", served);
    len = snprintf(reply, sizeof reply,
                   "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
                   len, page);
    for (int at = 0; at < len;) {
        ssize_t n = write(conn, reply + at, (size_t)(len - at));
        if (n <= 0) break;
        at += (int)n;
    }
}

int main(int argc, char **argv) {
    int requests = argc > 1 ? atoi(argv[1]) : 1;
    int listener = named_descriptor("http");
    if (listener < 0) {
        fprintf(stderr, "http: no descriptor named \"http\" in FD_NAMES\n");
        return 1;
    }
    for (int served = 1; served <= requests; served++) {
        int conn = accept(listener, NULL, NULL);
        if (conn < 0) {
            fprintf(stderr, "http: accept: %s\n", strerror(errno));
            return 1;
        }
        answer(conn, served);
        shutdown(conn, SHUT_WR);
        close(conn);
    }
    return 0;
}
