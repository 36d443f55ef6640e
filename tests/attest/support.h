/* What the tests of the Verifier share: the vectors, and one-line appraisals of them. */
#ifndef DONJON_TESTS_ATTEST_SUPPORT_H
#define DONJON_TESTS_ATTEST_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include <donjon/attest.h>

/* Path below the vectors; static storage, a few calls deep. */
const char *vector_path(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Skips the program (77) when the vectors are not there. */
void need_vectors(void);
/* The file, or size 0 when it does not exist; free() the data. */
struct attest_bytes load(const char *path);
json_t *load_json(const char *path);
int64_t parse_time(const char *);

/* A verifier with the file(s) of a directory as endorsements (certificates, CRLs, collateral). */
struct attest_verifier *verifier_with(const char *directory);
bool add_file(struct attest_verifier *, const char *path);
/* Everything fails that has this rule failed; null: no rule failed. */
bool failed_rule(const struct attest_result *, const char *rule);
const char *reason_name(const struct attest_result *);
/* Opens and appraises; evidence that cannot be opened is a rejection with reason "format.evidence". */
void appraise(struct attest_verifier *, struct attest_bytes evidence, const struct attest_policy *, int64_t now,
              struct attest_result *);
void appraise_file(struct attest_verifier *, const char *path, const struct attest_policy *, int64_t now,
                   struct attest_result *);
/* The result as a tree on stderr, when a test is about to fail. */
void show(const char *what, const struct attest_result *);
char *text_fact(const struct attest_result *, const char *name); /* static; "" when absent */

#endif
