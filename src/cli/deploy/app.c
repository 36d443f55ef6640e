#define _GNU_SOURCE
#include "app.h"

#include "config/config_wire.h"
#include "config/nearest.h"
#include "gate/gate.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <openssl/crypto.h>

enum { DEPTH_MAX = 32 };

static bool fail(struct app *a, const char *what, const char *why) {
    cli_error(a->run.verb, "%s: %s", what, why);
    return false;
}

/* ---- files ---- */

/* A name in the keep: relative, without empty parts at its ends. NULL: not one that the channel takes. */
static char *guest_path(const char *name) {
    while (*name == '/' || (name[0] == '.' && name[1] == '/'))
        name += *name == '/' ? 1 : 2;
    size_t n = strlen(name);
    while (n && name[n - 1] == '/')
        n--;
    if (n == 1 && *name == '.') n = 0;
    return strndup(name, n);
}

/* Memory that is freed with the app. NULL: out of memory, and freed. */
static void *hold(struct app *a, void *p) {
    if (p && a->n_held == a->held_room) {
        size_t room = a->held_room ? a->held_room * 2 : 64;
        void **grown = realloc(a->held, room * sizeof *grown);
        if (!grown) {
            free(p);
            return NULL;
        }
        a->held = grown;
        a->held_room = room;
    }
    if (p) a->held[a->n_held++] = p;
    return p;
}

/* A file of the keep. What `content` and `sealed` point to is held. */
static bool add_entry(struct app *a, const char *guest, struct channel_bytes content,
                      const struct channel_sealed *sealed) {
    char *path = hold(a, guest_path(guest));
    if (!path || !channel_path_ok((const uint8_t *)path, strlen(path)))
        return fail(a, guest, "is no path a file in the keep may have");
    if (a->n_files == a->files_room) {
        size_t room = a->files_room ? a->files_room * 2 : 64;
        struct channel_file *grown = room <= CHANNEL_FILES_MAX ? realloc(a->files, room * sizeof *grown) : NULL;
        if (!grown) return fail(a, guest, "more files than a deployment may have (65,536)");
        a->files = grown;
        a->files_room = room;
    }
    a->files[a->n_files++] =
        (struct channel_file){.path = {(uint8_t *)path, strlen(path)}, .content = content, .sealed = sealed};
    return true;
}

static bool add_file(struct app *a, const char *host, const char *guest) {
    char *bytes;
    size_t size;
    if (!cli_read_file(host, CHANNEL_FILE_MAX, &bytes, &size)) return fail(a, host, strerror(errno));
    if (!hold(a, bytes)) return fail(a, host, "out of memory");
    return add_entry(a, guest, (struct channel_bytes){(uint8_t *)bytes, size}, NULL);
}

static bool add_tree(struct app *a, const char *host, const char *guest, int depth) {
    DIR *dir = opendir(host);
    if (!dir || depth > DEPTH_MAX) {
        if (dir) closedir(dir);
        return fail(a, host, dir ? "directories too deep" : strerror(errno));
    }
    bool ok = true;
    for (struct dirent *e; ok && (e = readdir(dir));) {
        char inner[4096], name[4096];
        struct stat st;
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        if (snprintf(inner, sizeof inner, "%s/%s", host, e->d_name) >= (int)sizeof inner ||
            snprintf(name, sizeof name, "%s/%s", guest, e->d_name) >= (int)sizeof name || lstat(inner, &st))
            ok = fail(a, host, "a path in it is too long, or vanished");
        else if (S_ISDIR(st.st_mode))
            ok = add_tree(a, inner, name, depth + 1);
        else if (S_ISREG(st.st_mode))
            ok = add_file(a, inner, name);
        else /* a link may lead anywhere on this machine: what leaves it is said by name */
            cli_warning(a->run.verb, "%s is neither file nor directory: left out", inner);
    }
    closedir(dir);
    return ok;
}

static bool add_path(struct app *a, const char *host, const char *guest) {
    struct stat st;
    if (stat(host, &st)) return fail(a, host, strerror(errno));
    if (S_ISDIR(st.st_mode)) return add_tree(a, host, guest, 0);
    return S_ISREG(st.st_mode) ? add_file(a, host, guest) : fail(a, host, "expected a file or a directory");
}

