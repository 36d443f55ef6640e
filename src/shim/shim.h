/* What a shim and its loader agree on: where things are in the keep's address spaces, the image's header, and the calls
 * a shim makes. Used by both sides, by `donjon measure`, and (its numbers) by the assembler.
 *
 * The shim trusts nothing in the shared part: a call's result is copied once, bounded by what was asked, and used as a
 * count or an error, never as an address; what it describes is copied in and checked (the warden: hashed) before use.
 */
#ifndef DONJON_SHIM_H
#define DONJON_SHIM_H

/* ---- guest-physical memory ---- */
#define SHIM_SHARED_GPA  0x0      /* shared with the host: calls, gate, transfer buffer */
#define SHIM_SHARED_SIZE 0x200000 /* one 2 MiB page */
#define SHIM_IMAGE_GPA   0x200000 /* private memory starts here, with the shim */
#define SHIM_MEMORY_STEP 0x200000 /* private memory comes in whole 2 MiB pages */
/* Bytes of private memory at the start: what the first tables map, neither more nor less. */
#define SHIM_FIRST_MEMORY 0x4000000

/* Inside the shared part. */
#define SHIM_CALL_OFFSET     0x0
#define SHIM_GATE_OFFSET     0x10000  /* the gate's block (src/gate) */
#define SHIM_TRANSFER_OFFSET 0x100000 /* bulk data between host and shim */
#define SHIM_TRANSFER_SIZE   0x100000

/* ---- guest-virtual memory: the shim's half. Slot 256 of the top table is never used: KVM-PVM keeps it for itself. */
#define SHIM_BASE        0xffffffff80000000 /* the image: slot 511 */
#define SHIM_DIRECT_BASE 0xffff900000000000 /* all private memory, at its guest-physical address: slot 288 */
#define SHIM_SHARED_BASE 0xffffa00000000000 /* the shared part: slot 320 */

/* ---- selectors: as SYSRET wants them (AMD APM 2, 6.1.1) ---- */
#define SHIM_KERNEL_CS 0x08
#define SHIM_KERNEL_SS 0x10
#define SHIM_USER_SS   0x23
#define SHIM_USER_CS   0x2b
#define SHIM_TSS       0x30

/* The doorbell to the host: one byte out. */
#define SHIM_PORT 0x42
/* The same without leaving the kernel of the host: rings the gate's bell. */
#define SHIM_PORT_BELL 0x43
/* The loader's interrupt: look at your clock. */
#define SHIM_VECTOR_KICK 0x20

/* Virtual CPUs at most. */
#define SHIM_CPUS 16

/* How the shim runs beside the warden. */
#define SHIM_MODE_RING0 0 /* true rings: SYSCALL enters the shim at CPL 0 */
#define SHIM_MODE_PARA  3 /* KVM-PVM: SYSCALL stays at CPL 3, and CPL 0 is emulated: the shim lives at CPL 3 */

/* The one call that the assembler makes (enum shim_op). */
#define SHIM_OP_WRONG_MODE 13

#define SHIM_MAGIC   0x6d696853 /* "Shim" */
#define SHIM_VERSION 3

/* A system call of the warden's that Linux does not have: code(at, from, size) puts code into memory where there is none
 * (reserved, or executable and zero; `at` a multiple of 8), which can be executed then and was never writable. 0, or -errno. */
#define SHIM_NR_CODE 0x7010

/* The page of digests, right behind the shim's memory. */
#define SHIM_DIGESTS_MAGIC 0x747367446a6e6f44 /* "DonjDgst" */

#ifndef __ASSEMBLER__
#include <stdint.h>

/* At the image's first byte. Offsets are from there. */
struct shim_header {
    uint32_t magic, version;
    uint64_t file_size;             /* bytes in the file */
    uint64_t memory_size;           /* with zeroed data: whole pages */
    uint64_t text, user_text, data; /* [0, text) is read-only data, then code, then code the warden's ring may run, then
                                       writable data */
    uint64_t entry, stack;          /* RIP and RSP at the start; RDI is the mode */
    uint64_t syscall;               /* LSTAR */
    uint64_t gdt, gdt_size, idt, idt_size, tss, tss_size;
};

