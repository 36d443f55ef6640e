/* Differential fuzzing: a generated module must do the same here and in a second engine. Without a Node there is no
 * second engine and the target still looks for crashes. A module that shows a difference is left in diff-mismatch.wasm.
 */
#include "gen.h"
#include "outcome.h"
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint8_t module[GEN_MODULE_MAX];
    static struct outcome here, there;
    unsigned features;
    char text[512];
    bool second = node_start(&features);
    size_t n = gen_module(data, size, second ? features : GEN_ALL, module);
    if (!n) return 0;
    outcome_here(module, n, &here);
    if (!second) return 0;
    if (!outcome_node(module, n, &there)) {
        fprintf(stderr, "the second engine died\n");
        abort();
    }
    if (outcome_compare(&here, &there, text, sizeof text)) return 0;
    fprintf(stderr, "%s\n", text);
    FILE *f = fopen("diff-mismatch.wasm", "wb");
    if (f) fwrite(module, 1, n, f), fclose(f);
    abort();
}
