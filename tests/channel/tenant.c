/* A tenant for tests: speaks to a keep's socket without an agent. See usage(). */
#define _GNU_SOURCE
#include "channel/client_state.h"
#include "channel/link.h"
#include "config/config_toml.h"
#include "config/config_wire.h"
#include <donjon/attest.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#if DONJON_SANITIZED
/* It does one thing and ends. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) {
    return "detect_leaks=0";
}
#endif

enum { REFUSED = 120, LISTS = 64 };

static const char *wasm, *toml, *root, *measurement, *digest_wanted, *family;
static struct channel_file files[LISTS];
static struct channel_secret secrets[LISTS];
static size_t n_files, n_secrets;
static bool detached, follow, replay, cut;
static const char *then; /* what comes behind input that the keep does not take any more */
static uint8_t owner[CHANNEL_OWNER];

static void usage(void) {
    fprintf(stderr,
            "tenant signer FILE ROOT           makes a software signer and its root\n"
            "tenant relay LISTEN SOCKET        a keep's host that ends TLS in the middle\n"
            "tenant VERB SOCKET options        deploy, attach, logs, stop, identify, evidence\n"
            "  --root PEM --measurement HEX --family NAME --owner TEXT --wasm F --config F --file PATH=TEXT\n"
            "  --secret NAME=TEXT --detach --follow --replay --digest HEX --cut (goes without a word after START)\n"
            "  --then detach|stop|more (when the keep takes no more input)\n");
    exit(2);
}

static _Noreturn void stop(const char *why) {
    fprintf(stderr, "tenant: %s\n", why);
    exit(REFUSED);
}

static struct channel_bytes read_file(const char *path) {
    FILE *f = fopen(path, "rb");
    if (!f) stop(path);
    fseek(f, 0, SEEK_END);
    long n = ftell(f);
    rewind(f);
    uint8_t *p = malloc((size_t)n + 1);
    if (fread(p, 1, (size_t)n, f) != (size_t)n) stop(path);
    fclose(f);
    return (struct channel_bytes){p, (size_t)n};
}

static void write_file(const char *path, const char *text) {
    FILE *f = fopen(path, "w");
    if (!f || fputs(text, f) < 0 || fclose(f) != 0) stop(path);
}

static int make_signer(const char *file, const char *root_file) {
    struct attest_signer *s = attest_signer_new(time(NULL) - 60);
    char *keys = attest_signer_export(s), *pem = attest_signer_certificates(s, true);
    write_file(file, keys);
    write_file(root_file, pem);
    free(keys);
    free(pem);
    attest_signer_free(s);
    return 0;
}

static int dial(const char *path) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) != 0) stop(path);
    return fd;
}

static bool io_send(void *ctx, const void *bytes, size_t n) {
    const uint8_t *p = bytes;
    while (n > 0) {
        ssize_t k = send(*(int *)ctx, p, n, MSG_NOSIGNAL);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return false;
        p += k;
        n -= (size_t)k;
    }
    return true;
}

static ssize_t io_recv(void *ctx, void *bytes, size_t most) {
    ssize_t n;
    do
        n = recv(*(int *)ctx, bytes, most, 0);
    while (n < 0 && errno == EINTR);
    return n;
}

/* ---- a host in the middle: TLS ends here, and begins anew towards the keep ---- */

static bool pass(struct channel_link *from, struct channel_link *to) {
    struct channel_message m;
    for (;;) {
        enum channel_step s = channel_link_next(from, &m);
        if (s == CHANNEL_MESSAGE) {
            if (!channel_link_send(to, &m)) return false;
        } else
            return s == CHANNEL_MORE;
    }
}

static void flush_to(struct channel_link *l, int fd) {
    const uint8_t *bytes;
    size_t n;
    while ((n = channel_link_output(l, &bytes)) > 0) {
        io_send(&fd, bytes, n);
        channel_link_sent(l, n);
    }
}

static int relay(const char *listen_path, const char *keep_path) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", listen_path);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&a, sizeof a) != 0 || listen(listener, 4) != 0) stop(listen_path);
    printf("ready\n");
    fflush(stdout);
    int fds[2] = {accept(listener, NULL, NULL), dial(keep_path)};
    struct channel_link *l[2] = {channel_link_new(channel_tls_keep()), channel_link_new(channel_tls_tenant())};
    struct channel_message m;
    while (!channel_link_ready(l[1])) { /* first the keep, so that messages can be passed at once */
        uint8_t bytes[4096];
        channel_link_next(l[1], &m);
        flush_to(l[1], fds[1]);
        if (channel_link_ready(l[1])) break;
        ssize_t n = io_recv(&fds[1], bytes, sizeof bytes);
        if (n <= 0 || !channel_link_input(l[1], bytes, (size_t)n)) stop("the keep does not answer");
    }
    for (;;) {
        struct pollfd p[2] = {{.fd = fds[0], .events = POLLIN}, {.fd = fds[1], .events = POLLIN}};
        poll(p, 2, -1);
        for (int i = 0; i < 2; i++) {
            uint8_t bytes[65536];
            if (!p[i].revents) continue;
            ssize_t n = io_recv(&fds[i], bytes, sizeof bytes);
            if (n <= 0 || !channel_link_input(l[i], bytes, (size_t)n) || !pass(l[i], l[1 - i])) return 0;
            flush_to(l[0], fds[0]);
            flush_to(l[1], fds[1]);
        }
    }
}

