/* Whole keeps: how they end, what they look like from outside while they run, and that they leave nothing. */
#define _GNU_SOURCE
#include "config/config.h"
#include "loader/loader.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- programs, by hand ---- */

#define HEAD      0, 'a', 's', 'm', 1, 0, 0, 0
#define TYPE_VOID 1, 4, 1, 0x60, 0, 0 /* () -> () */
#define FUNC_0    3, 2, 1, 0
#define START(n)  7, 10, 1, 6, '_', 's', 't', 'a', 'r', 't', 0, n

static const uint8_t prog_return[] = {HEAD, TYPE_VOID, FUNC_0, START(0), 10, 4, 1, 2, 0, 0x0b};
static const uint8_t prog_trap[] = {HEAD, TYPE_VOID, FUNC_0, START(0), 10, 5, 1, 3, 0, 0x00, 0x0b};
static const uint8_t prog_loop[] = {HEAD, TYPE_VOID, FUNC_0, START(0), 10, 9, 1, 7, 0, 0x03, 0x40, 0x0c, 0, 0x0b, 0x0b};
static const uint8_t prog_no_start[] = {HEAD};
static const uint8_t prog_invalid[] = {HEAD, TYPE_VOID, FUNC_0, START(0), 10,  5,
                                       1,    3,         0,      0x1a,     0x0b}; /* drop nothing */
static const uint8_t prog_garbage[] = {'#', '!', '/', 'b', 'i', 'n', '/', 's', 'h', '\n'};

#define WASI                                                                                                           \
    22, 'w', 'a', 's', 'i', '_', 's', 'n', 'a', 'p', 's', 'h', 'o', 't', '_', 'p', 'r', 'e', 'v', 'i', 'e', 'w', '1'
/* types: 0 () -> (), 1 (i32 i32 i32 i32) -> i32, 2 (i32) -> () */
#define TYPES        1, 16, 3, 0x60, 0, 0, 0x60, 4, 0x7f, 0x7f, 0x7f, 0x7f, 1, 0x7f, 0x60, 1, 0x7f, 0
#define IMPORT_WRITE 2, 35, 1, WASI, 8, 'f', 'd', '_', 'w', 'r', 'i', 't', 'e', 0, 1
#define IMPORT_READ  2, 34, 1, WASI, 7, 'f', 'd', '_', 'r', 'e', 'a', 'd', 0, 1
#define IMPORT_EXIT  2, 36, 1, WASI, 9, 'p', 'r', 'o', 'c', '_', 'e', 'x', 'i', 't', 0, 2
#define IMPORT_OTHER 2, 36, 1, WASI, 9, 'n', 'o', '_', 's', 'u', 'c', 'h', '_', '_', 0, 2
#define MEMORY       5, 3, 1, 0, 1
#define EXPORTS      7, 19, 2, 6, '_', 's', 't', 'a', 'r', 't', 0, 1, 6, 'm', 'e', 'm', 'o', 'r', 'y', 2, 0
/* an I/O vector at 0: {16, 6}; the bytes at 16 */
#define DATA                                                                                                           \
    11, 28, 1, 0, 0x41, 0, 0x0b, 22, 16, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 'h', 'e', 'l', 'l', 'o', '\n'
/* fd_write or fd_read (fd, 0, 1, 8) and drop the result */
#define CALL_IO(fd) 0x41, fd, 0x41, 0, 0x41, 1, 0x41, 8, 0x10, 0, 0x1a

static const uint8_t prog_hello[] = {HEAD, TYPES, IMPORT_WRITE, FUNC_0, MEMORY,     EXPORTS, 10,
                                     15,   1,     13,           0,      CALL_IO(1), 0x0b,    DATA};
static const uint8_t prog_yes[] = {HEAD, TYPES, IMPORT_WRITE, FUNC_0,     MEMORY, EXPORTS, 10,   20,   1,   18,
                                   0,    0x03,  0x40,         CALL_IO(1), 0x0c,   0,       0x0b, 0x0b, DATA};
static const uint8_t prog_read[] = {HEAD, TYPES, IMPORT_READ, FUNC_0, MEMORY,     EXPORTS, 10,
                                    15,   1,     13,          0,      CALL_IO(0), 0x0b,    DATA};
