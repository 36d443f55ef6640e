/* CCEL and dstack event logs. */
#include "attest_fuzz.h"
#include "quote.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct td_body td;
    struct attest_bytes log = {data, size};
    fuzz_begin(size);
    result_start(&fuzz_result, 0);
    if (event_log_looks_like(log)) event_log_check(&fuzz_result, log, &td);
    result_finish(&fuzz_result);
    fuzz_show();
    return 0;
}
