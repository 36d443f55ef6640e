/* Random numbers: a hash DRBG in the manner of NIST SP 800-90A, 10.1.1, over SHA-256, seeded from the CPU's RDSEED or
 * RDRAND and what the host offers (which can only add). The CPU's numbers are checked as SP 800-90B, 4.4 wants it: a
 * source that repeats itself ends the keep. */
#include "internal.h"
#include "sha256.h"

enum { DIGEST = 32, TRIES = 100, SEEDS = 4, SEED_WORDS = 32 };
static uint8_t state[DIGEST];
static uint64_t requests;
bool cpu_has_rdseed;

struct hash {
    uint32_t h[8];
    uint64_t total;
    uint8_t buffer[64];
};

static void hash_start(struct hash *s) {
    *s = (struct hash){.h = SHA256_INITIAL};
}

static void hash_add(struct hash *s, const void *data, size_t n) {
    const uint8_t *p = data;
    for (size_t i = 0; i < n; i++) {
        s->buffer[s->total++ % 64] = p[i];
        if (s->total % 64 == 0) sha256_blocks_plain(s->h, s->buffer, 1);
    }
}

static bool rdrand(uint64_t *x) {
    bool ok;
    __asm__ volatile("rdrand %0" : "=r"(*x), "=@ccc"(ok));
    return ok;
}

static bool rdseed(uint64_t *x) {
    bool ok;
    __asm__ volatile("rdseed %0" : "=r"(*x), "=@ccc"(ok));
    return ok;
}

/* One word of the CPU's, checked; RDSEED's are the better and the dearer ones. */
static uint64_t cpu_word(bool seed) {
    static uint64_t last;
    uint64_t x;
    for (int i = 0; i < TRIES; i++) {
        if (!(seed && cpu_has_rdseed && i < TRIES / 2 ? rdseed(&x) : rdrand(&x))) {
            __asm__ volatile("pause");
            continue;
        }
        if (x == last || x == 0 || x == ~UINT64_C(0)) crash(NULL, 0, "the CPU's random numbers repeat themselves");
        last = x;
        return x;
    }
    crash(NULL, 0, "the CPU gives no random numbers");
}

void entropy_init(const uint8_t offered[64]) {
    struct hash s;
    hash_start(&s);
    for (int i = 0; i < SEED_WORDS; i++) {
        uint64_t x = cpu_word(i < SEEDS); /* SEEDS words: 256 bits of full entropy */
        hash_add(&s, &x, sizeof x);
    }
    uint64_t tsc = rdtsc();
    hash_add(&s, &tsc, sizeof tsc);
    hash_add(&s, offered, 64);
    sha256_end(s.h, s.buffer, s.total, state);
}

/* The state with a purpose and a number; different purposes give unrelated digests. */
static void derive(uint8_t purpose, uint64_t number, uint8_t out[DIGEST]) {
    struct hash s;
    hash_start(&s);
    hash_add(&s, &purpose, 1);
    hash_add(&s, &number, sizeof number);
    hash_add(&s, state, sizeof state);
    sha256_end(s.h, s.buffer, s.total, out);
}

void entropy_fill(void *to, size_t size) {
    uint8_t *p = to, block[DIGEST];
    for (uint64_t i = 0; size > 0; i++) {
        derive(1, i, block);
        size_t n = size < DIGEST ? size : DIGEST;
        memcpy(p, block, n);
        p += n;
        size -= n;
    }
    derive(2, requests++ ^ cpu_word(false), block); /* backtracking resistance, and something fresh each time */
    memcpy(state, block, DIGEST);
    memset(block, 0, sizeof block);
    __asm__ volatile("" ::"r"(block) : "memory");
}

int64_t sys_getrandom(uint64_t to, uint64_t size, uint64_t flags) {
    enum { GRND_ALL = 7, MOST = 1 << 20 };
    if (flags & ~(uint64_t)GRND_ALL) return -EINVAL;
    if (size > MOST) size = MOST;
    if (!user_ok(to, size, true)) return -EFAULT;
    entropy_fill((void *)to, size);
    return (int64_t)size;
}