static const uint8_t prog_exit[] = {HEAD, TYPES, IMPORT_EXIT, FUNC_0, MEMORY, EXPORTS, 10,   9,   1,
                                    7,    0,     0x41,        0x2a,   0x10,   0,       0x00, 0x0b};
static const uint8_t prog_import[] = {HEAD, TYPES, IMPORT_OTHER, FUNC_0, MEMORY, EXPORTS, 10,  8, 1,
                                      6,    0,     0x41,         1,      0x10,   0,       0x0b};

/* ---- running ---- */

static char warden[512];
static struct keep_result result;

struct run {
    const uint8_t *wasm;
    size_t size;
    int in, out; /* 0: none */
    uint64_t time_ns;
    bool unknown_trap;
    const char *warden;
};
#define PROGRAM(p) .wasm = (p), .size = sizeof(p)

static void run(struct run r) {
    struct config c;
    struct config_error err;
    assert_true(config_init(&c));
    if (r.time_ns) assert_true(config_set_limit(&c, CONFIG_LIMIT_time, r.time_ns, &err));
    c.unknown_imports_trap = r.unknown_trap;
    struct keep_options o = {.config = &c,
                             .wasm = r.wasm,
                             .wasm_size = r.size,
                             .stdio = {r.in ? r.in : -1, r.out ? r.out : -1, -1},
                             .backend = "process",
                             .warden = r.warden ? r.warden : warden};
    keep_result_free(&result);
    keep_run(&o, &result);
    config_free(&c);
}

static void expect(enum keep_outcome outcome, int code, const char *words) {
    if (result.outcome != outcome)
        print_message("%s: %s\n", keep_outcome_name(result.outcome), result.text ? result.text : "-");
    assert_int_equal(result.outcome, outcome);
    assert_int_equal(result.exit_code, code);
    if (!words) {
        assert_null(result.text);
        return;
    }
    assert_non_null(result.text);
    if (!strstr(result.text, words)) print_message("%s\n", result.text);
    assert_non_null(strstr(result.text, words));
}

static uint64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void test_ends(void **state) {
    (void)state;
    run((struct run){PROGRAM(prog_return)});
    expect(KEEP_EXITED, 0, NULL);
    assert_true(result.ready_ns > 0);
    run((struct run){PROGRAM(prog_exit)});
    expect(KEEP_EXITED, 42, NULL);
    run((struct run){PROGRAM(prog_trap)});
    expect(KEEP_TRAPPED, 134, "unreachable");
    assert_non_null(strstr(result.text, "\n"));
}

static void test_refusals(void **state) {
    (void)state;
    run((struct run){PROGRAM(prog_garbage)});
    expect(KEEP_REFUSED, 125, "malformed");
    run((struct run){PROGRAM(prog_invalid)});
    expect(KEEP_REFUSED, 125, "invalid");
    run((struct run){PROGRAM(prog_no_start)});
    expect(KEEP_REFUSED, 125, "_start");
    run((struct run){PROGRAM(prog_import)});
    expect(KEEP_REFUSED, 125, "no_such__");
    run((struct run){PROGRAM(prog_import), .unknown_trap = true});
    expect(KEEP_TRAPPED, 134, "no_such__");
    run((struct run){PROGRAM(prog_return), .warden = "/nonexistent/warden"});
    expect(KEEP_FAILED, 125, "/nonexistent/warden");
    run((struct run){PROGRAM(prog_return), .warden = "/bin/true"});
    expect(KEEP_FAILED, 125, "without a report");
}

static void test_output(void **state) {
    (void)state;
    int p[2];
    char text[16] = "";
    assert_int_equal(pipe(p), 0);
    run((struct run){PROGRAM(prog_hello), .out = p[1]});
    expect(KEEP_EXITED, 0, NULL);
    assert_int_equal(read(p[0], text, sizeof text), 6);
    assert_memory_equal(text, "hello\n", 6);
    close(p[0]);
    run((struct run){PROGRAM(prog_yes), .out = p[1]});
    expect(KEEP_SIGNALLED, 128 + SIGPIPE, NULL);
    assert_int_equal(result.signal, SIGPIPE);
    close(p[1]);
}

