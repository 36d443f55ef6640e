#include "config.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct config_limit_info config_limit_table[CONFIG_LIMIT_COUNT] = {
#define X(field, key, unit, value, least, most, what) {key, unit, value, least, most, what},
    CONFIG_LIMITS(X)
#undef X
};

uint64_t *config_limit_at(struct config_limits *limits, enum config_limit which) {
    switch (which) {
#define X(field, ...)                                                                                                  \
    case CONFIG_LIMIT_##field: return &limits->field;
        CONFIG_LIMITS(X)
#undef X
    case CONFIG_LIMIT_COUNT: break;
    }
    return NULL;
}

static bool fail(struct config_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool fail(struct config_error *err, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    return false;
}

static bool no_memory(struct config_error *err) {
    return fail(err, "out of memory");
}

/* Strings live in a chain of blocks that only grows; config_free frees all at once. */
struct config_block {
    struct config_block *next;
    size_t used, size;
    char bytes[];
};

static char *block_alloc(struct config *c, size_t n) {
    struct config_block *b = c->blocks;
    if (!b || b->size - b->used < n) {
        size_t size = n > 1024 ? n : 1024;
        b = malloc(sizeof *b + size);
        if (!b) return NULL;
        *b = (struct config_block){.next = c->blocks, .used = 0, .size = size};
        c->blocks = b;
    }
    char *p = b->bytes + b->used;
    b->used += n;
    return p;
}

static const char *keep(struct config *c, const char *s, size_t len) {
    char *p = block_alloc(c, len + 1);
    if (!p) return NULL;
    if (len) memcpy(p, s, len);
    p[len] = 0;
    return p;
}

/* Checks what every string must be, and that all together stay under CONFIG_TEXT_MAX. */
static bool check_string(const struct config *c, const char *what, const char *s, size_t len, size_t most,
                         struct config_error *err) {
    if (len && memchr(s, 0, len)) return fail(err, "%s: must not contain a NUL character", what);
    if (len > most) return fail(err, "%s: %zu bytes, more than the %zu allowed", what, len, most);
    if (c->text + len > CONFIG_TEXT_MAX)
        return fail(err, "%s: all strings together are over the %d bytes allowed", what, CONFIG_TEXT_MAX);
    return true;
}

static bool grow(void **array, uint32_t *cap, uint32_t need, size_t item) {
    if (need <= *cap) return true;
    uint32_t n = *cap ? *cap * 2 : 8;
    void *p = realloc(*array, n * item);
    if (!p) return false;
    *array = p;
    *cap = n;
    return true;
}

static bool add_stdio(struct config *c) {
    static const enum config_file_kind stdio[] = {CONFIG_STDIN, CONFIG_STDOUT, CONFIG_STDERR};
    struct config_error err;
    for (size_t i = 0; i < sizeof stdio / sizeof *stdio; i++) {
        struct config_file f = {.kind = stdio[i], .name = config_kind_name(stdio[i])};
        if (!config_add_file(c, &f, &err)) return false;
    }
    return true;
}

bool config_init(struct config *c) {
    *c = (struct config){0};
    for (int i = 0; i < CONFIG_LIMIT_COUNT; i++)
        *config_limit_at(&c->limits, i) = config_limit_table[i].value;
    c->tls_lifetime = CONFIG_TLS_LIFETIME;
    struct config_error err;
    if (config_set_program(c, "main.wasm", strlen("main.wasm"), &err) && add_stdio(c)) return true;
    config_free(c);
    return false;
}

void config_free(struct config *c) {
    for (struct config_block *b = c->blocks, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    free(c->args);
    free(c->env);
    free(c->files);
    free(c->mounts);
    free(c->tls_names);
    free(c->secrets);
    *c = (struct config){0};
}

/* Puts a checked copy of s in *slot, taking the old string out of the account. */
static bool replace(struct config *c, const char **slot, const char *s, size_t len, struct config_error *err) {
    const char *copy = keep(c, s, len);
    if (!copy) return no_memory(err);
    c->text += len;
    if (*slot) c->text -= strlen(*slot);
    *slot = copy;
    return true;
}

bool config_set_program(struct config *c, const char *s, size_t len, struct config_error *err) {
    if (!len) return fail(err, "program name: must not be empty");
    return check_string(c, "program name", s, len, CONFIG_PATH_MAX, err) && replace(c, &c->program, s, len, err);
}

bool config_set_steward(struct config *c, const char *s, size_t len, struct config_error *err) {
    static const char https[] = "https://", http[] = "http://";
    bool url = (len > strlen(https) && !memcmp(s, https, strlen(https))) ||
               (len > strlen(http) && !memcmp(s, http, strlen(http)));
    if (!url)
        return fail(err, "steward: expected a URL that begins with https://, found \"%.*s\"",
                    len > 100 ? 100 : (int)len, s);
    return check_string(c, "steward", s, len, CONFIG_PATH_MAX, err) && replace(c, &c->steward, s, len, err);
}

bool config_set_steward_ca(struct config *c, const char *pem, size_t len, struct config_error *err) {
    if (!len) return fail(err, "steward-ca: must not be empty");
    return check_string(c, "steward-ca", pem, len, CONFIG_PEM_MAX, err) && replace(c, &c->steward_ca, pem, len, err);
}

/* What may stand in a certificate as a name: letters of a DNS name (with a wildcard) or of an address. */
bool config_add_tls_name(struct config *c, const char *s, size_t len, struct config_error *err) {
    char what[32];
    snprintf(what, sizeof what, "tls.names[%u]", c->n_tls_names);
    if (c->n_tls_names == CONFIG_TLS_NAMES_MAX) return fail(err, "tls.names: more than %d", CONFIG_TLS_NAMES_MAX);
    if (!len) return fail(err, "%s: must not be empty", what);
    if (!check_string(c, what, s, len, CONFIG_NAME_MAX, err)) return false;
    for (size_t i = 0; i < len; i++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:*", s[i]))
            return fail(err, "%s: expected a DNS name or an address, found \"%.*s\"", what, (int)len, s);
    const char *copy = keep(c, s, len);
    if (!copy || !grow((void **)&c->tls_names, &c->cap_tls_names, c->n_tls_names + 1, sizeof *c->tls_names))
        return no_memory(err);
    c->text += len;
    c->tls_names[c->n_tls_names++] = copy;
    return true;
}

bool config_set_tls_lifetime(struct config *c, uint64_t ns, struct config_error *err) {
    char v[CONFIG_QUANTITY_MAX];
    if (ns < CONFIG_TLS_LIFETIME_LEAST || ns > CONFIG_TLS_LIFETIME_MOST)
        return fail(err, "tls.lifetime: expected 1min to 168h, found %s",
                    config_format_quantity(v, CONFIG_NANOSECONDS, ns));
    c->tls_lifetime = ns;
    return true;
}

bool config_add_arg(struct config *c, const char *s, size_t len, struct config_error *err) {
    char what[32];
    snprintf(what, sizeof what, "args[%u]", c->n_args);
    if (c->n_args == CONFIG_ARGS_MAX) return fail(err, "args: more than %d arguments", CONFIG_ARGS_MAX);
    if (!check_string(c, what, s, len, CONFIG_STRING_MAX, err)) return false;
    const char *copy = keep(c, s, len);
    if (!copy || !grow((void **)&c->args, &c->cap_args, c->n_args + 1, sizeof *c->args)) return no_memory(err);
    c->text += len;
    c->args[c->n_args++] = copy;
    return true;
}

void config_clear_args(struct config *c) {
    for (uint32_t i = 0; i < c->n_args; i++)
        c->text -= strlen(c->args[i]);
    c->n_args = 0;
}

static struct config_env *find_env(struct config *c, const char *key, size_t len) {
    for (uint32_t i = 0; i < c->n_env; i++)
        if (!strncmp(c->env[i].key, key, len) && !c->env[i].key[len]) return &c->env[i];
    return NULL;
}

bool config_set_env(struct config *c, const char *key, size_t key_len, const char *value, size_t value_len,
                    struct config_error *err) {
    if (!check_string(c, "env: key", key, key_len, CONFIG_STRING_MAX, err)) return false;
    if (!key_len) return fail(err, "env: a variable's name must not be empty");
    if (memchr(key, '=', key_len))
        return fail(err, "env: a variable's name must not contain '=': \"%.*s\"", (int)key_len, key);
    char what[128];
    snprintf(what, sizeof what, "env.%.*s", key_len > 100 ? 100 : (int)key_len, key);
    if (!check_string(c, what, value, value_len, CONFIG_STRING_MAX, err)) return false;

    struct config_env *old = find_env(c, key, key_len);
    if (old) return replace(c, &old->value, value, value_len, err);

    if (c->n_env == CONFIG_ENV_MAX) return fail(err, "env: more than %d variables", CONFIG_ENV_MAX);
    if (c->text + key_len + value_len > CONFIG_TEXT_MAX)
        return fail(err, "%s: all strings together are over the %d bytes allowed", what, CONFIG_TEXT_MAX);
    struct config_env e = {keep(c, key, key_len), keep(c, value, value_len)};
    if (!e.key || !e.value || !grow((void **)&c->env, &c->cap_env, c->n_env + 1, sizeof *c->env)) return no_memory(err);
    c->text += key_len + value_len;
    c->env[c->n_env++] = e;
    return true;
}

static bool has_control(const char *s) {
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f) return true;
    return false;
}

static bool check_file_field(const struct config *c, const char *what, const char *s, bool wanted,
                             struct config_error *err) {
    if (!wanted) return !*s || fail(err, "%s: does not belong to this kind of file", what);
    if (!*s) return fail(err, "%s: must not be empty", what);
    if (has_control(s)) return fail(err, "%s: must not contain control characters", what);
    return check_string(c, what, s, strlen(s), CONFIG_NAME_MAX, err);
}

static bool is_socket(const struct config_file *f) {
    return f->kind == CONFIG_LISTEN || f->kind == CONFIG_CONNECT;
}

static bool check_tls(const struct config *c, const struct config_file *f, struct config_error *err) {
    bool tls = is_socket(f) && f->prot == CONFIG_TLS, any = *f->trust || *f->server_name || *f->peer_policy;
    if (f->client_auth >= CONFIG_CLIENT_AUTHS) return fail(err, "client-auth: unknown (%d)", (int)f->client_auth);
    if (!tls && (any || f->client_auth))
        return fail(err,
                    "client-auth, trust, server-name, peer-policy: only listen and connect with prot = \"tls\" have "
                    "them");
    if (f->kind != CONFIG_LISTEN && f->client_auth) return fail(err, "client-auth: only listen has it");
    if (f->kind != CONFIG_CONNECT && *f->server_name) return fail(err, "server-name: only connect has it");
    if (f->kind == CONFIG_LISTEN && f->client_auth && !*f->trust && !*f->peer_policy)
        return fail(err, "client-auth: \"require\" needs `trust` or `peer-policy`: whose clients are to be let in?");
    if (f->kind == CONFIG_LISTEN && !f->client_auth && (*f->trust || *f->peer_policy))
        return fail(err, "trust, peer-policy: a listener has no use for them without client-auth = \"require\"");
    if (has_control(f->server_name)) return fail(err, "server-name: must not contain control characters");
    return check_string(c, "trust", f->trust, strlen(f->trust), CONFIG_PEM_MAX, err) &&
           check_string(c, "server-name", f->server_name, strlen(f->server_name), CONFIG_NAME_MAX, err) &&
           check_string(c, "peer-policy", f->peer_policy, strlen(f->peer_policy), CONFIG_POLICY_MAX, err);
}

static bool check_file(const struct config *c, const struct config_file *f, struct config_error *err) {
    bool socket = is_socket(f);
    if (f->kind >= CONFIG_FILE_KINDS) return fail(err, "kind: unknown (%d)", (int)f->kind);
    if (f->prot >= CONFIG_PROTS) return fail(err, "prot: unknown (%d)", (int)f->prot);
    if (!socket && (f->prot != 0 || f->port)) return fail(err, "prot, port: only listen and connect have them");
    if (f->kind == CONFIG_CONNECT && !f->port) return fail(err, "port: expected 1 to 65535, found 0");
    if (!check_file_field(c, "name", f->name, true, err)) return false;
    if (strchr(f->name, ':'))
        return fail(err, "name: must not contain ':', which separates the names in FD_NAMES: \"%.100s\"", f->name);
    return check_file_field(c, "addr", f->addr, f->kind == CONFIG_LISTEN, err) &&
           check_file_field(c, "host", f->host, f->kind == CONFIG_CONNECT, err) && check_tls(c, f, err);
}

static size_t file_text(const struct config_file *f) {
    return strlen(f->name) + strlen(f->addr) + strlen(f->host) + strlen(f->trust) + strlen(f->server_name) +
           strlen(f->peer_policy);
}

bool config_add_file(struct config *c, const struct config_file *file, struct config_error *err) {
    struct config_file f = *file;
    const char **texts[] = {&f.name, &f.addr, &f.host, &f.trust, &f.server_name, &f.peer_policy};
    enum { TEXTS = sizeof texts / sizeof *texts };
    for (int i = 0; i < TEXTS; i++)
        if (!*texts[i]) *texts[i] = "";
    if (c->n_files == CONFIG_FILES_MAX) return fail(err, "files: more than %d", CONFIG_FILES_MAX);
    if (!check_file(c, &f, err)) return false;
    size_t text = file_text(&f);
    if (c->text + text > CONFIG_TEXT_MAX)
        return fail(err, "files: all strings together are over the %d bytes allowed", CONFIG_TEXT_MAX);
    bool ok = true;
    for (int i = 0; i < TEXTS && ok; i++)
        ok = (*texts[i] = keep(c, *texts[i], strlen(*texts[i])));
    if (!ok || !grow((void **)&c->files, &c->cap_files, c->n_files + 1, sizeof f)) return no_memory(err);
    c->text += text;
    c->files[c->n_files++] = f;
    return true;
}

void config_clear_files(struct config *c) {
    for (uint32_t i = 0; i < c->n_files; i++)
        c->text -= file_text(&c->files[i]);
    c->n_files = 0;
}

/* Copies path to out (room for strlen + 2) without double or trailing '/' and without "." parts; "." if nothing is left
 * of a relative path. False for "..". */
static bool normalise(const char *path, char *out) {
    char *o = out;
    if (*path == '/') *o++ = '/';
    while (*path) {
        size_t n = strcspn(path, "/");
        bool dot = n == 1 && path[0] == '.';
        if (n == 2 && path[0] == '.' && path[1] == '.') return false;
        if (n && !dot) {
            if (o != out && o[-1] != '/') *o++ = '/';
            memcpy(o, path, n);
            o += n;
        }
        path += n + (path[n] == '/');
    }
    if (o == out) *o++ = '.';
    *o = 0;
    return true;
}

/* "/data" and "data" are one place: the program's libraries drop the leading "/" and "." before comparing. */
static const char *place(const char *guest) {
    if (*guest == '/') return guest + 1;
    return strcmp(guest, ".") ? guest : "";
}

bool config_add_mount(struct config *c, const struct config_mount *mount, struct config_error *err) {
    const char *host = mount->host ? mount->host : "", *guest = mount->guest ? mount->guest : "";
    if (!check_string(c, "mount: host", host, strlen(host), CONFIG_PATH_MAX, err)) return false;
    if (!*guest) return fail(err, "mount: the guest path must not be empty");
    if (!check_string(c, "mount: guest", guest, strlen(guest), CONFIG_PATH_MAX, err)) return false;
    char norm[CONFIG_PATH_MAX + 2];
    if (!normalise(guest, norm)) return fail(err, "mount: a guest path must not contain \"..\": \"%.200s\"", guest);
    if (c->text + strlen(host) + strlen(norm) > CONFIG_TEXT_MAX)
        return fail(err, "mounts: all strings together are over the %d bytes allowed", CONFIG_TEXT_MAX);

    uint32_t at = 0;
    while (at < c->n_mounts && strcmp(place(c->mounts[at].guest), place(norm)) != 0)
        at++;
    if (at == CONFIG_MOUNTS_MAX) return fail(err, "mounts: more than %d", CONFIG_MOUNTS_MAX);
    struct config_mount m = {keep(c, host, strlen(host)), keep(c, norm, strlen(norm)), mount->writable};
    if (!m.host || !m.guest || !grow((void **)&c->mounts, &c->cap_mounts, at + 1, sizeof m)) return no_memory(err);
    if (at < c->n_mounts) c->text -= strlen(c->mounts[at].host) + strlen(c->mounts[at].guest);
    c->text += strlen(host) + strlen(norm);
    c->mounts[at] = m;
    if (at == c->n_mounts) c->n_mounts++;
    return true;
}

static bool secret_name_ok(const char *s) {
    size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-");
    return n > 0 && s[n] == 0 && n <= CONFIG_NAME_MAX;
}

static bool check_secret(const struct config *c, const struct config_secret *s, struct config_error *err) {
    char norm[CONFIG_PATH_MAX + 2];
    if (!s->name || !secret_name_ok(s->name))
        return fail(err, "name: expected letters, digits, '_', '.' and '-', found \"%.100s\"", s->name ? s->name : "");
    if (!s->env == !s->file) return fail(err, "secret \"%s\": expected either env or file", s->name);
    if (s->env && (!*s->env || strchr(s->env, '=') || strlen(s->env) > CONFIG_NAME_MAX))
        return fail(err, "env: a variable's name must not be empty, contain '=', or have more than %d bytes",
                    CONFIG_NAME_MAX);
    if (s->file && (strlen(s->file) > CONFIG_PATH_MAX || !normalise(s->file, norm) || strcmp(norm, s->file) != 0 ||
                    s->file[0] != '/' || !s->file[1]))
        return fail(err, "file: expected an absolute path without \".\", \"..\" and empty parts, found \"%.200s\"",
                    s->file);
    for (uint32_t i = 0; i < c->n_secrets; i++) {
        const struct config_secret *o = &c->secrets[i];
        if (strcmp(o->name, s->name) == 0) return fail(err, "name: \"%s\" comes twice", s->name);
        if (s->env && o->env && strcmp(o->env, s->env) == 0) return fail(err, "env: \"%s\" comes twice", s->env);
        if (s->file && o->file && strcmp(o->file, s->file) == 0)
            return fail(err, "file: \"%.200s\" comes twice", s->file);
    }
    return true;
}

bool config_add_secret(struct config *c, const struct config_secret *secret, struct config_error *err) {
    if (c->n_secrets == CONFIG_SECRETS_MAX) return fail(err, "secrets: more than %d", CONFIG_SECRETS_MAX);
    if (!check_secret(c, secret, err)) return false;
    const char *where = secret->env ? secret->env : secret->file;
    size_t text = strlen(secret->name) + strlen(where);
    if (c->text + text > CONFIG_TEXT_MAX)
        return fail(err, "secrets: all strings together are over the %d bytes allowed", CONFIG_TEXT_MAX);
    const char *name = keep(c, secret->name, strlen(secret->name)), *copy = keep(c, where, strlen(where));
    if (!name || !copy || !grow((void **)&c->secrets, &c->cap_secrets, c->n_secrets + 1, sizeof *c->secrets))
        return no_memory(err);
    c->text += text;
    c->secrets[c->n_secrets++] = (struct config_secret){name, secret->env ? copy : NULL, secret->env ? NULL : copy};
    return true;
}

bool config_has_root(const struct config *c) {
    for (uint32_t i = 0; i < c->n_mounts; i++)
        if (!*place(c->mounts[i].guest)) return true;
    return false;
}

bool config_set_limit(struct config *c, enum config_limit which, uint64_t value, struct config_error *err) {
    const struct config_limit_info *l = &config_limit_table[which];
    if (value < l->least || value > l->most) {
        char a[CONFIG_QUANTITY_MAX], b[CONFIG_QUANTITY_MAX], v[CONFIG_QUANTITY_MAX];
        return fail(err, "limits.%s: expected %s to %s, found %s", l->key, config_format_quantity(a, l->unit, l->least),
                    config_format_quantity(b, l->unit, l->most), config_format_quantity(v, l->unit, value));
    }
    *config_limit_at(&c->limits, which) = value;
    c->limits_given |= 1u << which;
    return true;
}

/* Quantities. Each unit has its table of suffixes; the first of a size is the one that is written. */
struct suffix {
    const char *name;
    uint64_t factor;
};
static const struct suffix byte_suffixes[] = {
    {"TiB", CONFIG_GIB << 10},
    {"GiB", CONFIG_GIB},
    {"MiB", CONFIG_MIB},
    {"KiB", CONFIG_KIB},
    {"B", 1},
    {"T", CONFIG_GIB << 10},
    {"G", CONFIG_GIB},
    {"M", CONFIG_MIB},
    {"K", CONFIG_KIB},
    {"TB", 1000000000000},
    {"GB", 1000000000},
    {"MB", 1000000},
    {"kB", 1000},
    {"", 1},
    {NULL, 0},
};
static const struct suffix count_suffixes[] = {{"", 1}, {NULL, 0}};
static const struct suffix time_suffixes[] = {
    {"h", 3600 * CONFIG_SECOND},
    {"min", 60 * CONFIG_SECOND},
    {"s", CONFIG_SECOND},
    {"ms", 1000000},
    {"us", 1000},
    {"ns", 1},
    {"m", 60 * CONFIG_SECOND},
    {"", CONFIG_SECOND},
    {"d", 24 * 3600 * CONFIG_SECOND},
    {NULL, 0},
};
static const struct suffix *suffixes_of(enum config_unit unit) {
    return unit == CONFIG_BYTES ? byte_suffixes : unit == CONFIG_COUNT ? count_suffixes : time_suffixes;
}

static bool digit(char ch) {
    return ch >= '0' && ch <= '9';
}
static char lower(char ch) {
    return ch >= 'A' && ch <= 'Z' ? (char)(ch + 32) : ch;
}

static bool same_word(const char *s, size_t len, const char *word) {
    if (strlen(word) != len) return false;
    for (size_t i = 0; i < len; i++)
        if (lower(s[i]) != lower(word[i])) return false;
    return true;
}

static uint64_t factor_of(const char *s, size_t len, enum config_unit unit) {
    for (const struct suffix *x = suffixes_of(unit); x->name; x++)
        if (same_word(s, len, x->name)) return x->factor;
    return 0;
}

/* One number with its suffix, from *s up to `end`; adds it to *sum. */
static bool parse_term(const char **s, const char *end, enum config_unit unit, uint64_t *sum) {
    uint64_t whole = 0, fraction = 0, scale = 1;
    const char *p = *s;
    if (p == end || !digit(*p)) return false;
    for (; p < end && (digit(*p) || *p == '_'); p++) {
        if (*p == '_') {
            if (p + 1 == end || !digit(p[1])) return false;
            continue;
        }
        if (__builtin_mul_overflow(whole, 10u, &whole) || __builtin_add_overflow(whole, (uint64_t)(*p - '0'), &whole))
            return false;
    }
    if (p < end && *p == '.') {
        if (++p == end || !digit(*p)) return false;
        for (; p < end && digit(*p); p++) {
            if (scale >= 1000000) return false; /* six places are enough for anybody, and cannot overflow below */
            fraction = fraction * 10 + (uint64_t)(*p - '0');
            scale *= 10;
        }
    }
    while (p < end && *p == ' ')
        p++;
    const char *word = p;
    while (p < end && !digit(*p) && *p != ' ')
        p++;
    uint64_t factor = factor_of(word, (size_t)(p - word), unit), value, part;
    if (!factor || __builtin_mul_overflow(whole, factor, &value)) return false;
    part = factor / scale * fraction + factor % scale * fraction / scale;
    if (scale > 1 && factor == 1) return false; /* half a byte */
    if (__builtin_add_overflow(value, part, &value) || __builtin_add_overflow(*sum, value, sum)) return false;
    while (p < end && *p == ' ')
        p++;
    *s = p;
    return true;
}

bool config_parse_quantity(const char *s, size_t len, enum config_unit unit, uint64_t *out) {
    const char *end = s + len;
    if (same_word(s, len, "unlimited")) {
        *out = CONFIG_UNLIMITED;
        return true;
    }
    uint64_t sum = 0;
    do {
        if (!parse_term(&s, end, unit, &sum)) return false;
    } while (s < end && unit == CONFIG_NANOSECONDS); /* "1m 30s" */
    if (s != end || sum == CONFIG_UNLIMITED) return false;
    *out = sum;
    return true;
}

const char *config_format_quantity(char buf[CONFIG_QUANTITY_MAX], enum config_unit unit, uint64_t value) {
    if (value == CONFIG_UNLIMITED) {
        snprintf(buf, CONFIG_QUANTITY_MAX, "unlimited");
        return buf;
    }
    if (!value && unit == CONFIG_NANOSECONDS) {
        snprintf(buf, CONFIG_QUANTITY_MAX, "0s");
        return buf;
    }
    const struct suffix *x = suffixes_of(unit);
    while (x->factor > 1 && (value % x->factor || !value))
        x++;
    snprintf(buf, CONFIG_QUANTITY_MAX, "%llu%s%s", (unsigned long long)(value / x->factor),
             unit == CONFIG_BYTES ? " " : "", x->name);
    return buf;
}

const char *config_kind_name(enum config_file_kind kind) {
    static const char *const names[] = {"null", "stdin", "stdout", "stderr", "listen", "connect"};
    return kind < CONFIG_FILE_KINDS ? names[kind] : "?";
}

const char *config_prot_name(enum config_prot prot) {
    return prot == CONFIG_TLS ? "tls" : prot == CONFIG_TCP ? "tcp" : "?";
}

size_t config_fd_names(const struct config *c, char *buf, size_t size) {
    size_t n = 0;
    for (uint32_t i = 0; i < c->n_files; i++) {
        const char *name = c->files[i].name;
        if (i && n + 1 < size) buf[n] = ':';
        n += i != 0;
        size_t len = strlen(name);
        if (n < size) memcpy(buf + n, name, len < size - n - 1 ? len : size - n - 1);
        n += len;
    }
    if (size) buf[n < size ? n : size - 1] = 0;
    return n;
}

bool config_uses_tls(const struct config *c) {
    for (uint32_t i = 0; i < c->n_files; i++)
        if (is_socket(&c->files[i]) && c->files[i].prot == CONFIG_TLS) return true;
    return false;
}

bool config_supported(const struct config *c, struct config_error *err) {
    if (c->n_secrets)
        return fail(err, "secrets: \"%s\" can only be given to a deployed keep, by `donjon deploy --secret`",
                    c->secrets[0].name);
    for (uint32_t i = 0; i < c->n_files; i++) {
        const struct config_file *f = &c->files[i];
        if (f->kind == CONFIG_CONNECT && f->prot == CONFIG_TLS && !*f->trust && !*f->peer_policy)
            return fail(err,
                        "files[%u] (%.100s): a TLS connection needs `trust` (certificates of CAs) or `peer-policy`: "
                        "nothing is trusted by itself",
                        i, f->name);
    }
    return true;
}
