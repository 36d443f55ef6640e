/* SNP launch digest (SNP ABI, 8.17 LAUNCH_UPDATE, table 67) for any sequence of pages, and for firmware launched as
 * QEMU, EC2 and Google do it (OVMF's footer and SEV metadata). */
#include "crypto.h"
#include "reader.h"

enum { PAGE_INFO_SIZE = 0x70, DIGEST = ATTEST_SNP_DIGEST, PAGE = ATTEST_SNP_PAGE };

static uint8_t *put_le(uint8_t *at, uint64_t n, unsigned size) {
    for (unsigned i = 0; i < size; i++)
        *at++ = (uint8_t)(n >> 8 * i);
    return at;
}

void attest_snp_launch_page(struct attest_snp_launch *l, enum attest_snp_page type, uint64_t gpa, const uint8_t *page) {
    uint8_t info[PAGE_INFO_SIZE] = {0};
    memcpy(info, l->digest, DIGEST);
    if (page && (type == ATTEST_SNP_NORMAL || type == ATTEST_SNP_VMSA)) sha384(page, PAGE, info + DIGEST);
    uint8_t *at = info + 2 * DIGEST;
    at = put_le(at, PAGE_INFO_SIZE, 2);
    at = put_le(at, type, 1);
    at = put_le(at, 0, 1); /* IMI_PAGE */
    at = put_le(at, 0, 4); /* VMPL permissions */
    put_le(at, gpa, 8);
    sha384(info, sizeof info, l->digest);
}

void attest_snp_launch_range(struct attest_snp_launch *l, enum attest_snp_page type, uint64_t gpa, const uint8_t *pages,
                             size_t count) {
    for (size_t i = 0; i < count; i++)
        attest_snp_launch_page(l, type, gpa + i * PAGE, pages ? pages + i * PAGE : NULL);
}

/* ---- VMSA (APM 2, table B-4), as the three launchers fill it ---- */

static void segment(uint8_t *page, unsigned at, uint16_t selector, uint16_t attributes, uint32_t limit, uint64_t base) {
    uint8_t *p = page + at;
    p = put_le(p, selector, 2);
    p = put_le(p, attributes, 2);
    p = put_le(p, limit, 4);
    put_le(p, base, 8);
}

void attest_snp_vmsa(enum attest_vmm vmm, bool boot, uint32_t eip, uint32_t signature, uint64_t features,
                     uint8_t page[PAGE]) {
    bool ec2 = vmm == ATTEST_VMM_EC2, qemu = vmm == ATTEST_VMM_QEMU;
    uint16_t cs = ec2 && boot ? 0x9a : 0x9b, ss = ec2 ? 0x92 : 0x93, tr = ec2 ? 0x83 : 0x8b;
    memset(page, 0, PAGE);
    segment(page, 0x000, 0, 0x93, 0xffff, 0);                   /* ES */
    segment(page, 0x010, 0xf000, cs, 0xffff, eip & 0xffff0000); /* CS */
    segment(page, 0x020, 0, ss, 0xffff, 0);                     /* SS */
    for (unsigned at = 0x030; at <= 0x050; at += 0x10)
        segment(page, at, 0, 0x93, 0xffff, 0);                                  /* DS FS GS */
    segment(page, 0x060, 0, 0, 0xffff, 0);                                      /* GDTR */
    segment(page, 0x070, 0, 0x82, 0xffff, 0);                                   /* LDTR */
    segment(page, 0x080, 0, 0, 0xffff, 0);                                      /* IDTR */
    segment(page, 0x090, 0, tr, 0xffff, 0);                                     /* TR */
    put_le(page + 0x0d0, 0x1000, 8);                                            /* EFER */
    put_le(page + 0x148, 0x40, 8);                                              /* CR4 */
    put_le(page + 0x158, 0x10, 8);                                              /* CR0 */
    put_le(page + 0x160, 0x400, 8);                                             /* DR7 */
    put_le(page + 0x168, 0xffff0ff0, 8);                                        /* DR6 */
    put_le(page + 0x170, 2, 8);                                                 /* RFLAGS */
    put_le(page + 0x178, eip & 0xffff, 8);                                      /* RIP */
    put_le(page + 0x268, vmm == ATTEST_VMM_GCE ? 0x70106 : 0x7040600070406, 8); /* G_PAT */
    put_le(page + 0x310, qemu ? signature : 0x600, 8);                          /* RDX */
    put_le(page + 0x3b0, features, 8);                                          /* SEV_FEATURES */
    put_le(page + 0x3e8, 1, 8);                                                 /* XCR0 */
    if (!qemu) return;
    put_le(page + 0x408, 0x1f80, 4); /* MXCSR */
    put_le(page + 0x410, 0x37f, 2);  /* x87 FCW */
}

