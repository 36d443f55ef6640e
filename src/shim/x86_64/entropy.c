/* Random numbers: HMAC_DRBG (drbg.h), seeded from the CPU's RDSEED or RDRAND and what the host offers (which can only
 * add). The CPU's numbers are checked as SP 800-90B, 4.4 wants it: a source that repeats itself ends the keep. */
#include "drbg.h"
#include "internal.h"

enum { TRIES = 100, SEEDS = 4, SEED_WORDS = 16, OFFERED = 64 };
static struct drbg state;
bool cpu_has_rdseed;

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

static void forget(void *p, size_t size) {
    memset(p, 0, size);
    __asm__ volatile("" ::"r"(p) : "memory");
}

void entropy_init(const uint8_t offered[OFFERED]) {
    struct {
        uint64_t words[SEED_WORDS], tsc;
        uint8_t offered[OFFERED];
    } seed;
    for (int i = 0; i < SEED_WORDS; i++)
        seed.words[i] = cpu_word(i < SEEDS); /* SEEDS words: 256 bits of full entropy */
    seed.tsc = rdtsc();
    memcpy(seed.offered, offered, OFFERED);
    drbg_start(&state, &seed, sizeof seed);
    forget(&seed, sizeof seed);
}

/* Small requests share one of the generator's: each byte is given once, and gone. */
static bool take_small(void *to, size_t size) {
    enum { POOL = 128, SMALL = 32 };
    static uint8_t pool[POOL];
    static size_t left;
    if (size > SMALL) return false;
    if (left < size) {
        uint64_t fresh = cpu_word(false);
        drbg_generate(&state, &fresh, sizeof fresh, pool, POOL);
        left = POOL;
    }
    left -= size;
    memcpy(to, pool + left, size);
    forget(pool + left, size);
    return true;
}

void entropy_fill(void *to, size_t size) {
    uint8_t *p = to;
    if (take_small(to, size)) return;
    while (size > 0) {
        size_t n = size < DRBG_MOST ? size : DRBG_MOST;
        uint64_t fresh = cpu_word(false);
        drbg_generate(&state, &fresh, sizeof fresh, p, n);
        p += n;
        size -= n;
    }
}

int64_t sys_getrandom(uint64_t to, uint64_t size, uint64_t flags) {
    enum { GRND_ALL = 7, MOST = 1 << 20 };
    if (flags & ~(uint64_t)GRND_ALL) return -EINVAL;
    if (size > MOST) size = MOST;
    if (!user_ok(to, size, true)) return -EFAULT;
    entropy_fill((void *)to, size);
    return (int64_t)size;
}
