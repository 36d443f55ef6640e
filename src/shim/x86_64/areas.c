/* The warden's address space: sorted areas, and the calls that change them. Memory is mapped when it is asked for
 * (committing costs nothing until the machine sees it touched; a fault to the shim would cost more), reserved space
 * (PROT_NONE) is an area and nothing else. No page is ever writable and executable. */
#include "../../gate/gate.h"
#include "internal.h"

enum { AREAS = 2048, AREAS_SPARE = 4 };
static struct area areas[AREAS];
static unsigned n_areas;

#define ARENA_START UINT64_C(0x10000000000) /* 1 TiB */
#define ARENA_END   UINT64_C(0x600000000000)
#define BRK_MOST    (UINT64_C(64) << 30)
static uint64_t brk_start, brk_end;

/* linux/mman.h */
enum {
    MAP_SHARED = 1,
    MAP_PRIVATE = 2,
    MAP_FIXED = 0x10,
    MAP_ANONYMOUS = 0x20,
    MAP_FIXED_NOREPLACE = 0x100000,
    MREMAP_MAYMOVE = 1,
    MADV_DONTNEED = 4,
};
enum { FD_BLOCK = GATE_FD_BLOCK, GATE_PAGES = GATE_BLOCK_SIZE / PAGE };
_Static_assert(SHIM_GATE_OFFSET + GATE_BLOCK_SIZE <= SHIM_TRANSFER_OFFSET, "the shared part's places");

/* The first area that ends behind va. */
static unsigned first_behind(uint64_t va) {
    unsigned low = 0, high = n_areas;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (areas[middle].end > va)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

const struct area *area_at(uint64_t va) {
    unsigned i = first_behind(va);
    return i < n_areas && areas[i].start <= va ? &areas[i] : NULL;
}

static void shift(unsigned at, int by) {
    if (by > 0)
        for (unsigned i = n_areas; i-- > at;)
            areas[i + (unsigned)by] = areas[i];
    else
        for (unsigned i = at; i < n_areas; i++)
            areas[i - (unsigned)-by] = areas[i];
    n_areas = (unsigned)((int)n_areas + by);
}

void areas_remove(uint64_t start, uint64_t end) {
    unsigned i = first_behind(start);
    if (i < n_areas && areas[i].start < start && areas[i].end > end) {
        shift(i, 1); /* a hole in the middle of one */
        areas[i].end = start;
        areas[i + 1].start = end;
        return;
    }
    if (i < n_areas && areas[i].start < start) areas[i++].end = start;
    unsigned j = i;
    while (j < n_areas && areas[j].end <= end)
        j++;
    if (j > i) shift(j, -(int)(j - i));
    if (i < n_areas && areas[i].start < end) areas[i].start = end;
}

static bool same(const struct area *a, const struct area *b) {
    return a->end == b->start && a->prot == b->prot && a->kind == b->kind;
}

bool areas_set(uint64_t start, uint64_t end, unsigned prot, enum area_kind kind) {
    if (n_areas + AREAS_SPARE > AREAS) return false;
    areas_remove(start, end);
    unsigned i = first_behind(start);
    shift(i, 1);
    areas[i] = (struct area){start, end, prot, kind};
    if (i + 1 < n_areas && same(&areas[i], &areas[i + 1])) {
        areas[i].end = areas[i + 1].end;
        shift(i + 2, -1);
    }
    if (i > 0 && same(&areas[i - 1], &areas[i])) {
        areas[i - 1].end = areas[i].end;
        shift(i + 1, -1);
    }
    return true;
}

/* Whether [start, end) is memory without a hole, whatever its protection. */
static bool covered(uint64_t start, uint64_t end) {
    for (unsigned i = first_behind(start); i < n_areas && areas[i].start <= start; i++) {
        if (areas[i].kind != AREA_MEMORY) return false;
        start = areas[i].end;
        if (start >= end) return true;
    }
    return false;
}

static bool whole_unit(uint64_t unit) {
    return covered(unit, unit + LARGE);
}

bool user_ok(uint64_t va, uint64_t size, bool write) {
    unsigned need = write ? PROT_WRITE : PROT_READ;
    if (size == 0) return true;
    if (va >= USER_END || size > USER_END - va) return false;
    uint64_t end = va + size;
    for (unsigned i = first_behind(va); i < n_areas && areas[i].start <= va; i++) {
        if (!(areas[i].prot & need)) return false;
        va = areas[i].end;
        if (va >= end) return true;
    }
    return false;
}

/* A free range in the arena; large ones begin at a large page. 0: none. */
static uint64_t find_gap(uint64_t size) {
    uint64_t align = size >= LARGE ? LARGE : PAGE, at = ARENA_START;
    for (unsigned i = first_behind(at); i < n_areas && at + size <= ARENA_END; i++) {
        if (areas[i].start >= at + size + PAGE) break;
        at = ROUND(areas[i].end + PAGE, align);
    }
    return at + size <= ARENA_END ? at : 0;
}

static bool range_ok(uint64_t addr, uint64_t *size) {
    if (addr % PAGE || *size == 0 || *size > USER_END) return false;
    *size = ROUND(*size, PAGE);
    return addr <= USER_END - *size && addr >= PAGE;
}

/* What the shim needs itself is not the warden's to change. */
static bool ours(uint64_t start, uint64_t end) {
    for (unsigned i = first_behind(start); i < n_areas && areas[i].start < end; i++)
        if (areas[i].kind == AREA_SHIM) return true;
    return false;
}

static bool room(void) {
    return n_areas + AREAS_SPARE <= AREAS;
}

static void drop(uint64_t start, uint64_t end) {
    areas_remove(start, end);
    tables_free(start, end);
}

static int64_t map_gate(uint64_t size) {
    uint64_t at = find_gap(GATE_PAGES * PAGE);
    if (size != GATE_PAGES * PAGE) return -EINVAL;
    if (!at || !areas_set(at, at + size, PROT_READ | PROT_WRITE, AREA_GATE)) return -ENOMEM;
    for (uint64_t i = 0; i < size; i += PAGE)
        if (!tables_map(at + i, SHIM_SHARED_GPA + SHIM_GATE_OFFSET + i, PROT_READ | PROT_WRITE, false)) return -ENOMEM;
    return (int64_t)at;
}

int64_t sys_mmap(uint64_t addr, uint64_t size, uint64_t prot, uint64_t flags, uint64_t fd, uint64_t offset) {
    if (fd == FD_BLOCK && !(flags & MAP_ANONYMOUS) && offset == 0 && !(flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)))
        return map_gate(size);
    if (!(flags & MAP_ANONYMOUS)) return -EBADF;
    if (!(flags & (MAP_PRIVATE | MAP_SHARED))) return -EINVAL;
    if (prot & PROT_EXEC) return -EACCES; /* made by mprotect only, after it was written */
    bool fixed = flags & (MAP_FIXED | MAP_FIXED_NOREPLACE);
    uint64_t at = fixed ? addr : PAGE;
    if (!range_ok(at, &size)) return -EINVAL;
    if (!room()) return -ENOMEM;
    if (fixed && ours(at, at + size)) return -EPERM;
    if (!fixed && !(at = find_gap(size))) return -ENOMEM;
    if (flags & MAP_FIXED_NOREPLACE) {
        unsigned i = first_behind(at);
        if (i < n_areas && areas[i].start < at + size) return -EPERM;
    }
    if (fixed) drop(at, at + size);
    areas_set(at, at + size, (unsigned)prot, AREA_MEMORY);
    if (prot != PROT_NONE && !tables_commit(at, at + size, (unsigned)prot, whole_unit)) {
        drop(at, at + size);
        at = (uint64_t)-ENOMEM;
    }
    tables_flush();
    return (int64_t)at;
}

