/* The wire form as the keep reads it: what is accepted encodes to exactly the same bytes. */
#include <stdlib.h>
#include <string.h>
#include "config/config.h"
#include "config/config_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct config c;
    struct config_error err = {""};
    uint8_t *bytes;
    size_t len;
    if (!config_decode(&c, data, size, &err)) {
        if (!err.message[0]) abort();
        return 0;
    }
    if (!config_encode(&c, &bytes, &len)) abort();
    if (len != size || memcmp(bytes, data, len)) abort();
    free(bytes);
    config_free(&c);
    return 0;
}
