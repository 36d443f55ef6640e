/* Compiling functions before they are called, on threads of the platform's, while the program runs. Compiling is a pure
 * function of the module: the threads make code, the thread that runs the store installs it. They follow the calls of
 * what has been compiled, and take functions in their order when they know nothing better. */
#ifndef DONJON_NATIVE_AHEAD_H
#define DONJON_NATIVE_AHEAD_H

#include "compile.h"

/* NULL: there are no threads to be had. */
struct ahead *ahead_start(const struct module *m, const struct compile_options *o, unsigned threads);
/* Waits for the threads; frees all. NULL is allowed. */
void ahead_stop(struct ahead *a);

/* For the one thread that installs: this function's code is wanted now. It is left to the caller where nobody has begun
 * it, or whoever has takes too long. What was made is the caller's to free. */
enum ahead_result { AHEAD_YOURS, AHEAD_MADE, AHEAD_REFUSED /* compile_function was false */ };
enum ahead_result ahead_take(struct ahead *a, uint32_t func, struct compiled *c);
/* Another one that is there, in the order in which they came. False: there is none. */
bool ahead_next(struct ahead *a, uint32_t *func, struct compiled *c);
/* What will be called soon. As compile_options.called, with `a`. */
void ahead_hint(void *a, uint32_t func);

#endif
