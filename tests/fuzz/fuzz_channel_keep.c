/* What a keep (or a host in its place) sends: frames in a stream, as a tenant takes them apart; and bytes in place of
 * TLS, at both ends of a link. */
#include "channel/link.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void frames(const uint8_t *data, size_t size) {
    static struct channel_parser p;
    static uint8_t frame[CHANNEL_FRAME_MAX];
    channel_parser_init(&p, CHANNEL_KEEP);
    for (size_t at = 0;;) {
        struct channel_message m;
        enum channel_step s = channel_parser_next(&p, &m);
        if (s == CHANNEL_BROKEN) return;
        if (s == CHANNEL_MESSAGE) {
            size_t n = channel_encode(CHANNEL_KEEP, &m, frame);
            if (n < CHANNEL_HEAD || memcmp(frame, p.buffer, n) != 0) abort();
            continue;
        }
        size_t most;
        uint8_t *room = channel_parser_room(&p, &most);
        if (most > size - at) most = size - at;
        if (most == 0) return;
        memcpy(room, data + at, most);
        channel_parser_add(&p, most);
        at += most;
    }
}

static void instead_of_tls(struct channel_tls *t, const uint8_t *data, size_t size) {
    struct channel_link *l = channel_link_new(t);
    struct channel_message m;
    const uint8_t *out;
    if (!l) abort();
    (void)channel_link_next(l, &m);
    for (size_t half = size / 2, at = 0; at < size; at += half ? half : size) {
        size_t n = size - at < (half ? half : size) ? size - at : half ? half : size;
        if (!channel_link_input(l, data + at, n)) abort();
        if (channel_link_next(l, &m) == CHANNEL_MESSAGE) abort(); /* nobody guesses a handshake */
        channel_link_sent(l, channel_link_output(l, &out));
    }
    channel_link_end(l);
    (void)channel_link_next(l, &m);
    channel_link_free(l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct channel_tls *keep, *tenant;
    if (!keep) keep = channel_tls_keep();
    if (!tenant) tenant = channel_tls_tenant();
    if (!keep || !tenant) abort();
    frames(data, size);
    instead_of_tls(keep, data, size);
    instead_of_tls(tenant, data, size);
    return 0;
}
