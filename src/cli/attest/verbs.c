#include "verbs.h"

#include "options.h"

static const struct cli_option verify_options[] = {
    {OPT_POLICY, 'p', "policy", "FILE",
     "Appraisal policy in TOML (docs/attestation.md). Without one: is it genuine, current, and not debuggable?"},
    {OPT_SET, 's', "set", "KEY=VALUE", "Set one key of the policy, e.g. snp.measurements=7f51...; may be repeated."},
    {OPT_AT, 0, "at", "TIME", "Appraise for this time (RFC 3339, UTC) instead of now."},
    {OPT_COLLATERAL, 'c', "collateral", "PATH",
     "Certificates, revocation lists and collateral: a file, or a directory and those in it. May be repeated. Default: "
     "the cache."},
    {OPT_LOG, 0, "event-log", "FILE", "Event log of a TD (CCEL or dstack JSON), replayed against its RTMRs."},
    {OPT_NONCE, 0, "nonce", "HEX", "The nonce the evidence must answer."},
    {OPT_KEY, 0, "key", "FILE", "Public key (PEM) the evidence must vouch for."},
    {OPT_CORIM, 0, "corim", "FILE", "Reference values from a CoRIM, added to the policy."},
    {OPT_CORIM_KEY, 0, "corim-key", "FILE", "Public key (PEM) that must have signed the CoRIM."},
    {OPT_ROOT, 0, "root", "FILE", "A further trust anchor (private PKI)."},
    {OPT_DEV_ROOT, 0, "dev-root", "FILE",
     "Development root of the software signer. Its evidence protects nothing, and still needs --set "
     "allow_software=true."},
    {OPT_URL, 'u', "url", "https://HOST", "Fetch the certificate of a TLS server and appraise the evidence in it."},
    {OPT_JSON, 0, "json", NULL, "The result as JSON on standard output."},
    {OPT_VERBOSE, 'v', "verbose", NULL, "Show all claims of the evidence too."},
    {OPT_QUIET, 'q', "quiet", NULL, "Only the verdict line."},
    {OPT_COLOUR, 0, "color", "always|never|auto", "Colours in the tree."},
    {OPT_EAR, 0, "ear", "FILE",
     "Write a signed Attestation Result (EAR), a JWT; needs --ear-key. - is standard output."},
    {OPT_EAR_CWT, 0, "cwt", NULL, "Write the EAR as a CWT."},
    {OPT_EAR_KEY, 0, "ear-key", "FILE", "Private key (PEM, P-256 or P-384) that signs the EAR."},
    {0},
};
static const struct cli_example verify_examples[] = {
    {"donjon verify report.bin", "Is this report genuine? (certificates from the cache)"},
    {"donjon verify --policy app.toml --collateral certs/ quote.bin", "Is it what I asked for?"},
    {"donjon verify --policy app.toml --url https://keep.example:8443", "Who is behind this TLS server?"},
    {"donjon verify --at 2025-08-30T00:00:00Z --collateral old/ quote.bin", "Appraise old evidence at its own time"},
    {0},
};
const struct cli_verb verb_verify = {
    .name = "verify",
    .operands = "FILE",
    .summary = "Appraise attestation evidence: is it real, current, and what I asked for?",
    .text = "Appraises evidence of AMD SEV-SNP, Intel SGX and TDX, AWS Nitro, Keystone and the software signer, raw or "
            "in a certificate, CMW, "
            "configfs-tsm, Azure HCL or KBS JSON, offline. Shows every check with what was expected and found, then "
            "one verdict line.\n\n"
            "Exit code 0: accepted. 1: rejected, or the file holds no evidence. 125: the arguments or files are wrong.",
    .options = verify_options,
    .examples = verify_examples,
    .main = main_verify,
};

