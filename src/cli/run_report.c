#define _GNU_SOURCE
#include "loader/loader.h"
#include "run.h"
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* Names for --json that stay, whatever a message says: the specification's messages, and the engine's own. */
static const struct {
    const char *message, *kind;
} trap_kinds[] = {
    {"unreachable", "unreachable"},
    {"out of bounds memory access", "memory-out-of-bounds"},
    {"out of bounds table access", "table-out-of-bounds"},
    {"undefined element", "undefined-element"},
    {"uninitialized element", "uninitialized-element"},
    {"indirect call type mismatch", "indirect-call-type"},
    {"integer divide by zero", "divide-by-zero"},
    {"integer overflow", "integer-overflow"},
    {"invalid conversion to integer", "invalid-conversion"},
    {"null function reference", "null-function"},
    {"null exception reference", "null-exception"},
    {"null reference", "null-reference"},
    {"call stack exhausted", "stack-exhausted"},
    {"all fuel consumed", "fuel-exhausted"},
    {"unknown import", "unknown-import"},
    {"uncaught exception", "exception"},
    {"wall time limit", "timeout"},
};

static const char *trap_kind(const char *message) {
    for (size_t i = 0; i < sizeof trap_kinds / sizeof *trap_kinds; i++)
        if (strstr(message, trap_kinds[i].message)) return trap_kinds[i].kind;
    return "other";
}

/* jansson takes UTF-8 only; anything else in a message becomes '?'. */
static json_t *json_text(const char *s, size_t n) {
    json_t *j = json_stringn(s, n);
    if (j) return j;
    char *copy = strndup(s, n);
    for (char *p = copy; p && *p; p++)
        if (*p & 0x80) *p = '?';
    j = copy ? json_string(copy) : NULL;
    free(copy);
    return j;
}

/* "trap: MESSAGE", then lines of "  0: NAME (module+0x1a2b) at FILE:LINE": donjon_trap_print's form. */
static json_t *json_trap(const char *text) {
    json_t *trap = json_object(), *frames = json_array();
    const char *line = text, *end = strchrnul(text, '\n');
    const char *message = !strncmp(line, "trap: ", 6) ? line + 6 : line;
    char head[512];
    snprintf(head, sizeof head, "%.*s", (int)(end - message), message);
    json_object_set_new(trap, "kind", json_string(trap_kind(head)));
    json_object_set_new(trap, "message", json_text(head, strlen(head)));
    while (*end) {
        line = end + 1;
        end = strchrnul(line, '\n');
        line += strspn(line, " ");
        if (line < end && *line >= '0' && *line <= '9')
            json_array_append_new(frames, json_text(line, (size_t)(end - line)));
    }
    json_object_set_new(trap, "frames", frames);
    return trap;
}

static json_t *json_ms(uint64_t ns) {
    return json_real((double)(ns / 1000) / 1000.0);
}

void run_print_json(const struct run *r, const struct keep_result *k, uint64_t end_ns) {
    json_t *root = json_object(), *times = json_object();
    json_object_set_new(root, "outcome", json_string(keep_outcome_name(k->outcome)));
    json_object_set_new(root, "exit", json_integer(k->exit_code));
    json_object_set_new(root, "signal", k->outcome == KEEP_SIGNALLED ? json_integer(k->signal) : json_null());
    json_object_set_new(root, "module", r->module ? json_text(r->module, strlen(r->module)) : json_null());
    json_object_set_new(root, "backend", k->backend ? json_string(k->backend) : json_null());
    json_object_set_new(root, "protects", k->protects ? json_string(k->protects) : json_null());
    bool trap = k->outcome == KEEP_TRAPPED || k->outcome == KEEP_TIMEOUT;
    json_object_set_new(root, "trap", trap && k->text ? json_trap(k->text) : json_null());
    json_object_set_new(root, "error", !trap && k->text ? json_text(k->text, strlen(k->text)) : json_null());
    json_object_set_new(times, "read_ms", json_ms(r->read_ns));
    json_object_set_new(times, "ready_ms", k->ready_ns ? json_ms(k->ready_ns) : json_null());
    json_object_set_new(times, "total_ms", json_ms(end_ns - r->started_ns));
    json_object_set_new(root, "times", times);
    json_object_set_new(root, "host_calls", json_integer((json_int_t)k->host_calls));
    json_dumpf(root, stderr, JSON_COMPACT | JSON_REAL_PRECISION(9));
    fputc('\n', stderr);
    json_decref(root);
}

static void print_lines(const char *text) {
    size_t size = strlen(text) + 1;
    char *clean = malloc(size);
    if (clean) fprintf(stderr, "%s\n", cli_printable(text, clean, size, true));
    free(clean);
}

/* First line as a message of ours, the lines after it as they are. */
void run_print_text(const struct run *r, const struct keep_result *k) {
    bool about_module = k->outcome != KEEP_FAILED && k->outcome != KEEP_SIGNALLED;
    size_t n = strcspn(k->text, "\n");
    cli_error(r->verb, "%s%s%.*s", about_module ? r->module : "", about_module ? ": " : "", (int)n, k->text);
    if (k->text[n]) print_lines(k->text + n + 1);
    if (k->outcome == KEEP_REFUSED && strstr(k->text, "is not provided"))
        fprintf(stderr, "  (with -W unknown-imports-trap it runs and a call of such a function is a trap; with -W "
                        "unknown-imports-default "
                        "it returns zeros)\n");
}
