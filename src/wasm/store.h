/* Run-time objects (specification, section 4.2): functions, tables, memories, globals, tags and instances in a store.
 *
 * Everything here belongs to one store and is freed with it, as the specification's allocation model has it: instances
 * refer to each other freely, so no object is freed alone. Only exceptions, structures and arrays live in a collected
 * heap (heap.h). A store is used by one thread at a time; `store_interrupt` alone may be called from another. */
#ifndef DONJON_WASM_STORE_H
#define DONJON_WASM_STORE_H

#include "module.h"
#include <stdatomic.h>

struct store;
struct instance;
struct func;
struct exn;

/* A slot of a frame, a table or an argument array: 8 bytes, little-endian, v128 takes two. A reference is a pointer,
 * null 0: funcref struct func *, exnref struct exn *, anyref and externref as heap.h says. i32 and f32 use the low
 * four bytes; the high four are then undefined. */
typedef union slot {
    uint64_t i64; /* first, so that {0} is null and not only half of it */
    uint32_t i32;
    float f32;
    double f64;
    void *ref;
    struct func *func;
    struct exn *exn;
} slot;

enum trap_kind {
    TRAP_NONE,
    TRAP_UNREACHABLE,
    TRAP_MEMORY,         /* out of bounds memory access */
    TRAP_TABLE,          /* out of bounds table access */
    TRAP_TABLE_ELEM,     /* undefined element */
    TRAP_NULL_ELEM,      /* uninitialized element */
    TRAP_INDIRECT_TYPE,  /* indirect call type mismatch */
    TRAP_DIV_ZERO,       /* integer divide by zero */
    TRAP_INT_OVERFLOW,   /* integer overflow */
    TRAP_INT_CONVERSION, /* invalid conversion to integer */
    TRAP_NULL_REF,       /* null reference */
    TRAP_NULL_FUNC,      /* null function reference */
    TRAP_NULL_EXN,       /* null exception reference */
    TRAP_STACK,          /* call stack exhausted */
    TRAP_FUEL,           /* all fuel consumed */
    TRAP_INTERRUPT,      /* interrupted */
    TRAP_WALL,           /* wall time limit reached */
    TRAP_OUT_OF_MEMORY,  /* the engine's own allocation failed */
    TRAP_UNKNOWN_IMPORT, /* an import that nobody provided was called */
    TRAP_HOST,           /* a host function failed: message in store->trap.message */
    TRAP_EXCEPTION,      /* not a trap: an exception is on its way up, store->thrown */
    TRAP_NULL_STRUCT,    /* null structure reference */
    TRAP_NULL_ARRAY,     /* null array reference */
    TRAP_NULL_I31,       /* null i31 reference */
    TRAP_ARRAY,          /* out of bounds array access */
    TRAP_CAST,           /* cast failure */
};
const char *trap_message(enum trap_kind kind); /* the specification's wording, as its tests expect it */

struct memory {
    uint8_t *base;
    uint64_t size;      /* bytes, always whole pages */
    uint64_t max;       /* pages: what the type and the store's limits allow */
    uint64_t reserved;  /* bytes of address space behind base */
    struct limits type; /* as declared; min follows growth for import matching */
    void *user;         /* the embedder's, here and below: its handle on the object */
};

struct table {
    slot *elems;
    uint64_t size, capacity, max;
    struct tabletype type;
    void *user;
};

struct global {
    slot value[2];
    struct globaltype type;
    void *user;
};

struct tag {
    uint32_t type_id;
    void *user;
};

/* A host function: arguments in args[0..param_slots), results to be left in args[0..result_slots) of the same array
 * (it has room for the larger of the two). TRAP_NONE for success; TRAP_HOST with store->trap.message filled;
 * TRAP_EXCEPTION after store->thrown was set. */
typedef enum trap_kind (*host_callback)(void *env, struct store *s, struct instance *caller, slot *args);

enum func_kind { FUNC_WASM, FUNC_HOST };

struct func {
    enum func_kind kind;
    uint32_t type_id;
    struct store *store;
    void *native;     /* native code: entry; a stub until compiled, and for host functions */
    struct vmctx *vm; /* its instance's context; NULL for host functions */
    void *user;
    union {
        struct {
            struct instance *instance;
            uint32_t index;       /* in the module's function index space */
            uint32_t frame_slots; /* interpreter: slots of the frame, 0 until translated */
            void *code;           /* interpreter: entry of the translated body; starts as the translating stub */
        } wasm;
        struct {
            host_callback callback;
            void *env;
            void (*finalize)(void *env);
        } host;
    };
};

struct instance {
    struct store *store;
    struct module *module;
    struct memory *memory0; /* first of memories, or NULL: hot */
    struct func **funcs;    /* every array in index-space order, imports first */
    struct table **tables;
    struct memory **memories;
    struct global **globals;
    struct tag **tags;
    bool *elem_dropped; /* segments dropped by elem.drop / data.drop or after an active start */
    bool *data_dropped;
    slot **elem_values; /* evaluated passive and declarative segments, NULL until needed */
    void *user;         /* the embedder's */
};

struct frame_info { /* one line of a backtrace, innermost first */
    const struct instance *instance;
    uint32_t func;
    uint32_t offset; /* in the module's bytes: the instruction that was executing */
};
#define BACKTRACE_MAX 64

/* func_call empties it; whoever detects the trap sets kind and message, the tier that unwinds adds the frames. */
struct trap {
    enum trap_kind kind;
    char message[160]; /* TRAP_HOST, TRAP_UNKNOWN_IMPORT: what happened; else empty */
    void *host;        /* TRAP_HOST: the embedder's own trap object, or NULL */
    uint32_t n_frames, n_frames_total;
    struct frame_info frames[BACKTRACE_MAX];
};

