/* A module compiled ahead of time: one position-independent piece of bytes, to be kept in a file and used by any
 * process with the same engine.
 *
 * An image is machine code. image_check makes sure that nothing in it is read out of bounds and that it was made by
 * this engine, for this module and this CPU; that the code does what the module says, only its maker's word can tell.
 * So whoever takes images from outside has to authenticate them first. */
#ifndef DONJON_NATIVE_IMAGE_H
#define DONJON_NATIVE_IMAGE_H

#include "compile.h"

enum {
    IMAGE_VERSION = 1,
    IMAGE_ID = 32,    /* bytes of an engine's id and of a module's digest */
    IMAGE_ALIGN = 32, /* of functions in the code */
    /* Flags: how the code was made (struct fn). It serves only where functions compiled one by one would be made the
       same. */
    IMAGE_FUEL = 1,
    IMAGE_BOUNDS = 2,
    IMAGE_NO_FAULTS = 4,
    IMAGE_FLAGS_ALL = 7,
};

/* Layout: this header, n_funcs image_func, n_landings landing, n_relocations relocation, code. Little-endian. Landings
 * and relocations stand in the order of their functions, with offsets from the function's start. */
struct image_header {
    uint8_t magic[8];
    uint32_t version, flags;
    uint8_t engine[IMAGE_ID]; /* changes whenever code generation or the run-time's structures may have changed */
    uint8_t digest[IMAGE_ID]; /* of the module, as the caller calls it */
    uint64_t cpu;             /* target_features: what the code needs */
    uint64_t module_size;
    uint32_t first_func, n_funcs; /* the module's own functions, all of them */
    uint32_t n_landings, n_relocations;
    uint32_t code_size, zero;
};
struct image_func {
    uint32_t offset, size; /* in the code; size 0: not compiled, left to the first call */
    uint32_t frame;
    uint32_t n_landings, n_relocations;
};
_Static_assert(sizeof(struct image_header) == 120 && sizeof(struct image_func) == 20 && sizeof(struct landing) == 12 &&
                   sizeof(struct relocation) == 8,
               "no padding");

struct image_options {
    bool fuel, bounds_checks, no_faults;
    unsigned threads; /* at most; more than one needs platform->parallel */
    const uint8_t *digest;
    void (*progress)(void *ctx, uint32_t done, uint32_t all); /* or NULL; from any of the threads */
    void *ctx;
};

/* Compiles all of a module. The same module and options give the same bytes, whatever the number of threads. From
 * platform->realloc, its size in *size; NULL when out of memory. */
void *image_compile(const struct module *m, const struct image_options *o, size_t *size);

/* An image that has been checked. Points into its bytes, which need no alignment. */
struct image {
    struct image_header head;
    const uint8_t *funcs, *landings, *relocations, *code;
};

/* NULL and `out` filled when the bytes are a well-formed image of this engine, for this CPU and module; else what is
 * wrong. The bytes must not change afterwards. */
const char *image_check(const struct module *m, const uint8_t *digest, const void *bytes, size_t size,
                        struct image *out);

struct image_func image_func(const struct image *i, uint32_t n);
struct landing image_landing(const struct image *i, uint32_t n);
struct relocation image_relocation(const struct image *i, uint32_t n);

/* The id of this engine: a hash over its sources and its compiler, made when it was built (engine_id.cmake). */
extern const uint8_t engine_build_id[IMAGE_ID];

#endif
