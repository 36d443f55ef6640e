/* Genuine evidence against policies: every branch refuses what it should, and says so under its own rule alone. */
#include "support.h"

static struct attest_result result;

struct branch {
    const char *policy; /* TOML; refuses with */
    const char *rule;   /* null: accepts */
};

static void run(const char *what, struct attest_verifier *v, const char *file, int64_t at, const char *base,
                const struct branch *branches, size_t count) {
    for (size_t i = 0; i < count; i++) {
        char text[4000], error[300];
        struct attest_policy p;
        /* Top-level keys first, whatever the branch is about. */
        snprintf(text, sizeof text, "%s\n%s\n", branches[i].policy, base);
        if (!attest_policy_read(&p, text, strlen(text), error, sizeof error))
            fail_msg("%s: %s: %s", what, branches[i].policy, error);
        appraise_file(v, file, &p, at, &result);
        bool ok = branches[i].rule ? result.genuine && !result.accepted && failed_rule(&result, branches[i].rule) &&
                                         !strcmp(reason_name(&result), branches[i].rule)
                                   : result.accepted;
        if (!ok) {
            show(branches[i].policy, &result);
            fail_msg("%s: %s", what, branches[i].policy);
        }
        attest_policy_free(&p);
    }
    if (*what) printf("%s: %zu policies\n", what, count);
}
#define RUN(what, v, file, at, base, branches)                                                                         \
    run(what, v, file, at, base, branches, sizeof(branches) / sizeof *(branches))

#define MEASUREMENT "5feee30d6d7e1a29f403d70a4198237ddfb13051a2d6976439487c609388ed7f98189887920ab2fa0096903a0c23fca1"
#define HOST_DATA   "4f4448c67f3c8dfc8de8a5e37125d807dadcc41f06cf23f615dbd52eec777d10"
#define ZEROS_32    "00000000000000000000000000000000"
#define ZEROS_64    ZEROS_32 ZEROS_32
#define ZEROS_96    ZEROS_64 ZEROS_32
#define ZEROS_128   ZEROS_64 ZEROS_64

