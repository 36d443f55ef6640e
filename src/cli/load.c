#include "cli.h"
#include "config/config.h"
#include "config/config_toml.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Mounts of a config file are relative to the file, not to where donjon was started. */
static bool anchor_mounts(const struct cli_verb *verb, const char *path, struct config *c) {
    const char *slash = strrchr(path, '/');
    if (!slash) return true;
    for (uint32_t i = 0; i < c->n_mounts; i++) {
        struct config_error err;
        char host[CONFIG_PATH_MAX + 1];
        struct config_mount m = c->mounts[i];
        if (m.host[0] == '/') continue;
        if (snprintf(host, sizeof host, "%.*s/%s", (int)(slash - path), path, m.host) >= (int)sizeof host) {
            cli_error(verb, "%s: mounts[%u].host: the path is too long", path, i);
            return false;
        }
        m.host = host;
        if (config_add_mount(c, &m, &err)) continue;
        cli_error(verb, "%s: %s", path, err.message);
        return false;
    }
    return true;
}

const char *cli_directory_of(const char *path, char dir[CONFIG_PATH_MAX + 1]) {
    const char *slash = strrchr(path, '/');
    if (slash)
        snprintf(dir, CONFIG_PATH_MAX + 1, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    else
        memcpy(dir, ".", 2);
    return dir;
}

static void show(const struct cli_verb *verb, const char *path, const struct config_report *r) {
    char where[4200];
    if (r->line)
        snprintf(where, sizeof where, "%s:%u:%u", path, r->line, r->column);
    else
        snprintf(where, sizeof where, "%s", path);
    if (r->severity == CONFIG_WARNING)
        cli_warning(verb, "%s: %s", where, r->message);
    else
        cli_error(verb, "%s: %s", where, r->message);
}

static bool show_all(const struct cli_verb *verb, const char *path, bool strict, bool ok,
                     const struct config_reports *reports) {
    for (uint32_t i = 0; i < reports->n; i++)
        show(verb, path, &reports->report[i]);
    unsigned all = reports->n_errors + reports->n_unsupported + reports->n_warnings;
    if (all > reports->n) cli_error(verb, "%s: and %u more", path, all - reports->n);
    return ok && !(strict && reports->n_unsupported);
}

bool cli_load_config(const struct cli_verb *verb, const char *path, bool strict, struct config *c) {
    char *text, dir[CONFIG_PATH_MAX + 1];
    size_t size;
    if (!cli_read_file(path, CONFIG_TOML_BYTES_MAX, &text, &size)) {
        cli_error(verb, "cannot read the configuration %s: %s", path, strerror(errno));
        return false;
    }
    struct config_reports *reports = malloc(sizeof *reports);
    bool ok = reports && config_parse_toml_in(c, text, size, cli_directory_of(path, dir), reports);
    free(text);
    if (!reports) return cli_error(verb, "out of memory"), false;
    ok = show_all(verb, path, strict, ok, reports);
    free(reports);
    return ok && anchor_mounts(verb, path, c);
}

bool cli_take_config(const struct cli_verb *verb, const char *name, const char *text, size_t size,
                     const struct config_source *source, struct config *c) {
    struct config_reports *reports = malloc(sizeof *reports);
    if (!reports) return cli_error(verb, "out of memory"), false;
    bool ok = show_all(verb, name, true, config_parse_toml_from(c, text, size, source, reports), reports);
    free(reports);
    return ok;
}
