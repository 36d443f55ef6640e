#include "keystone.h"

#include <stdlib.h>

#include "crypto.h"
#include "policy.h"

bool keystone_parse(struct attest_bytes bytes, struct keystone *k) {
    memset(k, 0, sizeof *k);
    if (bytes.size != KEYSTONE_REPORT_SIZE) return false;
    struct reader r = reader_of(bytes);
    k->enclave_hash = read_span(&r, KEYSTONE_HASH);
    k->data_size = read_le64(&r);
    k->data = read_span(&r, KEYSTONE_DATA_MAX);
    k->enclave_signature = read_span(&r, KEYSTONE_SIGNATURE);
    k->sm_hash = read_span(&r, KEYSTONE_HASH);
    k->sm_key = read_span(&r, KEYSTONE_KEY);
    k->sm_signature = read_span(&r, KEYSTONE_SIGNATURE);
    k->device_key = read_span(&r, KEYSTONE_KEY);
    return k->data_size <= KEYSTONE_DATA_MAX;
}

void keystone_describe(struct attest_result *res, const struct keystone *k) {
    fact_bytes(res, "enclave_hash", k->enclave_hash, KEYSTONE_HASH);
    fact_bytes(res, "sm_hash", k->sm_hash, KEYSTONE_HASH);
    fact_bytes(res, "sm_public_key", k->sm_key, KEYSTONE_KEY);
    fact_bytes(res, "device_public_key", k->device_key, KEYSTONE_KEY);
    fact_bytes(res, "data", k->data, (size_t)k->data_size);
}

/* Enclave hash || LE64 length || data. */
static bool enclave_signed(const struct keystone *k) {
    uint8_t message[KEYSTONE_HASH + 8 + KEYSTONE_DATA_MAX];
    size_t size = KEYSTONE_HASH + 8 + (size_t)k->data_size;
    memcpy(message, k->enclave_hash, size); /* contiguous in the report */
    return ed25519_sha3_verify(k->sm_key, (struct attest_bytes){message, size}, k->enclave_signature);
}

static void policy_keystone(struct attest_result *res, const struct attest_policy *p, const struct keystone *k) {
    policy_common(res, p, ATTEST_TEE_KEYSTONE, false);
    /* There is no vendor root: a policy must name the devices. */
    bool trusted = set_has(&p->keystone.device_keys, k->device_key, KEYSTONE_KEY);
    check(res, ATTEST_RULE_KEYSTONE_DEVICE, trusted,
          v_text(p->keystone.device_keys.count ? "a trusted device key" : "a device key named by a policy"),
          v_bytes(res, k->device_key, KEYSTONE_KEY));
    concerns(res, "keystone.device_keys");
    advise(
        res,
        "Keystone has no vendor's root. Ask the device's maker for its public key; if that is the one found, add it to "
        "keystone.device_keys in the policy. The key in the report alone proves nothing");
    check_set(res, ATTEST_RULE_KEYSTONE_SM, "keystone.sm_hashes", &p->keystone.sm_hashes, k->sm_hash, KEYSTONE_HASH);
    bool ok = check_set(res, ATTEST_RULE_MEASUREMENT, "keystone.enclave_hashes", &p->keystone.enclave_hashes,
                        k->enclave_hash, KEYSTONE_HASH);
    res->identified = ok && p->keystone.enclave_hashes.count;
    uint8_t data[64] = {0};
    if (k->data_size <= sizeof data) {
        memcpy(data, k->data, (size_t)k->data_size);
        policy_report_data(res, p, data);
    } else if (p->report_data.count || p->nonce_size)
        check(res, p->nonce_size ? ATTEST_RULE_NONCE : ATTEST_RULE_REPORT_DATA, false,
              v_text("at most 64 bytes of data"), v_number(k->data_size));
    if (p->workloads.count)
        check(res, ATTEST_RULE_WORKLOAD, false, v_text("a workload digest"),
              v_text("Keystone reports have no such field"));
}

void keystone_verify(struct attest_bytes bytes, const struct attest_policy *policy, struct attest_result *res) {
    struct keystone k;
    res->tee = ATTEST_TEE_KEYSTONE;
    bool ok = keystone_parse(bytes, &k);
    check(res, ATTEST_RULE_EVIDENCE, ok, v_text("1352 bytes, at most 1024 of them data"),
          ok                                   ? v_text("1352 bytes")
          : bytes.size == KEYSTONE_REPORT_SIZE ? v_format(res, "%llu bytes of data", (unsigned long long)k.data_size)
                                               : v_format(res, "%zu bytes", bytes.size));
    if (!ok) return;
    keystone_describe(res, &k);
    /* The device key signs SM hash || SM public key, which are neighbours in the report. */
    bool sm = ed25519_sha3_verify(k.device_key, (struct attest_bytes){k.sm_hash, KEYSTONE_HASH + KEYSTONE_KEY},
                                  k.sm_signature);
    check(res, ATTEST_RULE_KEYSTONE_SM_SIGNATURE, sm, v_text("signed by the device key"),
          v_text(sm ? "valid" : "the signature does not verify"));
    bool enclave = enclave_signed(&k);
    check(res, ATTEST_RULE_KEYSTONE_SIGNATURE, enclave, v_text("signed by the security monitor"),
          v_text(enclave ? "valid" : "the signature does not verify"));
    policy_keystone(res, policy, &k);
}

bool keystone_measure(struct attest_bytes image, const uint64_t sizes[3], uint8_t out[KEYSTONE_HASH]) {
    uint64_t left = image.size;
    uint8_t head[24];
    for (int i = 0; i < 3; i++) {
        if (sizes[i] > left) return false;
        left -= sizes[i];
        for (int b = 0; b < 8; b++)
            head[8 * i + b] = (uint8_t)(sizes[i] >> 8 * b);
    }
    if (left) return false;
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool ok = md && EVP_DigestInit_ex(md, EVP_sha3_512(), NULL) && EVP_DigestUpdate(md, head, sizeof head) &&
              EVP_DigestUpdate(md, image.data, image.size) && EVP_DigestFinal_ex(md, out, NULL);
    EVP_MD_CTX_free(md);
    return ok;
}
