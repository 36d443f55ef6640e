/* Signals as Linux delivers them (x86-64 ABI of rt_sigaction and rt_sigreturn), except that the handler is called by
 * the shim's own code in the warden's ring, which saves and restores vector registers there: sa_restorer is not used.
 */
#include "internal.h"
#include "user.h"

/* uapi/asm/signal.h, uapi/asm/sigcontext.h, uapi/asm-generic/ucontext.h */
#define SA_SIGINFO   0x4u
#define SA_ONSTACK   0x08000000u
#define SA_NODEFER   0x40000000u
#define SA_RESETHAND 0x80000000u
enum { SIG_DFL, SIG_IGN, SIG_BLOCK = 0, SIG_UNBLOCK, SIG_SETMASK, SS_ONSTACK = 1, SS_DISABLE = 2, RED_ZONE = 128 };
#define USER_FLAGS UINT64_C(0x240dd5) /* CF PF AF ZF SF TF DF OF AC ID: what sigreturn may set */
#define FLAG_FIXED UINT64_C(0x202)    /* bit 1 is one; interrupts are on */
#define FLAG_DF    UINT64_C(0x400)

struct action {
    uint64_t handler, flags, restorer, mask;
};
struct context {
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, rflags;
    uint16_t cs, gs, fs, ss;
    uint64_t error, trap, old_mask, cr2, fpstate, reserved[8];
};
struct ucontext {
    uint64_t flags, link;
    struct alternate_stack stack;
    struct context context;
    uint64_t mask;
};
struct info {
    int32_t signal, error, code, zero;
    uint64_t address;
    uint64_t rest[13];
};
_Static_assert(sizeof(struct info) == 128 && sizeof(struct context) == 256, "as Linux has them");
struct frame {
    struct ucontext uc;
    struct info info;
};

static struct action actions[SIGNALS + 1];
static uint64_t pending; /* whoever does not block it */
static uint64_t xsave_size, trampoline;
/* What the next frame tells of a fault. */
static struct {
    int code;
    uint64_t address, trap, error;
} fault;

static uint64_t bit(unsigned signal) {
    return UINT64_C(1) << (signal - 1);
}

void signal_init(uint32_t size, uint64_t at) {
    xsave_size = size;
    trampoline = at;
}

static bool ignored(unsigned signal) {
    enum { SIGCHLD = 17, SIGCONT = 18, SIGURG = 23, SIGWINCH = 28 };
    uint64_t handler = actions[signal].handler;
    if (handler != SIG_DFL) return handler == SIG_IGN;
    return signal == SIGCHLD || signal == SIGCONT || signal == SIGURG || signal == SIGWINCH;
}

void signal_raise(unsigned signal) {
    if (!ignored(signal)) pending |= bit(signal);
}

bool signal_due_to(const struct thread *t) {
    return (pending | t->signals.pending) & ~t->signals.blocked;
}

bool signal_due(void) {
    return current->phase == THREAD_PLAIN && signal_due_to(current);
}

static bool on_alternate(uint64_t rsp) {
    const struct alternate_stack *a = &current->signals.alternate;
    return !(a->flags & SS_DISABLE) && rsp > a->sp && rsp <= a->sp + a->size;
}

static void fill_context(struct context *c, const struct shim_regs *r) {
    *c = (struct context){.r8 = r->r8,
                          .r9 = r->r9,
                          .r10 = r->r10,
                          .r11 = r->r11,
                          .r12 = r->r12,
                          .r13 = r->r13,
                          .r14 = r->r14,
                          .r15 = r->r15,
                          .rdi = r->rdi,
                          .rsi = r->rsi,
                          .rbp = r->rbp,
                          .rbx = r->rbx,
                          .rdx = r->rdx,
                          .rax = r->rax,
                          .rcx = r->rcx,
                          .rsp = r->rsp,
                          .rip = r->rip,
                          .rflags = r->rflags,
                          .cs = (uint16_t)r->cs,
                          .ss = (uint16_t)r->ss,
                          .error = fault.error,
                          .trap = fault.trap,
                          .old_mask = current->signals.blocked,
                          .cr2 = fault.address};
}

