/* The rules: which evidence gets which names. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"
#include "steward.h"

enum { POLICY_MAX = 1 << 20, ENDORSEMENT_MAX = 4 << 20, DIRECTORY_FILES_MAX = 4096 };

struct steward_policy {
    struct attest_policy policy;
    uint8_t digest[32]; /* of the file: the audit log says which edition decided */
    bool loaded;
};

/* ---- Loading ---- */

static bool read_file(const struct steward *s, const char *path, size_t most, struct attest_bytes *out,
                      char error[SETTINGS_ERROR]) {
    char *full = steward_settings_path(s->settings, path), *bytes;
    bool ok = full && cli_read_file(full, most, &bytes, &out->size);
    if (ok)
        out->data = (const uint8_t *)bytes;
    else
        snprintf(error, SETTINGS_ERROR, "%.300s: %s", full ? full : path, full ? strerror(errno) : "out of memory");
    free(full);
    return ok;
}

static bool load_policy(const struct steward *s, const struct steward_rule *rule, struct steward_policy *p,
                        char error[SETTINGS_ERROR]) {
    struct attest_bytes text;
    char why[300];
    if (!read_file(s, rule->policy, POLICY_MAX, &text, error)) return false;
    p->loaded = attest_policy_read(&p->policy, (const char *)text.data, text.size, why, sizeof why);
    if (!p->loaded) snprintf(error, SETTINGS_ERROR, "%.200s: %s", rule->policy, why);
    bool ok = p->loaded && EVP_Digest(text.data, text.size, p->digest, NULL, EVP_sha256(), NULL) == 1;
    free((void *)text.data);
    if (ok && p->policy.allow_software && !s->settings->development_root) {
        snprintf(error, SETTINGS_ERROR,
                 "%.200s: allow_software needs evidence.development-root in steward.toml: software protects nothing",
                 rule->policy);
        return false;
    }
    if (ok && (p->policy.report_data.count || p->policy.nonce_size)) {
        snprintf(error, SETTINGS_ERROR, "%.200s: report_data and nonce are the request's, not the policy's",
                 rule->policy);
        return false;
    }
    return ok;
}

static bool add_endorsement(struct attest_verifier *v, const char *path) {
    char *bytes;
    size_t size;
    if (!cli_read_file(path, ENDORSEMENT_MAX, &bytes, &size)) return false;
    attest_verifier_add(v, (struct attest_bytes){(uint8_t *)bytes, size}); /* what it is not, it ignores */
    free(bytes);
    return true;
}

static bool add_collateral(const struct steward *s, struct attest_verifier *v, const char *path,
                           char error[SETTINGS_ERROR]) {
    struct stat st;
    char *full = steward_settings_path(s->settings, path);
    bool ok = full && !stat(full, &st), directory = ok && S_ISDIR(st.st_mode);
    if (ok && !directory) ok = add_endorsement(v, full);
    DIR *dir = directory ? opendir(full) : NULL;
    ok = ok && (!directory || dir);
    int files = 0;
    for (struct dirent *e; dir && (e = readdir(dir)) && files < DIRECTORY_FILES_MAX; files++) {
        char inner[4096];
        if (e->d_name[0] != '.' && snprintf(inner, sizeof inner, "%s/%s", full, e->d_name) < (int)sizeof inner &&
            !stat(inner, &st) && S_ISREG(st.st_mode))
            add_endorsement(v, inner);
    }
    if (dir) closedir(dir);
    if (!ok) snprintf(error, SETTINGS_ERROR, "%.300s: %s", full ? full : path, strerror(errno));
    free(full);
    return ok;
}

static bool add_root(const struct steward *s, struct attest_verifier *v, const char *path, bool development,
                     char error[SETTINGS_ERROR]) {
    struct attest_bytes pem;
    if (!read_file(s, path, ENDORSEMENT_MAX, &pem, error)) return false;
    bool ok = development ? attest_verifier_add_development_root(v, pem) : attest_verifier_add_root(v, pem, false);
    free((void *)pem.data);
    if (!ok) snprintf(error, SETTINGS_ERROR, "%.300s: expected one certificate", path);
    return ok;
}