bool app_add_file(struct app *a, const char *spec) {
    char host[4096];
    const char *sep = strstr(spec, "::");
    size_t n = sep ? (size_t)(sep - spec) : strlen(spec);
    if (!n || n >= sizeof host) return fail(a, "--file", "expected PATH[::GUEST]");
    memcpy(host, spec, n);
    host[n] = 0;
    struct stat st;
    if (stat(host, &st)) return cli_error(a->run.verb, "--file %s: %s", host, strerror(errno)), false;
    if (!sep && (*host == '/' || !strncmp(host, "..", 2)))
        return fail(a, spec, "say where the program finds it: --file PATH::GUEST");
    return add_path(a, host, sep ? sep + 2 : host);
}

/* A file of the package, as it is there. */
static bool add_packaged(struct app *a, const struct package_file *f, const char *guest) {
    struct channel_sealed *sealed = f->sealed ? hold(a, calloc(1, sizeof *sealed)) : NULL;
    if (f->sealed && !sealed) return fail(a, f->path, "out of memory");
    if (sealed) {
        sealed->title = (struct channel_bytes){(const uint8_t *)f->path, strlen(f->path)};
        memcpy(sealed->digest, f->digest, sizeof sealed->digest);
    }
    return add_entry(a, guest, (struct channel_bytes){f->data, f->size}, sealed);
}

/* A mount of a package's own configuration: what the package has below that name. */
static bool add_packaged_mount(struct app *a, const struct config_mount *m) {
    const struct package *p = a->opened;
    const char *from = !strncmp(m->host, "./", 2) ? m->host + 2 : m->host;
    size_t n = strcmp(from, ".") != 0 ? strlen(from) : 0;
    for (size_t i = 0; i < p->file_count; i++) {
        char guest[4096];
        const struct package_file *f = &p->files[i];
        if (strncmp(f->path, from, n) != 0 || (n && f->path[n] && f->path[n] != '/')) continue;
        const char *rest = f->path + n;
        if (snprintf(guest, sizeof guest, "%s%s%s", m->guest, n ? "" : "/", rest) >= (int)sizeof guest)
            return fail(a, f->path, "its path in the keep is too long");
        if (!add_packaged(a, f, guest)) return false;
    }
    return true;
}

/* There are no host directories in a deployed keep: what the config mounts goes there as a copy. */
static bool deliver_mounts(struct app *a) {
    struct config *c = &a->run.c;
    bool packaged = a->opened && !a->run.config; /* --config names directories of this machine */
    for (uint32_t i = 0; i < c->n_mounts; i++) {
        const struct config_mount *m = &c->mounts[i];
        if (m->writable)
            cli_warning(a->run.verb, "mount %s is delivered as a copy: what the program writes there stays in the keep",
                        m->guest);
        if (!(packaged ? add_packaged_mount(a, m) : add_path(a, m->host, m->guest))) return false;
    }
    c->n_mounts = 0;
    return true;
}

/* ---- secrets ---- */

bool app_add_secret(struct app *a, const char *spec) {
    const char *equal = strchr(spec, '=');
    size_t n = equal ? (size_t)(equal - spec) : 0, size;
    char *bytes;
    if (!n || !channel_name_ok((const uint8_t *)spec, n) || n > CHANNEL_NAME_MAX)
        return fail(a, "--secret", "expected NAME=FILE, with a name of letters, digits, '_', '.' and '-'");
    if (a->n_secrets == CHANNEL_SECRETS_MAX) return fail(a, "--secret", "more than 256");
    for (size_t i = 0; i < a->n_secrets; i++)
        if (strlen(a->secrets[i].name) == n && !memcmp(a->secrets[i].name, spec, n))
            return fail(a, a->secrets[i].name, "the secret is given twice");
    if (!strcmp(equal + 1, "-")) {
        if (a->took_stdin) return fail(a, spec, "standard input is another secret's already");
        a->took_stdin = true;
    }
    if (!cli_read_file(equal + 1, CHANNEL_SECRET_MAX, &bytes, &size)) {
        const char *why = errno == EFBIG ? "a secret may have 60 KiB" : strerror(errno);
        return cli_error(a->run.verb, "--secret %.*s: %s: %s", (int)n, spec, equal + 1, why), false;
    }
    char *name = strndup(spec, n);
    if (!name) return fail(a, spec, "out of memory");
    a->secrets[a->n_secrets++] = (struct channel_secret){.name = name, .value = {(uint8_t *)bytes, size}};
    return true;
}

