/* Every way into the shim and out of it, for both modes.
 *
 * Every virtual CPU has page tables of its own, in which .percpu (below) is its own memory, at the same address: so stacks
 * are found relative to RIP on all of them, one IDT and one LSTAR do for all, and GS belongs to the warden alone.
 * Mode 0 (SHIM_MODE_RING0): the shim is at CPL 0, as a kernel is, with interrupts off.
 * Mode 3 (SHIM_MODE_PARA): SYSCALL jumps to LSTAR but stays at CPL 3, and every instruction at CPL 0 is emulated (half a
 * microsecond each). So the shim lives at CPL 3; an exception's stub at CPL 0 does no more than IRET into it, and the
 * frame that the hardware pushed is read from the stack it was pushed on. */
#include "../shim.h"

#define VECTORS      32
#define PF_VECTOR    14
#define BP_VECTOR    3
#define EXC_RSP0_TOP hw_stack_top

/* ---- header: the image's first bytes ---- */
.section .header, "a"
.long SHIM_MAGIC, SHIM_VERSION
.quad off_file_end, off_end
.quad off_text, off_user_text, off_data
.quad off_entry, off_boot_stack
.quad off_syscall
.quad off_gdt, gdt_end - gdt, off_idt, 16 * 256, off_tss, tss_end - tss

/* ---- saving and restoring ---- */
.macro SAVE
    push %rdi
    push %rsi
    push %rdx
    push %rcx
    push %rax
    push %r8
    push %r9
    push %r10
    push %r11
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
.endm
.macro RESTORE /* leaves RSP at the vector */
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rax
    pop %rcx
    pop %rdx
    pop %rsi
    pop %rdi
.endm
/* Offsets in struct shim_regs. */
#define REGS_CS     (18 * 8)
#define REGS_SS     (21 * 8)
/* From where RESTORE leaves RSP. */
#define LEFT_RIP    16
#define LEFT_RFLAGS 32
#define LEFT_RSP    40

.text
.globl shim_entry, shim_syscall, user_run, user_return, tlb_flush_trap, tlb_flush_trap_end

shim_entry: /* RDI: mode */
    mov %cs, %eax
    and $3, %eax
    cmp %edi, %eax
    jne wrong_mode
    mov %edi, shim_mode(%rip)
    call shim_main
    ud2

wrong_mode:
    movabs $SHIM_SHARED_BASE, %rax
    movl $SHIM_OP_WRONG_MODE, SHIM_CALL_OFFSET(%rax)
    out %al, $SHIM_PORT
    ud2

/* ---- system calls: RCX return address, R11 flags (AMD APM 3, SYSCALL) ---- */
shim_syscall:
    mov %rsp, user_rsp(%rip)
    lea syscall_stack_top(%rip), %rsp
    push $SHIM_USER_SS
    push user_rsp(%rip)
    push %r11
    push $SHIM_USER_CS
    push %rcx
    push %rax
    push $0x100 /* no vector */
    SAVE
    mov %cs, %eax
    and $3, %eax
    cmp shim_mode(%rip), %eax
    jne wrong_mode
    mov %rsp, %rdi
    call syscall_c
    test %eax, %eax
    jnz return_all /* something beside RAX has changed */
    cmpl $SHIM_MODE_PARA, shim_mode(%rip)
    jne 1f
    RESTORE
    mov LEFT_RIP(%rsp), %rcx
    mov LEFT_RFLAGS(%rsp), %r11
    push %r11
    popfq
    mov LEFT_RSP(%rsp), %rsp
    jmp *%rcx
1:  RESTORE
    mov LEFT_RIP(%rsp), %rcx
    mov LEFT_RFLAGS(%rsp), %r11
    mov LEFT_RSP(%rsp), %rsp
    sysretq

/* RSP: struct shim_regs. In mode 3, IRET to the same level, with the selectors that the hardware has in truth. */
return_all:
    cmpl $SHIM_MODE_PARA, shim_mode(%rip)
    jne 1f
    mov %cs, %eax
    mov %rax, REGS_CS(%rsp)
    mov %ss, %eax
    mov %rax, REGS_SS(%rsp)
