/* The shim's SHA-256 (plain C, and with the SHA instructions) and its HMAC_DRBG: FIPS 180's examples, and OpenSSL's
 * answers on every short length, random long ones, every way of cutting a message, and the Monte Carlo test of SHAVS.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shim/x86_64/drbg.h"
#include "shim/x86_64/user.c" /* for its static functions */

enum { SHORT = 300, LONG = 70000, ROUNDS = 60 };
static uint64_t seed = 0x9e3779b97f4a7c15;

static uint64_t next(void) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

static void fill(uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(next() >> 24);
}

static void library(const void *data, size_t n, uint8_t digest[32]) {
    assert_int_equal(EVP_Digest(data, n, digest, NULL, EVP_sha256(), NULL), 1);
}

/* ---- three ways to hash ---- */

typedef void blocks_function(uint32_t state[8], const uint8_t *p, uint64_t n);

static void whole(blocks_function *blocks, const uint8_t *data, size_t n, uint8_t digest[32]) {
    uint32_t state[8] = SHA256_INITIAL;
    blocks(state, data, n / 64);
    sha256_end(state, data + n / 64 * 64, n, digest);
}

static void plain(uint32_t state[8], const uint8_t *p, uint64_t n) {
    sha256_blocks_plain(state, p, n);
}

static void stream(const uint8_t *data, size_t n, size_t piece, uint8_t digest[32]) {
    struct sha256 s;
    sha256_start(&s);
    for (size_t at = 0; at < n; at += piece)
        sha256_add(&s, data + at, n - at < piece ? n - at : piece);
    sha256_finish(&s, digest);
}

static bool have_sha(void) {
    struct user_work w;
    user_cpu(&w);
    return w.sha;
}

static void same(const uint8_t *data, size_t n, size_t piece) {
    uint8_t expected[32], found[32];
    library(data, n, expected);
    whole(plain, data, n, found);
    assert_memory_equal(found, expected, 32);
    stream(data, n, piece, found);
    assert_memory_equal(found, expected, 32);
    if (!have_sha()) return;
    whole(blocks_sha, data, n, found);
    assert_memory_equal(found, expected, 32);
}

static void examples(void **state) {
    static const struct {
        const char *text, *digest;
    } known[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqr"
         "stu",
         "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        uint8_t digest[32];
        char hex[65] = "";
        stream((const uint8_t *)known[i].text, strlen(known[i].text), 7, digest);
        for (int k = 0; k < 32; k++)
            sprintf(hex + 2 * k, "%02x", digest[k]);
        assert_string_equal(hex, known[i].digest);
    }
}

static void lengths(void **state) {
    static uint8_t data[LONG];
    (void)state;
    for (size_t n = 0; n < SHORT; n++) {
        fill(data, n);
        same(data, n, n % 67 + 1);
    }
    for (int i = 0; i < ROUNDS; i++) {
        size_t n = next() % LONG;
        fill(data, n);
        same(data, n, next() % 200 + 1);
    }
    fill(data, SHORT);
    for (size_t piece = 1; piece <= SHORT; piece++)
        same(data, SHORT, piece);
}

/* SHAVS, 6.4: each message is made of the three digests before. */
static void monte_carlo(void **state) {
    enum { OUTER = 20, INNER = 1000 };
    uint8_t ours[3][32], theirs[3][32], message[96], start[32];
    (void)state;
    fill(start, sizeof start);
    for (int j = 0; j < OUTER; j++) {
        for (int k = 0; k < 3; k++) {
            memcpy(ours[k], start, 32);
            memcpy(theirs[k], start, 32);
        }
        for (int i = 0; i < INNER; i++) {
            memcpy(message, ours, sizeof message);
            memmove(ours, ours[1], 64);
            whole(have_sha() && i % 2 ? blocks_sha : plain, message, sizeof message, ours[2]);
            memcpy(message, theirs, sizeof message);
            memmove(theirs, theirs[1], 64);
            library(message, sizeof message, theirs[2]);
        }
        assert_memory_equal(ours, theirs, sizeof ours);
        memcpy(start, ours[2], 32);
    }
}

/* ---- the generator: entropy, nonce, and a personalisation (without one OpenSSL takes its own) ---- */

enum { ENTROPY = 32, NONCE = 16, OWN = 9, MATERIAL = ENTROPY + NONCE + OWN };

static EVP_RAND_CTX *library_drbg(uint8_t material[MATERIAL], EVP_RAND_CTX **parent) {
    unsigned strength = 256;
    EVP_RAND *test = EVP_RAND_fetch(NULL, "TEST-RAND", NULL), *hmac = EVP_RAND_fetch(NULL, "HMAC-DRBG", NULL);
    *parent = EVP_RAND_CTX_new(test, NULL);
    EVP_RAND_CTX *d = EVP_RAND_CTX_new(hmac, *parent);
    OSSL_PARAM given[] = {OSSL_PARAM_construct_uint(OSSL_RAND_PARAM_STRENGTH, &strength),
                          OSSL_PARAM_construct_octet_string(OSSL_RAND_PARAM_TEST_ENTROPY, material, ENTROPY),
                          OSSL_PARAM_construct_octet_string(OSSL_RAND_PARAM_TEST_NONCE, material + ENTROPY, NONCE),
                          OSSL_PARAM_construct_end()};
    OSSL_PARAM kind[] = {OSSL_PARAM_construct_utf8_string(OSSL_DRBG_PARAM_MAC, (char *)"HMAC", 0),
                         OSSL_PARAM_construct_utf8_string(OSSL_DRBG_PARAM_DIGEST, (char *)"SHA256", 0),
                         OSSL_PARAM_construct_end()};
    assert_int_equal(EVP_RAND_instantiate(*parent, strength, 0, NULL, 0, given), 1);
    assert_int_equal(EVP_RAND_instantiate(d, strength, 0, material + ENTROPY + NONCE, OWN, kind), 1);
    EVP_RAND_free(test);
    EVP_RAND_free(hmac);
    return d;
}

static void generator(void **state) {
    enum { MOST = 1000 };
    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        uint8_t material[MATERIAL], more[80], ours[MOST], theirs[MOST];
        struct drbg d;
        EVP_RAND_CTX *parent;
        fill(material, sizeof material);
        EVP_RAND_CTX *l = library_drbg(material, &parent);
        drbg_start(&d, material, sizeof material);
        for (int k = 0; k < 10; k++) {
            size_t size = next() % MOST + 1, n = k % 3 ? next() % sizeof more : 0;
            fill(more, n);
            drbg_generate(&d, more, n, ours, size);
            assert_int_equal(EVP_RAND_generate(l, theirs, size, 256, 0, n ? more : NULL, n), 1);
            assert_memory_equal(ours, theirs, size);
        }
        EVP_RAND_CTX_free(l);
        EVP_RAND_CTX_free(parent);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(examples), cmocka_unit_test(lengths),
                                       cmocka_unit_test(monte_carlo), cmocka_unit_test(generator)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
