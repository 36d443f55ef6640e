/* Code of the shim's that runs in the warden's ring, before there is a warden: with the least rights, and where vector
 * instructions work in both modes. It shares a page with nothing else, is mapped at USER_CODE, and finds what it works
 * on at fixed places. */
#ifndef DONJON_SHIM_USER_H
#define DONJON_SHIM_USER_H

#include "../shim.h"
#include <stdint.h>

/* Where the vector registers of threads are while they do not run. */
#define USER_VECTORS 0x7fffe0000000
#define USER_CODE    0x7ffff0000000 /* the pages of user.c and user.S; stays for signals */
#define USER_SHARED  0x10000000     /* the memory that is shared with the host, to read */
#define USER_WINDOW  (USER_SHARED + SHIM_TRANSFER_OFFSET)
#define USER_STACK   0x20000000     /* a stack, with struct user_work at its start */
#define USER_SIZE    0x4000
#define USER_WARDEN  0x40000000 /* the copy of the warden's file */
#define USER_IMAGE   0x80000000 /* and that of compiled code */

/* What the code below works on, and finds out. */
struct user_work {
    uint64_t size; /* bytes at USER_WINDOW */
    uint64_t to;   /* where the piece goes: a multiple of 64 behind the copy's start */
    uint32_t state[8];
    uint32_t sha, rdrand, rdseed; /* instructions this CPU has */
    uint32_t xsave_size;
};

/* Each is run to its end by user.S, with struct user_work as its argument. */
void user_cpu(struct user_work *w);  /* fills in what the CPU can do */
void user_take(struct user_work *w); /* copies a piece, then hashes its whole blocks in the copy */

#endif
