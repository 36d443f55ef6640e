/* The gate: the table of operations from both ends, waiting and stopping, and figures of its speed. */
#define _GNU_SOURCE
#include "gate/caller.h"
#include "gate/host.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* ---- a gate between two threads ---- */

struct pair {
    struct gate_block *block;
    int bells[2];
    struct gate keep;
    struct gate_host host;
    _Atomic bool stop;
    pthread_t thread;
    int fds[2]; /* a pipe, for requests that wait */
};

static struct pair *pair_new(uint32_t spin_ns, void *(*host)(void *)) {
    struct pair *p = calloc(1, sizeof *p);
    p->block = aligned_alloc(GATE_HEAD_SIZE, GATE_BLOCK_SIZE);
    memset(p->block, 0, GATE_BLOCK_SIZE);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, p->bells), 0);
    assert_int_equal(pipe(p->fds), 0);
    gate_host_init(&p->host, p->block, p->bells[0], spin_ns);
    assert_true(gate_init(&p->keep, p->block, p->bells[1], &p->stop));
    assert_int_equal(pthread_create(&p->thread, NULL, host, p), 0);
    return p;
}

static void pair_delete(struct pair *p) {
    close(p->bells[1]);
    pthread_join(p->thread, NULL);
    close(p->bells[0]);
    close(p->fds[0]);
    close(p->fds[1]);
    free(p->block);
    free(p);
}

/* Answers WRITE with its length, READ with as much as asked, POLL by waiting for the pipe. */
static void *plain_host(void *arg) {
    struct pair *p = arg;
    while (gate_host_wait(&p->host, UINT64_MAX) == GATE_ASKED) {
        struct gate_request q;
        struct gate_reply r = {0};
        if (!gate_host_take(&p->host, &q)) continue;
        if (gate_request_check(&q)) r.error = GATE_EINVAL;
        if (q.op == GATE_WRITE) r.values[0] = q.len;
        if (q.op == GATE_READ) r.len = q.room;
        if (q.op == GATE_POLL) {
            struct pollfd fds[2] = {[1] = {.fd = p->fds[0], .events = POLLIN}};
            int n = gate_host_poll(&p->host, fds, 2, q.args[0]);
            r.error = n < 0 ? gate_error_from_errno(errno) : n == 0 ? GATE_ETIMEDOUT : GATE_OK;
        }
        gate_host_answer(&p->host, &r);
    }
    return NULL;
}

static const struct gate_request null_call = {.op = GATE_SYNC, .handle = 1};

static void test_calls(void **state) {
    (void)state;
    for (uint32_t spin = 0; spin <= GATE_SPIN_MOST_NS; spin += GATE_SPIN_MOST_NS) {
        struct pair *p = pair_new(spin, plain_host);
        struct gate_reply r;
        for (int i = 0; i < 20000; i++) {
            assert_int_equal(gate_call(&p->keep, &null_call, &r), GATE_OK);
            struct gate_request w = {.op = GATE_WRITE, .len = (uint32_t)i % GATE_DATA_SIZE};
            assert_int_equal(gate_call(&p->keep, &w, &r), GATE_OK);
            assert_int_equal(r.values[0], w.len);
            if (i % 1000 == 0) usleep(300); /* both sides go to sleep now and then */
        }
        assert_int_equal(p->keep.refused, 0);
        pair_delete(p);
    }
}

static struct gate_request pipe_poll(uint64_t timeout) {
    return (struct gate_request){.op = GATE_POLL, .args = {timeout, 0}};
}

static void *stop_soon(void *arg) {
    struct pair *p = arg;
    usleep(20000);
    p->stop = true;
    return NULL;
}

/* Many short sleeps leave bytes in the doorbell; none may be taken for "cut it short". */
static void test_waits(void **state) {
    (void)state;
    struct pair *p = pair_new(0, plain_host);
    struct gate_reply r;
    for (int i = 0; i < 2000; i++) {
        struct gate_request q = pipe_poll(i % 50 == 0 ? 1000000 : 0);
        assert_int_equal(gate_call(&p->keep, &null_call, &r), GATE_OK);
        assert_int_equal(gate_call(&p->keep, &q, &r), GATE_ETIMEDOUT);
    }
    assert_int_equal(write(p->fds[1], "x", 1), 1);
    struct gate_request q = pipe_poll(GATE_FOREVER);
    assert_int_equal(gate_call(&p->keep, &q, &r), GATE_OK);
    pair_delete(p);
}

static void on_signal(int s) {
    (void)s;
}

