/* Private memory. Frames come from the part that was never used, then from a list of those given back. Blocks likewise;
 * a block is broken into frames when there are none. */
#include "internal.h"

/* Where a machine has its interrupt controller: KVM takes an access there for one to a device, memory or not. */
#define APIC_BLOCK UINT64_C(0xfee00000)

/* Free ones are chained through their first word. */
static uint64_t free_frames, free_blocks;
/* Never used so far: [next_frame, frames_end) within one broken block, and [next_block, memory_end). */
static uint64_t next_frame, frames_end, next_block, memory_end, memory_limit;

/* The direct map of new memory needs tables before that memory can be used: one for each GiB that is begun. */
enum { SPARES = 5 };
#define GROW_MOST (UINT64_C(4) << 30)
static uint64_t spares[SPARES];

void frames_init(uint64_t first_free, uint64_t memory, uint64_t limit) {
    memory_end = SHIM_IMAGE_GPA + memory;
    memory_limit = SHIM_IMAGE_GPA + limit;
    next_frame = first_free;
    frames_end = next_block = ROUND(first_free, LARGE);
    for (int i = 0; i < SPARES; i++)
        spares[i] = frame_alloc();
}

static uint64_t take(uint64_t *list, uint64_t size) {
    uint64_t gpa = *list;
    if (!gpa) return 0;
    *list = *(uint64_t *)frame_at(gpa);
    memset(frame_at(gpa), 0, size);
    return gpa;
}

static void give(uint64_t *list, uint64_t gpa) {
    *(uint64_t *)frame_at(gpa) = *list;
    *list = gpa;
}

uint64_t frame_spare(void) {
    for (int i = 0; i < SPARES; i++) {
        uint64_t gpa = spares[i];
        spares[i] = 0;
        if (gpa) return gpa;
    }
    return 0;
}

/* More memory from the host: whole blocks, and not beyond the limit. */
static bool grow(void) {
    if (memory_end >= memory_limit) return false;
    uint64_t most = memory_limit - memory_end < GROW_MOST ? memory_limit - memory_end : GROW_MOST;
    int64_t got = host_count(SHIM_GROW, LARGE, 0, most);
    if (got <= 0) return false;
    if (got % (int64_t)LARGE) crash(NULL, 0, "the host gave memory that is not whole blocks");
    uint64_t from = memory_end;
    if (!tables_direct(from, from + (uint64_t)got)) return false;
    memory_end += (uint64_t)got;
    for (int i = 0; i < SPARES; i++)
        if (!spares[i]) spares[i] = frame_alloc();
    return true;
}

uint64_t block_alloc(void) {
    uint64_t gpa = take(&free_blocks, LARGE);
    if (gpa) return gpa;
    if (next_block == APIC_BLOCK) next_block += LARGE;
    if (next_block >= memory_end && !grow()) return 0;
    gpa = next_block;
    next_block += LARGE;
    return gpa; /* the machine's fresh memory is zero */
}

uint64_t frame_alloc(void) {
    uint64_t gpa = take(&free_frames, PAGE);
    if (gpa) return gpa;
    if (next_frame >= frames_end) {
        uint64_t block = block_alloc();
        if (!block) return 0;
        next_frame = block;
        frames_end = block + LARGE;
    }
    gpa = next_frame;
    next_frame += PAGE;
    return gpa;
}

void frame_free(uint64_t gpa) {
    give(&free_frames, gpa);
}

void block_free(uint64_t gpa) {
    give(&free_blocks, gpa);
}
