/* The page tables of the warden's half, and the direct map's growth. AMD APM 2, 5.3. */
#include "internal.h"

#define P       UINT64_C(0x001)
#define W       UINT64_C(0x002)
#define U       UINT64_C(0x004)
#define A       UINT64_C(0x020) /* set at once: the CPU has nothing to write back into a table */
#define D       UINT64_C(0x040)
#define PS      UINT64_C(0x080) /* in a directory: a page of 2 MiB */
#define HELD    UINT64_C(0x200) /* ours: there is a frame behind, present or not */
#define FOREIGN UINT64_C(0x400) /* ours: the frame is not to be given back */
#define NX      (UINT64_C(1) << 63)
#define ADDRESS UINT64_C(0x000ffffffffff000)
#define TABLE   (P | W | U | A)
#define ENTRIES 512
#define RIGHTS  (P | W | NX)

static uint64_t *tops[SHIM_CPUS]; /* alike in the warden's half */
static uint64_t free_tables;      /* have been tables and will be: a CPU may walk through one for as long as it likes */
static bool stale;                /* the CPU may still know an entry that said more than the tables do now */

/* The loader builds the first tables right behind the page of digests: the top one first. */
void tables_init(void) {
    tops[0] = frame_at(SHIM_IMAGE_GPA + (uint64_t)(shim_end - shim_start) + sizeof(struct shim_digests));
}

void tables_flush(void) {
    if (stale) cpus_forget();
    stale = false;
}

void tables_forget(void) {
    if (shim_mode == SHIM_MODE_PARA) {
        tlb_flush_trap();
        return;
    }
    uint64_t cr3;
    __asm__ volatile("mov %%cr3, %0; mov %0, %%cr3" : "=r"(cr3)::"memory");
}

static uint64_t *table_of(uint64_t entry) {
    return frame_at(entry & ADDRESS);
}

static uint64_t table_alloc(void) {
    uint64_t frame = free_tables;
    if (!frame) return frame_alloc();
    free_tables = *(uint64_t *)frame_at(frame);
    *(uint64_t *)frame_at(frame) = 0;
    return frame;
}

static void table_free(uint64_t frame) {
    memset(frame_at(frame), 0, PAGE);
    *(uint64_t *)frame_at(frame) = free_tables; /* not present, whatever else it says */
    free_tables = frame;
}

static uint64_t flags(unsigned prot) {
    if (prot == PROT_NONE) return HELD;
    return P | U | A | HELD | (prot & PROT_WRITE ? W | D : 0) | (prot & PROT_EXEC ? 0 : NX);
}

static void store(uint64_t *entry, uint64_t value) {
    uint64_t old = *entry;
    if ((old & P) && (!(value & P) || ((old & W) && !(value & W)) || (!(old & NX) && (value & NX)))) stale = true;
    *(volatile uint64_t *)entry = value;
}

/* The directory's entry for the 2 MiB around va; NULL: not there, or out of memory. */
static uint64_t *directory_entry(uint64_t va, bool create) {
    uint64_t *table = tops[0];
    for (int shift = 39; shift > 21; shift -= 9) {
        uint64_t *entry = &table[va >> shift & (ENTRIES - 1)];
        if (!(*entry & P)) {
            uint64_t frame = create ? table_alloc() : 0;
            if (!frame) return NULL;
            *(volatile uint64_t *)entry = frame | TABLE;
            for (unsigned i = 1; table == tops[0] && i < cpus_up; i++)
                *(volatile uint64_t *)&tops[i][entry - table] = *entry;
        }
        table = table_of(*entry);
    }
    return &table[va >> 21 & (ENTRIES - 1)];
}

/* A table for an empty directory entry: empty, or over a block that waits to be used. */
static bool make_table(uint64_t *pde, uint64_t block) {
    uint64_t frame = table_alloc();
    if (!frame) return false;
    uint64_t *table = frame_at(frame);
    for (unsigned i = 0; block && i < ENTRIES; i++)
        table[i] = (block + i * PAGE) | HELD;
    *(volatile uint64_t *)pde = frame | TABLE;
    return true;
}

/* A large page as 512 small ones. */
static bool split(uint64_t *pde) {
    uint64_t frame = table_alloc();
    if (!frame) return false;
    uint64_t *table = frame_at(frame), small = *pde & ~PS;
    for (unsigned i = 0; i < ENTRIES; i++)
        table[i] = small + i * PAGE;
    if (*pde & P) stale = true;
    *(volatile uint64_t *)pde = frame | TABLE;
    return true;
}

static bool consecutive(const uint64_t *table, uint64_t mask) {
    if (!(table[0] & HELD) || (table[0] & (FOREIGN | (LARGE - PAGE)))) return false;
    for (unsigned i = 1; i < ENTRIES; i++)
        if ((table[i] & mask) != (table[0] & mask) + i * PAGE) return false;
    return true;
}

