/* The native tier: compiles each function on its first call, and runs it. Its contract with the rest of the engine. */
#ifndef DONJON_NATIVE_H
#define DONJON_NATIVE_H

#include "../store.h"

/* NULL where this CPU has no code generator or memory is short: the store then interprets. */
struct native *native_new(struct store *s);
void native_quiet(struct native *n); /* no thread looks at modules any more. Before they go; NULL is allowed */
void native_delete(struct native *n);

/* Gives a new instance its context, and its functions their (not yet compiled) code. False: out of memory. */
bool native_instance(struct native *n, struct instance *i);
/* A host function becomes callable from compiled code. */
void native_host_func(struct func *f);

/* The compiled code that instances of `m` made from now on start with; what is not in it is compiled on its first call.
 * One image a store: a later one replaces it, NULL takes it back. The bytes are not copied and must not change until
 * then. NULL, or why the image was not taken. See image.h for who may be believed. */
const char *native_use_image(struct native *n, const struct module *m, const uint8_t *digest, const void *bytes,
                             size_t size);

/* For profilers: a function called whenever code has come into being. */
struct native_code {
    const void *address;
    size_t size;
    const struct module *module;
    uint32_t func;
    struct bytes name; /* size 0: none */
};
typedef void (*native_code_seen)(void *ctx, const struct native_code *code);
void native_on_code(struct native *n, native_code_seen seen, void *ctx);

/* Runs `f` with args as func_call has it. Re-entrant. */
enum trap_kind native_call(struct native *n, struct func *f, slot *args);

/* Makes running code look at store->interrupt. From any thread, from a signal handler. */
void native_interrupt(struct native *n);
/* Lets it run undisturbed again, and store->interrupt be 0. An interrupt that comes meanwhile counts. */
void native_clear_interrupt(struct native *n);

/* The live part of the native stack, for the collector. */
void native_stack(const struct native *n, const slot **begin, const slot **end);

#endif
