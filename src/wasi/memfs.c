/* The in-memory file system. One thread, no operating system: memory comes through host->realloc and is counted. */
#include "memfs.h"
#include "path.h"
#include <string.h>

enum {
    CHUNK_SHIFT = 16, /* file contents: 64 KiB pieces; the first one of a file grows by doubling up to that */
    CHUNK_SIZE = 1 << CHUNK_SHIFT,
    FIRST_MIN = 256,
    FIRST_COOKIE = 2, /* readdir: 0 is `.`, 1 is `..` */
};
#define FILE_SIZE_MAX (UINT64_C(1) << 40) /* 1 TiB; a table of chunks for it would be 128 MiB, and counts */

struct entry {
    uint64_t cookie;    /* grows with every entry ever made in the directory: the array is sorted by it */
    struct inode *node; /* NULL: removed, until the array is compacted */
    char *name;
    uint32_t name_len, hash;
};

struct dir {
    struct inode *parent; /* itself for the root */
    struct entry *entries;
    uint32_t n, capacity, live; /* n counts removed entries too */
    uint32_t *index;            /* open addressing: entry number + 1, 0 free; a power of two slots */
    uint32_t index_size;
    uint64_t next_cookie;
};

struct content {
    uint8_t **chunks; /* NULL: a hole */
    uint64_t n_chunks;
    uint32_t first_size; /* bytes behind chunks[0] */
};

struct inode {
    uint64_t ino;
    enum wasi_filetype type; /* regular file, directory or symbolic link */
    uint32_t nlink;          /* 0: has no name any more */
    uint32_t opens;
    uint64_t size, atim, mtim, ctim;
    struct inode *prev, *next; /* all of the file system, for its end */
    union {
        struct content file;
        struct dir dir;
        char *target; /* `size` bytes */
    };
};

struct memfs {
    struct wasi_host host;
    struct memfs_limits limits;
    uint32_t refs; /* the owner's, and one per open file */
    uint64_t bytes;
    uint32_t inodes;
    uint64_t next_ino;
    struct inode *root, *all;
};

struct memfs_file {
    struct wasi_file file;
    struct memfs *fs;
    struct inode *node;
    uint8_t access;
};

static const struct wasi_file_ops file_ops, dir_ops;

/* ---- Memory ---- */

/* As realloc, with the limit. Sizes are what is counted. */
static void *fs_realloc(struct memfs *fs, void *block, uint64_t old_size, uint64_t size) {
    if (size > old_size && size - old_size > fs->limits.bytes - fs->bytes) return NULL;
    if (size > SIZE_MAX) return NULL;
    void *p = fs->host.realloc(fs->host.ctx, block, (size_t)size);
    if (!p && size) return NULL;
    fs->bytes = fs->bytes - old_size + size;
    return p;
}

static void fs_free(struct memfs *fs, void *block, uint64_t size) {
    if (block) fs_realloc(fs, block, size, 0);
}

static uint64_t now(struct memfs *fs) {
    uint64_t ns = 0;
    fs->host.clock_time(fs->host.ctx, WASI_CLOCK_REALTIME, &ns);
    return ns;
}

/* ---- Contents ---- */

static uint64_t chunk_bytes(const struct content *c, uint64_t i) {
    return i == 0 ? c->first_size : CHUNK_SIZE;
}

/* Makes [at, at + len) of chunk `i` writable; len > 0, within the chunk. */
static uint8_t *chunk_for_write(struct memfs *fs, struct content *c, uint64_t i, uint32_t at, uint32_t len) {
    if (i >= c->n_chunks) {
        uint64_t n = c->n_chunks * 2 > i + 1 ? c->n_chunks * 2 : i + 1;
        uint8_t **p = fs_realloc(fs, c->chunks, c->n_chunks * sizeof *p, n * sizeof *p);
        if (!p && n > i + 1) { /* near the limit: no more than needed */
            n = i + 1;
            p = fs_realloc(fs, c->chunks, c->n_chunks * sizeof *p, n * sizeof *p);
        }
        if (!p) return NULL;
        memset(p + c->n_chunks, 0, (size_t)(n - c->n_chunks) * sizeof *p);
        c->chunks = p;
        c->n_chunks = n;
    }
    uint32_t have = c->chunks[i] ? (uint32_t)chunk_bytes(c, i) : 0, need = CHUNK_SIZE;
    if (i == 0) {
        need = c->first_size ? c->first_size : FIRST_MIN;
        while (need < at + len)
            need *= 2;
    }
    if (have >= need) return c->chunks[i];
    uint8_t *p = fs_realloc(fs, c->chunks[i], have, need);
    if (!p) return NULL;
    memset(p + have, 0, need - have);
    c->chunks[i] = p;
    if (i == 0) c->first_size = need;
    return p;
}