static bool is_given(const struct app *a, const char *name) {
    for (size_t i = 0; i < a->n_secrets; i++)
        if (!strcmp(a->secrets[i].name, name)) return true;
    return false;
}

/* Nobody wants this one: what was meant is said, if it can be guessed. */
static bool unwanted(struct app *a, const char *name) {
    const struct config *c = &a->run.c;
    const char *names[CONFIG_SECRETS_MAX];
    for (uint32_t k = 0; k < c->n_secrets; k++)
        names[k] = c->secrets[k].name;
    const char *near = nearest_word(name, strlen(name), names, c->n_secrets);
    if (!near) return fail(a, name, "no [[secrets]] of the config has this name");
    cli_error(a->run.verb, "%s: no [[secrets]] of the config has this name; did you mean \"%s\"?", name, near);
    return false;
}

/* All that are missing are named at once. */
static bool secrets_fit(struct app *a) {
    const struct config *c = &a->run.c;
    char names[600] = "";
    const char *first = NULL;
    uint32_t missing = 0, shown = 0;
    size_t at = 0;
    for (size_t i = 0; i < a->n_secrets; i++) {
        bool wanted = false;
        for (uint32_t k = 0; k < c->n_secrets; k++)
            wanted |= !strcmp(a->secrets[i].name, c->secrets[k].name);
        if (!wanted) return unwanted(a, a->secrets[i].name);
    }
    for (uint32_t k = 0; k < c->n_secrets; k++) {
        const char *name = c->secrets[k].name;
        if (is_given(a, name)) continue;
        if (!missing++) first = name;
        if (at + strlen(name) + 8 > sizeof names) continue;
        at += (size_t)snprintf(names + at, sizeof names - at, "%s\"%s\"", at ? ", " : "", name);
        shown++;
    }
    if (missing == 1)
        cli_error(a->run.verb, "the config wants the secret \"%s\"; give it with --secret %s=FILE", first, first);
    else if (missing)
        cli_error(a->run.verb,
                  "the config wants %u secrets that are not given: %s%s; give each with --secret NAME=FILE", missing,
                  names, shown < missing ? ", ..." : "");
    return !missing;
}

/* ---- the whole ---- */

static bool is_module(struct app *a, const char *path, struct channel_bytes module) {
    const char *why = cli_not_a_module((const char *)module.data, module.size);
    if (!why) return true;
    cli_error(a->run.verb, "%s %s", path, why);
    return false;
}

/* A sealed one the keep looks at. */
static bool read_module(struct app *a, struct channel_delivery *d) {
    const char *path = a->run.module;
    char *bytes;
    size_t size;
    if (a->opened) {
        const struct package_file *m = &a->opened->module;
        d->module = (struct channel_bytes){m->data, m->size};
        if (!m->sealed) return is_module(a, m->path, d->module);
        memcpy(a->sealed_module.digest, m->digest, sizeof m->digest);
        d->sealed = &a->sealed_module;
        d->key = a->key;
        return true;
    }
    if (!cli_read_file(path, BOOT_MAX_MODULE, &bytes, &size))
        return fail(a, path, errno == EFBIG ? "more than the 1 GiB a module may have" : strerror(errno));
    if (!hold(a, bytes)) return fail(a, path, "out of memory");
    d->module = (struct channel_bytes){(uint8_t *)bytes, size};
    return is_module(a, path, d->module);
}

static bool load(struct app *a, struct cli_args *second) {
    struct channel_delivery d = {0};
    size_t wire;
    a->run.deployed = true;
    if (!config_init(&a->run.c)) return fail(a, a->run.app, "out of memory");
    if (run_build_config(&a->run, second)) return false;
    if (!deliver_mounts(a) || !secrets_fit(a) || !read_module(a, &d)) return false;
    if (!channel_files_sort(a->files, a->n_files))
        return fail(a, a->run.app, "two files have the same path in the keep");
    if (!config_encode(&a->run.c, &a->wire, &wire)) return fail(a, a->run.app, "out of memory");
    d.config = (struct channel_bytes){a->wire, wire};
    d.files = a->files;
    d.n_files = a->n_files;
    d.secrets = a->secrets;
    d.n_secrets = a->n_secrets;
    a->delivery = d;
    return channel_delivery_digest(&a->delivery, a->digest) || fail(a, a->run.app, "cannot compute its digest");
}

