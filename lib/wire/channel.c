/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/channel.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/canary.h"
#include "base/err.h"

#define DEFAULT_LIMIT ((size_t)4 << 20)

static bool has_room(const struct qn_channel *channel, size_t len) {
    size_t limit = channel->limit_bytes != 0 ? channel->limit_bytes : DEFAULT_LIMIT;
    return len <= limit && channel->queued_bytes <= limit - len;
}

struct qn_channel_item *qn_channel_room(const struct qn_channel *channel, size_t len) {
    if (!has_room(channel, len)) return NULL;
    struct qn_channel_item *item = malloc(sizeof *item + QN_CHANNEL_HEADROOM + len); /* The bytes lie behind it. */
    if (item == NULL) return NULL;
    *item = (struct qn_channel_item){.bytes = (uint8_t *)(item + 1) + QN_CHANNEL_HEADROOM, .len = len, .n_users = 1};
    return item;
}

void qn_channel_fill(struct qn_channel *channel, struct qn_channel_item *item) {
    if (channel->next_seq == 0) channel->next_seq = 1;
    item->seq = channel->next_seq++;
    if (channel->last != NULL)
        channel->last->next = item;
    else
        channel->first = item;
    channel->last = item;
    if (channel->unsent == NULL) channel->unsent = item;
    channel->queued_bytes += item->len;
}

int qn_channel_push(struct qn_channel *channel, const uint8_t *bytes, size_t len) {
    return qn_channel_push_parts(channel, bytes, len, NULL, 0);
}

int qn_channel_push_parts(struct qn_channel *channel, const uint8_t *first, size_t first_len, const uint8_t *second,
                          size_t second_len) {
    if (!has_room(channel, first_len + second_len)) return -QN_EBUSY;
    struct qn_channel_item *item = qn_channel_room(channel, first_len + second_len);
    if (item == NULL) return -QN_ENOMEM;
    if (first_len > 0) memcpy(item->bytes, first, first_len);
    if (second_len > 0) memcpy(item->bytes + first_len, second, second_len);
    qn_channel_fill(channel, item);
    return 0;
}

void qn_channel_keep(struct qn_channel_item *item) { item->n_users++; }

void qn_channel_drop(struct qn_channel_item *item) {
    if (--item->n_users == 0) free(item);
}

struct qn_channel_item *qn_channel_next(struct qn_channel *channel) {
    struct qn_channel_item *item = channel->unsent;
    if (item == NULL) return NULL;
    channel->unsent = item->next;
    if (item->seq > channel->sent) channel->sent = item->seq;
    return item;
}

void qn_channel_rewind(struct qn_channel *channel) { channel->unsent = channel->first; }

static void drop_first(struct qn_channel *channel) {
    struct qn_channel_item *item = channel->first;
    channel->first = item->next;
    if (channel->first == NULL) channel->last = NULL;
    if (channel->unsent == item) channel->unsent = item->next;
    channel->queued_bytes -= item->len;
    qn_channel_drop(item);
}

void qn_channel_on_ack(struct qn_channel *channel, uint64_t ack) {
    if (ack > channel->sent) return; /* Of something that was never on its way. */
    while (channel->first != NULL && channel->first->seq <= ack) drop_first(channel);
}

bool qn_channel_on_seq(struct qn_channel *channel, uint64_t seq) {
    if (QN_CANARY(8) && seq != 0 && seq <= channel->received) return true; /* What came before comes again. */
    if (seq != channel->received + 1 && !(QN_CANARY(9) && seq > channel->received)) return false;
    channel->received = seq;
    return true;
}

bool qn_channel_owes_ack(const struct qn_channel *channel) { return channel->received > channel->acknowledged; }

void qn_channel_check(const struct qn_channel *channel) {
    size_t bytes = 0;
    uint64_t seq = 0;
    for (const struct qn_channel_item *item = channel->first; item != NULL; item = item->next) {
        assert(seq == 0 || item->seq == seq + 1);
        seq = item->seq;
        bytes += item->len;
    }
    assert(channel->first == NULL || seq + 1 == channel->next_seq);
    assert(bytes == channel->queued_bytes);
    assert(bytes <= (channel->limit_bytes != 0 ? channel->limit_bytes : DEFAULT_LIMIT));
    assert(channel->acknowledged <= channel->received);
}

void qn_channel_release(struct qn_channel *channel) {
    while (channel->first != NULL) drop_first(channel);
    *channel = (struct qn_channel){.limit_bytes = channel->limit_bytes};
}
