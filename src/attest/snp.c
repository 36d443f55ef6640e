#include "snp.h"

#include <stdio.h>

#include <openssl/asn1.h>
#include <openssl/err.h>

const char *const snp_product_names[] = {"Milan", "Genoa", "Turin", "unknown"};

static void reverse(uint8_t *out, const uint8_t *in, size_t n) {
    for (size_t i = 0; i < n; i++)
        out[i] = in[n - 1 - i];
}

bool snp_parse(struct attest_bytes bytes, struct snp_report *t) {
    memset(t, 0, sizeof *t);
    if (bytes.size != SNP_REPORT_SIZE) return false;
    struct reader reader = reader_of(bytes), *r = &reader;
    bool zero = true;
    t->raw = bytes.data;
    t->version = read_le32(r);
    t->guest_svn = read_le32(r);
    t->policy = read_le64(r);
    read_into(r, t->family_id, sizeof t->family_id);
    read_into(r, t->image_id, sizeof t->image_id);
    t->vmpl = read_le32(r);
    t->algorithm = read_le32(r);
    t->current_tcb = read_le64(r);
    t->platform_info = read_le64(r);
    t->key_info = read_le32(r);
    zero &= read_reserved(r, 4);
    read_into(r, t->report_data, sizeof t->report_data);
    read_into(r, t->measurement, sizeof t->measurement);
    read_into(r, t->host_data, sizeof t->host_data);
    read_into(r, t->id_key_digest, sizeof t->id_key_digest);
    read_into(r, t->author_key_digest, sizeof t->author_key_digest);
    read_into(r, t->report_id, sizeof t->report_id);
    read_into(r, t->report_id_ma, sizeof t->report_id_ma);
    t->reported_tcb = read_le64(r);
    t->cpuid_family = read_u8(r);
    t->cpuid_model = read_u8(r);
    t->cpuid_stepping = read_u8(r);
    if (t->version < 3) zero &= !t->cpuid_family && !t->cpuid_model && !t->cpuid_stepping;
    zero &= read_reserved(r, 21);
    read_into(r, t->chip_id, sizeof t->chip_id);
    t->committed_tcb = read_le64(r);
    t->current_build = read_u8(r);
    t->current_minor = read_u8(r);
    t->current_major = read_u8(r);
    zero &= read_reserved(r, 1);
    t->committed_build = read_u8(r);
    t->committed_minor = read_u8(r);
    t->committed_major = read_u8(r);
    zero &= read_reserved(r, 1);
    t->launch_tcb = read_le64(r);
    t->launch_mitigations = read_le64(r);
    t->current_mitigations = read_le64(r);
    if (t->version < 5) zero &= !t->launch_mitigations && !t->current_mitigations;
    zero &= read_reserved(r, 152);
    const uint8_t *scalars = read_span(r, 2 * SNP_SCALAR_FIELD);
    reverse(t->r, scalars, sizeof t->r);
    reverse(t->s, scalars + SNP_SCALAR_FIELD, sizeof t->s);
    t->signature_padded = all_zero(scalars + sizeof t->r, SNP_SCALAR_FIELD - sizeof t->r) &&
                          all_zero(scalars + SNP_SCALAR_FIELD + sizeof t->s, SNP_SCALAR_FIELD - sizeof t->s);
    zero &= read_reserved(r, 368); /* not signed */
    zero &= (t->policy & ~SNP_POLICY_KNOWN) == 0 && (t->policy & SNP_POLICY_ONE);
    zero &= (t->platform_info & ~SNP_PLATFORM_KNOWN) == 0 && t->key_info >> 5 == 0;
    t->reserved_zero = zero;
    return !r->failed && r->left == 0;
}

