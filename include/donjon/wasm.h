/* Donjon's extensions to the WebAssembly C API (wasm.h): what an embedder of a sandbox needs and the common interface
 * cannot say. The rules of wasm.h on ownership, references, threads and errors hold here, too.
 *
 * A minimal embedding:
 *
 *     wasm_engine_t *engine = wasm_engine_new();
 *     struct donjon_limits limits = {.memory_bytes = 64 << 20, .wall_ns = 2000000000};
 *     wasm_store_t *store = donjon_store_new(engine, &limits);
 *     struct donjon_module_error err;
 *     wasm_module_t *module = donjon_module_new(store, bytes, size, &err);
 *     donjon_linker_t *linker = donjon_linker_new(store);
 *     donjon_linker_define_func(linker, "env", "log", "ii:", log_callback, NULL);
 *     wasm_trap_t *trap;
 *     wasm_instance_t *instance = donjon_linker_instantiate(linker, module, &trap);
 *     wasm_func_t *run = wasm_extern_as_func(donjon_instance_export(instance, "run"));
 *     donjon_slot_t slots[2] = {{.i32 = 6}, {.i32 = 7}};
 *     trap = donjon_func_call(run, slots);   // the result is in slots[0]
 */
#ifndef DONJON_WASM_H
#define DONJON_WASM_H

#include <wasm.h>
#include <donjon/platform.h>

