/* The table of WASI's functions, and calling one: checks of what came back, traces. */
#include "context.h"
#include <stdarg.h>
#include <stdio.h>

const struct wasi_function wasi_functions[WASI_FUNCTIONS] = {
#define WASI_FUNCTION(name, params, preview1_only) {#name, params, preview1_only},
#include "functions.h"
#undef WASI_FUNCTION
};

static wasi_errno (*const handlers[WASI_FUNCTIONS])(struct call *) = {
#define WASI_FUNCTION(name, params, preview1_only) call_##name,
#include "functions.h"
#undef WASI_FUNCTION
};

int wasi_abi_of(const char *module, size_t len) {
    static const char preview0[] = "wasi_unstable", preview1[] = "wasi_snapshot_preview1";
    if (len == sizeof preview1 - 1 && memcmp(module, preview1, len) == 0) return WASI_ABI_PREVIEW1;
    if (len == sizeof preview0 - 1 && memcmp(module, preview0, len) == 0) return WASI_ABI_UNSTABLE;
    return -1;
}

int wasi_function_find(enum wasi_abi abi, const char *name, size_t len) {
    for (int i = 0; i < WASI_FUNCTIONS; i++) {
        const struct wasi_function *f = &wasi_functions[i];
        if (strlen(f->name) != len || memcmp(f->name, name, len) != 0) continue;
        return abi == WASI_ABI_UNSTABLE && f->preview1_only ? -1 : i;
    }
    return -1;
}

/* ---- Traces ---- */

struct line {
    char text[WASI_TRACE_MAX];
    size_t len;
};

__attribute__((format(printf, 2, 3))) static void add(struct line *l, const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(l->text + l->len, sizeof l->text - l->len, format, ap);
    va_end(ap);
    if (n > 0) l->len = l->len + (size_t)n < sizeof l->text ? l->len + (size_t)n : sizeof l->text - 1;
}

static void add_string(struct line *l, const struct call *c, int i) {
    enum { SHOWN = 80 };
    uint32_t len = arg32(c, i + 1);
    const uint8_t *p = guest(c, arg32(c, i), len);
    if (!p) {
        add(l, "0x%x/%u", arg32(c, i), len);
        return;
    }
    add(l, "\"");
    for (uint32_t j = 0; j < len && j < SHOWN; j++) {
        if (p[j] >= 0x20 && p[j] < 0x7f && p[j] != '"' && p[j] != '\\')
            add(l, "%c", p[j]);
        else
            add(l, "\\x%02x", p[j]);
    }
    add(l, len > SHOWN ? "\"..." : "\"");
}

static void add_answer(struct line *l, const struct call *c, int i, wasi_errno e) {
    const uint8_t *p = guest(c, arg32(c, i), 4);
    if (e || !p)
        add(l, "0x%x", arg32(c, i));
    else
        add(l, "[%u]", load32(p));
}

/* One line for a call that has been made: parameters as the table describes them, then the errno. */
static void trace(struct call *c, uint32_t index, wasi_errno e) {
    struct line l = {.len = 0};
    int i = 0;
    add(&l, "%s(", wasi_functions[index].name);
    for (const char *p = wasi_functions[index].params; *p; p++) {
        if (i) add(&l, ", ");
        switch (*p) {
        case 'I': add(&l, "%llu", (unsigned long long)arg64(c, i)); break;
        case 'p': add(&l, "0x%x", arg32(c, i)); break;
        case 'v': add(&l, "0x%x/%u", arg32(c, i), arg32(c, i + 1)); break;
        case 's': add_string(&l, c, i); break;
        case 'o': add_answer(&l, c, i, e); break;
        default: add(&l, "%u", arg32(c, i)); break;
        }
        i += *p == 'v' || *p == 's' ? 2 : 1;
    }
    if (e == WASI_EXIT)
        add(&l, ") does not return");
    else
        add(&l, ") = %s", e ? wasi_errno_name(e) : "0");
    c->w->host.trace(c->w->host.ctx, l.text);
}

enum wasi_call_result wasi_call(struct wasi *w, enum wasi_abi abi, uint32_t index, uint8_t *memory,
                                uint64_t memory_size, const uint64_t *args, uint32_t *result) {
    struct call c = {w, abi, memory, memory_size, args};
    if (w->host.turn) w->host.turn(w->host.ctx);
    wasi_errno e = w->exited ? WASI_EXIT : handlers[index](&c);
    if (w->host.trace) trace(&c, index, e);
    if (e == WASI_EXIT) return WASI_CALL_EXIT;
    if (e == WASI_INTERRUPTED) {
        w->interrupted = true;
        return WASI_CALL_INTERRUPTED;
    }
    *result = e < WASI_ERRNO_COUNT ? e : WASI_EIO; /* a provider's mistake must not become the guest's */
    return WASI_CALL_RETURN;
}
