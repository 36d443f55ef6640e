#include "internal.h"
#include <stdarg.h>

/* String instructions: native ones are fast everywhere; emulated ones cost by the piece, so the pieces are large. */
void *memcpy(void *to, const void *from, size_t n) {
    void *d = to;
    size_t words = n / 8, rest = n % 8;
    __asm__ volatile("rep movsq" : "+D"(d), "+S"(from), "+c"(words)::"memory");
    __asm__ volatile("rep movsb" : "+D"(d), "+S"(from), "+c"(rest)::"memory");
    return to;
}

void *memset(void *to, int c, size_t n) {
    void *d = to;
    size_t words = n / 8, rest = n % 8;
    uint64_t pattern = (uint8_t)c * UINT64_C(0x0101010101010101);
    __asm__ volatile("rep stosq" : "+D"(d), "+c"(words) : "a"(pattern) : "memory");
    __asm__ volatile("rep stosb" : "+D"(d), "+c"(rest) : "a"(pattern) : "memory");
    return to;
}

int memcmp(const void *a, const void *b, size_t n) {
    const uint8_t *p = a, *q = b;
    for (size_t i = 0; i < n; i++)
        if (p[i] != q[i]) return p[i] - q[i];
    return 0;
}

struct text {
    char *at, *end; /* end: where the terminator must fit */
};

static void put(struct text *t, char c) {
    if (t->at < t->end) *t->at++ = c;
}

static void put_number(struct text *t, uint64_t n, unsigned base) {
    char digits[20];
    unsigned i = 0;
    do
        digits[i++] = "0123456789abcdef"[n % base];
    while (n /= base);
    while (i)
        put(t, digits[--i]);
}

static void format_va(char *to, size_t size, const char *text, va_list args) {
    struct text t = {to, to + size - 1};
    for (const char *p = text; *p; p++) {
        if (*p != '%') {
            put(&t, *p);
            continue;
        }
        switch (*++p) {
        case 's':
            for (const char *s = va_arg(args, const char *); *s; s++)
                put(&t, *s);
            break;
        case 'x': put_number(&t, va_arg(args, uint64_t), 16); break;
        case 'u': put_number(&t, va_arg(args, uint64_t), 10); break;
        default: put(&t, *p);
        }
    }
    *t.at = 0;
}

void format(char *to, size_t size, const char *text, ...) {
    va_list args;
    va_start(args, text);
    format_va(to, size, text, args);
    va_end(args);
}

void host_log(const char *text, ...) {
    if (!debug) return;
    char *to = (char *)host_transfer();
    enum { LINE = 200 };
    va_list args;
    va_start(args, text);
    format_va(to, LINE, text, args);
    va_end(args);
    size_t n = 0;
    while (n < LINE && ((volatile char *)to)[n])
        n++;
    host_call(SHIM_LOG, n, 0);
}
