/* TLS for this warden: OpenSSL, the keep's certificate, and a context for each TLS file of the configuration. */
#include "identity.h"
#include "tls_conn.h"
#include "tls_context.h"
#include "warden.h"
#include <openssl/err.h>
#include <openssl/rand.h>
#include <time.h>

#define FINISH_NS UINT64_C(5000000000) /* what a program wrote and left behind at its end must be gone by then */

_Static_assert((int)TLS_POLL == (int)GATE_MAX_POLL - (int)GATE_ATTEND_MAX, "what gate_poll_files takes");

static struct {
    struct warden *w;
    bool started;
    struct tls tls;
    struct identity identity;
    SSL_CTX *contexts[CONFIG_FILES_MAX]; /* by the file's number; NULL where it is no TLS file */
} t;

static wasi_errno env_poll(void *ctx, struct wasi_poll *items, size_t n, uint64_t timeout) {
    struct warden *w = ctx;
    return gate_poll_files(&w->files, items, n, timeout);
}

static uint64_t env_now(void *ctx) {
    (void)ctx;
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

static void env_log(void *ctx, const char *line) {
    report_log(ctx, line);
}

/* Renews the certificate when two thirds of its life are over; connections go on with the one they began with. */
static void fresh(void *ctx) {
    char error[256];
    int64_t now = (int64_t)time(NULL);
    (void)ctx;
    if (now < t.identity.renew_at) return;
    if (!identity_make(&t.identity, &t.w->boot.config, now, error, sizeof error)) {
        report_log(t.w, error);
        return;
    }
    for (uint32_t i = 0; i < t.w->boot.config.n_files; i++)
        if (t.contexts[i] && !identity_use(&t.identity, t.contexts[i]))
            report_log(t.w, "a certificate was not renewed");
    report_log(t.w, "the certificate was renewed");
}

static void start_openssl(struct warden *w) {
    /* No file is there to be read, none may be opened; and nothing is to be done at an exit that never comes. */
    const uint64_t crypto = OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_ATEXIT;
    uint8_t seed[32];
    if (OPENSSL_init_crypto(crypto, NULL) != 1 || OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) != 1 ||
        RAND_bytes(seed, sizeof seed) != 1)
        report_failure(w, GATE_EXIT_BROKEN, "OpenSSL does not start: %s", ERR_reason_error_string(ERR_peek_error()));
    OPENSSL_cleanse(seed, sizeof seed);
}

void tls_start(struct warden *w) {
    const struct config *c = &w->boot.config;
    const struct tls_env env = {.ctx = w, .poll = env_poll, .now = env_now, .log = env_log};
    char error[512];
    start_openssl(w);
    t.w = w;
    t.started = true;
    tls_init(&t.tls, &env);
    if (!identity_make(&t.identity, c, (int64_t)time(NULL), error, sizeof error))
        report_failure(w, GATE_EXIT_BROKEN, "%s", error);
    for (uint32_t i = 0; i < c->n_files; i++) {
        const struct config_file *f = &c->files[i];
        if ((f->kind != CONFIG_LISTEN && f->kind != CONFIG_CONNECT) || f->prot != CONFIG_TLS) continue;
        t.contexts[i] = tls_context_for(f, &t.identity, error, sizeof error);
        if (!t.contexts[i]) report_failure(w, GATE_EXIT_REFUSED, "%s", error);
    }
}

struct wasi_file *tls_file(struct warden *w, uint32_t handle, const struct config_file *f) {
    bool listening = f->kind == CONFIG_LISTEN;
    struct wasi_file *below = listening ? gate_listener(&w->files, handle) : gate_socket(&w->files, handle);
    if (!below) return NULL;
    if (listening) return tls_listener_new(&t.tls, below, t.contexts[handle], fresh, NULL);
    return tls_connection_new(&t.tls, below, t.contexts[handle], *f->server_name ? f->server_name : f->host);
}

wasi_errno tls_wait(struct warden *w, struct wasi_poll *items, size_t n, uint64_t timeout) {
    return t.started ? tls_poll(&t.tls, items, n, timeout) : gate_poll_files(&w->files, items, n, timeout);
}

void tls_finish(struct warden *w) {
    (void)w;
    if (t.started) tls_flush_all(&t.tls, FINISH_NS);
}
