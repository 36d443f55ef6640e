/* The in-memory file system, through WASI's own functions. */
#include "guest.h"

static void usage(struct guest *g, uint64_t *bytes) {
    uint32_t inodes;
    memfs_usage(g->fs, bytes, &inodes);
}

static void contents(void **state) {
    (void)state;
    struct guest *g = guest_new(NULL);
    char buf[64];
    int fd = open_at(g, 3, "a", WASI_OFLAG_CREAT, 0);
    assert_int_equal(fd, 4);
    assert_int_equal(write_text(g, fd, "hello"), 5);
    assert_int_equal(seek(g, fd, 1, 0), 1);
    assert_int_equal(read_into(g, fd, buf, 64), 4);
    assert_memory_equal(buf, "ello", 4);
    assert_int_equal(read_into(g, fd, buf, 64), 0);
    assert_int_equal(seek(g, fd, -2, 2), 3);
    assert_int_equal(seek(g, fd, -4, 1), -(int)WASI_EINVAL);
    assert_int_equal(seek(g, fd, INT64_MAX, 1), -(int)WASI_EINVAL);
    assert_int_equal(seek(g, fd, 0, 3), -(int)WASI_EINVAL);

    /* A hole reads as zeros; so does what a cut and a growth leave behind. */
    assert_int_equal(seek(g, fd, 200000, 0), 200000);
    assert_int_equal(write_text(g, fd, "x"), 1);
    assert_int_equal(seek(g, fd, 70000, 0), 70000);
    assert_int_equal(read_into(g, fd, buf, 2), 2);
    assert_memory_equal(buf, "\0\0", 2);
    assert_int_equal(call(g, "fd_filestat_set_size", fd, (uint64_t)2), 0);
    assert_int_equal(call(g, "fd_filestat_set_size", fd, (uint64_t)100000), 0);
    assert_int_equal(seek(g, fd, 0, 0), 0);
    assert_int_equal(read_into(g, fd, buf, 6), 6);
    assert_memory_equal(buf, "he\0\0\0\0", 6);
    assert_int_equal(seek(g, fd, -1, 2), 99999);
    assert_int_equal(call(g, "fd_filestat_set_size", fd, (uint64_t)INT64_MAX), WASI_EFBIG);
    assert_int_equal(call(g, "fd_filestat_set_size", fd, UINT64_MAX), WASI_EINVAL);

    /* Appending ignores the position. */
    assert_int_equal(call(g, "fd_filestat_set_size", fd, (uint64_t)3), 0);
    assert_int_equal(call(g, "fd_fdstat_set_flags", fd, WASI_FDFLAG_APPEND), 0);
    assert_int_equal(seek(g, fd, 0, 0), 0);
    assert_int_equal(write_text(g, fd, "DE"), 2);
    assert_int_equal(seek(g, fd, 0, 1), 5);
    assert_int_equal(call(g, "fd_fdstat_set_flags", fd, 32u), WASI_EINVAL);
    guest_delete(g);
}

/* Growth in small steps is linear in work and memory; everything is given back. */
static void large_file(void **state) {
    (void)state;
    struct guest *g = guest_new(NULL);
    uint64_t before, full, after;
    usage(g, &before);
    int fd = open_at(g, 3, "big", WASI_OFLAG_CREAT, 0);
    uint32_t buf = 100 << 10, len = 100000;
    for (uint32_t i = 0; i < len; i++)
        g->memory[buf + i] = (uint8_t)(i * 7);
    enum { TIMES = 1000 };
    for (int i = 0; i < TIMES; i++)
        assert_int_equal(io(g, "fd_write", fd, buf, len), len);
    usage(g, &full);
    assert_true(full - before < (uint64_t)TIMES * len + (1 << 20));
    memset(g->memory + buf, 0, len);
    assert_int_equal(seek(g, fd, (int64_t)len * 777, 0), len * 777);
    assert_int_equal(io(g, "fd_read", fd, buf, len), len);
    for (uint32_t i = 0; i < len; i++)
        assert_int_equal(g->memory[buf + i], (uint8_t)(i * 7));
    assert_int_equal(call(g, "path_unlink_file", 3u, S("big")), 0);
    assert_int_equal(io(g, "fd_read", fd, buf, len), len); /* still open */
    assert_int_equal(close_fd(g, fd), 0);
    usage(g, &after);
    assert_true(after <= before + 4096); /* the root keeps its small table */
    guest_delete(g);
}

