/* The channel: what a tenant and the warden of a keep say to each other, inside TLS 1.3 that ends in the keep.
 * docs/attestation.md has the protocol in words, precisely enough for a tenant of somebody else's making.
 *
 * This page: the messages and their bytes. Both directions come from one table (frame.c); every byte from the other
 * side goes through channel_decode, which accepts a payload completely or not at all.
 *
 *     frame: u32 length of the payload (CHANNEL_PAYLOAD_MAX at most), u8 type, payload
 *     numbers are little-endian; lp: u32 length, bytes
 *
 *     tenant -> keep                                     keep -> tenant
 *     HELLO {u16 version, nonce[32]}                     EVIDENCE {lp evidence, lp endorsements, digest[32], u8 state}
 *     OPEN {u8 purpose, u8 flags, owner[32]}             OPENED {u8 state}, or ERROR and the end
 *     CONFIG {u64 size} DATA...  MODULE {u64 size} DATA...
 *     (FILE {lp path, u64 size} DATA...)...  (SECRET {lp name, lp value})...
 *         of an encrypted package: KEY {key[32]} before SEALED_MODULE {u64 size} DATA..., and SEALED_FILE
 *         {lp path, lp title, u64 size} DATA... among the files
 *     START {u8 flags, digest[32]}                       ACCEPTED {digest[32]}, or ERROR and the end
 *     STDIN {bytes}, STDIN_END, DETACH, STOP, PING       CREDIT {u64 bytes}, STDOUT {bytes}, STDERR {bytes},
 *                                                        LOST {u64 bytes}, STARTED,
 *                                                        EXIT {u8 kind, u32 status, lp text}, PING
 *
 * Input is on credit: of a connection's STDIN the keep takes as many bytes as its CREDITs have allowed, no more, and it
 * allows what it has room for, whatever the program reads. So it takes every message at once, and DETACH, STOP and the
 * like never wait behind input that nobody reads.
 */
#ifndef DONJON_CHANNEL_H
#define DONJON_CHANNEL_H

#include "sealed.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CHANNEL_VERSION = 2, /* 2: CREDIT, STARTED */
    CHANNEL_HEAD = 5,    /* bytes of a frame before its payload */
    CHANNEL_PAYLOAD_MAX = 65536,
    CHANNEL_FRAME_MAX = CHANNEL_HEAD + CHANNEL_PAYLOAD_MAX,
    CHANNEL_NONCE = 32,
    CHANNEL_OWNER = 32,
    CHANNEL_DIGEST = 32,
    CHANNEL_PATH_MAX = 4096,
    CHANNEL_PART_MAX = 255,           /* of a path, between slashes */
    CHANNEL_NAME_MAX = 255,           /* of a secret: CONFIG_NAME_MAX */
    CHANNEL_SECRET_MAX = 60 * 1024,   /* bytes of one secret's value */
    CHANNEL_TEXT_MAX = 60 * 1024,     /* GATE_MAX_REPORT */
    CHANNEL_EVIDENCE_MAX = 60 * 1024, /* evidence and endorsements together */
    CHANNEL_FILES_MAX = 65536,
    CHANNEL_SECRETS_MAX = 256,
};
#define CHANNEL_MODULE_MAX (UINT64_C(1) << 30)       /* BOOT_MAX_MODULE */
#define CHANNEL_FILE_MAX   (UINT64_C(1) << 32)       /* of one file; all together: the configuration's limit */
#define CHANNEL_EXPORTER   "EXPORTER-donjon-channel" /* label of the TLS exporter (RFC 8446, 7.5), no context */
#define CHANNEL_ALPN       "donjon-channel/1"

enum channel_type {
    /* tenant -> keep */
    CHANNEL_HELLO = 1,
    CHANNEL_OPEN,
    CHANNEL_CONFIG,
    CHANNEL_MODULE,
    CHANNEL_FILE,
    CHANNEL_DATA,
    CHANNEL_SECRET,
    CHANNEL_START,
    CHANNEL_STDIN,
    CHANNEL_STDIN_END,
    CHANNEL_DETACH,
    CHANNEL_STOP,
    CHANNEL_KEY,           /* of the package whose sealed layers follow */
    CHANNEL_SEALED_MODULE, /* as MODULE and FILE, but what follows is a package's layer as it is */
    CHANNEL_SEALED_FILE,   /* `title`: what the layer was sealed under, its path in the package */
    /* keep -> tenant */
    CHANNEL_EVIDENCE = 65,
    CHANNEL_OPENED,
    CHANNEL_ACCEPTED,
    CHANNEL_ERROR, /* {lp text}: why; the keep then ends the connection */
    CHANNEL_STDOUT,
    CHANNEL_STDERR,
    CHANNEL_LOST,    /* so many bytes of output were dropped here: the log keeps the last CHANNEL_LOG bytes */
    CHANNEL_EXIT,    /* the program's end. kind: enum gate_exit (gate.h) */
    CHANNEL_CREDIT,  /* so many bytes more of STDIN will be taken, CHANNEL_CREDIT_MAX at most at a time */
    CHANNEL_STARTED, /* to who has detached: sockets are open, the identity is there, the program begins */
    /* both */
    CHANNEL_PING = 127, /* nothing: keeps a connection open, never answered */
};
#define CHANNEL_LOG        (256 * 1024) /* bytes of output that a keep remembers */
#define CHANNEL_CREDIT_MAX (1024 * 1024)

