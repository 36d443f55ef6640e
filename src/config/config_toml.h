/* TOML text to struct config. Reads Donjon.toml and, unchanged, both generations of Enarx.toml ([[files]]; [stdin],
 * [network]). All errors are found in one go, each with its place; nothing is guessed. See docs/config.md for the keys.
 */
#ifndef DONJON_CONFIG_TOML_H
#define DONJON_CONFIG_TOML_H

#include "config.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    CONFIG_TOML_BYTES_MAX = 4 * 1024 * 1024, /* a larger text is refused */
    CONFIG_TOML_REPORTS_MAX = 32,            /* later ones are counted, not kept */
};

enum config_severity {
    CONFIG_WARNING,     /* accepted, but does nothing here; worth saying */
    CONFIG_UNSUPPORTED, /* understood, but this release cannot run it */
    CONFIG_ERROR,       /* wrong: there is no config */
};

struct config_report {
    enum config_severity severity;
    uint32_t line, column; /* from 1; 0 when it is about the whole file */
    char message[480];     /* what, what was expected, what was found; one line */
};

struct config_reports {
    uint32_t n;                                   /* kept */
    uint32_t n_errors, n_unsupported, n_warnings; /* found */
    struct config_report report[CONFIG_TOML_REPORTS_MAX];
};

/* Parses `len` bytes of text into *c, which must be initialised: what the text says replaces or adds to what is there.
 * True when there are no errors (there may be warnings and unsupported items). On failure *c holds what was understood
 * so far and is only good for config_free. Never throws; memory use is bounded by the text's size. */
bool config_parse_toml(struct config *c, const char *text, size_t len, struct config_reports *reports);

/* The same, for a text that may name files: certificates and policies, which become part of *c. Relative names begin at
 * `dir`; NULL: no file is read, and a text that names one is refused (as config_parse_toml does). */
bool config_parse_toml_in(struct config *c, const char *text, size_t len, const char *dir,
                          struct config_reports *reports);

/* The same, where the files it names are not in a directory: `read` gives a file's bytes, which stay valid until the
 * parse has returned, or NULL and in *why what hinders (static). */
struct config_source {
    const char *(*read)(void *ctx, const char *name, size_t *size, const char **why);
    void *ctx;
};
bool config_parse_toml_from(struct config *c, const char *text, size_t len, const struct config_source *source,
                            struct config_reports *reports);

#ifdef __cplusplus
}
#endif
#endif
