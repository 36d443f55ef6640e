#include "settings.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- Names ---- */

static bool is_address(const char *text) {
    uint8_t bytes[16];
    return inet_pton(AF_INET, text, bytes) == 1 || inet_pton(AF_INET6, text, bytes) == 1;
}

bool steward_dns_name(const char *text, bool pattern) {
    enum { LABEL_MAX = 63 };
    if (pattern && text[0] == '*' && text[1] == '.') text += 2;
    size_t size = strlen(text), label = 0;
    if (!size || size > STEWARD_NAME_MAX || is_address(text)) return false;
    for (size_t i = 0; i < size; i++) {
        bool edge = i + 1 == size || text[i + 1] == '.';
        if (text[i] == '.') {
            if (!label || edge) return false; /* an empty label */
            label = 0;
            continue;
        }
        bool plain = isalnum((unsigned char)text[i]) && (unsigned char)text[i] < 0x80;
        if (!plain && (text[i] != '-' || !label || edge)) return false;
        if (++label > LABEL_MAX) return false;
    }
    return true;
}

static bool same_address(const char *a, const char *b) {
    for (int family = AF_INET, i = 0; i < 2; i++, family = AF_INET6) {
        uint8_t x[16] = {0}, y[16] = {0};
        if (inet_pton(family, a, x) == 1 && inet_pton(family, b, y) == 1) return !memcmp(x, y, sizeof x);
    }
    return false;
}

bool steward_rule_names(const struct steward_rule *rule, const char *name) {
    bool address = is_address(name);
    if (!address && !steward_dns_name(name, false)) return false;
    for (size_t i = 0; i < rule->names.count; i++) {
        const char *allowed = rule->names.items[i], *dot = strchr(name, '.');
        if (address ? same_address(allowed, name) : !strcasecmp(allowed, name)) return true;
        if (!address && !strncmp(allowed, "*.", 2) && dot && !strcasecmp(allowed + 1, dot)) return true;
    }
    return false;
}

static bool is_digest(const char *text) {
    return strlen(text) == 64 && strspn(text, "0123456789abcdefABCDEF") == 64;
}