int64_t sys_munmap(uint64_t addr, uint64_t size) {
    if (!range_ok(addr, &size)) return -EINVAL;
    if (!room()) return -ENOMEM;
    if (ours(addr, addr + size)) return -EPERM;
    drop(addr, addr + size);
    tables_flush();
    return 0;
}

int64_t sys_mprotect(uint64_t addr, uint64_t size, uint64_t prot) {
    if (size == 0) return 0;
    if (!range_ok(addr, &size) || (prot & ~UINT64_C(7))) return -EINVAL;
    if ((prot & PROT_WRITE) && (prot & PROT_EXEC)) return -EACCES;
    if (!room() || !covered(addr, addr + size)) return -ENOMEM;
    bool ok = prot == PROT_NONE || tables_commit(addr, addr + size, (unsigned)prot, whole_unit);
    if (ok) areas_set(addr, addr + size, (unsigned)prot, AREA_MEMORY);
    if (prot == PROT_NONE) tables_protect(addr, addr + size, PROT_NONE);
    tables_flush();
    return ok ? 0 : -ENOMEM;
}

/* Whether all of [start, end) is memory without anything in it that the warden could write. */
static bool for_code(uint64_t start, uint64_t end) {
    for (unsigned i = first_behind(start); i < n_areas && areas[i].start <= start; i++) {
        if (areas[i].prot != PROT_NONE && areas[i].prot != (PROT_READ | PROT_EXEC)) return false;
        start = areas[i].end;
        if (start >= end) return true;
    }
    return false;
}