#ifdef __cplusplus
extern "C" {
#endif

#define own

/* ---- configuration and limits ---- */

/* The world around the engine, which must outlive it. wasm_engine_new and a fresh config mean donjon_platform_posix();
 * a program that calls donjon_engine_new only does not link that. */
own wasm_engine_t *donjon_engine_new(const struct donjon_platform *);
void donjon_config_set_platform(wasm_config_t *, const struct donjon_platform *);

/* What one store may use. 0 everywhere means the default named here. */
struct donjon_limits {
    uint64_t memory_bytes; /* all memories of the store together; default 4 GiB */
    uint64_t table_elems;  /* all tables together; default 10 million */
    uint64_t stack_bytes;  /* the stack of wasm code; default 16 MiB */
    uint32_t
        call_depth; /* nested calls in the interpreter (native code's only bound is stack_bytes); default 100,000 */
    uint64_t heap_bytes; /* exceptions and host references reachable from wasm; default 256 MiB */
    uint64_t fuel;       /* with fuel_enabled: units to start with, roughly one per instruction */
    bool fuel_enabled;
    uint64_t wall_ns; /* wall time per call from outside, nanoseconds; default none. Needs platform->now; such calls are
                       * interpreted (to limit native code, call donjon_store_interrupt from a timer) */
    bool interpret;   /* no native code: the reference interpreter */
    bool explicit_checks; /* native code that checks bounds, stack and interrupts itself, for where memory faults cannot
                           * be caught (it does so by itself when platform->on_fault is missing) */
    unsigned helpers; /* threads that compile functions before they are called, while the program runs, 16 at most;
                       * default none. Needs platform->spawn. The store's first instance has them */
};

own wasm_store_t *donjon_store_new(wasm_engine_t *, const struct donjon_limits *);

/* Stops what runs in the store with DONJON_TRAP_INTERRUPT, or the next call at once. From any thread, from a signal
 * handler. The request is spent by the trap it causes. */
void donjon_store_interrupt(wasm_store_t *);

/* Instead of that trap: an interrupt calls `attend`, on the thread that runs the wasm, between two of its instructions
 * (at the next turn of a loop, call, or end of a bulk instruction). When it says true the program goes on as if nothing
 * had been; when false it ends in DONJON_TRAP_INTERRUPT. The request is spent before the call: one that comes
 * meanwhile leads to another. `attend` may look after whatever the embedder has, but it may not use the store: a call
 * of a function fails, and objects must not be made. NULL: the trap again. Not while something runs in the store. */
typedef bool (*donjon_attend_t)(void *ctx);
void donjon_store_set_attend(wasm_store_t *, donjon_attend_t attend, void *ctx);

uint64_t donjon_store_fuel(const wasm_store_t *);
void donjon_store_set_fuel(wasm_store_t *, uint64_t units);    /* no effect unless fuel_enabled */
void donjon_store_set_wall_limit(wasm_store_t *, uint64_t ns); /* for calls from now on; 0: none */

/* Bytes in use, for reports: memories' current sizes; the collected heap's live and not yet collected objects. */
uint64_t donjon_store_memory_bytes(const wasm_store_t *);
uint64_t donjon_store_heap_bytes(const wasm_store_t *);

/* ---- more kinds of values ---- */

enum {
    DONJON_V128 = 64,      /* a valkind; its values travel in slots only, wasm_val_t has no room for them */
    DONJON_EXNREF = 130,   /* reference to an exception */
    DONJON_OTHERREF = 131, /* any and below (structures, arrays, i31): opaque, but a handle keeps what it refers to and
                              can be passed back; donjon_valtype_print tells which */
    DONJON_EXTERN_TAG = 4, /* an externkind */
};

/* "i32", "(ref null func)", "(ref 3)", ...; NUL-terminated, cut to size. Gives out. */
char *donjon_valtype_print(const wasm_valtype_t *, char *out, size_t size);
/* "(i32, i64) -> (f32)" */
char *donjon_functype_print(const wasm_functype_t *, char *out, size_t size);

/* Limits of 64-bit memories and tables; max UINT64_MAX: none. The 32-bit views of wasm.h cut these off. */
struct donjon_limits64 {
    uint64_t min, max;
    bool is64;
};
own wasm_memorytype_t *donjon_memorytype_new(const struct donjon_limits64 *);
own wasm_tabletype_t *donjon_tabletype_new(own wasm_valtype_t *element, const struct donjon_limits64 *);
struct donjon_limits64 donjon_memorytype_limits(const wasm_memorytype_t *);
struct donjon_limits64 donjon_tabletype_limits(const wasm_tabletype_t *);

uint64_t donjon_memory_size(const wasm_memory_t *); /* pages */
bool donjon_memory_grow(wasm_memory_t *, uint64_t delta_pages);

/* ---- modules ---- */

struct donjon_module_error {
    size_t offset;     /* in the binary, where the fault is */
    uint32_t func;     /* the function it is in, or UINT32_MAX */
    bool malformed;    /* the bytes are not a module at all; otherwise a module that is not valid */
    char message[192]; /* one line: what was expected, what was found */
};

/* As wasm_module_new, and says why not. `bytes` are copied once and may go afterwards. */
own wasm_module_t *donjon_module_new(wasm_store_t *, const void *bytes, size_t size, struct donjon_module_error *err);
/* Without a store, to be obtained by any number of stores. */
own wasm_shared_module_t *donjon_shared_module_new(wasm_engine_t *, const void *bytes, size_t size,
                                                   struct donjon_module_error *err);

/* The function's name from the name section into `out` (NUL-terminated, cut to size, unprintable bytes as '?'); false
 * and "func[7]" when it has none. */
bool donjon_module_func_name(const wasm_module_t *, uint32_t func, char *out, size_t size);

/* A custom section's payload by name (the first of that name): borrowed, as long as the module. */
bool donjon_module_custom_section(const wasm_module_t *, const char *name, const uint8_t **data, size_t *size);

/* ---- code ahead of time ---- */

/* Functions are compiled when they are first called. A program that is big and starts often can instead be compiled
 * once and whole, into an image that is kept in a file: position-independent machine code for this build of the engine
 * and this kind of CPU. An image is as powerful as the engine itself: give donjon_store_use_image nothing whose maker
 * has not been authenticated. It checks what would be read out of bounds, and refuses what was made by another build,
 * for another CPU, or from another module; it cannot tell whether the code does what the module says. */
enum { DONJON_ID_SIZE = 32 };

struct donjon_compile_options {
    uint8_t digest[DONJON_ID_SIZE]; /* the module's, by whatever function; asked for again when the image is used */
    bool fuel;                      /* for stores with fuel_enabled, and for no others */
    bool bounds_checks;             /* for instances whose memory has no guard pages */
    bool explicit_checks;           /* for stores with explicit_checks, or a platform without on_fault */
    unsigned threads;               /* at most; 0 means one. Needs platform->parallel */
    void (*progress)(void *ctx, uint32_t done,
                     uint32_t all); /* after each function, from any of the threads; or NULL */
    void *progress_ctx;
};
/* False: out of memory, or the engine has no native code for this CPU or this module. The result is a function of the
 * module and the options, and does not depend on threads. */
bool donjon_module_compile(const wasm_module_t *, const struct donjon_compile_options *, own wasm_byte_vec_t *image);

/* Instances of the module made in this store from now on start with this code; functions that are not in it, and all of
 * them where it does not fit the instance's memory, are compiled when they are called. The bytes are not copied: they
 * have to stay as they are until another image, or NULL, takes their place. One image a store. NULL, or why the image
 * was not taken: static text for messages, "compiled by another build of the engine". */
const char *donjon_store_use_image(wasm_store_t *, const wasm_module_t *, const uint8_t digest[DONJON_ID_SIZE],
                                   const void *image, size_t size);

/* What images are made for: changes with every change to the engine. And the kind of CPU, as a number; 0: no native
 * code. */
const uint8_t *donjon_engine_id(void);
uint64_t donjon_cpu_id(void);

/* For profilers and debuggers: `seen` is told about every function's code once it is in place. Name is borrowed during
 * the call, not terminated, size 0 when there is none. */
struct donjon_code {
    const void *address;
    size_t size;
    uint32_t func;
    const char *name;
    size_t name_size;
};
void donjon_store_on_code(wasm_store_t *, void (*seen)(void *ctx, const struct donjon_code *), void *ctx);

/* What the compiler makes of one function, as text: stages "ir" (after building and selection), "ra" (registers) and
 * "asm" (each instruction of the IR, then lines of its bytes: "    1a2b: 48 8b 07"). False: see donjon_module_compile.
 */
bool donjon_module_dump(const wasm_module_t *, uint32_t func, const struct donjon_compile_options *,
                        void (*line)(void *ctx, const char *stage, const char *text), void *ctx);

/* Functions of the index space, and how many of them are imported (they come first); size of the code section. */
struct donjon_module_counts {
    uint32_t funcs, imported_funcs, code_bytes;
};
struct donjon_module_counts donjon_module_counts(const wasm_module_t *);

/* The function exported under this name, or else the first that has it in the name section. */
bool donjon_module_find_func(const wasm_module_t *, const char *name, uint32_t *func);

/* ---- slots: values as the engine has them ---- */

/* One 8-byte slot. i32, i64, f32, f64 and references take one, v128 two (low half first). The bytes of a slot that its
 * type does not use are undefined. `ref` is the engine's own pointer: donjon_slot_ref and donjon_ref_slot translate. */
typedef union donjon_slot {
    int64_t i64; /* first, so that {0} is null and not only half of it */
    int32_t i32;
    uint32_t u32;
    uint64_t u64;
    float f32;
    double f64;
    void *ref;
} donjon_slot_t;

own wasm_ref_t *donjon_slot_ref(wasm_store_t *, wasm_valkind_t, donjon_slot_t); /* NULL for null */
donjon_slot_t
donjon_ref_slot(wasm_ref_t *); /* a function's as funcref; valid while the reference is held, or once wasm has got it */

/* Globals of number and vector types, in one slot or two. set: false for constants and references. */
void donjon_global_get(const wasm_global_t *, donjon_slot_t out[2]);
bool donjon_global_set(wasm_global_t *, const donjon_slot_t value[2]);

/* ---- functions: the fast way ---- */

/* Who calls a host function. Valid during the call. */
typedef struct donjon_caller donjon_caller_t;

/* A host function over slots: parameters from args[0], results to be left from args[0] on; the array has room for the
 * larger of the two. NULL, or the trap to raise. Costs an indirect call and no conversion. */
typedef own wasm_trap_t *(*donjon_callback_t)(void *env, donjon_caller_t *caller, donjon_slot_t *args);

struct donjon_memory_view {
    uint8_t *data;
    uint64_t size; /* bytes; {NULL, 0} when there is no memory */
};

/* The calling instance's first memory as it is now: ask again after anything that may have grown it. Any function may
 * be given the NULL-instance caller of a direct call by the embedder: it has no memory. */
struct donjon_memory_view donjon_caller_memory(const donjon_caller_t *);
wasm_store_t *donjon_caller_store(const donjon_caller_t *);                         /* borrowed */
own wasm_extern_t *donjon_caller_export(const donjon_caller_t *, const char *name); /* NULL: none of that name */

own wasm_func_t *donjon_func_new(wasm_store_t *, const wasm_functype_t *, donjon_callback_t, void *env,
                                 void (*finalizer)(void *));

/* Calls with arguments in slots[0..], results come back in the same place; room for the larger of the two. */
own wasm_trap_t *donjon_func_call(const wasm_func_t *, donjon_slot_t *slots);
size_t donjon_func_slots(const wasm_func_t *); /* the room needed */

/* ---- linking by name ---- */

/* Names and what they stand for, for one store. Nothing is taken over but what `own` says; a later definition of a name
 * replaces an earlier one. */
typedef struct donjon_linker donjon_linker_t;
own donjon_linker_t *donjon_linker_new(wasm_store_t *);
void donjon_linker_delete(own donjon_linker_t *);

bool donjon_linker_define(donjon_linker_t *, const char *module, const char *name, const wasm_extern_t *);
/* A host function by signature: one letter a value, parameters ':' results. i i32, I i64, f f32, F f64, V v128,
 * e externref, r funcref. "iiii:i" is WASI's fd_write. False also when the signature is not understood. */
bool donjon_linker_define_func(donjon_linker_t *, const char *module, const char *name, const char *signature,
                               donjon_callback_t, void *env);
/* Every export of an instance under a module name. */
bool donjon_linker_define_instance(donjon_linker_t *, const char *module, const wasm_instance_t *);

/* Functions that a module imports and nobody defines: refused (the default), or they trap when called. */
void donjon_linker_set_unknown_imports_trap(donjon_linker_t *, bool trap);
/* Or they return zeros and nulls; those with a result that has no default value are refused even so. Of this and the
 * one above the later call counts. */
void donjon_linker_set_unknown_imports_default(donjon_linker_t *, bool returns);

/* NULL with *trap (may be given as NULL): DONJON_TRAP_LINK names every import that is missing or does not fit, a line
 * each; another kind when the start function or an active segment trapped. */
own wasm_instance_t *donjon_linker_instantiate(donjon_linker_t *, const wasm_module_t *, own wasm_trap_t **trap);

own wasm_extern_t *donjon_instance_export(const wasm_instance_t *, const char *name); /* NULL: none of that name */

/* ---- tags and exceptions ---- */

typedef struct donjon_tag donjon_tag_t;
own donjon_tag_t *donjon_tag_new(wasm_store_t *, const wasm_functype_t *); /* NULL when the type has results */
void donjon_tag_delete(own donjon_tag_t *);
own wasm_functype_t *donjon_tag_type(const donjon_tag_t *);
wasm_extern_t *donjon_tag_as_extern(donjon_tag_t *);
donjon_tag_t *donjon_extern_as_tag(wasm_extern_t *);
const wasm_functype_t *donjon_externtype_tag(const wasm_externtype_t *); /* NULL unless its kind is DONJON_EXTERN_TAG */

/* For a host function to return: throws an exception into the wasm that called it. */
own wasm_trap_t *donjon_trap_new_exception(wasm_store_t *, const donjon_tag_t *, const wasm_val_vec_t *payload);

/* ---- traps ---- */

enum donjon_trap_kind {
    DONJON_TRAP_UNREACHABLE = 1,
    DONJON_TRAP_MEMORY,         /* out of bounds memory access */
    DONJON_TRAP_TABLE,          /* out of bounds table access */
    DONJON_TRAP_TABLE_ELEM,     /* undefined element */
    DONJON_TRAP_NULL_ELEM,      /* uninitialized element */
    DONJON_TRAP_INDIRECT_TYPE,  /* indirect call type mismatch */
    DONJON_TRAP_DIV_ZERO,       /* integer divide by zero */
    DONJON_TRAP_INT_OVERFLOW,   /* integer overflow */
    DONJON_TRAP_INT_CONVERSION, /* invalid conversion to integer */
    DONJON_TRAP_NULL_REF,       /* null reference */
    DONJON_TRAP_NULL_FUNC,      /* null function reference */
    DONJON_TRAP_NULL_EXN,       /* null exception reference */
    DONJON_TRAP_STACK,          /* call stack exhausted */
    DONJON_TRAP_FUEL,           /* all fuel consumed */
    DONJON_TRAP_INTERRUPT,      /* donjon_store_interrupt */
    DONJON_TRAP_WALL,           /* wall time limit reached */
    DONJON_TRAP_OUT_OF_MEMORY,  /* the engine's own allocation failed */
    DONJON_TRAP_UNKNOWN_IMPORT, /* an import that nobody provided was called */
    DONJON_TRAP_HOST,           /* raised by a host function (wasm_trap_new) */
    DONJON_TRAP_EXCEPTION,      /* an exception that nothing caught */
    DONJON_TRAP_NULL_STRUCT,    /* null structure reference */
    DONJON_TRAP_NULL_ARRAY,     /* null array reference */
    DONJON_TRAP_NULL_I31,       /* null i31 reference */
    DONJON_TRAP_ARRAY,          /* out of bounds array access */
    DONJON_TRAP_CAST,           /* cast failure */
    DONJON_TRAP_LINK = 100,     /* instantiation: imports */
    DONJON_TRAP_EXIT,           /* not a fault: donjon_trap_new_exit */
};
enum donjon_trap_kind donjon_trap_kind(const wasm_trap_t *);

/* For a host function to return: unwinds everything and hands `status` to whoever called in. WASI's proc_exit. */
own wasm_trap_t *donjon_trap_new_exit(wasm_store_t *, int32_t status);
bool donjon_trap_exit_status(const wasm_trap_t *, int32_t *status); /* false unless DONJON_TRAP_EXIT */

/* DONJON_TRAP_EXCEPTION: its tag and payload; false otherwise. Either may be NULL. */
bool donjon_trap_exception(const wasm_trap_t *, own donjon_tag_t **tag, own wasm_val_vec_t *payload);

/* The backtrace, innermost first, of at most 64 frames; `total` frames were there. */
size_t donjon_trap_frames(const wasm_trap_t *, size_t *total);

/* What is known of one frame: name from the name section, file and line from DWARF (.debug_line) when the module has
 * it. */
struct donjon_frame_info {
    uint32_t func;
    size_t offset;  /* of the instruction, in the binary */
    char name[128]; /* "func[7]" when there is none */
    char file[256]; /* empty when unknown */
    uint32_t line;  /* 0 when unknown */
};
bool donjon_trap_frame(const wasm_trap_t *, size_t n, struct donjon_frame_info *out);
void donjon_frame_info(const wasm_frame_t *, struct donjon_frame_info *out);

/* Message and backtrace, line by line, as people read it:
 *     trap: integer divide by zero
 *       0: divide (module+0x1a2b) at math.c:12
 * `line` gets text without newline. */
void donjon_trap_print(const wasm_trap_t *, void (*line)(void *ctx, const char *text), void *ctx);

#undef own

#ifdef __cplusplus
}
#endif
#endif
