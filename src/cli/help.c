#include "cli.h"
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { MARGIN = 2, COLUMN = 30, WIDTH = 80, WIDTH_MIN = 60, WIDTH_MAX = 120 };

struct style {
    FILE *f;
    const char *bold, *plain;
    int width;
};

static struct style style_of(FILE *f) {
    bool colours = cli_colours(fileno(f));
    struct winsize size;
    int width = WIDTH;
    if (isatty(fileno(f)) && !ioctl(fileno(f), TIOCGWINSZ, &size) && size.ws_col) width = size.ws_col;
    if (width < WIDTH_MIN) width = WIDTH_MIN;
    if (width > WIDTH_MAX) width = WIDTH_MAX;
    return (struct style){f, colours ? "\033[1m" : "", colours ? "\033[0m" : "", width};
}

/* Words of s[0..n), wrapped, from column `at` on with the following lines indented. Backquotes become bold, or stay. */
static void wrap(const struct style *st, const char *s, size_t n, int at, int indent) {
    bool code = false, first = true;
    for (size_t i = 0; i < n;) {
        while (i < n && (s[i] == ' ' || s[i] == '\n'))
            i++;
        size_t end = i;
        while (end < n && s[end] != ' ' && s[end] != '\n')
            end++;
        if (end == i) break;
        int len = (int)(end - i);
        if (!first && at + 1 + len > st->width) {
            fprintf(st->f, "\n%*s", indent, "");
            at = indent;
        } else if (!first) {
            fputc(' ', st->f);
            at++;
        }
        for (; i < end; i++, at++) {
            if (s[i] != '`' || !*st->bold) {
                fputc(s[i], st->f);
                continue;
            }
            code = !code;
            fputs(code ? st->bold : st->plain, st->f);
        }
        first = false;
    }
    fputc('\n', st->f);
}

/* Calls `part` for each paragraph of `text`: verbatim lines (that begin with a space) one by one. */
static void paragraphs(const char *text, void (*part)(void *, const char *, size_t, bool), void *ctx) {
    while (*text) {
        if (*text == '\n') { /* an empty line */
            part(ctx, text++, 0, true);
            continue;
        }
        const char *end = strchr(text, '\n');
        if (*text != ' ') {
            end = strstr(text, "\n\n");
            const char *verbatim = strstr(text, "\n ");
            if (verbatim && (!end || verbatim < end)) end = verbatim;
        }
        size_t n = end ? (size_t)(end - text) : strlen(text);
        part(ctx, text, n, *text == ' ' || !n);
        text += n;
        if (*text) text++;
    }
}

static void text_part(void *ctx, const char *s, size_t n, bool verbatim) {
    const struct style *st = ctx;
    if (verbatim)
        fprintf(st->f, "%.*s\n", (int)n, s);
    else
        wrap(st, s, n, 0, 0);
}

static void option_line(const struct style *st, const char *flags, const char *help) {
    fprintf(st->f, "%*s%s%s%s", MARGIN, "", st->bold, flags, st->plain);
    int used = MARGIN + (int)strlen(flags);
    if (used + 2 > COLUMN) {
        fputc('\n', st->f);
        used = 0;
    }
    fprintf(st->f, "%*s", COLUMN - used, "");
    wrap(st, help, strlen(help), COLUMN, COLUMN);
}

static const char *flags_of(const struct cli_option *o, char buf[128]) {
    const char *glue = !o->value || !strncmp(o->value, "[=", 2) ? "" : " ";
    const char *value = o->value ? o->value : "";
    if (!o->name)
        snprintf(buf, 128, "-%c%s%s", o->letter, glue, value);
    else if (o->letter)
        snprintf(buf, 128, "-%c, --%s%s%s", o->letter, o->name, glue, value);
    else
        snprintf(buf, 128, "    --%s%s%s", o->name, glue, value);
    return buf;
}

static const char *key_of(char letter, const struct cli_option *o, char buf[128]) {
    const char *value = o->value ? o->value : "";
    snprintf(buf, 128, "-%c %s%s%s", letter, o->name, *value && strncmp(value, "[=", 2) ? "=" : "", value);
    return buf;
}

