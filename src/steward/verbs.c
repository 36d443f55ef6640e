#include "verbs.h"

static const struct cli_option serve_options[] = {
    {STEWARD_OPT_CONFIG, 'c', "config", "FILE", "What it is told (docs/steward.md). Default: steward.toml."},
    {STEWARD_OPT_CHECK, 0, "check", NULL, "Only read everything the file names, and say whether it would start."},
    {0},
};
static const struct cli_example serve_examples[] = {
    {"donjon steward init shop && donjon steward --config shop/steward.toml",
     "An authority, and a steward that uses it"},
    {"curl --cacert shop/ca.pem https://steward.example:7475/healthz", "Does it issue certificates?"},
    {0},
};
const struct cli_verb verb_steward = {
    .name = "steward",
    .operands = "",
    .summary = "Serve as Verifier and certificate authority for keeps",
    .text =
        "Answers certificate requests that carry evidence: when one of the rules in steward.toml accepts the evidence, "
        "the keep gets a certificate for hours that names TEE, measurement, workload digest and TCB status. Gives "
        "EAR tokens to those who want no certificates. Everything stands in an audit log before it is answered; when "
        "in doubt, nothing is issued.\n\n"
        "SIGHUP: read policies, collateral and what is denied again, and go on in a new audit log where the old one "
        "has "
        "been renamed. SIGTERM: finish what is on its way and end.\n\n"
        "Exit code 0: ended on request. 125: it did not start, or cannot go on.",
    .options = serve_options,
    .examples = serve_examples,
    .main = main_steward,
};

static const struct cli_option init_options[] = {
    {STEWARD_OPT_NAME, 0, "name", "TEXT", "Common name of the authority (Donjon steward)."},
    {STEWARD_OPT_KEY, 0, "key", "FILE|pkcs11:URI", "Use this key instead of making ca-key.pem."},
    {STEWARD_OPT_MODULE, 0, "pkcs11-module", "FILE", "The token's PKCS#11 library."},
    {STEWARD_OPT_DAYS, 0, "days", "N", "Life of the authority's certificate (1825)."},
    {0},
};
const struct cli_verb verb_steward_init = {
    .name = "steward init",
    .operands = "DIR",
    .summary = "Make an authority and a steward.toml to begin with",
    .text =
        "Makes DIR with ca-key.pem (P-256, only yours to read), ca.pem, steward.toml and policy.toml. Nothing that is "
        "there is overwritten. The policy has no measurement yet, so nothing is issued before you have put one in.",
    .options = init_options,
    .main = main_steward_init,
};

static const struct cli_option audit_options[] = {
    {STEWARD_OPT_HEAD, 0, "head", "HEX",
     "A head noted earlier (from here or /healthz) that must be among the entries."},
    {STEWARD_OPT_QUIET, 'q', "quiet", NULL, "Only the exit code, and what is wrong."},
    {0},
};
static const struct cli_example audit_examples[] = {
    {"donjon steward audit audit.jsonl", "Is the log whole?"},
    {"donjon steward audit --head 5f0c... audit.jsonl", "And is it still the one I saw last week?"},
    {"donjon steward audit audit.jsonl.1 audit.jsonl", "Also from one file to the next, oldest first?"},
    {0},
};
const struct cli_verb verb_steward_audit = {
    .name = "steward audit",
    .operands = "FILE...",
    .summary = "Check the hash chain of a steward's audit log",
    .text =
        "Reads every entry and compares the digests that chain them: a line that was changed, removed or put in shows. "
        "That the end was cut off shows only against a head noted elsewhere: keep one, with --head. Of several files, "
        "oldest "
        "first, each must go on where the one before ends.\n\n"
        "Exit code 0: whole. 1: it is not. 125: the arguments or the file are wrong.",
    .options = audit_options,
    .examples = audit_examples,
    .main = main_steward_audit,
};
