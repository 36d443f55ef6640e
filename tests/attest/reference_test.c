/* Reference values: launch digests, ID blocks, MRENCLAVE, SIGSTRUCT, CoRIM; and Attestation Results. */
#include "support.h"

#include <openssl/evp.h>
#include <openssl/core_names.h>
#include <openssl/pem.h>

static size_t from_hex(const char *text, uint8_t *out) {
    size_t n = strlen(text) / 2;
    for (size_t i = 0; i < n; i++)
        sscanf(text + 2 * i, "%2hhx", &out[i]);
    return n;
}

static const char *text_of(const json_t *o, const char *key) {
    const char *text = json_string_value(json_object_get(o, key));
    return text ? text : "";
}

static void launch_of(const json_t *vector, struct attest_ovmf_launch *l) {
    const char *vmm = text_of(vector, "vmm");
    *l = (struct attest_ovmf_launch){.firmware =
                                         load(vector_path("snp-launch/ovmf-suffix/%s", text_of(vector, "ovmf")))};
    l->vmm = !strcmp(vmm, "ec2") ? ATTEST_VMM_EC2 : !strcmp(vmm, "gce") ? ATTEST_VMM_GCE : ATTEST_VMM_QEMU;
    l->vcpus = (unsigned)json_integer_value(json_object_get(vector, "vcpus"));
    l->vcpu_signature = (uint32_t)strtoul(text_of(vector, "vcpu_sig"), NULL, 16);
    l->guest_features = strtoull(text_of(vector, "guest_features"), NULL, 16);
    const json_t *kernel = json_object_get(vector, "kernel_hashes");
    l->with_kernel = json_is_object(kernel);
    const char *cmdline = text_of(kernel, "cmdline");
    l->cmdline = (struct attest_bytes){(const uint8_t *)cmdline, strlen(cmdline)};
}

static void test_launch(void **state) {
    (void)state;
    json_t *doc = load_json(vector_path("snp-launch/ovmf-suffix/vectors.json")),
           *list = json_object_get(doc, "vectors"), *vector;
    size_t i;
    json_array_foreach(list, i, vector) {
        struct attest_ovmf_launch l;
        uint8_t wanted[48], digest[48];
        launch_of(vector, &l);
        from_hex(text_of(vector, "launch_digest"), wanted);
        const char *wrong = attest_snp_launch_ovmf(&l, digest);
        if (wrong) fail_msg("%s: %s", text_of(vector, "name"), wrong);
        assert_memory_equal(digest, wanted, 48);
        free((void *)l.firmware.data);
    }
    struct attest_ovmf_launch l = {.firmware = load(vector_path("snp-launch/ovmf-suffix/ovmf_OvmfX64_suffix.bin")),
                                   .vcpus = 1,
                                   .with_kernel = true};
    uint8_t digest[48];
    assert_non_null(attest_snp_launch_ovmf(&l, digest));
    /* A hostile image may say anything in its footer. */
    for (size_t at = 4096 - 400; at < 4096; at++) {
        uint8_t keep = l.firmware.data[at];
        ((uint8_t *)l.firmware.data)[at] ^= 0x5a;
        attest_snp_launch_ovmf(&l, digest);
        ((uint8_t *)l.firmware.data)[at] = keep;
    }
    free((void *)l.firmware.data);
    printf("launch digests: %zu equal, 1 refused\n", json_array_size(list));
    assert_int_equal(json_array_size(list), 8);
    json_decref(doc);
}