bool steward_rule_workload(const struct steward_rule *rule, const uint8_t digest[32]) {
    char text[65];
    for (int i = 0; i < 32; i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
    for (size_t i = 0; i < rule->workloads.count; i++)
        if (!strcmp(rule->workloads.items[i], "any") || !strcasecmp(rule->workloads.items[i], text)) return true;
    return false;
}

/* ---- Values ---- */

static bool list_add(struct steward_list *list, const char *text) {
    char **items = list->count < STEWARD_LIST_MAX ? realloc(list->items, (list->count + 1) * sizeof *items) : NULL;
    if (!items) return false;
    list->items = items;
    return (items[list->count] = strdup(text)) && ++list->count;
}

static bool parse_number(const char *text, uint64_t least, uint64_t most, uint64_t *out) {
    char *end;
    if (!isdigit((unsigned char)*text)) return false;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return !errno && !*end && *out >= least && *out <= most;
}

static bool parse_duration(const char *text, int64_t least, int64_t most, int64_t *out) {
    char *end;
    if (!isdigit((unsigned char)*text)) return false;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    int64_t unit = !strcmp(end, "s")   ? 1
                   : !strcmp(end, "m") ? 60
                   : !strcmp(end, "h") ? 3600
                   : !strcmp(end, "d") ? 24 * 3600
                                       : 0;
    if (errno || !unit || n > most / unit) return false;
    *out = n * unit;
    return *out >= least;
}

static bool valid_listen(const char *text) {
    const char *colon = strrchr(text, ':');
    uint64_t port;
    char address[64];
    if (!colon || !parse_number(colon + 1, 0, 65535, &port)) return false;
    bool bracket = text[0] == '[' && colon > text && colon[-1] == ']';
    int n = snprintf(address, sizeof address, "%.*s", (int)(colon - text) - 2 * bracket, text + bracket);
    return n > 0 && n < (int)sizeof address && is_address(address);
}

static bool valid_workload(const char *text) {
    return !strcmp(text, "any") || is_digest(text);
}
static bool valid_name(const char *text) {
    return is_address(text) || steward_dns_name(text, true);
}
static bool valid_text(const char *text) {
    return *text != 0;
}
static bool valid_rule_name(const char *text) {
    return *text && strlen(text) <= 63 &&
           strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == strlen(text);
}

enum kind { TEXT, LIST, NUMBER, DURATION };
static const struct key {
    const char *name;
    enum kind kind;
    size_t offset; /* in the settings; of an [[issue]], in the rule */
    bool (*valid)(const char *);
    uint64_t least, most;
    const char *expected;
} keys[] = {
#define AT(member) offsetof(struct steward_settings, member)
#define IN(member) offsetof(struct steward_rule, member)
    {"listen", TEXT, AT(listen), valid_listen, 0, 0,
     "an address and a port, such as \"127.0.0.1:7475\" or \"[::]:7475\""},
    {"audit", TEXT, AT(audit), valid_text, 0, 0, "a file"},
    {"authority.certificate", TEXT, AT(ca_certificate), valid_text, 0, 0, "a file"},
    {"authority.key", TEXT, AT(ca_key), valid_text, 0, 0, "a file or a PKCS#11 URI"},
    {"authority.pkcs11-module", TEXT, AT(pkcs11_module), valid_text, 0, 0, "a file"},
    {"tls.certificate", TEXT, AT(tls_certificate), valid_text, 0, 0, "a file"},
    {"tls.key", TEXT, AT(tls_key), valid_text, 0, 0, "a file"},
    {"tls.names", LIST, AT(tls_names), valid_name, 0, 0, "DNS names or addresses"},
    {"evidence.collateral", LIST, AT(collateral), valid_text, 0, 0, "files or directories"},
    {"evidence.roots", LIST, AT(roots), valid_text, 0, 0, "files"},
    {"evidence.development-root", TEXT, AT(development_root), valid_text, 0, 0, "a file"},
    {"evidence.denied", TEXT, AT(denied), valid_text, 0, 0, "a file"},
    {"limits.nonce-lifetime", DURATION, AT(nonce_lifetime), NULL, 10, 3600, "10s to 1h"},
    {"limits.body", NUMBER, AT(body), NULL, 4096, 16 << 20, "4096 to 16777216 bytes"},
    {"limits.connections", NUMBER, AT(connections), NULL, 1, 10000, "1 to 10000"},
    {"limits.connections-per-address", NUMBER, AT(connections_per_address), NULL, 1, 10000, "1 to 10000"},
    {"limits.requests-per-minute", NUMBER, AT(requests_per_minute), NULL, 1, 1000000, "1 to 1000000"},
    {"issue.name", TEXT, IN(name), valid_rule_name, 0, 0, "letters, digits, '-', '_', '.', at most 63"},
    {"issue.policy", TEXT, IN(policy), valid_text, 0, 0, "a file"},
    {"issue.workloads", LIST, IN(workloads), valid_workload, 0, 0, "64 hexadecimal digits, or \"any\""},
    {"issue.names", LIST, IN(names), valid_name, 0, 0, "DNS names, \"*.\" and a DNS name, or addresses"},
    {"issue.lifetime", DURATION, IN(lifetime), NULL, STEWARD_LIFETIME_MIN, STEWARD_LIFETIME_MAX, "1m to 7d"},
#undef AT
#undef IN
};
enum { KEYS = sizeof keys / sizeof *keys };

static bool expected(char what[SETTINGS_ERROR], const struct key *k, const char *found) {
    snprintf(what, SETTINGS_ERROR, "%s: expected %s, found \"%.80s\"", k->name, k->expected, found);
    return false;
}

bool steward_settings_set(struct steward_settings *s, const char *key, const char *text, char what[SETTINGS_ERROR]) {
    for (const struct key *k = keys; k < keys + KEYS; k++) {
        if (strcmp(k->name, key)) continue;
        bool of_rule = !strncmp(key, "issue.", 6);
        if (of_rule && !s->rule_count) break;
        char *at = of_rule ? (char *)&s->rules[s->rule_count - 1] + k->offset : (char *)s + k->offset;
        if (k->valid && !k->valid(text)) return expected(what, k, text);
        bool ok = true;
        switch (k->kind) {
        case TEXT:
            if (*(char **)at) {
                snprintf(what, SETTINGS_ERROR, "%s: expected one text, found a list", key);
                return false;
            }
            ok = (*(char **)at = strdup(text)) != NULL;
            break;
        case LIST: ok = list_add((struct steward_list *)at, text); break;
        case NUMBER:
            if (!parse_number(text, k->least, k->most, (uint64_t *)at)) return expected(what, k, text);
            break;
        case DURATION:
            if (!parse_duration(text, (int64_t)k->least, (int64_t)k->most, (int64_t *)at))
                return expected(what, k, text);
            break;
        }
        if (!ok) snprintf(what, SETTINGS_ERROR, "%s: more than %d entries, or out of memory", key, STEWARD_LIST_MAX);
        return ok;
    }
    snprintf(what, SETTINGS_ERROR, "unknown key %.80s", key);
    return false;
}

bool steward_settings_table(struct steward_settings *s, const char *key, char what[SETTINGS_ERROR]) {
    static const char *const tables[] = {"authority", "tls", "evidence", "limits"};
    if (!strcmp(key, "issue")) {
        if (s->rule_count == STEWARD_RULES_MAX) {
            snprintf(what, SETTINGS_ERROR, "issue: expected at most %d", STEWARD_RULES_MAX);
            return false;
        }
        s->rules[s->rule_count++].lifetime = 6 * 3600;
        return true;
    }
    if (!strcmp(key, "tls")) s->tls = true;
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        if (!strcmp(key, tables[i])) return true;
    snprintf(what, SETTINGS_ERROR, "unknown table [%.80s]", key);
    return false;
}

/* ---- The whole ---- */

static const char *missing(const struct steward_settings *s) {
    if (!s->audit) return "audit is missing: nothing is issued that is not recorded";
    if (!s->ca_certificate || !s->ca_key) return "[authority] needs certificate and key";
    if (!s->rule_count) return "no [[issue]]: nobody would get a certificate";
    if (s->tls && !s->tls_certificate != !s->tls_key) return "[tls] needs both certificate and key, or neither";
    if (s->tls && !s->tls_certificate && !s->tls_names.count) return "[tls] needs certificate and key, or names";
    bool loopback = !strncmp(s->listen, "127.", 4) || !strncmp(s->listen, "[::1]:", 6);
    if (!s->tls && !loopback) return "without [tls] only loopback is served: give [tls], or listen on 127.0.0.1";
    return NULL;
}

static bool check_rules(const struct steward_settings *s, char error[SETTINGS_ERROR]) {
    for (size_t i = 0; i < s->rule_count; i++) {
        const struct steward_rule *r = &s->rules[i];
        const char *lacks = !r->name              ? "name"
                            : !r->policy          ? "policy"
                            : !r->workloads.count ? "workloads (\"any\" where any will do)"
                            : !r->names.count     ? "names"
                                                  : NULL;
        if (lacks) {
            snprintf(error, SETTINGS_ERROR, "[[issue]] %s: %s is missing", r->name ? r->name : "without a name", lacks);
            return false;
        }
        for (size_t j = 0; j < i; j++)
            if (!strcmp(s->rules[j].name, r->name)) {
                snprintf(error, SETTINGS_ERROR, "[[issue]] %s: there twice", r->name);
                return false;
            }
    }
    return true;
}

bool steward_settings_read(struct steward_settings *s, const char *text, size_t size, const char *directory,
                           char error[SETTINGS_ERROR]) {
    *s = (struct steward_settings){
        .nonce_lifetime = 300,
        .body = 256 << 10,
        .connections = 256,
        .connections_per_address = 32,
        .requests_per_minute = 600,
    };
    s->directory = strdup(directory);
    bool ok = s->directory && steward_toml_walk(s, text, size, error);
    if (ok && !s->listen) ok = (s->listen = strdup("127.0.0.1:7475")) != NULL;
    const char *lacks = ok ? missing(s) : NULL;
    if (lacks) snprintf(error, SETTINGS_ERROR, "%s", lacks);
    if (ok && !lacks && check_rules(s, error)) return true;
    steward_settings_free(s);
    return false;
}

static void list_free(struct steward_list *list) {
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i]);
    free(list->items);
}

void steward_settings_free(struct steward_settings *s) {
    for (const struct key *k = keys; k < keys + KEYS; k++) {
        if (!strncmp(k->name, "issue.", 6)) continue;
        if (k->kind == TEXT) free(*(char **)((char *)s + k->offset));
        if (k->kind == LIST) list_free((struct steward_list *)((char *)s + k->offset));
    }
    for (size_t i = 0; i < s->rule_count; i++) {
        free(s->rules[i].name);
        free(s->rules[i].policy);
        list_free(&s->rules[i].workloads);
        list_free(&s->rules[i].names);
    }
    free(s->directory);
    *s = (struct steward_settings){0};
}

char *steward_settings_path(const struct steward_settings *s, const char *path) {
    char *out;
    if (path[0] == '/' || !*s->directory) return strdup(path);
    return asprintf(&out, "%s/%s", s->directory, path) < 0 ? NULL : out;
}
