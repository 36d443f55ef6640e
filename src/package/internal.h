/* What the files of this room share. */
#ifndef DONJON_PACKAGE_INTERNAL_H
#define DONJON_PACKAGE_INTERNAL_H

#include "package.h"
#include "channel/sealed.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Media types and annotations. */
#define MEDIA_MANIFEST  "application/vnd.oci.image.manifest.v1+json"
#define MEDIA_INDEX     "application/vnd.oci.image.index.v1+json"
#define MEDIA_CONFIG    "application/vnd.wasm.config.v0+json" /* CNCF Wasm OCI artifact layout */
#define MEDIA_WASM      "application/wasm"
#define MEDIA_FILE      "application/vnd.donjon.file.v1"
#define MEDIA_SIGNATURE "application/vnd.dev.cosign.simplesigning.v1+json"
#define MEDIA_IMAGE     "application/vnd.oci.image.config.v1+json"
#define NOTE_CONFIG     "org.donjon.config.toml"
#define NOTE_KEY_ID     "org.donjon.key-id"
#define NOTE_DIGEST     "org.donjon.sealed-digest" /* of an encrypted layer: seal_digest() */
#define NOTE_PACKAGE    "org.donjon.sealed-package" /* of a package with such layers: seal_package() */
#define NOTE_TITLE      "org.opencontainers.image.title"
#define NOTE_REF        "org.opencontainers.image.ref.name"
#define NOTE_SIGNATURE  "dev.cosignproject.cosign/signature"

bool package_fail(char error[PACKAGE_ERROR], const char *format, ...) __attribute__((format(printf, 2, 3)));

struct blob {
    uint8_t *data;
    size_t size;
};
void blob_free(struct blob *);
/* Room for at least `size` bytes more; false above `most`, or without memory. */
bool blob_append(struct blob *, size_t *capacity, const void *data, size_t size, uint64_t most);
/* A new file of this name, whole; errno says why not. */
bool write_new(int dir, const char *name, const void *data, size_t size);
bool digest_of(const void *data, size_t size, char digest[PACKAGE_DIGEST]);
/* "sha256:" and 64 lower-case hexadecimal digits, nothing else. */
bool digest_valid(const char *);
/* A file name of plain parts: no "", ".", "..", no control character, no backslash, not absolute, not too long. */
bool plain_path(const char *);
bool reference_tag_valid(const char *);

/* ---- Stores (store.c, layout.c, registry.c) ---- */

struct store;
struct store_ops {
    /* The bytes behind a tag or digest, at most PACKAGE_MANIFEST_MAX. *missing: it is not there, and nothing else is
     * wrong. */
    bool (*get_manifest)(struct store *, const char *tag_or_digest, struct blob *, bool *missing, char *error);
    /* At most `size` bytes. */
    bool (*get_blob)(struct store *, const char *digest, uint64_t size, struct blob *, char *error);
    bool (*put_blob)(struct store *, const char *digest, const void *, size_t, char *error);
    bool (*put_manifest)(struct store *, const char *tag, const char *digest, const void *, size_t, char *error);
    void (*close)(struct store *);
};
struct store {
    const struct store_ops *ops;
    const struct package_reference *reference;
    const struct package_options *options;
};
struct store *layout_open(const struct package_reference *, const struct package_options *, bool write, char *error);
struct store *registry_open(const struct package_reference *, const struct package_options *, bool write, char *error);

struct store *store_open(const struct package_reference *, const struct package_options *, bool write, char *error);
void store_close(struct store *);
/* Checked: against the digest where it was asked for by digest; *digest is what it has. */
bool store_manifest(struct store *, const char *tag_or_digest, struct blob *, char digest[PACKAGE_DIGEST],
                    bool *missing, char *error);
/* Checked: exactly `size` bytes with this digest. */
bool store_blob(struct store *, const char *digest, uint64_t size, struct blob *, char *error);
void store_say(const struct store *, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* What the reference names: its digest, or that of its tag ("latest" without one). */
const char *reference_target(const struct package_reference *);

/* ---- Manifests (manifest.c) ---- */

struct layer {
    char media[128], digest[PACKAGE_DIGEST];
    uint64_t size;
    char *title, *key_id, *sealed_digest, *signature; /* annotations, or null */
};
struct manifest {
    char media[128]; /* of the config */
    struct layer config;
    struct layer *layers;
    size_t layer_count;
    char *config_toml, *sealed_package; /* annotations, or null */
};
/* Reads any image manifest whose sizes are within bounds. manifest_free() in both cases. */
bool manifest_read(struct manifest *, const void *, size_t, char *error);
void manifest_free(struct manifest *);
bool manifest_add(struct manifest *, const char *media, const void *data, size_t size, const char *title,
                  const char *key_id, const char *sealed_digest);
/* JSON in one form: same content, same bytes. free(). */
char *manifest_write(const struct manifest *);
/* The CNCF config for these layers. free(). */
char *manifest_wasm_config(const struct manifest *);
/* Whether this is a package as package_open() wants it. */
bool manifest_is_package(const struct manifest *, char *error);

/* ---- Signatures (sign.c) ---- */

/* Finds one by one of the keys; `signer` receives its digest. */
bool signature_check(struct store *, const char *digest, const struct package_options *, char signer[80], char *error);
bool signature_add(struct store *, const char *digest, const char *key_file, char *error);
void signature_tag(const char *digest, char tag[PACKAGE_DIGEST + 8]);
/* The payload's own say: which manifest it signs. */
bool signature_payload_names(const void *, size_t, const char *digest);

/* ---- Encryption (seal.c) ---- */

/* A layer as sealed.h has it; `media` is one of its types. */
bool seal(const uint8_t key[PACKAGE_KEY], const char *media, const char *title, const void *, size_t, struct blob *);
bool unseal(const uint8_t key[PACKAGE_KEY], const char *media, const char *title, const struct blob *, struct blob *);
/* The SHA-256 of a layer's content, sealed too: whoever has the key can know what will be in the keep without opening
 * the layer, and nobody else can compare it with what he guesses. Hexadecimal. */
enum { SEALED_NOTE = 2 * (SEALED_MORE + 32) + 1 };
bool seal_digest(const uint8_t key[PACKAGE_KEY], const char *title, const void *content, size_t size,
                 char note[SEALED_NOTE]);
bool unseal_digest(const uint8_t key[PACKAGE_KEY], const char *title, const char *note, uint8_t digest[32]);
/* The same of the configuration and the list of layers: whoever has no key can neither change the one nor leave
 * anything out of the other, or put it together from several packages under one key. */
bool seal_package(const uint8_t key[PACKAGE_KEY], const struct manifest *, char note[SEALED_NOTE]);
bool unseal_package(const uint8_t key[PACKAGE_KEY], const struct manifest *);
void seal_key_id(const uint8_t key[PACKAGE_KEY], char id[17]);

/* ---- Configurations (names.cc) ---- */

/* Calls for every file a configuration names: `directory` tells whether it may be one (a mount). False with `error`:
 * not TOML, or `each` said no. */
bool config_names(const char *text, size_t size, bool (*each)(void *, const char *name, bool directory), void *context,
                  char *error);

#ifdef __cplusplus
}
#endif
#endif
