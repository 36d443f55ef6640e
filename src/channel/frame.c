/* The table of messages, and both directions made from it. */
#include "channel.h"
#include <openssl/crypto.h>
#include <string.h>

/* X(type, who sends it, fields), one letter each:
 *   v version   n nonce   o owner   d digest   p purpose   f flags of OPEN   F flags of START   s state   k kind of
 * exit u status    z size of a config   m size of a module   y size of a file   b count of bytes   w credit
 * P lp path   N lp name   V lp value   T lp text   E lp evidence   C lp endorsements   D the rest, not empty   K key
 * M size of a sealed module   Y size of a sealed file   W lp title */
#define MESSAGES(X)                                                                                                    \
    X(HELLO, 't', "vn")                                                                                                \
    X(OPEN, 't', "pfo")                                                                                                \
    X(CONFIG, 't', "z")                                                                                                \
    X(MODULE, 't', "m")                                                                                                \
    X(FILE, 't', "Py")                                                                                                 \
    X(DATA, 't', "D")                                                                                                  \
    X(SECRET, 't', "NV")                                                                                               \
    X(START, 't', "Fd")                                                                                                \
    X(STDIN, 't', "D")                                                                                                 \
    X(STDIN_END, 't', "")                                                                                              \
    X(DETACH, 't', "")                                                                                                 \
    X(STOP, 't', "")                                                                                                   \
    X(KEY, 't', "K")                                                                                                   \
    X(SEALED_MODULE, 't', "M")                                                                                         \
    X(SEALED_FILE, 't', "PWY")                                                                                         \
    X(EVIDENCE, 'k', "ECds")                                                                                           \
    X(OPENED, 'k', "s")                                                                                                \
    X(ACCEPTED, 'k', "d")                                                                                              \
    X(ERROR, 'k', "T")                                                                                                 \
    X(STDOUT, 'k', "D")                                                                                                \
    X(STDERR, 'k', "D")                                                                                                \
    X(LOST, 'k', "b")                                                                                                  \
    X(EXIT, 'k', "kuT")                                                                                                \
    X(CREDIT, 'k', "w")                                                                                                \
    X(STARTED, 'k', "")                                                                                                \
    X(PING, '*', "")

enum { TYPES = 128, CONFIG_MOST = 16 << 20 /* BOOT_MAX_CONFIG */, EXIT_KINDS = 16 };

static const struct shape {
    const char *name, *fields;
    char sender;
} shapes[TYPES] = {
#define X(type, sender, fields) [CHANNEL_##type] = {#type, fields, sender},
    MESSAGES(X)
#undef X
};

const char *channel_type_name(uint8_t type) {
    return type < TYPES && shapes[type].name ? shapes[type].name : "?";
}

const char *channel_state_name(uint8_t state) {
    static const char *const names[CHANNEL_STATES] = {"waiting", "delivering", "running", "exited"};
    return state < CHANNEL_STATES ? names[state] : "?";
}

bool channel_path_ok(const uint8_t *path, size_t size) {
    if (size == 0 || size > CHANNEL_PATH_MAX || memchr(path, 0, size)) return false;
    for (size_t at = 0; at <= size;) {
        const uint8_t *part = path + at, *slash = memchr(part, '/', size - at);
        size_t n = slash ? (size_t)(slash - part) : size - at;
        if (n == 0 || n > CHANNEL_PART_MAX) return false;
        if (part[0] == '.' && (n == 1 || (n == 2 && part[1] == '.'))) return false;
        at += n + 1;
    }
    return true;
}

/* A sealed layer has its nonce and tag besides; an empty module is none. */
static bool sealed_size_ok(uint64_t size, uint64_t least) {
    return size >= SEALED_MORE + least && size <= SEALED_MORE + SEALED_CONTENT_MAX;
}

bool channel_name_ok(const uint8_t *name, size_t size) {
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
    if (size == 0 || size > CHANNEL_NAME_MAX) return false;
    for (size_t i = 0; i < size; i++)
        if (!memchr(allowed, name[i], sizeof allowed - 1)) return false;
    return true;
}