static void test_snp(void **state) {
    (void)state;
    static const struct branch branches[] = {
        {"snp.measurements = [\"" MEASUREMENT "\"]", NULL},
        {"snp.measurements = [\"" ZEROS_96 "\", \"" MEASUREMENT "\"]", NULL},
        {"snp.measurements = [\"" ZEROS_96 "\"]", "policy.measurement"},
        {"snp.measurements = "
         "[\"5feee30d6d7e1a29f403d70a4198237ddfb13051a2d6976439487c609388ed7f98189887920ab2fa0096903a0c23fca0\"]",
         "policy.measurement"}, /* off by one bit */
        {"snp.id_keys = [\"" ZEROS_96 "\"]", "policy.signer"},
        {"snp.require_author_key = true", "snp.author_key"},
        {"snp.author_keys = [\"" ZEROS_96 "\"]", "snp.author_key"},
        {"snp.family_ids = [\"" ZEROS_32 "\"]", "snp.family_id"},
        {"snp.family_ids = [\"01000000000000000000000000000000\"]", NULL},
        {"snp.image_ids = [\"" ZEROS_32 "\"]", "snp.image_id"},
        {"snp.host_data = [\"" ZEROS_64 "\"]", "snp.host_data"},
        {"snp.host_data = [\"" HOST_DATA "\"]", NULL},
        {"workloads = [\"" HOST_DATA "\"]", NULL},
        {"workloads = [\"" ZEROS_64 "\"]", "policy.workload"},
        {"report_data = [\"" ZEROS_128 "\"]", NULL},
        {"report_data = [\"" ZEROS_64 ZEROS_32 "00000000000000000000000000000001\"]", "policy.report_data"},
        {"nonce = \"01\"", "policy.nonce"},
        {"nonce = \"00\"", NULL},
        {"tees = [\"sgx\", \"tdx\"]", "policy.tee"},
        {"tees = [\"sgx\", \"snp\"]", NULL},
        {"valid_until = \"2020-01-01T00:00:00Z\"", "policy.window"},
        {"valid_from = \"2030-01-01T00:00:00Z\"", "policy.window"},
        {"valid_from = \"2020-01-01T00:00:00Z\"\nvalid_until = \"2030-01-01T00:00:00Z\"", NULL},
        {"snp.products = [\"Genoa\"]", "snp.products"},
        {"snp.products = [\"Genoa\", \"Milan\"]", NULL},
        {"snp.vmpl = [1, 2]", "snp.vmpl"},
        {"snp.vmpl = 0", NULL},
        {"snp.allow_smt = false", "snp.smt"},
        {"snp.require_single_socket = true", "snp.single_socket"},
        {"snp.minimum_abi = \"1.56\"", "snp.abi"},
        {"snp.minimum_abi = \"1.55\"", NULL},
        {"snp.minimum_guest_svn = 3", "snp.guest_svn"},
        {"snp.minimum_guest_svn = 2", NULL},
        {"snp.chips = [\"" ZEROS_128 "\"]", "snp.chips"},
        {"snp.require_platform_info = 0x2", "snp.platform_info"}, /* TSME */
        {"snp.require_platform_info = 0x24", NULL},               /* ECC, alias check */
        {"snp.require_mitigations = 1", "snp.mitigations"},
        {"snp.require_crl = true", "chain.crl"},
        /* One component above, the others far below: not a comparison of integers. */
        {"snp.minimum_tcb.Milan = { bootloader = 5 }", "snp.minimum_tcb"},
        {"snp.minimum_tcb.Milan = { tee = 1 }", "snp.minimum_tcb"},
        {"snp.minimum_tcb.Milan = { snp = 25 }", "snp.minimum_tcb"},
        {"snp.minimum_tcb.Milan = { microcode = 220 }", "snp.minimum_tcb"},
        {"snp.minimum_tcb.Milan = { bootloader = 4, tee = 0, snp = 24, microcode = 219 }", NULL},
        {"snp.minimum_tcb.Genoa = { bootloader = 200 }", NULL},
    };
    struct attest_verifier *v = verifier_with(vector_path("snp/milan-v3-aci"));
    int64_t at = parse_time("2026-01-28T11:25:58Z");
    for (size_t i = 0; i < sizeof branches / sizeof *branches; i++) {
        bool crl = branches[i].rule && !strcmp(branches[i].rule, "chain.crl"); /* about genuineness, not identity */
        if (crl) {
            struct attest_policy p;
            char error[200];
            attest_policy_strict(&p);
            assert_true(attest_policy_set(&p, "snp.require_crl", "true", 4, error, sizeof error));
            appraise_file(v, vector_path("snp/milan-v3-aci/report.bin"), &p, at, &result);
            assert_true(!result.genuine && failed_rule(&result, "chain.crl"));
            attest_policy_free(&p);
        } else
            run("", v, vector_path("snp/milan-v3-aci/report.bin"), at, "", &branches[i], 1);
    }
    printf("SNP: %zu policies\n", sizeof branches / sizeof *branches);
    attest_verifier_free(v);
}

