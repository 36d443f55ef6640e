/* The host's end of the gate. Taking and answering are the same for every backend; waiting for the next request is the
 * backend's own, except for gate_host_wait, which is for keeps whose doorbell is a stream socket. */
#ifndef DONJON_GATE_HOST_H
#define DONJON_GATE_HOST_H

#include "caller.h" /* struct gate_spin */

struct gate_host {
    struct gate_block *block; /* shared: hostile */
    int bell;                 /* our end of a socket pair */
    int rings;                /* an eventfd that counts the keep's rings instead, or -1. Who ends the keep shuts its end
                                 of the pair down, then rings */
    bool gone;                /* with `rings`: it was seen once that the keep has ended; nothing rings after that */
    _Atomic uint32_t taken;   /* the number of the request taken last */
    bool may_direct;          /* a keep that reads its doorbell while nobody else serves it is served by whom it asks */
    bool lazy;                /* with `may_direct`: the next gate_host_wait does not spin */
    _Atomic bool roused;      /* with `may_direct`: gate_host_rouse */
    int owed;                 /* bytes that the keep rang for requests found by looking: not yet read */
    struct gate_spin spin;
};

/* Prepares a zeroed block for a keep that is to be started. */
void gate_host_init(struct gate_host *h, struct gate_block *block, int bell, uint32_t spin_ns);

/* A request that is there: true, copied once into `q` (unchecked: gate_request_check). */
bool gate_host_take(struct gate_host *h, struct gate_request *q);

/* A request that is there: true, copied into `q`, but not taken (that is: h->taken = *number): another copy may differ.
 */
bool gate_host_look(const struct gate_host *h, struct gate_request *q, uint32_t *number);

/* Spins, then sleeps until there is a request (or was: others may have taken it): GATE_ASKED. `deadline_ns` is of
 * CLOCK_MONOTONIC, UINT64_MAX for none. */
enum gate_wait { GATE_ASKED, GATE_GONE, GATE_LATE };
enum gate_wait gate_host_wait(struct gate_host *h, uint64_t deadline_ns);

/* Of a keep that counts its rings: has who sleeps in gate_host_wait look for requests, as if the keep had rung. */
void gate_host_call(struct gate_host *h);
/* The same also where there is none: it comes back, to look around and spin for requests to come. */
void gate_host_rouse(struct gate_host *h);

/* poll(2) while serving a request: fds[0] is for the doorbell, the caller's are fds[1..n). Returns as poll does
 * (without counting the doorbell), or -1 with errno EINTR when the keep rang to cut its request short, died, or a
 * signal came. */
struct pollfd;
int gate_host_poll(struct gate_host *h, struct pollfd *fds, unsigned n, uint64_t timeout_ns);

/* Answers the request taken last; r->len bytes are in block->data already. */
void gate_host_answer(struct gate_host *h, const struct gate_reply *r);

uint64_t gate_now_ns(void); /* CLOCK_MONOTONIC */

#endif
