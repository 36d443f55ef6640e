/* donjon-keep locks itself in: it parses what a keep asks, and belongs to the same user as the agent, its key and the
 * other tenants' keeps. Two locks, because of what building a keep takes.
 *
 * keep_lock_paths: at the beginning, in the first thread: no file but the system's, this program's neighbours (warden,
 * shim), devices, what lies below its own control group, and the keep's own directory, which is the working directory.
 *
 * keep_lock_calls: once the keep is built, in all threads: no other program, no other process's memory, no mounts, no
 * namespaces, no signals to any process but itself and the children it has then, no process into its control group, no
 * kernel interfaces beside files and sockets.
 *
 * Sockets stay: workloads listen and connect. A lock that this kernel has and that does not close is a failure. */
#ifndef DONJON_AGENT_KEEP_LOCK_H
#define DONJON_AGENT_KEEP_LOCK_H

#include <stdbool.h>

bool keep_lock_paths(const char *warden); /* the warden's file, where one is named; NULL: beside this program */
bool keep_lock_calls(void);

#endif
