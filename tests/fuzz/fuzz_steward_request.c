/* Certificate requests as the steward reads them. */
#include <stdlib.h>
#include <string.h>

#include "steward.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct steward_request r;
    struct steward_reason why = {0};
    if (steward_request_read(&r, (struct attest_bytes){data, size}, &why)) {
        /* What is accepted is what the authority may sign. */
        if (!r.x || !r.key || !r.name_count || r.workload.size != 32 || !r.nonce.size) abort();
        for (size_t i = 0; i < r.name_count; i++)
            if (strlen(r.names[i]) > STEWARD_NAME_MAX || strchr(r.names[i], '*')) abort();
    } else if (!*why.rule || !*why.text)
        abort(); /* a refusal without a reason */
    steward_request_free(&r);
    return 0;
}
