/* Paths that try to get out, rights, descriptors, bad pointers, poll, preview 0, traces. */
#include "guest.h"

/* ---- Paths ---- */

static void path_attacks(void **state) {
    (void)state;
    struct guest *g = guest_new(NULL);
    assert_int_equal(make_dir(g, 3, "jail"), 0);
    assert_int_equal(make_dir(g, 3, "jail/in"), 0);
    assert_int_equal(touch(g, 3, "secret"), 0);
    int j = open_dir(g, 3, "jail");
    assert_int_equal(symlink_at(g, "../secret", j, "up"), 0);
    assert_int_equal(symlink_at(g, "..", j, "parent"), 0);
    assert_int_equal(symlink_at(g, "in/../../secret", j, "zigzag"), 0);
    assert_int_equal(symlink_at(g, "up", j, "twice"), 0);
    assert_int_equal(symlink_at(g, "in/..", j, "here"), 0);
    assert_int_equal(symlink_at(g, "loop", j, "loop"), 0);
    assert_int_equal(symlink_at(g, "b", j, "a"), 0);
    assert_int_equal(symlink_at(g, "a", j, "b"), 0);
    assert_int_equal(symlink_at(g, "in/", j, "slashed"), 0);
    assert_int_equal(symlink_at(g, "././/in", j, "dots"), 0);

    static const struct {
        const char *path;
        wasi_errno expect;
    } attacks[] = {
        {"..", WASI_ENOTCAPABLE},
        {"../", WASI_ENOTCAPABLE},
        {"../secret", WASI_ENOTCAPABLE},
        {"../jail", WASI_ENOTCAPABLE},
        {"in/../../secret", WASI_ENOTCAPABLE},
        {"in/../../jail/in", WASI_ENOTCAPABLE},
        {"./.././secret", WASI_ENOTCAPABLE},
        {".//..//secret", WASI_ENOTCAPABLE},
        {"/", WASI_ENOTCAPABLE},
        {"/secret", WASI_ENOTCAPABLE},
        {"//secret", WASI_ENOTCAPABLE},
        {"up", WASI_ENOTCAPABLE},
        {"twice", WASI_ENOTCAPABLE},
        {"parent/secret", WASI_ENOTCAPABLE},
        {"zigzag", WASI_ENOTCAPABLE},
        {"here/../secret", WASI_ENOTCAPABLE},
        {"in/../parent", WASI_ENOTCAPABLE},
        {"loop", WASI_ELOOP},
        {"loop/x", WASI_ELOOP},
        {"a", WASI_ELOOP},
        {"no/../in", WASI_ENOENT},
        {"in/no/..", WASI_ENOENT},
        {"", WASI_ENOENT},
        {"in", WASI_SUCCESS},
        {"in/", WASI_SUCCESS},
        {"in//", WASI_SUCCESS},
        {"in/..", WASI_SUCCESS},
        {"./in/.//../in/.", WASI_SUCCESS},
        {"here/here/in", WASI_SUCCESS},
        {"slashed", WASI_SUCCESS},
        {"dots/..", WASI_SUCCESS},
        {"...", WASI_ENOENT},
    };
    for (size_t i = 0; i < sizeof attacks / sizeof *attacks; i++) {
        uint32_t e = stat_at(g, j, attacks[i].path, 1);
        if (e != attacks[i].expect) fail_msg("%s: %s", attacks[i].path, wasi_errno_name(e));
        int fd = open_at(g, j, attacks[i].path, WASI_OFLAG_DIRECTORY, 0);
        if (attacks[i].expect == WASI_SUCCESS ? fd < 0 : fd != -(int)attacks[i].expect)
            fail_msg("open %s: %s", attacks[i].path, wasi_errno_name((wasi_errno)-fd));
        if (fd >= 0) close_fd(g, fd);
    }
    /* The same names as something to be made, removed or moved. */
    for (size_t i = 0; i < sizeof attacks / sizeof *attacks && attacks[i].expect == WASI_ENOTCAPABLE; i++) {
        const char *p = attacks[i].path;
        if (strchr(p, '.') == NULL && p[0] != '/') continue; /* links: as last component they are not followed */
        if (strcmp(p, "in/../parent") == 0) continue;
        assert_int_equal(make_dir(g, j, p), WASI_ENOTCAPABLE);
        assert_int_equal(call(g, "path_unlink_file", (uint32_t)j, S(p)), WASI_ENOTCAPABLE);
        assert_int_equal(call(g, "path_remove_directory", (uint32_t)j, S(p)), WASI_ENOTCAPABLE);
        assert_int_equal(symlink_at(g, "x", j, p), WASI_ENOTCAPABLE);
        assert_int_equal(call(g, "path_rename", (uint32_t)j, S(p), (uint32_t)j, S("z")), WASI_ENOTCAPABLE);
        assert_int_equal(call(g, "path_rename", (uint32_t)j, S("in"), (uint32_t)j, S(p)), WASI_ENOTCAPABLE);
        assert_int_equal(call(g, "path_link", (uint32_t)j, 1u, S(p), (uint32_t)j, S("z")), WASI_ENOTCAPABLE);
        assert_int_equal(call(g, "path_readlink", (uint32_t)j, S(p), 0u, 0u, (uint32_t)SCRATCH), WASI_ENOTCAPABLE);
    }
    /* Not followed as last component, they are only links. */
    assert_int_equal(stat_at(g, j, "up", 0), 0);
    assert_int_equal(stat_at(g, j, "loop", 0), 0);
    assert_int_equal(stat_at(g, j, "parent/", 0), WASI_ENOTCAPABLE);
    assert_int_equal(touch(g, j, "up"), WASI_ENOTCAPABLE);

    /* NUL bytes and lengths. */
    assert_int_equal(call(g, "path_filestat_get", (uint32_t)j, 0u, SN("in\0", 3), (uint32_t)SCRATCH), WASI_EINVAL);
    assert_int_equal(call(g, "path_filestat_get", (uint32_t)j, 0u, SN("i\0n", 3), (uint32_t)SCRATCH), WASI_EINVAL);
    assert_int_equal(call(g, "path_symlink", SN("i\0n", 3), (uint32_t)j, S("z")), WASI_EINVAL);
    char name[5000];
    memset(name, 'x', sizeof name);
    assert_int_equal(call(g, "path_create_directory", (uint32_t)j, SN(name, 255)), 0);
    assert_int_equal(call(g, "path_create_directory", (uint32_t)j, SN(name, 256)), WASI_ENAMETOOLONG);
    for (size_t i = 0; i < sizeof name; i += 2)
        memcpy(name + i, "./", 2);
    assert_int_equal(call(g, "path_filestat_get", (uint32_t)j, 0u, SN(name, 4096), (uint32_t)SCRATCH), 0);
    assert_int_equal(call(g, "path_filestat_get", (uint32_t)j, 0u, SN(name, 4098), (uint32_t)SCRATCH),
                     WASI_ENAMETOOLONG);
    guest_delete(g);
}

