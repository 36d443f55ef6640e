/* A program in the warden's place (DONJON_WARDEN): what the shim owes to it, tried from inside. Prints to standard
 * error, which --debug shows, and ends with status 0 when all holds. It runs as an ordinary process too: what differs
 * there is said. With BENCH defined to 1 it measures instead. */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <stdbool.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "shim/shim.h"

#define PAGE  4096ul
#define LARGE (2ul << 20)
#define GIB   (1ul << 30)

static int failures;
static void say(const char *format, ...) {
    char line[256];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    (void)!write(2, line, (size_t)n);
}
#define CHECK(what)                                                                                                    \
    do {                                                                                                               \
        if (!(what)) {                                                                                                 \
            failures++;                                                                                                \
            say("inside: FAIL line %d: %s (errno %d)\n", __LINE__, #what, errno);                                      \
        }                                                                                                              \
    } while (0)

/* ---- faults ---- */

static sigjmp_buf jump;
static volatile int caught, code;
static volatile uintptr_t address;

static void on_fault(int signal, siginfo_t *info, void *context) {
    (void)context;
    caught = signal;
    code = info->si_code;
    address = (uintptr_t)info->si_addr;
    siglongjmp(jump, 1);
}

/* The signal that an access raises; 0: none. */
#define RAISES(statement)                                                                                              \
    ({                                                                                                                 \
        caught = 0;                                                                                                    \
        if (sigsetjmp(jump, 1) == 0) {                                                                                 \
            statement;                                                                                                 \
        }                                                                                                              \
        caught;                                                                                                        \
    })

static int touch(volatile char *p) {
    return RAISES((void)*p);
}
static int store(volatile char *p) {
    return RAISES(*p = 1);
}
static int jump_to(void *p) {
    return RAISES(((void (*)(void))p)());
}

static void *map(size_t size, int prot) {
    void *p = mmap(NULL, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(p != MAP_FAILED);
    return p;
}

static void protections(void) {
    char *p = map(16 * PAGE, PROT_READ | PROT_WRITE);
    memset(p, 0x5a, 16 * PAGE);
    CHECK(mprotect(p, PAGE, PROT_READ) == 0 && touch(p) == 0 && store(p) == SIGSEGV);
    CHECK(address == (uintptr_t)p && code == SEGV_ACCERR);
    CHECK(store(p + PAGE) == 0);
    CHECK(mprotect(p, PAGE, PROT_NONE) == 0 && touch(p) == SIGSEGV && touch(p + PAGE) == 0);
    CHECK(mprotect(p, PAGE, PROT_READ) == 0 && p[7] == 0x5a);
    CHECK(jump_to(p) == SIGSEGV);
    p[2 * PAGE] = (char)0xc3; /* RET */
    CHECK(mprotect(p + 2 * PAGE, PAGE, PROT_READ | PROT_EXEC) == 0 && jump_to(p + 2 * PAGE) == 0);
    CHECK(store(p + 2 * PAGE) == SIGSEGV);
    CHECK(munmap(p, 16 * PAGE) == 0 && touch(p + 3 * PAGE) == SIGSEGV && code == SEGV_MAPERR);
}

static void only_in_a_keep(void) {
    char *p = map(PAGE, PROT_READ | PROT_WRITE);
    CHECK(mprotect(p, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC) == -1 && errno == EACCES);
    CHECK(mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
    CHECK(syscall(SYS_socket, 1, 1, 0) == -1 && errno == ENOSYS);
    CHECK(syscall(SYS_getrandom, p, 2 * PAGE, 0) == -1 && errno == EFAULT);
    CHECK(syscall(SYS_openat, -100, "/", 0) == -1 && errno == ENOSYS);
    /* The pages of the shim's that the warden's ring sees are not the warden's to change. */
    CHECK(munmap((void *)0x7ffff0000000, PAGE) == -1 && store((char *)0x7ffff0000000) == SIGSEGV);
    CHECK(mprotect((void *)0x40000000, PAGE, PROT_READ | PROT_WRITE) == -1 && touch((char *)0x40000000) == SIGSEGV);
    munmap(p, PAGE);
}

/* Code is put to where nothing is, and nowhere else. */
static void put_code(void) {
    static const uint8_t seven[8] = {0xb8, 7, 0, 0, 0, 0xc3}, nine[8] = {0xb8, 9, 0, 0, 0, 0xc3};
    char *p = map(4 * PAGE, PROT_NONE), *data = map(PAGE, PROT_READ | PROT_WRITE);
    CHECK(syscall(SHIM_NR_CODE, p + 16, seven, sizeof seven) == 0);
    CHECK(syscall(SHIM_NR_CODE, p + PAGE - 8, nine, sizeof nine) == 0);
    CHECK(((int (*)(void))(void *)(p + 16))() == 7 && ((int (*)(void))(void *)(p + PAGE - 8))() == 9);
    CHECK(store(p + 16) == SIGSEGV && touch(p + PAGE) == SIGSEGV);
    CHECK(syscall(SHIM_NR_CODE, p + 16, nine, sizeof nine) == -1 && errno == EACCES);
    CHECK(((int (*)(void))(void *)(p + 16))() == 7);
    CHECK(syscall(SHIM_NR_CODE, p + 20, nine, sizeof nine) == -1 && errno == EINVAL);
    CHECK(syscall(SHIM_NR_CODE, p + 2 * PAGE, p + 3 * PAGE, 8) == -1 && errno == EFAULT);
    CHECK(syscall(SHIM_NR_CODE, p + 4 * PAGE - 8, p, 3 * PAGE) == -1);
    CHECK(syscall(SHIM_NR_CODE, data, seven, sizeof seven) == -1 && errno == EACCES && data[0] == 0);
    CHECK(syscall(SHIM_NR_CODE, 0x7ffff0000000, seven, sizeof seven) == -1 && errno == EACCES);
    CHECK(syscall(SHIM_NR_CODE, 0x40000000, seven, sizeof seven) == -1 && errno == EACCES);
    CHECK(syscall(SHIM_NR_CODE, 0xffff900000200000, seven, sizeof seven) == -1 && errno == EINVAL);
    CHECK(syscall(SHIM_NR_CODE, p + 2 * PAGE, 0xffff900000200000, 8) == -1 && errno == EFAULT);
    CHECK(mprotect(p, 4 * PAGE, PROT_READ | PROT_WRITE) == 0 && (uint8_t)p[16] == 0xb8 && jump_to(p + 16) == SIGSEGV);
    munmap(p, 4 * PAGE);
    munmap(data, PAGE);
}

/* True rings only: the shim, all memory, and the shared page of calls are out of reach. */
static void kept_out(void) {
    static const uintptr_t places[] = {0xffffffff80000000, 0xffff900000200000, 0xffffa00000000000};
    for (int i = 0; i < 3; i++) {
        CHECK(touch((char *)places[i]) == SIGSEGV);
        CHECK(store((char *)places[i]) == SIGSEGV);
        CHECK(jump_to((void *)places[i]) == SIGSEGV);
    }
}

static void bad_pointers(void) {
    char *p = map(2 * PAGE, PROT_READ | PROT_WRITE);
    mprotect(p + PAGE, PAGE, PROT_NONE);
    struct timespec *t = (struct timespec *)(void *)(p + PAGE - 8);
    CHECK(syscall(SYS_clock_gettime, 1, t) == -1 && errno == EFAULT);
    CHECK(syscall(SYS_clock_gettime, 1, 0xffffffff80002000) == -1 && errno == EFAULT);
    CHECK(syscall(SYS_clock_gettime, 1, 0xfffffffffffffff8) == -1 && errno == EFAULT);
    CHECK(syscall(SYS_getrandom, 0xffff900000200000, 8, 0) == -1 && errno == EFAULT);
    CHECK(syscall(SYS_rt_sigaction, SIGUSR1, 0x8, 0, 8) == -1 && errno == EFAULT);
    CHECK(jump_to((void *)0x8000000000000000) == SIGSEGV);
    munmap(p, 2 * PAGE);
}

/* ---- memory ---- */

static void large_memory(void) {
    char *p = map(8 * GIB + LARGE, PROT_NONE);
    char *base = (char *)(((uintptr_t)p + LARGE - 1) & ~(LARGE - 1));
    for (size_t size = 0; size < 4 * LARGE; size += 64 << 10) { /* as linear memory grows */
        CHECK(mprotect(base + size, 64 << 10, PROT_READ | PROT_WRITE) == 0);
        base[size] = (char)(size >> 16);
        CHECK(base[size + 1] == 0);
    }
    for (size_t size = 0; size < 4 * LARGE; size += 64 << 10)
        CHECK(base[size] == (char)(size >> 16));
    CHECK(touch(base + 4 * LARGE) == SIGSEGV && touch(base + 8 * GIB - 1) == SIGSEGV);
    CHECK(mprotect(base + LARGE + PAGE, PAGE, PROT_READ) == 0); /* splits a large page */
    CHECK(store(base + LARGE + PAGE) == SIGSEGV && store(base + LARGE) == 0 && store(base + LARGE + 2 * PAGE) == 0);
    CHECK(mprotect(base + LARGE + PAGE, PAGE, PROT_READ | PROT_WRITE) == 0 && store(base + LARGE + PAGE) == 0);
    CHECK(munmap(base + LARGE + PAGE, PAGE) == 0 && touch(base + LARGE + PAGE) == SIGSEGV);
    CHECK(base[LARGE + (64 << 10)] == (char)((LARGE >> 16) + 1));
    CHECK(munmap(p, 8 * GIB + LARGE) == 0 && touch(base) == SIGSEGV);
}

static void four_gib(void) {
    char *p = map(8 * GIB, PROT_NONE);
    CHECK(mprotect(p, 4 * GIB, PROT_READ | PROT_WRITE) == 0);
    for (size_t at = 0; at < 4 * GIB; at += GIB / 2) {
        CHECK(p[at] == 0);
        p[at] = 1;
    }
    CHECK(touch(p + 4 * GIB) == SIGSEGV);
    CHECK(munmap(p, 8 * GIB) == 0);
}

static void moved(void) {
    for (size_t size = 3 * PAGE; size <= 3 * LARGE; size += LARGE / 2 + 3 * PAGE) {
        char *p = map(size, PROT_READ | PROT_WRITE);
        char *wall = mmap(p + size, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        for (size_t i = 0; i < size; i += PAGE)
            p[i] = (char)(i / PAGE);
        char *q = mremap(p, size, 2 * size, MREMAP_MAYMOVE);
        CHECK(q != MAP_FAILED && q != p);
        for (size_t i = 0; i < size; i += PAGE)
            CHECK(q[i] == (char)(i / PAGE));
        for (size_t i = size; i < 2 * size; i += PAGE)
            CHECK(q[i] == 0);
        CHECK(touch(p) == SIGSEGV);
        CHECK(mremap(q, 2 * size, PAGE, 0) == q && touch(q + PAGE) == SIGSEGV && q[0] == 0);
        munmap(q, PAGE);
        munmap(wall, PAGE);
    }
}

/* What is given back and comes again is zero: one program's memory is never another mapping's. */
static void zeroed(void) {
    for (int i = 0; i < 64; i++) {
        size_t size = (size_t)(1 + i % 9) * 300 * 1024;
        char *p = map(size, PROT_READ | PROT_WRITE);
        size_t at = 0;
        while (at < size && p[at] == 0)
            at += 512;
        CHECK(at >= size);
        memset(p, 0xee, size);
        if (i % 3 == 0) {
            CHECK(madvise(p, size, MADV_DONTNEED) == 0);
            CHECK(p[0] == 0 && p[size / 2] == 0 && p[size - 1] == 0);
        }
        if (i % 2) munmap(p + PAGE, PAGE);
        CHECK(munmap(p, size) == 0);
    }
    char *before = sbrk(0);
    CHECK(sbrk(5 << 20) == before && before[0] == 0);
    memset(before, 1, 5 << 20);
    CHECK(sbrk(-(5 << 20)) != (void *)-1 && touch(before + (4 << 20)) == SIGSEGV);
}

/* ---- signals ---- */

static char other_stack[64 << 10];
static volatile int on_other;

static void fix_registers(int signal, siginfo_t *info, void *context) {
    ucontext_t *u = context;
    char here;
    (void)signal;
    (void)info;
    on_other = &here >= other_stack && &here < other_stack + sizeof other_stack;
    __asm__ volatile("vpxor %%ymm7, %%ymm7, %%ymm7; pxor %%xmm8, %%xmm8" ::: "xmm7", "xmm8"); /* does not show */
    u->uc_mcontext.gregs[REG_RIP] += 3; /* over "mov (%rax), %rdx" */
    u->uc_mcontext.gregs[REG_RDI] = 77;
}

static void faults_with_registers(void) {
    struct sigaction a = {.sa_sigaction = fix_registers, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER}, old;
    stack_t s = {.ss_sp = other_stack, .ss_size = sizeof other_stack};
    CHECK(sigaltstack(&s, NULL) == 0);
    CHECK(sigaction(SIGSEGV, &a, &old) == 0);
    for (int i = 0; i < 100; i++) {
        uint64_t rdi = 1, rbx = 2, mask[4] = {1, 2, 3, (uint64_t)i}, out[4], low;
        __asm__ volatile("vmovdqu %3, %%ymm7\n movdqu %3, %%xmm8\n xor %%eax, %%eax\n"
                         ".byte 0x48, 0x8b, 0x10\n" /* mov (%rax), %rdx */
                         "vmovdqu %%ymm7, %2\n movq %%xmm8, %4"
                         : "+D"(rdi), "+b"(rbx), "=m"(out)
                         : "m"(mask), "m"(low)
                         : "rax", "rdx", "xmm7", "xmm8", "memory");
        CHECK(rdi == 77 && rbx == 2 && on_other && memcmp(mask, out, sizeof out) == 0 && low == 1);
    }
    sigaction(SIGSEGV, &old, NULL);
}

static volatile int alarms;
static void on_alarm(int signal) {
    (void)signal;
    alarms++;
}

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ITIMER_PROF: comes while something is computed, and ends no sleep. */
static void computing_time(void) {
    struct sigaction a = {.sa_handler = on_alarm};
    struct itimerval t = {.it_value = {.tv_usec = 10000}, .it_interval = {.tv_usec = 10000}}, none = {0}, was;
    struct timespec sleep = {.tv_nsec = 200000000};
    sigaction(SIGPROF, &a, NULL);
    alarms = 0;
    CHECK(setitimer(ITIMER_PROF, &t, NULL) == 0);
    double began = seconds();
    CHECK(nanosleep(&sleep, NULL) == 0 && seconds() - began >= 0.2);
    for (volatile uint64_t i = 0; alarms < 3 && i < 20000000000u; i++) {
    }
    CHECK(alarms >= 3);
    CHECK(setitimer(ITIMER_PROF, &none, &was) == 0 && was.it_interval.tv_usec == 10000);
    alarms = 0;
    began = seconds();
    for (volatile uint64_t i = 0; seconds() - began < 0.1; i++) {
    }
    CHECK(alarms == 0);
    CHECK(setitimer(ITIMER_VIRTUAL, &t, NULL) == -1 && errno == EINVAL);
}

static void timers(void) {
    struct sigaction a = {.sa_handler = on_alarm};
    struct itimerval t = {.it_value = {.tv_usec = 50000}, .it_interval = {.tv_usec = 20000}}, none = {0};
    sigaction(SIGALRM, &a, NULL);
    CHECK(setitimer(ITIMER_REAL, &t, NULL) == 0);
    double began = seconds();
    while (alarms < 5 && seconds() - began < 10) { /* system calls all the time */
    }
    CHECK(alarms >= 5);
    alarms = 0;
    for (volatile uint64_t i = 0; alarms == 0 && i < 20000000000u; i++) { /* none at all */
    }
    CHECK(alarms > 0);
    setitimer(ITIMER_REAL, &none, NULL);
    computing_time();
    t = (struct itimerval){.it_value = {.tv_usec = 30000}};
    alarms = 0;
    CHECK(setitimer(ITIMER_REAL, &t, NULL) == 0);
    struct timespec sleep = {.tv_sec = 20}, left = {0};
    CHECK(nanosleep(&sleep, &left) == -1 && errno == EINTR && left.tv_sec == 19 && alarms == 1);
    sleep = (struct timespec){.tv_nsec = 30000000};
    began = seconds();
    CHECK(nanosleep(&sleep, NULL) == 0 && seconds() - began >= 0.03);
    sigset_t set, was;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    a.sa_handler = on_alarm;
    sigaction(SIGUSR1, &a, NULL);
    alarms = 0;
    sigprocmask(SIG_BLOCK, &set, &was);
    raise(SIGUSR1);
    CHECK(alarms == 0);
    sigprocmask(SIG_SETMASK, &was, NULL);
    CHECK(alarms == 1);
}

static void others(void) {
    CHECK(RAISES(__asm__ volatile("div %0" ::"r"(0), "a"(1), "d"(0))) == SIGFPE);
    CHECK(RAISES(__asm__ volatile("ud2")) == SIGILL);
    CHECK(RAISES(__asm__ volatile("int3")) == SIGTRAP);
    CHECK(RAISES(__asm__ volatile("hlt")) == SIGSEGV);
    CHECK(RAISES(__asm__ volatile("outb %%al, $0x80" ::"a"(0))) == SIGSEGV);
}

static void numbers(void) {
    uint8_t a[300] = {0}, b[300] = {0};
    CHECK(getrandom(a, sizeof a, 0) == sizeof a && getrandom(b, sizeof b, 0) == sizeof b &&
          memcmp(a, b, sizeof a) != 0);
    unsigned ones = 0, zeros = 0;
    for (size_t i = 0; i < sizeof a; i++) {
        ones += (unsigned)__builtin_popcount(a[i]);
        zeros += a[i] == 0 && b[i] == 0;
    }
    CHECK(ones > 1000 && ones < 1400 && zeros < 4);
    struct timespec t, last = {0};
    for (int i = 0; i < 1000; i++, last = t)
        CHECK(clock_gettime(CLOCK_MONOTONIC, &t) == 0 &&
              (t.tv_sec > last.tv_sec || (t.tv_sec == last.tv_sec && t.tv_nsec >= last.tv_nsec)));
    CHECK(time(NULL) > 1700000000);
}

#if BENCH
static void measure(const char *what, int n, void (*f)(int)) {
    double best = 1e9;
    for (int round = 0; round < 5; round++) {
        double began = seconds();
        for (int i = 0; i < n; i++)
            f(i);
        double took = (seconds() - began) / n * 1e9;
        if (took < best) best = took;
    }
    say("bench: %-28s %10.0f ns\n", what, best);
}
static void null_call(int i) {
    (void)i;
    syscall(SYS_getpid);
}
static void clock_call(int i) {
    struct timespec t;
    (void)i;
    clock_gettime(CLOCK_MONOTONIC, &t);
}
static char *page;
static void protect_call(int i) {
    mprotect(page, PAGE, i & 1 ? PROT_READ | PROT_WRITE : PROT_READ);
}
static void map_call(int i) {
    (void)i;
    char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *p = 1;
    munmap(p, PAGE);
}
static void fault_call(int i) {
    (void)i;
    touch((char *)8);
}
static char *area;
static void touch_call(int i) {
    area[(size_t)i * PAGE] = 1;
}
static void host_call(int i) {
    struct timespec t = {.tv_nsec = 1};
    (void)i;
    nanosleep(&t, NULL);
}
static void random_call(int i) {
    uint64_t x;
    (void)i;
    (void)!getrandom(&x, sizeof x, 0);
}
#endif

int main(void) {
    struct sigaction a = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
    static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
    for (int i = 0; i < 5; i++)
        sigaction(signals[i], &a, NULL);
#if BENCH
    page = map(PAGE, PROT_READ | PROT_WRITE);
    area = map(4096 * PAGE, PROT_READ | PROT_WRITE);
    measure("null system call", 20000, null_call);
    measure("clock_gettime", 20000, clock_call);
    measure("getrandom, 8 bytes", 2000, random_call);
    measure("mprotect of a page", 2000, protect_call);
    measure("mmap, touch, munmap", 2000, map_call);
    measure("fault to a handler and back", 2000, fault_call);
    measure("touch a fresh page", 800, touch_call);
    measure("call to the host (sleep)", 500, host_call);
    return 0;
#else
    bool keep = syscall(SYS_gettid) == 1; /* nowhere else is a program's thread the first of all */
    protections();
    bad_pointers();
    large_memory();
    four_gib();
    moved();
    zeroed();
    faults_with_registers();
    timers();
    others();
    numbers();
    if (keep) only_in_a_keep();
    if (keep) put_code();
    if (keep && RING0) kept_out();
    say(failures ? "inside: %d failed\n" : "inside: all holds\n", failures);
    return failures != 0;
#endif
}
