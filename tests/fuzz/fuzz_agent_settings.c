/* agent.toml: an operator's own file, but a parser all the same. */
#include <stdlib.h>
#include <string.h>
#include "agent/settings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct settings s;
    char error[400] = "";
    settings_init(&s);
    if (!settings_read(&s, (const char *)data, size, error, sizeof error) && !*error) abort();
    if (s.n_listen > LISTENERS_MAX || s.n_tenants > TENANTS_MAX) abort();
    for (uint32_t i = 0; i < s.n_tenants; i++)
        if (!tenant_name_fine(s.tenants[i].name, strnlen(s.tenants[i].name, TENANT_NAME_MAX + 1))) abort();
    settings_free(&s);
    return 0;
}
