/* The two entrances: appraise, and decode only. */
#include <stdio.h>

#include "evidence.h"
#include "keystone.h"
#include "nitro.h"
#include "policy.h"
#include "quote.h"
#include "snp.h"
#include "vtpm.h"

static void describe_wrappers(struct attest_result *res, const struct attest_evidence *e) {
    for (size_t i = 0; i < e->wrapper_count; i++)
        fact(res, "wrapper", v_text(e->wrappers[i]));
    if (!e->names_workload) return;
    res->names_workload = true;
    memcpy(res->workload, e->workload, sizeof res->workload);
    fact_bytes(res, "workload", e->workload, sizeof e->workload);
}

/* A digest and then zeros, all 64 bytes. */
static bool binds(const struct binding *b, const uint8_t data[64]) {
    for (size_t i = 0; i < b->count; i++)
        if (memcmp(b->digests[i], data, b->sizes[i]) == 0 && all_zero(data + b->sizes[i], 64u - b->sizes[i]))
            return true;
    return false;
}

/* Report data against what the wrapper says it stands for: a digest and then zeros, all 64 bytes. */
static void check_binding(struct attest_result *res, const struct attest_evidence *e, const struct binding *b) {
    uint8_t report_data[64];
    if (e->tee == ATTEST_TEE_NITRO) { /* carries keys and data whole */
        struct nitro n;
        bool ok = !nitro_parse(e->report, &n) && b->key.size && bytes_equal(n.public_key, b->key);
        for (size_t i = 0; !ok && i < b->count; i++)
            ok = bytes_equal(n.user_data, (struct attest_bytes){b->digests[i], b->sizes[i]});
        check(res, b->rule, ok, v_text("the key in public_key, or its digest in user_data"),
              v_text(ok                                                ? "it is"
                     : n.public_key.size == 0 && n.user_data.size == 0 ? "public_key and user_data are empty"
                                                                       : "neither"));
        return;
    }
    if (!evidence_report_data(e, report_data)) {
        check(res, b->rule, false, v_text(b->what), v_text("no report data"));
        return;
    }
    /* Where Azure's wrapper has taken the report data, a key is vouched for in what it keeps instead. */
    const uint8_t *found = report_data;
    for (size_t i = 0; b->rule == ATTEST_RULE_WRAPPER_KEY && e->runtime.data && i < e->chosen_count; i++)
        if (binds(b, e->chosen[i].data)) found = e->chosen[i].data;
    check(res, b->rule, binds(b, found), v_text(b->count ? b->what : "a known digest algorithm"),
          v_bytes(res, found, sizeof report_data));
    if (all_zero(found, sizeof report_data))
        advise(res,
               "the report data is all zeros: the attester asked for evidence without naming what it should vouch for");
}

/* The TD report inside Azure's wrapper and the quote beside it must be of one TD: same TDINFO, same report data. */
static void check_td_report(struct attest_result *res, const struct attest_evidence *e) {
    enum { REPORT_DATA_AT = 128, TDINFO_AT = 512, TDINFO_SIZE = 8 + 8 + 48 * 8, QUOTE_TDINFO_AT = 120 };
    struct quote q;
    quote_parse(e->report, &q);
    bool ok = q.body_type != QUOTE_BODY_SGX && q.body.data &&
              memcmp(e->td_report.data + TDINFO_AT, q.body.data + QUOTE_TDINFO_AT, TDINFO_SIZE) == 0 &&
              memcmp(e->td_report.data + REPORT_DATA_AT, q.td.report_data, sizeof q.td.report_data) == 0;
    check(res, ATTEST_RULE_WRAPPER_TDREPORT, ok, v_text("the same TD"), v_text(ok ? "the same TD" : "different TDs"));
}

static void check_wrapper(struct attest_result *res, const struct attest_evidence *e, int64_t now) {
    for (size_t i = 0; i < e->remark_count; i++) {
        const struct remark *r = &e->remarks[i];
        if (r->expected)
            check(res, r->rule, r->ok, v_text(r->expected), v_text(r->found));
        else
            note(res, r->rule, v_text(r->found));
    }
    for (size_t i = 0; i < e->binding_count; i++)
        check_binding(res, e, &e->bindings[i]);
    if (e->td_report.data && !e->local_only) check_td_report(res, e);
    if (!e->in_certificate) return;
    bool ended = now > e->not_after;
    bool valid = !ended && now >= e->not_before && e->not_before != INT64_MIN;
    char at[40], limit[40];
    attest_value_format(&(struct attest_value){.kind = ATTEST_TIME, .time = now}, at, sizeof at);
    attest_value_format(&(struct attest_value){.kind = ATTEST_TIME, .time = ended ? e->not_after : e->not_before},
                        limit, sizeof limit);
    check(res, ATTEST_RULE_WRAPPER_VALIDITY, valid, v_format(res, "a certificate valid at %s", at),
          valid ? v_time(now) : v_format(res, "one that %s %s", ended ? "expired" : "is not valid before", limit));
    if (!ended) advise(res, "the certificate begins later: check --at, or the clocks of both machines");
    result_until(res, e->not_after);
}

/* What the policy expects of report data, where a wrapper has taken that field: any of the places it keeps it in. */
static void check_chosen(struct attest_result *res, const struct attest_evidence *e, const struct attest_policy *p) {
    size_t fits = 0;
    uint8_t nonce[CHOSEN_SIZE] = {0};
    memcpy(nonce, p->nonce, p->nonce_size);
    for (size_t i = 0; i < e->chosen_count; i++) {
        const uint8_t *data = e->chosen[i].data;
        bool ok = (!p->nonce_size || memcmp(data, nonce, sizeof nonce) == 0) &&
                  (!p->report_data.count || set_has(&p->report_data, data, CHOSEN_SIZE));
        if (ok) fits = i;
        if (ok || i + 1 == e->chosen_count) {
            if (p->nonce_size) policy_nonce(res, p, data);
            if (p->report_data.count)
                check_set(res, ATTEST_RULE_REPORT_DATA, "report_data", &p->report_data, data, CHOSEN_SIZE);
            break;
        }
    }
    if (e->chosen_count) fact(res, "chosen_data_in", v_text(e->chosen[fits].where));
}