/* Exactly forty links may be followed. */
static void link_limit(void **state) {
    (void)state;
    struct guest *g = guest_new(NULL);
    assert_int_equal(touch(g, 3, "l0"), 0);
    char from[8], to[8];
    for (int i = 1; i <= 41; i++) {
        snprintf(from, sizeof from, "l%d", i - 1);
        snprintf(to, sizeof to, "l%d", i);
        assert_int_equal(symlink_at(g, from, 3, to), 0);
    }
    assert_int_equal(stat_at(g, 3, "l40", 1), 0);
    assert_int_equal(stat_at(g, 3, "l41", 1), WASI_ELOOP);
    guest_delete(g);
}

/* ---- Rights ---- */

static void rights(void **state) {
    (void)state;
    struct guest *g = guest_new(NULL);
    assert_int_equal(touch(g, 3, "f"), 0);
    assert_int_equal(make_dir(g, 3, "d"), 0);

    /* Each of these rights taken from the directory stops its function. */
    static const struct {
        uint64_t right;
        const char *what;
    } one[] = {
        {WASI_RIGHT_PATH_CREATE_DIRECTORY, "mkdir"}, {WASI_RIGHT_PATH_OPEN, "open"},
        {WASI_RIGHT_PATH_CREATE_FILE, "creat"},      {WASI_RIGHT_PATH_FILESTAT_SET_SIZE, "trunc"},
        {WASI_RIGHT_PATH_LINK_SOURCE, "link"},       {WASI_RIGHT_PATH_LINK_TARGET, "link"},
        {WASI_RIGHT_PATH_READLINK, "readlink"},      {WASI_RIGHT_PATH_RENAME_SOURCE, "rename"},
        {WASI_RIGHT_PATH_RENAME_TARGET, "rename"},   {WASI_RIGHT_PATH_FILESTAT_GET, "stat"},
        {WASI_RIGHT_PATH_SYMLINK, "symlink"},        {WASI_RIGHT_PATH_REMOVE_DIRECTORY, "rmdir"},
        {WASI_RIGHT_PATH_UNLINK_FILE, "unlink"},     {WASI_RIGHT_PATH_FILESTAT_SET_TIMES, "times"},
        {WASI_RIGHT_FD_READDIR, "readdir"},
    };
    for (size_t i = 0; i < sizeof one / sizeof *one; i++) {
        const char *w = one[i].what;
        int d = open_dir(g, 3, "d");
        uint32_t u = (uint32_t)d, e = 0;
        assert_int_equal(call(g, "fd_fdstat_set_rights", u, WASI_RIGHTS_DIR & ~one[i].right, (uint64_t)0), 0);
        if (!strcmp(w, "mkdir")) e = make_dir(g, u, "x");
        if (!strcmp(w, "open"))
            e = call(g, "path_open", u, 0u, S("x"), 0u, (uint64_t)0, (uint64_t)0, 0u, (uint32_t)SCRATCH);
        if (!strcmp(w, "creat"))
            e = call(g, "path_open", u, 0u, S("x"), 1u, (uint64_t)0, (uint64_t)0, 0u, (uint32_t)SCRATCH);
        if (!strcmp(w, "trunc"))
            e = call(g, "path_open", u, 0u, S("x"), 8u, (uint64_t)0, (uint64_t)0, 0u, (uint32_t)SCRATCH);
        if (!strcmp(w, "link")) e = call(g, "path_link", u, 0u, S("x"), u, S("y"));
        if (!strcmp(w, "readlink")) e = call(g, "path_readlink", u, S("x"), 0u, 0u, (uint32_t)SCRATCH);
        if (!strcmp(w, "rename")) e = call(g, "path_rename", u, S("x"), u, S("y"));
        if (!strcmp(w, "stat")) e = stat_at(g, u, "x", 0);
        if (!strcmp(w, "symlink")) e = symlink_at(g, "x", u, "y");
        if (!strcmp(w, "rmdir")) e = call(g, "path_remove_directory", u, S("x"));
        if (!strcmp(w, "unlink")) e = call(g, "path_unlink_file", u, S("x"));
        if (!strcmp(w, "times"))
            e = call(g, "path_filestat_set_times", u, 0u, S("x"), (uint64_t)0, (uint64_t)0, (uint32_t)WASI_FST_ATIM);
        if (!strcmp(w, "readdir")) e = call(g, "fd_readdir", u, 0u, 10u, (uint64_t)0, (uint32_t)SCRATCH);
        if (e != WASI_ENOTCAPABLE) fail_msg("%s: %s", w, wasi_errno_name(e));
        close_fd(g, d);
    }

    /* The same for files. */
    int f = open_at(g, 3, "f", 0, 0);
    assert_int_equal(call(g, "fd_fdstat_set_rights", (uint32_t)f, (uint64_t)WASI_RIGHT_FD_TELL, (uint64_t)0), 0);
    char buf[4];
    uint32_t u = (uint32_t)f, s = SCRATCH;
    assert_int_equal(read_into(g, f, buf, 1), -(int)WASI_ENOTCAPABLE);
    assert_int_equal(write_text(g, f, "x"), -(int)WASI_ENOTCAPABLE);
    assert_int_equal(call(g, "fd_pread", u, 0u, 0u, (uint64_t)0, s), WASI_ENOTCAPABLE);
    assert_int_equal(call(g, "fd_pwrite", u, 0u, 0u, (uint64_t)0, s), WASI_ENOTCAPABLE);
    assert_int_equal(seek(g, f, 0, 0), -(int)WASI_ENOTCAPABLE);
    assert_int_equal(seek(g, f, 0, 1), 0); /* telling */
    assert_int_equal(call(g, "fd_tell", u, s), 0);
    assert_int_equal(call(g, "fd_sync", u), WASI_ENOTCAPABLE);
    assert_int_equal(call(g, "fd_datasync", u), WASI_ENOTCAPABLE);
    assert_int_equal(call(g, "fd_advise", u, (uint64_t)0, (uint64_t)0, 0u), WASI_ENOTCAPABLE);
    assert_int_equal(call(g, "fd_allocate", u, (uint64_t)0, (uint64_t)1), WASI_ENOTCAPABLE);
    assert_int_equal(call(g, "fd_filestat_get", u, s), WASI_ENOTCAPABLE);
    assert_int_equal(call(g, "fd_filestat_set_size", u, (uint64_t)0), WASI_ENOTCAPABLE);
    assert_int_equal(call(g, "fd_filestat_set_times", u, (uint64_t)0, (uint64_t)0, 1u), WASI_ENOTCAPABLE);
    assert_int_equal(call(g, "fd_fdstat_set_flags", u, 0u), WASI_ENOTCAPABLE);
    assert_int_equal(call(g, "fd_fdstat_set_rights", u, (uint64_t)WASI_RIGHT_FD_READ, (uint64_t)0), WASI_ENOTCAPABLE);
    assert_int_equal(call(g, "fd_fdstat_get", u, s), 0);
    assert_int_equal(u64_at(g, SCRATCH + 8), WASI_RIGHT_FD_TELL);
    guest_delete(g);
}

