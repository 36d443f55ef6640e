#include "config_wire.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char magic[8] = {'D', 'O', 'N', 'J', 'C', 'F', 'G', CONFIG_WIRE_VERSION};

enum wire_flag {
    FLAG_ANNOUNCE = 1,
    FLAG_UNKNOWN_TRAP = 2,
    FLAG_STEWARD = 4,
    FLAG_INTERPRET = 8,
    FLAG_UNKNOWN_DEFAULT = 16,
    FLAG_STEWARD_CA = 32,
    FLAG_EXPLICIT_CHECKS = 64,
    FLAGS = 127
};

/* Writing: the same code runs twice, first to count (out NULL), then to fill. */
struct writer {
    uint8_t *out;
    size_t n;
};

static void put_bytes(struct writer *w, const void *bytes, size_t len) {
    if (w->out && len) memcpy(w->out + w->n, bytes, len);
    w->n += len;
}
static void put_int(struct writer *w, uint64_t value, unsigned size) {
    for (unsigned i = 0; i < size; i++) {
        if (w->out) w->out[w->n] = (uint8_t)(value >> (8 * i));
        w->n++;
    }
}
static void put_string(struct writer *w, const char *s) {
    size_t len = strlen(s);
    put_int(w, len, 4);
    put_bytes(w, s, len);
}

static void write_config(struct writer *w, const struct config *c, uint32_t total) {
    struct config_limits limits = c->limits;
    put_bytes(w, magic, sizeof magic);
    put_int(w, total, 4);
    put_int(w,
            (c->announce_fds ? FLAG_ANNOUNCE : 0) | (c->unknown_imports_trap ? FLAG_UNKNOWN_TRAP : 0) |
                (c->steward ? FLAG_STEWARD : 0) | (c->interpret ? FLAG_INTERPRET : 0) |
                (c->unknown_imports_default ? FLAG_UNKNOWN_DEFAULT : 0) | (c->steward_ca ? FLAG_STEWARD_CA : 0) |
                (c->explicit_checks ? FLAG_EXPLICIT_CHECKS : 0),
            1);
    put_string(w, c->program);
    if (c->steward) put_string(w, c->steward);
    if (c->steward_ca) put_string(w, c->steward_ca);
    for (int i = 0; i < CONFIG_LIMIT_COUNT; i++)
        put_int(w, *config_limit_at(&limits, i), 8);
    put_int(w, c->limits_given, 4);
    put_int(w, c->n_args, 4);
    for (uint32_t i = 0; i < c->n_args; i++)
        put_string(w, c->args[i]);
    put_int(w, c->n_env, 4);
    for (uint32_t i = 0; i < c->n_env; i++) {
        put_string(w, c->env[i].key);
        put_string(w, c->env[i].value);
    }
    put_int(w, c->n_files, 4);
    for (uint32_t i = 0; i < c->n_files; i++) {
        const struct config_file *f = &c->files[i];
        put_int(w, f->kind, 1);
        put_int(w, f->prot, 1);
        put_int(w, f->port, 2);
        put_string(w, f->name);
        put_string(w, f->addr);
        put_string(w, f->host);
        put_int(w, f->client_auth, 1);
        put_string(w, f->trust);
        put_string(w, f->server_name);
        put_string(w, f->peer_policy);
    }
    put_int(w, c->n_mounts, 4);
    for (uint32_t i = 0; i < c->n_mounts; i++) {
        put_int(w, c->mounts[i].writable, 1);
        put_string(w, c->mounts[i].guest);
    }
    put_int(w, c->tls_lifetime, 8);
    put_int(w, c->n_tls_names, 4);
    for (uint32_t i = 0; i < c->n_tls_names; i++)
        put_string(w, c->tls_names[i]);
    put_int(w, c->n_secrets, 4);
    for (uint32_t i = 0; i < c->n_secrets; i++) {
        const struct config_secret *s = &c->secrets[i];
        put_string(w, s->name);
        put_int(w, s->file ? 1 : 0, 1);
        put_string(w, s->file ? s->file : s->env);
    }
}

