/* donjon-package: `donjon pack|push|pull|sign ...` starts it with its own arguments. */
#include "package.h"

#include "config/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/pem.h>
#include <openssl/rand.h>

const struct cli_verb *const cli_verbs[] = {&verb_pack, &verb_push, &verb_pull, &verb_sign, NULL};

/* ---- The command line ---- */

static void say(void *context, const char *line) {
    char clean[CLI_MESSAGE_MAX];
    (void)context;
    fprintf(stderr, "%s\n", cli_printable(line, clean, sizeof clean, false));
}

static bool read_user(struct package_command *c, const char *path) {
    size_t size;
    if (!cli_read_file(path, 1024, &c->user, &size)) {
        cli_error(c->a->verb, "%s: %s", path, strerror(errno));
        return false;
    }
    c->user[strcspn(c->user, "\r\n")] = 0;
    c->options.user = c->user;
    if (strchr(c->user, ':')) return true;
    cli_error(c->a->verb, "%s: expected NAME:PASSWORD", path);
    return false;
}

/* Known before anything is fetched, and said. */
static bool readable(struct package_command *c, const char *path) {
    if (!access(path, R_OK)) return true;
    cli_error(c->a->verb, "%s: %s", path, strerror(errno));
    return false;
}

static bool take_option(struct package_command *c, int id, const char *value) {
    switch (id) {
    case PACKAGE_OPT_OUTPUT: c->output = value; return true;
    case PACKAGE_OPT_TAG: c->tag = value; return true;
    case PACKAGE_OPT_KEY: c->key = value; return readable(c, value);
    case PACKAGE_OPT_NEW_KEY: c->new_key = value; return true;
    case PACKAGE_OPT_ENCRYPT: c->encrypt = value; return true;
    case PACKAGE_OPT_DECRYPT: c->decrypt = value; return true;
    case PACKAGE_OPT_UNPACK: c->unpack = value; return true;
    case PACKAGE_OPT_PLAIN: c->options.plain_http = true; return true;
    case PACKAGE_OPT_CA: c->options.ca_file = value; return true;
    case PACKAGE_OPT_USER: return read_user(c, value);
    case PACKAGE_OPT_QUIET: c->quiet = true; return true;
    case PACKAGE_OPT_JSON: c->json = true; return true;
    case PACKAGE_OPT_VERIFY:
        if (c->options.verify_key_count == PACKAGE_KEYS_MAX)
            return cli_usage_error(c->a, "--verify-key: at most %d", PACKAGE_KEYS_MAX), false;
        c->keys[c->options.verify_key_count++] = value;
        return readable(c, value);
    default: return false;
    }
}

bool package_command_read(struct package_command *c, struct cli_args *a, unsigned least, unsigned most) {
    const char *value;
    memset(c, 0, sizeof *c);
    c->a = a;
    c->options.verify_keys = c->keys;
    for (int id; (id = cli_next(a, &value)) != CLI_END;) {
        if (id == CLI_STOP) return false;
        if (id != CLI_OPERAND) {
            if (take_option(c, id, value)) continue;
            a->exit_code = CLI_FAILED;
            return false;
        }
        if (c->operand_count == most) return cli_usage_error(a, "one operand too many: \"%s\"", value), false;
        c->operands[c->operand_count++] = value;
    }
    if (c->operand_count < least) {
        const char *what =
            most == 2 ? c->operand_count ? "to where? Expected TO, a reference" : "which package? Expected FROM and TO"
            : a->verb == &verb_pack ? "which program? Expected a module or a directory"
                                    : "which package? Expected a reference";
        return cli_usage_error(a, "%s", what), false;
    }
    if (!c->quiet && !c->json) c->options.say = say;
    return true;
}

void package_command_free(struct package_command *c) {
    if (c->user) OPENSSL_cleanse(c->user, strlen(c->user));
    free(c->user);
    OPENSSL_cleanse(c->content_key, sizeof c->content_key);
}

int package_command_failed(struct package_command *c) {
    return cli_error(c->a->verb, "%s", c->error);
}

