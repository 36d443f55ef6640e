/* Runs one WASI program in this process, without loader, gate and seal: engine, src/wasi and memfs only, so that
 * sanitisers see all of it. Host directories are copied into the in-memory file system before the start; nothing is
 * written back.
 *
 *     wasi_run [--dir HOST[::GUEST]]... [--env K=V]... [--trace] app.wasm [ARGS...] */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include "wasi/link.h"
#include "wasi/memfs.h"

static _Noreturn void die(const char *what, const char *why) {
    fprintf(stderr, "wasi_run: %s: %s\n", what, why);
    exit(125);
}

/* ---- Callbacks ---- */

static void *host_realloc(void *ctx, void *block, size_t size) {
    (void)ctx;
    if (size) return realloc(block, size);
    free(block);
    return NULL;
}

static const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID};

static wasi_errno host_time(void *ctx, enum wasi_clock id, uint64_t *ns) {
    (void)ctx;
    struct timespec t;
    clock_gettime(clocks[id], &t);
    *ns = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    return WASI_SUCCESS;
}

static wasi_errno host_resolution(void *ctx, enum wasi_clock id, uint64_t *ns) {
    (void)ctx;
    struct timespec t;
    clock_getres(clocks[id], &t);
    *ns = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    return WASI_SUCCESS;
}

static wasi_errno host_random(void *ctx, void *buf, size_t len) {
    (void)ctx;
    for (size_t done = 0; done < len;) {
        ssize_t n = getrandom((char *)buf + done, len - done, 0);
        if (n < 0) return WASI_EIO;
        done += (size_t)n;
    }
    return WASI_SUCCESS;
}

/* Tokens are host descriptors plus one. */
static wasi_errno host_poll(void *ctx, struct wasi_poll *items, size_t n, uint64_t timeout) {
    (void)ctx;
    struct pollfd *fds = calloc(n + 1, sizeof *fds);
    if (!fds) return WASI_ENOMEM;
    for (size_t i = 0; i < n; i++)
        fds[i] = (struct pollfd){.fd = (int)items[i].token - 1,
                                 .events = items[i].interest == WASI_POLL_READ ? POLLIN : POLLOUT};
    struct timespec t = {(time_t)(timeout / 1000000000u), (long)(timeout % 1000000000u)};
    int r = ppoll(fds, n, timeout == WASI_FOREVER ? NULL : &t, NULL);
    for (size_t i = 0; r > 0 && i < n; i++) {
        items[i].ready = fds[i].revents != 0;
        items[i].hangup = fds[i].revents & POLLHUP;
        items[i].nbytes = 1;
    }
    free(fds);
    return WASI_SUCCESS;
}

static void host_trace(void *ctx, const char *line) {
    (void)ctx;
    fprintf(stderr, "%s\n", line);
}

/* ---- The three standard streams ---- */

struct stream {
    struct wasi_file file;
    int fd;
};

static void stream_close(struct wasi_file *f) {
    free(f);
}

static wasi_errno stream_errno(void) {
    return errno == EAGAIN ? WASI_EAGAIN : errno == EPIPE ? WASI_EPIPE : errno == EBADF ? WASI_EBADF : WASI_EIO;
}
static wasi_errno stream_read(struct wasi_file *f, const struct wasi_iov *iov, uint32_t n, uint16_t flags,
                              size_t *done) {
    (void)n, (void)flags;
    ssize_t r = read(((struct stream *)f)->fd, iov[0].buf, iov[0].len);
    if (r < 0) return stream_errno();
    *done = (size_t)r;
    return WASI_SUCCESS;
}
static wasi_errno stream_write(struct wasi_file *f, const struct wasi_iov *iov, uint32_t n, uint16_t flags,
                               size_t *done) {
    (void)flags;
    ssize_t r = writev(((struct stream *)f)->fd, (const struct iovec *)iov, (int)n);
    if (r < 0) return stream_errno();
    *done = (size_t)r;
    return WASI_SUCCESS;
}
static wasi_errno stream_poll(struct wasi_file *f, struct wasi_poll *out) {
    out->token = (uint64_t)((struct stream *)f)->fd + 1;
    return WASI_SUCCESS;
}

