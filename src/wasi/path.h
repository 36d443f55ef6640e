/* Resolving a path beneath a directory, over any tree of nodes: never above it, whatever `..` and links say. */
#ifndef DONJON_WASI_PATH_H
#define DONJON_WASI_PATH_H

#include "file.h"

/* The tree, as the walk needs it. A node is the tree's own pointer. */
struct path_tree {
    void *ctx;
    bool (*is_dir)(void *ctx, void *node);
    /* The target of a symbolic link, valid until the walk is over; false: `node` is no link. */
    bool (*link_target)(void *ctx, void *node, struct wasi_path *target);
    void *(*lookup)(void *ctx, void *dir, struct wasi_path name); /* NULL: there is none */
    void *(*parent)(void *ctx, void *dir);                        /* asked only beneath the base: never NULL */
};

enum path_follow {
    FOLLOW_NEVER, /* the last component is taken as it is */
    FOLLOW_SLASH, /* a link as last component is followed only when slashes come after it (lstat, O_NOFOLLOW) */
    FOLLOW_ALWAYS
};

enum path_last { LAST_NAME, LAST_DOT, LAST_DOTDOT };

struct path_end {
    void *parent; /* LAST_NAME: the directory that has or would have it; else NULL */
    void *node;   /* what is there; NULL: nothing (LAST_NAME only) */
    enum path_last last;
    struct wasi_path name; /* LAST_NAME: the last component; points into the path or into a link's target */
    bool slash;            /* slashes came after it: only a directory is meant */
};

/* Resolves `p` (checked by wasi_path_check) from directory `base`. WASI_SUCCESS also when only the last component is
 * missing (node NULL). ENOENT, ENOTDIR, ENOTCAPABLE (leaves `base`, or leads to an absolute link), ELOOP, ENAMETOOLONG.
 * Does not judge `slash`: that is for each operation. */
wasi_errno path_resolve(const struct path_tree *t, void *base, struct wasi_path p, enum path_follow follow,
                        struct path_end *out);

#endif
