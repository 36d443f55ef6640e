/* The process that holds a keep: started, recognised, measured, killed. */
#ifndef DONJON_AGENT_KEEP_PROCESS_H
#define DONJON_AGENT_KEEP_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct keep_process {
    const char *program, *state, *id, *backend; /* backend "": the strongest */
    const char *listen, *connect;               /* keep.h */
    const char *token;                          /* of KEEP_TOKEN digits, for its control socket */
    uint64_t memory;
    unsigned idle;
    bool debug;
    int procs_fd; /* of the cgroup to enter; -1: none */

    /* Filled by start. */
    pid_t pid;
    uint64_t started;
    int status_fd, go_fd;
};

/* Forks; the child waits for `go` before it becomes donjon-keep. False: nothing was started. */
bool keep_process_start(struct keep_process *);
bool keep_process_go(struct keep_process *);
/* Ends what `start` began; may be called after it failed. */
void keep_process_abandon(struct keep_process *);

/* Whether `pid` is still the process that started at `started`: numbers are given anew. */
bool keep_process_is(pid_t pid, uint64_t started);
/* A descriptor of that process (pidfd_open(2)), readable once it has ended; -1: it is gone already. */
int keep_process_open(pid_t pid, uint64_t started);
void keep_process_kill(int pidfd);

struct keep_usage {
    uint64_t cpu_ms, memory; /* of it and its children */
};
void keep_process_usage(pid_t pid, uint64_t started, struct keep_usage *);

#endif