enum channel_side { CHANNEL_TENANT, CHANNEL_KEEP }; /* who has sent a frame */

/* What a connection is for. All but the first DEPLOY of a keep need the owner's secret, which that DEPLOY has set. */
enum channel_purpose {
    CHANNEL_DEPLOY = 1, /* delivers the workload; then attached to it */
    CHANNEL_ATTACH,     /* output from now on (CHANNEL_REPLAY: and what is remembered), input */
    CHANNEL_LOGS,       /* what is remembered, then the end; with CHANNEL_FOLLOW all that comes */
    CHANNEL_IDENTIFY,   /* nothing more: HELLO's answer was what was wanted; the owner's secret is checked */
    CHANNEL_END_KEEP,   /* the program ends now: EXIT, then the end */
    CHANNEL_PURPOSES
};
enum channel_open_flags { CHANNEL_FOLLOW = 1, CHANNEL_REPLAY = 2, CHANNEL_OPEN_FLAGS_ALL = 3 };
enum channel_start_flags {
    CHANNEL_DETACHED = 1, /* the program's input is at its end; after ACCEPTED come STARTED, or EXIT, and the end */
    CHANNEL_START_FLAGS_ALL = 1
};
enum channel_state {
    CHANNEL_WAITING,    /* no workload so far: the digest is zero */
    CHANNEL_DELIVERING, /* another connection is delivering one */
    CHANNEL_RUNNING,
    CHANNEL_EXITED, /* the program has ended, its log is still there */
    CHANNEL_STATES
};

struct channel_bytes {
    const uint8_t *data;
    size_t size;
};

/* One message, decoded or to be encoded. Which members a type has is at the top of this page; the others are zero.
 * Bytes point into what was decoded. */
struct channel_message {
    enum channel_type type;
    uint16_t version;
    uint8_t purpose, flags, state, kind;
    uint32_t status;
    uint64_t size;
    uint8_t fixed[32];           /* nonce, owner, key or digest */
    struct channel_bytes first;  /* evidence, path, name, text, data */
    struct channel_bytes second; /* endorsements, value, title */
};

/* NULL: the payload is a message of this type that `from` may send, and `out` is filled; else what is wrong with it (a
 * static text), and `out` is zero. */
const char *channel_decode(enum channel_side from, uint8_t type, const uint8_t *payload, size_t size,
                           struct channel_message *out);

/* The bytes of a whole frame into `out`; gives their number, or 0 for a message that channel_decode would not take
 * back. */
size_t channel_encode(enum channel_side from, const struct channel_message *m, uint8_t out[CHANNEL_FRAME_MAX]);

const char *channel_type_name(uint8_t type);   /* "HELLO", ...; "?" for others */
const char *channel_state_name(uint8_t state); /* "waiting", "delivering", "running", "exited"; "?" for others */

/* The path of a delivered file: relative, no empty part, no "." or "..", no zero byte, within the limits above. */
bool channel_path_ok(const uint8_t *path, size_t size);
/* A secret's name: A-Z a-z 0-9 _ . - and not empty. */
bool channel_name_ok(const uint8_t *name, size_t size);

/* ---- a stream of frames ---- */

/* Takes a stream apart. Bytes are put at channel_parser_room, then messages taken until there are no more. */
struct channel_parser {
    enum channel_side from;
    size_t have, done; /* bytes in the buffer; of them belonging to the message given out last */
    const char *error; /* set once, for good */
    uint8_t buffer[CHANNEL_FRAME_MAX];
};
enum channel_step {
    CHANNEL_MORE,    /* nothing whole is there: bring more bytes */
    CHANNEL_MESSAGE, /* one is in `m`, until the next call */
    CHANNEL_CLOSED,  /* the other side has said that it is done (not given by the parser) */
    CHANNEL_BROKEN   /* the stream makes no sense; it never will again */
};
void channel_parser_init(struct channel_parser *p, enum channel_side from);
/* Where the next bytes go, and how many at most: never more than the frame that has begun still needs. */
uint8_t *channel_parser_room(struct channel_parser *p, size_t *most);
void channel_parser_add(struct channel_parser *p, size_t n); /* so many were put there */
/* Zeroes the bytes of the message given out before. */
enum channel_step channel_parser_next(struct channel_parser *p, struct channel_message *m);

#endif
