#include "support.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/pem.h>

void test_keep_make(struct test_keep *k, int64_t at) {
    memset(k, 0, sizeof *k);
    k->signer = attest_signer_new(at - 3600);
    k->key = EVP_EC_gen("P-256");
    k->chain = attest_signer_certificates(k->signer, false);
    memset(k->workload, 0x77, sizeof k->workload);
    memset(k->measurement, 0x11, sizeof k->measurement);
}

void test_keep_free(struct test_keep *k) {
    attest_signer_free(k->signer);
    EVP_PKEY_free(k->key);
    free(k->chain);
}

void test_keep_report(const struct test_keep *k, EVP_PKEY *key, const uint8_t workload[32], struct attest_bytes nonce,
                      uint8_t report[ATTEST_SNP_REPORT]) {
    struct attest_signer_claims claims = {0};
    uint8_t *spki = NULL;
    int size = i2d_PUBKEY(key, &spki);
    memcpy(claims.measurement, k->measurement, sizeof claims.measurement);
    attest_identity_report_data((struct attest_bytes){spki, (size_t)size}, workload, nonce, claims.report_data);
    attest_signer_report(k->signer, &claims, report);
    OPENSSL_free(spki);
}

STACK_OF(X509_EXTENSION) *
    test_keep_extensions(const struct test_keep *k, struct attest_bytes nonce, const char *const *names, size_t count) {
    STACK_OF(X509_EXTENSION) *list = sk_X509_EXTENSION_new_null();
    uint8_t report[ATTEST_SNP_REPORT];
    test_keep_report(k, k->key, k->workload, nonce, report);
    attest_identity_extensions(list, (struct attest_bytes){report, sizeof report},
                               (struct attest_bytes){(uint8_t *)k->chain, strlen(k->chain)}, k->workload, nonce);
    if (count) attest_identity_add_names(list, names, count, true);
    return list;
}

struct attest_bytes test_request(EVP_PKEY *key, STACK_OF(X509_EXTENSION) * list) {
    X509_REQ *request = attest_identity_request(key, list);
    uint8_t *der = NULL;
    int size = request ? i2d_X509_REQ(request, &der) : 0;
    struct attest_bytes out = {malloc((size_t)size + 1), (size_t)size};
    memcpy((void *)out.data, der, out.size);
    OPENSSL_free(der);
    X509_REQ_free(request);
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
    return out;
}

struct attest_bytes test_keep_request(const struct test_keep *k, struct attest_bytes nonce, const char *name) {
    return test_request(k->key, test_keep_extensions(k, nonce, &name, 1));
}

static void write_file(const char *directory, const char *name, const char *text) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *f = fopen(path, "w");
    fputs(text, f);
    fclose(f);
    chmod(path, 0600);
}

void test_directory_make(const struct test_keep *k, char path[64]) {
    const char *tmp = getenv("TMPDIR");
    snprintf(path, 64, "%.40s/steward-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(path)) abort();
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *ca = steward_authority_make(key, "Test steward", TEST_NOW - 1000000, 100 * 365 * 86400LL);
    char *pem = steward_pem(ca, NULL), *root = attest_signer_certificates(k->signer, true), *data, policy[400], hex[97];
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);
    BIO_write(bio, "", 1);
    BIO_get_mem_data(bio, &data);
    write_file(path, "ca.pem", pem);
    write_file(path, "ca-key.pem", data);
    write_file(path, "dev-root.pem", root);
    steward_hex(k->measurement, 48, hex);
    snprintf(policy, sizeof policy,
             "name = \"test\"\ntees = [\"software\"]\nallow_software = true\n[snp]\nmeasurements = [\"%s\"]\n", hex);
    write_file(path, "policy.toml", policy);
    BIO_free(bio);
    free(pem), free(root);
    X509_free(ca);
    EVP_PKEY_free(key);
}

void test_directory_free(const char *path) {
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));)
        if (e->d_name[0] != '.') unlinkat(dirfd(dir), e->d_name, 0);
    if (dir) closedir(dir);
    rmdir(path);
}

struct steward *test_steward_open(const char *directory, struct steward_settings *settings, const char *extra,
                                  int64_t now) {
    char text[2000], error[SETTINGS_ERROR] = "";
    snprintf(text, sizeof text,
             "audit = \"audit.jsonl\"\n[authority]\ncertificate = \"ca.pem\"\nkey = \"ca-key.pem\"\n"
             "[evidence]\ndevelopment-root = \"dev-root.pem\"\n[[issue]]\nname = \"test\"\npolicy = \"policy.toml\"\n"
             "names = [\"a.example\", \"*.keep.example\", \"127.0.0.1\"]\n%s",
             extra);
    struct steward *s = steward_settings_read(settings, text, strlen(text), directory, error)
                            ? steward_open(settings, now, error)
                            : NULL;
    if (!s) fprintf(stderr, "test_steward_open: %s\n", error);
    return s;
}
