#include "policy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "intel_json.h"
#include "reader.h"

const char *const tcb_status_names[] = {"UpToDate",
                                        "SWHardeningNeeded",
                                        "ConfigurationNeeded",
                                        "ConfigurationAndSWHardeningNeeded",
                                        "OutOfDate",
                                        "OutOfDateConfigurationNeeded",
                                        "TDRelaunchAdvised",
                                        "TDRelaunchAdvisedConfigurationNeeded",
                                        "Revoked",
                                        NULL};

/* ---- Sets ---- */

bool set_has(const struct attest_set *set, const void *bytes, size_t size) {
    for (size_t i = 0; size == set->width && i < set->count; i++)
        if (memcmp(set->items + i * set->width, bytes, size) == 0) return true;
    return false;
}

bool words_have(const struct attest_words *words, const char *word) {
    for (size_t i = 0; i < words->count; i++)
        if (strcmp(words->items[i], word) == 0) return true;
    return false;
}

bool attest_set_add(struct attest_set *set, const uint8_t *bytes, size_t size) {
    if (size != set->width) return false;
    uint8_t *grown = realloc(set->items, (set->count + 1) * set->width);
    if (!grown) return false;
    memcpy(grown + set->count * set->width, bytes, size);
    set->items = grown;
    set->count++;
    return true;
}

bool attest_words_add(struct attest_words *words, const char *text, size_t size) {
    char **grown = realloc(words->items, (words->count + 1) * sizeof *grown);
    if (!grown) return false;
    words->items = grown;
    char *copy = strndup(text, size);
    if (copy) words->items[words->count++] = copy;
    return copy;
}

/* ---- Fields: one table for reading, freeing and documenting policies ---- */

enum field_kind {
    FIELD_BOOL,
    FIELD_U32,
    FIELD_U64,
    FIELD_I32,
    FIELD_SVN, /* int16_t, 0..255 */
    FIELD_TIME,
    FIELD_DURATION,
    FIELD_SET, /* of `width` bytes */
    FIELD_WORDS,
    FIELD_STATUSES,
    FIELD_VMPLS,
    FIELD_ABI,
    FIELD_NONCE,
    FIELD_NAME,
};

