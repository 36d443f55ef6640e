#include "state.h"

#include "cli/cli.h"

#include <donjon/attest.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

enum { FILE_MOST = 1 << 20 };

static bool fail(char *error, size_t size, const char *what, const char *why) {
    snprintf(error, size, "%s: %s", what, why);
    return false;
}

static bool open_folder(struct state *s, const char *name, int *fd) {
    if (mkdirat(s->dir, name, 0700) && errno != EEXIST) return false;
    *fd = openat(s->dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    return *fd >= 0;
}

bool state_open(struct state *s, const char *path, char *error, size_t size) {
    struct stat st;
    *s = (struct state){.dir = -1, .keeps = -1, .records = -1, .lock = -1};
    if (snprintf(s->path, sizeof s->path, "%s", path) >= (int)sizeof s->path)
        return fail(error, size, path, "the path is too long for the unix sockets in it; expected at most 60 bytes");
    if (!cli_make_directories(path)) return fail(error, size, path, strerror(errno));
    s->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->dir < 0 || fstat(s->dir, &st)) return fail(error, size, path, strerror(errno));
    if (st.st_uid != geteuid()) return fail(error, size, path, "belongs to another user");
    if (st.st_mode & 077 && fchmod(s->dir, 0700)) return fail(error, size, path, strerror(errno));
    s->lock = openat(s->dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (s->lock < 0) return fail(error, size, path, strerror(errno));
    if (flock(s->lock, LOCK_EX | LOCK_NB)) return fail(error, size, path, "another agent is running with it");
    if (!open_folder(s, "keeps", &s->keeps) || !open_folder(s, "records", &s->records) || fsync(s->dir))
        return fail(error, size, path, strerror(errno));
    return true;
}

void state_close(struct state *s) {
    if (s->keeps >= 0) close(s->keeps);
    if (s->records >= 0) close(s->records);
    if (s->dir >= 0) close(s->dir);
    if (s->lock >= 0) close(s->lock);
    s->keeps = s->records = s->dir = s->lock = -1;
}

bool state_write(int dir, const char *name, const void *data, size_t size, unsigned mode) {
    char temporary[256];
    if (snprintf(temporary, sizeof temporary, "%s.new", name) >= (int)sizeof temporary) return false;
    unlinkat(dir, temporary, 0);
    int fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0) return false;
    bool ok = write(fd, data, size) == (ssize_t)size && fsync(fd) == 0;
    ok = close(fd) == 0 && ok && renameat(dir, temporary, dir, name) == 0 && fsync(dir) == 0;
    if (!ok) unlinkat(dir, temporary, 0);
    return ok;
}

char *state_read(int dir, const char *name, size_t *size) {
    struct stat st;
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return NULL;
    char *bytes = NULL;
    ssize_t n = -1;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= FILE_MOST &&
        (bytes = malloc((size_t)st.st_size + 1)))
        n = read(fd, bytes, (size_t)st.st_size);
    close(fd);
    if (n < 0) {
        free(bytes);
        return NULL;
    }
    bytes[n] = 0;
    *size = (size_t)n;
    return bytes;
}

bool state_remove(int dir, const char *name) {
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d) {
        if (fd >= 0) close(fd);
        return false;
    }
    for (struct dirent *e; (e = readdir(d));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) unlinkat(fd, e->d_name, 0);
    closedir(d);
    return unlinkat(dir, name, AT_REMOVEDIR) == 0;
}

/* ---- who the agent is ---- */

static bool add_extension(X509 *x, int nid, const char *value) {
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, x, x, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    bool ok = e && X509_add_ext(x, e, -1) == 1;
    X509_EXTENSION_free(e);
    return ok;
}

