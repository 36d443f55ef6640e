#define _GNU_SOURCE
#include "kvm_gdb.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PACKET = 0x4000, BREAK = 3 /* Ctrl-C, as one byte */, SIGTRAP_ = 5 };
#define FLAG_TF UINT64_C(0x100)

/* ---- memory ---- */

/* The bytes behind a virtual address, up to its page's end; NULL: nothing is mapped there. What the tables say is the
 * keep's, and may be anything. */
static uint8_t *translate(const struct gdb *g, uint64_t va, size_t *left) {
    enum { PRESENT = 1, LARGE_PAGE = 0x80 };
    const uint64_t address = UINT64_C(0x000ffffffffff000);
    uint64_t table = g->cr3;
    for (int shift = 39;; shift -= 9) {
        const uint64_t *entries = vm_at(g->vm, table & address, KVM_PAGE);
        uint64_t entry = entries ? entries[va >> shift & 511] : 0;
        if (!(entry & PRESENT)) return NULL;
        uint64_t size = UINT64_C(1) << shift;
        if (shift == 12 || (shift == 21 && (entry & LARGE_PAGE))) {
            *left = (size_t)(size - (va & (size - 1)));
            return vm_at(g->vm, (entry & address & ~(size - 1)) + (va & (size - 1)), *left);
        }
        table = entry;
    }
}

static size_t copy_memory(const struct gdb *g, uint64_t va, uint8_t *bytes, size_t size, bool write) {
    size_t done = 0, left;
    while (done < size) {
        uint8_t *at = translate(g, va + done, &left);
        if (!at) break;
        if (left > size - done) left = size - done;
        if (write)
            memcpy(at, bytes + done, left);
        else
            memcpy(bytes + done, at, left);
        done += left;
    }
    return done;
}

/* ---- packets: $data#checksum, acknowledged by + ---- */

static bool send_all(struct gdb *g, const char *p, size_t n) {
    while (n > 0) {
        ssize_t sent = send(g->conn, p, n, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent <= 0) return false;
        p += sent;
        n -= (size_t)sent;
    }
    return true;
}

static bool reply(struct gdb *g, const char *data, size_t n) {
    char *p = malloc(n + 8);
    unsigned sum = 0;
    if (!p) return false;
    for (size_t i = 0; i < n; i++)
        sum += (unsigned char)data[i];
    p[0] = '$';
    memcpy(p + 1, data, n);
    snprintf(p + 1 + n, 4, "#%02x", sum & 0xff);
    bool ok = send_all(g, p, n + 4);
    free(p);
    return ok;
}

static bool say(struct gdb *g, const char *text) {
    return reply(g, text, strlen(text));
}

static int next_byte(struct gdb *g, int end) {
    struct pollfd p[2] = {{.fd = g->conn, .events = POLLIN}, {.fd = end, .events = POLLHUP | POLLRDHUP}};
    unsigned char c;
    while (poll(p, 2, -1) < 0)
        if (errno != EINTR) return -1;
    if (p[1].revents) return -1;
    return recv(g->conn, &c, 1, 0) == 1 ? c : -1;
}

/* The next packet's data, terminated; its length. -1: the debugger has gone, or is none, or the keep is to end.
 */
static ssize_t receive(struct gdb *g, int end, char packet[PACKET + 1]) {
    for (;;) {
        int c, n = 0;
        /* Between packets a debugger says nothing else: this is something that was led here, a browser perhaps. */
        while ((c = next_byte(g, end)) != '$')
            if (c != '+' && c != '-' && c != BREAK) return -1;
        while ((c = next_byte(g, end)) != '#') {
            if (c < 0) return -1;
            if (n < PACKET) packet[n++] = (char)c;
        }
        if (next_byte(g, end) < 0 || next_byte(g, end) < 0) return -1; /* the checksum: this is TCP */
        packet[n] = 0;
        if (g->no_ack || send_all(g, "+", 1)) return n;
    }
}

static void put_hex(char *to, const void *from, size_t n) {
    const uint8_t *p = from;
    for (size_t i = 0; i < n; i++)
        snprintf(to + 2 * i, 3, "%02x", p[i]);
}

static size_t get_hex(uint8_t *to, const char *from, size_t most) {
    size_t n = 0;
    unsigned byte;
    while (n < most && sscanf(from + 2 * n, "%2x", &byte) == 1 && from[2 * n + 1])
        to[n++] = (uint8_t)byte;
    return n;
}