int package_command_done(struct package_command *c, const struct package_reference *r, const char *digest) {
    char pinned[PACKAGE_PATH];
    package_reference_pinned(r, digest, pinned);
    if (c->json) {
        fputs("{\"reference\":", stdout);
        cli_json_text(stdout, pinned);
        printf(",\"digest\":\"%s\"}\n", digest);
    } else
        puts(c->quiet ? digest : pinned);
    return CLI_YES;
}

/* What every verb ends with. */
static int end(struct package_command *c, int code) {
    package_command_free(c);
    return c->json && code ? cli_json_failed(code) : code;
}

/* ---- Keys ---- */

static bool write_secret(struct package_command *c, const char *path, const void *data, size_t size, mode_t mode) {
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    bool ok = fd >= 0 && write(fd, data, size) == (ssize_t)size && !fsync(fd);
    if (fd < 0 && errno == EEXIST)
        cli_error(c->a->verb, "%s is there already, and no key is overwritten: choose another name", path);
    else if (!ok)
        cli_error(c->a->verb, "%s: %s", path, strerror(errno));
    if (fd >= 0) close(fd);
    return ok;
}

bool package_content_key(struct package_command *c, const char *path, bool make) {
    char *bytes;
    size_t size;
    if (make && access(path, F_OK) && errno == ENOENT) {
        if (RAND_bytes(c->content_key, PACKAGE_KEY) != 1 || !write_secret(c, path, c->content_key, PACKAGE_KEY, 0600))
            return false;
    } else {
        if (!cli_read_file(path, PACKAGE_KEY, &bytes, &size)) {
            cli_error(c->a->verb, "%s: %s", path, errno == EFBIG ? "expected 32 bytes" : strerror(errno));
            return false;
        }
        bool whole = size == PACKAGE_KEY;
        if (whole) memcpy(c->content_key, bytes, PACKAGE_KEY);
        OPENSSL_cleanse(bytes, size);
        free(bytes);
        if (!whole) {
            cli_error(c->a->verb, "%s: expected 32 bytes, found %zu", path, size);
            return false;
        }
    }
    c->options.key = c->content_key;
    return true;
}

static bool new_signing_key(struct package_command *c) {
    char public[4096], *data;
    if (snprintf(public, sizeof public, "%s.pub", c->new_key) >= (int)sizeof public) return false;
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    BIO *bio = BIO_new(BIO_s_mem()), *open_bio = BIO_new(BIO_s_mem());
    bool ok = key && bio && open_bio && PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1 &&
              PEM_write_bio_PUBKEY(open_bio, key) == 1;
    if (!ok) cli_error(c->a->verb, "the key could not be made");
    long size = ok ? BIO_get_mem_data(bio, &data) : 0;
    ok = ok && write_secret(c, c->new_key, data, (size_t)size, 0600);
    if (size) OPENSSL_cleanse(data, (size_t)size);
    size = ok ? BIO_get_mem_data(open_bio, &data) : 0;
    ok = ok && write_secret(c, public, data, (size_t)size, 0644);
    if (ok && !c->quiet && !c->json) fprintf(stderr, "made %s and %s\n", c->new_key, public);
    BIO_free(bio);
    BIO_free(open_bio);
    EVP_PKEY_free(key);
    return ok;
}

/* ---- The verbs ---- */

static bool layout_reference(struct package_command *c, const char *dir, const char *tag, struct package_reference *r) {
    char text[PACKAGE_PATH];
    int n = snprintf(text, sizeof text, "oci:%s:%s", dir, tag);
    if (n >= (int)sizeof text) {
        snprintf(c->error, sizeof c->error, "%.300s: too long", dir);
        return false;
    }
    return package_reference_read(text, r, c->error);
}

/* What `donjon deploy` would refuse is refused here, in the same words. */
static bool config_fine(struct package_command *c, const char *app) {
    static const char *const names[] = {"Donjon.toml", "Enarx.toml"};
    struct config config;
    char path[PACKAGE_PATH];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (snprintf(path, sizeof path, "%s/%s", app, names[i]) >= (int)sizeof path || access(path, F_OK)) continue;
        if (!config_init(&config)) return cli_error(c->a->verb, "out of memory"), false;
        bool fine = cli_load_config(c->a->verb, path, true, &config);
        config_free(&config);
        return fine;
    }
    return true;
}

