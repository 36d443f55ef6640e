#ifndef DONJON_ATTEST_LOOK_H
#define DONJON_ATTEST_LOOK_H

#include "result.h"

#define LOOK_UNKNOWN "no evidence recognised"

struct look {
    int depth;
    char what[300], advice[400];
};

void look_at(struct attest_bytes, struct look *);
void look_say(struct look *, const char *advice, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
