/* Text for messages, without stdio: writes into the caller's buffer, always ends it with NUL, cuts what does not fit.
 * With `grow` the buffer is the platform's (NULL at first, to be freed by its realloc) and grows as long as memory
 * lasts. */
#ifndef DONJON_WASM_TEXT_H
#define DONJON_WASM_TEXT_H

#include <stdarg.h>
#include <stddef.h>

struct donjon_platform;
struct functype;

struct text {
    char *out;
    size_t size, used; /* used < size, the NUL not counted */
    const struct donjon_platform *grow;
};

/* Appends. Knows %s, %.*s, %u, %llu, %x and %%. */
void text_vformat(struct text *t, const char *format, va_list args);
void text_format(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Appends bytes of foreign origin: quotes, control characters and what is not ASCII become `?`, cut after `max`. */
void text_foreign(struct text *t, const unsigned char *data, size_t size, size_t max);

/* "(i32, i64) -> f32"; several results or none in parentheses. */
void text_functype(struct text *t, const struct functype *f);

#endif
