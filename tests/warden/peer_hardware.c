/* Peers with evidence of hardware. No keep made this evidence, so none of it is over a certificate of ours: it must be
 * refused, and for that reason alone when the peer has brought what its vendor says; for the right reason when it has
 * not, or when something is wrong. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "warden/identity.h"
#include "warden/peer.h"

enum { ROOM = 1 << 20, ELEMENTS = 16 };
static const uint8_t workload[32] = {0xab, 0xcd};

static struct {
    uint8_t evidence[64 << 10], endorsements[ROOM];
    struct attest_bytes quote, collateral;
} t;

static const char *vectors(void) {
    const char *shared = getenv("DONJON_SHARED");
    static char path[3000];
    snprintf(path, sizeof path, "%s/vectors", shared ? shared : "../shared");
    return path;
}

static size_t load(const char *path, uint8_t *out, size_t room) {
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(out, 1, room, f) : 0;
    if (f) fclose(f);
    if (!n) fail_msg("%s", path);
    return n;
}

static uint8_t *put32(uint8_t *at, size_t n) {
    for (int i = 0; i < 4; i++)
        *at++ = (uint8_t)(n >> 8 * i);
    return at;
}

/* Intel's statements in one piece, as Open Enclave brings them: version 1, type 2, size, count, offsets, elements. */
static size_t put_collateral(const char *directory, const char *leave_out) {
    static uint8_t elements[ELEMENTS][200 << 10];
    size_t sizes[ELEMENTS], count = 0, total = 0;
    DIR *dir = opendir(directory);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));) {
        char path[4096];
        const char *dot = strrchr(e->d_name, '.');
        bool wanted = dot && (!strcmp(dot, ".json") || !strcmp(dot, ".pem") || !strcmp(dot, ".der"));
        if (!wanted || (leave_out && strstr(e->d_name, leave_out))) continue;
        assert_true(count < ELEMENTS);
        snprintf(path, sizeof path, "%s/%s", directory, e->d_name);
        sizes[count] = load(path, elements[count], sizeof elements[0]);
        total += sizes[count++];
    }
    closedir(dir);
    uint8_t *at = t.endorsements;
    at = put32(at, 1);
    at = put32(at, 2);
    at = put32(at, 4 * count + total);
    at = put32(at, count);
    size_t offset = 0;
    for (size_t i = 0; i < count; i++) {
        at = put32(at, offset);
        offset += sizes[i];
    }
    for (size_t i = 0; i < count; i++) {
        memcpy(at, elements[i], sizes[i]);
        at += sizes[i];
    }
    return (size_t)(at - t.endorsements);
}

static bool evidence(void *ctx, const uint8_t report_data[64], struct attest_bytes *found, struct attest_bytes *more) {
    (void)ctx, (void)report_data;
    *found = t.quote;
    *more = t.collateral;
    return true;
}
static const struct identity_host host = {.evidence = evidence};

static void refused(const char *policy, int64_t at, const char *expected) {
    struct config c;
    struct identity_making m = {0};
    char error[300], reason[300] = "accepted";
    assert_true(config_init(&c));
    assert_int_equal(identity_begin(&m, &c, workload, &host, at, error, sizeof error), IDENTITY_READY);
    struct peer_policy *p = peer_policy_new(policy, error, sizeof error);
    if (!p) fail_msg("%s", error);
    bool ok = peer_policy_accepts(p, m.id.certificate, at, reason, sizeof reason);
    if (ok || !strstr(reason, expected)) fail_msg("%s; expected %s", reason, expected);
    peer_policy_free(p);
    identity_free(&m.id);
    config_free(&c);
}

static void load_case(const char *file, const char *collateral, const char *leave_out) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", vectors(), file);
    t.quote = (struct attest_bytes){t.evidence, load(path, t.evidence, sizeof t.evidence)};
    t.collateral = (struct attest_bytes){0};
    if (!collateral) return;
    snprintf(path, sizeof path, "%s/%s", vectors(), collateral);
    t.collateral = (struct attest_bytes){t.endorsements, put_collateral(path, leave_out)};
}

#define STATUSES  "intel.tcb_statuses=UpToDate\nintel.tcb_statuses=SWHardeningNeeded\n"
#define OTHER_TEE "tees=snp\n" STATUSES

static const struct {
    const char *name, *file, *collateral;
    int64_t at;
    const char *policy;
} intel[] = {
    {"TDX", "tdx/v4-phala-2025/quote.bin", "tdx/v4-phala-2025/collateral", 1751587200, "tees=tdx\n"},
    {"TDX 1.5", "tdx/v5-td15-uptodate/quote.bin", "tdx/v5-td15-uptodate/collateral", 1772668800, "tees=tdx\n"},
    {"SGX", "sgx/icx-swhardening-automata/quote.bin", "sgx/icx-swhardening-automata/collateral", 1756512000,
     "tees=sgx\n" STATUSES},
};

static void test_intel(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof intel / sizeof *intel; i++) {
        print_message("%s\n", intel[i].name);
        /* Whole: but it is not over this key, workload and nothing else. */
        load_case(intel[i].file, intel[i].collateral, NULL);
        refused(intel[i].policy, intel[i].at, "policy.report_data");
        refused(OTHER_TEE, intel[i].at, "policy.tee");
        /* Nothing is fetched for the peer. */
        load_case(intel[i].file, NULL, NULL);
        refused(intel[i].policy, intel[i].at, "chain.crl");
        load_case(intel[i].file, intel[i].collateral, "tcb_info");
        refused(intel[i].policy, intel[i].at, "intel.tcb_info");
        /* Old collateral, later. */
        load_case(intel[i].file, intel[i].collateral, NULL);
        refused(intel[i].policy, intel[i].at + 5 * 365 * 86400LL, "(chain.");
        /* Somebody has worked on it. */
        t.evidence[200] ^= 1;
        refused(intel[i].policy, intel[i].at, "quote.signature");
    }
}

static void test_amd(void **state) {
    (void)state;
    const int64_t at = 1769599558;
    char path[4096];
    load_case("snp/milan-v3-aci/report.bin", NULL, NULL);
    refused("tees=snp\n", at, "chain.endorsement");
    snprintf(path, sizeof path, "%s/snp/milan-v3-aci", vectors());
    t.collateral = (struct attest_bytes){t.endorsements, put_collateral(path, "expected")};
    refused("tees=snp\n", at, "policy.report_data");
    t.evidence[0x90] ^= 1; /* measurement */
    refused("tees=snp\n", at, "snp.signature");
}

int main(void) {
    if (access(vectors(), R_OK) != 0) {
        fprintf(stderr, "no vectors at %s\n", vectors());
        return 77;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_intel), cmocka_unit_test(test_amd)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
