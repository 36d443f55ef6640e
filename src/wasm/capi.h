/* What the files that implement wasm.h and donjon/wasm.h share.
 *
 * The API layer is the one part of the engine that uses malloc: types and vectors belong to no engine, so there is no
 * platform to ask. Every reference of the API is a struct wasm_ref_t, whatever its name there; there is one for each
 * object of the store (object->user), made when first asked for. */
#ifndef DONJON_WASM_CAPI_H
#define DONJON_WASM_CAPI_H

#include "objects.h"
#include "donjon/wasm.h"

struct wasm_config_t {
    const struct donjon_platform *platform;
};

struct wasm_engine_t {
    struct engine *engine;
    _Atomic uint32_t refs; /* the embedder's, one a store, one a shared module */
};

enum ref_kind {
    REF_FUNC,
    REF_GLOBAL,
    REF_TABLE,
    REF_MEMORY,
    REF_TAG,
    REF_INSTANCE,
    REF_MODULE,
    REF_TRAP,
    REF_FOREIGN,
    REF_EXN,
    REF_OTHER /* structures, arrays and i31: `any` is the slot's value, pinned */
};

struct trap_info {
    enum donjon_trap_kind kind;
    int32_t exit_status;
    char *message;   /* malloc; NULL: the kind's own */
    struct exn *exn; /* pinned */
    size_t n_frames, n_frames_total;
    struct frame_info *frames; /* malloc */
};

struct wasm_ref_t {
    enum ref_kind kind;
    bool escaped;  /* wasm may hold it as an externref: stays until the store goes */
    uint32_t refs; /* the embedder's; each keeps the store */
    wasm_store_t *store;
    wasm_ref_t *next; /* of the store's list */
    void *host_info;
    void (*finalize)(void *);
    union {
        struct func *func;
        struct global *global;
        struct table *table;
        struct memory *memory;
        struct tag *tag;
        struct instance *instance;
        struct module *module;
        struct exn *exn;
        struct trap_info trap;
        void *any;
    };
};

struct wasm_store_t {
    struct store *store;
    wasm_engine_t *engine;
    uint32_t refs;            /* the embedder's, and one for each referenced handle */
    wasm_ref_t *handles;      /* those that stay until the store goes */
    wasm_ref_t out_of_memory; /* the trap that needs no memory */
};

/* Every extern type is one of these: casts between them are free. */
struct extern_type {
    wasm_externkind_t kind;
    wasm_mutability_t mutability;
    wasm_valtype_t *content;            /* of a global, of a table */
    wasm_valtype_vec_t params, results; /* of a function, of a tag */
    wasm_limits_t limits32;
    struct donjon_limits64 limits;
};

struct wasm_valtype_t {
    wasm_valkind_t kind;
    valtype type;
};

/* Types: engine to API. NULL: out of memory. */
wasm_valkind_t valkind_of(const struct engine *e, valtype t);
wasm_externtype_t *externtype_func(const struct engine *e, uint32_t type_id, wasm_externkind_t kind);
wasm_externtype_t *externtype_global(const struct engine *e, const struct globaltype *t);
wasm_externtype_t *externtype_table(const struct engine *e, const struct tabletype *t);
wasm_externtype_t *externtype_memory(const struct limits *l);
/* and back; TYPE_NONE: out of memory */
uint32_t functype_id(struct engine *e, const wasm_functype_t *t);
struct limits limits_from(const struct donjon_limits64 *l);

/* References. */
wasm_ref_t *ref_of(wasm_store_t *s, enum ref_kind kind, void *object, void **user); /* owned by the caller */
wasm_ref_t *ref_retain(wasm_ref_t *r);                                              /* gives r */
void ref_release(wasm_ref_t *r);
wasm_ref_t *ref_new(wasm_store_t *s, enum ref_kind kind, void *object); /* a handle of its own, not the object's */
void ref_keep(wasm_ref_t *r);                                           /* the handle stays until the store goes */
wasm_ref_t *ref_extern(wasm_store_t *s, struct extern_ x);
struct extern_ extern_from(const wasm_ref_t *r);
void store_release(wasm_store_t *s);
wasm_engine_t *engine_retain(wasm_engine_t *e);
static inline const wasm_ref_t *as_ref(const void *handle) {
    return handle;
}

/* Values. */
wasm_ref_t *ref_from_slot(wasm_store_t *s, wasm_valkind_t kind, slot v);
bool slot_from_val(wasm_store_t *s, valtype t, const wasm_val_t *v, slot *out); /* false: does not fit */
bool ref_fits(wasm_store_t *s, valtype t, wasm_ref_t *r, slot *out);            /* likewise */
void val_from_slot(wasm_store_t *s, valtype t, const slot *v, wasm_val_t *out);

/* Traps. */
wasm_trap_t *trap_make(wasm_store_t *s, enum donjon_trap_kind kind, const char *message, size_t size);
wasm_trap_t *trap_text(wasm_store_t *s, const char *message);      /* of kind host */
wasm_trap_t *trap_from_call(wasm_store_t *s, enum trap_kind kind); /* after func_call; NULL for TRAP_NONE */
enum trap_kind trap_raise(struct store *s, wasm_trap_t *t);        /* from a host function; takes t */
void trap_info_free(wasm_ref_t *r);

wasm_instance_t *instance_make(wasm_store_t *s, struct module *m, const struct extern_ *imports,
                               enum unknown_import unknown, wasm_trap_t **trap);

#endif
