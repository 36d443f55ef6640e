#include "cli.h"
#include "config/nearest.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { NAMES_MAX = 64 };

static const struct cli_option *by_name(const struct cli_option *list, const char *name, size_t len) {
    for (; list && list->id; list++)
        if (list->name && strlen(list->name) == len && !memcmp(list->name, name, len)) return list;
    return NULL;
}
static const struct cli_option *by_letter(const struct cli_option *list, char letter) {
    for (; list && list->id; list++)
        if (list->letter == letter) return list;
    return NULL;
}
static const struct cli_group *group_of(const struct cli_verb *verb, char letter) {
    for (const struct cli_group *g = verb->groups; g && g->letter; g++)
        if (g->letter == letter) return g;
    return NULL;
}
static bool optional_value(const struct cli_option *o) {
    return o->value && !strncmp(o->value, "[=", 2);
}

int cli_usage_error(struct cli_args *a, const char *format, ...) {
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    size_t n = strlen(text);
    bool asks = n && text[n - 1] == '?';
    cli_error(a->verb, "%s%s `donjon %s --help`", text, asks ? " See" : "; see", a->verb->name);
    a->exit_code = CLI_FAILED;
    return CLI_FAILED;
}

static int stop(struct cli_args *a, int code) {
    a->exit_code = code;
    free(a->keys_copy);
    a->keys_copy = a->keys = NULL;
    return CLI_STOP;
}

static int unknown(struct cli_args *a, const struct cli_option *list, const char *prefix, const char *name,
                   size_t len) {
    const char *names[NAMES_MAX];
    size_t n = 0;
    for (; list && list->id && n < NAMES_MAX; list++)
        if (list->name) names[n++] = list->name;
    const char *near = nearest_word(name, len, names, n);
    if (near)
        cli_usage_error(a, "unknown option %s%.*s, did you mean %s%s?", prefix, (int)len, name, prefix, near);
    else
        cli_usage_error(a, "unknown option %s%.*s", prefix, (int)len, name);
    return stop(a, CLI_FAILED);
}

static int show_help(struct cli_args *a) {
    cli_help(stdout, a->verb);
    return stop(a, CLI_YES);
}

/* The value of an option that has one: the rest of its word, or the next word. */
static int with_value(struct cli_args *a, const struct cli_option *o, const char *attached, const char **value) {
    *value = attached;
    if (!o->value) {
        if (!attached) return o->id;
        cli_usage_error(a, "%s takes no value, found \"%s\"", a->shown, attached);
        return stop(a, CLI_FAILED);
    }
    if (attached || optional_value(o)) return o->id;
    if (a->at < a->argc) {
        *value = a->argv[a->at++];
        return o->id;
    }
    cli_usage_error(a, "%s needs a value, %s", a->shown, o->value);
    return stop(a, CLI_FAILED);
}

static int long_option(struct cli_args *a, const char *word, const char **value) {
    const char *equal = strchr(word, '=');
    size_t len = equal ? (size_t)(equal - word) : strlen(word);
    snprintf(a->shown, sizeof a->shown, "--%.*s", (int)len, word);
    if (len == 4 && !memcmp(word, "help", 4)) return show_help(a);
    const struct cli_option *o = by_name(a->verb->options, word, len);
    if (!o) return unknown(a, a->verb->options, "--", word, len);
    return with_value(a, o, equal ? equal + 1 : NULL, value);
}

/* One KEY[=VALUE] of a group. */
static int group_key(struct cli_args *a, const char **value) {
    char *key = strsep(&a->keys, ",");
    char *equal = strchr(key, '=');
    size_t len = equal ? (size_t)(equal - key) : strlen(key);
    char prefix[8] = {'-', a->group->letter, ' ', 0};
    snprintf(a->shown, sizeof a->shown, "%s%.*s", prefix, (int)len, key);
    if (len == 4 && !memcmp(key, "help", 4)) return show_help(a);
    const struct cli_option *o = by_name(a->group->keys, key, len);
    if (!o) return unknown(a, a->group->keys, prefix, key, len);
    if (o->value && !optional_value(o) && !equal) {
        cli_usage_error(a, "%s needs a value, %s=%s", a->shown, a->shown, o->value);
        return stop(a, CLI_FAILED);
    }
    return with_value(a, o, equal ? equal + 1 : NULL, value);
}

static int start_group(struct cli_args *a, const struct cli_group *g, const char *attached, const char **value) {
    if (!attached && a->at == a->argc) {
        cli_usage_error(a, "-%c needs a value, KEY[=VALUE]", g->letter);
        return stop(a, CLI_FAILED);
    }
    const char *keys = attached ? attached : a->argv[a->at++];
    free(a->keys_copy);
    a->keys = a->keys_copy = strdup(keys);
    a->group = g;
    if (!a->keys) {
        cli_error(a->verb, "out of memory");
        return stop(a, CLI_FAILED);
    }
    return group_key(a, value);
}

static int letter_option(struct cli_args *a, const char **value) {
    char letter = *a->letters++;
    const char *rest = *a->letters ? a->letters : NULL;
    snprintf(a->shown, sizeof a->shown, "-%c", letter);
    if (!rest) a->letters = NULL;
    if (letter == 'h') return show_help(a);
    const struct cli_group *g = group_of(a->verb, letter);
    if (g) {
        a->letters = NULL;
        return start_group(a, g, rest, value);
    }
    const struct cli_option *o = by_letter(a->verb->options, letter);
    if (!o) {
        cli_usage_error(a, "unknown option -%c", letter);
        return stop(a, CLI_FAILED);
    }
    if (!o->value || optional_value(o)) return with_value(a, o, NULL, value);
    a->letters = NULL;
    return with_value(a, o, rest, value);
}

int cli_next(struct cli_args *a, const char **value) {
    *value = NULL;
    if (a->keys) return group_key(a, value);
    if (a->letters) return letter_option(a, value);
    free(a->keys_copy);
    a->keys_copy = NULL;
    if (a->at == a->argc) return CLI_END;
    const char *word = a->argv[a->at++];
    if (!a->only_operands && !strcmp(word, "--")) {
        a->only_operands = true;
        return cli_next(a, value);
    }
    if (a->only_operands || word[0] != '-' || !word[1]) {
        *value = word;
        a->only_operands |= a->verb->operand_ends_options;
        return CLI_OPERAND;
    }
    if (word[1] == '-') return long_option(a, word + 2, value);
    a->letters = word + 1;
    return letter_option(a, value);
}

char **cli_rest(struct cli_args *a) {
    return a->argv + a->at;
}

bool cli_parse_bool(const char *value, bool *out) {
    static const char *const yes[] = {"y", "yes", "true", "on"}, *const no[] = {"n", "no", "false", "off"};
    *out = true;
    if (!value) return true;
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++) {
        if (!strcmp(value, yes[i])) return true;
        if (strcmp(value, no[i])) continue;
        *out = false;
        return true;
    }
    return false;
}