bool config_encode(const struct config *c, uint8_t **bytes, size_t *len) {
    struct writer w = {0};
    write_config(&w, c, 0);
    uint32_t total = (uint32_t)w.n; /* at most CONFIG_WIRE_MAX: the setters keep to the capacities it is made of */
    w = (struct writer){.out = malloc(w.n)};
    if (!w.out) return false;
    write_config(&w, c, total);
    *bytes = w.out;
    *len = w.n;
    return true;
}

/* Reading: one bounded cursor; after the first failure everything reads as zero and `err` keeps the first reason. */
struct reader {
    const uint8_t *bytes;
    size_t len, at;
    bool failed;
    struct config_error *err;
};

static void wrong(struct reader *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void wrong(struct reader *r, const char *format, ...) {
    if (r->failed) return;
    r->failed = true;
    int n = snprintf(r->err->message, sizeof r->err->message, "config bytes, offset %zu: ", r->at);
    va_list args;
    va_start(args, format);
    vsnprintf(r->err->message + n, sizeof r->err->message - (size_t)n, format, args);
    va_end(args);
}

static const uint8_t *take(struct reader *r, size_t n, const char *what) {
    if (r->failed) return NULL;
    if (n > r->len - r->at) {
        wrong(r, "%s: expected %zu bytes, found %zu", what, n, r->len - r->at);
        return NULL;
    }
    const uint8_t *p = r->bytes + r->at;
    r->at += n;
    return p;
}

static uint64_t get_int(struct reader *r, unsigned size, const char *what) {
    const uint8_t *p = take(r, size, what);
    uint64_t v = 0;
    for (unsigned i = 0; p && i < size; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

struct text {
    const char *s;
    size_t len;
};

static struct text get_string(struct reader *r, const char *what) {
    size_t len = get_int(r, 4, what);
    const uint8_t *p = take(r, len, what);
    return p ? (struct text){(const char *)p, len} : (struct text){"", 0};
}

/* A terminated copy in `buf`, for the setters that take whole structs. Their own limits are at most CONFIG_PATH_MAX. */
static const char *get_name(struct reader *r, char *buf, size_t size, const char *what) {
    struct text t = get_string(r, what);
    if (t.len >= size) wrong(r, "%s: %zu bytes, more than the %zu allowed", what, t.len, size - 1);
    if (t.len && memchr(t.s, 0, t.len)) wrong(r, "%s: must not contain a NUL character", what);
    if (r->failed) t.len = 0;
    memcpy(buf, t.s, t.len);
    buf[t.len] = 0;
    return buf;
}

/* A count, checked against the bytes that are left so that no count can make us loop or allocate beyond the input. */
static uint32_t get_count(struct reader *r, uint32_t most, size_t least_bytes_each, const char *what) {
    uint32_t n = (uint32_t)get_int(r, 4, what);
    if (n > most) wrong(r, "%s: expected at most %u, found %u", what, most, n);
    if (!r->failed && n > (r->len - r->at) / least_bytes_each)
        wrong(r, "%s: %u do not fit in the bytes that are left", what, n);
    return r->failed ? 0 : n;
}

/* Takes over what a setter said. */
static void check(struct reader *r, bool ok, const struct config_error *why) {
    if (!ok) wrong(r, "%s", why->message);
}

static void read_limits(struct reader *r, struct config *c) {
    struct config_error why;
    uint64_t value[CONFIG_LIMIT_COUNT];
    for (int i = 0; i < CONFIG_LIMIT_COUNT; i++)
        value[i] = get_int(r, 8, config_limit_table[i].key);
    uint32_t given = (uint32_t)get_int(r, 4, "limits given");
    if (given >> CONFIG_LIMIT_COUNT) wrong(r, "limits given: unknown bits 0x%x", given);
    for (int i = 0; i < CONFIG_LIMIT_COUNT && !r->failed; i++) {
        check(r, config_set_limit(c, i, value[i], &why), &why);
        if (!(given >> i & 1) && value[i] != config_limit_table[i].value)
            wrong(r, "limits.%s: not the default, but not marked as given", config_limit_table[i].key);
    }
    c->limits_given = given;
}

static void read_args(struct reader *r, struct config *c) {
    struct config_error why;
    uint32_t n = get_count(r, CONFIG_ARGS_MAX, 4, "args");
    for (uint32_t i = 0; i < n && !r->failed; i++) {
        struct text t = get_string(r, "argument");
        if (!r->failed) check(r, config_add_arg(c, t.s, t.len, &why), &why);
    }
}

static void read_env(struct reader *r, struct config *c) {
    struct config_error why;
    uint32_t n = get_count(r, CONFIG_ENV_MAX, 8, "env");
    for (uint32_t i = 0; i < n && !r->failed; i++) {
        struct text k = get_string(r, "env key"), v = get_string(r, "env value");
        if (r->failed) return;
        check(r, config_set_env(c, k.s, k.len, v.s, v.len, &why), &why);
        if (!r->failed && c->n_env != i + 1)
            wrong(r, "env: the key \"%.*s\" comes twice", k.len > 100 ? 100 : (int)k.len, k.s);
    }
}

/* The same of a long text, out of *buf, which grows and is freed by read_files. */
static const char *get_text(struct reader *r, char **buf, const char *what) {
    struct text t = get_string(r, what);
    if (t.len && memchr(t.s, 0, t.len)) wrong(r, "%s: must not contain a NUL character", what);
    if (r->failed || !t.len) return "";
    char *copy = malloc(t.len + 1);
    if (!copy) {
        wrong(r, "out of memory");
        return "";
    }
    memcpy(copy, t.s, t.len);
    copy[t.len] = 0;
    return *buf = copy;
}

static void read_files(struct reader *r, struct config *c) {
    struct config_error why;
    char name[CONFIG_NAME_MAX + 1], addr[CONFIG_NAME_MAX + 1], host[CONFIG_NAME_MAX + 1];
    uint32_t n = get_count(r, CONFIG_FILES_MAX, 29, "files");
    config_clear_files(c);
    for (uint32_t i = 0; i < n && !r->failed; i++) {
        struct config_file f = {0};
        f.kind = get_int(r, 1, "file kind");
        f.prot = get_int(r, 1, "file prot");
        f.port = (uint16_t)get_int(r, 2, "file port");
        f.name = get_name(r, name, sizeof name, "file name");
        f.addr = get_name(r, addr, sizeof addr, "file addr");
        f.host = get_name(r, host, sizeof host, "file host");
        f.client_auth = get_int(r, 1, "file client-auth");
        char *texts[3] = {NULL, NULL, NULL};
        f.trust = get_text(r, &texts[0], "file trust");
        f.server_name = get_text(r, &texts[1], "file server-name");
        f.peer_policy = get_text(r, &texts[2], "file peer-policy");
        if (!r->failed) check(r, config_add_file(c, &f, &why), &why);
        for (int k = 0; k < 3; k++)
            free(texts[k]);
    }
}

static void read_mounts(struct reader *r, struct config *c) {
    struct config_error why;
    char guest[CONFIG_PATH_MAX + 1];
    uint32_t n = get_count(r, CONFIG_MOUNTS_MAX, 5, "mounts");
    for (uint32_t i = 0; i < n && !r->failed; i++) {
        uint64_t writable = get_int(r, 1, "mount writable");
        if (writable > 1) wrong(r, "mount writable: expected 0 or 1, found %u", (unsigned)writable);
        struct config_mount m = {"", get_name(r, guest, sizeof guest, "mount guest"), writable == 1};
        if (r->failed) return;
        check(r, config_add_mount(c, &m, &why), &why);
        if (r->failed) return;
        if (c->n_mounts != i + 1)
            wrong(r, "mounts: \"%.200s\" comes twice", guest);
        else if (strcmp(c->mounts[i].guest, guest))
            wrong(r, "mounts: \"%.200s\" is not in normal form", guest);
    }
}

static void read_tls(struct reader *r, struct config *c) {
    struct config_error why;
    uint64_t lifetime = get_int(r, 8, "tls lifetime");
    if (!r->failed) check(r, config_set_tls_lifetime(c, lifetime, &why), &why);
    uint32_t n = get_count(r, CONFIG_TLS_NAMES_MAX, 5, "tls names");
    for (uint32_t i = 0; i < n && !r->failed; i++) {
        struct text t = get_string(r, "tls name");
        if (!r->failed) check(r, config_add_tls_name(c, t.s, t.len, &why), &why);
    }
}

static void read_secrets(struct reader *r, struct config *c) {
    struct config_error why;
    char name[CONFIG_NAME_MAX + 1], where[CONFIG_PATH_MAX + 1];
    uint32_t n = get_count(r, CONFIG_SECRETS_MAX, 9, "secrets");
    for (uint32_t i = 0; i < n && !r->failed; i++) {
        get_name(r, name, sizeof name, "secret name");
        uint64_t file = get_int(r, 1, "secret where");
        if (file > 1) wrong(r, "secret where: expected 0 or 1, found %u", (unsigned)file);
        get_name(r, where, sizeof where, "secret place");
        struct config_secret s = {name, file ? NULL : where, file ? where : NULL};
        if (!r->failed) check(r, config_add_secret(c, &s, &why), &why);
    }
}

static void read_config(struct reader *r, struct config *c) {
    struct config_error why;
    const uint8_t *m = take(r, sizeof magic, "magic");
    if (m && memcmp(m, magic, sizeof magic))
        wrong(r, "expected the beginning of a config, version %d", CONFIG_WIRE_VERSION);
    uint32_t total = (uint32_t)get_int(r, 4, "total length");
    if (total != r->len) wrong(r, "total length: expected %zu, found %u", r->len, total);
    uint64_t flags = get_int(r, 1, "flags");
    if (flags & ~(uint64_t)FLAGS) wrong(r, "flags: unknown bits in 0x%x", (unsigned)flags);
    c->announce_fds = flags & FLAG_ANNOUNCE;
    c->unknown_imports_trap = flags & FLAG_UNKNOWN_TRAP;
    c->unknown_imports_default = flags & FLAG_UNKNOWN_DEFAULT;
    if (c->unknown_imports_trap && c->unknown_imports_default) wrong(r, "flags: unknown imports both trap and return");
    c->interpret = flags & FLAG_INTERPRET;
    c->explicit_checks = flags & FLAG_EXPLICIT_CHECKS;
    struct text t = get_string(r, "program");
    if (!r->failed) check(r, config_set_program(c, t.s, t.len, &why), &why);
    if (flags & FLAG_STEWARD) {
        t = get_string(r, "steward");
        if (!r->failed) check(r, config_set_steward(c, t.s, t.len, &why), &why);
    }
    if (flags & FLAG_STEWARD_CA) {
        t = get_string(r, "steward-ca");
        if (!r->failed) check(r, config_set_steward_ca(c, t.s, t.len, &why), &why);
    }
    read_limits(r, c);
    read_args(r, c);
    read_env(r, c);
    read_files(r, c);
    read_mounts(r, c);
    read_tls(r, c);
    read_secrets(r, c);
    if (!r->failed && r->at != r->len) wrong(r, "%zu bytes after the end", r->len - r->at);
}

bool config_decode(struct config *c, const uint8_t *bytes, size_t len, struct config_error *err) {
    struct reader r = {.bytes = bytes, .len = len, .err = err};
    *c = (struct config){0};
    if (len > CONFIG_WIRE_MAX) {
        wrong(&r, "expected at most %d bytes, found %zu", CONFIG_WIRE_MAX, len);
        return false;
    }
    if (!config_init(c)) {
        wrong(&r, "out of memory");
        return false;
    }
    read_config(&r, c);
    if (r.failed) config_free(c);
    return !r.failed;
}

uint32_t config_wire_length(const uint8_t header[CONFIG_WIRE_HEADER]) {
    uint32_t total = 0;
    if (memcmp(header, magic, sizeof magic)) return 0;
    for (unsigned i = 0; i < 4; i++)
        total |= (uint32_t)header[sizeof magic + i] << (8 * i);
    return total > CONFIG_WIRE_HEADER && total <= CONFIG_WIRE_MAX ? total : 0;
}
