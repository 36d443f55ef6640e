/* A tenant's request: one line of JSON, decoded and validated completely before anything is done.
 *
 *   {"v":1, "token":"...", "op":"create", "backend":"kvm"|null, "memory":bytes|null, "name":"web"|null, "restart":true}
 *   {"v":1, "token":"...", "op":"channel", "id":"<32 hex digits>"}
 *   {"v":1, "token":"...", "op":"list"}      {"op":"stop", "id":...}      {"op":"info"}
 *
 * "token" may be absent, for the tenant that needs none. Unknown members are an error: a tenant who asks for something
 * must not be told that he has it. */
#ifndef DONJON_AGENT_REQUEST_H
#define DONJON_AGENT_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    REQUEST_MAX = 64 * 1024, /* bytes of the line, without its newline */
    REQUEST_VERSION = 1,
    KEEP_ID = 32, /* hex digits: 128 random bits */
    KEEP_NAME_MAX = 63,
    TOKEN_MIN = 16,
    TOKEN_MAX = 256,
};

enum request_op { REQUEST_CREATE, REQUEST_CHANNEL, REQUEST_LIST, REQUEST_STOP, REQUEST_INFO, REQUEST_OPS };
extern const char *const request_op_names[REQUEST_OPS];

struct request {
    enum request_op op;
    char token[TOKEN_MAX + 1];    /* empty: none was given. Zeroed by request_clear */
    char id[KEEP_ID + 1];         /* channel, stop */
    char backend[16];             /* create; empty: the strongest */
    char name[KEEP_NAME_MAX + 1]; /* create; may be empty */
    uint64_t memory;              /* create; 0: the tenant's default */
    bool restart;                 /* create: build the keep anew, to wait for its tenant, when its program fails */
};

/* False with `error` in words for the tenant. `line` need not be terminated. */
bool request_parse(struct request *, const char *line, size_t size, char *error, size_t error_size);
void request_clear(struct request *);
bool keep_id_fine(const char *, size_t);

#endif
