/* A generated module in Node's engine: one process for all of them, modules and outcomes over its pipes. */
#include "gen.h"
#include "outcome.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef NODE_SCRIPT
#error "NODE_SCRIPT: where node_engine.mjs is"
#endif

static struct {
    int to, from;
    pid_t pid;
    bool running;
    unsigned features;
} node;

static bool write_all(const void *p, size_t n) {
    for (const char *at = p; n;) {
        ssize_t w = write(node.to, at, n);
        if (w < 0 && errno == EINTR) continue; /* libFuzzer's own alarm */
        if (w <= 0) return false;
        at += w, n -= (size_t)w;
    }
    return true;
}
static bool read_all(void *p, size_t n) {
    for (char *at = p; n;) {
        ssize_t r = read(node.from, at, n);
        if (r < 0 && errno == EINTR) continue;
        if (r <= 0) return false;
        at += r, n -= (size_t)r;
    }
    return true;
}

bool node_start(unsigned *features) {
    extern char **environ;
    const char *program = getenv("DONJON_NODE");
    int in[2], out[2];
    *features = node.features;
    if (node.running) return true;
    if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC)) return false;
    char *argv[] = {(char *)(program ? program : "node"), "--expose-gc", "--no-warnings", NODE_SCRIPT, NULL};
    posix_spawn_file_actions_t fa;
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_adddup2(&fa, in[0], 0);
    posix_spawn_file_actions_adddup2(&fa, out[1], 1);
    int e = posix_spawnp(&node.pid, argv[0], &fa, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&fa);
    close(in[0]), close(out[1]);
    if (e) return false;
    signal(SIGPIPE, SIG_IGN);
    node.to = in[1], node.from = out[0];
    node.running = write_all(gen_helper, sizeof gen_helper) && read_all(&node.features, 4);
    *features = node.features;
    return node.running;
}

/* First gen_helper goes there and the features come back, a u32. Request: u32 size (bit 31: only validate), module.
 * Reply: u32 number of records, records, u32 size, error text. */
static bool request(const uint8_t *module, size_t size, uint32_t flag, struct outcome *o) {
    uint32_t n = (uint32_t)size | flag, text;
    memset(o, 0, sizeof *o);
    if (!write_all(&n, 4) || !write_all(module, size) || !read_all(&o->n, 4) || o->n > RECORDS_MAX) return false;
    if (!read_all(o->records, o->n * sizeof *o->records) || !read_all(&text, 4)) return false;
    return text < sizeof o->error && read_all(o->error, text);
}

/* After thousands of modules a Node may be out of memory: what it dies of counts only if a fresh one dies of it, too.
 */
static bool ask(const uint8_t *module, size_t size, uint32_t flag, struct outcome *o) {
    unsigned features;
    if (request(module, size, flag, o)) return true;
    close(node.to), close(node.from);
    waitpid(node.pid, NULL, 0);
    node.running = false;
    return node_start(&features) && request(module, size, flag, o);
}

bool outcome_node(const uint8_t *module, size_t size, struct outcome *o) {
    return ask(module, size, 0, o);
}
bool outcome_node_valid(const uint8_t *module, size_t size, struct outcome *o) {
    return ask(module, size, 1u << 31, o);
}