static void content_read(const struct content *c, uint64_t offset, uint8_t *dst, size_t len) {
    while (len) {
        uint64_t i = offset >> CHUNK_SHIFT;
        uint32_t at = offset & (CHUNK_SIZE - 1);
        size_t n = CHUNK_SIZE - at < len ? CHUNK_SIZE - at : len;
        size_t there = 0;
        if (i < c->n_chunks && c->chunks[i] && at < chunk_bytes(c, i)) {
            there = (size_t)chunk_bytes(c, i) - at < n ? (size_t)chunk_bytes(c, i) - at : n;
            memcpy(dst, c->chunks[i] + at, there);
        }
        memset(dst + there, 0, n - there);
        dst += n, offset += n, len -= n;
    }
}

/* Forgets everything from `size` on, so that a later growth shows zeros. */
static void content_cut(struct memfs *fs, struct content *c, uint64_t size) {
    uint64_t keep = (size + CHUNK_SIZE - 1) >> CHUNK_SHIFT;
    for (uint64_t i = keep; i < c->n_chunks; i++) {
        fs_free(fs, c->chunks[i], chunk_bytes(c, i));
        c->chunks[i] = NULL;
        if (i == 0) c->first_size = 0;
    }
    uint32_t at = size & (CHUNK_SIZE - 1);
    if (at && keep <= c->n_chunks && c->chunks[keep - 1] && at < chunk_bytes(c, keep - 1))
        memset(c->chunks[keep - 1] + at, 0, chunk_bytes(c, keep - 1) - at);
    if (keep == 0 && c->chunks) {
        fs_free(fs, c->chunks, c->n_chunks * sizeof *c->chunks);
        c->chunks = NULL;
        c->n_chunks = 0;
    }
}

/* ---- Directories as tables ---- */

static uint32_t hash_name(struct wasi_path name) { /* FNV-1a, 32 bits */
    uint32_t h = 2166136261u;
    for (uint32_t i = 0; i < name.len; i++)
        h = (h ^ (uint8_t)name.bytes[i]) * 16777619u;
    return h;
}

static struct entry *dir_find(const struct dir *d, struct wasi_path name) {
    if (!d->index_size) return NULL;
    uint32_t h = hash_name(name), mask = d->index_size - 1;
    for (uint32_t i = h & mask; d->index[i]; i = (i + 1) & mask) {
        struct entry *e = &d->entries[d->index[i] - 1];
        if (e->node && e->hash == h && e->name_len == name.len && memcmp(e->name, name.bytes, name.len) == 0) return e;
    }
    return NULL;
}

static void index_entry(struct dir *d, uint32_t i) {
    uint32_t mask = d->index_size - 1, at = d->entries[i].hash & mask;
    while (d->index[at])
        at = (at + 1) & mask;
    d->index[at] = i + 1;
}

/* Drops removed entries from the array, in order, and rebuilds the index. Needs no memory. */
static void dir_compact(struct dir *d) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < d->n; i++)
        if (d->entries[i].node) d->entries[n++] = d->entries[i];
    d->n = n;
    memset(d->index, 0, d->index_size * sizeof *d->index);
    for (uint32_t i = 0; i < n; i++)
        index_entry(d, i);
}

/* Room for one more entry. The index has twice as many slots as the array: it is never more than half full. */
static bool dir_reserve(struct memfs *fs, struct dir *d) {
    if (d->n < d->capacity) return true;
    if (d->n && d->live <= d->n / 2) {
        dir_compact(d);
        return true;
    }
    uint32_t cap = d->capacity ? d->capacity * 2 : 8, slots = cap * 2;
    uint32_t *index = fs_realloc(fs, NULL, 0, slots * sizeof *index);
    if (!index) return false;
    struct entry *entries = fs_realloc(fs, d->entries, d->capacity * sizeof *entries, cap * sizeof *entries);
    if (!entries) {
        fs_free(fs, index, slots * sizeof *index);
        return false;
    }
    fs_free(fs, d->index, d->index_size * sizeof *index);
    d->entries = entries;
    d->capacity = cap;
    d->index = index;
    d->index_size = slots;
    dir_compact(d);
    return true;
}