/* What is opened through a directory has no more than the directory passes on. */
static void inheritance(void **state) {
    (void)state;
    struct guest *g = guest_new(NULL);
    assert_int_equal(touch(g, 3, "f"), 0);
    int d = open_dir(g, 3, ".");
    uint64_t reading = (WASI_RIGHTS_DIR | WASI_RIGHTS_FILE) & ~(uint64_t)WASI_RIGHTS_CHANGING;
    assert_int_equal(call(g, "fd_fdstat_set_rights", (uint32_t)d, (uint64_t)WASI_RIGHTS_DIR, reading), 0);
    uint32_t s = SCRATCH;
    assert_int_equal(
        call(g, "path_open", (uint32_t)d, 0u, S("f"), 0u, (uint64_t)WASI_RIGHT_FD_WRITE, (uint64_t)0, 0u, s),
        WASI_ENOTCAPABLE);
    /* As Rust and Go ask: more than there is, of which only the rest is given. */
    uint64_t asks = (WASI_RIGHTS_DIR | WASI_RIGHTS_FILE) & ~(uint64_t)WASI_RIGHT_FD_WRITE;
    assert_int_equal(call(g, "path_open", (uint32_t)d, 0u, S("f"), 0u, asks, ~(uint64_t)0, 0u, s), 0);
    uint32_t f = u32_at(g, s);
    assert_int_equal(call(g, "fd_fdstat_get", f, s), 0);
    assert_int_equal(u64_at(g, s + 8), WASI_RIGHTS_FILE & ~(uint64_t)WASI_RIGHTS_CHANGING);
    assert_int_equal(u64_at(g, s + 16) & ~reading, 0);
    assert_int_equal(call(g, "fd_filestat_set_size", f, (uint64_t)0), WASI_ENOTCAPABLE);

    /* A directory's rights are only those that mean something on directories. */
    assert_int_equal(call(g, "path_open", 3u, 0u, S("."), 2u, (uint64_t)WASI_RIGHT_FD_SEEK, (uint64_t)0, 0u, s), 0);
    assert_int_equal(call(g, "fd_fdstat_get", u32_at(g, s), s + 8), 0);
    assert_int_equal(u64_at(g, s + 16), 0);
    guest_delete(g);
}

/* ---- Descriptors ---- */

