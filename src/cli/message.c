#include "cli.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool cli_colours(int fd) {
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    return isatty(fd) && !(no && *no) && !(term && !strcmp(term, "dumb"));
}

const char *cli_printable(const char *s, char *buf, size_t size, bool lines) {
    size_t n = 0;
    for (; *s && n + 1 < size; s++) {
        unsigned char ch = (unsigned char)*s;
        bool fine = (ch >= 0x20 && ch != 0x7f) || (lines && (ch == '\n' || ch == '\t'));
        buf[n++] = fine ? (char)ch : '?';
    }
    buf[n] = 0;
    return buf;
}

static char last_error[CLI_MESSAGE_MAX];

const char *cli_last_error(void) {
    return last_error;
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
