/* A tenant's request line: accepted completely and within its bounds, or refused with a reason and nothing kept. */
#include <stdlib.h>
#include <string.h>
#include "agent/request.h"
#include "agent/settings.h"

static void whole(const char *text, size_t most, bool empty) {
    size_t n = strnlen(text, most + 1);
    if (n > most || (!n && !empty)) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const struct request zero;
    struct request r;
    char error[300] = "";
    if (!request_parse(&r, (const char *)data, size, error, sizeof error)) {
        if (!*error || memcmp(&r, &zero, sizeof r) != 0) abort();
        return 0;
    }
    if (r.op >= REQUEST_OPS || size > REQUEST_MAX) abort();
    bool about_one = r.op == REQUEST_CHANNEL || r.op == REQUEST_STOP;
    if (about_one != keep_id_fine(r.id, strnlen(r.id, sizeof r.id))) abort();
    whole(r.token, TOKEN_MAX, true);
    whole(r.name, KEEP_NAME_MAX, true);
    whole(r.backend, sizeof r.backend - 1, true);
    if (*r.name && !tenant_name_fine(r.name, strlen(r.name))) abort();
    if (r.op != REQUEST_CREATE && (*r.name || *r.backend || r.memory || r.restart)) abort();
    request_clear(&r);
    if (memcmp(&r, &zero, sizeof r) != 0) abort();
    return 0;
}