static void open_flags(void **state) {
    (void)state;
    struct guest *g = guest_new(NULL);
    assert_int_equal(open_at(g, 3, "no", 0, 0), -(int)WASI_ENOENT);
    assert_int_equal(touch(g, 3, "f"), 0);
    assert_int_equal(open_at(g, 3, "f", WASI_OFLAG_CREAT | WASI_OFLAG_EXCL, 0), -(int)WASI_EEXIST);
    assert_int_equal(open_at(g, 3, "f", WASI_OFLAG_DIRECTORY, 0), -(int)WASI_ENOTDIR);
    assert_int_equal(open_at(g, 3, "f/", 0, 0), -(int)WASI_ENOTDIR);
    assert_int_equal(open_at(g, 3, "new/", WASI_OFLAG_CREAT, 0), -(int)WASI_EISDIR);
    assert_int_equal(open_at(g, 3, "new", WASI_OFLAG_CREAT | WASI_OFLAG_DIRECTORY, 0), -(int)WASI_EINVAL);
    assert_int_equal(open_at(g, 3, "f/x", WASI_OFLAG_CREAT, 0), -(int)WASI_ENOTDIR);
    assert_int_equal(open_at(g, 3, "f", 16, 0), -(int)WASI_EINVAL);
    assert_int_equal(open_at(g, 3, "f", 0, 32), -(int)WASI_EINVAL);
    assert_int_equal(make_dir(g, 3, "d"), 0);
    assert_int_equal(make_dir(g, 3, "d"), WASI_EEXIST);
    assert_int_equal(make_dir(g, 3, "d/e/"), 0);
    assert_int_equal(open_at(g, 3, "d", 0, 0), -(int)WASI_EISDIR); /* asks to write */
    assert_int_equal(open_at(g, 3, "d", WASI_OFLAG_CREAT, 0), -(int)WASI_EISDIR);
    int d = open_dir(g, 3, "d/");
    assert_true(d > 3);
    assert_int_equal(touch(g, d, "e/f"), 0);

    int fd = open_at(g, 3, "d/e/f", 0, 0);
    assert_int_equal(write_text(g, fd, "text"), 4);
    assert_int_equal(open_at(g, 3, "d/e/f", WASI_OFLAG_TRUNC, 0) > 0, 1);
    assert_int_equal(stat_at(g, 3, "d/e/f", 0), 0);
    assert_int_equal(stat_size(g), 0);
    guest_delete(g);
}

static void links(void **state) {
    (void)state;
    struct guest *g = guest_new(NULL);
    assert_int_equal(touch(g, 3, "f"), 0);
    assert_int_equal(call(g, "path_link", 3u, 0u, S("f"), 3u, S("g")), 0);
    assert_int_equal(stat_at(g, 3, "g", 0), 0);
    assert_int_equal(stat_nlink(g), 2);
    assert_int_equal(call(g, "path_link", 3u, 0u, S("f"), 3u, S("g")), WASI_EEXIST);
    assert_int_equal(call(g, "path_link", 3u, 0u, S("f"), 3u, S("h/")), WASI_ENOENT);
    assert_int_equal(make_dir(g, 3, "d"), 0);
    assert_int_equal(call(g, "path_link", 3u, 0u, S("d"), 3u, S("e")), WASI_EPERM);
    assert_int_equal(call(g, "path_unlink_file", 3u, S("f")), 0);
    assert_int_equal(stat_at(g, 3, "g", 0), 0);
    assert_int_equal(stat_nlink(g), 1);

    assert_int_equal(symlink_at(g, "g", 3, "s"), 0);
    assert_int_equal(symlink_at(g, "g", 3, "s"), WASI_EEXIST);
    assert_int_equal(symlink_at(g, "g", 3, "t/"), WASI_ENOENT);
    assert_int_equal(symlink_at(g, "", 3, "t"), WASI_ENOENT);
    assert_int_equal(symlink_at(g, "/etc", 3, "t"), WASI_ENOTCAPABLE);
    assert_int_equal(stat_at(g, 3, "s", 0), 0);
    assert_int_equal(stat_type(g), WASI_FILETYPE_SYMBOLIC_LINK);
    assert_int_equal(stat_at(g, 3, "s", 1), 0);
    assert_int_equal(stat_type(g), WASI_FILETYPE_REGULAR_FILE);
    /* A hard link to the link itself, and through it. */
    assert_int_equal(call(g, "path_link", 3u, 0u, S("s"), 3u, S("s2")), 0);
    assert_int_equal(stat_at(g, 3, "s2", 0), 0);
    assert_int_equal(stat_type(g), WASI_FILETYPE_SYMBOLIC_LINK);
    assert_int_equal(call(g, "path_link", 3u, 1u, S("s"), 3u, S("g2")), 0);
    assert_int_equal(stat_at(g, 3, "g2", 0), 0);
    assert_int_equal(stat_type(g), WASI_FILETYPE_REGULAR_FILE);

    memset(g->memory + 50000, '#', 10);
    assert_int_equal(call(g, "path_readlink", 3u, S("s"), 50000u, 10u, (uint32_t)SCRATCH), 0);
    assert_int_equal(u32_at(g, SCRATCH), 1);
    assert_memory_equal(g->memory + 50000, "g#", 2);
    assert_int_equal(call(g, "path_readlink", 3u, S("g"), 50000u, 10u, (uint32_t)SCRATCH), WASI_EINVAL);
    assert_int_equal(call(g, "path_readlink", 3u, S("s"), 50000u, 0u, (uint32_t)SCRATCH), 0);
    assert_int_equal(u32_at(g, SCRATCH), 0);

    /* A dangling link: creating through it makes its target, EXCL does not. */
    assert_int_equal(symlink_at(g, "d/new", 3, "dangling"), 0);
    assert_int_equal(open_at(g, 3, "dangling", WASI_OFLAG_CREAT | WASI_OFLAG_EXCL, 0), -(int)WASI_EEXIST);
    assert_int_equal(open_at(g, 3, "dangling", 0, 0), -(int)WASI_ENOENT);
    assert_int_equal(touch(g, 3, "dangling"), 0);
    assert_int_equal(stat_at(g, 3, "d/new", 0), 0);
    guest_delete(g);
}

