/* What is to be deployed, read and ready: configuration, module, files, secrets, and the digest over all but the last.
 */
#ifndef DONJON_CLI_DEPLOY_APP_H
#define DONJON_CLI_DEPLOY_APP_H

#include "verbs.h"

#include "channel/client.h"
#include "config/config_toml.h"
#include "package/package.h"

struct app {
    struct run run; /* the configuration, built as for `donjon run` */
    uint8_t *wire;
    struct channel_file *files; /* in memory that `held` owns, or the package */
    size_t n_files, files_room;
    void **held;
    size_t n_held, held_room;
    struct channel_secret secrets[CHANNEL_SECRETS_MAX];
    size_t n_secrets;
    bool took_stdin; /* a secret came from there: it is no longer the program's */
    /* APP may be a package (package/package.h): it is resolved once and checked; what is encrypted in it is never
     * opened here: the keep does that, and gets the key. */
    struct package_options package;
    const char *verify_keys[PACKAGE_KEYS_MAX], *decrypt_key;
    struct package *opened;
    struct config_source source; /* the files that its configuration names */
    struct channel_sealed sealed_module;
    uint8_t key[PACKAGE_KEY];
    char pinned[PACKAGE_PATH]; /* its reference by digest; empty: APP is none */
    struct channel_delivery delivery;
    uint8_t digest[CHANNEL_DIGEST];
};

/* Options --file and --secret, in the order they are given. False, said. */
bool app_add_file(struct app *, const char *spec);
bool app_add_secret(struct app *, const char *spec);
/* After all options: reads configuration and module, checks that they and the secrets fit, computes the digest. */
bool app_load(struct app *, struct cli_args *second);
void app_free(struct app *); /* zeroes the secrets and the key */
/* Bytes that will be delivered. */
uint64_t app_size(const struct app *);

#endif
