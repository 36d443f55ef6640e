#define _GNU_SOURCE
#include "run.h"
#include "loader/loader.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;

/* Cuts ":ro" or ":rw" off a --dir's end: whether the directory is writable. */
static bool take_access(char *spec) {
    size_t len = strlen(spec);
    if (len <= 3 || (strcmp(spec + len - 3, ":ro") != 0 && strcmp(spec + len - 3, ":rw") != 0)) return true;
    bool writable = spec[len - 1] == 'w';
    spec[len - 3] = 0;
    return writable;
}

/* --dir HOST[::GUEST][:ro|:rw]; the guest's name is the host's when none is given, as wasmtime does it. */
static int option_dir(struct run *r, struct cli_args *a, const char *value) {
    char spec[2 * CONFIG_PATH_MAX + 8];
    if (snprintf(spec, sizeof spec, "%s", value) >= (int)sizeof spec) return cli_usage_error(a, "--dir: too long");
    struct config_mount m = {.writable = take_access(spec)};
    char *sep = strstr(spec, "::");
    if (sep) *sep = 0;
    m.host = spec;
    m.guest = sep ? sep + 2 : spec;

    struct stat st;
    struct config_error err;
    if (!*m.host) return cli_usage_error(a, "--dir %s: expected HOST[::GUEST][:ro]", value);
    if (stat(m.host, &st))
        return cli_error(r->verb, "--dir %s: cannot open the directory %s: %s", value, m.host, strerror(errno));
    if (!S_ISDIR(st.st_mode)) return cli_error(r->verb, "--dir %s: %s is not a directory", value, m.host);
    if (config_add_mount(&r->c, &m, &err)) return 0;
    if (!sep && strstr(spec, "..")) /* a name that the program could not use */
        return cli_usage_error(a, "--dir %s: say where the program finds it, --dir %s::/GUEST", value, value);
    return cli_error(r->verb, "--dir %s: %s", value, err.message);
}

/* --env KEY=VALUE, or KEY alone: the value it has here. */
static int option_env(struct run *r, struct cli_args *a, const char *value) {
    struct config_error err;
    const char *equal = strchr(value, '=');
    size_t len = equal ? (size_t)(equal - value) : strlen(value);
    const char *v = equal ? equal + 1 : getenv(value);
    if (!v) return cli_usage_error(a, "--env %s: no such variable here; expected KEY=VALUE", value);
    if (config_set_env(&r->c, value, len, v, strlen(v), &err)) return 0;
    return cli_error(r->verb, "--env %s: %s", value, err.message);
}

static int inherit_env(struct run *r) {
    struct config_error err;
    for (char **e = environ; *e; e++) {
        const char *equal = strchr(*e, '=');
        if (!equal || equal == *e) continue;
        if (!config_set_env(&r->c, *e, (size_t)(equal - *e), equal + 1, strlen(equal + 1), &err))
            return cli_error(r->verb, "-S inherit-env: %s", err.message);
    }
    return 0;
}

/* ADDRESS:PORT, [V6]:PORT or PORT; without an address `addr` stays as it is. */
static bool parse_address(const char *s, char *addr, size_t size, uint16_t *port) {
    const char *colon = strrchr(s, ':'), *digits = colon ? colon + 1 : s;
    char *end;
    errno = 0;
    unsigned long n = strtoul(digits, &end, 10);
    if (*digits < '0' || *digits > '9' || *end || errno || n > UINT16_MAX) return false;
    *port = (uint16_t)n;
    if (!colon) return true;
    bool v6 = *s == '[' && colon > s + 1 && colon[-1] == ']';
    size_t len = (size_t)(colon - s) - (v6 ? 2 : 0);
    if (!len || len >= size || (!v6 && memchr(s, ':', len))) return false;
    snprintf(addr, size, "%.*s", (int)len, s + v6);
    return true;
}

/* --tcplisten: one more descriptor, a listening socket. */
static int option_tcplisten(struct run *r, struct cli_args *a, const char *value) {
    char addr[CONFIG_NAME_MAX + 1] = "::", name[16];
    struct config_file f = {.kind = CONFIG_LISTEN, .prot = CONFIG_TCP, .name = name, .addr = addr};
    struct config_error err;
    if (!parse_address(value, addr, sizeof addr, &f.port))
        return cli_usage_error(a, "--tcplisten %s: expected ADDRESS:PORT or PORT", value);
    snprintf(name, sizeof name, "tcp%u", f.port);
    if (config_add_file(&r->c, &f, &err)) return 0;
    return cli_error(r->verb, "--tcplisten %s: %s", value, err.message);
}

