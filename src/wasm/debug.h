/* Where in the source an instruction came from, by the module's DWARF (.debug_line, versions 2 to 5). For messages
 * only: the custom sections are nobody's responsibility, so everything in them is hostile input, and at worst the
 * answer is wrong. */
#ifndef DONJON_WASM_DEBUG_H
#define DONJON_WASM_DEBUG_H

#include "module.h"

/* File name and line of the instruction at `offset` in the module's bytes. 0: unknown, `file` empty. Reads the section
 * once and allocates nothing. `size` at least 1. */
uint32_t debug_line(const struct module *m, uint32_t offset, char *file, size_t size);

#endif
