#include "result.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

const struct attest_rule_text attest_rules[ATTEST_RULE_COUNT] = {
#define ATTEST_RULE(id, group, name, title, remedy) [ATTEST_RULE_##id] = {name, title, remedy, ATTEST_##group},
#include <donjon/attest-rules.h>
#undef ATTEST_RULE
};

const char *const attest_group_names[] = {"form", "certificates", "signatures", "bindings", "collateral", "policy"};
const char *const attest_tee_names[] = {"unknown", "snp", "sgx", "tdx", "nitro", "keystone", "software"};

void result_start(struct attest_result *r, int64_t now) {
    r->genuine = r->accepted = r->identified = false;
    r->tee = ATTEST_TEE_UNKNOWN;
    r->time = now;
    r->valid_until = 0;
    r->tcb_status = NULL;
    r->policy_name = "";
    r->names_workload = false;
    r->check_count = r->fact_count = r->failed = 0;
    r->pool_used = 0;
}

void result_finish(struct attest_result *r) {
    bool genuine = r->check_count > 0;
    for (unsigned i = 0; i < r->check_count; i++) {
        const struct attest_check *c = &r->checks[i];
        if (c->outcome == ATTEST_FAIL && attest_rules[c->rule].group != ATTEST_POLICY) genuine = false;
    }
    r->genuine = genuine;
    r->accepted = genuine && r->failed == 0;
}

static void record(struct attest_result *r, enum attest_rule rule, enum attest_outcome outcome,
                   struct attest_value expected, struct attest_value found) {
    if (outcome == ATTEST_FAIL) r->failed++; /* counted even when there is no room to explain it */
    if (r->check_count == ATTEST_MAX_CHECKS) {
        if (outcome == ATTEST_FAIL)
            r->checks[ATTEST_MAX_CHECKS - 1] = (struct attest_check){rule, outcome, expected, found, NULL, NULL};
        return;
    }
    r->checks[r->check_count++] = (struct attest_check){rule, outcome, expected, found, NULL, NULL};
}

bool check(struct attest_result *r, enum attest_rule rule, bool ok, struct attest_value expected,
           struct attest_value found) {
    record(r, rule, ok ? ATTEST_PASS : ATTEST_FAIL, expected, found);
    return ok;
}

void note(struct attest_result *r, enum attest_rule rule, struct attest_value found) {
    record(r, rule, ATTEST_NOTE, v_none(), found);
}

static struct attest_check *last(struct attest_result *r) {
    return r->check_count ? &r->checks[r->check_count - 1] : NULL;
}

void concerns(struct attest_result *r, const char *key) {
    if (last(r)) last(r)->key = key;
}

void advise(struct attest_result *r, const char *format, ...) {
    struct attest_check *c = last(r);
    if (!c || c->outcome != ATTEST_FAIL) return;
    char text[900];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    size_t room = sizeof r->pool - r->pool_used;
    if (strlen(text) < room) c->advice = v_format(r, "%s", text).text; /* without room the rule's remedy has to do */
}

const char *attest_check_remedy(const struct attest_check *c) {
    return c->advice ? c->advice : attest_rules[c->rule].remedy;
}

bool check_bytes(struct attest_result *r, enum attest_rule rule, const void *expected, const void *found, size_t size) {
    bool ok = memcmp(expected, found, size) == 0;
    struct attest_value value = v_bytes(r, found, size);
    return check(r, rule, ok, ok ? value : v_bytes(r, expected, size), value);
}

struct attest_value v_bytes(struct attest_result *r, const void *bytes, size_t size) {
    if (size > sizeof r->pool - r->pool_used) return v_text("(too long to show)");
    uint8_t *copy = r->pool + r->pool_used;
    if (size) memcpy(copy, bytes, size);
    r->pool_used += size;
    return (struct attest_value){.kind = ATTEST_BYTES, .size = (uint32_t)size, .bytes = copy};
}

struct attest_value v_format(struct attest_result *r, const char *format, ...) {
    size_t room = sizeof r->pool - r->pool_used;
    if (room < 2) return v_text("(too long to show)");
    char *text = (char *)r->pool + r->pool_used;
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, room, format, args);
    va_end(args);
    if (n < 0) return v_text("?");
    r->pool_used += ((size_t)n < room ? (size_t)n : room - 1) + 1;
    return v_text(text);
}

