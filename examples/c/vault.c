/* An HTTPS service with a secret: GET /open?CODE answers whether CODE is the one that its owner gave it at deployment
 * (vault.toml: [[secrets]]). TLS ends in the keep; the secret is nowhere else. Never says the code itself. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LISTENER = 3 };

/* In the same time for every guess of the right length. */
static int same(const char *a, const char *b) {
    size_t n = strlen(b);
    unsigned char differs = 0;
    if (strlen(a) != n) return 0;
    for (size_t i = 0; i < n; i++)
        differs |= (unsigned char)(a[i] ^ b[i]);
    return !differs;
}

static void answer(int conn, const char *code) {
    char request[1024], reply[256], guess[128] = "";
    size_t got = 0;
    while (got < sizeof request - 1) {
        ssize_t n = read(conn, request + got, sizeof request - 1 - got);
        if (n <= 0) return;
        got += (size_t)n;
        request[got] = 0;
        if (strstr(request, "\r\n\r\n")) break;
    }
    int asked = sscanf(request, "GET /open?%127[^ ] HTTP/1.1", guess) == 1;
    const char *body = !asked              ? "A vault. Try /open?CODE\n"
                       : same(guess, code) ? "The vault is open.\n"
                                           : "Wrong code.\n";
    int n =
        snprintf(reply, sizeof reply,
                 "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
                 strlen(body), body);
    if (write(conn, reply, (size_t)n) != n) return;
    printf("%s\n", !asked ? "a visitor" : same(guess, code) ? "opened" : "a wrong code");
    fflush(stdout);
}

int main(void) {
    const char *code = getenv("VAULT_CODE");
    if (!code) return fprintf(stderr, "vault: no code was given\n"), 1;
    for (int conn; (conn = accept(LISTENER, NULL, NULL)) >= 0; close(conn))
        answer(conn, code);
    return perror("vault"), 1;
}
