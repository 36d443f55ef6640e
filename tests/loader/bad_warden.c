/* A warden that has been taken over: what it does is named by the last byte of the module it was given. */
#define _GNU_SOURCE
#include "gate/caller.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static struct gate_block *block;
static struct gate gate;

static uint64_t dice = 88172645463325252u;
static uint64_t roll(void) {
    dice ^= dice << 13;
    dice ^= dice >> 7;
    return dice ^= dice << 17;
}

static uint8_t mode(void) {
    static uint8_t bytes[4096];
    uint8_t last = 0;
    for (ssize_t n; (n = read(GATE_FD_BOOT, bytes, sizeof bytes)) > 0;)
        last = bytes[n - 1];
    return last;
}

static _Noreturn void stay(void) {
    for (;;)
        pause();
}

static void report(uint32_t status) {
    struct gate_request q = {.op = GATE_EXIT, .args = {GATE_EXIT_PROGRAM, status}};
    struct gate_reply r;
    gate_call(&gate, &q, &r);
}

static _Atomic bool enough;

static void *scribble(void *arg) {
    (void)arg;
    uint64_t d = 1;
    while (!enough) {
        d = d * 6364136223846793005u + 1442695040888963407u;
        uint64_t at = (d >> 33) % (sizeof block->request + 4096);
        if (at < sizeof block->request)
            ((volatile uint8_t *)&block->request)[at] = (uint8_t)(d >> 20);
        else
            ((volatile uint8_t *)block->data)[at - sizeof block->request] = (uint8_t)(d >> 20);
    }
    return NULL;
}

/* Random requests, their data and themselves changed while they are looked at. The block's words are used as they
 * should be, or else it would soon be over. */
static void attack(int count) {
    pthread_t thread;
    pthread_create(&thread, NULL, scribble, NULL);
    for (int i = 0; i < count; i++) {
        struct gate_request q = {.op = (uint32_t)(roll() % GATE_EXIT), .handle = (uint32_t)(roll() % 8)};
        if (q.op == GATE_READ || q.op == GATE_POLL || q.op == GATE_POLL_RECV || q.op == GATE_RECV ||
            q.op == GATE_ACCEPT)
            q.op = GATE_OPEN;
        q.len = (uint32_t)(roll() % 100);
        q.room = roll() % 2 ? 64 : (uint32_t)(roll() % GATE_DATA_SIZE);
        for (int k = 0; k < GATE_ARGS; k++)
            q.args[k] = roll() % 4 ? roll() % 8 : 0;
        for (uint32_t k = 0; k < q.len; k++)
            block->data[k] = "./ab"[roll() % 4];
        struct gate_reply r;
        gate_call(&gate, &q, &r);
    }
    enough = true;
    pthread_join(thread, NULL);
}

int main(void) {
    block = mmap(NULL, GATE_BLOCK_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, GATE_FD_BLOCK, 0);
    if (block == MAP_FAILED || !gate_init(&gate, block, GATE_FD_BELL, NULL)) return 1;
    switch (mode()) {
    case 'R': report(7); stay();           /* reports, and stays */
    case 'B': close(GATE_FD_BELL); stay(); /* lets go of the doorbell, and stays */
    case 'S': stay();                      /* never says anything: only the time limit helps */
    case 'J':                              /* counts backwards */
        block->asked = UINT32_MAX - 5;
        if (write(GATE_FD_BELL, "", 1) != 1) return 1;
        stay();
    case 'F': /* rings and rings */
        for (int i = 0; i < 100000; i++)
            if (write(GATE_FD_BELL, "", 1) != 1) return 1;
        report(8);
        stay();
    case 'X': { /* a report with a text that would act on a terminal */
        struct gate_request q = {.op = GATE_EXIT, .len = 8, .args = {GATE_EXIT_TRAP, 0}};
        struct gate_reply r;
        memcpy(block->data, "\033[2Jab\r\n", 8);
        gate_call(&gate, &q, &r);
        stay();
    }
    case 'A':
        attack(100000);
        report(9);
        stay();
    default: return 3;
    }
}
