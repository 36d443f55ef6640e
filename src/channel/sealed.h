/* An encrypted layer of a package, and how it is opened. Both the tenant's programs and the keep use this; nothing here
 * does I/O.
 *
 *     12 bytes of nonce, ciphertext, 16 bytes of tag: AES-256-GCM under the package's key. Authenticated with it are
 * the layer's media type with its NUL, and its title (the file's path in the package; empty for the module), so that
 *     layers cannot take each other's places. */
#ifndef DONJON_CHANNEL_SEALED_H
#define DONJON_CHANNEL_SEALED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SEALED_KEY = 32,
    SEALED_NONCE = 12,
    SEALED_TAG = 16,
    SEALED_MORE = SEALED_NONCE + SEALED_TAG, /* bytes that a sealed layer has more than its content */
    SEALED_TITLE_MAX = 1023,
};
#define SEALED_CONTENT_MAX (UINT64_C(1) << 30)

/* Media types. */
#define SEALED_MODULE "application/vnd.donjon.wasm.v1+aes256gcm"
#define SEALED_FILE   "application/vnd.donjon.file.v1+aes256gcm"
#define SEALED_DIGEST                                                                                                  \
    "application/vnd.donjon.digest.v1+aes256gcm" /* the SHA-256 of a layer's content: an annotation                    \
                                                  */

#define SEALED_PACKAGE                                                                                                 \
    "application/vnd.donjon.package.v1+aes256gcm" /* the SHA-256 of what belongs together in a package: an annotation  \
                                                   */

/* Starts a cipher for a layer: what is authenticated besides its bytes is taken in. EVP_CIPHER_CTX's, for sealed.c and
 * seal.c. */
struct evp_cipher_ctx_st;
bool sealed_start(struct evp_cipher_ctx_st *, bool encrypt, const uint8_t key[SEALED_KEY],
                  const uint8_t nonce[SEALED_NONCE], const char *media, const uint8_t *title, size_t title_size);

/* Opens a layer that comes in pieces. `out` has room for size - SEALED_MORE bytes and is the caller's; what is in it
 * may be used only once sealed_reader_end has said so, and is to be wiped when it has not. The key is not kept beyond
 * sealed_reader_new. NULL: `size` is less than SEALED_MORE or the content more than SEALED_CONTENT_MAX, a title that is
 * too long, no memory. */
struct sealed_reader;
struct sealed_reader *sealed_reader_new(const uint8_t key[SEALED_KEY], const char *media, const uint8_t *title,
                                        size_t title_size, uint64_t size, uint8_t *out);
/* False: more bytes than were announced. */
bool sealed_reader_take(struct sealed_reader *, const uint8_t *bytes, size_t n);
bool sealed_reader_full(const struct sealed_reader *); /* all announced bytes are there */
/* True: they are all there, and are what somebody with the key has made for this place. */
bool sealed_reader_end(struct sealed_reader *);
void sealed_reader_free(struct sealed_reader *); /* NULL is fine */

#endif