/* Adds a name that is not there yet. Does not touch link counts. */
static bool dir_add(struct memfs *fs, struct dir *d, struct wasi_path name, struct inode *node) {
    if (!dir_reserve(fs, d)) return false;
    char *copy = fs_realloc(fs, NULL, 0, name.len);
    if (!copy) return false;
    memcpy(copy, name.bytes, name.len);
    d->entries[d->n] = (struct entry){d->next_cookie++, node, copy, name.len, hash_name(name)};
    index_entry(d, d->n++);
    d->live++;
    return true;
}

static void dir_remove(struct memfs *fs, struct dir *d, struct entry *e) {
    fs_free(fs, e->name, e->name_len);
    e->name = NULL;
    e->node = NULL;
    if (--d->live == 0) { /* empty again: the common case of a scratch directory costs nothing */
        d->n = 0;
        memset(d->index, 0, d->index_size * sizeof *d->index);
    }
}

/* ---- Inodes ---- */

static struct inode *inode_new(struct memfs *fs, enum wasi_filetype type) {
    if (fs->inodes >= fs->limits.inodes) return NULL;
    struct inode *node = fs_realloc(fs, NULL, 0, sizeof *node);
    if (!node) return NULL;
    uint64_t t = now(fs);
    *node = (struct inode){.ino = fs->next_ino++, .type = type, .atim = t, .mtim = t, .ctim = t};
    node->next = fs->all;
    if (fs->all) fs->all->prev = node;
    fs->all = node;
    fs->inodes++;
    return node;
}

static void inode_free(struct memfs *fs, struct inode *node) {
    switch (node->type) {
    case WASI_FILETYPE_DIRECTORY: {
        struct dir *d = &node->dir;
        for (uint32_t i = 0; i < d->n; i++)
            if (d->entries[i].node) fs_free(fs, d->entries[i].name, d->entries[i].name_len);
        fs_free(fs, d->entries, d->capacity * sizeof *d->entries);
        fs_free(fs, d->index, d->index_size * sizeof *d->index);
        break;
    }
    case WASI_FILETYPE_SYMBOLIC_LINK: fs_free(fs, node->target, node->size); break;
    default: content_cut(fs, &node->file, 0); break;
    }
    if (node->prev)
        node->prev->next = node->next;
    else
        fs->all = node->next;
    if (node->next) node->next->prev = node->prev;
    fs->inodes--;
    fs_free(fs, node, sizeof *node);
}

static void inode_drop(struct memfs *fs, struct inode *node) {
    if (node->nlink == 0 && node->opens == 0) inode_free(fs, node);
}

static bool is_dir(const struct inode *node) {
    return node->type == WASI_FILETYPE_DIRECTORY;
}
static bool is_link(const struct inode *node) {
    return node->type == WASI_FILETYPE_SYMBOLIC_LINK;
}

static void changed(struct memfs *fs, struct inode *node) {
    node->mtim = node->ctim = now(fs);
}

/* Takes the name `e` away from `dir`; the inode goes with its last name unless it is open. */
static void unlink_entry(struct memfs *fs, struct inode *dir, struct entry *e) {
    struct inode *node = e->node;
    dir_remove(fs, &dir->dir, e);
    changed(fs, dir);
    node->ctim = dir->ctim;
    if (is_dir(node)) {
        node->nlink = 0;
        dir->nlink--;
    } else {
        node->nlink--;
    }
    inode_drop(fs, node);
}

static uint32_t depth_of(const struct inode *dir) {
    uint32_t n = 0;
    for (; dir->dir.parent != dir; dir = dir->dir.parent)
        n++;
    return n;
}

/* Levels of directories below `dir`; recursion is bounded by the file system's depth. */
static uint32_t height_of(const struct inode *dir) {
    uint32_t h = 0;
    if (dir->nlink <= 2) return 0; /* no directories inside */
    for (uint32_t i = 0; i < dir->dir.n; i++) {
        const struct inode *node = dir->dir.entries[i].node;
        if (!node || !is_dir(node)) continue;
        uint32_t below = height_of(node) + 1;
        if (below > h) h = below;
    }
    return h;
}

static bool is_inside(const struct inode *dir, const struct inode *ancestor) { /* or the same */
    for (;; dir = dir->dir.parent) {
        if (dir == ancestor) return true;
        if (dir->dir.parent == dir) return false;
    }
}

/* ---- Paths ---- */

