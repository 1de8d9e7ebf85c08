/* SPDX-License-Identifier: Apache-2.0 */
/* Two ends of a substrate channel and a way between them that loses, repeats, reorders and corrupts numbers, as the
 * input says. Whatever happens, payloads arrive in order, once, and none that was not sent; when the way works again,
 * all do.
 *
 * With -DFUZZ_CANARY a bug is planted, which a short run must find: a gap of two is taken for the next number. */
#ifdef FUZZ_CANARY
#define qn_channel_on_seq right_on_seq
#endif
#include "wire/channel.c"
#ifdef FUZZ_CANARY
#undef qn_channel_on_seq
static bool qn_channel_on_seq(struct qn_channel *channel, uint64_t seq) {
    if (channel->received == 5 && seq == channel->received + 2) {
        channel->received = seq;
        return true;
    }
    return right_on_seq(channel, seq);
}
#endif

#include "fuzz.h"

enum { WAY = 16, PAYLOAD_MAX = 300 };

struct packet {
    uint64_t seq, ack, payload;
};

struct end {
    struct qn_channel channel;
    uint64_t pushed, delivered; /* Payloads are numbers. */
    struct packet way[WAY];     /* Towards this end. */
    size_t n;
};

static void put(struct end *to, struct packet packet) {
    if (to->n < WAY) to->way[to->n++] = packet;
}

static void transmit(struct end *from, struct end *to) {
    const struct qn_channel_item *item = qn_channel_next(&from->channel);
    struct packet packet = {.ack = from->channel.received};
    if (item != NULL) {
        packet.seq = item->seq;
        FUZZ_CHECK(item->len >= sizeof packet.payload);
        memcpy(&packet.payload, item->bytes, sizeof packet.payload);
    }
    from->channel.acknowledged = from->channel.received;
    put(to, packet);
}

static void arrive(struct end *at, size_t which, bool keep) {
    struct packet packet = at->way[which];
    if (!keep) at->way[which] = at->way[--at->n];
    qn_channel_on_ack(&at->channel, packet.ack);
    if (packet.seq == 0 || !qn_channel_on_seq(&at->channel, packet.seq)) return;
    FUZZ_CHECK(packet.payload == at->delivered + 1);
    at->delivered++;
}

static void check(const struct end *end) {
    size_t bytes = 0, n = 0;
    bool unsent = end->channel.unsent == NULL;
    uint64_t seq = 0;
    for (const struct qn_channel_item *item = end->channel.first; item != NULL; item = item->next, n++) {
        FUZZ_CHECK(seq == 0 || item->seq == seq + 1);
        seq = item->seq;
        bytes += item->len;
        unsent = unsent || item == end->channel.unsent;
        FUZZ_CHECK(item->next != NULL || item == end->channel.last);
    }
    FUZZ_CHECK(bytes == end->channel.queued_bytes && unsent);
    FUZZ_CHECK(bytes <= (end->channel.limit_bytes != 0 ? end->channel.limit_bytes : (size_t)4 << 20));
}

static void push(struct end *end, struct fuzz_input *in) {
    uint8_t bytes[PAYLOAD_MAX + 8] = {0};
    uint64_t payload = end->pushed + 1;
    memcpy(bytes, &payload, sizeof payload);
    if (qn_channel_push(&end->channel, bytes, 8 + fuzz_below(in, PAYLOAD_MAX)) == 0) end->pushed++;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_input in = {data, size};
    struct end ends[2] = {0};
    ends[1].channel.limit_bytes = 1024;
    while (!fuzz_done(&in)) {
        uint8_t what = fuzz_byte(&in);
        struct end *here = &ends[what & 1], *there = &ends[1 - (what & 1)];
        switch ((what >> 1) % 8) {
        case 0:
            push(here, &in);
            break;
        case 1:
        case 2:
            transmit(here, there);
            break;
        case 3:
        case 4:
            if (here->n > 0) arrive(here, fuzz_below(&in, here->n), false);
            break;
        case 5: /* Repeated. */
            if (here->n > 0) arrive(here, fuzz_below(&in, here->n), true);
            break;
        case 6:
            if (what & 0x80)
                qn_channel_rewind(&here->channel);
            else
                here->n = 0; /* A break. */
            break;
        default: /* A peer that lies: only acknowledgements of what was never sent can be told from the truth. */
            qn_channel_on_ack(&here->channel, here->channel.sent + 1 + fuzz_bits(&in, 8) % 1000);
        }
        check(here);
    }
    for (int round = 0; round < 4; round++) /* From now on, nothing is lost. */
        for (int side = 0; side < 2; side++) {
            struct end *here = &ends[side], *there = &ends[1 - side];
            there->n = 0;
            qn_channel_rewind(&here->channel);
            do {
                transmit(here, there);
                arrive(there, 0, false);
            } while (here->channel.unsent != NULL);
        }
    for (int side = 0; side < 2; side++) {
        FUZZ_CHECK(ends[1 - side].delivered == ends[side].pushed && ends[side].channel.first == NULL);
        qn_channel_release(&ends[side].channel);
    }
    return 0;
}
