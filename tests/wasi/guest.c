#include "guest.h"

static void *guest_realloc(void *ctx, void *block, size_t size) {
    struct guest *g = ctx;
    if (size == 0) {
        if (block) g->allocated--;
        free(block);
        return NULL;
    }
    void *p = realloc(block, size);
    if (p && !block) g->allocated++;
    return p;
}

static wasi_errno guest_clock(void *ctx, enum wasi_clock id, uint64_t *ns) {
    (void)id;
    *ns = ((struct guest *)ctx)->now;
    return WASI_SUCCESS;
}

static wasi_errno guest_resolution(void *ctx, enum wasi_clock id, uint64_t *ns) {
    (void)ctx;
    *ns = id == WASI_CLOCK_REALTIME ? 1000 : 1;
    return WASI_SUCCESS;
}

static wasi_errno guest_random(void *ctx, void *buf, size_t len) {
    (void)ctx;
    memset(buf, 0xa5, len);
    return WASI_SUCCESS;
}

/* Jumps to whatever comes first: the timeout or the token that will wake. */
static wasi_errno guest_poll(void *ctx, struct wasi_poll *items, size_t n, uint64_t timeout) {
    struct guest *g = ctx;
    g->polls++;
    uint64_t wait = timeout;
    bool wakes = false;
    for (size_t i = 0; i < n; i++) {
        if (items[i].token != g->wakes_token) continue;
        uint64_t left = g->wakes_at > g->now ? g->wakes_at - g->now : 0;
        if (left <= wait) wait = left, wakes = true;
    }
    if (wait == WASI_FOREVER) return WASI_INTERRUPTED; /* nothing will ever happen */
    g->now += wait;
    g->slept += wait;
    for (size_t i = 0; wakes && i < n; i++)
        if (items[i].token == g->wakes_token) items[i].ready = true, items[i].nbytes = 7;
    return WASI_SUCCESS;
}

static void guest_trace(void *ctx, const char *line) {
    snprintf(((struct guest *)ctx)->traced, WASI_TRACE_MAX, "%s", line);
}

struct wasi_host guest_host(struct guest *g) {
    return (struct wasi_host){.ctx = g,
                              .realloc = guest_realloc,
                              .clock_time = guest_clock,
                              .clock_resolution = guest_resolution,
                              .random = guest_random,
                              .poll = guest_poll,
                              .trace = guest_trace};
}

struct guest *guest_new(const struct memfs_limits *limits) {
    struct guest *g = calloc(1, sizeof *g);
    assert_non_null(g);
    g->abi = WASI_ABI_PREVIEW1;
    g->next_string = STRINGS;
    g->now = 1000000;
    struct wasi_host host = guest_host(g);
    g->w = wasi_new(&host);
    g->fs = memfs_new(&host, limits);
    assert_non_null(g->w);
    assert_non_null(g->fs);
    for (uint32_t fd = 0; fd < 3; fd++)
        assert_int_equal(wasi_add_file(g->w, fd, wasi_file_null(), WASI_RIGHTS_STREAM, 0, 0), WASI_SUCCESS);
    uint32_t fd = 0;
    assert_int_equal(
        wasi_add_preopen(g->w, memfs_root(g->fs), "/", WASI_RIGHTS_DIR, WASI_RIGHTS_DIR | WASI_RIGHTS_FILE, &fd),
        WASI_SUCCESS);
    assert_int_equal(fd, 3);
    return g;
}

void guest_delete(struct guest *g) {
    wasi_delete(g->w);
    memfs_release(g->fs);
    assert_int_equal(g->allocated, 0);
    free(g);
}
