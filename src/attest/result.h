/* Filling a result: every check is recorded with what was expected and what was found, passed or not. */
#ifndef DONJON_ATTEST_RESULT_H
#define DONJON_ATTEST_RESULT_H

#include <donjon/attest.h>

void result_start(struct attest_result *, int64_t now);
/* Sets genuine and accepted from the checks. */
void result_finish(struct attest_result *);

/* Records; returns ok. */
bool check(struct attest_result *, enum attest_rule, bool ok, struct attest_value expected, struct attest_value found);
/* Records a value the policy does not constrain. */
void note(struct attest_result *, enum attest_rule, struct attest_value found);
/* About the check recorded last: the policy's key it consulted (static or v_format()'s text), and, when it failed, what
 * to do about it. */
void concerns(struct attest_result *, const char *key);
void advise(struct attest_result *, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool check_bytes(struct attest_result *, enum attest_rule, const void *expected, const void *found, size_t);
void fact(struct attest_result *, const char *name, struct attest_value);
void fact_bytes(struct attest_result *, const char *name, const void *, size_t);
void fact_number(struct attest_result *, const char *name, uint64_t);
void fact_hex(struct attest_result *, const char *name, uint64_t);
void fact_text(struct attest_result *, const char *name, const char *, size_t); /* copies; makes it printable */

/* Values. `static` text is referred to, everything else is copied into the result. */
static inline struct attest_value v_none(void) {
    return (struct attest_value){.kind = ATTEST_NONE};
}
static inline struct attest_value v_text(const char *text) {
    return (struct attest_value){.kind = ATTEST_TEXT, .text = text};
}
static inline struct attest_value v_number(uint64_t n) {
    return (struct attest_value){.kind = ATTEST_NUMBER, .number = n};
}
static inline struct attest_value v_hex(uint64_t n) {
    return (struct attest_value){.kind = ATTEST_HEX, .number = n};
}
static inline struct attest_value v_time(int64_t t) {
    return (struct attest_value){.kind = ATTEST_TIME, .time = t};
}
static inline struct attest_value v_bool(bool b) {
    return (struct attest_value){.kind = ATTEST_BOOL, .number = b};
}
struct attest_value v_bytes(struct attest_result *, const void *, size_t);
struct attest_value v_format(struct attest_result *, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The verdict rests on something that ends at `t`. */
static inline void result_until(struct attest_result *r, int64_t t) {
    if (!r->valid_until || t < r->valid_until) r->valid_until = t;
}

#endif
