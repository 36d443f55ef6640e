/* How many certificates and tokens a steward makes in a second on one core, next to OpenSSL's own signatures in the
 * same run, taking turns. bench-steward [ROUNDS] A certificate costs two P-256 verifications (the request's signature;
 * its key is a point of the curve, which OpenSSL checks by a multiplication), one P-384 verification (the evidence; the
 * chip's certificates are known by then) and one P-256 signature; a token one P-384 verification and one P-256
 * signature. What is above that is reading, judging, writing and recording. CPU time: the best of all rounds. The audit
 * log is in TMPDIR (/tmp): what flushing it to the disk takes comes on top, and is measured by the clock. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../tests/steward/support.h"

enum { BATCH = 64 };

static double seconds(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

struct measure {
    const char *name;
    double best, wall;
    double cpu_from, wall_from;
};

static void begin(struct measure *m) {
    m->wall_from = seconds(CLOCK_MONOTONIC);
    m->cpu_from = seconds(CLOCK_PROCESS_CPUTIME_ID);
}

static void end(struct measure *m) {
    double cpu = (seconds(CLOCK_PROCESS_CPUTIME_ID) - m->cpu_from) / BATCH,
           wall = (seconds(CLOCK_MONOTONIC) - m->wall_from) / BATCH;
    if (m->best == 0 || cpu < m->best) m->best = cpu;
    if (m->wall == 0 || wall < m->wall) m->wall = wall;
}

/* One key's signature made, or checked, BATCH times. */
struct ecdsa {
    EVP_PKEY_CTX *sign, *verify;
    uint8_t hash[48], sig[160];
    size_t hash_size, sig_size;
};

static void ecdsa_make(struct ecdsa *e, const char *curve, size_t hash_size) {
    EVP_PKEY *key = EVP_EC_gen(curve);
    *e = (struct ecdsa){.hash = {1}, .hash_size = hash_size, .sig_size = sizeof e->sig};
    e->sign = EVP_PKEY_CTX_new(key, NULL);
    e->verify = EVP_PKEY_CTX_new(key, NULL);
    if (EVP_PKEY_sign_init(e->sign) != 1 || EVP_PKEY_sign(e->sign, e->sig, &e->sig_size, e->hash, hash_size) != 1 ||
        EVP_PKEY_verify_init(e->verify) != 1)
        exit(1);
    EVP_PKEY_free(key);
}

static void ecdsa_sign(struct ecdsa *e, struct measure *m) {
    uint8_t sig[160];
    begin(m);
    for (int i = 0; i < BATCH; i++) {
        size_t size = sizeof sig;
        if (EVP_PKEY_sign(e->sign, sig, &size, e->hash, e->hash_size) != 1) exit(1);
    }
    end(m);
}

static void ecdsa_verify(struct ecdsa *e, struct measure *m) {
    begin(m);
    for (int i = 0; i < BATCH; i++)
        if (EVP_PKEY_verify(e->verify, e->sig, e->sig_size, e->hash, e->hash_size) != 1) exit(1);
    end(m);
}

static struct steward *steward;
static struct test_keep keep;

static void certify(struct measure *m) {
    static struct steward_decision d;
    struct attest_bytes requests[BATCH];
    for (int i = 0; i < BATCH; i++) {
        uint8_t nonce[STEWARD_NONCE];
        if (!steward_nonce_make(&steward->nonces, TEST_NOW, nonce)) exit(1);
        requests[i] = test_keep_request(&keep, (struct attest_bytes){nonce, sizeof nonce}, "a.example");
    }
    begin(m);
    for (int i = 0; i < BATCH; i++) {
        steward_certify(steward, requests[i], "bench", TEST_NOW, &d);
        if (d.outcome != STEWARD_ISSUED) exit(1);
        steward_decision_free(&d);
    }
    end(m);
    for (int i = 0; i < BATCH; i++)
        free((void *)requests[i].data);
}

static void appraise(struct measure *m) {
    static struct steward_decision d;
    static const uint8_t nonce[32] = {1};
    struct attest_bytes answered = {nonce, sizeof nonce}, none = {0};
    struct attest_bytes request = test_keep_request(&keep, answered, "a.example");
    begin(m);
    for (int i = 0; i < BATCH; i++) {
        size_t size;
        char *token = steward_appraise(steward, request, NULL, none, answered, false, &size, "bench", TEST_NOW, &d);
        if (!token) exit(1);
        free(token);
    }
    end(m);
    free((void *)request.data);
}

static void print(const struct measure *m, double floor) {
    printf("%-22s %9.1f %11.0f", m->name, m->best * 1e6, 1 / m->best);
    if (floor > 0) printf(" %11.1f %7.2f %11.0f", floor * 1e6, m->best / floor, 1 / m->wall);
    putchar('\n');
}

int main(int argc, char **argv) {
    struct measure sign = {.name = "P-256 signature"}, verify = {.name = "P-256 verification"},
                   verify384 = {.name = "P-384 verification"}, issue = {.name = "certificate"},
                   token = {.name = "token (EAR, JWT)"};
    struct ecdsa p256, p384;
    struct steward_settings settings;
    char directory[64];
    int rounds = argc > 1 ? atoi(argv[1]) : 20;
    ecdsa_make(&p256, "P-256", 32);
    ecdsa_make(&p384, "P-384", 48);
    test_keep_make(&keep, TEST_NOW);
    test_directory_make(&keep, directory);
    steward = test_steward_open(directory, &settings, "workloads = [\"any\"]\n", TEST_NOW);
    if (!steward) return 1;
    for (int i = 0; i < rounds; i++) {
        ecdsa_sign(&p256, &sign);
        ecdsa_verify(&p256, &verify);
        ecdsa_verify(&p384, &verify384);
        certify(&issue);
        appraise(&token);
    }
    printf("%-22s %9s %11s %11s %7s %11s\n", "", "us", "per second", "signatures", "ratio", "with disk/s");
    print(&sign, 0);
    print(&verify, 0);
    print(&verify384, 0);
    print(&issue, 2 * verify.best + verify384.best + sign.best);
    print(&token, verify384.best + sign.best);
    steward_close(steward);
    steward_settings_free(&settings);
    test_directory_free(directory);
    test_keep_free(&keep);
    return 0;
}
