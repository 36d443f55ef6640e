/* Peers of a keep, appraised by a policy of its configuration. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "warden/identity.h"
#include "warden/peer.h"

static const int64_t now = 1790000000;
static const uint8_t workload[32] = {0xab, 0xcd};

static struct {
    struct attest_signer *signer, *other;
    struct config config;
    struct identity id;
    char root[4096], other_root[4096]; /* lines of a policy */
    uint8_t report[ATTEST_SNP_REPORT];
    char *chain;
    const uint8_t *instead; /* report data to be signed instead of what is asked */
    bool none, bare;
} t;

static bool evidence(void *ctx, const uint8_t report_data[64], struct attest_bytes *found, struct attest_bytes *more) {
    struct attest_signer_claims claims = {.measurement = {1, 2, 3}};
    (void)ctx;
    if (t.none) return false;
    memcpy(claims.report_data, t.instead ? t.instead : report_data, 64);
    assert_true(attest_signer_report(t.signer, &claims, t.report));
    *found = (struct attest_bytes){t.report, sizeof t.report};
    *more = (struct attest_bytes){(uint8_t *)t.chain, t.bare ? 0 : strlen(t.chain)};
    return true;
}

static const struct identity_host host = {.evidence = evidence};

/* "development-root=BASE64\n" */
static void root_line(const struct attest_signer *s, char *out, size_t size) {
    char *pem = attest_signer_certificates(s, true), *at = strchr(pem, '\n') + 1, *end = strstr(pem, "-----END");
    size_t n = (size_t)snprintf(out, size, "development-root=");
    for (; at < end; at++)
        if (*at != '\n') out[n++] = *at;
    memcpy(out + n, "\n", 2);
    free(pem);
}

static int set_up(void **state) {
    (void)state;
    t.signer = attest_signer_new(now - 60);
    t.other = attest_signer_new(now - 60);
    t.chain = attest_signer_certificates(t.signer, false);
    root_line(t.signer, t.root, sizeof t.root);
    root_line(t.other, t.other_root, sizeof t.other_root);
    return config_init(&t.config) ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    attest_signer_free(t.signer);
    attest_signer_free(t.other);
    free(t.chain);
    config_free(&t.config);
    identity_free(&t.id);
    return 0;
}

static void make(void) {
    char error[300];
    struct identity_making m = {0};
    if (identity_begin(&m, &t.config, workload, &host, now, error, sizeof error) != IDENTITY_READY)
        fail_msg("%s", error);
    identity_free(&t.id);
    t.id = m.id;
}

/* NULL: accepted; else the reason. */
static const char *judge_at(const char *policy, const char *root, int64_t at) {
    static char lines[8192], reason[300];
    char error[300];
    snprintf(lines, sizeof lines, "%s%s", policy, root);
    struct peer_policy *p = peer_policy_new(lines, error, sizeof error);
    if (!p) fail_msg("%s", error);
    bool ok = peer_policy_accepts(p, t.id.certificate, at, reason, sizeof reason);
    peer_policy_free(p);
    return ok ? NULL : reason;
}

static void accepted(const char *policy) {
    const char *why = judge_at(policy, t.root, now);
    if (why) fail_msg("%s: %s", policy, why);
}

static void refused(const char *policy, const char *root, int64_t at, const char *reason) {
    const char *why = judge_at(policy, root, at);
    if (!why) fail_msg("accepted: %s", policy);
    if (!strstr(why, reason)) fail_msg("%s: %s; expected %s", policy, why, reason);
}

#define SOFT "allow_software=true\n"

static void test_policies(void **state) {
    (void)state;
    make();
    accepted(SOFT);
    accepted(SOFT "tees=snp\ntees=software\n");
    char right[200] = SOFT "workloads=", wrong[200] = SOFT "workloads=";
    for (int i = 0; i < 32; i++) {
        snprintf(right + strlen(right), 3, "%02x", workload[i]);
        snprintf(wrong + strlen(wrong), 3, "%02x", workload[i] ^ (i == 31));
    }
    strcat(right, "\n");
    strcat(wrong, "\n");
    accepted(right);
    refused(wrong, t.root, now, "another workload");
    char measurement[200] = SOFT "snp.measurements=010203";
    for (int i = 3; i < 48; i++)
        strcat(measurement, i < 47 ? "00" : "00\n");
    accepted(measurement);
    measurement[sizeof SOFT "snp.measurements=" - 1] = '1';
    refused(measurement, t.root, now, "measurement");
    refused("name=strict\n", t.root, now, "not accepted");
    refused(SOFT, "", now, "not accepted");
    refused(SOFT, t.other_root, now, "not accepted");
    refused(SOFT "tees=tdx\n", t.root, now, "not accepted");
    refused(SOFT, t.root, now + 13 * 3600, "expired");
    refused(SOFT, t.root, now - 3600, "not yet valid");
}

/* Evidence that is not for this key. */
static void test_stolen(void **state) {
    (void)state;
    static const uint8_t zeros[64];
    uint8_t key_only[64] = {0}, *spki = NULL;
    make();
    t.instead = zeros;
    make();
    refused(SOFT, t.root, now, "report");
    int n = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(t.id.certificate), &spki);
    EVP_Digest(spki, (size_t)n, key_only, NULL, EVP_sha256(), NULL);
    OPENSSL_free(spki);
    t.instead = key_only; /* of the key before: make() has a new one, and a key alone would not do either */
    make();
    refused(SOFT, t.root, now, "report");
    t.instead = NULL;
    t.none = true;
    make();
    refused(SOFT, t.root, now, "no evidence");
    t.none = false;
    t.bare = true;
    make();
    refused(SOFT, t.root, now, "not accepted");
    t.bare = false;
}

static void test_bad_policies(void **state) {
    (void)state;
    static const char *const bad[] = {
        "x",   "nonsense=1\n",  "allow_software=maybe\n", "development-root=???\n", "development-root=\n",
        "=\n", "workloads=12\n"};
    char error[300];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        error[0] = 0;
        if (peer_policy_new(bad[i], error, sizeof error)) fail_msg("taken: %s", bad[i]);
        assert_true(error[0]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_policies), cmocka_unit_test(test_stolen),
                                       cmocka_unit_test(test_bad_policies)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