static int set_limit(struct run *r, struct cli_args *a, const char *shown, enum config_limit which, const char *value) {
    static const char *const what[] = {"a size such as 64MiB", "a number", "a time such as 30s"};
    const struct config_limit_info *l = &config_limit_table[which];
    struct config_error err;
    uint64_t n;
    if (!config_parse_quantity(value, strlen(value), l->unit, &n))
        return cli_usage_error(a, "%s: expected %s, found \"%s\"", shown, what[l->unit], value);
    if (config_set_limit(&r->c, which, n, &err)) return 0;
    return cli_error(r->verb, "%s=%s: %s", shown, value, err.message);
}

/* --limit KEY=VALUE with the keys of [limits]. */
static int option_limit(struct run *r, struct cli_args *a, const char *value) {
    const char *equal = strchr(value, '=');
    size_t len = equal ? (size_t)(equal - value) : 0;
    char all[256] = "";
    for (int i = 0; i < CONFIG_LIMIT_COUNT; i++) {
        const char *key = config_limit_table[i].key;
        char shown[64];
        snprintf(shown, sizeof shown, "--limit %s", key);
        if (equal && strlen(key) == len && !memcmp(key, value, len)) return set_limit(r, a, shown, i, equal + 1);
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", i ? ", " : "", key);
    }
    return cli_usage_error(a, "--limit %s: expected KEY=VALUE with a key of %s", value, all);
}

static int option_bool(struct cli_args *a, const char *value, bool *out) {
    if (cli_parse_bool(value, out)) return 0;
    return cli_usage_error(a, "%s: expected y or n, found \"%s\"", a->shown, value);
}

/* Trapping and returning exclude each other: the later one counts. */
static int option_unknown(struct cli_args *a, const char *value, bool *out, bool *other) {
    int code = option_bool(a, value, out);
    if (!code && *out) *other = false;
    return code;
}

static int option_inherit_env(struct run *r, struct cli_args *a, const char *value) {
    bool on;
    int code = option_bool(a, value, &on);
    return code || !on ? code : inherit_env(r);
}

/* The second reading: everything that adds to or changes the config. */
static int apply_option(struct run *r, struct cli_args *a, int id, const char *value) {
    switch (id) {
    case OPT_DIR: return option_dir(r, a, value);
    case OPT_ENV: return option_env(r, a, value);
    case OPT_TCPLISTEN:
    case KEY_TCPLISTEN: return option_tcplisten(r, a, value);
    case OPT_LIMIT: return option_limit(r, a, value);
    case KEY_UNKNOWN_TRAP: return option_unknown(a, value, &r->c.unknown_imports_trap, &r->c.unknown_imports_default);
    case KEY_UNKNOWN_DEFAULT:
        return option_unknown(a, value, &r->c.unknown_imports_default, &r->c.unknown_imports_trap);
    case KEY_INTERPRET: return option_bool(a, value, &r->c.interpret);
    case KEY_EXPLICIT_CHECKS: return option_bool(a, value, &r->c.explicit_checks);
    case KEY_INHERIT_ENV: return option_inherit_env(r, a, value);
    default: break;
    }
    if (id < KEY_LIMITS) return 0; /* of the first reading */
    return set_limit(r, a, a->shown, (enum config_limit)(id - KEY_LIMITS), value);
}

static bool take_require(struct run *r, const char *value) {
    if (strcmp(value, "vm") != 0 && strcmp(value, "tee") != 0) return false;
    r->require = *value == 'v' ? KEEP_VM : KEEP_TEE;
    return true;
}

static bool take_port(struct run *r, const char *value) {
    char *end;
    unsigned long port = strtoul(value, &end, 10);
    r->gdb_port = (unsigned)port;
    r->debug = true;
    return *value && !*end && port > 0 && port <= UINT16_MAX;
}

