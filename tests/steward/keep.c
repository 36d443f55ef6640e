/* A keep's side of a steward, for scripts.
 *
 *   steward-keep init DIR                      a signer, a key; dev-root.pem, policy.toml (its measurement)
 *   steward-keep request DIR NONCE NAME [HOW]  a PKCS#10 request in DER on standard output
 *
 * HOW makes it rogue: ca, key (another one), name-none, workload, measurement, signature. */
#include <sys/stat.h>

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "cli/cli.h"
#include "support.h"

static void put(const char *dir, const char *name, const char *text) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    if (!f || fputs(text, f) == EOF || fclose(f)) exit(2);
    chmod(path, 0600);
}

static int init(const char *dir) {
    struct test_keep k;
    char policy[400], hex[97];
    test_keep_make(&k, time(NULL));
    char *signer = attest_signer_export(k.signer), *root = attest_signer_certificates(k.signer, true);
    put(dir, "signer.pem", signer);
    put(dir, "dev-root.pem", root);
    steward_hex(k.measurement, 48, hex);
    snprintf(policy, sizeof policy,
             "name = \"test\"\ntees = [\"software\"]\nallow_software = true\n[snp]\nmeasurements = [\"%s\"]\n", hex);
    put(dir, "policy.toml", policy);
    free(signer), free(root);
    test_keep_free(&k);
    return 0;
}

static int request(const char *dir, const char *nonce_hex, const char *name, const char *how) {
    struct test_keep k;
    char path[512], *pem;
    uint8_t nonce[64];
    size_t size, nonce_size;
    test_keep_make(&k, time(NULL));
    attest_signer_free(k.signer);
    free(k.chain);
    snprintf(path, sizeof path, "%s/signer.pem", dir);
    if (!cli_read_file(path, 1 << 20, &pem, &size) ||
        OPENSSL_hexstr2buf_ex(nonce, sizeof nonce, &nonce_size, nonce_hex, '\0') != 1)
        return 2;
    k.signer = attest_signer_load((struct attest_bytes){(uint8_t *)pem, size});
    k.chain = attest_signer_certificates(k.signer, false);
    free(pem);
    if (!strcmp(how, "measurement")) k.measurement[0] ^= 1;
    STACK_OF(X509_EXTENSION) *list =
        test_keep_extensions(&k, (struct attest_bytes){nonce, nonce_size}, &name, strcmp(how, "name-none") != 0);
    if (!strcmp(how, "ca"))
        sk_X509_EXTENSION_push(list, X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, "critical,CA:TRUE"));
    if (!strcmp(how, "workload")) {
        k.workload[0] ^= 1;
        X509_EXTENSION_free(sk_X509_EXTENSION_delete(list, 1));
        attest_identity_add(list, ATTEST_OID_WORKLOAD, V_ASN1_OCTET_STRING, (struct attest_bytes){k.workload, 32});
    }
    EVP_PKEY *other = !strcmp(how, "key") ? EVP_EC_gen("P-256") : NULL;
    struct attest_bytes der = test_request(other ? other : k.key, list);
    if (!strcmp(how, "signature")) ((uint8_t *)der.data)[der.size - 1] ^= 1;
    bool ok = fwrite(der.data, 1, der.size, stdout) == der.size && !fflush(stdout);
    free((void *)der.data);
    EVP_PKEY_free(other);
    test_keep_free(&k);
    return ok ? 0 : 2;
}

int main(int argc, char **argv) {
    if (argc == 3 && !strcmp(argv[1], "init")) return init(argv[2]);
    if ((argc == 5 || argc == 6) && !strcmp(argv[1], "request"))
        return request(argv[2], argv[3], argv[4], argc == 6 ? argv[5] : "");
    fputs("usage: steward-keep init DIR | request DIR NONCE NAME [HOW]\n", stderr);
    return 2;
}