static uint32_t rename_at(struct guest *g, const char *from, const char *to) {
    return call(g, "path_rename", 3u, S(from), 3u, S(to));
}

static void renames(void **state) {
    (void)state;
    struct guest *g = guest_new(NULL);
    assert_int_equal(touch(g, 3, "f"), 0);
    assert_int_equal(touch(g, 3, "g"), 0);
    assert_int_equal(make_dir(g, 3, "d"), 0);
    assert_int_equal(make_dir(g, 3, "d/e"), 0);
    assert_int_equal(make_dir(g, 3, "empty"), 0);
    assert_int_equal(rename_at(g, "no", "x"), WASI_ENOENT);
    assert_int_equal(rename_at(g, "f", "f"), 0);
    assert_int_equal(rename_at(g, "f", "d"), WASI_EISDIR);
    assert_int_equal(rename_at(g, "d", "f"), WASI_ENOTDIR);
    assert_int_equal(rename_at(g, "empty", "d"), WASI_ENOTEMPTY);
    assert_int_equal(rename_at(g, "d", "d/e/x"), WASI_EINVAL);
    assert_int_equal(rename_at(g, "d", "d/e"), WASI_EINVAL);
    assert_int_equal(rename_at(g, "d/e", "d"), WASI_ENOTEMPTY);
    assert_int_equal(rename_at(g, "f/", "x"), WASI_ENOTDIR);
    assert_int_equal(rename_at(g, "f", "x/"), WASI_ENOTDIR);
    assert_int_equal(rename_at(g, ".", "x"), WASI_EBUSY);
    assert_int_equal(rename_at(g, "d/..", "x"), WASI_EBUSY);
    assert_int_equal(rename_at(g, "f", "../x"), WASI_ENOTCAPABLE);

    /* Over a file: the old one lives on where it is open. */
    int old = open_at(g, 3, "g", 0, 0);
    assert_int_equal(write_text(g, old, "old"), 3);
    assert_int_equal(rename_at(g, "f", "g"), 0);
    assert_int_equal(stat_at(g, 3, "f", 0), WASI_ENOENT);
    assert_int_equal(stat_at(g, 3, "g", 0), 0);
    assert_int_equal(stat_size(g), 0);
    char buf[8];
    assert_int_equal(seek(g, old, 0, 0), 0);
    assert_int_equal(read_into(g, old, buf, 8), 3);

    /* Over an empty directory; `..` and link counts follow. */
    assert_int_equal(rename_at(g, "d/e", "empty"), 0);
    assert_int_equal(stat_at(g, 3, "d", 0), 0);
    assert_int_equal(stat_nlink(g), 2);
    assert_int_equal(stat_at(g, 3, ".", 0), 0);
    assert_int_equal(stat_nlink(g), 4);
    assert_int_equal(rename_at(g, "empty/", "d/deep/"), 0);
    assert_int_equal(stat_at(g, 3, "d/deep/../../d", 0), 0);

    /* Two names of one file: nothing happens. */
    assert_int_equal(call(g, "path_link", 3u, 0u, S("g"), 3u, S("g2")), 0);
    assert_int_equal(rename_at(g, "g", "g2"), 0);
    assert_int_equal(stat_at(g, 3, "g", 0), 0);
    guest_delete(g);
}

