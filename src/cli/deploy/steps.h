/* What `deploy` shows while it works: each step when it has happened. On a terminal a line each; with --json a JSON
 * object each; else only what must not be missed. All on standard error: standard output is the program's. */
#ifndef DONJON_CLI_DEPLOY_STEPS_H
#define DONJON_CLI_DEPLOY_STEPS_H

#include <stdbool.h>
#include <stdint.h>

#include <donjon/attest.h>

struct steps {
    bool json, quiet, shown; /* shown: lines for people are wanted */
    bool colour, open;       /* open: a line of progress is not finished yet */
};
void steps_init(struct steps *, bool json, bool quiet);

/* step("keep", true, "keep built: kvm", ...): a name for programs, a line for people. */
void steps_say(struct steps *, const char *step, bool ok, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* The appraisal, one line for each group of checks that was made, then the reason if it failed. */
void steps_appraisal(struct steps *, const struct attest_result *);
/* So many bytes of so many are delivered; rewrites its line. */
void steps_delivering(struct steps *, uint64_t done, uint64_t all);
/* In red, always. */
void steps_no_tee(struct steps *, const char *backend);

#endif