static void descriptors(void **state) {
    (void)state;
    struct guest *g = guest_new(NULL);
    uint32_t s = SCRATCH;
    assert_int_equal(call(g, "fd_prestat_get", 3u, s), 0);
    assert_int_equal(u32_at(g, s), 0);
    assert_int_equal(u32_at(g, s + 4), 1);
    assert_int_equal(call(g, "fd_prestat_get", 4u, s), WASI_EBADF);
    assert_int_equal(call(g, "fd_prestat_get", 0u, s), WASI_EBADF);
    assert_int_equal(call(g, "fd_prestat_dir_name", 3u, s, 0u), WASI_ENAMETOOLONG);
    assert_int_equal(call(g, "fd_prestat_dir_name", 3u, s, 5u), 0);
    assert_int_equal(g->memory[s], '/');

    int a = open_at(g, 3, "a", WASI_OFLAG_CREAT, 0), b = open_at(g, 3, "b", WASI_OFLAG_CREAT, 0);
    assert_int_equal(write_text(g, a, "aaa"), 3);
    assert_int_equal(call(g, "fd_renumber", (uint32_t)a, 77u), WASI_EBADF);
    assert_int_equal(call(g, "fd_renumber", (uint32_t)a, (uint32_t)b), 0);
    assert_int_equal(close_fd(g, a), WASI_EBADF);
    assert_int_equal(seek(g, b, 0, 1), 3); /* the position moved along */
    assert_int_equal(call(g, "fd_renumber", (uint32_t)b, (uint32_t)b), 0);
    assert_int_equal(call(g, "fd_renumber", 3u, (uint32_t)b), 0); /* a preopen may move */
    assert_int_equal(call(g, "fd_prestat_get", (uint32_t)b, s), 0);
    assert_int_equal(call(g, "fd_prestat_get", 3u, s), WASI_EBADF);
    assert_int_equal(stat_at(g, (uint32_t)b, "a", 0), 0);
    assert_int_equal(open_at(g, (uint32_t)b, "a", 0, 0), 3); /* the lowest free */

    /* A stream has no position; not a socket; not a directory. */
    assert_int_equal(call(g, "fd_pread", 1u, 0u, 0u, (uint64_t)0, s), WASI_ESPIPE);
    assert_int_equal(seek(g, 1, 0, 0), -(int)WASI_ESPIPE);
    assert_int_equal(call(g, "sock_shutdown", 1u, 1u), WASI_ENOTSOCK);
    assert_int_equal(call(g, "sock_shutdown", 99u, 1u), WASI_EBADF);
    assert_int_equal(call(g, "sock_recv", 1u, 0u, 0u, 0u, s, s), WASI_ENOTSOCK);
    assert_int_equal(call(g, "sock_accept", 1u, 0u, s), WASI_ENOTSOCK);
    assert_int_equal(make_dir(g, 1, "x"), WASI_ENOTDIR);
    char buf[4];
    assert_int_equal(read_into(g, 0, buf, 4), 0);
    assert_int_equal(write_text(g, 2, "lost"), 4);
    guest_delete(g);
}

static void descriptor_limit(void **state) {
    (void)state;
    struct guest *g = guest_new(NULL);
    assert_int_equal(wasi_add_file(g->w, WASI_FD_MAX, wasi_file_null(), 0, 0, 0), WASI_EMFILE);
    assert_int_equal(wasi_add_file(g->w, 1, wasi_file_null(), 0, 0, 0), WASI_EEXIST);
    for (uint32_t fd = 4; fd < 100; fd++)
        assert_int_equal(touch(g, 3, "f") || open_at(g, 3, "f", 0, 0) != (int)fd, 0);
    guest_delete(g);
}

/* ---- Arguments, environment, the end ---- */

static void program(void **state) {
    (void)state;
    struct guest *g = guest_new(NULL);
    uint32_t s = SCRATCH;
    assert_int_equal(wasi_add_arg(g->w, "app", 3), 0);
    assert_int_equal(wasi_add_arg(g->w, "", 0), 0);
    assert_int_equal(wasi_add_arg(g->w, "a\0b", 3), WASI_EINVAL);
    assert_int_equal(wasi_add_env(g->w, "K=v=w", 5), 0);
    assert_int_equal(wasi_add_env(g->w, "K", 1), WASI_EINVAL);
    assert_int_equal(wasi_add_env(g->w, "=v", 2), WASI_EINVAL);
    assert_int_equal(call(g, "args_sizes_get", s, s + 4), 0);
    assert_int_equal(u32_at(g, s), 2);
    assert_int_equal(u32_at(g, s + 4), 5);
    assert_int_equal(call(g, "args_get", s, s + 100), 0);
    assert_int_equal(u32_at(g, s + 4), s + 104);
    assert_memory_equal(g->memory + s + 100, "app\0\0", 5);
    assert_int_equal(call(g, "environ_sizes_get", s, s + 4), 0);
    assert_int_equal(u32_at(g, s), 1);
    assert_int_equal(call(g, "environ_get", s, s + 100), 0);
    assert_string_equal((char *)g->memory + s + 100, "K=v=w");
    assert_int_equal(call(g, "args_get", (uint32_t)MEMORY - 4, s), WASI_EFAULT);
    assert_int_equal(call(g, "args_get", s, (uint32_t)MEMORY - 4), WASI_EFAULT);

    assert_int_equal(call(g, "clock_time_get", 1u, (uint64_t)0, s), 0);
    assert_int_equal(u64_at(g, s), g->now);
    assert_int_equal(call(g, "clock_time_get", 4u, (uint64_t)0, s), WASI_EINVAL);
    assert_int_equal(call(g, "clock_res_get", 0u, s), 0);
    assert_int_equal(u64_at(g, s), 1000);
    assert_int_equal(call(g, "random_get", s, 8u), 0);
    assert_int_equal(g->memory[s + 7], 0xa5);
    assert_int_equal(call(g, "random_get", s, (uint32_t)MEMORY), WASI_EFAULT);
    assert_int_equal(call(g, "sched_yield"), 0);

    assert_int_equal(call(g, "proc_raise", 0u), 0);
    assert_int_equal(call(g, "proc_raise", 16u), 0);            /* CHLD: ignored */
    assert_int_equal(call(g, "proc_raise", 18u), WASI_ENOTSUP); /* STOP */
    assert_int_equal(call(g, "proc_raise", 31u), WASI_EINVAL);
    uint32_t code;
    assert_false(wasi_exited(g->w, &code));
    assert_int_equal(call(g, "proc_raise", 6u), 0x10000 + WASI_CALL_EXIT);
    assert_true(wasi_exited(g->w, &code));
    assert_int_equal(code, 128 + 6);
    guest_delete(g);

    g = guest_new(NULL);
    assert_int_equal(call(g, "proc_exit", 42u), 0x10000 + WASI_CALL_EXIT);
    assert_string_equal(g->traced, "proc_exit(42) does not return");
    assert_true(wasi_exited(g->w, &code));
    assert_int_equal(code, 42);
    guest_delete(g);
}

