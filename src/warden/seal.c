#define _GNU_SOURCE
#include "seal.h"
#include "../gate/gate.h"
#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#if defined __x86_64__
#define ARCH AUDIT_ARCH_X86_64
#elif defined __riscv && __riscv_xlen == 64
#define ARCH AUDIT_ARCH_RISCV64
#elif defined __aarch64__
#define ARCH AUDIT_ARCH_AARCH64
#else
#error "no seccomp architecture named for this CPU"
#endif

/* A system call's answer: one that the kernel does not know is a lock that it does not have. */
static enum seal_result result(long rc) {
    if (rc >= 0) return SEAL_CLOSED;
    return errno == ENOSYS ? SEAL_ABSENT : SEAL_BROKEN;
}

/* ---- the list of system calls ---- */

enum test {
    ANY,     /* whatever the arguments */
    IS,      /* argument == value */
    WITHIN,  /* value <= argument <= value2 */
    WITHOUT, /* argument has none of value's bits */
    WITH,    /* argument has all of value's bits */
};

struct condition {
    uint8_t test, arg; /* arguments are 64 bits; the tests look at the low 32, which is all that these arguments have */
    uint32_t value, value2;
};

enum { CONDITIONS = 3 };
struct rule {
    int call;
    struct condition conditions[CONDITIONS]; /* all must hold */
    bool absent;                             /* answered with ENOSYS: the caller has another way */
    bool threads;                            /* only where there are others */
};

/* After the seal the warden talks through the doorbell, reads the boot image, and looks after its own memory and time.
 */
#define ALLOW(name)                                                                                                    \
    { .call = SYS_##name }
#define ONLY(name, ...)                                                                                                \
    {                                                                                                                  \
        .call = SYS_##name, .conditions = { __VA_ARGS__ }                                                              \
    }
/* clang-format off */
static const struct rule rules[] = {
    ONLY(read, {WITHIN, 0, GATE_FD_BELL, GATE_FD_BOOT}),
    ONLY(write, {IS, 0, GATE_FD_BELL, 0}),
    ONLY(write, {IS, 0, STDERR_FILENO, 0}), /* /dev/null but in debug mode */
    ALLOW(clock_gettime),
    ALLOW(clock_getres),
    ALLOW(clock_nanosleep),
    ALLOW(getrandom),
    ALLOW(sched_yield),
    ONLY(mmap, {WITHOUT, 2, PROT_EXEC, 0}, {WITH, 3, MAP_ANONYMOUS, 0}, {IS, 4, UINT32_MAX, 0}),
    ONLY(mprotect, {WITHOUT, 2, PROT_EXEC, 0}), /* writable or executable, never both */
    ONLY(mprotect, {WITHOUT, 2, PROT_WRITE, 0}),
    ALLOW(munmap),
    ALLOW(mremap),
    ALLOW(madvise),
    ALLOW(brk),
    ONLY(close, {IS, 0, GATE_FD_BOOT, 0}),
    ONLY(setitimer, {IS, 0, ITIMER_REAL, 0}),
    ONLY(setitimer, {IS, 0, ITIMER_PROF, 0}), /* the keep's own computing: time.c */
    ONLY(rt_sigaction, {WITHIN, 0, SIGBUS, SIGSEGV}), /* native code's bounds checks are faults */
    ALLOW(sigaltstack),
    ALLOW(rt_sigprocmask),
    ALLOW(rt_sigreturn),
    ALLOW(restart_syscall),
    ALLOW(getpid), /* with the next two: abort(3) */
    ALLOW(gettid),
    ONLY(tgkill, {IS, 2, SIGABRT, 0}), /* of itself: seal() adds the first argument */
    ONLY(futex, {IS, 1, FUTEX_WAKE_PRIVATE, 0}), /* pthread_once(3) wakes whoever might wait: nobody */
    { .call = SYS_futex, .conditions = {{IS, 1, FUTEX_WAIT_PRIVATE, 0}}, .threads = true },
    { .call = SYS_futex, .conditions = {{IS, 1, FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME, 0}}, .threads = true },
    { .call = SYS_sysinfo, .absent = true }, /* qsort(3) would like to know how much memory there is */
    ALLOW(exit),
    ALLOW(exit_group),
#if DONJON_SANITIZED
    ALLOW(read), ALLOW(write), ALLOW(openat), ALLOW(close), ALLOW(newfstatat), ALLOW(fstat), ALLOW(lseek),
    ALLOW(readlinkat), ALLOW(futex), ALLOW(prctl), ALLOW(sigaltstack), ALLOW(rt_sigaction), ALLOW(prlimit64),
    ALLOW(tgkill), ALLOW(personality),
#if defined __x86_64__
    ALLOW(readlink), ALLOW(open), ALLOW(stat),
#endif
#endif
};
/* clang-format on */
enum { RULES = sizeof rules / sizeof rules[0] };

/* ---- the list as a BPF program ---- */

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, field))
#define REFUSE      (DONJON_SANITIZED ? SECCOMP_RET_ERRNO | EPERM : SECCOMP_RET_KILL_PROCESS)