static const struct field {
    const char *key;
    enum field_kind kind;
    size_t offset;
    uint8_t width;
} fields[] = {
#define F(key, kind, member)                                                                                           \
    { key, FIELD_##kind, offsetof(struct attest_policy, member), 0 }
#define S(key, width, member)                                                                                          \
    { key, FIELD_SET, offsetof(struct attest_policy, member), width }
    F("name", NAME, name),
    F("valid_from", TIME, valid_from),
    F("valid_until", TIME, valid_until),
    F("tees", WORDS, tees),
    F("allow_debug", BOOL, allow_debug),
    F("allow_software", BOOL, allow_software),
    F("max_age", DURATION, max_age),
    S("report_data", 64, report_data),
    F("nonce", NONCE, nonce),
    S("workloads", 32, workloads),
    F("snp.products", WORDS, snp.products),
    S("snp.measurements", 48, snp.measurements),
    S("snp.family_ids", 16, snp.family_ids),
    S("snp.image_ids", 16, snp.image_ids),
    S("snp.host_data", 32, snp.host_data),
    S("snp.id_keys", 48, snp.id_keys),
    S("snp.author_keys", 48, snp.author_keys),
    S("snp.chips", 64, snp.chips),
    F("snp.csp_ids", WORDS, snp.csp_ids),
    F("snp.require_author_key", BOOL, snp.require_author_key),
    F("snp.allow_vlek", BOOL, snp.allow_vlek),
    F("snp.allow_smt", BOOL, snp.allow_smt),
    F("snp.allow_migration", BOOL, snp.allow_migration),
    F("snp.allow_cxl", BOOL, snp.allow_cxl),
    F("snp.require_single_socket", BOOL, snp.require_single_socket),
    F("snp.allow_provisional", BOOL, snp.allow_provisional),
    F("snp.require_crl", BOOL, snp.require_crl),
    F("snp.vmpl", VMPLS, snp.vmpls),
    F("snp.minimum_guest_svn", U32, snp.minimum_guest_svn),
    F("snp.minimum_abi", ABI, snp.minimum_abi),
    F("snp.require_platform_info", U64, snp.require_platform_info),
    F("snp.require_mitigations", U64, snp.require_mitigations),
#define MIN_TCB(product, at)                                                                                           \
    F("snp.minimum_tcb." product ".fmc", SVN, snp.minimum[at].fmc),                                                    \
        F("snp.minimum_tcb." product ".bootloader", SVN, snp.minimum[at].bootloader),                                  \
        F("snp.minimum_tcb." product ".tee", SVN, snp.minimum[at].tee),                                                \
        F("snp.minimum_tcb." product ".snp", SVN, snp.minimum[at].snp),                                                \
        F("snp.minimum_tcb." product ".microcode", SVN, snp.minimum[at].microcode)
    MIN_TCB("Milan", 0),
    MIN_TCB("Genoa", 1),
    MIN_TCB("Turin", 2),
    F("intel.tcb_statuses", STATUSES, intel.tcb_statuses),
    F("intel.forbidden_advisories", WORDS, intel.forbidden_advisories),
    F("intel.minimum_evaluation", U32, intel.minimum_evaluation),
    F("intel.allow_smt", BOOL, intel.allow_smt),
    S("intel.platforms", 16, intel.platforms),
    S("sgx.mrenclaves", 32, sgx.mrenclaves),
    S("sgx.mrsigners", 32, sgx.mrsigners),
    S("sgx.config_ids", 64, sgx.config_ids),
    F("sgx.product_id", I32, sgx.product_id),
    F("sgx.minimum_svn", U32, sgx.minimum_svn),
    F("sgx.allow_sample_signer", BOOL, sgx.allow_sample_signer),
    F("sgx.attribute_mask", U64, sgx.attribute_mask),
    F("sgx.xfrm_mask", U64, sgx.xfrm_mask),
    S("tdx.mrtds", 48, tdx.mrtds),
    S("tdx.rtmr0", 48, tdx.rtmr[0]),
    S("tdx.rtmr1", 48, tdx.rtmr[1]),
    S("tdx.rtmr2", 48, tdx.rtmr[2]),
    S("tdx.rtmr3", 48, tdx.rtmr[3]),
    S("tdx.mrseams", 48, tdx.mrseams),
    S("tdx.mrconfigids", 48, tdx.mrconfigids),
    S("tdx.mrowners", 48, tdx.mrowners),
    S("tdx.mrownerconfigs", 48, tdx.mrownerconfigs),
    S("tdx.mrservicetds", 48, tdx.mrservicetds),
    F("tdx.allow_sept_ve", BOOL, tdx.allow_sept_ve),
    F("tdx.allow_migration", BOOL, tdx.allow_migration),
    F("tdx.allow_service_td", BOOL, tdx.allow_service_td),
    F("tdx.allow_attributes", U64, tdx.allow_attributes),
    F("tdx.xfam_mask", U64, tdx.xfam_mask),
    F("nitro.modules", WORDS, nitro.modules),
    S("nitro.user_data_sha256", 32, nitro.user_data),
    S("keystone.device_keys", 32, keystone.device_keys),
    S("keystone.sm_hashes", 64, keystone.sm_hashes),
    S("keystone.enclave_hashes", 64, keystone.enclave_hashes),
#undef F
#undef S
};
enum { FIELD_COUNT = sizeof fields / sizeof *fields, PCR_WIDTH = 48, PCRS = 32, VTPM_WIDTH = 32, VTPM_PCRS = 24 };

static void *member(struct attest_policy *p, const struct field *f) {
    return (uint8_t *)p + f->offset;
}

static void policy_clear(struct attest_policy *p) {
    memset(p, 0, sizeof *p);
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        if (fields[i].kind == FIELD_SET) ((struct attest_set *)member(p, &fields[i]))->width = fields[i].width;
        if (fields[i].kind == FIELD_SVN) *(int16_t *)member(p, &fields[i]) = -1;
    }
    for (int i = 0; i < PCRS; i++)
        p->nitro.pcrs[i].width = PCR_WIDTH;
    for (int i = 0; i < VTPM_PCRS; i++)
        p->vtpm.pcrs[i].width = VTPM_WIDTH;
    p->sgx.product_id = -1;
    p->sgx.attribute_mask = UINT64_MAX;
    p->sgx.xfrm_mask = UINT64_MAX;
    p->tdx.xfam_mask = UINT64_MAX;
}

