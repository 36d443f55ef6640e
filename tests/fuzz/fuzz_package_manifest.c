/* Manifests from a registry, and the configuration in them. */
#include <stdlib.h>
#include <string.h>

#include "package/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool each(void *context, const char *name, bool directory) {
    (void)context, (void)directory;
    return plain_path(name);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char error[PACKAGE_ERROR] = "";
    struct manifest m;
    bool ok = manifest_read(&m, data, size, error);
    if (!ok && !*error) abort();
    if (ok && manifest_is_package(&m, error)) {
        for (size_t i = 1; i < m.layer_count; i++)
            if (!plain_path(m.layers[i].title) || !strncmp(m.layers[i].title, "../", 3) ||
                strstr(m.layers[i].title, "/../")) /* "a../b" is a name like any other */
                abort();
        if (m.config_toml) config_names(m.config_toml, strlen(m.config_toml), each, NULL, error);
    }
    if (ok) { /* what was read is what is written */
        char *text = manifest_write(&m);
        struct manifest again;
        if (!text || !manifest_read(&again, text, strlen(text), error) || again.layer_count != m.layer_count) abort();
        manifest_free(&again);
        free(text);
    }
    manifest_free(&m);
    signature_payload_names(data, size, "sha256:x");
    return 0;
}
