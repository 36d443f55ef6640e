/* Several virtual CPUs. One lock around the shim: a CPU has it from its entry until it goes back to the warden, except
 * while it waits for the host (cpu_wait). Every CPU has page tables of its own, which differ from the first one's in
 * the pages of .percpu only (tables_cpu), so that the host has nothing to prepare for it but CR3.
 *
 * A host that does not deliver kicks makes a keep slow, or lets it hang; it never makes a CPU use an old translation:
 * cpus_out waits for the CPUs themselves. */
#include "internal.h"

struct cpu {
    _Alignas(64) volatile uint32_t outside; /* in the warden's code, or on its way to it. Set with the lock held */
    uint32_t idle;                          /* waits for the host, and can be called back */
    uint64_t flushed;                       /* `flushes` when it forgot its translations last */
};
static struct cpu cpus[SHIM_CPUS];
static uint32_t locked; /* by a CPU, plus one; 0: by none */
static uint64_t flushes;
static bool several; /* there are others: until then nobody needs the lock */
unsigned cpus_wanted = 1, cpus_up = 1;
PERCPU unsigned cpu;

static void pause(void) {
    __asm__ volatile("pause");
}

void shim_lock(void) {
    enum { SPINS = 4096, AWHILE_NS = 50000 };
    if (!several) return;
    struct cpu *c = &cpus[cpu];
    c->outside = 0;
    uint32_t none = 0;
    for (unsigned n = 1;
         !__atomic_compare_exchange_n(&locked, &none, cpu + 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
         n++, none = 0) {
        for (; __atomic_load_n(&locked, __ATOMIC_RELAXED) && n % SPINS; n++)
            pause();
        if (n % SPINS == 0) host_call(SHIM_SLEEP, AWHILE_NS, 0); /* who has it may need this CPU of the host's */
    }
    if (c->flushed == flushes) return;
    c->flushed = flushes;
    tables_forget();
}

void shim_lock_for_good(void) {
    if (__atomic_load_n(&locked, __ATOMIC_RELAXED) != cpu + 1) shim_lock();
}

void shim_unlock(bool to_warden) {
    if (!several) return;
    cpus[cpu].outside = to_warden;
    __atomic_store_n(&locked, 0, __ATOMIC_RELEASE);
}

static void kick(uint64_t mask) {
    if (mask) host_call(SHIM_KICK, mask, 0);
}

/* Until no other CPU runs the warden's code. None can go back to it without the lock, and then not with what it knew.
 */
void cpus_out(void) {
    enum { SPINS = 20000, AWHILE_NS = 20000 };
    if (!several) return;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    for (unsigned n = 0;; n++) {
        uint64_t mask = 0;
        for (unsigned i = 0; i < cpus_up; i++)
            if (i != cpu && cpus[i].outside) mask |= UINT64_C(1) << i;
        if (!mask) return;
        if (n % SPINS == 0) kick(mask);
        if (n % SPINS == SPINS - 1) host_call(SHIM_SLEEP, AWHILE_NS, 0);
        pause();
    }
}

void cpus_forget(void) {
    tables_forget();
    cpus[cpu].flushed = ++flushes;
    cpus_out();
}

void cpus_kick(uint64_t mask) {
    uint64_t those = 0;
    for (unsigned i = 0; i < cpus_up; i++)
        if (i != cpu && (mask >> i & 1) && (cpus[i].outside || cpus[i].idle)) those |= UINT64_C(1) << i;
    kick(those);
}

bool cpu_call(void) {
    for (unsigned i = 0; i < cpus_up; i++) {
        if (!cpus[i].idle) continue;
        cpus[i].idle = 0;
        kick(UINT64_C(1) << i);
        return true;
    }
    return false;
}

int64_t cpu_wait(enum shim_op op, uint64_t ns) {
    int64_t n = 0;
    clock_waits(true);
    cpus[cpu].idle = several;
    shim_unlock(false);
    if (op == SHIM_SLEEP)
        host_call(op, ns, 0);
    else
        n = host_count(op, ns, 0, 1);
    shim_lock();
    cpus[cpu].idle = 0;
    clock_waits(false);
    return n;
}

void cpus_start(void) {
    if (several || cpus_wanted == 1) return;
    several = true;
    locked = cpu + 1;
    while (cpus_up < cpus_wanted) {
        uint64_t cr3 = tables_cpu(cpus_up);
        if (!cr3 || host_call(SHIM_CPU, cpus_up, cr3) != 0) break;
        cpus_up++;
    }
}
