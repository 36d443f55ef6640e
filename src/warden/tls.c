/* TLS for this warden: OpenSSL, the keep's certificate, and a context for each TLS file of the configuration. */
#include "../channel/binding.h"
#include "../config/config_wire.h"
#include "gatecall.h"
#include "identity.h"
#include "tls_conn.h"
#include "tls_context.h"
#include "warden.h"
#include <openssl/err.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { RETRY = 60 /* seconds until a renewal that failed is tried again */ };
#define FINISH_NS UINT64_C(5000000000) /* what a program wrote and left behind at its end must be gone by then */

_Static_assert((int)TLS_POLL == (int)GATE_MAX_POLL - (int)GATE_ATTEND_MAX, "what gate_poll_files takes");

static struct {
    struct warden *w;
    bool started;
    struct tls tls;
    struct identity identity;
    struct wasi_file *root;              /* where the program finds it, or NULL */
    uint8_t answer[GATE_DATA_SIZE];      /* the host's last, copied once */
    SSL_CTX *contexts[CONFIG_FILES_MAX]; /* by the file's number; NULL where it is no TLS file */
} t;

static wasi_errno env_poll(void *ctx, struct wasi_poll *items, size_t n, uint64_t timeout,
                           const struct gate_receiver *receiver) {
    struct warden *w = ctx;
    return gate_poll_receive(&w->files, items, n, timeout, receiver);
}

static wasi_errno env_send_many(void *ctx, struct gate_outgoing *sends, size_t n) {
    struct warden *w = ctx;
    return gate_send_many(&w->files, sends, n);
}