/* A call that waits forever is cut short by `stop` (and a signal), and the gate works on afterwards. */
static void test_stop(void **state) {
    (void)state;
    struct pair *p = pair_new(GATE_SPIN_MOST_NS, plain_host);
    struct sigaction a = {.sa_handler = on_signal};
    sigaction(SIGALRM, &a, NULL);
    struct itimerspec t = {.it_value = {.tv_nsec = 30000000}, .it_interval = {.tv_nsec = 5000000}};
    struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
    timer_t timer;
    assert_int_equal(timer_create(CLOCK_MONOTONIC, &e, &timer), 0);
    for (int i = 0; i < 5; i++) {
        pthread_t stopper;
        p->stop = false;
        assert_int_equal(timer_settime(timer, 0, &t, NULL), 0);
        pthread_create(&stopper, NULL, stop_soon, p);
        struct gate_reply r;
        struct gate_request q = pipe_poll(GATE_FOREVER);
        assert_int_equal(gate_call(&p->keep, &q, &r), GATE_STOPPED);
        pthread_join(stopper, NULL);
        p->stop = false;
        for (int k = 0; k < 100; k++)
            assert_int_equal(gate_call(&p->keep, &null_call, &r), GATE_OK);
    }
    timer_delete(timer);
    pair_delete(p);
}

static void *dead_host(void *arg) {
    struct pair *p = arg;
    struct gate_request q;
    gate_host_wait(&p->host, UINT64_MAX);
    gate_host_take(&p->host, &q);
    shutdown(p->bells[0], SHUT_RDWR);
    return NULL;
}

static void test_host_dies(void **state) {
    (void)state;
    struct pair *p = pair_new(GATE_SPIN_MOST_NS, dead_host);
    struct gate_reply r;
    assert_int_equal(gate_call(&p->keep, &null_call, &r), GATE_STOPPED);
    pair_delete(p);
}

static void test_deadline(void **state) {
    (void)state;
    struct gate_block *block = aligned_alloc(GATE_HEAD_SIZE, GATE_BLOCK_SIZE);
    memset(block, 0, GATE_BLOCK_SIZE);
    int bells[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, bells), 0);
    struct gate_host h;
    gate_host_init(&h, block, bells[0], 0);
    uint64_t begin = gate_now_ns();
    assert_int_equal(gate_host_wait(&h, begin + 20000000), GATE_LATE);
    assert_true(gate_now_ns() - begin >= 20000000);
    close(bells[1]);
    assert_int_equal(gate_host_wait(&h, gate_now_ns() + 1000000000), GATE_GONE);
    close(bells[0]);
    free(block);
}

static void test_version(void **state) {
    (void)state;
    struct gate_block *block = aligned_alloc(GATE_HEAD_SIZE, GATE_BLOCK_SIZE);
    memset(block, 0, GATE_BLOCK_SIZE);
    struct gate g;
    assert_false(gate_init(&g, block, -1, NULL));
    block->magic = GATE_MAGIC;
    block->version = GATE_VERSION + 1;
    assert_false(gate_init(&g, block, -1, NULL));
    free(block);
}

/* ---- the table ---- */

static void refuse(struct gate_request q) {
    assert_non_null(gate_request_check(&q));
}
static void take(struct gate_request q) {
    assert_null(gate_request_check(&q));
}

