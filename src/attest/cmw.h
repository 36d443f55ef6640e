/* One record of a conceptual message wrapper (RFC 9999, section 3). */
#ifndef DONJON_ATTEST_CMW_H
#define DONJON_ATTEST_CMW_H

#include "reader.h"

struct json_t;

/* Bits of the indicator. */
enum { CMW_REFERENCE_VALUES = 1, CMW_ENDORSEMENTS = 2, CMW_EVIDENCE = 4, CMW_RESULTS = 8, CMW_POLICY = 16 };

struct cmw_record {
    struct attest_bytes type;  /* media type; empty when a number was given */
    uint64_t number;           /* CoAP content format */
    struct attest_bytes value; /* CBOR: a span; JSON: allocated */
    uint64_t indicator;        /* 0: absent */
};

bool cmw_cbor_record(struct reader *, struct cmw_record *);
bool cmw_json_record(const struct json_t *, struct cmw_record *);

#endif