void cli_usage_line(FILE *f, const struct cli_verb *v) {
    fprintf(f, "donjon %s%s%s%s\n", v->name, v->options ? " [OPTIONS]" : "", *v->operands ? " " : "", v->operands);
}

static void verb_help_text(const struct style *st, const struct cli_verb *v) {
    char buf[128];
    fprintf(st->f, "%sUsage:%s ", st->bold, st->plain);
    cli_usage_line(st->f, v);
    fprintf(st->f, "\n");
    paragraphs(v->text, text_part, (void *)st);
    fprintf(st->f, "\n%sOptions:%s\n", st->bold, st->plain);
    for (const struct cli_option *o = v->options; o && o->id; o++)
        option_line(st, flags_of(o, buf), o->help);
    option_line(st, "-h, --help", "Show this help.");
    for (const struct cli_group *g = v->groups; g && g->letter; g++) {
        fprintf(st->f, "\n%s%s:%s\n", st->bold, g->title, st->plain);
        for (const struct cli_option *o = g->keys; o->id; o++)
            option_line(st, key_of(g->letter, o, buf), o->help);
    }
    if (!v->examples) return;
    fprintf(st->f, "\n%sExamples:%s\n", st->bold, st->plain);
    for (const struct cli_example *e = v->examples; e->command; e++)
        fprintf(st->f, "  %s\n      %s%s%s\n", e->what, st->bold, e->command, st->plain);
}

static const char intro[] =
    "Donjon runs WebAssembly programs in keeps: isolated instances that see nothing of this machine but what you name.";

void cli_help(FILE *f, const struct cli_verb *verb) {
    struct style st = style_of(f);
    if (verb && verb != &verb_help) return verb_help_text(&st, verb);
    fprintf(f, "%sUsage:%s donjon VERB [OPTIONS] [ARGUMENTS]\n\n", st.bold, st.plain);
    wrap(&st, intro, strlen(intro), 0, 0);
    fprintf(f, "\n%sVerbs:%s\n", st.bold, st.plain);
    for (const struct cli_verb *const *v = cli_verbs; *v; v++)
        option_line(&st, (*v)->name, (*v)->summary);
    fprintf(f,
            "\n%sStart here:%s\n  Run a program, with one directory of this machine:\n      donjon run --dir data "
            "app.wasm data/input.txt\n"
            "  See what this machine can do:\n      donjon platform info\n\n"
            "`donjon help VERB` says all about a verb; `donjon man VERB | man -l -` shows it as a man page.\n",
            st.bold, st.plain);
}

/* Man pages: man(7) macros. */
static void roff(FILE *f, const char *s, size_t n) {
    bool code = false, start = true;
    for (size_t i = 0; i < n; i++) {
        char ch = s[i];
        if (start && (ch == '.' || ch == '\'')) fputs("\\&", f);
        start = ch == '\n';
        if (ch == '`') {
            code = !code;
            fputs(code ? "\\fB" : "\\fR", f);
        } else if (ch == '-')
            fputs("\\-", f);
        else if (ch == '\\')
            fputs("\\e", f);
        else
            fputc(ch, f);
    }
}
static void roff_string(FILE *f, const char *s) {
    roff(f, s, strlen(s));
}

struct roff_state {
    FILE *f;
    bool verbatim;
};
static void roff_part(void *ctx, const char *s, size_t n, bool verbatim) {
    struct roff_state *st = ctx;
    if (verbatim && n && !st->verbatim) fputs(".PP\n.nf\n", st->f);
    if ((!verbatim || !n) && st->verbatim) fputs(".fi\n", st->f);
    st->verbatim = verbatim && n;
    if (!n) return;
    if (!verbatim) fputs(".PP\n", st->f);
    roff(st->f, s, n);
    fputc('\n', st->f);
}
static void roff_text(FILE *f, const char *text) {
    struct roff_state st = {f, false};
    paragraphs(text, roff_part, &st);
    if (st.verbatim) fputs(".fi\n", f);
}