static void test_requests(void **state) {
    (void)state;
    take((struct gate_request){.op = GATE_READ, .room = GATE_DATA_SIZE, .args = {GATE_FOREVER}});
    refuse((struct gate_request){.op = 0});
    refuse((struct gate_request){.op = GATE_OPS});
    refuse((struct gate_request){.op = UINT32_MAX});
    refuse((struct gate_request){.op = GATE_READ, .room = GATE_DATA_SIZE + 1});
    refuse((struct gate_request){.op = GATE_READ, .len = 1});
    refuse((struct gate_request){.op = GATE_READ, .args = {0, 1}});
    refuse((struct gate_request){.op = GATE_READ, .handle = GATE_MAX_HANDLES});
    refuse((struct gate_request){.op = GATE_WRITE, .len = GATE_DATA_SIZE + 1});
    refuse((struct gate_request){.op = GATE_WRITE, .room = 1});
    refuse((struct gate_request){.op = GATE_PREAD, .args = {UINT64_MAX}});
    take((struct gate_request){.op = GATE_STAT, .room = sizeof(struct gate_stat)});
    refuse((struct gate_request){.op = GATE_STAT});
    take((struct gate_request){.op = GATE_MKDIR, .len = 1});
    refuse((struct gate_request){.op = GATE_MKDIR});
    refuse((struct gate_request){.op = GATE_MKDIR, .len = GATE_MAX_PATH + 1});
    take((struct gate_request){.op = GATE_RENAME, .len = 2, .args = {0, 1}});
    refuse((struct gate_request){.op = GATE_RENAME, .len = 2, .args = {0, 2}});
    refuse((struct gate_request){.op = GATE_RENAME, .len = 2, .args = {0, 0}});
    refuse((struct gate_request){.op = GATE_RENAME, .len = GATE_MAX_PATH + 2, .args = {0, 1}});
    take((struct gate_request){.op = GATE_POLL, .len = 48, .room = 48, .args = {0, 2}});
    refuse((struct gate_request){.op = GATE_POLL, .len = 48, .room = 48, .args = {0, 3}});
    refuse((struct gate_request){.op = GATE_POLL, .len = 48, .room = 24, .args = {0, 2}});
    take((struct gate_request){.op = GATE_POLL_RECV, .len = 48, .room = 48, .args = {0, 2, 1}});
    take(
        (struct gate_request){.op = GATE_POLL_RECV, .len = 48, .room = GATE_DATA_SIZE, .args = {0, 2, GATE_DATA_SIZE}});
    refuse((struct gate_request){.op = GATE_POLL_RECV, .len = 48, .room = 47, .args = {0, 2, 1}});
    refuse((struct gate_request){.op = GATE_POLL_RECV, .len = 48, .room = GATE_DATA_SIZE + 1, .args = {0, 2, 1}});
    refuse((struct gate_request){.op = GATE_POLL_RECV, .len = 48, .room = 48, .args = {0, 2, 0}});
    refuse((struct gate_request){.op = GATE_POLL_RECV, .len = 48, .room = 48, .args = {0, 2, GATE_DATA_SIZE + 1}});
    take((struct gate_request){.op = GATE_SEND_MANY, .len = 33, .room = 32, .args = {2}});
    refuse((struct gate_request){.op = GATE_SEND_MANY, .len = 32, .room = 32, .args = {2}});
    refuse((struct gate_request){.op = GATE_SEND_MANY, .len = 33, .room = 33, .args = {2}});
    refuse((struct gate_request){.op = GATE_SEND_MANY, .len = 33, .args = {0}});
    refuse((struct gate_request){
        .op = GATE_SEND_MANY, .len = 8000, .room = (GATE_MAX_SENDS + 1) * 16, .args = {GATE_MAX_SENDS + 1}});
    refuse((struct gate_request){.op = GATE_SEND_MANY, .len = 33, .room = 32, .args = {(UINT64_C(1) << 60) + 2}});
    refuse((struct gate_request){.op = GATE_OPEN, .len = 1, .room = 64, .args = {GATE_MAX_HANDLES, 0, 0}});
    refuse((struct gate_request){.op = GATE_OPEN, .len = 1, .room = 64, .args = {5, 1 << 20, 0}});
    refuse((struct gate_request){.op = GATE_EXIT, .args = {0, 0}});
    refuse((struct gate_request){.op = GATE_EXIT, .args = {1, UINT64_C(1) << 32}});
    refuse((struct gate_request){.op = GATE_SHUTDOWN, .args = {0}});
    take((struct gate_request){.op = GATE_EVIDENCE, .len = 64, .room = GATE_DATA_SIZE});
    refuse((struct gate_request){.op = GATE_EVIDENCE, .len = 63, .room = GATE_DATA_SIZE});
    refuse((struct gate_request){.op = GATE_EVIDENCE, .len = 65, .room = GATE_DATA_SIZE});
    take((struct gate_request){.op = GATE_STEWARD, .len = 9, .args = {7, GATE_STEWARD_EAR, 9}});
    refuse((struct gate_request){.op = GATE_STEWARD, .len = 9, .args = {7, GATE_STEWARDS, 9}});
    refuse((struct gate_request){.op = GATE_STEWARD, .len = 9, .args = {7, 0, 10}});
    refuse((struct gate_request){.op = GATE_STEWARD, .len = 9, .args = {7, 0, 0}});
    refuse((struct gate_request){.op = GATE_STEWARD, .len = 9, .args = {GATE_MAX_HANDLES, 0, 9}});
    refuse((struct gate_request){.op = GATE_STEWARD, .len = 9, .room = 9, .args = {7, 0, 9}});
    take((struct gate_request){.op = GATE_ANSWER, .handle = 7, .room = GATE_DATA_SIZE});
    refuse((struct gate_request){.op = GATE_ANSWER, .handle = 7, .room = GATE_DATA_SIZE + 1});
    refuse((struct gate_request){.op = GATE_ANSWER, .handle = 7, .len = 1});
    take((struct gate_request){.op = GATE_LISTEN, .len = 2, .args = {7, 0}});
    refuse((struct gate_request){.op = GATE_LISTEN, .len = 2, .args = {7, 65536}});
    refuse((struct gate_request){.op = GATE_LISTEN, .len = 0, .args = {7, 1}});
    refuse((struct gate_request){.op = GATE_LISTEN, .len = 256, .args = {7, 1}});
    take((struct gate_request){.op = GATE_CONNECT, .len = 2, .args = {7, 1}});
    refuse((struct gate_request){.op = GATE_CONNECT, .len = 2, .args = {7, 0}});
    refuse((struct gate_request){.op = GATE_CONNECT, .len = 2, .args = {GATE_MAX_HANDLES, 1}});
    take((struct gate_request){.op = GATE_ENDED, .args = {GATE_EXIT_TRAP, 134}});
    refuse((struct gate_request){.op = GATE_ENDED, .args = {0, 0}});
}

