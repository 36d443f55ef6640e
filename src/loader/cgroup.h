/* A cgroup (version 2) for one keep, where this process may make one: beside its own, so that the keep's limits are the
 * keep's alone. It bounds memory of every kind, page cache and kernel structures included, which rlimits do not; and it
 * is one process large. Where none can be made the keep runs without: its other limits hold. */
#ifndef DONJON_LOADER_CGROUP_H
#define DONJON_LOADER_CGROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cgroup {
    int parent; /* directory it is in */
    int dir;    /* itself; -1: there is none */
    char name[32];
};

/* Makes the group with its limits (memory 0: unlimited). c->dir is -1 when that is not permitted here. */
void cgroup_open(struct cgroup *c, uint64_t memory);

/* Whether a process was killed in it for want of memory. */
bool cgroup_was_oom(const struct cgroup *c);

/* Removes the group; it must be empty by now. */
void cgroup_close(struct cgroup *c);

#endif