/* ---- Bad pointers: each function with each pointer outside, in turn; nothing may change ---- */

static void bad_pointers(void **state) {
    (void)state;
    struct guest *g = guest_new(NULL);
    int fd = open_at(g, 3, "f", WASI_OFLAG_CREAT, 0);
    assert_int_equal(write_text(g, fd, "text"), 4);
    assert_int_equal(wasi_add_arg(g->w, "a", 1), 0);
    assert_int_equal(wasi_add_env(g->w, "A=b", 3), 0);
    static const uint32_t bad[] = {MEMORY, MEMORY - 1, UINT32_MAX, UINT32_MAX - 7};
    static uint8_t before[MEMORY];
    for (uint32_t index = 0; index < WASI_FUNCTIONS; index++) {
        const char *params = wasi_functions[index].params;
        for (const char *p = params; *p; p++) {
            if (!strchr("pvso", *p)) continue;
            for (size_t b = 0; b < sizeof bad / sizeof *bad; b++) {
                uint64_t args[WASI_PARAMS_MAX] = {0};
                int n = 0;
                for (const char *q = params; *q; q++) {
                    bool path = strncmp(wasi_functions[index].name, "path", 4) == 0;
                    switch (*q) {
                    case 'f': args[n++] = path || strstr(wasi_functions[index].name, "dir") ? 3 : (uint32_t)fd; break;
                    case 's':
                    case 'v':
                        args[n++] = q == p ? bad[b] : SCRATCH;
                        args[n++] = 2;
                        break;
                    case 'p':
                    case 'o': args[n++] = q == p ? bad[b] : SCRATCH; break;
                    default: args[n++] = strcmp(wasi_functions[index].name, "path_open") ? 2 : 0; break;
                    }
                }
                memset(g->memory + SCRATCH, 0, 64);
                memcpy(g->memory + SCRATCH, "f", 1);
                memcpy(before, g->memory, MEMORY);
                uint32_t result = 0;
                enum wasi_call_result r = wasi_call(g->w, g->abi, index, g->memory, MEMORY, args, &result);
                if (r != WASI_CALL_RETURN || result == WASI_SUCCESS)
                    fail_msg("%s: bad pointer in '%c' accepted", wasi_functions[index].name, *p);
                assert_memory_equal(before, g->memory, MEMORY);
            }
        }
    }
    /* A vector whose second entry is bad: nothing is written. */
    put_u32(g, SCRATCH, 0), put_u32(g, SCRATCH + 4, 4);
    put_u32(g, SCRATCH + 8, MEMORY - 2), put_u32(g, SCRATCH + 12, 4);
    assert_int_equal(call(g, "fd_write", (uint32_t)fd, (uint32_t)SCRATCH, 2u, (uint32_t)SCRATCH + 64), WASI_EFAULT);
    assert_int_equal(call(g, "fd_write", (uint32_t)fd, (uint32_t)SCRATCH, UINT32_MAX, (uint32_t)SCRATCH + 64),
                     WASI_EFAULT);
    assert_int_equal(stat_at(g, 3, "f", 0), 0);
    assert_int_equal(stat_size(g), 4);

    /* More entries than are taken at once: a short write, no error. */
    for (uint32_t i = 0; i < 2000; i++)
        put_u32(g, 100000 + i * 8, 0), put_u32(g, 100004 + i * 8, 1);
    assert_int_equal(call(g, "fd_write", (uint32_t)fd, 100000u, 2000u, (uint32_t)SCRATCH), 0);
    assert_int_equal(u32_at(g, SCRATCH), WASI_IOV_MAX);

    /* No memory at all. */
    uint64_t args[WASI_PARAMS_MAX] = {0};
    uint32_t result;
    int index = wasi_function_find(WASI_ABI_PREVIEW1, "random_get", 10);
    assert_int_equal(wasi_call(g->w, g->abi, (uint32_t)index, NULL, 0, args, &result), WASI_CALL_RETURN);
    assert_int_equal(result, WASI_EFAULT);
    guest_delete(g);
}

/* ---- poll_oneoff ---- */

struct slow { /* a stream that can be waited for, and a socket */
    struct wasi_file file;
    uint64_t token;
    bool ready, hangup;
};
static void slow_close(struct wasi_file *f) {
    (void)f;
}
static wasi_errno slow_poll(struct wasi_file *f, struct wasi_poll *out) {
    struct slow *s = (struct slow *)f;
    out->ready = s->ready;
    out->hangup = s->hangup;
    out->nbytes = 3;
    if (!s->ready) out->token = s->token;
    return WASI_SUCCESS;
}
static const struct wasi_file_ops slow_ops = {.name = "slow", .close = slow_close, .poll = slow_poll};

enum { IN = 20000, OUT = 30000, COUNT = 40000 };

