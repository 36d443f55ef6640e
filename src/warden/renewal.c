#include "renewal.h"
#include <openssl/rand.h>
#include <stdio.h>

/* Many keeps began together, and their steward has come back: they are not to ask all at once. */
static int64_t with_jitter(int64_t seconds) {
    uint16_t random = 0;
    (void)RAND_bytes((uint8_t *)&random, sizeof random);
    return seconds + (seconds * random >> 18); /* up to a quarter */
}

static int64_t pause_after(const struct renewal *r, const struct identity *id, int64_t now) {
    if (!id->certificate) return r->failed; /* the keep has not begun: 1, 2, ... seconds */
    int64_t left = (id->ends - now) / 4, pause = RENEWAL_AGAIN;
    for (unsigned i = 1; i < r->failed && pause < RENEWAL_AGAIN_MOST; i++)
        pause *= 2;
    if (pause > RENEWAL_AGAIN_MOST) pause = RENEWAL_AGAIN_MOST;
    if (left > 0 && pause > left) pause = left < RENEWAL_AGAIN ? RENEWAL_AGAIN : left;
    return with_jitter(pause);
}

/* The time of the next attempt. A clock that was set back since the last does not put it off. */
static int64_t next(const struct renewal *r, const struct identity *id, int64_t now) {
    if (r->failed) return now < r->since ? now : r->resume;
    return id->certificate ? id->renew_at : now;
}

static enum identity_state go_on(struct renewal *r, int64_t now, char *error, size_t size) {
    enum identity_state state = identity_go_on(&r->making, r->config, r->workload, r->host, now, error, size);
    if (state != IDENTITY_WAITS || (now >= r->since && now - r->since < RENEWAL_ATTEMPT)) return state;
    identity_give_up(&r->making, r->host);
    snprintf(error, size, "the host has brought no answer of the steward's within %d s", RENEWAL_ATTEMPT);
    return IDENTITY_FAILED;
}

static enum identity_state begin(struct renewal *r, int64_t now, char *error, size_t size) {
    r->since = now;
    return identity_begin(&r->making, r->config, r->workload, r->host, now, error, size);
}

enum renewal_event renewal_turn(struct renewal *r, struct identity *id, int64_t now, char *error, size_t size) {
    if (!r->under_way && now < next(r, id, now)) return RENEWAL_NOTHING;
    enum identity_state state = r->under_way ? go_on(r, now, error, size) : begin(r, now, error, size);
    r->under_way = state == IDENTITY_WAITS;
    if (r->under_way) return RENEWAL_NOTHING;
    if (state == IDENTITY_READY) {
        identity_free(id);
        *id = r->making.id;
        r->making.id = (struct identity){0};
        r->failed = 0;
        return RENEWAL_MADE;
    }
    r->failed++;
    r->since = now;
    r->resume = now + pause_after(r, id, now);
    return state == IDENTITY_REFUSED ? RENEWAL_REFUSED : RENEWAL_FAILED;
}

int64_t renewal_wait(const struct renewal *r, const struct identity *id, int64_t now) {
    int64_t at = r->under_way ? r->since + RENEWAL_ATTEMPT : next(r, id, now);
    return at > now ? at - now : 0;
}
