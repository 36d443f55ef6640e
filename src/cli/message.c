#include "cli.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool cli_colours(int fd) {
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    return isatty(fd) && !(no && *no) && !(term && !strcmp(term, "dumb"));
}

/* The length of a character that is more than ASCII; 0: it is none of UTF-8's, or one of the control characters
 * U+0080 to U+009F, of which U+009B does what ESC [ does. */
static size_t character(const unsigned char *s) {
    size_t n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4 || (s[0] == 0xc2 && s[1] < 0xa0)) return 0;
    for (size_t i = 1; i < n; i++)
        if (s[i] >> 6 != 2) return 0;
    return n;
}

const char *cli_printable(const char *s, char *buf, size_t size, bool lines) {
    size_t n = 0;
    while (*s && n + 1 < size) {
        unsigned char ch = (unsigned char)*s;
        bool fine = (ch >= 0x20 && ch < 0x7f) || (lines && (ch == '\n' || ch == '\t'));
        size_t whole = ch < 0x80 ? 0 : character((const unsigned char *)s);
        if (whole && n + whole >= size) break;
        if (whole)
            memcpy(buf + n, s, whole);
        else
            buf[n] = fine ? (char)ch : '?';
        s += whole ? whole : 1;
        n += whole ? whole : 1;
    }
    buf[n] = 0;
    return buf;
}

static char last_error[CLI_MESSAGE_MAX];

const char *cli_last_error(void) {
    return last_error;
}

void cli_json_text(FILE *f, const char *text) {
    char clean[CLI_MESSAGE_MAX];
    fputc('"', f);
    for (const char *s = cli_printable(text, clean, sizeof clean, false); *s; s++) {
        if (*s == '"' || *s == '\\') fputc('\\', f);
        fputc(*s, f);
    }
    fputc('"', f);
}

int cli_json_failed(int code) {
    fputs("{\"error\":", stdout);
    cli_json_text(stdout, last_error);
    printf(",\"exit_code\":%d}\n", code);
    return code;
}

static void say(const struct cli_verb *verb, const char *colour, const char *kind, const char *format, va_list args) {
    char text[CLI_MESSAGE_MAX], clean[CLI_MESSAGE_MAX];
    vsnprintf(text, sizeof text, format, args);
    cli_printable(text, clean, sizeof clean, false);
    bool colours = cli_colours(STDERR_FILENO);
    fprintf(stderr, "%sdonjon%s%s:%s %s%s\n", colours ? colour : "", verb ? " " : "", verb ? verb->name : "",
            colours ? "\033[0m" : "", kind, clean);
}

int cli_error(const struct cli_verb *verb, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(last_error, sizeof last_error, format, args);
    va_end(args);
    va_start(args, format);
    say(verb, "\033[1;31m", "", format, args);
    va_end(args);
    return CLI_FAILED;
}

void cli_warning(const struct cli_verb *verb, const char *format, ...) {
    va_list args;
    va_start(args, format);
    say(verb, "\033[1;33m", "warning: ", format, args);
    va_end(args);
}