static void call_handler(struct shim_regs *r, unsigned signal) {
    struct action *a = &actions[signal];
    struct signals *own = &current->signals;
    uint64_t sp = r->rsp - RED_ZONE;
    if ((a->flags & SA_ONSTACK) && !(own->alternate.flags & SS_DISABLE) && !on_alternate(r->rsp))
        sp = own->alternate.sp + own->alternate.size;
    uint64_t area = (sp - xsave_size) & ~UINT64_C(63), at = (area - sizeof(struct frame)) & ~UINT64_C(15);
    if (sp > USER_END || at >= sp || !user_ok(at, sp - at, true))
        crash(r, SIGSEGV, "no room on the stack for a signal's frame");
    struct frame *f = (struct frame *)at;
    memset(f, 0, sizeof *f);
    f->uc.stack = own->alternate;
    if (on_alternate(r->rsp)) f->uc.stack.flags = SS_ONSTACK;
    f->uc.mask = own->blocked;
    fill_context(&f->uc.context, r);
    f->uc.context.fpstate = area;
    f->info = (struct info){.signal = (int32_t)signal, .code = fault.code, .address = fault.address};
    r->rip = trampoline;
    r->rsp = at;
    r->rax = a->handler;
    r->rdi = signal;
    r->rsi = at + offsetof(struct frame, info);
    r->rdx = at;
    r->r8 = area;
    r->rflags &= ~(FLAG_TF | FLAG_DF);
    own->blocked |= a->mask | (a->flags & SA_NODEFER ? 0 : bit(signal));
    if (a->flags & SA_RESETHAND) a->handler = SIG_DFL;
}

static const char *name(unsigned signal) {
    switch (signal) {
    case SIGSEGV: return "SIGSEGV";
    case SIGABRT: return "SIGABRT";
    case SIGILL: return "SIGILL";
    case SIGFPE: return "SIGFPE";
    case SIGBUS: return "SIGBUS";
    case SIGTRAP: return "SIGTRAP";
    case SIGALRM: return "SIGALRM";
    case SIGPROF: return "SIGPROF";
    default: return "a signal";
    }
}

static _Noreturn void die(struct shim_regs *r, unsigned signal) {
    stop(r, signal);
    crash(r, signal, name(signal));
}

bool signal_deliver(struct shim_regs *r) {
    bool changed = false;
    struct signals *own = &current->signals;
    while (signal_due()) {
        unsigned signal = (unsigned)__builtin_ctzll((pending | own->pending) & ~own->blocked) + 1;
        fault.code = own->pending & bit(signal) ? SI_TKILL : 0;
        own->pending &= ~bit(signal);
        if (fault.code == 0) pending &= ~bit(signal);
        if (actions[signal].handler == SIG_DFL && !ignored(signal)) die(r, signal);
        if (!ignored(signal)) call_handler(r, signal);
        fault.code = 0;
        changed = true;
    }
    return changed;
}

void signal_fault(struct shim_regs *r, unsigned signal, int code, uint64_t address, uint64_t trap) {
    if (current->phase != THREAD_PLAIN) crash(r, signal, "a thread's vector state is damaged");
    if ((current->signals.blocked & bit(signal)) || actions[signal].handler <= SIG_IGN) die(r, signal);
    fault.code = code;
    fault.address = address;
    fault.trap = trap;
    fault.error = r->error;
    call_handler(r, signal);
    fault.code = 0;
    fault.address = fault.trap = fault.error = 0;
}

/* ---- calls ---- */

