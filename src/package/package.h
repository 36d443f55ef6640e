/* Packages: a workload as an OCI artifact, in the layout of CNCF's Wasm working group, in an OCI image layout directory
 * or a registry. Named by the digest of its manifest, which names every byte of it. docs/packages.md has the format.
 *
 *     struct package_options o = {.verify_keys = keys, .verify_key_count = 1};
 *     struct package *p = package_open("registry.example/shop@sha256:...", &o, error);
 *     // p->module, p->config, p->files: main.wasm, Donjon.toml and what it names, nothing else
 *
 * Everything from a registry or a directory is hostile until its size and digest were checked, against a manifest that
 * was checked against the digest asked for. Not for two threads at once. */
#ifndef DONJON_PACKAGE_H
#define DONJON_PACKAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    PACKAGE_ERROR = 600,
    PACKAGE_PATH = 4096,
    PACKAGE_DIGEST = 7 + 64 + 1, /* "sha256:" and hexadecimal digits */
    PACKAGE_MANIFEST_MAX = 4 << 20,
    PACKAGE_CONFIG_MAX = 256 << 10, /* Donjon.toml, which is in the manifest */
    PACKAGE_FILES_MAX = 1024,
    PACKAGE_NAME_MAX = 255,
    PACKAGE_KEY = 32, /* of an encrypted package */
    PACKAGE_KEYS_MAX = 16,
    PACKAGE_SIGNATURES_MAX = 64,
};
#define PACKAGE_BLOB_MAX (UINT64_C(1) << 30) /* one module, one file; the keep takes no larger module */
#define PACKAGE_SIZE_MAX (UINT64_C(2) << 30) /* all of a package */

/* ---- References ---- */

enum package_place { PACKAGE_LAYOUT, PACKAGE_REGISTRY };
struct package_reference {
    enum package_place place;
    char path[PACKAGE_PATH];         /* layout: the directory */
    char host[256];                  /* registry: host or host:port */
    char name[PACKAGE_NAME_MAX + 1]; /* registry: repository */
    char tag[129];                   /* empty: none given */
    char digest[PACKAGE_DIGEST];     /* empty: none given */
};
/* "oci:DIR[:TAG][@sha256:...]", a directory that is a layout, or "HOST/NAME[:TAG][@sha256:...]". */
bool package_reference_read(const char *text, struct package_reference *, char error[PACKAGE_ERROR]);
/* Whether a command's operand means a package: it begins with "oci:", is a layout directory, or looks like a registry's
 * reference and no such file is there. */
bool package_is_reference(const char *text);
/* The reference with this digest and without tag: what to write down. */
const char *package_reference_pinned(const struct package_reference *, const char *digest, char out[PACKAGE_PATH]);

/* ---- Opening ---- */

struct package_options {
    const char *const
        *verify_keys; /* files: public keys in PEM (Ed25519, P-256). Given, one of them must have signed */
    size_t verify_key_count;
    const uint8_t *key;                           /* PACKAGE_KEY bytes: of an encrypted package */
    bool keep_sealed;                             /* package_open: what is encrypted stays so; the key may be missing */
    bool plain_http;                              /* registries without TLS; loopback may be so anyway */
    const char *ca_file;                          /* trust anchors of the registry instead of the system's */
    const char *user;                             /* "NAME:PASSWORD", instead of docker's config.json */
    void (*say)(void *context, const char *line); /* progress, or null */
    void *context;
};

struct package_file {
    char *path;         /* relative, of plain parts */
    uint8_t *data;      /* its content, or, `sealed`, the layer as sealed.h has it, under the title `path` */
    size_t size;        /* of that */
    bool sealed;        /* only with keep_sealed */
    uint8_t digest[32]; /* then, given the key: the SHA-256 of its content */
};
struct package {
    char digest[PACKAGE_DIGEST]; /* of the manifest */
    char pinned[PACKAGE_PATH];   /* reference by digest */
    struct package_file module;  /* path "main.wasm"; sealed: no title */
    char *config;                /* text of Donjon.toml, or null */
    size_t config_size;
    struct package_file *files; /* what the configuration names: certificates, policies, mounted directories */
    size_t file_count;
    bool encrypted;  /* it was */
    char signer[80]; /* SHA-256 of the public key whose signature was found, or empty */
};
/* Resolves, checks the signature (before anything else is read), reads and checks every blob. Null with `error`. */
struct package *package_open(const char *reference, const struct package_options *, char error[PACKAGE_ERROR]);
void package_free(struct package *);

/* Whether this directory can be unpacked into: it is not there, or is empty. */
bool package_directory_is_new(const char *directory, char error[PACKAGE_ERROR]);
/* Writes main.wasm, Donjon.toml and the files into a directory that is made, or is empty. */
bool package_unpack(const struct package *, const char *directory, char error[PACKAGE_ERROR]);

/* ---- Making ---- */

/* A directory with main.wasm and perhaps Donjon.toml (or Enarx.toml), or a module alone, into a layout under a tag.
 * With options->key it is encrypted, but for the configuration and what is read with it. Same input, same digest (but
 * for encrypted ones). */
bool package_pack(const char *app, const struct package_reference *to, const struct package_options *,
                  char digest[PACKAGE_DIGEST], char error[PACKAGE_ERROR]);
/* Copies a package and its signatures, as they are; checked on the way. */
bool package_copy(const struct package_reference *from, const struct package_reference *to,
                  const struct package_options *, char digest[PACKAGE_DIGEST], char error[PACKAGE_ERROR]);
/* Signs what the reference names with a private key (PEM, Ed25519 or P-256) and puts the signature beside it. */
bool package_sign(const struct package_reference *, const char *key_file, const struct package_options *,
                  char digest[PACKAGE_DIGEST], char error[PACKAGE_ERROR]);

#ifdef __cplusplus
}
#endif
#endif
