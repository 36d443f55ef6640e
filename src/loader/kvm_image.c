#include "kvm_image.h"
#include "../shim/x86_64/sha256.h"
#include <elf.h>
#include <string.h>

/* Page table entries: AMD APM 2, 5.3. */
#define P         UINT64_C(0x001)
#define W         UINT64_C(0x002)
#define U         UINT64_C(0x004)
#define A         UINT64_C(0x020)
#define D         UINT64_C(0x040)
#define PS        UINT64_C(0x080)
#define NX        (UINT64_C(1) << 63)
#define LARGE     UINT64_C(0x200000)
#define SLOT(va)  ((va) >> 39 & 511)
#define SLOT3(va) ((va) >> 30 & 511)

const char *kvm_shim_check(const uint8_t *file, size_t size) {
    struct shim_header h;
    if (size < sizeof h || size > KVM_SHIM_MOST) return "is not a shim";
    memcpy(&h, file, sizeof h);
    if (h.magic != SHIM_MAGIC) return "is not a shim";
    if (h.version != SHIM_VERSION) return "is a shim of another version";
    bool ordered = h.text <= h.user_text && h.user_text <= h.data && h.data <= h.file_size &&
                   h.file_size <= h.memory_size && h.memory_size <= KVM_SHIM_MOST;
    bool pages = (h.text | h.user_text | h.data | h.memory_size) % KVM_PAGE == 0;
    bool inside = h.entry < h.memory_size && h.stack <= h.memory_size && h.syscall < h.memory_size &&
                  h.gdt < h.memory_size && h.idt < h.memory_size && h.tss < h.memory_size;
    if (!ordered || !pages || !inside || h.file_size != size) return "is a damaged shim";
    return NULL;
}

static const struct shim_header *header(const uint8_t *shim) {
    return (const struct shim_header *)(const void *)shim;
}

size_t kvm_image_size(const uint8_t *shim) {
    return header(shim)->memory_size + sizeof(struct shim_digests) + KVM_TABLES * KVM_PAGE;
}

static uint64_t image_flags(const struct shim_header *h, uint64_t offset) {
    if (offset >= h->memory_size || offset < h->text) return P | U | A | NX; /* digests; read-only data */
    if (offset < h->data) return P | U | A;
    return P | W | U | A | D | NX;
}

void kvm_image_build(uint8_t *memory, const uint8_t *shim, const struct shim_digests *digests, unsigned mode,
                     uint64_t private) {
    const struct shim_header *h = header(shim);
    memcpy(memory, shim, h->file_size);
    memcpy(memory + h->memory_size, digests, sizeof *digests);
    uint64_t at = h->memory_size + sizeof *digests, gpa = SHIM_IMAGE_GPA + at;
    uint64_t *table[KVM_TABLES], entry[KVM_TABLES];
    for (int i = 0; i < KVM_TABLES; i++) {
        table[i] = (uint64_t *)(void *)(memory + at + (size_t)i * KVM_PAGE);
        entry[i] = (gpa + (uint64_t)i * KVM_PAGE) | P | W | U | A | private;
    }
    enum { TOP, IMAGE3, IMAGE2, IMAGE1, DIRECT3, DIRECT2, SHARED3, SHARED2 };
    uint64_t keep_out = mode == SHIM_MODE_RING0 ? U : 0; /* the warden's ring is kept out at the top */
    table[TOP][SLOT(SHIM_BASE)] = entry[IMAGE3] & ~keep_out;
    table[TOP][SLOT(SHIM_DIRECT_BASE)] = entry[DIRECT3] & ~keep_out;
    table[TOP][SLOT(SHIM_SHARED_BASE)] = entry[SHARED3] & ~keep_out;
    table[IMAGE3][SLOT3(SHIM_BASE)] = entry[IMAGE2];
    table[IMAGE2][0] = entry[IMAGE1];
    for (uint64_t offset = 0; offset <= h->memory_size; offset += KVM_PAGE)
        table[IMAGE1][offset / KVM_PAGE] = (SHIM_IMAGE_GPA + offset) | image_flags(h, offset) | private;
    table[DIRECT3][0] = entry[DIRECT2];
    for (uint64_t a = SHIM_IMAGE_GPA; a < SHIM_IMAGE_GPA + SHIM_FIRST_MEMORY; a += LARGE)
        table[DIRECT2][a / LARGE] = a | P | W | U | A | D | PS | NX | private;
    table[SHARED3][0] = entry[SHARED2];
    table[SHARED2][0] = SHIM_SHARED_GPA | P | W | U | A | D | PS | NX;
}

static void put(uint8_t *page, unsigned at, uint64_t value, unsigned size) {
    memcpy(page + at, &value, size); /* little-endian, as the machine that this is for */
}