int64_t sys_rt_sigaction(uint64_t signal, uint64_t new, uint64_t old, uint64_t set_size) {
    if (signal < 1 || signal > SIGNALS || set_size != 8) return -EINVAL;
    if ((new && !user_ok(new, sizeof(struct action), false)) || (old && !user_ok(old, sizeof(struct action), true)))
        return -EFAULT;
    if (new && (signal == SIGKILL || signal == SIGSTOP)) return -EINVAL;
    struct action next = new ? *(const struct action *)new : actions[signal];
    ONE_COPY(next);
    if (old) *(struct action *)old = actions[signal];
    actions[signal] = next;
    return 0;
}

int64_t sys_rt_sigprocmask(uint64_t how, uint64_t new, uint64_t old, uint64_t set_size) {
    if (set_size != 8) return -EINVAL;
    if ((new && !user_ok(new, 8, false)) || (old && !user_ok(old, 8, true))) return -EFAULT;
    uint64_t *blocked = &current->signals.blocked, before = *blocked;
    uint64_t set = new ? *(const uint64_t *)new & ~(bit(SIGKILL) | bit(SIGSTOP)) : 0;
    if (new &&how == SIG_BLOCK)
        *blocked |= set;
    else if (new &&how == SIG_UNBLOCK)
        *blocked &= ~set;
    else if (new &&how == SIG_SETMASK)
        *blocked = set;
    else if (new)
        return -EINVAL;
    if (old) *(uint64_t *)old = before;
    return 0;
}

int64_t sys_sigaltstack(const struct shim_regs *r, uint64_t new, uint64_t old) {
    struct alternate_stack *own = &current->signals.alternate, before = *own;
    if ((new && !user_ok(new, sizeof *own, false)) || (old && !user_ok(old, sizeof *own, true))) return -EFAULT;
    if (on_alternate(r->rsp)) before.flags = SS_ONSTACK;
    if (new) {
        struct alternate_stack next = *(const struct alternate_stack *)new;
        ONE_COPY(next);
        if (on_alternate(r->rsp)) return -EPERM;
        if (next.flags & ~(SS_DISABLE | SS_ONSTACK)) return -EINVAL;
        if (!(next.flags & SS_DISABLE) && next.size < xsave_size + sizeof(struct frame) + 1024) return -ENOMEM;
        next.flags &= SS_DISABLE;
        *own = next;
    }
    if (old) *(struct alternate_stack *)old = before;
    return 0;
}

void sys_rt_sigreturn(struct shim_regs *r) {
    const struct frame *f = (const struct frame *)r->rsp;
    if (!user_ok(r->rsp, sizeof *f, false)) crash(r, SIGSEGV, "no signal frame to return from");
    struct context c = f->uc.context;
    ONE_COPY(c);
    if (c.rip >= USER_END || c.rsp >= USER_END) crash(r, SIGSEGV, "a signal handler returns to nowhere");
    current->signals.blocked = f->uc.mask & ~(bit(SIGKILL) | bit(SIGSTOP));
    r->r8 = c.r8, r->r9 = c.r9, r->r10 = c.r10, r->r11 = c.r11, r->r12 = c.r12, r->r13 = c.r13, r->r14 = c.r14;
    r->r15 = c.r15, r->rdi = c.rdi, r->rsi = c.rsi, r->rbp = c.rbp, r->rbx = c.rbx, r->rdx = c.rdx, r->rax = c.rax;
    r->rcx = c.rcx, r->rsp = c.rsp, r->rip = c.rip;
    r->rflags = (c.rflags & USER_FLAGS) | FLAG_FIXED;
}

int64_t sys_tgkill(uint64_t pid, uint64_t tid, uint64_t signal) {
    struct thread *t = thread_of(tid);
    if (pid != 1 || !t || signal > SIGNALS) return -EINVAL;
    if (signal == 0 || ignored((unsigned)signal)) return 0;
    t->signals.pending |= bit((unsigned)signal);
    threads_arm();
    threads_signal();
    return 0;
}