/* The limit ends computing, waiting for input, and waiting for a reader. */
static void test_time(void **state) {
    (void)state;
    int p[2];
    assert_int_equal(pipe(p), 0);
    uint64_t begin = now_ms();
    run((struct run){PROGRAM(prog_loop), .time_ns = 60000000});
    expect(KEEP_TIMEOUT, 124, "60ms");
    run((struct run){PROGRAM(prog_read), .time_ns = 60000000, .in = p[0]});
    expect(KEEP_TIMEOUT, 124, "60ms");
    run((struct run){PROGRAM(prog_yes), .time_ns = 60000000, .out = p[1]});
    expect(KEEP_TIMEOUT, 124, "60ms");
    assert_true(now_ms() - begin < 3000);
    close(p[0]);
    close(p[1]);
}

/* ---- from outside ---- */

static void bring_up_orphans(void) {
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
}

/* A loader in a child that runs `wasm` with a stdin that never says anything; the warden's pid. */
struct pair {
    pid_t loader, warden;
    int in[2];
};

static pid_t child_of(pid_t parent) {
    DIR *d = opendir("/proc");
    struct dirent *e;
    pid_t found = 0;
    while ((e = readdir(d))) {
        char path[300], line[512];
        if (!isdigit((unsigned char)e->d_name[0])) continue;
        snprintf(path, sizeof path, "/proc/%s/stat", e->d_name);
        FILE *f = fopen(path, "r");
        if (!f) continue;
        int ppid = 0;
        char *after = fgets(line, sizeof line, f) ? strrchr(line, ')') : NULL;
        if (after && strncmp(strchr(line, '('), "(donjon-warden)", 15) == 0 && sscanf(after, ") %*c %d", &ppid) == 1 &&
            ppid == parent)
            found = atoi(e->d_name);
        fclose(f);
    }
    closedir(d);
    return found;
}

/* A word of /proc/PID/status. */
static bool status_is(pid_t pid, const char *key, const char *value) {
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *f = fopen(path, "r");
    bool is = false;
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, key, strlen(key)) == 0) is = strstr(line, value) != NULL;
    if (f) fclose(f);
    return is;
}

static struct pair start(const uint8_t *wasm, size_t size) {
    struct pair p;
    assert_int_equal(pipe(p.in), 0);
    int extra = open("/etc/passwd", O_RDONLY); /* inherited by mistake: must not reach the keep */
    fflush(NULL);
    p.loader = fork();
    if (p.loader == 0) {
        setpgid(0, 0);
        run((struct run){.wasm = wasm, .size = size, .in = p.in[0]});
        _exit(result.exit_code);
    }
    close(extra);
    p.warden = 0;
    uint64_t begin = now_ms();
    while ((!p.warden || !status_is(p.warden, "Seccomp:", "2")) && now_ms() - begin < 5000) {
        usleep(2000);
        p.warden = child_of(p.loader);
    }
    usleep(20000);
    assert_true(p.warden > 0);
    return p;
}

static bool gone(pid_t pid) {
    for (uint64_t begin = now_ms(); now_ms() - begin < 5000; usleep(1000)) {
        waitpid(pid, NULL, WNOHANG); /* ours, should its parent have died */
        if (kill(pid, 0) != 0 && errno == ESRCH) return true;
    }
    return false;
}

static int finish(struct pair *p) {
    int status = 0;
    assert_true(waitpid(p->loader, &status, 0) == p->loader);
    assert_true(gone(p->warden));
    close(p->in[0]);
    close(p->in[1]);
    return status;
}

static void test_locks_of_a_keep(void **state) {
    (void)state;
    struct pair p = start(prog_read, sizeof prog_read);
    char path[64], line[512], target[256];
    assert_true(status_is(p.warden, "NoNewPrivs:", "1"));
    assert_true(status_is(p.warden, "CapEff:", "0000000000000000"));
    snprintf(path, sizeof path, "/proc/%d/environ", p.warden);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_true(fgetc(f) == EOF);
    fclose(f);
    snprintf(path, sizeof path, "/proc/%d/maps", p.warden);
    f = fopen(path, "r");
    while (fgets(line, sizeof line, f)) {
        assert_null(strstr(line, "rwx"));
        assert_null(strstr(line, "-wx"));
    }
    fclose(f);
    unsigned fds = 0;
    snprintf(path, sizeof path, "/proc/%d/fd", p.warden);
    DIR *d = opendir(path);
    for (struct dirent *e; (e = readdir(d));) {
        if (!isdigit((unsigned char)e->d_name[0])) continue;
        fds |= 1u << atoi(e->d_name);
        ssize_t n = readlinkat(dirfd(d), e->d_name, target, sizeof target - 1);
        target[n > 0 ? n : 0] = 0;
        assert_true(strcmp(target, "/dev/null") == 0 || strncmp(target, "socket:", 7) == 0);
    }
    closedir(d);
    assert_int_equal(fds, 1 << 0 | 1 << 1 | 1 << 2 | 1 << 4);
    assert_int_equal(write(p.in[1], "x", 1), 1);
    assert_int_equal(finish(&p), 0);
}

