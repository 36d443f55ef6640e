/* What the operator of the host says: agent.toml (docs/deploy.md) and the command line. */
#ifndef DONJON_AGENT_SETTINGS_H
#define DONJON_AGENT_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    AGENT_PORT = 7470,
    TENANTS_MAX = 1024,
    TENANT_NAME_MAX = 63,
    LISTENERS_MAX = 8,
    ADDRESS_MAX = 255,
    TOKEN_DIGEST = 32,            /* SHA-256 */
    KEEP_MEMORY_LEAST = 32 << 20, /* what a keep with a small program in it needs */
};

struct tenant {
    char name[TENANT_NAME_MAX + 1]; /* letters, digits, '-', '_', '.' */
    uint8_t token[TOKEN_DIGEST];    /* SHA-256 of the token */
    uint32_t keeps;                 /* at once */
    uint64_t memory;                /* bytes, all keeps together */
    uint64_t keep_memory;           /* bytes of a keep whose tenant asks for none */
    uint32_t cpu;                   /* percent of one CPU, each keep; 0: no limit */
    char listen[16];                /* ports its programs may listen on: reach_parse_listen (loader/reach.h) */
    char connect[8];                /* where they may connect to: reach_parse_connect */
};

struct settings {
    char listen[LISTENERS_MAX][ADDRESS_MAX + 1]; /* "[::1]:7470", "0.0.0.0:7470" */
    uint32_t n_listen;
    uint32_t connections; /* at once, all tenants together */
    char backends[8][16]; /* that may be asked for; none: all */
    uint32_t n_backends;
    char stewards[8][256]; /* beginnings of URLs that keeps may always ask, wherever they are */
    uint32_t n_stewards;
    struct tenant *tenants; /* none: the "local" tenant, from loopback only, without a token */
    uint32_t n_tenants;
};

/* Defaults: no listener, no tenant. */
void settings_init(struct settings *);
void settings_free(struct settings *);
void tenant_defaults(struct tenant *, const char *name);
bool tenant_name_fine(const char *, size_t);
/* NULL: the one in use where no tenants are configured. */
const struct tenant *settings_tenant(const struct settings *, const char *name);
/* Whether `url` is below one of ->stewards. */
bool settings_steward(const struct settings *, const char *url);

/* Adds what the text says. False with `error` naming line, key, what was expected and found. */
bool settings_read(struct settings *, const char *toml, size_t size, char *error, size_t error_size);

#ifdef __cplusplus
}
#endif
#endif
