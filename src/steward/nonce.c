/* Nonces: LE64 time, 8 random bytes, the first 16 bytes of HMAC-SHA256 over both. */
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include "steward.h"

enum { TIME_SIZE = 8, RANDOM_SIZE = 8, TAG_SIZE = 16, BODY_SIZE = TIME_SIZE + RANDOM_SIZE };

static bool tag_of(const struct steward_nonces *n, const uint8_t *nonce, uint8_t tag[32]) {
    unsigned size = 0;
    return HMAC(EVP_sha256(), n->key, sizeof n->key, nonce, BODY_SIZE, tag, &size) && size == 32;
}

bool steward_nonces_init(struct steward_nonces *n, int64_t lifetime) {
    memset(n, 0, sizeof *n);
    n->lifetime = lifetime;
    return RAND_bytes(n->key, sizeof n->key) == 1;
}

bool steward_nonce_make(struct steward_nonces *n, int64_t now, uint8_t nonce[STEWARD_NONCE]) {
    uint8_t tag[32];
    for (int i = 0; i < TIME_SIZE; i++)
        nonce[i] = (uint8_t)((uint64_t)now >> 8 * i);
    if (RAND_bytes(nonce + TIME_SIZE, RANDOM_SIZE) != 1 || !tag_of(n, nonce, tag)) return false;
    memcpy(nonce + BODY_SIZE, tag, TAG_SIZE);
    return true;
}

static int64_t time_in(const uint8_t *nonce) {
    uint64_t t = 0;
    for (int i = 0; i < TIME_SIZE; i++)
        t |= (uint64_t)nonce[i] << 8 * i;
    return (int64_t)t;
}

static void forget_stale(struct steward_nonces *n, int64_t now) {
    size_t kept = 0;
    for (size_t i = 0; i < n->used_count; i++)
        if (n->used[i].until >= now) n->used[kept++] = n->used[i];
    n->used_count = kept;
}

bool steward_nonce_is_ours(const struct steward_nonces *n, struct attest_bytes nonce) {
    uint8_t tag[32];
    return nonce.size == STEWARD_NONCE && tag_of(n, nonce.data, tag) &&
           CRYPTO_memcmp(tag, nonce.data + BODY_SIZE, TAG_SIZE) == 0;
}

bool steward_nonce_fresh(const struct steward_nonces *n, struct attest_bytes nonce, int64_t now,
                         struct steward_reason *why) {
    int64_t age = now - time_in(nonce.data);
    return (age >= 0 && age <= n->lifetime) ||
           steward_because(why, "nonce.stale", "expected one not older than %lld s, found %lld s",
                           (long long)n->lifetime, (long long)age);
}

bool steward_nonce_check(struct steward_nonces *n, struct attest_bytes nonce, int64_t now, struct steward_reason *why) {
    if (nonce.size != STEWARD_NONCE)
        return steward_because(why, "nonce.malformed", "expected %d bytes, found %zu", STEWARD_NONCE, nonce.size);
    if (!steward_nonce_is_ours(n, nonce))
        return steward_because(why, "nonce.foreign", "not a nonce of this steward since it started");
    if (!steward_nonce_fresh(n, nonce, now, why)) return false;
    for (size_t i = 0; i < n->used_count; i++)
        if (!memcmp(n->used[i].nonce, nonce.data, STEWARD_NONCE))
            return steward_because(why, "nonce.used", "this nonce was answered before");
    return true;
}

bool steward_nonce_spend(struct steward_nonces *n, struct attest_bytes nonce, int64_t now, struct steward_reason *why) {
    if (n->used_count == NONCES_USED_MAX) forget_stale(n, now);
    if (n->used_count == NONCES_USED_MAX)
        return steward_because(why, "nonce.room", "more than %d certificates within the life of a nonce",
                               NONCES_USED_MAX);
    memcpy(n->used[n->used_count].nonce, nonce.data, STEWARD_NONCE);
    n->used[n->used_count++].until = time_in(nonce.data) + n->lifetime;
    return true;
}
