/* What the verbs of donjon-attest share. */
#ifndef DONJON_CLI_ATTEST_H
#define DONJON_CLI_ATTEST_H

#include <donjon/attest.h>

#include "options.h"
#include "verbs.h"

enum { EVIDENCE_MAX = 16 << 20, COLLATERAL_MAX = 4 << 20 };

/* Reads or says why not. */
bool attest_read(const struct cli_verb *, const char *path, struct attest_bytes *);
/* Adds a file, or a directory with its files and those one level deeper; files that hold nothing known are passed over.
 * False, said, when it cannot be read. */
bool attest_add_path(const struct cli_verb *, struct attest_verifier *, const char *path);
/* $XDG_CACHE_HOME/donjon/collateral, or below ~/.cache. False: neither is known. */
bool attest_cache_dir(char *out, size_t size);
bool attest_parse_time(const char *, int64_t *);

/* The certificate of a TLS server, PEM in memory from malloc; said when it fails. */
bool attest_fetch_certificate(const struct cli_verb *, const char *url, struct attest_bytes *pem);

struct fetched {
    char *body;
    size_t size;
    char *issuer_chain; /* PEM, from Intel's headers; null otherwise */
    long status;
    long retry_after;
    char error[256];
};
/* One GET; false with error. free() body and issuer_chain. */
bool attest_http_get(const char *url, struct fetched *);

int main_inspect_evidence(struct cli_args *);

#endif
