#include "verbs.h"

#include <stddef.h>

#define HOST_OPTIONS                                                                                                   \
    {DEPLOY_HOST, 'H', "host", "HOST[:PORT]", "The agent's address; port 7470 by default."},                           \
        {DEPLOY_AGENT_KEY, 0, "agent-key", "SHA256",                                                                   \
         "The agent's key, as the agent prints it when it starts. Needed (or --agent-ca) for all but this machine."},  \
        {DEPLOY_AGENT_CA, 0, "agent-ca", "FILE", "Certificate authority that vouches for the agent's name."}, {        \
        DEPLOY_TOKEN_FILE, 0, "token-file", "FILE", "The token by which the agent knows you."                          \
    }

static const struct cli_option deploy_options[] = {
    HOST_OPTIONS,
    {DEPLOY_BACKEND, 'b', "backend", "NAME", "How to build the keep; otherwise the strongest that the host has."},
    {DEPLOY_POLICY, 'p', "policy", "FILE",
     "Appraisal policy (TOML, docs/attestation.md). Without one: genuine, current, and with the measurement of this "
     "very release."},
    {DEPLOY_NO_TEE, 0, "allow-no-tee", NULL,
     "Deploy also where no hardware keeps the host out. The host can then read everything."},
    {DEPLOY_ROOT, 0, "development-root", "FILE",
     "With --allow-no-tee: the development root that must have signed the evidence (the agent's dev-root.pem)."},
    {DEPLOY_COLLATERAL, 'c', "collateral", "PATH",
     "Certificates, revocation lists and collateral: a file or directory. May be repeated. Default: the cache."},
    {DEPLOY_REFERENCE, 0, "reference", "DIR",
     "Where the release's shim and warden are, whose measurement the keep must have. Default: beside donjon."},
    {DEPLOY_SECRET, 's', "secret", "NAME=FILE",
     "The value of a secret that the config names; `-` reads standard input. May be repeated."},
    {DEPLOY_FILE, 'f', "file", "PATH[::GUEST]",
     "Deliver a file, or a directory with all in it, into the keep's file system under GUEST (the same name if none is "
     "given). May be repeated."},
    {OPT_CONFIG, 0, "config", "FILE", "Read a Donjon.toml or Enarx.toml. Options on the command line come on top."},
    {OPT_ENV, 0, "env", "KEY[=VALUE]", "Set an environment variable; KEY alone passes on the value it has here."},
    {OPT_ARGV0, 0, "argv0", "NAME", "What the program sees as its own name; otherwise the module's file name."},
    {OPT_LIMIT, 0, "limit", "KEY=VALUE", "Set a limit by its name in the config's [limits]."},
    {DEPLOY_MEMORY, 0, "memory", "SIZE", "Memory the host gives the keep, all together, 32 MiB at least; else the tenant's default."},
    {DEPLOY_NAME, 0, "name", "NAME", "A name for `ps` and the other verbs. The host sees it."},
    {DEPLOY_DETACH, 'd', "detach", NULL,
     "Once the program runs, print the keep's id and leave. Its standard input is at its end."},
    {DEPLOY_RESTART, 0, "restart", "on-failure",
     "When the program fails or the keep dies: deliver again. With --detach the host builds a fresh keep, which waits "
     "for `deploy --into`."},
    {DEPLOY_INTO, 0, "into", "ID", "Deliver into a keep that waits for its tenant again, instead of asking for one."},
    {DEPLOY_DRY, 'n', "dry-run", NULL,
     "Deploy nothing: print the workload's digest and the keep's measurement, for policies."},
    {DEPLOY_VERIFY_KEY, 0, "verify-key", "FILE",
     "APP is a package: a public key that must have signed it. May be repeated: one of them."},
    {DEPLOY_DECRYPT_KEY, 0, "decrypt-key", "FILE",
     "APP is an encrypted package: its key (`-`: from standard input), which the keep gets once it has proved what it "
     "is. Nothing is opened "
     "here."},
    {DEPLOY_PLAIN_HTTP, 0, "plain-http", NULL, "APP is in a registry without TLS (loopback may be so anyway)."},
    {DEPLOY_CA_FILE, 0, "ca-file", "FILE", "Trust anchors (PEM) of the registry, instead of the system's."},
    {DEPLOY_JSON, 0, "json", NULL, "Each step and the end as a line of JSON on standard error."},
    {DEPLOY_QUIET, 'q', "quiet", NULL, "Show no steps, also on a terminal. The warning about missing hardware stays."},
    {0},
};
static const struct cli_example deploy_examples[] = {
    {"donjon deploy --host tee.example --agent-key 9f86... app/", "Attested, then run there as if it were here"},
    {"donjon deploy -H tee.example --agent-ca ca.pem --secret db=pw.txt -d app/", "A service with a secret"},
    {"donjon deploy --host localhost --allow-no-tee app.wasm -- --fast x", "Development: no hardware, own arguments"},
    {0},
};
const struct cli_verb verb_deploy = {
    .name = "deploy",
    .operands = "APP [--] [ARGS...]",
    .summary = "Run a program in a keep on somebody else's machine, once that has proved what it is",
    .text = "Asks the agent on HOST for a keep, and the keep for evidence over this very connection; appraises it, and "
            "only "
            "then sends it "
            "APP (a module, a directory with main.wasm and Donjon.toml, or a package such as "
            "`registry.example/shop@sha256:...`), its configuration, files and secrets, inside a channel that ends "
            "in the keep. The host carries ciphertext.\n\n"
            "Attached, standard input, output and error are the program's, Ctrl-C ends it, and its exit code becomes "
            "donjon's, as with `donjon "
            "run`. A host directory of the config's [[mounts]] is delivered as a copy.\n\n"
            "A keep that no hardware protects is refused unless --allow-no-tee says otherwise.\n\n"
            "Exit code 125: refused, or lost; nothing was delivered unless the last step says so.",
    .options = deploy_options,
    .examples = deploy_examples,
    .operand_ends_options = true,
    .main = main_deploy,
};