static void test_snp_others(void **state) {
    (void)state;
    static const struct branch turin[] = {
        {"snp.minimum_tcb.Turin = { fmc = 1, bootloader = 1, tee = 1, snp = 4, microcode = 81 }", NULL},
        {"snp.minimum_tcb.Turin = { fmc = 2 }", "snp.minimum_tcb"},
        {"snp.minimum_tcb.Turin = { snp = 5 }", "snp.minimum_tcb"},
        {"snp.require_mitigations = 0x3f", NULL},
        {"snp.require_mitigations = 0x40", "snp.mitigations"},
    };
    struct attest_verifier *v = verifier_with(vector_path("snp/turin-v5-aci"));
    RUN("Turin", v, vector_path("snp/turin-v5-aci/report.bin"), parse_time("2026-03-07T01:04:33Z"), "", turin);
    attest_verifier_free(v);
    static const struct branch vlek[] = {
        {"snp.allow_provisional = true", "snp.vmpl"}, /* strict is VMPL 0 */
        {"snp.vmpl = [1]\nsnp.allow_provisional = true", NULL},
        {"snp.vmpl = [1]", "snp.provisional"},
        {"snp.vmpl = [1]\nsnp.allow_vlek = false", "snp.vlek"},
        {"snp.vmpl = [1]\nsnp.allow_provisional = true\nsnp.csp_ids = [\"CN=cc-us-east-2.amazonaws.com\"]", NULL},
        {"snp.vmpl = [1]\nsnp.allow_provisional = true\nsnp.csp_ids = [\"CN=cc-eu-west-1.amazonaws.com\"]", "snp.csp"},
    };
    v = verifier_with(vector_path("snp/milan-v3-vlek-aws-vmpl1"));
    RUN("VLEK", v, vector_path("snp/milan-v3-vlek-aws-vmpl1/report.bin"), parse_time("2025-01-09T22:14:21Z"), "", vlek);
    attest_verifier_free(v);
    static const struct branch coco[] = {{"", "snp.provisional"}, {"snp.allow_provisional = true", NULL}};
    v = verifier_with(vector_path("snp/milan-v2-coco"));
    RUN("provisional firmware", v, vector_path("snp/milan-v2-coco/report.bin"), parse_time("2023-02-23T17:58:26Z"), "",
        coco);
    attest_verifier_free(v);
    static const struct branch author[] = {
        {"snp.require_author_key = true", NULL},
        {"snp.author_keys = "
         "[\"7dc22240a8344fce6ba5f22ffbedabc52d4123ae0ba1c59796e521b953916b503f223b15c4429e7d8c5489ad71f1e193\"]",
         NULL},
        {"snp.author_keys = [\"" ZEROS_96 "\"]", "snp.author_key"},
    };
    v = verifier_with(vector_path("snp/milan-v2-enarx-author-key"));
    RUN("author key", v, vector_path("snp/milan-v2-enarx-author-key/report.bin"), parse_time("2022-10-29T12:48:56Z"),
        "", author);
    attest_verifier_free(v);
    static const struct branch debug[] = {{"", "policy.debug"}, {"allow_debug = true", NULL}};
    v = verifier_with(vector_path("snp/milan-v2-debug-gosevguest"));
    RUN("debug", v, vector_path("snp/milan-v2-debug-gosevguest/report.bin"), parse_time("2022-10-24T00:55:28Z"), "",
        debug);
    attest_verifier_free(v);
}