static void roff_item(FILE *f, const char *flags, const char *help) {
    fputs(".TP\n\\fB", f);
    roff_string(f, flags + strspn(flags, " "));
    fputs("\\fR\n", f);
    roff_string(f, help);
    fputc('\n', f);
}

static void roff_head(FILE *f, const char *name, const char *summary) {
    fputs(".TH \"", f);
    for (const char *p = name; *p; p++)
        fputc(*p == ' ' ? '-' : *p >= 'a' && *p <= 'z' ? *p - 32 : *p, f);
    fprintf(f, "\" 1 \"\" \"Donjon " DONJON_VERSION "\" \"Donjon\"\n.SH NAME\n");
    for (const char *p = name; *p; p++)
        fputs(*p == ' ' || *p == '-' ? "\\-" : (char[]){*p, 0}, f);
    fputs(" \\- ", f);
    roff_string(f, summary);
    fputs("\n.SH SYNOPSIS\n", f);
}

static const char exit_text[] = " 0 .. 255  the program's own exit code, where `run` got that far\n"
                                " 0         other verbs: done, or the answer is yes\n"
                                " 1         other verbs: the answer is no (`config check` found errors)\n"
                                " 124       the wall-time limit ended the program\n"
                                " 125       donjon itself failed: wrong arguments, an unreadable file, a module that "
                                "is refused, a keep that was lost\n"
                                " 134       the program trapped\n"
                                " 128 + n   as shells show it: a signal n ended the program";

static void man_main(FILE *f) {
    roff_head(f, "donjon", "run WebAssembly programs in keeps");
    fputs("\\fBdonjon\\fR \\fIVERB\\fR [\\fIOPTIONS\\fR] [\\fIARGUMENTS\\fR]\n.SH DESCRIPTION\n", f);
    roff_text(f, intro);
    fputs(".SH VERBS\n", f);
    for (const struct cli_verb *const *v = cli_verbs; *v; v++)
        roff_item(f, (*v)->name, (*v)->summary);
    fputs(".SH EXIT STATUS\n", f);
    roff_text(f, exit_text);
}

void cli_man(FILE *f, const struct cli_verb *v) {
    char buf[128];
    if (!v) return man_main(f);
    snprintf(buf, sizeof buf, "donjon %s", v->name);
    roff_head(f, buf, v->summary);
    fprintf(f, "\\fBdonjon %s\\fR%s \\fI", v->name, v->options ? " [\\fIOPTIONS\\fR]" : "");
    roff_string(f, v->operands);
    fputs("\\fR\n.SH DESCRIPTION\n", f);
    roff_text(f, v->text);
    fputs(".SH OPTIONS\n", f);
    for (const struct cli_option *o = v->options; o && o->id; o++)
        roff_item(f, flags_of(o, buf), o->help);
    roff_item(f, "-h, --help", "Show help.");
    for (const struct cli_group *g = v->groups; g && g->letter; g++) {
        fputs(".SS ", f);
        roff_string(f, g->title);
        fputc('\n', f);
        for (const struct cli_option *o = g->keys; o->id; o++)
            roff_item(f, key_of(g->letter, o, buf), o->help);
    }
    if (v->examples) fputs(".SH EXAMPLES\n", f);
    for (const struct cli_example *e = v->examples; e && e->command; e++)
        roff_item(f, e->command, e->what);
    fputs(".SH EXIT STATUS\n", f);
    roff_text(f, exit_text);
    fputs(".SH SEE ALSO\n", f);
    bool first = true;
    for (const struct cli_verb *const *o = cli_verbs; *o; o++) {
        if (*o == v || *o == &verb_help || *o == &verb_man) continue;
        fprintf(f, "%s\\fBdonjon", first ? "" : ",\n");
        for (const char *p = (*o)->name; p; p = strchr(p, ' ') ? strchr(p, ' ') + 1 : NULL)
            fprintf(f, "\\-%.*s", (int)strcspn(p, " "), p);
        fputs("\\fR(1)", f);
        first = false;
    }
    fputc('\n', f);
}
