/* What a deployed program has written: the last CHANNEL_LOG bytes or so, stream by stream as they came. Readers have a
 * position each; what was overwritten before a reader came to it is lost to him, and he is told how much that was. */
#ifndef DONJON_WARDEN_OUTLOG_H
#define DONJON_WARDEN_OUTLOG_H

#include "../channel/channel.h"

enum { OUTLOG_RECORD = 16 * 1024, OUTLOG_HEAD = 3, OUTLOG_SIZE = CHANNEL_LOG + CHANNEL_LOG / 8 };

struct outlog {
    uint64_t begin, end; /* positions: bytes of records since the beginning; begin: of the oldest whole record */
    uint64_t dropped;    /* bytes of output that were overwritten, up to `begin` */
    uint8_t bytes[OUTLOG_SIZE];
};
struct outlog_reader {
    uint64_t at;
    uint64_t dropped; /* up to `at` */
};

void outlog_write(struct outlog *l, uint8_t stream, const void *bytes, size_t n); /* OUTLOG_RECORD at most */
/* Room for one record of `n` bytes without overwriting anything that `r` has not read. */
bool outlog_room(const struct outlog *l, const struct outlog_reader *r, size_t n);

/* A reader at the beginning of all, of which some may be lost; or at the end of what there is. */
struct outlog_reader outlog_from_begin(void);
struct outlog_reader outlog_from_end(const struct outlog *l);
/* The next record into `out` (OUTLOG_RECORD): false when there is none. With *lost > 0 so many bytes are missing before
 * it. */
bool outlog_read(const struct outlog *l, struct outlog_reader *r, uint8_t *stream, uint8_t *out, size_t *n,
                 uint64_t *lost);

#endif