void attest_policy_strict(struct attest_policy *p) {
    policy_clear(p);
    snprintf(p->name, sizeof p->name, "strict");
    p->snp.vmpls = 1;
    p->snp.allow_vlek = true;
    p->snp.allow_smt = true; /* most clouds offer nothing else; see docs/attestation.md */
    p->intel.allow_smt = true;
    p->intel.tcb_statuses = ATTEST_TCB_UP_TO_DATE;
}

void attest_policy_genuine(struct attest_policy *p) {
    attest_policy_strict(p);
    snprintf(p->name, sizeof p->name, "genuine");
    p->snp.vmpls = 0xf;
    p->snp.allow_provisional = true;
    p->snp.allow_cxl = true;
    p->tdx.allow_sept_ve = true;    /* a paravisor may need #VE; only its owner can tell */
    p->tdx.allow_service_td = true; /* whose it is, is a question of identity */
    p->tdx.allow_attributes = UINT64_MAX;
    p->intel.tcb_statuses = ATTEST_TCB_UP_TO_DATE | ATTEST_TCB_SW_HARDENING;
}

static void words_free(struct attest_words *words) {
    for (size_t i = 0; i < words->count; i++)
        free(words->items[i]);
    free(words->items);
    *words = (struct attest_words){0};
}

void attest_policy_free(struct attest_policy *p) {
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        if (fields[i].kind == FIELD_SET) free(((struct attest_set *)member(p, &fields[i]))->items);
        if (fields[i].kind == FIELD_WORDS) words_free(member(p, &fields[i]));
    }
    for (int i = 0; i < PCRS; i++)
        free(p->nitro.pcrs[i].items);
    for (int i = 0; i < VTPM_PCRS; i++)
        free(p->vtpm.pcrs[i].items);
    policy_clear(p);
}

/* ---- Setting a field from text ---- */