static void before_wait(void *ctx) {
    tls_send_held(ctx);
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

/* ---- the keep's identity ---- */

static bool host_evidence(void *ctx, const uint8_t report_data[64], struct attest_bytes *evidence,
                          struct attest_bytes *endorsements) {
    struct warden *w = ctx;
    uint32_t n, size;
    if (gate_evidence(&w->gate, report_data, t.answer, &n, &size) != GATE_OK || n == 0) return false;
    *evidence = (struct attest_bytes){t.answer, n};
    *endorsements = (struct attest_bytes){t.answer + n, size - n};
    return true;
}

static bool host_steward(void *ctx, const char *url, enum identity_request which, struct attest_bytes body,
                         struct attest_bytes *answer, char *error, size_t size) {
    enum { HTTP_OK = 200, SHOWN = 700 };
    struct warden *w = ctx;
    uint32_t status = 0, n = 0,
             e = gate_steward(&w->gate, url, which == IDENTITY_NONCE ? GATE_STEWARD_NONCE : GATE_STEWARD_CERTIFY,
                              body.data, body.size, t.answer, &status, &n);
    *answer = (struct attest_bytes){t.answer, n};
    if (e == GATE_OK && status == HTTP_OK) return true;
    if (e == GATE_ENOTSUP)
        snprintf(error, size, "this host has no way to the steward %s", url);
    else if (e != GATE_OK)
        snprintf(error, size,
                 "the steward %s cannot be reached: %s; does it run, and does the agent's `stewards` have it?", url,
                 wasi_errno_name(e));
    else
        snprintf(error, size, "the steward answers %u: %.*s", status, n < SHOWN ? (int)n : SHOWN, (char *)t.answer);
    return false;
}

static bool make_identity(int64_t now, char *error, size_t size) {
    const struct identity_host host = {.ctx = t.w, .evidence = host_evidence, .steward = host_steward};
    return identity_make(&t.identity, &t.w->boot.config, t.w->workload, &host, now, error, size);
}

/* /run/donjon/identity.pem, and /run/donjon/evidence where there is some. */
static wasi_errno show_identity(struct wasi_file *root) {
    size_t size;
    char *pem = identity_pem(&t.identity, &size);
    struct attest_bytes evidence = identity_evidence(&t.identity);
    wasi_errno e = pem ? put_file(root, "run/donjon/identity.pem", pem, size) : (wasi_errno)WASI_ENOMEM;
    free(pem);
    if (e == WASI_SUCCESS && evidence.size > 0) e = put_file(root, "run/donjon/evidence", evidence.data, evidence.size);
    return e;
}

wasi_errno tls_show_identity(struct warden *w, struct wasi_file *root) {
    (void)w;
    if (!t.started) return WASI_SUCCESS;
    t.root = wasi_file_ref(root);
    return show_identity(root);
}

/* Renews the certificate when two thirds of its life are over; connections go on with the one they began with. Where
 * that fails, the one there is stays, and it is tried again later. */
static void fresh(void *ctx) {
    char error[1024];
    int64_t now = (int64_t)time(NULL);
    (void)ctx;
    if (now < t.identity.renew_at) return;
    if (!make_identity(now, error, sizeof error)) {
        t.identity.renew_at = now + RETRY;
        report_log(t.w, error);
        return;
    }
    for (uint32_t i = 0; i < t.w->boot.config.n_files; i++)
        if (t.contexts[i] && !identity_use(&t.identity, t.contexts[i]))
            report_log(t.w, "a certificate was not renewed");
    if (t.root) (void)show_identity(t.root); /* a program that has filled its file system keeps the old one */
    report_log(t.w, "the certificate was renewed");
}

wasi_errno self_evidence(struct warden *w, const uint8_t bytes[64], uint8_t *out, uint32_t capacity, uint32_t *size) {
    struct attest_bytes evidence, endorsements, cmw = {0};
    uint8_t report_data[64];
    bool present;
    if (!t.started) return WASI_ENOTSUP;
    if (!channel_program_report_data(w->workload, bytes, report_data)) return WASI_EIO;
    if (!host_evidence(w, report_data, &evidence, &endorsements)) return WASI_ENOTSUP;
    STACK_OF(X509_EXTENSION) *list = sk_X509_EXTENSION_new_null(); /* its wrapper is what certificates have */
    bool ok = list && attest_identity_extensions(list, evidence, endorsements, w->workload, (struct attest_bytes){0}) &&
              attest_identity_octets(list, ATTEST_OID_CMW, 1, UINT32_MAX, &cmw, &present);
    *size = (uint32_t)cmw.size;
    bool fits = ok && cmw.size <= capacity;
    if (fits) memcpy(out, cmw.data, cmw.size);
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
    return fits ? WASI_SUCCESS : ok ? WASI_EOVERFLOW : WASI_ENOMEM;
}

/* Of a workload that no tenant has brought: as a tenant would compute it, without files. */
static bool compute_workload(struct warden *w) {
    struct channel_workload *c = channel_workload_new();
    uint8_t *wire = NULL;
    size_t size;
    bool ok = c && config_encode(&w->boot.config, &wire, &size) &&
              channel_workload_config(c, (struct channel_bytes){wire, size}) &&
              channel_workload_module(c, (struct channel_bytes){w->boot.module, w->boot.module_size}) &&
              channel_workload_digest(c, w->workload);
    channel_workload_free(c);
    free(wire);
    return ok;
}

/* ---- the beginning ---- */

void tls_openssl(struct warden *w) {
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
    const struct tls_env env = {.ctx = w, .poll = env_poll, .send_many = env_send_many, .now = env_now, .log = env_log};
    char error[1024];
    tls_openssl(w);
    t.w = w;
    t.started = true;
    tls_init(&t.tls, &env);
    w->files.before_wait = before_wait;
    w->files.before_wait_ctx = &t.tls;
    if (!(w->boot.flags & BOOT_TENANT) && !compute_workload(w))
        report_failure(w, GATE_EXIT_BROKEN, "out of memory for the workload's digest");
    if (!make_identity((int64_t)time(NULL), error, sizeof error)) report_failure(w, GATE_EXIT_REFUSED, "%s", error);
    snprintf(error, sizeof error, "certificate: %s, %s", t.identity.issued ? "the steward's" : "signed by itself",
             identity_evidence(&t.identity).size > 0 ? "with evidence" : "no evidence: this host makes none");
    report_log(w, error);
    for (uint32_t i = 0; i < c->n_files; i++) {
        const struct config_file *f = &c->files[i];
        if ((f->kind != CONFIG_LISTEN && f->kind != CONFIG_CONNECT) || f->prot != CONFIG_TLS) continue;
        t.contexts[i] = tls_context_for(c, f, &t.identity, env_log, w, error, sizeof error);
        if (!t.contexts[i]) report_failure(w, GATE_EXIT_REFUSED, "%s", error);
    }
}

struct wasi_file *tls_file(struct warden *w, uint32_t number, uint32_t handle, const struct config_file *f) {
    bool listening = f->kind == CONFIG_LISTEN;
    struct wasi_file *below = listening ? gate_listener(&w->files, handle) : gate_socket(&w->files, handle);
    if (!below) return NULL;
    if (listening) return tls_listener_new(&t.tls, below, t.contexts[number], fresh, NULL);
    return tls_connection_new(&t.tls, below, t.contexts[number], *f->server_name ? f->server_name : f->host);
}

wasi_errno tls_wait(struct warden *w, struct wasi_poll *items, size_t n, uint64_t timeout) {
    return t.started ? tls_poll(&t.tls, items, n, timeout) : gate_poll_files(&w->files, items, n, timeout);
}

void tls_finish(struct warden *w) {
    (void)w;
    if (t.started) tls_flush_all(&t.tls, FINISH_NS);
}