static bool tree_is_dir(void *ctx, void *node) {
    (void)ctx;
    return is_dir(node);
}
static bool tree_link_target(void *ctx, void *node, struct wasi_path *target) {
    (void)ctx;
    const struct inode *i = node;
    if (!is_link(i)) return false;
    *target = (struct wasi_path){i->target, (uint32_t)i->size};
    return true;
}
static void *tree_lookup(void *ctx, void *dir, struct wasi_path name) {
    (void)ctx;
    const struct entry *e = dir_find(&((struct inode *)dir)->dir, name);
    return e ? e->node : NULL;
}
static void *tree_parent(void *ctx, void *dir) {
    (void)ctx;
    return ((struct inode *)dir)->dir.parent;
}

static wasi_errno resolve(struct wasi_file *dir, struct wasi_path path, enum path_follow follow, struct path_end *end) {
    static const struct path_tree tree = {NULL, tree_is_dir, tree_link_target, tree_lookup, tree_parent};
    return path_resolve(&tree, ((struct memfs_file *)dir)->node, path, follow, end);
}

/* The same for something that must be there; trailing slashes must then mean a directory. */
static wasi_errno resolve_existing(struct wasi_file *dir, struct wasi_path path, bool follow, struct path_end *end) {
    wasi_errno e = resolve(dir, path, follow ? FOLLOW_ALWAYS : FOLLOW_SLASH, end);
    if (e) return e;
    if (!end->node) return WASI_ENOENT;
    if (end->slash && !is_dir(end->node)) return WASI_ENOTDIR;
    return WASI_SUCCESS;
}

/* The same for a name that must not be there. `slash_ok`: a directory is to be made. */
static wasi_errno resolve_new(struct wasi_file *dir, struct wasi_path path, bool slash_ok, struct path_end *end) {
    wasi_errno e = resolve(dir, path, FOLLOW_NEVER, end);
    if (e) return e;
    if (end->node) return WASI_EEXIST;
    if (end->slash && !slash_ok) return WASI_ENOENT;
    if (((struct inode *)end->parent)->nlink == 0) return WASI_ENOENT; /* a removed directory gets nothing new */
    return WASI_SUCCESS;
}

static struct memfs *fs_of(struct wasi_file *f) {
    return ((struct memfs_file *)f)->fs;
}
static struct inode *node_of(struct wasi_file *f) {
    return ((struct memfs_file *)f)->node;
}

/* ---- Open files ---- */

static struct wasi_file *open_inode(struct memfs *fs, struct inode *node, uint8_t access) {
    struct memfs_file *f = fs->host.realloc(fs->host.ctx, NULL, sizeof *f);
    if (!f) return NULL;
    wasi_file_init(&f->file, is_dir(node) ? &dir_ops : &file_ops, node->type);
    f->fs = fs;
    f->node = node;
    f->access = access;
    node->opens++;
    fs->refs++;
    return &f->file;
}

static void memfs_close(struct wasi_file *file) {
    struct memfs_file *f = (struct memfs_file *)file;
    struct memfs *fs = f->fs;
    f->node->opens--;
    inode_drop(fs, f->node);
    fs->host.realloc(fs->host.ctx, f, 0);
    memfs_release(fs);
}

static wasi_errno memfs_read_at(struct wasi_file *f, const struct wasi_iov *iov, uint32_t n, uint64_t offset,
                                size_t *done) {
    struct inode *node = node_of(f);
    if (!(((struct memfs_file *)f)->access & WASI_ACCESS_READ)) return WASI_EBADF;
    *done = 0;
    for (uint32_t i = 0; i < n && offset < node->size; i++) {
        uint64_t left = node->size - offset;
        size_t len = iov[i].len < left ? iov[i].len : (size_t)left;
        content_read(&node->file, offset, iov[i].buf, len);
        offset += len;
        *done += len;
    }
    if (*done && node->atim <= node->mtim) node->atim = now(fs_of(f)); /* as Linux's relatime */
    return WASI_SUCCESS;
}

