/* Stores, small objects, and calls from outside. */
#include "objects.h"
#include "heap.h"
#include "interp.h"
#include "native/native.h"

#include <string.h>

/* ---- the store's own memory ---- */

struct arena_chunk {
    struct arena_chunk *next;
    size_t used, size;
    uint64_t data[];
};

enum { ARENA_CHUNK = 16 << 10 };

static struct arena_chunk *arena_add(struct store *s, size_t size) {
    struct store_objects *o = s->objects;
    struct arena_chunk *c = engine_realloc(s->engine, NULL, sizeof *c + size);
    if (!c) return NULL;
    *c = (struct arena_chunk){.size = size};
    /* A chunk made for one big object goes behind the open one, whose rest stays usable. */
    if (o->chunks && size > ARENA_CHUNK) {
        c->next = o->chunks->next;
        o->chunks->next = c;
    } else {
        c->next = o->chunks;
        o->chunks = c;
    }
    return c;
}

void *store_alloc(struct store *s, size_t size) {
    if (size > SIZE_MAX / 2) return NULL;
    size = (size + 7) & ~(size_t)7;
    struct arena_chunk *c = s->objects->chunks;
    if (!c || size > c->size - c->used) c = arena_add(s, size > ARENA_CHUNK / 4 ? size : ARENA_CHUNK);
    if (!c) return NULL;
    void *p = (uint8_t *)c->data + c->used;
    c->used += size;
    return memset(p, 0, size);
}

bool object_list_add(struct store *s, struct object_list *l, void *object) {
    if (l->n == l->capacity) {
        size_t capacity = l->capacity ? 2 * l->capacity : 8;
        void **items = engine_realloc(s->engine, l->items, capacity * sizeof *items);
        if (!items) return false;
        l->items = items;
        l->capacity = capacity;
    }
    l->items[l->n++] = object;
    return true;
}

static void object_list_free(struct store *s, struct object_list *l) {
    engine_realloc(s->engine, l->items, 0);
}

/* ---- store ---- */

static struct store_limits limits_with_defaults(const struct store_limits *given) {
    struct store_limits l = given ? *given : (struct store_limits){0};
    if (!l.memory_bytes) l.memory_bytes = 4ull << 30;
    if (!l.table_elems) l.table_elems = 10000000;
    if (!l.stack_bytes) l.stack_bytes = 16 << 20;
    if (!l.call_depth) l.call_depth = 100000;
    if (!l.heap_bytes) l.heap_bytes = 256 << 20;
    return l;
}

struct store *store_new(struct engine *e, const struct store_limits *limits) {
    struct store *s = engine_realloc(e, NULL, sizeof *s);
    if (!s) return NULL;
    *s = (struct store){.engine = e, .limits = limits_with_defaults(limits)};
    s->fuel = s->limits.fuel;
    s->objects = engine_realloc(e, NULL, sizeof *s->objects);
    if (s->objects) *s->objects = (struct store_objects){0};
    s->heap = s->objects ? heap_new(s) : NULL;
    s->interp = s->heap ? interp_new(s) : NULL;
    if (s->interp && !s->limits.interpret) s->native = native_new(s);
    if (s->interp) return s;
    store_delete(s);
    return NULL;
}

static void objects_delete(struct store *s) {
    struct store_objects *o = s->objects;
    for (size_t n = 0; n < o->instances.n; n++) {
        struct instance *i = o->instances.items[n];
        interp_free_code(s, i);
        module_unref(i->module);
    }
    for (size_t n = 0; n < o->memories.n; n++)
        memory_free(s, o->memories.items[n]);
    for (size_t n = 0; n < o->tables.n; n++)
        table_free(s, o->tables.items[n]);
    for (size_t n = 0; n < o->host_funcs.n; n++) {
        struct func *f = o->host_funcs.items[n];
        f->host.finalize(f->host.env);
    }
    object_list_free(s, &o->instances);
    object_list_free(s, &o->memories);
    object_list_free(s, &o->tables);
    object_list_free(s, &o->ref_globals);
    object_list_free(s, &o->host_funcs);
    for (struct arena_chunk *c = o->chunks, *next; c; c = next) {
        next = c->next;
        engine_realloc(s->engine, c, 0);
    }
    engine_realloc(s->engine, o, 0);
}

void store_delete(struct store *s) {
    if (!s) return;
    native_quiet(s->native);
    if (s->heap) heap_delete(s->heap);
    if (s->objects) objects_delete(s);
    if (s->interp) interp_delete(s->interp);
    native_delete(s->native);
    engine_realloc(s->engine, s, 0);
}

void store_interrupt(struct store *s) {
    atomic_store_explicit(&s->interrupt, 1, memory_order_relaxed);
    if (s->native) native_interrupt(s->native);
}

enum trap_kind store_attend_call(struct store *s) {
    if (!s->attend) return TRAP_INTERRUPT;
    s->nesting += STORE_MAX_NESTING; /* it cannot call in */
    bool go_on = s->attend(s->attend_ctx);
    s->nesting -= STORE_MAX_NESTING;
    return go_on ? TRAP_NONE : TRAP_INTERRUPT;
}

