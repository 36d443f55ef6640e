/* What the verbs about packages share. */
#ifndef DONJON_CLI_PACKAGE_H
#define DONJON_CLI_PACKAGE_H

#include "package/package.h"
#include "verbs.h"

/* A command line, read. */
struct package_command {
    struct cli_args *a;
    struct package_options options;
    const char *keys[PACKAGE_KEYS_MAX];
    const char *operands[2];
    unsigned operand_count;
    const char *output, *tag, *key, *new_key, *encrypt, *decrypt, *unpack;
    uint8_t content_key[PACKAGE_KEY];
    char *user;
    bool quiet, json;
    char error[PACKAGE_ERROR];
};

/* Reads options and up to `most` operands. False: said; leave with a->exit_code or CLI_FAILED. */
bool package_command_read(struct package_command *, struct cli_args *, unsigned least, unsigned most);
void package_command_free(struct package_command *);
int package_command_failed(struct package_command *); /* says error */
/* The reference by digest, on standard output. */
int package_command_done(struct package_command *, const struct package_reference *, const char *digest);
/* The key in a file; `make`: a new one when there is no file. */
bool package_content_key(struct package_command *, const char *path, bool make);

#endif
