/* Modules built by hand: bytes appended to a buffer, sections closed by their size. For tests only: aborts when memory
 * ends. */
#ifndef DONJON_TESTS_BUILDER_H
#define DONJON_TESTS_BUILDER_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct buf {
    uint8_t *data;
    size_t size, room;
};

static inline void put_bytes(struct buf *b, const void *data, size_t n) {
    if (b->size + n > b->room) {
        b->room = 2 * (b->size + n) + 64;
        b->data = realloc(b->data, b->room);
        if (!b->data) abort();
    }
    if (n) memcpy(b->data + b->size, data, n);
    b->size += n;
}
#define PUT(b, ...) put_bytes(b, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static inline void put_byte(struct buf *b, uint8_t byte) {
    put_bytes(b, &byte, 1);
}
static inline void put_repeat(struct buf *b, uint8_t byte, size_t n) {
    while (n--)
        put_byte(b, byte);
}
static inline void put_leb(struct buf *b, uint64_t n) {
    for (; n >= 0x80; n >>= 7)
        put_byte(b, (uint8_t)(n | 0x80));
    put_byte(b, (uint8_t)n);
}
static inline void put_name(struct buf *b, const char *name) {
    put_leb(b, strlen(name));
    put_bytes(b, name, strlen(name));
}
/* `inner` with its size before it; frees `inner`. */
static inline void put_sized(struct buf *b, struct buf *inner) {
    put_leb(b, inner->size);
    put_bytes(b, inner->data, inner->size);
    free(inner->data);
    *inner = (struct buf){NULL, 0, 0};
}
static inline void put_section(struct buf *b, uint8_t id, struct buf *content) {
    put_byte(b, id);
    put_sized(b, content);
}
static inline void put_header(struct buf *b) {
    PUT(b, 0, 'a', 's', 'm', 1, 0, 0, 0);
}

#endif
