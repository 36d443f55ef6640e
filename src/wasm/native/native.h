/* The native tier: compiles each function on its first call, and runs it. Its contract with the rest of the engine. */
#ifndef DONJON_NATIVE_H
#define DONJON_NATIVE_H

#include "../store.h"

/* NULL where this CPU has no code generator or memory is short: the store then interprets. */
struct native *native_new(struct store *s);
void native_delete(struct native *n);

/* Gives a new instance its context, and its functions their (not yet compiled) code. False: out of memory. */
bool native_instance(struct native *n, struct instance *i);
/* A host function becomes callable from compiled code. */
void native_host_func(struct func *f);

/* Runs `f` with args as func_call has it. Re-entrant. */
enum trap_kind native_call(struct native *n, struct func *f, slot *args);

/* Makes running code look at store->interrupt. From any thread, from a signal handler. */
void native_interrupt(struct native *n);

/* The live part of the native stack, for the collector. */
void native_stack(const struct native *n, const slot **begin, const slot **end);

#endif