static struct wasi_file *stream_new(int fd) {
    static const struct wasi_file_ops ops = {
        .name = "stdio", .close = stream_close, .read = stream_read, .write = stream_write, .poll = stream_poll};
    struct stream *s = malloc(sizeof *s);
    if (!s) die("stdio", "out of memory");
    wasi_file_init(&s->file, &ops, isatty(fd) ? WASI_FILETYPE_CHARACTER_DEVICE : WASI_FILETYPE_UNKNOWN);
    s->fd = fd;
    return &s->file;
}

/* ---- A host directory, copied ---- */

static void need(wasi_errno e, const char *path) {
    if (e) die(path, wasi_errno_name(e));
}

static void copy_file(const char *host, struct wasi_file *dir, struct wasi_path name) {
    struct wasi_open how = {.oflags = WASI_OFLAG_CREAT, .access = WASI_ACCESS_WRITE};
    struct wasi_file *f;
    need(dir->ops->open(dir, name, &how, &f), host);
    int fd = open(host, O_RDONLY);
    if (fd < 0) die(host, strerror(errno));
    static char buf[1 << 16];
    uint64_t at = 0;
    for (ssize_t n; (n = read(fd, buf, sizeof buf)) > 0;) {
        size_t done;
        need(f->ops->write_at(f, &(struct wasi_iov){buf, (size_t)n}, 1, &at, 0, &done), host);
        if (done != (size_t)n) die(host, "does not fit");
    }
    close(fd);
    wasi_file_unref(f);
}

static void copy_tree(const char *host, struct wasi_file *dir);

static void copy_entry(const char *host, struct wasi_file *dir, struct wasi_path name) {
    struct stat st;
    if (lstat(host, &st)) die(host, strerror(errno));
    if (S_ISDIR(st.st_mode)) {
        struct wasi_file *sub;
        need(dir->ops->create_directory(dir, name), host);
        need(dir->ops->open(dir, name, &(struct wasi_open){.oflags = WASI_OFLAG_DIRECTORY}, &sub), host);
        copy_tree(host, sub);
        wasi_file_unref(sub);
    } else if (S_ISLNK(st.st_mode)) {
        char target[4096];
        ssize_t n = readlink(host, target, sizeof target);
        if (n > 0) need(dir->ops->symlink(dir, (struct wasi_path){target, (uint32_t)n}, name), host);
    } else if (S_ISREG(st.st_mode)) {
        copy_file(host, dir, name);
    }
}

static void copy_tree(const char *host, struct wasi_file *dir) {
    DIR *d = opendir(host);
    if (!d) die(host, strerror(errno));
    for (struct dirent *e; (e = readdir(d));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        char *path;
        if (asprintf(&path, "%s/%s", host, e->d_name) < 0) die(host, "out of memory");
        copy_entry(path, dir, (struct wasi_path){e->d_name, (uint32_t)strlen(e->d_name)});
        free(path);
    }
    closedir(d);
}

static void add_dir(struct wasi *w, const struct wasi_host *host, char *spec) {
    char *guest = strstr(spec, "::");
    if (guest) *guest = 0, guest += 2;
    struct memfs *fs = memfs_new(host, NULL);
    struct wasi_file *root = fs ? memfs_root(fs) : NULL;
    if (!root) die(spec, "out of memory");
    memfs_release(fs);
    copy_tree(spec, root);
    need(wasi_add_preopen(w, root, guest ? guest : spec, WASI_RIGHTS_DIR, WASI_RIGHTS_DIR | WASI_RIGHTS_FILE, NULL),
         spec);
}

/* ---- The program ---- */

