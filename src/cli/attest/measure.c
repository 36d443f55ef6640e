#include "attest.h"
#include "cli/code_file.h"
#include "loader/measure.h"

#include <ctype.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

enum kind { KIND_UNKNOWN, KIND_OVMF, KIND_SGXS, KIND_SIGSTRUCT, KIND_ID_BLOCK, KIND_KEEP };

struct measurement {
    struct cli_args *a;
    const char *file, *kernel, *initrd, *auth, *warden, *code;
    unsigned c_bit;
    struct attest_ovmf_launch launch;
    enum kind kind;
    bool json, first;
};

static void line(struct measurement *m, const char *name, const uint8_t *bytes, size_t size) {
    if (m->json)
        printf("%s  \"%s\": \"", m->first ? "{\n" : ",\n", name);
    else
        printf("%s: ", name);
    for (size_t i = 0; i < size; i++)
        printf("%02x", bytes[i]);
    printf("%s", m->json ? "\"" : "\n");
    m->first = false;
}

static void number(struct measurement *m, const char *name, unsigned long long n) {
    if (m->json)
        printf("%s  \"%s\": %llu", m->first ? "{\n" : ",\n", name, n);
    else
        printf("%s: %llu\n", name, n);
    m->first = false;
}

static int wrong(struct measurement *m, const char *what) {
    cli_error(m->a->verb, "%s: %s", m->file, what);
    return CLI_NO;
}

static int measure_ovmf(struct measurement *m, struct attest_bytes firmware) {
    uint8_t digest[ATTEST_SNP_DIGEST];
    m->launch.firmware = firmware;
    if (m->kernel && !attest_read(m->a->verb, m->kernel, &m->launch.kernel)) return CLI_FAILED;
    if (m->initrd && !attest_read(m->a->verb, m->initrd, &m->launch.initrd)) return CLI_FAILED;
    m->launch.with_kernel = m->kernel;
    const char *fault = attest_snp_launch_ovmf(&m->launch, digest);
    if (fault) return wrong(m, fault);
    line(m, "snp.measurements", digest, sizeof digest);
    return CLI_YES;
}

/* The compiled code in a file of `donjon compile`'s, by its own digest. */
static bool measure_code(struct measurement *m, struct shim_digests *d) {
    struct attest_bytes file;
    struct code_head h;
    if (!m->code) return true;
    if (!attest_read(m->a->verb, m->code, &file)) return false;
    bool ok = file.size >= sizeof h + MAC_SIZE;
    if (ok) memcpy(&h, file.data, sizeof h);
    ok = ok && h.version == CODE_FILE_VERSION && h.code_size <= file.size - sizeof h - MAC_SIZE;
    if (ok) d->code_size = h.code_size;
    const uint8_t *code = file.data + file.size - MAC_SIZE - (ok ? h.code_size : 0);
    ok = ok && EVP_Digest(code, h.code_size, d->code_sha256, NULL, EVP_sha256(), NULL) == 1;
    free((void *)file.data);
    if (!ok) cli_error(m->a->verb, "%s: expected a file that `donjon compile` made", m->code);
    return ok;
}

static int measure_keep(struct measurement *m, struct attest_bytes shim) {
    struct attest_bytes warden;
    struct shim_digests digests;
    uint8_t digest[ATTEST_SNP_DIGEST];
    const char *fault = kvm_shim_check(shim.data, shim.size);
    if (fault) return cli_error(m->a->verb, "the file %s", fault), CLI_NO;
    if (!m->warden) return cli_usage_error(m->a, "this is a keep's shim: expected --warden FILE as well");
    if (!attest_read(m->a->verb, m->warden, &warden)) return CLI_FAILED;
    bool ok = kvm_digests(warden.data, warden.size, &digests);
    free((void *)warden.data);
    if (!ok) return cli_error(m->a->verb, "%s: expected a warden, an ELF program for x86-64", m->warden), CLI_NO;
    if (!measure_code(m, &digests)) return CLI_FAILED;
    fault = keep_measure(shim, &digests, m->c_bit, digest);
    if (fault) return wrong(m, fault);
    line(m, "snp.measurements", digest, sizeof digest);
    line(m, "warden.sha256", digests.warden_sha256, sizeof digests.warden_sha256);
    if (m->code) line(m, "code.sha256", digests.code_sha256, sizeof digests.code_sha256);
    return CLI_YES;
}

static int measure_sgxs(struct measurement *m, struct attest_bytes bytes) {
    uint8_t mrenclave[32];
    const char *fault = attest_sgx_measure(bytes, mrenclave);
    if (fault) return wrong(m, fault);
    line(m, "sgx.mrenclaves", mrenclave, sizeof mrenclave);
    return CLI_YES;
}

static int measure_sigstruct(struct measurement *m, struct attest_bytes bytes) {
    struct attest_sigstruct s;
    const char *fault = attest_sgx_sigstruct(bytes, &s);
    if (fault) return wrong(m, fault);
    line(m, "sgx.mrenclaves", s.mrenclave, sizeof s.mrenclave);
    line(m, "sgx.mrsigners", s.mrsigner, sizeof s.mrsigner);
    number(m, "sgx.product_id", s.isv_prod_id);
    number(m, "sgx.minimum_svn", s.isv_svn);
    return CLI_YES;
}