/* ---- registers, in GDB's order for amd64: 17 of 8 bytes, then 7 of 4 ---- */

enum { LONG_REGISTERS = 17, REGISTERS = 24 };
static void *register_of(struct shim_stop *s, unsigned n) {
    struct shim_regs *r = &s->regs;
    uint64_t *const all[REGISTERS] = {&r->rax, &r->rbx, &r->rcx, &r->rdx,    &r->rsi, &r->rdi, &r->rbp,
                                      &r->rsp, &r->r8,  &r->r9,  &r->r10,    &r->r11, &r->r12, &r->r13,
                                      &r->r14, &r->r15, &r->rip, &r->rflags, &r->cs,  &r->ss};
    return n < REGISTERS ? all[n] : NULL;
}

static size_t register_size(unsigned n) {
    return n < LONG_REGISTERS ? 8 : 4;
}

static bool read_registers(struct gdb *g) {
    char text[REGISTERS * 16 + 1], *to = text;
    for (unsigned n = 0; n < REGISTERS; to += 2 * register_size(n++)) {
        const void *r = register_of(&g->stop, n);
        if (r)
            put_hex(to, r, register_size(n));
        else
            memset(to, '0', 2 * register_size(n));
    }
    return reply(g, text, (size_t)(to - text));
}

static bool write_registers(struct gdb *g, const char *hex) {
    size_t length = strlen(hex);
    for (unsigned n = 0; n < REGISTERS && length >= 2 * register_size(n); n++) {
        void *r = register_of(&g->stop, n);
        if (r) get_hex(r, hex, register_size(n));
        hex += 2 * register_size(n);
        length -= 2 * register_size(n);
    }
    return say(g, "OK");
}

static bool one_register(struct gdb *g, const char *text, bool write) {
    char *value, hex[17];
    unsigned n = (unsigned)strtoul(text, &value, 16);
    void *r = register_of(&g->stop, n);
    if (!r && write) return say(g, "OK"); /* GDB clears orig_rax, which is Linux's alone, whenever it moves RIP */
    if (!r) return say(g, n < REGISTERS ? "00000000" : "E01");
    if (write) return get_hex(r, *value == '=' ? value + 1 : value, register_size(n)) ? say(g, "OK") : say(g, "E01");
    put_hex(hex, r, register_size(n));
    return reply(g, hex, 2 * register_size(n));
}

static bool memory(struct gdb *g, const char *text, bool write) {
    char *p, hex[PACKET];
    uint8_t bytes[PACKET / 2];
    uint64_t va = strtoull(text, &p, 16);
    size_t size = *p == ',' ? strtoul(p + 1, &p, 16) : 0;
    if (size > sizeof bytes - 1) size = sizeof bytes - 1;
    if (write && (*p != ':' || get_hex(bytes, p + 1, size) != size)) return say(g, "E01");
    size_t done = copy_memory(g, va, bytes, size, write);
    if (write) return say(g, done == size ? "OK" : "E0e");
    if (done == 0 && size > 0) return say(g, "E0e");
    put_hex(hex, bytes, done);
    return reply(g, hex, 2 * done);
}

/* ---- what it asks ---- */

static bool stopped(struct gdb *g) {
    char text[32];
    snprintf(text, sizeof text, "T%02xthread:1;", g->stop.signal & 0xff);
    return say(g, text);
}

static bool query(struct gdb *g, const char *q) {
    char text[64];
    if (!strncmp(q, "qSupported", 10)) return say(g, "PacketSize=3000;QStartNoAckMode+");
    if (!strcmp(q, "QStartNoAckMode")) {
        bool ok = say(g, "OK");
        g->no_ack = true;
        return ok;
    }
    if (!strcmp(q, "qAttached")) return say(g, "1");
    if (!strcmp(q, "qC")) return say(g, "QC1");
    if (!strcmp(q, "qfThreadInfo")) return say(g, "m1");
    if (!strcmp(q, "qsThreadInfo")) return say(g, "l");
    if (!strcmp(q, "qOffsets")) { /* where the warden, which may be anywhere, is */
        snprintf(text, sizeof text, "TextSeg=%llx", (unsigned long long)g->stop.warden_base);
        return say(g, text);
    }
    return say(g, "");
}