static struct attest_verifier *load_verifier(const struct steward *s, char error[SETTINGS_ERROR]) {
    const struct steward_settings *t = s->settings;
    struct attest_verifier *v = attest_verifier_new();
    bool ok = v != NULL;
    if (!ok) snprintf(error, SETTINGS_ERROR, "out of memory");
    for (size_t i = 0; ok && i < t->collateral.count; i++)
        ok = add_collateral(s, v, t->collateral.items[i], error);
    for (size_t i = 0; ok && i < t->roots.count; i++)
        ok = add_root(s, v, t->roots.items[i], false, error);
    if (ok && t->development_root) ok = add_root(s, v, t->development_root, true, error);
    if (ok) return v;
    attest_verifier_free(v);
    return NULL;
}

static bool load_denied(const struct steward *s, struct steward_denied **out, char error[SETTINGS_ERROR]) {
    struct attest_bytes text;
    char why[SETTINGS_ERROR];
    if (!s->settings->denied) return true;
    if (!read_file(s, s->settings->denied, ENDORSEMENT_MAX, &text, error)) return false;
    *out = steward_denied_read((const char *)text.data, text.size, why);
    free((void *)text.data);
    if (!*out) snprintf(error, SETTINGS_ERROR, "%.200s: %.250s", s->settings->denied, why);
    return *out;
}

static void policies_free(struct steward_policy *list, size_t count) {
    for (size_t i = 0; list && i < count; i++)
        if (list[i].loaded) attest_policy_free(&list[i].policy);
    free(list);
}

bool steward_rules_load(struct steward *s, char error[SETTINGS_ERROR]) {
    size_t count = s->settings->rule_count;
    struct steward_policy *list = calloc(count, sizeof *list);
    struct steward_denied *denied = NULL;
    struct attest_verifier *v = list ? load_verifier(s, error) : NULL;
    bool ok = v && load_denied(s, &denied, error);
    for (size_t i = 0; ok && i < count; i++)
        ok = load_policy(s, &s->settings->rules[i], &list[i], error);
    if (!ok) {
        attest_verifier_free(v);
        policies_free(list, count);
        steward_denied_free(denied);
        return false;
    }
    steward_rules_free(s);
    s->verifier = v;
    s->policies = list;
    s->denied = denied;
    return true;
}

void steward_rules_free(struct steward *s) {
    attest_verifier_free(s->verifier);
    policies_free(s->policies, s->settings->rule_count);
    steward_denied_free(s->denied);
    s->verifier = NULL;
    s->policies = NULL;
    s->denied = NULL;
}

/* ---- Deciding ---- */

static struct steward_reason *next_reason(struct steward_decision *d) {
    enum { ROOM = sizeof d->reasons / sizeof *d->reasons };
    return &d->reasons[d->reason_count < ROOM ? d->reason_count++ : ROOM - 1];
}

/* The first failed check, as `RULE: evidence.NAME`. */
static void because_of(struct steward_reason *why, const struct steward_rule *rule, const struct attest_result *r) {
    const struct attest_check *c = attest_result_reason(r);
    char name[48], expected[160], found[160];
    snprintf(name, sizeof name, "evidence.%s", c ? attest_rules[c->rule].name : "unknown");
    if (!c) {
        steward_because(why, name, "%s: the evidence was not accepted", rule->name);
        return;
    }
    attest_value_format(&c->expected, expected, sizeof expected);
    attest_value_format(&c->found, found, sizeof found);
    steward_because(why, name, "%s: %s: expected %s, found %s", rule->name, attest_rules[c->rule].title, expected,
                    found);
}