static int measure_id_block(struct measurement *m, struct attest_bytes bytes) {
    struct attest_bytes auth;
    struct attest_id_block block;
    if (!m->auth) return cli_usage_error(m->a, "this is an ID block: expected --auth FILE as well");
    if (!attest_read(m->a->verb, m->auth, &auth)) return CLI_FAILED;
    const char *fault = attest_snp_id_block(bytes, auth, &block);
    free((void *)auth.data);
    if (fault) return wrong(m, fault);
    line(m, "snp.measurements", block.launch_digest, sizeof block.launch_digest);
    line(m, "snp.id_keys", block.id_key_digest, sizeof block.id_key_digest);
    line(m, "snp.author_keys", block.author_key_digest, sizeof block.author_key_digest);
    line(m, "snp.family_ids", block.family_id, sizeof block.family_id);
    line(m, "snp.image_ids", block.image_id, sizeof block.image_id);
    number(m, "snp.minimum_guest_svn", block.guest_svn);
    return CLI_YES;
}

static enum kind kind_of(struct attest_bytes b) {
    if (b.size > 4 && !memcmp(b.data, "Shim", 4)) return KIND_KEEP;
    if (b.size == 96) return KIND_ID_BLOCK;
    if (b.size == 1808 && b.data[0] == 6) return KIND_SIGSTRUCT;
    if (b.size > 8 && !memcmp(b.data, "ECREATE", 8)) return KIND_SGXS;
    return b.size % 4096 == 0 && b.size ? KIND_OVMF : KIND_UNKNOWN;
}

static bool take_number(const char *text, int base, unsigned long long most, unsigned long long *out) {
    char *end;
    if (!isxdigit((unsigned char)*text)) return false;
    *out = strtoull(text, &end, base);
    return !*end && *out <= most;
}

static bool take_option(struct measurement *m, int id, const char *value) {
    unsigned long long n;
    static const char *const kinds[] = {"", "ovmf", "sgxs", "sigstruct", "id-block", "keep"}, *const vmms[] = {
                                                                                                  "qemu", "ec2", "gce"};
    switch (id) {
    case OPT_KIND:
        for (int i = KIND_OVMF; i <= KIND_KEEP; i++)
            if (!strcmp(value, kinds[i])) m->kind = (enum kind)i;
        return m->kind != KIND_UNKNOWN;
    case OPT_VMM:
        for (int i = 0; i < 3; i++)
            if (!strcmp(value, vmms[i])) return m->launch.vmm = (enum attest_vmm)i, true;
        return false;
    case OPT_VCPUS: return take_number(value, 10, UINT16_MAX, &n) && n && (m->launch.vcpus = (unsigned)n, true);
    case OPT_SIGNATURE: return take_number(value, 16, UINT32_MAX, &n) && (m->launch.vcpu_signature = (uint32_t)n, true);
    case OPT_FEATURES: return take_number(value, 16, UINT64_MAX, &n) && (m->launch.guest_features = n, true);
    case OPT_KERNEL: m->kernel = value; return true;
    case OPT_INITRD: m->initrd = value; return true;
    case OPT_CMDLINE: m->launch.cmdline = (struct attest_bytes){(const uint8_t *)value, strlen(value)}; return true;
    case OPT_AUTH: m->auth = value; return true;
    case OPT_WARDEN: m->warden = value; return true;
    case OPT_CODE: m->code = value; return true;
    case OPT_C_BIT: m->c_bit = (unsigned)strtoul(value, NULL, 10); return m->c_bit >= 32 && m->c_bit < 52;
    case OPT_JSON: m->json = true; return true;
    default: return false;
    }
}

int main_measure(struct cli_args *a) {
    struct measurement m = {
        .a = a, .first = true, .c_bit = 51, .launch = {.vcpus = 1, .vcpu_signature = 0x800f12, .guest_features = 1}};
    const char *file = NULL, *value;
    for (int id; (id = cli_next(a, &value)) != CLI_END;) {
        if (id == CLI_STOP) return a->exit_code;
        if (id != CLI_OPERAND) {
            if (!take_option(&m, id, value)) return cli_usage_error(a, "%s: unexpected value \"%s\"", a->shown, value);
        } else if (file)
            return cli_usage_error(a, "expected one file, found \"%s\" too", value);
        else
            file = value;
    }
    if (!file)
        return cli_usage_error(
            a, "which file? Expected a firmware image, SGXS stream, SIGSTRUCT, ID block or keep's shim");
    m.file = file;
    struct attest_bytes bytes;
    if (!attest_read(a->verb, file, &bytes)) return CLI_FAILED;
    int code = CLI_NO;
    switch (m.kind ? m.kind : kind_of(bytes)) {
    case KIND_OVMF: code = measure_ovmf(&m, bytes); break;
    case KIND_SGXS: code = measure_sgxs(&m, bytes); break;
    case KIND_SIGSTRUCT: code = measure_sigstruct(&m, bytes); break;
    case KIND_ID_BLOCK: code = measure_id_block(&m, bytes); break;
    case KIND_KEEP: code = measure_keep(&m, bytes); break;
    default:
        cli_error(
            a->verb,
            "%s: expected a firmware image (whole pages), SGXS stream, SIGSTRUCT, ID block or keep's shim, found %s; "
            "if it is one of them, say which with --kind",
            file, attest_looks_like(bytes));
    }
    if (m.json && code == CLI_YES) printf("\n}\n");
    free((void *)m.launch.kernel.data);
    free((void *)m.launch.initrd.data);
    free((void *)bytes.data);
    return code;
}
