/* Takes in the warden: copies its file piece by piece out of shared memory, hashes the copy, and only then looks at it
 * as an ELF program. */
#include "internal.h"
#include "sha256.h"
#include "user.h"

/* elf.h */
enum { PT_LOAD = 1, PT_PHDR = 6, ET_DYN = 3, EM_X86_64 = 62, PF_X = 1, PF_W = 2, SEGMENTS = 16 };
struct elf {
    uint8_t ident[16];
    uint16_t type, machine;
    uint32_t version;
    uint64_t entry, phoff, shoff;
    uint32_t flags;
    uint16_t ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};
struct segment {
    uint32_t type, flags;
    uint64_t offset, vaddr, paddr, filesz, memsz, align;
};

#define IMAGE_BASE  UINT64_C(0x400000000000)
#define STACK_TOP   UINT64_C(0x7ff000000000)
#define STACK_SIZE  (UINT64_C(8) << 20)
#define WARDEN_MOST (UINT64_C(64) << 20)
#define CODE_MOST   (UINT64_C(2) << 30)
enum { RFLAGS_START = 0x202 };

extern char user_start[], user_entry[], user_signal[], user_park[], user_resume[], file_user_end[];
uint64_t warden_base;
static uint32_t xsave_size, has_sha;

static uint64_t in_user(const void *code) {
    return USER_CODE + (uint64_t)((const char *)code - user_start);
}

static struct user_work *work(void) {
    return (struct user_work *)USER_STACK;
}

static void need(bool ok, const char *what) {
    if (!ok) crash(NULL, 0, what);
}

static void run_user(void (*function)(struct user_work *)) {
    struct shim_regs r = {.rip = in_user(user_entry),
                          .rsp = USER_STACK + USER_SIZE,
                          .rflags = RFLAGS_START,
                          .cs = SHIM_USER_CS,
                          .ss = SHIM_USER_SS,
                          .rax = in_user(function),
                          .rdi = USER_STACK};
    user_run(&r);
}

/* The pages of user.c and a stack for them; what the CPU can do. */
void program_prepare(void) {
    uint64_t size = ROUND((uint64_t)(file_user_end - user_start), PAGE);
    uint64_t gpa = SHIM_IMAGE_GPA + (uint64_t)(user_start - shim_start);
    bool ok = areas_set(USER_CODE, USER_CODE + size, PROT_READ | PROT_EXEC, AREA_SHIM);
    for (uint64_t i = 0; i < size; i += PAGE)
        ok = ok && tables_map(USER_CODE + i, gpa + i, PROT_READ | PROT_EXEC, false);
    ok = ok && areas_set(USER_STACK, USER_STACK + USER_SIZE, PROT_READ | PROT_WRITE, AREA_MEMORY);
    ok = ok && tables_commit(USER_STACK, USER_STACK + USER_SIZE, PROT_READ | PROT_WRITE, NULL);
    need(ok, "no memory for the start");
    run_user(user_cpu);
    struct user_work *w = work();
    need(w->rdrand, "this CPU has no RDRAND: a keep makes its own random numbers");
    need(w->xsave_size >= 576 && w->xsave_size <= 16384, "this CPU's vector state has no sensible size");
    cpu_has_rdseed = w->rdseed;
    has_sha = w->sha;
    xsave_size = w->xsave_size;
    signal_init(xsave_size, in_user(user_signal));
    threads_init(xsave_size, in_user(user_park), in_user(user_resume));
}

/* ---- the file ---- */

static bool always(uint64_t unit) {
    (void)unit;
    return true;
}

/* A file of the host's at a place of its own, hashed there. */
struct taken {
    enum shim_file file;
    uint64_t at, size;
    const uint8_t *sha256;
    const char *no_memory, *too_short, *changed;
};