/* Nothing is taken from the tables by this, so that no CPU has to be told. */
int64_t sys_code(uint64_t at, uint64_t from, uint64_t size) {
    uint64_t start = at & ~(PAGE - 1), end = at + size;
    if (size == 0 || at % 8 || at >= USER_END || size > USER_END - PAGE - at) return -EINVAL;
    if (!user_ok(from, size, false)) return -EFAULT;
    end = ROUND(end, PAGE);
    if (!room() || !covered(start, end) || !for_code(start, end)) return -EACCES;
    if (!tables_commit(start, end, PROT_READ | PROT_EXEC, whole_unit)) return -ENOMEM;
    areas_set(start, end, PROT_READ | PROT_EXEC, AREA_MEMORY);
    tables_flush();
    for (uint64_t n; size > 0; at += n, from += n, size -= n) {
        n = PAGE - at % PAGE < size ? PAGE - at % PAGE : size;
        uint8_t *to = (uint8_t *)frame_at(tables_frame(at)) + at % PAGE;
        for (uint64_t i = 0; i < n; i += 8)
            if (*(uint64_t *)(to + i)) return -EACCES;
        memcpy(to, (const void *)from, n);
    }
    return 0;
}

static int64_t grow_in_place(const struct area *a, uint64_t end, uint64_t new_end) {
    unsigned prot = a->prot;
    areas_set(end, new_end, prot, AREA_MEMORY);
    if (prot == PROT_NONE || tables_commit(end, new_end, prot, whole_unit)) return 0;
    drop(end, new_end);
    return -ENOMEM;
}

static int64_t move(const struct area *a, uint64_t addr, uint64_t size, uint64_t new_size) {
    unsigned prot = a->prot;
    uint64_t to = find_gap(new_size);
    if (!to) return -ENOMEM;
    areas_set(to, to + new_size, prot, AREA_MEMORY);
    if ((prot != PROT_NONE && !tables_commit(to + size, to + new_size, prot, NULL)) || !tables_move(addr, to, size)) {
        drop(to, to + new_size);
        return -ENOMEM;
    }
    drop(addr, addr + size);
    return (int64_t)to;
}

int64_t sys_mremap(uint64_t addr, uint64_t size, uint64_t new_size, uint64_t flags) {
    if (!range_ok(addr, &size) || !range_ok(PAGE, &new_size) || (flags & ~(uint64_t)MREMAP_MAYMOVE)) return -EINVAL;
    const struct area *a = area_at(addr);
    if (!a || a->kind != AREA_MEMORY || a->end < addr + size) return -EFAULT;
    if (!room()) return -ENOMEM;
    int64_t result = (int64_t)addr;
    uint64_t end = addr + size, new_end = addr + new_size;
    if (new_size < size) {
        drop(new_end, end);
    } else if (new_size > size) {
        unsigned next = first_behind(end);
        bool free = a->end == end && new_end < USER_END && (next >= n_areas || areas[next].start >= new_end + PAGE);
        int64_t in_place = free ? grow_in_place(a, end, new_end) : -ENOMEM;
        if (in_place != 0) result = flags & MREMAP_MAYMOVE ? move(area_at(addr), addr, size, new_size) : -ENOMEM;
    }
    tables_flush();
    return result;
}

/* What was there reads as zero afterwards. */
static int64_t forget(uint64_t start, uint64_t end) {
    while (start < end) {
        const struct area *a = area_at(start);
        if (!a || a->kind != AREA_MEMORY) return -ENOMEM;
        uint64_t stop = a->end < end ? a->end : end;
        tables_free(start, stop);
        if (a->prot != PROT_NONE && !tables_commit(start, stop, a->prot, whole_unit)) return -ENOMEM;
        start = stop;
    }
    return 0;
}

int64_t sys_madvise(uint64_t addr, uint64_t size, uint64_t advice) {
    if (size == 0 || advice != MADV_DONTNEED) return 0;
    if (!range_ok(addr, &size)) return -EINVAL;
    int64_t result = forget(addr, addr + size);
    tables_flush();
    return result;
}

void brk_init(uint64_t start) {
    brk_start = brk_end = start;
}

int64_t sys_brk(uint64_t addr) {
    uint64_t from = ROUND(brk_end, PAGE), to = ROUND(addr, PAGE);
    if (addr < brk_start || addr > brk_start + BRK_MOST || !room()) return (int64_t)brk_end;
    if (to < from) {
        drop(to, from);
        tables_flush();
    } else if (to > from) {
        areas_set(from, to, PROT_READ | PROT_WRITE, AREA_MEMORY);
        if (!tables_commit(from, to, PROT_READ | PROT_WRITE, whole_unit)) {
            drop(from, to);
            return (int64_t)brk_end;
        }
    }
    brk_end = addr;
    return (int64_t)addr;
}