static wasi_errno memfs_write_at(struct wasi_file *f, const struct wasi_iov *iov, uint32_t n, uint64_t *offset,
                                 uint16_t fdflags, size_t *done) {
    struct memfs *fs = fs_of(f);
    struct inode *node = node_of(f);
    if (!(((struct memfs_file *)f)->access & WASI_ACCESS_WRITE)) return WASI_EBADF;
    uint64_t at = fdflags & WASI_FDFLAG_APPEND ? node->size : *offset;
    wasi_errno err = WASI_SUCCESS;
    *done = 0;
    for (uint32_t i = 0; i < n && !err; i++) {
        const uint8_t *src = iov[i].buf;
        size_t left = iov[i].len;
        while (left) {
            if (at >= FILE_SIZE_MAX) {
                err = WASI_EFBIG;
                break;
            }
            uint32_t in = at & (CHUNK_SIZE - 1);
            uint32_t len = CHUNK_SIZE - in < left ? CHUNK_SIZE - in : (uint32_t)left;
            uint8_t *chunk = chunk_for_write(fs, &node->file, at >> CHUNK_SHIFT, in, len);
            if (!chunk) {
                err = WASI_ENOSPC;
                break;
            }
            memcpy(chunk + in, src, len);
            src += len, at += len, left -= len, *done += len;
            if (at > node->size) node->size = at;
        }
    }
    if (err && !*done) return err;
    *offset = at;
    if (*done) changed(fs, node);
    return WASI_SUCCESS;
}

static wasi_errno memfs_allocate(struct wasi_file *f, uint64_t offset, uint64_t len) {
    struct memfs *fs = fs_of(f);
    struct inode *node = node_of(f);
    if (offset > FILE_SIZE_MAX || len > FILE_SIZE_MAX - offset) return WASI_EFBIG;
    uint64_t end = offset + len, missing = 0;
    for (uint64_t i = offset >> CHUNK_SHIFT; i << CHUNK_SHIFT < end; i++)
        if (i >= node->file.n_chunks || !node->file.chunks[i]) missing += CHUNK_SIZE + sizeof(void *);
    if (missing > fs->limits.bytes - fs->bytes) return WASI_ENOSPC;
    for (uint64_t i = offset >> CHUNK_SHIFT; i << CHUNK_SHIFT < end; i++) {
        uint32_t n = end - (i << CHUNK_SHIFT) < CHUNK_SIZE ? (uint32_t)(end - (i << CHUNK_SHIFT)) : CHUNK_SIZE;
        if (!chunk_for_write(fs, &node->file, i, 0, n)) return WASI_ENOSPC;
    }
    if (end > node->size) node->size = end;
    changed(fs, node);
    return WASI_SUCCESS;
}

static void fill_stat(const struct inode *node, struct wasi_filestat *out) {
    *out = (struct wasi_filestat){.dev = 1, /* one device; host directories have their own numbers */
                                  .ino = node->ino,
                                  .filetype = node->type,
                                  .nlink = node->nlink,
                                  .size = is_dir(node) ? node->dir.live : node->size,
                                  .atim = node->atim,
                                  .mtim = node->mtim,
                                  .ctim = node->ctim};
}

static wasi_errno memfs_stat(struct wasi_file *f, struct wasi_filestat *out) {
    fill_stat(node_of(f), out);
    return WASI_SUCCESS;
}

static wasi_errno memfs_set_size(struct wasi_file *f, uint64_t size) {
    struct inode *node = node_of(f);
    if (size > FILE_SIZE_MAX) return WASI_EFBIG;
    if (size < node->size) content_cut(fs_of(f), &node->file, size);
    node->size = size;
    changed(fs_of(f), node);
    return WASI_SUCCESS;
}

static void apply_times(struct memfs *fs, struct inode *node, const struct wasi_times *t) {
    if (t->flags & (WASI_FST_ATIM | WASI_FST_ATIM_NOW)) node->atim = t->atim;
    if (t->flags & (WASI_FST_MTIM | WASI_FST_MTIM_NOW)) node->mtim = t->mtim;
    node->ctim = now(fs);
}

static wasi_errno memfs_set_times(struct wasi_file *f, const struct wasi_times *t) {
    apply_times(fs_of(f), node_of(f), t);
    return WASI_SUCCESS;
}

/* ---- Directories ---- */

static wasi_errno memfs_readdir(struct wasi_file *f, uint64_t cookie, wasi_dirent_sink sink, void *ctx) {
    struct inode *node = node_of(f);
    const struct dir *d = &node->dir;
    if (cookie == 0) {
        if (!sink(ctx, &(struct wasi_dirent){1, node->ino, WASI_FILETYPE_DIRECTORY, ".", 1})) return WASI_SUCCESS;
        cookie = 1;
    }
    if (cookie == 1) {
        /* Of the directory's own number, not its parent's: whoever holds the handle learns nothing of what is above. */
        if (!sink(ctx, &(struct wasi_dirent){2, node->ino, WASI_FILETYPE_DIRECTORY, "..", 2})) return WASI_SUCCESS;
        cookie = FIRST_COOKIE;
    }
    uint32_t lo = 0, hi = d->n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (d->entries[mid].cookie < cookie)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (; lo < d->n; lo++) {
        const struct entry *e = &d->entries[lo];
        if (!e->node) continue;
        struct wasi_dirent out = {e->cookie + 1, e->node->ino, e->node->type, e->name, e->name_len};
        if (!sink(ctx, &out)) break;
    }
    return WASI_SUCCESS;
}