/* ---- OVMF footer ---- */

enum { GUID = 16, FOOTER_END = 32, ENTRY_TAIL = 2 + GUID };
static const uint8_t guid_footer[] = "\xde\x82\xb5\x96\xb2\x1f\xf7\x45\xba\xea\xa3\x66\xc5\x5a\x08\x2d",
                     guid_reset[] = "\xde\x71\xf7\x00\x7e\x1a\xcb\x4f\x89\x0e\x68\xc7\x7e\x2f\xb4\x4e",
                     guid_hashes[] = "\x1f\x37\x55\x72\x3b\x3a\x04\x4b\x92\x7b\x1d\xa6\xef\xa8\xd4\x54",
                     guid_metadata[] = "\x66\x65\x88\xdc\x4a\x98\x98\x47\xa7\x5e\x55\x85\xa7\xbf\x67\xcc";

/* The table grows downwards from 32 bytes before the end: data, LE16 length of the whole entry, GUID. */
static struct attest_bytes footer_entry(struct attest_bytes firmware, const uint8_t *guid) {
    struct attest_bytes none = {0};
    if (firmware.size < FOOTER_END + ENTRY_TAIL) return none;
    const uint8_t *tail = firmware.data + firmware.size - FOOTER_END - ENTRY_TAIL;
    size_t total = tail[0] | (size_t)tail[1] << 8;
    if (memcmp(tail + 2, guid_footer, GUID) != 0 || total < ENTRY_TAIL || total > firmware.size - FOOTER_END)
        return none;
    size_t left = total - ENTRY_TAIL; /* bytes of other entries, right below the tail */
    while (left >= ENTRY_TAIL) {
        const uint8_t *entry = tail - (total - ENTRY_TAIL - left) - ENTRY_TAIL;
        size_t size = entry[0] | (size_t)entry[1] << 8;
        if (size < ENTRY_TAIL || size > left) return none;
        if (memcmp(entry + 2, guid, GUID) == 0)
            return (struct attest_bytes){entry - (size - ENTRY_TAIL), size - ENTRY_TAIL};
        left -= size;
    }
    return none;
}

struct section {
    uint32_t gpa, size, type;
};
enum {
    SECTION_SEC_MEM = 1,
    SECTION_SECRETS = 2,
    SECTION_CPUID = 3,
    SECTION_SVSM_CAA = 4,
    SECTION_KERNEL_HASHES = 16,
    SECTIONS_MAX = 64
};

static const char *read_metadata(struct attest_bytes firmware, struct section *sections, uint32_t *count) {
    struct attest_bytes entry = footer_entry(firmware, guid_metadata);
    struct reader r = reader_of(entry);
    uint32_t offset = read_le32(&r);
    if (r.failed || offset > firmware.size) return "the firmware has no SEV metadata";
    r = reader_of((struct attest_bytes){firmware.data + firmware.size - offset, offset});
    const uint8_t *magic = read_span(&r, 4);
    read_le32(&r);
    uint32_t version = read_le32(&r);
    *count = read_le32(&r);
    if (r.failed || memcmp(magic, "ASEV", 4) != 0 || version != 1) return "the SEV metadata is not of version 1";
    if (*count > SECTIONS_MAX) return "the SEV metadata has too many sections";
    for (uint32_t i = 0; i < *count; i++) {
        sections[i] = (struct section){read_le32(&r), read_le32(&r), 0};
        sections[i].type = read_le32(&r);
        if (sections[i].size % PAGE || sections[i].gpa % PAGE || sections[i].size > 1u << 30)
            return "a metadata section is not whole pages, or larger than 1 GiB";
    }
    return r.failed ? "the SEV metadata ends early" : NULL;
}

/* Header, then SHA-256 of command line (with its zero), initrd and kernel, padded to 176 bytes. */
static void hash_table(const struct attest_ovmf_launch *l, uint8_t *at) {
    static const uint8_t guids[4][GUID + 1] = {"\x06\xd6\x38\x94\x22\x4f\xc9\x4c\xb4\x79\xa7\x93\xd4\x11\xfd\x21",
                                               "\xd8\x2d\xd0\x97\x20\xbd\x94\x4c\xaa\x78\xe7\x71\x4d\x36\xab\x2a",
                                               "\x31\xf7\xba\x44\x2f\x3a\xd7\x4b\x9a\xf1\x41\xe2\x91\x69\x78\x1d",
                                               "\x37\x94\xe7\x4d\xd2\xab\x7f\x42\xb8\x35\xd5\xb1\x72\xd2\x04\x5b"};
    enum { TABLE = 168, ENTRY = 50, CMDLINE_MAX = 4096 };
    uint8_t cmdline[CMDLINE_MAX + 1] = {0};
    size_t size = l->cmdline.size < CMDLINE_MAX ? l->cmdline.size : CMDLINE_MAX;
    if (size) memcpy(cmdline, l->cmdline.data, size);
    struct attest_bytes parts[] = {{cmdline, size + 1}, l->initrd, l->kernel};
    memcpy(at, guids[0], GUID);
    at = put_le(at + GUID, TABLE, 2);
    for (int i = 0; i < 3; i++) {
        memcpy(at, guids[i + 1], GUID);
        at = put_le(at + GUID, ENTRY, 2);
        sha256(parts[i].size ? parts[i].data : (const uint8_t *)"", parts[i].size, at);
        at += 32;
    }
}

