#include "reach.h"
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

bool reach_parse_listen(const char *text, struct reach *r) {
    unsigned least, most;
    int n = 0;
    if (strcmp(text, "none") == 0) {
        r->listen_least = r->listen_most = 0;
        return true;
    }
    if (sscanf(text, "%5u-%5u%n", &least, &most, &n) != 2 || text[n] != 0) {
        if (sscanf(text, "%5u%n", &least, &n) != 1 || text[n] != 0) return false;
        most = least;
    }
    if (least < 1 || least > most || most > UINT16_MAX) return false;
    r->listen_least = (uint16_t)least;
    r->listen_most = (uint16_t)most;
    return true;
}

bool reach_parse_connect(const char *text, struct reach *r) {
    static const char *const words[] = {[REACH_ANY] = "any", [REACH_PUBLIC] = "public", [REACH_NONE] = "none"};
    for (unsigned i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(text, words[i]) != 0) continue;
        r->connect = (enum reach_connect)i;
        return true;
    }
    return false;
}

bool reach_may_listen(const struct reach *r, uint16_t port) {
    if (r->listen_most == 0) return false;
    return port == 0 || (port >= r->listen_least && port <= r->listen_most);
}

/* IANA's registry of special-purpose addresses: whatever is not globally reachable, and multicast. */
static bool public_v4(uint32_t a) {
    static const struct {
        uint32_t net, bits;
    } special[] = {{0x00000000, 8},  {0x0a000000, 8},  {0x64400000, 10}, {0x7f000000, 8},  {0xa9fe0000, 16},
                   {0xac100000, 12}, {0xc0000000, 24}, {0xc0000200, 24}, {0xc0a80000, 16}, {0xc6120000, 15},
                   {0xc6336400, 24}, {0xcb007100, 24}, {0xe0000000, 4},  {0xf0000000, 4}};
    for (unsigned i = 0; i < sizeof special / sizeof *special; i++)
        if ((a ^ special[i].net) >> (32 - special[i].bits) == 0) return false;
    return true;
}

/* 2000::/3 is all that is given out; of that not Teredo and 6to4, which carry addresses of version 4, nor examples. */
static bool public_v6(const uint8_t a[16]) {
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (memcmp(a, mapped, sizeof mapped) == 0)
        return public_v4((uint32_t)a[12] << 24 | (uint32_t)a[13] << 16 | (uint32_t)a[14] << 8 | a[15]);
    if (a[0] >> 5 != 1) return false;
    bool teredo = a[0] == 0x20 && a[1] == 0x01 && a[2] < 0x02, to4 = a[0] == 0x20 && a[1] == 0x02;
    bool example = a[0] == 0x20 && a[1] == 0x01 && a[2] == 0x0d && a[3] == 0xb8;
    return !teredo && !to4 && !example;
}

bool reach_may_connect(const struct reach *r, const struct sockaddr *a) {
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    if (r->connect != REACH_PUBLIC) return r->connect == REACH_ANY;
    switch (a->sa_family) {
    case AF_INET: memcpy(&v4, a, sizeof v4); return public_v4(ntohl(v4.sin_addr.s_addr));
    case AF_INET6: memcpy(&v6, a, sizeof v6); return public_v6(v6.sin6_addr.s6_addr);
    default: return false;
    }
}
