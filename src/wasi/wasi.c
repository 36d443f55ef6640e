/* Contexts: what a program is given, its descriptor table, and what all functions share. */
#include "context.h"

static void *resize(struct wasi *w, void *block, size_t size) {
    return w->host.realloc(w->host.ctx, block, size);
}

struct wasi *wasi_new(const struct wasi_host *host) {
    struct wasi *w = host->realloc(host->ctx, NULL, sizeof *w);
    if (!w) return NULL;
    *w = (struct wasi){.host = *host};
    return w;
}

void wasi_delete(struct wasi *w) {
    if (!w) return;
    for (uint32_t fd = 0; fd < w->fds_size; fd++)
        if (w->fds[fd].file) fd_release(w, &w->fds[fd]);
    resize(w, w->fds, 0);
    resize(w, w->args.bytes, 0);
    resize(w, w->env.bytes, 0);
    resize(w, w->bindings, 0);
    struct wasi_host host = w->host;
    host.realloc(host.ctx, w, 0);
}

bool wasi_exited(const struct wasi *w, uint32_t *code) {
    if (w->exited && code) *code = w->exit_code;
    return w->exited;
}

bool wasi_interrupted(const struct wasi *w) {
    return w->interrupted;
}

/* ---- Arguments and environment ---- */

static wasi_errno add_string(struct wasi *w, struct strings *s, const char *bytes, size_t len) {
    if (memchr(bytes, 0, len)) return WASI_EINVAL;
    if (len >= WASI_ARGS_MAX - s->used || s->count >= WASI_ARGC_MAX) return WASI_E2BIG;
    uint32_t need = s->used + (uint32_t)len + 1;
    if (need > s->capacity) {
        uint32_t capacity = need < 256 ? 256 : need * 2;
        char *p = resize(w, s->bytes, capacity);
        if (!p) return WASI_ENOMEM;
        s->bytes = p;
        s->capacity = capacity;
    }
    memcpy(s->bytes + s->used, bytes, len);
    s->bytes[need - 1] = 0;
    s->used = need;
    s->count++;
    return WASI_SUCCESS;
}

wasi_errno wasi_add_arg(struct wasi *w, const char *bytes, size_t len) {
    return add_string(w, &w->args, bytes, len);
}

wasi_errno wasi_add_env(struct wasi *w, const char *bytes, size_t len) {
    const char *equals = memchr(bytes, '=', len);
    if (!equals || equals == bytes) return WASI_EINVAL;
    return add_string(w, &w->env, bytes, len);
}

/* ---- Descriptors ---- */

static wasi_errno fds_grow(struct wasi *w, uint32_t size) {
    if (size > WASI_FD_MAX) return WASI_EMFILE;
    if (size <= w->fds_size) return WASI_SUCCESS;
    uint32_t n = w->fds_size ? w->fds_size * 2 : 16;
    if (n < size) n = size;
    if (n > WASI_FD_MAX) n = WASI_FD_MAX;
    struct descriptor *p = resize(w, w->fds, n * sizeof *p);
    if (!p) return WASI_ENOMEM;
    memset(p + w->fds_size, 0, (n - w->fds_size) * sizeof *p);
    w->fds = p;
    w->fds_size = n;
    return WASI_SUCCESS;
}

static uint32_t lowest_free(const struct wasi *w, uint32_t from) {
    while (from < w->fds_size && w->fds[from].file)
        from++;
    return from;
}

wasi_errno fd_reserve(struct wasi *w, uint32_t *fd) {
    *fd = lowest_free(w, 0);
    return fds_grow(w, *fd + 1);
}

void fd_install(struct wasi *w, uint32_t fd, struct wasi_file *f, uint64_t rights, uint64_t inheriting,
                uint16_t fdflags) {
    w->fds[fd] = (struct descriptor){
        .file = f, .rights = rights & f->rights, .inheriting = inheriting & WASI_RIGHTS_ALL, .fdflags = fdflags};
}

void fd_release(struct wasi *w, struct descriptor *d) {
    wasi_file_unref(d->file);
    resize(w, d->preopen, 0);
    *d = (struct descriptor){0};
}

wasi_errno fd_get(struct wasi *w, uint32_t fd, uint64_t rights, struct descriptor **out) {
    if (fd >= w->fds_size || !w->fds[fd].file) return WASI_EBADF;
    *out = &w->fds[fd];
    return (w->fds[fd].rights & rights) == rights ? WASI_SUCCESS : WASI_ENOTCAPABLE;
}

static wasi_errno add_file(struct wasi *w, uint32_t fd, struct wasi_file *f, uint64_t rights, uint64_t inheriting,
                           uint16_t fdflags) {
    wasi_errno e = fd >= WASI_FD_MAX ? WASI_EMFILE : fds_grow(w, fd + 1);
    if (e) return e;
    if (w->fds[fd].file) return WASI_EEXIST;
    fd_install(w, fd, f, rights, inheriting, fdflags);
    return WASI_SUCCESS;
}