/* Makes an inode and gives it the name; NULL: no room (nothing is left behind). */
static struct inode *make(struct memfs *fs, const struct path_end *end, enum wasi_filetype type) {
    struct inode *dir = end->parent, *node = inode_new(fs, type);
    if (!node) return NULL;
    if (!dir_add(fs, &dir->dir, end->name, node)) {
        inode_free(fs, node);
        return NULL;
    }
    node->nlink = 1;
    changed(fs, dir);
    return node;
}

static wasi_errno create_file(struct memfs *fs, const struct path_end *end, struct inode **out) {
    if (end->slash) return WASI_EISDIR;
    if (((struct inode *)end->parent)->nlink == 0) return WASI_ENOENT;
    *out = make(fs, end, WASI_FILETYPE_REGULAR_FILE);
    return *out ? WASI_SUCCESS : WASI_ENOSPC;
}

static wasi_errno may_open(const struct path_end *end, const struct wasi_open *how) {
    const struct inode *node = end->node;
    if (how->oflags & WASI_OFLAG_CREAT) {
        if (how->oflags & WASI_OFLAG_EXCL) return WASI_EEXIST;
        if (is_dir(node)) return WASI_EISDIR;
    }
    if (is_link(node)) return WASI_ELOOP;
    if ((end->slash || how->oflags & WASI_OFLAG_DIRECTORY) && !is_dir(node)) return WASI_ENOTDIR;
    if (is_dir(node) && (how->access & WASI_ACCESS_WRITE || how->oflags & WASI_OFLAG_TRUNC)) return WASI_EISDIR;
    return WASI_SUCCESS;
}

static wasi_errno memfs_open(struct wasi_file *dir, struct wasi_path path, const struct wasi_open *how,
                             struct wasi_file **out) {
    struct memfs *fs = fs_of(dir);
    if (how->oflags & WASI_OFLAG_CREAT && how->oflags & WASI_OFLAG_DIRECTORY) return WASI_EINVAL;
    bool exclusive = (how->oflags & (WASI_OFLAG_CREAT | WASI_OFLAG_EXCL)) == (WASI_OFLAG_CREAT | WASI_OFLAG_EXCL);
    struct path_end end;
    wasi_errno e = resolve(dir, path, exclusive ? FOLLOW_NEVER : how->follow ? FOLLOW_ALWAYS : FOLLOW_SLASH, &end);
    if (e) return e;
    struct inode *node = end.node;
    if (node)
        e = may_open(&end, how);
    else if (how->oflags & WASI_OFLAG_CREAT)
        e = create_file(fs, &end, &node);
    else
        e = WASI_ENOENT;
    if (e) return e;

    *out = open_inode(fs, node, how->access);
    if (!*out) { /* a file just made stays, empty, as it would on any other system at this point */
        return WASI_ENOMEM;
    }
    if (how->oflags & WASI_OFLAG_TRUNC && node->size) {
        content_cut(fs, &node->file, 0);
        node->size = 0;
        changed(fs, node);
    }
    return WASI_SUCCESS;
}

static wasi_errno memfs_path_stat(struct wasi_file *dir, struct wasi_path path, bool follow,
                                  struct wasi_filestat *out) {
    struct path_end end;
    wasi_errno e = resolve_existing(dir, path, follow, &end);
    if (!e) fill_stat(end.node, out);
    return e;
}

static wasi_errno memfs_path_set_times(struct wasi_file *dir, struct wasi_path path, bool follow,
                                       const struct wasi_times *t) {
    struct path_end end;
    wasi_errno e = resolve_existing(dir, path, follow, &end);
    if (!e) apply_times(fs_of(dir), end.node, t);
    return e;
}

