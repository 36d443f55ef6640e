/* The in-memory file system: a keep's default root. Writable, bounded, gone with the keep.
 *
 * Regular files, directories, symbolic links; hard links; POSIX rename; files that live on while open after their last
 * name is gone. File contents are kept in chunks: growing never copies, holes take no memory. */
#ifndef DONJON_WASI_MEMFS_H
#define DONJON_WASI_MEMFS_H

#include "wasi.h"

struct memfs_limits { /* 0: the default named here */
    uint64_t bytes;   /* file contents, names and tables together; 1 GiB */
    uint32_t inodes;  /* 1,048,576 */
    uint32_t depth;   /* directories inside each other; 256 */
};

struct memfs;

/* NULL: out of memory. Uses host->realloc and host->clock_time; `host` is copied. */
struct memfs *memfs_new(const struct wasi_host *host, const struct memfs_limits *limits);

/* The root directory, as a new open file. It and every file opened through it keep the file system alive; NULL: out of
 * memory. */
struct wasi_file *memfs_root(struct memfs *fs);

/* Drops the caller's own reference: the file system goes when its last open file is closed. */
void memfs_release(struct memfs *fs);

/* What is used now, as limits count it. */
void memfs_usage(const struct memfs *fs, uint64_t *bytes, uint32_t *inodes);

#endif
