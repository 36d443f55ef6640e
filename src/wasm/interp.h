/* The interpreter: the reference tier, for every CPU, for good. Its contract with the rest of the engine. */
#ifndef DONJON_WASM_INTERP_H
#define DONJON_WASM_INTERP_H

#include "store.h"

struct interp *interp_new(struct store *s);
void interp_delete(struct interp *i);

/* The code a fresh FUNC_WASM function starts with: translates the body on first call, then goes on in it. */
void *interp_lazy_entry(void);

/* Runs `f`, a FUNC_WASM, with args as func_call has it. Re-entrant: a host function may call back in. */
enum trap_kind interp_call(struct interp *i, struct func *f, slot *args);

/* The live part of the value stack, for the collector. */
void interp_stack(const struct interp *i, const slot **begin, const slot **end);

/* Readable translated code of one function, line by line, for `donjon compile --dump` and tests. */
void interp_dump(struct func *f, void (*line)(void *ctx, const char *text), void *ctx);

/* Frees what translation of this instance's functions allocated (called by store_delete). */
void interp_free_code(struct store *s, struct instance *i);

#endif