static void removals(void **state) {
    (void)state;
    struct guest *g = guest_new(NULL);
    assert_int_equal(make_dir(g, 3, "d"), 0);
    assert_int_equal(touch(g, 3, "d/f"), 0);
    assert_int_equal(symlink_at(g, "d", 3, "s"), 0);
    assert_int_equal(call(g, "path_remove_directory", 3u, S("d")), WASI_ENOTEMPTY);
    assert_int_equal(call(g, "path_remove_directory", 3u, S("d/f")), WASI_ENOTDIR);
    assert_int_equal(call(g, "path_remove_directory", 3u, S("s")), WASI_ENOTDIR);
    assert_int_equal(call(g, "path_remove_directory", 3u, S("d/.")), WASI_EINVAL);
    assert_int_equal(call(g, "path_unlink_file", 3u, S("d")), WASI_EISDIR);
    assert_int_equal(call(g, "path_unlink_file", 3u, S("d/")), WASI_EISDIR);
    assert_int_equal(call(g, "path_unlink_file", 3u, S("d/f/")), WASI_ENOTDIR);
    assert_int_equal(call(g, "path_unlink_file", 3u, S("s/f")), 0);
    assert_int_equal(call(g, "path_unlink_file", 3u, S("s")), 0);

    /* A removed directory stays usable as a handle, but gets nothing new. */
    int d = open_dir(g, 3, "d");
    assert_int_equal(call(g, "path_remove_directory", 3u, S("d/")), 0);
    assert_int_equal(touch(g, d, "f"), WASI_ENOENT);
    assert_int_equal(make_dir(g, d, "f"), WASI_ENOENT);
    assert_int_equal(symlink_at(g, "x", d, "f"), WASI_ENOENT);
    assert_int_equal(stat_at(g, d, ".", 0), 0);
    assert_int_equal(stat_nlink(g), 0);
    assert_int_equal(make_dir(g, 3, "d"), 0);
    guest_delete(g);
}

static void limits(void **state) {
    (void)state;
    struct guest *g = guest_new(&(struct memfs_limits){.bytes = 300000, .inodes = 20, .depth = 3});
    assert_int_equal(make_dir(g, 3, "1"), 0);
    assert_int_equal(make_dir(g, 3, "1/2"), 0);
    assert_int_equal(make_dir(g, 3, "1/2/3"), 0);
    assert_int_equal(make_dir(g, 3, "1/2/3/4"), WASI_EMLINK);
    assert_int_equal(make_dir(g, 3, "a"), 0);
    assert_int_equal(make_dir(g, 3, "a/b"), 0);
    assert_int_equal(rename_at(g, "a", "1/2/a"), WASI_EMLINK); /* would be four deep */
    assert_int_equal(rename_at(g, "a/b", "1/2/b"), 0);

    /* Out of room: the part that fits is written, then ENOSPC; other calls fail cleanly. */
    int fd = open_at(g, 3, "f", WASI_OFLAG_CREAT, 0);
    int n, total = 0;
    while ((n = io(g, "fd_write", fd, 0, 100000)) > 0)
        total += n;
    assert_int_equal(n, -(int)WASI_ENOSPC);
    assert_in_range(total, 196608, 300000);
    assert_int_equal(stat_at(g, 3, "f", 0), 0);
    assert_int_equal(stat_size(g), total);
    assert_int_equal(call(g, "fd_allocate", fd, (uint64_t)0, (uint64_t)1000000), WASI_ENOSPC);
    assert_int_equal(call(g, "fd_filestat_set_size", fd, (uint64_t)0), 0);

    char name[8] = "x";
    uint32_t e = 0;
    int made = 0;
    for (; made < 100 && !e; made++) {
        name[1] = (char)('A' + made);
        e = touch(g, 3, name);
    }
    assert_int_equal(e, WASI_ENOSPC);
    assert_int_equal(made, 14); /* root, 1, 2, 3, a, b, f are seven; thirteen more fit */
    guest_delete(g);
}