/* What a field may be, whichever way it goes. */
static const char *field_wrong(char field, const struct channel_message *m) {
    switch (field) {
    case 'p': return m->purpose >= 1 && m->purpose < CHANNEL_PURPOSES ? NULL : "unknown purpose";
    case 'f': return (m->flags & ~CHANNEL_OPEN_FLAGS_ALL) == 0 ? NULL : "unknown flags";
    case 'F': return (m->flags & ~CHANNEL_START_FLAGS_ALL) == 0 ? NULL : "unknown flags";
    case 's': return m->state < CHANNEL_STATES ? NULL : "unknown state";
    case 'k': return m->kind >= 1 && m->kind < EXIT_KINDS ? NULL : "unknown kind of exit";
    case 'z': return m->size >= 1 && m->size <= CONFIG_MOST ? NULL : "size of the configuration out of range";
    case 'm': return m->size >= 1 && m->size <= CHANNEL_MODULE_MAX ? NULL : "size of the module out of range";
    case 'w': return m->size >= 1 && m->size <= CHANNEL_CREDIT_MAX ? NULL : "credit out of range";
    case 'y': return m->size <= CHANNEL_FILE_MAX ? NULL : "size of the file out of range";
    case 'M': return sealed_size_ok(m->size, 1) ? NULL : "size of the sealed module out of range";
    case 'Y': return sealed_size_ok(m->size, 0) ? NULL : "size of the sealed file out of range";
    case 'W':
        return m->second.size <= SEALED_TITLE_MAX && channel_path_ok(m->second.data, m->second.size)
                   ? NULL
                   : "not a title that a sealed file may have";
    case 'P': return channel_path_ok(m->first.data, m->first.size) ? NULL : "not a path that a file may have";
    case 'N': return channel_name_ok(m->first.data, m->first.size) ? NULL : "not a name that a secret may have";
    case 'V': return m->second.size <= CHANNEL_SECRET_MAX ? NULL : "secret too long";
    case 'T':
        if (m->first.size > CHANNEL_TEXT_MAX) return "text too long";
        return m->first.size == 0 || !memchr(m->first.data, 0, m->first.size) ? NULL : "text with a zero byte";
    case 'C': return m->first.size + m->second.size <= CHANNEL_EVIDENCE_MAX ? NULL : "evidence too long";
    case 'D': return m->first.size >= 1 && m->first.size <= CHANNEL_PAYLOAD_MAX ? NULL : "no bytes, or too many";
    default: return NULL;
    }
}

/* ---- reading: one cursor, which fails for good at the first byte that is not there ---- */

struct cursor {
    const uint8_t *at;
    size_t left;
    bool failed;
};

static const uint8_t *span(struct cursor *c, size_t n) {
    if (c->failed || n > c->left) {
        c->failed = true;
        return NULL;
    }
    const uint8_t *p = c->at;
    c->at += n;
    c->left -= n;
    return p;
}

