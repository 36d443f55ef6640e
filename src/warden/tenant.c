/* A keep that waits for its tenant. */
#include "warden.h"

void tenant_receive(struct warden *w) {
    report_failure(w, GATE_EXIT_REFUSED, "this release has no channel for tenants");
}