static void test_loader_killed(void **state) {
    (void)state;
    const struct {
        const uint8_t *wasm;
        size_t size;
    } programs[] = {{prog_read, sizeof prog_read}, {prog_loop, sizeof prog_loop}};
    const int signals[] = {SIGKILL, SIGTERM, SIGINT, SIGHUP};
    for (int i = 0; i < 8; i++) {
        struct pair p = start(programs[i / 4].wasm, programs[i / 4].size);
        kill(p.loader, signals[i % 4]);
        int status = finish(&p);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), signals[i % 4]);
    }
}

/* Ctrl-C: the terminal signals the whole group. */
static void test_ctrl_c(void **state) {
    (void)state;
    struct pair p = start(prog_loop, sizeof prog_loop);
    kill(-p.loader, SIGINT);
    int status = finish(&p);
    assert_true(WIFSIGNALED(status) ? WTERMSIG(status) == SIGINT : WEXITSTATUS(status) == 128 + SIGINT);
}

static void test_warden_killed(void **state) {
    (void)state;
    struct pair p = start(prog_loop, sizeof prog_loop);
    kill(p.warden, SIGKILL);
    assert_int_equal(WEXITSTATUS(finish(&p)), 125);
    p = start(prog_read, sizeof prog_read);
    kill(p.warden, SIGTERM);
    assert_int_equal(WEXITSTATUS(finish(&p)), 128 + SIGTERM);
}

/* No descriptor, no child, no mapping of ours is left after many keeps. */
static int open_descriptors(void) {
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}
static void test_leaves_nothing(void **state) {
    (void)state;
    int before = open_descriptors();
    for (int i = 0; i < 20; i++) {
        run((struct run){PROGRAM(prog_return)});
        expect(KEEP_EXITED, 0, NULL);
    }
    assert_int_equal(open_descriptors(), before);
    assert_true(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
}

/* ---- a warden that has been taken over (bad_warden.c) ---- */

static void run_bad(char mode, uint64_t time_ns) {
    static char path[600];
    uint8_t module[] = {(uint8_t)mode};
    snprintf(path, sizeof path, "%.*s/bad_warden", (int)(strrchr(warden, '/') - warden), warden);
    run((struct run){.wasm = module, .size = 1, .warden = path, .time_ns = time_ns});
}

static void test_bad_wardens(void **state) {
    (void)state;
    run_bad('R', 0);
    expect(KEEP_EXITED, 7, NULL);
    run_bad('B', 0);
    expect(KEEP_FAILED, 125, "killed");
    run_bad('S', 50000000);
    expect(KEEP_TIMEOUT, 124, "did not end by itself");
    run_bad('J', 50000000);
    expect(KEEP_TIMEOUT, 124, "did not end by itself");
    run_bad('F', 0);
    expect(KEEP_EXITED, 8, NULL);
    run_bad('X', 0);
    expect(KEEP_TRAPPED, 134, "?[2Jab?");
    run_bad('A', 0);
    expect(KEEP_EXITED, 9, NULL);
}

static int setup(void **state) {
    (void)state;
    const char *bin = getenv("DONJON_BIN");
    snprintf(warden, sizeof warden, "%s/donjon-warden", bin ? bin : "build/bin");
    bring_up_orphans();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_output),
        cmocka_unit_test(test_time),
        cmocka_unit_test(test_locks_of_a_keep),
        cmocka_unit_test(test_loader_killed),
        cmocka_unit_test(test_ctrl_c),
        cmocka_unit_test(test_warden_killed),
        cmocka_unit_test(test_leaves_nothing),
        cmocka_unit_test(test_bad_wardens),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