int run_read_options(struct run *r, struct cli_args *a) {
    const char *value;
    for (int id; (id = cli_next(a, &value)) != CLI_OPERAND;) {
        if (id == CLI_STOP) return a->exit_code;
        if (id == CLI_END) return cli_usage_error(a, "which program? Expected the path of a WebAssembly module");
        if (id == OPT_CONFIG) r->config = value;
        if (id == OPT_ARGV0) r->argv0 = value;
        if (id == OPT_BACKEND) r->backend = value;
        if (id == OPT_REQUIRE && !take_require(r, value))
            return cli_usage_error(a, "--require %s: expected vm or tee", value);
        if (id == OPT_JSON) r->json = true;
        if (id == OPT_DEBUG) r->debug = true;
        if (id == OPT_PROFILE) r->profile = true;
        if (id == OPT_GDB && !take_port(r, value)) return cli_usage_error(a, "--gdb %s: expected a port", value);
        if (id == OPT_NO_CACHE) r->no_cache = true;
    }
    r->app = value;
    return 0;
}

static char *join(const char *dir, const char *name) {
    char *path;
    return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

/* A directory stands for main.wasm and Donjon.toml (or Enarx.toml) in it. */
static int find_module(struct run *r) {
    if (r->source) return (r->module = strdup("main.wasm")) ? 0 : cli_error(r->verb, "out of memory");
    static const char *const configs[] = {"Donjon.toml", "Enarx.toml"};
    struct stat st;
    bool dir = strcmp(r->app, "-") != 0 && !stat(r->app, &st) && S_ISDIR(st.st_mode);
    r->module = dir ? join(r->app, "main.wasm") : strdup(r->app);
    if (!r->module) return cli_error(r->verb, "out of memory");
    char *layout = dir ? join(r->app, "oci-layout") : NULL;
    bool package = layout && !access(layout, F_OK);
    free(layout);
    if (package || !strncmp(r->app, "oci:", 4))
        return cli_error(r->verb,
                         "%s is a package: `donjon deploy` runs it in a keep elsewhere; to run it here, `donjon pull "
                         "-u DIR %s`, then `donjon run DIR`",
                         r->app, r->app);
    if (dir && access(r->module, F_OK))
        return cli_error(r->verb, "%s is a directory without a main.wasm; expected a WebAssembly module", r->app);
    for (size_t i = 0; dir && !r->config && i < sizeof configs / sizeof *configs; i++) {
        free(r->config_found);
        r->config_found = join(r->app, configs[i]);
        if (!r->config_found) return cli_error(r->verb, "out of memory");
        if (!access(r->config_found, F_OK)) r->config = r->config_found;
    }
    return 0;
}

static int set_program(struct run *r) {
    const char *slash = strrchr(r->module, '/');
    const char *name = r->argv0 ? r->argv0 : slash ? slash + 1 : r->module;
    struct config_error err;
    if (config_set_program(&r->c, name, strlen(name), &err)) return 0;
    return cli_error(r->verb, "%s", err.message);
}

/* What follows the program on the command line, less one "--"; replaces the config's args when there is any. */
static int set_args(struct run *r, char **args, int n) {
    struct config_error err;
    bool dashes = n > 0 && !strcmp(args[0], "--");
    if (n > 0) config_clear_args(&r->c);
    for (int i = dashes; i < n; i++)
        if (!config_add_arg(&r->c, args[i], strlen(args[i]), &err)) return cli_error(r->verb, "%s", err.message);
    return 0;
}

int run_build_config(struct run *r, struct cli_args *a) {
    struct config_error err;
    const char *value;
    int code = find_module(r);
    if (code) return code;
    if (r->config && !cli_load_config(r->verb, r->config, true, &r->c)) return CLI_FAILED;
    if (!r->config && r->source && r->config_text &&
        !cli_take_config(r->verb, "Donjon.toml", r->config_text, strlen(r->config_text), r->source, &r->c))
        return CLI_FAILED;
    for (int id; (id = cli_next(a, &value)) > CLI_OPERAND;)
        if ((code = apply_option(r, a, id, value))) return code;
    if ((code = set_program(r))) return code;
    if ((code = set_args(r, cli_rest(a), a->argc - a->at))) return code;
    if (r->deployed || config_supported(&r->c, &err)) return 0;
    return cli_error(r->verb, "%s", err.message);
}
