/* wasm.h and donjon/wasm.h: traps, exceptions and backtraces. */
#include "capi.h"
#include "debug.h"
#include "heap.h"
#include "text.h"

#include <stdlib.h>

#define SAME(name) _Static_assert((int)DONJON_##name == (int)name, "trap kinds are numbered alike")
SAME(TRAP_UNREACHABLE);
SAME(TRAP_MEMORY);
SAME(TRAP_TABLE);
SAME(TRAP_NULL_EXN);
SAME(TRAP_STACK);
SAME(TRAP_FUEL);
SAME(TRAP_INTERRUPT);
SAME(TRAP_WALL);
SAME(TRAP_OUT_OF_MEMORY);
SAME(TRAP_UNKNOWN_IMPORT);
SAME(TRAP_HOST);
SAME(TRAP_EXCEPTION);
SAME(TRAP_CAST);

/* ---- making traps ---- */

/* Never NULL: a trap that could not be made would look like success. */
wasm_trap_t *trap_make(wasm_store_t *s, enum donjon_trap_kind kind, const char *message, size_t size) {
    char *copy = message ? malloc(size + 1) : NULL;
    wasm_ref_t *r = message && !copy ? NULL : ref_new(s, REF_TRAP, NULL);
    if (!r) {
        free(copy);
        return (wasm_trap_t *)ref_retain(&s->out_of_memory);
    }
    r->trap = (struct trap_info){.kind = kind, .message = copy};
    if (copy) {
        memcpy(copy, message, size);
        copy[size] = 0;
    }
    return (wasm_trap_t *)r;
}

void trap_info_free(wasm_ref_t *r) {
    free(r->trap.message);
    free(r->trap.frames);
    if (r->trap.exn) heap_unpin(r->store->store->heap, r->trap.exn);
}

wasm_trap_t *trap_text(wasm_store_t *s, const char *message) {
    return trap_make(s, DONJON_TRAP_HOST, message, strlen(message));
}

wasm_trap_t *wasm_trap_new(wasm_store_t *s, const wasm_message_t *message) {
    size_t size = message->size;
    while (size && !message->data[size - 1])
        size--; /* its NUL */
    return trap_make(s, DONJON_TRAP_HOST, size ? message->data : "", size);
}

wasm_trap_t *donjon_trap_new_exit(wasm_store_t *s, int32_t status) {
    wasm_trap_t *t = trap_make(s, DONJON_TRAP_EXIT, NULL, 0);
    ((wasm_ref_t *)t)->trap.exit_status = status;
    return t;
}

static wasm_trap_t *trap_exception(wasm_store_t *s, struct exn *x) {
    wasm_trap_t *t = trap_make(s, DONJON_TRAP_EXCEPTION, NULL, 0);
    wasm_ref_t *r = (wasm_ref_t *)t;
    if (r == &s->out_of_memory) return t;
    heap_pin(s->store->heap, x);
    r->trap.exn = x;
    return t;
}

wasm_trap_t *donjon_trap_new_exception(wasm_store_t *s, const donjon_tag_t *tag, const wasm_val_vec_t *payload) {
    struct tag *t = as_ref(tag)->tag;
    const struct functype *f = type_func(s->store->engine, t->type_id);
    struct exn *x = heap_new_exn(s->store->heap, t);
    if (!x) return trap_make(s, DONJON_TRAP_OUT_OF_MEMORY, NULL, 0);
    slot *at = x->payload;
    for (uint32_t i = 0; i < f->n_params; at += vt_slots(f->params[i]), i++) {
        if (payload->size != f->n_params || !slot_from_val(s, f->params[i], &payload->data[i], at))
            return trap_text(s, "exception's payload is of other types than its tag's");
    }
    return trap_exception(s, x);
}

/* ---- between calls and traps ---- */

