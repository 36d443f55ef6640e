/* TLS for this warden: OpenSSL, the keep's certificate, and a context for each TLS file of the configuration. */
#include "../channel/binding.h"
#include "../config/config_wire.h"
#include "gatecall.h"
#include "renewal.h"
#include "tls_conn.h"
#include "tls_context.h"
#include "warden.h"
#include <openssl/err.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    FIRST_ATTEMPTS = 3, /* at the first certificate, where the steward cannot be reached */
    CALLS_UNTIMED = 16  /* of the program's: between them nobody looks at the clock */
};
#define LOOK_NS UINT64_C(100000000) /* how often a certificate is thought of */

static struct {
    struct warden *w;
    bool started;
    struct identity identity;
    struct renewal renewal;
    uint32_t steward;                    /* the handle of the request under way */
    bool asks;                           /* there is one */
    uint64_t look_at;                    /* by network_now: when the certificate is thought of next */
    unsigned calls;                      /* of the program's since the clock was looked at */
    struct wasi_file *root;              /* where the program finds it, or NULL */
    uint8_t answer[GATE_ANSWER_SIZE];    /* the host's last, copied once */
    SSL_CTX *contexts[CONFIG_FILES_MAX]; /* by the file's number; NULL where it is no TLS file */
} t;

static void tend(bool at_once);

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

static enum identity_state host_ask(void *ctx, const char *url, enum identity_request which, struct attest_bytes body,
                                    char *error, size_t size) {
    struct warden *w = ctx;
    uint32_t e = gate_steward(&w->files, url, which == IDENTITY_NONCE ? GATE_STEWARD_NONCE : GATE_STEWARD_CERTIFY,
                              body.data, body.size, &t.steward);
    t.asks = e == GATE_OK;
    if (t.asks) return IDENTITY_WAITS;
    bool never = e == GATE_ENOTSUP;
    snprintf(error, size, never ? "this host has no way to the steward %s" : "this host does not ask the steward %s",
             url);
    return never ? IDENTITY_REFUSED : IDENTITY_FAILED;
}

static void host_forget(void *ctx) {
    struct warden *w = ctx;
    if (t.asks) gate_handle_close(&w->files, t.steward);
    t.asks = false;
}

/* Too many requests, and what is wrong with the steward itself: another time it may be otherwise. */
static bool may_pass(uint32_t status) {
    enum { TOO_MANY = 429, SERVER_ERRORS = 500 };
    return status == TOO_MANY || status >= SERVER_ERRORS;
}

static enum identity_state host_answer(void *ctx, struct attest_bytes *answer, char *error, size_t size) {
    enum { HTTP_OK = 200, SHOWN = 700 };
    struct warden *w = ctx;
    uint32_t status = 0, n = 0, e = gate_answer(&w->gate, t.steward, t.answer, &status, &n);
    if (e == GATE_EAGAIN) return IDENTITY_WAITS;
    host_forget(w);
    *answer = (struct attest_bytes){t.answer, n};
    if (e == GATE_OK && status == HTTP_OK) return IDENTITY_READY;
    if (e == GATE_OK) {
        snprintf(error, size, "the steward answers %u: %.*s", status, n < SHOWN ? (int)n : SHOWN, (char *)t.answer);
        return may_pass(status) ? IDENTITY_FAILED : IDENTITY_REFUSED;
    }
    snprintf(error, size, "the steward %s cannot be reached: %s; does it run, and does the agent's `stewards` have it?",
             w->boot.config.steward, wasi_errno_name(e));
    return IDENTITY_FAILED;
}

static struct identity_host identity_host = {
    .evidence = host_evidence, .ask = host_ask, .answer = host_answer, .forget = host_forget};

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

/* Connections go on with the certificate that they began with. */
static void show_renewed(void) {
    for (uint32_t i = 0; i < t.w->boot.config.n_files; i++)
        if (t.contexts[i] && !identity_use(&t.identity, t.contexts[i]))
            report_log(t.w, "a certificate was not renewed");
    if (t.root) (void)show_identity(t.root); /* a program that has filled its file system keeps the old one */
    report_log(t.w, "the certificate was renewed");
}