static void test_sgx(void **state) {
    (void)state;
    const char *base = "[intel]\ntcb_statuses = [\"UpToDate\", \"SWHardeningNeeded\"]\n";
    static const struct branch branches[] = {
        {"", NULL},
        {"sgx.mrenclaves = [\"" ZEROS_64 "\"]", "policy.measurement"},
        {"sgx.mrsigners = [\"" ZEROS_64 "\"]", "policy.signer"},
        {"sgx.product_id = 7", "sgx.product"},
        {"sgx.minimum_svn = 60000", "sgx.product"},
        {"sgx.attribute_mask = 1", "sgx.attributes"},
        {"sgx.xfrm_mask = 3", "sgx.attributes"},
        {"sgx.config_ids = [\"" ZEROS_128 "\"]", NULL},
        {"sgx.config_ids = [\"" ZEROS_64 ZEROS_32 "00000000000000000000000000000001\"]", "sgx.config_id"},
        {"workloads = [\"" ZEROS_32 "00000000000000000000000000000001\"]", "policy.workload"},
        {"nonce = \"deadbeef\"", "policy.nonce"},
    };
    struct attest_verifier *v = verifier_with(vector_path("sgx/icx-swhardening-automata/collateral"));
    int64_t at = parse_time("2025-08-30T00:00:00Z");
    RUN("SGX", v, vector_path("sgx/icx-swhardening-automata/quote.bin"), at, base, branches);
    static const struct branch intel[] = {
        {"[intel]\ntcb_statuses = [\"UpToDate\"]", "intel.tcb_status"},
        {"", "intel.tcb_status"}, /* strict */
        {"[intel]\ntcb_statuses = [\"SWHardeningNeeded\"]", NULL},
        {"[intel]\ntcb_statuses = [\"SWHardeningNeeded\"]\nminimum_evaluation = 17", NULL},
        {"[intel]\ntcb_statuses = [\"SWHardeningNeeded\"]\nminimum_evaluation = 18", "intel.evaluation_number"},
        {"[intel]\ntcb_statuses = [\"SWHardeningNeeded\"]\nforbidden_advisories = [\"INTEL-SA-00615\"]",
         "intel.advisories"},
        {"[intel]\ntcb_statuses = [\"SWHardeningNeeded\"]\nforbidden_advisories = [\"INTEL-SA-99999\"]", NULL},
        {"[intel]\ntcb_statuses = [\"SWHardeningNeeded\"]\nallow_smt = false", NULL}, /* off on this machine */
        {"[intel]\ntcb_statuses = [\"SWHardeningNeeded\"]\nplatforms = [\"" ZEROS_32 "\"]", "intel.platforms"},
    };
    RUN("Intel platform", v, vector_path("sgx/icx-swhardening-automata/quote.bin"), at, "", intel);
    attest_verifier_free(v);
}

static void test_tdx(void **state) {
    (void)state;
    static const struct branch branches[] = {
        {"", NULL},
        {"tdx.mrtds = [\"" ZEROS_96 "\"]", "policy.measurement"},
        {"tdx.rtmr0 = [\"" ZEROS_96 "\"]", "tdx.rtmr"},
        {"tdx.rtmr3 = [\"" ZEROS_64 "00000000000000000000000000000001\"]", "tdx.rtmr"},
        {"tdx.mrseams = [\"" ZEROS_96 "\"]", "tdx.mrseam"},
        {"tdx.mrconfigids = [\"" ZEROS_64 "00000000000000000000000000000001\"]", "tdx.mrconfigid"},
        {"tdx.mrowners = [\"" ZEROS_64 "00000000000000000000000000000001\"]", "tdx.mrowner"},
        {"tdx.mrownerconfigs = [\"" ZEROS_64 "00000000000000000000000000000001\"]", "tdx.mrowner"},
        {"tdx.xfam_mask = 3", "tdx.xfam"},
        {"workloads = [\"" ZEROS_32 "00000000000000000000000000000001\"]", "policy.workload"},
        {"intel.allow_smt = false", "intel.smt"},
    };
    struct attest_verifier *v = verifier_with(vector_path("tdx/v5-td15-uptodate/collateral"));
    RUN("TDX", v, vector_path("tdx/v5-td15-uptodate/quote.bin"), parse_time("2026-03-05T00:00:00Z"), "", branches);
    attest_verifier_free(v);
    static const struct branch debug[] = {{"", "policy.debug"}, {"allow_debug = true", NULL}};
    v = verifier_with(vector_path("tdx/v4-debug-td-module10/collateral"));
    RUN("TDX debug", v, vector_path("tdx/v4-debug-td-module10/quote.bin"), parse_time("2023-06-28T00:00:00Z"), "",
        debug);
    attest_verifier_free(v);
    static const struct branch azure[] = {
        {"intel.tcb_statuses = [\"OutOfDate\"]", "tdx.sept_ve_disable"},
        {"intel.tcb_statuses = [\"OutOfDate\"]\ntdx.allow_sept_ve = true", NULL},
    };
    v = verifier_with(vector_path("tdx/v4-azure-outofdate/collateral"));
    RUN("SEPT_VE_DISABLE", v, vector_path("tdx/v4-azure-outofdate/quote.bin"), parse_time("2025-06-11T00:00:00Z"), "",
        azure);
    attest_verifier_free(v);
    static const struct branch migratable[] = {
        {"intel.tcb_statuses = [\"OutOfDate\"]", "tdx.mrservicetd"},
        {"intel.tcb_statuses = [\"OutOfDate\"]\ntdx.mrservicetds = "
         "[\"fe137531a4f9ec8fcba90d1040f3e9ea86ec933ff99570b5d0ef6aa752d69abb1d0ece885d22e8289345ab90ed084cea\"]",
         "tdx.migration"},
        {"intel.tcb_statuses = [\"OutOfDate\"]\ntdx.allow_migration = true\ntdx.mrservicetds = "
         "[\"fe137531a4f9ec8fcba90d1040f3e9ea86ec933ff99570b5d0ef6aa752d69abb1d0ece885d22e8289345ab90ed084cea\"]",
         NULL},
    };
    v = verifier_with(vector_path("tdx/v5-td15-outofdate/collateral"));
    RUN("migration", v, vector_path("tdx/v5-td15-outofdate/quote.bin"), parse_time("2025-06-11T00:00:00Z"), "",
        migratable);
    attest_verifier_free(v);
    static const struct branch relaunch[] = {{"", "intel.tcb_status"},
                                             {"intel.tcb_statuses = [\"UpToDate\", \"TDRelaunchAdvised\"]", NULL}};
    v = verifier_with(vector_path("tdx/v5-td15-module-updated/collateral-2"));
    RUN("relaunch", v, vector_path("tdx/v5-td15-module-updated/quote.bin"), parse_time("2025-03-10T00:00:00Z"), "",
        relaunch);
    attest_verifier_free(v);
}

