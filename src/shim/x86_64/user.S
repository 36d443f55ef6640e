/* The warden's ring: the beginning and end of user.c's functions, and how a signal handler is called. */
#define USER_DONE    0x7000
#define USER_PARKED  0x7001
#define USER_RESUMED 0x7002
#define NR_rt_sigreturn 15
/* Offsets in an XSAVE area: its header (Intel SDM 1, 13.4.2). */
#define XSAVE_HEADER 512

.text
.globl user_entry, user_signal, user_park, user_resume

user_entry: /* RAX: function, RDI: its argument */
    call *%rax
    mov $USER_DONE, %eax
    syscall
    ud2

/* RAX: handler, R8: XSAVE area; RDI, RSI, RDX: the handler's arguments; RSP: the frame that rt_sigreturn takes. All
 * registers of the interrupted code are in the frame, so any can be used. */
user_signal:
    mov %rax, %rbx
    mov %r8, %r12
    mov %rdx, %r13
    xor %eax, %eax
    mov %rax, XSAVE_HEADER(%r12)
    mov %rax, XSAVE_HEADER + 8(%r12)
    mov %rax, XSAVE_HEADER + 16(%r12)
    mov %rax, XSAVE_HEADER + 24(%r12)
    mov %rax, XSAVE_HEADER + 32(%r12)
    mov %rax, XSAVE_HEADER + 40(%r12)
    mov %rax, XSAVE_HEADER + 48(%r12)
    mov %rax, XSAVE_HEADER + 56(%r12)
    mov $-1, %eax
    mov $-1, %edx
    xsave64 (%r12)
    mov %r13, %rdx
    xor %eax, %eax
    call *%rbx
    mov $-1, %eax
    mov $-1, %edx
    xrstor64 (%r12)
    mov $NR_rt_sigreturn, %eax
    syscall
    ud2

/* R8: XSAVE area, its header's unused part zero. All other registers are kept elsewhere. */
user_park:
    mov $-1, %eax
    mov $-1, %edx
    xsave64 (%r8)
    mov $USER_PARKED, %eax
    syscall
    ud2
user_resume:
    mov $-1, %eax
    mov $-1, %edx
    xrstor64 (%r8)
    mov $USER_RESUMED, %eax
    syscall
    ud2

.section .note.GNU-stack, "", @progbits