static void test_launch_trace(void **state) {
    (void)state;
    json_t *trace = json_load_file(vector_path("snp-launch/ovmf-suffix/trace_full-features-0x21.json"), 0, NULL), *step;
    struct attest_bytes firmware = load(vector_path("snp-launch/ovmf-suffix/ovmf_AmdSev_suffix.bin")),
                        vmsa = load(vector_path("snp-launch/ovmf-suffix/vmsa_bsp_qemu_0x21.bin")),
                        hashes = load(vector_path("snp-launch/ovmf-suffix/hashes_table_full.bin"));
    uint8_t page[4096], wanted[48];
    attest_snp_vmsa(ATTEST_VMM_QEMU, true, 0xfffffff0, 0x800f12, 0x21, page);
    assert_memory_equal(page, vmsa.data, sizeof page);
    struct attest_snp_launch l = {{0}};
    size_t i, normals = 0;
    json_array_foreach(trace, i, step) {
        enum attest_snp_page type = (enum attest_snp_page)json_integer_value(json_object_get(step, "page_type"));
        uint64_t gpa = strtoull(text_of(step, "gpa"), NULL, 16);
        uint8_t hash_page[4096] = {0};
        const uint8_t *contents = type == ATTEST_SNP_VMSA ? vmsa.data : NULL;
        if (type == ATTEST_SNP_NORMAL) {
            memcpy(hash_page + 0xc00, hashes.data, hashes.size);
            contents = normals++ == 0 ? firmware.data : hash_page;
        }
        attest_snp_launch_page(&l, type, gpa, contents);
        from_hex(text_of(step, "digest_after"), wanted);
        if (memcmp(l.digest, wanted, 48) != 0) fail_msg("step %zu", i);
    }
    printf("launch trace: %zu pages equal\n", json_array_size(trace));
    free((void *)firmware.data), free((void *)vmsa.data), free((void *)hashes.data);
    json_decref(trace);
}

static void test_id_block(void **state) {
    (void)state;
    json_t *expected = load_json(vector_path("snp-idblock/virtee/expected.json"));
    struct attest_bytes block = load(vector_path("snp-idblock/virtee/id_block.bin")),
                        auth = load(vector_path("snp-idblock/virtee/id_auth.bin"));
    struct attest_id_block out;
    uint8_t wanted[48];
    assert_null(attest_snp_id_block(block, auth, &out));
    from_hex(text_of(expected, "id_key_digest"), wanted);
    assert_memory_equal(out.id_key_digest, wanted, 48);
    from_hex(text_of(expected, "author_key_digest"), wanted);
    assert_memory_equal(out.author_key_digest, wanted, 48);
    from_hex(text_of(expected, "launch_digest"), wanted);
    assert_memory_equal(out.launch_digest, wanted, 48);
    for (size_t at = 0; at < block.size; at += 5) {
        ((uint8_t *)block.data)[at] ^= 1;
        assert_non_null(attest_snp_id_block(block, auth, &out));
        ((uint8_t *)block.data)[at] ^= 1;
    }
    for (size_t at = 0; at < auth.size; at += 13) {
        ((uint8_t *)auth.data)[at] ^= 1;
        assert_non_null(attest_snp_id_block(block, auth, &out));
        ((uint8_t *)auth.data)[at] ^= 1;
    }
    free((void *)block.data), free((void *)auth.data);
    json_decref(expected);
}

static void test_enclaves(void **state) {
    (void)state;
    static const char *const dirs[] = {"fortanix-test-enclave", "fortanix-report-enclave", "fortanix-sig1",
                                       "intel-launch-enclave", "intel-pce"};
    unsigned measured = 0, checked = 0;
    for (int i = 0; i < 5; i++) {
        json_t *expected = load_json(vector_path("sgx-enclave/%s/expected.json", dirs[i])),
               *sig = json_object_get(expected, "sigstruct");
        struct attest_bytes stream = load(vector_path("sgx-enclave/%s/enclave.sgxs", dirs[i])),
                            raw = load(vector_path("sgx-enclave/%s/sigstruct.bin", dirs[i]));
        uint8_t wanted[32], mrenclave[32];
        if (stream.size) {
            const char *text = text_of(expected, "mrenclave_recomputed");
            from_hex(*text ? text : text_of(expected, "mrenclave"), wanted);
            assert_null(attest_sgx_measure(stream, mrenclave));
            assert_memory_equal(mrenclave, wanted, 32);
            assert_non_null(attest_sgx_measure((struct attest_bytes){stream.data, stream.size - 1}, mrenclave));
            measured++;
        }
        if (raw.size) {
            struct attest_sigstruct s;
            const char *wrong = attest_sgx_sigstruct(raw, &s);
            if (wrong) fail_msg("%s: %s", dirs[i], wrong);
            from_hex(text_of(sig, "mrsigner"), wanted);
            assert_memory_equal(s.mrsigner, wanted, 32);
            from_hex(text_of(sig, "mrenclave"), wanted);
            assert_memory_equal(s.mrenclave, wanted, 32);
            assert_int_equal(s.isv_svn, json_integer_value(json_object_get(sig, "isv_svn")));
            checked++;
        }
        free((void *)stream.data), free((void *)raw.data);
        json_decref(expected);
    }
    printf("enclaves: %u measured, %u SIGSTRUCTs valid\n", measured, checked);
    assert_int_equal(measured, 2);
    assert_int_equal(checked, 4);
}