static void times(void **state) {
    (void)state;
    struct guest *g = guest_new(NULL);
    int fd = open_at(g, 3, "f", WASI_OFLAG_CREAT, 0);
    const uint32_t ATIM = SCRATCH + 40, MTIM = SCRATCH + 48, CTIM = SCRATCH + 56;
    g->now = 2000;
    assert_int_equal(write_text(g, fd, "x"), 1);
    assert_int_equal(stat_at(g, 3, "f", 0), 0);
    assert_int_equal(u64_at(g, MTIM), 2000);
    assert_int_equal(u64_at(g, CTIM), 2000);
    g->now = 3000;
    assert_int_equal(call(g, "fd_filestat_set_times", fd, (uint64_t)5, (uint64_t)6, WASI_FST_ATIM | WASI_FST_MTIM), 0);
    assert_int_equal(stat_at(g, 3, "f", 0), 0);
    assert_int_equal(u64_at(g, ATIM), 5);
    assert_int_equal(u64_at(g, MTIM), 6);
    assert_int_equal(u64_at(g, CTIM), 3000);
    assert_int_equal(call(g, "path_filestat_set_times", 3u, 0u, S("f"), (uint64_t)7, (uint64_t)8, WASI_FST_MTIM_NOW),
                     0);
    assert_int_equal(stat_at(g, 3, "f", 0), 0);
    assert_int_equal(u64_at(g, ATIM), 5);
    assert_int_equal(u64_at(g, MTIM), 3000);
    assert_int_equal(call(g, "fd_filestat_set_times", fd, (uint64_t)5, (uint64_t)6, 3u), WASI_EINVAL);
    assert_int_equal(call(g, "fd_filestat_set_times", fd, (uint64_t)5, (uint64_t)6, 12u), WASI_EINVAL);
    assert_int_equal(call(g, "fd_filestat_set_times", fd, (uint64_t)5, (uint64_t)6, 16u), WASI_EINVAL);

    /* A link's own times, or its target's. */
    assert_int_equal(symlink_at(g, "f", 3, "s"), 0);
    assert_int_equal(call(g, "path_filestat_set_times", 3u, 0u, S("s"), (uint64_t)1, (uint64_t)1, WASI_FST_MTIM), 0);
    assert_int_equal(call(g, "path_filestat_set_times", 3u, 1u, S("s"), (uint64_t)2, (uint64_t)2, WASI_FST_MTIM), 0);
    assert_int_equal(stat_at(g, 3, "s", 0), 0);
    assert_int_equal(u64_at(g, MTIM), 1);
    assert_int_equal(stat_at(g, 3, "f", 0), 0);
    assert_int_equal(u64_at(g, MTIM), 2);
    guest_delete(g);
}

/* One fd_readdir call at buffer size `size`: appends the complete names it gave; the cookie to go on from. */
static uint64_t list(struct guest *g, int fd, uint64_t cookie, uint32_t size, char *names, bool *end) {
    uint32_t buf = 100 << 10;
    assert_int_equal(call(g, "fd_readdir", fd, buf, size, cookie, (uint32_t)SCRATCH), 0);
    uint32_t used = u32_at(g, SCRATCH), at = 0;
    assert_true(used <= size);
    *end = used < size;
    while (used - at >= 24) {
        uint32_t len = u32_at(g, buf + at + 16);
        if (used - at - 24 < len) break;
        strncat(names, (char *)g->memory + buf + at + 24, len);
        strcat(names, " ");
        cookie = u64_at(g, buf + at);
        at += 24 + len;
    }
    return cookie;
}

