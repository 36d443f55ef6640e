/* donjon config init: a Donjon.toml in which everything that may be said is there as a comment. */
#include "cli.h"
#include "config/config.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { OPT_FORCE = 1 };

static const char head[] =
    "# What a program may have and see when Donjon runs it:  donjon run --config Donjon.toml app.wasm\n"
    "# Every line that is a comment shows a default or an example. All of it: docs/config.md\n"
    "\n"
    "# Arguments after the program's own name. Arguments on the command line replace them.\n"
    "# args = [\"--verbose\", \"input.txt\"]\n"
    "\n"
    "# Environment. The program inherits nothing from this machine.\n"
    "[env]\n"
    "# LANG = \"C.UTF-8\"\n"
    "\n"
    "# Descriptors, from 0 on. Without any [[files]] a program has these three.\n"
    "[[files]]\n"
    "kind = \"stdin\" # or \"null\"\n"
    "\n"
    "[[files]]\n"
    "kind = \"stdout\"\n"
    "\n"
    "[[files]]\n"
    "kind = \"stderr\"\n"
    "\n"
    "# A socket to accept connections on. FD_COUNT and FD_NAMES in the environment tell the program which descriptor "
    "it is.\n"
    "# [[files]]\n"
    "# kind = \"listen\"\n"
    "# name = \"HTTP\"\n"
    "# prot = \"tcp\" # \"tls\" when left out: TLS 1.3 that ends in the keep, with the certificate of [tls]\n"
    "# addr = \"127.0.0.1\" # \"::\", every address, when left out\n"
    "# port = 8080\n"
    "## client-auth = \"require\" # tls: only clients that these say yes to, one or both\n"
    "## trust = [\"clients-ca.pem\"]\n"
    "## peer-policy = \"policy.toml\" # the client is a keep: what its evidence must be\n"
    "\n"
    "# A connection made before the program starts.\n"
    "# [[files]]\n"
    "# kind = \"connect\"\n"
    "# name = \"database\"\n"
    "# prot = \"tcp\" # \"tls\" when left out; then `trust` or `peer-policy` says whom to believe\n"
    "# host = \"127.0.0.1\"\n"
    "# port = 5432\n"
    "## trust = [\"/etc/ssl/certs/ca-certificates.crt\"]\n"
    "## server-name = \"db.example\" # else `host`\n"
    "\n"
    "# Directories of this machine, relative to this file. Everything else in the file system is in memory.\n"
    "# [[mounts]]\n"
    "# host = \"data\"\n"
    "# guest = \"/data\"\n"
    "# writable = false\n"
    "\n"
    "[limits]\n";

static const char tail[] =
    "\n"
    "# The keep's certificate, made in the keep.\n"
    "[tls]\n"
    "# names = [\"localhost\", \"127.0.0.1\"]\n"
    "# lifetime = \"12h\"\n"
    "## steward-ca = \"ca.pem\" # with `steward` at the top: issued by that steward, or not at all\n"
    "\n"
    "[wasm]\n"
    "# unknown-imports-trap = false # functions nobody provides: refuse to start, or trap when called\n"
    "# unknown-imports-default = false # or return zeros\n"
    "# interpret = false            # no native code: the reference interpreter\n"
    "# explicit-checks = false      # compare every address, instead of letting guard pages catch it\n";

static void write_template(FILE *f) {
    fputs(head, f);
    for (int i = 0; i < CONFIG_LIMIT_COUNT; i++) {
        const struct config_limit_info *l = &config_limit_table[i];
        char buf[CONFIG_QUANTITY_MAX], line[64];
        config_format_quantity(buf, l->unit, l->value);
        const char *quote = l->unit == CONFIG_COUNT && l->value != CONFIG_UNLIMITED ? "" : "\"";
        snprintf(line, sizeof line, "# %s = %s%s%s", l->key, quote, buf, quote);
        fprintf(f, "%-36s # %s\n", line, l->what);
    }
    fputs(tail, f);
}

static int main_config_init(struct cli_args *a) {
    const char *path = NULL, *value;
    bool force = false;
    for (int id; (id = cli_next(a, &value)) != CLI_END;) {
        if (id == CLI_STOP) return a->exit_code;
        if (id == OPT_FORCE)
            force = true;
        else if (path)
            return cli_usage_error(a, "expected one file, found \"%s\" too", value);
        else
            path = value;
    }
    if (!path) path = "Donjon.toml";
    if (!strcmp(path, "-")) {
        write_template(stdout);
        return CLI_YES;
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | (force ? O_TRUNC : O_EXCL), 0666);
    if (fd < 0 && errno == EEXIST) {
        cli_error(a->verb, "%s is there already; --force replaces it", path);
        return CLI_FAILED;
    }
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
    if (f) write_template(f);
    if (!f || ferror(f) | fclose(f)) {
        cli_error(a->verb, "cannot write %s: %s", path, strerror(errno));
        return CLI_FAILED;
    }
    printf("Wrote %s. Edit it, then: donjon config check %s\n", path, path);
    return CLI_YES;
}

static const struct cli_option options[] = {
    {OPT_FORCE, 'f', "force", NULL, "Replace a file that is there already."},
    {0},
};
static const struct cli_example examples[] = {
    {"donjon config init", "Write Donjon.toml here"},
    {"donjon config init -", "Look at it first"},
    {0},
};

const struct cli_verb verb_config_init = {
    .name = "config init",
    .operands = "[FILE]",
    .summary = "Write a Donjon.toml to start from",
    .text =
        "Writes FILE, or Donjon.toml, with every key explained and every default shown. `-` writes to standard output.",
    .options = options,
    .examples = examples,
    .main = main_config_init,
};
