/* Sequences of WASI calls on a program whose one preopen is a directory inside a larger file system: whatever it does,
 * it stays inside, memory is accounted for to the byte, and the tree is a tree. */
#include <stdlib.h>
#include "wasi/context.h"
#include "wasi/memfs.c" /* for its insides */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MEMORY = 1 << 16, PATHS = 0x8000, VECTORS = 0x9000, CALLS_MAX = 3000 };

static void need(bool ok) {
    if (!ok) abort();
}

/* ---- The world ---- */

struct world {
    uint64_t now;
    size_t blocks;
};

static void *world_realloc(void *ctx, void *block, size_t size) {
    struct world *w = ctx;
    if (size == 0) {
        w->blocks -= block != NULL;
        free(block);
        return NULL;
    }
    void *p = realloc(block, size);
    need(p != NULL);
    w->blocks += block == NULL;
    return p;
}
static wasi_errno world_clock(void *ctx, enum wasi_clock id, uint64_t *ns) {
    (void)id;
    *ns = ((struct world *)ctx)->now++;
    return WASI_SUCCESS;
}
static wasi_errno world_random(void *ctx, void *buf, size_t len) {
    (void)ctx;
    memset(buf, 4, len);
    return WASI_SUCCESS;
}
static wasi_errno world_poll(void *ctx, struct wasi_poll *items, size_t n, uint64_t timeout) {
    (void)items;
    need(n == 0); /* nothing here can block but a clock */
    if (timeout == WASI_FOREVER) return WASI_INTERRUPTED;
    ((struct world *)ctx)->now += timeout;
    return WASI_SUCCESS;
}
static void world_trace(void *ctx, const char *line) {
    (void)ctx;
    need(strlen(line) < WASI_TRACE_MAX);
}

/* ---- What must always hold ---- */

static uint64_t dir_bytes(const struct dir *d) {
    uint64_t n = d->capacity * sizeof *d->entries + d->index_size * sizeof *d->index;
    for (uint32_t i = 0; i < d->n; i++)
        if (d->entries[i].node) n += d->entries[i].name_len;
    return n;
}

static uint64_t file_bytes(const struct content *c) {
    uint64_t n = c->n_chunks * sizeof *c->chunks;
    for (uint64_t i = 0; i < c->n_chunks; i++)
        if (c->chunks[i]) n += chunk_bytes(c, i);
    return n;
}

static void check_dir(const struct inode *node) {
    const struct dir *d = &node->dir;
    uint32_t live = 0, dirs = 0;
    uint64_t last = 0;
    for (uint32_t i = 0; i < d->n; i++) {
        struct entry *e = &d->entries[i];
        if (!e->node) continue;
        live++;
        need(e->cookie >= FIRST_COOKIE && (live == 1 || e->cookie > last) && e->cookie < d->next_cookie);
        last = e->cookie;
        need(e->name_len >= 1 && e->name_len <= WASI_NAME_MAX && !memchr(e->name, '/', e->name_len));
        need(dir_find(d, (struct wasi_path){e->name, e->name_len}) == e);
        need(e->node->nlink > 0);
        if (is_dir(e->node)) {
            dirs++;
            need(e->node->dir.parent == node);
        }
    }
    need(live == d->live && d->n <= d->capacity && d->index_size >= d->capacity * 2);
    need(node->nlink == 0 ? live == 0 : node->nlink == 2 + dirs);
}

static uint32_t names_of(const struct memfs *fs, const struct inode *what) {
    uint32_t n = 0;
    for (const struct inode *i = fs->all; i; i = i->next) {
        if (!is_dir(i)) continue;
        for (uint32_t k = 0; k < i->dir.n; k++)
            n += i->dir.entries[k].node == what;
    }
    return n;
}

static void check(const struct memfs *fs) {
    uint64_t bytes = 0;
    uint32_t inodes = 0;
    for (const struct inode *i = fs->all; i; i = i->next) {
        inodes++;
        bytes += sizeof *i;
        need(i->nlink || i->opens);
        if (is_dir(i)) {
            check_dir(i);
            bytes += dir_bytes(&i->dir);
            need(depth_of(i) <= fs->limits.depth);
        } else {
            need(names_of(fs, i) == i->nlink);
            bytes += is_link(i) ? i->size : file_bytes(&i->file);
        }
    }
    need(inodes == fs->inodes && bytes == fs->bytes && bytes <= fs->limits.bytes && inodes <= fs->limits.inodes);
}

/* ---- Calls from bytes ---- */

struct input {
    const uint8_t *p;
    size_t left;
};
static uint8_t take(struct input *in) {
    return in->left ? in->left--, *in->p++ : 0;
}
static uint64_t take_n(struct input *in, int n) {
    uint64_t v = 0;
    while (n--)
        v = v << 8 | take(in);
    return v;
}