static void put_segment(uint8_t *page, unsigned at, unsigned selector, unsigned attributes, uint64_t limit,
                        uint64_t base) {
    put(page, at, selector, 2);
    put(page, at + 2, attributes, 2);
    put(page, at + 4, limit, 4);
    put(page, at + 8, base, 8);
}

void kvm_vmsa(uint8_t page[KVM_PAGE], const uint8_t *shim) {
    const struct shim_header *h = header(shim);
    enum { CODE64 = 0xa9b, DATA = 0xc93, USER_DATA = 0xcf3, LDT = 0x82, TSS = 0x8b };
    enum {
        GDTR = 0x60,
        LDTR = 0x70,
        IDTR = 0x80,
        TR = 0x90,
        EFER = 0xd0,
        CR4 = 0x148,
        CR3 = 0x150,
        CR0 = 0x158,
        DR7 = 0x160,
        DR6 = 0x168,
        RFLAGS = 0x170,
        RIP = 0x178,
        RSP = 0x1d8,
        STAR = 0x200,
        LSTAR = 0x208,
        SFMASK = 0x218,
        G_PAT = 0x268,
        RDI = 0x338,
        SEV_FEATURES = 0x3b0,
        XCR0 = 0x3e8,
        MXCSR = 0x408,
        FCW = 0x410
    };
    const uint64_t all = 0xffffffff;
    memset(page, 0, KVM_PAGE);
    for (unsigned at = 0; at <= 0x50; at += 0x10) /* ES CS SS DS FS GS */
        put_segment(page, at, SHIM_USER_SS, USER_DATA, all, 0);
    put_segment(page, 0x10, SHIM_KERNEL_CS, CODE64, all, 0);
    put_segment(page, 0x20, SHIM_KERNEL_SS, DATA, all, 0);
    put_segment(page, GDTR, 0, 0, h->gdt_size - 1, SHIM_BASE + h->gdt);
    put_segment(page, LDTR, 0, LDT, 0, 0);
    put_segment(page, IDTR, 0, 0, h->idt_size - 1, SHIM_BASE + h->idt);
    put_segment(page, TR, SHIM_TSS, TSS, h->tss_size - 1, SHIM_BASE + h->tss);
    const struct {
        unsigned at;
        uint64_t value;
    } words[] = {{EFER, KVM_EFER | 1 << 12 /* SVME: SNP wants it set */},
                 {CR4, KVM_CR4},
                 {CR3, KVM_CR3(h)},
                 {CR0, KVM_CR0},
                 {DR7, 0x400},
                 {DR6, 0xffff0ff0},
                 {RFLAGS, 2},
                 {RIP, SHIM_BASE + h->entry},
                 {RSP, SHIM_BASE + h->stack},
                 {STAR, KVM_STAR},
                 {LSTAR, SHIM_BASE + h->syscall},
                 {SFMASK, KVM_FMASK},
                 {G_PAT, 0x7040600070406},
                 {RDI, SHIM_MODE_RING0},
                 {SEV_FEATURES, 1 /* SNP active */},
                 {XCR0, 7}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        put(page, words[i].at, words[i].value, 8);
    put(page, MXCSR, 0x1f80, 4);
    put(page, FCW, 0x37f, 2);
}

uint64_t kvm_warden_size(const uint8_t *head, size_t size) {
    Elf64_Ehdr e;
    if (size < sizeof e) return 0;
    memcpy(&e, head, sizeof e);
    if (memcmp(e.e_ident, ELFMAG, SELFMAG) != 0 || e.e_phentsize != sizeof(Elf64_Phdr) || e.e_phoff > size ||
        e.e_phnum > (size - e.e_phoff) / sizeof(Elf64_Phdr))
        return 0;
    uint64_t end = 0;
    for (unsigned i = 0; i < e.e_phnum; i++) {
        Elf64_Phdr p;
        memcpy(&p, head + e.e_phoff + i * sizeof p, sizeof p);
        if (p.p_type == PT_LOAD && p.p_offset + p.p_filesz > end) end = p.p_offset + p.p_filesz;
    }
    return end;
}

bool kvm_digests(const uint8_t *warden, size_t size, struct shim_digests *out) {
    uint64_t n = kvm_warden_size(warden, size);
    if (n == 0 || n > size) return false;
    uint32_t state[8] = SHA256_INITIAL;
    *out = (struct shim_digests){.magic = SHIM_DIGESTS_MAGIC, .version = SHIM_VERSION, .warden_size = n};
    sha256_blocks_plain(state, warden, n / 64);
    sha256_end(state, warden + n / 64 * 64, n, out->warden_sha256);
    return true;
}
