/* wasm.h: what chooses a platform by itself. Apart, so that a program that brings its own (donjon_engine_new) links no
 * other. */
#include "capi.h"

#include <stdlib.h>

wasm_config_t *wasm_config_new(void) {
    wasm_config_t *config = malloc(sizeof *config);
    if (config) config->platform = donjon_platform_posix();
    return config;
}

void wasm_config_delete(wasm_config_t *config) {
    free(config);
}

void donjon_config_set_platform(wasm_config_t *config, const struct donjon_platform *p) {
    config->platform = p;
}

wasm_engine_t *wasm_engine_new_with_config(wasm_config_t *config) {
    const struct donjon_platform *p = config->platform;
    wasm_config_delete(config);
    return donjon_engine_new(p);
}

wasm_engine_t *wasm_engine_new(void) {
    return donjon_engine_new(donjon_platform_posix());
}
