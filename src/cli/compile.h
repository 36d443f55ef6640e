/* What the files of `donjon compile` share. */
#ifndef DONJON_CLI_COMPILE_H
#define DONJON_CLI_COMPILE_H

#include "cli.h"
#include <donjon/wasm.h>

/* compile_dump.c: writes what the compiler makes of one function (`func`: index or name) or of all (NULL) to standard
 * output. `stages`: "ir", "ra", "asm", separated by commas. An exit code. */
int compile_dump(const struct cli_verb *verb, const wasm_module_t *module, const char *stages, const char *func,
                 const struct donjon_compile_options *options);

#endif