static void readdir_cookies(void **state) {
    (void)state;
    struct guest *g = guest_new(NULL);
    assert_int_equal(make_dir(g, 3, "d"), 0);
    int d = open_dir(g, 3, "d");
    for (char name[] = "a"; name[0] <= 'e'; name[0]++)
        assert_int_equal(touch(g, d, name), 0);
    char names[512];
    bool end;
    for (uint32_t size = 26; size < 260; size++) { /* every way to cut the list gives all of it once */
        names[0] = 0;
        uint64_t cookie = 0;
        do
            cookie = list(g, d, cookie, size, names, &end);
        while (!end);
        assert_string_equal(names, ". .. a b c d e ");
    }
    /* bufused is exact: 7 entries, 24 bytes each and their names. */
    assert_int_equal(call(g, "fd_readdir", d, 100u << 10, 4096u, (uint64_t)0, (uint32_t)SCRATCH), 0);
    assert_int_equal(u32_at(g, SCRATCH), 7 * 24 + 8);
    assert_int_equal(call(g, "fd_readdir", d, 100u << 10, 7u * 24 + 7, (uint64_t)0, (uint32_t)SCRATCH), 0);
    assert_int_equal(u32_at(g, SCRATCH), 7 * 24 + 7);

    /* Removing and adding between two calls neither repeats nor loses the others. */
    names[0] = 0;
    uint64_t cookie = list(g, d, 0, 24 * 4 + 5, names, &end); /* . .. a b */
    assert_string_equal(names, ". .. a b ");
    assert_int_equal(call(g, "path_unlink_file", (uint32_t)d, S("a")), 0);
    assert_int_equal(call(g, "path_unlink_file", (uint32_t)d, S("c")), 0);
    assert_int_equal(touch(g, d, "f"), 0);
    for (char name[] = "g"; name[0] <= 'z'; name[0]++)
        assert_int_equal(touch(g, d, name), 0);
    for (char name[] = "g"; name[0] <= 'z'; name[0]++)
        assert_int_equal(call(g, "path_unlink_file", (uint32_t)d, S(name)), 0);
    names[0] = 0;
    list(g, d, cookie, 4096, names, &end);
    assert_string_equal(names, "d e f ");
    assert_true(end);
    names[0] = 0;
    list(g, d, UINT64_MAX, 4096, names, &end);
    assert_string_equal(names, "");
    int opendir = open_at(g, 3, "d", WASI_OFLAG_DIRECTORY, WASI_FDFLAG_NONBLOCK); /* as wasi-libc's */
    names[0] = 0;
    list(g, opendir, 0, 4096, names, &end);
    assert_string_equal(names, "b d e f ");
    int f = open_at(g, 3, "d/f", 0, 0);
    assert_int_equal(call(g, "fd_readdir", f, 100u << 10, 10u, (uint64_t)0, (uint32_t)SCRATCH), WASI_ENOTDIR);
    guest_delete(g);
}

static void many_names(void **state) {
    (void)state;
    struct guest *g = guest_new(NULL);
    char name[16];
    enum { N = 20000 };
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "n%d", i);
        assert_int_equal(touch(g, 3, name), 0);
    }
    for (int i = 0; i < N; i += 2) {
        snprintf(name, sizeof name, "n%d", i);
        assert_int_equal(call(g, "path_unlink_file", 3u, S(name)), 0);
    }
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "n%d", i);
        assert_int_equal(stat_at(g, 3, name, 0), i % 2 ? WASI_SUCCESS : WASI_ENOENT);
    }
    assert_int_equal(stat_at(g, 3, ".", 0), 0);
    assert_int_equal(stat_size(g), N / 2);
    guest_delete(g);
}

static void allocation(void **state) {
    (void)state;
    struct guest *g = guest_new(NULL);
    int fd = open_at(g, 3, "f", WASI_OFLAG_CREAT, 0);
    assert_int_equal(call(g, "fd_allocate", fd, (uint64_t)0, (uint64_t)0), WASI_EINVAL);
    assert_int_equal(call(g, "fd_allocate", fd, (uint64_t)-1, (uint64_t)1), WASI_EINVAL);
    assert_int_equal(call(g, "fd_allocate", fd, (uint64_t)INT64_MAX, (uint64_t)1), WASI_EFBIG);
    assert_int_equal(call(g, "fd_allocate", fd, (uint64_t)10, (uint64_t)90), 0);
    assert_int_equal(call(g, "fd_allocate", fd, (uint64_t)0, (uint64_t)20), 0);
    assert_int_equal(stat_at(g, 3, "f", 0), 0);
    assert_int_equal(stat_size(g), 100);
    assert_int_equal(call(g, "fd_advise", fd, (uint64_t)0, (uint64_t)0, 5u), 0);
    assert_int_equal(call(g, "fd_advise", fd, (uint64_t)0, (uint64_t)0, 6u), WASI_EINVAL);
    guest_delete(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contents),   cmocka_unit_test(large_file), cmocka_unit_test(open_flags),
        cmocka_unit_test(links),      cmocka_unit_test(renames),    cmocka_unit_test(removals),
        cmocka_unit_test(limits),     cmocka_unit_test(times),      cmocka_unit_test(readdir_cookies),
        cmocka_unit_test(many_names), cmocka_unit_test(allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
