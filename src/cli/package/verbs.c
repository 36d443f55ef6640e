#include "verbs.h"

#define JSON_OPTION                                                                                                    \
    {PACKAGE_OPT_JSON, 0, "json", NULL, "What is printed, as JSON: reference and digest; or the error."},
#define REGISTRY_OPTIONS                                                                                               \
    {PACKAGE_OPT_PLAIN, 0, "plain-http", NULL, "Registries without TLS (loopback may be so anyway)."},                 \
        {PACKAGE_OPT_CA, 0, "ca-file", "FILE", "Trust anchors (PEM) of the registry, instead of the system's."},       \
        {PACKAGE_OPT_USER, 0, "user-file", "FILE",                                                                     \
         "File with NAME:PASSWORD for the registry. Default: docker's config.json (auths; no helpers)."},              \
        {PACKAGE_OPT_QUIET, 'q', "quiet", NULL, "Only the digest."}, JSON_OPTION

static const struct cli_option pack_options[] = {
    {PACKAGE_OPT_OUTPUT, 'o', "output", "DIR", "The OCI image layout to put it into; made when it is not there."},
    {PACKAGE_OPT_TAG, 't', "tag", "TAG", "Its name in there (latest)."},
    {PACKAGE_OPT_ENCRYPT, 0, "encrypt", "FILE",
     "Encrypt with the key in FILE (32 bytes); a new one, when FILE is not there."},
    {PACKAGE_OPT_QUIET, 'q', "quiet", NULL, "Only the digest."},
    JSON_OPTION{0},
};
static const struct cli_example pack_examples[] = {
    {"donjon pack -o shop.oci shop/", "main.wasm and Donjon.toml of shop/, and what the configuration names"},
    {"donjon pack -o tool.oci --tag 1.2 tool.wasm", "A module alone"},
    {0},
};
const struct cli_verb verb_pack = {
    .name = "pack",
    .operands = "APP",
    .summary = "Make a package of a program, its configuration and its files",
    .text = "APP is a directory with a main.wasm and, if it wants one, a Donjon.toml or Enarx.toml, or a module. The "
            "package "
            "is an OCI artifact in the CNCF Wasm layout: one digest names every byte of it. Same input, same digest "
            "(encrypted packages excepted). Prints `oci:DIR@sha256:...`.",
    .options = pack_options,
    .examples = pack_examples,
    .main = main_pack,
};

static const struct cli_option push_options[] = {
    {PACKAGE_OPT_VERIFY, 0, "verify-key", "FILE", "Public key that must have signed it. May be repeated: one of them."},
    REGISTRY_OPTIONS{0},
};
static const struct cli_example push_examples[] = {
    {"donjon push shop.oci registry.example/team/shop:1.0", "To a registry"},
    {0},
};
const struct cli_verb verb_push = {
    .name = "push",
    .operands = "FROM TO",
    .summary = "Copy a package and its signatures to a registry",
    .text = "FROM and TO are references: `oci:DIR[:TAG][@sha256:...]` or `HOST/NAME[:TAG][@sha256:...]`. Everything is "
            "checked against its digest on the way. Prints the reference by digest.",
    .options = push_options,
    .examples = push_examples,
    .main = main_push,
};

static const struct cli_option pull_options[] = {
    {PACKAGE_OPT_OUTPUT, 'o', "output", "DIR", "An OCI image layout to put it into, as it is."},
    {PACKAGE_OPT_UNPACK, 'u', "unpack", "DIR", "A new directory for main.wasm, Donjon.toml and its files."},
    {PACKAGE_OPT_VERIFY, 0, "verify-key", "FILE", "Public key that must have signed it. May be repeated: one of them."},
    {PACKAGE_OPT_DECRYPT, 0, "decrypt-key", "FILE", "Key of an encrypted package, to open it here; --unpack needs it."},
    REGISTRY_OPTIONS{0},
};
static const struct cli_example pull_examples[] = {
    {"donjon pull --verify-key team.pub -u shop registry.example/team/shop@sha256:...",
     "A package you know, signed by whom you trust"},
    {"donjon pull -o shop.oci registry.example/team/shop:1.0", "Resolves the tag once, and prints what it was"},
    {0},
};
const struct cli_verb verb_pull = {
    .name = "pull",
    .operands = "FROM",
    .summary = "Fetch a package, checked, into a layout or a directory",
    .text = "FROM is a reference as for push. A tag is resolved once; what is printed names the digest. Without "
            "--output and "
            "--unpack it is only checked.\n\n"
            "Exit code 0: it is there and right. 125: it is not; nothing was unpacked.",
    .options = pull_options,
    .examples = pull_examples,
    .main = main_pull,
};

static const struct cli_option sign_options[] = {
    {PACKAGE_OPT_KEY, 'k', "key", "FILE", "Private key in PEM: Ed25519 or P-256."},
    {PACKAGE_OPT_NEW_KEY, 0, "new-key", "FILE",
     "Make an Ed25519 key: FILE, only yours to read, and FILE.pub. Then sign, if something is named."},
    REGISTRY_OPTIONS{0},
};
static const struct cli_example sign_examples[] = {
    {"donjon sign --new-key team", "team and team.pub"},
    {"donjon sign --key team shop.oci", "Sign what is in the layout; push copies the signature"},
    {"donjon sign --key team registry.example/team/shop@sha256:...", "Sign what is in a registry"},
    {0},
};
const struct cli_verb verb_sign = {
    .name = "sign",
    .operands = "[REFERENCE]",
    .summary = "Sign a package; make a key for it",
    .text =
        "Signs the digest of the package's manifest and puts the signature beside it, where cosign puts its own (tag "
        "sha256-DIGEST.sig). Other signatures stay.",
    .options = sign_options,
    .examples = sign_examples,
    .main = main_sign,
};