/* ---- packages ---- */

/* The key of an encrypted package: PACKAGE_KEY bytes. */
static bool read_key(struct app *a) {
    char *key;
    size_t size;
    if (!a->decrypt_key) return true;
    if (!strcmp(a->decrypt_key, "-")) {
        if (a->took_stdin) return fail(a, "--decrypt-key", "standard input is a secret's already");
        a->took_stdin = true;
    }
    if (!cli_read_file(a->decrypt_key, PACKAGE_KEY, &key, &size))
        return fail(a, a->decrypt_key, errno == EFBIG ? "expected the 32 bytes of a package's key" : strerror(errno));
    bool whole = size == PACKAGE_KEY;
    if (whole) memcpy(a->key, key, PACKAGE_KEY);
    OPENSSL_cleanse(key, size);
    free(key);
    a->package.key = a->key;
    return whole || fail(a, a->decrypt_key, "expected the 32 bytes of a package's key");
}

/* What the package's configuration names: certificates and policies, which become part of the configuration. */
static const char *read_named(void *ctx, const char *name, size_t *size, const char **why) {
    const struct package *p = ((struct app *)ctx)->opened;
    const char *path = !strncmp(name, "./", 2) ? name + 2 : name;
    *why = "the package has no such file";
    for (size_t i = 0; i < p->file_count; i++) {
        const struct package_file *f = &p->files[i];
        if (strcmp(f->path, path) != 0) continue;
        *why = "it is encrypted, and the configuration is needed before there is a keep: pack it again";
        *size = f->size;
        return f->sealed ? NULL : (const char *)f->data;
    }
    return NULL;
}

static bool open_package(struct app *a) {
    char error[PACKAGE_ERROR] = "";
    a->package.verify_keys = a->verify_keys;
    a->package.keep_sealed = true;
    if (!read_key(a)) return false;
    a->opened = package_open(a->run.app, &a->package, error);
    if (!a->opened) return fail(a, a->run.app, error);
    if (a->opened->encrypted && !a->decrypt_key)
        return fail(a, a->run.app,
                    "the package is encrypted, and no key was given: --decrypt-key FILE brings it to the keep");
    snprintf(a->pinned, sizeof a->pinned, "%s", a->opened->pinned);
    a->run.app = a->pinned;
    a->source = (struct config_source){read_named, a};
    a->run.source = &a->source;
    a->run.config_text = a->opened->config;
    return true;
}

bool app_load(struct app *a, struct cli_args *second) {
    if (package_is_reference(a->run.app)) return open_package(a) && load(a, second);
    /* Whoever asks for a signature must not get a program that has none. */
    if (a->package.verify_key_count || a->decrypt_key)
        return fail(a, a->run.app,
                    a->decrypt_key ? "expected a package, as --decrypt-key was given"
                                   : "expected a package, as --verify-key was given: nothing else is signed");
    return load(a, second);
}

uint64_t app_size(const struct app *a) {
    uint64_t sum = a->delivery.config.size + a->delivery.module.size;
    for (size_t i = 0; i < a->n_files; i++)
        sum += a->files[i].content.size;
    for (size_t i = 0; i < a->n_secrets; i++)
        sum += a->secrets[i].value.size;
    return sum;
}

void app_free(struct app *a) {
    for (size_t i = 0; i < a->n_secrets; i++) {
        OPENSSL_cleanse((void *)a->secrets[i].value.data, a->secrets[i].value.size);
        free((void *)a->secrets[i].value.data);
        free((void *)a->secrets[i].name);
    }
    for (size_t i = 0; i < a->n_held; i++)
        free(a->held[i]);
    free(a->held);
    free(a->files);
    package_free(a->opened);
    OPENSSL_cleanse(a->key, sizeof a->key);
    free(a->wire);
    free(a->run.module);
    free(a->run.config_found);
    config_free(&a->run.c);
    *a = (struct app){0};
}
