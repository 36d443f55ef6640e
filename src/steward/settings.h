/* steward.toml: what a steward is told. settings.c knows the keys and checks every value; settings_toml.cc only walks
 * the text. Reference in docs/steward.md. */
#ifndef DONJON_STEWARD_SETTINGS_H
#define DONJON_STEWARD_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    SETTINGS_ERROR = 512,
    SETTINGS_BYTES_MAX = 1 << 20,
    STEWARD_RULES_MAX = 64,
    STEWARD_LIST_MAX = 1024, /* entries of one list */
    STEWARD_NAME_MAX = 253,  /* RFC 1035, 2.3.4, as text */
    STEWARD_LIFETIME_MIN = 60,
    STEWARD_LIFETIME_MAX = 7 * 24 * 3600, /* certificates of keeps live hours, not weeks */
};

struct steward_list {
    char **items;
    size_t count;
};

/* One [[issue]]: who gets a certificate, and for what. */
struct steward_rule {
    char *name;
    char *policy;                  /* file: an appraisal policy */
    struct steward_list workloads; /* 64 hexadecimal digits each; or one "any" */
    struct steward_list names;     /* DNS names, "*.suffix" for one label below suffix, IP addresses */
    int64_t lifetime;              /* seconds */
};

struct steward_settings {
    char *directory; /* of the file: relative paths begin there */
    char *audit;
    char *listen; /* "ADDRESS:PORT" */
    char *ca_certificate, *ca_key, *pkcs11_module;
    char *tls_certificate, *tls_key;
    struct steward_list tls_names;
    bool tls; /* there is a [tls] table */
    struct steward_list collateral, roots;
    char *development_root;
    char *denied; /* a file, or null */
    int64_t nonce_lifetime;
    uint64_t body, connections, connections_per_address, requests_per_minute;
    struct steward_rule rules[STEWARD_RULES_MAX];
    size_t rule_count;
};

/* Reads and checks everything that can be checked without opening a file. False with `error`: line, key, what was
 * expected, what was found. `directory` is copied. */
bool steward_settings_read(struct steward_settings *, const char *text, size_t size, const char *directory,
                           char error[SETTINGS_ERROR]);
void steward_settings_free(struct steward_settings *);
/* A path as the settings mean it; free(). Null without memory. */
char *steward_settings_path(const struct steward_settings *, const char *path);

/* Whether `text` is a DNS name as certificates have them: letters, digits, hyphens, lower case or not, no final dot;
 * `pattern`: may begin with "*.". */
bool steward_dns_name(const char *text, bool pattern);
/* Whether `rule` gives the name (DNS name or address text). */
bool steward_rule_names(const struct steward_rule *, const char *name);
bool steward_rule_workload(const struct steward_rule *, const uint8_t digest[32]);

/* ---- Between settings_toml.cc and settings.c ---- */
bool steward_toml_walk(struct steward_settings *, const char *text, size_t size, char error[SETTINGS_ERROR]);
/* A value of `key` ("tls.names", "issue.policy"); lists call once an item. False with `what` filled. */
bool steward_settings_set(struct steward_settings *, const char *key, const char *text, char what[SETTINGS_ERROR]);
/* A table begins: "tls", or one more "issue". */
bool steward_settings_table(struct steward_settings *, const char *key, char what[SETTINGS_ERROR]);

#ifdef __cplusplus
}
#endif
#endif