/* A certificate or request that names its workload has hashed the nonce into its report data: `wrapper.key`. */
static void check_answered(struct attest_result *res, const struct attest_evidence *e, const struct attest_policy *p) {
    bool same = e->nonce_size == p->nonce_size && memcmp(e->nonce, p->nonce, e->nonce_size) == 0;
    check(res, ATTEST_RULE_NONCE, same, v_bytes(res, p->nonce, p->nonce_size), v_bytes(res, e->nonce, e->nonce_size));
}

void attest_verify(struct attest_verifier *v, const struct attest_evidence *e, const struct attest_policy *policy,
                   int64_t now, struct attest_result *res) {
    struct attest_policy genuine, inner;
    if (!policy) {
        attest_policy_genuine(&genuine); /* owns nothing */
        policy = &genuine;
    }
    const struct attest_policy *whole = policy;
    bool answers = e->nonce_size && !e->chosen_count && policy->nonce_size;
    if (e->chosen_count || answers) { /* borrows from the whole policy */
        inner = *policy;
        inner.nonce_size = 0;
        if (e->chosen_count) inner.report_data.count = 0;
        policy = &inner;
    }
    result_start(res, now);
    describe_wrappers(res, e);
    if (e->local_only) {
        res->tee = ATTEST_TEE_TDX;
        check(res, ATTEST_RULE_EVIDENCE, false, v_text("a TDX quote"),
              v_text("a local TD report: only its own machine can check it"));
        advise(res, "have the attester turn it into a quote (its quoting service, or Azure's THIM) and send that");
    } else
        switch (e->tee) {
        case ATTEST_TEE_SNP: snp_verify(v, e->report, &e->carried, policy, now, res); break;
        case ATTEST_TEE_SGX:
        case ATTEST_TEE_TDX: quote_verify(v, e->report, e->log, &e->carried, policy, now, res); break;
        case ATTEST_TEE_NITRO: nitro_verify(v, e->report, policy, now, res); break;
        case ATTEST_TEE_KEYSTONE: keystone_verify(e->report, policy, res); break;
        default: check(res, ATTEST_RULE_EVIDENCE, false, v_text("known evidence"), v_text("unknown evidence"));
        }
    policy = whole;
    check_wrapper(res, e, now);
    vtpm_check(res, e, policy);
    if (e->chosen_count) check_chosen(res, e, policy);
    if (answers) check_answered(res, e, policy);
    res->policy_name = v_format(res, "%s", policy->name).text;
    result_finish(res);
}

void attest_inspect(struct attest_verifier *v, const struct attest_evidence *e, struct attest_result *res) {
    result_start(res, 0);
    describe_wrappers(res, e);
    res->tee = e->tee;
    vtpm_describe(res, e);
    for (size_t k = 0; k < e->chosen_count; k++) {
        fact(res, "chosen_data_in", v_text(e->chosen[k].where));
        fact_bytes(res, "chosen_data", e->chosen[k].data, CHOSEN_SIZE);
    }
    if (e->tee == ATTEST_TEE_SNP) {
        struct snp_report report;
        if (!snp_parse(e->report, &report)) return;
        X509 *vek = snp_find_vek(v, &e->carried, &report, 0);
        struct snp_vek parsed = {.product = SNP_UNKNOWN};
        if (vek) snp_vek_parse(vek, &parsed);
        enum snp_product product = snp_product_of(&report);
        snp_describe(res, &report, product == SNP_UNKNOWN ? parsed.product : product);
    } else if (e->local_only) {
        enum { REPORT_DATA_AT = 128, TDINFO_AT = 512 };
        fact_bytes(res, "report_data", e->report.data + REPORT_DATA_AT, 64);
        fact_bytes(res, "mrtd", e->report.data + TDINFO_AT + 16, 48);
    } else if (e->tee == ATTEST_TEE_SGX || e->tee == ATTEST_TEE_TDX) {
        struct quote q;
        const char *wrong = quote_parse(e->report, &q);
        if (wrong) fact(res, "malformed", v_text(wrong));
        if (q.body.data) quote_describe(res, &q);
        struct endorsements in_quote = {0};
        struct pck pck;
        X509 *leaf = wrong ? NULL : quote_pck_leaf(&q, &in_quote);
        if (leaf && pck_parse(leaf, &pck)) {
            fact_bytes(res, "fmspc", pck.fmspc, sizeof pck.fmspc);
            fact_bytes(res, "ppid", pck.ppid, sizeof pck.ppid);
            fact_number(res, "pck_pce_svn", pck.pce_svn);
            fact_bytes(res, "pck_tcb_components", pck.components, sizeof pck.components);
        }
        endorsements_free(&in_quote);
    } else if (e->tee == ATTEST_TEE_NITRO) {
        struct nitro n;
        const char *wrong = nitro_parse(e->report, &n);
        if (wrong)
            fact(res, "malformed", v_text(wrong));
        else
            nitro_describe(res, &n);
    } else if (e->tee == ATTEST_TEE_KEYSTONE) {
        struct keystone k;
        if (keystone_parse(e->report, &k)) keystone_describe(res, &k);
    }
}
