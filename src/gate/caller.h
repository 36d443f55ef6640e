/* The keep's end of the gate: one request, one reply. */
#ifndef DONJON_GATE_CALLER_H
#define DONJON_GATE_CALLER_H

#include "gate.h"

/* Adaptive waiting: spin while that pays, sleep when it does not. The budget doubles when a spin succeeded and halves
 * when it did not. Once it is used up there is no spinning for a number of waits, which doubles each time that trying
 * again fails: where every CPU is busy, spinning takes time from the very side that is waited for. */
struct gate_spin {
    uint32_t budget_ns, most_ns;
    uint32_t pause, pauses_left; /* in waits */
};
enum { GATE_SPIN_LEAST_NS = 2000, GATE_SPIN_AGAIN_NS = 16000, GATE_SPIN_MOST_NS = 200000 };
enum { GATE_PAUSE_LEAST = 16, GATE_PAUSE_MOST = 128 };
void gate_spin_init(struct gate_spin *s, uint32_t most_ns);

/* Spins until *word is no longer `old`: true, or the budget is used up: false. */
bool gate_spin_wait(struct gate_spin *s, const _Atomic uint32_t *word, uint32_t old);

struct gate {
    struct gate_block *block; /* shared: hostile */
    int bell;
    uint32_t asked;               /* our own count; the block's copy is written, never read */
    const _Atomic bool *stop;     /* set by a signal handler: a call that sleeps asks the host to cut it short */
    struct gate_spin quick, slow; /* for operations that answer at once, and for those that wait for the world */
    uint64_t refused;             /* replies that gate_reply_check refused */
    const char *last_refusal;     /* its words for the last of them */
};

/* Beyond GATE_ERROR_MAX, never on the wire. */
enum { GATE_STOPPED = 0x10000 /* *stop was set, or the host has gone */ };

/* Takes over an initialised block. False: not a gate of this version. */
bool gate_init(struct gate *g, struct gate_block *block, int bell, const _Atomic bool *stop);

/* The host says that the channel may have something. From a signal handler, too. */
static inline bool gate_attention(const struct gate *g) {
    return atomic_load_explicit(&g->block->attention, memory_order_relaxed) != 0;
}

/* Puts the request whose data (q->len bytes) is in block->data already, waits for the reply, copies it once and checks
 * it. When *stop is set while it sleeps, it rings once more: the host then answers at once, and the call gives
 * GATE_STOPPED. GATE_OK, a gate error, or GATE_STOPPED; a reply that makes no sense is GATE_EIO. On any error but
 * GATE_OK `r` is zero. r->len bytes of block->data may then be copied out once. `q` must satisfy gate_request_check
 * (asserted by the tests). */
uint32_t gate_call(struct gate *g, const struct gate_request *q, struct gate_reply *r);

#endif