enum snp_product snp_product_of(const struct snp_report *t) {
    enum { ZEN3_ZEN4 = 0x19, ZEN5 = 0x1a };
    if (t->version < 3) return SNP_UNKNOWN;
    unsigned family = t->cpuid_family, model = t->cpuid_model;
    if (family == ZEN3_ZEN4 && model <= 0x0f) return SNP_MILAN;
    if (family == ZEN3_ZEN4 && ((model >= 0x10 && model <= 0x1f) || (model >= 0xa0 && model <= 0xaf))) return SNP_GENOA;
    if (family == ZEN5 && model <= 0x11) return SNP_TURIN;
    return SNP_UNKNOWN;
}

struct snp_tcb snp_tcb_of(uint64_t raw, enum snp_product product) {
    uint8_t b[8];
    for (unsigned i = 0; i < sizeof b; i++)
        b[i] = (uint8_t)(raw >> 8 * i);
    if (product == SNP_TURIN)
        return (struct snp_tcb){.fmc = b[0],
                                .bootloader = b[1],
                                .tee = b[2],
                                .snp = b[3],
                                .microcode = b[7],
                                .reserved_zero = all_zero(b + 4, 3)};
    return (struct snp_tcb){
        .bootloader = b[0], .tee = b[1], .snp = b[6], .microcode = b[7], .reserved_zero = all_zero(b + 2, 4)};
}

/* ---- Certificates ---- */

#define AMD_OID "1.3.6.1.4.1.3704.1."

/* An extension holding one INTEGER 0..max; -1 when absent, malformed or out of range. */
static int64_t vek_integer(const X509 *x, const char *oid, int64_t max) {
    struct attest_bytes value;
    if (!extension_of(x, oid, &value)) return -1;
    const uint8_t *at = value.data;
    ASN1_INTEGER *integer = d2i_ASN1_INTEGER(NULL, &at, (long)value.size);
    int64_t n = -1;
    bool ok =
        integer && at == value.data + value.size && ASN1_INTEGER_get_int64(&n, integer) == 1 && n >= 0 && n <= max;
    ASN1_INTEGER_free(integer);
    ERR_clear_error();
    return ok ? n : -1;
}

static bool vek_string(const X509 *x, const char *oid, char *out, size_t size) {
    struct attest_bytes value;
    out[0] = 0;
    if (!extension_of(x, oid, &value)) return false;
    const uint8_t *at = value.data;
    ASN1_IA5STRING *string = d2i_ASN1_IA5STRING(NULL, &at, (long)value.size);
    bool ok = string && at == value.data + value.size && (size_t)ASN1_STRING_length(string) < size;
    if (ok) {
        memcpy(out, ASN1_STRING_get0_data(string), (size_t)ASN1_STRING_length(string));
        out[ASN1_STRING_length(string)] = 0;
    }
    ASN1_IA5STRING_free(string);
    ERR_clear_error();
    return ok;
}

bool snp_is_vek(const X509 *x) {
    struct attest_bytes value;
    return extension_of(x, AMD_OID "2", &value);
}