1:  RESTORE
    add $16, %rsp
    iretq

/* uint64_t user_run(const struct shim_regs *): runs the warden's ring from there until user_return gives a value. */
user_run:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, run_rsp(%rip)
    mov %rdi, %rsp
    jmp return_all
user_return: /* (uint64_t value) */
    mov %rdi, %rax
    mov run_rsp(%rip), %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret

/* Mode 3 cannot reload CR3 itself: the breakpoint's stub at CPL 0 does. */
tlb_flush_trap:
    int3
tlb_flush_trap_end:
    ret

/* ---- exceptions, mode 0 ---- */
.macro EXC0 n, has_error
    .balign 16
    .if \has_error == 0
    push $0
    .endif
    push $\n
    jmp exc0_common
.endm
.balign 16
.globl exc0_stubs, exc3_stubs, exc3_landings
exc0_stubs:
.set n, 0
.rept VECTORS + 1
    .if n == 8 || (n >= 10 && n <= 14) || n == 17 || n == 21 || n == 29 || n == 30
    EXC0 n, 1
    .else
    EXC0 n, 0
    .endif
    .set n, n + 1
.endr
exc0_common:
    SAVE
    cmpl $PF_VECTOR, 15*8(%rsp)
    jne 1f
    mov %cr2, %rax
    mov %rax, exc_cr2(%rip)
1:  cld
    mov %rsp, %rdi
    call exception_c
    jmp return_all

/* ---- exceptions, mode 3: at CPL 0 the least that gets back to CPL 3 ---- */
.balign 32
exc3_stubs: /* 32 bytes each */
.set n, 0
.rept VECTORS + 1
    .balign 32
    .if n == PF_VECTOR
    mov %rax, exc_rax(%rip)
    mov %cr2, %rax
    .elseif n == BP_VECTOR
    mov %rax, exc_rax(%rip)
    mov %cr3, %rax
    mov %rax, %cr3
    .endif
    lea exc3_frames + n * 40(%rip), %rsp
    iretq
    .set n, n + 1
.endr

.balign 16
exc3_landings: /* 16 bytes each; at CPL 3, all registers but RSP (and RAX of two vectors) as they were */
.set n, 0
.rept VECTORS + 1
    .balign 16
    movl $n, exc_vector(%rip)
    jmp exc3_common
    .set n, n + 1
.endr
exc3_common:
    push hw_stack_top - 8(%rip)  /* SS */
    push hw_stack_top - 16(%rip) /* RSP */
    push hw_stack_top - 24(%rip) /* RFLAGS */
    push hw_stack_top - 32(%rip) /* CS */
    push hw_stack_top - 40(%rip) /* RIP */
    push hw_stack_top - 48(%rip) /* error code, for the vectors that have one */
    push exc_vector(%rip)
    SAVE
    cld
    mov %rsp, %rdi
    call exception_c
    jmp return_all

/* ---- data ---- */
.data
.globl shim_mode
.balign 4
shim_mode: .long 0

/* Each CPU's own. */
.section .bss.percpu, "aw", @nobits
.globl exc_cr2, exc_rax, exc3_frames, tss, gdt, idt, exc_stack_top, breakpoint_stack_top, hw_stack_top, boot_stack_top
.balign 4096
    .skip 8192
exc_stack_top:
    .skip 8192
breakpoint_stack_top: /* mode 3: the shim's own (tlb_flush_trap) may come while it is on the one above */
    .skip 512
hw_stack_top:
    .skip 16384
syscall_stack_top:
    .skip 12288
boot_stack_top:
.balign 16
idt:         .skip 16 * 256
exc3_frames: .skip 40 * (VECTORS + 1)
user_rsp:    .skip 8
run_rsp:     .skip 8
exc_cr2:     .skip 8
exc_rax:     .skip 8
exc_vector:  .skip 8
.balign 16
gdt: /* six, and the TSS, which takes two: filled in by exception.c, as the TSS is */
    .skip 8 * 8
gdt_end:
.balign 16
tss: /* with an I/O permission map that goes as far as our ports */
    .skip 104 + SHIM_PORT / 8 + 3
tss_end:

.section .note.GNU-stack, "", @progbits