enum { CODE_HEAD = 4, CODE_PER_CONDITION = 3, CODE_PER_RULE = 3 + CONDITIONS * CODE_PER_CONDITION };
struct program {
    struct sock_filter code[CODE_HEAD + RULES * CODE_PER_RULE + 1];
    unsigned short n;
};

static void emit(struct program *p, struct sock_filter f) {
    p->code[p->n++] = f;
}

/* The instructions of one condition; each jumps over `rest` instructions to the rule's end when it does not hold. */
static void emit_condition(struct program *p, const struct condition *c, uint8_t rest) {
    uint32_t at =
        (uint32_t)(offsetof(struct seccomp_data, args) + c->arg * sizeof(uint64_t)); /* little-endian low half */
    emit(p, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at));
    switch (c->test) {
    case IS: emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, c->value, 0, rest)); break;
    case WITHOUT: emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, c->value, rest, 0)); break;
    case WITH: emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, c->value, 0, rest)); break;
    default: /* WITHIN */
        emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, c->value, 0, (uint8_t)(rest + 1)));
        emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, c->value2, rest, 0));
    }
}

static uint8_t condition_size(const struct condition *c) {
    return c->test == ANY ? 0 : c->test == WITHIN ? 3 : 2;
}

/* JSET asks for any of the bits: WITH is for one bit only. */
_Static_assert((MAP_ANONYMOUS & (MAP_ANONYMOUS - 1)) == 0, "one bit");

static void emit_rule(struct program *p, const struct rule *r, pid_t self) {
    struct condition conditions[CONDITIONS];
    memcpy(conditions, r->conditions, sizeof conditions);
    if (r->call == SYS_tgkill && conditions[0].test != ANY)
        conditions[1] = (struct condition){IS, 0, (uint32_t)self, 0};
    unsigned rest = 2; /* ALLOW, and the reload of the call's number that a failed condition needs */
    for (int i = 0; i < CONDITIONS; i++)
        rest += condition_size(&conditions[i]);
    emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)r->call, 0, (uint8_t)rest));
    for (int i = 0; i < CONDITIONS; i++) {
        if (conditions[i].test == ANY) continue;
        rest -= condition_size(&conditions[i]);
        emit_condition(p, &conditions[i], (uint8_t)(rest - 1));
    }
    uint32_t answer = r->absent ? SECCOMP_RET_ERRNO | ENOSYS : SECCOMP_RET_ALLOW;
    emit(p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, answer));
    emit(p, (struct sock_filter)LOAD(nr));
}

static bool threaded;
static enum seal_result seal_seccomp(void) {
    static struct program p;
    emit(&p, (struct sock_filter)LOAD(arch));
    emit(&p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0));
    emit(&p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
    emit(&p, (struct sock_filter)LOAD(nr)); /* x32's numbers have bit 30 set: in no rule */
    for (int i = 0; i < RULES; i++)
        if (threaded || !rules[i].threads) emit_rule(&p, &rules[i], getpid());
    emit(&p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, REFUSE));
    struct sock_fprog program = {.len = p.n, .filter = p.code};
    unsigned flags = threaded ? SECCOMP_FILTER_FLAG_TSYNC : 0; /* gives the id of a thread that cannot be had */
    long rc = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
    return rc > 0 ? SEAL_BROKEN : result(rc);
}

/* ---- Landlock: linux/landlock.h, of a newer kernel than the headers this may be built with ---- */