static void trap_add_frames(struct trap_info *t, const struct trap *from) {
    t->n_frames_total += from->n_frames_total;
    size_t n = from->n_frames;
    if (n > BACKTRACE_MAX - t->n_frames) n = BACKTRACE_MAX - t->n_frames;
    struct frame_info *frames = n ? realloc(t->frames, (t->n_frames + n) * sizeof *frames) : NULL;
    if (!frames) return;
    memcpy(frames + t->n_frames, from->frames, n * sizeof *frames);
    t->frames = frames;
    t->n_frames += n;
}

wasm_trap_t *trap_from_call(wasm_store_t *s, enum trap_kind kind) {
    if (kind == TRAP_NONE) return NULL;
    struct trap *from = &s->store->trap;
    wasm_ref_t *r;
    if (kind == TRAP_HOST && from->host) {
        r = from->host; /* the host function's own trap, passed on */
        from->host = NULL;
    } else if (kind == TRAP_EXCEPTION) {
        r = (wasm_ref_t *)trap_exception(s, s->store->thrown);
        s->store->thrown = NULL;
    } else {
        const char *message = from->message[0] ? from->message : NULL;
        r = (wasm_ref_t *)trap_make(s, (enum donjon_trap_kind)kind, message, message ? strlen(message) : 0);
    }
    if (r != &s->out_of_memory) trap_add_frames(&r->trap, from);
    from->n_frames = from->n_frames_total = 0; /* they are in the trap object now, which may be raised again */
    return (wasm_trap_t *)r;
}

enum trap_kind trap_raise(struct store *s, wasm_trap_t *t) {
    wasm_ref_t *r = (wasm_ref_t *)t;
    if (r->trap.exn) {
        s->thrown = r->trap.exn;
        ref_release(r);
        return TRAP_EXCEPTION;
    }
    s->trap.host = r;
    return TRAP_HOST;
}

/* ---- what a trap says ---- */

static const struct trap_info *trap_of(const wasm_trap_t *t) {
    return &as_ref(t)->trap;
}

static const char *message_of(const struct trap_info *t) {
    if (t->message) return t->message;
    if (t->kind == DONJON_TRAP_EXIT) return "exit";
    if (t->kind == DONJON_TRAP_LINK) return "link error";
    return trap_message((enum trap_kind)t->kind);
}

enum donjon_trap_kind donjon_trap_kind(const wasm_trap_t *t) {
    return trap_of(t)->kind;
}

bool donjon_trap_exit_status(const wasm_trap_t *t, int32_t *status) {
    if (trap_of(t)->kind != DONJON_TRAP_EXIT) return false;
    *status = trap_of(t)->exit_status;
    return true;
}

void wasm_trap_message(const wasm_trap_t *t, wasm_message_t *out) {
    const char *message = message_of(trap_of(t));
    wasm_byte_vec_new(out, strlen(message) + 1, message);
}

bool donjon_trap_exception(const wasm_trap_t *t, donjon_tag_t **tag, wasm_val_vec_t *payload) {
    wasm_store_t *s = as_ref(t)->store;
    const struct exn *x = trap_of(t)->exn;
    if (!x) return false;
    if (tag) *tag = (donjon_tag_t *)ref_of(s, REF_TAG, x->tag, &x->tag->user);
    if (!payload) return true;
    const struct functype *f = type_func(s->store->engine, x->tag->type_id);
    const slot *at = x->payload;
    wasm_val_vec_new_uninitialized(payload, f->n_params);
    for (uint32_t i = 0; i < payload->size; at += vt_slots(f->params[i]), i++)
        val_from_slot(s, f->params[i], at, &payload->data[i]);
    return true;
}

/* ---- frames ---- */

struct wasm_frame_t {
    wasm_store_t *store;
    struct frame_info info;
};

static wasm_frame_t *frame_make(wasm_store_t *s, const struct frame_info *info) {
    wasm_frame_t *f = malloc(sizeof *f);
    if (!f) return NULL;
    *f = (wasm_frame_t){s, *info};
    s->refs++;
    return f;
}

