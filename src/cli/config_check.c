/* donjon config check: would `run` take this file? */
#include "cli.h"
#include "config/config.h"
#include "config/config_toml.h"
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OPT_JSON = 1 };

static const char *severity_name(enum config_severity s) {
    return s == CONFIG_WARNING ? "warning" : s == CONFIG_UNSUPPORTED ? "unsupported" : "error";
}

static int check_json(const struct cli_verb *verb, const char *path) {
    char *text;
    size_t size;
    if (!cli_read_file(path, CONFIG_TOML_BYTES_MAX, &text, &size)) {
        cli_error(verb, "cannot read %s: %s", path, strerror(errno));
        return CLI_FAILED;
    }
    struct config c;
    struct config_reports *reports = malloc(sizeof *reports);
    if (!reports || !config_init(&c)) {
        free(reports);
        free(text);
        cli_error(verb, "out of memory");
        return CLI_FAILED;
    }
    char dir[CONFIG_PATH_MAX + 1];
    bool ok = config_parse_toml_in(&c, text, size, cli_directory_of(path, dir), reports) && !reports->n_unsupported;
    json_t *root = json_object(), *list = json_array();
    for (uint32_t i = 0; i < reports->n; i++) {
        const struct config_report *r = &reports->report[i];
        json_t *item = json_object(), *message = json_string(r->message);
        json_object_set_new(item, "severity", json_string(severity_name(r->severity)));
        json_object_set_new(item, "line", r->line ? json_integer(r->line) : json_null());
        json_object_set_new(item, "column", r->line ? json_integer(r->column) : json_null());
        json_object_set_new(item, "message", message ? message : json_string("(not UTF-8)"));
        json_array_append_new(list, item);
    }
    json_t *file = json_string(path);
    json_object_set_new(root, "file", file ? file : json_null());
    json_object_set_new(root, "ok", json_boolean(ok));
    json_object_set_new(root, "reports", list);
    json_dumpf(root, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(root);
    config_free(&c);
    free(reports);
    free(text);
    return ok ? CLI_YES : CLI_NO;
}

static void plural(uint32_t n, const char *what, const char *after) {
    printf("%u %s%s%s", n, what, n == 1 ? "" : "s", after);
}

static int check_text(const struct cli_verb *verb, const char *path) {
    struct config c;
    if (access(path, R_OK)) {
        cli_error(verb, "cannot read %s: %s", path, strerror(errno));
        return CLI_FAILED;
    }
    if (!config_init(&c)) {
        cli_error(verb, "out of memory");
        return CLI_FAILED;
    }
    bool ok = cli_load_config(verb, path, true, &c);
    if (ok) {
        printf("%s is fine: ", path);
        plural(c.n_args, "argument", ", ");
        plural(c.n_env, "variable", ", ");
        plural(c.n_files, "descriptor", ", ");
        plural(c.n_mounts, "mount", ", ");
        plural((uint32_t)__builtin_popcount(c.limits_given), "limit", " set\n");
    }
    config_free(&c);
    return ok ? CLI_YES : CLI_NO;
}

static int main_config_check(struct cli_args *a) {
    const char *path = NULL, *value;
    bool json = false;
    for (int id; (id = cli_next(a, &value)) != CLI_END;) {
        if (id == CLI_STOP) return a->exit_code;
        if (id == OPT_JSON)
            json = true;
        else if (path)
            return cli_usage_error(a, "expected one file, found \"%s\" too", value);
        else
            path = value;
    }
    if (!path) path = access("Donjon.toml", F_OK) && !access("Enarx.toml", F_OK) ? "Enarx.toml" : "Donjon.toml";
    return json ? check_json(a->verb, path) : check_text(a->verb, path);
}

static const struct cli_option options[] = {
    {OPT_JSON, 0, "json", NULL, "Write the result as JSON to standard output."},
    {0},
};
static const struct cli_example examples[] = {
    {"donjon config check", "Donjon.toml here, or else Enarx.toml"},
    {"donjon config check --json server/Donjon.toml", "For a machine"},
    {0},
};

const struct cli_verb verb_config_check = {
    .name = "config check",
    .operands = "[FILE]",
    .summary = "Say whether a configuration is right, and where it is not",
    .text =
        "Reads FILE, a Donjon.toml or Enarx.toml, and says all that is wrong with it, each with its line and column. "
        "Things that are right but that this release cannot do yet count as errors here, as `donjon run` would refuse "
        "them.\n\n"
        "Exit code 0: `donjon run` would take it. 1: it would not. 125: the file cannot be read.",
    .options = options,
    .examples = examples,
    .main = main_config_check,
};