static wasm_module_t *load(wasm_store_t *store, const char *path) {
    FILE *f = fopen(path, "rb");
    struct stat st;
    if (!f || fstat(fileno(f), &st)) die(path, strerror(errno));
    char *bytes = malloc((size_t)st.st_size + 1);
    if (!bytes || fread(bytes, 1, (size_t)st.st_size, f) != (size_t)st.st_size) die(path, "cannot be read");
    fclose(f);
    struct donjon_module_error e;
    wasm_module_t *module = donjon_module_new(store, bytes, (size_t)st.st_size, &e);
    if (!module) die(path, e.message);
    free(bytes);
    return module;
}

static void print_line(void *ctx, const char *text) {
    (void)ctx;
    fprintf(stderr, "%s\n", text);
}

static int outcome(struct wasi *w, wasm_trap_t *trap) {
    uint32_t code = 0;
    if (wasi_exited(w, &code)) return (int)(code & 0xff);
    if (!trap) return 0;
    donjon_trap_print(trap, print_line, NULL);
    return 134;
}

static int run(struct wasi *w, const char *path) {
    wasm_engine_t *engine = wasm_engine_new();
    wasm_store_t *store = donjon_store_new(engine, &(struct donjon_limits){0});
    wasm_module_t *module = load(store, path);
    donjon_linker_t *linker = donjon_linker_new(store);
    char err[256];
    if (!wasi_link(w, linker, module, err, sizeof err)) die(path, err);
    wasm_trap_t *trap = NULL;
    wasm_instance_t *instance = donjon_linker_instantiate(linker, module, &trap);
    if (instance) {
        wasm_extern_t *start = donjon_instance_export(instance, "_start");
        wasm_func_t *f = start ? wasm_extern_as_func(start) : NULL;
        if (!f) die(path, "no function _start");
        donjon_slot_t none[1] = {{0}};
        trap = donjon_func_call(f, none);
        wasm_extern_delete(start);
        wasm_instance_delete(instance);
    }
    int code = outcome(w, trap);
    if (trap) wasm_trap_delete(trap);
    donjon_linker_delete(linker);
    wasm_module_delete(module);
    wasm_store_delete(store);
    wasm_engine_delete(engine);
    return code;
}

int main(int argc, char **argv) {
    struct wasi_host host = {.realloc = host_realloc,
                             .clock_time = host_time,
                             .clock_resolution = host_resolution,
                             .random = host_random,
                             .poll = host_poll};
    int i = 1;
    for (int k = 1; k < argc && !strncmp(argv[k], "--", 2); k++)
        if (!strcmp(argv[k], "--trace")) host.trace = host_trace;
    struct wasi *w = wasi_new(&host);
    for (int fd = 0; fd < 3; fd++)
        need(wasi_add_file(w, (uint32_t)fd, stream_new(fd),
                           WASI_RIGHTS_STREAM & ~(uint64_t)(fd ? WASI_RIGHT_FD_READ : WASI_RIGHT_FD_WRITE), 0, 0),
             "stdio");
    for (; i < argc && !strncmp(argv[i], "--", 2); i++) {
        if (!strcmp(argv[i], "--trace")) continue;
        if (i + 1 == argc) die(argv[i], "needs a value");
        if (!strcmp(argv[i], "--dir"))
            add_dir(w, &host, argv[++i]);
        else if (!strcmp(argv[i], "--env"))
            i++, need(wasi_add_env(w, argv[i], strlen(argv[i])), argv[i]);
        else
            die(argv[i], "unknown option");
    }
    if (i == argc) die("usage", "wasi_run [--dir HOST[::GUEST]]... [--env K=V]... [--trace] app.wasm [ARGS...]");
    for (int k = i; k < argc; k++)
        need(wasi_add_arg(w, argv[k], strlen(argv[k])), argv[k]);
    int code = run(w, argv[i]);
    wasi_delete(w);
    return code;
}
