/* TOML text, and what it becomes: whatever is accepted has a wire form that decodes to the same bytes again. */
#include <stdlib.h>
#include "config/config.h"
#include "config/config_toml.h"
#include "config/config_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct config_reports reports;
    struct config c, d;
    struct config_error err;
    uint8_t *bytes;
    size_t len;
    if (!config_init(&c)) abort();
    bool ok = config_parse_toml(&c, (const char *)data, size, &reports);
    if (ok != (reports.n_errors == 0)) abort();
    if (ok) {
        if (!config_encode(&c, &bytes, &len)) abort();
        if (!config_decode(&d, bytes, len, &err)) abort();
        config_free(&d);
        free(bytes);
    }
    config_free(&c);
    return 0;
}
