/* The canonical byte form of a struct config: what the loader hands to the keep and the workload digest covers.
 *
 * One config has exactly one encoding, and decode accepts nothing else: encode(decode(b)) == b for every b it accepts,
 * and decode(encode(c)) equals c but for mounts[].host, which stays on the host: where a directory lies there is not
 * the keep's business and must not change the workload's digest.
 *
 * Layout, all integers little-endian, no padding:
 *   "DONJCFG" u8 version=3
 *   u32 total length, from the first byte of the magic
 *   u8 flags: 1 announce_fds, 2 unknown_imports_trap, 4 steward follows, 8 interpret, 16 unknown_imports_default,
 *      32 steward_ca follows, 64 explicit_checks (2 and 16 exclude each other)
 *   string program
 *   [string steward]
 *   [string steward_ca]
 *   u64 x CONFIG_LIMIT_COUNT, in the order of CONFIG_LIMITS; u32 limits_given
 *   u32 n_args,   n_args x string
 *   u32 n_env,    n_env x (string key, string value)
 *   u32 n_files,  n_files x (u8 kind, u8 prot, u16 port, string name, string addr, string host,
 *                            u8 client_auth, string trust, string server_name, string peer_policy)
 *   u32 n_mounts, n_mounts x (u8 writable, string guest)
 *   u64 tls_lifetime, u32 n_tls_names, n_tls_names x string
 *   u32 n_secrets, n_secrets x (string name, u8 where: 0 env, 1 file, string)
 * string: u32 length, bytes (no NUL among them). */
#ifndef DONJON_CONFIG_WIRE_H
#define DONJON_CONFIG_WIRE_H

#include "config.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    CONFIG_WIRE_VERSION = 4,
    CONFIG_WIRE_HEADER = 8 + 4, /* magic and version, total length */
    /* The most that decode looks at: all text and a length word per string, with room for the fixed parts. */
    CONFIG_WIRE_MAX = CONFIG_TEXT_MAX + 4 * (CONFIG_ARGS_MAX + 2 * CONFIG_ENV_MAX) +
                      32 * (CONFIG_FILES_MAX + CONFIG_MOUNTS_MAX) + 4 * CONFIG_TLS_NAMES_MAX + 9 * CONFIG_SECRETS_MAX +
                      1024,
};

/* Encodes into memory from malloc: *bytes and *len are the caller's. False: out of memory. */
bool config_encode(const struct config *c, uint8_t **bytes, size_t *len);

/* Decodes all of `len` bytes into *c, which is initialised by this call. The bytes are read once and not kept. On
 * failure *c is zeroed and `err` names field, offset, what was expected and found. Allocates at most a small multiple
 * of `len`. */
bool config_decode(struct config *c, const uint8_t *bytes, size_t len, struct config_error *err);

/* The total length a wire header announces, for readers of a stream: 0 when `header` is not a config's beginning or its
 * length is out of range. */
uint32_t config_wire_length(const uint8_t header[CONFIG_WIRE_HEADER]);

#ifdef __cplusplus
}
#endif
#endif
