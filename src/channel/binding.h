/* What evidence of a keep is bound to: report data, and the workload's digest. Pure functions.
 *
 * Report data is always the SHA-512 of a tagged transcript of length-prefixed fields, never bytes that somebody chose:
 * a program, or an owner, that could have any 64 bytes signed could answer for a keep that it is not in. */
#ifndef DONJON_CHANNEL_BINDING_H
#define DONJON_CHANNEL_BINDING_H

#include "channel.h"

enum { CHANNEL_REPORT_DATA = 64, CHANNEL_EXPORTER_SIZE = 32 };

/* SHA-512( lp("donjon channel v1") lp(spki) lp(nonce) lp(exporter) lp(digest, or empty) )
 * spki: DER SubjectPublicKeyInfo of the keep's TLS key; exporter: of this very connection. `digest`: NULL before there
 * is a workload (32 zero bytes mean the same). False: OpenSSL has failed. */
bool channel_report_data(struct channel_bytes spki, const uint8_t nonce[CHANNEL_NONCE],
                         const uint8_t exporter[CHANNEL_EXPORTER_SIZE], const uint8_t *digest,
                         uint8_t out[CHANNEL_REPORT_DATA]);

/* SHA-512( lp("donjon program v1") lp(digest) lp(bytes) ): of evidence that the program asks for over its own bytes. */
bool channel_program_report_data(const uint8_t digest[CHANNEL_DIGEST], const uint8_t bytes[64],
                                 uint8_t out[CHANNEL_REPORT_DATA]);

/* The workload's digest:
 * SHA-256( lp("donjon workload v1") lp(configuration, wire form) lp(SHA-256 of the module)
 *          then for each file, in the order of their paths' bytes: lp(path) lp(SHA-256 of its content) )
 * The values of secrets are not in it; their names are, in the configuration. */
struct channel_workload;
struct channel_workload *channel_workload_new(void); /* NULL: OpenSSL has failed, or no memory */
void channel_workload_free(struct channel_workload *w);
/* In this order: once, once, any number of times with growing paths. False: out of order, or OpenSSL has failed; the
 * digest can then not be had any more. */
bool channel_workload_config(struct channel_workload *w, struct channel_bytes wire);
bool channel_workload_module(struct channel_workload *w, struct channel_bytes module);
bool channel_workload_file(struct channel_workload *w, struct channel_bytes path, struct channel_bytes content);
/* The same of those whose SHA-256 is known, and no more of them. */
bool channel_workload_module_digest(struct channel_workload *w, const uint8_t digest[CHANNEL_DIGEST]);
bool channel_workload_file_digest(struct channel_workload *w, struct channel_bytes path,
                                  const uint8_t digest[CHANNEL_DIGEST]);
bool channel_workload_digest(struct channel_workload *w, uint8_t out[CHANNEL_DIGEST]); /* may be called once */

/* The order of paths: as memcmp has it, the shorter first. */
int channel_path_compare(struct channel_bytes a, struct channel_bytes b);

#endif
