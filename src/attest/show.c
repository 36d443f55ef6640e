/* Results for people (a tree and a verdict line) and for programs (JSON). */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "result.h"

enum { VALUE_TEXT_MAX = 4200 }; /* the longest field, 1024 bytes, in hexadecimal, with room */

static void put(struct attest_text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(struct attest_text *t, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n >= 0 && t->size + (size_t)n + 1 > t->capacity) {
        size_t wanted = (t->size + (size_t)n + 1) * 2;
        char *grown = realloc(t->data, wanted);
        if (!grown) {
            va_end(again);
            return;
        }
        t->data = grown;
        t->capacity = wanted;
    }
    if (n >= 0) t->size += (size_t)vsnprintf(t->data + t->size, t->capacity - t->size, format, again);
    va_end(again);
}

struct paint {
    const char *good, *bad, *dim, *bold, *off;
};
static const struct paint colours = {"\033[32m", "\033[31m", "\033[2m", "\033[1m", "\033[0m"},
                          plain = {"", "", "", "", ""};

static const char *tee_title(enum attest_tee tee) {
    static const char *const titles[] = {
        "Unknown evidence", "AMD SEV-SNP report",           "Intel SGX quote", "Intel TDX quote", "AWS Nitro document",
        "Keystone report",  "Software (development) report"};
    return titles[tee];
}

static unsigned count_in(const struct attest_result *r, enum attest_group g, int outcome) {
    unsigned n = 0;
    for (unsigned i = 0; i < r->check_count; i++)
        if (attest_rules[r->checks[i].rule].group == g && (outcome < 0 || (int)r->checks[i].outcome == outcome)) n++;
    return n;
}

/* The rule, and where several keys of a policy share it, the key: "tdx.rtmr (tdx.rtmr0)". */
static const char *full_name(const struct attest_check *c, char *out, size_t size) {
    const char *rule = attest_rules[c->rule].name;
    bool shared = c->key && (c->rule == ATTEST_RULE_TDX_RTMR || c->rule == ATTEST_RULE_TDX_OWNER ||
                             c->rule == ATTEST_RULE_NITRO_PCRS || c->rule == ATTEST_RULE_VTPM_POLICY ||
                             c->rule == ATTEST_RULE_MEASUREMENT || c->rule == ATTEST_RULE_SIGNER);
    snprintf(out, size, shared ? "%s (%s)" : "%s", rule, c->key);
    return out;
}

static void put_check(struct attest_text *t, const struct paint *p, const struct attest_check *c, const char *stem,
                      bool last) {
    char expected[VALUE_TEXT_MAX], found[VALUE_TEXT_MAX];
    const struct attest_rule_text *rule = &attest_rules[c->rule];
    attest_value_format(&c->expected, expected, sizeof expected);
    attest_value_format(&c->found, found, sizeof found);
    const char *branch = last ? "└─" : "├─", *under = last ? "  " : "│ ";
    char name[96];
    full_name(c, name, sizeof name);
    if (c->outcome == ATTEST_PASS) {
        put(t, "%s%s %s✓%s %s: %s%.140s%s\n", stem, branch, p->good, p->off, name, p->dim, found, p->off);
        return;
    }
    if (c->outcome == ATTEST_NOTE) {
        put(t, "%s%s · %s: %s%.140s (not constrained)%s\n", stem, branch, name, p->dim, found, p->off);
        return;
    }
    put(t, "%s%s %s✗ %s%s: %s\n", stem, branch, p->bad, name, p->off, rule->title);
    put(t, "%s%s     expected  %s\n", stem, under, expected);
    put(t, "%s%s     found     %s%s%s\n", stem, under, p->bad, found, p->off);
    put(t, "%s%s     to do     %s\n", stem, under, attest_check_remedy(c));
}

