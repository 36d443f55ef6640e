#define _GNU_SOURCE /* ppoll */
#include "host.h"
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

uint64_t gate_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void gate_host_init(struct gate_host *h, struct gate_block *block, int bell, uint32_t spin_ns) {
    memset(h, 0, sizeof *h);
    h->block = block;
    h->bell = bell;
    h->rings = -1;
    gate_spin_init(&h->spin, spin_ns);
    block->magic = GATE_MAGIC;
    block->version = GATE_VERSION;
    block->spin_ns = spin_ns;
    block->slow_spin_ns = spin_ns / 8; /* of a doorbell that is a socket */
    /* host_sleeps stays 0: gate_host_wait looks before it sleeps */
}

bool gate_host_take(struct gate_host *h, struct gate_request *q) {
    uint32_t asked = atomic_load(&h->block->asked);
    if (asked == h->taken) return false;
    h->taken = asked;
    memcpy(q, &h->block->request, sizeof *q);
    __asm__ volatile("" : "+m"(*q)); /* one copy, and the compiler does not look at the block again either */
    return true;
}

bool gate_host_look(const struct gate_host *h, struct gate_request *q, uint32_t *number) {
    *number = atomic_load(&h->block->asked);
    if (*number == h->taken) return false;
    memcpy(q, &h->block->request, sizeof *q);
    __asm__ volatile("" : "+m"(*q));
    return true;
}

/* The rings of a keep that counts them: blocks until there are some. */
static bool drain_rings(struct gate_host *h) {
    enum { MOST = 1 << 16 };
    uint64_t n;
    uint8_t byte;
    if (h->gone) return false;
    if (read(h->rings, &n, sizeof n) == sizeof n) h->owed -= n < MOST ? (int)n : MOST;
    h->gone = recv(h->bell, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
    return !h->gone;
}

static int ring_fd(const struct gate_host *h) {
    return h->rings >= 0 ? h->rings : h->bell;
}

/* Reads what is in the doorbell. False: the keep has gone. */
static bool drain(struct gate_host *h, int flags) {
    if (h->rings >= 0) return drain_rings(h);
    uint8_t bytes[64];
    ssize_t n = recv(h->bell, bytes, sizeof bytes, flags);
    if (n == 0) return false;
    if (n < 0) return errno == EINTR || errno == EAGAIN;
    h->owed -= (int)n;
    return true;
}

/* Each time the keep takes our flag down it rings once: `owed` counts the flags taken down less the bytes read. */
static void set_sleeping(struct gate_host *h, uint32_t value, bool was_up) {
    if (atomic_exchange(&h->block->host_sleeps, value) == 0 && was_up) h->owed++;
}

void gate_host_call(struct gate_host *h) {
    const uint64_t one = 1;
    if (atomic_exchange(&h->block->host_sleeps, 0) != 0) (void)!write(h->rings, &one, sizeof one);
}

void gate_host_rouse(struct gate_host *h) {
    h->roused = true;
    gate_host_call(h);
}

static void set_direct(struct gate_host *h, bool direct) {
    if (h->may_direct) atomic_store(&h->block->direct, direct);
}

enum gate_wait gate_host_wait(struct gate_host *h, uint64_t deadline_ns) {
    struct gate_block *b = h->block;
    bool lazy = h->lazy;
    h->lazy = false;
    if (!lazy && gate_spin_wait(&h->spin, &b->asked, h->taken)) return GATE_ASKED;
    enum gate_wait result = GATE_ASKED;
    set_direct(h, true);
    for (bool up = false;; up = true) {
        set_sleeping(h, 1, up);
        if (atomic_load(&b->asked) != h->taken || atomic_exchange(&h->roused, false)) break;
        uint64_t now = deadline_ns == UINT64_MAX ? 0 : gate_now_ns();
        if (h->gone || now >= deadline_ns) {
            result = h->gone ? GATE_GONE : GATE_LATE;
            break;
        }
        if (deadline_ns != UINT64_MAX) {
            uint64_t left_ms = (deadline_ns - now) / 1000000 + 1;
            struct pollfd p = {.fd = ring_fd(h), .events = POLLIN};
            if (poll(&p, 1, left_ms < 60000 ? (int)left_ms : 60000) <= 0) continue;
        }
        if (!drain(h, 0)) {
            result = GATE_GONE;
            break;
        }
    }
    set_sleeping(h, 0, true);
    set_direct(h, false);
    return result;
}

int gate_host_poll(struct gate_host *h, struct pollfd *fds, unsigned n, uint64_t timeout_ns) {
    struct timespec t = {.tv_sec = (time_t)(timeout_ns / 1000000000u), .tv_nsec = (long)(timeout_ns % 1000000000u)};
    for (;;) {
        if (h->gone || h->owed < 0) { /* it may have rung before we came */
            h->owed = 0;
            errno = EINTR;
            return -1;
        }
        fds[0] = (struct pollfd){.fd = ring_fd(h), .events = POLLIN};
        int ready = ppoll(fds, n, timeout_ns == UINT64_MAX ? NULL : &t, NULL);
        if (ready <= 0 || fds[0].revents == 0) return ready;
        if (!drain(h, MSG_DONTWAIT) || h->owed < 0) {
            h->owed = 0;
            errno = EINTR;
            return -1;
        }
        if (ready > 1) return ready - 1; /* only a left-over: to be waited out if nothing else was ready */
    }
}

void gate_host_answer(struct gate_host *h, const struct gate_reply *r) {
    memcpy(&h->block->reply, r, sizeof *r);
    if (h->lazy) set_direct(h, true);
    atomic_store(&h->block->answered, h->taken);
    if (atomic_exchange(&h->block->keep_sleeps, 0) == 0) return;
    (void)!send(h->bell, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT); /* a full socket: bytes enough to wake it are there */
}
