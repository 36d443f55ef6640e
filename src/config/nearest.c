#include "nearest.h"
#include <string.h>

enum { WORD_MAX = 63, STEP = 2 }; /* a whole edit costs STEP, another case of the same letter half of it */

static unsigned min(unsigned a, unsigned b) {
    return a < b ? a : b;
}
static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

static unsigned replace_cost(char a, char b) {
    if (a == b) return 0;
    return lower(a) == lower(b) ? STEP / 2 : STEP;
}

/* Damerau-Levenshtein distance with adjacent swaps, over three rows. */
static unsigned distance(const char *a, size_t n, const char *b, size_t m) {
    unsigned rows[3][WORD_MAX + 1];
    unsigned *before = rows[0], *above = rows[1], *row = rows[2];
    for (size_t j = 0; j <= m; j++)
        above[j] = STEP * (unsigned)j;
    for (size_t i = 1; i <= n; i++) {
        row[0] = STEP * (unsigned)i;
        for (size_t j = 1; j <= m; j++) {
            row[j] = min(above[j - 1] + replace_cost(a[i - 1], b[j - 1]), min(above[j], row[j - 1]) + STEP);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = min(row[j], before[j - 2] + STEP);
        }
        unsigned *free_row = before;
        before = above;
        above = row;
        row = free_row;
    }
    return above[m];
}

const char *nearest_word(const char *word, size_t len, const char *const *words, size_t n) {
    const char *best = NULL;
    unsigned least = 0;
    if (!len || len > WORD_MAX) return NULL;
    for (size_t i = 0; i < n; i++) {
        size_t m = strlen(words[i]);
        if (m > WORD_MAX) continue;
        unsigned d = distance(word, len, words[i], m);
        unsigned allowed = STEP * (unsigned)((len > m ? len : m) + 2) / 3;
        if (d <= allowed && (!best || d < least)) {
            best = words[i];
            least = d;
        }
    }
    return best;
}