void fact(struct attest_result *r, const char *name, struct attest_value value) {
    if (r->fact_count < ATTEST_MAX_FACTS) r->facts[r->fact_count++] = (struct attest_fact){name, value};
}

void fact_bytes(struct attest_result *r, const char *name, const void *bytes, size_t size) {
    fact(r, name, v_bytes(r, bytes, size));
}

void fact_number(struct attest_result *r, const char *name, uint64_t n) {
    fact(r, name, v_number(n));
}
void fact_hex(struct attest_result *r, const char *name, uint64_t n) {
    fact(r, name, v_hex(n));
}

void fact_text(struct attest_result *r, const char *name, const char *text, size_t size) {
    enum { LONGEST = 400 };
    char clean[LONGEST + 1];
    size_t n = size < LONGEST ? size : LONGEST;
    for (size_t i = 0; i < n; i++)
        clean[i] = text[i] >= 0x20 && text[i] < 0x7f ? text[i] : '?';
    clean[n] = 0;
    fact(r, name, v_format(r, "%s", clean));
}

/* How much a failure decides. What only time or a missing list did comes after what makes the evidence false: lists can
 * be fetched, and then it would still be refused. A certificate that nobody trusts is worse than one that does not fit.
 */
static int weight(const struct attest_check *c) {
    bool curable = c->rule == ATTEST_RULE_CHAIN_CRL || c->rule == ATTEST_RULE_CHAIN_VALIDITY;
    if (curable) return ATTEST_BINDING * 2 + 1;
    return (int)attest_rules[c->rule].group * 2 + (c->rule == ATTEST_RULE_ENDORSEMENT);
}

const struct attest_check *attest_result_reason(const struct attest_result *r) {
    const struct attest_check *reason = NULL;
    for (unsigned i = 0; i < r->check_count; i++)
        if (r->checks[i].outcome == ATTEST_FAIL && (!reason || weight(&r->checks[i]) < weight(reason)))
            reason = &r->checks[i];
    return reason;
}

bool attest_result_answers_nonce(const struct attest_result *r) {
    bool checked = false, failed = false;
    for (unsigned i = 0; i < r->check_count; i++) {
        if (r->checks[i].rule != ATTEST_RULE_NONCE) continue;
        checked |= r->checks[i].outcome == ATTEST_PASS;
        failed |= r->checks[i].outcome == ATTEST_FAIL;
    }
    return r->genuine && checked && !failed;
}

const struct attest_fact *attest_result_fact(const struct attest_result *r, const char *name) {
    for (unsigned i = 0; i < r->fact_count; i++)
        if (strcmp(r->facts[i].name, name) == 0) return &r->facts[i];
    return NULL;
}

static void format_bytes(const struct attest_value *v, char *out, size_t size) {
    static const char digits[] = "0123456789abcdef";
    size_t shown = v->size, at = 0;
    bool cut = shown * 2 + 1 > size;
    if (cut) shown = size > 4 ? (size - 4) / 2 : 0;
    for (size_t i = 0; i < shown; i++) {
        out[at++] = digits[v->bytes[i] >> 4];
        out[at++] = digits[v->bytes[i] & 15];
    }
    snprintf(out + at, size - at, "%s", cut ? "..." : "");
}

const char *attest_value_format(const struct attest_value *v, char *out, size_t size) {
    if (size == 0) return out;
    out[0] = 0;
    switch (v->kind) {
    case ATTEST_NONE: break;
    case ATTEST_TEXT: snprintf(out, size, "%s", v->text); break;
    case ATTEST_NUMBER: snprintf(out, size, "%llu", (unsigned long long)v->number); break;
    case ATTEST_HEX: snprintf(out, size, "0x%llx", (unsigned long long)v->number); break;
    case ATTEST_BOOL: snprintf(out, size, "%s", v->number ? "yes" : "no"); break;
    case ATTEST_BYTES: format_bytes(v, out, size); break;
    case ATTEST_TIME: {
        struct tm tm;
        time_t t = (time_t)v->time;
        if (!gmtime_r(&t, &tm) || strftime(out, size, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0) snprintf(out, size, "?");
        break;
    }
    }
    return out;
}