static void test_nitro(void **state) {
    (void)state;
    static const struct branch branches[] = {
        {"", NULL},
        {"nitro.pcr0 = "
         "[\"eb7d0dab08ff41546d7e5659aee883af7b32bb2e58e46815b719f9f7bfae7b880188a10d86317e6509923740526cf74a\"]",
         NULL},
        {"nitro.pcr0 = [\"" ZEROS_96 "\"]", "policy.measurement"},
        {"nitro.pcr2 = [\"" ZEROS_96 "\"]", "nitro.pcrs"},
        {"nitro.pcr20 = [\"" ZEROS_96 "\"]", "nitro.pcrs"}, /* not in the document */
        {"nitro.pcr8 = [\"" ZEROS_64 "00000000000000000000000000000001\"]", "policy.signer"},
        {"nitro.modules = [\"i-0\"]", "nitro.modules"},
        {"nitro.modules = [\"i-0827e799ec9232d44-enc019b5640fdf630d6\"]", NULL},
        {"nitro.user_data_sha256 = [\"" ZEROS_64 "\"]", "nitro.user_data"},
        {"max_age = \"1h\"", NULL},
        {"nonce = \"00\"", "policy.nonce"},
        {"report_data = [\"" ZEROS_128 "\"]", "policy.report_data"},
        {"workloads = [\"" ZEROS_64 "\"]", "policy.workload"},
    };
    struct attest_verifier *v = attest_verifier_new();
    RUN("Nitro", v, vector_path("nitro/dstack-2025/attestation.cbor"), parse_time("2025-12-25T16:04:19Z"), "",
        branches);
    static const struct branch late[] = {{"max_age = \"1h\"", "policy.max_age"}, {"max_age = \"2h\"", NULL}};
    RUN("Nitro, an hour later", v, vector_path("nitro/dstack-2025/attestation.cbor"),
        parse_time("2025-12-25T17:04:21Z"), "", late);
    attest_verifier_free(v);
}

