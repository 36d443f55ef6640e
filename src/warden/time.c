/* The wall-time limit: a timer's signal stops the engine (its next loop turn or call traps) and whatever waits in the
 * gate. It comes again and again, since a signal that arrives just before a wait begins would be lost. */
#define _GNU_SOURCE
#include "warden.h"
#include <donjon/wasm.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>

enum { AGAIN_US = 20000 };

static struct warden *the_warden;
static wasm_store_t *_Atomic the_store;

static void on_alarm(int signal) {
    (void)signal;
    the_warden->stop = true;
    wasm_store_t *store = the_store;
    if (store) donjon_store_interrupt(store);
}

bool timer_prepare(struct warden *w) {
    the_warden = w;
    struct sigaction action = {.sa_handler = on_alarm}; /* no SA_RESTART: waits are to end */
    return sigaction(SIGALRM, &action, NULL) == 0;
}

bool timer_start(uint64_t wall_ns) {
    if (wall_ns == CONFIG_UNLIMITED) return true;
    uint64_t us = wall_ns / 1000 ? wall_ns / 1000 : 1;
    struct itimerval t = {.it_interval = {.tv_usec = AGAIN_US},
                          .it_value = {.tv_sec = (time_t)(us / 1000000), .tv_usec = (suseconds_t)(us % 1000000)}};
    return setitimer(ITIMER_REAL, &t, NULL) == 0;
}

void timer_end(void) {
    const struct itimerval none = {.it_value = {0}};
    the_store = NULL;
    setitimer(ITIMER_REAL, &none, NULL);
}

void timer_interrupts(struct wasm_store_t *store) {
    the_store = store;
}