int main_pack(struct cli_args *a) {
    struct package_command c;
    struct package_reference to;
    char digest[PACKAGE_DIGEST];
    int code = CLI_FAILED;
    if (!package_command_read(&c, a, 1, 1))
        code = a->exit_code;
    else if (!c.output)
        code = cli_usage_error(a, "where to? Expected --output DIR");
    else if (!config_fine(&c, c.operands[0]))
        code = CLI_FAILED;
    else if (c.encrypt && !package_content_key(&c, c.encrypt, true))
        code = CLI_FAILED;
    else if (!layout_reference(&c, c.output, c.tag ? c.tag : "latest", &to) ||
             !package_pack(c.operands[0], &to, &c.options, digest, c.error))
        code = package_command_failed(&c);
    else
        code = package_command_done(&c, &to, digest);
    return end(&c, code);
}

int main_push(struct cli_args *a) {
    struct package_command c;
    struct package_reference from, to;
    char digest[PACKAGE_DIGEST];
    int code;
    if (!package_command_read(&c, a, 2, 2))
        code = a->exit_code;
    else if (!package_reference_read(c.operands[0], &from, c.error) ||
             !package_reference_read(c.operands[1], &to, c.error) ||
             !package_copy(&from, &to, &c.options, digest, c.error))
        code = package_command_failed(&c);
    else
        code = package_command_done(&c, &to, digest);
    return end(&c, code);
}

/* Everything is read and checked before anything is written. */
static int pull(struct package_command *c) {
    struct package_reference from, to;
    char digest[PACKAGE_DIGEST];
    struct package *p = NULL;
    bool ok = package_reference_read(c->operands[0], &from, c->error) &&
              (!c->unpack || package_directory_is_new(c->unpack, c->error));
    if (ok && c->output) {
        ok = layout_reference(c, c->output, *from.tag ? from.tag : "latest", &to) &&
             package_copy(&from, &to, &c->options, digest, c->error);
        if (ok) memcpy(from.digest, digest, sizeof digest); /* what a tag was, it stays */
    }
    char pinned[PACKAGE_PATH];
    bool open = ok && (c->unpack || !c->output);
    c->options.keep_sealed = !c->unpack && !c->decrypt; /* bytes can be checked without a key */
    if (open) {
        p = package_open(*from.digest ? package_reference_pinned(&from, from.digest, pinned) : c->operands[0],
                         &c->options, c->error);
        ok = p && (!c->unpack || package_unpack(p, c->unpack, c->error));
        if (ok) memcpy(digest, p->digest, sizeof digest);
    }
    int code = ok ? package_command_done(c, &from, digest) : package_command_failed(c);
    package_free(p);
    return code;
}

int main_pull(struct cli_args *a) {
    struct package_command c;
    int code;
    if (!package_command_read(&c, a, 1, 1))
        code = a->exit_code;
    else if (c.decrypt && !package_content_key(&c, c.decrypt, false))
        code = CLI_FAILED;
    else
        code = pull(&c);
    return end(&c, code);
}

int main_sign(struct cli_args *a) {
    struct package_command c;
    struct package_reference r;
    char digest[PACKAGE_DIGEST];
    int code = CLI_YES;
    if (!package_command_read(&c, a, 0, 1))
        code = a->exit_code;
    else if (!c.key && !c.new_key)
        code = cli_usage_error(a, "with which key? Expected --key FILE, or --new-key FILE");
    else if (!c.operand_count && !c.new_key)
        code = cli_usage_error(a, "which package? Expected a reference");
    else if (c.new_key && !new_signing_key(&c))
        code = CLI_FAILED;
    else if (!c.operand_count && c.json) {
        fputs("{\"key\":", stdout);
        cli_json_text(stdout, c.new_key);
        puts("}");
    } else if (c.operand_count) {
        bool ok = package_reference_read(c.operands[0], &r, c.error) &&
                  package_sign(&r, c.key ? c.key : c.new_key, &c.options, digest, c.error);
        code = ok ? package_command_done(&c, &r, digest) : package_command_failed(&c);
    }
    return end(&c, code);
}

int main(int argc, char **argv) {
    return cli_program_main("donjon-package", argc, argv);
}
