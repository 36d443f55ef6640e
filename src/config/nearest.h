/* "did you mean": the word of a list that somebody most likely meant. */
#ifndef DONJON_NEAREST_H
#define DONJON_NEAREST_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The nearest of `n` words to word[0..len) by edit distance (insert, delete, replace, swap neighbours; case counts
 * half), or NULL when none is near: more than a third of the letters are wrong. Words longer than 63 bytes are never
 * near. */
const char *nearest_word(const char *word, size_t len, const char *const *words, size_t n);

#ifdef __cplusplus
}
#endif
#endif