struct store_limits {      /* 0: the default named here */
    uint64_t memory_bytes; /* all memories together; 4 GiB */
    uint64_t table_elems;  /* all tables together; 10 million */
    uint64_t stack_bytes;  /* the interpreter's value stack; 16 MiB */
    uint32_t call_depth;   /* frames; 100,000 */
    uint64_t heap_bytes;   /* structures, arrays, exceptions, host references; 256 MiB */
    uint64_t fuel;         /* with fuel_enabled: units to start with */
    bool fuel_enabled;
    bool interpret;       /* no native code */
    bool explicit_checks; /* native code that needs no memory faults */
    unsigned helpers;     /* threads that compile functions before they are called */
    uint64_t wall_ns;     /* nanoseconds of wall time per outermost call; 0 none */
};

struct store {
    struct engine *engine;
    struct store_limits limits;
    _Atomic uint32_t interrupt; /* set by store_interrupt, looked at on loops and calls */
    bool (*attend)(void *ctx);  /* what an interrupt calls, NULL: it is a trap. False: a trap after all */
    void *attend_ctx;
    uint64_t fuel;
    uint64_t deadline;     /* platform->now at which the running outermost call has to stop (TRAP_WALL); 0 none */
    uint32_t nesting;      /* calls from outside that are running: a host function may call back in */
    struct trap trap;      /* of the last call that failed */
    struct exn *thrown;    /* with TRAP_EXCEPTION */
    struct heap *heap;     /* heap.h */
    struct native *native; /* native/native.h: NULL when this store interprets */
    struct interp *interp; /* interp.h: value stack, frames; one a store */
    struct store_objects *objects; /* store.c: everything to be freed */
    void *user;
};

struct engine {
    const struct donjon_platform *platform;
    struct type_registry *types;
};

struct engine *engine_new(const struct donjon_platform *p); /* NULL: out of memory */
void engine_delete(struct engine *e);
struct store *store_new(struct engine *e, const struct store_limits *limits); /* NULL: out of memory */
void store_delete(struct store *s);
void store_interrupt(struct store *s); /* from any thread, from a signal handler */
/* For the tiers, which have seen the interrupt: spends it on store->attend. TRAP_NONE: on with the program, beyond the
 * place where it was seen, so that it gets on even when there is an interrupt after the other. */
enum trap_kind store_attend(struct store *s);
enum trap_kind store_attend_call(struct store *s); /* the same, where the interrupt is spent already */

/* Objects. NULL when a limit or memory stands in the way. */
struct func *func_new_host(struct store *s, uint32_t type_id, host_callback cb, void *env, void (*finalize)(void *));
struct table *table_new(struct store *s, const struct tabletype *t, slot init);
struct memory *memory_new(struct store *s, const struct limits *t);
struct global *global_new(struct store *s, const struct globaltype *t, const slot value[2]);
struct tag *tag_new(struct store *s, uint32_t type_id);

/* Growing: the old size in pages/elements, or UINT64_MAX. A memory's base may never move (native code keeps it). */
uint64_t memory_grow(struct store *s, struct memory *m, uint64_t delta_pages);
uint64_t table_grow(struct store *s, struct table *t, uint64_t delta, slot init);

struct extern_ {
    enum externkind kind;
    union {
        struct func *func;
        struct table *table;
        struct memory *memory;
        struct global *global;
        struct tag *tag;
        void *any; /* NULL: nobody provides this import */
    };
};

/* What becomes of an imported function whose extern is NULL: its import is refused; it traps when called; it returns
 * zeros and nulls (refused all the same where a result has no default value). */
enum unknown_import { UNKNOWN_REFUSED, UNKNOWN_TRAPS, UNKNOWN_RETURNS };

/* Instantiation (section 4.7.2). `imports` in the module's order; every missing import is named in `err`, all at once.
 * NULL on failure: `err` says link error or trap (then store->trap has it). Runs the start function. */
enum instantiate_failure { INSTANTIATE_LINK, INSTANTIATE_TRAP, INSTANTIATE_MEMORY };
struct instantiate_error {
    enum instantiate_failure what;
    enum trap_kind trap;
    char *message; /* from platform->realloc, to be freed by the caller (NULL: no memory even for this); may be long:
                      one line per missing import */
};
struct instance *instantiate(struct store *s, struct module *m, const struct extern_ *imports,
                             enum unknown_import unknown, struct instantiate_error *err);

struct extern_ instance_extern(const struct instance *i, enum externkind kind, uint32_t index);
/* Finds an export; kind and pointer, or {0,NULL}. */
struct extern_ instance_export(const struct instance *i, const char *name, size_t len);

/* Calls any function from outside. args: param_slots in, result_slots out, room for the larger.
 * TRAP_NONE, or the trap (store->trap filled with its backtrace), or TRAP_EXCEPTION (store->thrown). */
enum trap_kind func_call(struct func *f, slot *args);

/* The operations instructions and instantiation share; `true` or a trap kind is decided by the caller's table in
 * store.c. */
enum trap_kind table_init(struct instance *i, uint32_t elem, struct table *t, uint64_t dst, uint64_t src, uint64_t n);
enum trap_kind memory_init(struct instance *i, uint32_t data, struct memory *m, uint64_t dst, uint64_t src, uint64_t n);
enum trap_kind table_copy(struct table *dst, struct table *src, uint64_t d, uint64_t s, uint64_t n);
enum trap_kind table_fill(struct table *t, uint64_t at, slot value, uint64_t n);
/* A passive segment's values, evaluated on first use. NULL: out of memory. */
const slot *elem_segment_values(struct instance *i, uint32_t elem);

#endif
