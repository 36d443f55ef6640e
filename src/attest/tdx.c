/* A TD's body against the policy. */
#include <stdio.h>

#include "policy.h"
#include "quote.h"

static const char *attribute_names(uint64_t bits, char *out, size_t size) {
    static const struct {
        int bit;
        const char *name;
    } known[] = {{16, "ICSSD"}, {27, "LASS"}, {30, "PKS"}, {31, "KL"}, {62, "TPA"}, {63, "PERFMON"}};
    size_t at = 0;
    out[0] = 0;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (bits >> known[i].bit & 1 && at < size)
            at += (size_t)snprintf(out + at, size - at, "%s%s", at ? ", " : "", known[i].name);
    return out;
}

static void policy_attributes(struct attest_result *res, const struct attest_policy *p, const struct td_body *td) {
    bool sept = td->attributes & TD_ATTR_SEPT_VE_DISABLE;
    if (sept || !p->tdx.allow_sept_ve)
        check(res, ATTEST_RULE_TDX_SEPT_VE, sept, v_text("SEPT_VE_DISABLE on"),
              v_text(sept ? "SEPT_VE_DISABLE on" : "off: the host may inject #VE"));
    else
        note(res, ATTEST_RULE_TDX_SEPT_VE, v_text("the host may inject #VE"));
    check_off(res, ATTEST_RULE_TDX_MIGRATABLE, td->attributes & TD_ATTR_MIGRATABLE, p->tdx.allow_migration);
    uint64_t extra = td->attributes & TD_ATTR_OPTIONAL;
    char names[80] = "";
    if (extra && (extra & ~p->tdx.allow_attributes) == 0)
        note(res, ATTEST_RULE_TDX_PERFMON, v_hex(extra));
    else
        check(res, ATTEST_RULE_TDX_PERFMON, !extra, v_text("none of ICSSD, LASS, PKS, KL, TPA, PERFMON"),
              v_format(res, "%s", extra ? attribute_names(extra, names, sizeof names) : "none"));
    advise(res, "have the TD launched without %s, or allow it: tdx.allow_attributes = 0x%llx", names,
           (unsigned long long)(extra | p->tdx.allow_attributes));
    /* XFAM bits 0 and 1 (x87, SSE) are architecturally set (TDX module, 3.4.2). */
    enum { XFAM_FIXED1 = 3 };
    bool xfam = (td->xfam & XFAM_FIXED1) == XFAM_FIXED1 && (td->xfam & ~p->tdx.xfam_mask) == 0;
    check(res, ATTEST_RULE_TDX_XFAM, xfam,
          v_format(res, "bits 0 and 1, none outside 0x%llx", (unsigned long long)p->tdx.xfam_mask), v_hex(td->xfam));
}

static void policy_identity(struct attest_result *res, const struct attest_policy *p, const struct td_body *td) {
    static const char *const rtmrs[] = {"tdx.rtmr0", "tdx.rtmr1", "tdx.rtmr2", "tdx.rtmr3"};
    bool named = p->tdx.mrtds.count > 0;
    bool ok = check_set(res, ATTEST_RULE_MEASUREMENT, "tdx.mrtds", &p->tdx.mrtds, td->mrtd, sizeof td->mrtd);
    for (int i = 0; i < RTMR_COUNT; i++)
        ok &= check_set(res, ATTEST_RULE_TDX_RTMR, rtmrs[i], &p->tdx.rtmr[i], td->rtmr[i], RTMR_SIZE);
    res->identified = named && ok;
    check_set(res, ATTEST_RULE_TDX_SEAM, "tdx.mrseams", &p->tdx.mrseams, td->mrseam, sizeof td->mrseam);
    check_set(res, ATTEST_RULE_TDX_CONFIG, "tdx.mrconfigids", &p->tdx.mrconfigids, td->mrconfigid,
              sizeof td->mrconfigid);
    check_set(res, ATTEST_RULE_TDX_OWNER, "tdx.mrowners", &p->tdx.mrowners, td->mrowner, sizeof td->mrowner);
    check_set(res, ATTEST_RULE_TDX_OWNER, "tdx.mrownerconfigs", &p->tdx.mrownerconfigs, td->mrownerconfig,
              sizeof td->mrownerconfig);
    bool served = !all_zero(td->mrservicetd, sizeof td->mrservicetd);
    bool listed = set_has(&p->tdx.mrservicetds, td->mrservicetd, sizeof td->mrservicetd);
    struct attest_value service = served ? v_bytes(res, td->mrservicetd, sizeof td->mrservicetd) : v_text("none");
    if (served && !listed && !p->tdx.mrservicetds.count && p->tdx.allow_service_td)
        note(res, ATTEST_RULE_TDX_SERVICE, service);
    else
        check(res, ATTEST_RULE_TDX_SERVICE, !served || listed, v_text("none, or a listed one"), service);
    policy_workload(res, p, td->mrconfigid, sizeof td->mrconfigid);
    policy_report_data(res, p, td->report_data);
}

void td_appraise(struct attest_result *res, const struct attest_policy *p, const struct td_body *td) {
    /* Any bit of 7:0 means "under debug"; bit 0 is DEBUG itself, the others are reserved. */
    bool clean = !(td->attributes & ~TD_ATTR_KNOWN) && all_zero(td->seam_attributes, sizeof td->seam_attributes);
    check(res, ATTEST_RULE_TDX_RESERVED, clean, v_text("zero"),
          clean ? v_text("zero") : v_hex(td->attributes & ~TD_ATTR_KNOWN));
    policy_common(res, p, ATTEST_TEE_TDX, td->attributes & TD_ATTR_UNDER_DEBUG);
    policy_identity(res, p, td);
    policy_attributes(res, p, td);
}