static int hex_digit(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* Number of bytes, or -1. */
static int hex_decode(const char *text, size_t size, uint8_t *out, size_t room) {
    if (size % 2 || size / 2 > room) return -1;
    for (size_t i = 0; i < size; i += 2) {
        int high = hex_digit(text[i]), low = hex_digit(text[i + 1]);
        if (high < 0 || low < 0) return -1;
        out[i / 2] = (uint8_t)(high << 4 | low);
    }
    return (int)(size / 2);
}

static bool parse_number(const char *text, uint64_t max, uint64_t *out) {
    char *end;
    if (*text < '0' || *text > '9') return false;
    unsigned long long n = strtoull(text, &end, text[0] == '0' && (text[1] == 'x' || text[1] == 'X') ? 16 : 10);
    if (*end || n > max || strlen(text) > 20) return false;
    *out = n;
    return true;
}

static bool parse_duration(const char *text, int64_t *out) {
    char *end;
    if (*text < '0' || *text > '9') return false;
    unsigned long long n = strtoull(text, &end, 10);
    int64_t unit = strcmp(end, "s") == 0   ? 1
                   : strcmp(end, "m") == 0 ? 60
                   : strcmp(end, "h") == 0 ? 3600
                   : strcmp(end, "d") == 0 ? 86400
                                           : 0;
    if (!unit || n > INT32_MAX) return false;
    *out = (int64_t)n * unit;
    return true;
}

static bool parse_time(const char *text, int64_t *out) {
    return time_parse(text, strlen(text), out);
}

static bool parse_statuses(const char *text, uint32_t *out) {
    for (unsigned bit = 0; tcb_status_names[bit]; bit++) {
        if (strcmp(tcb_status_names[bit], text) != 0 || 1u << bit == ATTEST_TCB_REVOKED) continue;
        *out |= 1u << bit;
        return true;
    }
    return false;
}

static bool parse_abi(const char *text, uint32_t *out) {
    unsigned major, minor;
    int n = 0;
    if (sscanf(text, "%3u.%3u%n", &major, &minor, &n) != 2 || text[n] || major > 255 || minor > 255) return false;
    *out = major << 8 | minor;
    return true;
}

static const char *wanted_text(enum field_kind kind) {
    switch (kind) {
    case FIELD_BOOL: return "true or false";
    case FIELD_U32:
    case FIELD_I32: return "a number of at most 32 bits";
    case FIELD_U64: return "a number of at most 64 bits";
    case FIELD_SVN: return "a number 0..255";
    case FIELD_TIME: return "a time such as \"2026-01-31T00:00:00Z\"";
    case FIELD_DURATION: return "a duration such as \"90s\", \"24h\", \"7d\"";
    case FIELD_SET: return "hexadecimal text of the right size";
    case FIELD_WORDS: return "text";
    case FIELD_STATUSES: return "a TCB status other than Revoked, such as \"SWHardeningNeeded\"";
    case FIELD_VMPLS: return "a number 0..3";
    case FIELD_ABI: return "a version such as \"1.55\"";
    case FIELD_NONCE: return "hexadecimal text of at most 64 bytes";
    case FIELD_NAME: return "text of at most 63 characters";
    }
    return "";
}

static bool set_field(struct attest_policy *p, const struct field *f, const char *text, size_t size) {
    void *at = member(p, f);
    uint64_t n;
    uint8_t bytes[64];
    int count;
    switch (f->kind) {
    case FIELD_BOOL: *(bool *)at = strcmp(text, "true") == 0; return *(bool *)at || strcmp(text, "false") == 0;
    case FIELD_U32: return parse_number(text, UINT32_MAX, &n) && (*(uint32_t *)at = (uint32_t)n, true);
    case FIELD_I32: return parse_number(text, INT32_MAX, &n) && (*(int32_t *)at = (int32_t)n, true);
    case FIELD_U64: return parse_number(text, UINT64_MAX, &n) && (*(uint64_t *)at = n, true);
    case FIELD_SVN: return parse_number(text, 255, &n) && (*(int16_t *)at = (int16_t)n, true);
    case FIELD_VMPLS: return parse_number(text, 3, &n) && (*(uint32_t *)at |= 1u << n, true);
    case FIELD_TIME: return parse_time(text, at);
    case FIELD_DURATION: return parse_duration(text, at);
    case FIELD_WORDS: return attest_words_add(at, text, size);
    case FIELD_STATUSES: return parse_statuses(text, at);
    case FIELD_ABI: return parse_abi(text, at);
    case FIELD_SET:
        count = hex_decode(text, size, bytes, sizeof bytes);
        return count >= 0 && attest_set_add(at, bytes, (size_t)count);
    case FIELD_NONCE:
        count = hex_decode(text, size, p->nonce, sizeof p->nonce);
        p->nonce_size = count > 0 ? (size_t)count : 0;
        return count > 0;
    case FIELD_NAME: return size < sizeof p->name && (memcpy(at, text, size + 1), true);
    }
    return false;
}

/* "nitro.pcr0" .. "nitro.pcr31", "vtpm.pcr0" .. "vtpm.pcr23" */
static struct attest_set *pcr_set(struct attest_policy *p, const char *key) {
    uint64_t n;
    if (strncmp(key, "vtpm.pcr", 8) == 0) return parse_number(key + 8, VTPM_PCRS - 1, &n) ? &p->vtpm.pcrs[n] : NULL;
    if (strncmp(key, "nitro.pcr", 9) != 0 || !parse_number(key + 9, PCRS - 1, &n)) return NULL;
    return &p->nitro.pcrs[n];
}

const char *attest_policy_key(size_t n) {
    static const char *const numbered[] = {"nitro.pcr0", "vtpm.pcr0"};
    if (n < FIELD_COUNT) return fields[n].key;
    return n - FIELD_COUNT < sizeof numbered / sizeof *numbered ? numbered[n - FIELD_COUNT] : NULL;
}

bool attest_policy_set(struct attest_policy *p, const char *key, const char *value, size_t size, char *error,
                       size_t error_size) {
    char *text = strndup(value, size);
    if (!text) return false;
    const struct field *f = NULL;
    for (size_t i = 0; i < FIELD_COUNT && !f; i++)
        if (strcmp(fields[i].key, key) == 0) f = &fields[i];
    struct attest_set *pcr = f ? NULL : pcr_set(p, key);
    bool ok = false, whole = strlen(text) == size; /* no NUL in it */
    if (f)
        ok = whole && set_field(p, f, text, size);
    else if (pcr && whole) {
        uint8_t bytes[PCR_WIDTH];
        ok = hex_decode(text, size, bytes, sizeof bytes) == (int)pcr->width && attest_set_add(pcr, bytes, pcr->width);
    }
    if (!f && !pcr)
        snprintf(error, error_size, "%s: unknown key", key);
    else if (!ok && f && f->kind == FIELD_SET)
        snprintf(error, error_size, "%s: expected %u bytes as hexadecimal text, found \"%.80s\" (%zu characters)", key,
                 f->width, text, size);
    else if (!ok && pcr)
        snprintf(error, error_size, "%s: expected %zu bytes as hexadecimal text, found \"%.80s\"", key, pcr->width,
                 text);
    else if (!ok)
        snprintf(error, error_size, "%s: expected %s, found \"%.80s\"", key, wanted_text(f->kind), text);
    free(text);
    return ok;
}

void attest_policy_reset(struct attest_policy *p, const char *key) {
    if (strcmp(key, "snp.vmpl") == 0) p->snp.vmpls = 0;
    if (strcmp(key, "intel.tcb_statuses") == 0) p->intel.tcb_statuses = 0;
}

/* ---- Checks ---- */

/* How many bytes of the value nearest to `found` agree from the front. */
static size_t agreeing(const struct attest_set *set, const uint8_t *found) {
    size_t most = 0;
    for (size_t i = 0; i < set->count; i++) {
        const uint8_t *item = set->items + i * set->width;
        size_t n = 0;
        while (n < set->width && item[n] == found[n])
            n++;
        if (n > most) most = n;
    }
    return most;
}

/* What the rule advises, the key to add the value to, and, where the values begin alike, where they part. */
static void advise_set(struct attest_result *res, enum attest_rule rule, const char *key, const struct attest_set *set,
                       const void *found) {
    enum { WORTH_TELLING = 8 };
    char alike[80] = "";
    size_t n = agreeing(set, found);
    if (n >= WORTH_TELLING) snprintf(alike, sizeof alike, ". The first %zu of %zu bytes agree", n, set->width);
    if (all_zero(found, set->width))
        advise(res, "%s (found is all zeros: nothing was set there)%s", attest_rules[rule].remedy, alike);
    else if (rule == ATTEST_RULE_MEASUREMENT)
        advise(
            res,
            "if you meant to launch this build%s, add the value found to %s in the policy; if not, something else was "
            "launched%s",
            strncmp(key, "snp.", 4) == 0 || strncmp(key, "sgx.", 4) == 0
                ? " (donjon measure says what its measurement is)"
                : "",
            key, alike);
    else if (rule == ATTEST_RULE_REPORT_DATA)
        advise(res, "%s%s", attest_rules[rule].remedy, alike); /* never to be "allowed" afterwards */
    else
        advise(res, "%s. To allow it, add the value found to %s in the policy%s", attest_rules[rule].remedy, key,
               alike);
}

bool check_set(struct attest_result *res, enum attest_rule rule, const char *key, const struct attest_set *set,
               const void *found, size_t size) {
    struct attest_value value = v_bytes(res, found, size);
    bool ok = set->count == 0 || set_has(set, found, size);
    char first[2 * 64 + 1];
    struct attest_value item = {.kind = ATTEST_BYTES, .size = (uint32_t)set->width, .bytes = set->items};
    if (set->count == 0)
        note(res, rule, value);
    else if (ok)
        check(res, rule, true, value, value);
    else if (set->count == 1)
        check(res, rule, false, v_bytes(res, set->items, set->width), value);
    else
        check(res, rule, false,
              v_format(res, "one of %zu allowed values (%s, ...)", set->count,
                       attest_value_format(&item, first, sizeof first)),
              value);
    concerns(res, key);
    if (!ok && size == set->width) advise_set(res, rule, key, set, found);
    return ok;
}

bool check_words(struct attest_result *res, enum attest_rule rule, const char *key, const struct attest_words *words,
                 const char *found) {
    struct attest_value value = v_format(res, "%s", found);
    bool ok = words->count == 0 || words_have(words, found);
    char all[200] = "";
    for (size_t i = 0; i < words->count; i++) {
        size_t at = strlen(all);
        snprintf(all + at, sizeof all - at, "%s%s", i ? " or " : "", words->items[i]);
    }
    if (words->count == 0)
        note(res, rule, value);
    else
        check(res, rule, ok, ok ? value : v_format(res, "%s", all), value);
    concerns(res, key);
    return ok;
}

bool check_off(struct attest_result *res, enum attest_rule rule, bool on, bool allowed) {
    if (on && allowed) {
        note(res, rule, v_text("on"));
        return true;
    }
    return check(res, rule, !on, v_text("off"), v_text(on ? "on" : "off"));
}

const char *statuses_text(struct attest_result *res, uint32_t statuses) {
    char all[300] = "";
    for (unsigned bit = 0; tcb_status_names[bit]; bit++) {
        size_t at = strlen(all);
        if (statuses >> bit & 1) snprintf(all + at, sizeof all - at, "%s%s", at ? " or " : "", tcb_status_names[bit]);
    }
    return v_format(res, "%s", *all ? all : "none").text;
}

static bool any_of(const struct attest_set *const *sets, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (sets[i]->count) return true;
    return false;
}

/* Which TEEs the policy names code for: measurements, signers, and what else tells one image from another. */
static uint32_t tees_named(const struct attest_policy *p) {
    uint32_t named = 0;
    const struct attest_set *snp[] = {&p->snp.measurements, &p->snp.id_keys,   &p->snp.author_keys,
                                      &p->snp.host_data,    &p->snp.image_ids, &p->snp.family_ids},
                            *sgx[] = {&p->sgx.mrenclaves, &p->sgx.mrsigners, &p->sgx.config_ids},
                            *tdx[] = {&p->tdx.mrtds, &p->tdx.mrconfigids, &p->tdx.mrowners, &p->tdx.mrownerconfigs};
    if (any_of(snp, sizeof snp / sizeof *snp)) named |= 1u << ATTEST_TEE_SNP | 1u << ATTEST_TEE_SOFTWARE;
    if (any_of(sgx, sizeof sgx / sizeof *sgx)) named |= 1u << ATTEST_TEE_SGX;
    if (any_of(tdx, sizeof tdx / sizeof *tdx)) named |= 1u << ATTEST_TEE_TDX;
    for (size_t i = 0; i < sizeof p->tdx.rtmr / sizeof *p->tdx.rtmr; i++)
        if (p->tdx.rtmr[i].count) named |= 1u << ATTEST_TEE_TDX;
    for (int i = 0; i < PCRS; i++)
        if (p->nitro.pcrs[i].count) named |= 1u << ATTEST_TEE_NITRO;
    if (p->keystone.enclave_hashes.count) named |= 1u << ATTEST_TEE_KEYSTONE;
    return named;
}

/* A policy that says which code may run in one kind of TEE, and nothing about others, would accept any code in those
 * others: they need to be listed. */
static void check_tee(struct attest_result *res, const struct attest_policy *p, enum attest_tee tee) {
    uint32_t named = tees_named(p);
    bool left_out = !p->tees.count && named && !(named >> tee & 1);
    if (!left_out) {
        check_words(res, ATTEST_RULE_TEE, "tees", &p->tees, attest_tee_names[tee]);
        return;
    }
    char all[80] = "";
    for (enum attest_tee t = ATTEST_TEE_SNP; t <= ATTEST_TEE_KEYSTONE; t++) {
        size_t at = strlen(all);
        if (named >> t & 1) snprintf(all + at, sizeof all - at, "%s%s", at ? " or " : "", attest_tee_names[t]);
    }
    check(res, ATTEST_RULE_TEE, false, v_format(res, "%s: the policy names code for no other TEE", all),
          v_text(attest_tee_names[tee]));
    concerns(res, "tees");
    advise(
        res,
        "name the code that may run in this kind of TEE too (snp.measurements, sgx.mrenclaves, tdx.mrtds, nitro.pcr0 "
        "...), or, if any code will do there, list \"%s\" in tees",
        attest_tee_names[tee]);
}

/* Only Nitro's evidence has a time in it. A nonce or report data that the policy expects shows freshness as well. */
static void check_age(struct attest_result *res, const struct attest_policy *p, enum attest_tee tee) {
    if (!p->max_age || tee == ATTEST_TEE_NITRO) return;
    bool fresh = p->nonce_size || p->report_data.count;
    if (fresh) {
        note(res, ATTEST_RULE_AGE, v_text("no time in this evidence; the nonce or report data shows that it is fresh"));
        return;
    }
    check(res, ATTEST_RULE_AGE, false, v_format(res, "at most %lld s old", (long long)p->max_age),
          v_text("no time in this evidence"));
    advise(res, "only Nitro documents say when they were made: send the attester a nonce and require it (nonce, or "
                "--nonce), or "
                "drop max_age for this kind of TEE");
}

/* Its certificates and signatures have been found right, as far as they were looked at. */
static bool endorsed(const struct attest_result *res) {
    for (unsigned i = 0; i < res->check_count; i++) {
        enum attest_group group = attest_rules[res->checks[i].rule].group;
        bool decides = group == ATTEST_CHAIN || group == ATTEST_SIGNATURE;
        if (decides && res->checks[i].outcome == ATTEST_FAIL) return false;
    }
    return true;
}

/* Where the debug mode came from, and who leaves it. */
static const char *leave_debug(enum attest_tee tee) {
    switch (tee) {
    case ATTEST_TEE_SNP:
    case ATTEST_TEE_SOFTWARE: return "have the guest launched with a policy without DEBUG (bit 19, 0x80000)";
    case ATTEST_TEE_SGX: return "sign the enclave for production, and create it without the debug flag";
    case ATTEST_TEE_TDX: return "have the TD created without the attribute DEBUG (bits 0 to 7 of ATTRIBUTES)";
    case ATTEST_TEE_NITRO:
        return "PCR0 to 2 are all zeros, as with --debug-mode or an attached console: start the enclave without "
               "(nitro-cli run-enclave)";
    default: return "launch without the debug attribute";
    }
}

void policy_common(struct attest_result *res, const struct attest_policy *p, enum attest_tee tee, bool debug) {
    if (p->valid_from || p->valid_until) {
        bool in = (!p->valid_from || res->time >= p->valid_from) && (!p->valid_until || res->time <= p->valid_until);
        bool early = res->time < p->valid_from;
        char limit[40];
        attest_value_format(&(struct attest_value){.kind = ATTEST_TIME, .time = early ? p->valid_from : p->valid_until},
                            limit, sizeof limit);
        check(res, ATTEST_RULE_POLICY_WINDOW, in, v_format(res, "in force %s %s", early ? "from" : "until", limit),
              v_time(res->time));
        concerns(res, early ? "valid_from" : "valid_until");
        advise(res, early ? "the policy begins later: check the clock of this machine (or --at), or set valid_from"
                          : "the policy has ended: get the renewed one from whoever maintains it, or set valid_until");
        if (p->valid_until) result_until(res, p->valid_until);
    }
    check_tee(res, p, tee);
    bool software = tee == ATTEST_TEE_SOFTWARE;
    if (software && p->allow_software)
        note(res, ATTEST_RULE_SOFTWARE, v_text("development signer: no protection"));
    else if (!software && !endorsed(res)) /* rejected already; what has signed it, nobody knows */
        note(res, ATTEST_RULE_SOFTWARE, v_text("not known: who has signed it is not trusted"));
    else
        check(res, ATTEST_RULE_SOFTWARE, !software, v_text("hardware"),
              v_text(software ? "development signer" : "hardware"));
    check_off(res, ATTEST_RULE_DEBUG, debug, p->allow_debug);
    advise(res, "the host can read this TEE's memory: %s. For development only: allow_debug", leave_debug(tee));
    check_age(res, p, tee);
}

void policy_nonce(struct attest_result *res, const struct attest_policy *p, const uint8_t field[64]) {
    enum { SIZE = 64 };
    uint8_t wanted[SIZE] = {0};
    memcpy(wanted, p->nonce, p->nonce_size);
    size_t agree = 0;
    while (agree < SIZE && wanted[agree] == field[agree])
        agree++;
    bool ok = check(res, ATTEST_RULE_NONCE, agree == SIZE, v_bytes(res, wanted, SIZE), v_bytes(res, field, SIZE));
    concerns(res, "nonce");
    if (ok) return;
    if (agree >= p->nonce_size)
        advise(res,
               "the nonce is there, and after its %zu bytes come other bytes where zeros belong: the attester put more "
               "into "
               "the field. If that is meant, require all 64 bytes with report_data",
               p->nonce_size);
    else if (all_zero(field, SIZE))
        advise(res, "the attester put no nonce in: have it request the evidence with yours");
}

void policy_report_data(struct attest_result *res, const struct attest_policy *p, const uint8_t report_data[64]) {
    check_set(res, ATTEST_RULE_REPORT_DATA, "report_data", &p->report_data, report_data, 64);
    if (p->nonce_size) policy_nonce(res, p, report_data);
}

/* Where the certificate names the workload, that is the one meant, and a field that is in use must not say otherwise.
 */
void policy_workload(struct attest_result *res, const struct attest_policy *p, const uint8_t *field, size_t size) {
    enum { DIGEST = sizeof res->workload };
    const uint8_t *named = res->names_workload ? res->workload : field;
    bool none = !res->names_workload && all_zero(field, size);
    struct attest_value value = res->names_workload ? v_bytes(res, named, DIGEST)
                                : none              ? v_text("none: the field is all zeros")
                                                    : v_bytes(res, field, size);
    if (!p->workloads.count) {
        note(res, ATTEST_RULE_WORKLOAD, value);
        concerns(res, "workloads");
        return;
    }
    bool unused = res->names_workload && all_zero(field, size);
    bool agrees = !memcmp(field, named, DIGEST) && all_zero(field + DIGEST, size - DIGEST);
    bool ok = set_has(&p->workloads, named, DIGEST) && (unused || agrees);
    check(res, ATTEST_RULE_WORKLOAD, ok,
          p->workloads.count == 1 ? v_bytes(res, p->workloads.items, p->workloads.width)
                                  : v_text("an allowed workload"),
          value);
    concerns(res, "workloads");
    if (none)
        advise(res, "the launch named no workload (HOST_DATA, MRCONFIGID or CONFIGID is zero): launch it with its "
                    "digest there, "
                    "or use a certificate that names it");
    else if (!ok && set_has(&p->workloads, named, DIGEST))
        advise(
            res,
            "the certificate names an allowed workload, and the hardware's field another one: do not trust this peer");
    else if (!ok)
        advise(res,
               "another workload was launched. If it is the one you mean, add its digest to workloads in the policy");
}
