/* Differential testing without libFuzzer: diff_random [--mutate | --tiers] [RUNS [FIRST]] makes RUNS (1000) modules
 * from the numbers FIRST, FIRST + 1, ... (1), runs them in both engines and compares. With --mutate a few bytes of each
 * are changed and the engines need to agree only on whether it is valid. With --tiers native code, made function by
 * function and ahead of time, also while it is interrupted wherever it can be, is compared with our own interpreter.
 * Modules that differ are left in diff-NUMBER.wasm. Exit 77 without a second engine. diff_random --reduce NUMBER looks
 * for a smaller module that differs. */
#include "gen.h"
#include "outcome.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEED_MAX = 12000, KINDS = OUTCOME_OTHER + 1 };

/* Bytes from a number (xorshift64*). */
static size_t seed_make(uint64_t number, uint8_t seed[SEED_MAX]) {
    uint64_t x = number * 0x9e3779b97f4a7c15u + 1;
    for (size_t i = 0; i < SEED_MAX; i++) {
        x ^= x >> 12, x ^= x << 25, x ^= x >> 27;
        seed[i] = (uint8_t)(x * 0x2545f4914f6cdd1du >> 56);
    }
    return 64 + x % (SEED_MAX - 64);
}

/* Changes one to three bytes, mostly by a bit. */
static void mutate(uint8_t *module, size_t n, const uint8_t *random) {
    for (unsigned k = 0; k < 1u + random[0] % 3; k++) {
        const uint8_t *r = random + 1 + 5 * k;
        size_t at = 8 + ((size_t)r[0] << 16 | r[1] << 8 | r[2]) % (n - 8);
        module[at] = r[3] % 2 ? r[4] : module[at] ^ (uint8_t)(1u << r[4] % 8);
    }
}

static bool mutating, tiers;

/* Makes the module of a seed, runs it in both; false when they differ, `text` then says where. */
static bool agree(const uint8_t *seed, size_t n, unsigned features, uint8_t *module, size_t *size, struct outcome *here,
                  char text[512]) {
    static struct outcome there;
    *size = gen_module(seed, n, features, module);
    if (!*size) return true;
    if (mutating) mutate(module, *size, seed + SEED_MAX - 16);
    (mutating ? outcome_here_valid : outcome_here)(module, *size, here);
    if (tiers) {
        outcome_interpreted(module, *size, &there);
        if (!outcome_compare(here, &there, text, 512)) return false;
        outcome_ahead(module, *size, &there);
        if (!outcome_compare(here, &there, text, 512)) return false;
        outcome_checked(module, *size, &there);
        if (!outcome_compare(here, &there, text, 512)) return false;
        outcome_attended(module, *size, &there);
        if (!outcome_compare(here, &there, text, 512)) return false;
        outcome_attended_checked(module, *size, &there);
        if (!outcome_compare(here, &there, text, 512)) return false;
        outcome_mixed(module, *size, &there);
        for (uint32_t k = 0; k < there.n; k++)
            if (there.records[k].kind == OUTCOME_OTHER) return true; /* the interpreter had no memory either */
        return outcome_compare(here, &there, text, 512);
    }
    if (!(mutating ? outcome_node_valid : outcome_node)(module, *size, &there)) {
        fprintf(stderr, "the second engine died\n");
        exit(1);
    }
    return outcome_compare(here, &there, text, 512);
}

static void leave(uint64_t number, const uint8_t *module, size_t size, const char *text) {
    char name[64];
    printf("%llu: %s\n", (unsigned long long)number, text);
    snprintf(name, sizeof name, "diff-%llu.wasm", (unsigned long long)number);
    FILE *f = fopen(name, "wb");
    if (f) fwrite(module, 1, size, f), fclose(f);
}

static bool compare_one(uint64_t number, unsigned features, unsigned long kinds[KINDS]) {
    static uint8_t seed[SEED_MAX], module[GEN_MODULE_MAX];
    static struct outcome here;
    char text[512];
    size_t size;
    bool same = agree(seed, seed_make(number, seed), features, module, &size, &here, text);
    for (uint32_t i = 0; i < here.n; i++)
        kinds[here.records[i].kind]++;
    if (!same) leave(number, module, size, text);
    return same;
}

/* Cuts pieces out of the seed and zeroes others for as long as the engines differ and the module shrinks. */
static int reduce(uint64_t number, unsigned features) {
    static uint8_t seed[SEED_MAX], tried[SEED_MAX], module[GEN_MODULE_MAX];
    static struct outcome here;
    char text[512];
    size_t n = seed_make(number, seed), size, best;
    if (agree(seed, n, features, module, &best, &here, text)) return 1;
    for (size_t piece = n / 2; piece; piece = piece > 1 ? piece * 2 / 3 : 0) {
        for (size_t at = 0; at + piece <= n;) {
            memcpy(tried, seed, at);
            memcpy(tried + at, seed + at + piece, n - at - piece);
            if (!agree(tried, n - piece, features, module, &size, &here, text) && size <= best) {
                memcpy(seed, tried, n -= piece), best = size;
                continue;
            }
            memcpy(tried, seed, n), memset(tried + at, 0, piece);
            if (!agree(tried, n, features, module, &size, &here, text) && size < best)
                memcpy(seed, tried, n), best = size;
            at += piece;
        }
    }
    agree(seed, n, features, module, &size, &here, text);
    leave(number, module, size, text);
    return 0;
}

int main(int argc, char **argv) {
    static const char *const names[KINDS] = {"values",   "unreachable", "memory",        "division by zero",
                                             "overflow", "table",       "indirect call", "null",
                                             "stack",    "exceptions",  "invalid",       "other"};
    mutating = argc > 1 && !strcmp(argv[1], "--mutate");
    tiers = argc > 1 && !strcmp(argv[1], "--tiers");
    argc -= mutating || tiers, argv += mutating || tiers;
    unsigned long runs = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000,
                  first = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;
    unsigned long differ = 0, kinds[KINDS] = {0};
    unsigned features = GEN_ALL;
    if (!tiers && !node_start(&features)) {
        puts("SKIP: no Node, no second engine");
        return 77;
    }
    if (argc == 3 && !strcmp(argv[1], "--reduce")) return reduce(strtoul(argv[2], NULL, 10), features);
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (unsigned long i = 0; i < runs; i++)
        differ += !compare_one(first + i, features, kinds);
    for (int k = 0; k < KINDS; k++)
        printf("%s%s %lu", k ? ", " : "", names[k], kinds[k]);
    printf("\n%lu modules, features %#x: %lu agree, %lu differ\n", runs, features, runs - differ, differ);
    return differ != 0;
}