static void sub_clock(struct guest *g, int i, uint64_t userdata, uint32_t id, uint64_t timeout, uint16_t flags) {
    uint32_t at = IN + (uint32_t)i * 48;
    memset(g->memory + at, 0, 48);
    put_u64(g, at, userdata);
    put_u32(g, at + 16, id);
    put_u64(g, at + 24, timeout);
    put_u16(g, at + 40, flags);
}
static void sub_fd(struct guest *g, int i, uint64_t userdata, uint8_t type, uint32_t fd) {
    uint32_t at = IN + (uint32_t)i * 48;
    memset(g->memory + at, 0, 48);
    put_u64(g, at, userdata);
    g->memory[at + 8] = type;
    put_u32(g, at + 16, fd);
}
static int poll_n(struct guest *g, uint32_t n) {
    uint32_t e = call(g, "poll_oneoff", (uint32_t)IN, (uint32_t)OUT, n, (uint32_t)COUNT);
    return e ? -(int)e : (int)u32_at(g, COUNT);
}
static void expect_event(struct guest *g, int i, uint64_t userdata, uint16_t error, uint8_t type) {
    uint32_t at = OUT + (uint32_t)i * 32;
    assert_int_equal(u64_at(g, at), userdata);
    assert_int_equal(u32_at(g, at + 8) & 0xffff, error);
    assert_int_equal(g->memory[at + 10], type);
}

static void poll_clocks(void **state) {
    (void)state;
    struct guest *g = guest_new(NULL);
    assert_int_equal(poll_n(g, 0), -(int)WASI_EINVAL);
    sub_clock(g, 0, 11, 1, 5000, 0);
    assert_int_equal(poll_n(g, 1), 1);
    assert_int_equal(g->slept, 5000);
    expect_event(g, 0, 11, 0, 0);

    /* Absolute, past and future; the earliest wins, both when they are due together. */
    sub_clock(g, 0, 12, 0, g->now + 300, 1);
    sub_clock(g, 1, 13, 1, 200, 0);
    g->slept = 0;
    assert_int_equal(poll_n(g, 2), 1);
    assert_int_equal(g->slept, 200);
    expect_event(g, 0, 13, 0, 0);
    sub_clock(g, 1, 13, 1, 100, 0);
    assert_int_equal(poll_n(g, 2), 2);
    sub_clock(g, 0, 14, 0, g->now - 1, 1);
    g->polls = 0;
    assert_int_equal(poll_n(g, 1), 1);
    assert_int_equal(g->polls, 0); /* due already: no waiting */

    /* Faults are the event's. */
    sub_clock(g, 0, 15, 9, 0, 0);
    sub_clock(g, 1, 16, 1, 100, 2);
    sub_clock(g, 2, 17, 1, 100, 0);
    assert_int_equal(poll_n(g, 3), 2);
    expect_event(g, 0, 15, WASI_EINVAL, 0);
    expect_event(g, 1, 16, WASI_EINVAL, 0);
    sub_clock(g, 0, 15, WASI_CLOCK_PROCESS_CPUTIME, 5, 0);
    assert_int_equal(poll_n(g, 1), 1);
    expect_event(g, 0, 15, WASI_ENOTSUP, 0);
    g->memory[IN + 8] = 3; /* no such type */
    assert_int_equal(poll_n(g, 1), -(int)WASI_EINVAL);

    /* For ever: only the host can end it. */
    sub_clock(g, 0, 18, 1, UINT64_MAX, 0);
    g->now = UINT64_MAX - 1;
    assert_int_equal(poll_n(g, 1), 1); /* UINT64_MAX itself is reached */
    guest_delete(g);
}

static void poll_files(void **state) {
    (void)state;
    struct guest *g = guest_new(NULL);
    struct slow slow = {.token = 99};
    wasi_file_init(&slow.file, &slow_ops, WASI_FILETYPE_UNKNOWN);
    assert_int_equal(wasi_add_file(g->w, 9, &slow.file, WASI_RIGHTS_STREAM, 0, 0), 0);
    int fd = open_at(g, 3, "f", WASI_OFLAG_CREAT, 0);
    assert_int_equal(write_text(g, fd, "12345"), 5);
    assert_int_equal(seek(g, fd, 1, 0), 1);

    /* A regular file is always ready, with what is left of it. */
    sub_fd(g, 0, 1, 1, (uint32_t)fd);
    sub_fd(g, 1, 2, 1, 9);
    sub_fd(g, 2, 3, 1, 1234);
    assert_int_equal(poll_n(g, 3), 2);
    expect_event(g, 0, 1, 0, 1);
    assert_int_equal(u64_at(g, OUT + 16), 4);
    expect_event(g, 1, 3, WASI_EBADF, 1);
    assert_int_equal(g->slept, 0);

    /* Waits for the stream, or for the clock, whichever is first. */
    g->wakes_token = 99;
    g->wakes_at = g->now + 700;
    sub_fd(g, 0, 4, 1, 9);
    sub_clock(g, 1, 5, 1, 1000, 0);
    assert_int_equal(poll_n(g, 2), 1);
    expect_event(g, 0, 4, 0, 1);
    assert_int_equal(u64_at(g, OUT + 16), 7);
    assert_int_equal(g->slept, 700);
    g->wakes_at = g->now + 5000;
    assert_int_equal(poll_n(g, 2), 1);
    expect_event(g, 0, 5, 0, 0);
    assert_int_equal(g->slept, 1700);

    /* A hangup is told. */
    slow.ready = slow.hangup = true;
    sub_fd(g, 0, 6, 2, 9);
    assert_int_equal(poll_n(g, 1), 1);
    expect_event(g, 0, 6, 0, 2);
    assert_int_equal(u64_at(g, OUT + 16), 3);
    assert_int_equal(u32_at(g, OUT + 24) & 0xffff, 1);

    /* Rights. */
    assert_int_equal(
        call(g, "fd_fdstat_set_rights", 9u, (uint64_t)WASI_RIGHT_POLL_FD_READWRITE | WASI_RIGHT_FD_READ, (uint64_t)0),
        0);
    assert_int_equal(poll_n(g, 1), 1);
    expect_event(g, 0, 6, WASI_ENOTCAPABLE, 2);
    assert_int_equal(call(g, "fd_fdstat_set_rights", 9u, (uint64_t)WASI_RIGHT_FD_READ, (uint64_t)0), 0);
    sub_fd(g, 0, 7, 1, 9);
    assert_int_equal(poll_n(g, 1), 1);
    expect_event(g, 0, 7, WASI_ENOTCAPABLE, 1);
    guest_delete(g);
}