void snp_vek_parse(const X509 *x, struct snp_vek *vek) {
    memset(vek, 0, sizeof *vek);
    char name[32], common[64];
    bool ok = vek_string(x, AMD_OID "2", name, sizeof name);
    vek->product = SNP_UNKNOWN;
    for (int p = 0; p < SNP_PRODUCTS; p++) /* "Milan-B0" is Milan */
        if (strncmp(name, snp_product_names[p], strlen(snp_product_names[p])) == 0) vek->product = (enum snp_product)p;
    /* The same silicon generation under the same authority; who issued it is checked by name. */
    if (strncmp(name, "Bergamo", 7) == 0 || strncmp(name, "Siena", 5) == 0) vek->product = SNP_GENOA;
    common_name(X509_get_subject_name(x), common, sizeof common);
    vek->kind = strcmp(common, "SEV-VCEK") == 0 ? SNP_VCEK : strcmp(common, "SEV-VLEK") == 0 ? SNP_VLEK : SNP_NO_KEY;
    vek->structure_version = vek_integer(x, AMD_OID "1", 1);
    int64_t bootloader = vek_integer(x, AMD_OID "3.1", 255), tee = vek_integer(x, AMD_OID "3.2", 255),
            snp = vek_integer(x, AMD_OID "3.3", 255), microcode = vek_integer(x, AMD_OID "3.8", 255),
            fmc = vek->product == SNP_TURIN ? vek_integer(x, AMD_OID "3.9", 255) : 0;
    vek->tcb =
        (struct snp_tcb){(uint8_t)fmc, (uint8_t)bootloader, (uint8_t)tee, (uint8_t)snp, (uint8_t)microcode, true};
    ok = ok && bootloader >= 0 && tee >= 0 && snp >= 0 && microcode >= 0 && fmc >= 0 && vek->structure_version >= 0;
    struct attest_bytes hwid;
    if (extension_of(x, AMD_OID "4", &hwid)) {
        enum { OCTET_STRING = 0x04 };
        /* The bytes stand directly in the extension; some issuers wrap them in an OCTET STRING. */
        if (hwid.size > 2 && hwid.size <= sizeof vek->hwid + 2 && hwid.data[0] == OCTET_STRING &&
            hwid.data[1] == hwid.size - 2)
            hwid = (struct attest_bytes){hwid.data + 2, hwid.size - 2};
        size_t wanted = vek->product == SNP_TURIN ? 8 : 64;
        if (hwid.size == wanted) {
            memcpy(vek->hwid, hwid.data, wanted);
            vek->hwid_size = wanted;
        }
    }
    vek_string(x, AMD_OID "5", vek->csp, sizeof vek->csp);
    vek->well_formed = ok && vek->kind != SNP_NO_KEY && (vek->kind == SNP_VLEK || vek->hwid_size);
}

/* ---- Certificate table ---- */

enum { TABLE_ENTRY = 24, TABLE_GUID = 16, TABLE_MAX_ENTRIES = 32 };

bool snp_is_table(struct attest_bytes table) {
    enum { PAGE = 4096 };
    struct reader r = reader_of(table);
    size_t furthest = 0, nearest = SIZE_MAX;
    for (size_t i = 0; i <= TABLE_MAX_ENTRIES; i++) {
        const uint8_t *guid = read_span(&r, TABLE_GUID);
        uint32_t offset = read_le32(&r), length = read_le32(&r);
        if (r.failed) return false;
        if (all_zero(guid, TABLE_GUID) && offset == 0 && length == 0) {
            if (i == 0) return all_zero(r.at, r.left) && (r.left == 0 || table.size % PAGE == 0);
            return nearest >= (i + 1) * TABLE_ENTRY && furthest <= table.size;
        }
        if (offset < nearest) nearest = offset;
        if ((size_t)offset + length > furthest) furthest = (size_t)offset + length;
    }
    return false;
}

size_t snp_read_table(struct attest_bytes table, struct certs *certs, struct crls *crls) {
    static const char known[][TABLE_GUID + 1] = {
        /* As bytes in the table, which is the textual order of the GUIDs (GHCB 2.03, section 4.1.8.1). */
        "\x63\xda\x75\x8d\xe6\x64\x45\x64\xad\xc5\xf4\xb9\x3b\xe8\xac\xcd", /* VCEK */
        "\xa8\x07\x4b\xc2\xa2\x5a\x48\x3e\xaa\xe6\x39\xc0\x45\xa0\xb8\xa1", /* VLEK */
        "\x4a\xb7\xb3\x79\xbb\xac\x4f\xe4\xa0\x2f\x05\xae\xf3\x27\xc7\x82", /* ASK */
        "\xc0\xb4\x06\xa4\xa8\x03\x49\x52\x97\x43\x3f\xb6\x01\x4c\xd0\xae", /* ARK */
        "\x92\xf8\x1b\xc3\x58\x11\x4d\x3d\x97\xff\xd1\x9f\x88\xdc\x67\xea", /* CRL */
    };
    struct reader r = reader_of(table);
    bool whole = snp_is_table(table);
    size_t found = 0;
    for (int i = 0; i < TABLE_MAX_ENTRIES; i++) {
        const uint8_t *guid = read_span(&r, TABLE_GUID);
        uint32_t offset = read_le32(&r), length = read_le32(&r);
        if (r.failed || (all_zero(guid, TABLE_GUID) && offset == 0 && length == 0)) break;
        bool ours = false;
        for (size_t k = 0; k < sizeof known / sizeof *known; k++)
            ours |= memcmp(guid, known[k], TABLE_GUID) == 0;
        if (!ours) {
            if (i == 0 && !whole) return 0; /* not a table at all */
            continue;
        }
        if (offset > table.size || length > table.size - offset) return 0;
        found += read_certificates((struct attest_bytes){table.data + offset, length}, certs, crls);
    }
    return found;
}

