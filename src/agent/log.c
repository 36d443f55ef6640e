#include "log.h"

#include "cli/cli.h"

#include <jansson.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static bool as_json;
static const char *const levels[] = {"info", "warning", "error"};

void log_as_json(bool on) {
    as_json = on;
}

static void write_line(const char *line, size_t size) {
    while (size > 0) {
        ssize_t n = write(STDERR_FILENO, line, size);
        if (n <= 0) return; /* nobody reads it: no reason to stop serving */
        line += n;
        size -= (size_t)n;
    }
}

static void log_json(enum log_level level, const char *event, va_list pairs) {
    struct timespec now;
    struct tm tm;
    char time[48], millis[8];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    strftime(time, sizeof time, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(millis, sizeof millis, ".%03dZ", (int)(now.tv_nsec / 1000000));
    strcat(time, millis);
    json_t *root = json_pack("{s:s, s:s, s:s}", "time", time, "level", levels[level], "event", event);
    for (const char *name, *value; (name = va_arg(pairs, const char *)) && (value = va_arg(pairs, const char *));) {
        char clean[1024];
        json_t *text = json_string(value);
        if (!text) text = json_string(cli_printable(value, clean, sizeof clean, false));
        json_object_set_new(root, name, text ? text : json_null());
    }
    char *line = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    if (!line) return;
    size_t n = strlen(line);
    line[n] = '\n'; /* over its NUL: one write a line */
    write_line(line, n + 1);
    free(line);
}

static void log_text(enum log_level level, const char *event, va_list pairs) {
    char line[CLI_MESSAGE_MAX], clean[CLI_MESSAGE_MAX];
    int n = snprintf(line, sizeof line, "donjon agent: %s%s", level == LOG_WARN ? "warning: " : "", event);
    for (const char *name, *value; (name = va_arg(pairs, const char *)) && (value = va_arg(pairs, const char *));)
        if (n >= 0 && n < (int)sizeof line) n += snprintf(line + n, sizeof line - (size_t)n, " %s=%s", name, value);
    cli_printable(line, clean, sizeof clean - 1, false);
    strcat(clean, "\n");
    write_line(clean, strlen(clean));
}

void log_event(enum log_level level, const char *event, ...) {
    va_list pairs;
    va_start(pairs, event);
    if (as_json)
        log_json(level, event, pairs);
    else
        log_text(level, event, pairs);
    va_end(pairs);
}