static void poll_interrupted(void **state) {
    (void)state;
    struct guest *g = guest_new(NULL);
    struct slow slow = {.token = 98};
    wasi_file_init(&slow.file, &slow_ops, WASI_FILETYPE_UNKNOWN);
    assert_int_equal(wasi_add_file(g->w, 9, &slow.file, WASI_RIGHTS_STREAM, 0, 0), 0);
    sub_fd(g, 0, 1, 1, 9);
    assert_false(wasi_interrupted(g->w));
    assert_int_equal(call(g, "poll_oneoff", (uint32_t)IN, (uint32_t)OUT, 1u, (uint32_t)COUNT),
                     0x10000 + WASI_CALL_INTERRUPTED);
    assert_true(wasi_interrupted(g->w));
    /* Many subscriptions take another road; the clock that is due ends it. */
    for (int i = 0; i < 20; i++)
        sub_fd(g, i, (uint64_t)i, 1, 9);
    sub_clock(g, 20, 20, 1, 50, 0);
    assert_int_equal(poll_n(g, 21), 1);
    expect_event(g, 0, 20, 0, 0);
    guest_delete(g);
}

/* ---- Sockets: what reaches the provider, and what comes back ---- */

struct socket {
    struct wasi_file file;
    char log[128];
    struct wasi_file *next; /* what accept gives */
};
#define LOG(f, ...) snprintf(((struct socket *)(f))->log, sizeof((struct socket *)(f))->log, __VA_ARGS__)

static wasi_errno socket_accept(struct wasi_file *f, uint16_t fdflags, uint16_t child, struct wasi_file **out) {
    LOG(f, "accept %u %u", fdflags, child);
    *out = ((struct socket *)f)->next;
    ((struct socket *)f)->next = NULL;
    return *out ? WASI_SUCCESS : WASI_EAGAIN;
}
static wasi_errno socket_recv(struct wasi_file *f, const struct wasi_iov *iov, uint32_t n, uint16_t riflags,
                              uint16_t fdflags, size_t *done, uint16_t *roflags) {
    LOG(f, "recv %u of %zu flags %u %u", n, iov[0].len, riflags, fdflags);
    memcpy(iov[0].buf, "hi", 2);
    *done = 2;
    *roflags = WASI_RO_DATA_TRUNCATED;
    return WASI_SUCCESS;
}
static wasi_errno socket_send(struct wasi_file *f, const struct wasi_iov *iov, uint32_t n, uint16_t fdflags,
                              size_t *done) {
    LOG(f, "send %u of %zu flags %u", n, iov[0].len, fdflags);
    *done = iov[0].len;
    return WASI_SUCCESS;
}
static wasi_errno socket_shutdown(struct wasi_file *f, uint8_t how) {
    LOG(f, "shutdown %u", how);
    return WASI_SUCCESS;
}
static const struct wasi_file_ops listener_ops = {.name = "listener", .close = slow_close, .accept = socket_accept};
static const struct wasi_file_ops socket_ops = {
    .name = "socket", .close = slow_close, .recv = socket_recv, .send = socket_send, .shutdown = socket_shutdown};

static void sockets(void **state) {
    (void)state;
    struct guest *g = guest_new(NULL);
    struct socket peer, listener = {.next = &peer.file};
    wasi_file_init(&listener.file, &listener_ops, WASI_FILETYPE_SOCKET_STREAM);
    wasi_file_init(&peer.file, &socket_ops, WASI_FILETYPE_SOCKET_STREAM);
    uint64_t inheriting = WASI_RIGHTS_SOCKET & ~(uint64_t)WASI_RIGHT_SOCK_ACCEPT;
    assert_int_equal(wasi_add_file(g->w, 5, &listener.file, WASI_RIGHT_SOCK_ACCEPT, inheriting, 0), 0);
    uint32_t s = SCRATCH;

    /* The search for preopens ends at a socket, unless a preopen comes after it. */
    assert_int_equal(call(g, "fd_prestat_get", 5u, s), WASI_EBADF);
    const uint64_t dir = WASI_RIGHTS_DIR;
    assert_int_equal(wasi_add_preopen(g->w, memfs_root(g->fs), "/4", dir, dir, NULL), 0);
    assert_int_equal(wasi_add_preopen(g->w, memfs_root(g->fs), "/6", dir, dir, NULL), 0);
    assert_int_equal(call(g, "fd_prestat_get", 5u, s), 0);
    assert_int_equal(u32_at(g, s), 1);
    assert_int_equal(u32_at(g, s + 4), 0);
    assert_int_equal(call(g, "fd_prestat_dir_name", 5u, s, 0u), WASI_EBADF);
    assert_int_equal(call(g, "fd_prestat_get", 6u, s), 0);
    assert_int_equal(u32_at(g, s), 0);
    assert_int_equal(call(g, "fd_prestat_get", 2u, s), WASI_EBADF);
    assert_int_equal(close_fd(g, 4), 0);

    assert_int_equal(call(g, "sock_accept", 5u, 1u, s), WASI_EINVAL);
    assert_int_equal(call(g, "sock_accept", 5u, (uint32_t)WASI_FDFLAG_NONBLOCK, s), 0);
    assert_string_equal(listener.log, "accept 0 4");
    uint32_t fd = u32_at(g, s);
    assert_int_equal(fd, 4);
    assert_int_equal(call(g, "sock_accept", 5u, 0u, s), WASI_EAGAIN);
    assert_int_equal(call(g, "sock_recv", 5u, 0u, 0u, 0u, s, s), WASI_ENOTCAPABLE);
    assert_int_equal(call(g, "sock_accept", fd, 0u, s), WASI_ENOTCAPABLE);
    assert_int_equal(call(g, "fd_fdstat_get", fd, s), 0);
    assert_int_equal(u32_at(g, s) >> 16, WASI_FDFLAG_NONBLOCK);
    assert_int_equal(u64_at(g, s + 8), inheriting);

    put_u32(g, s, 50000), put_u32(g, s + 4, 10);
    assert_int_equal(call(g, "sock_recv", fd, s, 1u, 4u, s + 16, s + 20), WASI_EINVAL);
    assert_int_equal(call(g, "sock_recv", fd, s, 1u, 3u, s + 16, s + 20), 0);
    assert_string_equal(peer.log, "recv 1 of 10 flags 3 4");
    assert_int_equal(u32_at(g, s + 16), 2);
    assert_int_equal(u32_at(g, s + 20) & 0xffff, WASI_RO_DATA_TRUNCATED);
    assert_memory_equal(g->memory + 50000, "hi", 2);
    assert_int_equal(call(g, "sock_send", fd, s, 1u, 1u, s + 16), WASI_EINVAL);
    assert_int_equal(call(g, "sock_send", fd, s, 1u, 0u, s + 16), 0);
    assert_string_equal(peer.log, "send 1 of 10 flags 4");
    assert_int_equal(call(g, "sock_shutdown", fd, 0u), WASI_EINVAL);
    assert_int_equal(call(g, "sock_shutdown", fd, 4u), WASI_EINVAL);
    assert_int_equal(call(g, "sock_shutdown", fd, 2u), 0);
    assert_string_equal(peer.log, "shutdown 2");
    assert_int_equal(call(g, "fd_write", fd, s, 1u, s + 16), WASI_EBADF); /* this provider has no stream operations */
    guest_delete(g);
}

