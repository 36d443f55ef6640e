#include "text.h"
#include "types.h"
#include "donjon/platform.h"

static bool grow(struct text *t) {
    if (!t->grow) return false;
    size_t size = t->size ? 2 * t->size : 256;
    char *out = t->grow->realloc(t->grow->ctx, t->out, size);
    if (!out) return false;
    t->out = out;
    t->size = size;
    return true;
}

static void put(struct text *t, char c) {
    if (t->used + 1 >= t->size && !grow(t)) return;
    t->out[t->used++] = c;
    t->out[t->used] = 0;
}

static void put_number(struct text *t, unsigned long long n, unsigned base) {
    char digits[20];
    unsigned i = 0;
    do {
        digits[i++] = "0123456789abcdef"[n % base];
        n /= base;
    } while (n);
    while (i)
        put(t, digits[--i]);
}

static void put_string(struct text *t, const char *s, size_t max) {
    for (size_t i = 0; i < max && s[i]; i++)
        put(t, s[i]);
}

void text_vformat(struct text *t, const char *f, va_list args) {
    if (t->size) t->out[t->used] = 0;
    for (; *f; f++) {
        if (*f != '%') {
            put(t, *f);
            continue;
        }
        switch (*++f) {
        case 's': put_string(t, va_arg(args, const char *), (size_t)-1); break;
        case '.': { /* %.*s */
            int max = va_arg(args, int);
            put_string(t, va_arg(args, const char *), max < 0 ? 0 : (size_t)max);
            f += 2;
            break;
        }
        case 'u': put_number(t, va_arg(args, unsigned), 10); break;
        case 'x': put_number(t, va_arg(args, unsigned), 16); break;
        case 'l': /* %llu */
            put_number(t, va_arg(args, unsigned long long), 10);
            f += 2;
            break;
        case '%': put(t, '%'); break;
        default: return;
        }
    }
}

void text_format(struct text *t, const char *format, ...) {
    va_list args;
    va_start(args, format);
    text_vformat(t, format, args);
    va_end(args);
}

void text_foreign(struct text *t, const unsigned char *data, size_t size, size_t max) {
    for (size_t i = 0; i < size && i < max; i++) {
        unsigned char c = data[i];
        put(t, c >= ' ' && c < 0x7f && c != '"' && c != '\\' ? (char)c : '?');
    }
    if (size > max) put_string(t, "...", 3);
}

static void put_valtypes(struct text *t, const valtype *types, unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        char name[32];
        vt_print(types[i], name);
        text_format(t, "%s%s", i ? ", " : "", name);
    }
}

void text_functype(struct text *t, const struct functype *f) {
    put(t, '(');
    put_valtypes(t, f->params, f->n_params);
    text_format(t, f->n_results == 1 ? ") -> " : ") -> (");
    put_valtypes(t, f->results, f->n_results);
    if (f->n_results != 1) put(t, ')');
}