/* Until something is to be done for it: struct gate_attend's. */
static uint64_t renewal_patience(void *ctx) {
    (void)ctx;
    uint64_t s = (uint64_t)renewal_wait(&t.renewal, &t.identity, (int64_t)time(NULL));
    return s == 0 ? LOOK_NS : s < UINT64_C(86400) ? s * 1000000000u : UINT64_C(86400000000000);
}

/* Makes a certificate anew when it is time, step by step and without waiting. Where that fails, the one there is stays.
 * To be called often; it does nothing most of the time, unless it is to look `at_once`. */
static void tend(bool at_once) {
    char error[1024];
    uint64_t at = network_now(NULL);
    if (!t.identity.certificate || (!at_once && at < t.look_at)) return;
    t.look_at = at + LOOK_NS;
    t.calls = 0;
    switch (renewal_turn(&t.renewal, &t.identity, (int64_t)time(NULL), error, sizeof error)) {
    case RENEWAL_NOTHING: break;
    case RENEWAL_MADE: show_renewed(); break;
    case RENEWAL_FAILED:
    case RENEWAL_REFUSED: report_log(t.w, error); break;
    }
    t.w->renew_at = at + renewal_patience(NULL);
}

static void fresh(void *ctx) {
    (void)ctx;
    tend(false);
}

void tls_look(struct warden *w) {
    (void)w;
    if (t.started) tend(false);
}

void tls_turn(struct warden *w) {
    (void)w;
    if (t.started && ++t.calls >= CALLS_UNTIMED) {
        t.calls = 0;
        tend(false);
    }
}

/* ---- while the program waits: the steward's answer, and the time to ask ---- */

static size_t renewal_wanted(void *ctx, struct gate_poll *entries, size_t most) {
    (void)ctx;
    if (!t.asks || most == 0) return 0;
    entries[0] = (struct gate_poll){.handle = t.steward, .events = GATE_READABLE};
    return 1;
}

static void renewal_serve(void *ctx, const struct gate_poll *entries, size_t n) {
    (void)ctx;
    tend(n > 0 && (entries[0].ready || entries[0].error));
}

static struct gate_attend renewal_attend = {
    .wanted = renewal_wanted, .serve = renewal_serve, .patience = renewal_patience};

/* The first one: the program does not begin without it. Tenants are answered meanwhile. */
static void make_first(struct warden *w) {
    const struct config *c = &w->boot.config;
    char error[1024];
    identity_host.ctx = w;
    t.renewal = (struct renewal){.config = c, .workload = w->workload, .host = &identity_host};
    renewal_attend.next = w->files.attend;
    if (c->steward && c->steward_ca) w->files.attend = &renewal_attend;
    for (;;) {
        enum renewal_event e = renewal_turn(&t.renewal, &t.identity, (int64_t)time(NULL), error, sizeof error);
        if (e == RENEWAL_MADE) break;
        if (e == RENEWAL_REFUSED || (e == RENEWAL_FAILED && t.renewal.failed == FIRST_ATTEMPTS))
            report_failure(w, GATE_EXIT_REFUSED, "%s", error);
        if (e == RENEWAL_FAILED) report_log(w, error);
        if (gate_poll_files(&w->files, NULL, 0, GATE_FOREVER) != WASI_SUCCESS)
            report_failure(w, GATE_EXIT_BROKEN, "the host does not say what becomes of a request to the steward");
    }
    w->renew_at = network_now(NULL) + renewal_patience(NULL);
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
    char error[1024];
    tls_openssl(w);
    t.w = w;
    t.started = true;
    if (!(w->boot.flags & BOOT_TENANT) && !compute_workload(w))
        report_failure(w, GATE_EXIT_BROKEN, "out of memory for the workload's digest");
    make_first(w);
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
    if (listening) return tls_listener_new(network(), below, t.contexts[number], fresh, NULL);
    return tls_connection_new(network(), below, t.contexts[number], *f->server_name ? f->server_name : f->host);
}

void tls_waited(struct warden *w) {
    (void)w;
    if (t.started) tend(false);
}

void tls_finish(struct warden *w) {
    if (!t.started) return;
    identity_give_up(&t.renewal.making, &identity_host); /* nobody will see it */
    if (w->files.attend == &renewal_attend) w->files.attend = renewal_attend.next;
    w->renew_at = 0;
    t.started = false;
}