/* ---- Preview 0 ---- */

static void preview0(void **state) {
    (void)state;
    struct guest *g = guest_new(NULL);
    assert_int_equal(wasi_abi_of("wasi_unstable", 13), WASI_ABI_UNSTABLE);
    assert_int_equal(wasi_abi_of("wasi_snapshot_preview1", 22), WASI_ABI_PREVIEW1);
    assert_int_equal(wasi_abi_of("wasi_snapshot_preview2", 22), -1);
    assert_int_equal(wasi_function_find(WASI_ABI_UNSTABLE, "sock_accept", 11), -1);
    int fd = open_at(g, 3, "f", WASI_OFLAG_CREAT, 0);
    assert_int_equal(write_text(g, fd, "0123456789"), 10);
    g->abi = WASI_ABI_UNSTABLE;
    assert_int_equal(seek(g, fd, 4, 2), 4);  /* SET */
    assert_int_equal(seek(g, fd, 1, 0), 5);  /* CUR */
    assert_int_equal(seek(g, fd, -1, 1), 9); /* END */
    memset(g->memory + SCRATCH, 0xee, 64);
    assert_int_equal(stat_at(g, 3, "f", 0), 0);
    assert_int_equal(u32_at(g, SCRATCH + 20), 1);  /* nlink */
    assert_int_equal(u64_at(g, SCRATCH + 24), 10); /* size */
    assert_int_equal(u64_at(g, SCRATCH + 40), g->now);
    assert_int_equal(g->memory[SCRATCH + 56], 0xee);

    /* subscription: 56 bytes, the clock's number at 24 */
    memset(g->memory + IN, 0, 112);
    put_u64(g, IN, 5), put_u32(g, IN + 24, 1), put_u64(g, IN + 32, 123);
    put_u64(g, IN + 56, 6), g->memory[IN + 56 + 8] = 1, put_u32(g, IN + 56 + 16, 555);
    assert_int_equal(poll_n(g, 1), 1);
    assert_int_equal(g->slept, 123);
    assert_int_equal(poll_n(g, 2), 1);
    expect_event(g, 0, 6, WASI_EBADF, 1);
    guest_delete(g);
}

static void traces(void **state) {
    (void)state;
    struct guest *g = guest_new(NULL);
    assert_int_equal(touch(g, 3, "f"), 0);
    call(g, "path_open", 3u, 1u, S("a\"\n"), 0u, (uint64_t)2, (uint64_t)0, 0u, (uint32_t)SCRATCH);
    assert_string_equal(g->traced, "path_open(3, 1, \"a\\x22\\x0a\", 0, 2, 0, 0, 0x400) = ENOENT");
    call(g, "path_open", 3u, 1u, S("f"), 0u, (uint64_t)2, (uint64_t)0, 0u, (uint32_t)SCRATCH);
    assert_string_equal(g->traced, "path_open(3, 1, \"f\", 0, 2, 0, 0, [4]) = 0");
    call(g, "path_unlink_file", 3u, UINT32_MAX, 5u);
    assert_string_equal(g->traced, "path_unlink_file(3, 0xffffffff/5) = EFAULT");
    char name[3000];
    memset(name, 1, sizeof name);
    call(g, "path_link", 3u, 1u, SN(name, sizeof name), 3u, SN(name, sizeof name));
    assert_true(strlen(g->traced) < WASI_TRACE_MAX);
    guest_delete(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(path_attacks), cmocka_unit_test(link_limit),       cmocka_unit_test(rights),
        cmocka_unit_test(inheritance),  cmocka_unit_test(descriptors),      cmocka_unit_test(descriptor_limit),
        cmocka_unit_test(program),      cmocka_unit_test(bad_pointers),     cmocka_unit_test(poll_clocks),
        cmocka_unit_test(poll_files),   cmocka_unit_test(poll_interrupted), cmocka_unit_test(preview0),
        cmocka_unit_test(traces),       cmocka_unit_test(sockets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
