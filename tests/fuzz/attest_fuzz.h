/* What the Verifier's fuzz targets share: a verifier, a result, and the promise that no allocation exceeds 64 times the
 * input (or a floor for what any input costs: our own objects, OpenSSL's). */
#ifndef DONJON_FUZZ_ATTEST_H
#define DONJON_FUZZ_ATTEST_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <donjon/attest.h>

#include "evidence.h"
#include "policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ALLOCATION_FACTOR = 64, ALLOCATION_FLOOR = 64 * 1024 };

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FUZZ_COUNTS_ALLOCATIONS
#include <sanitizer/allocator_interface.h>
#endif
#endif

#ifdef FUZZ_COUNTS_ALLOCATIONS
static size_t fuzz_allowed = SIZE_MAX;
static void fuzz_on_malloc(const volatile void *p, size_t size) {
    (void)p;
    if (size > fuzz_allowed) {
        fuzz_allowed = SIZE_MAX; /* abort() allocates */
        abort();
    }
}
static void fuzz_on_free(const volatile void *p) {
    (void)p;
}
static void fuzz_begin(size_t size) {
    static bool installed;
    if (!installed) installed = __sanitizer_install_malloc_and_free_hooks(fuzz_on_malloc, fuzz_on_free) > 0;
    fuzz_allowed = size > ALLOCATION_FLOOR / ALLOCATION_FACTOR ? size * ALLOCATION_FACTOR : ALLOCATION_FLOOR;
}
static void fuzz_end(void) {
    fuzz_allowed = SIZE_MAX;
}
#else
static void fuzz_begin(size_t size) {
    (void)size;
}
static void fuzz_end(void) {}
#endif

/* Some time at which much of the corpus is valid. */
#define FUZZ_NOW 1772668800

static struct attest_result fuzz_result;

static struct attest_verifier *fuzz_verifier(void) {
    static struct attest_verifier *v;
    if (!v) v = attest_verifier_new();
    return v;
}

/* A result must hold together and be showable, whatever it was made of. */
static inline void fuzz_show(void) {
    struct attest_text text = {0};
    fuzz_end(); /* output is proportional to the result, not to the input */
    if (fuzz_result.accepted && (!fuzz_result.genuine || fuzz_result.failed)) abort();
    attest_print_tree(&fuzz_result, true, true, &text);
    free(text.data);
    free(attest_print_json(&fuzz_result));
}

/* What one opener makes of the bytes, appraised. */
static inline void fuzz_evidence(const uint8_t *data, size_t size,
                                 bool (*open)(struct opening *, struct attest_bytes)) {
    char error[300] = "";
    struct attest_verifier *v = fuzz_verifier();
    fuzz_begin(size);
    struct attest_evidence *e = calloc(1, sizeof *e);
    struct opening o = {.e = e, .error = error, .error_size = sizeof error};
    if (size && e && open(&o, (struct attest_bytes){data, size})) {
        attest_verify(v, e, NULL, FUZZ_NOW, &fuzz_result);
        fuzz_show();
        attest_inspect(v, e, &fuzz_result);
        fuzz_show();
    } else { /* what it may be instead */
        attest_reject_unopened((struct attest_bytes){data, size}, error, FUZZ_NOW, &fuzz_result);
        fuzz_show();
    }
    fuzz_end();
    attest_evidence_free(e);
}

/* The bytes as a report of one kind, past the recognition. */
static inline void fuzz_report(const uint8_t *data, size_t size, enum attest_tee tee) {
    struct attest_verifier *v = fuzz_verifier();
    fuzz_begin(size);
    struct attest_evidence *e = calloc(1, sizeof *e);
    if (e && set_bytes(&e->report, (struct attest_bytes){data, size})) {
        e->tee = tee;
        attest_verify(v, e, NULL, FUZZ_NOW, &fuzz_result);
        fuzz_show();
        attest_inspect(v, e, &fuzz_result);
        fuzz_show();
        char *urls[8];
        size_t n = attest_collateral_urls(v, e, urls, 8);
        while (n)
            free(urls[--n]);
    }
    fuzz_end();
    attest_evidence_free(e);
}

#endif