/* ---- Facts ---- */

static void fact_tcb(struct attest_result *res, const char *name, uint64_t raw, enum snp_product product) {
    struct snp_tcb t = snp_tcb_of(raw, product);
    struct attest_value value =
        product == SNP_TURIN
            ? v_format(res, "fmc %u, bootloader %u, tee %u, snp %u, microcode %u", t.fmc, t.bootloader, t.tee, t.snp,
                       t.microcode)
            : v_format(res, "bootloader %u, tee %u, snp %u, microcode %u", t.bootloader, t.tee, t.snp, t.microcode);
    fact(res, name, value);
}

void snp_describe(struct attest_result *res, const struct snp_report *t, enum snp_product product) {
    fact_number(res, "version", t->version);
    fact(res, "product", v_text(snp_product_names[product]));
    fact_bytes(res, "measurement", t->measurement, sizeof t->measurement);
    fact_bytes(res, "report_data", t->report_data, sizeof t->report_data);
    fact_bytes(res, "host_data", t->host_data, sizeof t->host_data);
    fact_hex(res, "policy", t->policy);
    fact(res, "debug", v_bool(t->policy & SNP_POLICY_DEBUG));
    fact_number(res, "vmpl", t->vmpl);
    fact_number(res, "guest_svn", t->guest_svn);
    fact_bytes(res, "family_id", t->family_id, sizeof t->family_id);
    fact_bytes(res, "image_id", t->image_id, sizeof t->image_id);
    fact_bytes(res, "id_key_digest", t->id_key_digest, sizeof t->id_key_digest);
    fact_bytes(res, "author_key_digest", t->author_key_digest, sizeof t->author_key_digest);
    fact(res, "author_key_enabled", v_bool(snp_author_key(t)));
    fact(res, "signing_key",
         v_text(snp_signing_key(t) == SNP_VCEK   ? "VCEK"
                : snp_signing_key(t) == SNP_VLEK ? "VLEK"
                                                 : "none"));
    fact_number(res, "signature_algorithm", t->algorithm);
    fact_bytes(res, "chip_id", t->chip_id, sizeof t->chip_id);
    fact_bytes(res, "report_id", t->report_id, sizeof t->report_id);
    fact_bytes(res, "report_id_ma", t->report_id_ma, sizeof t->report_id_ma);
    fact_hex(res, "platform_info", t->platform_info);
    if (t->version >= 3)
        fact(res, "cpuid",
             v_format(res, "family %u, model %u, stepping %u", t->cpuid_family, t->cpuid_model, t->cpuid_stepping));
    fact_tcb(res, "reported_tcb", t->reported_tcb, product);
    fact_tcb(res, "current_tcb", t->current_tcb, product);
    fact_tcb(res, "committed_tcb", t->committed_tcb, product);
    fact_tcb(res, "launch_tcb", t->launch_tcb, product);
    fact(res, "current_firmware", v_format(res, "%u.%u.%u", t->current_major, t->current_minor, t->current_build));
    fact(res, "committed_firmware",
         v_format(res, "%u.%u.%u", t->committed_major, t->committed_minor, t->committed_build));
    if (t->version >= 5) {
        fact_hex(res, "launch_mitigations", t->launch_mitigations);
        fact_hex(res, "current_mitigations", t->current_mitigations);
    }
}
