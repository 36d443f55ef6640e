/* donjon-steward: `donjon steward ...` starts it with its own arguments. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <openssl/pem.h>

#include "steward.h"
#include "verbs.h"

/* ---- steward ---- */

/* The authority's key is in this memory. */
static void close_doors(void) {
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    umask(077);
}

static bool read_settings(const char *path, struct steward_settings *t) {
    char *text, error[SETTINGS_ERROR], directory[4096] = "";
    size_t size;
    if (!cli_read_file(path, SETTINGS_BYTES_MAX, &text, &size)) {
        cli_error(&verb_steward, "%s: %s%s", path, strerror(errno),
                  errno == ENOENT ? "; `donjon steward init DIR` makes a DIR/steward.toml to begin with" : "");
        return false;
    }
    const char *slash = strrchr(path, '/');
    if (slash) snprintf(directory, sizeof directory, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    bool ok = steward_settings_read(t, text, size, directory, error);
    free(text);
    if (!ok) cli_error(&verb_steward, "%s: %s", path, error);
    return ok;
}

int main_steward(struct cli_args *a) {
    const char *value, *path = "steward.toml";
    bool check = false;
    for (int id; (id = cli_next(a, &value)) != CLI_END;) {
        if (id == CLI_STOP) return a->exit_code;
        if (id == CLI_OPERAND) return cli_usage_error(a, "expected no operand, found \"%s\"", value);
        if (id == STEWARD_OPT_CONFIG) path = value;
        if (id == STEWARD_OPT_CHECK) check = true;
    }
    static struct steward_settings settings;
    char error[SETTINGS_ERROR];
    close_doors();
    if (!read_settings(path, &settings)) return CLI_FAILED;
    bool fine = !check || steward_check(&settings, error);
    struct steward *s = check ? NULL : steward_open(&settings, time(NULL), error);
    int code = fine && check ? CLI_YES : CLI_FAILED;
    if (!fine || (!check && !s)) cli_error(a->verb, "%s", error);
    if (fine && check)
        printf("%s is fine: %zu rule%s\n", path, settings.rule_count, settings.rule_count == 1 ? "" : "s");
    if (s) code = steward_serve(s, &settings);
    steward_close(s);
    steward_settings_free(&settings);
    return code;
}

/* ---- steward init ---- */

static bool write_new(const struct cli_verb *verb, int dir, const char *name, const void *data, size_t size,
                      mode_t mode) {
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    bool ok = fd >= 0 && write(fd, data, size) == (ssize_t)size && !fsync(fd);
    if (fd < 0 && errno == EEXIST)
        cli_error(verb, "%s is there already, and nothing is overwritten: name a new directory", name);
    else if (!ok)
        cli_error(verb, "%s: %s", name, strerror(errno));
    if (fd >= 0) close(fd);
    return ok;
}

static bool write_text(const struct cli_verb *verb, int dir, const char *name, const char *text) {
    return write_new(verb, dir, name, text, strlen(text), 0644);
}

static const char settings_text[] =
    "# A steward's settings: docs/steward.md. Relative paths begin at this file.\n"
    "listen = \"127.0.0.1:7475\"       # other addresses need [tls]\n"
    "audit = \"audit.jsonl\"\n"
    "\n"
    "[authority]\n"
    "certificate = \"ca.pem\"\n"
    "key = \"%s\"\n"
    "%s%s%s"
    "\n"
    "# [tls]\n"
    "# names = [\"steward.example\"]    # a certificate of this authority, renewed by itself\n"
    "\n"
    "[evidence]\n"
    "collateral = []                  # files and directories (donjon collateral fetch)\n"
    "# development-root = \"dev-root.pem\" # evidence by software: protects nothing\n"
    "# denied = \"denied\"             # a list of what gets nothing any more\n"
    "\n"
    "[[issue]]\n"
    "name = \"default\"\n"
    "policy = \"policy.toml\"\n"
    "workloads = [\"any\"]              # or digests, as donjon deploy shows them\n"
    "names = [\"localhost\", \"127.0.0.1\", \"*.keep.example\"]\n"
    "lifetime = \"6h\"\n";
static const char policy_text[] =
    "# An appraisal policy: docs/attestation.md, \"Policies\". Nothing is issued before it names code.\n"
    "name = \"steward\"\n"
    "tees = [\"snp\", \"tdx\", \"sgx\"]\n"
    "\n"
    "[snp]\n"
    "# measurements = [\"...\"]         # 48 bytes in hexadecimal, from donjon measure\n";

struct initial {
    const char *directory, *name, *key, *module;
    int64_t days;
};

static bool write_settings(struct cli_args *a, int dir, const struct initial *n) {
    char text[sizeof settings_text + 4096];
    int size = snprintf(text, sizeof text, settings_text, n->key ? n->key : "ca-key.pem",
                        n->module ? "pkcs11-module = \"" : "", n->module ? n->module : "", n->module ? "\"\n" : "");
    if (size >= (int)sizeof text) return cli_error(a->verb, "the key's name is too long"), false;
    return write_text(a->verb, dir, "steward.toml", text) && write_text(a->verb, dir, "policy.toml", policy_text);
}

static bool make_key(struct cli_args *a, int dir, struct steward_key *k) {
    k->key = EVP_EC_gen("P-256");
    BIO *bio = BIO_new(BIO_s_mem());
    char *data = NULL;
    long size = k->key && bio && PEM_write_bio_PKCS8PrivateKey(bio, k->key, NULL, NULL, 0, NULL, NULL) == 1
                    ? BIO_get_mem_data(bio, &data)
                    : 0;
    bool ok = size > 0 && write_new(a->verb, dir, "ca-key.pem", data, (size_t)size, 0600);
    if (size > 0) OPENSSL_cleanse(data, (size_t)size);
    BIO_free(bio);
    return ok;
}

static bool make_authority(struct cli_args *a, int dir, const struct initial *n) {
    struct steward_key k = {0};
    char error[SETTINGS_ERROR];
    bool ok = n->key ? steward_key_load(&k, n->key, n->module, error) : make_key(a, dir, &k);
    if (!ok && n->key) cli_error(a->verb, "%s", error);
    X509 *x = ok ? steward_authority_make(k.key, n->name, time(NULL), n->days * 24 * 3600) : NULL;
    char *pem = x ? steward_pem(x, NULL) : NULL;
    if (ok && !pem) cli_error(a->verb, "the authority's certificate could not be made");
    ok = pem && write_text(a->verb, dir, "ca.pem", pem);
    free(pem);
    X509_free(x);
    steward_key_free(&k);
    return ok;
}

int main_steward_init(struct cli_args *a) {
    struct initial n = {.name = "Donjon steward", .days = 1825};
    const char *value;
    for (int id; (id = cli_next(a, &value)) != CLI_END;) {
        if (id == CLI_STOP) return a->exit_code;
        if (id == STEWARD_OPT_NAME) n.name = value;
        if (id == STEWARD_OPT_KEY) n.key = value;
        if (id == STEWARD_OPT_MODULE) n.module = value;
        if (id == STEWARD_OPT_DAYS) {
            char *end;
            n.days = strtol(value, &end, 10);
            if (*end || n.days < 1 || n.days > 36500) return cli_usage_error(a, "--days: expected 1 to 36500");
        }
        if (id == CLI_OPERAND && n.directory) return cli_usage_error(a, "expected one directory");
        if (id == CLI_OPERAND) n.directory = value;
    }
    if (!n.directory) return cli_usage_error(a, "which directory? Expected where the authority is to be made");
    if (mkdir(n.directory, 0700) && errno != EEXIST) return cli_error(a->verb, "%s: %s", n.directory, strerror(errno));
    int dir = open(n.directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) return cli_error(a->verb, "%s: %s", n.directory, strerror(errno));
    bool ok = make_authority(a, dir, &n) && write_settings(a, dir, &n);
    close(dir);
    if (!ok) return CLI_FAILED;
    printf("Made %s/ca.pem and steward.toml. Put measurements into policy.toml, then: donjon steward --config "
           "%s/steward.toml\n",
           n.directory, n.directory);
    return CLI_YES;
}

/* ---- steward audit ---- */

struct audited {
    const char *path;
    struct steward_audit_report report;
};

/* Each but the first must go on where the one before ends. False: it was said what is wrong. */
static bool audit_file(struct audited *x, const struct audited *before, const uint8_t *wanted, int *code) {
    char error[SETTINGS_ERROR], head[65];
    int fd = open(x->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        *code = cli_error(&verb_steward_audit, "%s: %s", x->path, strerror(errno));
        return false;
    }
    bool whole = steward_audit_check(fd, wanted, &x->report, error);
    close(fd);
    *code = CLI_NO;
    if (before) steward_hex(before->report.head, sizeof before->report.head, head);
    if (!whole)
        printf("BROKEN: %s: %s\n", x->path, error);
    else if (before && strcmp(head, x->report.before))
        printf("BROKEN: %s does not go on where %s ends\n", x->path, before->path);
    else
        *code = CLI_YES;
    return *code == CLI_YES;
}

static void print_whole(const struct audited *x, bool named) {
    const struct steward_audit_report *r = &x->report;
    char head[65];
    steward_hex(r->head, sizeof r->head, head);
    printf("whole: %s%s%llu entries%s%s%s%s, head %s%s\n", named ? x->path : "", named ? ": " : "",
           (unsigned long long)r->entries, r->entries ? ", " : "", r->first, r->entries ? " to " : "", r->last, head,
           r->torn ? "; an unfinished line follows (a crash, or being written)" : "");
}

int main_steward_audit(struct cli_args *a) {
    enum { FILES = 1024 };
    static struct audited files[FILES];
    const char *value, *wanted = NULL;
    uint8_t head[32];
    size_t count = 0, head_size;
    bool quiet = false, found = false;
    int code = CLI_YES;
    for (int id; (id = cli_next(a, &value)) != CLI_END;) {
        if (id == CLI_STOP) return a->exit_code;
        if (id == STEWARD_OPT_QUIET) quiet = true;
        if (id == STEWARD_OPT_HEAD) wanted = value;
        if (id == CLI_OPERAND && count == FILES) return cli_usage_error(a, "expected at most %d files", FILES);
        if (id == CLI_OPERAND) files[count++].path = value;
    }
    if (!count) return cli_usage_error(a, "which file? Expected an audit log");
    if (wanted && (strlen(wanted) != 64 || OPENSSL_hexstr2buf_ex(head, sizeof head, &head_size, wanted, '\0') != 1))
        return cli_usage_error(a, "--head: expected 64 hexadecimal digits");
    for (size_t i = 0; i < count; i++) {
        if (!audit_file(&files[i], i ? &files[i - 1] : NULL, wanted ? head : NULL, &code)) return code;
        found |= files[i].report.found;
    }
    if (wanted && !found) {
        printf("BROKEN: %s: no entry has the head %s: the end was cut off, or this is another log\n",
               files[count - 1].path, wanted);
        return CLI_NO;
    }
    for (size_t i = 0; i < count && !quiet; i++)
        print_whole(&files[i], count > 1);
    return CLI_YES;
}

/* ---- The program ---- */

const struct cli_verb *const cli_verbs[] = {&verb_steward_init, &verb_steward_audit, &verb_steward, NULL};

int main(int argc, char **argv) {
    return cli_program_main("donjon-steward", argc, argv);
}
