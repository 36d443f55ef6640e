/* What a tenant sends, as the keep takes it apart: frames in a stream, messages, a delivery. The first byte says into
 * what pieces the stream is cut. What is accepted encodes to the same bytes. */
#include "channel/channel.h"
#include "warden/intake.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ANNOUNCED_MOST = 1 << 20 }; /* what is announced is allocated: not gigabytes here */

static void there_and_back(enum channel_side from, const struct channel_message *m, const uint8_t *payload) {
    static uint8_t frame[CHANNEL_FRAME_MAX];
    size_t n = channel_encode(from, m, frame);
    if (n < CHANNEL_HEAD || memcmp(frame + CHANNEL_HEAD, payload, n - CHANNEL_HEAD) != 0) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct channel_parser p;
    if (size == 0) return 0;
    size_t step = data[0] ? data[0] : SIZE_MAX, at = 1;
    struct intake *in = intake_new();
    if (!in) abort();
    channel_parser_init(&p, CHANNEL_TENANT);
    for (bool started = false; !started;) {
        struct channel_message m;
        enum channel_step s = channel_parser_next(&p, &m);
        if (s == CHANNEL_BROKEN) break;
        if (s == CHANNEL_MESSAGE) {
            there_and_back(CHANNEL_TENANT, &m, p.buffer + CHANNEL_HEAD);
            if (m.size > ANNOUNCED_MOST) break;
            if (intake_take(in, &m, &started) && started) abort();
            continue;
        }
        size_t most;
        uint8_t *room = channel_parser_room(&p, &most);
        if (most > size - at) most = size - at;
        if (most > step) most = step;
        if (most == 0) break;
        memcpy(room, data + at, most);
        channel_parser_add(&p, most);
        at += most;
    }
    intake_free(in);
    return 0;
}