static void take_file(const struct taken *t) {
    static const uint32_t initial[8] = SHA256_INITIAL;
    uint64_t room = ROUND(t->size, LARGE);
    need(areas_set(t->at, t->at + room, PROT_NONE, AREA_SHIM), t->no_memory);
    need(tables_commit(t->at, t->at + room, PROT_READ | PROT_WRITE, always), t->no_memory);
    need(tables_map_large(USER_SHARED, SHIM_SHARED_GPA, PROT_READ), "no memory for the start");
    struct user_work *w = work();
    memcpy(w->state, initial, sizeof initial);
    w->sha = has_sha;
    for (uint64_t at = 0; at < t->size; at += SHIM_TRANSFER_SIZE) {
        uint64_t piece = t->size - at < SHIM_TRANSFER_SIZE ? t->size - at : SHIM_TRANSFER_SIZE;
        need(host_count(SHIM_READ, t->file, at, piece) == (int64_t)piece, t->too_short);
        w->size = piece;
        w->to = t->at + at;
        run_user(user_take);
    }
    uint8_t digest[32];
    sha256_end(w->state, (const uint8_t *)t->at + (t->size & ~UINT64_C(63)), t->size, digest);
    need(memcmp(digest, t->sha256, sizeof digest) == 0, t->changed);
    tables_free(USER_SHARED, USER_SHARED + LARGE);
}

static void take_files(const struct shim_digests *d) {
    need(d->magic == SHIM_DIGESTS_MAGIC && d->version == SHIM_VERSION, "no page of digests");
    need(d->warden_size > sizeof(struct elf) && d->warden_size <= WARDEN_MOST, "the warden's size cannot be");
    need(d->code_size <= CODE_MOST, "the compiled code's size cannot be");
    take_file(&(struct taken){SHIM_FILE_WARDEN, USER_WARDEN, d->warden_size, d->warden_sha256,
                              "no memory for the warden", "the warden's file is too short",
                              "the warden is not the one that was measured: after a build of some parts, build all of "
                              "it; if a file has changed, install it again"});
    if (d->code_size == 0) return;
    take_file(&(struct taken){SHIM_FILE_CODE, USER_IMAGE, d->code_size, d->code_sha256, "no memory for compiled code",
                              "the compiled code is too short", "the compiled code is not what was measured"});
    tables_protect(USER_IMAGE, USER_IMAGE + ROUND(d->code_size, LARGE), PROT_READ);
    boot_code(d->code_size);
}

/* ---- the program ---- */

static unsigned segment_prot(const struct segment *s) {
    return PROT_READ | (s->flags & PF_W ? PROT_WRITE : 0) | (s->flags & PF_X ? PROT_EXEC : 0);
}

/* Pages that are not written are the copy's own; the others are copied once more. */
static void load_segment(const struct segment *s, uint64_t size) {
    need(s->memsz >= s->filesz && s->offset <= size && s->filesz <= size - s->offset && s->vaddr < WARDEN_MOST &&
             s->memsz < WARDEN_MOST && (s->vaddr - s->offset) % PAGE == 0,
         "the warden has a segment that cannot be");
    unsigned prot = segment_prot(s);
    need(!(prot & PROT_WRITE) || !(prot & PROT_EXEC), "the warden has a segment that is writable and executable");
    uint64_t start = (warden_base + s->vaddr) & ~(PAGE - 1), end = ROUND(warden_base + s->vaddr + s->memsz, PAGE);
    bool ok = areas_set(start, end, prot, AREA_MEMORY);
    if (prot & PROT_WRITE) {
        ok = ok && tables_commit(start, end, prot, NULL);
        if (ok) memcpy((void *)(warden_base + s->vaddr), (const void *)(USER_WARDEN + s->offset), s->filesz);
    } else {
        uint64_t from = USER_WARDEN + (s->offset & ~(PAGE - 1));
        for (uint64_t va = start; ok && va < end; va += PAGE, from += PAGE)
            ok = tables_map(va, tables_frame(from), prot, false);
    }
    need(ok, "no memory for the warden");
}

static const struct segment *elf_segments(const struct elf *e, uint64_t size) {
    static const uint8_t ident[] = {0x7f, 'E', 'L', 'F', 2, 1, 1};
    need(memcmp(e->ident, ident, sizeof ident) == 0 && e->type == ET_DYN && e->machine == EM_X86_64 &&
             e->phentsize == sizeof(struct segment) && e->phnum <= SEGMENTS && e->phoff % 8 == 0 && e->phoff <= size &&
             e->phnum * sizeof(struct segment) <= size - e->phoff,
         "the warden is not a static position-independent program for x86-64");
    return (const struct segment *)((const char *)e + e->phoff);
}

