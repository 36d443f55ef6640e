/* The host's side of the operations: what it must do, and above all what it must not: leave the directories that the
 * configuration names, change a read-only one, or be harmed by a request. DONJON_REQUESTS: how many hostile requests
 * (default 100,000). */
#define _GNU_SOURCE
#include "loader/serve.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* The tree:   ROOT/secret           outside: "SECRET"
 *             ROOT/rw/              a writable mount
 *             ROOT/ro/              a read-only mount
 * each mount: file "inside", dir/, dir/deep/, links to everywhere. */
enum { STDIN, STDOUT, STDERR, RW, RO, FIRST_FREE };

static struct {
    char root[64];
    struct server *server;
    struct gate_host gate;
    struct config config;
    struct gate_block *block;
    int bells[2];
} t;

static const char *at(const char *path) {
    static char full[4][256];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(full[turn], sizeof full[turn], "%s/%s", t.root, path);
    return full[turn];
}

static void put(const char *path, const char *text) {
    int fd = open(at(path), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static bool holds(const char *path, const char *text) {
    char found[64] = "";
    int fd = open(at(path), O_RDONLY | O_NOFOLLOW);
    if (fd < 0) return false;
    ssize_t n = read(fd, found, sizeof found - 1);
    close(fd);
    return n == (ssize_t)strlen(text) && memcmp(found, text, strlen(text)) == 0;
}

static void make_mount(const char *name) {
    char path[64], target[128];
    const char *const links[][2] = {{"up", ".."},
                                    {"out", "../secret"},
                                    {"etc", "/etc"},
                                    {"loop", "loop"},
                                    {"in", "inside"},
                                    {"in-dir", "dir"},
                                    {"far", "dir/../.."},
                                    {"proc", "/proc/self/fd"},
                                    {"dir/up-in", "../inside"},
                                    {"dir/up-out", "../../secret"}};
    snprintf(path, sizeof path, "%s", name);
    mkdir(at(path), 0755);
    snprintf(path, sizeof path, "%s/inside", name);
    put(path, "inside");
    snprintf(path, sizeof path, "%s/dir", name);
    mkdir(at(path), 0755);
    snprintf(path, sizeof path, "%s/dir/deep", name);
    mkdir(at(path), 0755);
    for (size_t i = 0; i < sizeof links / sizeof links[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", name, links[i][0]);
        assert_int_equal(symlink(links[i][1], at(path)), 0);
    }
    snprintf(path, sizeof path, "%s/abs", name);
    snprintf(target, sizeof target, "%s", at("secret"));
    assert_int_equal(symlink(target, at(path)), 0);
}

static int setup(void **state) {
    (void)state;
    snprintf(t.root, sizeof t.root, "/tmp/donjon-serve-XXXXXX");
    if (!mkdtemp(t.root)) return -1;
    put("secret", "SECRET");
    make_mount("rw");
    make_mount("ro");
    struct config_error err;
    if (!config_init(&t.config)) return -1;
    struct config_mount rw = {.host = at("rw"), .guest = "/rw", .writable = true};
    struct config_mount ro = {.host = at("ro"), .guest = "/ro", .writable = false};
    if (!config_add_mount(&t.config, &rw, &err) || !config_add_mount(&t.config, &ro, &err)) return -1;
    char error[512];
    int stdio[3] = {-1, -1, -1};
    t.server = server_new(&t.config, stdio, false, error, sizeof error);
    t.block = aligned_alloc(GATE_HEAD_SIZE, GATE_BLOCK_SIZE);
    memset(t.block, 0, GATE_BLOCK_SIZE);
    if (!t.server || socketpair(AF_UNIX, SOCK_STREAM, 0, t.bells) != 0) return -1;
    gate_host_init(&t.gate, t.block, t.bells[0], 0);
    t.server->gate = &t.gate;
    return 0;
}

static int drop(const char *path, const struct stat *st, int type, struct FTW *f) {
    (void)st, (void)type, (void)f;
    return remove(path);
}

static int teardown(void **state) {
    (void)state;
    server_delete(t.server);
    config_free(&t.config);
    close(t.bells[0]);
    close(t.bells[1]);
    free(t.block);
    return nftw(t.root, drop, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- a steward that answers when the test says so ---- */

static struct {
    int under_way, last; /* the eventfd of the last request */
    char url[64];
    uint32_t body_size, answer_size;
    bool fails;
} asked;

static int steward_ask(void *ctx, const char *url, unsigned which, const uint8_t *body, uint32_t body_size) {
    (void)ctx, (void)body;
    assert_true(which < GATE_STEWARDS);
    if (asked.fails) return -1;
    snprintf(asked.url, sizeof asked.url, "%s", url);
    asked.body_size = body_size;
    asked.under_way++;
    return asked.last = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

static bool steward_answer(void *ctx, int fd, uint8_t *out, uint32_t room, uint32_t *status, uint32_t *size) {
    (void)ctx, (void)fd;
    if (asked.fails || asked.answer_size > room) return false;
    memset(out, 'a', asked.answer_size);
    *status = 200;
    *size = asked.answer_size;
    return true;
}

static void steward_end(void *ctx, int fd) {
    (void)ctx;
    asked.under_way--;
    assert_int_equal(close(fd), 0);
}

static const struct keep_services services = {
    .steward = steward_ask, .steward_answer = steward_answer, .steward_end = steward_end};

/* ---- asking ---- */

static struct gate_reply reply;

static uint32_t ask(struct gate_request q) {
    assert_null(gate_request_check(&q));
    server_request(t.server, &q, &reply, t.block->data);
    assert_null(gate_reply_check(&q, &reply));
    return reply.error;
}

static uint32_t ask_path(enum gate_op op, uint32_t dir, const char *path, struct gate_request q) {
    q.op = op;
    q.handle = dir;
    q.len = (uint32_t)strlen(path);
    memcpy(t.block->data, path, q.len);
    return ask(q);
}

static uint32_t ask_paths(enum gate_op op, uint32_t dir, const char *a, uint32_t dir2, const char *b, bool follow) {
    size_t n = strlen(a), m = strlen(b);
    memcpy(t.block->data, a, n);
    memcpy(t.block->data + n, b, m);
    struct gate_request q = {.op = op, .handle = dir, .len = (uint32_t)(n + m)};
    if (op == GATE_SYMLINK) {
        q.args[0] = n;
    } else {
        q.args[0] = dir2;
        q.args[1] = n;
        q.args[2] = follow;
    }
    return ask(q);
}

static uint32_t ask_open(uint32_t dir, const char *path, uint32_t new, uint64_t flags) {
    return ask_path(GATE_OPEN, dir, path,
                    (struct gate_request){.room = sizeof(struct gate_stat), .args = {new, flags}});
}

static uint32_t ask_close(uint32_t handle) {
    return ask((struct gate_request){.op = GATE_CLOSE, .handle = handle});
}

static uint32_t ask_stat(uint32_t dir, const char *path, bool follow) {
    return ask_path(GATE_PATH_STAT, dir, path,
                    (struct gate_request){.room = sizeof(struct gate_stat), .args = {follow}});
}

/* ---- escapes ---- */

static const char *const escapes[] = {"..",
                                      "../secret",
                                      "dir/../../secret",
                                      "up",
                                      "up/secret",
                                      "out",
                                      "etc",
                                      "etc/passwd",
                                      "far",
                                      "far/secret",
                                      "proc",
                                      "proc/0",
                                      "dir/up-out",
                                      "in-dir/../../secret",
                                      "abs",
                                      "./.././secret",
                                      "dir/..//../secret",
                                      "dir/deep/../../../secret",
                                      "up/ro/inside"};
enum { ESCAPES = sizeof escapes / sizeof escapes[0] };

static void test_escapes(void **state) {
    (void)state;
    const uint64_t follow = GATE_OPEN_FOLLOW;
    for (int i = 0; i < ESCAPES; i++) {
        const char *p = escapes[i];
        for (uint32_t dir = RW; dir <= RO; dir++) {
            assert_int_equal(ask_open(dir, p, FIRST_FREE, follow | GATE_OPEN_READ), GATE_ENOTCAPABLE);
            assert_int_equal(ask_stat(dir, p, true), GATE_ENOTCAPABLE);
        }
        assert_int_equal(ask_open(RW, p, FIRST_FREE, follow | GATE_OPEN_WRITE | GATE_OPEN_TRUNC), GATE_ENOTCAPABLE);
        assert_int_equal(ask_open(RW, p, FIRST_FREE, follow | GATE_OPEN_WRITE | GATE_OPEN_CREAT), GATE_ENOTCAPABLE);
        assert_int_equal(ask_path(GATE_PATH_TIMES, RW, p, (struct gate_request){.args = {1, 0, 0, 5}}),
                         GATE_ENOTCAPABLE);
        assert_int_equal(ask_paths(GATE_LINK, RW, p, RW, "stolen", true), GATE_ENOTCAPABLE);
    }
    assert_true(holds("secret", "SECRET"));
    assert_true(access(at("rw/stolen"), F_OK) != 0);
}

/* Paths whose directory part leads out: every operation on names. */
static void test_escapes_by_name(void **state) {
    (void)state;
    static const char *const names[] = {"../new",         "up/new",        "far/new",
                                        "etc/donjon-new", "dir/../../new", "dir/deep/../../../new",
                                        "up/rw/../new",   "../rw/../new"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *p = names[i];
        struct gate_request none = {0};
        assert_int_equal(ask_path(GATE_MKDIR, RW, p, none), GATE_ENOTCAPABLE);
        assert_int_equal(ask_path(GATE_UNLINK, RW, p, none), GATE_ENOTCAPABLE);
        assert_int_equal(ask_path(GATE_RMDIR, RW, p, none), GATE_ENOTCAPABLE);
        assert_int_equal(ask_path(GATE_READLINK, RW, p, (struct gate_request){.room = 100}), GATE_ENOTCAPABLE);
        assert_int_equal(ask_paths(GATE_RENAME, RW, p, RW, "moved", false), GATE_ENOTCAPABLE);
        assert_int_equal(ask_paths(GATE_RENAME, RW, "inside", RW, p, false), GATE_ENOTCAPABLE);
        assert_int_equal(ask_paths(GATE_LINK, RW, "inside", RW, p, false), GATE_ENOTCAPABLE);
        assert_int_equal(ask_paths(GATE_SYMLINK, RW, "inside", RW, p, false), GATE_ENOTCAPABLE);
        assert_int_equal(ask_open(RW, p, FIRST_FREE, GATE_OPEN_WRITE | GATE_OPEN_CREAT | GATE_OPEN_EXCL),
                         GATE_ENOTCAPABLE);
    }
    static const char *const dots[] = {"..", "../", "dir/../..", "up/..", "up/.", "dir/../../."};
    for (size_t i = 0; i < sizeof dots / sizeof dots[0]; i++) {
        struct gate_request none = {0};
        assert_int_equal(ask_path(GATE_MKDIR, RW, dots[i], none), GATE_ENOTCAPABLE);
        assert_int_equal(ask_path(GATE_RMDIR, RW, dots[i], none), GATE_ENOTCAPABLE);
        assert_int_equal(ask_path(GATE_UNLINK, RW, dots[i], none), GATE_ENOTCAPABLE);
        assert_int_equal(ask_paths(GATE_RENAME, RW, "dir", RW, dots[i], false), GATE_ENOTCAPABLE);
    }
    assert_int_equal(ask_path(GATE_UNLINK, RW, "/etc/passwd", (struct gate_request){0}), GATE_ENOTCAPABLE);
    assert_int_equal(ask_paths(GATE_SYMLINK, RW, "/etc/passwd", RW, "absolute", false), GATE_ENOTCAPABLE);
    assert_int_equal(ask_path(GATE_UNLINK, RW, "dir/up-out/", (struct gate_request){0}), GATE_ENOTDIR);
    assert_true(holds("secret", "SECRET"));
    assert_true(holds("rw/inside", "inside"));
}

/* The last component is never followed where the operation is on the name. */
static void test_last_link(void **state) {
    (void)state;
    assert_int_equal(ask_open(RW, "out", FIRST_FREE, GATE_OPEN_READ), GATE_ELOOP);
    assert_int_equal(ask_open(RW, "loop", FIRST_FREE, GATE_OPEN_READ | GATE_OPEN_FOLLOW), GATE_ELOOP);
    assert_int_equal(ask_stat(RW, "out", false), GATE_OK);
    struct gate_stat s;
    memcpy(&s, t.block->data, sizeof s);
    assert_int_equal(s.type, GATE_TYPE_SYMLINK);
    assert_int_equal(ask_path(GATE_READLINK, RW, "out", (struct gate_request){.room = 100}), GATE_OK);
    assert_int_equal(reply.len, 9);
    assert_memory_equal(t.block->data, "../secret", 9);
    assert_int_equal(ask_path(GATE_READLINK, RW, "inside", (struct gate_request){.room = 100}), GATE_EINVAL);
    assert_int_equal(ask_paths(GATE_LINK, RW, "out", RW, "out2", false),
                     GATE_OK); /* the link itself gets a second name */
    struct stat st;
    assert_int_equal(lstat(at("rw/out2"), &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_int_equal(ask_paths(GATE_RENAME, RW, "out2", RW, "out3", false), GATE_OK);
    assert_int_equal(ask_path(GATE_UNLINK, RW, "out3", (struct gate_request){0}), GATE_OK);
    assert_true(holds("secret", "SECRET"));
}

static void test_read_only(void **state) {
    (void)state;
    struct gate_request none = {0};
    assert_int_equal(ask_open(RO, "inside", FIRST_FREE, GATE_OPEN_WRITE), GATE_EROFS);
    assert_int_equal(ask_open(RO, "inside", FIRST_FREE, GATE_OPEN_READ | GATE_OPEN_TRUNC), GATE_EROFS);
    assert_int_equal(ask_open(RO, "new", FIRST_FREE, GATE_OPEN_READ | GATE_OPEN_CREAT), GATE_EROFS);
    assert_int_equal(ask_path(GATE_MKDIR, RO, "new", none), GATE_EROFS);
    assert_int_equal(ask_path(GATE_UNLINK, RO, "inside", none), GATE_EROFS);
    assert_int_equal(ask_path(GATE_RMDIR, RO, "dir/deep", none), GATE_EROFS);
    assert_int_equal(ask_path(GATE_PATH_TIMES, RO, "inside", (struct gate_request){.args = {0, 0, 0, 5}}), GATE_EROFS);
    assert_int_equal(ask_paths(GATE_RENAME, RO, "inside", RW, "taken", false), GATE_EROFS);
    assert_int_equal(ask_paths(GATE_RENAME, RW, "inside", RO, "given", false), GATE_EROFS);
    assert_int_equal(ask_paths(GATE_LINK, RO, "inside", RW, "taken", false), GATE_EROFS); /* would make it writable */
    assert_int_equal(ask_paths(GATE_LINK, RW, "inside", RO, "given", false), GATE_EROFS);
    assert_int_equal(ask_paths(GATE_SYMLINK, RO, "x", RO, "given", false), GATE_EROFS);
    assert_int_equal(ask_open(RO, "dir", FIRST_FREE, GATE_OPEN_READ | GATE_OPEN_DIRECTORY), GATE_OK);
    assert_int_equal(ask_path(GATE_MKDIR, FIRST_FREE, "new", none), GATE_EROFS); /* inherited */
    assert_int_equal(ask_close(FIRST_FREE), GATE_OK);
    assert_int_equal(ask_open(RO, "inside", FIRST_FREE, GATE_OPEN_READ), GATE_OK);
    assert_int_equal(ask((struct gate_request){.op = GATE_TRUNCATE, .handle = FIRST_FREE}), GATE_EROFS);
    assert_int_equal(ask((struct gate_request){.op = GATE_SET_TIMES, .handle = FIRST_FREE, .args = {0, 0, 5}}),
                     GATE_EROFS);
    assert_true(ask((struct gate_request){.op = GATE_PWRITE, .handle = FIRST_FREE, .len = 1}) != GATE_OK);
    assert_int_equal(ask_close(FIRST_FREE), GATE_OK);
    assert_true(holds("ro/inside", "inside"));
}

static void test_handles(void **state) {
    (void)state;
    assert_int_equal(ask_open(RW, "inside", RW, GATE_OPEN_READ), GATE_EINVAL); /* in use */
    assert_int_equal(ask_open(RW, "inside", 0, GATE_OPEN_READ), GATE_EINVAL);  /* fixed */
    assert_int_equal(ask_open(RW, "inside", FIRST_FREE, GATE_OPEN_READ), GATE_OK);
    assert_int_equal(ask_open(RW, "inside", FIRST_FREE, GATE_OPEN_READ), GATE_EINVAL);
    assert_int_equal(ask_open(FIRST_FREE, "inside", FIRST_FREE + 1, GATE_OPEN_READ), GATE_ENOTDIR);
    assert_int_equal(ask((struct gate_request){.op = GATE_READ, .handle = FIRST_FREE, .room = 1}), GATE_EBADF);
    assert_int_equal(ask((struct gate_request){.op = GATE_RECV, .handle = FIRST_FREE, .room = 1}), GATE_EBADF);
    assert_int_equal(ask_close(FIRST_FREE), GATE_OK);
    assert_int_equal(ask_close(FIRST_FREE), GATE_EBADF);
    assert_int_equal(ask_open(FIRST_FREE, "inside", FIRST_FREE + 1, GATE_OPEN_READ), GATE_EBADF);
    assert_int_equal(ask((struct gate_request){.op = GATE_PREAD, .handle = FIRST_FREE, .room = 1}), GATE_EBADF);
}

static void test_files(void **state) {
    (void)state;
    const uint64_t create = GATE_OPEN_READ | GATE_OPEN_WRITE | GATE_OPEN_CREAT | GATE_OPEN_EXCL;
    assert_int_equal(ask_open(RW, "dir/f", FIRST_FREE, create), GATE_OK);
    memcpy(t.block->data, "0123456789", 10);
    assert_int_equal(ask((struct gate_request){.op = GATE_PWRITE, .handle = FIRST_FREE, .len = 10, .args = {5}}),
                     GATE_OK);
    assert_int_equal(reply.values[0], 10);
    assert_int_equal(reply.values[1], 15);
    memcpy(t.block->data, "end", 3);
    assert_int_equal(ask((struct gate_request){.op = GATE_PWRITE, .handle = FIRST_FREE, .len = 3, .args = {0, 1}}),
                     GATE_OK);
    assert_int_equal(reply.values[1], 18);
    assert_int_equal(ask((struct gate_request){.op = GATE_PREAD, .handle = FIRST_FREE, .room = 100, .args = {12}}),
                     GATE_OK);
    assert_int_equal(reply.len, 6);
    assert_memory_equal(t.block->data, "789end", 6);
    assert_int_equal(ask((struct gate_request){.op = GATE_TRUNCATE, .handle = FIRST_FREE, .args = {2}}), GATE_OK);
    assert_int_equal(ask((struct gate_request){.op = GATE_ALLOCATE, .handle = FIRST_FREE, .args = {0, 100}}), GATE_OK);
    assert_int_equal(ask((struct gate_request){.op = GATE_SET_TIMES, .handle = FIRST_FREE, .args = {1500000000, 7, 5}}),
                     GATE_OK);
    assert_int_equal(ask((struct gate_request){.op = GATE_STAT, .handle = FIRST_FREE, .room = 64}), GATE_OK);
    struct gate_stat s;
    memcpy(&s, t.block->data, sizeof s);
    assert_int_equal(s.size, 100);
    assert_int_equal(s.atim, 1500000000);
    assert_int_equal(s.mtim, 7);
    assert_int_equal(ask((struct gate_request){.op = GATE_SYNC, .handle = FIRST_FREE}), GATE_OK);
    assert_int_equal(ask((struct gate_request){.op = GATE_ADVISE, .handle = FIRST_FREE, .args = {0, 10, 3}}), GATE_OK);
    assert_int_equal(ask_close(FIRST_FREE), GATE_OK);
    assert_int_equal(ask_path(GATE_UNLINK, RW, "dir/f", (struct gate_request){0}), GATE_OK);
    assert_int_equal(ask_path(GATE_UNLINK, RW, "dir", (struct gate_request){0}), GATE_EISDIR);
    assert_int_equal(ask_open(RW, "dir", FIRST_FREE, GATE_OPEN_WRITE), GATE_EISDIR);
    assert_int_equal(ask_path(GATE_MKDIR, RW, "dir/new/", (struct gate_request){0}), GATE_OK);
    assert_int_equal(ask_path(GATE_RMDIR, RW, "dir/new/", (struct gate_request){0}), GATE_OK);
}

/* Every entry exactly once, through buffers of any size. */
static void test_readdir(void **state) {
    (void)state;
    enum { FILES = 500 };
    mkdir(at("rw/many"), 0755);
    for (int i = 0; i < FILES; i++) {
        char name[300];
        snprintf(name, sizeof name, "rw/many/%03d%.*s", i, i % 200,
                 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
        put(name, "");
    }
    for (uint32_t room = 600; room <= GATE_DATA_SIZE;
         room = room * 3 > GATE_DATA_SIZE && room < GATE_DATA_SIZE ? GATE_DATA_SIZE : room * 3) {
        assert_int_equal(ask_open(RW, "many", FIRST_FREE, GATE_OPEN_READ | GATE_OPEN_DIRECTORY), GATE_OK);
        char seen[FILES] = {0};
        int others = 0;
        uint64_t cookie = 0;
        for (;;) {
            assert_int_equal(
                ask((struct gate_request){.op = GATE_READDIR, .handle = FIRST_FREE, .room = room, .args = {cookie}}),
                GATE_OK);
            if (reply.len == 0) break;
            struct gate_dirent e;
            for (size_t p = 0, size; p < reply.len; p += size) {
                size = gate_dirent_check(t.block->data + p, reply.len - p, &e);
                assert_true(size > 0);
                const char *name = (const char *)t.block->data + p + sizeof e;
                if (name[0] == '.')
                    others++;
                else
                    seen[(name[0] - '0') * 100 + (name[1] - '0') * 10 + (name[2] - '0')]++;
                cookie = e.next;
            }
        }
        for (int i = 0; i < FILES; i++)
            assert_int_equal(seen[i], 1);
        assert_int_equal(others, 2);
        assert_int_equal(ask_close(FIRST_FREE), GATE_OK);
    }
}

/* ---- races: somebody else renames while we resolve ---- */

static _Atomic bool racing;
static _Atomic uint32_t moves;
enum { RACES = 20000 };

/* rw/race is by turns a directory with a file "secret" of its own, and a link to the outside. */
static void *swapper(void *arg) {
    (void)arg;
    char a[128], b[128];
    snprintf(a, sizeof a, "%s", at("rw/race"));
    snprintf(b, sizeof b, "%s", at("rw/race-other"));
    while (racing)
        moves += syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, 2 /* RENAME_EXCHANGE */) == 0;
    return NULL;
}

/* rw/box/inner moves out of the mount and back. */
static void *mover(void *arg) {
    (void)arg;
    char a[128], b[128];
    snprintf(a, sizeof a, "%s", at("rw/box/inner"));
    snprintf(b, sizeof b, "%s", at("outside-inner"));
    while (racing) {
        moves += rename(a, b) == 0;
        rename(b, a);
    }
    return NULL;
}

static void read_opened(const char *never) {
    struct gate_request q = {.op = GATE_PREAD, .handle = FIRST_FREE, .room = 100};
    if (ask(q) == GATE_OK && reply.len == strlen(never)) assert_memory_not_equal(t.block->data, never, strlen(never));
    ask_close(FIRST_FREE);
}

static void test_race_link(void **state) {
    (void)state;
    mkdir(at("rw/race"), 0755);
    put("rw/race/secret", "mine");
    assert_int_equal(symlink("..", at("rw/race-other")), 0);
    pthread_t thread;
    racing = true;
    moves = 0;
    pthread_create(&thread, NULL, swapper, NULL);
    int opened = 0, refused = 0;
    while (moves < RACES) {
        uint32_t e = ask_open(RW, "race/secret", FIRST_FREE, GATE_OPEN_READ | GATE_OPEN_FOLLOW);
        if (e == GATE_OK) {
            opened++;
            read_opened("SECRET");
        } else {
            refused++;
        }
        ask_path(GATE_UNLINK, RW, "race/donjon-probe", (struct gate_request){0});
        if (ask_path(GATE_MKDIR, RW, "race/donjon-probe", (struct gate_request){0}) == GATE_OK)
            assert_true(access(at("donjon-probe"), F_OK) != 0);
        ask_path(GATE_RMDIR, RW, "race/donjon-probe", (struct gate_request){0});
    }
    racing = false;
    pthread_join(thread, NULL);
    print_message("opened %d, refused %d\n", opened, refused);
    assert_true(holds("secret", "SECRET"));
    assert_true(access(at("donjon-probe"), F_OK) != 0);
}

static void test_race_move(void **state) {
    (void)state;
    mkdir(at("rw/box"), 0755);
    mkdir(at("rw/box/inner"), 0755);
    pthread_t thread;
    racing = true;
    moves = 0;
    pthread_create(&thread, NULL, mover, NULL);
    while (moves < RACES)
        if (ask_open(RW, "box/inner/../../secret", FIRST_FREE, GATE_OPEN_READ | GATE_OPEN_FOLLOW) == GATE_OK)
            read_opened("SECRET");
    racing = false;
    pthread_join(thread, NULL);
}

/* ---- streams and waiting ---- */

static void test_streams(void **state) {
    (void)state;
    int in[2], out[2];
    assert_int_equal(pipe(in), 0);
    assert_int_equal(pipe(out), 0);
    struct config c;
    char error[512];
    assert_true(config_init(&c));
    int stdio[3] = {in[0], out[1], -1};
    struct server *saved = t.server, *s = server_new(&c, stdio, false, error, sizeof error);
    assert_non_null(s);
    s->gate = &t.gate;
    t.server = s;
    assert_int_equal(ask((struct gate_request){.op = GATE_READ, .handle = 0, .room = 10}), GATE_EAGAIN);
    assert_int_equal(ask((struct gate_request){.op = GATE_READ, .handle = 0, .room = 10, .args = {1000000}}),
                     GATE_EAGAIN);
    assert_int_equal(write(in[1], "hello", 5), 5);
    assert_int_equal(ask((struct gate_request){.op = GATE_READ, .handle = 0, .room = 3, .args = {GATE_FOREVER}}),
                     GATE_OK);
    assert_int_equal(reply.len, 3);
    struct gate_poll p[2] = {{.handle = 0, .events = GATE_READABLE}, {.handle = 1, .events = GATE_WRITABLE}};
    memcpy(t.block->data, p, sizeof p);
    assert_int_equal(ask((struct gate_request){.op = GATE_POLL, .len = 48, .room = 48, .args = {GATE_FOREVER, 2}}),
                     GATE_OK);
    memcpy(p, t.block->data, sizeof p);
    assert_int_equal(p[0].ready, GATE_READABLE);
    assert_int_equal(p[0].bytes, 2);
    assert_int_equal(p[1].ready, GATE_WRITABLE);
    close(in[1]);
    assert_int_equal(ask((struct gate_request){.op = GATE_READ, .handle = 0, .room = 10, .args = {GATE_FOREVER}}),
                     GATE_OK);
    assert_int_equal(reply.len, 2);
    assert_int_equal(ask((struct gate_request){.op = GATE_READ, .handle = 0, .room = 10, .args = {GATE_FOREVER}}),
                     GATE_OK);
    assert_int_equal(reply.len, 0);
    /* more than a pipe holds: takes what fits, then would wait */
    uint64_t total = 0;
    while (ask((struct gate_request){.op = GATE_WRITE, .handle = 1, .len = GATE_DATA_SIZE}) == GATE_OK)
        total += reply.values[0];
    assert_int_equal(reply.error, GATE_EAGAIN);
    assert_true(total >= 65536);
    /* a ring from the keep cuts a wait short */
    assert_int_equal(write(t.bells[1], "", 1), 1);
    assert_int_equal(ask((struct gate_request){.op = GATE_WRITE, .handle = 1, .len = 1, .args = {GATE_FOREVER}}),
                     GATE_EINTR);
    /* the reader is gone: the keep ends as by SIGPIPE */
    signal(SIGPIPE, SIG_IGN);
    close(out[0]);
    struct gate_request w = {.op = GATE_WRITE, .handle = 1, .len = 1, .args = {GATE_FOREVER}};
    assert_false(server_request(s, &w, &reply, t.block->data));
    assert_true(s->broken_pipe);
    signal(SIGPIPE, SIG_DFL);
    t.server = saved;
    server_delete(s);
    config_free(&c);
    close(in[0]);
    close(out[1]);
}

/* ---- hostile requests ---- */

struct dice {
    uint64_t s;
};
static uint64_t roll(struct dice *d) {
    d->s ^= d->s >> 12;
    d->s ^= d->s << 25;
    d->s ^= d->s >> 27;
    return d->s * UINT64_C(2685821657736338717);
}
static uint64_t below(struct dice *d, uint64_t n) {
    return roll(d) % n;
}

static uint64_t any_number(struct dice *d) {
    static const uint64_t some[] = {0,  1,  2,    3,    4,     5,     6,          7,         8,
                                    63, 64, 4095, 4096, 65535, 65536, UINT32_MAX, INT64_MAX, UINT64_MAX};
    return below(d, 4) ? some[below(d, sizeof some / sizeof some[0])] : roll(d) >> below(d, 64);
}

static uint32_t any_path(struct dice *d, uint8_t *out, size_t size) {
    static const char *const parts[] = {"..",  ".",    "/",      "//",     "inside", "dir",  "deep",  "up", "out",
                                        "etc", "loop", "in",     "in-dir", "far",    "proc", "abs",   "a",  "b",
                                        "c",   "new",  "up-out", "secret", "rw",     "ro",   "passwd"};
    size_t n = 0;
    for (uint64_t i = 1 + below(d, 6); i > 0; i--) {
        const char *part = parts[below(d, sizeof parts / sizeof parts[0])];
        size_t len = strlen(part);
        if (n + len + 1 > size) break;
        memcpy(out + n, part, len);
        n += len;
        if (below(d, 6)) out[n++] = '/';
    }
    if (below(d, 40) == 0 && n > 0) out[below(d, n)] = (uint8_t)roll(d);
    if (below(d, 3) && n > 1 && out[n - 1] == '/') n--;
    return (uint32_t)n;
}

/* Mostly well-formed requests, so that they get past the check; the rest is random. */
static struct gate_request any_request(struct dice *d) {
    struct gate_request q = {.op = (uint32_t)below(d, GATE_OPS + 1), .handle = (uint32_t)below(d, 12)};
    if (q.op == GATE_EXIT || q.op == GATE_WRITE) q.op = GATE_OPEN;
    if (below(d, 40) == 0) {
        for (size_t i = 0; i < sizeof q / 8; i++)
            ((uint64_t *)(void *)&q)[i] = any_number(d);
        return q;
    }
    uint8_t *data = t.block->data;
    for (int i = 0; i < GATE_ARGS; i++)
        q.args[i] = 0;
    uint32_t first;
    switch (q.op) {
    case GATE_STAT: q.room = 64; break;
    case GATE_OPEN:
        q.room = 64;
        q.args[0] = FIRST_FREE + below(d, 8);
        q.args[1] = below(d, GATE_OPEN_ALL + 1);
        q.args[2] = below(d, 32);
        q.len = any_path(d, data, 300);
        break;
    case GATE_PATH_STAT: q.room = 64; /* fallthrough */
    case GATE_MKDIR:
    case GATE_UNLINK:
    case GATE_RMDIR: q.len = any_path(d, data, 300); break;
    case GATE_READLINK:
        q.room = (uint32_t)below(d, 200);
        q.len = any_path(d, data, 300);
        break;
    case GATE_PATH_TIMES:
        q.len = any_path(d, data, 300);
        q.args[0] = below(d, 2);
        q.args[3] = below(d, 16);
        break;
    case GATE_RENAME:
    case GATE_LINK:
    case GATE_SYMLINK:
        first = any_path(d, data, 300);
        q.len = first + any_path(d, data + first, 300);
        q.args[q.op == GATE_SYMLINK ? 0 : 1] = first;
        if (q.op != GATE_SYMLINK) q.args[0] = below(d, 12);
        if (q.op == GATE_LINK) q.args[2] = below(d, 2);
        break;
    case GATE_READDIR:
        q.room = (uint32_t)below(d, GATE_DATA_SIZE + 1);
        q.args[0] = any_number(d);
        break;
    case GATE_PREAD:
        q.room = (uint32_t)below(d, GATE_DATA_SIZE + 1);
        q.args[0] = any_number(d) % 100000;
        break;
    case GATE_PWRITE:
        q.len = (uint32_t)below(d, 300);
        q.args[0] = any_number(d) % 100000;
        q.args[1] = below(d, 2);
        break;
    case GATE_TRUNCATE:
    case GATE_ALLOCATE:
        q.args[0] = below(d, 100000);
        q.args[1] = q.op == GATE_ALLOCATE ? below(d, 100000) : 0;
        break;
    case GATE_POLL:
        q.args[1] = below(d, 20);
        q.len = q.room = (uint32_t)q.args[1] * 24;
        for (uint32_t i = 0; i < q.len / 8; i++) {
            uint64_t v = any_number(d);
            memcpy(data + i * 8, &v, 8);
        }
        break;
    case GATE_POLL_RECV:
        q.args[1] = below(d, 20);
        q.args[2] = 1 + below(d, 3000);
        q.len = (uint32_t)q.args[1] * 24;
        q.room = q.len + (uint32_t)below(d, 4000);
        for (uint32_t i = 0; i < q.len / 8; i++) {
            uint64_t v = any_number(d);
            memcpy(data + i * 8, &v, 8);
        }
        break;
    case GATE_SEND_MANY:
        q.args[0] = 1 + below(d, 20);
        q.room = (uint32_t)q.args[0] * 16;
        q.len = q.room;
        for (uint32_t i = 0; i < q.args[0]; i++) {
            uint32_t e[4] = {(uint32_t)below(d, 40), (uint32_t)(below(d, 9) ? below(d, 100) : any_number(d)), 7, 7};
            memcpy(data + i * 16, e, sizeof e);
            if (e[1] < 100) q.len += e[1];
        }
        break;
    case GATE_STEWARD:
        q.args[0] = FIRST_FREE + below(d, 8);
        q.args[1] = below(d, GATE_STEWARDS + 1);
        q.len = (uint32_t)below(d, 100);
        q.args[2] = below(d, 100);
        q.room = 0;
        for (uint32_t i = 0; i < q.len; i++)
            data[i] = below(d, 50) ? 'u' : 0;
        if (below(d, 2)) (void)!write(asked.last, &(uint64_t){1}, 8);
        break;
    case GATE_ANSWER:
        q.len = 0;
        q.room = (uint32_t)below(d, 200);
        memset(q.args, 0, sizeof q.args);
        break;
    case GATE_SET_TIMES: q.args[2] = below(d, 16); break;
    default: break;
    }
    return q;
}

/* The timeout of a request that waits: none, or the test would. */
static void hurry(struct gate_request *q) {
    if (q->op == GATE_READ || q->op == GATE_POLL || q->op == GATE_POLL_RECV || q->op == GATE_RECV || q->op == GATE_SEND)
        q->args[0] = 0;
    if (q->op == GATE_ACCEPT) q->args[1] = 0;
}

static uint32_t ask_steward(uint32_t handle, const char *url, uint32_t body) {
    size_t n = strlen(url);
    memcpy(t.block->data, url, n);
    memset(t.block->data + n, 'b', body);
    return ask((struct gate_request){.op = GATE_STEWARD, .len = (uint32_t)n + body, .args = {handle, 0, n}});
}

static uint32_t ask_answer(uint32_t handle) {
    return ask((struct gate_request){.op = GATE_ANSWER, .handle = handle, .room = 100});
}

static bool is_readable(uint32_t handle) {
    struct gate_poll e = {.handle = handle, .events = GATE_READABLE};
    memcpy(t.block->data, &e, sizeof e);
    uint32_t error = ask((struct gate_request){.op = GATE_POLL, .len = sizeof e, .room = sizeof e, .args = {0, 1}});
    memcpy(&e, t.block->data, sizeof e);
    return error == GATE_OK && e.error == GATE_OK && e.ready & GATE_READABLE;
}

/* Begun, not waited for; readable with the answer; at most a few at once; ended by closing. */
static void test_steward(void **state) {
    (void)state;
    const struct keep_services *before = t.server->services;
    assert_int_equal(ask_steward(FIRST_FREE, "https://x", 3), GATE_ENOTSUP);
    t.server->services = &services;
    asked.answer_size = 100;
    for (uint32_t i = 0; i < SERVER_STEWARDS; i++) {
        assert_int_equal(ask_steward(FIRST_FREE + i, "https://x", 3), GATE_OK);
        assert_string_equal(asked.url, "https://x");
        assert_int_equal(asked.body_size, 3);
    }
    assert_int_equal(ask_steward(FIRST_FREE + SERVER_STEWARDS, "https://x", 3), GATE_EMFILE);
    assert_int_equal(ask_steward(FIRST_FREE, "https://x", 3), GATE_EBADF); /* in use */
    assert_int_equal(ask_steward(RO, "https://x", 3), GATE_EBADF);
    uint32_t last = FIRST_FREE + SERVER_STEWARDS - 1;
    assert_int_equal(ask_answer(last), GATE_EAGAIN);
    assert_false(is_readable(last));
    assert_int_equal(write(asked.last, &(uint64_t){1}, 8), 8);
    assert_true(is_readable(last));
    assert_false(is_readable(FIRST_FREE));
    assert_int_equal(ask_answer(last), GATE_OK);
    assert_int_equal(reply.values[0], 200);
    assert_int_equal(reply.len, 100);
    asked.answer_size = 101; /* more than there is room for */
    assert_int_equal(ask_answer(last), GATE_EIO);
    assert_int_equal(ask_answer(RO), GATE_EBADF);
    /* What it is not. */
    assert_int_equal(ask((struct gate_request){.op = GATE_READ, .handle = last, .room = 8}), GATE_EBADF);
    assert_int_equal(ask((struct gate_request){.op = GATE_RECV, .handle = last, .room = 8}), GATE_EBADF);
    assert_int_equal(ask((struct gate_request){.op = GATE_PREAD, .handle = last, .room = 8}), GATE_EBADF);
    for (uint32_t i = 0; i < SERVER_STEWARDS; i++)
        assert_int_equal(ask((struct gate_request){.op = GATE_CLOSE, .handle = FIRST_FREE + i}), GATE_OK);
    assert_int_equal(asked.under_way, 0);
    memcpy(t.block->data, "a\0b", 3);
    assert_int_equal(ask((struct gate_request){.op = GATE_STEWARD, .len = 3, .args = {FIRST_FREE, 0, 3}}), GATE_EINVAL);
    asked.fails = true;
    assert_int_equal(ask_steward(FIRST_FREE, "https://x", 0), GATE_EIO);
    asked.fails = false;
    assert_int_equal(asked.under_way, 0);
    t.server->services = before;
}

static void test_hostile(void **state) {
    (void)state;
    const char *count = getenv("DONJON_REQUESTS");
    uint64_t want = count ? strtoull(count, NULL, 10) : 100000, done = 0;
    struct dice d = {99};
    asked.answer_size = 100;
    asked.last = -1;
    t.server->services = &services;
    for (uint64_t i = 0; i < want; i++) {
        struct gate_request q = any_request(&d);
        if (q.op == GATE_EXIT) continue;
        hurry(&q);
        bool formed = gate_request_check(&q) == NULL;
        assert_true(server_request(t.server, &q, &reply, t.block->data));
        if (formed) assert_null(gate_reply_check(&q, &reply));
        if (!formed) assert_int_equal(reply.error, GATE_EINVAL);
        done += formed && reply.error == GATE_OK;
        if (i % 1000 == 0)
            for (uint32_t h = FIRST_FREE; h < FIRST_FREE + 8; h++)
                ask_close(h);
    }
    for (uint32_t h = FIRST_FREE; h < FIRST_FREE + 8; h++)
        ask_close(h);
    assert_int_equal(asked.under_way, 0);
    print_message("%llu of %llu requests were done\n", (unsigned long long)done, (unsigned long long)want);
    assert_true(holds("secret", "SECRET"));
    assert_true(holds("ro/inside", "inside"));
    int outside = 0;
    FILE *f = popen("ls -A \"$DONJON_ROOT\" | grep -cv '^secret$\\|^rw$\\|^ro$'", "r");
    assert_true(f && fscanf(f, "%d", &outside) == 1);
    pclose(f);
    assert_int_equal(outside, 0);
}

/* What the hostile run may change is only in rw/: it comes last, and starts from a fresh tree. */
static int fresh(void **state) {
    teardown(state);
    if (setup(state) != 0) return -1;
    return setenv("DONJON_ROOT", t.root, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_escapes),   cmocka_unit_test(test_escapes_by_name),
        cmocka_unit_test(test_last_link), cmocka_unit_test(test_read_only),
        cmocka_unit_test(test_handles),   cmocka_unit_test(test_files),
        cmocka_unit_test(test_readdir),   cmocka_unit_test(test_race_link),
        cmocka_unit_test(test_race_move), cmocka_unit_test(test_streams),
        cmocka_unit_test(test_steward),   cmocka_unit_test_setup(test_hostile, fresh),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
