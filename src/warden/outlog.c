#include "outlog.h"
#include <string.h>

static void copy_in(struct outlog *l, const void *bytes, size_t n) {
    size_t at = l->end % OUTLOG_SIZE, first = n < OUTLOG_SIZE - at ? n : OUTLOG_SIZE - at;
    if (n == 0) return;
    memcpy(l->bytes + at, bytes, first);
    memcpy(l->bytes, (const uint8_t *)bytes + first, n - first);
    l->end += n;
}

static void copy_out(const struct outlog *l, uint64_t from, void *bytes, size_t n) {
    size_t at = from % OUTLOG_SIZE, first = n < OUTLOG_SIZE - at ? n : OUTLOG_SIZE - at;
    if (n == 0) return;
    memcpy(bytes, l->bytes + at, first);
    memcpy((uint8_t *)bytes + first, l->bytes, n - first);
}

static size_t record_at(const struct outlog *l, uint64_t at, uint8_t *stream) {
    uint8_t head[OUTLOG_HEAD];
    copy_out(l, at, head, sizeof head);
    *stream = head[0];
    return (size_t)head[1] | (size_t)head[2] << 8;
}

void outlog_write(struct outlog *l, uint8_t stream, const void *bytes, size_t n) {
    const uint8_t head[OUTLOG_HEAD] = {stream, (uint8_t)n, (uint8_t)(n >> 8)};
    while (l->end + sizeof head + n - l->begin > OUTLOG_SIZE) {
        uint8_t old;
        size_t size = record_at(l, l->begin, &old);
        l->begin += sizeof head + size;
        l->dropped += size;
    }
    copy_in(l, head, sizeof head);
    copy_in(l, bytes, n);
}

bool outlog_room(const struct outlog *l, const struct outlog_reader *r, size_t n) {
    return l->end + OUTLOG_HEAD + n - r->at <= OUTLOG_SIZE;
}

static struct outlog_reader oldest(const struct outlog *l) {
    return (struct outlog_reader){l->begin, l->dropped};
}

struct outlog_reader outlog_from_begin(void) {
    return (struct outlog_reader){0, 0};
}

/* Records hold all bytes but the dropped ones and their heads: what matters is the difference, made at `begin`. */
struct outlog_reader outlog_from_end(const struct outlog *l) {
    struct outlog_reader r = oldest(l);
    while (r.at < l->end) {
        uint8_t stream;
        size_t n = record_at(l, r.at, &stream);
        r.at += OUTLOG_HEAD + n;
        r.dropped += n;
    }
    return r;
}

bool outlog_read(const struct outlog *l, struct outlog_reader *r, uint8_t *stream, uint8_t *out, size_t *n,
                 uint64_t *lost) {
    *lost = 0;
    if (r->at < l->begin) {
        *lost = l->dropped - r->dropped;
        *r = oldest(l);
    }
    if (r->at == l->end) return false;
    *n = record_at(l, r->at, stream);
    copy_out(l, r->at + OUTLOG_HEAD, out, *n);
    r->at += OUTLOG_HEAD + *n;
    r->dropped += *n;
    return true;
}
