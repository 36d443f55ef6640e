/* When a keep's certificate is made anew: at two thirds of its life, and again, later and later, while that fails. The
 * old one stays until then. Nothing here waits: `renewal_turn` is to be called now and then. */
#ifndef DONJON_WARDEN_RENEWAL_H
#define DONJON_WARDEN_RENEWAL_H

#include "identity.h"

enum {
    RENEWAL_ATTEMPT = 60,    /* seconds that all of one attempt may take */
    RENEWAL_AGAIN = 5,       /* from a first failure to the next attempt; then twice as long each time, */
    RENEWAL_AGAIN_MOST = 600 /* up to this, or a quarter of the life that is left; and a random quarter more */
};

struct renewal {
    const struct config *config;
    const uint8_t *workload;
    const struct identity_host *host;
    struct identity_making making;
    bool under_way;
    unsigned failed;       /* attempts in a row */
    int64_t since, resume; /* when the attempt began, or the last failed; and when it is to be tried again */
};

enum renewal_event { RENEWAL_NOTHING, RENEWAL_MADE, RENEWAL_FAILED, RENEWAL_REFUSED /* as in enum identity_state */ };

/* What has happened with *id (zeroed: there is none so far), by the clock of certificates; what is new is begun when it
 * is time. RENEWAL_MADE: *id is the new one, the old one is freed. Otherwise *id is as it was. */
enum renewal_event renewal_turn(struct renewal *r, struct identity *id, int64_t now, char *error, size_t size);

/* Seconds from `now` until something is to be done; more often does no harm. */
int64_t renewal_wait(const struct renewal *r, const struct identity *id, int64_t now);

#endif