/* ---- the tenant ---- */

static void appraise(struct channel_client *c) {
    static struct attest_result result;
    struct attest_verifier *v = attest_verifier_new();
    struct attest_policy p;
    char error[256];
    attest_policy_genuine(&p);
    p.allow_software = true;
    if (measurement &&
        !attest_policy_set(&p, "snp.measurements", measurement, strlen(measurement), error, sizeof error))
        stop(error);
    uint8_t name[16] = {0};
    if (family) memcpy(name, family, strnlen(family, sizeof name));
    if (family) attest_set_add(&p.snp.family_ids, name, sizeof name);
    struct channel_bytes pem = read_file(root);
    attest_verifier_add_development_root(v, (struct attest_bytes){pem.data, pem.size});
    bool ok = channel_client_appraise(c, v, &p, time(NULL), &result);
    if (!ok) {
        for (unsigned i = 0; i < result.check_count; i++)
            if (result.checks[i].outcome == ATTEST_FAIL)
                fprintf(stderr, "tenant: %s\n", attest_rules[result.checks[i].rule].name);
        stop(channel_client_error(c));
    }
    fprintf(stderr, "tenant: accepted, the keep is %s\n", channel_state_name((uint8_t)channel_client_state(c)));
    attest_policy_free(&p);
    attest_verifier_free(v);
    free((void *)(uintptr_t)pem.data);
}

static void deliver(struct channel_client *c) {
    struct config config;
    struct config_reports reports;
    uint8_t *wire;
    size_t wire_size;
    struct channel_bytes text = read_file(toml), module = read_file(wasm);
    config_init(&config);
    if (!config_parse_toml_in(&config, (const char *)text.data, text.size, "/", &reports))
        stop(reports.report[0].message);
    if (!config_encode(&config, &wire, &wire_size)) stop("no memory");
    if (!channel_files_sort(files, n_files)) stop("files");
    struct channel_delivery d = {.config = {wire, wire_size},
                                 .module = module,
                                 .files = files,
                                 .n_files = n_files,
                                 .secrets = secrets,
                                 .n_secrets = n_secrets};
    uint8_t digest[CHANNEL_DIGEST];
    channel_delivery_digest(&d, digest);
    fprintf(stderr, "tenant: workload ");
    for (int i = 0; i < CHANNEL_DIGEST; i++)
        fprintf(stderr, "%02x", digest[i]);
    fprintf(stderr, "\n");
    if (!channel_client_deliver(c, &d)) stop(channel_client_error(c));
    if (!channel_client_start(c, detached ? CHANNEL_DETACHED : 0)) stop(channel_client_error(c));
    fprintf(stderr, "tenant: started\n");
    free(wire);
    config_free(&config);
}

/* Shows the event; gives what to exit with, or -1 to go on. */
static int show(struct channel_client *c, const struct channel_event *e) {
    static int code = -1;
    switch (e->kind) {
    case CHANNEL_EVENT_STDOUT: (void)!write(1, e->bytes.data, e->bytes.size); return -1;
    case CHANNEL_EVENT_STDERR: (void)!write(2, e->bytes.data, e->bytes.size); return -1;
    case CHANNEL_EVENT_LOST: fprintf(stderr, "tenant: lost %llu\n", (unsigned long long)e->size); return -1;
    case CHANNEL_EVENT_EXIT:
        fprintf(stderr, "tenant: exit kind %u status %u%s%.*s\n", e->exit_kind, e->status, e->bytes.size ? ": " : "",
                (int)e->bytes.size, e->bytes.data);
        code = e->exit_kind == 1 ? (int)(e->status & 0xff) : 100 + e->exit_kind;
        return -1;
    case CHANNEL_EVENT_CLOSED: return code >= 0 ? code : 0;
    case CHANNEL_EVENT_FAILED: stop(channel_client_error(c));
    default: return -1;
    }
}

/* Nothing comes for so long. */
static bool full_for(int fd, int ms) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, ms) == 0;
}

/* As no client of ours does: input without credit. */
static void too_much(int fd, struct channel_client *c) {
    const uint8_t *bytes;
    size_t n;
    (void)channel_link_send(c->link,
                            &(struct channel_message){.type = CHANNEL_STDIN, .first = {(const uint8_t *)"x", 1}});
    while ((n = channel_link_output(c->link, &bytes)) > 0) {
        io_send(&fd, bytes, n);
        channel_link_sent(c->link, n);
    }
}

