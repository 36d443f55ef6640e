/* WASI for the engine: makes the imports of a module callable through its public API. */
#ifndef DONJON_WASI_LINK_H
#define DONJON_WASI_LINK_H

#include "wasi.h"
#include <donjon/wasm.h>

/* Defines in `linker` every WASI function (of both previews) that `module` imports; imports of other names, and names
 * in WASI's modules that WASI does not have, are left to the linker's own judgement. `w` must outlive the instances.
 *
 * When the program ends itself, the call into the instance comes back with a DONJON_TRAP_EXIT trap that holds the exit
 * code (wasi_exited says the same). When it is being stopped (WASI_INTERRUPTED), with a trap, and wasi_interrupted is
 * true.
 *
 * False: `err` says why in one line (out of memory, or a module whose memory is 64-bit: preview 1's pointers are not).
 */
bool wasi_link(struct wasi *w, donjon_linker_t *linker, const wasm_module_t *module, char *err, size_t err_size);

#endif
