/* How fast evidence is appraised, next to the signatures that must be checked, in one run.
 *   bench-attest VECTORS [SECONDS-EACH]
 * Warm: the same verifier again and again, so certificate paths and collateral are verified already; what remains is
 * opening, parsing, the evidence's own signatures, the TCB evaluation and the policy. Cold: a new verifier each time,
 * with everything it needs read and verified anew. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/ec.h>
#include <openssl/evp.h>

#include <donjon/attest.h>

static double now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static struct attest_bytes load(const char *path) {
    struct attest_bytes bytes = {0};
    FILE *f = fopen(path, "rb");
    if (!f) return bytes;
    uint8_t *data = malloc(1 << 20);
    bytes = (struct attest_bytes){data, fread(data, 1, 1 << 20, f)};
    fclose(f);
    return bytes;
}

static void add_directory(struct attest_verifier *v, const char *path) {
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        char file[1200];
        const char *dot = strrchr(e->d_name, '.');
        if (!dot || (strcmp(dot, ".der") && strcmp(dot, ".pem") && strcmp(dot, ".json")) ||
            !strcmp(e->d_name, "expected.json"))
            continue;
        snprintf(file, sizeof file, "%s/%s", path, e->d_name);
        struct attest_bytes b = load(file);
        if (b.size) attest_verifier_add(v, b);
        free((void *)b.data);
    }
    if (dir) closedir(dir);
}

/* Best of several batches: what the machine can do, not what else it did. */
#define MEASURE(seconds, us, ...)                                                                                      \
    do {                                                                                                               \
        double end = now_us() + (seconds)*1e6, best = 1e18;                                                            \
        int batch = 1;                                                                                                 \
        while (now_us() < end) {                                                                                       \
            double from = now_us();                                                                                    \
            for (int i_ = 0; i_ < batch; i_++)                                                                         \
                __VA_ARGS__;                                                                                           \
            double each = (now_us() - from) / batch;                                                                   \
            if (each < best) best = each;                                                                              \
            if (each * batch < 2000) batch *= 2;                                                                       \
        }                                                                                                              \
        (us) = best;                                                                                                   \
    } while (0)

static double openssl_verify(const char *curve, const EVP_MD *md, double seconds) {
    EVP_PKEY *key = EVP_EC_gen(curve);
    uint8_t hash[48] = {1}, sig[160];
    size_t size = sizeof sig, n = (size_t)EVP_MD_get_size(md);
    EVP_PKEY_CTX *sign = EVP_PKEY_CTX_new(key, NULL), *verify = EVP_PKEY_CTX_new(key, NULL);
    if (EVP_PKEY_sign_init(sign) != 1 || EVP_PKEY_sign(sign, sig, &size, hash, n) != 1 ||
        EVP_PKEY_verify_init(verify) != 1)
        exit(1);
    double us;
    MEASURE(seconds, us, {
        if (EVP_PKEY_verify(verify, sig, size, hash, n) != 1) exit(1);
    });
    EVP_PKEY_CTX_free(sign), EVP_PKEY_CTX_free(verify), EVP_PKEY_free(key);
    return us;
}

static struct attest_result result;

static void appraise(struct attest_verifier *v, struct attest_bytes bytes, const struct attest_policy *p, int64_t at) {
    char error[200];
    struct attest_evidence *e = attest_evidence_open(bytes, error, sizeof error);
    attest_verify(v, e, p, at, &result);
    attest_evidence_free(e);
}

int main(int argc, char **argv) {
    static const struct {
        const char *name, *file, *endorsements;
        int64_t at;
        int p256, p384; /* signatures of the evidence itself */
    } cases[] = {
        {"SNP Milan v3", "snp/milan-v3-aci/report.bin", "snp/milan-v3-aci", 1769599558, 0, 1},
        {"SNP Turin v5", "snp/turin-v5-aci/report.bin", "snp/turin-v5-aci", 1772845473, 0, 1},
        {"SGX quote v3", "sgx/icx-swhardening-automata/quote.bin", "sgx/icx-swhardening-automata/collateral",
         1756512000, 2, 0},
        {"TDX quote v4", "tdx/v4-phala-2025/quote.bin", "tdx/v4-phala-2025/collateral", 1751587200, 2, 0},
        {"TDX quote v5", "tdx/v5-td15-uptodate/quote.bin", "tdx/v5-td15-uptodate/collateral", 1772668800, 2, 0},
        {"Nitro document", "nitro/dstack-2025/attestation.cbor", NULL, 1766678659, 0, 1},
    };
    if (argc < 2) {
        fprintf(stderr, "usage: bench-attest VECTORS [SECONDS-EACH]\n");
        return 2;
    }
    double seconds = argc > 2 ? atof(argv[2]) : 1;
    double p256 = openssl_verify("P-256", EVP_sha256(), seconds), p384 = openssl_verify("P-384", EVP_sha384(), seconds);
    printf("OpenSSL verification: P-256 %.1f us, P-384 %.1f us\n\n", p256, p384);
    printf("%-16s %10s %12s %8s %12s %12s\n", "evidence", "warm us", "signatures", "ratio", "per second", "cold us");
    struct attest_policy policy;
    attest_policy_genuine(&policy);
    int bad = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[1000], directory[1000];
        snprintf(path, sizeof path, "%s/%s", argv[1], cases[i].file);
        snprintf(directory, sizeof directory, "%s/%s", argv[1], cases[i].endorsements ? cases[i].endorsements : "");
        struct attest_bytes bytes = load(path);
        struct attest_verifier *v = attest_verifier_new();
        if (cases[i].endorsements) add_directory(v, directory);
        if (bytes.size) appraise(v, bytes, &policy, cases[i].at);
        if (!bytes.size || !result.accepted) {
            printf("%-16s not accepted\n", cases[i].name);
            bad = 1;
            continue;
        }
        double warm, cold, sum = cases[i].p256 * p256 + cases[i].p384 * p384;
        MEASURE(seconds, warm, { appraise(v, bytes, &policy, cases[i].at); });
        MEASURE(seconds / 2, cold, {
            struct attest_verifier *fresh = attest_verifier_new();
            if (cases[i].endorsements) add_directory(fresh, directory);
            appraise(fresh, bytes, &policy, cases[i].at);
            attest_verifier_free(fresh);
        });
        printf("%-16s %10.1f %12.1f %8.2f %12.0f %12.0f\n", cases[i].name, warm, sum, warm / sum, 1e6 / warm, cold);
        attest_verifier_free(v);
        free((void *)bytes.data);
    }
    attest_policy_free(&policy);
    return bad;
}
