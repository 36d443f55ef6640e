/* The one place where a tenant decides whether a keep may have what is his. */
#include "client_state.h"
#include <donjon/attest.h>
#include <string.h>

/* Workloads of the policy: taken out of the Verifier's hands, since the evidence of a keep that waits for its workload
 * cannot name it; the digest in the channel's binding can. */
static bool take_workloads(struct channel_client *c, const struct attest_policy *policy) {
    const struct attest_set *s = &policy->workloads;
    if (s->count > CHANNEL_WORKLOADS_MAX || (s->count && s->width != CHANNEL_DIGEST))
        return channel_client_failed(c, "the policy names more than %d workloads", CHANNEL_WORKLOADS_MAX);
    if (s->count) memcpy(c->workloads, s->items, s->count * CHANNEL_DIGEST);
    c->n_workloads = s->count;
    return true;
}

static bool workload_right(struct channel_client *c) {
    static const uint8_t none[CHANNEL_DIGEST];
    if (c->n_workloads == 0 || memcmp(c->digest, none, sizeof none) == 0) return true;
    if (channel_client_allowed(c, c->digest)) return true;
    return channel_client_failed(c, "the workload in this keep is not one that the policy names");
}

bool channel_client_appraise(struct channel_client *c, struct attest_verifier *verifier,
                             const struct attest_policy *policy, int64_t now, struct attest_result *result) {
    struct attest_policy p;
    char error[256];
    memset(result, 0, sizeof *result);
    if (c->failed) return false;
    if (c->evidence_size == 0) return channel_client_failed(c, "this keep has no evidence of what it is");
    struct channel_bytes e = channel_client_evidence(c), n = channel_client_endorsements(c);
    struct attest_evidence *evidence = attest_evidence_open((struct attest_bytes){e.data, e.size}, error, sizeof error);
    if (!evidence) return channel_client_failed(c, "the keep's evidence: %s", error);
    if (n.size) attest_verifier_add(verifier, (struct attest_bytes){n.data, n.size});
    if (policy)
        p = *policy; /* not owned: what it points to is the caller's */
    else
        attest_policy_genuine(&p);
    bool ok = take_workloads(c, &p);
    p.report_data = (struct attest_set){.items = c->report_data, .count = 1, .width = CHANNEL_REPORT_DATA};
    p.nonce_size = 0; /* it is in the report data */
    struct attest_set workloads = p.workloads;
    p.workloads.count = 0;
    if (ok) attest_verify(verifier, evidence, &p, now, result);
    attest_evidence_free(evidence);
    if (!policy) {
        p.report_data = (struct attest_set){.width = CHANNEL_REPORT_DATA};
        p.workloads = workloads;
        attest_policy_free(&p);
    }
    if (!ok) return false;
    if (!result->accepted) return channel_client_failed(c, "the keep's evidence is not accepted");
    c->accepted = workload_right(c);
    return c->accepted;
}
