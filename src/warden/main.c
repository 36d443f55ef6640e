/* The warden's beginning: the gate, then the seal, then nothing but what came in. */
#define _GNU_SOURCE
#include "helpers.h"
#include "seal.h"
#include "warden.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static struct warden warden;

static _Noreturn void die(const char *why) {
    (void)!write(STDERR_FILENO, "donjon-warden: ", 15);
    (void)!write(STDERR_FILENO, why, strlen(why));
    (void)!write(STDERR_FILENO, "\n", 1);
    _exit(125);
}

/* Where the last lock lets nobody start a thread, whoever starts us says how many processors there will be for us. */
static unsigned n_helpers;
static void start_helpers(void) {
    helpers_start(n_helpers);
}

int main(int argc, char **argv) {
    struct warden *w = &warden;
    struct gate_block *block = mmap(NULL, GATE_BLOCK_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, GATE_FD_BLOCK, 0);
    if (block == MAP_FAILED) die("no gate: this program is started by `donjon run`");
    close(GATE_FD_BLOCK);
    if (!gate_init(&w->gate, block, GATE_FD_BELL, &w->stop)) die("the gate is of another version");

    char error[512];
    if (!timer_prepare(w)) report_failure(w, GATE_EXIT_BROKEN, "no timer");
    if (argc > 1) n_helpers = (unsigned)strtoul(argv[1], NULL, 10) - 1;
    if (!seal(n_helpers ? start_helpers : NULL, error, sizeof error)) report_failure(w, GATE_EXIT_BROKEN, "%s", error);

    if (!boot_read(&w->boot, error, sizeof error)) report_failure(w, GATE_EXIT_BROKEN, "%s", error);
    report_log(w, seal_describe(error, sizeof error));
    gate_files_init(&w->files, &w->gate, w->boot.config.n_files + w->boot.config.n_mounts);
    network_start(w);
    if (w->boot.flags & BOOT_TENANT) tenant_receive(w);
    if (config_uses_tls(&w->boot.config) || w->boot.flags & BOOT_TENANT) tls_start(w);
    if (!timer_start(w->boot.config.limits.time)) report_failure(w, GATE_EXIT_BROKEN, "no timer");
    if (w->boot.config.limits.cpus > 1 && !w->boot.code && seal_open())
        helpers_start((unsigned)w->boot.config.limits.cpus - 1);
    run(w);
}

#if DONJON_SANITIZED
/* Leak checking stops the world with ptrace, which the seal forbids. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) {
    return "detect_leaks=0:abort_on_error=0";
}
#endif
