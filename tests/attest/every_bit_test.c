/* Every bit of every signed byte: none may be changed. Slow; the quick tests sample. */
#include "support.h"

static struct attest_result result;
static size_t flips;
static const char *only = ""; /* argument: cases whose name begins so */

static void flip_range(struct attest_verifier *v, struct attest_bytes bytes, size_t from, size_t to, unsigned bits,
                       int64_t at, const char *dir) {
    struct attest_policy lenient;
    attest_policy_genuine(&lenient);
    lenient.intel.tcb_statuses = ~0u;
    lenient.allow_debug = true;
    for (size_t i = from; i < to; i++)
        for (unsigned b = 0; b < bits; b++) {
            uint8_t mask = (uint8_t)(1u << (bits == 8 ? b : i % 8));
            ((uint8_t *)bytes.data)[i] ^= mask;
            appraise(v, bytes, &lenient, at, &result);
            if (result.genuine || result.accepted) fail_msg("%s: accepted with bit %u of byte %zu changed", dir, b, i);
            ((uint8_t *)bytes.data)[i] ^= mask;
            flips++;
        }
    attest_policy_free(&lenient);
}

static const char *string_of(const json_t *o, const char *key) {
    return json_string_value(json_object_get(o, key));
}

static void one_case(const char *dir) {
    json_t *expected = load_json(vector_path("%s/expected.json", dir)),
           *collateral = json_array_get(json_object_get(expected, "collateral"), 0);
    if (json_is_true(json_object_get(expected, "test_pki"))) return json_decref(expected);
    const char *time = string_of(collateral ? collateral : expected, "verify_time"),
               *sub = string_of(collateral, "dir");
    int64_t at = parse_time(time);
    struct attest_verifier *v = verifier_with(sub ? vector_path("%s/%s", dir, sub) : vector_path("%s", dir));
    if (!strncmp(dir, "snp/", 4)) {
        struct attest_bytes b = load(vector_path("%s/report.bin", dir));
        flip_range(v, b, 0, b.size, 8, at, dir); /* the unsigned tail must be zero, the signature right */
        free((void *)b.data);
    } else if (!strncmp(dir, "nitro/", 6)) {
        struct attest_bytes b = load(vector_path("%s/attestation.cbor", dir));
        flip_range(v, b, 0, b.size, 1, at, dir);
        free((void *)b.data);
    } else if (collateral) {
        struct attest_bytes b = load(vector_path("%s/quote.bin", dir));
        /* Header, bodies, signatures, QE report, and the fields up to the certificates; PEM has spellings that mean the
         * same. */
        const uint8_t *pem = memmem(b.data, b.size, "-----BEGIN", 10);
        flip_range(v, b, 0, pem ? (size_t)(pem - b.data) : b.size, 8, at, dir);
        free((void *)b.data);
    }
    attest_verifier_free(v);
    json_decref(expected);
}

static void test_every_bit(void **state) {
    (void)state;
    json_t *manifest = load_json(vector_path("manifest.json")), *entry;
    size_t i;
    json_array_foreach(manifest, i, entry) {
        const char *dir = string_of(entry, "dir");
        size_t before = flips;
        if (strncmp(dir, only, strlen(only)) != 0) continue;
        if (!strncmp(dir, "snp/", 4) || !strncmp(dir, "sgx/", 4) || !strncmp(dir, "tdx/", 4) ||
            !strncmp(dir, "nitro/", 6))
            one_case(dir);
        if (flips > before) printf("%s: %zu bits\n", dir, flips - before);
    }
    printf("%zu changed bits, all rejected\n", flips);
    json_decref(manifest);
}

int main(int argc, char **argv) {
    need_vectors();
    if (argc > 1) only = argv[1];
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_bit)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