static void test_replies(void **state) {
    (void)state;
    const struct gate_request read = {.op = GATE_READ, .room = 100}, write = {.op = GATE_WRITE, .len = 100};
    const struct gate_request stat = {.op = GATE_STAT, .room = 64}, append = {.op = GATE_PWRITE, .len = 10};
    assert_null(gate_reply_check(&read, &(struct gate_reply){.len = 100}));
    const struct gate_request evidence = {.op = GATE_EVIDENCE, .len = 64, .room = 100}, listen = {.op = GATE_LISTEN};
    const struct gate_request steward = {.op = GATE_ANSWER, .room = 100};
    assert_null(gate_reply_check(&evidence, &(struct gate_reply){.len = 100, .values = {100}}));
    assert_non_null(gate_reply_check(&evidence, &(struct gate_reply){.len = 100, .values = {101}}));
    assert_non_null(gate_reply_check(&evidence, &(struct gate_reply){.len = 101, .values = {1}}));
    assert_null(gate_reply_check(&listen, &(struct gate_reply){.values = {8443}}));
    assert_non_null(gate_reply_check(&listen, &(struct gate_reply){.values = {0}}));
    assert_non_null(gate_reply_check(&listen, &(struct gate_reply){.values = {65536}}));
    assert_null(gate_reply_check(&steward, &(struct gate_reply){.len = 100, .values = {200}}));
    assert_non_null(gate_reply_check(&steward, &(struct gate_reply){.values = {99}}));
    assert_null(gate_reply_check(&read, &(struct gate_reply){.error = GATE_EIO}));
    assert_non_null(gate_reply_check(&read, &(struct gate_reply){.len = 101}));
    assert_non_null(gate_reply_check(&read, &(struct gate_reply){.len = UINT32_MAX}));
    assert_non_null(gate_reply_check(&read, &(struct gate_reply){.error = 77}));
    assert_non_null(gate_reply_check(&read, &(struct gate_reply){.error = GATE_STOPPED}));
    assert_non_null(gate_reply_check(&read, &(struct gate_reply){.error = 1, .len = 1}));
    assert_non_null(gate_reply_check(&read, &(struct gate_reply){.values = {1}}));
    assert_null(gate_reply_check(&write, &(struct gate_reply){.values = {100}}));
    assert_non_null(gate_reply_check(&write, &(struct gate_reply){.values = {101}}));
    assert_non_null(gate_reply_check(&write, &(struct gate_reply){.values = {UINT64_MAX}}));
    assert_non_null(gate_reply_check(&write, &(struct gate_reply){.len = 1}));
    assert_null(gate_reply_check(&stat, &(struct gate_reply){.len = 64}));
    assert_non_null(gate_reply_check(&stat, &(struct gate_reply){.len = 63}));
    assert_null(gate_reply_check(&append, &(struct gate_reply){.values = {10, INT64_MAX}}));
    assert_non_null(gate_reply_check(&append, &(struct gate_reply){.values = {10, UINT64_MAX}}));
}