/* One page, measured with the shim: what it may take in. */
enum { SHIM_MAY_DEBUG = 1 };
struct shim_digests {
    uint64_t magic;
    uint32_t version;
    uint32_t flags; /* SHIM_MAY_DEBUG: registers and memory may be shown. Measured, so that no host can ask for it */
    uint64_t warden_size; /* the leading part of the warden's file that is loaded: debug information lies behind it */
    uint8_t warden_sha256[32];
    uint64_t code_size; /* compiled code that comes with the module; 0: none may come */
    uint8_t code_sha256[32];
    uint8_t zeros[4096 - 96];
};
_Static_assert(sizeof(struct shim_digests) == 4096, "one page");

/* Calls, each virtual CPU's by itself. a0.. are arguments; the result is >= 0, or -errno (Linux numbers; only those
 * named here). What uses the transfer buffer is asked by one CPU at a time. */
enum shim_op {
    SHIM_READ = 1,   /* a0 file, a1 offset, a2 bytes at most -> bytes put into the transfer buffer */
    SHIM_BELL_WRITE, /* one byte into the gate's doorbell */
    SHIM_BELL_READ,  /* a0 nanoseconds at most, ~0 for ever -> 1 byte read, 0 the host has gone, -EINTR time is up, or
                        another CPU kicks */
    SHIM_SLEEP,      /* a0 nanoseconds; less when another CPU kicks -> 0 */
    SHIM_TIMER,      /* a0 nanoseconds from now, ~0 none: interrupt me then, should I be busy -> 0 */
    SHIM_GROW,       /* a0 bytes at least -> bytes of private memory that now follow what there was */
    SHIM_BOOT_DONE,  /* the files will not be read again -> 0 */
    SHIM_LOG,        /* a0 bytes of text in the transfer buffer. Debug mode only */
    SHIM_STDERR,     /* a0 bytes in the transfer buffer: the warden's standard error -> bytes taken */
    SHIM_EXIT,       /* a0 status; does not return */
    SHIM_CRASH,      /* struct shim_crash in the transfer buffer; does not return */
    SHIM_STOP,       /* struct shim_stop in the transfer buffer; comes back when the debugger says so */
    SHIM_WRONG_MODE = SHIM_OP_WRONG_MODE, /* this machine's SYSCALL does not do what the mode says; does not return */
    SHIM_CPU,  /* a0 a virtual CPU's number, a1 its CR3: run it from the start, with the first one's registers -> 0 */
    SHIM_KICK, /* a0 virtual CPUs, one bit each: interrupt them, or wake them -> 0 */
    SHIM_OPS
};
/* SHIM_FILE_BOOT ends before the compiled code, which is a file of its own. */
enum shim_file { SHIM_FILE_WARDEN, SHIM_FILE_BOOT, SHIM_FILE_CODE, SHIM_FILES };

struct shim_call {
    uint32_t op, zero;
    uint64_t args[4];
    int64_t result;
};

/* What the host says at the start, read once and checked. Behind the calls. */
enum { SHIM_FLAG_DEBUG = 1, SHIM_FLAG_STOP = 2 /* a debugger is there */, SHIM_FLAGS = 3 };
struct shim_boot {
    uint32_t version, flags;
    uint64_t memory;       /* bytes of private memory there are */
    uint64_t memory_limit; /* and may become */
    uint64_t tsc_khz;
    uint64_t realtime_ns, monotonic_ns; /* now */
    uint32_t cpus, zero;                /* virtual CPUs that SHIM_CPU may start, the first included */
    uint8_t random[64];                 /* mixed into the keep's own entropy; never used alone */
};
struct shim_shared {
    struct {
        _Alignas(64) struct shim_call call;
    } cpus[SHIM_CPUS];  /* the first at SHIM_CALL_OFFSET */
    uint32_t attention; /* the debugger wants the warden to stop */
    _Alignas(64) struct shim_boot boot;
};

/* As an exception or a system call found them; the order is what entry.S pushes. */
struct shim_regs {
    uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi;
    uint64_t vector, error;
    uint64_t rip, cs, rflags, rsp, ss;
};

/* For a debugger: the warden has stopped; what the host leaves here it goes on with (flags and addresses are checked).
 */
struct shim_stop {
    uint32_t signal, tid;
    struct shim_regs regs;
    uint64_t fs_base, warden_base;
};

/* Why a keep died. */
enum { SHIM_CRASH_REASON = 96, SHIM_CRASH_STACK = 16384 };
struct shim_crash {
    char reason[SHIM_CRASH_REASON];
    uint32_t signal; /* that killed the warden; 0: the shim's own failure */
    uint32_t mode;
    struct shim_regs regs;
    uint64_t cr2, warden_base, stack_size;
    uint8_t stack[SHIM_CRASH_STACK]; /* from RSP upwards; debug mode only */
};
#endif
#endif