static void put_group(struct attest_text *t, const struct paint *p, const struct attest_result *r, enum attest_group g,
                      bool last) {
    unsigned total = count_in(r, g, -1), failed = count_in(r, g, ATTEST_FAIL), seen = 0;
    put(t, "%s %s%s%s%s%s\n", last ? "└─" : "├─", p->bold, attest_group_names[g], p->off, failed ? p->bad : "",
        failed ? " ✗" : "");
    if (failed) put(t, "%s", p->off);
    for (unsigned i = 0; i < r->check_count; i++) {
        if (attest_rules[r->checks[i].rule].group != g) continue;
        put_check(t, p, &r->checks[i], last ? "   " : "│  ", ++seen == total);
    }
}

static void put_facts(struct attest_text *t, const struct paint *p, const struct attest_result *r, bool last) {
    char value[VALUE_TEXT_MAX];
    put(t, "%s %sclaims%s\n", last ? "└─" : "├─", p->bold, p->off);
    for (unsigned i = 0; i < r->fact_count; i++) {
        const char *branch = i + 1 == r->fact_count ? "└─" : "├─";
        put(t, "%s%s %s: %s\n", last ? "   " : "│  ", branch, r->facts[i].name,
            attest_value_format(&r->facts[i].value, value, sizeof value));
    }
}

static void put_verdict(struct attest_text *t, const struct paint *p, const struct attest_result *r) {
    char at[40], until[40], expected[900], found[900];
    struct attest_value now = {.kind = ATTEST_TIME, .time = r->time},
                        end = {.kind = ATTEST_TIME, .time = r->valid_until};
    attest_value_format(&now, at, sizeof at);
    attest_value_format(&end, until, sizeof until);
    if (r->accepted) {
        put(t, "%sACCEPTED%s at %s under policy \"%s\"%s%s%s\n", p->good, p->off, at, r->policy_name,
            r->identified
                ? ""
                : ": genuine, but nothing says it is the code you want (no measurement or signer in the policy)",
            r->valid_until ? "; good until " : "", r->valid_until ? until : "");
        return;
    }
    const struct attest_check *c = attest_result_reason(r);
    if (!c) {
        put(t, "%sREJECTED%s: nothing was checked\n", p->bad, p->off);
        return;
    }
    put(t, "%sREJECTED%s at %s%s: %s: expected %s, found %s", p->bad, p->off, at,
        r->genuine ? " by policy (the evidence is genuine)" : "", attest_rules[c->rule].name,
        attest_value_format(&c->expected, expected, sizeof expected),
        attest_value_format(&c->found, found, sizeof found));
    if (r->failed > 1) put(t, "; %u more failed", r->failed - 1);
    put(t, ". To do: %s\n", attest_check_remedy(c));
}

/* The cause in the first line too: what stands below it may fill screens. */
static void put_headline(struct attest_text *t, const struct paint *p, const struct attest_result *r) {
    enum { SHOWN = 100 };
    const struct attest_check *c = r->accepted ? NULL : attest_result_reason(r);
    if (!c) return;
    char name[96], found[VALUE_TEXT_MAX];
    attest_value_format(&c->found, found, sizeof found);
    put(t, " %s✗%s %s: %.*s%s", p->bad, p->off, full_name(c, name, sizeof name), SHOWN, found,
        strlen(found) > SHOWN ? "..." : "");
}

void attest_print_tree(const struct attest_result *r, bool colour, bool verbose, struct attest_text *t) {
    const struct paint *p = colour ? &colours : &plain;
    bool judged = r->check_count > 0;
    const struct attest_fact *wrapper = attest_result_fact(r, "wrapper");
    put(t, "%s%s%s", p->bold, tee_title(r->tee), p->off);
    if (wrapper) put(t, " in %s", wrapper->value.text);
    put_headline(t, p, r);
    put(t, "\n");
    enum attest_group final = ATTEST_FORMAT;
    for (enum attest_group g = ATTEST_FORMAT; g <= ATTEST_POLICY; g++)
        if (count_in(r, g, -1)) final = g;
    if (verbose || !judged) put_facts(t, p, r, !judged);
    for (enum attest_group g = ATTEST_FORMAT; g <= ATTEST_POLICY; g++)
        if (count_in(r, g, -1)) put_group(t, p, r, g, g == final);
    if (judged) put_verdict(t, p, r);
}