struct landlock_attr {
    uint64_t handled_access_fs, handled_access_net, scoped;
};
enum {
    LANDLOCK_QUERY_VERSION = 1, /* LANDLOCK_CREATE_RULESET_VERSION */
    LANDLOCK_NET_TCP = 3,       /* ABI 4: bind and connect */
    LANDLOCK_SCOPES = 3,        /* ABI 6: abstract unix sockets and signals */
    LANDLOCK_ABI_NET = 4,
    LANDLOCK_ABI_SCOPE = 6
};

/* File rights by ABI: 13 in ABI 1, then REFER, TRUNCATE, (network), IOCTL_DEV. */
static uint64_t landlock_files(long abi) {
    int bits = abi >= 5 ? 16 : abi >= 3 ? 15 : abi >= 2 ? 14 : 13;
    return (UINT64_C(1) << bits) - 1;
}

static enum seal_result seal_landlock(void) {
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_QUERY_VERSION);
    if (abi < 1) return errno == EOPNOTSUPP ? SEAL_ABSENT : result(-1); /* built in, but not switched on */
    struct landlock_attr attr = {.handled_access_fs = landlock_files(abi)};
    size_t size = sizeof attr.handled_access_fs;
    if (abi >= LANDLOCK_ABI_NET) {
        attr.handled_access_net = LANDLOCK_NET_TCP;
        size += sizeof attr.handled_access_net;
    }
    if (abi >= LANDLOCK_ABI_SCOPE) {
        attr.scoped = LANDLOCK_SCOPES;
        size += sizeof attr.scoped;
    }
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0); /* no rule: nothing is allowed */
    if (ruleset < 0) return SEAL_BROKEN;
    long rc = syscall(SYS_landlock_restrict_self, ruleset, 0);
    int error = errno;
    close(ruleset);
    errno = error;
    return rc == 0 ? SEAL_CLOSED : SEAL_BROKEN;
}

/* ---- the others ---- */

static enum seal_result seal_capabilities(void) {
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0, 0, 0}};
    return result(syscall(SYS_capset, &head, none));
}

static enum seal_result seal_privileges(void) {
    return result(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

static enum seal_result seal_memory(void) {
    return result(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0));
}

static enum seal_result seal_limits(void) {
    static const int resources[] = {RLIMIT_CORE, RLIMIT_MSGQUEUE, RLIMIT_MEMLOCK, RLIMIT_NOFILE};
    const struct rlimit none = {0, 0};
    for (size_t i = 0; i < sizeof resources / sizeof resources[0]; i++) {
        if (DONJON_SANITIZED && resources[i] == RLIMIT_NOFILE) continue;
        enum seal_result r = result(setrlimit((__rlimit_resource_t)resources[i], &none));
        if (r != SEAL_CLOSED) return r;
    }
    return SEAL_CLOSED;
}

/* Landlock needs a descriptor, and seccomp leaves none of the calls above: that is the order. */
static const struct {
    const char *name;
    enum seal_result (*close)(void);
} locks[] = {
    {"capabilities", seal_capabilities}, {"no_new_privs", seal_privileges}, {"dumpable", seal_memory},
    {"landlock", seal_landlock},         {"rlimits", seal_limits},          {"seccomp", seal_seccomp},
};

enum { LOCKS = sizeof locks / sizeof locks[0] };
static enum seal_result results[LOCKS];

bool seal(void (*threads)(void), char *error, size_t size) {
    for (size_t i = 0; i < LOCKS; i++) {
        if (threads && locks[i].close == seal_seccomp) {
            threads();
            threaded = true;
        }
        results[i] = locks[i].close();
        if (results[i] != SEAL_BROKEN) continue;
        snprintf(error, size, "the warden cannot close its lock \"%s\": %s", locks[i].name, strerror(errno));
        return false;
    }
    return true;
}

bool seal_open(void) {
    for (size_t i = 0; i < LOCKS; i++)
        if (locks[i].close == seal_seccomp) return results[i] == SEAL_ABSENT;
    return false;
}

const char *seal_describe(char *text, size_t size) {
    size_t n = 0;
    text[0] = 0;
    for (size_t i = 0; i < LOCKS && n < size; i++)
        n += (size_t)snprintf(text + n, size - n, "%s%s %s", i ? ", " : "", locks[i].name,
                              results[i] == SEAL_CLOSED ? "closed" : "absent");
    return text;
}

enum seal_result seal_lock(const char *name) {
    for (size_t i = 0; i < LOCKS; i++)
        if (strcmp(name, locks[i].name) == 0) return locks[i].close();
    return SEAL_BROKEN;
}