/* 512 small pages that are a whole block with one protection become a large one. */
static void join(uint64_t *pde) {
    const uint64_t *table = table_of(*pde);
    if (!(table[0] & P) || !(table[ENTRIES - 1] & P) || !consecutive(table, ~UINT64_C(0))) return;
    uint64_t frame = *pde & ADDRESS;
    stale = true; /* the CPU may walk through the table that goes */
    *(volatile uint64_t *)pde = table[0] | PS;
    tables_flush();
    table_free(frame);
}

static bool commit_unit(uint64_t unit, uint64_t from, uint64_t to, unsigned prot, bool (*whole)(uint64_t)) {
    uint64_t *pde = directory_entry(unit, true);
    bool all = to - from == LARGE;
    if (!pde) return false;
    if (!*pde) {
        uint64_t block = whole && whole(unit) ? block_alloc() : 0;
        if (block && all) {
            store(pde, block | flags(prot) | PS);
            return true;
        }
        if (!make_table(pde, block)) {
            if (block) block_free(block);
            return false;
        }
    }
    if ((*pde & PS) && (all || (*pde & RIGHTS) == (flags(prot) & RIGHTS))) {
        store(pde, (*pde & ADDRESS) | flags(prot) | PS);
        return true;
    }
    if ((*pde & PS) && !split(pde)) return false;
    uint64_t *table = table_of(*pde);
    for (uint64_t va = from; va < to; va += PAGE) {
        uint64_t *pte = &table[va / PAGE & (ENTRIES - 1)];
        uint64_t frame = *pte & HELD ? *pte & (ADDRESS | FOREIGN) : frame_alloc();
        if (!frame && !(*pte & HELD)) return false;
        store(pte, frame | flags(prot));
    }
    join(pde);
    return true;
}

static uint64_t unit_end(uint64_t unit, uint64_t end) {
    return end < unit + LARGE ? end : unit + LARGE;
}

bool tables_commit(uint64_t va, uint64_t end, unsigned prot, bool (*whole)(uint64_t unit)) {
    for (uint64_t unit = va & ~(LARGE - 1); unit < end; unit += LARGE)
        if (!commit_unit(unit, va > unit ? va : unit, unit_end(unit, end), prot, whole)) return false;
    return true;
}

/* The next unit that may have an entry: whole absent upper tables are skipped, so that reserved space costs nothing. */
static uint64_t *next_present(uint64_t *unit, uint64_t end) {
    while (*unit < end) {
        uint64_t *pde = directory_entry(*unit, false);
        if (pde) return pde;
        uint64_t step = UINT64_C(1) << 30;
        *unit = (*unit & ~(step - 1)) + step;
    }
    return NULL;
}

void tables_protect(uint64_t va, uint64_t end, unsigned prot) {
    for (uint64_t unit = va & ~(LARGE - 1); unit < end; unit += LARGE) {
        uint64_t *pde = next_present(&unit, end);
        if (!pde) return;
        if (!*pde) continue;
        uint64_t from = va > unit ? va : unit, to = unit_end(unit, end);
        if ((*pde & PS) && to - from < LARGE && !split(pde)) crash(NULL, 0, "out of memory for a page table");
        if (*pde & PS) {
            store(pde, (*pde & ADDRESS) | flags(prot) | PS);
            continue;
        }
        uint64_t *table = table_of(*pde);
        for (; from < to; from += PAGE) {
            uint64_t *pte = &table[from / PAGE & (ENTRIES - 1)];
            if (*pte & HELD) store(pte, (*pte & (ADDRESS | FOREIGN)) | flags(prot));
        }
    }
}

/* Frames are given back only after the CPU has forgotten them: two passes over a table. */
static void free_small(uint64_t *table, uint64_t from, uint64_t to) {
    static uint64_t freed[ENTRIES];
    unsigned n = 0;
    for (; from < to; from += PAGE) {
        uint64_t *pte = &table[from / PAGE & (ENTRIES - 1)];
        if ((*pte & HELD) && !(*pte & FOREIGN)) freed[n++] = *pte & ADDRESS;
        store(pte, 0);
    }
    tables_flush();
    while (n)
        frame_free(freed[--n]);
}

/* A table with nothing in it goes, so that a large page can take its place. */
static void drop_empty(uint64_t *pde) {
    const uint64_t *table = table_of(*pde);
    for (unsigned i = 0; i < ENTRIES; i++)
        if (table[i]) return;
    uint64_t frame = *pde & ADDRESS;
    stale = true;
    *(volatile uint64_t *)pde = 0;
    tables_flush();
    table_free(frame);
}

static void free_unit(uint64_t *pde, uint64_t from, uint64_t to) {
    bool all = to - from == LARGE;
    uint64_t old = *pde;
    uint64_t *table = table_of(old);
    bool block = (old & PS) || (all && consecutive(table, ADDRESS));
    if (!all) {
        if ((old & PS) && !split(pde)) crash(NULL, 0, "out of memory for a page table");
        free_small(table_of(*pde), from, to);
        drop_empty(pde);
        return;
    }
    uint64_t gpa = (old & PS ? old : table[0]) & ADDRESS;
    if (!block) free_small(table, from, to);
    stale = true;
    store(pde, 0);
    tables_flush();
    if (!(old & PS)) table_free(old & ADDRESS);
    if (block && !(old & FOREIGN)) block_free(gpa);
}

