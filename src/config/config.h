/* What a workload is given: everything a Donjon.toml (or an Enarx.toml) and the command line can say about one run.
 *
 * Three parts, so that each program links only what it needs:
 *   config.c       the struct: defaults, checked setters, limits        (everywhere)
 *   config_wire.c  struct <-> canonical bytes, what the keep reads      (everywhere)
 *   config_toml.cc TOML text -> struct, with errors that name the place (host programs only; the one C++ file)
 *
 * Ownership: a struct config owns all it points to; setters copy. Strings are NUL-terminated and hold no other NUL.
 * A struct config is used by one thread at a time. */
#ifndef DONJON_CONFIG_H
#define DONJON_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Capacities. Setters and decoders refuse more with an error that names the limit. */
enum {
    CONFIG_STRING_MAX = 128 * 1024,    /* bytes of one string: Linux's own limit for one argument (MAX_ARG_STRLEN) */
    CONFIG_TEXT_MAX = 2 * 1024 * 1024, /* bytes of all strings: Linux's usual limit for execve (8 MiB stack / 4) */
    CONFIG_ARGS_MAX = 65536,
    CONFIG_ENV_MAX = 8192,
    CONFIG_FILES_MAX = 256,
    CONFIG_MOUNTS_MAX = 64,
    CONFIG_NAME_MAX = 255,         /* names of files, host names, addresses */
    CONFIG_PATH_MAX = 4096,        /* mounts: PATH_MAX */
    CONFIG_PEM_MAX = 512 * 1024,   /* certificates of one trust list: all of the web's are some 220 KiB */
    CONFIG_POLICY_MAX = 64 * 1024, /* one peer-policy, flattened */
    CONFIG_TLS_NAMES_MAX = 64,
    CONFIG_SECRETS_MAX = 64,
};

#define CONFIG_UNLIMITED UINT64_MAX

enum config_file_kind {
    CONFIG_NULL,
    CONFIG_STDIN,
    CONFIG_STDOUT,
    CONFIG_STDERR,
    CONFIG_LISTEN,
    CONFIG_CONNECT,
    CONFIG_FILE_KINDS
};
enum config_prot { CONFIG_TLS, CONFIG_TCP, CONFIG_PROTS };

/* What a listener asks of its clients. */
enum config_client_auth { CONFIG_CLIENT_AUTH_NONE, CONFIG_CLIENT_AUTH_REQUIRE, CONFIG_CLIENT_AUTHS };

/* One pre-opened descriptor; its number is its place in the list. */
struct config_file {
    enum config_file_kind kind;
    enum config_prot prot; /* listen, connect; CONFIG_TLS elsewhere */
    uint16_t port;         /* listen, connect; 0 elsewhere. listen: 0 lets the host choose */
    const char *name;      /* never NULL, never empty, no ':' (FD_NAMES is separated by it) */
    const char *addr;      /* listen: address to bind, "::" means all of both families; "" elsewhere */
    const char *host;      /* connect: name or address; "" elsewhere */

    /* listen and connect with CONFIG_TLS; 0 and "" elsewhere. A listener has trust or peer_policy with
     * CLIENT_AUTH_REQUIRE only, and then at least one of them. Where both are given, a peer must satisfy both. */
    enum config_client_auth client_auth; /* listen */
    const char *trust;       /* certificates (PEM, one behind the other) that peers' chains may end in; "": none */
    const char *server_name; /* connect: what the peer's certificate must be for; "": `host` */
    const char *peer_policy; /* lines "key=value" of an appraisal policy for the evidence in the peer's certificate */
};

/* A host directory the program finds at `guest`, as a preopen of its own. */
struct config_mount {
    const char *host;  /* "" in the keep: the wire form leaves it out, the gate knows mounts by their number */
    const char *guest; /* the preopen's name, normalised: "/data", "data" or "."; never with ".." */
    bool writable;
};

/* The limits: X(field, "key in [limits]", unit, default, least, most, "what it bounds").
 * Where `most` is CONFIG_UNLIMITED, "unlimited" may be written. */
