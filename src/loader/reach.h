/* How far a deployed keep reaches into its host's network. The host decides: what a tenant's program connects to is
 * connected to from this machine, and its own services and neighbours may trust that. */
#ifndef DONJON_LOADER_REACH_H
#define DONJON_LOADER_REACH_H

#include <stdbool.h>
#include <stdint.h>

struct sockaddr;

enum reach_connect {
    REACH_ANY,
    REACH_PUBLIC, /* addresses of the Internet: not this machine, private networks, link-local or multicast ones */
    REACH_NONE
};
struct reach {
    uint16_t listen_least, listen_most; /* ports; 0 and 0: none */
    enum reach_connect connect;
};

/* "20000-20999", "8443", "none"; "any", "public", "none". False: not such a word. */
bool reach_parse_listen(const char *text, struct reach *r);
bool reach_parse_connect(const char *text, struct reach *r);

bool reach_may_listen(const struct reach *r, uint16_t port); /* 0: any port, if there is one at all */
bool reach_may_connect(const struct reach *r, const struct sockaddr *a);

#endif
