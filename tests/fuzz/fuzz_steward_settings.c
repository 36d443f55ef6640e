/* steward.toml. */
#include <stdlib.h>
#include <string.h>

#include "settings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct steward_settings s;
    char error[SETTINGS_ERROR] = "";
    if (steward_settings_read(&s, (const char *)data, size, "", error)) {
        for (size_t i = 0; i < s.rule_count; i++)
            if (s.rules[i].lifetime > STEWARD_LIFETIME_MAX || !s.rules[i].names.count) abort();
        steward_settings_free(&s);
    } else if (!*error)
        abort();
    return 0;
}