/* ---- JSON ---- */

static json_t *json_value(const struct attest_value *v) {
    char text[VALUE_TEXT_MAX];
    switch (v->kind) {
    case ATTEST_NONE: return json_null();
    case ATTEST_BOOL: return json_boolean(v->number);
    case ATTEST_NUMBER: /* JSON numbers are exact up to 2^53 in many readers */
        if (v->number < 1ull << 53) return json_integer((json_int_t)v->number);
        __attribute__((fallthrough));
    default: return json_string(attest_value_format(v, text, sizeof text));
    }
}

static json_t *json_check(const struct attest_check *c) {
    static const char *const outcomes[] = {"pass", "fail", "note"};
    const struct attest_rule_text *rule = &attest_rules[c->rule];
    json_t *o = json_object();
    json_object_set_new(o, "rule", json_string(rule->name));
    json_object_set_new(o, "group", json_string(attest_group_names[rule->group]));
    json_object_set_new(o, "outcome", json_string(outcomes[c->outcome]));
    json_object_set_new(o, "expected", json_value(&c->expected));
    json_object_set_new(o, "found", json_value(&c->found));
    if (c->outcome == ATTEST_FAIL) {
        json_object_set_new(o, "title", json_string(rule->title));
        json_object_set_new(o, "remedy", json_string(attest_check_remedy(c)));
    }
    if (c->key) json_object_set_new(o, "key", json_string(c->key));
    return o;
}

/* Facts that occur once are members; the wrappers are a list. */
static json_t *json_facts(const struct attest_result *r) {
    json_t *claims = json_object();
    for (unsigned i = 0; i < r->fact_count; i++) {
        const struct attest_fact *f = &r->facts[i];
        if (strcmp(f->name, "wrapper") != 0) {
            json_object_set_new(claims, f->name, json_value(&f->value));
            continue;
        }
        json_t *list = json_object_get(claims, "wrappers");
        if (!list) json_object_set_new(claims, "wrappers", list = json_array());
        json_array_append_new(list, json_value(&f->value));
    }
    return claims;
}

char *attest_print_json(const struct attest_result *r) {
    json_t *o = json_object(), *checks = json_array();
    struct attest_value until = {.kind = ATTEST_TIME, .time = r->valid_until},
                        at = {.kind = ATTEST_TIME, .time = r->time};
    json_object_set_new(o, "tee", json_string(attest_tee_names[r->tee]));
    if (r->check_count) {
        const struct attest_check *reason = attest_result_reason(r);
        json_object_set_new(o, "verdict", json_string(r->accepted ? "accepted" : "rejected"));
        json_object_set_new(o, "genuine", json_boolean(r->genuine));
        json_object_set_new(o, "identified", json_boolean(r->identified));
        json_object_set_new(o, "reason", reason ? json_string(attest_rules[reason->rule].name) : json_null());
        json_object_set_new(o, "remedy", reason ? json_string(attest_check_remedy(reason)) : json_null());
        json_object_set_new(o, "policy", json_string(r->policy_name));
        json_object_set_new(o, "time", json_value(&at));
        json_object_set_new(o, "valid_until", r->valid_until ? json_value(&until) : json_null());
        json_object_set_new(o, "tcb_status", r->tcb_status ? json_string(r->tcb_status) : json_null());
        for (unsigned i = 0; i < r->check_count; i++)
            json_array_append_new(checks, json_check(&r->checks[i]));
        json_object_set(o, "checks", checks);
    }
    json_decref(checks);
    json_object_set_new(o, "claims", json_facts(r));
    char *text = json_dumps(o, JSON_INDENT(2));
    json_decref(o);
    return text;
}