static uint64_t number(struct cursor *c, unsigned size) {
    const uint8_t *p = span(c, size);
    uint64_t v = 0;
    for (unsigned i = 0; p && i < size; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

static struct channel_bytes prefixed(struct cursor *c) {
    size_t n = (size_t)number(c, 4);
    const uint8_t *p = span(c, n);
    return p ? (struct channel_bytes){p, n} : (struct channel_bytes){NULL, 0};
}

static void read_field(struct cursor *c, char field, struct channel_message *m) {
    const uint8_t *p;
    switch (field) {
    case 'v': m->version = (uint16_t)number(c, 2); break;
    case 'n':
    case 'o':
    case 'K':
    case 'd':
        if ((p = span(c, sizeof m->fixed))) memcpy(m->fixed, p, sizeof m->fixed);
        break;
    case 'p': m->purpose = (uint8_t)number(c, 1); break;
    case 'f':
    case 'F': m->flags = (uint8_t)number(c, 1); break;
    case 's': m->state = (uint8_t)number(c, 1); break;
    case 'k': m->kind = (uint8_t)number(c, 1); break;
    case 'u': m->status = (uint32_t)number(c, 4); break;
    case 'z':
    case 'm':
    case 'y':
    case 'M':
    case 'Y':
    case 'b':
    case 'w': m->size = number(c, 8); break;
    case 'V':
    case 'W':
    case 'C': m->second = prefixed(c); break;
    case 'D':
        m->first.size = c->left;
        m->first.data = span(c, c->left);
        break;
    default: m->first = prefixed(c); break; /* P N T E */
    }
}

static const char *decode(const struct shape *s, const uint8_t *payload, size_t size, struct channel_message *m) {
    struct cursor c = {payload, size, false};
    for (const char *f = s->fields; *f; f++)
        read_field(&c, *f, m);
    if (c.failed) return "shorter than its fields";
    if (c.left > 0) return "longer than its fields";
    for (const char *f = s->fields; *f; f++) {
        const char *wrong = field_wrong(*f, m);
        if (wrong) return wrong;
    }
    return NULL;
}

const char *channel_decode(enum channel_side from, uint8_t type, const uint8_t *payload, size_t size,
                           struct channel_message *out) {
    memset(out, 0, sizeof *out);
    if (type >= TYPES || !shapes[type].name) return "unknown type of message";
    const struct shape *s = &shapes[type];
    if (s->sender != '*' && (s->sender == 't') != (from == CHANNEL_TENANT)) return "a message of the other side's";
    if (size > CHANNEL_PAYLOAD_MAX) return "too long";
    const char *wrong = decode(s, payload, size, out);
    if (wrong) {
        OPENSSL_cleanse(out, sizeof *out);
        return wrong;
    }
    out->type = (enum channel_type)type;
    return NULL;
}

/* ---- writing ---- */

struct pen {
    uint8_t *out;
    size_t n;
    bool full;
};

static void put(struct pen *w, const void *bytes, size_t n) {
    if (w->full || n > CHANNEL_FRAME_MAX - w->n) {
        w->full = true;
        return;
    }
    if (n) memcpy(w->out + w->n, bytes, n);
    w->n += n;
}

static void put_number(struct pen *w, uint64_t v, unsigned size) {
    uint8_t bytes[8];
    for (unsigned i = 0; i < size; i++)
        bytes[i] = (uint8_t)(v >> (8 * i));
    put(w, bytes, size);
}

static void put_prefixed(struct pen *w, struct channel_bytes b) {
    put_number(w, b.size, 4);
    put(w, b.data, b.size);
}

static void write_field(struct pen *w, char field, const struct channel_message *m) {
    switch (field) {
    case 'v': put_number(w, m->version, 2); break;
    case 'n':
    case 'o':
    case 'K':
    case 'd': put(w, m->fixed, sizeof m->fixed); break;
    case 'p': put_number(w, m->purpose, 1); break;
    case 'f':
    case 'F': put_number(w, m->flags, 1); break;
    case 's': put_number(w, m->state, 1); break;
    case 'k': put_number(w, m->kind, 1); break;
    case 'u': put_number(w, m->status, 4); break;
    case 'z':
    case 'm':
    case 'y':
    case 'M':
    case 'Y':
    case 'b':
    case 'w': put_number(w, m->size, 8); break;
    case 'V':
    case 'W':
    case 'C': put_prefixed(w, m->second); break;
    case 'D': put(w, m->first.data, m->first.size); break;
    default: put_prefixed(w, m->first); break; /* P N T E */
    }
}

size_t channel_encode(enum channel_side from, const struct channel_message *m, uint8_t out[CHANNEL_FRAME_MAX]) {
    if ((unsigned)m->type >= TYPES || !shapes[m->type].name) return 0;
    const struct shape *s = &shapes[m->type];
    if (s->sender != '*' && (s->sender == 't') != (from == CHANNEL_TENANT)) return 0;
    struct pen w = {out, CHANNEL_HEAD, false};
    for (const char *f = s->fields; *f; f++) {
        if (field_wrong(*f, m)) return 0;
        write_field(&w, *f, m);
    }
    if (w.full) return 0;
    size_t n = w.n;
    w.n = 0;
    put_number(&w, n - CHANNEL_HEAD, 4);
    put_number(&w, m->type, 1);
    return n;
}

/* ---- streams ---- */

void channel_parser_init(struct channel_parser *p, enum channel_side from) {
    p->from = from;
    p->have = p->done = 0;
    p->error = NULL;
}

static uint32_t payload_length(const struct channel_parser *p) {
    const uint8_t *b = p->buffer;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

/* Forgets the message given out last. A buffer never holds more than one frame. */
static void forget(struct channel_parser *p) {
    if (p->done == 0) return;
    OPENSSL_cleanse(p->buffer, p->done);
    p->have = p->done = 0;
}

uint8_t *channel_parser_room(struct channel_parser *p, size_t *most) {
    forget(p);
    size_t want = CHANNEL_HEAD;
    if (p->have >= CHANNEL_HEAD) want += payload_length(p);
    *most = p->error || want > CHANNEL_FRAME_MAX || want < p->have ? 0 : want - p->have;
    return p->buffer + p->have;
}

void channel_parser_add(struct channel_parser *p, size_t n) {
    p->have += n;
}

enum channel_step channel_parser_next(struct channel_parser *p, struct channel_message *m) {
    forget(p);
    memset(m, 0, sizeof *m);
    if (p->error) return CHANNEL_BROKEN;
    if (p->have < CHANNEL_HEAD) return CHANNEL_MORE;
    uint32_t length = payload_length(p);
    if (length > CHANNEL_PAYLOAD_MAX) {
        p->error = "frame too long";
        return CHANNEL_BROKEN;
    }
    if (p->have < CHANNEL_HEAD + length) return CHANNEL_MORE;
    p->error = channel_decode(p->from, p->buffer[4], p->buffer + CHANNEL_HEAD, length, m);
    if (p->error) return CHANNEL_BROKEN;
    p->done = p->have;
    return CHANNEL_MESSAGE;
}
