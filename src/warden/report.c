#include "warden.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void report_line(void *report, const char *line) {
    struct report *r = report;
    size_t n = strlen(line), room = sizeof r->text - r->len;
    if (room == 0) return;
    if (r->len > 0) {
        r->text[r->len++] = '\n';
        room--;
    }
    if (n > room) n = room;
    memcpy(r->text + r->len, line, n);
    r->len += n;
}

static void report_va(struct report *r, const char *format, va_list args) {
    char line[1024];
    vsnprintf(line, sizeof line, format, args);
    report_line(r, line);
}

void report_format(struct report *r, const char *format, ...) {
    va_list args;
    va_start(args, format);
    report_va(r, format, args);
    va_end(args);
}

void report_log(struct warden *w, const char *line) {
    if (!(w->boot.flags & BOOT_DEBUG)) return;
    size_t n = strlen(line);
    struct gate_request q = {.op = GATE_LOG, .len = n < GATE_MAX_REPORT ? (uint32_t)n : GATE_MAX_REPORT};
    struct gate_reply reply;
    memcpy(w->gate.block->data, line, q.len);
    (void)gate_call(&w->gate, &q, &reply);
}

void report_exit(struct warden *w, enum gate_exit kind, uint32_t status, const struct report *r) {
    struct gate_request q = {.op = GATE_EXIT, .args = {kind, status}};
    struct gate_reply reply;
    if (w->tenant) { /* what it has to say is the tenant's business */
        tenant_ended(w, kind, status, r);
        r = NULL;
    }
    if (r) {
        q.len = (uint32_t)r->len;
        memcpy(w->gate.block->data, r->text, r->len);
    }
    w->stop = false; /* this one is said to the end */
    (void)gate_call(&w->gate, &q, &reply);
    _exit(0); /* nothing to flush, nothing to free: the process is the keep */
}

void report_failure(struct warden *w, enum gate_exit kind, const char *format, ...) {
    static struct report r;
    r.len = 0;
    va_list args;
    va_start(args, format);
    report_va(&r, format, args);
    va_end(args);
    report_exit(w, kind, 0, &r);
}