/* ---- CoRIM ---- */

static int corim(const char *file, struct attest_policy *p, char *error) {
    struct attest_bytes b = load(vector_path("results/corim/%s", file));
    assert_true(b.size > 0);
    int n = attest_corim_read(b, (struct attest_bytes){0}, p, error, 200);
    free((void *)b.data);
    return n;
}

static void test_corim(void **state) {
    (void)state;
    struct attest_policy p;
    char error[200] = "";
    attest_policy_strict(&p);
    int n = corim("sevsnp/corim-sevsnp-valid.cbor", &p, error);
    if (n < 1) fail_msg("%s", error);
    assert_int_equal(p.snp.measurements.count, 1);
    /* Its reference values are those of the evidence beside it. */
    static struct attest_result r;
    struct attest_verifier *v = attest_verifier_new();
    appraise_file(v, vector_path("results/corim/sevsnp/sevsnp-tsm-report.cbor"), &p, parse_time("2025-05-20T18:31:36Z"),
                  &r);
    if (!r.accepted || !r.identified) {
        show("CoRIM", &r);
        fail();
    }
    /* and of no other */
    add_file(v, vector_path("snp/genoa-v5-yaxi/vcek.der"));
    appraise_file(v, vector_path("snp/genoa-v5-yaxi/report.bin"), &p, parse_time("2025-12-11T10:49:48Z"), &r);
    assert_true(r.genuine && !r.accepted && failed_rule(&r, "policy.measurement"));
    attest_verifier_free(v);
    attest_policy_free(&p);
    attest_policy_strict(&p);
    assert_true(corim("sevsnp/corim-sevsnp-bad-refval-key.cbor", &p, error) < 0);
    assert_true(corim("sevsnp/corim-sevsnp-bad-refval-no-key.cbor", &p, error) < 0);
    assert_true(corim("signed-good-corim.cbor", &p, error) < 0); /* signed, and no key given */
    static const char *const others[] = {"unsigned-good-corim.cbor",
                                         "unsigned-example-corim.cbor",
                                         "comid_seam_refval.cbor",
                                         "comid_qe_refval.cbor",
                                         "comid_pce_refval.cbor",
                                         "sevsnp/corim-sevsnp-bad-ta-no-model.cbor",
                                         "sevsnp/corim-sevsnp-bad-ta-no-vendor.cbor"};
    for (int i = 0; i < 7; i++)
        if (corim(others[i], &p, error) != 0) printf("  %s: %s\n", others[i], error);
    attest_policy_free(&p);
}

/* ---- EAR ---- */

static char *pem_of_jwk(void) {
    json_t *jwk = load_json(vector_path("results/ear/pkey.json"));
    uint8_t point[65] = {4};
    for (int c = 0; c < 2; c++) {
        char text[64];
        snprintf(text, sizeof text, "%s=", text_of(jwk, c ? "y" : "x"));
        for (char *t = text; *t; t++)
            *t = *t == '-' ? '+' : *t == '_' ? '/' : *t;
        uint8_t out[48];
        EVP_DecodeBlock(out, (uint8_t *)text, (int)strlen(text));
        memcpy(point + 1 + 32 * c, out, 32);
    }
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    EVP_PKEY *key = NULL;
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, (char *)"P-256", 0),
                           OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point),
                           OSSL_PARAM_construct_end()};
    EVP_PKEY_fromdata_init(ctx);
    assert_int_equal(EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params), 1);
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_PUBKEY(bio, key);
    char *data, *pem;
    long size = BIO_get_mem_data(bio, &data);
    pem = strndup(data, (size_t)size);
    BIO_free(bio), EVP_PKEY_free(key), EVP_PKEY_CTX_free(ctx), json_decref(jwk);
    return pem;
}