static int pump(struct channel_client *c, int fd, bool input) {
    struct channel_event e;
    static uint8_t bytes[65536];
    for (;;) {
        while (channel_client_next(c, &e) != CHANNEL_EVENT_NONE) {
            int code = show(c, &e);
            if (code >= 0) return code;
        }
        if (then && input && channel_client_credit(c) == 0 && full_for(fd, 300)) {
            input = false;
            if (!strcmp(then, "detach")) channel_client_detach(c);
            if (!strcmp(then, "stop")) channel_client_stop(c);
            if (!strcmp(then, "more")) too_much(fd, c);
        }
        struct pollfd p[2] = {{.fd = fd, .events = POLLIN},
                              {.fd = input && channel_client_credit(c) > 0 ? 0 : -1, .events = POLLIN}};
        poll(p, 2, -1);
        if (p[0].revents) {
            ssize_t n = io_recv(&fd, bytes, sizeof bytes);
            channel_client_input(c, bytes, n > 0 ? (size_t)n : 0);
        }
        if (p[1].revents) {
            size_t most = channel_client_credit(c);
            ssize_t n = read(0, bytes, most < 16384 ? most : 16384);
            if (n > 0) channel_client_stdin(c, bytes, (size_t)n);
            if (n <= 0) channel_client_stdin_end(c);
            input = n > 0;
        }
    }
}

static int talk(const char *verb, const char *socket_path) {
    static const struct {
        const char *verb;
        enum channel_purpose purpose;
    } verbs[] = {{"deploy", CHANNEL_DEPLOY}, {"attach", CHANNEL_ATTACH},     {"logs", CHANNEL_LOGS},
                 {"stop", CHANNEL_END_KEEP}, {"identify", CHANNEL_IDENTIFY}, {"evidence", 0}};
    int fd = dial(socket_path);
    struct channel_client *c = channel_client_new(&(struct channel_io){&fd, io_send, io_recv});
    if (!channel_client_handshake(c, NULL)) stop(channel_client_error(c));
    appraise(c);
    const uint8_t *digest = channel_client_digest(c);
    for (int i = 0; digest_wanted && i < CHANNEL_DIGEST; i++) {
        unsigned byte;
        if (sscanf(digest_wanted + 2 * i, "%2x", &byte) != 1 || byte != digest[i]) stop("another workload runs there");
    }
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        if (strcmp(verb, verbs[i].verb) != 0) continue;
        if (!verbs[i].purpose) return 0;
        uint8_t flags = (follow ? CHANNEL_FOLLOW : 0) | (replay ? CHANNEL_REPLAY : 0);
        if (!channel_client_open(c, verbs[i].purpose, flags, owner)) stop(channel_client_error(c));
        if (verbs[i].purpose == CHANNEL_DEPLOY) deliver(c);
        if (cut) return 0;
        bool input = !detached && (verbs[i].purpose == CHANNEL_DEPLOY || verbs[i].purpose == CHANNEL_ATTACH);
        int code = pump(c, fd, input);
        channel_client_free(c);
        return code;
    }
    usage();
    return 2;
}

static struct channel_bytes text_of(const char *s) {
    return (struct channel_bytes){(const uint8_t *)s, strlen(s)};
}

int main(int argc, char **argv) {
    if (argc == 4 && !strcmp(argv[1], "signer")) return make_signer(argv[2], argv[3]);
    if (argc == 4 && !strcmp(argv[1], "relay")) return relay(argv[2], argv[3]);
    if (argc < 3) usage();
    for (int i = 3; i < argc; i++) {
        const char *o = argv[i], *v = i + 1 < argc ? argv[i + 1] : "";
        char *eq = i + 1 < argc ? strchr(argv[i + 1], '=') : NULL;
        if (!strcmp(o, "--detach"))
            detached = true;
        else if (!strcmp(o, "--follow"))
            follow = true;
        else if (!strcmp(o, "--replay"))
            replay = true;
        else if (!strcmp(o, "--cut"))
            cut = true;
        else if (i++, !strcmp(o, "--root"))
            root = v;
        else if (!strcmp(o, "--measurement"))
            measurement = v;
        else if (!strcmp(o, "--family"))
            family = v;
        else if (!strcmp(o, "--then"))
            then = v;
        else if (!strcmp(o, "--digest"))
            digest_wanted = v;
        else if (!strcmp(o, "--owner"))
            strncpy((char *)owner, v, sizeof owner);
        else if (!strcmp(o, "--wasm"))
            wasm = v;
        else if (!strcmp(o, "--config"))
            toml = v;
        else if (!strcmp(o, "--file") && eq && n_files < LISTS) {
            *eq = 0;
            files[n_files++] = (struct channel_file){text_of(v), text_of(eq + 1), NULL};
        } else if (!strcmp(o, "--secret") && eq && n_secrets < LISTS) {
            *eq = 0;
            secrets[n_secrets++] = (struct channel_secret){v, text_of(eq + 1)};
        } else
            usage();
    }
    return talk(argv[1], argv[2]);
}