enum config_unit { CONFIG_BYTES, CONFIG_COUNT, CONFIG_NANOSECONDS };
#define CONFIG_KIB    (UINT64_C(1) << 10)
#define CONFIG_MIB    (UINT64_C(1) << 20)
#define CONFIG_GIB    (UINT64_C(1) << 30)
#define CONFIG_SECOND UINT64_C(1000000000)
/* clang-format off */
#define CONFIG_LIMITS(X)                                                                                                        \
    X(memory,     "memory",             CONFIG_BYTES,       4 * CONFIG_GIB,   64 * CONFIG_KIB, 1024 * CONFIG_GIB, "linear memory, all memories together")           \
    X(tables,     "tables",             CONFIG_COUNT,       10000000,         1,               1000000000,        "table elements, all tables together")            \
    X(stack,      "stack",              CONFIG_BYTES,       16 * CONFIG_MIB,  64 * CONFIG_KIB, 4 * CONFIG_GIB,    "the wasm value stack")                           \
    X(call_depth, "call-depth",         CONFIG_COUNT,       100000,           16,              100000000,         "calls in progress at once")                      \
    X(heap,       "heap",               CONFIG_BYTES,       256 * CONFIG_MIB, 64 * CONFIG_KIB, 1024 * CONFIG_GIB, "exceptions alive at once")                       \
    X(fuel,       "fuel",               CONFIG_COUNT,       CONFIG_UNLIMITED, 1,               CONFIG_UNLIMITED,  "work: about one unit per instruction")   \
    X(time,       "time",               CONFIG_NANOSECONDS, CONFIG_UNLIMITED, 1000000,         CONFIG_UNLIMITED,  "wall time of the whole run")                     \
    X(cpus,       "cpus",               CONFIG_COUNT,       1,                1,               16,                "processors the keep may use, to compile the program with")   \
    X(fs_bytes,   "filesystem",         CONFIG_BYTES,       1 * CONFIG_GIB,   64 * CONFIG_KIB, 1024 * CONFIG_GIB, "the in-memory file system: contents, names, tables")             \
    X(fs_entries, "filesystem-entries", CONFIG_COUNT,       100000,           1,               100000000,         "files and directories in it")
/* clang-format on */

struct config_limits {
#define X(field, ...) uint64_t field;
    CONFIG_LIMITS(X)
#undef X
};
enum config_limit {
#define X(field, ...) CONFIG_LIMIT_##field,
    CONFIG_LIMITS(X)
#undef X
        CONFIG_LIMIT_COUNT
};
struct config_limit_info {
    const char *key;
    enum config_unit unit;
    uint64_t value, least, most;
    const char *what;
};
extern const struct config_limit_info config_limit_table[CONFIG_LIMIT_COUNT];
uint64_t *config_limit_at(struct config_limits *limits, enum config_limit which);

#define CONFIG_TLS_LIFETIME       (12 * 3600 * CONFIG_SECOND)
#define CONFIG_TLS_LIFETIME_LEAST (60 * CONFIG_SECOND)
#define CONFIG_TLS_LIFETIME_MOST  (7 * 24 * 3600 * CONFIG_SECOND)

/* What the tenant gives at a deployment, and nobody writes down: only its name and its place are configuration. */
struct config_secret {
    const char *name; /* A-Z a-z 0-9 _ . -; each once */
    const char *env;  /* the variable that holds it; NULL: it is a file */
    const char *file; /* where the program finds it: an absolute path, "/run/secrets/NAME"; NULL: it is a variable */
};

struct config_env {
    const char *key; /* not empty, no '=' */
    const char *value;
};

struct config {
    const char *program; /* argv[0]; never empty */
    const char **args;   /* argv[1..] */
    uint32_t n_args;
    struct config_env *env; /* each key once */
    uint32_t n_env;
    /* The descriptors 0 .. n_files-1. Starts as stdin, stdout, stderr. Preopened directories follow after them: the
     * mounts in order, then the in-memory root "/" unless a mount is the root (config_has_root): some programs know
     * only the first preopen. A socket at 3 or above must answer fd_prestat_get with success and a tag other than
     * `dir`: wasi-libc and Go stop looking for directories at EBADF and give up on other errors. */
    struct config_file *files;
    uint32_t n_files;
    struct config_mount *mounts; /* each place once: "/data" and "data" are the same place, as are "/" and "." */
    uint32_t n_mounts;
    struct config_secret *secrets;
    uint32_t n_secrets;
    const char *steward;    /* URL or NULL */
    const char *steward_ca; /* the CA (PEM) that certificates from the steward must chain to; NULL: none */
    const char **tls_names; /* what the keep's certificate is for: DNS names and addresses */
    uint32_t n_tls_names;
    uint64_t tls_lifetime; /* of that certificate, in nanoseconds: CONFIG_TLS_LIFETIME_LEAST to _MOST */
    struct config_limits limits;
    uint32_t limits_given; /* bit 1 << CONFIG_LIMIT_x: said by somebody, not the default */
    bool announce_fds; /* the program's environment starts with FD_COUNT and FD_NAMES (config_fd_env), as in Enarx */
    bool unknown_imports_trap;    /* functions nobody provides trap when called instead of being refused at load */
    bool unknown_imports_default; /* or return zeros; not both */
    bool interpret;               /* no native code */
    bool explicit_checks;         /* native code that takes no memory faults */