static wasi_errno memfs_create_directory(struct wasi_file *dir, struct wasi_path path) {
    struct memfs *fs = fs_of(dir);
    struct path_end end;
    wasi_errno e = resolve_new(dir, path, true, &end);
    if (e) return e;
    struct inode *parent = end.parent;
    if (depth_of(parent) + 1 > fs->limits.depth) return WASI_EMLINK;
    struct inode *node = make(fs, &end, WASI_FILETYPE_DIRECTORY);
    if (!node) return WASI_ENOSPC;
    node->nlink = 2;
    node->dir.parent = parent;
    node->dir.next_cookie = FIRST_COOKIE;
    parent->nlink++;
    return WASI_SUCCESS;
}

static wasi_errno memfs_remove_directory(struct wasi_file *dir, struct wasi_path path) {
    struct path_end end;
    wasi_errno e = resolve(dir, path, FOLLOW_NEVER, &end);
    if (e) return e;
    if (!end.node) return WASI_ENOENT;
    if (end.last == LAST_DOT) return WASI_EINVAL; /* rmdir(2) */
    if (end.last == LAST_DOTDOT) return WASI_ENOTEMPTY;
    struct inode *node = end.node, *parent = end.parent;
    if (!is_dir(node)) return WASI_ENOTDIR;
    if (node->dir.live) return WASI_ENOTEMPTY;
    unlink_entry(fs_of(dir), parent, dir_find(&parent->dir, end.name));
    return WASI_SUCCESS;
}

static wasi_errno memfs_unlink(struct wasi_file *dir, struct wasi_path path) {
    struct path_end end;
    wasi_errno e = resolve(dir, path, FOLLOW_NEVER, &end);
    if (e) return e;
    if (!end.node) return WASI_ENOENT;
    if (is_dir(end.node)) return WASI_EISDIR;
    if (end.slash) return WASI_ENOTDIR;
    struct inode *parent = end.parent;
    unlink_entry(fs_of(dir), parent, dir_find(&parent->dir, end.name));
    return WASI_SUCCESS;
}

static wasi_errno memfs_link(struct wasi_file *dir, struct wasi_path path, bool follow, struct wasi_file *new_dir,
                             struct wasi_path new_path) {
    struct memfs *fs = fs_of(dir);
    if (fs != fs_of(new_dir)) return WASI_EXDEV;
    struct path_end from, to;
    wasi_errno e = resolve_existing(dir, path, follow, &from);
    if (!e) e = resolve_new(new_dir, new_path, false, &to);
    if (e) return e;
    struct inode *node = from.node, *parent = to.parent;
    if (is_dir(node)) return WASI_EPERM;
    if (node->nlink == UINT32_MAX) return WASI_EMLINK;
    if (!dir_add(fs, &parent->dir, to.name, node)) return WASI_ENOSPC;
    node->nlink++;
    changed(fs, parent);
    node->ctim = parent->ctim;
    return WASI_SUCCESS;
}

/* rename(2)'s conditions once both ends are known. */
static wasi_errno may_rename(struct memfs *fs, const struct path_end *from, const struct path_end *to) {
    struct inode *node = from->node, *old = to->node, *parent = to->parent;
    if (!is_dir(node)) {
        if (from->slash || to->slash) return WASI_ENOTDIR;
        return old && is_dir(old) ? WASI_EISDIR : WASI_SUCCESS;
    }
    if (is_inside(parent, node)) return WASI_EINVAL; /* into itself */
    if (old && !is_dir(old)) return WASI_ENOTDIR;
    if (old && old->dir.live) return WASI_ENOTEMPTY;
    if (depth_of(parent) + 1 + height_of(node) > fs->limits.depth) return WASI_EMLINK;
    return WASI_SUCCESS;
}

static wasi_errno memfs_rename(struct wasi_file *dir, struct wasi_path path, struct wasi_file *new_dir,
                               struct wasi_path new_path) {
    struct memfs *fs = fs_of(dir);
    if (fs != fs_of(new_dir)) return WASI_EXDEV;
    struct path_end from, to;
    wasi_errno e = resolve(dir, path, FOLLOW_NEVER, &from);
    if (!e) e = resolve(new_dir, new_path, FOLLOW_NEVER, &to);
    if (e) return e;
    if (from.last != LAST_NAME || to.last != LAST_NAME) return WASI_EBUSY;
    if (!from.node) return WASI_ENOENT;
    struct inode *node = from.node, *parent = to.parent, *old_parent = from.parent;
    if (node == to.node) return WASI_SUCCESS; /* two names of one file, or the same name: nothing happens */
    e = may_rename(fs, &from, &to);
    if (e) return e;
    if (parent->nlink == 0) return WASI_ENOENT;

    if (to.node) {
        /* The new name exists: its entry changes hands, so this cannot fail half-way. */
        struct inode *old = to.node;
        struct entry *entry = dir_find(&parent->dir, to.name);
        entry->node = node;
        old->ctim = now(fs);
        if (is_dir(old))
            old->nlink = 0, parent->nlink--;
        else
            old->nlink--;
        inode_drop(fs, old);
    } else if (!dir_add(fs, &parent->dir, to.name, node)) {
        return WASI_ENOSPC;
    }
    dir_remove(fs, &old_parent->dir, dir_find(&old_parent->dir, from.name));
    if (is_dir(node)) {
        node->dir.parent = parent;
        old_parent->nlink--;
        parent->nlink++;
    }
    changed(fs, old_parent);
    changed(fs, parent);
    node->ctim = parent->ctim;
    return WASI_SUCCESS;
}

