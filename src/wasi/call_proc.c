/* The program itself: arguments, environment, clocks, entropy, its end. */
#include "context.h"

/* Pointers to each string at parameter 0, the strings at parameter 1. */
static wasi_errno get_strings(struct call *c, const struct strings *s) {
    uint32_t at = arg32(c, 1);
    uint8_t *pointers = guest(c, arg32(c, 0), (uint64_t)s->count * 4), *bytes = guest(c, at, s->used);
    if (!pointers || !bytes) return WASI_EFAULT;
    if (s->used) memcpy(bytes, s->bytes, s->used);
    for (uint32_t i = 0, from = 0; i < s->count; i++) {
        store32(pointers + i * 4, at + from);
        from += (uint32_t)strlen(s->bytes + from) + 1;
    }
    return WASI_SUCCESS;
}

static wasi_errno get_sizes(struct call *c, const struct strings *s) {
    uint8_t *count = guest(c, arg32(c, 0), 4), *size = guest(c, arg32(c, 1), 4);
    if (!count || !size) return WASI_EFAULT;
    store32(count, s->count);
    store32(size, s->used);
    return WASI_SUCCESS;
}

wasi_errno call_args_get(struct call *c) {
    return get_strings(c, &c->w->args);
}
wasi_errno call_args_sizes_get(struct call *c) {
    return get_sizes(c, &c->w->args);
}
wasi_errno call_environ_get(struct call *c) {
    return get_strings(c, &c->w->env);
}
wasi_errno call_environ_sizes_get(struct call *c) {
    return get_sizes(c, &c->w->env);
}

wasi_errno call_clock_res_get(struct call *c) {
    uint8_t *result = guest(c, arg32(c, 1), 8);
    if (!result) return WASI_EFAULT;
    if (arg32(c, 0) >= WASI_CLOCK_COUNT) return WASI_EINVAL;
    uint64_t ns;
    wasi_errno e = c->w->host.clock_resolution(c->w->host.ctx, (enum wasi_clock)arg32(c, 0), &ns);
    if (!e) store64(result, ns);
    return e;
}

wasi_errno call_clock_time_get(struct call *c) {
    uint8_t *result = guest(c, arg32(c, 2), 8);
    if (!result) return WASI_EFAULT;
    if (arg32(c, 0) >= WASI_CLOCK_COUNT) return WASI_EINVAL;
    uint64_t ns;
    wasi_errno e = c->w->host.clock_time(c->w->host.ctx, (enum wasi_clock)arg32(c, 0), &ns);
    if (!e) store64(result, ns);
    return e;
}

wasi_errno call_random_get(struct call *c) {
    uint8_t *buf = guest(c, arg32(c, 0), arg32(c, 1));
    if (!buf) return WASI_EFAULT;
    return arg32(c, 1) ? c->w->host.random(c->w->host.ctx, buf, arg32(c, 1)) : WASI_SUCCESS;
}

wasi_errno call_sched_yield(struct call *c) {
    return c->w->host.yield ? c->w->host.yield(c->w->host.ctx) : WASI_SUCCESS;
}

static wasi_errno end(struct call *c, uint32_t code) {
    c->w->exited = true;
    c->w->exit_code = code;
    return WASI_EXIT;
}

wasi_errno call_proc_exit(struct call *c) {
    return end(c, arg32(c, 0));
}

/* No signal can be caught in WASI: raising one does what it does by default. WASI numbers them as Linux does up to
 * TERM (15), from CHLD (16) on one lower, as it has no STKFLT. */
wasi_errno call_proc_raise(struct call *c) {
    enum { NONE = 0, TERM = 15, CHLD, CONT, STOP, TSTP, TTIN, TTOU, URG, WINCH = 27, SYS = 30 };
    uint32_t signal = arg32(c, 0);
    switch (signal) {
    case NONE:
    case CHLD:
    case CONT:
    case URG:
    case WINCH: return WASI_SUCCESS;
    case STOP:
    case TSTP:
    case TTIN:
    case TTOU: return WASI_ENOTSUP; /* nobody could continue us */
    default: break;
    }
    if (signal > SYS) return WASI_EINVAL;
    return end(c, 128 + (signal > TERM ? signal + 1 : signal));
}
