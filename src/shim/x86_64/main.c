/* The shim's start: check what the host says, then take in the warden. */
#include "internal.h"
#include "user.h"

_Noreturn void shim_main(void);

static const char *boot_wrong(const struct shim_boot *b) {
    if (b->version != SHIM_VERSION) return "a loader of another version";
    if (b->flags & ~(uint32_t)SHIM_FLAGS) return "unknown flags";
    if (b->memory != SHIM_FIRST_MEMORY || b->memory > b->memory_limit) /* the tables map no more */
        return "an amount of memory that cannot be";
    if (b->memory_limit % LARGE || b->memory_limit > UINT64_C(1) << 39) return "a limit on memory that cannot be";
    if (b->cpus < 1 || b->cpus > SHIM_CPUS) return "a number of virtual CPUs that cannot be";
    return NULL;
}

void shim_main(void) {
    static struct shim_boot boot;
    if (cpu) threads_cpu();
    exceptions_init();
    memcpy(&boot, &host_shared()->boot, sizeof boot); /* the one copy */
    const char *wrong = boot_wrong(&boot);
    if (wrong) crash(NULL, 0, wrong);
    const struct shim_digests *digests = (const struct shim_digests *)shim_end;
    debug = (boot.flags & SHIM_FLAG_DEBUG) && (digests->flags & SHIM_MAY_DEBUG);
    stops = debug && (boot.flags & SHIM_FLAG_STOP);
    enum { TABLES = 8 };
    uint64_t page = SHIM_IMAGE_GPA + (uint64_t)(shim_end - shim_start);
    frames_init(page + PAGE + TABLES * PAGE, boot.memory, boot.memory_limit);
    tables_init();
    cpus_wanted = boot.cpus;
    clock_init(&boot);
    program_prepare();
    entropy_init(boot.random);
    program_start(digests);
}