static void test_ear_vectors(void **state) {
    (void)state;
    static const struct {
        const char *file;
        bool valid;
    } tokens[] = {{"ok.jwt", true},
                  {"ok_jwk_header.jwt", true},
                  {"token_0.jwt", true /* signature and claims */},
                  {"token_1.jwt", false},
                  {"token_2.jwt", false},
                  {"token_3.jwt", false},
                  {"token_4.jwt", false /* no claims */},
                  {"token_5.jwt", false}};
    char *pem = pem_of_jwk(), error[200];
    unsigned valid = 0;
    for (int i = 0; i < 8; i++) {
        struct attest_bytes token = load(vector_path("results/ear/%s", tokens[i].file));
        char *claims =
            attest_ear_verify_jwt(token, (struct attest_bytes){(uint8_t *)pem, strlen(pem)}, error, sizeof error);
        if ((claims != NULL) != tokens[i].valid) printf("  %s: %s\n", tokens[i].file, claims ? "accepted" : error);
        assert_true((claims != NULL) == tokens[i].valid);
        valid += claims != NULL;
        free(claims), free((void *)token.data);
    }
    printf("EAR tokens: %u accepted of 8\n", valid);
    free(pem);
}

static void test_ear_round_trip(void **state) {
    (void)state;
    static struct attest_result r;
    struct attest_verifier *v = verifier_with(vector_path("snp/milan-v3-aci"));
    appraise_file(v, vector_path("snp/milan-v3-aci/report.bin"), NULL, parse_time("2026-01-28T11:25:58Z"), &r);
    attest_verifier_free(v);
    static const char *const curves[] = {"P-256", "P-384"};
    for (int i = 0; i < 2; i++) {
        EVP_PKEY *key = EVP_EC_gen(curves[i]), *other = EVP_EC_gen(curves[i]);
        BIO *bio = BIO_new(BIO_s_mem()), *pub = BIO_new(BIO_s_mem()), *wrong = BIO_new(BIO_s_mem());
        PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL), PEM_write_bio_PUBKEY(pub, key),
            PEM_write_bio_PUBKEY(wrong, other);
        char *p, error[200];
        struct attest_bytes private = {0}, public = {0}, foreign = {0}, nonce = {(const uint8_t *)"12345678", 8};
        private.size = (size_t)BIO_get_mem_data(bio, &p), private.data = (uint8_t *)p;
        public.size = (size_t)BIO_get_mem_data(pub, &p), public.data = (uint8_t *)p;
        foreign.size = (size_t)BIO_get_mem_data(wrong, &p), foreign.data = (uint8_t *)p;
        char *jwt = attest_ear_jwt(&r, private, nonce);
        assert_non_null(jwt);
        char *claims =
            attest_ear_verify_jwt((struct attest_bytes){(uint8_t *)jwt, strlen(jwt)}, public, error, sizeof error);
        if (!claims) fail_msg("JWT: %s", error);
        assert_non_null(strstr(claims, "ear.trustworthiness-vector"));
        assert_null(
            attest_ear_verify_jwt((struct attest_bytes){(uint8_t *)jwt, strlen(jwt)}, foreign, error, sizeof error));
        size_t size;
        uint8_t *cwt = attest_ear_cwt(&r, private, nonce, &size);
        assert_non_null(cwt);
        char *again = attest_ear_verify_cwt((struct attest_bytes){cwt, size}, public, error, sizeof error);
        if (!again) fail_msg("CWT: %s", error);
        /* Both forms say the same. */
        json_t *a = json_loads(claims, 0, NULL), *b = json_loads(again, 0, NULL);
        assert_true(json_equal(a, b));
        json_decref(a), json_decref(b);
        for (size_t at = 0; at < size; at += 7) {
            cwt[at] ^= 1;
            char *bad = attest_ear_verify_cwt((struct attest_bytes){cwt, size}, public, error, sizeof error);
            if (bad && at > 3) fail_msg("CWT accepted with byte %zu changed", at); /* the tags are not signed */
            free(bad);
            cwt[at] ^= 1;
        }
        free(jwt), free(claims), free(again), free(cwt);
        BIO_free(bio), BIO_free(pub), BIO_free(wrong), EVP_PKEY_free(key), EVP_PKEY_free(other);
    }
}

int main(void) {
    need_vectors();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_launch),         cmocka_unit_test(test_launch_trace), cmocka_unit_test(test_id_block),
        cmocka_unit_test(test_enclaves),       cmocka_unit_test(test_corim),        cmocka_unit_test(test_ear_vectors),
        cmocka_unit_test(test_ear_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
