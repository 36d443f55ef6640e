/* What the small warden does not have: TLS, and keeps that wait for a tenant. The loader starts donjon-warden-tls where
 * they are needed; a host that starts this one instead gets nowhere. */
#include "warden.h"

static _Noreturn void refuse(struct warden *w, const char *what) {
    report_failure(w, GATE_EXIT_REFUSED, "this warden has no %s: it was to be donjon-warden-tls", what);
}

void tls_start(struct warden *w) {
    refuse(w, "TLS");
}

struct wasi_file *tls_file(struct warden *w, uint32_t number, uint32_t handle, const struct config_file *f) {
    (void)number, (void)handle, (void)f;
    refuse(w, "TLS");
}

void tls_waited(struct warden *w) {
    (void)w;
}

void tls_turn(struct warden *w) {
    (void)w;
}

wasi_errno tls_show_identity(struct warden *w, struct wasi_file *root) {
    (void)w, (void)root;
    return WASI_SUCCESS;
}

wasi_errno self_evidence(struct warden *w, const uint8_t bytes[64], uint8_t *out, uint32_t capacity, uint32_t *size) {
    (void)w, (void)bytes, (void)out, (void)capacity, (void)size;
    return WASI_ENOTSUP;
}

void tls_finish(struct warden *w) {
    (void)w;
}

void tenant_receive(struct warden *w) {
    refuse(w, "channel for tenants");
}

/* Never reached: w->tenant is never true here. */
struct wasi_file *tenant_stream(struct warden *w, enum config_file_kind kind) {
    (void)kind;
    refuse(w, "channel for tenants");
}

uint32_t tenant_socket(struct warden *w, const struct config_file *f, uint32_t *handle) {
    (void)f, (void)handle;
    refuse(w, "channel for tenants");
}

wasi_errno tenant_fill(struct warden *w, struct wasi *wasi, struct wasi_file *root) {
    (void)wasi, (void)root;
    refuse(w, "channel for tenants");
}

void tenant_turn(void *warden) {
    (void)warden;
}

bool tenant_attend(void *warden) {
    (void)warden;
    return true;
}

void tenant_running(struct warden *w) {
    (void)w;
}

void tenant_ended(struct warden *w, enum gate_exit kind, uint32_t status, const struct report *text) {
    (void)w, (void)kind, (void)status, (void)text;
}