    /* private to config.c */
    struct config_block *blocks;
    uint32_t cap_args, cap_env, cap_files, cap_mounts, cap_tls_names, cap_secrets;
    uint64_t text; /* bytes of strings so far */
};

/* An error: one clear line, no newline. */
struct config_error {
    char message[512];
};

/* Defaults: program "main.wasm", no arguments, empty environment, stdio, no mounts, default limits. false: out of
 * memory. */
bool config_init(struct config *c);
void config_free(struct config *c); /* leaves *c zeroed; a zeroed config may be freed again */

/* Setters. False with `err` filled when a value is not allowed or a capacity is reached (or memory is out); *c is then
 * as it was. `len` bytes need not be terminated. config_set_env replaces an earlier value; config_add_mount an earlier
 * mount of the same guest path. The strings of `file` and `mount` are copied; what a kind does not use must be "" or
 * NULL. */
bool config_set_program(struct config *c, const char *s, size_t len, struct config_error *err);
bool config_set_steward(struct config *c, const char *s, size_t len, struct config_error *err);
bool config_set_steward_ca(struct config *c, const char *pem, size_t len, struct config_error *err);
bool config_add_tls_name(struct config *c, const char *s, size_t len, struct config_error *err);
bool config_set_tls_lifetime(struct config *c, uint64_t ns, struct config_error *err);
bool config_add_arg(struct config *c, const char *s, size_t len, struct config_error *err);
bool config_set_env(struct config *c, const char *key, size_t key_len, const char *value, size_t value_len,
                    struct config_error *err);
bool config_add_file(struct config *c, const struct config_file *file, struct config_error *err);
bool config_add_mount(struct config *c, const struct config_mount *mount, struct config_error *err);
bool config_add_secret(struct config *c, const struct config_secret *secret, struct config_error *err);
bool config_set_limit(struct config *c, enum config_limit which, uint64_t value, struct config_error *err);
void config_clear_args(struct config *c);
void config_clear_files(struct config *c);

/* Quantities as people write them. Bytes: "64 MiB", "1GiB", "4096", "1 kB"; counts: "10_000"; durations: "30s", "1500
 * ms", "2m", "1h", "500us", "7ns" (a bare number: seconds). Also "unlimited". False: not such a quantity, or too large.
 */
bool config_parse_quantity(const char *s, size_t len, enum config_unit unit, uint64_t *out);
/* The other way, shortest exact form; returns `buf`. */
enum { CONFIG_QUANTITY_MAX = 32 };
const char *config_format_quantity(char buf[CONFIG_QUANTITY_MAX], enum config_unit unit, uint64_t value);

const char *config_kind_name(enum config_file_kind kind); /* "null", "stdin", ... */
const char *config_prot_name(enum config_prot prot);      /* "tls", "tcp" */

/* The value of FD_NAMES: the names in order, separated by ':'. Returns the length without NUL; writes at most `size`
 * bytes, NUL included (as snprintf). FD_COUNT is n_files. */
size_t config_fd_names(const struct config *c, char *buf, size_t size);

/* True when one of the mounts is "/" or ".": there is no in-memory root then. */
bool config_has_root(const struct config *c);

/* True when one of the files is a TLS connection or listener: the keep needs donjon-warden-tls. */
bool config_uses_tls(const struct config *c);

/* True when this release can run it on this machine (`donjon run`). Otherwise `err` says what is missing (a TLS
 * connection that trusts nobody). */
bool config_supported(const struct config *c, struct config_error *err);

#ifdef __cplusplus
}
#endif
#endif
