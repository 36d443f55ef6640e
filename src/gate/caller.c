#include "caller.h"
#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void relax(void) {
#if defined __x86_64__
    __builtin_ia32_pause();
#elif defined __riscv
    __asm__ volatile(".insn i 0x0F, 0, x0, x0, 0x010"); /* pause (Zihintpause), a hint everywhere else */
#endif
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Long enough for the other side to wake up: two sides that both sleep would otherwise never meet again. */
static uint32_t spin_again(const struct gate_spin *s) {
    uint32_t half = s->most_ns / 2;
    if (half > GATE_SPIN_AGAIN_NS) return half;
    return s->most_ns < GATE_SPIN_AGAIN_NS ? s->most_ns : GATE_SPIN_AGAIN_NS;
}

void gate_spin_init(struct gate_spin *s, uint32_t most_ns) {
    s->most_ns = most_ns < GATE_SPIN_MOST_NS ? most_ns : GATE_SPIN_MOST_NS;
    s->budget_ns = spin_again(s);
    s->pause = GATE_PAUSE_LEAST;
    s->pauses_left = 0;
}

static void spin_paid(struct gate_spin *s) {
    s->budget_ns = s->budget_ns * 2 < s->most_ns ? s->budget_ns * 2 : s->most_ns;
    s->pause = s->pause / 2 > GATE_PAUSE_LEAST ? s->pause / 2 : GATE_PAUSE_LEAST;
}

static void spin_failed(struct gate_spin *s) {
    s->budget_ns /= 2;
    if (s->budget_ns >= GATE_SPIN_LEAST_NS) return;
    s->budget_ns = spin_again(s);
    s->pauses_left = s->pause;
    s->pause = s->pause * 2 < GATE_PAUSE_MOST ? s->pause * 2 : GATE_PAUSE_MOST;
}

bool gate_spin_wait(struct gate_spin *s, const _Atomic uint32_t *word, uint32_t old) {
    if (s->most_ns == 0) return false;
    if (s->pauses_left > 0) {
        s->pauses_left--;
        return false;
    }
    uint64_t end = now_ns() + s->budget_ns;
    do {
        for (int i = 0; i < 32; i++) {
            if (atomic_load_explicit(word, memory_order_acquire) != old) {
                spin_paid(s);
                return true;
            }
            relax();
        }
    } while (now_ns() < end);
    spin_failed(s);
    return false;
}

bool gate_init(struct gate *g, struct gate_block *block, int bell, const _Atomic bool *stop) {
    if (block->magic != GATE_MAGIC || block->version != GATE_VERSION) return false;
    memset(g, 0, sizeof *g);
    g->block = block;
    g->bell = bell;
    g->stop = stop;
    gate_spin_init(&g->quick, *(volatile uint32_t *)&block->spin_ns);
    gate_spin_init(&g->slow, *(volatile uint32_t *)&block->slow_spin_ns);
    return true;
}

static bool waits_for_the_world(const struct gate_request *q) {
    switch (q->op) {
    case GATE_READ:
    case GATE_POLL:
    case GATE_POLL_RECV:
    case GATE_RECV: return q->args[0] != 0;
    case GATE_ACCEPT: return q->args[1] != 0;
    default: return false;
    }
}

static bool ring(struct gate *g) {
    ssize_t n;
    do
        n = write(g->bell, "", 1);
    while (n < 0 && errno == EINTR);
    return n == 1;
}

/* Sleeps until the reply is there. False: the host has gone, or the call was stopped. */
static bool sleep_for_reply(struct gate *g) {
    struct gate_block *b = g->block;
    bool stopped = false;
    for (;;) {
        atomic_store(&b->keep_sleeps, 1);
        if (atomic_load(&b->answered) == g->asked) break;
        if (!stopped && g->stop && atomic_load(g->stop)) {
            stopped = true;
            if (!ring(g)) return false;
        }
        uint8_t byte;
        ssize_t n = read(g->bell, &byte, 1); /* a byte may be a left-over of an earlier wait: look again */
        if (n == 0 || (n < 0 && errno != EINTR)) return false;
    }
    atomic_store(&b->keep_sleeps, 0);
    return !stopped;
}

uint32_t gate_call(struct gate *g, const struct gate_request *q, struct gate_reply *r) {
    struct gate_block *b = g->block;
    memcpy(&b->request, q, sizeof *q);
    uint32_t before = g->asked++;
    atomic_store(&b->asked, g->asked);
    memset(r, 0, sizeof *r);
    bool direct = atomic_load(&b->direct) != 0;
    if (!direct && atomic_exchange(&b->host_sleeps, 0) != 0 && !ring(g)) return GATE_STOPPED;

    struct gate_spin *spin = waits_for_the_world(q) ? &g->slow : &g->quick;
    if ((direct || !gate_spin_wait(spin, &b->answered, before)) && !sleep_for_reply(g)) return GATE_STOPPED;

    memcpy(r, &b->reply, sizeof *r); /* the one copy: nothing below looks at the block's */
    __asm__ volatile("" : "+m"(*r)); /* nor may the compiler */
    const char *wrong = gate_reply_check(q, r);
    if (!wrong && r->error == GATE_OK) return GATE_OK;
    uint32_t error = wrong ? (uint32_t)GATE_EIO : r->error;
    if (wrong) {
        g->refused++;
        g->last_refusal = wrong;
    }
    memset(r, 0, sizeof *r);
    return error;
}
