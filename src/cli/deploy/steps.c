#define _GNU_SOURCE
#include "steps.h"

#include "../cli.h"

#include <jansson.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#define RED   "\033[1;31m"
#define GREEN "\033[32m"
#define DIM   "\033[2m"
#define PLAIN "\033[0m"

void steps_init(struct steps *s, bool json, bool quiet) {
    bool terminal = isatty(STDERR_FILENO);
    *s = (struct steps){.json = json, .quiet = quiet, .shown = !json && !quiet && terminal};
    s->colour = s->shown && cli_colours(STDERR_FILENO);
}

static void finish_line(struct steps *s) {
    if (s->open) fputc('\n', stderr);
    s->open = false;
}

static void say_json(const char *step, bool ok, const char *text) {
    json_t *j = json_pack("{s:s, s:b, s:s}", "step", step, "ok", ok, "text", text);
    if (!j) return;
    json_dumpf(j, stderr, JSON_COMPACT);
    fputc('\n', stderr);
    json_decref(j);
}

void steps_say(struct steps *s, const char *step, bool ok, const char *format, ...) {
    char text[1024], clean[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    cli_printable(text, clean, sizeof clean, false);
    if (s->json) say_json(step, ok, clean);
    if (!s->shown) return;
    finish_line(s);
    const char *mark = ok ? "ok" : "NO";
    fprintf(stderr, "  %s%s%s  %s\n", s->colour ? ok ? GREEN : RED : "", mark, s->colour ? PLAIN : "", clean);
}

void steps_appraisal(struct steps *s, const struct attest_result *r) {
    for (int g = ATTEST_FORMAT; g <= ATTEST_POLICY; g++) {
        unsigned passed = 0, failed = 0;
        for (unsigned i = 0; i < r->check_count; i++) {
            if (attest_rules[r->checks[i].rule].group != (enum attest_group)g) continue;
            passed += r->checks[i].outcome == ATTEST_PASS;
            failed += r->checks[i].outcome == ATTEST_FAIL;
        }
        if (passed + failed == 0) continue;
        char step[64];
        snprintf(step, sizeof step, "appraisal.%s", attest_group_names[g]);
        steps_say(s, step, !failed, "%s: %u of %u checks", attest_group_names[g], passed, passed + failed);
    }
    for (unsigned i = 0; i < r->check_count; i++) {
        const struct attest_check *c = &r->checks[i];
        char expected[300], found[300];
        if (c->outcome != ATTEST_FAIL) continue;
        steps_say(s, attest_rules[c->rule].name, false, "%s: expected %s, found %s", attest_rules[c->rule].title,
                  attest_value_format(&c->expected, expected, sizeof expected),
                  attest_value_format(&c->found, found, sizeof found));
    }
}

void steps_delivering(struct steps *s, uint64_t done, uint64_t all) {
    if (!s->shown || all < 1 << 20) return;
    s->open = true;
    fprintf(stderr, "\r  %s..%s  delivering: %llu of %llu KiB", s->colour ? DIM : "", s->colour ? PLAIN : "",
            (unsigned long long)(done >> 10), (unsigned long long)(all >> 10));
    if (done >= all) fputc('\r', stderr);
    if (done >= all) s->open = false;
    fflush(stderr);
}

void steps_no_tee(struct steps *s, const char *backend) {
    finish_line(s);
    if (s->json) {
        say_json("no-tee", false, "no hardware keeps the host out of this keep");
        return;
    }
    bool red = cli_colours(STDERR_FILENO);
    fprintf(stderr,
            "%sNOT PROTECTED: no hardware keeps the host out of this keep (%s). Whoever runs the host can read the "
            "program, its data and its secrets. --allow-no-tee was given.%s\n",
            red ? RED : "", backend, red ? PLAIN : "");
}
