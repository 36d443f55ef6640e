#include "kvm_crash.h"
#include <elf.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { FRAMES = 40 };

struct crash_file crash_map(int fd) {
    struct stat st;
    struct crash_file f = {NULL, 0};
    if (fd < 0 || fstat(fd, &st) != 0 || st.st_size < (off_t)sizeof(Elf64_Ehdr)) return f;
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p != MAP_FAILED) f = (struct crash_file){p, (size_t)st.st_size};
    return f;
}

/* ---- ELF: our own build's files, read with care all the same ---- */

static const void *part(struct crash_file f, uint64_t offset, uint64_t size) {
    return f.bytes && offset <= f.size && size <= f.size - offset && offset % 8 == 0 ? f.bytes + offset : NULL;
}

static const Elf64_Ehdr *elf(struct crash_file f) {
    const Elf64_Ehdr *e = part(f, 0, sizeof *e);
    return e && memcmp(e->e_ident, ELFMAG, SELFMAG) == 0 && e->e_shentsize == sizeof(Elf64_Shdr) ? e : NULL;
}

static const Elf64_Shdr *sections(struct crash_file f, unsigned *n) {
    const Elf64_Ehdr *e = elf(f);
    const Elf64_Shdr *s = e ? part(f, e->e_shoff, e->e_shnum * sizeof *s) : NULL;
    *n = s ? e->e_shnum : 0;
    return s;
}

/* The function that has an address, and how far into it; NULL: none. */
static const char *function_at(struct crash_file f, uint64_t address, uint64_t *into) {
    unsigned n;
    const Elf64_Shdr *s = sections(f, &n), *table = NULL;
    for (unsigned i = 0; i < n; i++)
        if (s[i].sh_type == SHT_SYMTAB) table = &s[i];
    const Elf64_Sym *symbols = table ? part(f, table->sh_offset, table->sh_size) : NULL;
    if (!symbols || table->sh_link >= n || s[table->sh_link].sh_size == 0) return NULL;
    const Elf64_Shdr *strings = &s[table->sh_link];
    if (strings->sh_offset > f.size || strings->sh_size > f.size - strings->sh_offset) return NULL;
    const char *names = (const char *)f.bytes + strings->sh_offset, *best = NULL;
    if (names[strings->sh_size - 1] != 0) return NULL;
    uint64_t at = 0;
    for (size_t i = 0; i < table->sh_size / sizeof *symbols; i++) {
        const Elf64_Sym *y = &symbols[i];
        int type = ELF64_ST_TYPE(y->st_info);
        if ((type != STT_FUNC && type != STT_NOTYPE) || y->st_value > address || y->st_name >= strings->sh_size)
            continue;
        if (y->st_shndx == SHN_UNDEF || y->st_shndx >= SHN_LORESERVE || y->st_value < at || !names[y->st_name])
            continue;
        if (y->st_size && address - y->st_value >= y->st_size) continue;
        at = y->st_value;
        best = names + y->st_name;
    }
    *into = address - at;
    return best;
}

/* Whether the bytes before an address of the code are a call: then it is where a function comes back to. */
static bool after_call(struct crash_file f, uint64_t address) {
    unsigned n;
    const Elf64_Shdr *s = sections(f, &n);
    for (unsigned i = 0; i < n; i++) {
        if (!(s[i].sh_flags & SHF_EXECINSTR) || address < s[i].sh_addr + 7 || address > s[i].sh_addr + s[i].sh_size)
            continue;
        if (s[i].sh_offset > f.size || s[i].sh_size > f.size - s[i].sh_offset) continue;
        const uint8_t *p = f.bytes + s[i].sh_offset + (address - s[i].sh_addr);
        if (p[-5] == 0xe8) return true;
        for (int back = 2; back <= 7; back++) /* FF /2: through a register or memory */
            if (p[-back] == 0xff && (p[1 - back] & 0x38) == 0x10) return true;
    }
    return false;
}

struct crash_code {
    struct crash_file warden, shim;
    uint64_t warden_base;
};

/* One line for an address of either's code. False: it is in neither. */
static bool show_address(const struct crash_code *c, uint64_t address, bool returns, unsigned number) {
    bool in_shim = address >= SHIM_BASE;
    struct crash_file f = in_shim ? c->shim : c->warden;
    uint64_t at = in_shim ? address : address - c->warden_base, into;
    if (returns && !after_call(f, at)) return false;
    const char *name = function_at(f, returns ? at - 1 : at, &into);
    if (!name && returns) return false;
    fprintf(stderr, "  #%-2u %016lx %s+0x%lx%s\n", number, address, name ? name : "?", name ? into + returns : 0,
            in_shim ? " (shim)" : "");
    return true;
}

static void show_stack(const struct crash_code *code, const struct shim_crash *c) {
    unsigned n = 0;
    show_address(code, c->regs.rip, false, n++);
    uint64_t size = c->stack_size < SHIM_CRASH_STACK ? c->stack_size : SHIM_CRASH_STACK;
    for (uint64_t at = 0; at + 8 <= size && n < FRAMES; at += 8) {
        uint64_t word;
        memcpy(&word, c->stack + at, sizeof word);
        if (show_address(code, word, true, n)) n++;
    }
    fprintf(stderr, "  (calls found on the stack; some may be left from before)\n");
}

void kvm_show_crash(const struct shim_crash *c, struct crash_file warden, struct crash_file shim) {
    const struct shim_regs *r = &c->regs;
    if (r->rip == 0) return; /* no registers came with it */
    fprintf(stderr,
            "keep: %s\n"
            "  rip %016lx  rsp %016lx  rflags %08lx  cr2 %016lx\n"
            "  rax %016lx  rbx %016lx  rcx %016lx  rdx %016lx\n"
            "  rsi %016lx  rdi %016lx  rbp %016lx  r8  %016lx\n"
            "  r9  %016lx  r10 %016lx  r11 %016lx  r12 %016lx\n"
            "  r13 %016lx  r14 %016lx  r15 %016lx  vector %lu error %lx, warden at %lx\n",
            c->reason, r->rip, r->rsp, r->rflags, c->cr2, r->rax, r->rbx, r->rcx, r->rdx, r->rsi, r->rdi, r->rbp, r->r8,
            r->r9, r->r10, r->r11, r->r12, r->r13, r->r14, r->r15, r->vector, r->error, c->warden_base);
    show_stack(&(struct crash_code){warden, shim, c->warden_base}, c);
}
