/* The user's key for compiled code: 32 random bytes in $XDG_DATA_HOME/donjon/key or ~/.local/share/donjon/key, readable
 * by nobody else. Code that carries its authentication code was made by this user's donjon on a machine that has the
 * key. */
#ifndef DONJON_CLI_CODE_KEY_H
#define DONJON_CLI_CODE_KEY_H

#include "mac.h"

/* Reads the key; with `make`, makes one if there is none. False: `error` says why. */
bool code_key(bool make, uint8_t key[MAC_KEY], char *error, size_t size);

/* A directory of this user's own: $VARIABLE/SUB, or ~/HOME_SUB/SUB. Makes it, and those above it, with `make`. False
 * when there is none, or others could write to it. */
bool user_directory(const char *variable, const char *home_sub, const char *sub, bool make, char *path, size_t size);

#endif