static const char *launch_section(const struct attest_ovmf_launch *l, struct attest_snp_launch *d,
                                  const struct section *s) {
    size_t pages = s->size / PAGE;
    switch (s->type) {
    case SECTION_SEC_MEM:
        attest_snp_launch_range(d, l->vmm == ATTEST_VMM_GCE ? ATTEST_SNP_UNMEASURED : ATTEST_SNP_ZERO, s->gpa, NULL,
                                pages);
        return NULL;
    case SECTION_SVSM_CAA: attest_snp_launch_range(d, ATTEST_SNP_ZERO, s->gpa, NULL, pages); return NULL;
    case SECTION_SECRETS: attest_snp_launch_page(d, ATTEST_SNP_SECRETS, s->gpa, NULL); return NULL;
    case SECTION_CPUID:
        if (l->vmm != ATTEST_VMM_EC2) attest_snp_launch_page(d, ATTEST_SNP_CPUID, s->gpa, NULL);
        return NULL;
    case SECTION_KERNEL_HASHES: {
        if (!l->with_kernel) {
            attest_snp_launch_range(d, ATTEST_SNP_ZERO, s->gpa, NULL, pages);
            return NULL;
        }
        struct reader r = reader_of(footer_entry(l->firmware, guid_hashes));
        uint32_t gpa = read_le32(&r);
        enum { PADDED_TABLE = 176 };
        if (r.failed || (gpa & (PAGE - 1)) + PADDED_TABLE > PAGE || pages != 1)
            return "the firmware does not say where the kernel hashes go";
        uint8_t page[PAGE] = {0};
        hash_table(l, page + (gpa & (PAGE - 1)));
        attest_snp_launch_page(d, ATTEST_SNP_NORMAL, s->gpa, page);
        return NULL;
    }
    default: return "the SEV metadata has a section of unknown type";
    }
}

const char *attest_snp_launch_ovmf(const struct attest_ovmf_launch *l, uint8_t digest[DIGEST]) {
    enum { VCPUS_MAX = 4096 };
    const uint64_t top = 1ull << 32, vmsa_gpa = 0xfffffffff000, reset_vector = 0xfffffff0;
    struct attest_snp_launch d = {{0}};
    struct section sections[SECTIONS_MAX];
    uint32_t count;
    if (l->firmware.size == 0 || l->firmware.size % PAGE || l->firmware.size > 1u << 30)
        return "the firmware is not whole pages";
    if (l->vcpus == 0 || l->vcpus > VCPUS_MAX) return "the number of vCPUs is out of range";
    const char *wrong = read_metadata(l->firmware, sections, &count);
    if (wrong) return wrong;
    struct reader reset = reader_of(footer_entry(l->firmware, guid_reset));
    uint32_t ap_eip = read_le32(&reset);
    bool hashes = false;
    for (uint32_t i = 0; i < count; i++)
        hashes |= sections[i].type == SECTION_KERNEL_HASHES;
    if (l->with_kernel && !hashes) return "a kernel is given, but the firmware has no section for its hashes";
    if (l->vcpus > 1 && reset.failed) return "the firmware has no reset address for application processors";
    attest_snp_launch_range(&d, ATTEST_SNP_NORMAL, top - l->firmware.size, l->firmware.data, l->firmware.size / PAGE);
    for (uint32_t i = 0; i < count; i++)
        if ((wrong = launch_section(l, &d, &sections[i]))) return wrong;
    for (uint32_t i = 0; l->vmm == ATTEST_VMM_EC2 && i < count; i++) /* EC2 puts it last */
        if (sections[i].type == SECTION_CPUID) attest_snp_launch_page(&d, ATTEST_SNP_CPUID, sections[i].gpa, NULL);
    for (unsigned i = 0; i < l->vcpus; i++) {
        uint8_t page[PAGE];
        attest_snp_vmsa(l->vmm, i == 0, i == 0 ? (uint32_t)reset_vector : ap_eip, l->vcpu_signature, l->guest_features,
                        page);
        attest_snp_launch_page(&d, ATTEST_SNP_VMSA, vmsa_gpa, page);
    }
    memcpy(digest, d.digest, DIGEST);
    return NULL;
}
