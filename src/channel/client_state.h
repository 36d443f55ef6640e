/* Between client.c and appraise.c. */
#ifndef DONJON_CHANNEL_CLIENT_STATE_H
#define DONJON_CHANNEL_CLIENT_STATE_H

#include "client.h"
#include "link.h"

enum { CHANNEL_WORKLOADS_MAX = 64 };

struct channel_client {
    struct channel_io io;
    struct channel_tls *tls;
    struct channel_link *link;
    bool failed, accepted, opened, has_delivered;
    uint8_t state;   /* enum channel_state */
    uint64_t credit; /* bytes of STDIN */
    uint8_t nonce[CHANNEL_NONCE], report_data[CHANNEL_REPORT_DATA];
    uint8_t digest[CHANNEL_DIGEST], delivered[CHANNEL_DIGEST];
    uint8_t *evidence; /* and the endorsements behind it */
    size_t evidence_size, endorsements_size;
    uint8_t workloads[CHANNEL_WORKLOADS_MAX * CHANNEL_DIGEST]; /* those that the policy names */
    size_t n_workloads;
    char error[512];
};

/* Notes the first failure; false. */
bool channel_client_failed(struct channel_client *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool channel_client_allowed(const struct channel_client *c, const uint8_t digest[CHANNEL_DIGEST]);

#endif