/* Mostly short paths from a small set of components, so that they meet; sometimes any bytes. */
static uint32_t make_path(struct input *in, uint8_t *at) {
    static const char *const parts[16] = {"a",     "b",   "c",   "d",   "..",           ".",  "/", "a/b", "", "../",
                                          "/../a", "b/.", "c//", "e/f", "../../secret", "dir"};
    uint8_t n = take(in);
    uint32_t len = 0;
    if (n >= 0xf8) {
        for (uint32_t want = take(in); len < want; len++)
            at[len] = take(in);
        return len;
    }
    for (n %= 4; n != 0xff; n--) {
        const char *part = parts[take(in) & 15];
        if (len && part[0] != '/') at[len++] = '/';
        memcpy(at + len, part, strlen(part));
        len += (uint32_t)strlen(part);
    }
    return len;
}

static void make_args(struct input *in, const char *params, uint8_t *memory, uint64_t *args) {
    uint32_t path = PATHS;
    for (; *params; params++) {
        switch (*params) {
        case 'f': *args++ = take(in) % 20; break;
        case 'I':
            *args = take(in);
            if (*args >= 0xf0)
                *args = take_n(in, 8);
            else if (*args >= 0xe0)
                *args = WASI_RIGHTS_ALL;
            else if (*args >= 0xc0)
                *args = take_n(in, 3);
            args++;
            break;
        case 's':
            args[1] = make_path(in, memory + path);
            args[0] = path;
            args += 2;
            path += 0x800;
            break;
        case 'v': {
            uint32_t n = take(in) % 4;
            for (uint32_t i = 0; i < n; i++) {
                uint32_t ptr = (uint32_t)take_n(in, 2), len = (uint32_t)take_n(in, 2);
                store32(memory + VECTORS + i * 8, ptr);
                store32(memory + VECTORS + i * 8 + 4, len);
            }
            *args++ = VECTORS;
            *args++ = n;
            break;
        }
        case 'i':
            *args = take(in);
            if (*args >= 0xf0) *args = take_n(in, 4);
            args++;
            break;
        default: *args++ = take_n(in, 2); break;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct world world = {.now = 1000};
    struct wasi_host host = {&world,     world_realloc, world_clock, world_clock, world_random,
                             world_poll, NULL,          NULL,        world_trace};
    struct memfs *fs = memfs_new(&host, &(struct memfs_limits){.bytes = 3 << 20, .inodes = 60, .depth = 6});
    struct wasi_file *root = memfs_root(fs), *jail, *secret;
    const struct wasi_path secret_path = {"secret", 6}, jail_path = {"jail", 4};
    need(!root->ops->create_directory(root, jail_path));
    need(!root->ops->open(root, jail_path, &(struct wasi_open){.oflags = WASI_OFLAG_DIRECTORY}, &jail));
    need(!root->ops->open(root, secret_path, &(struct wasi_open){.oflags = WASI_OFLAG_CREAT}, &secret));
    struct wasi_filestat before, after;
    need(!secret->ops->stat(secret, &before));

    struct wasi *w = wasi_new(&host);
    need(!wasi_add_arg(w, "app", 3) && !wasi_add_file(w, 1, wasi_file_null(), WASI_RIGHTS_ALL, 0, 0));
    need(!wasi_add_preopen(w, jail, "/", WASI_RIGHTS_DIR, WASI_RIGHTS_ALL, NULL));
    uint8_t *memory = calloc(1, MEMORY);
    struct input in = {data, size};
    for (int calls = 0; in.left && calls < CALLS_MAX && !wasi_exited(w, NULL) && !wasi_interrupted(w); calls++) {
        uint8_t op = take(&in);
        enum wasi_abi abi = op & 0x80 ? WASI_ABI_UNSTABLE : WASI_ABI_PREVIEW1;
        uint64_t args[WASI_PARAMS_MAX];
        uint32_t result;
        uint32_t index = (op & 0x7f) % WASI_FUNCTIONS;
        make_args(&in, wasi_functions[index].params, memory, args);
        wasi_call(w, abi, index, memory, MEMORY, args, &result);
        if (calls % 16 == 0) check(fs);
    }
    check(fs);
    need(!secret->ops->stat(secret, &after) && before.nlink == after.nlink && before.size == after.size);
    need(before.atim == after.atim && before.mtim == after.mtim && before.ctim == after.ctim);
    need(fs->root->dir.live == 2 && dir_find(&fs->root->dir, jail_path) && dir_find(&fs->root->dir, secret_path));

    wasi_delete(w);
    wasi_file_unref(secret);
    wasi_file_unref(root);
    memfs_release(fs);
    need(world.blocks == 0);
    free(memory);
    return 0;
}