static void test_keystone(void **state) {
    (void)state;
    const char *base =
        "[keystone]\ndevice_keys = [\"0faad4ff01178583baa588966f7c1ff32564dd17d7dc2b46cb50a84a69270b4c\"]\n";
    static const struct branch branches[] = {
        {"", NULL},
        {"keystone.sm_hashes = [\"" ZEROS_128 "\"]", "keystone.sm"},
        {"keystone.enclave_hashes = [\"" ZEROS_128 "\"]", "policy.measurement"},
        {"nonce = \"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\"", NULL},
        {"nonce = \"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e\"", "policy.nonce"},
    };
    struct attest_verifier *v = attest_verifier_new();
    for (size_t i = 0; i < sizeof branches / sizeof *branches; i++) {
        char text[1000];
        const char *policy = branches[i].policy;
        /* A table may be opened once: the base joins it. */
        if (!strncmp(policy, "keystone.", 9))
            snprintf(
                text, sizeof text,
                "keystone.device_keys = [\"0faad4ff01178583baa588966f7c1ff32564dd17d7dc2b46cb50a84a69270b4c\"]\n%s",
                policy);
        else
            snprintf(text, sizeof text, "%s\n%s", policy, base);
        struct branch one = {text, branches[i].rule};
        run("", v, vector_path("keystone/nonce-32/report.bin"), 0, "", &one, 1);
    }
    attest_verifier_free(v);
}

/* What a policy file may not say, and how it is told. */
static void test_malformed(void **state) {
    (void)state;
    static const struct {
        const char *text, *wanted;
    } cases[] = {
        {"snp.measurement = [\"00\"]", "snp.measurement: unknown key; did you mean \"snp.measurements\"?"},
        {"[snp]\nminimum_abbi = \"1.55\"", "line 2: snp.minimum_abbi: unknown key; did you mean \"snp.minimum_abi\"?"},
        {"vtpm.pcrr1 = \"00\"", "did you mean \"vtpm.pcr0\"?"},
        {"somethingelse = 1", "somethingelse: unknown key; docs/attestation.md has them all"},
        {"\n\nsnp.measurements = [\"00\"]", "line 3: snp.measurements: expected 48 bytes"},
        {"snp.measurements = []", "empty list"},
        {"snp.measurements = [\"zz" ZEROS_64 ZEROS_32 "\"]", "expected 48 bytes"},
        {"allow_debug = \"yes\"", "expected true or false"},
        {"snp.vmpl = [4]", "0..3"},
        {"snp.vmpl = -1", "not negative"},
        {"snp.minimum_tcb.Milan.snp = 256", "0..255"},
        {"snp.minimum_abi = \"1\"", "version"},
        {"intel.tcb_statuses = [\"Revoked\"]", "other than Revoked"},
        {"intel.tcb_statuses = [\"Fine\"]", "TCB status"},
        {"valid_until = \"tomorrow\"", "expected a time"},
        {"valid_until = \"2026-02-30T00:00:00Z\"", "expected a time"},
        {"max_age = 5", "duration"},
        {"nitro.pcr32 = [\"" ZEROS_96 "\"]", "unknown key"},
        {"nonce = \"\"", "hexadecimal"},
        {"nitro.pcr1 = [\"010000\\u0000r\\u0000\"]", "nitro.pcr1: expected 48 bytes"}, /* a NUL in it */
        {"nitro.pcr1 = [\"" ZEROS_96 "\\u0000\"]", "nitro.pcr1: expected 48 bytes"},
        {"snp = 3", "unknown key"},
        {"[snp\n", "line"},
        {"snp.allow_smt = true\nsnp.allow_smt = false", "line"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct attest_policy p;
        char error[300] = "";
        if (attest_policy_read(&p, cases[i].text, strlen(cases[i].text), error, sizeof error))
            fail_msg("taken: %s", cases[i].text);
        if (!strstr(error, cases[i].wanted))
            fail_msg("%s: said \"%s\", not \"%s\"", cases[i].text, error, cases[i].wanted);
    }
    printf("malformed policies: %zu refused with the right words\n", sizeof cases / sizeof *cases);
}

int main(void) {
    need_vectors();
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_snp),      cmocka_unit_test(test_snp_others),
                                       cmocka_unit_test(test_sgx),      cmocka_unit_test(test_tdx),
                                       cmocka_unit_test(test_nitro),    cmocka_unit_test(test_keystone),
                                       cmocka_unit_test(test_malformed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
