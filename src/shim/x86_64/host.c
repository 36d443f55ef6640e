/* The way out: one block of words in shared memory, and one OUT. */
#include "internal.h"

bool debug;

struct shim_shared *host_shared(void) {
    return (struct shim_shared *)(SHIM_SHARED_BASE + SHIM_CALL_OFFSET);
}

uint8_t *host_transfer(void) {
    return (uint8_t *)(SHIM_SHARED_BASE + SHIM_TRANSFER_OFFSET);
}

static int64_t call(enum shim_op op, uint64_t a0, uint64_t a1, uint64_t a2) {
    volatile struct shim_call *c = &host_shared()->cpus[cpu].call;
    c->op = op;
    c->args[0] = a0;
    c->args[1] = a1;
    c->args[2] = a2;
    __asm__ volatile("out %%al, %0" ::"i"(SHIM_PORT), "a"(0) : "memory");
    return c->result;
}

void host_bell(void) {
    __asm__ volatile("out %%al, %0" ::"i"(SHIM_PORT_BELL), "a"(0) : "memory");
}

int64_t host_call(enum shim_op op, uint64_t a0, uint64_t a1) {
    return call(op, a0, a1, 0);
}

int64_t host_count(enum shim_op op, uint64_t a0, uint64_t a1, uint64_t most) {
    enum { MAX_ERRNO = 4095 };
    int64_t n = call(op, a0, a1, most);
    if (n < -MAX_ERRNO || n > (int64_t)most) crash(NULL, 0, "the host's answer to a call makes no sense");
    return n;
}

void host_exit(uint32_t status) {
    host_call(SHIM_EXIT, status, 0);
    crash(NULL, 0, "the host goes on after the end");
}

/* Copies what can be read of the stack: the warden's, or the shim's own. */
static uint64_t copy_stack(uint8_t *to, uint64_t rsp) {
    uint64_t n = 0, end = (uint64_t)shim_end;
    bool own = rsp >= (uint64_t)shim_start && rsp < end;
    while (n < SHIM_CRASH_STACK && (own ? rsp + n + 8 <= end : user_ok(rsp + n, 8, false))) {
        memcpy(to + n, (void *)(rsp + n), 8);
        n += 8;
    }
    return n;
}

void crash(const struct shim_regs *regs, uint32_t signal, const char *reason) {
    static bool before;
    shim_lock_for_good(); /* nobody else writes to the transfer buffer */
    bool first = !before;
    before = true;
    struct shim_crash *c = (struct shim_crash *)host_transfer();
    format(c->reason, sizeof c->reason, "%s", first ? reason : "crashed while reporting a crash");
    c->signal = signal;
    c->mode = shim_mode;
    c->cr2 = exc_cr2;
    c->warden_base = warden_base;
    c->stack_size = 0;
    memset(&c->regs, 0, sizeof c->regs);
    if (debug && regs && first) { /* registers and stack are the workload's data: they leave the keep only then */
        c->regs = *regs;
        c->stack_size = copy_stack(c->stack, regs->rsp);
    }
    for (;;)
        host_call(SHIM_CRASH, 0, 0);
}