wasi_errno wasi_add_file(struct wasi *w, uint32_t fd, struct wasi_file *f, uint64_t rights, uint64_t inheriting,
                         uint16_t fdflags) {
    wasi_errno e = add_file(w, fd, f, rights, inheriting, fdflags);
    if (e) wasi_file_unref(f);
    return e;
}

wasi_errno wasi_add_preopen(struct wasi *w, struct wasi_file *dir, const char *guest_path, uint64_t rights,
                            uint64_t inheriting, uint32_t *fd) {
    size_t len = strlen(guest_path);
    uint32_t at = lowest_free(w, PREOPEN_FIRST);
    char *name = NULL;
    wasi_errno e = WASI_SUCCESS;
    if (len == 0 || len > WASI_PATH_MAX)
        e = len ? WASI_ENAMETOOLONG : WASI_EINVAL;
    else if (dir->filetype != WASI_FILETYPE_DIRECTORY)
        e = WASI_ENOTDIR;
    else if (!(name = resize(w, NULL, len)))
        e = WASI_ENOMEM;
    else
        e = add_file(w, at, dir, rights, inheriting, 0);
    if (e) {
        if (name) resize(w, name, 0);
        wasi_file_unref(dir);
        return e;
    }
    memcpy(name, guest_path, len);
    w->fds[at].preopen = name;
    w->fds[at].preopen_len = (uint32_t)len;
    if (w->preopens_end <= at) w->preopens_end = at + 1;
    if (fd) *fd = at;
    return WASI_SUCCESS;
}

/* ---- Guest memory ---- */

wasi_errno guest_iov(struct call *c, uint32_t ptr, uint32_t count, uint32_t *n) {
    const uint8_t *entries = guest(c, ptr, (uint64_t)count * 8);
    if (!entries) return WASI_EFAULT;
    uint32_t left = WASI_IO_MAX;
    *n = 0;
    for (uint32_t i = 0; i < count && *n < WASI_IOV_MAX && left; i++) {
        uint32_t len = load32(entries + i * 8 + 4);
        uint8_t *buf = guest(c, load32(entries + i * 8), len);
        if (!buf) return WASI_EFAULT;
        if (len == 0) continue;
        if (len > left) len = left;
        c->w->iov[(*n)++] = (struct wasi_iov){buf, len};
        left -= len;
    }
    return WASI_SUCCESS;
}

wasi_errno guest_path(struct call *c, int i, int which, struct wasi_path *out) {
    uint32_t len = arg32(c, i + 1);
    const uint8_t *p = guest(c, arg32(c, i), len);
    if (!p) return WASI_EFAULT;
    if (len > WASI_PATH_MAX) return WASI_ENAMETOOLONG;
    memcpy(c->w->path[which], p, len);
    *out = (struct wasi_path){c->w->path[which], len};
    return wasi_path_check(*out);
}

void store_filestat(const struct call *c, uint8_t *p, const struct wasi_filestat *st) {
    memset(p, 0, FILESTAT_SIZE(c->abi));
    store64(p, st->dev);
    store64(p + 8, st->ino);
    p[16] = (uint8_t)st->filetype;
    /* Preview 0 has a 32-bit link count right behind the type; preview 1 a 64-bit one at 24. */
    if (c->abi == WASI_ABI_UNSTABLE) {
        store32(p + 20, st->nlink > UINT32_MAX ? UINT32_MAX : (uint32_t)st->nlink);
        p += 24;
    } else {
        store64(p + 24, st->nlink);
        p += 32;
    }
    store64(p, st->size);
    store64(p + 8, st->atim);
    store64(p + 16, st->mtim);
    store64(p + 24, st->ctim);
}

wasi_errno guest_times(struct call *c, int i, struct wasi_times *t) {
    uint32_t flags = arg32(c, i + 2);
    const uint32_t atim = WASI_FST_ATIM | WASI_FST_ATIM_NOW, mtim = WASI_FST_MTIM | WASI_FST_MTIM_NOW;
    if (flags & ~(uint32_t)WASI_FST_ALL || (flags & atim) == atim || (flags & mtim) == mtim) return WASI_EINVAL;
    uint64_t now = 0;
    if (flags & (WASI_FST_ATIM_NOW | WASI_FST_MTIM_NOW)) {
        wasi_errno e = c->w->host.clock_time(c->w->host.ctx, WASI_CLOCK_REALTIME, &now);
        if (e) return e;
    }
    *t = (struct wasi_times){.flags = (uint16_t)flags};
    if (flags & atim) t->atim = flags & WASI_FST_ATIM ? arg64(c, i) : now;
    if (flags & mtim) t->mtim = flags & WASI_FST_MTIM ? arg64(c, i + 1) : now;
    return WASI_SUCCESS;
}