static const struct cli_option fetch_options[] = {
    {OPT_COLLATERAL, 'o', "output", "DIR", "Where to put it. Default: $XDG_CACHE_HOME/donjon/collateral."},
    {OPT_FROM, 0, "from", "URL",
     "Ask this server instead of the vendors' (a cache, or a test): scheme and host are replaced, paths stay."},
    {OPT_DRY, 'n', "dry-run", NULL, "Only say what would be fetched, one URL a line."},
    {0},
};
static const struct cli_example fetch_examples[] = {
    {"donjon collateral fetch report.bin", "The VCEK of this chip, its chain and revocation list"},
    {"donjon collateral fetch --output certs quote.bin",
     "TCB info, QE identity and revocation lists for this platform"},
    {0},
};
const struct cli_verb verb_collateral_fetch = {
    .name = "collateral fetch",
    .operands = "FILE",
    .summary = "Fetch what appraising this evidence needs from AMD or Intel",
    .text = "Asks AMD's Key Distribution Service or Intel's Provisioning Certification Service for the certificates, "
            "revocation lists and "
            "collateral that FILE needs, and keeps them in the cache. What is in the cache is verified at every use "
            "and never trusted.\n\n"
            "Exit code 0: everything was fetched. 1: something was not. 125: the arguments or files are wrong.",
    .options = fetch_options,
    .examples = fetch_examples,
    .main = main_collateral_fetch,
};

static const struct cli_option measure_options[] = {
    {OPT_KIND, 'k', "kind", "ovmf|sgxs|sigstruct|id-block|keep", "What FILE is. Default: by its content."},
    {OPT_VCPUS, 0, "vcpus", "N", "ovmf: number of vCPUs (1)."},
    {OPT_SIGNATURE, 0, "vcpu-signature", "HEX", "ovmf: CPUID leaf 1 EAX of the guest's CPU model (0x800f12)."},
    {OPT_FEATURES, 0, "guest-features", "HEX", "ovmf: SEV_FEATURES (0x1)."},
    {OPT_VMM, 0, "vmm", "qemu|ec2|gce", "ovmf: who launches it (qemu)."},
    {OPT_KERNEL, 0, "kernel", "FILE", "ovmf: kernel whose hash is measured."},
    {OPT_INITRD, 0, "initrd", "FILE", "ovmf: initial ramdisk."},
    {OPT_CMDLINE, 0, "cmdline", "TEXT", "ovmf: kernel command line."},
    {OPT_AUTH, 0, "auth", "FILE", "id-block: the ID authentication information (4096 bytes)."},
    {OPT_WARDEN, 0, "warden", "FILE", "keep: the warden that the shim in FILE is to take in."},
    {OPT_CODE, 0, "code", "FILE",
     "keep: what `donjon compile` made of the workload, where the keep is to be given that; a keep that compiles by "
     "itself needs none."},
    {OPT_C_BIT, 0, "c-bit", "N", "keep: which bit of an address says encrypted (51)."},
    {OPT_JSON, 0, "json", NULL, "As JSON."},
    {0},
};
static const struct cli_example measure_examples[] = {
    {"donjon measure --warden donjon-warden donjon-shim", "Launch digest of a keep, from the binaries alone"},
    {"donjon measure --kind ovmf --vcpus 4 --guest-features 0x1 OVMF.fd", "SNP launch digest of a QEMU guest"},
    {"donjon measure enclave.sgxs", "MRENCLAVE"},
    {0},
};
const struct cli_verb verb_measure = {
    .name = "measure",
    .operands = "FILE",
    .summary = "Compute reference values: what a measurement will be",
    .text = "Computes the SNP launch digest of a firmware image, MRENCLAVE of an SGXS stream, or checks a SIGSTRUCT or "
            "SNP ID block and shows what "
            "reports will say.\n\nExit code 0: computed. 1: the file is malformed or its signature wrong. 125: the "
            "arguments are wrong.",
    .options = measure_options,
    .examples = measure_examples,
    .main = main_measure,
};