/* ---- its stack: argc, argv, environment, auxiliary vector (System V ABI for x86-64, 3.4.1) ---- */

enum {
    AT_NULL,
    AT_PHDR = 3,
    AT_PHENT,
    AT_PHNUM,
    AT_PAGESZ,
    AT_BASE,
    AT_FLAGS,
    AT_ENTRY,
    AT_UID = 11,
    AT_EUID,
    AT_GID,
    AT_EGID,
    AT_CLKTCK = 17,
    AT_SECURE = 23,
    AT_RANDOM = 25,
    AT_EXECFN = 31,
    AT_MINSIGSTKSZ = 51
};

static uint64_t make_stack(const struct elf *e, uint64_t phdr) {
    static const char name[] = "donjon-warden";
    enum { SIGNAL_FRAME = 1024 };
    char *strings = (char *)STACK_TOP - 64;
    memcpy(strings, name, sizeof name);
    entropy_fill(strings + 32, 16);
    const uint64_t words[] = {1,
                              (uint64_t)strings,
                              0,
                              0, /* argc, argv, envp */
                              AT_PHDR,
                              phdr,
                              AT_PHENT,
                              sizeof(struct segment),
                              AT_PHNUM,
                              e->phnum,
                              AT_PAGESZ,
                              PAGE,
                              AT_BASE,
                              0,
                              AT_FLAGS,
                              0,
                              AT_ENTRY,
                              warden_base + e->entry,
                              AT_UID,
                              0,
                              AT_EUID,
                              0,
                              AT_GID,
                              0,
                              AT_EGID,
                              0,
                              AT_CLKTCK,
                              100,
                              AT_SECURE,
                              0,
                              AT_RANDOM,
                              (uint64_t)strings + 32,
                              AT_EXECFN,
                              (uint64_t)strings,
                              AT_MINSIGSTKSZ,
                              xsave_size + SIGNAL_FRAME,
                              AT_NULL,
                              0};
    uint64_t rsp = ((uint64_t)strings - sizeof words) & ~UINT64_C(15);
    memcpy((void *)rsp, words, sizeof words);
    return rsp;
}

void program_start(const struct shim_digests *d) {
    take_files(d);
    const struct elf *e = (const struct elf *)USER_WARDEN;
    const struct segment *s = elf_segments(e, d->warden_size);
    uint16_t slide = 0;
    if (!debug) entropy_fill(&slide, sizeof slide);
    warden_base = IMAGE_BASE + slide * LARGE;
    uint64_t phdr = 0, end = 0, entry = warden_base + e->entry;
    for (unsigned i = 0; i < e->phnum; i++) {
        if (s[i].type == PT_PHDR) phdr = warden_base + s[i].vaddr;
        if (s[i].type != PT_LOAD) continue;
        load_segment(&s[i], d->warden_size);
        if (!phdr && s[i].offset == 0) phdr = warden_base + s[i].vaddr + e->phoff;
        if (s[i].vaddr + s[i].memsz > end) end = s[i].vaddr + s[i].memsz;
    }
    bool ok = areas_set(STACK_TOP - STACK_SIZE, STACK_TOP, PROT_READ | PROT_WRITE, AREA_MEMORY);
    need(ok && tables_commit(STACK_TOP - STACK_SIZE, STACK_TOP, PROT_READ | PROT_WRITE, always),
         "no memory for a stack");
    uint64_t rsp = make_stack(e, phdr);
    brk_init(ROUND(warden_base + end, LARGE));
    tables_protect(USER_WARDEN, USER_WARDEN + ROUND(d->warden_size, LARGE), PROT_NONE); /* only what was mapped stays */
    areas_remove(USER_STACK, USER_STACK + USER_SIZE);
    tables_free(USER_STACK, USER_STACK + USER_SIZE);
    tables_flush();
    booting = false;
    host_log("warden at %x, system calls from here on are its own", warden_base);
    struct shim_regs r = {.rip = entry, .rsp = rsp, .rflags = RFLAGS_START, .cs = SHIM_USER_CS, .ss = SHIM_USER_SS};
    stop(&r, SIGTRAP);
    user_run(&r);
    crash(NULL, 0, "the warden came back");
}
