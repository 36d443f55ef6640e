/* A channel that carries a running program's input and output. */
#ifndef DONJON_CLI_DEPLOY_SESSION_H
#define DONJON_CLI_DEPLOY_SESSION_H

#include "link.h"

#include "../cli.h"

struct session {
    const struct cli_verb *verb;
    struct link *link;
    struct channel_client *client;
    bool input;          /* standard input is the program's */
    bool interrupt_ends; /* Ctrl-C, SIGTERM, SIGHUP end the program; otherwise they only leave */
};

enum session_end {
    SESSION_EXITED, /* the program: exit_kind, status, text */
    SESSION_LEFT,   /* by Ctrl-C, without an end of the program */
    SESSION_CLOSED, /* the keep had nothing more to say, and the program has not ended */
    SESSION_LOST,   /* the connection or the keep: text */
    SESSION_STARTED /* detached: it runs */
};
struct session_result {
    enum session_end end;
    uint8_t exit_kind;
    uint32_t status;
    int signal;    /* that made us end it or leave; 0: none */
    char *text;    /* free(); NULL: none */
    uint64_t lost; /* bytes of output */
};

/* Runs until the end of one of them. */
void session_run(const struct session *, struct session_result *);
/* How a program (SESSION_EXITED) ended, on standard error, also where there is nothing wrong with that; its exit code.
 */
int session_tell_end(const struct cli_verb *, const char *app, const struct session_result *, bool json);
/* With --json, where it came to no session: what was said last (cli_error), as the line that ends such output. */
void session_tell_failed(void);
/* Says how it ended as `donjon run` does, and gives the exit code; may end this process by the signal. */
int session_report(const struct cli_verb *, const char *app, struct session_result *, bool json);

#endif
