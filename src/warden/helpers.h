/* Threads that compile beside the program, where the workload asks for processors. They are there before the last lock
 * closes, since no thread may be started after it, and wait until the engine has something for them. */
#ifndef DONJON_WARDEN_HELPERS_H
#define DONJON_WARDEN_HELPERS_H

#include <donjon/platform.h>
#include <stdbool.h>

enum { HELPERS_MOST = 15 };

/* Starts them, once. What cannot be had is not there. */
void helpers_start(unsigned n);
unsigned helpers_count(void);
/* The ordinary platform, with them, and with what a shim can do where there may be one. */
const struct donjon_platform *helpers_platform(bool shim);

#endif