static X509 *self_signed(EVP_PKEY *key) {
    enum { SERIAL_BITS = 127, TEN_YEARS = 3650 * 24 * 3600, CLOCK_SLACK = 3600 };
    char host[65] = "", names[128];
    if (gethostname(host, sizeof host - 1) || !*host || strpbrk(host, ",:\n")) snprintf(host, sizeof host, "localhost");
    snprintf(names, sizeof names, "DNS:%s,DNS:localhost,IP:127.0.0.1,IP:::1", host);
    X509 *x = X509_new();
    BIGNUM *serial = BN_new();
    X509_NAME *name = x ? X509_get_subject_name(x) : NULL;
    bool ok = x && serial && X509_set_version(x, X509_VERSION_3) &&
              BN_rand(serial, SERIAL_BITS, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY) &&
              BN_to_ASN1_INTEGER(serial, X509_get_serialNumber(x)) &&
              X509_gmtime_adj(X509_getm_notBefore(x), -CLOCK_SLACK) &&
              X509_gmtime_adj(X509_getm_notAfter(x), TEN_YEARS) && X509_set_pubkey(x, key) &&
              X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)"Donjon agent", -1, -1, 0) &&
              X509_set_issuer_name(x, name) && add_extension(x, NID_basic_constraints, "critical,CA:FALSE") &&
              add_extension(x, NID_subject_alt_name, names) && X509_sign(x, key, EVP_sha256());
    BN_free(serial);
    if (ok) return x;
    X509_free(x);
    return NULL;
}

static bool write_pem(int dir, const char *name, BIO *bio, unsigned mode) {
    char *text;
    long n = BIO_get_mem_data(bio, &text);
    bool ok = n > 0 && state_write(dir, name, text, (size_t)n, mode);
    if (n > 0) OPENSSL_cleanse(text, (size_t)n);
    return ok;
}

static bool make_identity(struct state *s) {
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = key ? self_signed(key) : NULL;
    BIO *a = BIO_new(BIO_s_mem()), *b = BIO_new(BIO_s_mem());
    bool ok = x && a && b && PEM_write_bio_PrivateKey(a, key, NULL, NULL, 0, NULL, NULL) && PEM_write_bio_X509(b, x) &&
              write_pem(s->dir, "agent-cert.pem", b, 0644) && write_pem(s->dir, "agent-key.pem", a, 0600);
    BIO_free(a);
    BIO_free(b);
    X509_free(x);
    EVP_PKEY_free(key);
    return ok;
}

SSL_CTX *state_tls(struct state *s, char fingerprint[FINGERPRINT + 1], char *error, size_t size) {
    char key[STATE_PATH_MAX + 20], cert[STATE_PATH_MAX + 20];
    if (faccessat(s->dir, "agent-key.pem", F_OK, 0) && !make_identity(s)) {
        fail(error, size, s->path, "cannot make the agent's key and certificate");
        return NULL;
    }
    snprintf(key, sizeof key, "%s/agent-key.pem", s->path);
    snprintf(cert, sizeof cert, "%s/agent-cert.pem", s->path);
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    bool ok = ctx && SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) &&
              SSL_CTX_use_certificate_chain_file(ctx, cert) == 1 &&
              SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) == 1 && SSL_CTX_check_private_key(ctx) == 1 &&
              fingerprint_of(SSL_CTX_get0_certificate(ctx), fingerprint);
    if (!ok) {
        const char *reason = ERR_reason_error_string(ERR_peek_error());
        fail(error, size, cert, reason ? reason : "not a certificate with its key");
        SSL_CTX_free(ctx);
        return NULL;
    }
    /* A thousand idle relays keep no record buffers; one connection is one request, so there is nothing to resume. */
    SSL_CTX_set_mode(ctx,
                     SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(ctx, 0);
    return ctx;
}

char *state_signer(struct state *s, char *error, size_t size) {
    size_t n;
    char *pem = state_read(s->dir, "dev-signer.pem", &n);
    struct attest_signer *signer =
        pem ? attest_signer_load((struct attest_bytes){(uint8_t *)pem, n}) : attest_signer_new(time(NULL));
    bool made = !pem;
    if (made && signer) pem = attest_signer_export(signer);
    char *root = signer ? attest_signer_certificates(signer, true) : NULL;
    bool ok = root && pem && (!made || state_write(s->dir, "dev-signer.pem", pem, strlen(pem), 0600)) &&
              state_write(s->dir, "dev-root.pem", root, strlen(root), 0644);
    if (!ok) fail(error, size, s->path, "cannot make or read the software signer, dev-signer.pem");
    if (pem) OPENSSL_cleanse(pem, strlen(pem));
    free(pem);
    attest_signer_free(signer);
    if (ok) return root;
    free(root);
    return NULL;
}