void tables_free(uint64_t va, uint64_t end) {
    for (uint64_t unit = va & ~(LARGE - 1); unit < end; unit += LARGE) {
        uint64_t *pde = next_present(&unit, end);
        if (!pde) return;
        if (*pde) free_unit(pde, va > unit ? va : unit, unit_end(unit, end));
    }
}

bool tables_map(uint64_t va, uint64_t gpa, unsigned prot, bool owned) {
    uint64_t *pde = directory_entry(va, true);
    if (!pde || (!*pde && !make_table(pde, 0))) return false;
    store(&table_of(*pde)[va / PAGE & (ENTRIES - 1)], gpa | flags(prot) | (owned ? 0 : FOREIGN));
    return true;
}

bool tables_map_large(uint64_t va, uint64_t gpa, unsigned prot) {
    uint64_t *pde = directory_entry(va, true);
    if (!pde) return false;
    store(pde, gpa | flags(prot) | PS | FOREIGN);
    return true;
}

/* Directories for all that moves, and small pages on both sides of what does not move in large ones. */
static bool prepare_move(uint64_t from, uint64_t to, uint64_t size, uint64_t small) {
    for (uint64_t i = 0; i < small; i += LARGE)
        if (!directory_entry(to + i, true)) return false;
    for (uint64_t i = small; i < size; i += PAGE) {
        uint64_t *source = directory_entry(from + i, false);
        if (source && (*source & PS) && !split(source)) return false;
        uint64_t *target = directory_entry(to + i, true);
        if (!target || (!*target && !make_table(target, 0))) return false;
    }
    return true;
}

bool tables_move(uint64_t from, uint64_t to, uint64_t size) {
    uint64_t i = 0, small = (from | to) & (LARGE - 1) ? 0 : size & ~(LARGE - 1);
    if (!prepare_move(from, to, size, small)) return false;
    for (; i < small; i += LARGE) {
        uint64_t *source = directory_entry(from + i, false), *target = directory_entry(to + i, true);
        if (!source) continue;
        stale = true;
        *(volatile uint64_t *)target = *source;
        *(volatile uint64_t *)source = 0;
    }
    for (; i < size; i += PAGE) {
        uint64_t *source = directory_entry(from + i, false), *target = directory_entry(to + i, false);
        if (!source || !*source) continue;
        uint64_t *pte = &table_of(*source)[(from + i) / PAGE & (ENTRIES - 1)];
        table_of(*target)[(to + i) / PAGE & (ENTRIES - 1)] = *pte;
        store(pte, 0);
    }
    return true;
}

uint64_t tables_frame(uint64_t va) {
    uint64_t *pde = directory_entry(va, false);
    if (!pde || !*pde) return 0;
    if (*pde & PS) return (*pde & ADDRESS) + (va & (LARGE - PAGE));
    return table_of(*pde)[va / PAGE & (ENTRIES - 1)] & ADDRESS;
}

bool tables_allow(uint64_t va, bool write, bool exec) {
    uint64_t *pde = va < USER_END ? directory_entry(va, false) : NULL;
    if (!pde) return false;
    uint64_t entry = *pde & P && !(*pde & PS) ? table_of(*pde)[va / PAGE & (ENTRIES - 1)] : *pde;
    return (entry & P) && (!write || (entry & W)) && (!exec || !(entry & NX));
}

bool tables_direct(uint64_t gpa, uint64_t end) {
    uint64_t *directories = table_of(tops[0][SHIM_DIRECT_BASE >> 39 & (ENTRIES - 1)]);
    for (; gpa < end; gpa += LARGE) {
        uint64_t *entry = &directories[gpa >> 30];
        if (gpa >> 30 >= ENTRIES) return false;
        if (!*entry) {
            uint64_t frame = frame_spare();
            if (!frame) return false;
            *(volatile uint64_t *)entry = frame | TABLE;
        }
        table_of(*entry)[gpa >> 21 & (ENTRIES - 1)] = gpa | P | W | A | D | PS | NX | U;
    }
    return true;
}

uint64_t tables_cpu(unsigned n) {
    unsigned own = cpu;
    uint64_t top = 0, *from = tops[0], *to, *above = NULL, frame;
    for (int shift = 39;; shift -= 9) {
        if (!(frame = table_alloc())) return 0;
        to = frame_at(frame);
        memcpy(to, from, PAGE);
        if (above)
            *above = (*above & ~ADDRESS) | frame;
        else
            top = frame;
        if (shift == 12) break;
        above = &to[SHIM_BASE >> shift & (ENTRIES - 1)];
        from = table_of(*above);
    }
    for (char *va = percpu_start; va < percpu_end; va += PAGE) {
        uint64_t *entry = &to[(uint64_t)va / PAGE & (ENTRIES - 1)];
        if (!(frame = frame_alloc())) return 0;
        cpu = n; /* for the copy: whatever asks the host does so as the CPU that it is */
        memcpy(frame_at(frame), va, PAGE);
        cpu = own;
        *entry = (*entry & ~ADDRESS) | frame;
    }
    tops[n] = frame_at(top);
    return top;
}
