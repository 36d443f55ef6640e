/* A program in the warden's place that makes every system call which asks the host, without end, and checks that
 * whatever the host answers, what it gets is a legal result and no byte beside its buffers has changed. Ends with
 * status 1 if not. For liar.c. */
#define _GNU_SOURCE
#include "gate/gate.h"
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { ROOM = 4096, WALL = 64 };
static __thread uint8_t buffer[WALL + ROOM + WALL];
static __thread uint64_t seed = 88172645463325252u;

static uint64_t next(void) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

static void on_signal(int s) {
    (void)s;
}

static void need(int ok, int status) {
    if (!ok) _exit(status);
}

static void walls(void) {
    for (int i = 0; i < WALL; i++)
        need(buffer[i] == 0xa5 && buffer[WALL + ROOM + i] == 0xa5, 2);
}

static void reads(int fd, size_t size) {
    memset(buffer + WALL, 0, ROOM);
    ssize_t n = read(fd, buffer + WALL, size);
    need(n >= -1 && n <= (ssize_t)size, 3);
    for (size_t i = n > 0 ? (size_t)n : 0; i < ROOM; i++)
        need(buffer[WALL + i] == 0, 4);
    walls();
}

_Noreturn static void *run(void *arg) {
    struct timespec none = {0, 1}, last = {0, 0}, now;
    seed ^= (uintptr_t)arg;
    memset(buffer, 0xa5, sizeof buffer);
    struct itimerval t = {.it_value = {.tv_usec = 100}, .it_interval = {.tv_usec = 500}};
    for (uint64_t i = 0;; i++) {
        switch (next() % 8) {
        case 0: reads(4, 1); break;
        case 1: reads(5, next() % ROOM); break;
        case 2: need(write(4, "", 1) <= 1, 6); break;
        case 3: need(write(2, buffer + WALL, next() % ROOM) <= ROOM, 7); break;
        case 4: clock_nanosleep(CLOCK_MONOTONIC, 0, &none, NULL); break;
        case 5:
            t.it_value.tv_usec = (suseconds_t)(next() % 300);
            setitimer(ITIMER_REAL, &t, NULL);
            break;
        case 6:
            if (i % 64) break;
            char *p = mmap(NULL, 80u << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (p == MAP_FAILED) break;
            need(p[0] == 0 && p[(80u << 20) - 1] == 0, 8);
            munmap(p, 80u << 20);
            break;
        default:
            need(clock_gettime(CLOCK_MONOTONIC, &now) == 0, 9);
            need(now.tv_sec > last.tv_sec || (now.tv_sec == last.tv_sec && now.tv_nsec >= last.tv_nsec), 10);
            last = now;
        }
        walls();
    }
}

/* As many threads as there are CPUs: more of them find nobody to wait for. */
int main(void) {
    struct sigaction a = {.sa_handler = on_signal};
    cpu_set_t set;
    sigaction(SIGALRM, &a, NULL);
    void *gate = mmap(NULL, GATE_BLOCK_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, 3, 0);
    need(gate != MAP_FAILED && sched_getaffinity(0, sizeof set, &set) == 0, 5);
    for (uintptr_t i = 1; i < (uintptr_t)CPU_COUNT(&set); i++) {
        pthread_t t;
        need(pthread_create(&t, NULL, run, (void *)i) == 0, 11);
    }
    run(NULL);
}