enum next { MORE, GO, KILL, GONE };
static enum next step(struct gdb *g, const char *p) {
    bool ok = true;
    switch (*p) {
    case '?': ok = stopped(g); break;
    case 'g': ok = read_registers(g); break;
    case 'G': ok = write_registers(g, p + 1); break;
    case 'p': ok = one_register(g, p + 1, false); break;
    case 'P': ok = one_register(g, p + 1, true); break;
    case 'm': ok = memory(g, p + 1, false); break;
    case 'M': ok = memory(g, p + 1, true); break;
    case 'H':
    case 'T': ok = say(g, "OK"); break;
    case 'q':
    case 'Q': ok = query(g, p); break;
    case 'k': return KILL;
    case 'D':
        (void)say(g, "OK");
        g->stop.regs.rflags &= ~FLAG_TF;
        return GONE;
    case 'c':
    case 'C':
    case 's':
    case 'S':
        g->stop.regs.rflags &= ~FLAG_TF;
        if (*p == 's' || *p == 'S') g->stop.regs.rflags |= FLAG_TF;
        return GO;
    default: ok = say(g, "");
    }
    return ok ? MORE : GONE;
}

/* ---- connections ---- */

static bool wait_for_debugger(struct gdb *g, int end) {
    struct pollfd p[2] = {{.fd = g->listener, .events = POLLIN}, {.fd = end, .events = POLLHUP | POLLRDHUP}};
    while (poll(p, 2, -1) < 0)
        if (errno != EINTR) return false;
    if (p[1].revents) return false;
    int fd = accept4(g->listener, NULL, NULL, SOCK_CLOEXEC), on = 1;
    if (fd < 0) return false;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    g->conn = fd;
    return true;
}

static void take_stop(struct gdb *g) {
    memcpy(&g->stop, vm_transfer(g->vm), sizeof g->stop);
    vm_shared(g->vm)->attention = 0;
}

bool gdb_serve(struct gdb *g, int end) {
    char packet[PACKET + 1];
    bool first = g->conn < 0, kill = false;
    g->running = false;
    take_stop(g);
    if (g->detached) g->stop.regs.rflags &= ~FLAG_TF;
    if (!g->detached && (!first || wait_for_debugger(g, end))) {
        enum next next = first || stopped(g) ? MORE : GONE;
        while (next == MORE)
            next = receive(g, end, packet) < 0 ? GONE : step(g, packet);
        g->detached = next == GONE;
        kill = next == KILL;
    }
    memcpy(vm_transfer(g->vm), &g->stop, sizeof g->stop);
    g->running = true;
    (void)!write(g->wake[1], "", 1);
    return !kill;
}

/* While the warden runs, a byte from the debugger means: stop it. */
static void *watch(void *arg) {
    struct gdb *g = arg;
    char byte;
    while (read(g->wake[0], &byte, 1) == 1 && byte == 0) {
        while (g->running && !g->detached) {
            struct pollfd p[2] = {{.fd = g->conn, .events = POLLIN}, {.fd = g->wake[0], .events = POLLIN}};
            if (poll(p, 2, -1) < 0 && errno != EINTR) return NULL;
            if (p[1].revents) break;
            if (!p[0].revents || !g->running) continue;
            if (recv(g->conn, &byte, 1, MSG_PEEK | MSG_DONTWAIT) != 1) break;
            if (byte != BREAK) break; /* a packet: for when it has stopped */
            (void)!recv(g->conn, &byte, 1, MSG_DONTWAIT);
            vm_shared(g->vm)->attention = 1;
            g->interrupt(g->ctx);
        }
    }
    return NULL;
}

bool gdb_open(struct gdb *g, unsigned port, struct vm *vm, uint64_t cr3, void (*interrupt)(void *), void *ctx) {
    struct sockaddr_in here = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    *g = (struct gdb){
        .listener = -1, .conn = -1, .wake = {-1, -1}, .vm = vm, .cr3 = cr3, .interrupt = interrupt, .ctx = ctx};
    g->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (g->listener < 0) return false;
    setsockopt(g->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(g->listener, (struct sockaddr *)&here, sizeof here) != 0 || listen(g->listener, 1) != 0) return false;
    if (pipe2(g->wake, O_CLOEXEC) != 0) return false;
    errno = pthread_create(&g->thread, NULL, watch, g);
    return g->watching = errno == 0;
}

void gdb_close(struct gdb *g) {
    if (g->watching) {
        g->running = false;
        (void)!write(g->wake[1], "x", 1);
        pthread_join(g->thread, NULL);
    }
    const int all[] = {g->listener, g->conn, g->wake[0], g->wake[1]};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (all[i] >= 0) close(all[i]);
}