static const struct cli_option ps_options[] = {
    HOST_OPTIONS,
    {DEPLOY_JSON, 0, "json", NULL, "As JSON on standard output."},
    {0},
};
static const struct cli_example ps_examples[] = {
    {"donjon ps", "Your deployments, wherever they are"},
    {"donjon ps --host tee.example --agent-key 9f86... --token-file t", "All your keeps on one host"},
    {0},
};
const struct cli_verb verb_ps = {
    .name = "ps",
    .operands = "",
    .summary = "List deployments",
    .text = "Lists the deployments this user made, with what their hosts say about them now. With --host: all keeps "
            "the tenant has there.\n\n"
            "What a host says about a keep's state is the host's word; `donjon evidence` and `donjon logs` ask the "
            "keep.",
    .options = ps_options,
    .examples = ps_examples,
    .main = main_ps,
};

static const struct cli_option logs_options[] = {
    {DEPLOY_FOLLOW, 'f', "follow", NULL, "Go on until the program ends."},
    {DEPLOY_JSON, 0, "json", NULL, "How the program ended, or that it runs, as a line of JSON on standard error."},
    {0},
};
const struct cli_verb verb_logs = {
    .name = "logs",
    .operands = "ID",
    .summary = "Show what a deployed program wrote",
    .text = "Shows the last 256 KiB that the program wrote to its standard output and error. They are kept inside the "
            "keep and come through the "
            "channel: the keep is appraised as `deploy` did it first. ID is an id, its beginning, or a name.\n\n"
            "How a program has ended, its exit code and what went wrong, is said on standard error.",
    .options = logs_options,
    .main = main_logs,
};
static const struct cli_option stop_options[] = {
    {DEPLOY_JSON, 0, "json", NULL, "What became of each, as JSON on standard output."},
    {0},
};
static const struct cli_option attach_options[] = {
    {DEPLOY_JSON, 0, "json", NULL, "How the program ended, as a line of JSON on standard error."},
    {0},
};
const struct cli_verb verb_attach = {
    .name = "attach",
    .operands = "ID",
    .summary = "Connect to a deployed program's input and output",
    .text = "Shows what the program wrote last and goes on with it. Ctrl-C leaves; the program goes on. Its exit code "
            "becomes donjon's, also when it had ended before: once, then the keep is gone.",
    .options = attach_options,
    .main = main_attach,
};
const struct cli_verb verb_stop = {
    .name = "stop",
    .operands = "ID...",
    .summary = "End deployed programs and their keeps",
    .text = "Asks the host to end the keep, and forgets the deployment.",
    .options = stop_options,
    .main = main_stop,
};
static const struct cli_option evidence_options[] = {
    {DEPLOY_NONCE, 0, "nonce", "HEX", "32 bytes the evidence must answer; otherwise random ones."},
    {DEPLOY_OUTPUT, 'o', "output", "FILE",
     "Where the evidence goes; its endorsements to FILE.pem. Default: evidence.bin."},
    {DEPLOY_JSON, 0, "json", NULL, "What was saved, as JSON on standard output."},
    {0},
};
static const struct cli_example evidence_examples[] = {
    {"donjon evidence web -o now.bin", "Fresh evidence of a deployment, for others to appraise"},
    {0},
};
const struct cli_verb verb_evidence = {
    .name = "evidence",
    .operands = "ID",
    .summary = "Get fresh evidence from a deployed keep",
    .text = "Asks the keep for evidence over a nonce and this connection, appraises it as `deploy` did, saves it, and "
            "prints the command by "
            "which `donjon verify` appraises it again.\n\nExit code 0: accepted. 1: rejected; saved nevertheless.",
    .options = evidence_options,
    .examples = evidence_examples,
    .main = main_evidence,
};
