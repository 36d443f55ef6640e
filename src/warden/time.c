/* Timers, by signals.
 *
 * The wall-time limit stops the engine (its next loop turn or call traps) and whatever waits in the gate. Its signal
 * comes again and again, since one that arrives just before a wait begins would be lost.
 *
 * A deployed keep also looks now and then, while it computes, whether its tenants want something, or its certificate:
 * on a timer that counts the keep's own time only, so that one that waits is left in peace. Who has said something will
 * say more: it looks more often for a while. */
#define _GNU_SOURCE
#include "warden.h"
#include <donjon/wasm.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

enum { AGAIN_US = 20000, LOOK_US = 40000, SOON_US = 4000, SOON_LOOKS = 25 };

static struct warden *the_warden;
static wasm_store_t *_Atomic the_store;

static void interrupt_store(void) {
    wasm_store_t *store = the_store;
    if (store) donjon_store_interrupt(store);
}

static void on_alarm(int signal) {
    (void)signal;
    the_warden->stop = true;
    interrupt_store();
}

static bool look_every(suseconds_t us) {
    const struct itimerval t = {.it_interval = {.tv_usec = us}, .it_value = {.tv_usec = us}};
    return setitimer(ITIMER_PROF, &t, NULL) == 0;
}

/* May be called in a signal's handler. */
static bool must_renew(void) {
    uint64_t at = the_warden->renew_at;
    struct timespec now;
    if (at == 0 || clock_gettime(CLOCK_MONOTONIC, &now) != 0) return false;
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec >= at;
}

static void on_look(int signal) {
    static unsigned soon; /* looks that are left until it is enough to look seldom */
    (void)signal;
    if (gate_attention(&the_warden->gate) || must_renew()) {
        if (soon == 0) look_every(SOON_US);
        soon = SOON_LOOKS;
        interrupt_store();
    } else if (soon > 0 && --soon == 0) {
        look_every(LOOK_US);
    }
}

bool timer_prepare(struct warden *w) {
    the_warden = w;
    struct sigaction action = {.sa_handler = on_alarm}; /* no SA_RESTART: waits are to end */
    struct sigaction look = {.sa_handler = on_look, .sa_flags = SA_RESTART};
    return sigaction(SIGALRM, &action, NULL) == 0 && sigaction(SIGPROF, &look, NULL) == 0;
}

bool timer_start(uint64_t wall_ns) {
    if (wall_ns == CONFIG_UNLIMITED) return true;
    uint64_t us = wall_ns / 1000 ? wall_ns / 1000 : 1;
    struct itimerval t = {.it_interval = {.tv_usec = AGAIN_US},
                          .it_value = {.tv_sec = (time_t)(us / 1000000), .tv_usec = (suseconds_t)(us % 1000000)}};
    return setitimer(ITIMER_REAL, &t, NULL) == 0;
}

bool timer_look(void) {
    return look_every(LOOK_US);
}

void timer_end(void) {
    const struct itimerval none = {.it_value = {0}};
    the_store = NULL;
    setitimer(ITIMER_REAL, &none, NULL);
    setitimer(ITIMER_PROF, &none, NULL);
}

void timer_interrupts(struct wasm_store_t *store) {
    the_store = store;
}