static wasi_errno memfs_symlink(struct wasi_file *dir, struct wasi_path target, struct wasi_path path) {
    struct memfs *fs = fs_of(dir);
    struct path_end end;
    wasi_errno e = resolve_new(dir, path, false, &end);
    if (e) return e;
    char *copy = fs_realloc(fs, NULL, 0, target.len);
    if (!copy) return WASI_ENOSPC;
    struct inode *node = make(fs, &end, WASI_FILETYPE_SYMBOLIC_LINK);
    if (!node) {
        fs_free(fs, copy, target.len);
        return WASI_ENOSPC;
    }
    memcpy(copy, target.bytes, target.len);
    node->target = copy;
    node->size = target.len;
    return WASI_SUCCESS;
}

static wasi_errno memfs_readlink(struct wasi_file *dir, struct wasi_path path, char *buf, size_t size, size_t *len) {
    struct path_end end;
    wasi_errno e = resolve_existing(dir, path, false, &end);
    if (e) return e;
    const struct inode *node = end.node;
    if (!is_link(node)) return WASI_EINVAL;
    *len = node->size < size ? (size_t)node->size : size;
    memcpy(buf, node->target, *len);
    return WASI_SUCCESS;
}

static const struct wasi_file_ops file_ops = {
    .name = "memfs",
    .close = memfs_close,
    .read_at = memfs_read_at,
    .write_at = memfs_write_at,
    .allocate = memfs_allocate,
    .stat = memfs_stat,
    .set_size = memfs_set_size,
    .set_times = memfs_set_times,
};

static const struct wasi_file_ops dir_ops = {
    .name = "memfs",
    .close = memfs_close,
    .stat = memfs_stat,
    .set_times = memfs_set_times,
    .readdir = memfs_readdir,
    .open = memfs_open,
    .path_stat = memfs_path_stat,
    .path_set_times = memfs_path_set_times,
    .create_directory = memfs_create_directory,
    .remove_directory = memfs_remove_directory,
    .unlink = memfs_unlink,
    .link = memfs_link,
    .rename = memfs_rename,
    .symlink = memfs_symlink,
    .readlink = memfs_readlink,
};

/* ---- The whole ---- */

struct memfs *memfs_new(const struct wasi_host *host, const struct memfs_limits *limits) {
    struct memfs *fs = host->realloc(host->ctx, NULL, sizeof *fs);
    if (!fs) return NULL;
    *fs = (struct memfs){.host = *host, .refs = 1, .next_ino = 1};
    if (limits) fs->limits = *limits;
    if (!fs->limits.bytes) fs->limits.bytes = UINT64_C(1) << 30;
    if (!fs->limits.inodes) fs->limits.inodes = 1u << 20;
    if (!fs->limits.depth) fs->limits.depth = 256;
    fs->root = inode_new(fs, WASI_FILETYPE_DIRECTORY);
    if (!fs->root) {
        host->realloc(host->ctx, fs, 0);
        return NULL;
    }
    fs->root->nlink = 2;
    fs->root->dir.parent = fs->root;
    fs->root->dir.next_cookie = FIRST_COOKIE;
    return fs;
}

struct wasi_file *memfs_root(struct memfs *fs) {
    return open_inode(fs, fs->root, 0);
}

void memfs_release(struct memfs *fs) {
    if (!fs || --fs->refs) return;
    while (fs->all)
        inode_free(fs, fs->all);
    struct wasi_host host = fs->host;
    host.realloc(host.ctx, fs, 0);
}

void memfs_usage(const struct memfs *fs, uint64_t *bytes, uint32_t *inodes) {
    *bytes = fs->bytes;
    *inodes = fs->inodes;
}