wasm_frame_t *wasm_frame_copy(const wasm_frame_t *f) {
    return frame_make(f->store, &f->info);
}

void wasm_frame_delete(wasm_frame_t *f) {
    if (!f) return;
    store_release(f->store);
    free(f);
}

struct wasm_instance_t *wasm_frame_instance(const wasm_frame_t *f) {
    struct instance *i = (struct instance *)f->info.instance;
    wasm_ref_t *r = ref_of(f->store, REF_INSTANCE, i, &i->user);
    ref_release(r); /* borrowed: the handle stays until the store goes */
    return (wasm_instance_t *)r;
}

uint32_t wasm_frame_func_index(const wasm_frame_t *f) {
    return f->info.func;
}
size_t wasm_frame_module_offset(const wasm_frame_t *f) {
    return f->info.offset;
}
size_t wasm_frame_func_offset(const wasm_frame_t *f) {
    const struct module *m = f->info.instance->module;
    return f->info.offset - m->bodies[f->info.func - m->n_func_imports].offset;
}

wasm_frame_t *wasm_trap_origin(const wasm_trap_t *t) {
    return trap_of(t)->n_frames ? frame_make(as_ref(t)->store, trap_of(t)->frames) : NULL;
}

void wasm_trap_trace(const wasm_trap_t *t, wasm_frame_vec_t *out) {
    wasm_frame_vec_new_uninitialized(out, trap_of(t)->n_frames);
    for (size_t i = 0; i < out->size; i++)
        out->data[i] = frame_make(as_ref(t)->store, &trap_of(t)->frames[i]);
}

size_t donjon_trap_frames(const wasm_trap_t *t, size_t *total) {
    if (total) *total = trap_of(t)->n_frames_total;
    return trap_of(t)->n_frames;
}

static bool print_name(const struct module *m, uint32_t func, char *out, size_t size) {
    struct text t = {.out = out, .size = size};
    struct bytes name = module_func_name(m, func);
    if (name.size)
        text_foreign(&t, name.data, name.size, size);
    else
        text_format(&t, "func[%u]", func);
    return name.size;
}

bool donjon_module_func_name(const wasm_module_t *module, uint32_t func, char *out, size_t size) {
    return print_name(as_ref(module)->module, func, out, size);
}

static void frame_describe(const struct frame_info *f, struct donjon_frame_info *out) {
    *out = (struct donjon_frame_info){.func = f->func, .offset = f->offset};
    print_name(f->instance->module, f->func, out->name, sizeof out->name);
    out->line = debug_line(f->instance->module, f->offset, out->file, sizeof out->file);
}

void donjon_frame_info(const wasm_frame_t *f, struct donjon_frame_info *out) {
    frame_describe(&f->info, out);
}

bool donjon_trap_frame(const wasm_trap_t *t, size_t n, struct donjon_frame_info *out) {
    if (n >= trap_of(t)->n_frames) return false;
    frame_describe(&trap_of(t)->frames[n], out);
    return true;
}

void donjon_trap_print(const wasm_trap_t *trap, void (*line)(void *ctx, const char *text), void *ctx) {
    const struct trap_info *t = trap_of(trap);
    char buffer[640];
    struct text text = {.out = buffer, .size = sizeof buffer};
    text_format(&text, "trap: %s", message_of(t));
    line(ctx, buffer);
    for (size_t n = 0; n < t->n_frames; n++) {
        struct donjon_frame_info f;
        frame_describe(&t->frames[n], &f);
        text.used = 0;
        text_format(&text, "%s%u: %s (module+0x%x)", n < 10 ? "  " : " ", (unsigned)n, f.name, (unsigned)f.offset);
        if (f.line) text_format(&text, " at %s:%u", f.file, f.line);
        line(ctx, buffer);
    }
    if (t->n_frames == t->n_frames_total) return;
    text.used = 0;
    text_format(&text, "  ... %llu more", (unsigned long long)(t->n_frames_total - t->n_frames));
    line(ctx, buffer);
}