static bool gives_names(const struct steward_rule *rule, const struct steward_request *r, struct steward_reason *why) {
    for (size_t i = 0; i < r->name_count; i++)
        if (!steward_rule_names(rule, r->names[i]))
            return steward_because(why, "policy.names", "%s: does not give the name %s", rule->name, r->names[i]);
    return true;
}

static bool decide(struct steward *s, size_t i, const struct steward_request *r, const struct attest_evidence *e,
                   int64_t now, struct attest_result *result, struct steward_reason *why) {
    const struct steward_rule *rule = &s->settings->rules[i];
    attest_verify(s->verifier, e, &s->policies[i].policy, now, result);
    if (!result->accepted) {
        because_of(why, rule, result);
        return false;
    }
    if (!steward_denied_allows(s->denied, result, why)) return false;
    /* Any guest can name any workload; only known code names the one it runs. */
    if (!result->identified)
        return steward_because(why, "policy.identity", "%s: its policy names no measurement or signer", rule->name);
    if (!result->names_workload || memcmp(result->workload, r->workload.data, sizeof result->workload))
        return steward_because(why, "evidence.workload", "%s: the evidence does not vouch for the workload",
                               rule->name);
    if (!steward_rule_workload(rule, result->workload))
        return steward_because(why, "policy.workload", "%s: not one of its workloads", rule->name);
    return gives_names(rule, r, why);
}

static void grant_by(struct steward *s, size_t i, struct steward_grant *g) {
    g->rule = &s->settings->rules[i];
    g->policy_name = s->policies[i].policy.name;
    g->policy_digest = s->policies[i].digest;
}

bool steward_rules_decide(struct steward *s, const struct steward_request *r, int64_t now, struct steward_grant *g,
                          struct steward_decision *d) {
    char error[300];
    struct attest_evidence *e =
        attest_evidence_open((struct attest_bytes){r->der, (size_t)r->der_size}, error, sizeof error);
    if (!e) return steward_because(next_reason(d), "evidence.missing", "%s", error);
    bool found = false;
    for (size_t i = 0; !found && i < s->settings->rule_count; i++) {
        struct steward_reason why;
        found = decide(s, i, r, e, now, &g->result, &why);
        if (found)
            grant_by(s, i, g);
        else
            *next_reason(d) = why;
    }
    attest_evidence_free(e);
    return found;
}

/* The policy with more demands: exactly this report data, and this nonce answered. */
static bool appraise(struct steward *s, size_t i, const struct attest_evidence *e, struct attest_bytes report_data,
                     struct attest_bytes nonce, int64_t now, struct attest_result *result) {
    struct attest_policy policy = s->policies[i].policy; /* borrows its sets, but for this one: */
    if (report_data.size) policy.report_data = (struct attest_set){(uint8_t *)report_data.data, 1, report_data.size};
    policy.nonce_size = nonce.size <= sizeof policy.nonce ? nonce.size : 0;
    if (policy.nonce_size) memcpy(policy.nonce, nonce.data, policy.nonce_size);
    attest_verify(s->verifier, e, &policy, now, result);
    return result->accepted;
}

bool steward_rules_appraise(struct steward *s, const struct attest_evidence *e, const char *name,
                            struct attest_bytes report_data, struct attest_bytes nonce, int64_t now,
                            struct steward_grant *g, struct steward_decision *d) {
    bool any = false;
    for (size_t i = 0; i < s->settings->rule_count; i++) {
        if (name && strcmp(name, s->settings->rules[i].name)) continue;
        any = true;
        grant_by(s, i, g);
        bool good = appraise(s, i, e, report_data, nonce, now, &g->result);
        struct steward_reason why;
        if (good && steward_denied_allows(s->denied, &g->result, &why)) return true;
        if (good) { /* by no rule */
            d->reasons[0] = why;
            d->reason_count = 1;
            return false;
        }
        because_of(next_reason(d), g->rule, &g->result);
    }
    return any || steward_because(next_reason(d), "policy.unknown", "no rule of this name");
}
