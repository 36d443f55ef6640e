/* One function's compilation, from body to position-independent code. */
#ifndef DONJON_NATIVE_COMPILE_H
#define DONJON_NATIVE_COMPILE_H

#include "ir.h"

/* A call site inside a try region: where a return address lands when an exception comes through it. */
struct landing {
    uint32_t return_at; /* code offset after the call */
    uint32_t tag;       /* index, NONE32: any */
    uint32_t code;      /* code offset of the landing pad */
};

/* Four bytes of code that hold the engine's id of a type of the module: the one thing in code that differs from process
 * to process. Zero until the code is installed. In order, never overlapping. */
struct relocation {
    uint32_t at;   /* code offset */
    uint32_t type; /* index in the module */
};

struct compiled {
    uint8_t *code;
    uint32_t size;
    uint32_t frame;           /* bytes the function keeps below its return address */
    struct landing *landings; /* in order of return_at, then of search */
    uint32_t n_landings;
    struct relocation *relocations;
    uint32_t n_relocations;
};

struct source { /* an instruction of the module */
    uint32_t func, at;
};

struct compile_options {
    bool bounds_checks, no_faults, fuel; /* as in struct fn */
    /* With find_code < the code's size: finds which instruction that piece of code came from, and if that is one of an
     * inlined function, behind it the calls that were replaced; the last is the function's own. */
    uint32_t find_code, n_found;
    struct source found[INLINE_DEPTH + 1];
    uint64_t work; /* out: instructions made and steps counted (ir.h) */
    void (*called)(void *ctx, uint32_t func); /* told about each function that is called directly; NULL: nobody is */
    void *called_ctx;
    void (*dump)(void *ctx, const char *stage, const char *line);
    void *dump_ctx;
};

/* False when out of memory, or the function is beyond what the compiler takes; it is interpreted then. Code and
 * landings are freed with compiled_free. */
bool compile_function(const struct module *m, uint32_t func, struct compile_options *opt, struct compiled *out);
void compiled_free(const struct donjon_platform *p, struct compiled *c);

/* The target's last pass. */
struct allocation;
void ir_dump(const struct fn *f, struct compile_options *opt);
void allocation_dump(const struct fn *f, const struct allocation *al, struct compile_options *opt);
struct position { /* code from here on belongs to this instruction */
    uint32_t code, ins;
    uint32_t source; /* what a trap there comes from: the same, or a load that is made as part of it */
};
void code_dump(const struct fn *f, struct compile_options *opt, const struct position *at, uint32_t n,
               const struct compiled *c, uint32_t pool);
bool target_emit(struct fn *f, struct allocation *al, struct compile_options *opt, struct compiled *out);
/* Code that hands a function over to vmctx.host_stub, for those that are interpreted. */
bool target_emit_host_jump(const struct donjon_platform *p, const struct module *m, uint32_t func,
                           struct compiled *out);
/* Does this CPU run what the target emits? */
bool target_supported(void);
/* What that is, in one number that no other kind of CPU has. */
extern const uint64_t target_features;

#endif