static void test_dirents(void **state) {
    (void)state;
    struct gate_dirent e = {.next = 1, .type = GATE_TYPE_REGULAR, .name_len = 3}, out;
    _Alignas(8) uint8_t buf[64] = {0};
    memcpy(buf, &e, sizeof e);
    memcpy(buf + sizeof e, "abc", 3);
    assert_int_equal(gate_dirent_check(buf, sizeof buf, &out), 32);
    assert_int_equal(gate_dirent_check(buf, 31, &out), 0);
    assert_int_equal(gate_dirent_check(buf, 23, &out), 0);
    buf[sizeof e + 1] = '/';
    assert_int_equal(gate_dirent_check(buf, sizeof buf, &out), 0);
    buf[sizeof e + 1] = 0;
    assert_int_equal(gate_dirent_check(buf, sizeof buf, &out), 0);
    for (uint64_t len = 0; len <= UINT32_MAX; len += len < 300 ? 1 : len) {
        if (len == 1) continue;
        e.name_len = (uint32_t)len;
        memset(buf, 'x', sizeof buf);
        memcpy(buf, &e, sizeof e);
        size_t size = gate_dirent_check(buf, sizeof buf, &out);
        assert_true(size == 0 || (len >= 2 && len <= 40 && size <= sizeof buf));
    }
}

/* ---- figures: printed, not asserted (the machine may be busy) ---- */

static void test_speed(void **state) {
    (void)state;
    struct pair *p = pair_new(GATE_SPIN_MOST_NS, plain_host);
    struct gate_reply r;
    enum { CALLS = 20000, PIECES = 4000 };
    uint64_t begin = gate_now_ns();
    for (int i = 0; i < CALLS; i++)
        gate_call(&p->keep, &null_call, &r);
    double call_ns = (double)(gate_now_ns() - begin) / CALLS;
    static uint8_t guest[GATE_DATA_SIZE];
    begin = gate_now_ns();
    for (int i = 0; i < PIECES; i++) {
        struct gate_request q = {.op = GATE_READ, .room = GATE_DATA_SIZE};
        gate_call(&p->keep, &q, &r);
        memcpy(guest, p->block->data, r.len);
    }
    double bulk_s = (double)(gate_now_ns() - begin) / 1e9;
    print_message("null call %.2f us; 64 KiB pieces %.2f GiB/s\n", call_ns / 1000,
                  (double)PIECES * GATE_DATA_SIZE / (1 << 30) / bulk_s);
    pair_delete(p);
}

/* A keep that counts its rings in an eventfd: each counts once, and its end is seen by whoever waits next, too. */
static void test_counted_rings(void **state) {
    (void)state;
    for (int first = 0; first < 3; first++) { /* who sees the end: a poll, a wait, a wait with a deadline */
        int bells[2];
        const uint64_t one = 1;
        struct gate_host h;
        struct gate_request q;
        struct pollfd fds[1];
        struct gate_block *block = aligned_alloc(GATE_HEAD_SIZE, GATE_BLOCK_SIZE);
        memset(block, 0, GATE_BLOCK_SIZE);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, bells), 0);
        gate_host_init(&h, block, bells[0], 0);
        h.rings = eventfd(0, 0);
        assert_true(h.rings >= 0);
        block->asked = 1;
        block->host_sleeps = 0;
        assert_int_equal(write(h.rings, &one, sizeof one), sizeof one);
        assert_int_equal(gate_host_wait(&h, UINT64_MAX), GATE_ASKED);
        assert_true(gate_host_take(&h, &q));
        assert_false(gate_host_take(&h, &q));
        shutdown(bells[1], SHUT_RDWR);
        assert_int_equal(write(h.rings, &one, sizeof one), sizeof one);
        uint64_t late = gate_now_ns() + UINT64_C(60000000000);
        if (first == 0) assert_int_equal(gate_host_poll(&h, fds, 1, UINT64_MAX), -1);
        if (first == 1) assert_int_equal(gate_host_wait(&h, UINT64_MAX), GATE_GONE);
        if (first == 2) assert_int_equal(gate_host_wait(&h, late), GATE_GONE);
        assert_int_equal(gate_host_wait(&h, late), GATE_GONE);
        assert_int_equal(gate_host_wait(&h, UINT64_MAX), GATE_GONE);
        assert_int_equal(gate_host_poll(&h, fds, 1, UINT64_MAX), -1);
        close(h.rings);
        close(bells[0]);
        close(bells[1]);
        free(block);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counted_rings), cmocka_unit_test(test_version), cmocka_unit_test(test_requests),
        cmocka_unit_test(test_replies),       cmocka_unit_test(test_dirents), cmocka_unit_test(test_calls),
        cmocka_unit_test(test_waits),         cmocka_unit_test(test_stop),    cmocka_unit_test(test_host_dies),
        cmocka_unit_test(test_deadline),      cmocka_unit_test(test_speed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