enum trap_kind store_attend(struct store *s) {
    if (s->attend && s->native)
        native_clear_interrupt(s->native);
    else if (s->attend)
        atomic_store(&s->interrupt, 0); /* before the call: what comes from now on leads to another */
    return store_attend_call(s);
}

/* ---- small objects ---- */

struct func *func_new_host(struct store *s, uint32_t type_id, host_callback cb, void *env, void (*finalize)(void *)) {
    struct func *f = store_alloc(s, sizeof *f);
    if (!f) return NULL;
    f->kind = FUNC_HOST;
    f->type_id = type_id;
    f->store = s;
    f->host.callback = cb;
    f->host.env = env;
    f->host.finalize = finalize;
    native_host_func(f);
    if (finalize && !object_list_add(s, &s->objects->host_funcs, f)) return NULL;
    return f;
}

bool type_may_be_collected(const struct engine *e, valtype t) {
    if (!vt_is_ref(t)) return false;
    if (vt_concrete(t)) return type_get(e, vt_type_id(t))->kind != COMP_FUNC;
    return vt_heap(t) != HEAP_FUNC && vt_heap(t) != HEAP_NOFUNC;
}

struct global *global_new(struct store *s, const struct globaltype *t, const slot value[2]) {
    struct global *g = store_alloc(s, sizeof *g);
    if (!g) return NULL;
    g->type = *t;
    memcpy(g->value, value, vt_slots(t->type) * sizeof *value);
    if (type_may_be_collected(s->engine, t->type) && !object_list_add(s, &s->objects->ref_globals, g)) return NULL;
    return g;
}

struct tag *tag_new(struct store *s, uint32_t type_id) {
    struct tag *t = store_alloc(s, sizeof *t);
    if (t) t->type_id = type_id;
    return t;
}

/* ---- calls from outside ---- */

static void set_deadline(struct store *s) {
    const struct donjon_platform *p = s->engine->platform;
    s->deadline = s->limits.wall_ns ? p->now(p->ctx) + s->limits.wall_ns : 0;
}

enum trap_kind func_call(struct func *f, slot *args) {
    struct store *s = f->store;
    s->trap.kind = TRAP_NONE;
    s->trap.message[0] = 0;
    s->trap.host = NULL;
    s->trap.n_frames = s->trap.n_frames_total = 0;
    s->thrown = NULL;
    if (s->nesting >= STORE_MAX_NESTING) return s->trap.kind = TRAP_STACK;
    if (!s->nesting) set_deadline(s);

    s->nesting++;
    /* A wall-time limit is kept by looking at the clock now and then, which only the interpreter does. */
    enum trap_kind kind = f->kind == FUNC_HOST              ? f->host.callback(f->host.env, s, NULL, args)
                          : s->native && !s->limits.wall_ns ? native_call(s->native, f, args)
                                                            : interp_call(s->interp, f, args);
    s->nesting--;

    if (kind == TRAP_INTERRUPT) atomic_store_explicit(&s->interrupt, 0, memory_order_relaxed);
    return s->trap.kind = kind;
}

const char *trap_message(enum trap_kind kind) {
    static const char *const messages[] = {
        [TRAP_NONE] = "no trap",
        [TRAP_UNREACHABLE] = "unreachable",
        [TRAP_MEMORY] = "out of bounds memory access",
        [TRAP_TABLE] = "out of bounds table access",
        [TRAP_TABLE_ELEM] = "undefined element",
        [TRAP_NULL_ELEM] = "uninitialized element",
        [TRAP_INDIRECT_TYPE] = "indirect call type mismatch",
        [TRAP_DIV_ZERO] = "integer divide by zero",
        [TRAP_INT_OVERFLOW] = "integer overflow",
        [TRAP_INT_CONVERSION] = "invalid conversion to integer",
        [TRAP_NULL_REF] = "null reference",
        [TRAP_NULL_FUNC] = "null function reference",
        [TRAP_NULL_EXN] = "null exception reference",
        [TRAP_STACK] = "call stack exhausted",
        [TRAP_FUEL] = "all fuel consumed",
        [TRAP_INTERRUPT] = "interrupted",
        [TRAP_WALL] = "wall time limit reached",
        [TRAP_OUT_OF_MEMORY] = "out of memory",
        [TRAP_UNKNOWN_IMPORT] = "unknown import called",
        [TRAP_HOST] = "host function failed",
        [TRAP_EXCEPTION] = "uncaught exception",
        [TRAP_NULL_STRUCT] = "null structure reference",
        [TRAP_NULL_ARRAY] = "null array reference",
        [TRAP_NULL_I31] = "null i31 reference",
        [TRAP_ARRAY] = "out of bounds array access",
        [TRAP_CAST] = "cast failure",
    };
    return messages[kind];
}
