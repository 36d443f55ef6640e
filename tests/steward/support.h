/* A steward in a directory of its own, and the other side of it: a keep with a software signer. */
#ifndef DONJON_TESTS_STEWARD_SUPPORT_H
#define DONJON_TESTS_STEWARD_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "steward.h"

enum { TEST_NOW = 1780000000 /* 2026-05-28 */ };

/* The keep's side. */
struct test_keep {
    struct attest_signer *signer;
    EVP_PKEY *key;
    char *chain;
    uint8_t workload[32], measurement[48];
};
void test_keep_make(struct test_keep *, int64_t at);
void test_keep_free(struct test_keep *);
/* Evidence over this key, workload and nonce, as a report. */
void test_keep_report(const struct test_keep *, EVP_PKEY *key, const uint8_t workload[32], struct attest_bytes nonce,
                      uint8_t report[ATTEST_SNP_REPORT]);
/* The extensions of an honest request. */
STACK_OF(X509_EXTENSION) *
    test_keep_extensions(const struct test_keep *, struct attest_bytes nonce, const char *const *names, size_t count);
/* DER of a request with these extensions, which are freed; free() the data. */
struct attest_bytes test_request(EVP_PKEY *key, STACK_OF(X509_EXTENSION) *);
/* An honest request for one name. */
struct attest_bytes test_keep_request(const struct test_keep *, struct attest_bytes nonce, const char *name);

/* A directory with ca.pem, ca-key.pem, policy.toml (this keep's measurement) and dev-root.pem, below TMPDIR; deleted by
 * test_directory_free(). */
void test_directory_make(const struct test_keep *, char path[64]);
void test_directory_free(const char *path);
/* `extra` goes into the [[issue]]. */
struct steward *test_steward_open(const char *directory, struct steward_settings *, const char *extra, int64_t now);

#endif
